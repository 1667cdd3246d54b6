//! Accepts connections and serves them: HTTP/1.1 and HTTP/2, plain and TLS, until told to stop.
//!
//! Over TLS, ALPN chooses the version; on a plain connection the first bytes do (HTTP/2 with prior knowledge begins with
//! a preface that is no HTTP/1.1 request). On shutdown nothing more is accepted, idle connections are closed (after
//! [`ServerOptions::linger`], if they bring no more), the others finish what they carry, and what is not done by the
//! deadline is dropped.
//!
//! Messages are left alone: no `Date` is added, the case of header names is kept, interim responses can be passed on
//! over HTTP/1.1 ([`Outlet`]).

use std::convert::Infallible;
use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::http::handover::{self, Farewell, Parting};
use crate::http::limits::Limits;
use crate::http::outlet::{Outlet, OutletIo};
use crate::http::serve_h2;
use crate::http::stream::Stream;
use crate::http::workers::{self, Around, Seat, Surrounded, Workers};

/// How connections are served.
#[derive(Clone, Debug, Default)]
pub struct ServerOptions {
    /// TLS settings (`http::tls`); plain without.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// How much is taken from one client, and how long it is waited for.
    pub limits: Limits,
    /// Keep the case of HTTP/1.1 request header names, for a client that writes them out again.
    pub preserve_header_case: bool,
    /// How long a connection without a request may still bring one after the server was told to stop: it is answered with
    /// `Connection: close`. HTTP/2 needs no such time.
    pub linger: Duration,
    /// Threads to serve connections on; the runtime that accepts them without.
    pub workers: Option<Arc<Workers>>,
}

/// A client that connected.
#[derive(Clone, Debug)]
pub struct Accepted {
    /// Number of the connection, from 1 in the order of acceptance.
    pub connection: u64,
    /// The client's address.
    pub peer: SocketAddr,
    /// Whether it speaks TLS.
    pub is_tls: bool,
    /// Whether it speaks HTTP/2.
    pub is_h2: bool,
    /// The way out to it, beside responses.
    pub outlet: Outlet,
}

/// What became of the connections when a server stopped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drained {
    /// Connections that were not done by the deadline, and were dropped.
    pub dropped: usize,
}

/// Any error that can cross a thread.
type BoxError = Box<dyn Error + Send + Sync>;

/// Binds `address` (port 0: a free one) with `SO_REUSEADDR`.
///
/// # Errors
/// The kernel refuses: in use, not ours, not allowed.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    listen(address, |_socket| Ok(()))
}

/// As [`bind`], beside all others that do the same on this address as the same user: the kernel spreads new connections
/// over them (`SO_REUSEPORT`).
///
/// # Errors
/// As [`bind`].
pub fn bind_shared(address: SocketAddr) -> io::Result<TcpListener> {
    listen(address, |socket| socket.set_reuse_port(true))
}

