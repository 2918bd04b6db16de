//! Records become columns: decode, refuse, recognise.
//!
//! The one law: the books balance. A [`Decoder`] turns each record it reads into a row or a reject
//! (`read = rows + rejects`); [`Duplicates`] then takes out what was seen before
//! (`read = rows + rejects + duplicates`). A bad record is data, never an error. Everything here is pure: no I/O, no
//! clock, and randomness only as the key of an [`IdentityHasher`].
//!
//! ```text
//! Page ─ Scanner ─▶ typed columns ─ rules ─▶ MicroBatch ─ Duplicates ─▶ Admitted
//!           └────── Refusal ────────┴──────▶ rejects ◀── conflicts ──┘
//! ```

mod columns;
mod decoder;
mod duplicates;
mod identity;
mod input;
mod names;
mod numbers;
mod origin;
mod reader;
mod rejects;
mod rules;
mod scanner;
mod sensitive;
mod text;
mod times;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::TimestampMicrosecondType;
use bytes::Bytes;

pub use decoder::{Decoder, RECORD_BYTES_MAX, too_large};
pub use duplicates::{Admitted, Duplicates, Published};
pub use identity::{Identity, IdentityHasher};
pub use rejects::Reason;
pub use times::timestamp;

use crate::clock::Micros;
use crate::stream::{Interval, ShardKey};

/// A decoded page.
#[derive(Clone, Debug)]
pub struct MicroBatch {
    pub shard: ShardKey,
    /// What it covers of the shard.
    pub interval: Interval,
    /// The valid rows, in the stream's order; schema of the contract without `_epoch` and `_late`.
    pub rows: RecordBatch,
    /// What was rejected; schema of the rejects table without `_epoch`.
    pub rejects: RecordBatch,
    /// Records read: lines, and 1 for each record without any.
    pub read: u64,
    /// One a row.
    pub identities: Vec<Identity>,
    /// Least and greatest event time of the rows as decoded, duplicates included: they too say how far the shard is.
    pub event_times: Option<(Micros, Micros)>,
    /// The bytes of each row until [`Duplicates::admit`], which may have to reject one; then empty.
    raw: Vec<Bytes>,
}

/// The event times of rows, microseconds.
fn event_time_values<'a>(rows: &'a RecordBatch, column: &str) -> Option<&'a [Micros]> {
    let array = rows.column_by_name(column)?.as_primitive_opt::<TimestampMicrosecondType>()?;
    Some(array.values())
}

fn event_time_range(rows: &RecordBatch, column: &str) -> Option<(Micros, Micros)> {
    let times = event_time_values(rows, column)?;
    Some((*times.iter().min()?, *times.iter().max()?))
}
