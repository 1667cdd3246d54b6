//! The body of a request that is sent: slices of the bytes that were prepared, and the mark of when the last was accepted.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::clock::{Clock, Nanos};

/// A request body. Clones begin at the start, for a second try.
#[derive(Debug)]
pub struct OutgoingBody {
    whole: Bytes,
    left: Bytes,
    acceptance: Acceptance,
    clock: Clock,
}

/// When a connection had accepted the last byte of a body: hyper asks for a slice when it has room for it, and lets go of
/// the body when it has taken the last one.
#[derive(Clone, Debug, Default)]
pub struct Acceptance(Arc<Marks>);

#[derive(Debug, Default)]
struct Marks {
    /// When the last byte was accepted; 0 for not yet.
    whole: AtomicU64,
    /// When a slice was taken last; 0 for never.
    slice: AtomicU64,
}

/// Handed over at a time: small enough for the mark to follow the socket, large enough to cost nothing.
const SLICE: usize = 64 * 1024;

// === impl OutgoingBody ===

impl OutgoingBody {
    /// Makes a body of `bytes`, and the mark that it will leave.
    #[must_use]
    pub fn new(bytes: Bytes, clock: Clock) -> (Self, Acceptance) {
        let acceptance = Acceptance::default();
        let body =
            Self { whole: bytes.clone(), left: bytes, acceptance: acceptance.clone(), clock };
        (body, acceptance)
    }
}

impl Clone for OutgoingBody {
    fn clone(&self) -> Self {
        Self {
            whole: self.whole.clone(),
            left: self.whole.clone(),
            acceptance: self.acceptance.clone(),
            clock: self.clock,
        }
    }
}

impl Body for OutgoingBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let length = self.left.len().min(SLICE);
        if length == 0 {
            return Poll::Ready(None);
        }
        self.acceptance.0.slice.store(self.clock.now().0, Ordering::Relaxed);
        Poll::Ready(Some(Ok(Frame::data(self.left.split_to(length)))))
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left.len() as u64)
    }
}

impl Drop for OutgoingBody {
    fn drop(&mut self) {
        // A clone that was never sent from, or one that was given up half way, accepted nothing.
        if self.left.is_empty() && !self.whole.is_empty() {
            self.acceptance.0.whole.store(self.clock.now().0, Ordering::Relaxed);
        }
    }
}

// === impl Acceptance ===

impl Acceptance {
    /// Returns the time; none when the body was empty or was not accepted whole.
    #[must_use]
    pub fn at(&self) -> Option<Nanos> {
        match self.0.whole.load(Ordering::Relaxed) {
            0 => None,
            at => Some(Nanos(at)),
        }
    }

    /// Returns when the connection asked for bytes last: an upload that goes on is not idle. Zero for never.
    #[must_use]
    pub fn progress(&self) -> Nanos {
        Nanos(self.0.slice.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use http_body_util::BodyExt as _;

    use super::*;

    #[test]
    fn a_body_comes_in_slices_and_marks_when_the_last_was_taken() {
        let bytes = Bytes::from(vec![7; SLICE * 2 + 5]);
        let (mut body, acceptance) = OutgoingBody::new(bytes.clone(), Clock::start());
        let again = body.clone();
        let mut lengths = Vec::new();
        let mut progress = acceptance.progress();
        assert_eq!(progress, Nanos::ZERO);
        while let Some(frame) = body.frame().now_or_never().unwrap() {
            assert_eq!(acceptance.at(), None);
            assert!(acceptance.progress() >= progress && acceptance.progress() > Nanos::ZERO);
            progress = acceptance.progress();
            lengths.push(frame.unwrap().into_data().unwrap().len());
        }
        assert_eq!(lengths, [SLICE, SLICE, 5]);
        drop(body);
        assert!(acceptance.at().is_some());
        assert_eq!(again.collect().now_or_never().unwrap().unwrap().to_bytes(), bytes);
    }

    #[test]
    fn what_was_given_up_half_way_was_not_accepted() {
        let (mut body, acceptance) =
            OutgoingBody::new(Bytes::from(vec![7; SLICE * 2]), Clock::start());
        body.frame().now_or_never().unwrap().unwrap().unwrap();
        drop(body);
        assert_eq!(acceptance.at(), None);
        let (body, acceptance) = OutgoingBody::new(Bytes::new(), Clock::start());
        assert!(body.is_end_stream());
        drop(body);
        assert_eq!(acceptance.at(), None);
    }
}
