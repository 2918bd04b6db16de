//! Files that a decided epoch names and that may be in no log yet.
//!
//! The one law: what a slot after the newest published epoch names is never an orphan, however long the lake stood still.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::epoch::SlotLog;
use crate::error::{Error, Result};

/// Paths by table, as the slots write them.
pub type Unpublished = BTreeMap<Arc<str>, BTreeSet<String>>;

/// The files of every epoch that may not be in all tables yet.
///
/// # Errors
/// [`Error::External`] when the lake does not answer; [`Error::Broken`] for a missing or damaged slot: without it nobody
/// can tell an orphan.
pub async fn unpublished(slots: &SlotLog) -> Result<Unpublished> {
    let mut files = Unpublished::new();
    let Some(head) = slots.head().await? else { return Ok(files) };
    for epoch in head.published_through.unwrap_or(0)..=head.epoch {
        let slot = slots.read(epoch).await?.ok_or_else(|| Error::broken(format!("slot {epoch} is missing")))?;
        for (table, named) in slot.tables {
            files.entry(table).or_default().extend(named.adds.into_iter().map(|add| add.path));
        }
    }
    Ok(files)
}
