//! A run: the threads of a replay, put together and brought home.
//!
//! ```text
//! feeder thread --Armed--> pacer thread --wake--> calls (one thread, one runtime) --Entry--> results thread
//! ```
//!
//! There is one dispatcher for every schedule: whatever the plan says is due is released then, however many calls are in
//! flight (an open loop). With a reactive load the conductor stands in the pacer's place, and hears of the calls' ends. All calls run on one thread, which does nothing else: no call waits for another's parsing, and
//! one frame's stamp waits for other frames only.

use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use crate::clock::{Clock, Nanos, process_cpu, thread_cpu};
use crate::http::Origin;
use crate::replay::balance::Balancer;
use crate::replay::call::Limits;
use crate::replay::conductor::{self, Conductor};
use crate::replay::connections::{Berths, Connections};
use crate::replay::ending::Aborts;
use crate::replay::feeder::{Budget, Fed, Feeder, Fetch};
use crate::replay::history::Live;
use crate::replay::known::Known;
use crate::replay::ledger::Ledger;
use crate::replay::load::{Load, Picks};
use crate::replay::memo::Memos;
use crate::replay::pace::ReadPace;
use crate::replay::pacer::{Brake, Paced, Pacer};
use crate::replay::plan::Plan;
use crate::replay::priority;
use crate::replay::probe;
use crate::replay::progress::Progress;
use crate::replay::pulse;
use crate::replay::quantile::Histogram;
use crate::replay::rewrite::Rewrite;
use crate::replay::route::{Route, RouteOptions, Unreachable};
use crate::replay::wanted::Wanted;
use crate::results::manifest::Target;

/// What is to be run.
pub struct Setup {
    /// Reads requests from the trace.
    pub fetch: Fetch,
    /// What is known of the exchanges, by their place in the plan.
    pub known: Arc<Vec<Known>>,
    /// What is remembered of them.
    pub memos: Arc<Memos>,
    /// Whether any of them was recorded in HTTP/1, and in HTTP/2.
    pub versions: (bool, bool),
    /// What is due when; for a reactive load, what follows upon what.
    pub plan: Plan,
    /// What has releases due, where that is not the plan.
    pub load: Option<Box<dyn Load>>,
    /// What the target has answered, where its answers are to take the place of recorded ones: for loads whose later turns are
    /// made ready when the ones before have ended.
    pub live: Option<Live>,
    /// What is changed in each request.
    pub rewrite: Rewrite,
    /// Which target gets which request.
    pub balancer: Balancer,
    /// The targets.
    pub targets: Vec<Origin>,
    /// How the targets are spoken to.
    pub route: RouteOptions,
    /// Timeouts.
    pub limits: Limits,
    /// Which calls share a connection.
    pub connections: Connections,
    /// Whether clients leave where the recorded ones left.
    pub aborts: Aborts,
    /// How fast clients read.
    pub read_pace: ReadPace,
    /// How long before a due time the pacer spins.
    pub spin: Duration,
    /// Bytes of bodies that may be ready and not sent.
    pub ahead_bytes: u64,
}

/// What a run did, beside its rows.
#[derive(Clone, Debug, Default)]
pub struct Ran {
    /// What was released.
    pub paced: Paced,
    /// What could not be made ready.
    pub fed: Fed,
    /// Mean time that the thread of the calls waited for a CPU each time it was woken; none where the kernel does not say.
    pub cpu_wait: Option<Duration>,
    /// CPU time that this thread took.
    pub calls_cpu: Option<Duration>,
    /// CPU time that the whole process took while the run went on.
    pub process_cpu: Option<Duration>,
    /// How long the runtime of the calls took to come round, nanoseconds.
    pub stalls: Histogram,
    /// Times of the TCP connects to each target.
    pub connects: Vec<Vec<Duration>>,
    /// Smallest step of the clock that was seen.
    pub clock_step: Duration,
    /// When the last call had ended.
    pub end: Nanos,
}

/// Stops a run: from any thread, at any time, more than once.
#[derive(Clone, Debug)]
pub struct Stop {
    brake: Brake,
    calls: watch::Sender<bool>,
    budget: Arc<Budget>,
}

/// Closes what the feeder waits for when its pacer ends, be it by a panic: nobody is to wait for room that nobody frees, or
/// for wishes that nobody has.
struct Closing(Arc<Budget>, Wanted);

