//! Two hundred random splits and merges under load, the job stopped, killed and started again between: each card's order is
//! kept, nothing is lost or doubled, and the watermark moves on.

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::Arc;

use lakeward::files::records;
use lakeward::kinesis::{Client, EmbeddedKinesis, Producer, PutRecord, client, create_stream};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;

use crate::oracle::{assert_lake_equals_input, input};
use crate::support::{Scratch, duckdb, interrupt, say, wait_for};

const STREAM: &str = "transactions";

/// Reshards come in rounds, several generations at once, and the job follows before the next: faster ones it could only
/// follow afterwards, and that a shard without rows holds the watermark meanwhile is as it should be.
const ROUNDS: usize = 25;
const RESHARDS_PER_ROUND: usize = 8;
const ROWS: u32 = 12_000;
const PRODUCERS: usize = 4;

/// Records of one request: between two reshards there are a few.
const PUT_RECORDS: usize = 15;

/// Open shards, at least and at most.
const SHARDS: (usize, usize) = (2, 12);

/// Rounds after which the job gets time for the watermark: while shards without rows are closed faster than they are idle, their
/// children hold it where their parents stood.
const BURST_ROUNDS: usize = 5;

/// How far the watermark may be behind the newest row then: hours of nights without purchases, in a burst of three weeks.
const BEHIND_MAX_MICROS: i64 = 12 * 3_600_000_000;

/// An open shard: its hash keys.
struct Open {
    id: String,
    first: u128,
    last: u128,
}

/// Those that take records, by their hash keys, and the ids of the others.
async fn open_and_closed(client: &Client) -> (Vec<Open>, Vec<String>) {
    let listed = client.list_shards().stream_name(STREAM).send().await.unwrap().shards.unwrap();
    let (mut open, mut closed) = (Vec::new(), Vec::new());
    for shard in listed {
        if shard.sequence_number_range.unwrap().ending_sequence_number.is_some() {
            closed.push(shard.shard_id);
            continue;
        }
        let keys = shard.hash_key_range.unwrap();
        let [first, last] = [keys.starting_hash_key, keys.ending_hash_key].map(|key| key.parse().unwrap());
        open.push(Open { id: shard.shard_id, first, last });
    }
    open.sort_by_key(|shard| shard.first);
    (open, closed)
}

/// Splits a shard or merges two, at random; returns whether it was a split.
async fn reshape(client: &Client, random: &mut ChaCha8Rng) -> bool {
    let (open, _) = open_and_closed(client).await;
    let splits = open.len() <= SHARDS.0 || (open.len() < SHARDS.1 && random.random_bool(0.5));
    if splits {
        let shard = &open[random.random_range(0..open.len())];
        // Anywhere but at the edges: children of very unequal loads, some without any.
        let at = random.random_range(shard.first + 1..=shard.last);
        let split = client.split_shard().stream_name(STREAM).shard_to_split(&shard.id);
        split.new_starting_hash_key(at.to_string()).send().await.unwrap();
    } else {
        let at = random.random_range(0..open.len() - 1);
        let merge = client.merge_shards().stream_name(STREAM).shard_to_merge(&open[at].id);
        merge.adjacent_shard_to_merge(&open[at + 1].id).send().await.unwrap();
    }
    splits
}

/// Each producer's records: all of a card are one producer's, in the file's order.
fn parts(file: &Path) -> Vec<Vec<PutRecord>> {
    let mut parts = vec![Vec::new(); PRODUCERS];
    for record in records(file).unwrap() {
        let data = record.unwrap().data;
        let row: Value = serde_json::from_slice(&data).unwrap();
        let partition_key = row["cc_num"].as_str().unwrap().to_owned();
        let part = partition_key.bytes().map(usize::from).sum::<usize>() % PRODUCERS;
        parts[part].push(PutRecord { partition_key, data });
    }
    parts
}

fn job(scratch: &Scratch) -> Child {
    scratch.spawn("job", &["run"])
}

/// Waits until the newest slot is as wanted.
fn until(scratch: &Scratch, job: &mut Child, wanted: impl Fn(&Value) -> bool) {
    let looked_at = Cell::new(0);
    let is_so = || {
        // A slot is read once: the job needs the core.
        let paths = slot_paths(scratch);
        looked_at.replace(paths.len()) != paths.len() && wanted(&slot(paths.last().unwrap()))
    };
    assert!(wait_for(job, is_so), "{}", fs::read_to_string(scratch.path("job.err")).unwrap());
}

/// The end of every closed shard is decided.
fn follows(slot: &Value, closed: &[String]) -> bool {
    let shards = &slot["sources"]["kinesis:transactions"]["shards"];
    closed.iter().all(|id| shards[id]["finished"] == true)
}

fn watermark_is_near(slot: &Value) -> bool {
    let [watermark, max] = ["watermark", "event_time_max"].map(|time| slot[time].as_i64());
    max.is_some_and(|max| watermark >= Some(max - BEHIND_MAX_MICROS))
}

/// The slots' files, in their order.
fn slot_paths(scratch: &Scratch) -> Vec<PathBuf> {
    let Ok(folder) = fs::read_dir(scratch.lake().join("_epochs")) else { return Vec::new() };
    let is_slot = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap();
        name.strip_suffix(".json").is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let mut paths: Vec<PathBuf> = folder.map(|entry| entry.unwrap().path()).filter(is_slot).collect();
    paths.sort();
    paths
}

