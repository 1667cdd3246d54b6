//! HTTP Archive 1.2, written entry by entry. Each entry has its frames' times as the vendor field `_frames`.

use std::io::{self, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use serde_json::{Value, json};

use crate::clock::Nanos;
use crate::trace::record::{Header, Side, Version};
use crate::trace::{Exchange, FrameView};

/// Writes a HAR.
pub(super) struct HarWriter<'a> {
    out: &'a mut dyn Write,
    header: &'a Header,
    first: bool,
}

// === impl HarWriter ===

impl<'a> HarWriter<'a> {
    pub(super) fn begin(out: &'a mut dyn Write, header: &'a Header) -> io::Result<Self> {
        let creator = json!({ "name": "reenact", "version": env!("CARGO_PKG_VERSION") });
        write!(out, r#"{{"log":{{"version":"1.2","creator":{creator},"entries":["#)?;
        Ok(Self { out, header, first: true })
    }

    pub(super) fn exchange(&mut self, exchange: &Exchange) -> io::Result<()> {
        let comma = if std::mem::take(&mut self.first) { "\n" } else { ",\n" };
        write!(self.out, "{comma}{}", entry(exchange, self.header))
    }

    pub(super) fn finish(self) -> io::Result<()> {
        writeln!(self.out, "\n]}}}}")
    }
}

fn entry(exchange: &Exchange, header: &Header) -> Value {
    let request = &exchange.request;
    let start = request.at;
    let sent = exchange.frames(Side::Request).last().map_or(start, |frame| frame.accepted);
    let headers = exchange.response.as_ref().map_or(sent, |response| response.at);
    let end = exchange.end.as_ref().map_or(headers, |end| end.at);
    let millis = |from: Nanos, until: Nanos| until.since(from).as_secs_f64() * 1e3;
    json!({
        "startedDateTime": header.anchor.rfc3339(start),
        "time": millis(start, end),
        "request": request_json(exchange, header),
        "response": response_json(exchange),
        "cache": {},
        "timings": {
            "send": millis(start, sent),
            "wait": millis(sent, headers),
            "receive": millis(headers.max(sent), end),
        },
        "connection": request.connection.to_string(),
        "_exchange": request.exchange.0,
        "_outcome": exchange.end.as_ref().map(|end| end.outcome),
        "_error": exchange.end.as_ref().and_then(|end| end.fault.as_ref()).map(|fault| &fault.text),
        "_frames": {
            "request": frames(exchange, Side::Request, start),
            "response": frames(exchange, Side::Response, start),
        },
    })
}

fn request_json(exchange: &Exchange, header: &Header) -> Value {
    let request = &exchange.request;
    let body = exchange.request_body();
    let upstream = usize::try_from(request.upstream).unwrap_or(usize::MAX);
    let base = header.upstreams.get(upstream).map_or("", |url| url.trim_end_matches('/'));
    let query: Vec<Value> = request
        .target
        .split_once('?')
        .map_or("", |(_, query)| query)
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            json!({ "name": name, "value": value })
        })
        .collect();
    let mut object = json!({
        "method": request.method.as_str(),
        "url": format!("{base}{}", request.target),
        "httpVersion": version(request.version),
        "cookies": [],
        "headers": fields(&request.headers),
        "queryString": query,
        "headersSize": -1,
        "bodySize": size(exchange, Side::Request),
    });
    if !body.is_empty() {
        object["postData"] = text(&body, &content_type(&request.headers));
        put_lacking(&mut object["postData"], exchange, Side::Request);
    }
    object
}

fn response_json(exchange: &Exchange) -> Value {
    let body = exchange.response_body();
    let empty = HeaderMap::new();
    let response = exchange.response.as_ref();
    let headers = response.map_or(&empty, |response| &response.headers);
    let mut content = text(&body, &content_type(headers));
    content["size"] = body.len().into();
    put_lacking(&mut content, exchange, Side::Response);
    json!({
        "status": response.map_or(0, |response| response.status.as_u16()),
        "statusText": response
            .and_then(|response| response.status.canonical_reason())
            .unwrap_or_default(),
        "httpVersion": response.map_or("", |response| version(response.version)),
        "cookies": [],
        "headers": fields(headers),
        "content": content,
        "redirectURL": "",
        "headersSize": -1,
        "bodySize": size(exchange, Side::Response),
    })
}

/// Returns the bytes of a body as it passed, as far as they are known.
fn size(exchange: &Exchange, side: Side) -> u64 {
    exchange.frames(side).map(|frame| frame.len).sum()
}

/// Says of a text that it is not the whole body.
fn put_lacking(text: &mut Value, exchange: &Exchange, side: Side) {
    if exchange.lacks(side) {
        text["comment"] =
            "not all of the body could be recorded: bytes are missing in this text".into();
    }
}

fn text(body: &[u8], mime_type: &str) -> Value {
    match std::str::from_utf8(body) {
        Ok(text) => json!({ "mimeType": mime_type, "text": text }),
        Err(_) => {
            json!({ "mimeType": mime_type, "text": STANDARD.encode(body), "encoding": "base64" })
        }
    }
}

fn content_type(headers: &HeaderMap) -> String {
    let value = headers.get(http::header::CONTENT_TYPE);
    value.map_or_else(String::new, |value| String::from_utf8_lossy(value.as_bytes()).into_owned())
}

fn fields(headers: &HeaderMap) -> Value {
    let field = |(name, value): (&http::HeaderName, &http::HeaderValue)| json!({ "name": name.as_str(), "value": String::from_utf8_lossy(value.as_bytes()) });
    headers.iter().map(field).collect()
}

/// Returns the times of a side's frames; `bare` says of those whose bytes are not in the trace.
fn frames(exchange: &Exchange, side: Side, start: Nanos) -> Value {
    let frame = |FrameView { at, accepted, len, data }: FrameView<'_>| {
        let mut frame = json!({
            "at": at.since(start).as_secs_f64() * 1e3,
            "accepted": accepted.since(start).as_secs_f64() * 1e3,
            "bytes": len,
        });
        if data.is_none() {
            frame["bare"] = true.into();
        }
        frame
    };
    exchange.frames(side).map(frame).collect()
}

fn version(version: Version) -> &'static str {
    match version {
        Version::Http10 => "HTTP/1.0",
        Version::Http11 => "HTTP/1.1",
        Version::Http2 => "HTTP/2",
    }
}
