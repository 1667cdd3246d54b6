//! Cuts a body into pieces at places that its content decides, so that equal parts of different bodies become equal
//! pieces whatever stands around them.
//!
//! Text is cut by a gear hash over the last 64 bytes, and after `}`: a chat that grows by a message shares all the pieces
//! of the messages before it. A long run of base64, wherever it stands, is decoded and cut by the same hash over the
//! decoded bytes, so an image costs its own size once. Pieces do not depend on how the body was cut into frames, unless
//! [`Splitter::cut`] forces one.
//!
//! A reader needs none of this: pieces put back together are the body.

/// Cuts one body, handed over in any number of parts.
#[derive(Debug)]
pub(crate) struct Splitter {
    /// Bytes not yet in a piece; decoded ones in base64.
    pending: Vec<u8>,
    hash: u64,
    mode: Mode,
}

#[derive(Clone, Copy, Debug)]
enum Mode {
    /// The last `run` bytes, pieces cut or not, were of the base64 alphabet.
    Text { run: usize },
    /// In a long run; the first `len` of `quad` wait for the rest of their four.
    Base64 { quad: [u8; 4], len: usize },
}

/// Text pieces are at least this long, where the content decides.
const TEXT_MIN: usize = 256;
/// And at most this long.
const TEXT_MAX: usize = 8 << 10;
/// One place in 256 between words: some 1.5 KiB in English.
const TEXT_MASK: u64 = 0xFF << 40;
/// Shortest run of base64 that is decoded.
const RUN_MIN: usize = 1024;
/// Decoded pieces are at least this long, where the content decides. A multiple of 3, as is every cut.
const MEDIA_MIN: usize = 12 << 10;
/// And at most this long.
const MEDIA_MAX: usize = 192 << 10;
/// One triple in 2^14: some 48 KiB beyond the shortest.
const MEDIA_MASK: u64 = 0x3FFF << 40;
/// Value of a byte outside the alphabet in [`SIX_BITS`].
const OUTSIDE: u8 = 0xFF;

/// Random numbers for the gear hash (splitmix64 from 0).
static GEAR: [u64; 256] = gear();
/// Each byte's value in base64.
static SIX_BITS: [u8; 256] = six_bits();
static ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Appends the base64 of a decoded piece: a multiple of three bytes.
pub(crate) fn encode_base64(bytes: &[u8], out: &mut Vec<u8>) {
    out.reserve(bytes.len() / 3 * 4);
    for triple in bytes.chunks_exact(3) {
        let word = u32::from_be_bytes([0, triple[0], triple[1], triple[2]]);
        out.extend_from_slice(
            &[18, 12, 6, 0].map(|shift| ALPHABET[((word >> shift) & 0x3F) as usize]),
        );
    }
}

// === impl Splitter ===

impl Splitter {
    pub(crate) fn new() -> Self {
        Self { pending: Vec::new(), hash: 0, mode: Mode::Text { run: 0 } }
    }

    /// Forgets the body, and keeps the memory.
    pub(crate) fn restart(&mut self) {
        self.pending.clear();
        (self.hash, self.mode) = (0, Mode::Text { run: 0 });
    }

    /// Returns the bytes that it has room for.
    pub(crate) fn capacity(&self) -> usize {
        self.pending.capacity()
    }

    /// Takes the next part of the body and hands each finished piece to `piece`: whether it is decoded base64, and its
    /// bytes.
    pub(crate) fn push(&mut self, mut data: &[u8], piece: &mut impl FnMut(bool, &[u8])) {
        while !data.is_empty() {
            let used = match self.mode {
                Mode::Text { run } => self.text(data, run, piece),
                Mode::Base64 { quad, len } => self.base64(data, quad, len, piece),
            };
            data = &data[used..];
        }
    }

    /// Cuts here: every byte so far is in a piece. The body may go on.
    pub(crate) fn cut(&mut self, piece: &mut impl FnMut(bool, &[u8])) {
        match self.mode {
            Mode::Text { .. } => self.emit(false, piece),
            Mode::Base64 { quad, len } => {
                self.emit(true, piece);
                if len > 0 {
                    // Goes on as text until the next four characters begin, so that the rest of the image is still cut
                    // where it was cut the last time.
                    piece(false, &quad[..len]);
                    self.mode = Mode::Text { run: RUN_MIN - 4 + len };
                }
            }
        }
    }

