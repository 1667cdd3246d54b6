//! A trace that goes on for as long as it takes: segments, what is kept of them, and a disk that refuses.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use reenact::clock::Nanos;
use reenact::trace::record::{End, Event, ExchangeId, Frame, Outcome, Passed, Side};
use reenact::trace::{
    FindingKind, Keep, Roll, RollOptions, Site, Trace, Verification, WriteError, verify,
};

use crate::support::SmallDisk;
use crate::trace_events::{header, millis, request};

/// Writes an exchange each 100 ms, with a body of `bytes`, flushing after each; returns how many were begun.
fn write_exchanges(roll: &mut Roll, range: std::ops::Range<u64>, bytes: usize) {
    for number in range {
        for event in exchange(number, bytes) {
            roll.append(event).unwrap();
        }
        let _told_later = roll.flush(Nanos(number * 100_000_000));
    }
}

/// Returns the events of an exchange whose answer is noise.
fn exchange(number: u64, bytes: usize) -> Vec<Event> {
    let id = ExchangeId(number);
    let at = Nanos(number * 100_000_000);
    let mut noise = vec![0; bytes];
    blake3::Hasher::new().update(&number.to_le_bytes()).finalize_xof().fill(&mut noise);
    let passed =
        Passed { bytes: bytes as u64, frames: 1, lost_bytes: 0, lost_frames: 0, ended: true };
    let side = Side::Response;
    vec![
        request(number, at, "/"),
        Event::Frame(Frame { exchange: id, side, at, accepted: at, data: noise.into() }),
        Event::End(Box::new(End {
            exchange: id,
            at,
            outcome: Outcome::Complete,
            fault: None,
            request: Passed { ended: true, ..Passed::default() },
            response: passed,
        })),
    ]
}

#[track_caller]
fn check_trace(path: &Path, exchanges: u64) -> Verification {
    let trace = Trace::open(path).unwrap();
    let found = verify(&trace).unwrap();
    assert_eq!(found.exchanges, exchanges, "{:?}", found.findings);
    assert_eq!(found.counted, found.stated, "{:?}", found.findings);
    found
}

#[test]
fn segments_are_cut_by_size_and_by_time_and_read_as_one() {
    let dir = tempfile::tempdir().unwrap();
    for (name, options, at_least) in [
        ("size", RollOptions { segment_bytes: Some(64 << 10), ..RollOptions::default() }, 10),
        (
            "time",
            RollOptions {
                segment_time: Some(Duration::from_millis(500)),
                ..RollOptions::default()
            },
            8,
        ),
    ] {
        let site = Site::Folder(dir.path().join(name));
        let mut roll = Roll::create(site.clone(), header(), options).unwrap();
        write_exchanges(&mut roll, 1..41, 20 << 10);
        // Nothing happens for a long time: no segment for that.
        (5_000..6_000).step_by(100).for_each(|ms| roll.flush(millis(ms)).unwrap());
        let rolled = roll.finish(Nanos(41_000_000_000)).unwrap();
        assert!((at_least..20).contains(&rolled.segments), "{name}: {}", rolled.segments);
        assert!(check_trace(site.path(), 40).findings.is_empty());
        assert_eq!(rolled.totals.exchanges, 40);
        let mode = std::fs::metadata(site.path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "nobody else looks into it");
    }
}

#[test]
fn the_oldest_segments_go_when_there_are_too_many_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let keep = Keep { bytes: Some(256 << 10), age: None };
    let options = RollOptions { segment_bytes: Some(64 << 10), keep, ..RollOptions::default() };
    let mut roll = Roll::create(Site::Folder(dir.path().to_owned()), header(), options).unwrap();
    // In the middle of each, a flush: many go on from one segment into the next.
    for number in 1..101 {
        for event in exchange(number, 20 << 10) {
            roll.append(event).unwrap();
            roll.flush(Nanos(number * 100_000_000)).unwrap();
        }
    }
    let rolled = roll.finish(Nanos(101_000_000_000)).unwrap();
    let files: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|file| file.unwrap()).collect();
    let bytes: u64 = files.iter().map(|file| file.metadata().unwrap().len()).sum();
    assert!(bytes <= 400 << 10, "{bytes}");
    assert_eq!(u32::try_from(files.len()), Ok(rolled.segments - rolled.deleted));
    let trace = Trace::open(dir.path()).unwrap();
    assert_eq!(trace.health().counters.admitted, 100, "the counters go on");
    assert!(verify(&trace).unwrap().holds(), "{:?}", verify(&trace).unwrap());
    assert!(trace.entries().last().unwrap().id == ExchangeId(100) && trace.exchanges() < 100);
}

