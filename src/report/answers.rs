//! The tables of right answers: what is as recorded, and what is not.

use crate::results::answers::{Aspect, Compared};

use super::summary::Summary;
use super::table::{Table, short};
use super::units::{count, percent};

/// How many answers are the recorded ones, by what is compared.
pub(super) fn right(summary: &Summary) -> Table {
    let answers = &summary.answers;
    let whole =
        Compared { rows: answers.rows, different: answers.rows.saturating_sub(answers.equal) };
    let lines = Aspect::ALL.map(|aspect| (name(aspect), answers.of(aspect)));
    let tokens = if answers.recorded_output_tokens > 0 {
        format!(
            " {} output tokens, {} recorded, where both were counted in the same way.",
            count(answers.output_tokens),
            count(answers.recorded_output_tokens)
        )
    } else {
        String::new()
    };
    Table {
        title: "Right answers",
        note: format!(
            "Each request beside its recorded twin. Rows: those in which both sides are known; finish reason, tool calls and \
             output of answers that are whole on both sides. Tool calls by names and argument keys, not values. The whole \
             answer: status, finish reason, tool calls and output.{tokens}"
        ),
        head: ["As recorded", "rows", "the same", "different", "share the same"]
            .map(str::to_owned)
            .to_vec(),
        rows: lines
            .into_iter()
            .chain([("The whole answer", whole)])
            .filter(|(_, compared)| compared.rows > 0)
            .map(|(name, Compared { rows, different })| {
                let same = rows.saturating_sub(different);
                vec![
                    name.to_owned(),
                    count(rows),
                    count(same),
                    count(different),
                    percent(same, rows),
                ]
            })
            .collect(),
    }
}

/// The first differences, by exchange.
pub(super) fn differences(summary: &Summary) -> Table {
    let answers = &summary.answers;
    let mut first: Vec<_> = answers.first.iter().collect();
    first.sort_by_key(|difference| (difference.aspect, difference.round, difference.exchange));
    let all: u64 = answers.compared.values().map(|compared| compared.different).sum();
    Table {
        title: "First differences",
        note: if all > first.len() as u64 {
            format!(
                "{} of {}; `SELECT * FROM 'requests.parquet' WHERE NOT answer_equal` has them all.",
                count(first.len() as u64),
                count(all)
            )
        } else {
            String::new()
        },
        head: ["What", "exchange", "recorded", "now"].map(str::to_owned).to_vec(),
        rows: first
            .into_iter()
            .map(|difference| {
                let round = match difference.round {
                    0 => String::new(),
                    round => format!(" (round {round})"),
                };
                vec![
                    name(difference.aspect).to_owned(),
                    format!("{}{round}", difference.exchange),
                    short(&difference.recorded, 120),
                    short(&difference.measured, 120),
                ]
            })
            .collect(),
    }
}

const fn name(aspect: Aspect) -> &'static str {
    match aspect {
        Aspect::Status => "Status",
        Aspect::Outcome => "Outcome",
        Aspect::Finish => "Finish reason",
        Aspect::Tools => "Tool calls",
        Aspect::Text => "Output",
        Aspect::Tokens => "Token counts",
    }
}
