//! Idle connections, and those on loan.
//!
//! An HTTP/1.1 connection is a future that must be polled while it carries an exchange. Here nobody but the exchange's
//! own task polls it: first while it waits for the response head, then whenever it reads the body ([`Lease`]). An idle
//! one is polled when it is taken out, and once a second by a keeper, so that one whose peer has left is let go.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use hyper::client::conn::{http1, http2};
use hyper_util::rt::TokioIo;

use crate::clock::{Clock, Nanos};
use crate::http::body::RequestBody;
use crate::http::chunks::Chunks;
use crate::http::intake::{Intake, IntakeIo};
use crate::http::stream::BytesRead;

/// An HTTP/1.1 connection.
pub(super) struct Pooled {
    pub(super) sender: http1::SendRequest<RequestBody>,
    /// None once it has ended.
    driver: Option<Driver>,
    pub(super) read: Arc<BytesRead>,
    /// Where the stream is that the driver reads from.
    pub(super) intake: Intake,
    /// Number of the connection, from 1 in the order of opening.
    pub(super) id: u64,
    /// Whether it has carried an exchange.
    pub(super) used: bool,
}

/// The future that moves an HTTP/1.1 connection's bytes (hyper's upgradeable connection, whose type has no name).
type Driver = Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>;

/// An HTTP/2 connection: any number of exchanges share it, and a task of its own drives it.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) sender: http2::SendRequest<RequestBody>,
    pub(super) read: Arc<BytesRead>,
    pub(super) id: u64,
}

/// A connection on loan from a pool.
pub(super) struct Lease {
    // Boxed: it moves from the pool to the response body and back, and is over a kilobyte.
    connection: Box<Pooled>,
    pool: Weak<Pool>,
}

/// The idle connections of one client.
pub(super) struct Pool {
    state: Mutex<State>,
    max_idle: usize,
    idle_timeout: Duration,
    clock: Clock,
}

#[derive(Default)]
struct State {
    /// The one used last is at the end and is taken first: the others get a chance to age.
    idle: Vec<Idle>,
    h2: Option<Shared>,
    /// Whether a keeper is at work.
    kept: bool,
}

struct Idle {
    connection: Box<Pooled>,
    since: Nanos,
}

/// How often the keeper looks at idle connections.
const KEEPER_PERIOD: Duration = Duration::from_secs(1);

// === impl Pooled ===

impl Pooled {
    pub(super) fn new(
        sender: http1::SendRequest<RequestBody>,
        driver: http1::Connection<TokioIo<IntakeIo>, RequestBody>,
        read: Arc<BytesRead>,
        intake: Intake,
        id: u64,
    ) -> Self {
        let driver: Driver = Box::pin(driver.with_upgrades());
        Self { sender, driver: Some(driver), read, intake, id, used: false }
    }

    /// Drives the connection as far as it goes; ready when it has ended.
    pub(super) fn poll_drive(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(driver) = &mut self.driver else { return Poll::Ready(()) };
        match driver.as_mut().poll(cx) {
            // Its error, if any, has reached the exchange by way of the response or the body.
            Poll::Ready(_) => {
                self.driver = None;
                Poll::Ready(())
            }
            Poll::Pending => Poll::Pending,
        }
    }

    /// Lets the connection settle after a message; returns whether it can take another.
    fn settle(&mut self) -> bool {
        let mut quiet = Context::from_waker(Waker::noop());
        self.poll_drive(&mut quiet).is_pending() && self.sender.is_ready()
    }

    /// Hands the connection to a task of its own, for what goes on beside the response: an upload that has not ended, a
    /// tunnel.
    pub(super) fn drive_alone(self) {
        if let Self { driver: Some(driver), sender, .. } = self {
            // Without a sender the connection ends itself when its exchange does.
            drop(sender);
            tokio::spawn(async move {
                // Its error has reached the exchange by way of the body.
                let _ended = driver.await;
            });
        }
    }
}

// === impl Lease ===

impl Lease {
    pub(super) fn new(connection: Box<Pooled>, pool: &Arc<Pool>) -> Self {
        Self { connection, pool: Arc::downgrade(pool) }
    }

    pub(super) fn connection(&mut self) -> &mut Pooled {
        &mut self.connection
    }

    /// Returns what reads the chunks of the body that comes next, if that is one of chunks and was parted from its head.
    pub(super) fn part(&self, is_chunked: bool) -> Option<Chunks> {
        let intake = &self.connection.intake;
        if !is_chunked {
            // Polled next by whoever reads the body, or lets the connection settle.
            intake.recall();
            return None;
        }
        intake.take().map(|line| Chunks::new(line, intake.clone()))
    }

    /// Puts the connection back into its pool if it can carry another exchange, closes it otherwise.
    pub(super) fn release(mut self) {
        if self.connection.settle()
            && let Some(pool) = self.pool.upgrade()
        {
            self.connection.used = true;
            pool.put(self.connection);
        }
    }
}

// === impl Pool ===

impl Pool {
    pub(super) fn new(max_idle: usize, idle_timeout: Duration, clock: Clock) -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), max_idle, idle_timeout, clock })
    }

    /// Takes the idle connection that was used last and is still alive.
    pub(super) fn take(&self) -> Option<Box<Pooled>> {
        loop {
            let mut idle = self.state().idle.pop()?;
            if !self.has_expired(&idle) && idle.connection.settle() {
                return Some(idle.connection);
            }
        }
    }

    /// Returns how many connections are idle.
    pub(super) fn idle(&self) -> usize {
        self.state().idle.len()
    }

    /// Puts an idle connection in; the oldest leaves when there are too many.
    pub(super) fn put(self: &Arc<Self>, connection: Box<Pooled>) {
        if self.max_idle == 0 {
            return;
        }
        let since = self.clock.now();
        let mut state = self.state();
        let crowded_out = (state.idle.len() >= self.max_idle).then(|| state.idle.remove(0));
        state.idle.push(Idle { connection, since });
        let start_keeper = !std::mem::replace(&mut state.kept, true);
        drop(state);
        drop(crowded_out);
        if start_keeper {
            tokio::spawn(keep(Arc::downgrade(self)));
        }
    }

    /// Returns the HTTP/2 connection, if there is a living one.
    pub(super) fn shared(&self) -> Option<Shared> {
        self.state().h2.as_ref().filter(|shared| !shared.sender.is_closed()).cloned()
    }

    /// Makes `shared` the connection of the exchanges to come.
    pub(super) fn share(&self, shared: Shared) {
        self.state().h2 = Some(shared);
    }

    /// Lets go of idle connections that are dead or too old; returns whether any are left.
    fn sweep(&self) -> bool {
        let mut gone = Vec::new();
        let mut state = self.state();
        for mut idle in std::mem::take(&mut state.idle) {
            if !self.has_expired(&idle) && idle.connection.settle() {
                state.idle.push(idle);
            } else {
                gone.push(idle);
            }
        }
        state.kept = !state.idle.is_empty();
        let kept = state.kept;
        // Closing sockets takes a while: not under the lock.
        drop(state);
        drop(gone);
        kept
    }

    fn has_expired(&self, idle: &Idle) -> bool {
        self.clock.now() - idle.since >= self.idle_timeout
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere leaves a list of connections, which is as good as before.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sweeps until nothing is idle or the pool is gone.
async fn keep(pool: Weak<Pool>) {
    loop {
        tokio::time::sleep(KEEPER_PERIOD).await;
        if !pool.upgrade().is_some_and(|pool| pool.sweep()) {
            return;
        }
    }
}
