//! A log's folder: which commits are old, and which of them a checkpoint replaces.
//!
//! The one law: every version younger than the retention can still be read, from a checkpoint that is older. So commits go
//! only behind the newest checkpoint that lies before the retention; the protocol's section "Metadata Cleanup" says the
//! same.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::{Stream, StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use serde::Deserialize;

use super::{Retention, Vacuumed};
use crate::clock::Micros;
use crate::error::{Context, Error, Result};
use crate::lake::{Table, delete};

/// Folder of a table's log.
const LOG: &str = "_delta_log";

/// Commits read at once: enough to hide a store's latency, few enough not to be throttled.
const READS_MAX: usize = 16;

/// The objects of a log that belong to a version.
#[derive(Debug, Default)]
pub(super) struct LogFolder {
    /// When each commit was written, microseconds.
    commits: BTreeMap<u64, Micros>,
    /// Checkpoints in one file.
    checkpoints: Vec<u64>,
    /// Every object by version: commits, checkpoints, checksums.
    objects: BTreeMap<u64, Vec<Path>>,
}

#[derive(Deserialize)]
struct Line {
    remove: Option<Remove>,
}

#[derive(Deserialize)]
struct Remove {
    path: String,
}

impl LogFolder {
    /// Lists the log of a table.
    ///
    /// # Errors
    /// [`Error::External`] when the store does not answer.
    pub(super) async fn list(table: &Table) -> Result<Self> {
        let store = table.store();
        let mut listed = store.list(Some(&Path::from(LOG)));
        let mut found = Self::default();
        while let Some(object) =
            listed.try_next().await.context(|| format!("listing the log of table `{}`", table.name()))?
        {
            let name = object.location.filename().unwrap_or_default();
            let Some((digits, rest)) = name.split_once('.') else { continue };
            let Some(version) = Some(digits).filter(|d| d.len() == 20).and_then(|d| d.parse().ok()) else { continue };
            match rest {
                "json" => drop(found.commits.insert(version, object.last_modified.timestamp_micros())),
                "checkpoint.parquet" => found.checkpoints.push(version),
                _ => {}
            }
            found.objects.entry(version).or_default().push(object.location);
        }
        found.checkpoints.sort_unstable();
        Ok(found)
    }

    /// The newest version that was committed before `time`, and all before it.
    pub(super) fn newest_before(&self, time: Micros) -> Option<u64> {
        self.commits.iter().take_while(|(_, written)| **written < time).map(|(version, _)| *version).last()
    }

    /// Paths that the commits after `after`, up to `until`, took out, commit by commit.
    ///
    /// # Errors
    /// [`Error::External`] when the store does not answer; [`Error::Broken`] for a commit that is no JSON.
    pub(super) fn removed(
        &self,
        table: &Table,
        after: Option<u64>,
        until: Option<u64>,
    ) -> impl Stream<Item = Result<Vec<String>>> + Send + use<> {
        let (store, name) = (table.store(), Arc::<str>::from(table.name()));
        let is_wanted = |version: &u64| Some(*version) > after && until.is_none_or(|until| *version <= until);
        let wanted: Vec<u64> = self.commits.keys().copied().filter(is_wanted).collect();
        futures::stream::iter(wanted)
            .map(move |version| removed_by(Arc::clone(&store), Arc::clone(&name), version))
            .buffered(READS_MAX)
    }

    /// Deletes commits and checkpoints behind the newest checkpoint that is not after `old`.
    ///
    /// # Errors
    /// [`Error::External`] when the store does not answer.
    pub(super) async fn clean(
        &self,
        table: &Table,
        old: u64,
        retention: &Retention,
        done: &mut Vacuumed,
    ) -> Result<()> {
        // What `_last_checkpoint` names stays, whichever it is: readers begin there.
        let old = table.last_checkpoint().await?.map_or(old, |last| last.min(old));
        let Some(base) = self.checkpoints.iter().copied().filter(|version| *version <= old).max() else {
            return Ok(());
        };
        // A log with a hole after the checkpoint could not be read from it.
        let whole = self.commits.range(base + 1..).enumerate().all(|(n, (version, _))| *version == base + 1 + n as u64);
        if !whole {
            return Ok(());
        }
        // Oldest first: whoever dies on the way leaves no hole.
        let paths: Vec<Path> = self.objects.range(..base).flat_map(|(_, objects)| objects.iter().cloned()).collect();
        done.log_objects += paths.len() as u64;
        if retention.dry_run {
            return Ok(());
        }
        for path in paths {
            delete(&table.store(), vec![path]).await?;
        }
        Ok(())
    }
}

async fn removed_by(store: Arc<dyn ObjectStore>, name: Arc<str>, version: u64) -> Result<Vec<String>> {
    let path = Path::from(LOG).join(format!("{version:020}.json"));
    let what = || format!("reading version {version} of table `{name}`");
    let bytes = store.get(&path).await.context(what)?.bytes().await.context(what)?;
    let mut removed = Vec::new();
    for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty()) {
        let line: Line = serde_json::from_slice(line).map_err(|error| Error::broken(format!("{}: {error}", what())))?;
        removed.extend(line.remove.map(|remove| remove.path));
    }
    Ok(removed)
}
