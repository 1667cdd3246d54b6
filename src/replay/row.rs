//! From a call that has ended to its rows. This is where bytes are read for what they mean: on the results thread, never
//! beside a call.

use std::sync::Arc;

use crate::clock::{Anchor, Nanos};
use crate::dialect::{RequestFacts, ResponseReader};
use crate::http::Carried;
use crate::replay::call::Done;
use crate::replay::history::History;
use crate::replay::known::Known;
use crate::replay::memo::Memo;
use crate::replay::pin::Pinned;
use crate::replay::plan::Release;
use crate::replay::route::Place;
use crate::results::answers;
use crate::results::marks;
use crate::results::rows::{FrameRow, Measurement};
use crate::trace::record::{ExchangeId, Fault, FaultKind, FaultSide, Outcome};

/// What is known of a request when it is armed: the part of its row that does not depend on the answer.
#[derive(Clone, Debug)]
pub struct Sent {
    /// The release.
    pub release: Release,
    /// The target.
    pub place: Place,
    /// Method.
    pub method: http::Method,
    /// Path without the query.
    pub path: String,
    /// What the request says, as it is sent.
    pub facts: RequestFacts,
    /// Digest of the request; none when none could be made.
    pub digest: Option<blake3::Hash>,
    /// Bytes of the body, as it is sent.
    pub bytes: u64,
    /// What is remembered of its recorded exchange.
    pub memo: Arc<Memo>,
    /// Whether its output's length was pinned; none when that was not asked for.
    pub pinned: Option<Pinned>,
    /// Whose answers it has in its messages; none when live ones were not asked for, or there are none.
    pub history: Option<History>,
}

/// Compares an output with the recorded one: returns the first character in which they differ, none when they are equal or
/// the recorded one can't be had.
pub trait Compare {
    /// Compares `text` with the output text of `exchange`.
    fn differs_at(&mut self, exchange: ExchangeId, text: &str) -> Option<u64>;
}

/// Makes the rows of a call.
pub fn rows(
    run: &str,
    anchor: Anchor,
    sent: &Sent,
    known: &Known,
    done: &Done,
    compare: &mut impl Compare,
) -> (Measurement, Vec<FrameRow>) {
    let mut row = begin(run, sent, known);
    row.end_ns = Some(done.end.as_i64());
    row.request_end_ns = done.request_end.map(Nanos::as_i64);
    if let Some(carried) = &done.carried {
        put_carried(&mut row, carried);
    }
    marks::put_end(&mut row, done.outcome, done.fault.as_ref());
    row.timeout = done.timeout.map(str::to_owned);
    let (mut frames, mut text) = (Vec::new(), String::new());
    if let Some(head) = &done.head {
        row.headers_ns = Some(head.at.as_i64());
        row.status = Some(head.status.as_u16());
        row.server_request_id = REQUEST_ID
            .iter()
            .find_map(|name| head.headers.get(*name))
            .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        let mut reader = ResponseReader::new(&sent.facts, head.status, &head.headers);
        frames = done
            .frames
            .iter()
            .zip(0..)
            .map(|((at, data), frame)| frame_row(&row, frame, *at, data, &mut reader))
            .collect();
        let facts = reader.finish(done.outcome == Outcome::Complete);
        marks::put_response(&mut row, &facts, &frames);
        text = facts.text;
    }
    row.output_pinned = sent.pinned.map(|pinned| pinned.settle(&row).to_owned());
    put_comparison(&mut row, &text, known, compare);
    marks::derive(&mut row, &frames, anchor);
    (row, frames)
}

/// Makes the row of an exchange that could not be sent: the trace does not give it back, or it has no form to be sent in.
#[must_use]
pub fn unsent(run: &str, anchor: Anchor, sent: &Sent, known: &Known, why: String) -> Measurement {
    let mut row = begin(run, sent, known);
    row.end_ns = row.due_ns;
    let fault = Fault { side: FaultSide::Local, kind: FaultKind::Other, text: why };
    marks::put_end(&mut row, Outcome::Failed, Some(&fault));
    answers::fill(&mut row);
    marks::derive(&mut row, &[], anchor);
    row
}

fn begin(run: &str, sent: &Sent, known: &Known) -> Measurement {
    let mut row = Measurement {
        run: run.to_owned(),
        exchange: known.id.0,
        round: known.round(sent.release.round),
        stage: sent.release.stage,
        load_user: sent.release.user,
        target: sent.place.url.to_string(),
        target_index: Some(sent.place.column()),
        method: sent.method.to_string(),
        path: sent.path.clone(),
        model_sent: sent.facts.model.clone(),
        due_ns: Some(sent.release.due.as_i64()),
        request_bytes: sent.bytes,
        history: sent.history.map(|history| history.as_str().to_owned()),
        request_digest: sent.digest.map(|digest| digest.to_hex()[..32].to_owned()),
        ..Measurement::default()
    };
    marks::put_request(&mut row, &sent.facts);
    known.put(&mut row);
    sent.memo.put(&mut row);
    row
}

fn put_carried(row: &mut Measurement, carried: &Carried) {
    let cost = |ns: u64| (ns > 0).then(|| Nanos(ns).as_i64());
    row.sent_ns = Some(carried.ready_at.as_i64());
    row.connection = Some(carried.connection);
    row.connection_reused = Some(carried.reused);
    row.connect_ns = cost(carried.connect_ns);
    row.tls_ns = cost(carried.tls_ns);
    row.http_version = Some(carried.version.as_str().to_owned());
    row.retries = carried.retries;
}

fn frame_row(
    row: &Measurement,
    frame: u32,
    at: Nanos,
    data: &[u8],
    reader: &mut ResponseReader,
) -> FrameRow {
    let facts = reader.push(data);
    FrameRow {
        exchange: row.exchange,
        round: row.round,
        frame,
        at_ns: at.as_i64(),
        accepted_ns: None,
        bytes: u32::try_from(data.len()).unwrap_or(u32::MAX),
        events: facts.events,
        content_chars: facts.content_chars,
        reasoning_chars: facts.reasoning_chars,
        tool_chars: facts.tool_chars,
        target_index: row.target_index.unwrap_or_default(),
        bare: None,
    }
}

/// Compares the answer with the recorded one.
fn put_comparison(row: &mut Measurement, text: &str, known: &Known, compare: &mut impl Compare) {
    answers::fill(row);
    if row.output_equal == Some(false) {
        row.output_differs_at = compare.differs_at(known.id, text);
    }
}

/// Fields in which servers name a request, the most usual first.
const REQUEST_ID: [&str; 3] = ["x-request-id", "request-id", "apim-request-id"];
