//! Balance: which target gets which release.
//!
//! | policy | the next target |
//! |---|---|
//! | [`RoundRobin`](Policy::RoundRobin) | in turn, in the order named: 0, 1, .. n-1 |
//! | [`RoundRobinLast`](Policy::RoundRobinLast) | in turn, the one named first comes last: 1, .. n-1, 0 |
//! | [`Weighted`](Policy::Weighted) | in turn, each as often as its weight says, spread evenly |
//! | [`Session`](Policy::Session) | the same for a whole conversation, by a hash of its name |
//! | [`LeastOutstanding`](Policy::LeastOutstanding) | the one with the fewest calls in flight when the release is made |
//! | [`Mirror`](Policy::Mirror) | all of them, at the same due time |
//!
//! All but the least outstanding depend on the plan alone: the same trace and options give the same targets, on every machine.
//! That one depends on how fast the targets answer, which is its point, and so no two runs of it need be alike.
//!
//! Models may have targets of their own ([`Balance::models`]): then each such model takes its own turns among its own.
//!
//! A session goes to the target with the highest hash of name and URL (rendezvous hashing): a target more or less moves
//! only the sessions that it gets or had.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::replay::known::Known;
use crate::replay::memo::Memo;

/// Which target gets which release.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Balance {
    /// How a target is chosen.
    pub policy: Policy,
    /// Weights of the targets, in their order, for [`Policy::Weighted`]; 1 where there is none.
    pub weights: Vec<u32>,
    /// Targets that models have of their own: recorded model, place of the target.
    pub models: Vec<(String, usize)>,
    /// So many targets, the first ones, are for the exchanges whose model has none of its own.
    pub common: usize,
}

/// How a target is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// The fewest calls in flight.
    LeastOutstanding,
    /// All of them.
    Mirror,
    /// In turn.
    #[default]
    RoundRobin,
    /// In turn, beginning with the second.
    RoundRobinLast,
    /// By conversation.
    Session,
    /// In turn, by weight.
    Weighted,
}

/// Where one release goes, as places among the targets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Course {
    /// To each of these.
    All(Arc<[usize]>),
    /// To the one of these that has the fewest calls in flight when the time comes.
    Least(Arc<[usize]>),
    /// To this one.
    One(usize),
}

/// What of an exchange decides.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The model that was recorded.
    pub model: Option<&'a str>,
    /// The conversation that it belongs to.
    pub session: Option<&'a str>,
    /// The connection that it was recorded on: its conversation where none was found.
    pub connection: u64,
    /// Which copy of that conversation it is.
    pub copy: u32,
}

/// Hands out targets, release by release, in the order of the plan.
#[derive(Clone, Debug)]
pub struct Balancer {
    policy: Policy,
    urls: Vec<String>,
    common: Turns,
    /// By model, in the order in which they were named.
    models: Vec<(String, Turns)>,
}

/// Targets that take turns.
#[derive(Clone, Debug)]
struct Turns {
    members: Arc<[usize]>,
    /// One round of turns.
    order: Vec<usize>,
    next: usize,
}

/// Why releases can't be balanced so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BalanceError {
    /// A mirror of one.
    #[error("a mirror needs two targets or more: name another one")]
    LoneMirror,
    /// No target.
    #[error("there is no target: name one")]
    NoTarget,
    /// A text that is no policy.
    #[error(
        "`{0}` is no way to balance: say round-robin, round-robin-last, weighted, session or least-outstanding"
    )]
    Policy(String),
    /// Two targets are the same.
    #[error("target {0} is named twice: its results could not be told apart")]
    Twice(String),
    /// A weight of nothing, or too many weights.
    #[error("the weights are no use: say one for each target, each from 1 to {MAX_WEIGHT}")]
    Weights,
}

/// The largest weight.
pub const MAX_WEIGHT: u32 = 1_000;

// === impl Policy ===

impl FromStr for Policy {
    type Err = BalanceError;

    fn from_str(text: &str) -> Result<Self, BalanceError> {
        [
            Self::LeastOutstanding,
            Self::RoundRobin,
            Self::RoundRobinLast,
            Self::Session,
            Self::Weighted,
        ]
        .into_iter()
        .find(|policy| policy.to_string() == text)
        .ok_or_else(|| BalanceError::Policy(text.to_owned()))
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LeastOutstanding => "least-outstanding",
            Self::Mirror => "mirror",
            Self::RoundRobin => "round-robin",
            Self::RoundRobinLast => "round-robin-last",
            Self::Session => "session",
            Self::Weighted => "weighted",
        })
    }
}

// === impl Subject ===

impl<'a> Subject<'a> {
    /// Returns what of this exchange decides.
    #[must_use]
    pub fn of(known: &'a Known, memo: &'a Memo) -> Self {
        Self {
            model: memo.model.as_deref(),
            session: known.turn.name.as_deref(),
            connection: known.connection,
            copy: known.copy,
        }
    }
}

// === impl Course ===

