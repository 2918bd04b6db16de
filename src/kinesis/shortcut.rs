//! PutRecords and GetRecords of the embedded server, by the short way.
//!
//! The one law: what is answered here is what the server itself would have answered. Whatever is out of the ordinary (an
//! unusual request, an error, an empty page) is left to it by returning `None`, nothing having been stored.
//!
//! The server parses a request into a tree of values, copies it, decodes and encodes each record to see whether it can,
//! and does all that behind the gate. Nine tenths of its time are spent there. Here a request is parsed in place before the
//! gate, and an answer is written after it; between, only the store is touched.

use std::fmt::Write;

use axum::body::Body;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use ferrokinesis::sequence::{increment_sequence, parse_sequence, partition_key_to_hash_key, shard_ix_to_hex};
use ferrokinesis::shard_iterator::{create_shard_iterator, decode_shard_iterator};
use ferrokinesis::store::Store;
use ferrokinesis::types::EpochSeconds;
use ferrokinesis::util::current_time_ms;
use serde::Deserialize;
use tokio::sync::RwLock;

use super::places::Place;
use super::tail::{Kept, Tail};

/// What the SDK speaks; the server also knows CBOR.
const CONTENT_TYPE: &str = "application/x-amz-json-1.1";

/// The service's limits on a PutRecords request.
const PUT_RECORDS_MAX: usize = 500;
const PUT_BYTES_MAX: usize = 5 * 1024 * 1024;
const RECORD_BYTES_MAX: usize = 1024 * 1024;
const PARTITION_KEY_BYTES_MAX: usize = 256;

/// Records of one answer, when the request says nothing: the service's limit.
const GET_RECORDS_MAX: usize = 10_000;

/// Bytes of an answer's records: the service's limit. (One record may be larger.)
const GET_BYTES_MAX: usize = 10 * 1024 * 1024;

/// Shard ids are `shardId-` and this many digits.
const SHARD_DIGITS: usize = 12;

/// What an answer's JSON holds beside a record's own bytes, or around all of them, at most.
const RECORD_FRAME_BYTES: usize = 96;

const MILLIS_PER_HOUR: u64 = 3_600_000;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct PutRecords<'a> {
    stream_name: &'a str,
    #[serde(borrow)]
    records: Vec<Entry<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Entry<'a> {
    /// Base64, which has no escapes.
    data: &'a str,
    partition_key: &'a str,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct GetRecords<'a> {
    shard_iterator: &'a str,
    limit: Option<usize>,
}

/// Whether the request is one of the SDK's: of anything else the server says what is wrong.
fn is_plain(headers: &HeaderMap) -> bool {
    let is =
        |name: &str, expected: &str| headers.get(name).is_some_and(|value| value.as_bytes() == expected.as_bytes());
    is("content-type", CONTENT_TYPE)
        && headers.contains_key("authorization")
        && headers.contains_key("x-amz-date")
        && !headers.contains_key("origin")
}

/// Answers PutRecords; holds the tail alone while places are taken and the records are kept there.
pub(super) async fn put_records(
    store: &Store,
    tail: &RwLock<Tail>,
    headers: &HeaderMap,
    body: &Bytes,
) -> Option<Response> {
    let put: PutRecords = is_plain(headers).then(|| serde_json::from_slice(body).ok())??;
    let sizes = put.records.iter().map(Entry::size).collect::<Option<Vec<usize>>>()?;
    if !(1..=PUT_RECORDS_MAX).contains(&sizes.len()) || sizes.iter().sum::<usize>() > PUT_BYTES_MAX {
        return None;
    }
    let keys: Vec<u128> = put.records.iter().map(|entry| partition_key_to_hash_key(entry.partition_key)).collect();
    let mut writing = tail.write().await;
    let (places, now_millis) = (writing.places(store, put.stream_name).await?, current_time_ms());
    let landed = keys.into_iter().map(|key| places.take(key, now_millis)).collect::<Option<Vec<_>>>()?;
    let kept = landed.iter().zip(&put.records).map(|(place, entry)| {
        let arrival = (place.now_millis / 1_000) as f64;
        let kept = Kept::new(place.sequence.clone(), arrival, body, entry.partition_key, entry.data)?;
        Some((place.prefix.clone(), kept))
    });
    // A number that was given for nothing leaves a hole, as the server's do.
    let kept = kept.collect::<Option<Vec<_>>>()?;
    writing.push(put.stream_name, kept);
    drop(writing);
    let mut answer = String::with_capacity(landed.len() * 128 + 64);
    answer.push_str("{\"FailedRecordCount\":0,\"Records\":[");
    for (index, Place { shard, sequence, .. }) in landed.iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        let _ = write!(answer, "{comma}{{\"ShardId\":\"{shard}\",\"SequenceNumber\":\"{sequence}\"}}");
    }
    answer.push_str("]}");
    json(answer.into_bytes())
}

