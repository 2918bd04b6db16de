//! Staging: rows become Parquet files that nothing refers to yet.
//!
//! The one law: when [`Table::stage`] returns, every byte of the files it names is in the store, under names never used
//! before. Whoever dies earlier leaves orphans, never half a table.
//!
//! Rows are split by partition, brought into the contract's order and encoded on the blocking pool, partitions in
//! parallel. The partition column is in the folder's name, not in the file (Delta's and Hive's convention).

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, Result as StoreResult};

use super::encode::{Encoded, Source, split};
use super::ranges::format_date;
use super::stats::FileStats;
use super::{Add, Remove, Table};
use crate::error::{Context, Error, Result};

/// Partitions encoded at once. Each holds one file in memory; live there are one or two.
const PARTITIONS_AT_ONCE: usize = 4;

/// A larger file is sent in parts of this size: large enough that a round trip costs little, and 256 MB are 16 parts (S3
/// allows 10,000, of 5 MB at least).
const PART_BYTES: usize = 16 << 20;
/// Parts of one file under way at once. They are slices of the encoded file, so they cost no memory of their own.
const PARTS_AT_ONCE: usize = 4;

/// Files in the store that no commit names yet.
#[derive(Clone, Debug, Default)]
pub struct Staged {
    /// One a file; this is what an epoch's slot holds.
    pub adds: Vec<Add>,
    /// Files these replace, of a replacement; the slot holds them, too.
    pub removes: Vec<Remove>,
    pub rows: u64,
    /// Of the files.
    pub bytes: u64,
}

impl Staged {
    /// Adds the files of another call.
    pub fn extend(&mut self, other: Self) {
        self.adds.extend(other.adds);
        self.removes.extend(other.removes);
        self.rows += other.rows;
        self.bytes += other.bytes;
    }
}

impl Table {
    /// Writes rows into new files of the table and waits until the store has them. Batches have the table's schema.
    ///
    /// # Errors
    /// [`Error::Broken`] for batches of another schema or a null or unwritable date in the partition column;
    /// [`Error::External`] if the store does not answer: stage again, the files written so far are orphans.
    pub async fn stage(&self, batches: Vec<RecordBatch>, epoch: u64) -> Result<Staged> {
        let layout = self.log().layout();
        let batches = batches.into_iter().filter(|batch| batch.num_rows() > 0);
        let batches: Vec<_> = batches.map(|batch| self.declared(&batch)).collect::<Result<_>>()?;
        let partitions = split(&batches, layout.partition);
        let columns = layout.file_columns();
        let files = batches.iter().map(|batch| batch.project(&columns)).collect::<Result<Vec<_>, _>>();
        let source = Arc::new(Source {
            rows: files.context(|| "cannot leave the partition column out of a batch")?,
            batches,
            layout: layout.clone(),
            schema: layout.file_schema()?,
        });
        let staged = partitions.into_iter().map(|(date, rows)| {
            let source = Arc::clone(&source);
            async move {
                let what = || format!("cannot encode rows of table `{}`", self.name());
                let encode = tokio::task::spawn_blocking(move || source.encode(rows));
                let mut adds = Vec::new();
                for file in encode.await.context(what)?? {
                    adds.push(self.put(date, epoch, file).await?);
                }
                Ok::<_, Error>(adds)
            }
        });
        let adds: Vec<_> = futures::stream::iter(staged).buffered(PARTITIONS_AT_ONCE).try_collect().await?;
        let mut staged = Staged::default();
        for (add, rows) in adds.into_iter().flatten() {
            staged.rows += rows;
            staged.bytes += u64::try_from(add.size).unwrap_or(0);
            staged.adds.push(add);
        }
        Ok(staged)
    }

    /// The batch under the table's own schema, which also proves that nothing NOT NULL is null.
    pub(super) fn declared(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let (schema, found) = (self.schema(), batch.schema());
        let same = schema.fields().len() == found.fields().len()
            && schema
                .fields()
                .iter()
                .zip(found.fields())
                .all(|(a, b)| a.name() == b.name() && a.data_type() == b.data_type());
        if !same {
            let list = |s: &SchemaRef| {
                s.fields().iter().map(|f| format!("{} {}", f.name(), f.data_type())).collect::<Vec<_>>().join(", ")
            };
            let (name, found, declared) = (self.name(), list(&found), list(&schema));
            return Err(Error::broken(format!("rows for table `{name}` are ({found}), its contract is ({declared})")));
        }
        RecordBatch::try_new(schema, batch.columns().to_vec())
            .map_err(|e| Error::broken(format!("rows for table `{}` break its contract: {e}", self.name())))
    }

