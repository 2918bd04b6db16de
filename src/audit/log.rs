//! Delta logs, read from their JSON: what each commit adds, takes out, and which epoch it names.
//!
//! The one law: this reader shares nothing with the one that writes the lake, so that both would have to be wrong in the
//! same way. It reads commits only; what a checkpoint says is not believed here.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use serde::Deserialize;

use super::finding::Kind as Found;
use super::history::History;
use super::report::Report;
use crate::error::{Context, Error, Result};
use crate::lake::Add;

/// Commits read at once, as many as slots.
const READS_MAX: usize = 16;

/// A data file as a slot or a commit names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FileEntry {
    /// Relative to the table.
    pub path: String,
    pub bytes: u64,
    /// `numRecords` of its statistics.
    pub rows: Option<u64>,
    /// Partition column to value.
    pub partition: BTreeMap<String, Option<String>>,
    /// Whether its rows are new to the table.
    pub data_change: bool,
}

/// One commit.
#[derive(Clone, Debug, Default)]
pub(super) struct Commit {
    pub version: u64,
    /// Application and epoch.
    pub transactions: Vec<(String, i64)>,
    pub adds: Vec<FileEntry>,
    pub removed: Vec<String>,
}

/// One table's commits, oldest first.
#[derive(Clone, Debug, Default)]
pub(super) struct TableLog {
    pub commits: Vec<Commit>,
    /// Older commits were cleaned away behind a checkpoint: their files are known to slots only.
    pub cleaned: bool,
    /// The files those commits had added and not taken out, as the slots say.
    pub before: BTreeMap<String, FileEntry>,
}

#[derive(Deserialize)]
struct Line {
    add: Option<AddLine>,
    remove: Option<RemoveLine>,
    txn: Option<TxnLine>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AddLine {
    path: String,
    size: u64,
    #[serde(default)]
    partition_values: BTreeMap<String, Option<String>>,
    data_change: bool,
    stats: Option<String>,
}

#[derive(Deserialize)]
struct RemoveLine {
    path: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TxnLine {
    app_id: String,
    version: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stats {
    num_records: Option<u64>,
}

impl FileEntry {
    /// As a slot names it.
    pub(super) fn of_slot(add: &Add) -> Self {
        Self {
            path: add.path.clone(),
            bytes: u64::try_from(add.size).unwrap_or(0),
            rows: rows_of(add.stats.as_deref()),
            partition: add.partition_values.iter().map(|(column, value)| (column.clone(), value.clone())).collect(),
            data_change: add.data_change,
        }
    }

    fn of_commit(add: AddLine) -> Self {
        let rows = rows_of(add.stats.as_deref());
        let AddLine { path, size, partition_values, data_change, .. } = add;
        Self { path, bytes: size, rows, partition: partition_values, data_change }
    }
}

fn rows_of(stats: Option<&str>) -> Option<u64> {
    serde_json::from_str::<Stats>(stats?).ok()?.num_records
}

impl TableLog {
    /// The epochs of one application, each with the version that published it.
    pub(super) fn epochs<'a>(&'a self, app_id: &'a str) -> impl Iterator<Item = (i64, u64)> + 'a {
        let of = move |commit: &'a Commit| commit.transactions.iter().map(move |txn| (txn, commit.version));
        self.commits.iter().flat_map(of).filter(move |((app, _), _)| app == app_id).map(|((_, epoch), v)| (*epoch, v))
    }

    /// Takes what commits that were cleaned away did from the slots of their epochs.
    pub(super) fn remember(&mut self, table: &str, app_id: &str, history: &History) {
        if !self.cleaned {
            return;
        }
        let first = self.epochs(app_id).filter_map(|(epoch, _)| u64::try_from(epoch).ok()).min();
        // Without any epoch in the log, all that was ever published lies before it.
        let gone = |epoch: u64| match first {
            Some(first) => epoch < first,
            None => Some(epoch) <= history.published_through,
        };
        for (_, step) in history.steps.iter().filter(|(epoch, _)| gone(**epoch)) {
            for path in step.removes.get(table).into_iter().flatten() {
                self.before.remove(path);
            }
            let added = step.tables.get(table).into_iter().flatten();
            self.before.extend(added.map(|file| (file.path.clone(), file.clone())));
        }
    }

    /// Files that were added and not taken out, by path; without those of epochs after `published`.
    pub(super) fn live(&self, app_id: &str, published: Option<u64>) -> BTreeMap<&str, &FileEntry> {
        let mut live: BTreeMap<&str, &FileEntry> =
            self.before.iter().map(|(path, file)| (path.as_str(), file)).collect();
        let later = |(app, epoch): &(String, i64)| app == app_id && u64::try_from(*epoch).ok() > published;
        for commit in self.commits.iter().filter(|commit| !commit.transactions.iter().any(later)) {
            for path in &commit.removed {
                live.remove(path.as_str());
            }
            live.extend(commit.adds.iter().map(|file| (file.path.as_str(), file)));
        }
        live
    }
}

/// Reads the log of one table.
///
/// # Errors
/// [`Error::External`] when the store does not answer. Damage is a finding.
pub(super) async fn read(store: &Arc<dyn ObjectStore>, table: &str, report: &mut Report) -> Result<TableLog> {
    let folder = Path::from(format!("{table}/_delta_log"));
    let listed = store.list(Some(&folder)).try_collect::<Vec<_>>().await;
    let listed = listed.context(|| format!("listing the log of table `{table}`"))?;
    let names: Vec<&str> = listed.iter().filter_map(|object| object.location.filename()).collect();
    let mut versions: Vec<u64> = names.iter().filter_map(|name| version_of(name)).collect();
    versions.sort_unstable();
    let first = versions.first().copied().unwrap_or(0);
    let cleaned = first > 0 && names.iter().filter_map(|name| checkpoint_of(name)).any(|at| at + 1 >= first);
    report_holes(table, &versions, cleaned, report);
    let mut reads = futures::stream::iter(versions)
        .map(|version| {
            let path = folder.clone().join(format!("{version:020}.json"));
            async move {
                let what = || format!("reading version {version} of table `{table}`");
                let bytes = store.get(&path).await.context(what)?.bytes().await.context(what)?;
                Ok::<_, Error>((version, bytes))
            }
        })
        .buffered(READS_MAX);
    let mut log = TableLog { cleaned, ..TableLog::default() };
    while let Some((version, bytes)) = reads.try_next().await? {
        match parse(version, &bytes) {
            Ok(commit) => log.commits.push(commit),
            Err(error) => report.find(Found::LogHole, place(table, version), format!("it cannot be read: {error}")),
        }
    }
    Ok(log)
}

/// How a report names a commit.
pub(super) fn place(table: &str, version: u64) -> String {
    format!("`{table}/_delta_log`, version {version}")
}

fn report_holes(table: &str, versions: &[u64], cleaned: bool, report: &mut Report) {
    let mut expected = if cleaned { versions.first().copied().unwrap_or(0) } else { 0 };
    for &version in versions {
        for missing in expected..version.min(expected + 1) {
            let what = match version - missing {
                1 => format!("it is missing, although version {version} exists"),
                gone => format!("it and {} more are missing, although version {version} exists", gone - 1),
            };
            report.find(Found::LogHole, place(table, missing), what);
        }
        expected = version + 1;
    }
}

fn parse(version: u64, bytes: &[u8]) -> std::result::Result<Commit, String> {
    let mut commit = Commit { version, ..Commit::default() };
    let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let line: Line = serde_json::from_str(line).map_err(|error| error.to_string())?;
        commit.adds.extend(line.add.map(FileEntry::of_commit));
        commit.removed.extend(line.remove.map(|remove| remove.path));
        commit.transactions.extend(line.txn.map(|txn| (txn.app_id, txn.version)));
    }
    Ok(commit)
}

/// The version of a commit's file: 20 digits and `.json`.
fn version_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".json")?;
    (digits.len() == 20).then(|| digits.parse().ok()).flatten()
}

