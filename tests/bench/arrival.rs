//! Arrival error: when requests reach the server, against when they were due. `cargo bench --bench arrival`.
//!
//! A server in a process of its own stamps each request when its head is read and answers with 16 streamed tokens, 10 ms
//! apart. Beside `reenact replay` runs a bare sender (a thread that writes prepared bytes to open sockets, and records
//! nothing): the floor of this machine. Both send the same Poisson schedule to the same server, in turns, and the table gives
//! both over all turns, and the ratios turn by turn: these are what counts. Drift is what the median of a turn's last tenth is
//! beyond that of its first.
//!
//! Options: `--seconds N` of a turn (5), `--turns N` (5), `--rates A,B` (100,500), `--alone` (no bare sender), `--leave MS`
//! (clients that leave so long after their requests, instead: when the server sees them go, against when they should),
//! anything else is handed to `reenact replay`.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a script: it fails where it fails, and prints a table"
)]

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::channel;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::{Request, Response};
use http_body::Frame as BodyFrame;
use http_body_util::StreamBody;
use hyper::body::Incoming;
use hyper::service::service_fn;
use reenact::clock::{Clock, Nanos};
use reenact::http::server::{self, ServerOptions};
use reenact::replay::arrival::Arrival;
use reenact::replay::plan::{PlanOptions, Timing, plan};
use reenact::results::RunReader;
use reenact::results::rows::Measurement;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use support::{BODY, Server, write_trace_left};

#[path = "support.rs"]
mod support;

const TOKENS: usize = 16;
const TOKEN_GAP: Duration = Duration::from_millis(10);
const SEED: u64 = 1;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    if args.first().is_some_and(|arg| arg == "server") {
        return serve(args.iter().any(|arg| arg == "leave"));
    }
    let (mut seconds, mut turns, mut alone, mut leave) = (5_u64, 5, false, None);
    let (mut rates, mut rest) = (vec![100_u64, 500], Vec::new());
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--seconds" => seconds = args.next().unwrap().parse().unwrap(),
            "--turns" => turns = args.next().unwrap().parse().unwrap(),
            "--alone" => alone = true,
            "--leave" => {
                leave = Some(Duration::from_millis(args.next().unwrap().parse().unwrap()));
            }
            "--rates" => {
                rates = args.next().unwrap().split(',').map(|rate| rate.parse().unwrap()).collect();
            }
            _ => rest.push(arg),
        }
    }
    println!("| rate | sender | p50 ms | p90 ms | p99 ms | max ms | drift ms | requests |");
    println!("|---|---|---|---|---|---|---|---|");
    for rate in rates {
        let n = rate * seconds;
        let (mut bares, mut replays) = (Vec::new(), Vec::new());
        for _ in 0..turns {
            if !alone && leave.is_none() {
                bares.push(bare(rate, n));
            }
            let folder = tempfile::tempdir().unwrap();
            replays.push(replay(rate, n, folder.path(), leave, &rest));
        }
        row(rate, "bare", &bares);
        row(rate, "reenact replay", &replays);
        ratios(rate, &bares, &replays);
    }
}

/// Prints the quantiles of lateness in nanoseconds over all turns, nearest rank.
fn row(rate: u64, sender: &str, turns: &[Vec<i64>]) {
    let all = turns.concat();
    if all.is_empty() {
        return;
    }
    let at = |per_mille| quantile(&all, per_mille) as f64 / 1e6;
    let drifts: Vec<_> = turns.iter().map(|late| drift(late)).collect();
    println!(
        "| {rate}/s | {sender} | {:.3} | {:.3} | {:.3} | {:.3} | {:.4} | {} |",
        at(500),
        at(900),
        at(990),
        at(1_000),
        quantile(&drifts, 500) as f64 / 1e6,
        all.len()
    );
}

/// Prints the medians over the turns of what `of` is of `than`, and their extremes.
fn ratios(rate: u64, than: &[Vec<i64>], of: &[Vec<i64>]) {
    if than.is_empty() {
        return;
    }
    let ratio = |per_mille| {
        let ratio = |(of, than): (&Vec<i64>, &Vec<i64>)| {
            quantile(of, per_mille) as f64 / quantile(than, per_mille) as f64
        };
        let mut ratios: Vec<f64> = of.iter().zip(than).map(ratio).collect();
        ratios.sort_by(f64::total_cmp);
        let last = ratios.len() - 1;
        format!("{:.2} ({:.2}-{:.2})", ratios[last / 2], ratios[0], ratios[last])
    };
    println!("| {rate}/s | ratio | {} | {} | {} | | | |", ratio(500), ratio(900), ratio(990));
}

