//! Frozen files, one for each version and each kind of damage, in `fixtures/trace/`.
//!
//! `REENACT_BLESS=1 cargo test golden` makes those that are missing; one that exists stays as it is for ever, so that what
//! was written once can be read for ever. The files are read by these tests and by `tests/compat/trace_reader.py`.

use crate::trace::golden_events::{bared, hashed, hashed_header, header, left_out};
use crate::trace::golden_making::{expected, files, folder, make_missing, ticked};
use crate::trace::record::{Counters, Event, ExchangeId, Side};
use crate::trace::{Assembler, FrameView, ReadOptions, Trace, verify};

#[test]
fn golden_files_are_there() {
    make_missing(files());
}

#[test]
fn golden_version_1_0_reads_as_it_was_written() {
    let mut trace = Trace::open(&folder().join("v1.0.trace")).unwrap();
    assert_eq!((trace.header(), trace.health().complete), (&header(), true));
    let read = Assembler::all(trace.scan().unwrap().map(Result::unwrap));
    assert_eq!(read, expected());
    for exchange in &read {
        assert_eq!(trace.exchange(exchange.request.exchange).unwrap().as_ref(), Some(exchange));
    }
    let found = verify(&trace).unwrap();
    assert_eq!(found.findings.len(), 2, "its two gaps: {:?}", found.findings);
}

#[test]
fn golden_version_1_1_tells_of_prompts_that_are_not_in_it() {
    let trace = Trace::open(&folder().join("v1.1-hash.trace")).unwrap();
    assert_eq!(trace.header(), &hashed_header());
    let read = Assembler::all(trace.scan().unwrap().map(Result::unwrap));
    let Some(Event::Prompt(prompt)) = hashed().into_iter().nth(4) else { panic!("no prompt") };
    assert_eq!(read[0].prompt.as_ref(), Some(&*prompt));
    assert_eq!(&read[0].request_body()[..], [b'*'; 700]);
    assert!(verify(&trace).unwrap().holds(), "nothing is lost");
}

#[test]
fn golden_version_1_1_tells_of_what_was_left_out_and_of_damage() {
    let trace = Trace::open(&folder().join("v1.1-omission.trace")).unwrap();
    let events = trace.scan().unwrap().map(Result::unwrap);
    let read: Vec<Event> = events.filter(|event| event.exchange().is_none()).collect();
    assert_eq!(read, left_out());
    let found = verify(&trace).unwrap();
    let counters = Counters {
        admitted: 16,
        complete: 1,
        sampled_out: 7,
        dropped_damaged: 8,
        ..Counters::default()
    };
    assert_eq!((found.stated, found.counted), (counters, counters));
    assert_eq!(found.findings.len(), 1, "what was left out on purpose is no loss: {found:?}");
    assert_eq!(found.causes.len(), 4);
}

#[test]
fn golden_version_1_2_tells_when_frames_passed_whose_bytes_are_lost() {
    let mut trace = Trace::open(&folder().join("v1.2-bare.trace")).unwrap();
    assert_eq!(trace.health().version.to_string(), "1.2");
    let read = Assembler::all(trace.scan().unwrap().map(Result::unwrap));
    assert_eq!(read, Assembler::all(bared().into_iter().map(ticked)));
    assert_eq!(trace.exchange(ExchangeId(1)).unwrap().as_ref(), Some(&read[0]));
    let tell = |frame: FrameView<'_>| format!("{}{}", frame.len, frame.data.map_or("?", |_| ""));
    let of = |side| read[0].frames(side).map(tell).collect::<Vec<_>>().join(" ");
    assert_eq!(of(Side::Request), "25 70000? 4");
    assert_eq!(of(Side::Response), "40? 15 12? 13? 15 12? 14? 15 12? 15?");
    let found = verify(&trace).unwrap();
    assert_eq!(found.findings.len(), 1, "its gap: {:?}", found.findings);
    assert_eq!((found.frames, found.bare_frames, found.bare_bytes), (5, 8, 70_118));
}

#[test]
fn a_newer_minor_version_is_read_and_what_it_added_is_passed_over() {
    let trace = Trace::open(&folder().join("v1.9-newer-minor.trace")).unwrap();
    assert_eq!(trace.health().version.to_string(), "1.9");
    assert!(verify(&trace).unwrap().holds());
    let mut scan = trace.scan().unwrap();
    let read = Assembler::all(scan.by_ref().map(Result::unwrap));
    assert_eq!((read.len(), scan.unknown()), (1, 1));
    assert_eq!(read[0].request.headers, expected()[0].request.headers);
}

/// Checks that a damaged file reads in part, says `says`, and holds at least `whole` undamaged exchanges.
#[track_caller]
pub(super) fn check(name: &str, options: &ReadOptions, says: &str, whole: usize) {
    let trace = Trace::open_with(&folder().join("damaged").join(name), options).unwrap();
    let found = verify(&trace).unwrap();
    let said: Vec<&str> = found.findings.iter().map(|finding| finding.text.as_str()).collect();
    assert!(said.iter().any(|text| text.contains(says)), "{name}: {said:#?}");
    let expected = expected();
    let read = Assembler::all(trace.scan().unwrap().map(Result::unwrap));
    let intact = read.iter().filter(|exchange| expected.contains(exchange)).count();
    assert!(intact >= whole, "{name}: {intact} exchanges are intact");
}

#[test]
fn golden_damaged_files_read_in_part_and_say_what_is_missing() {
    let check = |name, says, whole| check(name, &ReadOptions::default(), says, whole);
    check("cut.trace", "the file ends in a block", 2);
    check("unfinished.trace", "the file was not closed", 2);
    check("bit-flip.trace", "checksum does not match", 3);
    check("zero-page.trace", "can't be read", 2);
    check("header-flip.trace", "checksum does not match", 6);
    check("repeated-block.trace", "can't be read", 3);
    check("missing-block.trace", "can't be read", 3);
}

#[test]
fn golden_files_that_are_not_damaged_but_not_ours_say_so() {
    let says = |name: &str, expected: &str| {
        let error = Trace::open(&folder().join("damaged").join(name)).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    says("major-9.trace", "format version 9.0, this program reads versions up to 2.2");
    // It has the major version of an encrypted segment by now, and is none.
    says("newer-major.trace", "no envelope with its key can be read");
    says("text-mode.trace", "binary mode");
    says("empty.trace", "it is empty");
}
