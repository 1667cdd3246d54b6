//! Who may read an encrypted segment: recipients, identities, and the envelope that carries the data key between them.
//!
//! An envelope is a small age file in a frame of its own, in the clear. A writer knows recipients only, so what it has
//! written it can't read. The envelope stands before each block that begins a zstd frame: damage to one costs nothing.

use std::fmt;
use std::io::{self, Read, Seek, SeekFrom, Write as _};
use std::str::FromStr;
use std::sync::Arc;

use memchr::memmem;
use zeroize::Zeroizing;

use crate::trace::format::{MAGIC_LEN, MARKER, SEALED, magic};
use crate::trace::seal::{DataKey, KEY_LEN, random_key};
use crate::trace::wire::len_u64;

/// A public key that segments are encrypted to, `age1...`.
#[derive(Clone)]
pub struct Recipient(age::x25519::Recipient);

/// A private key that opens segments encrypted to its recipient, `AGE-SECRET-KEY-1...`.
#[derive(Clone)]
pub struct Identity(age::x25519::Identity);

/// The public keys that the segments of a trace are encrypted to; none: they are not encrypted.
#[derive(Clone, Debug, Default)]
pub struct Recipients(Option<Arc<[Recipient]>>);

/// How a trace is opened.
#[derive(Clone, Debug, Default)]
pub struct ReadOptions {
    /// Private keys to try on encrypted segments.
    pub identities: Vec<Identity>,
}

/// Why a text is no key, or a file no list of keys.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not a recipient. The text is not repeated: it may be a secret.
    #[error("this is no age recipient; one looks like age1..., and `age-keygen -y` prints it")]
    NotARecipient,
    /// A secret where a public key is wanted.
    #[error(
        "this is a secret key: keep it to yourself, and give its recipient, which `age-keygen -y` prints"
    )]
    Secret,
    /// Not an identity.
    #[error(
        "this is no age identity; one looks like AGE-SECRET-KEY-1..., and `age-keygen` makes it"
    )]
    NotAnIdentity,
    /// An SSH key.
    #[error("SSH keys are not supported; `age-keygen` makes a key that is")]
    Ssh,
    /// An error in a list of keys.
    #[error("line {line}: {cause}")]
    Line {
        /// The line, from 1.
        line: usize,
        /// What is wrong in it.
        cause: Box<Self>,
    },
    /// A list without a key.
    #[error("there is no key in it")]
    Empty,
}

/// The front of an envelope, and the age file behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Envelope {
    /// To how many recipients it is encrypted.
    recipients: u32,
    wrapped: Vec<u8>,
}

/// What stands where an envelope may begin.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found<T> {
    /// This.
    Whole(T),
    /// The front of one, so far as there are bytes.
    Cut,
    /// None, or a damaged one.
    Nothing,
}

