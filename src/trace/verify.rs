//! Proves from a trace alone that nothing is missing in silence, and explains what is missing.
//!
//! One pass over all events checks: every byte of the files can be read and every body matches its digest; each exchange
//! begins with a request head and has one end at most; stamps do not run backwards; what an end says has passed is what
//! the frames hold plus what it says was lost; gaps tell of all that ends say was lost; and the conservation law, with
//! counters that are counted again. What does not hold is a [`Finding`]; a [`CauseSummary`] for each [`Cause`] says what that
//! means and what can be done.

use std::collections::BTreeMap;

use crate::clock::Nanos;
use crate::trace::batch::{Loss, LossCause};
use crate::trace::cause::{Amount, Cause};
use crate::trace::coverage::Coverage;
use crate::trace::entries::Entry;
use crate::trace::error::TraceError;
use crate::trace::finding::{CauseSummary, Finding, FindingKind, MAX_FINDINGS, Verification};
use crate::trace::hole::{Hole, Moment, of_loss};
use crate::trace::ids::Ids;
use crate::trace::reader::Trace;
use crate::trace::record::{DropReason, End, Event, ExchangeId, Gap, Omission, RequestHead};
use crate::trace::scan::Scan;
use crate::trace::tally::Tally;
use crate::trace::unwritten::Frames;

/// A check under way.
#[derive(Debug)]
struct Check<'a> {
    trace: &'a Trace,
    found: Verification,
    open: BTreeMap<ExchangeId, Tally>,
    /// What the index says of exchanges whose end has not come yet.
    entries: BTreeMap<ExchangeId, Entry>,
    /// What can't be read, each with what came before and after it.
    losses: Vec<Hole>,
    gaps: Vec<Gap>,
    /// Exchanges whose end says that something of them was lost.
    lossy: Vec<Lossy>,
    coverage: Coverage,
    latest: Option<Moment>,
    causes: BTreeMap<Cause, CauseSummary>,
    /// Why something does not fit: damage if there is any, else it is a contradiction.
    blame: Cause,
}

/// An exchange that lost something while it was recorded.
#[derive(Clone, Copy, Debug)]
struct Lossy {
    id: ExchangeId,
    from: Nanos,
    until: Nanos,
}

/// Where a gap may be that is not met.
const ELSEWHERE: &str = "; what tells of the rest may have been in what can't be read";

/// Checks a whole trace.
///
/// # Errors
/// A file can't be read.
pub fn verify(trace: &Trace) -> Result<Verification, TraceError> {
    let mut check = Check::new(trace);
    let mut scan = trace.scan()?.checked();
    while let Some(event) = scan.next() {
        let event = event?;
        check.notice(scan.losses(), Some(&event));
        check.event(&event);
    }
    check.notice(scan.losses(), None);
    Ok(check.finish(&scan))
}

// === impl Check ===

impl<'a> Check<'a> {
    fn new(trace: &'a Trace) -> Self {
        Self {
            trace,
            found: Verification { stated: trace.health().counters, ..Verification::default() },
            open: BTreeMap::new(),
            entries: trace.entries().into_iter().map(|entry| (entry.id, entry)).collect(),
            losses: Vec::new(),
            gaps: Vec::new(),
            lossy: Vec::new(),
            coverage: Coverage::default(),
            latest: None,
            causes: BTreeMap::new(),
            blame: match blame(&trace.health().losses) {
                None if trace.missing_segments().is_empty() => Cause::Contradiction,
                _ => Cause::Damage,
            },
        }
    }

    fn add(&mut self, finding: Finding) {
        let summary =
            self.causes.entry(finding.cause).or_insert_with(|| CauseSummary::new(finding.cause));
        summary.add(finding.from_ns, finding.until_ns, finding.lost);
        summary.incomplete.join(&finding.incomplete);
        if self.found.findings.len() < MAX_FINDINGS {
            self.found.findings.push(finding);
        } else {
            self.found.more += 1;
        }
    }

    /// Takes note of damage that was met before `next`.
    fn notice(&mut self, losses: &[Loss], next: Option<&Event>) {
        self.blame = blame(&losses[self.losses.len()..]).unwrap_or(self.blame);
        for loss in &losses[self.losses.len()..] {
            let (before, after) = (self.latest, next.map(Moment::of));
            self.losses.push(Hole { loss: loss.clone(), before, after });
        }
        if let Some(event) = next
            && self.latest.is_none_or(|latest| latest.at <= event.at())
        {
            self.latest = Some(Moment::of(event));
        }
    }

