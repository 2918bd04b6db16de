//! Manifests against the log, by the linter, which shares no code with their writer. (That they survive kills at every
//! point, vacuum included, is shown in `vacuum`.)

use std::path::Path as FsPath;
use std::sync::Arc;

use deltalake::kernel::{Add, Remove};

use super::*;
use crate::clock::Clock;
use crate::error::Error;
use crate::lake::{Lake, testing};
use crate::lint::{Finding, Rule, Target, lint};

/// Rows of an epoch in two dates, as one file each.
async fn append(table: &Table, epoch: u64) -> Result<Vec<Add>> {
    let adds = table.stage(vec![testing::rows(10, epoch)], epoch).await?.adds;
    table.publish("app", epoch, &adds, &[]).await?;
    Ok(adds)
}

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

async fn bring_up(manifests: &mut Manifests) -> Result<Written> {
    let written = manifests.write().await?;
    manifests.let_go(&written.emptied).await?;
    Ok(written)
}

/// What the linter finds of manifests and files.
async fn found(table: &Table) -> Vec<Finding> {
    let target = Target { name: table.name().to_owned(), url: table.url().unwrap(), store: table.store() };
    let linted = lint(&target, Clock::System.now()).await.unwrap();
    let about = |finding: &Finding| matches!(finding.rule, Rule::Manifest | Rule::MissingFile | Rule::Log | Rule::Junk);
    linted.findings.into_iter().filter(about).collect()
}

