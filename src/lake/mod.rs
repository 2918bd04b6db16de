//! The lake: one folder, or one prefix of a bucket, with a Delta table in each sub-folder.
//!
//! The one law: a row is in a table if and only if a commit of that table's log says so, and a commit carries the epoch
//! that wrote it. Files without a commit are invisible, so staging may fail or repeat at any point.
//!
//! Everything goes through `object_store`, rooted at the store's root (the file system, a bucket), so that the paths in
//! Delta logs, in DataFusion scans and here are the same. This module does not decide epochs (see `epoch`), and
//! deletes no data (see `vacuum`).
//!
//! ```text
//! <lake>/_lock                            the pid of the running writer (local lakes)
//! <lake>/_probe                           proof that the store creates an object once (lakes on S3)
//! <lake>/_check-<uuid>                    what `lakeward check --live` asks with, for a moment (lakes on S3)
//! <lake>/_epochs/…                        decided epochs, written by `epoch` through `Lake::store`
//! <lake>/_vacuumed.json                   when the job vacuumed last; one in each table, too (`vacuum`)
//! <lake>/<table>/_delta_log/…             the table's log
//! <lake>/<table>/_symlink_format_manifest/…  what Spectrum reads (`manifest`)
//! <lake>/<table>/event_date=2026-11-23/part-<epoch>-<uuid>.snappy.parquet
//! ```

mod access;
mod bookmark;
mod changes;
mod checkpoint;
mod compact;
mod copy;
mod delete;
mod difference;
mod drop;
mod encode;
mod erase;
mod evolve;
mod lock;
mod log;
mod meter;
mod place;
mod publish;
mod ranges;
mod replace;
mod s3;
mod scan;
mod schema;
mod stage;
mod state;
mod stats;
mod status;
mod table;
#[cfg(test)]
pub(crate) mod dying;
#[cfg(test)]
pub(crate) mod testing;

use std::path::{Path as FsPath, PathBuf};
use std::sync::Arc;

use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::prelude::SessionContext;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{Error as StoreError, ObjectStore, ObjectStoreExt, PutMode};
use url::{Position, Url};

use self::place::Place;
use self::s3::S3Store;
use crate::clock::Clock;
use crate::config;
use crate::error::{Context, Error, Result};

pub use bookmark::Bookmark;
pub use changes::Changes;
pub use compact::{Compaction, spilling};
pub use delete::delete;
pub use deltalake::kernel::{Add, Remove};
pub use drop::Deleted;
pub use erase::{ErasedFiles, Marked, TIMES_GRAIN};
pub use evolve::{Following, SchemaChange};
pub use lock::LakeLock;
pub use meter::{Meter, Requests};
pub use publish::Publish;
pub use replace::{Replaced, Replacement, within};
pub use stage::Staged;
pub use state::{Commit, DataFile};
pub use status::TableStatus;
pub use table::Table;

/// Folder of a table's log; what makes a folder a table.
const LOG_FOLDER: &str = "_delta_log";

/// One lake. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Lake {
    /// Ends with a slash.
    url: Url,
    /// Rooted where the URL's path starts: the file system, a bucket.
    root: Arc<dyn ObjectStore>,
    /// The lake's folder inside `root`.
    base: Path,
    /// Of a local lake.
    folder: Option<PathBuf>,
    /// Stamps files with the time they were staged.
    clock: Clock,
}

impl Lake {
    /// Opens a lake at a folder (`./data/lake`, `/srv/lake`, `file:///srv/lake`), which is created if it is missing, or at
    /// a prefix of a bucket (`s3://bucket/lake`), of which nothing is asked before the first request.
    ///
    /// # Errors
    /// [`Error::Usage`] for a URL of another kind; [`Error::External`] if the folder cannot be created.
    pub fn open(url: &str, s3: &config::S3) -> Result<Self> {
        match Place::of(url)? {
            Place::Local(folder) => {
                std::fs::create_dir_all(&folder)
                    .context(|| format!("cannot create the lake's folder `{}`", folder.display()))?;
                Self::at_folder(url, &folder)
            }
            Place::S3 { bucket, prefix } => Self::in_bucket(&bucket, &prefix, s3),
        }
    }

    /// As [`Lake::open`], but nothing is created: `None` where there is no folder. A bucket has no folders, so a prefix
    /// without objects is a lake without tables.
    ///
    /// # Errors
    /// As [`Lake::open`].
    pub fn open_existing(url: &str, s3: &config::S3) -> Result<Option<Self>> {
        match Place::of(url)? {
            Place::Local(folder) if !folder.is_dir() => Ok(None),
            _ => Self::open(url, s3).map(Some),
        }
    }

