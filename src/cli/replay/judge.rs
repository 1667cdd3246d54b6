//! What a run is held to: the recorded answers, and service level objectives.

use std::str::FromStr;

use clap::Args;
use serde_json::{Value, json};

use crate::cli::UsageError;
use crate::replay::ledger::Hold;
use crate::report::units::{ns, percent, three};
use crate::results::answers::{Answers, Aspect, Difference};
use crate::results::manifest::Manifest;
use crate::results::slo::{Judged, Judgement, Slo, Slos};

use super::output::say;

/// What a run is held to
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "What must hold")]
pub(super) struct JudgeArgs {
    /// Exit with status 3 unless the answers are the recorded ones: --check for status, finish and tools, or
    /// --check=WHAT,.. of status, outcome, finish (reason), tools (names and argument keys), text, tokens, slo (see --slo)
    #[arg(long, value_name = "WHAT", env = "REENACT_CHECK", value_delimiter = ',', num_args = 0.., require_equals = true,
          default_missing_values = ["status", "finish", "tools"])]
    check: Vec<Check>,
    /// Judge the run by objectives such as ttft:p99<500ms, errors<1%, and goodput>95% with bounds for each request such as
    /// tpot<50ms; metrics ttft, ttft_due, tpot, itl, e2e, e2e_due, statistics p50, p99, p99.9, mean, max. A missed one is a
    /// result, and an exit status with --check=slo
    #[arg(long, value_name = "SLO", env = "REENACT_SLO", value_delimiter = ',')]
    slo: Vec<Slo>,
}

/// One thing to check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Check {
    /// Answers against the recorded ones.
    Answers(Aspect),
    /// The objectives of --slo.
    Slo,
}

/// Differences that are printed.
const SHOWN: usize = 10;

// === impl JudgeArgs ===

impl JudgeArgs {
    /// Says what does not hold in a run that has ended; returns whether all that is checked does.
    pub(super) fn holds(&self, manifest: &Manifest) -> bool {
        let words = self.words(manifest);
        words.iter().for_each(|words| say(words));
        words.is_empty()
    }

    /// Puts the options in, by flag.
    pub(super) fn describe(&self, options: &mut serde_json::Map<String, Value>) {
        let checks: Vec<_> = self.check.iter().map(|check| check.as_str()).collect();
        options.insert("check".to_owned(), json!(checks));
        let slos: Vec<_> = self.slo.iter().map(ToString::to_string).collect();
        options.insert("slo".to_owned(), json!(slos));
    }

    /// Returns the objectives; none when there are none.
    ///
    /// # Errors
    /// They ask nothing of a run, or are to be checked and there are none.
    pub(super) fn slos(&self) -> Result<Option<Slos>, UsageError> {
        if !self.slo.is_empty() {
            let slos = Slos::new(self.slo.clone());
            return slos.map(Some).map_err(|error| UsageError(format!("--slo: {error}")));
        }
        if self.check.contains(&Check::Slo) {
            let words = "--check=slo checks objectives: name some with --slo";
            return Err(UsageError(words.to_owned()));
        }
        Ok(None)
    }

    /// Returns the same, held to these objectives.
    pub(super) fn holding(mut self, slos: &Slos) -> Self {
        self.slo = slos.list().to_vec();
        self
    }

    /// Returns what a run is held to. With `until_lost`, the releases in its plan, it ends as soon as it can't keep that any
    /// more.
    pub(super) fn hold(&self, until_lost: Option<u64>) -> Result<Option<Hold>, UsageError> {
        Ok(self.slos()?.map(|slos| Hold { slos, until_lost }))
    }

    fn words(&self, manifest: &Manifest) -> Vec<String> {
        let aspects: Vec<Aspect> = self
            .check
            .iter()
            .filter_map(|check| match check {
                Check::Answers(aspect) => Some(*aspect),
                Check::Slo => None,
            })
            .collect();
        let mut words =
            if aspects.is_empty() { Vec::new() } else { differences(&aspects, &manifest.answers) };
        if let Some(slo) = manifest.slo.as_ref().filter(|_| self.check.contains(&Check::Slo)) {
            let missed = slo.objectives.iter().filter(|judged| !judged.met);
            words.extend(missed.map(|judged| format!("--check=slo: {}", objective(judged))));
        }
        words
    }
}

