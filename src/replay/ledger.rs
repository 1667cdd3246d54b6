//! The ledger: a queue to the results thread, which makes rows and writes them.
//!
//! It never slows a call: a call puts itself in when it has ended. What bounds the queue is the feeder, which makes nothing more
//! ready while too much waits to be written. The thread is not woken: it looks fifty times a second, at low priority, so that the
//! work on what has ended leaves the CPU to what goes on. When writing fails, it keeps draining and remembers the error for
//! [`Bookkeeper::finish`]; the run is told by [`Ledger::has_failed`].

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_queue::SegQueue;

use crate::clock::{Clock, Nanos};
use crate::replay::call::Done;
use crate::replay::known::Known;
use crate::replay::priority;
use crate::replay::progress::Progress;
use crate::replay::refusal::{Refusal, Refusals};
use crate::replay::row::{self, Compare, Sent};
use crate::replay::summary::Summary;
use crate::replay::warmup::Warmup;
use crate::results::rows::Sample;
use crate::results::slo::{Meter, Slos};
use crate::results::{RunError, RunWriter};

/// The end of the queue that takes entries. Clones share it.
#[derive(Clone)]
pub struct Ledger {
    shared: Arc<Shared>,
}

/// The results thread.
pub struct Bookkeeper {
    shared: Arc<Shared>,
    thread: JoinHandle<Result<Books, RunError>>,
}

/// What is left when all is written.
pub struct Books {
    /// The run folder, to be finished with its manifest.
    pub writer: RunWriter,
    /// What the rows amount to.
    pub summary: Summary,
}

/// One thing to be written.
pub enum Entry {
    /// A call that has ended.
    Call(Box<(Sent, Done)>),
    /// An exchange that could not be made ready, and why.
    Unsent(Box<(Sent, String)>),
    /// A reading of telemetry.
    Sample(Box<Sample>),
    /// The run begins: the due time of its first release.
    Begin(Nanos),
}

/// What the results thread works with.
pub struct Desk<C> {
    /// Id of the run.
    pub run: String,
    /// The run's clock.
    pub clock: Clock,
    /// The run folder.
    pub writer: RunWriter,
    /// What is known of the recorded exchanges, by their place in the plan.
    pub known: Arc<Vec<Known>>,
    /// Finds recorded outputs.
    pub compare: C,
    /// Where the thread says how far it is.
    pub progress: Arc<Progress>,
    /// What the run is held to, if anything.
    pub hold: Option<Hold>,
    /// Which rows are marked as warm-up.
    pub warmup: Warmup,
    /// What the answers say of the targets.
    pub refusals: Refusals,
    /// Due time of the first release, once [`Entry::Begin`] has told it.
    pub first: Nanos,
}

/// What a run is held to.
#[derive(Clone, Debug)]
pub struct Hold {
    /// The objectives.
    pub slos: Slos,
    /// Releases in the plan, of a run that is to end as soon as one of the objectives can't be kept any more.
    pub until_lost: Option<u64>,
}

#[derive(Default)]
struct Shared {
    queue: SegQueue<Entry>,
    closing: AtomicBool,
    failed: AtomicBool,
    dropped_samples: AtomicU64,
    lost: AtomicBool,
    refusal: OnceLock<Refusal>,
}

/// Entries that may wait to be written while more releases are made ready: some 10 MB of short answers. Those that are ready or in
/// flight by then come on top; they are also what is released while the results thread catches up.
const BACKLOG_MOST: usize = 1 << 12;
/// Entries that may wait while readings of telemetry are still taken.
const BACKLOG_OF_SAMPLES: usize = 1 << 11;
/// How often the feeder looks whether it has caught up.
const RETRY: Duration = Duration::from_millis(5);
/// How often the results thread looks.
const LOOK: Duration = Duration::from_millis(20);

/// Starts the results thread.
///
/// # Errors
/// The system gives no thread.
pub fn start<C: Compare + Send + 'static>(desk: Desk<C>) -> std::io::Result<(Ledger, Bookkeeper)> {
    let shared = Arc::new(Shared::default());
    let theirs = Arc::clone(&shared);
    let thread = std::thread::Builder::new()
        .name("reenact-results".to_owned())
        .spawn(move || keep(desk, &theirs))?;
    Ok((Ledger { shared: Arc::clone(&shared) }, Bookkeeper { shared, thread }))
}

fn keep<C: Compare>(mut desk: Desk<C>, shared: &Shared) -> Result<Books, RunError> {
    priority::lower();
    let hold = desk.hold.take();
    let meter = hold.as_ref().map(|hold| Meter::new(hold.slos.clone()));
    let mut summary = Summary { meter, ..Summary::default() };
    let until_lost = hold.and_then(|hold| hold.until_lost);
    let mut error = None;
    loop {
        // Read before the queue: what was put in before closing is seen.
        let closing = shared.closing.load(Ordering::Acquire);
        while let Some(entry) = shared.queue.pop() {
            if let Err(failure) = desk.write(entry, &mut summary) {
                shared.failed.store(true, Ordering::Release);
                error.get_or_insert(failure);
            }
        }
        if let (Some(planned), Some(meter)) = (until_lost, &summary.meter)
            && meter.lost(planned).is_some()
        {
            shared.lost.store(true, Ordering::Release);
        }
        let refusals = &desk.refusals;
        let refusal = if closing { refusals.at_end() } else { refusals.certain() };
        if let Some(refusal) = refusal {
            shared.refusal.get_or_init(|| refusal.clone());
        }
        if let Err(failure) = desk.writer.tick(desk.clock.now()) {
            shared.failed.store(true, Ordering::Release);
            error.get_or_insert(failure);
        }
        if closing {
            return error.map_or(Ok(Books { writer: desk.writer, summary }), Err);
        }
        std::thread::park_timeout(LOOK);
    }
}

