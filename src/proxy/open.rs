//! The exchanges under way, so that the age of the oldest can be told.
//!
//! Each holds a slot with the time at which it began. Slots are claimed and freed without a lock or a search: a freed
//! one waits in a queue for the next, and when there is none, memory for as many slots as there were is added. It is
//! never given back, 8 bytes for each exchange of the busiest moment.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crossbeam_queue::SegQueue;

use crate::clock::Nanos;

/// When the exchanges under way began.
#[derive(Debug, Default)]
pub(super) struct Open {
    /// Doubling in size, the first of [`FIRST_SLOTS`]. A slot holds a time plus one, or 0 when it is free.
    rows: [OnceLock<Box<[AtomicU64]>>; ROWS],
    /// Slots that were ever claimed.
    used: AtomicUsize,
    free: SegQueue<usize>,
}

/// A claimed slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot(usize);

const FIRST_SLOTS: usize = 64;
/// Enough for two thousand million.
const ROWS: usize = 25;

// === impl Open ===

impl Open {
    /// Claims a slot for what began at `at`.
    pub(super) fn claim(&self, at: Nanos) -> Slot {
        let slot = self.free.pop().unwrap_or_else(|| self.used.fetch_add(1, Ordering::Relaxed));
        self.set(slot, at.0.saturating_add(1));
        Slot(slot)
    }

    /// Frees a slot: what held it is over.
    pub(super) fn release(&self, Slot(slot): Slot) {
        self.set(slot, 0);
        self.free.push(slot);
    }

    /// Returns when the oldest began; none when nothing is under way.
    pub(super) fn oldest(&self) -> Option<Nanos> {
        let rows = self.rows.iter().filter_map(OnceLock::get);
        let times = rows.flat_map(|row| row.iter().map(|slot| slot.load(Ordering::Relaxed)));
        times.filter(|time| *time != 0).min().map(|time| Nanos(time - 1))
    }

    fn set(&self, slot: usize, time: u64) {
        let (row, place) = place(slot);
        let Some(row) = self.rows.get(row) else { return };
        let size = FIRST_SLOTS << slot_row(slot);
        let row = row.get_or_init(|| (0..size).map(|_| AtomicU64::new(0)).collect());
        row[place].store(time, Ordering::Relaxed);
    }
}

/// Returns the row of a slot: row `n` begins at slot `FIRST_SLOTS * (2^n - 1)`.
fn slot_row(slot: usize) -> usize {
    (slot / FIRST_SLOTS + 1).ilog2() as usize
}

/// Returns the row of a slot, and its place there.
fn place(slot: usize) -> (usize, usize) {
    let row = slot_row(slot);
    (row, slot - FIRST_SLOTS * ((1 << row) - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_slot_has_a_place_of_its_own() {
        let mut expected = (0, 0);
        for slot in 0..10_000 {
            assert_eq!(place(slot), expected);
            expected.1 += 1;
            if expected.1 == FIRST_SLOTS << expected.0 {
                expected = (expected.0 + 1, 0);
            }
        }
    }

    #[test]
    fn the_oldest_is_told_and_slots_are_used_again() {
        let open = Open::default();
        assert_eq!(open.oldest(), None);
        let slots: Vec<_> = (0..1_000).map(|number| open.claim(Nanos(number))).collect();
        assert_eq!(open.oldest(), Some(Nanos(0)), "also at the clock's origin");
        for (number, slot) in (0..1_000).zip(&slots[..999]) {
            open.release(*slot);
            assert_eq!(open.oldest(), Some(Nanos(number + 1)));
        }
        open.claim(Nanos(5));
        assert_eq!(open.oldest(), Some(Nanos(5)));
        assert_eq!(open.used.load(Ordering::Relaxed), 1_000);
    }

    #[test]
    fn threads_do_not_share_slots() {
        let open = Open::default();
        std::thread::scope(|scope| {
            for thread in 1..=4 {
                let open = &open;
                scope.spawn(move || {
                    for turn in 0..2_000 {
                        let slot = open.claim(Nanos(thread * 10_000 + turn));
                        assert!(open.oldest().is_some(), "at least the one claimed here");
                        open.release(slot);
                    }
                });
            }
        });
        assert_eq!(open.oldest(), None);
        assert!(open.used.load(Ordering::Relaxed) <= 8);
    }
}
