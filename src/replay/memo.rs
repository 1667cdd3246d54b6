//! What is remembered of each recorded exchange, beside the little that a plan needs ([`Known`](crate::replay::known::Known)).
//!
//! Of a million exchanges this would be a third of a gigabyte. It is wanted once for each release, in about the order in
//! which it was recorded, by the thread that makes requests ready ahead of their due times: all but the last megabytes go
//! to a file without a name, which the system caches as long as it has room.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use bincode::config::{Configuration, standard};
use bincode::{Decode, Encode};

use crate::replay::ending::Left;
use crate::replay::pace::Pause;
use crate::replay::pin::Length;
use crate::results::rows::Measurement;
use crate::trace::record::Version;

/// What is remembered of an exchange.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct Memo {
    /// The version that its client spoke.
    pub version: Version,
    /// Where its client left, if it did.
    pub left: Option<Left>,
    /// Where its client paused while it read, if it did.
    pub pauses: Option<Arc<[Pause]>>,
    /// What is known of its output's length.
    pub length: Length,
    /// Digest of its recorded answer's text ([`crate::dialect::text_digest`]), of a chat that has one.
    pub answer: Option<u128>,
    /// Model named in the request.
    pub model: Option<String>,
    /// What became of it when it was recorded.
    pub twin: Twin,
}

/// The recorded twin of a measurement.
#[derive(Clone, Debug, Default, PartialEq, Encode, Decode)]
pub struct Twin {
    /// Status.
    pub status: Option<u16>,
    /// Outcome as in the run folder; none when the trace has no end of the exchange.
    pub outcome: Option<String>,
    /// Time to first token from the request's arrival.
    pub ttft_ns: Option<i64>,
    /// End to end from the request's arrival.
    pub e2e_ns: Option<i64>,
    /// Input tokens.
    pub input_tokens: Option<u64>,
    /// Output tokens.
    pub output_tokens: Option<u64>,
    /// Where the count of output tokens came from.
    pub output_tokens_source: Option<String>,
    /// Finish reason.
    pub finish_reason: Option<String>,
    /// Shape of the tool calls.
    pub tool_shape: Option<String>,
    /// Digest of the output, as in the run folder.
    pub digest: Option<String>,
}

/// All memos of a trace.
#[derive(Debug, Default)]
pub struct Memos {
    file: Option<File>,
    /// Bytes in the file.
    filed: u64,
    /// What comes after them.
    recent: Vec<u8>,
}

/// Where a memo is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoId(u64);

/// Bytes that are held before they go to the file.
const RECENT_MOST: usize = 4 << 20;
/// Bytes that are read at once: few memos are longer.
const AT_ONCE: usize = 512;
/// A memo is preceded by its length, a u32.
const LENGTH: usize = 4;
/// How memos are encoded: for this process alone.
const ENCODING: Configuration = standard();

// === impl Memo ===

impl Memo {
    /// Returns the memo of an exchange of which nothing is known.
    #[must_use]
    pub fn unknown() -> Self {
        Self {
            version: Version::Http11,
            left: None,
            pauses: None,
            length: Length::default(),
            answer: None,
            model: None,
            twin: Twin::default(),
        }
    }

    /// Puts the model and the twin into a row.
    pub fn put(&self, row: &mut Measurement) {
        let twin = &self.twin;
        row.model_recorded.clone_from(&self.model);
        row.recorded_status = twin.status;
        row.recorded_outcome.clone_from(&twin.outcome);
        row.recorded_ttft_ns = twin.ttft_ns;
        row.recorded_e2e_ns = twin.e2e_ns;
        row.recorded_input_tokens = twin.input_tokens;
        row.recorded_output_tokens = twin.output_tokens;
        row.recorded_finish_reason.clone_from(&twin.finish_reason);
        row.recorded_output_tokens_source.clone_from(&twin.output_tokens_source);
        row.recorded_tool_shape.clone_from(&twin.tool_shape);
        row.recorded_output_digest.clone_from(&twin.digest);
    }
}

