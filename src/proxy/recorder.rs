//! The recorder: the thread that writes out what the [queue](crate::proxy::queue) holds.
//!
//! It is not woken but looks by itself each [`DRAIN_EVERY`]. What was left out of the queue becomes a gap. When the thread
//! fails (disk full, a panic), traffic goes on unrecorded, and [`Recorder::finish`] says why.

use std::error::Error;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::clock::{Clock, Nanos};
use crate::proxy::lane::Entry;
use crate::proxy::log::{Appended, Log, Strain};
use crate::proxy::queue::{FINISHED, Feed, PANICKED, Shared, WRITE_FAILED, cost, request_cost};
use crate::trace::record::Event;

/// The thread that writes, seen by its owner.
pub struct Recorder<S, E> {
    shared: Arc<Shared>,
    thread: JoinHandle<Result<S, RecorderError<E>>>,
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

/// How the thread spent its time since the last flush.
struct Pace {
    since: Nanos,
    rested: Duration,
}

/// How long the thread rests between two looks at the queue.
pub const DRAIN_EVERY: Duration = Duration::from_millis(5);
/// How old an event may get before it is flushed. Half of what is promised, since the machine may be busy.
pub const FLUSH_EVERY: Duration = Duration::from_millis(100);
/// Events that the thread takes at most before it looks at the clock.
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
    while let Some(mut batch) = shared.queue.pop() {
        shared.queued.fetch_sub(batch.cost(), Ordering::AcqRel);
        batch.empty(|entry| lose(shared, &entry));
    }
}

/// Counts what will not be written.
fn lose(shared: &Shared, entry: &Entry<'_>) {
    match entry {
        Entry::Event(Event::Request(head)) => shared.lose(1, 0, request_cost(head)),
        Entry::Event(Event::Frame(frame)) => shared.lose(0, 1, frame.data.len()),
        Entry::Frame(frame) => shared.lose(0, 1, frame.data.len()),
        Entry::Event(_) => {}
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
        if taken >= BATCH {
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
    let mut taken = 0;
    while taken < BATCH
        && let Some(mut batch) = shared.queue.pop()
    {
        let cost = batch.cost();
        taken += batch.len();
        let mut appended = Ok(());
        batch.empty(|entry| match &appended {
            Ok(()) => appended = append(shared, log, entry),
            Err(_) => lose(shared, &entry),
        });
        shared.queued.fetch_sub(cost, Ordering::AcqRel);
        appended?;
        shared.keep_batch(batch);
    }
    Ok(taken)
}

fn append<L: Log>(shared: &Shared, log: &mut L, entry: Entry<'_>) -> Result<(), L::Error> {
    let event = match entry {
        Entry::Frame(frame) => {
            if log.append_frame(frame)? == Appended::LeftOut {
                shared.lose(0, 0, frame.data.len());
            }
            return Ok(());
        }
        Entry::Event(event) => event,
    };
    let cost = cost(&event);
    if log.append(event)? == Appended::LeftOut {
        shared.lose(0, 0, cost);
    }
    Ok(())
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message").to_owned()
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::trace::record::{Counters, DropReason, Gap};

    /// A log that breaks at its second event.
    struct Brittle {
        taken: u32,
        panics: bool,
    }

    impl Log for Brittle {
        type Summary = u32;
        type Error = io::Error;

        fn append(&mut self, _event: Event) -> io::Result<Appended> {
            self.taken += 1;
            assert!(self.taken < 2 || !self.panics, "a defect");
            if self.taken < 2 {
                Ok(Appended::Taken)
            } else {
                Err(io::ErrorKind::StorageFull.into())
            }
        }

        fn flush(&mut self, _now: Nanos) -> io::Result<()> {
            Ok(())
        }

        fn strain(&mut self, _strain: Strain) {}

        fn counters(&self) -> Counters {
            Counters::default()
        }

        fn written_bytes(&self) -> u64 {
            0
        }

        fn finish(self) -> io::Result<u32> {
            Ok(self.taken)
        }
    }

    #[track_caller]
    fn check(panics: bool, expected: &str) {
        let (recorder, feed) =
            Recorder::start(Brittle { taken: 0, panics }, 1 << 20, Clock::start()).unwrap();
        let reason = DropReason::QueueFull;
        let gap =
            Gap { from: Nanos(1), until: Nanos(1), reason, exchanges: 0, frames: 0, bytes: 0 };
        // Pushing goes on whatever becomes of the thread, and the failure is a state.
        while !feed.status().failed {
            feed.note(Event::Gap(gap));
        }
        feed.note(Event::Gap(gap));
        let error = recorder.finish().unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }

    /// Invariant 1: recording that fails harms nothing else.
    #[test]
    fn a_failing_thread_becomes_a_state_and_its_error_comes_out_at_the_end() {
        check(false, "recording stopped");
        check(true, "a defect");
    }
}
