//! Interim responses (1xx) to an HTTP/1.1 client.
//!
//! hyper's server sends `100 Continue` by itself and nothing else. [`InterimIo`] lies below hyper on the connection and
//! puts heads in between: when the handler of an exchange runs, the response before has been written out in full, and
//! its own has not begun, so that the place is always the right one.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::{Buf, BufMut, BytesMut};
use http::{HeaderMap, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::http::stream::Stream;

/// Sends interim responses on one connection.
#[derive(Clone, Debug, Default)]
pub struct Interims(Arc<Queue>);

#[derive(Debug, Default)]
struct Queue {
    /// Whether `heads` holds anything: all that a write without interim responses looks at.
    filled: AtomicBool,
    heads: Mutex<BytesMut>,
}

/// A connection that writes queued interim responses before anything else.
pub(super) struct InterimIo {
    stream: Stream,
    interims: Interims,
}

// === impl Interims ===

impl Interims {
    /// Queues an interim response. Call it while the exchange waits for its final response, from the task of the
    /// connection: it leaves when that task next writes or flushes. Has no effect over HTTP/2.
    pub fn send(&self, status: StatusCode, headers: &HeaderMap) {
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

    fn heads(&self) -> MutexGuard<'_, BytesMut> {
        self.0.heads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl InterimIo ===

impl InterimIo {
    pub(super) fn new(stream: Stream, interims: Interims) -> Self {
        Self { stream, interims }
    }

    /// Writes what is queued; ready when nothing is left.
    fn poll_interims(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.interims.0.filled.load(Ordering::Acquire) {
            return Poll::Ready(Ok(()));
        }
        let mut heads = self.interims.heads();
        while !heads.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &heads))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            heads.advance(written);
        }
        self.interims.0.filled.store(false, Ordering::Release);
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for InterimIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for InterimIo {
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
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
