//! Serves one HTTP/2 connection.
//!
//! Abuse that is the protocol's own is met by the h2 crate: header sections without end, floods of `SETTINGS` and `PING`,
//! streams that are reset before they are accepted. Here are the limits that it is given, and what it does not know:
//! streams whose client takes nothing, or resets one after the other; connections that carry nothing.

use std::convert::Infallible;
use std::error::Error;
use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::watch;

use crate::http::limits::Limits;
use crate::http::outlet::Outlet;
use crate::http::stall::{Guard, Streams};
use crate::http::stream::Stream;
use crate::http::workers::{Around, Surrounded};

/// Spawns what an HTTP/2 connection consists of beside itself: its streams.
#[derive(Clone)]
struct StreamExecutor {
    around: Around,
    outlet: Outlet,
    limits: Limits,
    streams: Arc<Streams>,
}

/// How much of one HTTP/2 request body may be on its way before it is asked for.
const STREAM_WINDOW: u32 = 1 << 20;
/// The same for all request bodies on a connection.
const CONNECTION_WINDOW: u32 = 16 << 20;

/// Serves a connection to its end.
pub(super) async fn serve<S, B>(
    io: TokioIo<Stream>,
    service: S,
    mut stopped: watch::Receiver<()>,
    around: Around,
    outlet: Outlet,
    limits: Limits,
) where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Send,
    S::Future: Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let streams = Arc::new(Streams::default());
    let executor = StreamExecutor { around, outlet, limits, streams: Arc::clone(&streams) };
    let mut connection = pin!(
        http2::Builder::new(executor)
            .timer(TokioTimer::new())
            .auto_date_header(false)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_concurrent_streams(limits.max_streams)
            .max_header_list_size(limits.max_header_bytes)
            .serve_connection(io, service)
    );
    tokio::select! {
        _ended = connection.as_mut() => return,
        // Dropped with all that it carries.
        () = streams.flooded() => return,
        _ = stopped.changed() => connection.as_mut().graceful_shutdown(),
        () = streams.idle(limits.keep_alive) => {
            connection.as_mut().graceful_shutdown();
            // A client that does not hear of it has had its time.
            let _ended = tokio::time::timeout(limits.header, connection).await;
            return;
        }
    }
    let _ended = connection.await;
}

// === impl StreamExecutor ===

impl<F> hyper::rt::Executor<F> for StreamExecutor
where
    F: Future<Output: Send> + Send + 'static,
{
    fn execute(&self, future: F) {
        // hyper hands a stream over right after its request: the one that was announced is this one.
        let stall = self.outlet.take_stream();
        let guard = Guard::new(future, self.limits.write_stall, stall, Arc::clone(&self.streams));
        tokio::spawn(Surrounded::new(guard, self.around));
    }
}
