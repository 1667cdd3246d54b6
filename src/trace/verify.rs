//! Proves from a trace alone that nothing is missing in silence.
//!
//! One pass over all events checks: every byte of the files can be read and every body matches its digest; each exchange
//! begins with a request head and has one end at most; stamps do not run backwards; what an end says has passed is what
//! the frames hold plus what it says was lost; and the conservation law, with counters that are counted again. What does
//! not hold is a [`Finding`].

use std::collections::BTreeMap;

use crate::clock::Nanos;
use crate::trace::reader::{Trace, TraceError};
use crate::trace::record::{Counters, End, Event, ExchangeId, Frame, Gap, Passed, Side};
use crate::trace::scan::Scan;

/// What a check of a whole trace found.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Verification {
    /// Exchanges with at least one event.
    pub exchanges: u64,
    /// Of these, not ended.
    pub open: u64,
    /// Body frames.
    pub frames: u64,
    /// Body bytes in these.
    pub body_bytes: u64,
    /// The counters that the trace states.
    pub stated: Counters,
    /// The counters that its events add up to.
    pub counted: Counters,
    /// Everything that does not hold, the first [`MAX_FINDINGS`] in order.
    pub findings: Vec<Finding>,
    /// Findings beyond these.
    pub more: u64,
}

/// Something that does not hold.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    /// What kind, as a stable name.
    pub kind: FindingKind,
    /// The exchange, where it is about one.
    pub exchange: Option<u64>,
    /// What, in a sentence.
    pub text: String,
}

/// Kinds of finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FindingKind {
    /// The recorder said that it could not record something.
    Gap,
    /// Bytes of the files can't be read.
    Loss,
    /// A body is incomplete, or not what was recorded.
    Body,
    /// An exchange does not begin, go on or end as one must.
    Order,
    /// Stamps run backwards.
    Stamps,
    /// What passed is not what is held plus what was lost.
    Totals,
    /// The conservation law, or a counter, does not hold.
    Counters,
    /// The index does not say what the events say.
    Index,
}

/// Findings that are kept.
pub const MAX_FINDINGS: usize = 1_000;

/// What an exchange has shown so far.
#[derive(Debug, Default)]
struct Tally {
    begun: bool,
    sides: [SideTally; 2],
}

#[derive(Debug, Default)]
struct SideTally {
    bytes: u64,
    frames: u64,
    last: Nanos,
    backwards: bool,
}

/// Checks a whole trace.
///
/// # Errors
/// A file can't be read.
pub fn verify(trace: &Trace) -> Result<Verification, TraceError> {
    let mut found = Verification::default();
    let mut open: BTreeMap<ExchangeId, Tally> = BTreeMap::new();
    let mut entries =
        trace.entries().iter().map(|entry| (entry.id, *entry)).collect::<BTreeMap<_, _>>();
    let mut scan = trace.scan()?.checked();
    // Damage may have taken any event: what is missing then is told once, as a loss.
    let damaged = !trace.health().losses.is_empty();
    for event in scan.by_ref() {
        let event = event?;
        found.counted.count(&event);
        if let Event::Gap(gap) = &event {
            found.gap(gap);
        }
        let Some(id) = event.exchange() else { continue };
        if !open.contains_key(&id) && !matches!(event, Event::Request(_)) {
            found.add(
                FindingKind::Order,
                Some(id),
                "does not begin with a request head".to_owned(),
            );
        }
        let tally = open.entry(id).or_default();
        match &event {
            Event::Request(head) => {
                if std::mem::replace(&mut tally.begun, true) {
                    found.add(FindingKind::Order, Some(id), "has two request heads".to_owned());
                }
                found.exchanges += 1;
                if entries.get(&id).is_none_or(|entry| entry.at != head.at) {
                    found.add(
                        FindingKind::Index,
                        Some(id),
                        "is not in the index as recorded".to_owned(),
                    );
                }
            }
            Event::Frame(frame) => found.frame(tally, frame),
            Event::End(end) => {
                found.end(tally, end);
                open.remove(&id);
                if entries.remove(&id).is_some_and(|entry| entry.outcome != Some(end.outcome)) {
                    found.add(
                        FindingKind::Index,
                        Some(id),
                        "has another end in the index".to_owned(),
                    );
                }
            }
            _ => {}
        }
    }
    found.open = open.len() as u64;
    for id in open.keys() {
        entries.remove(id);
    }
    if let (false, Some(id)) = (damaged, entries.keys().next()) {
        found.add(
            FindingKind::Index,
            Some(*id),
            "is in the index, but not among the events".to_owned(),
        );
    }
    found.files(trace, &scan);
    found.law(trace, &scan);
    Ok(found)
}