// === impl Ledger ===

impl Ledger {
    /// Puts an entry in. Nobody waits for room, least of all a call: see [`Self::catch_up`].
    pub fn put(&self, entry: Entry) {
        self.shared.queue.push(entry);
    }

    /// Waits while so much waits to be written that nothing more is to be made ready, and the run is not over. Returns whether
    /// it had to.
    pub fn catch_up(&self, is_over: impl Fn() -> bool) -> bool {
        let is_behind = || self.shared.queue.len() >= BACKLOG_MOST;
        let had_to = is_behind();
        while is_behind() && !is_over() {
            std::thread::park_timeout(RETRY);
        }
        had_to
    }

    /// Puts a reading in, if there is room; returns whether there was.
    #[must_use]
    pub fn sample(&self, sample: Sample) -> bool {
        let is_taken = self.shared.queue.len() < BACKLOG_OF_SAMPLES;
        if is_taken {
            self.put(Entry::Sample(Box::new(sample)));
        }
        self.shared.dropped_samples.fetch_add(u64::from(!is_taken), Ordering::Relaxed);
        is_taken
    }

    /// Returns how many readings found no room.
    #[must_use]
    pub fn dropped_samples(&self) -> u64 {
        self.shared.dropped_samples.load(Ordering::Relaxed)
    }

    /// Returns whether the run is to end, since an objective that it is held to can't be kept any more.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.shared.lost.load(Ordering::Acquire)
    }

    /// Returns the target that refuses everything, if there is one: the run is to end. Whether all of a short run was refused
    /// is known once the results thread has ended.
    #[must_use]
    pub fn refusal(&self) -> Option<&Refusal> {
        self.shared.refusal.get()
    }

    /// Returns whether writing has failed.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.shared.failed.load(Ordering::Acquire)
    }
}

// === impl Bookkeeper ===

impl Bookkeeper {
    /// Writes what is left and ends the thread.
    ///
    /// # Errors
    /// The run folder could not be written; what was written stays readable.
    ///
    /// # Panics
    /// The results thread had panicked.
    pub fn finish(self) -> Result<Books, RunError> {
        self.shared.closing.store(true, Ordering::Release);
        self.thread.thread().unpark();
        match self.thread.join() {
            Ok(books) => books,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

// === impl Desk ===

impl<C: Compare> Desk<C> {
    fn write(&mut self, entry: Entry, summary: &mut Summary) -> Result<(), RunError> {
        let anchor = self.clock.anchor();
        match entry {
            Entry::Call(call) => {
                let (sent, done) = *call;
                let known = &self.known[sent.release.entry];
                let (mut row, frames) =
                    row::rows(&self.run, anchor, &sent, known, &done, &mut self.compare);
                row.warmup = self.is_warmup(&sent);
                summary.add(&row);
                summary.dispatch.add(Nanos::from(done.woken.since(sent.release.due)).0);
                if let Some(head) = &done.head {
                    summary.add_server(&row.target, &head.headers);
                }
                self.progress.ended(&row);
                self.refusals.add(&row);
                self.writer.frames(frames)?;
                self.writer.request(row)
            }
            Entry::Unsent(unsent) => {
                let (sent, why) = *unsent;
                let known = &self.known[sent.release.entry];
                let mut row = row::unsent(&self.run, anchor, &sent, known, why);
                row.warmup = self.is_warmup(&sent);
                summary.add_unsent(&row);
                self.writer.request(row)
            }
            Entry::Sample(sample) => self.writer.sample(*sample),
            Entry::Begin(first) => {
                self.first = first;
                Ok(())
            }
        }
    }

    fn is_warmup(&self, sent: &Sent) -> bool {
        self.warmup.holds(sent.release.number, sent.release.due.since(self.first))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::rows::HostSample;

    #[test]
    fn whoever_makes_releases_ready_waits_for_a_results_thread_that_is_behind() {
        let ledger = Ledger { shared: Arc::new(Shared::default()) };
        let fill =
            |entries: usize| (0..entries).for_each(|_| ledger.put(Entry::Begin(Nanos::ZERO)));
        let sample = || ledger.sample(Sample::Host(HostSample::default()));
        fill(BACKLOG_OF_SAMPLES - 1);
        assert!(sample() && !sample());
        assert_eq!(ledger.dropped_samples(), 1);
        fill(BACKLOG_MOST - BACKLOG_OF_SAMPLES - 1);
        assert!(!ledger.catch_up(|| unreachable!("there is room for one more")));
        fill(1);
        assert!(ledger.catch_up(|| true), "nobody waits when the run is over");
        let theirs = ledger.clone();
        let waiting = std::thread::spawn(move || theirs.catch_up(|| false));
        drop(ledger.shared.queue.pop());
        waiting.join().unwrap();
        assert!(!ledger.catch_up(|| false));
    }
}
