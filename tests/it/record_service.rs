//! `reenact record` as a service: what its manager hears of it, and what it writes into a log.

use std::os::unix::fs::MetadataExt as _;
use std::process::Command;
use std::time::Duration;

use reenact::clock::{Clock, Nanos};

use crate::record_admin::Scratch;
use crate::support::{Process, ask};

const PATIENCE: Duration = Duration::from_secs(20);

/// What a service manager gets, and what a log gets that is no terminal: whole lines, one for each change of state.
#[test]
fn a_service_manager_hears_of_readiness_and_a_log_of_each_change() {
    let scratch = Scratch::new();
    let notify = scratch.socket.with_file_name("notify");
    let manager = std::os::unix::net::UnixDatagram::bind(&notify).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let hear = || {
        let mut heard = [0; 64];
        let length = manager.recv(&mut heard).unwrap();
        String::from_utf8_lossy(&heard[..length]).into_owned()
    };
    let mut command = Command::new(env!("CARGO_BIN_EXE_reenact"));
    command
        .args(["record", "--listen=127.0.0.1:0", "--upstream=http://127.0.0.1:9", "--out"])
        .arg(&scratch.out)
        .arg(format!("--admin=unix:{}", scratch.socket.display()))
        .env("NOTIFY_SOCKET", &notify);
    let process = Process::spawn(command);
    assert_eq!(hear(), "READY=1");
    assert_eq!(ask(&scratch.socket, "GET /readyz").0, 200);
    ask(&scratch.socket, "POST /recording/stop");
    process.says("recording is stopped on request");
    ask(&scratch.socket, "POST /recording/start");
    process.says("recording is started again");
    process.signal("-TERM");
    assert_eq!(hear(), "STOPPING=1");
    let (status, _, words) = process.wait();
    assert_eq!(status, Some(0), "{words}");
    assert!(!words.contains(['\r', '\u{1b}']), "{words:?}");
}

/// In systemd's journal a warning is one; anywhere else it has no mark.
#[test]
fn a_warning_is_marked_for_the_journal() {
    let scratch = Scratch::new();
    let log = scratch.socket.with_file_name("journal");
    let stderr = std::fs::File::create(&log).unwrap();
    let found = stderr.metadata().unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_reenact"))
        .args(["record", "--listen=127.0.0.1:0", "--upstream=http://127.0.0.1:9"])
        .args(["--min-free=99999999G", "--out"])
        .arg(&scratch.out)
        .env("JOURNAL_STREAM", format!("{}:{}", found.dev(), found.ino()))
        .stderr(stderr)
        .spawn()
        .unwrap();
    let clock = Clock::start();
    let said = loop {
        let said = std::fs::read_to_string(&log).unwrap();
        if said.contains("degraded: ") || clock.now().since(Nanos::ZERO) > PATIENCE {
            break said;
        }
        std::thread::yield_now();
    };
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(said.contains("\n<4>degraded: "), "{said}");
    assert!(said.starts_with("listening on"), "{said}");
}
