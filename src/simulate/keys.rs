//! What the replayer must know of a record: when it happened, and which shard it goes to.
//!
//! The one law: every line becomes one record that the stream takes. What is wrong with it, the decoder says.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::fields;
use crate::clock::Micros;
use crate::contract::{InputField, Origin, TableContract};
use crate::error::{Error, Result};
use crate::files::RECORD_BYTES_MAX;
use crate::kinesis::producer::PutRecord;
use crate::micro_batch::too_large;
use crate::token::{TokenFields, Tokenized, Tokenizer};

/// Partition keys have 1 to 256 characters.
const PARTITION_KEY_BYTES_MAX: usize = 256;

/// The input fields that say when something happened and which shard it goes to.
#[derive(Debug)]
pub(super) struct KeyFields {
    event_time: Option<Arc<str>>,
    partition_key: Option<InputField>,
    tokens: TokenFields,
}

impl KeyFields {
    /// Those the contract names.
    ///
    /// # Errors
    /// [`Error::Usage`] when the contract is not one of a stream.
    pub fn of(contract: &TableContract) -> Result<Self> {
        let stream = contract.stream.as_ref().ok_or_else(|| {
            Error::usage(format!("table `{}` is not fed by a stream: its contract names no `format`", contract.name))
        })?;
        let field = |column: &str| match &contract.column(column)?.origin {
            Origin::Field(field) => Some(field.clone()),
            Origin::Generated(_) | Origin::Engine => None,
        };
        Ok(Self {
            event_time: field(&stream.event_time).map(|field| field.name),
            partition_key: field(&stream.partition_key),
            tokens: TokenFields::of(contract),
        })
    }

    /// What is sent of a line: card numbers replaced by their tokens, and when it happened. Plain records are walked once.
    pub fn read(
        &self,
        tokenizer: &mut Tokenizer,
        contract: &TableContract,
        json: &[u8],
    ) -> (Option<Micros>, PutRecord) {
        let Some(Tokenized { json, values }) = tokenizer.tokenize_plain(&self.tokens, json, self.names()) else {
            return self.put_record(tokenizer.tokenize_record(contract, json));
        };
        let value = |place: Option<Range<usize>>| place.and_then(|place| std::str::from_utf8(&json[place]).ok());
        let (event_time, partition_key) = self.of_values(values.map(value), &json);
        (event_time, put_record(partition_key, json))
    }

    /// What is sent of a line whose card numbers are tokens already.
    pub fn put_record(&self, json: Vec<u8>) -> (Option<Micros>, PutRecord) {
        let (event_time, partition_key) = self.of_record(&json);
        (event_time, put_record(partition_key, json))
    }

    /// Event time, as far as it can be told, and partition key: the key field's text, or else a hash of the record. A
    /// field that must hold a token and holds none is never used.
    pub fn of_record(&self, json: &[u8]) -> (Option<Micros>, String) {
        self.of_values(fields::find(json, self.names()), json)
    }

    fn names(&self) -> [&str; 2] {
        let key = self.partition_key.as_ref().map(|field| field.name.as_ref());
        [self.event_time.as_deref(), key].map(Option::unwrap_or_default)
    }

    fn of_values(&self, [event_time, key]: [Option<&str>; 2], json: &[u8]) -> (Option<Micros>, String) {
        let event_time = self.event_time.as_ref().and(event_time).and_then(fields::text).and_then(fields::event_time);
        let is_fit = |key: &&str| {
            let is_token = || Tokenizer::is_token(key.as_bytes());
            let field = self.partition_key.as_ref();
            (1..=PARTITION_KEY_BYTES_MAX).contains(&key.len()) && field.is_some_and(|field| !field.token || is_token())
        };
        let key = key.and_then(fields::text).filter(is_fit).map(str::to_owned);
        (event_time, key.unwrap_or_else(|| hex::encode(&Sha256::digest(json)[..16])))
    }
}

/// The stream takes no line longer than a record: of such a line it gets a note in its place, which the decoder rejects as too
/// large, so that one line is one read and one reject here as well.
fn put_record(partition_key: String, json: Vec<u8>) -> PutRecord {
    let data = if json.len() + partition_key.len() > RECORD_BYTES_MAX { too_large(&json) } else { json };
    PutRecord { partition_key, data: Bytes::from(data) }
}

