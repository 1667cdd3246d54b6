//! Ctrl-C and SIGTERM for verbs that end in good order: the first asks, the second insists.

use std::thread::JoinHandle;

use anyhow::Context as _;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

/// Listens: a signal from now on is not lost.
pub(super) struct Signals {
    runtime: Runtime,
    interrupt: Signal,
    terminate: Signal,
}

/// A thread that waits for signals; dropped, it ends.
pub(super) struct Watching {
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Exit status after a second signal, as a shell gives it for SIGINT.
const INSISTED: i32 = 130;

// === impl Signals ===

impl Signals {
    pub(super) fn listen() -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let entered = runtime.enter();
        let interrupt = signal(SignalKind::interrupt()).context("Ctrl-C can't be waited for")?;
        let terminate = signal(SignalKind::terminate()).context("SIGTERM can't be waited for")?;
        drop(entered);
        Ok(Self { runtime, interrupt, terminate })
    }

    /// Calls `first` at the first signal, and ends the process at the second.
    pub(super) fn watch(
        mut self,
        first: impl FnOnce() + Send + 'static,
    ) -> anyhow::Result<Watching> {
        let (end, ended) = oneshot::channel();
        let thread =
            std::thread::Builder::new().name("reenact-signals".to_owned()).spawn(move || {
                let Self { runtime, interrupt, terminate } = &mut self;
                runtime.block_on(async {
                    let signals = async {
                        wait(interrupt, terminate).await;
                        first();
                        wait(interrupt, terminate).await;
                        std::process::exit(INSISTED);
                    };
                    tokio::select! {
                        _ = ended => {}
                        () = signals => {}
                    }
                });
            })?;
        Ok(Watching { end: Some(end), thread: Some(thread) })
    }
}

async fn wait(interrupt: &mut Signal, terminate: &mut Signal) {
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

// === impl Watching ===

impl Drop for Watching {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            // It only waits; its panic would be one of tokio's.
            let _panic = thread.join();
        }
    }
}
