//! The file that a segment is written to: blocks through the compressor, the map of zstd frames, the tail.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::clock::{Clock, Nanos};
use crate::trace::block::{Start, put_record};
use crate::trace::codec::{encode_counters, encode_header};
use crate::trace::compress::{Compressor, FASTEST, Then};
use crate::trace::format::{
    BLOCK_HEADER_LEN, BlockHeader, END_MAGIC, MAX_BLOCK_RAW, SEALED, VERSION, magic, opcode,
};
use crate::trace::index::Chapter;
use crate::trace::record::{Counters, Header};
use crate::trace::seal::Sealer;
use crate::trace::wire::len_u64;
use crate::trace::writer::{Pressure, WriterOptions};

/// The file and the compressor before it.
#[derive(Debug)]
pub(crate) struct Sink {
    file: File,
    path: PathBuf,
    compressor: Compressor,
    /// Bytes that the file has, or will have: whole blocks.
    offset: u64,
    /// The last of these, which the file system has not taken yet.
    unwritten: Vec<u8>,
    /// Why not.
    stall: Option<io::Error>,
    /// CRC of the block before.
    crc: u32,
    /// What encrypts the segment, if anything does.
    seal: Option<Seal>,
    /// The zstd frames begun.
    chapters: Vec<Chapter>,
    /// Whether the next block begins a zstd frame.
    starts: bool,
    pressure: Pressure,
    /// Whether the zstd frame is compressed less than asked.
    hurried: bool,
    hurried_bytes: u64,
    /// Blocks begun by this writer.
    blocks: u64,
    /// How long each wait for the disk was.
    syncs: Vec<Duration>,
}

/// What encrypts a segment; the key is forgotten with it.
#[derive(Debug)]
struct Seal {
    sealer: Sealer,
    /// The key for those who may read, as it stands before each zstd frame.
    envelope: Vec<u8>,
}

/// Window of the zstd stream, as a power of two: a zstd frame.
const WINDOW_LOG: u32 = 22;

// === impl Sink ===

impl Sink {
    /// Makes the file; one that exists is an error.
    pub(crate) fn create(path: PathBuf) -> io::Result<Self> {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        // Says that the segment is being written; a file system that knows no locks goes without.
        let _locked = file.try_lock();
        Ok(Self {
            file,
            path,
            compressor: Compressor::new()?,
            offset: 0,
            unwritten: Vec::new(),
            stall: None,
            crc: 0,
            seal: None,
            chapters: Vec::new(),
            starts: true,
            pressure: Pressure::None,
            hurried: false,
            hurried_bytes: 0,
            blocks: 0,
            syncs: Vec::new(),
        })
    }

    /// Goes on with a file that was cut, from `offset` on: what is behind is taken off. The next block begins a zstd
    /// frame.
    pub(crate) fn reopen(
        path: PathBuf,
        file: File,
        offset: u64,
        chapters: Vec<Chapter>,
    ) -> io::Result<Self> {
        file.set_len(offset)?;
        let mut file = file;
        file.seek(SeekFrom::Start(offset))?;
        Ok(Self {
            file,
            path,
            compressor: Compressor::new()?,
            offset,
            unwritten: Vec::new(),
            stall: None,
            crc: 0,
            // An encrypted file can't be gone on with: nobody has its key by then.
            seal: None,
            chapters,
            starts: true,
            pressure: Pressure::None,
            hurried: false,
            hurried_bytes: 0,
            blocks: 0,
            syncs: Vec::new(),
        })
    }

