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

/// One exchange: a row of `requests.parquet`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Measurement {
    /// Id of the run (for an exported trace: of the trace).
    pub run: String,
    /// Number of the exchange in the trace; joins runs with each other and with the recording.
    pub exchange: u64,
    /// Which time around the trace, from 0, with `--loop`.
    pub round: u32,
    /// Conversation that the exchange belongs to, where one is named.
    pub session: Option<String>,
    /// Number of user turns in the request, from 1.
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
    /// `complete`, `failed` or `cancelled`.
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

    /// Time to first token from sent.
    pub ttft_ns: Option<i64>,
    /// Time to first token from due.
    pub ttft_due_ns: Option<i64>,
    /// Mean gap between content frames.
    pub itl_mean_ns: Option<i64>,
    /// Time per output token after the first.
    pub tpot_ns: Option<i64>,
    /// End to end from sent.
    pub e2e_ns: Option<i64>,
    /// End to end from due.
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
}

/// One response body frame: a row of `frames.parquet`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FrameRow {
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
}
