//! What is more than a request and a response: 1xx, upgrades, HTTP/2, several upstreams.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use reenact::clock::Clock;
use reenact::http::server::{self, ServerOptions};
use reenact::http::tls::{self, Trust};
use reenact::http::{Client, ClientOptions, Protocol};
use reenact::proxy::{HostPolicy, ProxyOptions};
use reenact::trace::record::{Outcome, Version};

use crate::support::{Recording, Setup, Upstream};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
const EXPECTING: &str =
    "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n";

#[test]
fn the_upstream_says_continue_and_not_the_proxy() {
    let upstream = Upstream::start(|mut peer| {
        assert_eq!(peer.head(), EXPECTING);
        assert!(peer.is_silent(Duration::from_millis(100)), "the body waits");
        peer.send("HTTP/1.1 100 Continue\r\n\r\n");
        assert_eq!(peer.exactly(4), b"body");
        peer.send(OK);
        peer.rest();
    });
    let recording = Recording::of(upstream.url());
    let mut peer = recording.connect();
    peer.send(EXPECTING);
    assert_eq!(peer.head(), "HTTP/1.1 100 Continue\r\n\r\n");
    peer.send("body");
    assert_eq!(peer.message(), OK);
    let exchange = recording.finish().only();
    assert_eq!(exchange.interims.len(), 1);
    assert_eq!(exchange.interims[0].status, 100);
    assert_eq!(exchange.request_body(), "body");
    assert_eq!(exchange.end.unwrap().outcome, Outcome::Complete);
}

#[test]
fn an_upstream_that_refuses_before_the_body_is_heard() {
    let upstream = Upstream::start(|mut peer| {
        peer.head();
        peer.send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n");
        assert!(peer.rest().is_empty(), "no body was sent");
    });
    let recording = Recording::of(upstream.url());
    let mut peer = recording.connect();
    peer.send(EXPECTING);
    assert!(peer.head().starts_with("HTTP/1.1 413 "));
    let exchange = recording.finish().only();
    assert!(exchange.request_frames.is_empty());
    assert_eq!(exchange.end.unwrap().outcome, Outcome::Complete);
}

#[test]
fn an_upstream_that_ignores_expect_gets_the_body_after_a_while() {
    let upstream = Upstream::answering(OK);
    let recording = Recording::of(upstream.url());
    let mut peer = recording.connect();
    peer.send(EXPECTING);
    assert_eq!(peer.head(), "HTTP/1.1 100 Continue\r\n\r\n");
    peer.send("body");
    assert_eq!(peer.message(), OK);
    assert_eq!(recording.finish().only().request_body(), "body");
}

#[test]
fn other_interim_responses_pass_in_their_order() {
    let upstream = Upstream::start(|mut peer| {
        peer.head();
        peer.send("HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n");
        peer.send(OK);
        peer.rest();
    });
    let recording = Recording::of(upstream.url());
    let mut peer = recording.connect();
    peer.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(peer.head(), "HTTP/1.1 102 Processing\r\n\r\n");
    assert_eq!(peer.head(), "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n");
    assert_eq!(peer.message(), OK);
    let exchange = recording.finish().only();
    let statuses: Vec<_> = exchange.interims.iter().map(|it| it.status.as_u16()).collect();
    assert_eq!(statuses, [102, 103]);
}

#[test]
fn an_upgrade_becomes_a_tunnel_that_is_recorded() {
    let switching = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\n";
    let asking = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    let upstream = Upstream::start(move |mut peer| {
        assert_eq!(peer.head(), asking);
        // The first bytes of the new protocol come with the head.
        peer.send(switching.to_owned() + "welcome");
        assert_eq!(peer.exactly(5), b"hello");
        peer.send("bye");
    });
    let recording = Recording::of(upstream.url());
    let mut peer = recording.connect();
    peer.send(asking);
    assert_eq!(peer.head(), switching);
    assert_eq!(peer.exactly(7), b"welcome");
    peer.send("hello");
    assert_eq!(peer.rest(), b"bye");
    peer.close();
    let exchange = recording.finish().only();
    assert_eq!(exchange.response.as_ref().unwrap().status, 101);
    assert_eq!(exchange.request_body(), "hello");
    assert_eq!(exchange.response_body(), "welcomebye");
    assert!(exchange.response_frames.iter().all(|frame| frame.at <= frame.accepted));
    assert_eq!(exchange.end.unwrap().outcome, Outcome::Complete);
}

