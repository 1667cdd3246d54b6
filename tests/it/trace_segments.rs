//! A trace in several files is one trace, also for exchanges that go on from one file into the next.

use std::path::Path;

use reenact::trace::record::{Event, Header, Side};
use reenact::trace::{Assembler, Trace, TraceError, Writer, WriterOptions, verify};

use crate::trace_events::{end_after, frame, header, millis, request, response};

/// Writes `events` to two segments, the second from `at` on.
fn write(dir: &Path, events: &[Event], at: usize) {
    let mut counters = Default::default();
    for (segment, part) in (0..).zip([&events[..at], &events[at..]]) {
        let path = dir.join(format!("{segment:05}.trace"));
        let options = WriterOptions { counters, ..WriterOptions::default() };
        let mut writer = Writer::create(&path, Header { segment, ..header() }, options).unwrap();
        for event in part {
            writer.append(event.clone()).unwrap();
        }
        counters = writer.finish().unwrap().counters;
    }
}

fn events() -> Vec<Event> {
    let mut events = vec![request(1, millis(1), "/v1/chat/completions")];
    events.push(frame(1, Side::Request, millis(1), "the first half, "));
    events.push(request(2, millis(2), "/v1/models"));
    events.push(frame(1, Side::Request, millis(3), "the second half"));
    events.push(response(1, millis(4), "text/event-stream"));
    for n in 0..6 {
        events.push(frame(1, Side::Response, millis(5 + n), format!("data: {n} of the same\n\n")));
    }
    events.push(end_after(&events, 2, millis(20)));
    events.push(request(3, millis(21), "/v1/models"));
    events.push(end_after(&events, 1, millis(22)));
    events.push(end_after(&events, 3, millis(23)));
    events
}

#[test]
fn a_folder_of_segments_is_one_trace_wherever_it_was_cut() {
    let events = events();
    let mut assembler = Assembler::default();
    let written: Vec<_> =
        events.iter().cloned().filter_map(|event| assembler.push(event)).collect();
    for at in 1..events.len() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), &events, at);
        let mut trace = Trace::open(dir.path()).unwrap();
        assert!(trace.health().complete);
        assert_eq!(trace.paths().count(), 2);
        let found = verify(&trace).unwrap();
        assert!(found.holds(), "cut at {at}: {:?}", found.findings);
        let ids: Vec<u64> = trace.entries().iter().map(|entry| entry.id.0).collect();
        assert_eq!(ids, [1, 2, 3]);
        let mut assembler = Assembler::default();
        let read: Vec<_> =
            trace.scan().unwrap().filter_map(|event| assembler.push(event.unwrap())).collect();
        assert_eq!(read, written, "cut at {at}");
        for exchange in &written {
            let id = exchange.request.exchange;
            assert_eq!(trace.exchange(id).unwrap().as_ref(), Some(exchange), "cut at {at}");
            let alone = trace.request(id).unwrap().unwrap();
            assert_eq!(alone.request_body(), exchange.request_body());
        }
    }
}

#[test]
fn segments_of_two_traces_do_not_mix() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &events(), 3);
    let other = Header { trace: [9; 16], segment: 2, ..header() };
    let writer =
        Writer::create(&dir.path().join("2.trace"), other, WriterOptions::default()).unwrap();
    writer.finish().unwrap();
    assert!(matches!(Trace::open(dir.path()), Err(TraceError::Mixed { .. })));
}
