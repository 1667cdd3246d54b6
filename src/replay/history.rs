//! Live history: the target's own answers take the place of the recorded ones in later turns of a session.
//!
//! In a chat, an assistant message that says what the recorded answer of an earlier turn of the session said gets what the
//! target answered in that turn; equal answers are taken in turn order. All else stays as it was recorded: a message of
//! which no such answer is known (the client changed it), one that calls tools, one whose turn failed or came without text,
//! and every body that is compressed or is no chat. The row says what came of it ([`History`]).
//!
//! A call puts its frames in when it has ended, and nothing else ([`Live::hear`]); the feeder reads them when it makes the
//! next turn ready. Memory: the answers of the sessions that are under way.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::header::CONTENT_ENCODING;
use http::{HeaderMap, StatusCode};

use crate::dialect::{self, MAX_TEXT_BYTES, RequestFacts, ResponseReader};
use crate::replay::known::Known;
use crate::replay::memo::Memo;
use crate::replay::splice;

/// Whose answers a request has in its messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum History {
    /// The target's, in all messages of the assistant.
    Live,
    /// The target's in some, recorded ones in others.
    Mixed,
    /// Recorded ones.
    Recorded,
}

/// What a target has answered in the sessions that are under way. Clones share it.
#[derive(Clone, Debug)]
pub struct Live {
    sessions: Arc<Mutex<Sessions>>,
    /// The last turn of each session.
    last: Arc<BTreeMap<u32, u32>>,
}

/// Answers by session and round, in turn order.
type Sessions = BTreeMap<(u32, u32), Vec<Answer>>;

/// The place of a call in its session, and what was answered there when it was recorded.
#[derive(Clone, Copy, Debug)]
pub struct Spot {
    session: u32,
    turn: u32,
    recorded: Option<u128>,
}

/// The answer to one turn.
#[derive(Debug)]
struct Answer {
    recorded: u128,
    said: Said,
}

#[derive(Debug)]
enum Said {
    /// Not read yet.
    Heard(Box<Heard>),
    Text(String),
    /// Nothing that could stand in a message.
    Nothing,
}

/// A complete response, as it came.
#[derive(Debug)]
pub struct Heard {
    /// What the request said.
    pub facts: RequestFacts,
    /// Its status.
    pub status: StatusCode,
    /// Its fields.
    pub headers: HeaderMap,
    /// Its body.
    pub frames: Vec<Bytes>,
}

// === impl History ===

impl History {
    /// Returns its name in a row.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Mixed => "mixed",
            Self::Recorded => "recorded",
        }
    }
}

// === impl Spot ===

impl Spot {
    /// Returns the spot of an exchange.
    #[must_use]
    pub fn of(known: &Known, memo: &Memo) -> Self {
        let (session, turn) = (known.turn.session, known.turn.turn);
        Self { session, turn, recorded: memo.answer }
    }
}

// === impl Live ===

impl Live {
    /// Makes an empty one for the sessions of these exchanges.
    #[must_use]
    pub fn new(known: &[Known]) -> Self {
        let last = known.iter().map(|known| (known.turn.session, known.turn.turn)).collect();
        Self { sessions: Arc::default(), last: Arc::new(last) }
    }

    /// Keeps the answer to a turn; none when it was not complete. Must come before the next turn is made ready.
    pub fn hear(&self, spot: Spot, round: u32, heard: Option<Heard>) {
        let Some(recorded) = spot.recorded.filter(|_| !self.is_last(spot)) else { return };
        let said = heard.map_or(Said::Nothing, |heard| Said::Heard(Box::new(heard)));
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.entry((spot.session, round)).or_default().push(Answer { recorded, said });
    }

    /// Puts the target's answers into the body of a turn. Says whose answers are in it now; none when there are none.
    #[must_use]
    pub fn apply(
        &self,
        spot: Spot,
        round: u32,
        headers: &HeaderMap,
        body: Bytes,
    ) -> (Bytes, Option<History>) {
        let key = (spot.session, round);
        // Nobody else asks for it meanwhile: a session has one turn at a time.
        let lock = || self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        let mut answers = lock().remove(&key).unwrap_or_default();
        for answer in &mut answers {
            answer.said.read();
        }
        let (changed, history) = put(&answers, headers, &body);
        if !self.is_last(spot) {
            lock().insert(key, answers);
        }
        (changed.map_or(body, Bytes::from), history)
    }

    fn is_last(&self, spot: Spot) -> bool {
        self.last.get(&spot.session).is_none_or(|last| spot.turn >= *last)
    }
}

/// Returns the body with the answers in it, if there is a place for any, and whose answers it has.
fn put(answers: &[Answer], headers: &HeaderMap, body: &[u8]) -> (Option<Vec<u8>>, Option<History>) {
    let messages = dialect::ties(headers, body).messages;
    let assistants = messages.iter().filter(|message| message.is_assistant).count();
    if assistants == 0 {
        return (None, None);
    }
    let mut changed: Option<Vec<u8>> = None;
    let mut left: Vec<&Answer> = answers.iter().collect();
    let mut n_live = 0;
    let is_plain = !headers.contains_key(CONTENT_ENCODING);
    for (place, message) in messages.iter().enumerate().filter(|_| is_plain) {
        let Some(digest) = message.answer else { continue };
        let Some(found) = left.iter().position(|answer| answer.recorded == digest) else {
            continue;
        };
        let Said::Text(text) = &left.remove(found).said else { continue };
        if let Some(new) = replace(changed.as_deref().unwrap_or(body), place, text) {
            changed = Some(new);
            n_live += 1;
        }
    }
    let history = match n_live {
        0 => History::Recorded,
        n if n == assistants => History::Live,
        _ => History::Mixed,
    };
    (changed, Some(history))
}

