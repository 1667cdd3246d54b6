//! Numbers as they lie in the file: LEB128 varints, zigzag for signed ones, and a cursor that never reads past its end.

use bytes::{Buf as _, Bytes};

/// Reads fields off the front of a byte slice that shares its memory.
#[derive(Clone, Debug)]
pub(crate) struct Cursor {
    bytes: Bytes,
}

/// The bytes ended in the middle of a field, or a number does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Malformed(pub(crate) &'static str);

/// Most elements that are reserved ahead on the word of a file.
pub(crate) const RESERVE: usize = 1 << 12;

/// Appends `value` as a varint: seven bits a byte, lowest first, high bit set on all but the last.
pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(low_byte(value) | 0x80);
        value >>= 7;
    }
    out.push(low_byte(value));
}

/// Appends `value` as a zigzag varint: 0, -1, 1, -2, ... become 0, 1, 2, 3, ...
pub(crate) fn put_zigzag(out: &mut Vec<u8>, value: i64) {
    put_varint(out, ((value << 1) ^ (value >> 63)).cast_unsigned());
}

/// Returns the two's complement of a zigzag number.
pub(crate) fn unzigzag(value: u64) -> u64 {
    (value >> 1) ^ 0_u64.wrapping_sub(value & 1)
}

/// Returns a length as a number of the file.
pub(crate) fn len_u64(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

/// Returns a number of the file as a length; one that does not fit is too long for any limit.
pub(crate) fn to_len(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

fn low_byte(value: u64) -> u8 {
    value.to_le_bytes()[0]
}

// === impl Cursor ===

impl Cursor {
    pub(crate) fn new(bytes: Bytes) -> Self {
        Self { bytes }
    }

    pub(crate) fn remaining(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Takes the next `len` bytes without copying them.
    pub(crate) fn take(&mut self, len: usize) -> Result<Bytes, Malformed> {
        if len > self.bytes.len() {
            return Err(Malformed("a field is longer than its record"));
        }
        Ok(self.bytes.split_to(len))
    }

    /// Returns all that is left without taking it.
    pub(crate) fn peek(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Malformed> {
        let first = *self.bytes.first().ok_or(Malformed("a record ends in a field"))?;
        self.bytes.advance(1);
        Ok(first)
    }

    pub(crate) fn varint(&mut self) -> Result<u64, Malformed> {
        let (value, used) = read_varint(&self.bytes)?;
        self.bytes.advance(used);
        Ok(value)
    }

    pub(crate) fn zigzag(&mut self) -> Result<i64, Malformed> {
        Ok(unzigzag(self.varint()?).cast_signed())
    }

    /// Takes a count of things of at least one byte each, so that it can't exceed what is left.
    pub(crate) fn count(&mut self) -> Result<usize, Malformed> {
        let count = to_len(self.varint()?);
        if count > self.remaining() {
            return Err(Malformed("a count exceeds its record"));
        }
        Ok(count)
    }

    /// Takes `count` varints.
    pub(crate) fn varints(&mut self, count: usize) -> Result<Vec<u64>, Malformed> {
        if count > self.remaining() {
            return Err(Malformed("a column is longer than its record"));
        }
        let mut values = Vec::with_capacity(count);
        let mut at = 0;
        for _ in 0..count {
            let (value, used) = read_varint(&self.bytes[at..])?;
            values.push(value);
            at += used;
        }
        self.bytes.advance(at);
        Ok(values)
    }
}

/// Reads a varint off the front and returns it with its length.
fn read_varint(bytes: &[u8]) -> Result<(u64, usize), Malformed> {
    let mut value = 0_u64;
    for (idx, &byte) in bytes.iter().enumerate().take(10) {
        let bits = u64::from(byte & 0x7F);
        if idx == 9 && bits > 1 {
            break;
        }
        value |= bits << (7 * idx);
        if byte & 0x80 == 0 {
            return Ok((value, idx + 1));
        }
    }
    Err(Malformed(if bytes.len() < 10 {
        "a record ends in a number"
    } else {
        "a number is too long"
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(value: u64, bytes: &[u8]) {
        let mut out = Vec::new();
        put_varint(&mut out, value);
        assert_eq!(out, bytes);
        assert_eq!(Cursor::new(out.into()).varint(), Ok(value));
    }

    #[test]
    fn varints_as_in_the_specification() {
        check(0, &[0]);
        check(127, &[0x7F]);
        check(128, &[0x80, 1]);
        check(300, &[0xAC, 2]);
        check(u64::MAX, &[0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1]);
    }

    #[test]
    fn signed_numbers_keep_their_sign() {
        for value in [0, -1, 1, i64::MIN, i64::MAX, -300] {
            let mut out = Vec::new();
            put_zigzag(&mut out, value);
            assert_eq!(Cursor::new(out.into()).zigzag(), Ok(value));
        }
    }

    #[test]
    fn what_is_cut_or_too_long_is_an_error() {
        let take = |bytes: &'static [u8]| Cursor::new(Bytes::from_static(bytes));
        assert!(take(&[0x80]).varint().is_err());
        assert!(take(&[0xFF; 11]).varint().is_err());
        assert!(take(&[0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 2]).varint().is_err());
        assert!(take(&[5, 1, 2]).count().is_err());
        assert!(take(&[1, 2]).take(3).is_err());
        assert!(take(&[1, 2]).varints(3).is_err());
    }
}
