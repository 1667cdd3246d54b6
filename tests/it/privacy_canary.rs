//! Known secrets go through every path on which a recording could keep one, and are looked for in all that it left.

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::Command;

use flate2::Compression;
use flate2::write::GzEncoder;
use reenact::trace::{Scan, Trace};

use crate::support::{Peer, Process, Upstream, ask, check_verified};

/// What a policy has to keep out: by the name of a field or parameter, by a place in JSON, by an expression.
const POLICY: &str = r#"
[headers]
redact = ["x-tenant"]
[query]
redact = ["q"]
[bodies]
pointers = ["/user", "/messages/*/name", "/metadata", "/echo/user"]
patterns = ['canary-[0-9a-f]{12}']
"#;

/// By an expression, wherever they stand.
const PATTERN: &str = "canary-0123456789ab";
/// By the name of the field or parameter, or of the member.
const NAMED: [&str; 12] = [
    "s3cret-authorization",
    "s3cret-cookie",
    "s3cret-api-key",
    "s3cret-tenant",
    "s3cret-parameter",
    "s3cret-key",
    "s3cret-set-cookie",
    "s3cret-location",
    "s3cret-user",
    "s3cret-name",
    "s3cret-metadata",
    "s3cret-trailer",
];

const HEAD: &str = "Host: h\r\nAuthorization: Bearer s3cret-authorization\r\nCookie: a=s3cret-cookie\r\nX-Api-Key: s3cret-api-key\r\n\
                    X-Tenant: s3cret-tenant\r\nX-Note: canary-0123456789ab\r\nReferer: http://h/?key=s3cret-key\r\n";

fn target(path: &str) -> String {
    format!("{path}?key=s3cret-key&q=s3cret-parameter&n=canary-0123456789ab&page=2")
}

