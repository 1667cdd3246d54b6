//! Requests: which API, which operation, and what is asked for.

use http::{HeaderMap, Method};

use crate::dialect::coding::decode;
use crate::dialect::facts::{Dialect, Operation, RequestFacts};
use crate::dialect::openai::path;
use crate::dialect::openai::request::Body;
use crate::dialect::soft::parse;

/// Returns what a request says. `target` is its path and query (or absolute form), `body` all of its body as it passed:
/// content-encoded bodies are decoded here.
#[must_use]
pub fn request_facts(
    method: &Method,
    target: &str,
    headers: &HeaderMap,
    body: &[u8],
) -> RequestFacts {
    let operation = path::operation(method, target);
    let mut facts = RequestFacts {
        dialect: if operation.is_some() { Dialect::OpenAi } else { Dialect::Generic },
        operation: operation.unwrap_or(Operation::Other),
        ..RequestFacts::default()
    };
    let decoded = match Coded::of(headers) {
        Coded::No => None,
        Coded::Yes => decode(headers, body),
    };
    let json = decoded.as_deref().unwrap_or(body).trim_ascii_start();
    let mut owned = Vec::new();
    if json.first() == Some(&b'{')
        && let Some(body) = parse::<Body<'_>>(json, &mut owned)
    {
        match facts.dialect {
            Dialect::OpenAi => body.describe(&mut facts),
            Dialect::Generic => body.describe_any(&mut facts),
        }
    }
    if let Some(session) = session_header(headers) {
        facts.session = Some(session);
    }
    facts
}

pub(super) enum Coded {
    Yes,
    No,
}

impl Coded {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        if headers.contains_key(http::header::CONTENT_ENCODING) { Self::Yes } else { Self::No }
    }
}

/// Returns the conversation that one of the usual headers names (`x-session-id`, `x-conversation-id`,
/// `x-session-affinity`, `session-id`).
#[must_use]
pub fn session_header(headers: &HeaderMap) -> Option<String> {
    SESSION_HEADERS
        .iter()
        .filter_map(|name| headers.get(*name)?.to_str().ok())
        .map(str::trim)
        .find(|value| !value.is_empty())
        .map(str::to_owned)
}

