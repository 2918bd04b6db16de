//! What is recorded of a table's export, in the lake: the crawled place holds data and nothing else.
//!
//! The one law: it is written last, and says of a date what its files stand for only when it was complete; one that is owed
//! something is named all the same. A record that cannot be read, or is of another place, counts as none: each date is then
//! held against the table's files, which costs a listing.

use std::collections::BTreeMap;

use object_store::path::Path;
use serde::{Deserialize, Serialize};

use super::Place;
use crate::error::Result;
use crate::lake::{Bookmark, Table};

/// In the table's folder, where the underscore hides it, and where it goes with the table.
const FILE: &str = "_plain.json";

/// The newest form.
const FORMAT: u32 = 1;

/// What stands in the export of a table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    format: u32,
    /// Of the export's place.
    url: String,
    /// The table's version that all dates are as of.
    pub version: u64,
    /// By date: `2026-11-22`.
    pub dates: BTreeMap<String, Recorded>,
}

/// One date.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Recorded {
    /// SHA-256 of the names of its exported files.
    pub names: String,
    /// SHA-256 of the paths of the table's files whose rows these are; `None` while something is owed to it, which no
    /// version before this reads as a hash.
    pub live: Option<String>,
}

fn bookmark(table: &Table) -> Bookmark {
    Bookmark::new(table.store(), Path::from(FILE), format!("what is exported of table `{}`", table.name()))
}

/// The record of this place's export; `None` before the first.
///
/// # Errors
/// [`crate::Error::External`] when the store does not answer.
pub(super) async fn read(table: &Table, place: &Place) -> Result<Option<State>> {
    let state = bookmark(table).read_if_sound::<State>().await?;
    Ok(state.filter(|state| state.format == FORMAT && state.url == place.url()))
}

impl State {
    pub(super) fn new(place: &Place, version: u64, dates: BTreeMap<String, Recorded>) -> Self {
        Self { format: FORMAT, url: place.url().to_owned(), version, dates }
    }

    /// Records it.
    ///
    /// # Errors
    /// As [`Bookmark::write`].
    pub(super) async fn write(&self, table: &Table) -> Result<()> {
        bookmark(table).write(self).await
    }
}
