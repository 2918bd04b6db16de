//! Which row is which: keyed hashes of a row's identity and of what it says.
//!
//! The one law: a row hashes the same whether it was decoded just now or read back from the lake, within one process. The
//! keys are drawn anew for every process, so nobody outside can make two identities collide; nothing of a hash is stored.

use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;

use ahash::{AHasher, RandomState};
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type, TimeUnit,
    TimestampMicrosecondType,
};

use crate::contract::{Column, Origin, TableContract};
use crate::error::{Context, Error, Result};

/// Rows hashed at once: their hashers (three of 48 bytes a row) stay in the first-level cache while column after column
/// is fed.
const BLOCK_ROWS: usize = 256;

/// One row's identity and content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Keyed hash of the identity column's value. Among 10^9 rows, two identities meet with a chance of about 10^-20.
    pub id: u128,
    /// Keyed hash of all columns that come from the input; compared only between rows of one identity, by `repeats`. Its
    /// lower half is that of columns which were added to the contract, 0 if all of them are NULL.
    pub content: u64,
}

/// The lower half of a content.
const ADDED: u64 = 0xFFFF_FFFF;

/// Whether a row says what an earlier one of its identity has said. What is NULL in a column that was added later may be from
/// before that, when nobody looked at the field: it contradicts nothing.
pub fn repeats(earlier: u64, content: u64) -> bool {
    earlier == content || (earlier & ADDED == 0 && earlier & !ADDED == content & !ADDED)
}

/// Makes [`Identity`]s under keys of its own. Clones make equal ones.
#[derive(Clone)]
pub struct IdentityHasher {
    low: RandomState,
    high: RandomState,
    content: RandomState,
}

impl std::fmt::Debug for IdentityHasher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IdentityHasher").finish_non_exhaustive()
    }
}

impl IdentityHasher {
    /// A hasher keyed by random bits: draw them once a process (`rand::random()`).
    pub fn new(key: [u64; 4]) -> Self {
        let state = |number: u64| {
            let [a, b, c, d] = key.map(|k| mixed(k ^ mixed(number)));
            RandomState::with_seeds(a, b, c, d)
        };
        Self { low: state(1), high: state(2), content: state(3) }
    }

    /// One identity a row. `rows` must have the contract's input columns by name, in any representation (views,
    /// dictionaries) that casts to the contract's types.
    ///
    /// # Errors
    /// [`Error::Broken`] when a column is missing; [`Error::External`] when one cannot be cast.
    pub fn identities(&self, contract: &TableContract, rows: &RecordBatch) -> Result<Vec<Identity>> {
        let identity = contract
            .stream
            .as_ref()
            .and_then(|s| contract.column(&s.identity))
            .ok_or_else(|| Error::broken(format!("table `{}` has no identity column", contract.name)))?;
        let id = Content::of(identity, rows)?;
        let inputs = contract.columns.iter().filter(|c| matches!(c.origin, Origin::Field(_)));
        let is_added = |column: &&Column| contract.added_columns().any(|added| added.name == column.name);
        let (added, first): (Vec<_>, Vec<_>) = inputs.partition(is_added);
        let of = |columns: Vec<&Column>| columns.into_iter().map(|c| Content::of(c, rows)).collect();
        let (first, added): (Result<Vec<_>>, Result<Vec<_>>) = (of(first), of(added));
        let (contents, added) = (first?, added?);

        let mut identities = Vec::with_capacity(rows.num_rows());
        let mut block = Block::default();
        for start in (0..rows.num_rows()).step_by(BLOCK_ROWS) {
            let end = rows.num_rows().min(start + BLOCK_ROWS);
            block.begin(self, end - start);
            id.feed(start, &mut block.low)?;
            id.feed(start, &mut block.high)?;
            for content in &contents {
                content.feed(start, &mut block.content)?;
            }
            for content in &added {
                content.feed(start, &mut block.added)?;
            }
            let says = |row: usize| added.iter().any(|content| content.array.is_valid(start + row));
            block.finish((!added.is_empty()).then_some(&says), &mut identities);
        }
        Ok(identities)
    }
}

/// Hashers of the rows of one block.
#[derive(Default)]
struct Block {
    low: Vec<AHasher>,
    high: Vec<AHasher>,
    content: Vec<AHasher>,
    added: Vec<AHasher>,
}

impl Block {
    fn begin(&mut self, keys: &IdentityHasher, rows: usize) {
        let content = [(&mut self.content, &keys.content), (&mut self.added, &keys.content)];
        let id = [(&mut self.low, &keys.low), (&mut self.high, &keys.high)];
        for (hashers, state) in id.into_iter().chain(content) {
            hashers.clear();
            hashers.resize(rows, state.build_hasher());
        }
    }

