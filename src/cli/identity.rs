//! Keys for encrypted traces, as arguments: identities of whom reads, recipients of what is written.

use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::Context as _;
use clap::Args;
use zeroize::Zeroizing;

use crate::trace::{KeyError, ReadOptions, Recipient, Recipients, parse_keys};

use super::UsageError;

/// What opens encrypted traces
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Encryption")]
pub(super) struct IdentityArgs {
    /// File with identities (private keys, as age-keygen makes them) that open encrypted traces; repeatable
    #[arg(long, value_name = "FILE", env = "REENACT_IDENTITY", value_delimiter = ',')]
    identity: Vec<PathBuf>,
}

/// To whom what is written is encrypted
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Encryption")]
pub(super) struct EncryptArgs {
    /// Encrypt the trace to this recipient (a public key, age1...), who alone can read it then; repeatable
    #[arg(long, value_name = "RECIPIENT", env = "REENACT_ENCRYPT_TO", value_delimiter = ',')]
    encrypt_to: Vec<String>,
    /// Encrypt the trace to the recipients in this file too, one a line; repeatable
    #[arg(long, value_name = "FILE", env = "REENACT_ENCRYPT_TO_FILE", value_delimiter = ',')]
    encrypt_to_file: Vec<PathBuf>,
}

// === impl IdentityArgs ===

impl IdentityArgs {
    pub(super) fn read_options(&self) -> anyhow::Result<ReadOptions> {
        let mut identities = Vec::new();
        for path in &self.identity {
            identities.append(&mut keys(path)?);
        }
        Ok(ReadOptions { identities })
    }
}

// === impl EncryptArgs ===

impl EncryptArgs {
    /// Returns the recipients; none when nothing is to be encrypted.
    pub(super) fn recipients(&self) -> anyhow::Result<Recipients> {
        let mut recipients: Vec<Recipient> = Vec::new();
        for text in &self.encrypt_to {
            // What was given is not repeated: it may be a secret.
            let recipient = text.trim().parse();
            recipients
                .push(recipient.map_err(|error| UsageError(format!("--encrypt-to: {error}")))?);
        }
        for path in &self.encrypt_to_file {
            recipients.append(&mut keys(path)?);
        }
        Ok(Recipients::new(recipients))
    }
}

fn keys<K: FromStr<Err = KeyError>>(path: &Path) -> anyhow::Result<Vec<K>> {
    let text = fs::read_to_string(path)
        .map(Zeroizing::new)
        .with_context(|| format!("can't read the keys in {}", path.display()))?;
    parse_keys(&text).with_context(|| format!("{} holds no list of keys", path.display()))
}
