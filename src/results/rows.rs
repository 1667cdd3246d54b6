//! Rows of the run folder: what one replayed (or recorded) exchange did, frame by frame.
//!
//! Times are nanoseconds since the run's start (for an exported trace: the trace's start); durations say from what.
//! A value that is not known is none, never zero. Formulas, all from raw marks in the same row:
//!
//! * `ttft_ns` = `first_token_ns` - `sent_ns`; `ttft_due_ns` = `first_token_ns` - `due_ns` (free of coordinated omission)
//! * `e2e_ns` = `end_ns` - `sent_ns`; `e2e_due_ns` = `end_ns` - `due_ns`
//! * `tpot_ns` = (`last_token_ns` - `first_token_ns`) / (`output_tokens` - 1), none below two tokens
//! * `itl_mean_ns` = (`last_token_ns` - `first_token_ns`) / (frames with content - 1), none below two
//! * `lateness_ns` = `sent_ns` - `due_ns`
//!
//! Counters (`energy_j`, `.._switches`, `process_run_delay_ns`, `net_.._bytes`) only grow: take differences.

use super::table::table;

table! {
    /// One exchange: a row of `requests.parquet`.
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct Measurement in "requests" by end_ns {
        /// Id of the run (for an exported trace: of the trace).
        pub run: String,
        /// Number of the exchange in the trace; joins runs with each other and with the recording.
        pub exchange: u64,
        /// Which time around the trace, from 0, with `--loop`; with `--clone N` N times that, plus the number of the copy.
        pub round: u32,
        /// Session that the exchange belongs to: as the traffic names it, or `#ID` by its first exchange; `~N` after it for copy N.
        pub session: Option<String>,
        /// Place in the session, from 1, where a replay found one; else the number of messages of the user in the request.
        pub turn: Option<u32>,
        /// Base URL that it was sent to (for an exported trace: the upstream).
        pub target: String,
        /// Dialect: `openai` or `generic`.
        pub dialect: String,
        /// Operation: `chat`, `completion`, `embedding`, `models` or `other`.
        pub operation: String,
        /// Method.
        pub method: String,
        /// Path without the query.
        pub path: String,
        /// Model named in the recorded request.
        pub model_recorded: Option<String>,
        /// Model named in the request as sent.
        pub model_sent: Option<String>,
        /// Whether a stream was asked for.
        pub stream: Option<bool>,

        /// When it should have started.
        pub due_ns: Option<i64>,
        /// When the first byte of the request was handed to the connection.
        pub sent_ns: Option<i64>,
        /// When the last byte of the request had been accepted by the connection.
        pub request_end_ns: Option<i64>,
        /// When the response head was read.
        pub headers_ns: Option<i64>,
        /// When the first response body frame was read.
        pub first_frame_ns: Option<i64>,
        /// First frame with content of any kind: text, reasoning, tool call. Unary: the first body frame.
        pub first_token_ns: Option<i64>,
        /// First frame with content that is not reasoning.
        pub first_answer_token_ns: Option<i64>,
        /// Last frame with content.
        pub last_token_ns: Option<i64>,
        /// When the response (or the exchange, if it failed) ended.
        pub end_ns: Option<i64>,
        /// `due_ns` as UTC, nanoseconds since 1970.
        pub due_at: Option<i64>,
        /// `sent_ns` as UTC, nanoseconds since 1970.
        pub sent_at: Option<i64>,
        /// `end_ns` as UTC, nanoseconds since 1970.
        pub end_at: Option<i64>,
        /// Sent less due: our own error, never the server's.
        pub lateness_ns: Option<i64>,

        /// Connection that carried it, from 1 in the order of opening.
        pub connection: Option<u64>,
        /// Whether that connection had been used before.
        pub connection_reused: Option<bool>,
        /// Name resolution and TCP connect, none when reused.
        pub connect_ns: Option<i64>,
        /// TLS handshake, none when reused or without TLS.
        pub tls_ns: Option<i64>,
        /// HTTP version on that connection: `1.0`, `1.1`, `2`.
        pub http_version: Option<String>,
        /// Times it was sent again on a fresh connection, since a reused one had died before any response byte.
        pub retries: u32,

        /// Response status.
        pub status: Option<u16>,
        /// `complete`, `failed` or `cancelled`. Who leaves after the protocol's own end (`[DONE]`) is complete.
        pub outcome: String,
        /// Whose fault a failure is: `client`, `local` or `server`.
        pub fault: Option<String>,
        /// Kind of error: a transport kind (`reset`, `timeout`, ...), `http` for a status of 400 or more, `api` for an
        /// error inside a 200, `incomplete` for a stream that ended without finish reason or end event.
        pub error_kind: Option<String>,
        /// The error's text.
        pub error: Option<String>,
        /// Finish reason of the first choice.
        pub finish_reason: Option<String>,
        /// The server's id of the request (`x-request-id`, or the id in the body).
        pub server_request_id: Option<String>,

        /// Request body bytes sent.
        pub request_bytes: u64,
        /// Response body bytes read, as on the wire.
        pub response_bytes: u64,
        /// Response body frames read.
        pub response_frames: u64,
        /// Protocol messages in the response (SSE events); 1 for a unary one.
        pub response_events: u64,
        /// Input tokens.
        pub input_tokens: Option<u64>,
        /// Where that count came from: `usage`.
        pub input_tokens_source: Option<String>,
        /// Output tokens.
        pub output_tokens: Option<u64>,
        /// Where that count came from: `usage`, or `frames` (content events counted; an estimate).
        pub output_tokens_source: Option<String>,
        /// Input tokens that the server took from its cache, from usage.
        pub cached_tokens: Option<u64>,
        /// Output tokens spent on reasoning, from usage.
        pub reasoning_tokens: Option<u64>,
        /// Characters of text in the request.
        pub prompt_chars: Option<u64>,
        /// Characters of text in the response, reasoning and tool calls not counted.
        pub output_chars: Option<u64>,
        /// Characters of reasoning in the response.
        pub reasoning_chars: Option<u64>,
        /// Images in the request.
        pub images: u32,
        /// Bytes of media in the request, base64 decoded.
        pub media_bytes: u64,

        /// Time to first token from sent: `first_token_ns` - `sent_ns`.
        pub ttft_ns: Option<i64>,
        /// Time to first token from due: `first_token_ns` - `due_ns`.
        pub ttft_due_ns: Option<i64>,
        /// Mean gap between content frames: (`last_token_ns` - `first_token_ns`) / (frames with content - 1).
        pub itl_mean_ns: Option<i64>,
        /// Time per output token after the first: (`last_token_ns` - `first_token_ns`) / (`output_tokens` - 1).
        pub tpot_ns: Option<i64>,
        /// End to end from sent: `end_ns` - `sent_ns`.
        pub e2e_ns: Option<i64>,
        /// End to end from due: `end_ns` - `due_ns`.
        pub e2e_due_ns: Option<i64>,

        /// Recorded twin: when the request arrived, since the trace's start.
        pub recorded_at_ns: Option<i64>,
        /// Recorded twin: status.
        pub recorded_status: Option<u16>,
        /// Recorded twin: outcome.
        pub recorded_outcome: Option<String>,
        /// Recorded twin: time to first token from the request's arrival.
        pub recorded_ttft_ns: Option<i64>,
        /// Recorded twin: end to end from the request's arrival.
        pub recorded_e2e_ns: Option<i64>,
        /// Recorded twin: input tokens.
        pub recorded_input_tokens: Option<u64>,
        /// Recorded twin: output tokens.
        pub recorded_output_tokens: Option<u64>,
        /// Recorded twin: finish reason.
        pub recorded_finish_reason: Option<String>,

        /// BLAKE3 of the request as sent (method, path and query, headers, body), first 16 bytes in hex.
        pub request_digest: Option<String>,
        /// BLAKE3 of the output text, first 16 bytes in hex; none without text.
        pub output_digest: Option<String>,
        /// The same of the recorded output text.
        pub recorded_output_digest: Option<String>,
        /// Whether both output texts are equal; none when one is missing.
        pub output_equal: Option<bool>,
        /// First character in which the output texts differ.
        pub output_differs_at: Option<u64>,
        /// With `--pin-output`: whether the output was made as long as recorded. `yes`: asked for, and the server counted as many
        /// tokens; `missed`: it counted another number; `asked`: it did not say, or failed; `capped`: as long as
        /// `--max-tokens-cap` lets it; `estimate`: as long as the recording's content events; `at_most`: the API knows an upper
        /// bound only. Not pinned: `constrained` decoding, several `choices`, a recorded output that was `cut_short` or is of
        /// `unknown_length`, a body with `no_place` for it. None: not asked for, or no output to pin.
        pub output_pinned: Option<String>,

        /// Shape of the tool calls in the response: names and argument keys in order, no values, as in
        /// `weather(city,days); look()`; `?` for arguments that are no JSON object. None without calls.
        pub tool_shape: Option<String>,
        /// The same of the recorded response.
        pub recorded_tool_shape: Option<String>,
        /// Recorded twin: where its count of output tokens came from.
        pub recorded_output_tokens_source: Option<String>,
        /// Whether the status is the recorded one; false, too, where one was recorded and the request failed before it.
        pub status_equal: Option<bool>,
        /// Whether the outcome is the recorded one.
        pub outcome_equal: Option<bool>,
        /// Whether the finish reason is the recorded one; none unless both answers are whole and one of them has one.
        pub finish_reason_equal: Option<bool>,
        /// Whether the same tools were called with the same argument keys; none unless both answers are whole and one calls any.
        pub tool_shape_equal: Option<bool>,
        /// Input tokens less the recorded ones.
        pub input_tokens_diff: Option<i64>,
        /// Output tokens less the recorded ones; none where they were not counted in the same way.
        pub output_tokens_diff: Option<i64>,
        /// Whether status, finish reason, tool calls and output are all as recorded, as far as they can be compared; none
        /// where nothing can.
        pub answer_equal: Option<bool>,
        /// The target, as its place in the manifest's list, from 0: with `--mirror` an exchange and round has a row from each.
        pub target_index: Option<u32>,

        /// Number of the stage or burst that the request belongs to, from 0; none where the load has no such.
        pub stage: Option<u32>,
        /// Number of the user who sent it, or of the slot that it took in a stage with so many in flight, from 0; none where
        /// the load has no such.
        pub load_user: Option<u32>,
        /// Whether it belongs to the warm-up (`--warmup`): such rows are in no figure of a summary or a report.
        pub warmup: bool,
        /// Which timeout ended it: `connect`, `first` (byte of the body), `idle` or `total`; none when none did.
        pub timeout: Option<String>,
        /// With `--history live`: whose answers the request has in its messages of the assistant: `live`, the target's own; `recorded`,
        /// where these found no place; `mixed`. None without such messages.
        pub history: Option<String>,
    }
}

