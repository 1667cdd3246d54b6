//! What `reenact replay` says: what it leaves out, what it would send, how far it is, what came out.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

use serde_json::json;

use crate::clock::Nanos;
use crate::dialect::request_facts;
use crate::replay::balance::{Balancer, Subject};
use crate::replay::feeder::{Fetch, prepare};
use crate::replay::pacer::SentDigest;
use crate::replay::plan::{Plan, Totals};
use crate::replay::quantile::Histogram;
use crate::replay::rewrite::Rewrite;
use crate::replay::run::Ran;
use crate::replay::summary::{Summary, Tally};
use crate::replay::survey::{LeftOut, Survey};
use crate::results::answers::Aspect;
use crate::results::manifest::{Manifest, Target};
use crate::trace::Health;

use crate::cli::Outcome;

use super::judge::judged;

#[expect(clippy::print_stderr, reason = "words go to stderr")]
pub(super) fn say(sentence: &str) {
    eprintln!("{sentence}");
}

/// Prints data.
pub(super) fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

/// Says what is wrong with the trace, if anything.
pub(super) fn health(path: &Path, health: &Health) {
    if !health.complete {
        say(&format!(
            "{} is incomplete: what it holds is replayed. `reenact trace verify` says what is missing.",
            path.display()
        ));
    }
    let dropped = health.counters.dropped();
    if dropped > 0 {
        say(&format!(
            "{dropped} exchanges were not recorded, since the recorder could not keep up: the replay lacks their load."
        ));
    }
}

/// Says what is not replayed.
pub(super) fn left_out(left_out: &LeftOut) {
    let text = left_out.to_string();
    if !text.is_empty() {
        say(&text);
    }
}

/// Prints what would be sent, release by release, and what it amounts to. Where due times follow from the target, `due_words`
/// says how; a plan without an end is printed once around.
pub(super) fn dry_run(
    mut balancer: Balancer,
    plan: &Plan,
    survey: &Survey,
    mut fetch: Fetch,
    rewrite: &Rewrite,
    due_words: Option<&str>,
    json: bool,
) -> anyhow::Result<Outcome> {
    let mut out = std::io::stdout().lock();
    let mut digest = SentDigest::default();
    let (mut unsendable, mut bytes, mut misfits) = (0_u64, 0_u64, 0_u64);
    let totals = plan.totals();
    let shown = if totals.open_end { plan.entries() } else { usize::MAX };
    for release in plan.releases().take(shown) {
        let known = &survey.known[release.entry];
        let memo = survey.memos.get(known.memo)?;
        let outgoing = match prepare(&mut fetch, rewrite, known, &memo) {
            Ok(outgoing) => outgoing,
            Err(why) => {
                unsendable += 1;
                say(&why);
                continue;
            }
        };
        digest.add(if due_words.is_some() { Nanos::ZERO } else { release.due }, &outgoing.digest);
        bytes += outgoing.body.len() as u64;
        misfits += u64::from(outgoing.misfit);
        let uri = outgoing.uri.to_string();
        let facts = request_facts(&outgoing.method, &uri, &outgoing.headers, &outgoing.body);
        let model = facts.model.as_deref().unwrap_or("-");
        let course = balancer.next(Subject::of(known, &memo));
        let urls: Vec<String> = course
            .places()
            .iter()
            .map(|place| format!("{}{}", balancer.urls()[*place], outgoing.uri))
            .collect();
        let url = urls.join(" | ");
        if json {
            let line = json!({
                "exchange": known.id, "round": known.round(release.round), "session": known.turn.name.as_deref(),
                "turn": known.turn.turn, "due_ns": due_words.is_none().then_some(release.due),
                "stage": release.stage, "method": outgoing.method.as_str(),
                "url": urls[0], "urls": urls, "model": facts.model, "bytes": outgoing.body.len(),
                "digest": &outgoing.digest.to_hex()[..32],
            });
            writeln!(out, "{line}")?;
        } else {
            let due = match due_words {
                Some(_) => "-".to_owned(),
                None => format!("{:.6}", release.due.as_secs_f64()),
            };
            writeln!(
                out,
                "{due:>12} s  {:>6}  {:<6} {url}  {model}  {} bytes  {}",
                known.id.0,
                outgoing.method,
                outgoing.body.len(),
                &outgoing.digest.to_hex()[..16],
            )?;
        }
    }
    // What an open end makes of the digest is known after the run.
    let digest = (!totals.open_end).then(|| digest.hex());
    if json {
        let known = due_words.is_none();
        let line = json!({
            "releases": (!totals.open_end).then_some(totals.releases),
            "duration_s": known.then(|| totals.last.since(totals.first).as_secs_f64()),
            "peak_per_second": known.then_some(totals.peak_per_second), "ties": known.then_some(totals.ties),
            "due": due_words, "bytes": bytes, "unsendable": unsendable, "misfits": misfits,
            "sent_digest": digest,
        });
        writeln!(out, "{line}")?;
        return Ok(Outcome::Done);
    }
    say_plan(plan, &totals, due_words);
    say(&format!("{bytes} body bytes."));
    say_misfits(misfits);
    if let Some(digest) = digest {
        writeln!(out, "sent digest {digest}")?;
    }
    Ok(Outcome::Done)
}

