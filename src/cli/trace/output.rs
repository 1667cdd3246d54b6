//! Where a verb that makes a trace of others writes it, and who may read it.

use std::path::Path;

use clap::Args;

use crate::cli::UsageError;
use crate::cli::identity::EncryptArgs;
use crate::trace::{Destination, Trace};

use super::say;

/// Who may read what is written
#[derive(Debug, Args)]
pub(super) struct OutputArgs {
    #[command(flatten)]
    encrypt: EncryptArgs,
    /// Write what was encrypted in the clear
    #[arg(long, env = "REENACT_PLAIN", conflicts_with_all = ["encrypt_to", "encrypt_to_file"])]
    plain: bool,
}

// === impl OutputArgs ===

impl OutputArgs {
    /// Returns the destination `out` of what is made of `traces`; if one of them is encrypted, it is to be so too, unless
    /// told otherwise.
    pub(super) fn destination<'a>(
        &self,
        out: &Path,
        traces: impl IntoIterator<Item = &'a Path>,
    ) -> anyhow::Result<Destination> {
        let recipients = self.encrypt.recipients()?;
        if recipients.is_empty() {
            for trace in traces {
                if !Trace::is_encrypted(trace)? {
                    continue;
                }
                if !self.plain {
                    return Err(UsageError(format!(
                        "{} is encrypted: say to whom the new trace is (--encrypt-to), or that it is to be in the clear (--plain)",
                        trace.display()
                    ))
                    .into());
                }
                say(&format!("warning: {} is not encrypted: anybody can read it", out.display()));
                break;
            }
        }
        Ok(Destination { path: out.to_owned(), recipients })
    }
}
