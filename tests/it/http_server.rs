//! The server: both versions on one port, TLS, drain, interim responses.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use reenact::clock::Clock;
use reenact::http::server::{self, Accepted, Drained, ServerOptions};
use reenact::http::tls::{self, Pin, Trust};
use reenact::http::{Carried, Client, ClientOptions, Limits, Protocol, SendError};
use reenact::trace::record::{FaultKind, Version};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::support::Peer;

/// A running server and what stops it.
struct Running {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    done: JoinHandle<Drained>,
}

/// Answers with the version that the client spoke; `/slow` takes 300 ms, `/forever` never ends.
async fn answer(
    accepted: Accepted,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    match request.uri().path() {
        "/slow" => tokio::time::sleep(Duration::from_millis(300)).await,
        "/forever" => std::future::pending().await,
        "/hints" => {
            let mut headers = HeaderMap::new();
            headers.append("link", "</a.css>; rel=preload".parse().unwrap());
            accepted.outlet.send_interim(StatusCode::EARLY_HINTS, &headers);
        }
        _ => {}
    }
    Ok(Response::new(Full::new(format!("{:?}", request.version()).into())))
}

fn start(options: ServerOptions, deadline: Duration) -> Running {
    let listener = server::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel();
    let shutdown = async {
        // Dropped without a word: stops as well.
        let _stopped = stopped.await;
    };
    let make = |accepted: Accepted| {
        service_fn(move |request| {
            let accepted = accepted.clone();
            async move { answer(accepted, request).await }
        })
    };
    let done = tokio::spawn(server::run(listener, options, make, shutdown, deadline));
    Running { address, stop, done }
}

fn plain() -> Running {
    start(ServerOptions::default(), Duration::from_secs(5))
}

async fn fetch(client: &Client, path: &str) -> Result<(String, Carried), SendError> {
    let request = Request::get(path).body(Empty::<Bytes>::new()).unwrap();
    let response = client.send(request).await?;
    let carried = *response.extensions().get::<Carried>().unwrap();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    Ok((String::from_utf8(body.to_vec()).unwrap(), carried))
}

fn client(url: &str, options: ClientOptions) -> Client {
    Client::new(url.parse().unwrap(), options, Clock::start())
}

#[tokio::test]
async fn both_versions_are_served_on_one_plain_port() {
    let running = plain();
    let url = format!("http://{}", running.address);
    for (protocol, expected) in
        [(Protocol::Auto, "HTTP/1.1"), (Protocol::Http1, "HTTP/1.1"), (Protocol::Http2, "HTTP/2.0")]
    {
        let client = client(&url, ClientOptions { protocol, ..ClientOptions::default() });
        let (body, carried) = fetch(&client, "/").await.unwrap();
        assert_eq!(body, expected);
        assert_eq!(carried.version == Version::Http2, protocol == Protocol::Http2);
        assert!(fetch(&client, "/").await.unwrap().1.reused);
    }
}

#[tokio::test]
async fn one_http2_connection_carries_all_at_once() {
    let running = plain();
    let options = ClientOptions { protocol: Protocol::Http2, ..ClientOptions::default() };
    let client = client(&format!("http://{}", running.address), options);
    let all = (0..20).map(|_| fetch(&client, "/slow"));
    let carried: Vec<_> = futures_util::future::join_all(all).await;
    assert!(carried.iter().all(|sent| sent.as_ref().unwrap().1.connection == 1));
}

/// Writes a certificate for `localhost` and its key.
fn certificate(folder: &Path) -> (std::path::PathBuf, std::path::PathBuf) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let (cert, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    (cert, key)
}