/// Says what came of the objectives, a line each.
pub(super) fn judged(judgement: &Judgement) -> Vec<String> {
    let mut lines: Vec<String> = judgement.objectives.iter().map(objective).collect();
    if let Some(goodput) = &judgement.goodput {
        let per_s =
            goodput.per_s.map_or_else(String::new, |rate| format!(", {} a second", three(rate)));
        lines.push(format!(
            "goodput: {} of {} requests ({}{per_s}) keep {}",
            goodput.good,
            goodput.requests,
            percent(goodput.good, goodput.requests),
            goodput.bounds.join(", ")
        ));
    }
    if let Some(lost) = &judgement.lost {
        lines
            .push(format!("ended early: {lost} could not be kept any more, whatever the rest did"));
    }
    lines
}

fn objective(judged: &Judged) -> String {
    let met = if judged.met { "kept" } else { "missed" };
    let value = match (judged.value_ns, judged.value_share) {
        (Some(value), _) => ns(value),
        (None, Some(share)) => format!("{} %", three(share * 100.0)),
        (None, None) => "nothing was measured".to_owned(),
    };
    format!("{}: {met}, {value} over {} rows ({})", judged.objective, judged.rows, judged.over)
}

/// Says what of `aspects` is not as recorded: nothing when all of it is.
fn differences(aspects: &[Aspect], answers: &Answers) -> Vec<String> {
    let names = aspects.iter().map(|aspect| aspect.as_str()).collect::<Vec<_>>().join(",");
    if aspects.iter().all(|aspect| answers.of(*aspect).rows == 0) {
        return vec![format!(
            "--check={names}: no answer could be compared with a recorded one. `reenact trace list` shows what was recorded."
        )];
    }
    let differing = aspects.iter().map(|aspect| (*aspect, answers.of(*aspect)));
    let counts: Vec<String> = differing
        .filter(|(_, compared)| compared.different > 0)
        .map(|(aspect, compared)| {
            format!("{aspect} in {} of {}", compared.different, compared.rows)
        })
        .collect();
    if counts.is_empty() {
        return Vec::new();
    }
    let mut shown: Vec<&Difference> =
        answers.first.iter().filter(|difference| aspects.contains(&difference.aspect)).collect();
    shown.sort_by_key(|difference| (difference.round, difference.exchange, difference.aspect));
    let lines = shown.iter().take(SHOWN).map(|difference| format!("  {difference}"));
    let head = format!("--check={names}: not as recorded: {}. The first:", counts.join(", "));
    std::iter::once(head).chain(lines).collect()
}

// === impl Check ===

impl Check {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Answers(aspect) => aspect.as_str(),
            Self::Slo => "slo",
        }
    }
}

impl FromStr for Check {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "slo" => Ok(Self::Slo),
            text => {
                text.parse().map(Self::Answers).map_err(|error: String| format!("{error}, or slo"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::answers::Compared;

    #[test]
    fn differences_are_told_with_their_exchanges() {
        let difference = |exchange, aspect| Difference {
            exchange,
            round: 0,
            aspect,
            recorded: "stop".to_owned(),
            measured: "length".to_owned(),
        };
        let answers = Answers {
            compared: [
                (Aspect::Status, Compared { rows: 5, different: 0 }),
                (Aspect::Finish, Compared { rows: 4, different: 2 }),
                (Aspect::Text, Compared { rows: 4, different: 4 }),
            ]
            .into(),
            first: vec![
                difference(9, Aspect::Finish),
                difference(3, Aspect::Text),
                difference(4, Aspect::Finish),
            ],
            ..Answers::default()
        };
        assert_eq!(differences(&[Aspect::Status, Aspect::Tools], &answers), Vec::<String>::new());
        assert_eq!(
            differences(&[Aspect::Status, Aspect::Finish], &answers),
            [
                "--check=status,finish: not as recorded: finish in 2 of 4. The first:",
                "  exchange 4: finish: recorded stop, now length",
                "  exchange 9: finish: recorded stop, now length",
            ]
        );
        let nothing = differences(&[Aspect::Tokens], &answers);
        assert!(nothing[0].contains("no answer could be compared"), "{nothing:?}");
    }
}
