//! Calibration: what this program can do on this machine, measured before a run against a server of our own on loopback
//! ([`sink`]), with the pacer, the client and the call that the run itself uses.
//!
//! * How late requests reach a server: from the due time to the server's own stamp. The network to a real target comes on top,
//!   nothing else does.
//! * How many events a second one thread reads, and what one costs it. Many streams at once cost more for each event, since
//!   each wakes the thread by itself: the run's own CPU time says how much.

use std::sync::mpsc::sync_channel;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use tokio::sync::{mpsc, watch};

use crate::clock::{Clock, Nanos, thread_cpu};
use crate::http::{Origin, OriginError, SendError};
use crate::replay::balance::Course;
use crate::replay::call::{Call, Done, Limits, call};
use crate::replay::launch::Launch;
use crate::replay::outgoing::OutgoingBody;
use crate::replay::pace::Pace;
use crate::replay::pacer::{Armed, Brake, Fire, Pacer};
use crate::replay::plan::Release;
use crate::replay::priority;
use crate::replay::quantile::Histogram;
use crate::replay::route::{Route, RouteOptions, Speak};
use crate::replay::run::{join, runtime, spawn};
use crate::replay::sink::{self, Sink};
use crate::results::manifest::{Calibration, EventRate, SendJitter};
use crate::trace::record::{Outcome, Version};

