//! Checkpoints of a table's log, and the facts about them that decide whether Athena can read the table.
//!
//! The one law: a checkpoint is made off the critical path and is looked at before anybody else can. Its rows are those of
//! Delta's own kernel; its file is ours, as the lake contract wants every file. The log itself is never cleaned here.

use std::sync::Arc;

use arrow::array::RecordBatch;
use bytes::Bytes;
use delta_kernel::checkpoint::{CheckpointWriter, LastCheckpointHintStats};
use delta_kernel::engine::arrow_data::EngineDataArrowExt;
use delta_kernel::{DeltaResult, Engine, Snapshot};
use deltalake::logstore::LogStoreRef;
use object_store::path::Path;
use object_store::{Error as StoreError, ObjectStoreExt};
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::metadata::{ParquetMetaDataReader, RowGroupMetaData};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};
use serde::Deserialize;

use super::stage::upload;
use super::{LOG_FOLDER, Table};
use crate::error::{Context, Error, Result};

/// What `_last_checkpoint` says; `parts` must be absent.
#[derive(Deserialize)]
struct LastCheckpoint {
    version: u64,
    parts: Option<serde_json::Value>,
}

/// A checkpoint that nobody sees yet.
struct Draft {
    engine: Arc<dyn Engine>,
    writer: CheckpointWriter,
    stats: LastCheckpointHintStats,
    file: Bytes,
}

impl Table {
    /// Writes a checkpoint at the newest version, unless there is one, and returns that version. Takes time and memory in
    /// proportion to the number of live files.
    ///
    /// # Errors
    /// [`Error::Broken`] if what was made would stop Athena from reading the table; [`Error::External`] when the store does
    /// not answer.
    pub async fn checkpoint(&self) -> Result<u64> {
        let what = || format!("cannot checkpoint table `{}`", self.name());
        let version = self.version().await?;
        if self.last_checkpoint().await? < Some(version) {
            let log = self.log().delta().clone();
            // The replay computes and blocks; a worker of the runtime would stand still.
            let draft = tokio::task::spawn_blocking(move || draft(&log, version));
            let draft = draft.await.context(what)?.context(what)?;
            self.check_draft(version, &draft.file)?;
            let path = Path::from_iter([LOG_FOLDER, &format!("{version:020}.checkpoint.parquet")]);
            let location = path.parts().fold(self.lake().table_path(self.name()), Path::join);
            upload(self.lake().root.as_ref(), &location, draft.file.clone()).await.context(what)?;
            let told = tokio::task::spawn_blocking(move || draft.writer.finalize(draft.engine.as_ref(), &draft.stats));
            told.await.context(what)?.context(what)?;
        }
        self.check_hint(version).await?;
        Ok(version)
    }

    /// The version of the newest checkpoint, as `_last_checkpoint` says; `None` before the first.
    ///
    /// # Errors
    /// [`Error::External`] if the store does not answer or what it holds is no such object.
    pub async fn last_checkpoint(&self) -> Result<Option<u64>> {
        let what = || format!("cannot read `_last_checkpoint` of table `{}`", self.name());
        let path = Path::from_iter([LOG_FOLDER, "_last_checkpoint"]);
        let found = match self.log().delta().object_store(None).get(&path).await {
            Ok(found) => found.bytes().await.context(what)?,
            Err(StoreError::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(Error::external(what(), error)),
        };
        Ok(Some(serde_json::from_slice::<LastCheckpoint>(&found).context(what)?.version))
    }

    /// Trino, and so Athena, refuses a table whose checkpoint has a column without column index.
    fn check_draft(&self, version: u64, file: &Bytes) -> Result<()> {
        let what = || format!("the checkpoint of version {version} of table `{}` is unreadable", self.name());
        match column_without_index(file).context(what)? {
            None => Ok(()),
            Some(column) => Err(Error::broken(format!(
                "table `{}`: Athena could not read it after a checkpoint of version {version}, whose column `{column}` has \
                 no column or offset index; none was written",
                self.name()
            ))),
        }
    }

    /// As it does one whose `_last_checkpoint` names `parts` of a single file.
    async fn check_hint(&self, version: u64) -> Result<()> {
        let last: LastCheckpoint = serde_json::from_slice(&self.log_object("_last_checkpoint").await?)
            .context(|| format!("`_last_checkpoint` of table `{}` is no JSON of a checkpoint", self.name()))?;
        let wrong = if last.version < version {
            format!("`_last_checkpoint` names version {}", last.version)
        } else if last.parts.is_some() {
            "`_last_checkpoint` holds `parts`".to_owned()
        } else {
            return Ok(());
        };
        Err(Error::broken(format!(
            "table `{}`: Athena could not read it after the checkpoint of version {version}: {wrong}; remove that checkpoint \
             and `_last_checkpoint` while the commits before it are still there",
            self.name()
        )))
    }

    async fn log_object(&self, name: &str) -> Result<Bytes> {
        let what = || format!("cannot read `{name}` of table `{}`", self.name());
        let path = Path::from_iter([LOG_FOLDER, name]);
        let found = self.log().delta().object_store(None).get(&path).await.context(what)?;
        found.bytes().await.context(what)
    }
}

/// The checkpoint of a version, as one file in memory.
fn draft(log: &LogStoreRef, version: u64) -> DeltaResult<Draft> {
    let engine = log.engine(None);
    let snapshot = Snapshot::builder_for(log.root_url().clone()).at_version(version).build(engine.as_ref())?;
    let writer = snapshot.create_checkpoint_writer(engine.as_ref())?;
    let mut actions = writer.checkpoint_data(engine.as_ref())?;
    let state = actions.state();
    let mut open: Option<ArrowWriter<Vec<u8>>> = None;
    for batch in actions.by_ref() {
        let rows: RecordBatch = batch?.apply_selection_vector()?.try_into_record_batch()?;
        let file = match &mut open {
            Some(file) => file,
            None => open.insert(ArrowWriter::try_new(Vec::new(), rows.schema(), Some(properties()))?),
        };
        file.write(&rows)?;
    }
    drop(actions);
    let none = || delta_kernel::Error::CheckpointWrite("the log holds no action".to_owned());
    let file = open.ok_or_else(none)?.into_inner()?;
    let state = Arc::into_inner(state).ok_or_else(none)?;
    let stats = LastCheckpointHintStats::from_reconciliation_state(state, file.len() as u64, 0)?;
    Ok(Draft { engine, writer, stats, file: file.into() })
}

/// Those of every file of the lake: deltalake writes checkpoints without compression, five times as long.
fn properties() -> WriterProperties {
    WriterProperties::builder()
        .set_writer_version(WriterVersion::PARQUET_1_0)
        .set_compression(Compression::SNAPPY)
        .set_statistics_enabled(EnabledStatistics::Page)
        .build()
}

/// The first column of a Parquet file that lacks a column or an offset index.
fn column_without_index(file: &Bytes) -> parquet::errors::Result<Option<String>> {
    let metadata = ParquetMetaDataReader::new().parse_and_finish(file)?;
    let mut columns = metadata.row_groups().iter().flat_map(RowGroupMetaData::columns);
    let without = columns.find(|c| c.column_index_offset().is_none() || c.offset_index_offset().is_none());
    Ok(without.map(|column| column.column_path().string()))
}

#[cfg(test)]
mod tests {
    use parquet::arrow::ArrowWriter;
    use parquet::file::properties::{EnabledStatistics, WriterProperties};

