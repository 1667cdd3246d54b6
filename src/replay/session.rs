//! Sessions: which exchanges belong to one conversation, and their turn order.
//!
//! Each exchange is looked at once, when its end is read ([`Finder::push`]). It belongs to the session that the first of
//! the [`SessionKey`]s gives it:
//!
//! * a name: a header, `conversation` or `user` in the body;
//! * `previous_response_id`: the session of the exchange whose recorded response has that id;
//! * `messages`: the session of the exchange whose messages this one's begin with, followed by a message of the assistant.
//!   Where several exchanges said the same, the one whose recorded answer is that message counts; where none of the answers
//!   is (a client may have changed it), the latest that has not been gone on from yet.
//!
//! The last two can only be told by what comes later: an exchange that in the end stands alone falls to a name that comes
//! after them among the keys (with `auto`: to its `user`), else it is a session of one turn.
//!
//! Memory: a text for each named session; some 200 bytes for each of the last [`OPEN_MOST`] exchanges that another may go on
//! from. A session that pauses for longer than that many exchanges is taken for two.
//!
//! The turn order is the order of recorded starts. Turns of one session may have overlapped when they were recorded (two
//! windows of one user): the later one's think time is 0.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::clock::Nanos;
use crate::dialect::{self, Ties, text_digest};
use crate::replay::known::Known;
use crate::replay::session_key::{Kind, SessionKey, SessionKeys};
use crate::trace::Exchange;
use crate::trace::record::{ExchangeId, Side};

/// The place of an exchange in its session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Turn {
    /// Number of the session, from 0 in the order of their first starts.
    pub session: u32,
    /// Name of the session: as the traffic names it, `#ID` by its first exchange where it was found by what was said; none for
    /// an exchange that stands alone and is not named.
    pub name: Option<Arc<str>>,
    /// Its place in the session, from 1.
    pub turn: u32,
    /// Recorded time from the end of the turns before it to its start, at least 0; 0 for the first turn.
    pub think: Nanos,
}

/// What a [`Finder`] says of an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    session: u32,
    /// The session that it falls to when it stands alone.
    fallback: Option<u32>,
    end: Nanos,
}

/// Finds the sessions of a trace.
#[derive(Debug)]
pub struct Finder {
    keys: SessionKeys,
    /// Sessions by key and name.
    named: BTreeMap<(Kind, Arc<str>), u32>,
    /// The name of each session, as far as they have one.
    names: Vec<Option<Arc<str>>>,
    /// Exchanges that others may go on from, by what these would show.
    open: BTreeMap<Mark, Vec<Open>>,
    /// The marks in `open`, the oldest first.
    ages: VecDeque<(Mark, ExchangeId)>,
    open_most: usize,
}

/// What a request shows of the exchange that it goes on from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Mark {
    /// Digest of all its messages.
    Messages(u128),
    /// Digest of the id of its response.
    Response(u128),
}

/// An exchange that another may go on from.
#[derive(Clone, Copy, Debug)]
struct Open {
    id: ExchangeId,
    at: Nanos,
    session: u32,
    /// Digest of its recorded answer.
    answer: Option<u128>,
    /// Whether one has gone on from it.
    continued: bool,
}

/// Most exchanges that are kept for others to go on from.
pub const OPEN_MOST: usize = 1 << 17;
/// Most of these that said the same: the time to look among them stays short.
const ALIKE_MOST: usize = 1 << 10;

// === impl Finder ===

impl Finder {
    /// Makes a finder that goes by these keys.
    #[must_use]
    pub fn new(keys: SessionKeys) -> Self {
        Self {
            keys,
            named: BTreeMap::new(),
            names: Vec::new(),
            open: BTreeMap::new(),
            ages: VecDeque::new(),
            open_most: OPEN_MOST,
        }
    }

