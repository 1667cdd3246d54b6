//! What calls do: marks, aborts, timeouts, retries, faults, against servers that say each byte.

use std::future::Future as _;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

use hyper::service::service_fn;
use reenact::clock::Clock;
use reenact::replay::call::Limits;
use reenact::replay::ending::Aborts;
use reenact::results::rows::Measurement;
use reenact::trace::record::Outcome;

use crate::replay_support::{Options, Recorded, replay, replay_until, serve};
use crate::support::{Peer, Upstream};

const BODY: &str = r#"{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]}"#;
const HEAD: &str =
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";

/// A server's pause: where a test says each byte, it also says when.
#[expect(
    clippy::disallowed_methods,
    reason = "the time between two bytes is what the server plays"
)]
fn pause(ms: u64) {
    std::thread::sleep(Duration::from_millis(ms));
}

fn chunk(text: &str) -> String {
    format!("{:x}\r\n{text}\r\n", text.len())
}

fn token(text: &str) -> String {
    format!(
        "data: {{\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{text}\"}},\"finish_reason\":null}}]}}\n\n"
    )
}

/// Replays one exchange against a server that plays `script` on each connection.
fn one(
    recorded: Recorded,
    limits: Limits,
    script: impl Fn(Peer) + Send + Sync + 'static,
) -> Measurement {
    let server = Upstream::start(script);
    let finished = replay(&[recorded], Options { limits, ..Options::to(&[server.url()]) });
    assert_eq!(finished.rows.len(), 1);
    finished.rows.into_iter().next().unwrap()
}

/// Returns outcome, fault, kind and status as one text.
fn fate(row: &Measurement) -> String {
    let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
    let status = row.status.map_or_else(|| "-".to_owned(), |status| status.to_string());
    format!("{} {} {} {status}", row.outcome, text(&row.fault), text(&row.error_kind))
}

#[test]
fn a_stream_is_marked_frame_by_frame() {
    let server = Upstream::start(|mut peer| {
        while peer.try_message().is_some() {
            peer.send(HEAD);
            pause(20);
            peer.send(chunk(&token("a")));
            pause(30);
            peer.send(chunk(&token("b")));
            pause(30);
            peer.send(chunk("data: [DONE]\n\n") + "0\r\n\r\n");
        }
    });
    let finished = replay(&[Recorded::chat(0, BODY)], Options::to(&[server.url()]));
    let row = &finished.rows[0];
    assert_eq!(fate(row), "complete - - 200");
    assert_eq!(
        (row.operation.as_str(), row.model_sent.as_deref(), row.stream),
        ("chat", Some("m"), Some(true))
    );
    let marks = [
        row.due_ns,
        row.sent_ns,
        row.request_end_ns,
        row.headers_ns,
        row.first_frame_ns,
        row.last_token_ns,
        row.end_ns,
    ];
    let marks: Vec<i64> = marks.into_iter().map(Option::unwrap).collect();
    assert!(marks.is_sorted(), "{marks:?}");
    assert!(row.ttft_ns.unwrap() >= 20_000_000, "{row:?}");
    assert_eq!(row.first_frame_ns, row.first_token_ns);
    assert_eq!((row.response_frames, row.response_events, row.output_tokens), (3, 3, Some(2)));
    assert_eq!(row.connection_reused, Some(false), "opened ahead, and never used before");
    assert_eq!(row.connect_ns, None);
    let contents: Vec<u32> = finished.frames.iter().map(|frame| frame.content_chars).collect();
    assert_eq!(contents, [1, 1, 0]);
    // The second token was written 50 ms after the request was there. How long after the first it was read is up to the
    // machine (a late read of the first shortens it): the row's own marks say.
    let (first, last) = (row.first_token_ns.unwrap(), row.last_token_ns.unwrap());
    assert!(last - row.sent_ns.unwrap() >= 50_000_000, "{row:?}");
    assert_eq!(row.tpot_ns, Some(last - first));
}

/// Invariant 10.
#[test]
fn errors_of_the_server_are_rows_and_not_our_failures() {
    let answer = |status: &str| format!("HTTP/1.1 {status}\r\ncontent-length: 2\r\n\r\n{{}}");
    let row = one(Recorded::chat(0, BODY), Limits::default(), move |mut peer| {
        while peer.try_message().is_some() {
            peer.send(answer("429 Too Many Requests"));
        }
    });
    assert_eq!(fate(&row), "complete server http 429");
    let row = one(Recorded::chat(0, BODY), Limits::default(), move |mut peer| {
        while peer.try_message().is_some() {
            peer.send(answer("500 Oops"));
        }
    });
    assert_eq!(fate(&row), "complete server http 500");
}

