//! What the mode `shape` leaves of bodies: stand-ins that make a server as much work, and no text.

use std::collections::{BTreeSet, VecDeque};

use proptest::prelude::*;
use reenact::privacy::Veil;
use serde_json::Value;

use crate::privacy_support::{
    CHAT, JSON, KEY, Message, SSE, exchange, response, shape, veiled, workload,
};

fn shaped_json(body: &str) -> (String, Value) {
    let shaped = String::from_utf8(response(&shape(), JSON, body.as_bytes())).unwrap();
    let value = serde_json::from_str(&shaped).unwrap();
    (shaped, value)
}

/// Returns the words of four letters and more.
fn words(text: &str) -> BTreeSet<String> {
    text.split(|char: char| !char.is_alphabetic())
        .filter(|word| word.chars().count() >= 4)
        .map(str::to_lowercase)
        .collect()
}

#[test]
fn a_shaped_chat_keeps_what_a_server_needs_and_no_text() {
    let (text, value) = shaped_json(CHAT);
    let before: Value = serde_json::from_str(CHAT).unwrap();
    for kept in [
        "/model",
        "/stream",
        "/temperature",
        "/messages/0/role",
        "/messages/1/content/0/type",
        "/messages/1/content/1/image_url/detail",
        "/messages/2/content",
        "/messages/2/tool_calls/0/type",
        "/tools/0/function/parameters/type",
    ] {
        assert_eq!(value.pointer(kept), before.pointer(kept), "{kept}");
        assert!(before.pointer(kept).is_some());
    }
    let secret = "customer careful physician patient erika mustermann born überweisung grüße quoted intern example \
                  picture lookup surname limit diagnosis pneumonia finds somebody family denomination hospital charité \
                  oberarzt endmark xy12 1964 4711 15339 128000 東京 été";
    let lower = text.to_lowercase();
    for secret in secret.split(' ') {
        assert!(!lower.contains(secret), "{secret} is in {text}");
    }
    // What belonged together does so still.
    let at = |pointer: &str| value.pointer(pointer).unwrap().as_str().unwrap();
    assert_eq!(at("/messages/2/tool_calls/0/id"), at("/messages/3/tool_call_id"));
    assert_eq!(at("/messages/2/tool_calls/0/function/name"), at("/tools/0/function/name"));
    let property = value["tools"][0]["function"]["parameters"]["properties"].as_object().unwrap();
    assert_eq!(property.keys().next().unwrap(), at("/tools/0/function/parameters/required/0"));
    // Arguments are JSON still, and numbers in texts of as many digits.
    let arguments: Value =
        serde_json::from_str(at("/messages/2/tool_calls/0/function/arguments")).unwrap();
    assert_eq!(arguments.as_object().unwrap().len(), 2);
    // Tokens are no larger than they were.
    let tokens: Vec<u64> =
        value["prompt"].as_array().unwrap().iter().map(|token| token.as_u64().unwrap()).collect();
    assert!(tokens[0] <= 128_000 && tokens[1] <= 15_339 && tokens[2] <= 11, "{tokens:?}");
    assert!(text.contains("😀") && text.contains("\\n\\u"), "signs and escapes stay: {text}");
}

#[test]
fn another_key_gives_another_stand_in_and_the_same_gives_the_same() {
    let body = Message::new(JSON, CHAT.as_bytes(), 100);
    let with = |key: [u8; 32]| {
        let mut out = VecDeque::new();
        let mut veil = Veil::new(&shape(), &key).unwrap();
        exchange(&body, &body).into_iter().for_each(|event| veil.event(event, &mut out));
        format!("{out:?}")
    };
    assert_eq!(with([1; 32]), with([1; 32]));
    assert_ne!(with([1; 32]), with([2; 32]));
}

/// Returns a chat streamed in these pieces, with the ceremony that OpenAI's has.
fn streamed(pieces: &[String]) -> String {
    let chunk = |delta: Value| {
        let choice = serde_json::json!({"index": 0, "delta": delta, "finish_reason": null});
        let chunk = serde_json::json!({"id": "chatcmpl-7", "object": "chat.completion.chunk", "choices": [choice]});
        format!("data: {chunk}\n\n")
    };
    let mut body = chunk(serde_json::json!({"role": "assistant", "content": ""}));
    body.extend(pieces.iter().map(|piece| chunk(serde_json::json!({"content": piece}))));
    body + "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":3}}\n\ndata: [DONE]\n\n"
}

