//! Reads the chunks of a response body from the connection (RFC 9112, section 7.1).
//!
//! Plain ones only: at the last chunk, at an extension, at anything that is not as it should be, and at an end or an error
//! in the middle, the stream goes back to hyper ([`Intake`]), which reads on from the beginning of that chunk.

use std::pin::pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::AsyncReadExt as _;

use crate::http::body::COPY_UP_TO;
use crate::http::drain::{Handed, Piece};
use crate::http::intake::{Intake, Line};
use crate::trace::record::{Parts, Span};

/// The chunks of one body.
pub(super) struct Chunks {
    line: Line,
    intake: Intake,
    part: Part,
    /// Bytes to make room for before a read.
    room: usize,
    /// Where the data of chunks is that are handed over together.
    spans: Vec<Span>,
}

/// What came next of a body.
#[derive(Debug)]
pub(super) enum Step {
    /// Bytes of a chunk: all that were there, which are more or fewer than one read brought.
    Data(Bytes),
    /// A chunk has more bytes than it said.
    Malformed,
    /// hyper goes on.
    Back,
}

/// What is next in what was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    /// So many bytes of a chunk, which are to be taken off.
    Data(usize),
    /// A chunk has more bytes than it said.
    Malformed,
    /// No plain chunk.
    Other,
}

/// What is to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// The line that says how long a chunk is.
    Size,
    /// So many bytes of a chunk, at least one.
    Data(u64),
    /// The end of a chunk's line.
    End,
}

/// The line before a chunk.
#[derive(Debug, PartialEq, Eq)]
enum SizeLine {
    /// It is so long with its end, and the chunk after it has so many bytes, at least one.
    Plain { line: usize, chunk: u64 },
    /// More of it has to be read.
    Begun,
    /// Not for us.
    Other,
}

/// Room for a read, and what it grows to while reads fill it.
const ROOM: usize = 8 << 10;
const MAX_ROOM: usize = 128 << 10;
/// What is handed over together at most: chunks, and bytes with their lines, so that a sink can say when it is full.
const MAX_TOGETHER: usize = 64;
const BYTES_TOGETHER: usize = 16 << 10;
/// Digits of the largest chunk that is read here, less than 4 GiB.
const MAX_DIGITS: usize = 8;

// === impl Chunks ===

impl Chunks {
    /// Reads from the first byte after a response's head.
    pub(super) fn new(line: Line, intake: Intake) -> Self {
        Self { line, intake, part: Part::Size, room: ROOM, spans: Vec::new() }
    }

    /// Returns what comes next; nothing does after the first that is no [`Step::Data`].
    pub(super) fn poll_step(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        loop {
            match self.part.step(&mut self.line.bytes) {
                Some(Found::Data(len)) => {
                    return Poll::Ready(Step::Data(self.line.bytes.split_to(len).freeze()));
                }
                Some(Found::Malformed) => return Poll::Ready(Step::Malformed),
                Some(Found::Other) => return Poll::Ready(Step::Back),
                None => {}
            }
            if !ready!(self.poll_more(cx)) {
                return Poll::Ready(Step::Back);
            }
        }
    }

