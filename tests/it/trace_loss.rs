//! What ends say was lost and what gaps tell of go together.

use std::path::Path;

use reenact::trace::record::{DropReason, End, Event, ExchangeId, Gap, Outcome, Passed, Side};
use reenact::trace::{
    Cause, FindingKind, Selection, Trace, Verification, Writer, WriterOptions, cut, merge, recover,
    verify,
};

use crate::trace_events::{bare, frame, header, millis, request, response};

/// Frames and their bytes.
type Lost = (u64, u64);

/// An exchange whose end says that of its response `lost` is not there, beside one frame that is.
fn exchange(id: u64, lost: Lost) -> Vec<Event> {
    let at = |ms: u64| millis(id * 100 + ms);
    let (lost_frames, lost_bytes) = lost;
    let response_passed = Passed {
        bytes: lost_bytes.saturating_add(5),
        frames: lost_frames.saturating_add(1),
        lost_bytes,
        lost_frames,
        ended: true,
    };
    vec![
        request(id, at(0), "/v1/chat/completions"),
        response(id, at(5), "text/event-stream"),
        frame(id, Side::Response, at(10), "token"),
        Event::End(Box::new(End {
            exchange: ExchangeId(id),
            at: at(90),
            outcome: Outcome::Complete,
            fault: None,
            request: Passed { ended: true, ..Passed::default() },
            response: response_passed,
        })),
    ]
}

fn gap((frames, bytes): Lost) -> Event {
    let (from, until, reason) = (millis(110), millis(190), DropReason::QueueFull);
    Event::Gap(Gap { from, until, reason, exchanges: 0, frames, bytes })
}

fn write(path: &Path, events: Vec<Event>) -> Writer {
    let mut writer = Writer::create(path, header(), WriterOptions::default()).unwrap();
    for event in events {
        writer.append(event).unwrap();
    }
    writer
}

/// Returns what is found in a trace of an exchange for each of `ends`, and a gap for each of `gaps`.
fn found(ends: &[Lost], gaps: &[Lost]) -> Verification {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.trace");
    let exchanges = (1..).zip(ends).flat_map(|(id, &lost)| exchange(id, lost));
    let events = gaps.iter().map(|&lost| gap(lost)).chain(exchanges).collect();
    write(&path, events).finish().unwrap();
    verify(&Trace::open(&path).unwrap()).unwrap()
}

/// Checks that gaps tell of all but `untold`.
#[track_caller]
fn check(ends: &[Lost], gaps: &[Lost], untold: Lost) {
    let found = found(ends, gaps);
    let rest: Vec<_> =
        found.findings.iter().filter(|finding| finding.kind != FindingKind::Gap).collect();
    if untold == (0, 0) {
        assert!(rest.is_empty(), "{rest:?}");
        return;
    }
    let [finding] = rest[..] else { panic!("{rest:#?}") };
    assert_eq!((finding.kind, finding.cause), (FindingKind::Counters, Cause::Contradiction));
    assert_eq!((finding.lost.frames, finding.lost.bytes), untold);
    assert!(finding.text.contains("nothing says when the rest was lost"), "{}", finding.text);
}

#[test]
fn what_ends_say_was_lost_is_covered_by_gaps() {
    check(&[(0, 0)], &[], (0, 0));
    check(&[(2, 20)], &[(2, 20)], (0, 0));
    check(&[(2, 20), (1, 7)], &[(1, 10), (2, 17)], (0, 0));
    // A gap also tells of exchanges that are not in the trace.
    check(&[(2, 20)], &[(5, 900)], (0, 0));
    check(&[(2, 20)], &[], (2, 20));
    check(&[(2, 20), (1, 7)], &[(2, 20)], (1, 7));
    check(&[(2, 20)], &[(1, 900)], (1, 0));
    check(&[(2, 20)], &[(2, 19)], (0, 1));
    check(&[(u64::MAX - 9, u64::MAX - 9); 2], &[], (u64::MAX, u64::MAX));
}

/// Of what is lost, times may be there: they are told of, and no more of them than were lost.
#[test]
fn verify_tells_of_times_that_are_kept() {
    let check = |bare_frames: u64, kinds: &[FindingKind]| {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.trace");
        let mut events = vec![gap((2, 20))];
        events.extend(exchange(1, (2, 20)));
        let times = (0..bare_frames).map(|n| bare(1, Side::Response, millis(120 + n), 10));
        events.splice(4..4, times);
        write(&path, events).finish().unwrap();
        let found = verify(&Trace::open(&path).unwrap()).unwrap();
        assert_eq!((found.frames, found.bare_frames), (1, bare_frames));
        assert_eq!(found.bare_bytes, 10 * bare_frames);
        let found: Vec<_> = found.findings.iter().map(|finding| finding.kind).collect();
        assert_eq!(found, kinds);
    };
    check(0, &[FindingKind::Gap]);
    check(2, &[FindingKind::Gap]);
    check(3, &[FindingKind::Totals, FindingKind::Gap]);
}

#[test]
fn a_file_that_was_not_closed_may_lack_the_gap() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.trace");
    drop(write(&path, exchange(1, (2, 20))));
    let open = reenact::trace::open_path(&path);
    let found = verify(&Trace::open(&open).unwrap()).unwrap();
    let finding = found.findings.iter().find(|finding| finding.lost.frames > 0).unwrap();
    assert_eq!((finding.cause, finding.lost.frames), (Cause::Unfinished, 2));
    assert!(
        finding.text.contains("say that 2 frames (20 bytes) were not recorded, gaps tell of 0")
    );
    assert!(finding.text.contains("in what can't be read"), "{}", finding.text);
}

/// What is written from a trace that lacks a gap has one, so that it verifies.
#[test]
fn a_new_trace_has_the_gaps_that_the_old_one_lacks() {
    let dir = tempfile::tempdir().unwrap();
    let [old, recovered, cut_out, merged] =
        ["old", "recovered", "cut", "merged"].map(|name| dir.path().join(format!("{name}.trace")));
    let mut events = vec![gap((1, 4))];
    events.extend(exchange(1, (2, 20)));
    events.extend(exchange(2, (1, 7)));
    write(&old, events).finish().unwrap();
    let trace = Trace::open(&old).unwrap();
    recover(&old, &recovered).unwrap();
    cut(&trace, &Selection::all(), &cut_out).unwrap();
    merge(&[trace], &merged).unwrap();
    for new in [recovered, cut_out, merged] {
        let found = verify(&Trace::open(&new).unwrap()).unwrap();
        let causes: Vec<_> = found.causes.iter().map(|of| (of.cause, of.lost.frames)).collect();
        assert_eq!(causes, [(Cause::QueueFull, 1), (Cause::DamagedBefore, 2)], "{new:?}");
    }
}
