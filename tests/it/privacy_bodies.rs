//! What a policy leaves of bodies, however they are cut into frames.

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use proptest::prelude::*;
use reenact::clock::Nanos;
use reenact::privacy::{Bodies, Policy, Veil};
use reenact::trace::record::{
    BareFrame, BodyMode, End, Event, ExchangeId, Frame, Outcome, Passed, Prompt, RequestHead,
    ResponseHead, Side, Version,
};
use serde_json::Value;

const KEY: [u8; 32] = [9; 32];

/// One message: header fields, and the body in frames.
#[derive(Clone, Default)]
struct Message {
    headers: HeaderMap,
    frames: Vec<Vec<u8>>,
}

// === impl Message ===

impl Message {
    fn new(kind: &'static str, body: &[u8], size: usize) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert("content-type", HeaderValue::from_static(kind));
        Self { headers, frames: body.chunks(size.max(1)).map(<[u8]>::to_vec).collect() }
    }

    fn with(mut self, name: &'static str, value: &'static str) -> Self {
        self.headers.insert(name, HeaderValue::from_static(value));
        self
    }
}

fn shape() -> Policy {
    Policy { bodies: Bodies { mode: BodyMode::Shape, ..Bodies::default() }, ..Policy::default() }
}

fn rules(pointers: &[&str], patterns: &[&str]) -> Policy {
    let list = |list: &[&str]| list.iter().map(|one| (*one).to_owned()).collect();
    let bodies = Bodies { pointers: list(pointers), patterns: list(patterns), ..Bodies::default() };
    Policy { bodies, ..Policy::default() }
}

fn frame(side: Side, number: u64, data: &[u8]) -> Event {
    let (at, accepted) = (Nanos(1000 * number), Nanos(1000 * number + 10));
    let data = Bytes::copy_from_slice(data);
    Event::Frame(Frame { exchange: ExchangeId(1), side, at, accepted, data })
}

/// Returns an exchange of two messages.
fn exchange(request: &Message, response: &Message) -> Vec<Event> {
    let exchange = ExchangeId(1);
    let mut events = vec![Event::Request(Box::new(RequestHead {
        exchange,
        at: Nanos(1),
        connection: 1,
        version: Version::Http11,
        method: Method::POST,
        target: "/v1/chat/completions".to_owned(),
        authority: None,
        headers: request.headers.clone(),
        upstream: 0,
    }))];
    events.extend((1..).zip(&request.frames).map(|(n, data)| frame(Side::Request, n, data)));
    events.push(Event::Response(Box::new(ResponseHead {
        exchange,
        at: Nanos(2),
        version: Version::Http11,
        status: StatusCode::OK,
        reason: None,
        headers: response.headers.clone(),
    })));
    events.extend((1..).zip(&response.frames).map(|(n, data)| frame(Side::Response, n, data)));
    events.push(Event::End(Box::new(End {
        exchange,
        at: Nanos(3),
        outcome: Outcome::Complete,
        fault: None,
        request: Passed::default(),
        response: Passed::default(),
    })));
    events
}

/// Returns the two bodies that a policy leaves, having checked that the frames are what they were but for their bytes.
#[track_caller]
fn veiled(policy: &Policy, request: &Message, response: &Message) -> [Vec<u8>; 2] {
    let mut veil = Veil::new(policy, &KEY).unwrap();
    let mut out = VecDeque::new();
    let before = exchange(request, response);
    for event in before.clone() {
        veil.event(event, &mut out);
    }
    assert_eq!(out.len(), before.len());
    let mut bodies = [Vec::new(), Vec::new()];
    for side in [Side::Request, Side::Response] {
        let of_side = |event: &Event| match event {
            Event::Frame(frame) if frame.side == side => Some(frame.clone()),
            _ => None,
        };
        let (then, now) = (before.iter().filter_map(of_side), out.iter().filter_map(of_side));
        for (then, now) in then.zip(now) {
            assert_eq!(
                (then.at, then.accepted, then.data.len()),
                (now.at, now.accepted, now.data.len())
            );
            bodies[usize::from(side == Side::Response)].extend_from_slice(&now.data);
        }
    }
    assert!(matches!(out.back(), Some(Event::End(_))), "the end comes last");
    bodies
}

