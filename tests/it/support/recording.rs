//! The proxy in front of an upstream, in this process, recording into memory.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use reenact::clock::{Clock, Nanos};
use reenact::http::server::{self, ServerOptions};
use reenact::http::workers::Workers;
use reenact::http::{Client, ClientOptions};
use reenact::proxy::{
    Appended, Log, Proxy, ProxyOptions, Recorder, RecorderStatus, Routes, Strain, lane,
};
use reenact::trace::record::{Counters, Event};
use reenact::trace::redact::Redactor;
use reenact::trace::{Assembler, Exchange};
use tokio::sync::oneshot;

use super::Peer;

/// How a proxy under test is set up.
pub(crate) struct Setup {
    pub(crate) upstreams: Vec<String>,
    pub(crate) client: ClientOptions,
    pub(crate) server: ServerOptions,
    pub(crate) proxy: ProxyOptions,
    pub(crate) queue_bytes: usize,
    /// While it is closed, nothing is taken from the queue.
    pub(crate) valve: Valve,
    pub(crate) drain: Duration,
}

/// Holds up the writer as long as it is closed. Clones are the same valve.
#[derive(Clone, Default)]
pub(crate) struct Valve(Arc<(Mutex<bool>, Condvar)>);

/// A proxy that runs.
pub(crate) struct Recording {
    pub(crate) address: SocketAddr,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<Recorded>,
}

/// What a proxy recorded.
pub(crate) struct Recorded {
    pub(crate) events: Vec<Event>,
    pub(crate) status: RecorderStatus,
}

/// A log in memory.
struct Memory {
    events: Vec<Event>,
    counters: Counters,
    valve: Valve,
}

// === impl Setup ===

impl Setup {
    pub(crate) fn new(upstreams: &[String]) -> Self {
        Self {
            upstreams: upstreams.to_vec(),
            client: ClientOptions { preserve_header_case: true, ..ClientOptions::default() },
            server: ServerOptions { preserve_header_case: true, ..ServerOptions::default() },
            proxy: ProxyOptions::default(),
            queue_bytes: 64 << 20,
            valve: Valve::default(),
            drain: Duration::from_secs(5),
        }
    }

    pub(crate) fn start(self) -> Recording {
        let (bound, address) = std::sync::mpsc::channel();
        let (stop, stopped) = oneshot::channel();
        let thread = thread::spawn(move || self.run(bound, stopped));
        Recording { address: address.recv().unwrap(), stop, thread }
    }

    fn run(
        mut self,
        bound: std::sync::mpsc::Sender<SocketAddr>,
        stopped: oneshot::Receiver<()>,
    ) -> Recorded {
        let clock = Clock::start();
        self.server.workers = Some(Arc::new(Workers::start(2, lane::collect).unwrap()));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let valve = self.valve.clone();
        let memory = Memory { events: Vec::new(), counters: Counters::default(), valve };
        let (recorder, feed) = Recorder::start(memory, self.queue_bytes, clock).unwrap();
        let routes: Vec<reenact::proxy::Route> =
            self.upstreams.iter().map(|url| url.parse().unwrap()).collect();
        let clients = routes
            .iter()
            .map(|route| Client::new(route.origin.clone(), self.client.clone(), clock))
            .collect();
        let redactor = Redactor::new([7; 32], Vec::new(), Vec::new());
        let proxy = Proxy::new(Routes::new(routes), clients, self.proxy, redactor, feed.clone());
        runtime.block_on(async {
            let listener = server::bind("127.0.0.1:0".parse().unwrap()).unwrap();
            bound.send(listener.local_addr().unwrap()).unwrap();
            let shutdown = async {
                let _stopped = stopped.await;
            };
            let give_up = async {
                tokio::time::sleep(self.drain).await;
                proxy.break_off();
            };
            let making = Arc::clone(&proxy);
            let make = move |accepted| making.service(accepted);
            server::run_until(listener, self.server, make, shutdown, give_up).await;
        });
        runtime.shutdown_timeout(Duration::from_secs(5));
        drop(proxy);
        let events = recorder.finish().unwrap();
        Recorded { events, status: feed.status() }
    }
}

// === impl Recording ===

impl Recording {
    /// Starts a proxy in front of one upstream.
    pub(crate) fn of(url: String) -> Self {
        Setup::new(&[url]).start()
    }

    pub(crate) fn connect(&self) -> Peer {
        Peer::connect(self.address)
    }

    /// Stops the proxy and returns what it recorded.
    pub(crate) fn finish(self) -> Recorded {
        self.stop.send(()).unwrap();
        self.thread.join().unwrap()
    }
}

// === impl Recorded ===

impl Recorded {
    /// Returns the exchanges in the order of their numbers; each must have ended.
    #[track_caller]
    pub(crate) fn exchanges(&self) -> Vec<Exchange> {
        let mut assembler = Assembler::default();
        let mut exchanges: Vec<_> =
            self.events.iter().cloned().filter_map(|event| assembler.push(event)).collect();
        assert_eq!(assembler.open(), 0, "every exchange has ended");
        exchanges.sort_by_key(|exchange| exchange.request.exchange);
        exchanges
    }

    /// Returns the only exchange.
    #[track_caller]
    pub(crate) fn only(&self) -> Exchange {
        let mut exchanges = self.exchanges();
        assert_eq!(exchanges.len(), 1);
        exchanges.remove(0)
    }
}

// === impl Valve ===

impl Valve {
    pub(crate) fn set(&self, is_closed: bool) {
        *self.0.0.lock().unwrap() = is_closed;
        self.0.1.notify_all();
    }

    fn pass(&self) {
        let closed = self.0.0.lock().unwrap();
        drop(self.0.1.wait_while(closed, |closed| *closed).unwrap());
    }
}

// === impl Log for Memory ===

impl Log for Memory {
    type Summary = Vec<Event>;
    type Error = Infallible;

    fn append(&mut self, event: Event) -> Result<Appended, Infallible> {
        self.valve.pass();
        self.counters.count(&event);
        self.events.push(event);
        Ok(Appended::Taken)
    }

    fn flush(&mut self, _now: Nanos) -> Result<(), Infallible> {
        Ok(())
    }

    fn resume(&mut self, _now: Nanos) -> Result<(), Infallible> {
        Ok(())
    }

    fn give_up(&mut self) {}

    fn strain(&mut self, _strain: Strain) {}

    fn counters(&self) -> Counters {
        self.counters
    }

    fn written_bytes(&self) -> u64 {
        0
    }

    fn finish(self, _now: Nanos) -> Result<Vec<Event>, Infallible> {
        Ok(self.events)
    }
}
