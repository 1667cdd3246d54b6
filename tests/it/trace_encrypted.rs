//! Encrypted segments: what is not as it was written is lost, never altered, and nothing reads without the key.
//!
//! Checksums are no defence against somebody who changes a file on purpose, so the tests put them right again after each
//! change: what is noticed then, the encryption noticed.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use reenact::trace::record::{ExchangeId, Side};
use reenact::trace::{
    Assembler, CloseError, Destination, Exchange, FindingKind, Recovery, Roll, RollOptions, Site,
    Trace, TraceError, Verification, Writer, WriterOptions, close_left_open, open_path,
    recover_with, verify,
};

use crate::support::{identities, recipients};
use crate::trace_damage::{Sample, is_part_of, put, read};
use crate::trace_events::{end, frame, header, millis, request};

fn sample(exchanges: u64) -> Sample {
    Sample::encrypted(exchanges, recipients(&[0]))
}

/// Puts the checksums of all blocks and envelopes right.
fn mend_checksums(bytes: &mut [u8]) {
    let (mut at, mut crc) = (8, 0);
    while bytes[at..].starts_with(b"\xB7RN") {
        let len = u32::from_le_bytes(bytes[at + 4..at + 8].try_into().unwrap());
        let end = at + 16 + usize::try_from(len & 0x7FFF_FFFF).unwrap();
        let is_block = bytes[at + 3] == b'B';
        let before = if is_block && len >> 31 == 0 { crc } else { 0 };
        let mut hasher = crc32fast::Hasher::new_with_initial(before);
        hasher.update(&bytes[at + 4..at + 12]);
        hasher.update(&bytes[at + 16..end]);
        let sum = hasher.finalize();
        bytes[at + 12..at + 16].copy_from_slice(&sum.to_le_bytes());
        crc = if is_block { sum } else { crc };
        at = end;
    }
}

/// Opens `bytes` and checks that what they still say was written so; returns what is wrong with them.
#[track_caller]
fn check_unaltered(dir: &Path, bytes: &[u8], whole: &[Exchange]) -> Verification {
    let mut trace = Trace::open_with(&put(dir, bytes), &identities(&[0])).unwrap();
    let found = verify(&trace).unwrap();
    for exchange in read(&trace) {
        let id = exchange.request.exchange;
        is_part_of(&exchange, whole.iter().find(|e| e.request.exchange == id).unwrap());
        // The index may lead to where something else stands now.
        if let Some(alone) = trace.exchange(id).unwrap() {
            is_part_of(&alone, &exchange);
        }
    }
    found
}

#[track_caller]
fn is_noticed(found: &Verification, says: &str) {
    let losses = found.findings.iter().filter(|finding| finding.kind == FindingKind::Loss);
    let said: Vec<&str> = losses.map(|finding| finding.text.as_str()).collect();
    assert!(said.iter().any(|text| text.contains(says)), "{said:#?}");
}

#[test]
fn an_encrypted_trace_cut_at_any_byte_reads_up_to_its_last_flush_and_says_so() {
    let sample = sample(3);
    let dir = tempfile::tempdir().unwrap();
    let whole = Assembler::all(sample.events.iter().cloned());
    let path = put(dir.path(), &sample.bytes);
    let file = fs::File::options().write(true).open(&path).unwrap();
    let first = sample.blocks()[0].0.end;
    for len in (0..sample.bytes.len()).rev() {
        file.set_len(len as u64).unwrap();
        let trace = match Trace::open_with(&path, &identities(&[0])) {
            Err(error @ (TraceError::NotReadable { .. } | TraceError::Empty { .. })) => {
                assert!(len < first, "cut at {len}: {error}");
                continue;
            }
            opened => opened.unwrap_or_else(|error| panic!("cut at {len}: {error}")),
        };
        let health = trace.health();
        assert!(!health.complete && !health.losses.is_empty(), "cut at {len}");
        let read = read(&trace);
        for flushed in sample.flushed(len) {
            let id = flushed.request.exchange;
            let found = read.iter().find(|exchange| exchange.request.exchange == id).unwrap();
            is_part_of(&flushed, found);
        }
        for found in &read {
            let id = found.request.exchange;
            is_part_of(found, whole.iter().find(|e| e.request.exchange == id).unwrap());
        }
    }
}

#[test]
fn a_flipped_bit_anywhere_in_an_encrypted_trace_is_a_loss_and_never_another_text() {
    let sample = sample(6);
    let dir = tempfile::tempdir().unwrap();
    let whole = Assembler::all(sample.events.iter().cloned());
    for at in (8..sample.bytes.len()).step_by(7) {
        let mut bytes = sample.bytes.clone();
        bytes[at] ^= 1 << (at % 8);
        is_noticed(&check_unaltered(dir.path(), &bytes, &whole), "");
    }
}

