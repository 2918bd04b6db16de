//! A file's decompressed bytes, in order, with the offset they stand at.
//!
//! The one law: `offset` is that of the first byte not yet taken, whatever was read ahead.

use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use flate2::bufread::MultiGzDecoder;

use super::format::{FileFormat, open};
use super::{CHUNK_BYTES, RECORD_BYTES_MAX};
use crate::error::{Context, Error, Result};

/// Read ahead of the decompressor: one page of a chunk.
const COMPRESSED_BYTES: usize = 256 << 10;

/// What spreadsheets put before the first byte of UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The unread content of one file.
pub(super) struct Content {
    path: PathBuf,
    reader: Box<dyn Read + Send>,
    buffer: Vec<u8>,
    offset: u64,
    at_end: bool,
}

impl Content {
    /// Opens the file at `offset` of its decompressed content.
    ///
    /// # Errors
    /// [`Error::Usage`] when there is no such file, [`Error::Broken`] when its content ends before `offset`.
    pub fn open(path: &Path, format: FileFormat, offset: u64) -> Result<Self> {
        let mut file = open(path)?;
        let reads = || format!("read `{}`", path.display());
        let reached;
        let reader: Box<dyn Read + Send> = if format.gzip {
            let mut plain = MultiGzDecoder::new(BufReader::with_capacity(COMPRESSED_BYTES, file));
            reached = std::io::copy(&mut plain.by_ref().take(offset), &mut std::io::sink()).context(reads)?;
            Box::new(plain)
        } else {
            reached = file.metadata().context(reads)?.len().min(offset);
            file.seek(SeekFrom::Start(offset)).context(reads)?;
            Box::new(file)
        };
        if reached < offset {
            return Err(Error::broken(format!(
                "`{}` ends at byte {reached}, but was read up to byte {offset} before",
                path.display()
            )));
        }
        let mut content =
            Self { path: path.to_owned(), reader, buffer: Vec::with_capacity(CHUNK_BYTES), offset, at_end: false };
        if offset == 0 {
            content.fill(BYTE_ORDER_MARK.len())?;
            if content.buffer.starts_with(BYTE_ORDER_MARK) {
                content.skip(BYTE_ORDER_MARK.len());
            }
        }
        Ok(content)
    }

    /// Reads until at least `bytes` are buffered or the content ends.
    pub fn fill(&mut self, bytes: usize) -> Result<()> {
        let missing = bytes.saturating_sub(self.buffer.len());
        if missing > 0 && !self.at_end {
            // Not `read` into zeroed bytes: clearing a megabyte costs as much as copying it.
            let got = self.reader.by_ref().take(missing as u64).read_to_end(&mut self.buffer);
            self.at_end = got.context(|| format!("read `{}`", self.path.display()))? < missing;
        }
        Ok(())
    }

    /// What is buffered.
    pub fn buffered(&self) -> &[u8] {
        &self.buffer
    }

    /// Whether nothing follows what is buffered. Only known once a `fill` asked for more than there is.
    pub fn at_end(&self) -> bool {
        self.at_end
    }

    /// Offset of the first buffered byte.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Takes the first `count` buffered bytes without copying them; what follows moves to a new buffer.
    pub fn take(&mut self, count: usize) -> Bytes {
        let mut rest = Vec::with_capacity(CHUNK_BYTES.max(self.buffer.len() - count));
        rest.extend_from_slice(&self.buffer[count..]);
        let mut taken = std::mem::replace(&mut self.buffer, rest);
        taken.truncate(count);
        self.offset += count as u64;
        Bytes::from(taken)
    }

    /// Drops the first `count` buffered bytes.
    pub fn skip(&mut self, count: usize) {
        self.buffer.drain(..count);
        self.offset += count as u64;
    }

    /// Takes the head of the line at the front, one byte too long to be a valid record, and skips the rest of it.
    pub fn take_head_of_line(&mut self) -> Result<Bytes> {
        let head = Bytes::copy_from_slice(&self.buffer[..self.buffer.len().min(RECORD_BYTES_MAX + 1)]);
        loop {
            if let Some(newline) = memchr::memchr(b'\n', &self.buffer) {
                self.skip(newline + 1);
                return Ok(head);
            }
            self.skip(self.buffer.len());
            self.fill(CHUNK_BYTES)?;
            if self.buffer.is_empty() {
                return Ok(head);
            }
        }
    }
}
