//! A split and a merge under load: children begin when both parents are decided, and nothing is lost or doubled.

use std::collections::BTreeMap;

use tokio_util::sync::CancellationToken;

use super::pipeline::{News, Pipeline, assert_order_per_key, expected};
use super::*;
use crate::kinesis::{Producer, reader};
use crate::stream::ShardId;

/// The middle of shard 0 of 2.
const QUARTER: &str = "85070591730234615865843651857942052864";

async fn split(client: &Client, shard: &str) {
    client.split_shard().stream_name(STREAM).shard_to_split(shard).new_starting_hash_key(QUARTER).send().await.unwrap();
}

async fn merge(client: &Client, left: &str, right: &str) {
    client.merge_shards().stream_name(STREAM).shard_to_merge(left).adjacent_shard_to_merge(right).send().await.unwrap();
}

/// Puts records until told to stop; says how many.
fn load(client: &Client, stop: CancellationToken) -> tokio::task::JoinHandle<usize> {
    let producer = Producer::new(client.clone(), STREAM);
    tokio::spawn(async move {
        let mut put = 0;
        while !stop.is_cancelled() {
            producer.put(&records(put..put + 50)).await.unwrap();
            put += 50;
        }
        put
    })
}

/// Goes on until the shard's end was read.
async fn until_finished(pipeline: &mut Pipeline, shard: &str) -> ShardId {
    loop {
        if let News::Finished(id) = pipeline.next().await.unwrap() {
            assert_eq!(&*id, shard);
            return id;
        }
    }
}

/// Goes on until a shard is opened.
async fn until_opened(pipeline: &mut Pipeline) -> ShardId {
    loop {
        if let News::Opened(id) = pipeline.next().await.unwrap() {
            return id;
        }
    }
}

const S0: &str = "shardId-000000000000";
const S1: &str = "shardId-000000000001";
const S2: &str = "shardId-000000000002";
const S3: &str = "shardId-000000000003";
const S4: &str = "shardId-000000000004";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_split_and_a_merge_under_load() {
    within(async {
        let (_server, client) = server(2).await;
        let stop = CancellationToken::new();
        let load = load(&client, stop.clone());
        let mut pipeline = Pipeline::new(reader::spawn(client.clone(), options(Start::TrimHorizon), &BTreeMap::new()));
        pipeline.until_read(500).await;

        split(&client, S0).await;
        let parent = until_finished(&mut pipeline, S0).await;
        let read = pipeline.count();
        pipeline.until_read(read + 500).await;
        assert_eq!(pipeline.opened.len(), 2, "the end of the parent is not decided");
        pipeline.decide(&parent);
        let children = [until_opened(&mut pipeline).await, until_opened(&mut pipeline).await];
        assert_eq!([&*children[0], &*children[1]], [S2, S3]);
        pipeline.until_read(pipeline.count() + 500).await;

        merge(&client, S3, S1).await;
        let mut parents = Vec::new();
        while parents.len() < 2 {
            if let News::Finished(id) = pipeline.next().await.unwrap() {
                parents.push(id);
            }
        }
        pipeline.decide(&parents[0]);
        let read = pipeline.count();
        pipeline.until_read(read + 100).await;
        assert_eq!(pipeline.opened.len(), 4, "one parent is not enough");
        pipeline.decide(&parents[1]);
        assert_eq!(&*until_opened(&mut pipeline).await, S4);
        assert_eq!(pipeline.opened[S4].iter().map(|id| &**id).collect::<Vec<_>>(), [S1, S3]);

        stop.cancel();
        let put = load.await.unwrap();
        pipeline.until_read(put).await;
        pipeline.until_caught_up(S2).await;
        pipeline.until_caught_up(S4).await;
        assert_eq!(pipeline.all(), expected(&records(0..put)));
        // Shards in the order of birth: a key's records follow each other through the generations.
        let mut lines: Vec<String> = [S0, S2, S1, S3, S4].iter().flat_map(|id| pipeline.read[*id].clone()).collect();
        assert_order_per_key(pipeline.read.values());
        lines.sort_by_key(|text| text.split_once(' ').map(|(key, _)| key.to_owned()));
        assert_order_per_key([&lines]);
        pipeline.stop().await;
    })
    .await;
}

#[tokio::test]
async fn reshards_while_stopped_are_read_generation_by_generation() {
    within(async {
        let (_server, client) = server(2).await;
        let producer = Producer::new(client.clone(), STREAM);
        let all = records(0..4_000);
        producer.put(&all[..1_000]).await.unwrap();
        let mut first = Pipeline::new(reader::spawn(client.clone(), options(Start::TrimHorizon), &BTreeMap::new()));
        first.until_read(1_000).await;
        let (mut read, progress) = (first.all(), first.progress());
        first.stop().await;

        producer.put(&all[1_000..2_000]).await.unwrap();
        split(&client, S0).await;
        producer.put(&all[2_000..3_000]).await.unwrap();
        merge(&client, S3, S1).await;
        producer.put(&all[3_000..]).await.unwrap();

        let mut second = Pipeline::new(reader::spawn(client.clone(), options(Start::TrimHorizon), &progress));
        second.deciding_until(3_000, 3).await;
        second.until_caught_up(S4).await;
        read.extend(second.all());
        read.sort_unstable();
        assert_eq!(read, expected(&all));

        // Nothing is left for a third run: what ended is not read again.
        let progress = second.progress();
        second.stop().await;
        let mut third = Pipeline::new(reader::spawn(client.clone(), options(Start::TrimHorizon), &progress));
        third.until_caught_up(S2).await;
        third.until_caught_up(S4).await;
        assert_eq!((third.count(), third.opened.len()), (0, 2));
    })
    .await;
}

/// Vector PR #26343.
#[tokio::test]
async fn closed_shards_are_not_polled() {
    within(async {
        // Faults that do nothing, to count.
        let count = |operation: &str| {
            format!("[[fault]]\noperation = \"{operation}\"\nshard = \"{S0}\"\ndoes = {{ delay_ms = 0 }}\n")
        };
        let faults = Faults::parse(&[count("GetRecords"), count("GetShardIterator")].concat()).unwrap();
        let (_server, client) = server_with(1, &faults).await;
        Producer::new(client.clone(), STREAM).put(&records(0..100)).await.unwrap();
        let mut pipeline = Pipeline::new(reader::spawn(client.clone(), options(Start::TrimHorizon), &BTreeMap::new()));
        pipeline.until_read(100).await;
        split(&client, S0).await;
        let parent = until_finished(&mut pipeline, S0).await;
        let asked = faults.struck();
        assert!(asked.iter().all(|asked| asked.times > 0), "{asked:?}");
        pipeline.decide(&parent);
        for child in [S1, S2, S1, S2] {
            pipeline.until_caught_up(child).await;
        }
        let progress = pipeline.progress();
        pipeline.stop().await;
        let mut restarted = Pipeline::new(reader::spawn(client.clone(), options(Start::TrimHorizon), &progress));
        for child in [S1, S2, S1, S2] {
            restarted.until_caught_up(child).await;
        }
        assert_eq!(faults.struck(), asked);
        assert_eq!(restarted.opened.len(), 2);
        restarted.stop().await;
    })
    .await;
}
