//! The tables of a report, in the order of reading.

use std::collections::BTreeMap;

use crate::results::manifest::Verdict;

use super::answers::{differences, right};
use super::mirror;
use super::objectives::objectives;
use super::setup::{facts, gpus, host, instrument};
use super::stats::Spread;
use super::summary::{Group, Summary};
use super::table::{NONE, Table, none, short};
use super::units::{count, ns, percent, seconds, three};

/// Title of the table of stages and bursts.
pub(super) const STAGES: &str = "Stages and bursts";

/// Returns the first line of every report: whether the numbers can be used.
#[must_use]
pub fn verdict(summary: &Summary) -> String {
    let manifest = &summary.manifest;
    match summary.verdict {
        Verdict::Valid if summary.is_recording() => {
            "Recorded traffic: its times are the proxy's.".to_owned()
        }
        Verdict::Valid if summary.is_telemetry_only() => {
            "Telemetry only: this run sends no requests.".to_owned()
        }
        Verdict::Valid => "VALID: the run's own checks passed.".to_owned(),
        Verdict::Invalid if !manifest.finished => "INVALID: the run did not finish.".to_owned(),
        Verdict::Invalid if manifest.reasons.is_empty() => {
            "INVALID: the run gives no reason.".to_owned()
        }
        Verdict::Invalid => because("INVALID", &manifest.reasons),
        Verdict::Doubtful => because("VALID WITH DOUBTS", &manifest.doubts),
    }
}

/// Returns a verdict with the first sentence of its first reason: the reasons stand below in full.
fn because(verdict: &str, reasons: &[String]) -> String {
    let first = reasons.first().map_or("", String::as_str);
    let first = first.split(". ").next().unwrap_or_default().trim_end_matches('.');
    match reasons.len() {
        0 => format!("{verdict}."),
        1 => format!("{verdict}: {first}."),
        reasons => format!("{verdict}: {first} ({} more below).", reasons - 1),
    }
}

/// Returns all tables that have something to show, in the order of reading.
pub(super) fn all(summary: &Summary) -> Vec<Table> {
    let mut tables = Vec::new();
    if summary.counts.rows > 0 {
        tables.extend([latencies(summary), throughput(summary), outcomes(summary)]);
        tables.extend(summary.slo.as_ref().map(objectives));
        tables.extend([errors(summary), right(summary), differences(summary)]);
        let stages = summary.stages.iter().map(|(stage, group)| (stage.to_string(), group));
        tables.push(groups(STAGES, "Number", stages));
        tables.push(groups("Targets", "Target", named(&summary.targets)));
        let first = summary.manifest.targets.first().map_or("", |target| &target.url);
        tables.push(mirror::table(&summary.mirror, first));
        if summary.models.len() > 1 {
            tables.push(groups("Models", "Operation and model", named(&summary.models)));
        }
        tables.push(slowest(summary));
    }
    tables.extend([gpus(summary), instrument(summary), host(summary), facts(summary)]);
    tables.retain(|table| !table.rows.is_empty());
    tables
}

/// Latencies: a row for each kind, the recorded twin below the replayed.
fn latencies(summary: &Summary) -> Table {
    let all = &summary.latencies;
    let lines = [
        ("Time to first token", &all.ttft),
        ("– recorded", &all.recorded_ttft),
        ("– from due", &all.ttft_due),
        ("Between frames with content", &all.gap),
        ("Time per output token", &all.tpot),
        ("End to end", &all.e2e),
        ("– recorded", &all.recorded_e2e),
        ("– from due", &all.e2e_due),
        ("Connect and TLS", &all.connect),
        ("Lateness (ours)", &all.lateness),
    ];
    let rounded = lines.iter().any(|(_, spread)| !spread.exact);
    let head = ["", "rows", "mean", "p50", "p90", "p95", "p99", "p99.9", "max"];
    Table {
        title: "Latency",
        note: format!(
            "Over requests that were complete and without error, first token and time per token over the streamed ones \
             of these; gaps over all responses, lateness over all sent requests. Quantiles by nearest rank{}; {NONE} where rows are too few for one.",
            if rounded { ", of more than 262,144 rows within 0.05 %" } else { "" }
        ),
        head: head.map(str::to_owned).to_vec(),
        rows: lines
            .iter()
            .filter(|(_, spread)| spread.rows > 0)
            .map(|(name, spread)| spread_row(name, spread))
            .collect(),
    }
}

fn spread_row(name: &str, spread: &Spread) -> Vec<String> {
    let quantiles = [spread.p50, spread.p90, spread.p95, spread.p99, spread.p999, spread.max];
    let mut row = vec![name.to_owned(), count(spread.rows), spread.mean.map_or_else(none, mean_ns)];
    row.extend(quantiles.iter().map(|value| value.map_or_else(none, ns)));
    row
}