    fn event(&mut self, event: &Event) {
        self.found.counted.count(event);
        match event {
            Event::Gap(gap) => {
                self.coverage.gap(gap);
                self.gaps.push(*gap);
            }
            Event::Omission(omission) => self.omission(omission),
            _ => {}
        }
        let Some(id) = event.exchange() else { return };
        if !self.open.contains_key(&id)
            && !matches!(event, Event::Request(_))
            && !self.began_earlier(id)
        {
            let text = "does not begin with a request head";
            self.add(Finding::of(FindingKind::Order, self.blame, id, text));
        }
        let tally = self.open.entry(id).or_default();
        match event {
            Event::Request(head) => self.request(head),
            Event::Frame(frame) => {
                self.found.frames += 1;
                self.found.body_bytes += frame.data.len() as u64;
                if let Some(finding) = tally.frame(frame) {
                    self.add(finding);
                }
            }
            Event::Bare(frame) => {
                self.found.bare_frames += 1;
                self.found.bare_bytes = self.found.bare_bytes.saturating_add(frame.len);
                if let Some(finding) = tally.bare(frame) {
                    self.add(finding);
                }
            }
            Event::End(end) => self.end(end),
            _ => {}
        }
    }

    /// Whether the head of an exchange that has none here may be in a segment before the first; takes note of it then.
    fn began_earlier(&mut self, id: ExchangeId) -> bool {
        let is_late = self.trace.header().segment > 0;
        if is_late {
            let summary = self
                .causes
                .entry(Cause::Deleted)
                .or_insert_with(|| CauseSummary::new(Cause::Deleted));
            summary.incomplete.extend([id]);
        }
        is_late
    }

    fn request(&mut self, head: &RequestHead) {
        let id = head.exchange;
        let tally = self.open.entry(id).or_default();
        if tally.begun.replace(head.at).is_some() {
            let text = "has two request heads";
            self.add(Finding::of(FindingKind::Order, Cause::Contradiction, id, text));
        }
        self.found.exchanges += 1;
        if self.entries.get(&id).is_none_or(|entry| entry.at != head.at) {
            let text = "is not in the index as recorded";
            self.add(Finding::of(FindingKind::Index, self.blame, id, text));
        }
    }

    fn end(&mut self, end: &End) {
        let id = end.exchange;
        let tally = self.open.remove(&id).unwrap_or_default();
        let cause = self.blame;
        if tally.begun.is_some() || !self.began_earlier(id) {
            for finding in tally.totals(end, cause) {
                self.add(finding);
            }
        }
        self.coverage.end(end);
        let is_lossy = end.request.lost_frames > 0 || end.response.lost_frames > 0;
        if is_lossy && self.lossy.len() < MAX_FINDINGS {
            let from = tally.begun.unwrap_or(end.at);
            self.lossy.push(Lossy { id, from, until: end.at });
        }
        if self.entries.remove(&id).is_some_and(|entry| entry.outcome != Some(end.outcome)) {
            let text = "has another end in the index";
            self.add(Finding::of(FindingKind::Index, cause, id, text));
        }
    }

    fn omission(&mut self, omission: &Omission) {
        let cause = Cause::from(omission.reason);
        let Omission { from, until, exchanges, frames, bytes, .. } = *omission;
        let summary = self.causes.entry(cause).or_insert_with(|| CauseSummary::new(cause));
        summary.add(Some(from), Some(until), Amount { exchanges, frames, bytes, file_bytes: 0 });
    }

    fn finish(mut self, scan: &Scan) -> Verification {
        self.found.open = self.open.len() as u64;
        for gap in std::mem::take(&mut self.gaps) {
            self.gap(&gap);
        }
        self.files();
        self.bodies(scan);
        self.untold(scan);
        self.index();
        self.law(scan);
        let mut causes: Vec<CauseSummary> = self.causes.into_values().collect();
        causes.sort_by_key(|summary| (!summary.is_loss, summary.cause));
        self.found.causes = causes;
        self.found
    }

    fn gap(&mut self, gap: &Gap) {
        let Gap { from, until, reason, exchanges, frames, bytes } = *gap;
        let mut incomplete = Ids::default();
        if frames > 0 {
            let meets = |lossy: &&Lossy| lossy.from <= until && lossy.until >= from;
            incomplete.extend(self.lossy.iter().filter(meets).map(|lossy| lossy.id));
        }
        let why = reason.as_str();
        let who = if reason == DropReason::Damaged { "the files had" } else { "the recorder" };
        let text = format!(
            "from {from} to {until} {who} lost {exchanges} exchanges, {frames} frames of others, {bytes} bytes: {why}"
        );
        let text = match incomplete.count {
            0 => text,
            _ => format!("{text}; incomplete since: {incomplete}"),
        };
        let lost = Amount { exchanges, frames, bytes, file_bytes: 0 };
        let (from_ns, until_ns) = (Some(from), Some(until));
        let finding = Finding::new(FindingKind::Gap, reason.into(), text);
        self.add(Finding { from_ns, until_ns, lost, incomplete, ..finding });
    }

    /// Adds what the files themselves lack.
    fn files(&mut self) {
        let met = std::mem::take(&mut self.losses);
        let known = self.trace.health().losses.iter();
        let rest: Vec<Loss> =
            known.filter(|loss| met.iter().all(|hole| hole.loss != **loss)).cloned().collect();
        for hole in &met {
            self.add(hole.finding());
        }
        for segment in self.trace.missing_segments() {
            let text = format!("segment {segment} is not there");
            self.add(Finding::new(FindingKind::Loss, Cause::Damage, text));
        }
        for loss in rest {
            let from_ns = self.latest.map(|latest| latest.at);
            let text = match (loss.cause, self.latest) {
                (LossCause::Unfinished, Some(latest)) => {
                    format!("{loss}; the last of it is from {latest}")
                }
                _ => loss.to_string(),
            };
            self.add(Finding { from_ns, ..of_loss(&loss, text) });
        }
    }