/// What is needed to read a segment.
#[derive(Debug)]
pub(crate) enum Access {
    /// Nothing: it is not encrypted.
    Plain,
    /// This key.
    Key(Arc<DataKey>),
    /// An identity that is not there.
    Locked {
        /// To how many recipients it is encrypted.
        recipients: u32,
    },
    /// Nothing: it was cut before its first block.
    Empty,
    /// It is encrypted, and no key can be had from what is left of it.
    Lost(&'static str),
}

/// First bytes of every envelope.
pub(crate) const ENVELOPE_MARKER: [u8; 4] = *b"\xB7RNE";
/// Bytes of an envelope's front.
pub(crate) const ENVELOPE_FRONT_LEN: usize = 16;
/// Largest age file in an envelope: room for 150 recipients.
const MAX_WRAPPED: u32 = 16 << 10;
/// Bytes that are searched at once.
const READ: usize = 256 << 10;

/// Reads a list of keys: one a line, empty lines and lines that begin with `#` apart.
///
/// # Errors
/// A line is none, or there is none.
pub fn parse_keys<K: FromStr<Err = KeyError>>(text: &str) -> Result<Vec<K>, KeyError> {
    let mut keys = Vec::new();
    for (line, text) in (1..).zip(text.lines()) {
        let text = text.trim();
        if !text.is_empty() && !text.starts_with('#') {
            let key = text.parse();
            keys.push(key.map_err(|cause| KeyError::Line { line, cause: Box::new(cause) })?);
        }
    }
    if keys.is_empty() { Err(KeyError::Empty) } else { Ok(keys) }
}

/// Returns whether `file` begins like an encrypted segment.
pub(crate) fn is_sealed(file: &mut impl Read) -> io::Result<bool> {
    let mut front = Vec::with_capacity(MAGIC_LEN);
    file.take(len_u64(MAGIC_LEN)).read_to_end(&mut front)?;
    Ok(front == magic(SEALED))
}

/// Returns what is needed to read the segment in `file`.
pub(crate) fn access(file: &mut (impl Read + Seek), identities: &[Identity]) -> io::Result<Access> {
    file.seek(SeekFrom::Start(0))?;
    if !is_sealed(file)? {
        return Ok(Access::Plain);
    }
    let Some(envelope) = search(file)? else {
        file.seek(SeekFrom::Start(len_u64(MAGIC_LEN)))?;
        return Ok(if is_cut_in_envelope(file)? {
            Access::Empty
        } else {
            Access::Lost("it is encrypted, and no envelope with its key can be read")
        });
    };
    let recipients = envelope.recipients;
    Ok(match envelope.unwrap(identities) {
        Ok(Some(key)) => Access::Key(Arc::new(key)),
        Ok(None) => Access::Locked { recipients },
        Err(why) => Access::Lost(why),
    })
}

/// Returns whether the file ends before an envelope from here on would, and no block is in it.
fn is_cut_in_envelope(file: &mut impl Read) -> io::Result<bool> {
    let longest = len_u64(ENVELOPE_FRONT_LEN) + u64::from(MAX_WRAPPED);
    let mut rest = Vec::new();
    file.take(longest).read_to_end(&mut rest)?;
    Ok(len_u64(rest.len()) < longest && memmem::find(&rest, &MARKER).is_none())
}

/// Returns the first undamaged envelope from here on.
fn search(file: &mut impl Read) -> io::Result<Option<Envelope>> {
    let mut buffer = Vec::new();
    let mut at_end = false;
    loop {
        let mut at = 0;
        loop {
            let Some(next) = memmem::find(&buffer[at..], &ENVELOPE_MARKER) else {
                // The last bytes may be the first of a marker.
                at = at.max(buffer.len().saturating_sub(ENVELOPE_MARKER.len() - 1));
                break;
            };
            at += next;
            match Envelope::parse(&buffer[at..]) {
                Found::Whole((envelope, _)) => return Ok(Some(envelope)),
                Found::Cut if !at_end => break,
                Found::Cut | Found::Nothing => at += 1,
            }
        }
        if at_end {
            return Ok(None);
        }
        buffer.drain(..at);
        at_end = file.by_ref().take(len_u64(READ)).read_to_end(&mut buffer)? == 0;
    }
}

// === impl Recipient ===

impl FromStr for Recipient {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        if text.to_ascii_uppercase().starts_with("AGE-SECRET-KEY-") {
            return Err(KeyError::Secret);
        }
        if text.starts_with("ssh-") {
            return Err(KeyError::Ssh);
        }
        text.parse().map(Self).map_err(|_: &str| KeyError::NotARecipient)
    }
}

impl fmt::Debug for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Recipient({})", self.0)
    }
}

// === impl Identity ===

impl FromStr for Identity {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        if text.starts_with("-----BEGIN OPENSSH") || text.starts_with("ssh-") {
            return Err(KeyError::Ssh);
        }
        text.parse().map(Self).map_err(|_: &str| KeyError::NotAnIdentity)
    }
}

impl fmt::Debug for Identity {
    /// Says the recipient: the identity itself is a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", self.0.to_public())
    }
}

// === impl Recipients ===

impl Recipients {
    /// Makes a list of recipients; an empty one says that nothing is encrypted.
    #[must_use]
    pub fn new(recipients: Vec<Recipient>) -> Self {
        Self((!recipients.is_empty()).then(|| recipients.into()))
    }

