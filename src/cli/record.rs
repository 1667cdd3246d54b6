//! `reenact record`: arguments, the recording's start and end, and what it says meanwhile.

use std::fs;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use http::{HeaderName, HeaderValue};
use rand::TryRng as _;
use rand::rngs::SysRng;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::clock::Clock;
use crate::http::server::{self, ServerOptions};
use crate::http::tls::{self, Pin, Trust};
use crate::http::workers::Workers;
use crate::http::{Client, ClientOptions, Protocol, Scheme};
use crate::proxy::{HostPolicy, Proxy, ProxyOptions, Recorder, Route, Routes, lane};
use crate::trace::record::Header;
use crate::trace::redact::Redactor;
use crate::trace::{Writer, WriterOptions};

use super::record_words::{finish, say, tell};
use super::sample::Sampling;
use super::telemetry::TelemetryArgs;
use super::{Outcome, UsageError};

/// Record traffic through a reverse proxy
///
/// Clients talk to --listen as they would to the upstream; what passes is written to --out. Ends at Ctrl-C or SIGTERM: what
/// is under way may finish (--drain), a second signal ends at once. Exit status 3 when something could not be recorded.
#[derive(Debug, Args)]
pub(super) struct RecordArgs {
    /// Address to listen on; port 0 takes a free one
    #[arg(long, value_name = "ADDR", env = "REENACT_LISTEN", default_value = "127.0.0.1:8080")]
    listen: String,
    /// Where requests go: URL for all paths, /PREFIX=URL for those below a prefix; several of one prefix take turns
    #[arg(
        long,
        value_name = "[/PREFIX=]URL",
        env = "REENACT_UPSTREAM",
        required = true,
        value_delimiter = ','
    )]
    upstream: Vec<Route>,
    /// Trace to write; it must not exist
    #[arg(long, value_name = "PATH", env = "REENACT_OUT")]
    out: PathBuf,
    /// How long to record, such as 30s or 5m; until Ctrl-C without it
    #[arg(long, value_name = "TIME", env = "REENACT_DURATION", value_parser = super::duration)]
    duration: Option<Duration>,
    /// How long exchanges under way may take to finish at the end
    #[arg(long, value_name = "TIME", env = "REENACT_DRAIN", default_value = "30s", value_parser = super::duration)]
    drain: Duration,
    /// Threads that serve connections; one for each CPU without it
    #[arg(long, value_name = "N", env = "REENACT_WORKERS", value_parser = clap::value_parser!(u16).range(1..))]
    workers: Option<u16>,
    /// Print the summary as JSON to stdout
    #[arg(long, env = "REENACT_JSON")]
    json: bool,
    #[command(flatten)]
    forward: ForwardArgs,
    #[command(flatten)]
    secure: SecureArgs,
    #[command(flatten)]
    keep: KeepArgs,
    /// Sample GPUs, the machine and metrics pages meanwhile, into this run folder
    #[arg(long, value_name = "DIR", env = "REENACT_SAMPLES")]
    samples: Option<PathBuf>,
    #[command(flatten)]
    telemetry: TelemetryArgs,
}

/// How requests are sent on
#[derive(Debug, Args)]
#[command(next_help_heading = "Forwarding")]
struct ForwardArgs {
    /// Which Host the upstream sees: the client's, its own, or (auto) its own over TLS and the client's otherwise
    #[arg(long, value_enum, env = "REENACT_HOST", default_value = "auto")]
    host: HostArg,
    /// Name to append to Via; messages stay as they are without it
    #[arg(long, value_name = "NAME", env = "REENACT_VIA")]
    via: Option<String>,
    /// Speak HTTP/2 to the upstream even without TLS (with TLS, ALPN chooses)
    #[arg(long, env = "REENACT_UPSTREAM_HTTP2")]
    upstream_http2: bool,
    /// Longest time to connect to an upstream
    #[arg(long, value_name = "TIME", env = "REENACT_CONNECT_TIMEOUT", default_value = "30s", value_parser = super::duration)]
    connect_timeout: Duration,
}

