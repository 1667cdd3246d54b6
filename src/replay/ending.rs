//! Why a call ends before its response does: the client leaves as the recorded one did, a timeout runs out, the run is
//! stopped.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::str::FromStr;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::clock::{Clock, Nanos};
use crate::http::{Boarding, SendError};
use crate::replay::alarm::Alarm;
use crate::replay::outgoing::Acceptance;
use crate::trace::record::{Fault, FaultKind, FaultSide, Outcome};

/// Where a recorded client left: what it had got, and how long it had waited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct Left {
    /// Bytes of the response's body.
    pub bytes: u64,
    /// Frames of the response's body.
    pub frames: u64,
    /// Time since its request.
    pub after: Duration,
}

/// Whether clients leave where the recorded ones left, and what "where" is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Aborts {
    /// After as many frames; after as long a time where there was none.
    Frames,
    /// They stay until the end.
    Never,
    /// After as many bytes; after as long a time where there was none.
    #[default]
    Recorded,
    /// After as long a time.
    Time,
}

/// A text that is none of [`Aborts`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` says nothing of aborts: say recorded, frames, time or never")]
pub struct NoAborts(String);

/// Where a call leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave {
    /// When so many response body bytes were read. A response that ends before is complete.
    AfterBytes(u64),
    /// When so many response body frames were read. A response that ends before is complete.
    AfterFrames(u64),
    /// When this time had passed since the request was sent. The recorded client's patience is its own, so it is not divided
    /// by the speed.
    AfterTime(Duration),
}

/// Timeouts, each on its own; connecting has its own in the client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Longest time from the request to the first byte of the response's body.
    pub first: Option<Duration>,
    /// Longest time in which no byte moves: from the last of the request to the head, and from frame to frame.
    pub idle: Option<Duration>,
    /// Longest time from the request to the response's end.
    pub total: Option<Duration>,
}

/// Ends a call that did not end by itself.
pub(super) struct Watch {
    clock: Clock,
    limits: Limits,
    /// How long the client waits from when its request was sent.
    patience: Option<Duration>,
    begun: Nanos,
    /// When the request was sent, once it is.
    boarding: Boarding,
    total_at: Option<Nanos>,
    /// None once there was a byte.
    first_at: Option<Nanos>,
    /// When a byte came last.
    alive: Nanos,
    /// When bytes of the request went last.
    upload: Acceptance,
    alarm: Alarm,
    stop: Pin<Box<dyn Future<Output = ()> + Send>>,
}

/// Why an exchange ended before its response did.
pub(super) enum Ending {
    Body(crate::http::BodyError),
    First(Duration),
    Idle(Duration),
    Interrupted,
    Left,
    Send(SendError),
    Total(Duration),
}

// === impl Aborts ===

impl Aborts {
    /// Returns where a call leaves whose recorded client left there.
    #[must_use]
    pub const fn leave(self, left: Left) -> Option<Leave> {
        let Left { bytes, frames, after } = left;
        match self {
            Self::Never => None,
            Self::Frames if frames > 0 => Some(Leave::AfterFrames(frames)),
            Self::Recorded if bytes > 0 => Some(Leave::AfterBytes(bytes)),
            Self::Frames | Self::Recorded | Self::Time => Some(Leave::AfterTime(after)),
        }
    }
}

impl FromStr for Aborts {
    type Err = NoAborts;

    fn from_str(text: &str) -> Result<Self, NoAborts> {
        [Self::Frames, Self::Never, Self::Recorded, Self::Time]
            .into_iter()
            .find(|aborts| aborts.to_string() == text)
            .ok_or_else(|| NoAborts(text.to_owned()))
    }
}

impl fmt::Display for Aborts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Frames => "frames",
            Self::Never => "never",
            Self::Recorded => "recorded",
            Self::Time => "time",
        })
    }
}

// === impl Leave ===

impl Leave {
    /// Returns whether so many bytes in so many frames are enough.
    pub(super) const fn is_reached(self, bytes: u64, frames: usize) -> bool {
        match self {
            Self::AfterBytes(enough) => bytes >= enough,
            Self::AfterFrames(enough) => frames as u64 >= enough,
            Self::AfterTime(_) => false,
        }
    }
}

// === impl Watch ===

impl Watch {
    /// Watches an exchange that begins now.
    pub(super) fn new(
        clock: Clock,
        limits: Limits,
        leave: Option<Leave>,
        boarding: Boarding,
        upload: Acceptance,
        stop: Pin<Box<dyn Future<Output = ()> + Send>>,
    ) -> Self {
        let now = clock.now();
        let patience = match leave {
            Some(Leave::AfterTime(patience)) => Some(patience),
            Some(Leave::AfterBytes(_) | Leave::AfterFrames(_)) | None => None,
        };
        Self {
            clock,
            limits,
            patience,
            begun: now,
            boarding,
            total_at: limits.total.map(|total| now + total),
            first_at: limits.first.map(|first| now + first),
            alive: now,
            upload,
            alarm: Alarm::new(clock),
            stop,
        }
    }

