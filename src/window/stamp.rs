//! Giving partial rows other bounds.
//!
//! The one law: a row keeps everything but its window, so that a merge by group afterwards adds up what has come to share
//! one. Rows are copied once, whatever their types.

use std::collections::HashMap;
use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, TimestampMicrosecondArray};
use arrow::compute::filter_record_batch;
use arrow::datatypes::TimestampMicrosecondType;
use arrow::record_batch::RecordBatch;
use arrow::row::{RowConverter, SortField};

use crate::clock::Micros;
use crate::error::{Context, Error, Result};
use crate::sql::WindowedQuery;

/// A window's bounds: start (inclusive), end (exclusive).
pub type Bounds = (Micros, Micros);

/// The times in one of the two columns of bounds, without their zone.
pub(super) fn times(query: &WindowedQuery, batch: &RecordBatch, column: usize) -> Result<TimestampMicrosecondArray> {
    batch
        .columns()
        .get(column)
        .and_then(|column| column.as_primitive_opt::<TimestampMicrosecondType>())
        .map(|times| times.clone().with_timezone_opt::<&str>(None))
        .ok_or_else(|| Error::broken(format!("partial rows of `{}` have no window", query.name())))
}

/// The rows whose start has new bounds, with those.
pub(super) fn restamp(
    query: &WindowedQuery,
    batches: &[RecordBatch],
    bounds: impl Fn(Micros) -> Option<Bounds>,
) -> Result<Vec<RecordBatch>> {
    let mut stamped = Vec::with_capacity(batches.len());
    // Far fewer slices than rows: each is asked for once.
    let mut known: HashMap<Micros, Option<Bounds>> = HashMap::new();
    for batch in batches {
        let starts = times(query, batch, query.window_start_column())?;
        let new: Vec<Option<Bounds>> =
            starts.values().iter().map(|start| *known.entry(*start).or_insert_with(|| bounds(*start))).collect();
        let kept: BooleanArray = new.iter().map(|bounds| Some(bounds.is_some())).collect();
        if kept.true_count() == 0 {
            continue;
        }
        let rows = filter_record_batch(batch, &kept).context(|| "taking slices out")?;
        let new: Vec<Bounds> = new.into_iter().flatten().collect();
        stamped.push(with_bounds(query, &rows, &new)?);
    }
    Ok(stamped)
}

/// The rows with these bounds, one each.
pub(super) fn with_bounds(query: &WindowedQuery, rows: &RecordBatch, bounds: &[Bounds]) -> Result<RecordBatch> {
    let mut columns = rows.columns().to_vec();
    let mut put = |column: usize, times: Vec<Micros>| {
        let times = TimestampMicrosecondArray::from(times).with_timezone("UTC");
        columns[column] = Arc::new(times) as ArrayRef;
    };
    put(query.window_start_column(), bounds.iter().map(|(start, _)| *start).collect());
    put(query.window_end_column(), bounds.iter().map(|(_, end)| *end).collect());
    RecordBatch::try_new(rows.schema(), columns)
        .context(|| format!("giving partial rows of `{}` windows", query.name()))
}

/// How many windows these rows belong to: distinct bounds, for sessions by key.
pub(super) fn count(query: &WindowedQuery, batches: &[RecordBatch]) -> Result<u64> {
    let mut wanted = vec![query.window_start_column(), query.window_end_column()];
    wanted.extend(query.session_key_columns());
    let Some(first) = batches.first() else { return Ok(0) };
    let fields = wanted.iter().map(|column| SortField::new(first.column(*column).data_type().clone())).collect();
    let doing = || "counting windows";
    let converter = RowConverter::new(fields).context(doing)?;
    let mut seen: HashSet<Box<[u8]>> = HashSet::new();
    for batch in batches {
        let columns: Vec<ArrayRef> = wanted.iter().map(|column| Arc::clone(batch.column(*column))).collect();
        for row in &converter.convert_columns(&columns).context(doing)? {
            if !seen.contains(row.data()) {
                seen.insert(row.data().into());
            }
        }
    }
    Ok(seen.len() as u64)
}