/// Throughput: one row of rates.
fn throughput(summary: &Summary) -> Table {
    let rates = &summary.rates;
    let pairs = [
        ("Requests/s", rates.requests_per_s.map(three)),
        ("Good requests/s", rates.good_per_s.map(three)),
        ("Output tokens/s", rates.output_tokens_per_s.map(three)),
        ("Input tokens/s", rates.input_tokens_per_s.map(three)),
        ("Mean in flight", rates.concurrency_mean.map(three)),
        ("GPU joules per output token", rates.joules_per_output_token.map(three)),
    ];
    let known: Vec<_> =
        pairs.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect();
    Table {
        title: "Throughput",
        note: summary.span_s.map_or_else(String::new, |span| {
            format!("Over {}, from the first sent request to the last end.", seconds(span))
        }),
        head: known.iter().map(|(name, _)| name.clone()).collect(),
        rows: if known.is_empty() {
            Vec::new()
        } else {
            vec![known.into_iter().map(|(_, value)| value).collect()]
        },
    }
}

fn outcomes(summary: &Summary) -> Table {
    let counts = &summary.counts;
    let line = |name: &str, n: u64| vec![name.to_owned(), count(n), percent(n, counts.rows)];
    Table {
        title: "Outcomes",
        note: String::new(),
        head: ["Requests", "rows", "share"].map(str::to_owned).to_vec(),
        rows: [
            ("Complete, no error", counts.good),
            ("Complete, with an error", counts.errors),
            ("Failed", counts.failed),
            ("Cancelled", counts.cancelled),
        ]
        .into_iter()
        .filter(|(_, n)| *n > 0)
        .map(|(name, n)| line(name, n))
        .chain([line("All", counts.rows)])
        .chain(
            (counts.warmup > 0).then(|| {
                vec!["Warm-up, in no other figure".to_owned(), count(counts.warmup), none()]
            }),
        )
        .collect(),
    }
}

fn errors(summary: &Summary) -> Table {
    Table {
        title: "Errors",
        note: "By kind; the example is the first of its kind.".to_owned(),
        head: ["Kind", "rows", "fault", "exchange", "example"].map(str::to_owned).to_vec(),
        rows: summary
            .errors
            .iter()
            .map(|(key, errors)| {
                vec![
                    key.to_string(),
                    count(errors.count),
                    errors.fault.clone().unwrap_or_else(none),
                    errors.exchange.to_string(),
                    errors.example.as_deref().map_or_else(none, |text| short(text, 120)),
                ]
            })
            .collect(),
    }
}

fn named(groups: &BTreeMap<String, Group>) -> impl Iterator<Item = (String, &Group)> {
    groups.iter().map(|(name, group)| (name.clone(), group))
}

fn groups<'group>(
    title: &'static str,
    first: &str,
    groups: impl Iterator<Item = (String, &'group Group)>,
) -> Table {
    let head = [
        first,
        "rows",
        "good",
        "requests/s",
        "TTFT p50",
        "TTFT p99",
        "end to end p50",
        "end to end p99",
        "tokens in",
        "tokens out",
    ];
    Table {
        title,
        note: String::new(),
        head: head.map(str::to_owned).to_vec(),
        rows: groups
            .map(|(name, group)| {
                let mut row =
                    vec![short(&name, 80), count(group.rows), percent(group.good, group.rows)];
                row.push(group.requests_per_s.map_or_else(none, three));
                let quantiles = [group.ttft.p50, group.ttft.p99, group.e2e.p50, group.e2e.p99];
                row.extend(quantiles.iter().map(|value| value.map_or_else(none, ns)));
                row.extend([count(group.input_tokens), count(group.output_tokens)]);
                row
            })
            .collect(),
    }
}

fn slowest(summary: &Summary) -> Table {
    let head = [
        "Exchange",
        "sent at",
        "end to end",
        "recorded",
        "TTFT",
        "tokens in",
        "tokens out",
        "result",
        "what",
    ];
    let number = |value: Option<u64>| value.map_or_else(none, count);
    Table {
        title: "Slowest requests",
        note: "By end to end from sent, failed ones included.".to_owned(),
        head: head.map(str::to_owned).to_vec(),
        rows: summary
            .slowest
            .iter()
            .map(|slow| {
                let round =
                    if slow.round > 0 { format!(" (round {})", slow.round) } else { String::new() };
                vec![
                    format!("{}{round}", slow.exchange),
                    ns(slow.sent_ns),
                    ns(slow.e2e_ns),
                    slow.recorded_e2e_ns.map_or_else(none, ns),
                    slow.ttft_ns.map_or_else(none, ns),
                    number(slow.input_tokens),
                    number(slow.output_tokens),
                    slow.result.clone(),
                    short(&slow.what, 60),
                ]
            })
            .collect(),
    }
}

#[expect(clippy::cast_possible_truncation, reason = "a mean of i64 values fits one")]
fn mean_ns(mean: f64) -> String {
    ns(mean.round() as i64)
}
