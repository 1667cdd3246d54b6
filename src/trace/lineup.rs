//! Traces that are to be merged, side by side: what each recording is, and which numbers its exchanges get.

use std::collections::BTreeMap;

use crate::clock::{Anchor, Nanos};
use crate::trace::cause::{Amount, Cause};
use crate::trace::merge::MergeError;
use crate::trace::reader::Trace;
use crate::trace::record::{Event, ExchangeId, Gap, Header, Omission, OmitReason};
use crate::trace::relabel::Relabel;

/// What is known of one recording, from one trace or several.
#[derive(Debug)]
pub(crate) struct Recording {
    pub(crate) relabel: Relabel,
    /// Of each exchange, which trace it is taken from, and its new number.
    pub(crate) exchanges: BTreeMap<ExchangeId, (usize, ExchangeId)>,
    /// Gaps and omissions that were written, with the trace that had them.
    told: BTreeMap<Told, usize>,
    /// What was written of it: exchanges with those that gaps and omissions tell of.
    pub(crate) written: Amount,
    /// As many exchanges as were admitted and frames and bytes as passed, by the trace that knows of most.
    pub(crate) all: Amount,
    /// When exchanges were cut, first and last.
    pub(crate) span: Option<(Nanos, Nanos)>,
}

/// What tells one gap or omission from another: from, until, why, exchanges.
type Told = (Nanos, Nanos, Cause, u64);

/// Returns the header of the new trace; `order` is by recording.
pub(crate) fn header(order: &[&Trace]) -> Result<Header, MergeError> {
    let first = order.first().ok_or(MergeError::Nothing)?.header();
    let mut header = Header { segment: 0, ..first.clone() };
    let mut ids = blake3::Hasher::new();
    let (mut tools, mut listens) = (Vec::new(), Vec::new());
    let mut before: Option<&Header> = None;
    for next in order.iter().map(|trace| trace.header()) {
        if next.sampled_ppm != header.sampled_ppm {
            return Err(MergeError::Sampled(header.sampled_ppm, next.sampled_ppm));
        }
        header.tick_ns = gcd(header.tick_ns, next.tick_ns);
        extend(&mut tools, [&next.tool]);
        extend(&mut listens, [&next.listen]);
        extend(&mut header.upstreams, &next.upstreams);
        extend(&mut header.redacted, &next.redacted);
        match before {
            Some(before) if before.trace == next.trace => {
                if before.segment != 0 || next.segment != 0 {
                    return Err(MergeError::Segments);
                }
            }
            _ => {
                ids.update(&next.trace);
            }
        }
        before = Some(next);
    }
    if before.is_some_and(|last| last.trace != first.trace) {
        header.trace.copy_from_slice(&ids.finalize().as_bytes()[..16]);
    }
    header.redacted.sort_unstable();
    header.tool = tools.join(", ");
    header.listen = listens.join(", ");
    Ok(header)
}

/// Appends what is not there yet.
fn extend<'a>(all: &mut Vec<String>, more: impl IntoIterator<Item = &'a String>) {
    for text in more {
        if !all.contains(text) {
            all.push(text.clone());
        }
    }
}

const fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Returns what is known ahead of each recording.
pub(crate) fn recordings(order: &[&Trace], merged: &Header) -> Vec<Recording> {
    let mut recordings: Vec<Recording> = Vec::new();
    let mut before = None;
    let mut ended: BTreeMap<ExchangeId, bool> = BTreeMap::new();
    for (idx, trace) in order.iter().enumerate() {
        let header = trace.header();
        if before.replace(header.trace) != Some(header.trace) {
            let place = recordings.len() as u64;
            recordings.push(Recording::new(header, merged, place));
            ended.clear();
        }
        let Some(recording) = recordings.last_mut() else { continue };
        for entry in trace.entries() {
            let ends = entry.outcome.is_some();
            let known = ended.insert(entry.id, ends);
            // An exchange that several traces have is taken from the first that has its end.
            if known.is_none() || (known == Some(false) && ends) {
                recording.exchanges.insert(entry.id, (idx, entry.id));
            } else {
                ended.insert(entry.id, known == Some(true));
            }
        }
    }
    let of = recordings.len() as u64;
    for recording in &mut recordings {
        recording.relabel.turn.1 = of;
    }
    if of > 1 {
        renumber(order, &mut recordings);
    }
    recordings
}

