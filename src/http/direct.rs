//! Writes the chunks of a response to the client's connection, beside hyper.
//!
//! hyper looks at its connection from all sides for each chunk, and formats each chunk's size: as much work as all that is
//! done to record it. So when the head of a chunked response has left, its body borrows the stream from `OutletIo`, which
//! lies below hyper on the connection, and writes what is ready in one go, each chunk as it was cut. Its end, its trailers
//! and its errors are hyper's, who also goes on to read: it notices a client that leaves.

use std::cell::Cell;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use crate::http::drain::{Drain, Drained, Handed};
use crate::http::outlet::Outlet;
use crate::http::workers;

pin_project! {
    /// A response body that may write itself.
    pub struct DirectBody<B: Body> {
        #[pin]
        inner: B,
        way: Option<Way<B::Error>>,
    }
}

/// The way of a body past hyper.
struct Way<E> {
    outlet: Outlet,
    /// Whether the stream was lent: hyper has nothing left to write.
    is_open: bool,
    queue: Queue,
    /// The turn of the task in which nothing more was there.
    emptied: Option<u64>,
    /// What hyper is to hear when the queue has left.
    last: Option<Last<E>>,
}

/// What is not data: the end, trailers, an error.
type Last<E> = Option<Result<Frame<Bytes>, E>>;

/// Chunks that wait to leave.
#[derive(Debug, Default)]
pub(super) struct Queue {
    bytes: Vec<u8>,
    /// Bytes that were written.
    written: usize,
    /// Whether some of these may wait below, in TLS.
    is_held: bool,
}

/// Bytes that wait before more is asked for.
const MOST: usize = 64 << 10;

thread_local! {
    /// Memory of a queue that has left: most bodies have nothing that waits.
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

// === impl DirectBody ===

impl<B: Body> DirectBody<B> {
    /// Takes a body; it writes itself by way of `outlet`, if there is one. The response must then be one that hyper sends in
    /// chunks: to an HTTP/1.1 client, without a `Content-Length`, its body of unknown length.
    pub fn new(inner: B, outlet: Option<Outlet>) -> Self {
        let way = |outlet| {
            let queue = Queue::default();
            Way { outlet, is_open: false, queue, emptied: None, last: None }
        };
        Self { inner, way: outlet.map(way) }
    }
}

impl<B: Drain> Body for DirectBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.project();
        let Some(way) = this.way else { return this.inner.poll_frame(cx) };
        if !way.is_open() {
            return this.inner.poll_frame(cx);
        }
        let last = ready!(way.poll_last(this.inner, cx));
        *this.way = None;
        Poll::Ready(last)
    }

    fn is_end_stream(&self) -> bool {
        self.way.as_ref().is_none_or(|way| !way.is_open) && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

// === impl Way ===

impl<E> Way<E> {
    /// Returns whether the body may write; asks for it otherwise.
    fn is_open(&mut self) -> bool {
        if !self.is_open {
            self.is_open = self.outlet.borrow();
        }
        self.is_open
    }

    /// Writes what comes, until what comes is not data.
    fn poll_last<B: Drain<Error = E>>(
        &mut self,
        mut body: Pin<&mut B>,
        cx: &mut Context<'_>,
    ) -> Poll<Last<E>> {
        let turn = workers::turn();
        if turn.is_some() && turn == self.emptied {
            // hyper asks twice in each turn of its task.
            return Poll::Pending;
        }
        loop {
            let is_empty = self.gather(body.as_mut(), cx);
            ready!(self.outlet.poll_write_out(cx, &mut self.queue));
            if let Some(last) = self.last.take() {
                return Poll::Ready(last);
            }
            if is_empty {
                self.emptied = turn;
                return Poll::Pending;
            }
        }
    }

    /// Queues what is there, while there is room; true when nothing more is.
    fn gather<B: Drain<Error = E>>(&mut self, body: Pin<&mut B>, cx: &mut Context<'_>) -> bool {
        let queue = &mut self.queue;
        if self.last.is_some() || !queue.has_room() {
            return false;
        }
        let drained = body.poll_drain(cx, |handed| {
            match handed {
                Handed::Frame(piece) => queue.chunk(piece.bytes()),
                Handed::Chunks(parts) => queue.chunks(parts.bytes()),
            }
            queue.has_room()
        });
        match drained {
            Drained::Empty => return true,
            Drained::Full => {}
            Drained::Last(last) => self.last = Some(last),
        }
        false
    }
}

impl<E> Drop for Way<E> {
    fn drop(&mut self) {
        self.outlet.give_back();
    }
}

// === impl Queue ===

impl Queue {
    /// Returns what has not left yet.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[self.written..]
    }

    fn has_room(&self) -> bool {
        self.bytes().len() < MOST
    }

    /// Returns whether everything has left.
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty() && !self.is_held
    }

    /// What was written has left.
    pub(super) fn flushed(&mut self) {
        self.is_held = false;
    }

    /// The first `count` bytes were written.
    pub(super) fn advance(&mut self, count: usize) {
        self.is_held = true;
        self.written += count;
        if self.written == self.bytes.len() {
            let mut spare = std::mem::take(&mut self.bytes);
            spare.clear();
            SPARE.set(spare);
            self.written = 0;
        }
    }

    /// Adds a chunk. One without bytes would be the end, and is left out.
    fn chunk(&mut self, data: &[u8]) {
        if data.is_empty() {
            return;
        }
        self.use_spare();
        let mut line = [0; 18];
        self.bytes.extend_from_slice(size_line(data.len(), &mut line));
        self.bytes.extend_from_slice(data);
        self.bytes.extend_from_slice(b"\r\n");
    }

    /// Adds whole chunks with their lines.
    fn chunks(&mut self, wire: &[u8]) {
        self.use_spare();
        self.bytes.extend_from_slice(wire);
    }

    fn use_spare(&mut self) {
        if self.bytes.is_empty() {
            self.bytes = SPARE.take();
        }
    }
}

/// Writes the line before a chunk: its size in hexadecimal digits.
fn size_line(size: usize, line: &mut [u8; 18]) -> &[u8] {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let mut start = line.len() - 2;
    line[start..].copy_from_slice(b"\r\n");
    let mut rest = size;
    while rest > 0 || start == line.len() - 2 {
        start -= 1;
        line[start] = DIGITS[rest & 0xf];
        rest >>= 4;
    }
    &line[start..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_begins_with_its_size() {
        for size in [1, 9, 10, 15, 16, 196, 255, 256, 4_095, 65_536, 0xdead_beef, usize::MAX] {
            let mut line = [0; 18];
            assert_eq!(size_line(size, &mut line), format!("{size:X}\r\n").as_bytes());
        }
    }

    #[test]
    fn a_queue_has_what_has_not_left() {
        let mut queue = Queue::default();
        queue.chunk(b"");
        assert!(queue.bytes().is_empty(), "that would be the end of the body");
        queue.chunk(b"one");
        queue.advance(4);
        queue.chunk(b"sixteen bytes, so");
        assert_eq!(queue.bytes(), b"ne\r\n11\r\nsixteen bytes, so\r\n");
        queue.advance(queue.bytes().len());
        assert!(queue.bytes().is_empty() && !queue.is_empty(), "written, not flushed");
        queue.flushed();
        assert!(queue.is_empty());
        queue.chunk(b"more");
        assert_eq!(queue.bytes(), b"4\r\nmore\r\n");
    }
}
