//! The options of a contract: a column's `OPTIONS (…)` and the table's `WITH (…)`.
//!
//! The one law: an option that is not known, written twice or of the wrong kind is refused where it stands.
//! Whether the columns that options name exist is checked in `rules`.

use std::ops::RangeInclusive;
use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::sql::sqlparser::ast::{
    CreateTable, CreateTableOptions, Expr, Ident, Spanned, SqlOption, UnaryOperator, Value,
};
use datafusion::sql::sqlparser::tokenizer::Span;

use super::source::Source;
use super::{Format, Sink};
use crate::error::{Error, Result};

const COLUMN_OPTIONS: [&str; 4] = ["field", "pad", "strip_prefix", "token"];
const TABLE_OPTIONS: [&str; 10] = [
    "format",
    "event_time",
    "identity",
    "partition_key",
    "partition_by",
    "sort_by",
    "bloom_filters",
    "row_group_rows",
    "sinks",
    "keep",
];
const FORMATS: [&str; 1] = ["json"];

/// Widest padding: the longest text that has lost zeros is a card number of 19 digits; twice that is surely a slip.
const PAD_MAX: usize = 38;

/// Longest time a table keeps its rows, in days: a hundred years and the days they leap; more is surely a slip.
const KEEP_DAYS_MAX: u32 = 36_525;

/// Rows of a row group: fewer make footers of megabytes, more than Parquet's own limit there never are.
const ROW_GROUP_ROWS: RangeInclusive<usize> = 10_000..=1_048_576;

/// A text and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Placed {
    pub(super) text: Arc<str>,
    pub(super) at: Span,
}

/// What a column's `OPTIONS` say.
#[derive(Default)]
pub(super) struct ColumnOptions {
    pub(super) field: Option<Placed>,
    pub(super) pad: Option<usize>,
    pub(super) strip_prefix: Option<String>,
    pub(super) token: bool,
}

impl ColumnOptions {
    pub(super) fn read(source: &Source, list: &[SqlOption], column: &str, data_type: &DataType) -> Result<Self> {
        let mut options = Self::default();
        for (key, value) in pairs(source, list, &COLUMN_OPTIONS)? {
            let name = key.value.as_str();
            if name != "field" && *data_type != DataType::Utf8 {
                let message = format!("`{name}` works on text: make `{column}` a STRING or remove the option");
                return Err(source.error(key.span, message));
            }
            match name {
                "field" => options.field = Some(text(source, key, value)?),
                "pad" => options.pad = Some(pad(source, key, value)?),
                "strip_prefix" => options.strip_prefix = Some(text(source, key, value)?.text.to_string()),
                _ => options.token = boolean(source, key, value)?,
            }
        }
        Ok(options)
    }
}

/// What the table's `WITH` says.
pub(super) struct TableOptions {
    pub(super) format: Option<Format>,
    pub(super) event_time: Option<Placed>,
    pub(super) identity: Option<Placed>,
    pub(super) partition_key: Option<Placed>,
    pub(super) partition_by: Placed,
    pub(super) sort_by: Vec<Placed>,
    pub(super) bloom_filters: Vec<Placed>,
    pub(super) row_group_rows: Option<usize>,
    pub(super) sinks: Vec<Sink>,
    pub(super) keep_days: Option<u32>,
}

impl TableOptions {
    /// Reads them; a stream has all of `event_time`, `identity`, `partition_key`, another table none.
    pub(super) fn read(source: &Source, table: &CreateTable) -> Result<Self> {
        let list: &[SqlOption] = match &table.table_options {
            CreateTableOptions::With(list) => list,
            _ => &[],
        };
        let at = table.name.span();
        let mut format = None;
        let mut texts: Vec<(&str, Placed)> = Vec::new();
        for (key, value) in pairs(source, list, &TABLE_OPTIONS)? {
            let value = text(source, key, value)?;
            if key.value == "format" {
                if !FORMATS.contains(&value.text.as_ref()) {
                    let message = format!("unknown format `{}`", value.text);
                    return Err(source.unknown(value.at, message, &value.text, FORMATS));
                }
                format = Some(Format::Json);
            } else {
                texts.push((&key.value, value));
            }
        }
        let mut take = |name: &str| texts.iter().position(|(key, _)| *key == name).map(|i| texts.swap_remove(i).1);
        let mut of_stream = |name: &str| -> Result<Option<Placed>> {
            match (take(name), format) {
                (None, Some(_)) => Err(missing(source, at, name, "a stream's table")),
                (Some(value), None) => {
                    let message = format!("`{name}` belongs to a stream: add `format = 'json'` or remove it");
                    Err(source.error(value.at, message))
                }
                (value, _) => Ok(value),
            }
        };
        let (event_time, identity) = (of_stream("event_time")?, of_stream("identity")?);
        let partition_key = of_stream("partition_key")?;
        let partition_by = take("partition_by").ok_or_else(|| missing(source, at, "partition_by", "a table"))?;
        let mut columns = |option: &str| take(option).map_or_else(|| Ok(Vec::new()), |list| names(source, &list));
        let (sort_by, bloom_filters) = (columns("sort_by")?, columns("bloom_filters")?);
        let row_group_rows = take("row_group_rows").map(|rows| row_group_rows(source, &rows)).transpose()?;
        let sinks = take("sinks").map_or_else(|| Ok(Sink::usual()), |list| sinks(source, &list))?;
        let keep_days = take("keep").map(|keep| days(source, &keep)).transpose()?;
        Ok(Self {
            format,
            event_time,
            identity,
            partition_key,
            partition_by,
            sort_by,
            bloom_filters,
            row_group_rows,
            sinks,
            keep_days,
        })
    }
}

