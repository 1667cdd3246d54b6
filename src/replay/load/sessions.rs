//! Sessions: each turn waits for the one before it, as the person (or the program) did who was recorded.
//!
//! The first turn of a session is due at its recorded time, divided by the speed. A later one is due when the turn before it
//! has ended plus the recorded think time ([`Turn::think`](crate::replay::session::Turn)), divided by the speed; with
//! [`Clock::Hybrid`] not before its own recorded time, divided by the speed. So a slower target stretches a session, and
//! is not sent a question whose answer before has not come.
//!
//! Whatever becomes of a turn, it has ended: a failed one, and one that can't be sent, does not stall its session. When a
//! session is over, its next round begins, not before its time.

use std::collections::BTreeMap;

use crate::clock::Nanos;
use crate::replay::dues::scale;
use crate::replay::known::Known;
use crate::replay::load::{Load, Picks, Token};
use crate::replay::plan::Release;

/// What a later turn of a session waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// The end of the turn before it plus the think time.
    Session,
    /// That, and its recorded time.
    Hybrid,
}

/// How sessions are played.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SessionOptions {
    /// What later turns wait for.
    pub clock: Clock,
    /// How much faster: recorded times and think times are divided by it.
    pub speed: f64,
    /// How often each session is played.
    pub rounds: u32,
    /// Recorded time from one round to the next.
    pub period: u64,
}

/// Sessions, each with at most one turn in flight.
#[derive(Clone, Debug)]
pub struct Sessions {
    options: SessionOptions,
    /// By the place of the exchange.
    turns: Vec<Turn>,
    /// The first turns, in the order of their starts.
    firsts: Vec<usize>,
    begin: Nanos,
}

/// A turn, as far as its time goes.
#[derive(Clone, Copy, Debug)]
struct Turn {
    /// The turn after it.
    next: Option<usize>,
    /// The first turn of its session.
    first: usize,
    /// Start, since the first of all.
    offset: u64,
    think: u64,
}

// === impl Sessions ===

impl Sessions {
    /// Makes the load of these exchanges, which are in the order of their starts.
    #[must_use]
    pub fn new(known: &[Known], options: SessionOptions) -> Self {
        let begin = known.first().map_or(0, |known| known.start.0);
        let mut turns: Vec<Turn> = Vec::with_capacity(known.len());
        let mut firsts = Vec::new();
        let mut last: BTreeMap<u32, usize> = BTreeMap::new();
        for (entry, known) in known.iter().enumerate() {
            let first = match last.insert(known.turn.session, entry) {
                Some(before) => {
                    turns[before].next = Some(entry);
                    turns[before].first
                }
                None => {
                    firsts.push(entry);
                    entry
                }
            };
            let offset = known.start.0.saturating_sub(begin);
            turns.push(Turn { next: None, first, offset, think: known.turn.think.0 });
        }
        Self { options, turns, firsts, begin: Nanos::ZERO }
    }

    /// Returns the recorded time of a turn in a round, as the speed has it.
    fn recorded(&self, entry: usize, round: u32) -> Nanos {
        let rounds = u64::from(round).saturating_mul(self.options.period);
        let at = rounds.saturating_add(self.turns[entry].offset);
        Nanos(self.begin.0.saturating_add(scale(at, self.options.speed)))
    }

    /// Returns when the turn `next` is due if the one before it ended at `at`.
    fn due(&self, next: usize, round: u32, at: Nanos) -> Nanos {
        let think = scale(self.turns[next].think, self.options.speed);
        let due = Nanos(at.0.saturating_add(think));
        match self.options.clock {
            Clock::Session => due,
            Clock::Hybrid => due.max(self.recorded(next, round)),
        }
    }
}

impl Load for Sessions {
    fn begin(&mut self, at: Nanos) -> Vec<Token> {
        self.begin = at;
        let token = |entry: &usize| token(*entry, self.recorded(*entry, 0));
        self.firsts.iter().map(token).collect()
    }

    fn ended(&mut self, release: &Release, at: Nanos) -> Vec<Token> {
        let Some(turn) = self.turns.get(release.entry) else { return Vec::new() };
        let round = release.round + 1;
        match turn.next {
            Some(next) => vec![token(next, self.due(next, release.round, at))],
            None if round < self.options.rounds => {
                vec![token(turn.first, at.max(self.recorded(turn.first, round)))]
            }
            None => Vec::new(),
        }
    }

    fn picks(&self) -> Picks {
        Picks::Named
    }
}

