//! What the tests of replay share: traces made by hand, runs of them, and their rows.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Method, Request, Response, StatusCode};
use http_body::Body;
use hyper::body::Incoming;
use hyper::service::Service;
use reenact::clock::{Anchor, Clock, Nanos};
use reenact::http::server::{self, Accepted, ServerOptions};
use reenact::replay::balance::{Balance, Balancer};
use reenact::replay::call::Limits;
use reenact::replay::connections::Connections;
use reenact::replay::ending::Aborts;
use reenact::replay::feeder::Fetch;
use reenact::replay::ledger::{self, Desk};
use reenact::replay::load::Load;
use reenact::replay::pace::ReadPace;
use reenact::replay::plan::{PlanOptions, Timing, plan};
use reenact::replay::progress::Progress;
use reenact::replay::refusal::Refusals;
use reenact::replay::rewrite::Rewrite;
use reenact::replay::route::{RouteOptions, Speak};
use reenact::replay::row::Compare;
use reenact::replay::run::{self, Ran, Setup, Stop};
use reenact::replay::session_key::SessionKeys;
use reenact::replay::survey::{Survey, survey};
use reenact::replay::warmup::Warmup;
use reenact::results::manifest::Manifest;
use reenact::results::rows::{FrameRow, Measurement};
use reenact::results::{RunReader, RunWriter};
use reenact::trace::record::{
    End, Event, ExchangeId, Frame, Header, Outcome, Passed, RequestHead, ResponseHead, Side,
    Version,
};
use reenact::trace::{Trace, Writer, WriterOptions};

/// A recorded exchange, in milliseconds since the trace's start.
#[derive(Clone)]
pub(crate) struct Recorded {
    pub(crate) at_ms: u64,
    pub(crate) connection: u64,
    pub(crate) method: &'static str,
    pub(crate) target: String,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Bytes,
    pub(crate) status: Option<u16>,
    /// How long the client took to take each response frame.
    pub(crate) accept_ms: u64,
    /// Response frames: when each was read, and its bytes.
    pub(crate) frames: Vec<(u64, String)>,
    pub(crate) end_ms: u64,
    pub(crate) outcome: Outcome,
    /// Whether the whole request was seen.
    pub(crate) whole: bool,
}

/// A run that has ended.
pub(crate) struct Finished {
    pub(crate) ran: Ran,
    pub(crate) rows: Vec<Measurement>,
    pub(crate) frames: Vec<FrameRow>,
}

/// How a test's run is made.
pub(crate) struct Options {
    pub(crate) targets: Vec<String>,
    pub(crate) balance: Balance,
    pub(crate) rewrite: Rewrite,
    pub(crate) limits: Limits,
    pub(crate) aborts: Aborts,
    pub(crate) connections: Connections,
    pub(crate) read_pace: ReadPace,
    pub(crate) speak: Speak,
    pub(crate) rounds: u32,
    pub(crate) spare: usize,
    pub(crate) connect_timeout: Duration,
    /// Due time of the first release.
    pub(crate) lead_ms: u64,
    /// A load in place of the recorded times.
    pub(crate) load: Option<Box<dyn Load>>,
}

struct NoCompare;

// === impl Recorded ===

impl Recorded {
    /// A unary chat at `at_ms` that was answered with 200 and no body 5 ms later.
    pub(crate) fn chat(at_ms: u64, body: &str) -> Self {
        Self {
            at_ms,
            connection: 1,
            method: "POST",
            target: "/v1/chat/completions".to_owned(),
            headers: vec![("content-type", "application/json".to_owned())],
            body: Bytes::copy_from_slice(body.as_bytes()),
            status: Some(200),
            accept_ms: 0,
            frames: Vec::new(),
            end_ms: at_ms + 5,
            outcome: Outcome::Complete,
            whole: true,
        }
    }