    /// Hands over what comes next while it is data and `sink` has room. Returns the step that it stopped at, none when the
    /// sink is full.
    pub(super) fn poll_drain(
        &mut self,
        cx: &mut Context<'_>,
        sink: &mut impl FnMut(Handed<'_>) -> bool,
    ) -> Poll<Option<Step>> {
        loop {
            match self.hand_over(sink) {
                Some(Ok(true)) => {}
                Some(Ok(false)) => return Poll::Ready(None),
                Some(Err(step)) => return Poll::Ready(Some(step)),
                None if !ready!(self.poll_more(cx)) => return Poll::Ready(Some(Step::Back)),
                None => {}
            }
        }
    }

    /// Hands over what comes next of what was read, if that is data, and returns whether `sink` has room for more; none when
    /// more has to be read.
    fn hand_over(
        &mut self,
        sink: &mut impl FnMut(Handed<'_>) -> bool,
    ) -> Option<Result<bool, Step>> {
        let bytes = &mut self.line.bytes;
        if self.part == Part::Size {
            let whole = whole_chunks(bytes, &mut self.spans);
            if whole > 0 {
                let has_room = sink(Handed::Chunks(Parts::new(&bytes[..whole], &self.spans)));
                bytes.advance(whole);
                return Some(Ok(has_room));
            }
        }
        Some(match self.part.step(bytes)? {
            Found::Data(len) if len > COPY_UP_TO => {
                Ok(sink(Handed::Frame(Piece::Shared(&bytes.split_to(len).freeze()))))
            }
            Found::Data(len) => {
                let has_room = sink(Handed::Frame(Piece::Lent(&bytes[..len])));
                bytes.advance(len);
                Ok(has_room)
            }
            Found::Malformed => Err(Step::Malformed),
            Found::Other => Err(Step::Back),
        })
    }

    /// Gives the stream back to hyper, which has to be polled next.
    pub(super) fn give_back(mut self) {
        match self.part {
            Part::Size => {}
            // A beginning for what is still to come, for hyper to miss it.
            Part::Data(left) => {
                self.line.bytes = BytesMut::from(format!("{left:X}\r\n").as_bytes());
            }
            Part::End => self.line.bytes.clear(),
        }
        self.intake.give_back(self.line);
    }

    /// Reads on; false when hyper has to say why there is no more.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        match ready!(self.poll_fill(cx)) {
            Ok(read) => Poll::Ready(read > 0),
            Err(error) => {
                self.line.failed = Some(error);
                Poll::Ready(false)
            }
        }
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<usize>> {
        let Line { stream, bytes, .. } = &mut self.line;
        bytes.reserve(self.room);
        let room = bytes.capacity() - bytes.len();
        let read = ready!(pin!(stream.read_buf(bytes)).poll(cx))?;
        self.room = if read == room { MAX_ROOM.min(self.room * 2) } else { self.room };
        Poll::Ready(Ok(read))
    }
}

// === impl Part ===

impl Part {
    /// Finds what comes next in the bytes that were read, and takes off what is before it; none when more has to be read.
    fn step(&mut self, bytes: &mut BytesMut) -> Option<Found> {
        loop {
            *self = match *self {
                Self::Size => match size_line(bytes) {
                    SizeLine::Plain { line, chunk } => {
                        bytes.advance(line);
                        Self::Data(chunk)
                    }
                    SizeLine::Begun => return None,
                    SizeLine::Other => return Some(Found::Other),
                },
                Self::Data(_) if bytes.is_empty() => return None,
                Self::Data(left) => {
                    let here = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                    let left = left - here as u64;
                    *self = if left == 0 { Self::End } else { Self::Data(left) };
                    return Some(Found::Data(here));
                }
                Self::End => match bytes[..] {
                    [b'\r', b'\n', ..] => {
                        bytes.advance(2);
                        Self::Size
                    }
                    [] | [b'\r'] => return None,
                    _ => return Some(Found::Malformed),
                },
            };
        }
    }
}

/// Finds the small chunks that are whole at the front of what was read; returns how many bytes they have with their lines.
fn whole_chunks(bytes: &[u8], spans: &mut Vec<Span>) -> usize {
    spans.clear();
    let mut end = 0;
    while spans.len() < MAX_TOGETHER && end < BYTES_TOGETHER {
        let SizeLine::Plain { line, chunk } = size_line(&bytes[end..]) else { break };
        let Some(len) = usize::try_from(chunk).ok().filter(|len| *len <= COPY_UP_TO) else { break };
        let start = end + line;
        if bytes.get(start + len..start + len + 2) != Some(b"\r\n") {
            break;
        }
        spans.push(Span { start, len });
        end = start + len + 2;
    }
    end
}

/// Reads the line before a chunk.
fn size_line(bytes: &[u8]) -> SizeLine {
    let mut chunk = 0;
    for (digits, byte) in bytes.iter().enumerate() {
        match (char::from(*byte).to_digit(16), digits) {
            (Some(_), MAX_DIGITS) => return SizeLine::Other,
            (Some(digit), _) => chunk = chunk << 4 | u64::from(digit),
            (None, _) if *byte != b'\r' || chunk == 0 => return SizeLine::Other,
            (None, _) => {
                return match bytes.get(digits + 1) {
                    Some(b'\n') => SizeLine::Plain { line: digits + 2, chunk },
                    Some(_) => SizeLine::Other,
                    None => SizeLine::Begun,
                };
            }
        }
    }
    SizeLine::Begun
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Reads a body that comes in `pieces`; returns its data as it lay in each piece, and what it ended with.
    fn steps<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Vec<u8>>, Option<Found>) {
        let (mut part, mut bytes, mut frames) = (Part::Size, BytesMut::new(), Vec::new());
        for piece in pieces {
            bytes.extend_from_slice(piece);
            while let Some(found) = part.step(&mut bytes) {
                let Found::Data(len) = found else {
                    assert_eq!(part.step(&mut bytes), Some(found), "it is found again");
                    return (frames, Some(found));
                };
                frames.push(bytes.split_to(len).to_vec());
            }
        }
        (frames, None)
    }