    use super::super::{Publish, testing};
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_table_reads_the_same_after_a_checkpoint() {
        let (folder, lake) = testing::lake();
        let contract = testing::contract("payments");
        let table = Table::create_or_open(&lake, &contract).await.unwrap();
        for epoch in 0..3 {
            let adds = table.stage(vec![testing::rows(10, epoch)], epoch).await.unwrap().adds;
            table.publish("app", epoch, &adds, &[]).await.unwrap();
        }
        assert_eq!(table.checkpoint().await.unwrap(), 3);
        let before = testing::read(&lake, &table, None).await;
        // The commits before the checkpoint are gone one day; reading must not need them.
        for version in 0..3 {
            std::fs::remove_file(folder.path().join(format!("payments/_delta_log/{version:020}.json"))).unwrap();
        }
        let reopened = Table::create_or_open(&lake, &contract).await.unwrap();
        assert_eq!(testing::read(&lake, &reopened, None).await, before);
        assert_eq!(reopened.txn_version("app").await.unwrap(), Some(2));
        assert_eq!(reopened.live_files().await.unwrap().len(), table.live_files().await.unwrap().len());
        let adds = reopened.stage(vec![testing::rows(10, 3)], 3).await.unwrap().adds;
        assert_eq!(reopened.publish("app", 2, &adds, &[]).await.unwrap(), Publish::AlreadyThere);
        assert_eq!(reopened.publish("app", 3, &adds, &[]).await.unwrap(), Publish::Committed(4));
        assert_eq!(testing::read(&lake, &reopened, None).await.num_rows(), 40);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_checkpoint_is_compressed_as_all_files_are_and_told_as_long_as_it_is() {
        let (folder, lake) = testing::lake();
        let table = Table::create_or_open(&lake, &testing::contract("payments")).await.unwrap();
        for epoch in 0..40 {
            let adds = table.stage(vec![testing::rows(10, epoch)], epoch).await.unwrap().adds;
            table.publish("app", epoch, &adds, &[]).await.unwrap();
        }
        // Again: the one that is there stays.
        assert_eq!((table.checkpoint().await.unwrap(), table.checkpoint().await.unwrap()), (40, 40));
        let log = folder.path().join("payments/_delta_log");
        let file = Bytes::from(std::fs::read(log.join(format!("{:020}.checkpoint.parquet", 40))).unwrap());
        let metadata = ParquetMetaDataReader::new().parse_and_finish(&file).unwrap();
        let columns: Vec<_> = metadata.row_groups().iter().flat_map(RowGroupMetaData::columns).collect();
        assert!(columns.iter().all(|column| column.compression() == Compression::SNAPPY), "{columns:?}");
        let plain: i64 = metadata.row_groups().iter().map(RowGroupMetaData::total_byte_size).sum();
        assert!(plain > 2 * i64::try_from(file.len()).unwrap(), "{plain} bytes, {} compressed", file.len());
        let last = std::fs::read(log.join("_last_checkpoint")).unwrap();
        let last: serde_json::Value = serde_json::from_slice(&last).unwrap();
        assert_eq!((&last["version"], &last["sizeInBytes"]), (&40.into(), &file.len().into()), "{last}");
    }

    #[test]
    fn a_column_without_index_is_found() {
        let batch = testing::rows(10, 0);
        for (statistics, found) in [(EnabledStatistics::Page, false), (EnabledStatistics::None, true)] {
            let properties = WriterProperties::builder().set_statistics_enabled(statistics).build();
            let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties)).unwrap();
            writer.write(&batch).unwrap();
            let file = Bytes::from(writer.into_inner().unwrap());
            assert_eq!(column_without_index(&file).unwrap().is_some(), found);
        }
    }
}
