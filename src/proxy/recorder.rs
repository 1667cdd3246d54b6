//! The recorder: the thread that writes out what the [queue](crate::proxy::queue) holds.
//!
//! It is not woken but looks by itself each [`DRAIN_EVERY`]. What was left out of the queue becomes a gap.
//!
//! Nothing that happens to it harms traffic. When the log can't be written (a full disk, a dead one, a folder that was
//! removed), or it fails by a defect of ours, the recorder is *degraded*: it takes nothing more out of the queue, which fills
//! to its budget and then leaves things out in its order, and tries every [`RETRY_EVERY`] to go on. When it can, what was left
//! out is a gap, and recording goes on as if nothing had been.

use std::any::Any;
use std::collections::BTreeSet;
use std::error::Error;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::clock::{Clock, Nanos};
use crate::http::error::describe;
use crate::proxy::lane::{Batch, Entry};
use crate::proxy::log::{Appended, Log, Strain};
use crate::proxy::queue::{FINISHED, Feed, Shared, cost};
use crate::trace::record::{DropReason, Event, ExchangeId};

/// The thread that writes, seen by its owner.
pub struct Recorder<S, E> {
    shared: Arc<Shared>,
    thread: JoinHandle<Result<S, RecorderError<E>>>,
}

/// Why a recording is incomplete at its end.
#[derive(Debug, thiserror::Error)]
pub enum RecorderError<E> {
    /// The log could not be written.
    #[error("the recording could not be written to its end; traffic went on")]
    Log(#[source] E),
    /// A defect of ours.
    #[error("recording stopped by a defect of the program ({0}); traffic went on")]
    Panicked(String),
}

/// What the thread has before it.
struct Desk<'a, L: Log> {
    shared: &'a Shared,
    log: L,
    /// The batch that is being written.
    current: Option<Batch>,
    /// What is lost if writing the entry at hand panics.
    at_hand: Weight,
    /// Exchanges whose head was lost so: nothing of them is written.
    headless: BTreeSet<ExchangeId>,
    trouble: Option<Trouble<L::Error>>,
    /// Why what is left out now is left out.
    reason: DropReason,
    unflushed: bool,
    pace: Pace,
}

/// Why nothing can be written, and when it is tried again.
struct Trouble<E> {
    cause: Cause<E>,
    next: Nanos,
}

enum Cause<E> {
    Log(E),
    Panic(String),
}

/// What counts as lost when an entry is.
#[derive(Clone, Copy, Default)]
struct Weight {
    head: Option<ExchangeId>,
    frames: u64,
    bytes: usize,
}

/// How the thread spent its time since the last flush.
struct Pace {
    since: Nanos,
    rested: Duration,
}

/// How long the thread rests between two looks at the queue.
pub const DRAIN_EVERY: Duration = Duration::from_millis(5);
/// How old an event may get before it is flushed. Half of what is promised, since the machine may be busy.
pub const FLUSH_EVERY: Duration = Duration::from_millis(100);
/// How often it is tried to go on when the log can't be written.
pub const RETRY_EVERY: Duration = Duration::from_millis(500);
/// Events that the thread takes about at most before it looks at the clock.
const BATCH: usize = 4096;

// === impl Recorder ===

impl<S: Send + 'static, E: Error + Send + Sync + 'static> Recorder<S, E> {
    /// Starts the thread. The queue holds `budget` bytes.
    ///
    /// # Errors
    /// The kernel gives no thread.
    pub fn start<L>(log: L, budget: usize, clock: Clock) -> std::io::Result<(Self, Feed)>
    where
        L: Log<Summary = S, Error = E> + 'static,
    {
        let shared = Arc::new(Shared::new(budget, log.written_bytes(), log.counters(), clock));
        let of_thread = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("recorder".to_owned())
            .spawn(move || guard(&of_thread, log))?;
        let feed = Feed { shared: Arc::clone(&shared) };
        Ok((Self { shared, thread }, feed))
    }

    /// Writes out what is queued, closes the log and returns what is known of it. Call it when every feed has fallen
    /// silent: what is pushed afterwards is lost.
    ///
    /// # Errors
    /// Recording had ended early, or ends now: the log can't be written.
    pub fn finish(self) -> Result<S, RecorderError<E>> {
        self.shared.finishing.store(true, Ordering::Release);
        self.thread.thread().unpark();
        match self.thread.join() {
            Ok(finished) => finished,
            Err(panic) => Err(RecorderError::Panicked(panic_text(&*panic))),
        }
    }

