//! The recorder: a queue bounded in bytes, and a thread that writes it out.
//!
//! A [`Feed`] pushes events and never waits: the queue has no lock, and the thread is not woken but looks by itself each
//! [`DRAIN_EVERY`]. When the queue is full, frames are left out first, then whole exchanges that are not yet admitted;
//! heads and ends of admitted ones are always taken, since they are bounded by what is in flight. What is left out is
//! counted, and becomes a [`Gap`]. When the thread fails (disk full, a panic), traffic goes on unrecorded, and
//! [`Recorder::finish`] says why.

use std::error::Error;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bytes::Bytes;
use crossbeam_queue::SegQueue;

use crate::clock::{Clock, Nanos};
use crate::proxy::log::{Appended, Log, Strain};
use crate::trace::record::{
    Counters, DropReason, Event, ExchangeId, Frame, Gap, RequestHead, ResponseHead,
};

/// The thread that writes, seen by its owner.
pub struct Recorder<S, E> {
    shared: Arc<Shared>,
    thread: JoinHandle<Result<S, RecorderError<E>>>,
}

/// The recorder, seen by those that have something to record. Clones feed the same queue.
#[derive(Clone)]
pub struct Feed {
    shared: Arc<Shared>,
}

/// What the recorder has seen so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecorderStatus {
    /// Exchanges by what became of them, as far as they are written.
    pub counters: Counters,
    /// Bytes in the queue.
    pub queued_bytes: usize,
    /// Most bytes that were ever in the queue when the thread looked.
    pub high_water_bytes: usize,
    /// Bytes on disk.
    pub written_bytes: u64,
    /// Body bytes recorded or lost, both ways.
    pub body_bytes: u64,
    /// Whole exchanges left out.
    pub lost_exchanges: u64,
    /// Frames of known exchanges left out.
    pub lost_frames: u64,
    /// Bytes left out.
    pub lost_bytes: u64,
    /// Whether the thread has failed: nothing is recorded any more.
    pub failed: bool,
}

/// Why recording ended early.
#[derive(Debug, thiserror::Error)]
pub enum RecorderError<E> {
    /// The log could not be written.
    #[error("recording stopped; traffic went on")]
    Log(#[source] E),
    /// A defect of ours.
    #[error("recording stopped by a defect of the program ({0}); traffic went on")]
    Panicked(String),
}

struct Shared {
    queue: SegQueue<Event>,
    clock: Clock,
    budget: usize,
    /// Bytes that request heads may take beyond the budget.
    reserve: usize,
    queued: AtomicUsize,
    high_water: AtomicUsize,
    state: AtomicU8,
    finishing: AtomicBool,
    exchanges: AtomicU64,
    body_bytes: AtomicU64,
    written_bytes: AtomicU64,
    loss: Loss,
    /// Loss that a gap has told of, or that can't be told any more.
    told: Loss,
    counters: std::sync::Mutex<Counters>,
}

#[derive(Default)]
struct Loss {
    exchanges: AtomicU64,
    frames: AtomicU64,
    bytes: AtomicU64,
    /// When it began, plus one; 0 when there is none.
    since: AtomicU64,
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
/// What an event costs beside its bytes.
const EVENT_BYTES: usize = 96;
/// Events that the thread takes at most before it looks at the clock.
const BATCH: usize = 4096;

const RUNNING: u8 = 0;
const FINISHED: u8 = 1;
const WRITE_FAILED: u8 = 2;
const PANICKED: u8 = 3;

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
        let shared = Arc::new(Shared {
            queue: SegQueue::new(),
            clock,
            budget,
            reserve: budget / 4,
            queued: AtomicUsize::new(0),
            high_water: AtomicUsize::new(0),
            state: AtomicU8::new(RUNNING),
            finishing: AtomicBool::new(false),
            exchanges: AtomicU64::new(0),
            body_bytes: AtomicU64::new(0),
            written_bytes: AtomicU64::new(log.written_bytes()),
            loss: Loss::default(),
            told: Loss::default(),
            counters: std::sync::Mutex::new(log.counters()),
        });
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

// === impl RecorderStatus ===

impl RecorderStatus {
    /// Returns whether anything could not be recorded.
    #[must_use]
    pub const fn has_loss(&self) -> bool {
        self.lost_exchanges > 0 || self.lost_frames > 0 || self.lost_bytes > 0
    }
}

// === impl Feed ===

impl Feed {
    /// Returns the clock of the trace.
    #[must_use]
    pub fn clock(&self) -> Clock {
        self.shared.clock
    }

    /// Returns what was seen so far.
    #[must_use]
    pub fn status(&self) -> RecorderStatus {
        self.shared.status()
    }

