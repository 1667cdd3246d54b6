//! The conductor: one thread that releases exchanges when a reactive load has them due.
//!
//! It does for a [`Load`] what the pacer does for a plan. The load answers the ends of calls with tokens; the conductor
//! waits for each token's due time, as the pacer does (it sleeps, then spins), and fires a call that the feeder has made
//! ready: the next one in the plan's order, or the one that the token names ([`Picks`]).
//!
//! The end of a call comes from the calls' thread by [`Notice`], also when the call's task panics or is dropped, so that no
//! slot is ever lost. The time of an end is when it was, not when the conductor hears of it: what it takes to hear is part
//! of the next release's lateness.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::time::Duration;

use crate::clock::{Clock, Nanos};
use crate::replay::load::{Load, Picks, Token};
use crate::replay::pacer::{Armed, Brake, NAP, Paced};
use crate::replay::plan::Release;
use crate::replay::wanted::Wanted;

/// Releases what a load has due.
pub struct Conductor {
    /// The run's clock.
    pub clock: Clock,
    /// How long before a due time sleep ends and spinning begins; zero for no spinning.
    pub spin: Duration,
    /// Ends the run early, and wakes the conductor.
    pub brake: Brake,
    /// The load.
    pub load: Box<dyn Load>,
    /// When the load begins.
    pub begin: Nanos,
    /// Nothing is released that is due at this time or later.
    pub end: Option<Nanos>,
    /// Entries of the plan.
    pub entries: usize,
    /// Calls that are ready.
    pub armed: Receiver<Armed>,
    /// Calls that have ended.
    pub ended: Receiver<Ended>,
    /// Where the feeder finds what is to be made ready, for a load that names its entries.
    pub wanted: Wanted,
}

/// The end of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Number of its release.
    pub number: u64,
    /// When it ended.
    pub at: Nanos,
}

/// Tells a conductor of ends. Clones tell the same one.
#[derive(Clone, Debug)]
pub struct Ends {
    sender: Sender<Ended>,
    brake: Brake,
    clock: Clock,
}

/// Tells of one release's end, once, when its last call has told: at the latest when the last clone is dropped.
#[derive(Clone, Debug)]
pub struct Notice(Arc<Calls>);

/// What the calls of a release share.
#[derive(Debug)]
struct Calls {
    ends: Ends,
    number: u64,
    /// The latest end that was told, in nanoseconds; zero for none.
    at: AtomicU64,
}

/// A conductor at work.
struct Work<F> {
    conductor: Conductor,
    agenda: Agenda,
    /// What has been released and has not ended, by number.
    in_flight: BTreeMap<u64, Release>,
    /// Digests of requests that are not in the digest of all, by number.
    digests: BTreeMap<u64, blake3::Hash>,
    paced: Paced,
    released: F,
}

/// What is to be released.
enum Agenda {
    /// Tokens by due time and the order in which they came; calls are taken from the queue as they are.
    InOrder {
        tokens: BTreeMap<(Nanos, u64), Token>,
        n_tokens: u64,
        /// Whether the plan has no more calls.
        exhausted: bool,
    },
    /// Only what is ready can be released.
    Named {
        /// Calls that are ready, and whether they were due before, by due time and number.
        ready: BTreeMap<(Nanos, u64), (Armed, bool)>,
        /// What was asked for and is not ready, by number.
        asked: BTreeMap<u64, Release>,
        /// How often each entry was asked for.
        rounds: Vec<u32>,
    },
}

/// Makes what tells a conductor of ends, and where it hears of them.
#[must_use]
pub fn ends(brake: Brake, clock: Clock) -> (Ends, Receiver<Ended>) {
    let (sender, ended) = channel();
    (Ends { sender, brake, clock }, ended)
}

// === impl Ends ===

impl Ends {
    /// Makes the notice of the release `number`.
    #[must_use]
    pub fn notice(&self, number: u64) -> Notice {
        Notice(Arc::new(Calls { ends: self.clone(), number, at: AtomicU64::new(0) }))
    }

    /// Says that there is something new.
    pub fn wake(&self) {
        self.brake.wake();
    }
}

// === impl Notice ===

impl Notice {
    /// Tells of the end of a call, which was at `at`.
    pub fn ended(self, at: Nanos) {
        self.0.at.fetch_max(at.0, Ordering::Relaxed);
    }
}

// === impl Calls ===

impl Drop for Calls {
    fn drop(&mut self) {
        let at = match *self.at.get_mut() {
            0 => self.ends.clock.now(),
            at => Nanos(at),
        };
        // The conductor is gone when nothing more is to be released.
        let _gone = self.ends.sender.send(Ended { number: self.number, at });
        self.ends.wake();
    }
}

// === impl Conductor ===

