//! Simulated transactions as a file, in the data set's own format and order.
//!
//! The one law: rows stand in the order of simulated time (`unix_time`), and memory is one day's rows however long the
//! file. A file that starts later holds exactly the later rows of one that starts earlier.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use chrono::NaiveDate;
use flate2::Compression;
use flate2::write::GzEncoder;

use super::calendar::{DAYS, SHARED_LABEL, first_day_labelled};
use super::days::DaysOfRows;
use super::purchase::World;
use super::row::{Card, HEADER, SimulatedRow};
use crate::error::{Context, Error, Result};
use crate::files::{FileFormat, Lines};

/// Bytes gathered before they are written.
const BUFFER_BYTES: usize = 1 << 20;

/// Rows of those two days by a thousand cards, from below: what decides how many cards a file of them needs.
const SHARED_LABEL_ROWS_PER_THOUSAND_CARDS: usize = 2_500;

/// What to write.
#[derive(Clone, Debug)]
pub struct FileSpec {
    /// The first so many rows. There are about 1.85 million a thousand cards.
    pub rows: u64,
    pub seed: u64,
    pub cards: usize,
    /// First date of the rows' text, within 2019 and 2020.
    pub from: NaiveDate,
}

impl FileSpec {
    /// The first `rows` rows of a thousand card holders, from 2019-01-01 on.
    pub fn new(rows: u64, seed: u64) -> Self {
        Self { rows, seed, cards: 1_000, from: NaiveDate::from_ymd_opt(2019, 1, 1).unwrap_or_default() }
    }
}

/// What was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WrittenFile {
    /// Fewer than asked for when the two years hold no more.
    pub rows: u64,
    pub frauds: u64,
}

/// Writes a file of simulated transactions; its name's extension says how: csv, csv.gz, ndjson, ndjson.gz.
///
/// # Errors
/// [`Error::Usage`] for another extension or a date outside the two years, [`Error::External`] when writing fails.
pub fn write_file(path: &Path, spec: &FileSpec) -> Result<WrittenFile> {
    let world = World::new(spec.seed, spec.cards);
    let first = first_day_labelled(spec.from)
        .ok_or_else(|| Error::usage(format!("no simulated day from {} on: the years are 2019 and 2020", spec.from)))?;
    let mut writer = RowWriter::create(path, &world)?;
    for rows in DaysOfRows::new(&world, spec.seed, first, DAYS) {
        for row in rows {
            if writer.written.rows == spec.rows {
                return writer.finish();
            }
            writer.write(&row)?;
        }
    }
    writer.finish()
}

/// Writes exactly `rows` rows of 2019-02-28, the label that two simulated days share: half-way the text jumps back by a
/// day while `unix_time` goes on.
///
/// # Errors
/// As [`write_file`].
pub fn write_back_jump(path: &Path, rows: u64, seed: u64) -> Result<WrittenFile> {
    let first = first_day_labelled(SHARED_LABEL).expect("2019 has a 28 February");
    let wanted = usize::try_from(rows).map_err(|_| Error::usage(format!("{rows} rows do not fit in memory")))?;
    let mut cards = wanted * 1_000 / SHARED_LABEL_ROWS_PER_THOUSAND_CARDS + 20;
    loop {
        let world = World::new(seed, cards);
        let all: Vec<SimulatedRow> = DaysOfRows::new(&world, seed, first, first + 2).flatten().collect();
        if all.len() < wanted {
            cards *= 2;
            continue;
        }
        let mut writer = RowWriter::create(path, &world)?;
        for (index, row) in all.iter().enumerate() {
            // Spread evenly over both days.
            if (index + 1) * wanted / all.len() > index * wanted / all.len() {
                writer.write(row)?;
            }
        }
        return writer.finish();
    }
}

/// A file being written.
struct RowWriter<'a> {
    world: &'a World,
    path: &'a Path,
    lines: Lines,
    output: Output,
    line: Vec<u8>,
    written: WrittenFile,
}

enum Output {
    Plain(BufWriter<File>),
    Gzip(Box<GzEncoder<BufWriter<File>>>),
}

impl<'a> RowWriter<'a> {
    fn create(path: &'a Path, world: &'a World) -> Result<Self> {
        let format = FileFormat::of(path)?;
        let file = File::create(path).context(|| format!("create `{}`", path.display()))?;
        let file = BufWriter::with_capacity(BUFFER_BYTES, file);
        let output = if format.gzip {
            Output::Gzip(Box::new(GzEncoder::new(file, Compression::default())))
        } else {
            Output::Plain(file)
        };
        let mut writer =
            Self { world, path, lines: format.lines, output, line: Vec::new(), written: WrittenFile::default() };
        if writer.lines == Lines::Csv {
            writer.line.extend_from_slice(HEADER.as_bytes());
            writer.flush_line()?;
        }
        Ok(writer)
    }

    fn write(&mut self, row: &SimulatedRow) -> Result<()> {
        match self.lines {
            Lines::Csv => row.write_csv(self.world, self.written.rows, &mut self.line),
            Lines::Ndjson => {
                row.write_json(self.world, Card::Number, &mut self.line);
                self.line.push(b'\n');
            }
        }
        self.written.rows += 1;
        self.written.frauds += u64::from(row.is_fraud());
        self.flush_line()
    }

    fn flush_line(&mut self) -> Result<()> {
        let result = match &mut self.output {
            Output::Plain(file) => file.write_all(&self.line),
            Output::Gzip(file) => file.write_all(&self.line),
        };
        self.line.clear();
        result.context(|| format!("write `{}`", self.path.display()))
    }

