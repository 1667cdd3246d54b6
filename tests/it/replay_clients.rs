//! What clients do: where they leave, how fast they read, when they lose patience.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper::service::service_fn;
use reenact::clock::Clock;
use reenact::replay::call::Limits;
use reenact::replay::connections::Connections;
use reenact::replay::ending::Aborts;
use reenact::replay::pace::ReadPace;
use reenact::replay::route::Speak;
use reenact::results::rows::Measurement;
use reenact::trace::record::Outcome;

use crate::replay_support::{Options, Recorded, reenact, replay, serve};
use crate::support::{Peer, Upstream};

const BODY: &str = r#"{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]}"#;
const HEAD: &str =
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
/// From frame to frame of a server here.
const GAP: Duration = Duration::from_millis(60);

fn chunk(text: &str) -> String {
    format!("{:x}\r\n{text}\r\n", text.len())
}

/// Sends frames of `text`, one each [`GAP`], until the client leaves; returns how many it sent, and when the client had left,
/// since the request.
fn stream(peer: &mut Peer, text: &str) -> (u64, Duration) {
    let clock = Clock::start();
    peer.send(HEAD);
    for sent in 1..200 {
        peer.send(chunk(text));
        if !peer.is_silent(GAP) {
            return (sent, Duration::from_nanos(clock.now().0));
        }
    }
    panic!("the client stays for ever")
}

/// Replays an exchange whose client left 3 frames and 250 ms into its response, against a server that sends frames of `text`:
/// returns its row, how many frames the server had sent when the client left, and when that was.
fn left(aborts: Aborts, text: &'static str) -> (Measurement, u64, Duration) {
    let recorded = Recorded {
        frames: (1..=3).map(|n| (n * 70, "data: {}\n\n".to_owned())).collect(),
        end_ms: 250,
        outcome: Outcome::Cancelled,
        ..Recorded::chat(0, BODY)
    };
    let (tell, told) = channel();
    let tell = Mutex::new(tell);
    let server = Upstream::start(move |mut peer| {
        if peer.try_message().is_some() {
            tell.lock().unwrap().send(stream(&mut peer, text)).unwrap();
        }
    });
    let mut finished = replay(&[recorded], Options { aborts, ..Options::to(&[server.url()]) });
    let (sent, at) = told.recv_timeout(Duration::from_secs(20)).unwrap();
    (finished.rows.remove(0), sent, at)
}

/// The server sees an abort within one frame of where the recorded one was, by bytes or by frames.
#[test]
fn clients_leave_after_the_same_bytes_or_the_same_frames() {
    let same = "data: {}\n\n";
    let twice = "data: {}\n\ndata: {}\n\n";
    for (aborts, text, frames) in [
        (Aborts::Recorded, same, 3),
        (Aborts::Recorded, twice, 2),
        (Aborts::Frames, same, 3),
        (Aborts::Frames, twice, 3),
    ] {
        let (row, sent, _) = left(aborts, text);
        assert_eq!((row.outcome.as_str(), row.fault.as_deref()), ("cancelled", Some("client")));
        assert_eq!(row.response_frames, frames, "{aborts} {text:?}");
        // One more may be on its way while the client closes.
        assert!((frames..=frames + 1).contains(&sent), "{aborts}: {sent}");
    }
}

#[test]
fn clients_leave_after_the_same_time() {
    let (row, _, at) = left(Aborts::Time, "data: {}\n\n");
    assert_eq!(row.outcome, "cancelled");
    let waited = Duration::from_nanos(row.e2e_ns.unwrap().unsigned_abs());
    assert!(waited >= Duration::from_millis(249), "{waited:?}");
    // The server's clock begins when it has read the request. Generous above: the machine may be busy.
    assert!(at >= Duration::from_millis(200) && at < Duration::from_secs(5), "{at:?}");
}

#[test]
fn a_slow_reader_holds_its_server_back() {
    // Far more than what all buffers on the way take.
    const BYTES: usize = 24 << 20;
    let (tell, told) = channel();
    let tell = Mutex::new(tell);
    let server = Upstream::start(move |mut peer| {
        while peer.try_message().is_some() {
            let clock = Clock::start();
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {BYTES}\r\n\r\n");
            peer.send(head);
            peer.send(vec![b'a'; BYTES]);
            // The test may be over.
            let _gone = tell.lock().unwrap().send(Duration::from_nanos(clock.now().0));
        }
    });
    let read_pace = ReadPace::Rate(24 << 20);
    let finished =
        replay(&[Recorded::chat(0, BODY)], Options { read_pace, ..Options::to(&[server.url()]) });
    let row = &finished.rows[0];
    assert_eq!((row.outcome.as_str(), row.response_bytes), ("complete", BYTES as u64));
    assert!(row.e2e_ns.unwrap() >= 900_000_000, "{:?}", row.e2e_ns);
    let sending = told.recv_timeout(Duration::from_secs(20)).unwrap();
    assert!(sending >= Duration::from_millis(200), "{sending:?}");
}

