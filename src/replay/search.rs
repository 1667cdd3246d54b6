//! The search for the highest load that keeps its objectives, as a pure sequence of questions and answers.
//!
//! Bracketing: the lowest load first, then the double of the last one that was kept, up to the highest, until one is
//! missed. Then bisection: the middle between the highest load that was kept and the lowest that was missed, until they
//! are as near as asked for. What was kept is never asked again below, nor what was missed above: answers that contradict
//! each other near the limit (a server is never twice the same) move the result within that stretch and no further.

/// What is searched, and how finely.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bounds {
    /// The lowest load, tried first.
    pub from: f64,
    /// The highest load.
    pub to: f64,
    /// The search ends when the lowest load that was missed is at most this much above the highest that was kept, as a share
    /// of the latter.
    pub precision: f64,
    /// Most steps.
    pub steps: u32,
    /// Which loads there are.
    pub grain: Grain,
}

/// Which loads there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grain {
    /// Any: a rate.
    Any,
    /// Whole numbers: a concurrency.
    Whole,
}

/// What came of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// All objectives were kept.
    Kept,
    /// One was missed.
    Missed,
}

/// What is to be done next.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Next {
    /// Try this load.
    Try(f64),
    /// It is over.
    End(End),
}

/// Why a search is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The highest load that was kept and the lowest that was missed are near enough.
    Found,
    /// Even the highest load was kept.
    AllKept,
    /// Even the lowest load was missed.
    NoneKept,
    /// No more steps may be made.
    OutOfSteps,
}

/// A search under way.
#[derive(Clone, Debug)]
pub struct Search {
    bounds: Bounds,
    kept: Option<f64>,
    missed: Option<f64>,
    steps: u32,
}

/// Why there can be no search.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum SearchError {
    /// A load that is no load.
    #[error(
        "a search from {from} to {to} is no use: both must be finite and above 0, and the first the lower one"
    )]
    Range {
        /// The lowest load.
        from: f64,
        /// The highest load.
        to: f64,
    },
    /// Parts of a request.
    #[error("a search from {from} to {to} is no use: a concurrency is a whole number")]
    Fraction {
        /// The lowest load.
        from: f64,
        /// The highest load.
        to: f64,
    },
    /// A precision that can't be reached, or says nothing.
    #[error("a precision of {0} is no use: it must be above 0, and at most 1 (5% is 0.05)")]
    Precision(f64),
    /// No steps.
    #[error("a search of 0 steps finds nothing")]
    NoSteps,
}

// === impl Search ===

impl Search {
    /// Begins a search.
    ///
    /// # Errors
    /// The bounds are no use.
    pub fn new(bounds: Bounds) -> Result<Self, SearchError> {
        let Bounds { from, to, precision, steps, grain } = bounds;
        if !(from.is_finite() && to.is_finite() && from > 0.0 && from <= to) {
            return Err(SearchError::Range { from, to });
        }
        if grain == Grain::Whole && (from.fract() != 0.0 || to.fract() != 0.0) {
            return Err(SearchError::Fraction { from, to });
        }
        if !(precision > 0.0 && precision <= 1.0) {
            return Err(SearchError::Precision(precision));
        }
        if steps == 0 {
            return Err(SearchError::NoSteps);
        }
        Ok(Self { bounds, kept: None, missed: None, steps: 0 })
    }

    /// Returns what is to be done next.
    #[must_use]
    pub fn next(&self) -> Next {
        let next = match (self.kept, self.missed) {
            (None, None) => Next::Try(self.bounds.from),
            (None, Some(_)) => Next::End(End::NoneKept),
            (Some(kept), None) if kept >= self.bounds.to => Next::End(End::AllKept),
            (Some(kept), None) => Next::Try((kept * 2.0).min(self.bounds.to)),
            (Some(kept), Some(missed)) => match self.between(kept, missed) {
                Some(load) => Next::Try(load),
                None => Next::End(End::Found),
            },
        };
        match next {
            Next::Try(_) if self.steps >= self.bounds.steps => Next::End(End::OutOfSteps),
            next => next,
        }
    }

    /// Takes in what came of the load that [`Self::next`] gave.
    pub fn tell(&mut self, load: f64, finding: Finding) {
        self.steps += 1;
        match finding {
            Finding::Kept => self.kept = Some(self.kept.map_or(load, |kept| kept.max(load))),
            Finding::Missed => {
                self.missed = Some(self.missed.map_or(load, |missed| missed.min(load)));
            }
        }
    }

    /// Returns the highest load that was kept so far.
    #[must_use]
    pub const fn kept(&self) -> Option<f64> {
        self.kept
    }

    /// Returns the lowest load that was missed so far.
    #[must_use]
    pub const fn missed(&self) -> Option<f64> {
        self.missed
    }

