//! The feeder: makes releases ready ahead of their due times, so that none ever waits for the disk.
//!
//! In due order, it reads a request from the trace, rewrites it, works out what it says, and starts the task that will
//! send it, which then waits for the pacer. How far it runs ahead is bounded by the bytes of the bodies that wait
//! ([`Budget`]), by the length of the pacer's queue, and by how much waits to be written ([`Ledger::catch_up`]).

use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http::{HeaderMap, Request};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};

use crate::clock::{Clock, Nanos};
use crate::dialect::{self, RequestFacts};
use crate::replay::balance::{Balancer, Subject};
use crate::replay::call::{Call, Done, Limits, call};
use crate::replay::conductor::{Ends, Notice};
use crate::replay::connections::{AHEAD, Berth, Berths};
use crate::replay::ending::Aborts;
use crate::replay::history::{Heard, History, Live, Spot};
use crate::replay::known::Known;
use crate::replay::launch::Launch;
use crate::replay::ledger::{Entry, Ledger};
use crate::replay::memo::{Memo, Memos};
use crate::replay::outgoing::OutgoingBody;
use crate::replay::pace::ReadPace;
use crate::replay::pacer::{Armed, Fire};
use crate::replay::plan::Release;
use crate::replay::rewrite::{Outgoing, Rewrite};
use crate::replay::route::{Destination, Route};
use crate::replay::row::Sent;
use crate::trace::record::{ExchangeId, Outcome, RequestHead};

/// Reads a request from a trace; the error says why it can't be had.
pub type Fetch = Box<dyn FnMut(ExchangeId) -> Result<(RequestHead, Bytes), String> + Send>;

/// Makes releases ready.
pub struct Feeder {
    /// Reads requests.
    pub fetch: Fetch,
    /// What is changed in them.
    pub rewrite: Rewrite,
    /// Which target gets which.
    pub balancer: Balancer,
    /// Which calls share a connection.
    pub berths: Berths,
    /// The ways to the targets.
    pub route: Route,
    /// What is known of the recorded exchanges, by their place in the plan.
    pub known: Arc<Vec<Known>>,
    /// What is remembered of them.
    pub memos: Arc<Memos>,
    /// Timeouts.
    pub limits: Limits,
    /// Whether clients leave where the recorded ones left.
    pub aborts: Aborts,
    /// How fast clients read.
    pub read_pace: ReadPace,
    /// The runtime of the calls.
    pub calls: Handle,
    /// The pacer's queue.
    pub armed: SyncSender<Armed>,
    /// Bytes that may wait.
    pub budget: Arc<Budget>,
    /// Where ended calls go.
    pub ledger: Ledger,
    /// True once calls in flight are to be given up.
    pub stop: watch::Receiver<bool>,
    /// Held by each call for as long as it goes on.
    pub alive: mpsc::Sender<()>,
    /// Tells the conductor of a reactive load of ends; none at a planned load, which has no use for them.
    pub ends: Option<Ends>,
    /// Gives up when so many exchanges in a row can't be made ready: a plan without an end is to end when nothing in it can.
    pub patience: u64,
    /// What the target has answered, where its answers take the place of recorded ones.
    pub live: Option<Live>,
    /// The run's clock.
    pub clock: Clock,
}

/// What a feeder did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fed {
    /// Exchanges that could not be made ready.
    pub unsendable: u64,
    /// Requests in which a value that was to be set found no place.
    pub misfits: u64,
    /// Releases that were made ready later than they could have been, since the results thread was behind.
    pub held_back: u64,
}

/// Bytes that may be ready and not sent.
#[derive(Debug)]
pub struct Budget {
    limit: u64,
    state: Mutex<State>,
    freed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    held: u64,
    closed: bool,
}

/// Reads a request and rewrites it.
///
/// # Errors
/// Why it can't be sent.
pub fn prepare(
    fetch: &mut Fetch,
    rewrite: &Rewrite,
    known: &Known,
    memo: &Memo,
) -> Result<Outgoing, String> {
    prepare_with(fetch, rewrite, known, memo, |_, body| (body, None))
}

