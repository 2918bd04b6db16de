//! The server of this process reached without a socket, and what came by the short way as the server itself sees it.

use std::collections::BTreeSet;

use aws_sdk_kinesis::primitives::{Blob, DateTime};
use aws_sdk_kinesis::types::{PutRecordsRequestEntry, ShardIteratorType};

use super::pipeline::{Pipeline, assert_order_per_key, expected};
use super::*;
use crate::kinesis::{Producer, reader};
use crate::stream::SequenceNumber;

const SHARD: &str = "shardId-000000000000";

async fn inner(shards: u32) -> (EmbeddedKinesis, Client) {
    let server = EmbeddedKinesis::start("127.0.0.1:0", "eu-west-1").await.unwrap();
    let client = client::connect_within(&server, "eu-west-1");
    create_stream(&client, STREAM, shards).await.unwrap();
    (server, client)
}

/// Puts records as the server's own PutRecords takes them only: with a hash key.
async fn put_the_long_way(client: &Client, records: &[PutRecord]) {
    for some in records.chunks(500) {
        let entries = some.iter().map(|record| {
            let key = md5_of(&record.partition_key);
            let entry = PutRecordsRequestEntry::builder().partition_key(&record.partition_key).explicit_hash_key(key);
            entry.data(Blob::new(&*record.data)).build().unwrap()
        });
        let put = client.put_records().stream_name(STREAM).set_records(Some(entries.collect()));
        assert_eq!(put.send().await.unwrap().failed_record_count, Some(0));
    }
}

fn md5_of(key: &str) -> String {
    ferrokinesis::sequence::partition_key_to_hash_key(key).to_string()
}

#[tokio::test]
async fn both_ways_lead_to_one_stream() {
    within(async {
        let (server, inner) = inner(3).await;
        let outer = client::connect_to_url(server.url(), "eu-west-1");
        let all = records(0..3_000);
        Producer::new(inner.clone(), STREAM).put(&all[..1_000]).await.unwrap();
        put_the_long_way(&inner, &all[1_000..1_500]).await;
        Producer::new(outer.clone(), STREAM).put(&all[1_500..2_500]).await.unwrap();
        put_the_long_way(&outer, &all[2_500..]).await;
        for client in [inner, outer] {
            let mut pipeline = Pipeline::new(reader::spawn(client, options(Start::TrimHorizon), &Default::default()));
            pipeline.until_read(all.len()).await;
            assert_eq!(pipeline.all(), expected(&all));
            assert_order_per_key(pipeline.read.values());
            pipeline.stop().await;
        }
    })
    .await;
}

/// A reader that stands at the tip while records come by both ways, in turns.
#[tokio::test]
async fn a_reader_at_the_tip_misses_nothing() {
    within(async {
        let (_server, client) = inner(2).await;
        let all = records(0..2_000);
        let mut pipeline =
            Pipeline::new(reader::spawn(client.clone(), options(Start::TrimHorizon), &Default::default()));
        for shard in [SHARD, "shardId-000000000001"] {
            pipeline.until_caught_up(shard).await;
        }
        let producer = Producer::new(client.clone(), STREAM);
        for (turn, some) in all.chunks(50).enumerate() {
            match turn % 3 {
                0 => put_the_long_way(&client, some).await,
                _ => drop(producer.put(some).await.unwrap()),
            }
            pipeline.until_read((turn + 1) * 50).await;
        }
        assert_eq!(pipeline.all(), expected(&all));
        assert_order_per_key(pipeline.read.values());
        pipeline.stop().await;
    })
    .await;
}

#[tokio::test]
async fn the_server_finds_by_time_what_came_the_short_way() {
    within(async {
        let (_server, client) = inner(1).await;
        let landed = Producer::new(client.clone(), STREAM).put(&records(0..10)).await.unwrap();
        let from = |kind: ShardIteratorType| {
            client.get_shard_iterator().stream_name(STREAM).shard_id(SHARD).shard_iterator_type(kind)
        };
        let first = async |iterator: Option<String>| {
            let answer = client.get_records().set_shard_iterator(iterator).send().await.unwrap();
            let first = answer.records.into_iter().next().unwrap();
            (SequenceNumber::Kinesis(first.sequence_number.into()), first.approximate_arrival_timestamp.unwrap())
        };
        let start = from(ShardIteratorType::TrimHorizon).send().await.unwrap().shard_iterator;
        let (oldest, arrival) = first(start).await;
        let by_time = from(ShardIteratorType::AtTimestamp).timestamp(DateTime::from_secs(arrival.secs()));
        assert_eq!(first(by_time.send().await.unwrap().shard_iterator).await, (oldest.clone(), arrival));
        assert_eq!(oldest, landed[0].sequence);
    })
    .await;
}

/// Some records are in the server's store and the rest is not, when they are freed.
#[tokio::test]
async fn what_is_freed_is_gone_wherever_it_was() {
    within(async {
        let (server, client) = inner(1).await;
        let producer = Producer::new(client.clone(), STREAM);
        let mut landed = producer.put(&records(0..700)).await.unwrap();
        // Looking for a time gives the server all there is.
        let by_time = client.get_shard_iterator().stream_name(STREAM).shard_id(SHARD);
        by_time
            .shard_iterator_type(ShardIteratorType::AtTimestamp)
            .timestamp(DateTime::from_secs(1))
            .send()
            .await
            .unwrap();
        landed.extend(producer.put(&records(700..1_000)).await.unwrap());
        for (through, freed) in [(299, 300), (299, 0), (899, 600)] {
            let sequence = &landed[through].sequence;
            assert_eq!(server.delete_through(STREAM, SHARD, sequence).await.unwrap(), freed, "through {through}");
        }
        let mut pipeline = Pipeline::new(reader::spawn(client, options(Start::TrimHorizon), &Default::default()));
        pipeline.until_read(100).await;
        pipeline.until_caught_up(SHARD).await;
        assert_eq!(pipeline.all(), expected(&records(900..1_000)));
        let places: BTreeSet<&SequenceNumber> = landed.iter().map(|landed| &landed.sequence).collect();
        assert_eq!(places.len(), 1_000);
        pipeline.stop().await;
    })
    .await;
}
