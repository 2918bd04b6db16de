//! Reading across tables: the newest epoch that all of them hold.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::SlotLog;
use crate::error::{Error, Result};
use crate::lake::Table;

/// The newest epoch that is in every table it wrote to, all before it included; `None` when no epoch is.
///
/// A running job publishes an epoch to its tables one by one; whoever reads all of them at this epoch sees no half of one.
///
/// # Errors
/// [`Error::External`] when the lake does not answer; [`Error::Broken`] for a missing slot.
pub async fn published_epoch(
    slots: &SlotLog,
    tables: &BTreeMap<Arc<str>, Arc<Table>>,
    app_id: &str,
) -> Result<Option<u64>> {
    let Some(head) = slots.head().await? else { return Ok(None) };
    let mut published = head.published_through;
    for epoch in published.map_or(0, |p| p + 1)..=head.epoch {
        let slot = slots.read(epoch).await?.ok_or_else(|| Error::broken(format!("slot {epoch} is missing")))?;
        for name in slot.tables.keys() {
            let holds = match tables.get(name) {
                Some(table) => table.txn_version(app_id).await?.and_then(|txn| u64::try_from(txn).ok()),
                None => None,
            };
            if holds < Some(epoch) {
                return Ok(published);
            }
        }
        published = Some(epoch);
    }
    Ok(published)
}