/// Reads a request, puts the history into its body that `live` has for it, and rewrites it.
fn prepare_with(
    fetch: &mut Fetch,
    rewrite: &Rewrite,
    known: &Known,
    memo: &Memo,
    live: impl FnOnce(&HeaderMap, Bytes) -> (Bytes, Option<History>),
) -> Result<Outgoing, String> {
    let (head, body) = fetch(known.id)?;
    if body.len() as u64 != known.request_bytes {
        let (id, whole) = (known.id.0, known.request_bytes);
        return Err(format!(
            "exchange {id}: {} of {whole} body bytes can be read back",
            body.len()
        ));
    }
    let (body, history) = live(&head.headers, body);
    let (body, fits) = rewrite.salt(&head.headers, body, known.copy);
    let mut outgoing = rewrite
        .apply(&head, body, memo.length)
        .map_err(|error| format!("exchange {}: {error}", known.id.0))?;
    outgoing.misfit |= !fits;
    outgoing.history = history;
    Ok(outgoing)
}

// === impl Feeder ===

impl Feeder {
    /// Makes `releases` ready until they end or the run does.
    pub fn run(mut self, releases: impl Iterator<Item = Release>) -> Fed {
        let mut fed = Fed::default();
        let known = Arc::clone(&self.known);
        let mut in_a_row = 0;
        for release in releases {
            let known = &known[release.entry];
            fed.held_back += u64::from(self.ledger.catch_up(|| self.budget.is_closed()));
            if !self.budget.hold(known.request_bytes) {
                break;
            }
            let (memo, unreadable) = match self.memos.get(known.memo) {
                Ok(memo) => (Arc::new(memo), None),
                Err(error) => (Arc::new(Memo::unknown()), Some(error)),
            };
            let live = |headers: &HeaderMap, body| match &self.live {
                Some(live) => live.apply(Spot::of(known, &memo), release.round, headers, body),
                None => (body, None),
            };
            let outgoing = match unreadable {
                None => prepare_with(&mut self.fetch, &self.rewrite, known, &memo, live),
                Some(error) => Err(format!("exchange {}: {error}", known.id.0)),
            };
            match outgoing {
                Ok(outgoing) => {
                    fed.misfits += u64::from(outgoing.misfit);
                    in_a_row = 0;
                    if !self.arm(release, known, &memo, outgoing) {
                        break;
                    }
                }
                Err(why) => {
                    fed.unsendable += 1;
                    self.budget.free(known.request_bytes);
                    self.give_up(release, known, &memo, &why);
                    drop(self.ends.as_ref().map(|ends| ends.notice(release.number)));
                    in_a_row += 1;
                    if in_a_row >= self.patience {
                        break;
                    }
                }
            }
        }
        fed
    }

    /// Starts the calls of a release and queues it for the pacer; returns false when there is no pacer any more.
    fn arm(
        &mut self,
        release: Release,
        known: &Known,
        memo: &Arc<Memo>,
        outgoing: Outgoing,
    ) -> bool {
        let Outgoing { method, uri, headers, body, .. } = &outgoing;
        let facts = dialect::request_facts(method, &uri.to_string(), headers, body);
        let notice = self.ends.as_ref().map(|ends| ends.notice(release.number));
        let fire = self
            .destinations(known, memo)
            .into_iter()
            .map(|destination| {
                let destination = self.board(destination, &release, known);
                let exchange = (known, memo);
                self.start(release, exchange, &outgoing, &facts, destination, notice.clone())
            })
            .collect();
        // The calls have theirs.
        drop(notice);
        let armed = Armed {
            release,
            digest: outgoing.digest,
            bytes: known.request_bytes,
            fire: Fire(fire),
        };
        let is_taken = self.armed.send(armed).is_ok();
        if let Some(ends) = &self.ends {
            ends.wake();
        }
        is_taken
    }

    fn destinations(&mut self, known: &Known, memo: &Memo) -> Vec<Destination> {
        let course = self.balancer.next(Subject::of(known, memo));
        self.route.destinations(&course, memo.version)
    }

    /// Gives a call its client, and sees to it that the connection is there when the call is due: but for reactive loads,
    /// whose calls are made ready long before anybody knows when they are due.
    fn board(&mut self, destination: Destination, release: &Release, known: &Known) -> Destination {
        let (destination, berth) = self.berths.assign(destination, release, known);
        if let (Berth::First, None, Some(client)) = (berth, &self.ends, destination.sole_client()) {
            let client = client.clone();
            let at = self.clock.instant(Nanos(release.due.0.saturating_sub(Nanos::from(AHEAD).0)));
            self.calls.spawn(async move {
                tokio::time::sleep_until(at).await;
                // The call itself says what is wrong, if anything is.
                let _error = client.connect().await;
            });
        }
        destination
    }