    /// Writes the magic, the first envelope if there are recipients, and the header, which has a zstd frame of its own.
    pub(crate) fn write_header(
        &mut self,
        header: &Header,
        options: &WriterOptions,
    ) -> io::Result<()> {
        let wrapped = options.recipients.wrap_key()?;
        self.seal = wrapped.map(|(key, envelope)| Seal { sealer: Sealer::new(key), envelope });
        let version = if self.seal.is_some() { SEALED } else { VERSION };
        // With the block below in one go, so that a file is seldom seen without it.
        self.unwritten.extend_from_slice(&magic(version));
        if let Some(seal) = &self.seal {
            self.unwritten.extend_from_slice(&seal.envelope);
        }
        self.offset += len_u64(self.unwritten.len());
        let mut raw = Vec::new();
        if let Some(start) = self.start(0) {
            put_record(&mut raw, opcode::START, &start.encode());
        }
        put_record(&mut raw, opcode::HEADER, &encode_header(header));
        if options.counters != Counters::default() {
            // What they count was recorded in segments before, which may not be there when this one is read.
            put_record(&mut raw, opcode::COUNTERS, &encode_counters(&options.counters));
        }
        self.write_block(&raw, 0, Then::EndFrame, options)
    }

    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// Returns the bytes that the file system has taken.
    pub(crate) fn written(&self) -> u64 {
        self.offset - len_u64(self.unwritten.len())
    }

    /// Returns whether all of it is in the file.
    pub(crate) fn is_written(&self) -> bool {
        self.unwritten.is_empty()
    }

    /// Tries to write what the file system did not take before. What it takes again not is kept.
    pub(crate) fn catch_up(&mut self) -> io::Result<()> {
        self.write_on();
        self.stall.take().map_or(Ok(()), Err)
    }

    /// Returns whether the file is still in its folder: what is written to one that is not is lost.
    pub(crate) fn is_linked(&self) -> bool {
        self.file.metadata().is_ok_and(|data| data.nlink() > 0)
    }

    pub(crate) fn pressure(&self) -> Pressure {
        self.pressure
    }

    pub(crate) fn set_pressure(&mut self, pressure: Pressure) {
        self.pressure = pressure;
    }

    pub(crate) fn hurried_bytes(&self) -> u64 {
        self.hurried_bytes
    }

    /// Returns how many blocks were written.
    pub(crate) fn blocks(&self) -> u64 {
        self.blocks
    }

    pub(crate) fn chapters(&self) -> &[Chapter] {
        &self.chapters
    }

    /// Returns the number of the zstd frame that the next block is in.
    pub(crate) fn ordinal(&self) -> u32 {
        let begun = if self.starts { self.chapters.len() } else { self.chapters.len() - 1 };
        u32::try_from(begun).unwrap_or(u32::MAX)
    }

    /// Returns the record that the next block must begin with, if it begins a zstd frame.
    pub(crate) fn start(&self, first_blob: u64) -> Option<Start> {
        self.starts.then(|| Start { ordinal: self.ordinal(), offset: self.offset, first_blob })
    }

    /// Compresses and writes a block. `first_blob` is the number of the first blob in it.
    pub(crate) fn write_block(
        &mut self,
        raw: &[u8],
        first_blob: u64,
        then: Then,
        options: &WriterOptions,
    ) -> io::Result<()> {
        let too_long = || io::Error::other("a block became longer than the format allows");
        let raw_len = u32::try_from(raw.len()).ok().filter(|&len| len <= MAX_BLOCK_RAW);
        let raw_len = raw_len.ok_or_else(too_long)?;
        let starts = self.starts;
        if starts {
            let level = level_under(self.pressure, options.level);
            self.hurried = level < options.level;
            self.compressor.begin(level, WINDOW_LOG)?;
            self.chapters.push(Chapter { offset: self.offset, first_blob, raw: 0 });
        }
        let last = self.chapters.len() - 1;
        let chapter = &mut self.chapters[last];
        chapter.raw += u64::from(raw_len);
        let then = if chapter.raw >= options.frame_bytes { Then::EndFrame } else { then };
        let mut payload = self.compressor.block(raw, then)?;
        if let Some(seal) = &mut self.seal {
            payload = seal.sealer.seal(&payload, raw_len, starts)?;
        }
        let header = BlockHeader::new(&payload, raw_len, starts, self.crc).ok_or_else(too_long)?;
        let mut bytes = Vec::with_capacity(BLOCK_HEADER_LEN + payload.len());
        bytes.extend_from_slice(&header.to_bytes());
        bytes.extend_from_slice(&payload);
        self.put(&bytes);
        self.crc = header.crc;
        self.blocks += 1;
        self.starts = false;
        if then == Then::EndFrame {
            self.break_frame();
        }
        self.hurried_bytes += if self.hurried { u64::from(raw_len) } else { 0 };
        Ok(())
    }

