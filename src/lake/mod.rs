//! The lake: one folder (later one S3 prefix) with a Delta table in each sub-folder.
//!
//! The one law: a row is in a table if and only if a commit of that table's log says so, and a commit carries the epoch
//! that wrote it. Files without a commit are invisible, so staging may fail or repeat at any point.
//!
//! Everything goes through `object_store`, rooted at the store's root (the file system, a bucket), so that the paths in
//! Delta logs, in DataFusion scans and here are the same. This module does not decide epochs (see `epoch`), and never
//! deletes data.
//!
//! ```text
//! <lake>/_lock                            the pid of the running writer (local lakes)
//! <lake>/_epochs/…                        decided epochs, written by `epoch` through `Lake::store`
//! <lake>/<table>/_delta_log/…             the table's log
//! <lake>/<table>/event_date=2026-11-23/part-<epoch>-<uuid>.snappy.parquet
//! ```

mod checkpoint;
mod difference;
mod encode;
mod evolve;
mod lock;
mod log;
mod meter;
mod publish;
mod ranges;
mod replace;
mod scan;
mod schema;
mod stage;
mod state;
mod stats;
mod table;
#[cfg(test)]
mod testing;

use std::path::{Path as FsPath, PathBuf};
use std::sync::Arc;

use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::prelude::SessionContext;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{Error as StoreError, ObjectStore, ObjectStoreExt, PutMode};
use url::{Position, Url};

use crate::clock::Clock;
use crate::error::{Context, Error, Result};

pub use deltalake::kernel::{Add, Remove};
pub use evolve::SchemaChange;
pub use lock::LakeLock;
pub use meter::{Meter, Requests};
pub use publish::Publish;
pub use replace::{Replaced, Replacement, within};
pub use stage::Staged;
pub use state::{Commit, DataFile};
pub use table::Table;

/// Folder of a table's log; what makes a folder a table.
const LOG_FOLDER: &str = "_delta_log";

/// One lake. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Lake {
    /// Ends with a slash.
    url: Url,
    /// Rooted where the URL's path starts: the file system, later a bucket.
    root: Arc<dyn ObjectStore>,
    /// The lake's folder inside `root`.
    base: Path,
    /// Of a local lake.
    folder: PathBuf,
    /// Stamps files with the time they were staged.
    clock: Clock,
}

impl Lake {
    /// Opens a lake at a folder (`./data/lake`, `/srv/lake`) or a `file://` URL and creates the folder if it is missing.
    ///
    /// # Errors
    /// [`Error::Usage`] for a URL of another kind; [`Error::External`] if the folder cannot be created.
    pub fn open(url: &str) -> Result<Self> {
        let folder = local_folder(url)?;
        std::fs::create_dir_all(&folder)
            .context(|| format!("cannot create the lake's folder `{}`", folder.display()))?;
        let folder = std::fs::canonicalize(&folder)
            .context(|| format!("cannot resolve the lake's folder `{}`", folder.display()))?;
        let base = Path::from_absolute_path(&folder).map_err(|e| {
            Error::usage(format!("lake.url `{url}`: its path cannot be used: {e}; choose another folder"))
        })?;
        let url = Url::from_directory_path(&folder)
            .map_err(|()| Error::usage(format!("lake.url `{url}`: not an absolute path once resolved")))?;
        Ok(Self { url, root: Arc::new(LocalFileSystem::new()), base, folder, clock: Clock::System })
    }

