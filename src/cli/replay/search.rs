//! `reenact replay --search`: runs at one load after the other, each in a folder of its own, until the highest one that
//! keeps its objectives is known.

use std::path::PathBuf;
use std::str::FromStr;

use anyhow::Context as _;
use clap::Args;

use crate::clock::Nanos;
use crate::replay::plan::plan;
use crate::replay::search::{Bounds, End, Finding, Grain, Next, Search};
use crate::report::search::{page, steps};
use crate::report::text::grid;
use crate::report::units::three;
use crate::results::manifest::Verdict;
use crate::results::search::{SEARCH_PAGE, SearchRecord, SearchStep};
use crate::results::slo::{Limit, Slo, Slos};

use crate::cli::{Outcome, UsageError};

use super::args::ReplayArgs;
use super::judge::judged;
use super::output::{print, say};
use super::stage::{Ended, Stage};

/// The search for the highest load
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Search")]
pub(super) struct SearchArgs {
    /// Find the highest load that keeps every --slo, from --from to --to: rate, in requests a second as with --rate, or
    /// concurrency, in requests in flight as with --concurrency. Each step is a run in a folder of its own below --out; search.json and search.html there tell the result
    #[arg(long, value_name = "LOAD", env = "REENACT_SEARCH", group = "paced",
          requires_all = ["slo", "from", "to"], conflicts_with_all = ["check", "dry_run"])]
    pub(super) search: Option<Of>,
    /// The lowest load, tried first
    #[arg(long, value_name = "LOAD", env = "REENACT_FROM", requires = "search")]
    from: Option<f64>,
    /// The highest load
    #[arg(long, value_name = "LOAD", env = "REENACT_TO", requires = "search")]
    to: Option<f64>,
    /// Most steps
    #[arg(long, value_name = "N", env = "REENACT_SEARCH_STEPS", default_value_t = 20)]
    search_steps: u32,
    /// End when the lowest load that misses is at most this much above the highest that keeps
    #[arg(long, value_name = "SHARE", env = "REENACT_SEARCH_PRECISION", default_value = "5%", value_parser = share)]
    search_precision: f64,
    /// Make a step that is INVALID again, up to so many times, before the search ends there
    #[arg(long, value_name = "N", env = "REENACT_SEARCH_RETRIES", default_value_t = 2)]
    search_retries: u32,
}

/// What is searched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Of {
    /// Requests in flight.
    Concurrency,
    /// Requests a second.
    Rate,
}

/// A search under way.
struct Searching<'a> {
    args: &'a ReplayArgs,
    of: Of,
    slos: Slos,
    stage: &'a Stage<'a>,
    starts: Vec<Nanos>,
    out: PathBuf,
    record: SearchRecord,
}

/// What came of a load, after as many runs as it took.
enum Tried {
    Found(Finding),
    Invalid,
    Interrupted,
}

/// The bound on errors where none is given: percentiles say nothing of requests that fail.
const ERRORS: Slo = Slo::Errors { limit: Limit { at: 0.01, inclusive: false } };

/// Searches, and prints what was found.
pub(super) fn run(
    args: &ReplayArgs,
    of: Of,
    stage: &Stage<'_>,
    starts: Vec<Nanos>,
    out: PathBuf,
) -> anyhow::Result<Outcome> {
    let mut search = args.search.begin(of)?;
    let slos = args.judge.slos()?.context("--slo is missing")?;
    let bounds_errors = slos.list().iter().any(|slo| matches!(slo, Slo::Errors { .. }));
    let slos = if bounds_errors { slos } else { slos.with(ERRORS) };
    let record = args.search.record(of, &slos, !bounds_errors);
    record.create(&out)?;
    record.rules.iter().for_each(|rule| say(rule));
    let mut searching = Searching { args, of, slos, stage, starts, out, record };
    let end = loop {
        match search.next() {
            Next::End(end) => break name(end),
            Next::Try(load) => match searching.try_load(load)? {
                Tried::Found(finding) => search.tell(load, finding),
                Tried::Invalid => break "invalid",
                Tried::Interrupted => break "interrupted",
            },
        }
    };
    searching.finish(&search, end)
}

// === impl SearchArgs ===

impl SearchArgs {
    /// Returns the arguments of the first step; none without a search.
    ///
    /// # Errors
    /// The bounds are no use.
    pub(super) fn first_step(&self, args: &ReplayArgs) -> Result<Option<ReplayArgs>, UsageError> {
        let Some(of) = self.search else { return Ok(None) };
        self.begin(of)?;
        Ok(Some(args.at(of, self.from.unwrap_or_default())))
    }

    /// Begins the search.
    ///
    /// # Errors
    /// The bounds are no use.
    fn begin(&self, of: Of) -> Result<Search, UsageError> {
        let (from, to) = (self.from.unwrap_or(f64::NAN), self.to.unwrap_or(f64::NAN));
        let bounds = Bounds {
            from,
            to,
            precision: self.search_precision,
            steps: self.search_steps,
            grain: of.grain(),
        };
        Search::new(bounds).map_err(|error| UsageError(error.to_string()))
    }

