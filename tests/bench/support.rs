//! What the scripts of this folder share: a trace of plain chats, and a server in a process of its own.
#![allow(dead_code, reason = "each script uses what it needs")]

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method};
use reenact::clock::{Anchor, Nanos};
use reenact::trace::record::{
    End, Event, ExchangeId, Frame, Header, Outcome, Passed, RequestHead, Side, Version,
};
use reenact::trace::{Writer, WriterOptions};

/// The body of each chat.
pub(crate) const BODY: &str = r#"{"model":"m","stream":true,"max_tokens":16,"messages":[{"role":"user","content":"Say something of sixteen tokens, please."}]}"#;

/// A server in a process of its own: this program, called with `server` and more.
pub(crate) struct Server {
    child: Child,
    /// Its port on loopback.
    pub(crate) port: u16,
}

impl Server {
    /// Starts it with the arguments after `server`.
    pub(crate) fn start(args: &[&str]) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .arg("server")
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut port = String::new();
        let mut out = child.stdout.take().unwrap();
        let mut byte = [0];
        while byte != *b"\n" {
            out.read_exact(&mut byte).unwrap();
            port.push(byte[0].into());
        }
        child.stdout = Some(out);
        Self { child, port: port.trim().parse().unwrap() }
    }

    /// Ends the server and returns what it has printed of each request: its number, and a time in
    /// nanoseconds since 1970.
    pub(crate) fn arrivals(mut self) -> BTreeMap<u64, i64> {
        drop(self.child.stdin.take());
        let out = BufReader::new(self.child.stdout.take().unwrap());
        let arrivals = out
            .lines()
            .map(|line| {
                let line = line.unwrap();
                let (number, at) = line.split_once(' ').unwrap();
                (number.parse().unwrap(), at.parse().unwrap())
            })
            .collect();
        self.child.wait().unwrap();
        arrivals
    }
}

/// Writes a trace of `n` chats, a millisecond apart, answered with nothing.
pub(crate) fn write_trace(path: &Path, n: u64) {
    write_trace_left(path, n, None);
}

/// The same of chats whose clients leave after a while.
pub(crate) fn write_trace_left(path: &Path, n: u64, left: Option<Duration>) {
    let header = Header {
        trace: [7; 16],
        segment: 0,
        anchor: Anchor(0),
        tick_ns: 1_000,
        tool: "bench".to_owned(),
        listen: "127.0.0.1:0".to_owned(),
        upstreams: vec!["http://127.0.0.1:1".to_owned()],
        redacted: Vec::new(),
        sampled_ppm: 1_000_000,
        policy: None,
    };
    let mut writer = Writer::create(path, header, WriterOptions::default()).unwrap();
    for number in 1..=n {
        let (exchange, at) = (ExchangeId(number), Nanos(number * 1_000_000));
        let mut headers = HeaderMap::new();
        headers.insert("content-type", "application/json".parse().unwrap());
        headers.insert("content-length", BODY.len().into());
        headers.insert("x-number", number.into());
        let head = RequestHead {
            exchange,
            at,
            connection: 1,
            version: Version::Http11,
            method: Method::POST,
            target: "/v1/chat/completions".to_owned(),
            authority: None,
            headers,
            upstream: 0,
        };
        let passed =
            Passed { bytes: BODY.len() as u64, frames: 1, ended: true, ..Passed::default() };
        writer.append(Event::Request(Box::new(head))).unwrap();
        let data = Bytes::from_static(BODY.as_bytes());
        let frame = Frame { exchange, side: Side::Request, at, accepted: at, data };
        writer.append(Event::Frame(frame)).unwrap();
        let response = Passed { ended: left.is_none(), ..Passed::default() };
        let end = End {
            exchange,
            at: at + left.unwrap_or_default(),
            outcome: if left.is_some() { Outcome::Cancelled } else { Outcome::Complete },
            fault: None,
            request: passed,
            response,
        };
        writer.append(Event::End(Box::new(end))).unwrap();
    }
    writer.finish().unwrap();
}
