//! Where a table's objects lie, and what they are called.
//!
//! The one law: the store is listed once; whatever is said about names and folders is said from that list.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::NaiveDate;
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore};

use super::log::{Column, LiveFile, TableLog};
use super::{Linted, Rule};
use crate::clock::Micros;
use crate::error::{Context, Result};

/// Folder of a table's log.
pub(super) const LOG: &str = "_delta_log";

/// Files of one closed partition that may be small: a few late ones after its compaction.
const SMALL_FILES_MAX: usize = 8;

/// Dates before the newest that may still be written, in days: one whose windows are open stays in small files, and windows
/// reach over a day and a half before anybody calls them long.
const OPEN_DAYS: i64 = 2;

/// Bytes below which a file is small: a sixth of what compaction aims at, where requests begin to cost more than bytes.
const SMALL_FILE_BYTES: u64 = 32 << 20;

/// Partitions above which a catalogue's listing takes longer than most queries.
const PARTITIONS_MAX: usize = 20_000;

/// Commits a reader may have to replay: twice the longest distance between two checkpoints that Delta's writers keep.
const COMMITS_MAX: u64 = 100;

/// Every object below a table.
#[derive(Debug, Default)]
pub(super) struct Objects(BTreeMap<Path, Object>);

/// What a listing says of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Object {
    bytes: u64,
    /// When it was written, microseconds.
    written: Micros,
    e_tag: Option<String>,
}

impl From<&ObjectMeta> for Object {
    fn from(listed: &ObjectMeta) -> Self {
        let written = listed.last_modified.timestamp_micros();
        Self { bytes: listed.size, written, e_tag: listed.e_tag.clone() }
    }
}

/// Lists a table's folder.
///
/// # Errors
/// [`Error::External`] when the store does not answer.
///
/// [`Error::External`]: crate::error::Error::External
pub(super) async fn list(store: &Arc<dyn ObjectStore>, name: &str) -> Result<Objects> {
    let listed: Vec<_> = store.list(None).try_collect().await.context(|| format!("listing the table `{name}`"))?;
    Ok(Objects(listed.into_iter().map(|object| (object.location.clone(), Object::from(&object))).collect()))
}

impl Objects {
    pub(super) fn size(&self, path: &str) -> Option<u64> {
        self.0.get(&Path::from(path)).or_else(|| self.0.get(&Path::parse(path).ok()?)).map(|object| object.bytes)
    }

    /// When an object was written, microseconds.
    pub(super) fn written(&self, path: &Path) -> Option<Micros> {
        self.0.get(path).map(|object| object.written)
    }

    /// Whether somebody has written below these folders since.
    ///
    /// # Errors
    /// [`Error::External`] when the store does not answer.
    ///
    /// [`Error::External`]: crate::error::Error::External
    pub(super) async fn have_changed(&self, store: &Arc<dyn ObjectStore>, folders: &[&str]) -> Result<bool> {
        for folder in folders {
            let listed = store.list(Some(&Path::from(*folder))).try_collect::<Vec<_>>().await;
            let listed = listed.context(|| format!("listing `{folder}`"))?;
            let is_new = |object: &ObjectMeta| self.0.get(&object.location) != Some(&Object::from(object));
            if listed.iter().any(is_new) || listed.len() != self.below(folder).count() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    pub(super) fn has(&self, path: &Path) -> bool {
        self.0.contains_key(path)
    }

    /// Objects below a folder.
    pub(super) fn below<'a>(&'a self, folder: &'a str) -> impl Iterator<Item = &'a Path> + 'a {
        self.0.keys().filter(move |path| path.as_ref().strip_prefix(folder).is_some_and(|rest| rest.starts_with('/')))
    }

    /// Versions of all commits, in order.
    pub(super) fn commits(&self) -> Vec<u64> {
        let name = |path: &Path| path.filename().and_then(|name| name.strip_suffix(".json")).map(str::to_owned);
        self.below(LOG).filter_map(name).filter(|name| name.len() == 20).filter_map(|name| name.parse().ok()).collect()
    }

    /// Objects that call themselves checkpoints, by version.
    pub(super) fn checkpoints(&self) -> BTreeMap<u64, Vec<Path>> {
        let mut found: BTreeMap<u64, Vec<Path>> = BTreeMap::new();
        for path in self.below(LOG) {
            let parts = path.filename().and_then(|name| name.split_once('.'));
            if let Some((version, rest)) = parts
                && rest.starts_with("checkpoint.")
                && rest.ends_with(".parquet")
                && let Ok(version) = version.parse()
            {
                found.entry(version).or_default().push(path.clone());
            }
        }
        found
    }

    /// The newest checkpoint all of whose parts are there.
    pub(super) fn newest_checkpoint(&self) -> Option<(u64, Vec<Path>)> {
        self.checkpoints().into_iter().rev().find(|(_, parts)| {
            let counted = parts.first().and_then(part_count).unwrap_or(1);
            parts.len() as u64 >= counted
        })
    }
}

/// Of how many parts a checkpoint's name says it is: `<version>.checkpoint.<part>.<parts>.parquet`.
pub(super) fn part_count(path: &Path) -> Option<u64> {
    let name = path.filename()?.strip_suffix(".parquet")?;
    let mut words = name.split('.').skip(2);
    words.next()?;
    words.next()?.parse().ok()
}

/// Judges names, folders, partitions and sizes.
pub(super) fn check(log: &TableLog, objects: &Objects, name: &str, linted: &mut Linted) {
    if name.is_empty() || !name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_') {
        linted.find(Rule::TableName, name, "the folder's name holds other characters than a-z, 0-9 and `_`");
    }
    nested_tables(objects, linted);
    junk(log, objects, linted);
    for (path, file) in &log.files {
        placed(log, path, file, linted);
    }
    partitions(log, linted);
    let since = log.version - log.checkpoint.as_ref().map_or(0, |(version, _)| *version);
    if since > COMMITS_MAX {
        linted.find(Rule::CheckpointDue, LOG, format!("{since} commits since the last checkpoint"));
    }
}

