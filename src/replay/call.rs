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
use std::task::Poll;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::Body as _;
use tokio::sync::watch;
use tokio::time::Sleep;

use crate::clock::{Clock, Nanos};
use crate::http::{Boarding, Carried, Client, ResponseBody};
use crate::replay::ending::{Ending, Watch};
use crate::replay::keep::{self, Keeper};
use crate::replay::outgoing::{Acceptance, OutgoingBody};
use crate::replay::pace::Pace;
use crate::replay::route::{Destination, Place};
use crate::trace::record::{Fault, Outcome};

pub use crate::replay::ending::{Leave, Limits};

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
    /// How fast to read.
    pub pace: Pace,
    /// Timeouts.
    pub limits: Limits,
    /// True once calls in flight are to be given up.
    pub stop: watch::Receiver<bool>,
    /// The run's clock.
    pub clock: Clock,
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
    /// Which timeout it was, if one was.
    pub timeout: Option<&'static str>,
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

/// Makes the call.
///
/// Cancel safety: dropped, it closes the connection or resets the stream.
pub async fn call(call: Call) -> Done {
    let Call { destination, mut request, acceptance, leave, pace, limits, mut stop, clock } = call;
    let boarding = Boarding::default();
    request.extensions_mut().insert(boarding.clone());
    let stopped = Box::pin(async move {
        // An error is a run that is gone, and with it all that could stop this.
        if stop.wait_for(|stop| *stop).await.is_err() {
            std::future::pending::<()>().await;
        }
    });
    let woken = clock.now();
    let aboard = destination.board();
    let watch = Watch::new(clock, limits, leave, boarding.clone(), acceptance.clone(), stopped);
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
        timeout: None,
    };
    let reader = Reader { leave, pace, clock };
    let ended = exchange(aboard.client(), request, watch, reader, &mut done).await;
    done.end = clock.now();
    done.carried = boarding.carried();
    done.request_end = acceptance.at();
    if let Err(ending) = ended {
        done.timeout = ending.timeout();
        (done.outcome, done.fault) = (ending.outcome(), Some(ending.fault()));
    }
    done
}

async fn exchange(
    client: &Client,
    request: Request<OutgoingBody>,
    mut watch: Watch,
    reader: Reader,
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
    let at = body.read_at().unwrap_or_else(|| reader.clock.now());
    watch.alive(at);
    done.head = Some(Head { at, status: parts.status, headers: keep::head(&parts.headers) });
    reader.read(body, &mut watch, &mut done.frames).await
}

/// Reads a response body as a client would.
struct Reader {
    leave: Option<Leave>,
    pace: Pace,
    clock: Clock,
}

// === impl Reader ===

impl Reader {
    /// Reads a body to its end, or until it is time to leave.
    async fn read(
        mut self,
        mut body: ResponseBody,
        watch: &mut Watch,
        frames: &mut Vec<(Nanos, Bytes)>,
    ) -> Result<(), Ending> {
        let (mut bytes, mut keeper) = (0, Keeper::default());
        let mut pause: Option<Pin<Box<Sleep>>> = None;
        poll_fn(|cx| {
            loop {
                if let Some(sleep) = &mut pause {
                    if sleep.as_mut().poll(cx).is_pending() {
                        return watch.poll(cx).map(Err);
                    }
                    pause = None;
                }
                match Pin::new(&mut body).poll_frame(cx) {
                    Poll::Ready(Some(Ok(frame))) => {
                        let at = body.read_at().unwrap_or_else(|| self.clock.now());
                        watch.body_read(at);
                        // Trailers carry no mark and no content.
                        let Ok(data) = frame.into_data() else { continue };
                        bytes += data.len() as u64;
                        frames.push((at, keeper.frame(data)));
                        let enough =
                            self.leave.is_some_and(|leave| leave.is_reached(bytes, frames.len()));
                        if enough && !body.is_end_stream() {
                            return Poll::Ready(Err(Ending::Left));
                        }
                        if let Some(until) = self.pace.hold(bytes, self.clock.now()) {
                            // Who does not read can't say that nothing comes.
                            watch.alive(until);
                            pause =
                                Some(Box::pin(tokio::time::sleep_until(self.clock.instant(until))));
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
}
