//! Threads that serve connections, each with a runtime of its own.
//!
//! A connection lives on one thread from its acceptance to its end, with everything that serves it: nothing is stolen,
//! no wake-up crosses threads. A new connection goes to the thread that has the fewest.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

use crate::http::wakes::Relay;

/// Runs a poll of what serves a connection; a place to prepare for it, and to hand on what it brought.
pub type Around = fn(&mut dyn FnMut());

/// Running threads. Dropping them drops what they serve, and waits for it.
#[derive(Debug)]
pub struct Workers {
    workers: Vec<Worker>,
    around: Around,
}

#[derive(Debug)]
struct Worker {
    handle: Handle,
    connections: Arc<AtomicUsize>,
    /// Dropped, it ends the thread.
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// A connection's place on a thread: counted until it is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) handle: Handle,
    pub(super) around: Around,
    connections: Arc<AtomicUsize>,
}

/// A future whose polls all happen within an [`Around`], and whose wake-ups go through a [`Relay`].
pub(super) struct Surrounded<F> {
    around: Around,
    relay: Relay,
    inner: Pin<Box<F>>,
}

thread_local! {
    /// Polls of connections on this thread so far.
    static TURNS: Cell<u64> = const { Cell::new(0) };
    /// The poll that is under way.
    static TURN: Cell<Option<u64>> = const { Cell::new(None) };
}

/// Returns the number of the poll of a connection that is under way on this thread: what is polled again in the same one
/// has nothing new. None outside of one.
pub(super) fn turn() -> Option<u64> {
    TURN.get()
}

/// How long a thread waits for what can't be dropped.
const SHUTDOWN: Duration = Duration::from_secs(1);

// === impl Workers ===

impl Workers {
    /// Starts `count` threads, at least one. Each poll of a connection is made within `around`.
    ///
    /// # Errors
    /// The kernel gives no thread, or no descriptors for its runtime.
    pub fn start(count: usize, around: Around) -> io::Result<Self> {
        let workers = (0..count.max(1)).map(Worker::start).collect::<io::Result<_>>()?;
        Ok(Self { workers, around })
    }

    /// Takes a place on the thread with the fewest connections.
    pub(super) fn seat(&self) -> Option<Seat> {
        let load = |worker: &&Worker| worker.connections.load(Ordering::Relaxed);
        let worker = self.workers.iter().min_by_key(load)?;
        worker.connections.fetch_add(1, Ordering::Relaxed);
        let connections = Arc::clone(&worker.connections);
        Some(Seat { handle: worker.handle.clone(), around: self.around, connections })
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        for worker in &mut self.workers {
            worker.stop = None;
        }
        for worker in &mut self.workers {
            if let Some(thread) = worker.thread.take() {
                // A thread that panicked has dropped what it served.
                let _ended = thread.join();
            }
        }
    }
}

// === impl Worker ===

impl Worker {
    fn start(number: usize) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        let thread = thread::Builder::new().name(format!("worker {number}")).spawn(move || {
            // An error says that the sender was dropped, which is how it is stopped.
            let _stopped = runtime.block_on(stopped);
            // Drops every task; a name that is being resolved is not waited for.
            runtime.shutdown_timeout(SHUTDOWN);
        })?;
        let connections = Arc::new(AtomicUsize::new(0));
        Ok(Self { handle, connections, stop: Some(stop), thread: Some(thread) })
    }
}

// === impl Seat ===

impl Drop for Seat {
    fn drop(&mut self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

// === impl Surrounded ===

impl<F: Future> Surrounded<F> {
    pub(super) fn new(inner: F, around: Around) -> Self {
        Self { around, relay: Relay::default(), inner: Box::pin(inner) }
    }
}

impl<F: Future> Future for Surrounded<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let Self { around, relay, inner } = self.get_mut();
        let mut cx = Context::from_waker(relay.before(cx.waker()));
        let mut polled = Poll::Pending;
        let turn = TURNS.get() + 1;
        TURNS.set(turn);
        TURN.set(Some(turn));
        around(&mut || polled = inner.as_mut().poll(&mut cx));
        TURN.set(None);
        polled
    }
}

/// Does nothing around a poll.
pub(super) fn nothing(poll: &mut dyn FnMut()) {
    poll();
}
