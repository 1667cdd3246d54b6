//! How far a run is, while it goes on.

use std::io::IsTerminal as _;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::clock::{Clock, Nanos};
use crate::replay::plan::Totals;
use crate::replay::progress::{Progress, Snapshot};

use super::output::say;

/// Shows how far a run is: a bar on a terminal, elsewhere a line now and then.
pub(super) struct Show {
    end: Sender<()>,
    thread: JoinHandle<()>,
}

/// How often a bar moves.
const BAR: Duration = Duration::from_millis(200);
/// How often a line is written where there is no terminal.
const LINE: Duration = Duration::from_secs(10);

// === impl Show ===

impl Show {
    pub(super) fn start(totals: Totals, progress: Arc<Progress>, clock: Clock) -> Self {
        let (end, ended) = channel();
        let thread = std::thread::spawn(move || {
            let bar = std::io::stderr().is_terminal().then(|| bar(&totals));
            let period = if bar.is_some() { BAR } else { LINE };
            while ended.recv_timeout(period) == Err(RecvTimeoutError::Timeout) {
                let seen = progress.snapshot();
                let message = message(&seen, clock.now(), &totals);
                match &bar {
                    Some(bar) => {
                        bar.set_position(seen.released);
                        bar.set_message(message);
                    }
                    None if totals.open_end => say(&format!("{} sent, {message}", seen.released)),
                    None => {
                        say(&format!("{} of {} sent, {message}", seen.released, totals.releases));
                    }
                }
            }
            if let Some(bar) = bar {
                bar.finish_and_clear();
            }
        });
        Self { end, thread }
    }

    pub(super) fn finish(self) {
        drop(self.end);
        // A panic there cost a line on the screen.
        let _panic = self.thread.join();
    }
}

fn message(seen: &Snapshot, now: Nanos, totals: &Totals) -> String {
    let left = match totals.last.since(now).as_secs() {
        0 => String::new(),
        left => format!(", {left} s of the plan left"),
    };
    format!(
        "{} in flight, {} failed, {} errors, {} tokens, at most {:.2} ms late{left}",
        seen.released.saturating_sub(seen.ended),
        seen.failed,
        seen.errors,
        seen.tokens,
        Nanos(seen.late_ns).as_millis_f64(),
    )
}

fn bar(totals: &Totals) -> ProgressBar {
    let (bar, template) = if totals.open_end {
        (ProgressBar::no_length(), "{spinner} {pos}  {wide_msg}")
    } else {
        (ProgressBar::new(totals.releases), "{bar:30} {pos}/{len}  {wide_msg}")
    };
    let style =
        ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    bar.with_style(style)
}
