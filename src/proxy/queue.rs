//! The queue between those that have something to record and the thread that writes it: no lock, no waiting, a bound in
//! bytes.
//!
//! When it fills, things are left out in this order: the bytes of single frames of responses ([`RESPONSE_FRAMES`] of the
//! budget is in use), of the rest of a response that has lost some ([`RESPONSE_BODIES`]), of requests ([`REQUEST_BODIES`]); then
//! the times and lengths of these frames, which are kept as [bare frames](BareFrame) until all of the budget is in use; and
//! last, whole exchanges that are not yet admitted (beyond it, there is a reserve for heads). Heads and ends of admitted
//! exchanges are always taken, since they are bounded by what is in flight. What is left out is counted.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crossbeam_queue::{ArrayQueue, SegQueue};

use crate::clock::{Clock, Nanos};
use crate::proxy::histogram::Histogram;
use crate::proxy::lane::{self, Batch};
use crate::proxy::log::Log;
use crate::proxy::status::{Admission, DiskTimes, RecorderStatus};
use crate::proxy::tally::{Taken, Tally};
use crate::trace::record::{
    BareFrame, Counters, DropReason, Event, ExchangeId, Frame, FrameRef, FramesRef, Gap, Omission,
    OmitReason, PackedHead, Side, Span,
};

/// The recorder, seen by those that have something to record. Clones feed the same queue.
#[derive(Clone)]
pub struct Feed {
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Shared {
    pub(super) queue: SegQueue<Batch>,
    /// Emptied batches.
    spare: ArrayQueue<Batch>,
    pub(super) clock: Clock,
    pub(super) budget: usize,
    /// Bytes that request heads may take beyond the budget.
    reserve: usize,
    pub(super) queued: AtomicUsize,
    pub(super) high_water: AtomicUsize,
    pub(super) state: AtomicU8,
    pub(super) finishing: AtomicBool,
    paused: AtomicBool,
    exchanges: AtomicU64,
    body_bytes: AtomicU64,
    pub(super) written_bytes: AtomicU64,
    loss: Tally,
    /// Loss that a gap has told of, or that can't be told any more.
    told: Tally,
    /// What is left out on purpose, by [`OmitReason`], and not told yet.
    omitted: [Tally; 2],
    /// Frames and bytes that the log has lost, which its own gaps tell of.
    log_frames: AtomicU64,
    log_bytes: AtomicU64,
    /// Frames lost but for their times and lengths.
    bare: AtomicU64,
    undecided: AtomicU64,
    interruptions: AtomicU64,
    /// Why nothing is written at present.
    trouble: Mutex<Option<String>>,
    pub(super) counters: Mutex<Counters>,
    pub(super) flushes: Histogram,
    syncs: Histogram,
}

/// What an event costs beside its bytes.
const EVENT_BYTES: usize = 96;
/// Emptied batches that are kept at most.
const SPARE_BATCHES: usize = 1024;
/// Memory of as many equal ones as are kept: of small ones more, of large ones fewer.
const SPARE_BYTES: usize = 4 << 20;
/// What a frame without its bytes costs.
const BARE_BYTES: usize = lane::ITEM_BYTES;
/// Tenths of the budget that single frames of responses may fill.
pub const RESPONSE_FRAMES: usize = 7;
/// Tenths that responses may fill that have lost a frame.
pub const RESPONSE_BODIES: usize = 6;
/// Tenths that frames of requests may fill.
pub const REQUEST_BODIES: usize = 9;
const RUNNING: u8 = 0;
const DEGRADED: u8 = 1;
pub(super) const FINISHED: u8 = 2;

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

    /// Returns how long the disk took so far.
    #[must_use]
    pub fn disk_times(&self) -> DiskTimes {
        let Shared { flushes, syncs, .. } = &*self.shared;
        DiskTimes { flushes: flushes.latencies(), syncs: syncs.latencies() }
    }

    /// Stops recording exchanges that begin from now on, or starts again; true when that is a change.
    pub fn set_paused(&self, is_paused: bool) -> bool {
        self.shared.paused.swap(is_paused, Ordering::Relaxed) != is_paused
    }

