//! What a segment holds that the file system has not taken yet.
//!
//! A disk that is full now may have room in a second: bytes that were refused are kept and tried again. If it never takes
//! them, another segment goes on, and this is what it needs to know: the events, which it writes again, and how many
//! frames of which exchanges are lost.

use std::collections::{BTreeMap, VecDeque};

use crate::trace::columns::Key;
use crate::trace::record::{Counters, Event, ExchangeId, FrameRef, Passed, Side};

/// The blocks that are not in the file in full.
#[derive(Debug, Default)]
pub(crate) struct Unwritten {
    blocks: VecDeque<Block>,
    /// The counters at the end of what is in the file.
    durable: Counters,
}

#[derive(Debug)]
struct Block {
    /// File offsets of its first byte and after its last.
    from: u64,
    until: u64,
    held: Held,
}

/// What a block holds.
#[derive(Debug, Default)]
pub(crate) struct Held {
    /// Events other than frames.
    pub(crate) events: Vec<Event>,
    /// Of each body: frames and their bytes.
    pub(crate) frames: Vec<(Key, Frames)>,
}

/// Some frames of a body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Frames {
    /// How many.
    pub count: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// What a segment that is given up leaves to the next.
#[derive(Debug, Default)]
pub struct Legacy {
    /// Events other than frames that are not in it, in order.
    pub events: Vec<Event>,
    /// Frames that are lost.
    pub lost: Lost,
    /// The counters at the end of what is in it.
    pub counters: Counters,
}

/// Frames that are lost, by exchange.
#[derive(Clone, Debug, Default)]
pub struct Lost(BTreeMap<ExchangeId, [Frames; 2]>);

// === impl Unwritten ===

impl Unwritten {
    pub(crate) fn new(counters: Counters) -> Self {
        Self { blocks: VecDeque::new(), durable: counters }
    }

    /// Takes note of a block that was handed to the file.
    pub(crate) fn push(&mut self, from: u64, until: u64, held: Held) {
        self.blocks.push_back(Block { from, until, held });
    }

    /// Forgets what is in the file now that it has taken `written` bytes; all of it is described by `counters`.
    pub(crate) fn settle(&mut self, written: u64, counters: &Counters) {
        while self.blocks.front().is_some_and(|block| block.until <= written) {
            self.blocks.pop_front();
        }
        if self.blocks.is_empty() {
            self.durable = *counters;
        }
    }

    /// Returns where the first block begins that is not in the file.
    pub(crate) fn from(&self) -> Option<u64> {
        self.blocks.front().map(|block| block.from)
    }

    /// Returns what is not in the file, and then `open`, which was in no block yet.
    pub(crate) fn into_legacy(self, open: Held) -> Legacy {
        let mut legacy = Legacy { counters: self.durable, ..Legacy::default() };
        for held in self.blocks.into_iter().map(|block| block.held).chain([open]) {
            legacy.events.extend(held.events);
            for ((exchange, side), frames) in held.frames {
                legacy.lost.add(exchange, side, frames);
            }
        }
        legacy
    }
}

// === impl Lost ===

impl Lost {
    /// Adds frames of an exchange.
    pub fn add(&mut self, exchange: ExchangeId, side: Side, frames: Frames) {
        let sides = self.0.entry(exchange).or_default();
        sides[usize::from(side == Side::Response)].add(frames);
    }

    /// Adds a frame.
    pub fn push(&mut self, frame: FrameRef<'_>) {
        let bytes = frame.data.len() as u64;
        self.add(frame.exchange, frame.side, Frames { count: 1, bytes });
    }

    /// Adds all of another.
    pub fn extend(&mut self, other: Self) {
        for (exchange, [request, response]) in other.0 {
            self.add(exchange, Side::Request, request);
            self.add(exchange, Side::Response, response);
        }
    }

    /// Returns the sum.
    #[must_use]
    pub fn sum(&self) -> Frames {
        let mut sum = Frames::default();
        self.0.values().flatten().for_each(|frames| sum.add(*frames));
        sum
    }

    /// Returns whether nothing is lost.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Has the end of an exchange say what of it is lost, once.
    pub fn state(&mut self, event: &mut Event) {
        if let Event::End(end) = event
            && let Some([request, response]) = self.0.remove(&end.exchange)
        {
            request.state(&mut end.request);
            response.state(&mut end.response);
        }
    }
}

// === impl Frames ===

impl Frames {
    /// Adds others.
    pub fn add(&mut self, other: Self) {
        self.count = self.count.saturating_add(other.count);
        self.bytes = self.bytes.saturating_add(other.bytes);
    }

    fn state(self, passed: &mut Passed) {
        passed.lost_frames += self.count;
        passed.lost_bytes += self.bytes;
    }
}
