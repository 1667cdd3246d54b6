//! A trace that was cut, flipped, blanked or put together wrongly gives back all that is not damaged, and says the rest.

use std::fs;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use reenact::trace::record::{DropReason, Event, Gap, Side};
use reenact::trace::{
    Assembler, Cause, Closed, Exchange, Finding, FindingKind, Recipients, Recovery, Trace,
    TraceError, Writer, WriterOptions, close_left_open, recover, verify,
};

use crate::trace_events::{
    Numbers, end, end_after, frame, header, millis, request, response, ticked,
};

/// A trace with the file's length, and the events before, after each flush.
pub(crate) struct Sample {
    pub(crate) bytes: Vec<u8>,
    pub(crate) events: Vec<Event>,
    flushes: Vec<(u64, usize)>,
}

impl Sample {
    /// Some exchanges at once, with bodies of both kinds, in many blocks and some zstd frames.
    pub(crate) fn new(exchanges: u64) -> Self {
        Self::encrypted(exchanges, Recipients::default())
    }

    /// The same, encrypted.
    pub(crate) fn encrypted(exchanges: u64, recipients: Recipients) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.trace");
        let options = WriterOptions {
            frame_bytes: 1_500,
            block_bytes: 700,
            recipients,
            ..WriterOptions::default()
        };
        let mut writer = Writer::create(&path, header(), options).unwrap();
        let (mut events, mut flushes) = (Vec::new(), vec![(writer.written_bytes(), 0)]);
        let mut numbers = Numbers::new(11);
        for id in 1..=exchanges {
            let at = |n: u64| millis(id * 1_000 + n);
            let mut step = vec![request(id, at(0), "/v1/chat/completions")];
            let noise = String::from_utf8_lossy(&numbers.bytes(200)).into_owned();
            step.push(frame(id, Side::Request, at(0), format!("{{\"text\":\"{noise}\"}}")));
            step.push(response(id, at(5), "text/event-stream"));
            for n in 0..6 {
                let data = format!("data: {{\"token\":\"{}\"}}\n\n", numbers.next() % 1_000);
                step.push(frame(id, Side::Response, at(10 + n), data));
            }
            if id == 3 {
                step.push(frame(id, Side::Response, at(30), numbers.bytes(5_000)));
            }
            if id > 1 {
                step.push(end_after(&events, id - 1, at(40)));
            }
            if id == 4 {
                step.push(Event::Gap(Gap {
                    from: at(41),
                    until: at(42),
                    reason: DropReason::QueueFull,
                    exchanges: 2,
                    frames: 0,
                    bytes: 77,
                }));
            }
            for event in step {
                events.push(event.clone());
                writer.append(event).unwrap();
            }
            writer.flush(at(900)).unwrap();
            flushes.push((writer.written_bytes(), events.len()));
        }
        let last = end_after(&events, exchanges, millis((exchanges + 1) * 1_000));
        events.push(last.clone());
        writer.append(last).unwrap();
        writer.finish().unwrap();
        let events = events.into_iter().map(ticked).collect();
        Self { bytes: fs::read(path).unwrap(), events, flushes }
    }

    /// Returns the exchanges that were flushed before the file had `len` bytes.
    pub(crate) fn flushed(&self, len: usize) -> Vec<Exchange> {
        let count =
            self.flushes.iter().rfind(|flush| flush.0 <= len as u64).map_or(0, |flush| flush.1);
        Assembler::all(self.events[..count].iter().cloned())
    }

    /// Returns where blocks are, and which of them begin a zstd frame.
    pub(crate) fn blocks(&self) -> Vec<(Range<usize>, bool)> {
        let mut blocks = Vec::new();
        let mut at = 8;
        while self.bytes[at..].starts_with(b"\xB7RN") {
            let len = u32::from_le_bytes(self.bytes[at + 4..at + 8].try_into().unwrap());
            let end = at + 16 + usize::try_from(len & 0x7FFF_FFFF).unwrap();
            // Else it is an envelope.
            if self.bytes[at + 3] == b'B' {
                blocks.push((at..end, len >> 31 == 1));
            }
            at = end;
        }
        assert!([16, 32].contains(&(self.bytes.len() - at)), "the tail");
        blocks
    }
}

pub(crate) fn read(trace: &Trace) -> Vec<Exchange> {
    Assembler::all(trace.scan().unwrap().map(Result::unwrap))
}

pub(crate) fn put(dir: &Path, bytes: &[u8]) -> PathBuf {
    let path = dir.join("damaged.trace");
    fs::write(&path, bytes).unwrap();
    path
}

