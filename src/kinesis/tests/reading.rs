//! Positions, iterators and throttling.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use super::pipeline::{News, Pipeline, assert_order_per_key, expected};
use super::*;
use crate::clock::MICROS_PER_SECOND;
use crate::error::Error;
use crate::kinesis::{Held, Producer, held, reader};
use crate::stream::{Position, ShardEvent, ShardId, ShardProgress};

fn spawn(client: &Client, options: Options, resume: &BTreeMap<ShardId, ShardProgress>) -> Pipeline {
    Pipeline::new(reader::spawn(client.clone(), options, resume))
}

#[tokio::test]
async fn a_restart_goes_on_after_the_last_record() {
    within(async {
        let (_server, client) = server(3).await;
        let producer = Producer::new(client.clone(), STREAM);
        let all = records(0..3_000);
        producer.put(&all[..1_500]).await.unwrap();
        let mut first = spawn(&client, options(Start::TrimHorizon), &BTreeMap::new());
        first.until_read(700).await;
        let (mut read, progress) = (first.read.clone(), first.progress());
        first.stop().await;

        producer.put(&all[1_500..]).await.unwrap();
        let mut checked = options(Start::TrimHorizon);
        checked.check_trimmed = true;
        let left = all.len() - read.values().map(Vec::len).sum::<usize>();
        let mut second = spawn(&client, checked, &progress);
        second.until_read(left).await;
        for (shard, texts) in &second.read {
            read.entry(shard.clone()).or_default().extend(texts.iter().cloned());
        }
        assert_order_per_key(read.values());
        let mut read: Vec<String> = read.into_values().flatten().collect();
        read.sort_unstable();
        assert_eq!(read, expected(&all));
    })
    .await;
}

#[tokio::test]
async fn expired_iterators_and_throttling_are_not_noticed_downstream() {
    within(async {
        let faults = Faults::default();
        let (_server, client) = server_with(2, &faults).await;
        faults.add("ListShards", refused(400, "LimitExceededException"));
        faults.add("GetShardIterator", refused(400, "ProvisionedThroughputExceededException"));
        faults.add("GetRecords", refused(400, "ExpiredIteratorException"));
        let producer = Producer::new(client.clone(), STREAM);
        let all = records(0..3_000);
        producer.put(&all[..1_000]).await.unwrap();
        let mut pipeline = spawn(&client, options(Start::TrimHorizon), &BTreeMap::new());
        pipeline.until_read(1_000).await;
        for fault in [
            refused(400, "ExpiredIteratorException"),
            refused(400, "ProvisionedThroughputExceededException"),
            refused(400, "KMSThrottlingException"),
            refused(500, "InternalFailure"),
            refused(400, "InvalidArgumentException"),
            Does::LoseAnswer,
            refused(400, "ExpiredIteratorException"),
        ] {
            faults.add("GetRecords", fault);
        }
        producer.put(&all[1_000..]).await.unwrap();
        pipeline.until_read(all.len()).await;
        while faults.idle() > 0 {
            pipeline.next().await.unwrap();
        }
        assert_eq!(pipeline.all(), expected(&all));
        assert_order_per_key(pipeline.read.values());
    })
    .await;
}

#[tokio::test]
async fn iterators_refused_again_and_again_are_an_error() {
    within(async {
        let faults = Faults::default();
        let (_server, client) = server_with(1, &faults).await;
        for _ in 0..6 {
            faults.add("GetRecords", refused(400, "InvalidArgumentException"));
        }
        let mut pipeline = spawn(&client, options(Start::TrimHorizon), &BTreeMap::new());
        let error = loop {
            if let Err(error) = pipeline.next().await {
                break error.to_string();
            }
        };
        assert!(error.contains("shardId-000000000000") && error.contains("InvalidArgumentException"), "{error}");
    })
    .await;
}