fn slot(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

pub fn all_slots(scratch: &Scratch) -> Vec<Value> {
    slot_paths(scratch).iter().map(|path| slot(path)).collect()
}

#[test]
fn two_hundred_random_reshards_under_load() {
    let runtime = Runtime::new().unwrap();
    let server = runtime.block_on(EmbeddedKinesis::start("127.0.0.1:0", "us-east-1")).unwrap();
    let client = client::connect_to_url(server.url(), "us-east-1");
    runtime.block_on(create_stream(&client, STREAM, 4)).unwrap();
    let scratch =
        Scratch::new().set("commit.interval=100ms").set("tick.interval=50ms").set("watermark.idle_after=500ms");
    let queries = scratch.path("queries");
    fs::create_dir_all(&queries).unwrap();
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("queries/city_minute.sql");
    fs::copy(shipped, queries.join("city_minute.sql")).unwrap();
    let scratch = scratch
        .set(&format!("queries.dir={}", queries.display()))
        .set(&format!("stream.endpoint={}", server.url()))
        .set("simulate.cards=60");
    let file = scratch.simulated("days.csv", ROWS);

    // A permit is a request; the reshards give them out, so that load and reshards keep step.
    let permits = Arc::new(Semaphore::new(0));
    let producing: Vec<_> = parts(&file)
        .into_iter()
        .map(|part| {
            let (permits, producer) = (permits.clone(), Producer::new(client.clone(), STREAM));
            runtime.spawn(async move {
                for some in part.chunks(PUT_RECORDS) {
                    permits.acquire().await.unwrap().forget();
                    producer.put(some).await.unwrap();
                }
            })
        })
        .collect();
    let requests = ROWS as usize / PUT_RECORDS + PRODUCERS;

    let mut random = ChaCha8Rng::seed_from_u64(2_026);
    let mut running = Some(job(&scratch));
    let mut splits = 0;
    for round in 0..ROUNDS {
        permits.add_permits(requests / ROUNDS + 1);
        for _ in 0..RESHARDS_PER_ROUND {
            splits += usize::from(runtime.block_on(reshape(&client, &mut random)));
        }
        match round {
            8 => {
                let mut stopped = running.take().unwrap();
                interrupt(&stopped);
                assert!(stopped.wait().unwrap().success());
            }
            // Generations that came and went while nobody read.
            11 => running = Some(job(&scratch)),
            16 => {
                let mut killed = running.take().unwrap();
                killed.kill().unwrap();
                killed.wait().unwrap();
                running = Some(job(&scratch));
            }
            _ => {}
        }
        if let Some(job) = &mut running {
            let (_, closed) = runtime.block_on(open_and_closed(&client));
            until(&scratch, job, |slot| follows(slot, &closed));
            if round % BURST_ROUNDS == 0 {
                until(&scratch, job, watermark_is_near);
            }
        }
    }
    permits.add_permits(requests);
    for producer in producing {
        runtime.block_on(producer).unwrap();
    }
    let mut last = running.take().unwrap();
    until(&scratch, &mut last, |_| all_slots(&scratch).iter().map(read_by).sum::<u64>() >= ROWS.into());
    until(&scratch, &mut last, watermark_is_near);
    interrupt(&last);
    assert!(last.wait().unwrap().success());

    let rest = scratch.summary(&[]);
    assert_eq!((&rest["read"], &rest["duplicates"]), (&0.into(), &0.into()), "{rest}");
    scratch.must(&["audit"]);
    assert_lake_equals_input(&scratch, &file, false);
    let made = slot_paths(&scratch).len();
    say(&format!("{} reshards, {splits} splits, {made} slots", ROUNDS * RESHARDS_PER_ROUND));
    assert!((60..140).contains(&splits));
    assert_order(&scratch, &file);
}

/// Records read by an epoch.
pub fn read_by(slot: &Value) -> u64 {
    if slot["kind"] != "epoch" {
        return 0;
    }
    let sources = slot["sources"].as_object().unwrap().values();
    let shards = sources.flat_map(|source| source["shards"].as_object().unwrap().values());
    shards.map(|shard| shard["counts"]["read"].as_u64().unwrap_or(0)).sum()
}

/// Children are read in a later epoch than their parents' end, so a card has one shard in an epoch, and its rows in the order of
/// epochs and sequence numbers are those of the file.
fn assert_order(scratch: &Scratch, file: &Path) {
    let transactions = scratch.delta("transactions");
    let both = duckdb(&format!(
        "SELECT count(*) FROM (SELECT 1 FROM {transactions} GROUP BY card_token, _epoch HAVING count(DISTINCT _shard) > 1)"
    ));
    assert_eq!(both[0][0], 0, "parent and child in one epoch");
    let placed = duckdb(&format!(
        "WITH placed AS (SELECT _shard, CAST(n AS BIGINT) AS n, lag(CAST(n AS BIGINT)) OVER (PARTITION BY card_token \
         ORDER BY _epoch, _sequence, _sub_sequence) AS before FROM {transactions} JOIN {} ON id = transaction_id) \
         SELECT count(*), count(*) FILTER (WHERE before > n), count(DISTINCT _shard) FROM placed",
        input(file)
    ));
    let [rows, disordered, shards] = [0, 1, 2].map(|at| placed[0][at].as_u64().unwrap());
    assert_eq!((rows, disordered), (ROWS.into(), 0), "each card's order");
    assert!(shards > 100, "{shards} shards had rows");
}
