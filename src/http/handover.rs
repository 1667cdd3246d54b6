//! Leaving without anyone falling between: what a server that stops does for those who have just connected, or keep an
//! idle connection that they are about to use.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::header::CONNECTION;
use http::{HeaderValue, Request, Response, StatusCode};
use hyper::service::Service;
use pin_project_lite::pin_project;
use tokio::net::{TcpListener, TcpStream};

/// Whether a connection's next response is its last. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Farewell(Arc<AtomicBool>);

/// A service that says [`Farewell`] with its responses.
pub(super) struct Parting<S> {
    pub(super) inner: S,
    pub(super) farewell: Farewell,
}

pin_project! {
    /// The response of a [`Parting`].
    pub(super) struct PartingResponse<F> {
        #[pin]
        inner: F,
        farewell: Farewell,
    }
}

/// How long handshakes under way may take before a shared listener is closed.
const SETTLE: Duration = Duration::from_millis(100);

/// Closes `listener`, and gives every connection to `take` that the kernel has accepted for it: closing alone would reset
/// them. If others listen on the same address, new clients are sent to them first, and handshakes under way are waited
/// for. `tell` is called before the listener is closed: when a client finds nobody there, every connection knows that the
/// server leaves.
pub(super) async fn leave(
    listener: TcpListener,
    tell: impl FnOnce(),
    mut take: impl FnMut(TcpStream, SocketAddr),
) {
    let others_listen = turn_away(&listener);
    tell();
    if others_listen {
        let mut settled = pin!(tokio::time::sleep(SETTLE));
        loop {
            tokio::select! {
                () = &mut settled => break,
                accepted = listener.accept() => match accepted {
                    Ok((socket, peer)) => take(socket, peer),
                    Err(_error) => break,
                },
            }
        }
    }
    // Asked directly: what the runtime knows of the listener may be older than the last connection.
    let Ok(listener) = listener.into_std() else { return };
    while let Ok((socket, peer)) = listener.accept() {
        if socket.set_nonblocking(true).is_ok()
            && let Ok(socket) = TcpStream::from_std(socket)
        {
            take(socket, peer);
        }
    }
}

/// Has the kernel ignore who wants to connect from now on, if others listen on the same address: a client asks again
/// after a second, and by then they are the only ones there. False if nobody else can be there, or it can't be done.
fn turn_away(listener: &TcpListener) -> bool {
    let socket = socket2::SockRef::from(listener);
    socket.reuse_port().unwrap_or(false) && ignore_newcomers(&socket).is_ok()
}

#[cfg(target_os = "linux")]
fn ignore_newcomers(socket: &socket2::SockRef<'_>) -> io::Result<()> {
    use socket2::SockFilter;
    // Classic BPF over a segment, its TCP header first. Which of these is a client's first: SYN without ACK.
    const FLAGS_AT: u32 = 13;
    const SYN: u32 = 0x02;
    const SYN_ACK: u32 = 0x12;
    const LOAD_BYTE: u16 = 0x30;
    const AND: u16 = 0x54;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    socket.attach_filter(&[
        SockFilter::new(LOAD_BYTE, 0, 0, FLAGS_AT),
        SockFilter::new(AND, 0, 0, SYN_ACK),
        SockFilter::new(JUMP_IF_EQUAL, 0, 1, SYN),
        SockFilter::new(RETURN, 0, 0, 0),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
    ])
}

#[cfg(not(target_os = "linux"))]
fn ignore_newcomers(_socket: &socket2::SockRef<'_>) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

// === impl Farewell ===

impl Farewell {
    /// Says that responses from now on are the last of their connections.
    pub(super) fn say(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

// === impl Parting ===

impl<S, Q, B> Service<Request<Q>> for Parting<S>
where
    S: Service<Request<Q>, Response = Response<B>, Error = Infallible>,
{
    type Response = Response<B>;
    type Error = Infallible;
    type Future = PartingResponse<S::Future>;

    fn call(&self, request: Request<Q>) -> Self::Future {
        PartingResponse { inner: self.inner.call(request), farewell: self.farewell.clone() }
    }
}

impl<F, B> Future for PartingResponse<F>
where
    F: Future<Output = Result<Response<B>, Infallible>>,
{
    type Output = Result<Response<B>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let Ok(mut response) = ready!(this.inner.poll(cx));
        if this.farewell.0.load(Ordering::Relaxed)
            && response.status() != StatusCode::SWITCHING_PROTOCOLS
        {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        Poll::Ready(Ok(response))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::http::server::bind_shared;

    /// Returns what a connection is greeted with.
    async fn greeting(mut socket: TcpStream) -> String {
        let mut greeting = String::new();
        socket.read_to_string(&mut greeting).await.unwrap();
        greeting
    }

    async fn greet(mut socket: TcpStream, name: &str) {
        socket.write_all(name.as_bytes()).await.unwrap();
    }

    #[tokio::test]
    async fn who_has_connected_is_served_and_who_comes_later_finds_the_other() {
        let old = bind_shared("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = old.local_addr().unwrap();
        let new = bind_shared(address).unwrap();
        let mut clients = Vec::new();
        // The kernel spreads them over both; none is accepted yet.
        for _ in 0..40 {
            clients.push(tokio::spawn(greeting(TcpStream::connect(address).await.unwrap())));
        }
        let (sockets, mut taken) = tokio::sync::mpsc::unbounded_channel();
        let leaving =
            tokio::spawn(leave(old, || {}, move |socket, _| sockets.send(socket).unwrap()));
        tokio::task::yield_now().await;
        let late = || async move { greeting(TcpStream::connect(address).await.unwrap()).await };
        clients.extend((0..40).map(|_| tokio::spawn(late())));
        let serving = tokio::spawn(async move {
            loop {
                greet(new.accept().await.unwrap().0, "new").await;
            }
        });
        let mut by_old = 0;
        while let Some(socket) = taken.recv().await {
            greet(socket, "old").await;
            by_old += 1;
        }
        leaving.await.unwrap();
        let mut by_new = 0;
        for client in clients {
            by_new += usize::from(client.await.unwrap() == "new");
        }
        assert_eq!(by_old + by_new, 80);
        assert!((1..40).contains(&by_old), "{by_old} of the first 40 came to the one that left");
        serving.abort();
    }
}
