//! Wake-ups that a task would give itself for nothing.
//!
//! A body of hyper's wakes whoever fills it when a frame was taken. Where a connection, the exchange on it and the connection
//! to the upstream are one task, that is the task which is just running: it would be polled once more for each frame that it
//! has passed on, and find nothing to do. So a task's wake-ups go through a `Relay`, and a poll that is known to be followed
//! by another is made within a `hold`.

use std::cell::Cell;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

/// A task's waker, and the one that stands before it.
#[derive(Debug, Default)]
pub(super) struct Relay(Option<(Arc<Relayed>, Waker)>);

/// The wake-up that a poll brought; dropped, it is left out.
#[derive(Debug)]
#[must_use = "a wake-up that somebody waits for has to be passed on"]
pub(super) struct Held(Option<Arc<Relayed>>);

pin_project! {
    /// The body of a request over HTTP/1.1, whose last frame wakes nobody: all of it was read when that was handed over.
    pub struct QuietBody<B> {
        #[pin]
        inner: B,
        is_h1: bool,
    }
}

/// Passes wake-ups on to a task.
#[derive(Debug)]
struct Relayed {
    task: Waker,
}

/// Ends a [`hold`].
struct Holding;

thread_local! {
    /// Whether this thread is within a [`hold`].
    static IS_HOLDING: Cell<bool> = const { Cell::new(false) };
    static HELD: Cell<Option<Arc<Relayed>>> = const { Cell::new(None) };
}

/// Polls something, and holds the wake-ups back that pass a [`Relay`] on this thread meanwhile.
pub(super) fn hold<T>(poll: impl FnOnce() -> T) -> (T, Held) {
    IS_HOLDING.set(true);
    let holding = Holding;
    let polled = poll();
    let held = Held(HELD.take());
    drop(holding);
    (polled, held)
}

// === impl Relay ===

impl Relay {
    /// Returns the waker that stands before a task's.
    pub(super) fn before(&mut self, task: &Waker) -> &Waker {
        if self.0.as_ref().is_some_and(|(relayed, _)| !relayed.task.will_wake(task)) {
            self.0 = None;
        }
        let (_, waker) = self.0.get_or_insert_with(|| {
            let relayed = Arc::new(Relayed { task: task.clone() });
            (Arc::clone(&relayed), Waker::from(relayed))
        });
        waker
    }
}

// === impl Relayed ===

impl Wake for Relayed {
    fn wake(self: Arc<Self>) {
        if !IS_HOLDING.get() {
            return self.task.wake_by_ref();
        }
        // One is enough: what is polled within a hold fills from one place.
        if let Some(other) = HELD.take().filter(|other| !Arc::ptr_eq(other, &self)) {
            other.task.wake_by_ref();
        }
        HELD.set(Some(self));
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if IS_HOLDING.get() {
            Arc::clone(self).wake();
        } else {
            self.task.wake_by_ref();
        }
    }
}

// === impl Held ===

impl Held {
    /// Wakes who was to be woken.
    pub(super) fn pass_on(self) {
        if let Some(relayed) = self.0 {
            relayed.task.wake_by_ref();
        }
    }
}

// === impl Holding ===

impl Drop for Holding {
    fn drop(&mut self) {
        IS_HOLDING.set(false);
        // The poll has panicked.
        Held(HELD.take()).pass_on();
    }
}

// === impl QuietBody ===

impl<B> QuietBody<B> {
    /// Wraps a body; one that came over HTTP/2 stays as it is, for there the connection has to hear of what was taken.
    pub fn new(inner: B, is_h2: bool) -> Self {
        Self { inner, is_h1: !is_h2 }
    }
}

