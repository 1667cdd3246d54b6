//! The client: pooling, retries, faults, and what dropping does.

use std::sync::mpsc;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Empty, Full};
use reenact::clock::Clock;
use reenact::http::{Carried, Client, ClientOptions, SendError};
use reenact::trace::record::FaultKind;

use crate::support::Upstream;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";

fn client(upstream: &Upstream) -> Client {
    Client::new(upstream.url().parse().unwrap(), ClientOptions::default(), Clock::start())
}

fn get() -> Request<Empty<Bytes>> {
    Request::get("/x").body(Empty::new()).unwrap()
}

fn post(body: &'static str) -> Request<Full<Bytes>> {
    Request::post("/x").body(Full::new(body.into())).unwrap()
}

/// Sends a GET, reads the body, and returns the connection that carried it.
async fn fetch(client: &Client) -> Carried {
    let response = client.send(get()).await.unwrap();
    let carried = *response.extensions().get::<Carried>().unwrap();
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "hi");
    carried
}

#[tokio::test]
async fn a_connection_serves_exchange_after_exchange() {
    for response in
        [OK, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"]
    {
        let upstream = Upstream::answering(response);
        let client = client(&upstream);
        let first = fetch(&client).await;
        assert!(!first.reused && first.connect_ns > 0, "{first:?}");
        for _ in 0..3 {
            let next = fetch(&client).await;
            assert!(next.reused && next.connect_ns == 0, "{next:?}");
        }
        assert_eq!(upstream.accepted(), 1);
    }
}

#[tokio::test]
async fn a_reader_that_stops_at_the_last_byte_gives_the_connection_back() {
    let upstream = Upstream::answering(OK);
    let client = client(&upstream);
    for _ in 0..3 {
        let mut response = client.send(get()).await.unwrap();
        let frame = response.body_mut().frame().await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), "hi");
        // Not polled to its end: a server that knows the length does not either.
    }
    assert_eq!(upstream.accepted(), 1);
}

/// A frame is as old as the read that brought it, however long its reader took to come by.
#[tokio::test]
async fn a_frame_tells_when_its_bytes_were_read() {
    let upstream = Upstream::answering(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n2\r\ncd\r\n0\r\n\r\n",
    );
    let clock = Clock::start();
    let options = ClientOptions { stamp_reads: true, ..ClientOptions::default() };
    let stamping = Client::new(upstream.url().parse().unwrap(), options, clock);
    let mut reads = Vec::new();
    let response = stamping.send(get()).await.unwrap();
    let came = clock.now();
    let mut body = response.into_body();
    reads.push(body.read_at().unwrap());
    // The head and all of the body came in one write: nothing is read while its frames are handed out.
    while let Some(frame) = body.frame().await {
        frame.unwrap();
        reads.push(body.read_at().unwrap());
    }
    assert_eq!(reads.len(), 3);
    assert!(reads.iter().all(|read| *read == reads[0] && *read <= came), "{reads:?} {came:?}");
    let body = client(&upstream).send(get()).await.unwrap().into_body();
    assert_eq!(body.read_at(), None, "who does not ask for stamps pays for none");
}

#[tokio::test]
async fn a_connection_opened_ahead_is_used() {
    let upstream = Upstream::answering(OK);
    let client = client(&upstream);
    client.connect().await.unwrap();
    let carried = fetch(&client).await;
    assert!(!carried.reused && carried.connect_ns == 0, "{carried:?}");
    assert_eq!(upstream.accepted(), 1);
}

#[tokio::test]
async fn dropping_a_body_closes_the_connection_at_once() {
    let (gone, went) = mpsc::channel();
    let upstream = Upstream::start(move |mut peer| {
        peer.head();
        peer.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n");
        peer.rest();
        gone.send(()).unwrap();
    });
    let client = client(&upstream);
    let mut response = client.send(get()).await.unwrap();
    response.body_mut().frame().await.unwrap().unwrap();
    drop(response);
    went.recv_timeout(Duration::from_secs(10)).unwrap();
}