    /// Returns how many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |recipients| recipients.len())
    }

    /// Returns whether nothing is encrypted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Makes a data key and its envelope, as it stands in the file; none when nothing is encrypted.
    pub(crate) fn wrap_key(&self) -> io::Result<Option<(DataKey, Vec<u8>)>> {
        let Some(recipients) = &self.0 else { return Ok(None) };
        let key = random_key()?;
        let to = recipients.iter().map(|recipient| &recipient.0 as &dyn age::Recipient);
        let encryptor = age::Encryptor::with_recipients(to).map_err(io::Error::other)?;
        let mut wrapped = Vec::new();
        let mut writer = encryptor.wrap_output(&mut wrapped)?;
        writer.write_all(&key[..])?;
        writer.finish()?;
        let envelope =
            Envelope { recipients: u32::try_from(recipients.len()).unwrap_or(u32::MAX), wrapped };
        Ok(Some((DataKey::new(&key), envelope.to_bytes()?)))
    }
}

// === impl Envelope ===

impl Envelope {
    /// Parses what stands at the front of `bytes`, and returns its length in the file too.
    pub(crate) fn parse(bytes: &[u8]) -> Found<(Self, usize)> {
        let marker = bytes.len().min(ENVELOPE_MARKER.len());
        if bytes[..marker] != ENVELOPE_MARKER[..marker] {
            return Found::Nothing;
        }
        let Some(front) = bytes.first_chunk::<ENVELOPE_FRONT_LEN>() else { return Found::Cut };
        let word = |at: usize| {
            u32::from_le_bytes([front[at], front[at + 1], front[at + 2], front[at + 3]])
        };
        let (len, recipients, crc) = (word(4), word(8), word(12));
        if len > MAX_WRAPPED {
            return Found::Nothing;
        }
        let end = ENVELOPE_FRONT_LEN + len as usize;
        let Some(wrapped) = bytes.get(ENVELOPE_FRONT_LEN..end) else { return Found::Cut };
        if checksum(len, recipients, wrapped) != crc {
            return Found::Nothing;
        }
        Found::Whole((Self { recipients, wrapped: wrapped.to_vec() }, end))
    }

    fn to_bytes(&self) -> io::Result<Vec<u8>> {
        let len = u32::try_from(self.wrapped.len()).ok().filter(|len| *len <= MAX_WRAPPED);
        let len = len.ok_or_else(|| {
            io::Error::other(format!(
                "{} recipients are more than an envelope holds",
                self.recipients
            ))
        })?;
        let mut bytes = ENVELOPE_MARKER.to_vec();
        bytes.extend_from_slice(&len.to_le_bytes());
        bytes.extend_from_slice(&self.recipients.to_le_bytes());
        let crc = checksum(len, self.recipients, &self.wrapped);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes.extend_from_slice(&self.wrapped);
        Ok(bytes)
    }

    /// Returns the data key; none when it is encrypted to none of `identities`.
    fn unwrap(&self, identities: &[Identity]) -> Result<Option<DataKey>, &'static str> {
        let damaged = "it is encrypted, and the envelope with its key is no age file of 32 bytes";
        let decryptor = age::Decryptor::new_buffered(&self.wrapped[..]).map_err(|_| damaged)?;
        let keys = identities.iter().map(|identity| &identity.0 as &dyn age::Identity);
        let mut reader = match decryptor.decrypt(keys) {
            Ok(reader) => reader,
            Err(age::DecryptError::NoMatchingKeys) => return Ok(None),
            Err(_) => return Err(damaged),
        };
        let mut key = Zeroizing::new([0; KEY_LEN]);
        reader.read_exact(&mut key[..]).map_err(|_| damaged)?;
        match reader.read(&mut [0]) {
            Ok(0) => Ok(Some(DataKey::new(&key))),
            _ => Err(damaged),
        }
    }
}

