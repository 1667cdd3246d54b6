//! The flags of `reenact replay` about how long outputs are.

use clap::Args;
use serde_json::{Map, Value, json};

use crate::replay::family::Family;
use crate::replay::pin::Lengths;

/// How long outputs are
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Length of outputs")]
pub(super) struct LengthArgs {
    /// Ask for outputs as long as the recorded ones, in the words of a family of servers: auto (by the request's API), vllm,
    /// sglang, tgi, llamacpp, ollama. Constrained decoding is left alone; what became of each is in `output_pinned` of its row
    #[arg(
        long,
        value_name = "FAMILY",
        env = "REENACT_PIN_OUTPUT",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "auto"
    )]
    pin_output: Option<Family>,
    /// Ask for no more than N tokens of output
    #[arg(long, value_name = "N", env = "REENACT_MAX_TOKENS_CAP", value_parser = clap::value_parser!(u64).range(1..))]
    max_tokens_cap: Option<u64>,
}

// === impl LengthArgs ===

impl LengthArgs {
    pub(super) const fn lengths(&self) -> Lengths {
        Lengths { pin: self.pin_output, cap: self.max_tokens_cap }
    }

    /// Puts the options in, by flag.
    pub(super) fn describe(&self, options: &mut Map<String, Value>) {
        let family = self.pin_output.map(|family| family.to_string());
        options.insert("pin-output".to_owned(), json!(family));
        options.insert("max-tokens-cap".to_owned(), json!(self.max_tokens_cap));
    }
}