fn nested_tables(objects: &Objects, linted: &mut Linted) {
    let inner = objects.0.keys().filter_map(|path| {
        let (outer, _) = path.as_ref().split_once(&format!("/{LOG}/"))?;
        Some(outer.to_owned())
    });
    for inner in inner.collect::<std::collections::BTreeSet<_>>() {
        linted.find(Rule::NestedTable, inner, "another table's log lies in this table");
    }
}

/// Objects that are no data of this table and do not hide their names. Data files no longer or never named by the log are
/// vacuum's business.
fn junk(log: &TableLog, objects: &Objects, linted: &mut Linted) {
    let first = log.partition_by.first();
    for path in objects.0.keys() {
        let text = path.as_ref();
        let hidden = text.split('/').any(|part| part.starts_with(['_', '.']));
        let is_parquet = text.ends_with(".parquet");
        let in_partition = match first {
            Some(column) => text.strip_prefix(column.as_str()).is_some_and(|rest| rest.starts_with('=')),
            None => !text.contains('/'),
        };
        let is_data = is_parquet && in_partition;
        if !(hidden || is_data || log.files.contains_key(text)) {
            linted.find(Rule::Junk, text, "it is no data file in a partition's folder");
        }
    }
}

fn placed(log: &TableLog, path: &str, file: &LiveFile, linted: &mut Linted) {
    if file.is_absolute {
        linted.find(Rule::Folder, path, "the log names it by an absolute path");
        return;
    }
    let mut is_plain = true;
    for column in &log.partition_by {
        let problem = match file.value(log, column) {
            None => format!("`{column}` is NULL"),
            Some(value) if value.is_empty() || !value.chars().all(is_plain_letter) => {
                format!("`{column}` is `{value}`")
            }
            Some(_) => continue,
        };
        is_plain = false;
        linted.find(Rule::PartitionValue, path, problem);
    }
    let folder = log.folder_of(file);
    let actual = path.rsplit_once('/').map_or(String::new(), |(folder, _)| format!("{folder}/"));
    if is_plain && actual != folder {
        linted.find(Rule::Folder, path, format!("its partition's folder is `{folder}`"));
    }
    if file.has_deletion_vector {
        linted.find(Rule::DeletionVector, path, "rows of it are deleted by a side file");
    }
    if file.rows.is_none() || (file.ranges.is_empty() && file.rows != Some(0) && has_ranges(log, file)) {
        let what = if file.rows.is_none() { "how many rows it holds" } else { "the range of any column" };
        linted.find(Rule::LogStatistics, path, format!("the log does not say {what}"));
    }
}

/// Whether some column of a file has a least and a greatest value: not those that hold only NULL, flags, bytes and nested ones.
fn has_ranges(log: &TableLog, file: &LiveFile) -> bool {
    let ordered = |column: &Column| column.data_type.as_str().is_some_and(|t| t != "boolean" && t != "binary");
    let inside = log.columns.iter().filter(|column| !log.partition_by.contains(&column.name));
    inside.filter(|column| ordered(column)).any(|column| !file.empty.contains(&column.name))
}

/// Letters that object keys and catalogues write alike.
fn is_plain_letter(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || "_.-".contains(letter)
}

fn partitions(log: &TableLog, linted: &mut Linted) {
    for name in &log.partition_by {
        let data_type = log.column(name).map(|column| column.data_type.as_str().unwrap_or("nested").to_owned());
        match data_type {
            None => linted.find(Rule::Log, LOG, format!("the partition column `{name}` is not in the schema")),
            Some(t) if ["date", "string", "integer", "long", "short"].contains(&t.as_str()) => {}
            Some(other) => linted.find(Rule::PartitionColumn, name.as_str(), format!("it is of type {other}")),
        }
    }
    let mut small: BTreeMap<String, (usize, u64)> = BTreeMap::new();
    for file in log.files.values() {
        let counts = small.entry(log.folder_of(file)).or_default();
        if file.bytes < SMALL_FILE_BYTES {
            *counts = (counts.0 + 1, counts.1 + file.bytes);
        }
    }
    if small.len() > PARTITIONS_MAX {
        linted.find(Rule::PartitionColumn, log.partition_by.join(", "), format!("{} partitions", small.len()));
    }
    // The newest partition is still being written; compaction takes closed ones.
    let newest = if log.partition_by.is_empty() { None } else { small.keys().next_back().cloned() };
    let is_open = |folder: &String| match (date_of(folder), newest.as_ref().and_then(|newest| date_of(newest))) {
        (Some(date), Some(newest)) => (newest - date).num_days() <= OPEN_DAYS,
        _ => Some(folder) == newest.as_ref(),
    };
    for (folder, (count, bytes)) in small {
        if !is_open(&folder) && count > SMALL_FILES_MAX {
            let average = bytesize::ByteSize::b(bytes / count as u64);
            linted.find(Rule::SmallFiles, folder, format!("{count} files of {average} on average"));
        }
    }
}

/// The date of a partition's folder, `d=2026-11-23/`, if it is one of a date alone.
fn date_of(folder: &str) -> Option<NaiveDate> {
    let (_, date) = folder.strip_suffix('/')?.split_once('=')?;
    date.parse().ok()
}
