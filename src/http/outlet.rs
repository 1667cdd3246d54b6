//! What a handler can do with a client's connection beside answering: send interim responses, wait until what it answered
//! so far has left, end the connection with a reset; and what it can learn of it: what is wrong with a request that
//! hyper took, and whether the client was given up.
//!
//! hyper's server sends `100 Continue` by itself and no other interim response. `OutletIo` lies below hyper on the
//! connection and puts heads in between: when the handler of an exchange runs, the response before has been written out
//! in full, and its own has not begun, so that the place is always the right one.
//!
//! The body of a response can borrow the stream and write for itself (`DirectBody`, `lending`).
//!
//! hyper drops what it has buffered when a body fails. Who wants the client to get it first waits for a flush: hyper
//! flushes its connection only when its own buffer is empty.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::{Buf, BufMut, BytesMut};
use futures_util::task::AtomicWaker;
use http::{HeaderMap, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use crate::http::direct::Queue;
use crate::http::heads::{Flaw, Heads};
use crate::http::lending::Lending;
use crate::http::limits::Limits;
use crate::http::stall::Stall;
use crate::http::stream::Stream;

/// The way out to one client.
#[derive(Clone, Debug, Default)]
pub struct Outlet(Arc<State>);

#[derive(Debug, Default)]
struct State {
    /// Whether `heads` holds anything: all that a write without interim responses looks at.
    filled: AtomicBool,
    heads: Mutex<BytesMut>,
    /// Times that everything written had left.
    flushes: AtomicU64,
    /// Who waits for that, if anybody does.
    waiting: AtomicWaker,
    is_waited_for: AtomicBool,
    lending: Lending,
    /// Whether the connection ends with a reset.
    broken: AtomicBool,
    /// Requests that were handed to the handler, over HTTP/1.1.
    served: AtomicU64,
    /// Number of the first request that is not to be served; 0 while there is none.
    flawed: AtomicU64,
    flaw: OnceLock<Flaw>,
    /// Whether what the client says is no HTTP any more.
    is_tunnel: AtomicBool,
    stall: Arc<Stall>,
    /// The stall of the HTTP/2 stream that is about to be served.
    next_stream: Mutex<Option<Arc<Stall>>>,
}

/// An HTTP/1.1 connection that writes queued interim responses before anything else, and follows what is read.
pub(super) struct OutletIo {
    /// None while the body of a response has it.
    stream: Option<Stream>,
    is_write_vectored: bool,
    outlet: Outlet,
    heads: Heads,
    limits: Limits,
    /// Runs while the first byte, or the rest of a head, is waited for; with the number of the head.
    waiting: Option<(u64, Pin<Box<Sleep>>)>,
}

/// Longest head that is followed: longer than what hyper waits for.
const MAX_FOLLOWED: usize = 512 << 10;
/// Most bytes of interim responses that wait for a client; more are left out.
const MAX_INTERIMS: usize = 64 << 10;

// === impl Outlet ===

impl Outlet {
    /// Queues an interim response. Call it while the exchange waits for its final response, from the task of the
    /// connection: it leaves when that task next writes or flushes. Has no effect over HTTP/2.
    pub fn send_interim(&self, status: StatusCode, headers: &HeaderMap) {
        let mut heads = self.heads();
        if heads.len() > MAX_INTERIMS {
            return;
        }
        heads.put_slice(format!("HTTP/1.1 {status}\r\n").as_bytes());
        for (name, value) in headers {
            heads.put_slice(name.as_str().as_bytes());
            heads.put_slice(b": ");
            heads.put_slice(value.as_bytes());
            heads.put_slice(b"\r\n");
        }
        heads.put_slice(b"\r\n");
        self.0.filled.store(true, Ordering::Release);
    }

    /// Returns how often everything written had left.
    #[must_use]
    pub fn flushes(&self) -> u64 {
        self.0.flushes.load(Ordering::Acquire)
    }

    /// Waits until everything written has left once more than `before` times.
    pub fn poll_flushed(&self, cx: &mut Context<'_>, before: u64) -> Poll<()> {
        self.0.waiting.register(cx.waker());
        self.0.is_waited_for.store(true, Ordering::Release);
        if self.flushes() > before { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Makes the connection's end a reset, whatever has not left by then being lost. Call it before a response body that
    /// ends with an error; over HTTP/2 such a body resets its stream by itself.
    pub fn break_off(&self) {
        self.0.broken.store(true, Ordering::Release);
    }

    /// Counts a request that hyper has handed over; returns what is wrong with it. Call it once for each, over HTTP/1.1.
    #[must_use]
    pub fn next_request(&self) -> Option<Flaw> {
        let number = self.0.served.fetch_add(1, Ordering::Relaxed) + 1;
        match self.0.flawed.load(Ordering::Relaxed) {
            0 => None,
            flawed if number < flawed => None,
            _ => self.0.flaw.get().copied(),
        }
    }

    /// Says that the connection changes to another protocol.
    pub fn open_tunnel(&self) {
        self.0.is_tunnel.store(true, Ordering::Relaxed);
    }

    /// Returns whether the client of an exchange was given up: of the connection over HTTP/1.1.
    #[must_use]
    pub fn stall(&self) -> Arc<Stall> {
        Arc::clone(&self.0.stall)
    }

    /// The same of the HTTP/2 stream whose request hyper hands over: call it once for each, at once.
    #[must_use]
    pub fn next_stream(&self) -> Arc<Stall> {
        let stall = Stall::of_stream(&self.0.stall);
        *self.0.next_stream.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(Arc::clone(&stall));
        stall
    }

    /// Returns whether the stream is lent to the body of the response; asks for it otherwise.
    pub(super) fn borrow(&self) -> bool {
        self.0.lending.borrow()
    }

    /// The stream is not wanted any more.
    pub(super) fn give_back(&self) {
        self.0.lending.give_back();
    }

    /// Writes all of `queue` to the stream that was lent. When it fails, the connection ends.
    pub(super) fn poll_write_out(&self, cx: &mut Context<'_>, queue: &mut Queue) -> Poll<()> {
        if !queue.is_empty() {
            ready!(self.0.lending.poll_write_out(cx, queue));
        }
        self.flushed();
        Poll::Ready(())
    }

    /// Everything written has left.
    fn flushed(&self) {
        // One task at a time writes: no locked instruction is needed to add.
        self.0.flushes.store(self.flushes() + 1, Ordering::Release);
        if self.0.is_waited_for.load(Ordering::Acquire) {
            self.0.is_waited_for.store(false, Ordering::Release);
            self.0.waiting.wake();
        }
    }

    /// Takes what [`Outlet::next_stream`] returned last.
    pub(super) fn take_stream(&self) -> Option<Arc<Stall>> {
        self.0.next_stream.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn is_broken(&self) -> bool {
        self.0.broken.load(Ordering::Acquire)
    }

    fn heads(&self) -> MutexGuard<'_, BytesMut> {
        self.0.heads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl OutletIo ===

impl OutletIo {
    pub(super) fn new(stream: Stream, outlet: Outlet, limits: Limits) -> Self {
        let heads = Heads::new(MAX_FOLLOWED);
        let is_write_vectored = stream.is_write_vectored();
        Self { stream: Some(stream), is_write_vectored, outlet, heads, limits, waiting: None }
    }

    /// Polls the stream, wherever it is.
    fn poll_stream<T>(
        &mut self,
        poll: impl FnOnce(Pin<&mut Stream>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        self.outlet.0.lending.poll_own(&mut self.stream, poll)
    }

    /// Follows what was read.
    fn follow(&mut self, bytes: &[u8]) {
        if self.outlet.0.is_tunnel.load(Ordering::Relaxed) {
            return;
        }
        if let Some((number, flaw)) = self.heads.advance(bytes) {
            let _first = self.outlet.0.flaw.set(flaw);
            self.outlet.0.flawed.store(number, Ordering::Relaxed);
        }
    }

    /// Nothing can be read: ready with an error when the client has had its time.
    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let limit = match self.heads.count() {
            _ if self.outlet.0.is_tunnel.load(Ordering::Relaxed) => None,
            _ if self.heads.is_within() => Some(self.limits.header),
            0 => Some(self.limits.first_byte),
            _ => None,
        };
        let Some(limit) = limit else {
            self.waiting = None;
            return Poll::Pending;
        };
        // One wait for the first byte, another for each head.
        let wait = self.heads.count() * 2 + u64::from(self.heads.is_within());
        let begun = self.waiting.take().filter(|(begun, _)| *begun == wait);
        let begun = begun.unwrap_or_else(|| (wait, Box::pin(tokio::time::sleep(limit))));
        ready!(self.waiting.insert(begun).1.as_mut().poll(cx));
        let text = format!("no request within {} ms", limit.as_millis());
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, text)))
    }

    /// Writes what is queued; ready when nothing is left.
    fn poll_interims(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.outlet.0.filled.load(Ordering::Acquire) {
            return Poll::Ready(Ok(()));
        }
        let Self { outlet, stream, .. } = self;
        let mut heads = outlet.heads();
        while !heads.is_empty() {
            let write = |stream: Pin<&mut Stream>| stream.poll_write(cx, &heads);
            let written = ready!(outlet.0.lending.poll_own(stream, write))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            heads.advance(written);
        }
        outlet.0.filled.store(false, Ordering::Release);
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for OutletIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        if self.poll_stream(|stream| stream.poll_read(cx, buf))?.is_pending() {
            return self.poll_late(cx);
        }
        self.follow(&buf.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for OutletIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_interims(cx))?;
        self.poll_stream(|stream| stream.poll_write(cx, buf))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_interims(cx))?;
        self.poll_stream(|stream| stream.poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        self.is_write_vectored
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.outlet.0.lending.is_in_use() {
            return Poll::Ready(Ok(()));
        }
        ready!(self.poll_interims(cx))?;
        ready!(self.poll_stream(|stream| stream.poll_flush(cx)))?;
        self.outlet.flushed();
        let Self { outlet, stream, .. } = &mut *self;
        outlet.0.lending.lend(stream);
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.outlet.is_broken() {
            return Poll::Ready(Ok(()));
        }
        self.poll_stream(|stream| stream.poll_shutdown(cx))
    }
}

impl Drop for OutletIo {
    fn drop(&mut self) {
        // Here and not where it was lent to: that may live on.
        let stream = self.outlet.0.lending.fetch(&mut self.stream);
        if let Some(stream) = stream.filter(|_| self.outlet.is_broken()) {
            stream.reset_on_close();
        }
    }
}