    /// Numbers an exchange and admits it. False when there is no room: then nothing else of it may be pushed but
    /// [`Feed::lost_body`].
    #[must_use]
    pub fn admit(&self, request: impl FnOnce(ExchangeId) -> RequestHead) -> (ExchangeId, bool) {
        let id = ExchangeId(self.shared.exchanges.fetch_add(1, Ordering::Relaxed) + 1);
        let limit = self.shared.budget + self.shared.reserve;
        let head = request(id);
        let cost = head_cost(&head.headers) + head.target.len();
        let admitted = self.shared.push(Event::Request(Box::new(head)), cost, limit);
        if !admitted {
            self.shared.lose(1, 0, cost);
        }
        (id, admitted)
    }

    /// Pushes a body frame; false when there is no room.
    #[must_use]
    pub fn frame(&self, frame: Frame) -> bool {
        let bytes = frame.data.len();
        let pushed = self.shared.push(Event::Frame(frame), bytes + EVENT_BYTES, self.shared.budget);
        if !pushed {
            self.shared.lose(0, 1, bytes);
        }
        pushed
    }

    /// Pushes the head of a response.
    pub fn response(&self, head: ResponseHead) {
        let cost = head_cost(&head.headers);
        self.must(Event::Response(Box::new(head)), cost);
    }

    /// Pushes what is neither a frame nor a head: small, and bounded by the exchanges in flight.
    pub fn note(&self, event: Event) {
        self.must(event, 4 * EVENT_BYTES);
    }

    /// Counts the body bytes of an exchange that was not admitted.
    pub fn lost_body(&self, data: &Bytes) {
        self.shared.lose(0, 0, data.len());
    }

    /// Counts body bytes that passed, for the status.
    pub fn passed(&self, bytes: u64) {
        self.shared.body_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn must(&self, event: Event, cost: usize) {
        // Lost only when the thread has failed, and then everything is.
        let _pushed = self.shared.push(event, cost, usize::MAX);
    }
}

/// Returns what a message head costs in the queue.
fn head_cost(headers: &http::HeaderMap) -> usize {
    let fields: usize =
        headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 64).sum();
    fields + 4 * EVENT_BYTES
}

// === impl Shared ===

impl Shared {
    fn push(&self, event: Event, cost: usize, limit: usize) -> bool {
        if self.state.load(Ordering::Acquire) != RUNNING {
            return false;
        }
        let before = self.queued.fetch_add(cost, Ordering::AcqRel);
        if before.saturating_add(cost) > limit {
            self.queued.fetch_sub(cost, Ordering::AcqRel);
            return false;
        }
        self.queue.push(event);
        true
    }

    fn lose(&self, exchanges: u64, frames: u64, bytes: usize) {
        let now = self.clock.now().0 + 1;
        // The first loss since the last gap says when it began.
        let _first = self.loss.since.compare_exchange(0, now, Ordering::AcqRel, Ordering::Acquire);
        self.loss.exchanges.fetch_add(exchanges, Ordering::Relaxed);
        self.loss.frames.fetch_add(frames, Ordering::Relaxed);
        self.loss.bytes.fetch_add(bytes as u64, Ordering::Release);
    }

    /// Takes what was lost since the last call, as a gap.
    fn take_gap(&self) -> Option<Gap> {
        let since = self.loss.since.swap(0, Ordering::AcqRel);
        let exchanges = self.loss.exchanges.swap(0, Ordering::AcqRel);
        let frames = self.loss.frames.swap(0, Ordering::AcqRel);
        let bytes = self.loss.bytes.swap(0, Ordering::AcqRel);
        if exchanges == 0 && frames == 0 && bytes == 0 {
            return None;
        }
        self.told.exchanges.fetch_add(exchanges, Ordering::Relaxed);
        self.told.frames.fetch_add(frames, Ordering::Relaxed);
        self.told.bytes.fetch_add(bytes, Ordering::Relaxed);
        let until = self.clock.now();
        let from = if since == 0 { until } else { Nanos(since - 1).min(until) };
        let reason = match self.state.load(Ordering::Acquire) {
            RUNNING => DropReason::QueueFull,
            WRITE_FAILED => DropReason::WriteFailed,
            _ => DropReason::RecorderStopped,
        };
        Some(Gap { from, until, reason, exchanges, frames, bytes })
    }

    /// Returns the share of the budget that is in use.
    #[expect(clippy::cast_precision_loss, reason = "a share, for rough decisions")]
    fn filled(&self) -> f32 {
        self.queued.load(Ordering::Relaxed) as f32 / self.budget.max(1) as f32
    }

