//! One call: a release from its due time to the end of its response.
//!
//! A call takes marks and keeps bytes, and does nothing else while its exchange goes on: no parsing, no formatting, no
//! waiting for anybody. What the bytes mean is worked out when it has ended, elsewhere ([`crate::replay::row`]).
//!
//! It ends in one of these ways: the response is complete; the target or the network fails; a timeout runs out; the client
//! leaves as the recorded one did ([`Leave`]); the run is interrupted. Each is a [`Done`], and each but the first closes
//! the connection (HTTP/1.1) or resets the stream (HTTP/2) at once.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::Body as _;
use tokio::sync::{oneshot, watch};
use tokio::time::Sleep;

use crate::clock::{Clock, Nanos};
use crate::http::{Boarding, Carried, Client, ResponseBody, SendError};
use crate::replay::outgoing::{Acceptance, OutgoingBody};
use crate::replay::plan::Release;
use crate::replay::route::{Destination, Place};
use crate::trace::record::{Fault, FaultKind, FaultSide, Outcome};

/// What a call needs, made ahead of its due time.
pub struct Call {
    /// Where it may be sent.
    pub destination: Destination,
    /// What is sent.
    pub request: Request<OutgoingBody>,
    /// When the request's body was accepted.
    pub acceptance: Acceptance,
    /// Whether and when to leave before the end.
    pub leave: Option<Leave>,
    /// Timeouts.
    pub limits: Limits,
    /// Wakes the call when it is due, with its release; dropped, the call is not to be made.
    pub fired: oneshot::Receiver<Release>,
    /// True once calls in flight are to be given up.
    pub stop: watch::Receiver<bool>,
    /// The run's clock.
    pub clock: Clock,
}

/// Where the recorded client left, which is where this one leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave {
    /// When so many response body bytes were read. A response that ends before is complete.
    AfterBytes(u64),
    /// When this time had passed since the request was sent: the recorded client saw no body. Its patience is its own,
    /// so it is not divided by the speed.
    AfterTime(Duration),
}

/// Timeouts, each on its own; connecting has its own in the client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Longest time in which no byte moves: from the last of the request to the head, and from frame to frame.
    pub idle: Option<Duration>,
    /// Longest time from the request to the response's end.
    pub total: Option<Duration>,
}

/// How a call went: marks and bytes.
#[derive(Debug)]
pub struct Done {
    /// The target.
    pub place: Place,
    /// The connection and when it took the request; none when there was no connection.
    pub carried: Option<Carried>,
    /// When the call ran, after its release: what lies between due and this is the dispatch.
    pub woken: Nanos,
    /// When the last byte of the request had been accepted by the connection.
    pub request_end: Option<Nanos>,
    /// The response head.
    pub head: Option<Head>,
    /// Response body frames: when each was read, and its bytes.
    pub frames: Vec<(Nanos, Bytes)>,
    /// When it ended.
    pub end: Nanos,
    /// How it ended.
    pub outcome: Outcome,
    /// What went wrong.
    pub fault: Option<Fault>,
}

/// A response head.
#[derive(Debug)]
pub struct Head {
    /// When it was read.
    pub at: Nanos,
    /// Its status.
    pub status: StatusCode,
    /// Its fields.
    pub headers: HeaderMap,
}

/// Ends a call that did not end by itself.
struct Watch {
    clock: Clock,
    limits: Limits,
    leave_at: Option<Nanos>,
    total_at: Option<Nanos>,
    /// When a byte came last.
    alive: Nanos,
    /// When bytes of the request went last.
    upload: Acceptance,
    sleep: Pin<Box<Sleep>>,
    /// What the sleep is set to; none when there is nothing to wait for.
    alarm: Option<Nanos>,
    stop: Pin<Box<dyn Future<Output = ()> + Send>>,
}

/// Makes the call when it is due, and returns the release that it was; none when it is not to be made.
///
/// Cancel safety: dropped, it closes the connection or resets the stream.
pub async fn call(call: Call) -> Option<(Release, Done)> {
    let Call { destination, mut request, acceptance, leave, limits, fired, mut stop, clock } = call;
    let boarding = Boarding::default();
    request.extensions_mut().insert(boarding.clone());
    let stopped = Box::pin(async move {
        // An error is a run that is gone, and with it all that could stop this.
        if stop.wait_for(|stop| *stop).await.is_err() {
            std::future::pending::<()>().await;
        }
    });
    let release = fired.await.ok()?;
    let woken = clock.now();
    let aboard = destination.board();
    let watch = Watch::new(clock, limits, leave, acceptance.clone(), stopped);
    let mut done = Done {
        place: aboard.place().clone(),
        carried: None,
        woken,
        request_end: None,
        head: None,
        frames: Vec::new(),
        end: Nanos::ZERO,
        outcome: Outcome::Complete,
        fault: None,
    };
    let ended = exchange(aboard.client(), request, watch, leave, clock, &mut done).await;
    done.end = clock.now();
    done.carried = boarding.carried();
    done.request_end = acceptance.at();
    if let Err(ending) = ended {
        (done.outcome, done.fault) = (ending.outcome(), Some(ending.fault()));
    }
    Some((release, done))
}

/// Why an exchange ended before its response did.
enum Ending {
    Body(crate::http::BodyError),
    Idle(Duration),
    Interrupted,
    Left,
    Send(SendError),
    Total(Duration),
}

