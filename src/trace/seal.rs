//! The data key of an encrypted segment, and what is done with it: payloads are sealed and opened.
//!
//! Each segment has a random key of its own, used for nothing else, so a nonce need be unique in its segment only: it is the
//! block's number. The number, and the block's front as associated data, bind a payload to its place; one that was
//! changed, moved or taken from another segment does not open.

use std::fmt;
use std::io;
use std::sync::Arc;

use chacha20poly1305::aead::AeadInPlace as _;
use chacha20poly1305::{ChaCha20Poly1305, Key, KeyInit as _, Nonce, Tag};
use rand::TryRng as _;
use rand::rngs::SysRng;
use zeroize::Zeroizing;

use crate::trace::format::{BLOCK_FRONT_LEN, BlockHeader};

/// The data key of one segment. It is zeroed when dropped.
pub(crate) struct DataKey {
    cipher: ChaCha20Poly1305,
}

/// Seals the payloads of a segment's blocks, in order.
#[derive(Debug)]
pub(crate) struct Sealer {
    key: DataKey,
    /// Number of the next block.
    next: u64,
}

/// Opens the payloads of a segment's blocks, in order, and notices when some are left out.
#[derive(Debug)]
pub(crate) struct Opener {
    key: Arc<DataKey>,
    /// Least number that the next block may have; none when nothing is known of the blocks before.
    next: Option<u64>,
    /// Numbers left out before the last block.
    skipped: u64,
}

/// Bytes of a data key.
pub(crate) const KEY_LEN: usize = 32;
/// Bytes of an authentication tag.
const TAG_LEN: usize = 16;
/// Bytes of a block's number, in the clear before what is sealed.
const NUMBER_LEN: usize = 8;
/// Bytes that sealing adds to a block's payload.
const SEAL_LEN: usize = NUMBER_LEN + TAG_LEN;
/// Bytes of a sealed offset, which the tail holds.
pub(crate) const SEALED_OFFSET_LEN: usize = 8 + TAG_LEN;

/// What a nonce is for.
#[derive(Clone, Copy, Debug)]
#[repr(u32)]
enum Kind {
    Block = 0,
    Tail = 1,
}

/// Returns the bytes of a new data key.
pub(crate) fn random_key() -> io::Result<Zeroizing<[u8; KEY_LEN]>> {
    let mut bytes = Zeroizing::new([0; KEY_LEN]);
    SysRng.try_fill_bytes(&mut bytes[..]).map_err(io::Error::other)?;
    Ok(bytes)
}

// === impl DataKey ===

impl DataKey {
    pub(crate) fn new(bytes: &[u8; KEY_LEN]) -> Self {
        Self { cipher: ChaCha20Poly1305::new(Key::from_slice(bytes)) }
    }

    /// Returns the payload of block `number`: the number, `plain` sealed, the tag. `front` is the block's, which already
    /// says how long that is.
    fn seal(
        &self,
        number: u64,
        front: &[u8; BLOCK_FRONT_LEN],
        plain: &[u8],
    ) -> io::Result<Vec<u8>> {
        let mut payload = Vec::with_capacity(plain.len() + SEAL_LEN);
        payload.extend_from_slice(&number.to_le_bytes());
        payload.extend_from_slice(plain);
        let tag = self
            .cipher
            .encrypt_in_place_detached(
                &nonce(Kind::Block, number),
                front,
                &mut payload[NUMBER_LEN..],
            )
            .map_err(|_| io::Error::other("a block is too long to be encrypted"))?;
        payload.extend_from_slice(&tag);
        Ok(payload)
    }

