//! Several user records in one record of the stream: the format of the Kinesis Producer Library, read and written.
//!
//! The one law: what does not check out to the last byte (magic, MD5, protobuf) is a plain record, and of one that does no
//! user record is dropped: one that names a key the record does not have is handed over as such. Reading allocates nothing,
//! whatever the bytes are.
//!
//! The format (`aggregation-format.md` of the library): magic, a protobuf message, the message's MD5.
//!
//! ```text
//! message AggregatedRecord {                 message Record {
//!   repeated string partition_key_table = 1;   required uint64 partition_key_index = 1;
//!   repeated string explicit_hash_key_table = 2; optional uint64 explicit_hash_key_index = 2;
//!   repeated Record records = 3;               required bytes data = 3;
//! }                                            repeated Tag tags = 4;
//!                                            }
//! ```
//!
//! Whether a user record's hash key belongs to the shard it is in is not asked: the library's own reader drops those that do
//! not, counting on their producer to send them again, and identities say here what was sent twice.

use std::collections::HashMap;
use std::fmt;

use md5::{Digest, Md5};

/// How such a record begins. No text does: these are no UTF-8.
pub const MAGIC: [u8; 4] = [0xF3, 0x89, 0x9A, 0xC2];

/// Bytes of the MD5 at the end.
const DIGEST_BYTES: usize = 16;

/// Bytes of a varint, at most: seven bits each.
const VARINT_BYTES_MAX: usize = 10;

/// What an aggregate's bytes hold besides keys and user records.
const FRAME_BYTES: usize = MAGIC.len() + DIGEST_BYTES;

/// What a user record costs besides its data and keys, at most: three tags, two indexes and two lengths below 2^28, and the
/// tags and lengths of two keys.
const USER_RECORD_FRAME_BYTES: usize = 4 + 2 * 4 + 2 * 4 + 2 * 5;

/// A record that holds user records, checked.
#[derive(Clone, Copy, Debug)]
pub struct Aggregate<'a> {
    message: &'a [u8],
    partition_keys: u64,
    hash_keys: u64,
}

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserRecord<'a> {
    pub data: &'a [u8],
    /// The key it names and the aggregate does not have.
    pub missing_key: Option<MissingKey>,
}

/// An index behind the end of its table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MissingKey {
    kind: &'static str,
    index: u64,
    keys: u64,
}

impl fmt::Display for MissingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} of an aggregate that has {}", self.kind, self.index, self.keys)
    }
}

impl<'a> Aggregate<'a> {
    /// The aggregate that these bytes are; `None` for a plain record.
    #[inline]
    pub fn of(data: &'a [u8]) -> Option<Self> {
        if data.starts_with(&MAGIC) { Self::checked(&data[MAGIC.len()..]) } else { None }
    }

    fn checked(data: &'a [u8]) -> Option<Self> {
        let (message, digest) = data.split_last_chunk::<DIGEST_BYTES>()?;
        if message.is_empty() || Md5::digest(message)[..] != digest[..] {
            return None;
        }
        let mut aggregate = Self { message, partition_keys: 0, hash_keys: 0 };
        let mut rest = message;
        while !rest.is_empty() {
            match field(&mut rest)? {
                (1, Value::Bytes(_)) => aggregate.partition_keys += 1,
                (2, Value::Bytes(_)) => aggregate.hash_keys += 1,
                (3, Value::Bytes(record)) => {
                    Fields::of(record)?;
                }
                _ => {}
            }
        }
        Some(aggregate)
    }

    /// The user records, in their order.
    pub fn records(self) -> impl Iterator<Item = UserRecord<'a>> {
        let mut rest = self.message;
        std::iter::from_fn(move || {
            while !rest.is_empty() {
                if let (3, Value::Bytes(record)) = field(&mut rest)? {
                    return Fields::of(record).map(|fields| self.user_record(&fields));
                }
            }
            None
        })
    }

    fn user_record(&self, fields: &Fields<'a>) -> UserRecord<'a> {
        let missing = |kind, index: u64, keys| (index >= keys).then_some(MissingKey { kind, index, keys });
        let missing_key = missing("partition key", fields.partition_key, self.partition_keys)
            .or_else(|| missing("hash key", fields.hash_key?, self.hash_keys));
        UserRecord { data: fields.data, missing_key }
    }
}

/// A message `Record`.
struct Fields<'a> {
    partition_key: u64,
    hash_key: Option<u64>,
    data: &'a [u8],
}

