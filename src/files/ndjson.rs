//! Lines of JSON: a line is a record, shared with the chunk it was read in, not copied.
//!
//! The one law: what a line holds is not looked at. This is the fastest way into the engine.

use bytes::Bytes;
use memchr::{memchr_iter, memrchr};

use super::content::Content;
use super::reader::{FileRecord, RecordPage};
use super::{CHUNK_BYTES, LINE_BYTES_MAX, PAGE_RECORDS_MAX};
use crate::error::Result;

/// Splits a file's content at its line ends.
pub(super) struct NdjsonReader {
    content: Content,
    /// Whole lines not yet handed over.
    chunk: Bytes,
    /// Offset of the chunk's first byte.
    offset: u64,
}

impl NdjsonReader {
    pub fn new(content: Content) -> Self {
        Self { offset: content.offset(), chunk: Bytes::new(), content }
    }

    /// The next records, `None` at the end. Blank lines move the position and are no records.
    pub fn next_page(&mut self) -> Result<Option<RecordPage>> {
        if self.chunk.is_empty() {
            self.offset = self.content.offset();
            match self.whole_lines()? {
                Some(0) => {
                    let data = self.content.take_head_of_line()?;
                    let (from, to) = (self.offset, self.content.offset());
                    return Ok(Some(RecordPage { from, to, records: vec![FileRecord { end: to, data }] }));
                }
                Some(bytes) => self.chunk = self.content.take(bytes),
                None => return Ok(None),
            }
        }
        Ok(Some(self.split()))
    }

    /// Buffers whole lines and tells their length: 0 for a line too long to hold, `None` at the end.
    fn whole_lines(&mut self) -> Result<Option<usize>> {
        self.content.fill(CHUNK_BYTES)?;
        loop {
            let buffered = self.content.buffered();
            if buffered.is_empty() {
                return Ok(None);
            }
            if let Some(newline) = memrchr(b'\n', buffered)
                && !self.content.at_end()
            {
                return Ok(Some(newline + 1));
            }
            if self.content.at_end() {
                return Ok(Some(buffered.len()));
            }
            if buffered.len() >= LINE_BYTES_MAX {
                return Ok(Some(0));
            }
            let doubled = (buffered.len() * 2).min(LINE_BYTES_MAX);
            self.content.fill(doubled)?;
        }
    }

    /// Hands over the chunk's first lines, at most [`PAGE_RECORDS_MAX`] of them.
    fn split(&mut self) -> RecordPage {
        let mut records = Vec::with_capacity(PAGE_RECORDS_MAX.min(self.chunk.len() / 64));
        let mut start = 0;
        // The last line of a file may lack its line end.
        for end in memchr_iter(b'\n', &self.chunk).map(|newline| newline + 1).chain([self.chunk.len()]) {
            let line = self.chunk[start..end].trim_ascii_end();
            if !line.is_empty() {
                let data = self.chunk.slice(start..start + line.len());
                records.push(FileRecord { end: self.offset + end as u64, data });
            }
            start = end;
            if records.len() == PAGE_RECORDS_MAX {
                break;
            }
        }
        let from = self.offset;
        self.offset += start as u64;
        self.chunk = self.chunk.split_off(start);
        RecordPage { from, to: self.offset, records }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{LINE_BYTES_MAX, PAGE_RECORDS_MAX, RECORD_BYTES_MAX, RecordReader, records};

    fn write(content: impl AsRef<[u8]>) -> tempfile::NamedTempFile {
        let file = tempfile::Builder::new().suffix(".ndjson").tempfile().unwrap();
        std::fs::write(file.path(), content).unwrap();
        file
    }

    #[test]
    fn lines_are_records() {
        let table: [(&str, &[(u64, &str)]); 6] = [
            ("", &[]),
            ("\n\n", &[]),
            ("{}\n", &[(3, "{}")]),
            ("{}\r\n\r\n{\"a\":1}", &[(4, "{}"), (13, "{\"a\":1}")]),
            ("  \n [] \nnot json\n", &[(8, " []"), (17, "not json")]),
            ("\u{feff}{}\n", &[(6, "{}")]),
        ];
        for (content, expected) in table {
            let file = write(content);
            let found: Vec<_> = records(file.path()).unwrap().map(Result::unwrap).collect();
            let found: Vec<_> = found.iter().map(|r| (r.end, std::str::from_utf8(&r.data).unwrap())).collect();
            assert_eq!(found, expected, "{content:?}");
        }
    }

    #[test]
    fn pages_are_bounded_and_meet() {
        let content = "1\n".repeat(2 * PAGE_RECORDS_MAX + 5) + "\n\n";
        let file = write(&content);
        let mut reader = RecordReader::open(file.path(), 0).unwrap();
        let (mut position, mut sizes) = (0, Vec::new());
        while let Some(page) = reader.next_page().unwrap() {
            assert_eq!(page.from, position);
            position = page.to;
            sizes.push(page.records.len());
        }
        assert_eq!(sizes, [PAGE_RECORDS_MAX, PAGE_RECORDS_MAX, 5]);
        assert_eq!(position, content.len() as u64);
    }

    #[test]
    fn records_share_the_chunk() {
        let file = write("{\"a\":1}\n{\"a\":2}\n");
        let found: Vec<_> = records(file.path()).unwrap().map(Result::unwrap).collect();
        let distance = found[1].data.as_ptr() as usize - found[0].data.as_ptr() as usize;
        assert_eq!(distance, 8, "the second record lies right behind the first in memory");
    }

    #[test]
    fn long_lines_stay_bounded() {
        let whole = "y".repeat(3 * RECORD_BYTES_MAX);
        let too_long = "x".repeat(LINE_BYTES_MAX);
        for tail in ["", "\n", "\n9\n"] {
            let content = format!("1\n{whole}\n{too_long}x{tail}");
            let file = write(&content);
            let found: Vec<_> = records(file.path()).unwrap().map(Result::unwrap).collect();
            assert_eq!(found[1].data, whole);
            assert_eq!(found[2].data.len(), RECORD_BYTES_MAX + 1);
            assert_eq!(found.len(), if tail.len() > 1 { 4 } else { 3 });
            assert_eq!(found.last().unwrap().end, content.len() as u64);
        }
    }
}
