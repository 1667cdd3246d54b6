//! The row of a recorded exchange: the same columns as a replayed one, from what the trace holds of it.

use crate::clock::{Anchor, Nanos};
use crate::dialect::{self, ResponseReader};
use crate::results::marks;
use crate::results::rows::{FrameRow, Measurement};
use crate::trace::Exchange;
use crate::trace::record::{Frame, Outcome, Side};

/// Makes the rows of a recorded exchange. Its request's arrival at the proxy counts as sent; it has no due time. `run` and
/// `target` are left empty: the trace's header names them. An exchange without a recorded end has an empty outcome.
#[must_use]
pub fn recorded(exchange: &Exchange, anchor: Anchor) -> (Measurement, Vec<FrameRow>) {
    let (row, frames, _text) = recorded_with_text(exchange, anchor);
    (row, frames)
}

/// Does the same as [`recorded`], and returns the answer text of the first choice too.
#[must_use]
pub fn recorded_with_text(
    exchange: &Exchange,
    anchor: Anchor,
) -> (Measurement, Vec<FrameRow>, String) {
    let request = &exchange.request;
    let body = exchange.request_body();
    let facts = dialect::request_facts(&request.method, &request.target, &request.headers, &body);
    let path = request.target.split('?').next().unwrap_or_default();
    let mut row = Measurement {
        exchange: request.exchange.0,
        method: request.method.to_string(),
        path: path.to_owned(),
        model_recorded: facts.model.clone(),
        sent_ns: Some(request.at.as_i64()),
        request_end_ns: exchange.request_frames.last().map(|frame| frame.accepted.as_i64()),
        request_bytes: body.len() as u64,
        recorded_at_ns: Some(request.at.as_i64()),
        ..Measurement::default()
    };
    marks::put_request(&mut row, &facts);
    if let Some(link) = &exchange.link {
        let cost = |ns: u64| (ns > 0).then(|| Nanos(ns).as_i64());
        row.connection = Some(link.connection);
        row.connection_reused = Some(link.reused);
        row.connect_ns = cost(link.connect_ns);
        row.tls_ns = cost(link.tls_ns);
        row.http_version = Some(link.version.as_str().to_owned());
    }
    let outcome = exchange.end.as_ref().map(|end| end.outcome);
    if let Some(end) = &exchange.end {
        row.end_ns = Some(end.at.as_i64());
        marks::put_end(&mut row, end.outcome, end.fault.as_ref());
    }
    let (mut frames, mut text) = (Vec::new(), String::new());
    if let Some(response) = &exchange.response {
        row.headers_ns = Some(response.at.as_i64());
        row.status = Some(response.status.as_u16());
        let mut reader = ResponseReader::new(&facts, response.status, &response.headers);
        frames = exchange
            .response_frames
            .iter()
            .filter(|frame| frame.side == Side::Response)
            .zip(0..)
            .map(|(frame, number)| frame_row(frame, number, &mut reader))
            .collect();
        let facts = reader.finish(outcome == Some(Outcome::Complete));
        marks::put_response(&mut row, &facts, &frames);
        text = facts.text;
    }
    marks::derive(&mut row, &frames, anchor);
    (row, frames, text)
}

/// Returns the recorded answer text of the first choice.
#[must_use]
pub fn output_text(exchange: &Exchange) -> String {
    let request = &exchange.request;
    let body = exchange.request_body();
    let facts = dialect::request_facts(&request.method, &request.target, &request.headers, &body);
    let Some(response) = &exchange.response else { return String::new() };
    let mut reader = ResponseReader::new(&facts, response.status, &response.headers);
    for frame in &exchange.response_frames {
        reader.push(&frame.data);
    }
    reader.finish(true).text
}

fn frame_row(frame: &Frame, number: u32, reader: &mut ResponseReader) -> FrameRow {
    let facts = reader.push(&frame.data);
    FrameRow {
        exchange: frame.exchange.0,
        round: 0,
        frame: number,
        at_ns: frame.at.as_i64(),
        accepted_ns: Some(frame.accepted.as_i64()),
        bytes: u32::try_from(frame.data.len()).unwrap_or(u32::MAX),
        events: facts.events,
        content_chars: facts.content_chars,
        reasoning_chars: facts.reasoning_chars,
        tool_chars: facts.tool_chars,
        target_index: 0,
    }
}
