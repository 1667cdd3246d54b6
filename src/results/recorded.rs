//! The row of a recorded exchange: the same columns as a replayed one, from what the trace holds of it.

use bytes::Bytes;

use crate::clock::{Anchor, Nanos};
use crate::dialect::{self, FrameFacts, RequestFacts, ResponseReader};
use crate::results::marks;
use crate::results::rows::{FrameRow, Measurement};
use crate::trace::record::{ExchangeId, Outcome, RequestHead, Side};
use crate::trace::{Exchange, FrameView};

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
    let facts = request_facts(exchange);
    let path = request.target.split('?').next().unwrap_or_default();
    let mut row = Measurement {
        exchange: request.exchange.0,
        method: request.method.to_string(),
        path: path.to_owned(),
        model_recorded: facts.model.clone(),
        sent_ns: Some(request.at.as_i64()),
        request_end_ns: exchange.frames(Side::Request).last().map(|frame| frame.accepted.as_i64()),
        request_bytes: exchange.frames(Side::Request).map(|frame| frame.len).sum(),
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
        let id = request.exchange;
        frames = exchange
            .frames(Side::Response)
            .zip(0..)
            .map(|(frame, number)| frame_row(id, frame, number, &mut reader))
            .collect();
        let mut facts = reader.finish(outcome == Some(Outcome::Complete));
        if exchange.lacks(Side::Response) {
            facts.lack();
        }
        marks::put_response(&mut row, &facts, &frames);
        text = facts.text;
    }
    marks::derive(&mut row, &frames, anchor);
    (row, frames, text)
}

/// Returns the recorded answer text of the first choice; an empty one when not all of it could be recorded.
#[must_use]
pub fn output_text(exchange: &Exchange) -> String {
    let facts = request_facts(exchange);
    let Some(response) = &exchange.response else { return String::new() };
    let mut reader = ResponseReader::new(&facts, response.status, &response.headers);
    for frame in exchange.frames(Side::Response) {
        read(frame, &mut reader);
    }
    if exchange.lacks(Side::Response) { String::new() } else { reader.finish(true).text }
}

/// Returns what the request says. A body that is not whole says nothing: without what is missing it may say what it did not.
fn request_facts(exchange: &Exchange) -> RequestFacts {
    let RequestHead { method, target, headers, .. } = &exchange.request;
    let lacks = exchange.lacks(Side::Request);
    let body = if lacks { Bytes::new() } else { exchange.request_body() };
    dialect::request_facts(method, target, headers, &body)
}

/// Has a frame read; returns what ended in it.
fn read(frame: FrameView<'_>, reader: &mut ResponseReader) -> FrameFacts {
    match frame.data {
        Some(data) => reader.push(data),
        None => {
            reader.skip(frame.len);
            FrameFacts::default()
        }
    }
}

