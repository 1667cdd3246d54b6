//! The frame of the file: magic, blocks, opcodes, limits, versions. FORMAT.md says the same in words.

use std::fmt;

use super::wire::Malformed;

/// Version of the format: a reader refuses a newer major, and skips what a newer minor added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FormatVersion {
    /// Stands as a digit in the magic. Changes when an old reader would misread: 2 says that blocks are encrypted.
    pub major: u8,
    /// Stands in the header. Grows with each added opcode or field.
    pub minor: u16,
}

/// Why a file of some version can't be read by this program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is of format version {found}, this program reads versions up to {reads}: read it with a {} reenact", if .found.major > .reads.major { "newer" } else { "older" })]
pub struct VersionMismatch {
    /// Version of the file.
    pub found: FormatVersion,
    /// Latest version that this program reads.
    pub reads: FormatVersion,
}

/// Why a file is no trace that this program reads.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotReadable {
    #[error("it is empty")]
    Empty,
    #[error("it does not begin like a trace")]
    NotATrace,
    #[error(
        "its line ends were changed, as a transfer in text mode does: fetch it again in binary mode"
    )]
    TextMode,
    #[error("it is encrypted, and there is no key for it")]
    NoKey,
    #[error(transparent)]
    Version(#[from] VersionMismatch),
}

/// The fixed front of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BlockHeader {
    /// Whether its payload begins a zstd frame, so that decoding can start here.
    pub(crate) starts: bool,
    /// Bytes of payload that follow.
    pub(crate) stored: u32,
    /// Bytes that the payload decompresses to.
    pub(crate) raw: u32,
    /// CRC-32 of lengths and payload, chained to the block before unless `starts`.
    pub(crate) crc: u32,
}

/// The version that this program writes when it does not encrypt.
pub(crate) const VERSION: FormatVersion = FormatVersion { major: 1, minor: 2 };
/// The version that it writes when it encrypts: the same records. It is the latest that it reads.
pub(crate) const SEALED: FormatVersion = FormatVersion { major: 2, ..VERSION };

/// Bytes of the magic.
pub(crate) const MAGIC_LEN: usize = 8;
/// First bytes of every trace; the major version follows as a digit, then CR LF, which a text transfer would harm.
pub(crate) const MAGIC: [u8; 5] = *b"\x89RNCT";
/// Last eight bytes of a trace that was closed.
pub(crate) const END_MAGIC: [u8; 8] = *b"\x89RNCTE\r\n";
/// Bytes of the tail: offset of the summary, end magic.
pub(crate) const TAIL_LEN: usize = 16;
/// First bytes of every block.
pub(crate) const MARKER: [u8; 4] = *b"\xB7RNB";
/// Bytes of a block's front.
pub(crate) const BLOCK_HEADER_LEN: usize = 16;
/// Bytes of it before the CRC.
pub(crate) const BLOCK_FRONT_LEN: usize = 12;
/// Bit of the stored length that says that the block starts a zstd frame.
const STARTS: u32 = 1 << 31;

/// Largest payload of a block.
pub(crate) const MAX_BLOCK_STORED: u32 = 16 << 20;
/// Largest payload of a block, decompressed.
pub(crate) const MAX_BLOCK_RAW: u32 = 16 << 20;
/// Largest payload of a record that a writer accepts.
pub(crate) const MAX_RECORD: usize = 8 << 20;
/// Largest zstd window, as a power of two.
pub(crate) const MAX_WINDOW_LOG: u32 = 27;
/// Most a bincode payload may claim.
pub(crate) const MAX_PAYLOAD: usize = 16 << 20;

/// Opcodes of records. 0x80 to 0xFF are for private use.
pub(crate) mod opcode {
    pub(crate) const HEADER: u8 = 0x01;
    pub(crate) const START: u8 = 0x02;
    pub(crate) const REQUEST: u8 = 0x10;
    pub(crate) const LINK: u8 = 0x11;
    pub(crate) const INTERIM: u8 = 0x12;
    pub(crate) const RESPONSE: u8 = 0x13;
    pub(crate) const TRAILERS: u8 = 0x14;
    pub(crate) const END: u8 = 0x15;
    pub(crate) const GAP: u8 = 0x16;
    pub(crate) const OMISSION: u8 = 0x17;
    pub(crate) const BLOBS: u8 = 0x20;
    pub(crate) const PIECES: u8 = 0x21;
    pub(crate) const FRAMES: u8 = 0x22;
    pub(crate) const BARE: u8 = 0x23;
    pub(crate) const PROMPT: u8 = 0x24;
    pub(crate) const COUNTERS: u8 = 0x30;
    pub(crate) const INDEX: u8 = 0x40;
    pub(crate) const MAP: u8 = 0x41;
    pub(crate) const FOOTER: u8 = 0x4F;
}

/// Returns the magic of `version`.
pub(crate) fn magic(version: FormatVersion) -> [u8; MAGIC_LEN] {
    let mut bytes = *b"\x89RNCT?\r\n";
    bytes[5] = b'0' + version.major;
    bytes
}

/// Returns the version that the first [`MAGIC_LEN`] bytes of a file say, with minor 0.
pub(crate) fn parse_magic(found: &[u8]) -> Result<FormatVersion, NotReadable> {
    let Some(([digit], end)) =
        found.strip_prefix(&MAGIC).and_then(|rest| rest.split_first_chunk::<1>())
    else {
        return Err(NotReadable::NotATrace);
    };
    if !digit.is_ascii_digit() {
        return Err(NotReadable::NotATrace);
    }
    let version = FormatVersion { major: digit - b'0', minor: 0 };
    if *end != *b"\r\n" {
        return Err(NotReadable::TextMode);
    }
    version.check_readable_by(SEALED)?;
    Ok(version)
}

