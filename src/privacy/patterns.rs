//! Regular expressions over a text that comes in pieces.
//!
//! What may be the beginning of a match is not decided before more has come, within [`Patterns::look_behind`] bytes. A longer
//! match is found as long as it goes on to match: it is replaced up to the end that it has by then, and further as it grows.

use std::ops::Range;

use regex_automata::hybrid::BuildError;
use regex_automata::hybrid::dfa::{self, DFA};
use regex_automata::hybrid::regex::{Cache, Regex};
use regex_automata::meta;
use regex_automata::nfa::thompson::{self, NFA, State};
use regex_automata::util::prefilter::Prefilter;
use regex_automata::util::start;
use regex_automata::util::syntax::{self, parse_many_with};
use regex_automata::{Anchored, Input, MatchKind, Span};

use crate::privacy::policy::PolicyError;

/// The expressions of a policy.
pub(super) struct Patterns {
    regex: Regex,
    cache: Cache,
    /// The same, but it does not end with the first match: it knows whether any has begun.
    begun: DFA,
    begun_cache: dfa::Cache,
    haste: Haste,
    look_behind: usize,
}

/// What tells of most texts that there is nothing in them, without a look at each byte.
struct Haste {
    /// The expressions, each by itself, since what is quick about one is lost among others.
    each: Vec<meta::Regex>,
    /// Finds what each match begins with; none when that may be too much.
    prefixes: Option<Prefilter>,
    /// Which bytes are in no match: nothing that has begun goes on beyond one.
    is_foreign: [bool; 256],
}

/// What is known of a text without having looked for the matches in it.
#[derive(Clone, Copy, Debug)]
struct Survey {
    /// Before it nothing is the beginning of a match that has not ended.
    quiet: usize,
    may_match: bool,
}

/// Looks for matches in one text.
#[derive(Debug, Default)]
pub(super) struct Scanner {
    /// What may still be a part of a match, after at most one byte that it follows.
    context: Vec<u8>,
    lead: usize,
    /// Offset in the text at which the context ends.
    end: u64,
    /// Offset before which all is decided.
    decided: u64,
    /// A match grew beyond every measure: all that follows is a part of it.
    floods: bool,
}

/// A match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// Where in the text.
    pub(super) range: Range<u64>,
    /// Hash of what matched.
    pub(super) seed: [u8; 32],
}

/// Whether more of a text will come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum More {
    Yes,
    No,
}

/// Longest match that is followed whole.
const MAX_MATCH: usize = 64 << 10;
/// Bytes of the expressions, compiled.
const NFA_LIMIT: usize = 8 << 20;

/// Checks and compiles expressions, for texts of bytes.
fn compile(patterns: &[String]) -> Result<(Regex, DFA), PolicyError> {
    for pattern in patterns {
        build(std::slice::from_ref(pattern)).map_err(|error| PolicyError::Pattern {
            pattern: pattern.clone(),
            why: reason(&error),
        })?;
    }
    build(patterns).map_err(|error| PolicyError::Pattern {
        pattern: patterns.join(" | "),
        why: reason(&error),
    })
}

fn syntax_config() -> syntax::Config {
    syntax::Config::new().utf8(false)
}

fn build(patterns: &[String]) -> Result<(Regex, DFA), Box<BuildError>> {
    let syntax = syntax_config();
    let nfa = thompson::Config::new().utf8(false).nfa_size_limit(Some(NFA_LIMIT));
    let dfa = DFA::config().cache_capacity(4 << 20).skip_cache_capacity_check(true);
    let regex = Regex::builder()
        .syntax(syntax)
        .thompson(nfa.clone())
        .dfa(dfa.clone())
        .build_many(patterns)?;
    let begun = DFA::builder()
        .syntax(syntax)
        .thompson(nfa)
        .configure(dfa.match_kind(MatchKind::All))
        .build_many(patterns)?;
    Ok((regex, begun))
}

/// Returns the innermost cause, which names the place in the expression.
fn reason(error: &BuildError) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    let text = cause.to_string();
    if text.contains("word bound") || text.contains("look-around") {
        return format!("{text}: write (?-u:\\b) for \\b");
    }
    text
}

// === impl Patterns ===

