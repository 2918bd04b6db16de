//! Reading by subscriptions: what is pushed, what breaks, and the way to polling and back.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::time::Instant;

use super::pipeline::{News, Pipeline, assert_order_per_key, expected};
use super::*;
use crate::config::{Config, Reader};
use crate::error::Error;
use crate::kinesis::{Consumer, Producer, reader, registered};
use crate::stream::{ShardEvent, ShardId, ShardProgress};

const S0: &str = "shardId-000000000000";
const S1: &str = "shardId-000000000001";

/// Polling is given up soon; silence is none that a busy machine could make.
const TERMS: Terms = Terms {
    interval: Duration::from_millis(5),
    polled: [Duration::from_millis(50), Duration::from_millis(400)],
    ..Terms::LOCAL
};

/// Silence, too, is noticed soon: the embedded server sends an event every 200 ms.
const IMPATIENT: Terms = Terms { silence_max: Duration::from_millis(1_500), ..TERMS };

/// Faults that do nothing, to count: calls that poll, and subscriptions.
const COUNTED: [&str; 2] = [
    "operation = \"GetRecords\"\ndoes = { delay_ms = 0 }",
    "operation = \"SubscribeToShard\"\ndoes = { delay_ms = 0 }",
];

/// A stream, a client that pays for faults and one that does not meet them, and how often they struck: polled, subscribed,
/// and by the faults given.
struct Behind {
    server: EmbeddedKinesis,
    client: Client,
    consumer: Arc<Consumer>,
    faults: Faults,
}

impl Behind {
    async fn new(shards: u32, faults: &[&str]) -> Self {
        let script = COUNTED.iter().chain(faults).map(|fault| format!("[[fault]]\n{fault}\n")).collect::<String>();
        let behind = Faults::default();
        let (server, client) = server_with(shards, &behind).await;
        let consumer = Arc::new(Consumer::register(client.clone(), STREAM, "lake").await.unwrap());
        behind.arm(&Faults::parse(&script).unwrap());
        Self { server, client, consumer, faults: behind }
    }

    fn options(&self, terms: Terms) -> Options {
        Options { consumer: Some(self.consumer.clone()), terms, ..options(Start::TrimHorizon) }
    }

    fn spawn(&self, terms: Terms) -> Pipeline {
        Pipeline::new(reader::spawn(self.client.clone(), self.options(terms), &BTreeMap::new()))
    }

    async fn put(&self, records: &[PutRecord]) {
        Producer::new(self.client.clone(), STREAM).put(records).await.unwrap();
    }

    fn times(&self) -> Vec<u64> {
        self.faults.struck().into_iter().map(|struck| struck.times).collect()
    }
}

/// Puts records in turns and reads each turn's before the next, until `enough`; then all are there, once and in order.
async fn in_turns(behind: &Behind, pipeline: &mut Pipeline, enough: impl Fn(&[u64]) -> bool) {
    let mut put = 0;
    while put < 200 || !enough(&behind.times()) {
        behind.put(&records(put..put + 40)).await;
        put += 40;
        pipeline.until_read(put).await;
        // A look at the tip between two turns.
        while !matches!(pipeline.next().await.unwrap(), News::CaughtUp(_)) {}
    }
    assert_eq!(pipeline.all(), expected(&records(0..put)));
    assert_order_per_key(pipeline.read.values());
}

#[tokio::test]
async fn records_are_pushed_and_nothing_is_polled() {
    within(async {
        let behind = Behind::new(2, &[]).await;
        let within = client::connect_within(&behind.server, "eu-west-1");
        behind.put(&records(0..700)).await;
        for (way, client) in [behind.client.clone(), within].into_iter().enumerate() {
            let first = 700 + way * 200;
            let mut pipeline = Pipeline::new(reader::spawn(client.clone(), behind.options(TERMS), &BTreeMap::new()));
            pipeline.until_read(first).await;
            Producer::new(client, STREAM).put(&records(first..first + 200)).await.unwrap();
            pipeline.until_read(first + 200).await;
            for shard in [S0, S1] {
                pipeline.until_caught_up(shard).await;
            }
            assert_eq!(pipeline.all(), expected(&records(0..first + 200)));
            assert_order_per_key(pipeline.read.values());
            pipeline.stop().await;
        }
        assert_eq!(behind.times(), [0, 4]);
    })
    .await;
}