impl<B: Body<Data = Bytes>> Body for QuietBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let mut this = self.project();
        if !*this.is_h1 {
            return this.inner.poll_frame(cx);
        }
        let (polled, held) = hold(|| this.inner.as_mut().poll_frame(cx));
        if !this.inner.is_end_stream() {
            held.pass_on();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Returns a relayed waker, and how often its task was woken.
    fn counted() -> (Waker, impl Fn() -> usize) {
        let count = Arc::new(Count::default());
        let waker = Relay::default().before(&Waker::from(Arc::clone(&count))).clone();
        (waker, move || count.0.load(Ordering::Relaxed))
    }

    #[test]
    fn a_wake_up_of_this_thread_is_held_and_no_other() {
        let (waker, wakes) = counted();
        waker.wake_by_ref();
        assert_eq!(wakes(), 1);
        let elsewhere = waker.clone();
        let ((), held) = hold(|| {
            std::thread::spawn(move || elsewhere.wake()).join().unwrap();
            assert_eq!(wakes(), 2);
            waker.wake_by_ref();
            waker.wake_by_ref();
        });
        assert_eq!(wakes(), 2);
        held.pass_on();
        assert_eq!(wakes(), 3);
        let ((), held) = hold(|| waker.wake_by_ref());
        drop(held);
        assert_eq!(wakes(), 3, "left out");
        let ((), held) = hold(|| {});
        held.pass_on();
        waker.wake_by_ref();
        assert_eq!(wakes(), 4, "a wake-up after a hold");
    }

    #[test]
    fn of_two_tasks_one_is_woken_at_once() {
        let (first, first_wakes) = counted();
        let (second, second_wakes) = counted();
        let ((), held) = hold(|| {
            first.wake_by_ref();
            second.wake_by_ref();
        });
        assert_eq!((first_wakes(), second_wakes()), (1, 0));
        held.pass_on();
        assert_eq!((first_wakes(), second_wakes()), (1, 1));
    }

    #[test]
    fn a_poll_that_panics_loses_no_wake_up() {
        let (waker, wakes) = counted();
        let polled = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let ((), held) = hold(|| {
                waker.wake_by_ref();
                panic!("of the test");
            });
            held.pass_on();
        }));
        assert!(polled.is_err());
        assert_eq!(wakes(), 1);
        waker.wake_by_ref();
        assert_eq!(wakes(), 2);
    }

    #[test]
    fn a_relay_stands_before_the_task_that_polls_now() {
        let tasks = [Arc::new(Count::default()), Arc::new(Count::default())];
        let mut relay = Relay::default();
        for (number, task) in tasks.iter().enumerate() {
            let of_task = Waker::from(Arc::clone(task));
            let waker = relay.before(&of_task).clone();
            assert!(relay.before(&of_task).will_wake(&waker), "the same for the same task");
            waker.wake();
            assert_eq!(tasks.each_ref().map(|it| it.0.load(Ordering::Relaxed)), [1, number]);
        }
    }

    /// Takes one frame of a body whose sender that wakes; returns how often it was woken.
    fn wakes_of(body: &'static str, known_length: bool, is_h2: bool) -> usize {
        let (waker, wakes) = counted();
        let frames = futures_util::stream::iter([Ok::<_, std::io::Error>(Frame::data(
            Bytes::from_static(body.as_bytes()),
        ))]);
        let woken = waker.clone();
        let frames = futures_util::StreamExt::inspect(frames, move |_| woken.wake_by_ref());
        let streamed = http_body_util::StreamBody::new(frames);
        let body: Pin<Box<dyn Body<Data = Bytes, Error = std::io::Error>>> = if known_length {
            Box::pin(Limited { inner: streamed, left: 1 })
        } else {
            Box::pin(streamed)
        };
        let mut quiet = Box::pin(QuietBody::new(body, is_h2));
        assert!(quiet.as_mut().poll_frame(&mut Context::from_waker(Waker::noop())).is_ready());
        wakes()
    }

    /// A body that knows how many frames it has.
    struct Limited<B> {
        inner: B,
        left: usize,
    }

    impl<B: Body + Unpin> Body for Limited<B> {
        type Data = B::Data;
        type Error = B::Error;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
            self.left -= 1;
            Pin::new(&mut self.inner).poll_frame(cx)
        }

        fn is_end_stream(&self) -> bool {
            self.left == 0
        }
    }

    #[test]
    fn the_last_frame_of_a_request_wakes_nobody() {
        assert_eq!(wakes_of("all of it", true, false), 0);
        assert_eq!(wakes_of("a chunk of it", false, false), 1);
        assert_eq!(wakes_of("a frame", true, true), 1);
    }
}
