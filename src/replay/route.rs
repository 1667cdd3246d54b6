//! Where releases go: the targets in turn, each with its connections.
//!
//! A target has a client for each HTTP version that it is spoken to in: one, but two when every exchange goes out in the
//! version in which it was recorded. Connections are opened ahead ([`Route::tend`]), so that a burst finds them ready.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use futures_util::future::join_all;

use crate::clock::Clock;
use crate::http::{Client, ClientOptions, Connects, Origin, Protocol, SendError};
use crate::trace::record::Version;

/// The targets, in the order in which they were named.
#[derive(Clone)]
pub struct Route {
    targets: Vec<Lane>,
    /// Idle connections to keep ready for each target.
    spare: usize,
}

/// How targets are spoken to.
#[derive(Clone, Debug)]
pub struct RouteOptions {
    /// The version of HTTP.
    pub speak: Speak,
    /// Longest time to open a connection.
    pub connect_timeout: Duration,
    /// TLS settings, for targets with `https`.
    pub tls: Option<Arc<rustls::ClientConfig>>,
    /// Idle connections to keep ready for each target.
    pub spare: usize,
}

/// Which version of HTTP targets are spoken to in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Speak {
    /// What ALPN chooses; HTTP/1.1 without TLS.
    #[default]
    Auto,
    /// HTTP/1.1.
    Http1,
    /// HTTP/2; without TLS by prior knowledge.
    Http2,
    /// Each exchange as its client spoke when it was recorded.
    Recorded,
}

/// One target.
#[derive(Clone)]
struct Lane {
    url: Arc<str>,
    client: Client,
    /// Times of the connects of all its clients.
    connects: Connects,
    /// For exchanges recorded in HTTP/2, where that is asked for.
    http2: Option<Client>,
}

/// A target that can't be reached.
#[derive(Debug, thiserror::Error)]
#[error("target {url} can't be reached")]
pub struct Unreachable {
    /// Its base URL.
    pub url: Arc<str>,
    /// Why not.
    pub source: SendError,
}

/// Longest time that an idle connection is kept: longer than most servers keep theirs, since the server's word counts.
const IDLE_CONNECTION: Duration = Duration::from_secs(300);
/// Most idle connections to a target.
const MAX_IDLE: usize = 4_096;
/// Connections that are opened one after the other to see what a round trip takes.
const CONNECTS: usize = 5;
/// How often spare connections are counted and topped up.
const TOP_UP: Duration = Duration::from_millis(5);
/// How long a target that refused a connection is left alone.
const REFUSED: Duration = Duration::from_millis(250);

// === impl Speak ===

impl Speak {
    /// Returns what it comes to when exchanges were recorded in (HTTP/1, HTTP/2) or not: nothing is opened for a version that
    /// nobody spoke.
    #[must_use]
    pub fn narrow(self, (http1, http2): (bool, bool)) -> Self {
        match (self, http1, http2) {
            (Self::Recorded, true, false) => Self::Http1,
            (Self::Recorded, false, true) => Self::Http2,
            _ => self,
        }
    }
}

// === impl Route ===

impl Route {
    /// Makes the route; nothing is opened yet. Connections of all targets are numbered in one sequence.
    #[must_use]
    pub fn new(targets: &[Origin], options: &RouteOptions, clock: Clock) -> Self {
        let numbers = Arc::new(AtomicU64::new(0));
        let client = |origin: &Origin, protocol, connects: &Connects| {
            let options = ClientOptions {
                connect_timeout: options.connect_timeout,
                protocol,
                tls: options.tls.clone(),
                max_idle: MAX_IDLE,
                idle_timeout: IDLE_CONNECTION,
                stamp_reads: true,
                connects: Some(connects.clone()),
                ..ClientOptions::default()
            };
            Client::numbered(origin.clone(), options, clock, Arc::clone(&numbers))
        };
        let lane = |origin: &Origin| {
            let (first, second) = match options.speak {
                Speak::Auto => (Protocol::Auto, None),
                Speak::Http1 => (Protocol::Http1, None),
                Speak::Http2 => (Protocol::Http2, None),
                Speak::Recorded => (Protocol::Http1, Some(Protocol::Http2)),
            };
            let connects = Connects::default();
            Lane {
                url: origin.to_string().into(),
                client: client(origin, first, &connects),
                http2: second.map(|protocol| client(origin, protocol, &connects)),
                connects,
            }
        };
        Self { targets: targets.iter().map(lane).collect(), spare: options.spare }
    }

    /// Returns the base URL and the client for the release `number`, that was recorded in `version`: the targets in turn.
    #[must_use]
    pub fn choose(&self, number: u64, version: Version) -> (Arc<str>, Client) {
        let turn = number % self.targets.len().max(1) as u64;
        let lane = &self.targets[usize::try_from(turn).unwrap_or_default()];
        let client = match (&lane.http2, version) {
            (Some(http2), Version::Http2) => http2,
            _ => &lane.client,
        };
        (Arc::clone(&lane.url), client.clone())
    }

    /// Opens connections to each target, in each version that it is spoken to in: some, for their times.
    ///
    /// # Errors
    /// A target can't be reached.
    pub async fn open(&self) -> Result<(), Unreachable> {
        for lane in &self.targets {
            for client in lane.clients() {
                for _ in 0..CONNECTS {
                    client
                        .connect()
                        .await
                        .map_err(|source| Unreachable { url: Arc::clone(&lane.url), source })?;
                }
            }
        }
        Ok(())
    }

    /// Returns the times of the TCP connects to each target so far.
    #[must_use]
    pub fn connects(&self) -> Vec<Vec<Duration>> {
        self.targets.iter().map(|lane| lane.connects.times()).collect()
    }

    /// Keeps the spare connections of every target ready. Never returns.
    pub async fn tend(&self) {
        join_all(self.targets.iter().map(|lane| lane.tend(self.spare))).await;
    }

    /// Returns the base URLs.
    pub fn urls(&self) -> impl Iterator<Item = &str> {
        self.targets.iter().map(|lane| &*lane.url)
    }
}

// === impl Lane ===

impl Lane {
    fn clients(&self) -> impl Iterator<Item = &Client> {
        std::iter::once(&self.client).chain(&self.http2)
    }

    /// Tops up the spare connections for ever. A target that refuses is asked again later: its exchanges say that it does.
    async fn tend(&self, spare: usize) {
        loop {
            let mut pause = TOP_UP;
            for client in self.clients() {
                // An HTTP/2 connection is shared, and counts as any number.
                while client.spare() < spare {
                    if client.connect().await.is_err() {
                        pause = REFUSED;
                        break;
                    }
                }
            }
            tokio::time::sleep(pause).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_take_turns_in_the_order_named() {
        let targets: Vec<Origin> = ["http://a:1", "http://b:2/v1", "http://c:3"]
            .iter()
            .map(|url| url.parse().unwrap())
            .collect();
        let options = RouteOptions {
            speak: Speak::Recorded,
            connect_timeout: Duration::from_secs(1),
            tls: None,
            spare: 1,
        };
        let route = Route::new(&targets, &options, Clock::start());
        let urls: Vec<_> = (0..5).map(|number| route.choose(number, Version::Http2).0).collect();
        assert_eq!(
            urls.iter().map(|url| &**url).collect::<Vec<_>>(),
            ["http://a:1", "http://b:2/v1", "http://c:3", "http://a:1", "http://b:2/v1"]
        );
        assert_eq!(route.urls().count(), 3);
    }
}
