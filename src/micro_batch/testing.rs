//! What the tests of this module share: the shipped contracts, a decoder, records and pages.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use bytes::Bytes;

use super::{Decoder, IdentityHasher};
use crate::clock::Micros;
use crate::contract::TableContract;
use crate::stream::{Interval, Page, Position, Record, SequenceNumber, ShardKey};
use crate::token::{TokenKey, Tokenizer};

/// 2026-11-23T12:00:00Z, when every record of a test arrives.
pub(super) const ARRIVAL: Micros = 1_795_435_200_000_000;

/// A card number nobody has, of the kind card issuers give to testers.
pub(super) const CARD: &str = "4111111111111111";

pub(super) fn shipped(table: &str) -> Arc<TableContract> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("lake").join(format!("{table}.sql"));
    contract(&std::fs::read_to_string(path).unwrap())
}

pub(super) fn contract(sql: &str) -> Arc<TableContract> {
    Arc::new(TableContract::parse("test.sql", sql).unwrap())
}

pub(super) fn tokenizer() -> Tokenizer {
    Tokenizer::new(TokenKey::from_hex(1, &"07".repeat(32)).unwrap())
}

pub(super) fn hasher() -> IdentityHasher {
    IdentityHasher::new([1, 2, 3, 4])
}

pub(super) fn decoder() -> Decoder {
    decoder_of(&shipped("transactions"))
}

/// With ten minutes of `max_ahead`.
pub(super) fn decoder_of(contract: &Arc<TableContract>) -> Decoder {
    Decoder::new(Arc::clone(contract), shipped("rejects"), tokenizer(), 600_000_000, hasher()).unwrap()
}

/// A page whose records stand at the offsets 1, 2, 3…
pub(super) fn page<R: AsRef<[u8]>>(records: &[R]) -> Page {
    let record = |(at, data): (u64, &R)| Record {
        sequence: SequenceNumber::Offset(at),
        arrival_time: ARRIVAL,
        data: Bytes::copy_from_slice(data.as_ref()),
    };
    let end = SequenceNumber::Offset(records.len() as u64);
    Page {
        shard: ShardKey { source: "files".into(), shard: "a.ndjson".into() },
        interval: Interval { from: Position::TrimHorizon, to: Position::After(end) },
        records: (1..).zip(records).map(record).collect(),
        share: None,
    }
}

/// A valid transaction; every number gives another id.
pub(super) fn transaction(number: u64) -> String {
    format!(
        r#"{{"trans_date_trans_time":"2026-11-23 11:{:02}:{:02}","cc_num":{CARD},"merchant":"fraud_Kirlin and Sons","category":"personal_care","amt":2.86,"first":"Jeff","last":"Elliott","gender":"M","street":"351 Darlene Green","city":"Columbia","state":"SC","zip":1257,"lat":33.9659,"long":-80.9355,"city_pop":333497,"job":"Mechanical engineer","dob":"1968-03-19","trans_num":"{number:032x}","unix_time":1371816865,"merch_lat":33.986391,"merch_long":-81.200714,"is_fraud":0}}"#,
        number / 60 % 60,
        number % 60,
    )
}

/// A valid transaction with the value of one field replaced by this JSON.
pub(super) fn with(field: &str, json: &str) -> String {
    let whole = transaction(7);
    let start = whole.find(&format!("\"{field}\":")).unwrap() + field.len() + 3;
    let value = &whole[start..];
    let text_end = value.strip_prefix('"').map(|text| text.find('"').unwrap() + 2);
    let end = text_end.unwrap_or_else(|| value.find([',', '}']).unwrap());
    format!("{}{json}{}", &whole[..start], &value[end..])
}

/// A valid transaction without one field.
pub(super) fn without(field: &str) -> String {
    with(field, "0").replace(&format!("\"{field}\":0,"), "")
}

/// The texts of a column; null is empty.
pub(super) fn texts(batch: &RecordBatch, column: &str) -> Vec<String> {
    let array = batch.column_by_name(column).unwrap().as_string::<i32>();
    array.iter().map(|text| text.unwrap_or_default().to_owned()).collect()
}

/// The bytes of the rejected records; none where they are not kept.
pub(super) fn raws(rejects: &RecordBatch) -> Vec<Vec<u8>> {
    let array = rejects.column_by_name("record").unwrap().as_binary::<i32>();
    array.iter().map(|raw| raw.unwrap_or_default().to_vec()).collect()
}
