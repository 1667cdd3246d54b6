//! How the frozen files of `golden.rs` are made.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::Method;

use crate::clock::Nanos;
use crate::trace::block::{Start, put_record};
use crate::trace::codec::{encode_counters, encode_event, encode_header};
use crate::trace::compress::{Compressor, Then};
use crate::trace::format::{BLOCK_HEADER_LEN, BlockHeader, END_MAGIC, VERSION, magic, opcode};
use crate::trace::golden_events::{
    bared, end, events, hashed, hashed_header, header, left_out, request,
};
use crate::trace::index::{Chapter, Footer, Place, encode_chapters, encode_footer, encode_places};
use crate::trace::record::{BareFrame, Counters, Event, ExchangeId, Frame, Header, Outcome};
use crate::trace::wire::len_u64;
use crate::trace::{Assembler, Exchange, Recipients, Totals, Writer, WriterOptions};

/// What the writer makes of [`events`].
pub(super) fn whole(recipients: Recipients) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("golden.trace");
    let options = WriterOptions {
        frame_bytes: 12_000,
        block_bytes: 6_000,
        recipients,
        ..WriterOptions::default()
    };
    let mut writer = Writer::create(&path, header(), options).unwrap();
    let mut flushed = Nanos::ZERO;
    for event in events() {
        if event.at() > flushed + Duration::from_millis(100) {
            flushed = event.at();
            writer.flush(flushed).unwrap();
        }
        writer.append(event).unwrap();
    }
    writer.finish().unwrap();
    fs::read(path).unwrap()
}

/// What version 1.1 added: omissions of all reasons, and a gap of what was damaged.
fn omitted() -> Vec<u8> {
    let mut events = vec![
        request(4, 1_000_000, Method::GET, "/v1/models"),
        end(&[], 4, 2_000_000, Outcome::Complete),
    ];
    events.extend(left_out());
    written(&header(), &events)
}

/// What the writer makes of these events, in one go.
fn written(header: &Header, events: &[Event]) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("golden.trace");
    let mut writer = Writer::create(&path, header.clone(), WriterOptions::default()).unwrap();
    for event in events {
        writer.append(event.clone()).unwrap();
    }
    writer.finish().unwrap();
    fs::read(path).unwrap()
}

/// A file of a later minor version: an unknown record, and fields that were added.
fn newer_minor() -> Vec<u8> {
    let mut file = File { bytes: magic(VERSION).to_vec(), chapters: Vec::new() };
    let mut head = encode_header(&header());
    head[0] = 9;
    head.extend_from_slice(b"a field added in 1.9");
    file.block(&[(opcode::HEADER, head)]);
    let events =
        [request(1, 1_000_000, Method::GET, "/v1/models"), end(&[], 1, 2_000_000, Outcome::Failed)];
    let mut counters = Counters::default();
    let mut records = vec![(0x33, b"a record added in 1.9".to_vec())];
    for event in &events {
        counters.count(event);
        let mut payload = Vec::new();
        let code = encode_event(event, &mut payload).unwrap();
        payload.extend_from_slice(b"a field added in 1.9");
        records.push((code, payload));
    }
    records.push((opcode::COUNTERS, encode_counters(&counters)));
    file.block(&records);
    let summary = len_u64(file.bytes.len());
    let (mut map, mut index) = (Vec::new(), Vec::new());
    encode_chapters(&file.chapters, &mut map);
    let place = Place {
        id: ExchangeId(1),
        at: Nanos(1_000_000),
        end: Some((Nanos(2_000_000), Outcome::Failed)),
        first: 1,
        request_last: 1,
        last: 1,
    };
    encode_places(&[place], &mut index);
    let totals = Totals { exchanges: 1, until: Nanos(2_000_000), ..Totals::default() };
    let footer = encode_footer(&Footer { totals, counters });
    file.block(&[(opcode::MAP, map), (opcode::INDEX, index), (opcode::FOOTER, footer)]);
    file.bytes.extend_from_slice(&summary.to_le_bytes());
    file.bytes.extend_from_slice(&END_MAGIC);
    file.bytes
}

struct File {
    bytes: Vec<u8>,
    chapters: Vec<Chapter>,
}

