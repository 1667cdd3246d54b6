//! One end of a connection as a test plays it: bytes in, bytes out, every wait bounded.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

/// A blocking socket with a read buffer.
pub(crate) struct Peer {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// Number of the connection at its upstream, from 1; 0 for a client.
    pub(crate) number: u64,
}

/// A server that plays a script on each connection, in a thread per connection.
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    accepted: Arc<AtomicU64>,
}

/// Longest wait of a peer: far beyond what any test needs, so that a hang becomes a failure.
const PATIENCE: Duration = Duration::from_secs(20);

// === impl Upstream ===

impl Upstream {
    /// Listens on a free port and plays `script` on every connection.
    pub(crate) fn start(script: impl Fn(Peer) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let accepted = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&accepted);
        let script = Arc::new(script);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let number = counter.fetch_add(1, Ordering::SeqCst) + 1;
                let mut peer = Peer::new(stream.unwrap());
                peer.number = number;
                let script = Arc::clone(&script);
                thread::spawn(move || script(peer));
            }
        });
        Self { address, accepted }
    }

    /// Answers every request with the same bytes, for as long as the connection lasts.
    pub(crate) fn answering(response: impl Into<Vec<u8>>) -> Self {
        let response = response.into();
        Self::start(move |mut peer| {
            while peer.try_message().is_some() {
                peer.send(&response);
            }
        })
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Connections accepted so far.
    pub(crate) fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::SeqCst)
    }
}

// === impl Peer ===

impl Peer {
    pub(crate) fn new(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self { stream, buffer: Vec::new(), number: 0 }
    }

    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self::new(TcpStream::connect(address).unwrap())
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).unwrap();
    }

    /// Sends; false when the peer has gone.
    pub(crate) fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).is_ok()
    }

    /// Reads through the end of `mark`; none when the connection ends before.
    pub(crate) fn try_until(&mut self, mark: &str) -> Option<String> {
        loop {
            let found =
                self.buffer.windows(mark.len()).position(|window| window == mark.as_bytes());
            if let Some(at) = found {
                let taken: Vec<u8> = self.buffer.drain(..at + mark.len()).collect();
                return Some(String::from_utf8(taken).unwrap());
            }
            if !self.fill() {
                return None;
            }
        }
    }

    #[track_caller]
    pub(crate) fn until(&mut self, mark: &str) -> String {
        match self.try_until(mark) {
            Some(text) => text,
            None => {
                panic!("ended before {mark:?}; had {:?}", String::from_utf8_lossy(&self.buffer))
            }
        }
    }

    /// Reads a message head, the empty line included.
    #[track_caller]
    pub(crate) fn head(&mut self) -> String {
        self.until("\r\n\r\n")
    }

    /// Reads exactly `count` bytes.
    #[track_caller]
    pub(crate) fn exactly(&mut self, count: usize) -> Vec<u8> {
        match self.try_exactly(count) {
            Some(bytes) => bytes,
            None => panic!("ended after {} of {count} bytes", self.buffer.len()),
        }
    }

    /// Reads exactly `count` bytes; none when the connection ends before.
    pub(crate) fn try_exactly(&mut self, count: usize) -> Option<Vec<u8>> {
        while self.buffer.len() < count {
            if !self.fill() {
                return None;
            }
        }
        Some(self.buffer.drain(..count).collect())
    }

    /// Reads a message (head and body, by length or chunked) as it is on the wire; none at the connection's end.
    pub(crate) fn try_message(&mut self) -> Option<String> {
        let mut message = self.try_until("\r\n\r\n")?;
        let head = message.to_ascii_lowercase();
        if head.contains("transfer-encoding: chunked") {
            if let Some(body) = self.try_until("0\r\n\r\n") {
                message.push_str(&body);
            }
        } else if let Some((_, rest)) = head.split_once("\r\ncontent-length:") {
            let length: usize = rest.split("\r\n").next().unwrap().trim().parse().unwrap();
            message.push_str(&String::from_utf8_lossy(&self.exactly(length)));
        }
        Some(message)
    }

    #[track_caller]
    pub(crate) fn message(&mut self) -> String {
        self.try_message().expect("the connection ended before a message")
    }

    /// Returns whether nothing comes within `wait`.
    pub(crate) fn is_silent(&mut self, wait: Duration) -> bool {
        self.stream.set_read_timeout(Some(wait)).unwrap();
        let mut byte = [0];
        let peeked = self.stream.peek(&mut byte);
        self.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        self.buffer.is_empty() && peeked.is_err()
    }

    /// Reads a chunked body and returns what was in the chunks.
    #[track_caller]
    pub(crate) fn chunks(&mut self) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            let line = self.until("\r\n");
            let size = usize::from_str_radix(line.trim_end(), 16).unwrap();
            let chunk = self.exactly(size + 2);
            if size == 0 {
                return body;
            }
            body.extend_from_slice(&chunk[..size]);
        }
    }

    /// Reads what comes next; none at the connection's end.
    pub(crate) fn more(&mut self) -> Option<Vec<u8>> {
        if self.buffer.is_empty() && !self.fill() {
            return None;
        }
        Some(std::mem::take(&mut self.buffer))
    }

    /// Reads to the connection's end; a reset counts as one.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        while self.fill() {}
        std::mem::take(&mut self.buffer)
    }

    /// Closes both ways at once.
    pub(crate) fn close(self) {
        // It may be closed already.
        let _closed = self.stream.shutdown(Shutdown::Both);
    }

    /// Reads more; false at the end.
    fn fill(&mut self) -> bool {
        let mut chunk = [0; 64 << 10];
        match self.stream.read(&mut chunk) {
            Ok(0) => false,
            Ok(count) => {
                self.buffer.extend_from_slice(&chunk[..count]);
                true
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                panic!(
                    "waited {PATIENCE:?} in vain; had {:?}",
                    String::from_utf8_lossy(&self.buffer)
                )
            }
            Err(_gone) => false,
        }
    }
}