    fn at_folder(url: &str, folder: &FsPath) -> Result<Self> {
        let folder = std::fs::canonicalize(folder)
            .context(|| format!("cannot resolve the lake's folder `{}`", folder.display()))?;
        let base = Path::from_absolute_path(&folder).map_err(|e| {
            Error::usage(format!("lake.url `{url}`: its path cannot be used: {e}; choose another folder"))
        })?;
        let url = Url::from_directory_path(&folder)
            .map_err(|()| Error::usage(format!("lake.url `{url}`: not an absolute path once resolved")))?;
        Ok(Self { url, root: Arc::new(LocalFileSystem::new()), base, folder: Some(folder), clock: Clock::System })
    }

    fn in_bucket(bucket: &str, prefix: &str, s3: &config::S3) -> Result<Self> {
        let slash = if prefix.is_empty() { "" } else { "/" };
        let url = format!("s3://{bucket}/{prefix}{slash}");
        let refused = |e: String| Error::usage(format!("lake.url `{url}`: {e}"));
        let base = Path::parse(prefix).map_err(|e| refused(e.to_string()))?;
        let url = Url::parse(&url).map_err(|e| refused(e.to_string()))?;
        let root = Arc::new(S3Store::new(bucket, prefix, s3));
        Ok(Self { url, root, base, folder: None, clock: Clock::System })
    }

    /// The same lake with another clock; it stamps data files and decides nothing.
    #[must_use]
    pub fn with_clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// The same lake with its store replaced by `wrap(store)`: fault injection in tests and simulations. Both stores are
    /// rooted at the root of the file system, not at the lake.
    #[must_use]
    pub fn with_wrapped_store(mut self, wrap: impl FnOnce(Arc<dyn ObjectStore>) -> Arc<dyn ObjectStore>) -> Self {
        self.root = wrap(self.root);
        self
    }

    /// The lake's URL, ending with a slash.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// A store rooted at the lake: `_epochs/…`, `transactions/_delta_log/…`.
    pub fn store(&self) -> Arc<dyn ObjectStore> {
        Arc::new(PrefixStore::new(Arc::clone(&self.root), self.base.clone()))
    }

    /// Proves that the store refuses to create an object twice; the whole protocol stands on that. In a bucket the object
    /// stays, under one name for all starts: the job needs no permission to delete.
    ///
    /// # Errors
    /// [`Error::Usage`] if the second create succeeds, or for what the user can mend, such as a missing permission;
    /// [`Error::External`] if the store does not answer.
    pub async fn probe(&self) -> Result<()> {
        let store = self.store();
        let path = match self.folder {
            Some(_) => Path::from(format!("_probe-{}", uuid::Uuid::new_v4())),
            None => Path::from("_probe"),
        };
        let mut created = 0;
        while created < 2 {
            match store.put_opts(&path, "probe".into(), PutMode::Create.into()).await {
                // Of the first create, too: its answer may have been lost, or another start has been here.
                Err(StoreError::AlreadyExists { .. } | StoreError::Precondition { .. }) => break,
                Ok(_) => created += 1,
                Err(e) => return Err(Error::external(format!("cannot write to the lake at `{}`", self.url), e)),
            }
        }
        if self.folder.is_some() {
            let deleted = store.delete(&path).await;
            deleted.context(|| format!("cannot delete `{path}` in the lake at `{}`", self.url))?;
        }
        match created < 2 {
            true => Ok(()),
            false => Err(self.creates_twice()),
        }
    }

    fn creates_twice(&self) -> Error {
        Error::usage(format!(
            "the store of `{}` lets one object be created twice; Lakeward cannot decide epochs on it; use a store with \
             conditional writes",
            self.url
        ))
    }

    /// Takes a local lake for this process until the lock is dropped or the process dies; `None` for a lake in a bucket,
    /// whose writers are told apart by the fences of the epoch slots alone.
    ///
    /// # Errors
    /// [`Error::Fenced`] naming the pid of the process that holds it.
    pub fn lock(&self) -> Result<Option<LakeLock>> {
        self.folder.as_ref().map(|folder| LakeLock::take(&folder.join("_lock"))).transpose()
    }

    /// Whether [`Lake::lock`] keeps other writers away: of a lake in a folder, not of one in a bucket.
    pub fn has_lock(&self) -> bool {
        self.folder.is_some()
    }

    /// Whether the folder is no lake but a table itself.
    ///
    /// # Errors
    /// [`Error::External`] if the store does not answer.
    pub async fn is_table(&self) -> Result<bool> {
        let inside = self.store().list_with_delimiter(None).await;
        let inside = inside.context(|| format!("cannot list `{}`", self.url))?;
        Ok(inside.common_prefixes.iter().any(|prefix| prefix.filename() == Some(LOG_FOLDER)))
    }

