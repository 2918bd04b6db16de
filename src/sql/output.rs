//! The table a standing query fills: its columns, their types, and the cast to them.
//!
//! The one law: rows leave in the declared types or not at all. Where the lake declares the table, the query must give
//! exactly its columns; where it does not, the columns follow from the query. Nothing is rounded, wrapped or shortened
//! in between: what does not fit is an error.

use std::sync::Arc;

use arrow::array::AsArray;
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Decimal128Type, Field, FieldRef, SchemaRef, TimeUnit};
use arrow::record_batch::RecordBatch;
use datafusion::sql::sqlparser::ast::{Expr, Ident, SelectItem};
use datafusion::sql::sqlparser::tokenizer::Span;

use super::file::{QueryFile, View, normal};
use super::place::{Refusal, did_you_mean};
use super::refuse::plain_select;
use crate::contract::{Column, Origin, TableContract, timestamp_type};
use crate::error::{Context, Result};

/// The partition column of a query that names none.
const PARTITION_BY: &str = "event_date";

/// Columns of a query's answer, matched to those of its table.
#[derive(Clone, Debug)]
pub(super) struct Output {
    pub(super) contract: TableContract,
    schema: SchemaRef,
    /// For each column of the table, the position of the query's column.
    positions: Vec<usize>,
}

impl Output {
    /// Matches the query's columns to the declared table, or declares one that fits.
    pub(super) fn plan(
        file: &QueryFile,
        view: &View,
        fields: &[FieldRef],
        declared: Option<&TableContract>,
    ) -> Result<Self, Refusal> {
        let contract = match declared {
            Some(table) => {
                compare(view, fields, table)?;
                table.clone()
            }
            None => derive(file, view, fields)?,
        };
        let positions = contract
            .columns
            .iter()
            .filter_map(|column| fields.iter().position(|field| *field.name() == *column.name))
            .collect();
        Ok(Self { schema: contract.schema(), contract, positions })
    }

    /// The query's rows as rows of the table.
    ///
    /// # Errors
    /// A value that does not fit its column's type: a decimal with too many digits, NULL in a NOT NULL column.
    pub(super) fn cast(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        const STRICT: CastOptions<'static> =
            CastOptions { safe: false, format_options: arrow::util::display::FormatOptions::new() };
        let mut columns = Vec::with_capacity(self.positions.len());
        for (field, position) in self.schema.fields().iter().zip(&self.positions) {
            let what = || {
                format!(
                    "`{}` does not fit `{}`.`{}`",
                    batch.column(*position).data_type(),
                    self.contract.name,
                    field.name()
                )
            };
            let column = cast_with_options(batch.column(*position), field.data_type(), &STRICT).context(what)?;
            if let DataType::Decimal128(precision, _) = field.data_type() {
                // A sum may hold more digits than its type says: only a cast between two types would notice.
                column.as_primitive::<Decimal128Type>().validate_decimal_precision(*precision).context(what)?;
            }
            columns.push(column);
        }
        RecordBatch::try_new(Arc::clone(&self.schema), columns).context(|| format!("rows of `{}`", self.contract.name))
    }
}

