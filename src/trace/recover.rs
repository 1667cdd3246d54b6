//! Writes what can be read of a damaged or unfinished trace to a new, closed one.
//!
//! Exchanges whose request head is lost are left out. What is missing is stated in the new trace, so that it verifies: a
//! gap counts the exchanges and frames, and each end the bytes, that the damage took.

use std::collections::BTreeMap;
use std::path::Path;

use crate::clock::Nanos;
use crate::trace::batch::Loss;
use crate::trace::reader::{Trace, TraceError};
use crate::trace::record::{
    Counters, DropReason, End, Event, ExchangeId, Gap, Header, Passed, Side,
};
use crate::trace::writer::{FLUSH_EVERY, Summary, WriteError, Writer, WriterOptions};

/// What was recovered, and what was not.
#[derive(Clone, Debug)]
pub struct Recovered {
    /// The new trace.
    pub summary: Summary,
    /// What is missing in the old files, and where.
    pub losses: Vec<Loss>,
    /// Exchanges that ended in the old trace by its counters, and are not in the new one.
    pub lost_exchanges: u64,
    /// Of these, left out since their request head is lost.
    pub headless: u64,
    /// Frames of kept exchanges that are lost.
    pub lost_frames: u64,
    /// Bytes of these.
    pub lost_bytes: u64,
    /// Exchanges that are kept without an end.
    pub open: u64,
}

/// Why nothing could be recovered.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// The old trace can't be read.
    #[error(transparent)]
    Read(#[from] TraceError),
    /// The new trace can't be written.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// Bytes and frames of a side that the new trace holds.
#[derive(Clone, Copy, Debug, Default)]
struct Held {
    bytes: u64,
    frames: u64,
}

/// Recovers `trace` to `path`.
///
/// # Errors
/// A file can't be read, or `path` exists or can't be written.
pub fn recover(trace: &Trace, path: &Path) -> Result<Recovered, RecoverError> {
    let header = Header { segment: 0, ..trace.header().clone() };
    let mut writer = Writer::create(path, header, WriterOptions::default())?;
    let mut scan = trace.scan()?;
    let mut open: BTreeMap<ExchangeId, [Held; 2]> = BTreeMap::new();
    let mut headless = std::collections::BTreeSet::new();
    let (mut lost_frames, mut lost_bytes) = (0, 0);
    let (mut last, mut flushed) = (Nanos::ZERO, Nanos::ZERO);
    for event in scan.by_ref() {
        let mut event = event?;
        last = last.max(event.at());
        if let Some(id) = event.exchange() {
            if let Event::Request(_) = event {
                open.entry(id).or_default();
            }
            let Some(held) = open.get_mut(&id) else {
                headless.insert(id);
                continue;
            };
            match &mut event {
                Event::Frame(frame) => {
                    let side = &mut held[usize::from(frame.side == Side::Response)];
                    side.bytes += frame.data.len() as u64;
                    side.frames += 1;
                }
                Event::End(end) => {
                    let (frames, bytes) = state_losses(end, *held);
                    lost_frames += frames;
                    lost_bytes += bytes;
                    open.remove(&id);
                }
                _ => {}
            }
        }
        if last >= flushed + FLUSH_EVERY {
            flushed = last;
            writer.flush(last)?;
        }
        writer.append(event)?;
    }
    let lost_exchanges =
        trace.health().counters.admitted.saturating_sub(writer.counters().admitted);
    if lost_exchanges > 0 || lost_frames > 0 {
        writer.append(Event::Gap(Gap {
            from: Nanos::ZERO,
            until: last,
            reason: DropReason::WriteFailed,
            exchanges: lost_exchanges,
            frames: lost_frames,
            bytes: lost_bytes,
        }))?;
    }
    let mut losses = trace.health().losses.clone();
    losses
        .extend(scan.losses().iter().filter(|loss| !trace.health().losses.contains(loss)).cloned());
    Ok(Recovered {
        summary: writer.finish()?,
        losses,
        lost_exchanges,
        headless: headless.len() as u64,
        lost_frames,
        lost_bytes,
        open: open.len() as u64,
    })
}

/// Corrects what an end says was lost to what is not held, and returns the frames and bytes that are newly so.
fn state_losses(end: &mut End, held: [Held; 2]) -> (u64, u64) {
    let mut newly = (0, 0);
    for (passed, held) in [&mut end.request, &mut end.response].into_iter().zip(held) {
        let before: Passed = *passed;
        passed.lost_bytes = before.bytes.saturating_sub(held.bytes);
        passed.lost_frames = before.frames.saturating_sub(held.frames);
        newly.0 += passed.lost_frames.saturating_sub(before.lost_frames);
        newly.1 += passed.lost_bytes.saturating_sub(before.lost_bytes);
    }
    newly
}

// === impl Recovered ===

impl Recovered {
    /// Returns whether something that was recorded, or may have been, is not in the new trace.
    #[must_use]
    pub fn is_lossy(&self) -> bool {
        !self.losses.is_empty() || self.lost_exchanges > 0 || self.lost_frames > 0
    }

    /// Returns the counters of the new trace.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.summary.counters
    }
}
