//! What calls do: marks, timeouts, retries, faults, interrupts, against servers that say each byte.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

use reenact::replay::call::Limits;
use reenact::results::rows::Measurement;

use crate::replay_support::{Options, Recorded, replay, replay_until};
use crate::support::{Peer, Upstream};

pub(crate) const BODY: &str =
    r#"{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]}"#;
pub(crate) const HEAD: &str =
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";

/// A server's pause: where a test says each byte, it also says when.
#[expect(
    clippy::disallowed_methods,
    reason = "the time between two bytes is what the server plays"
)]
fn pause(ms: u64) {
    std::thread::sleep(Duration::from_millis(ms));
}

pub(crate) fn chunk(text: &str) -> String {
    format!("{:x}\r\n{text}\r\n", text.len())
}

pub(crate) fn token(text: &str) -> String {
    format!(
        "data: {{\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{text}\"}},\"finish_reason\":null}}]}}\n\n"
    )
}

/// Replays one exchange against a server that plays `script` on each connection.
pub(crate) fn one(
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
pub(crate) fn fate(row: &Measurement) -> String {
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
