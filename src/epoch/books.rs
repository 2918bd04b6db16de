//! The books: rows of the `epochs` table, one an epoch and shard, for people and dashboards.
//!
//! They repeat what the slot says within SQL's reach; nothing is decided by them.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Date32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};

use super::Slot;
use crate::clock::{MICROS_PER_SECOND, Micros};
use crate::contract::TableContract;
use crate::error::{Context, Result};
use crate::stream::ShardKey;

/// Microseconds in a day.
const MICROS_PER_DAY: Micros = 86_400 * MICROS_PER_SECOND;

/// What the books say of a shard beyond the slot.
#[derive(Clone, Debug, Default)]
pub struct ShardBooks {
    /// Where the first duplicate of the epoch stood.
    pub first_duplicate: Option<String>,
    /// Greatest event time of the epoch's rows.
    pub event_time_max: Option<Micros>,
}

/// The books of one epoch: one row for each shard that was read, in the schema of `contract` (the table `epochs`).
///
/// # Errors
/// [`crate::Error::External`] when the contract has other columns than the books.
pub fn books_batch(
    contract: &TableContract,
    slot: &Slot,
    notes: &BTreeMap<ShardKey, ShardBooks>,
) -> Result<RecordBatch> {
    let shards: Vec<_> = slot.shards().filter(|(_, s)| s.from != s.progress.position || s.counts.read > 0).collect();
    let rows = shards.len();
    let note = |key: &ShardKey| notes.get(key).cloned().unwrap_or_default();
    let count = |of: fn(&super::Counts) -> u64| -> ArrayRef {
        Arc::new(Int64Array::from_iter_values(shards.iter().map(|(_, s)| signed(of(&s.counts)))))
    };
    let every = |value: i64| -> ArrayRef { Arc::new(Int64Array::from_iter_values(std::iter::repeat_n(value, rows))) };
    let day = i32::try_from(slot.written_at.div_euclid(MICROS_PER_DAY)).unwrap_or(i32::MAX);
    let columns: Vec<ArrayRef> = vec![
        times(std::iter::repeat_n(Some(slot.written_at), rows)),
        Arc::new(Date32Array::from_iter_values(std::iter::repeat_n(day, rows))),
        every(signed(slot.epoch)),
        every(signed(slot.generation)),
        Arc::new(StringArray::from_iter_values(std::iter::repeat_n("epoch", rows))),
        Arc::new(StringArray::from_iter_values(shards.iter().map(|(key, _)| key.source.as_ref()))),
        Arc::new(StringArray::from_iter_values(shards.iter().map(|(key, _)| key.shard.as_ref()))),
        Arc::new(StringArray::from_iter_values(shards.iter().map(|(_, s)| s.from.to_string()))),
        Arc::new(StringArray::from_iter_values(shards.iter().map(|(_, s)| s.progress.position.to_string()))),
        Arc::new(BooleanArray::from_iter(shards.iter().map(|(_, s)| Some(s.progress.finished)))),
        count(|c| c.read),
        count(|c| c.written),
        count(|c| c.duplicates),
        count(|c| c.rejected),
        count(|c| c.late),
        Arc::new(StringArray::from_iter(shards.iter().map(|(key, _)| note(key).first_duplicate))),
        times(shards.iter().map(|(_, s)| s.progress.watermark)),
        times(std::iter::repeat_n(slot.watermark, rows)),
        Arc::new(Int64Array::from_iter(
            shards.iter().map(|(key, _)| note(key).event_time_max.map(|newest| (slot.written_at - newest) / 1_000)),
        )),
    ];
    RecordBatch::try_new(contract.schema(), columns)
        .context(|| "writing the books: `lake/epochs.sql` declares other columns than this lakeward fills")
}

/// Counts fit: 2^63 records are 300,000 years at a million a second.
fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn times(values: impl Iterator<Item = Option<Micros>>) -> ArrayRef {
    Arc::new(values.collect::<TimestampMicrosecondArray>().with_timezone("UTC"))
}