    fn record(&self, of: Of, slos: &Slos, adds_errors: bool) -> SearchRecord {
        let precision = three(self.search_precision * 100.0);
        let mut rules = vec![
            format!(
                "The lowest {0} first, then twice the last one that was kept, until one is missed or the highest is kept; then the \
                 middle between the highest that was kept and the lowest that was missed, until they are within {precision} % of \
                 each other: at most {1} steps.",
                of.as_str(),
                self.search_steps
            ),
            "A step is missed as soon as an objective can't be kept any more, whatever the rest of its plan does: what is in \
             flight is given up then."
                .to_owned(),
            format!(
                "A step whose measurement is INVALID says nothing: it is made again, up to {} times, and then the search ends \
                 there.",
                self.search_retries
            ),
        ];
        if adds_errors {
            rules.push(format!("No objective bounds the errors, so {ERRORS} was added."));
        }
        SearchRecord {
            tool: concat!("reenact ", env!("CARGO_PKG_VERSION")).to_owned(),
            of: of.as_str().to_owned(),
            from: self.from.unwrap_or_default(),
            to: self.to.unwrap_or_default(),
            precision: self.search_precision,
            objectives: objectives(slos),
            rules,
            ..SearchRecord::default()
        }
    }
}

// === impl Searching ===

impl Searching<'_> {
    /// Runs at a load until a run says something, or none of as many as may be made does.
    fn try_load(&mut self, load: f64) -> anyhow::Result<Tried> {
        let number = u32::try_from(self.record.steps.len()).unwrap_or(u32::MAX).saturating_add(1);
        for again in 0..=self.args.search.search_retries {
            let retry = if again > 0 { format!("-again-{again}") } else { String::new() };
            let name = format!("step-{number:02}-{}-{}{retry}", self.of.as_str(), written(load));
            let (step, interrupted) = self.step(number, load, name)?;
            let finding = match step.finding.as_str() {
                "kept" => Some(Finding::Kept),
                "missed" => Some(Finding::Missed),
                _ => None,
            };
            self.record.steps.push(step);
            self.record.write(&self.out)?;
            match finding {
                _ if interrupted => return Ok(Tried::Interrupted),
                Some(finding) => return Ok(Tried::Found(finding)),
                None => {}
            }
        }
        Ok(Tried::Invalid)
    }

    /// Makes one run; returns it, and whether somebody stopped it.
    fn step(&self, number: u32, load: f64, name: String) -> anyhow::Result<(SearchStep, bool)> {
        let mut args = self.args.at(self.of, load);
        args.judge = args.judge.holding(&self.slos);
        let plan = plan(&self.starts, args.plan_options()?)?;
        args.scale.check_warmup(&plan)?;
        let Ended { manifest, .. } = self.stage.at(&args).run(&plan, &self.out.join(&name))?;
        let slo = manifest.slo.unwrap_or_default();
        let finding = match (manifest.verdict, slo.met()) {
            (Verdict::Invalid, _) => "invalid",
            (_, true) => "kept",
            (_, false) => "missed",
        };
        say(&format!("{name}: {finding}, {}", manifest.verdict.as_str()));
        for words in manifest.reasons.iter().chain(&judged(&slo)) {
            say(&format!("  {words}"));
        }
        let step = SearchStep {
            step: number,
            load,
            folder: name,
            finding: finding.to_owned(),
            verdict: manifest.verdict,
            reasons: manifest.reasons,
            sent: manifest.counts.sent,
            duration_s: manifest.duration_s,
            slo,
        };
        Ok((step, manifest.interrupted))
    }

    fn finish(mut self, search: &Search, end: &str) -> anyhow::Result<Outcome> {
        let record = &mut self.record;
        end.clone_into(&mut record.end);
        (record.highest_kept, record.lowest_missed) = (search.kept(), search.missed());
        record.words = words(record);
        record.write(&self.out)?;
        let path = self.out.join(SEARCH_PAGE);
        std::fs::write(&path, page(record))
            .with_context(|| format!("cannot write {}", path.display()))?;
        if self.args.json {
            print(&format!("{}\n", serde_json::to_string_pretty(record)?))?;
        } else {
            print(&format!("{}\n{}\n", grid(&steps(record), None), record.words))?;
        }
        say(&format!("Written: {}", path.display()));
        let found = matches!(end, "found" | "all_kept" | "out_of_steps");
        Ok(if found && record.highest_kept.is_some() { Outcome::Done } else { Outcome::Loss })
    }
}