#[cfg(test)]
pub(super) mod tests {
    use arrow::datatypes::DataType;

    use super::*;
    use crate::contract::{Column, Format, StreamContract, timestamp_type};
    use crate::token::TokenKey;

    fn column(name: &str, data_type: DataType, field: &str) -> Column {
        let origin = Origin::Field(InputField { name: field.into(), pad: None, strip_prefix: None, token: false });
        Column { name: name.into(), data_type, nullable: false, comment: String::new(), origin, check: None }
    }

    pub fn contract() -> TableContract {
        TableContract {
            name: "t".into(),
            comment: String::new(),
            columns: vec![column("event_time", timestamp_type(), "time"), column("card", DataType::Utf8, "card")],
            partition_by: "event_date".into(),
            sort_by: Vec::new(),
            bloom_filters: Vec::new(),
            row_group_rows: None,
            sinks: crate::contract::Sink::usual(),
            keep_days: None,
            stream: Some(StreamContract {
                format: Format::Json,
                event_time: "event_time".into(),
                identity: "card".into(),
                partition_key: "card".into(),
            }),
        }
    }

    #[test]
    fn of_a_line_too_long_for_the_stream_a_note_is_sent() {
        let fields = KeyFields::of(&contract()).unwrap();
        let line = |bytes: usize| format!("{{\"card\":\"c1\",\"x\":\"{}\"}}", "y".repeat(bytes)).into_bytes();
        let longest = RECORD_BYTES_MAX - "c1".len() - line(0).len();
        assert_eq!(fields.put_record(line(longest)).1.data, line(longest));
        let (_, note) = fields.put_record(line(longest + 1));
        assert!(note.data.len() < 100_000 && note.partition_key == "c1");
    }

    #[test]
    fn a_plain_record_and_any_other_are_read_alike() {
        let contract = TableContract::parse("transactions.sql", include_str!("../../lake/transactions.sql")).unwrap();
        let (fields, key) = (KeyFields::of(&contract).unwrap(), TokenKey::from_hex(1, &"5a".repeat(32)).unwrap());
        let mut tokenizer = Tokenizer::new(key);
        for json in [
            r#"{"trans_date_trans_time":"2019-01-01 00:00:18","cc_num":2703186189652095,"amt":4.97}"#,
            r#"{"cc_num":"27031861896520","x":{"trans_date_trans_time":0},"trans_date_trans_time":"2019-01-01T00:00:18Z"}"#,
            r#"{"cc_num":"2703 1861 8965 2095","trans_date_trans_time":"2019-01-01 00:00:18\n"}"#,
            r#"{"cc_num":270318618965209,"cc_num":null,"trans_date_trans_time":"then"}"#,
            r#"{"cc_num":"270.318","merchant":"Straße"}"#,
            r#"{"cc_num":2703186189652095,"trans_date_trans_time""#,
            "no json 2703186189652095",
            "",
        ] {
            let (time, record) = fields.read(&mut tokenizer, &contract, json.as_bytes());
            let (expected_time, expected) = fields.put_record(tokenizer.tokenize_record(&contract, json.as_bytes()));
            assert_eq!(
                (time, record.partition_key, record.data),
                (expected_time, expected.partition_key, expected.data)
            );
        }
    }

    #[test]
    fn keys_of_records() {
        let mut contract = contract();
        let fields = KeyFields::of(&contract).unwrap();
        let of = |json: &str| fields.of_record(json.as_bytes());
        assert_eq!(of(r#"{"card":"c1","time":"2019-01-01T00:00:00Z"}"#), (Some(1_546_300_800_000_000), "c1".into()));
        let hashed = of("no json").1;
        assert_eq!((hashed.len(), of("no json").1 == hashed, of("nor this").1 == hashed), (32, true, false));
        for json in [r#"{"card":4}"#, r#"{"card":""}"#, &format!("{{\"card\":\"{}\"}}", "x".repeat(257))] {
            assert_eq!((of(json).0, of(json).1.len()), (None, 32), "{json}");
        }
        contract.stream = None;
        assert!(matches!(KeyFields::of(&contract), Err(Error::Usage(_))));
    }
}
