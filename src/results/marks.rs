//! From marks and facts to columns: what a replayed and a recorded exchange have in common.
//!
//! A row is filled in this order: the raw marks by whoever took them, then [`put_request`], [`put_response`], and at last
//! [`derive()`], which computes every duration from the marks in the row and nothing else (formulas: [`super::rows`]).

use crate::clock::Anchor;
use crate::dialect::{Dialect, Operation, RequestFacts, ResponseFacts};
use crate::results::rows::{FrameRow, Measurement};
use crate::trace::record::{Fault, FaultKind, FaultSide, Outcome};

/// Puts in what a request says. `model` is left to the caller: recorded and sent may differ.
pub fn put_request(row: &mut Measurement, facts: &RequestFacts) {
    row.dialect = dialect_name(facts.dialect).to_owned();
    row.operation = operation_name(facts.operation).to_owned();
    row.session.clone_from(&facts.session);
    row.turn = (facts.user_messages > 0).then_some(facts.user_messages);
    row.stream = facts.stream;
    row.prompt_chars = (facts.prompt_chars > 0).then_some(facts.prompt_chars);
    row.images = facts.images;
    row.media_bytes = facts.media_bytes;
}

/// Puts in what a response says, and the marks that follow from it: `frames` are its frames in order, by whose numbers the
/// facts name them.
///
/// Where no transport error stands in the row, an error that the response itself reports is put in: `http` for a status
/// of 400 or more, `api` for an error inside another status, `incomplete` for a stream without an end.
pub fn put_response(row: &mut Measurement, facts: &ResponseFacts, frames: &[FrameRow]) {
    let at = |number: Option<u64>| {
        number
            .and_then(|number| usize::try_from(number).ok())
            .and_then(|number| frames.get(number))
            .map(|frame| frame.at_ns)
    };
    row.response_frames = frames.len() as u64;
    row.response_bytes = frames.iter().map(|frame| u64::from(frame.bytes)).sum();
    row.response_events = facts.events;
    row.first_frame_ns = frames.first().map(|frame| frame.at_ns);
    row.first_token_ns = at(facts.first_content_frame);
    row.first_answer_token_ns = at(facts.first_answer_frame);
    row.last_token_ns = at(facts.last_content_frame);
    row.finish_reason.clone_from(&facts.finish_reason);
    if row.server_request_id.is_none() {
        row.server_request_id.clone_from(&facts.id);
    }
    put_tokens(row, facts);
    let is_whole = facts.content_events > 0 && !facts.lacking;
    row.output_chars = is_whole.then_some(facts.content_chars);
    row.reasoning_chars = is_whole.then_some(facts.reasoning_chars);
    row.output_digest.clone_from(&facts.digest);
    row.tool_shape.clone_from(&facts.tool_shape);
    forgive_early_leave(row, facts);
    put_reported_error(row, facts);
}

/// Calls complete what a client left after the protocol's own end (`[DONE]`): it had got all there was. Some SDKs close
/// the connection there, without waiting for the last chunk of the transfer coding. The trace keeps what happened.
fn forgive_early_leave(row: &mut Measurement, facts: &ResponseFacts) {
    if facts.ended && row.outcome == outcome_name(Outcome::Cancelled) {
        outcome_name(Outcome::Complete).clone_into(&mut row.outcome);
        (row.fault, row.error_kind, row.error) = (None, None, None);
    }
}

/// Computes every column that follows from the marks in the row. `frames` are the response's frames, for the mean gap
/// between those with content.
pub fn derive(row: &mut Measurement, frames: &[FrameRow], anchor: Anchor) {
    let utc = |at: Option<i64>| at.map(|at| anchor.0.saturating_add(at));
    row.due_at = utc(row.due_ns);
    row.sent_at = utc(row.sent_ns);
    row.end_at = utc(row.end_ns);
    row.lateness_ns = less(row.sent_ns, row.due_ns);
    row.ttft_ns = less(row.first_token_ns, row.sent_ns);
    row.ttft_due_ns = less(row.first_token_ns, row.due_ns);
    row.e2e_ns = less(row.end_ns, row.sent_ns);
    row.e2e_due_ns = less(row.end_ns, row.due_ns);
    let content = frames.iter().filter(|frame| has_content(frame)).count() as u64;
    // What was in a bare frame nobody knows.
    let content = frames.iter().all(|frame| frame.bare != Some(true)).then_some(content);
    let talking = less(row.last_token_ns, row.first_token_ns);
    row.itl_mean_ns = per_gap(talking, content);
    row.tpot_ns = per_gap(talking, row.output_tokens);
}

