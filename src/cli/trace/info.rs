//! `reenact trace info`: what is in a trace.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use crate::cli::identity::IdentityArgs;
use crate::clock::Nanos;
use crate::results::recorded::recorded;
use crate::trace::record::{Counters, Event, Frame, PolicyMark};
use crate::trace::{Assembler, Exchange, Health, Scan, Trace};

use super::super::Outcome;
use super::{open, outcome, trace_id};

/// Say what is in a trace: sizes, counts, times, rates, models, health
#[derive(Debug, Args)]
pub(super) struct InfoArgs {
    /// The trace: a file, an unfinished `.open` file, or a folder of segments
    trace: PathBuf,
    /// Print JSON
    #[arg(long, env = "REENACT_JSON")]
    json: bool,
    #[command(flatten)]
    identity: IdentityArgs,
}

#[derive(Debug, Default, Serialize)]
struct Info {
    trace: String,
    tool: String,
    listen: String,
    upstreams: Vec<String>,
    redacted: Vec<String>,
    sampled_ppm: u32,
    policy: Option<String>,
    started: String,
    until_ns: u64,
    segments: usize,
    bytes: u64,
    raw_bytes: u64,
    body_bytes: u64,
    blob_bytes: u64,
    hurried_bytes: u64,
    exchanges: u64,
    frames: u64,
    bare_frames: u64,
    input_tokens: u64,
    output_tokens: u64,
    rate_per_s: f64,
    ratio: f64,
    models: BTreeMap<String, u64>,
    operations: BTreeMap<String, u64>,
    statuses: BTreeMap<String, u64>,
    outcomes: BTreeMap<String, u64>,
    request_body_bytes: u64,
    response_body_bytes: u64,
    gaps: u64,
    counters: Counters,
    health: Option<Health>,
}

pub(super) fn run(args: &InfoArgs, out: &mut dyn Write) -> anyhow::Result<Outcome> {
    let trace = open(&args.trace, &args.identity.read_options()?)?;
    let mut scan = trace.scan()?;
    let info = gather(&trace, &mut scan)?;
    if args.json {
        serde_json::to_writer_pretty(&mut *out, &info)?;
        writeln!(out)?;
    } else {
        print(&info, out)?;
    }
    Ok(outcome(&trace, Some(&scan)))
}

fn gather(trace: &Trace, scan: &mut Scan) -> anyhow::Result<Info> {
    let header = trace.header();
    let health = trace.health();
    let mut info = Info {
        trace: trace_id(header),
        tool: header.tool.clone(),
        listen: header.listen.clone(),
        upstreams: header.upstreams.clone(),
        redacted: header.redacted.clone(),
        sampled_ppm: header.sampled_ppm,
        policy: header.policy.as_ref().map(PolicyMark::describe),
        started: header.anchor.rfc3339(Nanos::ZERO),
        segments: trace.paths().count(),
        bytes: health.bytes,
        raw_bytes: health.totals.raw_bytes,
        blob_bytes: health.totals.blob_bytes,
        hurried_bytes: health.totals.hurried_bytes,
        counters: health.counters,
        health: Some(health.clone()),
        ..Info::default()
    };
    let mut assembler = Assembler::default();
    for event in scan {
        let event = event?;
        info.until_ns = info.until_ns.max(event.at().0);
        if let Event::Gap(_) = event {
            info.gaps += 1;
        }
        if let Some(exchange) = assembler.push(event) {
            info.add(&exchange, trace);
        }
    }
    for exchange in assembler.finish() {
        info.add(&exchange, trace);
    }
    info.body_bytes = info.request_body_bytes + info.response_body_bytes;
    info.rate_per_s = per(info.exchanges, Nanos(info.until_ns).as_secs_f64());
    #[expect(clippy::cast_precision_loss, reason = "for display")]
    let bytes = info.bytes as f64;
    info.ratio = per(info.body_bytes, bytes);
    Ok(info)
}

