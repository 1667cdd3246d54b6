//! The zstd stream that runs through consecutive blocks: flushed at the end of each, begun anew every few MiB.

use std::io;

use bytes::Bytes;
use zstd::stream::raw::{CParameter, DParameter, Decoder, Encoder, InBuffer, Operation, OutBuffer};

use crate::trace::format::MAX_WINDOW_LOG;

/// Compresses blocks.
pub(crate) struct Compressor {
    encoder: Encoder<'static>,
}

/// Whether a zstd frame goes on after a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    GoOn,
    EndFrame,
}

/// Decompresses blocks.
pub(crate) struct Decompressor {
    decoder: Decoder<'static>,
}

// === impl Compressor ===

impl Compressor {
    pub(crate) fn new() -> io::Result<Self> {
        let mut encoder = Encoder::new(zstd::DEFAULT_COMPRESSION_LEVEL)?;
        encoder.set_parameter(CParameter::ContentSizeFlag(false))?;
        encoder.set_parameter(CParameter::ChecksumFlag(false))?;
        Ok(Self { encoder })
    }

    /// Begins a zstd frame. At the fastest level it does not look for what is far back: that takes as long as all the rest, and
    /// what bodies repeat at a distance they mostly repeat in whole pieces, which are stored once.
    pub(crate) fn begin(&mut self, level: i32, window_log: u32) -> io::Result<()> {
        self.encoder.reinit()?;
        self.encoder.set_parameter(CParameter::CompressionLevel(level))?;
        self.encoder.set_parameter(CParameter::WindowLog(window_log))?;
        self.encoder.set_parameter(CParameter::EnableLongDistanceMatching(level > FASTEST))
    }

    /// Compresses a block: all of it can be decompressed from what is returned.
    pub(crate) fn block(&mut self, raw: &[u8], then: Then) -> io::Result<Vec<u8>> {
        let mut out = Vec::with_capacity(zstd::zstd_safe::compress_bound(raw.len()) + SLACK);
        let mut input = InBuffer::around(raw);
        while input.pos() < raw.len() {
            let pos = out.len();
            self.encoder.run(&mut input, &mut OutBuffer::around_pos(&mut out, pos))?;
            out.reserve(SLACK);
        }
        loop {
            out.reserve(SLACK);
            let pos = out.len();
            let mut rest = OutBuffer::around_pos(&mut out, pos);
            let left = match then {
                Then::GoOn => self.encoder.flush(&mut rest)?,
                Then::EndFrame => self.encoder.finish(&mut rest, true)?,
            };
            if left == 0 {
                return Ok(out);
            }
        }
    }
}

// === impl Decompressor ===

impl Decompressor {
    pub(crate) fn new() -> io::Result<Self> {
        let mut decoder = Decoder::new()?;
        decoder.set_parameter(DParameter::WindowLogMax(MAX_WINDOW_LOG))?;
        Ok(Self { decoder })
    }

    /// Forgets the frame so far.
    pub(crate) fn begin(&mut self) -> io::Result<()> {
        self.decoder.reinit()
    }

    /// Decompresses a block to exactly `raw` bytes. The caller has checked `raw` against its limit.
    pub(crate) fn block(&mut self, payload: &[u8], raw: usize) -> io::Result<Bytes> {
        let mut out = vec![0; raw];
        let mut input = InBuffer::around(payload);
        let mut pos = 0;
        loop {
            let mut output = OutBuffer::around_pos(&mut out[..], pos);
            let before = input.pos();
            self.decoder.run(&mut input, &mut output)?;
            let progress = output.pos() > pos || input.pos() > before;
            pos = output.pos();
            if !progress {
                break;
            }
        }
        // One byte of room tells a block that holds more than it says.
        let mut extra = [0];
        let mut overflow = OutBuffer::around(&mut extra[..]);
        self.decoder.run(&mut InBuffer::around(&[]), &mut overflow)?;
        if pos != raw || input.pos() != payload.len() || overflow.pos() != 0 {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "a block does not decompress to its length",
            ));
        }
        Ok(out.into())
    }
}

impl std::fmt::Debug for Compressor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Compressor").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Decompressor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Decompressor").finish_non_exhaustive()
    }
}

/// The level of a writer that has no time.
pub(crate) const FASTEST: i32 = 1;
/// Room for what zstd still holds at a flush.
const SLACK: usize = 1 << 10;
