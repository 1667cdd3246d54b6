//! From records back to events, and from events to exchanges.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};

use crate::clock::Nanos;
use crate::trace::bare::BareRun;
use crate::trace::batch::Batch;
use crate::trace::columns::{Cut, Run, Stamp};
use crate::trace::pieces::Pieces;
use crate::trace::record::{
    BareFrame, End, Event, ExchangeId, Frame, Interim, Link, Prompt, RequestHead, ResponseHead,
    Side, Trailers,
};
use crate::trace::wire::len_u64;

/// All that is known of one exchange.
#[derive(Clone, Debug, PartialEq)]
pub struct Exchange {
    /// Its request head.
    pub request: RequestHead,
    /// The upstream connection that carried it.
    pub link: Option<Link>,
    /// Interim responses, in order.
    pub interims: Vec<Interim>,
    /// Its response head.
    pub response: Option<ResponseHead>,
    /// The request body.
    pub request_frames: Vec<Frame>,
    /// The response body.
    pub response_frames: Vec<Frame>,
    /// Frames of the request whose bytes could not be recorded.
    pub request_bare: Vec<Bare>,
    /// Frames of the response whose bytes could not be recorded.
    pub response_bare: Vec<Bare>,
    /// Trailers of the request.
    pub request_trailers: Option<Trailers>,
    /// Trailers of the response.
    pub response_trailers: Option<Trailers>,
    /// How it ended; none while open, or when that was lost.
    pub end: Option<End>,
    /// What is known of the prompt, if its text is not in the trace.
    pub prompt: Option<Prompt>,
}

/// A bare frame, and where it stood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bare {
    /// Frames of its side that stood before it and have their bytes.
    pub after: usize,
    /// When it passed, and how long it was.
    pub frame: BareFrame,
}

/// A frame of an exchange, with its bytes or bare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameView<'a> {
    /// When it was read from one side.
    pub at: Nanos,
    /// When the other side had accepted it.
    pub accepted: Nanos,
    /// Bytes that it had.
    pub len: u64,
    /// Its bytes; none when they could not be recorded.
    pub data: Option<&'a Bytes>,
}

/// Collects the events of each exchange until its end.
#[derive(Debug, Default)]
pub struct Assembler {
    open: BTreeMap<ExchangeId, Parts>,
}

#[derive(Debug, Default)]
struct Parts {
    request: Option<RequestHead>,
    link: Option<Link>,
    interims: Vec<Interim>,
    response: Option<ResponseHead>,
    frames: [Vec<Frame>; 2],
    bare: [Vec<Bare>; 2],
    trailers: [Option<Trailers>; 2],
    end: Option<End>,
    prompt: Option<Prompt>,
}

/// Something of a block, in the order in which it is handed out.
#[derive(Clone, Debug)]
pub(crate) enum Part {
    Event(Event),
    Pieces(Pieces),
    Run(Run),
    Bare(BareRun),
}

/// The runs of a side in a block.
#[derive(Debug, Default)]
struct SideRuns {
    runs: Vec<Run>,
    bare: Vec<BareRun>,
}

/// Returns what a block holds, in the order in which it is handed out: frames before their trailers and end.
pub(crate) fn parts(batch: Batch) -> Vec<Part> {
    let mut parts: Vec<Part> = batch.pieces.into_iter().map(Part::Pieces).collect();
    let mut sides: BTreeMap<(ExchangeId, Side), SideRuns> = BTreeMap::new();
    for run in batch.runs {
        sides.entry((run.exchange, run.side)).or_default().runs.push(run);
    }
    for run in batch.bare {
        sides.entry((run.exchange, run.side)).or_default().bare.push(run);
    }
    for event in batch.events {
        let ending: &[Side] = match &event {
            Event::Trailers(trailers) if trailers.side == Side::Request => &[Side::Request],
            Event::Trailers(_) => &[Side::Response],
            Event::End(_) => &[Side::Request, Side::Response],
            _ => &[],
        };
        if let Some(exchange) = event.exchange() {
            for &side in ending {
                let before = sides.remove(&(exchange, side)).unwrap_or_default();
                before.into_parts(&mut parts);
            }
        }
        parts.push(Part::Event(event));
    }
    sides.into_values().for_each(|side| side.into_parts(&mut parts));
    parts
}

