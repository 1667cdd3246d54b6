//! Content codings: a copy of a coded body, decoded as it comes.
//!
//! What was recorded stays as it passed; only the copy that facts are read from is decoded. Output is bounded: a body
//! that grows beyond [`MAX_DECODED_BYTES`] and [`MAX_RATIO`] times its own size is given up, like one that is damaged
//! or coded in a way that is not known.

use std::io::{self, Write};

use flate2::write::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use http::HeaderMap;
use http::header::CONTENT_ENCODING;

/// What a coded body may always grow to, in bytes.
pub const MAX_DECODED_BYTES: u64 = 64 << 20;

/// What it may grow to beyond that, in times its coded size.
pub const MAX_RATIO: u64 = 256;

/// Decodes one body.
#[derive(Debug)]
pub(super) enum Decoder {
    /// Not coded.
    Identity,
    Gzip(MultiGzDecoder<Sink>),
    /// `deflate` before its first byte: zlib by the standard, bare by custom of some.
    Deflate,
    Zlib(ZlibDecoder<Sink>),
    Bare(DeflateDecoder<Sink>),
    Zstd(Box<ZstdDecoder>),
    /// Coded in a way that is not known, or damaged.
    Unknown,
}

pub(super) struct ZstdDecoder {
    decoder: zstd::stream::write::Decoder<'static, Sink>,
    begun: bool,
}

/// Where decoded bytes go: up to a limit.
#[derive(Debug, Default)]
pub(super) struct Sink {
    bytes: Vec<u8>,
    total: u64,
    limit: u64,
}

// === impl Decoder ===

impl Decoder {
    /// Returns the decoder for a message with these headers.
    pub(super) fn new(headers: &HeaderMap) -> Self {
        let mut codings = headers
            .get_all(CONTENT_ENCODING)
            .iter()
            .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
            .map(<[u8]>::trim_ascii)
            .filter(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case(b"identity"));
        let Some(coding) = codings.next() else { return Self::Identity };
        if codings.next().is_some() {
            return Self::Unknown;
        }
        match &*coding.to_ascii_lowercase() {
            b"gzip" | b"x-gzip" => Self::Gzip(MultiGzDecoder::new(Sink::default())),
            b"deflate" => Self::Deflate,
            b"zstd" => {
                ZstdDecoder::new().map_or(Self::Unknown, |decoder| Self::Zstd(Box::new(decoder)))
            }
            _ => Self::Unknown,
        }
    }

    /// Returns whether the body can't be read: its coding is not known, or it is damaged.
    pub(super) const fn is_unknown(&self) -> bool {
        matches!(self, Self::Unknown)
    }

    /// Takes note that bytes are missing: what follows them in a coded body can't be decoded.
    pub(super) fn skip(&mut self) {
        if !matches!(self, Self::Identity) {
            *self = Self::Unknown;
        }
    }

    /// Decodes `bytes` and hands what comes out to `read`; what does not decode makes the rest unknown.
    pub(super) fn push(&mut self, bytes: &[u8], read: impl FnOnce(&[u8])) {
        if let (Self::Deflate, Some(first)) = (&*self, bytes.first()) {
            *self = if first & 0x0f == 8 && first >> 4 <= 7 {
                Self::Zlib(ZlibDecoder::new(Sink::default()))
            } else {
                Self::Bare(DeflateDecoder::new(Sink::default()))
            };
        }
        let decoded = match self {
            Self::Identity => return read(bytes),
            Self::Unknown | Self::Deflate => return,
            Self::Gzip(decoder) => {
                decoder.get_mut().allow(bytes.len());
                pump(decoder, bytes).map(|()| decoder.get_mut().take())
            }
            Self::Zlib(decoder) => {
                decoder.get_mut().allow(bytes.len());
                pump(decoder, bytes).map(|()| decoder.get_mut().take())
            }
            Self::Bare(decoder) => {
                decoder.get_mut().allow(bytes.len());
                pump(decoder, bytes).map(|()| decoder.get_mut().take())
            }
            Self::Zstd(decoder) => decoder.push(bytes),
        };
        match decoded {
            Ok(decoded) => read(&decoded),
            Err(_) => *self = Self::Unknown,
        }
    }
}

/// Decodes a whole body; none when its coding is not known or it is damaged.
pub(super) fn decode(headers: &HeaderMap, body: &[u8]) -> Option<Vec<u8>> {
    let mut decoder = Decoder::new(headers);
    let mut whole = Vec::new();
    decoder.push(body, |bytes| whole.extend_from_slice(bytes));
    (!decoder.is_unknown()).then_some(whole)
}

fn pump(decoder: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    decoder.write_all(bytes)?;
    decoder.flush()
}

// === impl ZstdDecoder ===

impl ZstdDecoder {
    fn new() -> io::Result<Self> {
        let mut decoder = zstd::stream::write::Decoder::new(Sink::default())?;
        decoder.window_log_max(MAX_WINDOW_LOG)?;
        Ok(Self { decoder, begun: false })
    }

    /// Decodes `bytes`. The first byte goes alone: a frame that zstd is handed whole takes another way through it, which
    /// lets some damage pass, and facts must not depend on where a body was cut.
    fn push(&mut self, bytes: &[u8]) -> io::Result<Vec<u8>> {
        self.decoder.get_mut().allow(bytes.len());
        let alone = bytes.len().min(usize::from(!std::mem::replace(&mut self.begun, true)));
        pump(&mut self.decoder, &bytes[..alone])?;
        pump(&mut self.decoder, &bytes[alone..])?;
        Ok(self.decoder.get_mut().take())
    }
}

impl std::fmt::Debug for ZstdDecoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ZstdDecoder")
    }
}

// === impl Sink ===

impl Sink {
    /// Lets the output grow by what `coded` further bytes of input allow.
    fn allow(&mut self, coded: usize) {
        self.limit = self.limit.max(MAX_DECODED_BYTES).saturating_add(coded as u64 * MAX_RATIO);
    }

    fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.total += bytes.len() as u64;
        if self.total > self.limit {
            return Err(io::Error::other("the body grows beyond every measure"));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Largest zstd window over HTTP, 8 MiB (RFC 9659).
const MAX_WINDOW_LOG: u32 = 23;
