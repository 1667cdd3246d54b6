//! The demo's workload: a few seconds of everything that clients do. The same bytes each time.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// One request of one client.
#[derive(Clone, Debug)]
pub(super) struct Visit {
    /// When it begins, from the workload's start.
    pub(super) at: Duration,
    /// What it shows.
    pub(super) kind: Kind,
    pub(super) path: &'static str,
    /// None for a GET.
    pub(super) body: Option<Value>,
}

/// What a request shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    StreamedChat,
    WholeChat,
    Completion,
    Embedding,
    Image,
    Tool,
    ClientLeaves,
    Refused,
    Models,
}

/// Questions of one conversation: each turn sends the whole history again.
pub(super) const QUESTIONS: [&str; 5] = [
    "Which bridge do travelers cross on their way to the harbor?",
    "And in winter, when the river rises?",
    "Who repairs it?",
    "What does the library say about its age?",
    "Sum up what we know, in a few words.",
];

pub(super) const CHAT: &str = "/v1/chat/completions";

/// A prompt with more tokens than this is refused by the demo's server.
pub(super) const CONTEXT_TOKENS: u64 = 4_096;

/// Events after which the client that leaves has left.
pub(super) const LEAVES_AFTER: usize = 12;

/// Returns all requests but those of the conversation, in the order of their beginning.
pub(super) fn visits() -> Vec<Visit> {
    let mut visits = vec![visit(0, Kind::Models, "/v1/models", None)];
    let images = [image(b"a", 60_000), image(b"b", 24_000)];
    for number in 0..12_u64 {
        let start = 100 + number * 500;
        let ask =
            |question: &str| json!([{"role": "user", "content": format!("{question} ({number})")}]);
        visits.push(visit(start, Kind::StreamedChat, CHAT, Some(json!({
            "model": "demo", "messages": ask("Tell me a story about a lantern."), "stream": true,
            "stream_options": {"include_usage": true}, "max_tokens": 40 + number * 5,
        }))));
        if number % 2 == 0 {
            visits.push(visit(
                start + 120,
                Kind::WholeChat,
                CHAT,
                Some(json!({
                    "model": "demo", "messages": ask("Answer in one sentence."), "max_tokens": 24,
                })),
            ));
            visits.push(visit(start + 260, Kind::Completion, "/v1/completions", Some(json!({
                "model": "demo", "prompt": format!("Chapter {number}. The train"), "stream": number % 4 == 0,
                "max_tokens": 32,
            }))));
        }
        if number % 3 == 0 {
            visits.push(visit(
                start + 180,
                Kind::Embedding,
                "/v1/embeddings",
                Some(json!({
                    "model": "demo", "input": ["a quiet village", format!("station {number}")],
                    "encoding_format": if number % 2 == 0 { "base64" } else { "float" },
                })),
            ));
        }
        if number % 3 == 1 {
            let image = &images[usize::from(number > 6)];
            visits.push(visit(
                start + 200,
                Kind::Image,
                CHAT,
                Some(json!({
                    "model": "demo", "stream": true, "max_tokens": 30,
                    "messages": [{"role": "user", "content": [
                        {"type": "text", "text": format!("What is in the picture? ({number})")},
                        {"type": "image_url", "image_url": {"url": image}},
                    ]}],
                })),
            ));
        }
    }
    visits.push(visit(900, Kind::Tool, CHAT, Some(tool_request(true))));
    visits.push(visit(3_900, Kind::Tool, CHAT, Some(tool_request(false))));
    visits.push(visit(2_300, Kind::ClientLeaves, CHAT, Some(json!({
        "model": "demo", "messages": [{"role": "user", "content": "Tell me everything."}], "stream": true,
        "max_tokens": 2_000, "ignore_eos": true,
    }))));
    visits.push(visit(4_700, Kind::Refused, CHAT, Some(json!({
        "model": "demo", "messages": [{"role": "user", "content": "more and ".repeat(2_000)}], "stream": true,
    }))));
    visits.sort_by_key(|visit| visit.at);
    visits
}

/// Returns the request of a turn, `history` being all messages up to and with its question.
pub(super) fn turn(history: &[Value]) -> Value {
    json!({
        "model": "demo", "messages": history, "stream": true, "max_tokens": 48,
        "stream_options": {"include_usage": true},
    })
}

/// Returns a message.
pub(super) fn message(role: &str, content: &str) -> Value {
    json!({"role": role, "content": content})
}

fn visit(at_ms: u64, kind: Kind, path: &'static str, body: Option<Value>) -> Visit {
    Visit { at: Duration::from_millis(at_ms), kind, path, body }
}

fn tool_request(stream: bool) -> Value {
    json!({
        "model": "demo", "stream": stream, "tool_choice": "auto",
        "messages": [{"role": "user", "content": "What will the weather be at the harbor?"}],
        "tools": [{"type": "function", "function": {
            "name": "weather", "description": "Returns the forecast of a place",
            "parameters": {"type": "object", "properties": {"place": {"type": "string"}, "days": {"type": "integer"}}},
        }}],
    })
}

/// Returns a data URI of so many bytes that no compressor makes smaller, as of a picture.
fn image(seed: &[u8], bytes: usize) -> String {
    let mut picture = vec![0; bytes];
    blake3::Hasher::new().update(seed).finalize_xof().fill(&mut picture);
    picture[..PNG.len()].copy_from_slice(PNG);
    format!("data:image/png;base64,{}", STANDARD.encode(picture))
}

/// What a PNG begins with.
const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn the_workload_has_everything_and_is_the_same_each_time() {
        let bodies = || visits().iter().map(|visit| format!("{visit:?}")).collect::<Vec<_>>();
        assert_eq!(bodies(), bodies());
        let mut counts = BTreeMap::new();
        for visit in visits() {
            *counts.entry(visit.kind).or_insert(0) += 1;
        }
        let expected = [
            (Kind::StreamedChat, 12),
            (Kind::WholeChat, 6),
            (Kind::Completion, 6),
            (Kind::Embedding, 4),
            (Kind::Image, 4),
            (Kind::Tool, 2),
            (Kind::ClientLeaves, 1),
            (Kind::Refused, 1),
            (Kind::Models, 1),
        ];
        assert_eq!(counts.into_iter().collect::<Vec<_>>(), expected);
        assert!(visits().iter().all(|visit| visit.at < Duration::from_secs(8)));
    }
}
