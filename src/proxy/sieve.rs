//! Leaves out exchanges by what is known of them at their end only: the status, and how long they took.
//!
//! A [`Sieve`] stands before a log, on the recorder's thread. It holds the events of an exchange until it can tell: that is
//! at its response head when only the status is asked for, at the first event that is late enough when only the time is,
//! and at its end at the latest. What it holds is bounded in bytes. Beyond the bound the oldest exchange goes into the log
//! undecided, rather than being lost, and is counted: whoever reads the trace can apply the conditions again.
//!
//! What is held is in memory: a recorder that is killed loses the exchanges that are not decided.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::str::FromStr;
use std::time::Duration;

use crate::clock::Nanos;
use crate::proxy::log::{Appended, Log, Strain};
use crate::proxy::queue::cost;
use crate::trace::Frames;
use crate::trace::record::{
    Counters, DropReason, Event, ExchangeId, FramesRef, Gap, Omission, OmitReason,
};

/// Which exchanges pass; all that is asked for must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mesh {
    /// The status is one of these, if there are any.
    pub statuses: Vec<StatusIs>,
    /// It took at least this long from request head to end.
    pub slower: Option<Duration>,
}

/// A status, or a class of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusIs {
    /// This one.
    Exactly(u16),
    /// Those of this hundred: 5 stands for 500 to 599.
    Class(u16),
    /// There was no response.
    None,
}

/// A log that takes only what passes the mesh.
#[derive(Debug)]
pub struct Sieve<L> {
    log: L,
    mesh: Mesh,
    budget: usize,
    /// Exchanges that are not decided yet, the oldest first.
    held: BTreeMap<ExchangeId, Held>,
    held_bytes: usize,
    /// Exchanges that are left out and have not ended.
    omitted: BTreeSet<ExchangeId>,
    /// What is left out and not told yet.
    omission: Option<Omission>,
    /// What is decided and on its way into the log.
    pending: VecDeque<Event>,
    undecided: u64,
    /// The exchange whose request head came last, while it is taken.
    coming: Option<ExchangeId>,
    /// The exchange whose request head goes into the log, while it does.
    going: Option<ExchangeId>,
}

/// What is known of an exchange that is not decided yet.
#[derive(Debug)]
struct Held {
    at: Nanos,
    events: Vec<Event>,
    bytes: usize,
    /// Whether the status passes; none before it is known.
    status: Option<bool>,
    slow: bool,
}

/// What becomes of an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Pass,
    Omit,
    Wait,
}

// === impl Mesh ===

impl Mesh {
    /// Returns whether everything passes.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.statuses.is_empty() && self.slower.is_none()
    }

    fn passes_status(&self, status: Option<u16>) -> bool {
        self.statuses.is_empty() || self.statuses.iter().any(|wanted| wanted.holds(status))
    }

    /// Begins with a request head.
    fn begin(&self, at: Nanos) -> Held {
        let status = self.statuses.is_empty().then_some(true);
        Held { at, events: Vec::new(), bytes: 0, status, slow: self.slower.is_none() }
    }

    /// Takes the next event of an exchange into account.
    fn weigh(&self, held: &mut Held, event: &Event) -> Verdict {
        held.slow |= self.slower.is_some_and(|slower| event.at().since(held.at) >= slower);
        if let Some(status) = event.status() {
            held.status = Some(self.passes_status(Some(status.as_u16())));
        }
        if let (Event::End(_), None) = (event, held.status) {
            held.status = Some(self.passes_status(None));
        }
        match (held.status, held.slow, event) {
            (Some(true), true, _) => Verdict::Pass,
            (Some(false), _, _) | (_, false, Event::End(_)) => Verdict::Omit,
            _ => Verdict::Wait,
        }
    }
}

// === impl StatusIs ===

impl StatusIs {
    fn holds(self, status: Option<u16>) -> bool {
        match self {
            Self::Exactly(code) => status == Some(code),
            Self::Class(hundreds) => status.is_some_and(|status| status / 100 == hundreds),
            Self::None => status.is_none(),
        }
    }
}

