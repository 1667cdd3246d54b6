//! What those who look after the process are told, and may ask for: health, status, metrics, recording on and off.
//!
//! Nothing here tells what traffic holds: numbers, states, and the names that were given on the command line.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, ORIGIN};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};

use crate::clock::Nanos;
use crate::http::side::SideResponse;
use crate::proxy::common::Common;
use crate::proxy::metrics::{CLASSES, FAULTS, Totals};
use crate::proxy::page;
use crate::proxy::status::RecorderStatus;

/// The admin service of a proxy.
pub struct Admin {
    common: Arc<Common>,
    about: About,
    phase: AtomicU8,
}

/// What the status says beside numbers.
#[derive(Clone, Debug, Default)]
pub struct About {
    /// The address that is listened on.
    pub listen: String,
    /// Base URLs of the upstreams, without credentials.
    pub upstreams: Vec<String>,
    /// The trace that is written.
    pub trace: String,
    /// Whether what can't be recorded is refused ([`ProxyOptions::fail_closed`](crate::proxy::ProxyOptions)).
    pub fail_closed: bool,
}

/// Where the process is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Not yet serving.
    Starting,
    /// Serving.
    Ready,
    /// Finishing what is under way; new connections are not accepted.
    Draining,
}

/// A browser says with it where a request comes from; no page may command a recorder.
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const TEXT: &str = "text/plain; charset=utf-8";
const PATHS: &str =
    "GET /livez, /readyz, /status, /metrics; POST /recording/stop, /recording/start\n";

// === impl Admin ===

impl Admin {
    /// Begins in [`Phase::Starting`].
    #[must_use]
    pub fn new(common: Arc<Common>, about: About) -> Self {
        Self { common, about, phase: AtomicU8::new(Phase::Starting as u8) }
    }

    /// Says that a phase begins.
    pub fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Relaxed);
    }

    /// Answers a request.
    #[must_use]
    pub fn answer(&self, method: &Method, path: &str, headers: &HeaderMap) -> SideResponse {
        let allowed = match path {
            "/livez" | "/readyz" | "/status" | "/metrics" => "GET, HEAD",
            "/recording/stop" | "/recording/start" => "POST",
            _ => return text(StatusCode::NOT_FOUND, PATHS),
        };
        if !allowed.split(", ").any(|allowed| allowed == method) {
            let mut response = text(StatusCode::METHOD_NOT_ALLOWED, PATHS);
            response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
            return response;
        }
        match path {
            "/livez" => text(StatusCode::OK, "ok\n"),
            "/readyz" => self.readiness(),
            "/status" => json(&self.status()),
            "/metrics" => self.metrics(),
            _ if headers.contains_key(ORIGIN) || headers.contains_key(FETCH_SITE) => {
                text(StatusCode::FORBIDDEN, "not from a web page\n")
            }
            path => self.set_paused(path == "/recording/stop"),
        }
    }

    fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Relaxed) {
            phase if phase == Phase::Starting as u8 => Phase::Starting,
            phase if phase == Phase::Ready as u8 => Phase::Ready,
            _ => Phase::Draining,
        }
    }

    /// Traffic can be sent here whatever became of the recorder, unless what can't be recorded is refused.
    fn readiness(&self) -> SideResponse {
        let phase = self.phase();
        match phase {
            Phase::Starting | Phase::Draining => {}
            Phase::Ready if self.about.fail_closed && !self.common.feed.is_writing() => {
                return text(StatusCode::SERVICE_UNAVAILABLE, "recording is degraded\n");
            }
            Phase::Ready => return text(StatusCode::OK, "ready\n"),
        }
        respond(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("{}\n", phase.as_str()))
    }

    fn metrics(&self) -> SideResponse {
        let (totals, status) = self.numbers();
        let started = self.common.clock().anchor().unix_ns(Nanos::ZERO);
        let page = page::page(&totals, &status, &self.common.feed.disk_times(), started);
        respond(StatusCode::OK, page::CONTENT_TYPE, page)
    }

    fn numbers(&self) -> (Totals, RecorderStatus) {
        (self.common.metrics.totals(self.common.clock().now()), self.common.feed.status())
    }

    fn status(&self) -> Value {
        let (totals, status) = self.numbers();
        let About { listen, upstreams, trace, fail_closed } = &self.about;
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "pid": std::process::id(),
            "phase": self.phase().as_str(),
            "uptime_ns": self.common.clock().now().0,
            "listen": listen,
            "upstreams": upstreams,
            "exchanges": exchanges(&totals),
            "recording": {
                "state": status.state().as_str(),
                "trouble": self.common.feed.trouble(),
                "interruptions": status.interruptions,
                "fail_closed": fail_closed,
                "trace": trace,
                "exchanges": status.counters,
                "bytes_on_disk": status.written_bytes,
                "queue_bytes": status.queued_bytes,
                "queue_high_water_bytes": status.high_water_bytes,
                "lost": {
                    "exchanges": status.lost_exchanges,
                    "frames": status.lost_frames,
                    "bare_frames": status.bare_frames,
                    "bytes": status.lost_bytes,
                },
                "unrecorded": {
                    "exchanges": totals.not_recorded,
                    "body_bytes": totals.not_recorded_bytes,
                },
            },
        })
    }

    fn set_paused(&self, is_paused: bool) -> SideResponse {
        let changed = self.common.feed.set_paused(is_paused);
        let state = self.common.feed.status().state().as_str();
        json(&json!({ "state": state, "changed": changed }))
    }
}

fn exchanges(totals: &Totals) -> Value {
    json!({
        "requests": totals.requests,
        "open": totals.open,
        "oldest_open_ns": totals.oldest_open_ns,
        "complete": totals.complete,
        "failed": totals.failed,
        "cancelled": totals.cancelled,
        "upstream_responses": named(&CLASSES, &totals.upstream_responses),
        "proxy_responses": named(&CLASSES, &totals.proxy_responses),
        "upstream_errors": named(&FAULTS, &totals.upstream_faults),
        "disconnects": {
            "client": totals.client_disconnects,
            "upstream": totals.upstream_disconnects,
        },
        "request_body_bytes": totals.request_body_bytes,
        "response_body_bytes": totals.response_body_bytes,
    })
}

fn named(names: &[&str], counts: &[u64]) -> Value {
    names.iter().zip(counts).map(|(name, count)| ((*name).to_owned(), json!(count))).collect()
}

fn text(status: StatusCode, text: &'static str) -> SideResponse {
    respond(status, TEXT, text)
}

fn json(value: &Value) -> SideResponse {
    respond(StatusCode::OK, "application/json", format!("{value:#}\n"))
}

fn respond(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> SideResponse {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

// === impl Phase ===

impl Phase {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Draining => "draining",
        }
    }
}