    /// Names of the tables in the lake, sorted.
    ///
    /// # Errors
    /// [`Error::External`] if the store does not answer.
    pub async fn tables(&self) -> Result<Vec<String>> {
        let store = self.store();
        let listed =
            store.list_with_delimiter(None).await.context(|| format!("cannot list the lake at `{}`", self.url))?;
        let mut tables = Vec::new();
        for folder in listed.common_prefixes {
            let Some(name) = folder.filename().filter(|name| !name.starts_with(['_', '.'])) else { continue };
            let inside = store.list_with_delimiter(Some(&folder)).await;
            let inside = inside.context(|| format!("cannot list `{name}` in the lake at `{}`", self.url))?;
            if inside.common_prefixes.iter().any(|prefix| prefix.filename() == Some(LOG_FOLDER)) {
                tables.push(name.to_owned());
            }
        }
        tables.sort_unstable();
        Ok(tables)
    }

    /// Prepares a session for [`Table::provider`]: scans name their files by the store's root URL (`file://`, `s3://bucket`),
    /// so the session must know this lake's store under it. A fresh session already has a file system there; registering makes
    /// scans go through the very store the lake writes with.
    pub fn register(&self, session: &SessionContext) {
        session.runtime_env().register_object_store(&self.url, Arc::clone(&self.root));
    }

    /// Under which URL DataFusion finds `root`.
    fn object_store_url(&self) -> Result<ObjectStoreUrl> {
        let root = &self.url[..Position::BeforePath];
        ObjectStoreUrl::parse(root).context(|| format!("`{root}` is no store URL"))
    }

    /// Folder of a table inside `root`.
    fn table_path(&self, name: &str) -> Path {
        self.base.clone().join(name)
    }

    /// URL of a table, ending with a slash.
    ///
    /// # Errors
    /// [`Error::External`] for a name that cannot stand in a URL.
    pub fn table_url(&self, name: &str) -> Result<Url> {
        self.url.join(&format!("{name}/")).context(|| format!("`{name}` is no folder name below `{}`", self.url))
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{FaultyStore, s3};
    use super::*;

    #[test]
    fn a_lake_opens_at_a_folder_and_at_its_url_and_nowhere_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a lake");
        let by_path = Lake::open(path.to_str().unwrap(), &s3()).unwrap();
        assert!(path.is_dir());
        let by_url = Lake::open(by_path.url().as_str(), &s3()).unwrap();
        assert_eq!(by_path.url(), by_url.url());
        assert_eq!(by_path.base, by_url.base);
        for (url, says) in [("s3:///lake", "no bucket"), ("gs://b/l", "unknown scheme"), ("", "empty")] {
            let error = Lake::open(url, &s3()).unwrap_err();
            assert!(matches!(&error, Error::Usage(m) if m.contains(says)), "{error}");
        }
    }

    #[test]
    fn a_lake_in_a_bucket_has_its_urls_and_paths_below_the_prefix() {
        for (url, root, table, path) in [
            ("s3://b/a/lake", "s3://b/a/lake/", "s3://b/a/lake/t/", "a/lake/t"),
            ("s3://b", "s3://b/", "s3://b/t/", "t"),
        ] {
            let lake = Lake::open(url, &s3()).unwrap();
            assert_eq!((lake.url().as_str(), lake.table_url("t").unwrap().as_str()), (root, table));
            assert_eq!(lake.table_path("t").as_ref(), path);
            assert_eq!(lake.object_store_url().unwrap().as_str(), "s3://b/");
            assert!(lake.lock().unwrap().is_none());
        }
        assert!(Lake::open_existing("s3://b/lake", &s3()).unwrap().is_some());
        assert!(Lake::open_existing("/no/such/folder", &s3()).unwrap().is_none());
    }

    #[tokio::test]
    async fn the_probe_accepts_a_store_with_conditional_create_and_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let lake = Lake::open(folder.path().to_str().unwrap(), &s3()).unwrap();
        lake.probe().await.unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn the_probe_refuses_a_store_that_overwrites() {
        let folder = tempfile::tempdir().unwrap();
        let lake = Lake::open(folder.path().to_str().unwrap(), &s3()).unwrap();
        let lake = lake.with_wrapped_store(|store| Arc::new(FaultyStore::overwriting(store)));
        let error = lake.probe().await.unwrap_err();
        assert!(matches!(&error, Error::Usage(m) if m.contains("created twice")), "{error}");
    }

    #[tokio::test]
    async fn only_folders_with_a_log_are_tables() {
        let folder = tempfile::tempdir().unwrap();
        for inside in ["b/_delta_log", "a/_delta_log", "_epochs", "junk/x", ".hidden/_delta_log"] {
            std::fs::create_dir_all(folder.path().join(inside)).unwrap();
            std::fs::write(folder.path().join(inside).join("f"), "x").unwrap();
        }
        let lake = Lake::open(folder.path().to_str().unwrap(), &s3()).unwrap();
        assert_eq!(lake.tables().await.unwrap(), ["a", "b"]);
    }
}