/// A GetRecords request that is in order.
pub(super) struct Asked {
    stream: String,
    shard: String,
    /// The shard's index and the next one's, as the store writes them.
    range: [String; 2],
    sequence: String,
    limit: usize,
    now_millis: u64,
}

/// Reads a GetRecords request; `None` when the server has to say what is wrong with it.
pub(super) fn asked(store: &Store, headers: &HeaderMap, body: &[u8]) -> Option<Asked> {
    let now_millis = current_time_ms();
    let get: GetRecords = is_plain(headers).then(|| serde_json::from_slice(body).ok())??;
    let limit = get.limit.unwrap_or(GET_RECORDS_MAX);
    let (issued, stream, shard, sequence) = decode_shard_iterator(get.shard_iterator).ok()?;
    let ttl_millis = store.options.iterator_ttl_seconds.saturating_mul(1_000);
    if !(1..=GET_RECORDS_MAX).contains(&limit) || issued == 0 || issued > now_millis || now_millis - issued > ttl_millis
    {
        return None;
    }
    Asked::new(stream, shard, sequence, limit)
}

impl Asked {
    /// Asks for records of a shard from `sequence` on; `None` for what is no shard id.
    pub fn new(stream: String, shard: String, sequence: String, limit: usize) -> Option<Self> {
        let digits = shard.strip_prefix("shardId-").filter(|d| d.len() == SHARD_DIGITS)?;
        let index: i64 = digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok())??;
        let range = [shard_ix_to_hex(index), shard_ix_to_hex(index + 1)];
        Some(Self { stream, shard, range, sequence, limit, now_millis: current_time_ms() })
    }

    pub fn stream(&self) -> &str {
        &self.stream
    }

    pub fn shard(&self) -> &str {
        &self.shard
    }

    /// From which number on.
    pub fn sequence(&self) -> &str {
        &self.sequence
    }

    /// Asks for what comes after this record, now.
    pub fn go_on_after(&mut self, last: &Kept) -> Option<()> {
        self.sequence = increment_sequence(&parse_sequence(&last.sequence).ok()?, None);
        self.now_millis = current_time_ms();
        Some(())
    }

    /// The records asked for, at most as many as one answer may hold: the store's, then the tail's. `None` when some of them
    /// have expired, which the server deletes.
    pub async fn find(&self, store: &Store, tail: &Tail) -> Option<Vec<Kept>> {
        let retention_hours = u64::from(store.get_stream(&self.stream).await.ok()?.retention_period_hours);
        let [shard, end] = &self.range;
        let first = format!("{shard}/{}", self.sequence);
        let stored = store.get_records_range_limited(&self.stream, &first, end, self.limit).await;
        let mut found: Vec<Kept> = stored.into_iter().map(Kept::of_store).collect();
        found.extend(tail.from(&self.stream, shard, &self.sequence, self.limit - found.len()));
        found.truncate(fitting(&found));
        let oldest = (self.now_millis.saturating_sub(retention_hours * MILLIS_PER_HOUR) / 1_000) as f64;
        (!found.iter().any(|record| record.arrival < oldest)).then_some(found)
    }

    /// The answer that hands these records over; there must be some.
    pub fn answer(&self, found: &[Kept]) -> Option<Response> {
        let last = parse_sequence(&found.last()?.sequence).ok()?;
        let next = create_shard_iterator(&self.stream, &self.shard, &increment_sequence(&last, None), self.now_millis);
        json(page(found, &next)?)
    }
}