    /// Numbers an exchange and admits it. If it is not admitted, nothing else of it may be pushed, but for
    /// [`Feed::lost_body`] if it is lost. While recording is stopped it gets no number.
    #[must_use]
    pub fn admit(&self, request: impl FnOnce(ExchangeId) -> PackedHead) -> (ExchangeId, Admission) {
        if self.shared.paused.load(Ordering::Relaxed) {
            return (ExchangeId(0), Admission::Paused);
        }
        let id = ExchangeId(self.shared.exchanges.fetch_add(1, Ordering::Relaxed) + 1);
        let limit = self.shared.budget + self.shared.reserve;
        let event = Event::Packed(request(id));
        let cost = cost(&event);
        if lane::push(&self.shared, cost, limit, |batch| batch.event(event)) {
            return (id, Admission::Admitted);
        }
        self.shared.lose(1, 0, cost);
        (id, Admission::Lost)
    }

    /// Numbers an exchange that is left out on purpose, and counts it: nothing of it may be pushed but
    /// [`Feed::omitted_body`]. While recording is stopped it gets no number.
    #[must_use]
    pub fn omit(&self, reason: OmitReason) -> (ExchangeId, Admission) {
        if self.shared.paused.load(Ordering::Relaxed) {
            return (ExchangeId(0), Admission::Paused);
        }
        let id = ExchangeId(self.shared.exchanges.fetch_add(1, Ordering::Relaxed) + 1);
        self.shared.omitted(reason).add(self.shared.clock.now(), 1, 0, 0);
        (id, Admission::Omitted(reason))
    }

    /// Counts what passed of one side of an exchange that is left out on purpose.
    pub fn omitted_body(&self, reason: OmitReason, frames: u64, bytes: u64) {
        self.passed(bytes);
        self.shared.omitted(reason).add(self.shared.clock.now(), 0, frames, bytes);
    }

    /// Returns whether what is pushed is written, rather than kept for later.
    #[must_use]
    pub fn is_writing(&self) -> bool {
        self.shared.state.load(Ordering::Acquire) == RUNNING
    }

    /// Returns why nothing is written at present, if so.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.shared.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Pushes a body frame, its bytes by reference; false when there is no room, but maybe for its times and its length.
    /// `has_lost` says whether its body has lost bytes of a frame before.
    #[must_use]
    pub fn frame(&self, frame: Frame, has_lost: bool) -> bool {
        let limit = self.shared.limit(frame.side, has_lost);
        let bare = frame.as_ref().to_bare();
        self.body(bare, limit, |batch| batch.event(Event::Frame(frame)))
    }

    /// As [`Self::frame`], with a copy of the frame's bytes.
    #[must_use]
    pub fn small_frame(&self, frame: FrameRef<'_>, has_lost: bool) -> bool {
        let limit = self.shared.limit(frame.side, has_lost);
        let mut whole = Span::default();
        let alone = frame.alone(&mut whole);
        self.body(frame.to_bare(), limit, |batch| batch.small_frames(alone))
    }

    /// As [`Self::small_frame`], for frames of a body that has lost nothing. False when there is no room for all of them: then
    /// none is taken, and none is lost yet.
    #[must_use]
    pub fn small_frames(&self, frames: FramesRef<'_>) -> bool {
        let cost = frames.parts.total() + frames.parts.spans().len() * EVENT_BYTES;
        let limit = self.shared.limit(frames.side, false);
        lane::push(&self.shared, cost, limit, |batch| batch.small_frames(frames))
    }

    fn body(&self, bare: BareFrame, limit: usize, add: impl FnOnce(&mut Batch)) -> bool {
        let shared = &self.shared;
        let bytes = usize::try_from(bare.len).unwrap_or(usize::MAX);
        if lane::push(shared, bytes.saturating_add(EVENT_BYTES), limit, add) {
            return true;
        }
        shared.lose(0, 1, bytes);
        let event = Event::Bare(bare);
        if lane::push(shared, BARE_BYTES, shared.budget, |batch| batch.event(event)) {
            shared.bare.fetch_add(1, Ordering::Relaxed);
        }
        false
    }

