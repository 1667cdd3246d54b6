//! The pacer: one thread that releases each exchange when it is due.
//!
//! What is released has been made ready before: its request is built, and all that is left to do is to write it to a
//! socket ([`Launch`]). The thread sleeps until shortly before the due time and spins for the rest ([`Pacer::spin`]):
//! the kernel wakes a sleeper some 60 us late, a spinner is on time to a fraction of a microsecond. Due times are
//! absolute: a late release makes no other one late.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError};
use std::sync::{Arc, OnceLock};
use std::thread::Thread;
use std::time::Duration;

use crate::clock::{Clock, Nanos};
use crate::replay::launch::Launch;
use crate::replay::plan::Release;

/// A release that is ready.
#[derive(Debug)]
pub struct Armed {
    /// The release.
    pub release: Release,
    /// Digest of the request.
    pub digest: blake3::Hash,
    /// Bytes of its body, which now count as sent.
    pub bytes: u64,
    /// Begins its calls.
    pub fire: Fire,
}

/// Begins the calls of a release; dropped, they are not made.
#[derive(Debug)]
pub struct Fire(pub Vec<Launch>);

/// Releases on time.
#[derive(Debug)]
pub struct Pacer {
    /// The run's clock.
    pub clock: Clock,
    /// How long before the due time sleep ends and spinning begins; zero for no spinning.
    pub spin: Duration,
    /// Ends the pacing early.
    pub brake: Brake,
}

/// What a pacer did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Paced {
    /// Releases.
    pub released: u64,
    /// Of these, the ones that were not ready when they were due.
    pub starved: u64,
    /// The longest that one of these was not ready for.
    pub starved_most: Duration,
    /// When the last one was released.
    pub last: Nanos,
    /// BLAKE3 over due time and digest of each release, in order.
    pub digest: SentDigest,
}

/// BLAKE3 over due time (since the first release) and digest of each release, in order.
#[derive(Clone, Debug, Default)]
pub struct SentDigest {
    hasher: blake3::Hasher,
    first: Option<Nanos>,
}

/// Stops a pacer, from any thread, even while it sleeps.
#[derive(Clone, Debug, Default)]
pub struct Brake {
    pulled: Arc<AtomicBool>,
    sleeper: Arc<OnceLock<Thread>>,
}

/// Sleeping may end so much late: what is nearer than this is slept towards in one step, and never past.
pub(super) const NAP: Duration = Duration::from_secs(3_600);

// === impl Pacer ===

impl Pacer {
    /// Releases all that comes from `armed`, which is in due order, until it ends or the brake is pulled. `released` is
    /// told the bytes of each one.
    pub fn run(&self, armed: &Receiver<Armed>, mut released: impl FnMut(u64)) -> Paced {
        self.brake.take_seat();
        let mut paced = Paced::default();
        while let Some((next, waited)) = self.next(armed) {
            let due = next.release.due;
            let Some(late) = self.wait(due) else { break };
            next.fire.now(next.release);
            released(next.bytes);
            paced.released += 1;
            paced.last = self.clock.now();
            paced.digest.add(due, &next.digest);
            paced.put_ready(waited, late);
        }
        paced
    }

    /// Returns the next release, and whether it had to be waited for.
    fn next(&self, armed: &Receiver<Armed>) -> Option<(Armed, bool)> {
        let found = match armed.try_recv() {
            Ok(next) => Some((next, false)),
            Err(TryRecvError::Disconnected) => None,
            Err(TryRecvError::Empty) => armed.recv().ok().map(|next| (next, true)),
        };
        found.filter(|_| !self.brake.is_pulled())
    }

    /// Waits until `due`; returns how late it was when asked, none when the brake was pulled meanwhile.
    fn wait(&self, due: Nanos) -> Option<Duration> {
        let late = self.clock.now().since(due);
        loop {
            let left = due.since(self.clock.now());
            if self.brake.is_pulled() {
                return None;
            }
            if left.is_zero() {
                return Some(late);
            }
            if left > self.spin {
                // Returns early now and then, and when the brake is pulled.
                std::thread::park_timeout((left - self.spin).min(NAP));
            } else {
                std::hint::spin_loop();
            }
        }
    }
}

/// A release that had to be waited for, but was no later than this, was not starved.
const READY_SLACK: Duration = Duration::from_micros(100);

// === impl Fire ===

impl Fire {
    /// Begins them, in order, and tells them the release as it is made.
    pub fn now(self, release: Release) {
        for call in self.0 {
            call.go(release);
        }
    }
}

// === impl Paced ===

impl Paced {
    /// Takes into account how `late` a release was when it was asked for, and whether it had to be `waited` for.
    pub(super) fn put_ready(&mut self, waited: bool, late: Duration) {
        if waited && late > READY_SLACK {
            self.starved += 1;
            self.starved_most = self.starved_most.max(late);
        }
    }
}

// === impl SentDigest ===

