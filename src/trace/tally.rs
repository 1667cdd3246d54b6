//! What a check has counted of an exchange that has not ended.

use crate::clock::Nanos;
use crate::trace::cause::{Amount, Cause};
use crate::trace::finding::{Finding, FindingKind};
use crate::trace::ids::Ids;
use crate::trace::record::{End, Frame, Passed, Side};

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
    last: Nanos,
    backwards: bool,
}

// === impl Tally ===

impl Tally {
    /// Takes a frame into account, and returns what is wrong with its stamps: once for each side.
    pub(crate) fn frame(&mut self, frame: &Frame) -> Option<Finding> {
        let side = &mut self.sides[usize::from(frame.side == Side::Response)];
        side.frames += 1;
        side.bytes += frame.data.len() as u64;
        let backwards = frame.at < side.last || frame.accepted < frame.at;
        side.last = side.last.max(frame.at);
        if !backwards || std::mem::replace(&mut side.backwards, true) {
            return None;
        }
        let text = format!("has stamps that run backwards at {} ({:?} side)", frame.at, frame.side);
        Some(Finding::of(FindingKind::Stamps, Cause::Contradiction, frame.exchange, &text))
    }

    /// Returns what does not fit the totals of an end.
    pub(crate) fn totals(&self, end: &End, cause: Cause) -> Vec<Finding> {
        let mut findings = Vec::new();
        let sides = [(&end.request, "request"), (&end.response, "response")];
        for (held, (passed, side)) in self.sides.iter().zip(sides) {
            let Passed { bytes, frames, lost_bytes, lost_frames, .. } = *passed;
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