fn listen(
    address: SocketAddr,
    set: impl FnOnce(&socket2::Socket) -> io::Result<()>,
) -> io::Result<TcpListener> {
    let socket = socket2::Socket::new(
        socket2::Domain::for_address(address),
        socket2::Type::STREAM,
        Some(socket2::Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    set(&socket)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Serves connections of `listener` until `shutdown`, then lets them finish for `deadline`. `make` makes the service of
/// one connection.
///
/// Dropping the future drops every connection at once.
pub async fn run<M, S, B>(
    listener: TcpListener,
    options: ServerOptions,
    make: M,
    shutdown: impl Future<Output = ()>,
    deadline: Duration,
) -> Drained
where
    M: Fn(Accepted) -> S + Send + Sync + 'static,
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Send + 'static,
    S::Future: Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    // Made when it is first polled: the time begins with the shutdown.
    let give_up = async { tokio::time::sleep(deadline).await };
    run_until(listener, options, make, shutdown, give_up).await
}

/// As [`run`], but lets connections finish until `give_up` is done, which is not polled before `shutdown` is. What
/// `give_up` does last happens before the first connection is dropped.
pub async fn run_until<M, S, B>(
    listener: TcpListener,
    mut options: ServerOptions,
    make: M,
    shutdown: impl Future<Output = ()>,
    give_up: impl Future<Output = ()>,
) -> Drained
where
    M: Fn(Accepted) -> S + Send + Sync + 'static,
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Send + 'static,
    S::Future: Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    // Held here and not by what runs on the threads: the last to hold them waits for them.
    let workers = options.workers.take();
    let server = Arc::new(Server { options, make, numbers: AtomicU64::new(0) });
    let (stop, stopped) = watch::channel(());
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    let max_connections = server.options.limits.max_connections;
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            accepted = listener.accept(), if connections.len() < max_connections => match accepted {
                Ok((socket, peer)) => {
                    let seat = workers.as_ref().and_then(|workers| workers.seat());
                    server.serve(&mut connections, seat, socket, peer, stopped.clone());
                }
                // The client left again, or there are no more descriptors: the others must go on.
                Err(_error) => tokio::time::sleep(ACCEPT_PAUSE).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
    // We listen to it ourselves, for the connections that are still to come.
    let tell = || stop.send_replace(());
    handover::leave(listener, tell, |socket, peer| {
        let seat = workers.as_ref().and_then(|workers| workers.seat());
        server.serve(&mut connections, seat, socket, peer, stopped.clone());
    })
    .await;
    drop(stopped);
    tokio::select! {
        () = async { while connections.join_next().await.is_some() {} } => {}
        () = give_up => {}
    }
    Drained { dropped: connections.len() }
}

struct Server<M> {
    options: ServerOptions,
    make: M,
    numbers: AtomicU64,
}

/// Connections that the kernel keeps for us until we accept them.
const BACKLOG: i32 = 4096;
/// Pause after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);
/// What a client with prior knowledge of HTTP/2 begins with; no request line of HTTP/1.1 does.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n";
/// Pause before looking again at a connection that has sent a part of the preface.
const PREFACE_PAUSE: Duration = Duration::from_millis(1);

// === impl Server ===

impl<M> Server<M> {
    /// Has a connection served: where its seat is, or here.
    fn serve<S, B>(
        self: &Arc<Self>,
        connections: &mut JoinSet<()>,
        seat: Option<Seat>,
        socket: TcpStream,
        peer: SocketAddr,
        stopped: watch::Receiver<()>,
    ) where
        M: Fn(Accepted) -> S + Send + Sync + 'static,
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Send + 'static,
        S::Future: Send + 'static,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let server = Arc::clone(self);
        let Some(seat) = seat else {
            connections.spawn(async move {
                server.connection(socket, peer, stopped, workers::nothing).await;
            });
            return;
        };
        // The socket leaves this runtime's reactor for that of the thread.
        let Ok(socket) = socket.into_std() else { return };
        let (handle, around) = (seat.handle.clone(), seat.around);
        let task = async move {
            if let Ok(socket) = TcpStream::from_std(socket) {
                server.connection(socket, peer, stopped, around).await;
            }
            drop(seat);
        };
        connections.spawn_on(Surrounded::new(task, around), &handle);
    }

    /// Serves one connection to its end. Its errors are its client's; each exchange hears of them by itself.
    async fn connection<S, B>(
        &self,
        socket: TcpStream,
        peer: SocketAddr,
        stopped: watch::Receiver<()>,
        around: Around,
    ) where
        M: Fn(Accepted) -> S,
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Send + 'static,
        S::Future: Send + 'static,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let connection = self.numbers.fetch_add(1, Ordering::Relaxed) + 1;
        // Without it a small frame waits for the acknowledgment of the one before. A socket that is gone fails later.
        let _set = socket.set_nodelay(true);
        let Some((mut stream, is_h2)) = self.shake_hands(socket, stopped.clone()).await else {
            return;
        };
        let (outlet, limits) = (Outlet::default(), self.options.limits);
        stream.limit_writes(limits.write_stall, outlet.stall());
        let is_tls = self.options.tls.is_some();
        let accepted = Accepted { connection, peer, is_tls, is_h2, outlet: outlet.clone() };
        let service = (self.make)(accepted);
        if is_h2 {
            serve_h2::serve(TokioIo::new(stream), service, stopped, around, outlet, limits).await;
        } else {
            let io = TokioIo::new(OutletIo::new(stream, outlet, limits));
            self.serve_h1(io, service, stopped).await;
        }
    }

    /// Does the TLS handshake and finds out which version the client speaks.
    async fn shake_hands(
        &self,
        socket: TcpStream,
        stopped: watch::Receiver<()>,
    ) -> Option<(Stream, bool)> {
        let Some(tls) = &self.options.tls else {
            let is_h2 = self.sniff(&socket, stopped).await?;
            return Some((Stream::plain(socket), is_h2));
        };
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::clone(tls));
        let stream = tokio::time::timeout(self.options.limits.handshake, acceptor.accept(socket))
            .await
            .ok()?
            .ok()?;
        let stream = Stream::tls_server(stream);
        let is_h2 = stream.alpn_is_h2();
        Some((stream, is_h2))
    }

    /// Finds out whether a client on a plain connection speaks HTTP/2; none when it says nothing in time.
    async fn sniff(&self, socket: &TcpStream, mut stopped: watch::Receiver<()>) -> Option<bool> {
        let sniffed = tokio::time::timeout(self.options.limits.first_byte, sniff_h2(socket));
        let mut sniffed = pin!(sniffed);
        let sniffed = tokio::select! {
            sniffed = &mut sniffed => sniffed,
            _ = stopped.changed() => tokio::time::timeout(self.options.linger, sniffed).await.ok()?,
        };
        sniffed.ok()?.ok()
    }

    async fn serve_h1<S, B>(
        &self,
        io: TokioIo<OutletIo>,
        service: S,
        mut stopped: watch::Receiver<()>,
    ) where
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Send,
        S::Future: Send,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let farewell = Farewell::default();
        let service = Parting { inner: service, farewell: farewell.clone() };
        let limits = &self.options.limits;
        let mut connection = pin!(
            http1::Builder::new()
                .timer(TokioTimer::new())
                // Begins with the end of a response, and so bounds the time without a request too.
                .header_read_timeout(limits.keep_alive)
                .max_headers(limits.max_headers)
                .max_header_size(usize::try_from(limits.max_header_bytes).unwrap_or(usize::MAX))
                .preserve_header_case(self.options.preserve_header_case)
                .auto_date_header(false)
                // Copying small chunks into one buffer costs less than a list of pieces for the kernel.
                .writev(false)
                .serve_connection(io, service)
                .with_upgrades()
        );
        tokio::select! {
            // First: what has arrived is read before the end is told.
            biased;
            _ended = connection.as_mut() => return,
            _ = stopped.changed() => farewell.say(),
        }
        if tokio::time::timeout(self.options.linger, connection.as_mut()).await.is_ok() {
            return;
        }
        connection.as_mut().graceful_shutdown();
        let _ended = connection.await;
    }
}

/// Looks at the first bytes without taking them; true when they are HTTP/2's preface.
async fn sniff_h2(socket: &TcpStream) -> io::Result<bool> {
    let mut seen = [0; PREFACE.len()];
    loop {
        let count = socket.peek(&mut seen).await?;
        if count == 0 || !PREFACE.starts_with(&seen[..count]) {
            return Ok(false);
        }
        if count == PREFACE.len() {
            return Ok(true);
        }
        tokio::time::sleep(PREFACE_PAUSE).await;
    }
}
