//! What a service manager is told: that the process is ready, and that it stops (systemd's `Type=notify`).

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use super::words::say;

/// Tells the service manager a state, such as `READY=1`, if there is one that wants to know (`NOTIFY_SOCKET`).
pub(super) fn tell(state: &str) {
    let Some(socket) = env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else { return };
    if let Err(error) = send(&socket, state) {
        say(&format!("can't tell {} that {state}: {error}", socket.display()));
    }
}

fn send(name: &OsStr, state: &str) -> io::Result<()> {
    let socket = UnixDatagram::unbound()?;
    // A manager that does not read must not keep the process from serving.
    socket.set_nonblocking(true)?;
    let address = match name.as_encoded_bytes().strip_prefix(b"@") {
        Some(name) => nameless_file(name)?,
        None => SocketAddr::from_pathname(name)?,
    };
    socket.send_to_addr(state.as_bytes(), &address).map(drop)
}

/// Returns the address of a socket that is in no file system.
#[cfg(target_os = "linux")]
fn nameless_file(name: &[u8]) -> io::Result<SocketAddr> {
    <SocketAddr as std::os::linux::net::SocketAddrExt>::from_abstract_name(name)
}

#[cfg(not(target_os = "linux"))]
fn nameless_file(_name: &[u8]) -> io::Result<SocketAddr> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_arrives_by_path_and_by_abstract_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let by_path = UnixDatagram::bind(&path).unwrap();
        let name = format!("@reenact-test-{}", std::process::id());
        let address = nameless_file(&name.as_bytes()[1..]).unwrap();
        let by_name = UnixDatagram::bind_addr(&address).unwrap();
        for (socket, name) in [(by_path, path.as_os_str()), (by_name, name.as_ref())] {
            send(name, "READY=1").unwrap();
            let mut found = [0; 16];
            let length = socket.recv(&mut found).unwrap();
            assert_eq!(&found[..length], b"READY=1");
        }
        assert!(send("/no/such/socket".as_ref(), "READY=1").is_err());
    }
}
