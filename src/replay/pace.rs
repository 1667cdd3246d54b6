//! How fast a client reads its response: at once, at a rate, or with the pauses that the recorded one made.
//!
//! A client that reads slowly holds the server back, but only once the buffers between them are full: the kernel's on both
//! sides take some hundred kilobytes, here as in production. While a call pauses it reads nothing from its socket, so
//! frames that come meanwhile are stamped when the pause is over: that is what the client saw.
//!
//! A recorded pause is the time from reading a frame from the server to the client's having taken it, both from the trace. It
//! comes after as many bytes as it did there, however the frames are cut now. Pauses are the client's own, and are not
//! divided by the speed.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Nanos;
use crate::trace::FrameView;

/// How fast clients read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReadPace {
    /// As fast as it comes.
    #[default]
    AtOnce,
    /// So many bytes of body a second, counted from the first.
    Rate(u64),
    /// With the recorded pauses.
    Recorded,
}

/// A text that is no [`ReadPace`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no pace to read at: say at-once, recorded, or bytes a second such as 20000, 64K or 1M"
)]
pub struct NoPace(String);

/// A recorded pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct Pause {
    /// Bytes of the response's body that had been read before it.
    pub after: u64,
    /// How long nothing was taken.
    pub length: Duration,
}

/// The pace of one call.
#[derive(Clone, Debug, Default)]
pub struct Pace {
    pauses: Option<Arc<[Pause]>>,
    /// Pauses made.
    made: usize,
    rate: Option<u64>,
    /// When the first byte was read.
    begun: Option<Nanos>,
}

/// What is shorter is how long a proxy takes, not a client.
const PAUSE_LEAST: Duration = Duration::from_millis(2);
/// Most pauses kept for one exchange: neighbours are joined beyond.
const PAUSES_MOST: usize = 256;

/// Returns the pauses that the client made whose response had these frames; none when it made none.
#[must_use]
pub fn pauses<'a>(frames: impl Iterator<Item = FrameView<'a>>) -> Option<Arc<[Pause]>> {
    let mut pauses: Vec<Pause> = Vec::new();
    let mut after = 0;
    for frame in frames {
        after += frame.len;
        let length = frame.accepted.since(frame.at);
        if length >= PAUSE_LEAST {
            pauses.push(Pause { after, length });
        }
    }
    while pauses.len() > PAUSES_MOST {
        let join = |pair: &[Pause]| Pause {
            after: pair[0].after,
            length: pair.iter().map(|pause| pause.length).sum(),
        };
        pauses = pauses.chunks(2).map(join).collect();
    }
    (!pauses.is_empty()).then(|| pauses.into())
}

// === impl ReadPace ===

impl ReadPace {
    /// Returns the pace of one call, whose recorded client made these pauses.
    #[must_use]
    pub fn of(self, pauses: Option<&Arc<[Pause]>>) -> Pace {
        match self {
            Self::AtOnce => Pace::default(),
            Self::Rate(rate) => Pace { rate: Some(rate), ..Pace::default() },
            Self::Recorded => Pace { pauses: pauses.cloned(), ..Pace::default() },
        }
    }
}

impl FromStr for ReadPace {
    type Err = NoPace;

    fn from_str(text: &str) -> Result<Self, NoPace> {
        let wrong = || NoPace(text.to_owned());
        match text {
            "at-once" => return Ok(Self::AtOnce),
            "recorded" => return Ok(Self::Recorded),
            _ => {}
        }
        let digits = text.trim_end_matches(['K', 'M']);
        let factor = match &text[digits.len()..] {
            "" => 1,
            "K" => 1 << 10,
            "M" => 1 << 20,
            _ => return Err(wrong()),
        };
        let rate: u64 = digits.parse().map_err(|_| wrong())?;
        rate.checked_mul(factor).filter(|rate| *rate > 0).map(Self::Rate).ok_or_else(wrong)
    }
}

impl fmt::Display for ReadPace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtOnce => f.write_str("at-once"),
            Self::Rate(rate) => write!(f, "{rate}"),
            Self::Recorded => f.write_str("recorded"),
        }
    }
}

