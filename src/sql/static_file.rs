//! Static files beside the queries: `JOIN 'lookups/risk.csv' r ON …`.
//!
//! The one law: a file is read once, when the query that names it is planned, and is known by its content: another
//! content is another query. CSV (with a header), JSON lines (`.ndjson`, `.jsonl`, `.json`) and Parquet.
//!
//! A CSV column has the narrowest of BOOLEAN, BIGINT, DECIMAL, DOUBLE, DATE and TIMESTAMP (UTC) that fits all its values;
//! digits with a leading zero are text, because a ZIP code is no number.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, StringArray};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::record_batch::RecordBatch;
use arrow::util::display::FormatOptions;
use bytes::Bytes;
use datafusion::sql::sqlparser::ast::{Ident, ObjectName, TableAlias, TableFactor, VisitMut};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use sha2::{Digest, Sha256};

use super::catalog::single;
use super::place::{Refusal, nearest};
use crate::contract::timestamp_type;
use crate::syntax::{Change, change};

/// Largest static file: it is held in memory by every query that names it, and reviewed by people. More is a table.
const FILE_BYTES_MAX: u64 = 64 << 20;
/// How the names of files among tables begin.
pub(super) const FILE_PREFIX: &str = "__file_";
/// Digits of its hash in a file's name among tables: no two files of a folder share 64 bits.
const HASH_DIGITS: usize = 16;
/// Digits of the longest decimal.
const DECIMAL_DIGITS_MAX: usize = 38;

/// A file's rows, under the name that statements call it by once [`take_files`] has read it.
#[derive(Debug)]
pub(super) struct StaticFile {
    pub(super) name: Arc<str>,
    /// What the statement calls it.
    pub(super) written: String,
    pub(super) schema: SchemaRef,
    pub(super) rows: Vec<RecordBatch>,
}

/// Reads the files a statement names (relative to `folder`) and puts the names of their contents in their place.
pub(super) fn take_files(statement: &mut impl VisitMut, folder: &Path) -> Result<Vec<Arc<StaticFile>>, Refusal> {
    let mut take = Take { folder, files: Vec::new() };
    match change(statement, &mut take) {
        ControlFlow::Continue(()) => Ok(take.files),
        ControlFlow::Break(refusal) => Err(refusal),
    }
}

struct Take<'a> {
    folder: &'a Path,
    files: Vec<Arc<StaticFile>>,
}

impl Change for Take<'_> {
    type Break = Refusal;

    fn table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<Refusal> {
        let TableFactor::Table { name, alias, args: None, .. } = factor else { return ControlFlow::Continue(()) };
        let Some(quoted) = single(name).filter(|ident| ident.quote_style == Some('\'')).cloned() else {
            return ControlFlow::Continue(());
        };
        // The parser keeps no position of a quoted name; the next best is that of its alias.
        let at = alias.as_ref().map_or(quoted.span, |alias| alias.name.span);
        match StaticFile::read(self.folder, &quoted.value) {
            Ok(file) => {
                *name = ObjectName::from(vec![Ident::with_span(at, file.name.as_ref())]);
                let stem =
                    Path::new(&quoted.value).file_stem().map_or_else(String::new, |s| s.to_string_lossy().into());
                alias.get_or_insert_with(|| TableAlias {
                    explicit: true,
                    name: Ident::with_span(at, stem),
                    columns: Vec::new(),
                    at: None,
                });
                self.files.push(Arc::new(file));
                ControlFlow::Continue(())
            }
            Err(why) => {
                let refusal = Refusal::new(at, format!("the file `{}` {why}", quoted.value));
                let beside = names_beside(self.folder, &quoted.value);
                let near = nearest(&quoted.value, beside.iter().map(String::as_str));
                ControlFlow::Break(match near.filter(|_| !self.folder.join(&quoted.value).exists()) {
                    Some(near) => refusal.near(&quoted.value, [near]),
                    None => refusal,
                })
            }
        }
    }
}