/// Why a run could not begin, or broke.
#[derive(Debug, thiserror::Error)]
pub enum RunFailure {
    /// The system gives no thread or no runtime.
    #[error("can't start a thread")]
    Thread(#[source] std::io::Error),
    /// A target can't be reached.
    #[error(transparent)]
    Unreachable(#[from] Unreachable),
}

/// Releases that may be ready and not due: enough for a second at the highest rates.
const ARMED_MOST: usize = 4_096;
/// How often the calls' thread looks whether results can still be written.
const LOOK: Duration = Duration::from_millis(100);

/// Connects to every target some times, and leaves; returns the times of the TCP connects to each.
///
/// # Errors
/// A target can't be reached.
pub fn preflight(
    targets: &[Origin],
    options: &RouteOptions,
    versions: (bool, bool),
) -> Result<Vec<Vec<Duration>>, RunFailure> {
    let runtime = runtime()?;
    let options =
        RouteOptions { spare: 1, speak: options.speak.narrow(versions), ..options.clone() };
    let route = Route::new(targets, &options, Clock::start());
    runtime.block_on(route.open())?;
    Ok(route.connects())
}

/// Asks each target for its version and its models: two requests to each that the trace does not hold.
///
/// # Errors
/// The system gives no runtime. A target that does not answer is no error: what it says stays unknown.
pub fn probe(
    targets: &[Origin],
    options: &RouteOptions,
    rewrite: &Rewrite,
) -> Result<Vec<Target>, RunFailure> {
    Ok(runtime()?.block_on(probe::probe(targets, options, rewrite, Clock::start())))
}

/// Makes what stops a run with this setup.
#[must_use]
pub fn stop(setup: &Setup) -> Stop {
    Stop {
        brake: Brake::default(),
        calls: watch::Sender::new(false),
        budget: Arc::new(Budget::new(setup.ahead_bytes)),
    }
}

/// Runs it: returns when every call has ended. The clock's origin is the run's time zero.
///
/// # Errors
/// A thread can't be started, or a target can't be reached any more.
///
/// # Panics
/// One of its threads had panicked.
pub fn run(
    setup: Setup,
    clock: Clock,
    ledger: &Ledger,
    stop: &Stop,
    progress: &Arc<Progress>,
) -> Result<Ran, RunFailure> {
    priority::open_many_files();
    let cpu = process_cpu();
    let runtime = runtime()?;
    let (arming, armed) = sync_channel(ARMED_MOST);
    let (ends, ended) = conductor::ends(stop.brake.clone(), clock);
    let wanted = Wanted::new(clock);
    let picks = setup.load.as_ref().map(|load| load.picks());
    let (alive, mut all_ended) = mpsc::channel::<()>(1);
    let options = RouteOptions { speak: setup.route.speak.narrow(setup.versions), ..setup.route };
    let route = Route::new(&setup.targets, &options, clock);
    let feeder = Feeder {
        fetch: setup.fetch,
        rewrite: setup.rewrite,
        balancer: setup.balancer,
        berths: Berths::new(setup.connections, &setup.known),
        route: route.clone(),
        known: setup.known,
        memos: setup.memos,
        limits: setup.limits,
        aborts: setup.aborts,
        read_pace: setup.read_pace,
        calls: runtime.handle().clone(),
        armed: arming,
        budget: Arc::clone(&stop.budget),
        ledger: ledger.clone(),
        live: setup.live,
        stop: stop.calls.subscribe(),
        alive,
        ends: picks.is_some().then_some(ends),
        patience: match picks {
            Some(Picks::InOrder) => setup.plan.entries() as u64,
            Some(Picks::Named) | None => u64::MAX,
        },
        clock,
    };
    let watcher = (ledger.clone(), stop.clone());
    let mut pulse = pulse::start(clock).map_err(RunFailure::Thread)?;
    let tended = route.clone();
    let calls = spawn("reenact-calls", move || {
        priority::raise();
        let (before, cpu) = (Wait::read(), thread_cpu());
        runtime.block_on(async {
            tokio::select! {
                _none = all_ended.recv() => {}
                () = tended.tend() => {}
                () = pulse.feel() => {}
                () = watch(&watcher.0, &watcher.1) => {}
            }
        });
        let wait = Wait::read().zip(before).map(|(after, before)| after.since(&before));
        (wait, since(thread_cpu(), cpu), pulse.finish())
    })?;
    let closing = Closing(Arc::clone(&stop.budget), wanted.clone());
    let counters = Arc::clone(progress);
    let release = move |bytes| {
        counters.released();
        closing.0.free(bytes);
    };
    let (spin, brake) = (setup.spin, stop.brake.clone());
    let plan = setup.plan;
    let pacing = match setup.load {
        Some(load) => {
            let (begin, end, entries) = (plan.first(), plan.end(), plan.entries());
            let wanted = wanted.clone();
            let conductor =
                Conductor { clock, spin, brake, load, begin, end, entries, armed, ended, wanted };
            spawn("reenact-pacer", move || {
                priority::raise();
                conductor.run(release)
            })?
        }
        None => spawn("reenact-pacer", move || {
            priority::raise();
            Pacer { clock, spin, brake }.run(&armed, release)
        })?,
    };
    let feeding = spawn("reenact-feeder", move || match picks {
        Some(Picks::Named) => feeder.run(wanted),
        Some(Picks::InOrder) | None => feeder.run(plan.releases()),
    })?;
    let (fed, paced, (cpu_wait, calls_cpu, stalls)) = (join(feeding), join(pacing), join(calls));
    let process_cpu = since(process_cpu(), cpu);
    let (connects, clock_step) = (route.connects(), clock_step(clock));
    let end = clock.now();
    Ok(Ran { paced, fed, cpu_wait, calls_cpu, process_cpu, stalls, connects, clock_step, end })
}

/// Returns the CPU time from one reading to another.
fn since(after: Option<Duration>, before: Option<Duration>) -> Option<Duration> {
    Some(after?.saturating_sub(before?))
}

/// Ends the run when its results can't be written, or nothing more is to be learned from it. Never returns.
async fn watch(ledger: &Ledger, stop: &Stop) {
    loop {
        tokio::time::sleep(LOOK).await;
        if ledger.has_failed() || ledger.is_lost() || ledger.refusal().is_some() {
            stop.pull();
        }
    }
}

/// Returns the smallest step of the clock among some thousand reads.
fn clock_step(clock: Clock) -> Duration {
    let reads: Vec<Nanos> = (0..4_096).map(|_| clock.now()).collect();
    reads
        .windows(2)
        .map(|pair| pair[1].since(pair[0]))
        .filter(|step| !step.is_zero())
        .min()
        .unwrap_or(Duration::MAX)
}

pub(super) fn runtime() -> Result<tokio::runtime::Runtime, RunFailure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        // A release comes from another thread: it goes before whatever frames are waiting to be read.
        .global_queue_interval(1)
        .build()
        .map_err(RunFailure::Thread)
}

pub(super) fn spawn<T: Send + 'static>(
    name: &str,
    body: impl FnOnce() -> T + Send + 'static,
) -> Result<std::thread::JoinHandle<T>, RunFailure> {
    std::thread::Builder::new().name(name.to_owned()).spawn(body).map_err(RunFailure::Thread)
}

