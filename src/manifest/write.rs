//! The one writer of a table's manifests.
//!
//! The one law: [`Manifests::write`] makes no reader's answer older, and says that all of them have reached a version only
//! when they have. After an error nothing is believed: the folder is listed again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};

use super::render::{self, Rendering};
use super::state::{self, Recorded, State};
use super::{FOLDER, path};
use crate::error::{Context, Error, Result};
use crate::lake::{DataFile, Table, delete};

/// Manifests written at once: enough to hide a store's latency, few enough not to be throttled.
const WRITES_AT_ONCE: usize = 8;

/// Writes the manifests of one table.
#[derive(Debug)]
pub struct Manifests {
    table: Arc<Table>,
    /// As this process has left it; `None` at first and after an error.
    known: Option<State>,
    /// Whether `known` is what the store holds.
    is_recorded: bool,
    /// The files that `known` was rendered from: as long as a partition has the same ones, so is its manifest.
    rendered: Vec<Arc<DataFile>>,
}

/// What [`Manifests::write`] found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// The version every manifest stands at now, but those of emptied partitions.
    pub version: u64,
    /// Manifests written.
    pub written: u64,
    /// Partition values (`2026-11-23`) that have live files, each with its manifest.
    pub dates: BTreeSet<String>,
    /// Folders of partitions that have none any more; their manifests are still there, for [`Manifests::let_go`].
    pub emptied: BTreeSet<String>,
}

impl Manifests {
    /// Of a table whose contract has the sink `spectrum`.
    pub fn new(table: Arc<Table>) -> Self {
        Self { table, known: None, is_recorded: false, rendered: Vec::new() }
    }

    /// The table they are of.
    pub fn table(&self) -> &Arc<Table> {
        &self.table
    }

    /// Others may have written over ours: the next [`Manifests::write`] lists what is there.
    pub fn look_again(&mut self) {
        self.known = None;
    }

    /// Writes the manifests of partitions whose live files are others than the manifest names, then records the version.
    ///
    /// The first call lists the folder, so that what a killed writer left is written again or found to be emptied.
    ///
    /// # Errors
    /// [`Error::Usage`] when a live file has a deletion vector; [`Error::Broken`] when the manifests stand at a version the
    /// table has not reached; [`Error::External`] when the store does not answer: call again.
    pub async fn write(&mut self) -> Result<Written> {
        let rendered = std::mem::take(&mut self.rendered);
        let (known, rendered) = match self.known.take() {
            Some(known) => (known, rendered),
            None => {
                let (found, is_recorded) = self.found().await?;
                self.is_recorded = is_recorded;
                (found, Vec::new())
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
        let (column, before) = (self.table.partition_by().to_owned(), known.partitions.clone());
        // Hashes of a hundred thousand names take a core's while, which the stream's tasks shall not wait for.
        let rendering = tokio::task::spawn_blocking(move || {
            let rendering =
                Rendering { root: &root, column: &column, files: &files, rendered: &rendered, known: &before };
            rendering.changed().map(|changed| (changed, files))
        });
        let ((mut partitions, manifests), files) = rendering.await.context(|| "rendering manifests")??;
        let dates = dates_of(&partitions);
        let written = manifests.len() as u64;
        let store = self.table.store();
        let puts: Vec<_> = manifests.into_iter().map(|(folder, text)| put(Arc::clone(&store), folder, text)).collect();
        let mut puts = futures::stream::iter(puts).buffer_unordered(WRITES_AT_ONCE);
        while let Some((folder, e_tag)) = puts.try_next().await? {
            partitions.entry(folder).or_default().e_tag = e_tag;
        }
        let gone = known.partitions.keys().chain(&known.emptied);
        let emptied: BTreeSet<String> = gone.filter(|folder| !partitions.contains_key(*folder)).cloned().collect();
        let state = State::new(version, partitions, emptied.clone());
        if !(self.is_recorded && known == state) {
            state.write(&self.table).await?;
        }
        (self.known, self.is_recorded, self.rendered) = (Some(state), true, files);
        Ok(Written { version, written, dates, emptied })
    }

    /// What the last [`Manifests::write`] left; `None` before the first and after an error.
    pub fn standing(&self) -> Option<Written> {
        let state = self.known.as_ref().filter(|_| self.is_recorded)?;
        let dates = dates_of(&state.partitions);
        Some(Written { version: state.version, written: 0, dates, emptied: state.emptied.clone() })
    }

    /// Deletes the manifests of these emptied partitions, which no catalog leads to any more; those that were filled again
    /// meanwhile stay.
    ///
    /// # Errors
    /// [`Error::External`] when the store does not answer: the next [`Manifests::write`] begins anew.
    pub async fn let_go(&mut self, emptied: &BTreeSet<String>) -> Result<()> {
        let Some(mut state) = self.known.take() else { return Ok(()) };
        let gone: BTreeSet<String> = state.emptied.intersection(emptied).cloned().collect();
        if !gone.is_empty() {
            self.delete(&gone).await?;
            state.emptied.retain(|folder| !gone.contains(folder));
            state.write(&self.table).await?;
        }
        self.known = Some(state);
        Ok(())
    }

    async fn delete(&self, folders: &BTreeSet<String>) -> Result<()> {
        delete(&self.table.store(), folders.iter().map(|folder| path(folder)).collect()).await
    }

    /// What is recorded, corrected by what is there: nobody knows what a manifest says that is not as it was recorded.
    async fn found(&self) -> Result<(State, bool)> {
        let recorded = state::read(&self.table).await?;
        let name = self.table.name();
        let listed = self.table.store();
        let mut listed = listed.list(Some(&Path::from(FOLDER)));
        let mut there = BTreeMap::new();
        while let Some(object) =
            listed.try_next().await.context(|| format!("listing the manifests of table `{name}`"))?
        {
            there.extend(folder_of(&object.location).map(|folder| (folder, object.e_tag)));
        }
        let mut state = recorded.clone().unwrap_or_default();
        state.partitions.retain(|folder, recorded| there.get(folder) == Some(&recorded.e_tag));
        state.emptied.retain(|folder| there.contains_key(folder));
        for folder in there.into_keys() {
            if !state.emptied.contains(&folder) {
                state.partitions.entry(folder).or_default();
            }
        }
        let is_as_recorded = recorded.as_ref() == Some(&state);
        Ok((state, is_as_recorded))
    }
}

/// Values of partitions, from their folders.
fn dates_of(partitions: &BTreeMap<String, Recorded>) -> BTreeSet<String> {
    partitions.keys().filter_map(|folder| Some(folder.split_once('=')?.1.to_owned())).collect()
}

async fn put(store: Arc<dyn ObjectStore>, folder: String, text: Vec<u8>) -> Result<(String, Option<String>)> {
    let path = path(&folder);
    let put = store.put(&path, PutPayload::from(text)).await.context(|| format!("writing `{path}`"))?;
    Ok((folder, put.e_tag))
}

/// The partition's folder of a manifest; `None` for other objects.
fn folder_of(object: &Path) -> Option<String> {
    let inner = object.as_ref().strip_prefix(FOLDER)?.strip_prefix('/')?;
    inner.strip_suffix("/manifest").map(str::to_owned)
}