/// Returns the text of a chat that was streamed.
fn content(body: &[u8]) -> String {
    let text = std::str::from_utf8(body).unwrap();
    let events = text
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .filter(|data| *data != "[DONE]");
    events
        .map(|event| serde_json::from_str::<Value>(event).unwrap())
        .filter_map(|event| Some(event["choices"][0]["delta"]["content"].as_str()?.to_owned()))
        .collect()
}

fn standin_in_history(text: &str) -> String {
    let body =
        serde_json::json!({"messages": [{"role": "assistant", "content": text}]}).to_string();
    let (_, value) = shaped_json(&body);
    value["messages"][0]["content"].as_str().unwrap().to_owned()
}

#[test]
fn a_streamed_answer_has_the_stand_in_that_it_has_in_the_next_request() {
    let pieces = [
        "The",
        " pat",
        "ient",
        " recov",
        "ers",
        ".\n\n",
        "Dos",
        "age: 2",
        "50",
        " mg \u{e9}t\u{e9} \u{1f600}",
    ]
    .map(str::to_owned);
    let body = streamed(&pieces);
    let shaped = content(&response(&shape(), SSE, body.as_bytes()));
    assert_eq!(shaped, standin_in_history(&pieces.concat()));
    assert_eq!(shaped.len(), pieces.concat().len());
}

/// Checks that two texts in turns are each what they are alone; `event` makes an event, the text stands at `pointer`.
#[track_caller]
fn check_interleaved(event: impl Fn(u64, &str) -> String, pointer: &str) -> String {
    let body =
        [event(0, "Hel"), event(1, "Wor"), event(0, "lo there"), event(1, "ld peace")].concat();
    let shaped = String::from_utf8(response(&shape(), SSE, body.as_bytes())).unwrap();
    let texts: Vec<String> = shaped
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line.strip_prefix("data: ")?).ok())
        .map(|event| event.pointer(pointer).unwrap().as_str().unwrap().to_owned())
        .collect();
    assert_eq!(format!("{}{}", texts[0], texts[2]), standin_in_history("Hello there"));
    assert_eq!(format!("{}{}", texts[1], texts[3]), standin_in_history("World peace"));
    shaped
}

#[test]
fn choices_and_blocks_are_texts_of_their_own() {
    let event = |index: u64, text: &str| {
        format!(
            "data: {{\"choices\":[{{\"delta\":{{\"content\":\"{text}\"}},\"index\":{index}}}]}}\n\n"
        )
    };
    check_interleaved(event, "/choices/0/delta/content");
    // Anthropic tells the block at the top.
    let event = |index: u64, text: &str| {
        format!(
            "event: content_block_delta\ndata: {{\"type\":\"content_block_delta\",\"index\":{index},\"delta\":{{\"type\":\"text_delta\",\"text\":\"{text}\"}}}}\n\n"
        )
    };
    let shaped = check_interleaved(event, "/delta/text");
    assert!(shaped.contains("event: content_block_delta") && shaped.contains("text_delta"));
}

/// What is decided is not held: only the frame with the last word waits.
#[test]
fn of_a_stream_only_the_last_word_waits() {
    let pieces: Vec<String> = (0..50).map(|number| format!(" word{number}")).collect();
    let body = streamed(&pieces);
    let frames: Vec<Vec<u8>> =
        body.split_inclusive("\n\n").map(|event| event.as_bytes().to_vec()).collect();
    let mut message = Message::new(SSE, b"", 1);
    message.frames = frames;
    let mut veil = Veil::new(&shape(), &KEY).unwrap();
    let mut out = VecDeque::new();
    for (taken, event) in exchange(&Message::default(), &message).into_iter().enumerate() {
        veil.event(event, &mut out);
        let waiting = taken + 1 - out.len();
        // The last word, and the event that says that it was the last.
        assert!(waiting <= 2 && (taken < 54 || waiting == 0), "{waiting} of {} wait", taken + 1);
        assert!(waiting <= 1 || taken == 53, "{waiting} of {} wait", taken + 1);
    }
}