/// TLS on both sides
#[derive(Debug, Args)]
#[command(next_help_heading = "TLS")]
struct SecureArgs {
    /// Certificate chain to serve with, PEM
    #[arg(long, value_name = "FILE", env = "REENACT_TLS_CERT", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Its private key, PEM
    #[arg(long, value_name = "FILE", env = "REENACT_TLS_KEY", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Authorities to trust upstream instead of the system's, PEM
    #[arg(long, value_name = "FILE", env = "REENACT_UPSTREAM_CA", conflicts_with = "upstream_pin")]
    upstream_ca: Option<PathBuf>,
    /// The one certificate to trust upstream: its SHA-256 in hex, or a PEM file
    #[arg(long, value_name = "SHA256|FILE", env = "REENACT_UPSTREAM_PIN")]
    upstream_pin: Option<String>,
}

/// What is kept, and how
#[derive(Debug, Args)]
#[command(next_help_heading = "Recording")]
struct KeepArgs {
    /// Bytes that may wait for the disk before something is left out; K, M and G are understood
    #[arg(long, value_name = "BYTES", env = "REENACT_QUEUE_BYTES", default_value = "64M", value_parser = bytes)]
    queue_bytes: usize,
    /// Compression level of zstd; lowered by itself while the disk can't keep up
    #[arg(long, value_name = "LEVEL", env = "REENACT_LEVEL", default_value_t = WriterOptions::default().level,
          value_parser = clap::value_parser!(i32).range(1..=19))]
    level: i32,
    /// Header field whose value is replaced, beside the known credentials; repeatable
    #[arg(long, value_name = "NAME", env = "REENACT_REDACT_HEADER", value_delimiter = ',')]
    redact_header: Vec<HeaderName>,
    /// Query parameter whose value is replaced, beside the known credentials; repeatable
    #[arg(long, value_name = "NAME", env = "REENACT_REDACT_QUERY", value_delimiter = ',')]
    redact_query: Vec<String>,
    /// File with the key that credentials are hashed with, 32 bytes or 64 hex digits; a random one, forgotten, without it
    #[arg(long, value_name = "FILE", env = "REENACT_REDACT_KEY_FILE")]
    redact_key_file: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum HostArg {
    Auto,
    Client,
    Upstream,
}

pub(super) fn run(args: RecordArgs) -> anyhow::Result<Outcome> {
    let clock = Clock::start();
    let server_tls = server_tls(&args.secure)?;
    let clients = clients(&args, clock)?;
    let redactor = redactor(&args.keep)?;
    let workers = workers(args.workers)?;
    // Accepts, and says how it goes; the workers serve.
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let listener = listen(&runtime, &args.listen)?;
    let bound = listener.local_addr().context("the address bound can't be read")?;
    let scheme = if server_tls.is_some() { Scheme::Https } else { Scheme::Http };
    let url = format!("{}://{bound}", scheme.as_str());
    let writer = create(&args, &redactor, &url, clock)?;
    let sampling = match &args.samples {
        Some(dir) => Some(Sampling::begin(dir, &args.telemetry, clock, "record")?),
        None => None,
    };
    let (recorder, feed) = Recorder::start(writer, args.keep.queue_bytes, clock)
        .context("the recorder's thread can't be started")?;
    let options = args.forward.proxy_options()?;
    let proxy = Proxy::new(Routes::new(args.upstream), clients, options, redactor, feed.clone());
    let server_options = ServerOptions {
        tls: server_tls,
        preserve_header_case: true,
        workers: Some(Arc::clone(&workers)),
        ..ServerOptions::default()
    };
    say(&format!("listening on {url}, recording to {}", args.out.display()));
    runtime.block_on(async {
        let told = tokio::spawn(tell(feed));
        let signals = signals(args.duration)?;
        serve(listener, server_options, &proxy, signals, args.drain).await;
        told.abort();
        anyhow::Ok(())
    })?;
    // What is left ends with the workers, and each exchange says so, before the recorder closes the trace.
    drop((workers, runtime, proxy));
    let outcome = finish(recorder, &args.out, args.json);
    // After the trace: that it is whole matters more.
    if let Some(sampling) = sampling {
        let count = sampling.end(clock).context("the samples are incomplete")?;
        say(&format!("{count} readings taken meanwhile"));
    }
    outcome
}

