//! What traffic costs on disk. The sizes are deterministic: same events, same bytes.

use std::fmt::Write as _;

use base64::Engine as _;
use reenact::clock::Nanos;
use reenact::trace::record::{Event, ExchangeId, Side};
use reenact::trace::{Roll, RollOptions, Site, Trace, Writer, WriterOptions};

use crate::trace_events::{
    Numbers, Step, end, frame, header, millis, request, response, with_flushes,
};

/// English by frequency, so that a text costs what text costs.
const WORDS: &str = "the of and to in a is that for it as was with be by on not he this are or his from at which but \
    have an had they you were their one all we can her has there been if more when will would who so no time model \
    system number people water called first work part place right because good through same place different small \
    large answer question example language network training data result value function learning science history \
    country government world river mountain energy light machine memory process structure method simple complex \
    important however therefore although between during without another every several state century early modern \
    natural human social political economic several possible common general specific known used made found given";

/// Writes `events`, sorted by time, with a flush each [`FLUSH_EVERY`], and returns the bytes of the file.
fn size(events: Vec<Event>) -> u64 {
    size_with(events, WriterOptions::default())
}

fn size_with(mut events: Vec<Event>, options: WriterOptions) -> u64 {
    events.sort_by_key(Event::at);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.trace");
    let mut writer = Writer::create(&path, header(), options).unwrap();
    with_flushes(events, |step| match step {
        Step::Event(event) => writer.append(event).unwrap(),
        Step::Flush(now) => writer.flush(now).unwrap(),
    });
    let summary = writer.finish().unwrap();
    assert!(Trace::open(&path).unwrap().health().complete);
    summary.bytes
}

/// As [`size`], of a recording that is closed as `record` closes it.
fn size_closed(mut events: Vec<Event>) -> u64 {
    events.sort_by_key(Event::at);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.trace");
    let mut roll =
        Roll::create(Site::File(path.clone()), header(), RollOptions::default()).unwrap();
    with_flushes(events, |step| match step {
        Step::Event(event) => roll.append(event).unwrap(),
        Step::Flush(now) => roll.flush(now).unwrap(),
    });
    let rolled = roll.finish(Nanos(u64::MAX)).unwrap();
    assert!(Trace::open(&path).unwrap().health().complete);
    assert_eq!(rolled.bytes, std::fs::metadata(&path).unwrap().len());
    rolled.bytes
}

struct Text {
    numbers: Numbers,
    words: Vec<&'static str>,
}

impl Text {
    fn new(seed: u64) -> Self {
        Self { numbers: Numbers::new(seed), words: WORDS.split_whitespace().collect() }
    }

    /// The next word: frequent ones first, as in English.
    fn word(&mut self) -> &'static str {
        let len = self.words.len() as u64;
        let (a, b) = (self.numbers.next() % len, self.numbers.next() % len);
        self.words[usize::try_from(a * b / len).unwrap()]
    }

    fn sentence(&mut self, words: usize) -> String {
        (0..words).map(|_| self.word()).collect::<Vec<_>>().join(" ")
    }
}

/// `streams` chats at once, each answer of `tokens` tokens, 10 to 30 ms apart; `rounds` one after the other.
fn chats(streams: u64, rounds: u64, tokens: u64) -> (Vec<Event>, u64) {
    let mut events = Vec::new();
    for stream in 0..streams {
        let mut text = Text::new(stream);
        let mut at = stream * 7_000_000;
        for round in 0..rounds {
            let id = round * streams + stream + 1;
            let hex = format!("{:016x}{:016x}", text.numbers.next(), text.numbers.next());
            let question = text.sentence(40);
            events.push(request(id, Nanos(at), "/v1/chat/completions"));
            let body = format!(
                r#"{{"model":"meta-llama/Llama-3.1-8B-Instruct","messages":[{{"role":"user","content":"{question}"}}],"stream":true,"max_tokens":512}}"#
            );
            events.push(frame(id, Side::Request, Nanos(at), body));
            at += 80_000_000;
            events.push(response(id, Nanos(at), "text/event-stream"));
            for n in 0..tokens {
                at += 10_000_000 + text.numbers.next() % 20_000_000;
                let word = text.word();
                let space = if n == 0 { "" } else { " " };
                let data = format!(
                    "data: {{\"id\":\"chatcmpl-{hex}\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\
                     \"model\":\"meta-llama/Llama-3.1-8B-Instruct\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\
                     \"{space}{word}\"}},\"finish_reason\":null}}]}}\n\n"
                );
                let Event::Frame(mut event) = frame(id, Side::Response, Nanos(at), data) else {
                    unreachable!()
                };
                event.accepted = Nanos(at + 20_000 + text.numbers.next() % 60_000);
                events.push(Event::Frame(event));
            }
            events.push(end(id, Nanos(at + 1_000_000)));
            at += 50_000_000;
        }
    }
    (events, streams * rounds * tokens)
}

#[track_caller]
fn check_per_token(streams: u64, rounds: u64, limit: f64, size: fn(Vec<Event>) -> u64) {
    let (events, tokens) = chats(streams, rounds, 300);
    let bytes = size(events);
    #[expect(clippy::cast_precision_loss, reason = "sizes are far below 2^53")]
    let per_token = bytes as f64 / tokens as f64;
    assert!(per_token <= limit, "{per_token:.2} bytes a token with {streams} streams");
}

