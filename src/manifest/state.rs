//! What is recorded of a table's manifests.
//!
//! The one law: it is written last, so it never says more than is there. A state that cannot be read counts as none: every
//! manifest is then written again, which mends whatever had happened to it.

use std::collections::{BTreeMap, BTreeSet};

use object_store::path::Path;
use serde::{Deserialize, Serialize};

use super::FOLDER;
use crate::error::Result;
use crate::lake::{Bookmark, Table};

/// The underscore hides it from whoever lists the folder.
const STATE: &str = "_state.json";

/// The newest form.
const FORMAT: u32 = 1;

/// The version all manifests of a table have reached.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    pub format: u32,
    pub version: u64,
    /// The manifest of each partition's folder.
    pub partitions: BTreeMap<String, Recorded>,
    /// Folders of partitions that were emptied and whose manifest the catalog still leads to.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub emptied: BTreeSet<String>,
}

/// A manifest as it was written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Recorded {
    /// SHA-256 of its text, in hex; empty when nobody knows what it says.
    pub sha256: String,
    /// By which a listing tells whether somebody else has written it since: a writer that was thought dead, for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub e_tag: Option<String>,
}

fn bookmark(table: &Table) -> Bookmark {
    let what = format!("the state of the manifests of table `{}`", table.name());
    Bookmark::new(table.store(), Path::from_iter([FOLDER, STATE]), what)
}

/// The recorded state; `None` before the first, and for one of another format.
///
/// # Errors
/// [`crate::Error::External`] when the store does not answer.
pub(super) async fn read(table: &Table) -> Result<Option<State>> {
    let found = bookmark(table).read_if_sound::<State>().await?;
    Ok(found.filter(|state| state.format == FORMAT))
}

impl State {
    pub(super) fn new(version: u64, partitions: BTreeMap<String, Recorded>, emptied: BTreeSet<String>) -> Self {
        Self { format: FORMAT, version, partitions, emptied }
    }

    /// Records it.
    ///
    /// # Errors
    /// As [`Bookmark::write`].
    pub(super) async fn write(&self, table: &Table) -> Result<()> {
        bookmark(table).write(self).await
    }
}
