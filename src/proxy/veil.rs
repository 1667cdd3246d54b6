//! A log behind a policy: what it does not let into a trace never reaches the disk.
//!
//! It works on the recorder's thread. What is held, since what follows decides it, is appended when that has come.

use std::collections::VecDeque;
use std::time::Duration;

use crate::clock::Nanos;
use crate::privacy;
use crate::proxy::log::{Appended, Log, Strain};
use crate::trace::record::{Counters, DropReason, Event, FrameRef, Gap};
use crate::trace::{Frames, Lost};

/// A log that gets what a policy leaves of events.
#[derive(Debug)]
pub struct Veil<L> {
    log: L,
    veil: privacy::Veil,
    /// What is decided, and not appended yet, since the log could not be written.
    ready: VecDeque<Event>,
    /// What a panic took: the ends of exchanges are to say so.
    lost: Lost,
    lost_for_good: Frames,
    /// Of that, what no gap tells yet.
    untold: Frames,
}

// === impl Veil ===

impl<L: Log> Veil<L> {
    /// Puts `veil` before `log`.
    pub fn new(log: L, veil: privacy::Veil) -> Self {
        Self {
            log,
            veil,
            ready: VecDeque::new(),
            lost: Lost::default(),
            lost_for_good: Frames::default(),
            untold: Frames::default(),
        }
    }

    /// Appends what is decided; tells what became of the last.
    fn append_ready(&mut self) -> Result<Appended, L::Error> {
        let mut appended = Appended::Taken;
        while let Some(mut event) = self.ready.pop_front() {
            self.lost.state(&mut event);
            appended = self.log.append(event)?;
        }
        Ok(appended)
    }
}

impl<L: Log> Log for Veil<L> {
    type Summary = L::Summary;
    type Error = L::Error;

    fn append(&mut self, event: Event) -> Result<Appended, L::Error> {
        if self.veil.is_open() {
            return self.log.append(event);
        }
        self.veil.event(event, &mut self.ready);
        self.append_ready()
    }

    fn append_frame(&mut self, frame: FrameRef<'_>) -> Result<Appended, L::Error> {
        if self.veil.is_open() {
            return self.log.append_frame(frame);
        }
        self.veil.frame(frame, &mut self.ready);
        self.append_ready()
    }

    fn flush(&mut self, now: Nanos) -> Result<(), L::Error> {
        self.log.flush(now)
    }

    fn is_due(&self, now: Nanos) -> bool {
        self.log.is_due(now)
    }

    fn resume(&mut self, now: Nanos) -> Result<(), L::Error> {
        self.log.resume(now)?;
        let Frames { count: frames, bytes } = std::mem::take(&mut self.untold);
        if frames > 0 {
            let reason = DropReason::RecorderStopped;
            let gap = Gap { from: now, until: now, reason, exchanges: 0, frames, bytes };
            self.ready.push_back(Event::Gap(gap));
        }
        self.append_ready().map(|_| ())
    }

    fn give_up(&mut self) {
        // What a panic left half done may be anything, so nothing of it is told. What is ready is whole.
        let lost = self.veil.forget();
        let Frames { count, bytes } = lost.sum();
        for frames in [&mut self.lost_for_good, &mut self.untold] {
            frames.count += count;
            frames.bytes += bytes;
        }
        self.lost.extend(lost);
        self.log.give_up();
    }

    fn strain(&mut self, strain: Strain) {
        self.log.strain(strain);
    }

    fn counters(&self) -> Counters {
        self.log.counters()
    }

    fn lost(&self) -> Frames {
        let (ours, theirs) = (self.lost_for_good, self.log.lost());
        Frames { count: ours.count + theirs.count, bytes: ours.bytes + theirs.bytes }
    }

    fn undecided(&self) -> u64 {
        self.log.undecided()
    }

    fn written_bytes(&self) -> u64 {
        self.log.written_bytes()
    }

    fn take_syncs(&mut self) -> Vec<Duration> {
        self.log.take_syncs()
    }

    fn finish(mut self, now: Nanos) -> Result<L::Summary, L::Error> {
        self.veil.finish(&mut self.ready);
        // What the log refuses now, its own `finish` says.
        let _refused = self.append_ready();
        self.log.finish(now)
    }
}
