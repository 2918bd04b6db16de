//! A Delta log as its objects say: the newest checkpoint, and the commits after it.
//!
//! The one law: lines are read leniently – an action this code does not know is left out, one it cannot read is a finding –
//! because a linter that stops at the first oddity names only one. A checkpoint becomes the same JSON lines as commits.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::json::LineDelimitedWriter;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{Error as StoreError, ObjectStore, ObjectStoreExt};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde::Deserialize;

use super::layout::{LOG, Objects};
use super::{Linted, Rule};
use crate::error::{Context, Error, Result};

/// Commits read at once: enough to hide a store's latency, few enough not to be throttled.
const READS_MAX: usize = 16;

/// The property by which a table says how rows lie in its files.
const SORT_BY: &str = "lakeward.sortBy";

/// The newest state of a table.
#[derive(Debug, Default)]
pub(super) struct TableLog {
    pub version: u64,
    pub protocol: Protocol,
    pub columns: Vec<Column>,
    pub partition_by: Vec<String>,
    pub properties: BTreeMap<String, String>,
    /// Live files by object path below the table, decoded.
    pub files: BTreeMap<String, LiveFile>,
    pub applications: BTreeSet<String>,
    /// The checkpoint that was read, by version and objects.
    pub checkpoint: Option<(u64, Vec<Path>)>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Protocol {
    pub min_reader_version: u32,
    pub min_writer_version: u32,
    pub reader_features: Vec<String>,
    pub writer_features: Vec<String>,
}

/// A column as the schema's JSON has it: a type is a name or an object.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Column {
    pub name: String,
    #[serde(rename = "type")]
    pub data_type: serde_json::Value,
    pub nullable: bool,
    #[serde(default)]
    metadata: BTreeMap<String, serde_json::Value>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct LiveFile {
    pub bytes: u64,
    pub partition: BTreeMap<String, Option<String>>,
    pub rows: Option<u64>,
    /// Columns whose least and greatest value the log knows.
    pub ranges: BTreeSet<String>,
    /// Columns that hold nothing but NULL, as the log says: they have no range.
    pub empty: BTreeSet<String>,
    pub has_deletion_vector: bool,
    /// The path as written is no path below the table.
    pub is_absolute: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Line {
    add: Option<Add>,
    remove: Option<Remove>,
    meta_data: Option<Metadata>,
    protocol: Option<Protocol>,
    txn: Option<Txn>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Add {
    path: String,
    #[serde(default)]
    partition_values: BTreeMap<String, Option<String>>,
    #[serde(default)]
    size: i64,
    stats: Option<String>,
    deletion_vector: Option<serde_json::Value>,
}

#[derive(Debug, Deserialize)]
struct Remove {
    path: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    schema_string: String,
    #[serde(default)]
    partition_columns: Vec<String>,
    #[serde(default)]
    configuration: BTreeMap<String, Option<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Txn {
    app_id: String,
}

#[derive(Debug, Deserialize)]
struct TableSchema {
    fields: Vec<Column>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Stats {
    num_records: Option<u64>,
    min_values: BTreeMap<String, serde_json::Value>,
    max_values: BTreeMap<String, serde_json::Value>,
    null_count: BTreeMap<String, serde_json::Value>,
}

/// Replays the log of the table.
///
/// # Errors
/// As [`super::lint`].
pub(super) async fn read(
    store: &Arc<dyn ObjectStore>,
    objects: &Objects,
    name: &str,
    linted: &mut Linted,
) -> Result<TableLog> {
    let commits = objects.commits();
    let mut log = TableLog { checkpoint: objects.newest_checkpoint(), ..TableLog::default() };
    let Some(newest) = commits.last().copied().max(log.checkpoint.as_ref().map(|(version, _)| *version)) else {
        return Err(Error::usage(format!("`{name}` is no Delta table: it has no commit in `{LOG}`")));
    };
    log.version = newest;
    let mut next = 0;
    if let Some((version, parts)) = log.checkpoint.clone() {
        next = version + 1;
        for part in &parts {
            let doing = || format!("reading the checkpoint `{part}`");
            let bytes = store.get(part).await.context(doing)?.bytes().await.context(doing)?;
            if let Err(error) = log.take_checkpoint(bytes) {
                linted.find(Rule::Log, part.to_string(), format!("it cannot be read: {error}"));
            }
        }
    }
    for missing in (next..newest).filter(|version| commits.binary_search(version).is_err()) {
        linted.find(Rule::Log, commit_path(missing).to_string(), "the commit is missing, and later ones are there");
    }
    let mut reads = futures::stream::iter(commits.into_iter().filter(|version| *version >= next))
        .map(|version| async move {
            let path = commit_path(version);
            let doing = || format!("reading `{path}` of `{name}`");
            let bytes = store.get(&path).await.context(doing)?.bytes().await.context(doing)?;
            Ok::<_, Error>((path.to_string(), bytes))
        })
        .buffered(READS_MAX);
    while let Some((path, bytes)) = reads.try_next().await? {
        let mut actions = Vec::new();
        for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty()) {
            match serde_json::from_slice::<Line>(line) {
                Ok(action) => actions.push(action),
                Err(error) => linted.find(Rule::Log, path.clone(), format!("an action cannot be read: {error}")),
            }
        }
        // One commit may take a file out and add it again, with another deletion vector: in any order of its lines.
        actions.sort_by_key(|action| action.add.is_some());
        for action in actions {
            if let Err(error) = log.take(action) {
                linted.find(Rule::Log, path.clone(), format!("an action cannot be read: {error}"));
            }
        }
    }
    Ok(log)
}

/// Paths a commit added and took out, decoded; `None` where the log does not hold it, or it cannot be read.
///
/// # Errors
/// As [`super::lint`].
pub(super) async fn changes(store: &Arc<dyn ObjectStore>, version: u64) -> Result<Option<(Vec<String>, Vec<String>)>> {
    let path = commit_path(version);
    let doing = || format!("reading `{path}`");
    let bytes = match store.get(&path).await {
        Ok(found) => found.bytes().await.context(doing)?,
        Err(StoreError::NotFound { .. }) => return Ok(None),
        Err(error) => return Err(Error::external(doing(), error)),
    };
    let (mut added, mut removed) = (Vec::new(), Vec::new());
    for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty()) {
        let Ok(action) = serde_json::from_slice::<Line>(line) else { return Ok(None) };
        added.extend(action.add.map(|add| decoded(&add.path)));
        removed.extend(action.remove.map(|remove| decoded(&remove.path)));
    }
    Ok(Some((added, removed)))
}

/// The object of a commit.
pub(super) fn commit_path(version: u64) -> Path {
    Path::from(format!("{LOG}/{version:020}.json"))
}

impl Column {
    /// Its name in files and partition values: another one only where column mapping is on.
    pub(super) fn physical(&self) -> &str {
        let mapped = self.metadata.get("delta.columnMapping.physicalName");
        mapped.and_then(serde_json::Value::as_str).unwrap_or(&self.name)
    }
}

impl LiveFile {
    /// Its value of a partition column; `None` is NULL.
    pub(super) fn value(&self, log: &TableLog, column: &str) -> Option<&str> {
        let physical = log.column(column).map_or(column, Column::physical);
        self.partition.get(physical).or_else(|| self.partition.get(column))?.as_deref()
    }
}

impl TableLog {
    /// The declared column of a name.
    pub(super) fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// Columns that rows of a file are sorted by, as the table says; none of most writers' tables.
    pub(super) fn sort_by(&self) -> impl Iterator<Item = &str> {
        let order = self.properties.get(SORT_BY).map_or("", String::as_str);
        order.split(',').map(str::trim).filter(|column| !column.is_empty())
    }

    /// The folders that partition values stand for, as written in object keys before they are decoded: `k=v/…/`.
    pub(super) fn folder_of(&self, file: &LiveFile) -> String {
        let value = |column: &str| file.value(self, column).unwrap_or("__HIVE_DEFAULT_PARTITION__");
        self.partition_by.iter().map(|column| format!("{column}={}/", value(column))).collect()
    }

    fn take(&mut self, line: Line) -> serde_json::Result<()> {
        if let Some(metadata) = line.meta_data {
            self.columns = serde_json::from_str::<TableSchema>(&metadata.schema_string)?.fields;
            self.partition_by = metadata.partition_columns;
            self.properties =
                metadata.configuration.into_iter().filter_map(|(key, value)| Some((key, value?))).collect();
        }
        if let Some(protocol) = line.protocol {
            self.protocol = protocol;
        }
        if let Some(txn) = line.txn {
            self.applications.insert(txn.app_id);
        }
        if let Some(remove) = line.remove {
            self.files.remove(&decoded(&remove.path));
        }
        if let Some(add) = line.add {
            self.files.insert(decoded(&add.path), LiveFile::of(&add)?);
        }
        Ok(())
    }

    fn take_checkpoint(&mut self, bytes: Bytes) -> Result<()> {
        let doing = || "reading its rows";
        let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).context(doing)?;
        let columns = reader.parquet_schema();
        let wanted = (0..columns.num_columns()).filter(|&leaf| {
            let path = columns.column(leaf).path().string();
            ["add.", "protocol.", "metaData.", "txn."].iter().any(|root| path.starts_with(root))
                && !path.contains("_parsed")
        });
        let wanted = ProjectionMask::leaves(columns, wanted.collect::<Vec<_>>());
        for batch in reader.with_projection(wanted).build().context(doing)? {
            let mut lines = LineDelimitedWriter::new(Vec::new());
            lines.write(&batch.context(doing)?).context(doing)?;
            lines.finish().context(doing)?;
            for line in lines.into_inner().split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                self.take(serde_json::from_slice(line).context(doing)?).context(doing)?;
            }
        }
        Ok(())
    }
}

impl LiveFile {
    fn of(add: &Add) -> serde_json::Result<Self> {
        let stats: Stats = add.stats.as_deref().map(serde_json::from_str).transpose()?.unwrap_or_default();
        let greatest: BTreeSet<String> = stats.max_values.into_keys().collect();
        let empty = stats.null_count.into_iter().filter(|(_, nulls)| nulls.as_u64() == stats.num_records);
        Ok(Self {
            bytes: u64::try_from(add.size).unwrap_or(0),
            partition: add.partition_values.clone(),
            rows: stats.num_records,
            ranges: stats.min_values.into_keys().filter(|column| greatest.contains(column)).collect(),
            empty: empty.map(|(column, _)| column).collect(),
            has_deletion_vector: add.deletion_vector.is_some(),
            is_absolute: add.path.contains("://") || add.path.starts_with('/'),
        })
    }
}

/// A path of a log is URL-encoded; an object's key is what it stands for.
fn decoded(path: &str) -> String {
    Path::from_url_path(path).map_or_else(|_| path.to_owned(), |path| path.to_string())
}