fn quantile(late: &[i64], per_mille: usize) -> i64 {
    let mut late = late.to_vec();
    late.sort_unstable();
    late[(late.len() * per_mille).div_ceil(1_000).max(1) - 1]
}

/// Returns by how much later than at first requests arrive at last, in nanoseconds.
fn drift(late: &[i64]) -> i64 {
    let tenth = (late.len() / 10).max(1);
    quantile(&late[late.len() - tenth..], 500) - quantile(&late[..tenth], 500)
}

// --- the server -----------------------------------------------------------------------------------------------------------

/// When a request came, or when its client has left, if that is asked for.
struct Stamp {
    number: u64,
    is_leave: bool,
    clock: Clock,
    log: UnboundedSender<(u64, i64)>,
}

impl Stamp {
    fn log(&self) {
        self.log.send((self.number, self.clock.anchor().unix_ns(self.clock.now()))).unwrap();
    }
}

impl Drop for Stamp {
    fn drop(&mut self) {
        if self.is_leave {
            self.log();
        }
    }
}

/// Serves on a free port, which it prints; prints `NUMBER UNIX_NANOSECONDS` for each request when stdin ends.
fn serve(is_leave: bool) {
    let clock = Clock::start();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (log, mut stamps) = unbounded_channel::<(u64, i64)>();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    std::thread::spawn(move || {
        // Until whoever started this closes our stdin.
        let _ended = std::io::stdin().read_to_end(&mut Vec::new());
        drop(stop);
    });
    runtime.block_on(async move {
        let listener = server::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        println!("{}", listener.local_addr().unwrap().port());
        std::io::stdout().flush().unwrap();
        let make = move |_accepted| {
            let log = log.clone();
            service_fn(move |request| answer(request, clock, is_leave, log.clone()))
        };
        let shutdown = async move {
            let _stopped = stopped.await;
        };
        server::run(listener, ServerOptions::default(), make, shutdown, Duration::ZERO).await;
    });
    let mut out = std::io::stdout().lock();
    while let Ok((number, at)) = stamps.try_recv() {
        writeln!(out, "{number} {at}").unwrap();
    }
}

async fn answer(
    request: Request<Incoming>,
    clock: Clock,
    is_leave: bool,
    log: UnboundedSender<(u64, i64)>,
) -> Result<Response<impl http_body::Body<Data = Bytes, Error = Infallible>>, Infallible> {
    let at = clock.now();
    let number = request.headers()["x-number"].to_str().unwrap().parse().unwrap();
    let stamp = Stamp { number, is_leave, clock, log };
    if !is_leave {
        stamp.log();
    }
    let tokens = stream::unfold((0, stamp), move |(sent, stamp)| async move {
        if sent > TOKENS {
            return None;
        }
        tokio::time::sleep_until(
            clock.instant(at + TOKEN_GAP * u32::try_from(sent).unwrap() + TOKEN_GAP),
        )
        .await;
        let event = match sent {
            TOKENS => "data: [DONE]\n\n".to_owned(),
            sent => format!(
                "data: {{\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"model\":\"m\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\" word{sent}\"}},\"finish_reason\":null}}]}}\n\n"
            ),
        };
        Some((Ok(BodyFrame::data(Bytes::from(event))), (sent + 1, stamp)))
    });
    let response = Response::builder().header("content-type", "text/event-stream");
    Ok(response.body(StreamBody::new(tokens)).unwrap())
}

// --- the bare sender ------------------------------------------------------------------------------------------------------

/// Sends the schedule from one thread over open sockets; returns how late each request arrived.
fn bare(rate: u64, n: u64) -> Vec<i64> {
    let server = Server::start(&[]);
    let dues = dues(rate, n);
    let (free, idle) = channel::<TcpStream>();
    for _ in 0..(rate / 2).clamp(64, 1_000) {
        let socket = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
        socket.set_nodelay(true).unwrap();
        free.send(socket).unwrap();
    }
    let (busy, answers) = channel::<TcpStream>();
    let reader = std::thread::spawn(move || read_answers(&answers, &free));
    let clock = Clock::start();
    for (number, due) in (1_u64..).zip(&dues) {
        let mut socket = idle.recv().unwrap();
        let request = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\nx-number: {number}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{BODY}",
            BODY.len()
        );
        wait_until(clock, *due);
        socket.write_all(request.as_bytes()).unwrap();
        busy.send(socket).unwrap();
    }
    drop(busy);
    reader.join().unwrap();
    late(&server.arrivals(), |number| {
        clock.anchor().unix_ns(dues[usize::try_from(number - 1).unwrap()])
    })
}

