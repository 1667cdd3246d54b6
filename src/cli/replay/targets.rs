//! The flags of `reenact replay` about which target gets what.

use std::str::FromStr;

use clap::Args;
use serde_json::{Map, Value, json};

use crate::cli::UsageError;
use crate::http::Origin;
use crate::replay::balance::{Balance, Balancer, Policy};

/// Which target gets which request
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Targets")]
pub(super) struct TargetArgs {
    /// How targets are chosen: round-robin (in the order named), round-robin-last (the same, the one named first comes last),
    /// weighted, session (a conversation stays with its target, by a hash of its name, or of the recorded connection where none was found),
    /// least-outstanding (fewest calls in flight when the request is due: depends on the targets' speed, and is no two times
    /// the same)
    #[arg(
        long,
        value_name = "POLICY",
        env = "REENACT_BALANCE",
        default_value = "round-robin",
        conflicts_with = "mirror"
    )]
    balance: Policy,
    /// Weights for --balance weighted, one for each --target, in their order
    #[arg(
        long,
        value_name = "N",
        env = "REENACT_WEIGHT",
        value_delimiter = ',',
        conflicts_with = "mirror"
    )]
    weight: Vec<u32>,
    /// Send what was recorded with this model to this target, and nothing else there that --target does not name; repeatable,
    /// a model with several takes turns among them
    #[arg(
        long,
        value_name = "MODEL=URL",
        env = "REENACT_ROUTE_MODEL",
        value_delimiter = ',',
        conflicts_with = "mirror"
    )]
    route_model: Vec<ModelRoute>,
    /// Send every request to every target at the same due time: a comparison in one run. Its rows have the same exchange and
    /// round, and another target
    #[arg(long, env = "REENACT_MIRROR")]
    mirror: bool,
}

/// `MODEL=URL`.
#[derive(Clone, Debug)]
struct ModelRoute {
    model: String,
    target: Origin,
}

// === impl TargetArgs ===

impl TargetArgs {
    /// Returns all targets: those for every request, then those that only models have.
    pub(super) fn all(&self, common: &[Origin]) -> Vec<Origin> {
        let mut all = common.to_vec();
        for route in &self.route_model {
            if !all.contains(&route.target) {
                all.push(route.target.clone());
            }
        }
        all
    }

    /// Returns what hands out the targets.
    pub(super) fn balancer(&self, common: &[Origin]) -> anyhow::Result<Balancer> {
        let all = self.all(common);
        if !self.weight.is_empty() && self.balance != Policy::Weighted {
            return Err(UsageError("--weight needs --balance weighted".to_owned()).into());
        }
        let place = |target: &Origin| all.iter().position(|known| known == target);
        let models = self
            .route_model
            .iter()
            .filter_map(|route| Some((route.model.clone(), place(&route.target)?)))
            .collect();
        let balance = Balance {
            policy: if self.mirror { Policy::Mirror } else { self.balance },
            weights: self.weight.clone(),
            models,
            common: common.len(),
        };
        let urls = all.iter().map(ToString::to_string).collect();
        Balancer::new(&balance, urls).map_err(|error| UsageError(error.to_string()).into())
    }

    /// Returns how many targets share the busiest moment for certain: connections are kept ready for the rest of it.
    pub(super) fn sharers(&self, common: &[Origin]) -> u64 {
        let takes_turns = matches!(self.balance, Policy::RoundRobin | Policy::RoundRobinLast);
        let is_plain = takes_turns && !self.mirror && self.route_model.is_empty();
        if is_plain { common.len().max(1) as u64 } else { 1 }
    }

    /// Returns how many requests go out for one release.
    pub(super) fn copies(&self, common: &[Origin]) -> u64 {
        if self.mirror { common.len() as u64 } else { 1 }
    }

    /// Puts the options in, by flag.
    pub(super) fn describe(&self, options: &mut Map<String, Value>) {
        let routes: Vec<String> = self
            .route_model
            .iter()
            .map(|route| format!("{}={}", route.model, route.target))
            .collect();
        options.insert("balance".to_owned(), json!(self.balance.to_string()));
        options.insert("weight".to_owned(), json!(self.weight));
        options.insert("route-model".to_owned(), json!(routes));
        options.insert("mirror".to_owned(), json!(self.mirror));
    }
}

// === impl ModelRoute ===

impl FromStr for ModelRoute {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (model, target) = text
            .split_once('=')
            .filter(|(model, _)| !model.is_empty())
            .ok_or("say MODEL=URL, as in llama-70b=http://gpu-2:8000")?;
        let target = target.parse().map_err(|error| format!("{target}: {error}"))?;
        Ok(Self { model: model.to_owned(), target })
    }
}