// === impl Verification ===

impl Verification {
    /// Returns whether everything holds.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.findings.is_empty()
    }

    fn add(&mut self, kind: FindingKind, exchange: Option<ExchangeId>, text: String) {
        if self.findings.len() >= MAX_FINDINGS {
            self.more += 1;
            return;
        }
        let text = match exchange {
            Some(ExchangeId(id)) => format!("exchange {id} {text}"),
            None => text,
        };
        self.findings.push(Finding { kind, exchange: exchange.map(|id| id.0), text });
    }

    fn gap(&mut self, gap: &Gap) {
        let text = format!(
            "from {} to {} the recorder lost {} exchanges, {} frames of others, {} bytes: {}",
            gap.from,
            gap.until,
            gap.exchanges,
            gap.frames,
            gap.bytes,
            gap.reason.as_str()
        );
        self.add(FindingKind::Gap, None, text);
    }

    fn frame(&mut self, tally: &mut Tally, frame: &Frame) {
        self.frames += 1;
        self.body_bytes += frame.data.len() as u64;
        let side = &mut tally.sides[usize::from(frame.side == Side::Response)];
        side.frames += 1;
        side.bytes += frame.data.len() as u64;
        let backwards = frame.at < side.last || frame.accepted < frame.at;
        if backwards && !std::mem::replace(&mut side.backwards, true) {
            let text =
                format!("has stamps that run backwards at {} ({:?} side)", frame.at, frame.side);
            self.add(FindingKind::Stamps, Some(frame.exchange), text);
        }
        side.last = side.last.max(frame.at);
    }

    fn end(&mut self, tally: &Tally, end: &End) {
        let [request, response] = &tally.sides;
        for (held, passed, side) in
            [(request, &end.request, "request"), (response, &end.response, "response")]
        {
            let Passed { bytes, frames, lost_bytes, lost_frames, .. } = *passed;
            if held.bytes.checked_add(lost_bytes) != Some(bytes)
                || held.frames.checked_add(lost_frames) != Some(frames)
            {
                let text = format!(
                    "had {bytes} bytes in {frames} frames of {side} body pass and {lost_bytes} in {lost_frames} lost, \
                     but the trace holds {} in {}",
                    held.bytes, held.frames
                );
                self.add(FindingKind::Totals, Some(end.exchange), text);
            }
        }
    }

    /// Adds what the files themselves lack.
    fn files(&mut self, trace: &Trace, scan: &Scan) {
        let mut losses = scan.losses().to_vec();
        losses.extend(
            trace.health().losses.iter().filter(|loss| !scan.losses().contains(loss)).cloned(),
        );
        for loss in losses {
            self.add(FindingKind::Loss, None, loss.to_string());
        }
        let missing = scan.missing();
        if missing.frames > 0 {
            let text = format!(
                "{} frames can't be put together: {} bytes of them are lost",
                missing.frames, missing.bytes
            );
            self.add(FindingKind::Body, None, text);
        }
        if missing.digests > 0 {
            let text = format!(
                "{} bodies are not what was recorded: their digests differ",
                missing.digests
            );
            self.add(FindingKind::Body, None, text);
        }
    }

    /// Checks the counters.
    fn law(&mut self, trace: &Trace, scan: &Scan) {
        self.stated = trace.health().counters;
        match self.stated.open() {
            None => {
                let text = format!("the counters break the conservation law: {:?}", self.stated);
                self.add(FindingKind::Counters, None, text);
            }
            Some(open) if open != self.open => {
                let text = format!(
                    "by the counters {open} exchanges have not ended, by the events {}",
                    self.open
                );
                self.add(FindingKind::Counters, None, text);
            }
            Some(open) if open > 0 && trace.health().complete => {
                let text = format!("{open} exchanges have not ended, though the trace was closed");
                self.add(FindingKind::Counters, None, text);
            }
            Some(_) => {}
        }
        if scan.counters().is_some_and(|last| last != self.stated) {
            let text = "the counters of the last block and of the footer differ".to_owned();
            self.add(FindingKind::Counters, None, text);
        }
        // What sampling leaves out has no event; and a later segment counts on from the ones before it.
        let counted = Counters { sampled_out: self.stated.sampled_out, ..self.counted };
        let counted = Counters { admitted: counted.admitted + counted.sampled_out, ..counted };
        if trace.header().segment == 0 && counted != self.stated {
            let text = format!(
                "the counters say {:?}, the events add up to {:?}",
                self.stated, self.counted
            );
            self.add(FindingKind::Counters, None, text);
        }
    }
}