    /// Reads text up to the next cut and returns the bytes used.
    fn text(&mut self, data: &[u8], mut run: usize, piece: &mut impl FnMut(bool, &[u8])) -> usize {
        let before = self.pending.len();
        let mut hash = self.hash;
        let longest = data.len().min(TEXT_MAX - before);
        for (idx, &byte) in data[..longest].iter().enumerate() {
            hash = (hash << 1).wrapping_add(GEAR[usize::from(byte)]);
            if !is_outside(byte) {
                run += 1;
                if run == RUN_MIN {
                    self.pending.extend_from_slice(&data[..=idx]);
                    self.enter_base64(run, piece);
                    return idx + 1;
                }
                continue;
            }
            run = 0;
            if before + idx + 1 >= TEXT_MIN && (byte == b'}' || hash & TEXT_MASK == 0) {
                self.pending.extend_from_slice(&data[..=idx]);
                self.emit(false, piece);
                self.mode = Mode::Text { run };
                return idx + 1;
            }
        }
        self.pending.extend_from_slice(&data[..longest]);
        self.hash = hash;
        self.mode = Mode::Text { run };
        if self.pending.len() == TEXT_MAX {
            self.emit(false, piece);
        }
        longest
    }

    /// The last `run` bytes are base64: what is before them is a piece, they are decoded.
    fn enter_base64(&mut self, run: usize, piece: &mut impl FnMut(bool, &[u8])) {
        // A cut may have taken the first characters of the run: skip to the next four.
        let held = run.min(self.pending.len());
        let skip = (4 - (run - held) % 4) % 4;
        let rest = self.pending.split_off(self.pending.len() - held + skip);
        self.emit(false, piece);
        self.mode = Mode::Base64 { quad: [0; 4], len: 0 };
        self.push(&rest, piece);
    }

    /// Reads base64 up to the next cut or to the end of the run and returns the bytes used.
    fn base64(
        &mut self,
        data: &[u8],
        mut quad: [u8; 4],
        mut len: usize,
        piece: &mut impl FnMut(bool, &[u8]),
    ) -> usize {
        let mut used = 0;
        while used < data.len() {
            if len == 0 && data.len() - used >= 4 {
                quad.copy_from_slice(&data[used..used + 4]);
                if let Some(valid) = quad.iter().position(|&byte| is_outside(byte)) {
                    self.leave_base64(quad, valid, piece);
                    return used + valid;
                }
                used += 4;
            } else {
                if is_outside(data[used]) {
                    self.leave_base64(quad, len, piece);
                    return used;
                }
                quad[len] = data[used];
                used += 1;
                len += 1;
                if len < 4 {
                    continue;
                }
                len = 0;
            }
            self.decode(quad, piece);
        }
        self.mode = Mode::Base64 { quad, len };
        used
    }

    /// Decodes four characters of the alphabet, and cuts after them where the content says so.
    fn decode(&mut self, quad: [u8; 4], piece: &mut impl FnMut(bool, &[u8])) {
        let [a, b, c, d] = quad.map(|byte| u32::from(SIX_BITS[usize::from(byte)]));
        let [_, triple @ ..] = (a << 18 | b << 12 | c << 6 | d).to_be_bytes();
        self.pending.extend_from_slice(&triple);
        for byte in triple {
            self.hash = (self.hash << 1).wrapping_add(GEAR[usize::from(byte)]);
        }
        let len = self.pending.len();
        if len >= MEDIA_MIN && (self.hash & MEDIA_MASK == 0 || len >= MEDIA_MAX) {
            self.emit(true, piece);
        }
    }

    /// The run has ended: what is decoded is a piece, the characters of the last, broken four are text.
    fn leave_base64(&mut self, quad: [u8; 4], len: usize, piece: &mut impl FnMut(bool, &[u8])) {
        self.emit(true, piece);
        self.pending.extend_from_slice(&quad[..len]);
        self.mode = Mode::Text { run: 0 };
    }

    fn emit(&mut self, base64: bool, piece: &mut impl FnMut(bool, &[u8])) {
        if !self.pending.is_empty() {
            piece(base64, &self.pending);
            self.pending.clear();
        }
        self.hash = 0;
    }
}

fn is_outside(byte: u8) -> bool {
    SIX_BITS[usize::from(byte)] == OUTSIDE
}

const fn gear() -> [u64; 256] {
    let mut table = [0; 256];
    let mut state = 0_u64;
    let mut idx = 0;
    while idx < 256 {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        table[idx] = mixed ^ (mixed >> 31);
        idx += 1;
    }
    table
}

