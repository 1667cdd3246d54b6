//! A mirrored run: each exchange went to every target at the same due time, and is compared with itself.
//!
//! Rows of one exchange and round are put together as they come by, in the order of their ends. What waits for its partners
//! is bounded ([`WAITING_MOST`]): a target that lags behind by more loses the oldest pairs, and the table says so.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::results::rows::Measurement;

use super::stats::{Distribution, Spread};
use super::table::{Table, none, short};
use super::units::{count, ns, percent};

/// Puts the rows of a mirrored run together.
#[derive(Debug, Default)]
pub(super) struct Mirror {
    /// Rows that wait for the ones to be compared with, by exchange and round.
    waiting: BTreeMap<(u64, u32), Vec<Half>>,
    pairs: BTreeMap<u32, Pairs>,
    lost: u64,
}

/// What every target but the first did, beside the first.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Mirrored {
    /// By target, by its place in the manifest's list.
    pub pairs: BTreeMap<u32, PairSpread>,
    /// Rows whose partners came too late to be compared with.
    pub lost: u64,
}

/// One target beside the first.
#[derive(Clone, Debug, Default, Serialize)]
pub struct PairSpread {
    /// Its base URL.
    pub target: String,
    /// Exchanges that both have a row of.
    pub pairs: u64,
    /// Pairs in which both were good.
    pub good: u64,
    /// Of these, pairs that took less from sent to end here.
    pub sooner: u64,
    /// Pairs with output on both sides.
    pub outputs: u64,
    /// Of these, pairs with the same output.
    pub equal: u64,
    /// Time to first token here, less that of the first target.
    pub ttft: Spread,
    /// End to end here, less that of the first target.
    pub e2e: Spread,
}

/// What is kept of a row until its partner comes.
#[derive(Clone, Debug)]
struct Half {
    index: u32,
    target: String,
    good: bool,
    ttft_ns: Option<i64>,
    e2e_ns: Option<i64>,
    digest: Option<String>,
}

#[derive(Debug, Default)]
struct Pairs {
    spread: PairSpread,
    ttft: Distribution,
    e2e: Distribution,
}

/// Exchanges of which rows may wait.
const WAITING_MOST: usize = 1 << 16;

/// Returns the table of a mirrored run; it has no rows if the run was none.
pub(super) fn table(mirrored: &Mirrored, first: &str) -> Table {
    let head = [
        "Target",
        "pairs",
        "both good",
        "sooner here",
        "TTFT p50",
        "TTFT p90",
        "end to end p50",
        "end to end p90",
        "same output",
    ];
    let lost = if mirrored.lost > 0 {
        format!(" {} rows found no partner in time.", count(mirrored.lost))
    } else {
        String::new()
    };
    Table {
        title: "Mirror",
        note: format!(
            "Each exchange beside itself on {}, which got it at the same due time. Times: here less there, pair by pair, of pairs \
             that are good on both sides.{lost}",
            short(first, 80)
        ),
        head: head.map(str::to_owned).to_vec(),
        rows: mirrored
            .pairs
            .values()
            .map(|pair| {
                let mut row = vec![
                    short(&pair.target, 80),
                    count(pair.pairs),
                    percent(pair.good, pair.pairs),
                    percent(pair.sooner, pair.good),
                ];
                let quantiles = [pair.ttft.p50, pair.ttft.p90, pair.e2e.p50, pair.e2e.p90];
                row.extend(quantiles.iter().map(|value| value.map_or_else(none, ns)));
                row.push(percent(pair.equal, pair.outputs));
                row
            })
            .collect(),
    }
}

// === impl Mirror ===

