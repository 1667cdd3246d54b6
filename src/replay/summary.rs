//! What a run amounted to, counted as it goes, in flat memory.

use std::collections::BTreeMap;

use http::HeaderMap;
use http::header::SERVER;

use crate::replay::quantile::Histogram;
use crate::results::answers::Answers;
use crate::results::manifest::{Counts, TargetResults};
use crate::results::rows::Measurement;
use crate::results::slo::Meter;

/// Counts over the rows of a run, and quantiles over those that are no warm-up.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Exchanges by what became of them. `planned` is for the caller to fill in.
    pub counts: Counts,
    /// Sent less due, all that were sent.
    pub lateness: Histogram,
    /// From due to the moment in which the call ran, all that were released.
    pub dispatch: Histogram,
    /// Time to first token from sent, streamed responses without error: the same rows as in a report.
    pub ttft: Histogram,
    /// The same from due.
    pub ttft_due: Histogram,
    /// End to end from sent, complete exchanges with a status below 400.
    pub e2e: Histogram,
    /// Time per output token after the first.
    pub tpot: Histogram,
    /// Exchanges that got a response head, or that were cancelled before one.
    pub answered: u64,
    /// Rows by kind of error.
    pub errors: BTreeMap<String, u64>,
    /// Each target by its base URL.
    pub targets: BTreeMap<String, Tally>,
    /// Rows by what became of the wish for their output's length; empty when there was none.
    pub pinned: BTreeMap<String, u64>,
    /// Output tokens, where they are known.
    pub output_tokens: u64,
    /// Exchanges for which a connection had to be opened when they were due.
    pub cold: u64,
    /// Exchanges that were sent again, since a reused connection had died.
    pub retried: u64,
    /// Answers beside the recorded ones.
    pub answers: Answers,
    /// What judges the run, where it is held to objectives.
    pub meter: Option<Meter>,
}

/// What became of the exchanges that one target got.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Counts; its quantiles are put in by [`Tally::results`].
    pub counts: TargetResults,
    ttft: Histogram,
    e2e: Histogram,
    /// When it answered last: a response head was read, nanoseconds since the run's start.
    pub answered_ns: Option<i64>,
    /// `Server` field of its first response that has one.
    pub server: Option<String>,
}

// === impl Summary ===

impl Summary {
    /// Takes a row into account.
    pub fn add(&mut self, row: &Measurement) {
        let tally = self.targets.entry(row.target.clone()).or_default();
        tally.add(row);
        let counts = &mut self.counts;
        counts.sent += 1;
        self.answered += u64::from(row.status.is_some() || row.outcome == "cancelled");
        match row.outcome.as_str() {
            "complete" => counts.complete += 1,
            "cancelled" => counts.cancelled += 1,
            _ => counts.failed += 1,
        }
        if let Some(kind) = &row.error_kind {
            *self.errors.entry(kind.clone()).or_default() += 1;
            counts.errors += u64::from(row.outcome == "complete");
        }
        if row.warmup {
            counts.warmup += 1;
            return;
        }
        if let Some(pinned) = &row.output_pinned {
            *self.pinned.entry(pinned.clone()).or_default() += 1;
        }
        put(&mut self.lateness, row.lateness_ns);
        if row.outcome == "complete" && row.error_kind.is_none() {
            put(&mut self.e2e, row.e2e_ns);
            if row.stream == Some(true) {
                put(&mut self.ttft, row.ttft_ns);
                put(&mut self.ttft_due, row.ttft_due_ns);
                put(&mut self.tpot, row.tpot_ns);
            }
        }
        self.output_tokens += row.output_tokens.unwrap_or(0);
        self.cold += u64::from(row.connect_ns.is_some());
        self.retried += u64::from(row.retries > 0);
        self.judge(row);
    }

    /// Takes down what a target calls itself.
    pub fn add_server(&mut self, target: &str, headers: &HeaderMap) {
        if let Some(server) = headers.get(SERVER)
            && let Some(tally) = self.targets.get_mut(target)
            && tally.server.is_none()
        {
            tally.server = Some(String::from_utf8_lossy(server.as_bytes()).into_owned());
        }
    }

    /// Counts an exchange that could not be sent.
    pub fn add_unsent(&mut self, row: &Measurement) {
        self.counts.failed += 1;
        if row.warmup {
            self.counts.warmup += 1;
        } else {
            self.judge(row);
        }
        *self.errors.entry("unsendable".to_owned()).or_default() += 1;
    }

    fn judge(&mut self, row: &Measurement) {
        self.answers.push(row);
        if let Some(meter) = &mut self.meter {
            meter.push(row);
        }
    }
}

// === impl Tally ===

impl Tally {
    fn add(&mut self, row: &Measurement) {
        let counts = &mut self.counts;
        counts.sent += 1;
        match row.outcome.as_str() {
            "complete" => counts.complete += 1,
            "cancelled" => counts.cancelled += 1,
            _ => counts.failed += 1,
        }
        let is_complete = row.outcome == "complete";
        counts.errors += u64::from(is_complete && row.error_kind.is_some());
        self.answered_ns = self.answered_ns.max(row.headers_ns);
        if row.warmup {
            return;
        }
        counts.output_tokens += row.output_tokens.unwrap_or(0);
        if is_complete && row.error_kind.is_none() {
            put(&mut self.e2e, row.e2e_ns);
            if row.stream == Some(true) {
                put(&mut self.ttft, row.ttft_ns);
            }
        }
    }

    /// Returns what it comes to.
    #[must_use]
    pub fn results(&self) -> TargetResults {
        let at = |histogram: &Histogram, q| {
            histogram.quantile(q).map(|ns| i64::try_from(ns).unwrap_or(i64::MAX))
        };
        TargetResults {
            ttft_p50_ns: at(&self.ttft, 0.5),
            ttft_p99_ns: at(&self.ttft, 0.99),
            e2e_p50_ns: at(&self.e2e, 0.5),
            e2e_p99_ns: at(&self.e2e, 0.99),
            ..self.counts.clone()
        }
    }
}

fn put(histogram: &mut Histogram, value: Option<i64>) {
    if let Some(value) = value {
        histogram.add(u64::try_from(value).unwrap_or(0));
    }
}
