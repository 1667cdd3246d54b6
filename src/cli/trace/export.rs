//! `reenact trace export`: a trace as JSON lines, HAR, or Parquet in the schema of a run.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, ValueEnum};
use http::HeaderMap;
use serde_json::{Value, json};

use crate::cli::identity::IdentityArgs;
use crate::results::RunWriter;
use crate::results::manifest::{Manifest, TraceIdentity, Verdict};
use crate::results::recorded::recorded;
use crate::trace::record::{Header, Side, Trailers};
use crate::trace::{Assembler, Exchange, FrameView, Scan, Trace};

use super::super::{Outcome, UsageError};
use super::har::HarWriter;
use super::mooncake::MooncakeWriter;
use super::{open, outcome, say, trace_id};

/// Turn a trace into JSON lines, HAR, or Parquet in the schema of a run
#[derive(Debug, Args)]
pub(super) struct ExportArgs {
    /// The trace: a file, an unfinished `.open` file, or a folder of segments
    trace: PathBuf,
    /// What to make of it
    #[arg(long, value_enum, env = "REENACT_FORMAT")]
    format: Format,
    /// Where: a file (stdout without it), or a folder for Parquet
    #[arg(long, value_name = "PATH", env = "REENACT_OUT")]
    out: Option<PathBuf>,
    #[command(flatten)]
    identity: IdentityArgs,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// One JSON object per exchange, bodies and frame times included
    Jsonl,
    /// HTTP Archive 1.2; frame times in `_frames`
    Har,
    /// Mooncake's JSON lines: timestamp, input_length, output_length, hash_ids of each 512 bytes of the prompt's text
    Mooncake,
    /// A run folder: requests.parquet, frames.parquet, run.json; joins with replays on `exchange`
    Parquet,
}

pub(super) fn run(args: &ExportArgs, out: &mut dyn Write) -> anyhow::Result<Outcome> {
    let trace = open(&args.trace, &args.identity.read_options()?)?;
    let mut scan = trace.scan()?;
    match args.format {
        Format::Parquet => {
            let Some(dir) = &args.out else {
                return Err(UsageError("--format parquet needs --out DIR".to_owned()).into());
            };
            parquet(&trace, &mut scan, &args.trace, dir)?;
        }
        Format::Jsonl => to(args.out.as_deref(), out, |out| {
            for_each(&mut scan, |exchange| {
                writeln!(out, "{}", exchange_json(exchange, trace.header()))?;
                Ok(())
            })
        })?,
        Format::Mooncake => to(args.out.as_deref(), out, |out| {
            let mut mooncake = MooncakeWriter::begin(out)?;
            for_each(&mut scan, |exchange| mooncake.exchange(exchange))?;
            if mooncake.untold > 0 {
                let untold = mooncake.untold;
                say(&format!(
                    "{untold} requests are left out: how many tokens were answered is not told"
                ));
            }
            Ok(())
        })?,
        Format::Har => to(args.out.as_deref(), out, |out| {
            let mut har = HarWriter::begin(out, trace.header())?;
            for_each(&mut scan, |exchange| Ok(har.exchange(exchange)?))?;
            Ok(har.finish()?)
        })?,
    }
    Ok(outcome(&trace, Some(&scan)))
}

/// Writes to a new file, or to stdout without one.
fn to(
    path: Option<&Path>,
    stdout: &mut dyn Write,
    write: impl FnOnce(&mut dyn Write) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let Some(path) = path else { return write(stdout) };
    let context = || format!("can't write {}", path.display());
    let mut file = BufWriter::new(File::create_new(path).with_context(context)?);
    write(&mut file)?;
    file.flush().with_context(context)
}

/// Hands over each exchange as it ends, then those that have not, in flat memory.
fn for_each(
    scan: &mut Scan,
    mut each: impl FnMut(&Exchange) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut assembler = Assembler::default();
    for event in scan {
        if let Some(exchange) = assembler.push(event?) {
            each(&exchange)?;
        }
    }
    assembler.finish().iter().try_for_each(each)
}

