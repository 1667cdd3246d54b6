//! Compressed responses, and all responses in every cut: the same facts as of one that came whole and plain.

use std::io::Write as _;

use proptest::prelude::*;
use reenact::dialect::ResponseFacts;

use crate::dialect_openai::{Case, STREAM, UNARY, delta, events, unnumbered};

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut coder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    coder.write_all(bytes).unwrap();
    coder.finish().unwrap()
}

fn zlib(bytes: &[u8]) -> Vec<u8> {
    let mut coder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
    coder.write_all(bytes).unwrap();
    coder.finish().unwrap()
}

fn deflate(bytes: &[u8]) -> Vec<u8> {
    let mut coder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::default());
    coder.write_all(bytes).unwrap();
    coder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 3).unwrap()
}

type Coder = fn(&[u8]) -> Vec<u8>;
const CODERS: [(&str, Coder); 4] =
    [("gzip", gzip), ("deflate", zlib), ("Deflate", deflate), ("zstd", zstd)];

#[test]
fn coded_bodies_are_read_as_if_they_were_not() {
    let plain = events(&[&delta(r#"{"content":"abc"}"#), "[DONE]"]).concat();
    let expected = STREAM.whole(plain.as_bytes());
    for (coding, coder) in CODERS {
        let case = Case { coding: Some(coding), ..STREAM };
        assert_eq!(case.whole(&coder(plain.as_bytes())), expected, "{coding}");
    }
    // A server that streams flushes: the event is seen in the frame that completes it.
    let mut coder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    let mut frames = Vec::new();
    for event in events(&[&delta("{}"), &delta(r#"{"content":"a"}"#)]) {
        coder.write_all(event.as_bytes()).unwrap();
        coder.flush().unwrap();
        frames.push(std::mem::take(coder.get_mut()));
    }
    let case = Case { coding: Some("gzip"), ..STREAM };
    let (facts, read) = case.read(frames.iter().map(Vec::as_slice), false);
    assert_eq!((facts.first_content_frame, read[0].events, read[1].events), (Some(1), 1, 1));
}

#[test]
fn what_can_not_be_decoded_is_unknown() {
    let unknown = ResponseFacts { ended: true, ..ResponseFacts::default() };
    for coding in ["br", "gzip, zstd", "gzip", "zstd"] {
        let case = Case { coding: Some(coding), ..STREAM };
        assert_eq!(case.whole(b"\x01\x02 not that at all"), unknown, "{coding}");
    }
    let unary = Case { coding: Some("br"), ..UNARY };
    let facts = unary.whole(b"\x01\x02");
    assert_eq!((facts.first_content_frame, facts.events), (Some(0), 1));
    // 300 MB of spaces in a few hundred bytes.
    let bomb = zstd(&vec![b' '; 300 << 20]);
    let case = Case { coding: Some("zstd"), ..STREAM };
    assert_eq!(case.read([&bomb[..]], true).0, unknown);
}

fn any_event() -> impl Strategy<Value = String> {
    let field = prop_oneof![
        Just(r#""content":"hé\n""#.to_owned()),
        Just(r#""content":null"#.to_owned()),
        Just(r#""reasoning":"r""#.to_owned()),
        Just(r#""content":"\ud83d""#.to_owned()),
        (0u8..3, "[a-z]{0,3}").prop_map(|(index, name)| format!(
            r#""tool_calls":[{{"index":{index},"function":{{"name":"{name}","arguments":"1"}}}}]"#
        )),
    ];
    prop_oneof![
        8 => (0u8..3, field).prop_map(|(index, field)| format!(
            "data: {{\"id\":\"i\",\"choices\":[{{\"index\":{index},\"delta\":{{{field}}}}}]}}\n\n"
        )),
        1 => Just(": ping\r\n\r\n".to_owned()),
        1 => Just("data: {\"error\":\"e\"}\r\r".to_owned()),
        1 => Just("data: {\"usage\":{\"prompt_tokens\":3}}\n\n".to_owned()),
        1 => Just("data: [DONE]\n\n".to_owned()),
        1 => "[ -~\r\n]{0,12}".prop_map(|noise| noise),
    ]
}

fn cut<'a>(bytes: &'a [u8], cuts: &[prop::sample::Index]) -> Vec<&'a [u8]> {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    cuts.extend([0, bytes.len()]);
    cuts.sort_unstable();
    cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]]).collect()
}

proptest! {
    #[test]
    fn any_cut_gives_the_same_facts(
        parts in prop::collection::vec(any_event(), 0..12),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
        coder in prop::option::of(prop::sample::select(&CODERS[..])),
        damage in prop::option::of((any::<prop::sample::Index>(), any::<u8>())),
        complete in any::<bool>(),
        unary in any::<bool>(),
    ) {
        let mut case = if unary { UNARY } else { STREAM };
        let mut body = parts.concat().into_bytes();
        if let Some((coding, coder)) = coder {
            case.coding = Some(coding);
            body = coder(&body);
        }
        if let (Some((at, byte)), false) = (damage, body.is_empty()) {
            let at = at.index(body.len());
            body[at] = byte;
        }
        let whole = case.read([&body[..]], complete).0;
        let pieces = case.read(cut(&body, &cuts), complete).0;
        prop_assert_eq!(unnumbered(pieces), unnumbered(whole));
    }

    #[test]
    fn any_bytes_are_survived(
        frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..64), 0..8),
        coding in prop::option::of(prop::sample::select(vec!["gzip", "deflate", "zstd", "br"])),
        unary in any::<bool>(),
    ) {
        let case = if unary { Case { coding, ..UNARY } } else { Case { coding, ..STREAM } };
        drop(case.read(frames.iter().map(Vec::as_slice), true));
    }
}