impl SentDigest {
    /// Takes a release into account.
    pub fn add(&mut self, due: Nanos, request: &blake3::Hash) {
        let first = *self.first.get_or_insert(due);
        self.hasher.update(&(due.0.saturating_sub(first.0)).to_le_bytes());
        self.hasher.update(request.as_bytes());
    }

    /// Returns the digest so far, in hex.
    #[must_use]
    pub fn hex(&self) -> String {
        self.hasher.finalize().to_hex().to_string()
    }
}

impl PartialEq for SentDigest {
    fn eq(&self, other: &Self) -> bool {
        self.hasher.finalize() == other.hasher.finalize()
    }
}

impl Eq for SentDigest {}

// === impl Brake ===

impl Brake {
    /// Stops the pacer.
    pub fn pull(&self) {
        self.pulled.store(true, Ordering::Release);
        self.wake();
    }

    /// Wakes the thread that has the seat, if it sleeps.
    pub fn wake(&self) {
        if let Some(sleeper) = self.sleeper.get() {
            sleeper.unpark();
        }
    }

    /// Says that this thread is the one to be woken. There is one: a second one would not be.
    pub(super) fn take_seat(&self) {
        let _first = self.sleeper.set(std::thread::current());
    }

    /// Returns whether it was pulled.
    #[must_use]
    pub fn is_pulled(&self) -> bool {
        self.pulled.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use tokio::sync::oneshot;

    use super::*;

    /// Makes a release that is due then, its bytes told apart by `bytes`.
    fn armed(due: Nanos, bytes: u64, fire: oneshot::Sender<Release>) -> Armed {
        let release = Release { due, ..Release::default() };
        Armed { release, digest: blake3::hash(&[]), bytes, fire: Fire(vec![Launch::telling(fire)]) }
    }

    fn pacer(spin_us: u64) -> Pacer {
        Pacer {
            clock: Clock::start(),
            spin: Duration::from_micros(spin_us),
            brake: Brake::default(),
        }
    }

    #[test]
    fn nothing_is_released_before_it_is_due_and_all_is_in_order() {
        for spin_us in [0, 300] {
            let pacer = pacer(spin_us);
            let (sender, queue) = sync_channel(64);
            let mut waiting = Vec::new();
            for number in 0..20_u64 {
                let (fire, fired) = oneshot::channel();
                waiting.push(fired);
                let due = Nanos((number / 2) * 500_000);
                sender.send(armed(due, number, fire)).unwrap();
            }
            drop(sender);
            let mut seen = Vec::new();
            let paced = pacer.run(&queue, |bytes| {
                let now = pacer.clock.now();
                assert!(now.0 >= (bytes / 2) * 500_000, "{bytes} at {now}");
                seen.push(bytes);
            });
            assert_eq!(seen, (0..20).collect::<Vec<_>>());
            assert_eq!((paced.released, paced.starved), (20, 0));
            assert!(waiting.iter_mut().all(|fired| fired.try_recv().is_ok()));
        }
    }

    #[test]
    fn a_pulled_brake_wakes_the_sleeper_and_drops_what_was_armed() {
        let pacer = pacer(0);
        let brake = pacer.brake.clone();
        let (sender, queue) = sync_channel(2);
        let (fire, mut fired) = oneshot::channel();
        let due = Nanos::from(Duration::from_secs(3_000));
        sender.send(armed(due, 0, fire)).unwrap();
        let thread = std::thread::spawn(move || pacer.run(&queue, |_| {}));
        brake.pull();
        assert_eq!(thread.join().unwrap().released, 0);
        assert!(fired.try_recv().is_err());
    }

    /// Invariant 8: what is not ready is late, and said.
    #[test]
    fn a_release_that_came_too_late_is_counted_as_starved() {
        let pacer = pacer(0);
        let (sender, queue) = sync_channel(1);
        let clock = pacer.clock;
        let feeder = std::thread::spawn(move || {
            while clock.now() < Nanos(5_000_000) {
                std::thread::yield_now();
            }
            let (fire, _fired) = oneshot::channel();
            sender.send(armed(Nanos(1), 0, fire)).unwrap();
        });
        let paced = pacer.run(&queue, |_| {});
        feeder.join().unwrap();
        assert_eq!((paced.released, paced.starved), (1, 1));
        assert!(paced.starved_most >= Duration::from_millis(4));
    }

    #[test]
    fn the_digest_depends_on_due_times_requests_and_their_order() {
        let digest = |releases: &[(u64, &[u8])]| {
            let mut digest = SentDigest::default();
            for (due, request) in releases {
                digest.add(Nanos(*due), &blake3::hash(request));
            }
            digest.hex()
        };
        let one = digest(&[(1, b"a"), (2, b"b")]);
        assert_eq!(one, digest(&[(1, b"a"), (2, b"b")]));
        assert_eq!(one, digest(&[(501, b"a"), (502, b"b")]), "the lead is no part of it");
        for other in
            [digest(&[(1, b"a"), (3, b"b")]), digest(&[(1, b"b"), (2, b"a")]), digest(&[(1, b"a")])]
        {
            assert_ne!(one, other);
        }
    }
}
