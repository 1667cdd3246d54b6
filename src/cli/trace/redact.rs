//! `reenact trace redact`: a trace again, as a privacy policy lets it be.

use std::collections::VecDeque;
use std::fs;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;

use crate::clock::Nanos;
use crate::privacy::Veil;
use crate::trace::record::{Event, Header};
use crate::trace::redact::Redactor;
use crate::trace::{FLUSH_EVERY, Scan, Trace, Writer, WriterOptions, open_path};

use super::super::identity::IdentityArgs;
use super::super::privacy::{Privacy, PrivacyArgs};
use super::super::{Outcome, UsageError};
use super::output::OutputArgs;
use super::say;

/// Write a trace again, with what a policy does not let into it replaced
///
/// The same policy, key and trace give the same result as recording with that policy. The old trace is only read, and must be
/// whole: `reenact trace recover` makes it so.
#[derive(Debug, Args)]
pub(super) struct RedactArgs {
    /// The trace: a file, or a folder of segments
    trace: PathBuf,
    /// The trace to write; it must not exist
    out: PathBuf,
    #[command(flatten)]
    privacy: PrivacyArgs,
    #[command(flatten)]
    identity: IdentityArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// What takes events to the new trace.
struct Redaction {
    redactor: Redactor,
    veil: Veil,
    /// What is decided, and not written yet.
    ready: VecDeque<Event>,
    writer: Writer,
    flushed: Nanos,
}

pub(super) fn run(args: &RedactArgs) -> anyhow::Result<Outcome> {
    let privacy = args.privacy.privacy()?;
    if !args.privacy.is_given() {
        let advice =
            "say what to redact: --policy FILE, --bodies MODE, or one of the --redact flags";
        return Err(UsageError(advice.to_owned()).into());
    }
    let trace = Trace::open_with(&args.trace, &args.identity.read_options()?)?;
    if !trace.health().complete {
        anyhow::bail!(
            "{} is not whole: `reenact trace recover` writes what can be read of it",
            args.trace.display()
        );
    }
    let Privacy { redactor, veil, mark, .. } = privacy;
    let header = header(trace.header(), &redactor, mark);
    let recipients = args.output.destination(&args.out, [args.trace.as_path()])?.recipients;
    let options = WriterOptions { recipients, ..WriterOptions::default() };
    let writer = Writer::create(&args.out, header, options)?;
    let mut redaction =
        Redaction { redactor, veil, ready: VecDeque::new(), writer, flushed: Nanos::ZERO };
    let mut scan = trace.scan()?;
    let written = redaction.run(&mut scan).and_then(|()| whole(&scan));
    if let Err(error) = written {
        // Half a trace under this name would pass for the whole.
        drop(redaction);
        let unfinished = open_path(&args.out);
        fs::remove_file(&unfinished)
            .with_context(|| format!("can't remove {}", unfinished.display()))?;
        return Err(error.context(format!("can't redact {}", args.trace.display())));
    }
    let summary = redaction.writer.finish()?;
    say(&format!(
        "{} exchanges, {} frames in {} ({} bytes)",
        summary.totals.exchanges,
        summary.totals.frames,
        args.out.display(),
        summary.bytes
    ));
    Ok(Outcome::Done)
}

/// Returns the header of the new trace: it names all that was replaced, before and now.
fn header(
    old: &Header,
    redactor: &Redactor,
    mark: Option<crate::trace::record::PolicyMark>,
) -> Header {
    let mut redacted = [&old.redacted[..], &redactor.names()].concat();
    redacted.sort_unstable();
    redacted.dedup();
    let policy = match (&old.policy, mark) {
        (Some(old), Some(new)) => Some(new.after(old)),
        (old, new) => new.or_else(|| old.clone()),
    };
    Header { segment: 0, redacted, policy, ..old.clone() }
}

fn whole(scan: &Scan) -> anyhow::Result<()> {
    if let Some(loss) = scan.losses().first() {
        anyhow::bail!("{loss}: `reenact trace recover` writes what can be read of it");
    }
    Ok(())
}

// === impl Redaction ===

impl Redaction {
    fn run(&mut self, scan: &mut Scan) -> anyhow::Result<()> {
        for event in scan {
            let mut event = event?;
            self.heads(&mut event);
            let at = event.at();
            if at >= self.flushed + FLUSH_EVERY {
                self.flushed = at;
                self.writer.flush(at)?;
            }
            self.veil.event(event, &mut self.ready);
            self.write()?;
        }
        self.veil.finish(&mut self.ready);
        self.write()
    }

    fn write(&mut self) -> anyhow::Result<()> {
        while let Some(event) = self.ready.pop_front() {
            self.writer.append(event)?;
        }
        Ok(())
    }

    /// Does what a recording does before it queues an event.
    fn heads(&self, event: &mut Event) {
        event.unpack();
        match event {
            Event::Request(head) => {
                head.target = self.redactor.target(&head.target).into_owned();
                self.redactor.headers(&mut head.headers);
            }
            Event::Interim(interim) => self.redactor.headers(&mut interim.headers),
            Event::Response(head) => self.redactor.headers(&mut head.headers),
            Event::Trailers(trailers) => self.redactor.headers(&mut trailers.headers),
            // Heads are unpacked above.
            Event::Packed(_)
            | Event::Link(_)
            | Event::Frame(_)
            | Event::Bare(_)
            | Event::End(_)
            | Event::Gap(_)
            | Event::Omission(_)
            | Event::Prompt(_) => {}
        }
    }
}