// === impl FormatVersion ===

impl FormatVersion {
    /// Checks that a program of version `reader` can read a file of this version.
    ///
    /// # Errors
    /// Its major is newer, or none that ever was.
    pub fn check_readable_by(self, reader: Self) -> Result<(), VersionMismatch> {
        if (1..=reader.major).contains(&self.major) {
            Ok(())
        } else {
            Err(VersionMismatch { found: self, reads: reader })
        }
    }
}

impl fmt::Display for FormatVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

// === impl BlockHeader ===

impl BlockHeader {
    /// Returns the header of a block with this payload, chained to `previous`, the CRC of the block before.
    pub(crate) fn new(payload: &[u8], raw: u32, starts: bool, previous: u32) -> Option<Self> {
        let stored = u32::try_from(payload.len()).ok().filter(|&len| len <= MAX_BLOCK_STORED)?;
        let mut header = Self { starts, stored, raw, crc: 0 };
        header.crc = header.checksum(payload, previous);
        Some(header)
    }

    /// Parses the front of a block and checks its lengths against the limits.
    pub(crate) fn parse(bytes: &[u8; BLOCK_HEADER_LEN]) -> Result<Self, Malformed> {
        let [a, b, c, d, lengths @ ..] = *bytes;
        if [a, b, c, d] != MARKER {
            return Err(Malformed("no block starts here"));
        }
        let word = |at: usize| {
            u32::from_le_bytes([lengths[at], lengths[at + 1], lengths[at + 2], lengths[at + 3]])
        };
        let (stored, raw, crc) = (word(0), word(4), word(8));
        let header = Self { starts: stored & STARTS != 0, stored: stored & !STARTS, raw, crc };
        if header.stored > MAX_BLOCK_STORED || raw > MAX_BLOCK_RAW {
            return Err(Malformed("a block claims to be longer than the limit"));
        }
        Ok(header)
    }

    /// Returns the bytes in the file.
    pub(crate) fn to_bytes(self) -> [u8; BLOCK_HEADER_LEN] {
        let mut bytes = [0; BLOCK_HEADER_LEN];
        bytes[..BLOCK_FRONT_LEN].copy_from_slice(&self.front());
        bytes[BLOCK_FRONT_LEN..].copy_from_slice(&self.crc.to_le_bytes());
        bytes
    }

    /// Returns its bytes before the CRC.
    pub(crate) fn front(self) -> [u8; BLOCK_FRONT_LEN] {
        let mut bytes = [0; BLOCK_FRONT_LEN];
        bytes[..4].copy_from_slice(&MARKER);
        bytes[4..].copy_from_slice(&self.lengths());
        bytes
    }

    /// Returns the CRC-32 that the block must have after a block with CRC `previous`.
    pub(crate) fn checksum(self, payload: &[u8], previous: u32) -> u32 {
        let mut hasher =
            crc32fast::Hasher::new_with_initial(if self.starts { 0 } else { previous });
        hasher.update(&self.lengths());
        hasher.update(payload);
        hasher.finalize()
    }

    fn lengths(self) -> [u8; 8] {
        let mut bytes = [0; 8];
        let stored = if self.starts { self.stored | STARTS } else { self.stored };
        bytes[..4].copy_from_slice(&stored.to_le_bytes());
        bytes[4..].copy_from_slice(&self.raw.to_le_bytes());
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_header_reads_back() {
        let header = BlockHeader::new(b"payload", 70, true, 99).unwrap();
        assert_eq!(BlockHeader::parse(&header.to_bytes()), Ok(header));
        assert_eq!(header.checksum(b"payload", 12345), header.crc, "a start is not chained");
        let next = BlockHeader::new(b"payload", 70, false, header.crc).unwrap();
        assert_ne!(
            next.checksum(b"payload", next.crc),
            next.crc,
            "a repeated block is not its own successor"
        );
    }

    #[test]
    fn the_crc_is_zlibs() {
        let header = BlockHeader { starts: false, stored: 3, raw: 3, crc: 0 };
        assert_eq!(header.checksum(b"abc", 0), crc32fast::hash(b"\x03\0\0\0\x03\0\0\0abc"));
    }

    #[test]
    fn lengths_are_limited() {
        let mut bytes = BlockHeader { starts: true, stored: 1, raw: 1, crc: 0 }.to_bytes();
        bytes[11] = 0xFF;
        assert!(BlockHeader::parse(&bytes).is_err());
    }

    #[test]
    fn a_newer_major_is_refused_and_a_newer_minor_is_not() {
        let reads = FormatVersion { major: 1, minor: 3 };
        assert!(FormatVersion { major: 1, minor: 9 }.check_readable_by(reads).is_ok());
        let error = FormatVersion { major: 2, minor: 0 }.check_readable_by(reads).unwrap_err();
        assert!(error.to_string().contains("newer reenact"), "{error}");
        assert!(VERSION.check_readable_by(SEALED).is_ok(), "what is not encrypted is read too");
        assert!(FormatVersion { major: 0, minor: 0 }.check_readable_by(SEALED).is_err());
    }
}
