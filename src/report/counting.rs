//! What one row of `requests.parquet` adds to the counts of a summary.

use crate::results::rows::Measurement;

use super::summary::{Counts, ErrorKey, Group, Slow};

// === impl Counts ===

impl Counts {
    /// Counts the row; returns whether it is good.
    pub(super) fn push(&mut self, row: &Measurement) -> bool {
        let good = row.outcome == "complete" && row.error_kind.is_none();
        self.rows += 1;
        *match (row.outcome.as_str(), good) {
            (_, true) => &mut self.good,
            ("complete", false) => &mut self.errors,
            ("cancelled", _) => &mut self.cancelled,
            _ => &mut self.failed,
        } += 1;
        let recorded = row.recorded_status.filter(|status| *status >= 400);
        self.errors_as_recorded += u64::from(
            row.outcome == "complete" && !good && recorded.is_some() && recorded == row.status,
        );
        let stream = streamed(row);
        self.streams += u64::from(stream);
        self.retried += u64::from(row.retries > 0);
        self.connected += u64::from(row.connection_reused == Some(false));
        let one_frame = row.first_token_ns.is_some() && row.first_token_ns == row.last_token_ns;
        self.one_frame_streams +=
            u64::from(stream && good && one_frame && row.output_tokens > Some(1));
        let generates = matches!(row.operation.as_str(), "chat" | "completion");
        self.estimated_tokens += u64::from(row.output_tokens_source.as_deref() == Some("frames"));
        self.uncounted_tokens += u64::from(good && generates && row.output_tokens.is_none());
        self.input_tokens += row.input_tokens.unwrap_or(0);
        self.cached_tokens += row.cached_tokens.unwrap_or(0);
        self.output_tokens += row.output_tokens.unwrap_or(0);
        good
    }
}

// === impl Group ===

impl Group {
    /// Takes a row in.
    pub(super) fn push(&mut self, row: &Measurement, good: bool) {
        self.rows += 1;
        self.good += u64::from(good);
        self.input_tokens += row.input_tokens.unwrap_or(0);
        self.output_tokens += row.output_tokens.unwrap_or(0);
        if let Some((sent_ns, end_ns)) = row.sent_ns.zip(row.end_ns) {
            let (first, last) = self.span.unwrap_or((sent_ns, end_ns));
            self.span = Some((first.min(sent_ns), last.max(end_ns)));
        }
        if good {
            let ttft_ns = row.ttft_ns.filter(|_| streamed(row));
            ttft_ns.into_iter().for_each(|ttft_ns| self.ttfts.push(ttft_ns));
            row.e2e_ns.into_iter().for_each(|e2e_ns| self.e2es.push(e2e_ns));
        }
    }

    /// Works out what follows from all rows.
    #[expect(clippy::cast_precision_loss, reason = "a rate")]
    pub(super) fn finish(&mut self) {
        self.ttft = self.ttfts.spread();
        self.e2e = self.e2es.spread();
        let span_ns = self.span.map(|(first, last)| last - first).filter(|span| *span > 0);
        self.requests_per_s = span_ns.map(|span| self.rows as f64 / (span as f64 / 1e9));
    }
}

// === impl ErrorKey ===

impl ErrorKey {
    /// Returns what the error of a row is counted by.
    pub(super) fn of(row: &Measurement) -> Self {
        Self {
            kind: row.error_kind.clone().unwrap_or_else(|| "unknown".to_owned()),
            status: row.status.filter(|status| *status >= 400),
        }
    }
}

// === impl Slow ===

impl Slow {
    /// Returns the row as one of the slowest; none when it was not sent or has no end.
    pub(super) fn of(row: &Measurement) -> Option<Self> {
        let (sent_ns, e2e_ns) = row.sent_ns.zip(row.e2e_ns)?;
        let status = row.status.map(|status| status.to_string());
        Some(Self {
            exchange: row.exchange,
            round: row.round,
            sent_ns,
            e2e_ns,
            ttft_ns: row.ttft_ns,
            recorded_e2e_ns: row.recorded_e2e_ns,
            input_tokens: row.input_tokens,
            output_tokens: row.output_tokens,
            what: what(row),
            result: match (row.outcome.as_str(), status) {
                ("complete", Some(status)) => status,
                (outcome, _) => outcome.to_owned(),
            },
        })
    }
}

/// Whether the response came as a stream: a unary one has no first token before its end.
pub(super) fn streamed(row: &Measurement) -> bool {
    row.stream == Some(true)
}

/// Operation and model (as sent, else as recorded), or the path where there is no model.
pub(super) fn what(row: &Measurement) -> String {
    match row.model_sent.as_ref().or(row.model_recorded.as_ref()) {
        Some(model) => format!("{} {model}", row.operation),
        None => format!("{} {}", row.method, row.path),
    }
}