    /// Returns what a block's payload holds; none unless it was sealed with this key, number and front.
    fn open(&self, front: &[u8; BLOCK_FRONT_LEN], payload: &[u8]) -> Option<Vec<u8>> {
        let (number, rest) = payload.split_first_chunk()?;
        let (sealed, tag) = rest.split_last_chunk::<TAG_LEN>()?;
        let number = u64::from_le_bytes(*number);
        let mut plain = sealed.to_vec();
        self.cipher
            .decrypt_in_place_detached(
                &nonce(Kind::Block, number),
                front,
                &mut plain,
                Tag::from_slice(tag),
            )
            .ok()?;
        Some(plain)
    }

    /// Seals the offset that the tail holds.
    pub(crate) fn seal_offset(&self, offset: u64) -> io::Result<[u8; SEALED_OFFSET_LEN]> {
        let mut sealed = [0; SEALED_OFFSET_LEN];
        let (bytes, tag) = sealed.split_at_mut(8);
        bytes.copy_from_slice(&offset.to_le_bytes());
        let made = self
            .cipher
            .encrypt_in_place_detached(&nonce(Kind::Tail, 0), b"", bytes)
            .map_err(|_| io::Error::other("the tail can't be encrypted"))?;
        tag.copy_from_slice(&made);
        Ok(sealed)
    }

    /// Returns the offset that a tail holds; none unless it was sealed with this key.
    pub(crate) fn open_offset(&self, sealed: &[u8; SEALED_OFFSET_LEN]) -> Option<u64> {
        let (bytes, tag) = sealed.split_first_chunk::<8>()?;
        let mut offset = *bytes;
        self.cipher
            .decrypt_in_place_detached(
                &nonce(Kind::Tail, 0),
                b"",
                &mut offset,
                Tag::from_slice(tag),
            )
            .ok()?;
        Some(u64::from_le_bytes(offset))
    }
}

// === impl Sealer ===

impl Sealer {
    pub(crate) fn new(key: DataKey) -> Self {
        Self { key, next: 0 }
    }

    /// Seals what the next block holds, `raw` bytes before compression.
    pub(crate) fn seal(&mut self, plain: &[u8], raw: u32, starts: bool) -> io::Result<Vec<u8>> {
        let stored = u32::try_from(plain.len() + SEAL_LEN).map_err(io::Error::other)?;
        let front = BlockHeader { starts, stored, raw, crc: 0 }.front();
        let number = self.next;
        // Never again the same, whatever becomes of the block.
        self.next += 1;
        self.key.seal(number, &front, plain)
    }

    /// Seals the offset that the tail holds. A segment has one tail.
    pub(crate) fn seal_offset(&self, offset: u64) -> io::Result<[u8; SEALED_OFFSET_LEN]> {
        self.key.seal_offset(offset)
    }
}

// === impl Opener ===

impl Opener {
    /// Makes an opener for a segment from its first block.
    pub(crate) fn new(key: Arc<DataKey>) -> Self {
        Self { key, next: Some(0), skipped: 0 }
    }

    /// Makes an opener for a segment from a block that begins a zstd frame.
    pub(crate) fn anywhere(key: Arc<DataKey>) -> Self {
        Self { key, next: None, skipped: 0 }
    }

    /// Returns what a block's payload holds, or what is wrong with it.
    pub(crate) fn open(
        &mut self,
        header: BlockHeader,
        payload: &[u8],
    ) -> Result<Vec<u8>, &'static str> {
        let plain = self.key.open(&header.front(), payload);
        let plain = plain.ok_or("a block was changed, or is another segment's")?;
        // It opened, so it has one.
        let number = payload.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        let least = self.next.unwrap_or(number);
        if number < least || (number > least && !header.starts) {
            return Err("a block is repeated or out of order");
        }
        self.skipped = number - least;
        self.next = number.checked_add(1);
        Ok(plain)
    }

    /// Returns how many numbers were left out before the last block.
    pub(crate) fn take_skipped(&mut self) -> u64 {
        std::mem::take(&mut self.skipped)
    }

    /// Returns whether this is the sealed part of the segment's tail.
    pub(crate) fn is_tail(&self, sealed: &[u8; SEALED_OFFSET_LEN]) -> bool {
        self.key.open_offset(sealed).is_some()
    }
}

