//! The newest records of the embedded streams, as the requests they came in.
//!
//! The one law: a record here stands behind every record of its shard that the server's own store holds; so the store's
//! records and then these are the shard's, in order. Whoever lets the server itself look at records hands these over first.
//!
//! The server keeps a record as an encoded value under a text key, and copies both when it is put, read and deleted. Here a
//! record is a place in its request's bytes: nothing is copied before a page is written. A request's bytes stay as long as
//! one of its records does.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use ferrokinesis::store::Store;
use ferrokinesis::types::{StoredRecord, StoredRecordRef};

use super::places::Places;

/// Records handed over at once: a copy of so many is small beside what is handed over.
const HAND_OVER_RECORDS: usize = 500;

/// One record.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    /// 56 digits: text order is their order.
    pub sequence: Arc<str>,
    /// Seconds since 1970.
    pub arrival: f64,
    request: Bytes,
    partition_key: Range<usize>,
    data: Range<usize>,
}

/// Records by stream and shard, in their order. A stream is here from its first record on until the server was given all.
#[derive(Debug, Default)]
pub(super) struct Tail {
    streams: BTreeMap<String, Stream>,
}

#[derive(Debug)]
struct Stream {
    places: Places,
    /// By the shard's index, as the store writes it.
    shards: BTreeMap<Arc<str>, VecDeque<Kept>>,
}

impl Kept {
    /// A record whose partition key and data are part of `request`; `None` when they are not.
    pub fn new(sequence: Arc<str>, arrival: f64, request: &Bytes, partition_key: &str, data: &str) -> Option<Self> {
        let place = |part: &str| {
            let start = part.as_ptr().addr().checked_sub(request.as_ptr().addr())?;
            (start + part.len() <= request.len()).then_some(start..start + part.len())
        };
        let (partition_key, data) = (place(partition_key)?, place(data)?);
        Some(Self { sequence, arrival, request: request.clone(), partition_key, data })
    }

    /// A record of the store, under its key there.
    pub fn of_store((key, record): (String, StoredRecord)) -> Self {
        let sequence = key.split_once('/').map_or("", |(_, sequence)| sequence).into();
        let (key_bytes, all) = (record.partition_key.len(), record.partition_key + &record.data);
        let data = key_bytes..all.len();
        let arrival = record.approximate_arrival_timestamp;
        Self { sequence, arrival, request: Bytes::from(all), partition_key: 0..key_bytes, data }
    }

    pub fn partition_key(&self) -> &[u8] {
        &self.request[self.partition_key.clone()]
    }

    /// Base64, as it was sent.
    pub fn data(&self) -> &[u8] {
        &self.request[self.data.clone()]
    }

    fn stored(&self) -> Option<StoredRecordRef<'_>> {
        Some(StoredRecordRef {
            partition_key: std::str::from_utf8(self.partition_key()).ok()?,
            data: std::str::from_utf8(self.data()).ok()?,
            approximate_arrival_timestamp: self.arrival,
        })
    }
}

impl Tail {
    /// Whether the server knows of everything.
    pub fn is_empty(&self) -> bool {
        self.streams.is_empty()
    }

    /// Where the next records of a stream land; `None` when it takes none.
    pub async fn places(&mut self, store: &Store, stream: &str) -> Option<&mut Places> {
        if !self.streams.contains_key(stream) {
            let places = Places::of(store, stream).await?;
            self.streams.insert(stream.to_owned(), Stream { places, shards: BTreeMap::new() });
        }
        self.streams.get_mut(stream).map(|stream| &mut stream.places)
    }

    /// Takes records in, each with its shard, under the numbers that [`Self::places`] gave last.
    pub fn push(&mut self, stream: &str, records: impl IntoIterator<Item = (Arc<str>, Kept)>) {
        let Some(Stream { shards, .. }) = self.streams.get_mut(stream) else { return };
        for (shard, record) in records {
            shards.entry(shard).or_default().push_back(record);
        }
    }

    /// At most `limit` records of a shard, from `sequence` on.
    pub fn from(&self, stream: &str, shard: &str, sequence: &str, limit: usize) -> Vec<Kept> {
        let Some(records) = self.streams.get(stream).and_then(|stream| stream.shards.get(shard)) else {
            return Vec::new();
        };
        let first = records.partition_point(|record| *record.sequence < *sequence);
        records.range(first..).take(limit).cloned().collect()
    }

