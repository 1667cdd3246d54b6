//! How an objective is written: `ttft:p99<500ms`, `tpot<=50ms`, `errors<1%`, `goodput>95%`.

use std::fmt;
use std::str::FromStr;

use super::objective::{Limit, Metric, Slo, Statistic};

impl FromStr for Slo {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let Some(at) = text.find(['<', '>']) else {
            return Err(format!("`{text}` has no bound: {HINT}"));
        };
        let (name, rest) = text.split_at(at);
        let above = rest.starts_with('>');
        let inclusive = rest[1..].starts_with('=');
        let bound = rest[1 + usize::from(inclusive)..].trim();
        let (name, statistic) = match name.trim().split_once(':') {
            Some((name, statistic)) => (name.trim(), Some(statistic.trim())),
            None => (name.trim(), None),
        };
        match (name, statistic, above) {
            ("errors", None, false) => {
                Ok(Self::Errors { limit: Limit { at: share(bound)?, inclusive } })
            }
            ("goodput", None, true) => {
                Ok(Self::Goodput { limit: Limit { at: share(bound)?, inclusive } })
            }
            ("errors" | "goodput", Some(_), _) => {
                Err(format!("`{name}` is a share and has no statistic: {HINT}"))
            }
            ("goodput", None, false) => {
                Err("goodput is good when it is high: write it like goodput>95%".to_owned())
            }
            (_, _, true) => Err(format!("`{text}`: what is bounded from below is goodput alone")),
            (name, statistic, false) => {
                let metric = metric(name)?;
                let limit = Limit { at: time(bound)?, inclusive };
                Ok(match statistic {
                    None => Self::Each { metric, limit },
                    Some(text) => Self::All { metric, statistic: text.parse()?, limit },
                })
            }
        }
    }
}

fn metric(name: &str) -> Result<Metric, String> {
    Metric::ALL.into_iter().find(|metric| metric.as_str() == name).ok_or_else(|| {
        format!("`{name}` is not measured: say ttft, ttft_due, tpot, itl, e2e, e2e_due, errors or goodput")
    })
}

/// Reads a time with its unit to nanoseconds.
#[expect(clippy::cast_possible_truncation, reason = "checked to be in range")]
fn time(text: &str) -> Result<i64, String> {
    let hint = "write it like 50ms, 1.5s or 300us";
    let digits = text.trim_end_matches(|c: char| c.is_alphabetic());
    let unit = match &text[digits.len()..] {
        "us" | "µs" | "μs" => 1e3,
        "ms" => 1e6,
        "s" => 1e9,
        "" => return Err(format!("`{text}` has no unit: {hint}")),
        unit => return Err(format!("`{unit}` is no unit of time: {hint}")),
    };
    let number: f64 = digits.trim().parse().map_err(|_| format!("`{text}` is no time: {hint}"))?;
    let ns = (number * unit).round();
    if (1.0..1e18).contains(&ns) {
        Ok(ns as i64)
    } else {
        Err(format!("`{text}` is no bound: {hint}"))
    }
}

/// Reads a share, `1%` or `0.01`.
fn share(text: &str) -> Result<f64, String> {
    let (digits, unit) = match text.strip_suffix('%') {
        Some(digits) => (digits.trim(), 100.0),
        None => (text, 1.0),
    };
    // To the millionth: no noise of binary fractions.
    let share = digits.parse::<f64>().ok().map(|number| (number / unit * 1e6).round() / 1e6);
    share
        .filter(|share| (0.0..=1.0).contains(share))
        .ok_or_else(|| format!("`{text}` is no share: write it like 1% or 0.01"))
}

impl FromStr for Statistic {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "mean" => return Ok(Self::Mean),
            "max" | "p100" => return Ok(Self::Max),
            _ => {}
        }
        let percent = text.strip_prefix('p').and_then(|number| number.parse::<f64>().ok());
        let percent = percent.filter(|percent| *percent > 0.0 && *percent < 100.0);
        percent
            .map(|percent| Self::Quantile(ppm(percent)))
            .ok_or_else(|| format!("`{text}` is no statistic: say p50, p99, p99.9, mean or max"))
    }
}