table! {
    /// One response body frame: a row of `frames.parquet`.
    #[derive(Clone, Debug, Default, PartialEq, Eq)]
    pub struct FrameRow in "frames" by at_ns {
        /// Number of the exchange in the trace.
        pub exchange: u64,
        /// Which time around the trace, from 0.
        pub round: u32,
        /// Number of the frame in the response, from 0.
        pub frame: u32,
        /// When it was read.
        pub at_ns: i64,
        /// When the other side had accepted it (recorded traffic only).
        pub accepted_ns: Option<i64>,
        /// Bytes on the wire.
        pub bytes: u32,
        /// Protocol messages that end in it.
        pub events: u32,
        /// Characters of answer text in these.
        pub content_chars: u32,
        /// Characters of reasoning in these.
        pub reasoning_chars: u32,
        /// Characters of tool calls in these.
        pub tool_chars: u32,
        /// The target, as its place in the manifest's list, from 0: with `--mirror` an exchange and round has frames from each.
        pub target_index: u32,
        /// Whether its bytes could not be recorded, so that nobody knows what was in it (recorded traffic only).
        pub bare: Option<bool>,
    }
}

table! {
    /// One reading of one GPU: a row of `gpu.parquet`. What a GPU or its driver does not report is none.
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct GpuSample in "gpu" by at_ns {
        /// Index of the GPU as in `run.json`.
        pub gpu: u32,
        /// When the reading began.
        pub at_ns: i64,
        /// The same as UTC.
        pub sampled_at: i64,
        /// Share of the driver's last sampling window in which a kernel ran.
        pub utilization_pct: Option<u32>,
        /// Share of that window in which device memory was read or written.
        pub memory_utilization_pct: Option<u32>,
        /// Device memory in use, by anybody.
        pub memory_used_bytes: Option<u64>,
        /// Device memory in all.
        pub memory_total_bytes: Option<u64>,
        /// Device memory of all compute processes, as far as the driver says.
        pub process_memory_bytes: Option<u64>,
        /// Device memory of this process.
        pub own_memory_bytes: Option<u64>,
        /// Power draw.
        pub power_w: Option<f64>,
        /// Power limit in force.
        pub power_limit_w: Option<f64>,
        /// Energy since the driver was loaded: a counter.
        pub energy_j: Option<f64>,
        /// Temperature of the die.
        pub temperature_c: Option<f64>,
        /// Temperature of the memory.
        pub memory_temperature_c: Option<f64>,
        /// Clock of the shader cores.
        pub sm_clock_mhz: Option<u32>,
        /// Clock of the memory.
        pub memory_clock_mhz: Option<u32>,
        /// Why clocks are held down, names joined by `|`; empty when they are not.
        pub throttle_reasons: Option<String>,
        /// Bytes per second that the GPU receives over PCIe.
        pub pcie_rx_bytes_per_s: Option<u64>,
        /// Bytes per second that the GPU sends over PCIe.
        pub pcie_tx_bytes_per_s: Option<u64>,
        /// Performance state, 0 the fastest.
        pub pstate: Option<u32>,
        /// Fan speed, of the fastest it can.
        pub fan_pct: Option<u32>,
    }
}