impl fmt::Debug for DataKey {
    /// Leaves the key out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DataKey").finish_non_exhaustive()
    }
}

fn nonce(kind: Kind, number: u64) -> Nonce {
    let mut nonce = Nonce::default();
    nonce[..4].copy_from_slice(&(kind as u32).to_le_bytes());
    nonce[4..].copy_from_slice(&number.to_le_bytes());
    nonce
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRONT: [u8; BLOCK_FRONT_LEN] = *b"\xB7RNB********";

    #[test]
    fn what_is_sealed_opens_in_its_place_only() {
        let key = DataKey::new(&[7; KEY_LEN]);
        let payload = key.seal(3, &FRONT, b"plain words").unwrap();
        assert_eq!(payload.len(), b"plain words".len() + SEAL_LEN);
        assert_eq!(payload[..NUMBER_LEN], 3_u64.to_le_bytes());
        assert!(!payload.windows(5).any(|part| part == b"plain" || part == b"words"));
        assert_eq!(key.open(&FRONT, &payload).as_deref(), Some(&b"plain words"[..]));

        assert_eq!(DataKey::new(&[8; KEY_LEN]).open(&FRONT, &payload), None, "another key");
        let mut front = FRONT;
        front[9] ^= 1;
        assert_eq!(key.open(&front, &payload), None, "another front");
        for at in 0..payload.len() {
            let mut changed = payload.clone();
            changed[at] ^= 1;
            assert_eq!(key.open(&FRONT, &changed), None, "changed at {at}");
            assert_eq!(key.open(&FRONT, &payload[..at]), None, "cut at {at}");
        }
    }

    #[test]
    fn no_two_payloads_share_a_key_stream() {
        let key = DataKey::new(&[7; KEY_LEN]);
        let [one, two] = [0, 1].map(|number| key.seal(number, &FRONT, &[0; 64]).unwrap());
        assert_ne!(one[NUMBER_LEN..], two[NUMBER_LEN..]);
        assert_ne!(one[NUMBER_LEN..][..8], key.seal_offset(0).unwrap()[..8]);
        assert_ne!(random_key().unwrap(), random_key().unwrap());
    }

    #[test]
    fn the_tail_opens_with_its_key_only() {
        let key = DataKey::new(&[7; KEY_LEN]);
        let sealed = key.seal_offset(123_456).unwrap();
        assert_eq!(key.open_offset(&sealed), Some(123_456));
        assert_eq!(DataKey::new(&[8; KEY_LEN]).open_offset(&sealed), None);
        for at in 0..sealed.len() {
            let mut changed = sealed;
            changed[at] ^= 0x80;
            assert_eq!(key.open_offset(&changed), None, "changed at {at}");
        }
    }

    #[test]
    fn the_cipher_is_the_one_of_rfc_8439() {
        // Section 2.8.2 of the RFC has the nonce 07 00 00 00 40 41 .. 47, which is no nonce of ours, so: its algorithm
        // with our nonces, as `cryptography.hazmat.primitives.ciphers.aead.ChaCha20Poly1305` computes it.
        let key = DataKey::new(&std::array::from_fn(|n| u8::try_from(n).unwrap()));
        let sealed = key.seal_offset(0x0807_0605_0403_0201).unwrap();
        assert_eq!(sealed, TAIL_BY_ANOTHER_PROGRAM);
    }

    const TAIL_BY_ANOTHER_PROGRAM: [u8; SEALED_OFFSET_LEN] = [
        149, 61, 120, 234, 193, 229, 155, 34, 80, 151, 173, 31, 185, 135, 59, 251, 141, 23, 193,
        30, 201, 47, 9, 255,
    ];

    #[test]
    fn debug_output_holds_no_key() {
        assert_eq!(format!("{:?}", DataKey::new(&[7; KEY_LEN])), "DataKey { .. }");
    }
}
