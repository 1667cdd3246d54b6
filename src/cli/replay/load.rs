//! The flags of reactive loads, and the loads that they make.

use clap::Args;
use serde_json::json;

use crate::cli::UsageError;
use crate::replay::load::{ClosedLoop, Load};
use crate::replay::plan::{PlanOptions, Timing};

/// When exchanges are sent, where that follows from the ends of others
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Load")]
pub(super) struct LoadArgs {
    /// Keep N requests in flight while work remains (a closed loop): each is due when another one has ended
    #[arg(long, value_name = "N", env = "REENACT_CONCURRENCY")]
    concurrency: Option<u32>,
}

/// Most requests in flight that are asked for: a port is 16 bits.
const MOST: u32 = 65_535;

// === impl LoadArgs ===

impl LoadArgs {
    /// Returns whether a load is asked for.
    pub(super) fn is_given(&self) -> bool {
        self.given().next().is_some()
    }

    /// Checks that no more than one clock is asked for; `others` are those of other arguments.
    ///
    /// # Errors
    /// There are two.
    pub(super) fn check_alone(&self, others: &[(&'static str, bool)]) -> Result<(), UsageError> {
        let others = others.iter().filter(|(_, is_given)| *is_given).map(|(flag, _)| *flag);
        let given: Vec<&str> = others.chain(self.given()).collect();
        if let [first, second, ..] = given[..] {
            return Err(UsageError(format!(
                "--{first} cannot be used with --{second}: each says when exchanges are sent, and there is one clock; \
                 leave one of them out"
            )));
        }
        Ok(())
    }

    /// Returns the plan's options as the load needs them; `rounds` are those that were asked for.
    ///
    /// # Errors
    /// A number is no use.
    pub(super) fn plan(
        &self,
        options: PlanOptions,
        _rounds: Option<u32>,
    ) -> Result<PlanOptions, UsageError> {
        if let Some(concurrency) = self.concurrency {
            check_number("concurrency", concurrency)?;
            return Ok(PlanOptions { timing: Timing::Reactive, ..options });
        }
        Ok(options)
    }

    /// Makes the load, if one is asked for.
    pub(super) fn load(&self) -> Option<Box<dyn Load>> {
        self.concurrency.map(|concurrency| Box::new(ClosedLoop { concurrency }) as Box<dyn Load>)
    }

    /// Returns how many requests it releases at once.
    pub(super) fn peak(&self) -> u64 {
        u64::from(self.concurrency.unwrap_or(0))
    }

    /// Says when a release is due, in words; none for a load whose due times are known before.
    pub(super) fn due_words(&self) -> Option<String> {
        self.concurrency.map(|n| format!("when fewer than {n} are in flight"))
    }

    /// Puts the options in, by flag.
    pub(super) fn describe(&self, options: &mut serde_json::Map<String, serde_json::Value>) {
        if let Some(concurrency) = self.concurrency {
            options.insert("concurrency".to_owned(), json!(concurrency));
        }
    }

    fn given(&self) -> impl Iterator<Item = &'static str> {
        [("concurrency", self.concurrency.is_some())]
            .into_iter()
            .filter(|(_, is_given)| *is_given)
            .map(|(flag, _)| flag)
    }
}

/// Checks a number of requests or users.
fn check_number(flag: &str, number: u32) -> Result<(), UsageError> {
    match number {
        0 => Err(UsageError(format!("--{flag} 0 would send nothing: say at least 1"))),
        1..=MOST => Ok(()),
        _ => Err(UsageError(format!(
            "--{flag} {number} is more than the {MOST} connections that a machine can hold to a target"
        ))),
    }
}
