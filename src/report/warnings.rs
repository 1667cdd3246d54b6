//! Every doubt about a measurement: what was seen, why it matters, what to do.
//!
//! One enum, one sentence (or three) for each variant, beside it. A doubt that is not here is not known to the report;
//! `doubts.rs` finds them.

use serde::ser::{Serialize, SerializeStruct, Serializer};

use super::units::{count, ns, percent};

/// A doubt about a run.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Warning {
    /// The run was killed, or is still going on.
    #[error(
        "The run did not finish: it was killed, or still goes on. What is here ends some seconds before its last \
         moment, and its last requests are missing. Run it again."
    )]
    Unfinished,
    /// The run says of itself that it can't be trusted, for this reason.
    #[error(
        "{}",
        sentence(.0)
    )]
    Invalid(String),
    /// The run doubts itself for this reason.
    #[error(
        "{}",
        sentence(.0)
    )]
    Doubted(String),
    /// Somebody stopped it.
    #[error(
        "The run was stopped after {} of {} requests. Totals are lower than planned, and the requests that were \
         in flight count as cancelled.",
        count(*.sent), count(*.planned)
    )]
    Interrupted {
        /// Exchanges in the plan.
        planned: u64,
        /// Of these, sent.
        sent: u64,
    },
    /// No request was sent.
    #[error(
        "No request is in this run, so there is nothing to say about latency or throughput. Check the trace, the \
         filter and the targets."
    )]
    NoRequests,
    /// Rows are missing: the manifest counts more than the file holds.
    #[error(
        "{} requests were sent, but requests.parquet holds {} rows. Results were lost, and what was lost is \
         rarely a fair sample. Run it again.",
        count(*.sent), count(*.rows)
    )]
    RowsMissing {
        /// Sent by the manifest.
        sent: u64,
        /// Rows in the file.
        rows: u64,
    },
    /// Too few rows for tail quantiles.
    #[error(
        "Only {} requests succeeded: a quantile that would be the maximum under another name is left out (p99 \
         needs 100). Replay longer, or loop the trace.",
        count(*.good)
    )]
    FewRows {
        /// Good rows.
        good: u64,
    },
    /// Requests did not succeed that did when they were recorded.
    #[error(
        "{} of {} requests ({}) failed or were answered with an error that was not recorded, most of them `{commonest}`. Latencies are \
         taken over the others, which a server that sheds load answers faster. See the table of errors.",
        count(*.bad), count(*.rows), percent(*.bad, *.rows)
    )]
    Failures {
        /// Failed, or complete with an error that is not the recorded one.
        bad: u64,
        /// All rows.
        rows: u64,
        /// The commonest kind.
        commonest: String,
    },
    /// Releases were late.
    #[error(
        "Requests left up to {} (p99) after they were due, beside a median of {} until the first token. The \
         server saw another load than was asked for. Use a less busy machine, or a lower rate.",
        ns(*.p99_ns), ns(*.median_ns)
    )]
    Late {
        /// 99th percentile, nanoseconds.
        p99_ns: i64,
        /// Median time to first token (or end to end), nanoseconds.
        median_ns: i64,
    },
    /// The sending machine had no CPU to spare.
    #[error(
        "The sending machine's CPUs were {mean_pct:.0} % busy on average. Latencies may be ours, not the \
         server's. Send from a machine of its own."
    )]
    BusyClient {
        /// Mean busy share of all CPUs.
        mean_pct: f64,
    },
    /// Our own threads waited for a CPU.
    #[error(
        "Our threads were ready but waited {delay_s:.1} s for a CPU in {duration_s:.1} s. Time stamps are late by \
         as much. Use a less busy machine."
    )]
    RunDelay {
        /// Seconds waited, all threads.
        delay_s: f64,
        /// Seconds of the run.
        duration_s: f64,
    },
    /// The hypervisor took CPU time away.
    #[error(
        "The hypervisor took {mean_pct:.1} % of the sending machine's CPU time. Others share its cores; the \
         numbers vary with what they do."
    )]
    Steal {
        /// Mean share.
        mean_pct: f64,
    },
    /// CPU frequency may have changed in the run.
    #[error(
        "The sending machine's CPU frequency is governed by `{0}`: clocks may change during the run. Set \
         `performance` to compare runs closely."
    )]
    Governor(String),
    /// Time is read from a slow or coarse clock.
    #[error(
        "The kernel's clock source is `{0}`, which costs a microsecond or more per reading. Frames in quick \
         succession are stamped late."
    )]
    ClockSource(String),
    /// The trace was not complete.
    #[error(
        "The trace was not closed properly: its last requests may be missing. `reenact trace verify` says what \
         is."
    )]
    TraceIncomplete,
    /// Output tokens were estimated.
    #[error(
        "The output tokens of {} of {} requests were counted in frames, since the server reported no usage: an \
         estimate. Ask for usage with `--set stream_options.include_usage=true`.",
        count(*.estimated), count(*.rows)
    )]
    EstimatedTokens {
        /// Rows with an estimate.
        estimated: u64,
        /// All rows.
        rows: u64,
    },
    /// No output tokens at all are known for some rows.
    #[error(
        "{} of {} good requests have no output token count. Token rates are too low by as much.",
        count(*.uncounted), count(*.good)
    )]
    UncountedTokens {
        /// Such rows.
        uncounted: u64,
        /// Good rows.
        good: u64,
    },
    /// Frames hold several events: gaps are between frames, not tokens.
    #[error(
        "A frame with content holds {events_per_frame:.1} events on average: tokens arrive in groups, and the \
         gaps below are between groups. The server batches its writes, or something in between does."
    )]
    CoalescedFrames {
        /// Events per frame with content.
        events_per_frame: f64,
    },
    /// Streams came in one frame.
    #[error(
        "{} of {} streams came in one piece, though they hold several tokens. Their time to first token is that \
         of the whole response: something in between buffers.",
        count(*.buffered), count(*.streams)
    )]
    BufferedStreams {
        /// Such streams.
        buffered: u64,
        /// All streams.
        streams: u64,
    },
    /// Input came from the server's cache.
    #[error(
        "{pct:.0} % of the input tokens came from the server's cache. A second replay of a trace finds the cache \
         warm: restart the server, or compare runs that are equally warm."
    )]
    CachedInput {
        /// Share of the input tokens, percent.
        pct: f64,
    },
    /// Requests waited for a new connection.
    #[error(
        "{} of {} requests had to open a connection first, {} by the median. That is part of their time to first \
         token.",
        count(*.connected), count(*.rows), ns(*.median_ns)
    )]
    NewConnections {
        /// Requests that opened one.
        connected: u64,
        /// All rows.
        rows: u64,
        /// Median of connect and TLS, nanoseconds.
        median_ns: i64,
    },
    /// Requests were sent twice.
    #[error(
        "{} requests were sent a second time, since their connection had died: the server may have seen them \
         twice.",
        count(*.retried)
    )]
    Retried {
        /// Such requests.
        retried: u64,
    },
    /// Statuses differ from the recorded ones.
    #[error(
        "{} of {} responses ({}) have another status than the recorded ones. The two sides did not do the same \
         work.",
        count(*.differ), count(*.of), percent(*.differ, *.of)
    )]
    StatusesDiffer {
        /// Rows that differ.
        differ: u64,
        /// Rows that have both.
        of: u64,
    },
    /// Outputs differ from the recorded ones.
    #[error(
        "{} of {} outputs ({}) differ from the recorded ones. With sampling that is to be expected; with \
         temperature 0 it is another model, engine or precision.",
        count(*.differ), count(*.of), percent(*.differ, *.of)
    )]
    OutputsDiffer {
        /// Rows that differ.
        differ: u64,
        /// Rows that have both.
        of: u64,
    },
    /// Output lengths differ from the recorded ones.
    #[error(
        "Outputs are {:.0} % {} than the recorded ones, in tokens. Compare time per token, not end to end.",
        .pct.abs(), if *.pct > 0.0 { "longer" } else { "shorter" }
    )]
    LengthsDiffer {
        /// Replayed less recorded output tokens, in percent of the recorded.
        pct: f64,
    },
    /// A GPU was held down.
    #[error(
        "GPU {gpu} was held down by `{reason}` in {pct:.0} % of its readings. It was slower than it can be: check \
         power limit and cooling."
    )]
    Throttled {
        /// The GPU.
        gpu: u32,
        /// Why.
        reason: String,
        /// Share of its readings, percent.
        pct: f64,
    },
    /// Sampling did not go as it should, for this reason.
    #[error("{} Lines and means of it rest on fewer readings.", sentence(.0))]
    Sampling(String),
    /// No reading of a GPU is in the run.
    #[error(
        "No GPU was sampled on the sending machine. On the server, `reenact sample` does it; both name UTC times."
    )]
    NoGpu,
    /// No reading of the machine is in the run.
    #[error("The sending machine was not sampled, so nothing shows whether it had CPU to spare.")]
    NoHost,
}