#[test]
fn a_change_that_checksums_can_not_tell_is_a_loss_too() {
    let sample = sample(6);
    let dir = tempfile::tempdir().unwrap();
    let whole = Assembler::all(sample.events.iter().cloned());
    for (number, (block, _)) in sample.blocks().into_iter().enumerate() {
        // In the length before compression, the number, what is sealed, and the tag.
        for at in [block.start + 8, block.start + 16, block.start + 24, block.end - 1] {
            let mut bytes = sample.bytes.clone();
            bytes[at] ^= 1;
            mend_checksums(&mut bytes);
            is_noticed(&check_unaltered(dir.path(), &bytes, &whole), "");
            if at > block.start + 8 && number == 1 {
                is_noticed(&check_unaltered(dir.path(), &bytes, &whole), "another segment's");
            }
        }
    }
}

#[test]
fn blocks_can_not_be_moved_repeated_left_out_or_taken_from_another_segment() {
    let [sample, other] = [sample(6), sample(6)];
    let dir = tempfile::tempdir().unwrap();
    let whole = Assembler::all(sample.events.iter().cloned());
    let blocks = sample.blocks();
    let bytes = &sample.bytes;
    let mut made = Vec::new();
    for (idx, (block, starts)) in blocks.iter().enumerate() {
        let (before, this, after) =
            (&bytes[..block.start], &bytes[block.clone()], &bytes[block.end..]);
        made.push([before, this, this, after].concat());
        made.push([before, after].concat());
        for (next, is_start) in &blocks[idx + 1..] {
            if starts == is_start {
                let (between, that) = (&bytes[block.end..next.start], &bytes[next.clone()]);
                made.push([before, that, between, this, &bytes[next.end..]].concat());
            }
        }
        let stranger = &other.bytes[other.blocks()[idx].0.clone()];
        made.push([before, stranger, after].concat());
    }
    assert!(made.len() > 40, "{}", made.len());
    for mut bytes in made {
        mend_checksums(&mut bytes);
        is_noticed(&check_unaltered(dir.path(), &bytes, &whole), "");
    }
}

#[test]
fn an_envelope_in_the_place_of_blocks_does_not_hide_that_they_are_gone() {
    let sample = sample(8);
    let dir = tempfile::tempdir().unwrap();
    let whole = Assembler::all(sample.events.iter().cloned());
    let starts: Vec<usize> = sample
        .blocks()
        .iter()
        .filter(|(_, starts)| *starts)
        .map(|(block, _)| block.start)
        .collect();
    for pair in starts[1..starts.len() - 1].windows(2) {
        let mut bytes = sample.bytes.clone();
        let len = u32::try_from(pair[1] - pair[0] - 16).unwrap();
        bytes[pair[0]..pair[0] + 4].copy_from_slice(b"\xB7RNE");
        bytes[pair[0] + 4..pair[0] + 8].copy_from_slice(&len.to_le_bytes());
        mend_checksums(&mut bytes);
        let found = check_unaltered(dir.path(), &bytes, &whole);
        is_noticed(&found, "blocks that stood before it are gone");
    }
}

#[test]
fn every_recipient_reads_it_and_others_are_told_what_to_do() {
    let sample = Sample::encrypted(2, recipients(&[0, 1]));
    let dir = tempfile::tempdir().unwrap();
    let path = put(dir.path(), &sample.bytes);
    for which in [&[0][..], &[1], &[2, 1]] {
        assert!(Trace::open_with(&path, &identities(which)).unwrap().health().complete);
    }
    let says = |which: &[usize]| {
        let error = Trace::open_with(&path, &identities(which)).unwrap_err();
        assert!(matches!(error, TraceError::Locked { recipients: 2, .. }), "{error}");
        error.to_string()
    };
    assert!(says(&[]).contains("no identity was given: open it with --identity FILE"));
    assert!(says(&[2]).contains("the identity given is none of theirs"));
}

