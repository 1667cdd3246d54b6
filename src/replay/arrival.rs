//! Arrival processes: the gaps between releases at a given rate, the same numbers on every machine.
//!
//! Randomness is ChaCha8 from a named seed; the only transcendental functions are those of `libm`, compiled from Rust, since
//! the logarithm of a C library may differ in its last bit between machines. Everything else is IEEE arithmetic.

use std::fmt;
use std::str::FromStr;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};

/// How releases at a given rate are spread.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Arrival {
    /// Equal gaps.
    Constant,
    /// Gamma-distributed gaps with this coefficient of variation (standard deviation over mean): above 1 comes in bursts,
    /// below 1 is more even than Poisson.
    Gamma {
        /// Coefficient of variation, finite and above 0.
        cv: f64,
    },
    /// Exponential gaps: a Poisson process.
    Poisson,
}

/// What is wrong with the text of an [`Arrival`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ArrivalError {
    /// Not one of the three.
    #[error("unknown arrival process `{0}`: say constant, poisson or gamma:CV")]
    Unknown(String),
    /// The coefficient of variation is no use.
    #[error(
        "`gamma:{0}` needs a coefficient of variation between {MIN_CV} and {MAX_CV}, as in gamma:2"
    )]
    Variation(String),
}

/// The gaps of one process, in units of the mean gap.
#[derive(Clone, Debug)]
pub struct Gaps {
    arrival: Arrival,
    random: ChaCha8Rng,
}

/// Smallest coefficient of variation: below it the gaps are as good as constant.
const MIN_CV: f64 = 0.01;
/// Largest coefficient of variation: above it nearly all gaps are zero.
const MAX_CV: f64 = 20.0;
/// 2^-53: the distance of two neighbors among the uniform numbers drawn.
const STEP: f64 = 1.0 / 9_007_199_254_740_992.0;

// === impl Arrival ===

impl FromStr for Arrival {
    type Err = ArrivalError;

    fn from_str(text: &str) -> Result<Self, ArrivalError> {
        match text.split_once(':') {
            None if text == "constant" => Ok(Self::Constant),
            None if text == "poisson" => Ok(Self::Poisson),
            Some(("gamma", cv)) => cv
                .parse()
                .ok()
                .filter(|cv| (MIN_CV..=MAX_CV).contains(cv))
                .map(|cv| Self::Gamma { cv })
                .ok_or_else(|| ArrivalError::Variation(cv.to_owned())),
            _ => Err(ArrivalError::Unknown(text.to_owned())),
        }
    }
}

impl fmt::Display for Arrival {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Constant => f.write_str("constant"),
            Self::Gamma { cv } => write!(f, "gamma:{cv}"),
            Self::Poisson => f.write_str("poisson"),
        }
    }
}

// === impl Gaps ===

impl Gaps {
    /// Starts the process of `arrival` from `seed`.
    #[must_use]
    pub fn new(arrival: Arrival, seed: u64) -> Self {
        Self { arrival, random: ChaCha8Rng::seed_from_u64(seed) }
    }

    /// Returns the next gap: at least 0, with a mean of 1.
    pub fn draw(&mut self) -> f64 {
        match self.arrival {
            Arrival::Constant => 1.0,
            Arrival::Gamma { cv } => {
                // A gamma distribution of shape k has mean k and standard deviation sqrt(k): cv = 1 / sqrt(k).
                let shape = 1.0 / (cv * cv);
                self.gamma(shape) / shape
            }
            Arrival::Poisson => -libm::log(self.uniform()),
        }
    }

    /// Draws from (0, 1].
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
    fn uniform(&mut self) -> f64 {
        ((self.random.next_u64() >> 11) + 1) as f64 * STEP
    }

    /// Draws from the gamma distribution of scale 1: G. Marsaglia and W. W. Tsang, "A simple method for generating gamma
    /// variables", ACM TOMS 26 (2000); its section 6 for shapes below 1.
    fn gamma(&mut self, shape: f64) -> f64 {
        if shape < 1.0 {
            let boost = libm::pow(self.uniform(), 1.0 / shape);
            return self.gamma(shape + 1.0) * boost;
        }
        let d = shape - 1.0 / 3.0;
        let c = 1.0 / (9.0 * d).sqrt();
        loop {
            let x = self.normal();
            let v = 1.0 + c * x;
            if v <= 0.0 {
                continue;
            }
            let v = v * v * v;
            if libm::log(self.uniform()) < 0.5 * x * x + d - d * v + d * libm::log(v) {
                return d * v;
            }
        }
    }

    /// Draws from the standard normal distribution: Marsaglia's polar method, its second number thrown away.
    fn normal(&mut self) -> f64 {
        loop {
            let (x, y) = (2.0 * self.uniform() - 1.0, 2.0 * self.uniform() - 1.0);
            let square = x * x + y * y;
            if square > 0.0 && square < 1.0 {
                return x * (-2.0 * libm::log(square) / square).sqrt();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks the mean (1) and the coefficient of variation of many gaps.
    fn check(arrival: &str, cv: f64) {
        let mut gaps = Gaps::new(arrival.parse().unwrap(), 7);
        let n = 200_000_u32;
        let (mut sum, mut squares) = (0.0, 0.0);
        for _ in 0..n {
            let gap = gaps.draw();
            assert!(gap >= 0.0 && gap.is_finite(), "{arrival}: {gap}");
            sum += gap;
            squares += gap * gap;
        }
        let mean = sum / f64::from(n);
        let seen = (squares / f64::from(n) - mean * mean).max(0.0).sqrt() / mean;
        assert!((mean - 1.0).abs() < 0.02, "{arrival}: mean {mean}");
        assert!((seen - cv).abs() < 0.03 * cv.max(0.1), "{arrival}: cv {seen}");
    }

    #[test]
    fn gaps_have_the_mean_and_the_spread_that_they_are_named_for() {
        check("constant", 0.0);
        check("poisson", 1.0);
        check("gamma:0.25", 0.25);
        check("gamma:1", 1.0);
        check("gamma:2.5", 2.5);
    }

    #[test]
    fn gaps_are_the_same_numbers_for_ever() {
        let draws = |arrival: &str, seed| {
            let mut gaps = Gaps::new(arrival.parse().unwrap(), seed);
            (0..3).map(|_| gaps.draw()).collect::<Vec<_>>()
        };
        // To the last bit: the digits are the shortest that give back the double.
        assert_eq!(
            draws("poisson", 1),
            [0.9100958009818427, 2.5209437485799526, 0.5165751524496494]
        );
        assert_eq!(
            draws("gamma:2", 1),
            [0.03862185039610285, 0.10294149111829079, 9.666896271582832]
        );
        assert_eq!(
            draws("gamma:0.5", 42),
            [0.9792848766314624, 1.3976221309345154, 0.6531501242016208]
        );
        assert_ne!(draws("poisson", 1), draws("poisson", 2));
    }

    #[test]
    fn what_is_no_process_is_named() {
        for (text, error) in [
            ("uniform", ArrivalError::Unknown("uniform".into())),
            ("gamma", ArrivalError::Unknown("gamma".into())),
            ("gamma:0", ArrivalError::Variation("0".into())),
            ("gamma:NaN", ArrivalError::Variation("NaN".into())),
            ("gamma:1e9", ArrivalError::Variation("1e9".into())),
        ] {
            assert_eq!(text.parse::<Arrival>(), Err(error));
        }
        for text in ["constant", "poisson", "gamma:2.5"] {
            assert_eq!(text.parse::<Arrival>().unwrap().to_string(), text);
        }
    }
}
