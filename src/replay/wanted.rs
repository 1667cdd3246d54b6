//! What the feeder is to make ready for a load that names its entries: the releases that are known, the next due first.
//!
//! They are handed out only when they are due soon ([`HORIZON`]): what is due in an hour is not to hold the bodies' budget
//! that what is due now needs.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::{Clock, Nanos};
use crate::replay::plan::Release;

/// Releases to be made ready. Clones share them.
#[derive(Clone, Debug)]
pub struct Wanted {
    clock: Clock,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// By due time and number.
    releases: BTreeMap<(Nanos, u64), Release>,
    closed: bool,
}

/// How long before its due time a release is made ready.
pub const HORIZON: Duration = Duration::from_secs(1);

// === impl Wanted ===

impl Wanted {
    /// Makes an empty one.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self { clock, shared: Arc::default() }
    }

    /// Asks for a release.
    pub fn push(&self, release: Release) {
        self.state().releases.insert((release.due, release.number), release);
        self.shared.changed.notify_one();
    }

    /// Hands out nothing more.
    pub fn close(&self) {
        self.state().closed = true;
        self.shared.changed.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Iterator for Wanted {
    type Item = Release;

    /// Waits until a release is due soon; none once it is closed.
    fn next(&mut self) -> Option<Release> {
        let mut state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if state.closed {
                return None;
            }
            let first = state.releases.first_entry();
            let Some(first) = first else {
                state = self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let early = first.key().0.since(self.clock.now() + HORIZON);
            if early.is_zero() {
                return Some(first.remove());
            }
            let woken = self.shared.changed.wait_timeout(state, early);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn release(number: u64, due: Nanos) -> Release {
        Release { number, due, ..Release::default() }
    }

    #[test]
    fn what_is_due_next_goes_before_what_was_asked_for_first() {
        let wanted = Wanted::new(Clock::start());
        let far = Nanos::from(Duration::from_secs(3_600));
        for (number, due) in [(0, far), (1, Nanos(9)), (2, Nanos(3)), (3, Nanos(9))] {
            wanted.push(release(number, due));
        }
        let seen: Vec<u64> = wanted.clone().take(3).map(|release| release.number).collect();
        assert_eq!(seen, [2, 1, 3]);
        let mut theirs = wanted.clone();
        let waiting = std::thread::spawn(move || theirs.next());
        wanted.push(release(4, Nanos(1)));
        assert_eq!(waiting.join().unwrap().map(|release| release.number), Some(4));
        let mut theirs = wanted.clone();
        let waiting = std::thread::spawn(move || theirs.next());
        wanted.close();
        assert_eq!(waiting.join().unwrap(), None, "the one that is far off was not handed out");
    }
}
