//! Segments of thin traffic, which are written again when they are closed.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reenact::clock::Nanos;
use reenact::trace::record::{Event, Side};
use reenact::trace::{
    Assembler, Exchange, Keep, Roll, RollOptions, Site, Trace, Writer, WriterOptions,
    close_left_open, verify,
};

use crate::support::{identities, recipients};
use crate::trace_events::{Step, end_after, frame, header, request, response, with_flushes};

/// One stream after the other, a token each 20 ms, each of `tokens`.
fn lone_streams(streams: u64, tokens: u64) -> Vec<Event> {
    let mut events = Vec::new();
    let mut at = 0;
    for id in 1..=streams {
        events.push(request(id, Nanos(at), "/v1/chat/completions"));
        events.push(frame(id, Side::Request, Nanos(at), format!(r#"{{"stream":true,"n":{id}}}"#)));
        events.push(response(id, Nanos(at + 9_000_000), "text/event-stream"));
        for token in 0..tokens {
            at += 20_000_000;
            let data = format!("data: {{\"id\":\"c-{id}\",\"delta\":\" word{token}\"}}\n\n");
            events.push(frame(id, Side::Response, Nanos(at), data));
        }
        at += 1_000_000;
        events.push(end_after(&events, id, Nanos(at)));
    }
    events
}

/// Writes and flushes as a recorder does; returns the time of the last flush.
fn write(roll: &mut Roll, events: Vec<Event>) -> Nanos {
    let mut last = Nanos::ZERO;
    with_flushes(events, |step| match step {
        Step::Event(event) => roll.append(event).unwrap(),
        Step::Flush(now) => {
            last = now;
            roll.flush(now).unwrap();
        }
    });
    last
}

fn exchanges(path: &Path) -> Vec<Exchange> {
    Assembler::all(Trace::open(path).unwrap().scan().unwrap().map(Result::unwrap))
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn a_thin_segment_is_written_again_and_says_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let (before, after) = (dir.path().join("before.trace"), dir.path().join("after.trace"));
    let events = lone_streams(4, 200);
    let mut writer = Writer::create(&before, header(), WriterOptions::default()).unwrap();
    for event in events.clone() {
        writer.flush(event.at()).unwrap();
        writer.append(event).unwrap();
    }
    let thin = writer.finish().unwrap();
    let mut roll =
        Roll::create(Site::File(after.clone()), header(), RollOptions::default()).unwrap();
    let now = write(&mut roll, events);
    let rolled = roll.finish(now).unwrap();

    assert!(rolled.bytes * 2 < thin.bytes, "{} of {} bytes", rolled.bytes, thin.bytes);
    assert_eq!(exchanges(&before), exchanges(&after));
    let (one, other) = (Trace::open(&before).unwrap(), Trace::open(&after).unwrap());
    assert_eq!(one.header(), other.header());
    assert_eq!(one.health().counters, other.health().counters);
    assert!(verify(&other).unwrap().findings.is_empty());
    assert_eq!(files(dir.path()), [after, before], "nothing is left over");
}

#[test]
fn exchanges_that_go_on_in_the_next_segment_do_so_when_both_are_written_again() {
    let dir = tempfile::tempdir().unwrap();
    let (whole, parts) = (dir.path().join("whole.trace"), dir.path().join("parts"));
    let events = lone_streams(3, 300);
    let mut writer = Writer::create(&whole, header(), WriterOptions::default()).unwrap();
    events.iter().cloned().for_each(|event| writer.append(event).unwrap());
    writer.finish().unwrap();
    let segment_time = Some(Duration::from_millis(2_300));
    let options = RollOptions { segment_time, ..RollOptions::default() };
    let mut roll = Roll::create(Site::Folder(parts.clone()), header(), options).unwrap();
    let now = write(&mut roll, events);
    let rolled = roll.finish(now).unwrap();
    assert!(rolled.segments >= 5, "{}", rolled.segments);
    assert_eq!(exchanges(&whole), exchanges(&parts));
    assert!(verify(&Trace::open(&parts).unwrap()).unwrap().findings.is_empty());
    let bytes: u64 = files(&parts).iter().map(|file| fs::metadata(file).unwrap().len()).sum();
    assert_eq!(bytes, rolled.bytes);
}

#[test]
fn segments_that_are_not_to_be_kept_do_not_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let options = RollOptions {
        segment_time: Some(Duration::from_secs(1)),
        keep: Keep { bytes: None, age: Some(Duration::from_secs(3)) },
        ..RollOptions::default()
    };
    let mut roll = Roll::create(Site::Folder(dir.path().to_owned()), header(), options).unwrap();
    let now = write(&mut roll, lone_streams(4, 200));
    let rolled = roll.finish(now).unwrap();
    let left = files(dir.path());
    assert!(rolled.deleted > 0 && rolled.segments > 12);
    assert_eq!(u32::try_from(left.len()), Ok(rolled.segments - rolled.deleted), "{left:?}");
    assert!(left.iter().all(|file| file.extension().is_some_and(|name| name == "trace")));
}

/// A process that is killed between the two leaves the segment and a part of the new one.
#[test]
fn what_a_crash_has_left_of_it_is_removed_unless_somebody_writes_it() {
    let dir = tempfile::tempdir().unwrap();
    let [done, open, busy] =
        ["00000.trace.repack", "00001.trace.repack.open", "00002.trace.repack.open"]
            .map(|name| dir.path().join(name));
    fs::write(&done, "a part").unwrap();
    fs::write(&open, "").unwrap();
    let written = fs::File::create(&busy).unwrap();
    written.lock().unwrap();
    assert!(close_left_open(dir.path()).unwrap().is_empty());
    assert_eq!(files(dir.path()), [busy]);
}

#[test]
fn who_reads_a_trace_that_is_replaced_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.trace");
    let mut writer = Writer::create(&path, header(), WriterOptions::default()).unwrap();
    lone_streams(1, 3).into_iter().for_each(|event| writer.append(event).unwrap());
    writer.finish().unwrap();
    let trace = Trace::open(&path).unwrap();
    let other = dir.path().join("other");
    fs::copy(&path, &other).unwrap();
    fs::rename(&other, &path).unwrap();
    let error = anyhow::Error::from(trace.scan().unwrap_err());
    assert!(format!("{error:#}").contains("was replaced while it was read"), "{error:#}");
}

#[test]
fn what_is_encrypted_stays_as_it_was_written() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.trace");
    let writer = WriterOptions { recipients: recipients(&[0]), ..WriterOptions::default() };
    let options = RollOptions { writer, ..RollOptions::default() };
    let mut roll = Roll::create(Site::File(path.clone()), header(), options).unwrap();
    let now = write(&mut roll, lone_streams(1, 200));
    let written = roll.written_bytes();
    assert!(roll.finish(now).unwrap().bytes >= written);
    assert!(Trace::open_with(&path, &identities(&[0])).unwrap().health().complete);
}
