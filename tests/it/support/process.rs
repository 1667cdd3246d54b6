//! `reenact record` as a process.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::Peer;

/// A `reenact record` that runs.
pub(crate) struct Process {
    child: Child,
    pub(crate) address: SocketAddr,
    words: Words,
    reading: JoinHandle<()>,
}

/// What a process has said so far. Clones are the same.
#[derive(Clone, Default)]
struct Words(Arc<(Mutex<String>, Condvar)>);

/// Longest wait for a word.
const PATIENCE: Duration = Duration::from_secs(20);

// === impl Process ===

impl Process {
    /// Starts it on a free port.
    pub(crate) fn start(upstream: &str, out: &Path, more: &[&str]) -> Self {
        Self::start_on("127.0.0.1:0", upstream, out, more)
    }

    pub(crate) fn start_on(listen: &str, upstream: &str, out: &Path, more: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_reenact"));
        command.args(["record", "--listen", listen, "--upstream", upstream, "--out"]).arg(out);
        command.args(more);
        Self::spawn(command)
    }

    /// Runs a command and waits until it listens.
    pub(crate) fn spawn(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut first = String::new();
        let words = Words::default();
        while stderr.read_line(&mut first).unwrap() > 0 && !first.starts_with("listening on ") {
            words.add(first.trim_end());
            first.clear();
        }
        let address = first
            .split_once("://")
            .and_then(|(_, rest)| rest.split(',').next()?.parse().ok())
            .unwrap_or_else(|| panic!("it does not listen: {}", words.0.0.lock().unwrap()));
        let heard = words.clone();
        let reading = thread::spawn(move || {
            for line in stderr.lines() {
                heard.add(&line.unwrap());
            }
        });
        Self { child, address, words, reading }
    }

    pub(crate) fn connect(&self) -> Peer {
        Peer::connect(self.address)
    }

    /// Returns the number of the process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
    }

    /// Waits until it has said a line with `text`, and returns that line.
    #[track_caller]
    pub(crate) fn says(&self, text: &str) -> String {
        self.words.wait_for(text)
    }

    /// Waits for the end; returns the exit status, stdout and what stderr had after the first line.
    pub(crate) fn wait(mut self) -> (Option<i32>, String, String) {
        let mut stdout = String::new();
        self.child.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
        let status = self.child.wait().unwrap();
        self.reading.join().unwrap();
        let words = self.words.0.0.lock().unwrap().clone();
        (status.code(), stdout, words)
    }
}

/// Invariant 2: the trace itself proves that nothing is missing in silence.
#[track_caller]
pub(crate) fn check_verified(path: &Path, status: i32) {
    let output = Command::new(env!("CARGO_BIN_EXE_reenact"))
        .args(["trace", "verify"])
        .arg(path)
        .output()
        .unwrap();
    let words = String::from_utf8_lossy(&output.stderr).into_owned()
        + &String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(status), "{words}");
}

/// Asks a question over a Unix socket, such as `GET /readyz`; returns the status, the fields and the body.
pub(crate) fn ask(socket: &Path, question: &str) -> (u16, String, String) {
    ask_with(socket, question, "")
}

/// As [`ask`], with some more header fields, each with its line end.
pub(crate) fn ask_with(socket: &Path, question: &str, fields: &str) -> (u16, String, String) {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "{question} HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n{fields}\r\n")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, head.to_ascii_lowercase(), body.to_owned())
}

// === impl Words ===

impl Words {
    fn add(&self, line: &str) {
        let mut words = self.0.0.lock().unwrap();
        words.push_str(line);
        words.push('\n');
        self.0.1.notify_all();
    }

    #[track_caller]
    fn wait_for(&self, text: &str) -> String {
        let words = self.0.0.lock().unwrap();
        let (words, waited) =
            self.0.1.wait_timeout_while(words, PATIENCE, |words| !words.contains(text)).unwrap();
        assert!(!waited.timed_out(), "it never said {text:?}, but:\n{words}");
        words.lines().find(|line| line.contains(text)).unwrap().to_owned()
    }
}
