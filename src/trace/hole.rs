//! Where in a trace something can't be read: between what and what.

use std::fmt;

use crate::clock::Nanos;
use crate::trace::batch::Loss;
use crate::trace::cause::{Amount, Cause};
use crate::trace::finding::{Finding, FindingKind};
use crate::trace::record::{Event, ExchangeId};

/// Bytes that can't be read, with what came before and after them.
#[derive(Debug)]
pub(crate) struct Hole {
    pub(crate) loss: Loss,
    pub(crate) before: Option<Moment>,
    pub(crate) after: Option<Moment>,
}

/// When something was, and in which exchange.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    pub(crate) at: Nanos,
    pub(crate) exchange: Option<ExchangeId>,
}

/// Returns a finding of bytes that can't be read.
pub(crate) fn of_loss(loss: &Loss, text: String) -> Finding {
    let lost = Amount { file_bytes: loss.until.saturating_sub(loss.from), ..Amount::default() };
    Finding { lost, ..Finding::new(FindingKind::Loss, Cause::from(loss.cause), text) }
}

// === impl Hole ===

impl Hole {
    /// Returns it as a finding.
    pub(crate) fn finding(&self) -> Finding {
        let Self { loss, before, after } = self;
        let place = match (before, after) {
            (Some(before), Some(after)) => {
                format!("; what is gone was between {before} and {after}")
            }
            (Some(before), None) => format!("; what is gone came after {before}"),
            (None, Some(after)) => format!("; what is gone came before {after}"),
            (None, None) => String::new(),
        };
        let (from_ns, until_ns) = (before.map(|m| m.at), after.map(|m| m.at));
        Finding { from_ns, until_ns, ..of_loss(loss, format!("{loss}{place}")) }
    }
}

// === impl Moment ===

impl Moment {
    /// Returns when and where an event was.
    pub(crate) fn of(event: &Event) -> Self {
        Self { at: event.at(), exchange: event.exchange() }
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.at)?;
        match self.exchange {
            Some(ExchangeId(id)) => write!(f, " (exchange {id})"),
            None => Ok(()),
        }
    }
}