/// Returns the response that a policy leaves, the same for every cut.
#[track_caller]
fn response(policy: &Policy, kind: &'static str, body: &[u8]) -> Vec<u8> {
    let cuts = [usize::MAX, 1, 7, 64];
    let cut =
        |size| veiled(policy, &Message::default(), &Message::new(kind, body, size))[1].clone();
    let [whole, rest @ ..] = cuts.map(cut);
    for other in rest {
        assert_eq!(String::from_utf8_lossy(&other), String::from_utf8_lossy(&whole));
    }
    assert_eq!(whole.len(), body.len());
    whole
}

/// Checks a body under rules: what stands between « and » is replaced, and nothing else.
#[track_caller]
fn check(policy: &Policy, kind: &'static str, marked: &str) {
    let body = marked.replace(['«', '»'], "");
    let found = String::from_utf8(response(policy, kind, body.as_bytes())).unwrap();
    let mut rest = &*found;
    for (number, part) in marked.split(['«', '»']).enumerate() {
        let (now, after) = rest.split_at(part.len());
        rest = after;
        if number % 2 == 0 {
            assert_eq!(now, part, "{found}");
        } else {
            assert!(
                now.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'*'),
                "{found}"
            );
            assert!(part.len() < 3 || !found.contains(part), "{part} is in {found}");
        }
    }
}

const JSON: &str = "application/json";
const SSE: &str = "text/event-stream";