    /// Makes one call ready.
    fn start(
        &self,
        release: Release,
        (known, memo): (&Known, &Arc<Memo>),
        outgoing: &Outgoing,
        facts: &RequestFacts,
        destination: Destination,
        notice: Option<Notice>,
    ) -> Launch {
        let sent = Sent {
            release,
            place: destination.first().clone(),
            method: outgoing.method.clone(),
            path: outgoing.uri.path().to_owned(),
            facts: facts.clone(),
            digest: Some(outgoing.digest),
            bytes: outgoing.body.len() as u64,
            memo: Arc::clone(memo),
            pinned: outgoing.pinned,
            history: outgoing.history,
        };
        let (body, acceptance) = OutgoingBody::new(outgoing.body.clone(), self.clock);
        let mut request = Request::new(body);
        request.method_mut().clone_from(&outgoing.method);
        request.uri_mut().clone_from(&outgoing.uri);
        request.headers_mut().clone_from(&outgoing.headers);
        let making = Call {
            destination,
            request,
            acceptance,
            leave: memo.left.and_then(|left| self.aborts.leave(left)),
            pace: self.read_pace.of(memo.pauses.as_ref()),
            limits: self.limits,
            stop: self.stop.clone(),
            clock: self.clock,
        };
        let (ledger, alive) = (self.ledger.clone(), self.alive.clone());
        let live = self.live.clone().map(|live| (live, Spot::of(known, memo)));
        Launch::new(self.calls.clone(), sent.bytes, move |release| async move {
            let done = call(making).await;
            if let Some((live, spot)) = live {
                live.hear(spot, release.round, heard(&sent.facts, &done));
            }
            // Held until here: it tells of the end whatever becomes of the call.
            if let Some(notice) = notice {
                notice.ended(done.end);
            }
            // Where it went, and when it was due, is certain only now.
            let sent = Sent { release, place: done.place.clone(), ..sent };
            ledger.put(Entry::Call(Box::new((sent, done))));
            drop(alive);
        })
    }

    /// Enters a request that could not be made ready, once for each call that is not made. Where no token is for it, it is due
    /// now.
    fn give_up(&mut self, release: Release, known: &Known, memo: &Arc<Memo>, why: &str) {
        let due = match self.ends {
            Some(_) => release.due.max(self.clock.now()),
            None => release.due,
        };
        let release = Release { due, ..release };
        for destination in self.destinations(known, memo) {
            let sent = Sent {
                release,
                place: destination.first().clone(),
                method: http::Method::default(),
                path: String::new(),
                facts: RequestFacts::default(),
                digest: None,
                bytes: 0,
                memo: Arc::clone(memo),
                pinned: None,
                history: None,
            };
            self.ledger.put(Entry::Unsent(Box::new((sent, why.to_owned()))));
        }
    }
}

/// Returns a complete response as it came: its bytes are shared, not copied.
fn heard(facts: &RequestFacts, done: &Done) -> Option<Heard> {
    let head = done.head.as_ref().filter(|_| done.outcome == Outcome::Complete)?;
    Some(Heard {
        facts: facts.clone(),
        status: head.status,
        headers: head.headers.clone(),
        frames: done.frames.iter().map(|(_, data)| data.clone()).collect(),
    })
}

// === impl Budget ===

impl Budget {
    /// Makes a budget of `limit` bytes.
    #[must_use]
    pub fn new(limit: u64) -> Self {
        Self { limit, state: Mutex::default(), freed: Condvar::new() }
    }

    /// Takes `bytes` when there is room: one body always has. Returns false once the budget is closed.
    pub fn hold(&self, bytes: u64) -> bool {
        let mut state = self.state();
        while !state.closed && state.held > 0 && state.held + bytes > self.limit {
            state = self.freed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.held += bytes;
        !state.closed
    }

    /// Gives `bytes` back.
    pub fn free(&self, bytes: u64) {
        let mut state = self.state();
        state.held = state.held.saturating_sub(bytes);
        drop(state);
        self.freed.notify_one();
    }

    /// Returns whether it is closed.
    pub fn is_closed(&self) -> bool {
        self.state().closed
    }

    /// Lets nobody wait any more.
    pub fn close(&self) {
        self.state().closed = true;
        self.freed.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_holds_back_what_does_not_fit_but_never_all() {
        let budget = Arc::new(Budget::new(100));
        assert!(budget.hold(500), "one body always has room");
        let theirs = Arc::clone(&budget);
        let waiting = std::thread::spawn(move || theirs.hold(1));
        budget.free(500);
        assert!(waiting.join().unwrap());
        assert!(budget.hold(99));
        let theirs = Arc::clone(&budget);
        let waiting = std::thread::spawn(move || theirs.hold(1));
        budget.close();
        assert!(!waiting.join().unwrap());
    }
}
