//! A table's log, followed commit by commit: which files are live, and up to which epoch each pipeline has published.
//!
//! The one law: what is answered and what is committed refer to one and the same version. A commit is one conditional
//! create of version `v + 1` by somebody who has read everything up to `v`; if that object exists, nothing was written.
//!
//! deltalake's own commit loop is not used: it re-reads and re-bases on newer versions behind the caller's back, without
//! comparing application transactions, cleans the log unless told not to, and keeps the whole replay in memory at a cost
//! that grows with every commit. Here a commit costs one HEAD and one PUT, whatever the table's size: the HEAD tells that
//! the table is still there, the conditional PUT that nobody else has committed. Only then the log is read. deltalake's
//! snapshot is used to open a table (checkpoints), its log store to write.

use std::collections::HashMap;
use std::sync::Arc;

use deltalake::kernel::transaction::CommitData;
use deltalake::kernel::{Action, Add, Metadata, Remove, StructField, Transaction};
use deltalake::logstore::{
    CommitOrBytes, LogStoreRef, StorageConfig, commit_uri_from_version, default_logstore, get_actions,
};
use deltalake::protocol::{DeltaOperation, SaveMode};
use deltalake::table::state::DeltaTableState;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{Error as StoreError, ObjectStoreExt};
use tokio::sync::{Mutex, MutexGuard};

use super::difference::{PUT_BACK, check_same};
use super::schema::{self, Layout};
use super::state::{Commit, DataFile, State};
use super::{LOG_FOLDER, Lake};
use crate::error::{Context, Error, Result};

/// Commits read at once by [`Log::commits`]: enough to hide a store's latency, few enough not to be throttled.
const READS_MAX: usize = 16;

/// The log of one table.
#[derive(Debug)]
pub(super) struct Log {
    name: Arc<str>,
    delta: LogStoreRef,
    layout: Layout,
    opened: (u64, Metadata),
    state: Mutex<State>,
}

/// The store of one table's log.
pub(super) fn log_store(lake: &Lake, name: &str) -> Result<LogStoreRef> {
    let table = Arc::new(PrefixStore::new(Arc::clone(&lake.root), lake.table_path(name)));
    Ok(default_logstore(table, Arc::clone(&lake.root), &lake.table_url(name)?, &StorageConfig::default()))
}

impl Log {
    /// Opens the log of a table; `None` if there is no table of this name.
    ///
    /// # Errors
    /// [`Error::Usage`] if the table is not as declared, or not readable by every reader of the lake.
    pub(super) async fn open(lake: &Lake, name: &str, declared: Option<&Layout>) -> Result<Option<Self>> {
        let delta = log_store(lake, name)?;
        let what = || format!("cannot read the log of table `{name}`");
        if !delta.is_delta_table_location().await.context(what)? {
            return Ok(None);
        }
        let found = DeltaTableState::try_new(delta.as_ref(), None).await.context(what)?;
        schema::check_readable(name, found.protocol(), found.metadata())?;
        let in_lake = Layout::of_table(name, found.metadata())?;
        if let Some(declared) = declared {
            check_same(name, declared, &in_lake, PUT_BACK)?;
        }
        let layout = declared.cloned().unwrap_or(in_lake);
        let state = Mutex::new(State::of(name, &layout, &found)?);
        let opened = (found.version(), found.metadata().clone());
        Ok(Some(Self { name: name.into(), delta, layout, opened, state }))
    }

    pub(super) fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The version opened, and what it says of the table.
    pub(super) fn opened(&self) -> &(u64, Metadata) {
        &self.opened
    }

    pub(super) fn delta(&self) -> &LogStoreRef {
        &self.delta
    }

