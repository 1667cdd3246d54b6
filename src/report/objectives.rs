//! The table of service level objectives and goodput.

use crate::results::slo::Judgement;

use super::table::{Table, none};
use super::units::{count, ns, percent, three};

/// What came of each objective, and goodput.
pub(super) fn objectives(judgement: &Judgement) -> Table {
    let head = ["Objective", "kept", "measured", "rows", "taken over"];
    let mut rows: Vec<Vec<String>> = judgement
        .objectives
        .iter()
        .map(|judged| {
            let value = match (judged.value_ns, judged.value_share) {
                (Some(value), _) => ns(value),
                (None, Some(share)) => format!("{} %", three(share * 100.0)),
                (None, None) => none(),
            };
            vec![
                judged.objective.clone(),
                if judged.met { "yes" } else { "NO" }.to_owned(),
                value,
                count(judged.rows),
                judged.over.clone(),
            ]
        })
        .collect();
    if let Some(goodput) = &judgement.goodput {
        let per_s = goodput.per_s.map_or_else(String::new, |rate| format!(", {}/s", three(rate)));
        rows.push(vec![
            format!("Good: {}", goodput.bounds.join(", ")),
            String::new(),
            format!("{}{per_s}", percent(goodput.good, goodput.requests)),
            count(goodput.requests),
            "all requests but cancelled ones and errors as recorded".to_owned(),
        ]);
    }
    let lost = judgement.lost.as_ref().map_or_else(String::new, |lost| {
        format!(
            " The run was ended before its plan was done: {lost} could not be kept any more, whatever the rest did."
        )
    });
    Table {
        title: OBJECTIVES,
        note: format!(
            "Percentiles by nearest rank over the rows named. Good is a request that was complete, without error, and within the \
             bound of each metric that it has.{lost}"
        ),
        head: head.map(str::to_owned).to_vec(),
        rows,
    }
}

/// Its title.
pub(super) const OBJECTIVES: &str = "Service level objectives";