/// Whether `part` is what `whole` says, as far as it goes.
#[track_caller]
pub(crate) fn is_part_of(part: &Exchange, whole: &Exchange) {
    assert_eq!(part.request, whole.request);
    for (part, whole) in [
        (&part.request_frames, &whole.request_frames),
        (&part.response_frames, &whole.response_frames),
    ] {
        assert!(part.iter().all(|frame| whole.contains(frame)), "a frame that never was");
    }
    assert!(part.end.is_none() || part.end == whole.end);
}

#[test]
fn a_trace_cut_at_any_byte_reads_up_to_its_last_flush_and_says_so() {
    let sample = Sample::new(4);
    let dir = tempfile::tempdir().unwrap();
    let whole = Assembler::all(sample.events.iter().cloned());
    let path = put(dir.path(), &sample.bytes);
    let file = fs::File::options().write(true).open(&path).unwrap();
    for len in (0..sample.bytes.len()).rev() {
        file.set_len(len as u64).unwrap();
        match Trace::open(&path) {
            Err(error @ (TraceError::NotReadable { .. } | TraceError::Empty { .. })) => {
                assert!(len < sample.blocks()[0].0.end, "cut at {len}: {error}");
            }
            Err(error) => panic!("cut at {len}: {error}"),
            Ok(trace) => {
                assert!(
                    !trace.health().complete && !trace.health().losses.is_empty(),
                    "cut at {len}"
                );
                let read = read(&trace);
                for flushed in sample.flushed(len) {
                    let id = flushed.request.exchange;
                    let found =
                        read.iter().find(|exchange| exchange.request.exchange == id).unwrap();
                    is_part_of(&flushed, found);
                }
                for found in &read {
                    let id = found.request.exchange;
                    is_part_of(found, whole.iter().find(|e| e.request.exchange == id).unwrap());
                }
                assert_eq!(trace.exchanges(), read.len());
            }
        }
    }
}

#[test]
fn a_flipped_bit_anywhere_is_noticed_and_costs_its_zstd_frame_at_most() {
    let sample = Sample::new(8);
    let dir = tempfile::tempdir().unwrap();
    let whole = Assembler::all(sample.events.iter().cloned());
    let path = put(dir.path(), &sample.bytes);
    let file = fs::File::options().write(true).open(&path).unwrap();
    for at in (0..sample.bytes.len()).step_by(5) {
        let before = at.saturating_sub(5);
        file.write_all_at(&sample.bytes[before..at], before as u64).unwrap();
        file.write_all_at(&[sample.bytes[at] ^ 1 << (at % 8)], at as u64).unwrap();
        let mut trace = match Trace::open(&path) {
            Ok(trace) => trace,
            Err(TraceError::NotReadable { .. } | TraceError::Empty { .. }) if at < 8 => continue,
            Err(error) => panic!("flipped at {at}: {error}"),
        };
        let found = verify(&trace).unwrap();
        assert!(found.findings.iter().any(|finding| finding.kind == FindingKind::Loss), "at {at}");
        for exchange in read(&trace) {
            let id = exchange.request.exchange;
            is_part_of(&exchange, whole.iter().find(|e| e.request.exchange == id).unwrap());
            let alone = trace.exchange(id).unwrap().unwrap();
            is_part_of(&alone, &exchange);
        }
    }
}

#[test]
fn damage_in_the_middle_leaves_what_is_before_and_after() {
    let sample = Sample::new(12);
    let dir = tempfile::tempdir().unwrap();
    let starts: Vec<usize> =
        sample.blocks().iter().filter(|block| block.1).map(|block| block.0.start).collect();
    assert!(starts.len() >= 6, "{starts:?}");
    let whole = Assembler::all(sample.events.iter().cloned());
    for pair in starts[1..starts.len() - 2].windows(2) {
        let mut bytes = sample.bytes.clone();
        bytes[pair[0]..pair[1]].fill(0);
        let path = put(dir.path(), &bytes);
        let mut trace = Trace::open(&path).unwrap();
        let mut scan = trace.scan().unwrap();
        let left = Assembler::all(scan.by_ref().map(Result::unwrap));
        let losses: Vec<(u64, u64)> =
            scan.losses().iter().map(|loss| (loss.from, loss.until)).collect();
        assert_eq!(losses, [(pair[0] as u64, pair[1] as u64)]);
        let untouched = left.iter().filter(|exchange| whole.contains(exchange)).count();
        assert!(untouched + 6 >= whole.len(), "{untouched} of {}", whole.len());
        for exchange in whole.iter().filter(|exchange| left.contains(exchange)) {
            let alone = trace.exchange(exchange.request.exchange).unwrap();
            assert_eq!(alone.as_ref(), Some(exchange));
        }
    }
}

