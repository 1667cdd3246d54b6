//! What `reenact record` says: how the recording goes, and what came of it.

use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::path::Path;
use std::time::Duration;

use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressStyle};

use crate::clock::Clock;
use crate::proxy::{Feed, Recorder, RecorderError, RecorderStatus};
use crate::trace::{Rolled, WriteError};

use super::Outcome;

/// The recorder of a trace.
pub(super) type TraceRecorder = Recorder<Rolled, WriteError>;

/// Closes the trace and says what is in it.
pub(super) fn finish(recorder: TraceRecorder, out: &Path, json: bool) -> anyhow::Result<Outcome> {
    let feed = recorder.feed();
    let finished = recorder.finish();
    let status = feed.status();
    let mut summary = describe(&status);
    match &finished {
        Ok(written) => {
            let name = written.path.display();
            let segments = match (written.segments, written.deleted) {
                (0 | 1, _) => String::new(),
                (all, 0) => format!(" in {all} segments"),
                (all, deleted) => format!(" in {all} segments, {deleted} of them deleted since"),
            };
            summary = format!("{name}: {summary}, {} on disk{segments}", HumanBytes(written.bytes));
        }
        Err(_) => summary = format!("{} is incomplete: {summary}", out.display()),
    }
    say(&summary);
    if json {
        print_json(&status, finished.as_ref().ok())?;
    }
    if let Err(error) = finished {
        let at = if out.is_dir() { out.to_owned() } else { crate::trace::open_path(out) };
        let advice = match &error {
            RecorderError::Log(_) => format!("what was recorded before is in {}", at.display()),
            RecorderError::Panicked(_) => {
                format!("please report this; what was recorded is in {}", at.display())
            }
        };
        return Err(anyhow::Error::new(error).context(advice));
    }
    Ok(if status.has_loss() { Outcome::Loss } else { Outcome::Done })
}

#[expect(clippy::print_stdout, reason = "data goes to stdout")]
fn print_json(status: &RecorderStatus, written: Option<&Rolled>) -> anyhow::Result<()> {
    let summary = serde_json::json!({
        "trace": written.map(|written| &written.path),
        "complete": written.is_some(),
        "segments": written.map(|written| written.segments),
        "segments_deleted": written.map(|written| written.deleted),
        "interruptions": status.interruptions,
        "bytes_on_disk": written.map_or(status.written_bytes, |written| written.bytes),
        "body_bytes": status.body_bytes,
        "exchanges": status.counters,
        "undecided": status.undecided,
        "lost": { "exchanges": status.lost_exchanges, "frames": status.lost_frames, "bare_frames": status.bare_frames, "bytes": status.lost_bytes },
        "queue_high_water_bytes": status.high_water_bytes,
    });
    println!("{}", serde_json::to_string_pretty(&summary)?);
    Ok(())
}

/// Says how the recording goes: on a line that stays in place where there is a terminal, otherwise in one each minute.
pub(super) async fn tell(feed: Feed) {
    if !std::io::stderr().is_terminal() {
        loop {
            tokio::time::sleep(SUMMARY_EVERY).await;
            say(&describe(&feed.status()));
        }
    }
    let style = ProgressStyle::with_template("{spinner} {elapsed_precise} {wide_msg}");
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = style {
        bar.set_style(style);
    }
    loop {
        bar.set_message(describe(&feed.status()));
        bar.tick();
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Says when recording is stopped and started, when the recorder can't write, and when it can again.
pub(super) async fn watch(feed: Feed) {
    let mut trouble: Option<(String, Clock)> = None;
    let mut was_paused = false;
    loop {
        tokio::time::sleep(WATCH_EVERY).await;
        let is_paused = feed.status().paused;
        if is_paused != was_paused {
            say(if is_paused {
                "recording is stopped on request; traffic goes on unrecorded"
            } else {
                "recording is started again"
            });
            was_paused = is_paused;
        }
        trouble = match (trouble, feed.trouble()) {
            (None, Some(why)) => {
                warn(&format!(
                    "degraded: {why}; traffic goes on, what fits into the queue waits for the disk"
                ));
                Some((why, Clock::start()))
            }
            (Some((_, since)), None) => {
                let secs = since.now().as_secs_f64();
                let loss = if feed.status().has_loss() {
                    "what is missing is a gap"
                } else {
                    "nothing is missing"
                };
                say(&format!("recording again after {secs:.1} s; {loss}"));
                None
            }
            (Some((before, since)), Some(why)) => {
                if before != why {
                    warn(&format!("still degraded: {why}"));
                }
                Some((why, since))
            }
            (None, None) => None,
        };
    }
}

/// How often a log gets a line when nothing else happens.
const SUMMARY_EVERY: Duration = Duration::from_secs(60);
/// How often the recorder is asked how it is.
const WATCH_EVERY: Duration = Duration::from_millis(200);

/// Describes a recording in one line.
fn describe(status: &RecorderStatus) -> String {
    let counters = &status.counters;
    let mut line = format!(
        "{} exchanges ({} complete, {} failed, {} cancelled, {} open), {} of bodies, queue at most {}",
        HumanCount(counters.admitted),
        HumanCount(counters.complete),
        HumanCount(counters.failed),
        HumanCount(counters.cancelled),
        HumanCount(counters.open().unwrap_or(0)),
        HumanBytes(status.body_bytes),
        HumanBytes(status.high_water_bytes as u64),
    );
    if counters.sampled_out > 0 {
        // Writing to a String cannot fail.
        let _ = write!(line, ", {} left out on purpose", HumanCount(counters.sampled_out));
    }
    if status.undecided > 0 {
        let _ = write!(line, ", {} recorded undecided", HumanCount(status.undecided));
    }
    if status.has_loss() {
        // Writing to a String cannot fail.
        let _ = write!(
            line,
            ", LOST {} exchanges and {} frames ({})",
            HumanCount(status.lost_exchanges),
            HumanCount(status.lost_frames),
            HumanBytes(status.lost_bytes),
        );
        if status.bare_frames > 0 {
            let _ = write!(line, ", the times of {} frames kept", HumanCount(status.bare_frames));
        }
    }
    if status.paused {
        line += ", STOPPED ON REQUEST";
    }
    if status.degraded {
        line += ", NOTHING CAN BE WRITTEN";
    }
    line
}

/// Says something on a line of its own.
pub(super) fn say(sentence: &str) {
    print("", sentence);
}

/// Says something that somebody should look at: systemd's journal shows it as a warning.
pub(super) fn warn(sentence: &str) {
    print(if is_journal() { "<4>" } else { "" }, sentence);
}

#[expect(clippy::print_stderr, reason = "words go to stderr")]
fn print(level: &str, sentence: &str) {
    eprintln!("{level}{sentence}");
}

/// Returns whether stderr goes to systemd's journal, which names the device and inode that it gave us.
fn is_journal() -> bool {
    let Some(journal) = std::env::var_os("JOURNAL_STREAM") else { return false };
    rustix::fs::fstat(std::io::stderr())
        .is_ok_and(|found| journal.to_str() == Some(&format!("{}:{}", found.st_dev, found.st_ino)))
}
