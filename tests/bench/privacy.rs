//! What policies for bodies cost the writer's thread: nanoseconds per streamed chunk, and per body that comes whole.
//!
//! `cargo bench --bench privacy`, or `-- WORD` for the policies with this word in their names. The chunks are those of 16
//! chats that are streamed at once, an event of about 190 bytes with a word in each frame. Of many short rounds the fastest
//! counts: the others tell of what else the machine did.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a script: it fails where it fails, and prints a table"
)]

use std::collections::VecDeque;
use std::hint::black_box;

use http::{HeaderMap, HeaderValue, Method, StatusCode};
use reenact::clock::{Clock, Nanos};
use reenact::privacy::{Bodies, Policy, Veil};
use reenact::trace::record::{
    BodyMode, End, Event, ExchangeId, FrameRef, Outcome, Passed, RequestHead, ResponseHead, Side,
    Span, Version,
};

const STREAMS: u64 = 16;
/// Of each stream.
const CHUNKS: u64 = 100;
const UNARY: u64 = 32;
const ROUNDS: usize = 200;

fn main() {
    let word = std::env::args().skip(1).find(|arg| arg != "--bench").unwrap_or_default();
    println!("| policy | ns per chunk | us per unary exchange |");
    println!("|---|---|---|");
    for (name, policy) in policies().into_iter().filter(|(name, _)| name.contains(&word)) {
        let chunk = fastest(&policy, streamed) / (STREAMS * CHUNKS);
        let unary = fastest(&policy, unary) as f64 / UNARY as f64 / 1e3;
        println!("| {name} | {chunk} | {unary:.2} |");
    }
}

fn policies() -> Vec<(&'static str, Policy)> {
    let policy = |mode, pointers: &[&str], patterns: &[&str]| {
        let list = |list: &[&str]| list.iter().map(|one| (*one).to_owned()).collect();
        let (pointers, patterns) = (list(pointers), list(patterns));
        Policy {
            bodies: Bodies { mode, pointers, patterns, ..Bodies::default() },
            ..Policy::default()
        }
    };
    use BodyMode::{Full, Hash, None, Shape};
    vec![
        ("none", Policy::default()),
        ("a pointer to what is not there", policy(Full, &["/user", "/metadata/user_id"], &[])),
        ("a pointer to what changes", policy(Full, &["/choices/*/delta/content"], &[])),
        ("a pointer to what stays", policy(Full, &["/id"], &[])),
        ("a pattern that never matches", policy(Full, &[], &["sk-[A-Za-z0-9]{20,}"])),
        ("a pattern that may always begin", policy(Full, &[], &[r"[\w.+-]+@[\w.-]+"])),
        ("a pattern that matches each 4th chunk", policy(Full, &[], &["(?-u:\\b)w[a-z]+"])),
        ("shape", policy(Shape, &[], &[])),
        ("hash", policy(Hash, &[], &[])),
        ("bodies none", policy(None, &[], &[])),
    ]
}

/// Returns the nanoseconds of the fastest round.
fn fastest(policy: &Policy, round: fn(&mut Veil, &Clock) -> u64) -> u64 {
    let clock = Clock::start();
    let times = (0..ROUNDS).map(|_| {
        let mut veil = Veil::new(policy, &[7; 32]).unwrap();
        round(&mut veil, &clock)
    });
    times.min().unwrap()
}

