//! An alarm on the run's clock: one that may ring a millisecond late, as the runtime's timers do, or an exact one.

#[cfg(target_os = "linux")]
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

#[cfg(target_os = "linux")]
use tokio::io::{Interest, unix::AsyncFd};
use tokio::time::Sleep;

use crate::clock::{Clock, Nanos};

/// Rings once at a time of the clock, never before it.
pub(super) struct Alarm {
    clock: Clock,
    /// None while it is not set.
    at: Option<Nanos>,
    /// Whether the rest of the wait is still to be made exact.
    is_exact: bool,
    sleep: Pin<Box<Sleep>>,
    /// Rings for the end of an exact wait, if it is before the sleep.
    fine: Option<Fine>,
}

/// How long before an exact time the runtime's timer is to ring: it counts milliseconds, and so does the poll it waits in.
const LEAD: Duration = Duration::from_millis(3);

// === impl Alarm ===

impl Alarm {
    pub(super) fn new(clock: Clock) -> Self {
        let sleep = Box::pin(tokio::time::sleep_until(clock.instant(Nanos::ZERO)));
        Self { clock, at: None, is_exact: false, sleep, fine: None }
    }

    /// Sets it to `at`, unless it rings before that as it is: what is put off again and again costs no timer each time.
    pub(super) fn set(&mut self, at: Nanos, is_exact: bool) {
        if self.at.is_some_and(|set| set <= at) {
            return;
        }
        let coarse = if is_exact { Nanos::from(at.since(Nanos::from(LEAD))) } else { at };
        self.sleep.as_mut().reset(self.clock.instant(coarse));
        self.at = Some(at);
        self.is_exact = is_exact;
        self.fine = None;
    }

    /// Returns whether it rings; then it is no longer set. Pending for ever when it was not.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(at) = self.at else { return Poll::Pending };
        loop {
            let has_rung = self.fine.as_ref().is_some_and(|fine| fine.poll(cx).is_ready());
            if !has_rung && self.sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            let left = at.since(self.clock.now());
            if left.is_zero() {
                self.at = None;
                self.fine = None;
                return Poll::Ready(());
            }
            // The sleep goes on beside it: the clock of a paused runtime is moved by that alone, and there may be no descriptor.
            self.fine = std::mem::take(&mut self.is_exact).then(|| Fine::start(left)).flatten();
            self.sleep.as_mut().reset(self.clock.instant(at));
        }
    }
}

// === impl Fine ===

/// A timer of the kernel's, which rings some 60 us late where the runtime's own ring a millisecond late.
#[cfg(target_os = "linux")]
struct Fine(AsyncFd<OwnedFd>);

#[cfg(target_os = "linux")]
impl Fine {
    /// Starts one, if there is a descriptor for it.
    fn start(after: Duration) -> Option<Self> {
        use rustix::time::{
            Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
            timerfd_settime,
        };
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags).ok()?;
        let once = Timespec { tv_sec: 0, tv_nsec: 0 };
        let spec = Itimerspec { it_interval: once, it_value: Timespec::try_from(after).ok()? };
        timerfd_settime(&timer, TimerfdTimerFlags::empty(), &spec).ok()?;
        #[expect(
            deprecated,
            reason = "an OwnedFd keeps what the successor has the caller swear to, unsafely: its descriptor stays open"
        )]
        let watched = AsyncFd::with_interest(timer, Interest::READABLE);
        watched.ok().map(Self)
    }

    fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.0.poll_read_ready(cx).map(|_rung| ())
    }
}

/// Other systems have none that is waited for like a socket.
#[cfg(not(target_os = "linux"))]
struct Fine;

#[cfg(not(target_os = "linux"))]
impl Fine {
    fn start(_after: Duration) -> Option<Self> {
        None
    }

    fn poll(&self, _cx: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    /// Under a paused clock: when each of them rings, in microseconds.
    #[tokio::test(start_paused = true)]
    async fn it_rings_at_its_time_and_never_before() {
        for (at_us, is_exact, rings_us) in [
            (250_000, false, 250_000),
            (250_000, true, 250_000),
            // Up to the runtime's millisecond, which is what moves a paused clock.
            (250_300, true, 251_000),
            (1_000, true, 1_000),
            (0, true, 0),
        ] {
            let clock = Clock::start();
            let mut alarm = Alarm::new(clock);
            alarm.set(Nanos(at_us * 1_000), is_exact);
            poll_fn(|cx| alarm.poll(cx)).await;
            let rung = clock.now().as_micros();
            assert!((at_us..=rings_us).contains(&rung), "{at_us} {is_exact}: {rung}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_set_to_the_earlier_time_and_rings_once() {
        let clock = Clock::start();
        let mut alarm = Alarm::new(clock);
        for at in [9, 5, 7] {
            alarm.set(Nanos::from(Duration::from_millis(at)), true);
        }
        poll_fn(|cx| alarm.poll(cx)).await;
        assert_eq!(clock.now(), Nanos(5_000_000));
        let silent = tokio::time::timeout(Duration::from_secs(1), poll_fn(|cx| alarm.poll(cx)));
        assert!(silent.await.is_err(), "it rang again");
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_timer_of_the_kernel_rings_after_its_time() {
        let clock = Clock::start();
        let after = Duration::from_micros(700);
        let fine = Fine::start(after).expect("a descriptor");
        poll_fn(|cx| fine.poll(cx)).await;
        assert!(clock.now() >= Nanos::from(after), "{}", clock.now());
    }
}
