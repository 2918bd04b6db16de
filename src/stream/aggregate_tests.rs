//! Aggregates written and read back, damaged at every byte, and made of garbage. (What another implementation says of them is
//! asked in `tests/it/aggregates.rs`.)

use proptest::prelude::*;

use super::*;

/// These bytes as a message, with magic and MD5.
fn framed(message: &[u8]) -> Vec<u8> {
    [&MAGIC[..], message, &Md5::digest(message)[..]].concat()
}

fn read(data: &[u8]) -> Option<Vec<UserRecord<'_>>> {
    Aggregate::of(data).map(|aggregate| aggregate.records().collect())
}

fn written(records: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut aggregator = Aggregator::new("12345".into());
    records.iter().for_each(|(key, data)| aggregator.push(key, data));
    aggregator.finish()
}

fn user_record(partition_key: u64, hash_key: Option<u64>, data: &[u8]) -> Vec<u8> {
    let mut record = Vec::new();
    push_varint(&mut record, 1 << 3);
    push_varint(&mut record, partition_key);
    if let Some(hash_key) = hash_key {
        push_varint(&mut record, 2 << 3);
        push_varint(&mut record, hash_key);
    }
    push_bytes(&mut record, 3, data);
    record
}

fn message(fields: &[(u64, &[u8])]) -> Vec<u8> {
    let mut message = Vec::new();
    fields.iter().for_each(|(number, bytes)| push_bytes(&mut message, *number, bytes));
    message
}

/// Bytes by hand, after the protobuf encoding: one key `a`, one hash key `1`, one record `{}`.
#[test]
fn the_bytes_are_those_of_the_format() {
    let message = b"\x0a\x01a\x12\x011\x1a\x08\x08\x00\x10\x00\x1a\x02{}";
    let mut aggregator = Aggregator::new("1".into());
    aggregator.push("a", b"{}");
    assert_eq!(aggregator.finish(), framed(message));
}

#[test]
fn a_key_behind_the_table_is_told_and_the_record_kept() {
    let records = [user_record(0, None, b"x"), user_record(2, None, b"y"), user_record(1, Some(1), b"z")];
    let [x, y, z] = records.each_ref().map(Vec::as_slice);
    // Tables may stand behind the records.
    let whole = framed(&message(&[(3, x), (1, b"a"), (3, y), (1, b"b"), (2, b"7"), (3, z)]));
    let read = read(&whole).unwrap();
    assert_eq!(read.iter().map(|record| record.data).collect::<Vec<_>>(), [b"x", b"y", b"z"]);
    let told: Vec<String> =
        read.iter().map(|r| r.missing_key.map_or_else(String::new, |key| key.to_string())).collect();
    assert_eq!(told, ["", "partition key 2 of an aggregate that has 2", "hash key 1 of an aggregate that has 1"]);
}

#[test]
fn an_aggregate_may_hold_no_user_record() {
    assert_eq!(read(&framed(&message(&[(1, b"a")]))).unwrap(), []);
    assert!(read(&framed(b"")).is_none(), "the library's own reader wants a byte");
}

#[test]
fn unknown_fields_are_passed_over_and_the_last_of_two_counts() {
    let mut record = user_record(9, None, b"first");
    record.extend(user_record(0, None, b"last"));
    push_bytes(&mut record, 4, b"a tag");
    record.extend([5 << 3 | 1, 0, 0, 0, 0, 0, 0, 0, 0, 6 << 3 | 5, 0, 0, 0, 0, 2 << 3 | 2, 0]);
    let mut whole = message(&[(1, b"a"), (3, &record), (77, b"?")]);
    push_varint(&mut whole, 3 << 3);
    push_varint(&mut whole, u64::MAX);
    let whole = framed(&whole);
    assert_eq!(read(&whole).unwrap(), [UserRecord { data: b"last", missing_key: None }]);
}