fn derive(file: &QueryFile, view: &View, fields: &[FieldRef]) -> Result<TableContract, Refusal> {
    let mut columns: Vec<Column> = Vec::with_capacity(fields.len());
    for field in fields {
        let at = || position_of(view, field.name());
        if !is_column_name(field.name()) {
            let message =
                format!("`{}` is no column name; add `AS name` (lower-case letters, digits, `_`)", field.name());
            return Err(Refusal::new(expression_position(view, fields, field), message).or_at(view.at));
        }
        let data_type = lake_type(field).map_err(|message| Refusal::new(at(), message).or_at(view.at))?;
        columns.push(Column {
            name: field.name().as_str().into(),
            data_type,
            nullable: field.is_nullable(),
            comment: String::new(),
            origin: Origin::Engine,
            check: None,
        });
    }
    let (partition_by, at) = match &view.partition_by {
        Some(name) => (name.value.as_str(), name.span),
        None => (PARTITION_BY, view.at),
    };
    match columns.iter_mut().find(|column| *column.name == *partition_by) {
        Some(column) if column.data_type == DataType::Date32 => column.nullable = false,
        Some(column) => {
            let message =
                format!("the partition column `{partition_by}` must be a DATE, not {}", type_name(&column.data_type));
            return Err(Refusal::new(at, message));
        }
        None => {
            let hint = did_you_mean(partition_by, fields.iter().map(|field| field.name().as_str()));
            let message = format!("no column `{partition_by}` to partition by{hint}");
            let message = if hint.contains("did you mean") {
                message
            } else {
                format!("{message}; add one, like `CAST(window_start AS DATE) AS event_date`")
            };
            return Err(Refusal::new(at, message));
        }
    }
    Ok(TableContract {
        name: Arc::clone(&file.name),
        comment: file.comment.clone(),
        columns,
        partition_by: partition_by.into(),
        sort_by: Vec::new(),
        stream: None,
    })
}

/// Refuses with a list of every difference; a float for money and a naive time get their own sentence.
fn compare(view: &View, fields: &[FieldRef], table: &TableContract) -> Result<(), Refusal> {
    let mut differences = Vec::new();
    for column in &table.columns {
        let Some(field) = fields.iter().find(|field| *field.name() == *column.name) else {
            differences.push(format!("`{}` {} is missing from the query", column.name, type_name(&column.data_type)));
            continue;
        };
        let at = position_of(view, field.name());
        if let Some(message) = wrong_kind(field, &column.data_type) {
            return Err(Refusal::new(at, message).or_at(view.at));
        }
        if !fits(field.data_type(), &column.data_type) {
            let (query, declared) = (type_name(field.data_type()), type_name(&column.data_type));
            differences.push(format!("`{}` is {query} in the query, {declared} in the contract", column.name));
        }
    }
    for field in fields {
        if table.column(field.name()).is_none() {
            let hint = did_you_mean(field.name(), table.columns.iter().map(|column| column.name.as_ref()));
            differences.push(format!("`{}` is not in the contract{hint}", field.name()));
        }
    }
    if let Some(option) = view.partition_by.as_ref().filter(|option| *option.value != *table.partition_by) {
        let message = format!(
            "`partition_by` is `{}` here, `{}` in the contract of `{}`",
            option.value, table.partition_by, table.name
        );
        return Err(Refusal::new(option.span, message));
    }
    if differences.is_empty() {
        return Ok(());
    }
    let message = format!("the columns are not those of the contract of `{}`: {}", table.name, differences.join("; "));
    Err(Refusal::new(view.at, message))
}

/// A float where money is declared, or a time without zone where a time is.
fn wrong_kind(field: &Field, declared: &DataType) -> Option<String> {
    let name = field.name();
    match (field.data_type(), declared) {
        (DataType::Float16 | DataType::Float32 | DataType::Float64, DataType::Decimal128(..)) => Some(format!(
            "`{name}` is a float where the contract declares {}: money is never a float; CAST what it is computed from",
            type_name(declared)
        )),
        (DataType::Timestamp(_, None), DataType::Timestamp(..)) => Some(naive_time(name)),
        _ => None,
    }
}

fn naive_time(name: &str) -> String {
    format!("`{name}` is a time without zone; write `CAST(… AS TIMESTAMP WITH TIME ZONE)`, times are UTC")
}

/// Whether every value of `given` has its equal in `declared`, or is an error when cast.
fn fits(given: &DataType, declared: &DataType) -> bool {
    if plain(given).as_ref() == Some(declared) {
        return true;
    }
    match (given, declared) {
        (DataType::Decimal128(_, scale), DataType::Decimal128(_, declared_scale)) => scale <= declared_scale,
        (given, DataType::Decimal128(..)) => given.is_integer(),
        (DataType::Float16 | DataType::Float32, DataType::Float64) => true,
        (given, DataType::Int64) => given.is_integer(),
        (DataType::Int8 | DataType::Int16 | DataType::UInt8 | DataType::UInt16, DataType::Int32) => true,
        _ => false,
    }
}

