//! What must run inside a process that has the credentials in its environment: this test binary, started again.

use std::process::Command;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BinaryArray, Date32Array, RecordBatch, TimestampMicrosecondArray};
use datafusion::prelude::SessionContext;
use futures::future::join_all;
use lakeward::clock::Clock;
use lakeward::config::Config;
use lakeward::contract::TableContract;
use lakeward::epoch::{Decided, Slot, SlotLog, TokenKeyName, Writer};
use lakeward::lake::{Lake, Table};
use lakeward::vacuum::{Retention, Scope, Vacuumed, unpublished, vacuum};
use object_store::path::Path;
use object_store::{Error, ObjectStoreExt, PutMode};
use uuid::Uuid;

use super::bucket::Bucket;
use crate::support::text;

const DAY_US: i64 = 86_400_000_000;
const WRITERS: usize = 64;
/// Each on a name of its own.
const ROUNDS: usize = 8;

/// Runs one of the tasks below in a process of its own.
pub fn run(bucket: &Bucket, task: &str) {
    run_with(bucket, task, &[]);
}

/// As [`run`], with more in its environment.
pub fn run_with(bucket: &Bucket, task: &str, environment: &[(&str, &str)]) {
    let settings = [
        ("LAKEWARD__LAKE__URL", bucket.url()),
        ("LAKEWARD__S3__ENDPOINT", bucket.proxy.url.clone()),
        ("LAKEWARD__S3__ALLOW_HTTP", "true".to_owned()),
        ("AWS_ACCESS_KEY_ID", "writer".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "secret".to_owned()),
        ("AWS_REGION", "us-east-1".to_owned()),
        ("NO_PROXY", "127.0.0.1".to_owned()),
    ];
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &format!("s3::within::task_{task}"), "--ignored", "--nocapture"])
        .envs(settings)
        .envs(environment.iter().copied())
        .output()
        .unwrap();
    let said = text(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}\n{}", text(&output.stderr));
}

fn lake() -> Lake {
    let config = Config::load(None, &[]).unwrap();
    Lake::open(&config.lake.url, &config.s3).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "run with credentials by another test"]
async fn task_races() {
    let lake = lake();
    lake.probe().await.unwrap();
    for round in 0..ROUNDS {
        let path = Path::from(format!("race-{round}"));
        let creates = (0..WRITERS).map(|writer| {
            let (store, path) = (lake.store(), path.clone());
            tokio::spawn(async move {
                (writer, store.put_opts(&path, writer.to_string().into(), PutMode::Create.into()).await)
            })
        });
        let mut winners = Vec::new();
        for created in join_all(creates).await {
            match created.unwrap() {
                (writer, Ok(_)) => winners.push(writer),
                (_, Err(Error::AlreadyExists { .. })) => {}
                (writer, Err(error)) => panic!("writer {writer}: {error}"),
            }
        }
        let found = lake.store().get(&path).await.unwrap().bytes().await.unwrap();
        assert_eq!(winners.len(), 1, "round {round}");
        assert_eq!(String::from_utf8(found.to_vec()).unwrap(), winners[0].to_string());
    }
}

/// As many writers decide one slot, while answers are lost: one of them owns it, and all others know whose it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "run with credentials by another test"]
async fn task_slots() {
    let slots = SlotLog::new(lake().store());
    let decisions = (0..WRITERS).map(|_| {
        let slots = slots.clone();
        let writer = Writer { id: Uuid::new_v4(), generation: 0, host: "h".into() };
        let slot = Slot::first(&writer, TokenKeyName { version: 1, fingerprint: String::new() }, 0);
        tokio::spawn(async move { (slot.nonce, slots.decide(&slot).await.unwrap()) })
    });
    let decided: Vec<_> = join_all(decisions).await.into_iter().map(Result::unwrap).collect();
    let owners: Vec<Uuid> =
        decided.iter().filter(|(_, d)| matches!(d, Decided::Ours)).map(|(nonce, _)| *nonce).collect();
    assert_eq!(owners.len(), 1);
    for (_, decision) in &decided {
        if let Decided::Taken(slot) = decision {
            assert_eq!(slot.nonce, owners[0]);
        }
    }
}

/// A month later, files out of use go, and commits behind checkpoints.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "run with credentials by another test"]
async fn task_vacuum() {
    let (lake, slots) = (lake(), SlotLog::new(lake().store()));
    let decided = unpublished(&slots).await.unwrap();
    let now = Clock::System.now() + 30 * DAY_US;
    let mut all = Vacuumed::default();
    for name in lake.tables().await.unwrap() {
        let table = Table::open_existing(&lake, &name).await.unwrap().unwrap();
        table.checkpoint().await.unwrap();
        let retention = Retention { scope: Scope::Full, keep: 7 * DAY_US, now, dry_run: false };
        let done = vacuum(&table, &decided, &retention).await.unwrap();
        assert_eq!((done.refused, done.named), (None, 0), "{name}");
        all.removed += done.removed;
        all.log_objects += done.log_objects;
    }
    assert!(all.removed > 0 && all.log_objects > 10, "{all:?}");
}

/// Forty megabytes that do not compress, in one file.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "run with credentials by another test"]
async fn task_parts() {
    let lake = lake();
    let contract = TableContract::parse(
        "blobs.sql",
        "-- Blobs.\nCREATE TABLE blobs (event_time TIMESTAMP NOT NULL, event_date DATE NOT NULL, blob BINARY)\n\
         WITH (partition_by = 'event_date');",
    )
    .unwrap();
    let table = Table::create_or_open(&lake, &contract).await.unwrap();
    let blobs: Vec<Vec<u8>> = (0..40).map(|_| (0..1 << 20).map(|_| rand::random()).collect()).collect();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(TimestampMicrosecondArray::from(vec![0; blobs.len()]).with_timezone("UTC")),
        Arc::new(Date32Array::from(vec![0; blobs.len()])),
        Arc::new(BinaryArray::from_iter_values(&blobs)),
    ];
    let rows = RecordBatch::try_new(table.schema(), columns).unwrap();
    let epoch = table.txn_version("test").await.unwrap().map_or(0, |last| u64::try_from(last).unwrap() + 1);
    let staged = table.stage(vec![rows], epoch).await.unwrap();
    assert!(staged.adds.len() == 1 && staged.bytes > 40 << 20);
    let before = table.version().await.unwrap();
    table.publish("test", epoch, &staged.adds, &[]).await.unwrap();
    let session = SessionContext::new();
    lake.register(&session);
    session.register_table("blobs", table.provider(Some(before + 1)).await.unwrap()).unwrap();
    let found = session.sql("select blob from blobs").await.unwrap().collect().await.unwrap();
    let mut found: Vec<Vec<u8>> =
        found.iter().flat_map(|batch| batch.column(0).as_binary::<i32>().iter().map(|b| b.unwrap().to_vec())).collect();
    found.sort_unstable();
    let last = usize::try_from(epoch).unwrap() + 1;
    assert_eq!(found.len(), last * blobs.len());
    assert!(blobs.iter().all(|blob| found.binary_search(blob).is_ok()), "a blob came back changed");
}