impl<'a> Fields<'a> {
    /// `None` when it is malformed or lacks what is required. Of a field that comes twice the last counts.
    fn of(mut rest: &'a [u8]) -> Option<Self> {
        let (mut partition_key, mut hash_key, mut data) = (None, None, None);
        while !rest.is_empty() {
            match field(&mut rest)? {
                (1, Value::Varint(index)) => partition_key = Some(index),
                (2, Value::Varint(index)) => hash_key = Some(index),
                (3, Value::Bytes(bytes)) => data = Some(bytes),
                _ => {}
            }
        }
        Some(Self { partition_key: partition_key?, hash_key, data: data? })
    }
}

enum Value<'a> {
    Varint(u64),
    Bytes(&'a [u8]),
    /// Four or eight bytes, which no field here has.
    Fixed,
}

/// Takes one field off: its number and value; `None` when these bytes are no protobuf. (Groups, which nothing has written for
/// fifteen years, are none either.)
fn field<'a>(rest: &mut &'a [u8]) -> Option<(u64, Value<'a>)> {
    let tag = varint(rest)?;
    let number = tag >> 3;
    if number == 0 || tag > u64::from(u32::MAX) {
        return None;
    }
    let value = match tag & 7 {
        0 => Value::Varint(varint(rest)?),
        1 => take(rest, 8).map(|_| Value::Fixed)?,
        2 => {
            let length = usize::try_from(varint(rest)?).ok()?;
            Value::Bytes(take(rest, length)?)
        }
        5 => take(rest, 4).map(|_| Value::Fixed)?,
        _ => return None,
    };
    Some((number, value))
}

fn take<'a>(rest: &mut &'a [u8], bytes: usize) -> Option<&'a [u8]> {
    let (taken, behind) = rest.split_at_checked(bytes)?;
    *rest = behind;
    Some(taken)
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for place in 0..VARINT_BYTES_MAX {
        let (byte, behind) = rest.split_first()?;
        *rest = behind;
        let bits = u64::from(byte & 0x7f);
        // Of the tenth byte one bit is left.
        if place == VARINT_BYTES_MAX - 1 && bits > 1 {
            return None;
        }
        value |= bits << (7 * place);
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// User records being put together. All of them go where the aggregate's hash key says, so each is written with it.
#[derive(Clone, Debug)]
pub struct Aggregator {
    hash_key: String,
    /// The place of each partition key in its table.
    keys: HashMap<String, u64>,
    /// The table and the records, as the message holds them.
    partition_keys: Vec<u8>,
    records: Vec<u8>,
    count: usize,
}

impl Aggregator {
    /// Nothing yet. `hash_key` is a decimal number below 2^128.
    pub fn new(hash_key: String) -> Self {
        Self { hash_key, keys: HashMap::new(), partition_keys: Vec::new(), records: Vec::new(), count: 0 }
    }

    /// Bytes the aggregate would have with this user record, or a few less.
    pub fn bytes_with(&self, partition_key: &str, data: &[u8]) -> usize {
        let held = FRAME_BYTES + self.partition_keys.len() + self.records.len() + self.hash_key.len();
        held + USER_RECORD_FRAME_BYTES + partition_key.len() + data.len()
    }

    /// Adds a user record.
    pub fn push(&mut self, partition_key: &str, data: &[u8]) {
        let place = self.keys.get(partition_key).copied().unwrap_or_else(|| {
            let place = self.keys.len() as u64;
            self.keys.insert(partition_key.to_owned(), place);
            push_bytes(&mut self.partition_keys, 1, partition_key.as_bytes());
            place
        });
        let mut record = Vec::with_capacity(data.len() + USER_RECORD_FRAME_BYTES);
        push_varint(&mut record, 1 << 3);
        push_varint(&mut record, place);
        push_varint(&mut record, 2 << 3);
        push_varint(&mut record, 0);
        push_bytes(&mut record, 3, data);
        push_bytes(&mut self.records, 3, &record);
        self.count += 1;
    }

    /// User records so far.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The record of the stream.
    pub fn finish(self) -> Vec<u8> {
        let mut whole = MAGIC.to_vec();
        whole.extend(&self.partition_keys);
        push_bytes(&mut whole, 2, self.hash_key.as_bytes());
        whole.extend(&self.records);
        let digest = Md5::digest(&whole[MAGIC.len()..]);
        whole.extend_from_slice(&digest);
        whole
    }
}

fn push_bytes(message: &mut Vec<u8>, number: u64, bytes: &[u8]) {
    push_varint(message, number << 3 | 2);
    push_varint(message, bytes.len() as u64);
    message.extend_from_slice(bytes);
}

#[expect(clippy::cast_possible_truncation, reason = "seven bits at a time are meant")]
fn push_varint(message: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        message.push(value as u8 | 0x80);
        value >>= 7;
    }
    message.push(value as u8);
}

#[cfg(test)]
#[path = "aggregate_tests.rs"]
mod tests;
