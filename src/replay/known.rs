//! What is known of a recorded exchange before it is replayed: little enough to be held for a whole trace.

use std::sync::Arc;

use crate::clock::Nanos;
use crate::replay::ending::Left;
use crate::replay::pace::Pause;
use crate::replay::pin::Length;
use crate::replay::session::Turn;
use crate::results::rows::Measurement;
use crate::trace::record::{ExchangeId, Version};

/// An exchange that can be replayed, some 250 bytes of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Known {
    /// Its number in the trace.
    pub id: ExchangeId,
    /// When its request was recorded.
    pub at: Nanos,
    /// When it starts for the plan: as recorded, unless the load was scaled.
    pub start: Nanos,
    /// Its place in its session.
    pub turn: Turn,
    /// Which copy of its session it belongs to; 0 for the recorded one.
    pub copy: u32,
    /// How often its session is played, at least 1.
    pub copies: u32,
    /// The connection that it came on.
    pub connection: u64,
    /// The version that its client spoke.
    pub version: Version,
    /// Bytes of its request body.
    pub request_bytes: u64,
    /// Where its client left, if it did.
    pub left: Option<Left>,
    /// Where its client paused while it read, if it did.
    pub pauses: Option<Arc<[Pause]>>,
    /// What is known of its output's length.
    pub length: Length,
    /// Digest of its recorded answer's text ([`crate::dialect::text_digest`]), of a chat that has one.
    pub answer: Option<u128>,
    /// Model named in the request.
    pub model: Option<Arc<str>>,
    /// What became of it when it was recorded.
    pub twin: Twin,
}

/// The recorded twin of a measurement.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Twin {
    /// Status.
    pub status: Option<u16>,
    /// Outcome as in the run folder; empty when the trace has no end of the exchange.
    pub outcome: &'static str,
    /// Time to first token from the request's arrival.
    pub ttft_ns: Option<i64>,
    /// End to end from the request's arrival.
    pub e2e_ns: Option<i64>,
    /// Input tokens.
    pub input_tokens: Option<u64>,
    /// Output tokens.
    pub output_tokens: Option<u64>,
    /// Where the count of output tokens came from.
    pub output_tokens_source: Option<Arc<str>>,
    /// Finish reason.
    pub finish_reason: Option<Arc<str>>,
    /// Shape of the tool calls.
    pub tool_shape: Option<Arc<str>>,
    /// Digest of the output, as in the run folder.
    pub digest: Option<Box<str>>,
}

/// Makes the one exchange that tests change: number `id`, alone in a session of the same number, started at `start` ns.
#[cfg(test)]
pub(in crate::replay) fn known(id: u64, start: u64) -> Known {
    Known {
        id: ExchangeId(id),
        at: Nanos(start),
        start: Nanos(start),
        turn: Turn { session: u32::try_from(id).unwrap(), turn: 1, ..Turn::default() },
        copy: 0,
        copies: 1,
        connection: 1,
        version: Version::Http11,
        request_bytes: 2,
        left: None,
        pauses: None,
        length: Length::default(),
        answer: None,
        model: None,
        twin: Twin::default(),
    }
}

// === impl Known ===

impl Known {
    /// Returns the round that its row names when it is released in `round`: each copy of an exchange has rounds of its own, so
    /// that exchange and round tell rows apart.
    #[must_use]
    pub fn round(&self, round: u32) -> u32 {
        round.saturating_mul(self.copies).saturating_add(self.copy)
    }

    /// Puts the twin into a row, and its place in a session where one was found.
    pub fn put(&self, row: &mut Measurement) {
        let twin = &self.twin;
        if let Some(session) = &self.turn.name {
            row.session = Some(session.to_string());
            row.turn = Some(self.turn.turn);
        }
        row.model_recorded = self.model.as_deref().map(str::to_owned);
        row.recorded_at_ns = Some(self.at.as_i64());
        row.recorded_status = twin.status;
        row.recorded_outcome = (!twin.outcome.is_empty()).then(|| twin.outcome.to_owned());
        row.recorded_ttft_ns = twin.ttft_ns;
        row.recorded_e2e_ns = twin.e2e_ns;
        row.recorded_input_tokens = twin.input_tokens;
        row.recorded_output_tokens = twin.output_tokens;
        row.recorded_finish_reason = twin.finish_reason.as_deref().map(str::to_owned);
        row.recorded_output_tokens_source = twin.output_tokens_source.as_deref().map(str::to_owned);
        row.recorded_tool_shape = twin.tool_shape.as_deref().map(str::to_owned);
        row.recorded_output_digest = twin.digest.as_deref().map(str::to_owned);
    }
}