#[tokio::test]
async fn a_failing_shard_stops_no_other() {
    within(async {
        let faults = Faults::default();
        let (_server, client) = server_with(2, &faults).await;
        faults.add("GetRecords", refused(400, "AccessDeniedException"));
        let mut handle = reader::spawn(client.clone(), options(Start::TrimHorizon), &BTreeMap::new());
        let mut shards = [handle.opened.recv().await.unwrap(), handle.opened.recv().await.unwrap()];
        let mut first = Vec::new();
        for shard in &mut shards {
            first.push(shard.events.recv().await.unwrap());
        }
        assert_eq!(first.iter().filter(|event| matches!(event, ShardEvent::Failed(_))).count(), 1, "{first:?}");
        let other = first.iter().position(|event| matches!(event, ShardEvent::CaughtUp)).unwrap();
        for _ in 0..5 {
            assert!(matches!(shards[other].events.recv().await, Some(ShardEvent::CaughtUp)));
        }
        assert!(shards[1 - other].events.recv().await.is_none(), "an error is the last event");
    })
    .await;
}

#[tokio::test]
async fn a_saved_position_that_is_gone_stops_with_the_shard_named() {
    within(async {
        let (server, client) = server(1).await;
        let acknowledged = Producer::new(client.clone(), STREAM).put(&records(0..5_000)).await.unwrap();
        let shard = acknowledged[0].shard.clone();
        let at = |n: usize| ShardProgress {
            position: Position::After(acknowledged[n].sequence.clone()),
            finished: false,
            parents: Default::default(),
            watermark: None,
        };
        let freed = server.delete_through(STREAM, &shard, &acknowledged[4_499].sequence).await.unwrap();
        assert_eq!(freed, 4_500);
        assert_eq!(server.delete_through(STREAM, &shard, &acknowledged[4_499].sequence).await.unwrap(), 0);

        let mut checked = options(Start::TrimHorizon);
        checked.check_trimmed = true;
        let mut pipeline = spawn(&client, checked.clone(), &BTreeMap::from([(shard.clone(), at(4_000))]));
        assert!(matches!(pipeline.next().await.unwrap(), News::Opened(_)));
        let error = pipeline.next().await.unwrap_err().to_string();
        assert!(error.contains(&*shard) && error.contains("lake.url"), "{error}");

        let mut pipeline = spawn(&client, checked, &BTreeMap::from([(shard.clone(), at(4_500))]));
        pipeline.until_read(499).await;
        pipeline.until_caught_up(&shard).await;
        assert_eq!(pipeline.all(), expected(&records(4_501..5_000)));
    })
    .await;
}

/// As after a machine that slept between the two calls.
#[tokio::test]
async fn a_saved_position_is_looked_for_again_when_the_iterator_expires() {
    within(async {
        let faults = Faults::default();
        let (_server, client) = server_with(1, &faults).await;
        let acknowledged = Producer::new(client.clone(), STREAM).put(&records(0..10)).await.unwrap();
        let (shard, last) = (&acknowledged[0].shard, &acknowledged[9].sequence);
        faults.add("GetRecords", refused(400, "ExpiredIteratorException"));
        faults.add("GetRecords", refused(400, "ExpiredIteratorException"));
        assert_eq!(held(&client, STREAM, shard, last, Pacing::LOCAL).await.unwrap(), Held::Saved);
        assert_eq!(faults.idle(), 0);
    })
    .await;
}

/// Nothing is there any more, and whether something follows stays open; or the shard is gone.
#[tokio::test]
async fn an_open_answer_about_a_saved_position_is_a_loss() {
    within(async {
        let faults = Faults::default();
        let (server, client) = server_with(1, &faults).await;
        let acknowledged = Producer::new(client.clone(), STREAM).put(&records(0..10)).await.unwrap();
        let (shard, last) = (&acknowledged[0].shard, &acknowledged[9].sequence);
        server.delete_through(STREAM, shard, last).await.unwrap();
        let ask = || held(&client, STREAM, shard, last, Pacing::LOCAL);
        assert_eq!(ask().await.unwrap(), Held::From(None));
        faults.arm(&Faults::parse("[[fault]]\ndoes = { behind_ms = 1000 }").unwrap());
        assert_eq!(ask().await.unwrap(), Held::From(None));
        assert!(faults.struck()[0].times > 1, "it was asked again: more was said to follow");
        faults.add("GetShardIterator", refused(400, "ResourceNotFoundException"));
        assert_eq!(ask().await.unwrap(), Held::Gone);
    })
    .await;
}