/// Joins a thread; its panic goes on here.
pub(super) fn join<T>(thread: std::thread::JoinHandle<T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// What the scheduler says of the calling thread (`/proc/thread-self/schedstat`).
#[derive(Clone, Copy)]
struct Wait {
    /// Time runnable and not running, nanoseconds.
    waited_ns: u64,
    /// Times it was put on a CPU.
    slices: u64,
}

// === impl Closing ===

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.close();
        self.1.close();
    }
}

// === impl Wait ===

impl Wait {
    fn read() -> Option<Self> {
        let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
        let mut fields = text.split_ascii_whitespace().skip(1).map(str::parse);
        Some(Self { waited_ns: fields.next()?.ok()?, slices: fields.next()?.ok()? })
    }

    fn since(&self, before: &Self) -> Duration {
        let slices = self.slices.saturating_sub(before.slices).max(1);
        Duration::from_nanos(self.waited_ns.saturating_sub(before.waited_ns) / slices)
    }
}

// === impl Stop ===

impl Stop {
    /// Releases nothing more, and gives up what is in flight.
    pub fn pull(&self) {
        self.brake.pull();
        self.budget.close();
        self.calls.send_replace(true);
    }

    /// Returns whether it was pulled.
    #[must_use]
    pub fn is_pulled(&self) -> bool {
        self.brake.is_pulled()
    }
}
