//! One `reenact record` takes over from another on the same address, and no client notices.

use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use reenact::clock::{Clock, Nanos};
use reenact::trace::Trace;

use crate::support::{Peer, Process, Upstream, ask, check_verified};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
const GET: &str = "GET /v1/x HTTP/1.1\r\nHost: a\r\n\r\n";
/// Requests that must pass at each stage.
const STAGE: u64 = 300;

fn admitted(path: &Path) -> u64 {
    Trace::open(path).unwrap().health().counters.admitted
}

/// Asks on a connection for each request.
fn fresh(address: SocketAddr, over: &AtomicBool, asked: &AtomicU64) {
    while !over.load(Ordering::Relaxed) {
        let mut peer = Peer::connect(address);
        assert!(peer.try_send(GET));
        assert!(peer.try_message().is_some_and(|answer| answer.ends_with("hello")));
        asked.fetch_add(1, Ordering::Relaxed);
    }
}

/// Asks on one connection for as long as it is kept.
fn keeping(address: SocketAddr, over: &AtomicBool, asked: &AtomicU64) {
    let mut peer = Peer::connect(address);
    while !over.load(Ordering::Relaxed) {
        assert!(peer.try_send(GET));
        let answer = peer.try_message().expect("an answer, with or without Connection: close");
        assert!(answer.ends_with("hello"));
        asked.fetch_add(1, Ordering::Relaxed);
        if answer.to_ascii_lowercase().contains("connection: close") {
            peer = Peer::connect(address);
        }
    }
}

#[test]
fn a_new_process_takes_over_and_no_request_fails() {
    let upstream = Upstream::answering(OK);
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (folder.path().join("1.trace"), folder.path().join("2.trace"));
    let socket = folder.path().join("admin.sock");
    let admin = format!("--admin=unix:{}", socket.display());
    let old = Process::start(&upstream.url(), &first, &["--reuse-port", &admin]);
    let address = old.address;
    let (over, asked) = (AtomicBool::new(false), AtomicU64::new(0));
    let pass = || {
        let before = asked.load(Ordering::Relaxed);
        while asked.load(Ordering::Relaxed) < before + STAGE && !over.load(Ordering::Relaxed) {
            thread::yield_now();
        }
    };
    thread::scope(|scope| {
        let clients: Vec<_> = (0..4)
            .map(|number| {
                let ask = if number % 2 == 0 { fresh } else { keeping };
                let (over, asked) = (&over, &asked);
                scope.spawn(move || {
                    let _ended = Ended(over);
                    ask(address, over, asked);
                })
            })
            .collect();
        pass();
        let listen = address.to_string();
        let new = Process::start_on(&listen, &upstream.url(), &second, &["--reuse-port", &admin]);
        new.says("admin on");
        pass();
        old.signal("-TERM");
        let (status, _, words) = old.wait();
        assert_eq!(status, Some(0), "{words}");
        pass();
        let (_, _, body) = ask(&socket, "GET /status");
        assert!(
            body.contains(&format!("\"pid\": {}", new.id())),
            "the socket is the new one's: {body}"
        );
        over.store(true, Ordering::Relaxed);
        for client in clients {
            client.join().unwrap();
        }
        new.signal("-TERM");
        assert_eq!(new.wait().0, Some(0));
    });
    let (old, new) = (admitted(&first), admitted(&second));
    assert_eq!(old + new, asked.load(Ordering::Relaxed), "each request is in one trace");
    assert!(old > STAGE && new > STAGE, "{old} and {new}");
    check_verified(&first, 0);
    check_verified(&second, 0);
    assert!(TcpStream::connect(address).is_err(), "nobody is left");
}

/// Ends all clients when one of them fails.
struct Ended<'a>(&'a AtomicBool);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn without_the_flag_an_address_is_taken_once() {
    let folder = tempfile::tempdir().unwrap();
    let first = Process::start("http://127.0.0.1:9", &folder.path().join("1.trace"), &[]);
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_reenact"))
        .args(["record", "--reuse-port", "--upstream=http://127.0.0.1:9", "--listen"])
        .arg(first.address.to_string())
        .arg("--out")
        .arg(folder.path().join("2.trace"))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("can't listen on"));
    first.signal("-TERM");
    first.wait();
}

/// Who has connected and not yet asked is answered, and so is who keeps a connection that is idle: in the time that the
/// recorder stays for them.
#[test]
fn a_stopping_server_answers_who_is_about_to_ask() {
    // On a busy machine that time may be over before this test has asked.
    let tries = std::iter::repeat_with(asked_in_time).take(20);
    assert!(tries.into_iter().any(|in_time| in_time), "never asked in time");
}

/// How long a recorder that stops stays for who is about to ask.
const LINGER: Duration = Duration::from_secs(2);

/// Stops a recorder, asks it then, and checks the answers; false if it was too late to ask.
fn asked_in_time() -> bool {
    let upstream = Upstream::answering(OK);
    let folder = tempfile::tempdir().unwrap();
    let process = Process::start(&upstream.url(), &folder.path().join("a.trace"), &[]);
    let mut idle = process.connect();
    idle.send(GET);
    idle.message();
    let mut fresh = process.connect();
    let clock = Clock::start();
    process.signal("-TERM");
    while TcpStream::connect(process.address).is_ok() {}
    let asked = idle.try_send(GET) && fresh.try_send(GET);
    if clock.now() >= Nanos::ZERO + LINGER {
        process.wait();
        return false;
    }
    assert!(asked, "it was still there");
    for peer in [&mut idle, &mut fresh] {
        let answer = peer.message().to_ascii_lowercase();
        assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
        assert!(peer.rest().is_empty());
    }
    assert_eq!(process.wait().0, Some(0));
    true
}
