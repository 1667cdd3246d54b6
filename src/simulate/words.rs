//! English-like text, token by token: sentences of a small grammar.

use std::borrow::Cow;

use super::chance::Chance;

/// Tells a text that never ends, one token at a time. A token is a word with the space before it, a part of a long word,
/// or a punctuation mark: about four characters in the mean, as with real tokenizers.
#[derive(Debug)]
pub(super) struct Teller {
    chance: Chance,
    /// Tokens of the sentence at hand, the next one last.
    ahead: Vec<Cow<'static, str>>,
    begun: bool,
}

// === impl Teller ===

impl Teller {
    pub(super) fn new(chance: Chance) -> Self {
        Self { chance, ahead: Vec::new(), begun: false }
    }

    /// Returns the next token.
    pub(super) fn token(&mut self) -> Cow<'static, str> {
        loop {
            if let Some(token) = self.ahead.pop() {
                return token;
            }
            self.sentence();
            self.ahead.reverse();
        }
    }

    fn sentence(&mut self) {
        let opening =
            if self.chance.one_in(1, 4) { Some(*self.chance.pick(OPENINGS)) } else { None };
        if let Some(opening) = opening {
            self.word(opening);
            self.mark(",");
        }
        self.noun_phrase();
        self.clause();
        if self.chance.one_in(1, 3) {
            if self.chance.one_in(1, 2) {
                self.mark(",");
            }
            let joint = *self.chance.pick(JOINTS);
            self.word(joint);
            self.noun_phrase();
            self.clause();
        }
        let end = if self.chance.one_in(1, 12) { "?" } else { "." };
        self.mark(end);
        if self.chance.one_in(1, 6) {
            self.mark("\n\n");
            self.begun = false;
        }
    }

    fn noun_phrase(&mut self) {
        let determiner = *self.chance.pick(DETERMINERS);
        self.word(determiner);
        if self.chance.one_in(1, 2) {
            let adjective = *self.chance.pick(ADJECTIVES);
            self.word(adjective);
        }
        let noun = *self.chance.pick(NOUNS);
        self.word(noun);
    }

    fn clause(&mut self) {
        if self.chance.one_in(1, 5) {
            let adverb = *self.chance.pick(ADVERBS);
            self.word(adverb);
        }
        let verb = *self.chance.pick(VERBS);
        self.word(verb);
        self.noun_phrase();
        if self.chance.one_in(1, 2) {
            let preposition = *self.chance.pick(PREPOSITIONS);
            self.word(preposition);
            self.noun_phrase();
        }
    }

    /// Appends a word: with a capital at the start of a sentence, with a space but at the start of a paragraph, in two
    /// tokens if it is long.
    fn word(&mut self, word: &'static str) {
        let starts_sentence = self.ahead.is_empty();
        let (head, tail) =
            if word.len() > LONGEST_TOKEN { word.split_at(word.len() / 2) } else { (word, "") };
        let mut token = String::with_capacity(head.len() + 1);
        if self.begun {
            token.push(' ');
        }
        self.begun = true;
        let mut letters = head.chars();
        match letters.next() {
            Some(first) if starts_sentence => token.extend(first.to_uppercase()),
            Some(first) => token.push(first),
            None => {}
        }
        token.push_str(letters.as_str());
        self.ahead.push(Cow::Owned(token));
        if !tail.is_empty() {
            self.ahead.push(Cow::Borrowed(tail));
        }
    }

    fn mark(&mut self, mark: &'static str) {
        self.ahead.push(Cow::Borrowed(mark));
    }
}

/// Longest word, in letters, that is one token.
const LONGEST_TOKEN: usize = 8;

const OPENINGS: &[&str] = &[
    "however",
    "today",
    "sometimes",
    "in practice",
    "as a rule",
    "of course",
    "at first",
    "later",
    "for example",
    "in short",
    "meanwhile",
    "after all",
];
const JOINTS: &[&str] =
    &["and", "but", "because", "while", "so that", "although", "whenever", "unless"];
const DETERMINERS: &[&str] =
    &["the", "a", "every", "this", "that", "another", "no", "one", "our", "their", "some", "each"];
const ADJECTIVES: &[&str] = &[
    "small",
    "quiet",
    "careful",
    "bright",
    "slow",
    "early",
    "useful",
    "distant",
    "simple",
    "honest",
    "wooden",
    "green",
    "sudden",
    "familiar",
    "narrow",
    "gentle",
    "heavy",
    "patient",
    "hidden",
    "warm",
    "plain",
    "remarkable",
    "broken",
    "steady",
    "curious",
    "golden",
    "empty",
    "modern",
    "ordinary",
    "strange",
];
const NOUNS: &[&str] = &[
    "river",
    "teacher",
    "machine",
    "garden",
    "letter",
    "question",
    "village",
    "engine",
    "bridge",
    "winter",
    "answer",
    "story",
    "window",
    "traveler",
    "mountain",
    "number",
    "harbor",
    "library",
    "morning",
    "pattern",
    "road",
    "signal",
    "lantern",
    "forest",
    "measurement",
    "reader",
    "clock",
    "market",
    "neighbor",
    "experiment",
    "island",
    "picture",
    "sentence",
    "station",
    "cat",
    "kitchen",
    "map",
    "song",
    "theory",
    "train",
    "weather",
    "workshop",
];
const VERBS: &[&str] = &[
    "finds",
    "follows",
    "carries",
    "remembers",
    "changes",
    "reaches",
    "builds",
    "describes",
    "opens",
    "crosses",
    "needs",
    "answers",
    "explains",
    "keeps",
    "meets",
    "moves",
    "repairs",
    "watches",
    "surprises",
    "teaches",
    "understands",
    "becomes",
    "measures",
    "supports",
    "hides",
    "counts",
];
const ADVERBS: &[&str] = &[
    "often", "never", "slowly", "always", "nearly", "quietly", "rarely", "already", "gladly",
    "still",
];
const PREPOSITIONS: &[&str] = &[
    "near", "behind", "without", "under", "across", "before", "beyond", "with", "from", "toward",
    "inside", "around",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn tell(seed: u64, tokens: usize) -> Vec<String> {
        let mut teller = Teller::new(Chance::new(seed, "text", b""));
        (0..tokens).map(|_| teller.token().into_owned()).collect()
    }

    #[test]
    fn the_text_reads_like_english() {
        let tokens = tell(7, 2_000);
        let text = tokens.concat();
        assert!(text.starts_with(char::is_uppercase), "{text}");
        assert!(!text.contains("  ") && !text.contains(" .") && !text.contains(" ,"), "{text}");
        for sentence in
            text.split(['.', '?']).map(str::trim).filter(|sentence| !sentence.is_empty())
        {
            assert!(sentence.starts_with(char::is_uppercase), "{sentence}");
        }
        let per_token = text.len() as f64 / tokens.len() as f64;
        assert!((3.5..6.0).contains(&per_token), "{per_token} characters a token");
        assert!(tokens.iter().all(|token| !token.is_empty()));
    }

    #[test]
    fn the_same_seed_tells_the_same() {
        assert_eq!(tell(3, 300), tell(3, 300));
        assert_ne!(tell(3, 300), tell(4, 300));
    }
}
