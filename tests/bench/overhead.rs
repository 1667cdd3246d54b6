//! What the proxy costs: requests/s, added latency and streamed chunks/s of `reenact record`, recording, beside nginx and
//! Envoy, not recording, and the memory of each with 1,000 open streams. All in one run, in turns, so that the ratios hold
//! whatever the machine does meanwhile. `overhead.sh` installs the others and starts this.
//!
//! Upstream, load and proxy share the machine. The upstream is a process of its own (this program with `serve`); it answers
//! from fixed bytes, so that what is measured is the proxy.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "its output is its purpose")]
#![expect(clippy::cast_precision_loss, reason = "rates for people")]

use std::env;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use reenact::clock::Clock;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use upstream::{BURST, CHUNKS, UNARY_END, serve};

mod upstream;

/// Connections under load.
const CONNECTIONS: usize = 16;
/// Turns of each measurement; the median counts.
const TURNS: usize = 11;
/// Length of one measurement. Short: what a machine can do changes within a minute, and the same figures of all subjects
/// are taken one right after the other.
const MEASURE: Duration = Duration::from_secs(1);
/// The test key of fixtures/trace/identity.txt.
const RECIPIENT: &str = "age13x6njkwq0xufjxw8w0t6zu0pg36kpx88m40595rpm3mslykgfevs2rvx5q";
/// Streams held open for the memory figure.
const OPEN_STREAMS: usize = 1_000;

/// What is measured: one row of the table.
struct Subject {
    name: &'static str,
    port: u16,
    processes: Vec<Running>,
    unary: Vec<f64>,
    chunks: Vec<f64>,
    burst_chunks: Vec<f64>,
    latency_us: Vec<f64>,
}

/// A child that ends with its owner.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        drop(Command::new("kill").arg(self.0.id().to_string()).status());
        drop(self.0.wait());
    }
}

fn main() -> anyhow::Result<()> {
    let args: Vec<String> = env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    match args.first().map(String::as_str) {
        Some("serve") => runtime.block_on(serve()),
        _ => compare(&runtime),
    }
}

// === the load ===

