//! Users, as Locust has them: each sends a request, thinks, and sends the next one.

use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng as _;

use crate::clock::Nanos;
use crate::replay::load::{Load, Think, Token};
use crate::replay::plan::Release;

/// Users who come one after another and stay.
///
/// They come in batches, as Locust spawns them: at most one a batch below one a second, else as many as the rate has whole
/// ones, the first batch at the beginning. Random think times are drawn from one stream of numbers for each user, so that
/// they do not depend on whose answer came first.
#[derive(Clone, Debug)]
pub struct Users {
    batch: u32,
    gap: Duration,
    think: Think,
    streams: Vec<ChaCha8Rng>,
}

// === impl Users ===

impl Users {
    /// Makes `n` users who come at `rate` a second (above 0). `seed` is that of their think times.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "`as` saturates, and the rate is above 0"
    )]
    pub fn new(n: u32, rate: f64, think: Think, seed: u64) -> Self {
        let batch = (rate.floor() as u32).max(1);
        let gap = Duration::try_from_secs_f64(f64::from(batch) / rate).unwrap_or(Duration::MAX);
        let stream = |user: u32| {
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            random.set_stream(1 + u64::from(user));
            random
        };
        Self { batch, gap, think, streams: (0..n).map(stream).collect() }
    }
}

impl Load for Users {
    fn begin(&mut self, at: Nanos) -> Vec<Token> {
        let come = |user: u32| Token {
            due: at + self.gap.saturating_mul(user / self.batch),
            user: Some(user),
            ..Token::default()
        };
        (0..).take(self.streams.len()).map(come).collect()
    }

    fn ended(&mut self, release: &Release, at: Nanos) -> Vec<Token> {
        let stream =
            release.user.and_then(|user| self.streams.get_mut(usize::try_from(user).ok()?));
        let Some(stream) = stream else { return Vec::new() };
        let due = self.think.next(release.due, at, stream);
        vec![Token { due, user: release.user, ..Token::default() }]
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// Checks when users come, in seconds.
    fn check(rate: f64, expected: &[f64]) {
        let n = u32::try_from(expected.len()).unwrap();
        let seen: Vec<f64> = Users::new(n, rate, Think::default(), 0)
            .begin(Nanos::ZERO)
            .iter()
            .map(|token| token.due.as_secs_f64())
            .collect();
        assert_eq!(seen, expected, "{rate}");
    }

    #[test]
    fn users_come_in_batches() {
        check(0.1, &[0.0, 10.0, 20.0]);
        check(1.0, &[0.0, 1.0, 2.0]);
        check(2.5, &[0.0, 0.0, 0.8, 0.8, 1.6]);
        check(100.0, &[0.0, 0.0, 0.0]);
    }

    fn think() -> impl Strategy<Value = Think> {
        let time = || (0_u64..3_000).prop_map(Duration::from_millis);
        prop_oneof![
            time().prop_map(Think::Constant),
            (time(), time()).prop_map(|(a, b)| Think::Between(a.min(b), a.max(b))),
            time().prop_map(Think::Pacing),
            (0.1_f64..50.0).prop_map(Think::Throughput),
        ]
    }

    /// Plays users against answers that take `took` nanoseconds each; the token that `picks` chooses among those in flight
    /// ends first. Returns the think times of each user.
    fn play(
        users: u32,
        think: Think,
        took: &[u64],
        picks: &[prop::sample::Index],
    ) -> BTreeMap<u32, Vec<Duration>> {
        let mut load = Users::new(users, 7.0, think, 5);
        let mut out = load.begin(Nanos(11));
        let mut thought = BTreeMap::<u32, Vec<Duration>>::new();
        for (took, pick) in took.iter().zip(picks) {
            let token = out.swap_remove(pick.index(out.len()));
            let release = Release { due: token.due, user: token.user, ..Release::default() };
            let end = Nanos(token.due.0 + took);
            let next = load.ended(&release, end);
            assert_eq!(next.len(), 1, "a user has one request at a time");
            assert_eq!(next[0].user, token.user);
            assert!(next[0].due >= end, "no release before its token");
            thought.entry(token.user.unwrap()).or_default().push(next[0].due.since(end));
            out.extend(next);
            assert_eq!(out.len(), users as usize);
        }
        thought
    }

    proptest! {
        #[test]
        fn users_keep_to_their_rule_whatever_the_answers_do(
            users in 1_u32..9,
            think in think(),
            took in proptest::collection::vec(0_u64..5_000_000_000, 100),
            picks in proptest::collection::vec(any::<prop::sample::Index>(), 100),
            others in proptest::collection::vec(any::<prop::sample::Index>(), 100),
        ) {
            let thought = play(users, think, &took, &picks);
            let time = match think {
                Think::Throughput(rate) => Duration::from_secs_f64(1.0 / rate),
                Think::Between(_, most) => most,
                Think::Constant(time) | Think::Pacing(time) => time,
            };
            for waited in thought.values().flatten() {
                prop_assert!(*waited <= time);
                if let Think::Between(least, _) = think {
                    prop_assert!(*waited >= least);
                }
            }
            // The n-th think time of a user is the same in whatever order the answers come.
            if matches!(think, Think::Between(..)) {
                let other = play(users, think, &took, &others);
                for (user, thought) in &thought {
                    let theirs = other.get(user).map_or(&[][..], Vec::as_slice);
                    prop_assert!(thought.iter().zip(theirs).all(|(ours, theirs)| ours == theirs));
                }
            }
        }
    }
}
