//! Where a stream is begun, in all forms of `stream.start`, and that the first epoch remembers it.

use std::fs;
use std::path::PathBuf;

use lakeward::clock::{Clock, MICROS_PER_SECOND, Micros, show_time};
use lakeward::kinesis::{Client, EmbeddedKinesis, Faults, Producer, PutRecord, client, create_stream};
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::support::{Scratch, text};

const STREAM: &str = "transactions";

/// A stream of two shards, and the transactions to put into it.
struct World {
    runtime: Runtime,
    server: EmbeddedKinesis,
    client: Client,
    faults: Faults,
    lines: Vec<String>,
}

impl World {
    fn new() -> Self {
        let (runtime, faults) = (Runtime::new().unwrap(), Faults::default());
        let server = EmbeddedKinesis::start_with("127.0.0.1:0", "eu-west-1", |router| faults.before(router));
        let server = runtime.block_on(server).unwrap();
        let client = client::connect_to_url(server.url(), "eu-west-1");
        runtime.block_on(create_stream(&client, STREAM, 2)).unwrap();
        let file = Scratch::new();
        let file = fs::read_to_string(file.simulated("days.ndjson", 600)).unwrap();
        Self { runtime, server, client, faults, lines: file.lines().map(str::to_owned).collect() }
    }

    /// A job that begins there, with a lake of its own.
    fn from(&self, start: &str) -> Scratch {
        Scratch::new()
            .set(&format!("stream.endpoint={}", self.server.url()))
            .set(&format!("stream.name={STREAM}"))
            .set("commit.interval=200ms")
            .set(&format!("stream.start={start}"))
    }

    fn put(&self, lines: std::ops::Range<usize>) {
        let record = |number: usize| {
            let (partition_key, data) = (format!("card-{}", number % 20), self.lines[number].clone().into());
            PutRecord { partition_key, data }
        };
        let records: Vec<PutRecord> = lines.map(record).collect();
        self.runtime.block_on(Producer::new(self.client.clone(), STREAM).put(&records)).unwrap();
    }
}

/// The next whole second: the embedded stream knows arrival times to the second.
fn next_second() -> Micros {
    let next = (Clock::System.now() / MICROS_PER_SECOND + 1) * MICROS_PER_SECOND;
    while Clock::System.now() < next {
        std::thread::yield_now();
    }
    next
}

/// The newest slot, and where it is.
fn newest(scratch: &Scratch) -> (PathBuf, Value) {
    let slots = fs::read_dir(scratch.lake().join("_epochs")).unwrap().map(|entry| entry.unwrap().path());
    let newest = slots.filter(|path| path.extension().is_some_and(|e| e == "json")).max().unwrap();
    let slot = serde_json::from_slice(&fs::read(&newest).unwrap()).unwrap();
    (newest, slot)
}

fn shards(slot: &mut Value) -> &mut serde_json::Map<String, Value> {
    slot["sources"][format!("kinesis:{STREAM}")]["shards"].as_object_mut().unwrap()
}

fn positions(scratch: &Scratch) -> Vec<Value> {
    shards(&mut newest(scratch).1).values().map(|shard| shard["position"].clone()).collect()
}

#[test]
fn the_horizon_is_all_there_is_and_a_time_what_came_since() {
    let world = World::new();
    world.put(0..300);
    let between = next_second();
    world.put(300..600);
    assert_eq!(world.from("trim_horizon").summary(&[])["read"], 600);
    let later = world.from(&show_time(between));
    assert_eq!(later.summary(&[])["read"], 300);
    assert_eq!(later.summary(&[])["read"], 0);
    later.must(&["audit"]);
    // Of another zone, and before everything.
    assert_eq!(world.from("2026-01-01T00:00:00+02:00").summary(&[])["read"], 600);
}

#[test]
fn the_latest_is_resolved_in_the_first_epoch_though_nothing_was_read() {
    let world = World::new();
    world.put(0..200);
    let begun = next_second();
    let scratch = world.from("latest");
    assert_eq!(scratch.summary(&[])["read"], 0);
    let saved = positions(&scratch);
    assert_eq!(saved.len(), 2, "{saved:?}");
    for position in &saved {
        assert!(position["at_timestamp"].as_i64().unwrap() >= begun, "{position}");
    }
    // While nobody reads.
    world.put(200..450);
    next_second();
    let summary = scratch.summary(&[]);
    assert_eq!((&summary["read"], &summary["gaps"]), (&250.into(), &Value::Null), "what came meanwhile, and no more");
    world.put(450..600);
    assert_eq!(scratch.summary(&[])["read"], 150);
    scratch.must(&["audit"]);
}