/// Says what was found.
fn words(record: &SearchRecord) -> String {
    let unit = if record.of == "rate" { " requests/s" } else { " in flight" };
    let at = |load: Option<f64>| format!("{}{unit}", written(load.unwrap_or_default()));
    let (kept, missed) = (at(record.highest_kept), at(record.lowest_missed));
    let missing = || {
        let step = record
            .steps
            .iter()
            .find(|step| Some(step.load) == record.lowest_missed && step.finding == "missed");
        let judged = step.and_then(|step| step.slo.objectives.iter().find(|judged| !judged.met));
        judged.map_or_else(String::new, |judged| judged.objective.clone())
    };
    match record.end.as_str() {
        "found" => format!(
            "The highest {} that keeps every objective is {kept}; {missed} misses {}.",
            record.of,
            missing()
        ),
        "all_kept" => {
            format!("Even the highest {}, {kept}, keeps every objective: raise --to.", record.of)
        }
        "none_kept" => {
            format!("Even the lowest {}, {missed}, misses {}: lower --from.", record.of, missing())
        }
        "out_of_steps" => format!(
            "No steps are left: the highest {} that keeps every objective is at least {kept}{}. Raise --search-steps.",
            record.of,
            record.lowest_missed.map_or_else(String::new, |_| format!(" and below {missed}"))
        ),
        "interrupted" => "The search was interrupted.".to_owned(),
        _ => {
            let last = record.steps.last();
            let reason = last.and_then(|step| step.reasons.first()).map_or("", String::as_str);
            format!(
                "The search ended at {}, since every measurement there was INVALID. {reason}",
                at(last.map(|step| step.load))
            )
        }
    }
}

const fn name(end: End) -> &'static str {
    match end {
        End::Found => "found",
        End::AllKept => "all_kept",
        End::NoneKept => "none_kept",
        End::OutOfSteps => "out_of_steps",
    }
}

fn objectives(slos: &Slos) -> Vec<String> {
    let asks = |slo: &&Slo| !matches!(slo, Slo::Each { .. });
    slos.list().iter().filter(asks).map(ToString::to_string).collect()
}

/// Writes a load with at most four digits after the point.
fn written(load: f64) -> String {
    format!("{}", (load * 1e4).round() / 1e4)
}

/// Reads a share: `5%` or `0.05`.
fn share(text: &str) -> Result<f64, String> {
    let (digits, unit) = text.strip_suffix('%').map_or((text, 1.0), |digits| (digits, 100.0));
    let share: Result<f64, _> = digits.trim().parse();
    share.map(|share| share / unit).map_err(|_| "write it like 5% or 0.05".to_owned())
}

// === impl Of ===

impl Of {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Concurrency => "concurrency",
            Self::Rate => "rate",
        }
    }

    const fn grain(self) -> Grain {
        match self {
            Self::Concurrency => Grain::Whole,
            Self::Rate => Grain::Any,
        }
    }
}

impl FromStr for Of {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "concurrency" => Ok(Self::Concurrency),
            "rate" => Ok(Self::Rate),
            _ => Err("say rate or concurrency".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::slo::{Judged, Judgement};

    fn record(end: &str, kept: Option<f64>, missed: Option<f64>) -> SearchRecord {
        let judged = |objective: &str, met| Judged {
            objective: objective.to_owned(),
            met,
            ..Judged::default()
        };
        let step = SearchStep {
            load: missed.unwrap_or(8.0),
            finding: if end == "invalid" { "invalid" } else { "missed" }.to_owned(),
            reasons: vec!["Requests were sent late.".to_owned()],
            slo: Judgement {
                objectives: vec![judged("errors<1%", true), judged("ttft:p99<1s", false)],
                ..Judgement::default()
            },
            ..SearchStep::default()
        };
        SearchRecord {
            of: "rate".to_owned(),
            end: end.to_owned(),
            highest_kept: kept,
            lowest_missed: missed,
            steps: vec![step],
            ..SearchRecord::default()
        }
    }

    #[test]
    fn each_end_is_a_sentence() {
        for (end, kept, missed, expected) in [
            (
                "found",
                Some(39.375),
                Some(41.25),
                "The highest rate that keeps every objective is 39.375 requests/s; 41.25 requests/s misses ttft:p99<1s.",
            ),
            (
                "all_kept",
                Some(60.0),
                None,
                "Even the highest rate, 60 requests/s, keeps every objective: raise --to.",
            ),
            (
                "none_kept",
                None,
                Some(1.0),
                "Even the lowest rate, 1 requests/s, misses ttft:p99<1s: lower --from.",
            ),
            (
                "out_of_steps",
                Some(8.0),
                Some(16.0),
                "No steps are left: the highest rate that keeps every objective is at least 8 requests/s and below 16 \
                 requests/s. Raise --search-steps.",
            ),
            (
                "invalid",
                None,
                None,
                "The search ended at 8 requests/s, since every measurement there was INVALID. Requests were sent late.",
            ),
            ("interrupted", Some(8.0), None, "The search was interrupted."),
        ] {
            assert_eq!(words(&record(end, kept, missed)), expected);
        }
    }

    #[test]
    fn loads_and_shares_are_read_and_written() {
        assert_eq!((written(8.0), written(1.0 / 3.0)), ("8".to_owned(), "0.3333".to_owned()));
        assert_eq!((share("5%"), share("0.05"), share(" 10 %")), (Ok(0.05), Ok(0.05), Ok(0.1)));
        assert!(share("much").unwrap_err().contains("5%"));
        assert!("speed".parse::<Of>().unwrap_err().contains("rate or concurrency"));
    }
}
