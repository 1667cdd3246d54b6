//! Follows the bytes of an HTTP/1.1 client from request to request, and tells what hyper settles in silence.
//!
//! hyper's server takes a request with both `Content-Length` and `Transfer-Encoding`, or with the same `Content-Length`
//! twice, and forgets that it saw more than one. Both are how requests are smuggled (RFC 9112, 6.1 and 6.3): who serves a
//! request hears of it here. Nor does hyper tell a client that is idle from one that has begun a head: here is the
//! difference.
//!
//! The bytes are looked at as they are read and never changed. What is not understood here is not trusted: see
//! [`Flaw::Framing`].

use memchr::memchr_iter;

/// What is wrong with a request that hyper takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// `Content-Length` and `Transfer-Encoding` in one request.
    LengthAndCoding,
    /// More than one `Content-Length`.
    RepeatedLength,
    /// Where the request begins is not certain: what came before it could not be followed.
    Framing,
}

/// Where a client is in what it says.
#[derive(Debug)]
pub struct Heads {
    stage: Stage,
    /// The beginning of a head that has not come whole.
    begun: Vec<u8>,
    /// Heads that have come whole.
    count: u64,
    /// Longest head that is waited for.
    max_bytes: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Before the first byte of a head.
    Between,
    /// Within a head.
    Head,
    /// Bytes of a body, or of a chunk with its line end, that are to come.
    Body { left: u64, then: Then },
    /// Within the line before a chunk.
    Size { size: u64, digits: u8, at: SizePart },
    /// Within the fields after the last chunk.
    Trailers { line: Line },
    /// Nothing is known any more.
    Lost,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    Request,
    Chunk,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SizePart {
    Digits,
    Rest,
    /// After CR.
    End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    /// Nothing of it yet.
    Empty,
    /// CR, and nothing before it.
    EmptyEnd,
    Filled,
    /// CR, and something before it.
    FilledEnd,
}

const CHUNK: Stage = Stage::Size { size: 0, digits: 0, at: SizePart::Digits };
/// Digits of the largest chunk whose size fits 64 bits.
const MAX_DIGITS: u8 = 16;

// === impl Heads ===

impl Heads {
    /// Begins with a connection's first byte. A head that comes in pieces is waited for up to `max_bytes`.
    #[must_use]
    pub fn new(max_bytes: usize) -> Self {
        Self { stage: Stage::Between, begun: Vec::new(), count: 0, max_bytes }
    }

    /// Returns how many heads have come whole.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Returns whether a head has begun and not ended.
    #[must_use]
    pub fn is_within(&self) -> bool {
        self.stage == Stage::Head
    }

    /// Follows `bytes`. Returns the number of the first request that is not to be served, from 1, and why; nothing is
    /// followed from there on.
    pub fn advance(&mut self, mut bytes: &[u8]) -> Option<(u64, Flaw)> {
        while !bytes.is_empty() {
            bytes = match self.stage {
                Stage::Between => self.skip_empty_lines(bytes),
                Stage::Head => match self.head(bytes) {
                    Ok(rest) => rest,
                    Err(flaw) => return Some(self.lose(flaw)),
                },
                Stage::Body { left, then } => self.body(left, then, bytes),
                Stage::Size { size, digits, at } => self.size(size, digits, at, bytes),
                Stage::Trailers { line } => self.trailers(line, bytes),
                Stage::Lost => return None,
            };
            if self.stage == Stage::Lost {
                // The request after those that have come.
                self.count += 1;
                return Some(self.lose(Flaw::Framing));
            }
        }
        None
    }

    fn lose(&mut self, flaw: Flaw) -> (u64, Flaw) {
        self.stage = Stage::Lost;
        self.begun = Vec::new();
        (self.count, flaw)
    }

    fn skip_empty_lines<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let begin = bytes.iter().position(|byte| !matches!(byte, b'\r' | b'\n'));
        let Some(begin) = begin else { return &[] };
        self.stage = Stage::Head;
        &bytes[begin..]
    }

