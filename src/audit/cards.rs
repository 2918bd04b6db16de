//! Card numbers: tokenised columns hold tokens, and no other text holds what looks like a card number.
//!
//! The one law: a value found is never printed; the row is named by its position.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::DataType;

use super::finding::Kind as Found;
use super::report::Report;
use super::rows::{numbers, texts, told};
use super::scans::{Scans, for_each_batch, quoted};
use crate::contract::{Origin, TableContract, provenance};
use crate::error::Result;
use crate::token::holds_card_number;

/// What a token looks like: see the token module.
const TOKEN_PATTERN: &str = "^tok_[0-9]+_[0-9a-f]{32}$";

/// Columns that name a row, put before those that are looked at.
const ROW: [&str; 3] = [provenance::EPOCH, provenance::SHARD, provenance::SEQUENCE];

/// Checks the stream's table and the table of rejects, whose contract is `rejects`.
pub(super) async fn check(scans: &Scans, stream: &TableContract, rejects: Option<&TableContract>, report: &mut Report) {
    let tokens = stream.columns.iter().filter(|column| matches!(&column.origin, Origin::Field(field) if field.token));
    for column in tokens {
        told(check_tokens(scans, &stream.name, &column.name, report).await, &stream.name, report);
    }
    for contract in std::iter::once(stream).chain(rejects) {
        told(check_texts(scans, contract, report).await, &contract.name, report);
    }
}

async fn check_tokens(scans: &Scans, table: &str, column: &str, report: &mut Report) -> Result<()> {
    let Some(provider) = scans.table(table) else { return Ok(()) };
    let session = scans.session_with(table, provider)?;
    let statement = format!(
        "SELECT {} FROM {} WHERE NOT coalesce(regexp_like({}, '{TOKEN_PATTERN}'), false)",
        ROW.map(quoted).join(", "),
        quoted(table),
        quoted(column)
    );
    for_each_batch(&session, &statement, |batch| {
        for row in 0..batch.num_rows() {
            report.find(Found::NoToken, row_place(table, batch, row)?, format!("`{column}` is no token"));
        }
        Ok(())
    })
    .await
}

async fn check_texts(scans: &Scans, contract: &TableContract, report: &mut Report) -> Result<()> {
    let Some(provider) = scans.table(&contract.name) else { return Ok(()) };
    let columns = text_columns(contract);
    if columns.is_empty() {
        return Ok(());
    }
    let session = scans.session_with(&contract.name, provider)?;
    let selected: Vec<String> = ROW.iter().copied().chain(columns.iter().copied()).map(quoted).collect();
    let statement = format!("SELECT {} FROM {}", selected.join(", "), quoted(&contract.name));
    for_each_batch(&session, &statement, |batch| {
        for (column, name) in batch.columns()[ROW.len()..].iter().zip(&columns) {
            for row in rows_with_numbers(column.as_ref()) {
                report.find(Found::CardNumber, row_place(&contract.name, batch, row)?, format!("in `{name}`"));
            }
        }
        Ok(())
    })
    .await
}

/// Columns of text and bytes that hold neither a row's identity nor where it came from, nor tokens.
fn text_columns(contract: &TableContract) -> Vec<&str> {
    let identity = contract.stream.as_ref().map(|stream| stream.identity.as_ref());
    let looked_at = contract.columns.iter().filter(|column| {
        let is_text = matches!(column.data_type, DataType::Utf8 | DataType::Binary);
        let is_token = matches!(&column.origin, Origin::Field(field) if field.token);
        is_text && !is_token && !column.name.starts_with('_') && Some(column.name.as_ref()) != identity
    });
    looked_at.map(|column| column.name.as_ref()).collect()
}

fn row_place(table: &str, batch: &RecordBatch, row: usize) -> Result<String> {
    let (epochs, shards, sequences) = (numbers(batch, 0)?, texts(batch, 1)?, texts(batch, 2)?);
    Ok(format!("`{table}`, epoch {}, shard {}, record {}", epochs.value(row), shards.value(row), sequences.value(row)))
}

fn rows_with_numbers(column: &dyn Array) -> Vec<usize> {
    let found = |values: &mut dyn Iterator<Item = Option<&[u8]>>| {
        let numbered = values.enumerate().filter(|(_, value)| value.is_some_and(holds_card_number));
        numbered.map(|(row, _)| row).collect()
    };
    match column.data_type() {
        DataType::Utf8 => found(&mut column.as_string::<i32>().iter().map(|value| value.map(str::as_bytes))),
        DataType::Binary => found(&mut column.as_binary::<i32>().iter()),
        _ => Vec::new(),
    }
}