    /// Pushes the head of a response.
    pub fn response(&self, head: PackedHead) {
        let event = Event::Packed(head);
        let cost = cost(&event);
        self.must(event, cost);
    }

    /// Pushes what is neither a frame nor a head: small, and bounded by the exchanges in flight.
    pub fn note(&self, event: Event) {
        self.must(event, 4 * EVENT_BYTES);
    }

    /// Counts the body bytes of an exchange that was not admitted.
    pub fn lost_body(&self, bytes: usize) {
        self.shared.lose(0, 0, bytes);
    }

    /// Counts body bytes that passed, for the status.
    pub fn passed(&self, bytes: u64) {
        self.shared.body_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn must(&self, event: Event, cost: usize) {
        // Lost only when the thread has failed, and then everything is.
        let _pushed = lane::push(&self.shared, cost, usize::MAX, |batch| batch.event(event));
    }
}

// === impl Shared ===

impl Shared {
    pub(super) fn new(budget: usize, written_bytes: u64, counters: Counters, clock: Clock) -> Self {
        Self {
            queue: SegQueue::new(),
            spare: ArrayQueue::new(SPARE_BATCHES),
            clock,
            budget,
            reserve: budget / 4,
            queued: AtomicUsize::new(0),
            high_water: AtomicUsize::new(0),
            state: AtomicU8::new(RUNNING),
            finishing: AtomicBool::new(false),
            paused: AtomicBool::new(false),
            exchanges: AtomicU64::new(0),
            body_bytes: AtomicU64::new(0),
            written_bytes: AtomicU64::new(written_bytes),
            loss: Tally::default(),
            told: Tally::default(),
            omitted: Default::default(),
            log_frames: AtomicU64::new(0),
            log_bytes: AtomicU64::new(0),
            bare: AtomicU64::new(0),
            undecided: AtomicU64::new(0),
            interruptions: AtomicU64::new(0),
            trouble: Mutex::default(),
            counters: Mutex::new(counters),
            flushes: Histogram::default(),
            syncs: Histogram::default(),
        }
    }

    /// Returns whether `cost` more bytes stay within `limit`, and somebody writes.
    pub(super) fn has_room(&self, cost: usize, limit: usize) -> bool {
        self.state.load(Ordering::Acquire) != FINISHED
            && self.queued.load(Ordering::Relaxed).saturating_add(cost) <= limit
    }

    /// Returns an empty batch, with the memory of one that was written if there is one.
    pub(super) fn spare_batch(&self) -> Batch {
        self.spare.pop().unwrap_or(Batch::new())
    }

    /// Keeps the memory of a batch.
    pub(super) fn keep_batch(&self, batch: Batch) {
        if self.spare.len() * batch.memory() < SPARE_BYTES {
            // Let go of when there are enough.
            let _full = self.spare.push(batch);
        }
    }

    /// Pushes what there was room for.
    pub(super) fn push_batch(&self, batch: Batch) {
        self.queued.fetch_add(batch.cost(), Ordering::AcqRel);
        self.queue.push(batch);
    }

    pub(super) fn lose(&self, exchanges: u64, frames: u64, bytes: usize) {
        self.loss.add(self.clock.now(), exchanges, frames, bytes as u64);
    }

    /// Returns the count of what is left out for `reason` before it is in the queue.
    fn omitted(&self, reason: OmitReason) -> &Tally {
        &self.omitted[usize::from(reason == OmitReason::Filtered)]
    }

    /// Takes what was left out on purpose since the last call.
    pub(super) fn take_omissions(&self) -> impl Iterator<Item = Omission> {
        [OmitReason::Sampled, OmitReason::Filtered].into_iter().filter_map(|reason| {
            let Taken { since, exchanges, frames, bytes } = self.omitted(reason).take()?;
            let until = self.clock.now();
            let from = since.unwrap_or(until).min(until);
            Some(Omission { from, until, reason, exchanges, frames, bytes })
        })
    }

