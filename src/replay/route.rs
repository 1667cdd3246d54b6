//! Where releases go: the targets, each with its connections. Which target gets which release is [`balance`]'s to say.
//!
//! A target has a client for each HTTP version that it is spoken to in: one, but two when every exchange goes out in the
//! version in which it was recorded. Connections are opened ahead ([`Route::tend`]), so that a burst finds them ready.
//!
//! [`balance`]: crate::replay::balance

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::join_all;

use crate::clock::Clock;
use crate::http::{Client, ClientOptions, Connects, Origin, Protocol, SendError};
use crate::replay::balance::Course;
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
    traffic: Arc<Traffic>,
}

/// What a target has to do.
#[derive(Debug, Default)]
struct Traffic {
    /// Calls in flight.
    outstanding: AtomicU64,
    /// Calls so far.
    calls: AtomicU64,
}

/// The ways that one call may take: one, or the choice when the call is made.
#[derive(Clone)]
pub struct Destination {
    first: Passage,
    others: Vec<Passage>,
}

/// A target, as rows name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its place in the order of the targets.
    pub index: usize,
    /// Its base URL.
    pub url: Arc<str>,
}

/// A way to a target.
#[derive(Clone)]
struct Passage {
    place: Place,
    client: Client,
    traffic: Arc<Traffic>,
}

/// A call on its way, which counts as in flight until this is dropped.
pub struct Aboard(Passage);

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
                traffic: Arc::default(),
            }
        };
        Self { targets: targets.iter().map(lane).collect(), spare: options.spare }
    }

    /// Returns where the calls of a release go that was recorded in `version`: one call, or one for each target.
    #[must_use]
    pub fn destinations(&self, course: &Course, version: Version) -> Vec<Destination> {
        let mut passages = course.places().iter().map(|place| self.passage(*place, version));
        match course {
            Course::All(_) | Course::One(_) => {
                passages.map(|first| Destination { first, others: Vec::new() }).collect()
            }
            Course::Least(_) => {
                let least = passages.next();
                least
                    .map(|first| Destination { first, others: passages.collect() })
                    .into_iter()
                    .collect()
            }
        }
    }

    /// Returns the connections of the target at `index`, for what was recorded in `version`.
    ///
    /// # Panics
    /// There is no such target.
    #[must_use]
    pub fn client(&self, index: usize, version: Version) -> Client {
        self.passage(index, version).client
    }

    fn passage(&self, index: usize, version: Version) -> Passage {
        let lane = &self.targets[index];
        let client = match (&lane.http2, version) {
            (Some(http2), Version::Http2) => http2,
            _ => &lane.client,
        };
        Passage {
            place: Place { index, url: Arc::clone(&lane.url) },
            client: client.clone(),
            traffic: Arc::clone(&lane.traffic),
        }
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
}

// === impl Place ===

impl Place {
    /// Returns the index as rows hold it.
    #[must_use]
    pub fn column(&self) -> u32 {
        u32::try_from(self.index).unwrap_or(u32::MAX)
    }
}

// === impl Destination ===

impl Destination {
    /// Chooses the way of a call that begins now: the one with the fewest calls in flight, of equals the one that had the
    /// fewest so far, of these the first.
    #[must_use]
    pub fn board(self) -> Aboard {
        let less = |best: Passage, other: Passage| {
            if other.traffic.key() < best.traffic.key() { other } else { best }
        };
        let passage = self.others.into_iter().fold(self.first, less);
        passage.traffic.outstanding.fetch_add(1, Ordering::Relaxed);
        passage.traffic.calls.fetch_add(1, Ordering::Relaxed);
        Aboard(passage)
    }

    /// Returns the same ways with other clients: `client` is told the target's place and the client that it has.
    #[must_use]
    pub fn with_clients(self, mut client: impl FnMut(usize, &Client) -> Client) -> Self {
        let mut changed = |passage: Passage| Passage {
            client: client(passage.place.index, &passage.client),
            ..passage
        };
        Self { first: changed(self.first), others: self.others.into_iter().map(changed).collect() }
    }

    /// Returns the client of a call that has no choice.
    #[must_use]
    pub fn sole_client(&self) -> Option<&Client> {
        self.others.is_empty().then_some(&self.first.client)
    }

    /// Returns the target that a call without choice has, or the first of the others.
    #[must_use]
    pub fn first(&self) -> &Place {
        &self.first.place
    }
}

// === impl Aboard ===

impl Aboard {
    /// Returns the target.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.0.place
    }

    /// Returns its connections.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.0.client
    }
}

impl Drop for Aboard {
    fn drop(&mut self) {
        self.0.traffic.outstanding.fetch_sub(1, Ordering::Relaxed);
    }
}

// === impl Traffic ===

impl Traffic {
    fn key(&self) -> (u64, u64) {
        (self.outstanding.load(Ordering::Relaxed), self.calls.load(Ordering::Relaxed))
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

    fn route(urls: &[&str]) -> Route {
        let targets: Vec<Origin> = urls.iter().map(|url| url.parse().unwrap()).collect();
        let options = RouteOptions {
            speak: Speak::Recorded,
            connect_timeout: Duration::from_secs(1),
            tls: None,
            spare: 1,
        };
        Route::new(&targets, &options, Clock::start())
    }

    #[test]
    fn a_course_leads_to_its_targets() {
        let route = route(&["http://a:1", "http://b:2/v1", "http://c:3"]);
        let urls = |course: Course| -> Vec<String> {
            route
                .destinations(&course, Version::Http2)
                .into_iter()
                .map(|destination| destination.board().place().url.to_string())
                .collect()
        };
        assert_eq!(urls(Course::One(1)), ["http://b:2/v1"]);
        assert_eq!(urls(Course::All([0, 2].into())), ["http://a:1", "http://c:3"]);
        // All three have had one call, and none has any in flight.
        assert_eq!(urls(Course::Least([1, 2].into())), ["http://b:2/v1"]);
    }

    #[test]
    fn the_least_outstanding_is_known_when_a_call_begins() {
        let route = route(&["http://a:1", "http://b:2"]);
        let board = || {
            let course = Course::Least([0, 1].into());
            route.destinations(&course, Version::Http11).remove(0).board()
        };
        let mut calls: Vec<Aboard> = (0..4).map(|_| board()).collect();
        let places: Vec<usize> = calls.iter().map(|call| call.place().index).collect();
        assert_eq!(places, [0, 1, 0, 1]);
        drop((calls.remove(2), calls.remove(0)));
        // The first target has answered both of its calls, the second none.
        let later: Vec<Aboard> = (0..3).map(|_| board()).collect();
        assert_eq!(later.iter().map(|call| call.place().index).collect::<Vec<_>>(), [0, 0, 1]);
        drop(calls);
    }
}
