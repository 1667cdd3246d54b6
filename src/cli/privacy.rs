//! The flags of a privacy policy, for recording and for existing traces.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use rand::TryRng as _;
use rand::rngs::SysRng;

use crate::privacy::{Policy, PolicyError, Veil};
use crate::trace::record::{BodyMode, PolicyMark};
use crate::trace::redact::Redactor;

use super::UsageError;

/// What may be in the trace
#[derive(Debug, Args)]
#[command(next_help_heading = "Privacy")]
pub(super) struct PrivacyArgs {
    /// What may be in the trace, as a TOML file; the flags below add to it
    #[arg(long, value_name = "FILE", env = "REENACT_POLICY")]
    policy: Option<PathBuf>,
    /// What is kept of bodies: all (full), texts and images as stand-ins (shape), lengths, times and which prompts begin alike (hash), lengths and times (none)
    #[arg(long, value_name = "MODE", env = "REENACT_BODIES")]
    bodies: Option<BodyMode>,
    /// Header field whose value is replaced, beside the known credentials; repeatable
    #[arg(long, value_name = "NAME", env = "REENACT_REDACT_HEADER", value_delimiter = ',')]
    redact_header: Vec<String>,
    /// Header field whose value is kept, while those of all others are replaced but for framing; repeatable
    #[arg(long, value_name = "NAME", env = "REENACT_ALLOW_HEADER", value_delimiter = ',')]
    allow_header: Vec<String>,
    /// Query parameter whose value is replaced, beside the known credentials; repeatable
    #[arg(long, value_name = "NAME", env = "REENACT_REDACT_QUERY", value_delimiter = ',')]
    redact_query: Vec<String>,
    /// Query parameter whose value is kept, while those of all others are replaced; repeatable
    #[arg(long, value_name = "NAME", env = "REENACT_ALLOW_QUERY", value_delimiter = ',')]
    allow_query: Vec<String>,
    /// Place in JSON bodies whose value is replaced, such as /messages/*/content (RFC 6901, * for any); repeatable
    #[arg(long, value_name = "POINTER", env = "REENACT_REDACT_POINTER", value_delimiter = ',')]
    redact_pointer: Vec<String>,
    /// Regular expression whose matches in bodies and heads are replaced; repeatable
    #[arg(long, value_name = "REGEX", env = "REENACT_REDACT_PATTERN")]
    redact_pattern: Vec<String>,
    /// File with the key that replacements follow from, 32 bytes or 64 hex digits; a random one, forgotten, without it
    #[arg(long, value_name = "FILE", env = "REENACT_REDACT_KEY_FILE")]
    redact_key_file: Option<PathBuf>,
}

/// A policy, ready to be followed.
pub(super) struct Privacy {
    /// What replacements follow from.
    pub(super) key: [u8; 32],
    /// For heads, before they are queued.
    pub(super) redactor: Redactor,
    /// For bodies, before they are written.
    pub(super) veil: Veil,
    /// What the trace's header says of it; none if known credentials are all that is replaced.
    pub(super) mark: Option<PolicyMark>,
}

/// Returns bytes that nobody can foretell.
pub(super) fn random<const N: usize>() -> anyhow::Result<[u8; N]> {
    let mut bytes = [0; N];
    SysRng.try_fill_bytes(&mut bytes).context("the system gives no random bytes")?;
    Ok(bytes)
}

fn read_key(path: &Path) -> anyhow::Result<[u8; 32]> {
    let bytes = fs::read(path).with_context(|| format!("can't read the key {}", path.display()))?;
    if let Ok(key) = bytes.as_slice().try_into() {
        return Ok(key);
    }
    let hash =
        str::from_utf8(&bytes).ok().and_then(|text| blake3::Hash::from_hex(text.trim()).ok());
    let hash =
        hash.with_context(|| format!("{} must hold 32 bytes, or 64 hex digits", path.display()))?;
    Ok(*hash.as_bytes())
}

/// Says that what was asked for is wrong, where it is that and not a file that can't be read.
fn as_usage(error: PolicyError) -> anyhow::Error {
    match error {
        PolicyError::Io { .. } => error.into(),
        error => UsageError(error.to_string()).into(),
    }
}

// === impl PrivacyArgs ===

impl PrivacyArgs {
    /// Returns whether a policy is asked for at all.
    pub(super) fn is_given(&self) -> bool {
        self.policy().is_ok_and(|policy| policy != Policy::default())
    }

    /// Reads the policy, and makes ready what follows it.
    pub(super) fn privacy(&self) -> anyhow::Result<Privacy> {
        let policy = self.policy().map_err(as_usage)?;
        let key = match &self.redact_key_file {
            Some(path) => read_key(path)?,
            None => random()?,
        };
        let (headers, allowed) = policy.headers.of_headers().map_err(as_usage)?;
        let redactor = Redactor::new(key, headers, policy.query.redact.clone())
            .allowing(allowed, policy.query.allow.clone());
        let veil = Veil::new(&policy, &key).map_err(as_usage)?;
        let mark = (policy != Policy::default()).then(|| policy.mark());
        Ok(Privacy { key, redactor, veil, mark })
    }

    /// Returns the policy of the file, with what the flags add.
    pub(super) fn policy(&self) -> Result<Policy, PolicyError> {
        let mut policy = match &self.policy {
            Some(path) => Policy::read(path)?,
            None => Policy::default(),
        };
        let allow = |list: &mut Option<Vec<String>>, more: &[String]| {
            if !more.is_empty() {
                list.get_or_insert_default().extend_from_slice(more);
            }
        };
        policy.headers.redact.extend_from_slice(&self.redact_header);
        policy.query.redact.extend_from_slice(&self.redact_query);
        allow(&mut policy.headers.allow, &self.allow_header);
        allow(&mut policy.query.allow, &self.allow_query);
        policy.bodies.mode = self.bodies.unwrap_or(policy.bodies.mode);
        policy.bodies.pointers.extend_from_slice(&self.redact_pointer);
        policy.bodies.patterns.extend_from_slice(&self.redact_pattern);
        Ok(policy)
    }
}
