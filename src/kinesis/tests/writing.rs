//! PutRecords against a server that answers as it should, and one that does not.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::pipeline::{Pipeline, assert_order_per_key, expected};
use super::*;
use crate::config::{self, Config};
use crate::kinesis::{Producer, RETENTION_MIN, reader, stream_facts};
use crate::stream::{SequenceNumber, ShardId};

async fn read_all(client: &Client, count: usize) -> Pipeline {
    let mut pipeline = Pipeline::new(reader::spawn(client.clone(), options(Start::TrimHorizon), &Default::default()));
    pipeline.until_read(count).await;
    let shards: Vec<ShardId> = pipeline.opened.keys().cloned().collect();
    for shard in shards {
        pipeline.until_caught_up(&shard).await;
    }
    pipeline
}

#[tokio::test]
async fn what_is_put_is_acknowledged_in_order_and_read_once() {
    within(async {
        let (_server, client) = server(4).await;
        let records = records(0..2_345);
        let acknowledged = Producer::new(client.clone(), STREAM).put(&records).await.unwrap();
        assert_eq!(acknowledged.len(), records.len());
        let places: BTreeSet<(ShardId, SequenceNumber)> =
            acknowledged.iter().map(|landed| (landed.shard.clone(), landed.sequence.clone())).collect();
        assert_eq!(places.len(), records.len());

        let pipeline = read_all(&client, records.len()).await;
        assert_eq!(pipeline.all(), expected(&records));
        assert_order_per_key(pipeline.read.values());
        assert!(pipeline.read.values().all(|shard| !shard.is_empty()), "20 keys over 4 shards");
        // The answer to a record names the shard it is then read from.
        for (record, landed) in records.iter().zip(&acknowledged) {
            let text = std::str::from_utf8(&record.data).unwrap();
            assert!(pipeline.read[&landed.shard].iter().any(|read| read == text), "{text}");
        }
        pipeline.stop().await;
    })
    .await;
}

#[tokio::test]
async fn only_refused_entries_are_sent_again() {
    within(async {
        let faults = Faults::default();
        let (_server, client) = server_with(2, &faults).await;
        faults.add("PutRecords", Does::RefuseRecords(0.6));
        faults.add("PutRecords", Does::RefuseRecords(0.6));
        let records = records(0..700);
        let acknowledged = Producer::new(client.clone(), STREAM).put(&records).await.unwrap();
        assert_eq!((acknowledged.len(), faults.idle()), (700, 0));
        let pipeline = read_all(&client, records.len()).await;
        assert_eq!(pipeline.all(), expected(&records));
        for (record, landed) in records.iter().zip(&acknowledged) {
            let text = std::str::from_utf8(&record.data).unwrap();
            assert!(pipeline.read[&landed.shard].iter().any(|read| read == text), "{text}");
        }
    })
    .await;
}

#[tokio::test]
async fn throttled_and_failing_requests_are_waited_out() {
    within(async {
        let faults = Faults::default();
        let (_server, client) = server_with(1, &faults).await;
        faults.add("PutRecords", refused(400, "ProvisionedThroughputExceededException"));
        faults.add("PutRecords", refused(400, "KMSThrottlingException"));
        faults.add("PutRecords", refused(503, "ServiceUnavailable"));
        let records = records(0..10);
        Producer::new(client.clone(), STREAM).put(&records).await.unwrap();
        assert_eq!(faults.idle(), 0);
        assert_eq!(read_all(&client, 10).await.all(), expected(&records));
    })
    .await;
}

#[tokio::test]
async fn a_request_that_was_applied_and_failed_doubles_its_records() {
    within(async {
        let faults = Faults::default();
        let (_server, client) = server_with(1, &faults).await;
        faults.add("PutRecords", Does::LoseAnswer);
        let records = records(0..5);
        Producer::new(client.clone(), STREAM).put(&records).await.unwrap();
        let mut twice = [expected(&records), expected(&records)].concat();
        twice.sort_unstable();
        assert_eq!(read_all(&client, 10).await.all(), twice);
    })
    .await;
}