impl Conductor {
    /// Releases what the load has due, until nothing more can become due or the brake is pulled. `released` is told the bytes
    /// of each release.
    ///
    /// The digest covers the requests by their number in the plan; due times, which depend on the target, are no part of it.
    pub fn run(self, released: impl FnMut(u64)) -> Paced {
        self.brake.take_seat();
        let mut work = Work {
            agenda: Agenda::new(self.load.picks(), self.entries),
            conductor: self,
            in_flight: BTreeMap::new(),
            digests: BTreeMap::new(),
            paced: Paced::default(),
            released,
        };
        work.run();
        work.finish()
    }
}

// === impl Work ===

impl<F: FnMut(u64)> Work<F> {
    fn run(&mut self) {
        let tokens = self.conductor.load.begin(self.conductor.begin);
        self.put(tokens);
        loop {
            self.hear();
            if self.conductor.brake.is_pulled() {
                return;
            }
            let Some(due) = self.agenda.next_due() else {
                if self.in_flight.is_empty() && self.agenda.is_idle() {
                    return;
                }
                // An end, or a call that is ready, wakes it.
                std::thread::park_timeout(NAP);
                continue;
            };
            let left = due.since(self.conductor.clock.now());
            if left.is_zero() {
                self.release();
            } else if left > self.conductor.spin {
                std::thread::park_timeout((left - self.conductor.spin).min(NAP));
            } else {
                std::hint::spin_loop();
            }
        }
    }

    /// Takes in what has happened.
    fn hear(&mut self) {
        if let Agenda::Named { ready, asked, .. } = &mut self.agenda {
            while let Ok(armed) = self.conductor.armed.try_recv() {
                let Release { due, number, .. } = armed.release;
                asked.remove(&number);
                let was_due = due <= self.conductor.clock.now();
                ready.insert((due, number), (armed, was_due));
            }
        }
        while let Ok(ended) = self.conductor.ended.try_recv() {
            self.end(ended);
        }
    }

    fn end(&mut self, Ended { number, at }: Ended) {
        if let Some(release) = self.in_flight.remove(&number) {
            let tokens = self.conductor.load.ended(&release, at);
            self.put(tokens);
        } else if let Agenda::Named { asked, .. } = &mut self.agenda
            && let Some(release) = asked.remove(&number)
        {
            // It can't be made ready: it ends when it is due.
            let tokens = self.conductor.load.ended(&release, at.max(release.due));
            self.put(tokens);
        }
    }

    fn put(&mut self, tokens: Vec<Token>) {
        let end = self.conductor.end;
        for token in tokens.into_iter().filter(|token| end.is_none_or(|end| token.due < end)) {
            if let Some(release) = self.agenda.put(token) {
                self.conductor.wanted.push(release);
            }
        }
    }

    /// Releases what is due first.
    fn release(&mut self) {
        let Some((armed, waited)) = self.agenda.take(&self.conductor.armed) else { return };
        let Armed { release, digest, bytes, fire } = armed;
        let late = self.conductor.clock.now().since(release.due);
        self.in_flight.insert(release.number, release);
        fire.now(release);
        (self.released)(bytes);
        self.paced.released += 1;
        self.paced.last = self.conductor.clock.now();
        self.paced.put_ready(waited, late);
        self.digests.insert(release.number, digest);
        if matches!(self.agenda, Agenda::InOrder { .. }) {
            self.digest();
        }
    }

    /// Takes the requests whose digests wait into the digest of all, in the order of their numbers.
    fn digest(&mut self) {
        while let Some((_, digest)) = self.digests.pop_first() {
            self.paced.digest.add(Nanos::ZERO, &digest);
        }
    }

    fn finish(mut self) -> Paced {
        self.digest();
        self.paced
    }
}

// === impl Agenda ===

impl Agenda {
    fn new(picks: Picks, entries: usize) -> Self {
        match picks {
            Picks::InOrder => {
                Self::InOrder { tokens: BTreeMap::new(), n_tokens: 0, exhausted: false }
            }
            Picks::Named => Self::Named {
                ready: BTreeMap::new(),
                asked: BTreeMap::new(),
                rounds: vec![0; entries],
            },
        }
    }

    /// Returns when the next release is due, if there is one that can be made.
    fn next_due(&self) -> Option<Nanos> {
        match self {
            Self::InOrder { tokens, .. } => tokens.keys().next().map(|(due, _)| *due),
            Self::Named { ready, .. } => ready.keys().next().map(|(due, _)| *due),
        }
    }

    /// Returns whether nothing is being made ready for it.
    fn is_idle(&self) -> bool {
        match self {
            Self::InOrder { .. } => true,
            Self::Named { asked, .. } => asked.is_empty(),
        }
    }

