//! Rows of comma-separated values become JSON objects: header names, every value a string.
//!
//! The one law: a row that does not fit the header is handed over as the text it is, and only that line of it. A stray
//! quote that swallows the lines after it costs its own line, not theirs.

use std::path::Path;

use bytes::Bytes;
use csv::{ByteRecord, ReaderBuilder};

use super::content::Content;
use super::format::FileFormat;
use super::reader::{FileRecord, RecordPage};
use super::{CHUNK_BYTES, LINE_BYTES_MAX, PAGE_RECORDS_MAX};
use crate::error::{Error, Result};

/// Names of a first column that numbers the rows of a file and says nothing about what happened: none, as pandas writes its
/// index, or `id`.
const INDEX_COLUMNS: [&[u8]; 2] = [b"", b"id"];

/// Reads the rows below a header.
pub(super) struct CsvReader {
    content: Content,
    /// One a column: `"name":`, or nothing for a column that is left out.
    keys: Vec<Option<Vec<u8>>>,
    row: ByteRecord,
}

/// What one pass over the buffered bytes gave.
#[derive(Default)]
struct Parsed {
    consumed: usize,
    json: Vec<u8>,
    /// Of each record: where its line ends in the bytes parsed, where its data ends in `json`.
    ends: Vec<(usize, usize)>,
}

impl CsvReader {
    /// Opens the file after `offset`; the header is read from the front in any case.
    pub fn open(path: &Path, format: FileFormat, offset: u64) -> Result<Self> {
        let mut content = Content::open(path, format, 0)?;
        let mut row = ByteRecord::new();
        let header_bytes = read_header(&mut content, path, &mut row)?;
        content.skip(header_bytes);
        let is_index = |(place, name): (usize, &[u8])| place == 0 && INDEX_COLUMNS.contains(&name);
        let keys = row.iter().enumerate().map(|(at, name)| (!is_index((at, name))).then(|| key(name))).collect();
        if offset > content.offset() {
            content = Content::open(path, format, offset)?;
        }
        Ok(Self { content, keys, row })
    }

    /// The next records, `None` at the end. The first page begins at the file's front, before the header.
    pub fn next_page(&mut self) -> Result<Option<RecordPage>> {
        // One byte more than is parsed tells whether what is parsed is the last.
        self.content.fill(CHUNK_BYTES + 1)?;
        let from = self.content.offset();
        let buffered = self.content.buffered();
        if buffered.is_empty() {
            return Ok(None);
        }
        let bytes = &buffered[..buffered.len().min(CHUNK_BYTES)];
        let last = self.content.at_end() && bytes.len() == buffered.len();
        let parsed = parse(&self.keys, &mut self.row, bytes, last);
        if parsed.consumed == 0 {
            return self.take_line().map(Some);
        }
        self.content.skip(parsed.consumed);
        let json = Bytes::from(parsed.json);
        let mut start = 0;
        let records = parsed.ends.into_iter().map(|(line_end, json_end)| {
            let data = json.slice(start..json_end);
            start = json_end;
            FileRecord { end: from + line_end as u64, data }
        });
        Ok(Some(RecordPage { from, records: records.collect(), to: self.content.offset() }))
    }

    /// The first line as it is: it begins a record longer than any may be.
    fn take_line(&mut self) -> Result<RecordPage> {
        let from = self.content.offset();
        let data = loop {
            let buffered = self.content.buffered();
            let line_end = memchr::memchr(b'\n', buffered).map(|newline| newline + 1);
            let line_end = line_end.or(self.content.at_end().then_some(buffered.len()));
            if let Some(line_end) = line_end {
                let line = self.content.take(line_end);
                break line.slice(..line.trim_ascii_end().len());
            }
            if buffered.len() >= LINE_BYTES_MAX {
                break self.content.take_head_of_line()?;
            }
            let doubled = (buffered.len() * 2).min(LINE_BYTES_MAX);
            self.content.fill(doubled)?;
        };
        let to = self.content.offset();
        Ok(RecordPage { from, to, records: vec![FileRecord { end: to, data }] })
    }
}

/// Reads the header into `row` and tells its length with its line end.
fn read_header(content: &mut Content, path: &Path, row: &mut ByteRecord) -> Result<usize> {
    content.fill(CHUNK_BYTES)?;
    let mut reader = ReaderBuilder::new().has_headers(false).flexible(true).from_reader(content.buffered());
    let found = reader.read_byte_record(row).unwrap_or(false);
    let end = record_end(content.buffered(), &reader, 0);
    if found && end == content.buffered().len() && !content.at_end() {
        let message = format!("`{}`: the first line is longer than a header may be", path.display());
        return Err(Error::usage(message));
    }
    Ok(end)
}