/// The lake's type for a column of a query.
fn lake_type(field: &Field) -> Result<DataType, String> {
    if matches!(field.data_type(), DataType::Timestamp(_, None)) {
        return Err(naive_time(field.name()));
    }
    plain(field.data_type()).ok_or_else(|| {
        format!("`{}` is a {}, which is no type of the lake; CAST it", field.name(), type_name(field.data_type()))
    })
}

/// The type every reader of the lake knows that holds all values of `given`.
fn plain(given: &DataType) -> Option<DataType> {
    Some(match given {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => DataType::Binary,
        DataType::Dictionary(_, values) => plain(values)?,
        DataType::Int8 | DataType::UInt8 => DataType::Int16,
        DataType::UInt16 => DataType::Int32,
        DataType::UInt32 => DataType::Int64,
        DataType::UInt64 => DataType::Decimal128(20, 0),
        DataType::Timestamp(TimeUnit::Second | TimeUnit::Millisecond | TimeUnit::Microsecond, Some(_)) => {
            timestamp_type()
        }
        DataType::Decimal32(precision, scale) | DataType::Decimal64(precision, scale) => {
            DataType::Decimal128(*precision, *scale)
        }
        DataType::Boolean
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::Float32
        | DataType::Float64
        | DataType::Date32
        | DataType::Decimal128(..) => given.clone(),
        _ => return None,
    })
}

/// A type as contracts write it.
fn type_name(data_type: &DataType) -> String {
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "STRING".into(),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => "BINARY".into(),
        DataType::Boolean => "BOOLEAN".into(),
        DataType::Int16 => "SMALLINT".into(),
        DataType::Int32 => "INT".into(),
        DataType::Int64 => "BIGINT".into(),
        DataType::Float32 => "FLOAT".into(),
        DataType::Float64 => "DOUBLE".into(),
        DataType::Date32 => "DATE".into(),
        DataType::Timestamp(TimeUnit::Microsecond, Some(_)) => "TIMESTAMP".into(),
        DataType::Decimal128(precision, scale) => format!("DECIMAL({precision},{scale})"),
        other => other.to_string(),
    }
}

fn is_column_name(name: &str) -> bool {
    let letters = name.strip_prefix('_').unwrap_or(name);
    letters.starts_with(|c: char| c.is_ascii_lowercase())
        && letters.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

/// Where the SELECT names a column.
fn position_of(view: &View, column: &str) -> Span {
    let items = plain_select(&view.query).map(|select| select.projection.as_slice()).unwrap_or_default();
    let named = items.iter().filter_map(item_name).find(|name| normal(name) == column);
    named.map_or_else(Span::empty, |name| name.span)
}

/// Where the SELECT computes a column that has no name of its own.
fn expression_position(view: &View, fields: &[FieldRef], field: &FieldRef) -> Span {
    use datafusion::sql::sqlparser::ast::Spanned;
    let items = plain_select(&view.query).map(|select| select.projection.as_slice()).unwrap_or_default();
    let index = fields.iter().position(|other| other.name() == field.name());
    match index.and_then(|index| items.get(index)) {
        Some(item) if items.len() == fields.len() => item.span(),
        _ => Span::empty(),
    }
}

fn item_name(item: &SelectItem) -> Option<&Ident> {
    match item {
        SelectItem::ExprWithAlias { alias, .. } => Some(alias),
        SelectItem::UnnamedExpr(Expr::Identifier(name)) => Some(name),
        SelectItem::UnnamedExpr(Expr::CompoundIdentifier(parts)) => parts.last(),
        _ => None,
    }
}
