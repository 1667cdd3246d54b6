//! The tables of a report, as text in cells: written the same in HTML, Markdown and the terminal.

use crate::results::manifest::Verdict;

use super::series::Level;
use super::stats::Spread;
use super::summary::{Group, Summary};
use super::units::{bytes, count, ns, percent, seconds, three};

/// A table: the first column is words, the others mostly numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// What it shows.
    pub title: &'static str,
    /// What has to be known to read it.
    pub note: String,
    /// Names of the columns.
    pub head: Vec<String>,
    /// The rows, each as long as the head.
    pub rows: Vec<Vec<String>>,
}

// === impl Table ===

impl Table {
    /// Whether a column holds words, not numbers.
    #[must_use]
    pub fn is_words(&self, column: usize) -> bool {
        let number = |row: &Vec<String>| {
            row.get(column).is_some_and(|cell| {
                cell == NONE
                    || cell.starts_with(|c: char| {
                        c.is_ascii_digit() || c == '-' || c == '<' || c == '>'
                    })
            })
        };
        !self.rows.iter().all(number)
    }
}

/// What a table shows where there is no value.
pub(super) const NONE: &str = "–";

/// Returns the first line of every report: whether the numbers can be used.
#[must_use]
pub fn verdict(summary: &Summary) -> String {
    let manifest = &summary.manifest;
    match summary.verdict {
        Verdict::Valid if summary.counts.rows == 0 => {
            "Telemetry only: no requests were sent.".to_owned()
        }
        Verdict::Valid => "VALID: the run's own checks passed.".to_owned(),
        Verdict::Invalid if !manifest.finished => "INVALID: the run did not finish.".to_owned(),
        Verdict::Invalid if manifest.reasons.is_empty() => {
            "INVALID: the run gives no reason.".to_owned()
        }
        Verdict::Invalid => {
            format!("INVALID: {}.", manifest.reasons.join("; ").trim_end_matches('.'))
        }
    }
}