impl File {
    /// Appends a block that is a zstd frame of its own.
    fn block(&mut self, records: &[(u8, Vec<u8>)]) {
        let offset = len_u64(self.bytes.len());
        let ordinal = u32::try_from(self.chapters.len()).unwrap();
        let mut raw = Vec::new();
        put_record(&mut raw, opcode::START, &Start { ordinal, offset, first_blob: 0 }.encode());
        for (code, payload) in records {
            put_record(&mut raw, *code, payload);
        }
        let mut compressor = Compressor::new().unwrap();
        compressor.begin(9, 20).unwrap();
        let payload = compressor.block(&raw, Then::EndFrame).unwrap();
        let header =
            BlockHeader::new(&payload, u32::try_from(raw.len()).unwrap(), true, 0).unwrap();
        self.chapters.push(Chapter { offset, first_blob: 0, raw: len_u64(raw.len()) });
        self.bytes.extend_from_slice(&header.to_bytes());
        self.bytes.extend_from_slice(&payload);
    }
}

/// Returns where the blocks of a whole file are.
fn blocks(bytes: &[u8]) -> Vec<std::ops::Range<usize>> {
    let mut at = magic(VERSION).len();
    let mut found = Vec::new();
    while let Some(front) = bytes[at..].first_chunk::<BLOCK_HEADER_LEN>() {
        let Ok(header) = BlockHeader::parse(front) else { break };
        let end = at + BLOCK_HEADER_LEN + header.stored as usize;
        found.push(at..end);
        at = end;
    }
    found
}

/// Each frozen file with how it is made.
pub(super) fn files() -> Vec<(&'static str, Vec<u8>)> {
    let whole = whole(Recipients::default());
    let found = blocks(&whole);
    let middle = found[found.len() / 2].clone();
    let changed = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = whole.clone();
        change(&mut bytes);
        bytes
    };
    let repeated = [&whole[..middle.end], &whole[middle.clone()], &whole[middle.end..]].concat();
    let missing = [&whole[..middle.start], &whole[middle.end..]].concat();
    let text: Vec<u8> = whole.iter().copied().filter(|&byte| byte != b'\r').collect();
    vec![
        ("v1.0.trace", whole.clone()),
        ("v1.1-omission.trace", omitted()),
        ("v1.1-hash.trace", written(&hashed_header(), &hashed())),
        ("v1.2-bare.trace", written(&header(), &bared())),
        ("v1.9-newer-minor.trace", newer_minor()),
        ("damaged/cut.trace", whole[..middle.start + 30].to_vec()),
        ("damaged/unfinished.trace", whole[..middle.start].to_vec()),
        ("damaged/bit-flip.trace", changed(&|bytes| bytes[middle.start + 20] ^= 4)),
        ("damaged/zero-page.trace", changed(&|bytes| bytes[20_000..24_096].fill(0))),
        ("damaged/header-flip.trace", changed(&|bytes| bytes[found[0].start + 30] ^= 1)),
        ("damaged/repeated-block.trace", repeated),
        ("damaged/missing-block.trace", missing),
        ("damaged/newer-major.trace", changed(&|bytes| bytes[5] = b'2')),
        ("damaged/major-9.trace", changed(&|bytes| bytes[5] = b'9')),
        ("damaged/text-mode.trace", text),
        ("damaged/empty.trace", Vec::new()),
    ]
}

pub(super) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/trace")
}

/// Returns [`events`] as they read back.
pub(super) fn expected() -> Vec<Exchange> {
    Assembler::all(events().into_iter().map(ticked))
}

/// Returns an event as it reads back: frame stamps in whole microseconds.
pub(super) fn ticked(event: Event) -> Event {
    let tick = |at: Nanos| Nanos(at.0 / 1_000 * 1_000);
    match event {
        Event::Frame(frame) => {
            Event::Frame(Frame { at: tick(frame.at), accepted: tick(frame.accepted), ..frame })
        }
        Event::Bare(frame) => {
            Event::Bare(BareFrame { at: tick(frame.at), accepted: tick(frame.accepted), ..frame })
        }
        other => other,
    }
}

/// Checks that each file is there; makes those that are not when told to.
pub(super) fn make_missing(files: Vec<(&str, Vec<u8>)>) {
    let bless = std::env::var_os("REENACT_BLESS").is_some();
    for (name, bytes) in files {
        let path = folder().join(name);
        if bless && !path.exists() {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, bytes).unwrap();
        }
        assert!(path.exists(), "{name} is missing: REENACT_BLESS=1 cargo test golden makes it");
    }
}
