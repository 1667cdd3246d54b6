//! The survey: one pass over a trace, before anything is planned, that keeps of each exchange what must be known ahead
//! ([`Known`]) and counts what can't or shall not be replayed. Memory: the exchanges that are open at one time, and some 130
//! bytes for each that is kept. What [`Finder`] needs for itself is said there.

use std::fmt;
use std::sync::Arc;

use http::header::{CONTENT_LENGTH, UPGRADE};
use http::{HeaderMap, Method, StatusCode};

use crate::clock::Anchor;
use crate::dialect::text_digest;
use crate::replay::ending::Left;
use crate::replay::known::Known;
use crate::replay::memo::{Memo, Memos, Twin};
use crate::replay::pace::pauses;
use crate::replay::pin::Length;
use crate::replay::session::{Finder, Member, Turn};
use crate::replay::session_key::SessionKeys;
use crate::results::filter::{Filter, Subject};
use crate::results::recorded::recorded_with_text;
use crate::results::rows::Measurement;
use crate::trace::record::{End, Event, Outcome, Side, Version};
use crate::trace::{Assembler, Exchange, TraceError};

/// What a trace holds for a replay.
#[derive(Clone, Debug, Default)]
pub struct Survey {
    /// What can be replayed and passes the filters, in the order of the recorded starts.
    pub known: Vec<Known>,
    /// What is remembered of each beside that.
    pub memos: Arc<Memos>,
    /// Whether any of them was recorded in HTTP/1, and in HTTP/2.
    pub versions: (bool, bool),
    /// Sessions that are named or have more than one turn.
    pub sessions: u32,
    /// What is left out.
    pub left_out: LeftOut,
}

/// Exchanges that are left out, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// A filter did not hold.
    pub filtered: u64,
    /// Tunnels: `CONNECT` and upgrades have no request that could be sent again.
    pub tunnels: u64,
    /// The trace does not hold the whole request: the client left while it sent it, or frames were lost.
    pub partial: u64,
}

/// What a survey works with.
struct Surveyor<'a> {
    filters: &'a [Filter],
    anchor: Anchor,
    memos: Memos,
    versions: (bool, bool),
    finder: Finder,
    kept: Vec<(Known, Member)>,
    left_out: LeftOut,
}

enum Verdict {
    Keep(Box<(Known, Member)>),
    Filtered,
    Partial,
    Tunnel,
}

/// Goes through the events of a trace, and finds sessions by `keys`.
///
/// # Errors
/// The trace can't be read.
pub fn survey(
    events: impl Iterator<Item = Result<Event, TraceError>>,
    filters: &[Filter],
    keys: &SessionKeys,
    anchor: Anchor,
) -> Result<Survey, TraceError> {
    let mut surveyor = Surveyor {
        filters,
        anchor,
        memos: Memos::default(),
        versions: (false, false),
        finder: Finder::new(keys.clone()),
        kept: Vec::new(),
        left_out: LeftOut::default(),
    };
    let mut assembler = Assembler::default();
    for event in events {
        if let Some(exchange) = assembler.push(event?) {
            surveyor.add(&exchange);
        }
    }
    for exchange in assembler.finish() {
        surveyor.add(&exchange);
    }
    Ok(surveyor.finish())
}

// === impl Surveyor ===

impl Surveyor<'_> {
    fn add(&mut self, exchange: &Exchange) {
        match self.judge(exchange) {
            Verdict::Keep(kept) => self.kept.push(*kept),
            Verdict::Filtered => self.left_out.filtered += 1,
            Verdict::Partial => self.left_out.partial += 1,
            Verdict::Tunnel => self.left_out.tunnels += 1,
        }
    }

    fn finish(mut self) -> Survey {
        self.kept.sort_by_key(|(known, _)| (known.at, known.id));
        let sessions = self.finder.settle(&mut self.kept);
        let known = self.kept.into_iter().map(|(known, _)| known).collect();
        let (memos, versions) = (Arc::new(self.memos), self.versions);
        Survey { known, memos, versions, sessions, left_out: self.left_out }
    }

    fn judge(&mut self, exchange: &Exchange) -> Verdict {
        let request = &exchange.request;
        let (row, _frames, text) = recorded_with_text(exchange, self.anchor);
        let subject = Subject::new(exchange, &row);
        if !self.filters.iter().all(|filter| filter.holds(&subject)) {
            return Verdict::Filtered;
        }
        let switched = exchange
            .response
            .as_ref()
            .is_some_and(|response| response.status == StatusCode::SWITCHING_PROTOCOLS);
        if request.method == Method::CONNECT || switched || wants_websocket(&request.headers) {
            return Verdict::Tunnel;
        }
        let request_bytes =
            exchange.request_frames.iter().map(|frame| frame.data.len() as u64).sum();
        if !is_whole(exchange, request_bytes) {
            return Verdict::Partial;
        }
        let member = self.finder.push(exchange, &text);
        let memo = Memo {
            version: request.version,
            left: exchange.end.as_ref().and_then(|end| left(exchange, end)),
            pauses: pauses(exchange.frames(Side::Response)),
            length: Length::of(&row),
            answer: text_digest(&text).filter(|_| row.operation == "chat"),
            model: row.model_recorded.clone(),
            twin: twin(exchange, row),
        };
        self.versions.0 |= request.version != Version::Http2;
        self.versions.1 |= request.version == Version::Http2;
        let known = Known {
            id: request.exchange,
            at: request.at,
            start: request.at,
            turn: Turn::default(),
            copy: 0,
            copies: 1,
            connection: request.connection,
            request_bytes,
            memo: self.memos.add(&memo),
        };
        Verdict::Keep(Box::new((known, member)))
    }
}

