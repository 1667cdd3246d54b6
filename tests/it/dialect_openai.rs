//! The OpenAI dialect through its public face: responses as servers really send them, whole and byte by byte.

use http::{HeaderMap, HeaderValue, Method, StatusCode};
use reenact::dialect::{
    FrameFacts, RequestFacts, ResponseFacts, ResponseReader, Usage, request_facts,
};

/// A response to be read: a stream of events unless said otherwise.
pub(crate) struct Case {
    pub(crate) target: &'static str,
    pub(crate) request: &'static str,
    pub(crate) status: u16,
    pub(crate) content_type: &'static str,
    pub(crate) coding: Option<&'static str>,
}

pub(crate) const STREAM: Case = Case {
    target: "/v1/chat/completions",
    request: r#"{"stream":true}"#,
    status: 200,
    content_type: "text/event-stream; charset=utf-8",
    coding: None,
};
pub(crate) const UNARY: Case = Case { request: "{}", content_type: "application/json", ..STREAM };

impl Case {
    fn request(&self) -> RequestFacts {
        let body = self.request.as_bytes();
        request_facts(&Method::POST, self.target, &HeaderMap::new(), body)
    }

    pub(crate) fn read<'a>(
        &self,
        frames: impl IntoIterator<Item = &'a [u8]>,
        complete: bool,
    ) -> (ResponseFacts, Vec<FrameFacts>) {
        let mut headers = HeaderMap::new();
        headers.insert("content-type", HeaderValue::from_static(self.content_type));
        if let Some(coding) = self.coding {
            headers.insert("content-encoding", HeaderValue::from_static(coding));
        }
        let status = StatusCode::from_u16(self.status).unwrap();
        let mut reader = ResponseReader::new(&self.request(), status, &headers);
        let frames = frames.into_iter().map(|frame| reader.push(frame)).collect();
        (reader.finish(complete), frames)
    }

    pub(crate) fn whole(&self, body: &[u8]) -> ResponseFacts {
        let facts = self.read([body], true).0;
        let bytes = self.read(body.chunks(1), true).0;
        assert_eq!(unnumbered(bytes), unnumbered(facts.clone()), "byte by byte");
        facts
    }
}

/// Facts without frame numbers: those depend on the cut, and on nothing else does.
pub(crate) fn unnumbered(facts: ResponseFacts) -> ResponseFacts {
    let known = |frame: Option<u64>| frame.map(|_| 0);
    ResponseFacts {
        first_content_frame: known(facts.first_content_frame),
        first_answer_frame: known(facts.first_answer_frame),
        last_content_frame: known(facts.last_content_frame),
        ..facts
    }
}

/// Returns one frame per event.
pub(crate) fn events(data: &[&str]) -> Vec<String> {
    data.iter().map(|data| format!("data: {data}\n\n")).collect()
}

pub(crate) fn delta(delta: &str) -> String {
    format!(
        r#"{{"id":"c-1","model":"m","choices":[{{"index":0,"delta":{delta},"finish_reason":null}}]}}"#
    )
}

fn read_events(data: &[&str]) -> (ResponseFacts, Vec<FrameFacts>) {
    let frames = events(data);
    let read = STREAM.read(frames.iter().map(String::as_bytes), true);
    assert_eq!(unnumbered(STREAM.whole(frames.concat().as_bytes())), unnumbered(read.0.clone()));
    read
}

fn hash(text: &str) -> Option<String> {
    Some(blake3::hash(text.as_bytes()).to_hex()[..32].to_owned())
}

