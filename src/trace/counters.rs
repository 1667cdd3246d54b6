//! The running totals of a recording, which every flush carries: what proves that nothing is missing in silence.

use std::fmt;

use serde::Serialize;

use crate::trace::record::{DropReason, Event, Outcome};

/// The running totals. `admitted` is the sum of all others and of the exchanges still open.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, bincode::Encode, bincode::Decode,
)]
pub struct Counters {
    /// Exchanges whose request head was read.
    pub admitted: u64,
    /// Of these, ended complete.
    pub complete: u64,
    /// Of these, ended failed.
    pub failed: u64,
    /// Of these, ended cancelled.
    pub cancelled: u64,
    /// Of these, left out on purpose: by sampling, a filter or a cut.
    pub sampled_out: u64,
    /// Of these, dropped whole for [`DropReason::QueueFull`].
    pub dropped_queue_full: u64,
    /// Of these, dropped whole for [`DropReason::RecorderStopped`].
    pub dropped_recorder_stopped: u64,
    /// Of these, dropped whole for [`DropReason::WriteFailed`].
    pub dropped_write_failed: u64,
    /// Of these, dropped whole for [`DropReason::Damaged`].
    pub dropped_damaged: u64,
}

// === impl Counters ===

impl Counters {
    /// Takes an event into account: the only way in which the totals change.
    pub fn count(&mut self, event: &Event) {
        match event {
            event if event.is_request_head() => self.admitted += 1,
            Event::End(end) => match end.outcome {
                Outcome::Complete => self.complete += 1,
                Outcome::Failed => self.failed += 1,
                Outcome::Cancelled => self.cancelled += 1,
            },
            Event::Gap(gap) => {
                self.admitted += gap.exchanges;
                *match gap.reason {
                    DropReason::QueueFull => &mut self.dropped_queue_full,
                    DropReason::RecorderStopped => &mut self.dropped_recorder_stopped,
                    DropReason::WriteFailed => &mut self.dropped_write_failed,
                    DropReason::Damaged => &mut self.dropped_damaged,
                } += gap.exchanges;
            }
            Event::Omission(omission) => {
                self.admitted += omission.exchanges;
                self.sampled_out += omission.exchanges;
            }
            Event::Link(_)
            | Event::Interim(_)
            | Event::Response(_)
            | Event::Packed(_)
            | Event::Request(_)
            | Event::Frame(_)
            | Event::Bare(_)
            | Event::Trailers(_)
            | Event::Prompt(_) => {}
        }
    }

    /// Returns the exchanges dropped whole, for any reason.
    #[must_use]
    pub const fn dropped(&self) -> u64 {
        self.dropped_queue_full
            + self.dropped_recorder_stopped
            + self.dropped_write_failed
            + self.dropped_damaged
    }

    /// Returns the exchanges that had not ended: admitted less all outcomes. None when the outcomes exceed the
    /// admitted, which breaks the conservation law.
    #[must_use]
    pub const fn open(&self) -> Option<u64> {
        self.admitted.checked_sub(
            self.complete + self.failed + self.cancelled + self.sampled_out + self.dropped(),
        )
    }
}

impl fmt::Display for Counters {
    /// Writes the conservation law as it stands; `?` where it is broken.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { admitted, complete, failed, cancelled, sampled_out, .. } = self;
        write!(
            f,
            "{admitted} admitted = {complete} complete + {failed} failed + {cancelled} cancelled + {sampled_out} sampled out + {} \
             dropped + ",
            self.dropped()
        )?;
        match self.open() {
            Some(open) => write!(f, "{open} open"),
            None => f.write_str("? open"),
        }
    }
}
