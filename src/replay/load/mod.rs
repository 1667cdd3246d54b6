//! Reactive loads: when a release is due follows from the ends of others.
//!
//! A load is a pure state machine: it has no clock and no thread, is told of ends, and answers with [`Token`]s. The
//! conductor ([`crate::replay::conductor`]) turns tokens into releases. What a load is told in one order it answers in the
//! same way for ever; only the order and the times of the ends are the target's.
//!
//! | file | load |
//! |---|---|
//! | [`bursts`] | so many at once, the next so many when all of these have ended |
//! | [`closed`] | a closed loop: as many in flight as there are slots, while work remains |
//! | [`sessions`] | each turn of a session waits for the one before it |
//! | [`steps`] | stages of which some keep so many in flight |
//! | [`users`] | users who send, think ([`think`]), and send again |

pub mod bursts;
pub mod closed;
pub mod sessions;
pub mod steps;
pub mod think;
pub mod users;

use crate::clock::Nanos;
use crate::replay::plan::Release;

pub use bursts::Bursts;
pub use closed::ClosedLoop;
pub use sessions::Sessions;
pub use steps::Steps;
pub use think::{Think, ThinkError};
pub use users::Users;

/// Leave to release one exchange.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Token {
    /// Which one, as its place among the plan's entries; none: the next one in the plan's order. All tokens of a load are of
    /// one kind, the one that [`Load::picks`] says.
    pub entry: Option<usize>,
    /// When it is due, since the run's start: the time at which its condition was met, not that at which this was noticed.
    pub due: Nanos,
    /// The stage or burst that it belongs to, if there are any: [`Release::stage`].
    pub stage: Option<u32>,
    /// The user who sends it, or the slot of a stage that it takes, if there are any: [`Release::user`].
    pub user: Option<u32>,
}

/// Which exchanges the tokens of a load are for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Picks {
    /// Whatever is next in the plan's order: requests are made ready ahead, before a token is there for them. An exchange
    /// that can't be made ready is passed over: the token is for the one after it.
    #[default]
    InOrder,
    /// The one that the token names: its request is made ready once the token is known. The first token for an entry is
    /// round 0, the next one round 1. An exchange that can't be made ready ends when it is due.
    Named,
}

/// A reactive load.
pub trait Load: Send {
    /// Returns the tokens that are there from the beginning, at `at`.
    fn begin(&mut self, at: Nanos) -> Vec<Token>;

    /// Returns the tokens that follow from the end of `release` at `at`, whatever became of it: a release that failed has
    /// ended like any other.
    fn ended(&mut self, release: &Release, at: Nanos) -> Vec<Token>;

    /// Returns which exchanges its tokens are for.
    fn picks(&self) -> Picks {
        Picks::InOrder
    }
}