fn missing(source: &Source, at: Span, option: &str, what: &str) -> Error {
    source.error(at, format!("{what} needs `{option} = '<column>'` in its WITH (…)"))
}

/// `a, b` as its parts.
fn names(source: &Source, list: &Placed) -> Result<Vec<Placed>> {
    let mut names: Vec<Placed> = Vec::new();
    for name in list.text.split(',').map(str::trim) {
        if name.is_empty() || names.iter().any(|known| known.text.as_ref() == name) {
            let message = format!("`{}`: expected different names, separated by commas", list.text);
            return Err(source.error(list.at, message));
        }
        names.push(Placed { text: name.into(), at: list.at });
    }
    Ok(names)
}

/// `delta, spectrum` as what it names, in the order of [`Sink::ALL`].
fn sinks(source: &Source, list: &Placed) -> Result<Vec<Sink>> {
    let names = names(source, list)?;
    for name in &names {
        let known = Sink::ALL.map(Sink::name);
        if !known.contains(&name.text.as_ref()) {
            return Err(source.unknown(name.at, format!("unknown sink `{}`", name.text), &name.text, known));
        }
    }
    let found: Vec<Sink> =
        Sink::ALL.into_iter().filter(|sink| names.iter().any(|name| name.text.as_ref() == sink.name())).collect();
    if !found.contains(&Sink::Delta) {
        let message = format!("`{}`: `delta` is missing: every other sink is made from the Delta table", list.text);
        return Err(source.error(list.at, message));
    }
    Ok(found)
}

/// `400d`: rows leave by whole dates, so nothing shorter than a day is said.
fn days(source: &Source, keep: &Placed) -> Result<u32> {
    let days = keep.text.strip_suffix('d').filter(|digits| !digits.starts_with(['+', '0']));
    match days.and_then(|digits| digits.parse().ok()).filter(|days| *days <= KEEP_DAYS_MAX) {
        Some(days) => Ok(days),
        None => {
            let message =
                format!("`keep = '{}'`: expected whole days, like `'400d'`, at most {KEEP_DAYS_MAX}", keep.text);
            Err(source.error(keep.at, message))
        }
    }
}

/// `100000`: how many rows a row group has at most.
fn row_group_rows(source: &Source, rows: &Placed) -> Result<usize> {
    let digits = Some(&rows.text).filter(|digits| !digits.starts_with(['+', '0']));
    let found = digits.and_then(|digits| digits.parse().ok()).filter(|rows| ROW_GROUP_ROWS.contains(rows));
    found.ok_or_else(|| {
        let (least, most) = (ROW_GROUP_ROWS.start(), ROW_GROUP_ROWS.end());
        source.error(rows.at, format!("`row_group_rows = '{}'`: expected a number from {least} to {most}", rows.text))
    })
}

/// The `key = value` pairs of a list; refuses what is no pair, unknown or written twice.
fn pairs<'l>(source: &Source, list: &'l [SqlOption], known: &[&str]) -> Result<Vec<(&'l Ident, &'l Expr)>> {
    let mut pairs: Vec<(&Ident, &Expr)> = Vec::new();
    for option in list {
        let SqlOption::KeyValue { key, value } = option else {
            return Err(source.error(option.span(), format!("`{option}`: expected `option = value`")));
        };
        let name = key.value.as_str();
        if !known.contains(&name) {
            let message = format!("unknown option `{name}`");
            return Err(source.unknown(key.span, message, name, known.iter().copied()));
        }
        if pairs.iter().any(|(other, _)| other.value == key.value) {
            return Err(source.error(key.span, format!("option `{name}` is given twice")));
        }
        pairs.push((key, value));
    }
    Ok(pairs)
}

fn text(source: &Source, key: &Ident, value: &Expr) -> Result<Placed> {
    match value {
        Expr::Value(literal) => match &literal.value {
            Value::SingleQuotedString(text) if !text.is_empty() => {
                Ok(Placed { text: text.as_str().into(), at: literal.span })
            }
            _ => Err(expected(source, key, value, "a text in single quotes")),
        },
        _ => Err(expected(source, key, value, "a text in single quotes")),
    }
}

fn boolean(source: &Source, key: &Ident, value: &Expr) -> Result<bool> {
    match value {
        Expr::Value(literal) if matches!(literal.value, Value::Boolean(_)) => Ok(literal.value == Value::Boolean(true)),
        _ => Err(expected(source, key, value, "`true` or `false`")),
    }
}

fn pad(source: &Source, key: &Ident, value: &Expr) -> Result<usize> {
    if let Expr::Value(literal) = value
        && let Value::Number(digits, _) = &literal.value
        && let Ok(width) = digits.parse()
        && (1..=PAD_MAX).contains(&width)
    {
        return Ok(width);
    }
    Err(expected(source, key, value, &format!("a width from 1 to {PAD_MAX}")))
}

fn expected(source: &Source, key: &Ident, value: &Expr, what: &str) -> Error {
    // A sign has no place of its own; its number has.
    let at = match value {
        Expr::UnaryOp { op: UnaryOperator::Minus | UnaryOperator::Plus, .. } => source.place_after(key.span),
        _ => value.span(),
    };
    let at = if at.start.line == 0 { key.span } else { at };
    source.error(at, format!("`{} = {value}`: expected {what}", key.value))
}
