//! Sessions: intervals of one key that touch become one.
//!
//! The one law: two intervals of a key are one session if one starts at or before the other's end. Every row starts as the
//! session `[t, t + gap]` of its own, so merging is the same for rows of one micro-batch, for the partial rows of many, and
//! for those read back after a restart; in which order they meet does not matter.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::compute::concat_batches;
use arrow::record_batch::RecordBatch;
use arrow::row::{RowConverter, SortField};

use super::stamp::{Bounds, times, with_bounds};
use crate::error::{Context, Result};
use crate::sql::WindowedQuery;

/// The same partial rows, each with the bounds of the session it belongs to; sessions that have met share theirs.
pub(super) fn merged(query: &WindowedQuery, batches: &[RecordBatch]) -> Result<Vec<RecordBatch>> {
    let Some(first) = batches.first() else { return Ok(Vec::new()) };
    let doing = || format!("merging sessions of `{}`", query.name());
    let rows = concat_batches(&first.schema(), batches).context(doing)?;
    Ok(vec![with_bounds(query, &rows, &bounds_of(query, &rows)?)?])
}

/// The bounds of the session that each of these partial rows belongs to, in order of the rows.
///
/// # Errors
/// Batches that are not the query's partial rows.
pub fn session_bounds(query: &WindowedQuery, batches: &[RecordBatch]) -> Result<Vec<Bounds>> {
    let Some(first) = batches.first() else { return Ok(Vec::new()) };
    let doing = || format!("merging sessions of `{}`", query.name());
    bounds_of(query, &concat_batches(&first.schema(), batches).context(doing)?)
}

fn bounds_of(query: &WindowedQuery, rows: &RecordBatch) -> Result<Vec<Bounds>> {
    let doing = || format!("merging sessions of `{}`", query.name());
    let starts = times(query, rows, query.window_start_column())?;
    let ends = times(query, rows, query.window_end_column())?;
    let keys: Vec<ArrayRef> = query.session_key_columns().iter().map(|key| Arc::clone(rows.column(*key))).collect();
    let fields = keys.iter().map(|key| SortField::new(key.data_type().clone())).collect();
    let converted = match keys.is_empty() {
        true => None,
        false => {
            let converter = RowConverter::new(fields).context(doing)?;
            Some(converter.convert_columns(&keys).context(doing)?)
        }
    };
    let key = |row: usize| converted.as_ref().map(|rows| rows.row(row));
    let mut order: Vec<usize> = (0..rows.num_rows()).collect();
    order.sort_unstable_by(|a, b| key(*a).cmp(&key(*b)).then(starts.value(*a).cmp(&starts.value(*b))));

    let mut bounds: Vec<Bounds> = vec![(0, 0); rows.num_rows()];
    let mut from = 0;
    while from < order.len() {
        let start = starts.value(order[from]);
        let mut end = ends.value(order[from]);
        let mut to = from + 1;
        while to < order.len() && starts.value(order[to]) <= end && key(order[to]) == key(order[from]) {
            end = end.max(ends.value(order[to]));
            to += 1;
        }
        for row in &order[from..to] {
            bounds[*row] = (start, end);
        }
        from = to;
    }
    Ok(bounds)
}
