//! The body of a response to a client.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, StatusCode};
use http_body::{Body, Frame, SizeHint};
use tokio::time::Sleep;

use crate::http::drain::{self, Drain, Drained, Handed};
use crate::http::outlet::Outlet;
use crate::http::server::Accepted;
use crate::http::stall::Stall;
use crate::http::{BodyError, ResponseBody};
use crate::trace::record::FaultKind;

/// Where a response body comes from.
pub enum Answer {
    /// The upstream.
    Upstream(Relay),
    /// The upstream, which sends none but says how long it would be (`304` with `Content-Length`).
    Claimed(u64),
    /// The proxy itself.
    Own(Option<Bytes>),
}

/// An upstream's body. When it breaks off, the client gets first what had come until then, as it would directly; the
/// server's connection would drop what it has buffered.
pub struct Relay {
    body: ResponseBody,
    /// The way out over HTTP/1.1, none over HTTP/2.
    outlet: Option<Outlet>,
    /// Hears, over HTTP/2, of each frame that is handed over and of each that is asked for.
    stall: Option<Arc<Stall>>,
    /// Longest time that nothing may come.
    limit: Option<Duration>,
    /// Runs while something is waited for.
    waiting: Option<Pin<Box<Sleep>>>,
    broken: Option<Broken>,
}

/// An error that waits until what came before it has left.
struct Broken {
    error: BodyError,
    flushes: u64,
    patience: Pin<Box<Sleep>>,
}

/// How long a client may take to accept what came before an error; over HTTP/2, where nothing tells that it has left, how
/// long it is given.
const HTTP1_PATIENCE: Duration = Duration::from_secs(10);
const HTTP2_PATIENCE: Duration = Duration::from_millis(20);

// === impl Answer ===

impl Answer {
    /// Passes on the body of a response of an upstream to a client that `stall` tells of; the upstream may send nothing
    /// for `limit`.
    #[must_use]
    pub fn passed_on(
        head: &http::response::Parts,
        body: ResponseBody,
        client: &Accepted,
        stall: Arc<Stall>,
        limit: Option<Duration>,
    ) -> Self {
        if head.status == StatusCode::NOT_MODIFIED
            && let Some(length) = content_length(&head.headers)
        {
            return Self::Claimed(length);
        }
        let outlet = (!client.is_h2).then(|| client.outlet.clone());
        let stall = client.is_h2.then_some(stall);
        Self::Upstream(Relay { body, outlet, stall, limit, waiting: None, broken: None })
    }
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

impl Body for Answer {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Upstream(relay) => relay.poll_frame(cx),
            Self::Claimed(_) => Poll::Ready(None),
            Self::Own(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Upstream(relay) => relay.body.is_end_stream(),
            // Not over, for the server would then leave the length out.
            Self::Claimed(_) => false,
            Self::Own(bytes) => bytes.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Upstream(relay) => relay.body.size_hint(),
            Self::Claimed(length) => SizeHint::with_exact(*length),
            Self::Own(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
        }
    }
}

impl Drain for Answer {
    fn poll_drain(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        sink: impl FnMut(Handed<'_>) -> bool,
    ) -> Drained<BodyError> {
        match self.get_mut() {
            // Over HTTP/2, each frame is accounted for.
            Self::Upstream(relay) if relay.stall.is_none() && relay.broken.is_none() => {
                relay.poll_drain(cx, sink)
            }
            answer => drain::poll_frames(Pin::new(answer), cx, sink),
        }
    }
}

// === impl Relay ===

impl Relay {
    fn poll_drain(
        &mut self,
        cx: &mut Context<'_>,
        mut sink: impl FnMut(Handed<'_>) -> bool,
    ) -> Drained<BodyError> {
        let waiting = &mut self.waiting;
        let drained = Pin::new(&mut self.body).poll_drain(cx, |handed| {
            *waiting = None;
            sink(handed)
        });
        let error = match drained {
            Drained::Empty => match self.poll_silence(cx) {
                Poll::Ready(error) => error,
                Poll::Pending => return Drained::Empty,
            },
            Drained::Last(Some(Err(error))) => error,
            other => return other,
        };
        let broken = self.broken.insert(Broken::new(error, self.outlet.as_ref()));
        match broken.poll_alone(cx, self.outlet.as_ref()) {
            Poll::Ready(()) => Drained::Last(Some(Err(broken.error.clone()))),
            Poll::Pending => Drained::Empty,
        }
    }

    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(stall) = &self.stall {
            stall.asked();
        }
        if self.broken.is_none() {
            match ready!(self.poll_body(cx)) {
                Some(Err(error)) => self.broken = Some(Broken::new(error, self.outlet.as_ref())),
                frame => {
                    if let Some(stall) = &self.stall {
                        stall.handed();
                    }
                    return Poll::Ready(frame);
                }
            }
        }
        let Some(broken) = &mut self.broken else { return Poll::Ready(None) };
        ready!(broken.poll_alone(cx, self.outlet.as_ref()));
        Poll::Ready(Some(Err(broken.error.clone())))
    }

    /// Polls the body, for as long as it may keep silent.
    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if polled.is_ready() {
            self.waiting = None;
            return polled;
        }
        self.poll_silence(cx).map(|error| Some(Err(error)))
    }

    /// Nothing comes: ready when that has lasted too long.
    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<BodyError> {
        let Some(limit) = self.limit else { return Poll::Pending };
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        ready!(waiting.as_mut().poll(cx));
        let text = format!("nothing came for {} ms", limit.as_millis());
        Poll::Ready(BodyError { kind: FaultKind::Timeout, text })
    }
}

// === impl Broken ===

impl Broken {
    fn new(error: BodyError, outlet: Option<&Outlet>) -> Self {
        let patience = if outlet.is_some() { HTTP1_PATIENCE } else { HTTP2_PATIENCE };
        let patience = Box::pin(tokio::time::sleep(patience));
        Self { error, flushes: outlet.map_or(0, Outlet::flushes), patience }
    }

    /// Waits until all before has left.
    fn poll_alone(&mut self, cx: &mut Context<'_>, outlet: Option<&Outlet>) -> Poll<()> {
        let has_left =
            outlet.is_some_and(|outlet| outlet.poll_flushed(cx, self.flushes).is_ready());
        if has_left { Poll::Ready(()) } else { self.patience.as_mut().poll(cx) }
    }
}
