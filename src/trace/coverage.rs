//! Whether gaps tell of all that ends say was lost.
//!
//! An end says how much of its exchange is not in the trace, a gap says when that was and why: neither does without the
//! other. A gap may tell of more, since exchanges that a trace does not hold have no end in it.

use crate::trace::record::{End, Gap, Passed};
use crate::trace::unwritten::Frames;

/// Frames that ends say were lost, and frames that gaps tell of.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Coverage {
    pub(crate) stated: Frames,
    pub(crate) told: Frames,
}

// === impl Coverage ===

impl Coverage {
    /// Takes an end into account.
    pub(crate) fn end(&mut self, end: &End) {
        for Passed { lost_frames, lost_bytes, .. } in [end.request, end.response] {
            self.stated.add(Frames { count: lost_frames, bytes: lost_bytes });
        }
    }

    /// Takes a gap into account.
    pub(crate) fn gap(&mut self, gap: &Gap) {
        self.told.add(Frames { count: gap.frames, bytes: gap.bytes });
    }

    /// Returns what no gap tells of.
    pub(crate) fn untold(&self) -> Frames {
        let Self { stated, told } = self;
        Frames {
            count: stated.count.saturating_sub(told.count),
            bytes: stated.bytes.saturating_sub(told.bytes),
        }
    }
}
