//! Parts of traces and what they make when they are put together again: nothing appears, nothing goes in silence.

use std::collections::BTreeSet;
use std::path::Path;

use proptest::prelude::*;
use reenact::clock::{Anchor, Nanos};
use reenact::trace::record::{
    DropReason, Event, ExchangeId, Gap, Header, Omission, OmitReason, Side,
};
use reenact::trace::{
    Assembler, Cause, Exchange, MergeError, Selection, Trace, Verification, Writer, WriterOptions,
    cut, merge, verify,
};
use tempfile::TempDir;

use crate::trace_events::{Numbers, end_after, frame, header, millis, request, response, ticked};

/// Traffic of `count` exchanges that overlap, with gaps and sampling in between; `open` of them have no end.
fn traffic(seed: u64, count: u64, open: u64) -> Vec<Event> {
    let mut numbers = Numbers::new(seed);
    let mut timed: Vec<(u64, Event)> = Vec::new();
    for id in 1..=count {
        let start = id * 100;
        let mut events = vec![request(id, millis(start), "/v1/chat/completions")];
        let len = usize::try_from(numbers.next() % 400).unwrap();
        let body = numbers.bytes(50 + len);
        events.push(frame(id, Side::Request, millis(start + 1), body));
        events.push(response(id, millis(start + 20), "text/event-stream"));
        for n in 0..numbers.next() % 6 {
            let data = format!("data: {{\"n\":{}}}\n\n", numbers.next() % 10);
            events.push(frame(id, Side::Response, millis(start + 30 + 40 * n), data));
        }
        if numbers.next().is_multiple_of(3) {
            events.push(frame(id, Side::Response, millis(start + 280), numbers.bytes(9_000)));
        }
        if id + open <= count {
            events.push(end_after(&events, id, millis(start + 300)));
        }
        timed.extend(events.into_iter().map(|event| (event.at().0, event)));
        let between = millis(start + 50);
        if numbers.next().is_multiple_of(4) {
            let gap = Gap {
                from: between,
                until: millis(start + 55),
                reason: DropReason::QueueFull,
                exchanges: numbers.next() % 3,
                frames: 0,
                bytes: 10,
            };
            timed.push((gap.until.0, Event::Gap(gap)));
        }
        if numbers.next().is_multiple_of(4) {
            let omission = Omission {
                from: between,
                until: millis(start + 60),
                reason: OmitReason::Sampled,
                exchanges: 1 + numbers.next() % 9,
                frames: 3,
                bytes: 30,
            };
            timed.push((omission.until.0, Event::Omission(omission)));
        }
    }
    timed.sort_by_key(|(at, _)| *at);
    timed.into_iter().map(|(_, event)| event).collect()
}

pub(crate) fn write(path: &Path, header: Header, events: &[Event]) -> Trace {
    let options =
        WriterOptions { frame_bytes: 20_000, block_bytes: 3_000, ..WriterOptions::default() };
    let mut writer = Writer::create(path, header, options).unwrap();
    for event in events {
        writer.append(event.clone()).unwrap();
    }
    writer.finish().unwrap();
    Trace::open(path).unwrap()
}

pub(crate) fn read(trace: &Trace) -> Vec<Exchange> {
    Assembler::all(trace.scan().unwrap().map(Result::unwrap))
}

/// Returns the gaps, and the omissions that no cut made.
fn told(trace: &Trace) -> Vec<String> {
    let events = trace.scan().unwrap().map(Result::unwrap);
    let mut told: Vec<String> = events
        .filter(|event| match event {
            Event::Gap(_) => true,
            Event::Omission(omission) => omission.reason != OmitReason::Cut,
            _ => false,
        })
        .map(|event| format!("{event:?}"))
        .collect();
    told.sort();
    told
}

/// Verifies a trace; gaps are allowed, and exchanges without an end.
#[track_caller]
fn proven(trace: &Trace) -> Verification {
    let found = verify(trace).unwrap();
    for finding in &found.findings {
        assert!(matches!(finding.cause, Cause::QueueFull | Cause::UnderWay), "{finding:?}");
    }
    assert_eq!(found.stated, found.counted);
    assert_eq!(found.stated.open(), Some(found.open));
    found
}

