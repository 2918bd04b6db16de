//! Records that expire before they are read: a loss stops the job, is recorded when accepted, and is never imagined.

use std::fs;
use std::path::PathBuf;

use lakeward::kinesis::{Acknowledged, Client, EmbeddedKinesis, Faults, Producer, PutRecord, client, create_stream};
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::support::{Scratch, text};

const STREAM: &str = "transactions";

const SOURCE: &str = "kinesis:transactions";

const SHARDS: [&str; 5] = [
    "shardId-000000000000",
    "shardId-000000000001",
    "shardId-000000000002",
    "shardId-000000000003",
    "shardId-000000000004",
];

/// A stream of few shards, and the transactions to put into it.
struct World {
    runtime: Runtime,
    server: EmbeddedKinesis,
    client: Client,
    faults: Faults,
    scratch: Scratch,
    lines: Vec<String>,
}

impl World {
    fn new() -> Self {
        Self::of_shards(1)
    }

    fn of_shards(shards: u32) -> Self {
        let (runtime, faults) = (Runtime::new().unwrap(), Faults::default());
        let server = EmbeddedKinesis::start_with("127.0.0.1:0", "eu-west-1", |router| faults.before(router));
        let server = runtime.block_on(server).unwrap();
        let client = client::connect_to_url(server.url(), "eu-west-1");
        runtime.block_on(create_stream(&client, STREAM, shards)).unwrap();
        let scratch = Scratch::new()
            .set(&format!("stream.endpoint={}", server.url()))
            .set(&format!("stream.name={STREAM}"))
            .set("commit.interval=200ms");
        let file = scratch.simulated("days.ndjson", 700);
        let lines = fs::read_to_string(file).unwrap().lines().map(str::to_owned).collect();
        Self { runtime, server, client, faults, scratch, lines }
    }

    fn put(&self, lines: std::ops::Range<usize>) -> Vec<Acknowledged> {
        let record = |line: &String| PutRecord { partition_key: "k".into(), data: line.clone().into() };
        let records: Vec<PutRecord> = self.lines[lines].iter().map(record).collect();
        self.runtime.block_on(Producer::new(self.client.clone(), STREAM).put(&records)).unwrap()
    }

    /// Everything up to this record expires.
    fn expire(&self, last: &Acknowledged) {
        self.runtime.block_on(self.server.delete_through(STREAM, &last.shard, &last.sequence)).unwrap();
    }

    /// Splits a shard at a hash key.
    fn split(&self, shard: &str, at: u128) {
        let split = self.client.split_shard().stream_name(STREAM).shard_to_split(shard);
        self.runtime.block_on(split.new_starting_hash_key(at.to_string()).send()).unwrap();
    }

    /// These shards are listed no more.
    fn hide(&self, shards: &[&str]) {
        let script = format!("[[fault]]\ndoes = {{ hide_shards = {shards:?} }}");
        self.faults.arm(&Faults::parse(&script).unwrap());
    }

    /// The start is refused, naming these shards and no other; accepted, it goes on, and the next has nothing to accept.
    /// Returns the summary.
    fn must_accept(&self, lost: &[&str]) -> Value {
        let refused = self.scratch.run(&["run", "--until-caught-up"]);
        let said = text(&refused.stderr);
        assert_eq!(refused.status.code(), Some(2), "{said}");
        let named: Vec<&str> = SHARDS.into_iter().filter(|shard| said.contains(shard)).collect();
        assert!(said.contains("--accept-gap") && named == lost, "{said}");
        let summary = self.scratch.summary(&["--accept-gap"]);
        assert_eq!(summary["gaps"].as_array().unwrap().len(), lost.len(), "{summary}");
        let told = self.scratch.must(&["audit"]);
        assert_eq!(told.matches("accepted by hand").count(), lost.len(), "{told}");
        assert_eq!(self.scratch.summary(&[])["gaps"], Value::Null, "the next start has nothing to accept");
        summary
    }