#[test]
fn what_does_not_check_out_is_a_plain_record() {
    let good = user_record(0, None, b"x");
    let cut = &good[..good.len() - 1];
    let keyless = &user_record(0, None, b"x")[2..];
    let mut dataless = Vec::new();
    push_varint(&mut dataless, 1 << 3);
    push_varint(&mut dataless, 0);
    for (what, message) in [
        ("a record that is cut", message(&[(1, b"a"), (3, cut)])),
        ("a record without a key", message(&[(1, b"a"), (3, keyless)])),
        ("a record without data", message(&[(1, b"a"), (3, &dataless)])),
        ("the field 0", vec![0x02, 0x00]),
        ("a group", vec![0x0b, 0x0c]),
        ("a wire type there is not", vec![0x0e]),
        ("a length behind the end", vec![0x0a, 0x7f]),
        ("a length that overflows", vec![0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]),
        ("a varint without an end", vec![0x08, 0xff, 0xff]),
        ("a varint of more than 64 bits", vec![0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02]),
        ("a varint of eleven bytes", vec![0x08, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00]),
        ("JSON", b"{\"amount\":1}".to_vec()),
    ] {
        assert!(read(&framed(&message)).is_none(), "{what}");
    }
    for short in [&b""[..], &MAGIC[..3], &MAGIC, &[&MAGIC[..], &[0; 15]].concat(), &[&MAGIC[..], &[0; 16]].concat()] {
        assert!(read(short).is_none(), "{short:?}");
    }
}

#[test]
fn its_size_is_known_before() {
    let mut aggregator = Aggregator::new(u128::MAX.to_string());
    for number in 0..3_000 {
        let (key, data) = (format!("card-{}", number % 700), vec![b'x'; number % 300]);
        let foreseen = aggregator.bytes_with(&key, &data);
        aggregator.push(&key, &data);
        let is = aggregator.clone().finish().len();
        assert!(is <= foreseen && foreseen <= is + USER_RECORD_FRAME_BYTES + key.len(), "{number}: {is} {foreseen}");
    }
    assert_eq!(aggregator.count(), 3_000);
}

fn user_records() -> impl Strategy<Value = Vec<(String, Vec<u8>)>> {
    prop::collection::vec(("[a-z]{0,3}", prop::collection::vec(any::<u8>(), 0..300)), 1..40)
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(records in user_records()) {
        let whole = written(&records);
        let read = read(&whole).unwrap();
        prop_assert!(read.iter().all(|record| record.missing_key.is_none()));
        prop_assert!(read.iter().map(|record| record.data).eq(records.iter().map(|(_, data)| data.as_slice())));
    }

    /// A byte that is changed, left out or added makes it a plain record.
    #[test]
    fn damage_is_noticed(records in user_records(), at: prop::sample::Index, to: u8) {
        let whole = written(&records);
        let at = at.index(whole.len());
        let mut changed = whole.clone();
        changed[at] = to;
        prop_assert_eq!(read(&changed).is_some(), changed == whole);
        prop_assert!(read(&whole[..at]).is_none());
        let mut longer = whole;
        longer.push(to);
        prop_assert!(read(&longer).is_none());
    }

    /// Any message with the right MD5 is read or refused, never more than it holds.
    #[test]
    fn garbage_is_read_or_refused(message in prop::collection::vec(any::<u8>(), 0..400)) {
        let whole = framed(&message);
        if let Some(records) = read(&whole) {
            prop_assert!(records.len() * 6 <= message.len());
            prop_assert!(records.iter().map(|record| record.data.len()).sum::<usize>() <= message.len());
        }
    }

    /// The same of messages that were sound but for a few bytes.
    #[test]
    fn nearly_sound_messages_are_read_or_refused(
        records in user_records(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let whole = written(&records);
        let mut message = whole[MAGIC.len()..whole.len() - DIGEST_BYTES].to_vec();
        for (at, to) in damage {
            let at = at.index(message.len());
            message[at] = to;
        }
        let whole = framed(&message);
        if let Some(records) = read(&whole) {
            prop_assert!(records.iter().map(|record| record.data.len()).sum::<usize>() <= message.len());
        }
    }
}
