//! How a table stands: its size, its small files, its log; from the log alone.
//!
//! It judges nothing (see `lint`) and changes nothing.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::Serialize;

use super::Table;
use super::state::DataFile;
use crate::error::Result;

/// How a table stands at its newest version.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TableStatus {
    pub table: Arc<str>,
    /// Rows of the live files, as far as the log says.
    pub rows: u64,
    pub bytes: u64,
    /// Live files.
    pub files: u64,
    /// Live files that are smaller than asked about, and their bytes.
    pub small_files: u64,
    pub small_bytes: u64,
    /// Partitions that have live files.
    pub partitions: u64,
    /// Partitions that have more than one small file.
    pub scattered_partitions: u64,
    pub version: u64,
    /// The version the newest checkpoint is of.
    pub last_checkpoint: Option<u64>,
    /// Commits a reader has to read one by one.
    pub commits_since_checkpoint: u64,
}

impl Table {
    /// How the table stands; a file of less than `small_bytes` is small.
    ///
    /// # Errors
    /// As [`Table::version`]; [`crate::Error::External`] for a `_last_checkpoint` that is none.
    pub async fn status(&self, small_bytes: u64) -> Result<TableStatus> {
        let (version, files) = self.log().files(None).await?;
        let last_checkpoint = self.last_checkpoint().await?;
        let mut status = TableStatus { table: self.name().into(), version, last_checkpoint, ..TableStatus::default() };
        status.count(&files, small_bytes);
        // Version 0 is a commit, too.
        status.commits_since_checkpoint = last_checkpoint.map_or(version + 1, |at| version.saturating_sub(at));
        Ok(status)
    }
}

impl TableStatus {
    fn count(&mut self, files: &[Arc<DataFile>], small_bytes: u64) {
        let (mut all, mut one_small, mut scattered) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for file in files {
            self.files += 1;
            self.rows += file.rows.unwrap_or(0);
            self.bytes += file.bytes;
            all.insert(file.partition);
            if file.bytes < small_bytes {
                self.small_files += 1;
                self.small_bytes += file.bytes;
                if !one_small.insert(file.partition) {
                    scattered.insert(file.partition);
                }
            }
        }
        (self.partitions, self.scattered_partitions) = (all.len() as u64, scattered.len() as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_table_tells_how_it_stands() {
        let (_folder, lake) = testing::lake();
        let table = Table::create_or_open(&lake, &testing::contract("payments")).await.unwrap();
        let empty = table.status(1).await.unwrap();
        assert_eq!(
            (empty.files, empty.version, empty.last_checkpoint, empty.commits_since_checkpoint),
            (0, 0, None, 1)
        );
        for epoch in 0..3 {
            let adds =
                table.stage(vec![testing::rows(if epoch == 2 { 5 } else { 10 }, epoch)], epoch).await.unwrap().adds;
            table.publish("app", epoch, &adds, &[]).await.unwrap();
            if epoch == 1 {
                table.checkpoint().await.unwrap();
            }
        }
        // The last epoch had no row after midnight.
        let status = table.status(u64::MAX).await.unwrap();
        assert_eq!((status.files, status.small_files, status.rows), (5, 5, 25));
        assert_eq!((status.partitions, status.scattered_partitions, status.small_bytes), (2, 2, status.bytes));
        assert_eq!((status.version, status.last_checkpoint, status.commits_since_checkpoint), (3, Some(2), 1));
        assert_eq!(table.status(1).await.unwrap().small_files, 0);
    }
}