    /// Returns the load in the middle; none when both are near enough.
    fn between(&self, kept: f64, missed: f64) -> Option<f64> {
        if missed - kept <= kept * self.bounds.precision {
            return None;
        }
        let middle = f64::midpoint(kept, missed);
        match self.bounds.grain {
            Grain::Any => Some(middle),
            Grain::Whole => Some(middle.floor()).filter(|middle| *middle > kept),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RATE: Bounds =
        Bounds { from: 1.0, to: 100.0, precision: 0.05, steps: 20, grain: Grain::Any };

    /// Searches where `keeps` says what becomes of a load; returns the loads tried, and why it ended with what.
    fn search(
        bounds: Bounds,
        mut keeps: impl FnMut(f64) -> bool,
    ) -> (Vec<f64>, End, Option<f64>, Option<f64>) {
        let mut search = Search::new(bounds).unwrap();
        let mut tried = Vec::new();
        loop {
            match search.next() {
                Next::End(end) => return (tried, end, search.kept(), search.missed()),
                Next::Try(load) => {
                    tried.push(load);
                    let finding = if keeps(load) { Finding::Kept } else { Finding::Missed };
                    search.tell(load, finding);
                }
            }
        }
    }

    fn check(bounds: Bounds, capacity: f64, tried: &[f64], end: End, kept: Option<f64>) {
        let (seen, why, highest, _) = search(bounds, |load| load <= capacity);
        assert_eq!((&seen[..], why, highest), (tried, end, kept), "capacity {capacity}");
    }

    #[test]
    fn it_doubles_until_one_is_missed_and_halves_what_is_left() {
        check(RATE, 10.0, &[1., 2., 4., 8., 16., 12., 10., 11., 10.5], End::Found, Some(10.0));
        check(
            Bounds { precision: 0.3, ..RATE },
            10.0,
            &[1., 2., 4., 8., 16., 12., 10.],
            End::Found,
            Some(10.0),
        );
        check(
            Bounds { from: 30.0, to: 60.0, ..RATE },
            40.0,
            &[30., 60., 45., 37.5, 41.25, 39.375],
            End::Found,
            Some(39.375),
        );
    }

    #[test]
    fn the_ends_of_the_range_are_answers_too() {
        check(RATE, 0.5, &[1.], End::NoneKept, None);
        check(Bounds { to: 6.0, ..RATE }, 7.0, &[1., 2., 4., 6.], End::AllKept, Some(6.0));
        check(Bounds { to: 1.0, ..RATE }, 7.0, &[1.], End::AllKept, Some(1.0));
        check(Bounds { steps: 4, ..RATE }, 50.0, &[1., 2., 4., 8.], End::OutOfSteps, Some(8.0));
        check(Bounds { steps: 1, ..RATE }, 0.5, &[1.], End::NoneKept, None);
    }

    #[test]
    fn a_concurrency_is_a_whole_number() {
        let whole = Bounds { grain: Grain::Whole, ..RATE };
        check(whole, 5.0, &[1., 2., 4., 8., 6., 5.], End::Found, Some(5.0));
        check(whole, 1.0, &[1., 2.], End::Found, Some(1.0));
        check(Bounds { from: 3.0, to: 4.0, ..whole }, 3.0, &[3., 4.], End::Found, Some(3.0));
    }

    #[test]
    fn bounds_that_are_no_use_are_refused() {
        let check = |bounds: Bounds, words: &str| {
            let error = Search::new(bounds).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        };
        check(Bounds { from: 0.0, ..RATE }, "from 0 to 100");
        check(Bounds { from: 101.0, ..RATE }, "first the lower");
        check(Bounds { to: f64::INFINITY, ..RATE }, "finite");
        check(Bounds { from: f64::NAN, ..RATE }, "finite");
        check(Bounds { from: 1.5, grain: Grain::Whole, ..RATE }, "whole number");
        check(Bounds { precision: 0.0, ..RATE }, "precision of 0");
        check(Bounds { precision: 5.0, ..RATE }, "precision of 5");
        check(Bounds { steps: 0, ..RATE }, "0 steps");
    }

    proptest! {
        /// Whatever a server answers within a tenth of its capacity, the result is within that tenth and the precision.
        #[test]
        fn noise_near_the_limit_moves_the_result_no_further(
            capacity in 2.0..80.0_f64,
            answers in prop::collection::vec(any::<bool>(), 64),
        ) {
            let mut answers = answers.into_iter().cycle();
            let (tried, end, kept, missed) = search(RATE, |load| {
                if load < capacity * 0.9 {
                    true
                } else if load > capacity * 1.1 {
                    false
                } else {
                    answers.next().unwrap()
                }
            });
            prop_assert_eq!(end, End::Found, "{:?}", tried);
            let (kept, missed) = (kept.unwrap(), missed.unwrap());
            prop_assert!(kept < missed && missed <= kept * 1.05 + 1e-9);
            prop_assert!(kept <= capacity * 1.1 && missed >= capacity * 0.9);
            prop_assert!(kept >= capacity * 0.9 / 1.05 - 1e-9);
        }
    }
}
