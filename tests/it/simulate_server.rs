//! The simulated server over sockets: the same answers in any company, the pace, the queue, the faults.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use reenact::clock::{Clock, Nanos};
use reenact::dialect::{ResponseFacts, ResponseReader, request_facts};
use reenact::http::server::{ServerOptions, bind};
use reenact::http::{Client, ClientOptions};
use reenact::simulate::{self, SimulateOptions};
use reenact::trace::record::FaultKind;

const CHAT: &str = "/v1/chat/completions";

/// A simulated server in this process, and a client of it.
struct Server {
    client: Client,
    clock: Clock,
}

/// A response, read to its end.
struct Read {
    status: StatusCode,
    headers: HeaderMap,
    facts: ResponseFacts,
    /// Whether the body came to its end.
    complete: bool,
    /// How it broke off.
    fault: Option<FaultKind>,
    first_frame: Option<Nanos>,
    ended: Nanos,
    body: Vec<u8>,
}

/// Fast enough for tests that do not look at the time.
fn quick() -> SimulateOptions {
    SimulateOptions {
        prefill: Duration::from_millis(1),
        prefill_per_token: Duration::ZERO,
        itl: Duration::from_micros(200),
        output_tokens: 20,
        ..SimulateOptions::default()
    }
}

impl Server {
    fn start(options: SimulateOptions) -> Self {
        let clock = Clock::start();
        let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let forever = std::future::pending();
        let serving = async move {
            let http = ServerOptions::default();
            simulate::run(listener, http, options, clock, forever, Duration::ZERO).await
        };
        drop(tokio::spawn(serving));
        Self { client: Client::new(origin, ClientOptions::default(), clock), clock }
    }

    async fn ask(&self, method: Method, target: &str, body: &str) -> Read {
        let request = Request::builder().method(&method).uri(target);
        let request = request.body(Full::new(Bytes::copy_from_slice(body.as_bytes()))).unwrap();
        let said = request_facts(&method, target, request.headers(), body.as_bytes());
        let response = self.client.send(request).await.unwrap();
        let (head, mut frames) = response.into_parts();
        let mut reader = ResponseReader::new(&said, head.status, &head.headers);
        let (mut fault, mut first_frame, mut bytes) = (None, None, Vec::new());
        while let Some(frame) = frames.frame().await {
            let frame = match frame {
                Ok(frame) => frame,
                Err(error) => {
                    fault = Some(error.kind);
                    break;
                }
            };
            first_frame = first_frame.or_else(|| Some(self.clock.now()));
            if let Ok(data) = frame.into_data() {
                bytes.extend_from_slice(&data);
                reader.push(&data);
            }
        }
        Read {
            status: head.status,
            headers: head.headers,
            facts: reader.finish(fault.is_none()),
            complete: fault.is_none(),
            fault,
            first_frame,
            ended: self.clock.now(),
            body: bytes,
        }
    }

