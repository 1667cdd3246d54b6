//! Writes a part of a trace to a new one: whole exchanges, by when they began, by number, or one by one.
//!
//! What is left out is stated: an omission counts the exchanges, and those of gaps and omissions outside of the selected
//! time. So the new trace has as many admitted exchanges as the old one. It keeps the id of the trace and the numbers of
//! the exchanges, and [`merge`](crate::trace::merge()) puts parts of one trace together again.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use crate::clock::Nanos;
use crate::trace::cause::Amount;
use crate::trace::error::TraceError;
use crate::trace::ids::Ids;
use crate::trace::mend::{Copier, Destination, Mender};
use crate::trace::reader::Trace;
use crate::trace::record::{Event, ExchangeId, Gap, Header, Omission, OmitReason, RequestHead};
use crate::trace::source::Source;
use crate::trace::writer::{Summary, WriteError};

/// Which exchanges of a trace are meant: those for which all of this holds.
#[derive(Clone, Debug)]
pub struct Selection {
    /// The earliest time of the request head.
    pub from: Nanos,
    /// The time from which on it is too late.
    pub until: Nanos,
    /// The numbers.
    pub ids: RangeInclusive<u64>,
    /// Those chosen one by one; none chooses all.
    pub chosen: Option<BTreeSet<ExchangeId>>,
}

/// What a cut came to.
#[derive(Clone, Debug)]
pub struct CutOut {
    /// The new trace.
    pub summary: Summary,
    /// What was left out on purpose.
    pub omitted: Amount,
    /// What can't be read of the old trace, and might have been selected.
    pub lost: Amount,
    /// Selected exchanges of which a part can't be read.
    pub incomplete: Ids,
}

/// Why a trace could not be cut.
#[derive(Debug, thiserror::Error)]
pub enum CutError {
    /// The old trace can't be read.
    #[error(transparent)]
    Read(#[from] TraceError),
    /// The new trace can't be written.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// A cut under way.
#[derive(Debug)]
struct Cutter<'a> {
    selection: &'a Selection,
    /// Exchanges that have not ended: in the selection, and not in it.
    kept: BTreeSet<ExchangeId>,
    left: BTreeSet<ExchangeId>,
    /// When the last exchange that was kept had ended.
    last_end: Nanos,
    omitted: Amount,
    /// When what is left out began, first and last.
    span: Option<(Nanos, Nanos)>,
}

/// Writes what `selection` means of `trace` to `out`.
///
/// # Errors
/// The trace can't be read, or `out` exists or can't be written.
pub fn cut(
    trace: &Trace,
    selection: &Selection,
    out: impl Into<Destination>,
) -> Result<CutOut, CutError> {
    let header = Header { segment: 0, ..trace.header().clone() };
    let mut copier = Copier::create(&out.into(), header)?;
    let mut source = Source::new(trace)?;
    let (mut mender, mut cutter) = (Mender::default(), Cutter::new(selection));
    while let Some(event) = source.next()? {
        if cutter.keeps(&event)
            && let Some(event) = mender.mend(event)
        {
            copier.put(event)?;
        }
    }
    let exchanges = cutter.lost(&source);
    let gap = mender.gap(exchanges, source.hole());
    if let Some(gap) = gap {
        copier.put(Event::Gap(gap))?;
    }
    if let Some(omission) = cutter.omission() {
        copier.put(Event::Omission(omission))?;
    }
    Ok(CutOut {
        summary: copier.finish()?,
        omitted: cutter.omitted,
        lost: Amount { exchanges, ..mender.lost },
        incomplete: mender.incomplete,
    })
}

// === impl Selection ===

impl Selection {
    /// Selects everything.
    #[must_use]
    pub fn all() -> Self {
        Self { from: Nanos::ZERO, until: Nanos(u64::MAX), ids: 0..=u64::MAX, chosen: None }
    }