impl Mirror {
    /// Takes a row in, and whether it is good.
    pub(super) fn push(&mut self, row: &Measurement, good: bool) {
        let Some(index) = row.target_index else { return };
        let half = Half {
            index,
            target: row.target.clone(),
            good,
            ttft_ns: row.ttft_ns,
            e2e_ns: row.e2e_ns,
            digest: row.output_digest.clone(),
        };
        let key = (row.exchange, row.round);
        let halves = self.waiting.entry(key).or_default();
        if index == 0 {
            for other in halves.iter() {
                self.pairs.entry(other.index).or_default().push(&half, other);
            }
            halves.retain(|_| false);
        } else if let Some(first) = halves.iter().find(|other| other.index == 0) {
            self.pairs.entry(index).or_default().push(first, &half);
            return;
        }
        halves.push(half);
        if self.waiting.len() > WAITING_MOST
            && let Some((_, halves)) = self.waiting.pop_first()
        {
            self.lost += halves.iter().filter(|half| half.index > 0).count() as u64;
        }
    }

    /// Returns what it came to.
    pub(super) fn finish(self) -> Mirrored {
        let unpaired = self.waiting.values().flatten().filter(|half| half.index > 0).count() as u64;
        let finish = |pairs: Pairs| {
            let Pairs { spread, mut ttft, mut e2e } = pairs;
            PairSpread { ttft: ttft.spread(), e2e: e2e.spread(), ..spread }
        };
        Mirrored {
            pairs: self.pairs.into_iter().map(|(index, pairs)| (index, finish(pairs))).collect(),
            lost: self.lost + unpaired,
        }
    }
}

// === impl Pairs ===

impl Pairs {
    fn push(&mut self, first: &Half, here: &Half) {
        let spread = &mut self.spread;
        spread.target.clone_from(&here.target);
        spread.pairs += 1;
        if first.good && here.good {
            spread.good += 1;
            spread.sooner += u64::from(here.e2e_ns < first.e2e_ns);
            for (to, here, there) in [
                (&mut self.ttft, here.ttft_ns, first.ttft_ns),
                (&mut self.e2e, here.e2e_ns, first.e2e_ns),
            ] {
                if let Some((here, there)) = here.zip(there) {
                    to.push(here - there);
                }
            }
        }
        if let (Some(here), Some(there)) = (&here.digest, &first.digest) {
            spread.outputs += 1;
            spread.equal += u64::from(here == there);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(exchange: u64, target: u32, e2e_ms: i64, text: &str) -> Measurement {
        Measurement {
            exchange,
            target: format!("http://t{target}"),
            target_index: Some(target),
            ttft_ns: Some(e2e_ms * 500_000),
            e2e_ns: Some(e2e_ms * 1_000_000),
            output_digest: Some(text.to_owned()),
            ..Measurement::default()
        }
    }

    #[test]
    fn rows_find_their_partner_whichever_comes_first() {
        let mut mirror = Mirror::default();
        for (exchange, target, e2e_ms, text) in [
            (1, 0, 10, "a"),
            (1, 1, 30, "a"),
            (2, 1, 8, "b"),
            (2, 2, 5, "c"),
            (2, 0, 20, "c"),
            (1, 2, 9, "a"),
            (3, 1, 7, "z"),
        ] {
            mirror.push(&row(exchange, target, e2e_ms, text), true);
        }
        mirror.push(&row(4, 0, 10, "a"), true);
        mirror.push(&row(4, 1, 10, "a"), false);
        let mirrored = mirror.finish();
        let one = &mirrored.pairs[&1];
        assert_eq!((one.pairs, one.good, one.sooner, one.outputs, one.equal), (3, 2, 1, 3, 2));
        assert_eq!((one.e2e.min, one.e2e.max), (Some(-12_000_000), Some(20_000_000)));
        let two = &mirrored.pairs[&2];
        assert_eq!((two.pairs, two.sooner, two.equal), (2, 2, 2));
        assert_eq!(mirrored.lost, 1, "of exchange 3 the first target has no row");
        let table = table(&mirrored, "http://t0");
        assert_eq!(table.rows.len(), 2);
        assert!(table.note.contains("1 rows found no partner"), "{}", table.note);
    }
}
