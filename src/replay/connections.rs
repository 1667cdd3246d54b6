//! Connections: which calls share one.
//!
//! | policy | |
//! |---|---|
//! | [`Pooled`](Connections::Pooled) | whichever is idle; connections are kept ready, so that none is opened when a call is due |
//! | [`Recorded`](Connections::Recorded) | exchanges of one recorded connection share one |
//! | [`Session`](Connections::Session) | the turns of one session share one |
//! | [`New`](Connections::New) | each call has its own |
//!
//! Each group of calls has a client of its own, which keeps one connection. It is opened shortly before the first call of the
//! group is due ([`AHEAD`]), where that is known ahead, and closed when the last one is done. No call waits for another: one that
//! is due while an HTTP/1.1 connection still carries the one before it (the target is slower than the recorded one, or the
//! replay faster) gets a connection of its own, and its row says so (`connection_reused` is false). With HTTP/2 they share.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::http::Client;
use crate::replay::known::Known;
use crate::replay::plan::Release;
use crate::replay::route::Destination;

/// Which calls share a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Connections {
    /// None: each has its own.
    New,
    /// Any.
    #[default]
    Pooled,
    /// Those of one recorded connection.
    Recorded,
    /// Those of one session.
    Session,
}

/// A text that is none of [`Connections`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` says nothing of connections: say pooled, recorded, session or new")]
pub struct NoConnections(String);

/// Hands out the clients of calls, release by release.
pub struct Berths {
    policy: Connections,
    /// Releases to come of each group, in one round.
    sizes: BTreeMap<Group, u64>,
    /// The clients of groups of which more is to come, by target, and how much is.
    open: BTreeMap<(Group, u32, usize), (Client, u64)>,
}

/// Whether a call's connection has been there before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Berth {
    /// The first call of its group: its connection should be opened ahead.
    First,
    /// One of the others, or one that takes whatever is idle.
    Later,
}

/// What shares a connection: number and copy.
type Group = (u64, u32);

/// How long before the first call of a group is due its connection is opened.
pub const AHEAD: Duration = Duration::from_millis(50);

// === impl Connections ===

impl Connections {
    fn group(self, known: &Known) -> Group {
        match self {
            Self::Session => (u64::from(known.turn.session), known.copy),
            Self::New | Self::Pooled | Self::Recorded => (known.connection, known.copy),
        }
    }
}

impl FromStr for Connections {
    type Err = NoConnections;

    fn from_str(text: &str) -> Result<Self, NoConnections> {
        [Self::New, Self::Pooled, Self::Recorded, Self::Session]
            .into_iter()
            .find(|connections| connections.to_string() == text)
            .ok_or_else(|| NoConnections(text.to_owned()))
    }
}

impl fmt::Display for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::New => "new",
            Self::Pooled => "pooled",
            Self::Recorded => "recorded",
            Self::Session => "session",
        })
    }
}

// === impl Berths ===

impl Berths {
    /// Makes the berths of a plan over these exchanges.
    #[must_use]
    pub fn new(policy: Connections, known: &[Known]) -> Self {
        let mut sizes = BTreeMap::new();
        if matches!(policy, Connections::Recorded | Connections::Session) {
            for known in known {
                *sizes.entry(policy.group(known)).or_default() += 1;
            }
        }
        Self { policy, sizes, open: BTreeMap::new() }
    }

    /// Gives the call to `destination` the client that is its own by the policy.
    pub fn assign(
        &mut self,
        destination: Destination,
        release: &Release,
        known: &Known,
    ) -> (Destination, Berth) {
        let mut berth = Berth::Later;
        let destination = match self.policy {
            Connections::Pooled => destination,
            Connections::New => {
                berth = Berth::First;
                destination.with_clients(|_, client| client.lone_sibling())
            }
            Connections::Recorded | Connections::Session => {
                let group = self.policy.group(known);
                destination.with_clients(|place, client| {
                    let (own, one) = self.member((group, release.round, place), client);
                    berth = one;
                    own
                })
            }
        };
        (destination, berth)
    }

    fn member(&mut self, key: (Group, u32, usize), client: &Client) -> (Client, Berth) {
        let size = self.sizes.get(&key.0).copied().unwrap_or(1);
        let mut berth = Berth::Later;
        let (own, left) = self.open.entry(key).or_insert_with(|| {
            berth = Berth::First;
            (client.lone_sibling(), size)
        });
        let own = own.clone();
        *left = left.saturating_sub(1);
        if *left == 0 {
            // The calls that are on their way have it still; with the last of them the connection closes.
            self.open.remove(&key);
        }
        (own, berth)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_named_as_on_the_command_line() {
        for name in ["new", "pooled", "recorded", "session"] {
            assert_eq!(name.parse::<Connections>().unwrap().to_string(), name);
        }
        assert!("some".parse::<Connections>().unwrap_err().to_string().contains("say pooled"));
    }
}
