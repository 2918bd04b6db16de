//! Answers of two engines, made comparable.

use std::collections::BTreeMap;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, TimestampMicrosecondType};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use serde_json::Value;

use super::query::{Holds, Query};

/// Cells of the aggregates by the cells of window and keys.
pub type Answer = BTreeMap<Vec<String>, Vec<String>>;

const FLOAT_TOLERANCE: f64 = 1e-9;

/// Our rows, from a table or a batch answer with the query's columns.
pub fn ours(query: &Query, batches: &[RecordBatch]) -> Result<Answer, String> {
    let mut names = vec!["window_start".to_owned(), "window_end".to_owned()];
    names.extend((0..query.keys.len()).map(|n| format!("k{n}")));
    names.extend((0..query.aggregates.len()).map(|n| format!("a{n}")));
    let mut rows = Vec::new();
    for batch in batches {
        let columns = names.iter().map(|name| {
            let column = batch.column_by_name(name).ok_or_else(|| format!("no column `{name}`"))?;
            Ok((0..batch.num_rows()).map(|row| text(column, row)).collect::<Vec<_>>())
        });
        let columns = columns.collect::<Result<Vec<_>, String>>()?;
        rows.extend((0..batch.num_rows()).map(|row| columns.iter().map(|column| column[row].clone()).collect()));
    }
    answer(query, rows)
}

/// DuckDB's rows.
pub fn duck(query: &Query, rows: Vec<Vec<Value>>) -> Result<Answer, String> {
    let plain = |value: Value| match value {
        Value::Null => "NULL".to_owned(),
        Value::String(text) => text,
        other => other.to_string(),
    };
    answer(query, rows.into_iter().map(|row| row.into_iter().map(plain).collect()).collect())
}

fn answer(query: &Query, rows: Vec<Vec<String>>) -> Result<Answer, String> {
    let mut answer = Answer::new();
    for mut row in rows {
        let aggregates = row.split_off(2 + query.keys.len());
        if let Some(before) = answer.insert(row.clone(), aggregates) {
            return Err(format!("two rows of {row:?}, one of them {before:?}"));
        }
    }
    Ok(answer)
}

/// Times as microseconds, everything else as Arrow shows it.
fn text(column: &ArrayRef, row: usize) -> String {
    if column.is_null(row) {
        return "NULL".to_owned();
    }
    if matches!(column.data_type(), DataType::Timestamp(..)) {
        return column.as_primitive::<TimestampMicrosecondType>().value(row).to_string();
    }
    let options = FormatOptions::default();
    ArrayFormatter::try_new(column, &options).unwrap().value(row).to_string()
}

/// The first difference, as a sentence.
pub fn compare(query: &Query, found: &Answer, expected: &Answer) -> Result<(), String> {
    for (group, cells) in expected {
        let Some(found) = found.get(group) else { return Err(format!("no row {group:?} {cells:?}")) };
        for ((term, a), b) in query.aggregates.iter().zip(found).zip(cells) {
            if !same(term.holds, a, b) {
                return Err(format!("in {group:?}, {}: {a}, expected {b}", term.ours));
            }
        }
    }
    match found.iter().find(|(group, _)| !expected.contains_key(*group)) {
        Some((group, cells)) => Err(format!("a row too many: {group:?} {cells:?}")),
        None => Ok(()),
    }
}

fn same(holds: Holds, a: &str, b: &str) -> bool {
    if a == b {
        return true;
    }
    match holds {
        Holds::Plain => false,
        Holds::Decimal => digits(a) == digits(b),
        // Ours against ours (batch), or a decimal of ours against DuckDB's whole number.
        Holds::Millionths => digits(a) == digits(b) || millionths(a) == Some(b.to_owned()),
        Holds::Float => match (a.parse::<f64>(), b.parse::<f64>()) {
            (Ok(x), Ok(y)) => {
                (x.is_nan() && y.is_nan()) || (x - y).abs() <= FLOAT_TOLERANCE * x.abs().max(y.abs()).max(1.0)
            }
            _ => false,
        },
    }
}

/// A decimal without the zeros at its end.
fn digits(text: &str) -> &str {
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { text }
}

/// `-0.000150` as `-150`.
fn millionths(text: &str) -> Option<String> {
    let (whole, rest) = text.split_once('.')?;
    let number: i128 = format!("{whole}{rest:0<6}").parse().ok()?;
    Some(number.to_string())
}