/// Sends a request whose body comes in pieces of `size` bytes, and reads the answer to its end.
fn post(process: &Process, path: &str, kind: &str, body: &[u8], size: usize) -> Vec<u8> {
    let mut peer = process.connect();
    let target = target(path);
    peer.send(format!(
        "POST {target} HTTP/1.1\r\n{HEAD}Content-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    ));
    for piece in body.chunks(size) {
        if !peer.try_send(piece) {
            break;
        }
    }
    peer.rest()
}

fn chunk(text: &str) -> String {
    format!("{:x}\r\n{text}\r\n", text.len())
}

const FIELDS: &str = "Set-Cookie: s=s3cret-set-cookie\r\nX-Tenant: s3cret-tenant\r\nLocation: /x?token=s3cret-location\r\n\
                      X-Note: canary-0123456789ab\r\n";

/// Answers by the path, each with secrets in other places.
fn answer(mut peer: Peer) {
    while let Some(head) = peer.try_until("\r\n\r\n") {
        if head.starts_with("POST /half") {
            return;
        }
        let length = head.to_ascii_lowercase();
        let length =
            length.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next());
        let body = peer.exactly(length.map_or(0, |length| length.parse().unwrap()));
        let path = head.split(['?', ' ']).nth(1).unwrap();
        let whole = |status: &str, kind: &str, body: &[u8]| {
            let head = format!(
                "HTTP/1.1 {status}\r\n{FIELDS}Content-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
                body.len()
            );
            [head.as_bytes(), body].concat()
        };
        let json = "{\"echo\":{\"user\":\"s3cret-user\"},\"error\":{\"message\":\"no key canary-0123456789ab\"}}";
        match path {
            "/error" => {
                peer.send(whole("401 canary-0123456789ab", "application/json", json.as_bytes()));
            }
            "/text" => peer.send(whole("500 x", "text/plain", b"at line 3: canary-0123456789ab")),
            "/html" => peer.send(whole("502 x", "text/html", b"<b>canary-0123456789ab</b>")),
            "/gzip" => {
                let mut coded = GzEncoder::new(Vec::new(), Compression::none());
                coded.write_all(json.as_bytes()).unwrap();
                let coded = coded.finish().unwrap();
                let head = format!(
                    "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
                    coded.len()
                );
                peer.send([head.as_bytes(), &coded].concat());
            }
            "/echo" => peer.send(whole("200 OK", "application/octet-stream", &body)),
            "/stream" => {
                peer.send(format!(
                    "HTTP/1.1 200 OK\r\n{FIELDS}Trailer: x-tenant\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
                ));
                // In one event but two frames; then over two events; then in a comment, byte by byte.
                peer.send(chunk("data: {\"echo\":{\"user\":\"s3cr"));
                peer.send(chunk("et-user\"},\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a canary-01\"}}]}\n\n"));
                peer.send(chunk("data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"23456789ab b\"}}]}\n\n"));
                for byte in ": canary-0123456789ab\n\n".chars() {
                    peer.send(chunk(&byte.to_string()));
                }
                peer.send(chunk("data: [DONE]\n\n"));
                peer.send("0\r\nx-tenant: s3cret-trailer\r\n\r\n");
            }
            "/cut" => {
                peer.send(format!("HTTP/1.1 200 OK\r\n{FIELDS}Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{json}"));
                return;
            }
            "/garbage" => {
                peer.send("canary-0123456789ab s3cret-user\r\n\r\n");
                return;
            }
            "/upgrade" => {
                peer.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\ns3cret-user canary-0123456789ab");
                return;
            }
            _ => peer.send(whole("200 OK", "application/json", json.as_bytes())),
        }
    }
}

/// Sends a secret along each path.
fn traffic(process: &Process) {
    let body = "{\"user\":\"s3cret-user\",\"metadata\":{\"a\":[\"s3cret-metadata\"]},\
                \"messages\":[{\"role\":\"user\",\"name\":\"s3cret-name\",\"content\":\"my key is canary-0123456789ab\"}]}";
    for (path, size) in [
        ("/v1/chat/completions", 1000),
        ("/v1/chat/completions", 7),
        ("/error", 1000),
        ("/stream", 50),
    ] {
        let answer = String::from_utf8_lossy(&post(
            process,
            path,
            "application/json",
            body.as_bytes(),
            size,
        ))
        .into_owned();
        assert!(answer.contains("s3cret-"), "the client gets what the upstream sent: {answer}");
    }
    for path in ["/text", "/html", "/gzip", "/cut", "/garbage"] {
        post(process, path, "application/json", body.as_bytes(), 1000);
    }
    post(process, "/echo", "text/plain", b"note canary-0123456789ab", 5);
    post(process, "/echo", "application/json", b"{\"user\":\"s3cret-user\" and then no JSON", 1000);
    post(
        process,
        "/echo",
        "multipart/form-data; boundary=x",
        b"--x\r\n\r\ncanary-0123456789ab\r\n--x--",
        6,
    );
    // A body that is given up half-way, and a connection that becomes another protocol's.
    let mut peer = process.connect();
    peer.send(format!("POST {} HTTP/1.1\r\n{HEAD}Content-Type: application/json\r\nContent-Length: 900\r\n\r\n{{\"user\":\"s3cret-us", target("/half")));
    peer.close();
    let mut peer = process.connect();
    peer.send(format!(
        "GET {} HTTP/1.1\r\n{HEAD}Connection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        target("/upgrade")
    ));
    peer.head();
    peer.send("s3cret-user canary-0123456789ab");
    assert!(String::from_utf8_lossy(&peer.rest()).contains("s3cret-user"));
}

/// Returns the bytes of the blocks of a segment, decompressed.
fn decompressed(bytes: &[u8]) -> Vec<u8> {
    let mut streams: Vec<Vec<u8>> = Vec::new();
    let mut at = 8;
    while let Some(front) = bytes.get(at..at + 16).filter(|front| front[..4] == *b"\xB7RNB") {
        let stored = u32::from_le_bytes(front[4..8].try_into().unwrap());
        let len = usize::try_from(stored & 0x7FFF_FFFF).unwrap();
        if stored >> 31 == 1 {
            streams.push(Vec::new());
        }
        streams.last_mut().unwrap().extend_from_slice(&bytes[at + 16..at + 16 + len]);
        at += 16 + len;
    }
    assert!(!streams.is_empty());
    let mut all = Vec::new();
    for stream in streams {
        let mut decoder = zstd::stream::read::Decoder::new(&stream[..]).unwrap();
        // The last block of a stream may be missing.
        let _cut = decoder.read_to_end(&mut all);
    }
    all
}

/// Returns every file below a folder with its name.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.is_file() {
            found.push((path.display().to_string(), fs::read(&path).unwrap()));
        }
    }
    found
}

#[track_caller]
fn search(name: &str, bytes: &[u8]) {
    for secret in NAMED.iter().chain(&[PATTERN]) {
        let Some(at) = memchr::memmem::find(bytes, secret.as_bytes()) else { continue };
        let around = &bytes[at.saturating_sub(80)..(at + 80).min(bytes.len())];
        panic!("{secret} is in {name}: {}", String::from_utf8_lossy(around));
    }
}