#[test]
fn a_stream_that_breaks_is_a_failed_row_with_what_came() {
    let row = one(Recorded::chat(0, BODY), Limits::default(), |mut peer| {
        if peer.try_message().is_some() {
            peer.send(HEAD.to_owned() + &chunk(&token("a")));
            pause(10);
        }
    });
    assert_eq!(fate(&row), "failed server closed 200");
    assert_eq!((row.response_frames, row.output_chars), (1, Some(1)));
    let row = one(Recorded::chat(0, BODY), Limits::default(), |mut peer| {
        while peer.try_message().is_some() {
            peer.send("this is not HTTP\r\n\r\n");
        }
    });
    assert_eq!(fate(&row), "failed server protocol -");
}

#[test]
fn each_timeout_is_its_own() {
    let stall = |mut peer: Peer| {
        while peer.try_message().is_some() {
            peer.send(HEAD.to_owned() + &chunk(&token("a")));
            peer.rest();
        }
    };
    let idle = Limits { idle: Some(Duration::from_millis(500)), ..Limits::default() };
    let row = one(Recorded::chat(0, BODY), idle, stall);
    assert_eq!(fate(&row), "failed server timeout 200");
    assert!(row.error.as_deref().unwrap().contains("idle timeout"), "{row:?}");
    assert!(row.e2e_ns.unwrap() >= 500_000_000);

    let total = Limits { total: Some(Duration::from_millis(50)), ..Limits::default() };
    let row = one(Recorded::chat(0, BODY), total, stall);
    assert!(row.error.as_deref().unwrap().contains("total timeout"), "{row:?}");

    // A trickle keeps the idle timeout away.
    let row = one(Recorded::chat(0, BODY), idle, |mut peer| {
        while peer.try_message().is_some() {
            peer.send(HEAD);
            for _ in 0..6 {
                pause(100);
                peer.send(chunk(&token("a")));
            }
            peer.send("0\r\n\r\n");
        }
    });
    assert_eq!(row.outcome, "complete");

    // Before the head, too.
    let row = one(Recorded::chat(0, BODY), idle, |mut peer| {
        peer.try_message();
        peer.rest();
    });
    assert_eq!(fate(&row), "failed server timeout -");
    assert!(row.sent_ns.is_some() && row.headers_ns.is_none());
}

/// Invariant 10.
#[test]
fn a_target_that_refuses_is_a_row_and_the_run_goes_on() {
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", gone.local_addr().unwrap());
    drop(gone);
    let living = Upstream::answering("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}");
    let recorded: Vec<Recorded> = (0..4).map(|n| Recorded::chat(n * 10, BODY)).collect();
    let finished = replay(&recorded, Options::to(&[url, living.url()]));
    let fates: Vec<String> = finished.rows.iter().map(fate).collect();
    assert_eq!(
        fates,
        [
            "failed server connect -",
            "complete - - 200",
            "failed server connect -",
            "complete - - 200"
        ]
    );
    assert_eq!(finished.rows[0].sent_ns, None);
}

#[test]
fn targets_take_turns_and_each_gets_its_share() {
    let counts =
        [Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0))];
    let servers: Vec<Upstream> = counts
        .iter()
        .map(|count| {
            let count = Arc::clone(count);
            Upstream::start(move |mut peer| {
                while peer.try_message().is_some() {
                    count.fetch_add(1, Ordering::SeqCst);
                    peer.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}");
                }
            })
        })
        .collect();
    let urls: Vec<String> = servers.iter().map(Upstream::url).collect();
    let recorded: Vec<Recorded> = (0..5).map(|n| Recorded::chat(n * 2, BODY)).collect();
    let finished = replay(&recorded, Options { rounds: 2, ..Options::to(&urls) });
    let seen: Vec<u64> = counts.iter().map(|count| count.load(Ordering::SeqCst)).collect();
    assert_eq!(seen, [4, 3, 3]);
    let targets: Vec<&str> = finished.rows.iter().map(|row| row.target.as_str()).collect();
    let expected: Vec<&str> = (0..10).map(|n| urls[n % 3].as_str()).collect();
    assert_eq!(targets, expected);
}

