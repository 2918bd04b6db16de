//! Deleting a table: its log, and then its files.
//!
//! The one law: it decides nothing; whoever calls has made sure that nobody needs the table any more. The log goes first,
//! newest version first, so that while there is a log its versions name files that are there.

use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{Error as StoreError, ObjectMeta, ObjectStoreExt};
use serde::Serialize;

use super::{LOG_FOLDER, Lake};
use crate::error::{Context, Error, Result};

/// Objects deleted at once.
const DELETIONS_AT_ONCE: usize = 16;

/// What was deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Deleted {
    pub objects: u64,
    pub bytes: u64,
}

impl Lake {
    /// Deletes a folder of a table of this lake: `_symlink_format_manifest`, for one. What is gone already is fine.
    ///
    /// # Errors
    /// [`Error::External`] when the store does not answer; call again.
    pub async fn delete_in_table(&self, table: &str, folder: &str) -> Result<Deleted> {
        self.delete(self.listed(&Path::from_iter([table, folder])).await?, DELETIONS_AT_ONCE).await
    }

    /// Deletes a table and all that lies in its folder. What is gone already is fine.
    ///
    /// # Errors
    /// [`Error::External`] when the store does not answer; call again.
    pub async fn delete_table(&self, table: &str) -> Result<Deleted> {
        let mut log = self.listed(&Path::from_iter([table, LOG_FOLDER])).await?;
        // Names begin with the version, but for `_last_checkpoint`, which leads to one and sorts behind all digits.
        log.sort_unstable_by(|a, b| b.location.cmp(&a.location));
        let log = self.delete(log, 1).await?;
        let rest = self.delete(self.listed(&Path::from(table)).await?, DELETIONS_AT_ONCE).await?;
        if let Some(folder) = &self.folder {
            let folder = folder.join(table);
            match std::fs::remove_dir_all(&folder) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::external(format!("deleting `{}`", folder.display()), error));
                }
                _ => {}
            }
        }
        Ok(Deleted { objects: log.objects + rest.objects, bytes: log.bytes + rest.bytes })
    }

    async fn listed(&self, folder: &Path) -> Result<Vec<ObjectMeta>> {
        let store = self.store();
        let listed: std::result::Result<Vec<ObjectMeta>, StoreError> = store.list(Some(folder)).try_collect().await;
        listed.context(|| format!("listing `{folder}`"))
    }

    /// In this order, so many at once.
    async fn delete(&self, objects: Vec<ObjectMeta>, at_once: usize) -> Result<Deleted> {
        let store = self.store();
        let deletes: Vec<_> = objects
            .into_iter()
            .map(|object| {
                let store = Arc::clone(&store);
                async move {
                    match store.delete(&object.location).await {
                        Ok(()) | Err(StoreError::NotFound { .. }) => Ok(object.size),
                        Err(error) => Err(Error::external(format!("deleting `{}`", object.location), error)),
                    }
                }
            })
            .collect();
        let mut deletes = futures::stream::iter(deletes).buffered(at_once);
        let mut deleted = Deleted::default();
        while let Some(bytes) = deletes.try_next().await? {
            deleted.objects += 1;
            deleted.bytes += bytes;
        }
        Ok(deleted)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::super::dying::DyingStore;
    use super::super::{Table, testing};
    use super::*;

    #[tokio::test]
    async fn killed_after_any_deletion_what_can_be_opened_is_whole_and_the_next_call_ends_it() {
        for changes in 0.. {
            let (folder, lake) = testing::lake();
            for name in ["payments", "payments2"] {
                let table = Table::create_or_open(&lake, &testing::contract(name)).await.unwrap();
                for epoch in 0..4 {
                    let adds = table.stage(vec![testing::rows(7, epoch)], epoch).await.unwrap().adds;
                    table.publish("app", epoch, &adds, &[]).await.unwrap();
                    if epoch == 2 {
                        table.checkpoint().await.unwrap();
                    }
                }
            }
            let left = Arc::new(AtomicUsize::new(changes));
            let dying = lake.clone().with_wrapped_store(|store| Arc::new(DyingStore::new(store, &left)));
            let ended = dying.delete_table("payments").await;
            assert!(ended.is_ok() || left.load(Ordering::Relaxed) == 0, "{ended:?}");
            if let Ok(Some(table)) = Table::open_existing(&lake, "payments").await {
                for file in table.live_files().await.unwrap() {
                    assert!(folder.path().join("payments").join(&file.path).exists(), "{changes}: {}", file.path);
                }
            }
            lake.delete_table("payments").await.unwrap();
            assert!(!folder.path().join("payments").exists());
            // Another table whose name begins alike.
            assert_eq!(lake.tables().await.unwrap(), ["payments2"]);
            if ended.is_ok() {
                assert!(changes > 12, "only {changes} deletions");
                return;
            }
        }
    }
}