fn wait_until(clock: Clock, due: Nanos) {
    const SPIN: Duration = Duration::from_micros(200);
    loop {
        let left = due.since(clock.now());
        if left.is_zero() {
            return;
        }
        if left > SPIN {
            std::thread::park_timeout(left - SPIN);
        } else {
            std::hint::spin_loop();
        }
    }
}

/// Reads answers on one runtime and gives the sockets back.
fn read_answers(
    answers: &std::sync::mpsc::Receiver<TcpStream>,
    free: &std::sync::mpsc::Sender<TcpStream>,
) {
    use tokio::io::AsyncReadExt as _;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let mut tasks = Vec::new();
    while let Ok(socket) = answers.recv() {
        let free = free.clone();
        tasks.push(runtime.spawn(async move {
            socket.set_nonblocking(true).unwrap();
            let mut stream = tokio::net::TcpStream::from_std(socket).unwrap();
            let (mut buffer, mut tail) = ([0; 4_096], Vec::new());
            while !tail.ends_with(b"0\r\n\r\n") {
                let read = stream.read(&mut buffer).await.unwrap();
                assert!(read > 0, "the server closed a connection");
                tail.extend_from_slice(&buffer[..read]);
                tail.drain(..tail.len().saturating_sub(16));
            }
            let socket = stream.into_std().unwrap();
            socket.set_nonblocking(false).unwrap();
            // The sender may be done.
            let _gone = free.send(socket);
        }));
    }
    runtime.block_on(async {
        for task in tasks {
            task.await.unwrap();
        }
    });
}

fn late(arrivals: &BTreeMap<u64, i64>, due: impl Fn(u64) -> i64) -> Vec<i64> {
    arrivals.iter().map(|(number, at)| at - due(*number)).collect()
}

// --- reenact replay -------------------------------------------------------------------------------------------------------

/// Sends the schedule with the real binary; returns how late each request arrived.
fn replay(rate: u64, n: u64, folder: &Path, leave: Option<Duration>, rest: &[String]) -> Vec<i64> {
    let trace = folder.join("bench.trace");
    write_trace_left(&trace, n, leave);
    let server = Server::start(leave.map_or(&[], |_| &["leave"]));
    let run = folder.join("run");
    let output = Command::new(env!("CARGO_BIN_EXE_reenact"))
        .arg("replay")
        .arg(&trace)
        .args(["--target", &format!("http://127.0.0.1:{}", server.port)])
        .args(["--rate", &rate.to_string(), "--arrival", "poisson", "--seed", &SEED.to_string()])
        .arg("--out")
        .arg(&run)
        .args(leave.map_or(&[][..], |_| &["--abort", "time"]))
        .args(rest)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(matches!(output.status.code(), Some(0 | 3)), "{text}{words}");
    if std::env::var_os("VERBOSE").is_some() {
        println!("{text}");
    }
    let dues: BTreeMap<u64, i64> = RunReader::open(&run)
        .unwrap()
        .rows::<Measurement>()
        .unwrap()
        .map(|row| row.unwrap())
        .map(|row| (row.exchange, row.due_at.unwrap()))
        .collect();
    let arrivals = server.arrivals();
    assert_eq!(arrivals.len(), usize::try_from(n).unwrap(), "{text}");
    let leave = i64::try_from(leave.unwrap_or_default().as_nanos()).unwrap();
    late(&arrivals, |number| dues[&number] + leave)
}

/// Returns the due times that `reenact replay` will make, but for its lead.
fn dues(rate: u64, n: u64) -> Vec<Nanos> {
    let timing = Timing::Rate { rate: rate as f64, arrival: Arrival::Poisson, seed: SEED };
    let lead = Duration::from_millis(200);
    let options = PlanOptions { timing, limit: None, rounds: 1, most: None, duration: None, lead };
    let starts = vec![Nanos::ZERO; usize::try_from(n).unwrap()];
    plan(&starts, options).unwrap().releases().map(|release| release.due).collect()
}
