//! Stand-ins for texts: the same length in bytes and characters, the same word boundaries, the same shared beginnings.
//!
//! The stand-in of a word follows from the key, the word, and the text before it: two texts have stand-ins that are equal
//! as far as they are equal themselves, to the word. Letters become letters of the same case, digits digits; punctuation,
//! white space and symbols stay. How a text is cut into pieces changes nothing.

use crate::privacy::draw::Draw;
use crate::privacy::words::word;

/// Makes the stand-in of one text, as it comes.
#[derive(Clone, Debug, Default)]
pub(super) struct Standin {
    /// Follows from all that is decided.
    chain: [u8; 32],
    /// What stood since the last word.
    between: Vec<u8>,
    /// The word that may go on, letters or digits.
    word: String,
}

/// Characters after which a word counts as ended: longer ones are made up in parts.
pub(super) const MAX_WORD: usize = 16;
/// Punctuation that is kept before it goes into the chain.
const MAX_BETWEEN: usize = 512;

// === impl Standin ===

impl Standin {
    /// Takes a character and appends to `out` what is decided by now: a character for each that was taken, in order.
    pub(super) fn push(&mut self, key: &[u8; 32], char: char, out: &mut String) {
        let goes_on = match self.word.chars().next() {
            Some(first) if first.is_ascii_digit() => char.is_ascii_digit(),
            Some(_) => char.is_ascii_alphabetic(),
            None => true,
        };
        if !goes_on || self.word.len() == MAX_WORD {
            self.finish(key, out);
        }
        if char.is_ascii_alphanumeric() {
            self.word.push(char);
        } else if char.is_alphanumeric() {
            let mut bytes = [0; 4];
            let mut draw = self.draw(key, char.encode_utf8(&mut bytes).as_bytes());
            out.push(alike(char, &mut draw));
        } else {
            let mut bytes = [0; 4];
            self.between.extend_from_slice(char.encode_utf8(&mut bytes).as_bytes());
            out.push(char);
            if self.between.len() > MAX_BETWEEN {
                self.draw(key, b"");
            }
        }
    }

    /// Decides the last word.
    pub(super) fn finish(&mut self, key: &[u8; 32], out: &mut String) {
        if self.word.is_empty() {
            return;
        }
        let original = std::mem::take(&mut self.word);
        let mut draw = self.draw(key, original.as_bytes());
        if original.as_bytes()[0].is_ascii_digit() {
            out.extend(original.chars().map(|_| char::from(b"0123456789"[draw.below(10)])));
        } else {
            other_word(&original, &mut draw, out);
        }
        self.word = original;
        self.word.clear();
    }

    /// Moves the chain beyond `token`, and returns what its stand-in is drawn from.
    fn draw(&mut self, key: &[u8; 32], token: &[u8]) -> Draw {
        let before = len_bytes(self.between.len());
        let mut draw = Draw::new(key, &[&self.chain, &before, &self.between, token]);
        self.between.clear();
        draw.fill(&mut self.chain);
        draw
    }
}

/// Makes where one part ends and the next begins a part of what is hashed.
fn len_bytes(len: usize) -> [u8; 8] {
    (len as u64).to_le_bytes()
}

/// Appends another word of the same length and case than `original`.
fn other_word(original: &str, draw: &mut Draw, out: &mut String) {
    let mut drawn = String::new();
    for _ in 0..8 {
        drawn.clear();
        word(original.len(), draw, &mut drawn);
        if !drawn.eq_ignore_ascii_case(original) {
            break;
        }
    }
    out.extend(drawn.chars().zip(original.chars()).map(|(drawn, original)| {
        if original.is_ascii_uppercase() { drawn.to_ascii_uppercase() } else { drawn }
    }));
}

/// Returns another character of the same script, kind and length.
fn alike(original: char, draw: &mut Draw) -> char {
    let (first, last) = range_of(original);
    for _ in 0..64 {
        let drawn = first + u32::try_from(draw.below((last - first + 1) as usize)).unwrap_or(0);
        if let Some(drawn) = char::from_u32(drawn)
            && drawn != original
            && kind(drawn) == kind(original)
        {
            return drawn;
        }
    }
    // A block with hardly a second letter of this kind. None of these is one of ASCII.
    match original.len_utf8() {
        2 => 'ß',
        3 => '一',
        _ => '𠀀',
    }
}

