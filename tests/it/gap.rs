//! Records that expire before they are read: a loss stops the job, is recorded when accepted, and is never imagined.

use std::fs;
use std::path::PathBuf;

use lakeward::kinesis::{Acknowledged, Client, EmbeddedKinesis, Producer, PutRecord, client, create_stream};
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::support::{Scratch, text};

const STREAM: &str = "transactions";

/// A stream of one shard, and the transactions to put into it.
struct World {
    runtime: Runtime,
    server: EmbeddedKinesis,
    client: Client,
    scratch: Scratch,
    lines: Vec<String>,
}

impl World {
    fn new() -> Self {
        let runtime = Runtime::new().unwrap();
        let server = runtime.block_on(EmbeddedKinesis::start("127.0.0.1:0", "eu-west-1")).unwrap();
        let client = client::connect_to_url(server.url(), "eu-west-1");
        runtime.block_on(create_stream(&client, STREAM, 1)).unwrap();
        let scratch = Scratch::new()
            .set(&format!("stream.endpoint={}", server.url()))
            .set(&format!("stream.name={STREAM}"))
            .set("commit.interval=200ms");
        let file = scratch.simulated("days.ndjson", 700);
        let lines = fs::read_to_string(file).unwrap().lines().map(str::to_owned).collect();
        Self { runtime, server, client, scratch, lines }
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

    fn newest_slot(&self) -> PathBuf {
        let slots = fs::read_dir(self.scratch.lake().join("_epochs")).unwrap().map(|entry| entry.unwrap().path());
        slots.filter(|path| path.extension().is_some_and(|e| e == "json")).max().unwrap()
    }

    /// The job was last at the tip in 1970. The newest slot has none after it that is linked to it.
    fn forget_the_tip(&self) {
        let path = self.newest_slot();
        let mut slot: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        let sources = slot["sources"].as_object_mut().unwrap();
        for shard in sources.values_mut().flat_map(|source| source["shards"].as_object_mut().unwrap().values_mut()) {
            assert!(shard["at_tip"].as_i64().unwrap() > 1_700_000_000_000_000, "{shard}");
            shard["at_tip"] = 0.into();
        }
        fs::write(path, slot.to_string()).unwrap();
    }
}

#[test]
fn a_loss_stops_the_job_and_is_recorded_when_accepted() {
    let world = World::new();
    world.put(0..400);
    assert_eq!(world.scratch.summary(&[])["read"], 400);
    let later = world.put(400..700);
    world.expire(&later[99]);
    world.forget_the_tip();

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