/// Header fields that clients and gateways name a conversation with.
const SESSION_HEADERS: [&str; 4] =
    ["x-session-id", "x-conversation-id", "x-session-affinity", "session-id"];

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn facts(target: &str, body: &str) -> RequestFacts {
        request_facts(&Method::POST, target, &HeaderMap::new(), body.as_bytes())
    }

    #[track_caller]
    fn check(target: &str, body: &str, expected: &RequestFacts) {
        assert_eq!(facts(target, body), *expected, "{body}");
    }

    fn chat() -> RequestFacts {
        RequestFacts {
            dialect: Dialect::OpenAi,
            operation: Operation::Chat,
            ..RequestFacts::default()
        }
    }

    #[test]
    fn a_chat_is_counted() {
        check(
            "/v1/chat/completions",
            r#"{"model":"m","stream":true,"max_tokens":9,"max_completion_tokens":7,"user":"u-1","tools":[{},{}],
               "messages":[{"role":"system","content":"né"},{"role":"user","content":"hi"},{"role":"assistant","content":null,
               "tool_calls":[{}]},{"role":"tool","content":"42"},{"role":"user","content":[{"type":"text","text":"a\nb"}]}]}"#,
            &RequestFacts {
                model: Some("m".into()),
                stream: Some(true),
                messages: 5,
                user_messages: 2,
                prompt_chars: 9,
                tools: 2,
                max_tokens: Some(7),
                session: Some("u-1".into()),
                ..chat()
            },
        );
    }

    #[test]
    fn media_are_counted() {
        let body = r#"{"messages":[{"role":"user","content":[
            {"type":"text","text":"look"},
            {"type":"image_url","image_url":{"url":"data:image/png;base64,AAAAAAA=","detail":"low"}},
            {"type":"image_url","image_url":{"url":"https://example.org/a.png"}},
            {"type":"image_url","image_url":"data:image\/gif;base64,AAAA"},
            {"type":"input_audio","input_audio":{"data":"AAAAAA==","format":"wav"}},
            {"type":"file","file":{"file_data":"data:application/pdf;base64,AAAA","filename":"a.pdf"}},
            {"type":"file","file":{"file_id":"file-1"}},
            null, 3, {"type":"new_kind"}
        ]}]}"#;
        check(
            "/chat/completions",
            body,
            &RequestFacts {
                messages: 1,
                user_messages: 1,
                prompt_chars: 4,
                images: 3,
                other_media: 3,
                media_bytes: 5 + 3 + 4 + 3,
                ..chat()
            },
        );
    }

    #[test]
    fn prompts_come_in_many_forms() {
        for (body, chars) in [
            (r#"{"prompt":"four"}"#, 4),
            (r#"{"prompt":["ab","cd","é"]}"#, 5),
            (r#"{"prompt":[1,260,261]}"#, 0),
            (r#"{"prompt":[[1,2],[3]]}"#, 0),
            (r#"{"prompt":null}"#, 0),
        ] {
            let operation = Operation::Completion;
            check(
                "/v1/completions",
                body,
                &RequestFacts { operation, prompt_chars: chars, ..chat() },
            );
        }
        let operation = Operation::Embedding;
        let expected = RequestFacts { operation, prompt_chars: 3, ..chat() };
        check("/v1/embeddings", r#"{"input":["a","bc"],"encoding_format":"base64"}"#, &expected);
    }

    #[test]
    fn nulls_and_odd_types_cost_one_fact_each() {
        check(
            "/v1/chat/completions",
            r#"{"model":null,"stream":"yes","messages":[null,{"role":1,"content":{}},{"role":"user"}],"tools":{},
               "max_tokens":"many","max_completion_tokens":null,"n_predict":5,"conversation":{"id":"c-1"},"user":7}"#,
            &RequestFacts {
                messages: 2,
                user_messages: 1,
                max_tokens: Some(5),
                session: Some("c-1".into()),
                ..chat()
            },
        );
        for odd in ["", "[]", "nonsense", "{\"model\":", "null", "{}"] {
            check("/v1/chat/completions", odd, &chat());
        }
    }

    #[test]
    fn an_unknown_api_is_generic() {
        let expected = RequestFacts {
            model: Some("m".into()),
            stream: Some(false),
            ..RequestFacts::default()
        };
        check(
            "/api/chat",
            r#"{"model":"m","messages":[{"role":"user"}],"stream":false}"#,
            &expected,
        );
        check("/upload", "--boundary\r\n\0\u{1}", &RequestFacts::default());
    }

    #[test]
    fn a_session_header_wins() {
        let mut headers = HeaderMap::new();
        headers.insert("x-session-id", HeaderValue::from_static("s-1"));
        let body = br#"{"user":"u"}"#;
        let facts = request_facts(&Method::POST, "/v1/chat/completions", &headers, body);
        assert_eq!(facts.session.as_deref(), Some("s-1"));
    }

    #[test]
    fn a_coded_body_is_decoded() {
        let mut coder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        coder.write_all(br#"{"model":"m"}"#).unwrap();
        let body = coder.finish().unwrap();
        let mut headers = HeaderMap::new();
        headers.insert("content-encoding", HeaderValue::from_static("gzip"));
        let facts = request_facts(&Method::POST, "/v1/chat/completions", &headers, &body);
        assert_eq!(facts.model.as_deref(), Some("m"));
    }

    proptest! {
        #[test]
        fn any_body_is_survived(body in prop::collection::vec(any::<u8>(), 0..256), target in "/[a-z/:?]{0,20}") {
            drop(request_facts(&Method::POST, &target, &HeaderMap::new(), &body));
            drop(request_facts(&Method::POST, "/v1/chat/completions", &HeaderMap::new(), &body));
        }
    }
}