    fn head<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], Flaw> {
        if self.begun.is_empty()
            && let Some(end) = head_end(bytes, 0)
        {
            self.whole(&bytes[..end])?;
            return Ok(&bytes[end..]);
        }
        let before = self.begun.len();
        self.begun.extend_from_slice(bytes);
        // The empty line may have begun in the bytes before.
        let Some(end) = head_end(&self.begun, before.saturating_sub(3)) else {
            if self.begun.len() > self.max_bytes {
                self.stage = Stage::Lost;
            }
            return Ok(&[]);
        };
        let begun = std::mem::take(&mut self.begun);
        self.whole(&begun[..end])?;
        Ok(&bytes[end - before..])
    }

    /// Takes a head that has come whole.
    fn whole(&mut self, head: &[u8]) -> Result<(), Flaw> {
        self.count += 1;
        self.stage = framing(head)?;
        Ok(())
    }

    fn body<'a>(&mut self, left: u64, then: Then, bytes: &'a [u8]) -> &'a [u8] {
        let here = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
        let left = left - here as u64;
        self.stage = match then {
            _ if left > 0 => Stage::Body { left, then },
            Then::Request => Stage::Between,
            Then::Chunk => CHUNK,
        };
        &bytes[here..]
    }

    fn size<'a>(&mut self, size: u64, digits: u8, at: SizePart, bytes: &'a [u8]) -> &'a [u8] {
        let (first, rest) = (bytes[0], &bytes[1..]);
        let digit = char::from(first).to_digit(16).filter(|_| at == SizePart::Digits);
        // As hyper has it: a line ends with CR LF and has neither alone.
        self.stage = match (first, digit) {
            (_, Some(_)) if digits == MAX_DIGITS => Stage::Lost,
            (_, Some(digit)) => {
                Stage::Size { size: size << 4 | u64::from(digit), digits: digits + 1, at }
            }
            (b'\n', _) if at == SizePart::End && size == 0 => Stage::Trailers { line: Line::Empty },
            (b'\n', _) if at == SizePart::End => match size.checked_add(2) {
                Some(left) => Stage::Body { left, then: Then::Chunk },
                None => Stage::Lost,
            },
            (b'\n', _) => Stage::Lost,
            _ if digits == 0 || at == SizePart::End => Stage::Lost,
            (b'\r', _) => Stage::Size { size, digits, at: SizePart::End },
            _ => Stage::Size { size, digits, at: SizePart::Rest },
        };
        rest
    }

    fn trailers<'a>(&mut self, line: Line, bytes: &'a [u8]) -> &'a [u8] {
        let line = match (bytes[0], line) {
            (b'\n', Line::EmptyEnd) => {
                self.stage = Stage::Between;
                return &bytes[1..];
            }
            (b'\n', Line::FilledEnd) => Some(Line::Empty),
            (b'\n', _) | (_, Line::EmptyEnd | Line::FilledEnd) => None,
            (b'\r', Line::Empty) => Some(Line::EmptyEnd),
            (b'\r', Line::Filled) => Some(Line::FilledEnd),
            (_, Line::Empty | Line::Filled) => Some(Line::Filled),
        };
        self.stage = line.map_or(Stage::Lost, |line| Stage::Trailers { line });
        &bytes[1..]
    }
}

/// Returns where a head ends, with its empty line; `from` is where to begin to look.
pub(super) fn head_end(bytes: &[u8], from: usize) -> Option<usize> {
    memchr_iter(b'\n', &bytes[from..]).find_map(|at| {
        let next = from + at + 1;
        match bytes[next..] {
            [b'\n', ..] => Some(next + 1),
            [b'\r', b'\n', ..] => Some(next + 2),
            _ => None,
        }
    })
}

/// Returns what follows a head.
fn framing(head: &[u8]) -> Result<Stage, Flaw> {
    let mut length = None;
    let mut is_coded = false;
    for field in fields(head) {
        if field.get(LENGTH.len()) == Some(&b':')
            && field[..LENGTH.len()].eq_ignore_ascii_case(LENGTH)
        {
            if length.is_some() {
                return Err(Flaw::RepeatedLength);
            }
            length = Some(&field[LENGTH.len() + 1..]);
        } else if field.get(CODING.len()) == Some(&b':')
            && field[..CODING.len()].eq_ignore_ascii_case(CODING)
        {
            is_coded = true;
        }
    }
    match (length, is_coded) {
        (Some(_), true) => Err(Flaw::LengthAndCoding),
        (None, true) => Ok(CHUNK),
        (None, false) => Ok(Stage::Between),
        (Some(length), false) => {
            let length = str::from_utf8(length.trim_ascii()).ok();
            let digits = length.filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
            Ok(match digits.and_then(|text| text.parse().ok()) {
                Some(0) => Stage::Between,
                Some(left) => Stage::Body { left, then: Then::Request },
                None => Stage::Lost,
            })
        }
    }
}