/// Files in the folder where `written` was looked for, as one would write them; none where there is no such folder.
fn names_beside(folder: &Path, written: &str) -> Vec<String> {
    let within = Path::new(written).parent().unwrap_or(Path::new(""));
    let entries = fs::read_dir(folder.join(within)).into_iter().flatten().flatten();
    entries.map(|entry| within.join(entry.file_name()).display().to_string()).collect()
}

impl StaticFile {
    /// Reads a file below a folder, wherever links lead; an error is how a sentence about it ends.
    fn read(folder: &Path, written: &str) -> Result<Self, String> {
        let unread = |error: std::io::Error| format!("cannot be read beside the queries: {error}");
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        let (folder, path) = (folder.canonicalize().map_err(unread)?, folder.join(written));
        let path = path.canonicalize().map_err(unread)?;
        if !path.starts_with(&folder) {
            return Err("is not below the folder of the query: move it there, or make it a table of the lake".into());
        }
        let size = fs::metadata(&path).map_err(unread)?.len();
        if size > FILE_BYTES_MAX {
            return Err(format!(
                "has {size} bytes, a static file at most {FILE_BYTES_MAX}: make it a table of the lake"
            ));
        }
        let bytes = fs::read(&path).map_err(unread)?;
        let hash = hex::encode(Sha256::digest(&bytes));
        let extension = path.extension().map(|e| e.to_string_lossy().to_lowercase()).unwrap_or_default();
        let (schema, rows) = match extension.as_str() {
            "csv" => csv_rows(&bytes)?,
            "ndjson" | "jsonl" | "json" => json_rows(&bytes)?,
            "parquet" => parquet_rows(bytes)?,
            _ => return Err("is neither `.csv`, `.ndjson` nor `.parquet`: name it by what it is".into()),
        };
        let name = format!("{FILE_PREFIX}{}", &hash[..HASH_DIGITS]).into();
        let rows = rows.iter().map(|batch| in_lake_types(batch, &schema)).collect::<Result<_, _>>()?;
        Ok(Self { name, written: written.to_owned(), schema: lake_schema(&schema), rows })
    }
}

fn csv_rows(bytes: &[u8]) -> Result<(SchemaRef, Vec<RecordBatch>), String> {
    let mut reader = csv::Reader::from_reader(bytes);
    let headers = reader.headers().map_err(|e| format!("has no header: {e}"))?.clone();
    let mut columns: Vec<Vec<Option<String>>> = vec![Vec::new(); headers.len()];
    for record in reader.records() {
        let record = record.map_err(|e| format!("is no CSV: {e}"))?;
        for (column, value) in columns.iter_mut().zip(&record) {
            column.push((!value.is_empty()).then(|| value.to_owned()));
        }
    }
    let arrays = columns.iter().map(|column| narrowest(column)).collect::<Result<Vec<ArrayRef>, String>>()?;
    let fields =
        headers.iter().zip(&arrays).map(|(name, array)| Field::new(name.trim(), array.data_type().clone(), true));
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let rows = RecordBatch::try_new(Arc::clone(&schema), arrays).map_err(|e| format!("is no CSV: {e}"))?;
    Ok((schema, vec![rows]))
}

/// A column in the narrowest type that fits every value.
fn narrowest(values: &[Option<String>]) -> Result<ArrayRef, String> {
    let known: Vec<&str> = values.iter().flatten().map(String::as_str).collect();
    let data_type = match () {
        () if known.is_empty() => DataType::Utf8,
        () if known.iter().all(|v| ["true", "false"].contains(&v.to_lowercase().as_str())) => DataType::Boolean,
        () => number_type(&known).or_else(|| time_type(&known)).unwrap_or(DataType::Utf8),
    };
    let text: ArrayRef = Arc::new(StringArray::from_iter(values.iter().map(Option::as_deref)));
    typed(&text, &data_type)
}

