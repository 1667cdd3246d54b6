//! Clients that are connected and take nothing of what is written to them.
//!
//! Two ways not to read: the kernel takes no more bytes (both versions; `WritePatience`, armed while a write waits), or
//! an HTTP/2 client gives a stream no window (`Guard`, armed while a response body that has been handed over is not
//! asked for more). Either ends after a while, and the exchange can tell that this is why ([`Stall`]).

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use pin_project_lite::pin_project;
use tokio::sync::Notify;
use tokio::time::Sleep;

/// Whether a client has been given up since it took nothing: of a connection, or of one HTTP/2 stream on it.
#[derive(Debug, Default)]
pub struct Stall {
    is_over: AtomicBool,
    /// Times that something was handed over, and whether more has been asked for since: odd while it has not.
    turn: AtomicU64,
    /// The connection, of a stream.
    connection: Option<Arc<Self>>,
}

/// How long a connection's writes may wait.
pub(super) struct WritePatience {
    limit: Duration,
    stall: Arc<Stall>,
    /// Runs while a write waits.
    waiting: Option<Pin<Box<Sleep>>>,
}

/// How many streams a connection carries, and how many it has carried.
#[derive(Debug, Default)]
pub(super) struct Streams {
    open: AtomicUsize,
    begun: AtomicU64,
    /// Streams of late that their client gave up before a response head was there.
    abandoned: AtomicUsize,
    /// Told when there are too many.
    too_many: Notify,
}

/// Most streams that a client may give up within [`WINDOW`] before their response: nobody changes their mind so often,
/// and each costs a connection to an upstream.
const MAX_ABANDONED: usize = 300;
/// See [`MAX_ABANDONED`].
const WINDOW: Duration = Duration::from_secs(1);

pin_project! {
    /// An HTTP/2 stream being served: over, and so reset, when its client takes nothing for too long.
    pub(super) struct Guard<F> {
        #[pin]
        inner: F,
        limit: Duration,
        stall: Option<Arc<Stall>>,
        // Runs while the client takes nothing; with the turn in which it began.
        waiting: Option<(u64, Pin<Box<Sleep>>)>,
        counted: Counted,
    }
}

/// A stream that is counted until it is dropped.
struct Counted {
    streams: Arc<Streams>,
    stall: Option<Arc<Stall>>,
}

// === impl Stall ===

impl Stall {
    /// Makes the one of a stream.
    pub(super) fn of_stream(connection: &Arc<Self>) -> Arc<Self> {
        Arc::new(Self { connection: Some(Arc::clone(connection)), ..Self::default() })
    }

    /// Returns whether the client has been given up.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Acquire)
            || self.connection.as_ref().is_some_and(|connection| connection.is_over())
    }

    /// Something was handed over to an HTTP/2 stream.
    pub fn handed(&self) {
        let turn = self.turn.load(Ordering::Relaxed);
        self.turn.store((turn + 1) | 1, Ordering::Relaxed);
    }

    /// More was asked for.
    pub fn asked(&self) {
        let turn = self.turn.load(Ordering::Relaxed);
        self.turn.store((turn + 1) & !1, Ordering::Relaxed);
    }

    /// Returns the turn, if the stream is waiting for its client.
    fn turn(&self) -> Option<u64> {
        Some(self.turn.load(Ordering::Relaxed)).filter(|turn| turn % 2 == 1)
    }

    /// Returns whether nothing was ever handed over.
    fn is_untouched(&self) -> bool {
        self.turn.load(Ordering::Relaxed) == 0
    }

    fn give_up(&self) {
        self.is_over.store(true, Ordering::Release);
    }
}

// === impl WritePatience ===

impl WritePatience {
    pub(super) fn new(limit: Duration, stall: Arc<Stall>) -> Self {
        Self { limit, stall, waiting: None }
    }

    /// Passes on what a write came to, but ends one that has waited too long.
    pub(super) fn watch<T>(
        &mut self,
        cx: &mut Context<'_>,
        polled: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.waiting = None;
            return polled;
        }
        let limit = self.limit;
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        ready!(waiting.as_mut().poll(cx));
        self.stall.give_up();
        let text = format!("the peer took nothing for {} ms", limit.as_millis());
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, text)))
    }
}

// === impl Streams ===

impl Streams {
    /// Waits until there was no stream for `time`, or a little longer.
    pub(super) async fn idle(&self, time: Duration) {
        loop {
            let begun = self.begun.load(Ordering::Relaxed);
            tokio::time::sleep(time).await;
            if self.open.load(Ordering::Relaxed) == 0 && self.begun.load(Ordering::Relaxed) == begun
            {
                return;
            }
        }
    }

    /// Waits until too many streams have been given up in a short time.
    pub(super) async fn flooded(&self) {
        loop {
            match tokio::time::timeout(WINDOW, self.too_many.notified()).await {
                Ok(()) => return,
                Err(_elapsed) => self.abandoned.store(0, Ordering::Relaxed),
            }
        }
    }

    fn abandon(&self) {
        if self.abandoned.fetch_add(1, Ordering::Relaxed) + 1 > MAX_ABANDONED {
            self.too_many.notify_one();
        }
    }
}