impl Patterns {
    /// Compiles `patterns`; none when there are none.
    ///
    /// # Errors
    /// One is no regular expression, or needs what can't be had on a text that comes in pieces.
    pub(super) fn new(
        patterns: &[String],
        look_behind: usize,
    ) -> Result<Option<Self>, PolicyError> {
        if patterns.is_empty() {
            return Ok(None);
        }
        let (regex, begun) = compile(patterns)?;
        let (cache, begun_cache) = (regex.create_cache(), begun.create_cache());
        let haste = Haste::new(patterns, begun.get_nfa()).map_err(|why| PolicyError::Pattern {
            pattern: patterns.join(" | "),
            why: why.to_string(),
        })?;
        Ok(Some(Self { regex, cache, begun, begun_cache, haste, look_behind }))
    }

    /// Looks over `text` from `lead` on, not further back for a beginning than is asked for.
    fn survey(&mut self, text: &[u8], lead: usize) -> Survey {
        let from = text.len().saturating_sub(self.look_behind).max(lead);
        let Survey { quiet, may_match } = self.haste.survey(text, lead, from);
        Survey { quiet: self.quiet(text, quiet), may_match }
    }

    /// Returns the offset in `text` before which nothing is the beginning of a match that has not ended; none is before `from`.
    fn quiet(&mut self, text: &[u8], from: usize) -> usize {
        let (dfa, cache) = (&self.begun, &mut self.begun_cache);
        let start_after = |cache: &mut _, at: usize| {
            let before = at.checked_sub(1).map(|before| text[before]);
            let config = start::Config::new().look_behind(before).anchored(Anchored::No);
            dfa.start_state(cache, &config).ok()
        };
        if from == text.len() {
            return from;
        }
        let Some(mut state) = start_after(cache, from) else { return from };
        // Unless what stands before a match matters, all starts are one; but a cache that is emptied names them anew.
        let is_one_start = dfa.get_nfa().look_set_prefix_any().is_empty();
        let (mut start, mut clears) = (Some(state), cache.clear_count());
        let mut quiet = from;
        for at in from..text.len() {
            let Ok(next) = dfa.next_state(cache, state, text[at]) else { return quiet };
            state = next;
            if state.is_dead() {
                return text.len();
            }
            if !is_one_start || cache.clear_count() != clears {
                start = start_after(cache, at + 1);
                clears = cache.clear_count();
            }
            if start == Some(state) {
                quiet = at + 1;
            }
        }
        quiet
    }
}

// === impl Haste ===

impl Haste {
    fn new(patterns: &[String], nfa: &NFA) -> Result<Self, Box<meta::BuildError>> {
        let config = meta::Config::new().utf8_empty(false).nfa_size_limit(Some(NFA_LIMIT));
        let build = |pattern: &String| {
            let mut builder = meta::Builder::new();
            builder
                .configure(config.clone())
                .syntax(syntax_config())
                .build(pattern)
                .map_err(Box::new)
        };
        let each = patterns.iter().map(build).collect::<Result<_, _>>()?;
        let prefixes = parse_many_with(patterns, &syntax_config())
            .ok()
            .and_then(|parsed| Prefilter::from_hirs_prefix(MatchKind::LeftmostFirst, &parsed));
        Ok(Self { each, prefixes, is_foreign: foreign(nfa) })
    }

    /// Says of `text` from `lead` on whether anything may match, and how far it is certain that nothing is the beginning of
    /// a match that has not ended; no such is before `from`.
    fn survey(&self, text: &[u8], lead: usize, from: usize) -> Survey {
        let last_foreign =
            text[from..].iter().rposition(|byte| self.is_foreign[usize::from(*byte)]);
        let quiet = last_foreign.map_or(from, |last| from + last + 1);
        let span = Span::from(lead..text.len());
        if let Some(prefixes) = &self.prefixes
            && prefixes.find(text, span).is_none()
        {
            // Nothing begins here but what begins with the front of such a prefix, cut by the end.
            let cut = text.len().saturating_sub(prefixes.max_needle_len().saturating_sub(1));
            return Survey { quiet: quiet.max(cut), may_match: false };
        }
        let input = Input::new(text).span(span);
        Survey { quiet, may_match: self.each.iter().any(|regex| regex.is_match(input.clone())) }
    }
}