#[tokio::test]
async fn a_refusal_for_good_is_an_error() {
    within(async {
        let faults = Faults::default();
        let (_server, client) = server_with(1, &faults).await;
        faults.add("PutRecords", refused(400, "AccessDeniedException"));
        let error = Producer::new(client, STREAM).put(&records(0..1)).await.unwrap_err().to_string();
        assert!(error.contains(STREAM) && error.contains("AccessDeniedException"), "{error}");
    })
    .await;
}

#[tokio::test]
async fn records_of_a_mebibyte_pass() {
    within(async {
        let (_server, client) = server(1).await;
        let large = Bytes::from(vec![b'x'; 1024 * 1024 - 1]);
        let records: Vec<PutRecord> =
            (0..9).map(|_| PutRecord { partition_key: "k".into(), data: large.clone() }).collect();
        Producer::new(client.clone(), STREAM).put(&records).await.unwrap();
        let pipeline = read_all(&client, 9).await;
        assert!(pipeline.all().iter().all(|text| text.len() == large.len()));
    })
    .await;
}

/// Without the gate a reader passes over numbers that are taken but not yet inserted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_producers_lose_nothing() {
    within(async {
        let (_server, client) = server(1).await;
        let mut pipeline =
            Pipeline::new(reader::spawn(client.clone(), options(Start::TrimHorizon), &Default::default()));
        let producers: Vec<_> = (0..8)
            .map(|n| {
                let producer = Producer::new(client.clone(), STREAM);
                tokio::spawn(async move {
                    for chunk in records(n * 1_000..(n + 1) * 1_000).chunks(50) {
                        producer.put(chunk).await.unwrap();
                    }
                })
            })
            .collect();
        pipeline.until_read(8_000).await;
        for producer in producers {
            producer.await.unwrap();
        }
        assert_eq!(pipeline.all(), expected(&records(0..8_000)));
    })
    .await;
}

#[tokio::test]
async fn two_servers_are_two_incarnations() {
    within(async {
        let (_first, client) = server(1).await;
        let (_second, other) = server(1).await;
        let facts = stream_facts(&client, STREAM).await.unwrap();
        assert_eq!(facts, stream_facts(&client, STREAM).await.unwrap());
        assert_ne!(facts.incarnation, stream_facts(&other, STREAM).await.unwrap().incarnation);
        assert!(facts.incarnation.contains("eu-west-1") && facts.retention == RETENTION_MIN, "{facts:?}");
        let missing = stream_facts(&client, "orders").await.unwrap_err().to_string();
        assert!(missing.contains("`orders`"), "{missing}");
        create_stream(&client, STREAM, 1).await.unwrap();
    })
    .await;
}

fn aggregating(client: &Client) -> Producer {
    let set = ["stream.aggregate=true".to_owned(), "stream.aggregate_keys=8".to_owned()];
    Producer::of(client.clone(), &config::Stream { name: STREAM.into(), ..Config::load(None, &set).unwrap().stream })
}

/// Every request is refused in part, a few times over, and its keys' records stay in order: a key's are in one entry.
#[tokio::test]
async fn aggregates_keep_the_order_of_a_key_even_in_part() {
    within(async {
        let faults = Faults::parse("[[fault]]\nat_most = 9\ndoes = { refuse_records = 0.5 }").unwrap();
        let (_server, client) = server_with(3, &faults).await;
        let producer = aggregating(&client);
        let all = records(0..9_000);
        let mut landed = Vec::new();
        for some in all.chunks(3_000) {
            landed.extend(producer.put(some).await.unwrap());
        }
        assert_eq!(landed.len(), all.len());
        faults.all_struck().unwrap();
        let mut pipeline =
            Pipeline::new(reader::spawn(client.clone(), options(Start::TrimHorizon), &Default::default()));
        pipeline.until_read(all.len()).await;
        assert_eq!(pipeline.all(), expected(&all));
        assert_order_per_key(pipeline.read.values());
        let entries: BTreeSet<(ShardId, SequenceNumber)> =
            landed.iter().map(|landed| (landed.shard.clone(), landed.sequence.clone())).collect();
        assert!(entries.len() <= 3 * 8, "{} entries", entries.len());
        // An answer names the shard its record is read from.
        for (record, landed) in all.iter().zip(&landed) {
            let text = std::str::from_utf8(&record.data).unwrap();
            assert!(pipeline.read[&landed.shard].iter().any(|read| read == text), "{text}");
        }
        pipeline.stop().await;
    })
    .await;
}