    /// Returns another feed of this recorder.
    #[must_use]
    pub fn feed(&self) -> Feed {
        Feed { shared: Arc::clone(&self.shared) }
    }
}

// === impl Pace ===

impl Pace {
    fn begin(since: Nanos) -> Self {
        Self { since, rested: Duration::ZERO }
    }

    /// Returns the share of its time that it did not rest.
    fn busy(&self, now: Nanos) -> f32 {
        let all = now.since(self.since).as_secs_f32();
        if all > 0.0 { 1.0 - self.rested.as_secs_f32() / all } else { 0.0 }
    }
}

/// Runs the thread; whatever happens to it, feeds learn that nobody writes any more.
fn guard<L: Log>(shared: &Shared, log: L) -> Result<L::Summary, RecorderError<L::Error>> {
    let outcome = catch_unwind(AssertUnwindSafe(|| Desk::new(shared, log).write_out()));
    shared.state.store(FINISHED, Ordering::Release);
    clear(shared);
    outcome.unwrap_or_else(|panic| Err(RecorderError::Panicked(panic_text(&*panic))))
}

/// Lets go of what nobody will write. What is pushed at this very moment is freed with the queue.
fn clear(shared: &Shared) {
    while let Some(batch) = shared.queue.pop() {
        discard(shared, batch);
    }
}

/// Counts what is left of a batch as lost.
fn discard(shared: &Shared, mut batch: Batch) {
    shared.queued.fetch_sub(batch.cost(), Ordering::AcqRel);
    while let Some(entry) = batch.next() {
        Weight::of(&entry).lose(shared);
    }
}

// === impl Desk ===

impl<'a, L: Log> Desk<'a, L> {
    fn new(shared: &'a Shared, log: L) -> Self {
        Self {
            shared,
            log,
            current: None,
            at_hand: Weight::default(),
            headless: BTreeSet::new(),
            trouble: None,
            reason: DropReason::QueueFull,
            unflushed: false,
            pace: Pace::begin(shared.clock.now()),
        }
    }

    fn write_out(mut self) -> Result<L::Summary, RecorderError<L::Error>> {
        loop {
            // Read before the last look at the queue: what was pushed before `finish` is then seen.
            let finishing = self.shared.finishing.load(Ordering::Acquire);
            let now = self.shared.clock.now();
            let is_due =
                self.trouble.as_ref().is_none_or(|trouble| finishing || now >= trouble.next);
            if is_due && self.turn(now) {
                continue;
            }
            if finishing {
                return self.finish();
            }
            let now = self.shared.clock.now();
            thread::park_timeout(DRAIN_EVERY);
            self.pace.rested += self.shared.clock.now().since(now);
        }
    }

    /// Writes what is there, or tries to go on; whether there is more to do at once.
    fn turn(&mut self, now: Nanos) -> bool {
        match catch_unwind(AssertUnwindSafe(|| self.try_turn(now))) {
            Ok(Ok(more)) => more,
            Ok(Err(error)) => {
                self.stumble(Cause::Log(error), DropReason::WriteFailed);
                false
            }
            Err(panic) => {
                let weight = std::mem::take(&mut self.at_hand);
                self.headless.extend(weight.head);
                weight.lose(self.shared);
                // The log may be in any state: only what it can save is relied on.
                let _again = catch_unwind(AssertUnwindSafe(|| self.log.give_up()));
                let text = panic_text(&*panic);
                self.stumble(Cause::Panic(text), DropReason::RecorderStopped);
                false
            }
        }
    }

    fn try_turn(&mut self, now: Nanos) -> Result<bool, L::Error> {
        if self.trouble.is_some() {
            self.log.resume(now)?;
            self.trouble = None;
            self.unflushed = true;
            self.shared.recovered();
        }
        let taken = self.drain()?;
        self.unflushed |= taken > 0;
        if let Some(gap) = take_gap(self.shared, &mut self.reason) {
            self.unflushed = true;
            self.log.append(gap)?;
        }
        if now.since(self.pace.since) >= FLUSH_EVERY {
            let busy = self.pace.busy(now);
            self.log.strain(Strain { queue: self.shared.filled(), busy });
            self.pace = Pace::begin(now);
            self.tell_omissions()?;
            if self.unflushed || self.log.is_due(now) {
                let began = self.shared.clock.now();
                let flushed = self.log.flush(now);
                self.shared.flushes.record(self.shared.clock.now().since(began));
                flushed?;
                self.unflushed = false;
                self.shared.publish(&mut self.log);
            }
        }
        Ok(taken >= BATCH)
    }

