//! Takes rows in as they come, and judges them.

use std::collections::BTreeMap;

use crate::results::rows::Measurement;

use super::judgement::{Goodput, Judged, Judgement};
use super::objective::{Limit, Metric, Slo, Slos};

/// Takes rows in and judges them. Memory: 8 bytes for each request and metric that an objective takes together.
#[derive(Clone, Debug)]
pub struct Meter {
    slos: Slos,
    bounds: BTreeMap<Metric, Limit<i64>>,
    values: BTreeMap<Metric, Vec<i64>>,
    /// Values beyond the bound, by the place of the objective.
    beyond: Vec<u64>,
    requests: u64,
    errors: u64,
    good: u64,
    first_sent_ns: Option<i64>,
    last_end_ns: Option<i64>,
}

// === impl Meter ===

impl Meter {
    /// Makes one for a run.
    #[must_use]
    pub fn new(slos: Slos) -> Self {
        let mut values = BTreeMap::new();
        for slo in slos.list() {
            if let Slo::All { metric, .. } = slo {
                values.insert(*metric, Vec::new());
            }
        }
        Self {
            bounds: slos.bounds(),
            beyond: vec![0; slos.list().len()],
            values,
            slos,
            requests: 0,
            errors: 0,
            good: 0,
            first_sent_ns: None,
            last_end_ns: None,
        }
    }

    /// Takes a row in.
    pub fn push(&mut self, row: &Measurement) {
        if !counts(row) {
            return;
        }
        self.requests += 1;
        self.first_sent_ns = match (self.first_sent_ns, row.sent_ns) {
            (Some(first), Some(sent)) => Some(first.min(sent)),
            (first, sent) => first.or(sent),
        };
        self.last_end_ns = self.last_end_ns.max(row.end_ns);
        if row.outcome != "complete" || row.error_kind.is_some() {
            self.errors += 1;
            return;
        }
        let keeps = |(metric, limit): (&Metric, &Limit<i64>)| {
            metric.of(row).is_none_or(|value| limit.holds_below(&value))
        };
        self.good += u64::from(self.bounds.iter().all(keeps));
        for (metric, values) in &mut self.values {
            values.extend(metric.of(row));
        }
        for (slo, beyond) in self.slos.list().iter().zip(&mut self.beyond) {
            if let Slo::All { metric, limit, .. } = slo {
                let is_beyond = metric.of(row).is_some_and(|value| !limit.holds_below(&value));
                *beyond += u64::from(is_beyond);
            }
        }
    }

    /// Returns the first objective that can't be kept any more, whatever becomes of the rest of `planned` requests.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "shares")]
    pub fn lost(&self, planned: u64) -> Option<&Slo> {
        let planned = planned.max(self.requests).max(1);
        let share = |count: u64| count as f64 / planned as f64;
        let place =
            self.slos.list().iter().zip(&self.beyond).position(|(slo, beyond)| match slo {
                Slo::Each { .. } => false,
                Slo::All { statistic, .. } => {
                    statistic.may_exceed(planned).is_some_and(|may| *beyond > may)
                }
                Slo::Errors { limit } => !limit.holds_below(&share(self.errors)),
                Slo::Goodput { limit } => {
                    !limit.holds_above(&share(planned - (self.requests - self.good)))
                }
            })?;
        self.slos.list().get(place)
    }

    /// Judges what was taken in.
    #[must_use]
    pub fn judge(&self) -> Judgement {
        let objectives = self.slos.list().iter().filter_map(|slo| self.judge_one(slo)).collect();
        let goodput = (!self.bounds.is_empty()).then(|| self.goodput());
        Judgement { objectives, goodput, lost: None }
    }

    fn judge_one(&self, slo: &Slo) -> Option<Judged> {
        let objective = slo.to_string();
        let all = || "all requests but cancelled ones and errors as recorded".to_owned();
        Some(match slo {
            Slo::Each { .. } => return None,
            Slo::All { metric, statistic, limit } => {
                let values = self.values.get(metric).map_or(&[][..], Vec::as_slice);
                let value_ns = statistic.of(values);
                Judged {
                    objective,
                    met: value_ns.is_some_and(|value| limit.holds_below(&value)),
                    rows: values.len() as u64,
                    over: metric.over().to_owned(),
                    value_ns,
                    value_share: None,
                }
            }
            Slo::Errors { limit } => {
                let value_share = share(self.errors, self.requests);
                let met = value_share.is_some_and(|share| limit.holds_below(&share));
                let (rows, over) = (self.requests, all());
                Judged { objective, met, rows, over, value_ns: None, value_share }
            }
            Slo::Goodput { limit } => {
                let value_share = share(self.good, self.requests);
                let met = value_share.is_some_and(|share| limit.holds_above(&share));
                let (rows, over) = (self.requests, all());
                Judged { objective, met, rows, over, value_ns: None, value_share }
            }
        })
    }

