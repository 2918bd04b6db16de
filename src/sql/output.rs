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
use datafusion::sql::sqlparser::ast::{Expr, Ident, SelectItem, Spanned};
use datafusion::sql::sqlparser::tokenizer::Span;

use super::catalog::Time;
use super::file::{QueryFile, View, normal};
use super::place::{Refusal, Refusals, nearest};
use super::refuse::plain_select;
use crate::contract::{
    Column, DECIMAL_DIGITS_MIN, NameOf, Origin, Sink, TableContract, bad_name, timestamp_type, type_name,
};
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
        times: &[(Arc<str>, Time)],
    ) -> Result<Self, Refusals> {
        let contract = match declared {
            Some(table) => {
                compare(view, fields, table)?;
                table.clone()
            }
            None => derive(file, view, fields, times)?,
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

/// The table that fits the query. Every column may be NULL but the partition column and the bounds of windows: any other
/// may be added to the SELECT one day, and is NULL in the rows written before.
fn derive(
    file: &QueryFile,
    view: &View,
    fields: &[FieldRef],
    times: &[(Arc<str>, Time)],
) -> Result<TableContract, Refusals> {
    let mut refused = Refusals::default();
    refused.extend(bad_name(NameOf::Table, &file.name).map(|refusal| refusal.or_at(view.name_at)));
    let mut columns: Vec<Column> = Vec::with_capacity(fields.len());
    let mut is_named = true;
    let is_bound = |column: &str| times.iter().any(|(name, time)| **name == *column && *time != Time::Event);
    for field in fields {
        if let Err(refusal) = column_name(view, fields, field) {
            is_named = false;
            refused.push(refusal);
        }
        let data_type = lake_type(field).map_err(|refusal| refusal.or_at(position_of(view, fields, field.name())));
        let Some(data_type) = refused.keep(data_type) else { continue };
        columns.push(Column {
            name: field.name().as_str().into(),
            data_type,
            nullable: field.is_nullable() || !is_bound(field.name()),
            comment: String::new(),
            origin: Origin::Engine,
            check: None,
        });
    }
    let partition_by = view.partition_by.as_ref().map_or(PARTITION_BY, |name| name.value.as_str());
    // A column without a name may be the one that is missed.
    if is_named {
        refused.keep(partition_column(view, fields, &mut columns, partition_by));
    }
    for name in &view.sort_by {
        if is_named && fields.iter().all(|field| *field.name() != name.value) {
            refused.push(no_column_to_sort_by(name, fields.iter().map(|field| field.name().as_str())));
        }
    }
    refused.or(TableContract {
        name: Arc::clone(&file.name),
        comment: file.comment.clone(),
        columns,
        partition_by: partition_by.into(),
        sort_by: view.sort_by.iter().map(|name| name.value.as_str().into()).collect(),
        bloom_filters: Vec::new(),
        row_group_rows: None,
        sinks: Sink::usual(),
        keep_days: None,
        stream: None,
    })
}

fn no_column_to_sort_by<'a>(name: &Ident, known: impl IntoIterator<Item = &'a str>) -> Refusal {
    Refusal::new(name.span, format!("no column `{}` to sort by", name.value)).near(&name.value, known)
}

/// A derived table keeps the rules of declared ones, so that every reader of the lake reads it.
fn column_name(view: &View, fields: &[FieldRef], field: &Field) -> Result<(), Refusal> {
    let name = field.name();
    let Some(refusal) = bad_name(NameOf::Column, name) else { return Ok(()) };
    let refusal = refusal.or_at(position_of(view, fields, name));
    let is_expression = name.contains(|c: char| !c.is_alphanumeric() && c != '_');
    if !is_expression {
        return Err(refusal);
    }
    let at = refusal.span();
    Err(Refusal::new(at, format!("`{name}` is no column name")).help("add `AS name` (lower-case letters, digits, `_`)"))
}

fn partition_column(
    view: &View,
    fields: &[FieldRef],
    columns: &mut [Column],
    partition_by: &str,
) -> Result<(), Refusal> {
    let at = view.partition_by.as_ref().map_or(view.at, |name| name.span);
    if let Some(column) = columns.iter_mut().find(|column| *column.name == *partition_by) {
        column.nullable = false;
        let type_name = type_name(&column.data_type);
        return match column.data_type {
            DataType::Date32 => Ok(()),
            _ => {
                Err(Refusal::new(at, format!("the partition column `{partition_by}` must be a DATE, not {type_name}"))
                    .help(format!("write `CAST(… AS DATE) AS {partition_by}`")))
            }
        };
    }
    if fields.iter().any(|field| field.name() == partition_by) {
        // Its type has been refused.
        return Ok(());
    }
    let refusal = Refusal::new(at, format!("no column `{partition_by}` to partition by"));
    Err(match nearest(partition_by, fields.iter().map(|field| field.name().as_str())) {
        Some(near) => refusal.near(partition_by, [near]),
        None => refusal.help(format!("add one, like `CAST(window_start AS DATE) AS {partition_by}`")),
    })
}

/// Refuses every difference, each where it stands.
fn compare(view: &View, fields: &[FieldRef], table: &TableContract) -> Result<(), Refusals> {
    let mut refused = Refusals::default();
    let name = &table.name;
    for column in &table.columns {
        let declared = type_name(&column.data_type);
        let Some(field) = fields.iter().find(|field| *field.name() == *column.name) else {
            let refusal = Refusal::new(view.name_at, format!("no column `{}` {declared}", column.name));
            refused.push(refusal.or_at(view.at).note(declares(name)));
            continue;
        };
        let at = position_of(view, fields, field.name());
        if let Some(refusal) = wrong_kind(field, &column.data_type) {
            refused.push(refusal.or_at(at));
        } else if !fits(field.data_type(), &column.data_type) {
            let message = format!(
                "`{}` is {} in the query, {declared} in the contract",
                column.name,
                type_name(field.data_type())
            );
            refused.push(Refusal::new(at, message).help(format!("CAST it, or change the contract of `{name}`")));
        }
    }
    for field in fields.iter().filter(|field| table.column(field.name()).is_none()) {
        let refusal = Refusal::new(
            position_of(view, fields, field.name()),
            format!("`{}` is not in the contract of `{name}`", field.name()),
        );
        refused.push(refusal.near(field.name(), table.columns.iter().map(|column| column.name.as_ref())));
    }
    if let Some(option) = view.partition_by.as_ref().filter(|option| *option.value != *table.partition_by) {
        let message =
            format!("`partition_by` is `{}` here, `{}` in the contract of `{name}`", option.value, table.partition_by);
        refused.push(Refusal::new(option.span, message).help(format!("write '{}'", table.partition_by)));
    }
    if let Some(first) = view.sort_by.first()
        && !view.sort_by.iter().map(|name| name.value.as_str()).eq(table.sort_by.iter().map(AsRef::as_ref))
    {
        let written: Vec<&str> = view.sort_by.iter().map(|name| name.value.as_str()).collect();
        let declared = match table.sort_by.is_empty() {
            true => "nothing".to_owned(),
            false => format!("`{}`", table.sort_by.join(", ")),
        };
        let message = format!("`sort_by` is `{}` here, {declared} in the contract of `{name}`", written.join(", "));
        refused.push(Refusal::new(first.span, message).help("leave it to the contract"));
    }
    refused.or_at(view.at).or(())
}

fn declares(table: &str) -> String {
    format!("the contract of `{table}` declares it")
}

/// A float where money is declared, or a time without zone where a time is.
fn wrong_kind(field: &Field, declared: &DataType) -> Option<Refusal> {
    let name = field.name();
    match (field.data_type(), declared) {
        (DataType::Float16 | DataType::Float32 | DataType::Float64, DataType::Decimal128(..)) => Some(
            Refusal::new(
                Span::empty(),
                format!("`{name}` is a float where the contract declares {}", type_name(declared)),
            )
            .help("CAST what it is computed from")
            .note("money is never a float"),
        ),
        (DataType::Timestamp(_, None), DataType::Timestamp(..)) => Some(naive_time(name)),
        _ => None,
    }
}

fn naive_time(name: &str) -> Refusal {
    Refusal::new(Span::empty(), format!("`{name}` is a time without zone"))
        .help("write `CAST(… AS TIMESTAMP WITH TIME ZONE)`")
        .note("times are UTC")
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
fn lake_type(field: &Field) -> Result<DataType, Refusal> {
    if matches!(field.data_type(), DataType::Timestamp(_, None)) {
        return Err(naive_time(field.name()));
    }
    if let Some(DataType::Decimal128(precision, scale)) = plain(field.data_type()) {
        // As in a declared table: digits cost nothing, and fewer would be another physical type.
        return Ok(DataType::Decimal128(precision.max(DECIMAL_DIGITS_MIN), scale));
    }
    plain(field.data_type()).ok_or_else(|| {
        let message = format!("`{}` is a {}, which is no type of the lake", field.name(), type_name(field.data_type()));
        Refusal::new(Span::empty(), message).help("CAST it")
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

/// Where the SELECT names or computes a column; where the statement begins, if it does neither in sight.
fn position_of(view: &View, fields: &[FieldRef], column: &str) -> Span {
    let items = plain_select(&view.query).map(|select| select.projection.as_slice()).unwrap_or_default();
    if let Some(name) = items.iter().filter_map(item_name).find(|name| normal(name) == column) {
        return name.span;
    }
    let index = fields.iter().position(|field| field.name() == column);
    match index.and_then(|index| items.get(index)) {
        Some(item) if items.len() == fields.len() => item.span(),
        _ => view.at,
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
