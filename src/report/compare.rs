//! Two or more runs beside each other: the first is what the others are compared with.

use crate::results::answers::Aspect;

use super::chart::histogram;
use super::html;
use super::noise::NoiseFloor;
use super::stats::Spread;
use super::summary::Summary;
use super::table::{NONE, Table};
use super::tables::verdict;
use super::text::markdown_table;
use super::units::{count, ns, percent, three};

/// A line of the comparison: what it is, its value in a run, and how it is written.
pub(super) struct Line {
    pub(super) name: &'static str,
    pub(super) value: fn(&Summary) -> Option<f64>,
    pub(super) write: fn(f64) -> String,
}

/// Returns the table of a comparison, the runs named by `names`. Changes that `noise` covers are called noise.
#[must_use]
pub fn table(names: &[String], runs: &[Summary], noise: Option<&NoiseFloor>) -> Table {
    let mut rows = vec![
        texts("Verdict", runs, |run| verdict(run).split(':').next().unwrap_or_default().to_owned()),
        texts("Target", runs, |run| {
            let urls: Vec<&str> = run.manifest.targets.iter().map(|t| t.url.as_str()).collect();
            if urls.is_empty() { NONE.to_owned() } else { urls.join(" ") }
        }),
        texts("Requests", runs, |run| count(run.counts.rows)),
        texts("Good", runs, |run| percent(run.counts.good, run.counts.rows)),
        texts("Outputs as recorded", runs, |run| {
            let outputs = run.answers.of(Aspect::Text);
            percent(outputs.rows - outputs.different, outputs.rows)
        }),
        texts("Objectives kept", runs, kept),
        texts("Good under the objectives", runs, |run| {
            let goodput = run.slo.as_ref().and_then(|slo| slo.goodput.as_ref());
            goodput
                .map_or_else(|| NONE.to_owned(), |goodput| percent(goodput.good, goodput.requests))
        }),
        texts("Answers as recorded", runs, |run| percent(run.answers.equal, run.answers.rows)),
    ];
    for line in &LINES {
        let values: Vec<Option<f64>> = runs.iter().map(line.value).collect();
        if values.iter().all(Option::is_none) {
            continue;
        }
        let cell = |value: &Option<f64>| match (value, values[0]) {
            (None, _) => NONE.to_owned(),
            (Some(value), Some(first)) if first > 0.0 => {
                let change = (value / first - 1.0) * 100.0;
                let change = if change.abs() < 0.05 { 0.0 } else { change };
                let covered = noise.and_then(|noise| noise.covers(line.name, first, *value));
                let word = if covered == Some(true) { ", noise" } else { "" };
                format!("{} ({change:+.1} %{word})", (line.write)(*value))
            }
            (Some(value), _) => (line.write)(*value),
        };
        let mut row = vec![line.name.to_owned()];
        row.push(values[0].map_or_else(|| NONE.to_owned(), line.write));
        row.extend(values.iter().skip(1).map(cell));
        rows.push(row);
    }
    let traces: Vec<&str> = runs.iter().map(|run| run.manifest.trace.digest.as_str()).collect();
    let same_trace = traces.iter().all(|trace| *trace == traces[0]);
    Table {
        title: "Beside each other",
        note: format!(
            "In brackets the change from the first run.{}{}",
            noise.map_or_else(String::new, |noise| {
                let doubt = if noise.is_sound() { "" } else { " One of these is INVALID." };
                format!(
                    " It is noise where {} runs of one plan lay as far apart.{doubt}",
                    noise.runs.len()
                )
            }),
            if same_trace {
                ""
            } else {
                " The runs did not replay the same trace: differences may be the traces'."
            }
        ),
        head: std::iter::once(String::new()).chain(names.iter().cloned()).collect(),
        rows,
    }
}

