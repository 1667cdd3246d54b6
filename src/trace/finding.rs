//! What a check of a trace says: findings, and for each cause what it means.

use crate::clock::Nanos;
use crate::trace::cause::{Amount, Cause};
use crate::trace::ids::Ids;
use crate::trace::record::{Counters, ExchangeId};

/// What a check of a whole trace found.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Verification {
    /// Exchanges with at least one event.
    pub exchanges: u64,
    /// Of these, not ended.
    pub open: u64,
    /// Body frames.
    pub frames: u64,
    /// Body bytes in these.
    pub body_bytes: u64,
    /// Body frames that are lost but for their times and lengths.
    pub bare_frames: u64,
    /// Body bytes that these had.
    pub bare_bytes: u64,
    /// The counters that the trace states.
    pub stated: Counters,
    /// The counters that its events add up to.
    pub counted: Counters,
    /// Why something is missing, the gravest first; at the end what was left out on purpose.
    pub causes: Vec<CauseSummary>,
    /// Everything that does not hold, the first [`MAX_FINDINGS`] in order.
    pub findings: Vec<Finding>,
    /// Findings beyond these.
    pub more: u64,
}

/// All that has one cause.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct CauseSummary {
    /// Why.
    pub cause: Cause,
    /// Whether it is a loss; what was left out on purpose is none.
    pub is_loss: bool,
    /// Findings, or omissions.
    pub findings: u64,
    /// When the first of it was, since the trace's time zero, as far as it is known.
    pub from_ns: Option<Nanos>,
    /// When the last of it was.
    pub until_ns: Option<Nanos>,
    /// What is missing in all.
    pub lost: Amount,
    /// Exchanges that are there and not whole.
    pub incomplete: Ids,
    /// What happened.
    pub what: &'static str,
    /// What it means for a replay and for numbers drawn from the trace.
    pub means: &'static str,
    /// What can be done.
    pub remedy: &'static str,
}

/// Something that does not hold.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    /// What kind, as a stable name.
    pub kind: FindingKind,
    /// Why; the summary of this cause says what it means and what can be done.
    pub cause: Cause,
    /// The exchange, where it is about one.
    pub exchange: Option<u64>,
    /// When it began, since the trace's time zero, as far as it is known.
    pub from_ns: Option<Nanos>,
    /// When it had ended.
    pub until_ns: Option<Nanos>,
    /// How much is missing.
    pub lost: Amount,
    /// Exchanges that are there and not whole.
    pub incomplete: Ids,
    /// What, in a sentence.
    pub text: String,
}

/// Kinds of finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FindingKind {
    /// The recorder said that it could not record something.
    Gap,
    /// Bytes of the files can't be read.
    Loss,
    /// A body is incomplete, or not what was recorded.
    Body,
    /// An exchange does not begin, go on or end as one must.
    Order,
    /// Stamps run backwards.
    Stamps,
    /// What passed is not what is held plus what was lost.
    Totals,
    /// The conservation law, or a counter, does not hold: of exchanges, or of frames that were lost.
    Counters,
    /// The index does not say what the events say.
    Index,
}

/// Findings that are kept.
pub const MAX_FINDINGS: usize = 1_000;

// === impl Verification ===

impl Verification {
    /// Returns whether everything holds. What was left out on purpose is stated, and holds.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.findings.is_empty()
    }
}

// === impl CauseSummary ===

impl CauseSummary {
    pub(crate) fn new(cause: Cause) -> Self {
        Self {
            cause,
            is_loss: cause.is_loss(),
            findings: 0,
            from_ns: None,
            until_ns: None,
            lost: Amount::default(),
            incomplete: Ids::default(),
            what: cause.what(),
            means: cause.means(),
            remedy: cause.remedy(),
        }
    }

    pub(crate) fn add(&mut self, from: Option<Nanos>, until: Option<Nanos>, lost: Amount) {
        self.findings += 1;
        self.from_ns = self.from_ns.into_iter().chain(from).min();
        self.until_ns = self.until_ns.max(until);
        self.lost.add(lost);
    }
}

// === impl Finding ===

impl Finding {
    pub(crate) fn new(kind: FindingKind, cause: Cause, text: impl Into<String>) -> Self {
        Self {
            kind,
            cause,
            exchange: None,
            from_ns: None,
            until_ns: None,
            lost: Amount::default(),
            incomplete: Ids::default(),
            text: text.into(),
        }
    }

    pub(crate) fn of(
        kind: FindingKind,
        cause: Cause,
        ExchangeId(id): ExchangeId,
        text: &str,
    ) -> Self {
        let text = format!("exchange {id} {text}");
        Self { exchange: Some(id), ..Self::new(kind, cause, text) }
    }
}