    /// Returns whether the next block begins a zstd frame.
    pub(crate) fn starts(&self) -> bool {
        self.starts
    }

    /// Makes the next block begin a zstd frame.
    pub(crate) fn break_frame(&mut self) {
        if !self.starts {
            self.starts = true;
            self.put_envelope();
        }
    }

    /// Writes the tail, which says where the summary starts.
    pub(crate) fn write_tail(&mut self, summary: u64) -> io::Result<()> {
        let mut tail = match &self.seal {
            Some(seal) => seal.sealer.seal_offset(summary)?.to_vec(),
            None => summary.to_le_bytes().to_vec(),
        };
        tail.extend_from_slice(&END_MAGIC);
        self.put(&tail);
        Ok(())
    }

    /// Waits for the disk.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        let clock = Clock::start();
        let synced = self.file.sync_data();
        self.syncs.push(clock.now().since(Nanos::ZERO));
        synced
    }

    /// Takes out how long each wait for the disk was since the last call.
    pub(crate) fn take_syncs(&mut self) -> Vec<Duration> {
        std::mem::take(&mut self.syncs)
    }

    /// Gives the file its name, which then survives a crash of the machine if `sync`.
    pub(crate) fn rename(&mut self, path: &Path, sync: bool) -> io::Result<()> {
        if path.exists() {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                format!(
                    "{} exists already: the trace stays at {}",
                    path.display(),
                    self.path.display()
                ),
            ));
        }
        fs::rename(&self.path, path)?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        if sync {
            File::open(folder.unwrap_or_else(|| Path::new(".")))?.sync_all()?;
        }
        Ok(())
    }

    /// Takes a block that was written in part off the file's end, so that it ends with a whole one.
    pub(crate) fn drop_torn_block(&mut self, whole: u64) {
        // A disk that refuses this too leaves a torn block, which readers are made for.
        let _unheard = self.file.set_len(whole);
    }

    /// Writes the envelope, if the segment is encrypted.
    fn put_envelope(&mut self) {
        if let Some(seal) = &self.seal {
            let envelope = seal.envelope.clone();
            self.put(&envelope);
        }
    }

    /// Writes bytes, or keeps them until [`Self::catch_up`].
    fn put(&mut self, bytes: &[u8]) {
        self.offset += len_u64(bytes.len());
        self.unwritten.extend_from_slice(bytes);
        // Once refused, it is tried again when asked, not with each block.
        if self.stall.is_none() {
            self.write_on();
        }
    }

    fn write_on(&mut self) {
        self.stall = None;
        let mut taken = 0;
        while taken < self.unwritten.len() && self.stall.is_none() {
            match self.file.write(&self.unwritten[taken..]) {
                Ok(0) => self.stall = Some(io::ErrorKind::WriteZero.into()),
                Ok(count) => taken += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => self.stall = Some(error),
            }
        }
        self.unwritten.drain(..taken);
    }
}

/// Returns the level to compress at: at 3 and below zstd looks for matches in one place only, which is what costs time.
fn level_under(pressure: Pressure, level: i32) -> i32 {
    match pressure {
        Pressure::None => level,
        Pressure::Some => level.min(3),
        Pressure::High => level.min(FASTEST),
    }
}

#[cfg(test)]
impl Sink {
    /// Goes on in another file, for tests of a disk that refuses.
    pub(crate) fn replace_file(&mut self, file: File) -> File {
        std::mem::replace(&mut self.file, file)
    }
}
