//! The fuzz targets (`tests/fuzz/`) over their corpus and seeded mutations of it: what a stable toolchain can do.

use std::fs;
use std::path::{Path, PathBuf};

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

#[path = "../fuzz/targets.rs"]
mod targets;

/// Mutations of each input of the corpus.
const ROUNDS: usize = 60;
/// Longest input that is made.
const MAX_BYTES: usize = 64 << 10;

/// What `REENACT_BLESS=1 cargo test --test it fuzz` makes the corpus of.
const CORPUS: &[(&str, &[&[u8]])] = &[
    (
        "sse",
        &[
            b"\x03data: {\"a\":1}\n\ndata: [DONE]\n\n",
            b"\x01\xef\xbb\xbfevent: x\r\ndata: a\r\ndata: b\r\n\r\n: ping\r\rdata",
            b"\x07id: 1\nretry: 3\ndata\n\ndata:\n\n",
        ],
    ),
    (
        "websocket",
        &[
            b"\x02\x81\x05hello\x89\x00\x01\x02ab\x80\x01c\x88\x02\x03\xe8",
            b"\x05\x81\x85\x01\x02\x03\x04hello\x8a\x80\x01\x02\x03\x04",
            b"\x01\x82\x7e\x00\x80abc",
            b"\x03\x82\x7f\x00\x00\x00\x00\x00\x11\x00\x00xyz",
        ],
    ),
    (
        "heads",
        &[
            b"\x04GET / HTTP/1.1\r\nHost: a\r\n\r\nPOST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\n\r\n",
            b"\x05POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nx: y\r\n\r\nGET",
            b"\x02POST / HTTP/1.1\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"\x06\r\n\nGET / HTTP/1.1\nContent-Length: 1\nContent-Length: 1\n\n",
        ],
    ),
    (
        "hops",
        &[
            b"host:a\nconnection:close, x-a, host\nx-a:1\nte:gzip, trailers\nauthorization:x\nx-b:2",
            b"connection:Upgrade\nupgrade:websocket\nsec-websocket-key:x\nkeep-alive:5",
            b"connection:upgrade\nupgrade:websocket, h2c\nhttp2-settings:x\ntransfer-encoding:chunked\nx-forwarded-for:1",
        ],
    ),
];

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

/// Reads the files of a folder, sorted by name.
fn files(folder: &Path) -> Vec<Vec<u8>> {
    let mut paths: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.retain(|path| path.is_file());
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

/// Changes some bytes of an input: flips, cuts, repeats, or takes a piece of another one.
fn mutate(input: &mut Vec<u8>, other: &[u8], random: &mut ChaCha8Rng) {
    for _ in 0..random.random_range(1..4) {
        let at = random.random_range(0..=input.len());
        let length = random.random_range(0..16).min(input.len() - at);
        match random.random_range(0..6) {
            0 if at < input.len() => input[at] ^= 1 << random.random_range(0..8),
            1 if at < input.len() => {
                input[at] = [0, 1, 0x7f, 0x80, 0xff, b'\r', b'\n', b':'][random.random_range(0..8)];
            }
            2 => drop(input.drain(at..at + length)),
            3 => {
                let piece = input[at..at + length].to_vec();
                drop(input.splice(at..at, piece));
            }
            4 => input.truncate(at),
            _ => {
                let from = random.random_range(0..=other.len());
                let until = other.len().min(from + random.random_range(0..64));
                drop(input.splice(at..at, other[from..until].iter().copied()));
            }
        }
    }
    input.truncate(MAX_BYTES);
}

/// Runs a target over its corpus and mutations of it, and of what they became.
fn run(target: fn(&[u8]), corpus: &[Vec<u8>], per_input: usize) {
    assert!(!corpus.is_empty());
    let mut random = ChaCha8Rng::seed_from_u64(7);
    for input in corpus {
        target(input);
        let mut grown = input.clone();
        for round in 0..per_input {
            if round % 16 == 0 {
                grown.clone_from(input);
            }
            let other = &corpus[random.random_range(0..corpus.len())];
            mutate(&mut grown, other, &mut random);
            target(&grown);
        }
    }
}

fn rounds() -> usize {
    std::env::var("REENACT_FUZZ_ROUNDS").map_or(ROUNDS, |rounds| rounds.parse().unwrap())
}

#[test]
fn no_target_falls_over_its_corpus_or_mutations_of_it() {
    for (name, inputs) in CORPUS {
        let folder = fixtures().join("fuzz").join(name);
        if std::env::var_os("REENACT_BLESS").is_some() {
            fs::create_dir_all(&folder).unwrap();
            for (number, input) in inputs.iter().enumerate() {
                fs::write(folder.join(format!("{number}")), input).unwrap();
            }
        }
        let target = match *name {
            "sse" => targets::sse,
            "websocket" => targets::websocket,
            "heads" => targets::heads,
            _ => targets::hops,
        };
        run(target, &files(&folder), rounds() * 50);
    }
}

#[test]
fn no_trace_file_makes_the_reader_panic() {
    let mut corpus = files(&fixtures().join("trace"));
    corpus.extend(files(&fixtures().join("trace/damaged")));
    run(targets::trace, &corpus, rounds());
}
