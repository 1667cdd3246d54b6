//! Images and other files in base64: stand-ins of the same length, images of the same size in pixels.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::privacy::draw::Draw;
use crate::privacy::image;
use crate::privacy::text::Work;
use crate::privacy::units::Unit;

/// A string that may be base64, bare or in a data URI.
#[derive(Debug)]
pub(super) struct Media {
    state: State,
    /// Where the string begins, and where the characters read end.
    from: u64,
    until: u64,
    begun: bool,
    /// What stands before the data.
    front: String,
    /// Where the data begins.
    data: u64,
    /// It has escapes.
    is_odd: bool,
    /// It is longer than is looked at as a whole.
    is_long: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before the comma of a data URI.
    Front,
    Data,
}

/// Longest that is looked at as a whole.
const MAX_MEDIA: u64 = 32 << 20;
/// Longest front of a data URI.
const MAX_FRONT: usize = 256;

// === impl Media ===

impl Media {
    /// Makes one for a string that is base64 if it can be.
    pub(super) fn bare() -> Self {
        Self {
            state: State::Data,
            from: 0,
            until: 0,
            begun: false,
            front: String::new(),
            data: 0,
            is_odd: false,
            is_long: false,
        }
    }

    /// Makes one for a string that is base64 if it begins as a data URI.
    pub(super) fn in_data_uri() -> Self {
        Self { state: State::Front, ..Self::bare() }
    }

    /// Takes a character; false when the string is none of these. Then all of it is as it came.
    pub(super) fn unit(&mut self, work: &mut Work<'_>, at: u64, unit: Unit) -> bool {
        if !self.begun {
            (self.begun, self.from, self.data) = (true, at, at);
        }
        self.until = at + u64::from(unit.len);
        self.is_long |= self.state == State::Data && self.until - self.from > MAX_MEDIA;
        if self.is_long {
            self.scramble(work);
            self.data = self.until;
            return true;
        }
        let Some(char) = unit.char else { return false };
        match self.state {
            State::Front => {
                self.front.push(char);
                if char == ',' {
                    self.state = State::Data;
                    self.data = self.until;
                    return self.front.ends_with(";base64,");
                }
                let known = self.front.len().min(SCHEME.len());
                self.front.len() <= MAX_FRONT
                    && self.front.as_bytes()[..known]
                        .eq_ignore_ascii_case(&SCHEME.as_bytes()[..known])
            }
            // A bare string may turn out to be a data URI.
            State::Data if char == ':' && self.front.is_empty() && self.is_scheme(work) => {
                self.state = State::Front;
                SCHEME.clone_into(&mut self.front);
                true
            }
            State::Data => {
                self.is_odd |= unit.len != 1;
                char.is_ascii_alphanumeric() || matches!(char, '+' | '/' | '=' | '-' | '_')
            }
        }
    }

    /// Replaces the data; false when there is none. Then all of it is as it came.
    pub(super) fn finish(&self, work: &mut Work<'_>) -> bool {
        if self.state == State::Front || !self.begun {
            return !self.begun;
        }
        if self.is_long {
            return true;
        }
        let text = work.held.raw(self.data, self.until);
        let decoded = if self.is_odd { None } else { STANDARD.decode(text).ok() };
        let Some(decoded) = decoded else {
            self.scramble(work);
            return true;
        };
        let standin = STANDARD.encode(standin(&decoded, &work.keys.hash));
        work.held.put(self.data, standin.as_bytes());
        true
    }

    /// Returns where it begins and ends.
    pub(super) fn span(&self) -> (u64, u64) {
        (self.from, self.until)
    }

    /// Returns where what is not decided begins.
    pub(super) fn undecided(&self) -> Option<u64> {
        (self.begun && !self.is_long).then_some(self.from)
    }

    fn is_scheme(&self, work: &Work<'_>) -> bool {
        work.held.raw(self.from, self.until).eq_ignore_ascii_case(SCHEME.as_bytes())
    }

    fn scramble(&self, work: &mut Work<'_>) {
        let text = work.held.raw(self.data, self.until);
        let mut plain = vec![0; text.len()];
        Draw::new(&work.keys.hash, &[text]).fill_plain(&mut plain);
        work.held.put(self.data, &plain);
    }
}

const SCHEME: &str = "data:";

/// Returns what stands for a file: of the same length, equal for equal files.
fn standin(original: &[u8], key: &[u8; 32]) -> Vec<u8> {
    let mut draw = Draw::new(key, &[original]);
    let mut digest = [0; 32];
    draw.fill(&mut digest);
    image::standin(original, &digest).unwrap_or_else(|| {
        let mut bytes = vec![0; original.len()];
        draw.fill(&mut bytes);
        bytes
    })
}
