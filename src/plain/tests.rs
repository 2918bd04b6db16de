//! Exports against the table: whatever happens to it, and wherever the writer dies, the rows of the plain files are those of
//! the table, read by a plain listing of Parquet files. (DuckDB reads both in `tests/it/plain.rs`.)

use std::collections::BTreeMap;
use std::path::Path as FsPath;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::array::{AsArray, Date32Array, RecordBatch};
use deltalake::kernel::{Add, Remove};

use super::*;
use crate::config::Plain;
use crate::error::Error;
use crate::lake::dying::DyingStore;
use crate::lake::{Compaction, DataFile, Lake, spilling, testing};

/// Whatever is there is over.
fn all(_: i32, _: &[Arc<DataFile>]) -> bool {
    true
}

fn place(folder: &FsPath, lake: &Lake) -> Place {
    let url = folder.join("../plain").display().to_string();
    Place::of(&Plain { url, tables: Vec::new() }, &testing::s3(), lake).unwrap().unwrap()
}

/// A lake in a folder of its own, so that an export fits beside it.
fn lake() -> (tempfile::TempDir, std::path::PathBuf, Lake) {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().join("lake");
    let lake = Lake::open(at.to_str().unwrap(), &testing::s3()).unwrap();
    (folder, at, lake)
}

async fn append(table: &Table, epoch: u64, rows: usize) -> Result<Vec<Add>> {
    let adds = table.stage(vec![testing::rows(rows, epoch)], epoch).await?.adds;
    table.publish("app", epoch, &adds, &[]).await?;
    Ok(adds)
}

fn remove(path: &str) -> Remove {
    Remove {
        path: path.to_owned(),
        data_change: true,
        deletion_timestamp: Some(1),
        extended_file_metadata: None,
        partition_values: None,
        size: None,
        tags: None,
        deletion_vector: None,
        base_row_id: None,
        default_row_commit_version: None,
    }
}

/// As [`append`], a row for each of so many dates.
async fn append_dates(table: &Table, epoch: u64, dates: i32) -> Result<()> {
    let rows = testing::rows(usize::try_from(dates).unwrap(), epoch);
    let at = rows.schema().index_of("event_date").unwrap();
    let mut columns = rows.columns().to_vec();
    columns[at] = Arc::new(Date32Array::from_iter_values(20_700..20_700 + dates));
    let rows = RecordBatch::try_new(rows.schema(), columns).unwrap();
    let adds = table.stage(vec![rows], epoch).await?.adds;
    table.publish("app", epoch, &adds, &[]).await.map(drop)
}

/// Writes all files of a date together.
async fn compact(table: &Table, epoch: u64, day: i32) -> Result<()> {
    let files: Vec<_> = table.live_files().await?.into_iter().filter(|file| file.partition == day).collect();
    let runtime = &spilling(64 << 20)?;
    let staged = table.stage_compaction(Compaction { files: &files, epoch, file_bytes: 1 << 20, runtime }).await?;
    table.publish("app", epoch, &staged.adds, &staged.removes).await?;
    Ok(())
}

/// Date and identity of each row, sorted, of all Parquet files below a folder, as somebody sees them who lists it.
fn listed(folder: &FsPath) -> Vec<(String, String)> {
    let mut rows = Vec::new();
    let Ok(dates) = std::fs::read_dir(folder) else { return rows };
    for date in dates.map(|date| date.unwrap().path()) {
        let name = date.file_name().unwrap().to_str().unwrap().strip_prefix("event_date=").unwrap().to_owned();
        for file in std::fs::read_dir(&date).unwrap().map(|file| file.unwrap().path()) {
            assert!(file.file_name().unwrap().to_str().unwrap().starts_with("epoch-"), "{}", file.display());
            let batch = testing::read_file(&file);
            assert!(batch.column_by_name("event_date").is_none());
            let ids = batch.column_by_name("payment_id").unwrap().as_string::<i32>().clone();
            rows.extend(ids.iter().map(|id| (name.clone(), id.unwrap().to_owned())));
        }
    }
    rows.sort_unstable();
    rows
}