/// The version a checkpoint stands at.
fn checkpoint_of(name: &str) -> Option<u64> {
    let (digits, rest) = name.split_once('.')?;
    (rest.starts_with("checkpoint.") && rest.ends_with(".parquet")).then(|| digits.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use object_store::PutPayload;
    use object_store::memory::InMemory;

    use super::*;

    const COMMIT: &str = r#"{"commitInfo":{"operation":"WRITE"}}
{"add":{"path":"d=1/a.parquet","partitionValues":{"d":"1"},"size":7,"modificationTime":1,"dataChange":true,"stats":"{\"numRecords\":3}"}}
{"txn":{"appId":"app","version":4}}
"#;

    async fn log_of(names: &[&str]) -> (TableLog, Vec<(Found, String)>) {
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        for name in names {
            let path = Path::from(format!("t/_delta_log/{name}"));
            store.put(&path, PutPayload::from(COMMIT.as_bytes())).await.unwrap();
        }
        let mut report = Report::default();
        let log = read(&store, "t", &mut report).await.unwrap();
        (log, report.findings.into_iter().map(|finding| (finding.kind, finding.place)).collect())
    }

    #[tokio::test]
    async fn a_commit_is_read_with_its_files_and_its_epoch() {
        let (log, found) = log_of(&["00000000000000000000.json"]).await;
        assert!(found.is_empty());
        assert_eq!(log.epochs("app").collect::<Vec<_>>(), [(4, 0)]);
        assert_eq!(log.epochs("another").count(), 0);
        assert!(log.live("app", Some(3)).is_empty());
        let live = log.live("app", Some(4));
        assert_eq!((live["d=1/a.parquet"].bytes, live["d=1/a.parquet"].rows), (7, Some(3)));
    }

    #[tokio::test]
    async fn holes_are_named_and_cleaned_beginnings_are_none() {
        let (_, found) = log_of(&["00000000000000000000.json", "00000000000000000002.json"]).await;
        assert_eq!(found, [(Found::LogHole, "`t/_delta_log`, version 1".to_owned())]);
        let (_, found) = log_of(&["00000000000000000001.json"]).await;
        assert_eq!(found, [(Found::LogHole, "`t/_delta_log`, version 0".to_owned())]);
        let checkpoint = "00000000000000000001.checkpoint.parquet";
        let (log, found) = log_of(&["00000000000000000002.json", checkpoint]).await;
        assert!(found.is_empty() && log.cleaned);
    }
}