    /// Returns the bytes that the queue may hold after a body frame.
    fn limit(&self, side: Side, has_lost: bool) -> usize {
        let tenths = match (side, has_lost) {
            (Side::Request, _) => REQUEST_BODIES,
            (Side::Response, false) => RESPONSE_FRAMES,
            (Side::Response, true) => RESPONSE_BODIES,
        };
        self.budget / 10 * tenths
    }

    /// Says that nothing can be written, and why.
    pub(super) fn degraded(&self, why: String) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
        if self.state.swap(DEGRADED, Ordering::AcqRel) == RUNNING {
            self.interruptions.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Says that writing goes on.
    pub(super) fn recovered(&self) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.state.store(RUNNING, Ordering::Release);
    }

    /// Takes what was lost since the last call, as a gap.
    pub(super) fn take_gap(&self, reason: DropReason) -> Option<Gap> {
        let Taken { since, exchanges, frames, bytes } = self.loss.take()?;
        self.told.add(Nanos::ZERO, exchanges, frames, bytes);
        let until = self.clock.now();
        let from = since.unwrap_or(until).min(until);
        Some(Gap { from, until, reason, exchanges, frames, bytes })
    }

    /// Returns the share of the budget that is in use.
    #[expect(clippy::cast_precision_loss, reason = "a share, for rough decisions")]
    pub(super) fn filled(&self) -> f32 {
        self.queued.load(Ordering::Relaxed) as f32 / self.budget.max(1) as f32
    }

    pub(super) fn status(&self) -> RecorderStatus {
        let counters = *self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        let sum = |pick: fn(&Tally) -> &AtomicU64| {
            pick(&self.loss).load(Ordering::Relaxed) + pick(&self.told).load(Ordering::Relaxed)
        };
        RecorderStatus {
            counters,
            queued_bytes: self.queued.load(Ordering::Relaxed),
            high_water_bytes: self.high_water.load(Ordering::Relaxed),
            written_bytes: self.written_bytes.load(Ordering::Relaxed),
            body_bytes: self.body_bytes.load(Ordering::Relaxed),
            lost_exchanges: sum(|loss| &loss.exchanges),
            lost_frames: sum(|loss| &loss.frames) + self.log_frames.load(Ordering::Relaxed),
            lost_bytes: sum(|loss| &loss.bytes) + self.log_bytes.load(Ordering::Relaxed),
            bare_frames: self.bare.load(Ordering::Relaxed),
            undecided: self.undecided.load(Ordering::Relaxed),
            degraded: self.state.load(Ordering::Relaxed) == DEGRADED,
            ended: self.state.load(Ordering::Relaxed) == FINISHED,
            interruptions: self.interruptions.load(Ordering::Relaxed),
            paused: self.paused.load(Ordering::Relaxed),
        }
    }

    pub(super) fn publish<L: Log>(&self, log: &mut L) {
        for sync in log.take_syncs() {
            self.syncs.record(sync);
        }
        self.written_bytes.store(log.written_bytes(), Ordering::Relaxed);
        let lost = log.lost();
        self.log_frames.store(lost.count, Ordering::Relaxed);
        self.log_bytes.store(lost.bytes, Ordering::Relaxed);
        self.undecided.store(log.undecided(), Ordering::Relaxed);
        *self.counters.lock().unwrap_or_else(PoisonError::into_inner) = log.counters();
    }
}

/// Returns what an event was charged with when it was pushed.
pub(super) fn cost(event: &Event) -> usize {
    match event {
        Event::Packed(head) => head.size() + EVENT_BYTES,
        Event::Frame(frame) => frame.data.len() + EVENT_BYTES,
        Event::Bare(_) => BARE_BYTES,
        Event::Request(_)
        | Event::Response(_)
        | Event::Link(_)
        | Event::Interim(_)
        | Event::Trailers(_)
        | Event::End(_)
        | Event::Gap(_)
        | Event::Omission(_)
        | Event::Prompt(_) => 4 * EVENT_BYTES,
    }
}
