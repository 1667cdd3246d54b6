//! What a check has counted of an exchange that has not ended.

use crate::clock::Nanos;
use crate::trace::cause::{Amount, Cause};
use crate::trace::finding::{Finding, FindingKind};
use crate::trace::ids::Ids;
use crate::trace::record::{BareFrame, End, ExchangeId, Frame, Passed, Side};
use crate::trace::unwritten::Frames;

/// What an exchange has shown so far.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// When its request head was read; none before it is met.
    pub(crate) begun: Option<Nanos>,
    sides: [SideTally; 2],
}

#[derive(Debug, Default)]
struct SideTally {
    bytes: u64,
    frames: u64,
    /// Frames without their bytes, and how many these were.
    bare: Frames,
    last: Nanos,
    backwards: bool,
}

// === impl Tally ===

impl Tally {
    /// Takes a frame into account, and returns what is wrong with its stamps: once for each side.
    pub(crate) fn frame(&mut self, frame: &Frame) -> Option<Finding> {
        let side = self.side(frame.side);
        side.frames += 1;
        side.bytes += frame.data.len() as u64;
        side.stamps(frame.at, frame.accepted)
            .then(|| backwards(frame.exchange, frame.side, frame.at))
    }

    /// As [`Self::frame`], for one without its bytes.
    pub(crate) fn bare(&mut self, frame: &BareFrame) -> Option<Finding> {
        let side = self.side(frame.side);
        side.bare.add(Frames { count: 1, bytes: frame.len });
        side.stamps(frame.at, frame.accepted)
            .then(|| backwards(frame.exchange, frame.side, frame.at))
    }

    fn side(&mut self, side: Side) -> &mut SideTally {
        &mut self.sides[usize::from(side == Side::Response)]
    }

    /// Returns what does not fit the totals of an end.
    pub(crate) fn totals(&self, end: &End, cause: Cause) -> Vec<Finding> {
        let mut findings = Vec::new();
        let sides = [(&end.request, "request"), (&end.response, "response")];
        for (held, (passed, side)) in self.sides.iter().zip(sides) {
            let Passed { bytes, frames, lost_bytes, lost_frames, .. } = *passed;
            let Frames { count, bytes: bare_bytes } = held.bare;
            if count > lost_frames || bare_bytes > lost_bytes {
                let text = format!(
                    "had {lost_bytes} bytes in {lost_frames} frames of {side} body lost, but the trace has the times of \
                     {bare_bytes} in {count} of these"
                );
                findings.push(Finding::of(FindingKind::Totals, cause, end.exchange, &text));
            }
            if held.bytes.checked_add(lost_bytes) == Some(bytes)
                && held.frames.checked_add(lost_frames) == Some(frames)
            {
                continue;
            }
            let text = format!(
                "had {bytes} bytes in {frames} frames of {side} body pass and {lost_bytes} in {lost_frames} lost, \
                 but the trace holds {} in {}",
                held.bytes, held.frames
            );
            let lost = Amount {
                frames: frames.saturating_sub(lost_frames).saturating_sub(held.frames),
                bytes: bytes.saturating_sub(lost_bytes).saturating_sub(held.bytes),
                ..Amount::default()
            };
            let mut incomplete = Ids::default();
            incomplete.add(end.exchange);
            let finding = Finding::of(FindingKind::Totals, cause, end.exchange, &text);
            findings.push(Finding { until_ns: Some(end.at), lost, incomplete, ..finding });
        }
        findings
    }
}

// === impl SideTally ===

impl SideTally {
    /// Returns whether stamps run backwards that did not before.
    fn stamps(&mut self, at: Nanos, accepted: Nanos) -> bool {
        let backwards = at < self.last || accepted < at;
        self.last = self.last.max(at);
        backwards && !std::mem::replace(&mut self.backwards, true)
    }
}

fn backwards(exchange: ExchangeId, side: Side, at: Nanos) -> Finding {
    let text = format!("has stamps that run backwards at {at} ({side:?} side)");
    Finding::of(FindingKind::Stamps, Cause::Contradiction, exchange, &text)
}