    /// `says` tells whether a row has a value in some added column; `None` if none was added.
    fn finish(&self, says: Option<&impl Fn(usize) -> bool>, out: &mut Vec<Identity>) {
        let hashers = self.low.iter().zip(&self.high).zip(&self.content).enumerate();
        out.extend(hashers.map(|(row, ((low, high), content))| Identity {
            id: u128::from(high.finish()) << 64 | u128::from(low.finish()),
            content: match says {
                None => content.finish(),
                Some(says) if says(row) => content.finish() & !ADDED | (self.added[row].finish() & ADDED).max(1),
                Some(_) => content.finish() & !ADDED,
            },
        }));
    }
}

/// A column in the contract's type, ready to be hashed.
struct Content {
    array: ArrayRef,
    nullable: bool,
}

impl Content {
    fn of(column: &Column, rows: &RecordBatch) -> Result<Self> {
        let array = rows
            .column_by_name(&column.name)
            .ok_or_else(|| Error::broken(format!("rows to be identified lack the column `{}`", column.name)))?;
        let array = if array.data_type() == &column.data_type {
            Arc::clone(array)
        } else {
            cast(array, &column.data_type).context(|| format!("reading column `{}` back", column.name))?
        };
        Ok(Self { array, nullable: column.nullable })
    }

    /// Feeds the rows from `start` on into one hasher each.
    fn feed(&self, start: usize, hashers: &mut [AHasher]) -> Result<()> {
        let array = self.array.slice(start, hashers.len());
        let valid = |row: usize| array.is_valid(row);
        match array.data_type() {
            DataType::Utf8 => {
                let texts = array.as_string::<i32>();
                self.each(hashers, valid, |h, row| h.write(texts.value(row).as_bytes()));
            }
            DataType::Boolean => {
                let values = array.as_boolean();
                self.each(hashers, valid, |h, row| h.write_u8(u8::from(values.value(row))));
            }
            DataType::Int16 => {
                let values = array.as_primitive::<Int16Type>().values();
                self.each(hashers, valid, |h, row| h.write_i16(values[row]));
            }
            DataType::Int32 => {
                let values = array.as_primitive::<Int32Type>().values();
                self.each(hashers, valid, |h, row| h.write_i32(values[row]));
            }
            DataType::Int64 => {
                let values = array.as_primitive::<Int64Type>().values();
                self.each(hashers, valid, |h, row| h.write_i64(values[row]));
            }
            DataType::Date32 => {
                let values = array.as_primitive::<Date32Type>().values();
                self.each(hashers, valid, |h, row| h.write_i32(values[row]));
            }
            DataType::Timestamp(TimeUnit::Microsecond, _) => {
                let values = array.as_primitive::<TimestampMicrosecondType>().values();
                self.each(hashers, valid, |h, row| h.write_i64(values[row]));
            }
            DataType::Decimal128(_, _) => {
                let values = array.as_primitive::<Decimal128Type>().values();
                self.each(hashers, valid, |h, row| h.write_i128(values[row]));
            }
            // Adding 0.0 makes -0.0 and 0.0 one, as they are to SQL.
            DataType::Float64 => {
                let values = array.as_primitive::<Float64Type>().values();
                self.each(hashers, valid, |h, row| h.write_u64((values[row] + 0.0).to_bits()));
            }
            DataType::Float32 => {
                let values = array.as_primitive::<Float32Type>().values();
                self.each(hashers, valid, |h, row| h.write_u32((values[row] + 0.0).to_bits()));
            }
            other => return Err(Error::broken(format!("a column of type {other} has no hash"))),
        }
        Ok(())
    }

    /// Nullable columns feed whether there is a value before the value, so that null differs from every value and the
    /// texts of two columns cannot change places.
    #[inline]
    fn each(&self, hashers: &mut [AHasher], valid: impl Fn(usize) -> bool, feed: impl Fn(&mut AHasher, usize)) {
        for (row, hasher) in hashers.iter_mut().enumerate() {
            if !self.nullable {
                feed(hasher, row);
                continue;
            }
            let is_valid = valid(row);
            hasher.write_u8(u8::from(is_valid));
            if is_valid {
                feed(hasher, row);
            }
        }
    }
}

