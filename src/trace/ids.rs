//! Numbers of exchanges, for people: a few by name, the rest by count.

use std::collections::BTreeSet;
use std::fmt;

use serde::Serialize;

use crate::trace::record::ExchangeId;

/// A set of exchanges of which the first [`MAX_IDS`] that came are remembered, and all are counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Ids {
    /// How many there are.
    pub count: u64,
    /// Numbers of those that are remembered.
    pub known: BTreeSet<u64>,
}

/// Numbers that are remembered.
pub const MAX_IDS: usize = 1_000;
/// Ranges that are printed.
const MAX_RANGES: usize = 8;

// === impl Ids ===

impl Ids {
    /// Adds an exchange. One that was added before is counted again only if it is not remembered.
    pub fn add(&mut self, id: ExchangeId) {
        if self.known.contains(&id.0) {
            return;
        }
        self.count += 1;
        if self.known.len() < MAX_IDS {
            self.known.insert(id.0);
        }
    }

    /// Adds those of another set.
    pub fn join(&mut self, other: &Self) {
        self.extend(other.known.iter().copied().map(ExchangeId));
        self.count += other.count - other.known.len() as u64;
    }

    /// Returns whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Returns first and last of each run of consecutive numbers.
    fn ranges(&self) -> Vec<(u64, u64)> {
        let mut ranges: Vec<(u64, u64)> = Vec::new();
        for &id in &self.known {
            match ranges.last_mut() {
                Some((_, last)) if last.checked_add(1) == Some(id) => *last = id,
                _ => ranges.push((id, id)),
            }
        }
        ranges
    }
}

impl Extend<ExchangeId> for Ids {
    fn extend<T: IntoIterator<Item = ExchangeId>>(&mut self, ids: T) {
        for id in ids {
            self.add(id);
        }
    }
}

impl fmt::Display for Ids {
    /// Writes `exchange 5`, `exchanges 3, 7-9`, or `exchanges 3, 7-9 and 12 more`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.count == 1 { "exchange " } else { "exchanges " })?;
        let mut written = 0;
        for (nth, (first, last)) in self.ranges().into_iter().take(MAX_RANGES).enumerate() {
            let comma = if nth > 0 { ", " } else { "" };
            match first == last {
                true => write!(f, "{comma}{first}")?,
                false => write!(f, "{comma}{first}-{last}")?,
            }
            written += last - first + 1;
        }
        match self.count.saturating_sub(written) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(ids: impl IntoIterator<Item = u64>, expected: &str) {
        let mut all = Ids::default();
        all.extend(ids.into_iter().map(ExchangeId));
        assert_eq!(all.to_string(), expected);
    }

    #[test]
    fn numbers_are_told_in_ranges() {
        check([5], "exchange 5");
        check([9, 3, 7, 8], "exchanges 3, 7-9");
        check([u64::MAX, u64::MAX - 1], "exchanges 18446744073709551614-18446744073709551615");
        check((1..=20).map(|n| 2 * n), "exchanges 2, 4, 6, 8, 10, 12, 14, 16 and 12 more");
        check(1..=5_000, "exchanges 1-1000 and 4000 more");
    }
}
