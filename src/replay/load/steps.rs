//! Stages of which some keep so many requests in flight.

use crate::clock::Nanos;
use crate::replay::load::{Load, Token};
use crate::replay::plan::Release;
use crate::replay::stages::Stages;

/// Stages, one after another.
///
/// There are as many slots as the largest stage has, and a stage uses the first of them. A slot whose request ends sends the
/// next one at once where the stage that goes on then uses it, else when the next stage that does begins. What is in flight
/// when a smaller stage begins goes on to its end. Requests at a rate have no slot.
#[derive(Clone, Debug)]
pub struct Steps {
    stages: Stages,
    seed: u64,
    /// When each stage begins, and the last one ends.
    starts: Vec<Nanos>,
}

// === impl Steps ===

impl Steps {
    /// Makes the load; `seed` is that of the arrivals.
    #[must_use]
    pub fn new(stages: Stages, seed: u64) -> Self {
        Self { stages, seed, starts: Vec::new() }
    }

    /// Returns the first token of a slot at `at` or later, if there is one.
    fn slot(&self, slot: u32, at: Nanos) -> Option<Token> {
        let spans = self.starts.windows(2).enumerate();
        let (stage, begin) = spans
            .filter(|(stage, span)| at < span[1] && self.stages.concurrency(*stage) > slot)
            .map(|(stage, span)| (stage, span[0]))
            .next()?;
        let stage = u32::try_from(stage).ok();
        Some(Token { due: at.max(begin), stage, user: Some(slot), ..Token::default() })
    }
}

impl Load for Steps {
    fn begin(&mut self, at: Nanos) -> Vec<Token> {
        self.starts = self.stages.starts(at);
        let open = self.stages.dues(self.seed).map(|(due, stage)| Token {
            due: Nanos(at.0.saturating_add(due.0)),
            stage: Some(stage),
            ..Token::default()
        });
        open.chain((0..self.stages.peak()).filter_map(|slot| self.slot(slot, at))).collect()
    }

    fn ended(&mut self, release: &Release, at: Nanos) -> Vec<Token> {
        release.user.and_then(|slot| self.slot(slot, at)).into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::replay::arrival::Arrival;
    use crate::replay::stages::{Stage, Step};

    fn stage() -> impl Strategy<Value = Stage> {
        let step = prop_oneof![
            (1_u32..9).prop_map(Step::Concurrency),
            (1.0_f64..500.0).prop_map(|rate| Step::Rate { rate, arrival: Arrival::Poisson }),
        ];
        (step, 1_u64..2_000)
            .prop_map(|(step, ms)| Stage { step, duration: Duration::from_millis(ms) })
    }

    proptest! {
        #[test]
        fn each_stage_keeps_as_many_in_flight_as_it_says(
            stages in proptest::collection::vec(stage(), 1..6),
            took in proptest::collection::vec(1_u64..400_000_000, 1..50),
        ) {
            let stages = Stages::new(stages).unwrap();
            let begin = Nanos(1_000);
            let spans = stages.starts(begin);
            let mut load = Steps::new(stages.clone(), 3);
            let mut tokens = load.begin(begin);
            // What a slot was busy with: from due to end, in the order of time.
            let mut busy = vec![Vec::new(); stages.peak() as usize];
            let mut took = took.iter().cycle();
            while let Some(at) = (0..tokens.len()).min_by_key(|at| tokens[*at].due) {
                let token = tokens.swap_remove(at);
                let stage = token.stage.unwrap() as usize;
                prop_assert!((spans[stage]..spans[stage + 1]).contains(&token.due), "{token:?}");
                let release = Release { due: token.due, user: token.user, ..Release::default() };
                let end = Nanos(token.due.0 + took.next().unwrap());
                let next = load.ended(&release, end);
                match token.user {
                    None => prop_assert!(next.is_empty() && stages.concurrency(stage) == 0),
                    Some(slot) => {
                        prop_assert!(slot < stages.concurrency(stage) && next.len() <= 1);
                        prop_assert!(next.iter().all(|next| next.user == token.user && next.due >= end));
                        busy[slot as usize].push((token.due, end));
                    }
                }
                tokens.extend(next);
            }
            // While a stage goes on, each of its slots is busy at every time: what follows begins when what went before ended.
            for (stage, span) in spans.windows(2).enumerate() {
                for slot in 0..stages.concurrency(stage) {
                    let mut until = span[0];
                    for (from, to) in &busy[slot as usize] {
                        if *from <= until && *to > until {
                            until = *to;
                        }
                    }
                    prop_assert!(until >= span[1], "stage {stage}, slot {slot}: idle at {until}");
                }
            }
        }
    }
}
