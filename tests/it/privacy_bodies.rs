//! What a policy leaves of bodies, however they are cut into frames.

use std::collections::{BTreeSet, VecDeque};

use proptest::prelude::*;
use reenact::clock::Nanos;
use reenact::privacy::{Bodies, Policy, Veil};
use reenact::trace::record::{BareFrame, BodyMode, Event, ExchangeId, Prompt, Side};
use serde_json::Value;

use crate::privacy_support::{
    CHAT, JSON, KEY, Message, SSE, exchange, frame, response, shape, veiled, workload,
};

fn rules(pointers: &[&str], patterns: &[&str]) -> Policy {
    let list = |list: &[&str]| list.iter().map(|one| (*one).to_owned()).collect();
    let bodies = Bodies { pointers: list(pointers), patterns: list(patterns), ..Bodies::default() };
    Policy { bodies, ..Policy::default() }
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

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

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