/// Says what a plan amounts to, as far as that is known before the run.
fn say_plan(plan: &Plan, totals: &Totals, due_words: Option<&str>) {
    let span = totals.last.since(totals.first).as_secs_f64();
    match due_words {
        None => say(&format!(
            "{} releases in {span:.3} s, at most {} within a second, {} at the same time as the one before.",
            totals.releases, totals.peak_per_second, totals.ties
        )),
        Some(due) if totals.open_end => say(&format!(
            "In this order, {} exchanges a round, for {span:.3} s; how many that makes depends on the target. Each is due {due}.",
            plan.entries()
        )),
        Some(due) => {
            say(&format!("{} releases in this order. Each is due {due}.", totals.releases));
        }
    }
}

/// Prints the summary of a run, or its manifest.
pub(super) fn summary(
    folder: &Path,
    manifest: &Manifest,
    summary: &Summary,
    ran: &Ran,
    json: bool,
) -> anyhow::Result<()> {
    say_misfits(ran.fed.misfits);
    let mut out = std::io::stdout().lock();
    if json {
        serde_json::to_writer_pretty(&mut out, manifest)?;
        writeln!(out)?;
        return Ok(());
    }
    out.write_all(text(folder, manifest, summary).as_bytes())?;
    Ok(())
}

fn text(folder: &Path, manifest: &Manifest, summary: &Summary) -> String {
    let counts = &manifest.counts;
    // Whether the figures can be used comes before the figures.
    let mut text = format!("{}\n", manifest.verdict.as_str());
    for reason in manifest.reasons.iter().chain(&manifest.doubts) {
        // Writing to a String can't fail.
        let _ = writeln!(text, "  {reason}");
    }
    let _ = writeln!(
        text,
        "{} planned, {} sent in {:.1} s: {} complete, {} failed, {} cancelled; {} answered with an error",
        counts.planned,
        counts.sent,
        manifest.duration_s,
        counts.complete,
        counts.failed,
        counts.cancelled,
        counts.errors
    );
    if counts.warmup > 0 {
        let _ =
            writeln!(text, "{} of these are the warm-up, and in no figure below", counts.warmup);
    }
    let mut line = |words: &str| {
        text.push_str(words);
        text.push('\n');
    };
    for (kind, n) in &summary.errors {
        line(&format!("  {n} {kind}"));
    }
    for (url, tally) in summary.targets.iter().filter(|(_, tally)| tally.counts.failed > 0) {
        line(&failing(url, tally));
    }
    if manifest.targets.len() > 1 {
        line(&format!(
            "{:<28}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}",
            "by target, milliseconds", "TTFT p50", "p99", "e2e p50", "p99", "bad", "rows"
        ));
        for target in &manifest.targets {
            line(&by_target(target));
        }
    }
    line(&format!(
        "{:<28}{:>10}{:>10}{:>10}{:>10}{:>10}",
        "milliseconds", "p50", "p90", "p99", "max", "rows"
    ));
    for (name, histogram) in [
        ("first token, streamed", &summary.ttft),
        ("  the same from due", &summary.ttft_due),
        ("time per output token", &summary.tpot),
        ("end to end, no error", &summary.e2e),
        ("lateness", &summary.lateness),
    ] {
        line(&quantiles(name, histogram));
    }
    let outputs = summary.answers.of(Aspect::Text);
    line(&format!(
        "{} output tokens; {} outputs equal to the recorded ones, {} not; {} requests waited for a connection, {} retried",
        summary.output_tokens,
        outputs.rows - outputs.different,
        outputs.different,
        summary.cold,
        summary.retried
    ));
    if !summary.pinned.is_empty() {
        let parts: Vec<String> =
            summary.pinned.iter().map(|(label, n)| format!("{n} {label}")).collect();
        line(&format!("output length pinned: {}", parts.join(", ")));
    }
    line(&itself(manifest));
    manifest.slo.iter().flat_map(judged).for_each(|words| line(&words));
    line(&format!("sent digest {}", manifest.sent_digest));
    line(&format!("run {} in {}", manifest.run, folder.display()));
    text
}