/// How many of the records one answer may hold; at least one, if there is one.
fn fitting(found: &[Kept]) -> usize {
    let mut bytes = 0;
    let fits = |record: &&Kept| {
        bytes += record.data().len() / 4 * 3;
        bytes <= GET_BYTES_MAX
    };
    found.iter().take_while(fits).count().max(1)
}

/// A page as the service writes it, its reader at the tip: the server says so of every open shard.
fn page(found: &[Kept], next: &str) -> Option<Vec<u8>> {
    let mut answer = Vec::with_capacity(frame(found) + next.len() + RECORD_FRAME_BYTES);
    answer.extend_from_slice(b"{\"MillisBehindLatest\":0,\"NextShardIterator\":\"");
    answer.extend_from_slice(next.as_bytes());
    answer.extend_from_slice(b"\",\"Records\":");
    write_records(&mut answer, found)?;
    answer.push(b'}');
    Some(answer)
}

/// Records as the service writes them, in brackets.
pub(super) fn records(found: &[Kept]) -> Option<Vec<u8>> {
    let mut written = Vec::with_capacity(frame(found));
    write_records(&mut written, found)?;
    Some(written)
}

/// Bytes of these records as they are written, at most.
fn frame(found: &[Kept]) -> usize {
    let of = |record: &Kept| record.data().len() + record.partition_key().len() + record.sequence.len();
    found.iter().map(|record| of(record) + RECORD_FRAME_BYTES).sum()
}

fn write_records(answer: &mut Vec<u8>, found: &[Kept]) -> Option<()> {
    answer.push(b'[');
    for (place, record) in found.iter().enumerate() {
        if place > 0 {
            answer.push(b',');
        }
        answer.extend_from_slice(b"{\"Data\":\"");
        answer.extend_from_slice(record.data());
        answer.extend_from_slice(b"\",\"PartitionKey\":");
        serde_json::to_writer(&mut *answer, std::str::from_utf8(record.partition_key()).ok()?).ok()?;
        answer.extend_from_slice(b",\"SequenceNumber\":\"");
        answer.extend_from_slice(record.sequence.as_bytes());
        answer.extend_from_slice(b"\",\"ApproximateArrivalTimestamp\":");
        serde_json::to_writer(&mut *answer, &EpochSeconds(record.arrival)).ok()?;
        answer.push(b'}');
    }
    answer.push(b']');
    Some(())
}

fn json(body: Vec<u8>) -> Option<Response> {
    let request = uuid::Uuid::new_v4().to_string();
    let response = Response::builder()
        .status(StatusCode::OK)
        .header("content-type", CONTENT_TYPE)
        .header("x-amzn-RequestId", request);
    response.body(Body::from(body)).ok()
}

impl Entry<'_> {
    /// Bytes that count towards the limits; `None` for an entry the server would refuse.
    fn size(&self) -> Option<usize> {
        let data = decoded_length(self.data).filter(|bytes| *bytes <= RECORD_BYTES_MAX)?;
        (1..=PARTITION_KEY_BYTES_MAX).contains(&self.partition_key.len()).then(|| data + self.partition_key.len())
    }
}