/// A shard at its tip falls silent while its iterators expire; the record read last, if any, is gone.
#[tokio::test]
async fn a_loss_is_suspected_when_the_streams_own_retention_is_used_up() {
    const HOUR: i64 = 3_600 * MICROS_PER_SECOND;
    within(async {
        for read in [0, 10] {
            let (faults, time) = (Faults::default(), Arc::new(AtomicI64::new(Clock::System.now())));
            let (server, client) = server_with(1, &faults).await;
            let mut checked = options(Start::TrimHorizon);
            (checked.check_trimmed, checked.retention) = (true, 168 * HOUR);
            checked.clock = Clock::Fixed(time.clone());
            let mut pipeline = spawn(&client, checked, &BTreeMap::new());
            if read > 0 {
                let put = Producer::new(client.clone(), STREAM).put(&records(0..read)).await.unwrap();
                pipeline.until_read(read).await;
                server.delete_through(STREAM, &put[0].shard, &put.last().unwrap().sequence).await.unwrap();
            }
            pipeline.until_caught_up("shardId-000000000000").await;
            faults.arm(&Faults::parse("[[fault]]\ndoes = \"expire_iterator\"").unwrap());
            // After the first strike no answer is under way; after the others a new iterator was asked for.
            for (strikes, hours) in [(1, 30), (4, 168)] {
                while faults.struck()[0].times < strikes {
                    tokio::select! {
                        news = pipeline.next() => drop(news.unwrap()),
                        () = tokio::task::yield_now() => {}
                    }
                }
                time.fetch_add(hours * HOUR, Ordering::Relaxed);
            }
            let error = loop {
                if let Err(error) = pipeline.next().await {
                    break error;
                }
            };
            assert!(matches!(&error, Error::Usage(_)) && error.to_string().contains("--accept-gap"), "{error}");
        }
    })
    .await;
}

/// The start lies up to a second ahead of the server's clock, so it is refused at first; then the embedded server goes
/// back to the start of the shard, whose records are all older.
#[tokio::test]
async fn latest_leaves_out_what_was_there() {
    within(async {
        let (_server, client) = server(1).await;
        let producer = Producer::new(client.clone(), STREAM);
        producer.put(&records(0..100)).await.unwrap();
        let mut latest = options(Start::Latest);
        latest.clock = Clock::fixed(Clock::System.now() + MICROS_PER_SECOND);
        let mut pipeline = spawn(&client, latest, &BTreeMap::new());
        pipeline.until_caught_up("shardId-000000000000").await;
        assert_eq!(pipeline.count(), 0);
        let position = pipeline.progress().into_values().next().unwrap().position;
        assert!(matches!(position, Position::AtTimestamp(time) if time % MICROS_PER_SECOND == 0), "{position:?}");
        producer.put(&records(100..150)).await.unwrap();
        pipeline.until_read(50).await;
        assert_eq!(pipeline.all(), expected(&records(100..150)));
    })
    .await;
}

#[tokio::test]
async fn stopping_closes_everything_without_an_end() {
    within(async {
        let (server, client) = server(1).await;
        let mut handle = reader::spawn(client.clone(), options(Start::TrimHorizon), &BTreeMap::new());
        let mut shard = handle.opened.recv().await.unwrap();
        handle.stop.cancel();
        handle.task.await.unwrap().unwrap();
        while let Some(event) = shard.events.recv().await {
            assert!(matches!(event, ShardEvent::CaughtUp), "{event:?}");
        }
        assert!(handle.opened.recv().await.is_none());
        server.stop().await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_missing_stream_is_the_users_to_mend() {
    within(async {
        let (_server, client) = server(1).await;
        let mut missing = options(Start::TrimHorizon);
        missing.stream = "orders".into();
        let mut handle = reader::spawn(client, missing, &BTreeMap::new());
        assert!(handle.opened.recv().await.is_none());
        let error = handle.task.await.unwrap().unwrap_err();
        assert!(matches!(&error, Error::Usage(text) if text.contains("`orders`")), "{error}");
    })
    .await;
}
