//! A simulated server on a thread of this process.

use std::net::SocketAddr;
use std::time::Duration;

use reenact::clock::Clock;
use reenact::http::server::{ServerOptions, bind};
use reenact::simulate::{self, SimulateOptions};
use tokio::sync::oneshot;

/// A simulated server; dropped, it ends.
pub(crate) struct Simulated {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Simulated {
    pub(crate) fn start(options: SimulateOptions) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let guard = runtime.enter();
        let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        drop(guard);
        let address = listener.local_addr().unwrap();
        let thread = std::thread::spawn(move || {
            let served = runtime.block_on(async move {
                let until = async move {
                    // Dropped is stopped, too.
                    let _gone = stopped.await;
                };
                let http = ServerOptions::default();
                simulate::run(listener, http, options, Clock::start(), until, Duration::ZERO).await
            });
            served.unwrap();
        });
        Self { address, stop: Some(stop), thread: Some(thread) }
    }

    /// Fast enough for tests that do not look at the time.
    pub(crate) fn quick() -> SimulateOptions {
        SimulateOptions {
            prefill: Duration::from_millis(1),
            prefill_per_token: Duration::ZERO,
            itl: Duration::from_micros(200),
            output_tokens: 20,
            ..SimulateOptions::default()
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Simulated {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}
