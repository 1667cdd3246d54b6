//! Numbers that follow from a key and a text, and from nothing else.

/// A sequence of numbers.
pub(super) struct Draw {
    source: blake3::OutputReader,
    /// Of the source's, whose every read costs as much as one of all of these.
    block: [u8; BLOCK],
    /// How many of these are used.
    used: usize,
}

/// Bytes that are drawn at once.
const BLOCK: usize = 64;

impl Draw {
    /// Makes the sequence of `parts`, one after the other, under `key`.
    pub(super) fn new(key: &[u8; 32], parts: &[&[u8]]) -> Self {
        let mut hasher = blake3::Hasher::new_keyed(key);
        for part in parts {
            hasher.update(part);
        }
        Self { source: hasher.finalize_xof(), block: [0; BLOCK], used: BLOCK }
    }

    /// Fills `bytes`.
    pub(super) fn fill(&mut self, bytes: &mut [u8]) {
        let (front, rest) = bytes.split_at_mut(bytes.len().min(BLOCK - self.used));
        front.copy_from_slice(&self.block[self.used..self.used + front.len()]);
        self.used += front.len();
        if rest.is_empty() {
            return;
        }
        let (whole, last) = rest.split_at_mut(rest.len() / BLOCK * BLOCK);
        self.source.fill(whole);
        if !last.is_empty() {
            self.source.fill(&mut self.block);
            last.copy_from_slice(&self.block[..last.len()]);
            self.used = last.len();
        }
    }

    /// Returns the next number below `limit`, which is not 0 and far below 2^32: that some numbers come more often by a
    /// billionth is nothing here.
    pub(super) fn below(&mut self, limit: usize) -> usize {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        let drawn = u64::from_le_bytes(bytes) % (limit.max(1) as u64);
        usize::try_from(drawn).unwrap_or(0)
    }

    /// Fills `bytes` with letters and digits.
    pub(super) fn fill_plain(&mut self, bytes: &mut [u8]) {
        const PLAIN: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
        self.fill(bytes);
        for byte in bytes {
            *byte = PLAIN[usize::from(*byte % 32)];
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_drawn_does_not_depend_on_how(parts in prop::collection::vec(0..200_usize, 0..6)) {
            let mut whole = vec![0; parts.iter().sum()];
            blake3::Hasher::new_keyed(&[1; 32]).update(b"ab").finalize_xof().fill(&mut whole);
            let (mut draw, mut drawn) = (Draw::new(&[1; 32], &[b"a", b"b"]), Vec::new());
            for part in parts {
                let mut bytes = vec![0; part];
                draw.fill(&mut bytes);
                drawn.extend(bytes);
            }
            prop_assert_eq!(drawn, whole);
        }
    }
}
