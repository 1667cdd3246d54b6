//! How much a replay takes: events a second, time to first token with many streams, a trace of a million exchanges.
//! `cargo bench --bench scale`, or one of its parts: `-- events`, `-- ttft`, `-- million [EXCHANGES]`.
//!
//! The server is a process of its own, on the same machine. Each part runs the real binary:
//!
//! * `events`: SSE events as fast as the server can write them on 16 connections, one in a write and four; per second, and
//!   per second of CPU time that the whole replay took, its Parquet included.
//! * `ttft`: 1,000 streams at once, a token each 50 ms: when the row says that the first token was read, less when the
//!   server handed it to its socket.
//! * `million`: a dry run and a replay of a generated trace: time, and memory over time.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a script: it fails where it fails, and prints a table"
)]

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use reenact::clock::{Clock, Nanos};
use reenact::results::RunReader;
use reenact::results::rows::Measurement;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use support::{Server, write_trace};

#[path = "support.rs"]
mod support;

/// How the server answers.
#[derive(Clone, Copy)]
struct Answer {
    /// Events; none for a unary answer.
    events: u64,
    /// Events in one write.
    at_once: u64,
    /// From write to write.
    gap: Duration,
}

/// What a process used.
#[derive(Default)]
struct Used {
    wall: Duration,
    cpu: Duration,
    /// Resident memory over time, MB.
    memory: Vec<u64>,
}

const HEAD: &str =
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
const UNARY: &str = r#"{"id":"c","object":"chat.completion","model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"Yes."},"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":1,"total_tokens":10}}"#;
/// How often a process is looked at.
const LOOK: Duration = Duration::from_millis(20);
/// What the kernel counts CPU time in, everywhere that Linux runs today.
const TICKS_PER_SECOND: u64 = 100;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let number = |place: usize| args.get(place).and_then(|arg| arg.parse::<u64>().ok());
    match args.first().map(String::as_str) {
        Some("server") => serve(Answer {
            events: number(1).unwrap(),
            at_once: number(2).unwrap(),
            gap: Duration::from_millis(number(3).unwrap()),
        }),
        Some("events") => events(),
        Some("ttft") => ttft(),
        Some("million") => million(number(1).unwrap_or(1_000_000)),
        _ => {
            events();
            ttft();
            million(1_000_000);
        }
    }
}

// --- the parts ------------------------------------------------------------------------------------------------------------

fn events() {
    const EACH: u64 = 100_000;
    println!("| events in a write | events | a second | a CPU second |\n|---|---|---|---|");
    for at_once in [1, 4] {
        let folder = tempfile::tempdir().unwrap();
        let (trace, run) = (folder.path().join("a.trace"), folder.path().join("run"));
        write_trace(&trace, 16);
        let server = Server::start(&[&EACH.to_string(), &at_once.to_string(), "0"]);
        let used = replay(&trace, &server, &["--rate", "10000"], &run);
        server.arrivals();
        let rows = rows(&run);
        let events: u64 = rows.iter().map(|row| row.response_events).sum();
        // The last event is [DONE].
        assert_eq!(events, 16 * (EACH + 1));
        let begin = rows.iter().map(|row| row.first_frame_ns.unwrap()).min().unwrap();
        let end = rows.iter().map(|row| row.end_ns.unwrap()).max().unwrap();
        let wall = Duration::from_nanos(u64::try_from(end - begin).unwrap());
        println!(
            "| {at_once} | {events} | {:.0} k | {:.0} k |",
            events as f64 / wall.as_secs_f64() / 1e3,
            events as f64 / used.cpu.as_secs_f64() / 1e3
        );
    }
}

fn ttft() {
    const STREAMS: u64 = 1_000;
    let folder = tempfile::tempdir().unwrap();
    let (trace, run) = (folder.path().join("a.trace"), folder.path().join("run"));
    write_trace(&trace, STREAMS * 3);
    // Each stream goes on for 20 s: from the twentieth second on there are a thousand.
    let server = Server::start(&["400", "1", "50"]);
    replay(&trace, &server, &["--rate", "50", "--arrival", "poisson"], &run);
    let stamps = server.arrivals();
    let mut errors: Vec<i64> = rows(&run)
        .iter()
        .filter(|row| row.exchange > STREAMS)
        .map(|row| {
            let origin = row.sent_at.unwrap() - row.sent_ns.unwrap();
            origin + row.first_token_ns.unwrap() - stamps[&row.exchange]
        })
        .collect();
    errors.sort_unstable();
    let at = |per_mille: usize| errors[(errors.len() * per_mille).div_ceil(1_000) - 1] as f64 / 1e6;
    println!("| first tokens | p50 ms | p90 ms | p99 ms | max ms |\n|---|---|---|---|---|");
    println!(
        "| {} | {:.3} | {:.3} | {:.3} | {:.3} |",
        errors.len(),
        at(500),
        at(900),
        at(990),
        at(1_000)
    );
}

fn million(exchanges: u64) {
    let folder = tempfile::tempdir().unwrap();
    let (trace, run) = (folder.path().join("a.trace"), folder.path().join("run"));
    write_trace(&trace, exchanges);
    println!(
        "{exchanges} exchanges, a trace of {} MB\n\n| what | s | CPU s | most MB | MB at each tenth |\n|---|---|---|---|---|",
        fs::metadata(&trace).unwrap().len() >> 20
    );
    let server = Server::start(&["0", "1", "0"]);
    let dry = replay(&trace, &server, &["--dry-run", "--rate", "5000"], &run);
    print("dry run", &dry);
    let wet = replay(&trace, &server, &["--concurrency", "16"], &run);
    print("replay", &wet);
    server.arrivals();
    let rows = RunReader::open(&run).unwrap().rows::<Measurement>().unwrap();
    assert_eq!(rows.count() as u64, exchanges);
}

