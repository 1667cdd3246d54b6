//! Makes the events of a trace, which may be damaged, fit to be written to a new one.
//!
//! Exchanges whose request head is lost are left out, and each end is made to say what its exchange really lacks. What the
//! damage took is added up, so that a gap can state it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::clock::Nanos;
use crate::trace::cause::Amount;
use crate::trace::coverage::Coverage;
use crate::trace::envelope::Recipients;
use crate::trace::ids::Ids;
use crate::trace::record::{DropReason, End, Event, ExchangeId, Frame, Gap, Header, Passed, Side};
use crate::trace::unwritten::Frames;
use crate::trace::writer::{FLUSH_EVERY, Summary, WriteError, Writer, WriterOptions};

/// Mends events on their way from a trace to a new one.
#[derive(Debug, Default)]
pub(crate) struct Mender {
    open: BTreeMap<ExchangeId, [Held; 2]>,
    /// Exchanges whose request head is lost.
    pub(crate) headless: Ids,
    /// Exchanges of which a part is lost.
    pub(crate) incomplete: Ids,
    /// Frames and bytes of these; exchanges are not counted here.
    pub(crate) lost: Amount,
    /// What the ends that were written say was lost, and what gaps tell of.
    coverage: Coverage,
}

/// Bytes and frames of a side that the new trace holds.
#[derive(Clone, Copy, Debug, Default)]
struct Held {
    bytes: u64,
    frames: u64,
}

/// Where a new trace goes, and who may read it. A path alone is one that anybody may read.
#[derive(Clone, Debug)]
pub struct Destination {
    /// The file, which must not exist.
    pub path: PathBuf,
    /// To whom it is encrypted, if to anybody.
    pub recipients: Recipients,
}

/// Writes a new trace, with a flush for each [`FLUSH_EVERY`] of its own time, as a recorder makes.
#[derive(Debug)]
pub(crate) struct Copier {
    writer: Writer,
    latest: Nanos,
    flushed: Nanos,
}

// === impl Mender ===

impl Mender {
    /// Returns the event as it can be written; none when it belongs to an exchange whose request head is lost.
    pub(crate) fn mend(&mut self, mut event: Event) -> Option<Event> {
        let Some(id) = event.exchange() else {
            if let Event::Gap(gap) = &event {
                self.coverage.gap(gap);
            }
            return Some(event);
        };
        if let Event::Request(_) = event {
            self.open.entry(id).or_default();
        }
        let Some(held) = self.open.get_mut(&id) else {
            self.headless.add(id);
            return None;
        };
        match &mut event {
            Event::Frame(Frame { side, data, .. }) => {
                let held = &mut held[usize::from(*side == Side::Response)];
                held.bytes += data.len() as u64;
                held.frames += 1;
            }
            Event::End(end) => {
                let newly = state_losses(end, *held);
                self.lost.add(newly);
                self.coverage.end(end);
                if newly.frames > 0 || newly.bytes > 0 {
                    self.incomplete.add(id);
                }
                self.open.remove(&id);
            }
            _ => {}
        }
        Some(event)
    }

    /// Returns the gap that states what is missing, `exchanges` of it whole, and was in the `hole`; none when nothing is. It
    /// also stands for gaps that are missing.
    pub(crate) fn gap(&self, exchanges: u64, (from, until): (Nanos, Nanos)) -> Option<Gap> {
        let Frames { count, bytes } = self.coverage.untold();
        let (frames, bytes) = (self.lost.frames.max(count), self.lost.bytes.max(bytes));
        let reason = DropReason::Damaged;
        (exchanges > 0 || frames > 0 || bytes > 0).then_some(Gap {
            from,
            until,
            reason,
            exchanges,
            frames,
            bytes,
        })
    }

    /// Returns the number of exchanges that have not ended.
    pub(crate) fn open(&self) -> u64 {
        self.open.len() as u64
    }
}

/// Corrects what an end says was lost to what is not held, and returns how much is newly so.
fn state_losses(end: &mut End, held: [Held; 2]) -> Amount {
    let mut newly = Amount::default();
    for (passed, held) in [&mut end.request, &mut end.response].into_iter().zip(held) {
        let before: Passed = *passed;
        passed.lost_bytes = before.bytes.saturating_sub(held.bytes);
        passed.lost_frames = before.frames.saturating_sub(held.frames);
        newly.add(Amount {
            frames: passed.lost_frames.saturating_sub(before.lost_frames),
            bytes: passed.lost_bytes.saturating_sub(before.lost_bytes),
            ..Amount::default()
        });
    }
    newly
}

// === impl Destination ===

impl<P: AsRef<Path> + ?Sized> From<&P> for Destination {
    fn from(path: &P) -> Self {
        Self { path: path.as_ref().to_owned(), recipients: Recipients::default() }
    }
}

// === impl Copier ===

impl Copier {
    /// Begins a trace where there is none.
    pub(crate) fn create(out: &Destination, header: Header) -> Result<Self, WriteError> {
        let recipients = out.recipients.clone();
        let options = WriterOptions { recipients, ..WriterOptions::default() };
        let writer = Writer::create(&out.path, header, options)?;
        Ok(Self { writer, latest: Nanos::ZERO, flushed: Nanos::ZERO })
    }

    /// Writes an event.
    pub(crate) fn put(&mut self, event: Event) -> Result<(), WriteError> {
        self.latest = self.latest.max(event.at());
        if self.latest >= self.flushed + FLUSH_EVERY {
            self.flushed = self.latest;
            self.writer.flush(self.latest)?;
        }
        self.writer.append(event)
    }

    /// Closes the trace.
    pub(crate) fn finish(self) -> Result<Summary, WriteError> {
        self.writer.finish()
    }
}
