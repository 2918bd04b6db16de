//! Each fault as a client meets it, and all of them at once.

use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::sync::atomic::Ordering::Relaxed;

use aws_sdk_kinesis::operation::get_records::GetRecordsOutput;
use aws_sdk_kinesis::types::ShardIteratorType;
use tokio::time::Instant;

use super::pipeline::{News, Pipeline, assert_order_per_key, expected};
use super::*;
use crate::clock::MICROS_PER_SECOND;
use crate::kinesis::reader::LATE_LISTINGS_MAX;
use crate::kinesis::{Consumer, Producer, reader};

const S0: &str = "shardId-000000000000";
const S1: &str = "shardId-000000000001";
const S2: &str = "shardId-000000000002";

fn script(faults: &[&str]) -> Faults {
    Faults::parse(&faults.iter().map(|fault| format!("[[fault]]\n{fault}\n")).collect::<String>()).unwrap()
}

/// A server behind faults that strike only now that its stream is there; over a socket, and within the process.
async fn behind(shards: u32, script: &Faults) -> (EmbeddedKinesis, [Client; 2], Faults) {
    let faults = Faults::default();
    let (server, over_a_socket) = server_with(shards, &faults).await;
    let within = client::connect_within(&server, "eu-west-1");
    faults.arm(script);
    (server, [over_a_socket, within], faults)
}

fn times(faults: &Faults) -> Vec<u64> {
    faults.struck().into_iter().map(|struck| struck.times).collect()
}

async fn first_page(client: &Client, shard: &str) -> GetRecordsOutput {
    let start = client.get_shard_iterator().stream_name(STREAM).shard_id(shard);
    let start = start.shard_iterator_type(ShardIteratorType::TrimHorizon).send().await.unwrap().shard_iterator;
    client.get_records().set_shard_iterator(start).limit(100).send().await.unwrap()
}

/// All answers of a shard, to its end.
async fn pages(client: &Client, shard: &str) -> Vec<GetRecordsOutput> {
    let mut pages = vec![first_page(client, shard).await];
    while let Some(next) = pages.last().unwrap().next_shard_iterator.clone() {
        pages.push(client.get_records().shard_iterator(next).send().await.unwrap());
    }
    pages
}

fn read_all(client: &Client) -> Pipeline {
    Pipeline::new(reader::spawn(client.clone(), options(Start::TrimHorizon), &Default::default()))
}

#[tokio::test]
async fn a_reset_before_applies_nothing_and_one_after_all() {
    within(async {
        for (does, copies) in [("reset", 1), ("reset_after", 2), ("lose_answer", 2)] {
            for way in [0, 1] {
                let put = format!("operation = \"PutRecords\"\nat = [1]\ndoes = \"{does}\"");
                let (_server, clients, faults) = behind(1, &script(&[&put])).await;
                let client = &clients[way];
                Producer::new(client.clone(), STREAM).put(&records(0..7)).await.unwrap();
                assert_eq!(first_page(client, S0).await.records.len(), copies * 7, "{does}, way {way}");
                assert_eq!(times(&faults), [1]);
            }
        }
    })
    .await;
}

#[tokio::test]
async fn delays_and_how_far_behind() {
    within(async {
        let (_server, [client, _], faults) =
            behind(1, &script(&["at = [1]\ndoes = { delay_ms = 30 }", "does = { behind_ms = 90000 }"])).await;
        let begun = Instant::now();
        let page = first_page(&client, S0).await;
        assert!(begun.elapsed() >= Duration::from_millis(30));
        assert_eq!((page.millis_behind_latest, times(&faults)), (Some(90_000), vec![1, 1]));
        // The short way's own answers are changed as well.
        Producer::new(client.clone(), STREAM).put(&records(0..7)).await.unwrap();
        let page = first_page(&client, S0).await;
        assert_eq!((page.millis_behind_latest, page.records.len()), (Some(90_000), 7));
    })
    .await;
}

/// FLINK-4341 has two halves: the watermark's is the pipeline's own; this is the reader's. Who is told to be behind is not
/// at the tip, however empty the page.
#[tokio::test]
async fn an_empty_page_far_behind_is_not_the_tip() {
    within(async {
        let (_server, [client, _], faults) = behind(1, &script(&["at = [1, 2, 3, 4]\ndoes = { behind_ms = 1 }"])).await;
        let mut pipeline = read_all(&client);
        assert!(matches!(pipeline.next().await.unwrap(), News::Opened(_)));
        assert!(matches!(pipeline.next().await.unwrap(), News::CaughtUp(_)));
        assert_eq!(times(&faults), [4], "told after the fifth answer only");
        pipeline.stop().await;
    })
    .await;
}