    /// Appends what was left out on purpose: as often as it is flushed, since it is no news.
    fn tell_omissions(&mut self) -> Result<(), L::Error> {
        for omission in self.shared.take_omissions() {
            self.unflushed = true;
            self.log.append(Event::Omission(omission))?;
        }
        Ok(())
    }

    /// Appends what is queued, up to a batch; returns how many entries that were.
    fn drain(&mut self) -> Result<usize, L::Error> {
        let queued = self.shared.queued.load(Ordering::Relaxed);
        self.shared.high_water.fetch_max(queued, Ordering::Relaxed);
        let mut taken = 0;
        while taken < BATCH {
            if self.current.is_none() {
                self.current = self.shared.queue.pop();
            }
            let Some(batch) = &mut self.current else { break };
            let cost = batch.cost();
            while let Some(entry) = batch.next() {
                taken += entry.count();
                if !self.headless.is_empty() && is_headless(&mut self.headless, &entry) {
                    self.shared.lose(0, 0, Weight::of(&entry).bytes);
                    continue;
                }
                // An end that states a loss is not in the log without the gap that tells of it.
                let gap = states_loss(&entry).then(|| take_gap(self.shared, &mut self.reason));
                let told = gap.flatten().map_or(Ok(()), |gap| self.log.append(gap).map(|_| ()));
                self.at_hand = Weight::of(&entry);
                append(self.shared, &mut self.log, entry)?;
                self.at_hand = Weight::default();
                told?;
            }
            self.shared.queued.fetch_sub(cost, Ordering::AcqRel);
            if let Some(batch) = self.current.take() {
                self.shared.keep_batch(batch);
            }
        }
        Ok(taken)
    }

    /// Stops writing for a while.
    fn stumble(&mut self, cause: Cause<L::Error>, reason: DropReason) {
        let text = match &cause {
            Cause::Log(error) => describe(error),
            Cause::Panic(text) => format!("a defect of the program: {text}"),
        };
        self.shared.degraded(text);
        self.reason = reason;
        self.at_hand = Weight::default();
        let next = self.shared.clock.now() + RETRY_EVERY;
        self.trouble = Some(Trouble { cause, next });
    }

    fn finish(mut self) -> Result<L::Summary, RecorderError<L::Error>> {
        if self.trouble.is_none() {
            // What the log could not write it has taken: whether it can is the end's to say.
            let _at_the_end = self.tell_omissions();
        }
        self.shared.publish(&mut self.log);
        let Some(trouble) = self.trouble else {
            return self.log.finish(self.shared.clock.now()).map_err(RecorderError::Log);
        };
        if let Some(batch) = self.current {
            discard(self.shared, batch);
        }
        Err(match trouble.cause {
            Cause::Log(error) => RecorderError::Log(error),
            Cause::Panic(text) => RecorderError::Panicked(text),
        })
    }
}

/// Returns whether an entry belongs to an exchange whose head was lost; its end is the last of it.
fn is_headless(headless: &mut BTreeSet<ExchangeId>, entry: &Entry<'_>) -> bool {
    match entry {
        Entry::Frames(frames) => headless.contains(&frames.exchange),
        Entry::Event(Event::End(end)) => headless.remove(&end.exchange),
        Entry::Event(event) => event.exchange().is_some_and(|id| headless.contains(&id)),
    }
}

/// Takes what was left out since the last call as a gap, for `reason`, which holds once.
fn take_gap(shared: &Shared, reason: &mut DropReason) -> Option<Event> {
    let gap = shared.take_gap(*reason)?;
    *reason = DropReason::QueueFull;
    Some(Event::Gap(gap))
}

fn states_loss(entry: &Entry<'_>) -> bool {
    matches!(entry, Entry::Event(Event::End(end)) if end.request.lost_frames > 0 || end.response.lost_frames > 0)
}

