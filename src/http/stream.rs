//! One connection's bytes: plain TCP or TLS, in one type, counted.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;

use crate::clock::{Clock, Nanos};
use crate::http::stall::{Stall, WritePatience};

/// A connected socket, with or without TLS.
pub struct Stream {
    kind: Kind,
    read: Arc<BytesRead>,
    /// Stamps each read, if that is wanted.
    clock: Option<Clock>,
    patience: Option<WritePatience>,
    /// Its place in a budget of connections, free again when it is closed.
    place: Option<OwnedSemaphorePermit>,
}

/// Plain bytes read from a [`Stream`] so far: tells a peer that never answered from one that began to. And when the last
/// of them were.
#[derive(Debug, Default)]
pub struct BytesRead {
    bytes: AtomicU64,
    /// Nanoseconds of the stamping clock; 0 for never.
    at: AtomicU64,
}

enum Kind {
    Plain(TcpStream),
    // Boxed: the two TLS states are about a kilobyte each, and most streams of a benchmark are plain.
    Client(Box<tokio_rustls::client::TlsStream<TcpStream>>),
    Server(Box<tokio_rustls::server::TlsStream<TcpStream>>),
}

// === impl Stream ===

impl Stream {
    /// Wraps a plain socket.
    #[must_use]
    pub fn plain(socket: TcpStream) -> Self {
        Self::new(Kind::Plain(socket))
    }

    /// Wraps the client's side of a TLS connection.
    #[must_use]
    pub fn tls_client(stream: tokio_rustls::client::TlsStream<TcpStream>) -> Self {
        Self::new(Kind::Client(Box::new(stream)))
    }

    /// Wraps the server's side of a TLS connection.
    #[must_use]
    pub fn tls_server(stream: tokio_rustls::server::TlsStream<TcpStream>) -> Self {
        Self::new(Kind::Server(Box::new(stream)))
    }

    /// Returns the counter of plain bytes read, which lives on when the stream is handed away.
    #[must_use]
    pub fn bytes_read(&self) -> Arc<BytesRead> {
        Arc::clone(&self.read)
    }

    /// Returns whether ALPN chose HTTP/2.
    #[must_use]
    pub fn alpn_is_h2(&self) -> bool {
        let chosen = match &self.kind {
            Kind::Plain(_) => None,
            Kind::Client(stream) => stream.get_ref().1.alpn_protocol(),
            Kind::Server(stream) => stream.get_ref().1.alpn_protocol(),
        };
        chosen == Some(b"h2")
    }

    /// Has writes fail when the peer takes nothing for `limit`; `stall` tells of it.
    pub(super) fn limit_writes(&mut self, limit: Duration, stall: Arc<Stall>) {
        self.patience = Some(WritePatience::new(limit, stall));
    }

    /// Has every read stamped, see [`BytesRead::at`].
    pub(super) fn stamp_reads(&mut self, clock: Clock) {
        self.clock = Some(clock);
    }

    /// Keeps a place until the connection is closed.
    pub(super) fn hold(&mut self, place: Option<OwnedSemaphorePermit>) {
        self.place = place;
    }

    /// Passes on what a write came to, unless it has waited too long.
    fn watch<T>(
        &mut self,
        cx: &mut Context<'_>,
        polled: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        match &mut self.patience {
            Some(patience) => patience.watch(cx, polled),
            None => polled,
        }
    }

    /// Makes the connection's close a reset: what is not sent yet is lost, as when a server dies.
    pub(super) fn reset_on_close(&self) {
        let socket = match &self.kind {
            Kind::Plain(stream) => stream,
            Kind::Client(stream) => stream.get_ref().0,
            Kind::Server(stream) => stream.get_ref().0,
        };
        // A socket that is gone is closed already.
        let _set = socket.set_zero_linger();
    }

    fn new(kind: Kind) -> Self {
        Self { kind, read: Arc::default(), clock: None, patience: None, place: None }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(match &mut self.kind {
            Kind::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Kind::Client(stream) => Pin::new(stream).poll_read(cx, buf),
            Kind::Server(stream) => Pin::new(stream).poll_read(cx, buf),
        })?;
        self.read.add(buf.filled().len() - before, self.clock);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = match &mut self.kind {
            Kind::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Kind::Client(stream) => Pin::new(stream).poll_write(cx, buf),
            Kind::Server(stream) => Pin::new(stream).poll_write(cx, buf),
        };
        self.watch(cx, polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = match &mut self.kind {
            Kind::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Kind::Client(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Kind::Server(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        };
        self.watch(cx, polled)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.kind {
            Kind::Plain(stream) => stream.is_write_vectored(),
            Kind::Client(stream) => stream.is_write_vectored(),
            Kind::Server(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = match &mut self.kind {
            Kind::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Kind::Client(stream) => Pin::new(stream).poll_flush(cx),
            Kind::Server(stream) => Pin::new(stream).poll_flush(cx),
        };
        self.watch(cx, polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = match &mut self.kind {
            Kind::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Kind::Client(stream) => Pin::new(stream).poll_shutdown(cx),
            Kind::Server(stream) => Pin::new(stream).poll_shutdown(cx),
        };
        self.watch(cx, polled)
    }
}

// === impl BytesRead ===

impl BytesRead {
    /// Returns the bytes read so far.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Returns when bytes were read last; none when reads are not stamped, or there was none.
    #[must_use]
    pub fn at(&self) -> Option<Nanos> {
        match self.at.load(Ordering::Relaxed) {
            0 => None,
            at => Some(Nanos(at)),
        }
    }

    fn add(&self, bytes: usize, clock: Option<Clock>) {
        // One thread at a time reads: no locked instruction is needed to add.
        let before = self.bytes.load(Ordering::Relaxed);
        self.bytes.store(before + bytes as u64, Ordering::Relaxed);
        if let Some(clock) = clock {
            self.at.store(clock.now().0, Ordering::Relaxed);
        }
    }
}