#[tokio::test]
async fn the_last_answer_of_a_shard_names_its_children() {
    within(async {
        let (_server, [client, _], faults) = behind(2, &script(&["does = \"child_shards\""])).await;
        Producer::new(client.clone(), STREAM).put(&records(0..90)).await.unwrap();
        client.merge_shards().stream_name(STREAM).shard_to_merge(S0).adjacent_shard_to_merge(S1).send().await.unwrap();
        for shard in [S0, S1] {
            let mut pages = pages(&client, shard).await;
            let children = pages.pop().unwrap().child_shards.unwrap();
            assert_eq!((children.len(), children[0].shard_id.as_str()), (1, "shardId-000000000002"));
            assert_eq!(children[0].parent_shards, [S0, S1]);
            assert!(!pages.is_empty() && pages.iter().all(|page| page.child_shards.is_none()));
        }
        assert_eq!(times(&faults), [2]);
    })
    .await;
}

/// Quickwit #5912: ListShards and the parent's last answer both announce a child.
#[tokio::test]
async fn a_child_announced_twice_is_opened_once() {
    within(async {
        let (_server, [client, _], faults) = behind(2, &script(&["does = \"child_shards\""])).await;
        Producer::new(client.clone(), STREAM).put(&records(0..500)).await.unwrap();
        let mut pipeline = read_all(&client);
        pipeline.until_read(500).await;
        client.merge_shards().stream_name(STREAM).shard_to_merge(S0).adjacent_shard_to_merge(S1).send().await.unwrap();
        Producer::new(client.clone(), STREAM).put(&records(500..900)).await.unwrap();
        // A shard that is opened twice fails the test in `Pipeline::next`.
        pipeline.deciding_until(900, 2).await;
        assert_eq!((pipeline.all(), pipeline.opened.len()), (expected(&records(0..900)), 3));
        faults.all_struck().unwrap();
        pipeline.stop().await;
    })
    .await;
}

/// Leaves a shard out of so many listings that would name it.
fn hidden(shard: &str, times: u64) -> String {
    format!("at_most = {times}\ndoes = {{ hide_shards = [\"{shard}\"] }}")
}

async fn split(client: &Client, shard: &str) {
    client.split_shard().stream_name(STREAM).shard_to_split(shard).new_starting_hash_key("2").send().await.unwrap();
}