fn number_type(values: &[&str]) -> Option<DataType> {
    let (mut whole_max, mut scale_max, mut is_float) = (0, 0, false);
    for value in values {
        let digits = value.strip_prefix('-').unwrap_or(value);
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        if is_digits(whole) && whole.len() > 1 && whole.starts_with('0') {
            return None;
        }
        let is_exact = is_digits(whole) && (is_digits(fraction) || !digits.contains('.'));
        if !is_exact {
            // `inf` and `nan` are words before they are numbers.
            let is_number =
                digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') && value.parse::<f64>().is_ok();
            if !is_number {
                return None;
            }
            is_float = true;
        }
        (whole_max, scale_max) = (whole_max.max(whole.len()), scale_max.max(fraction.len()));
    }
    let digits = whole_max + scale_max;
    Some(match (u8::try_from(digits), i8::try_from(scale_max)) {
        (Ok(_), Ok(0)) if !is_float && whole_max <= 18 => DataType::Int64,
        (Ok(precision), Ok(scale)) if !is_float && digits <= DECIMAL_DIGITS_MAX => {
            DataType::Decimal128(precision, scale)
        }
        _ => DataType::Float64,
    })
}

fn time_type(values: &[&str]) -> Option<DataType> {
    let shape = |value: &str| value.bytes().map(|b| if b.is_ascii_digit() { b'0' } else { b }).collect::<Vec<_>>();
    let date = b"0000-00-00";
    let is_time = |value: &str| {
        let shape = shape(value);
        shape.len() >= 19
            && shape.starts_with(date)
            && matches!(shape[10], b'T' | b' ')
            && &shape[11..19] == b"00:00:00"
    };
    match () {
        () if values.iter().all(|value| shape(value) == date) => Some(DataType::Date32),
        () if values.iter().all(|value| is_time(value)) => Some(timestamp_type()),
        () => None,
    }
}

fn json_rows(bytes: &[u8]) -> Result<(SchemaRef, Vec<RecordBatch>), String> {
    let wrong = |e| format!("is no JSON lines: {e}");
    let (schema, _) = arrow::json::reader::infer_json_schema(bytes, None).map_err(wrong)?;
    let schema = Arc::new(schema);
    let reader = arrow::json::ReaderBuilder::new(Arc::clone(&schema)).build(bytes).map_err(wrong)?;
    Ok((schema, reader.collect::<Result<_, _>>().map_err(wrong)?))
}

fn parquet_rows(bytes: Vec<u8>) -> Result<(SchemaRef, Vec<RecordBatch>), String> {
    let builder =
        ParquetRecordBatchReaderBuilder::try_new(Bytes::from(bytes)).map_err(|e| format!("is no Parquet: {e}"))?;
    let schema = Arc::clone(builder.schema());
    let rows = builder.build().map_err(|e| format!("is no Parquet: {e}"))?;
    Ok((schema, rows.collect::<Result<_, _>>().map_err(|e| format!("is no Parquet: {e}"))?))
}

/// Columns as the lake has them: plain strings, UTC microseconds, every column nullable.
fn lake_schema(schema: &SchemaRef) -> SchemaRef {
    let field = |field: &Arc<Field>| {
        let data_type = match field.data_type() {
            DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8,
            DataType::Timestamp(
                TimeUnit::Second | TimeUnit::Millisecond | TimeUnit::Microsecond | TimeUnit::Nanosecond,
                _,
            ) => timestamp_type(),
            other => other.clone(),
        };
        Field::new(field.name(), data_type, true)
    };
    Arc::new(Schema::new(schema.fields().iter().map(field).collect::<Vec<_>>()))
}

