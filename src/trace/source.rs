//! A trace that is read in order to write another: its events, with an account of what of it can't be read.

use crate::clock::Nanos;
use crate::trace::error::TraceError;
use crate::trace::reader::Trace;
use crate::trace::record::{Counters, Event};
use crate::trace::scan::Scan;

/// Reads every event of a trace once, in flat memory.
#[derive(Debug)]
pub(crate) struct Source<'a> {
    trace: &'a Trace,
    pub(crate) scan: Scan,
    /// Of each file in order.
    pub(crate) census: Vec<Census>,
    /// The latest time of an event so far.
    pub(crate) latest: Nanos,
    /// When what can't be read was, as far as it is known.
    hole: Option<(Nanos, Nanos)>,
    /// Losses that are in the hole.
    met: usize,
}

/// What there is of a file.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Census {
    /// Exchanges whose request head is there.
    pub(crate) exchanges: u64,
    /// Everything that its events add up to.
    pub(crate) counted: Counters,
}

// === impl Source ===

impl<'a> Source<'a> {
    /// Begins to read `trace`.
    pub(crate) fn new(trace: &'a Trace) -> Result<Self, TraceError> {
        Ok(Self {
            trace,
            scan: trace.scan()?,
            census: vec![Census::default(); trace.files().count()],
            latest: Nanos::ZERO,
            hole: None,
            met: 0,
        })
    }

    /// Returns the next event; none at the end.
    pub(crate) fn next(&mut self) -> Result<Option<Event>, TraceError> {
        let event = self.scan.next().transpose()?;
        if self.scan.losses().len() > self.met {
            self.met = self.scan.losses().len();
            let until = event.as_ref().map_or(self.latest, Event::at).max(self.latest);
            let (from, _) = *self.hole.get_or_insert((self.latest, until));
            self.hole = Some((from, until));
        }
        let Some(event) = event else { return Ok(None) };
        self.latest = self.latest.max(event.at());
        let file = &mut self.census[self.scan.segment()];
        file.counted.count(&event);
        file.exchanges += u64::from(matches!(event, Event::Request(_)));
        Ok(Some(event))
    }

    /// Returns when what can't be read was: from the last event before to the first after it, if that is known, else the
    /// whole time.
    pub(crate) fn hole(&self) -> (Nanos, Nanos) {
        self.hole.unwrap_or((Nanos::ZERO, self.latest))
    }

    /// Returns how many exchanges were admitted in these files, and in those between them, but not before the first.
    pub(crate) fn admitted(&self) -> u64 {
        let last = self.trace.files().last().map_or(0, |file| file.counters.admitted);
        let first = self.trace.files().next().filter(|file| file.segment > 0);
        let before = first.zip(self.census.first()).map_or(0, |(file, census)| {
            file.counters.admitted.saturating_sub(census.counted.admitted)
        });
        last.saturating_sub(before)
    }

    /// Returns how many exchanges the counters know of that are neither there nor stated as missing.
    pub(crate) fn lost_exchanges(&self) -> u64 {
        let known: u64 = self.census.iter().map(|census| census.counted.admitted).sum();
        self.admitted().saturating_sub(known)
    }
}
