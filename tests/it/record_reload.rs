//! SIGHUP: what can change while traffic passes is read again, and what is broken changes nothing.

use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Empty};
use reenact::clock::Clock;
use reenact::http::tls::{self, Pin, Trust};
use reenact::http::{Client, ClientOptions, SendError};
use reenact::trace::record::FaultKind;
use reenact::trace::{Assembler, Trace};

use crate::support::{Process, Upstream};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
const PATIENCE: Duration = Duration::from_secs(20);

/// Where a certificate and its key are.
struct Pair {
    cert: PathBuf,
    key: PathBuf,
}

impl Pair {
    fn in_folder(folder: &Path) -> Self {
        let pair = Self { cert: folder.join("cert.pem"), key: folder.join("key.pem") };
        pair.make();
        pair
    }

    /// Makes a new one in the same place.
    fn make(&self) {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        std::fs::write(&self.cert, made.cert.pem()).unwrap();
        std::fs::write(&self.key, made.signing_key.serialize_pem()).unwrap();
    }

    fn pin(&self) -> Pin {
        Pin::of_file(&self.cert).unwrap()
    }
}

/// Asks over a new connection that trusts one certificate only.
async fn fetch(process: &Process, pin: Pin, path: &str) -> Result<String, SendError> {
    let tls = Some(tls::client_config(&Trust::Pinned(pin)).unwrap());
    let url = format!("https://{}", process.address).parse().unwrap();
    let client =
        Client::new(url, ClientOptions { tls, ..ClientOptions::default() }, Clock::start());
    let request = Request::get(path).body(Empty::<Bytes>::new()).unwrap();
    let body = client.send(request).await?.into_body().collect().await.unwrap().to_bytes();
    Ok(String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_certificate_is_served_and_streams_go_on() {
    let ((begun, begins), (go, goes)) = (channel(), channel());
    let goes = Mutex::new(goes);
    let upstream = Upstream::start(move |mut peer| {
        while let Some(request) = peer.try_message() {
            if request.starts_with("GET /slow") {
                peer.send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf ");
                begun.send(()).unwrap();
                goes.lock().unwrap().recv_timeout(PATIENCE).unwrap();
                peer.send("half");
            } else {
                peer.send(OK);
            }
        }
    });
    let folder = tempfile::tempdir().unwrap();
    let pair = Pair::in_folder(folder.path());
    let old = pair.pin();
    let tls = ["--tls-cert", pair.cert.to_str().unwrap(), "--tls-key", pair.key.to_str().unwrap()];
    let process = Process::start(&upstream.url(), &folder.path().join("a.trace"), &tls);
    let process = Arc::new(process);
    let streaming = tokio::spawn({
        let process = Arc::clone(&process);
        async move { fetch(&process, old, "/slow").await.unwrap() }
    });
    begins.recv_timeout(PATIENCE).unwrap();
    pair.make();
    let new = pair.pin();
    process.signal("-HUP");
    process.says("cert.pem is new");
    assert_eq!(fetch(&process, new, "/").await.unwrap(), "hello");
    assert_eq!(fetch(&process, old, "/").await.unwrap_err().kind, FaultKind::Tls);
    // A key that does not fit, and then no PEM at all.
    std::fs::write(&pair.key, rcgen::KeyPair::generate().unwrap().serialize_pem()).unwrap();
    process.signal("-HUP");
    let words = process.says("not reloaded, all stays as it was: ");
    assert!(words.contains("cert.pem") && words.contains("key.pem"), "{words}");
    std::fs::write(&pair.cert, "nothing").unwrap();
    process.signal("-HUP");
    process.says("holds no certificate");
    assert_eq!(fetch(&process, new, "/").await.unwrap(), "hello");
    go.send(()).unwrap();
    assert_eq!(streaming.await.unwrap(), "half half");
    process.signal("-TERM");
    let process = Arc::into_inner(process).unwrap();
    assert_eq!(process.wait().0, Some(0));
}

#[test]
fn names_to_redact_are_added_and_what_else_has_changed_is_said() {
    let upstream = Upstream::answering(OK);
    let folder = tempfile::tempdir().unwrap();
    let (config, out) = (folder.path().join("reenact.toml"), folder.path().join("a.trace"));
    let write = |text: &str| std::fs::write(&config, text).unwrap();
    write("[record]\nredact-header = ['x-one']\nlevel = 3\n");
    let args = ["--config", config.to_str().unwrap()];
    let process = Process::start(&upstream.url(), &out, &args);
    let mut peer = process.connect();
    let mut ask = || {
        peer.send(
            "GET /x?ticket=s3cret HTTP/1.1\r\nHost: a\r\nx-one: s3cret\r\nx-two: s3cret\r\n\r\n",
        );
        peer.message();
    };
    ask();
    write("[record]\nredact-header = ['x-two']\nredact-query = ['ticket']\nlevel = 9\n");
    process.signal("-HUP");
    let words = process.says("reloaded: ");
    for expected in [
        "redacted from now on: ticket, x-two",
        "redacted until a restart: x-one",
        "needs a restart: --level",
    ] {
        assert!(words.contains(expected), "{words}");
    }
    ask();
    for (broken, expected) in [
        ("[record", "is not TOML"),
        ("[record]\nno-such-flag = 1\n", "--no-such-flag"),
        ("[record]\nredact-header = ['a b']\n", "a b"),
    ] {
        write(broken);
        process.signal("-HUP");
        let words = process.says(expected);
        assert!(words.starts_with("not reloaded, all stays as it was: "), "{words}");
    }
    std::fs::remove_file(&config).unwrap();
    process.signal("-HUP");
    process.says("can't read the configuration");
    ask();
    process.signal("-TERM");
    let (status, _, words) = process.wait();
    assert_eq!(status, Some(0), "{words}");
    let trace = Trace::open(&out).unwrap();
    let exchanges = Assembler::all(trace.scan().unwrap().map(Result::unwrap));
    let seen = exchanges.iter().map(|exchange| {
        let request = &exchange.request;
        let shown = |name: &str| request.headers[name] == "s3cret";
        (shown("x-one"), shown("x-two"), request.target.contains("s3cret"))
    });
    let hidden = (false, false, false);
    assert_eq!(seen.collect::<Vec<_>>(), [(false, true, true), hidden, hidden]);
}

#[test]
fn a_hangup_without_anything_to_reload_ends_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let process = Process::start("http://127.0.0.1:9", &folder.path().join("a.trace"), &[]);
    process.signal("-HUP");
    process.says("reloaded: nothing has changed");
    process.signal("-TERM");
    assert_eq!(process.wait().0, Some(0));
}