    fn newest_slot(&self) -> PathBuf {
        let slots = fs::read_dir(self.scratch.lake().join("_epochs")).unwrap().map(|entry| entry.unwrap().path());
        slots.filter(|path| path.extension().is_some_and(|e| e == "json")).max().unwrap()
    }

    /// Changes the newest slot: it has none after it that is linked to it.
    fn edit(&self, change: impl FnOnce(&mut Value)) {
        let path = self.newest_slot();
        let mut slot: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        assert_eq!(slot["kind"], "epoch");
        change(&mut slot);
        fs::write(path, slot.to_string()).unwrap();
    }

    /// The job was last at the tip so many hours ago.
    fn away_for(&self, hours: i64) {
        self.edit(|slot| {
            for shard in slot["sources"][SOURCE]["shards"].as_object_mut().unwrap().values_mut() {
                let at_tip = shard["at_tip"].as_i64().unwrap();
                assert!(at_tip > 1_700_000_000_000_000, "{shard}");
                shard["at_tip"] = (at_tip - hours * 3_600_000_000).into();
            }
        });
    }

    /// The stream keeps records for a week.
    fn keep_a_week(&self) {
        let kept = self.client.increase_stream_retention_period().stream_name(STREAM).retention_period_hours(168);
        self.runtime.block_on(kept.send()).unwrap();
    }
}

#[test]
fn a_loss_stops_the_job_and_is_recorded_when_accepted() {
    let world = World::new();
    world.put(0..400);
    assert_eq!(world.scratch.summary(&[])["read"], 400);
    let later = world.put(400..700);
    world.expire(&later[99]);
    world.away_for(48);

    let refused = world.scratch.run(&["run", "--until-caught-up"]);
    let said = text(&refused.stderr);
    assert_eq!(refused.status.code(), Some(2), "{said}");
    assert!(said.contains("--accept-gap") && said.contains(&*later[0].shard), "{said}");

    // The refused start has fenced the lake: its slot carries the tip on.
    let summary = world.scratch.summary(&["--accept-gap"]);
    assert_eq!(summary["read"], 200, "{summary}");
    let oldest = later[100].sequence.to_string();
    assert!(summary["gaps"][0].as_str().unwrap().contains(&oldest), "{summary}");
    let told = world.scratch.must(&["audit"]);
    assert!(told.contains("accepted by hand") && told.contains(&oldest), "{told}");
    assert_eq!(world.scratch.summary(&[])["gaps"], Value::Null, "the next start has nothing to accept");
}

#[test]
fn an_idle_shard_whose_position_has_expired_has_lost_nothing() {
    let world = World::new();
    let first = world.put(0..400);
    assert_eq!(world.scratch.summary(&[])["read"], 400);
    // The record read last expires, then others come: nothing between was lost.
    world.expire(&first[399]);
    world.put(400..700);
    let summary = world.scratch.summary(&[]);
    assert_eq!((&summary["read"], &summary["gaps"]), (&300.into(), &Value::Null));
    world.scratch.must(&["audit"]);
}

/// A day is the shortest retention there is, and not this stream's.
#[test]
fn an_idle_shard_has_lost_nothing_within_the_streams_own_retention() {
    let world = World::new();
    world.keep_a_week();
    let first = world.put(0..400);
    assert_eq!(world.scratch.summary(&[])["read"], 400);
    world.expire(&first[399]);
    world.away_for(30);
    world.put(400..600);
    let summary = world.scratch.summary(&[]);
    assert_eq!((&summary["read"], &summary["gaps"]), (&200.into(), &Value::Null));
    world.away_for(30);
    world.put(600..700);
    assert_eq!(world.scratch.summary(&[])["read"], 100);
}

