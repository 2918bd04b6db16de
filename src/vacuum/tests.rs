//! What goes, what stays, and what a log says afterwards.

use std::collections::BTreeSet;
use std::path::Path as FsPath;
use std::sync::Arc;

use deltalake::kernel::{Add, Remove};

use super::*;
use crate::clock::Clock;
use crate::lake::{Lake, testing};
use crate::manifest::Manifests;

const DAY: Micros = 86_400_000_000;

fn removes(adds: &[Add]) -> Vec<Remove> {
    let remove = |add: &Add| Remove {
        path: add.path.clone(),
        data_change: true,
        deletion_timestamp: Some(1),
        extended_file_metadata: None,
        partition_values: None,
        size: Some(add.size),
        tags: None,
        deletion_vector: None,
        base_row_id: None,
        default_row_commit_version: None,
    };
    adds.iter().map(remove).collect()
}

/// Puts the objects of these versions, or of these files, back in time.
fn age(folder: &FsPath, names: impl Fn(&str) -> bool, days: u64) {
    let then = std::time::Duration::from_secs(days * 86_400);
    for entry in walk(folder) {
        if names(entry.to_str().unwrap()) {
            let file = std::fs::File::options().write(true).open(&entry).unwrap();
            let now = file.metadata().unwrap().modified().unwrap();
            file.set_modified(now - then).unwrap();
        }
    }
}

fn walk(folder: &FsPath) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() { found.extend(walk(&entry)) } else { found.push(entry) }
    }
    found
}

fn data_files(folder: &FsPath) -> BTreeSet<String> {
    let names = walk(folder).into_iter().map(|path| path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned());
    names.filter(|name| name.starts_with("event_date=")).collect()
}

fn retention(scope: Scope) -> Retention {
    Retention { scope, keep: 7 * DAY, now: Clock::System.now(), dry_run: false }
}

struct Life {
    _folder: tempfile::TempDir,
    lake: Lake,
    path: std::path::PathBuf,
    table: Arc<Table>,
    manifests: Manifests,
    /// By epoch.
    adds: Vec<Vec<Add>>,
}

impl Life {
    /// Epochs 0 to 4; each but the first replaces the files of the one before.
    async fn lived() -> Self {
        let (folder, lake) = testing::lake();
        let table = Arc::new(Table::create_or_open(&lake, &testing::contract("payments")).await.unwrap());
        let mut adds: Vec<Vec<Add>> = Vec::new();
        for epoch in 0..5 {
            let new = table.stage(vec![testing::rows(10, epoch)], epoch).await.unwrap().adds;
            let out = adds.last().map(|adds| removes(adds)).unwrap_or_default();
            table.publish("app", epoch, &new, &out).await.unwrap();
            adds.push(new);
            if epoch == 1 || epoch == 3 {
                table.checkpoint().await.unwrap();
            }
        }
        let path = folder.path().join("payments");
        let manifests = Manifests::new(Arc::clone(&table));
        Self { _folder: folder, lake, path, table, manifests, adds }
    }

    async fn bring_up(&mut self) {
        let written = self.manifests.write().await.unwrap();
        self.manifests.let_go(&written.emptied).await.unwrap();
    }

    /// Everything up to this version happened long ago, and the rest today.
    fn old_up_to(&self, version: u64) {
        let is_old = |name: &str| {
            let digits = name.split_once("_delta_log/").and_then(|(_, name)| name.get(..20));
            digits.and_then(|digits| digits.parse::<u64>().ok()).is_some_and(|found| found <= version)
        };
        age(&self.path, is_old, 8);
    }

    async fn vacuum(&self, retention: &Retention) -> Vacuumed {
        vacuum(&self.table, &Unpublished::new(), retention).await.unwrap()
    }

    fn log(&self) -> BTreeSet<String> {
        let names = walk(&self.path.join("_delta_log"));
        names.into_iter().map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect()
    }

