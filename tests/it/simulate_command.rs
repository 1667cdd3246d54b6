//! `reenact simulate` as a command.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;

fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_reenact"));
    command.arg("simulate").env_clear();
    command
}

#[test]
fn it_says_where_it_listens_and_ends_at_a_signal() {
    let mut child =
        command().args(["--listen", "127.0.0.1:0"]).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stderr.take().unwrap()).read_line(&mut line).unwrap();
    let address = line.trim().strip_prefix("simulating on http://").unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(b"GET /v1/models HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.contains("\"simulated\""), "{answer}");
    let id = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
    assert!(child.wait().unwrap().success());
}

#[test]
fn what_can_not_be_is_refused() {
    for (args, status, said) in [
        (["--fault", "often"].as_slice(), 2, "a fault is KIND:SHARE"),
        (&["--itl-ms=-1"], 2, "it must be from 0 to 1000000"),
        (&["--slots", "0"], 2, "0 is not in 1..=1000000"),
        (&["--listen", "here"], 2, "invalid socket address"),
        (&["--tls-cert", "a.pem"], 2, "--tls-key"),
        (&["--listen", "192.0.2.1:1"], 1, "can't listen on 192.0.2.1:1"),
        (&["--tls-cert", "no.pem", "--tls-key", "no.key"], 1, "no.pem"),
    ] {
        let output = command().args(args).output().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(status), "{args:?}: {error}");
        assert!(error.contains(said), "{args:?}: {error}");
    }
}
