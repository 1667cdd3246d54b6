//! A server for measuring ourselves: on loopback, on a thread of its own, and with as little in it as can be. It stamps each
//! request when its first bytes are read, and answers at once.
//!
//! | path | answer |
//! |---|---|
//! | `/stream` | events, each a chunk of its own, written as fast as they go for [`STREAM_SPAN`], or [`STREAM_MOST`] of them |
//! | `/N` | `{}`; the stamp is kept under the number N |
//! | any other | `{}` |

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use crate::clock::{Clock, Nanos};

/// A server at work. Dropped, it ends, and its connections with it.
#[derive(Debug)]
pub struct Sink {
    address: SocketAddr,
    arrivals: Arrivals,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Numbers of requests, and when their first bytes were read.
type Arrivals = Arc<Mutex<Vec<(u64, Nanos)>>>;

/// A request as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Stream,
    Number(u64),
    Other,
}

/// How long a stream is written.
pub const STREAM_SPAN: Duration = Duration::from_millis(25);
/// Most events in a stream: what has been read of it is kept in memory, some 6 MB.
pub const STREAM_MOST: usize = 25_000;
/// One event of a stream: of a usual size for a token of a chat.
pub const EVENT: &str = "data: {\"id\":\"chatcmpl-7QyqpwdfhqwajicIEznoc6Q47XAyW\",\"object\":\"chat.completion.chunk\",\
    \"created\":1700000000,\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\" token\"},\
    \"finish_reason\":null}]}\n\n";
/// Events that are written at a time.
const BATCH: usize = 64;
/// Longest head and body of a request.
const REQUEST_MOST: usize = 64 * 1024;
const UNARY: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}";
const STREAM_HEAD: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";

/// Starts a server.
///
/// # Errors
/// The system gives no port on loopback, or no thread.
pub fn start(clock: Clock) -> io::Result<Sink> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let listener = {
        let _entered = runtime.enter();
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        TcpListener::from_std(listener)?
    };
    let address = listener.local_addr()?;
    let arrivals = Arrivals::default();
    let theirs = Arc::clone(&arrivals);
    let (stop, stopped) = oneshot::channel();
    let thread = std::thread::Builder::new().name("reenact-sink".to_owned()).spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = stopped => {}
                () = accept(listener, clock, theirs) => {}
            }
        });
    })?;
    Ok(Sink { address, arrivals, stop: Some(stop), thread: Some(thread) })
}

async fn accept(listener: TcpListener, clock: Clock, arrivals: Arrivals) {
    while let Ok((peer, _)) = listener.accept().await {
        // Without it an answer might wait; a refusal shows as such a wait.
        let _refused = peer.set_nodelay(true);
        let arrivals = Arc::clone(&arrivals);
        tokio::spawn(async move {
            // A peer that leaves is none of ours to mend: the other side says what came of it.
            let _left = serve(peer, clock, &arrivals).await;
        });
    }
}

async fn serve(mut peer: TcpStream, clock: Clock, arrivals: &Arrivals) -> io::Result<()> {
    let mut request = Vec::with_capacity(4_096);
    loop {
        request.clear();
        let mut at = None;
        while !is_whole(&request) {
            if peer.read_buf(&mut request).await? == 0 || request.len() > REQUEST_MOST {
                return Ok(());
            }
            at.get_or_insert_with(|| clock.now());
        }
        match asked(&request) {
            Asked::Stream => stream(&mut peer, clock).await?,
            Asked::Other => peer.write_all(UNARY).await?,
            Asked::Number(number) => {
                arrivals
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .extend(at.map(|at| (number, at)));
                peer.write_all(UNARY).await?;
            }
        }
    }
}

async fn stream(peer: &mut TcpStream, clock: Clock) -> io::Result<()> {
    let chunk = format!("{:x}\r\n{EVENT}\r\n", EVENT.len());
    let batch = chunk.repeat(BATCH);
    let until = clock.now() + STREAM_SPAN;
    peer.write_all(STREAM_HEAD).await?;
    for _ in 0..STREAM_MOST / BATCH {
        peer.write_all(batch.as_bytes()).await?;
        if clock.now() >= until {
            break;
        }
        // Others are served too.
        tokio::task::yield_now().await;
    }
    peer.write_all(b"0\r\n\r\n").await
}

/// Returns whether a request is there with its body, whose length is in `content-length` if it has one.
fn is_whole(request: &[u8]) -> bool {
    let Some(end) = memchr::memmem::find(request, b"\r\n\r\n") else { return false };
    let head = String::from_utf8_lossy(&request[..end]);
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    request.len() >= end + 4 + length.unwrap_or(0)
}

/// Returns what a request asks for.
fn asked(request: &[u8]) -> Asked {
    let mut words = request.split(|byte| *byte == b' ');
    let path = words.nth(1).and_then(|path| std::str::from_utf8(path).ok()).unwrap_or("");
    match path.trim_start_matches('/') {
        "stream" => Asked::Stream,
        number => number.parse().map_or(Asked::Other, Asked::Number),
    }
}

// === impl Sink ===

impl Sink {
    /// Returns where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes the numbered requests since the last call, and when each was read.
    #[must_use]
    pub fn take_arrivals(&self) -> Vec<(u64, Nanos)> {
        std::mem::take(&mut *self.arrivals.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // It holds nothing that its panic could have broken.
            let _panic = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_told_apart_and_waited_for() {
        for (request, whole, what) in [
            ("GET /17 HTTP/1.1\r\nhost: x\r\n\r\n", true, Asked::Number(17)),
            ("GET /stream HTTP/1.1\r\n\r\n", true, Asked::Stream),
            ("POST /v1 HTTP/1.1\r\nContent-Length: 3\r\n\r\nab", false, Asked::Other),
            ("POST /v1 HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", true, Asked::Other),
            ("GET /1 HT", false, Asked::Number(1)),
            ("", false, Asked::Other),
        ] {
            assert_eq!(is_whole(request.as_bytes()), whole, "{request}");
            assert_eq!(asked(request.as_bytes()), what, "{request}");
        }
    }
}