/// Returns the lines after the request line.
fn fields(head: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut ends = memchr_iter(b'\n', head);
    let mut begin = ends.next().map_or(head.len(), |end| end + 1);
    ends.map(move |end| &head[std::mem::replace(&mut begin, end + 1)..end])
}

const LENGTH: &[u8] = b"content-length";
const CODING: &[u8] = b"transfer-encoding";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Follows `text` cut into pieces of `piece` bytes.
    fn follow(text: &str, piece: usize) -> (Option<(u64, Flaw)>, u64, bool) {
        let mut heads = Heads::new(1 << 10);
        let flaw = text.as_bytes().chunks(piece).find_map(|bytes| heads.advance(bytes));
        (flaw, heads.count(), heads.is_within())
    }

    /// Checks what is found, however the bytes come.
    #[track_caller]
    fn check(text: &str, expected: Option<(u64, Flaw)>, count: u64, is_within: bool) {
        for piece in 1..=text.len() {
            let found = follow(text, piece);
            assert_eq!(found, (expected, count, is_within), "{text:?} in pieces of {piece}");
        }
    }

    #[test]
    fn requests_are_told_from_their_bodies() {
        check("GET / HTTP/1.1\r\nHost: a\r\n\r\n", None, 1, false);
        check("\r\n\nGET / HTTP/1.1\nHost: a\n\nGET", None, 1, true);
        check(
            "POST / HTTP/1.1\r\nContent-Length: 4\r\n\r\nG\r\n\r\nGET / HTTP/1.1\r\n\r\n",
            None,
            2,
            false,
        );
        check("POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\nX", None, 1, true);
        check(
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\na;x=\"0\"\r\n0123456789\r\n1 \r\n\n\r\n00\r\nx: y\r\n\r\nGET / HTTP/1.1\r\n\r\n",
            None,
            2,
            false,
        );
        check(
            "POST / HTTP/1.1\r\nX-Content-Length: 9\r\nContent-Lengths: 9\r\n\r\nX",
            None,
            1,
            true,
        );
    }

    #[test]
    fn what_hyper_settles_in_silence_is_told() {
        const BOTH: Option<(u64, Flaw)> = Some((1, Flaw::LengthAndCoding));
        check(
            "POST / HTTP/1.1\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n",
            BOTH,
            1,
            false,
        );
        check(
            "POST / HTTP/1.1\r\nTRANSFER-ENCODING: chunked\r\ncontent-LENGTH: 4\r\n\r\n",
            BOTH,
            1,
            false,
        );
        let twice = "GET / HTTP/1.1\r\n\r\nPOST / HTTP/1.1\r\nContent-Length: 4\r\nContent-Length: 4\r\n\r\n";
        check(twice, Some((2, Flaw::RepeatedLength)), 2, false);
    }

    #[test]
    fn what_is_not_understood_is_not_trusted() {
        for framing in [
            "Content-Length: +4\r\n\r\n",
            "Content-Length: 4, 4\r\n\r\n",
            "Content-Length: 99999999999999999999\r\n\r\n",
            "Transfer-Encoding: chunked\r\n\r\n\r\n",
            "Transfer-Encoding: chunked\r\n\r\n-1\r\n",
            "Transfer-Encoding: chunked\r\n\r\n00000000000000001\r\n",
            "Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
            "Transfer-Encoding: chunked\r\n\r\n1\nx\r\n",
            "Transfer-Encoding: chunked\r\n\r\n1;x\ry\r\n",
            "Transfer-Encoding: chunked\r\n\r\n0\r\n\nGET / HTTP/1.1\r\n\r\n",
            "Transfer-Encoding: chunked\r\n\r\n0\r\nx: y\n\r\n",
        ] {
            check(&format!("POST / HTTP/1.1\r\n{framing}"), Some((2, Flaw::Framing)), 2, false);
        }
        let endless = format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(2 << 10));
        assert_eq!(follow(&endless, 7).0, Some((1, Flaw::Framing)));
    }

    proptest! {
        #[test]
        fn any_bytes_are_followed_alike_however_they_come(
            bytes in "(GET / HTTP/1.1|Content-Length: 3|Transfer-Encoding: chunked|\r\n|\n|[0-9a-f;]|xyz){0,30}",
            piece in 1_usize..20,
        ) {
            prop_assert_eq!(follow(&bytes, piece), follow(&bytes, bytes.len().max(1)));
        }
    }
}