fn request(path: &str) -> Vec<u8> {
    let body = format!(
        r#"{{"model":"m","messages":[{{"role":"user","content":"{}"}}]}}"#,
        "word ".repeat(60)
    );
    format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
         authorization: Bearer sk-test\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// Reads one response to its end: `end` is how its last bytes look.
async fn read_response(
    stream: &mut TcpStream,
    buffer: &mut Vec<u8>,
    end: &[u8],
) -> anyhow::Result<()> {
    buffer.clear();
    while !buffer.ends_with(end) {
        ensure!(stream.read_buf(buffer).await? > 0, "the connection ended in mid-response");
    }
    ensure!(
        buffer.starts_with(b"HTTP/1.1 200"),
        "not a 200: {}",
        String::from_utf8_lossy(&buffer[..60])
    );
    Ok(())
}

/// Returns responses a second over `CONNECTIONS` connections.
async fn rate(port: u16, path: &'static str, end: &'static [u8]) -> anyhow::Result<f64> {
    let clock = Clock::start();
    let mut tasks = Vec::new();
    for _ in 0..CONNECTIONS {
        tasks.push(tokio::spawn(async move {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
            stream.set_nodelay(true)?;
            let (request, mut buffer, mut done) =
                (request(path), Vec::with_capacity(1 << 18), 0_u64);
            while clock.now().as_secs_f64() < MEASURE.as_secs_f64() {
                stream.write_all(&request).await?;
                read_response(&mut stream, &mut buffer, end).await?;
                done += 1;
            }
            anyhow::Ok(done)
        }));
    }
    let mut done = 0;
    for task in tasks {
        done += task.await??;
    }
    Ok(done as f64 / clock.now().as_secs_f64())
}

/// Returns the median latency of a unary request in microseconds, one after the other on one connection.
async fn latency(port: u16) -> anyhow::Result<f64> {
    let clock = Clock::start();
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.set_nodelay(true)?;
    let (request, mut buffer, mut taken) =
        (request("/unary"), Vec::with_capacity(1 << 16), Vec::new());
    while clock.now().as_secs_f64() < MEASURE.as_secs_f64() {
        let before = clock.now();
        stream.write_all(&request).await?;
        read_response(&mut stream, &mut buffer, UNARY_END.as_bytes()).await.context("unary")?;
        taken.push(clock.now().since(before));
    }
    taken.sort_unstable();
    Ok(taken[taken.len() / 2].as_nanos() as f64 / 1e3)
}

/// Opens streams, lets them run a while, and returns the proxy's resident memory in MB.
async fn memory_with_open_streams(subject: &Subject) -> anyhow::Result<f64> {
    let mut streams = Vec::new();
    for _ in 0..OPEN_STREAMS {
        let mut stream = TcpStream::connect(("127.0.0.1", subject.port)).await?;
        stream.write_all(&request("/slow")).await?;
        streams.push(tokio::spawn(async move {
            let mut sink = vec![0; 4096];
            while stream.read(&mut sink).await.is_ok_and(|read| read > 0) {}
        }));
    }
    tokio::time::sleep(Duration::from_secs(5)).await;
    let kilobytes: u64 = subject.processes.iter().map(|process| resident_kb(process.0.id())).sum();
    for stream in streams {
        stream.abort();
    }
    Ok(kilobytes as f64 / 1e3)
}

/// Returns the resident memory of a process and its children.
fn resident_kb(pid: u32) -> u64 {
    let own = fs::read_to_string(format!("/proc/{pid}/status"))
        .ok()
        .and_then(|text| {
            let line = text.lines().find(|line| line.starts_with("VmRSS:"))?.to_owned();
            line.split_whitespace().nth(1)?.parse::<u64>().ok()
        })
        .unwrap_or(0);
    let children =
        fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    own + children
        .split_whitespace()
        .filter_map(|child| child.parse().ok())
        .map(resident_kb)
        .sum::<u64>()
}

// === the subjects ===

fn compare(runtime: &tokio::runtime::Runtime) -> anyhow::Result<()> {
    let scratch = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/overhead/scratch");
    drop(fs::remove_dir_all(&scratch));
    fs::create_dir_all(&scratch)?;
    let (upstream, port) = start(Command::new(env::current_exe()?).arg("serve"), 0)?;
    let mut subjects = vec![Subject::new("direct", port, Vec::new())];
    if let Some(nginx) = env::var_os("PEER_NGINX") {
        subjects.push(nginx_before(port, nginx.into(), &scratch)?);
    }
    if let Some(envoy) = env::var_os("PEER_ENVOY") {
        subjects.push(envoy_before(port, envoy.into(), &scratch)?);
    }
    let trace = scratch.join("overhead.trace");
    subjects.push(reenact_before(port, "reenact, recording", &trace, &[])?);
    let private = scratch.join("private.trace");
    let more =
        ["--encrypt-to", RECIPIENT, "--redact-pointer", "/user", "--redact-header", "x-user"];
    subjects.push(reenact_before(port, "the same, redacting and encrypting", &private, &more)?);
    runtime.block_on(async { tokio::time::sleep(Duration::from_secs(2)).await });
    for turn in 0..TURNS {
        eprintln!("turn {} of {TURNS}", turn + 1);
        for subject in &mut subjects {
            subject.latency_us.push(runtime.block_on(latency(subject.port)).context(subject.name)?);
        }
        for subject in &mut subjects {
            let unary = runtime.block_on(rate(subject.port, "/unary", UNARY_END.as_bytes()));
            subject.unary.push(unary.context(subject.name)?);
        }
        for subject in &mut subjects {
            let streams = runtime.block_on(rate(subject.port, "/stream", b"0\r\n\r\n"));
            subject.chunks.push(streams.context(subject.name)? * CHUNKS as f64);
        }
        for subject in &mut subjects {
            let streams = runtime.block_on(rate(subject.port, "/burst", b"0\r\n\r\n"));
            subject.burst_chunks.push(streams.context(subject.name)? * CHUNKS as f64);
        }
    }
    println!(
        "| {CONNECTIONS} connections, 2 cores shared with load and upstream | unary/s | added p50, 1 connection | \
              chunks/s, one a write | chunks/s, {BURST} a write | memory, {OPEN_STREAMS} open streams |\n|---|---|---|---|---|---|"
    );
    let direct = median(&subjects[0].latency_us);
    for subject in &subjects {
        let memory = if subject.processes.is_empty() {
            0.0
        } else {
            runtime.block_on(memory_with_open_streams(subject))?
        };
        println!(
            "| {} | {:.1} k | {:.0} us | {:.0} k | {:.0} k | {memory:.0} MB |",
            subject.name,
            median(&subject.unary) / 1e3,
            median(&subject.latency_us) - direct,
            median(&subject.chunks) / 1e3,
            median(&subject.burst_chunks) / 1e3,
        );
    }
    print_ratios(&subjects);
    drop(subjects);
    drop(upstream);
    let identity = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/trace/identity.txt");
    for trace in [&trace, &private] {
        let mut verify = Command::new(reenact_binary());
        let verified =
            verify.args(["trace", "verify", "--identity"]).arg(&identity).arg(trace).output()?;
        println!("\n{}", String::from_utf8_lossy(&verified.stdout).trim());
    }
    Ok(())
}

impl Subject {
    fn new(name: &'static str, port: u16, processes: Vec<Running>) -> Self {
        Self {
            name,
            port,
            processes,
            unary: Vec::new(),
            chunks: Vec::new(),
            burst_chunks: Vec::new(),
            latency_us: Vec::new(),
        }
    }
}

/// Prints what share of Envoy's rate each recorder reaches: the lower quartile, the median and the upper
/// quartile of the turns.
fn print_ratios(subjects: &[Subject]) {
    let Some(envoy) = subjects.iter().find(|subject| subject.name.starts_with("Envoy")) else {
        return;
    };
    let row = |of: &[f64], than: &[f64]| {
        let mut ratios: Vec<f64> = of.iter().zip(than).map(|(a, b)| a / b).collect();
        ratios.sort_by(f64::total_cmp);
        let quartile = |quarters: usize| ratios[(ratios.len() - 1) * quarters / 4];
        format!("{:.2} {:.2} {:.2}", quartile(1), quartile(2), quartile(3))
    };
    println!(
        "\n| rates as shares of Envoy's, turn by turn | unary | one a write | {BURST} a write |\n|---|---|---|---|"
    );
    for subject in subjects.iter().skip_while(|subject| !std::ptr::eq(*subject, envoy)).skip(1) {
        println!(
            "| {} | {} | {} | {} |",
            subject.name,
            row(&subject.unary, &envoy.unary),
            row(&subject.chunks, &envoy.chunks),
            row(&subject.burst_chunks, &envoy.burst_chunks),
        );
    }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

/// Starts a program and returns it with the port: `port`, or when that is 0 the last number of its first line.
fn start(command: &mut Command, port: u16) -> anyhow::Result<(Running, u16)> {
    let piped = if port == 0 { Stdio::piped() } else { Stdio::null() };
    let mut child =
        Running(command.stdout(piped).spawn().with_context(|| format!("can't start {command:?}"))?);
    if port != 0 {
        return Ok((child, port));
    }
    let mut line = String::new();
    BufReader::new(child.0.stdout.take().context("no stdout")?).read_line(&mut line)?;
    Ok((child, line.trim().parse()?))
}

/// Returns a port that nobody listens on.
fn free_port() -> anyhow::Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn nginx_before(upstream: u16, nginx: PathBuf, scratch: &Path) -> anyhow::Result<Subject> {
    let port = free_port()?;
    let config = scratch.join("nginx.conf");
    fs::write(
        &config,
        format!(
            "daemon off; worker_processes 2; pid {0}/nginx.pid; error_log {0}/nginx.log; user root;\n\
             events {{ worker_connections 8192; }}\n\
             http {{ access_log off; client_body_temp_path {0}/body; proxy_temp_path {0}/proxy; tcp_nodelay on;\n\
             fastcgi_temp_path {0}/f; uwsgi_temp_path {0}/u; scgi_temp_path {0}/s; keepalive_requests 100000000;\n\
             upstream up {{ server 127.0.0.1:{upstream}; keepalive 64; keepalive_requests 100000000; }}\n\
             server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://up; proxy_http_version 1.1;\n\
             proxy_set_header Connection ''; proxy_buffering off; proxy_request_buffering off; }} }} }}",
            scratch.display()
        ),
    )?;
    let (process, port) = start(Command::new(nginx).arg("-c").arg(&config), port)?;
    Ok(Subject::new("nginx, not recording", port, vec![process]))
}

fn envoy_before(upstream: u16, envoy: PathBuf, scratch: &Path) -> anyhow::Result<Subject> {
    let port = free_port()?;
    let config = scratch.join("envoy.json");
    let address = |port: u16| serde_json::json!({"socket_address": {"address": "127.0.0.1", "port_value": port}});
    let router = serde_json::json!({"name": "envoy.filters.http.router", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}});
    let manager = serde_json::json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "in", "http_filters": [router],
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"],
            "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "up", "timeout": "0s"}}]}]}});
    let filter = serde_json::json!({"name": "envoy.filters.network.http_connection_manager", "typed_config": manager});
    let cluster = serde_json::json!({"name": "up", "type": "STATIC", "load_assignment": {"cluster_name": "up",
        "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(upstream)}}]}]},
        "circuit_breakers": {"thresholds": [{"max_connections": 10000, "max_requests": 10000, "max_pending_requests": 10000}]}});
    let listener =
        serde_json::json!({"address": address(port), "filter_chains": [{"filters": [filter]}]});
    let whole =
        serde_json::json!({"static_resources": {"listeners": [listener], "clusters": [cluster]}});
    fs::write(&config, whole.to_string())?;
    let mut command = Command::new(envoy);
    command
        .args(["--concurrency", "2", "--log-level", "error", "--base-id", "7", "-c"])
        .arg(&config);
    let (process, port) = start(&mut command, port)?;
    Ok(Subject::new("Envoy, not recording", port, vec![process]))
}

fn reenact_binary() -> &'static str {
    env!("CARGO_BIN_EXE_reenact")
}

fn reenact_before(
    upstream: u16,
    name: &'static str,
    trace: &Path,
    more: &[&str],
) -> anyhow::Result<Subject> {
    let port = free_port()?;
    let mut command = Command::new(reenact_binary());
    command.args(["record", "--listen", &format!("127.0.0.1:{port}")]);
    command.args(["--upstream", &format!("http://127.0.0.1:{upstream}"), "--out"]).arg(trace);
    command.args(more);
    let log = fs::File::create(trace.with_extension("log"))?;
    let (process, port) = start(command.stderr(log), port)?;
    Ok(Subject::new(name, port, vec![process]))
}
