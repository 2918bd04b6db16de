//! Symlink manifests: which files Redshift Spectrum reads, partition by partition.
//!
//! The one law: a manifest names the files that were live at one version of the log, every one of them, and no version
//! before that of the recorded state. So it may lag, and never names a file that vacuum may delete: vacuum reads the
//! recorded state first. There is one writer, the one that publishes; versions only grow.
//!
//! ```text
//! <table>/_symlink_format_manifest/event_date=2026-11-23/manifest   sorted absolute URIs, one a line
//! <table>/_symlink_format_manifest/_state.json                      the version all of them stand at, their hashes and ETags
//! ```
//! Written in this order, each object whole: manifests that changed, then the state; and when the catalog has let go of
//! emptied partitions, which the state remembers, their manifests are deleted, and the state is written again. Whoever dies
//! on the way leaves an older state, and the next writer does the rest again. The format is Delta's
//! `symlink_format_manifest`, as its own generator writes it, but that only what changed is written and what was emptied
//! goes away.

mod render;
mod state;
#[cfg(test)]
mod tests;
mod write;

use object_store::path::Path;
use serde::Serialize;

use crate::error::Result;
use crate::lake::Table;
use render::Rendering;

pub use write::{Manifests, Written};

/// Folder of a table's manifests.
pub const FOLDER: &str = "_symlink_format_manifest";

/// How far a table's manifests are behind it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Lag {
    /// The table's newest version.
    pub version: u64,
    /// The version every manifest has reached; `None` without manifests.
    pub manifests_at: Option<u64>,
    /// Partitions that have no files any more and still have a manifest, because the catalog still names them.
    pub emptied: usize,
}

/// Where a table's manifests stand, from the log and the recorded state alone.
///
/// # Errors
/// [`crate::Error::External`] when the store does not answer.
pub async fn lag(table: &Table) -> Result<Lag> {
    let (version, state) = (table.version().await?, state::read(table).await?);
    Ok(Lag {
        version,
        manifests_at: state.as_ref().map(|state| state.version),
        emptied: state.map_or(0, |state| state.emptied.len()),
    })
}

/// How many partitions have a manifest that names other files than the table has now, or none yet.
///
/// # Errors
/// As [`Manifests::write`].
pub async fn behind(table: &Table) -> Result<usize> {
    let ((_, files), state) = (table.newest_files().await?, state::read(table).await?);
    let known = state.map(|state| state.partitions).unwrap_or_default();
    let root = render::root(&table.url()?)?;
    let rendering =
        Rendering { root: &root, column: table.partition_by(), files: &files, rendered: &[], known: &known };
    let (now, changed) = rendering.changed()?;
    let vacated = known.keys().filter(|folder| !now.contains_key(*folder)).count();
    Ok(changed.len() + vacated)
}

/// The manifest of a partition's folder (`event_date=2026-11-23`), below the table.
pub fn path(folder: &str) -> Path {
    folder.split('/').fold(Path::from(FOLDER), Path::join).join("manifest")
}