/// Returns what a stand-in has in common with its original.
fn kind(char: char) -> (usize, [bool; 4]) {
    let is = [
        char.is_uppercase(),
        char.is_lowercase(),
        char.is_numeric(),
        char.is_alphanumeric(), // neither a sign nor a place without a character
    ];
    (char.len_utf8(), is)
}

/// Returns where the characters that are like this one lie: its script, about.
fn range_of(char: char) -> (u32, u32) {
    const SCRIPTS: [(u32, u32); 8] = [
        (0x00C0, 0x024F),   // Latin
        (0x0370, 0x03FF),   // Greek
        (0x0400, 0x052F),   // Cyrillic
        (0x1E00, 0x1EFF),   // Latin
        (0x3400, 0x4DBF),   // Han
        (0x4E00, 0x9FFF),   // Han
        (0xAC00, 0xD7A3),   // Hangul
        (0x20000, 0x2A6DF), // Han
    ];
    let code = u32::from(char);
    let script = SCRIPTS.iter().find(|(first, last)| (*first..=*last).contains(&code));
    script.copied().unwrap_or((code & !0x7F, code | 0x7F))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const KEY: [u8; 32] = [7; 32];

    fn standin(pieces: &[&str]) -> String {
        let (mut standin, mut out) = (Standin::default(), String::new());
        for char in pieces.iter().flat_map(|piece| piece.chars()) {
            standin.push(&KEY, char, &mut out);
        }
        standin.finish(&KEY, &mut out);
        out
    }

    #[test]
    fn words_numbers_and_signs_keep_their_places() {
        let text = "Don't call +49 (170) 555-0199, Größe 12 km\u{b2}! 東京は NASA's \u{1f600}";
        let shaped = standin(&[text]);
        assert_eq!(shaped.len(), text.len());
        for (a, b) in text.chars().zip(shaped.chars()) {
            assert_eq!(kind(a), kind(b), "{a} {b} {shaped}");
            assert!(a == b || a.is_alphanumeric(), "{a} {b}");
        }
        assert_ne!(shaped, text);
    }

    #[test]
    fn texts_are_equal_as_far_as_their_originals_are() {
        let a = standin(&["the same beginning, then one ending"]);
        let b = standin(&["the same beginning, then another one"]);
        let shared = "the same beginning, then ".len();
        assert_eq!(a[..shared], b[..shared]);
        assert_ne!(a[shared..shared + 3], b[shared..shared + 3]);
        // The same word stands for another one after another text.
        let stand_ins: BTreeSet<String> = ["a", "b", "c", "d", "e"]
            .map(|text| standin(&[text, " lantern"])[2..].to_owned())
            .into();
        assert!(stand_ins.len() > 3, "{stand_ins:?}");
    }

    #[test]
    fn no_word_stands_for_itself() {
        for text in ["moon", "Lantern", "mushroom", "candle", "acorn"] {
            for number in 0..400 {
                let text = format!("{number} {text}");
                let shaped = standin(&[&text]);
                let at = shaped.find(' ').unwrap();
                assert!(!shaped[at..].eq_ignore_ascii_case(&text[at..]), "{text}");
            }
        }
    }

    proptest! {
        #[test]
        fn cuts_change_nothing_and_lengths_stay(
            text in "[a-zA-Z0-9 ,.\u{e9}\u{416}\u{4e2d}\u{1f600}]{0,60}",
            cut in any::<prop::sample::Index>(),
        ) {
            let chars: Vec<char> = text.chars().collect();
            let cut = cut.index(chars.len() + 1);
            let (front, back): (String, String) = (chars[..cut].iter().collect(), chars[cut..].iter().collect());
            let shaped = standin(&[&front, &back]);
            prop_assert_eq!(&shaped, &standin(&[&text]));
            prop_assert_eq!(shaped.len(), text.len());
            let lens = |text: &str| text.chars().map(char::len_utf8).collect::<Vec<_>>();
            prop_assert_eq!(lens(&shaped), lens(&text));
        }

        #[test]
        fn any_character_has_a_stand_in_of_its_length(char in any::<char>()) {
            let text = char.to_string();
            prop_assert_eq!(standin(&[&text]).len(), text.len());
        }
    }
}
