//! The types a contract may name, and what they are in Arrow.
//!
//! The one law: every type here is one that every reader of the lake reads (rules 2 to 6 of its contract).

use std::ops::RangeInclusive;

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::sql::sqlparser::ast::{ColumnDef, DataType as SqlType, ExactNumberInfo, TimezoneInfo};
use datafusion::sql::sqlparser::tokenizer::Span;

use super::source::Source;
use super::timestamp_type;
use crate::error::{Refusal, Result};

/// The types of columns, as a contract writes them.
const TYPES: [&str; 11] =
    ["STRING", "BOOLEAN", "SMALLINT", "INT", "BIGINT", "FLOAT", "DOUBLE", "DECIMAL", "DATE", "TIMESTAMP", "BINARY"];

/// Digits of a decimal. At least 19: fewer are stored as INT64, which Redshift Spectrum is not known to read.
const DECIMAL_DIGITS: RangeInclusive<u8> = DECIMAL_DIGITS_MIN..=38;

/// The fewest digits a decimal of the lake has.
pub const DECIMAL_DIGITS_MIN: u8 = 19;

/// The Arrow type of a column.
pub(super) fn arrow_type(source: &Source, definition: &ColumnDef) -> Result<DataType> {
    Ok(match &definition.data_type {
        SqlType::String(None) => DataType::Utf8,
        SqlType::Boolean => DataType::Boolean,
        SqlType::SmallInt(None) => DataType::Int16,
        SqlType::Int(None) => DataType::Int32,
        SqlType::BigInt(None) => DataType::Int64,
        SqlType::Float(ExactNumberInfo::None) => DataType::Float32,
        SqlType::Double(ExactNumberInfo::None) => DataType::Float64,
        SqlType::Date => DataType::Date32,
        SqlType::Timestamp(None, TimezoneInfo::None) => timestamp_type(),
        SqlType::Binary(None) => DataType::Binary,
        SqlType::Decimal(info) => decimal(source, type_place(source, definition), info)?,
        other => {
            let written = other.to_string();
            let upper = written.to_uppercase();
            let base = upper.split(['(', ' ']).next().unwrap_or_default();
            let meant = match base {
                "TEXT" | "VARCHAR" | "CHAR" => "STRING",
                "INTEGER" => "INT",
                word => word,
            };
            let refusal = Refusal::new(type_place(source, definition), format!("unknown type `{written}`"));
            return Err(source.refuse(match TYPES.contains(&meant) {
                true => refusal.help(format!("did you mean `{meant}`?")),
                false => refusal.near(meant, TYPES),
            }));
        }
    })
}

fn decimal(source: &Source, at: Span, info: &ExactNumberInfo) -> Result<DataType> {
    if let ExactNumberInfo::PrecisionAndScale(precision, scale) = info
        && let (Ok(precision), Ok(scale)) = (u8::try_from(*precision), i8::try_from(*scale))
        && DECIMAL_DIGITS.contains(&precision)
        && (0..=19).contains(&scale)
    {
        return Ok(DataType::Decimal128(precision, scale));
    }
    let message = format!(
        "`DECIMAL{info}`: expected `DECIMAL(p,s)` with {} to {} digits, at most 19 after the point",
        DECIMAL_DIGITS.start(),
        DECIMAL_DIGITS.end(),
    );
    Err(source.refuse(Refusal::new(at, message).help("money is `DECIMAL(20,2)`")))
}

/// Types carry no place of their own: a type is the token after the column's name.
fn type_place(source: &Source, definition: &ColumnDef) -> Span {
    source.place_after(definition.name.span)
}

/// A type as contracts write it; the Arrow name of a type that no contract has.
pub fn type_name(data_type: &DataType) -> String {
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
