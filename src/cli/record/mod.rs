//! `reenact record`: arguments, the recording's start and end, and what it says meanwhile.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use anyhow::Context as _;
use clap::ArgMatches;
use tokio::runtime::Builder;

use crate::clock::Clock;
use crate::http::server::ServerOptions;
use crate::http::tls::{self, Identity};
use crate::http::workers::Workers;
use crate::http::{Budget, Client, ClientOptions, Protocol, Scheme};
use crate::proxy::{About, Admin, Proxy, ProxyOptions, Recorder, Route, Routes, Sieve, Veil, lane};
use crate::trace::record::Header;
use crate::trace::{Recipients, Roll};

use super::Outcome;
use super::privacy::{self, Privacy};
use super::sample::Sampling;
use words::{finish, say};

mod admin;
mod args;
mod durability;
mod limits;
mod listen;
mod reload;
mod sampling;
mod serving;
mod supervisor;
mod words;

pub(super) use args::RecordArgs;
use args::SecureArgs;
use listen::LINGER;
use reload::Reload;
use serving::Serving;

/// Records. `reread` reads the command line and the configuration file once more.
pub(super) fn run(
    args: RecordArgs,
    reread: &dyn Fn() -> anyhow::Result<ArgMatches>,
) -> anyhow::Result<Outcome> {
    let clock = Clock::start();
    let identity = identity(&args.secure)?;
    let server_tls = identity.clone().map(tls::serve_as).transpose()?;
    let clients = clients(&args, clock)?;
    let privacy = args.privacy.privacy()?;
    let sampler = args.sampling.sampler(&privacy.key);
    let workers = workers(args.workers)?;
    // Accepts, and says how it goes; the workers serve.
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let entered = runtime.enter();
    let listener = args.listen.listen()?;
    let side = args.admin.listen(|address| args.listen.bind(address))?;
    let bound = listener.local_addr().context("the address bound can't be read")?;
    let scheme = if server_tls.is_some() { Scheme::Https } else { Scheme::Http };
    let url = format!("{}://{bound}", scheme.as_str());
    let recipients = args.encrypt.recipients()?;
    let secrecy = match recipients.len() {
        0 => String::new(),
        count => format!(", encrypted to {count} recipient(s)"),
    };
    let roll = create(&args, recipients, &privacy, sampler.ppm(), &url, clock)?;
    let out = roll.path().to_owned();
    let veil = Veil::new(roll, privacy.veil);
    let log = Sieve::new(veil, args.sampling.mesh(), args.sampling.undecided_bytes);
    let sampling = match &args.samples {
        Some(dir) => Some(Sampling::begin(dir, &args.telemetry, clock, "record")?),
        None => None,
    };
    let (recorder, feed) = Recorder::start(log, args.keep.queue_bytes, clock)
        .context("the recorder's thread can't be started")?;
    let about = About {
        listen: url.clone(),
        upstreams: upstreams(&args),
        fail_closed: args.durability.fail_closed,
        trace: out.display().to_string(),
    };
    let options = ProxyOptions { sampler, ..proxy_options(&args)? };
    let routes = Routes::new(args.upstream);
    let redactor = privacy.redactor.clone();
    let proxy = Proxy::new(routes, clients, options, redactor, feed.clone());
    let reload = Reload::new(reread, identity, Arc::clone(proxy.common()), privacy.redactor)?;
    let signals = serving::signals(args.duration)?;
    drop(entered);
    let admin = Admin::new(Arc::clone(proxy.common()), about);
    let options = ServerOptions {
        tls: server_tls,
        limits: args.limits.limits(),
        preserve_header_case: true,
        linger: LINGER,
        workers: Some(Arc::clone(&workers)),
    };
    say(&format!("listening on {url}, recording to {}{secrecy}", out.display()));
    if let Some(side) = &side {
        say(&format!("admin on {}", side.address().context("the address bound can't be read")?));
    }
    let drain = args.listen.drain;
    let serving = Serving { listener, side, options, proxy: &proxy, admin, reload, signals, drain };
    runtime.block_on(serving.run(feed));
    // What is left ends with the workers, and each exchange says so, before the recorder closes the trace.
    drop((workers, runtime, proxy));
    let outcome = finish(recorder, &out, args.json);
    // After the trace: that it is whole matters more.
    if let Some(sampling) = sampling {
        let count = sampling.end(clock).context("the samples are incomplete")?;
        say(&format!("{count} readings taken meanwhile"));
    }
    outcome
}

/// Starts the threads that serve connections: as many as there are CPUs, if not told how many.
fn workers(count: Option<u16>) -> anyhow::Result<Arc<Workers>> {
    let cpus = || std::thread::available_parallelism().map_or(1, usize::from);
    let count = count.map_or_else(cpus, usize::from);
    Ok(Arc::new(Workers::start(count, lane::collect).context("no threads can be started")?))
}

fn identity(args: &SecureArgs) -> anyhow::Result<Option<Arc<Identity>>> {
    match (&args.tls_cert, &args.tls_key) {
        (Some(cert), Some(key)) => Ok(Some(Arc::new(Identity::read(cert, key)?))),
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
        max_idle: args.limits.max_upstream_idle,
        idle_timeout: args.limits.upstream_idle_timeout,
        max_headers: args.limits.max_headers,
        max_header_bytes: args.limits.max_header_bytes,
        preserve_header_case: true,
        // The tap stamps what it passes on.
        stamp_reads: false,
        budget: Some(Budget::new(args.limits.max_upstream_connections)),
        connects: None,
    };
    let numbers = Arc::new(AtomicU64::new(0));
    let client = |route: &Route| {
        Client::numbered(route.origin.clone(), options.clone(), clock, Arc::clone(&numbers))
    };
    Ok(args.upstream.iter().map(client).collect())
}

fn proxy_options(args: &RecordArgs) -> anyhow::Result<ProxyOptions> {
    let fail_closed = args.durability.fail_closed;
    Ok(ProxyOptions { fail_closed, bounds: args.limits.bounds(), ..args.forward.proxy_options()? })
}

fn upstreams(args: &RecordArgs) -> Vec<String> {
    args.upstream.iter().map(|route| route.origin.to_string()).collect()
}

fn create(
    args: &RecordArgs,
    recipients: Recipients,
    privacy: &Privacy,
    sampled_ppm: u32,
    url: &str,
    clock: Clock,
) -> anyhow::Result<Roll> {
    let folder = args.out.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.filter(|_| !durability::is_shared(&args.out));
    if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
        anyhow::bail!("the folder {} does not exist; make it first", folder.display());
    }
    let header = Header {
        trace: privacy::random()?,
        segment: 0,
        anchor: clock.anchor(),
        tick_ns: 1_000,
        tool: concat!("reenact ", env!("CARGO_PKG_VERSION")).to_owned(),
        listen: url.to_owned(),
        upstreams: upstreams(args),
        redacted: privacy.redactor.names(),
        sampled_ppm,
        policy: privacy.mark.clone(),
    };
    let earlier = durability::clear_up(&args.out)?;
    if !durability::is_shared(&args.out) && !earlier.is_empty() {
        anyhow::bail!(
            "{} holds a trace already: choose another name, or end it with a slash to have each recording make a \
             folder of its own in it",
            args.out.display()
        );
    }
    let mut options = args.durability.options(args.keep.level);
    options.writer.recipients = recipients;
    let mut roll = Roll::create(args.durability.site(&args.out, clock), header, options)?;
    roll.adopt(earlier);
    Ok(roll)
}
