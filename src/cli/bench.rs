//! `reenact bench`: what this machine can do, with nothing but this program: how exactly requests leave, how many events are
//! read, and what recording costs.

use std::ffi::OsStr;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use clap::Args;
use http::Request;
use http_body_util::{BodyExt as _, Empty};
use serde::Serialize;

use crate::clock::{Clock, Nanos};
use crate::http::{Client, ClientOptions, Origin};
use crate::replay::calibrate::{event_rate, send_jitter};
use crate::replay::quantile::Histogram;
use crate::replay::sink;
use crate::results::manifest::{EventRate, SendJitter};

use super::Outcome;
use super::child::Family;
use super::replay::DEFAULT_SPIN_US;

/// Measure what this machine can do, and what recording costs
///
/// Everything is on loopback and of this program: how late requests arrive at several rates, how many events a second one
/// thread reads, and unary requests and streamed events to a server direct and through `reenact record`, which records them
/// into a folder that is removed afterwards. Load, recorder and server share the machine: what counts is the ratio. Takes
/// about half a minute.
#[derive(Debug, Args)]
pub(super) struct BenchArgs {
    /// Rates to send at, requests per second
    #[arg(long, value_name = "R,R", env = "REENACT_BENCH_RATES", value_delimiter = ',',
          default_value = "100,500,1000,2000", value_parser = clap::value_parser!(u32).range(50..=5_000))]
    rates: Vec<u32>,
    /// How long each figure is measured
    #[arg(long, value_name = "TIME", env = "REENACT_BENCH_TIME", default_value = "2s", value_parser = super::duration)]
    time: Duration,
    /// Microseconds before a due time to stop sleeping and spin, as for `reenact replay`
    #[arg(long, value_name = "US", env = "REENACT_SPIN_US", default_value_t = DEFAULT_SPIN_US,
          value_parser = clap::value_parser!(u64).range(..=100_000))]
    spin_us: u64,
    /// Print JSON
    #[arg(long, env = "REENACT_JSON")]
    json: bool,
}

/// What was found.
#[derive(Debug, Serialize)]
struct Figures {
    jitter: Vec<SendJitter>,
    events: EventRate,
    direct: Passage,
    recorded: Passage,
}

/// What one way to the server does.
#[derive(Clone, Copy, Debug, Serialize)]
struct Passage {
    /// Median of a unary request on one connection, nanoseconds.
    unary_p50_ns: u64,
    /// Unary requests per second on [`CONNECTIONS`].
    unary_per_s: f64,
    /// Streamed events per second on [`CONNECTIONS`].
    events_per_s: f64,
}

/// A folder for what is recorded. Dropped, it is removed.
struct Scratch(PathBuf);

/// Connections under load.
const CONNECTIONS: usize = 16;

pub(super) fn run(args: &BenchArgs) -> anyhow::Result<Outcome> {
    let spin = Duration::from_micros(args.spin_us);
    let mut jitter = Vec::new();
    for rate in &args.rates {
        jitter.push(send_jitter(f64::from(*rate), spin, args.time)?);
    }
    let events = event_rate()?;
    let (direct, recorded) = passages(args.time)?;
    let figures = Figures { jitter, events, direct, recorded };
    let mut out = std::io::stdout().lock();
    if args.json {
        serde_json::to_writer_pretty(&mut out, &figures)?;
        writeln!(out)?;
    } else {
        out.write_all(words(&figures).as_bytes())?;
    }
    Ok(Outcome::Done)
}

/// Measures the way to a server, direct and through a recorder of its own process.
fn passages(time: Duration) -> anyhow::Result<(Passage, Passage)> {
    let clock = Clock::start();
    let server = sink::start(clock).context("no server can be started on loopback")?;
    let url = format!("http://{}", server.address());
    let direct = passage(&url, time, clock)?;
    let scratch = Scratch::make()?;
    let trace = scratch.0.join("bench.trace");
    let family = Family::default();
    let mut recorder = family.start(&[
        OsStr::new("record"),
        OsStr::new("--listen"),
        OsStr::new("127.0.0.1:0"),
        OsStr::new("--upstream"),
        OsStr::new(&url),
        OsStr::new("--out"),
        trace.as_os_str(),
    ])?;
    let recorded = passage(&recorder.url()?, time, clock)?;
    recorder.interrupt()?;
    recorder.end()?;
    Ok((direct, recorded))
}

