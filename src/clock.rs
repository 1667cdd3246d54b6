//! Time: the one place that reads it.
//!
//! Everything else is handed [`Nanos`], nanoseconds on a monotonic clock since an origin, and turns them into wall time
//! with the [`Anchor`] that was taken together with the origin. The wall clock is read once: a step of it in the middle
//! of a recording or a run moves nothing. `clippy.toml` bans every other way to read time.
//!
//! [`Clock`] stands on tokio's `Instant`, so that a test with a paused runtime drives it.
#![expect(clippy::disallowed_methods, reason = "this module is the one place that reads time")]

use std::fmt;
use std::ops::{Add, AddAssign, Sub};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bincode::{Decode, Encode};
use serde::{Deserialize, Serialize};

/// Nanoseconds since an origin: a trace's or a run's start, monotonic.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Encode,
    Decode,
    Serialize,
    Deserialize,
)]
#[serde(transparent)]
pub struct Nanos(pub u64);

/// The wall clock at a clock's origin, in nanoseconds since 1970-01-01T00:00:00Z (no leap seconds, as `time_t`).
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Encode,
    Decode,
    Serialize,
    Deserialize,
)]
#[serde(transparent)]
pub struct Anchor(pub i64);

/// A monotonic clock with an origin and a wall-clock anchor. Copies read the same clock.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: tokio::time::Instant,
    anchor: Anchor,
}

// === impl Nanos ===

impl Nanos {
    /// The origin itself.
    pub const ZERO: Self = Self(0);

    /// Returns the whole microseconds, rounded down: the unit of frame stamps in a trace.
    #[must_use]
    pub const fn as_micros(self) -> u64 {
        self.0 / 1_000
    }

    /// Returns the milliseconds as a float, for people.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "for display: 2^53 ns are 104 days")]
    pub fn as_millis_f64(self) -> f64 {
        self.0 as f64 / 1e6
    }

    /// Returns the seconds as a float, for rates and axes.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "for display: 2^53 ns are 104 days")]
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / 1e9
    }

    /// Returns the time from `earlier` to here, or zero when `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// Returns the value as a signed number, as Parquet stores it; saturates after 292 years.
    #[must_use]
    pub const fn as_i64(self) -> i64 {
        if self.0 > i64::MAX.cast_unsigned() { i64::MAX } else { self.0.cast_signed() }
    }

    /// Returns `self - other` as a signed number of nanoseconds, saturating.
    #[must_use]
    pub const fn signed_since(self, other: Self) -> i64 {
        self.as_i64().saturating_sub(other.as_i64())
    }
}

impl From<Duration> for Nanos {
    fn from(duration: Duration) -> Self {
        Self(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))
    }
}

impl Add<Duration> for Nanos {
    type Output = Self;
    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(Self::from(duration).0))
    }
}

impl AddAssign<Duration> for Nanos {
    fn add_assign(&mut self, duration: Duration) {
        *self = *self + duration;
    }
}

impl Sub for Nanos {
    type Output = Duration;
    fn sub(self, earlier: Self) -> Duration {
        self.since(earlier)
    }
}

impl fmt::Display for Nanos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.6} s", self.as_secs_f64())
    }
}

// === impl Anchor ===

impl Anchor {
    /// Returns the wall time of `at` in nanoseconds since the Unix epoch.
    #[must_use]
    pub const fn unix_ns(self, at: Nanos) -> i64 {
        self.0.saturating_add(at.as_i64())
    }

    /// Returns the wall time of `at` in RFC 3339 form with microseconds, UTC.
    #[must_use]
    pub fn rfc3339(self, at: Nanos) -> String {
        jiff::Timestamp::from_nanosecond(i128::from(self.unix_ns(at)))
            .map(|stamp| format!("{stamp:.6}"))
            .unwrap_or_else(|_| format!("{} ns since 1970", self.unix_ns(at)))
    }
}

// === impl Clock ===

impl Clock {
    /// Starts a clock: its origin is now.
    #[must_use]
    pub fn start() -> Self {
        let origin = tokio::time::Instant::now();
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { origin, anchor: Anchor(i64::try_from(since_epoch.as_nanos()).unwrap_or(i64::MAX)) }
    }

    /// Returns the time since the origin.
    #[must_use]
    pub fn now(&self) -> Nanos {
        Nanos::from(self.origin.elapsed())
    }

    /// Returns the wall clock at the origin.
    #[must_use]
    pub const fn anchor(&self) -> Anchor {
        self.anchor
    }

    /// Returns the tokio instant of `at`, for `sleep_until` and `timeout_at`.
    #[must_use]
    pub fn instant(&self, at: Nanos) -> tokio::time::Instant {
        self.origin + Duration::from_nanos(at.0)
    }

    /// Returns the time since the origin of an instant taken elsewhere, zero if it is before it.
    #[must_use]
    pub fn at(&self, instant: Instant) -> Nanos {
        Nanos::from(tokio::time::Instant::from_std(instant).saturating_duration_since(self.origin))
    }
}

/// Returns the time since a file was last written to, by the wall clock; none when that can't be told.
#[must_use]
pub fn file_age(path: &Path) -> Option<Duration> {
    let modified = std::fs::metadata(path).ok()?.modified().ok()?;
    SystemTime::now().duration_since(modified).ok()
}

/// Returns the CPU time that this process has used, all its threads together; none where the system does not say.
#[must_use]
pub fn process_cpu() -> Option<Duration> {
    cpu(CpuOf::Process)
}

/// Returns the CPU time that the calling thread has used; none where the system does not say.
#[must_use]
pub fn thread_cpu() -> Option<Duration> {
    cpu(CpuOf::Thread)
}

/// Whose CPU time is asked for.
#[derive(Clone, Copy)]
enum CpuOf {
    Process,
    Thread,
}

#[cfg(unix)]
fn cpu(of: CpuOf) -> Option<Duration> {
    let id = match of {
        CpuOf::Process => rustix::time::ClockId::ProcessCPUTime,
        CpuOf::Thread => rustix::time::ClockId::ThreadCPUTime,
    };
    Duration::try_from(rustix::time::clock_gettime(id)).ok()
}

#[cfg(not(unix))]
fn cpu(_of: CpuOf) -> Option<Duration> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_paused_runtime_drives_the_clock() {
        let clock = Clock::start();
        tokio::time::sleep(Duration::from_millis(250)).await;
        assert_eq!(clock.now(), Nanos(250_000_000));
        assert_eq!(clock.anchor().unix_ns(clock.now()) - clock.anchor().0, 250_000_000);
    }

    #[test]
    fn differences_saturate_and_keep_their_sign_where_asked() {
        assert_eq!(Nanos(5).since(Nanos(9)), Duration::ZERO);
        assert_eq!(Nanos(5).signed_since(Nanos(9)), -4);
        assert_eq!(Nanos(u64::MAX).as_i64(), i64::MAX);
        assert_eq!(Nanos(u64::MAX) + Duration::from_nanos(1), Nanos(u64::MAX));
    }

    #[test]
    fn an_anchor_prints_utc() {
        assert_eq!(Anchor(0).rfc3339(Nanos(1_500_000_000)), "1970-01-01T00:00:01.500000Z");
    }

    #[cfg(unix)]
    #[test]
    fn work_takes_cpu_time_of_the_thread_and_of_the_process() {
        let (process, thread) = (process_cpu().unwrap(), thread_cpu().unwrap());
        let mut sum = 0_u64;
        while thread_cpu().unwrap() - thread < Duration::from_millis(5) {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        assert!(process_cpu().unwrap() - process >= Duration::from_millis(5));
    }
}
