//! What is known of a table at one version: its live files and what each pipeline has published; taken from a snapshot,
//! then moved on commit by commit.
//!
//! The one law: a commit is taken in whole or not at all.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use deltalake::kernel::{Action, Add};
use deltalake::table::state::DeltaTableState;
use object_store::path::Path;

use super::ranges;
use super::schema::Layout;
use crate::error::{Error, Result};

/// One live data file of a table.
#[derive(Clone, Debug, PartialEq)]
pub struct DataFile {
    /// Relative to the table: `event_date=2026-11-23/part-….snappy.parquet`.
    pub path: String,
    /// Value of the partition column, days since 1970-01-01.
    pub partition: i32,
    pub bytes: u64,
    /// Rows, if the log says so; it does for every file staged here.
    pub rows: Option<u64>,
    /// The epoch it was written in, or, of a file that was rewritten, the last one whose rows it may hold; from its name. None
    /// for files others wrote.
    pub epoch: Option<u64>,
    /// When it was staged, milliseconds since 1970-01-01.
    pub(super) modified_ms: i64,
    /// The version that added it, or, for files that were there when the table was opened, the version opened.
    pub(super) version: u64,
    /// Lowest and highest value of columns whose values are whole numbers: (index in the table's schema, (lowest, highest)).
    pub(super) ranges: Vec<(usize, (i64, i64))>,
}

impl DataFile {
    /// The object's key below the table: a log writes it percent-encoded.
    ///
    /// # Errors
    /// [`Error::Broken`] for a path that is none of a store.
    pub fn key(&self) -> Result<Path> {
        Path::from_url_path(&self.path)
            .map_err(|error| Error::broken(format!("`{}` is no path of a store: {error}", self.path)))
    }

    /// The partition's date as paths write it: `2026-11-23`.
    ///
    /// # Errors
    /// [`Error::Broken`] for a day before the year 0 or after 9999, which is never staged.
    pub fn date(&self) -> Result<String> {
        let day = self.partition;
        ranges::format_date(day)
            .ok_or_else(|| Error::broken(format!("`{}`: {day} days since 1970 is no date", self.path)))
    }
}

/// One commit of a table's log.
#[derive(Clone, Debug)]
pub struct Commit {
    pub version: u64,
    /// Which epoch of which pipeline it published: (app id, epoch).
    pub transactions: Vec<(String, i64)>,
    pub adds: Vec<Add>,
    /// Paths of files it took out of the table.
    pub removed: Vec<String>,
}

/// What is known at one version.
#[derive(Debug)]
pub(super) struct State {
    pub(super) version: u64,
    /// The version loaded as a whole; later ones were followed commit by commit.
    loaded: u64,
    /// The last version that took files out of the table, at least `loaded`.
    removal: u64,
    /// By path, so that scans see files by partition, then by epoch.
    pub(super) files: BTreeMap<String, Arc<DataFile>>,
    /// What each pipeline has published. An absent one is unknown: it may have been published before `loaded`.
    pub(super) transactions: HashMap<String, Option<i64>>,
}

impl State {
    pub(super) fn of(name: &str, layout: &Layout, found: &DeltaTableState) -> Result<Self> {
        let version = found.version();
        let mut files = BTreeMap::new();
        for view in found.log_data().iter() {
            let (path, partition_values, stats) = (view.path(), view.partition_values_map(), view.stats());
            let entry = FileEntry {
                path: &path,
                partition_value: partition_values.get(layout.partition_name()).and_then(Option::as_deref),
                size: view.size(),
                modified_ms: view.modification_time(),
                stats: stats.as_deref(),
                deletion_vector: view.deletion_vector_descriptor().is_some(),
            };
            let file = DataFile::of(name, layout, version, &entry)?;
            files.insert(file.path.clone(), Arc::new(file));
        }
        Ok(Self { version, loaded: version, removal: version, files, transactions: HashMap::new() })
    }

    /// The last epoch `app_id` has published, if any.
    pub(super) fn published(&self, app_id: &str) -> Option<i64> {
        self.transactions.get(app_id).copied().flatten()
    }