fn append<L: Log>(shared: &Shared, log: &mut L, entry: Entry<'_>) -> Result<(), L::Error> {
    let appended = match entry {
        Entry::Frames(frames) => log.append_frames(frames)?,
        Entry::Event(event) => log.append(event)?,
    };
    if let Appended::LeftOut { bytes } = appended {
        shared.lose(0, 0, bytes);
    }
    Ok(())
}

// === impl Weight ===

impl Weight {
    fn of(entry: &Entry<'_>) -> Self {
        match entry {
            Entry::Event(event) if event.is_request_head() => {
                Self { head: event.exchange(), frames: 0, bytes: cost(event) }
            }
            Entry::Event(Event::Frame(frame)) => {
                Self { head: None, frames: 1, bytes: frame.data.len() }
            }
            Entry::Frames(frames) => {
                Self { head: None, frames: entry.count() as u64, bytes: frames.parts.total() }
            }
            Entry::Event(_) => Self::default(),
        }
    }

    fn lose(self, shared: &Shared) {
        if self.head.is_some() || self.frames > 0 {
            shared.lose(u64::from(self.head.is_some()), self.frames, self.bytes);
        }
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message").to_owned()
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Mutex, MutexGuard};

    use super::*;
    use crate::proxy::status::{Admission, RecorderState};
    use crate::trace::record::{
        Counters, End, Frame, FramesRef, Gap, Outcome, PackedHead, Parts, Passed, RequestHeadRef,
        Side, Span, Version,
    };

    /// A log that works, refuses or panics as it is told. Clones are the same log.
    #[derive(Clone, Default)]
    struct Fickle(Arc<Mutex<State>>);

    #[derive(Default)]
    struct State {
        refuses: bool,
        given_up: u32,
        events: Vec<Event>,
    }

    const POISON: &[u8] = b"poison";

    impl Fickle {
        fn state(&self) -> MutexGuard<'_, State> {
            self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
        }

        fn refuse(&self, refuses: bool) {
            self.state().refuses = refuses;
        }

        fn outcome(&self) -> io::Result<()> {
            if self.state().refuses { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
        }
    }

    impl Log for Fickle {
        type Summary = Vec<Event>;
        type Error = io::Error;

        fn append(&mut self, event: Event) -> io::Result<Appended> {
            let is_poison = matches!(&event, Event::Frame(frame) if frame.data == POISON);
            assert!(!is_poison, "a defect");
            self.state().events.push(event);
            Ok(Appended::Taken)
        }

        fn flush(&mut self, _now: Nanos) -> io::Result<()> {
            self.outcome()
        }

        fn resume(&mut self, _now: Nanos) -> io::Result<()> {
            self.outcome()
        }

        fn give_up(&mut self) {
            self.state().given_up += 1;
        }

        fn strain(&mut self, _strain: Strain) {}

        fn counters(&self) -> Counters {
            Counters::default()
        }

        fn written_bytes(&self) -> u64 {
            0
        }

        fn finish(self, _now: Nanos) -> io::Result<Vec<Event>> {
            self.outcome().map(|()| std::mem::take(&mut self.state().events))
        }
    }

    fn start(budget: usize) -> (Fickle, Recorder<Vec<Event>, io::Error>, Feed) {
        let log = Fickle::default();
        let (recorder, feed) = Recorder::start(log.clone(), budget, Clock::start()).unwrap();
        (log, recorder, feed)
    }

    fn admit(feed: &Feed) -> (ExchangeId, bool) {
        let (id, admission) = feed.admit(|exchange| {
            let head = RequestHeadRef {
                exchange,
                at: Nanos(1),
                connection: 1,
                version: Version::Http11,
                method: &http::Method::GET,
                target: "/",
                authority: None,
                headers: &http::HeaderMap::new(),
                upstream: 0,
            };
            PackedHead::request(head, None)
        });
        (id, admission == Admission::Admitted)
    }

    fn push(feed: &Feed, exchange: ExchangeId, side: Side, data: &[u8]) -> bool {
        let data = bytes::Bytes::copy_from_slice(data);
        feed.frame(Frame { exchange, side, at: Nanos(1), accepted: Nanos(2), data }, false)
    }

