//! Where `reenact record` listens, and how it leaves.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use tokio::net::TcpListener;

use crate::cli::UsageError;
use crate::http::server;

/// Where to listen, and how to leave
#[derive(Clone, Debug, Args)]
pub(super) struct ListenArgs {
    /// Address to listen on; port 0 takes a free one
    #[arg(long, value_name = "ADDR", env = "REENACT_LISTEN", default_value = "127.0.0.1:8080")]
    listen: String,
    /// Listen beside a process that listens here with the same flag, to take over from it without a gap
    #[arg(long, env = "REENACT_REUSE_PORT")]
    reuse_port: bool,
    /// How long exchanges under way may take to finish at the end
    #[arg(long, value_name = "TIME", env = "REENACT_DRAIN", default_value = "30s", value_parser = crate::cli::duration)]
    pub(super) drain: Duration,
}

/// How long an idle connection may bring one more request at the end, so that a client that is about to use it finds out
/// from an answer.
pub(super) const LINGER: Duration = Duration::from_secs(2);

// === impl ListenArgs ===

impl ListenArgs {
    /// Opens the listener. Must be called within a runtime.
    pub(super) fn listen(&self) -> anyhow::Result<TcpListener> {
        let address = &self.listen;
        let resolved = address.to_socket_addrs().ok().and_then(|mut found| found.next());
        let resolved = resolved.ok_or_else(|| {
            UsageError(format!(
                "`{address}` is no address to listen on; write it like 127.0.0.1:8080"
            ))
        })?;
        self.bind(resolved).with_context(|| format!("can't listen on {address}"))
    }

    /// Binds an address as the flags say.
    pub(super) fn bind(&self, address: SocketAddr) -> std::io::Result<TcpListener> {
        if self.reuse_port { server::bind_shared(address) } else { server::bind(address) }
    }
}
