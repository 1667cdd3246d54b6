//! What is known of an exchange while it is under way, and what became of it in the end.

use crate::clock::Nanos;
use crate::trace::record::{Fault, FaultKind, FaultSide, Outcome, Passed};

/// What is known so far.
#[derive(Default)]
pub(super) struct Story {
    pub(super) request: Passed,
    pub(super) response: Passed,
    pub(super) is_linked: bool,
    /// Why there was no response from the upstream, or why it broke off.
    pub(super) fault: Option<Fault>,
    /// How the request body failed, which is the client's doing.
    pub(super) upload_fault: Option<Fault>,
    pub(super) last_end: Nanos,
}

// === impl Story ===

impl Story {
    /// Returns what became of the exchange, and why.
    pub(super) fn outcome(
        &mut self,
        is_stopping: bool,
        is_stalled: bool,
    ) -> (Outcome, Option<Fault>) {
        let client =
            |kind, text: &str| Fault { side: FaultSide::Client, kind, text: text.to_owned() };
        match (self.fault.take(), self.upload_fault.take()) {
            (Some(fault), _) if fault.kind == FaultKind::Disconnected => {
                (Outcome::Cancelled, Some(fault))
            }
            (Some(fault), _) => (Outcome::Failed, Some(fault)),
            (None, _) if self.response.ended => (Outcome::Complete, None),
            (None, _) if is_stopping => {
                let text = "the proxy stopped before the response had ended".to_owned();
                let fault = Fault { side: FaultSide::Local, kind: FaultKind::Closed, text };
                (Outcome::Failed, Some(fault))
            }
            (None, _) if is_stalled => {
                let text = "the client took nothing of the response for too long";
                (Outcome::Failed, Some(client(FaultKind::Timeout, text)))
            }
            (None, Some(fault)) if fault.kind == FaultKind::Timeout => {
                (Outcome::Failed, Some(fault))
            }
            (None, Some(fault)) => (Outcome::Cancelled, Some(fault)),
            (None, None) => {
                let text = "the client left before the response had ended";
                (Outcome::Cancelled, Some(client(FaultKind::Disconnected, text)))
            }
        }
    }
}
