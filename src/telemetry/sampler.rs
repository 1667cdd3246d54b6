//! Threads that read at an absolute period and hand what they read to a sink.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use crate::clock::{Clock, Nanos};
use crate::results::manifest::Gpu;
use crate::results::rows::Sample;

use super::{amdgpu, host, nvml, prometheus};

/// What to sample, and how often.
#[derive(Clone, Debug)]
pub struct Options {
    /// Time between two readings of a GPU or of the machine.
    pub period: Duration,
    /// Time between two scrapes of a metrics page.
    pub scrape_period: Duration,
    /// Where NVIDIA's library is; none for where the loader finds it.
    pub nvml_library: Option<PathBuf>,
    /// URLs of metrics pages in Prometheus' text format.
    pub scrape: Vec<String>,
    /// TLS settings for metrics pages behind `https`; none for the system's roots.
    pub tls: Option<Arc<rustls::ClientConfig>>,
    /// The folder that `proc` and `sys` are in: `/`.
    pub root: PathBuf,
}

/// Samplers at work. Dropped, they stop without being waited for.
#[derive(Debug)]
pub struct Running {
    /// What is sampled, and why other things are not: sentences for the manifest.
    pub notes: Vec<String>,
    /// The GPUs that are sampled.
    pub gpus: Vec<Gpu>,
    threads: Vec<Thread>,
}

/// One source of readings.
pub(super) trait Source: Send {
    /// What it is, for sentences: `GPU 0`, `host`.
    fn name(&self) -> String;

    /// Reads once; hands each reading to `sink`. The reading's time is `stamp`.
    ///
    /// # Errors
    /// A sentence that says why nothing could be read.
    fn read(&mut self, stamp: Stamp, sink: &mut dyn FnMut(Sample)) -> Result<(), String>;
}

/// The time of a reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    /// Since the run's start.
    pub(super) at_ns: i64,
    /// Nanoseconds since 1970, UTC.
    pub(super) utc_ns: i64,
}

/// What a sampler's thread has to say at its end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Tally {
    readings: u64,
    missed: u64,
    failed: u64,
    refused: u64,
    last_failure: Option<String>,
}

#[derive(Debug)]
struct Thread {
    name: String,
    stop: Sender<()>,
    handle: JoinHandle<Tally>,
}

/// A GPU that was found, and how to read it.
pub(super) struct Found {
    pub(super) gpu: Gpu,
    pub(super) source: Box<dyn Source>,
}

/// Takes a reading, or refuses it.
type Sink = Arc<dyn Fn(Sample) -> bool + Send + Sync>;

// === impl Options ===

impl Default for Options {
    /// Every 100 ms, metrics pages every second, nothing scraped.
    fn default() -> Self {
        Self {
            period: Duration::from_millis(100),
            scrape_period: Duration::from_secs(1),
            nvml_library: None,
            scrape: Vec::new(),
            tls: None,
            root: PathBuf::from("/"),
        }
    }
}

/// Starts sampling on `clock`. Each reading is handed to `sink` on the sampler's thread: it must not wait, and says
/// whether it took the reading (a full channel did not).
pub fn start<F>(options: &Options, clock: Clock, sink: F) -> Running
where
    F: Fn(Sample) -> bool + Send + Sync + 'static,
{
    let mut running = Running { notes: Vec::new(), gpus: Vec::new(), threads: Vec::new() };
    let sink: Sink = Arc::new(sink);
    let (gpus, why_not) = find_gpus(options);
    running.notes.extend(why_not);
    for Found { gpu, source } in gpus {
        running.notes.push(format!(
            "GPU {} ({}) is sampled every {:?}.",
            gpu.index, gpu.name, options.period
        ));
        running.gpus.push(gpu);
        running.spawn(source, clock, options.period, &sink);
    }
    match host::find(&options.root) {
        Ok(source) => {
            let period = options.period;
            running.notes.push(format!("Machine and process are sampled every {period:?}."));
            running.spawn(Box::new(source), clock, period, &sink);
        }
        Err(sentence) => running.notes.push(sentence),
    }
    for url in &options.scrape {
        match prometheus::find(url, options.tls.clone(), clock) {
            Ok(source) => {
                let period = options.scrape_period;
                running.notes.push(format!("{url} is scraped every {period:?}."));
                running.spawn(Box::new(source), clock, period, &sink);
            }
            Err(sentence) => running.notes.push(sentence),
        }
    }
    running
}

/// Looks for GPUs of all makes. Without any, the sentence says where was looked.
fn find_gpus(options: &Options) -> (Vec<Found>, Option<String>) {
    let (mut gpus, why_not) = match nvml::find(options.nvml_library.as_deref()) {
        Ok(gpus) => (gpus, None),
        Err(why) => (Vec::new(), Some(why)),
    };
    gpus.extend(amdgpu::find(&options.root, gpus.len()));
    let sentence = match (why_not, options.nvml_library.as_ref()) {
        (Some(why), Some(_)) => Some(format!("No NVIDIA GPU is sampled: {why}.")),
        (Some(why), None) if gpus.is_empty() => {
            Some(format!("No GPU is sampled: NVIDIA: {why}; AMD: no card under /sys/class/drm."))
        }
        (None, _) if gpus.is_empty() => {
            Some("No GPU is sampled: NVIDIA's library and /sys/class/drm name none.".to_owned())
        }
        _ => None,
    };
    (gpus, sentence)
}