    /// As [`Lake::open`], but nothing is created: `None` where there is no folder.
    ///
    /// # Errors
    /// As [`Lake::open`].
    pub fn open_existing(url: &str) -> Result<Option<Self>> {
        if local_folder(url)?.is_dir() { Self::open(url).map(Some) } else { Ok(None) }
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

    /// Proves that the store refuses to create an object twice; the whole protocol stands on that.
    ///
    /// # Errors
    /// [`Error::Usage`] if the second create succeeds; [`Error::External`] if the store does not answer.
    pub async fn probe(&self) -> Result<()> {
        let store = self.store();
        let path = Path::from(format!("_probe-{}", uuid::Uuid::new_v4()));
        let create = || store.put_opts(&path, "probe".into(), PutMode::Create.into());
        create().await.context(|| format!("cannot write to the lake at `{}`", self.url))?;
        let second = create().await;
        let deleted = store.delete(&path).await;
        match second {
            Err(StoreError::AlreadyExists { .. } | StoreError::Precondition { .. }) => {}
            Ok(_) => {
                return Err(Error::usage(format!(
                    "the store of `{}` lets one object be created twice; Lakeward cannot decide epochs on it; use a store \
                     with conditional writes",
                    self.url
                )));
            }
            Err(e) => return Err(Error::external(format!("cannot probe conditional writes at `{}`", self.url), e)),
        }
        deleted.context(|| format!("cannot delete `{path}` in the lake at `{}`", self.url))
    }

    /// Takes the lake for this process until the lock is dropped or the process dies.
    ///
    /// # Errors
    /// [`Error::Fenced`] naming the pid of the process that holds it.
    pub fn lock(&self) -> Result<LakeLock> {
        LakeLock::take(&self.folder.join("_lock"))
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

    /// Prepares a session for [`Table::provider`]: scans name their files by the store's root URL (`file://`), so the
    /// session must know this lake's store under it. A fresh session already has a file system there; registering makes
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
    fn table_url(&self, name: &str) -> Result<Url> {
        self.url.join(&format!("{name}/")).context(|| format!("`{name}` is no folder name below `{}`", self.url))
    }
}

/// The folder a lake URL names.
fn local_folder(url: &str) -> Result<PathBuf> {
    if url.is_empty() {
        return Err(Error::usage("lake.url is empty; give a folder, such as `./data/lake`"));
    }
    if url.starts_with("s3://") {
        return Err(Error::usage(format!("lake.url `{url}`: lakes on S3 are not supported yet; use a local folder")));
    }
    if !url.contains("://") {
        return std::path::absolute(FsPath::new(url)).context(|| format!("cannot resolve lake.url `{url}`"));
    }
    let parsed = Url::parse(url).map_err(|e| Error::usage(format!("lake.url `{url}`: {e}")))?;
    if parsed.scheme() != "file" {
        let scheme = parsed.scheme();
        return Err(Error::usage(format!("lake.url `{url}`: unknown scheme `{scheme}`; use a folder or `file://`")));
    }
    parsed.to_file_path().map_err(|()| Error::usage(format!("lake.url `{url}`: not an absolute path; try `file:///…`")))
}

#[cfg(test)]
mod tests {
    use super::testing::FaultyStore;
    use super::*;

    #[test]
    fn a_lake_opens_at_a_folder_and_at_its_url_and_nowhere_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a lake");
        let by_path = Lake::open(path.to_str().unwrap()).unwrap();
        assert!(path.is_dir());
        let by_url = Lake::open(by_path.url().as_str()).unwrap();
        assert_eq!(by_path.url(), by_url.url());
        assert_eq!(by_path.base, by_url.base);
        for (url, says) in [("s3://bucket/lake", "not supported yet"), ("gs://b/l", "unknown scheme"), ("", "empty")] {
            let error = Lake::open(url).unwrap_err();
            assert!(matches!(&error, Error::Usage(m) if m.contains(says)), "{error}");
        }
    }

    #[tokio::test]
    async fn the_probe_accepts_a_store_with_conditional_create_and_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let lake = Lake::open(folder.path().to_str().unwrap()).unwrap();
        lake.probe().await.unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn the_probe_refuses_a_store_that_overwrites() {
        let folder = tempfile::tempdir().unwrap();
        let lake = Lake::open(folder.path().to_str().unwrap()).unwrap();
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
        let lake = Lake::open(folder.path().to_str().unwrap()).unwrap();
        assert_eq!(lake.tables().await.unwrap(), ["a", "b"]);
    }
}
