//! A table's life before a store that dies after any write: epochs, manifests, checkpoints and vacuum, at every point.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use deltalake::kernel::{Add, Remove};
use futures::TryStreamExt;
use object_store::ObjectStore;
use object_store::path::Path as Key;

use super::*;
use crate::clock::Clock;
use crate::error::Error;
use crate::lake::dying::DyingStore;
use crate::lake::{Lake, testing};
use crate::lint::{Finding, Rule, Target, lint};
use crate::manifest::{Manifests, lag};

const MONTH: Micros = 30 * 86_400_000_000;

fn remove(add: &Add) -> Remove {
    Remove {
        path: add.path.clone(),
        data_change: true,
        deletion_timestamp: Some(1),
        extended_file_metadata: Some(true),
        partition_values: Some(add.partition_values.clone()),
        size: Some(add.size),
        tags: None,
        deletion_vector: None,
        base_row_id: None,
        default_row_commit_version: None,
    }
}

async fn bring_up(manifests: &mut Manifests) -> Result<()> {
    let written = manifests.write().await?;
    manifests.let_go(&written.emptied).await
}

/// What the linter finds of manifests and files.
async fn found(table: &Table) -> Vec<Finding> {
    let target = Target { name: table.name().to_owned(), url: table.url().unwrap(), store: table.store() };
    let linted = lint(&target, Clock::System.now()).await.unwrap();
    let about = |finding: &Finding| matches!(finding.rule, Rule::Manifest | Rule::MissingFile | Rule::Log | Rule::Junk);
    linted.findings.into_iter().filter(about).collect()
}

/// A life of a table: epochs, a date emptied and filled again, manifests, checkpoint, vacuum.
async fn live(lake: &Lake) -> Result<()> {
    let table = match Table::open_existing(lake, "payments").await? {
        Some(table) => Arc::new(table),
        None => return Err(Error::broken("no table")),
    };
    let mut manifests = Manifests::new(Arc::clone(&table));
    let done = table.txn_version("app").await?.map_or(0, |epoch| u64::try_from(epoch).unwrap() + 1);
    bring_up(&mut manifests).await?;
    for epoch in done..6 {
        let live = table.live_files().await?;
        let date = |add: &Add, date: &str| add.path.contains(date);
        let adds = table.stage(vec![testing::rows(10, epoch)], epoch).await?.adds;
        let of_live = |wanted: &str| {
            let gone = live.iter().filter(|file| file.path.contains(wanted));
            gone.map(|file| Remove { path: file.path.clone(), ..remove(&adds[0]) }).collect::<Vec<_>>()
        };
        match epoch {
            // Rewritten as a whole, as a compaction or a restatement does.
            1 | 4 => table.publish("app", epoch, &adds, &of_live("event_date")).await?,
            // One date emptied, the other grows.
            2 | 5 => {
                let adds: Vec<Add> = adds.iter().filter(|add| date(add, "2026-11-23")).cloned().collect();
                table.publish("app", epoch, &adds, &of_live("2026-11-22")).await?
            }
            _ => table.publish("app", epoch, &adds, &[]).await?,
        };
        bring_up(&mut manifests).await?;
        if epoch == 3 {
            table.checkpoint().await?;
        }
        clean(&table).await?;
    }
    clean(&table).await
}

/// As if a month had passed since: whatever may go, goes.
async fn clean(table: &Table) -> Result<()> {
    let now = Clock::System.now() + MONTH;
    for scope in [Scope::Lite, Scope::Full] {
        let retention = Retention { scope, keep: MONTH / 2, now, dry_run: false };
        vacuum(table, &Unpublished::new(), &retention).await?;
    }
    Ok(())
}

/// Manifests that name a file which is not there.
async fn dangling(table: &Table) -> Vec<Finding> {
    let named = |finding: &Finding| finding.what.ends_with("which is not there") || finding.rule == Rule::MissingFile;
    found(table).await.into_iter().filter(named).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_after_any_write_no_manifest_names_a_missing_file_and_the_next_start_mends_all() {
    let mut deaths = 0;
    for changes in 0.. {
        let (_folder, lake) = testing::lake();
        Table::create_or_open(&lake, &testing::contract("payments")).await.unwrap();
        let left = Arc::new(AtomicUsize::new(changes));
        let dying = lake.clone().with_wrapped_store(|store| Arc::new(DyingStore::new(store, &left)));
        let ended = tokio::time::timeout(std::time::Duration::from_secs(1), live(&dying)).await;
        let survived = matches!(ended, Ok(Ok(())));
        assert!(survived || left.load(Ordering::Relaxed) == 0, "{ended:?}: not killed, but failed or stood still");
        let table = Table::open_existing(&lake, "payments").await.unwrap().unwrap();
        assert_eq!(dangling(&table).await, [], "killed after {changes} changes");
        live(&lake).await.unwrap();
        let table = Table::open_existing(&lake, "payments").await.unwrap().unwrap();
        assert_eq!(found(&table).await, [], "killed after {changes} changes");
        assert_eq!(lag(&table).await.unwrap().manifests_at, Some(table.version().await.unwrap()));
        // Everything out of use is gone, whoever died: 6 epochs, of which the last two are live in one date.
        let objects: Vec<_> =
            table.store().list(Some(&Key::from("event_date=2026-11-22"))).try_collect().await.unwrap();
        assert!(objects.is_empty(), "killed after {changes} changes: {objects:?}");
        deaths += 1;
        if survived {
            break;
        }
    }
    assert!(deaths > 40, "only {deaths} places to die");
}
