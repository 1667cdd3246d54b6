//! Bursts: so many requests at once, and when all of them have ended, the next so many.

use std::time::Duration;

use crate::clock::Nanos;
use crate::replay::load::{Load, Token};
use crate::replay::plan::Release;

/// Bursts, one after another. Due is when the burst before had ended, plus the pause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bursts {
    sizes: Vec<u32>,
    pause: Duration,
    /// The burst that goes on.
    current: usize,
    /// Of it, the requests that have not ended.
    left: u32,
}

// === impl Bursts ===

impl Bursts {
    /// Makes bursts of these sizes, each above 0, with a pause after each.
    #[must_use]
    pub fn new(sizes: Vec<u32>, pause: Duration) -> Self {
        Self { sizes, pause, current: 0, left: 0 }
    }

    fn burst(&mut self, due: Nanos) -> Vec<Token> {
        self.left = self.sizes.get(self.current).copied().unwrap_or(0);
        let stage = u32::try_from(self.current).ok();
        (0..self.left).map(|_| Token { due, stage, ..Token::default() }).collect()
    }
}

impl Load for Bursts {
    fn begin(&mut self, at: Nanos) -> Vec<Token> {
        self.current = 0;
        self.burst(at)
    }

    fn ended(&mut self, _release: &Release, at: Nanos) -> Vec<Token> {
        self.left = self.left.saturating_sub(1);
        if self.left > 0 || self.current >= self.sizes.len() {
            return Vec::new();
        }
        self.current += 1;
        self.burst(at + self.pause)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn bursts_never_overlap(
            sizes in proptest::collection::vec(1_u32..20, 1..8),
            pause_ms in 0_u64..50,
            ends in proptest::collection::vec((any::<prop::sample::Index>(), 0_u64..1_000), 200),
        ) {
            let pause = Duration::from_millis(pause_ms);
            let mut load = Bursts::new(sizes.clone(), pause);
            let mut now = Nanos(3);
            let mut in_flight = load.begin(now);
            let mut ends = ends.into_iter();
            for (stage, size) in (0..).zip(&sizes) {
                prop_assert_eq!(in_flight.len(), *size as usize);
                prop_assert!(in_flight.iter().all(|token| token.stage == Some(stage)));
                now = now.max(in_flight[0].due);
                prop_assert!(in_flight.iter().all(|token| token.due == now));
                while !in_flight.is_empty() {
                    let (which, later) = ends.next().unwrap();
                    now = Nanos(now.0 + later);
                    let token = in_flight.swap_remove(which.index(in_flight.len()));
                    let next = load.ended(&Release { due: token.due, ..Release::default() }, now);
                    if in_flight.is_empty() {
                        prop_assert!(next.iter().all(|token| token.due == now + pause));
                        in_flight = next;
                        break;
                    }
                    prop_assert!(next.is_empty(), "only the last end begins the next burst");
                }
            }
            prop_assert!(in_flight.is_empty());
        }
    }
}
