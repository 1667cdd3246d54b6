//! The way in from a server, beside hyper: whoever reads the chunks of a response reads them from the connection.
//!
//! hyper takes a chunk's size byte by byte, each in a piece of memory of its own, and hands its bytes over through a channel:
//! more work than all the rest of their way. So where a response is chunked, `IntakeIo`, which lies below hyper on a
//! client's connection, lets it read the head and nothing more, and puts the stream aside for the reader of the body
//! ([`Chunks`](super::chunks::Chunks)). What is not plain goes back to hyper with the stream, from its first byte on: so
//! hyper alone says what a message means and what is wrong with it.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, Version};
use memchr::memmem::Finder;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::http::heads::head_end;
use crate::http::stream::Stream;

/// The way in from one server. Clones are of the same connection.
#[derive(Clone, Default)]
pub(super) struct Intake(Arc<State>);

#[derive(Default)]
struct State {
    /// Whether the head that comes next may be parted from its body.
    is_armed: AtomicBool,
    /// Whether the stream waits for a reader of its own.
    is_aside: AtomicBool,
    /// Whether hyper has tried to write since it was put aside.
    wants_to_write: AtomicBool,
    place: Mutex<Place>,
}

/// Where the stream is.
#[derive(Default)]
enum Place {
    /// With hyper, or with the reader of a body.
    #[default]
    Away,
    /// Put aside by hyper's side of the connection.
    Aside(Line),
    /// Given back to it.
    Back(Line),
}

/// A stream, and what was read from it and has no reader yet.
pub(super) struct Line {
    pub(super) stream: Stream,
    pub(super) bytes: BytesMut,
    /// Why nothing more can be read, if that was seen.
    pub(super) failed: Option<io::Error>,
}

/// A connection to an HTTP/1.1 server, as hyper has it.
pub(super) struct IntakeIo {
    /// None while somebody else has it.
    line: Option<Line>,
    intake: Intake,
    is_write_vectored: bool,
    /// Whether all that was written has left.
    is_flushed: bool,
}

/// Memory for reads that a connection keeps from one response to the next.
const MAX_KEPT: usize = 16 << 10;

static CHUNKED: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("chunked"));

/// Returns whether a response's body is chunked and nothing else, so that hyper takes it for that as well.
pub(super) fn is_chunked(version: Version, headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    version == Version::HTTP_11
        && codings.next().is_some_and(|coding| coding.as_bytes().eq_ignore_ascii_case(b"chunked"))
        && codings.next().is_none()
        && !headers.contains_key(CONTENT_LENGTH)
}

// === impl Intake ===

impl Intake {
    /// A request is about to be sent: the head of its response may be parted from its body.
    pub(super) fn arm(&self) {
        self.0.wants_to_write.store(false, Ordering::Release);
        self.0.is_armed.store(true, Ordering::Release);
    }

    /// Takes the stream, if it was put aside with a response's head and hyper has no need of it.
    pub(super) fn take(&self) -> Option<Line> {
        if self.0.wants_to_write.load(Ordering::Acquire) {
            self.recall();
        }
        self.take_any()
    }

    fn take_any(&self) -> Option<Line> {
        if !self.0.is_aside.swap(false, Ordering::AcqRel) {
            return None;
        }
        match std::mem::take(&mut *self.place()) {
            Place::Aside(line) => Some(line),
            Place::Away | Place::Back(_) => None,
        }
    }

    /// Gives the stream back to hyper, which has to be polled next: nobody wakes it.
    pub(super) fn give_back(&self, line: Line) {
        *self.place() = Place::Back(line);
    }

    /// Gives back what nobody has taken; true when hyper has to be polled for that.
    pub(super) fn recall(&self) -> bool {
        self.take_any().map(|line| self.give_back(line)).is_some()
    }

    fn put_aside(&self, line: Line) {
        *self.place() = Place::Aside(line);
        self.0.is_aside.store(true, Ordering::Release);
    }