fn frame_row(
    exchange: ExchangeId,
    frame: FrameView<'_>,
    number: u32,
    reader: &mut ResponseReader,
) -> FrameRow {
    let facts = read(frame, reader);
    FrameRow {
        exchange: exchange.0,
        round: 0,
        frame: number,
        at_ns: frame.at.as_i64(),
        accepted_ns: Some(frame.accepted.as_i64()),
        bytes: u32::try_from(frame.len).unwrap_or(u32::MAX),
        events: facts.events,
        content_chars: facts.content_chars,
        reasoning_chars: facts.reasoning_chars,
        tool_chars: facts.tool_chars,
        target_index: 0,
        bare: Some(frame.data.is_none()),
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, Method, StatusCode};

    use super::*;
    use crate::trace::Assembler;
    use crate::trace::record::{
        BareFrame, End, Event, Frame, Passed, RequestHead, ResponseHead, Version,
    };

    const ID: ExchangeId = ExchangeId(1);

    /// Returns the row of a streamed chat, and its frames. Each of `frames` is a word, or the length of a frame whose bytes
    /// are lost; they are 10 ns apart.
    fn row(asked: Result<&str, u64>, frames: &[Result<&str, u64>]) -> (Measurement, Vec<FrameRow>) {
        let frame = |side: Side, at: u64, frame: Result<String, u64>| {
            let (exchange, at, accepted) = (ID, Nanos(at), Nanos(at + 1));
            match frame {
                Ok(text) => Event::Frame(Frame { exchange, side, at, accepted, data: text.into() }),
                Err(len) => Event::Bare(BareFrame { exchange, side, at, accepted, len }),
            }
        };
        let word = |word: &str| match word {
            "[DONE]" => "data: [DONE]\n\n".to_owned(),
            word => {
                format!(
                    "data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{word}\"}}}}]}}\n\n"
                )
            }
        };
        let mut headers = HeaderMap::new();
        headers.insert("content-type", "text/event-stream".parse().unwrap());
        let mut events = vec![
            Event::Request(Box::new(RequestHead {
                exchange: ID,
                at: Nanos(0),
                connection: 1,
                version: Version::Http11,
                method: Method::POST,
                target: "/v1/chat/completions".to_owned(),
                authority: None,
                headers: HeaderMap::new(),
                upstream: 0,
            })),
            frame(Side::Request, 1, asked.map(str::to_owned)),
            Event::Response(Box::new(ResponseHead {
                exchange: ID,
                at: Nanos(90),
                version: Version::Http11,
                status: StatusCode::OK,
                reason: None,
                headers,
            })),
        ];
        events.extend(
            (10..).zip(frames).map(|(n, one)| frame(Side::Response, n * 10, one.map(word))),
        );
        events.push(Event::End(Box::new(End {
            exchange: ID,
            at: Nanos(900),
            outcome: Outcome::Complete,
            fault: None,
            request: Passed::default(),
            response: Passed::default(),
        })));
        recorded(&Assembler::all(events)[0], Anchor(0))
    }

    const ASKED: &str = r#"{"model":"m","stream":true}"#;

    #[test]
    fn frames_whose_bytes_are_lost_have_their_times_and_nothing_is_made_up_about_them() {
        let (told, frames) =
            row(Ok(ASKED), &[Ok("one"), Err(40), Ok("x"), Ok("two"), Ok("[DONE]")]);
        let at: Vec<i64> = frames.iter().map(|frame| frame.at_ns).collect();
        assert_eq!(at, [100, 110, 120, 130, 140]);
        let of = |frame: &FrameRow| (frame.bare, frame.content_chars);
        let expected = [(false, 3), (true, 0), (false, 0), (false, 3), (false, 0)];
        assert!(frames.iter().map(of).eq(expected.map(|(bare, chars)| (Some(bare), chars))));
        assert_eq!((told.response_frames, frames[1].bytes), (5, 40));
        assert_eq!((told.first_token_ns, told.last_token_ns), (Some(100), Some(130)));
        assert_eq!((told.output_chars, told.output_digest, told.output_tokens), (None, None, None));
        assert_eq!((told.itl_mean_ns, told.error_kind), (None, None));
        let (whole, _) = row(Ok(ASKED), &[Ok("one"), Ok("two"), Ok("[DONE]")]);
        assert_eq!((whole.output_chars, whole.output_tokens), (Some(6), Some(2)));
        assert!(whole.itl_mean_ns.is_some() && whole.output_digest.is_some());
    }

    #[test]
    fn a_first_or_last_token_that_may_have_been_lost_is_not_known() {
        let (first, _) = row(Ok(ASKED), &[Err(40), Ok("x"), Ok("one"), Ok("two")]);
        let marks = |row: &Measurement| (row.first_frame_ns, row.first_token_ns, row.last_token_ns);
        assert_eq!(marks(&first), (Some(100), None, Some(130)));
        let (last, _) = row(Ok(ASKED), &[Ok("one"), Ok("two"), Err(40)]);
        assert_eq!(marks(&last), (Some(100), Some(100), None));
        assert_eq!(last.error_kind, None, "the end may have been there");
        let (all, _) = row(Ok(ASKED), &[Err(40), Err(40)]);
        assert_eq!((marks(&all), all.response_frames), ((Some(100), None, None), 2));
    }

    #[test]
    fn a_request_that_is_not_whole_names_no_model() {
        let (row, _) = row(Err(27), &[Ok("one")]);
        assert_eq!((row.model_recorded, row.request_bytes), (None, 27));
        assert_eq!(row.request_end_ns, Some(2));
    }
}