    /// Returns whether the exchange that begins with `head` is meant.
    #[must_use]
    pub fn holds(&self, head: &RequestHead) -> bool {
        (self.from..self.until).contains(&head.at)
            && self.ids.contains(&head.exchange.0)
            && self.chosen.as_ref().is_none_or(|chosen| chosen.contains(&head.exchange))
    }

    /// Returns whether some of the time from `from` to `until` is selected.
    fn meets(&self, from: Nanos, until: Nanos) -> bool {
        from < self.until && until >= self.from
    }
}

// === impl Cutter ===

impl<'a> Cutter<'a> {
    fn new(selection: &'a Selection) -> Self {
        Self {
            selection,
            kept: BTreeSet::new(),
            left: BTreeSet::new(),
            last_end: Nanos::ZERO,
            omitted: Amount::default(),
            span: None,
        }
    }

    /// Decides on an event, and takes account of one that is left out.
    fn keeps(&mut self, event: &Event) -> bool {
        match event {
            Event::Gap(gap) => return self.keeps_gap(gap),
            Event::Omission(omission) => return self.keeps_omission(omission),
            Event::Request(head) if self.selection.holds(head) => {
                self.kept.insert(head.exchange);
                return true;
            }
            Event::Request(head) => {
                self.left.insert(head.exchange);
                self.omit(head.at, head.at, Amount { exchanges: 1, ..Amount::default() });
                return false;
            }
            _ => {}
        }
        let Some(id) = event.exchange() else { return false };
        if self.left.contains(&id) {
            if let Event::Frame(frame) = event {
                let bytes = frame.data.len() as u64;
                self.omitted.add(Amount { frames: 1, bytes, ..Amount::default() });
            }
            if let Event::End(_) = event {
                self.left.remove(&id);
            }
            return false;
        }
        if let Event::End(end) = event {
            self.kept.remove(&id);
            self.last_end = self.last_end.max(end.at);
        }
        // Also what belongs to an exchange whose request head is lost, for the mender to count.
        true
    }

    /// A gap is kept if it tells of the selected time, or of frames that an exchange which is kept may lack.
    fn keeps_gap(&mut self, gap: &Gap) -> bool {
        let may_concern = !self.kept.is_empty() || gap.from <= self.last_end;
        let keeps = self.selection.meets(gap.from, gap.until) || (gap.frames > 0 && may_concern);
        if !keeps {
            let lost = Amount { exchanges: gap.exchanges, ..Amount::default() };
            self.omit(gap.from, gap.until, lost);
        }
        keeps
    }

    /// An omission is kept if it tells of the selected time; one of an earlier cut goes into that of this one.
    fn keeps_omission(&mut self, omission: &Omission) -> bool {
        let Omission { from, until, reason, exchanges, frames, bytes } = *omission;
        let keeps = reason != OmitReason::Cut && self.selection.meets(from, until);
        if !keeps {
            self.omit(from, until, Amount { exchanges, frames, bytes, ..Amount::default() });
        }
        keeps
    }

    fn omit(&mut self, from: Nanos, until: Nanos, what: Amount) {
        self.omitted.add(what);
        let (first, last) = self.span.unwrap_or((from, until));
        self.span = Some((first.min(from), last.max(until)));
    }

    /// Returns how many exchanges are lost that might have been selected; the others are left out with the rest.
    fn lost(&mut self, source: &Source<'_>) -> u64 {
        let exchanges = source.lost_exchanges();
        let (from, until) = source.hole();
        if exchanges == 0 || self.selection.meets(from, until) {
            return exchanges;
        }
        self.omit(from, until, Amount { exchanges, ..Amount::default() });
        0
    }

    fn omission(&self) -> Option<Omission> {
        let Amount { exchanges, frames, bytes, .. } = self.omitted;
        let (from, until) = self.span?;
        let reason = OmitReason::Cut;
        (exchanges > 0).then_some(Omission { from, until, reason, exchanges, frames, bytes })
    }
}
