//! What a trace knows of its exchanges without reading them: the index of each segment, as one list.

use crate::clock::Nanos;
use crate::trace::index::Place;
use crate::trace::open::SegmentInfo;
use crate::trace::record::{ExchangeId, Outcome};

/// When an exchange was, and how it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The exchange.
    pub id: ExchangeId,
    /// When its request head was read.
    pub at: Nanos,
    /// When it ended; none while open, or when that was lost.
    pub end: Option<Nanos>,
    /// How it ended.
    pub outcome: Option<Outcome>,
}

/// Joins the segments' places into one list in start order.
pub(crate) fn entries(segments: &[SegmentInfo]) -> Vec<Entry> {
    let mut entries = Vec::with_capacity(segments.iter().map(|segment| segment.places.len()).sum());
    for segment in segments {
        entries.extend(segment.places.iter().map(Entry::of));
    }
    // Stable: what an earlier segment says of an exchange stays before what a later one says.
    entries.sort_by_key(|entry| entry.id);
    entries.dedup_by(|later, first| {
        let same = later.id == first.id;
        if same {
            first.end = first.end.or(later.end);
            first.outcome = first.outcome.or(later.outcome);
        }
        same
    });
    entries
}

/// Counts the exchanges of all segments, those that several hold once.
pub(crate) fn count(segments: &[SegmentInfo]) -> usize {
    match segments {
        [segment] => segment.places.len(),
        segments => entries(segments).len(),
    }
}

// === impl Entry ===

impl Entry {
    fn of(place: Place) -> Self {
        Self {
            id: place.id,
            at: place.at,
            end: place.end.map(|end| end.0),
            outcome: place.end.map(|end| end.1),
        }
    }
}