/// What had expired did not come back.
#[test]
fn a_retention_that_was_lengthened_meanwhile_counts_from_the_next_run_on() {
    let world = World::new();
    let first = world.put(0..400);
    assert_eq!(world.scratch.summary(&[])["read"], 400);
    world.expire(&first[399]);
    world.away_for(30);
    world.keep_a_week();
    let later = world.put(400..600);
    assert_eq!(world.must_accept(&[SHARDS[0]])["read"], 200);
    world.put(600..650);
    assert_eq!(world.scratch.summary(&[])["read"], 50);
    world.expire(&later[199]);
    world.away_for(30);
    world.put(650..700);
    assert_eq!(world.scratch.summary(&[])["read"], 50);
}

/// Nothing is in the shard; what came and expired while the job was away, nobody knows.
#[test]
fn a_record_that_has_expired_with_nothing_behind_it_is_a_loss() {
    let world = World::new();
    let first = world.put(0..400);
    assert_eq!(world.scratch.summary(&[])["read"], 400);
    world.expire(&first[399]);
    world.away_for(48);
    assert_eq!(world.must_accept(&[SHARDS[0]])["read"], 0);
    world.put(400..700);
    assert_eq!(world.scratch.summary(&[])["read"], 300);
}

/// A shard without a record has no record to ask for.
#[test]
fn a_shard_of_which_nothing_was_read_is_a_loss_when_the_job_was_away_too_long() {
    let world = World::of_shards(2);
    let first = world.put(0..200);
    assert_eq!(world.scratch.summary(&[])["read"], 200);
    let silent = SHARDS[..2].iter().copied().find(|shard| *shard != &*first[0].shard).unwrap();
    world.away_for(48);
    world.must_accept(&[silent]);

    // It ended before it came to the shard: the slot's own time counts.
    let never_there = |slot: &mut Value| {
        slot["sources"][SOURCE]["shards"][silent].as_object_mut().unwrap().remove("at_tip").unwrap();
    };
    world.put(200..300);
    assert_eq!(world.scratch.summary(&[])["read"], 100);
    world.edit(never_there);
    let summary = world.scratch.summary(&[]);
    assert_eq!((&summary["read"], &summary["gaps"]), (&0.into(), &Value::Null));
    world.edit(|slot| {
        never_there(slot);
        slot["written_at"] = (slot["written_at"].as_i64().unwrap() - 48 * 3_600_000_000).into();
    });
    let refused = world.scratch.run(&["run", "--until-caught-up"]);
    let said = text(&refused.stderr);
    assert!(refused.status.code() == Some(2) && said.contains(silent), "{said}");
    assert_eq!(world.scratch.summary(&["--accept-gap"])["gaps"].as_array().unwrap().len(), 1);
}

/// The job was stopped across two reshards; when it comes back, the shard it has read is gone, and so is one of its children
/// that no slot has named.
#[test]
fn shards_that_expired_whole_are_accepted_though_no_slot_has_named_one_of_them() {
    let world = World::new();
    world.put(0..200);
    assert_eq!(world.scratch.summary(&[])["read"], 200);
    world.split(SHARDS[0], 1 << 127);
    let lost = world.put(200..300);
    world.split(SHARDS[2], 3 << 126);
    world.put(300..700);
    let gone = [SHARDS[0], SHARDS[2]];
    world.hide(&gone);
    assert_eq!(&*lost[0].shard, SHARDS[2]);
    assert_eq!(world.must_accept(&gone)["read"], 400);
    world.faults.all_struck().unwrap();
}

#[test]
fn an_open_shard_that_was_never_read_and_is_gone_is_accepted() {
    let world = World::of_shards(2);
    let first = world.put(0..200);
    assert_eq!(world.scratch.summary(&[])["read"], 200);
    let silent = SHARDS[..2].iter().copied().find(|shard| *shard != &*first[0].shard).unwrap();
    world.hide(&[silent]);
    world.put(200..300);
    assert_eq!(world.must_accept(&[silent])["read"], 100);
}
