//! `reenact trace show`: one exchange in full.

use std::io::Write;
use std::path::PathBuf;

use anyhow::bail;
use clap::{Args, ValueEnum};
use http::HeaderMap;

use crate::cli::identity::IdentityArgs;
use crate::clock::Nanos;
use crate::trace::record::{ExchangeId, Side};
use crate::trace::{Exchange, FrameView};

use super::super::Outcome;
use super::export::exchange_json;
use super::{open, outcome};

/// Show one exchange: heads, times, bodies
#[derive(Debug, Args)]
pub(super) struct ShowArgs {
    /// The trace: a file, an unfinished `.open` file, or a folder of segments
    trace: PathBuf,
    /// The exchange's number, as `reenact trace list` prints it
    exchange: u64,
    /// Print the bodies too, bytes that are not text replaced
    #[arg(long, env = "REENACT_BODY")]
    body: bool,
    /// Print each frame with its times
    #[arg(long, env = "REENACT_FRAMES")]
    frames: bool,
    /// Print nothing but the bytes of one body
    #[arg(long, value_name = "SIDE", env = "REENACT_RAW", conflicts_with_all = ["body", "frames", "json"])]
    raw: Option<RawSide>,
    /// Print JSON, as `reenact trace export --format jsonl` does
    #[arg(long, env = "REENACT_JSON")]
    json: bool,
    #[command(flatten)]
    identity: IdentityArgs,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum RawSide {
    Request,
    Response,
}

pub(super) fn run(args: &ShowArgs, out: &mut dyn Write) -> anyhow::Result<Outcome> {
    let mut trace = open(&args.trace, &args.identity.read_options()?)?;
    let Some(exchange) = trace.exchange(ExchangeId(args.exchange))? else {
        bail!(
            "{} holds no exchange {}: see `reenact trace list`",
            args.trace.display(),
            args.exchange
        );
    };
    match args.raw {
        Some(RawSide::Request) => out.write_all(&exchange.request_body())?,
        Some(RawSide::Response) => out.write_all(&exchange.response_body())?,
        None if args.json => writeln!(out, "{}", exchange_json(&exchange, trace.header()))?,
        None => {
            let anchor = trace.header().anchor;
            writeln!(out, "exchange {} at {}", args.exchange, anchor.rfc3339(exchange.request.at))?;
            print(&exchange, args, out)?;
        }
    }
    Ok(outcome(&trace, None))
}

fn print(exchange: &Exchange, args: &ShowArgs, out: &mut dyn Write) -> std::io::Result<()> {
    let start = exchange.request.at;
    let after = |at: Nanos| format!("+{:.3} ms", at.since(start).as_secs_f64() * 1e3);
    let request = &exchange.request;
    writeln!(out, "\n{} {} HTTP/{}", request.method, request.target, request.version.as_str())?;
    headers(&request.headers, out)?;
    body(exchange, Side::Request, args, out)?;
    if let Some(trailers) = &exchange.request_trailers {
        writeln!(out, "trailers {}", after(trailers.at))?;
        headers(&trailers.headers, out)?;
    }
    if let Some(link) = &exchange.link {
        let how = if link.reused { "reused" } else { "new" };
        writeln!(
            out,
            "\nupstream connection {} ({how}, HTTP/{}) {}",
            link.connection,
            link.version.as_str(),
            after(link.at)
        )?;
    }
    for interim in &exchange.interims {
        writeln!(out, "\n{} {}", interim.status, after(interim.at))?;
        headers(&interim.headers, out)?;
    }
    if let Some(response) = &exchange.response {
        writeln!(
            out,
            "\nHTTP/{} {} {}",
            response.version.as_str(),
            response.status,
            after(response.at)
        )?;
        headers(&response.headers, out)?;
    }
    body(exchange, Side::Response, args, out)?;
    if let Some(trailers) = &exchange.response_trailers {
        writeln!(out, "trailers {}", after(trailers.at))?;
        headers(&trailers.headers, out)?;
    }
    match &exchange.end {
        None => writeln!(out, "\nno end was recorded"),
        Some(end) => {
            writeln!(out, "\n{:?} {}", end.outcome, after(end.at))?;
            for (side, passed) in [("request", end.request), ("response", end.response)] {
                if passed.lost_frames > 0 {
                    writeln!(
                        out,
                        "{side}: {} of {} bytes that passed are not in the trace",
                        passed.lost_bytes, passed.bytes
                    )?;
                }
            }
            match &end.fault {
                Some(fault) => writeln!(out, "{:?} {:?}: {}", fault.side, fault.kind, fault.text),
                None => Ok(()),
            }
        }
    }
}

fn headers(headers: &HeaderMap, out: &mut dyn Write) -> std::io::Result<()> {
    for (name, value) in headers {
        writeln!(out, "{name}: {}", String::from_utf8_lossy(value.as_bytes()))?;
    }
    Ok(())
}

fn body(
    exchange: &Exchange,
    side: Side,
    args: &ShowArgs,
    out: &mut dyn Write,
) -> std::io::Result<()> {
    let start = exchange.request.at;
    let (name, lacking) = match side {
        Side::Request => ("request", exchange.request_bare.len()),
        Side::Response => ("response", exchange.response_bare.len()),
    };
    let frames: Vec<FrameView<'_>> = exchange.frames(side).collect();
    let bytes: u64 = frames.iter().map(|frame| frame.len).sum();
    write!(out, "\n{name} body: {bytes} bytes in {} frames", frames.len())?;
    match lacking {
        0 => writeln!(out)?,
        lacking => writeln!(out, ", {lacking} of these without their bytes")?,
    }
    if args.frames {
        for (n, frame) in frames.iter().enumerate() {
            writeln!(
                out,
                "  {n:>5} {:>12.3} ms  accepted {:>8.3} ms later  {:>7} bytes  {}",
                frame.at.since(start).as_secs_f64() * 1e3,
                frame.accepted.since(frame.at).as_secs_f64() * 1e3,
                frame.len,
                frame.data.map_or_else(|| NOT_RECORDED.to_owned(), |data| excerpt(data))
            )?;
        }
    }
    if args.body {
        for FrameView { len, data, .. } in frames {
            match data {
                Some(data) => out.write_all(String::from_utf8_lossy(data).as_bytes())?,
                None => write!(out, "[{len} bytes {NOT_RECORDED}]")?,
            }
        }
        writeln!(out)?;
    }
    Ok(())
}

/// What stands for the bytes of a bare frame.
const NOT_RECORDED: &str = "not recorded";

/// Returns the beginning of a frame on one line.
fn excerpt(data: &[u8]) -> String {
    let text = String::from_utf8_lossy(&data[..data.len().min(EXCERPT)]);
    let dots = if data.len() > EXCERPT { ".." } else { "" };
    format!("{}{dots}", text.escape_debug())
}

/// Bytes of a frame that are shown beside its times.
const EXCERPT: usize = 96;
