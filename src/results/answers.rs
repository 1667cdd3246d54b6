//! Right answers: a measurement beside its recorded twin.
//!
//! What is compared is in the row, so that a run can compare as it goes and a report can do it again. Each kind of
//! comparison has three outcomes: the same, different, or none where there is nothing to compare: the other side is not
//! known, or an answer is not whole on both sides (a client that left, an error). A status counts as different, too, where
//! the recorded exchange got one and the measured one failed before it.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::rows::Measurement;

/// What can be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Aspect {
    /// Response status.
    Status,
    /// Complete, failed or cancelled.
    Outcome,
    /// Finish reason.
    Finish,
    /// Names of the tools called and of their arguments, in order.
    Tools,
    /// Output text, reasoning and tool calls, by digest.
    Text,
    /// Counts of input and output tokens, where both were counted in the same way.
    Tokens,
}

/// Comparisons of one aspect, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Compared {
    /// Rows in which it could be compared.
    pub rows: u64,
    /// Of these, different.
    pub different: u64,
}

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// The exchange.
    pub exchange: u64,
    /// Which time around the trace.
    pub round: u32,
    /// What differs.
    pub aspect: Aspect,
    /// What was recorded.
    pub recorded: String,
    /// What came now.
    pub measured: String,
}

/// The answers of a run beside the recorded ones.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Answers {
    /// Comparisons by aspect.
    pub compared: BTreeMap<Aspect, Compared>,
    /// Rows in which anything of status, finish reason, tools and text could be compared.
    pub rows: u64,
    /// Of these, with no difference in any of them.
    pub equal: u64,
    /// Output tokens of the rows in which both sides were counted in the same way.
    pub output_tokens: u64,
    /// The recorded output tokens of the same rows.
    pub recorded_output_tokens: u64,
    /// The first differences of each aspect, in the order of the rows: at most [`FIRST`] of each.
    pub first: Vec<Difference>,
}

/// Differences of each aspect that are kept.
pub const FIRST: u64 = 10;

/// Fills in every column of `row` that compares it with its twin and is not filled in yet, but for the first difference in
/// the text: the row does not hold the texts.
pub fn fill(row: &mut Measurement) {
    row.status_equal = row.status_equal.or_else(|| status_equal(row));
    row.outcome_equal = row
        .outcome_equal
        .or_else(|| row.recorded_outcome.as_ref().map(|recorded| *recorded == row.outcome));
    row.finish_reason_equal = row.finish_reason_equal.or_else(|| finish_reason_equal(row));
    row.tool_shape_equal = row.tool_shape_equal.or_else(|| tool_shape_equal(row));
    row.output_equal = row.output_equal.or_else(|| output_equal(row));
    row.input_tokens_diff = difference(row.input_tokens, row.recorded_input_tokens);
    row.output_tokens_diff = difference(row.output_tokens, row.recorded_output_tokens)
        .filter(|_| row.output_tokens_source == row.recorded_output_tokens_source);
    row.answer_equal = row.answer_equal.or_else(|| answer_equal(row));
}

fn status_equal(row: &Measurement) -> Option<bool> {
    let recorded = row.recorded_status?;
    match row.status {
        None if row.outcome == "cancelled" => None,
        status => Some(status == Some(recorded)),
    }
}

fn finish_reason_equal(row: &Measurement) -> Option<bool> {
    let (now, then) = (&row.finish_reason, &row.recorded_finish_reason);
    (both_whole(row) && (now.is_some() || then.is_some())).then(|| now == then)
}

fn tool_shape_equal(row: &Measurement) -> Option<bool> {
    let (now, then) = (&row.tool_shape, &row.recorded_tool_shape);
    (both_whole(row) && (now.is_some() || then.is_some())).then(|| now == then)
}

fn output_equal(row: &Measurement) -> Option<bool> {
    let (now, then) = (row.output_digest.as_ref()?, row.recorded_output_digest.as_ref()?);
    let complete = row.outcome == "complete" && row.recorded_outcome.as_deref() == Some("complete");
    complete.then(|| now == then)
}

fn answer_equal(row: &Measurement) -> Option<bool> {
    [row.status_equal, row.finish_reason_equal, row.tool_shape_equal, row.output_equal]
        .into_iter()
        .flatten()
        .reduce(|all, equal| all && equal)
}

/// Whether both answers came to their end and neither is an error.
fn both_whole(row: &Measurement) -> bool {
    let good = |status: Option<u16>| status.is_some_and(|status| status < 400);
    row.outcome == "complete"
        && row.recorded_outcome.as_deref() == Some("complete")
        && good(row.status)
        && good(row.recorded_status)
}

