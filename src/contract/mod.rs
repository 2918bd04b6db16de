//! What a table promises, read from `lake/*.sql`: columns, types, rules, partitioning, order; and for a stream, how a
//! record becomes a row.
//!
//! The one law: nothing else in the engine knows a column's name. A second stream is a second file, not Rust.
//! This module parses and checks; it never touches data or the lake.

mod options;
mod parse;
mod print;
mod reserved;
mod rules;
mod source;
mod types;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

use crate::error::Result;

pub use reserved::{NAME_BYTES_MAX, is_reserved};
pub use rules::{NameOf, bad_name};
pub use types::{DECIMAL_DIGITS_MIN, type_name};

/// One table as declared.
#[derive(Clone, Debug, PartialEq)]
pub struct TableContract {
    pub name: Arc<str>,
    pub comment: String,
    pub columns: Vec<Column>,
    /// The partition column, one of `columns` and of type DATE.
    pub partition_by: Arc<str>,
    /// Columns rows are sorted by inside a file; may be empty.
    pub sort_by: Vec<Arc<str>>,
    /// Columns by whose single values rows are looked for, and which `sort_by` leaves all over a date; may be empty.
    pub bloom_filters: Vec<Arc<str>>,
    /// Rows a row group has at most, for readers that leave out nothing smaller; `None`: as many as fit its bytes.
    pub row_group_rows: Option<usize>,
    /// Whom the table is kept ready for; always [`Sink::Delta`] among them.
    pub sinks: Vec<Sink>,
    /// Dates of the partition column that are older than the lake's watermark by more than so many days are taken out;
    /// `None`: none ever is.
    pub keep_days: Option<u32>,
    /// Present when rows of this table come from a stream.
    pub stream: Option<StreamContract>,
}

/// Whom a table is kept ready for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sink {
    /// Readers of Delta logs: Athena, Spark, DuckDB. The table itself.
    Delta,
    /// Redshift Spectrum, by symlink manifests and a table `<name>_spectrum` in the catalog.
    Spectrum,
    /// Crawlers that list folders: dates that are over as plain Parquet files below `plain.url`.
    Plain,
}

impl Sink {
    /// Every sink, in the order they are written.
    pub const ALL: [Self; 3] = [Self::Delta, Self::Spectrum, Self::Plain];

    /// As a contract that says nothing of sinks has them.
    pub fn usual() -> Vec<Self> {
        vec![Self::Delta, Self::Spectrum]
    }

    /// As a contract writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Delta => "delta",
            Self::Spectrum => "spectrum",
            Self::Plain => "plain",
        }
    }
}

/// One column as declared.
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    pub name: Arc<str>,
    /// One of the types a contract allows.
    pub data_type: DataType,
    pub nullable: bool,
    pub comment: String,
    pub origin: Origin,
    /// A rule over the row as an SQL expression; a row for which it is false is rejected.
    pub check: Option<String>,
}

/// Where a column's values come from.
#[derive(Clone, Debug, PartialEq)]
pub enum Origin {
    /// A field of the input object.
    Field(InputField),
    /// Computed from other columns of the row by this SQL expression.
    Generated(String),
    /// Filled by the engine, or by whoever writes the table (a standing query's column).
    Engine,
}

/// How a field of the input object becomes a column.
#[derive(Clone, Debug, PartialEq)]
pub struct InputField {
    /// The field's name in the object.
    pub name: Arc<str>,
    /// Left-pad with zeros to this many characters (zip codes and card numbers that lost theirs).
    pub pad: Option<usize>,
    /// Remove this from the front of the text.
    pub strip_prefix: Option<String>,
    /// Replace the value by its keyed token before anything else sees it.
    pub token: bool,
}

/// How records of a stream are read.
#[derive(Clone, Debug, PartialEq)]
pub struct StreamContract {
    pub format: Format,
    /// Column of type TIMESTAMP: when it happened.
    pub event_time: Arc<str>,
    /// Column that identifies a row: two rows with one identity are one row.
    pub identity: Arc<str>,
    /// Column whose value is the partition key of PutRecords.
    pub partition_key: Arc<str>,
}

/// The formats a record may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON object, or several lines of them.
    Json,
}

/// Names of the columns the engine fills in a stream's table, in the order they are declared.
pub mod provenance {
    pub const SOURCE: &str = "_source";
    pub const SHARD: &str = "_shard";
    pub const SEQUENCE: &str = "_sequence";
    pub const SUB_SEQUENCE: &str = "_sub_sequence";
    pub const ARRIVAL_TIME: &str = "_arrival_time";
    pub const EPOCH: &str = "_epoch";
    pub const LATE: &str = "_late";
}

/// The Arrow type of every time in Lakeward.
pub fn timestamp_type() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

impl TableContract {
    /// Parses one contract; `origin` is the file's name for error messages.
    ///
    /// # Errors
    /// [`crate::Error::Usage`] naming file, line, column and the nearest right word.
    pub fn parse(origin: &str, sql: &str) -> Result<Self> {
        parse::table_contract(origin, sql)
    }

    /// The Arrow schema of the table: every column in declared order, the partition column included.
    pub fn schema(&self) -> SchemaRef {
        Arc::new(Schema::new(
            self.columns
                .iter()
                .map(|c| Field::new(c.name.as_ref(), c.data_type.clone(), c.nullable))
                .collect::<Vec<_>>(),
        ))
    }

    /// The contract as a file of `lake/`; read again it is the same contract. A column without a comment gets an empty
    /// one, to be filled in.
    pub fn to_sql(&self) -> String {
        print::table(self)
    }

    /// Whether a stream's table is partitioned by the date of its event time.
    pub fn is_by_event_date(&self) -> bool {
        let (Some(stream), Some(column)) = (&self.stream, self.column(&self.partition_by)) else { return false };
        let Origin::Generated(expression) = &column.origin else { return false };
        let bare: String = expression.chars().filter(|c| !c.is_whitespace()).collect::<String>().to_lowercase();
        bare.trim_start_matches('(').starts_with(&format!("cast({}asdate)", stream.event_time))
    }

    /// Columns of a stream that came after it was declared: they may be NULL, and stand behind those the engine fills.
    pub fn added_columns(&self) -> impl Iterator<Item = &Column> {
        let last = self.columns.iter().rposition(|column| column.origin == Origin::Engine);
        let behind = self.stream.as_ref().and(last).map_or(self.columns.len(), |last| last + 1);
        self.columns[behind..].iter().filter(|column| column.nullable)
    }

    /// The column of this name.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|c| c.name.as_ref() == name)
    }
}

/// Reads every `*.sql` of a folder; keyed by table name.
///
/// # Errors
/// [`crate::Error::Usage`] for an unreadable folder, a bad contract, or two contracts of one name.
pub fn read_folder(folder: &Path) -> Result<BTreeMap<Arc<str>, TableContract>> {
    parse::folder(folder)
}
