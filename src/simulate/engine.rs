//! When the model says it: slots, queue, prefill, and tokens at absolute due times.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::answer::{Answer, Finish};
use super::metrics::Metrics;
use super::options::SimulateOptions;
use super::timer::Timer;
use crate::clock::{Clock, Nanos};

/// The simulated engine: what all requests share.
#[derive(Debug)]
pub(super) struct Engine {
    pub(super) options: SimulateOptions,
    pub(super) clock: Clock,
    timer: Timer,
    slots: Arc<Semaphore>,
    running: AtomicUsize,
    waiting: AtomicUsize,
    pub(super) metrics: Metrics,
    answers: AtomicU64,
}

/// One request on its way through the engine. Dropped before [`Generation::finish`], it counts as aborted, and its slot is
/// free at once.
#[derive(Debug)]
pub(super) struct Generation {
    engine: Arc<Engine>,
    asked: Nanos,
    state: State,
    /// When the next token is due.
    due: Nanos,
    /// When the last token came.
    last: Nanos,
}

#[derive(Debug)]
enum State {
    Waiting,
    /// Holds the slot.
    Running(OwnedSemaphorePermit),
    Finished,
}

// === impl Engine ===

impl Engine {
    /// # Errors
    /// The system has no thread left for the timer.
    pub(super) fn start(options: SimulateOptions, clock: Clock) -> std::io::Result<Arc<Self>> {
        let slots = Arc::new(Semaphore::new(options.slots.clamp(1, Semaphore::MAX_PERMITS)));
        Ok(Arc::new(Self {
            timer: Timer::start(clock)?,
            clock,
            slots,
            running: AtomicUsize::default(),
            waiting: AtomicUsize::default(),
            metrics: Metrics::new(),
            answers: AtomicU64::default(),
            options,
        }))
    }

    /// Returns the number of the next answer, from 1.
    pub(super) fn number(&self) -> u64 {
        self.answers.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Returns the metrics page.
    pub(super) fn page(&self) -> String {
        let model = self.options.models.first().map_or("", String::as_str);
        let (running, waiting) = (&self.running, &self.waiting);
        let load = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
        self.metrics.page(model, load(running), load(waiting), self.options.slots)
    }

    /// Returns the wall clock in seconds since 1970.
    pub(super) fn unix_seconds(&self) -> i64 {
        self.clock.anchor().unix_ns(self.clock.now()) / 1_000_000_000
    }
}

// === impl Generation ===

impl Generation {
    /// A request has arrived: it waits.
    pub(super) fn new(engine: &Arc<Engine>) -> Self {
        engine.waiting.fetch_add(1, Ordering::Relaxed);
        let asked = engine.clock.now();
        Self { engine: Arc::clone(engine), asked, state: State::Waiting, due: asked, last: asked }
    }

    /// Waits for a slot, then for the prompt to be read: ready when the first token is.
    pub(super) async fn first(&mut self, prompt_tokens: u64) {
        // The semaphore is never closed, and lets requests in in the order in which they came.
        if let Ok(slot) = Arc::clone(&self.engine.slots).acquire_owned().await {
            self.state = State::Running(slot);
            self.engine.waiting.fetch_sub(1, Ordering::Relaxed);
            self.engine.running.fetch_add(1, Ordering::Relaxed);
        }
        let engine = &self.engine;
        let begun = engine.clock.now();
        engine.metrics.queued.observe(begun - self.asked);
        engine.metrics.prompt_tokens.fetch_add(prompt_tokens, Ordering::Relaxed);
        self.due = begun + engine.options.prefill_time(prompt_tokens);
        engine.timer.sleep_until(self.due).await;
        self.last = engine.clock.now();
        engine.metrics.first_token.observe(self.last - self.asked);
    }

    /// Waits for the next token, which is due a token's time after the one before was due.
    pub(super) async fn next(&mut self) {
        let engine = &self.engine;
        self.due += engine.options.token_time(engine.running.load(Ordering::Relaxed));
        engine.timer.sleep_until(self.due).await;
        let now = engine.clock.now();
        engine.metrics.inter_token.observe(now - self.last);
        self.last = now;
    }

    /// Counts tokens that were said.
    pub(super) fn said(&self, tokens: u64) {
        self.engine.metrics.generation_tokens.fetch_add(tokens, Ordering::Relaxed);
    }

    /// Waits for this long and moves all that follows.
    pub(super) async fn stall(&mut self) {
        self.due += self.engine.options.stall;
        self.engine.timer.sleep_until(self.due).await;
    }

    /// The answer is complete: counts it, and frees the slot. Without an answer in words it is an embedding.
    pub(super) fn finish(mut self, answer: Option<&Answer>) {
        let first = answer.and_then(|answer| answer.choices.first());
        let finish = first.map_or(Finish::Stop, |choice| choice.finish);
        self.engine.metrics.finished(finish);
        self.engine.metrics.end_to_end.observe(self.engine.clock.now() - self.asked);
        self.leave();
    }

    fn leave(&mut self) {
        match std::mem::replace(&mut self.state, State::Finished) {
            State::Waiting => &self.engine.waiting,
            State::Running(_slot) => &self.engine.running,
            State::Finished => return,
        }
        .fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Generation {
    fn drop(&mut self) {
        if !matches!(self.state, State::Finished) {
            self.engine.metrics.aborted();
            self.leave();
        }
    }
}