fn difference(now: Option<u64>, then: Option<u64>) -> Option<i64> {
    Some(now?.cast_signed().wrapping_sub(then?.cast_signed()))
}

// === impl Aspect ===

impl Aspect {
    /// All of them, in the order in which they are told.
    pub const ALL: [Self; 6] =
        [Self::Status, Self::Outcome, Self::Finish, Self::Tools, Self::Text, Self::Tokens];

    /// Returns its name on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Outcome => "outcome",
            Self::Finish => "finish",
            Self::Tools => "tools",
            Self::Text => "text",
            Self::Tokens => "tokens",
        }
    }

    /// Returns whether a row that was filled in is the same in this; none where it can't be compared.
    #[must_use]
    pub fn equal(self, row: &Measurement) -> Option<bool> {
        match self {
            Self::Status => row.status_equal,
            Self::Outcome => row.outcome_equal,
            Self::Finish => row.finish_reason_equal,
            Self::Tools => row.tool_shape_equal,
            Self::Text => row.output_equal,
            Self::Tokens => [row.input_tokens_diff, row.output_tokens_diff]
                .into_iter()
                .flatten()
                .map(|diff| diff == 0)
                .reduce(|all, equal| all && equal),
        }
    }

    /// Returns what a row has on both sides, for people: recorded, then measured.
    fn sides(self, row: &Measurement) -> (String, String) {
        let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "none".to_owned());
        match self {
            Self::Status => (
                row.recorded_status.map_or_else(|| "none".to_owned(), |status| status.to_string()),
                row.status.map_or_else(
                    || row.error_kind.clone().unwrap_or_else(|| row.outcome.clone()),
                    |status| status.to_string(),
                ),
            ),
            Self::Outcome => (text(&row.recorded_outcome), row.outcome.clone()),
            Self::Finish => (text(&row.recorded_finish_reason), text(&row.finish_reason)),
            Self::Tools => (text(&row.recorded_tool_shape), text(&row.tool_shape)),
            Self::Text => {
                let place = row.output_differs_at;
                (
                    text(&row.recorded_output_digest),
                    match place {
                        Some(at) => format!("{}, from character {at} on", text(&row.output_digest)),
                        None => text(&row.output_digest),
                    },
                )
            }
            Self::Tokens => (
                tokens(row.recorded_input_tokens, row.recorded_output_tokens),
                tokens(row.input_tokens, row.output_tokens),
            ),
        }
    }
}

fn tokens(input: Option<u64>, output: Option<u64>) -> String {
    let count =
        |count: Option<u64>| count.map_or_else(|| "?".to_owned(), |count| count.to_string());
    format!("{} in, {} out", count(input), count(output))
}

impl fmt::Display for Aspect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Aspect {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|aspect| aspect.as_str() == text).ok_or_else(|| {
            format!(
                "`{text}` can't be compared: say status, outcome, finish, tools, text or tokens"
            )
        })
    }
}

// === impl Answers ===

impl Answers {
    /// Takes in a row that was filled in.
    pub fn push(&mut self, row: &Measurement) {
        self.rows += u64::from(row.answer_equal.is_some());
        self.equal += u64::from(row.answer_equal == Some(true));
        if row.output_tokens_diff.is_some() {
            self.output_tokens += row.output_tokens.unwrap_or(0);
            self.recorded_output_tokens += row.recorded_output_tokens.unwrap_or(0);
        }
        for aspect in Aspect::ALL {
            let Some(equal) = aspect.equal(row) else { continue };
            let compared = self.compared.entry(aspect).or_default();
            compared.rows += 1;
            compared.different += u64::from(!equal);
            if !equal && compared.different <= FIRST {
                let (recorded, measured) = aspect.sides(row);
                let (exchange, round) = (row.exchange, row.round);
                self.first.push(Difference { exchange, round, aspect, recorded, measured });
            }
        }
    }

    /// Returns the comparisons of an aspect.
    #[must_use]
    pub fn of(&self, aspect: Aspect) -> Compared {
        self.compared.get(&aspect).copied().unwrap_or_default()
    }

    /// Returns how many rows differ in one of `aspects`, each aspect counted by itself.
    #[must_use]
    pub fn different(&self, aspects: &[Aspect]) -> u64 {
        aspects.iter().map(|aspect| self.of(*aspect).different).sum()
    }
}

