//! A log behind a policy: what it does not let into a trace never reaches the disk.
//!
//! It works on the recorder's thread. What is held, since what follows decides it, is appended when that has come.

use std::collections::VecDeque;
use std::time::Duration;

use crate::clock::Nanos;
use crate::privacy;
use crate::proxy::log::{Appended, Log, Strain};
use crate::trace::record::{Counters, DropReason, Event, FramesRef, Gap, Span};
use crate::trace::{Frames, Lost};

/// A log that gets what a policy leaves of events.
#[derive(Debug)]
pub struct Veil<L> {
    log: L,
    veil: privacy::Veil,
    /// What is decided, and not appended yet, since the log could not be written.
    ready: VecDeque<Event>,
    /// What a panic took: the ends of exchanges are to say so.
    lost: Lost,
    lost_for_good: Frames,
    /// Of that, what no gap tells yet.
    untold: Frames,
}

// === impl Veil ===

impl<L: Log> Veil<L> {
    /// Puts `veil` before `log`.
    pub fn new(log: L, veil: privacy::Veil) -> Self {
        Self {
            log,
            veil,
            ready: VecDeque::new(),
            lost: Lost::default(),
            lost_for_good: Frames::default(),
            untold: Frames::default(),
        }
    }

    /// Appends what is decided.
    fn append_ready(&mut self) -> Result<Appended, L::Error> {
        let mut appended = Appended::Taken;
        while let Some(mut event) = self.ready.pop_front() {
            self.lost.state(&mut event);
            appended = appended.and(match &event {
                // A log may have a shorter way for these.
                Event::Frame(frame) => {
                    self.log.append_frames(frame.as_ref().alone(&mut Span::default()))?
                }
                _ => self.log.append(event)?,
            });
        }
        Ok(appended)
    }
}

impl<L: Log> Log for Veil<L> {
    type Summary = L::Summary;
    type Error = L::Error;

    fn append(&mut self, event: Event) -> Result<Appended, L::Error> {
        if self.veil.is_open() {
            return self.log.append(event);
        }
        self.veil.event(event, &mut self.ready);
        self.append_ready()
    }

    fn append_frames(&mut self, frames: FramesRef<'_>) -> Result<Appended, L::Error> {
        if self.veil.is_open() {
            return self.log.append_frames(frames);
        }
        self.veil.frames(frames, &mut self.ready);
        self.append_ready()
    }

    fn flush(&mut self, now: Nanos) -> Result<(), L::Error> {
        self.log.flush(now)
    }

    fn is_due(&self, now: Nanos) -> bool {
        self.log.is_due(now)
    }

    fn resume(&mut self, now: Nanos) -> Result<(), L::Error> {
        self.log.resume(now)?;
        let Frames { count: frames, bytes } = std::mem::take(&mut self.untold);
        if frames > 0 {
            let reason = DropReason::RecorderStopped;
            let gap = Gap { from: now, until: now, reason, exchanges: 0, frames, bytes };
            self.ready.push_back(Event::Gap(gap));
        }
        self.append_ready().map(|_| ())
    }

    fn give_up(&mut self) {
        // What a panic left half done may be anything, so nothing of it is told. What is ready is whole.
        let lost = self.veil.forget();
        self.lost_for_good.add(lost.sum());
        self.untold.add(lost.sum());
        self.lost.extend(lost);
        self.log.give_up();
    }

    fn strain(&mut self, strain: Strain) {
        self.log.strain(strain);
    }

    fn counters(&self) -> Counters {
        self.log.counters()
    }

    fn lost(&self) -> Frames {
        let (ours, theirs) = (self.lost_for_good, self.log.lost());
        Frames { count: ours.count + theirs.count, bytes: ours.bytes + theirs.bytes }
    }

    fn undecided(&self) -> u64 {
        self.log.undecided()
    }

    fn written_bytes(&self) -> u64 {
        self.log.written_bytes()
    }

    fn take_syncs(&mut self) -> Vec<Duration> {
        self.log.take_syncs()
    }

