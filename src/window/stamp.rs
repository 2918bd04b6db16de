//! Giving partial rows other bounds.
//!
//! The one law: a row keeps everything but its window, so that a merge by group afterwards adds up what has come to share
//! one. Rows are copied once, whatever their types.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, TimestampMicrosecondArray};
use arrow::compute::filter_record_batch;
use arrow::datatypes::TimestampMicrosecondType;
use arrow::record_batch::RecordBatch;
use arrow::row::{RowConverter, SortField};
use hashbrown::HashSet;

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
    for batch in batches {
        let starts = times(query, batch, query.window_start_column())?;
        let mut new: Vec<Option<Bounds>> = Vec::with_capacity(starts.len());
        // Rows of one slice mostly stand together: it is asked for once.
        for run in starts.values().chunk_by(|a, b| a == b) {
            new.resize(new.len() + run.len(), bounds(run[0]));
        }
        let kept = new.iter().flatten().count();
        if kept == 0 {
            continue;
        }
        let rows = match kept == new.len() {
            true => batch.clone(),
            false => {
                let kept: BooleanArray = new.iter().map(|bounds| Some(bounds.is_some())).collect();
                filter_record_batch(batch, &kept).context(|| "taking slices out")?
            }
        };
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

/// The bounds of the session that each of these partial rows belongs to, in order of the rows.
///
/// # Errors
/// Batches that are not the query's partial rows.
pub fn session_bounds(query: &WindowedQuery, batches: &[RecordBatch]) -> Result<Vec<Bounds>> {
    let mut bounds = Vec::new();
    for batch in query.meet(batches)? {
        let starts = times(query, &batch, query.window_start_column())?;
        let ends = times(query, &batch, query.window_end_column())?;
        bounds.extend(starts.values().iter().copied().zip(ends.values().iter().copied()));
    }
    Ok(bounds)
}

/// How many windows these partial rows belong to: distinct bounds, for sessions by key.
///
/// # Errors
/// As [`session_bounds`].
pub fn count_windows(query: &WindowedQuery, batches: &[RecordBatch]) -> Result<u64> {
    let keys = query.session_key_columns();
    if keys.is_empty() {
        let mut seen: HashSet<Bounds> = HashSet::new();
        for batch in batches {
            let starts = times(query, batch, query.window_start_column())?;
            let ends = times(query, batch, query.window_end_column())?;
            let mut last = None;
            for bounds in starts.values().iter().copied().zip(ends.values().iter().copied()) {
                if last.replace(bounds) != Some(bounds) {
                    seen.insert(bounds);
                }
            }
        }
        return Ok(seen.len() as u64);
    }
    let mut wanted = vec![query.window_start_column(), query.window_end_column()];
    wanted.extend(keys);
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
