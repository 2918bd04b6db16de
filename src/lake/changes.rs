//! What commits did to a table's rows: files they brought and files they took out, rewriting left aside.
//!
//! The one law: it is what the actions say. A file written together from others is no change (`dataChange: false`), and a
//! commit that is gone is not guessed.

use std::collections::BTreeSet;

use deltalake::kernel::Action;
use futures::TryStreamExt;

use super::Table;
use crate::error::Result;

/// Commits looked through at most: a day at one in a minute and a half. Of more nobody asks; they are as good as gone.
const COMMITS_MAX: u64 = 1_000;
/// Commits read at once: enough to hide a store's latency, few enough not to be throttled.
const READS_AT_ONCE: usize = 8;

/// Changes of rows. A path may be in both: it came and went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Paths of files that brought rows.
    pub added: BTreeSet<String>,
    /// Paths of files that were taken out with their rows.
    pub removed: BTreeSet<String>,
}

impl Table {
    /// What the commits after version `from` did, up to version `to`; `None` if the log holds one of them no more, or if
    /// they are more than a thousand.
    ///
    /// # Errors
    /// [`crate::Error::External`] if the store does not answer.
    pub async fn changes(&self, from: u64, to: u64) -> Result<Option<Changes>> {
        if to.saturating_sub(from) > COMMITS_MAX {
            return Ok(None);
        }
        let reads: Vec<_> = (from + 1..=to).map(|version| self.log().actions(version)).collect();
        let mut commits = futures::StreamExt::buffered(futures::stream::iter(reads), READS_AT_ONCE);
        let mut changes = Changes::default();
        while let Some(actions) = commits.try_next().await? {
            let Some(actions) = actions else { return Ok(None) };
            for action in actions {
                match action {
                    Action::Add(add) if add.data_change => changes.added.insert(add.path),
                    Action::Remove(remove) if remove.data_change => changes.removed.insert(remove.path),
                    _ => continue,
                };
            }
        }
        Ok(Some(changes))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Compaction, spilling, testing};
    use super::*;

    #[tokio::test]
    async fn writing_files_together_changes_nothing() {
        let (folder, lake) = testing::lake();
        let table = Table::create_or_open(&lake, &testing::contract("payments")).await.unwrap();
        let mut paths = BTreeSet::new();
        for epoch in 0..2 {
            let adds = table.stage(vec![testing::rows(4, epoch)], epoch).await.unwrap().adds;
            table.publish("app", epoch, &adds, &[]).await.unwrap();
            paths.extend(adds.into_iter().map(|add| add.path));
        }
        let files = table.live_files().await.unwrap();
        let runtime = &spilling(64 << 20).unwrap();
        let compaction = Compaction { files: &files, epoch: 1, file_bytes: 1 << 20, runtime };
        let staged = table.stage_compaction(compaction).await.unwrap();
        table.publish("app", 2, &staged.adds, &staged.removes).await.unwrap();
        let all = Changes { added: paths, removed: BTreeSet::new() };
        assert_eq!(table.changes(0, 3).await.unwrap(), Some(all));
        assert_eq!(table.changes(2, 3).await.unwrap(), Some(Changes::default()));
        assert_eq!(table.changes(3, 3).await.unwrap(), Some(Changes::default()));
        std::fs::remove_file(folder.path().join(format!("payments/_delta_log/{:020}.json", 1))).unwrap();
        assert_eq!(table.changes(0, 3).await.unwrap(), None);
    }
}
