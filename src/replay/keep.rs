//! How a response is kept until its row is written: in copies, where it is small.
//!
//! By reference, a head or a small frame would keep the whole buffer that it was read into: a stream that comes token by token
//! 8 KiB for each token, and some thousand answers that wait to be written 50 MB. The connection could not use that buffer
//! again either, so that a page would be touched anew for each read, which costs more than the copy.

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue};

use crate::http::body::COPY_UP_TO;

/// Keeps the frames of one body.
#[derive(Debug, Default)]
pub(super) struct Keeper {
    /// Where small frames go; what is full is held by the frames in it.
    room: BytesMut,
    /// Bytes that were copied.
    copied: usize,
}

/// Room that is made at once for the small frames of a body, at most. It grows with the body.
const ROOM_MOST: usize = 8 << 10;

// === impl Keeper ===

impl Keeper {
    /// Returns what is kept of a frame: of a large one, which fills most of its buffer, a reference.
    pub(super) fn frame(&mut self, data: Bytes) -> Bytes {
        if data.len() > COPY_UP_TO {
            return data;
        }
        let copied = self.copied;
        self.copied += data.len();
        if copied == 0 {
            // Most likely the only one.
            return Bytes::copy_from_slice(&data);
        }
        if self.room.capacity() < data.len() {
            self.room = BytesMut::with_capacity(copied.clamp(data.len(), ROOM_MOST));
        }
        self.room.extend_from_slice(&data);
        self.room.split().freeze()
    }
}

/// Returns the fields of a head in a map that is no larger than they need, their values in one buffer of their own.
pub(super) fn head(headers: &HeaderMap) -> HeaderMap {
    let mut room = BytesMut::with_capacity(headers.values().map(HeaderValue::len).sum());
    let mut kept = HeaderMap::with_capacity(headers.len());
    for (name, value) in headers {
        room.extend_from_slice(value.as_bytes());
        // What was a value is one.
        if let Ok(mut copy) = HeaderValue::from_maybe_shared(room.split().freeze()) {
            copy.set_sensitive(value.is_sensitive());
            kept.append(name, copy);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns whether nobody but `buffer` holds its bytes.
    fn is_free(buffer: &Bytes) -> bool {
        buffer.is_unique()
    }

    #[test]
    fn small_frames_hold_no_buffer_and_large_ones_are_not_copied() {
        let buffer = Bytes::from((0..=255).cycle().take(64 << 10).collect::<Vec<u8>>());
        let mut keeper = Keeper::default();
        let sizes = [1, 0, 300, COPY_UP_TO, 7, 190, 5, COPY_UP_TO, COPY_UP_TO, 2];
        let mut at = 0;
        let kept: Vec<Bytes> = sizes
            .iter()
            .map(|size| {
                at += size;
                keeper.frame(buffer.slice(at - size..at))
            })
            .collect();
        assert!(is_free(&buffer));
        assert_eq!(kept.concat(), buffer[..at]);
        assert!(kept.iter().map(Bytes::len).eq(sizes));
        let large = keeper.frame(buffer.slice(..=COPY_UP_TO));
        assert_eq!(large.as_ptr(), buffer.as_ptr());
        assert!(!is_free(&buffer));
    }

    #[test]
    fn a_head_holds_no_buffer() {
        let buffer = Bytes::from_static(b"application/jsonreq-1\xe9a=1b=2").to_vec();
        let buffer = Bytes::from(buffer);
        let mut headers = HeaderMap::new();
        for (name, range) in [
            ("content-type", 0..16),
            ("x-request-id", 16..22),
            ("set-cookie", 22..25),
            ("set-cookie", 25..28),
        ] {
            headers.append(name, HeaderValue::from_maybe_shared(buffer.slice(range)).unwrap());
        }
        headers.get_mut("x-request-id").unwrap().set_sensitive(true);
        let kept = head(&headers);
        assert_eq!(kept, headers);
        assert!(kept["x-request-id"].is_sensitive() && !kept["content-type"].is_sensitive());
        drop(headers);
        assert!(is_free(&buffer));
        assert!(head(&HeaderMap::new()).is_empty());
    }
}