    fn finish(self) -> Result<WrittenFile> {
        let result = match self.output {
            Output::Plain(mut file) => file.flush(),
            Output::Gzip(file) => file.finish().and_then(|mut file| file.flush()),
        };
        result.context(|| format!("write `{}`", self.path.display()))?;
        Ok(self.written)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::files::records;

    fn write(suffix: &str, spec: &FileSpec) -> (tempfile::NamedTempFile, WrittenFile) {
        let file = tempfile::Builder::new().suffix(suffix).tempfile().unwrap();
        let written = write_file(file.path(), spec).unwrap();
        (file, written)
    }

    fn objects(path: &Path) -> Vec<BTreeMap<String, String>> {
        let object = |json: &[u8]| -> BTreeMap<String, String> {
            let object: BTreeMap<String, Box<serde_json::value::RawValue>> = serde_json::from_slice(json).unwrap();
            object.into_iter().map(|(name, value)| (name, value.get().trim_matches('"').to_owned())).collect()
        };
        records(path).unwrap().map(|record| object(&record.unwrap().data)).collect()
    }

    #[test]
    fn all_formats_hold_the_same_rows() {
        let spec = FileSpec::new(3_000, 5);
        let (csv, written) = write(".csv", &spec);
        assert_eq!(written.rows, 3_000);
        let rows = objects(csv.path());
        assert_eq!(rows.len(), 3_000);
        assert_eq!(rows[0].len(), 22, "the index is left out");
        assert!(rows[0]["trans_date_trans_time"].starts_with("2019-01-01 0"));
        assert!(rows.iter().all(|row| row["merchant"].starts_with("fraud_") && !row["zip"].starts_with('0')));
        let frauds = rows.iter().filter(|row| row["is_fraud"] == "1").count();
        assert_eq!(frauds as u64, written.frauds);
        for suffix in [".csv.gz", ".ndjson", ".ndjson.gz"] {
            assert_eq!(objects(write(suffix, &spec).0.path()), rows, "{suffix}");
        }
    }

    #[test]
    fn the_csv_is_written_as_pandas_writes_it() {
        let (csv, _) = write(".csv", &FileSpec::new(2_000, 6));
        let bytes = std::fs::read(csv.path()).unwrap();
        assert!(bytes.starts_with(b",trans_date_trans_time,cc_num,merchant,category,amt,first,last,gender,street,"));
        // An independent writer with minimal quoting and CRLF makes the same bytes of the same fields.
        let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(bytes.as_slice());
        let mut again = csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(Vec::new());
        let mut quoted = 0;
        for (index, row) in reader.byte_records().enumerate() {
            let row = row.unwrap();
            assert_eq!(row.len(), 23);
            if index > 0 {
                assert_eq!(&row[0], (index - 1).to_string().as_bytes());
            }
            quoted += usize::from(row.iter().any(|field| field.contains(&b',')));
            again.write_byte_record(&row).unwrap();
        }
        assert_eq!(String::from_utf8(again.into_inner().unwrap()).unwrap(), String::from_utf8(bytes).unwrap());
        assert!((0.35..0.60).contains(&(quoted as f64 / 2_000.0)), "the data set quotes in 48 % of rows: {quoted}");
    }

    #[test]
    fn a_later_start_gives_the_later_rows() {
        let whole = FileSpec { cards: 50, ..FileSpec::new(u64::MAX, 5) };
        let late = FileSpec { from: NaiveDate::from_ymd_opt(2020, 12, 25).unwrap(), ..whole.clone() };
        let (rows, tail) = (objects(write(".ndjson", &whole).0.path()), objects(write(".ndjson", &late).0.path()));
        assert!(tail.len() > 100 && tail[0]["trans_date_trans_time"].starts_with("2020-12-25"));
        assert_eq!(rows[rows.len() - tail.len()..], tail);
        let never = FileSpec { from: NaiveDate::from_ymd_opt(2021, 1, 1).unwrap(), ..whole };
        let file = tempfile::Builder::new().suffix(".csv").tempfile().unwrap();
        assert!(matches!(write_file(file.path(), &never), Err(Error::Usage(_))));
    }

    #[test]
    fn the_text_jumps_back_by_a_day_once() {
        let file = tempfile::Builder::new().suffix(".csv").tempfile().unwrap();
        for rows in [100, 3_000] {
            assert_eq!(write_back_jump(file.path(), rows, 9).unwrap().rows, rows);
            let rows_ = objects(file.path());
            assert_eq!(rows_.len() as u64, rows);
            let seconds = |row: &BTreeMap<String, String>| -> i64 { row["unix_time"].parse().unwrap() };
            assert!(rows_.is_sorted_by_key(seconds));
            let texts: Vec<&String> = rows_.iter().map(|row| &row["trans_date_trans_time"]).collect();
            assert!(texts.iter().all(|text| text.starts_with("2019-02-28 ")));
            let back: Vec<usize> = (1..texts.len()).filter(|&index| texts[index] < texts[index - 1]).collect();
            assert_eq!(back.len(), 1, "{rows} rows");
            let (before, after) = (texts[back[0] - 1], texts[back[0]]);
            assert!(before > &"2019-02-28 21".to_owned() && after < &"2019-02-28 03".to_owned(), "{before} {after}");
            assert!((0.3..0.5).contains(&(back[0] as f64 / rows as f64)), "1,250 of 3,100 rows stand before it");
        }
    }

    #[test]
    fn the_seam_arises_in_a_file_that_covers_it() {
        let from = NaiveDate::from_ymd_opt(2019, 2, 27).unwrap();
        let rows = objects(write(".ndjson", &FileSpec { cards: 200, from, ..FileSpec::new(1_000, 1) }).0.path());
        let back = rows.windows(2).filter(|pair| pair[1]["trans_date_trans_time"] < pair[0]["trans_date_trans_time"]);
        assert_eq!(back.count(), 1);
    }
}