/// Stafford's variant 13 of the finaliser of MurmurHash3, as in SplitMix64: spreads every bit over all.
fn mixed(mut bits: u64) -> u64 {
    bits = bits.wrapping_add(0x9E37_79B9_7F4A_7C15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{Field, Schema};

    use super::super::testing::{decoder, hasher, page, shipped, transaction, with};
    use super::*;

    fn rows() -> RecordBatch {
        let records = [transaction(1), with("gender", "null"), with("lat", "-0.0"), with("job", "\"x\"")];
        decoder().decode(&page(&records)).unwrap().rows
    }

    /// The lake gives views, dictionaries, more columns, another order.
    fn as_from_the_lake(rows: &RecordBatch) -> RecordBatch {
        let dictionary = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
        let mut fields = vec![Field::new("_late", DataType::Boolean, false)];
        let mut arrays: Vec<ArrayRef> = vec![Arc::new(arrow::array::BooleanArray::from(vec![false; rows.num_rows()]))];
        for (at, (field, array)) in rows.schema().fields().iter().zip(rows.columns()).enumerate().rev() {
            let data_type = match field.data_type() {
                DataType::Utf8 if at % 2 == 0 => dictionary.clone(),
                DataType::Utf8 => DataType::Utf8View,
                other => other.clone(),
            };
            arrays.push(cast(array, &data_type).unwrap());
            fields.push(Field::new(field.name(), data_type, true));
        }
        RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).unwrap()
    }

    #[test]
    fn rows_read_back_are_the_same_rows() {
        let (contract, rows) = (shipped("transactions"), rows());
        let live = hasher().identities(&contract, &rows).unwrap();
        assert_eq!(hasher().identities(&contract, &as_from_the_lake(&rows)).unwrap(), live);
        let sliced: Vec<Identity> =
            (0..rows.num_rows()).flat_map(|row| hasher().identities(&contract, &rows.slice(row, 1)).unwrap()).collect();
        assert_eq!(sliced, live);
    }

    #[test]
    fn a_key_of_its_own_makes_other_hashes() {
        let (contract, rows) = (shipped("transactions"), rows());
        let here = hasher().identities(&contract, &rows).unwrap();
        let there = IdentityHasher::new([1, 2, 3, 5]).identities(&contract, &rows).unwrap();
        assert!(here.iter().zip(&there).all(|(a, b)| a.id != b.id && a.content != b.content));
    }

    /// One identity, and every input field changed in turn: each change shows in the content, none in the identity.
    #[test]
    fn every_input_column_counts() {
        let changes = [
            ("trans_date_trans_time", "\"2026-11-23 11:00:08\""),
            ("cc_num", "4111111111111112"),
            ("merchant", "\"x\""),
            ("category", "\"travel\""),
            ("amt", "2.87"),
            ("first", "\"J\""),
            ("last", "\"\""),
            ("gender", "\"F\""),
            ("street", "null"),
            ("city", "\"x\""),
            ("state", "\"x\""),
            ("zip", "1"),
            ("lat", "33.9"),
            ("long", "80"),
            ("city_pop", "1"),
            ("job", "\"x\""),
            ("dob", "\"1968-03-20\""),
            ("unix_time", "1"),
            ("merch_lat", "1"),
            ("merch_long", "1"),
            ("is_fraud", "1"),
        ];
        let mut records = vec![with("amt", "2.86"), with("amt", "2.860")];
        records.extend(changes.iter().map(|(field, json)| with(field, json)));
        let identities = decoder().decode(&page(&records)).unwrap().identities;
        assert_eq!(identities[0], identities[1]);
        let contents: std::collections::HashSet<u64> = identities[1..].iter().map(|i| i.content).collect();
        assert_eq!(contents.len(), changes.len() + 1);
        assert!(identities.iter().all(|i| i.id == identities[0].id));
    }

    /// A record that is sent again after a column was added may have had the field all along.
    #[test]
    fn a_row_from_before_a_column_was_added_is_repeated_by_one_with_it() {
        let mut contract = shipped("transactions").as_ref().clone();
        let mut added = contract.column("street").unwrap().clone();
        added.name = "channel".into();
        contract.columns.push(added);
        let rows = decoder().decode(&page(&[transaction(1), with("amt", "2.87")])).unwrap().rows;
        let with_channel = |channel: Option<&str>| {
            let mut fields = rows.schema().fields().to_vec();
            fields.push(Arc::new(Field::new("channel", DataType::Utf8, true)));
            let channels: ArrayRef = Arc::new(arrow::array::StringArray::from(vec![channel; rows.num_rows()]));
            let columns = rows.columns().iter().cloned().chain([channels]).collect();
            let rows = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap();
            hasher().identities(&contract, &rows).unwrap().into_iter().map(|i| i.content).collect::<Vec<_>>()
        };
        let (before, web, shop) = (with_channel(None), with_channel(Some("web")), with_channel(Some("shop")));
        assert!(repeats(before[0], before[0]) && repeats(before[0], web[0]) && repeats(web[0], web[0]));
        assert!(!repeats(web[0], shop[0]) && !repeats(web[0], before[0]) && !repeats(before[0], web[1]));
    }

    #[test]
    fn blocks_meet_without_a_seam() {
        let count = u64::try_from(BLOCK_ROWS).unwrap() * 2 + 3;
        let records: Vec<String> = (0..count).map(transaction).collect();
        let batch = decoder().decode(&page(&records)).unwrap();
        let alone = decoder().decode(&page(&records[BLOCK_ROWS..=BLOCK_ROWS])).unwrap();
        assert_eq!(batch.identities[BLOCK_ROWS], alone.identities[0]);
        let ids: std::collections::HashSet<u128> = batch.identities.iter().map(|i| i.id).collect();
        assert_eq!(ids.len(), records.len());
    }
}