/// Parses rows from the front of `bytes`; an unfinished one at their end stays unless they are the `last`.
fn parse(keys: &[Option<Vec<u8>>], row: &mut ByteRecord, bytes: &[u8], last: bool) -> Parsed {
    let mut parsed = Parsed { json: Vec::with_capacity(bytes.len() * 2), ..Parsed::default() };
    while parsed.consumed < bytes.len() && parsed.ends.len() < PAGE_RECORDS_MAX {
        if !parse_until_misfit(keys, row, bytes, last, &mut parsed) {
            break;
        }
    }
    parsed
}

/// Parses rows until one does not fit the header: of that one only the first line is taken, and what follows must be
/// parsed anew (`true`). `false` when there is nothing more to parse.
fn parse_until_misfit(
    keys: &[Option<Vec<u8>>],
    row: &mut ByteRecord,
    bytes: &[u8],
    last: bool,
    parsed: &mut Parsed,
) -> bool {
    let base = parsed.consumed;
    let mut reader = ReaderBuilder::new().has_headers(false).flexible(true).from_reader(&bytes[base..]);
    while parsed.ends.len() < PAGE_RECORDS_MAX {
        // Reading from memory with any number of fields allowed cannot fail.
        if !reader.read_byte_record(row).unwrap_or(false) {
            parsed.consumed = bytes.len();
            return false;
        }
        let end = record_end(bytes, &reader, base);
        if end == bytes.len() && !last {
            return false;
        }
        let text = without_blank_lines(&bytes[parsed.consumed..end]);
        let spans_lines = memchr::memchr(b'\n', text).is_some_and(|newline| newline + 1 < text.len());
        let quote_is_open = spans_lines && memchr::memchr_iter(b'"', text).count() % 2 == 1;
        if row.len() == keys.len() && !quote_is_open {
            write_object(keys, row, &mut parsed.json);
            parsed.consumed = end;
            parsed.ends.push((end, parsed.json.len()));
            continue;
        }
        let line_end = memchr::memchr(b'\n', text).map_or(text.len(), |newline| newline + 1);
        parsed.json.extend_from_slice(text[..line_end].trim_ascii_end());
        parsed.consumed = end - text.len() + line_end;
        parsed.ends.push((parsed.consumed, parsed.json.len()));
        if line_end < text.len() {
            return true;
        }
    }
    false
}

/// Where the record just read ends, its line end included: the parser stops between CR and LF.
fn record_end(bytes: &[u8], reader: &csv::Reader<&[u8]>, base: usize) -> usize {
    let end = base + usize::try_from(reader.position().byte()).unwrap_or(usize::MAX - base);
    let splits_line_end = end > 0 && end < bytes.len() && bytes[end - 1] == b'\r' && bytes[end] == b'\n';
    end + usize::from(splits_line_end)
}

/// The row's own text: the parser passes over the blank lines before it.
fn without_blank_lines(text: &[u8]) -> &[u8] {
    let blank = text.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
    &text[blank..]
}

/// `"name":` as JSON.
fn key(name: &[u8]) -> Vec<u8> {
    let mut key = Vec::new();
    write_string(name, &mut key);
    key.push(b':');
    key
}

/// Writes the row as one JSON object.
fn write_object(keys: &[Option<Vec<u8>>], row: &ByteRecord, json: &mut Vec<u8>) {
    let mut separator = b'{';
    for (key, value) in keys.iter().zip(row) {
        let Some(key) = key else { continue };
        json.push(separator);
        json.extend_from_slice(key);
        write_string(value, json);
        separator = b',';
    }
    if separator == b'{' {
        json.push(b'{');
    }
    json.push(b'}');
}