    /// Takes the next exchange, in the order of their ends; `answer` is its recorded answer text.
    pub fn push(&mut self, exchange: &Exchange, answer: &str) -> Member {
        let request = &exchange.request;
        let ties = if self.keys.is_none() {
            Ties::default()
        } else {
            dialect::ties(&request.headers, &exchange.request_body())
        };
        let (mut found, mut fallback) = (None, None);
        let mut may_be_continued = false;
        for key in self.keys.list.clone() {
            match &key {
                SessionKey::Messages => {
                    may_be_continued |= !ties.messages.is_empty();
                    found = self.said_before(&ties, request.at);
                }
                SessionKey::Previous => {
                    may_be_continued |= is_response(exchange);
                    found = ties.previous.as_deref().and_then(|id| self.answered(id, request.at));
                }
                key => {
                    let named = key.name(&request.headers, &ties).map(|name| self.name(name));
                    if may_be_continued {
                        fallback = fallback.or(named);
                    } else {
                        found = named;
                    }
                }
            }
            if found.is_some() {
                break;
            }
        }
        let session = found.unwrap_or_else(|| self.add(None));
        self.keep(exchange, &ties, text_digest(answer), session);
        let end = exchange.end.as_ref().map(|end| end.at);
        let last = exchange.frames(Side::Response).last().map(|frame| frame.at);
        Member { session, fallback, end: end.or(last).unwrap_or(request.at) }
    }

    /// Puts what was found into the exchanges, which are in the order of their starts. Returns the number of sessions that
    /// are named or have more than one turn.
    pub fn settle(self, known: &mut [(Known, Member)]) -> u32 {
        // Nothing more is to be found.
        drop((self.open, self.ages, self.named));
        let mut sizes = vec![0_u32; self.names.len()];
        for (_, member) in &*known {
            sizes[member.session as usize] += 1;
        }
        for (_, member) in &mut *known {
            let alone = sizes[member.session as usize] == 1;
            if let (true, Some(fallback)) = (alone, member.fallback) {
                member.session = fallback;
                sizes[fallback as usize] += 1;
            }
        }
        // By the place among the names, as the members say it.
        let mut settled = vec![Settled::default(); self.names.len()];
        let mut names = self.names;
        let (mut sessions, mut found) = (0, 0);
        for (known, member) in known {
            let place = member.session as usize;
            let (session, name) = (&mut settled[place], &mut names[place]);
            if session.turns == 0 {
                if sizes[place] > 1 {
                    name.get_or_insert_with(|| format!("#{}", known.id.0).into());
                }
                found += u32::from(name.is_some());
                *session = Settled { number: sessions, turns: 0, end: known.at };
                sessions += 1;
            }
            session.turns += 1;
            known.turn = Turn {
                session: session.number,
                name: name.clone(),
                turn: session.turns,
                think: Nanos(known.at.0.saturating_sub(session.end.0)),
            };
            session.end = session.end.max(member.end);
        }
        found
    }

    /// Returns the session with this name.
    fn name(&mut self, (kind, name): (Kind, String)) -> u32 {
        let name: Arc<str> = name.into();
        if let Some(session) = self.named.get(&(kind, Arc::clone(&name))) {
            return *session;
        }
        let session = self.add(Some(Arc::clone(&name)));
        self.named.insert((kind, name), session);
        session
    }

    fn add(&mut self, name: Option<Arc<str>>) -> u32 {
        self.names.push(name);
        u32::try_from(self.names.len() - 1).unwrap_or(u32::MAX)
    }

    /// Returns the session of the exchange whose response has this id.
    fn answered(&mut self, id: &str, at: Nanos) -> Option<u32> {
        let mark = Mark::Response(text_digest(id)?);
        let open = self.open.get_mut(&mark)?.iter_mut().rev().find(|open| open.at < at)?;
        open.continued = true;
        Some(open.session)
    }

    /// Returns the session of the exchange that said the most of what these messages begin with.
    fn said_before(&mut self, ties: &Ties, at: Nanos) -> Option<u32> {
        for pair in ties.messages.windows(2).rev() {
            let [before, after] = pair else { continue };
            if !after.is_assistant {
                continue;
            }
            let Some(open) = self.open.get_mut(&Mark::Messages(before.so_far)) else { continue };
            let fits = |open: &&mut Open| open.at < at;
            let answered = |open: &&mut Open| fits(open) && open.answer == after.answer;
            let fresh = |open: &&mut Open| !open.continued;
            let place = |test: &dyn Fn(&&mut Open) -> bool, open: &mut Vec<Open>| {
                open.iter_mut().rposition(|open| test(&open))
            };
            let found = place(&|open| answered(open) && fresh(open), open)
                .or_else(|| place(&answered, open))
                .or_else(|| place(&|open| fits(open) && fresh(open), open));
            if let Some(place) = found {
                open[place].continued = true;
                return Some(open[place].session);
            }
        }
        None
    }