    /// Adds bodies that are not what was recorded.
    fn bodies(&mut self, scan: &Scan) {
        let missing = scan.missing();
        let cause = self.blame;
        if missing.frames > 0 {
            // How much each exchange lacks by that, its end tells: see `Tally::totals`.
            let (frames, bytes) = (missing.frames, missing.bytes);
            let text =
                format!("{frames} frames can't be put together: {bytes} bytes of them are lost");
            self.add(Finding::new(FindingKind::Body, cause, text));
        }
        if missing.digests > 0 {
            let digests = missing.digests;
            let text = format!("{digests} bodies are not what was recorded: their digests differ");
            self.add(Finding::new(FindingKind::Body, cause, text));
        }
    }

    /// Adds what ends say was lost and no gap tells of.
    fn untold(&mut self, scan: &Scan) {
        let Frames { count: frames, bytes } = self.coverage.untold();
        // What was lost in segments that are not there any more was told there.
        if (frames == 0 && bytes == 0) || self.trace.header().segment > 0 {
            return;
        }
        let Coverage { stated, told } = self.coverage;
        let (cause, why) = match self.trace.health().losses.first() {
            _ if self.blame == Cause::Damage => (Cause::Damage, ELSEWHERE),
            _ if scan.unknown() > 0 => (Cause::Newer, "; what tells of the rest may be newer"),
            Some(loss) => (loss.cause.into(), ELSEWHERE),
            None => (self.blame, ": nothing says when the rest was lost, and why"),
        };
        let text = format!(
            "the ends of exchanges say that {} frames ({} bytes) were not recorded, gaps tell of {} ({} bytes){why}",
            stated.count, stated.bytes, told.count, told.bytes
        );
        let lost = Amount { frames, bytes, ..Amount::default() };
        self.add(Finding { lost, ..Finding::new(FindingKind::Counters, cause, text) });
    }

    /// Adds exchanges that the index knows and the events do not.
    fn index(&mut self) {
        for id in self.open.keys() {
            self.entries.remove(id);
        }
        let mut gone = Ids::default();
        gone.extend(self.entries.keys().copied());
        if gone.is_empty() {
            return;
        }
        let cause = self.blame;
        let text = match cause {
            Cause::Contradiction => format!("the index has {gone}, which the events have not"),
            _ => format!(
                "by the index, {gone} went with what can't be read, whole or but for a part"
            ),
        };
        self.add(Finding::new(FindingKind::Index, cause, text));
    }

    /// Adds exchanges that have not ended.
    fn unended(&mut self) {
        let mut incomplete = Ids::default();
        incomplete.extend(self.open.keys().copied());
        let (cause, though) = match (self.trace.health().complete, self.blame) {
            (true, _) => (Cause::UnderWay, ", though the trace was closed"),
            (false, Cause::Damage) => (Cause::Damage, ""),
            (false, _) => (Cause::Unfinished, ""),
        };
        let text = format!("{} have not ended{though}: {incomplete}", self.found.open);
        let finding = Finding::new(FindingKind::Counters, cause, text);
        self.add(Finding { incomplete, ..finding });
    }

    /// Checks the counters.
    fn law(&mut self, scan: &Scan) {
        let (stated, open) = (self.found.stated, self.found.open);
        let cause = if scan.unknown() > 0 { Cause::Newer } else { self.blame };
        let broken = |cause, text: String| Finding::new(FindingKind::Counters, cause, text);
        if stated.open().is_none() {
            self.add(broken(cause, format!("the counters break the conservation law: {stated}")));
        }
        if let Some(by_counters) = stated.open().filter(|&by_counters| by_counters != open) {
            let text = format!(
                "by the counters {by_counters} exchanges have not ended, by the events {open}"
            );
            self.add(broken(cause, text));
        }
        if open > 0 {
            self.unended();
        }
        if scan.counters().is_some_and(|last| last != stated) {
            let text = "the counters of the last block and of the footer differ".to_owned();
            self.add(broken(cause, text));
        }
        // A later segment counts on from the ones before it.
        let counted = self.found.counted;
        if self.trace.header().segment == 0 && counted != stated {
            let exchanges = stated.admitted.saturating_sub(counted.admitted);
            let text = format!(
                "{exchanges} exchanges are missing by the counters, which say {stated}; the events add up to {counted}"
            );
            let lost = Amount { exchanges, ..Amount::default() };
            self.add(Finding { lost, ..broken(cause, text) });
        }
    }
}

/// Returns whether any of `losses` is damage, which can be to blame for all kinds of things.
fn blame(losses: &[Loss]) -> Option<Cause> {
    losses.iter().any(|loss| loss.cause == LossCause::Damaged).then_some(Cause::Damage)
}
