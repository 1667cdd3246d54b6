//! `reenact trace list`: one line per exchange.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use crate::cli::identity::IdentityArgs;
use crate::clock::Nanos;
use crate::results::recorded::recorded;
use crate::results::rows::Measurement;

use super::super::Outcome;
use super::{millis, open, outcome};

/// List the exchanges of a trace in start order
#[derive(Debug, Args)]
pub(super) struct ListArgs {
    /// The trace: a file, an unfinished `.open` file, or a folder of segments
    trace: PathBuf,
    /// Print at most so many
    #[arg(long, value_name = "N", env = "REENACT_LIMIT")]
    limit: Option<usize>,
    /// Only those with this response status
    #[arg(long, value_name = "CODE", env = "REENACT_STATUS")]
    status: Option<u16>,
    /// Only those whose path begins so
    #[arg(long, value_name = "PREFIX", env = "REENACT_PATH")]
    path: Option<String>,
    /// Only those that name this model
    #[arg(long, value_name = "NAME", env = "REENACT_MODEL")]
    model: Option<String>,
    /// Only those with this outcome: complete, failed, cancelled, open
    #[arg(long, value_name = "WORD", env = "REENACT_OUTCOME", value_parser = ["complete", "failed", "cancelled", "open"])]
    outcome: Option<String>,
    /// Print a JSON object per line
    #[arg(long, env = "REENACT_JSON")]
    json: bool,
    #[command(flatten)]
    identity: IdentityArgs,
}

pub(super) fn run(args: &ListArgs, out: &mut dyn Write) -> anyhow::Result<Outcome> {
    let mut trace = open(&args.trace, &args.identity.read_options()?)?;
    let anchor = trace.header().anchor;
    let ids: Vec<_> = trace.entries().iter().map(|entry| entry.id).collect();
    let mut left = args.limit.unwrap_or(usize::MAX);
    if !args.json {
        writeln!(
            out,
            "{:>7} {:>12} {:<7} {:<28} {:<24} {:>6} {:>9} {:>9} {:>7} {:>7}  outcome",
            "id", "start s", "method", "path", "model", "status", "ttft ms", "e2e ms", "in", "out"
        )?;
    }
    for id in ids {
        if left == 0 {
            break;
        }
        let Some(exchange) = trace.exchange(id)? else { continue };
        let (mut row, _) = recorded(&exchange, anchor);
        if exchange.end.is_none() {
            row.outcome = "open".to_owned();
        }
        if !args.wants(&row) {
            continue;
        }
        left -= 1;
        if args.json {
            let at = anchor.rfc3339(exchange.request.at);
            writeln!(out, "{}", line(&row, &at))?;
        } else {
            print(&row, exchange.request.at, out)?;
        }
    }
    Ok(outcome(&trace, None))
}

fn print(row: &Measurement, at: Nanos, out: &mut dyn Write) -> std::io::Result<()> {
    let count =
        |count: Option<u64>| count.map_or_else(|| "-".to_owned(), |count| count.to_string());
    writeln!(
        out,
        "{:>7} {:>12.6} {:<7} {:<28} {:<24} {:>6} {:>9} {:>9} {:>7} {:>7}  {}",
        row.exchange,
        at.as_secs_f64(),
        row.method,
        row.path,
        row.model_recorded.as_deref().unwrap_or("-"),
        row.status.map_or_else(|| "-".to_owned(), |status| status.to_string()),
        millis(row.ttft_ns),
        millis(row.e2e_ns),
        count(row.input_tokens),
        count(row.output_tokens),
        row.outcome
    )
}

fn line(row: &Measurement, at: &str) -> serde_json::Value {
    json!({
        "exchange": row.exchange,
        "at": at,
        "at_ns": row.recorded_at_ns,
        "method": row.method,
        "path": row.path,
        "model": row.model_recorded,
        "stream": row.stream,
        "status": row.status,
        "outcome": row.outcome,
        "fault": row.fault,
        "error_kind": row.error_kind,
        "error": row.error,
        "finish_reason": row.finish_reason,
        "request_bytes": row.request_bytes,
        "response_bytes": row.response_bytes,
        "input_tokens": row.input_tokens,
        "output_tokens": row.output_tokens,
        "ttft_ns": row.ttft_ns,
        "e2e_ns": row.e2e_ns,
    })
}

// === impl ListArgs ===

impl ListArgs {
    fn wants(&self, row: &Measurement) -> bool {
        self.status.is_none_or(|status| row.status == Some(status))
            && self.path.as_ref().is_none_or(|prefix| row.path.starts_with(prefix))
            && self.model.as_ref().is_none_or(|model| row.model_recorded.as_ref() == Some(model))
            && self.outcome.as_ref().is_none_or(|outcome| row.outcome == *outcome)
    }
}
