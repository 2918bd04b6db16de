//! Data files out of use: those that commits took out, and those that no commit ever named.
//!
//! The one law: before a file goes, the manifest of its partition is read; a name in it keeps the file.

use std::collections::HashSet;
use std::sync::Arc;

use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{Error as StoreError, ObjectMeta, ObjectStore, ObjectStoreExt};

use super::log::LogFolder;
use super::{Retention, Unpublished, Vacuumed};
use crate::error::{Context, Error, Result};
use crate::lake::{Table, delete};
use crate::manifest;

/// Files deleted in one call: what S3's DeleteObjects takes.
const DELETES_MAX: usize = 1_000;

/// Deletes files that commits after `done_through` and up to `old` took out.
///
/// # Errors
/// As [`super::vacuum`].
pub(super) async fn removed(
    table: &Table,
    log: &LogFolder,
    range: (Option<u64>, u64),
    retention: &Retention,
    done: &mut Vacuumed,
) -> Result<()> {
    let live = live(table).await?;
    let mut out = Deletion::new(table, retention.dry_run);
    let (after, old) = range;
    let mut commits = std::pin::pin!(log.removed(table, after, Some(old)));
    while let Some(removed) = commits.try_next().await? {
        for path in removed {
            let key = key_of(&path)?;
            if !live.contains(key.as_ref()) {
                out.add(key).await?;
            }
        }
    }
    out.flush().await?;
    done.removed += out.deleted;
    done.named += out.named;
    Ok(())
}

/// Deletes data files older than the retention that are not live, were not taken out by a commit after `after`, and are
/// named by no slot.
///
/// # Errors
/// As [`super::vacuum`].
pub(super) async fn orphans(
    table: &Table,
    log: &LogFolder,
    after: Option<u64>,
    unpublished: &Unpublished,
    retention: &Retention,
    done: &mut Vacuumed,
) -> Result<()> {
    let mut used = live(table).await?;
    // What was taken out within the retention is still read, at the version before.
    let mut commits = std::pin::pin!(log.removed(table, after, None));
    while let Some(removed) = commits.try_next().await? {
        for path in removed {
            used.insert(key_of(&path)?.as_ref().into());
        }
    }
    for path in unpublished.get(table.name()).into_iter().flatten() {
        used.insert(key_of(path)?.as_ref().into());
    }
    let begins = format!("{}=", table.partition_by());
    let is_old = |object: &ObjectMeta| object.last_modified.timestamp_micros() < retention.now - retention.keep;
    let store = table.store();
    let mut listed = store.list(None);
    let mut out = Deletion::new(table, retention.dry_run);
    let what = || format!("listing the table `{}`", table.name());
    while let Some(object) = listed.try_next().await.context(what)? {
        let key = object.location.as_ref();
        let is_data = key.starts_with(&begins) && key.ends_with(".parquet");
        let hidden = key.split('/').any(|part| part.starts_with(['_', '.']));
        if is_data && !hidden && is_old(&object) && !used.contains(key) {
            done.orphan_bytes += object.size;
            out.add(object.location).await?;
        }
    }
    out.flush().await?;
    done.orphans += out.deleted;
    done.named += out.named;
    Ok(())
}

/// Keys of the files that are live now.
async fn live(table: &Table) -> Result<HashSet<Box<str>>> {
    let (_, files) = table.newest_files().await?;
    files.iter().map(|file| Ok(file.key()?.as_ref().into())).collect()
}

/// The object's key of a path in a log.
fn key_of(path: &str) -> Result<Path> {
    Path::from_url_path(path).map_err(|error| Error::broken(format!("`{path}` is no path of a store: {error}")))
}

/// Files to be deleted, so many at a time.
struct Deletion {
    store: Arc<dyn ObjectStore>,
    dry_run: bool,
    waiting: Vec<Path>,
    /// The partition's folder looked at last, and the names in its manifest.
    manifest: (String, HashSet<String>),
    deleted: u64,
    named: u64,
}

impl Deletion {
    fn new(table: &Table, dry_run: bool) -> Self {
        let manifest = Default::default();
        Self { store: table.store(), dry_run, waiting: Vec::new(), manifest, deleted: 0, named: 0 }
    }

    async fn add(&mut self, key: Path) -> Result<()> {
        let (folder, name) = key.as_ref().rsplit_once('/').unwrap_or(("", key.as_ref()));
        if self.manifest.0 != folder {
            self.manifest = (folder.to_owned(), names(&self.store, folder).await?);
        }
        if self.manifest.1.contains(name) {
            self.named += 1;
            return Ok(());
        }
        self.deleted += 1;
        self.waiting.push(key);
        if self.waiting.len() == DELETES_MAX { self.flush().await } else { Ok(()) }
    }

    async fn flush(&mut self) -> Result<()> {
        let waiting = std::mem::take(&mut self.waiting);
        if self.dry_run { Ok(()) } else { delete(&self.store, waiting).await }
    }
}

/// Names of files in the manifest of a partition; none where there is no manifest.
async fn names(store: &Arc<dyn ObjectStore>, folder: &str) -> Result<HashSet<String>> {
    let path = manifest::path(folder);
    let what = || format!("reading `{path}`");
    let text = match store.get(&path).await {
        Ok(found) => found.bytes().await.context(what)?,
        Err(StoreError::NotFound { .. }) => return Ok(HashSet::new()),
        Err(error) => return Err(Error::external(what(), error)),
    };
    let text = String::from_utf8_lossy(&text).into_owned();
    Ok(text.lines().filter_map(|line| line.rsplit('/').next()).map(str::to_owned).collect())
}