#[tokio::test]
async fn dropping_a_request_without_response_closes_the_connection_at_once() {
    let (gone, went) = mpsc::channel();
    let (came, comes) = tokio::sync::oneshot::channel();
    let came = std::sync::Mutex::new(Some(came));
    let upstream = Upstream::start(move |mut peer| {
        peer.head();
        came.lock().unwrap().take().unwrap().send(()).unwrap();
        peer.rest();
        gone.send(()).unwrap();
    });
    let client = client(&upstream);
    tokio::select! {
        _ = client.send(get()) => panic!("there is no response"),
        _ = comes => {}
    }
    went.recv_timeout(Duration::from_secs(10)).unwrap();
}

/// Answers the first request on each connection, and reads and drops a second one.
fn one_answer_per_connection() -> Upstream {
    Upstream::start(|mut peer| {
        peer.message();
        peer.send(OK);
        if peer.number == 1 {
            peer.try_message();
        }
    })
}

#[tokio::test]
async fn a_replayable_request_is_sent_once_more_when_a_reused_connection_dies() {
    let upstream = one_answer_per_connection();
    let client = client(&upstream);
    fetch(&client).await;
    let response = client.send_replayable(post("body")).await.unwrap();
    let carried = response.extensions().get::<Carried>().unwrap();
    assert_eq!((carried.retries, carried.reused), (1, false));
    assert_eq!(upstream.accepted(), 2);
}

#[tokio::test]
async fn any_other_request_that_may_have_left_is_not_sent_again() {
    let upstream = one_answer_per_connection();
    let client = client(&upstream);
    fetch(&client).await;
    let error = client.send(post("body")).await.unwrap_err();
    assert!(matches!(error.kind, FaultKind::Closed | FaultKind::Reset), "{error:?}");
    assert!(error.carried.unwrap().reused && !error.response_started);
    assert_eq!(upstream.accepted(), 1);
}

#[track_caller]
fn check_fault(sent: Result<http::Response<impl Sized>, SendError>, kind: FaultKind, text: &str) {
    let error = sent.err().expect("a fault");
    assert_eq!(error.kind, kind, "{error:?}");
    assert!(error.text.contains(text), "{error:?}");
}

#[tokio::test]
async fn faults_are_sorted() {
    let closed = Upstream::start(|mut peer| {
        peer.head();
    });
    check_fault(client(&closed).send(get()).await, FaultKind::Closed, "closed");
    let cut = Upstream::start(|mut peer| {
        peer.head();
        peer.send("HTTP/1.1 200 O");
    });
    let sent = client(&cut).send(get()).await;
    assert!(sent.as_ref().err().unwrap().response_started);
    check_fault(sent, FaultKind::Closed, "");
    let noise = Upstream::answering("SSH-2.0-OpenSSH\r\n\r\n");
    check_fault(client(&noise).send(get()).await, FaultKind::Protocol, "");
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let origin = format!("http://{nobody}").parse().unwrap();
    let refused = Client::new(origin, ClientOptions::default(), Clock::start());
    check_fault(refused.send(get()).await, FaultKind::Connect, &nobody.to_string());
    let origin = "http://does-not-exist.invalid".parse().unwrap();
    let unresolved = Client::new(origin, ClientOptions::default(), Clock::start());
    check_fault(unresolved.send(get()).await, FaultKind::Dns, "does-not-exist.invalid");
}

#[tokio::test]
async fn a_body_cut_short_is_an_error_and_not_an_end() {
    for head in ["Content-Length: 10", "Transfer-Encoding: chunked"] {
        let upstream = Upstream::start(move |mut peer| {
            peer.head();
            peer.send(format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n5\r\nab"));
        });
        let response = client(&upstream).send(get()).await.unwrap();
        let error = response.into_body().collect().await.unwrap_err();
        assert_eq!(error.kind, FaultKind::Closed, "{error:?}");
    }
}
