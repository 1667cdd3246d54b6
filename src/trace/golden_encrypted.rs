//! Frozen files that are encrypted, to the identity beside them; made as those of `golden.rs` are, with the same events.

use std::fs;

use crate::trace::envelope::ENVELOPE_FRONT_LEN;
use crate::trace::format::{BLOCK_HEADER_LEN, MAGIC_LEN, MARKER};
use crate::trace::golden::check;
use crate::trace::golden_events::header;
use crate::trace::golden_making::{expected, folder, make_missing, whole};
use crate::trace::{
    Assembler, Identity, ReadOptions, Recipient, Recipients, Trace, TraceError, parse_keys, verify,
};

/// A recipient whose identity nobody has.
const NOBODY: &str = "age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj";

fn identity_file() -> String {
    fs::read_to_string(folder().join("identity.txt")).unwrap()
}

/// Returns the identity that the files are encrypted to.
fn options() -> ReadOptions {
    let identities: Vec<Identity> = parse_keys(&identity_file()).unwrap();
    ReadOptions { identities }
}

/// Each frozen file with how it is made.
fn files() -> Vec<(&'static str, Vec<u8>)> {
    let text = identity_file();
    let public = text.lines().find_map(|line| line.strip_prefix("# public key: ")).unwrap();
    let recipients: Vec<Recipient> = [public, NOBODY].map(|key| key.parse().unwrap()).into();
    let whole = whole(Recipients::new(recipients));
    let blocks: Vec<usize> = memchr::memmem::find_iter(&whole, &MARKER).collect();
    let block = blocks[blocks.len() / 2];
    let changed = |at: usize| {
        let mut bytes = whole.clone();
        bytes[at] ^= 4;
        bytes
    };
    vec![
        ("v2.1.trace", whole.clone()),
        ("damaged/encrypted-cut.trace", whole[..block + BLOCK_HEADER_LEN + 14].to_vec()),
        ("damaged/encrypted-bit-flip.trace", changed(block + BLOCK_HEADER_LEN + 14)),
        ("damaged/encrypted-envelope.trace", changed(MAGIC_LEN + ENVELOPE_FRONT_LEN + 40)),
    ]
}

#[test]
fn golden_files_are_there() {
    make_missing(files());
}

#[test]
fn golden_version_2_1_reads_as_it_was_written() {
    let mut trace = Trace::open_with(&folder().join("v2.1.trace"), &options()).unwrap();
    assert_eq!((trace.header(), trace.health().complete), (&header(), true));
    assert_eq!(trace.health().version.to_string(), "2.1");
    assert!(Trace::is_encrypted(&folder().join("v2.1.trace")).unwrap());
    assert!(!Trace::is_encrypted(&folder().join("v1.0.trace")).unwrap());
    let read = Assembler::all(trace.scan().unwrap().map(Result::unwrap));
    assert_eq!(read, expected());
    for exchange in &read {
        assert_eq!(trace.exchange(exchange.request.exchange).unwrap().as_ref(), Some(exchange));
    }
    assert_eq!(verify(&trace).unwrap().findings.len(), 2, "its two gaps");
}

#[test]
fn golden_encrypted_files_say_what_is_missing_to_read_them() {
    let error = Trace::open(&folder().join("v2.1.trace")).unwrap_err();
    let TraceError::Locked { recipients: 2, identities: 0, .. } = error else { panic!("{error}") };
    let words = error.to_string();
    assert!(
        words.ends_with(
            "v2.1.trace is encrypted to 2 recipients, and no identity was given: open it with --identity FILE"
        ),
        "{words}"
    );
}

#[test]
fn golden_damaged_encrypted_files_read_in_part_and_say_what_is_missing() {
    let check = |name, says, whole| check(name, &options(), says, whole);
    check("encrypted-cut.trace", "the file ends in a block", 2);
    check("encrypted-bit-flip.trace", "checksum does not match", 3);
    check("encrypted-envelope.trace", "an envelope is damaged", 6);
}
