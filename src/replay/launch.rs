//! A call that is ready: it is begun by the thread that releases it.
//!
//! To wake a task on another thread takes until that thread runs: 20 to 50 us when it sleeps, longer when it is reading the
//! responses of others. So the releasing thread takes the call's first step itself. On an open connection this writes the
//! request to the socket, and only then is the call handed to the runtime that reads its response. A request that the socket
//! may not take at once is left to the runtime whole: the releasing thread has others to release.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use tokio::runtime::Handle;

use crate::replay::plan::Release;

/// A call that is ready. Dropped, it is not made.
pub struct Launch(Box<dyn FnOnce(Release) + Send>);

/// A request of up to so many body bytes goes into the buffer of an idle socket.
const SMALL: u64 = 64 << 10;

// === impl Launch ===

impl Launch {
    /// Makes the launch of a call on the runtime `calls`. It sends `bytes` of body, and is told what it was released as.
    pub fn new<F>(
        calls: Handle,
        bytes: u64,
        begin: impl FnOnce(Release) -> F + Send + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self(Box::new(move |release| {
            let mut call = Box::pin(begin(release));
            if bytes > SMALL || step(&calls, call.as_mut()) {
                calls.spawn(call);
            }
        }))
    }

    /// Makes a launch that tells of itself.
    #[cfg(test)]
    pub(super) fn telling(tell: tokio::sync::oneshot::Sender<Release>) -> Self {
        Self(Box::new(|release| {
            let _gone = tell.send(release);
        }))
    }

    /// Begins the call; returns when its request is in the socket, or somebody else sees to that.
    pub fn go(self, release: Release) {
        (self.0)(release);
    }
}

impl fmt::Debug for Launch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Launch").finish_non_exhaustive()
    }
}

/// Takes the first step of a call; returns whether there are more to take.
fn step(calls: &Handle, call: Pin<&mut impl Future<Output = ()>>) -> bool {
    // For its timers and sockets.
    let _inside = calls.enter();
    // Whatever it waits for it is asked again, with a waker that does something, as soon as the runtime has it.
    let mut quiet = Context::from_waker(Waker::noop());
    // A call that panics is one call, here as there.
    let step = catch_unwind(AssertUnwindSafe(|| call.poll(&mut quiet)));
    matches!(step, Ok(Poll::Pending))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use super::*;
    use crate::clock::Nanos;

    fn release() -> Release {
        Release { number: 7, due: Nanos(5), ..Release::default() }
    }

    /// Launches a call that waits once, and returns on which threads it ran.
    fn threads(bytes: u64) -> Vec<String> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("calls")
            .enable_all()
            .build()
            .unwrap();
        let (told, tells) = channel();
        let launch = Launch::new(runtime.handle().clone(), bytes, move |release| async move {
            assert_eq!(release, self::release());
            let here = || std::thread::current().name().unwrap_or_default().to_owned();
            told.send(here()).unwrap();
            tokio::time::sleep(Duration::from_millis(1)).await;
            told.send(here()).unwrap();
        });
        let releasing = std::thread::Builder::new().name("pacer".to_owned());
        releasing.spawn(move || launch.go(release())).unwrap().join().unwrap();
        tells.iter().collect()
    }

    #[test]
    fn the_first_step_of_a_small_request_is_taken_by_who_releases_it() {
        assert_eq!(threads(SMALL), ["pacer", "calls"]);
        assert_eq!(threads(SMALL + 1), ["calls", "calls"]);
    }

    #[test]
    fn a_call_that_panics_takes_nobody_with_it() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let launch = Launch::new(runtime.handle().clone(), 0, |_| async { panic!("one call") });
        launch.go(release());
    }

    #[test]
    fn a_launch_that_is_dropped_makes_no_call() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let launch =
            Launch::new(runtime.handle().clone(), 0, |_| async { unreachable!("it was dropped") });
        drop(launch);
        runtime.block_on(tokio::task::yield_now());
    }
}