#[test]
fn recorded_pauses_are_made_again() {
    let recorded = Recorded {
        frames: vec![(1, "data: {}\n\n".to_owned()), (2, "data: {}\n\n".to_owned())],
        accept_ms: 90,
        ..Recorded::chat(0, BODY)
    };
    let server =
        Upstream::answering(HEAD.to_owned() + &chunk("data: {}\n\n").repeat(2) + "0\r\n\r\n");
    let e2e = |read_pace| {
        let options = Options { read_pace, ..Options::to(&[server.url()]) };
        let row = replay(std::slice::from_ref(&recorded), options).rows.remove(0);
        assert_eq!(row.outcome, "complete");
        Duration::from_nanos(row.e2e_ns.unwrap().unsigned_abs())
    };
    let (slow, quick) = (e2e(ReadPace::Recorded), e2e(ReadPace::AtOnce));
    assert!(slow >= Duration::from_millis(180), "{slow:?}");
    assert!(quick < slow, "{quick:?}");
}

/// A pause of our own is no silence of the server's.
#[test]
fn an_idle_timeout_does_not_run_while_the_client_pauses() {
    let recorded = Recorded {
        frames: vec![(1, "data: {}\n\n".to_owned())],
        accept_ms: 700,
        ..Recorded::chat(0, BODY)
    };
    let server = Upstream::answering(HEAD.to_owned() + &chunk("data: {}\n\n") + "0\r\n\r\n");
    let options = Options {
        read_pace: ReadPace::Recorded,
        limits: Limits { idle: Some(Duration::from_millis(500)), ..Limits::default() },
        ..Options::to(&[server.url()])
    };
    let row = replay(&[recorded], options).rows.remove(0);
    assert_eq!((row.outcome.as_str(), row.timeout), ("complete", None));
}

#[test]
fn a_row_says_which_timeout_it_was() {
    let silent = |mut peer: Peer| {
        while peer.try_message().is_some() {
            peer.send(HEAD);
            peer.rest();
        }
    };
    let short = Some(Duration::from_millis(80));
    for (limits, name, words) in [
        (Limits { first: short, ..Limits::default() }, "first", "first-byte timeout"),
        (Limits { idle: short, ..Limits::default() }, "idle", "idle timeout"),
        (Limits { total: short, ..Limits::default() }, "total", "total timeout"),
    ] {
        let server = Upstream::start(silent);
        let options = Options { limits, ..Options::to(&[server.url()]) };
        let row = replay(&[Recorded::chat(0, BODY)], options).rows.remove(0);
        assert_eq!(
            (row.error_kind.as_deref(), row.timeout.as_deref()),
            (Some("timeout"), Some(name))
        );
        assert!(row.error.as_deref().unwrap().contains(words), "{row:?}");
    }
}

/// Only the first byte is waited for so long.
#[test]
fn a_first_byte_in_time_ends_the_wait_for_it() {
    let server = Upstream::start(|mut peer| {
        while peer.try_message().is_some() {
            peer.send(HEAD.to_owned() + &chunk("data: {}\n\n"));
            peer.is_silent(Duration::from_millis(1_500));
            peer.send("0\r\n\r\n");
        }
    });
    let limits = Limits { first: Some(Duration::from_secs(1)), ..Limits::default() };
    let options = Options { limits, ..Options::to(&[server.url()]) };
    let row = replay(&[Recorded::chat(0, BODY)], options).rows.remove(0);
    assert_eq!((row.outcome.as_str(), row.timeout), ("complete", None));
}

/// Exchanges on three recorded connections in turn, far enough apart for each to be done before the next one.
fn on_three_connections() -> Vec<Recorded> {
    (0..9).map(|n| Recorded { connection: n % 3, ..Recorded::chat(n * 120, BODY) }).collect()
}

/// Returns the connections of a replay to a server that answers at once, and how many the server saw.
fn connections(recorded: &[Recorded], connections: Connections, rounds: u32) -> (Vec<u64>, u64) {
    let server = Upstream::answering(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}",
    );
    let options =
        Options { connections, rounds, spare: 0, lead_ms: 150, ..Options::to(&[server.url()]) };
    let rows = replay(recorded, options).rows;
    assert!(rows.iter().all(|row| row.outcome == "complete"), "{rows:?}");
    (rows.iter().map(|row| row.connection.unwrap()).collect(), server.accepted())
}