    fn events(&self, number: u64) -> Vec<Event> {
        let exchange = ExchangeId(number);
        let at = |ms: u64| Nanos(ms * 1_000_000);
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers {
            headers.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        }
        if !self.body.is_empty() && self.whole {
            headers.append("content-length", self.body.len().into());
        }
        let mut events = vec![Event::Request(Box::new(RequestHead {
            exchange,
            at: at(self.at_ms),
            connection: self.connection,
            version: Version::Http11,
            method: self.method.parse::<Method>().unwrap(),
            target: self.target.clone(),
            authority: Some("api.example.com".to_owned()),
            headers,
            upstream: 0,
        }))];
        let frame = |side, ms, data: Bytes| {
            let taken = if side == Side::Response { ms + self.accept_ms } else { ms };
            Event::Frame(Frame { exchange, side, at: at(ms), accepted: at(taken), data })
        };
        if !self.body.is_empty() {
            events.push(frame(Side::Request, self.at_ms, self.body.clone()));
        }
        if let Some(status) = self.status {
            let mut headers = HeaderMap::new();
            headers.append("content-type", "text/event-stream".parse().unwrap());
            events.push(Event::Response(Box::new(ResponseHead {
                exchange,
                at: at(self.at_ms),
                version: Version::Http11,
                status: StatusCode::from_u16(status).unwrap(),
                reason: None,
                headers,
            })));
        }
        for (ms, text) in &self.frames {
            events.push(frame(Side::Response, *ms, Bytes::copy_from_slice(text.as_bytes())));
        }
        let bytes = self.frames.iter().map(|(_, text)| text.len() as u64).sum();
        events.push(Event::End(Box::new(End {
            exchange,
            at: at(self.end_ms),
            outcome: self.outcome,
            fault: None,
            request: Passed {
                bytes: self.body.len() as u64,
                frames: u64::from(!self.body.is_empty()),
                ended: self.whole,
                ..Passed::default()
            },
            response: Passed {
                bytes,
                frames: self.frames.len() as u64,
                ended: self.outcome == Outcome::Complete,
                ..Passed::default()
            },
        })));
        events
    }
}

/// Writes a trace of these exchanges, numbered from 1.
pub(crate) fn write_trace(folder: &Path, recorded: &[Recorded]) -> PathBuf {
    let path = folder.join("test.trace");
    let header = Header {
        trace: [3; 16],
        segment: 0,
        anchor: Anchor(1_700_000_000_000_000_000),
        tick_ns: 1_000,
        tool: "test".to_owned(),
        listen: "127.0.0.1:0".to_owned(),
        upstreams: vec!["http://api.example.com".to_owned()],
        redacted: vec!["authorization".to_owned(), "api_key".to_owned()],
        sampled_ppm: 1_000_000,
        policy: None,
    };
    let mut writer = Writer::create(&path, header, WriterOptions::default()).unwrap();
    for (number, recorded) in (1..).zip(recorded) {
        for event in recorded.events(number) {
            writer.append(event).unwrap();
        }
    }
    writer.finish().unwrap();
    path
}

// === impl Options ===

impl Options {
    pub(crate) fn to(targets: &[String]) -> Self {
        Self {
            targets: targets.to_vec(),
            balance: Balance::default(),
            rewrite: Rewrite::default(),
            limits: Limits::default(),
            aborts: Aborts::default(),
            connections: Connections::default(),
            read_pace: ReadPace::default(),
            speak: Speak::Http1,
            rounds: 1,
            spare: 1,
            connect_timeout: Duration::from_secs(5),
            lead_ms: 30,
            load: None,
        }
    }
}

impl Compare for NoCompare {
    fn differs_at(&mut self, _exchange: ExchangeId, _text: &str) -> Option<u64> {
        None
    }
}

/// Runs a trace of these exchanges at recorded times, in this process.
pub(crate) fn replay(recorded: &[Recorded], options: Options) -> Finished {
    replay_until(recorded, options, |_stop| {})
}