#[test]
fn images_keep_size_and_dimensions() {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    let image = |fill: u8| {
        let mut gif = b"GIF89a\x40\x01\xf0\x00".to_vec();
        gif.resize(30_000, fill);
        STANDARD.encode(gif)
    };
    let body = |first: &str, second: &str| {
        format!(
            r#"{{"images":["{first}"],"messages":[{{"role":"user","content":[{{"type":"image_url","image_url":{{"url":"data:image/gif;base64,{second}"}}}},
            {{"type":"input_audio","input_audio":{{"data":"c2VjcmV0IHZvaWNl","format":"wav"}}}}]}}]}}"#
        )
    };
    let (text, value) = shaped_json(&body(&image(1), &image(1)));
    let url = value["messages"][0]["content"][0]["image_url"]["url"].as_str().unwrap();
    let first = value["images"][0].as_str().unwrap();
    assert_eq!(url.strip_prefix("data:image/gif;base64,"), Some(first), "equal images stay equal");
    let decoded = STANDARD.decode(first).unwrap();
    assert_eq!((decoded.len(), &decoded[..10]), (30_000, &b"GIF89a\x40\x01\xf0\x00"[..]));
    assert_eq!(decoded.last(), Some(&0x3B));
    let (_, other) = shaped_json(&body(&image(2), &image(1)));
    assert_ne!(other["images"][0], value["images"][0], "different ones stay different");
    assert!(!text.contains("c2VjcmV0"), "audio is replaced: {}", &text[text.len() - 200..]);
    assert_eq!(value["messages"][0]["content"][1]["input_audio"]["format"], "wav");
}

/// Returns how many blocks of 512 bytes of the prompts were there before, after the same blocks; and how many there are.
fn hits(requests: &[String]) -> (usize, usize) {
    let mut known = BTreeSet::new();
    let (mut hits, mut all) = (0, 0);
    for request in requests {
        let request: Value = serde_json::from_str(request).unwrap();
        let mut prompt = String::new();
        for message in request["messages"].as_array().unwrap() {
            prompt += message["role"].as_str().unwrap();
            prompt += message["content"].as_str().unwrap();
        }
        let mut chain = blake3::Hasher::new();
        for block in prompt.as_bytes().chunks_exact(512) {
            chain.update(block);
            hits += usize::from(!known.insert(*chain.finalize().as_bytes()));
            all += 1;
        }
    }
    (hits, all)
}

#[test]
fn caches_of_prefixes_hit_as_often_and_no_word_is_left() {
    let requests = workload();
    let shaped: Vec<String> = requests.iter().map(|request| shaped_json(request).0).collect();
    let (before, after) = (hits(&requests), hits(&shaped));
    assert!(before.0 > before.1 / 3 && before.0 < before.1, "{before:?}");
    assert_eq!(before, after);
    let (then, now) = (words(&requests.concat()), words(&shaped.concat()));
    let kept: BTreeSet<String> =
        ["model", "messages", "role", "content", "system", "user", "assistant"]
            .map(str::to_owned)
            .into();
    let shared: Vec<&String> =
        then.intersection(&now).filter(|word| !kept.contains(*word)).collect();
    assert!(shared.is_empty(), "{shared:?}");
    assert!(then.len() > 20 && now.len() > 200, "{} {}", then.len(), now.len());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn cuts_change_nothing(
        pieces in prop::collection::vec("[ a-zé0-9.]{0,9}", 0..8),
        cuts in prop::collection::vec(1..60_usize, 1..30),
    ) {
        let body = streamed(&pieces);
        let mut message = Message::new(SSE, b"", 1);
        let mut rest = body.as_bytes();
        for cut in cuts.iter().cycle() {
            let (front, back) = rest.split_at((*cut).min(rest.len()));
            message.frames.push(front.to_vec());
            rest = back;
            if rest.is_empty() {
                break;
            }
        }
        let found = veiled(&shape(), &Message::default(), &message)[1].clone();
        let whole = veiled(&shape(), &Message::default(), &Message::new(SSE, body.as_bytes(), usize::MAX))[1].clone();
        prop_assert_eq!(&found, &whole);
        prop_assert_eq!(content(&found), standin_in_history(&pieces.concat()));
    }
}