/// Frames and bytes that passed: those that are there, and those that omissions tell of.
fn passed(trace: &Trace) -> (u64, u64) {
    let mut sum = (0, 0);
    for event in trace.scan().unwrap().map(Result::unwrap) {
        match event {
            Event::Frame(frame) => sum = (sum.0 + 1, sum.1 + frame.data.len() as u64),
            Event::Omission(omission) => sum = (sum.0 + omission.frames, sum.1 + omission.bytes),
            _ => {}
        }
    }
    sum
}

/// Ways to take a trace apart: each exchange is in exactly one of the selections.
fn partition(way: u8, seed: u64, count: u64) -> Vec<Selection> {
    let mut numbers = Numbers::new(seed);
    let all = Selection::all();
    let limit = count * 100 + 150;
    let mut points: Vec<u64> = (0..1 + seed % 3).map(|_| numbers.next() % limit).collect();
    points.sort_unstable();
    let ids: Vec<u64> = points.iter().map(|point| point / 100).collect();
    match way {
        0 => {
            let edges = [vec![Nanos::ZERO], points.iter().map(|&p| millis(p)).collect()].concat();
            let ends = [edges[1..].to_vec(), vec![Nanos(u64::MAX)]].concat();
            let pairs = edges.into_iter().zip(ends);
            pairs.map(|(from, until)| Selection { from, until, ..all.clone() }).collect()
        }
        1 => {
            let firsts = [vec![0], ids.iter().map(|id| id + 1).collect()].concat();
            let lasts = [ids, vec![u64::MAX]].concat();
            let pairs = firsts.into_iter().zip(lasts);
            pairs.map(|(first, last)| Selection { ids: first..=last, ..all.clone() }).collect()
        }
        _ => {
            let ids = (1..=count).map(ExchangeId);
            let (a, b): (BTreeSet<_>, BTreeSet<_>) =
                ids.partition(|_| numbers.next().is_multiple_of(2));
            let part = |chosen| Selection { chosen: Some(chosen), ..all.clone() };
            vec![part(a), part(b)]
        }
    }
}

#[track_caller]
fn check(seed: u64, count: u64, open: u64, way: u8) {
    let dir = tempfile::tempdir().unwrap();
    let events = traffic(seed, count, open);
    let whole = write(&dir.path().join("whole.trace"), header(), &events);
    let before = proven(&whole);
    let expected = read(&whole);
    assert_eq!(expected, Assembler::all(events.into_iter().map(ticked)));
    let mut parts = Vec::new();
    for (n, selection) in partition(way, seed, count).iter().enumerate() {
        let path = dir.path().join(format!("part-{n}.trace"));
        let done = cut(&whole, selection, &path).unwrap();
        assert!(done.lost.is_none());
        let part = Trace::open(&path).unwrap();
        let found = proven(&part);
        assert_eq!(found.stated.admitted, before.stated.admitted, "nothing goes uncounted");
        assert_eq!(passed(&part), passed(&whole));
        for exchange in read(&part) {
            assert!(selection.holds(&exchange.request) && expected.contains(&exchange));
        }
        parts.push(part);
    }
    if seed.is_multiple_of(2) {
        parts.reverse();
    }
    let path = dir.path().join("merged.trace");
    let merged = merge(&parts, &path).unwrap();
    assert!(merged.lost.is_none() && merged.omitted.is_none(), "{merged:?}");
    let merged = Trace::open(&path).unwrap();
    assert_eq!(read(&merged), expected);
    assert_eq!(told(&merged), told(&whole));
    assert_eq!(proven(&merged).stated, before.stated);
    assert_eq!(merged.header(), whole.header());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn what_is_cut_apart_and_merged_is_what_it_was(
        seed in any::<u64>(), count in 1..20_u64, open in 0..3_u64, way in 0..3_u8,
    ) {
        check(seed, count, open, way);
    }
}

