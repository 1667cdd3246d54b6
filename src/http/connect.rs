//! Opening a connection: name resolution, TCP, TLS, each timed, all within one timeout.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls_pki_types::ServerName;
use tokio::net::{TcpStream, lookup_host};
use tokio::sync::Semaphore;

use crate::clock::Clock;
use crate::http::error::{SendError, classify, describe};
use crate::http::options::ClientOptions;
use crate::http::origin::{Origin, Scheme};
use crate::http::stream::Stream;
use crate::trace::record::FaultKind;

/// An open connection, and what opening it took.
pub(super) struct Opened {
    pub(super) stream: Stream,
    /// Name resolution and TCP connect.
    pub(super) connect: Duration,
    /// TLS handshake, zero without TLS.
    pub(super) tls: Duration,
}

/// How many connections there may be at once. Clones share it.
#[derive(Clone, Debug)]
pub struct Budget(Arc<Semaphore>);

/// Times of TCP connects, each about one round trip of the network: of the attempt that came through, without name
/// resolution. Clones share them; the first [`Connects::MOST`] are kept.
#[derive(Clone, Debug, Default)]
pub struct Connects(Arc<Mutex<Vec<Duration>>>);

/// Opens a connection to `origin`. Its name is resolved anew each time, and each of its addresses is tried in turn.
pub(super) async fn open(
    origin: &Origin,
    options: &ClientOptions,
    clock: Clock,
) -> Result<Opened, SendError> {
    let timeout = options.connect_timeout;
    let opening = async {
        let place = match &options.budget {
            Some(budget) => Arc::clone(&budget.0).acquire_owned().await.ok(),
            None => None,
        };
        let mut opened = open_untimed(origin, options, clock).await?;
        opened.stream.hold(place);
        Ok(opened)
    };
    match tokio::time::timeout(timeout, opening).await {
        Ok(opened) => opened,
        Err(_elapsed) => {
            let is_spent = options.budget.as_ref().is_some_and(Budget::is_spent);
            let why = if is_spent { ": all that there may be are in use" } else { "" };
            let text = format!("no connection to {origin} within {} ms{why}", timeout.as_millis());
            Err(SendError::unsent(FaultKind::Timeout, text))
        }
    }
}

async fn open_untimed(
    origin: &Origin,
    options: &ClientOptions,
    clock: Clock,
) -> Result<Opened, SendError> {
    let begun = clock.now();
    let addresses = resolve(origin).await?;
    let socket = connect_any(origin, &addresses, options, clock).await?;
    // Without it a small frame waits for the acknowledgment of the one before.
    socket.set_nodelay(true).map_err(|error| {
        SendError::unsent(FaultKind::Connect, format!("can't set TCP_NODELAY: {error}"))
    })?;
    let connected = clock.now();
    let mut stream = match (origin.scheme, &options.tls) {
        (Scheme::Http, _) => Stream::plain(socket),
        (Scheme::Https, Some(config)) => shake_hands(origin, config, socket).await?,
        (Scheme::Https, None) => {
            let text = format!("{origin} needs TLS, and no roots are configured");
            return Err(SendError::unsent(FaultKind::Tls, text));
        }
    };
    if options.stamp_reads {
        stream.stamp_reads(clock);
    }
    Ok(Opened { stream, connect: connected - begun, tls: clock.now() - connected })
}

async fn resolve(origin: &Origin) -> Result<Vec<SocketAddr>, SendError> {
    let failed = |reason: String| {
        SendError::unsent(FaultKind::Dns, format!("can't resolve `{}`: {reason}", origin.host))
    };
    let addresses: Vec<_> = lookup_host((origin.host.as_str(), origin.port))
        .await
        .map_err(|error| failed(error.to_string()))?
        .collect();
    if addresses.is_empty() { Err(failed("no address".to_owned())) } else { Ok(addresses) }
}

/// Connects to the first address that answers, in the resolver's order. One that keeps silent leaves the others their
/// share of the timeout.
async fn connect_any(
    origin: &Origin,
    addresses: &[SocketAddr],
    options: &ClientOptions,
    clock: Clock,
) -> Result<TcpStream, SendError> {
    let share = options.connect_timeout / u32::try_from(addresses.len()).unwrap_or(u32::MAX);
    let mut failures = Vec::new();
    for address in addresses {
        let begun = clock.now();
        match tokio::time::timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(socket)) => {
                if let Some(connects) = &options.connects {
                    connects.add(clock.now() - begun);
                }
                return Ok(socket);
            }
            Ok(Err(error)) => failures.push(format!("{address}: {error}")),
            Err(_elapsed) => {
                failures.push(format!("{address}: silent for {} ms", share.as_millis()));
            }
        }
    }
    let text = format!("can't connect to {origin}: {}", failures.join("; "));
    Err(SendError::unsent(FaultKind::Connect, text))
}

async fn shake_hands(
    origin: &Origin,
    config: &Arc<rustls::ClientConfig>,
    socket: TcpStream,
) -> Result<Stream, SendError> {
    let name = ServerName::try_from(origin.host.clone()).map_err(|error| {
        SendError::unsent(
            FaultKind::Tls,
            format!("`{}` can't be in a certificate: {error}", origin.host),
        )
    })?;
    let connector = tokio_rustls::TlsConnector::from(Arc::clone(config));
    match connector.connect(name, socket).await {
        Ok(stream) => Ok(Stream::tls_client(stream)),
        Err(error) => {
            let kind = match classify(&error) {
                FaultKind::Reset => FaultKind::Reset,
                _ => FaultKind::Tls,
            };
            let text = format!("TLS with {origin} failed: {}", describe(&error));
            Err(SendError::unsent(kind, text))
        }
    }
}

// === impl Connects ===

impl Connects {
    /// Times that are kept: enough for a median.
    pub const MOST: usize = 4_096;

    fn add(&self, time: Duration) {
        let mut times = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if times.len() < Self::MOST {
            times.push(time);
        }
    }

    /// Returns the times so far, in the order of the connects.
    #[must_use]
    pub fn times(&self) -> Vec<Duration> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

// === impl Budget ===

impl Budget {
    /// Allows so many connections at once.
    #[must_use]
    pub fn new(connections: usize) -> Self {
        Self(Arc::new(Semaphore::new(connections.min(Semaphore::MAX_PERMITS))))
    }

    fn is_spent(&self) -> bool {
        self.0.available_permits() == 0
    }
}
