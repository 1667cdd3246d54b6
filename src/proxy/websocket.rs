//! Cuts what passes a WebSocket at the bounds of its frames (RFC 6455, 5.2).
//!
//! The bytes themselves go their way as they come; this is for the record, where each message is to be a frame with its
//! times (a message in fragments: a frame for each). Bytes in, pieces out, no sockets. What is no WebSocket, whatever the
//! upgrade said, is recorded in the pieces in which it came.

use bytes::{Bytes, BytesMut};

use crate::trace::record::Side;

/// Cuts what one side sends.
#[derive(Debug)]
pub struct Cutter {
    /// Whether this side must mask its frames: the client must, and the server must not.
    masks: bool,
    stage: Stage,
    /// The beginning of a frame that has not come whole.
    held: BytesMut,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Within a frame's header.
    Header,
    /// Within a frame of this many bytes in all, held until it is whole.
    Frame(u64),
    /// Within a frame that is too large to hold: so much of it is still to come.
    Large(u64),
    /// This is no WebSocket.
    Unknown,
}

/// What the first bytes of a frame say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Header {
    /// More bytes are needed.
    Partial,
    /// The whole frame has so many bytes.
    Frame(u64),
    /// No frame begins so.
    Bad,
}

/// Longest frame that is put together from the pieces in which it came; a longer one is recorded in these.
const MAX_HELD: u64 = 1 << 20;
/// Longest header: two bytes, a length of eight, a mask of four.
const MAX_HEADER: usize = 14;

// === impl Cutter ===

impl Cutter {
    /// Cuts what `side` sends, from its first byte after the upgrade.
    #[must_use]
    pub fn new(side: Side) -> Self {
        Self { masks: side == Side::Request, stage: Stage::Header, held: BytesMut::new() }
    }

    /// Takes the bytes that came next and hands over what is whole with them, in order.
    pub fn push(&mut self, mut bytes: Bytes, mut pass: impl FnMut(Bytes)) {
        while !bytes.is_empty() {
            match self.stage {
                Stage::Header => self.header(&mut bytes, &mut pass),
                Stage::Frame(length) => self.frame(length, &mut bytes, &mut pass),
                Stage::Large(left) => self.large(left, &mut bytes, &mut pass),
                Stage::Unknown => return pass(bytes),
            }
        }
    }

    /// Hands over what is left at the end.
    #[must_use]
    pub fn finish(&mut self) -> Option<Bytes> {
        let held = self.held.split().freeze();
        (!held.is_empty()).then_some(held)
    }

    fn header(&mut self, bytes: &mut Bytes, pass: &mut impl FnMut(Bytes)) {
        let mut begun = [0; MAX_HEADER];
        let (held, fresh) = (self.held.len(), bytes.len().min(MAX_HEADER - self.held.len()));
        begun[..held].copy_from_slice(&self.held);
        begun[held..held + fresh].copy_from_slice(&bytes[..fresh]);
        let read = read_header(&begun[..held + fresh], self.masks);
        match read {
            Header::Partial => self.held.extend_from_slice(&bytes.split_off(0)),
            Header::Frame(length) if length > MAX_HELD => {
                let held = self.finish();
                self.stage =
                    Stage::Large(length - held.as_ref().map_or(0, |held| held.len() as u64));
                held.into_iter().for_each(pass);
            }
            Header::Frame(length) => self.stage = Stage::Frame(length),
            Header::Bad => {
                self.finish().into_iter().for_each(pass);
                self.stage = Stage::Unknown;
            }
        }
    }

    fn frame(&mut self, length: u64, bytes: &mut Bytes, pass: &mut impl FnMut(Bytes)) {
        let missing = up_to(bytes, length - self.held.len() as u64);
        let piece = bytes.split_to(missing);
        if self.held.is_empty() && piece.len() as u64 == length {
            self.stage = Stage::Header;
            return pass(piece);
        }
        self.held.extend_from_slice(&piece);
        if self.held.len() as u64 == length {
            self.stage = Stage::Header;
            pass(self.held.split().freeze());
        }
    }

    fn large(&mut self, left: u64, bytes: &mut Bytes, pass: &mut impl FnMut(Bytes)) {
        let piece = bytes.split_to(up_to(bytes, left));
        let left = left - piece.len() as u64;
        self.stage = if left == 0 { Stage::Header } else { Stage::Large(left) };
        pass(piece);
    }
}

fn up_to(bytes: &Bytes, most: u64) -> usize {
    usize::try_from(most).unwrap_or(usize::MAX).min(bytes.len())
}