fn passage(url: &str, time: Duration, clock: Clock) -> anyhow::Result<Passage> {
    let origin: Origin = url.parse()?;
    let client = Client::new(origin, ClientOptions::default(), clock);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (one, _) = load(&client, 1, "/unary", time, clock).await?;
        let (many, _) = load(&client, CONNECTIONS, "/unary", time, clock).await?;
        let (_, events) = load(&client, CONNECTIONS, "/stream", time, clock).await?;
        Ok(Passage {
            unary_p50_ns: one.quantile(0.5).context("no request was answered")?,
            unary_per_s: per_s(many.len(), time),
            events_per_s: per_s(events, time),
        })
    })
}

/// Sends requests one after the other on so many connections, for `time`. Returns how long those took that ended within it,
/// and how many frames came.
async fn load(
    client: &Client,
    connections: usize,
    path: &'static str,
    time: Duration,
    clock: Clock,
) -> anyhow::Result<(Histogram, u64)> {
    let until = clock.now() + time;
    let lanes = (0..connections).map(|_| async move {
        let (mut took, mut frames) = (Vec::new(), 0_u64);
        while clock.now() < until {
            let begun = clock.now();
            let request = Request::get(path).body(Empty::<Bytes>::new())?;
            let mut body = client.send(request).await?.into_body();
            while let Some(frame) = body.frame().await {
                frame?;
                frames += u64::from(clock.now() < until);
            }
            if clock.now() < until {
                took.push(Nanos::from(clock.now().since(begun)).0);
            }
        }
        Ok::<_, anyhow::Error>((took, frames))
    });
    let (mut all, mut frames) = (Histogram::default(), 0);
    for lane in futures_util::future::join_all(lanes).await {
        let (took, of_lane) = lane?;
        took.into_iter().for_each(|took| all.add(took));
        frames += of_lane;
    }
    Ok((all, frames))
}

#[expect(clippy::cast_precision_loss, reason = "a rate for people")]
fn per_s(count: u64, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64()
}

fn words(figures: &Figures) -> String {
    let ms = |ns: i64| format!("{:.3}", Nanos(ns.max(0).cast_unsigned()).as_millis_f64());
    let line = |cells: [&str; 4]| {
        format!("{:<36}{:>14}{:>14}{:>14}\n", cells[0], cells[1], cells[2], cells[3])
    };
    let mut text = line(["late at the server, milliseconds", "p50", "p99", "max"]);
    for jitter in &figures.jitter {
        let late = jitter.late;
        let name = format!("{:.0} requests/s", jitter.rate_per_s);
        text += &line([&name, &ms(late.p50_ns), &ms(late.p99_ns), &ms(late.max_ns)]);
    }
    let events = format!(
        "\none thread reads {:.0} events/s, {:.2} us of CPU each\n\n",
        figures.events.events_per_s,
        figures.events.event_ns / 1e3
    );
    text += &events;
    let (direct, recorded) = (&figures.direct, &figures.recorded);
    text += &line(["", "direct", "recorded", "ratio"]);
    let row = |name: &str, direct: f64, recorded: f64, digits: usize| {
        let cells = [direct, recorded].map(|value| format!("{value:.digits$}"));
        line([name, &cells[0], &cells[1], &format!("{:.2}", recorded / direct)])
    };
    let us = |ns: u64| Nanos(ns).as_millis_f64() * 1e3;
    text +=
        &row("unary p50, 1 connection, us", us(direct.unary_p50_ns), us(recorded.unary_p50_ns), 1);
    text += &row("unary/s, 16 connections", direct.unary_per_s, recorded.unary_per_s, 0);
    text += &row("events/s, 16 connections", direct.events_per_s, recorded.events_per_s, 0);
    text
}

// === impl Scratch ===

impl Scratch {
    fn make() -> anyhow::Result<Self> {
        let path = std::env::temp_dir().join(format!("reenact-bench-{}", std::process::id()));
        std::fs::create_dir(&path).with_context(|| format!("can't make {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What can't be removed is in the system's folder for such.
        let _left = std::fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::manifest::Quantiles;

    #[test]
    fn figures_are_put_into_words() {
        let late = Quantiles {
            p50_ns: 61_000,
            p99_ns: 310_000,
            max_ns: 1_200_000,
            ..Quantiles::default()
        };
        let direct =
            Passage { unary_p50_ns: 40_000, unary_per_s: 50_000.0, events_per_s: 600_000.0 };
        let recorded =
            Passage { unary_p50_ns: 110_000, unary_per_s: 20_000.0, events_per_s: 300_000.0 };
        let figures = Figures {
            jitter: vec![SendJitter { rate_per_s: 100.0, sends: 200, late }],
            events: EventRate { events_per_s: 800_000.0, event_ns: 900.0 },
            direct,
            recorded,
        };
        let text = words(&figures);
        for part in ["100 requests/s", "0.061", "0.310", "1.200", "0.90 us", "2.75", "0.40", "0.50"]
        {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
