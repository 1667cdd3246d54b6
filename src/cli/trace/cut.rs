//! `reenact trace cut`: write a part of a trace to a new one.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;

use crate::cli::identity::IdentityArgs;
use crate::clock::{Anchor, Nanos};
use crate::results::filter::{Filter, Subject};
use crate::results::recorded::recorded;
use crate::trace::record::ExchangeId;
use crate::trace::{Assembler, Exchange, Selection, Trace, cut};

use super::super::Outcome;
use super::output::OutputArgs;
use super::{open, say};

/// Write a part of a trace to a new one: whole exchanges, all that is asked for must hold
///
/// What is left out is stated in the new trace. It keeps the numbers of the exchanges, and `reenact trace merge` puts parts
/// together again. Exit status 3 when something that may have been selected can't be read.
#[derive(Debug, Args)]
pub(super) struct CutArgs {
    /// The trace: a file, an unfinished `.open` file, or a folder of segments
    trace: PathBuf,
    /// The trace to write; it must not exist
    out: PathBuf,
    /// Earliest start: a time since the trace's beginning such as 10s, or a wall clock time such as 2026-01-31T12:00:00Z
    #[arg(long, value_name = "TIME", env = "REENACT_FROM")]
    from: Option<Point>,
    /// Start from which on it is too late, written as in --from
    #[arg(long, value_name = "TIME", env = "REENACT_TO")]
    to: Option<Point>,
    /// Numbers of exchanges, first and last included: 17, 1..100, 100.. or ..100
    #[arg(long, value_name = "A..B", env = "REENACT_EXCHANGE", value_parser = numbers)]
    exchange: Option<RangeInclusive<u64>>,
    /// Only where KEY=VALUE or KEY!=VALUE holds; keys id, method, model, operation, outcome, path, status; `*` any text, `|`
    /// between alternatives; repeatable, all must hold
    #[arg(long, value_name = "EXPR", env = "REENACT_FILTER")]
    filter: Vec<Filter>,
    #[command(flatten)]
    identity: IdentityArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// A point in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Point {
    /// Since the trace's time zero.
    Since(Nanos),
    /// By the wall clock, in nanoseconds since 1970 UTC.
    Wall(i128),
}

pub(super) fn run(args: &CutArgs) -> anyhow::Result<Outcome> {
    let trace = open(&args.trace, &args.identity.read_options()?)?;
    let out = args.output.destination(&args.out, [args.trace.as_path()])?;
    let anchor = trace.header().anchor;
    let mut selection = Selection::all();
    if let Some(from) = args.from {
        selection.from = from.at(anchor);
    }
    if let Some(to) = args.to {
        selection.until = to.at(anchor);
    }
    if let Some(ids) = &args.exchange {
        selection.ids = ids.clone();
    }
    if !args.filter.is_empty() {
        selection.chosen = Some(choose(&trace, &selection, &args.filter)?);
    }
    let done = cut(&trace, &selection, out)?;
    let summary = &done.summary;
    if summary.totals.exchanges == 0 {
        say("warning: no exchange is selected: the new trace is empty");
    }
    if !done.lost.is_none() {
        say(&format!("warning: {} can't be read of what may have been selected", done.lost));
    }
    say(&format!(
        "{} exchanges, {} frames in {} ({} bytes); left out: {}",
        summary.totals.exchanges,
        summary.totals.frames,
        summary.path.display(),
        summary.bytes,
        done.omitted
    ));
    Ok(if done.lost.is_none() { Outcome::Done } else { Outcome::Loss })
}

/// Returns the exchanges of a selection for which all filters hold. Most that filters ask for is known at their end only, so
/// this is a pass over the trace of its own.
fn choose(
    trace: &Trace,
    selection: &Selection,
    filters: &[Filter],
) -> anyhow::Result<BTreeSet<ExchangeId>> {
    let anchor = trace.header().anchor;
    let holds = |exchange: &Exchange| {
        let (row, _frames) = recorded(exchange, anchor);
        let subject = Subject::new(exchange, &row);
        filters.iter().all(|filter| filter.holds(&subject))
    };
    let mut chosen = BTreeSet::new();
    let mut assembler = Assembler::default();
    let mut judge = |exchange: &Exchange| {
        if selection.holds(&exchange.request) && holds(exchange) {
            chosen.insert(exchange.request.exchange);
        }
    };
    for event in trace.scan()? {
        if let Some(exchange) = assembler.push(event?) {
            judge(&exchange);
        }
    }
    assembler.finish().iter().for_each(&mut judge);
    Ok(chosen)
}

/// Reads a range of numbers.
fn numbers(text: &str) -> Result<RangeInclusive<u64>, String> {
    let bad =
        || format!("`{text}` is no range of exchanges; write it like 17, 1..100, 100.. or ..100");
    let number = |part: &str, none: u64| match part.trim() {
        "" => Ok(none),
        part => part.parse().map_err(|_| bad()),
    };
    let (first, last) = match text.split_once("..") {
        Some((first, last)) => (number(first, 0)?, number(last, u64::MAX)?),
        None => text.trim().parse().map(|only| (only, only)).map_err(|_| bad())?,
    };
    if first > last { Err(bad()) } else { Ok(first..=last) }
}

// === impl Point ===

impl Point {
    /// Returns the point on the time axis of a trace; what is before its beginning is its beginning.
    fn at(self, Anchor(zero): Anchor) -> Nanos {
        match self {
            Self::Since(at) => at,
            Self::Wall(unix_ns) => {
                let since = (unix_ns - i128::from(zero)).max(0);
                Nanos(u64::try_from(since).unwrap_or(u64::MAX))
            }
        }
    }
}

impl FromStr for Point {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(duration) = crate::cli::duration(text) {
            return Ok(Self::Since(duration.into()));
        }
        let stamp: Result<jiff::Timestamp, _> = text.parse();
        stamp.map(|stamp| Self::Wall(stamp.as_nanosecond())).map_err(|_| {
            format!("`{text}` is no time; write it like 10s, 5m or 2026-01-31T12:00:00Z")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_include_both_ends() {
        for (text, expected) in [
            ("17", Some(17..=17)),
            ("1..100", Some(1..=100)),
            ("100..", Some(100..=u64::MAX)),
            ("..100", Some(0..=100)),
            ("..", Some(0..=u64::MAX)),
            ("9..3", None),
            ("1-3", None),
            ("", None),
            ("a..b", None),
        ] {
            assert_eq!(numbers(text).ok(), expected, "{text}");
        }
    }

    #[test]
    fn a_point_is_since_the_beginning_or_by_the_wall_clock() {
        let anchor = Anchor(1_700_000_000_000_000_000);
        for (text, expected) in [
            ("10s", Some(10_000_000_000)),
            ("1m 30s", Some(90_000_000_000)),
            ("2023-11-14T22:13:25Z", Some(5_000_000_000)),
            ("2023-11-14T23:13:25+01:00", Some(5_000_000_000)),
            ("1999-01-01T00:00:00Z", Some(0)),
            ("soon", None),
            ("-5s", None),
        ] {
            let point: Option<Point> = text.parse().ok();
            assert_eq!(point.map(|point| point.at(anchor).0), expected, "{text}");
        }
    }
}