fn in_lake_types(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, String> {
    let schema = lake_schema(schema);
    let columns = batch.columns().iter().zip(schema.fields()).map(|(column, field)| typed(column, field.data_type()));
    let columns = columns.collect::<Result<_, _>>()?;
    RecordBatch::try_new(schema, columns).map_err(|e| format!("cannot be read: {e}"))
}

fn typed(column: &ArrayRef, data_type: &DataType) -> Result<ArrayRef, String> {
    let strict = CastOptions { safe: false, format_options: FormatOptions::new() };
    cast_with_options(column, data_type, &strict).map_err(|e| format!("has a value that cannot be read: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn types(csv: &str) -> Vec<String> {
        let (schema, _) = csv_rows(csv.as_bytes()).unwrap();
        schema.fields().iter().map(|field| field.data_type().to_string()).collect()
    }

    #[test]
    fn a_column_has_the_narrowest_type_that_loses_nothing() {
        let csv = "zip,n,money,float,day,at,yes,word,none\n01257,12,1.50,1e3,2020-01-02,2020-01-02T03:04:05Z,true,a,\n29801,-7,-0.125,2,2020-01-03,2020-01-02 03:04:06,false,7,\n";
        assert_eq!(
            types(csv),
            [
                "Utf8",
                "Int64",
                "Decimal128(4, 3)",
                "Float64",
                "Date32",
                "Timestamp(µs, \"UTC\")",
                "Boolean",
                "Utf8",
                "Utf8"
            ]
        );
        assert_eq!(types("a\n0\n10\n"), ["Int64"]);
        assert_eq!(types("a\n-\n1\n"), ["Utf8"]);
        assert_eq!(types("a\n1234567890123456789\n"), ["Decimal128(19, 0)"]);
    }

    #[test]
    fn a_file_is_known_by_its_content_and_what_is_wrong_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            fs::write(folder.path().join(name), text).unwrap();
            StaticFile::read(folder.path(), name)
        };
        let (one, other) = (write("a.csv", "x\n1\n").unwrap(), write("b.csv", "x\n2\n").unwrap());
        assert_ne!(one.name, other.name);
        assert_eq!(write("c.csv", "x\n1\n").unwrap().name, one.name);
        let lines =
            write("a.ndjson", "{\"state\": \"SC\", \"risk\": 3}\n{\"state\": \"NC\", \"risk\": null}\n").unwrap();
        assert_eq!((lines.rows[0].num_rows(), lines.schema.fields().len()), (2, 2));
        assert!(write("a.csv", "x,y\n1\n").unwrap_err().starts_with("is no CSV"));
        assert!(write("a.txt", "x").unwrap_err().contains("name it by what it is"));
        assert!(write("a.parquet", "x").unwrap_err().starts_with("is no Parquet"));
        assert!(StaticFile::read(folder.path(), "none.csv").unwrap_err().starts_with("cannot be read beside"));
    }

    #[test]
    fn a_file_stays_below_the_folder_of_its_query() {
        let outside = tempfile::tempdir().unwrap();
        let folder = outside.path().join("queries");
        fs::create_dir_all(folder.join("lookups")).unwrap();
        for path in [outside.path().join("secret.csv"), folder.join("lookups/own.csv")] {
            fs::write(path, "x\n1\n").unwrap();
        }
        let absolute = |path: &Path| path.to_str().unwrap().to_owned();
        for written in ["lookups/own.csv", "lookups/../lookups/own.csv", &absolute(&folder.join("lookups/own.csv"))] {
            assert!(StaticFile::read(&folder, written).is_ok(), "{written}");
        }
        let link = folder.join("link.csv");
        std::os::unix::fs::symlink(outside.path().join("secret.csv"), &link).unwrap();
        let escapes =
            ["../secret.csv", "lookups/../../secret.csv", &absolute(&outside.path().join("secret.csv")), "link.csv"];
        for written in escapes {
            let why = StaticFile::read(&folder, written).unwrap_err();
            assert!(why.starts_with("is not below the folder of the query"), "{written}: {why}");
        }
    }
}