#[tokio::test]
async fn tls_chooses_the_version_and_trusts_whom_it_is_told_to() {
    let folder = tempfile::tempdir().unwrap();
    let (cert, key) = certificate(folder.path());
    let tls = Some(tls::server_config(&cert, &key).unwrap());
    let options = ServerOptions { tls, ..ServerOptions::default() };
    let running = start(options, Duration::from_secs(5));
    let port = running.address.port();
    let pin = Pin::of_file(&cert).unwrap();
    let trusts = [Trust::Authorities(cert.clone()), Trust::Pinned(pin)];
    for trust in &trusts {
        for (protocol, expected) in [(Protocol::Auto, "HTTP/2.0"), (Protocol::Http1, "HTTP/1.1")] {
            let tls = Some(tls::client_config(trust).unwrap());
            let options = ClientOptions { protocol, tls, ..ClientOptions::default() };
            let client = client(&format!("https://localhost:{port}"), options);
            let (body, carried) = fetch(&client, "/").await.unwrap();
            assert_eq!(body, expected);
            assert!(carried.tls_ns > 0);
        }
    }
    // A pin minds no name; an authority does.
    let other = format!("https://127.0.0.1:{port}");
    for (trust, is_fine) in [(&trusts[0], false), (&trusts[1], true)] {
        let tls = Some(tls::client_config(trust).unwrap());
        let sent =
            fetch(&client(&other, ClientOptions { tls, ..ClientOptions::default() }), "/").await;
        assert_eq!(sent.is_ok(), is_fine);
    }
    let stranger: Pin = "00".repeat(32).parse().unwrap();
    let tls = Some(tls::client_config(&Trust::Pinned(stranger)).unwrap());
    let error =
        fetch(&client(&other, ClientOptions { tls, ..ClientOptions::default() }), "/").await;
    let error = error.unwrap_err();
    assert_eq!(error.kind, FaultKind::Tls, "{error:?}");
    let error = fetch(&client(&other, ClientOptions::default()), "/").await.unwrap_err();
    assert_eq!(error.kind, FaultKind::Tls, "{error:?}");
}

#[tokio::test]
async fn a_stopped_server_finishes_what_it_carries() {
    let running = plain();
    let idle = Peer::connect(running.address);
    let client = Arc::new(client(&format!("http://{}", running.address), ClientOptions::default()));
    fetch(&client, "/").await.unwrap();
    let in_flight = tokio::spawn(async move { fetch(&client, "/slow").await.unwrap().0 });
    tokio::time::sleep(Duration::from_millis(50)).await;
    running.stop.send(()).unwrap();
    assert_eq!(in_flight.await.unwrap(), "HTTP/1.1");
    assert_eq!(running.done.await.unwrap(), Drained { dropped: 0 });
    idle.close();
}

#[tokio::test]
async fn what_is_not_done_by_the_deadline_is_dropped() {
    let running = start(ServerOptions::default(), Duration::from_millis(50));
    let mut peer = Peer::connect(running.address);
    peer.send("GET /forever HTTP/1.1\r\nHost: a\r\n\r\n");
    tokio::time::sleep(Duration::from_millis(50)).await;
    running.stop.send(()).unwrap();
    assert_eq!(running.done.await.unwrap(), Drained { dropped: 1 });
    assert!(tokio::task::spawn_blocking(move || peer.rest()).await.unwrap().is_empty());
}

#[tokio::test]
async fn interim_responses_go_before_the_final_one() {
    let running = plain();
    let address = running.address;
    let seen = tokio::task::spawn_blocking(move || {
        let mut peer = Peer::connect(address);
        let mut heads = Vec::new();
        for _ in 0..2 {
            peer.send("GET /hints HTTP/1.1\r\nHost: a\r\n\r\n");
            heads.push((peer.head(), peer.message()));
        }
        heads
    });
    for (interim, last) in seen.await.unwrap() {
        assert_eq!(interim, "HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\n\r\n");
        assert_eq!(last, "HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\nHTTP/1.1");
    }
}

#[tokio::test]
async fn a_head_that_never_ends_times_out() {
    let limits = Limits {
        first_byte: Duration::from_millis(100),
        header: Duration::from_millis(100),
        ..Limits::default()
    };
    let options = ServerOptions { limits, ..ServerOptions::default() };
    let running = start(options, Duration::from_secs(5));
    let address = running.address;
    for begun in ["", "P", "GET / HT"] {
        let mut peer = Peer::connect(address);
        peer.send(begun);
        let rest = tokio::task::spawn_blocking(move || peer.rest()).await.unwrap();
        assert!(!String::from_utf8_lossy(&rest).contains("200 OK"));
    }
}
