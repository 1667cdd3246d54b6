//! The warm-up: the first releases of a run, whose rows are kept and marked, and left out of every figure.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Which releases are the warm-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Warmup {
    /// None.
    #[default]
    None,
    /// The first so many, by their number in the plan.
    Releases(u64),
    /// Those that are due less than this after the first one.
    Time(Duration),
}

/// A text that is no warm-up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no warm-up: say a number of requests, as in 100, or a time with its unit, as in 30s"
)]
pub struct WarmupError(String);

// === impl Warmup ===

impl Warmup {
    /// Returns whether the release `number` belongs to it, which is due so long after the first one.
    #[must_use]
    pub fn holds(self, number: u64, since_first: Duration) -> bool {
        match self {
            Self::None => false,
            Self::Releases(releases) => number < releases,
            Self::Time(time) => since_first < time,
        }
    }
}

impl FromStr for Warmup {
    type Err = WarmupError;

    fn from_str(text: &str) -> Result<Self, WarmupError> {
        if let Ok(releases) = text.parse() {
            return Ok(if releases == 0 { Self::None } else { Self::Releases(releases) });
        }
        let time: jiff::SignedDuration = text.parse().map_err(|_| WarmupError(text.to_owned()))?;
        let time = Duration::try_from(time).map_err(|_| WarmupError(text.to_owned()))?;
        Ok(if time.is_zero() { Self::None } else { Self::Time(time) })
    }
}

impl fmt::Display for Warmup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("0"),
            Self::Releases(releases) => releases.fmt(f),
            Self::Time(time) => write!(f, "{}s", time.as_secs_f64()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<Warmup>) {
        assert_eq!(text.parse().ok(), expected, "{text}");
    }

    #[test]
    fn a_number_is_of_requests_and_a_time_has_a_unit() {
        check("0", Some(Warmup::None));
        check("0s", Some(Warmup::None));
        check("100", Some(Warmup::Releases(100)));
        check("30s", Some(Warmup::Time(Duration::from_secs(30))));
        check("1m 30s", Some(Warmup::Time(Duration::from_secs(90))));
        check("250ms", Some(Warmup::Time(Duration::from_millis(250))));
        for text in ["", "-1", "-1s", "1.5", "some"] {
            check(text, None);
        }
    }

    #[test]
    fn the_first_ones_belong_to_it() {
        let s = Duration::from_secs;
        assert!(!Warmup::None.holds(0, s(0)));
        assert!(Warmup::Releases(2).holds(1, s(99)) && !Warmup::Releases(2).holds(2, s(0)));
        assert!(Warmup::Time(s(5)).holds(99, s(4)) && !Warmup::Time(s(5)).holds(0, s(5)));
    }
}
