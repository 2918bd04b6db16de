//! Shards whose rows lie far apart: those ahead wait, memory holds what lies between, and the books are what they are without.
//!
//! What could wait for ever does not; each way there is has a test, here or in `src/window/skew.rs`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use chrono::NaiveDateTime;
use lakeward::files::records;
use lakeward::kinesis::{Client, EmbeddedKinesis, Producer, PutRecord, client, create_stream};
use md5::{Digest, Md5};
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::oracle::assert_lake_equals_input;
use crate::support::{Scratch, duckdb, interrupt, wait_for};

const STREAM: &str = "transactions";
const S0: &str = "shardId-000000000000";
const S1: &str = "shardId-000000000001";
const MICROS_PER_HOUR: i64 = 3_600_000_000;

/// A row as JSON, and its event time in microseconds.
type Row = (Value, i64);

/// The file's rows by their times: none is late, wherever the watermark stands.
fn rows(file: &Path) -> Vec<Row> {
    let row = |data: &[u8]| {
        let row: Value = serde_json::from_slice(data).unwrap();
        let time = row["trans_date_trans_time"].as_str().unwrap();
        let time = NaiveDateTime::parse_from_str(time, "%Y-%m-%d %H:%M:%S").unwrap();
        (row, time.and_utc().timestamp_micros())
    };
    let mut rows: Vec<Row> = records(file).unwrap().map(|record| row(&record.unwrap().data)).collect();
    rows.sort_by_key(|(_, time)| *time);
    rows
}

/// Two shards of a file: all of its time, and its second half.
fn old_and_young(rows: Vec<Row>) -> [Vec<Row>; 2] {
    let half = rows.len() / 2;
    let (mut old, mut young) = (Vec::new(), Vec::new());
    for (number, row) in rows.into_iter().enumerate() {
        let part = if number > half && number % 2 == 0 { &mut young } else { &mut old };
        part.push(row);
    }
    [old, young]
}

fn scratch() -> Scratch {
    let scratch = Scratch::new().set("simulate.cards=60");
    let queries = scratch.path("queries");
    fs::create_dir_all(&queries).unwrap();
    for query in ["city_minute.sql", "state_minute.sql", "category_hour.sql", "fraud_alerts.sql"] {
        fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("queries").join(query), queries.join(query)).unwrap();
    }
    scratch.set(&format!("queries.dir={}", queries.display()))
}

/// The slots, oldest first.
fn slots(scratch: &Scratch) -> Vec<Value> {
    let Ok(folder) = fs::read_dir(scratch.lake().join("_epochs")) else { return Vec::new() };
    let paths = folder.map(|entry| entry.unwrap().path()).filter(|path| path.extension().is_some_and(|e| e == "json"));
    let mut paths: Vec<PathBuf> = paths.collect();
    paths.sort();
    paths.iter().map(|path| serde_json::from_slice(&fs::read(path).unwrap()).unwrap()).collect()
}

/// Records read of each shard by all slots so far, after each slot with a watermark.
fn progress(scratch: &Scratch) -> Vec<(i64, BTreeMap<String, u64>)> {
    let mut read: BTreeMap<String, u64> = BTreeMap::new();
    let mut progress = Vec::new();
    for slot in slots(scratch).iter().filter(|slot| slot["kind"] == "epoch") {
        for (shard, told) in
            slot["sources"].as_object().unwrap().values().flat_map(|s| s["shards"].as_object().unwrap())
        {
            *read.entry(shard.clone()).or_default() += told["counts"]["read"].as_u64().unwrap_or(0);
        }
        progress.extend(slot["watermark"].as_i64().map(|watermark| (watermark, read.clone())));
    }
    progress
}