/// Returns which bytes no match can have.
fn foreign(nfa: &NFA) -> [bool; 256] {
    let mut is_foreign = [true; 256];
    let mut known = vec![false; nfa.states().len()];
    let mut next = vec![nfa.start_anchored()];
    while let Some(id) = next.pop() {
        if std::mem::replace(&mut known[id.as_usize()], true) {
            continue;
        }
        let mut goes = |from: u8, until: u8, to| {
            is_foreign[usize::from(from)..=usize::from(until)].fill(false);
            next.push(to);
        };
        match nfa.state(id) {
            State::ByteRange { trans } => goes(trans.start, trans.end, trans.next),
            State::Sparse(many) => {
                many.transitions.iter().for_each(|trans| goes(trans.start, trans.end, trans.next));
            }
            State::Dense(_) => return [false; 256],
            State::Look { next: to, .. } | State::Capture { next: to, .. } => next.push(*to),
            State::Union { alternates } => next.extend(alternates.iter().copied()),
            State::BinaryUnion { alt1, alt2 } => next.extend([*alt1, *alt2]),
            State::Fail | State::Match { .. } => {}
        }
    }
    is_foreign
}

// === impl Scanner ===

impl Scanner {
    /// Takes the next bytes of the text; appends the matches in it. One that grows is found again, longer.
    pub(super) fn push(
        &mut self,
        patterns: &mut Patterns,
        bytes: &[u8],
        more: More,
        found: &mut Vec<Found>,
    ) {
        self.context.extend_from_slice(bytes);
        self.end += bytes.len() as u64;
        let len = self.context.len();
        if self.floods {
            let range = self.end - bytes.len() as u64..self.end;
            found.push(Found { range, seed: [0; 32] });
            self.keep(len, len);
            return;
        }
        let Survey { quiet, may_match } = patterns.survey(&self.context, self.lead);
        let growing = if may_match { self.find(patterns, more, found) } else { len };
        if more == More::No {
            self.keep(len, len);
            return;
        }
        let keep = quiet.min(growing);
        self.floods = len - keep > MAX_MATCH;
        self.keep(keep, quiet);
    }

    /// Appends the matches in what may still be a part of one; returns where the one begins that may grow.
    fn find(&self, patterns: &mut Patterns, more: More, found: &mut Vec<Found>) -> usize {
        let len = self.context.len();
        let base = self.end - len as u64;
        let settled = len.saturating_sub(patterns.look_behind);
        let mut growing = len;
        let input = Input::new(&self.context).range(self.lead..);
        for one in patterns.regex.find_iter(&mut patterns.cache, input) {
            if one.end() == len {
                growing = growing.min(one.start());
            }
            let is_final = one.end() < len || one.start() < settled || more == More::No;
            if is_final && !one.is_empty() {
                let seed = *blake3::hash(&self.context[one.range()]).as_bytes();
                let range = base + one.start() as u64..base + one.end() as u64;
                found.push(Found { range, seed });
            }
        }
        growing
    }

    /// Returns the offset in the text before which all is decided.
    pub(super) fn decided(&self) -> u64 {
        self.decided
    }

    /// Forgets the context before `from`, but for the byte before it; all before `decided` is decided.
    fn keep(&mut self, from: usize, decided: usize) {
        self.decided = self.end - (self.context.len() - decided) as u64;
        let lead_at = from.saturating_sub(1);
        self.lead = from - lead_at;
        self.context.drain(..lead_at);
    }
}