#[test]
fn a_reused_connection_that_died_is_tried_again_once_and_the_row_says_so() {
    // The first connection answers once and dies when the second request comes; others live on.
    let server = Upstream::start(|mut peer| {
        let mut answered = 0;
        while peer.try_message().is_some() {
            if peer.number == 1 && answered == 1 {
                return;
            }
            answered += 1;
            peer.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}");
        }
    });
    let recorded: Vec<Recorded> = (0..2).map(|n| Recorded::chat(n * 500, BODY)).collect();
    // No spare ones: the second request is to find the connection of the first.
    let finished = replay(&recorded, Options { spare: 0, ..Options::to(&[server.url()]) });
    let seen: Vec<(String, u32)> =
        finished.rows.iter().map(|row| (fate(row), row.retries)).collect();
    assert_eq!(seen, [("complete - - 200".to_owned(), 0), ("complete - - 200".to_owned(), 1)]);
}

/// Replays an exchange whose client had left; returns its row, and for how long the server saw the client after its last byte.
fn abort(recorded: Recorded, tokens: usize) -> (Measurement, Duration) {
    let (gone, seen) = channel();
    let gone = Mutex::new(gone);
    let row = one(recorded, Limits::default(), move |mut peer| {
        let clock = Clock::start();
        if peer.try_message().is_some() {
            let begun = clock.now();
            if tokens > 0 {
                peer.send(HEAD);
            }
            for _ in 0..tokens {
                peer.send(chunk(&token("a")));
            }
            let last = clock.now();
            peer.rest();
            let since = if tokens > 0 { last } else { begun };
            gone.lock().unwrap().send(clock.now() - since).unwrap();
        }
    });
    (row, seen.recv_timeout(Duration::from_secs(10)).unwrap())
}

#[test]
fn a_recorded_abort_in_mid_stream_happens_after_the_same_bytes() {
    let frames: Vec<(u64, String)> = (1..=3).map(|n| (n * 10, token("a"))).collect();
    let left =
        Recorded { frames, end_ms: 40, outcome: Outcome::Cancelled, ..Recorded::chat(0, BODY) };
    let (row, stayed) = abort(left.clone(), 3);
    assert_eq!(fate(&row), "cancelled client disconnected 200");
    assert_eq!(row.response_bytes, token("a").len() as u64 * 3);
    assert_eq!(row.recorded_outcome.as_deref(), Some("cancelled"));
    // Generous: the machine may be busy. Without the abort it would be 20 seconds.
    assert!(stayed < Duration::from_secs(5), "{stayed:?}");

    // One that does not leave stays.
    let server = Upstream::start(|mut peer| {
        while peer.try_message().is_some() {
            peer.send(HEAD.to_owned() + &chunk(&token("a")).repeat(5) + "0\r\n\r\n");
        }
    });
    let options = Options { aborts: Aborts::Never, ..Options::to(&[server.url()]) };
    let finished = replay(&[left], options);
    assert_eq!(
        (finished.rows[0].outcome.as_str(), finished.rows[0].response_frames),
        ("complete", 5)
    );
}

#[test]
fn a_recorded_abort_before_any_body_happens_after_the_same_time() {
    let left = Recorded {
        status: None,
        end_ms: 80,
        outcome: Outcome::Cancelled,
        ..Recorded::chat(0, BODY)
    };
    let (row, stayed) = abort(left, 0);
    assert_eq!(fate(&row), "cancelled client disconnected -");
    let waited = Duration::from_nanos(row.e2e_ns.unwrap().unsigned_abs());
    assert!(waited >= Duration::from_millis(80) && waited < Duration::from_secs(5), "{waited:?}");
    assert!(stayed >= Duration::from_millis(70), "{stayed:?}");
}

/// A body that sends a token every 10 ms for ever, and says when it is dropped.
struct Endless {
    gone: std::sync::mpsc::Sender<()>,
    next: std::pin::Pin<Box<tokio::time::Sleep>>,
}

impl http_body::Body for Endless {
    type Data = bytes::Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<bytes::Bytes>, Self::Error>>> {
        std::task::ready!(self.next.as_mut().poll(cx));
        self.next = Box::pin(tokio::time::sleep(Duration::from_millis(10)));
        std::task::Poll::Ready(Some(Ok(http_body::Frame::data(token("a").into()))))
    }
}

impl Drop for Endless {
    fn drop(&mut self) {
        // The test may have failed before.
        let _gone = self.gone.send(());
    }
}

