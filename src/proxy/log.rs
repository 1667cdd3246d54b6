//! What the recorder writes to: a trace, or a stand-in for one.

use std::error::Error;
use std::time::Duration;

use crate::clock::Nanos;
use crate::trace::record::{Counters, Event, FramesRef};
use crate::trace::{Frames, Pressure, Roll, Rolled, WriteError};

/// An append-only log of events.
pub trait Log: Send {
    /// What is known of it when it is finished.
    type Summary: Send + 'static;
    /// Why it can't be written.
    type Error: Error + Send + Sync + 'static;

    /// Takes an event.
    ///
    /// # Errors
    /// The log can't be written now: append nothing more, and [`Self::resume`]. The event was taken.
    fn append(&mut self, event: Event) -> Result<Appended, Self::Error>;

    /// Takes body frames, as [`Self::append`] does: all of them, also after an error.
    ///
    /// # Errors
    /// The log can't be written any more.
    fn append_frames(&mut self, frames: FramesRef<'_>) -> Result<Appended, Self::Error> {
        let mut appended = Ok(Appended::Taken);
        for frame in frames.iter() {
            let one = self.append(Event::Frame(frame.to_frame()));
            appended = appended.and_then(|sum| Ok(sum.and(one?)));
        }
        appended
    }

    /// Hands everything to the disk.
    ///
    /// # Errors
    /// The log can't be written now: append nothing more, and [`Self::resume`].
    fn flush(&mut self, now: Nanos) -> Result<(), Self::Error>;

    /// Returns whether a flush would do something although nothing was appended.
    fn is_due(&self, _now: Nanos) -> bool {
        false
    }

    /// Tries to go on after an error of [`Self::append`] or [`Self::flush`]: what was appended before is not lost yet.
    ///
    /// # Errors
    /// The log can't be written yet.
    fn resume(&mut self, now: Nanos) -> Result<(), Self::Error>;

    /// Lets go of what a panic may have left half done; [`Self::resume`] follows.
    fn give_up(&mut self);

    /// Tells how hard it is to keep up, for a log that can trade size against speed.
    fn strain(&mut self, strain: Strain);

    /// Returns the totals of what was appended.
    fn counters(&self) -> Counters;

    /// Returns the frames that were appended and are lost all the same.
    fn lost(&self) -> Frames {
        Frames::default()
    }

    /// Returns the exchanges that were taken although it was not known yet whether they are wanted.
    fn undecided(&self) -> u64 {
        0
    }

    /// Returns the bytes on disk.
    fn written_bytes(&self) -> u64;

    /// Takes out how long each fsync took since the last call.
    fn take_syncs(&mut self) -> Vec<Duration> {
        Vec::new()
    }

    /// Closes it.
    ///
    /// # Errors
    /// Not all of it could be written.
    fn finish(self, now: Nanos) -> Result<Self::Summary, Self::Error>;
}

/// How hard it is for a log to keep up. Shares are of one, and more than one is no more than one.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Strain {
    /// Of the queue's budget, how much is in use.
    pub queue: f32,
    /// Of a CPU's time, how much the log takes.
    pub busy: f32,
}

/// What became of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    /// They are in the log.
    Taken,
    /// Some do not fit into the log, which is otherwise as good as before.
    LeftOut {
        /// Their bytes.
        bytes: usize,
    },
}

// === impl Strain ===

impl Strain {
    /// Returns the pressure that a log is under which was under `before`. Compressing well may not cost the traffic its CPU,
    /// long before the queue fills. And that it costs little while it compresses less is no reason to compress well again:
    /// not before it costs half of what was too much.
    fn pressure(self, before: Pressure) -> Pressure {
        let exceeds = |pressure: Pressure, queue: f32, busy: f32| {
            let share = if before >= pressure { 0.5 } else { 1.0 };
            self.queue >= queue * share || self.busy >= busy * share
        };
        if exceeds(Pressure::High, 0.5, 0.25) {
            Pressure::High
        } else if exceeds(Pressure::Some, 0.125, 0.125) {
            Pressure::Some
        } else {
            Pressure::None
        }
    }
}

// === impl Appended ===

impl Appended {
    /// Returns what became of these events and others.
    #[must_use]
    pub fn and(self, others: Self) -> Self {
        match (self, others) {
            (Self::Taken, all) | (all, Self::Taken) => all,
            (Self::LeftOut { bytes: some }, Self::LeftOut { bytes: more }) => {
                Self::LeftOut { bytes: some.saturating_add(more) }
            }
        }
    }
}

// === impl Log for Roll ===

impl Log for Roll {
    type Summary = Rolled;
    type Error = WriteError;

    fn append(&mut self, event: Event) -> Result<Appended, WriteError> {
        match Self::append(self, event) {
            Ok(()) => Ok(Appended::Taken),
            Err(WriteError::TooLarge { bytes, .. }) => Ok(Appended::LeftOut { bytes }),
            Err(error) => Err(error),
        }
    }

    fn append_frames(&mut self, frames: FramesRef<'_>) -> Result<Appended, WriteError> {
        Self::append_frames(self, frames).map(|()| Appended::Taken)
    }

    fn flush(&mut self, now: Nanos) -> Result<(), WriteError> {
        Self::flush(self, now)
    }

    fn is_due(&self, now: Nanos) -> bool {
        Self::is_due(self, now)
    }

    fn resume(&mut self, now: Nanos) -> Result<(), WriteError> {
        Self::resume(self, now)
    }

    fn give_up(&mut self) {
        Self::give_up(self);
    }

    fn strain(&mut self, strain: Strain) {
        self.set_pressure(strain.pressure(self.pressure()));
    }

    fn counters(&self) -> Counters {
        Self::counters(self)
    }

    fn lost(&self) -> Frames {
        Self::lost(self)
    }

    fn written_bytes(&self) -> u64 {
        Self::written_bytes(self)
    }

    fn take_syncs(&mut self) -> Vec<Duration> {
        Self::take_syncs(self)
    }

    fn finish(self, now: Nanos) -> Result<Rolled, WriteError> {
        Self::finish(self, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pressure_ends_when_the_log_takes_half_of_what_began_it() {
        let check = |queue: f32, busy: f32, after: [Pressure; 3]| {
            let before = [Pressure::None, Pressure::Some, Pressure::High];
            let strain = Strain { queue, busy };
            assert_eq!(before.map(|before| strain.pressure(before)), after, "{strain:?}");
        };
        let [none, some, high] = [Pressure::None, Pressure::Some, Pressure::High];
        check(0.0, 0.0, [none, none, none]);
        check(0.0, 0.06, [none, none, none]);
        check(0.0, 0.07, [none, some, some]);
        check(0.0, 0.12, [none, some, some]);
        check(0.0, 0.13, [some, some, high]);
        check(0.0, 0.25, [high, high, high]);
        check(0.07, 0.0, [none, some, some]);
        check(0.2, 0.0, [some, some, some]);
        check(0.3, 0.0, [some, some, high]);
        check(0.5, 0.0, [high, high, high]);
    }

    #[test]
    fn what_is_left_out_is_summed() {
        let left_out = |bytes| Appended::LeftOut { bytes };
        let check = |events: &[Appended], sum| {
            assert_eq!(events.iter().copied().fold(Appended::Taken, Appended::and), sum);
        };
        check(&[], Appended::Taken);
        check(&[Appended::Taken, Appended::Taken], Appended::Taken);
        check(&[left_out(2), Appended::Taken], left_out(2));
        check(&[left_out(2), Appended::Taken, left_out(3)], left_out(5));
    }
}
