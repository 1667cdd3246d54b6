//! The admin listener of `reenact record`: its flags, and how it is opened.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use anyhow::Context as _;
use clap::Args;
use http::Request;
use hyper::body::Incoming;
use tokio::net::TcpListener;

use crate::cli::UsageError;
use crate::http::side::SideListener;
use crate::proxy::Admin;

/// Health, status, metrics, recording on and off
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Admin")]
pub(super) struct AdminArgs {
    /// Where to answer /livez, /readyz, /status, /metrics and POST /recording/stop|start: a loopback address, or a
    /// Unix socket; nowhere without it
    #[arg(long, value_name = "ADDR|unix:PATH", env = "REENACT_ADMIN")]
    admin: Option<AdminAddress>,
    /// Let --admin be an address that others can reach; there is no authentication
    #[arg(long, env = "REENACT_ADMIN_PUBLIC", requires = "admin")]
    admin_public: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum AdminAddress {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// Has `admin` answer what comes to `listener`, for ever.
pub(super) async fn serve(listener: SideListener, admin: Arc<Admin>) {
    listener
        .serve(move |request: Request<Incoming>| {
            let admin = Arc::clone(&admin);
            // A body is not looked at: no question has one.
            async move { admin.answer(request.method(), request.uri().path(), request.headers()) }
        })
        .await;
}

// === impl AdminArgs ===

impl AdminArgs {
    /// Opens the listener, if one is asked for; `bind` binds a TCP address. Must be called within a runtime.
    pub(super) fn listen(
        &self,
        bind: impl FnOnce(SocketAddr) -> std::io::Result<TcpListener>,
    ) -> anyhow::Result<Option<SideListener>> {
        let Some(address) = &self.admin else { return Ok(None) };
        Ok(Some(match address {
            AdminAddress::Tcp(address) if !address.ip().is_loopback() && !self.admin_public => {
                return Err(UsageError(format!(
                    "--admin {address} can be reached from elsewhere, and there is no authentication; take a loopback \
                     address or unix:PATH, or say --admin-public"
                ))
                .into());
            }
            AdminAddress::Tcp(address) => SideListener::tcp(
                bind(*address).with_context(|| format!("can't listen on --admin {address}"))?,
            ),
            AdminAddress::Unix(path) => SideListener::unix(path)
                .with_context(|| format!("can't listen on --admin unix:{}", path.display()))?,
        }))
    }
}

// === impl AdminAddress ===

impl FromStr for AdminAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            return match Path::new(path).file_name() {
                Some(_) => Ok(Self::Unix(path.into())),
                None => {
                    Err("unix: needs the path of a socket, such as unix:/run/reenact.sock"
                        .to_owned())
                }
            };
        }
        let found = text.to_socket_addrs().ok().and_then(|mut found| found.next());
        found.map(Self::Tcp).ok_or_else(|| {
            format!(
                "`{text}` is no address; write it like 127.0.0.1:9091 or unix:/run/reenact.sock"
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_tcp_or_a_unix_socket() {
        let tcp = |text: &str| AdminAddress::Tcp(text.parse().unwrap());
        let unix = |path: &str| AdminAddress::Unix(path.into());
        for (text, expected) in [
            ("127.0.0.1:9091", Some(tcp("127.0.0.1:9091"))),
            ("[::1]:9091", Some(tcp("[::1]:9091"))),
            ("0.0.0.0:1", Some(tcp("0.0.0.0:1"))),
            ("unix:/run/a.sock", Some(unix("/run/a.sock"))),
            ("unix:a.sock", Some(unix("a.sock"))),
            ("unix:", None),
            ("unix:/", None),
            ("9091", None),
            ("", None),
        ] {
            assert_eq!(text.parse().ok(), expected, "{text}");
        }
    }
}