    /// Keeps an exchange for others to go on from.
    fn keep(&mut self, exchange: &Exchange, ties: &Ties, answer: Option<u128>, session: u32) {
        let by = |key| self.keys.list.contains(key);
        let said = ties.messages.last().filter(|_| by(&SessionKey::Messages));
        let responded = by(&SessionKey::Previous) && is_response(exchange);
        let response = exchange.response.as_ref().filter(|_| responded).and_then(|response| {
            let id = dialect::response_id(&response.headers, &exchange.response_body())?;
            text_digest(&id)
        });
        let marks = [said.map(|said| Mark::Messages(said.so_far)), response.map(Mark::Response)];
        let (id, at) = (exchange.request.exchange, exchange.request.at);
        for mark in marks.into_iter().flatten() {
            let open = self.open.entry(mark).or_default();
            if open.len() == ALIKE_MOST {
                open.remove(0);
            }
            open.push(Open { id, at, session, answer, continued: false });
            self.ages.push_back((mark, id));
        }
        while self.ages.len() > self.open_most {
            self.forget();
        }
    }

    /// Forgets the oldest.
    fn forget(&mut self) {
        let Some((mark, id)) = self.ages.pop_front() else { return };
        if let Some(open) = self.open.get_mut(&mark) {
            open.retain(|open| open.id != id);
            if open.is_empty() {
                self.open.remove(&mark);
            }
        }
    }
}

/// A session while its turns are counted.
#[derive(Clone, Copy, Debug, Default)]
struct Settled {
    number: u32,
    turns: u32,
    /// When the last of its turns so far ended.
    end: Nanos,
}