// === impl Running ===

impl Running {
    /// Stops all samplers, waits for them, and returns a sentence for each doubt about what they read.
    #[must_use]
    pub fn stop(self) -> Vec<String> {
        let mut doubts = Vec::new();
        for Thread { name, stop, handle } in self.threads {
            drop(stop);
            match handle.join() {
                Ok(tally) => doubts.extend(tally.doubts(&name)),
                Err(_) => doubts.push(format!("The sampler of {name} broke down.")),
            }
        }
        doubts
    }

    fn spawn(&mut self, mut source: Box<dyn Source>, clock: Clock, period: Duration, sink: &Sink) {
        let name = source.name();
        let (stop, stopped) = channel();
        let sink = Arc::clone(sink);
        let spawned = Builder::new()
            .name(format!("sample {name}"))
            .spawn(move || sample(source.as_mut(), &clock, period, &stopped, &*sink));
        match spawned {
            Ok(handle) => self.threads.push(Thread { name, stop, handle }),
            Err(error) => self.notes.push(format!("The sampler of {name} can't start: {error}.")),
        }
    }
}

/// Reads until told to stop.
fn sample(
    source: &mut dyn Source,
    clock: &Clock,
    period: Duration,
    stopped: &Receiver<()>,
    sink: &dyn Fn(Sample) -> bool,
) -> Tally {
    let mut tally = Tally::default();
    let mut due = next_due(Nanos::ZERO, clock.now(), period).0;
    loop {
        match stopped.recv_timeout(due.since(clock.now())) {
            Err(RecvTimeoutError::Timeout) => {}
            Ok(()) | Err(RecvTimeoutError::Disconnected) => return tally,
        }
        let at = clock.now();
        let stamp = Stamp { at_ns: at.as_i64(), utc_ns: clock.anchor().unix_ns(at) };
        let read = source.read(stamp, &mut |sample| tally.refused += u64::from(!sink(sample)));
        tally.readings += 1;
        if let Err(why) = read {
            tally.failed += 1;
            tally.last_failure = Some(why);
        }
        let (next, missed) = next_due(due, clock.now(), period);
        due = next;
        tally.missed += missed;
    }
}

/// Returns the next whole multiple of `period` after both `last` and `now`, and how many between `last` and it are
/// missed.
fn next_due(last: Nanos, now: Nanos, period: Duration) -> (Nanos, u64) {
    let period = Nanos::from(period).0.max(1);
    let last_tick = last.0 / period;
    let next_tick = (now.0 / period).max(last_tick) + 1;
    (Nanos(next_tick.saturating_mul(period)), next_tick - last_tick - 1)
}

// === impl Tally ===

impl Tally {
    fn doubts(&self, name: &str) -> Vec<String> {
        let Self { readings, missed, failed, refused, last_failure } = self;
        let mut doubts = Vec::new();
        if *missed > 0 {
            doubts.push(format!(
                "{name}: {missed} readings were missed beside {readings} taken; a reading takes longer than the period."
            ));
        }
        if let Some(why) = last_failure {
            doubts
                .push(format!("{name}: {failed} of {readings} readings failed, the last: {why}."));
        }
        if *refused > 0 {
            doubts.push(format!("{name}: {refused} values were dropped, since the results could not be written fast enough."));
        }
        doubts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(last_ms: u64, now_ms: u64, expected: (u64, u64)) {
        let ms = |ms: u64| Nanos(ms * 1_000_000);
        let (due, missed) = next_due(ms(last_ms), ms(now_ms), Duration::from_millis(100));
        assert_eq!((due.0 / 1_000_000, missed), expected, "last {last_ms}, now {now_ms}");
    }

    #[test]
    fn readings_stay_on_the_grid() {
        check(0, 0, (100, 0));
        check(100, 101, (200, 0));
        check(100, 199, (200, 0));
        check(100, 200, (300, 1));
        check(100, 455, (500, 3));
        check(300, 250, (400, 0));
    }

    #[test]
    fn a_source_that_fails_is_told_once_with_its_reason() {
        struct Broken(u32);
        impl Source for Broken {
            fn name(&self) -> String {
                "a thing".into()
            }

            fn read(&mut self, _: Stamp, sink: &mut dyn FnMut(Sample)) -> Result<(), String> {
                self.0 += 1;
                sink(Sample::Host(crate::results::rows::HostSample::default()));
                Err(format!("it broke {} times", self.0))
            }
        }
        let (stop, stopped) = channel();
        let (told, tell) = channel();
        let clock = Clock::start();
        let handle = std::thread::spawn(move || {
            sample(&mut Broken(0), &clock, Duration::from_micros(50), &stopped, &move |_| {
                let _ = told.send(());
                false
            })
        });
        tell.recv().unwrap();
        tell.recv().unwrap();
        drop(stop);
        let tally = handle.join().unwrap();
        let doubts = tally.doubts("a thing");
        assert!(
            tally.failed >= 2 && tally.failed == tally.readings && tally.refused == tally.failed
        );
        assert!(doubts.iter().any(|doubt| doubt.contains("it broke")), "{doubts:?}");
        assert!(doubts.iter().any(|doubt| doubt.contains("dropped")), "{doubts:?}");
    }
}