    #[expect(clippy::cast_precision_loss, reason = "rates")]
    fn goodput(&self) -> Goodput {
        let bound = |(metric, limit): (&Metric, &Limit<i64>)| {
            Slo::Each { metric: *metric, limit: *limit }.to_string()
        };
        let span = self.first_sent_ns.zip(self.last_end_ns).map(|(first, last)| last - first);
        let span_s = span.filter(|span| *span > 0).map(|span| span as f64 / 1e9);
        Goodput {
            bounds: self.bounds.iter().map(bound).collect(),
            requests: self.requests,
            good: self.good,
            share: share(self.good, self.requests),
            per_s: span_s.map(|span| self.good as f64 / span),
        }
    }
}

/// Whether a request counts: it does not in the warm-up, when its client left, or when it is an error that was recorded, too.
fn counts(row: &Measurement) -> bool {
    let as_recorded = row.status.is_some_and(|status| status >= 400)
        && row.status == row.recorded_status
        && row.outcome == "complete";
    row.outcome != "cancelled" && !as_recorded && !row.warmup
}

#[expect(clippy::cast_precision_loss, reason = "shares")]
fn share(part: u64, of: u64) -> Option<f64> {
    (of > 0).then(|| part as f64 / of as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: i64 = 1_000_000;

    fn slos(text: &str) -> Slos {
        Slos::new(text.split(',').map(|slo| slo.parse().unwrap()).collect()).unwrap()
    }

    /// A streamed request, sent at `at` ms, with these times in ms.
    fn stream(at: i64, ttft: i64, tpot: i64, e2e: i64) -> Measurement {
        Measurement {
            stream: Some(true),
            outcome: "complete".to_owned(),
            status: Some(200),
            sent_ns: Some(at * MS),
            end_ns: Some((at + e2e) * MS),
            ttft_ns: Some(ttft * MS),
            tpot_ns: Some(tpot * MS),
            e2e_ns: Some(e2e * MS),
            ..Measurement::default()
        }
    }

    fn failed(at: i64) -> Measurement {
        Measurement {
            outcome: "failed".to_owned(),
            sent_ns: Some(at * MS),
            end_ns: Some((at + 1) * MS),
            ..Measurement::default()
        }
    }

    fn meter(text: &str, rows: impl IntoIterator<Item = Measurement>) -> Meter {
        let mut meter = Meter::new(slos(text));
        rows.into_iter().for_each(|row| meter.push(&row));
        meter
    }

    /// Checks what is measured, over how many rows, and whether it is kept.
    #[track_caller]
    fn check(text: &str, rows: &[Measurement], value: Option<i64>, over: u64, met: bool) {
        let judgement = meter(text, rows.to_vec()).judge();
        let judged = &judgement.objectives[0];
        assert_eq!((judged.value_ns, judged.rows, judged.met), (value, over, met), "{text}");
        assert_eq!(judgement.met(), met);
    }

    /// By hand: rank ceil(q n), from 1.
    #[test]
    fn percentiles_are_nearest_ranks_over_the_rows_that_have_the_metric() {
        let rows: Vec<_> = (1..=10).rev().map(|n| stream(n, n * 10, n, n * 100)).collect();
        check("ttft:p90<91ms", &rows, Some(90 * MS), 10, true);
        check("ttft:p90<90ms", &rows, Some(90 * MS), 10, false);
        check("ttft:p90<=90ms", &rows, Some(90 * MS), 10, true);
        check("ttft:p91<200ms", &rows, Some(100 * MS), 10, true);
        check("ttft:p10<11ms", &rows, Some(10 * MS), 10, true);
        check("tpot:max<10ms", &rows, Some(10 * MS), 10, false);
        check("e2e:mean<551ms", &rows, Some(550 * MS), 10, true);
        check("ttft:p50<1s", &[], None, 0, false);
        let unary = Measurement { stream: Some(false), ..stream(0, 1, 1, 5) };
        check("ttft:p50<1s", std::slice::from_ref(&unary), None, 0, false);
        check("e2e:p50<1s", &[unary, failed(0)], Some(5 * MS), 1, true);
    }

    #[test]
    fn goodput_counts_the_requests_that_keep_every_bound_and_failed_ones_against_it() {
        let unary = Measurement { stream: None, ..stream(900, 0, 0, 100) };
        let rows = [
            stream(0, 100, 10, 500),
            stream(100, 300, 10, 500),
            stream(200, 100, 30, 500),
            failed(300),
            unary,
        ];
        let goodput = |text: &str| meter(text, rows.clone()).judge().goodput;
        let seen = goodput("ttft:p99<200ms,tpot:p50<20ms").unwrap();
        assert_eq!(seen.bounds, ["ttft<200ms", "tpot<20ms"]);
        assert_eq!((seen.requests, seen.good, seen.share), (5, 2, Some(0.4)));
        assert_eq!(seen.per_s, Some(2.0), "two in the second from 0 to 1,000 ms");
        assert_eq!(goodput("ttft:p50<50ms,ttft:p99<400ms").unwrap().good, 4, "the loosest bound");
        assert_eq!(goodput("errors<1%"), None);
        let judged = meter("e2e<1s,goodput>=80%,errors<=20%", rows.clone()).judge();
        assert_eq!(judged.objectives.len(), 2);
        assert!(judged.met(), "{judged:?}");
        assert!(!meter("e2e<1s,goodput>80%", rows).judge().met());
    }

    #[test]
    fn clients_that_left_errors_as_recorded_and_the_warm_up_do_not_count() {
        let cancelled = Measurement { outcome: "cancelled".to_owned(), ..stream(0, 1, 1, 1) };
        let error = |recorded| Measurement {
            status: Some(429),
            error_kind: Some("http".to_owned()),
            recorded_status: Some(recorded),
            ..stream(0, 1, 1, 1)
        };
        let share = |rows: Vec<Measurement>| {
            let judged = meter("errors<1%", rows).judge().objectives.remove(0);
            (judged.rows, judged.value_share)
        };
        assert_eq!(share(vec![cancelled.clone()]), (0, None));
        let warmup = Measurement { warmup: true, ..failed(0) };
        let rows = vec![warmup, stream(0, 1, 1, 1), cancelled, error(429)];
        assert_eq!(share(rows), (1, Some(0.0)));
        assert_eq!(share(vec![stream(0, 1, 1, 1), error(200)]), (2, Some(0.5)));
    }

    #[test]
    fn an_objective_is_lost_as_soon_as_nothing_can_mend_it() {
        let check = |text: &str, rows: Vec<Measurement>, expected: Option<&str>| {
            let lost = meter(text, rows).lost(100).map(ToString::to_string);
            assert_eq!(lost.as_deref(), expected);
        };
        let slow = |n: i64| (0..n).map(|at| stream(at, 600, 1, 700)).collect::<Vec<_>>();
        check("ttft:p95<500ms", slow(5), None);
        check("ttft:p95<500ms", slow(6), Some("ttft:p95<500ms"));
        check("ttft:p50<1s,ttft:max<500ms", slow(1), Some("ttft:max<500ms"));
        check("ttft:mean<500ms", slow(99), None);
        let dead = |n: i64| (0..n).map(failed).collect::<Vec<_>>();
        check("errors<1%", dead(0), None);
        check("errors<1%", dead(1), Some("errors<1%"));
        check("errors<=1%", dead(1), None);
        check("ttft<500ms,goodput>90%", slow(9), None);
        check("ttft<500ms,goodput>90%", slow(10), Some("goodput>90%"));
    }

    #[test]
    fn a_list_needs_an_objective_and_goodput_a_bound() {
        let new = |text: &str| Slos::new(text.split(',').map(|slo| slo.parse().unwrap()).collect());
        assert!(new("ttft<5ms").unwrap_err().contains("needs an objective"));
        assert!(new("goodput>5%").unwrap_err().contains("needs a bound"));
        assert!(Slos::new(Vec::new()).is_err());
        assert_eq!(new("ttft<5ms,goodput>5%").unwrap().to_string(), "ttft<5ms,goodput>5%");
    }

    /// What [`Meter::lost`] says in the middle holds at the end.
    #[test]
    fn what_is_lost_stays_lost() {
        for slow in 0..=40_i64 {
            let mut meter = Meter::new(slos("ttft:p80<500ms,goodput>80%"));
            let mut lost = false;
            for n in 0..40 {
                let ttft = if n < slow { 600 } else { 1 };
                meter.push(&stream(n, ttft, 1, 700));
                lost |= meter.lost(40).is_some();
            }
            assert_eq!(lost, !meter.judge().met(), "{slow} of 40");
        }
    }
}