/// Returns whether the request makes a response that others can name (`POST .../responses`).
fn is_response(exchange: &Exchange) -> bool {
    let request = &exchange.request;
    let path = request.target.split('?').next().unwrap_or_default();
    request.method == http::Method::POST && path.trim_end_matches('/').ends_with("/responses")
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{HeaderMap, HeaderValue, Method, StatusCode};

    use super::*;
    use crate::clock::Anchor;
    use crate::replay::survey::survey;
    use crate::trace::record::{
        End, Event, Frame, Outcome, Passed, RequestHead, ResponseHead, Side, Version,
    };

    const MS: u64 = 1_000_000;

    /// A recorded exchange, in milliseconds.
    struct Recorded<'a> {
        at: u64,
        end: u64,
        target: &'a str,
        headers: &'a [(&'static str, &'static str)],
        body: String,
        answer: String,
    }

    fn chat(at: u64, end: u64, messages: &str, answer: &str) -> Recorded<'static> {
        Recorded {
            at,
            end,
            target: "/v1/chat/completions",
            headers: &[],
            body: format!(r#"{{"messages":[{messages}]}}"#),
            answer: format!(
                r#"{{"id":"c{at}","choices":[{{"index":0,"message":{{"role":"assistant","content":"{answer}"}}}}]}}"#
            ),
        }
    }

    fn said(role: &str, text: &str) -> String {
        format!(r#"{{"role":"{role}","content":"{text}"}}"#)
    }

    fn user(text: &str) -> String {
        said("user", text)
    }

    /// Messages of a chat: of the user and the assistant in turn.
    fn talk(texts: &[&str]) -> String {
        let roles = ["user", "assistant"].into_iter().cycle();
        let messages: Vec<_> =
            texts.iter().zip(roles).map(|(text, role)| said(role, text)).collect();
        messages.join(",")
    }

    fn events(number: u64, recorded: &Recorded<'_>) -> Vec<Event> {
        let exchange = ExchangeId(number);
        let (at, end) = (Nanos(recorded.at * MS), Nanos(recorded.end * MS));
        let mut headers = HeaderMap::new();
        for (name, value) in recorded.headers {
            headers.insert(*name, HeaderValue::from_static(value));
        }
        let frame = |side, at, text: &str| {
            let data = Bytes::copy_from_slice(text.as_bytes());
            Event::Frame(Frame { exchange, side, at, accepted: at, data })
        };
        let passed = || Passed { ended: true, ..Passed::default() };
        vec![
            Event::Request(Box::new(RequestHead {
                exchange,
                at,
                connection: 1,
                version: Version::Http11,
                method: Method::POST,
                target: recorded.target.to_owned(),
                authority: None,
                headers,
                upstream: 0,
            })),
            frame(Side::Request, at, &recorded.body),
            Event::Response(Box::new(ResponseHead {
                exchange,
                at: end,
                version: Version::Http11,
                status: StatusCode::OK,
                reason: None,
                headers: HeaderMap::new(),
            })),
            frame(Side::Response, end, &recorded.answer),
            Event::End(Box::new(End {
                exchange,
                at: end,
                outcome: Outcome::Complete,
                fault: None,
                request: passed(),
                response: passed(),
            })),
        ]
    }

    /// Returns what is known of these exchanges, numbered from 1.
    fn known(keys: &str, recorded: &[Recorded<'_>]) -> Vec<Known> {
        let mut numbered: Vec<_> = (1..).zip(recorded).collect();
        numbered.sort_by_key(|(_, recorded)| recorded.end);
        let events = numbered.into_iter().flat_map(|(number, recorded)| events(number, recorded));
        survey(events.map(Ok), &[], &keys.parse().unwrap(), Anchor(0)).unwrap().known
    }

    /// Checks the sessions, as `id:session.turn(name)+think` in the order of the starts.
    fn check(keys: &str, recorded: &[Recorded<'_>], expected: &str) {
        let seen: Vec<String> = known(keys, recorded)
            .iter()
            .map(|known| {
                let Turn { session, name, turn, think } = &known.turn;
                let name = name.as_deref().map(|name| format!("({name})")).unwrap_or_default();
                format!("{}:{session}.{turn}{name}+{}", known.id.0, think.0 / MS)
            })
            .collect();
        assert_eq!(seen.join(" "), expected);
    }

    #[test]
    fn growing_messages_are_a_session() {
        let turns = [
            chat(0, 10, &talk(&["a"]), "A"),
            chat(5, 20, &talk(&["x"]), "X"),
            chat(30, 50, &talk(&["a", "A", "b"]), "B"),
            chat(60, 70, &talk(&["a", "A", "b", "B", "c"]), "C"),
            chat(61, 62, &talk(&["x", "X", "y"]), "Y"),
        ];
        check("auto", &turns, "1:0.1(#1)+0 2:1.1(#2)+0 3:0.2(#1)+20 4:0.3(#1)+10 5:1.2(#2)+41");
        check("user", &turns, "1:0.1+0 2:1.1+0 3:2.1+0 4:3.1+0 5:4.1+0");
        check("none", &turns, "1:0.1+0 2:1.1+0 3:2.1+0 4:3.1+0 5:4.1+0");
    }

    #[test]
    fn the_recorded_answer_tells_equal_beginnings_apart() {
        let turns = [
            chat(0, 10, &user("hi"), "one"),
            chat(1, 11, &user("hi"), "two"),
            chat(2, 12, &user("hi"), "two"),
            // The client trims, and the second of the equal ones is the later one.
            chat(20, 21, &talk(&["hi", " one ", "x"]), "-"),
            chat(22, 23, &talk(&["hi", "two", "x"]), "-"),
            chat(24, 25, &talk(&["hi", "two", "y"]), "-"),
            // Nobody answered so, and nobody is left to go on from.
            chat(26, 27, &talk(&["hi", "three", "y"]), "-"),
        ];
        check(
            "messages",
            &turns,
            "1:0.1(#1)+0 2:1.1(#2)+0 3:2.1(#3)+0 4:0.2(#1)+10 5:2.2(#3)+10 6:1.2(#2)+13 7:3.1+0",
        );
        // A changed answer goes to the latest that has not been gone on from.
        check(
            "messages",
            &[chat(0, 10, &user("hi"), "one"), chat(20, 21, &talk(&["hi", "[cut]", "x"]), "-")],
            "1:0.1(#1)+0 2:0.2(#1)+10",
        );
        // Asked again: two go on from the same answer.
        check(
            "messages",
            &[
                chat(0, 10, &user("hi"), "one"),
                chat(20, 21, &talk(&["hi", "one", "x"]), "-"),
                chat(30, 31, &talk(&["hi", "one", "y"]), "-"),
            ],
            "1:0.1(#1)+0 2:0.2(#1)+10 3:0.3(#1)+9",
        );
    }

    #[test]
    fn more_questions_without_an_answer_between_are_no_next_turn() {
        let twice = format!("{},{}", user("a"), user("b"));
        check(
            "auto",
            &[chat(0, 10, &user("a"), "A"), chat(20, 30, &twice, "B")],
            "1:0.1+0 2:1.1+0",
        );
    }

    #[test]
    fn names_come_before_what_was_said_and_a_user_after() {
        let named = |at, body: &str, headers| Recorded {
            body: body.to_owned(),
            headers,
            ..chat(at, at + 1, "", "A")
        };
        let s: &[_] = &[("x-session-id", "s")];
        let bodies = [
            named(0, r#"{"messages":[],"conversation":"s"}"#, &[]),
            named(10, r#"{"messages":[],"conversation":"c","user":"u"}"#, s),
            named(20, r#"{"messages":[],"conversation":"s","user":"u"}"#, &[]),
            named(30, r#"{"messages":[{"role":"user","content":"a"}],"user":"u"}"#, &[]),
            named(40, r#"{"messages":[{"role":"user","content":"b"}],"user":"u"}"#, &[]),
        ];
        check("auto", &bodies, "1:0.1(s)+0 2:1.1(s)+0 3:0.2(s)+19 4:2.1(u)+0 5:2.2(u)+9");
        check(
            "user,conversation",
            &bodies,
            "1:0.1(s)+0 2:1.1(u)+0 3:1.2(u)+9 4:1.3(u)+9 5:1.4(u)+9",
        );
        check("header:X-Session-ID", &bodies, "1:0.1+0 2:1.1(s)+0 3:2.1+0 4:3.1+0 5:4.1+0");
        // Who goes on with a conversation belongs to it, whoever asks.
        let first = Recorded {
            body: r#"{"messages":[{"role":"user","content":"a"}],"user":"u"}"#.to_owned(),
            ..chat(0, 1, "", "A")
        };
        let next = Recorded {
            body: format!(r#"{{"messages":[{}],"user":"u"}}"#, talk(&["a", "A", "b"])),
            ..chat(5, 6, "", "B")
        };
        check("auto", &[first, next], "1:0.1(#1)+0 2:0.2(#1)+4");
    }

    #[test]
    fn responses_are_chained_by_their_ids() {
        let response = |at, previous: &str, id: &str| Recorded {
            target: "/v1/responses",
            body: format!(r#"{{"input":"x"{previous}}}"#),
            answer: format!(r#"{{"id":"{id}"}}"#),
            ..chat(at, at + 1, "", "")
        };
        let chain = [
            response(0, "", "r1"),
            response(2, "", "r2"),
            response(10, r#","previous_response_id":"r1""#, "r3"),
            response(20, r#","previous_response_id":"r3""#, "r4"),
            response(30, r#","previous_response_id":"gone""#, "r5"),
        ];
        check("auto", &chain, "1:0.1(#1)+0 2:1.1+0 3:0.2(#1)+9 4:0.3(#1)+9 5:2.1+0");
    }

    #[test]
    fn overlapping_turns_have_no_think_time() {
        let s: &[_] = &[("session-id", "s")];
        let turns = [(0, 50), (10, 20), (60, 70)];
        let turns = turns.map(|(at, end)| Recorded { headers: s, ..chat(at, end, "", "A") });
        check("auto", &turns, "1:0.1(s)+0 2:0.2(s)+0 3:0.3(s)+10");
    }

    #[test]
    fn what_is_open_is_bounded() {
        let mut finder = Finder::new("messages".parse().unwrap());
        finder.open_most = 3;
        let mut turns: Vec<_> = (0..9).map(|n| chat(n, n, &user(&n.to_string()), "A")).collect();
        turns.push(chat(20, 21, &talk(&["8", "A", "x"]), "B"));
        turns.push(chat(22, 23, &talk(&["0", "A", "x"]), "B"));
        let sessions: Vec<u32> = (1..)
            .zip(&turns)
            .flat_map(|(number, recorded)| events(number, recorded))
            .collect::<Vec<_>>()
            .chunks(5)
            .map(|events| {
                let exchange = crate::trace::Assembler::all(events.to_vec()).remove(0);
                finder.push(&exchange, "A").session
            })
            .collect();
        assert_eq!(sessions[9..], [8, 9]);
        assert_eq!((finder.ages.len(), finder.open.len()), (3, 3));
    }

    #[test]
    fn what_is_no_key_is_named() {
        for text in ["", "session", "header:", "header: x", "user,cookie", "auto,user"] {
            assert!(text.parse::<SessionKeys>().is_err(), "{text}");
        }
        let error = "user,cookie".parse::<SessionKeys>().unwrap_err().to_string();
        assert!(error.starts_with("`cookie` is no session key"), "{error}");
        assert_eq!("header:a,user".parse::<SessionKeys>().unwrap().to_string(), "header:a,user");
    }
}