#[test]
fn a_streamed_token_costs_at_most_eight_bytes_with_its_times() {
    check_per_token(16, 3, 8.0, size);
    check_per_token(64, 1, 8.0, size);
}

/// A flush each 100 ms makes a block of five tokens: 14.6 bytes each. Closed, the segment is written again.
#[test]
fn so_does_one_of_a_stream_that_is_alone_once_the_segment_is_closed() {
    for streams in [1, 2, 4, 16, 64] {
        check_per_token(streams, 8, 8.0, size_closed);
    }
}

#[test]
fn llava_requests_cost_their_four_images_once() {
    let mut numbers = Numbers::new(5);
    let images = [260_606, 97_694, 134_827, 86_068]
        .map(|len| base64::engine::general_purpose::STANDARD.encode(numbers.bytes(len)));
    let mut text = Text::new(9);
    let mut events = Vec::new();
    let mut body_bytes = 0;
    for n in 0..513_u64 {
        let (id, mut at) = (n + 1, n * 700_000_000);
        let prompt = format!("USER: <image>\\n{} ASSISTANT:", text.sentence(12));
        let image = &images[usize::try_from(numbers.next() % 4).unwrap()];
        let body = format!(
            r#"{{"model":"llava-v1.5-13b","prompt":"{prompt}","temperature":0.2,"max_new_tokens":512,"stop":"</s>","images":["{image}"]}}"#
        );
        body_bytes += body.len();
        events.push(request(id, Nanos(at), "/worker_generate_stream"));
        for part in body.as_bytes().chunks(65_536) {
            at += 200_000;
            events.push(frame(id, Side::Request, Nanos(at), part.to_vec()));
        }
        at += 100_000_000;
        events.push(response(id, Nanos(at), "text/event-stream"));
        let mut whole = prompt;
        for _ in 0..90 {
            at += 15_000_000 + text.numbers.next() % 10_000_000;
            write!(whole, " {}", text.word()).unwrap();
            let data = format!("{{\"text\": \"{whole}\", \"error_code\": 0}}\0");
            events.push(frame(id, Side::Response, Nanos(at), data));
        }
        events.push(end(id, Nanos(at)));
    }
    let bytes = size(events);
    println!("LLaVA: {bytes} bytes of {body_bytes}");
    assert!(body_bytes > 95_000_000, "{body_bytes}");
    assert!(bytes <= 1_200_000, "{bytes} bytes");
}

/// A chat of 40 turns whose body grows, with `between` bytes of other traffic after each turn.
fn growing_chat(between: usize) -> (Vec<Event>, usize) {
    let mut text = Text::new(3);
    let mut numbers = Numbers::new(4);
    let mut messages = String::new();
    let mut events = Vec::new();
    let mut last = 0;
    for turn in 0..40_u64 {
        let at = millis(turn * 1_000);
        let id = turn * 2 + 1;
        let question = text.sentence(120);
        if turn > 0 {
            messages.push_str(", ");
        }
        write!(messages, r#"{{"role": "user", "content": "{question}"}}"#).unwrap();
        let body = format!(
            r#"{{"model": "m", "messages": [{messages}], "stream": true, "temperature": 0.7}}"#
        );
        last = body.len();
        events.push(request(id, at, "/v1/chat/completions"));
        events.push(frame(id, Side::Request, at, body));
        let answer = text.sentence(60);
        events.push(response(id, at, "application/json"));
        events.push(end(id, at));
        write!(messages, r#", {{"role": "assistant", "content": "{answer}"}}"#).unwrap();
        if between > 0 {
            let at = millis(turn * 1_000 + 500);
            events.push(request(id + 1, at, "/upload"));
            for _ in 0..between / 64_000 {
                events.push(frame(id + 1, Side::Request, at, numbers.bytes(64_000)));
            }
            events.push(end(id + 1, at));
        }
    }
    (events, last)
}

#[test]
fn a_growing_chat_costs_about_its_last_turn() {
    let (events, last) = growing_chat(0);
    let exchanges: std::collections::BTreeSet<ExchangeId> =
        events.iter().filter_map(Event::exchange).collect();
    let bytes = size(events);
    println!("chat: {bytes} bytes, last body {last}, {} exchanges", exchanges.len());
    assert!(bytes < last as u64 / 2, "{bytes} bytes for a last body of {last}");
}

#[test]
fn a_growing_chat_costs_no_more_when_other_traffic_came_between() {
    let other = |events: &[Event]| -> Vec<Event> {
        let uploads: Vec<ExchangeId> = events
            .iter()
            .filter_map(|event| match event {
                Event::Request(head) if head.target == "/upload" => Some(head.exchange),
                _ => None,
            })
            .collect();
        let is_upload = |event: &&Event| event.exchange().is_some_and(|id| uploads.contains(&id));
        events.iter().filter(is_upload).cloned().collect()
    };
    // Smaller zstd frames than usual, so that less traffic pushes a turn out of them.
    let small = WriterOptions { frame_bytes: 256 << 10, ..WriterOptions::default() };
    let (events, last) = growing_chat(320_000);
    let uploads = size_with(other(&events), small.clone());
    let bytes = size_with(events, small) - uploads;
    println!("chat between uploads: {bytes} bytes, last body {last}");
    assert!(bytes < last as u64, "{bytes} bytes for a last body of {last}");
}
