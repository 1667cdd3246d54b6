//! Recorded clients that left leave again, after the same bytes or the same time.

use std::future::Future as _;
use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::time::Duration;

use hyper::service::service_fn;
use reenact::clock::Clock;
use reenact::replay::call::Limits;
use reenact::replay::ending::Aborts;
use reenact::results::rows::Measurement;
use reenact::trace::record::Outcome;

use crate::replay_calls::{BODY, HEAD, chunk, fate, one, token};
use crate::replay_support::{Options, Recorded, replay, serve};
use crate::support::Upstream;

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