/// Returns all tables that have something to show, in the order of reading.
pub(super) fn all(summary: &Summary) -> Vec<Table> {
    let mut tables = Vec::new();
    if summary.counts.rows > 0 {
        tables.extend([latencies(summary), throughput(summary), outcomes(summary)]);
        tables.extend([errors(summary), fidelity(summary)]);
        tables.push(groups("Targets", "Target", summary.targets.iter()));
        if summary.models.len() > 1 {
            tables.push(groups("Models", "Operation and model", summary.models.iter()));
        }
        tables.push(slowest(summary));
    }
    tables.extend([gpus(summary), host(summary), facts(summary)]);
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

fn fidelity(summary: &Summary) -> Table {
    let seen = &summary.fidelity;
    let lines = [
        ("Status", seen.statuses_equal, seen.statuses),
        ("Outcome", seen.outcomes_equal, seen.outcomes),
        ("Finish reason", seen.finish_reasons_equal, seen.finish_reasons),
        ("Output text", seen.outputs_equal, seen.outputs),
    ];
    let note = if seen.token_counts > 0 {
        format!(
            "{} output tokens, {} recorded, over the {} good requests that have both.",
            count(seen.output_tokens),
            count(seen.recorded_output_tokens),
            count(seen.token_counts)
        )
    } else {
        String::new()
    };
    Table {
        title: "Beside the recording",
        note,
        head: ["The same as recorded", "rows", "of", "share"].map(str::to_owned).to_vec(),
        rows: lines
            .into_iter()
            .filter(|(_, _, of)| *of > 0)
            .map(|(name, same, of)| {
                vec![name.to_owned(), count(same), count(of), percent(same, of)]
            })
            .collect(),
    }
}

fn groups<'group>(
    title: &'static str,
    first: &str,
    groups: impl Iterator<Item = (&'group String, &'group Group)>,
) -> Table {
    let head = [
        first,
        "rows",
        "good",
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
                    vec![short(name, 80), count(group.rows), percent(group.good, group.rows)];
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

fn gpus(summary: &Summary) -> Table {
    let head =
        ["GPU", "utilization", "power", "energy", "memory, most", "clock", "hottest", "held down"];
    let mean = |level: &Level, unit: &str| {
        level.mean().map_or_else(none, |mean| format!("{} {unit}", three(mean)))
    };
    let rows = summary.gpus.iter().map(|(index, used)| {
        let name = summary.manifest.gpus.iter().find(|gpu| gpu.index == *index);
        let name = name.map_or("", |gpu| gpu.name.as_str());
        let held = used.throttled.iter().max_by_key(|(_, readings)| **readings);
        vec![
            format!("GPU {index} {name}").trim_end().to_owned(),
            mean(&used.utilization_pct, "%"),
            mean(&used.power_w, "W"),
            used.energy_j.map_or_else(none, |joules| format!("{} J", three(joules))),
            most(&used.memory_bytes, bytes),
            mean(&used.sm_clock_mhz, "MHz"),
            most(&used.temperature_c, |max| format!("{max:.0} °C")),
            held.map_or_else(none, |(reason, readings)| {
                format!("{reason} {}", percent(*readings, used.readings))
            }),
        ]
    });
    Table {
        title: "GPUs",
        note: "Means over the run but where it says otherwise.".to_owned(),
        head: head.map(str::to_owned).to_vec(),
        rows: rows.collect(),
    }
}

fn host(summary: &Summary) -> Table {
    let host = &summary.host;
    if host.readings == 0 {
        return Table::default();
    }
    let share = |level: &Level| {
        level.mean().map_or_else(none, |mean| format!("{mean:.0} % (most {:.0} %)", level.max))
    };
    let pairs = [
        ("CPU, all", share(&host.cpu_pct)),
        ("CPU, busiest", share(&host.cpu_busiest_pct)),
        ("this process (100 % is one CPU)", share(&host.process_cpu_pct)),
        ("its memory, most", most(&host.process_rss_bytes, bytes)),
        ("its wait for a CPU", format!("{} s", three(host.run_delay_s))),
        ("memory, most", most(&host.memory_bytes, bytes)),
    ];
    Table {
        title: "Sending machine",
        note: String::new(),
        head: pairs.iter().map(|(name, _)| (*name).to_owned()).collect(),
        rows: vec![pairs.into_iter().map(|(_, value)| value).collect()],
    }
}

/// What the manifest says.
fn facts(summary: &Summary) -> Table {
    let manifest = &summary.manifest;
    let machine = &manifest.host;
    let mut rows: Vec<(String, String)> = [
        ("Run", manifest.run.clone()),
        ("Started", manifest.started.clone()),
        ("Duration", seconds(manifest.duration_s)),
        ("Trace", manifest.trace.path.clone()),
        ("Trace digest", manifest.trace.digest.clone()),
        ("Sent digest", manifest.sent_digest.clone()),
        ("Tool", manifest.tool.clone()),
        (
            "Machine",
            format!(
                "{} ({} CPUs, {}), {}",
                machine.cpu,
                machine.cpus,
                bytes(to_f64(machine.memory_bytes)),
                machine.kernel
            ),
        ),
        ("Clock source", manifest.clock_source.clone()),
        ("CPU governor", machine.governor.clone().unwrap_or_default()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .to_vec();
    for target in &manifest.targets {
        let told = [target.server.clone(), target.version.clone()].into_iter().flatten();
        let models = (!target.models.is_empty()).then(|| short(&target.models.join(", "), 120));
        let told: Vec<String> = told.chain(models).collect();
        rows.push(("Target".to_owned(), [vec![target.url.clone()], told].concat().join(" · ")));
    }
    for gpu in &manifest.gpus {
        let memory = bytes(to_f64(gpu.memory_bytes));
        rows.push((
            format!("GPU {}", gpu.index),
            format!("{}, {memory}, {}, {}", gpu.name, gpu.driver, gpu.uuid),
        ));
    }
    rows.extend(manifest.options.iter().map(|(flag, value)| {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        (format!("Option {flag}"), short(&value, 200))
    }));
    rows.extend(manifest.telemetry.iter().map(|note| ("Telemetry".to_owned(), note.clone())));
    Table {
        title: "The run",
        note: String::new(),
        head: ["What", ""].map(str::to_owned).to_vec(),
        rows: rows
            .into_iter()
            .filter(|(_, value)| !value.is_empty())
            .map(|(name, value)| vec![name, value])
            .collect(),
    }
}

fn most(level: &Level, write: impl Fn(f64) -> String) -> String {
    if level.count == 0 { none() } else { write(level.max) }
}

fn none() -> String {
    NONE.to_owned()
}

/// The first `most` characters, on one line.
fn short(text: &str, most: usize) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

#[expect(clippy::cast_possible_truncation, reason = "a mean of i64 values fits one")]
fn mean_ns(mean: f64) -> String {
    ns(mean.round() as i64)
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn to_f64(bytes: u64) -> f64 {
    bytes as f64
}
