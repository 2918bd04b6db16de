//! What an epoch has gathered so far: rows by table, and how full it is.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Date32Type;

/// What the epoch holds so far.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    pub tables: BTreeMap<Arc<str>, Vec<RecordBatch>>,
    pub rows: usize,
    pub bytes: usize,
    /// Partitions of the stream's table, as days since 1970.
    pub days: BTreeSet<i32>,
}

impl Gathered {
    /// Adds rows of a table.
    pub(super) fn push(&mut self, table: &Arc<str>, rows: RecordBatch) {
        if rows.num_rows() == 0 {
            return;
        }
        self.rows += rows.num_rows();
        self.bytes += rows.get_array_memory_size();
        self.tables.entry(table.clone()).or_default().push(rows);
    }

    /// Keeps count of the partitions the epoch touches.
    pub(super) fn note_days(&mut self, rows: &RecordBatch, partition_by: &str) {
        let Some(days) = rows.column_by_name(partition_by).and_then(|c| c.as_primitive_opt::<Date32Type>()) else {
            return;
        };
        let mut last = None;
        for &day in days.values() {
            if last != Some(day) {
                self.days.insert(day);
                last = Some(day);
            }
        }
    }
}