    fn paths(&self, epochs: std::ops::Range<usize>) -> BTreeSet<String> {
        self.adds[epochs].iter().flatten().map(|add| add.path.clone()).collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn removed_files_go_after_the_retention_and_the_log_keeps_what_can_be_read() {
    let mut life = Life::lived().await;
    life.bring_up().await;
    // Nothing is old.
    assert_eq!(life.vacuum(&retention(Scope::Full)).await, Vacuumed::default());
    // Version 3 published epoch 2, which took out the files of epoch 1.
    life.old_up_to(3);
    let dry = life.vacuum(&Retention { dry_run: true, ..retention(Scope::Lite) }).await;
    assert_eq!(data_files(&life.path), life.paths(0..5));
    let done = life.vacuum(&retention(Scope::Lite)).await;
    assert_eq!(dry, done);
    // Commits 0 and 1 lie behind the checkpoint of version 2, the newest before the retention.
    assert_eq!(done, Vacuumed { removed: 4, log_objects: 2, ..Vacuumed::default() });
    assert_eq!(data_files(&life.path), life.paths(2..5));
    let log = life.log();
    assert!(log.contains("00000000000000000002.json") && !log.contains("00000000000000000001.json"), "{log:?}");
    assert_eq!(readable_from(&life.table).await.unwrap(), 3);
    for version in 3..=5 {
        assert_eq!(life.table.live_files_at(version).await.unwrap().len(), 2, "version {version}");
    }
    // What was done is not done again.
    assert_eq!(life.vacuum(&retention(Scope::Full)).await, Vacuumed::default());
    // Everything is old: one checkpoint is what the log begins with, and stays.
    life.old_up_to(5);
    let done = life.vacuum(&retention(Scope::Lite)).await;
    assert_eq!((done.removed, done.log_objects), (4, 3));
    assert_eq!(data_files(&life.path), life.paths(4..5));
    let reopened = Table::open_existing(&life.lake, "payments").await.unwrap().unwrap();
    assert_eq!((reopened.version().await.unwrap(), reopened.live_files().await.unwrap().len()), (5, 2));
    assert_eq!(reopened.txn_version("app").await.unwrap(), Some(4));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn manifests_that_lag_forbid_it_and_one_that_names_a_file_keeps_it() {
    let mut life = Life::lived().await;
    let first = life.paths(0..1);
    life.bring_up().await;
    life.old_up_to(5);
    let state = life.path.join("_symlink_format_manifest/_state.json");
    let recorded = std::fs::read_to_string(&state).unwrap();
    std::fs::write(&state, recorded.replace("\"version\":5", "\"version\":4")).unwrap();
    let refused = life.vacuum(&retention(Scope::Full)).await.refused.unwrap();
    assert!(refused.contains("stand at version 4") && refused.contains("lakeward lake manifest"), "{refused}");
    assert_eq!(data_files(&life.path), life.paths(0..5));
    std::fs::write(&state, recorded).unwrap();
    // Somebody has put an old manifest back.
    let named = first.iter().find(|path| path.contains("2026-11-22")).unwrap();
    let manifest = life.path.join("_symlink_format_manifest/event_date=2026-11-22/manifest");
    std::fs::write(&manifest, format!("s3://bucket/lake/payments/{named}\n")).unwrap();
    for _ in 0..2 {
        let done = life.vacuum(&retention(Scope::Lite)).await;
        assert_eq!(done.named, 1, "{done:?}");
        assert!(life.path.join(named).exists());
    }
    // The next process writes it again, and the file goes.
    std::fs::remove_file(&manifest).unwrap();
    life.manifests = Manifests::new(Arc::clone(&life.table));
    life.bring_up().await;
    life.vacuum(&retention(Scope::Full)).await;
    assert_eq!(data_files(&life.path), life.paths(4..5));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orphans_go_but_for_young_ones_and_those_a_slot_has_decided() {
    let mut life = Life::lived().await;
    life.bring_up().await;
    let old = life.table.stage(vec![testing::rows(10, 7)], 7).await.unwrap().adds;
    let decided = life.table.stage(vec![testing::rows(10, 8)], 8).await.unwrap().adds;
    let young = life.table.stage(vec![testing::rows(10, 9)], 9).await.unwrap().adds;
    for name in ["event_date=2026-11-23/_hidden.parquet", "_junk/x.parquet", "event_date=2026-11-23/notes.txt"] {
        std::fs::create_dir_all(life.path.join(name).parent().unwrap()).unwrap();
        std::fs::write(life.path.join(name), "?").unwrap();
    }
    let young: BTreeSet<String> = young.into_iter().map(|add| add.path).collect();
    age(&life.path, |name| !young.iter().any(|path| name.ends_with(path)) && !name.contains("_delta_log"), 8);
    let unpublished = Unpublished::from([("payments".into(), decided.iter().map(|add| add.path.clone()).collect())]);
    let done = vacuum(&life.table, &unpublished, &retention(Scope::Full)).await.unwrap();
    assert_eq!((done.removed, done.orphans, done.named, done.log_objects), (0, 2, 0, 0));
    assert_eq!(done.orphan_bytes, old.iter().map(|add| u64::try_from(add.size).unwrap()).sum::<u64>());
    let mut left = life.paths(0..5);
    left.extend(young);
    left.extend(decided.into_iter().map(|add| add.path));
    left.extend(["event_date=2026-11-23/_hidden.parquet", "event_date=2026-11-23/notes.txt"].map(str::to_owned));
    // What younger commits took out is still read at older versions, however old the files are.
    assert_eq!(data_files(&life.path), left);
    assert!(life.path.join("_junk/x.parquet").exists());
}