fn print(info: &Info, out: &mut dyn Write) -> std::io::Result<()> {
    writeln!(
        out,
        "trace       {} in {} file(s), written by {}",
        info.trace, info.segments, info.tool
    )?;
    writeln!(out, "started     {} on {}", info.started, info.listen)?;
    writeln!(out, "upstreams   {}", info.upstreams.join(", "))?;
    if let Some(policy) = &info.policy {
        writeln!(out, "policy      {policy}")?;
    }
    let seconds = Nanos(info.until_ns).as_secs_f64();
    writeln!(out, "exchanges   {} in {seconds:.1} s, {:.2}/s", info.exchanges, info.rate_per_s)?;
    for (name, counts) in [
        ("models", &info.models),
        ("operations", &info.operations),
        ("statuses", &info.statuses),
        ("outcomes", &info.outcomes),
    ] {
        let counts: Vec<String> =
            counts.iter().map(|(what, count)| format!("{what} {count}")).collect();
        writeln!(out, "{name:<11} {}", counts.join(", "))?;
    }
    writeln!(out, "tokens      {} in, {} out", info.input_tokens, info.output_tokens)?;
    writeln!(
        out,
        "bodies      {} bytes: {} of requests, {} of responses in {} frames",
        info.body_bytes, info.request_body_bytes, info.response_body_bytes, info.frames
    )?;
    if info.bare_frames > 0 {
        writeln!(out, "bare        {} frames more: bytes left out, times kept", info.bare_frames)?;
    }
    writeln!(
        out,
        "size        {} bytes on disk, {:.1} times less than the bodies; {} before compression, {} of these blobs",
        info.bytes, info.ratio, info.raw_bytes, info.blob_bytes
    )?;
    if info.hurried_bytes > 0 {
        writeln!(
            out,
            "hurried     {} bytes were compressed less, since the writer was behind",
            info.hurried_bytes
        )?;
    }
    let Counters { admitted, sampled_out, .. } = info.counters;
    if sampled_out > 0 || info.sampled_ppm < 1_000_000 {
        let percent = f64::from(info.sampled_ppm) / 1e4;
        writeln!(
            out,
            "left out    {sampled_out} of {admitted} exchanges, on purpose; {percent} % of the sessions were to be recorded"
        )?;
    }
    if info.health.as_ref().is_some_and(|health| health.encrypted) {
        writeln!(out, "encrypted   yes")?;
    }
    let complete = info.health.as_ref().is_some_and(|health| health.complete);
    writeln!(
        out,
        "health      {}; {} gap(s), {} exchange(s) dropped",
        if complete {
            "closed, complete"
        } else {
            "NOT complete: see the warnings, and `reenact trace verify`"
        },
        info.gaps,
        info.counters.dropped()
    )
}

#[expect(clippy::cast_precision_loss, reason = "for display")]
fn per(count: u64, of: f64) -> f64 {
    if of > 0.0 { count as f64 / of } else { 0.0 }
}

// === impl Info ===

impl Info {
    fn add(&mut self, exchange: &Exchange, trace: &Trace) {
        let (row, _frames) = recorded(exchange, trace.header().anchor);
        self.exchanges += 1;
        self.frames += (exchange.request_frames.len() + exchange.response_frames.len()) as u64;
        self.bare_frames += (exchange.request_bare.len() + exchange.response_bare.len()) as u64;
        let bytes =
            |frames: &[Frame]| frames.iter().map(|frame| frame.data.len() as u64).sum::<u64>();
        self.request_body_bytes += bytes(&exchange.request_frames);
        self.response_body_bytes += bytes(&exchange.response_frames);
        self.input_tokens += row.input_tokens.unwrap_or(0);
        self.output_tokens += row.output_tokens.unwrap_or(0);
        let mut count = |map: fn(&mut Self) -> &mut BTreeMap<String, u64>, key: String| {
            *map(self).entry(key).or_default() += 1;
        };
        count(|info| &mut info.models, row.model_recorded.unwrap_or_else(|| "-".to_owned()));
        count(|info| &mut info.operations, format!("{} {}", row.dialect, row.operation));
        let status = row.status.map_or_else(|| "-".to_owned(), |status| status.to_string());
        count(|info| &mut info.statuses, status);
        let outcome = if exchange.end.is_some() { row.outcome } else { "open".to_owned() };
        count(|info| &mut info.outcomes, outcome);
    }
}