fn print(what: &str, used: &Used) {
    let tenths = used.memory.chunks(used.memory.len().div_ceil(10).max(1));
    let tenths: Vec<_> = tenths.map(|tenth| tenth.iter().max().unwrap().to_string()).collect();
    println!(
        "| {what} | {:.1} | {:.1} | {} | {} |",
        used.wall.as_secs_f64(),
        used.cpu.as_secs_f64(),
        used.memory.iter().max().unwrap_or(&0),
        tenths.join(" ")
    );
}

/// Runs the real binary and looks at it while it runs.
fn replay(trace: &Path, server: &Server, args: &[&str], run: &Path) -> Used {
    let words = tempfile::NamedTempFile::new().unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_reenact"))
        .arg("replay")
        .arg(trace)
        .args(["--target", &format!("http://127.0.0.1:{}", server.port)])
        .args(args)
        .arg("--out")
        .arg(run)
        .stdout(Stdio::null())
        .stderr(File::create(words.path()).unwrap())
        .spawn()
        .unwrap();
    let clock = Clock::start();
    let mut used = Used::default();
    let status = loop {
        if let Some((cpu, memory)) = look(child.id()) {
            used.cpu = cpu;
            used.memory.push(memory);
        }
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        std::thread::park_timeout(LOOK);
    };
    used.wall = clock.now().since(Nanos::ZERO);
    let words = fs::read_to_string(words.path()).unwrap();
    assert!(matches!(status.code(), Some(0 | 3)), "{words}");
    used
}

/// Returns the CPU time and the resident megabytes of a process; none when it has ended.
fn look(pid: u32) -> Option<(Duration, u64)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    let ticks: u64 = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().ok()?;
    Some((Duration::from_millis(ticks * 1_000 / TICKS_PER_SECOND), kib >> 10))
}

fn rows(run: &Path) -> Vec<Measurement> {
    let rows = RunReader::open(run).unwrap().rows::<Measurement>().unwrap();
    rows.map(|row| row.unwrap()).collect()
}

// --- the server -----------------------------------------------------------------------------------------------------------

/// Serves on a free port, which it prints; prints `NUMBER UNIX_NANOSECONDS` of each first event when stdin ends.
fn serve(answer: Answer) {
    let clock = Clock::start();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (log, mut stamps) = unbounded_channel();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    std::thread::spawn(move || {
        // Until whoever started this closes our stdin.
        let _ended = std::io::stdin().read_to_end(&mut Vec::new());
        drop(stop);
    });
    runtime.block_on(async move {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        println!("{}", listener.local_addr().unwrap().port());
        std::io::stdout().flush().unwrap();
        let accepting = async {
            loop {
                let (socket, _peer) = listener.accept().await.unwrap();
                tokio::spawn(connection(socket, answer, clock, log.clone()));
            }
        };
        tokio::select! {
            () = accepting => {}
            _stopped = stopped => {}
        }
    });
    let mut out = std::io::stdout().lock();
    while let Ok((number, at)) = stamps.try_recv() {
        writeln!(out, "{number} {at}").unwrap();
    }
}

async fn connection(
    mut socket: TcpStream,
    answer: Answer,
    clock: Clock,
    log: UnboundedSender<(u64, i64)>,
) {
    socket.set_nodelay(true).unwrap();
    let mut buffer = Vec::new();
    loop {
        let (number, length) = loop {
            if let Some(request) = request(&buffer) {
                break request;
            }
            // Who has what it wants, or is ended, closes.
            let Ok(1..) = socket.read_buf(&mut buffer).await else { return };
        };
        buffer.drain(..length);
        let stamp = || log.send((number, clock.anchor().unix_ns(clock.now()))).unwrap();
        if reply(&mut socket, answer, clock, stamp).await.is_err() {
            return;
        }
    }
}

async fn reply(
    socket: &mut TcpStream,
    answer: Answer,
    clock: Clock,
    stamp: impl Fn(),
) -> std::io::Result<()> {
    let Answer { events, at_once, gap } = answer;
    if events == 0 {
        let length = UNARY.len();
        let whole = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{UNARY}"
        );
        return socket.write_all(whole.as_bytes()).await;
    }
    let event = "data: {\"id\":\"chatcmpl-0123456789abcdef\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\" word\"},\"finish_reason\":null}]}\n\n";
    let chunk = |event: &str| format!("{:x}\r\n{event}\r\n", event.len());
    let several = chunk(event).repeat(usize::try_from(at_once).unwrap());
    socket.write_all(HEAD.as_bytes()).await?;
    let begin = clock.now();
    for n in 0..events / at_once {
        if !gap.is_zero() {
            let due = begin + gap * u32::try_from(n + 1).unwrap();
            tokio::time::sleep_until(clock.instant(due)).await;
        }
        if n == 0 {
            stamp();
        }
        socket.write_all(several.as_bytes()).await?;
    }
    let last = format!("{}0\r\n\r\n", chunk("data: [DONE]\n\n"));
    socket.write_all(last.as_bytes()).await
}

/// Returns the number of a request, and its length, when it has come whole.
fn request(buffer: &[u8]) -> Option<(u64, usize)> {
    let end = buffer.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let head = str::from_utf8(&buffer[..end]).unwrap();
    let field = |name: &str| {
        let line = head.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().parse::<u64>().unwrap()
    };
    let length = end + usize::try_from(field("content-length:")).unwrap();
    (buffer.len() >= length).then(|| (field("x-number:"), length))
}