#[test]
fn parts_that_overlap_or_leave_something_out_are_merged_without_doubles() {
    let dir = tempfile::tempdir().unwrap();
    let whole = write(&dir.path().join("whole.trace"), header(), &traffic(5, 12, 0));
    let part = |name: &str, ids| {
        let path = dir.path().join(name);
        cut(&whole, &Selection { ids, ..Selection::all() }, &path).unwrap();
        Trace::open(&path).unwrap()
    };
    let parts = [part("a.trace", 1..=7), part("b.trace", 5..=9)];
    let path = dir.path().join("merged.trace");
    let merged = merge(&parts, &path).unwrap();
    assert_eq!((merged.recordings, merged.omitted.exchanges), (1, 3));
    let merged = Trace::open(&path).unwrap();
    assert_eq!(read(&merged), read(&whole)[..9]);
    assert_eq!(proven(&merged).stated.admitted, proven(&whole).stated.admitted);
    assert_eq!(passed(&merged), passed(&whole));
    // A cut of a cut says what both left out.
    let again = dir.path().join("again.trace");
    cut(&merged, &Selection { ids: 2..=3, ..Selection::all() }, &again).unwrap();
    let again = Trace::open(&again).unwrap();
    assert_eq!(proven(&again).stated.admitted, proven(&whole).stated.admitted);
    assert_eq!(passed(&again), passed(&whole));
    let cuts = |trace: &Trace| {
        let events = trace.scan().unwrap().map(Result::unwrap);
        events
            .filter(|event| matches!(event, Event::Omission(o) if o.reason == OmitReason::Cut))
            .count()
    };
    assert_eq!(cuts(&again), 1);
}

#[test]
fn a_cut_leaves_gaps_of_another_time_behind() {
    let dir = tempfile::tempdir().unwrap();
    let mut events = vec![request(1, millis(100), "/"), end_after(&[], 1, millis(150))];
    let gap = |ms: u64, frames: u64| {
        let (from, until) = (millis(ms), millis(ms + 5));
        let reason = DropReason::QueueFull;
        Event::Gap(Gap { from, until, reason, exchanges: 2, frames, bytes: 9 })
    };
    events.extend([gap(200, 0), request(2, millis(300), "/"), gap(310, 1)]);
    events.extend([end_after(&[], 2, millis(900)), gap(950, 0)]);
    let whole = write(&dir.path().join("whole.trace"), header(), &events);
    let check = |name: &str, from: u64, until: u64, gaps: usize, omitted: u64| {
        let path = dir.path().join(name);
        let selection = Selection { from: millis(from), until: millis(until), ..Selection::all() };
        let done = cut(&whole, &selection, &path).unwrap();
        let part = Trace::open(&path).unwrap();
        assert_eq!(
            (proven(&part).findings.len(), done.omitted.exchanges),
            (gaps, omitted),
            "{name}"
        );
    };
    check("all.trace", 0, 1_000, 3, 0);
    check("first.trace", 0, 190, 0, 7);
    // The second exchange goes on after the selected time, and may lack frames that the gap tells of.
    check("second.trace", 290, 305, 1, 5);
    check("none.trace", 400, 500, 0, 8);
}

/// Two recordings: another machine's, half a second later, with another upstream.
fn two(dir: &TempDir) -> [Trace; 2] {
    let other = Header {
        trace: [3; 16],
        anchor: Anchor(header().anchor.0 + 500_000_700),
        listen: "10.0.0.2:8080".to_owned(),
        upstreams: vec!["http://10.0.0.9:8000".to_owned()],
        redacted: vec!["x-api-key".to_owned()],
        ..header()
    };
    [
        write(&dir.path().join("a.trace"), header(), &traffic(1, 9, 0)),
        write(&dir.path().join("b.trace"), other, &traffic(2, 7, 0)),
    ]
}