#[test]
fn a_segment_that_is_removed_is_followed_by_another() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("trace");
    let site = Site::Folder(folder.clone());
    let mut roll = Roll::create(site, header(), RollOptions::default()).unwrap();
    write_exchanges(&mut roll, 1..4, 1 << 10);
    std::fs::remove_dir_all(&folder).unwrap();
    for event in exchange(4, 1 << 10) {
        roll.append(event).unwrap();
    }
    let error = roll.flush(Nanos(5_000_000_000)).unwrap_err();
    assert!(error.to_string().contains("00000.trace.open"), "{error}");
    roll.resume(Nanos(6_000_000_000)).unwrap();
    write_exchanges(&mut roll, 70..72, 1 << 10);
    roll.finish(Nanos(9_000_000_000)).unwrap();
    let trace = Trace::open(&folder).unwrap();
    let ids: Vec<_> = trace.entries().iter().map(|entry| entry.id.0).collect();
    assert_eq!(ids, [4, 70, 71], "what was in the removed file is gone, what was in memory is not");
}

#[test]
fn a_file_that_is_removed_is_followed_by_one_named_after_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.trace");
    let mut roll =
        Roll::create(Site::File(path.clone()), header(), RollOptions::default()).unwrap();
    write_exchanges(&mut roll, 1..4, 1 << 10);
    std::fs::remove_file(dir.path().join("a.trace.open")).unwrap();
    assert!(roll.resume(Nanos(6_000_000_000)).is_ok());
    write_exchanges(&mut roll, 70..72, 1 << 10);
    roll.finish(Nanos(9_000_000_000)).unwrap();
    assert!(!path.exists());
    let sequel = dir.path().join("a-00001.trace");
    assert_eq!(Trace::open(&sequel).unwrap().exchanges(), 2);
    // Beside its first segment it is read with it.
    let first = Roll::create(Site::File(path.clone()), header(), RollOptions::default()).unwrap();
    first.finish(Nanos(1)).unwrap();
    assert_eq!(Trace::open(&path).unwrap().exchanges(), 2);
}

#[test]
fn a_floor_of_free_space_stops_writing_and_a_lower_one_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let options = RollOptions { min_free: u64::MAX, ..RollOptions::default() };
    let site = Site::File(dir.path().join("a.trace"));
    let mut roll = Roll::create(site, header(), options).unwrap();
    let error = roll.flush(Nanos(2_000_000_000)).unwrap_err();
    assert!(error.to_string().contains("bytes free, fewer than"), "{error}");
    assert!(roll.resume(Nanos(3_000_000_000)).is_err());
}

/// A disk that is full for longer than anyone waits for: another segment goes on, the trace holds, and says what is lost.
#[test]
fn a_disk_that_stays_full_costs_frames_that_the_next_segment_states() {
    let Some(disk) = SmallDisk::new("256k") else {
        eprintln!("left out: mounting a small file system is not allowed here");
        return;
    };
    let folder = disk.path().join("trace");
    let mut roll =
        Roll::create(Site::Folder(folder.clone()), header(), RollOptions::default()).unwrap();
    let ballast = disk.path().join("ballast");
    std::fs::write(&ballast, vec![1; 150 << 10]).unwrap();
    write_exchanges(&mut roll, 1..20, 20 << 10);
    let waited = roll.resume(Nanos(3_000_000_000));
    assert!(matches!(waited, Err(WriteError::Stalled { .. })), "{waited:?}");
    let given_up = roll.resume(Nanos(60_000_000_000));
    assert!(matches!(given_up, Err(WriteError::Stalled { .. })), "{given_up:?}");
    std::fs::remove_file(&ballast).unwrap();
    roll.resume(Nanos(61_000_000_000)).unwrap();
    write_exchanges(&mut roll, 620..622, 1 << 10);
    let lost = roll.lost();
    let rolled = roll.finish(Nanos(65_000_000_000)).unwrap();
    assert_eq!((rolled.counters.admitted, rolled.segments), (21, 2));
    let found = check_trace(&folder, 21);
    assert!(lost.count > 5 && lost.count < 19 && lost.bytes == lost.count * (20 << 10), "{lost:?}");
    assert_eq!(found.frames, 21 - lost.count);
    let kinds: Vec<_> = found.findings.iter().map(|finding| finding.kind).collect();
    let stated = [FindingKind::Gap, FindingKind::Loss, FindingKind::Body];
    assert!(kinds.iter().all(|kind| stated.contains(kind)), "{:?}", found.findings);
}

/// A wall clock that jumps makes no segment old: what was recorded a moment ago stays.
#[test]
fn segments_go_when_they_are_old_by_the_recordings_own_clock() {
    let dir = tempfile::tempdir().unwrap();
    let keep = Keep { bytes: None, age: Some(Duration::from_secs(3600)) };
    let options = RollOptions { segment_bytes: Some(64 << 10), keep, ..RollOptions::default() };
    let mut roll = Roll::create(Site::Folder(dir.path().to_owned()), header(), options).unwrap();
    write_exchanges(&mut roll, 1..21, 20 << 10);
    let first = dir.path().join("00000.trace");
    let long_ago = std::time::UNIX_EPOCH + Duration::from_secs(1);
    let file = std::fs::File::options().write(true).open(&first).unwrap();
    file.set_modified(long_ago).unwrap();
    roll.flush(millis(10_000)).unwrap();
    assert!(first.exists(), "by the wall clock alone it is old");
    roll.flush(millis(3_700_000)).unwrap();
    assert!(!first.exists(), "now it is");
    roll.finish(millis(3_700_001)).unwrap();
}
