//! How the simulated server behaves.

use std::time::Duration;

use super::fault::FaultShare;

/// How the simulated server behaves. The defaults are a small model on one GPU.
#[derive(Clone, Debug)]
pub struct SimulateOptions {
    /// Everything random is drawn from it: texts, lengths, vectors, faults.
    pub seed: u64,
    /// The models it lists. It answers to any name.
    pub models: Vec<String>,
    /// Most tokens of a prompt and its answer together.
    pub context_tokens: u64,
    /// Mean length of an answer, in tokens, where the request does not bound it. Lengths are skewed: half of them are below
    /// 0.84 times the mean, one in sixteen is above 2.1 times.
    pub output_tokens: u64,
    /// Mean length of the reasoning before an answer to a chat; 0 for none.
    pub reasoning_tokens: u64,
    /// Time to the first token of an empty prompt.
    pub prefill: Duration,
    /// What each token of the prompt adds to it.
    pub prefill_per_token: Duration,
    /// Time between two tokens of a request that runs alone.
    pub itl: Duration,
    /// Requests that run at once; further ones wait their turn.
    pub slots: usize,
    /// What load costs: with all slots taken, each token takes `1 + slowdown` times as long.
    pub slowdown: f64,
    /// Faults on purpose.
    pub faults: Vec<FaultShare>,
    /// How long a stall lasts.
    pub stall: Duration,
}

// === impl SimulateOptions ===

impl SimulateOptions {
    /// Returns the time to the first token of a prompt, from when it begins to run.
    pub(super) fn prefill_time(&self, prompt_tokens: u64) -> Duration {
        let tokens = u32::try_from(prompt_tokens).unwrap_or(u32::MAX);
        self.prefill.saturating_add(self.prefill_per_token.saturating_mul(tokens))
    }

    /// Returns the time to the next token with this many requests running.
    #[expect(clippy::cast_precision_loss, reason = "a number of slots")]
    pub(super) fn token_time(&self, running: usize) -> Duration {
        let others = self.slots.saturating_sub(1).max(1);
        let load = running.saturating_sub(1).min(others) as f64 / others as f64;
        self.itl.mul_f64(1.0 + self.slowdown * load)
    }
}

impl Default for SimulateOptions {
    fn default() -> Self {
        Self {
            seed: 0,
            models: vec!["simulated".to_owned()],
            context_tokens: 32_768,
            output_tokens: 128,
            reasoning_tokens: 0,
            prefill: Duration::from_millis(15),
            prefill_per_token: Duration::from_micros(100),
            itl: Duration::from_millis(10),
            slots: 64,
            slowdown: 1.0,
            faults: Vec::new(),
            stall: Duration::from_secs(30),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn load_slows_down_up_to_its_bound() {
        let options = SimulateOptions {
            itl: Duration::from_millis(10),
            slots: 5,
            slowdown: 2.0,
            ..SimulateOptions::default()
        };
        for (running, expected) in [(0, 10), (1, 10), (2, 15), (3, 20), (5, 30), (9, 30)] {
            assert_eq!(options.token_time(running), Duration::from_millis(expected), "{running}");
        }
        let alone = SimulateOptions { slots: 1, ..options };
        assert_eq!(alone.token_time(1), Duration::from_millis(10));
    }

    #[test]
    fn prefill_grows_with_the_prompt() {
        let options = SimulateOptions::default();
        assert_eq!(options.prefill_time(0), Duration::from_millis(15));
        assert_eq!(options.prefill_time(1_000), Duration::from_millis(115));
        assert!(options.prefill_time(u64::MAX) > Duration::from_secs(1_000));
    }
}