#[test]
fn a_repeated_or_missing_block_is_noticed() {
    let sample = Sample::new(8);
    let dir = tempfile::tempdir().unwrap();
    let blocks = sample.blocks();
    for (range, _) in &blocks[1..blocks.len() - 4] {
        let block = &sample.bytes[range.clone()];
        let repeated = [&sample.bytes[..range.end], block, &sample.bytes[range.end..]].concat();
        let missing = [&sample.bytes[..range.start], &sample.bytes[range.end..]].concat();
        for bytes in [repeated, missing] {
            let trace = Trace::open(&put(dir.path(), &bytes)).unwrap();
            let found = verify(&trace).unwrap();
            let lost = found.findings.iter().any(|finding| finding.kind == FindingKind::Loss);
            assert!(lost, "{:?}", found.findings);
        }
    }
}

#[test]
fn what_is_recovered_verifies_and_states_what_is_missing() {
    let sample = Sample::new(10);
    let dir = tempfile::tempdir().unwrap();
    let mut damaged = sample.bytes.clone();
    let middle = sample.bytes.len() / 2;
    damaged[middle..middle + 300].fill(0);
    let cut = sample.bytes[..sample.bytes.len() * 2 / 3].to_vec();
    let outcomes = [Recovery::WithLoss, Recovery::WithLoss, Recovery::Clean];
    for (n, bytes) in [damaged, cut, sample.bytes.clone()].into_iter().enumerate() {
        let path = put(dir.path(), &bytes);
        let out = dir.path().join(format!("recovered-{n}.trace"));
        let recovered = recover(&path, &out).unwrap();
        assert_eq!(recovered.outcome, outcomes[n], "{recovered:?}");
        assert_eq!(fs::read(&path).unwrap(), bytes, "the old file stays as it is");
        let fresh = Trace::open(&out).unwrap();
        assert!(fresh.health().complete);
        let found = verify(&fresh).unwrap();
        for finding in &found.findings {
            // Exchanges whose end is lost stay open.
            let stated = match finding.cause {
                Cause::QueueFull | Cause::DamagedBefore => true,
                Cause::UnderWay => recovered.open > 0,
                _ => false,
            };
            assert!(stated, "{n}: {finding:?}");
        }
        assert!(found.stated.open().is_some());
        let admitted = Trace::open(&path).unwrap().health().counters.admitted;
        assert_eq!(found.stated.admitted, admitted, "what is lost is counted");
        assert!(recover(&path, &out).is_err(), "an existing trace is not overwritten");
        if n == 2 {
            assert_eq!(read(&fresh), Assembler::all(sample.events.iter().cloned()));
        }
    }
}

#[test]
fn what_is_no_trace_is_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let says = |bytes: &[u8], expected: &str| {
        let error = Trace::open(&put(dir.path(), bytes)).unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains("damaged.trace"), "{error}");
    };
    let sample = Sample::new(1);
    let newer = [b"\x89RNCT3\r\n", &sample.bytes[8..]].concat();
    let text = [b"\x89RNCT1\n\xB7", &sample.bytes[9..]].concat();
    says(b"", "it is empty");
    says(b"PK\x03\x04 and more bytes", "it does not begin like a trace");
    says(&newer, "newer reenact");
    says(&text, "binary mode");
    says(&sample.bytes[..20], "before its first block");
    let none = Trace::open(&dir.path().join("absent.trace")).unwrap_err();
    assert!(matches!(none, TraceError::Io { .. }));
    let empty = tempfile::tempdir().unwrap();
    assert!(matches!(Trace::open(empty.path()), Err(TraceError::NoSegments { .. })));
}

#[test]
fn a_dropped_writer_leaves_what_it_held() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.trace");
    let mut writer = Writer::create(&path, header(), WriterOptions::default()).unwrap();
    writer.append(request(1, millis(1), "/")).unwrap();
    writer.append(frame(1, Side::Request, millis(1), "half a body")).unwrap();
    drop(writer);
    assert!(!path.exists());
    let trace = Trace::open(&dir.path().join("a.trace.open")).unwrap();
    assert!(!trace.health().complete);
    assert_eq!(read(&trace)[0].request_body(), "half a body");
    let taken = Writer::create(&path, header(), WriterOptions::default()).unwrap_err();
    assert!(taken.to_string().contains("a.trace.open exists already"), "{taken}");
}

