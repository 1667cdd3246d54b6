//! What ties a request to others of its conversation, from the bytes of requests and responses.

use http::HeaderMap;
use http::header::CONTENT_TYPE;

use crate::dialect::coding::decode;
use crate::dialect::openai::history::{Body, Identified, Ties};
use crate::dialect::request::Coded;
use crate::dialect::soft::parse;
use crate::dialect::sse::SseReader;

/// Returns what ties a request with this JSON body to others; nothing when it is no JSON object. Content-encoded bodies
/// are decoded here.
#[must_use]
pub fn ties(headers: &HeaderMap, body: &[u8]) -> Ties {
    let decoded = match Coded::of(headers) {
        Coded::No => None,
        Coded::Yes => decode(headers, body),
    };
    let json = decoded.as_deref().unwrap_or(body).trim_ascii_start();
    if json.first() != Some(&b'{') {
        return Ties::default();
    }
    let mut owned = Vec::new();
    parse::<Body<'_>>(json, &mut owned).map(|body| body.ties()).unwrap_or_default()
}

/// Returns the id that a server gave its response, be it one JSON object or a stream of events. `headers` are the
/// response's, `body` is all of it, as it passed.
#[must_use]
pub fn response_id(headers: &HeaderMap, body: &[u8]) -> Option<String> {
    let decoded = match Coded::of(headers) {
        Coded::No => None,
        Coded::Yes => Some(decode(headers, body)?),
    };
    let body = decoded.as_deref().unwrap_or(body);
    let is_stream = headers
        .get(CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"text/event-stream"));
    if !is_stream {
        return identified(body);
    }
    let mut id = None;
    let mut event = |event: super::SseEvent<'_>| {
        if id.is_none() {
            id = event.data.and_then(identified);
        }
    };
    let mut reader = SseReader::default();
    reader.push(body, &mut event);
    reader.finish(&mut event);
    id
}

fn identified(json: &[u8]) -> Option<String> {
    let mut owned = Vec::new();
    parse::<Identified<'_>>(json, &mut owned)?.id()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::dialect::text_digest;

    fn read(body: &str) -> Ties {
        ties(&HeaderMap::new(), body.as_bytes())
    }

    #[test]
    fn names_are_read_where_they_stand() {
        let ties =
            read(r#"{"user":"u","conversation":{"id":"c"},"previous_response_id":"resp_1"}"#);
        assert_eq!(ties.user.as_deref(), Some("u"));
        assert_eq!(ties.conversation.as_deref(), Some("c"));
        assert_eq!(ties.previous.as_deref(), Some("resp_1"));
        for odd in ["", "[]", "{", r#"{"user":null,"messages":"x"}"#, r#"{"messages":{}}"#] {
            assert_eq!(read(odd), Ties::default(), "{odd}");
        }
    }

    #[test]
    fn equal_beginnings_have_equal_digests_however_they_are_written() {
        let one = read(
            r#"{"messages":[{"role":"system","content":"Be brief."},{"role":"user","content":"hi"}]}"#,
        );
        let next = read(
            r#"{"messages":[{"content":[{"type":"text","text":"Be "},{"type":"text","text":"brief."}], "role":"system"},
                {"role":"user","content":"h\u0069"},{"role":"assistant","content":" Hello. "},{"role":"user","content":"bye"}]}"#,
        );
        assert_eq!(one.messages[..], next.messages[..2]);
        assert!(next.messages[2].is_assistant);
        assert_eq!(next.messages[2].answer, text_digest("Hello."));
        let digests: Vec<_> = next.messages.iter().map(|said| said.so_far).collect();
        let mut distinct = digests.clone();
        distinct.dedup();
        assert_eq!(digests, distinct);
    }

    #[test]
    fn what_differs_has_another_digest() {
        let digest = |message: &str| read(&format!(r#"{{"messages":[{message}]}}"#)).messages[0];
        let messages = [
            r#"{"role":"user","content":"a"}"#,
            r#"{"role":"assistant","content":"a"}"#,
            r#"{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:,a"}}]}"#,
            r#"{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:,b"}}]}"#,
            r#"{"role":"assistant","content":null,"tool_calls":[{"id":"1"}]}"#,
            r#"{"role":"assistant","content":null,"tool_calls":[{"id":"2"}]}"#,
            r#"{"role":"tool","content":"a","tool_call_id":"1"}"#,
            r#"{"role":"tool","content":"a","tool_call_id":"2"}"#,
            "null",
            "7",
        ];
        let mut seen: Vec<u128> = messages.iter().map(|message| digest(message).so_far).collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), messages.len());
        assert_eq!(digest(messages[4]).answer, None);
    }

    #[test]
    fn a_response_says_its_id_whole_or_streamed() {
        let id = |kind: &'static str, body: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
            response_id(&headers, body.as_bytes())
        };
        let whole = id("application/json", r#"{"id":"resp_1","output":[]}"#);
        assert_eq!(whole.as_deref(), Some("resp_1"));
        let streamed = id(
            "text/event-stream; charset=utf-8",
            "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"id\":\"resp_2\"}}\n\n\
             data: {\"id\":\"x\"}\n\n",
        );
        assert_eq!(streamed.as_deref(), Some("resp_2"));
        assert_eq!(id("application/json", "no"), None);
        assert_eq!(id("text/event-stream", "data: [DONE]\n\n"), None);
    }
}