/// Says what the program measured of itself.
fn itself(manifest: &Manifest) -> String {
    let ms = |ns: i64| Nanos(ns.max(0).cast_unsigned()).as_millis_f64();
    let seen = &manifest.instrument;
    let mut text = format!(
        "reading thread: came round within {:.3} ms (p50) and {:.3} ms (p99)",
        ms(seen.stalls.p50_ns),
        ms(seen.stalls.p99_ns)
    );
    // Writing to a String can't fail.
    if let Some(cpus) = seen.calls_cpus {
        let _ = write!(text, ", {:.0} % of a CPU", cpus * 100.0);
    }
    for target in &manifest.targets {
        if let Some(rtt) = target.connect_rtt {
            let _ = write!(text, "; {:.3} ms there and back to {}", ms(rtt.p50_ns), target.url);
        }
    }
    text
}

/// Returns the line of one target of several: failures and errors together are bad.
#[expect(clippy::cast_precision_loss, reason = "for display: 2^53 ns are 104 days")]
fn by_target(target: &Target) -> String {
    let results = &target.results;
    let mut line = format!("  {:<26}", target.url);
    for ns in [results.ttft_p50_ns, results.ttft_p99_ns, results.e2e_p50_ns, results.e2e_p99_ns] {
        // Writing to a String can't fail.
        let _ = match ns {
            Some(ns) => write!(line, "{:>10.3}", ns as f64 / 1e6),
            None => write!(line, "{:>10}", "-"),
        };
    }
    let _ = write!(line, "{:>10}{:>10}", results.failed + results.errors, results.sent);
    line
}

/// Says that a target failed, and since when it has been silent.
fn failing(url: &str, tally: &Tally) -> String {
    let last = match tally.answered_ns.and_then(|at| u64::try_from(at).ok()) {
        Some(at) => format!("answered last {:.3} s into the run", Nanos(at).as_secs_f64()),
        None => "never answered".to_owned(),
    };
    format!("  {url} failed {} of {} requests; it {last}", tally.counts.failed, tally.counts.sent)
}

#[expect(clippy::cast_precision_loss, reason = "for display: 2^53 ns are 104 days")]
fn quantiles(name: &str, histogram: &Histogram) -> String {
    let mut line = format!("{name:<28}");
    for q in [0.5, 0.9, 0.99, 1.0] {
        // Writing to a String can't fail.
        let _ = match histogram.quantile(q) {
            Some(ns) => write!(line, "{:>10.3}", ns as f64 / 1e6),
            None => write!(line, "{:>10}", "-"),
        };
    }
    let _ = write!(line, "{:>10}", histogram.len());
    line
}

fn say_misfits(misfits: u64) {
    if misfits > 0 {
        say(&format!(
            "{misfits} requests were left as recorded where --set, --model-map, --max-tokens-cap or --clone found no place: their body \
             is no JSON, is compressed, or has something else there."
        ));
    }
}