    #[track_caller]
    fn wait_for(feed: &Feed, state: RecorderState) {
        let clock = Clock::start();
        while feed.status().state() != state {
            assert!(clock.now().as_secs_f64() < 20.0, "{:?}", feed.status());
            thread::park_timeout(Duration::from_millis(2));
        }
    }

    fn gaps(events: &[Event]) -> Vec<Gap> {
        let gap = |event: &Event| if let Event::Gap(gap) = event { Some(*gap) } else { None };
        events.iter().filter_map(gap).collect()
    }

    /// Invariant 1: a log that fails harms nothing, and what the queue can hold is not even lost.
    #[test]
    fn a_log_that_fails_for_a_while_loses_nothing_that_fits_into_the_queue() {
        let (log, recorder, feed) = start(1 << 20);
        log.refuse(true);
        let (id, admitted) = admit(&feed);
        assert!(admitted);
        wait_for(&feed, RecorderState::Degraded);
        assert!(feed.trouble().unwrap().contains("no storage space"), "{:?}", feed.trouble());
        for number in 0..100 {
            assert!(push(&feed, id, Side::Response, &[number]));
        }
        log.refuse(false);
        wait_for(&feed, RecorderState::Running);
        assert_eq!((feed.trouble(), feed.status().interruptions), (None, 1));
        assert!(push(&feed, id, Side::Response, &[100]));
        let events = recorder.finish().unwrap();
        let frames = events.iter().filter_map(|event| match event {
            Event::Frame(frame) => Some(frame.data[0]),
            _ => None,
        });
        assert!(frames.eq(0..=100), "all of them, in their order");
        assert!(!feed.status().has_loss() && gaps(&events).is_empty());
    }

    /// Invariant 2: what does not fit is left out in the stated order, and is a gap once recording goes on.
    #[test]
    fn what_the_queue_cannot_hold_is_left_out_in_order_and_becomes_a_gap() {
        const PIECE: usize = 1 << 10;
        let (log, recorder, feed) = start(100 << 10);
        log.refuse(true);
        let (first, _) = admit(&feed);
        wait_for(&feed, RecorderState::Degraded);
        let fill = |side| (0..).take_while(|_| push(&feed, first, side, &[0; PIECE])).count();
        let (responses, requests) = (fill(Side::Response), fill(Side::Request));
        assert!((50..=70).contains(&responses), "{responses} KiB of 70");
        assert!((15..=20).contains(&requests), "{requests} KiB of 20 more");
        assert!(!push(&feed, first, Side::Response, b"x"), "responses first");
        assert!(admit(&feed).1, "whole exchanges last");
        while admit(&feed).1 {}
        log.refuse(false);
        let events = recorder.finish().unwrap();
        let gaps = gaps(&events);
        assert_eq!(gaps.len(), 1);
        let Gap { reason, exchanges, frames, .. } = gaps[0];
        assert_eq!((reason, exchanges, frames), (DropReason::WriteFailed, 1, 3));
    }

    #[test]
    fn frames_that_come_together_are_taken_all_or_none() {
        const PIECE: usize = 900;
        let (log, recorder, feed) = start(100 << 10);
        log.refuse(true);
        let (exchange, _) = admit(&feed);
        wait_for(&feed, RecorderState::Degraded);
        let bytes = vec![b'x'; 4 * PIECE];
        let spans = [0, 1, 2, 3].map(|nth| Span { start: nth * PIECE, len: PIECE });
        let (at, accepted, parts) = (Nanos(1), Nanos(2), Parts::new(&bytes, &spans));
        let frames = FramesRef { exchange, side: Side::Response, at, accepted, parts };
        let taken = (0..).take_while(|_| feed.small_frames(frames)).count();
        assert!((15..=18).contains(&taken), "{taken} times 4 of 900 bytes, of 70 KiB");
        assert!(!feed.status().has_loss(), "what was not taken is not lost yet");
        assert!(feed.small_frame(frames.iter().next().unwrap(), false), "one of them has room");
        log.refuse(false);
        let events = recorder.finish().unwrap();
        let whole = events.iter().filter(
            |event| matches!(event, Event::Frame(frame) if frame.data == vec![b'x'; PIECE]),
        );
        assert_eq!(whole.count(), 4 * taken + 1);
    }

