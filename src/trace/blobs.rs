//! What a segment already holds: a table from a piece's digest to its blob's number, bounded in memory.

use std::collections::BTreeMap;

/// Numbers blobs, each different piece once as long as it is remembered.
///
/// The table keeps two generations: when the young one is full, the old one is forgotten wholesale. A piece that is
/// seen again stays young. A forgotten piece is only stored once more.
#[derive(Debug)]
pub(crate) struct BlobTable {
    young: BTreeMap<Key, u64>,
    old: BTreeMap<Key, u64>,
    /// Entries of a generation.
    capacity: usize,
    next: u64,
}

/// Half a BLAKE3 digest, and whether the piece is decoded base64.
type Key = ([u8; 16], bool);

/// Where a piece is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lookup {
    /// In the segment already.
    Known(u64),
    /// Not yet: the caller stores it under this number.
    New(u64),
}

// === impl BlobTable ===

impl BlobTable {
    /// Makes a table of at most `entries` entries.
    pub(crate) fn new(entries: usize) -> Self {
        Self {
            young: BTreeMap::new(),
            old: BTreeMap::new(),
            capacity: (entries / 2).max(1),
            next: 0,
        }
    }

    /// Returns the number that the next new blob will get.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// Looks a piece up and numbers it if it is new.
    pub(crate) fn lookup(&mut self, base64: bool, bytes: &[u8]) -> Lookup {
        let mut digest = [0; 16];
        digest.copy_from_slice(&blake3::hash(bytes).as_bytes()[..16]);
        let key = (digest, base64);
        if let Some(&id) = self.young.get(&key) {
            return Lookup::Known(id);
        }
        if self.young.len() >= self.capacity {
            self.old = std::mem::take(&mut self.young);
        }
        let known = self.old.get(&key).copied();
        let id = known.unwrap_or(self.next);
        self.young.insert(key, id);
        if known.is_some() {
            return Lookup::Known(id);
        }
        self.next += 1;
        Lookup::New(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_pieces_get_one_number() {
        let mut table = BlobTable::new(100);
        assert_eq!(table.lookup(false, b"a"), Lookup::New(0));
        assert_eq!(table.lookup(false, b"b"), Lookup::New(1));
        assert_eq!(table.lookup(false, b"a"), Lookup::Known(0));
        assert_eq!(
            table.lookup(true, b"a"),
            Lookup::New(2),
            "the same bytes in base64 are another piece"
        );
    }

    #[test]
    fn memory_is_bounded_and_what_is_used_stays() {
        let mut table = BlobTable::new(20);
        assert_eq!(table.lookup(false, b"kept"), Lookup::New(0));
        for n in 0..100_u32 {
            table.lookup(false, &n.to_le_bytes());
            assert_eq!(table.lookup(false, b"kept"), Lookup::Known(0));
            assert!(table.young.len() + table.old.len() <= 20);
        }
        assert_eq!(
            table.lookup(false, &0_u32.to_le_bytes()),
            Lookup::New(101),
            "forgotten, stored again"
        );
    }
}