async fn exchange(
    client: &Client,
    request: Request<OutgoingBody>,
    mut watch: Watch,
    leave: Option<Leave>,
    clock: Clock,
    done: &mut Done,
) -> Result<(), Ending> {
    let response = {
        let mut sending = pin!(client.send_replayable(request));
        poll_fn(|cx| match sending.as_mut().poll(cx) {
            Poll::Ready(sent) => Poll::Ready(sent.map_err(Ending::Send)),
            Poll::Pending => watch.poll(cx).map(Err),
        })
        .await?
    };
    let (parts, body) = Response::into_parts(response);
    let at = body.read_at().unwrap_or_else(|| clock.now());
    watch.alive = at;
    done.head = Some(Head { at, status: parts.status, headers: parts.headers });
    let leave_bytes = match leave {
        Some(Leave::AfterBytes(bytes)) => Some(bytes),
        Some(Leave::AfterTime(_)) | None => None,
    };
    read(body, &mut watch, leave_bytes, clock, &mut done.frames).await
}

/// Reads a response body to its end, or until it is time to leave.
async fn read(
    mut body: ResponseBody,
    watch: &mut Watch,
    leave_bytes: Option<u64>,
    clock: Clock,
    frames: &mut Vec<(Nanos, Bytes)>,
) -> Result<(), Ending> {
    let mut bytes = 0;
    poll_fn(|cx| {
        loop {
            match Pin::new(&mut body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    let at = body.read_at().unwrap_or_else(|| clock.now());
                    watch.alive = at;
                    // Trailers carry no mark and no content.
                    let Ok(data) = frame.into_data() else { continue };
                    bytes += data.len() as u64;
                    frames.push((at, data));
                    let enough = leave_bytes.is_some_and(|enough| bytes >= enough);
                    if enough && !body.is_end_stream() {
                        return Poll::Ready(Err(Ending::Left));
                    }
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(Ending::Body(error))),
                Poll::Ready(None) => return Poll::Ready(Ok(())),
                Poll::Pending => return watch.poll(cx).map(Err),
            }
        }
    })
    .await
}

// === impl Watch ===

impl Watch {
    /// Watches an exchange that begins now.
    fn new(
        clock: Clock,
        limits: Limits,
        leave: Option<Leave>,
        upload: Acceptance,
        stop: Pin<Box<dyn Future<Output = ()> + Send>>,
    ) -> Self {
        let now = clock.now();
        let leave_at = match leave {
            Some(Leave::AfterTime(patience)) => Some(now + patience),
            Some(Leave::AfterBytes(_)) | None => None,
        };
        let sleep = Box::pin(tokio::time::sleep_until(clock.instant(now)));
        let total_at = limits.total.map(|total| now + total);
        Self { clock, limits, leave_at, total_at, alive: now, upload, sleep, alarm: None, stop }
    }

    /// Returns why the exchange is to end now, if it is.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Ending> {
        if self.stop.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ending::Interrupted);
        }
        loop {
            let Some(next) = self.next() else { return Poll::Pending };
            // The alarm is set anew only when it rings: a frame costs no timer.
            if self.alarm.is_none_or(|alarm| alarm > next) {
                self.sleep.as_mut().reset(self.clock.instant(next));
                self.alarm = Some(next);
            }
            if self.sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.alarm = None;
            let now = self.clock.now();
            if let Some(ending) = self.due(now) {
                return Poll::Ready(ending);
            }
        }
    }

    fn idle_at(&self) -> Option<Nanos> {
        self.limits.idle.map(|idle| self.alive.max(self.upload.progress()) + idle)
    }

    /// Returns the first of what may end the exchange.
    fn next(&self) -> Option<Nanos> {
        [self.leave_at, self.total_at, self.idle_at()].into_iter().flatten().min()
    }

    fn due(&self, now: Nanos) -> Option<Ending> {
        let is_due = |at: Option<Nanos>| at.is_some_and(|at| at <= now);
        if is_due(self.leave_at) {
            return Some(Ending::Left);
        }
        if is_due(self.total_at) {
            return self.limits.total.map(Ending::Total);
        }
        if is_due(self.idle_at()) {
            return self.limits.idle.map(Ending::Idle);
        }
        None
    }
}

// === impl Ending ===

impl Ending {
    fn outcome(&self) -> Outcome {
        match self {
            Self::Interrupted | Self::Left => Outcome::Cancelled,
            Self::Body(_) | Self::Idle(_) | Self::Send(_) | Self::Total(_) => Outcome::Failed,
        }
    }

    fn fault(self) -> Fault {
        let fault = |side, kind, text: String| Fault { side, kind, text };
        match self {
            Self::Body(error) => fault(FaultSide::Server, error.kind, error.text),
            Self::Idle(limit) => fault(
                FaultSide::Server,
                FaultKind::Timeout,
                format!("no byte for {} (idle timeout)", seconds(limit)),
            ),
            Self::Interrupted => fault(
                FaultSide::Local,
                FaultKind::Disconnected,
                "the run was interrupted".to_owned(),
            ),
            Self::Left => fault(
                FaultSide::Client,
                FaultKind::Disconnected,
                "left where the recorded client had left".to_owned(),
            ),
            Self::Send(error) => {
                let side = match error.kind {
                    FaultKind::Disconnected => FaultSide::Local,
                    _ => FaultSide::Server,
                };
                fault(side, error.kind, error.text)
            }
            Self::Total(limit) => fault(
                FaultSide::Server,
                FaultKind::Timeout,
                format!("not complete after {} (total timeout)", seconds(limit)),
            ),
        }
    }
}

fn seconds(limit: Duration) -> String {
    format!("{} s", limit.as_secs_f64())
}
