//! One file read from any record boundary on: pages of records, or record by record.
//!
//! The one law: pages meet. `to` of one page is `from` of the next, and each record ends inside its page.

use std::path::Path;

use bytes::Bytes;

use super::content::Content;
use super::csv::CsvReader;
use super::format::{FileFormat, Lines};
use super::ndjson::NdjsonReader;
use crate::error::Result;

/// One record of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileRecord {
    /// Decompressed bytes of the file up to and including this record's line end.
    pub end: u64,
    /// A JSON object, or what stood there instead of one.
    pub data: Bytes,
}

/// Records in `(from, to]`; none when only blank lines stood there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordPage {
    pub from: u64,
    pub to: u64,
    pub records: Vec<FileRecord>,
}

/// Reads the records of one file.
pub struct RecordReader {
    format: Format,
    position: u64,
}

enum Format {
    Csv(CsvReader),
    Ndjson(NdjsonReader),
}

impl std::fmt::Debug for RecordReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RecordReader").finish_non_exhaustive()
    }
}

impl RecordReader {
    /// Opens the file after `offset`: 0, or a [`FileRecord::end`] or [`RecordPage::to`] that was read before.
    ///
    /// # Errors
    /// [`crate::Error::Usage`] for a missing file, an unknown extension or a CSV header that is none.
    pub fn open(path: &Path, offset: u64) -> Result<Self> {
        let format = FileFormat::of(path)?;
        let format = match format.lines {
            Lines::Ndjson => Format::Ndjson(NdjsonReader::new(Content::open(path, format, offset)?)),
            Lines::Csv => Format::Csv(CsvReader::open(path, format, offset)?),
        };
        Ok(Self { format, position: offset })
    }

    /// The next page, `None` at the end.
    ///
    /// # Errors
    /// [`crate::Error::External`] when the file cannot be read or decompressed.
    pub fn next_page(&mut self) -> Result<Option<RecordPage>> {
        let page = match &mut self.format {
            Format::Csv(reader) => reader.next_page()?,
            Format::Ndjson(reader) => reader.next_page()?,
        };
        // A header or a byte order mark belongs to the page that follows it.
        Ok(page.map(|page| RecordPage { from: std::mem::replace(&mut self.position, page.to), ..page }))
    }
}

/// All records of a file, in order.
///
/// # Errors
/// As [`RecordReader::open`].
pub fn records(path: &Path) -> Result<Records> {
    Ok(Records { reader: RecordReader::open(path, 0)?, page: Vec::new().into_iter() })
}

/// The records of a file, in order; see [`records`].
#[derive(Debug)]
pub struct Records {
    reader: RecordReader,
    page: std::vec::IntoIter<FileRecord>,
}

impl Iterator for Records {
    type Item = Result<FileRecord>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(record) = self.page.next() {
                return Some(Ok(record));
            }
            match self.reader.next_page() {
                Ok(Some(page)) => self.page = page.records.into_iter(),
                Ok(None) => return None,
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;

    fn write(suffix: &str, content: &[u8]) -> tempfile::NamedTempFile {
        let mut file = tempfile::Builder::new().suffix(suffix).tempfile().unwrap();
        if suffix.ends_with(".gz") {
            // Two members, as `cat a.gz b.gz` makes them.
            for part in [&content[..content.len() / 2], &content[content.len() / 2..]] {
                let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                gzip.write_all(part).unwrap();
                file.write_all(&gzip.finish().unwrap()).unwrap();
            }
        } else {
            file.write_all(content).unwrap();
        }
        file
    }

    fn all(path: &Path, offset: u64) -> Vec<FileRecord> {
        let mut reader = RecordReader::open(path, offset).unwrap();
        let (mut position, mut found) = (offset, Vec::new());
        while let Some(page) = reader.next_page().unwrap() {
            assert_eq!(page.from, position, "pages meet");
            let mut last = page.from;
            for record in &page.records {
                assert!(record.end > last && record.end <= page.to);
                last = record.end;
            }
            position = page.to;
            found.extend(page.records);
        }
        found
    }

    /// Text with all that CSV makes special, and with lines long enough to be cut at chunk ends.
    fn content() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            8 => prop_oneof![Just("a,b"), Just("\"q,\"\"q\""), Just("1,2,3"), Just(""), Just("{\"k\":1}"), Just("\"")]
                .prop_map(|text| text.as_bytes().to_vec()),
            6 => prop_oneof![Just("\n"), Just("\r\n"), Just("\n\n"), Just("\r"), Just(","), Just(" ")]
                .prop_map(|text| text.as_bytes().to_vec()),
            1 => (300_000..700_000_usize).prop_map(|length| vec![b'x'; length]),
        ];
        prop::collection::vec(piece, 0..24).prop_map(|pieces| {
            let mut content = b"h,i\n".to_vec();
            content.extend(pieces.concat());
            content
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn resuming_at_any_record_gives_the_rest(content in content(), at in any::<prop::sample::Index>()) {
            for suffix in [".csv", ".ndjson", ".csv.gz", ".ndjson.gz"] {
                let file = write(suffix, &content);
                let whole = all(file.path(), 0);
                if !whole.is_empty() {
                    let at = at.index(whole.len());
                    prop_assert_eq!(&all(file.path(), whole[at].end)[..], &whole[at + 1..], "{} after {}", suffix, at);
                }
            }
        }

        #[test]
        fn compression_changes_nothing(content in content()) {
            for suffix in [".csv", ".ndjson"] {
                let plain = all(write(suffix, &content).path(), 0);
                let compressed = all(write(&format!("{suffix}.gz"), &content).path(), 0);
                prop_assert_eq!(plain, compressed);
            }
        }

        #[test]
        fn no_line_is_lost(content in content()) {
            let found = all(write(".ndjson", &content).path(), 0);
            let lines = content.split(|&byte| byte == b'\n').filter(|line| !line.trim_ascii().is_empty());
            let lines: Vec<&[u8]> = lines.map(<[u8]>::trim_ascii_end).collect();
            prop_assert_eq!(found.iter().map(|record| record.data.as_ref()).collect::<Vec<_>>(), lines);
        }
    }

    #[test]
    fn a_file_that_shrank_is_broken() {
        for suffix in [".ndjson", ".ndjson.gz"] {
            let file = write(suffix, b"1\n2\n");
            assert!(matches!(RecordReader::open(file.path(), 5), Err(crate::Error::Broken(_))));
            assert!(all(file.path(), 4).is_empty());
        }
    }

    #[test]
    fn damaged_compression_is_an_error() {
        let file = write(".ndjson.gz", b"1\n2\n");
        let mut bytes = std::fs::read(file.path()).unwrap();
        bytes.truncate(bytes.len() - 6);
        std::fs::write(file.path(), bytes).unwrap();
        let results: Vec<_> = records(file.path()).unwrap().take(5).collect();
        assert!(matches!(results.last(), Some(Err(crate::Error::External { .. }))), "{results:?}");
    }
}