/// Returns the body with the text of one message replaced; none for a message that calls tools.
fn replace(body: &[u8], place: usize, text: &str) -> Option<Vec<u8>> {
    let path = |field: &str| format!("messages.{place}.{field}").parse::<splice::Path>().ok();
    let calls = splice::find(body, &path("tool_calls")?);
    if calls.is_some_and(|calls| !matches!(calls, b"null" | b"[]")) {
        return None;
    }
    splice::set(body, &path("content")?, &splice::quoted(text))
}

// === impl Said ===

impl Said {
    fn read(&mut self) {
        if let Self::Heard(heard) = self {
            *self = heard.text().map_or(Self::Nothing, Self::Text);
        }
    }
}

// === impl Heard ===

impl Heard {
    /// Returns the text; none where there is none, where it is not all, or where tools are called.
    fn text(&self) -> Option<String> {
        let mut reader = ResponseReader::new(&self.facts, self.status, &self.headers);
        for frame in &self.frames {
            reader.push(frame);
        }
        let facts = reader.finish(true);
        let whole = facts.ended && facts.error.is_none() && facts.tool_calls.is_empty();
        let fits = !facts.text.is_empty() && facts.text.len() < MAX_TEXT_BYTES;
        (whole && fits).then_some(facts.text)
    }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;
    use crate::dialect::text_digest;
    use crate::replay::known::known;

    /// Turn `turn` of the one session, of four turns.
    fn spot(turn: u32, recorded: &str) -> Spot {
        Spot { session: 1, turn, recorded: text_digest(recorded) }
    }

    fn live() -> Live {
        let mut known = known(1, 0);
        known.turn.turn = 4;
        Live::new(&[known])
    }

    fn heard(text: &str) -> Option<Heard> {
        let body = format!(
            r#"{{"choices":[{{"index":0,"finish_reason":"stop","message":{{"role":"assistant","content":"{text}"}}}}]}}"#
        );
        let headers = HeaderMap::new();
        let facts = dialect::request_facts(&Method::POST, "/v1/chat/completions", &headers, b"{}");
        Some(Heard { facts, status: StatusCode::OK, headers, frames: vec![body.into()] })
    }

    fn apply(live: &Live, turn: u32, body: &str) -> (String, Option<&'static str>) {
        let body = Bytes::copy_from_slice(body.as_bytes());
        let (body, history) = live.apply(spot(turn, ""), 0, &HeaderMap::new(), body);
        (String::from_utf8(body.to_vec()).unwrap(), history.map(History::as_str))
    }

    #[test]
    fn recorded_answers_make_way_for_those_of_the_target_and_all_else_stays() {
        let live = live();
        live.hear(spot(1, "A"), 0, heard("new \\\"a\\\""));
        let second = r#"{"messages": [{"role":"user","content":"A"},{"role":"assistant" ,"content":" A "},{"role":"user","content":"b"}],"n":1}"#;
        let (body, history) = apply(&live, 2, second);
        assert_eq!(body, second.replace("\" A \"", r#""new \"a\"""#));
        assert_eq!(history, Some("live"));
        live.hear(spot(2, "A"), 0, heard("second"));
        let third = r#"{"messages":[{"role":"assistant","content":"A"},{"role":"assistant","content":[{"type":"text","text":"A"}]},{"role":"assistant","content":"[cut]"}]}"#;
        let expected = r#"{"messages":[{"role":"assistant","content":"new \"a\""},{"role":"assistant","content":"second"},{"role":"assistant","content":"[cut]"}]}"#;
        assert_eq!(apply(&live, 3, third), (expected.to_owned(), Some("mixed")));
    }

    #[test]
    fn what_has_no_place_or_no_answer_stays_recorded() {
        let live = live();
        live.hear(spot(1, "A"), 0, None);
        live.hear(spot(2, "B"), 0, heard(""));
        live.hear(spot(3, "C"), 0, heard("c"));
        for (body, history) in [
            (r#"{"messages":[{"role":"user","content":"A"}]}"#, None),
            (r#"{"prompt":"A"}"#, None),
            ("", None),
            (r#"{"messages":[{"role":"assistant","content":"A"}]}"#, Some("recorded")),
            (r#"{"messages":[{"role":"assistant","content":"B"}]}"#, Some("recorded")),
            (
                r#"{"messages":[{"role":"assistant","content":"C","tool_calls":[{"id":"1"}]}]}"#,
                Some("recorded"),
            ),
        ] {
            assert_eq!(apply(&live, 3, body), (body.to_owned(), history));
        }
        let mut coded = HeaderMap::new();
        coded.insert(CONTENT_ENCODING, "identity".parse().unwrap());
        let body = Bytes::from_static(br#"{"messages":[{"role":"assistant","content":"C"}]}"#);
        let (same, _) = live.apply(spot(3, ""), 0, &coded, body.clone());
        assert_eq!(same, body);
    }

    #[test]
    fn rounds_are_apart_and_a_session_that_is_over_is_forgotten() {
        let live = live();
        live.hear(spot(1, "A"), 0, heard("a"));
        live.hear(spot(1, "A"), 1, heard("again"));
        let body = r#"{"messages":[{"role":"assistant","content":"A"}]}"#;
        assert_eq!(apply(&live, 4, body).0, body.replace("\"A\"", "\"a\""));
        assert_eq!(apply(&live, 4, body).1, Some("recorded"));
        live.hear(spot(4, "D"), 0, heard("d"));
        assert_eq!(live.sessions.lock().unwrap().len(), 1);
    }
}