#[test]
fn what_is_flushed_can_be_read_while_the_writer_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.trace");
    let mut writer = Writer::create(&path, header(), WriterOptions::default()).unwrap();
    writer.append(request(1, millis(1), "/")).unwrap();
    writer.append(frame(1, Side::Request, millis(1), "body")).unwrap();
    writer.flush(millis(200)).unwrap();
    let trace = Trace::open(&dir.path().join("a.trace.open")).unwrap();
    assert_eq!(trace.health().counters.admitted, 1);
    assert_eq!(read(&trace)[0].request_body(), "body");
    writer.append(end(1, millis(300))).unwrap();
    writer.finish().unwrap();
    assert!(Trace::open(&path).unwrap().health().complete);
}

/// Restart after a crash: what it left open is closed, with an index, and nothing of it changes.
#[test]
fn a_segment_that_a_crash_left_open_is_closed_as_it_is_wherever_it_was_cut() {
    let sample = Sample::new(3);
    let dir = tempfile::tempdir().unwrap();
    let open = dir.path().join("a.trace.open");
    let closed = dir.path().join("a.trace");
    let first = sample.blocks()[0].0.end;
    // All of the ends of blocks, and what is between them in steps.
    let ends = sample.blocks().into_iter().map(|(block, _)| block.end);
    let cuts = (first..sample.bytes.len()).step_by(37).chain(ends);
    for len in cuts {
        fs::write(&open, &sample.bytes[..len]).unwrap();
        let before = read(&Trace::open(&open).unwrap());
        let found = close_left_open(dir.path()).unwrap();
        assert_eq!(found.len(), 1);
        let outcome = found[0].outcome.as_ref().unwrap_or_else(|error| panic!("{len}: {error}"));
        assert_eq!(*outcome, Closed::Now(before.len() as u64), "cut at {len}");
        let trace = Trace::open(&closed).unwrap();
        assert!(trace.health().complete, "cut at {len}: {:?}", trace.health());
        assert_eq!(read(&trace), before, "cut at {len}");
        let found = verify(&trace).unwrap();
        let is_open = |finding: &Finding| finding.cause == Cause::UnderWay;
        assert!(found.findings.iter().all(is_open), "cut at {len}: {:?}", found.findings);
        fs::remove_file(&closed).unwrap();
    }
}

#[test]
fn a_segment_that_is_being_written_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.trace");
    let mut writer = Writer::create(&path, header(), WriterOptions::default()).unwrap();
    writer.append(request(1, millis(1), "/")).unwrap();
    writer.flush(millis(2)).unwrap();
    let found = close_left_open(dir.path()).unwrap();
    assert!(matches!(found[0].outcome, Ok(Closed::Busy)), "{found:?}");
    assert_eq!(writer.finish().unwrap().counters.admitted, 1);
}

/// A recorder that is killed when it has just begun a segment leaves a file with nothing in it.
#[test]
fn a_segment_with_nothing_in_it_does_not_hide_those_beside_it() {
    let sample = Sample::new(2);
    let first = sample.blocks()[0].0.end;
    for len in [0, 5, 8, first - 1] {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("00000.trace"), &sample.bytes).unwrap();
        let begun = dir.path().join("00001.trace.open");
        fs::write(&begun, &sample.bytes[..len]).unwrap();
        let trace = Trace::open(dir.path()).unwrap();
        assert_eq!(read(&trace).len(), 2, "{len}");
        assert!(!trace.health().complete && trace.health().losses.len() == 1, "{len}");
        assert!(
            verify(&trace).unwrap().findings.iter().all(|found| found.kind == FindingKind::Loss)
        );
        let found = close_left_open(dir.path()).unwrap();
        assert!(matches!(found[0].outcome, Ok(Closed::Removed)) && !begun.exists(), "{found:?}");
        assert!(Trace::open(dir.path()).unwrap().health().complete);
    }
    // Not so what is long and can't be read: somebody may know how to.
    let dir = tempfile::tempdir().unwrap();
    let damaged = dir.path().join("00000.trace.open");
    fs::write(&damaged, [&sample.bytes[..8], &vec![0; 5_000]].concat()).unwrap();
    let found = close_left_open(dir.path()).unwrap();
    assert!(found[0].outcome.is_err() && damaged.exists(), "{found:?}");
}