    /// Takes the records of a shard up to and including `sequence` out.
    pub fn take_through(&mut self, stream: &str, shard: &str, sequence: &str) -> Vec<Kept> {
        let Some(records) = self.streams.get_mut(stream).and_then(|stream| stream.shards.get_mut(shard)) else {
            return Vec::new();
        };
        let through = records.partition_point(|record| *record.sequence <= *sequence);
        records.drain(..through).collect()
    }

    /// Gives everything to the server.
    pub async fn hand_over(&mut self, store: &Store) {
        for (stream, Stream { places, shards }) in &mut self.streams {
            places.tell(store, stream).await;
            for (shard, records) in shards {
                while !records.is_empty() {
                    let some = records.iter().take(HAND_OVER_RECORDS);
                    let batch: Vec<_> = some
                        .filter_map(|record| Some((format!("{shard}/{}", record.sequence), record.stored()?)))
                        .collect();
                    if let Err(error) = store.put_records_batch(stream, &batch).await {
                        tracing::warn!(?error, "the embedded stream's own store takes no records");
                        return;
                    }
                    drop(batch);
                    records.drain(..HAND_OVER_RECORDS.min(records.len()));
                }
            }
        }
        self.streams.clear();
    }
}

#[cfg(test)]
mod tests {
    use ferrokinesis::actions::{Operation, dispatch};
    use ferrokinesis::store::StoreOptions;
    use serde_json::json;

    use super::*;

    /// Numbers of two digits in place of 56.
    async fn tail(numbers: Range<usize>) -> Tail {
        let store = Store::new(StoreOptions { create_stream_ms: 0, ..StoreOptions::default() });
        dispatch(&store, Operation::CreateStream, json!({"StreamName": "s", "ShardCount": 2})).await.unwrap();
        let request = Bytes::from_static(b"{\"key\":\"QUJD\"}");
        let text = std::str::from_utf8(&request).unwrap();
        let record = |n: usize| Kept::new(format!("{n:02}").into(), 7.0, &request, &text[2..5], &text[8..12]).unwrap();
        let mut tail = Tail::default();
        while tail.places(&store, "s").await.is_none() {
            tokio::task::yield_now().await;
        }
        tail.push("s", numbers.map(|number| (format!("{:08x}", number % 2).into(), record(number))));
        tail
    }

    fn numbers(records: &[Kept]) -> Vec<&str> {
        records.iter().map(|record| &*record.sequence).collect()
    }

    #[tokio::test]
    async fn a_range_begins_at_its_first_record_and_ends_at_its_limit() {
        let tail = tail(10..20).await;
        assert_eq!(numbers(&tail.from("s", "00000000", "13", 2)), ["14", "16"]);
        assert_eq!(numbers(&tail.from("s", "00000001", "13", 9)), ["13", "15", "17", "19"]);
        assert_eq!(numbers(&tail.from("s", "00000001", "131", 1)), ["15"]);
        assert!(tail.from("s", "00000002", "00", 9).is_empty() && tail.from("t", "00000000", "00", 9).is_empty());
        let record = &tail.from("s", "00000000", "13", 1)[0];
        assert_eq!((record.partition_key(), record.data()), (b"key".as_slice(), b"QUJD".as_slice()));
    }

    #[tokio::test]
    async fn what_is_taken_through_is_gone() {
        let mut tail = tail(10..20).await;
        assert_eq!(numbers(&tail.take_through("s", "00000000", "13")), ["10", "12"]);
        assert!(tail.take_through("s", "00000000", "13").is_empty());
        assert_eq!(numbers(&tail.from("s", "00000000", "00", 9)), ["14", "16", "18"]);
        assert_eq!(
            (tail.take_through("s", "00000000", "99").len(), tail.take_through("s", "00000001", "99").len()),
            (3, 5)
        );
        assert!(!tail.is_empty(), "the server does not know which numbers were given");
    }

    #[test]
    fn a_record_is_part_of_its_request() {
        let (request, other) = (Bytes::from_static(b"key data"), String::from("key data"));
        let text = std::str::from_utf8(&request).unwrap();
        assert!(Kept::new("1".into(), 0.0, &request, &text[..3], &text[4..]).is_some());
        assert!(Kept::new("1".into(), 0.0, &request, &text[..3], &other[4..]).is_none());
    }
}