fn token(entry: usize, due: Nanos) -> Token {
    Token { entry: Some(entry), due, ..Token::default() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::replay::known::known;

    /// Exchanges that start at these times, each in this session, after this think time.
    fn recorded(starts: &[(u64, u32, u64)]) -> Vec<Known> {
        let with = |(id, &(start, session, think)): (u64, &(u64, u32, u64))| {
            let mut known = known(id, start);
            (known.turn.session, known.turn.think) = (session, Nanos(think));
            known
        };
        (1..).zip(starts).map(with).collect()
    }

    fn options(clock: Clock, speed: f64, rounds: u32) -> SessionOptions {
        SessionOptions { clock, speed, rounds, period: 1_000 }
    }

    /// Plays the load against a target that takes `took(entry)` for each, and returns what was released: entry, round, due, end.
    fn play(
        known: &[Known],
        options: SessionOptions,
        took: impl Fn(usize) -> u64,
    ) -> Vec<(usize, u32, u64, u64)> {
        let mut load = Sessions::new(known, options);
        let mut rounds = vec![0; known.len()];
        let mut in_flight = BTreeMap::new();
        let mut played = Vec::new();
        let mut tokens = load.begin(Nanos(100));
        loop {
            for token in tokens {
                let entry = token.entry.unwrap();
                let release =
                    Release { entry, round: rounds[entry], due: token.due, ..Release::default() };
                rounds[entry] += 1;
                let end = token.due.0 + took(entry);
                in_flight.insert((end, entry), release);
                played.push((entry, release.round, token.due.0, end));
            }
            let Some(((end, _), release)) = in_flight.pop_first() else { return played };
            tokens = load.ended(&release, Nanos(end));
        }
    }

    /// Checks the due times, as `entry@due`, `entry/round@due` in later rounds, where each exchange takes 50.
    fn check(starts: &[(u64, u32, u64)], options: SessionOptions, expected: &str) {
        let seen: Vec<String> = play(&recorded(starts), options, |_| 50)
            .iter()
            .map(|(entry, round, due, _)| match round {
                0 => format!("{entry}@{due}"),
                round => format!("{entry}/{round}@{due}"),
            })
            .collect();
        assert_eq!(seen.join(" "), expected);
    }

    const TALK: [(u64, u32, u64); 4] = [(7, 0, 0), (27, 1, 0), (47, 0, 20), (300, 0, 30)];

    #[test]
    fn a_turn_waits_for_the_end_of_the_one_before_it_and_thinks() {
        check(&TALK, options(Clock::Session, 1.0, 1), "0@100 1@120 2@170 3@250");
        check(&TALK, options(Clock::Session, 2.0, 1), "0@100 1@110 2@160 3@225");
    }

    #[test]
    fn a_hybrid_turn_is_never_before_its_recorded_time() {
        check(&TALK, options(Clock::Hybrid, 1.0, 1), "0@100 1@120 2@170 3@393");
        check(&TALK, options(Clock::Hybrid, 0.5, 1), "0@100 1@140 2@190 3@686");
    }

    #[test]
    fn a_round_begins_when_the_one_before_is_over_and_its_time_has_come() {
        let slow = SessionOptions { period: 60, ..options(Clock::Session, 1.0, 2) };
        check(&TALK[..2], options(Clock::Session, 1.0, 2), "0@100 1@120 0/1@1100 1/1@1120");
        check(&TALK, slow, "0@100 1@120 2@170 1/1@180 3@250 0/1@300 2/1@370 3/1@450");
    }

    proptest! {
        #[test]
        fn sessions_never_overlap_their_own_turns_and_play_them_all_in_order(
            starts in proptest::collection::vec((0_u64..5_000, 0_u32..6, 0_u64..400), 1..60),
            took in proptest::collection::vec(0_u64..900, 60),
            hybrid in any::<bool>(),
            speed in 0.2_f64..8.0,
            rounds in 1_u32..4,
        ) {
            let mut starts = starts;
            starts.sort_unstable();
            let known = recorded(&starts);
            let clock = if hybrid { Clock::Hybrid } else { Clock::Session };
            let options = options(clock, speed, rounds);
            let played = play(&known, options, |entry| took[entry]);
            prop_assert_eq!(&played, &play(&known, options, |entry| took[entry]));
            prop_assert_eq!(played.len(), known.len() * rounds as usize);
            let begin = known[0].start.0;
            for session in 0..6 {
                let turns: Vec<_> =
                    played.iter().filter(|(entry, ..)| known[*entry].turn.session == session).collect();
                for pair in turns.windows(2) {
                    let [(before, r, _, end), (after, s, due, _)] = pair else { unreachable!() };
                    prop_assert!((r, before) < (s, after), "in order");
                    prop_assert!(due >= end, "they overlap");
                    let think = scale(known[*after].turn.think.0, speed);
                    prop_assert!(r != s || *due >= end + think);
                }
                for (entry, round, due, _) in turns {
                    let own = u64::from(*round) * options.period + known[*entry].start.0 - begin;
                    let is_first = !known[..*entry].iter().any(|known| known.turn.session == session);
                    prop_assert!(!(hybrid || is_first) || *due >= 100 + scale(own, speed));
                }
            }
        }
    }
}
