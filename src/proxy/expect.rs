//! `Expect: 100-continue`: the upstream decides whether the client is to send its body.
//!
//! hyper's server says `100 Continue` as soon as the request body is first polled, and hyper's client polls it as soon as
//! the request head has left. [`Gate`] stands between the two: it opens when the upstream says `100 Continue`, or after
//! a while, for an upstream that ignores `Expect` (RFC 9110, 10.1.1 has the client wait no longer either).

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use http::HeaderMap;
use http::header::EXPECT;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::time::Sleep;

/// Whether a request body may be asked for. Clones are the same gate.
#[derive(Clone, Default)]
pub(super) struct Gate(Arc<State>);

#[derive(Default)]
struct State {
    is_open: AtomicBool,
    waker: AtomicWaker,
}

pin_project! {
    /// A body that is not polled before its gate opens; without a gate it is open.
    pub(super) struct Gated<B> {
        #[pin]
        inner: B,
        gate: Option<Gate>,
        // Boxed: few requests have one.
        patience: Option<Pin<Box<Sleep>>>,
    }
}

/// How long an upstream may keep silent before the body is sent all the same.
const PATIENCE: Duration = Duration::from_secs(1);

/// Returns whether a request waits for `100 Continue`.
pub(super) fn is_asked(headers: &HeaderMap) -> bool {
    headers.get(EXPECT).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

// === impl Gate ===

impl Gate {
    pub(super) fn open(&self) {
        self.0.is_open.store(true, Ordering::Release);
        self.0.waker.wake();
    }

    fn poll_open(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.0.waker.register(cx.waker());
        if self.0.is_open.load(Ordering::Acquire) { Poll::Ready(()) } else { Poll::Pending }
    }
}

// === impl Gated ===

impl<B> Gated<B> {
    pub(super) fn new(inner: B, gate: Option<Gate>) -> Self {
        let patience = gate.as_ref().map(|_| Box::pin(tokio::time::sleep(PATIENCE)));
        Self { inner, gate, patience }
    }
}

impl<B: Body<Data = Bytes>> Body for Gated<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.project();
        if let Some(gate) = this.gate {
            let is_late =
                this.patience.as_mut().is_some_and(|sleep| sleep.as_mut().poll(cx).is_ready());
            if gate.poll_open(cx).is_pending() && !is_late {
                return Poll::Pending;
            }
            *this.gate = None;
            *this.patience = None;
        }
        this.inner.poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, Full};

    use super::*;

    fn body() -> Full<Bytes> {
        Full::new(Bytes::from("body"))
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_waits_for_its_gate() {
        let clock = crate::clock::Clock::start();
        let gate = Gate::default();
        let gated = Gated::new(body(), Some(gate.clone()));
        let opener = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(300)).await;
            gate.open();
        });
        assert_eq!(gated.collect().await.unwrap().to_bytes(), "body");
        assert_eq!(clock.now().0, 300_000_000);
        opener.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_gate_that_nobody_opens_gives_way() {
        let clock = crate::clock::Clock::start();
        let gated = Gated::new(body(), Some(Gate::default()));
        assert_eq!(gated.collect().await.unwrap().to_bytes(), "body");
        assert!(clock.now().since(crate::clock::Nanos::ZERO) >= PATIENCE);
    }
}