/// The same of the table's live files.
async fn live(folder: &FsPath, table: &Table) -> Vec<(String, String)> {
    let mut rows = Vec::new();
    for file in table.live_files().await.unwrap() {
        let batch = testing::read_file(&folder.join(table.name()).join(&file.path));
        let ids = batch.column_by_name("payment_id").unwrap().as_string::<i32>().clone();
        rows.extend(ids.iter().map(|id| (file.date().unwrap(), id.unwrap().to_owned())));
    }
    rows.sort_unstable();
    rows
}

fn files(folder: &FsPath) -> BTreeMap<String, std::time::SystemTime> {
    let mut found = BTreeMap::new();
    for date in std::fs::read_dir(folder).unwrap().map(|date| date.unwrap().path()) {
        for file in std::fs::read_dir(&date).unwrap().map(|file| file.unwrap()) {
            // One that goes at this moment has none.
            let Ok(metadata) = file.metadata() else { continue };
            found.insert(file.path().display().to_string(), metadata.modified().unwrap());
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dates_that_were_not_tried_are_owed_what_they_were() {
    let (folder, at, lake) = lake();
    let table = Arc::new(Table::create_or_open(&lake, &testing::contract("payments")).await.unwrap());
    let mut export = Export::new(Arc::clone(&table), place(&at, &lake));
    append_dates(&table, 0, 7).await.unwrap();
    export.bring_up(all).await.unwrap();
    // Late rows of each, while the place takes nothing: after three dates nobody asks it about the others.
    append_dates(&table, 1, 7).await.unwrap();
    let (plain, away) = (folder.path().join("plain/payments"), folder.path().join("away"));
    std::fs::rename(&plain, &away).unwrap();
    std::fs::write(&plain, "no folder").unwrap();
    export.bring_up(all).await.unwrap_err();
    std::fs::remove_file(&plain).unwrap();
    std::fs::rename(&away, &plain).unwrap();
    export.bring_up(all).await.unwrap();
    assert_eq!(listed(&plain), live(&at, &table).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dates_that_failed_are_behind_until_they_are_exported() {
    let (folder, at, lake) = lake();
    let table = Arc::new(Table::create_or_open(&lake, &testing::contract("payments")).await.unwrap());
    let place = place(&at, &lake);
    let (plain, away) = (folder.path().join("plain/payments"), folder.path().join("away"));
    append_dates(&table, 0, 7).await.unwrap();
    // A place that takes nothing: three dates fail, and the others are not tried.
    std::fs::write(&plain, "no folder").unwrap();
    Export::new(Arc::clone(&table), place.clone()).bring_up(all).await.unwrap_err();
    assert_eq!(lag(&table, &place).await.unwrap(), Lag { version: 1, exported_at: Some(1), dates: 0, behind: 7 });
    std::fs::remove_file(&plain).unwrap();
    Export::new(Arc::clone(&table), place.clone()).bring_up(all).await.unwrap();
    assert_eq!(lag(&table, &place).await.unwrap(), Lag { version: 1, exported_at: Some(1), dates: 7, behind: 0 });
    // Late rows of dates that are exported, which nobody takes for done because their old files are there.
    append_dates(&table, 1, 7).await.unwrap();
    std::fs::rename(&plain, &away).unwrap();
    std::fs::write(&plain, "no folder").unwrap();
    Export::new(Arc::clone(&table), place.clone()).bring_up(all).await.unwrap_err();
    assert_eq!(lag(&table, &place).await.unwrap(), Lag { version: 2, exported_at: Some(2), dates: 0, behind: 7 });
    std::fs::remove_file(&plain).unwrap();
    std::fs::rename(&away, &plain).unwrap();
    Export::new(Arc::clone(&table), place.clone()).bring_up(all).await.unwrap();
    assert_eq!(listed(&plain), live(&at, &table).await);
    assert_eq!(lag(&table, &place).await.unwrap(), Lag { version: 2, exported_at: Some(2), dates: 7, behind: 0 });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn late_rows_are_added_and_compactions_change_nothing() {
    let (folder, at, lake) = lake();
    let table = Arc::new(Table::create_or_open(&lake, &testing::contract("payments")).await.unwrap());
    let place = place(&at, &lake);
    let plain = folder.path().join("plain/payments");
    append(&table, 0, 10).await.unwrap();
    append(&table, 1, 10).await.unwrap();
    assert_eq!(lag(&table, &place).await.unwrap(), Lag { version: 2, ..Lag::default() });
    let mut export = Export::new(Arc::clone(&table), place.clone());
    // The second date is not over.
    let done = export.bring_up(|day, _| day < 20_780).await.unwrap();
    assert_eq!((done.version, done.files, done.deleted), (2, 2, 0));
    assert_eq!(done.dates.iter().collect::<Vec<_>>(), ["2026-11-22"]);
    let of_22 = |rows: Vec<(String, String)>| rows.into_iter().filter(|row| row.0 == "2026-11-22").collect::<Vec<_>>();
    assert_eq!(listed(&plain), of_22(live(&at, &table).await));
    export.bring_up(all).await.unwrap();
    assert_eq!(listed(&plain), live(&at, &table).await);
    assert_eq!(lag(&table, &place).await.unwrap(), Lag { version: 2, exported_at: Some(2), dates: 2, behind: 0 });

    // Written together, also together with late rows that are there already: the same rows, so the same files.
    let before = files(&plain);
    compact(&table, 2, 20_779).await.unwrap();
    assert_eq!(lag(&table, &place).await.unwrap().behind, 1);
    assert_eq!(export.bring_up(all).await.unwrap(), Exported { version: 3, ..Exported::default() });
    assert_eq!(files(&plain), before);
    assert_eq!(lag(&table, &place).await.unwrap().behind, 0);
    // Late rows come beside them; a process that has just started knows as much.
    append(&table, 3, 10).await.unwrap();
    let mut export = Export::new(Arc::clone(&table), place.clone());
    let done = export.bring_up(all).await.unwrap();
    assert_eq!((done.files, done.deleted, done.dates.len()), (2, 0, 2));
    assert!(before.iter().all(|file| files(&plain).get(file.0) == Some(file.1)));
    assert_eq!(listed(&plain), live(&at, &table).await);
    compact(&table, 4, 20_779).await.unwrap();
    assert_eq!(export.bring_up(all).await.unwrap(), Exported { version: 5, ..Exported::default() });
    // Late rows that were written together with others before anybody looked: the date gets the table's files.
    append(&table, 5, 10).await.unwrap();
    compact(&table, 6, 20_780).await.unwrap();
    let done = export.bring_up(all).await.unwrap();
    assert_eq!((done.files, done.deleted), (2, 3), "{done:?}");
    assert_eq!(listed(&plain), live(&at, &table).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_restated_or_vacated_is_carried_over_and_strangers_files_stay() {
    let (folder, at, lake) = lake();
    let table = Arc::new(Table::create_or_open(&lake, &testing::contract("payments")).await.unwrap());
    let place = place(&at, &lake);
    let plain = folder.path().join("plain/payments");
    let first = append(&table, 0, 10).await.unwrap();
    append(&table, 1, 10).await.unwrap();
    let mut export = Export::new(Arc::clone(&table), place.clone());
    export.bring_up(all).await.unwrap();
    // The first date's file of epoch 0 gives way to another, and the second date is emptied.
    let new = table.stage(vec![testing::rows(7, 2)], 2).await.unwrap().adds;
    let gone: Vec<Remove> = table
        .live_files()
        .await
        .unwrap()
        .iter()
        .filter(|file| file.path == first[0].path || file.partition == 20_780)
        .map(|file| remove(&file.path))
        .collect();
    table.publish("app", 2, &new[..1], &gone).await.unwrap();
    let done = export.bring_up(all).await.unwrap();
    assert_eq!((done.files, done.deleted, done.dates.len()), (1, 3, 2));
    assert_eq!(listed(&plain), live(&at, &table).await);
    assert!(!listed(&plain).is_empty());
    // Somebody deleted a file, another put one of his own there: the first is mended by the next process, the other stays.
    let of_22 = plain.join("event_date=2026-11-22");
    let lost = std::fs::read_dir(&of_22).unwrap().next().unwrap().unwrap().path();
    std::fs::remove_file(&lost).unwrap();
    std::fs::write(of_22.join("theirs.txt"), "x").unwrap();
    let done = Export::new(Arc::clone(&table), place.clone()).bring_up(all).await.unwrap();
    assert_eq!((done.files, done.deleted), (1, 0));
    assert!(lost.exists() && of_22.join("theirs.txt").exists());
    std::fs::remove_file(of_22.join("theirs.txt")).unwrap();
    assert_eq!(listed(&plain), live(&at, &table).await);
    // A record nobody can read counts as none: nothing is copied, since everything is there.
    std::fs::write(at.join("payments/_plain.json"), "{").unwrap();
    let done = Export::new(Arc::clone(&table), place.clone()).bring_up(all).await.unwrap();
    assert_eq!((done.files, done.deleted), (0, 0));
    // A log that went back is told.
    for version in 2..=3 {
        std::fs::remove_file(at.join(format!("payments/_delta_log/{version:020}.json"))).unwrap();
    }
    let table = Arc::new(Table::open_existing(&lake, "payments").await.unwrap().unwrap());
    let error = Export::new(table, place).bring_up(all).await.unwrap_err();
    assert!(matches!(&error, Error::Broken(m) if m.contains("stands at version 3, the table at 1")), "{error}");
}

/// A life of a table and of its export: late rows, a compaction, a restatement, a date emptied.
async fn live_through(lake: &Lake, place: &Place) -> Result<()> {
    let table = Table::open_existing(lake, "payments").await?;
    let table = Arc::new(table.ok_or_else(|| Error::broken("no table"))?);
    let mut export = Export::new(Arc::clone(&table), place.clone());
    let done = table.txn_version("app").await?.map_or(0, |epoch| u64::try_from(epoch).unwrap() + 1);
    export.bring_up(all).await?;
    for epoch in done..6 {
        match epoch {
            2 => compact(&table, epoch, 20_779).await?,
            4 => {
                let live = table.live_files().await?;
                let adds = table.stage(vec![testing::rows(20, epoch)], epoch).await?.adds;
                let gone: Vec<Remove> = live.iter().map(|file| remove(&file.path)).collect();
                table.publish("app", epoch, &adds[1..], &gone).await?;
            }
            _ => drop(append(&table, epoch, 10).await?),
        }
        export.bring_up(all).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_after_any_write_the_next_start_completes_the_export() {
    let mut deaths = 0;
    for changes in 0.. {
        let (folder, at, lake) = lake();
        Table::create_or_open(&lake, &testing::contract("payments")).await.unwrap();
        let export = place(&at, &lake);
        let left = Arc::new(AtomicUsize::new(changes));
        let dying = lake.clone().with_wrapped_store(|store| Arc::new(DyingStore::new(store, &left)));
        let dying_place = export.clone().with_wrapped_store(|store| Arc::new(DyingStore::new(store, &left)));
        let life = live_through(&dying, &dying_place);
        let ended = tokio::time::timeout(std::time::Duration::from_secs(2), life).await;
        let survived = matches!(ended, Ok(Ok(())));
        assert!(survived || left.load(Ordering::Relaxed) == 0, "{ended:?}: not killed, but failed or stood still");
        // Whoever lists it now finds files of ours and nothing else. (They are not read: deletions the dead life had begun
        // may still go through, as they would not after a kill.)
        let plain = folder.path().join("plain/payments");
        if plain.exists() {
            let found = files(&plain);
            assert!(found.keys().all(|path| path.contains("/epoch-") && path.ends_with(".parquet")), "{found:?}");
        }
        live_through(&lake, &export).await.unwrap();
        let table = Table::open_existing(&lake, "payments").await.unwrap().unwrap();
        assert_eq!(listed(&plain), live(&at, &table).await, "killed after {changes} changes");
        let found = lag(&table, &export).await.unwrap();
        assert_eq!((found.exported_at, found.behind), (Some(6), 0), "killed after {changes} changes");
        deaths += 1;
        if survived {
            break;
        }
    }
    assert!(deaths > 30, "only {deaths} places to die");
}
