//! Deleting a table: its log, and then its files.
//!
//! The one law: it decides nothing; whoever calls has made sure that nobody needs the table any more. The log goes first,
//! newest version first, so that while there is a log its versions name files that are there.

use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{Error as StoreError, ObjectMeta};
use serde::Serialize;

use super::{LOG_FOLDER, Lake, delete};
use crate::error::{Context, Error, Result};

/// What was deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Deleted {
    pub objects: u64,
    pub bytes: u64,
}

impl Deleted {
    fn add(&mut self, more: Self) {
        self.objects += more.objects;
        self.bytes += more.bytes;
    }
}

impl Lake {
    /// Deletes a folder of a table of this lake: `_symlink_format_manifest`, for one. What is gone already is fine.
    ///
    /// # Errors
    /// [`Error::External`] when the store does not answer; call again.
    pub async fn delete_in_table(&self, table: &str, folder: &str) -> Result<Deleted> {
        self.delete(self.listed(&Path::from_iter([table, folder])).await?).await
    }

    /// Deletes a table and all that lies in its folder. What is gone already is fine.
    ///
    /// # Errors
    /// [`Error::External`] when the store does not answer; call again.
    pub async fn delete_table(&self, table: &str) -> Result<Deleted> {
        let mut log = self.listed(&Path::from_iter([table, LOG_FOLDER])).await?;
        // Names begin with the version, but for `_last_checkpoint`, which leads to one and sorts behind all digits.
        log.sort_unstable_by(|a, b| b.location.cmp(&a.location));
        let mut deleted = Deleted::default();
        for object in log {
            deleted.add(self.delete(vec![object]).await?);
        }
        deleted.add(self.delete(self.listed(&Path::from(table)).await?).await?);
        if let Some(folder) = &self.folder {
            let folder = folder.join(table);
            match std::fs::remove_dir_all(&folder) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::external(format!("deleting `{}`", folder.display()), error));
                }
                _ => {}
            }
        }
        Ok(deleted)
    }

    async fn listed(&self, folder: &Path) -> Result<Vec<ObjectMeta>> {
        let store = self.store();
        let listed: std::result::Result<Vec<ObjectMeta>, StoreError> = store.list(Some(folder)).try_collect().await;
        listed.context(|| format!("listing `{folder}`"))
    }

    async fn delete(&self, objects: Vec<ObjectMeta>) -> Result<Deleted> {
        let bytes = objects.iter().map(|object| object.size).sum();
        let deleted = Deleted { objects: objects.len() as u64, bytes };
        delete(&self.store(), objects.into_iter().map(|object| object.location).collect()).await?;
        Ok(deleted)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::super::dying::DyingStore;
    use super::super::{Table, testing};

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
