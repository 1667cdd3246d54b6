//! `reenact sample`: the samplers alone, for a GPU server that the requests are not sent from.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use serde_json::json;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use crate::clock::Clock;
use crate::results::manifest::{Manifest, Verdict};
use crate::results::rows::Sample;
use crate::results::{RunError, RunWriter};
use crate::telemetry;

use super::Outcome;
use super::telemetry::TelemetryArgs;

/// Sample GPUs, the machine and metrics pages into a run folder
///
/// For a GPU server that the requests are not sent from. Ends after --duration or at Ctrl-C. Both folders name their
/// times in UTC: join them on `sampled_at`.
#[derive(Debug, Args)]
pub(super) struct SampleArgs {
    /// Folder to write; it must not hold a run
    #[arg(long, value_name = "DIR", env = "REENACT_OUT")]
    out: PathBuf,
    /// How long to sample, such as 30s or 5m; until Ctrl-C without it
    #[arg(long, value_name = "TIME", env = "REENACT_DURATION", value_parser = super::duration)]
    duration: Option<Duration>,
    #[command(flatten)]
    telemetry: TelemetryArgs,
}

/// What ends the sampling.
struct Stop {
    runtime: Runtime,
    interrupt: Signal,
    terminate: Signal,
}

/// Samplers at work, and the run folder that their readings go to.
pub(super) struct Sampling {
    manifest: Manifest,
    samplers: telemetry::Running,
    writing: JoinHandle<Result<(RunWriter, u64), RunError>>,
    /// Heard from when the folder can't be written any more.
    failure: oneshot::Receiver<()>,
}

pub(super) fn run(args: &SampleArgs) -> anyhow::Result<Outcome> {
    let stop = Stop::listen()?;
    let clock = Clock::start();
    let mut sampling = Sampling::begin(&args.out, &args.telemetry, clock, "sample")?;
    let (_, never) = oneshot::channel();
    let failure = std::mem::replace(&mut sampling.failure, never);
    stop.wait(args.duration, failure);
    let count = sampling.end(clock)?;
    say(&format!("{count} readings in {}", args.out.display()));
    Ok(Outcome::Done)
}

// === impl Sampling ===

impl Sampling {
    /// Begins to sample into the new run folder `dir`, for `verb`; says what is sampled.
    pub(super) fn begin(
        dir: &Path,
        telemetry: &TelemetryArgs,
        clock: Clock,
        verb: &str,
    ) -> anyhow::Result<Self> {
        let mut manifest = Manifest::begin(clock.anchor());
        manifest.verdict = Verdict::Valid;
        manifest.options.insert("verb".to_owned(), json!(verb));
        (manifest.host, manifest.clock_source) = telemetry::machine(Path::new("/"));
        let writer = RunWriter::create(dir, &manifest)?;
        let (sender, samples) = sync_channel(QUEUE);
        let samplers = telemetry::start(&telemetry.options(), clock, move |sample| {
            sender.try_send(sample).is_ok()
        });
        manifest.gpus.clone_from(&samplers.gpus);
        manifest.telemetry.clone_from(&samplers.notes);
        for note in &samplers.notes {
            say(note);
        }
        let (failed, failure) = oneshot::channel();
        let writing = thread::spawn(move || {
            let written = write(writer, &samples, clock);
            if written.is_err() {
                let _ = failed.send(());
            }
            written
        });
        Ok(Self { manifest, samplers, writing, failure })
    }

    /// Stops, closes the folder and returns the number of readings in it.
    pub(super) fn end(mut self, clock: Clock) -> anyhow::Result<u64> {
        self.manifest.duration_s = clock.now().as_secs_f64();
        self.manifest.telemetry_doubts = self.samplers.stop();
        let (writer, count) =
            self.writing.join().map_err(|_| anyhow::anyhow!("the writer broke down"))??;
        writer.finish(self.manifest)?;
        Ok(count)
    }
}

/// Writes until all samplers have stopped.
fn write(
    mut writer: RunWriter,
    samples: &Receiver<Sample>,
    clock: Clock,
) -> Result<(RunWriter, u64), RunError> {
    let mut count = 0;
    loop {
        match samples.recv_timeout(Duration::from_secs(1)) {
            Ok(sample) => {
                writer.sample(sample)?;
                count += 1;
            }
            Err(RecvTimeoutError::Timeout) => writer.tick(clock.now())?,
            Err(RecvTimeoutError::Disconnected) => return Ok((writer, count)),
        }
    }
}

// === impl Stop ===

impl Stop {
    /// Begins to listen: a signal from now on is not lost.
    fn listen() -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let entered = runtime.enter();
        let interrupt = signal(SignalKind::interrupt()).context("Ctrl-C can't be waited for")?;
        let terminate = signal(SignalKind::terminate()).context("SIGTERM can't be waited for")?;
        drop(entered);
        Ok(Self { runtime, interrupt, terminate })
    }

    /// Waits for the time to be over, for a signal, or for the writer to fail.
    fn wait(mut self, duration: Option<Duration>, failure: oneshot::Receiver<()>) {
        self.runtime.block_on(async {
            let over = async {
                match duration {
                    Some(duration) => tokio::time::sleep(duration).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = over => {}
                _ = self.interrupt.recv() => {}
                _ = self.terminate.recv() => {}
                Ok(()) = failure => {}
            }
        });
    }
}

#[expect(clippy::print_stderr, reason = "words go to stderr")]
fn say(sentence: &str) {
    eprintln!("{sentence}");
}

/// Readings that may wait for the disk.
const QUEUE: usize = 65_536;