    async fn chat(&self, more: &str) -> Read {
        let body = format!(r#"{{"messages":[{{"role":"user","content":"Hello"}}]{more}}}"#);
        self.ask(Method::POST, CHAT, &body).await
    }

    /// Waits until the metrics page holds a line, with a bound.
    async fn until_metric(&self, line: &str) {
        let mut page = String::new();
        for _ in 0..1_000 {
            page = String::from_utf8(self.ask(Method::GET, "/metrics", "").await.body).unwrap();
            if page.lines().any(|found| found == line) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("never saw {line}\n{page}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_answer_does_not_depend_on_company_or_delivery() {
    let server = Server::start(quick());
    let ask = |number: usize, stream: bool| {
        let server = &server;
        async move {
            let read = server.chat(&format!(r#","seed":{number},"stream":{stream}"#)).await;
            assert!(read.complete && read.facts.ended, "{:?}", read.facts);
            assert_eq!(read.facts.finish_reason.as_deref(), Some("stop"));
            read.facts.digest.unwrap()
        }
    };
    let mut alone = Vec::new();
    for number in 0..24 {
        alone.push(ask(number, false).await);
    }
    let together = futures_util::future::join_all((0..24).rev().map(|number| ask(number, true)));
    let mut together = together.await;
    together.reverse();
    assert_eq!(alone, together);
    alone.sort();
    alone.dedup();
    assert_eq!(alone.len(), 24, "each request has an answer of its own");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn usage_and_counts_agree() {
    let server = Server::start(SimulateOptions { reasoning_tokens: 8, ..quick() });
    for more in [
        r#","stream":true,"stream_options":{"include_usage":true}"#,
        r#","stream":true,"stream_options":{"continuous_usage_stats":true}"#,
        "",
    ] {
        let facts = server.chat(more).await.facts;
        assert_eq!(facts.usage.input, Some(6), "{more}");
        assert!(facts.usage.output.unwrap() > 8, "{facts:?}");
        assert!(facts.reasoning_chars > 0 && facts.content_chars > 0, "{facts:?}");
        if more.contains("stream") {
            assert_eq!(Some(facts.content_events), facts.usage.output, "a token, an event");
        }
    }
    let plain = server.chat(r#","stream":true"#).await.facts;
    assert_eq!(plain.usage.output, None);
    let two = server.chat(r#","n":2,"max_tokens":5,"ignore_eos":true"#).await.facts;
    assert_eq!((two.usage.output, two.finish_reason.as_deref()), (Some(10), Some("length")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_keep_their_pace() {
    let itl = Duration::from_millis(4);
    let server = Server::start(SimulateOptions {
        prefill: Duration::from_millis(30),
        itl,
        ..SimulateOptions::default()
    });
    let start = server.clock.now();
    let read = server.chat(r#","stream":true,"max_tokens":51,"ignore_eos":true"#).await;
    assert_eq!(read.facts.content_events, 51);
    assert!(read.first_frame.unwrap() - start >= Duration::from_millis(30));
    let took = read.ended - start;
    // 50 gaps, none of which is longer for the one before having been late; the rest is for a busy machine.
    assert!(took >= Duration::from_millis(30) + 50 * itl, "{took:?}");
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_without_a_slot_waits_for_one() {
    let server = Server::start(SimulateOptions { slots: 1, ..quick() });
    let more = r#","stream":true,"max_tokens":60,"ignore_eos":true"#;
    let start = server.clock.now();
    let (one, other) = tokio::join!(server.chat(more), server.chat(more));
    let second = if one.ended < other.ended { other } else { one };
    let least = Duration::from_micros(59 * 200);
    assert!(second.first_frame.unwrap() - start >= least);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_stops_the_generation() {
    let server = Server::start(SimulateOptions { itl: Duration::from_millis(5), ..quick() });
    for stream in [true, false] {
        let body =
            format!(r#"{{"messages":[],"max_tokens":9999,"ignore_eos":true,"stream":{stream}}}"#);
        let request = Request::post(CHAT).body(Full::new(Bytes::from(body))).unwrap();
        let mut sending = Box::pin(server.client.send(request));
        if stream {
            let mut response = sending.await.unwrap();
            response.body_mut().frame().await.unwrap().unwrap();
        } else {
            let early = tokio::time::timeout(Duration::from_millis(30), &mut sending).await;
            assert!(early.is_err(), "ten thousand tokens take longer");
        }
    }
    server.until_metric("vllm:num_requests_running{model_name=\"simulated\"} 0").await;
    let aborted =
        "vllm:request_success_total{model_name=\"simulated\",finished_reason=\"abort\"} 2";
    server.until_metric(aborted).await;
}

fn faulty(fault: &str) -> Server {
    Server::start(SimulateOptions {
        faults: vec![fault.parse().unwrap()],
        stall: Duration::from_millis(300),
        ..quick()
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults_are_what_they_say() {
    for more in [r#","stream":true"#, ""] {
        let read = faulty("429:1").chat(more).await;
        assert_eq!(
            (read.status, &read.headers[RETRY_AFTER]),
            (StatusCode::TOO_MANY_REQUESTS, &"1".parse().unwrap())
        );
        assert!(read.facts.error.is_some());

        let read = faulty("500:1").chat(more).await;
        assert_eq!(read.status, StatusCode::INTERNAL_SERVER_ERROR);

        let read = faulty("reset:1").chat(more).await;
        assert!(!read.body.is_empty() && !read.facts.ended, "{:?}", read.facts);
        assert_eq!(read.fault, Some(FaultKind::Reset));

        let read = faulty("cut:1").chat(more).await;
        assert!(read.complete && !read.body.is_empty());
        assert_eq!((read.facts.finish_reason, read.facts.usage.output), (None, None));

        let server = faulty("stall:1");
        let start = server.clock.now();
        let read = server.chat(more).await;
        assert!(read.facts.ended && read.ended - start >= Duration::from_millis(300));
    }
    let stream = faulty("cut:1").chat(r#","stream":true"#).await;
    assert!(!stream.facts.ended && stream.facts.content_events > 0);
}

/// What was said before leaves before the connection breaks, also when all of it comes at once, as on a busy machine.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_breaks_has_begun_however_fast_it_comes() {
    let server = Server::start(SimulateOptions {
        prefill: Duration::ZERO,
        itl: Duration::ZERO,
        faults: vec!["reset:1".parse().unwrap()],
        ..quick()
    });
    for more in [r#","stream":true"#, ""] {
        let read = server.chat(more).await;
        assert_eq!((read.status, read.fault), (StatusCode::OK, Some(FaultKind::Reset)));
        assert!(!read.body.is_empty(), "half of it");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_other_operations_answer() {
    let server = Server::start(quick());
    let read =
        server.ask(Method::POST, "/v1/completions", r#"{"prompt":[1,2,3],"max_tokens":4}"#).await;
    assert_eq!((read.facts.usage.input, read.facts.usage.output), (Some(3), Some(4)));
    assert!(!read.facts.text.is_empty());

    let tools = r#","stream":true,"tools":[{"type":"function","function":{"name":"look","parameters":{"properties":{"city":{"type":"string"}}}}}],"tool_choice":"auto""#;
    let read = server.chat(tools).await;
    assert_eq!(read.facts.tool_calls, ["look"]);
    assert_eq!(read.facts.finish_reason.as_deref(), Some("tool_calls"));

    let floats =
        server.ask(Method::POST, "/v1/embeddings", r#"{"input":["a","b"],"dimensions":2}"#).await;
    let floats: serde_json::Value = serde_json::from_slice(&floats.body).unwrap();
    let first = floats["data"][0]["embedding"].as_array().unwrap();
    assert_eq!((floats["data"].as_array().unwrap().len(), first.len()), (2, 2));

    for (method, path, status) in [
        (Method::GET, "/v1/models", StatusCode::OK),
        (Method::GET, "/v1/models/simulated", StatusCode::OK),
        (Method::GET, "/v1/models/other", StatusCode::NOT_FOUND),
        (Method::GET, "/health", StatusCode::OK),
        (Method::GET, "/version", StatusCode::OK),
        (Method::GET, "/nowhere", StatusCode::NOT_FOUND),
        (Method::POST, CHAT, StatusCode::BAD_REQUEST),
    ] {
        let read = server.ask(method.clone(), path, "").await;
        assert_eq!(read.status, status, "{method} {path}");
        assert!(read.headers.contains_key(CONTENT_TYPE));
    }
    let long =
        format!(r#"{{"messages":[{{"role":"user","content":"{}"}}]}}"#, "word ".repeat(40_000));
    let read = server.ask(Method::POST, CHAT, &long).await;
    let error = read.facts.error.unwrap();
    assert_eq!(read.status, StatusCode::BAD_REQUEST);
    assert!(error.contains("maximum context length is 32768"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_streams_run_at_once() {
    let server = Server::start(SimulateOptions { slots: 400, slowdown: 0.0, ..quick() });
    let more = r#","stream":true,"max_tokens":10,"ignore_eos":true"#;
    let reads = futures_util::future::join_all((0..300).map(|_| server.chat(more))).await;
    assert!(reads.iter().all(|read| read.facts.ended && read.facts.content_events == 10));
}