/// It is watched, and nothing comes: that is said, though the position stays.
#[test]
fn a_silent_stream_that_was_watched_is_no_loss() {
    let world = World::new();
    let scratch = world.from("latest");
    assert_eq!(scratch.summary(&[])["read"], 0);
    let shards = |slot: &Value| slot["sources"][format!("kinesis:{STREAM}")]["shards"].as_object().unwrap().clone();
    let mut slot = newest(&scratch).1;
    let begun = Clock::System.now();
    for (id, mut shard) in shards(&slot) {
        shard["at_tip"] = (begun - 2 * 3_600 * MICROS_PER_SECOND).into();
        slot["sources"][format!("kinesis:{STREAM}")]["shards"][id] = shard;
    }
    fs::write(newest(&scratch).0, slot.to_string()).unwrap();
    assert_eq!(scratch.summary(&[])["read"], 0);
    for (_, shard) in shards(&newest(&scratch).1) {
        assert!(shard["at_tip"].as_i64().unwrap() >= begun, "{shard}");
        assert!(shard["position"]["at_timestamp"].is_i64(), "{shard}");
    }
}

/// It has read nothing for longer than the stream keeps records: what came first is gone, whatever there is now.
#[test]
fn a_beginning_that_has_expired_unread_is_a_loss() {
    let world = World::new();
    let scratch = world.from("latest");
    assert_eq!(scratch.summary(&[])["read"], 0);
    let (path, mut slot) = newest(&scratch);
    for shard in shards(&mut slot).values_mut() {
        shard["position"] = serde_json::json!({"at_timestamp": 1_700_000_000_000_000_i64});
        shard["at_tip"] = 0.into();
    }
    fs::write(path, slot.to_string()).unwrap();
    world.put(0..100);
    let output = scratch.run(&["run", "--until-caught-up"]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("--accept-gap"), "{said}");
    let summary = scratch.summary(&["--accept-gap"]);
    assert_eq!((&summary["read"], summary["gaps"].as_array().unwrap().len()), (&100.into(), 2), "{summary}");
    // The beginning made up here is a break in the chain of positions, which the audit names besides.
    let audited = text(&scratch.run(&["audit"]).stdout);
    assert!(audited.contains("accepted by hand"), "{audited}");
}

/// As if nothing could be lost of a shard for a month.
#[test]
fn a_tip_told_by_a_clock_that_was_ahead_is_told_anew() {
    let world = World::new();
    world.put(0..100);
    let scratch = world.from("trim_horizon");
    assert_eq!(scratch.summary(&[])["read"], 100);
    let (path, mut slot) = newest(&scratch);
    for shard in shards(&mut slot).values_mut() {
        shard["at_tip"] = (Clock::System.now() + 30 * 24 * 3_600 * MICROS_PER_SECOND).into();
    }
    fs::write(path, slot.to_string()).unwrap();
    assert_eq!(scratch.summary(&[])["read"], 0);
    for shard in shards(&mut newest(&scratch).1).values() {
        assert!(shard["at_tip"].as_i64().unwrap() <= Clock::System.now(), "{shard}");
    }
}

#[test]
fn a_time_to_come_and_no_time_at_all_are_refused() {
    let world = World::new();
    for (start, says) in [
        ("2100-01-01T00:00:00Z", "`stream.start` is 2100-01-01T00:00:00Z"),
        ("yesterday", "`yesterday` is none of `trim_horizon`, `latest`, or a time"),
        ("2026-11-23", "`2026-11-23` is none of"),
    ] {
        let output = world.from(start).run(&["run", "--until-caught-up"]);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{start}: {said}");
        assert!(said.contains(says), "{start}: {said}");
    }
    // Of a lake that has begun, it says nothing any more.
    world.put(0..50);
    let scratch = world.from("trim_horizon");
    assert_eq!(scratch.summary(&[])["read"], 50);
    world.put(50..100);
    let again = scratch.set("stream.start=2100-01-01T00:00:00Z");
    assert_eq!(again.summary(&[])["read"], 50);
}

#[test]
fn how_much_of_the_retention_is_used_up_is_told() {
    let world = World::new();
    world.put(0..100);
    let hours = 19 * 3_600_000_u64;
    let script = format!("[[fault]]\noperation = \"GetRecords\"\nat_most = 40\ndoes = {{ behind_ms = {hours} }}");
    world.faults.arm(&Faults::parse(&script).unwrap());
    let scratch = world.from("trim_horizon").set("tick.interval=5ms");
    let output = scratch.run(&["run", "--until-caught-up", "--json"]);
    let said = text(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("is 19h behind, more than 75 % of the 1day"), "{said}");
    assert!(said.contains("increase-stream-retention-period"), "{said}");
    world.faults.all_struck().unwrap();
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!((0.79..0.8).contains(&summary["retention_used_max"].as_f64().unwrap()), "{summary}");

    // The next start says how long nobody read.
    let output = scratch.run(&["run", "--until-caught-up"]);
    let said = text(&output.stderr);
    assert!(said.contains("what is unread arrived within the last") && said.contains("0 % of the 1day"), "{said}");
}
