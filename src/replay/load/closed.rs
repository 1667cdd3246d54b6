//! A closed loop: a fixed number of slots, each of which sends its next request when its last one has ended.

use crate::clock::Nanos;
use crate::replay::load::{Load, Token};
use crate::replay::plan::Release;

/// A closed loop: exactly so many in flight while work remains. Due is when the slot became free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClosedLoop {
    /// Requests in flight.
    pub concurrency: u32,
}

// === impl ClosedLoop ===

impl Load for ClosedLoop {
    fn begin(&mut self, at: Nanos) -> Vec<Token> {
        (0..self.concurrency).map(|_| Token { due: at, ..Token::default() }).collect()
    }

    fn ended(&mut self, _release: &Release, at: Nanos) -> Vec<Token> {
        vec![Token { due: at, ..Token::default() }]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whichever call ends, and whenever, there is one token for it and none beside.
        #[test]
        fn exactly_as_many_are_in_flight_as_there_are_slots(
            concurrency in 1_u32..40,
            ends in proptest::collection::vec((any::<prop::sample::Index>(), 0_u64..1_000), 0..200),
        ) {
            let mut load = ClosedLoop { concurrency };
            let mut now = Nanos(7);
            let mut in_flight = load.begin(now);
            prop_assert_eq!(in_flight.len(), concurrency as usize);
            for (which, later) in ends {
                now = Nanos(now.0 + later);
                let token = in_flight.swap_remove(which.index(in_flight.len()));
                prop_assert!(token.due <= now);
                let release = Release { due: token.due, ..Release::default() };
                let next = load.ended(&release, now);
                prop_assert!(next.iter().all(|token| token.due == now));
                in_flight.extend(next);
                prop_assert_eq!(in_flight.len(), concurrency as usize);
            }
        }
    }
}