// === impl SideRuns ===

impl SideRuns {
    /// Appends the runs in the order in which they were: a bare one after as many others as it says.
    fn into_parts(self, parts: &mut Vec<Part>) {
        let mut bare = self.bare.into_iter().peekable();
        for (before, run) in (0..).zip(self.runs) {
            while let Some(first) = bare.next_if(|bare| bare.after <= before) {
                parts.push(Part::Bare(first));
            }
            parts.push(Part::Run(run));
        }
        parts.extend(bare.map(Part::Bare));
    }
}

// === impl Part ===

impl Part {
    /// Returns the exchange it belongs to; none for a gap.
    pub(crate) fn exchange(&self) -> Option<ExchangeId> {
        match self {
            Self::Event(event) => event.exchange(),
            Self::Pieces(pieces) => Some(pieces.exchange),
            Self::Run(run) => Some(run.exchange),
            Self::Bare(run) => Some(run.exchange),
        }
    }

    /// Returns whether it belongs to the request's head, body or trailers.
    pub(crate) fn is_request(&self) -> bool {
        match self {
            Self::Event(Event::Trailers(trailers)) => trailers.side == Side::Request,
            Self::Event(event) => event.is_request_head(),
            Self::Pieces(pieces) => pieces.side == Side::Request,
            Self::Run(run) => run.side == Side::Request,
            Self::Bare(run) => run.side == Side::Request,
        }
    }

    /// Returns about how many bytes of memory it takes beside its block's.
    pub(crate) fn cost(&self) -> u64 {
        let bytes = size_of::<Self>()
            + match self {
                Self::Event(Event::Request(_) | Event::Response(_)) => 1 << 10,
                Self::Event(_) => 1 << 8,
                Self::Pieces(pieces) => size_of_val(pieces.blobs.as_slice()),
                Self::Run(run) => run.frames.len() * (size_of::<Stamp>() + size_of::<Cut>()),
                Self::Bare(run) => size_of_val(run.frames.as_slice()),
            };
        len_u64(bytes)
    }

    /// Returns when it happened, in nanoseconds since the trace's start; none for pieces, which have no time.
    pub(crate) fn at(&self, tick_ns: u32) -> Option<Nanos> {
        let first = |frames: &[Stamp]| {
            frames.first().map(|frame| Nanos(frame.at.saturating_mul(u64::from(tick_ns))))
        };
        match self {
            Self::Event(event) => Some(event.at()),
            Self::Pieces(_) => None,
            Self::Run(run) => first(&run.frames),
            Self::Bare(run) => first(&run.frames),
        }
    }
}

// === impl Exchange ===

impl Exchange {
    /// Returns the frames of a side in their order, those without their bytes too.
    pub fn frames(&self, side: Side) -> impl Iterator<Item = FrameView<'_>> {
        let (frames, bare) = match side {
            Side::Request => (&self.request_frames, &self.request_bare),
            Side::Response => (&self.response_frames, &self.response_bare),
        };
        let mut bare = bare.iter().peekable();
        let mut frames = frames.iter().enumerate().peekable();
        std::iter::from_fn(move || {
            let before = frames.peek().map_or(usize::MAX, |(before, _)| *before);
            if let Some(Bare { frame, .. }) = bare.next_if(|bare| bare.after <= before) {
                let BareFrame { at, accepted, len, .. } = *frame;
                return Some(FrameView { at, accepted, len, data: None });
            }
            let (_, Frame { at, accepted, data, .. }) = frames.next()?;
            let (at, accepted, len) = (*at, *accepted, len_u64(data.len()));
            Some(FrameView { at, accepted, len, data: Some(data) })
        })
    }

    /// Returns whether bytes of a side's body could not be recorded, or not be read again, as far as that is known.
    #[must_use]
    pub fn lacks(&self, side: Side) -> bool {
        let (bare, passed) = match side {
            Side::Request => (&self.request_bare, self.end.as_ref().map(|end| end.request)),
            Side::Response => (&self.response_bare, self.end.as_ref().map(|end| end.response)),
        };
        passed.is_some_and(|passed| passed.lost_bytes > 0)
            || bare.iter().any(|bare| bare.frame.len > 0)
    }

    /// Returns the request body as it passed, without what could not be recorded.
    #[must_use]
    pub fn request_body(&self) -> Bytes {
        join(&self.request_frames)
    }

    /// Returns the response body as it passed, without what could not be recorded.
    #[must_use]
    pub fn response_body(&self) -> Bytes {
        join(&self.response_frames)
    }
}

