//! Opening a connection: name resolution, TCP, TLS, each timed, all within one timeout.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::ServerName;
use tokio::net::{TcpStream, lookup_host};

use crate::clock::Clock;
use crate::http::error::{SendError, classify, describe};
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

/// Opens a connection to `origin`.
pub(super) async fn open(
    origin: &Origin,
    tls: Option<&Arc<rustls::ClientConfig>>,
    timeout: Duration,
    clock: Clock,
) -> Result<Opened, SendError> {
    match tokio::time::timeout(timeout, open_untimed(origin, tls, clock)).await {
        Ok(opened) => opened,
        Err(_elapsed) => Err(SendError::unsent(
            FaultKind::Timeout,
            format!("no connection to {origin} within {} ms", timeout.as_millis()),
        )),
    }
}

async fn open_untimed(
    origin: &Origin,
    tls: Option<&Arc<rustls::ClientConfig>>,
    clock: Clock,
) -> Result<Opened, SendError> {
    let begun = clock.now();
    let socket = connect_any(origin, &resolve(origin).await?).await?;
    // Without it a small frame waits for the acknowledgment of the one before.
    socket.set_nodelay(true).map_err(|error| {
        SendError::unsent(FaultKind::Connect, format!("can't set TCP_NODELAY: {error}"))
    })?;
    let connected = clock.now();
    let stream = match (origin.scheme, tls) {
        (Scheme::Http, _) => Stream::plain(socket),
        (Scheme::Https, Some(config)) => shake_hands(origin, config, socket).await?,
        (Scheme::Https, None) => {
            let text = format!("{origin} needs TLS, and no roots are configured");
            return Err(SendError::unsent(FaultKind::Tls, text));
        }
    };
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

/// Connects to the first address that answers, in the resolver's order.
async fn connect_any(origin: &Origin, addresses: &[SocketAddr]) -> Result<TcpStream, SendError> {
    let mut failures = Vec::new();
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(socket) => return Ok(socket),
            Err(error) => failures.push(format!("{address}: {error}")),
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
