//! The pulse: how long the calls' thread takes to come round, asked a hundred times a second while a run goes on.
//!
//! A thread of its own sends the time; the calls' runtime notes how old it is when it comes to it. That is how late a release
//! would have been woken then, and how late a frame that was ready would have been read: the time for which a frame lay in its
//! socket can't be seen, but it lies there no longer than the loop takes to come round. The beats do not wait for each other,
//! so a standstill counts for as many beats as it lasted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::clock::{Clock, Nanos};
use crate::replay::quantile::Histogram;

/// Feels the pulse of the runtime that it is awaited on.
pub(super) struct Pulse {
    clock: Clock,
    beats: mpsc::Receiver<Nanos>,
    delays: Histogram,
    heart: Heart,
}

/// The thread that beats; dropped, it ends.
struct Heart {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// Time from beat to beat.
const PERIOD: Duration = Duration::from_millis(10);
/// Beats that may wait: a standstill of ten seconds is seen in full.
const WAITING: usize = 1_000;

/// Starts to beat.
///
/// # Errors
/// The system gives no thread.
pub(super) fn start(clock: Clock) -> std::io::Result<Pulse> {
    let (sender, beats) = mpsc::channel(WAITING);
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let thread = std::thread::Builder::new().name("reenact-pulse".to_owned()).spawn(move || {
        while !stopped.load(Ordering::Acquire) {
            std::thread::park_timeout(PERIOD);
            // No room: what waits tells of the standstill already.
            let _full = sender.try_send(clock.now());
        }
    })?;
    let heart = Heart { stop, thread: Some(thread) };
    Ok(Pulse { clock, beats, delays: Histogram::default(), heart })
}

// === impl Pulse ===

impl Pulse {
    /// Notes each beat's delay. Never returns while the heart beats.
    ///
    /// Cancel safety: a beat is noted or still waits.
    pub(super) async fn feel(&mut self) {
        while let Some(beat) = self.beats.recv().await {
            self.delays.add(Nanos::from(self.clock.now().since(beat)).0);
        }
    }

    /// Ends the beating, and returns the delays in nanoseconds.
    pub(super) fn finish(self) -> Histogram {
        drop(self.heart);
        self.delays
    }
}

// === impl Heart ===

impl Drop for Heart {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // It only sends; it has no panic to pass on.
            let _panic = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lets beats wait, as a runtime that stands still does: the delays must show it.
    #[test]
    fn a_standstill_is_seen_for_as_long_as_it_lasted() {
        let clock = Clock::start();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut pulse = start(clock).unwrap();
        while pulse.beats.len() < 4 {
            std::thread::yield_now();
        }
        runtime.block_on(async {
            tokio::select! {
                biased;
                () = pulse.feel() => {}
                () = std::future::ready(()) => {}
            }
        });
        let delays = pulse.finish();
        assert!(delays.len() >= 4, "{} beats", delays.len());
        // The first waited for three periods at least, the fourth for none.
        let (most, least) = (delays.max().unwrap(), delays.quantile(0.0).unwrap());
        let span = Duration::from_nanos(most - least);
        assert!(span >= PERIOD * 2, "{span:?}");
    }

    #[test]
    fn a_loop_that_does_nothing_else_answers_at_once() {
        let clock = Clock::start();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let mut pulse = start(clock).unwrap();
        runtime.block_on(async {
            tokio::select! {
                () = pulse.feel() => {}
                () = async {
                    while clock.now() < Nanos(200_000_000) {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                } => {}
            }
        });
        let delays = pulse.finish();
        assert!(delays.len() > 3, "{} beats", delays.len());
        let median = Duration::from_nanos(delays.quantile(0.5).unwrap());
        assert!(median < Duration::from_millis(50), "{median:?}");
    }
}