#[test]
fn an_upgrade_that_is_refused_is_an_ordinary_exchange() {
    let upstream = Upstream::answering(OK);
    let recording = Recording::of(upstream.url());
    let mut peer = recording.connect();
    peer.send("GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    assert_eq!(peer.message(), OK);
    peer.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(peer.message(), OK);
    assert_eq!(recording.finish().exchanges().len(), 2);
}

#[test]
fn an_upload_and_its_response_may_overlap() {
    let upstream = Upstream::start(|mut peer| {
        peer.head();
        peer.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n");
        assert_eq!(peer.exactly(4), b"late");
        peer.send("4\r\nlast\r\n0\r\n\r\n");
        peer.rest();
    });
    let recording = Recording::of(upstream.url());
    let mut peer = recording.connect();
    peer.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n");
    peer.until("first\r\n");
    peer.send("late");
    peer.until("last\r\n0\r\n\r\n");
    let exchange = recording.finish().only();
    assert_eq!(
        (&exchange.request_body()[..], &exchange.response_body()[..]),
        (&b"late"[..], &b"firstlast"[..])
    );
    assert_eq!(exchange.end.unwrap().outcome, Outcome::Complete);
}

#[test]
fn several_upstreams_are_told_apart_in_the_record() {
    let upstreams: Vec<_> = (0..3)
        .map(|number| {
            Upstream::answering(format!("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{number}"))
        })
        .collect();
    let urls = [upstreams[0].url(), upstreams[1].url(), format!("/v1/m={}", upstreams[2].url())];
    let recording = Setup::new(&urls).start();
    let mut peer = recording.connect();
    let mut answers = String::new();
    for path in ["/a", "/b", "/v1/m", "/c"] {
        peer.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        answers.push(peer.message().pop().unwrap());
    }
    assert_eq!(answers, "0120");
    let chosen: Vec<_> =
        recording.finish().exchanges().iter().map(|exchange| exchange.request.upstream).collect();
    assert_eq!(chosen, [0, 1, 2, 0]);
}

#[test]
fn host_and_via_are_what_they_are_set_to() {
    let upstream = Upstream::start(|mut peer| {
        let head = peer.head();
        peer.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{head}", head.len()));
        peer.rest();
    });
    let mut setup = Setup::new(&[upstream.url()]);
    setup.proxy = ProxyOptions {
        host: HostPolicy::Upstream,
        via: Some("1.1 reenact".parse().unwrap()),
        ..ProxyOptions::default()
    };
    let recording = setup.start();
    let mut peer = recording.connect();
    peer.send("GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n\r\n");
    let got = peer.message();
    let seen = format!("Host: {}\r\nX: 1\r\nvia: 1.1 reenact\r\n\r\n", upstream.address);
    assert!(got.ends_with(&seen), "{got}");
    assert!(got.contains("via: 1.1 reenact\r\n\r\nGET"), "{got}");
    drop(recording.finish());
}

type Reply = BoxBody<Bytes, std::convert::Infallible>;

/// Says how it was spoken to, and streams three frames and a trailer.
async fn reply(request: Request<Incoming>) -> Result<Response<Reply>, std::convert::Infallible> {
    let said = format!(
        "{:?} {} {:?}",
        request.version(),
        request.uri().path(),
        request.headers().get("te")
    );
    let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", "7".parse().unwrap());
    let frames = [
        Frame::data(Bytes::from(said)),
        Frame::data(" ".into()),
        Frame::data(body),
        Frame::trailers(trailers),
    ];
    let stream = futures_util::stream::iter(frames.map(Ok));
    let response = Response::builder().header("x-kind", "reply").header("trailer", "x-sum");
    Ok(response.body(BodyExt::boxed(StreamBody::new(stream))).unwrap())
}

/// Serves [`reply`] until dropped; returns its port.
async fn serve(options: ServerOptions) -> u16 {
    let listener = server::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let port = listener.local_addr().unwrap().port();
    let forever = std::future::pending();
    tokio::spawn(server::run(listener, options, |_| service_fn(reply), forever, Duration::ZERO));
    port
}

#[tokio::test]
async fn every_pairing_of_versions_works() {
    let folder = tempfile::tempdir().unwrap();
    let (cert, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let server_tls = tls::server_config(&cert, &key).unwrap();
    let trust = Trust::Authorities(cert);
    for is_tls in [false, true] {
        let tls = is_tls.then(|| server_tls.clone());
        let server = ServerOptions { tls, ..ServerOptions::default() };
        let port = serve(server.clone()).await;
        let scheme = if is_tls { "https" } else { "http" };
        for (inner, outer) in [(1, 1), (1, 2), (2, 1), (2, 2)] {
            let options = |version: u8| ClientOptions {
                protocol: if version == 2 { Protocol::Http2 } else { Protocol::Http1 },
                tls: is_tls.then(|| tls::client_config(&trust).unwrap()),
                ..ClientOptions::default()
            };
            let mut setup = Setup::new(&[format!("{scheme}://localhost:{port}")]);
            setup.server = server.clone();
            setup.client = options(outer);
            let recording = setup.start();
            let url = format!("{scheme}://localhost:{}", recording.address.port());
            let client = Client::new(url.parse().unwrap(), options(inner), Clock::start());
            for number in 0..2 {
                let request = Request::post("/x").header("te", "trailers");
                let response = client
                    .send(request.body(Full::new(Bytes::from("body"))).unwrap())
                    .await
                    .unwrap();
                assert_eq!(response.headers()["x-kind"], "reply");
                let whole = response.into_body().collect().await.unwrap();
                let trailers = whole.trailers().map(|trailers| trailers["x-sum"].clone());
                let said = format!(
                    "HTTP/{} /x Some(\"trailers\") body",
                    if outer == 2 { "2.0" } else { "1.1" }
                );
                assert_eq!(whole.to_bytes(), said, "tls {is_tls}, {inner} to {outer}, {number}");
                assert_eq!(trailers.unwrap(), "7");
            }
            drop(client);
            let recorded = tokio::task::spawn_blocking(|| recording.finish()).await.unwrap();
            let exchanges = recorded.exchanges();
            assert_eq!(exchanges.len(), 2);
            let version = |version| if version == 2 { Version::Http2 } else { Version::Http11 };
            for exchange in exchanges {
                assert_eq!(exchange.request.version, version(inner));
                assert_eq!(exchange.link.unwrap().version, version(outer));
                assert_eq!(exchange.request_body(), "body");
                assert!(exchange.response_trailers.is_some());
                assert_eq!(exchange.end.unwrap().outcome, Outcome::Complete);
            }
        }
    }
}

#[tokio::test]
async fn a_stream_that_its_client_resets_is_cancelled_upstream() {
    let (gone, goes) = std::sync::mpsc::channel();
    let upstream = Upstream::start(move |mut peer| {
        peer.head();
        peer.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n");
        peer.rest();
        gone.send(()).unwrap();
    });
    let recording = Recording::of(upstream.url());
    let options = ClientOptions { protocol: Protocol::Http2, ..ClientOptions::default() };
    let url = format!("http://{}", recording.address);
    let client = Client::new(url.parse().unwrap(), options, Clock::start());
    let request = Request::get("/x").body(Empty::<Bytes>::new()).unwrap();
    let mut response = client.send(request).await.unwrap();
    response.body_mut().frame().await.unwrap().unwrap();
    drop(response);
    tokio::task::spawn_blocking(move || goes.recv_timeout(Duration::from_secs(10)).unwrap())
        .await
        .unwrap();
    drop(client);
    let recorded = tokio::task::spawn_blocking(|| recording.finish()).await.unwrap();
    let exchange = recorded.only();
    assert_eq!(exchange.response_body(), "hi");
    assert_eq!(exchange.end.unwrap().outcome, Outcome::Cancelled);
}