const fn six_bits() -> [u8; 256] {
    let mut table = [OUTSIDE; 256];
    let mut value: u8 = 0;
    while value < 64 {
        table[ALPHABET[value as usize] as usize] = value;
        value += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Splits `parts`, forcing a cut after those marked, and returns the pieces.
    fn split(parts: &[(&[u8], bool)]) -> Vec<(bool, Vec<u8>)> {
        let mut pieces = Vec::new();
        let mut splitter = Splitter::new();
        let mut keep = |base64, bytes: &[u8]| pieces.push((base64, bytes.to_vec()));
        for &(part, cut) in parts {
            splitter.push(part, &mut keep);
            if cut {
                splitter.cut(&mut keep);
            }
        }
        splitter.cut(&mut keep);
        pieces
    }

    fn join(pieces: &[(bool, Vec<u8>)]) -> Vec<u8> {
        let mut body = Vec::new();
        for (base64, bytes) in pieces {
            if *base64 {
                assert_eq!(bytes.len() % 3, 0);
                encode_base64(bytes, &mut body);
            } else {
                body.extend_from_slice(bytes);
            }
        }
        body
    }

    fn noise(seed: u64, len: usize) -> Vec<u8> {
        let mut state = seed;
        std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            state.to_be_bytes()[0]
        })
        .take(len)
        .collect()
    }

    fn image(seed: u64, len: usize) -> Vec<u8> {
        let mut text = Vec::new();
        encode_base64(&noise(seed, len - len % 3), &mut text);
        text
    }

    #[test]
    fn an_image_is_cut_the_same_whatever_stands_around_it() {
        let image = image(1, 300_000);
        let media = |body: &[u8]| {
            split(&[(body, false)]).into_iter().filter(|piece| piece.0).collect::<Vec<_>>()
        };
        let first = media(&[b"{\"images\":[\"", &image[..], b"==\"]}"].concat());
        let second =
            media(&[b"text {\"url\":\"data:image/png;base64,", &image[..], b"\"}"].concat());
        assert!(first.len() > 2, "{}", first.len());
        assert_eq!(first, second);
        assert_eq!(first.iter().map(|piece| piece.1.len()).sum::<usize>(), 300_000);
    }

    #[test]
    fn an_image_that_a_flush_cut_is_found_again_after_the_next_cut() {
        let image = image(2, 900_000);
        let whole = split(&[(&image, false)]);
        let (before, after) = image.split_at(101_111);
        let cut = split(&[(before, true), (after, false)]);
        let known = cut.iter().filter(|piece| whole.contains(piece)).count();
        assert_eq!(join(&cut), image);
        assert!(known + 2 >= whole.len(), "{known} of {}", whole.len());
    }

    #[test]
    fn a_chat_that_grows_shares_all_earlier_messages() {
        let message = |n: u64| {
            let words: Vec<String> =
                noise(n, 150).iter().map(|byte| format!("w{}", byte % 90)).collect();
            format!("{{\"role\":\"user\",\"content\":\"{}\"}}", words.join(" "))
        };
        let body = |turns: u64| {
            let messages: Vec<String> = (0..turns).map(message).collect();
            format!("{{\"model\":\"m\",\"messages\":[{}],\"stream\":true}}", messages.join(","))
        };
        let (short, long) = (body(20), body(21));
        let known = split(&[(short.as_bytes(), false)]);
        let new: usize = split(&[(long.as_bytes(), false)])
            .iter()
            .filter(|piece| !known.contains(piece))
            .map(|piece| piece.1.len())
            .sum();
        assert!(new < long.len() - short.len() + 300, "{new} new bytes");
    }

    #[test]
    fn pieces_do_not_depend_on_frames() {
        let body = [b"text } more, ".repeat(300), image(3, 90_000), b"=\"} tail".to_vec()].concat();
        let whole = split(&[(&body, false)]);
        for step in [1, 3, 1000, 16_384] {
            let parts: Vec<(&[u8], bool)> = body.chunks(step).map(|part| (part, false)).collect();
            assert_eq!(split(&parts), whole, "frames of {step}");
        }
    }

    proptest! {
        #[test]
        fn pieces_put_together_are_the_body(
            parts in prop::collection::vec(
                (prop_oneof![
                    prop::collection::vec(any::<u8>(), 0..3000),
                    "[A-Za-z0-9+/]{0,3000}".prop_map(String::into_bytes),
                    "[a-z }]{0,3000}".prop_map(String::into_bytes),
                ], any::<bool>()),
                0..8,
            )
        ) {
            let parts: Vec<(&[u8], bool)> =
                parts.iter().map(|(part, cut)| (part.as_slice(), *cut)).collect();
            let body: Vec<u8> = parts.iter().flat_map(|(part, _)| part.iter().copied()).collect();
            prop_assert_eq!(join(&split(&parts)), body);
        }
    }
}