    async fn put(&self, date: i32, epoch: u64, file: Encoded) -> Result<(Add, u64)> {
        let name = self.new_file(date, epoch)?;
        let (size, path) = (file.bytes.len() as u64, name.path.clone());
        upload(self.lake().root.as_ref(), &name.location, file.bytes.into())
            .await
            .context(|| format!("cannot write `{path}` of table `{}`", self.name()))?;
        Ok((self.add(name, size, &file.stats, true)?, file.stats.rows()))
    }

    /// A name never used before, in the folder of a date (days since 1970-01-01).
    pub(super) fn new_file(&self, date: i32, epoch: u64) -> Result<NewFile> {
        let column = self.partition_by();
        let date = format_date(date).ok_or_else(|| {
            Error::broken(format!("table `{}`: {date} days since 1970 in `{column}` is no date of a path", self.name()))
        })?;
        let path = format!("{column}={date}/part-{epoch:020}-{}.snappy.parquet", uuid::Uuid::new_v4());
        let location = path.split('/').fold(self.lake().table_path(self.name()), Path::join);
        Ok(NewFile { path, location, date })
    }

    /// The action that adds a file; `data_change` unless its rows were in the table before.
    pub(super) fn add(&self, file: NewFile, bytes: u64, stats: &FileStats, data_change: bool) -> Result<Add> {
        Ok(Add {
            path: file.path,
            partition_values: HashMap::from([(self.partition_by().to_owned(), Some(file.date))]),
            size: i64::try_from(bytes).context(|| "a file is larger than a Delta log can say")?,
            modification_time: self.lake().clock.now() / 1_000,
            data_change,
            stats: Some(stats.to_json()),
            tags: None,
            deletion_vector: None,
            base_row_id: None,
            default_row_commit_version: None,
            clustering_provider: None,
        })
    }
}

/// Writes one object under a name never used before, large ones in parts side by side.
pub(super) async fn upload(store: &dyn ObjectStore, location: &Path, file: Bytes) -> StoreResult<()> {
    if file.len() <= PART_BYTES {
        // The name is new, so overwriting can only repeat this very write; creating could fail on its own retry.
        return store.put(location, file.into()).await.map(drop);
    }
    let mut upload = store.put_multipart(location).await?;
    // Parts are slices: no byte is copied.
    let starts = (0..file.len()).step_by(PART_BYTES);
    let parts = starts.map(|start| file.slice(start..file.len().min(start + PART_BYTES)));
    let parts: Vec<_> = parts.map(|part| upload.put_part(part.into())).collect();
    let sent = futures::stream::iter(parts).buffer_unordered(PARTS_AT_ONCE).try_collect::<()>().await;
    let completed = match sent {
        Ok(()) => upload.complete().await,
        Err(error) => Err(error),
    };
    let Err(error) = completed else { return Ok(()) };
    // The answer of a completed upload may have been lost; S3 then knows no such upload any more.
    if store.head(location).await.is_ok_and(|found| found.size == file.len() as u64) {
        return Ok(());
    }
    // What it leaves is billed until a lifecycle rule of the bucket ends it; that it fails changes nothing.
    if let Err(error) = upload.abort().await {
        tracing::debug!(%location, %error, "an upload in parts was not ended");
    }
    Err(error)
}

/// Where a file will be.
#[derive(Clone, Debug)]
pub(super) struct NewFile {
    /// Relative to the table.
    pub(super) path: String,
    /// Inside the lake's store.
    pub(super) location: Path,
    /// Of its partition: `2026-11-23`.
    date: String,
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;
    use arrow::datatypes::{DataType, TimestampMicrosecondType};

    use super::super::testing;
    use super::*;

    async fn table() -> (tempfile::TempDir, Table) {
        let (folder, lake) = testing::lake();
        let table = Table::create_or_open(&lake, &testing::contract("payments")).await.unwrap();
        (folder, table)
    }