/// How many bytes this base64 stands for; `None` when it is not in its one canonical form.
fn decoded_length(base64: &str) -> Option<usize> {
    let bytes = base64.as_bytes();
    let padding = bytes.iter().rev().take(2).take_while(|byte| **byte == b'=').count();
    let digits = &bytes[..bytes.len() - padding];
    // Not `all`: without an early end the loop is one of vectors.
    let valid =
        digits.iter().fold(true, |valid, byte| valid & (byte.is_ascii_alphanumeric() | matches!(byte, b'+' | b'/')));
    // The last digit's bits that stand for no byte must be zero: two of them with one `=`, four with two.
    let canonical = match (padding, digits.last()) {
        (0, _) => true,
        (1, Some(last)) => b"AEIMQUYcgkosw048".contains(last),
        (_, last) => last.is_some_and(|last| b"AQgw".contains(last)),
    };
    (bytes.len().is_multiple_of(4) && valid && canonical).then(|| bytes.len() / 4 * 3 - padding)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use axum::http::HeaderValue;
    use ferrokinesis::actions::{Operation, dispatch};
    use ferrokinesis::store::StoreOptions;
    use ferrokinesis::types::StreamStatus;
    use serde_json::{Value, json};

    use super::*;

    /// Bit by bit, after RFC 4648.
    fn base64(data: &[u8]) -> String {
        let bits: Vec<u8> = data.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1)).collect();
        let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let digit = |six: &[u8]| (0..6).fold(0, |digit, bit| digit * 2 + usize::from(*six.get(bit).unwrap_or(&0)));
        let mut text: String = bits.chunks(6).map(|six| char::from(alphabet[digit(six)])).collect();
        while !text.len().is_multiple_of(4) {
            text.push('=');
        }
        text
    }

    #[test]
    fn lengths_of_base64() {
        for bytes in 0..300_usize {
            let data: Vec<u8> = (0..bytes).map(|at| u8::try_from(at * 37 % 256).unwrap()).collect();
            let text = base64(&data);
            assert_eq!(decoded_length(&text), Some(bytes), "{text}");
        }
        for text in ["A", "AA", "AAA", "AA=A", "AB==", "AAB=", "====", "=", "A===", "AA A", "AA-_", "AAA\u{e9}"] {
            assert_eq!(decoded_length(text), None, "{text}");
        }
    }

    async fn store() -> Store {
        let store = Store::new(StoreOptions { create_stream_ms: 0, ..StoreOptions::default() });
        let stream = json!({"StreamName": "s", "ShardCount": 1});
        dispatch(&store, Operation::CreateStream, stream).await.unwrap();
        while store.get_stream("s").await.unwrap().stream_status != StreamStatus::Active {
            tokio::task::yield_now().await;
        }
        store
    }

    fn headers() -> HeaderMap {
        let header = |name: &'static str, value: &'static str| (name.parse().unwrap(), HeaderValue::from_static(value));
        let all = [("content-type", CONTENT_TYPE), ("authorization", "AWS4-HMAC-SHA256"), ("x-amz-date", "20260101")];
        all.map(|(name, value)| header(name, value)).into_iter().collect()
    }

    async fn body(response: Response) -> Value {
        serde_json::from_slice(&axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap()).unwrap()
    }

    async fn put(store: &Store, tail: &RwLock<Tail>, put: &Value) -> Option<Response> {
        put_records(store, tail, &headers(), &Bytes::from(put.to_string())).await
    }

    async fn get(store: &Store, tail: &RwLock<Tail>, get: &Value) -> Option<Response> {
        let asked = asked(store, &headers(), get.to_string().as_bytes())?;
        let found = asked.find(store, &*tail.read().await).await?;
        asked.answer(&found)
    }

    async fn own(store: &Store, operation: Operation, request: &Value) -> Value {
        dispatch(store, operation, request.clone()).await.unwrap().unwrap()
    }

    /// Three requests, the second answered by the server: of the records two thirds are in its store when they are read by the
    /// short way, and all when they are read by its own.
    #[tokio::test]
    async fn answers_are_the_servers_own() {
        let (store, tail) = (store().await, RwLock::new(Tail::default()));
        let entry = |number: u8| json!({"Data": base64(&[number; 5]), "PartitionKey": format!("clé {number}")});
        let request =
            |first: u8| json!({"StreamName": "s", "Records": [entry(first), entry(first + 1), entry(first + 2)]});
        let told = body(put(&store, &tail, &request(0)).await.unwrap()).await;
        assert!(store.get_record_store("s").await.is_empty(), "they wait in the tail");
        tail.write().await.hand_over(&store).await;
        let answer = own(&store, Operation::PutRecords, &request(3)).await;
        let last = body(put(&store, &tail, &request(6)).await.unwrap()).await;
        let names = |answer: &Value| answer["Records"][0].as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
        assert_eq!((&told["FailedRecordCount"], names(&told)), (&answer["FailedRecordCount"], names(&answer)));

        let start = json!({"StreamName": "s", "ShardId": "shardId-000000000000", "ShardIteratorType": "TRIM_HORIZON"});
        let start = own(&store, Operation::GetShardIterator, &start).await;
        let mut after_seven = json!({"StreamName": "s", "ShardId": "shardId-000000000000"});
        after_seven["ShardIteratorType"] = "AFTER_SEQUENCE_NUMBER".into();
        after_seven["StartingSequenceNumber"] = last["Records"][0]["SequenceNumber"].clone();
        let after_seven = own(&store, Operation::GetShardIterator, &after_seven).await;
        let mut asked_for = Vec::new();
        for (start, limit, records) in [(&start, 10_000, 9), (&start, 7, 7), (&start, 1, 1), (&after_seven, 10_000, 2)]
        {
            let request = json!({"ShardIterator": start["ShardIterator"], "Limit": limit});
            let told = body(get(&store, &tail, &request).await.unwrap()).await;
            assert_eq!(told["Records"].as_array().unwrap().len(), records);
            asked_for.push((request, told));
        }
        tail.write().await.hand_over(&store).await;
        for (request, told) in asked_for {
            let own = own(&store, Operation::GetRecords, &request).await;
            let next = |answer: &Value| {
                let (_, stream, shard, after) =
                    decode_shard_iterator(answer["NextShardIterator"].as_str().unwrap()).unwrap();
                (stream, shard, after)
            };
            assert_eq!((&told["Records"], &told["MillisBehindLatest"]), (&own["Records"], &own["MillisBehindLatest"]));
            assert_eq!(next(&told), next(&own));
            let again = body(get(&store, &tail, &request).await.unwrap()).await;
            assert_eq!(again["Records"], told["Records"], "from the store alone");
        }
    }

    #[tokio::test]
    async fn the_unusual_is_left_to_the_server() {
        let (store, tail) = (store().await, RwLock::new(Tail::default()));
        let entry = json!({"Data": "AAAA", "PartitionKey": "k"});
        for unusual in [
            json!({"StreamName": "other", "Records": [entry]}),
            json!({"StreamName": "s", "Records": []}),
            json!({"StreamName": "s", "Records": vec![entry.clone(); 501]}),
            json!({"StreamName": "s", "Records": [{"Data": "AAA", "PartitionKey": "k"}]}),
            json!({"StreamName": "s", "Records": [{"Data": "AAAA", "PartitionKey": ""}]}),
            json!({"StreamName": "s", "Records": [{"Data": "AAAA", "PartitionKey": "k\n"}]}),
            json!({"StreamName": "s", "Records": [{"Data": "AAAA", "PartitionKey": "k", "ExplicitHashKey": "0"}]}),
            json!({"StreamName": "s", "Records": [{"Data": "A".repeat(1_398_108), "PartitionKey": "k"}]}),
            json!("no object"),
        ] {
            assert!(put(&store, &tail, &unusual).await.is_none(), "{:.90}", unusual.to_string());
        }
        let usual = Bytes::from(json!({"StreamName": "s", "Records": [entry]}).to_string());
        assert!(put_records(&store, &tail, &HeaderMap::new(), &usual).await.is_none());
        assert!(store.get_record_store("s").await.is_empty() && tail.read().await.is_empty());
        let nothing_yet = json!({"StreamName": "s", "ShardId": "shardId-000000000000", "ShardIteratorType": "LATEST"});
        let iterator = own(&store, Operation::GetShardIterator, &nothing_yet).await;
        assert!(get(&store, &tail, &json!({"ShardIterator": iterator["ShardIterator"]})).await.is_none());
        assert!(get(&store, &tail, &json!({"ShardIterator": "x"})).await.is_none());
    }

    #[tokio::test]
    async fn expired_records_are_left_to_the_server() {
        let (store, tail) = (store().await, RwLock::new(Tail::default()));
        let request = json!({"StreamName": "s", "Records": [{"Data": "AAAA", "PartitionKey": "k"}]});
        put(&store, &tail, &request).await.unwrap();
        let start = json!({"StreamName": "s", "ShardId": "shardId-000000000000", "ShardIteratorType": "TRIM_HORIZON"});
        let start = own(&store, Operation::GetShardIterator, &start).await;
        let request = json!({"ShardIterator": start["ShardIterator"]}).to_string();
        let mut asked = asked(&store, &headers(), request.as_bytes()).unwrap();
        assert_eq!(asked.find(&store, &*tail.read().await).await.unwrap().len(), 1);
        asked.now_millis += 25 * MILLIS_PER_HOUR;
        assert!(asked.find(&store, &*tail.read().await).await.is_none(), "a stream keeps records for a day");
    }
}
