//! Many shards, hot, failing and paused ones: each is read at its own pace, and memory is that of none of them.

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::time::Instant;

use super::pipeline::{News, Pipeline, expected};
use super::*;
use crate::kinesis::faults::limits::Reads;
use crate::kinesis::pacing::{Answered, Pace};
use crate::kinesis::{Consumer, Producer, reader};
use crate::stream::{OpenedShard, Page, SequenceNumber, ShardEvent, SourceHandle};

const S0: &str = "shardId-000000000000";

fn script(faults: &str) -> Faults {
    Faults::parse(faults).unwrap()
}

/// Records of so many bytes, each under a key of its own.
fn spread(count: usize, bytes: usize) -> Vec<PutRecord> {
    let record = |number: usize| {
        let data = Bytes::from(format!("{number:08} {}", "x".repeat(bytes - 9)));
        PutRecord { partition_key: number.to_string(), data }
    };
    (0..count).map(record).collect()
}

/// All records, and how many of them lie in shards other than the first.
async fn put(client: &Client, records: &[PutRecord]) -> usize {
    let landed = Producer::new(client.clone(), STREAM).put(records).await.unwrap();
    landed.iter().filter(|landed| &*landed.shard != S0).count()
}

fn read_by(options: Options, client: &Client) -> Pipeline {
    Pipeline::new(reader::spawn(client.clone(), options, &BTreeMap::new()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_shards_are_read_without_loss_in_the_memory_of_a_few() {
    read_in_half_their_size(1_000, 10 << 20, false).await;
}

/// A tenth of them, for the embedded server looks at each subscription five times a second.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_that_are_subscribed_to_keep_the_same_bound() {
    read_in_half_their_size(100, 3 << 20, true).await;
}

/// Reads shards that hold twice what there is room for.
async fn read_in_half_their_size(shards: u32, bytes_max: usize, is_pushed: bool) {
    within(async {
        let server = EmbeddedKinesis::start("127.0.0.1:0", "eu-west-1").await.unwrap();
        let client = client::connect_within(&server, "eu-west-1");
        create_stream(&client, STREAM, shards).await.unwrap();
        // Each shard alone may ask for 8 MiB.
        let records = spread(bytes_max / 500, 1_000);
        put(&client, &records).await;
        let mut options = options(Start::TrimHorizon);
        // Fifty calls a second on each shard at its tip would leave the server no time for others.
        (options.tick, options.idle_poll_max) = (Duration::from_millis(100), Duration::from_secs(1));
        options.in_flight = InFlight::new(bytes_max);
        if is_pushed {
            options.consumer = Some(Consumer::register(client.clone(), STREAM, "lake").await.unwrap().into());
        }
        let in_flight = options.in_flight.clone();
        let mut pipeline = read_by(options, &client);
        pipeline.until_read(records.len()).await;
        assert_eq!((pipeline.opened.len(), pipeline.all()), (shards as usize, expected(&records)));
        assert!((1..=bytes_max).contains(&in_flight.most()), "{} bytes", in_flight.most());
        pipeline.stop().await;
    })
    .await;
}

/// The first shard holds sixteen megabytes where nine are room for; the others some records.
#[tokio::test]
async fn a_hot_shard_leaves_room_for_the_others() {
    within(async {
        let (server, client) = server(8).await;
        let within = client::connect_within(&server, "eu-west-1");
        let hot: Vec<PutRecord> = spread(16_000, 1_000);
        let first = Producer::new(within.clone(), STREAM).put(&hot[..200]).await.unwrap();
        let key = first.iter().position(|landed| &*landed.shard == S0).unwrap().to_string();
        let hot = hot[200..].iter().map(|record| PutRecord { partition_key: key.clone(), ..record.clone() });
        let hot: Vec<PutRecord> = hot.collect();
        put(&within, &hot).await;
        let others = first.iter().filter(|landed| &*landed.shard != S0).count();
        let mut options = options(Start::TrimHorizon);
        options.in_flight = InFlight::new(9 << 20);
        let in_flight = options.in_flight.clone();
        let mut pipeline = read_by(options, &client);
        let of_others = |pipeline: &Pipeline| pipeline.count() - pipeline.read.get(S0).map_or(0, Vec::len);
        while of_others(&pipeline) < others {
            pipeline.next().await.unwrap();
        }
        assert!(pipeline.read[S0].len() < 16_000 / 2, "{} records of the hot shard first", pipeline.read[S0].len());
        pipeline.until_read(16_000).await;
        assert!(in_flight.most() <= 9 << 20, "{} bytes", in_flight.most());
        pipeline.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_shard_that_is_always_throttled_stops_no_other() {
    let does = "does = \"throttle\"";
    others_are_read_beside(&format!("[[fault]]\noperation = \"GetRecords\"\nshard = \"{S0}\"\n{does}")).await;
}

#[tokio::test]
async fn a_shard_that_fails_for_ever_stops_no_other() {
    let does = "does = { answer = { status = 503, code = \"ServiceUnavailable\" } }";
    others_are_read_beside(&format!("[[fault]]\nshard = \"{S0}\"\n{does}")).await;
}

#[tokio::test]
async fn a_shard_that_answers_slowly_stops_no_other() {
    // Ten times as long as the test may take.
    let does = "does = { delay_ms = 600000 }";
    others_are_read_beside(&format!("[[fault]]\noperation = \"GetRecords\"\nshard = \"{S0}\"\n{does}")).await;
}

/// All that the other shards hold is read, twice; there is room for one answer only besides that of the shard at fault.
async fn others_are_read_beside(fault: &str) {
    within(async {
        let faults = Faults::default();
        let (_server, client) = server_with(4, &faults).await;
        faults.arm(&script(fault));
        let records = spread(800, 1_000);
        let mut others = put(&client, &records[..400]).await;
        let mut options = options(Start::TrimHorizon);
        options.in_flight = InFlight::new(16 << 20);
        let mut pipeline = read_by(options, &client);
        pipeline.until_read(others).await;
        others += put(&client, &records[400..]).await;
        pipeline.until_read(others).await;
        assert_eq!(pipeline.read.get(S0).map_or(0, Vec::len), 0);
        faults.all_struck().unwrap();
        pipeline.stop().await;
    })
    .await;
}

/// Two shards, the second of which goes on being asked, and how often each was.
struct Two {
    _server: EmbeddedKinesis,
    producer: Producer,
    in_flight: InFlight,
    faults: Faults,
    handle: SourceHandle,
    shards: [OpenedShard; 2],
}

/// Looks at the other shard after which whatever was under way of the first one is over.
const LOOKS: usize = 20;

impl Two {
    async fn new() -> Self {
        let faults = Faults::default();
        let (server, client) = server_with(2, &faults).await;
        let counts =
            |shard: usize| format!("[[fault]]\nshard = \"shardId-00000000000{shard}\"\ndoes = {{ delay_ms = 0 }}\n");
        faults.arm(&script(&(counts(0) + &counts(1))));
        let producer = Producer::new(client::connect_within(&server, "eu-west-1"), STREAM);
        let options = options(Start::TrimHorizon);
        let in_flight = options.in_flight.clone();
        let mut handle = reader::spawn(client, options, &BTreeMap::new());
        let shards = [handle.opened.recv().await.unwrap(), handle.opened.recv().await.unwrap()];
        Self { _server: server, producer, in_flight, faults, handle, shards }
    }

    fn calls(&self) -> u64 {
        self.faults.struck()[0].times
    }

    /// Puts records of which the first shard gets some; their places in it.
    async fn put(&self, records: &[PutRecord]) -> Vec<SequenceNumber> {
        let landed = self.producer.put(records).await.unwrap();
        landed.into_iter().filter(|landed| &*landed.shard == S0).map(|landed| landed.sequence).collect()
    }

    /// What the first shard tells while the other is looked at some more times.
    async fn meanwhile(&mut self) -> Vec<ShardEvent> {
        let (mut told, mut looks) = (Vec::new(), 0);
        let [first, other] = &mut self.shards;
        while looks < LOOKS {
            tokio::select! {
                Some(event) = first.events.recv() => told.push(event),
                Some(_) = other.events.recv() => looks += 1,
            }
        }
        told
    }

    async fn stop(self) {
        self.handle.stop.cancel();
        self.handle.task.await.unwrap().unwrap();
    }
}

fn sequences(events: Vec<ShardEvent>) -> Vec<SequenceNumber> {
    let page = |event| if let ShardEvent::Page(page) = event { page.records } else { Vec::new() };
    events.into_iter().flat_map(page).map(|record| record.sequence).collect()
}

#[tokio::test]
async fn a_paused_shard_asks_for_nothing_holds_nothing_and_goes_on_where_it_stood() {
    within(async {
        let mut two = Two::new().await;
        let mut landed = two.put(&spread(300, 100)).await;
        let mut read = sequences(two.meanwhile().await);
        two.shards[0].pause.set(true);
        read.extend(sequences(two.meanwhile().await));
        let calls = two.calls();
        landed.extend(two.put(&spread(300, 100)).await);
        assert!(two.meanwhile().await.is_empty());
        assert_eq!((two.calls(), &read[..]), (calls, &landed[..read.len()]));
        two.shards[0].pause.set(false);
        while read.len() < landed.len() {
            read.extend(sequences(two.meanwhile().await));
        }
        assert_eq!(read, landed, "each once, in order");
        two.stop().await;
    })
    .await;
}

#[tokio::test]
async fn pages_give_their_room_back_when_they_are_consumed() {
    within(async {
        let mut two = Two::new().await;
        let count = two.put(&spread(100, 1_000)).await.len();
        let mut told = two.meanwhile().await;
        let page = |event: &ShardEvent| if let ShardEvent::Page(page) = event { Some(page.clone()) } else { None };
        let copies: Vec<Page> = told.iter().filter_map(page).collect();
        two.shards.iter().for_each(|shard| shard.pause.set(true));
        told.clear();
        assert!(two.in_flight.held() >= count * 1_000, "copies are still there");
        drop(copies);
        while two.in_flight.held() > 0 {
            two.shards[0].events.try_recv().ok();
            two.shards[1].events.try_recv().ok();
            tokio::task::yield_now().await;
        }
        two.stop().await;
    })
    .await;
}

/// From four intervals of calls on, each silence is a quarter longer than the last one.
#[tokio::test]
async fn a_silent_shard_is_asked_ever_more_seldom_and_tells_of_its_tip_all_the_same() {
    within(async {
        let (_server, client) = server(1).await;
        let mut options = options(Start::TrimHorizon);
        options.idle_poll_max = HANG_GUARD;
        let mut pipeline = read_by(options, &client);
        assert!(matches!(pipeline.next().await.unwrap(), News::Opened(_)));
        let begun = Instant::now();
        for _ in 0..24 {
            assert!(matches!(pipeline.next().await.unwrap(), News::CaughtUp(_)));
        }
        assert!(begun.elapsed() >= Duration::from_secs(1), "24 looks in {:?}", begun.elapsed());
        pipeline.stop().await;
    })
    .await;
}

/// A job's reading of a shard that others read, too, without a server: times are arguments.
#[derive(Debug)]
struct Job {
    pace: Pace,
    due: Instant,
    answered: Instant,
    answers: u32,
    throttled: u32,
    /// Longest time without an answer.
    starved: Duration,
}

/// An hour of a shard whose limits are the service's and of which each call is answered so.
fn an_hour_of(jobs: u64, answer: Answered, seed: u64) -> Vec<Job> {
    let (start, mut reads, mut random) = (Instant::now(), Reads::default(), StdRng::seed_from_u64(seed));
    let job = |number| {
        let begun = start + Duration::from_millis(70 * number);
        let pace = Pace::new(Pacing::AWS, Duration::from_millis(250), Duration::from_secs(5), begun);
        Job { pace, due: begun, answered: begun, answers: 0, throttled: 0, starved: Duration::ZERO }
    };
    let mut jobs: Vec<Job> = (0..jobs).map(job).collect();
    loop {
        let job = jobs.iter_mut().min_by_key(|job| job.due).unwrap();
        let now = job.due;
        if now - start >= Duration::from_secs(3_600) {
            return jobs;
        }
        job.pace.call(now);
        if reads.admit(now) {
            reads.answered(now, answer.bytes);
            job.pace.answered(now, answer);
            job.answers += 1;
            job.starved = job.starved.max(now - job.answered);
            job.answered = now;
        } else {
            job.pace.throttled(now, random.random());
            job.throttled += 1;
        }
        // A call is some milliseconds under way.
        job.due = job.pace.due() + random.random_range(Duration::ZERO..Duration::from_millis(5));
    }
}

#[test]
fn two_jobs_that_share_a_shard_are_seldom_throttled_and_neither_is_starved() {
    // At the tip, and with so much to read that a job alone has an answer in four seconds.
    for (bytes, alone, throttled_max, starved_max) in [(1_000, 14_400, 100, 4), (8 << 20, 859, 300, 180)] {
        let answer = Answered { records: 1_000, bytes, behind: true };
        let [job] = &an_hour_of(1, answer, 0)[..] else { panic!("one job") };
        assert!(job.answers > alone - alone / 50 && job.throttled == 0, "{job:?}");
        for seed in 0..8 {
            for job in an_hour_of(2, answer, seed) {
                assert!(job.answers > alone / 4, "seed {seed}: a quarter of what there is at least: {job:?}");
                assert!(job.throttled <= throttled_max, "seed {seed}: {job:?}");
                assert!(job.starved <= Duration::from_secs(starved_max), "seed {seed}: {job:?}");
            }
        }
    }
}
