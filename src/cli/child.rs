//! This program again, as a child process.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};

/// All that were started and have not ended.
#[derive(Clone, Default)]
pub(super) struct Family(Arc<Mutex<Vec<Pid>>>);

/// A verb that runs. Dropped, it is killed.
pub(super) struct Verb {
    family: Family,
    name: String,
    child: Child,
    /// Lines of both outputs, as they come.
    lines: Receiver<String>,
    said: Vec<String>,
}

/// How a verb came out.
pub(super) struct Ended {
    pub(super) status: ExitStatus,
    /// What it printed.
    pub(super) said: Vec<String>,
}

/// Longest time that a verb may say nothing before the demo gives up.
const PATIENCE: Duration = Duration::from_secs(60);

// === impl Family ===

impl Family {
    /// Starts `reenact ARGS`. Settings of the environment are the user's, not the demo's: they are left out.
    pub(super) fn start(&self, args: &[&OsStr]) -> anyhow::Result<Verb> {
        let name =
            args.first().map_or_else(String::new, |verb| verb.to_string_lossy().into_owned());
        let program = std::env::current_exe().context("this program's file can't be found")?;
        let mut command = Command::new(program);
        let ours = std::env::vars_os().map(|(name, _)| name);
        for setting in ours.filter(|name| name.to_string_lossy().starts_with("REENACT_")) {
            command.env_remove(setting);
        }
        command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child =
            command.spawn().with_context(|| format!("`reenact {name}` can't be started"))?;
        let (sender, lines) = channel();
        let outputs: [Option<Box<dyn Read + Send>>; 2] = [
            child.stdout.take().map(|out| Box::new(out) as Box<dyn Read + Send>),
            child.stderr.take().map(|out| Box::new(out) as Box<dyn Read + Send>),
        ];
        for output in outputs.into_iter().flatten() {
            let sender = sender.clone();
            // Ends with the child's output.
            let _reading = thread::spawn(move || {
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    if sender.send(line).is_err() {
                        return;
                    }
                }
            });
        }
        self.pids().push(Pid::from_child(&child));
        Ok(Verb { family: self.clone(), name, child, lines, said: Vec::new() })
    }

    /// Tells all that run to end.
    pub(super) fn end_all(&self) {
        for pid in self.pids().iter() {
            // One that has ended meanwhile has done what it was told.
            let _told = kill_process(*pid, Signal::TERM);
        }
    }

    fn pids(&self) -> MutexGuard<'_, Vec<Pid>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Verb ===

impl Verb {
    /// Waits until it says where it listens, and returns the URL.
    pub(super) fn url(&mut self) -> anyhow::Result<String> {
        while let Some(line) = self.line()? {
            let url = line.split([' ', ',']).find(|word| word.starts_with("http://"));
            if let Some(url) = url {
                return Ok(url.to_owned());
            }
        }
        Err(self.complain("ended before it listened"))
    }

    /// Asks it to end, as Ctrl-C would.
    pub(super) fn interrupt(&self) -> anyhow::Result<()> {
        kill_process(Pid::from_child(&self.child), Signal::TERM)
            .with_context(|| format!("`reenact {}` can't be told to end", self.name))
    }

    /// Waits for its end.
    pub(super) fn end(mut self) -> anyhow::Result<Ended> {
        while self.line()?.is_some() {}
        let status =
            self.child.wait().with_context(|| format!("`reenact {}` is lost", self.name))?;
        match status.code() {
            Some(0 | 3) => Ok(Ended { status, said: std::mem::take(&mut self.said) }),
            _ => Err(self.complain(&format!("failed ({status})"))),
        }
    }

    /// Returns the next line; none at the end of its output.
    fn line(&mut self) -> anyhow::Result<Option<String>> {
        match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => {
                self.said.push(line.clone());
                Ok(Some(line))
            }
            Err(RecvTimeoutError::Disconnected) => Ok(None),
            Err(RecvTimeoutError::Timeout) => Err(self.complain("has said nothing for a minute")),
        }
    }

    fn complain(&self, what: &str) -> anyhow::Error {
        anyhow::anyhow!("`reenact {}` {what}; it said: {}", self.name, self.said.join("\n"))
    }
}

impl Drop for Verb {
    fn drop(&mut self) {
        let pid = Pid::from_child(&self.child);
        self.family.pids().retain(|other| *other != pid);
        // One that has ended already is past both.
        let _killed = self.child.kill();
        let _reaped = self.child.wait();
    }
}
