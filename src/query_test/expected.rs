//! Expected rows: read from CSV in the table's own types, and written there when a case is blessed.
//!
//! The one law: a cell is compared as a value of its column's type, so `3.5` is `3.50` where money is declared, and what
//! is no value of that type is an error of the file, not a difference.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::util::display::{ArrayFormatter, FormatOptions};

use super::lives::Life;
use crate::error::{Context, Error, Result};

const EXPECTED: &str = "expected.csv";
/// Only where late rows make the batch answer another one than the stream's.
const EXPECTED_BATCH: &str = "expected.batch.csv";
/// How NULL is written; an empty cell is NULL too, but in a column of text, where it is the empty text.
const NULL: &str = "NULL";

/// A value that does not fit is an error, not NULL.
const STRICT: CastOptions<'static> = CastOptions { safe: false, format_options: FormatOptions::new() };

/// Rows as text, in columns with names; a row's cells stand in the columns' order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rows {
    pub columns: Vec<String>,
    /// Whether a column's numbers are floats, to be compared with a tolerance.
    pub floats: Vec<bool>,
    /// Sorted.
    pub rows: Vec<Vec<String>>,
}

/// Whether a file of this name in a case holds expected rows.
pub(super) fn is_expected(name: &str) -> bool {
    name == EXPECTED || name == EXPECTED_BATCH
}

/// The expected rows of one life; `None` when the case has none yet.
///
/// # Errors
/// [`Error::Usage`] naming file, line and column for what is no row of `schema`.
pub(super) fn read(folder: &Path, life: Life, schema: &SchemaRef) -> Result<Option<Rows>> {
    let batch = folder.join(EXPECTED_BATCH);
    let path = if life == Life::Batch && batch.is_file() { batch } else { folder.join(EXPECTED) };
    if path.is_file() { parse(&path, schema).map(Some) } else { Ok(None) }
}

/// Writes the rows as those to be expected; `batch` only when it differs. Columns that the file left out stay left out.
///
/// # Errors
/// [`Error::External`] when a file cannot be written.
pub(super) fn bless(folder: &Path, live: &Rows, batch: &Rows) -> Result<()> {
    write(&folder.join(EXPECTED), live)?;
    let path = folder.join(EXPECTED_BATCH);
    if batch == live {
        if path.is_file() {
            fs::remove_file(&path).context(|| format!("removing `{}`", path.display()))?;
        }
        return Ok(());
    }
    write(&path, batch)
}

/// The columns an existing file of expected rows compares.
pub(super) fn columns_of(folder: &Path) -> Result<Option<Vec<String>>> {
    let path = folder.join(EXPECTED);
    if !path.is_file() {
        return Ok(None);
    }
    let mut reader = csv::Reader::from_path(&path).map_err(|error| unreadable(&path, &error))?;
    let header = reader.headers().map_err(|error| unreadable(&path, &error))?;
    let columns: Vec<String> = header.iter().map(str::to_owned).collect();
    Ok((!columns.is_empty()).then_some(columns))
}

impl Rows {
    /// Rows of a table, narrowed to `columns` when given.
    ///
    /// # Errors
    /// [`Error::Usage`] for a column the table has not; a value that does not fit `schema`.
    pub(super) fn of(batches: &[RecordBatch], schema: &SchemaRef, columns: Option<&[String]>) -> Result<Self> {
        let all: Vec<String> = schema.fields().iter().map(|field| field.name().clone()).collect();
        let columns = columns.map_or(all, <[String]>::to_vec);
        let unknown = |name: &str| Error::usage(format!("the query has no column `{name}`"));
        let fields = columns.iter().map(|name| schema.field_with_name(name).map_err(|_| unknown(name)));
        let fields = fields.collect::<Result<Vec<_>>>()?;
        let mut rows = Vec::new();
        for batch in batches {
            let mut shown = Vec::with_capacity(fields.len());
            for field in &fields {
                let column = batch.column_by_name(field.name()).ok_or_else(|| unknown(field.name()))?;
                // A batch answer may have other types than the table: fewer digits, another kind of text.
                let column = cast_with_options(column, field.data_type(), &STRICT);
                shown.push(texts(&column.context(|| format!("`{}` as the table declares it", field.name()))?)?);
            }
            rows.extend((0..batch.num_rows()).map(|row| shown.iter().map(|column| column[row].clone()).collect()));
        }
        rows.sort();
        let floats = fields.iter().map(|field| field.data_type().is_floating()).collect();
        Ok(Self { columns, floats, rows })
    }
}

