//! `reenact sample`: the samplers alone, for a GPU server that the requests are not sent from.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
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

pub(super) fn run(args: &SampleArgs) -> anyhow::Result<Outcome> {
    let stop = Stop::listen()?;
    let clock = Clock::start();
    let mut manifest = Manifest::begin(clock.anchor());
    manifest.verdict = Verdict::Valid;
    manifest.options.insert("verb".to_owned(), json!("sample"));
    (manifest.host, manifest.clock_source) = telemetry::machine(Path::new("/"));
    let writer = RunWriter::create(&args.out, &manifest)?;

    let (sender, samples) = sync_channel(QUEUE);
    let sampling = telemetry::start(&args.telemetry.options(), clock, move |sample| {
        sender.try_send(sample).is_ok()
    });
    manifest.gpus.clone_from(&sampling.gpus);
    manifest.telemetry.clone_from(&sampling.notes);
    for note in &sampling.notes {
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
    stop.wait(args.duration, failure);
    manifest.duration_s = clock.now().as_secs_f64();
    manifest.telemetry.extend(sampling.stop());
    let (writer, count) =
        writing.join().map_err(|_| anyhow::anyhow!("the writer broke down"))??;
    writer.finish(manifest)?;
    say(&format!("{count} readings in {}", args.out.display()));
    Ok(Outcome::Done)
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