#[tokio::test]
async fn a_subscription_is_renewed_before_its_time_is_over() {
    within(async {
        let behind = Behind::new(1, &[]).await;
        let mut pipeline = behind.spawn(Terms { renew_after: Duration::from_millis(100), ..TERMS });
        in_turns(&behind, &mut pipeline, |times| times[1] > 6).await;
        assert_eq!(behind.times()[0], 0, "nothing was polled");
        pipeline.stop().await;
    })
    .await;
}

/// As AWS's, the last event of a shard names its children.
#[tokio::test]
async fn a_shard_ends_with_the_event_that_names_its_children() {
    within(async {
        let behind = Behind::new(2, &[]).await;
        let all = records(0..1_000);
        behind.put(&all[..400]).await;
        let mut pipeline = behind.spawn(TERMS);
        pipeline.until_read(100).await;
        let merge = behind.client.merge_shards().stream_name(STREAM);
        merge.shard_to_merge(S0).adjacent_shard_to_merge(S1).send().await.unwrap();
        behind.put(&all[400..]).await;
        pipeline.deciding_until(1_000, 2).await;
        assert_eq!((pipeline.all(), pipeline.opened.len()), (expected(&all), 3));
        assert_eq!(behind.times(), [0, 3]);
        pipeline.stop().await;
    })
    .await;
}

/// UpdateShardCount here makes children that name no parent.
#[tokio::test]
async fn a_shard_that_ends_without_a_word_is_found_to_have_ended_by_polling() {
    within(async {
        let behind = Behind::new(1, &[]).await;
        behind.put(&records(0..300)).await;
        let mut pipeline = behind.spawn(TERMS);
        pipeline.until_read(300).await;
        let update = behind.client.update_shard_count().stream_name(STREAM).target_shard_count(2);
        update.scaling_type(aws_sdk_kinesis::types::ScalingType::UniformScaling).send().await.unwrap();
        while pipeline.finished.is_empty() {
            pipeline.next().await.unwrap();
        }
        assert_eq!(pipeline.all(), expected(&records(0..300)));
        assert!(behind.times()[0] > 0);
        pipeline.stop().await;
    })
    .await;
}

/// What breaks by itself is subscribed to again, from the exact place, and the shard is not polled for it.
#[tokio::test]
async fn a_subscription_that_breaks_goes_on_after_its_last_record() {
    within(async {
        for fault in [
            "at = [1, 3, 5]\ndoes = { cut_after = 2 }",
            "at = [1, 3, 5]\ndoes = { cut_after = 0 }",
            "at = [1, 3, 5]\ndoes = { repeat_after = 1 }",
            "at = [2, 3, 5]\ndoes = { fail_after = { events = 1, code = \"InternalFailureException\" } }",
            "at = [1, 3, 5]\ndoes = { fail_after = { events = 0, code = \"KMSThrottlingException\" } }",
            "operation = \"SubscribeToShard\"\nat = [1, 3, 5]\ndoes = \"reset\"",
            "operation = \"SubscribeToShard\"\nat = [1, 3, 5]\ndoes = \"reset_after\"",
            "operation = \"SubscribeToShard\"\nat = [1, 3, 5]\ndoes = { answer = { status = 400, code = \"ResourceInUseException\" } }",
            "operation = \"SubscribeToShard\"\nat = [1, 3, 5]\ndoes = { answer = { status = 400, code = \"LimitExceededException\" } }",
            "operation = \"SubscribeToShard\"\nat = [1, 3, 5]\ndoes = { answer = { status = 500, code = \"InternalFailure\" } }",
        ] {
            let behind = Behind::new(1, &[fault]).await;
            let mut pipeline = behind.spawn(Terms { renew_after: Duration::from_millis(500), ..TERMS });
            in_turns(&behind, &mut pipeline, |times| times[2] == 3).await;
            assert_eq!(behind.times()[0], 0, "polled: {fault}");
            pipeline.stop().await;
        }
    })
    .await;
}