/// Puts in how an exchange ended.
pub fn put_end(row: &mut Measurement, outcome: Outcome, fault: Option<&Fault>) {
    row.outcome = outcome_name(outcome).to_owned();
    if let Some(fault) = fault {
        row.fault = Some(side_name(fault.side).to_owned());
        row.error_kind = Some(kind_name(fault.kind).to_owned());
        row.error = Some(fault.text.clone());
    }
}

/// Returns whether a frame carried content of any kind.
#[must_use]
pub const fn has_content(frame: &FrameRow) -> bool {
    frame.content_chars > 0 || frame.reasoning_chars > 0 || frame.tool_chars > 0
}

fn put_tokens(row: &mut Measurement, facts: &ResponseFacts) {
    let usage = || Some("usage".to_owned());
    row.input_tokens = facts.usage.input;
    row.input_tokens_source = facts.usage.input.and_then(|_| usage());
    row.cached_tokens = facts.usage.cached;
    row.reasoning_tokens = facts.usage.reasoning;
    (row.output_tokens, row.output_tokens_source) = match facts.usage.output {
        Some(tokens) => (Some(tokens), usage()),
        // A stream without usage: most servers send a token an event. A unary answer's one event says nothing.
        None if facts.content_events > 0 && row.stream == Some(true) && !facts.lacking => {
            (Some(facts.content_events), Some("frames".to_owned()))
        }
        None => (None, None),
    };
}

fn put_reported_error(row: &mut Measurement, facts: &ResponseFacts) {
    if row.error_kind.is_some() {
        return;
    }
    let is_error_status = row.status.is_some_and(|status| status >= 400);
    let (kind, text) = match &facts.error {
        Some(text) => (if is_error_status { "http" } else { "api" }, text.clone()),
        None if is_error_status => ("http", format!("status {}", row.status.unwrap_or_default())),
        None if row.outcome == outcome_name(Outcome::Complete)
            && row.stream == Some(true)
            && facts.content_events > 0
            && !facts.lacking
            && !facts.ended
            && facts.finish_reason.is_none() =>
        {
            ("incomplete", "the stream ended without a finish reason or an end event".to_owned())
        }
        None => return,
    };
    row.fault = Some(side_name(FaultSide::Server).to_owned());
    row.error_kind = Some(kind.to_owned());
    row.error = Some(text);
}

fn less(later: Option<i64>, earlier: Option<i64>) -> Option<i64> {
    Some(later?.saturating_sub(earlier?))
}

/// Divides by the gaps between `n` things; none below two.
fn per_gap(time: Option<i64>, n: Option<u64>) -> Option<i64> {
    let gaps = i64::try_from(n?).ok()?.checked_sub(1).filter(|gaps| *gaps > 0)?;
    Some(time? / gaps)
}

/// Returns the name of a dialect in a row.
#[must_use]
pub const fn dialect_name(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Generic => "generic",
        Dialect::OpenAi => "openai",
    }
}

/// Returns the name of an operation in a row.
#[must_use]
pub const fn operation_name(operation: Operation) -> &'static str {
    match operation {
        Operation::Chat => "chat",
        Operation::Completion => "completion",
        Operation::Embedding => "embedding",
        Operation::Models => "models",
        Operation::Other => "other",
    }
}

/// Returns the name of an outcome in a row.
#[must_use]
pub const fn outcome_name(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Complete => "complete",
        Outcome::Failed => "failed",
        Outcome::Cancelled => "cancelled",
    }
}

/// Returns the name of a side in a row.
#[must_use]
pub const fn side_name(side: FaultSide) -> &'static str {
    match side {
        FaultSide::Client => "client",
        FaultSide::Local => "local",
        FaultSide::Server => "server",
    }
}

