//! Where each row came from: the columns of provenance, and the bytes a row was read from.
//!
//! The one law: `(_source, _shard, _sequence, _sub_sequence)` names one line of the stream. What the line says is not
//! looked at here.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int32Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Int32Type, TimestampMicrosecondType};
use bytes::Bytes;

use super::columns::Column;
use super::rejects::Place;
use crate::clock::Micros;
use crate::contract::provenance;
use crate::error::{Error, Result};
use crate::stream::{SequenceNumber, ShardKey};

/// The columns of provenance being filled, in the order of [`ORIGIN_COLUMNS`].
pub(super) struct OriginColumns {
    /// The text of the current record's sequence number.
    current: String,
    sequence: Column,
    sub_sequence: Vec<i32>,
    arrival_time: Vec<Micros>,
    raw: Vec<Bytes>,
    /// Source and shard of the last page, as often as its rows; shared by the batches of a shard.
    constants: Option<(ShardKey, StringArray, StringArray)>,
}

/// What the decoder fills of a row, besides what it reads.
pub(super) const ORIGIN_COLUMNS: [&str; 5] =
    [provenance::SOURCE, provenance::SHARD, provenance::SEQUENCE, provenance::SUB_SEQUENCE, provenance::ARRIVAL_TIME];

impl OriginColumns {
    pub(super) fn new() -> Result<Self> {
        Ok(Self {
            current: String::new(),
            sequence: Column::new(&DataType::Utf8)?,
            sub_sequence: Vec::new(),
            arrival_time: Vec::new(),
            raw: Vec::new(),
            constants: None,
        })
    }

    pub(super) fn begin(&mut self, sequence: &SequenceNumber) {
        self.current.clear();
        match sequence {
            SequenceNumber::Offset(bytes) => push_offset(&mut self.current, *bytes),
            SequenceNumber::Kinesis(number) => self.current.push_str(number),
        }
    }

    pub(super) fn place(&self, sub_sequence: i32, arrival_time: Micros) -> Place<'_> {
        Place { sequence: &self.current, sub_sequence, arrival_time }
    }

    pub(super) fn push(&mut self, sub_sequence: i32, arrival_time: Micros, raw: Bytes) {
        self.sequence.push_text(&self.current);
        self.sub_sequence.push(sub_sequence);
        self.arrival_time.push(arrival_time);
        self.raw.push(raw);
    }

    /// Appends the five arrays; returns the bytes of the rows.
    pub(super) fn finish(&mut self, shard: &ShardKey, arrays: &mut Vec<ArrayRef>) -> Result<Vec<Bytes>> {
        let next = Vec::with_capacity(self.raw.len());
        let raw = std::mem::replace(&mut self.raw, next);
        let (source, shard) = self.constants(shard, raw.len());
        arrays.push(Arc::new(source));
        arrays.push(Arc::new(shard));
        arrays.push(self.sequence.finish()?);
        arrays.push(Arc::new(Int32Array::from(std::mem::take(&mut self.sub_sequence))));
        let arrival_time = std::mem::take(&mut self.arrival_time);
        arrays.push(Arc::new(TimestampMicrosecondArray::from(arrival_time).with_timezone("UTC")));
        Ok(raw)
    }

    fn constants(&mut self, key: &ShardKey, rows: usize) -> (StringArray, StringArray) {
        if let Some((of, source, shard)) = &self.constants
            && of == key
            && source.len() >= rows
        {
            return (source.slice(0, rows), shard.slice(0, rows));
        }
        let repeated = |text: &str| StringArray::from_iter_values(std::iter::repeat_n(text, rows));
        let (source, shard) = (repeated(&key.source), repeated(&key.shard));
        self.constants = Some((key.clone(), source.clone(), shard.clone()));
        (source, shard)
    }
}

/// The sequence columns of assembled rows.
pub(super) struct Places<'a> {
    sequence: &'a StringArray,
    sub_sequence: &'a Int32Array,
    arrival_time: &'a TimestampMicrosecondArray,
}

impl<'a> Places<'a> {
    pub(super) fn of(rows: &'a RecordBatch) -> Result<Self> {
        let column = |name: &str| {
            rows.column_by_name(name).ok_or_else(|| Error::broken(format!("rows have no column `{name}`")))
        };
        Ok(Self {
            sequence: column(provenance::SEQUENCE)?.as_string(),
            sub_sequence: column(provenance::SUB_SEQUENCE)?.as_primitive::<Int32Type>(),
            arrival_time: column(provenance::ARRIVAL_TIME)?.as_primitive::<TimestampMicrosecondType>(),
        })
    }

    pub(super) fn place(&self, row: usize) -> Place<'a> {
        Place {
            sequence: self.sequence.value(row),
            sub_sequence: self.sub_sequence.value(row),
            arrival_time: self.arrival_time.value(row),
        }
    }
}

/// An offset as `SequenceNumber` shows it, zero-padded to 20 digits, without the cost of formatting.
fn push_offset(out: &mut String, mut bytes: u64) {
    let mut digits = [b'0'; 20];
    for digit in digits.iter_mut().rev() {
        if bytes == 0 {
            break;
        }
        *digit = b'0' + u8::try_from(bytes % 10).unwrap_or(0);
        bytes /= 10;
    }
    out.extend(digits.map(char::from));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_are_written_as_they_are_shown() {
        for offset in [0, 1, 9, 10, 497, 65_000_000, u64::MAX - 1, u64::MAX] {
            let mut text = String::new();
            push_offset(&mut text, offset);
            assert_eq!(text, SequenceNumber::Offset(offset).to_string());
        }
    }

    #[test]
    fn constants_follow_the_shard() {
        let key = |shard: &str| ShardKey { source: "files".into(), shard: shard.into() };
        let mut origin = OriginColumns::new().unwrap();
        for (shard, rows) in [("a", 3), ("a", 2), ("b", 2), ("b", 5), ("a", 0)] {
            let (source, shards) = origin.constants(&key(shard), rows);
            assert_eq!((source.len(), shards.len()), (rows, rows));
            assert!(source.iter().all(|s| s == Some("files")) && shards.iter().all(|s| s == Some(shard)));
        }
    }
}