/// ListShards lags behind what the parent's end names, whichever way that is read: first by both children, then by one.
#[tokio::test]
async fn children_that_an_end_names_are_looked_for_until_all_are_listed() {
    within(async {
        for is_pushed in [false, true] {
            let (_server, [client, _], faults) = behind(1, &Faults::default()).await;
            let consumer = Consumer::register(client.clone(), STREAM, "lake").await.unwrap();
            faults.arm(&script(&[&hidden(S1, 4), &hidden(S2, 7), "does = \"child_shards\""]));
            let producer = Producer::new(client.clone(), STREAM);
            producer.put(&records(0..300)).await.unwrap();
            let consumer = is_pushed.then(|| consumer.into());
            let options = Options { consumer, ..options(Start::TrimHorizon) };
            let mut pipeline = Pipeline::new(reader::spawn(client.clone(), options, &Default::default()));
            pipeline.until_read(300).await;
            split(&client, S0).await;
            producer.put(&records(300..500)).await.unwrap();
            pipeline.deciding_until(500, 1).await;
            while pipeline.opened.len() < 3 {
                pipeline.next().await.unwrap();
            }
            assert_eq!(pipeline.all(), expected(&records(0..500)));
            assert_eq!(times(&faults), [4, 7, u64::from(!is_pushed)]);
            pipeline.stop().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_child_that_is_never_listed_is_looked_for_so_often_and_then_seldom() {
    within(async {
        let hidden = hidden("shardId-000000000003", 1_000);
        let (_server, [client, _], faults) = behind(2, &script(&[&hidden, "does = \"child_shards\""])).await;
        split(&client, S0).await;
        let mut pipeline = read_all(&client);
        pipeline.deciding_until(0, 1).await;
        // When reading begins, when the parent ends, and then those for the child.
        let listings = 2 + u64::from(LATE_LISTINGS_MAX);
        while times(&faults)[0] < listings {
            pipeline.next().await.unwrap();
        }
        for _ in 0..20 {
            pipeline.until_caught_up(S1).await;
        }
        assert_eq!((times(&faults)[0], pipeline.opened.len()), (listings, 3));
        pipeline.stop().await;
    })
    .await;
}

#[tokio::test]
async fn answers_of_ten_megabytes_are_read_as_any() {
    within(async {
        let (_server, [client, within], faults) = behind(1, &script(&["does = \"full_answers\""])).await;
        let filler = "x".repeat(20_000);
        let long = |record: PutRecord| {
            let data = format!("{}{filler}", String::from_utf8_lossy(&record.data)).into();
            PutRecord { data, ..record }
        };
        // 16 MB: the first answer is full, and holds more than the 500 records a reader asks for at first.
        let records: Vec<PutRecord> = records(0..800).into_iter().map(long).collect();
        Producer::new(within.clone(), STREAM).put(&records).await.unwrap();
        let mut pipeline = read_all(&client);
        pipeline.until_read(800).await;
        assert_eq!(pipeline.all(), expected(&records));
        assert_order_per_key(pipeline.read.values());
        faults.all_struck().unwrap();
        pipeline.stop().await;
    })
    .await;
}

#[tokio::test]
async fn the_pace_for_aws_keeps_the_limits_of_a_shard_and_throttling_is_survived() {
    within(async {
        let (_server, [client, within], faults) = behind(1, &script(&["does = \"read_limits\""])).await;
        Producer::new(within, STREAM).put(&records(0..2_000)).await.unwrap();
        let mut paced = options(Start::TrimHorizon);
        paced.pacing = Pacing::AWS;
        let mut pipeline = Pipeline::new(reader::spawn(client.clone(), paced, &Default::default()));
        pipeline.until_read(2_000).await;
        for _ in 0..2 {
            pipeline.until_caught_up(S0).await;
        }
        assert_eq!(times(&faults), [0], "eight calls in two seconds");
        pipeline.stop().await;

        let mut pipeline = read_all(&client);
        pipeline.until_read(2_000).await;
        while faults.idle() > 0 {
            pipeline.next().await.unwrap();
        }
        assert_eq!(pipeline.all(), expected(&records(0..2_000)));
        pipeline.stop().await;
    })
    .await;
}

/// Each takes four of a shard's five calls a second: they are refused some, and then each takes fewer.
#[tokio::test]
async fn two_jobs_on_one_stream_find_a_pace_that_is_not_throttled() {
    within(async {
        let (_server, [client, within], faults) = behind(1, &script(&["does = \"read_limits\""])).await;
        Producer::new(within, STREAM).put(&records(0..2_000)).await.unwrap();
        let paced = || Options { pacing: Pacing::AWS, ..options(Start::TrimHorizon) };
        let job = || Pipeline::new(reader::spawn(client.clone(), paced(), &Default::default()));
        let reads = async |mut pipeline: Pipeline| {
            pipeline.until_read(2_000).await;
            for _ in 0..4 {
                pipeline.until_caught_up(S0).await;
            }
            assert_eq!(pipeline.all(), expected(&records(0..2_000)));
            pipeline.stop().await;
        };
        tokio::join!(reads(job()), reads(job()));
        assert!(times(&faults)[0] <= 5, "{:?} calls refused: neither job is to be refused three times", times(&faults));
    })
    .await;
}

#[tokio::test]
async fn no_attempt_comes_sooner_than_the_interval_of_calls_which_grows_while_they_are_refused() {
    within(async {
        let throttled = "operation = \"GetRecords\"\nat = [1, 2]\ndoes = \"throttle\"";
        let (_server, [client, _], faults) = behind(1, &script(&[throttled])).await;
        let paced = Options { pacing: Pacing::AWS, ..options(Start::TrimHorizon) };
        let begun = Instant::now();
        let mut pipeline = Pipeline::new(reader::spawn(client, paced, &Default::default()));
        assert!(matches!(pipeline.next().await.unwrap(), News::Opened(_)));
        assert!(matches!(pipeline.next().await.unwrap(), News::CaughtUp(_)));
        // Back-off alone waits for three tenths of a second at most.
        assert!(begun.elapsed() >= Duration::from_millis(1_500), "{:?}", begun.elapsed());
        assert_eq!(times(&faults), [2]);
        pipeline.stop().await;
    })
    .await;
}

/// It has not answered since it was opened; the other one does.
#[tokio::test]
async fn a_shard_that_never_answers_grows_old() {
    within(async {
        let throttled = format!("operation = \"GetRecords\"\nshard = \"{S0}\"\ndoes = \"throttle\"");
        let (_server, [client, _], faults) = behind(2, &script(&[&throttled])).await;
        let time = Arc::new(AtomicI64::new(Clock::System.now()));
        let clock = Clock::Fixed(time.clone());
        let handle =
            reader::spawn(client, Options { clock: clock.clone(), ..options(Start::Latest) }, &Default::default());
        let unread = handle.unread.clone();
        let mut pipeline = Pipeline::new(handle);
        pipeline.until_caught_up(S1).await;
        assert_eq!(unread.oldest(clock.now()), None);
        time.fetch_add(13 * 3_600 * MICROS_PER_SECOND, Relaxed);
        pipeline.until_caught_up(S1).await;
        let (shard, oldest) = unread.oldest(clock.now()).expect("a shard grows old");
        assert_eq!((&*shard, oldest.retention), (S0, RETENTION_MIN));
        assert!((0.54..0.55).contains(&oldest.share(clock.now())), "{oldest:?}");
        faults.all_struck().unwrap();
        pipeline.stop().await;
    })
    .await;
}

#[tokio::test]
async fn what_is_not_json_goes_through_untouched() {
    within(async {
        let (server, _, faults) = behind(1, &script(&["does = \"throttle\""])).await;
        let request = b"POST / HTTP/1.1\r\nhost: x\r\nx-amz-target: Kinesis_20131202.ListStreams\r\n\
            content-type: application/x-amz-cbor-1.1\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        let address = server.url().strip_prefix("http://").unwrap().to_owned();
        let mut connection = tokio::net::TcpStream::connect(address).await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut connection, request).await.unwrap();
        let mut answer = Vec::new();
        tokio::io::AsyncReadExt::read_to_end(&mut connection, &mut answer).await.unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 "));
        assert_eq!(times(&faults), [0]);
    })
    .await;
}

/// Everything at once, while shards split and merge: every record that was acknowledged is read, in its key's order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_all_faults_loses_nothing() {
    within(async {
        let storm = script(&[
            "operation = \"GetRecords\"\nrate = 0.05\ndoes = \"throttle\"",
            "rate = 0.05\ndoes = \"expire_iterator\"",
            "rate = 0.02\ndoes = \"reset\"",
            "rate = 0.02\ndoes = \"reset_after\"",
            "rate = 0.02\ndoes = \"lose_answer\"",
            "rate = 0.02\ndoes = { answer = { status = 503, code = \"ServiceUnavailable\" } }",
            "operation = \"GetShardIterator\"\nrate = 0.2\ndoes = \"throttle\"",
            "rate = 0.2\ndoes = \"expire_token\"",
            "rate = 0.05\ndoes = { delay_ms = 5 }",
            "rate = 0.2\ndoes = { behind_ms = 5000 }",
            "does = \"child_shards\"",
            "does = { page_of = 2 }",
        ]);
        let (_server, [client, within], faults) = behind(4, &storm).await;
        let all = records(0..6_000);
        let mut pipeline = read_all(&client);
        for (turn, some) in all.chunks(500).enumerate() {
            Producer::new(within.clone(), STREAM).put(some).await.unwrap();
            if turn == 4 {
                let merge = within.merge_shards().stream_name(STREAM).shard_to_merge(S0).adjacent_shard_to_merge(S1);
                // Whatever comes back: one of them is applied, and refused from then on.
                for _ in 0..5 {
                    let _ = merge.clone().send().await;
                }
            }
        }
        while faults.idle() > 0 || pipeline.count() < all.len() || pipeline.distinct() < all.len() {
            if let News::Finished(id) = pipeline.next().await.unwrap() {
                pipeline.decide(&id);
            }
        }
        let mut read = pipeline.all();
        read.dedup();
        assert_eq!(read, expected(&all));
        // A request that was applied and not acknowledged stands in the stream twice; its first copies are in order.
        let firsts = pipeline.read.values().map(|shard| {
            let mut seen = std::collections::BTreeSet::new();
            shard.iter().filter(|text| seen.insert(text.as_str())).cloned().collect::<Vec<_>>()
        });
        assert_order_per_key(&firsts.collect::<Vec<_>>());
        faults.all_struck().unwrap();
        pipeline.stop().await;
    })
    .await;
}