/// Serves until told to stop.
async fn serve(
    listener: TcpListener,
    options: ServerOptions,
    proxy: &Arc<Proxy>,
    mut signals: watch::Receiver<u8>,
    drain: Duration,
) {
    let making = Arc::clone(proxy);
    let mut again = signals.clone();
    let shutdown = async {
        // The sender lives as long as the runtime.
        let _signal = signals.wait_for(|count| *count >= 1).await;
    };
    let give_up = async {
        say("finishing what is under way; a second signal ends at once");
        let _signal = tokio::time::timeout(drain, again.wait_for(|count| *count >= 2)).await;
        proxy.break_off();
    };
    let make = move |accepted| making.service(accepted);
    let drained = server::run_until(listener, options, make, shutdown, give_up).await;
    if drained.dropped > 0 {
        say(&format!("{} connections were not done and have been closed", drained.dropped));
    }
    let patience = if drained.dropped > 0 { Duration::ZERO } else { drain };
    let _in_time = tokio::time::timeout(patience, proxy.tunnels_closed()).await;
    proxy.break_off();
}

/// Counts Ctrl-C and SIGTERM; the end of `duration` counts as the first.
fn signals(duration: Option<Duration>) -> anyhow::Result<watch::Receiver<u8>> {
    let mut interrupt = signal(SignalKind::interrupt()).context("Ctrl-C can't be waited for")?;
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM can't be waited for")?;
    let (count, counted) = watch::channel(0);
    tokio::spawn(async move {
        let over = tokio::time::sleep(duration.unwrap_or(Duration::MAX));
        let mut over = std::pin::pin!(over);
        let mut is_over = duration.is_none();
        loop {
            tokio::select! {
                () = &mut over, if !is_over => is_over = true,
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            count.send_modify(|count| *count = u8::saturating_add(*count, 1));
        }
    });
    Ok(counted)
}

/// Starts the threads that serve connections: as many as there are CPUs, if not told how many.
fn workers(count: Option<u16>) -> anyhow::Result<Arc<Workers>> {
    let cpus = || std::thread::available_parallelism().map_or(1, usize::from);
    let count = count.map_or_else(cpus, usize::from);
    Ok(Arc::new(Workers::start(count, lane::collect).context("no threads can be started")?))
}

fn listen(runtime: &Runtime, address: &str) -> anyhow::Result<TcpListener> {
    let resolved: SocketAddr =
        address.to_socket_addrs().ok().and_then(|mut found| found.next()).ok_or_else(|| {
            UsageError(format!(
                "`{address}` is no address to listen on; write it like 127.0.0.1:8080"
            ))
        })?;
    let _entered = runtime.enter();
    server::bind(resolved).with_context(|| format!("can't listen on {address}"))
}

fn server_tls(args: &SecureArgs) -> anyhow::Result<Option<Arc<rustls::ServerConfig>>> {
    match (&args.tls_cert, &args.tls_key) {
        (Some(cert), Some(key)) => Ok(Some(tls::server_config(cert, key)?)),
        _ => Ok(None),
    }
}

/// Makes a client for each upstream; their connections are numbered in one sequence.
fn clients(args: &RecordArgs, clock: Clock) -> anyhow::Result<Vec<Client>> {
    let needs_tls = args.upstream.iter().any(|route| route.origin.scheme == Scheme::Https);
    let tls = if needs_tls { Some(tls::client_config(&args.secure.trust()?)?) } else { None };
    let protocol = if args.forward.upstream_http2 { Protocol::Http2 } else { Protocol::Auto };
    let options = ClientOptions {
        connect_timeout: args.forward.connect_timeout,
        protocol,
        tls,
        preserve_header_case: true,
        ..ClientOptions::default()
    };
    let numbers = Arc::new(AtomicU64::new(0));
    let client = |route: &Route| {
        Client::numbered(route.origin.clone(), options.clone(), clock, Arc::clone(&numbers))
    };
    Ok(args.upstream.iter().map(client).collect())
}

fn redactor(args: &KeepArgs) -> anyhow::Result<Redactor> {
    let key = match &args.redact_key_file {
        Some(path) => read_key(path)?,
        None => random()?,
    };
    Ok(Redactor::new(key, args.redact_header.clone(), args.redact_query.clone()))
}

/// Returns bytes that nobody can foretell.
fn random<const N: usize>() -> anyhow::Result<[u8; N]> {
    let mut bytes = [0; N];
    SysRng.try_fill_bytes(&mut bytes).context("the system gives no random bytes")?;
    Ok(bytes)
}

fn read_key(path: &Path) -> anyhow::Result<[u8; 32]> {
    let bytes = fs::read(path).with_context(|| format!("can't read the key {}", path.display()))?;
    if let Ok(key) = bytes.as_slice().try_into() {
        return Ok(key);
    }
    let hash =
        str::from_utf8(&bytes).ok().and_then(|text| blake3::Hash::from_hex(text.trim()).ok());
    let hash =
        hash.with_context(|| format!("{} must hold 32 bytes, or 64 hex digits", path.display()))?;
    Ok(*hash.as_bytes())
}

fn create(
    args: &RecordArgs,
    redactor: &Redactor,
    url: &str,
    clock: Clock,
) -> anyhow::Result<Writer> {
    let folder = args.out.parent().filter(|folder| !folder.as_os_str().is_empty());
    if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
        anyhow::bail!("the folder {} does not exist; make it first", folder.display());
    }
    let header = Header {
        trace: random()?,
        segment: 0,
        anchor: clock.anchor(),
        tick_ns: 1_000,
        tool: concat!("reenact ", env!("CARGO_PKG_VERSION")).to_owned(),
        listen: url.to_owned(),
        upstreams: args.upstream.iter().map(|route| route.origin.to_string()).collect(),
        redacted: redactor.names(),
        sampled_ppm: 1_000_000,
    };
    let options = WriterOptions { level: args.keep.level, ..WriterOptions::default() };
    Ok(Writer::create(&args.out, header, options)?)
}