// === impl Guard ===

impl<F: Future> Guard<F> {
    pub(super) fn new(
        inner: F,
        limit: Duration,
        stall: Option<Arc<Stall>>,
        streams: Arc<Streams>,
    ) -> Self {
        streams.open.fetch_add(1, Ordering::Relaxed);
        streams.begun.fetch_add(1, Ordering::Relaxed);
        let counted = Counted { streams, stall: stall.clone() };
        Self { inner, limit, stall, waiting: None, counted }
    }
}

impl<F: Future> Future for Guard<F> {
    /// None when the client was given up.
    type Output = Option<F::Output>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<F::Output>> {
        let this = self.project();
        if let Poll::Ready(output) = this.inner.poll(cx) {
            return Poll::Ready(Some(output));
        }
        let Some((stall, turn)) =
            this.stall.as_ref().and_then(|stall| Some((stall, stall.turn()?)))
        else {
            *this.waiting = None;
            return Poll::Pending;
        };
        let limit = *this.limit;
        let begun = this.waiting.take().filter(|(since, _)| *since == turn);
        let begun = begun.unwrap_or_else(|| (turn, Box::pin(tokio::time::sleep(limit))));
        ready!(this.waiting.insert(begun).1.as_mut().poll(cx));
        stall.give_up();
        Poll::Ready(None)
    }
}

// === impl Counted ===

impl Drop for Counted {
    fn drop(&mut self) {
        self.streams.open.fetch_sub(1, Ordering::Relaxed);
        if self.stall.as_ref().is_some_and(|stall| stall.is_untouched()) {
            self.streams.abandon();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use crate::clock::{Clock, Nanos};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(5);

    #[tokio::test(start_paused = true)]
    async fn a_write_that_waits_too_long_fails_and_progress_begins_anew() {
        let clock = Clock::start();
        let stall = Arc::new(Stall::default());
        let mut patience = WritePatience::new(LIMIT, Arc::clone(&stall));
        tokio::time::timeout(
            LIMIT - Duration::from_millis(1),
            std::future::poll_fn(|cx| patience.watch::<()>(cx, Poll::Pending)),
        )
        .await
        .unwrap_err();
        let progress = std::future::poll_fn(|cx| patience.watch(cx, Poll::Ready(Ok(1)))).await;
        assert_eq!(progress.unwrap(), 1);
        let begun = clock.now();
        let failed = std::future::poll_fn(|cx| patience.watch::<()>(cx, Poll::Pending)).await;
        assert_eq!(failed.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(clock.now() - begun, LIMIT);
        assert!(stall.is_over());
        assert!(Stall::of_stream(&stall).is_over(), "with the connection goes the stream");
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_is_given_up_only_while_it_waits_for_its_client() {
        let clock = Clock::start();
        let streams = Arc::new(Streams::default());
        let stall = Stall::of_stream(&Arc::default());
        let guard = |stall: &Arc<Stall>| {
            Guard::new(pending::<()>(), LIMIT, Some(Arc::clone(stall)), Arc::clone(&streams))
        };
        // Asked for and nothing there: that is the upstream's slowness.
        tokio::time::timeout(LIMIT * 3, guard(&stall)).await.unwrap_err();
        stall.handed();
        let begun = clock.now();
        assert!(guard(&stall).await.is_none());
        assert_eq!(clock.now() - begun, LIMIT);
        assert!(stall.is_over());
        let stall = Stall::of_stream(&Arc::default());
        stall.handed();
        stall.asked();
        tokio::time::timeout(LIMIT * 3, guard(&stall)).await.unwrap_err();
        assert!(!stall.is_over());
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_is_many_given_up_at_once_and_not_many_in_all() {
        let streams = Arc::new(Streams::default());
        let give_up = |count: usize| {
            for _ in 0..count {
                drop(Guard::new(
                    pending::<()>(),
                    LIMIT,
                    Some(Arc::default()),
                    Arc::clone(&streams),
                ));
            }
        };
        for _ in 0..3 {
            give_up(MAX_ABANDONED);
            tokio::time::timeout(WINDOW * 2, streams.flooded()).await.unwrap_err();
        }
        // With a response they count for nothing.
        for _ in 0..=MAX_ABANDONED {
            let stall = Arc::new(Stall::default());
            stall.handed();
            drop(Guard::new(pending::<()>(), LIMIT, Some(stall), Arc::clone(&streams)));
        }
        tokio::time::timeout(WINDOW * 2, streams.flooded()).await.unwrap_err();
        give_up(MAX_ABANDONED + 1);
        tokio::time::timeout(WINDOW * 2, streams.flooded()).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_idle_when_it_carries_no_stream() {
        let clock = Clock::start();
        let streams = Arc::new(Streams::default());
        let guard = Guard::new(pending::<()>(), LIMIT, None, Arc::clone(&streams));
        tokio::time::timeout(LIMIT * 10, streams.idle(LIMIT)).await.unwrap_err();
        drop(guard);
        let begun = clock.now();
        streams.idle(LIMIT).await;
        assert!(clock.now() - begun <= LIMIT * 2);
        assert!(clock.now() > Nanos::ZERO);
    }
}