// === impl LeftOut ===

impl fmt::Display for LeftOut {
    /// Writes a sentence for each reason, or nothing.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut space = "";
        for (n, why) in [
            (self.filtered, "left out by --filter"),
            (self.tunnels, "left out: tunnels (CONNECT or upgrade) can't be sent again"),
            (self.partial, "left out: the trace does not hold the whole request"),
        ] {
            if n > 0 {
                write!(f, "{space}{n} {why}.")?;
                space = " ";
            }
        }
        Ok(())
    }
}

fn wants_websocket(headers: &HeaderMap) -> bool {
    headers.get_all(UPGRADE).iter().any(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

/// Returns whether the trace holds the whole request body.
fn is_whole(exchange: &Exchange, request_bytes: u64) -> bool {
    let announced = exchange
        .request
        .headers
        .get(CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    match (&exchange.end, announced) {
        (_, Some(announced)) => announced == request_bytes,
        (Some(end), None) => {
            end.request.lost_bytes == 0 && (end.request.ended || request_bytes == 0)
        }
        // Cut off before its end was recorded: a response says that the server had it all.
        (None, None) if !exchange.request_bare.is_empty() => false,
        (None, None) => exchange.response.is_some() || request_bytes == 0,
    }
}

/// Returns where the client left, if it did.
fn left(exchange: &Exchange, end: &End) -> Option<Left> {
    (end.outcome == Outcome::Cancelled).then(|| Left {
        bytes: end.response.bytes,
        frames: end.response.frames,
        after: end.at.since(exchange.request.at),
    })
}

fn twin(exchange: &Exchange, row: Measurement) -> Twin {
    use crate::results::marks::outcome_name;
    // Who left after the protocol's own end has a complete answer; the trace keeps what happened.
    let complete = outcome_name(Outcome::Complete);
    let outcome =
        |end: &End| if row.outcome == complete { complete } else { outcome_name(end.outcome) };
    Twin {
        status: row.status,
        outcome: exchange.end.as_ref().map(outcome).map(str::to_owned),
        ttft_ns: row.ttft_ns,
        e2e_ns: row.e2e_ns,
        input_tokens: row.input_tokens,
        output_tokens: row.output_tokens,
        output_tokens_source: row.output_tokens_source,
        finish_reason: row.finish_reason,
        tool_shape: row.tool_shape,
        digest: row.output_digest,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;

    use super::*;
    use crate::clock::Nanos;
    use crate::trace::record::{
        BareFrame, ExchangeId, Frame, Passed, RequestHead, ResponseHead, Version,
    };

    const AT: Nanos = Nanos(1_000_000);

    fn request(id: u64, method: &str, headers: &[(&'static str, &'static str)]) -> Event {
        Event::Request(Box::new(RequestHead {
            exchange: ExchangeId(id),
            at: AT,
            connection: 1,
            version: Version::Http11,
            method: method.parse().unwrap(),
            target: "/v1/x".to_owned(),
            authority: None,
            headers: headers
                .iter()
                .map(|(name, value)| {
                    (name.parse::<http::HeaderName>().unwrap(), value.parse().unwrap())
                })
                .collect(),
            upstream: 0,
        }))
    }

    fn body(id: u64, data: &'static str) -> Event {
        let data = Bytes::from_static(data.as_bytes());
        Event::Frame(Frame {
            exchange: ExchangeId(id),
            side: Side::Request,
            at: AT,
            accepted: AT,
            data,
        })
    }

    fn status(id: u64, status: u16) -> Event {
        Event::Response(Box::new(ResponseHead {
            exchange: ExchangeId(id),
            at: AT,
            version: Version::Http11,
            status: status.try_into().unwrap(),
            reason: None,
            headers: HeaderMap::new(),
        }))
    }

    fn end(id: u64, outcome: Outcome, request: Passed, response_bytes: u64) -> Event {
        Event::End(Box::new(End {
            exchange: ExchangeId(id),
            at: Nanos(AT.0 + 7_000_000),
            outcome,
            fault: None,
            request,
            response: Passed { bytes: response_bytes, ..Passed::default() },
        }))
    }

    fn ended(ended: bool, lost_bytes: u64) -> Passed {
        Passed { ended, lost_bytes, ..Passed::default() }
    }

    /// Checks what becomes of one exchange: `kept`, `tunnel`, `partial` or `filtered`.
    fn check(events: Vec<Event>, filter: &str, expected: &str) -> Option<Memo> {
        let filters: Vec<Filter> = filter.parse().into_iter().collect();
        let survey =
            survey(events.into_iter().map(Ok), &filters, &SessionKeys::default(), Anchor(0))
                .unwrap();
        let LeftOut { filtered, tunnels, partial } = survey.left_out;
        let seen = match (survey.known.len(), tunnels, partial, filtered) {
            (1, 0, 0, 0) => "kept",
            (0, 1, 0, 0) => "tunnel",
            (0, 0, 1, 0) => "partial",
            (0, 0, 0, 1) => "filtered",
            _ => "muddle",
        };
        assert_eq!(seen, expected, "{:?}", survey.left_out);
        survey.known.first().map(|known| survey.memos.get(known.memo).unwrap())
    }

    /// What could not be recorded of a request can't be sent.
    #[test]
    fn a_request_of_which_bytes_could_not_be_recorded_is_not_kept() {
        let bare = |len: u64| {
            let (exchange, side) = (ExchangeId(1), Side::Request);
            Event::Bare(BareFrame { exchange, side, at: AT, accepted: AT, len })
        };
        let body = || vec![request(1, "POST", &[]), body(1, "{}")];
        let length = [("content-length", "2")];
        check([body(), vec![bare(2), status(1, 200)]].concat(), "", "partial");
        let lost = ended(true, 2);
        check([body(), vec![bare(2), end(1, Outcome::Complete, lost, 0)]].concat(), "", "partial");
        check(vec![request(1, "POST", &length), bare(2), status(1, 200)], "", "partial");
    }

    #[test]
    fn only_whole_requests_are_kept() {
        let complete = Outcome::Complete;
        let length = [("content-length", "2")];
        check(vec![request(1, "GET", &[]), end(1, complete, ended(true, 0), 0)], "", "kept");
        check(vec![request(1, "POST", &length), body(1, "{}")], "", "kept");
        check(vec![request(1, "POST", &length), body(1, "{")], "", "partial");
        check(vec![request(1, "POST", &[]), body(1, "{}")], "", "partial");
        check(vec![request(1, "POST", &[]), body(1, "{}"), status(1, 200)], "", "kept");
        check(
            vec![request(1, "POST", &[]), body(1, "{}"), end(1, complete, ended(true, 0), 0)],
            "",
            "kept",
        );
        check(
            vec![request(1, "POST", &[]), body(1, "{}"), end(1, complete, ended(true, 5), 0)],
            "",
            "partial",
        );
        check(
            vec![
                request(1, "POST", &[]),
                body(1, "{}"),
                end(1, Outcome::Cancelled, ended(false, 0), 0),
            ],
            "",
            "partial",
        );
    }

    #[test]
    fn tunnels_and_what_is_filtered_are_left_out() {
        check(vec![request(1, "CONNECT", &[])], "", "tunnel");
        check(vec![request(1, "GET", &[("upgrade", "WebSocket")])], "", "tunnel");
        check(vec![request(1, "GET", &[]), status(1, 101)], "", "tunnel");
        check(vec![request(1, "GET", &[("upgrade", "h2c")]), status(1, 200)], "", "kept");
        check(vec![request(1, "GET", &[])], "outcome=open", "kept");
        check(
            vec![request(1, "GET", &[]), end(1, Outcome::Failed, ended(true, 0), 0)],
            "outcome!=failed",
            "filtered",
        );
        check(vec![request(1, "GET", &[]), status(1, 200)], "status=200", "kept");
    }

    #[test]
    fn where_the_client_left_is_known() {
        let known = |outcome, bytes| {
            check(vec![request(1, "GET", &[]), end(1, outcome, ended(true, 0), bytes)], "", "kept")
                .unwrap()
                .left
        };
        let after = Duration::from_millis(7);
        assert_eq!(known(Outcome::Cancelled, 0), Some(Left { bytes: 0, frames: 0, after }));
        assert_eq!(known(Outcome::Cancelled, 9), Some(Left { bytes: 9, frames: 0, after }));
        assert_eq!((known(Outcome::Complete, 9), known(Outcome::Failed, 0)), (None, None));
    }

    #[test]
    fn exchanges_are_kept_in_the_order_of_their_starts() {
        let mut events: Vec<Event> =
            [3, 1, 2].into_iter().map(|id| request(id, "GET", &[])).collect();
        events.extend([1, 2, 3].map(|id| end(id, Outcome::Complete, ended(true, 0), 0)));
        let survey =
            survey(events.into_iter().map(Ok), &[], &SessionKeys::default(), Anchor(0)).unwrap();
        assert_eq!(survey.known.iter().map(|known| known.id.0).collect::<Vec<_>>(), [1, 2, 3]);
    }
}
