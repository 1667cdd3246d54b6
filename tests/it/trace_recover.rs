//! Recovery of folders, of files that are being written, and of nothing at all.

use std::fs;
use std::path::Path;

use reenact::trace::record::{Header, Side};
use reenact::trace::{
    Cause, RecoverError, Recovery, Trace, Writer, WriterOptions, open_path, recover, verify,
};

use crate::trace_events::{end_after, frame, header, millis, request};

/// Writes four segments with three exchanges each.
fn folder(dir: &Path) {
    let mut counters = Default::default();
    for segment in 0..4 {
        let path = dir.join(format!("{segment:05}.trace"));
        let options = WriterOptions { counters, ..WriterOptions::default() };
        let mut writer = Writer::create(&path, Header { segment, ..header() }, options).unwrap();
        for n in 1..=3 {
            let id = u64::from(segment) * 3 + n;
            let body = format!("the body of exchange {id}");
            let events = [
                request(id, millis(id * 100), "/v1/models"),
                frame(id, Side::Request, millis(id * 100 + 1), body),
            ];
            for event in &events {
                writer.append(event.clone()).unwrap();
            }
            writer.append(end_after(&events, id, millis(id * 100 + 50))).unwrap();
        }
        counters = writer.finish().unwrap().counters;
    }
}

fn segment(dir: &Path, number: u32) -> std::path::PathBuf {
    dir.join(format!("{number:05}.trace"))
}

/// Harms a folder, recovers it, and returns the outcomes of whole and files, and the exchanges kept and lost.
#[track_caller]
fn check(harm: impl FnOnce(&Path), whole: Recovery, files: &[Recovery], kept: u64, lost: u64) {
    let (dir, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    folder(dir.path());
    harm(dir.path());
    let out = out.path().join("out.trace");
    let recovered = recover(dir.path(), &out).unwrap();
    let outcomes: Vec<Recovery> = recovered.files.iter().map(|file| file.outcome).collect();
    assert_eq!((recovered.outcome, &outcomes[..]), (whole, files), "{recovered:#?}");
    assert_eq!((recovered.summary.totals.exchanges, recovered.lost.exchanges), (kept, lost));
    let found = verify(&Trace::open(&out).unwrap()).unwrap();
    assert_eq!(found.stated.admitted, kept + lost);
    let stated = found.findings.iter().all(|finding| finding.cause == Cause::DamagedBefore);
    assert!(stated, "{:?}", found.findings);
    assert_eq!(found.holds(), lost == 0);
}

#[test]
fn each_file_of_a_folder_comes_out_by_itself() {
    use Recovery::{Clean, NotRecoverable, WithLoss, WithoutLoss};
    check(|_| {}, Clean, &[Clean; 4], 12, 0);
    let empty = |dir: &Path| fs::write(segment(dir, 1), "").unwrap();
    check(empty, WithLoss, &[Clean, Clean, Clean, NotRecoverable], 9, 3);
    let gone = |dir: &Path| fs::remove_file(segment(dir, 2)).unwrap();
    check(gone, WithLoss, &[Clean; 3], 9, 3);
    // What retention took is not lost by this.
    let first = |dir: &Path| fs::remove_file(segment(dir, 0)).unwrap();
    check(first, Clean, &[Clean; 3], 9, 0);
    let torn = |dir: &Path| {
        let bytes = fs::read(segment(dir, 3)).unwrap();
        fs::write(segment(dir, 3), &bytes[..bytes.len() - 20]).unwrap();
    };
    check(torn, WithLoss, &[Clean, Clean, Clean, WithLoss], 12, 0);
    let unclosed = |dir: &Path| {
        let bytes = fs::read(segment(dir, 3)).unwrap();
        let summary = u64::from_le_bytes(bytes[bytes.len() - 16..][..8].try_into().unwrap());
        fs::write(open_path(&segment(dir, 3)), &bytes[..usize::try_from(summary).unwrap()])
            .unwrap();
        fs::remove_file(segment(dir, 3)).unwrap();
    };
    check(unclosed, WithoutLoss, &[Clean, Clean, Clean, WithoutLoss], 12, 0);
    let foreign = |dir: &Path| {
        let other = Header { trace: [9; 16], segment: 4, ..header() };
        let writer = Writer::create(&segment(dir, 4), other, WriterOptions::default()).unwrap();
        writer.finish().unwrap();
    };
    check(foreign, WithLoss, &[Clean, Clean, Clean, Clean, NotRecoverable], 12, 0);
}

#[test]
fn a_segment_that_is_not_there_is_a_finding() {
    let dir = tempfile::tempdir().unwrap();
    folder(dir.path());
    fs::remove_file(segment(dir.path(), 2)).unwrap();
    let found = verify(&Trace::open(dir.path()).unwrap()).unwrap();
    let damage = &found.causes[0];
    assert_eq!((damage.cause, damage.lost.exchanges), (Cause::Damage, 3), "{found:#?}");
    assert!(found.findings[0].text.contains("segment 2 is not there"), "{found:#?}");
}

#[test]
fn a_segment_that_is_being_written_is_recovered_up_to_its_last_flush() {
    let (dir, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let path = dir.path().join("a.trace");
    let mut writer = Writer::create(&path, header(), WriterOptions::default()).unwrap();
    writer.append(request(1, millis(1), "/")).unwrap();
    writer.append(frame(1, Side::Request, millis(1), "body")).unwrap();
    writer.flush(millis(200)).unwrap();
    let before = fs::read(open_path(&path)).unwrap();
    let recovered = recover(&open_path(&path), &out.path().join("b.trace")).unwrap();
    assert_eq!((recovered.outcome, recovered.open), (Recovery::WithoutLoss, 1));
    assert_eq!(fs::read(open_path(&path)).unwrap(), before);
    // The name would be taken by the file itself while it is written.
    let error = recover(&open_path(&path), &path).unwrap_err();
    assert!(matches!(error, RecoverError::Write(_)), "{error}");
    assert_eq!(fs::read(open_path(&path)).unwrap(), before);
    writer.append(end_after(&[], 1, millis(300))).unwrap();
    writer.finish().unwrap();
}

/// What came after a file that is named alone is not lost in silence when it can't be read.
#[test]
fn a_sequel_that_can_not_be_read_is_a_finding() {
    let (dir, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    folder(dir.path());
    let path = dir.path().join("a.trace");
    fs::rename(segment(dir.path(), 0), &path).unwrap();
    let check = |bytes: &[u8], losses: usize, outcome: Recovery, name: &str| {
        fs::write(dir.path().join("a-00001.trace"), bytes).unwrap();
        let found = verify(&Trace::open(&path).unwrap()).unwrap();
        assert_eq!(found.findings.len(), losses, "{found:#?}");
        let recovered = recover(&path, &out.path().join(name)).unwrap();
        assert_eq!(recovered.outcome, outcome);
    };
    check(b"not a trace at all", 1, Recovery::WithLoss, "1.trace");
    check(b"", 0, Recovery::Clean, "2.trace");
    let next = fs::read(segment(dir.path(), 1)).unwrap();
    check(&next, 0, Recovery::Clean, "3.trace");
    check(&next[..40], 1, Recovery::WithLoss, "4.trace");
}

#[test]
fn what_is_recovered_does_not_become_a_part_of_what_was_damaged() {
    let dir = tempfile::tempdir().unwrap();
    folder(dir.path());
    let error = recover(dir.path(), &dir.path().join("new.trace")).unwrap_err();
    assert!(matches!(error, RecoverError::Inside { .. }), "{error}");
    assert_eq!(Trace::open(dir.path()).unwrap().paths().count(), 4);
}
