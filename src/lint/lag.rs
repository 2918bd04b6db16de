//! Manifests a moment behind the log: a job writes them after each commit, and whoever looks in between is told no error.
//!
//! The one law: a manifest is excused only if it names exactly the files that were live in its partition at one version
//! not before the one its table's state records, and if the commit it lacks is young. How a commit and the manifests
//! after it come about is read here from objects alone; nothing is shared with their writer.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use object_store::path::Path;
use object_store::{Error as StoreError, ObjectStore, ObjectStoreExt};
use serde::Deserialize;

use super::layout::Objects;
use super::log::{self, TableLog};
use super::manifest::MANIFESTS;
use crate::clock::{MICROS_PER_SECOND, Micros};
use crate::error::{Context, Error, Result};

/// How old the first commit may be that a manifest lacks: three times as long as a job waits at most between two tries.
const LAG_MAX: Micros = 900 * MICROS_PER_SECOND;

/// Names of files by their partition's folder.
pub(super) type Named = BTreeMap<String, BTreeSet<String>>;

/// What a table's manifests stand at, as their writer has recorded; other writers record nothing.
#[derive(Debug, Deserialize)]
pub(super) struct Standing {
    version: u64,
    /// Folders without files, to whose manifests the catalog still leads.
    #[serde(default)]
    emptied: BTreeSet<String>,
}

/// The recorded state; `None` if there is none, or none that can be read. To be read before the manifests: they only go on.
///
/// # Errors
/// As [`super::lint`].
pub(super) async fn standing(store: &Arc<dyn ObjectStore>) -> Result<Option<Standing>> {
    let path = Path::from_iter([MANIFESTS, "_state.json"]);
    let doing = || format!("reading `{path}`");
    let bytes = match store.get(&path).await {
        Ok(found) => found.bytes().await.context(doing)?,
        Err(StoreError::NotFound { .. }) => return Ok(None),
        Err(error) => return Err(Error::external(doing(), error)),
    };
    Ok(serde_json::from_slice(&bytes).ok())
}

/// Of folders whose manifests differ from the newest version (`live`), those that only lag, each with the first version its
/// manifest lacks.
///
/// # Errors
/// As [`super::lint`].
pub(super) async fn excused(
    store: &Arc<dyn ObjectStore>,
    log: &TableLog,
    objects: &Objects,
    standing: &Standing,
    (differing, live): (&Named, &Named),
    now: Micros,
) -> Result<BTreeMap<String, u64>> {
    let mut then: Named =
        differing.keys().map(|folder| (folder.clone(), live.get(folder).cloned().unwrap_or_default())).collect();
    let mut excused = BTreeMap::new();
    for version in (1..=log.version).rev() {
        let written = objects.written(&log::commit_path(version));
        if written.is_none_or(|written| now.saturating_sub(written) > LAG_MAX) {
            break;
        }
        // A manifest of an emptied partition stays as it was for as long as a catalog leads to it.
        then.retain(|folder, _| version > standing.version || standing.emptied.contains(folder.trim_end_matches('/')));
        if then.is_empty() {
            break;
        }
        let Some((added, removed)) = log::changes(store, version).await? else { break };
        // One commit may take a file out and add it again.
        for path in &added {
            if let Some(files) = then.get_mut(folder_of(path)) {
                files.remove(path);
            }
        }
        for path in &removed {
            if let Some(files) = then.get_mut(folder_of(path)) {
                files.insert(path.clone());
            }
        }
        let touched: BTreeSet<&str> = added.iter().chain(&removed).map(|path| folder_of(path)).collect();
        then.retain(|folder, files| {
            let is_as_then = touched.contains(folder.as_str()) && differing.get(folder) == Some(files);
            if is_as_then {
                excused.insert(folder.clone(), version);
            }
            !is_as_then
        });
    }
    Ok(excused)
}

/// A file's folder, ending with a slash.
fn folder_of(path: &str) -> &str {
    path.rfind('/').map_or("", |at| &path[..=at])
}
