//! SIGHUP: what can change while traffic passes is read again.
//!
//! That is the certificate with its key, and the names of what is redacted. All of it is read before any of it is taken:
//! what is broken changes nothing. Names can be added but not taken away, since the trace's header promises them.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::sync::Arc;

use anyhow::Context as _;
use clap::{ArgMatches, Args as _, Command, FromArgMatches as _};
use http::HeaderName;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::http::tls::Identity;
use crate::privacy::{Names, Policy};
use crate::proxy::common::Common;
use crate::trace::redact::Redactor;

use super::args::RecordArgs;
use super::words::say;

/// What can be changed, and how it is asked for.
pub(super) struct Reload<'a> {
    /// Reads the flags once more.
    reread: &'a dyn Fn() -> anyhow::Result<ArgMatches>,
    hangup: Signal,
    /// As they are in use.
    flags: Flags,
    policy: Policy,
    identity: Option<Arc<Identity>>,
    common: Arc<Common>,
    /// What is redacted since the start.
    redactor: Redactor,
}

/// The values of each flag, by its name.
type Flags = BTreeMap<String, Vec<OsString>>;

/// Flags that take effect.
const TAKEN: [&str; 5] = ["tls-cert", "tls-key", "policy", "redact-header", "redact-query"];

// === impl Reload ===

impl<'a> Reload<'a> {
    /// Begins to listen for SIGHUP. Must be called within a runtime.
    ///
    /// # Errors
    /// The signal can't be waited for.
    pub(super) fn new(
        reread: &'a dyn Fn() -> anyhow::Result<ArgMatches>,
        identity: Option<Arc<Identity>>,
        common: Arc<Common>,
        redactor: Redactor,
    ) -> anyhow::Result<Self> {
        let hangup = signal(SignalKind::hangup()).context("SIGHUP can't be waited for")?;
        let matches = reread()?;
        let flags = flags(&matches)?;
        let policy = RecordArgs::from_arg_matches(record(&matches)?)?.privacy.policy()?;
        Ok(Self { reread, hangup, flags, policy, identity, common, redactor })
    }

    /// Reloads at each SIGHUP, for ever.
    pub(super) async fn at_hangup(mut self) {
        loop {
            self.hangup.recv().await;
            match self.reload() {
                Ok(changes) => say(&format!("reloaded: {}", changes.join("; "))),
                Err(error) => say(&format!("not reloaded, all stays as it was: {error:#}")),
            }
        }
    }

    /// Takes what has changed, and says what that is.
    fn reload(&mut self) -> anyhow::Result<Vec<String>> {
        let matches = (self.reread)()?;
        let flags = flags(&matches)?;
        let args = RecordArgs::from_arg_matches(record(&matches)?)?;
        let identity = match (&self.identity, &args.secure.tls_cert, &args.secure.tls_key) {
            (Some(_), Some(cert), Some(key)) => Some((Identity::read(cert, key)?, cert)),
            _ => None,
        };
        let policy = args.privacy.policy()?;
        let (headers, _) = policy.headers.of_headers()?;
        // From here on nothing fails.
        let mut changes = Vec::new();
        if let (Some(current), Some((new, cert))) = (&self.identity, identity) {
            let what = if current.become_other(new) { "new" } else { "as before" };
            changes.push(format!("the certificate {} is {what}", cert.display()));
        }
        changes.extend(self.redact(headers, policy.query.redact.clone()));
        let fixed = self.fixed(&flags, &policy);
        if !fixed.is_empty() {
            changes.push(format!("needs a restart: {}", fixed.join(", ")));
        }
        if changes.is_empty() {
            changes.push("nothing has changed".to_owned());
        }
        Ok(changes)
    }

    /// Has these redacted beside what is redacted since the start, and says what changes.
    fn redact(&self, headers: Vec<HeaderName>, parameters: Vec<String>) -> Vec<String> {
        let asked = Redactor::new([0; 32], headers.clone(), parameters.clone()).names();
        let redactor = self.redactor.with_more(headers, parameters);
        let (before, after) = (self.common.redactor().names(), redactor.names());
        self.common.set_redactor(redactor);
        [
            ("redacted from now on", difference(&after, &before)),
            ("redacted no more", difference(&before, &after)),
            ("redacted until a restart", difference(&self.redactor.names(), &asked)),
        ]
        .into_iter()
        .filter(|(_, names)| !names.is_empty())
        .map(|(what, names)| format!("{what}: {}", names.join(", ")))
        .collect()
    }

    /// Returns the flags that have other values than are in use, and take no effect.
    fn fixed(&self, flags: &Flags, policy: &Policy) -> Vec<String> {
        let is_taken = |name: &str| {
            TAKEN.contains(&name) && (self.identity.is_some() || !name.starts_with("tls"))
        };
        let values = |flags: &Flags, name: &str| flags.get(name).cloned();
        let mut names: Vec<_> = self.flags.keys().chain(flags.keys()).collect();
        names.sort();
        names.dedup();
        names.retain(|name| !is_taken(name) && values(&self.flags, name) != values(flags, name));
        let mut fixed: Vec<String> = names.into_iter().map(|name| format!("--{name}")).collect();
        if rest(policy) != rest(&self.policy) {
            fixed.push("what the policy says beside names to redact".to_owned());
        }
        fixed
    }
}

/// Returns what can't change in a policy while traffic passes.
fn rest(policy: &Policy) -> Policy {
    let rest = |names: &Names| Names { redact: Vec::new(), allow: names.allow.clone() };
    let bodies = policy.bodies.clone();
    Policy { headers: rest(&policy.headers), query: rest(&policy.query), bodies }
}

/// Returns the matches of the verb.
fn record(matches: &ArgMatches) -> anyhow::Result<&ArgMatches> {
    matches.subcommand_matches("record").context("the configuration is not one of `record`")
}

/// Returns the value of each flag of the verb.
fn flags(matches: &ArgMatches) -> anyhow::Result<Flags> {
    let matches = record(matches)?;
    let command = RecordArgs::augment_args(Command::new("record"));
    let flags = command.get_arguments().filter_map(|argument| {
        let values = matches.get_raw(argument.get_id().as_str())?;
        Some((argument.get_long()?.to_owned(), values.map(ToOwned::to_owned).collect()))
    });
    Ok(flags.collect())
}

/// Returns what is in `all` and not in `others`.
fn difference(all: &[String], others: &[String]) -> Vec<String> {
    all.iter().filter(|name| !others.contains(name)).cloned().collect()
}
