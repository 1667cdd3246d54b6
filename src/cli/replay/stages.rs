//! The file of `--stages`: a list of `[[stage]]` tables.

use std::path::Path;
use std::time::Duration;

use serde::Deserialize;

use crate::replay::arrival::Arrival;
use crate::replay::stages::{Stage, Stages, Step};

use super::args::time;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    stage: Vec<Table>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    concurrency: Option<u32>,
    rate: Option<f64>,
    arrival: Option<String>,
    duration: Length,
}

/// A length of time: `"30s"`, or a number of seconds.
#[derive(Deserialize)]
#[serde(untagged)]
enum Length {
    Seconds(f64),
    Text(String),
}

/// Reads the stages of a file; the error says what is wrong with it.
pub(super) fn read(path: &str) -> Result<Stages, String> {
    let text = std::fs::read_to_string(Path::new(path))
        .map_err(|error| format!("can't read it: {error}"))?;
    parse(&text)
}

fn parse(text: &str) -> Result<Stages, String> {
    let file: File = toml::from_str(text).map_err(|error| error.to_string())?;
    let stages: Result<Vec<Stage>, String> = (1..)
        .zip(&file.stage)
        .map(|(number, table)| table.stage().map_err(|error| format!("stage {number}: {error}")))
        .collect();
    Stages::new(stages?).map_err(|error| error.to_string())
}

// === impl Table ===

impl Table {
    fn stage(&self) -> Result<Stage, String> {
        let step = match (self.concurrency, self.rate, &self.arrival) {
            (Some(n), None, None) => Step::Concurrency(n),
            (None, Some(rate), arrival) => {
                let arrival = arrival.as_deref().map_or(Ok(Arrival::Poisson), str::parse);
                Step::Rate { rate, arrival: arrival.map_err(|error| error.to_string())? }
            }
            _ => {
                return Err("say either concurrency, or rate and perhaps arrival".to_owned());
            }
        };
        Ok(Stage { step, duration: self.duration.time()? })
    }
}

// === impl Length ===

impl Length {
    fn time(&self) -> Result<Duration, String> {
        match self {
            Self::Seconds(seconds) => time(&seconds.to_string()),
            Self::Text(text) => time(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_are_read_in_order() {
        let text = "[[stage]]\nrate = 10\nduration = \"1m\"\n[[stage]]\nconcurrency = 8\nduration = 2.5\n\
                    [[stage]]\nrate = 0.5\narrival = \"gamma:2\"\nduration = 3\n";
        assert_eq!(
            parse(text).unwrap().to_string(),
            "rate 10 poisson for 60 s, concurrency 8 for 2.5 s, rate 0.5 gamma:2 for 3 s"
        );
    }

    #[test]
    fn what_is_wrong_with_a_file_is_said() {
        let check = |text: &str, words: &str| {
            let error = parse(text).unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        };
        check("", "there is no stage");
        check("[[stage]]\nrate = 1\n", "duration");
        check("[[stage]]\nrate = 1\nconcurrency = 1\nduration = 1", "stage 1: say either");
        check("[[stage]]\nconcurrency = 1\narrival = \"poisson\"\nduration = 1", "say either");
        check("[[stage]]\nduration = 1", "say either");
        check("[[stage]]\nrate = 0\nduration = 1", "stage 1 would send nothing");
        check("[[stage]]\nrate = 1\narrival = \"x\"\nduration = 1", "unknown arrival process");
        check("[[stage]]\nrate = 1\nduration = \"soon\"", "stage 1: ");
        check("[[stage]]\nspeed = 1\nduration = 1", "line 2");
    }
}