/// Reads a number of bytes such as `65536`, `64K`, `64M`, `1G`.
fn bytes(text: &str) -> Result<usize, String> {
    let bad = || format!("`{text}` is no number of bytes; write it like 65536, 64M or 1G");
    let digits = text.trim_end_matches(['K', 'M', 'G', 'k', 'm', 'g']);
    let number: usize = digits.parse().map_err(|_| bad())?;
    let shift = match text[digits.len()..].to_ascii_uppercase().as_str() {
        "" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        _ => return Err(bad()),
    };
    number.checked_mul(1 << shift).ok_or_else(bad)
}

// === impl ForwardArgs ===

impl ForwardArgs {
    fn proxy_options(&self) -> anyhow::Result<ProxyOptions> {
        let host = match self.host {
            HostArg::Auto => HostPolicy::Auto,
            HostArg::Client => HostPolicy::Client,
            HostArg::Upstream => HostPolicy::Upstream,
        };
        let via = match &self.via {
            Some(name) => Some(
                HeaderValue::try_from(format!("1.1 {name}"))
                    .map_err(|_| UsageError(format!("`{name}` can't be in a Via field")))?,
            ),
            None => None,
        };
        Ok(ProxyOptions { host, via })
    }
}

// === impl SecureArgs ===

impl SecureArgs {
    fn trust(&self) -> anyhow::Result<Trust> {
        Ok(match (&self.upstream_ca, &self.upstream_pin) {
            (Some(path), _) => Trust::Authorities(path.clone()),
            (None, Some(pin)) if Path::new(pin).is_file() => {
                Trust::Pinned(Pin::of_file(Path::new(pin))?)
            }
            (None, Some(pin)) => Trust::Pinned(
                pin.parse().map_err(|error| UsageError(format!("{error}; nor is it a file")))?,
            ),
            (None, None) => Trust::System,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_bytes_take_suffixes() {
        for (text, expected) in
            [("1", Some(1)), ("64K", Some(65_536)), ("2m", Some(2 << 20)), ("1G", Some(1 << 30))]
        {
            assert_eq!(bytes(text).ok(), expected);
        }
        for text in ["", "K", "1KB", "-1", "1.5M", "99999999999999999999", "99999999999999G"] {
            assert!(bytes(text).is_err(), "{text}");
        }
    }
}