impl FromStr for StatusIs {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("`{text}` is no status; write it like 429, 5xx or none");
        if text == "none" {
            return Ok(Self::None);
        }
        if let Some(class) = text.strip_suffix("xx") {
            let class = class.parse().ok().filter(|class| (1..=5).contains(class));
            return class.map(Self::Class).ok_or_else(bad);
        }
        let code = text.parse().ok().filter(|code| (100..=999).contains(code));
        code.map(Self::Exactly).ok_or_else(bad)
    }
}

// === impl Sieve ===

impl<L: Log> Sieve<L> {
    /// Puts a sieve before `log` that holds at most `budget` bytes.
    #[must_use]
    pub fn new(log: L, mesh: Mesh, budget: usize) -> Self {
        Self {
            log,
            mesh,
            budget,
            held: BTreeMap::new(),
            held_bytes: 0,
            omitted: BTreeSet::new(),
            omission: None,
            pending: VecDeque::new(),
            undecided: 0,
            coming: None,
            going: None,
        }
    }

    /// Takes an event that is not a gap or an omission.
    fn sift(&mut self, id: ExchangeId, event: Event) {
        if self.omitted.contains(&id) {
            self.leave_out(&event);
            if let Event::End(_) = event {
                self.omitted.remove(&id);
            }
            return;
        }
        if event.is_request_head() {
            self.held.insert(id, self.mesh.begin(event.at()));
        }
        let Some(held) = self.held.get_mut(&id) else {
            // It passed before.
            self.pending.push_back(event);
            return;
        };
        let verdict = self.mesh.weigh(held, &event);
        let is_end = matches!(event, Event::End(_));
        let bytes = cost(&event);
        held.bytes += bytes;
        held.events.push(event);
        self.held_bytes += bytes;
        match verdict {
            Verdict::Wait => self.keep_within_budget(),
            Verdict::Pass => self.pass(id),
            Verdict::Omit => self.omit(id, is_end),
        }
    }

    /// Lets an exchange into the log.
    fn pass(&mut self, id: ExchangeId) {
        let Some(held) = self.held.remove(&id) else { return };
        self.held_bytes -= held.bytes;
        self.pending.extend(held.events);
    }

    /// Leaves an exchange out.
    fn omit(&mut self, id: ExchangeId, has_ended: bool) {
        let Some(held) = self.held.remove(&id) else { return };
        self.held_bytes -= held.bytes;
        let omission = self.untold(held.at);
        omission.exchanges += 1;
        for event in &held.events {
            self.leave_out(event);
        }
        if !has_ended {
            self.omitted.insert(id);
        }
    }

    /// Counts what is left out with an event.
    fn leave_out(&mut self, event: &Event) {
        if let Event::Frame(frame) = event {
            let bytes = frame.data.len() as u64;
            let omission = self.untold(frame.at);
            omission.frames += 1;
            omission.bytes += bytes;
        }
    }

    /// Returns what is not told yet, with `at` in its time.
    fn untold(&mut self, at: Nanos) -> &mut Omission {
        let omission = self.omission.get_or_insert(Omission {
            from: at,
            until: at,
            reason: OmitReason::Filtered,
            exchanges: 0,
            frames: 0,
            bytes: 0,
        });
        omission.from = omission.from.min(at);
        omission.until = omission.until.max(at);
        omission
    }

    fn keep_within_budget(&mut self) {
        while self.held_bytes > self.budget {
            let Some((&oldest, _)) = self.held.first_key_value() else { return };
            self.undecided += 1;
            self.pass(oldest);
        }
    }

    /// Returns whether what comes of an exchange may go into the log as it is: it is wanted, and nothing waits before it.
    fn passes_on(&self, id: ExchangeId) -> bool {
        let is_decided = !self.held.contains_key(&id) && !self.omitted.contains(&id);
        is_decided && self.pending.is_empty()
    }

    fn take(&mut self, event: Event) {
        match event.exchange() {
            Some(id) if !self.mesh.is_open() => self.sift(id, event),
            _ => self.pending.push_back(event),
        }
    }