// === impl Memos ===

impl Memos {
    /// Takes a memo in.
    pub fn add(&mut self, memo: &Memo) -> MemoId {
        let id = MemoId(self.filed + self.recent.len() as u64);
        // Encoding into memory can't fail: nothing in a memo refuses.
        let bytes = bincode::encode_to_vec(memo, ENCODING).unwrap_or_default();
        let length = u32::try_from(bytes.len()).unwrap_or_default();
        self.recent.extend_from_slice(&length.to_le_bytes());
        self.recent.extend_from_slice(&bytes);
        if self.recent.len() >= RECENT_MOST {
            // A file system that has no room for it costs memory, as without a file.
            let _kept = self.file_away();
        }
        id
    }

    /// Returns a memo.
    ///
    /// # Errors
    /// The file can't be read.
    pub fn get(&self, id: MemoId) -> io::Result<Memo> {
        let mut start = [0; AT_ONCE];
        let held = self.read(id.0, &mut start)?;
        let (length, rest) = start[..held].split_first_chunk::<LENGTH>().ok_or_else(cut)?;
        let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
        let decoded = if let Some(bytes) = rest.get(..length) {
            bincode::decode_from_slice(bytes, ENCODING)
        } else {
            let mut bytes = vec![0; length];
            if self.read(id.0 + LENGTH as u64, &mut bytes)? < length {
                return Err(cut());
            }
            bincode::decode_from_slice(&bytes, ENCODING)
        };
        decoded.map(|(memo, _read)| memo).map_err(io::Error::other)
    }

    fn file_away(&mut self) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(tempfile::tempfile()?),
        };
        file.write_all_at(&self.recent, self.filed)?;
        self.filed += self.recent.len() as u64;
        self.recent.clear();
        Ok(())
    }

    /// Reads from `at` as much as there is of `buffer`; a memo is in the file or in memory, never in both.
    fn read(&self, at: u64, buffer: &mut [u8]) -> io::Result<usize> {
        if let Some(recent) = at.checked_sub(self.filed) {
            let recent = usize::try_from(recent).ok().and_then(|from| self.recent.get(from..));
            let held = recent.unwrap_or_default();
            let length = held.len().min(buffer.len());
            buffer[..length].copy_from_slice(&held[..length]);
            return Ok(length);
        }
        let Some(file) = &self.file else { return Err(cut()) };
        let mut read = 0;
        while read < buffer.len() {
            match file.read_at(&mut buffer[read..], at + read as u64) {
                Ok(0) => break,
                Ok(count) => read += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(read)
    }
}

fn cut() -> io::Error {
    io::Error::other("what is remembered of the trace was cut")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Makes a memo that no other one equals, every hundredth of them a long one.
    fn memo(number: u64) -> Memo {
        let shape = "f(x)".repeat(if number.is_multiple_of(100) { 1_000 } else { 1 });
        let pause = Pause { after: number, length: Duration::from_nanos(number) };
        Memo {
            version: Version::Http2,
            pauses: Some([pause].into()),
            model: Some(format!("model-{number}")),
            twin: Twin { tool_shape: Some(shape), ..Twin::default() },
            ..Memo::unknown()
        }
    }

    #[test]
    fn what_is_remembered_comes_back_from_memory_and_from_the_file() {
        let mut memos = Memos::default();
        let ids: Vec<_> = (0..60_000).map(|number| (number, memos.add(&memo(number)))).collect();
        assert!(
            memos.filed > 0 && !memos.recent.is_empty(),
            "{} bytes are in the file",
            memos.filed
        );
        for (number, id) in ids.into_iter().rev().step_by(50) {
            assert_eq!(memos.get(id).unwrap(), memo(number));
        }
        assert!(memos.get(MemoId(u64::MAX)).is_err());
    }
}
