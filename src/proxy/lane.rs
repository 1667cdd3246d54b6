//! What one poll of a connection brings goes into the queue in one go.
//!
//! A server that is ahead of us hands over tens of frames at once, and each push is a look at memory that the recorder's
//! thread is writing to. So a thread that serves connections collects what it has to record while it polls one of them,
//! and pushes it when the poll returns ([`collect`], which [`Workers`](crate::http::workers::Workers) call): nothing waits for
//! anything that has not happened yet. Bytes of small frames lie behind each other in one piece of memory.
//!
//! What is pushed outside of such a poll goes straight into the queue. All parts of an exchange live on one thread, so
//! that their order is the same either way.

use std::cell::RefCell;
use std::sync::Arc;

use crate::clock::Nanos;
use crate::proxy::queue::Shared;
use crate::trace::record::{Event, ExchangeId, FramesRef, Parts, Side, Span};

/// Events in the order in which they happened, on their way through the queue.
pub(super) struct Batch {
    items: Vec<Item>,
    bytes: Vec<u8>,
    spans: Vec<Span>,
    cost: usize,
    /// Items that were taken out, and the bytes and spans of these.
    taken: usize,
    offset: usize,
    span: usize,
}

/// What a batch holds.
pub(super) enum Entry<'a> {
    Event(Event),
    Frames(FramesRef<'a>),
}

enum Item {
    Event(Event),
    /// Frames that are parts of the next `len` bytes of the batch, at its next `count` spans.
    Frames {
        exchange: ExchangeId,
        side: Side,
        at: Nanos,
        accepted: Nanos,
        len: usize,
        count: usize,
    },
    Taken,
}

/// What this thread is collecting.
struct Lane {
    /// Whether a poll is under way that ends with a push.
    is_open: bool,
    /// Where it goes; none while nothing is collected.
    shared: Option<Arc<Shared>>,
    batch: Batch,
}

/// Pushes what was collected when it is dropped, also when the poll panics.
struct Closing;

thread_local! {
    static LANE: RefCell<Lane> =
        const { RefCell::new(Lane { is_open: false, shared: None, batch: Batch::new() }) };
}

/// What an item takes beside bytes of its own.
pub(super) const ITEM_BYTES: usize = size_of::<Item>();
/// Items after which a batch is pushed although the poll goes on.
const MAX_ITEMS: usize = 64;
/// The same for what it costs in the queue: the budget may be exceeded by this much for each thread.
const MAX_COST: usize = 32 << 10;

/// Runs `poll`, and pushes what it brings in one go.
pub fn collect(poll: &mut dyn FnMut()) {
    LANE.with_borrow_mut(|lane| lane.is_open = true);
    let _closing = Closing;
    poll();
}

/// Has `add` put into the queue what costs `cost`, now or when this thread's poll returns. False when there is no room
/// within `limit`, or nobody writes any more.
pub(super) fn push(
    shared: &Arc<Shared>,
    cost: usize,
    limit: usize,
    add: impl FnOnce(&mut Batch),
) -> bool {
    let pushed = LANE.try_with(|lane| {
        let mut lane = lane.borrow_mut();
        let is_other = |of: &Arc<Shared>| !Arc::ptr_eq(of, shared);
        if lane.shared.as_ref().is_some_and(is_other) {
            lane.push();
        }
        if !shared.has_room(lane.batch.cost.saturating_add(cost), limit) {
            return false;
        }
        lane.shared.get_or_insert_with(|| Arc::clone(shared));
        add(&mut lane.batch);
        lane.batch.cost += cost;
        if !lane.is_open || lane.batch.items.len() >= MAX_ITEMS || lane.batch.cost >= MAX_COST {
            lane.push();
        }
        true
    });
    // A thread has no lane any more when it has dropped what it served.
    pushed.unwrap_or(false)
}

// === impl Lane ===

impl Lane {
    fn push(&mut self) {
        if let Some(shared) = self.shared.take()
            && !self.batch.items.is_empty()
        {
            let next = shared.spare_batch();
            shared.push_batch(std::mem::replace(&mut self.batch, next));
        }
    }
}

impl Drop for Closing {
    fn drop(&mut self) {
        let _ended = LANE.try_with(|lane| {
            let mut lane = lane.borrow_mut();
            lane.is_open = false;
            lane.push();
        });
    }
}

// === impl Entry ===

impl Entry<'_> {
    /// Returns how many events it stands for.
    pub(super) fn count(&self) -> usize {
        match self {
            Self::Event(_) => 1,
            Self::Frames(frames) => frames.parts.spans().len(),
        }
    }
}

// === impl Batch ===

impl Batch {
    pub(super) const fn new() -> Self {
        Self {
            items: Vec::new(),
            bytes: Vec::new(),
            spans: Vec::new(),
            cost: 0,
            taken: 0,
            offset: 0,
            span: 0,
        }
    }

    /// Adds an event.
    pub(super) fn event(&mut self, event: Event) {
        self.items.push(Item::Event(event));
    }

    /// Adds frames with a copy of the memory that they are parts of.
    pub(super) fn small_frames(&mut self, frames: FramesRef<'_>) {
        let FramesRef { exchange, side, at, accepted, parts } = frames;
        let (len, count) = (parts.bytes().len(), parts.spans().len());
        self.bytes.extend_from_slice(parts.bytes());
        self.spans.extend_from_slice(parts.spans());
        self.items.push(Item::Frames { exchange, side, at, accepted, len, count });
    }