/// How bad a doubt is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    /// The numbers are not to be used.
    Invalid,
    /// The numbers are to be used with care.
    Doubt,
    /// Good to know.
    Note,
}

// === impl Warning ===

impl Warning {
    /// Returns how bad it is.
    #[must_use]
    pub const fn weight(&self) -> Weight {
        match self {
            Self::Unfinished | Self::Invalid(_) => Weight::Invalid,
            Self::Governor(_)
            | Self::NoGpu
            | Self::NoHost
            | Self::Sampling(_)
            | Self::FewRows { .. }
            | Self::CachedInput { .. } => Weight::Note,
            _ => Weight::Doubt,
        }
    }

    /// Returns its stable name, for machines.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Unfinished => "unfinished",
            Self::Invalid(_) => "invalid",
            Self::Doubted(_) => "doubted",
            Self::Interrupted { .. } => "interrupted",
            Self::NoRequests => "no_requests",
            Self::RowsMissing { .. } => "rows_missing",
            Self::FewRows { .. } => "few_rows",
            Self::Failures { .. } => "failures",
            Self::Late { .. } => "late",
            Self::BusyClient { .. } => "busy_client",
            Self::RunDelay { .. } => "run_delay",
            Self::Steal { .. } => "steal",
            Self::Governor(_) => "governor",
            Self::ClockSource(_) => "clock_source",
            Self::TraceIncomplete => "trace_incomplete",
            Self::EstimatedTokens { .. } => "estimated_tokens",
            Self::UncountedTokens { .. } => "uncounted_tokens",
            Self::CoalescedFrames { .. } => "coalesced_frames",
            Self::BufferedStreams { .. } => "buffered_streams",
            Self::CachedInput { .. } => "cached_input",
            Self::NewConnections { .. } => "new_connections",
            Self::Retried { .. } => "retried",
            Self::StatusesDiffer { .. } => "statuses_differ",
            Self::OutputsDiffer { .. } => "outputs_differ",
            Self::LengthsDiffer { .. } => "lengths_differ",
            Self::Throttled { .. } => "throttled",
            Self::Sampling(_) => "sampling",
            Self::NoGpu => "no_gpu",
            Self::NoHost => "no_host",
        }
    }
}

impl Serialize for Warning {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Warning", 3)?;
        fields.serialize_field("kind", self.kind())?;
        fields.serialize_field("weight", self.weight().as_str())?;
        fields.serialize_field("sentence", &self.to_string())?;
        fields.end()
    }
}

// === impl Weight ===

impl Weight {
    /// Returns its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::Doubt => "doubt",
            Self::Note => "note",
        }
    }
}

/// Makes a sentence of a reason: a capital, and a full stop.
fn sentence(reason: &str) -> String {
    let reason = reason.trim();
    let mut chars = reason.chars();
    let first: String = chars.next().into_iter().flat_map(char::to_uppercase).collect();
    let end = if reason.ends_with(['.', '!', '?']) { "" } else { "." };
    format!("{first}{}{end}", chars.as_str())
}