// === impl Difference ===

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { exchange, round, aspect, recorded, measured } = self;
        write!(f, "exchange {exchange}")?;
        if *round > 0 {
            write!(f, " (round {round})")?;
        }
        write!(f, ": {aspect}: recorded {recorded}, now {measured}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn same() -> Measurement {
        let some = |text: &str| Some(text.to_owned());
        Measurement {
            exchange: 7,
            outcome: "complete".to_owned(),
            recorded_outcome: some("complete"),
            status: Some(200),
            recorded_status: Some(200),
            finish_reason: some("stop"),
            recorded_finish_reason: some("stop"),
            output_digest: some("aa"),
            recorded_output_digest: some("aa"),
            input_tokens: Some(9),
            recorded_input_tokens: Some(9),
            output_tokens: Some(5),
            recorded_output_tokens: Some(5),
            output_tokens_source: some("usage"),
            recorded_output_tokens_source: some("usage"),
            ..Measurement::default()
        }
    }

    /// Checks what is said of a row that is the same but for a change, in the order of [`Aspect::ALL`] and then of the whole:
    /// `=` the same, `x` different, `-` nothing to compare.
    #[track_caller]
    fn check(change: impl FnOnce(&mut Measurement), expected: &str) -> Measurement {
        let mut row = same();
        change(&mut row);
        fill(&mut row);
        let sign = |equal: Option<bool>| match equal {
            Some(true) => '=',
            Some(false) => 'x',
            None => '-',
        };
        let whole = std::iter::once(row.answer_equal);
        let seen: String =
            Aspect::ALL.iter().map(|aspect| aspect.equal(&row)).chain(whole).map(sign).collect();
        assert_eq!(seen, expected, "{row:?}");
        row
    }

    #[test]
    fn each_aspect_is_the_same_or_different_or_not_known() {
        let shape = |text: &str| Some(text.to_owned());
        check(|_| {}, "===-===");
        check(|row| row.finish_reason = shape("length"), "==x-==x");
        check(|row| row.finish_reason = None, "==x-==x");
        check(|row| row.recorded_tool_shape = shape("f(a)"), "===x==x");
        check(|row| row.tool_shape = shape("f(a)"), "===x==x");
        check(
            |row| (row.tool_shape, row.recorded_tool_shape) = (shape("f(a)"), shape("f(a)")),
            "=======",
        );
        check(|row| row.output_digest = shape("bb"), "===-x=x");
        check(|row| row.output_digest = None, "===--==");
        let row = check(|row| row.output_tokens = Some(3), "===-=x=");
        assert_eq!((row.input_tokens_diff, row.output_tokens_diff), (Some(0), Some(-2)));
        check(
            |row| (row.output_tokens, row.output_tokens_source) = (Some(3), shape("frames")),
            "===-===",
        );
    }

    #[test]
    fn errors_and_clients_that_left_are_compared_by_status_alone() {
        let failed = |row: &mut Measurement| {
            (row.outcome, row.status) = ("failed".to_owned(), None);
            row.finish_reason = None;
            row.output_digest = None;
        };
        check(failed, "xx---=x");
        check(|row| row.status = Some(500), "x=--==x");
        check(|row| row.recorded_status = None, "-=--===");
        let row = check(
            |row| {
                failed(row);
                "cancelled".clone_into(&mut row.outcome);
            },
            "-x---=-",
        );
        assert_eq!(row.outcome_equal, Some(false));
        check(|row| row.recorded_outcome = Some("cancelled".to_owned()), "=x---==");
    }

    #[test]
    fn differences_are_counted_and_the_first_are_told() {
        let mut answers = Answers::default();
        for exchange in 0..2 * FIRST {
            let mut row = Measurement { exchange, output_digest: Some("bb".to_owned()), ..same() };
            row.output_differs_at = Some(4);
            fill(&mut row);
            answers.push(&row);
        }
        let mut row = Measurement { round: 1, status: None, ..same() };
        (row.outcome, row.error_kind) = ("failed".to_owned(), Some("reset".to_owned()));
        fill(&mut row);
        answers.push(&row);
        assert_eq!((answers.rows, answers.equal), (2 * FIRST + 1, 0));
        assert_eq!(answers.compared[&Aspect::Text], Compared { rows: 20, different: 20 });
        assert_eq!(answers.different(&[Aspect::Status, Aspect::Finish]), 1);
        assert_eq!(answers.first.len() as u64, FIRST + 2);
        assert_eq!(
            answers.first[0].to_string(),
            "exchange 0: text: recorded aa, now bb, from character 4 on"
        );
        assert_eq!(
            answers.first[10].to_string(),
            "exchange 7 (round 1): status: recorded 200, now reset"
        );
    }

    #[test]
    fn aspects_have_names() {
        for aspect in Aspect::ALL {
            assert_eq!(aspect.to_string().parse(), Ok(aspect));
        }
        assert!("color".parse::<Aspect>().unwrap_err().contains("say status, outcome, finish"));
    }
}
