//! Think times: how long a user waits between two requests, by Locust's rules.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::Rng as _;

use crate::clock::Nanos;

/// How long a user waits after a request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Think {
    /// Any time between two, after the end: uniform.
    Between(Duration, Duration),
    /// Always the same time, after the end.
    Constant(Duration),
    /// From the time at which the request was due to the next one; none when the request took longer.
    Pacing(Duration),
    /// The same, as requests per second.
    Throughput(f64),
}

/// What is wrong with the text of a [`Think`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no think time: say constant:S, between:A:B or pacing:S with seconds, or throughput:R with requests per second"
)]
pub struct ThinkError(String);

/// Longest think time: ten years.
const MOST_S: f64 = 10.0 * 365.0 * 86_400.0;
/// 2^-53: the distance of two neighbors among the uniform numbers drawn.
const STEP: f64 = 1.0 / 9_007_199_254_740_992.0;

// === impl Think ===

impl Think {
    /// Returns when the next request is due after one that was due at `due` and ended at `end`.
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
    pub(super) fn next(self, due: Nanos, end: Nanos, random: &mut ChaCha8Rng) -> Nanos {
        match self {
            Self::Between(least, most) => {
                let share = (random.next_u64() >> 11) as f64 * STEP;
                end + least + most.saturating_sub(least).mul_f64(share)
            }
            Self::Constant(time) => end + time,
            Self::Pacing(time) => end.max(due + time),
            Self::Throughput(rate) => end.max(due + Duration::from_secs_f64(1.0 / rate)),
        }
    }
}

impl Default for Think {
    fn default() -> Self {
        Self::Constant(Duration::ZERO)
    }
}

impl FromStr for Think {
    type Err = ThinkError;

    fn from_str(text: &str) -> Result<Self, ThinkError> {
        let error = || ThinkError(text.to_owned());
        let seconds = |text: &str| {
            let seconds = text.parse().ok().filter(|seconds| (0.0..=MOST_S).contains(seconds));
            seconds.map(Duration::from_secs_f64).ok_or_else(error)
        };
        match *text.split(':').collect::<Vec<_>>() {
            ["constant", time] => Ok(Self::Constant(seconds(time)?)),
            ["pacing", time] => Ok(Self::Pacing(seconds(time)?)),
            ["between", least, most] => {
                let (least, most) = (seconds(least)?, seconds(most)?);
                if least <= most { Ok(Self::Between(least, most)) } else { Err(error()) }
            }
            ["throughput", rate] => {
                let rate: f64 = rate.parse().map_err(|_| error())?;
                let is_rate = rate.is_finite() && rate >= 1.0 / MOST_S;
                if is_rate { Ok(Self::Throughput(rate)) } else { Err(error()) }
            }
            _ => Err(error()),
        }
    }
}

impl fmt::Display for Think {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Between(least, most) => {
                write!(f, "between:{}:{}", least.as_secs_f64(), most.as_secs_f64())
            }
            Self::Constant(time) => write!(f, "constant:{}", time.as_secs_f64()),
            Self::Pacing(time) => write!(f, "pacing:{}", time.as_secs_f64()),
            Self::Throughput(rate) => write!(f, "throughput:{rate}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use rand_chacha::rand_core::SeedableRng as _;

    use super::*;

    const S: u64 = 1_000_000_000;

    /// Checks when the next request is due after one that was due at 10 s and ended at `end_s`, in seconds.
    fn check(think: &str, end_s: u64, least_s: f64, most_s: f64) {
        let parsed: Think = think.parse().unwrap();
        assert_eq!(parsed.to_string(), think);
        let mut random = ChaCha8Rng::seed_from_u64(1);
        for _ in 0..50 {
            let next = parsed.next(Nanos(10 * S), Nanos(end_s * S), &mut random).as_secs_f64();
            assert!((least_s..=most_s).contains(&next), "{think}: {next}");
        }
    }

    #[test]
    fn each_rule_waits_from_where_it_says() {
        check("constant:0", 14, 14.0, 14.0);
        check("constant:1.5", 14, 15.5, 15.5);
        check("between:1:3", 14, 15.0, 17.0);
        check("between:2:2", 14, 16.0, 16.0);
        check("pacing:6", 14, 16.0, 16.0);
        check("pacing:3", 14, 14.0, 14.0);
        check("throughput:0.25", 12, 14.0, 14.0);
        check("throughput:4", 12, 12.0, 12.0);
    }

    #[test]
    fn what_is_no_think_time_is_named() {
        for text in [
            "",
            "constant",
            "constant:-1",
            "constant:1:2",
            "between:3:1",
            "between:1",
            "pacing:NaN",
            "throughput:0",
            "throughput:inf",
            "poisson:1",
            "constant:1e99",
        ] {
            assert_eq!(text.parse::<Think>(), Err(ThinkError(text.to_owned())), "{text}");
        }
    }
}