    #[tokio::test]
    async fn each_partition_gets_one_sorted_file_without_the_partition_column() {
        let (folder, table) = table().await;
        // Two batches whose times overlap; the first seconds lie before midnight.
        let staged = table.stage(vec![testing::rows(50, 0), testing::rows(50, 1)], 3).await.unwrap();
        assert_eq!((staged.adds.len(), staged.rows), (2, 100));
        let mut rows = 0;
        for (add, date) in staged.adds.iter().zip(["2026-11-22", "2026-11-23"]) {
            let start = format!("event_date={date}/part-00000000000000000003-");
            assert!(add.path.starts_with(&start) && add.path.ends_with(".snappy.parquet"), "{}", add.path);
            assert_eq!(add.partition_values["event_date"].as_deref(), Some(date));
            assert_eq!(add.modification_time, testing::NOW / 1_000);
            let batch = testing::read_file(&folder.path().join("payments").join(&add.path));
            assert!(batch.column_by_name("event_date").is_none());
            let times = batch.column_by_name("event_time").unwrap().as_primitive::<TimestampMicrosecondType>();
            assert!(times.values().is_sorted());
            rows += batch.num_rows();
        }
        assert_eq!(rows, 100);
        let on_disk: u64 = staged
            .adds
            .iter()
            .map(|add| std::fs::metadata(folder.path().join("payments").join(&add.path)).unwrap().len())
            .sum();
        assert_eq!(staged.bytes, on_disk);
    }

    #[tokio::test]
    async fn the_add_tells_the_bounds_and_survives_a_slot() {
        let (_folder, table) = table().await;
        let staged = table.stage(vec![testing::rows(100, 0)], 0).await.unwrap();
        let stats: serde_json::Value = serde_json::from_str(staged.adds[0].stats.as_deref().unwrap()).unwrap();
        // Before midnight: 2026-11-22T23:59:55Z to 23:59:59Z.
        assert_eq!(stats["numRecords"], 5);
        assert_eq!(stats["minValues"]["event_time"], "2026-11-22T23:59:55.000Z");
        assert_eq!(stats["maxValues"]["event_time"], "2026-11-22T23:59:59.000Z");
        assert_eq!(stats["nullCount"]["note"], 5);
        assert!(stats["minValues"].get("event_date").is_none() && stats["nullCount"].get("event_date").is_none());
        for add in &staged.adds {
            let json = serde_json::to_string(add).unwrap();
            let back: Add = serde_json::from_str(&json).unwrap();
            assert_eq!(format!("{add:?}"), format!("{back:?}"));
            assert_eq!(serde_json::to_string(&back).unwrap(), json);
        }
    }

    #[tokio::test]
    async fn rows_that_break_the_contract_are_refused() {
        let (_folder, table) = table().await;
        let batch = testing::rows(10, 0);
        let without = batch.project(&[0, 1, 2]).unwrap();
        let error = table.stage(vec![without], 0).await.unwrap_err();
        assert!(matches!(&error, Error::Broken(m) if m.contains("its contract is")), "{error}");
        let mut columns = batch.columns().to_vec();
        columns[0] = arrow::array::new_null_array(columns[0].data_type(), 10);
        let fields: Vec<_> = batch.schema().fields().iter().map(|f| f.as_ref().clone().with_nullable(true)).collect();
        let nulls = RecordBatch::try_new(Arc::new(arrow::datatypes::Schema::new(fields)), columns).unwrap();
        let error = table.stage(vec![nulls], 0).await.unwrap_err();
        assert!(matches!(&error, Error::Broken(m) if m.contains("event_time")), "{error}");
        assert_eq!(batch.schema().field(1).data_type(), &DataType::Date32);
    }

    #[tokio::test]
    async fn a_large_file_arrives_in_parts_byte_for_byte() {
        let (folder, lake) = testing::lake();
        let file: Bytes = (0..PART_BYTES * 2 + 12_345).map(|at| u8::try_from(at % 251).unwrap()).collect();
        let location = lake.table_path("payments").join("large");
        upload(lake.root.as_ref(), &location, file.clone()).await.unwrap();
        assert_eq!(std::fs::read(folder.path().join("payments/large")).unwrap(), file);
    }

    #[tokio::test]
    async fn no_rows_are_no_files() {
        let (_folder, table) = table().await;
        let staged = table.stage(vec![testing::rows(0, 0)], 0).await.unwrap();
        assert_eq!((staged.adds.len(), staged.rows, staged.bytes), (0, 0, 0));
    }
}