    fn status(&self) -> RecorderStatus {
        let counters = *self.counters.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let sum = |pick: fn(&Loss) -> &AtomicU64| {
            pick(&self.loss).load(Ordering::Relaxed) + pick(&self.told).load(Ordering::Relaxed)
        };
        RecorderStatus {
            counters,
            queued_bytes: self.queued.load(Ordering::Relaxed),
            high_water_bytes: self.high_water.load(Ordering::Relaxed),
            written_bytes: self.written_bytes.load(Ordering::Relaxed),
            body_bytes: self.body_bytes.load(Ordering::Relaxed),
            lost_exchanges: sum(|loss| &loss.exchanges),
            lost_frames: sum(|loss| &loss.frames),
            lost_bytes: sum(|loss| &loss.bytes),
            failed: matches!(self.state.load(Ordering::Relaxed), WRITE_FAILED | PANICKED),
        }
    }

    fn publish<L: Log>(&self, log: &L) {
        self.written_bytes.store(log.written_bytes(), Ordering::Relaxed);
        *self.counters.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = log.counters();
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

/// Returns what an event was charged with when it was pushed.
fn cost(event: &Event) -> usize {
    match event {
        Event::Request(head) => head_cost(&head.headers) + head.target.len(),
        Event::Response(head) => head_cost(&head.headers),
        Event::Frame(frame) => frame.data.len() + EVENT_BYTES,
        Event::Link(_) | Event::Interim(_) | Event::Trailers(_) | Event::End(_) | Event::Gap(_) => {
            4 * EVENT_BYTES
        }
    }
}

/// Runs the thread; whatever happens to it, feeds learn that nobody writes any more.
fn guard<L: Log>(shared: &Shared, log: L) -> Result<L::Summary, RecorderError<L::Error>> {
    let outcome = catch_unwind(AssertUnwindSafe(|| write_out(shared, log)));
    match outcome {
        Ok(Ok(summary)) => {
            shared.state.store(FINISHED, Ordering::Release);
            Ok(summary)
        }
        Ok(Err(error)) => {
            shared.state.store(WRITE_FAILED, Ordering::Release);
            clear(shared);
            Err(RecorderError::Log(error))
        }
        Err(panic) => {
            shared.state.store(PANICKED, Ordering::Release);
            clear(shared);
            Err(RecorderError::Panicked(panic_text(&*panic)))
        }
    }
}

/// Lets go of what nobody will write. What is pushed at this very moment is freed with the queue.
fn clear(shared: &Shared) {
    while let Some(event) = shared.queue.pop() {
        match &event {
            Event::Request(_) => shared.lose(1, 0, cost(&event)),
            Event::Frame(frame) => shared.lose(0, 1, frame.data.len()),
            _ => {}
        }
        shared.queued.fetch_sub(cost(&event), Ordering::AcqRel);
    }
}

fn write_out<L: Log>(shared: &Shared, mut log: L) -> Result<L::Summary, L::Error> {
    let mut pace = Pace::begin(shared.clock.now());
    let mut unflushed = false;
    loop {
        // Read before the last look at the queue: what was pushed before `finish` is then seen.
        let finishing = shared.finishing.load(Ordering::Acquire);
        let taken = drain(shared, &mut log)?;
        unflushed |= taken > 0;
        if let Some(gap) = shared.take_gap() {
            log.append(Event::Gap(gap))?;
            unflushed = true;
        }
        let now = shared.clock.now();
        if now.since(pace.since) >= FLUSH_EVERY {
            log.strain(Strain { queue: shared.filled(), busy: pace.busy(now) });
            pace = Pace::begin(now);
            if std::mem::take(&mut unflushed) {
                log.flush(now)?;
                shared.publish(&log);
            }
        }
        if taken == BATCH {
            continue;
        }
        if finishing {
            shared.publish(&log);
            return log.finish();
        }
        thread::park_timeout(DRAIN_EVERY);
        pace.rested += shared.clock.now().since(now);
    }
}

/// Appends what is queued, up to a batch; returns how many events that were.
fn drain<L: Log>(shared: &Shared, log: &mut L) -> Result<usize, L::Error> {
    let queued = shared.queued.load(Ordering::Relaxed);
    shared.high_water.fetch_max(queued, Ordering::Relaxed);
    let (mut taken, mut freed) = (0, 0);
    let mut appended = Ok(Appended::Taken);
    while taken < BATCH
        && appended.is_ok()
        && let Some(event) = shared.queue.pop()
    {
        taken += 1;
        let cost = cost(&event);
        freed += cost;
        appended = log.append(event);
        if matches!(appended, Ok(Appended::LeftOut)) {
            shared.lose(0, 0, cost);
        }
        // Seldom: the feeds write to the same place.
        if taken % 64 == 0 {
            shared.queued.fetch_sub(std::mem::take(&mut freed), Ordering::AcqRel);
        }
    }
    shared.queued.fetch_sub(freed, Ordering::AcqRel);
    appended.map(|_| taken)
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message").to_owned()
}
