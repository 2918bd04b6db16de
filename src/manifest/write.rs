//! The one writer of a table's manifests.
//!
//! The one law: [`Manifests::write`] makes no reader's answer older, and [`Manifests::finish`] says that all of them have
//! reached a version only when they have. After an error nothing is believed: the folder is listed again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{Error as StoreError, ObjectStore, ObjectStoreExt, PutPayload};

use super::state::{self, State};
use super::{FOLDER, path, render};
use crate::error::{Context, Error, Result};
use crate::lake::Table;

/// Manifests written or deleted at once: enough to hide a store's latency, few enough not to be throttled.
const WRITES_AT_ONCE: usize = 8;

/// Writes the manifests of one table.
#[derive(Debug)]
pub struct Manifests {
    table: Arc<Table>,
    /// As this process has left it; `None` at first and after an error.
    known: Option<State>,
    /// Whether `known` is what the store holds.
    is_recorded: bool,
}

/// What [`Manifests::write`] did, to be given to [`Manifests::finish`].
#[derive(Clone, Debug, Default)]
pub struct Written {
    /// The version every manifest stands at now, but those of emptied partitions.
    pub version: u64,
    /// Manifests written.
    pub written: u64,
    /// Partition values (`2026-11-23`) that have live files, each with its manifest.
    pub dates: BTreeSet<String>,
    /// Folders of partitions that have none any more; their manifests are still there.
    pub emptied: BTreeSet<String>,
    hashes: BTreeMap<String, String>,
}

impl Manifests {
    /// Of a table whose contract has the sink `spectrum`.
    pub fn new(table: Arc<Table>) -> Self {
        Self { table, known: None, is_recorded: false }
    }

    /// The table they are of.
    pub fn table(&self) -> &Arc<Table> {
        &self.table
    }

    /// Writes the manifests of partitions whose live files are others than the manifest names.
    ///
    /// The first call lists the folder, so that what a killed writer left is written again or found to be emptied.
    ///
    /// # Errors
    /// [`Error::Usage`] when a live file has a deletion vector; [`Error::Broken`] when the manifests stand at a version the
    /// table has not reached; [`Error::External`] when the store does not answer: call again.
    pub async fn write(&mut self) -> Result<Written> {
        let known = match self.known.take() {
            Some(known) => known,
            None => {
                let (found, is_recorded) = self.found().await?;
                self.is_recorded = is_recorded;
                found
            }
        };
        let (version, files) = self.table.newest_files().await?;
        if known.version > version {
            let (name, at) = (self.table.name(), known.version);
            return Err(Error::broken(format!(
                "the manifests of table `{name}` stand at version {at}, the table at {version}: its log went back; if \
                 that was meant, remove the folder `{FOLDER}` and write them again"
            )));
        }
        let root = render::root(&self.table.url()?)?;
        let (column, partitions) = (self.table.partition_by().to_owned(), known.partitions.clone());
        // Hashes of a hundred thousand names take a core's while, which the stream's tasks shall not wait for.
        let rendered = tokio::task::spawn_blocking(move || render::changed(&root, &column, &files, &partitions));
        let (hashes, manifests) = rendered.await.context(|| "rendering manifests")??;
        let dates = hashes.keys().filter_map(|folder| Some(folder.split_once('=')?.1.to_owned())).collect();
        let written = manifests.len() as u64;
        let store = self.table.store();
        let puts: Vec<_> =
            manifests.into_iter().map(|(folder, text)| put(Arc::clone(&store), path(&folder), text)).collect();
        futures::stream::iter(puts).buffer_unordered(WRITES_AT_ONCE).try_collect::<()>().await?;
        let gone = known.partitions.keys().chain(&known.emptied);
        let emptied = gone.filter(|folder| !hashes.contains_key(*folder)).cloned().collect();
        self.known = Some(known);
        Ok(Written { version, written, dates, emptied, hashes })
    }

    /// Deletes the manifests of emptied partitions, if the catalog no longer leads to them, and records the version.
    ///
    /// # Errors
    /// [`Error::External`] when the store does not answer: begin again with [`Manifests::write`].
    pub async fn finish(&mut self, written: Written, catalog_let_go: bool) -> Result<()> {
        let Written { version, dates: _, emptied, hashes, .. } = written;
        let before = self.known.take();
        let emptied = if catalog_let_go {
            self.delete(&emptied).await?;
            BTreeSet::new()
        } else {
            emptied
        };
        let state = State::new(version, hashes, emptied);
        if !(self.is_recorded && before.as_ref() == Some(&state)) {
            state.write(&self.table).await?;
        }
        (self.known, self.is_recorded) = (Some(state), true);
        Ok(())
    }

    async fn delete(&self, folders: &BTreeSet<String>) -> Result<()> {
        let store = self.table.store();
        let deletes: Vec<_> = folders.iter().map(|folder| delete(Arc::clone(&store), path(folder))).collect();
        futures::stream::iter(deletes).buffer_unordered(WRITES_AT_ONCE).try_collect::<()>().await
    }

    /// What is recorded, corrected by what is there: a missing manifest is unknown, a stray one has no hash.
    async fn found(&self) -> Result<(State, bool)> {
        let recorded = state::read(&self.table).await?;
        let name = self.table.name();
        let listed = self.table.store();
        let mut listed = listed.list(Some(&Path::from(FOLDER)));
        let mut there = BTreeSet::new();
        while let Some(object) = listed.try_next().await.context(|| format!("listing the manifests of table `{name}`"))? {
            there.extend(folder_of(&object.location));
        }
        let mut state = recorded.clone().unwrap_or_default();
        state.partitions.retain(|folder, _| there.contains(folder));
        state.emptied.retain(|folder| there.contains(folder));
        for folder in there {
            if !state.emptied.contains(&folder) {
                state.partitions.entry(folder).or_default();
            }
        }
        let is_as_recorded = recorded.as_ref() == Some(&state);
        Ok((state, is_as_recorded))
    }
}

async fn put(store: Arc<dyn ObjectStore>, path: Path, text: Vec<u8>) -> Result<()> {
    store.put(&path, PutPayload::from(text)).await.map(drop).context(|| format!("writing `{path}`"))
}

async fn delete(store: Arc<dyn ObjectStore>, path: Path) -> Result<()> {
    match store.delete(&path).await {
        Ok(()) | Err(StoreError::NotFound { .. }) => Ok(()),
        Err(error) => Err(Error::external(format!("deleting `{path}`"), error)),
    }
}

/// The partition's folder of a manifest; `None` for other objects.
fn folder_of(object: &Path) -> Option<String> {
    let inner = object.as_ref().strip_prefix(FOLDER)?.strip_prefix('/')?;
    inner.strip_suffix("/manifest").map(str::to_owned)
}
