//! The characters of a text as its bytes have them: one byte, several, or an escape.

/// A character and how many bytes it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unit {
    /// The character; none for bytes that are no text.
    pub(super) char: Option<char>,
    /// Bytes: 1 to 4, or those of an escape, up to 12.
    pub(super) len: u8,
}

/// Bytes of the longest, a pair of escapes.
pub(super) const MAX_UNIT: usize = 12;

/// Reads characters from bytes, one at a time.
#[derive(Clone, Debug, Default)]
pub(super) struct UnitReader {
    bytes: [u8; MAX_UNIT],
    len: u8,
}

/// Whether a backslash means something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Escapes {
    /// As in a JSON string.
    Json,
    /// It does not.
    None,
}

/// What a byte amounts to.
enum Step {
    Goes,
    Is(Option<char>),
    /// What was read before is one character, and the byte begins another.
    EndsBefore,
}

/// Returns how many bytes at the front of `bytes` are characters by themselves, in JSON too.
pub(super) fn plain_len(bytes: &[u8]) -> usize {
    const STEP: usize = 16;
    let is_plain = |byte: &u8| matches!(byte, b' '..=b'~') & !matches!(byte, b'"' | b'\\');
    // Without a way out in the midst of a step, which is many at once to the machine.
    let all_plain = |step: &&[u8]| step.iter().fold(true, |all, byte| all & is_plain(byte));
    let whole = STEP * bytes.chunks_exact(STEP).take_while(all_plain).count();
    whole + bytes[whole..].iter().take_while(|byte| is_plain(byte)).count()
}

// === impl UnitReader ===

impl UnitReader {
    /// Returns how many bytes were read of a character that is not whole.
    pub(super) fn pending(&self) -> u8 {
        self.len
    }

    /// Returns whether an escape has begun that the next byte belongs to, whatever it is.
    pub(super) fn awaits_escaped(&self) -> bool {
        let bytes = &self.bytes[..usize::from(self.len)];
        bytes.first() == Some(&b'\\') && !matches!(bytes.len(), 0 | 6)
    }

    /// Takes a byte and calls `unit` for each character that ends in it, or before it. Returns false when the byte can't
    /// stand in a JSON string.
    pub(super) fn push(&mut self, escapes: Escapes, byte: u8, mut unit: impl FnMut(Unit)) -> bool {
        // Most are these, and it is worth a look.
        if self.len == 0
            && matches!(byte, b' '..=b'~')
            && (byte != b'\\' || escapes == Escapes::None)
        {
            unit(Unit { char: Some(char::from(byte)), len: 1 });
            return true;
        }
        loop {
            self.bytes[usize::from(self.len)] = byte;
            let step = match (escapes, self.bytes[0]) {
                (Escapes::Json, b'\\') => match self.escape() {
                    Some(step) => step,
                    None => return false,
                },
                (Escapes::Json, 0..0x20) => return false,
                _ => self.utf8(),
            };
            match step {
                Step::Goes => {
                    self.len += 1;
                    return true;
                }
                Step::Is(char) => {
                    unit(Unit { char, len: self.len + 1 });
                    self.len = 0;
                    return true;
                }
                Step::EndsBefore => self.end_before(&mut unit),
            }
        }
    }

    /// Ends the text: what was begun is no character.
    pub(super) fn finish(&mut self, mut unit: impl FnMut(Unit)) {
        if self.len > 0 {
            unit(Unit { char: None, len: self.len });
        }
        self.len = 0;
    }

    /// Ends what can't go on: of half of a pair and the escape begun after it, the half.
    fn end_before(&mut self, unit: &mut impl FnMut(Unit)) {
        let len = if self.bytes[0] == b'\\' { self.len.min(6) } else { self.len };
        unit(Unit { char: None, len });
        self.bytes.copy_within(usize::from(len)..usize::from(self.len), 0);
        self.len -= len;
    }

    fn utf8(&self) -> Step {
        let bytes = &self.bytes[..=usize::from(self.len)];
        match std::str::from_utf8(bytes) {
            Ok(text) => Step::Is(text.chars().next()),
            Err(error) if error.error_len().is_none() => Step::Goes,
            Err(_) if bytes.len() > 1 => Step::EndsBefore,
            Err(_) => Step::Is(None),
        }
    }

    /// Reads an escape; none when it is not one.
    fn escape(&self) -> Option<Step> {
        let bytes = &self.bytes[..=usize::from(self.len)];
        let hex = |digits: &[u8]| {
            str::from_utf8(digits).ok().and_then(|digits| u16::from_str_radix(digits, 16).ok())
        };
        Some(match bytes {
            [_] | [_, b'u'] => Step::Goes,
            [_, simple] => Step::Is(Some(match simple {
                b'"' | b'\\' | b'/' => char::from(*simple),
                b'b' => '\u{8}',
                b'f' => '\u{c}',
                b'n' => '\n',
                b'r' => '\r',
                b't' => '\t',
                _ => return None,
            })),
            [_, _, digits @ ..] if digits.len() <= 4 => {
                if !digits.iter().all(u8::is_ascii_hexdigit) {
                    return None;
                }
                match (digits.len(), hex(digits)) {
                    (4, Some(0xD800..=0xDBFF)) => Step::Goes,
                    (4, Some(code)) => Step::Is(char::from_u32(u32::from(code))),
                    _ => Step::Goes,
                }
            }
            // After half of a pair.
            [_, _, _, _, _, _, rest @ ..] => match rest {
                [b'\\'] | [b'\\', b'u'] => Step::Goes,
                [b'\\', b'u', digits @ ..] if digits.iter().all(u8::is_ascii_hexdigit) => {
                    if digits.len() < 4 {
                        Step::Goes
                    } else {
                        let pair = [hex(&bytes[2..6])?, hex(digits)?];
                        Step::Is(char::decode_utf16(pair).next().and_then(Result::ok))
                    }
                }
                _ => Step::EndsBefore,
            },
            _ => return None,
        })
    }
}

/// Writes `char` over `raw`, the bytes of another character, in the form that these have; false when it does not fit.
pub(super) fn put_char(raw: &mut [u8], char: char) -> bool {
    if raw.first() == Some(&b'\\') && raw.len() >= 6 {
        let mut units = [0; 2];
        let units = char.encode_utf16(&mut units);
        if units.len() * 6 != raw.len() {
            return false;
        }
        for (unit, raw) in units.iter().zip(raw.chunks_exact_mut(6)) {
            // As the digits of the original are written, more or less.
            let upper = raw[2..].iter().any(u8::is_ascii_uppercase);
            let digits = if upper { format!("{unit:04X}") } else { format!("{unit:04x}") };
            raw[2..].copy_from_slice(digits.as_bytes());
        }
        return true;
    }
    let mut bytes = [0; 4];
    let bytes = char.encode_utf8(&mut bytes).as_bytes();
    if bytes.len() != raw.len() {
        return false;
    }
    raw.copy_from_slice(bytes);
    true
}