fn checksum(len: u32, recipients: u32, wrapped: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&len.to_le_bytes());
    hasher.update(&recipients.to_le_bytes());
    hasher.update(wrapped);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    fn identity() -> Identity {
        Identity(age::x25519::Identity::generate())
    }

    fn recipients(identities: &[&Identity]) -> Recipients {
        Recipients::new(identities.iter().map(|it| Recipient(it.0.to_public())).collect())
    }

    fn file(parts: &[&[u8]]) -> Cursor<Vec<u8>> {
        Cursor::new([&magic(SEALED)[..], &parts.concat()].concat())
    }

    #[test]
    fn each_recipient_opens_the_envelope_and_nobody_else() {
        let [one, two, other] = [identity(), identity(), identity()];
        let (_, envelope) = recipients(&[&one, &two]).wrap_key().unwrap().unwrap();
        let mut file = file(&[&envelope]);
        let mut opens = |identities: &[&Identity]| {
            let identities: Vec<_> = identities.iter().map(|&it| it.clone()).collect();
            match access(&mut file, &identities).unwrap() {
                Access::Key(_) => true,
                Access::Locked { recipients: 2 } => false,
                access => panic!("{access:?}"),
            }
        };
        assert!(opens(&[&one]) && opens(&[&two]) && opens(&[&other, &two]));
        assert!(!opens(&[&other]) && !opens(&[]));
    }

    #[test]
    fn a_damaged_envelope_is_passed_over_for_the_next() {
        let identity = identity();
        let (key, envelope) = recipients(&[&identity]).wrap_key().unwrap().unwrap();
        let sealed = key.seal_offset(99).unwrap();
        for at in (0..envelope.len()).step_by(11) {
            let mut damaged = envelope.clone();
            damaged[at] ^= 1 << (at % 8);
            // Between the two, what looks like the front of one and is none, over the bounds of what is read at once.
            let between = ENVELOPE_MARKER.repeat(READ / 4);
            let mut file = file(&[&damaged, &between[..READ - 700 + at], &envelope]);
            match access(&mut file, std::slice::from_ref(&identity)).unwrap() {
                Access::Key(key) => assert_eq!(key.open_offset(&sealed), Some(99)),
                access => panic!("flipped at {at}: {access:?}"),
            }
        }
    }

    #[test]
    fn what_is_left_of_a_cut_file_decides() {
        let identity = identity();
        let (_, envelope) = recipients(&[&identity]).wrap_key().unwrap().unwrap();
        for len in 0..envelope.len() {
            let mut file = file(&[&envelope[..len]]);
            let access = access(&mut file, std::slice::from_ref(&identity)).unwrap();
            assert!(matches!(access, Access::Empty), "cut at {len}: {access:?}");
        }
        let mut plain = Cursor::new(b"\x89RNCT1\r\n".to_vec());
        assert!(matches!(access(&mut plain, &[]).unwrap(), Access::Plain));
        assert!(matches!(access(&mut Cursor::new(Vec::new()), &[]).unwrap(), Access::Plain));
    }

    #[test]
    fn keys_are_read_with_comments_and_errors_say_the_line_and_no_secret() {
        let secret = "AGE-SECRET-KEY-184JMZMVQH3E6U0PSL869004Y3U2NYV7R30EU99CSEDNPH02YUVFSZW44VU";
        let public = "age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj";
        let error = |text: &str| parse_keys::<Recipient>(text).unwrap_err().to_string();
        assert_eq!(parse_keys::<Recipient>(&format!("# a\n\n  {public}\r\n")).unwrap().len(), 1);
        assert!(error(&format!("{public}\n{secret}")).starts_with("line 2: this is a secret key"));
        assert!(!error(&format!("{public}\n{secret}")).contains("184JM"));
        assert!(error("ssh-ed25519 AAAA").contains("SSH keys are not supported"));
        assert!(error("age1nonsense").contains("no age recipient"));
        assert_eq!(error("# nothing\n"), "there is no key in it");
        let error = parse_keys::<Identity>(public).unwrap_err().to_string();
        assert!(error.contains("no age identity"), "{error}");
    }

    #[test]
    fn debug_output_holds_no_secret() {
        let identity = identity();
        let words = format!("{:?}", ReadOptions { identities: vec![identity] });
        assert!(words.contains("Identity(age1") && !words.contains("SECRET"), "{words}");
    }
}
