//! A small server beside the main one: HTTP/1.1 on a TCP address or a Unix socket, for the few who look after the process.
//!
//! It shares nothing with [`server`](crate::http::server): what happens to the one is not felt by the other.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Where a server listens.
#[derive(Debug)]
pub struct SideListener {
    socket: SideSocket,
}

#[derive(Debug)]
enum SideSocket {
    Tcp(TcpListener),
    Unix(UnixListener, SocketFile),
}

/// The name of a Unix socket in the file system; removed when dropped, unless another socket has taken it over.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    /// Device and inode.
    identity: (u64, u64),
}

/// A response of the server.
pub type SideResponse = Response<Full<Bytes>>;

/// Connections at once; more wait.
const MAX_CONNECTIONS: usize = 64;
/// Connections that the kernel keeps until they are accepted.
const BACKLOG: i32 = 128;
/// Longest time to the end of a request's head, also from the response before.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Pause after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

// === impl SideListener ===

impl SideListener {
    /// Listens on a TCP socket.
    #[must_use]
    pub fn tcp(listener: TcpListener) -> Self {
        Self { socket: SideSocket::Tcp(listener) }
    }

    /// Listens on a Unix socket that only its owner may connect to. A socket that is there already is taken over: who
    /// connects from now on comes here.
    ///
    /// # Errors
    /// There is something else at `path`, or the kernel refuses.
    pub fn unix(path: &Path) -> io::Result<Self> {
        match fs::symlink_metadata(path) {
            Ok(found) if !found.file_type().is_socket() => {
                let text = "there is something else than a socket already";
                return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
            }
            _ => {}
        }
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_string_lossy();
        let new = path.with_file_name(format!(".{name}.{}", std::process::id()));
        let listening = listen_unix(&new).and_then(|socket| {
            let found = fs::symlink_metadata(&new)?;
            fs::rename(&new, path)?;
            Ok((socket, (found.dev(), found.ino())))
        });
        let (socket, identity) = match listening {
            Ok(listening) => listening,
            Err(error) => {
                // What it failed by is what matters; there may be nothing to remove.
                let _removed = fs::remove_file(&new);
                return Err(error);
            }
        };
        let file = SocketFile { path: path.to_owned(), identity };
        Ok(Self { socket: SideSocket::Unix(UnixListener::from_std(socket.into())?, file) })
    }

    /// Returns where it listens: `http://ADDRESS` or `unix:PATH`.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub fn address(&self) -> io::Result<String> {
        Ok(match &self.socket {
            SideSocket::Tcp(listener) => format!("http://{}", listener.local_addr()?),
            SideSocket::Unix(_, file) => format!("unix:{}", file.path.display()),
        })
    }

    /// Has `answer` answer requests, for ever. Dropping the future closes every connection.
    pub async fn serve<A, F>(self, answer: A)
    where
        A: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = SideResponse> + Send + 'static,
    {
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let mut connections = JoinSet::new();
        loop {
            // The semaphore is never closed.
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            while connections.try_join_next().is_some() {}
            let answer = answer.clone();
            let accepted = match &self.socket {
                SideSocket::Tcp(listener) => listener.accept().await.map(|(socket, _)| {
                    connections.spawn(async move {
                        connection(socket, answer).await;
                        drop(place);
                    })
                }),
                SideSocket::Unix(listener, _) => listener.accept().await.map(|(socket, _)| {
                    connections.spawn(async move {
                        connection(socket, answer).await;
                        drop(place);
                    })
                }),
            };
            if accepted.is_err() {
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn listen_unix(path: &Path) -> io::Result<Socket> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    // Nobody can connect before it listens, so that nobody comes in before this.
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

async fn connection<I, A, F>(io: I, answer: A)
where
    I: AsyncRead + AsyncWrite + Unpin + Send,
    A: Fn(Request<Incoming>) -> F,
    F: Future<Output = SideResponse>,
{
    let service = service_fn(|request| {
        let answered = answer(request);
        async { Ok::<_, std::convert::Infallible>(answered.await) }
    });
    let served = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_buf_size(16 << 10)
            .serve_connection(TokioIo::new(io), service)
    );
    // Its errors are its client's.
    let _ended = served.await;
}

// === impl SocketFile ===

impl Drop for SocketFile {
    fn drop(&mut self) {
        let found = fs::symlink_metadata(&self.path).map(|found| (found.dev(), found.ino()));
        if found.is_ok_and(|found| found == self.identity) {
            // Left behind, it is taken over by the next.
            let _removed = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_unix_socket_is_its_owners_and_is_taken_over_and_removed_by_its_last() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sock");
        let first = SideListener::unix(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let second = SideListener::unix(&path).unwrap();
        drop(first);
        assert!(path.exists(), "it is the second's");
        assert_eq!(second.address().unwrap(), format!("unix:{}", path.display()));
        drop(second);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn what_is_no_socket_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("precious");
        fs::write(&path, "text").unwrap();
        let error = SideListener::unix(&path).unwrap_err();
        assert!(error.to_string().contains("something else"), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "text");
        assert!(SideListener::unix(Path::new("/no/such/folder/a.sock")).is_err());
    }
}
