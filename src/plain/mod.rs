//! The plain export: dates that are over as ordinary Parquet files in a place of their own, for crawlers and readers that
//! list folders and know no Delta log.
//!
//! The one law: nothing in that place but `<table>/<date column>=<date>/epoch-<n>-<part>.parquet`. Each is a copy of one
//! data file, byte for byte, under a name that follows from the file's; none is ever changed, and a name means the same
//! bytes for ever. So an export is repeated without harm, and whoever dies on the way leaves what the next look completes.
//!
//! What a date's files stand for is recorded in the lake, `<lake>/<table>/_plain.json`, written last. From then on the
//! commits tell what is owed to it: files with late rows are added; a date that was restated, erased or vacated gets the
//! files the table has now, and then loses the others; a compaction is no change of rows, and changes nothing.
//!
//! What it does not do: it decides neither which dates are over (see `pipeline::compaction`) nor when to look.

mod name;
mod place;
mod state;
#[cfg(test)]
mod tests;
mod write;

use serde::Serialize;

use crate::config;
use crate::contract::{Sink, TableContract};
use crate::error::Result;
use crate::lake::Table;

pub use place::Place;
pub use write::{Export, Exported, vacate};

/// Whether a table belongs to the configured export.
pub fn is_exported(settings: &config::Plain, contract: &TableContract) -> bool {
    let is_named = settings.tables.iter().any(|name| **name == *contract.name);
    !settings.url.is_empty() && (settings.tables.is_empty() || is_named || contract.sinks.contains(&Sink::Plain))
}

/// How far a table's export is behind it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Lag {
    /// The table's newest version.
    pub version: u64,
    /// The version the export was last recorded at; `None` before the first time.
    pub exported_at: Option<u64>,
    /// Dates that are exported.
    pub dates: u64,
    /// Dates whose files in the table are others than those the export stands for: late rows, restatements, and until the
    /// next look compactions, which owe it nothing; dates that failed; and dates between exported ones that are not.
    pub behind: u64,
}

/// Where a table's export stands, from the log and the record alone; the export itself is not asked.
///
/// # Errors
/// [`crate::Error::External`] when the lake does not answer.
pub async fn lag(table: &Table, place: &Place) -> Result<Lag> {
    let (version, files) = table.newest_files().await?;
    let Some(state) = state::read(table, place).await? else { return Ok(Lag { version, ..Lag::default() }) };
    let (_, dates) = write::by_date(&files)?;
    let newest = state.dates.keys().next_back().cloned().unwrap_or_default();
    let is_behind = |(date, live): &(&String, &write::Live)| match state.dates.get(*date) {
        Some(recorded) => recorded.live.as_ref() != Some(&live.sha256),
        None => **date <= newest,
    };
    let vacated = state.dates.keys().filter(|date| !dates.contains_key(*date)).count();
    let behind = (dates.iter().filter(is_behind).count() + vacated) as u64;
    let exported = state.dates.values().filter(|recorded| recorded.live.is_some()).count() as u64;
    Ok(Lag { version, exported_at: Some(state.version), dates: exported, behind })
}
