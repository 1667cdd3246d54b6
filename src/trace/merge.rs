//! Puts several traces together on one time axis.
//!
//! Traces of one recording, such as the parts that [`cut`](crate::trace::cut()) makes, have the same id: numbers and times stay
//! as they are, what two parts both say is said once, and what one part left out and another has is no longer left out.
//!
//! Traces of different recordings are put where their wall clocks say, each moved as a whole by a number of ticks.
//! Exchanges are numbered anew from 1 by their start, those that start together in the order of recordings (by wall clock at
//! time zero, then by id) and of their old numbers; connection `n` of recording `k` of `r` becomes `(n - 1) * r + k`.
//! Nothing depends on the order in which the traces are named.
//!
//! Events are read side by side, always from the trace that is least far: memory follows the number of exchanges (their
//! index) and not what they hold.

use crate::trace::cause::Amount;
use crate::trace::error::TraceError;
use crate::trace::lineup::{Recording, header, recordings};
use crate::trace::mend::{Copier, Destination, Mender};
use crate::trace::reader::Trace;
use crate::trace::record::{Event, ExchangeId, Omission, OmitReason};
use crate::trace::source::Source;
use crate::trace::writer::{Summary, WriteError};

/// What a merge came to.
#[derive(Clone, Debug)]
pub struct Merged {
    /// The new trace.
    pub summary: Summary,
    /// How many recordings the traces are of.
    pub recordings: usize,
    /// Exchanges of the recordings that are in none of the traces, since they were cut.
    pub omitted: Amount,
    /// What can't be read of the traces.
    pub lost: Amount,
}

/// Why traces could not be merged.
#[derive(Debug, thiserror::Error)]
pub enum MergeError {
    /// A trace can't be read.
    #[error(transparent)]
    Read(#[from] TraceError),
    /// The new trace can't be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// Nothing to merge.
    #[error("there is no trace to merge")]
    Nothing,
    /// Exchanges of which some stand for more than others.
    #[error(
        "the traces keep different shares of the traffic ({0} and {1} parts per million): merged, nobody could tell how much an \
         exchange stands for"
    )]
    Sampled(u32, u32),
    /// Segments of one trace, not parts of it.
    #[error(
        "the traces are segments of one trace: put them into one folder, which is a trace as it is"
    )]
    Segments,
}

/// One of the traces.
#[derive(Debug)]
struct Input<'a> {
    source: Source<'a>,
    mender: Mender,
    /// Place of its recording.
    recording: usize,
    done: bool,
    /// What it holds, or says was left out by a cut.
    known: Amount,
}

/// A merge under way.
#[derive(Debug)]
struct Merger<'a> {
    inputs: Vec<Input<'a>>,
    recordings: Vec<Recording>,
    copier: Copier,
    /// Number of the next exchange that no index knows.
    next: u64,
    lost: Amount,
}

/// Merges `traces` into `out`.
///
/// # Errors
/// The traces don't go together, one can't be read, or `out` exists or can't be written.
pub fn merge(traces: &[Trace], out: impl Into<Destination>) -> Result<Merged, MergeError> {
    let mut order: Vec<&Trace> = traces.iter().collect();
    order.sort_by_key(|trace| (trace.header().anchor, trace.header().trace));
    let header = header(&order)?;
    let recordings = recordings(&order, &header);
    let mut inputs = Vec::new();
    let (mut recording, mut before) = (0, order[0].header().trace);
    for trace in order {
        recording += usize::from(trace.header().trace != before);
        before = trace.header().trace;
        inputs.push(Input::new(trace, recording)?);
    }
    let copier = Copier::create(&out.into(), header)?;
    let numbers = recordings.iter().flat_map(|recording| recording.exchanges.values());
    let next = numbers.map(|(_, ExchangeId(number))| number + 1).max().unwrap_or(1);
    let mut merger = Merger { inputs, recordings, copier, next, lost: Amount::default() };
    while let Some(idx) = merger.least_far() {
        merger.step(idx)?;
    }
    merger.finish()
}