#[test]
fn exchanges_of_one_recorded_connection_share_one() {
    let recorded = on_three_connections();
    let (seen, accepted) = connections(&recorded, Connections::Recorded, 2);
    assert_eq!(accepted, 6, "{seen:?}");
    for round in seen.chunks(9) {
        for (n, connection) in round.iter().enumerate() {
            assert_eq!(*connection, round[n % 3], "{seen:?}");
        }
    }
    assert!(seen[..3].iter().all(|connection| !seen[9..].contains(connection)), "{seen:?}");
}

#[test]
fn each_call_has_a_connection_of_its_own_and_it_is_there_in_time() {
    let server = Upstream::answering("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}");
    let options = Options {
        connections: Connections::New,
        spare: 0,
        lead_ms: 150,
        ..Options::to(&[server.url()])
    };
    let rows = replay(&on_three_connections(), options).rows;
    let mut seen: Vec<u64> = rows.iter().map(|row| row.connection.unwrap()).collect();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!((seen.len(), server.accepted()), (9, 9));
    for row in &rows {
        // Opened ahead: nothing of it is left for the moment in which the call is due.
        assert_eq!((row.connection_reused, row.connect_ns), (Some(false), None));
    }
}

#[test]
fn the_turns_of_a_session_share_a_connection() {
    let recorded: Vec<Recorded> = (0..6)
        .map(|n| Recorded {
            connection: n,
            ..Recorded::chat(n * 120, &format!(r#"{{"user":"u{}"}}"#, n % 2))
        })
        .collect();
    let (seen, accepted) = connections(&recorded, Connections::Session, 1);
    assert_eq!(accepted, 2, "{seen:?}");
    assert!(seen.iter().enumerate().all(|(n, connection)| *connection == seen[n % 2]), "{seen:?}");
}

/// Starts a server that speaks HTTP/2 and answers after 300 ms; returns its URL and a count of its connections.
fn slow_http2() -> (String, Arc<AtomicU64>) {
    let accepted = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&accepted);
    let url = serve(move |_accepted| {
        count.fetch_add(1, Ordering::Relaxed);
        service_fn(|_request| async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            Ok(http::Response::new(http_body_util::Full::new(bytes::Bytes::from_static(b"{}"))))
        })
    });
    (url, accepted)
}

/// Over HTTP/2 exchanges share a connection at the same time, if they share one at all.
#[test]
fn over_http2_busy_connections_are_shared_and_own_ones_are_not() {
    // Three at once, on two recorded connections and of two sessions.
    let recorded: Vec<Recorded> = (0..3)
        .map(|n| Recorded {
            connection: n % 2,
            ..Recorded::chat(n * 20, &format!(r#"{{"user":"u{}"}}"#, n % 2))
        })
        .collect();
    for (policy, shared, own) in [
        (Connections::Recorded, true, 2),
        (Connections::Session, true, 2),
        (Connections::New, false, 3),
    ] {
        let (url, accepted) = slow_http2();
        let options = Options {
            connections: policy,
            speak: Speak::Http2,
            spare: 0,
            lead_ms: 150,
            ..Options::to(&[url])
        };
        let rows = replay(&recorded, options).rows;
        assert!(rows.iter().all(|row| row.http_version.as_deref() == Some("2")), "{rows:?}");
        assert!(
            rows[2].sent_ns < rows[0].end_ns,
            "{policy}: it was sent while the first one went on"
        );
        assert_eq!(rows[0].connection == rows[2].connection, shared, "{policy}");
        assert_ne!(rows[0].connection, rows[1].connection, "{policy}");
        assert_eq!(accepted.load(Ordering::Relaxed), own, "{policy}");
    }
}

/// A call that finds its connection busy does not wait for it.
#[test]
fn a_busy_connection_delays_nobody() {
    let server = Upstream::start(|mut peer| {
        while peer.try_message().is_some() {
            peer.is_silent(Duration::from_millis(400));
            peer.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}");
        }
    });
    let recorded = [Recorded::chat(0, BODY), Recorded::chat(50, BODY)];
    let options =
        Options { connections: Connections::Recorded, spare: 0, ..Options::to(&[server.url()]) };
    let rows = replay(&recorded, options).rows;
    assert_ne!(rows[0].connection, rows[1].connection);
    assert!(rows[1].sent_ns < rows[0].end_ns, "it was sent while the first one went on");
}

#[test]
fn what_no_client_does_is_a_usage_error() {
    for args in [
        ["--abort", "sometimes"],
        ["--read-pace", "0"],
        ["--read-pace", "slow"],
        ["--ttft-timeout", "soon"],
        ["--connections", "some"],
    ] {
        let all =
            [&["replay", "x.trace", "--target", "http://127.0.0.1:9", "--dry-run"][..], &args]
                .concat();
        assert_eq!(reenact(&all).status.code(), Some(2), "{args:?}");
    }
}