    /// Else a recorder that is killed between the two would leave a loss that nothing explains.
    #[test]
    fn an_end_that_states_a_loss_comes_after_the_gap_that_tells_of_it() {
        let (log, recorder, feed) = start(10 << 10);
        log.refuse(true);
        let (exchange, _) = admit(&feed);
        wait_for(&feed, RecorderState::Degraded);
        let bytes = 20_000;
        assert!(!push(&feed, exchange, Side::Response, &vec![0; bytes]));
        let response = Passed {
            bytes: bytes as u64,
            frames: 1,
            lost_bytes: bytes as u64,
            lost_frames: 1,
            ended: true,
        };
        let (at, outcome) = (Nanos(3), Outcome::Complete);
        let request = Passed::default();
        feed.note(Event::End(Box::new(End {
            exchange,
            at,
            outcome,
            fault: None,
            request,
            response,
        })));
        log.refuse(false);
        let events = recorder.finish().unwrap();
        let [.., Event::Gap(gap), Event::End(_)] = &events[..] else { panic!("{events:?}") };
        assert_eq!((gap.reason, gap.frames, gap.bytes), (DropReason::WriteFailed, 1, 20_000));
    }

    /// Invariant 2: of what is left out, the times are left out last.
    #[test]
    fn times_are_kept_of_what_is_left_out_while_there_is_any_room() {
        let (log, recorder, feed) = start(100 << 10);
        log.refuse(true);
        let (exchange, _) = admit(&feed);
        wait_for(&feed, RecorderState::Degraded);
        let pushed = (0..10_000_u64).filter(|number| {
            let (at, accepted) = (Nanos(10 * number), Nanos(10 * number + 1));
            let data = bytes::Bytes::from_static(&[0; 1 << 10]);
            let side = Side::Response;
            feed.frame(Frame { exchange, side, at, accepted, data }, *number > 100)
        });
        let pushed = pushed.count() as u64;
        let status = feed.status();
        assert_eq!(status.lost_frames, 10_000 - pushed);
        assert!((100..1_000).contains(&status.bare_frames), "{status:?}");
        assert!(status.queued_bytes <= 100 << 10, "{status:?}");
        assert!(admit(&feed).1, "whole exchanges last");
        log.refuse(false);
        let events = recorder.finish().unwrap();
        let bare: Vec<_> = events
            .iter()
            .filter_map(|event| if let Event::Bare(frame) = event { Some(frame) } else { None })
            .collect();
        assert_eq!(bare.len() as u64, status.bare_frames);
        assert!(
            bare.iter().all(|frame| frame.len == 1 << 10 && frame.accepted.0 == frame.at.0 + 1)
        );
        let [Gap { frames, bytes, .. }] = gaps(&events)[..] else { panic!("one gap") };
        assert_eq!((frames, bytes), (10_000 - pushed, (10_000 - pushed) << 10));
    }

    #[test]
    fn a_panic_costs_what_it_met_and_recording_goes_on() {
        let (log, recorder, feed) = start(1 << 20);
        let (id, _) = admit(&feed);
        for data in [b"before".as_slice(), POISON, b"after"] {
            assert!(push(&feed, id, Side::Response, data));
        }
        wait_for(&feed, RecorderState::Degraded);
        assert!(feed.trouble().unwrap().contains("a defect"), "{:?}", feed.trouble());
        wait_for(&feed, RecorderState::Running);
        let events = recorder.finish().unwrap();
        let frames = events.iter().filter(|event| matches!(event, Event::Frame(_))).count();
        assert_eq!((frames, log.state().given_up), (2, 1));
        let Gap { reason, frames, bytes, .. } = gaps(&events)[0];
        assert_eq!((reason, frames, bytes), (DropReason::RecorderStopped, 1, 6));
    }

    #[test]
    fn a_log_that_fails_to_the_end_is_an_error_and_all_of_it_is_counted() {
        let (log, recorder, feed) = start(1 << 20);
        log.refuse(true);
        let (id, _) = admit(&feed);
        wait_for(&feed, RecorderState::Degraded);
        assert!(admit(&feed).1 && push(&feed, id, Side::Request, b"lost"));
        let error = recorder.finish().unwrap_err();
        assert!(matches!(error, RecorderError::Log(_)), "{error}");
        let status = feed.status();
        assert_eq!((status.lost_exchanges, status.lost_frames), (1, 1));
        assert!(status.ended);
        assert!(!admit(&feed).1, "nobody writes any more");
    }
}
