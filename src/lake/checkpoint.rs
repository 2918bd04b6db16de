//! Checkpoints of a table's log, and the two facts about them that decide whether Athena can read the table.
//!
//! The one law: a checkpoint is made off the critical path and is then looked at, not trusted. The log itself is never
//! cleaned here.

use bytes::Bytes;
use deltalake::DeltaTable;
use deltalake::checkpoints::create_checkpoint;
use object_store::ObjectStoreExt;
use object_store::path::Path;
use parquet::file::metadata::{ParquetMetaDataReader, RowGroupMetaData};
use serde::Deserialize;

use super::{LOG_FOLDER, Table};
use crate::error::{Context, Error, Result};

/// What `_last_checkpoint` says; `parts` must be absent.
#[derive(Deserialize)]
struct LastCheckpoint {
    version: u64,
    parts: Option<serde_json::Value>,
}

impl Table {
    /// Writes a checkpoint at the newest version and returns that version. Takes time and memory in proportion to the
    /// number of live files.
    ///
    /// # Errors
    /// [`Error::Broken`] if what was written would stop Athena from reading the table; its message says what to remove.
    pub async fn checkpoint(&self) -> Result<u64> {
        let what = || format!("cannot checkpoint table `{}`", self.name());
        let version = self.version().await?;
        let mut table = DeltaTable::new(self.log().delta().clone());
        table.state = Some(self.log().load(Some(version)).await?);
        let runtime = tokio::runtime::Handle::current();
        // Its replay computes and blocks; a worker of the runtime would stand still.
        tokio::task::spawn_blocking(move || runtime.block_on(create_checkpoint(&table, None)))
            .await
            .context(what)?
            .context(what)?;
        self.check_checkpoint(version).await?;
        Ok(version)
    }

    /// The version the newest checkpoint is of, as `_last_checkpoint` says; `None` without one.
    pub(super) async fn last_checkpoint(&self) -> Result<Option<u64>> {
        let path = Path::from_iter([LOG_FOLDER, "_last_checkpoint"]);
        match self.log().delta().object_store(None).head(&path).await {
            Ok(_) => {}
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(error) => {
                return Err(Error::external(format!("cannot look for checkpoints of `{}`", self.name()), error));
            }
        }
        let last: LastCheckpoint = serde_json::from_slice(&self.log_object("_last_checkpoint").await?)
            .context(|| format!("`_last_checkpoint` of table `{}` is no JSON of a checkpoint", self.name()))?;
        Ok(Some(last.version))
    }

    /// Trino, and so Athena, refuses a table whose `_last_checkpoint` names `parts` of a single file, and one whose
    /// checkpoint has a column without column index.
    async fn check_checkpoint(&self, version: u64) -> Result<()> {
        let last: LastCheckpoint = serde_json::from_slice(&self.log_object("_last_checkpoint").await?)
            .context(|| format!("`_last_checkpoint` of table `{}` is no JSON of a checkpoint", self.name()))?;
        let file = format!("{version:020}.checkpoint.parquet");
        let wrong = if last.version < version {
            format!("`_last_checkpoint` names version {}", last.version)
        } else if last.parts.is_some() {
            "`_last_checkpoint` holds `parts`".to_owned()
        } else if let Some(column) = column_without_index(&self.log_object(&file).await?)
            .context(|| format!("checkpoint `{file}` of table `{}` is unreadable", self.name()))?
        {
            format!("column `{column}` has no column or offset index")
        } else {
            return Ok(());
        };
        Err(Error::broken(format!(
            "table `{}`: Athena could not read it after checkpoint `{file}`: {wrong}; remove that file and \
             `_last_checkpoint` while the commits before it are still there",
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
