//! A timer that is late by a tenth of a millisecond, where tokio's is by one: a thread that sleeps to the next due time.
//!
//! Due times are absolute, so that a stream of tokens does not drift.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use tokio::sync::oneshot;

use crate::clock::{Clock, Nanos};

/// Wakes sleepers at their due times. Its thread ends when it is dropped.
#[derive(Debug)]
pub(super) struct Timer {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    clock: Clock,
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    sleepers: BinaryHeap<Reverse<Sleeper>>,
    closed: bool,
}

#[derive(Debug)]
struct Sleeper {
    due: Nanos,
    wake: oneshot::Sender<()>,
}

// === impl Timer ===

impl Timer {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system has no thread left.
    pub(super) fn start(clock: Clock) -> std::io::Result<Self> {
        let shared = Arc::new(Shared { clock, queue: Mutex::default(), changed: Condvar::new() });
        let worker = Arc::clone(&shared);
        let thread = thread::Builder::new().name("simulate-timer".to_owned());
        // Not joined: it ends by itself soon after the drop, and holds nothing that anybody waits for.
        let _handle = thread.spawn(move || worker.run())?;
        Ok(Self { shared })
    }

    /// Waits until `due`; not at all when that is past.
    pub(super) async fn sleep_until(&self, due: Nanos) {
        if due <= self.shared.clock.now() {
            return;
        }
        let (wake, woken) = oneshot::channel();
        let is_next = {
            let mut queue = self.shared.lock();
            let is_next = queue.sleepers.peek().is_none_or(|Reverse(next)| due < next.due);
            queue.sleepers.push(Reverse(Sleeper { due, wake }));
            is_next
        };
        if is_next {
            self.shared.changed.notify_one();
        }
        // The thread drops sleepers only after waking them, or when the timer itself is gone.
        let _woken = woken.await;
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.changed.notify_one();
    }
}

// === impl Shared ===

impl Shared {
    fn run(&self) {
        let mut queue = self.lock();
        while !queue.closed {
            let now = self.clock.now();
            let next = queue.sleepers.peek().map(|Reverse(next)| next.due);
            queue = match next {
                Some(due) if due <= now => {
                    if let Some(Reverse(sleeper)) = queue.sleepers.pop() {
                        // It may have gone away meanwhile.
                        let _gone = sleeper.wake.send(());
                    }
                    queue
                }
                Some(due) => {
                    let wait = self.changed.wait_timeout(queue, due - now);
                    wait.unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Sleeper ===

impl PartialEq for Sleeper {
    fn eq(&self, other: &Self) -> bool {
        self.due == other.due
    }
}

impl Eq for Sleeper {}

impl PartialOrd for Sleeper {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Sleeper {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.due.cmp(&other.due)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn sleepers_wake_in_order_and_never_early() {
        let clock = Clock::start();
        let timer = Timer::start(clock).unwrap();
        let start = clock.now();
        let sleep = |millis: u64| {
            let due = start + Duration::from_millis(millis);
            let timer = &timer;
            async move {
                timer.sleep_until(due).await;
                assert!(clock.now() >= due);
                clock.now()
            }
        };
        let (late, early, past) = tokio::join!(sleep(20), sleep(5), sleep(0));
        assert!(past <= early && early <= late);
        assert!(late - start < Duration::from_secs(10));
    }

    #[tokio::test]
    async fn a_sleeper_that_leaves_is_no_harm() {
        let clock = Clock::start();
        let timer = Timer::start(clock).unwrap();
        let due = loop {
            let due = clock.now() + Duration::from_millis(2);
            drop(Box::pin(timer.sleep_until(due)));
            // On a busy machine it may be due by now: then it does not fall asleep.
            if Box::pin(timer.sleep_until(due)).now_or_never().is_none() {
                break due;
            }
        };
        timer.sleep_until(due + Duration::from_millis(1)).await;
        assert!(timer.shared.lock().sleepers.is_empty(), "who left was passed over");
    }
}