/// Looks in every file, decompressed too, and in all that the trace says when it is read; returns what that is.
fn search_folder(folder: &Path, trace: &Path) -> String {
    let files = files(folder);
    assert!(!files.is_empty());
    for (name, bytes) in files {
        search(&name, &bytes);
        if name.contains("trace") {
            search(&format!("{name}, decompressed"), &decompressed(&bytes));
        }
    }
    let trace = Trace::open(trace).unwrap();
    let scan: Scan = trace.scan().unwrap();
    let events: Vec<String> = scan.map(|event| format!("{:?}", event.unwrap())).collect();
    let told = format!("{:?} {}", trace.header(), events.join("\n"));
    search("the events", told.as_bytes());
    told
}

fn record(more: &[&str]) {
    let dir = tempfile::tempdir().unwrap();
    let (secrets, recorded) = (dir.path().join("policy.toml"), dir.path().join("out"));
    fs::create_dir(&recorded).unwrap();
    fs::write(&secrets, POLICY).unwrap();
    let (out, socket) = (recorded.join("a.trace"), dir.path().join("admin.sock"));
    let upstream = Upstream::start(answer);
    let (policy, admin) = (secrets.display().to_string(), format!("unix:{}", socket.display()));
    let flags = [&["--policy", &policy, "--admin", &admin, "--json"], more].concat();
    let process = Process::start(&upstream.url(), &out, &flags);
    traffic(&process);
    for question in ["GET /metrics", "GET /status", "GET /readyz"] {
        let (_, fields, body) = ask(&socket, question);
        search(question, (fields + &body).as_bytes());
    }
    process.signal("-TERM");
    let (status, stdout, stderr) = process.wait();
    assert_eq!(status, Some(0), "{stderr}");
    search("stdout", stdout.as_bytes());
    search("stderr", stderr.as_bytes());
    let told = search_folder(&recorded, &out);
    // It looked at what it should: what is no secret is there.
    for kept in
        ["/v1/chat/completions?key=redacted:", "page=2", "/upgrade", "x-note", "Bearer redacted:"]
    {
        assert!(told.contains(kept), "{kept} is not in {told}");
    }
    check_verified(&out, 0);
    for verb in [
        &["trace", "show", "1"][..],
        &["trace", "info"],
        &["trace", "list"],
        &["trace", "export", "--format", "jsonl"],
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_reenact"));
        command.args(&verb[..2]).arg(&out).args(&verb[2..]);
        if verb[1] == "show" {
            command = Command::new(env!("CARGO_BIN_EXE_reenact"));
            command.args(["trace", "show"]).arg(&out).arg("1");
        }
        let output = command.output().unwrap();
        assert!(output.status.success(), "{verb:?}: {}", String::from_utf8_lossy(&output.stderr));
        search(verb[1], &[output.stdout, output.stderr].concat());
    }
}

#[test]
fn no_secret_that_a_policy_names_is_anywhere_in_a_recording() {
    record(&[]);
}

#[test]
fn no_secret_is_anywhere_in_a_shaped_recording() {
    record(&["--bodies", "shape"]);
}

/// The same over a trace that has them all.
#[test]
fn no_secret_is_left_in_a_trace_that_was_redacted() {
    let dir = tempfile::tempdir().unwrap();
    let (policy, before, folder) =
        (dir.path().join("policy.toml"), dir.path().join("a.trace"), dir.path().join("after"));
    fs::create_dir(&folder).unwrap();
    let after = folder.join("b.trace");
    // What heads lose is lost when it is recorded.
    fs::write(&policy, POLICY).unwrap();
    let upstream = Upstream::start(answer);
    let process = Process::start(&upstream.url(), &before, &[]);
    traffic(&process);
    process.signal("-TERM");
    assert_eq!(process.wait().0, Some(0));
    let full = Trace::open(&before).unwrap();
    let events: Vec<String> =
        full.scan().unwrap().map(|event| format!("{:?}", event.unwrap())).collect();
    let events = events.join("\n");
    assert!(
        events.contains(PATTERN)
            && events.contains("s3cret-user")
            && events.contains("s3cret-tenant")
    );
    let redact = |more: &[&str], out: &Path| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_reenact"));
        command.args(["trace", "redact"]).args([&before, out]).args(more);
        command.output().unwrap()
    };
    let output = redact(&["--policy", policy.to_str().unwrap()], &after);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    search("what it says", &[output.stdout, output.stderr].concat());
    let told = search_folder(&folder, &after);
    assert!(told.contains("x-tenant") && told.contains("patterns: 1"));
    check_verified(&after, 0);
    // It needs something to do, and its output to be new.
    let nothing = redact(&[], &folder.join("c.trace"));
    assert_eq!(nothing.status.code(), Some(2), "{}", String::from_utf8_lossy(&nothing.stderr));
    let again = redact(&["--bodies", "shape"], &after);
    assert_eq!(again.status.code(), Some(1), "{}", String::from_utf8_lossy(&again.stderr));
}