/// Returns the name of a kind of fault in a row.
#[must_use]
pub const fn kind_name(kind: FaultKind) -> &'static str {
    match kind {
        FaultKind::Closed => "closed",
        FaultKind::Connect => "connect",
        FaultKind::Disconnected => "disconnected",
        FaultKind::Dns => "dns",
        FaultKind::Other => "other",
        FaultKind::Protocol => "protocol",
        FaultKind::Reset => "reset",
        FaultKind::Timeout => "timeout",
        FaultKind::Tls => "tls",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::Usage;

    fn frames() -> Vec<FrameRow> {
        [(100, 0), (200, 3), (300, 4), (500, 2), (600, 0)]
            .map(|(at_ns, content_chars)| FrameRow {
                at_ns,
                content_chars,
                bytes: 10,
                ..FrameRow::default()
            })
            .into()
    }

    fn streamed() -> Measurement {
        Measurement {
            stream: Some(true),
            status: Some(200),
            outcome: "complete".to_owned(),
            due_ns: Some(40),
            sent_ns: Some(50),
            end_ns: Some(700),
            ..Measurement::default()
        }
    }

    fn facts() -> ResponseFacts {
        ResponseFacts {
            events: 5,
            content_events: 3,
            content_chars: 9,
            first_content_frame: Some(1),
            first_answer_frame: Some(1),
            last_content_frame: Some(3),
            finish_reason: Some("stop".to_owned()),
            ended: true,
            ..ResponseFacts::default()
        }
    }

    #[test]
    fn who_leaves_after_the_end_event_has_got_all_of_it() {
        let left = Fault {
            side: FaultSide::Client,
            kind: FaultKind::Disconnected,
            text: "the client left".to_owned(),
        };
        for (ended, outcome, kind) in
            [(true, "complete", None), (false, "cancelled", Some("disconnected"))]
        {
            let mut row = streamed();
            put_end(&mut row, Outcome::Cancelled, Some(&left));
            put_response(&mut row, &ResponseFacts { ended, ..facts() }, &frames());
            assert_eq!((row.outcome.as_str(), row.error_kind.as_deref()), (outcome, kind));
        }
    }

    #[test]
    fn durations_follow_from_the_marks() {
        let (mut row, frames) = (streamed(), frames());
        put_response(&mut row, &facts(), &frames);
        derive(&mut row, &frames, Anchor(1_000));
        assert_eq!((row.lateness_ns, row.due_at, row.end_at), (Some(10), Some(1_040), Some(1_700)));
        assert_eq!((row.ttft_ns, row.ttft_due_ns), (Some(150), Some(160)));
        assert_eq!((row.e2e_ns, row.e2e_due_ns), (Some(650), Some(660)));
        assert_eq!((row.itl_mean_ns, row.tpot_ns), (Some(150), Some(150)));
        assert_eq!(
            (row.output_tokens, row.output_tokens_source.as_deref()),
            (Some(3), Some("frames"))
        );
        assert_eq!((row.response_frames, row.response_bytes), (5, 50));
        assert_eq!(row.error_kind, None);
    }

    #[test]
    fn usage_is_believed_before_frames_and_one_token_has_no_gap() {
        let (mut row, frames) = (streamed(), frames());
        let usage = Usage { output: Some(1), input: Some(8), ..Usage::default() };
        put_response(&mut row, &ResponseFacts { usage, ..facts() }, &frames);
        derive(&mut row, &frames, Anchor(0));
        assert_eq!(
            (row.output_tokens, row.output_tokens_source.as_deref()),
            (Some(1), Some("usage"))
        );
        assert_eq!((row.tpot_ns, row.input_tokens), (None, Some(8)));
    }

    #[test]
    fn a_reported_error_is_named_unless_the_transport_failed_first() {
        let check = |row: Measurement, facts: ResponseFacts, expected: Option<&str>| {
            let mut row = row;
            put_response(&mut row, &facts, &[]);
            assert_eq!(row.error_kind.as_deref(), expected);
        };
        let error = || Some("overloaded".to_owned());
        check(streamed(), facts(), None);
        check(Measurement { status: Some(500), ..streamed() }, facts(), Some("http"));
        check(streamed(), ResponseFacts { error: error(), ..facts() }, Some("api"));
        check(
            streamed(),
            ResponseFacts { ended: false, finish_reason: None, ..facts() },
            Some("incomplete"),
        );
        let mut reset = streamed();
        let fault =
            Fault { side: FaultSide::Server, kind: FaultKind::Reset, text: "reset".to_owned() };
        put_end(&mut reset, Outcome::Failed, Some(&fault));
        check(reset, ResponseFacts { error: error(), ..facts() }, Some("reset"));
    }
}