#[test]
fn pointers_replace_values_and_what_is_in_them() {
    let policy = rules(&["/user", "/messages/*/content", "/n", "/deep"], &[]);
    check(&policy, JSON, r#"{"user":"«alice»","model":"m"}"#);
    check(&policy, JSON, r#"{"user":"«a\n\u00e9\"é»","m":1}"#);
    check(&policy, JSON, r#"{"messages":[{"role":"user","content":"«secret»"}]}"#);
    check(&policy, JSON, r#"{"n":«1234»,"m":5678,"deep":{"«name»":["«Bob»",«12»]}}"#);
    check(&policy, SSE, "data: {\"user\":\"«alice»\"}\n\ndata: [DONE]\n\n");
    check(&policy, SSE, "data: {\"user\":\ndata:\"«alice»\"}\r\n\r\nevent: x\r\rdata: {\"n\":«7»}");
    check(&policy, "application/x-ndjson", "{\"user\":\"«alice»\"}\n{\"user\":\"«bob»\"}\n");
    check(&policy, "", "  {\"user\":\"«alice»\"}");
}

#[test]
fn patterns_are_found_in_escapes_across_events_and_across_structure() {
    let policy = rules(&[], &["sk-[a-z0-9]{6,}", r"[\w.]+@[\w.]+", r#""password":\s*"[^"]*""#]);
    check(&policy, JSON, r#"{"a":"key «sk-abcdef12»."}"#);
    check(&policy, JSON, r#"{"a":"«jo\u0040ex.org»"}"#);
    check(&policy, JSON, r#"{"«password»": "«hunter22»","b":1}"#);
    check(&policy, "text/plain", "mail «jo@ex.org» now");
    check(&policy, "text/html", "<p>«sk-abcdef12»</p>");
    check(&policy, "application/pdf", "%PDF «sk-abcdef12»");
    check(&policy, SSE, ": «sk-abcdef12»\n\n");
    let event = |text: &str| {
        format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{text}\"}}}}]}}\n\n")
    };
    check(&policy, SSE, &(event("key «sk-abc»") + &event("«def12» ok")));
}

/// The stricter side: nothing is told of what can't be read as what it says it is.
#[test]
fn what_cannot_be_read_is_closed() {
    let policy = rules(&["/user"], &[]);
    check(&policy, JSON, r#"{"a":1,«oops secret}»"#);
    check(&policy, JSON, "«Internal error: secret»");
    check(&policy, SSE, "data: {\"a\":\"b\"}\n\n«data: {\"user\":\"a\", oops}\n\n»");
    let coded = Message::new(JSON, b"anything secret", 4).with("content-encoding", "gzip");
    let [request, response] = veiled(&policy, &coded, &coded);
    assert_eq!((&*request, &*response), (&b"***************"[..], &b"***************"[..]));
    // Without a head, as after an upgrade.
    for policy in [policy, shape()] {
        let mut veil = Veil::new(&policy, &KEY).unwrap();
        let mut out = VecDeque::new();
        veil.event(frame(Side::Response, 1, b"secret"), &mut out);
        let Some(Event::Frame(frame)) = out.pop_front() else { panic!("no frame") };
        assert_eq!(&frame.data[..], b"******");
    }
}

fn bare(side: Side, number: u64, len: u64) -> Event {
    let (at, accepted) = (Nanos(1000 * number), Nanos(1000 * number + 10));
    Event::Bare(BareFrame { exchange: ExchangeId(1), side, at, accepted, len })
}

/// Returns a response of which every piece after the first came without its bytes, or with them, as a policy leaves it:
/// `?` stands for a byte that was not there.
#[track_caller]
fn lacking(policy: &Policy, kind: &'static str, pieces: &[Result<&str, u64>]) -> String {
    let mut veil = Veil::new(policy, &KEY).unwrap();
    let mut out = VecDeque::new();
    let mut events = exchange(&Message::default(), &Message::new(kind, b"", 1));
    let end = events.pop();
    events.extend((1..).zip(pieces).map(|(n, piece)| match piece {
        Ok(data) => frame(Side::Response, n, data.as_bytes()),
        Err(len) => bare(Side::Response, n, *len),
    }));
    events.extend(end);
    for event in events.clone() {
        veil.event(event, &mut out);
    }
    let order = |events: &mut dyn Iterator<Item = &Event>| {
        events.map(|event| (event.at(), matches!(event, Event::Bare(_)))).collect::<Vec<_>>()
    };
    assert_eq!(order(&mut out.iter()), order(&mut events.iter()), "the order stays");
    let told = out.iter().filter_map(|event| match event {
        Event::Frame(frame) => Some(String::from_utf8_lossy(&frame.data).into_owned()),
        Event::Bare(frame) => Some("?".repeat(usize::try_from(frame.len).unwrap())),
        _ => None,
    });
    told.collect()
}

/// What follows missing bytes may be anything: nobody can tell whether it is what the policy replaces.
#[test]
fn after_bytes_that_are_missing_nothing_more_of_a_body_is_told() {
    let policy = rules(&["/user"], &["sk-[a-z0-9]{6,}"]);
    let told = lacking(&policy, JSON, &[Ok(r#"{"a":""#), Err(9), Ok(r#"alice"}"#)]);
    assert_eq!(told, r#"{"a":"?????????*******"#);
    // Half of what a pattern would match.
    let told = lacking(&policy, "text/plain", &[Ok("key sk-ab"), Err(2), Ok("cdef ok")]);
    assert!(told.starts_with("key ") && told.ends_with("??*******"), "{told}");
    assert!(!told.contains("sk-"), "{told}");
    let told = lacking(&shape(), SSE, &[Ok("data: {\"a\":"), Err(3), Ok("\"secret\"}\n\n")]);
    assert!(told.ends_with("???***********"), "{told}");
    // Without a policy for bodies.
    let told = lacking(&Policy::default(), JSON, &[Ok("{"), Err(1), Ok("}")]);
    assert_eq!(told, "{?}");
}

#[test]
fn a_prompt_that_is_not_whole_is_none() {
    let bodies = Bodies { mode: BodyMode::Hash, ..Bodies::default() };
    let mut veil = Veil::new(&Policy { bodies, ..Policy::default() }, &KEY).unwrap();
    let mut out = VecDeque::new();
    let chat = Message::new(JSON, CHAT.as_bytes(), 10);
    let mut events = exchange(&chat, &Message::default());
    events.insert(3, bare(Side::Request, 2, 70));
    for event in events {
        veil.event(event, &mut out);
    }
    assert!(!out.iter().any(|event| matches!(event, Event::Prompt(_))));
}

#[test]
fn with_the_mode_none_nothing_is_told_of_bodies() {
    let bodies = Bodies { mode: BodyMode::None, ..Bodies::default() };
    let policy = Policy { bodies, ..Policy::default() };
    for kind in [JSON, SSE, "text/plain", "image/png", ""] {
        assert_eq!(response(&policy, kind, CHAT.as_bytes()), vec![b'*'; CHAT.len()]);
    }
}

/// Returns what is known of the prompt of a request in frames of `size` bytes, when hashes are all that is kept.
#[track_caller]
fn prompt(body: &str, size: usize, answer: &str) -> Prompt {
    let bodies = Bodies { mode: BodyMode::Hash, ..Bodies::default() };
    let mut veil = Veil::new(&Policy { bodies, ..Policy::default() }, &KEY).unwrap();
    let mut out = VecDeque::new();
    let response = Message::new(JSON, answer.as_bytes(), size);
    for event in exchange(&Message::new(JSON, body.as_bytes(), size), &response) {
        veil.event(event, &mut out);
    }
    for event in &out {
        if let Event::Frame(frame) = event {
            assert!(frame.data.iter().all(|byte| *byte == b'*'));
        }
    }
    let Some(Event::End(_)) = out.pop_back() else { panic!("the end comes last") };
    let Some(Event::Prompt(prompt)) = out.pop_back() else { panic!("there is no prompt") };
    *prompt
}

#[test]
fn hashes_of_prompts_are_equal_as_far_as_these_are() {
    let answer =
        r#"{"choices":[],"usage":{"prompt_tokens":77,"completion_tokens":8,"total_tokens":85}}"#;
    let requests = workload();
    let (mut known, mut expected) = (BTreeSet::new(), BTreeSet::new());
    for request in &requests {
        let prompt = prompt(request, 4000, answer);
        let value: Value = serde_json::from_str(request).unwrap();
        let messages = value["messages"].as_array().unwrap().iter();
        let text: String = messages.map(|message| message["content"].as_str().unwrap()).collect();
        assert_eq!((prompt.bytes, prompt.block_bytes), (text.len() as u64, 512));
        assert_eq!(prompt.blocks.len(), text.len().div_ceil(512));
        assert_eq!((prompt.input_tokens, prompt.output_tokens), (Some(77), Some(8)));
        // A hash is known if and only if the text up to there is.
        for (idx, block) in prompt.blocks.iter().enumerate() {
            let front = text.as_bytes()[..text.len().min((idx + 1) * 512)].to_vec();
            assert_eq!(known.insert(*block), expected.insert(front));
        }
    }
    let whole = prompt(&requests[5], usize::MAX, answer);
    assert_eq!(prompt(&requests[5], 7, answer), whole);
    let tokens =
        |last: u32| prompt(&format!(r#"{{"model":"m","prompt":[1,2,{last}]}}"#), 3, "").blocks;
    assert_eq!(tokens(3), tokens(3));
    assert_ne!(tokens(3), tokens(4));
    assert_eq!(prompt("plain text", 3, "").bytes, 10);
}

#[test]
fn without_rules_for_bodies_they_are_what_they_were() {
    let body = br#"{"user":"alice","content":"sk-abcdef"}"#;
    assert_eq!(response(&Policy::default(), JSON, body), body);
    assert_eq!(response(&rules(&["/other"], &["never"]), JSON, body), body);
    let image = Message::new("image/png", b"\x89PNG anything", 5);
    assert_eq!(veiled(&rules(&["/a"], &[]), &image, &image)[1], b"\x89PNG anything");
}

const CHAT: &str = r#"{"model":"meta-llama/Llama-3.1-8B","stream":true,"temperature":0.7,"user":"customer-4711","messages":[
 {"role":"system","content":"You are a careful physician. Patient: Erika Mustermann, born 1964-08-12."},
 {"role":"user","content":[{"type":"text","text":"Überweisung für Grüße — 東京\n\u00e9t\u00e9 \"quoted\" 😀"},
  {"type":"image_url","image_url":{"url":"https://intern.example/secret-picture.jpeg","detail":"low"}}]},
 {"role":"assistant","content":null,"tool_calls":[{"id":"call_Xy12","type":"function","function":{"name":"lookup_patient","arguments":"{\"surname\":\"Mustermann\",\"limit\":3}"}}]},
 {"role":"tool","tool_call_id":"call_Xy12","content":"Diagnosis pneumonia"}],
 "tools":[{"type":"function","function":{"name":"lookup_patient","description":"Finds somebody","parameters":{"type":"object","properties":{"surname":{"type":"string","description":"Family denomination"}},"required":["surname"]}}}],
 "metadata":{"hospital":"Charité","role":"Oberarzt"},"prompt":[128000,15339,11],"stop":["Endmark"]}"#;

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

#[test]
fn choices_and_blocks_are_texts_of_their_own() {
    let event = |index: u64, text: &str| {
        format!(
            "data: {{\"choices\":[{{\"delta\":{{\"content\":\"{text}\"}},\"index\":{index}}}]}}\n\n"
        )
    };
    let body =
        [event(0, "Hel"), event(1, "Wor"), event(0, "lo there"), event(1, "ld peace")].concat();
    let shaped = String::from_utf8(response(&shape(), SSE, body.as_bytes())).unwrap();
    let texts: Vec<String> = shaped
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line.strip_prefix("data: ")?).ok())
        .map(|event| event["choices"][0]["delta"]["content"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(format!("{}{}", texts[0], texts[2]), standin_in_history("Hello there"));
    assert_eq!(format!("{}{}", texts[1], texts[3]), standin_in_history("World peace"));
    // Anthropic tells the block at the top.
    let event = |index: u64, text: &str| {
        format!(
            "event: content_block_delta\ndata: {{\"type\":\"content_block_delta\",\"index\":{index},\"delta\":{{\"type\":\"text_delta\",\"text\":\"{text}\"}}}}\n\n"
        )
    };
    let body =
        [event(0, "Hel"), event(1, "Wor"), event(0, "lo there"), event(1, "ld peace")].concat();
    let shaped = String::from_utf8(response(&shape(), SSE, body.as_bytes())).unwrap();
    let texts: Vec<String> = shaped
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line.strip_prefix("data: ")?).ok())
        .map(|event| event["delta"]["text"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(format!("{}{}", texts[0], texts[2]), standin_in_history("Hello there"));
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

/// A chat of several turns, many times, with texts from a vocabulary of its own.
fn workload() -> Vec<String> {
    const WORDS: [&str; 24] = [
        "physician",
        "therapy",
        "dosage",
        "symptom",
        "allergy",
        "insulin",
        "biopsy",
        "fracture",
        "oncology",
        "vaccine",
        "cardiology",
        "migraine",
        "antibiotic",
        "remission",
        "chronic",
        "surgeon",
        "clinic",
        "anemia",
        "asthma",
        "eczema",
        "edema",
        "fibrosis",
        "gastritis",
        "hepatitis",
    ];
    let mut state = 1_u64;
    let mut next = move |limit: usize| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % limit
    };
    let mut text = move |len: usize| {
        let mut text = String::new();
        while text.len() < len {
            text += WORDS[next(WORDS.len())];
            text += [" ", ", ", ". ", "\n"][next(4)];
        }
        text
    };
    let systems = [text(2_000), text(900)];
    let mut requests = Vec::new();
    for session in 0..24 {
        let mut messages =
            vec![serde_json::json!({"role": "system", "content": systems[session % 2]})];
        for turn in 0..4 {
            messages.push(serde_json::json!({"role": "user", "content": text(200 + 300 * (turn + session % 3))}));
            requests.push(serde_json::json!({"model": "m", "messages": messages}).to_string());
            messages.push(serde_json::json!({"role": "assistant", "content": text(700)}));
        }
    }
    requests
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

    #[test]
    fn any_bytes_are_survived_and_keep_their_length(
        body in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..200),
            r#"(data: |\{|\}|\[|\]|"|:|,|\\|a|1|é|\n|choices|delta){0,60}"#.prop_map(String::into_bytes),
        ],
        size in 1..40_usize,
    ) {
        for policy in [shape(), rules(&["/a"], &["a+1"])] {
            for kind in [JSON, SSE, "application/x-ndjson", "text/plain", "", "image/png"] {
                let message = Message::new(kind, &body, size);
                let [request, response] = veiled(&policy, &message, &message);
                prop_assert_eq!((request.len(), response.len()), (body.len(), body.len()));
            }
        }
    }
}
