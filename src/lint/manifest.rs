//! Symlink manifests: for Spectrum they are the table.
//!
//! The one law: a manifest is right if it names the live files of its partition, all of them and nothing else, below this
//! very table. A table without manifests is not meant for Spectrum, which is no finding. (One a moment behind: see `lag`.)

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt, TryStreamExt};
use object_store::ObjectStoreExt;
use object_store::path::Path;

use super::lag::{self, Named};
use super::layout::Objects;
use super::log::TableLog;
use super::{Linted, Rule, Target};
use crate::clock::Micros;
use crate::error::{Context, Error, Result};

/// Folder of the manifests below a table.
pub(super) const MANIFESTS: &str = "_symlink_format_manifest";

/// Manifests read at once, as many as commits.
const READS_MAX: usize = 16;

/// Judges the manifests against the newest version, or, of a table whose writer records where they stand, against the one
/// they are a moment behind at.
///
/// # Errors
/// As [`super::lint`].
pub(super) async fn check(
    target: &Target,
    log: &TableLog,
    objects: &Objects,
    now: Micros,
    linted: &mut Linted,
) -> Result<()> {
    let manifests: Vec<Path> =
        objects.below(MANIFESTS).filter(|path| path.filename() == Some("manifest")).cloned().collect();
    if manifests.is_empty() {
        return Ok(());
    }
    let store = &target.store;
    let standing = lag::standing(store).await?;
    let mut live = Named::new();
    for (path, file) in &log.files {
        live.entry(log.folder_of(file)).or_default().insert(path.clone());
    }
    let mut reads = futures::stream::iter(manifests)
        .map(|path| async move {
            let doing = || format!("reading `{path}`");
            let bytes = store.get(&path).await.context(doing)?.bytes().await.context(doing)?;
            Ok::<_, Error>((path, bytes))
        })
        .buffered(READS_MAX);
    let (mut roots, mut found, mut differing) = (BTreeSet::new(), BTreeMap::new(), Named::new());
    while let Some((path, bytes)) = reads.try_next().await? {
        let manifest = Manifest::of(&path, &String::from_utf8_lossy(&bytes));
        roots.extend(manifest.roots.iter().cloned());
        if !manifest.is_sound() || live.get(&manifest.folder) != Some(&manifest.named) {
            differing.insert(manifest.folder.clone(), manifest.named.clone());
        }
        found.insert(manifest.folder.clone(), manifest);
    }
    for folder in live.keys().filter(|folder| !found.contains_key(*folder)) {
        differing.insert(folder.clone(), BTreeSet::new());
    }
    let excused = match &standing {
        Some(standing) if !differing.is_empty() => {
            lag::excused(store, log, objects, standing, (&differing, &live), now).await?
        }
        _ => BTreeMap::new(),
    };
    for folder in differing.keys() {
        let (manifest, wanted) = (found.get(folder), live.get(folder).cloned().unwrap_or_default());
        let place = format!("{MANIFESTS}/{folder}manifest");
        match (manifest, excused.get(folder)) {
            (Some(manifest), Some(_)) if !(manifest.is_sound() && manifest.is_there(objects)) => {
                manifest.judge(&wanted, objects, linted);
            }
            (_, Some(version)) => {
                linted.find(Rule::ManifestLag, place, format!("it does not say yet what version {version} changed"));
            }
            (Some(manifest), None) => manifest.judge(&wanted, objects, linted),
            (None, None) => linted.find(Rule::Manifest, place, "the partition has files and no manifest"),
        }
    }
    // Neither a lag nor a copy is an excuse: readers would follow them to somebody else's files.
    let here = target.url.as_str();
    roots.remove(here);
    if !roots.is_empty() {
        let roots = roots.into_iter().collect::<Vec<_>>().join("`, `");
        let what = format!("manifests name files below `{roots}`; the table lies at `{here}`");
        linted.find(Rule::Manifest, MANIFESTS, what);
    }
    Ok(())
}

/// One manifest as its text says.
#[derive(Debug, Default)]
struct Manifest {
    path: String,
    /// The partition's folder, ending with a slash; empty for a table without partitions.
    folder: String,
    /// Where its files lie, which has to be the table's own folder.
    roots: BTreeSet<String>,
    /// Paths below the table.
    named: BTreeSet<String>,
    /// What is wrong with lines, whatever the log says.
    odd: Vec<String>,
}

impl Manifest {
    fn of(path: &Path, text: &str) -> Self {
        let inner = path.as_ref().trim_start_matches(MANIFESTS).trim_start_matches('/');
        let folder = inner.trim_end_matches("manifest").to_owned();
        let mut manifest = Self { path: path.to_string(), folder, ..Self::default() };
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            // A URI is the table's root and then the object's path, which begins with the partition's folder.
            let split = match manifest.folder.as_str() {
                "" => line.rfind('/').map(|at| at + 1),
                folder => line.rfind(folder),
            };
            let Some((root, path)) = split.filter(|_| line.contains("://")).map(|at| line.split_at(at)) else {
                manifest.odd.push(format!("`{line}` is no URI of a file in `{}`", manifest.folder));
                continue;
            };
            manifest.roots.insert(root.to_owned());
            if !manifest.named.insert(path.to_owned()) {
                manifest.odd.push(format!("it names `{path}` twice"));
            }
        }
        manifest
    }

    /// Whether every line names a file, once.
    fn is_sound(&self) -> bool {
        self.odd.is_empty()
    }

    /// Whether the store has every file it names.
    fn is_there(&self, objects: &Objects) -> bool {
        self.named.iter().all(|path| objects.size(path).is_some())
    }

    /// Says what is wrong with it, if these are the files it should name.
    fn judge(&self, wanted: &BTreeSet<String>, objects: &Objects, linted: &mut Linted) {
        let mut find = |what: String| linted.find(Rule::Manifest, self.path.clone(), what);
        for odd in &self.odd {
            find(odd.clone());
        }
        for path in &self.named {
            if objects.size(path).is_none() {
                find(format!("it names `{path}`, which is not there"));
            } else if !wanted.contains(path) {
                find(format!("it names `{path}`, which the log has taken out"));
            }
        }
        for missing in wanted.difference(&self.named) {
            find(format!("it does not name `{missing}`, which is live"));
        }
        if wanted.is_empty() && self.named.is_empty() && self.is_sound() {
            find("the partition has no files any more, and a manifest".to_owned());
        }
    }
}