/// Streams chats, and returns how long the frames of their answers took.
fn streamed(veil: &mut Veil, clock: &Clock) -> u64 {
    const WORDS: &str = "the of and to in that is was for it with as his on be at by had not but from have are which her they \
        all you were this we there would been their one has will an more when who no if out so said what \
        up its about into than them can only other new some could time these two may then do first any my now such like our over";
    let words: Vec<&str> = WORDS.split_whitespace().collect();
    let mut out = VecDeque::new();
    let chunks: Vec<Vec<u8>> = (0..STREAMS * CHUNKS)
        .map(|number| {
            let (stream, at) = (number % STREAMS, usize::try_from(number).unwrap());
            let word = words[(at * 31 + at / 7) % words.len()];
            format!(
                "data: {{\"id\":\"chatcmpl-9f86d081884c7d659a2feaa0c55ad0{stream:02}\",\"object\":\"chat.completion.chunk\",\
                 \"created\":1700000000,\"model\":\"llama-3.1-8b\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\" {word}\"}},\
                 \"finish_reason\":null}}]}}\n\n"
            )
            .into_bytes()
        })
        .collect();
    for stream in 0..STREAMS {
        veil.event(request(stream), &mut out);
        veil.event(response(stream, "text/event-stream"), &mut out);
    }
    out.clear();
    let from = clock.now();
    for (number, chunk) in (0..).zip(&chunks) {
        veil.frames(
            frame(number % STREAMS, Side::Response, chunk).alone(&mut Span::default()),
            &mut out,
        );
        while let Some(event) = out.pop_front() {
            black_box(event);
        }
    }
    let took = clock.now() - from;
    (0..STREAMS).for_each(|stream| veil.event(end(stream), &mut out));
    u64::try_from(took.as_nanos()).unwrap()
}

/// Passes requests and responses of 2 kB each, whole, and returns how long all of it took.
fn unary(veil: &mut Veil, clock: &Clock) -> u64 {
    let text = "Somebody asks what the weather will be like tomorrow in the mountains, and \\\"why\\\".\\n".repeat(22);
    let asked = format!(
        "{{\"model\":\"llama-3.1-8b\",\"temperature\":0.7,\"user\":\"somebody-4711\",\"messages\":[\
         {{\"role\":\"system\",\"content\":\"You are a helpful assistant.\"}},{{\"role\":\"user\",\"content\":\"{text}\"}}]}}"
    );
    let answered = format!(
        "{{\"id\":\"chatcmpl-9f86d081\",\"object\":\"chat.completion\",\"created\":1700000000,\"model\":\"llama-3.1-8b\",\
         \"choices\":[{{\"index\":0,\"message\":{{\"role\":\"assistant\",\"content\":\"{text}\"}},\"finish_reason\":\"stop\"}}],\
         \"usage\":{{\"prompt_tokens\":512,\"completion_tokens\":498,\"total_tokens\":1010}}}}"
    );
    let mut out = VecDeque::new();
    let from = clock.now();
    for exchange in 0..UNARY {
        veil.event(request(exchange), &mut out);
        veil.frames(
            frame(exchange, Side::Request, asked.as_bytes()).alone(&mut Span::default()),
            &mut out,
        );
        veil.event(response(exchange, "application/json"), &mut out);
        veil.frames(
            frame(exchange, Side::Response, answered.as_bytes()).alone(&mut Span::default()),
            &mut out,
        );
        veil.event(end(exchange), &mut out);
        while let Some(event) = out.pop_front() {
            black_box(event);
        }
    }
    u64::try_from((clock.now() - from).as_nanos()).unwrap()
}

fn headers(kind: &'static str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("content-type", HeaderValue::from_static(kind));
    headers
}

fn request(exchange: u64) -> Event {
    Event::Request(Box::new(RequestHead {
        exchange: ExchangeId(exchange),
        at: Nanos(1),
        connection: 1,
        version: Version::Http11,
        method: Method::POST,
        target: "/v1/chat/completions".to_owned(),
        authority: None,
        headers: headers("application/json"),
        upstream: 0,
    }))
}

fn response(exchange: u64, kind: &'static str) -> Event {
    Event::Response(Box::new(ResponseHead {
        exchange: ExchangeId(exchange),
        at: Nanos(2),
        version: Version::Http11,
        status: StatusCode::OK,
        reason: None,
        headers: headers(kind),
    }))
}

fn frame(exchange: u64, side: Side, data: &[u8]) -> FrameRef<'_> {
    FrameRef { exchange: ExchangeId(exchange), side, at: Nanos(3), accepted: Nanos(4), data }
}

fn end(exchange: u64) -> Event {
    Event::End(Box::new(End {
        exchange: ExchangeId(exchange),
        at: Nanos(5),
        outcome: Outcome::Complete,
        fault: None,
        request: Passed::default(),
        response: Passed::default(),
    }))
}