    /// Returns how much memory it takes.
    pub(super) fn memory(&self) -> usize {
        let spans = self.spans.capacity() * size_of::<Span>();
        self.items.capacity() * ITEM_BYTES + self.bytes.capacity() + spans
    }

    /// Returns what it was charged with.
    pub(super) fn cost(&self) -> usize {
        self.cost
    }

    /// Takes out the next entry; none after the last, when its memory can be used again.
    pub(super) fn next(&mut self) -> Option<Entry<'_>> {
        let Some(item) = self.items.get_mut(self.taken) else {
            self.items.clear();
            self.bytes.clear();
            self.spans.clear();
            (self.cost, self.taken, self.offset, self.span) = (0, 0, 0, 0);
            return None;
        };
        self.taken += 1;
        Some(match std::mem::replace(item, Item::Taken) {
            Item::Frames { exchange, side, at, accepted, len, count } => {
                let bytes = &self.bytes[self.offset..self.offset + len];
                let parts = Parts::new(bytes, &self.spans[self.span..self.span + count]);
                self.offset += len;
                self.span += count;
                Entry::Frames(FramesRef { exchange, side, at, accepted, parts })
            }
            Item::Event(event) => Entry::Event(event),
            // Each item is taken once.
            Item::Taken => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::trace::record::{Counters, DropReason, Gap};

    fn shared(budget: usize) -> Arc<Shared> {
        Arc::new(Shared::new(budget, 0, Counters::default(), Clock::start()))
    }

    fn frame(shared: &Arc<Shared>, text: &str) -> bool {
        frames(shared, text, &[(0, text.len())])
    }

    fn frames(shared: &Arc<Shared>, bytes: &str, spans: &[(usize, usize)]) -> bool {
        let spans: Vec<_> = spans.iter().map(|&(start, len)| Span { start, len }).collect();
        let parts = Parts::new(bytes.as_bytes(), &spans);
        let (exchange, side) = (ExchangeId(1), Side::Response);
        let frames = FramesRef { exchange, side, at: Nanos(1), accepted: Nanos(2), parts };
        push(shared, parts.total(), 100, |batch| batch.small_frames(frames))
    }

    fn event(shared: &Arc<Shared>) -> bool {
        let reason = DropReason::QueueFull;
        let gap =
            Gap { from: Nanos(1), until: Nanos(1), reason, exchanges: 0, frames: 0, bytes: 0 };
        push(shared, 1, 100, |batch| batch.event(Event::Gap(gap)))
    }

    /// Returns the batches in the queue, each as one text.
    fn batches(shared: &Shared) -> Vec<String> {
        let queued = std::iter::from_fn(|| shared.queue.pop());
        let text = |mut batch: Batch| {
            let mut text = String::new();
            while let Some(entry) = batch.next() {
                match entry {
                    Entry::Event(_) => text.push('|'),
                    Entry::Frames(frames) => frames.iter().for_each(|frame| {
                        text.push_str(std::str::from_utf8(frame.data).unwrap());
                    }),
                }
            }
            text
        };
        queued.map(text).collect()
    }

    #[test]
    fn what_a_poll_brings_is_pushed_when_it_returns_in_its_order() {
        let queue = shared(100);
        collect(&mut || {
            assert!(frame(&queue, "one") && event(&queue) && frame(&queue, "two"));
            assert!(batches(&queue).is_empty(), "the poll goes on");
        });
        assert!(event(&queue) && frame(&queue, "three"), "outside of a poll");
        assert_eq!(batches(&queue), ["one|two", "|", "three"]);
    }

    #[test]
    fn frames_that_came_together_stay_together_in_their_place() {
        let queue = shared(100);
        collect(&mut || {
            assert!(frame(&queue, "one"));
            assert!(frames(&queue, "<two><three>", &[(1, 3), (6, 5)]));
            assert!(event(&queue) && frames(&queue, "[four]", &[(1, 4)]) && frame(&queue, "five"));
        });
        assert_eq!(batches(&queue), ["onetwothree|fourfive"]);
        let mut again = Batch::new();
        let parts = Parts::new(b"x", &[Span { start: 0, len: 1 }]);
        let (exchange, side) = (ExchangeId(1), Side::Response);
        for _ in 0..2 {
            let frames = FramesRef { exchange, side, at: Nanos(1), accepted: Nanos(1), parts };
            again.small_frames(frames);
            assert_eq!(again.next().map(|entry| entry.count()), Some(1));
            assert!(again.next().is_none(), "emptied, it can be filled again");
        }
    }

    /// As the README says.
    #[test]
    fn a_bare_frame_costs_what_it_is_said_to() {
        assert_eq!(ITEM_BYTES, 64);
    }

    #[test]
    fn the_budget_counts_what_is_collected() {
        let queue = shared(100);
        collect(&mut || {
            assert!(frame(&queue, &"x".repeat(60)));
            assert!(!frame(&queue, &"y".repeat(60)), "there is no room for both");
            assert!(frame(&queue, &"z".repeat(40)));
        });
        assert_eq!(batches(&queue), ["x".repeat(60) + &"z".repeat(40)]);
    }

    #[test]
    fn a_poll_that_panics_loses_nothing_and_two_queues_keep_apart() {
        let (first, second) = (shared(100), shared(100));
        let polled = std::panic::catch_unwind(|| {
            collect(&mut || {
                assert!(frame(&first, "one") && frame(&second, "two"));
                panic!("a defect");
            });
        });
        assert!(polled.is_err());
        assert_eq!((batches(&first), batches(&second)), (vec!["one".into()], vec!["two".into()]));
    }
}
