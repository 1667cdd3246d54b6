//! Targets as servers are: over TLS, of both versions of HTTP, with a name and a version, and gone in mid-run.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use hyper::service::service_fn;
use reenact::http::server::ServerOptions;
use reenact::http::tls::{self, Pin};
use reenact::results::RunReader;

use crate::replay_command::{BODY, OK, Scene, text};
use crate::replay_support::{Recorded, rows, serve_until};
use crate::support::Upstream;

#[test]
fn a_target_that_dies_in_mid_run_is_said_and_the_run_goes_on() {
    let recorded: Vec<Recorded> = (0..6).map(|n| Recorded::chat(n * 100, BODY)).collect();
    let scene = Scene::new(&recorded);
    let living = Upstream::answering(OK);
    let mortal = format!("http://{}", serve_until_the_first_request());
    let targets = format!("{mortal},{}", living.url());
    let output = scene.replay(&targets, "run", &[]);
    let outcomes: Vec<String> =
        rows(&scene.out("run")).0.into_iter().map(|row| row.outcome).collect();
    assert_eq!(
        outcomes.iter().skip(1).step_by(2).filter(|outcome| *outcome == "complete").count(),
        3
    );
    assert!(outcomes.contains(&"failed".to_owned()), "{outcomes:?}");
    assert!(text(&output).contains(&format!("{mortal} failed ")), "{}", text(&output));
}

#[test]
fn a_probe_asks_targets_for_their_versions_and_the_server_field_is_kept() {
    let scene = Scene::chats(1);
    let server = Upstream::start(|mut peer| {
        while let Some(message) = peer.try_message() {
            let body = match message.split(' ').nth(1).unwrap() {
                "/version" => r#"{"version":"0.9.1"}"#,
                "/v1/models" => r#"{"object":"list","data":[{"id":"a"},{"id":"b"}]}"#,
                _ => "{}",
            };
            peer.send(format!(
                "HTTP/1.1 200 OK\r\nserver: uvicorn\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            ));
        }
    });
    let output = scene.replay(&server.url(), "run", &["--probe"]);
    let manifest = RunReader::open(&scene.out("run")).unwrap().manifest().clone();
    let target = &manifest.targets[0];
    let seen = (target.version.as_deref(), target.server.as_deref(), target.models.join(" "));
    assert_eq!(seen, (Some("0.9.1"), Some("uvicorn"), "a b".to_owned()), "{}", text(&output));
}

/// Serves until the first request has its answer, and is gone then with all its connections.
fn serve_until_the_first_request() -> SocketAddr {
    let asked = Arc::new(tokio::sync::Notify::new());
    let ask = Arc::clone(&asked);
    let make = move |_accepted| {
        let ask = Arc::clone(&ask);
        service_fn(move |_request| {
            ask.notify_one();
            std::future::ready(Ok(Response::new(Full::new(Bytes::from_static(b"{}")))))
        })
    };
    let shutdown = async move { asked.notified().await };
    serve_until(ServerOptions::default(), make, shutdown)
}

/// Serves TLS with a certificate of its own; returns the address.
fn serve_tls(folder: &Path) -> SocketAddr {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let (cert, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let options = ServerOptions {
        tls: Some(tls::server_config(&cert, &key).unwrap()),
        ..ServerOptions::default()
    };
    let make = |_accepted| {
        service_fn(async |_request| Ok(Response::new(Full::new(Bytes::from_static(b"{}")))))
    };
    serve_until(options, make, std::future::pending())
}

#[test]
fn targets_speak_tls_and_both_versions_of_http() {
    let scene = Scene::chats(2);
    let port = serve_tls(scene.folder.path()).port();
    let url = format!("https://localhost:{port}");
    let ca = scene.out("cert.pem").display().to_string();
    let pin = format!("{:?}", Pin::of_file(&scene.out("cert.pem")).unwrap());
    for (out, flags, version) in [
        ("alpn", vec!["--ca", &ca], "2"),
        ("http1", vec!["--ca", &ca, "--http", "1.1"], "1.1"),
        ("pinned", vec!["--insecure-pin", &pin, "--http", "2"], "2"),
        ("recorded", vec!["--ca", &ca, "--http", "recorded"], "1.1"),
    ] {
        let output = scene.replay(&url, out, &flags);
        let rows = rows(&scene.out(out)).0;
        let versions: BTreeSet<_> =
            rows.iter().map(|row| (row.outcome.as_str(), row.http_version.as_deref())).collect();
        assert_eq!(
            versions,
            BTreeSet::from([("complete", Some(version))]),
            "{out}: {}",
            text(&output)
        );
    }
    let output = scene.replay(&url, "untrusted", &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).contains("can't be reached: TLS with"), "{}", text(&output));
}