// === impl Input ===

impl<'a> Input<'a> {
    fn new(trace: &'a Trace, recording: usize) -> Result<Self, TraceError> {
        Ok(Self {
            source: Source::new(trace)?,
            mender: Mender::default(),
            recording,
            done: false,
            known: Amount::default(),
        })
    }
}

// === impl Merger ===

impl Merger<'_> {
    /// Returns the trace that is least far; none when all are read.
    fn least_far(&self) -> Option<usize> {
        let at =
            |input: &Input<'_>| self.recordings[input.recording].relabel.at(input.source.latest);
        let under_way = self.inputs.iter().enumerate().filter(|(_, input)| !input.done);
        under_way.min_by_key(|(idx, input)| (at(input), *idx)).map(|(idx, _)| idx)
    }

    /// Reads an event of trace `idx`, and writes it.
    fn step(&mut self, idx: usize) -> Result<(), MergeError> {
        let input = &mut self.inputs[idx];
        let recording = &mut self.recordings[input.recording];
        let Some(event) = input.source.next()? else { return self.end(idx) };
        let passed = match &event {
            Event::Frame(frame) => {
                Amount { frames: 1, bytes: frame.data.len() as u64, ..Amount::default() }
            }
            Event::Omission(Omission { frames, bytes, .. }) => {
                Amount { frames: *frames, bytes: *bytes, ..Amount::default() }
            }
            _ => Amount::default(),
        };
        input.known.add(passed);
        let event = match event {
            Event::Omission(Omission { from, until, reason: OmitReason::Cut, .. }) => {
                let (first, last) = recording.span.unwrap_or((from, until));
                recording.span = Some((first.min(from), last.max(until)));
                return Ok(());
            }
            event => event,
        };
        let mut number = None;
        if let Some(id) = event.exchange() {
            let (owner, new) = *recording.exchanges.entry(id).or_insert_with(|| {
                self.next += 1;
                (idx, ExchangeId(self.next - 1))
            });
            if owner != idx {
                return Ok(());
            }
            number = Some(new);
        }
        let Some(event) = input.mender.mend(event) else { return Ok(()) };
        if number.is_some() {
            recording.written.exchanges += u64::from(matches!(event, Event::Request(_)));
            recording.written.add(passed);
        }
        if let Some(mut event) = recording.tell(event, idx) {
            recording.relabel.apply(&mut event, number);
            self.copier.put(event)?;
        }
        Ok(())
    }

    /// Takes account of a trace that was read.
    fn end(&mut self, idx: usize) -> Result<(), MergeError> {
        let input = &mut self.inputs[idx];
        let recording = &mut self.recordings[input.recording];
        input.done = true;
        let lost = Amount { exchanges: input.source.lost_exchanges(), ..input.mender.lost };
        self.lost.add(lost);
        let gap = input.mender.gap(lost.exchanges, input.source.hole()).map(Event::Gap);
        if let Some(mut event) = gap.and_then(|gap| recording.tell(gap, idx)) {
            recording.relabel.apply(&mut event, None);
            self.copier.put(event)?;
        }
        let all = &mut recording.all;
        all.exchanges = all.exchanges.max(input.source.admitted());
        all.frames = all.frames.max(input.known.frames);
        all.bytes = all.bytes.max(input.known.bytes);
        Ok(())
    }

    fn finish(mut self) -> Result<Merged, MergeError> {
        let mut omitted = Amount::default();
        for recording in &self.recordings {
            let Some(omission) = recording.omission() else { continue };
            let Omission { exchanges, frames, bytes, .. } = omission;
            omitted.add(Amount { exchanges, frames, bytes, ..Amount::default() });
            let mut event = Event::Omission(omission);
            recording.relabel.apply(&mut event, None);
            self.copier.put(event)?;
        }
        let recordings = self.recordings.len();
        Ok(Merged { summary: self.copier.finish()?, recordings, omitted, lost: self.lost })
    }
}
