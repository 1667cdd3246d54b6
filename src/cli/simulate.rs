//! `reenact simulate`: the simulated server, from the command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use crate::clock::Clock;
use crate::http::server::{ServerOptions, bind};
use crate::http::tls;
use crate::simulate::{FaultShare, SimulateOptions, run as serve};

use super::Outcome;

/// Serve a simulated LLM that speaks OpenAI's API
///
/// The same request gets the same answer, whatever else is asked meanwhile; how fast it comes depends on the load. There
/// are /v1/chat/completions, /v1/completions, /v1/embeddings, /v1/models, /health, /version and /metrics (in vLLM's names).
#[derive(Debug, Args)]
pub(super) struct SimulateArgs {
    /// Address to listen on; port 0 takes a free one
    #[arg(long, value_name = "ADDR", env = "REENACT_LISTEN", default_value = "127.0.0.1:8000")]
    listen: SocketAddr,
    /// Seed of everything random
    #[arg(long, value_name = "N", env = "REENACT_SEED", default_value_t = 0)]
    seed: u64,
    /// Name of a model to list; it answers to any. Repeatable
    #[arg(
        long,
        value_name = "NAME",
        env = "REENACT_MODEL",
        default_value = "simulated",
        value_delimiter = ','
    )]
    model: Vec<String>,
    /// Most tokens of a prompt and its answer together
    #[arg(long, value_name = "TOKENS", env = "REENACT_CONTEXT_TOKENS", default_value_t = 32_768,
          value_parser = clap::value_parser!(u64).range(1..))]
    context_tokens: u64,
    /// Mean length of an answer that the request does not bound
    #[arg(long, value_name = "TOKENS", env = "REENACT_OUTPUT_TOKENS", default_value_t = 128,
          value_parser = clap::value_parser!(u64).range(1..))]
    output_tokens: u64,
    /// Mean length of the reasoning before the answer to a chat
    #[arg(long, value_name = "TOKENS", env = "REENACT_REASONING_TOKENS", default_value_t = 0)]
    reasoning_tokens: u64,
    /// Milliseconds to the first token of an empty prompt
    #[arg(long, value_name = "MS", env = "REENACT_PREFILL_MS", default_value_t = 15.0,
          value_parser = millis)]
    prefill_ms: f64,
    /// Microseconds that each token of the prompt adds to it
    #[arg(long, value_name = "US", env = "REENACT_PREFILL_US_PER_TOKEN", default_value_t = 100.0,
          value_parser = millis)]
    prefill_us_per_token: f64,
    /// Milliseconds between two tokens of a request that runs alone
    #[arg(long, value_name = "MS", env = "REENACT_ITL_MS", default_value_t = 10.0,
          value_parser = millis)]
    itl_ms: f64,
    /// Requests that run at once; further ones wait
    #[arg(long, value_name = "N", env = "REENACT_SLOTS", default_value_t = 64,
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    slots: u32,
    /// With all slots taken, a token takes 1 + F times as long
    #[arg(long, value_name = "F", env = "REENACT_SLOWDOWN", default_value_t = 1.0,
          value_parser = factor)]
    slowdown: f64,
    /// Faults on purpose, such as 429:0.01,reset:0.005: a status from 400 to 599, reset, stall or cut, each with its share
    /// of the requests
    #[arg(long, value_name = "KIND:SHARE", env = "REENACT_FAULT", value_delimiter = ',')]
    fault: Vec<FaultShare>,
    /// How long a stall lasts
    #[arg(long, value_name = "TIME", env = "REENACT_STALL", default_value = "30s",
          value_parser = super::duration)]
    stall: Duration,
    /// Certificate chain (PEM) to serve TLS with
    #[arg(long, value_name = "FILE", env = "REENACT_TLS_CERT", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Its private key (PEM)
    #[arg(long, value_name = "FILE", env = "REENACT_TLS_KEY", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
}

pub(super) fn run(args: &SimulateArgs) -> anyhow::Result<Outcome> {
    let tls = match (&args.tls_cert, &args.tls_key) {
        (Some(cert), Some(key)) => Some(tls::server_config(cert, key)?),
        _ => None,
    };
    let scheme = if tls.is_some() { "https" } else { "http" };
    let http = ServerOptions { tls, ..ServerOptions::default() };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let listener =
            bind(args.listen).with_context(|| format!("can't listen on {}", args.listen))?;
        let address = listener.local_addr()?;
        say(&format!("simulating on {scheme}://{address}"));
        let stop = async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        };
        let clock = Clock::start();
        let drained = serve(listener, http, args.options(), clock, stop, DRAIN).await?;
        if drained.dropped > 0 {
            say(&format!("{} connections were not done, and were dropped", drained.dropped));
        }
        Ok(Outcome::Done)
    })
}

// === impl SimulateArgs ===

impl SimulateArgs {
    fn options(&self) -> SimulateOptions {
        SimulateOptions {
            seed: self.seed,
            models: self.model.clone(),
            context_tokens: self.context_tokens,
            output_tokens: self.output_tokens,
            reasoning_tokens: self.reasoning_tokens,
            prefill: Duration::from_secs_f64(self.prefill_ms / 1e3),
            prefill_per_token: Duration::from_secs_f64(self.prefill_us_per_token / 1e6),
            itl: Duration::from_secs_f64(self.itl_ms / 1e3),
            slots: usize::try_from(self.slots).unwrap_or(usize::MAX),
            slowdown: self.slowdown,
            faults: self.fault.clone(),
            stall: self.stall,
        }
    }
}

/// Reads a number from 0 to a million.
fn millis(text: &str) -> Result<f64, String> {
    number(text, 1e6)
}

/// Reads a number from 0 to a thousand.
fn factor(text: &str) -> Result<f64, String> {
    number(text, 1e3)
}

fn number(text: &str, most: f64) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| "it must be a number".to_owned())?;
    let in_range = (0.0..=most).contains(&number);
    if in_range { Ok(number) } else { Err(format!("it must be from 0 to {most}")) }
}

#[expect(clippy::print_stderr, reason = "words go to stderr")]
fn say(sentence: &str) {
    eprintln!("{sentence}");
}

/// How long streams may go on after a signal.
const DRAIN: Duration = Duration::from_secs(5);