fn parquet(trace: &Trace, scan: &mut Scan, path: &Path, dir: &Path) -> anyhow::Result<()> {
    let header = trace.header();
    let id = trace_id(header);
    let manifest = Manifest {
        run: id.clone(),
        trace: TraceIdentity {
            path: path.display().to_string(),
            id: id.clone(),
            digest: trace.digest()?,
            exchanges: trace.exchanges() as u64,
            complete: trace.health().complete,
        },
        verdict: if trace.health().complete { Verdict::Valid } else { Verdict::Invalid },
        reasons: trace.health().losses.iter().map(ToString::to_string).collect(),
        duration_s: trace.health().totals.until.as_secs_f64(),
        ..Manifest::begin(header.anchor)
    };
    let mut writer = RunWriter::create(dir, &manifest)?;
    for_each(scan, |exchange| {
        let (mut row, frames) = recorded(exchange, header.anchor);
        row.run.clone_from(&id);
        let upstream = usize::try_from(exchange.request.upstream).unwrap_or(usize::MAX);
        row.target = header.upstreams.get(upstream).cloned().unwrap_or_default();
        if exchange.end.is_none() {
            row.outcome = "open".to_owned();
        }
        writer.frames(frames)?;
        Ok(writer.request(row)?)
    })?;
    Ok(writer.finish(manifest)?)
}

/// Returns all of an exchange as one JSON object. A body that is not UTF-8 stands in base64, under another name.
pub(super) fn exchange_json(exchange: &Exchange, header: &Header) -> Value {
    let request = &exchange.request;
    let trailers =
        |trailers: &Option<Trailers>| trailers.as_ref().map(|trailers| fields(&trailers.headers));
    let mut line = json!({
        "exchange": request.exchange.0,
        "at": header.anchor.rfc3339(request.at),
        "at_ns": request.at.0,
        "connection": request.connection,
        "version": request.version.as_str(),
        "method": request.method.as_str(),
        "target": request.target,
        "authority": request.authority,
        "upstream": header.upstreams.get(usize::try_from(request.upstream).unwrap_or(usize::MAX)),
        "request_headers": fields(&request.headers),
        "request_trailers": trailers(&exchange.request_trailers),
        "request_frames": frames(exchange, Side::Request),
        "link": exchange.link.map(|link| json!({
            "at_ns": link.at.0,
            "connection": link.connection,
            "reused": link.reused,
            "version": link.version.as_str(),
            "connect_ns": link.connect_ns,
            "tls_ns": link.tls_ns,
        })),
        "interims": exchange.interims.iter().map(|interim| json!({
            "at_ns": interim.at.0,
            "status": interim.status.as_u16(),
            "headers": fields(&interim.headers),
        })).collect::<Vec<_>>(),
        "response": exchange.response.as_ref().map(|response| json!({
            "at_ns": response.at.0,
            "version": response.version.as_str(),
            "status": response.status.as_u16(),
            "reason": response.reason,
            "headers": fields(&response.headers),
        })),
        "response_trailers": trailers(&exchange.response_trailers),
        "response_frames": frames(exchange, Side::Response),
        "prompt": exchange.prompt.as_ref().map(|prompt| json!({
            "bytes": prompt.bytes,
            "block_bytes": prompt.block_bytes,
            "blocks": prompt.blocks,
            "input_tokens": prompt.input_tokens,
            "output_tokens": prompt.output_tokens,
        })),
        "end": exchange.end.as_ref().map(|end| json!({
            "at_ns": end.at.0,
            "outcome": end.outcome,
            "fault": end.fault.as_ref().map(|fault| json!({
                "side": fault.side,
                "kind": fault.kind,
                "text": fault.text,
            })),
            "request_lost_bytes": end.request.lost_bytes,
            "response_lost_bytes": end.response.lost_bytes,
        })),
    });
    put_body(&mut line, "request_body", &exchange.request_body());
    put_body(&mut line, "response_body", &exchange.response_body());
    line
}

fn put_body(line: &mut Value, name: &str, body: &[u8]) {
    match std::str::from_utf8(body) {
        Ok(text) => line[name] = text.into(),
        Err(_) => line[format!("{name}_base64")] = STANDARD.encode(body).into(),
    }
}

fn fields(headers: &HeaderMap) -> Value {
    let field = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
        json!([name.as_str(), String::from_utf8_lossy(value.as_bytes())])
    };
    headers.iter().map(field).collect()
}

/// Returns `[when read, when accepted, bytes]` of each frame, and `"bare"` in addition where the bytes are not in the trace.
fn frames(exchange: &Exchange, side: Side) -> Value {
    let frame = |FrameView { at, accepted, len, data }: FrameView<'_>| match data {
        Some(_) => json!([at.0, accepted.0, len]),
        None => json!([at.0, accepted.0, len, "bare"]),
    };
    exchange.frames(side).map(frame).collect()
}