#[test]
fn each_segment_has_a_key_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let options = RollOptions {
        writer: WriterOptions { recipients: recipients(&[0]), ..WriterOptions::default() },
        segment_bytes: Some(1),
        ..RollOptions::default()
    };
    let site = Site::Folder(dir.path().to_owned());
    let mut roll = Roll::create(site, header(), options).unwrap();
    for id in 1..=3 {
        let at = millis(id * 1_000);
        roll.append(request(id, at, "/")).unwrap();
        roll.append(frame(id, Side::Request, at, "the same body")).unwrap();
        roll.append(end(id, at)).unwrap();
        roll.flush(at).unwrap();
    }
    roll.finish(millis(9_000)).unwrap();
    let trace = Trace::open_with(dir.path(), &identities(&[0])).unwrap();
    assert!(trace.health().complete);
    assert_eq!(read(&trace).len(), 3);
    let envelopes: Vec<Vec<u8>> =
        trace.paths().map(|path| fs::read(path).unwrap()[24..200].to_vec()).collect();
    assert!(envelopes.len() >= 3);
    assert!(envelopes.windows(2).all(|pair| pair[0] != pair[1]));
    // With one of them changed for another's, nothing of it opens, and the others still do.
    let [first, second] = [0, 1].map(|idx| trace.paths().nth(idx).unwrap().to_owned());
    let (taken, mut bytes) = (fs::read(&first).unwrap(), fs::read(&second).unwrap());
    let len = 16 + usize::from(u16::from_le_bytes([taken[12], taken[13]]));
    bytes.splice(8..8 + len, taken[8..8 + len].iter().copied());
    fs::remove_file(&second).unwrap();
    fs::write(&second, bytes).unwrap();
    let error = Trace::open_with(dir.path(), &identities(&[0])).unwrap_err();
    assert!(
        error.to_string().contains("00001.trace can't be read as a trace: none of its blocks"),
        "{error}"
    );
}

#[test]
fn an_unfinished_encrypted_segment_is_recovered_by_who_has_the_identity() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.trace");
    let options = WriterOptions { recipients: recipients(&[0]), ..WriterOptions::default() };
    let mut writer = Writer::create(&path, header(), options).unwrap();
    writer.append(request(1, millis(1), "/v1/models")).unwrap();
    writer.append(end(1, millis(2))).unwrap();
    drop(writer);
    let open = open_path(&path);
    let before = fs::read(&open).unwrap();

    // A recorder that starts again has nobody's identity: it leaves the segment as it is, and says so.
    let left = close_left_open(dir.path()).unwrap();
    let Err(error @ CloseError::Encrypted { .. }) = &left[0].outcome else { panic!("{left:?}") };
    assert!(error.to_string().contains("reenact trace recover --identity FILE"), "{error}");
    assert_eq!(fs::read(&open).unwrap(), before);

    let out = Destination { path: dir.path().join("b.trace"), recipients: recipients(&[1]) };
    let error = recover_with(&open, &identities(&[1]), &out).unwrap_err();
    assert!(error.to_string().contains("the identity given is none of theirs"), "{error}");
    let recovered = recover_with(&open, &identities(&[0]), &out).unwrap();
    assert_eq!(recovered.outcome, Recovery::WithoutLoss);
    assert!(Trace::open_with(&out.path, &identities(&[0])).is_err(), "it has other recipients");
    let mut trace = Trace::open_with(&out.path, &identities(&[1])).unwrap();
    assert!(trace.health().complete);
    assert!(trace.exchange(ExchangeId(1)).unwrap().unwrap().end.is_some());
}

#[test]
fn a_file_that_is_blanked_in_part_costs_what_a_plain_one_does() {
    let sample = sample(12);
    let dir = tempfile::tempdir().unwrap();
    let path = put(dir.path(), &sample.bytes);
    let whole = Assembler::all(sample.events.iter().cloned());
    let file = fs::File::options().write(true).open(&path).unwrap();
    let starts: Vec<usize> = sample
        .blocks()
        .iter()
        .filter(|(_, starts)| *starts)
        .map(|(block, _)| block.start)
        .collect();
    assert!(starts.len() >= 6, "{starts:?}");
    // The first envelope and the header go too.
    for pair in [&[8, starts[1]][..]].into_iter().chain(starts[1..starts.len() - 2].windows(2)) {
        file.write_all_at(&sample.bytes, 0).unwrap();
        file.write_all_at(&vec![0; pair[1] - pair[0]], pair[0] as u64).unwrap();
        let trace = Trace::open_with(&path, &identities(&[0])).unwrap();
        let mut scan = trace.scan().unwrap();
        let left = Assembler::all(scan.by_ref().map(Result::unwrap));
        assert_eq!(scan.losses().len(), 1, "{:?}", scan.losses());
        let untouched = left.iter().filter(|exchange| whole.contains(exchange)).count();
        assert!(untouched + 6 >= whole.len(), "{untouched} of {}", whole.len());
    }
}