    /// Takes in the next version.
    pub(super) fn follow(&mut self, name: &str, layout: &Layout, actions: &[Action]) -> Result<()> {
        let version = self.version + 1;
        let adds = actions.iter().filter_map(|action| if let Action::Add(add) = action { Some(add) } else { None });
        // All or nothing: a refused file leaves the state at the version before it.
        let added = adds.map(|add| {
            let entry = FileEntry {
                path: &add.path,
                partition_value: add.partition_values.get(layout.partition_name()).and_then(Option::as_deref),
                size: add.size,
                modified_ms: add.modification_time,
                stats: add.stats.as_deref(),
                deletion_vector: add.deletion_vector.is_some(),
            };
            DataFile::of(name, layout, version, &entry)
        });
        let added = added.collect::<Result<Vec<_>>>()?;
        for action in actions {
            match action {
                Action::Remove(remove) => {
                    self.files.remove(&remove.path);
                    self.removal = version;
                }
                Action::Txn(txn) => {
                    self.transactions.insert(txn.app_id.clone(), Some(txn.version));
                }
                _ => {}
            }
        }
        self.files.extend(added.into_iter().map(|file| (file.path.clone(), Arc::new(file))));
        self.version = version;
        Ok(())
    }

    /// The files of an older version, if they can be told without reading the log again.
    pub(super) fn files_at(&self, version: u64) -> Option<Vec<Arc<DataFile>>> {
        if version == self.version {
            return Some(self.files.values().cloned().collect());
        }
        let known = version >= self.loaded && self.removal <= version;
        known.then(|| self.files.values().filter(|file| file.version <= version).cloned().collect())
    }
}

/// A file as the log names it, in a commit or in a checkpoint.
struct FileEntry<'a> {
    path: &'a str,
    partition_value: Option<&'a str>,
    size: i64,
    modified_ms: i64,
    stats: Option<&'a str>,
    deletion_vector: bool,
}

impl DataFile {
    /// A file for tests of those who choose among files.
    #[cfg(test)]
    pub(crate) fn made(partition: i32, epoch: u64, bytes: u64) -> Self {
        let path = format!("d={partition:05}/part-{epoch:020}-x.snappy.parquet");
        let (modified_ms, version, ranges) = (0, 0, Vec::new());
        Self { path, partition, bytes, rows: None, epoch: Some(epoch), modified_ms, version, ranges }
    }

    /// A file that some log or slot names, live or not, of which nothing more is known.
    pub(super) fn named(
        table: &str,
        layout: &Layout,
        (path, partition_value, bytes): (&str, Option<&str>, u64),
    ) -> Result<Self> {
        let size = i64::try_from(bytes).unwrap_or(i64::MAX);
        let entry = FileEntry { path, partition_value, size, modified_ms: 0, stats: None, deletion_vector: false };
        Self::of(table, layout, 0, &entry)
    }

    fn of(table: &str, layout: &Layout, version: u64, entry: &FileEntry<'_>) -> Result<Self> {
        let path = entry.path;
        if entry.deletion_vector {
            return Err(Error::usage(format!(
                "table `{table}`: `{path}` has a deletion vector, which Spectrum cannot read; rewrite the file"
            )));
        }
        let (column, value) = (layout.partition_name(), entry.partition_value);
        let partition = value.and_then(ranges::parse_date).ok_or_else(|| {
            Error::broken(format!("table `{table}`: `{path}` has {value:?} for partition column `{column}`, no date"))
        })?;
        let bytes = u64::try_from(entry.size)
            .map_err(|_| Error::broken(format!("table `{table}`: `{path}` has the size {}", entry.size)))?;
        let known = ranges::read(&layout.schema, entry.stats);
        Ok(Self {
            path: path.to_owned(),
            partition,
            bytes,
            rows: known.rows,
            epoch: epoch_of(path),
            modified_ms: entry.modified_ms,
            version,
            ranges: known.ranges,
        })
    }
}

impl Commit {
    pub(super) fn of(version: u64, actions: Vec<Action>) -> Self {
        let mut commit = Self { version, transactions: Vec::new(), adds: Vec::new(), removed: Vec::new() };
        for action in actions {
            match action {
                Action::Add(add) => commit.adds.push(add),
                Action::Remove(remove) => commit.removed.push(remove.path),
                Action::Txn(txn) => commit.transactions.push((txn.app_id, txn.version)),
                _ => {}
            }
        }
        commit
    }
}

/// The epoch in the name of a file staged here: `…/part-<20 digits>-<uuid>.snappy.parquet`.
fn epoch_of(path: &str) -> Option<u64> {
    let digits = path.rsplit('/').next()?.strip_prefix("part-")?.split_once('-')?.0;
    (digits.len() == 20).then(|| digits.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_names_tell_an_epoch() {
        assert_eq!(epoch_of("event_date=2026-11-23/part-00000000000000000042-6b1f.snappy.parquet"), Some(42));
        assert_eq!(epoch_of("event_date=2026-11-23/part-00000-6b1f-c000.snappy.parquet"), None);
        assert_eq!(epoch_of("part-0000000000000000004x-1.parquet"), None);
    }
}