fn parse(path: &Path, schema: &SchemaRef) -> Result<Rows> {
    let mut reader = csv::Reader::from_path(path).map_err(|error| unreadable(path, &error))?;
    let columns: Vec<String> =
        reader.headers().map_err(|error| unreadable(path, &error))?.iter().map(str::to_owned).collect();
    let mut cells: Vec<Vec<String>> = vec![Vec::new(); columns.len()];
    let mut lines = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|error| unreadable(path, &error))?;
        lines.push(record.position().map_or(0, csv::Position::line));
        for (column, cell) in cells.iter_mut().zip(record.iter()) {
            column.push(cell.to_owned());
        }
    }
    let mut floats = Vec::with_capacity(columns.len());
    let mut texts = Vec::with_capacity(columns.len());
    for (name, column) in columns.iter().zip(cells) {
        let Some((_, field)) = schema.column_with_name(name) else {
            let known = schema.fields().iter().map(|field| field.name().as_str()).collect::<Vec<_>>().join("`, `");
            return Err(Error::usage(format!(
                "`{}`: no column `{name}` in the query; it has `{known}`",
                path.display()
            )));
        };
        floats.push(field.data_type().is_floating());
        texts.push(typed(path, name, field.data_type(), &column, &lines)?);
    }
    let mut rows: Vec<Vec<String>> =
        (0..lines.len()).map(|row| texts.iter().map(|column| column[row].clone()).collect()).collect();
    rows.sort();
    Ok(Rows { columns, floats, rows })
}

/// Cells of one column as its type shows them.
fn typed(path: &Path, name: &str, data_type: &DataType, cells: &[String], lines: &[u64]) -> Result<Vec<String>> {
    let is_text = matches!(data_type, DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8);
    let mut shown = Vec::with_capacity(cells.len());
    for (cell, line) in cells.iter().zip(lines) {
        if cell == NULL || (cell.is_empty() && !is_text) {
            shown.push(NULL.to_owned());
            continue;
        }
        let text: ArrayRef = Arc::new(StringArray::from(vec![cell.as_str()]));
        let value = cast_with_options(&text, data_type, &STRICT).map_err(|_| {
            Error::usage(format!("`{}`:{line}: `{cell}` is no {data_type} for `{name}`", path.display()))
        })?;
        shown.extend(texts(&value)?);
    }
    Ok(shown)
}

fn texts(column: &ArrayRef) -> Result<Vec<String>> {
    let options = FormatOptions::default().with_null(NULL);
    let formatter = ArrayFormatter::try_new(column, &options).context(|| "showing rows")?;
    Ok((0..column.len()).map(|row| formatter.value(row).to_string()).collect())
}

fn write(path: &Path, rows: &Rows) -> Result<()> {
    let doing = || format!("writing `{}`", path.display());
    let mut writer = csv::Writer::from_path(path).context(doing)?;
    writer.write_record(&rows.columns).context(doing)?;
    for row in &rows.rows {
        writer.write_record(row).context(doing)?;
    }
    writer.flush().context(doing)
}

fn unreadable(path: &Path, error: &csv::Error) -> Error {
    Error::usage(format!("`{}`: {error}", path.display()))
}

/// The file a case's live rows are expected in, for messages.
pub(super) fn path_of(folder: &Path) -> PathBuf {
    folder.join(EXPECTED)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::{Field, Schema};

    fn schema() -> SchemaRef {
        Arc::new(Schema::new(vec![
            Field::new("at", crate::contract::timestamp_type(), false),
            Field::new("city", DataType::Utf8, true),
            Field::new("amount", DataType::Decimal128(20, 2), true),
            Field::new("share", DataType::Float64, true),
        ]))
    }

    fn expect(text: &str) -> Result<Rows> {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(EXPECTED), text).unwrap();
        Ok(read(folder.path(), Life::Batch, &schema())?.unwrap())
    }

    #[test]
    fn cells_are_values_of_their_columns() {
        let rows = expect("amount,at,city\n3.5,2020-01-01 00:00:00,\n,2020-01-01T00:00:00Z,NULL\n").unwrap();
        let expected = [["3.50", "2020-01-01T00:00:00Z", ""], ["NULL", "2020-01-01T00:00:00Z", "NULL"]];
        assert_eq!(rows.rows, expected.map(|row| row.map(str::to_owned).to_vec()));
        assert_eq!(rows.floats, [false, false, false]);
    }

    #[test]
    fn a_bad_cell_is_named_with_its_line() {
        let error = expect("city,amount\nAiken,1\nUtica,much\n").unwrap_err().to_string();
        assert!(error.contains("expected.csv`:3: `much` is no Decimal128(20, 2) for `amount`"), "{error}");
        let error = expect("town\nAiken\n").unwrap_err().to_string();
        assert!(error.contains("no column `town` in the query; it has `at`, `city`"), "{error}");
        assert!(expect("city,amount\nAiken\n").is_err(), "a line with too few cells");
    }

    #[test]
    fn blessed_rows_are_read_back_equal_and_a_like_batch_needs_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let rows = expect("at,city,amount,share\n2020-01-01,\"a,b\",NULL,0.25\n2020-01-02,,7,NULL\n").unwrap();
        let fewer = Rows { rows: rows.rows[..1].to_vec(), ..rows.clone() };
        bless(folder.path(), &rows, &fewer).unwrap();
        assert_eq!(read(folder.path(), Life::Live, &schema()).unwrap(), Some(rows.clone()));
        assert_eq!(read(folder.path(), Life::Batch, &schema()).unwrap(), Some(fewer));
        bless(folder.path(), &rows, &rows).unwrap();
        assert_eq!(read(folder.path(), Life::Batch, &schema()).unwrap(), Some(rows));
        assert!(!folder.path().join(EXPECTED_BATCH).exists());
    }
}