// === impl Pace ===

impl Pace {
    /// Returns until when nothing is to be read, now that `bytes` of the body have been; none to go on at once.
    pub fn hold(&mut self, bytes: u64, now: Nanos) -> Option<Nanos> {
        if let Some(rate) = self.rate {
            let begun = *self.begun.get_or_insert(now);
            let ns = u128::from(bytes) * 1_000_000_000 / u128::from(rate);
            let until = begun + Duration::from_nanos(u64::try_from(ns).unwrap_or(u64::MAX));
            return (until > now).then_some(until);
        }
        let left = &self.pauses.as_deref()?[self.made..];
        let due = left.iter().take_while(|pause| pause.after <= bytes).count();
        let length: Duration = left[..due].iter().map(|pause| pause.length).sum();
        self.made += due;
        (due > 0).then(|| now + length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    /// Makes frames of ten bytes: when each was read, and when it was accepted, in milliseconds.
    fn frames(stamps: &[(u64, u64)]) -> impl Iterator<Item = FrameView<'static>> {
        stamps.iter().map(|(at, accepted)| FrameView {
            at: Nanos(at * MS),
            accepted: Nanos(accepted * MS),
            len: 10,
            data: None,
        })
    }

    fn held(pace: &mut Pace, bytes: u64, now_ms: u64) -> Option<u64> {
        pace.hold(bytes, Nanos(now_ms * MS)).map(|until| until.0 / MS)
    }

    #[test]
    fn recorded_pauses_come_after_the_same_bytes_however_they_are_cut() {
        let recorded = pauses(frames(&[(0, 0), (5, 35), (40, 41), (50, 60)])).unwrap();
        let pause = |after, ms| Pause { after, length: Duration::from_millis(ms) };
        assert_eq!(*recorded, [pause(20, 30), pause(40, 10)]);
        let mut pace = ReadPace::Recorded.of(Some(&recorded));
        assert_eq!([held(&mut pace, 10, 3), held(&mut pace, 20, 4)], [None, Some(34)]);
        assert_eq!([held(&mut pace, 39, 40), held(&mut pace, 99, 50)], [None, Some(60)]);
        assert_eq!(held(&mut pace, 199, 70), None);
        // One large frame: both at once.
        let mut pace = ReadPace::Recorded.of(Some(&recorded));
        assert_eq!(held(&mut pace, 40, 7), Some(47));
        assert_eq!(held(&mut ReadPace::AtOnce.of(Some(&recorded)), 40, 7), None);
        assert_eq!(pauses(frames(&[(0, 1), (5, 6)])), None);
    }

    #[test]
    fn many_pauses_are_joined_and_none_is_lost() {
        let stamps: Vec<(u64, u64)> = (0..1_000).map(|n| (n * 10, n * 10 + 5)).collect();
        let joined = pauses(frames(&stamps)).unwrap();
        assert!(joined.len() <= PAUSES_MOST, "{}", joined.len());
        let all: Duration = joined.iter().map(|pause| pause.length).sum();
        assert_eq!(all, Duration::from_secs(5));
        assert!(joined.windows(2).all(|pair| pair[0].after < pair[1].after));
    }

    #[test]
    fn a_rate_is_kept_from_the_first_byte() {
        let mut pace = ReadPace::Rate(1_000).of(None);
        assert_eq!(held(&mut pace, 100, 50), Some(150));
        assert_eq!(held(&mut pace, 200, 150), Some(250));
        // A server that is slower is not waited for.
        assert_eq!(held(&mut pace, 300, 900), None);
    }

    #[test]
    fn paces_are_read() {
        for (text, pace) in [
            ("at-once", ReadPace::AtOnce),
            ("recorded", ReadPace::Recorded),
            ("20000", ReadPace::Rate(20_000)),
            ("64K", ReadPace::Rate(65_536)),
        ] {
            assert_eq!(text.parse(), Ok(pace));
        }
        for text in ["", "0", "K", "fast", "1KM", "99999999999999999999"] {
            assert!(text.parse::<ReadPace>().is_err(), "{text}");
        }
    }
}
