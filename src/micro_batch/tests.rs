//! The decoder as a whole: what it takes, what it refuses and how, and that its books balance whatever comes.

use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float64Type, Int32Type, Int64Type, TimestampMicrosecondType,
};
use md5::{Digest, Md5};
use proptest::prelude::*;

use super::testing::{
    ARRIVAL, CARD, contract, decoder, decoder_of, hasher, page, raws, shipped, texts, tokenizer, transaction, with,
    without,
};
use super::{Decoder, MicroBatch, RECORD_BYTES_MAX};
use crate::contract::TableContract;
use crate::stream::{Aggregator, Record, SequenceNumber};

/// The rows of a batch without their places, to compare batches of different pages.
fn content(batch: &MicroBatch) -> RecordBatch {
    let kept: Vec<usize> = batch
        .rows
        .schema()
        .fields()
        .iter()
        .enumerate()
        .filter(|(_, f)| f.name() != "_sequence")
        .map(|(i, _)| i)
        .collect();
    batch.rows.project(&kept).unwrap()
}

/// Malformed input: each record stands between two good ones, which must come out as if it had not been there.
#[test]
fn a_bad_record_is_one_reject_and_nothing_else() {
    let nested = |depth: usize| format!(r#"{{"x":{}{}}}"#, "[".repeat(depth), "]".repeat(depth));
    let huge = format!("{}{}", transaction(7), " ".repeat(RECORD_BYTES_MAX));
    let cases: Vec<(Vec<u8>, &str, &str)> = vec![
        (vec![], "empty", ""),
        (b" \r\n\t\n".to_vec(), "empty", ""),
        (super::too_large(huge.as_bytes()), "too_large", ""),
        (huge.into(), "too_large", ""),
        (b"\x1f\x8b\x08\x00\n\n\xff\xfe".to_vec(), "invalid_utf8", ""),
        ([transaction(7).as_bytes(), b"\xc3"].concat(), "invalid_utf8", ""),
        (transaction(7)[..200].into(), "malformed_json", ""),
        (format!("{},", transaction(7)).into(), "malformed_json", ""),
        (format!("\u{feff}{}", transaction(7)).into(), "malformed_json", ""),
        (with("amt", "NaN").into(), "malformed_json", ""),
        (with("lat", "-Infinity").into(), "malformed_json", ""),
        (with("amt", "01.5").into(), "malformed_json", ""),
        (with("city", "\"a\u{1}b\"").into(), "malformed_json", ""),
        (with("city", r#""\ud800""#).into(), "malformed_json", ""),
        (b"hello".to_vec(), "malformed_json", ""),
        (b"[1, 2]".to_vec(), "not_an_object", ""),
        (b"42".to_vec(), "not_an_object", ""),
        (nested(64).into(), "too_deep", ""),
        (format!("{{\"x\":{}", "[".repeat(500_000)).into(), "too_deep", ""),
        (b"{}".to_vec(), "missing_field", "trans_date_trans_time"),
        (without("amt").into(), "missing_field", "amt"),
        (with("amt", "null").into(), "missing_field", "amt"),
        (with("trans_num", "\"\"").into(), "missing_field", "trans_num"),
        (with("merchant", "\"fraud_\"").into(), "missing_field", "merchant"),
        (transaction(7).replace("\"gender\":", "\"amt\":1,\"gender\":").into(), "duplicate_field", "amt"),
        (transaction(7).replace("\"gender\":", "\"id\":1,\"id\":1,\"gender\":").into(), "duplicate_field", ""),
        (transaction(7).replace("\"gender\":", "\"a\\u006dt\":1,\"gender\":").into(), "duplicate_field", "amt"),
        (with("city", "5").into(), "wrong_type", "city"),
        (with("city", "[\"x\"]").into(), "wrong_type", "city"),
        (with("amt", "true").into(), "wrong_type", "amt"),
        (with("amt", "{}").into(), "wrong_type", "amt"),
        (with("dob", "19680319").into(), "wrong_type", "dob"),
        (with("amt", "\"1,50\"").into(), "invalid_number", "amt"),
        (with("amt", "\"NaN\"").into(), "invalid_number", "amt"),
        (with("lat", "\"inf\"").into(), "invalid_number", "lat"),
        (with("amt", "1.005").into(), "inexact_decimal", "amt"),
        (with("amt", "1e-3").into(), "inexact_decimal", "amt"),
        (with("amt", "1e999999999999999999").into(), "out_of_range", "amt"),
        (with("amt", "1234567890123456789.00").into(), "out_of_range", "amt"),
        (with("lat", "1e999").into(), "out_of_range", "lat"),
        (with("city_pop", "2147483648").into(), "out_of_range", "city_pop"),
        (with("unix_time", "9223372036854775808").into(), "out_of_range", "unix_time"),
        (with("city_pop", "1.5").into(), "not_an_integer", "city_pop"),
        (with("zip", "1257.0").into(), "not_an_integer", "zip"),
        (with("is_fraud", "2").into(), "invalid_boolean", "is_fraud"),
        (with("is_fraud", "\"yes\"").into(), "invalid_boolean", "is_fraud"),
        (with("dob", "\"1969-02-29\"").into(), "invalid_date", "dob"),
        (with("dob", "\"19-03-1968\"").into(), "invalid_date", "dob"),
        (with("trans_date_trans_time", "\"2026-11-23 24:00:00\"").into(), "invalid_time", "trans_date_trans_time"),
        (with("trans_date_trans_time", "\"23-11-2026 11:00\"").into(), "invalid_time", "trans_date_trans_time"),
        (with("cc_num", "2.70E+15").into(), "not_a_card_number", "cc_num"),
        (with("cc_num", "\"2.70E+15\"").into(), "not_a_card_number", "cc_num"),
        (with("cc_num", "12345678901234567890").into(), "not_a_card_number", "cc_num"),
        (with("cc_num", "-411111111111111").into(), "not_a_card_number", "cc_num"),
        (with("cc_num", "\"4111 1111 1111 1111\"").into(), "not_a_card_number", "cc_num"),
        (with("cc_num", "[4111111111111111]").into(), "wrong_type", "cc_num"),
        (
            transaction(7).replace("\"gender\":", "\"CVV2\":\"123\",\"gender\":").into(),
            "sensitive_authentication_data",
            "",
        ),
        (
            transaction(7).replace("\"gender\":", "\"x\":[{\"track_data\":\"%B4\"}],\"gender\":").into(),
            "sensitive_authentication_data",
            "",
        ),
        (b"{\"cvc\":\"123\",".to_vec(), "sensitive_authentication_data", ""),
        (with("trans_date_trans_time", "\"2026-11-23T12:10:00.000001Z\"").into(), "event_time_in_future", "event_time"),
        (with("amt", "0").into(), "check_failed", "amount"),
        (with("amt", "-2.86").into(), "check_failed", "amount"),
        (with("lat", "90.5").into(), "check_failed", "latitude"),
        (with("category", "\"weapons\"").into(), "check_failed", "category"),
    ];
    let mut decoder = decoder();
    let good = decoder.decode(&page(&[transaction(1), transaction(2)])).unwrap();
    assert_eq!(good.rows.num_rows(), 2);
    for (record, reason, field) in cases {
        let shown = String::from_utf8_lossy(&record[..record.len().min(200)]).into_owned();
        let batch = decoder.decode(&page(&[transaction(1).into_bytes(), record, transaction(2).into_bytes()])).unwrap();
        assert_eq!(texts(&batch.rejects, "reason"), [reason], "{shown}: {:?}", texts(&batch.rejects, "detail"));
        assert_eq!(texts(&batch.rejects, "field"), [field], "{shown}");
        assert_eq!(texts(&batch.rejects, "_sequence"), [format!("{:020}", 2)], "{shown}");
        assert_eq!(content(&batch), content(&good), "{shown}");
        assert_eq!(texts(&batch.rows, "_sequence"), [format!("{:020}", 1), format!("{:020}", 3)], "{shown}");
        assert_eq!(batch.identities, good.identities, "{shown}");
        assert_eq!(batch.read, 3, "{shown}");
        let raw = &raws(&batch.rejects)[0];
        assert_eq!(
            raw.is_empty(),
            matches!(reason, "empty" | "sensitive_authentication_data") && !shown.starts_with(' ')
        );
        let raw = String::from_utf8_lossy(raw);
        assert!(!raw.contains(CARD) && !raw.contains("4111 1111"), "{shown}: {raw}");
    }
}

/// Values as they should stand in the lake, spelled in every way producers do.
#[test]
fn values_are_taken_exactly() {
    let record = r#" {"id": 1, "é\"x": [{"a": "\u00e9\ud83d\ude00"}, []], "is_fraud":"1", "merch_long":"-81.200714","merch_lat":31.570999999999998, "unix_time":"1325376018",
        "trans_num":"a\u0062c\n", "dob":"1968-03-19", "job":"Engineer, \"kind\" \u00e9\ud83d\ude00", "city_pop":"333497.0","long":-0.0,"lat":5e-1, "zip":"1257","state":"SC",
        "city":"Utica", "amt":"45.0", "category":"travel", "merchant":"fraud_Cormier LLC","cc_num":60490596305,"trans_date_trans_time":"2026-11-23T13:00:00.25+02:00"}"#
        .replace('\n', " ");
    let batch = decoder().decode(&page(&[record])).unwrap();
    assert_eq!(texts(&batch.rejects, "detail"), Vec::<String>::new());
    let rows = &batch.rows;
    let column = |name: &str| rows.column_by_name(name).unwrap();
    let text = |name: &str| texts(rows, name)[0].clone();
    let eleven = 1_795_431_600_250_000;
    assert_eq!(column("event_time").as_primitive::<TimestampMicrosecondType>().value(0), eleven);
    assert_eq!(column("event_date").as_primitive::<Date32Type>().value(0), 20_780);
    assert_eq!(column("amount").as_primitive::<Decimal128Type>().value(0), 4500);
    assert_eq!(column("amount").data_type(), &DataType::Decimal128(20, 2));
    assert_eq!(text("card_token"), tokenizer().token("060490596305"));
    assert_eq!((text("merchant").as_str(), text("zip").as_str()), ("Cormier LLC", "01257"));
    assert_eq!(text("occupation"), "Engineer, \"kind\" é😀");
    assert_eq!(text("transaction_id"), "abc\n");
    assert!(column("is_fraud").as_boolean().value(0));
    assert_eq!(column("city_population").as_primitive::<Int32Type>().value(0), 333_497);
    assert_eq!(column("unix_time").as_primitive::<Int64Type>().value(0), 1_325_376_018);
    assert_eq!(column("latitude").as_primitive::<Float64Type>().value(0), 0.5);
    assert_eq!(column("merchant_latitude").as_primitive::<Float64Type>().value(0), 31.570999999999998);
    assert!(column("first_name").is_null(0) && column("gender").is_null(0) && column("street").is_null(0));
    assert_eq!((text("_source").as_str(), text("_shard").as_str()), ("files", "a.ndjson"));
    assert_eq!(column("_arrival_time").as_primitive::<TimestampMicrosecondType>().value(0), ARRIVAL);
    assert_eq!(batch.event_times, Some((eleven, eleven)));
    assert_eq!(rows.schema().fields().len(), shipped("transactions").columns.len() - 2);
}

#[test]
fn a_token_is_taken_in_place_of_a_card_number() {
    let token = tokenizer().token(CARD).to_owned();
    let batch = decoder().decode(&page(&[with("cc_num", &format!("\"{token}\"")), transaction(7)])).unwrap();
    assert_eq!(texts(&batch.rows, "card_token"), [token.clone(), token]);
    assert_eq!(batch.identities[0], batch.identities[1]);
}

#[test]
fn a_rejected_record_can_be_mended_and_keeps_its_card() {
    let mut decoder = decoder();
    let rejected = decoder.decode(&page(&[with("amt", "\"2.86x\"")])).unwrap();
    let mended = String::from_utf8(raws(&rejected.rejects)[0].clone()).unwrap().replace("2.86x", "2.86");
    let batch = decoder.decode(&page(&[mended, transaction(7)])).unwrap();
    assert_eq!(batch.rows.num_rows(), 2, "{:?}", texts(&batch.rejects, "detail"));
    assert_eq!(batch.identities[0], batch.identities[1]);
}

#[test]
fn one_record_may_hold_many_lines() {
    let lines = format!("\n{}\r\n\n{{bad\n{}", transaction(1), transaction(2));
    let mut page = page(&[lines]);
    let number: Arc<str> = "49590338271490256608559692538361571095921575989136588898".into();
    page.records[0].sequence = SequenceNumber::Kinesis(number.clone());
    let batch = decoder().decode(&page).unwrap();
    assert_eq!((batch.read, batch.rows.num_rows()), (3, 2));
    let sub = |batch: &RecordBatch| {
        batch.column_by_name("_sub_sequence").unwrap().as_primitive::<Int32Type>().values().to_vec()
    };
    assert_eq!((sub(&batch.rows), sub(&batch.rejects)), (vec![0, 2], vec![1]));
    assert_eq!(texts(&batch.rows, "_sequence"), [number.as_ref(), number.as_ref()]);
}

fn aggregate<D: AsRef<[u8]>>(records: &[D]) -> Vec<u8> {
    let mut aggregator = Aggregator::new("0".into());
    records.iter().for_each(|data| aggregator.push("k", data.as_ref()));
    aggregator.finish()
}

/// Lines are numbered through the whole aggregate, so that sequence and sub-sequence number name one.
#[test]
fn an_aggregate_is_its_user_records() {
    let two_lines = format!("{}\n{}", transaction(2), transaction(3));
    let whole = aggregate(&[transaction(1).as_str(), "{bad", &two_lines, "", &"x".repeat(RECORD_BYTES_MAX + 1)]);
    let batch = decoder().decode(&page(&[whole, transaction(4).into()])).unwrap();
    let places = |batch: &RecordBatch| {
        let sub = batch.column_by_name("_sub_sequence").unwrap().as_primitive::<Int32Type>().values().to_vec();
        let sequences = texts(batch, "_sequence").into_iter().map(|number| number.parse().unwrap());
        sequences.zip(sub).collect::<Vec<(u64, i32)>>()
    };
    assert_eq!(places(&batch.rows), [(1, 0), (1, 2), (1, 3), (2, 0)]);
    assert_eq!(places(&batch.rejects), [(1, 1), (1, 4), (1, 5)]);
    assert_eq!(texts(&batch.rejects, "reason"), ["malformed_json", "empty", "too_large"]);
    assert_eq!(batch.read, 7);
    let plain = decoder().decode(&page(&[1, 2, 3, 4].map(transaction))).unwrap();
    assert_eq!(batch.identities, plain.identities);
}

/// FLINK-29395: an aggregate that yields no user record. What is under a key that is not there is kept, tokens for cards.
#[test]
fn an_aggregate_of_nothing_and_one_with_a_wrong_key_are_rejects() {
    let framed = |message: &[u8]| [&[0xF3, 0x89, 0x9A, 0xC2], message, &Md5::digest(message)[..]].concat();
    let wrong = framed(b"\x1a\x1f\x08\x00\x1a\x1b{\"cc_num\":4111111111111111}");
    let batch = decoder().decode(&page(&[framed(b"\x0a\x01a"), wrong])).unwrap();
    assert_eq!((batch.read, batch.rows.num_rows()), (2, 0));
    assert_eq!(texts(&batch.rejects, "reason"), ["empty", "missing_key"]);
    assert_eq!(texts(&batch.rejects, "detail")[1], "it names the partition key 0 of an aggregate that has 0");
    assert!(raws(&batch.rejects)[1].starts_with(b"{\"cc_num\":\"tok_1_"), "{:?}", texts(&batch.rejects, "detail"));
}

/// Bad magic, MD5 or protobuf: a plain record, which is no text.
#[test]
fn what_only_looks_like_an_aggregate_is_a_plain_record() {
    let whole = aggregate(&[transaction(1), transaction(2)]);
    for damage in [2, 3, 4, 40, whole.len() - 1] {
        let mut damaged = whole.clone();
        damaged[damage] ^= 1;
        let batch = decoder().decode(&page(&[damaged, transaction(1).into()])).unwrap();
        assert_eq!(texts(&batch.rejects, "reason"), ["invalid_utf8"], "byte {damage}");
        assert_eq!((batch.read, batch.rows.num_rows()), (2, 1));
        assert!(!raws(&batch.rejects)[0].windows(CARD.len()).any(|bytes| bytes == CARD.as_bytes()));
    }
}

#[test]
fn an_empty_page_is_an_empty_batch() {
    let batch = decoder().decode(&page::<&str>(&[])).unwrap();
    assert_eq!((batch.read, batch.rows.num_rows(), batch.rejects.num_rows(), batch.event_times), (0, 0, 0, None));
}

/// A rule that cannot be computed for one row (here: a division by zero) costs that row only.
#[test]
fn an_expression_fails_for_its_row_alone() {
    let orders = contract(
        "CREATE TABLE orders (
           id STRING NOT NULL, at TIMESTAMP NOT NULL, day DATE NOT NULL GENERATED ALWAYS AS (CAST(at AS DATE)),
           parts INT NOT NULL CHECK (10 / parts > 1), note STRING,
           _source STRING NOT NULL, _shard STRING NOT NULL, _sequence STRING NOT NULL, _sub_sequence INT NOT NULL,
           _arrival_time TIMESTAMP NOT NULL, _epoch BIGINT NOT NULL, _late BOOLEAN NOT NULL
         ) WITH (format = 'json', event_time = 'at', identity = 'id', partition_key = 'id', partition_by = 'day')",
    );
    let line = |id: &str, parts: i32| format!(r#"{{"id":"{id}","at":"2026-01-01T00:00:00Z","parts":{parts}}}"#);
    let batch = decoder_of(&orders).decode(&page(&[line("a", 2), line("b", 0), line("c", 9), line("d", 1)])).unwrap();
    assert_eq!(texts(&batch.rows, "id"), ["a", "d"]);
    assert_eq!(texts(&batch.rejects, "reason"), ["incomputable", "check_failed"]);
    assert_eq!(texts(&batch.rejects, "field"), ["parts", "parts"]);
}

#[test]
fn a_contract_that_cannot_be_decoded_is_refused_by_name() {
    let declared = shipped("transactions");
    let refuse = |change: &dyn Fn(&mut TableContract)| {
        let mut contract = declared.as_ref().clone();
        change(&mut contract);
        Decoder::new(Arc::new(contract), shipped("rejects"), tokenizer(), 0, hasher()).unwrap_err().to_string()
    };
    let rule = |sql: &str| refuse(&|c: &mut TableContract| c.columns[8].check = Some(sql.to_owned()));
    assert!(rule("citty = 'x'").contains("citty"));
    assert!(rule("now() > event_time").contains("its row alone"));
    assert!(rule("random() > 0.5").contains("its row alone"));
    assert!(rule("amount").contains("Boolean"));
    assert!(refuse(&|c| c.stream = None).contains("no stream"));
    assert!(refuse(&|c| c.columns[0].nullable = true).contains("event_time"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// `read = rows + rejects`, and no card number comes through, whatever is done to records.
    #[test]
    fn the_books_balance_for_any_bytes(edits in prop::collection::vec((0_u64..4, any::<prop::sample::Index>(), 0_u8..4, any::<u8>()), 0..24), junk in prop::collection::vec(any::<u8>(), 0..64)) {
        let mut records: Vec<Vec<u8>> = (0..4).map(|i| transaction(i).into_bytes()).collect();
        for (record, at, edit, byte) in edits {
            let record = &mut records[usize::try_from(record).unwrap()];
            if record.is_empty() { continue; }
            let at = at.index(record.len());
            match edit {
                0 => record[at] = byte,
                1 => { record.remove(at); }
                2 => record.insert(at, byte),
                _ => record.truncate(at),
            }
        }
        records.push(junk);
        records.push(aggregate(&records));
        let batch = decoder().decode(&page(&records)).unwrap();
        prop_assert_eq!(batch.read, (batch.rows.num_rows() + batch.rejects.num_rows()) as u64);
        prop_assert_eq!(batch.identities.len(), batch.rows.num_rows());
        for raw in raws(&batch.rejects) {
            prop_assert!(!raw.windows(CARD.len()).any(|w| w == CARD.as_bytes()));
        }
        prop_assert!(texts(&batch.rows, "card_token").iter().all(|t| t.starts_with("tok_1_")));
    }
}

/// A record cut anywhere leaves no card number, nor its better part, in the rejects.
#[test]
fn no_card_number_survives_a_cut() {
    let whole = transaction(7);
    let cuts: Vec<&str> = (1..whole.len()).map(|end| &whole[..end]).collect();
    let batch = decoder().decode(&page(&cuts)).unwrap();
    assert_eq!(batch.rejects.num_rows(), cuts.len());
    assert!(raws(&batch.rejects).iter().all(|raw| !raw.windows(6).any(|w| w == b"411111")));
}

#[test]
fn a_page_that_is_too_large_stops_loudly() {
    let one = bytes::Bytes::from(vec![b'x'; RECORD_BYTES_MAX]);
    let mut page = page::<&str>(&[]);
    page.records = (0..257)
        .map(|i| Record { sequence: SequenceNumber::Offset(i), arrival_time: ARRIVAL, data: one.clone() })
        .collect();
    assert!(decoder().decode(&page).unwrap_err().to_string().contains("268435456"));
}