    /// Takes down that bytes of the response's body were read.
    pub(super) fn body_read(&mut self, at: Nanos) {
        self.alive = at;
        self.first_at = None;
    }

    /// Takes down that something of the response was read, or that nothing will be until `at`.
    pub(super) fn alive(&mut self, at: Nanos) {
        self.alive = at;
    }

    /// Returns why the exchange is to end now, if it is.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Ending> {
        if self.stop.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ending::Interrupted);
        }
        loop {
            let Some(next) = self.next() else { return Poll::Pending };
            // A client leaves on time; how exactly a timeout comes is nobody's measurement.
            self.alarm.set(next, self.leave_at() == Some(next));
            if self.alarm.poll(cx).is_pending() {
                return Poll::Pending;
            }
            if let Some(ending) = self.due(self.clock.now()) {
                return Poll::Ready(ending);
            }
        }
    }

    /// Returns when the client leaves. Until there is a connection its time runs from when it asked for one.
    fn leave_at(&self) -> Option<Nanos> {
        self.patience.map(|patience| {
            self.boarding.carried().map_or(self.begun, |carried| carried.ready_at) + patience
        })
    }

    fn idle_at(&self) -> Option<Nanos> {
        self.limits.idle.map(|idle| self.alive.max(self.upload.progress()) + idle)
    }

    /// Returns the first of what may end the exchange.
    fn next(&self) -> Option<Nanos> {
        [self.leave_at(), self.total_at, self.first_at, self.idle_at()].into_iter().flatten().min()
    }

    fn due(&self, now: Nanos) -> Option<Ending> {
        let is_due = |at: Option<Nanos>| at.is_some_and(|at| at <= now);
        if is_due(self.leave_at()) {
            return Some(Ending::Left);
        }
        if is_due(self.total_at) {
            return self.limits.total.map(Ending::Total);
        }
        if is_due(self.first_at) {
            return self.limits.first.map(Ending::First);
        }
        if is_due(self.idle_at()) {
            return self.limits.idle.map(Ending::Idle);
        }
        None
    }
}

// === impl Ending ===

impl Ending {
    /// Returns which timeout it was, as rows name it.
    pub(super) fn timeout(&self) -> Option<&'static str> {
        match self {
            Self::First(_) => Some("first"),
            Self::Idle(_) => Some("idle"),
            Self::Send(error) if error.kind == FaultKind::Timeout && error.carried.is_none() => {
                Some("connect")
            }
            Self::Total(_) => Some("total"),
            Self::Body(_) | Self::Interrupted | Self::Left | Self::Send(_) => None,
        }
    }

    pub(super) fn outcome(&self) -> Outcome {
        match self {
            Self::Interrupted | Self::Left => Outcome::Cancelled,
            Self::Body(_) | Self::First(_) | Self::Idle(_) | Self::Send(_) | Self::Total(_) => {
                Outcome::Failed
            }
        }
    }

    pub(super) fn fault(self) -> Fault {
        let fault = |side, kind, text: String| Fault { side, kind, text };
        match self {
            Self::Body(error) => fault(FaultSide::Server, error.kind, error.text),
            Self::First(limit) => fault(
                FaultSide::Server,
                FaultKind::Timeout,
                format!("no byte of a body after {} (first-byte timeout)", seconds(limit)),
            ),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_client_leaves_depends_on_what_it_had_got() {
        let after = Duration::from_millis(7);
        let left = Left { bytes: 90, frames: 3, after };
        let nothing = Left { bytes: 0, frames: 0, after };
        for (aborts, some, none) in [
            (Aborts::Recorded, Some(Leave::AfterBytes(90)), Some(Leave::AfterTime(after))),
            (Aborts::Frames, Some(Leave::AfterFrames(3)), Some(Leave::AfterTime(after))),
            (Aborts::Time, Some(Leave::AfterTime(after)), Some(Leave::AfterTime(after))),
            (Aborts::Never, None, None),
        ] {
            assert_eq!((aborts.leave(left), aborts.leave(nothing)), (some, none), "{aborts}");
            assert_eq!(aborts.to_string().parse(), Ok(aborts));
        }
        assert!("often".parse::<Aborts>().is_err());
    }

    /// A connection that is not there in time is told from an answer that is not.
    #[test]
    fn a_timeout_without_a_connection_is_that_of_connecting() {
        let error = |kind| {
            Ending::Send(SendError {
                kind,
                text: String::new(),
                carried: None,
                response_started: false,
            })
        };
        assert_eq!(error(FaultKind::Timeout).timeout(), Some("connect"));
        assert_eq!(error(FaultKind::Reset).timeout(), None);
        assert_eq!(Ending::First(Duration::ZERO).timeout(), Some("first"));
        assert_eq!(Ending::Left.timeout(), None);
    }
}
