//! A stream that a response body borrows from the connection that it is an answer on.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::io::AsyncWrite as _;

use crate::http::direct::Queue;
use crate::http::stream::Stream;

/// A place for one connection's stream. All that meet here are polled by one task.
#[derive(Default)]
pub(super) struct Lending {
    is_wanted: AtomicBool,
    is_lent: AtomicBool,
    has_failed: AtomicBool,
    lent: Mutex<Lent>,
}

/// What is in the place.
#[derive(Default)]
pub(super) struct Lent {
    /// The stream, from when it was lent until it was fetched after it was given back.
    stream: Option<Stream>,
    /// Why a write of the borrower failed, until the lender hears of it.
    failed: Option<io::Error>,
}

// === impl Lending ===

impl Lending {
    /// Returns whether the stream is lent; asks for it otherwise.
    pub(super) fn borrow(&self) -> bool {
        let is_lent = self.is_lent.load(Ordering::Acquire);
        if !is_lent {
            self.is_wanted.store(true, Ordering::Release);
        }
        is_lent
    }

    /// The stream is not wanted any more.
    pub(super) fn give_back(&self) {
        self.is_wanted.store(false, Ordering::Release);
        self.is_lent.store(false, Ordering::Release);
    }

    /// Lends the stream, if it is wanted: call it when nothing waits to be written.
    pub(super) fn lend(&self, stream: &mut Option<Stream>) {
        if self.is_wanted.load(Ordering::Acquire) && stream.is_some() {
            self.is_wanted.store(false, Ordering::Release);
            self.lent().stream = stream.take();
            self.is_lent.store(true, Ordering::Release);
        }
    }

    /// Polls the stream of the lender, whose `own` it is or was; fetches it if it was given back.
    ///
    /// # Errors
    /// Of the poll; or what the borrower met, once.
    pub(super) fn poll_own<T>(
        &self,
        own: &mut Option<Stream>,
        poll: impl FnOnce(Pin<&mut Stream>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if let Some(stream) = own {
            return poll(Pin::new(stream));
        }
        let mut lent = self.lent();
        if let Some(error) = lent.failed.take() {
            return Poll::Ready(Err(error));
        }
        if !self.is_lent.load(Ordering::Acquire) {
            *own = lent.stream.take();
        }
        match own.as_mut().or(lent.stream.as_mut()) {
            Some(stream) => poll(Pin::new(stream)),
            None => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    /// Returns whether the stream is lent and all is well: the borrower flushes what it writes.
    pub(super) fn is_in_use(&self) -> bool {
        self.is_lent.load(Ordering::Acquire) && !self.has_failed.load(Ordering::Acquire)
    }

    /// Fetches the stream for good, wherever it is.
    pub(super) fn fetch(&self, own: &mut Option<Stream>) -> Option<Stream> {
        own.take().or_else(|| self.lent().stream.take())
    }

    /// Writes all of `queue`, for the borrower. When that fails, the lender hears of it.
    pub(super) fn poll_write_out(&self, cx: &mut Context<'_>, queue: &mut Queue) -> Poll<()> {
        let mut lent = self.lent();
        let Lent { stream: Some(stream), failed } = &mut *lent else { return Poll::Pending };
        match ready!(poll_write_all(Pin::new(stream), cx, queue)) {
            Ok(()) => Poll::Ready(()),
            Err(error) => {
                *failed = Some(error);
                self.has_failed.store(true, Ordering::Release);
                // Whoever polls the borrower polls the lender next.
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }

    fn lent(&self) -> MutexGuard<'_, Lent> {
        self.lent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Lending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { is_wanted, is_lent, .. } = self;
        f.debug_struct("Lending")
            .field("is_wanted", is_wanted)
            .field("is_lent", is_lent)
            .finish_non_exhaustive()
    }
}

fn poll_write_all(
    mut stream: Pin<&mut Stream>,
    cx: &mut Context<'_>,
    queue: &mut Queue,
) -> Poll<io::Result<()>> {
    while !queue.bytes().is_empty() {
        match ready!(stream.as_mut().poll_write(cx, queue.bytes()))? {
            0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            written => queue.advance(written),
        }
    }
    ready!(stream.poll_flush(cx))?;
    queue.flushed();
    Poll::Ready(Ok(()))
}