/// Reads a stream until all of it is read. A job that waits for ever fails.
fn run_to_the_tip(scratch: &Scratch) -> Value {
    let mut job = scratch.spawn("job", &["run", "--until-caught-up", "--json"]);
    assert!(!wait_for(&mut job, || false), "ended by itself");
    assert!(job.wait().unwrap().success(), "{}", fs::read_to_string(scratch.path("job.err")).unwrap());
    serde_json::from_str(fs::read_to_string(scratch.path("job.out")).unwrap().trim()).unwrap()
}

/// What every row and window says, and the books by shard, wherever epochs were cut.
fn told(scratch: &Scratch) -> Vec<Vec<Value>> {
    let books = "SELECT shard, sum(\"read\"), sum(written), sum(duplicates), sum(rejected) FROM";
    let mut told = duckdb(&format!("{books} {} GROUP BY ALL ORDER BY ALL", scratch.delta("epochs")));
    let transactions = scratch.delta("transactions");
    told.extend(duckdb(&format!("SELECT transaction_id, _shard, _sequence FROM {transactions} ORDER BY ALL")));
    told
}

/// Rows of a file are long, so that a page, about a MiB, holds a hundred of them.
const PADDING: usize = 10_000;
/// Pages of one file that may be under way when it must wait: read, in its queue, being decoded, in the engine's queue.
const PAGES_UNDER_WAY: usize = 12;
const ROWS_OF_A_PAGE: usize = 110;

#[test]
fn a_shard_that_is_ahead_waits_and_the_books_are_those_of_one_that_does_not() {
    let source = scratch();
    let file = source.simulated("days.csv", 8_000);
    let paths = ["old.ndjson", "young.ndjson"].map(|name| source.path(name));
    let parts = old_and_young(rows(&file));
    let padding = "x".repeat(PADDING);
    for (path, rows) in paths.iter().zip(&parts) {
        let line = |(row, _): &Row| {
            let mut row = row.clone();
            row["padding"] = padding.as_str().into();
            format!("{row}\n")
        };
        fs::write(path, rows.iter().map(line).collect::<String>()).unwrap();
    }
    let [old, young] = paths.each_ref().map(|path| path.to_str().unwrap());
    let skews = [("1d", 24), ("0s", 0)];
    let lakes = skews.map(|(max_skew, _)| {
        let lake = scratch().set(&format!("watermark.max_skew={max_skew}")).set("commit.rows_max=200");
        let summary = lake.summary(&["--source", old, young]);
        assert_eq!((&summary["written"], &summary["late"]), (&8_000.into(), &0.into()), "{summary}");
        assert_lake_equals_input(&lake, &file, true);
        lake
    });
    assert_eq!(told(&lakes[0]), told(&lakes[1]));
    // Where the watermark stood when so many of the young rows had been read.
    let far_ahead = |lake: &Scratch| {
        let far = progress(lake).into_iter().filter(|(watermark, read)| {
            let read_young =
                read.iter().filter(|(shard, _)| shard.contains("young")).map(|(_, read)| *read).sum::<u64>();
            let near = parts[1].iter().filter(|(_, time)| time - watermark <= 25 * MICROS_PER_HOUR).count();
            read_young > (near + PAGES_UNDER_WAY * ROWS_OF_A_PAGE) as u64
        });
        far.count()
    };
    assert_eq!(far_ahead(&lakes[0]), 0, "of {} epochs", progress(&lakes[0]).len());
    assert!(far_ahead(&lakes[1]) > 0, "without a bound they are not far apart: this run has shown nothing");
}

/// A stream of two shards, and what is put where.
struct Stream {
    runtime: Runtime,
    _server: EmbeddedKinesis,
    client: Client,
    url: String,
}

impl Stream {
    fn new() -> Self {
        let runtime = Runtime::new().unwrap();
        let server = runtime.block_on(EmbeddedKinesis::start("127.0.0.1:0", "us-east-1")).unwrap();
        let (client, url) = (client::connect_to_url(server.url(), "us-east-1"), server.url().to_owned());
        runtime.block_on(create_stream(&client, STREAM, 2)).unwrap();
        Self { runtime, _server: server, client, url }
    }