/// Returns the page of a comparison.
#[must_use]
pub fn page(names: &[String], runs: &[Summary], noise: Option<&NoiseFloor>) -> String {
    let mut body = "<h1>Comparison of runs</h1>\n".to_owned();
    body += &html::table(&table(names, runs, noise));
    body += "<h2>Distributions</h2>\n<div class=\"two\">\n";
    let figures = [
        ("Time to first token", "ttft"),
        ("Between frames with content", "gap"),
        ("Time per output token", "tpot"),
        ("End to end", "e2e"),
    ];
    for (title, id) in figures {
        let named: Vec<_> = names
            .iter()
            .zip(runs)
            .map(|(name, run)| {
                let plots = &run.plots;
                let of = match id {
                    "ttft" => &plots.ttft,
                    "gap" => &plots.gap,
                    "tpot" => &plots.tpot,
                    _ => &plots.e2e,
                };
                (name.clone(), of)
            })
            .filter(|(_, of)| of.count() > 1)
            .collect();
        if !named.is_empty() {
            body += &html::figure(&histogram(title, id, &named));
        }
    }
    body += "</div>\n";
    html::document("Comparison of runs", &body)
}

/// Returns a comparison as Markdown.
#[must_use]
pub fn markdown(names: &[String], runs: &[Summary], noise: Option<&NoiseFloor>) -> String {
    markdown_table(&table(names, runs, noise))
}

fn kept(run: &Summary) -> String {
    let Some(slo) = &run.slo else { return NONE.to_owned() };
    let kept = slo.objectives.iter().filter(|judged| judged.met).count();
    format!("{kept} of {}", slo.objectives.len())
}

fn texts(name: &str, runs: &[Summary], text: impl Fn(&Summary) -> String) -> Vec<String> {
    std::iter::once(name.to_owned()).chain(runs.iter().map(text)).collect()
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn of(value: Option<i64>) -> Option<f64> {
    value.map(|ns| ns as f64)
}

#[expect(clippy::cast_possible_truncation, reason = "was an i64")]
fn write_ns(value: f64) -> String {
    ns(value as i64)
}

fn median(spread: &Spread) -> Option<f64> {
    of(spread.p50)
}

fn tail(spread: &Spread) -> Option<f64> {
    of(spread.p99)
}

/// The lines, in the order of reading.
pub(super) const LINES: [Line; 19] = [
    Line { name: "Requests/s", value: |run| run.rates.requests_per_s, write: three },
    Line {
        name: "Good requests/s under the objectives",
        value: |run| run.slo.as_ref()?.goodput.as_ref()?.per_s,
        write: three,
    },
    Line { name: "Output tokens/s", value: |run| run.rates.output_tokens_per_s, write: three },
    Line { name: "Mean in flight", value: |run| run.rates.concurrency_mean, write: three },
    Line { name: "TTFT p50", value: |run| median(&run.latencies.ttft), write: write_ns },
    Line { name: "TTFT p90", value: |run| of(run.latencies.ttft.p90), write: write_ns },
    Line { name: "TTFT p99", value: |run| tail(&run.latencies.ttft), write: write_ns },
    Line { name: "Between frames p50", value: |run| median(&run.latencies.gap), write: write_ns },
    Line { name: "Between frames p90", value: |run| of(run.latencies.gap.p90), write: write_ns },
    Line { name: "Between frames p99", value: |run| tail(&run.latencies.gap), write: write_ns },
    Line {
        name: "Time per output token p50",
        value: |run| median(&run.latencies.tpot),
        write: write_ns,
    },
    Line {
        name: "Time per output token p90",
        value: |run| of(run.latencies.tpot.p90),
        write: write_ns,
    },
    Line {
        name: "Time per output token p99",
        value: |run| tail(&run.latencies.tpot),
        write: write_ns,
    },
    Line { name: "End to end p50", value: |run| median(&run.latencies.e2e), write: write_ns },
    Line { name: "End to end p90", value: |run| of(run.latencies.e2e.p90), write: write_ns },
    Line { name: "End to end p99", value: |run| tail(&run.latencies.e2e), write: write_ns },
    Line {
        name: "End to end from due p99",
        value: |run| tail(&run.latencies.e2e_due),
        write: write_ns,
    },
    Line { name: "Lateness p99", value: |run| tail(&run.latencies.lateness), write: write_ns },
    Line {
        name: "GPU joules per output token",
        value: |run| run.rates.joules_per_output_token,
        write: three,
    },
];