    /// Reads what was committed since the last look and returns the newest state, held against others of this process.
    ///
    /// # Errors
    /// [`Error::Broken`] if the table's folder has vanished or its log went back; [`Error::Usage`] if somebody changed its
    /// schema or protocol; [`Error::External`] if the store does not answer.
    pub(super) async fn newest(&self) -> Result<MutexGuard<'_, State>> {
        let mut state = self.state.lock().await;
        let before = state.version;
        loop {
            let Some(actions) = self.actions(state.version + 1).await? else { break };
            if actions.iter().any(|action| matches!(action, Action::Metadata(_) | Action::Protocol(_))) {
                *state = self.reload(before).await?;
                return Ok(state);
            }
            state.follow(&self.name, &self.layout, &actions)?;
        }
        if state.version == before && !self.has(before).await? {
            // Version v + 1 is absent because v is, too: the log was cleaned beyond us while we slept, or it is gone.
            *state = self.reload(before).await?;
        }
        Ok(state)
    }

    /// The state as last seen, if the table is still there and the epoch published by `app_id` is known, else as
    /// [`Log::newest_knowing`]. A commit built on it is refused by the store if somebody else has committed since.
    pub(super) async fn seen_knowing(&self, app_id: &str) -> Result<MutexGuard<'_, State>> {
        let state = self.state.lock().await;
        if state.transactions.contains_key(app_id) && self.has(state.version).await? {
            return Ok(state);
        }
        drop(state);
        self.newest_knowing(app_id).await
    }

    /// The newest version this process has seen; asks nobody.
    pub(super) async fn version_seen(&self) -> u64 {
        self.state.lock().await.version
    }

    /// The newest state, in which the epoch published by `app_id` is known.
    pub(super) async fn newest_knowing(&self, app_id: &str) -> Result<MutexGuard<'_, State>> {
        let mut state = self.newest().await?;
        if !state.transactions.contains_key(app_id) {
            let what = || format!("cannot read the transactions of table `{}`", self.name);
            let found = self.load(None).await?;
            let published = found.transaction_version(self.delta.as_ref(), app_id).await.context(what)?;
            *state = self.checked(&found, state.version)?;
            state.transactions.insert(app_id.to_owned(), published);
        }
        Ok(state)
    }

    /// Commits `adds` and `removes` as the version after `state`, naming the epoch they belong to. After an error nobody
    /// knows whether it happened: look again.
    pub(super) async fn append(
        &self,
        state: &mut State,
        app_id: &str,
        epoch: i64,
        adds: &[Add],
        removes: &[Remove],
    ) -> Result<u64> {
        let version = state.version + 1;
        let what = || format!("cannot commit version {version} of table `{}`", self.name);
        // What it is called tells people; readers go by the actions.
        let adds_rows = adds.iter().any(|add| add.data_change);
        let takes_rows = removes.iter().any(|remove| remove.data_change);
        let operation = match (takes_rows, adds_rows) {
            (true, _) => DeltaOperation::Update { predicate: None },
            (false, true) => DeltaOperation::Write {
                mode: SaveMode::Append,
                partition_by: Some(vec![self.layout.partition_name().to_owned()]),
                predicate: None,
            },
            (false, false) => {
                let largest = adds.iter().map(|add| add.size).max().unwrap_or(0);
                DeltaOperation::Optimize { predicate: None, target_size: largest }
            }
        };
        let removes = removes.iter().cloned().map(Action::Remove);
        let actions = removes.chain(adds.iter().cloned().map(Action::Add)).collect();
        let commit = CommitData::new(actions, operation, HashMap::new(), vec![Transaction::new(app_id, epoch)]);
        let bytes = CommitOrBytes::LogBytes(commit.get_bytes().context(what)?);
        self.delta.write_commit_entry(version, bytes, uuid::Uuid::new_v4()).await.context(what)?;
        state.follow(&self.name, &self.layout, &commit.actions)?;
        Ok(version)
    }

    /// Commits other columns as the version after the newest. After an error nobody knows whether it happened: look again.
    pub(super) async fn replace_metadata(
        &self,
        version: u64,
        metadata: Metadata,
        added: Vec<StructField>,
    ) -> Result<()> {
        let what = || format!("cannot change what the log says of table `{}`", self.name);
        // What it is called tells people; readers go by the metadata.
        let operation = match added.is_empty() {
            true => DeltaOperation::SetTableProperties { properties: HashMap::new() },
            false => DeltaOperation::AddColumn { fields: added },
        };
        let commit = CommitData::new(vec![Action::Metadata(metadata)], operation, HashMap::new(), Vec::new());
        let bytes = CommitOrBytes::LogBytes(commit.get_bytes().context(what)?);
        self.delta.write_commit_entry(version + 1, bytes, uuid::Uuid::new_v4()).await.context(what)?;
        Ok(())
    }

    /// The files live at a version, newest if none is given.
    pub(super) async fn files(&self, version: Option<u64>) -> Result<(u64, Vec<Arc<DataFile>>)> {
        let state = self.newest().await?;
        let version = version.unwrap_or(state.version);
        if version > state.version {
            let (name, newest) = (&self.name, state.version);
            return Err(Error::usage(format!("table `{name}` has no version {version} yet; its newest is {newest}")));
        }
        if let Some(files) = state.files_at(version) {
            return Ok((version, files));
        }
        drop(state);
        let found = self.load(Some(version)).await?;
        let state = State::of(&self.name, &self.layout, &found)?;
        Ok((version, state.files.into_values().collect()))
    }

    /// The newest version that holds nothing of epochs after `epoch`.
    pub(super) async fn version_of_epoch(&self, app_id: &str, epoch: i64) -> Result<u64> {
        let (newest, published) = {
            let state = self.newest_knowing(app_id).await?;
            (state.version, state.published(app_id))
        };
        if published.is_none_or(|published| published <= epoch) {
            return Ok(newest);
        }
        let mut answer = newest;
        for version in (0..=newest).rev() {
            let Some(actions) = self.actions(version).await? else {
                return Err(Error::broken(format!(
                    "table `{}`: epoch {epoch} cannot be found, its log no longer holds version {version}",
                    self.name
                )));
            };
            match Commit::of(version, actions).transactions.iter().find(|(app, _)| app == app_id) {
                Some((_, published)) if *published <= epoch => break,
                Some(_) => answer = version.saturating_sub(1),
                None => {}
            }
        }
        Ok(answer)
    }

    /// The oldest version whose commit the log still holds; a listing, nothing is read.
    pub(super) async fn oldest(&self) -> Result<Option<u64>> {
        let what = || format!("cannot list the log of table `{}`", self.name);
        let listed = self.delta.object_store(None).list(Some(&Path::from(LOG_FOLDER)));
        let listed: Vec<_> = listed.try_collect().await.context(what)?;
        Ok(listed.iter().filter_map(|object| version_of(&object.location)).min())
    }

    /// Every commit the log still holds, oldest first.
    pub(super) async fn commits(&self) -> Result<Vec<Commit>> {
        let what = || format!("cannot list the log of table `{}`", self.name);
        let listed = self.delta.object_store(None).list(Some(&Path::from(LOG_FOLDER)));
        let listed: Vec<_> = listed.try_collect().await.context(what)?;
        let mut versions: Vec<u64> = listed.iter().filter_map(|object| version_of(&object.location)).collect();
        versions.sort_unstable();
        let reads = versions.into_iter().map(|version| async move {
            let actions = self.actions(version).await?;
            Ok::<_, Error>(actions.map(|actions| Commit::of(version, actions)))
        });
        futures::stream::iter(reads)
            .buffered(READS_MAX)
            .try_filter_map(|commit| async { Ok(commit) })
            .try_collect()
            .await
    }

    /// The table at a version as deltalake reads it, checkpoints included.
    pub(super) async fn load(&self, version: Option<u64>) -> Result<DeltaTableState> {
        let what = || match version {
            Some(version) => format!("cannot read version {version} of table `{}`", self.name),
            None => format!("cannot read the log of table `{}`", self.name),
        };
        DeltaTableState::try_new(self.delta.as_ref(), version).await.context(what)
    }

    async fn reload(&self, before: u64) -> Result<State> {
        let what = || format!("cannot read the log of table `{}`", self.name);
        if !self.delta.is_delta_table_location().await.context(what)? {
            return Err(Error::broken(format!(
                "table `{}` has vanished from the lake: `{}` holds no log; put the folder back (decided epochs name its \
                 files), or start a new lake with another `lake.url`",
                self.name,
                self.delta.root_url()
            )));
        }
        self.checked(&self.load(None).await?, before)
    }

    fn checked(&self, found: &DeltaTableState, before: u64) -> Result<State> {
        if found.version() < before {
            let (name, version) = (&self.name, found.version());
            return Err(Error::broken(format!(
                "table `{name}` went back from version {before} to {version}: somebody replaced its folder; restart \
                 Lakeward to see what is left"
            )));
        }
        schema::check_readable(&self.name, found.protocol(), found.metadata())?;
        check_same(&self.name, &self.layout, &Layout::of_table(&self.name, found.metadata())?, PUT_BACK)?;
        State::of(&self.name, &self.layout, found)
    }

    async fn has(&self, version: u64) -> Result<bool> {
        let path = commit_uri_from_version(Some(version));
        match self.delta.object_store(None).head(&path).await {
            Ok(_) => Ok(true),
            Err(StoreError::NotFound { .. }) => Ok(false),
            Err(e) => Err(Error::external(format!("cannot look for version {version} of table `{}`", self.name), e)),
        }
    }

    /// What one commit says; `None` if the log does not hold it.
    pub(super) async fn actions(&self, version: u64) -> Result<Option<Vec<Action>>> {
        let what = || format!("cannot read version {version} of table `{}`", self.name);
        let entry = self.delta.read_commit_entry(version).await.context(what)?;
        entry.map(|bytes| get_actions(version, &bytes).context(what)).transpose()
    }
}

/// The version whose commit this object is: `_delta_log/<20 digits>.json`.
fn version_of(path: &Path) -> Option<u64> {
    let digits = path.filename()?.strip_suffix(".json")?;
    (digits.len() == 20).then(|| digits.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checkpoints_are_no_commits() {
        assert_eq!(version_of(&Path::from("_delta_log/00000000000000000007.json")), Some(7));
        for other in ["checkpoint.parquet", "00000000000000000009.compacted.json"] {
            assert_eq!(version_of(&Path::from(format!("_delta_log/00000000000000000007.{other}"))), None);
        }
    }
}