#[test]
fn recordings_of_two_machines_come_onto_one_time_axis() {
    let dir = tempfile::tempdir().unwrap();
    let [a, b] = two(&dir);
    let paths = [dir.path().join("ab.trace"), dir.path().join("ba.trace")];
    let sum = proven(&a).stated.admitted + proven(&b).stated.admitted;
    let (olds_a, olds_b) = (read(&a), read(&b));
    let traces = [a, b];
    assert_eq!(merge(&traces, &paths[0]).unwrap().recordings, 2);
    let merged = Trace::open(&paths[0]).unwrap();
    assert_eq!(proven(&merged).stated.admitted, sum);
    assert_eq!(merged.header().redacted, ["authorization", "x-api-key"]);
    assert_eq!(merged.header().upstreams.len(), 2);
    let all = read(&merged);
    assert_eq!(all.len(), olds_a.len() + olds_b.len());
    let connections: BTreeSet<u64> =
        all.iter().map(|exchange| exchange.request.connection).collect();
    assert_eq!(connections.len(), all.len(), "each exchange had a connection of its own");
    for (n, pair) in (1..).zip(all.windows(2)) {
        assert_eq!(pair[0].request.exchange, ExchangeId(n));
        assert!(pair[0].request.at <= pair[1].request.at, "numbers follow the start");
    }
    // Half a second and a rest of less than a tick later, and otherwise what it was.
    let second: Vec<&Exchange> =
        all.iter().filter(|exchange| exchange.request.upstream == 1).collect();
    assert_eq!(second.len(), olds_b.len());
    for (new, old) in second.iter().zip(&olds_b) {
        assert_eq!(new.request.at.0 - old.request.at.0, 500_000_000);
        assert_eq!(new.response_body(), old.response_body());
        let times = |exchange: &Exchange| -> Vec<_> {
            let frames = exchange.response_frames.iter();
            frames
                .map(|frame| (frame.at - exchange.request.at, frame.accepted - frame.at))
                .collect()
        };
        assert_eq!(times(new), times(old));
        assert_eq!(new.end.as_ref().map(|e| e.response), old.end.as_ref().map(|e| e.response));
    }
    let [a, b] = traces;
    merge(&[b, a], &paths[1]).unwrap();
    let [ab, ba] = paths.map(|path| std::fs::read(path).unwrap());
    assert!(ab == ba, "the order in which traces are named changes nothing");
}

#[test]
fn traces_that_do_not_go_together_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out.trace");
    let trace = |name: &str, header: Header| write(&dir.path().join(name), header, &[]);
    let sampled = Header { trace: [9; 16], sampled_ppm: 5, ..header() };
    let traces = [trace("a.trace", header()), trace("b.trace", sampled)];
    assert!(matches!(merge(&traces, &out), Err(MergeError::Sampled(1_000_000, 5))));
    let later = Header { segment: 1, ..header() };
    let traces = [trace("c.trace", header()), trace("d.trace", later)];
    assert!(matches!(merge(&traces, &out), Err(MergeError::Segments)));
    assert!(matches!(merge(&[], &out), Err(MergeError::Nothing)));
    assert!(!out.exists());
}

/// Damage is stated in a part if what is gone may have been selected, and in the merged trace once.
#[test]
fn parts_of_a_damaged_trace_state_the_damage_once() {
    let dir = tempfile::tempdir().unwrap();
    let whole = write(&dir.path().join("whole.trace"), header(), &traffic(7, 30, 0));
    let admitted = whole.health().counters.admitted;
    let mut bytes = std::fs::read(dir.path().join("whole.trace")).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 40].fill(0);
    std::fs::write(dir.path().join("damaged.trace"), bytes).unwrap();
    let damaged = Trace::open(&dir.path().join("damaged.trace")).unwrap();
    let mut parts = Vec::new();
    for (n, ids) in [1..=15, 16..=u64::MAX].into_iter().enumerate() {
        let path = dir.path().join(format!("part-{n}.trace"));
        let done = cut(&damaged, &Selection { ids, ..Selection::all() }, &path).unwrap();
        assert!(!done.lost.is_none());
        let part = Trace::open(&path).unwrap();
        let found = verify(&part).unwrap();
        assert!(found.findings.iter().any(|finding| finding.cause == Cause::DamagedBefore));
        assert_eq!(found.stated.admitted, admitted);
        parts.push(part);
    }
    merge(&parts, &dir.path().join("merged.trace")).unwrap();
    let found = verify(&Trace::open(&dir.path().join("merged.trace")).unwrap()).unwrap();
    assert_eq!(found.stated.admitted, admitted, "{found:#?}");
    assert_eq!(found.stated, found.counted);
}
