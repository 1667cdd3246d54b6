//! What the recorder writes to: a trace, or a stand-in for one.

use std::error::Error;

use crate::clock::Nanos;
use crate::trace::record::{Counters, Event};
use crate::trace::{Pressure, Summary, WriteError, Writer};

/// An append-only log of events.
pub trait Log: Send {
    /// What is known of it when it is finished.
    type Summary: Send + 'static;
    /// Why it can't be written.
    type Error: Error + Send + Sync + 'static;

    /// Takes an event.
    ///
    /// # Errors
    /// The log can't be written any more.
    fn append(&mut self, event: Event) -> Result<Appended, Self::Error>;

    /// Hands everything to the disk.
    ///
    /// # Errors
    /// The log can't be written any more.
    fn flush(&mut self, now: Nanos) -> Result<(), Self::Error>;

    /// Tells how full the queue is, for a log that can trade size against speed.
    fn backlog(&mut self, queued_bytes: usize, budget_bytes: usize);

    /// Returns the totals of what was appended.
    fn counters(&self) -> Counters;

    /// Returns the bytes on disk.
    fn written_bytes(&self) -> u64;

    /// Closes it.
    ///
    /// # Errors
    /// The log can't be written any more.
    fn finish(self) -> Result<Self::Summary, Self::Error>;
}

/// What became of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    /// It is in the log.
    Taken,
    /// It does not fit into the log, which is otherwise as good as before.
    LeftOut,
}

// === impl Log for Writer ===

impl Log for Writer {
    type Summary = Summary;
    type Error = WriteError;

    fn append(&mut self, event: Event) -> Result<Appended, WriteError> {
        match Self::append(self, event) {
            Ok(()) => Ok(Appended::Taken),
            Err(WriteError::TooLarge { .. }) => Ok(Appended::LeftOut),
            Err(error) => Err(error),
        }
    }

    fn flush(&mut self, now: Nanos) -> Result<(), WriteError> {
        Self::flush(self, now)
    }

    fn backlog(&mut self, queued_bytes: usize, budget_bytes: usize) {
        self.set_pressure(if queued_bytes >= budget_bytes / 2 {
            Pressure::High
        } else if queued_bytes >= budget_bytes / 8 {
            Pressure::Some
        } else {
            Pressure::None
        });
    }

    fn counters(&self) -> Counters {
        Self::counters(self)
    }

    fn written_bytes(&self) -> u64 {
        Self::written_bytes(self)
    }

    fn finish(self) -> Result<Summary, WriteError> {
        Self::finish(self)
    }
}
