//! The server: from a listener to the end.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::service::service_fn;
use tokio::net::TcpListener;

use super::engine::Engine;
use super::options::SimulateOptions;
use super::service::serve;
use crate::clock::Clock;
use crate::http::server;

/// Serves simulated answers on `listener` until `shutdown`, and then for `deadline` what was begun.
///
/// # Errors
/// The system has no thread left for the timer.
pub async fn run(
    listener: TcpListener,
    http: server::ServerOptions,
    options: SimulateOptions,
    clock: Clock,
    shutdown: impl Future<Output = ()>,
    deadline: Duration,
) -> io::Result<server::Drained> {
    let engine = Engine::start(options, clock)?;
    let make = move |client: server::Accepted| {
        let engine = Arc::clone(&engine);
        service_fn(move |request: http::Request<Incoming>| {
            serve(Arc::clone(&engine), client.outlet.clone(), request)
        })
    };
    Ok(server::run(listener, http, make, shutdown, deadline).await)
}