fn join(frames: &[Frame]) -> Bytes {
    match frames {
        [only] => only.data.clone(),
        frames => {
            let len = frames.iter().map(|frame| frame.data.len()).sum();
            let mut body = BytesMut::with_capacity(len);
            for frame in frames {
                body.extend_from_slice(&frame.data);
            }
            body.freeze()
        }
    }
}

// === impl Assembler ===

impl Assembler {
    /// Puts all exchanges of `events` together, those without an end too, in the order of their numbers: for a trace that
    /// fits into memory.
    #[must_use]
    pub fn all(events: impl IntoIterator<Item = Event>) -> Vec<Exchange> {
        let mut assembler = Self::default();
        let mut done: Vec<Exchange> =
            events.into_iter().filter_map(|event| assembler.push(event)).collect();
        done.extend(assembler.finish());
        done.sort_by_key(|exchange| exchange.request.exchange);
        done
    }

    /// Takes an event, and returns its exchange if it was the end of one whose request head is known.
    pub fn push(&mut self, mut event: Event) -> Option<Exchange> {
        event.unpack();
        let id = event.exchange()?;
        let parts = self.open.entry(id).or_default();
        match event {
            Event::Request(head) => parts.request = Some(*head),
            Event::Link(link) => parts.link = Some(link),
            Event::Interim(interim) => parts.interims.push(*interim),
            Event::Response(head) => parts.response = Some(*head),
            Event::Frame(frame) => parts.frames[side_idx(frame.side)].push(frame),
            Event::Bare(frame) => {
                let idx = side_idx(frame.side);
                let after = parts.frames[idx].len();
                parts.bare[idx].push(Bare { after, frame });
            }
            Event::Trailers(trailers) => {
                let idx = side_idx(trailers.side);
                parts.trailers[idx] = Some(*trailers);
            }
            Event::End(end) => {
                parts.end = Some(*end);
                return self.open.remove(&id).and_then(Parts::into_exchange);
            }
            Event::Prompt(prompt) => parts.prompt = Some(*prompt),
            // Heads are unpacked above.
            Event::Packed(_) | Event::Gap(_) | Event::Omission(_) => {}
        }
        None
    }

    /// Returns the number of exchanges that have not ended.
    #[must_use]
    pub fn open(&self) -> usize {
        self.open.len()
    }

    /// Returns the exchanges that have not ended and whose request head is known, in the order of their ids.
    #[must_use]
    pub fn finish(self) -> Vec<Exchange> {
        self.open.into_values().filter_map(Parts::into_exchange).collect()
    }
}

// === impl Parts ===

impl Parts {
    fn into_exchange(self) -> Option<Exchange> {
        let [request_frames, response_frames] = self.frames;
        let [request_bare, response_bare] = self.bare;
        let [request_trailers, response_trailers] = self.trailers;
        Some(Exchange {
            request: self.request?,
            link: self.link,
            interims: self.interims,
            response: self.response,
            request_frames,
            response_frames,
            request_bare,
            response_bare,
            request_trailers,
            response_trailers,
            end: self.end,
            prompt: self.prompt,
        })
    }
}

fn side_idx(side: Side) -> usize {
    match side {
        Side::Request => 0,
        Side::Response => 1,
    }
}
