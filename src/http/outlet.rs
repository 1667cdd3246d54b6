//! What a handler can do with an HTTP/1.1 client's connection beside answering: send interim responses, wait until what
//! it answered so far has left, and end the connection with a reset.
//!
//! hyper's server sends `100 Continue` by itself and no other interim response. `OutletIo` lies below hyper on the
//! connection and puts heads in between: when the handler of an exchange runs, the response before has been written out
//! in full, and its own has not begun, so that the place is always the right one.
//!
//! hyper drops what it has buffered when a body fails. Who wants the client to get it first waits for a flush: hyper
//! flushes its connection only when its own buffer is empty.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::{Buf, BufMut, BytesMut};
use futures_util::task::AtomicWaker;
use http::{HeaderMap, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::http::stream::Stream;

/// The way out to one client. Over HTTP/2 it leads nowhere.
#[derive(Clone, Debug, Default)]
pub struct Outlet(Arc<State>);

#[derive(Debug, Default)]
struct State {
    /// Whether `heads` holds anything: all that a write without interim responses looks at.
    filled: AtomicBool,
    heads: Mutex<BytesMut>,
    /// Times that everything written had left.
    flushes: AtomicU64,
    waiting: AtomicWaker,
    /// Whether the connection ends with a reset.
    broken: AtomicBool,
}

/// A connection that writes queued interim responses before anything else.
pub(super) struct OutletIo {
    stream: Stream,
    outlet: Outlet,
}

// === impl Outlet ===

impl Outlet {
    /// Queues an interim response. Call it while the exchange waits for its final response, from the task of the
    /// connection: it leaves when that task next writes or flushes. Has no effect over HTTP/2.
    pub fn send_interim(&self, status: StatusCode, headers: &HeaderMap) {
        let mut heads = self.heads();
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
        if self.flushes() > before { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Makes the connection's end a reset, whatever has not left by then being lost. Call it before a response body that
    /// ends with an error; over HTTP/2 such a body resets its stream by itself.
    pub fn break_off(&self) {
        self.0.broken.store(true, Ordering::Release);
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
    pub(super) fn new(stream: Stream, outlet: Outlet) -> Self {
        Self { stream, outlet }
    }

    /// Writes what is queued; ready when nothing is left.
    fn poll_interims(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.outlet.0.filled.load(Ordering::Acquire) {
            return Poll::Ready(Ok(()));
        }
        let mut heads = self.outlet.heads();
        while !heads.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &heads))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            heads.advance(written);
        }
        self.outlet.0.filled.store(false, Ordering::Release);
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for OutletIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for OutletIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_interims(cx))?;
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_interims(cx))?;
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_interims(cx))?;
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        self.outlet.0.flushes.fetch_add(1, Ordering::Release);
        self.outlet.0.waiting.wake();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.outlet.is_broken() {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl Drop for OutletIo {
    fn drop(&mut self) {
        if self.outlet.is_broken() {
            self.stream.reset_on_close();
        }
    }
}