    #[test]
    fn a_chunk_that_is_there_is_one_frame_and_what_has_come_of_one_waits_for_nothing() {
        let check = |pieces: &[&str], frames: &[&str], last: Option<Found>| {
            let (read, ended) = steps(pieces.iter().map(|piece| piece.as_bytes()));
            let read: Vec<_> =
                read.iter().map(|frame| std::str::from_utf8(frame).unwrap()).collect();
            assert_eq!((&read[..], ended), (frames, last), "{pieces:?}");
        };
        let (malformed, other) = (Some(Found::Malformed), Some(Found::Other));
        let whole = "3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n";
        check(&[whole], &["one", "two"], other);
        check(&["3\r\none"], &["one"], None);
        check(&["3\r", "\non", "e\r", "\n0", "\r\n"], &["on", "e"], other);
        check(&["3\r\nonemore"], &["one"], malformed);
        check(&["3\r\none\n"], &["one"], malformed);
        check(&["3;x\r\none\r\n"], &[], other);
    }

    proptest! {
        #[test]
        fn chunks_are_read_whatever_the_pieces_they_come_in(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..12),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
        ) {
            let mut wire = Vec::new();
            for chunk in &chunks {
                wire.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                wire.extend_from_slice(chunk);
                wire.extend_from_slice(b"\r\n");
            }
            wire.extend_from_slice(b"0\r\n\r\n");
            let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(wire.len())).collect();
            cuts.extend([0, wire.len()]);
            cuts.sort_unstable();
            let (frames, last) = steps(cuts.windows(2).map(|cut| &wire[cut[0]..cut[1]]));
            prop_assert_eq!(last, Some(Found::Other));
            prop_assert_eq!(frames.concat(), chunks.concat());
        }
    }

    #[test]
    fn small_chunks_that_are_whole_are_found_together() {
        let check = |bytes: &str, expected: &[&str], rest: &str| {
            let mut spans = vec![Span { start: 7, len: 7 }];
            let whole = whole_chunks(bytes.as_bytes(), &mut spans);
            let parts = Parts::new(&bytes.as_bytes()[..whole], &spans);
            let found: Vec<_> = parts.iter().map(|it| std::str::from_utf8(it).unwrap()).collect();
            assert_eq!((&found[..], &bytes[whole..]), (expected, rest));
        };
        check("", &[], "");
        check("3\r\none\r\n03\r\ntwo\r\n", &["one", "two"], "");
        for rest in
            ["3\r\ntwo\r", "3\r\ntw", "3\r", "3\r\ntwo!\n", "0\r\n\r\n", "3;x\r\ntwo\r\n", "x"]
        {
            check(&format!("3\r\none\r\n{rest}"), &["one"], rest);
        }
        let sized = |len: usize| format!("{len:x}\r\n{}\r\n", "x".repeat(len));
        let large = sized(COPY_UP_TO + 1);
        check(&large, &[], &large);
        check(&sized(COPY_UP_TO), &[&"x".repeat(COPY_UP_TO)], "");
        let many = "1\r\nx\r\n".repeat(MAX_TOGETHER + 2);
        check(&many, &["x"; MAX_TOGETHER], &"1\r\nx\r\n".repeat(2));
        let bulky = sized(4_000).repeat(6);
        check(&bulky, &["x".repeat(4_000).as_str(); 5], &sized(4_000));
    }

    #[test]
    fn the_line_before_a_chunk_is_plain_or_not_ours() {
        let check = |bytes: &str, expected: SizeLine| {
            assert_eq!(size_line(bytes.as_bytes()), expected, "{bytes:?}");
        };
        let plain = |line, chunk| SizeLine::Plain { line, chunk };
        check("c4\r\ndata", plain(4, 0xc4));
        check("1\r\n", plain(3, 1));
        check("00Fa\r\n", plain(6, 0xfa));
        check("ffffffff\r\n", plain(10, 0xffff_ffff));
        for begun in ["", "c", "c4", "c4\r", "0"] {
            check(begun, SizeLine::Begun);
        }
        for other in [
            "0\r\n\r\n",
            "0\r",
            "000\r\n",
            "100000000\r\n",
            "c4;a=b\r\n",
            "c4 \r\n",
            "\r\n",
            "\n",
            "c4\n",
            "c4\rx",
            "-1\r\n",
            "+1\r\n",
            "0x1\r\n",
            "g\r\n",
        ] {
            check(other, SizeLine::Other);
        }
    }
}
