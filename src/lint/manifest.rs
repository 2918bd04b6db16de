//! Symlink manifests: for Spectrum they are the table.
//!
//! The one law: a manifest is right if it names the live files of its partition, all of them and nothing else, below this
//! very table. A table without manifests is not meant for Spectrum, which is no finding.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

use super::layout::Objects;
use super::log::TableLog;
use super::{Linted, Rule};
use crate::error::{Context, Error, Result};

/// Folder of the manifests below a table.
const MANIFESTS: &str = "_symlink_format_manifest";

/// Manifests read at once, as many as commits.
const READS_MAX: usize = 16;

/// Judges the manifests against the newest version.
///
/// # Errors
/// As [`super::lint`].
pub(super) async fn check(
    store: &Arc<dyn ObjectStore>,
    log: &TableLog,
    objects: &Objects,
    linted: &mut Linted,
) -> Result<()> {
    let manifests: Vec<Path> =
        objects.below(MANIFESTS).filter(|path| path.filename() == Some("manifest")).cloned().collect();
    if manifests.is_empty() {
        return Ok(());
    }
    let mut live: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for (path, file) in &log.files {
        live.entry(log.folder_of(file)).or_default().insert(path);
    }
    let mut reads = futures::stream::iter(manifests)
        .map(|path| async move {
            let doing = || format!("reading `{path}`");
            let bytes = store.get(&path).await.context(doing)?.bytes().await.context(doing)?;
            Ok::<_, Error>((path, bytes))
        })
        .buffered(READS_MAX);
    let mut roots = BTreeSet::new();
    while let Some((path, bytes)) = reads.try_next().await? {
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let folder = folder_of(&path);
        let wanted = live.remove(&folder).unwrap_or_default();
        roots.extend(judge(&path, &folder, &lines, &wanted, objects, linted));
    }
    for folder in live.into_keys() {
        linted.find(Rule::Manifest, format!("{MANIFESTS}/{folder}manifest"), "the partition has files and no manifest");
    }
    if roots.len() > 1 {
        let roots = roots.into_iter().collect::<Vec<_>>().join("`, `");
        linted.find(Rule::Manifest, MANIFESTS, format!("manifests name files below several tables: `{roots}`"));
    }
    Ok(())
}

/// The partition's folder, ending with a slash; empty for a table without partitions.
fn folder_of(manifest: &Path) -> String {
    let text = manifest.as_ref();
    text.trim_start_matches(MANIFESTS).trim_start_matches('/').trim_end_matches("manifest").to_owned()
}

/// Judges one manifest; returns where its files lie, which has to be one place for all.
fn judge(
    manifest: &Path,
    folder: &str,
    lines: &[&str],
    wanted: &BTreeSet<&str>,
    objects: &Objects,
    linted: &mut Linted,
) -> BTreeSet<String> {
    let (mut roots, mut named) = (BTreeSet::new(), BTreeSet::new());
    for line in lines {
        // A URI is the table's root and then the object's path, which begins with the partition's folder.
        let split = match folder {
            "" => line.rfind('/').map(|at| at + 1),
            folder => line.rfind(folder),
        };
        let Some((root, path)) = split.filter(|_| line.contains("://")).map(|at| line.split_at(at)) else {
            linted.find(Rule::Manifest, manifest.to_string(), format!("`{line}` is no URI of a file in `{folder}`"));
            continue;
        };
        roots.insert(root.to_owned());
        if !named.insert(path) {
            linted.find(Rule::Manifest, manifest.to_string(), format!("it names `{path}` twice"));
        }
        if objects.size(path).is_none() {
            linted.find(Rule::Manifest, manifest.to_string(), format!("it names `{path}`, which is not there"));
        } else if !wanted.contains(path) {
            linted.find(
                Rule::Manifest,
                manifest.to_string(),
                format!("it names `{path}`, which the log has taken out"),
            );
        }
    }
    for missing in wanted.iter().filter(|path| !named.contains(**path)) {
        linted.find(Rule::Manifest, manifest.to_string(), format!("it does not name `{missing}`, which is live"));
    }
    if wanted.is_empty() && lines.is_empty() {
        linted.find(Rule::Manifest, manifest.to_string(), "the partition has no files any more, and a manifest");
    }
    roots
}
