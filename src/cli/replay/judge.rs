//! What a run is held to: the recorded answers.

use std::str::FromStr;

use clap::Args;
use serde_json::{Value, json};

use crate::results::answers::{Answers, Aspect, Difference};
use crate::results::manifest::Manifest;

use super::output::say;

/// What a run is held to
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "What must hold")]
pub(super) struct JudgeArgs {
    /// Exit with status 3 unless the answers are the recorded ones: --check for status, finish and tools, or
    /// --check=WHAT,.. of status, outcome, finish (reason), tools (names and argument keys), text, tokens
    #[arg(long, value_name = "WHAT", env = "REENACT_CHECK", value_delimiter = ',', num_args = 0.., require_equals = true,
          default_missing_values = ["status", "finish", "tools"])]
    check: Vec<Check>,
}

/// One thing to check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Check {
    /// Answers against the recorded ones.
    Answers(Aspect),
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
    }

    fn words(&self, manifest: &Manifest) -> Vec<String> {
        let aspects: Vec<Aspect> = self
            .check
            .iter()
            .map(|check| match check {
                Check::Answers(aspect) => *aspect,
            })
            .collect();
        if aspects.is_empty() { Vec::new() } else { differences(&aspects, &manifest.answers) }
    }
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
        }
    }
}

impl FromStr for Check {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse().map(Self::Answers)
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