/// Why there is no calibration.
#[derive(Debug, thiserror::Error)]
pub enum CalibrationFailure {
    /// The system gives no thread, runtime or port.
    #[error("can't start a server on loopback")]
    System(#[from] std::io::Error),
    /// Our own threads can't be started.
    #[error(transparent)]
    Run(#[from] crate::replay::run::RunFailure),
    /// The server's address is none.
    #[error(transparent)]
    Origin(#[from] OriginError),
    /// No connection to our own server.
    #[error(transparent)]
    Connect(#[from] SendError),
    /// Requests to our own server failed.
    #[error("{failed} of {sent} requests to a server on loopback failed")]
    Failed {
        /// Requests that failed.
        failed: u64,
        /// Requests made.
        sent: u64,
    },
}

/// How long requests are sent to see how late they are, before a run.
pub const JITTER_SPAN: Duration = Duration::from_millis(400);
/// Rates, per second, at which that is done: below there would be too few to tell, above too many for a moment's look.
pub const RATES: std::ops::RangeInclusive<f64> = 50.0..=5_000.0;
/// Due time of the first: room to start the threads.
const LEAD: Duration = Duration::from_millis(30);
/// Requests that may be in flight within this time find a connection each.
const CONNECTED_FOR: f64 = 0.02;
/// Streams that are read to see how fast that goes: several, since each is held in memory until its end.
const STREAMS: u64 = 8;
/// Longest wait for our own server.
const PATIENCE: Duration = Duration::from_secs(2);

/// Measures both, in less than a second: the jitter at `rate` requests per second, spinning for `spin` before due times.
///
/// # Errors
/// The system refuses threads or loopback.
pub fn calibrate(rate: f64, spin: Duration) -> Result<Calibration, CalibrationFailure> {
    let clock = Clock::start();
    let jitter = send_jitter(rate, spin, JITTER_SPAN)?;
    let events = event_rate()?;
    Ok(Calibration { jitter, events, took_s: clock.now().as_secs_f64() })
}

/// Sends at `rate` requests per second for `span` (within [`RATES`]), and returns how late the server read them.
///
/// # Errors
/// The system refuses threads or loopback.
pub fn send_jitter(
    rate: f64,
    spin: Duration,
    span: Duration,
) -> Result<SendJitter, CalibrationFailure> {
    let rate = rate.clamp(*RATES.start(), *RATES.end());
    let clock = Clock::start();
    let server = sink::start(clock)?;
    let gap = Duration::from_secs_f64(1.0 / rate);
    let sends = span.div_duration_f64(gap).ceil().max(1.0);
    let first = clock.now() + LEAD;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "some thousands at most"
    )]
    let (sends, connections) = (sends as u64, (rate * CONNECTED_FOR).ceil() as u64);
    let dues: Vec<Nanos> = (0..sends)
        .map(|number| first + gap.mul_f64(f64::from(u32::try_from(number).unwrap_or(0))))
        .collect();
    let calls = Calls::connect(&server, clock, connections.max(2))?;
    let done = calls.send(&dues, spin)?;
    let failed = done.iter().filter(|done| done.outcome != Outcome::Complete).count() as u64;
    if failed > 0 {
        return Err(CalibrationFailure::Failed { failed, sent: sends });
    }
    let mut late = Histogram::default();
    for (number, at) in server.take_arrivals() {
        if let Some(due) = usize::try_from(number).ok().and_then(|number| dues.get(number)) {
            late.add(Nanos::from(at.since(*due)).0);
        }
    }
    Ok(SendJitter { rate_per_s: rate, sends: late.len(), late: late.quantiles() })
}

/// Reads streams that are written as fast as they go, one after the other, and returns how fast that is.
///
/// # Errors
/// The system refuses threads or loopback.
pub fn event_rate() -> Result<EventRate, CalibrationFailure> {
    let clock = Clock::start();
    let server = sink::start(clock)?;
    let Calls { runtime, route, .. } = Calls::connect(&server, clock, 1)?;
    let reading = spawn("reenact-calls", move || {
        priority::raise();
        let mut all = Events::default();
        for _ in 0..STREAMS {
            let before = thread_cpu();
            let making = prepare(&route, "/stream", clock)?;
            let done = runtime.block_on(call(making));
            all.add(&done, thread_cpu()?.saturating_sub(before?))?;
        }
        Some(all)
    })?;
    let read = join(reading).filter(|events| !events.span.is_zero());
    let Some(Events { count, span, cpu }) = read else {
        return Err(CalibrationFailure::Failed { failed: 1, sent: STREAMS });
    };
    #[expect(clippy::cast_precision_loss, reason = "some hundred thousands")]
    let count = count as f64;
    Ok(EventRate {
        events_per_s: count / span.as_secs_f64(),
        event_ns: cpu.as_secs_f64() * 1e9 / count,
    })
}

/// What was read of streams.
#[derive(Debug, Default)]
struct Events {
    count: u64,
    /// From the first to the last of each stream.
    span: Duration,
    cpu: Duration,
}

/// A way to the server, with connections open, and the runtime of its calls.
struct Calls {
    runtime: tokio::runtime::Runtime,
    route: Route,
    clock: Clock,
}

/// Prepares a call.
fn prepare(route: &Route, path: &str, clock: Clock) -> Option<Call> {
    let (body, acceptance) = OutgoingBody::new(Bytes::new(), clock);
    let mut request = Request::new(body);
    // Our own paths are fit for a URI.
    *request.uri_mut() = path.parse().unwrap_or_default();
    // Nobody stops it: a sender that is gone is none that stops.
    let (_, stop) = watch::channel(false);
    let limits = Limits { idle: Some(PATIENCE), ..Limits::default() };
    let destination = route.destinations(&Course::One(0), Version::Http11).pop()?;
    let (leave, pace) = (None, Pace::default());
    Some(Call { destination, request, acceptance, leave, pace, limits, stop, clock })
}

// === impl Events ===

impl Events {
    /// Adds a stream; none when it broke. One that came in a single read says nothing.
    fn add(&mut self, done: &Done, cpu: Duration) -> Option<()> {
        if done.outcome != Outcome::Complete {
            return None;
        }
        let (first, last) = (done.frames.first()?.0, done.frames.last()?.0);
        if first == last {
            return Some(());
        }
        self.count += done.frames.len() as u64;
        self.span += last.since(first);
        self.cpu += cpu;
        Some(())
    }
}

// === impl Calls ===

impl Calls {
    fn connect(server: &Sink, clock: Clock, connections: u64) -> Result<Self, CalibrationFailure> {
        let origin: Origin = format!("http://{}", server.address()).parse()?;
        let runtime = runtime()?;
        let options =
            RouteOptions { speak: Speak::Http1, connect_timeout: PATIENCE, tls: None, spare: 0 };
        let route = Route::new(&[origin], &options, clock);
        let client = route.client(0, Version::Http11);
        runtime.block_on(async {
            for _ in 0..connections {
                client.connect().await?;
            }
            Ok::<(), SendError>(())
        })?;
        Ok(Self { runtime, route, clock })
    }

    /// Sends a request at each of `dues`, its number for a path; returns how they went.
    fn send(self, dues: &[Nanos], spin: Duration) -> Result<Vec<Done>, CalibrationFailure> {
        let Self { runtime, route, clock } = self;
        let (armed, releases) = sync_channel(dues.len());
        let (ended, mut ends) = mpsc::channel(dues.len());
        for (number, due) in (0_u64..).zip(dues) {
            let Some(making) = prepare(&route, &format!("/{number}"), clock) else { continue };
            let ended = ended.clone();
            let launch = Launch::new(runtime.handle().clone(), 0, move |_| async move {
                // Who reads them has gone only when it has panicked.
                let _gone = ended.send(call(making).await).await;
            });
            let release = Release { number, due: *due, ..Release::default() };
            let digest = blake3::hash(&[]);
            // There is room for all.
            let _full = armed.send(Armed { release, digest, bytes: 0, fire: Fire(vec![launch]) });
        }
        drop((armed, ended));
        let reading = spawn("reenact-calls", move || {
            priority::raise();
            runtime.block_on(async {
                let mut done = Vec::new();
                while let Some(call) = ends.recv().await {
                    done.push(call);
                }
                done
            })
        })?;
        let pacer = Pacer { clock, spin, brake: Brake::default() };
        let pacing = spawn("reenact-pacer", move || {
            priority::raise();
            pacer.run(&releases, |_| {})
        })?;
        join(pacing);
        Ok(join(reading))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_calibration_sends_as_planned_and_reads_events() {
        let spin = Duration::from_micros(200);
        let jitter = send_jitter(100.0, spin, Duration::from_millis(100)).unwrap();
        assert_eq!((jitter.rate_per_s, jitter.sends), (100.0, 10));
        let late = jitter.late;
        assert!(0 < late.p50_ns && late.p50_ns <= late.p99_ns && late.p99_ns <= late.max_ns);
        let events = event_rate().unwrap();
        assert!(events.events_per_s > 1_000.0 && events.event_ns > 10.0, "{events:?}");
    }

    #[test]
    fn rates_without_end_are_kept_within_bounds() {
        let jitter = send_jitter(0.001, Duration::ZERO, Duration::from_millis(60)).unwrap();
        assert_eq!((jitter.rate_per_s, jitter.sends), (50.0, 3));
    }
}
