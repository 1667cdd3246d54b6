//! Numbers that follow from a key and a text, and from nothing else.

/// A sequence of numbers.
pub(super) struct Draw(blake3::OutputReader);

impl Draw {
    /// Makes the sequence of `parts`, one after the other, under `key`.
    pub(super) fn new(key: &[u8; 32], parts: &[&[u8]]) -> Self {
        let mut hasher = blake3::Hasher::new_keyed(key);
        for part in parts {
            hasher.update(part);
        }
        Self(hasher.finalize_xof())
    }

    /// Fills `bytes`.
    pub(super) fn fill(&mut self, bytes: &mut [u8]) {
        self.0.fill(bytes);
    }

    /// Returns the next number below `limit`, which is not 0 and far below 2^32: that some numbers come more often by a
    /// billionth is nothing here.
    pub(super) fn below(&mut self, limit: usize) -> usize {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        let drawn = u64::from_le_bytes(bytes) % (limit.max(1) as u64);
        usize::try_from(drawn).unwrap_or(0)
    }

    /// Fills `bytes` with letters and digits.
    pub(super) fn fill_plain(&mut self, bytes: &mut [u8]) {
        const PLAIN: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
        self.0.fill(bytes);
        for byte in bytes {
            *byte = PLAIN[usize::from(*byte % 32)];
        }
    }
}