/// Returns the parts in a million; at least one, and less than all.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and 100")]
fn ppm(percent: f64) -> u64 {
    ((percent * 1e4).round() as u64).clamp(1, 999_999)
}

impl fmt::Display for Slo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = |sign: &'static str, inclusive: bool| {
            if inclusive { format!("{sign}=") } else { sign.to_owned() }
        };
        match self {
            Self::Each { metric, limit } => {
                write!(f, "{}{}{}", metric.as_str(), sign("<", limit.inclusive), Time(limit.at))
            }
            Self::All { metric, statistic, limit } => {
                let below = sign("<", limit.inclusive);
                write!(f, "{}:{statistic}{below}{}", metric.as_str(), Time(limit.at))
            }
            Self::Errors { limit } => {
                write!(f, "errors{}{}%", sign("<", limit.inclusive), Percent(limit.at))
            }
            Self::Goodput { limit } => {
                write!(f, "goodput{}{}%", sign(">", limit.inclusive), Percent(limit.at))
            }
        }
    }
}

impl fmt::Display for Statistic {
    #[expect(clippy::cast_precision_loss, reason = "up to a million")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mean => f.write_str("mean"),
            Self::Max => f.write_str("max"),
            Self::Quantile(ppm) => write!(f, "p{}", *ppm as f64 / 1e4),
        }
    }
}

/// Nanoseconds in the largest unit in which they are 1 or more.
struct Time(i64);

impl fmt::Display for Time {
    #[expect(
        clippy::cast_precision_loss,
        reason = "for people, and parsed back within a nanosecond"
    )]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ns = self.0 as f64;
        match self.0 {
            1_000_000_000.. => write!(f, "{}s", ns / 1e9),
            1_000_000.. => write!(f, "{}ms", ns / 1e6),
            _ => write!(f, "{}us", ns / 1e3),
        }
    }
}

/// A share as percent, without the noise of binary fractions.
struct Percent(f64);

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", (self.0 * 1e6).round() / 1e4)
    }
}

/// How objectives are written.
const HINT: &str = "write it like ttft:p99<500ms, tpot<50ms, errors<1% or goodput>95%";

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let slo: Slo = text.parse().unwrap();
        assert_eq!(slo.to_string(), expected, "{text}");
        assert_eq!(expected.parse(), Ok(slo), "{text}");
    }

    #[test]
    fn objectives_are_read_and_written() {
        check("ttft:p99<500ms", "ttft:p99<500ms");
        check(" tpot : p99.9 <= 50 ms ", "tpot:p99.9<=50ms");
        check("e2e:p95<10s", "e2e:p95<10s");
        check("itl:mean<0.5ms", "itl:mean<500us");
        check("e2e_due:max<1500ms", "e2e_due:max<1.5s");
        check("ttft_due:p100<2us", "ttft_due:max<2us");
        check("ttft<1.234567s", "ttft<1.234567s");
        check("errors<1%", "errors<1%");
        check("errors<=0.001", "errors<=0.1%");
        check("errors<=0%", "errors<=0%");
        check("goodput>95%", "goodput>95%");
        check("goodput>=0.999", "goodput>=99.9%");
    }

    #[test]
    fn what_is_no_objective_is_refused_with_a_word_on_how_to_write_it() {
        for (text, words) in [
            ("", "write it like"),
            ("ttft", "has no bound"),
            ("ttfb:p99<5ms", "`ttfb` is not measured: say ttft"),
            ("ttft:p99<500", "has no unit"),
            ("ttft:p99<5h", "`h` is no unit"),
            ("ttft:p99<-5ms", "no bound"),
            ("ttft:p99<0ms", "no bound"),
            ("ttft:p99<NaNms", "is no"),
            ("ttft:p99<infs", "is no"),
            ("ttft:p101<5ms", "`p101` is no statistic"),
            ("ttft:p0<5ms", "`p0` is no statistic"),
            ("ttft:median<5ms", "`median` is no statistic"),
            ("ttft:p99>5ms", "goodput alone"),
            ("errors<5ms", "is no share"),
            ("errors<200%", "is no share"),
            ("errors:p99<1%", "no statistic"),
            ("goodput<95%", "good when it is high"),
            ("goodput>NaN%", "is no share"),
        ] {
            let error = text.parse::<Slo>().unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