/// Writes a JSON string. Bytes that are no UTF-8 stay as they are, for the decoder to refuse.
fn write_string(text: &[u8], json: &mut Vec<u8>) {
    json.push(b'"');
    if text.iter().all(|&byte| byte >= b' ' && byte != b'"' && byte != b'\\') {
        json.extend_from_slice(text);
    } else {
        for &byte in text {
            match byte {
                b'"' | b'\\' => json.extend_from_slice(&[b'\\', byte]),
                b'\n' => json.extend_from_slice(b"\\n"),
                b'\r' => json.extend_from_slice(b"\\r"),
                b'\t' => json.extend_from_slice(b"\\t"),
                0..b' ' => json.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
                _ => json.push(byte),
            }
        }
    }
    json.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::super::{LINE_BYTES_MAX, RECORD_BYTES_MAX, records};

    fn read(csv: impl AsRef<[u8]>) -> Vec<(u64, String)> {
        let file = tempfile::Builder::new().suffix(".csv").tempfile().unwrap();
        std::fs::write(file.path(), csv).unwrap();
        let text = |data: &[u8]| String::from_utf8_lossy(data).into_owned();
        records(file.path()).unwrap().map(|r| r.map(|r| (r.end, text(&r.data))).unwrap()).collect()
    }

    fn data(csv: impl AsRef<[u8]>) -> Vec<String> {
        read(csv).into_iter().map(|(_, data)| data).collect()
    }

    #[test]
    fn quirks() {
        let table: [(&str, &str, &[&str]); 16] = [
            (
                "the data set's own form",
                ",t,m\r\n0,1,\"a, b\"\r\n1,2,c\r\n",
                &[r#"{"t":"1","m":"a, b"}"#, r#"{"t":"2","m":"c"}"#],
            ),
            ("first column named id", "id,t\n7,1\n", &[r#"{"t":"1"}"#]),
            ("an index alone", "id\n7\n", &["{}"]),
            ("no last line end", "t,m\n1,2", &[r#"{"t":"1","m":"2"}"#]),
            ("only a header", "t,m\r\n", &[]),
            ("nothing", "", &[]),
            ("blank lines", "\r\n\nt\r\n\r\n1\n\n\n2\r\n\r\n", &[r#"{"t":"1"}"#, r#"{"t":"2"}"#]),
            ("byte order mark", "\u{feff}t\n1\n", &[r#"{"t":"1"}"#]),
            ("quotes, backslash, tab", "t\n\"a\"\"b\\\tc\"\n", &[r#"{"t":"a\"b\\\tc"}"#]),
            ("control bytes", "t\n\u{1}\u{1f}\n", &[r#"{"t":"\u0001\u001f"}"#]),
            ("a line end in quotes", "t,m\n\"a\nb\",1\n2,3\n", &[r#"{"t":"a\nb","m":"1"}"#, r#"{"t":"2","m":"3"}"#]),
            ("too few and too many", "t,m\n1\n1,2,3\n4,5\n", &["1", "1,2,3", r#"{"t":"4","m":"5"}"#]),
            ("empty values", "t,m\n,\n", &[r#"{"t":"","m":""}"#]),
            (
                "a quote never closed",
                "t,m\n1,\"x\n2,3\n4,5\n",
                &["1,\"x", r#"{"t":"2","m":"3"}"#, r#"{"t":"4","m":"5"}"#],
            ),
            (
                "a stray quote closed lines later",
                "t,m\n\"x\n2,3\n4,\"y,z\"\n",
                &["\"x", r#"{"t":"2","m":"3"}"#, r#"{"t":"4","m":"y,z"}"#],
            ),
            ("not ASCII", "t\nMäé\n", &[r#"{"t":"Mäé"}"#]),
        ];
        for (what, csv, expected) in table {
            assert_eq!(data(csv), expected, "{what}");
        }
    }

    #[test]
    fn offsets_are_line_ends() {
        let csv = ",t\r\n0,\"a\"\r\n\r\n1,b\r\nshort\r\n2,c";
        let ends: Vec<usize> = read(csv).into_iter().map(|(end, _)| usize::try_from(end).unwrap()).collect();
        let after = |text: &str| csv.find(text).unwrap() + text.len();
        assert_eq!(ends, [after("\"a\"\r\n"), after("1,b\r\n"), after("short\r\n"), csv.len()]);
    }

    #[test]
    fn bytes_that_are_no_utf8_pass() {
        let file = tempfile::Builder::new().suffix(".csv").tempfile().unwrap();
        std::fs::write(file.path(), b"t\n\xff\xfe\n").unwrap();
        let record = records(file.path()).unwrap().next().unwrap().unwrap();
        assert_eq!(record.data.as_ref(), b"{\"t\":\"\xff\xfe\"}");
    }

    #[test]
    fn an_open_quote_in_a_large_file_costs_one_line() {
        let rows = 600_000;
        let mut csv = String::from("t,m\n1,\"open\n");
        for row in 0..rows {
            csv.push_str(&format!("{row},x\n"));
        }
        assert!(csv.len() > 4 * RECORD_BYTES_MAX);
        let found = data(&csv);
        assert_eq!(found.len(), rows + 1);
        assert_eq!(found[0], "1,\"open");
        assert_eq!(found[rows], format!("{{\"t\":\"{}\",\"m\":\"x\"}}", rows - 1));
    }

    #[test]
    fn long_lines_stay_bounded() {
        let whole = "y".repeat(3 * RECORD_BYTES_MAX);
        let too_long = "x".repeat(LINE_BYTES_MAX + 100);
        for tail in ["", "\n", "\n9\n"] {
            let csv = format!("t\n1\n{whole}\n{too_long}{tail}");
            let found = read(&csv);
            assert_eq!(found[0].1, r#"{"t":"1"}"#);
            assert_eq!(found[1].1, whole);
            assert_eq!(found[2].1.len(), RECORD_BYTES_MAX + 1);
            assert_eq!(found.len(), if tail.len() > 1 { 4 } else { 3 }, "{tail:?}");
            assert_eq!(found.last().unwrap().0, csv.len() as u64, "{tail:?}");
        }
    }

    #[test]
    fn a_header_without_end_is_refused() {
        let file = tempfile::Builder::new().suffix(".csv").tempfile().unwrap();
        std::fs::write(file.path(), "x".repeat(2 * RECORD_BYTES_MAX)).unwrap();
        assert!(matches!(records(file.path()), Err(crate::Error::Usage(_))));
    }
}
