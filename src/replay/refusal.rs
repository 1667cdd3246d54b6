//! A target that refuses everything: the wrong path, the wrong key. A run against it measures nothing, and is ended.
//!
//! Every answer of a target that is 401, 404 or 405, where the recorded answer was not, is a refusal; where it was the same,
//! it tells nothing. A target whose first [`ENOUGH`] answers are refusals, or all of them in a shorter run, refuses
//! everything. One other answer, and it does not: what comes later is a result.

use std::collections::BTreeMap;
use std::fmt;

use crate::results::rows::Measurement;

/// Watches the answers of all targets.
#[derive(Clone, Debug)]
pub struct Refusals {
    targets: BTreeMap<String, Standing>,
    is_watching: bool,
}

/// A target that refuses everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Its base URL.
    pub target: String,
    /// Its answers.
    pub answers: u64,
    /// The status of the last one.
    pub status: u16,
    /// The request that it was for: method and path.
    pub request: String,
}

/// What is known of a target.
#[derive(Clone, Debug)]
enum Standing {
    Refuses(Refusal),
    Answers,
}

/// First answers that are enough to tell.
pub const ENOUGH: u64 = 20;

// === impl Refusals ===

impl Refusals {
    /// Watches.
    #[must_use]
    pub fn watched() -> Self {
        Self { targets: BTreeMap::new(), is_watching: true }
    }

    /// Looks away: the run goes on whatever the answers are.
    #[must_use]
    pub fn ignored() -> Self {
        Self { is_watching: false, ..Self::watched() }
    }

    /// Takes a row into account.
    pub fn add(&mut self, row: &Measurement) {
        let Some(status) = row.status.filter(|_| self.is_watching) else { return };
        if !matches!(status, 401 | 404 | 405) {
            self.targets.insert(row.target.clone(), Standing::Answers);
            return;
        }
        // Refused as in the recording: a target that serves everything says that too, and so does one that serves nothing.
        if row.recorded_status == Some(status) {
            return;
        }
        let standing = self.targets.entry(row.target.clone()).or_insert_with(|| {
            let target = row.target.clone();
            Standing::Refuses(Refusal { target, answers: 0, status, request: String::new() })
        });
        if let Standing::Refuses(refusal) = standing {
            refusal.answers += 1;
            refusal.status = status;
            refusal.request = format!("{} {}", row.method, row.path);
        }
    }

    /// Returns a target that has refused enough to end the run, if there is one.
    #[must_use]
    pub fn certain(&self) -> Option<&Refusal> {
        self.refusing().find(|refusal| refusal.answers >= ENOUGH)
    }

    /// Returns a target that has refused everything by the end of the run, if there is one.
    #[must_use]
    pub fn at_end(&self) -> Option<&Refusal> {
        self.refusing().next()
    }

    fn refusing(&self) -> impl Iterator<Item = &Refusal> {
        self.targets.values().filter_map(|standing| match standing {
            Standing::Refuses(refusal) => Some(refusal),
            Standing::Answers => None,
        })
    }
}

// === impl Refusal ===

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { target, answers, status, request } = self;
        let all = match answers {
            1 => "its only request".to_owned(),
            n => format!("each of its first {n} requests"),
        };
        let advice = match status {
            401 => "name the variable that has its key with --api-key-env",
            _ => {
                "look at the path of the URL (that of the trace is put behind it) and at what the server serves"
            }
        };
        write!(
            f,
            "{target} answered {all} with {status} (the last: {request}), so there is nothing to measure: {advice}; \
             --keep-going replays all the same"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(target: &str, status: Option<u16>) -> Measurement {
        Measurement {
            target: target.to_owned(),
            status,
            recorded_status: Some(200),
            method: "POST".to_owned(),
            path: "/v1/x".to_owned(),
            ..Measurement::default()
        }
    }

    /// Checks after how many of the answers it is certain that a target refuses everything.
    fn check(statuses: &[u16], certain_after: Option<usize>, at_end: bool) {
        let mut refusals = Refusals::watched();
        let seen = statuses.iter().position(|status| {
            refusals.add(&row("b", Some(200)));
            refusals.add(&row("a", Some(*status)));
            refusals.certain().is_some()
        });
        assert_eq!(seen.map(|at| at + 1), certain_after, "{statuses:?}");
        assert_eq!(refusals.at_end().is_some(), at_end, "{statuses:?}");
    }

    #[test]
    fn a_target_refuses_everything_until_it_has_answered_once() {
        check(&[404; 30], Some(20), true);
        check(&[401; 19], None, true);
        check(&[405], None, true);
        check(&[], None, false);
        check(&[500; 30], None, false);
        let mut late = [404; 40];
        late[18] = 400;
        check(&late, None, false);
        late[18] = 404;
        late[25] = 200;
        check(&late, Some(20), true);
        let mut refusals = Refusals::watched();
        for _ in 0..30 {
            refusals.add(&row("a", None));
            assert_eq!(refusals.at_end(), None, "no answer is no refusal");
        }
        for _ in 0..30 {
            refusals.add(&Measurement { recorded_status: Some(404), ..row("a", Some(404)) });
            assert_eq!(refusals.at_end(), None, "what was recorded so is right");
        }
        for number in 0..20 {
            assert_eq!(
                refusals.certain(),
                None,
                "after {number}: a trace may have errors of its own"
            );
            refusals.add(&row("a", Some(404)));
            refusals.add(&Measurement { recorded_status: Some(404), ..row("a", Some(404)) });
        }
        assert!(refusals.certain().is_some());
        let mut refusals = Refusals::ignored();
        (0..30).for_each(|_| refusals.add(&row("a", Some(404))));
        assert_eq!((refusals.certain(), refusals.at_end()), (None, None));
    }
}