/// Numbers the exchanges of several recordings by their start.
fn renumber(order: &[&Trace], recordings: &mut [Recording]) {
    let entries: Vec<_> = order.iter().map(|trace| trace.entries()).collect();
    let mut starts: Vec<(Nanos, usize, ExchangeId)> = Vec::new();
    for (place, recording) in recordings.iter().enumerate() {
        for (&id, &(owner, _)) in &recording.exchanges {
            let entries = &entries[owner];
            if let Ok(idx) = entries.binary_search_by_key(&id, |entry| entry.id) {
                starts.push((recording.relabel.at(entries[idx].at), place, id));
            }
        }
    }
    starts.sort_unstable();
    for (number, (_, place, id)) in (1..).zip(starts) {
        if let Some((_, new)) = recordings[place].exchanges.get_mut(&id) {
            *new = ExchangeId(number);
        }
    }
}

// === impl Recording ===

impl Recording {
    fn new(header: &Header, merged: &Header, place: u64) -> Self {
        let Anchor(later) = header.anchor;
        let later_ns = later.saturating_sub(merged.anchor.0).unsigned_abs();
        let upstreams = header.upstreams.iter().map(|upstream| {
            let place = merged.upstreams.iter().position(|known| known == upstream);
            place.and_then(|place| u32::try_from(place).ok()).unwrap_or(u32::MAX)
        });
        let tick_ns = u64::from(merged.tick_ns);
        Self {
            // Whole ticks: so the times within a recording stay what they were.
            relabel: Relabel {
                later_ns: later_ns / tick_ns * tick_ns,
                turn: (place, 1),
                upstreams: upstreams.collect(),
            },
            exchanges: BTreeMap::new(),
            told: BTreeMap::new(),
            written: Amount::default(),
            all: Amount::default(),
            span: None,
        }
    }

    /// Returns what is to be written of a gap or an omission of trace `idx`: nothing if another has told of it.
    pub(crate) fn tell(&mut self, event: Event, idx: usize) -> Option<Event> {
        let (key, amount) = match &event {
            Event::Gap(gap) => (
                (gap.from, gap.until, gap.reason.into(), gap.exchanges),
                Amount { exchanges: gap.exchanges, ..Amount::default() },
            ),
            Event::Omission(Omission { from, until, reason, exchanges, frames, bytes }) => (
                (*from, *until, (*reason).into(), *exchanges),
                Amount {
                    exchanges: *exchanges,
                    frames: *frames,
                    bytes: *bytes,
                    ..Amount::default()
                },
            ),
            _ => return Some(event),
        };
        if *self.told.entry(key).or_insert(idx) == idx {
            self.written.add(amount);
            return Some(event);
        }
        match event {
            // The exchanges are the same, the frames are those of other exchanges.
            Event::Gap(gap)
                if Cause::from(gap.reason) == Cause::DamagedBefore && gap.frames > 0 =>
            {
                Some(Event::Gap(Gap { exchanges: 0, ..gap }))
            }
            _ => None,
        }
    }

    /// Returns what is in none of the traces.
    pub(crate) fn omission(&self) -> Option<Omission> {
        let (from, until) = self.span?;
        let exchanges = self.all.exchanges.saturating_sub(self.written.exchanges);
        (exchanges > 0).then_some(Omission {
            from,
            until,
            reason: OmitReason::Cut,
            exchanges,
            frames: self.all.frames.saturating_sub(self.written.frames),
            bytes: self.all.bytes.saturating_sub(self.written.bytes),
        })
    }
}
