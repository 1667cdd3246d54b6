//! What the tests of bodies under a policy share: exchanges, what a policy leaves of them, and chats.

use std::collections::VecDeque;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use reenact::clock::Nanos;
use reenact::privacy::{Bodies, Policy, Veil};
use reenact::trace::record::{
    BodyMode, End, Event, ExchangeId, Frame, Outcome, PackedHead, Passed, RequestHead,
    ResponseHead, Side, Version,
};

pub(crate) const KEY: [u8; 32] = [9; 32];
pub(crate) const JSON: &str = "application/json";
pub(crate) const SSE: &str = "text/event-stream";

pub(crate) const CHAT: &str = r#"{"model":"meta-llama/Llama-3.1-8B","stream":true,"temperature":0.7,"user":"customer-4711","messages":[
 {"role":"system","content":"You are a careful physician. Patient: Erika Mustermann, born 1964-08-12."},
 {"role":"user","content":[{"type":"text","text":"Überweisung für Grüße — 東京\n\u00e9t\u00e9 \"quoted\" 😀"},
  {"type":"image_url","image_url":{"url":"https://intern.example/secret-picture.jpeg","detail":"low"}}]},
 {"role":"assistant","content":null,"tool_calls":[{"id":"call_Xy12","type":"function","function":{"name":"lookup_patient","arguments":"{\"surname\":\"Mustermann\",\"limit\":3}"}}]},
 {"role":"tool","tool_call_id":"call_Xy12","content":"Diagnosis pneumonia"}],
 "tools":[{"type":"function","function":{"name":"lookup_patient","description":"Finds somebody","parameters":{"type":"object","properties":{"surname":{"type":"string","description":"Family denomination"}},"required":["surname"]}}}],
 "metadata":{"hospital":"Charité","role":"Oberarzt"},"prompt":[128000,15339,11],"stop":["Endmark"]}"#;

/// One message: header fields, and the body in frames.
#[derive(Clone, Default)]
pub(crate) struct Message {
    headers: HeaderMap,
    pub(crate) frames: Vec<Vec<u8>>,
}

// === impl Message ===

impl Message {
    pub(crate) fn new(kind: &'static str, body: &[u8], size: usize) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert("content-type", HeaderValue::from_static(kind));
        Self { headers, frames: body.chunks(size.max(1)).map(<[u8]>::to_vec).collect() }
    }

    pub(crate) fn with(mut self, name: &'static str, value: &'static str) -> Self {
        self.headers.insert(name, HeaderValue::from_static(value));
        self
    }
}

pub(crate) fn shape() -> Policy {
    Policy { bodies: Bodies { mode: BodyMode::Shape, ..Bodies::default() }, ..Policy::default() }
}

pub(crate) fn frame(side: Side, number: u64, data: &[u8]) -> Event {
    let (at, accepted) = (Nanos(1000 * number), Nanos(1000 * number + 10));
    let data = Bytes::copy_from_slice(data);
    Event::Frame(Frame { exchange: ExchangeId(1), side, at, accepted, data })
}

/// Returns an exchange of two messages.
pub(crate) fn exchange(request: &Message, response: &Message) -> Vec<Event> {
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
pub(crate) fn veiled(policy: &Policy, request: &Message, response: &Message) -> [Vec<u8>; 2] {
    let mut veil = Veil::new(policy, &KEY).unwrap();
    let mut out = VecDeque::new();
    let before = exchange(request, response);
    for event in before.clone() {
        veil.event(event, &mut out);
    }
    assert_eq!(out.len(), before.len());
    assert_eq!(veiled_packed(policy, &before), out, "as a recorder hands heads over");
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

/// Returns what a policy leaves of events whose heads are packed.
fn veiled_packed(policy: &Policy, events: &[Event]) -> VecDeque<Event> {
    let mut veil = Veil::new(policy, &KEY).unwrap();
    let mut out = VecDeque::new();
    for event in events {
        let packed = match event {
            Event::Request(head) => Event::Packed(PackedHead::request(head.view(), None)),
            Event::Response(head) => Event::Packed(PackedHead::response(head.view(), None)),
            event => event.clone(),
        };
        veil.event(packed, &mut out);
    }
    out.iter_mut().for_each(Event::unpack);
    out
}

/// Returns the response that a policy leaves, the same for every cut.
#[track_caller]
pub(crate) fn response(policy: &Policy, kind: &'static str, body: &[u8]) -> Vec<u8> {
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

/// A chat of several turns, many times, with texts from a vocabulary of its own.
pub(crate) fn workload() -> Vec<String> {
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