#[test]
fn an_abort_resets_its_stream_and_leaves_the_others_on_the_connection_alone() {
    let (gone, seen) = channel();
    let url = serve(move |_accepted| {
        let gone = gone.clone();
        service_fn(move |_request| {
            let next = Box::pin(tokio::time::sleep(Duration::ZERO));
            let body = Endless { gone: gone.clone(), next };
            std::future::ready(Ok(http::Response::new(body)))
        })
    });
    let frames = |n: u64| (1..=n).map(|n| (n * 10, token("a"))).collect();
    let left = |n| Recorded {
        frames: frames(n),
        end_ms: 500,
        outcome: Outcome::Cancelled,
        ..Recorded::chat(0, BODY)
    };
    let options = Options { speak: reenact::replay::route::Speak::Http2, ..Options::to(&[url]) };
    let finished = replay(&[left(2), left(20)], options);
    for row in &finished.rows {
        assert_eq!(fate(row), "cancelled client disconnected 200");
        assert_eq!(row.http_version.as_deref(), Some("2"));
        seen.recv_timeout(Duration::from_secs(10)).expect("the server saw the reset");
    }
    let frames: Vec<u64> = finished.rows.iter().map(|row| row.response_frames).collect();
    assert_eq!(frames, [2, 20]);
    assert_eq!(finished.rows[0].connection, finished.rows[1].connection);
}

#[test]
fn an_interrupt_gives_up_what_is_in_flight_and_sends_nothing_more() {
    let (arrived, seen) = channel();
    let arrived = Mutex::new(arrived);
    let server = Upstream::start(move |mut peer| {
        if peer.try_message().is_some() {
            arrived.lock().unwrap().send(()).unwrap();
            peer.rest();
        }
    });
    let recorded = [Recorded::chat(0, BODY), Recorded::chat(3_600_000, BODY)];
    let finished = replay_until(&recorded, Options::to(&[server.url()]), move |stop| {
        seen.recv_timeout(Duration::from_secs(10)).unwrap();
        stop.pull();
    });
    assert_eq!(finished.ran.paced.released, 1);
    assert_eq!(finished.rows.len(), 1);
    assert_eq!(fate(&finished.rows[0]), "cancelled local disconnected -");
    assert!(finished.rows[0].sent_ns.is_some());
}

/// Invariant 6, on the way out: what the recorder replaces is what is not sent.
#[test]
fn what_is_sent_carries_no_recorded_credential_and_names_the_target() {
    let (arrived, seen) = channel();
    let arrived = Mutex::new(arrived);
    let server = Upstream::start(move |mut peer| {
        while let Some(message) = peer.try_message() {
            arrived.lock().unwrap().send(message).unwrap();
            peer.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}");
        }
    });
    let mut recorded = Recorded::chat(0, BODY);
    recorded.target = "/v1/chat/completions?api_key=SECRET&v=1".to_owned();
    for (name, value) in [
        ("authorization", "Bearer SECRET"),
        ("cookie", "SECRET"),
        ("host", "api.example.com"),
        ("x-kept", "yes"),
    ] {
        recorded.headers.push((name, value.to_owned()));
    }
    let rewrite = reenact::replay::rewrite::Rewrite {
        redacted: vec!["authorization".to_owned(), "api_key".to_owned()],
        ..Default::default()
    };
    let url = format!("{}/base", server.url());
    let finished = replay(&[recorded], Options { rewrite, ..Options::to(&[url]) });
    assert_eq!(finished.rows[0].outcome, "complete");
    let message = seen.recv().unwrap();
    assert!(message.starts_with("POST /base/v1/chat/completions?v=1 HTTP/1.1\r\n"), "{message}");
    assert!(!message.contains("SECRET"), "{message}");
    assert!(message.contains(&format!("host: {}\r\n", server.address)), "{message}");
    assert!(message.contains("x-kept: yes\r\n") && message.ends_with(BODY), "{message}");
}

#[test]
fn a_burst_finds_its_connections_open() {
    let server = Upstream::start(|mut peer| {
        while peer.try_message().is_some() {
            pause(30);
            peer.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}");
        }
    });
    let recorded: Vec<Recorded> = (0..8).map(|_| Recorded::chat(0, BODY)).collect();
    let finished =
        replay(&recorded, Options { spare: 8, lead_ms: 600, ..Options::to(&[server.url()]) });
    assert!(finished.rows.iter().all(|row| row.outcome == "complete"));
    let cold = finished.rows.iter().filter(|row| row.connect_ns.is_some()).count();
    assert_eq!(cold, 0, "no request waited for a connection");
}
