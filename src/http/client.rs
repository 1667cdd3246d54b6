//! Sends requests to one origin over pooled connections.
//!
//! HTTP/1.1: a connection carries one exchange at a time and is driven by the task that reads its response
//! ([`ResponseBody`]). HTTP/2: one connection is shared by all exchanges and driven by a task of its own.
//!
//! What is never done: a redirect, a retry of anything that may have reached the server (but see
//! [`Client::send_replayable`]), a change of a header but for `Host` where there is none and, over HTTP/2, where `Host`
//! becomes `:authority`.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body::Body;
use hyper::body::Incoming;
use tokio::task::unconstrained;

use crate::clock::{Clock, Nanos};
use crate::http::attempt::{Failed, Opening, Stale};
use crate::http::boarding::{Boarding, Carried};
use crate::http::body::{BoxError, Done, RequestBody, ResponseBody};
use crate::http::connect::{Opened, open};
use crate::http::error::SendError;
use crate::http::form::{for_h1, for_h2};
use crate::http::intake;
use crate::http::options::{ClientOptions, Protocol};
use crate::http::origin::{Origin, Scheme};
use crate::http::pool::{Lease, Pool, Pooled, Shared};
use crate::http::shake::{shake_h1, shake_h2};
use crate::trace::record::Version;

/// A client of one origin. Clones share its connections.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    origin: Origin,
    options: ClientOptions,
    clock: Clock,
    pool: Arc<Pool>,
    /// Held while an HTTP/2 connection is opened: who comes meanwhile shares it.
    opening: tokio::sync::Mutex<()>,
    connections: Arc<AtomicU64>,
    authority: HeaderValue,
}

/// A connection ready to take a request.
enum Ready {
    Http1(Box<Pooled>),
    Http2(Shared),
}

// === impl Client ===

impl Client {
    /// Makes a client; nothing is opened yet.
    #[must_use]
    pub fn new(origin: Origin, options: ClientOptions, clock: Clock) -> Self {
        Self::numbered(origin, options, clock, Arc::default())
    }

    /// Makes a client with connections of its own, numbered in one sequence with this one's: for another thread.
    #[must_use]
    pub fn sibling(&self) -> Self {
        let Inner { origin, options, clock, connections, .. } = &*self.inner;
        Self::numbered(origin.clone(), options.clone(), *clock, Arc::clone(connections))
    }

    /// Makes a client like this one that keeps no more than one connection, its own: for calls that share one.
    #[must_use]
    pub fn lone_sibling(&self) -> Self {
        let Inner { origin, options, clock, connections, .. } = &*self.inner;
        let options = ClientOptions { max_idle: 1, ..options.clone() };
        Self::numbered(origin.clone(), options, *clock, Arc::clone(connections))
    }

    /// Makes a client that numbers its connections by `connections`, which clients of other origins may share.
    #[must_use]
    pub fn numbered(
        origin: Origin,
        mut options: ClientOptions,
        clock: Clock,
        connections: Arc<AtomicU64>,
    ) -> Self {
        if let Some(tls) = &mut options.tls {
            Arc::make_mut(tls).alpn_protocols = match options.protocol {
                Protocol::Auto => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
                Protocol::Http1 => vec![b"http/1.1".to_vec()],
                Protocol::Http2 => vec![b"h2".to_vec()],
            };
        }
        let pool = Pool::new(options.max_idle, options.idle_timeout, clock);
        // What `Origin` lets through as a host is fit for a header.
        let authority = HeaderValue::try_from(origin.authority())
            .unwrap_or_else(|_| HeaderValue::from_static("localhost"));
        let opening = tokio::sync::Mutex::new(());
        Self {
            inner: Arc::new(Inner {
                origin,
                options,
                clock,
                pool,
                opening,
                connections,
                authority,
            }),
        }
    }

    /// Returns the origin.
    #[must_use]
    pub fn origin(&self) -> &Origin {
        &self.inner.origin
    }

    /// Returns what stands in `Host`, or in `:authority`.
    #[must_use]
    pub fn authority(&self) -> &HeaderValue {
        &self.inner.authority
    }

    /// Returns how many connections could take an exchange at once: the idle ones, or [`usize::MAX`] when exchanges share
    /// one.
    #[must_use]
    pub fn spare(&self) -> usize {
        match self.inner.pool.shared() {
            Some(_) => usize::MAX,
            None => self.inner.pool.idle(),
        }
    }