fn lines(folder: &FsPath, date: &str) -> Vec<String> {
    let path = folder.join(format!("payments/_symlink_format_manifest/event_date={date}/manifest"));
    std::fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn only_what_changed_is_written_and_what_was_emptied_goes() {
    let (folder, lake) = testing::lake();
    let table = Arc::new(Table::create_or_open(&lake, &testing::contract("payments")).await.unwrap());
    let first = append(&table, 0).await.unwrap();
    let mut manifests = Manifests::new(Arc::clone(&table));
    let written = bring_up(&mut manifests).await.unwrap();
    assert_eq!((written.version, written.written, written.emptied.len()), (1, 2, 0));
    assert_eq!(written.dates.iter().collect::<Vec<_>>(), ["2026-11-22", "2026-11-23"]);
    assert_eq!(found(&table).await, []);
    let uri = format!("{}payments/{}", lake.url(), first[0].path);
    assert!(uri.starts_with("file:///") && lines(folder.path(), "2026-11-22") == [uri.clone()], "{uri}");

    // One file more in the second date, and the first date emptied.
    let second = table.stage(vec![testing::rows(10, 1)], 1).await.unwrap().adds;
    let of_23: Vec<Add> = second.into_iter().filter(|add| add.path.contains("2026-11-23")).collect();
    table.publish("app", 1, &of_23, &[remove(&first[0])]).await.unwrap();
    assert_eq!(lag(&table).await.unwrap(), Lag { version: 2, manifests_at: Some(1), emptied: 0 });
    assert_eq!(behind(&table).await.unwrap(), 2);
    let written = manifests.write().await.unwrap();
    assert_eq!((written.written, written.emptied.len()), (1, 1));
    // While the catalog leads to it, the emptied one stays, and is told.
    assert_eq!(manifests.standing(), Some(Written { written: 0, ..written }));
    assert_eq!(lag(&table).await.unwrap(), Lag { version: 2, manifests_at: Some(2), emptied: 1 });
    assert_eq!(lines(folder.path(), "2026-11-22"), [uri]);
    let written = bring_up(&mut manifests).await.unwrap();
    assert_eq!((written.written, written.emptied.len()), (0, 1));
    assert_eq!(found(&table).await, []);
    let sorted = lines(folder.path(), "2026-11-23");
    assert!(sorted.len() == 2 && sorted.is_sorted(), "{sorted:?}");
    assert_eq!(lag(&table).await.unwrap(), Lag { version: 2, manifests_at: Some(2), emptied: 0 });
    assert_eq!(behind(&table).await.unwrap(), 0);
    // Another process finds nothing to do, and writes nothing.
    let state = folder.path().join("payments/_symlink_format_manifest/_state.json");
    let before = std::fs::metadata(&state).unwrap().modified().unwrap();
    let written = bring_up(&mut Manifests::new(Arc::clone(&table))).await.unwrap();
    assert_eq!((written.written, written.emptied.len()), (0, 0));
    assert_eq!(std::fs::metadata(&state).unwrap().modified().unwrap(), before);
}

#[tokio::test]
async fn what_others_did_to_manifests_is_mended_by_the_next_process() {
    let (folder, lake) = testing::lake();
    let table = Arc::new(Table::create_or_open(&lake, &testing::contract("payments")).await.unwrap());
    append(&table, 0).await.unwrap();
    bring_up(&mut Manifests::new(Arc::clone(&table))).await.unwrap();
    let manifests = folder.path().join("payments/_symlink_format_manifest");
    std::fs::remove_file(manifests.join("event_date=2026-11-22/manifest")).unwrap();
    std::fs::create_dir_all(manifests.join("event_date=2020-01-01")).unwrap();
    std::fs::write(manifests.join("event_date=2020-01-01/manifest"), "file:///gone\n").unwrap();
    assert_eq!(found(&table).await.len(), 2);
    let written = bring_up(&mut Manifests::new(Arc::clone(&table))).await.unwrap();
    assert_eq!((written.written, written.emptied.len()), (1, 1));
    assert_eq!(found(&table).await, []);
    // A writer thought dead has put an old one back.
    std::fs::write(manifests.join("event_date=2026-11-23/manifest"), "file:///old\n").unwrap();
    let written = bring_up(&mut Manifests::new(Arc::clone(&table))).await.unwrap();
    assert_eq!((written.written, written.emptied.len()), (1, 0));
    assert_eq!(found(&table).await, []);
    // A state nobody can read counts as none.
    std::fs::write(manifests.join("_state.json"), "{").unwrap();
    std::fs::write(manifests.join("event_date=2026-11-22/manifest"), "").unwrap();
    bring_up(&mut Manifests::new(Arc::clone(&table))).await.unwrap();
    assert_eq!(found(&table).await, []);
}

#[tokio::test]
async fn manifests_of_a_lake_at_another_place_lead_to_the_old_one_until_they_are_written_again() {
    let (folder, lake) = testing::lake();
    let table = Arc::new(Table::create_or_open(&lake, &testing::contract("payments")).await.unwrap());
    append(&table, 0).await.unwrap();
    bring_up(&mut Manifests::new(Arc::clone(&table))).await.unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    std::fs::rename(folder.path().join("payments"), elsewhere.path().join("payments")).unwrap();
    let lake = Lake::open(elsewhere.path().to_str().unwrap(), &testing::s3()).unwrap();
    let moved = Arc::new(Table::open_existing(&lake, "payments").await.unwrap().unwrap());
    let was = table.url().unwrap();
    let what: Vec<String> = found(&moved).await.into_iter().map(|finding| finding.what).collect();
    assert_eq!(what, [format!("manifests name files below `{was}`; the table lies at `{}`", moved.url().unwrap())]);
    assert_eq!(behind(&moved).await.unwrap(), 2);
    bring_up(&mut Manifests::new(Arc::clone(&moved))).await.unwrap();
    assert_eq!(found(&moved).await, []);
}

#[tokio::test]
async fn a_deletion_vector_and_a_log_that_went_back_are_refused() {
    let (folder, lake) = testing::lake();
    let table = Arc::new(Table::create_or_open(&lake, &testing::contract("payments")).await.unwrap());
    let adds = append(&table, 0).await.unwrap();
    let mut manifests = Manifests::new(Arc::clone(&table));
    bring_up(&mut manifests).await.unwrap();
    let log = folder.path().join("payments/_delta_log");
    let mut add = serde_json::to_value(&adds[0]).unwrap();
    add["deletionVector"] = serde_json::json!({"storageType": "u", "pathOrInlineDv": "ab^-aqEH.-t@S}K{vb[*k^",
                                               "offset": 4, "sizeInBytes": 40, "cardinality": 6});
    std::fs::write(log.join("00000000000000000002.json"), format!("{}\n", serde_json::json!({"add": add}))).unwrap();
    let error = manifests.write().await.unwrap_err();
    assert!(matches!(&error, Error::Usage(m) if m.contains("deletion vector")), "{error}");
    for version in 1..=2 {
        std::fs::remove_file(log.join(format!("{version:020}.json"))).unwrap();
    }
    let table = Arc::new(Table::open_existing(&lake, "payments").await.unwrap().unwrap());
    let error = Manifests::new(table).write().await.unwrap_err();
    assert!(matches!(&error, Error::Broken(m) if m.contains("stand at version 1, the table at 0")), "{error}");
}