#[test]
fn a_chat_stream_is_read_event_by_event() {
    let (facts, frames) = read_events(&[
        &delta(r#"{"role":"assistant","content":null}"#),
        &delta(r#"{"content":""}"#),
        &delta(r#"{"content":"Hé"}"#),
        &delta(r#"{"content":"llo","refusal":null,"tool_calls":null,"function_call":null}"#),
        r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":null}"#,
        r#"{"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":2,"total_tokens":11,
            "prompt_tokens_details":{"cached_tokens":4},"completion_tokens_details":null}}"#
            .replace('\n', "")
            .as_str(),
        "[DONE]",
    ]);
    let expected = ResponseFacts {
        events: 7,
        content_events: 2,
        first_content_frame: Some(2),
        first_answer_frame: Some(2),
        last_content_frame: Some(3),
        usage: Usage { input: Some(9), output: Some(2), cached: Some(4), reasoning: None },
        finish_reason: Some("stop".into()),
        ended: true,
        model: Some("m".into()),
        id: Some("c-1".into()),
        text: "Héllo".into(),
        content_chars: 5,
        digest: hash("Héllo"),
        ..ResponseFacts::default()
    };
    assert_eq!(facts, expected);
    let chars: Vec<u32> = frames.iter().map(|frame| frame.content_chars).collect();
    assert_eq!(chars, [0, 0, 2, 3, 0, 0, 0]);
    assert!(frames.iter().all(|frame| frame.events == 1));
}

#[test]
fn events_are_counted_where_they_end() {
    let text = events(&[&delta(r#"{"role":"assistant"}"#), &delta(r#"{"content":"a"}"#)]).concat();
    let (head, tail) = text.as_bytes().split_at(text.len() - 1);
    let (facts, frames) = STREAM.read([head, b"", tail, b": ping\n\n"], true);
    assert_eq!(frames.iter().map(|frame| frame.events).collect::<Vec<_>>(), [1, 0, 1, 0]);
    assert_eq!(facts.first_content_frame, Some(2));
    let (facts, frames) = STREAM.read([text.as_bytes()], true);
    assert_eq!((facts.first_content_frame, frames[0].events), (Some(0), 2));
}

#[test]
fn reasoning_comes_before_the_answer() {
    let (facts, frames) = read_events(&[
        &delta(r#"{"reasoning_content":"hm","reasoning":"hm"}"#),
        &delta(r#"{"reasoning":"m","content":null}"#),
        &delta(r#"{"content":"x"}"#),
        "[DONE]",
    ]);
    assert_eq!((facts.reasoning_chars, facts.content_chars), (3, 1));
    assert_eq!((facts.first_content_frame, facts.first_answer_frame), (Some(0), Some(2)));
    assert_eq!(frames[0].reasoning_chars, 2);
    assert_eq!(facts.text, "x");
    assert_ne!(facts.digest, hash("x"), "reasoning is output too");
}

#[test]
fn a_tool_call_comes_in_pieces() {
    let (facts, frames) = read_events(&[
        &delta(
            r#"{"role":"assistant","content":null,"tool_calls":[{"index":0,"id":"call_1","type":"function","function":{"name":"look","arguments":""}}]}"#,
        ),
        &delta(r#"{"tool_calls":[{"index":0,"function":{"arguments":"{\"a\""}}]}"#),
        &delta(
            r#"{"tool_calls":[{"index":1,"id":"call_2","function":{"name":"see","arguments":"{}"}}]}"#,
        ),
        &delta(
            r#"{"tool_calls":[{"index":0,"id":"call_1","function":{"name":"look","arguments":":1}"}}]}"#,
        ),
        r#"{"choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}"#,
        "[DONE]",
    ]);
    assert_eq!(facts.tool_calls, ["look", "see"]);
    assert_eq!(facts.tool_shape.as_deref(), Some("look(a); see()"));
    assert_eq!(frames.iter().map(|frame| frame.tool_chars).collect::<Vec<_>>(), [4, 4, 5, 3, 0, 0]);
    assert_eq!(facts.first_answer_frame, Some(0));
    let unary = UNARY.whole(
        br#"{"choices":[{"message":{"role":"assistant","content":null,"tool_calls":[
            {"id":"x","function":{"name":"look","arguments":"{\"a\":1}"}},
            {"id":"y","function":{"name":"see","arguments":"{}"}}]},"finish_reason":"tool_calls"}]}"#,
    );
    assert_eq!(unary.tool_calls, facts.tool_calls);
    assert_eq!(unary.tool_shape, facts.tool_shape);
    assert_eq!(unary.digest, facts.digest, "the same output, however it came");
}

#[test]
fn calls_that_share_an_index_are_told_by_their_id() {
    let (facts, _) = read_events(&[
        &delta(r#"{"tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":"1"}}]}"#),
        &delta(r#"{"tool_calls":[{"index":0,"id":"b","function":{"name":"f","arguments":"2"}}]}"#),
    ]);
    assert_eq!(facts.tool_calls, ["f", "f"]);
}

#[test]
fn a_choice_may_have_both_delta_and_message() {
    for (delta, message) in [(r#"{"content":"x"}"#, "null"), ("null", r#"{"content":"x"}"#)] {
        let choice =
            format!(r#"{{"choices":[{{"index":0,"delta":{delta},"message":{message}}}]}}"#);
        let (facts, _) = read_events(&[&choice]);
        assert_eq!((facts.text.as_str(), facts.content_events), ("x", 1), "{choice}");
    }
}

#[test]
fn legacy_function_calls_are_calls() {
    let (facts, _) = read_events(&[
        &delta(r#"{"function_call":{"name":"f","arguments":""}}"#),
        &delta(r#"{"function_call":{"arguments":"{}"}}"#),
    ]);
    assert_eq!((facts.tool_calls, facts.content_events), (vec!["f".to_owned()], 2));
}

#[test]
fn the_digest_does_not_depend_on_how_choices_mix() {
    let piece = |index: u32, text: &str| {
        format!(r#"{{"choices":[{{"index":{index},"delta":{{"content":"{text}"}}}}]}}"#)
    };
    let (mixed, _) = read_events(&[&piece(1, "c"), &piece(0, "a"), &piece(1, "d"), &piece(0, "b")]);
    let (apart, _) = read_events(&[&piece(0, "ab"), &piece(1, "cd")]);
    assert_eq!(mixed.digest, apart.digest);
    assert_eq!((mixed.text.as_str(), mixed.content_chars), ("ab", 4));
    let (swapped, _) = read_events(&[&piece(1, "ab"), &piece(0, "cd")]);
    assert_ne!(swapped.digest, apart.digest);
}

#[test]
fn completions_have_their_text_in_the_choice() {
    let case = Case { target: "/v1/completions", ..STREAM };
    let body = "data: {\"choices\":[{\"text\":\"a b\",\"index\":0,\"finish_reason\":null}]}\r\n\r\n\
                data: {\"choices\":[{\"text\":\"\",\"index\":0,\"finish_reason\":\"length\"}],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":3}}\r\n\r\n\
                data: [DONE]\r\n\r\n";
    let facts = case.whole(body.as_bytes());
    assert_eq!((facts.text.as_str(), facts.content_events, facts.ended), ("a b", 1, true));
    assert_eq!((facts.finish_reason.as_deref(), facts.usage.output), (Some("length"), Some(3)));
}

#[test]
fn usage_in_every_chunk_ends_with_the_last() {
    let chunk = |tokens: u32| {
        format!(
            r#"{{"choices":[{{"index":0,"delta":{{"content":"x"}}}}],"usage":{{"prompt_tokens":5,"completion_tokens":{tokens},"completion_tokens_details":{{"reasoning_tokens":1}}}}}}"#
        )
    };
    let (facts, _) = read_events(&[&chunk(1), &chunk(2), &chunk(3)]);
    let usage = Usage { input: Some(5), output: Some(3), cached: None, reasoning: Some(1) };
    assert_eq!((facts.usage, facts.ended), (usage, false));
}

#[test]
fn timings_stand_in_for_usage() {
    let (facts, _) = read_events(&[
        r#"{"choices":[{"index":0,"finish_reason":"stop","delta":{}}],"timings":{"cache_n":36,"prompt_n":1,"predicted_n":8}}"#,
    ]);
    assert_eq!(
        (facts.usage.input, facts.usage.output, facts.usage.cached),
        (Some(37), Some(8), Some(36))
    );
}

#[test]
fn a_unary_body_is_understood_at_its_end() {
    let body = r#"{"id":"c-2","model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"Hi","refusal":null},
        "finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":1}}"#;
    let (facts, frames) = UNARY.read(body.as_bytes().chunks(40), true);
    assert_eq!((facts.events, facts.content_events, facts.ended), (1, 1, true));
    assert_eq!(facts.first_content_frame, Some(0));
    assert_eq!(facts.last_content_frame, Some(frames.len() as u64 - 1));
    assert_eq!((facts.text.as_str(), facts.digest), ("Hi", hash("Hi")));
    let (cut, _) = UNARY.read([&body.as_bytes()[..60]], false);
    assert_eq!((cut.ended, cut.digest), (false, None));
}

#[test]
fn embeddings_have_usage_and_no_text() {
    let case = Case { target: "/v1/embeddings", ..UNARY };
    for vector in ["[0.5,-1.25e-3]", "\"AAAAPwAAAD8=\""] {
        let body = format!(
            r#"{{"object":"list","data":[{{"index":0,"embedding":{vector}}}],"model":"e","usage":{{"prompt_tokens":4,"total_tokens":4}}}}"#
        );
        let facts = case.whole(body.as_bytes());
        assert_eq!((facts.usage.input, facts.model.as_deref()), (Some(4), Some("e")));
        assert_eq!((facts.first_content_frame, facts.digest), (Some(0), None));
    }
}

#[test]
fn errors_are_seen_in_every_form() {
    for (body, expected) in [
        (
            r#"{"error":{"message":"too long","type":"invalid_request_error","code":400}}"#,
            "too long",
        ),
        (r#"{"error":"no such model"}"#, "no such model"),
        (r#"{"error":{"type":"overloaded"}}"#, "overloaded"),
        (r#"{"object":"error","message":"bad","code":400}"#, "bad"),
    ] {
        let facts = UNARY.whole(body.as_bytes());
        assert_eq!(facts.error.as_deref(), Some(expected), "in a 200: {body}");
        assert_eq!((facts.first_content_frame, facts.digest), (None, None));
        let stream = format!("data: {body}\n\ndata: [DONE]\n\n");
        assert_eq!(STREAM.whole(stream.as_bytes()).error.as_deref(), Some(expected));
        assert_eq!(
            STREAM.whole(body.as_bytes()).error.as_deref(),
            Some(expected),
            "JSON under the type of a stream"
        );
        let refused = Case { status: 400, ..STREAM };
        assert_eq!(refused.whole(body.as_bytes()).error.as_deref(), Some(expected));
    }
    let failed = Case { status: 500, content_type: "text/plain", ..UNARY };
    let facts = failed.whole(b"Internal Server Error\n");
    assert_eq!(
        (facts.error.as_deref(), facts.first_content_frame),
        (Some("Internal Server Error"), None)
    );
    let failed = Case { status: 422, ..UNARY };
    let facts = failed.whole(br#"{"detail":[{"loc":["body"],"msg":"field required"}]}"#);
    assert_eq!(facts.error.as_deref(), Some("field required"));
    let facts = STREAM.whole(b"event: error\ndata: {\"message\":\"gone\"}\n\n");
    assert_eq!(facts.error.as_deref(), Some("gone"));
    assert_eq!(UNARY.whole(br#"{"error":null,"message":"m","choices":[]}"#).error, None);
}

#[test]
fn an_answer_without_content_is_not_one() {
    let facts = STREAM.whole(b"data: [DONE]\n\n");
    assert_eq!((facts.ended, facts.content_events, facts.finish_reason), (true, 0, None));
    let facts = STREAM.whole(b"");
    assert_eq!((facts.ended, facts.events, facts.first_content_frame), (false, 0, None));
    let (facts, _) = STREAM.read([], true);
    assert!(!facts.ended);
}

#[test]
fn content_types_lie() {
    let stream = Case { content_type: "text/plain", ..STREAM };
    let body = events(&[&delta(r#"{"content":"a"}"#), "[DONE]"]).concat();
    let facts = stream.whole(body.as_bytes());
    assert_eq!((facts.events, facts.text.as_str(), facts.ended), (2, "a", true));
}

#[test]
fn an_unknown_api_is_timed_by_its_frames() {
    let messages = Case { target: "/v1/messages", ..STREAM };
    let (facts, frames) = messages
        .read([&b"event: message_start\ndata: {}\n\n"[..], b"data: {}\n\ndata: {}\n\n"], true);
    assert_eq!((facts.events, facts.content_events, facts.ended), (3, 0, true));
    assert_eq!((facts.first_content_frame, facts.last_content_frame), (Some(0), Some(1)));
    assert_eq!(facts.first_answer_frame, Some(0));
    assert_eq!(frames[1].events, 2);
    let native = Case { target: "/api/generate", content_type: "application/x-ndjson", ..STREAM };
    let facts = native.whole(b"{\"response\":\"a\"}\n{\"response\":\"b\"}\n");
    assert_eq!((facts.events, facts.first_content_frame), (1, Some(0)));
}

#[test]
fn half_of_a_character_is_mended() {
    let (facts, _) =
        read_events(&[&delta(r#"{"content":"\ud83d"}"#), &delta(r#"{"content":"\ude00!"}"#)]);
    assert_eq!(facts.text, "\u{fffd}\u{fffd}!");
}