table! {
    /// One reading of the machine and of this process: a row of `host.parquet`.
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct HostSample in "host" by at_ns {
        /// When the reading began.
        pub at_ns: i64,
        /// The same as UTC.
        pub sampled_at: i64,
        /// Busy share of all CPUs since the reading before, 100 is all of them.
        pub cpu_pct: Option<f64>,
        /// Busy share of the busiest CPU since the reading before.
        pub cpu_busiest_pct: Option<f64>,
        /// Share of all CPUs that the hypervisor took since the reading before.
        pub cpu_steal_pct: Option<f64>,
        /// Mean number of runnable tasks over the last minute.
        pub load_1m: Option<f64>,
        /// Memory that programs can't get: total less available.
        pub memory_used_bytes: Option<u64>,
        /// Memory in all.
        pub memory_total_bytes: Option<u64>,
        /// Context switches of the machine since its start: a counter.
        pub switches: Option<u64>,
        /// Bytes received on all interfaces but loopback: a counter.
        pub net_rx_bytes: Option<u64>,
        /// Bytes sent on all interfaces but loopback: a counter.
        pub net_tx_bytes: Option<u64>,
        /// CPU use of this process since the reading before, 100 is one whole CPU.
        pub process_cpu_pct: Option<f64>,
        /// Resident memory of this process.
        pub process_rss_bytes: Option<u64>,
        /// Threads of this process.
        pub process_threads: Option<u32>,
        /// Times that a thread of this process gave its CPU up: a counter.
        pub process_voluntary_switches: Option<u64>,
        /// Times that a thread of this process lost its CPU: a counter.
        pub process_involuntary_switches: Option<u64>,
        /// Time that threads of this process were ready to run but had no CPU: a counter.
        pub process_run_delay_ns: Option<u64>,
    }
}

table! {
    /// One value that a server reported: a row of `server_metrics.parquet`.
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct ServerMetric in "server_metrics" by at_ns {
        /// When the scrape began.
        pub at_ns: i64,
        /// The same as UTC.
        pub sampled_at: i64,
        /// URL that was scraped.
        pub target: String,
        /// Name of the metric, as the server spells it.
        pub name: String,
        /// Its labels, a JSON object with sorted keys.
        pub labels: String,
        /// Its value.
        pub value: f64,
    }
}

/// One telemetry reading.
#[derive(Clone, Debug, PartialEq)]
pub enum Sample {
    /// Of a GPU.
    Gpu(GpuSample),
    /// Of the machine and this process.
    Host(HostSample),
    /// Of a server's metrics page.
    Server(ServerMetric),
}