    /// Opens one connection and keeps it idle, so that an exchange to come finds it ready.
    ///
    /// # Errors
    /// No connection, see [`SendError`].
    pub async fn connect(&self) -> Result<(), SendError> {
        match self.open().await?.0 {
            Ready::Http1(connection) => self.inner.pool.put(connection),
            Ready::Http2(shared) => self.inner.pool.share(shared),
        }
        Ok(())
    }

    /// Sends a request and waits for its response head. The URI is in origin form; the origin's prefix is put before
    /// its path. [`Carried`] is among the response's extensions.
    ///
    /// A request of which nothing has left is sent again when a reused connection turns out to be dead; nothing else is.
    /// Dropping the future closes the connection (HTTP/1.1) or resets the stream (HTTP/2) at once.
    ///
    /// # Errors
    /// No connection, or none of a response: see [`SendError`].
    pub async fn send<B>(&self, request: Request<B>) -> Result<Response<ResponseBody>, SendError>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let (parts, body) = request.into_parts();
        let (body, done) = RequestBody::new(body);
        self.send_boxed(Request::from_parts(parts, body), &done, 0)
            .await
            .map_err(|(error, _)| error)
    }

    /// Sends a request that may be sent twice: when a reused connection dies before the first byte of a response, it is
    /// sent once more on a fresh one, and [`Carried::retries`] says so. Whether the server saw the first is not known.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn send_replayable<B>(
        &self,
        request: Request<B>,
    ) -> Result<Response<ResponseBody>, SendError>
    where
        B: Body<Data = Bytes> + Clone + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let again = request.clone();
        let (parts, body) = request.into_parts();
        let (body, done) = RequestBody::new(body);
        match self.send_boxed(Request::from_parts(parts, body), &done, 0).await {
            Err((error, Stale::Yes)) if !error.response_started => {
                let (parts, body) = again.into_parts();
                let (body, done) = RequestBody::new(body);
                let request = Request::from_parts(parts, body);
                self.send_fresh(request, &done, 1).await
            }
            sent => sent.map_err(|(error, _)| error),
        }
    }

    async fn send_boxed(
        &self,
        request: Request<RequestBody>,
        done: &Done,
        retries: u32,
    ) -> Result<Response<ResponseBody>, (SendError, Stale)> {
        let (ready, cost) = match self.checkout() {
            Some(ready) => (ready, None),
            None => self.open_shared().await.map_err(|error| (error, Stale::No))?,
        };
        let stale = if cost.is_none() { Stale::Yes } else { Stale::No };
        match self.attempt(ready, cost, request, done, retries).await {
            Ok(response) => Ok(response),
            // Nothing of it has left: another connection, and the server can't tell.
            Err(Failed { unsent: Some(request), .. }) if stale == Stale::Yes => {
                self.send_fresh(request, done, retries).await.map_err(|error| (error, Stale::No))
            }
            Err(failed) => Err((failed.error, stale)),
        }
    }

    async fn send_fresh(
        &self,
        request: Request<RequestBody>,
        done: &Done,
        retries: u32,
    ) -> Result<Response<ResponseBody>, SendError> {
        let (ready, cost) = self.open_shared().await?;
        self.attempt(ready, cost, request, done, retries).await.map_err(|failed| failed.error)
    }

    /// Returns a connection that is there already.
    fn checkout(&self) -> Option<Ready> {
        if self.inner.options.protocol != Protocol::Http1
            && let Some(shared) = self.inner.pool.shared()
        {
            return Some(Ready::Http2(shared));
        }
        self.inner.pool.take().map(Ready::Http1)
    }

    /// Opens a connection; where it may become a shared one, only one at a time.
    async fn open_shared(&self) -> Result<(Ready, Option<Opening>), SendError> {
        let Inner { options, origin, pool, opening, .. } = &*self.inner;
        let may_be_shared = match options.protocol {
            Protocol::Auto => origin.scheme == Scheme::Https,
            Protocol::Http1 => false,
            Protocol::Http2 => true,
        };
        if !may_be_shared {
            return self.open().await.map(|(ready, cost)| (ready, Some(cost)));
        }
        let guard = opening.lock().await;
        if let Some(shared) = pool.shared() {
            return Ok((Ready::Http2(shared), None));
        }
        let (ready, cost) = self.open().await?;
        if let Ready::Http2(shared) = &ready {
            pool.share(shared.clone());
        }
        drop(guard);
        Ok((ready, Some(cost)))
    }

    async fn open(&self) -> Result<(Ready, Opening), SendError> {
        let Inner { origin, options, clock, connections, .. } = &*self.inner;
        let opened = open(origin, options, *clock).await?;
        let id = connections.fetch_add(1, Ordering::Relaxed) + 1;
        let Opened { stream, connect, tls } = opened;
        let cost = Opening { connect_ns: nanos(connect), tls_ns: nanos(tls) };
        let is_h2 = match options.protocol {
            Protocol::Auto => stream.alpn_is_h2(),
            Protocol::Http1 => false,
            Protocol::Http2 => true,
        };
        let ready = if is_h2 {
            Ready::Http2(shake_h2(stream, id, options).await?)
        } else {
            Ready::Http1(Box::new(shake_h1(stream, id, options).await?))
        };
        Ok((ready, cost))
    }

    async fn attempt(
        &self,
        ready: Ready,
        cost: Option<Opening>,
        request: Request<RequestBody>,
        done: &Done,
        retries: u32,
    ) -> Result<Response<ResponseBody>, Failed> {
        let Opening { connect_ns, tls_ns } = cost.unwrap_or_default();
        let (connection, reused, version) = match &ready {
            Ready::Http1(connection) => (connection.id, connection.used, Version::Http11),
            Ready::Http2(shared) => (shared.id, cost.is_none(), Version::Http2),
        };
        let ready_at = self.inner.clock.now();
        let carried =
            Carried { connection, reused, version, connect_ns, tls_ns, ready_at, retries };
        if let Some(boarding) = request.extensions().get::<Boarding>() {
            boarding.set(carried);
        }
        match ready {
            Ready::Http1(connection) => self.attempt_h1(connection, request, done, carried).await,
            Ready::Http2(shared) => self.attempt_h2(shared, request, carried).await,
        }
    }

    async fn attempt_h1(
        &self,
        mut connection: Box<Pooled>,
        request: Request<RequestBody>,
        done: &Done,
        carried: Carried,
    ) -> Result<Response<ResponseBody>, Failed> {
        let request = for_h1(&self.inner.origin, &self.inner.authority, request);
        let is_connect = *request.method() == Method::CONNECT;
        let read_before = connection.read.get();
        connection.intake.arm();
        // Unconstrained: a task that has used up its turn would get a wake-up instead of the response, by a waker that
        // does nothing.
        let mut sent = pin!(unconstrained(connection.sender.try_send_request(request)));
        let outcome = poll_fn(|cx| {
            // As in the body: only the connection can bring the response, and it is polled here with the real waker.
            let mut quiet = Context::from_waker(Waker::noop());
            loop {
                let _ended = connection.poll_drive(cx);
                let polled = sent.as_mut().poll(&mut quiet);
                // What was parted is no whole head to hyper: it has to read on.
                if polled.is_ready() || !connection.intake.recall() {
                    return polled;
                }
            }
        })
        .await;
        let response = outcome.map_err(|error| {
            let response_started = connection.read.get() > read_before;
            Failed::new(error, carried, response_started)
        })?;
        let is_tunnel = response.status() == StatusCode::SWITCHING_PROTOCOLS
            || (is_connect && response.status().is_success());
        let lease = if is_tunnel || !done.get() {
            connection.intake.recall();
            connection.drive_alone();
            None
        } else {
            Some(Lease::new(connection, &self.inner.pool))
        };
        Ok(finish(response, lease, carried))
    }

    async fn attempt_h2(
        &self,
        mut shared: Shared,
        request: Request<RequestBody>,
        carried: Carried,
    ) -> Result<Response<ResponseBody>, Failed> {
        let request = for_h2(&self.inner.origin, &self.inner.authority, request);
        let read_before = shared.read.get();
        match shared.sender.try_send_request(request).await {
            Ok(response) => Ok(finish(response, None, carried)),
            Err(error) => {
                Err(Failed::new(error, carried, carried.reused && shared.read.get() > read_before))
            }
        }
    }
}

fn finish(
    response: Response<Incoming>,
    lease: Option<Lease>,
    carried: Carried,
) -> Response<ResponseBody> {
    let is_chunked = intake::is_chunked(response.version(), response.headers());
    let mut response = response.map(|incoming| ResponseBody::new(incoming, lease, is_chunked));
    response.extensions_mut().insert(carried);
    response
}

fn nanos(duration: Duration) -> u64 {
    Nanos::from(duration).0
}