impl std::fmt::Debug for Patterns {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Patterns").field("count", &self.regex.pattern_len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn patterns(list: &[&str]) -> Patterns {
        let list: Vec<String> = list.iter().map(|pattern| (*pattern).to_owned()).collect();
        Patterns::new(&list, 64).unwrap().unwrap()
    }

    /// Returns the text, in pieces, with `#` for what is found.
    fn masked(patterns: &mut Patterns, pieces: &[&[u8]]) -> Vec<u8> {
        let mut text = pieces.concat();
        let (mut scanner, mut found) = (Scanner::default(), Vec::new());
        for piece in pieces {
            let decided = scanner.decided();
            scanner.push(patterns, piece, More::Yes, &mut found);
            for one in found.drain(..) {
                assert!(one.range.end <= scanner.end);
                assert!(
                    one.range.start >= decided
                        || text[usize::try_from(decided).unwrap() - 1] == b'#',
                    "it starts in what was decided: {one:?}, {decided}"
                );
                text[to_range(&one)].fill(b'#');
            }
        }
        scanner.push(patterns, b"", More::No, &mut found);
        for one in &found {
            text[to_range(one)].fill(b'#');
        }
        text
    }

    fn to_range(found: &Found) -> Range<usize> {
        usize::try_from(found.range.start).unwrap()..usize::try_from(found.range.end).unwrap()
    }

    #[track_caller]
    fn check(list: &[&str], text: &str, expected: &str) {
        let mut patterns = patterns(list);
        let bytes: Vec<&[u8]> = text.as_bytes().chunks(1).collect();
        for pieces in [vec![text.as_bytes()], bytes] {
            let masked = String::from_utf8(masked(&mut patterns, &pieces)).unwrap();
            assert_eq!(masked, expected);
        }
    }

    #[test]
    fn matches_are_found_however_the_text_is_cut() {
        check(&["sk-[a-z0-9]{4,}"], "key sk-abc123 and sk-1", "key ######### and sk-1");
        check(&[r"[\w.+-]+@[\w-]+\.\w+"], "to jo.doe@ex.org, now", "to #############, now");
        check(&["aaa", "bb"], "aaaabb", "###a##");
        check(&[r"(?-u:\b)\d{4}(?-u:\b)"], "1234 12345 1234", "#### 12345 ####");
        check(&["^ab"], "abab", "##ab");
        check(&["(?i)secret=[^&]*"], "a=1&SECRET=x y&b", "a=1&##########&b");
        check(&["x*"], "aa", "aa");
    }

    #[test]
    fn a_match_longer_than_is_looked_back_is_followed() {
        let long = "a".repeat(500);
        check(&["sk-a+"], &format!("x sk-{long} y"), &format!("x {} y", "#".repeat(503)));
        let huge = "a".repeat(MAX_MATCH + 5000);
        let text = format!("sk-{huge} y");
        let mut patterns = patterns(&["sk-a+"]);
        let pieces: Vec<&[u8]> = text.as_bytes().chunks(3000).collect();
        let masked = masked(&mut patterns, &pieces);
        assert!(!masked.contains(&b'a'));
    }

    #[test]
    fn what_begins_no_match_is_decided_at_once() {
        let mut patterns = patterns(&["sk-[a-z]{8}"]);
        let mut scanner = Scanner::default();
        for (text, decided) in [("hello ", 6), ("wors", 9), ("k", 9), ("-ab", 9), ("!", 15)] {
            scanner.push(&mut patterns, text.as_bytes(), More::Yes, &mut Vec::new());
            assert_eq!(scanner.decided(), decided, "{text}");
        }
    }

    #[test]
    fn what_is_no_expression_is_named() {
        for (pattern, said) in [("(", "unclosed"), (r"\bx", "(?-u:")] {
            let error = Patterns::new(&[pattern.to_owned()], 64).unwrap_err();
            assert!(error.to_string().contains(said), "{error}");
        }
    }

    proptest! {
        #[test]
        fn a_survey_overlooks_nothing(
            text in "(sk-|[a-cé01@. \"\n-]){0,24}",
            more in "[a-c01@. \"\n-]{0,12}",
            lead in 0..2_usize,
        ) {
            let lists: [&[&str]; 6] = [
                &["sk-[a-c]{2,}", "b-1"],
                &["[a-cé.]+@[a-c.]+"],
                &[r#"a"[^"]*""#],
                &[r"(?-u:\b)\d{2}(?-u:\b)", "^a"],
                &["(?i)SK-.", "é+"],
                &["x*", "1.*0$"],
            ];
            let whole = format!("{text}{more}");
            for list in lists {
                let mut patterns = patterns(list);
                let lead = lead.min(text.len());
                let Survey { quiet, may_match } = patterns.survey(text.as_bytes(), lead);
                let Patterns { regex, cache, .. } = &mut patterns;
                let input = |text| Input::new(text).range(lead..);
                let is_match = regex.find_iter(cache, input(&text)).any(|one| !one.is_empty());
                prop_assert!(may_match || !is_match, "{:?}", list);
                for one in regex.find_iter(cache, input(&whole)) {
                    let goes_on = one.start() < text.len() && one.end() > text.len();
                    prop_assert!(!goes_on || one.start() >= quiet, "{:?}: {:?}, {}", list, one, quiet);
                }
            }
        }

        #[test]
        fn what_is_found_in_the_whole_is_found_in_any_cut(
            text in "[ab1@. -]{0,80}",
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        ) {
            let mut patterns = patterns(&["a-[b1]{2,}", r"[ab]+@[ab]+\.[ab]+", "1{3}"]);
            let bytes = text.as_bytes();
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]]).collect();
            let (whole, cut) = (masked(&mut patterns, &[bytes]), masked(&mut patterns, &pieces));
            for (whole, cut) in whole.iter().zip(&cut) {
                prop_assert!(*whole != b'#' || *cut == b'#', "{:?}", pieces);
            }
        }
    }
}