/// AWS ends one after five minutes, other servers when they like; whether the shard has ended with it one poll tells.
#[tokio::test]
async fn subscriptions_that_end_early_are_polled_between() {
    within(async {
        let behind = Behind::new(1, &["does = { end_after = 2 }"]).await;
        let mut pipeline = behind.spawn(TERMS);
        in_turns(&behind, &mut pipeline, |times| times[2] > 5).await;
        let [polled, subscribed, ended] = behind.times()[..] else { panic!() };
        assert!(polled + 1 >= ended && polled <= subscribed, "one poll after each: {polled}, {subscribed}, {ended}");
        pipeline.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_silent_subscription_is_polled_and_then_subscribed_to_again() {
    within(async {
        let behind = Behind::new(1, &["at = [1, 2]\ndoes = { silent_after = 1 }"]).await;
        let mut pipeline = behind.spawn(IMPATIENT);
        in_turns(&behind, &mut pipeline, |times| times[0] > 0 && times[1] > 2).await;
        let polled = behind.times()[0];
        // The third one speaks.
        in_turns_more(&behind, &mut pipeline).await;
        assert_eq!(behind.times()[0], polled, "nothing is polled any more");
        pipeline.stop().await;
    })
    .await;
}

/// Two hundred more records at least.
async fn in_turns_more(behind: &Behind, pipeline: &mut Pipeline) {
    let read = pipeline.count();
    for turn in 0..5 {
        let first = read + turn * 40;
        behind.put(&records(first..first + 40)).await;
        pipeline.until_read(first + 40).await;
    }
    assert_eq!(pipeline.all(), expected(&records(0..read + 200)));
    assert_order_per_key(pipeline.read.values());
}

#[tokio::test]
async fn subscribing_that_keeps_failing_is_polled_and_tried_again() {
    within(async {
        for code in
            ["ResourceInUseException", "LimitExceededException", "AccessDeniedException", "KMSDisabledException"]
        {
            let refused = format!(
                "operation = \"SubscribeToShard\"\ndoes = {{ answer = {{ status = 400, code = \"{code}\" }} }}"
            );
            let behind = Behind::new(1, &[&refused]).await;
            let mut pipeline = behind.spawn(IMPATIENT);
            in_turns(&behind, &mut pipeline, |times| times[0] > 0 && times[2] > 1).await;
            pipeline.stop().await;
        }
    })
    .await;
}

/// Another job subscribes under the same name: taking it back would go on for ever.
#[tokio::test]
async fn a_subscription_that_was_taken_over_is_polled() {
    within(async {
        let taken = "at = [1]\ndoes = { fail_after = { events = 1, code = \"ResourceInUseException\" } }";
        let behind = Behind::new(1, &[taken]).await;
        let mut pipeline = behind.spawn(TERMS);
        in_turns(&behind, &mut pipeline, |times| times[0] > 0 && times[1] > 1).await;
        pipeline.stop().await;
    })
    .await;
}

/// Three silences long nobody takes one shard's events. That is no silence of the service: it is not asked.
#[tokio::test]
async fn a_pipeline_that_is_slow_is_no_silence() {
    within(async {
        let behind = Behind::new(2, &[]).await;
        let mut handle = reader::spawn(behind.client.clone(), behind.options(IMPATIENT), &BTreeMap::new());
        let [mut slow, mut other] = [handle.opened.recv().await.unwrap(), handle.opened.recv().await.unwrap()];
        let records_of = |event: Option<ShardEvent>| match event {
            Some(ShardEvent::Page(page)) => page.records.len(),
            Some(ShardEvent::CaughtUp) => 0,
            event => panic!("{event:?}"),
        };
        let begun = Instant::now();
        let (mut put, mut read, mut waiting) = (0, 0, 0);
        while begun.elapsed() < IMPATIENT.silence_max * 3 {
            behind.put(&records(put..put + 40)).await;
            put += 40;
            read += records_of(other.events.recv().await);
        }
        while read + waiting < put {
            tokio::select! {
                event = slow.events.recv() => waiting += records_of(event),
                event = other.events.recv() => read += records_of(event),
            }
        }
        assert!(waiting > 0 && read > 0);
        assert_eq!(read + waiting, put);
        assert_eq!(behind.times(), [0, 2]);
        handle.stop.cancel();
        handle.task.await.unwrap().unwrap();
    })
    .await;
}

/// A job that is stopped and started with another reader each time: a slot's position means the same to both.
#[tokio::test]
async fn restarts_change_the_way_and_lose_and_double_nothing() {
    within(async {
        let behind = Behind::new(3, &["every = 4\ndoes = { cut_after = 3 }"]).await;
        let all = records(0..4_000);
        let mut progress: BTreeMap<ShardId, ShardProgress> = BTreeMap::new();
        let mut read: BTreeMap<ShardId, Vec<String>> = BTreeMap::new();
        for (turn, some) in all.chunks(500).enumerate() {
            behind.put(some).await;
            let mut options = behind.options(TERMS);
            options.check_trimmed = true;
            options.consumer = options.consumer.filter(|_| turn % 2 == 0);
            let mut pipeline = Pipeline::new(reader::spawn(behind.client.clone(), options, &progress));
            // Not all of it: a part is left to the other way.
            pipeline.until_read(300).await;
            for (shard, texts) in &pipeline.read {
                read.entry(shard.clone()).or_default().extend(texts.iter().cloned());
            }
            progress.extend(pipeline.progress());
            pipeline.stop().await;
        }
        let left = all.len() - read.values().map(Vec::len).sum::<usize>();
        let mut last = Pipeline::new(reader::spawn(behind.client.clone(), behind.options(TERMS), &progress));
        last.until_read(left).await;
        for (shard, texts) in &last.read {
            read.entry(shard.clone()).or_default().extend(texts.iter().cloned());
        }
        assert_order_per_key(read.values());
        let mut read: Vec<String> = read.into_values().flatten().collect();
        read.sort_unstable();
        assert_eq!(read, expected(&all));
        last.stop().await;
    })
    .await;
}

#[tokio::test]
async fn latest_is_subscribed_to_as_a_time() {
    within(async {
        let behind = Behind::new(1, &[]).await;
        behind.put(&records(0..100)).await;
        let mut latest = behind.options(TERMS);
        latest.start = Start::At(Clock::System.now() + 10);
        let mut pipeline = Pipeline::new(reader::spawn(behind.client.clone(), latest, &BTreeMap::new()));
        pipeline.until_caught_up(S0).await;
        assert_eq!(pipeline.count(), 0, "older than the start, though the embedded server sends them");
        pipeline.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_consumer_is_registered_once_and_again_when_it_was_removed() {
    within(async {
        let behind = Behind::new(1, &[]).await;
        let again = Consumer::register(behind.client.clone(), STREAM, "lake").await.unwrap();
        let arn = behind.consumer.arn().await;
        assert_eq!(again.arn().await, arn);
        let mut pipeline = behind.spawn(Terms { renew_after: Duration::from_millis(300), ..TERMS });
        in_turns(&behind, &mut pipeline, |_| true).await;
        behind.client.deregister_stream_consumer().consumer_arn(&arn).send().await.unwrap();
        while behind.consumer.arn().await == arn {
            pipeline.next().await.unwrap();
        }
        let subscribed = behind.times()[1];
        while behind.times()[1] < subscribed + 2 {
            pipeline.next().await.unwrap();
        }
        in_turns_more(&behind, &mut pipeline).await;
        pipeline.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_consumer_that_may_not_be_registered_stops_the_start_or_is_said() {
    within(async {
        let faults = Faults::default();
        let (_server, client) = server_with(1, &faults).await;
        let mut stream = Config::load(None, &[]).unwrap().stream;
        stream.name = STREAM.into();
        assert!(registered(&client, &stream, "lake").await.unwrap().is_none(), "it is polled unless told otherwise");
        for (operation, action) in [
            ("RegisterStreamConsumer", "`kinesis:RegisterStreamConsumer` on `arn:aws:kinesis:eu-west-1:"),
            ("DescribeStreamConsumer", "`kinesis:DescribeStreamConsumer` on `arn:aws:kinesis:eu-west-1:"),
        ] {
            stream.reader = Reader::FanOut;
            faults.add(operation, refused(400, "AccessDeniedException"));
            let error = registered(&client, &stream, "lake").await.unwrap_err();
            assert!(matches!(&error, Error::Usage(text) if text.contains(action)), "{error}");
            stream.reader = Reader::Auto;
            faults.add(operation, refused(400, "AccessDeniedException"));
            assert!(registered(&client, &stream, "lake").await.unwrap().is_none());
        }
        for _ in 0..6 {
            faults.add("RegisterStreamConsumer", refused(400, "LimitExceededException"));
        }
        stream.reader = Reader::FanOut;
        let full = registered(&client, &stream, "lake").await.unwrap_err();
        assert!(matches!(&full, Error::External { .. }) && full.to_string().contains("room for twenty"), "{full}");
        assert_eq!(faults.idle(), 0);
        assert!(registered(&client, &stream, "lake").await.unwrap().is_some());
    })
    .await;
}

/// Everything at once, while shards merge: every record that was acknowledged is read once, in its key's order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_all_faults_loses_and_doubles_nothing() {
    within(async {
        let behind = Behind::new(4, &[
            "every = 3\ndoes = { cut_after = 2 }",
            "every = 5\ndoes = { end_after = 1 }",
            "every = 4\ndoes = { repeat_after = 0 }",
            "every = 11\nat_most = 2\ndoes = { silent_after = 1 }",
            "every = 6\ndoes = { fail_after = { events = 1, code = \"InternalFailureException\" } }",
            "every = 7\nat_most = 3\ndoes = { fail_after = { events = 1, code = \"ResourceInUseException\" } }",
            "operation = \"SubscribeToShard\"\nrate = 0.1\ndoes = \"reset_after\"",
            "operation = \"SubscribeToShard\"\nrate = 0.1\ndoes = { answer = { status = 400, code = \"ResourceInUseException\" } }",
            "operation = \"GetRecords\"\nrate = 0.1\ndoes = \"throttle\"",
            "rate = 0.1\ndoes = \"expire_iterator\"",
        ])
        .await;
        let all = records(0..6_000);
        let mut pipeline = behind.spawn(Terms { renew_after: Duration::from_millis(250), ..IMPATIENT });
        for (turn, some) in all.chunks(500).enumerate() {
            behind.put(some).await;
            if turn == 4 {
                let merge = behind.client.merge_shards().stream_name(STREAM);
                merge.shard_to_merge(S0).adjacent_shard_to_merge(S1).send().await.unwrap();
            }
        }
        while behind.faults.idle() > 0 || pipeline.count() < all.len() || pipeline.finished.len() < 2 {
            if let News::Finished(id) = pipeline.next().await.unwrap() {
                pipeline.decide(&id);
            }
        }
        assert_eq!(pipeline.all(), expected(&all));
        assert_order_per_key(pipeline.read.values());
        pipeline.stop().await;
    })
    .await;
}