    /// Puts rows under a key of this half of all hash keys.
    fn put(&self, half: u8, rows: &[Row]) {
        let key = (0..).map(|n: u32| n.to_string()).find(|key| Md5::digest(key)[0] >> 7 == half).unwrap();
        let record = |(row, _): &Row| PutRecord { partition_key: key.clone(), data: row.to_string().into() };
        let records: Vec<PutRecord> = rows.iter().map(record).collect();
        self.runtime.block_on(Producer::new(self.client.clone(), STREAM).put(&records)).unwrap();
    }

    fn merge(&self) {
        let merge = self.client.merge_shards().stream_name(STREAM).shard_to_merge(S0).adjacent_shard_to_merge(S1);
        self.runtime.block_on(merge.send()).unwrap();
    }

    fn scratch(&self) -> Scratch {
        scratch().set(&format!("stream.endpoint={}", self.url)).set("commit.interval=200ms").set("tick.interval=50ms")
    }
}

#[test]
fn old_rows_beside_a_live_shard_are_read_to_the_tip_with_and_without_a_bound() {
    let stream = Stream::new();
    let source = scratch();
    let file = source.simulated("days.csv", 9_000);
    let [old, young] = old_and_young(rows(&file));
    stream.put(0, &old);
    stream.put(1, &young);
    let lakes = ["1h", "0s"].map(|max_skew| {
        let lake = stream.scratch().set(&format!("watermark.max_skew={max_skew}"));
        let summary = run_to_the_tip(&lake);
        assert_eq!((&summary["written"], &summary["late"]), (&9_000.into(), &0.into()), "{max_skew}: {summary}");
        lake.must(&["audit"]);
        assert_lake_equals_input(&lake, &file, false);
        lake
    });
    assert_eq!(told(&lakes[0]), told(&lakes[1]));
}

/// The shard with old rows ends first and holds the watermark; the other, weeks ahead, must be read to its end all the same,
/// or their child would never begin.
#[test]
fn a_merge_of_shards_far_apart_is_followed() {
    let stream = Stream::new();
    let source = scratch();
    let file = source.simulated("days.csv", 6_000);
    let rows = rows(&file);
    stream.put(0, &rows[..10]);
    stream.put(1, &rows[10..5_000]);
    stream.merge();
    stream.put(0, &rows[5_000..]);
    let lake = stream.scratch();
    let summary = run_to_the_tip(&lake);
    assert_eq!(summary["written"], 6_000, "{summary}");
    lake.must(&["audit"]);
    assert_lake_equals_input(&lake, &file, false);
}

/// Ctrl-C while a shard waits, and a start that finds one far ahead.
#[test]
fn a_job_stopped_while_a_shard_waits_goes_on_where_it_stood() {
    let stream = Stream::new();
    let source = scratch();
    let file = source.simulated("days.csv", 9_000);
    let [old, young] = old_and_young(rows(&file));
    stream.put(1, &young);
    let lake = stream.scratch();
    // Without a row, the other shard is at its tip and holds nobody: this one is read to its end.
    let mut job = lake.spawn("job", &["run"]);
    let read = |lake: &Scratch| progress(lake).last().map_or(0, |(_, read)| read.values().sum::<u64>());
    assert!(wait_for(&mut job, || slots(&lake).len() > 1));
    stream.put(0, &old);
    assert!(wait_for(&mut job, || slots(&lake).len() > 2));
    interrupt(&job);
    assert!(job.wait().unwrap().success(), "{}", fs::read_to_string(lake.path("job.err")).unwrap());
    let summary = run_to_the_tip(&lake);
    let told = (read(&lake), summary["duplicates"].as_u64());
    lake.must(&["audit"]);
    assert_lake_equals_input(&lake, &file, false);
    assert_eq!(told, (9_000, Some(0)), "{summary}");
}