    /// Takes a token in; returns the release to be made ready, if it names one.
    fn put(&mut self, token: Token) -> Option<Release> {
        match self {
            Self::InOrder { exhausted: true, .. } => None,
            Self::InOrder { tokens, n_tokens, .. } => {
                tokens.insert((token.due, *n_tokens), token);
                *n_tokens += 1;
                None
            }
            Self::Named { asked, rounds, .. } => {
                let entry = token.entry?;
                let n_entries = rounds.len() as u64;
                let times = rounds.get_mut(entry)?;
                let round = *times;
                *times += 1;
                let number = u64::from(round) * n_entries + entry as u64;
                let Token { due, stage, user, .. } = token;
                let release = Release { number, entry, round, due, stage, user };
                asked.insert(number, release);
                Some(release)
            }
        }
    }

    /// Returns the call for what is due first, and whether it had to be waited for; none when there is none any more.
    fn take(&mut self, armed: &Receiver<Armed>) -> Option<(Armed, bool)> {
        match self {
            Self::InOrder { tokens, exhausted, .. } => {
                let found = match armed.try_recv() {
                    Ok(next) => Some((next, false)),
                    Err(TryRecvError::Disconnected) => None,
                    // Ends that come meanwhile have their times with them.
                    Err(TryRecvError::Empty) => armed.recv().ok().map(|next| (next, true)),
                };
                let Some((mut next, waited)) = found else {
                    *exhausted = true;
                    tokens.clear();
                    return None;
                };
                let (_, Token { due, stage, user, .. }) = tokens.pop_first()?;
                next.release = Release { due, stage, user, ..next.release };
                Some((next, waited))
            }
            Self::Named { ready, .. } => ready.pop_first().map(|(_, call)| call),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{SyncSender, sync_channel};
    use std::thread::JoinHandle;

    use tokio::sync::oneshot;

    use super::*;
    use crate::replay::launch::Launch;
    use crate::replay::load::ClosedLoop;
    use crate::replay::pacer::Fire;

    /// Begins a closed loop of two slots, and hands out the ends of its channels.
    fn begin(end: Option<Nanos>) -> (SyncSender<Armed>, Ends, Brake, JoinHandle<Paced>) {
        let clock = Clock::start();
        let brake = Brake::default();
        let (arming, armed) = sync_channel(64);
        let (ends, ended) = ends(brake.clone(), clock);
        let conductor = Conductor {
            clock,
            spin: Duration::ZERO,
            brake: brake.clone(),
            load: Box::new(ClosedLoop { concurrency: 2 }),
            begin: Nanos(1),
            end,
            entries: 8,
            armed,
            ended,
            wanted: Wanted::new(clock),
        };
        (arming, ends, brake, std::thread::spawn(move || conductor.run(|_| {})))
    }

    fn arm(arming: &SyncSender<Armed>, number: u64) -> oneshot::Receiver<Release> {
        let (fire, fired) = oneshot::channel();
        let release = Release { number, due: Nanos(1), ..Release::default() };
        arming
            .send(Armed {
                release,
                digest: blake3::hash(&[]),
                bytes: 0,
                fire: Fire(vec![Launch::telling(fire)]),
            })
            .unwrap();
        fired
    }

    #[test]
    fn a_slot_is_free_again_however_its_call_ended() {
        let (arming, ends, _brake, conductor) = begin(None);
        let mut fired: Vec<_> = (0..4).map(|number| arm(&arming, number)).collect();
        drop(arming);
        let third = fired.split_off(2);
        for fired in fired {
            assert_eq!(fired.blocking_recv().unwrap().due, Nanos(1));
        }
        // One is told of with its time, the other is dropped, as by a panic.
        ends.notice(1).ended(Nanos(77));
        drop(ends.notice(0));
        let dues: Vec<Nanos> =
            third.into_iter().map(|fired| fired.blocking_recv().unwrap().due).collect();
        assert_eq!(dues[0], Nanos(77));
        assert!(dues[1] > Nanos(77));
        // What nobody has released does not count.
        ends.notice(9).ended(Nanos(80));
        ends.notice(2).ended(Nanos(80));
        ends.notice(3).ended(Nanos(81));
        assert_eq!(conductor.join().unwrap().released, 4);
    }

    #[test]
    fn nothing_is_released_that_is_due_at_the_end_or_later() {
        let (arming, ends, _brake, conductor) = begin(Some(Nanos(50)));
        for (number, at) in [(0, 49), (1, 50), (2, 51)] {
            arm(&arming, number).blocking_recv().unwrap();
            ends.notice(number).ended(Nanos(at));
        }
        let fired = arm(&arming, 3);
        assert_eq!(conductor.join().unwrap().released, 3);
        assert!(fired.blocking_recv().is_err());
    }

    #[test]
    fn a_pulled_brake_ends_a_conductor_that_waits_for_ends() {
        let (arming, _ends, brake, conductor) = begin(None);
        let fired: Vec<_> = (0..2).map(|number| arm(&arming, number)).collect();
        fired.into_iter().for_each(|fired| drop(fired.blocking_recv()));
        brake.pull();
        assert_eq!(conductor.join().unwrap().released, 2);
    }
}
