//! What is known of a recorded exchange before it is replayed: little enough to be held for a whole trace. The rest is in
//! its [`Memo`](crate::replay::memo::Memo).

use crate::clock::Nanos;
use crate::replay::memo::MemoId;
use crate::replay::session::Turn;
use crate::results::rows::Measurement;
use crate::trace::record::ExchangeId;

/// An exchange that can be replayed, some 90 bytes of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Known {
    /// Its number in the trace.
    pub id: ExchangeId,
    /// When its request was recorded.
    pub at: Nanos,
    /// When it starts for the plan: as recorded, unless the load was scaled.
    pub start: Nanos,
    /// Its place in its session.
    pub turn: Turn,
    /// Which copy of its session it belongs to; 0 for the recorded one.
    pub copy: u32,
    /// How often its session is played, at least 1.
    pub copies: u32,
    /// The connection that it came on.
    pub connection: u64,
    /// Bytes of its request body.
    pub request_bytes: u64,
    /// Where the rest is.
    pub memo: MemoId,
}

/// Makes the one exchange that tests change: number `id`, alone in a session of the same number, started at `start` ns.
#[cfg(test)]
pub(in crate::replay) fn known(id: u64, start: u64) -> Known {
    Known {
        id: ExchangeId(id),
        at: Nanos(start),
        start: Nanos(start),
        turn: Turn { session: u32::try_from(id).unwrap(), turn: 1, ..Turn::default() },
        copy: 0,
        copies: 1,
        connection: 1,
        request_bytes: 2,
        memo: MemoId::default(),
    }
}

// === impl Known ===

impl Known {
    /// Returns the round that its row names when it is released in `round`: each copy of an exchange has rounds of its own, so
    /// that exchange and round tell rows apart.
    #[must_use]
    pub fn round(&self, round: u32) -> u32 {
        round.saturating_mul(self.copies).saturating_add(self.copy)
    }

    /// Puts its time into a row, and its place in a session where one was found.
    pub fn put(&self, row: &mut Measurement) {
        if let Some(session) = &self.turn.name {
            row.session = Some(session.to_string());
            row.turn = Some(self.turn.turn);
        }
        row.recorded_at_ns = Some(self.at.as_i64());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A replay holds one for each exchange of its trace: what a field adds here, a million exchanges take in megabytes.
    #[test]
    fn what_is_held_of_each_exchange_is_small() {
        assert!(size_of::<Known>() <= 88, "{} bytes", size_of::<Known>());
    }
}
