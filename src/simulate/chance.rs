//! Chance that is the same everywhere: drawn from a hash of the seed and of what it is drawn for.

use blake3::{Hasher, OutputReader};

/// A stream of random numbers.
#[derive(Clone, Debug)]
pub(super) struct Chance {
    reader: OutputReader,
    block: [u8; 64],
    used: usize,
}

// === impl Chance ===

impl Chance {
    /// Returns the stream of `seed` for `purpose` and `subject`: other purposes of one subject are independent.
    pub(super) fn new(seed: u64, purpose: &str, subject: &[u8]) -> Self {
        let mut hasher = Hasher::new_derive_key(CONTEXT);
        hasher.update(&seed.to_le_bytes());
        hasher.update(&(purpose.len() as u64).to_le_bytes()).update(purpose.as_bytes());
        hasher.update(subject);
        Self { reader: hasher.finalize_xof(), block: [0; 64], used: 64 }
    }

    /// Returns a number of 32 random bits.
    pub(super) fn bits(&mut self) -> u32 {
        if self.used == self.block.len() {
            self.reader.fill(&mut self.block);
            self.used = 0;
        }
        let mut bits = [0; 4];
        bits.copy_from_slice(&self.block[self.used..self.used + 4]);
        self.used += 4;
        u32::from_le_bytes(bits)
    }

    /// Returns a number below `end` (0 for 0), evenly enough for ends far below 2^32.
    pub(super) fn below(&mut self, end: usize) -> usize {
        let scaled = u64::from(self.bits()).wrapping_mul(end as u64) >> 32;
        usize::try_from(scaled).unwrap_or(0)
    }

    /// Returns one of `choices`, which must not be empty.
    pub(super) fn pick<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len())]
    }

    /// Returns true `times` times in `of`.
    pub(super) fn one_in(&mut self, times: usize, of: usize) -> bool {
        self.below(of) < times
    }
}

const CONTEXT: &str = "reenact 2026-11 simulate";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_is_frozen_and_depends_on_all_it_is_made_of() {
        let draw = |seed, purpose, subject: &[u8]| {
            let mut chance = Chance::new(seed, purpose, subject);
            (0..40).map(|_| chance.below(1000)).collect::<Vec<_>>()
        };
        let first = draw(1, "text", b"a");
        assert_eq!(first, draw(1, "text", b"a"));
        for other in [draw(2, "text", b"a"), draw(1, "fault", b"a"), draw(1, "text", b"b")] {
            assert_ne!(first, other);
        }
        assert!(first.iter().all(|number| *number < 1000));
        assert_eq!(first[..4], [649, 923, 697, 760]);
    }
}