impl Course {
    /// Returns every target that it may come to.
    #[must_use]
    pub fn places(&self) -> &[usize] {
        match self {
            Self::All(places) | Self::Least(places) => places,
            Self::One(place) => std::slice::from_ref(place),
        }
    }
}

// === impl Balancer ===

impl Balancer {
    /// Makes a balancer for targets with these base URLs.
    ///
    /// # Errors
    /// There is no target, one is there twice, a mirror has but one, or the weights do not fit.
    pub fn new(balance: &Balance, urls: Vec<String>) -> Result<Self, BalanceError> {
        if let Some((_, url)) = urls.iter().enumerate().find(|(at, url)| urls[..*at].contains(*url))
        {
            return Err(BalanceError::Twice(url.clone()));
        }
        let members: Vec<usize> = (0..balance.common.min(urls.len())).collect();
        if members.is_empty() {
            return Err(BalanceError::NoTarget);
        }
        if balance.policy == Policy::Mirror && members.len() < 2 {
            return Err(BalanceError::LoneMirror);
        }
        if balance.weights.len() > members.len()
            || balance.weights.iter().any(|weight| !(1..=MAX_WEIGHT).contains(weight))
            || (balance.policy == Policy::Weighted && balance.weights.len() != members.len())
        {
            return Err(BalanceError::Weights);
        }
        let mut models: Vec<(String, Vec<usize>)> = Vec::new();
        for (model, place) in &balance.models {
            match models.iter_mut().find(|(known, _)| known == model) {
                Some((_, places)) => places.push(*place),
                None => models.push((model.clone(), vec![*place])),
            }
        }
        let turns = |members| Turns::new(balance, members);
        Ok(Self {
            policy: balance.policy,
            urls,
            common: turns(members),
            models: models.into_iter().map(|(model, members)| (model, turns(members))).collect(),
        })
    }

    /// Returns where the next release of the plan goes.
    pub fn next(&mut self, subject: Subject<'_>) -> Course {
        let own = self.models.iter_mut().find(|(model, _)| Some(model.as_str()) == subject.model);
        let turns = own.map_or(&mut self.common, |(_, turns)| turns);
        match self.policy {
            Policy::Mirror => Course::All(Arc::clone(&turns.members)),
            _ if turns.members.len() == 1 => Course::One(turns.members[0]),
            Policy::LeastOutstanding => Course::Least(Arc::clone(&turns.members)),
            Policy::RoundRobin | Policy::RoundRobinLast | Policy::Weighted => {
                Course::One(turns.next())
            }
            Policy::Session => {
                let score = |place: usize| score(subject, &self.urls[place]);
                let highest = turns.members.iter().copied().max_by_key(|place| score(*place));
                Course::One(highest.unwrap_or_default())
            }
        }
    }

    /// Returns the base URLs, by place.
    #[must_use]
    pub fn urls(&self) -> &[String] {
        &self.urls
    }
}

/// Returns how much a target wants a conversation.
fn score(subject: Subject<'_>, url: &str) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    match subject.session {
        Some(session) => {
            hasher.update(&(session.len() as u64).to_le_bytes());
            hasher.update(session.as_bytes())
        }
        None => hasher.update(&u64::MAX.to_le_bytes()).update(&subject.connection.to_le_bytes()),
    };
    hasher.update(&subject.copy.to_le_bytes());
    *hasher.update(url.as_bytes()).finalize().as_bytes()
}

// === impl Turns ===

impl Turns {
    fn new(balance: &Balance, members: Vec<usize>) -> Self {
        let mut order = members.clone();
        match balance.policy {
            Policy::RoundRobinLast => order.rotate_left(1),
            Policy::Weighted => order = by_weight(&members, &balance.weights),
            Policy::LeastOutstanding | Policy::Mirror | Policy::RoundRobin | Policy::Session => {}
        }
        Self { members: members.into(), order, next: 0 }
    }

    fn next(&mut self) -> usize {
        let place = self.order[self.next];
        self.next = (self.next + 1) % self.order.len();
        place
    }
}