    fn finish(mut self, now: Nanos) -> Result<L::Summary, L::Error> {
        self.veil.finish(&mut self.ready);
        // What the log refuses now, its own `finish` says.
        let _refused = self.append_ready();
        self.log.finish(now)
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use http::{HeaderMap, Method};

    use super::*;
    use crate::privacy::{Bodies, Policy};
    use crate::trace::record::{
        End, ExchangeId, FrameRef, Outcome, Parts, Passed, RequestHead, Side, Version,
    };

    /// A log that refuses as often as it is told, after it has taken what it was given.
    #[derive(Default)]
    struct Moody {
        taken: Vec<Event>,
        refusals: usize,
    }

    impl Log for Moody {
        type Summary = Vec<Event>;
        type Error = io::Error;

        fn append(&mut self, event: Event) -> io::Result<Appended> {
            self.taken.push(event);
            if self.refusals > 0 {
                self.refusals -= 1;
                return Err(io::ErrorKind::StorageFull.into());
            }
            Ok(Appended::Taken)
        }

        fn flush(&mut self, _now: Nanos) -> io::Result<()> {
            Ok(())
        }

        fn resume(&mut self, _now: Nanos) -> io::Result<()> {
            Ok(())
        }

        fn give_up(&mut self) {}

        fn strain(&mut self, _strain: Strain) {}

        fn counters(&self) -> Counters {
            Counters::default()
        }

        fn written_bytes(&self) -> u64 {
            0
        }

        fn finish(self, _now: Nanos) -> io::Result<Vec<Event>> {
            Ok(self.taken)
        }
    }

    fn veil(refusals: usize) -> Veil<Moody> {
        let bodies = Bodies { pointers: vec!["/a".to_owned()], ..Bodies::default() };
        let policy = Policy { bodies, ..Policy::default() };
        let veil = privacy::Veil::new(&policy, &[1; 32]).unwrap();
        Veil::new(Moody { taken: Vec::new(), refusals }, veil)
    }

    fn request() -> Event {
        let mut headers = HeaderMap::new();
        headers.insert("content-type", "application/json".parse().unwrap());
        Event::Request(Box::new(RequestHead {
            exchange: ExchangeId(1),
            at: Nanos(1),
            connection: 1,
            version: Version::Http11,
            method: Method::POST,
            target: "/".to_owned(),
            authority: None,
            headers,
            upstream: 0,
        }))
    }

    fn frame(data: &'static [u8]) -> FrameRef<'static> {
        let (exchange, side) = (ExchangeId(1), Side::Request);
        FrameRef { exchange, side, at: Nanos(2), accepted: Nanos(2), data }
    }

    fn end(bytes: u64, frames: u64) -> Event {
        Event::End(Box::new(End {
            exchange: ExchangeId(1),
            at: Nanos(3),
            outcome: Outcome::Complete,
            fault: None,
            request: Passed { bytes, frames, ended: true, ..Passed::default() },
            response: Passed::default(),
        }))
    }

    /// Returns what was logged: of frames the bytes.
    fn told(events: &[Event]) -> Vec<String> {
        let tell = |event: &Event| match event {
            Event::Request(_) => "request".to_owned(),
            Event::Frame(frame) => format!("frame of {}", frame.data.len()),
            Event::End(end) => format!("end, {} lost", end.request.lost_frames),
            Event::Gap(gap) => format!("gap of {} frames, {} bytes", gap.frames, gap.bytes),
            other => format!("{other:?}"),
        };
        events.iter().map(tell).collect()
    }

    #[test]
    fn what_is_decided_while_the_log_refuses_follows_when_it_takes_again() {
        type Append<'a> = &'a dyn Fn(&mut Veil<Moody>) -> io::Result<Appended>;
        let (one, other) = (frame(b"{\"a\":\"se"), frame(b"cret\"}"));
        let bytes = [one.data, other.data].concat();
        let spans = [Span { start: 0, len: 8 }, Span { start: 8, len: 6 }];
        let (exchange, side, parts) = (one.exchange, one.side, Parts::new(&bytes, &spans));
        let together = FramesRef { exchange, side, at: one.at, accepted: one.accepted, parts };
        let apart: [Append<'_>; 2] = [&|veil| veil.append(Event::Frame(one.to_frame())), &|veil| {
            veil.append(Event::Frame(other.to_frame()))
        }];
        let together: [Append<'_>; 1] = [&|veil| veil.append_frames(together)];
        for (refusals, frames) in
            (0..4).flat_map(|refusals| [(refusals, &apart[..]), (refusals, &together[..])])
        {
            let mut veil = veil(refusals);
            let mut log = |append: Append<'_>| {
                let mut appended = append(&mut veil).map(|_| ());
                while appended.is_err() {
                    appended = veil.resume(Nanos(9));
                }
            };
            log(&|veil| veil.append(request()));
            frames.iter().for_each(|append| log(append));
            log(&|veil| veil.append(end(14, 2)));
            let events = veil.finish(Nanos(9)).unwrap();
            assert_eq!(told(&events), ["request", "frame of 8", "frame of 6", "end, 0 lost"]);
            assert!(!format!("{events:?}").contains("cret"), "{events:?}");
        }
    }

    #[test]
    fn what_a_panic_takes_is_stated_and_nothing_more_of_that_body_is_told() {
        let mut veil = veil(0);
        veil.append(request()).unwrap();
        veil.append_frames(frame(b"{\"a\":\"se").alone(&mut Span::default())).unwrap();
        veil.give_up();
        assert_eq!(veil.lost(), Frames { count: 1, bytes: 8 });
        veil.resume(Nanos(5)).unwrap();
        veil.append_frames(frame(b"cret\"}").alone(&mut Span::default())).unwrap();
        veil.append(end(14, 2)).unwrap();
        let events = veil.finish(Nanos(9)).unwrap();
        let expected = ["request", "gap of 1 frames, 8 bytes", "frame of 6", "end, 1 lost"];
        assert_eq!(told(&events), expected);
        assert!(!format!("{events:?}").contains("cret"), "{events:?}");
    }
}