    fn place(&self) -> MutexGuard<'_, Place> {
        self.0.place.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl IntakeIo ===

impl IntakeIo {
    /// Wraps a stream; `intake` is for whoever polls hyper's connection.
    pub(super) fn new(stream: Stream, intake: Intake) -> Self {
        let is_write_vectored = stream.is_write_vectored();
        let line = Line { stream, bytes: BytesMut::new(), failed: None };
        Self { line: Some(line), intake, is_write_vectored, is_flushed: true }
    }

    /// Returns the stream for a write; when somebody else has it, that is known from then on.
    fn line_to_write(&mut self) -> Option<&mut Line> {
        self.is_flushed = false;
        if self.line().is_none() {
            self.intake.0.wants_to_write.store(true, Ordering::Release);
        }
        self.line.as_mut()
    }

    /// Returns the stream, unless somebody else has it.
    fn line(&mut self) -> Option<&mut Line> {
        if self.line.is_none() {
            let mut place = self.intake.place();
            match std::mem::take(&mut *place) {
                Place::Back(line) => self.line = Some(line),
                elsewhere => *place = elsewhere,
            }
        }
        self.line.as_mut()
    }

    /// Where the response that was just read goes on with chunks, leaves hyper the head and puts the rest aside.
    fn part(&mut self, buf: &mut ReadBuf<'_>, before: usize) {
        if !self.intake.0.is_armed.load(Ordering::Acquire) {
            return;
        }
        self.intake.0.is_armed.store(false, Ordering::Release);
        let Some(end) = chunked_head(&buf.filled()[before..]).filter(|_| self.is_flushed) else {
            return;
        };
        if let Some(mut line) = self.line.take() {
            line.bytes.extend_from_slice(&buf.filled()[before + end..]);
            buf.set_filled(before + end);
            self.intake.put_aside(line);
        }
    }
}

/// Returns where the head of a response ends that has come whole and may say that chunks follow.
fn chunked_head(bytes: &[u8]) -> Option<usize> {
    let is_final = bytes.strip_prefix(b"HTTP/1.1 ")?.first().is_some_and(|digit| *digit != b'1');
    let end = is_final.then(|| head_end(bytes, 0)).flatten()?;
    CHUNKED.find(&bytes[..end]).map(|_| end)
}

impl AsyncRead for IntakeIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Some(line) = self.line() else { return Poll::Pending };
        if !line.bytes.is_empty() {
            let most = line.bytes.len().min(buf.remaining());
            buf.put_slice(&line.bytes[..most]);
            line.bytes.advance(most);
            if line.bytes.is_empty() && line.bytes.capacity() > MAX_KEPT {
                line.bytes = BytesMut::new();
            }
            return Poll::Ready(Ok(()));
        }
        if let Some(error) = line.failed.take() {
            return Poll::Ready(Err(error));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut line.stream).poll_read(cx, buf))?;
        self.part(buf, before);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for IntakeIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let Some(line) = self.line_to_write() else { return Poll::Pending };
        Pin::new(&mut line.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let Some(line) = self.line_to_write() else { return Poll::Pending };
        Pin::new(&mut line.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.is_write_vectored
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let is_flushed = self.is_flushed;
        let Some(line) = self.line() else {
            return if is_flushed { Poll::Ready(Ok(())) } else { Poll::Pending };
        };
        ready!(Pin::new(&mut line.stream).poll_flush(cx))?;
        self.is_flushed = true;
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.line() {
            Some(line) => Pin::new(&mut line.stream).poll_shutdown(cx),
            // Who has the stream closes it.
            None => Poll::Ready(Ok(())),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    const HEAD: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";

    #[test]
    fn a_head_is_parted_from_chunks_and_from_nothing_else() {
        let check = |text: &str, expected: Option<usize>| {
            assert_eq!(chunked_head(text.as_bytes()), expected, "{text:?}");
        };
        check(HEAD, Some(HEAD.len()));
        check(&format!("{HEAD}3\r\none\r\n0\r\n\r\n"), Some(HEAD.len()));
        let bare = "HTTP/1.1 200 OK\ntransfer-encoding: chunked\n\n";
        check(&format!("{bare}3\r\none\r\n0\r\n\r\n"), Some(bare.len()));
        for whole in [
            "HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\nchunked",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n",
            "HTTP/1.1 103 Early Hints\r\nlink: chunked\r\n\r\n",
            "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
            "\r\nHTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
            "HTTP/1.1 ",
            "",
        ] {
            check(whole, None);
        }
    }

    #[test]
    fn a_response_is_chunked_when_hyper_can_take_it_for_nothing_else() {
        let check = |fields: &[(&'static str, &'static str)], expected: bool| {
            let mut headers = HeaderMap::new();
            for (name, value) in fields {
                headers.append(*name, value.parse().unwrap());
            }
            assert_eq!(is_chunked(Version::HTTP_11, &headers), expected, "{fields:?}");
            assert!(
                !is_chunked(Version::HTTP_10, &headers) && !is_chunked(Version::HTTP_2, &headers)
            );
        };
        check(&[("transfer-encoding", "chunked")], true);
        check(&[("transfer-encoding", "Chunked")], true);
        check(&[], false);
        check(&[("transfer-encoding", "gzip, chunked")], false);
        check(&[("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")], false);
        check(&[("transfer-encoding", "chunked"), ("content-length", "1")], false);
    }

    /// Returns the two ends of a connection, one as hyper has it.
    async fn connection() -> (IntakeIo, Intake, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let socket = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let intake = Intake::default();
        let io = IntakeIo::new(Stream::plain(socket), intake.clone());
        (io, intake, listener.accept().await.unwrap().0)
    }

    async fn read(io: &mut IntakeIo) -> String {
        let mut buffer = vec![0; 1024];
        let count = io.read(&mut buffer).await.unwrap();
        String::from_utf8(buffer[..count].to_vec()).unwrap()
    }

    #[tokio::test]
    async fn what_follows_a_head_waits_for_its_reader_or_goes_back() {
        let (mut io, intake, mut peer) = connection().await;
        for is_taken in [true, false] {
            intake.arm();
            peer.write_all(format!("{HEAD}3\r\none").as_bytes()).await.unwrap();
            assert_eq!(read(&mut io).await, HEAD);
            let polled = futures_util::poll!(std::pin::pin!(read(&mut io)));
            assert!(polled.is_pending(), "the rest is not hyper's");
            if is_taken {
                let line = intake.take().unwrap();
                assert_eq!(line.bytes, "3\r\none");
                assert!(!intake.recall(), "it is in use");
                intake.give_back(line);
            } else {
                assert!(intake.recall() && !intake.recall());
            }
            assert_eq!(read(&mut io).await, "3\r\none");
            peer.write_all(HEAD.as_bytes()).await.unwrap();
            assert_eq!(read(&mut io).await, HEAD, "one head for each request");
            assert!(intake.take().is_none());
        }
    }

    /// The request goes on when its response has begun: hyper keeps the stream.
    #[tokio::test]
    async fn a_stream_that_hyper_has_to_write_to_is_not_taken() {
        let (mut io, intake, mut peer) = connection().await;
        intake.arm();
        peer.write_all(HEAD.as_bytes()).await.unwrap();
        assert_eq!(read(&mut io).await, HEAD);
        let polled = futures_util::poll!(std::pin::pin!(io.write_all(b"the rest")));
        assert!(polled.is_pending());
        assert!(intake.take().is_none());
        io.write_all(b"the rest").await.unwrap();
        let mut got = [0; 8];
        peer.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"the rest");
    }

    #[tokio::test]
    async fn a_head_that_comes_while_a_request_leaves_is_not_parted() {
        let (mut io, intake, mut peer) = connection().await;
        intake.arm();
        io.write_all(b"begun").await.unwrap();
        peer.write_all(format!("{HEAD}3\r\none").as_bytes()).await.unwrap();
        assert_eq!(read(&mut io).await, format!("{HEAD}3\r\none"));
        io.flush().await.unwrap();
        assert!(intake.take().is_none());
    }
}