/// Returns one round in which each member comes as often as its weight says, as evenly spread as whole turns allow: each turn
/// gives every member its weight, and goes to the richest, who pays for all (nginx' smooth round robin).
fn by_weight(members: &[usize], weights: &[u32]) -> Vec<usize> {
    let weight = |place: usize| i64::from(weights.get(place).copied().unwrap_or(1));
    let total: i64 = members.iter().map(|place| weight(*place)).sum();
    let mut wealth = vec![0_i64; members.len()];
    (0..total)
        .map(|_| {
            for (wealth, place) in wealth.iter_mut().zip(members) {
                *wealth += weight(*place);
            }
            // The first of equals.
            let richest = (0..members.len()).rev().max_by_key(|at| wealth[*at]).unwrap_or_default();
            wealth[richest] -= total;
            members[richest]
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn urls(n: usize) -> Vec<String> {
        (0..n).map(|n| format!("http://t{n}")).collect()
    }

    fn balance(policy: Policy, common: usize) -> Balance {
        Balance { policy, common, ..Balance::default() }
    }

    fn subject(model: Option<&'static str>) -> Subject<'static> {
        Subject { model, session: None, connection: 1, copy: 0 }
    }

    /// Checks the targets of releases of these models.
    #[track_caller]
    fn check(balance: &Balance, n: usize, models: &[&'static str], expected: &[usize]) {
        let mut balancer = Balancer::new(balance, urls(n)).unwrap();
        let seen: Vec<usize> = models
            .iter()
            .map(|model| match balancer.next(subject(Some(*model))) {
                Course::One(place) => place,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(seen, expected);
    }

    #[test]
    fn targets_take_turns() {
        let six = ["m"; 6];
        check(&balance(Policy::RoundRobin, 3), 3, &six, &[0, 1, 2, 0, 1, 2]);
        check(&balance(Policy::RoundRobinLast, 3), 3, &six, &[1, 2, 0, 1, 2, 0]);
        check(&balance(Policy::RoundRobinLast, 1), 1, &six, &[0; 6]);
        let weighted = |weights: &[u32]| Balance {
            weights: weights.into(),
            ..balance(Policy::Weighted, weights.len())
        };
        check(&weighted(&[5, 1, 1]), 3, &["m"; 7], &[0, 0, 1, 0, 2, 0, 0]);
        check(&weighted(&[1, 1]), 2, &["m"; 4], &[0, 1, 0, 1]);
    }

    #[test]
    fn a_model_takes_its_own_turns_among_its_own_targets() {
        let models = vec![("a".to_owned(), 2), ("a".to_owned(), 0), ("b".to_owned(), 3)];
        let balance = Balance { models, ..balance(Policy::RoundRobin, 2) };
        check(&balance, 4, &["a", "x", "a", "b", "x", "a", "b", "x"], &[2, 0, 0, 3, 1, 2, 3, 0]);
    }

    #[test]
    fn a_mirror_goes_to_all_and_the_least_outstanding_is_open() {
        let next =
            |policy| Balancer::new(&balance(policy, 2), urls(2)).unwrap().next(subject(None));
        assert_eq!(next(Policy::Mirror), Course::All([0, 1].into()));
        assert_eq!(next(Policy::LeastOutstanding), Course::Least([0, 1].into()));
        assert_eq!(next(Policy::LeastOutstanding).places(), [0, 1]);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let refused = |balance: &Balance, n| Balancer::new(balance, urls(n)).unwrap_err();
        assert_eq!(refused(&balance(Policy::Mirror, 1), 1), BalanceError::LoneMirror);
        assert_eq!(refused(&balance(Policy::RoundRobin, 0), 0), BalanceError::NoTarget);
        for weights in [vec![], vec![1], vec![1, 0], vec![1, 1, 1], vec![1, MAX_WEIGHT + 1]] {
            let weighted = Balance { weights, ..balance(Policy::Weighted, 2) };
            assert_eq!(refused(&weighted, 2), BalanceError::Weights);
        }
        let twice = vec!["http://a".to_owned(), "http://a".to_owned()];
        assert_eq!(
            Balancer::new(&balance(Policy::RoundRobin, 2), twice).unwrap_err(),
            BalanceError::Twice("http://a".to_owned())
        );
        assert_eq!("fair".parse::<Policy>().unwrap_err(), BalanceError::Policy("fair".to_owned()));
    }

    proptest! {
        #[test]
        fn weights_are_kept_in_every_round(weights in proptest::collection::vec(1_u32..20, 1..6)) {
            let members: Vec<usize> = (0..weights.len()).collect();
            let order = by_weight(&members, &weights);
            for (place, weight) in weights.iter().enumerate() {
                let times = order.iter().filter(|seen| **seen == place).count();
                prop_assert_eq!(times, *weight as usize);
            }
        }

        /// Another target takes sessions from the others, and moves none between them.
        #[test]
        fn a_session_stays_where_it_is(sessions in proptest::collection::vec(".{0,12}", 1..40), n in 1_usize..6) {
            let place = |n: usize, session: &str, connection| {
                let subject = Subject { model: None, session: Some(session), connection, copy: 0 };
                Balancer::new(&balance(Policy::Session, n), urls(n)).unwrap().next(subject)
            };
            for session in &sessions {
                let before = place(n, session, 1);
                prop_assert_eq!(&before, &place(n, session, 2));
                let after = place(n + 1, session, 1);
                prop_assert!(after == before || after == Course::One(n));
            }
        }
    }

    #[test]
    fn sessions_are_spread_and_the_connection_stands_for_one_that_is_not_named() {
        let mut balancer = Balancer::new(&balance(Policy::Session, 4), urls(4)).unwrap();
        let mut counts = [0; 4];
        for connection in 0..400 {
            let Course::One(place) =
                balancer.next(Subject { model: None, session: None, connection, copy: 0 })
            else {
                panic!("a session has one target")
            };
            counts[place] += 1;
        }
        assert!(counts.iter().all(|count| (60..140).contains(count)), "{counts:?}");
    }
}