fn read_header(bytes: &[u8], masks: bool) -> Header {
    let [first, second, rest @ ..] = bytes else { return Header::Partial };
    let (is_last, opcode) = (first & 0x80 != 0, first & 0x0f);
    let (is_masked, short) = (second & 0x80 != 0, u64::from(second & 0x7f));
    // The first reserved bit is compression's (RFC 7692); the others are nobody's.
    let is_reserved = first & 0x30 != 0 || matches!(opcode, 3..=7 | 11..=15);
    let is_control = opcode >= 8;
    if is_reserved || is_masked != masks || is_control && (short > 125 || !is_last) {
        return Header::Bad;
    }
    let (length, width) = match (short, rest) {
        (126, [a, b, ..]) => (u64::from(u16::from_be_bytes([*a, *b])), 2),
        (127, [a, b, c, d, e, f, g, h, ..]) => {
            (u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]), 8)
        }
        (126 | 127, _) => return Header::Partial,
        _ => (short, 0),
    };
    let is_short_enough = match width {
        2 => length < 126,
        8 => length <= u64::from(u16::MAX),
        _ => false,
    };
    // The fewest bytes that hold it, and no sign (5.2).
    if is_short_enough || length > i64::MAX.unsigned_abs() - MAX_HEADER as u64 {
        return Header::Bad;
    }
    Header::Frame(2 + width + if masks { 4 } else { 0 } + length)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEXT: u8 = 0x81;
    const MORE: u8 = 0x01;
    const LAST: u8 = 0x80;
    const PING: u8 = 0x89;

    /// Writes a frame as `side` does.
    fn frame(side: Side, first: u8, payload: usize) -> Vec<u8> {
        let mask = if side == Side::Request { 0x80 } else { 0 };
        let mut bytes = vec![first];
        match payload {
            0..126 => bytes.push(mask | u8::try_from(payload).unwrap()),
            126..65_536 => {
                bytes.push(mask | 126);
                bytes.extend(u16::try_from(payload).unwrap().to_be_bytes());
            }
            _ => {
                bytes.push(mask | 127);
                bytes.extend((payload as u64).to_be_bytes());
            }
        }
        if mask != 0 {
            bytes.extend([1, 2, 3, 4]);
        }
        bytes.extend(std::iter::repeat_n(b'x', payload));
        bytes
    }

    /// Returns the lengths of the pieces that `bytes`, coming in reads of `read` bytes, are cut into.
    fn cut(side: Side, bytes: &[u8], read: usize) -> Vec<usize> {
        let mut cutter = Cutter::new(side);
        let mut pieces = Vec::new();
        for chunk in bytes.chunks(read) {
            cutter.push(Bytes::copy_from_slice(chunk), |piece| pieces.push(piece));
        }
        pieces.extend(cutter.finish());
        assert_eq!(pieces.concat(), bytes, "no byte is lost or changed");
        pieces.iter().map(Bytes::len).collect()
    }

    /// Checks that each frame is one piece, however the bytes come.
    #[track_caller]
    fn check(side: Side, frames: &[Vec<u8>]) {
        let bytes = frames.concat();
        let expected: Vec<_> = frames.iter().map(Vec::len).collect();
        for read in (1..40).chain([127, 1000, 16 << 10, bytes.len()]) {
            assert_eq!(cut(side, &bytes, read), expected, "{side:?} in reads of {read}");
        }
    }

    #[test]
    fn each_frame_is_a_piece_however_it_comes() {
        for side in [Side::Request, Side::Response] {
            let sizes = [0, 1, 125, 126, 127, 65_535, 65_536, 100_000, 3];
            let frames: Vec<_> = sizes.iter().map(|size| frame(side, TEXT, *size)).collect();
            check(side, &frames);
            // A message in fragments with a ping in between, and a compressed one.
            let fragments = [
                frame(side, MORE, 200),
                frame(side, PING, 5),
                frame(side, 0x00, 10),
                frame(side, LAST, 0),
                frame(side, 0xc1, 70),
            ];
            check(side, &fragments);
        }
    }

    #[test]
    fn a_frame_too_large_to_hold_is_cut_as_it_came_and_ends_where_it_ends() {
        let side = Side::Response;
        let large = frame(side, TEXT, 3 << 20);
        let bytes = [frame(side, TEXT, 5), large.clone(), frame(side, TEXT, 6)].concat();
        let pieces = cut(side, &bytes, 1 << 19);
        assert_eq!((pieces[0], *pieces.last().unwrap()), (7, 8));
        assert!(pieces[1..pieces.len() - 1].iter().all(|piece| *piece <= 1 << 19));
        // A header in pieces of its own.
        assert_eq!(cut(side, &large, 3)[..2], [9, 3]);
    }

    #[test]
    fn what_is_no_websocket_is_cut_as_it_came() {
        let response = Side::Response;
        for bad in [
            &b"\x83\x01x"[..],
            b"\xa1\x01x",
            b"\x91\x01x",
            b"\x81\x81....x",
            b"\x89\x7e\x00\x80",
            b"\x09\x01x",
            b"\x81\x7e\x00\x05xxxxx",
            b"\x81\x7f\x00\x00\x00\x00\x00\x00\xff\xff",
            b"\x81\x7f\xff\xff\xff\xff\xff\xff\xff\xff",
            b"SSH-2.0-x\r\n",
        ] {
            let bytes = [&frame(response, TEXT, 3), bad, &frame(response, TEXT, 3)].concat();
            assert_eq!(cut(response, &bytes, bytes.len()), [5, bytes.len() - 5], "{bad:?}");
        }
        // A client's frame is masked.
        assert_eq!(cut(Side::Request, &frame(response, TEXT, 30), 16), [16, 16]);
    }

    #[test]
    fn what_is_begun_at_the_end_is_not_lost() {
        assert_eq!(cut(Side::Response, &frame(Side::Response, TEXT, 10)[..7], 3), [7]);
        assert_eq!(cut(Side::Response, &[TEXT], 1), [1]);
    }

    proptest! {
        #[test]
        fn any_bytes_come_out_as_they_went_in(
            bytes in prop::collection::vec(any::<u8>(), 0..300),
            read in 1_usize..50,
        ) {
            cut(Side::Request, &bytes, read);
            cut(Side::Response, &bytes, read);
        }
    }
}