    /// Moves what is decided into the log. What is not taken because of an error stays.
    fn drain(&mut self) -> Result<Appended, L::Error> {
        let mut appended = Appended::Taken;
        while let Some(event) = self.pending.pop_front() {
            self.going = head_of(&event);
            let done = self.log.append(event);
            self.going = None;
            appended = appended.and(done?);
        }
        Ok(appended)
    }

    /// States an exchange as lost of which something is on its way into the log.
    fn lose(&mut self, id: ExchangeId) {
        let of = |event: &Event| event.exchange() == Some(id);
        let has_ended =
            self.pending.iter().any(|event| of(event) && matches!(event, Event::End(_)));
        let frames = self.pending.iter().filter(|event| of(event));
        let bytes = frames.map(|event| cost(event) as u64).sum();
        let at = self.pending.iter().find(|event| of(event)).map_or(Nanos::ZERO, Event::at);
        self.pending.retain(|event| !of(event));
        if !has_ended {
            // What still comes of it has no place in the log.
            self.omitted.insert(id);
        }
        let reason = DropReason::RecorderStopped;
        let gap = Gap { from: at, until: at, reason, exchanges: 1, frames: 0, bytes };
        self.pending.push_back(Event::Gap(gap));
    }

    fn tell(&mut self) {
        self.pending.extend(self.omission.take().map(Event::Omission));
    }
}

/// Returns the exchange that an event begins.
fn head_of(event: &Event) -> Option<ExchangeId> {
    event.exchange().filter(|_| event.is_request_head())
}

// === impl Log for Sieve ===

impl<L: Log> Log for Sieve<L> {
    type Summary = L::Summary;
    type Error = L::Error;

    fn append(&mut self, event: Event) -> Result<Appended, L::Error> {
        self.coming = head_of(&event);
        self.take(event);
        let drained = self.drain();
        self.coming = None;
        drained
    }

    fn append_frames(&mut self, frames: FramesRef<'_>) -> Result<Appended, L::Error> {
        if self.passes_on(frames.exchange) {
            return self.log.append_frames(frames);
        }
        frames.iter().for_each(|frame| self.take(Event::Frame(frame.to_frame())));
        self.drain()
    }

    fn flush(&mut self, now: Nanos) -> Result<(), L::Error> {
        self.tell();
        self.drain()?;
        self.log.flush(now)
    }

    fn is_due(&self, now: Nanos) -> bool {
        self.log.is_due(now)
    }

    fn resume(&mut self, now: Nanos) -> Result<(), L::Error> {
        self.log.resume(now)?;
        self.drain().map(|_| ())
    }

    fn give_up(&mut self) {
        self.log.give_up();
        let (coming, going) = (self.coming.take(), self.going.take());
        // The caller counts what came last as lost.
        if let Some(held) = coming.and_then(|id| self.held.remove(&id)) {
            self.held_bytes -= held.bytes;
        }
        // An exchange that was let in before is lost with its head.
        if let Some(id) = going.filter(|going| coming != Some(*going)) {
            self.lose(id);
        }
    }

    fn strain(&mut self, strain: Strain) {
        self.log.strain(strain);
    }

    fn counters(&self) -> Counters {
        self.log.counters()
    }

    fn lost(&self) -> Frames {
        self.log.lost()
    }

    fn undecided(&self) -> u64 {
        self.undecided
    }

    fn written_bytes(&self) -> u64 {
        self.log.written_bytes()
    }

    fn take_syncs(&mut self) -> Vec<Duration> {
        self.log.take_syncs()
    }

    fn finish(mut self, now: Nanos) -> Result<L::Summary, L::Error> {
        // Exchanges that have no end yet: nobody can tell any more.
        self.undecided += self.held.len() as u64;
        while let Some((&oldest, _)) = self.held.first_key_value() {
            self.pass(oldest);
        }
        self.tell();
        self.drain()?;
        self.log.finish(now)
    }
}