/// The same; `watch` is handed what stops the run, on a thread of its own.
pub(crate) fn replay_until(
    recorded: &[Recorded],
    options: Options,
    watch: impl FnOnce(Stop) + Send + 'static,
) -> Finished {
    let folder = tempfile::tempdir().unwrap();
    let mut trace = Trace::open(&write_trace(folder.path(), recorded)).unwrap();
    let Survey { known, memos, versions, .. } =
        survey(trace.scan().unwrap(), &[], &SessionKeys::default(), Anchor(0)).unwrap();
    let known = Arc::new(known);
    let starts: Vec<Nanos> = known.iter().map(|known| known.at).collect();
    let plan_options = PlanOptions {
        timing: match options.load {
            Some(_) => Timing::Reactive,
            None => Timing::Recorded { speed: 1.0 },
        },
        limit: None,
        rounds: options.rounds,
        most: None,
        duration: None,
        lead: Duration::from_millis(options.lead_ms),
    };
    let fetch: Fetch = Box::new(move |id| {
        let exchange = trace.request(id).unwrap().unwrap();
        let body = exchange.request_body();
        Ok((exchange.request, body))
    });
    let setup = Setup {
        fetch,
        known: Arc::clone(&known),
        memos,
        versions,
        plan: plan(&starts, plan_options).unwrap(),
        load: options.load,
        live: None,
        rewrite: options.rewrite,
        balancer: Balancer::new(
            &Balance { common: options.targets.len(), ..options.balance },
            options.targets.clone(),
        )
        .unwrap(),
        targets: options.targets.iter().map(|url| url.parse().unwrap()).collect(),
        route: RouteOptions {
            speak: options.speak,
            connect_timeout: options.connect_timeout,
            tls: None,
            spare: options.spare,
        },
        limits: options.limits,
        aborts: options.aborts,
        connections: options.connections,
        read_pace: options.read_pace,
        spin: Duration::ZERO,
        ahead_bytes: 1 << 20,
    };
    let clock = Clock::start();
    let manifest = Manifest::begin(clock.anchor());
    let run = folder.path().join("run");
    let writer = RunWriter::create(&run, &manifest).unwrap();
    let progress = Arc::new(Progress::default());
    let desk = Desk {
        run: manifest.run.clone(),
        clock,
        writer,
        known,
        compare: NoCompare,
        progress: Arc::clone(&progress),
        hold: None,
        warmup: Warmup::None,
        refusals: Refusals::ignored(),
        first: Nanos::ZERO,
    };
    let (ledger, bookkeeper) = ledger::start(desk).unwrap();
    let stop = run::stop(&setup);
    let watched = stop.clone();
    let watcher = std::thread::spawn(move || watch(watched));
    let ran = run::run(setup, clock, &ledger, &stop, &progress).unwrap();
    watcher.join().unwrap();
    bookkeeper.finish().unwrap().writer.finish(manifest).unwrap();
    let (rows, frames) = rows(&run);
    Finished { ran, rows, frames }
}

/// Starts a server of HTTP/1.1 and HTTP/2, which ends with the process; returns its URL. `make` makes
/// the service of one connection.
pub(crate) fn serve<M, S, B>(make: M) -> String
where
    M: Fn(Accepted) -> S + Send + Sync + 'static,
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Send + 'static,
    S::Future: Send + 'static,
    B: Body<Data = Bytes, Error = Infallible> + Send + 'static,
{
    format!("http://{}", serve_until(ServerOptions::default(), make, std::future::pending()))
}

/// As [`serve`], with these options, until `shutdown`; returns its address.
pub(crate) fn serve_until<M, S, B>(
    options: ServerOptions,
    make: M,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> SocketAddr
where
    M: Fn(Accepted) -> S + Send + Sync + 'static,
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Send + 'static,
    S::Future: Send + 'static,
    B: Body<Data = Bytes, Error = Infallible> + Send + 'static,
{
    let (address, bound) = channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = server::bind("127.0.0.1:0".parse().unwrap()).unwrap();
            address.send(listener.local_addr().unwrap()).unwrap();
            server::run(listener, options, make, shutdown, Duration::from_millis(50)).await;
        });
    });
    bound.recv().unwrap()
}

/// Returns the rows of a run by exchange and round, and its frames.
pub(crate) fn rows(run: &Path) -> (Vec<Measurement>, Vec<FrameRow>) {
    let reader = RunReader::open(run).unwrap();
    let mut rows: Vec<Measurement> = reader.rows().unwrap().map(Result::unwrap).collect();
    rows.sort_by_key(|row| (row.round, row.exchange, row.target_index));
    (rows, reader.rows().unwrap().map(Result::unwrap).collect())
}

/// Runs the real binary, without the environment's own settings.
pub(crate) fn reenact(args: &[&str]) -> Output {
    command(args).output().unwrap()
}

pub(crate) fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_reenact"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("REENACT_") {
            command.env_remove(name);
        }
    }
    // A second for each replay: the tests that are about it set it free.
    command.env("REENACT_NO_CALIBRATION", "true");
    command.args(args);
    command
}
