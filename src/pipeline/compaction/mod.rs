//! Compaction: the small files of dates that are over become few large ones, their rows sorted over all of them.
//!
//! The one law: a compaction is decided by a slot like everything else. What is staged here is seen by nobody before that,
//! runs beside the live path, and takes out only files that were live at one published epoch. No row changes: late rows and
//! restatements find the rows where they were, by date and time, whatever file holds them. Beside it, dates that their tables
//! keep no longer are taken out as a whole (`expiry`).
//!
//! ```text
//! a look, every interval ─▶ closed: which dates are over ─▶ choice: which files ─▶ stage ─▶ the next slot
//!                                                     (one step at a time, and none while windows are restated)
//! ```

mod at_rest;
mod background;
mod choice;
mod closed;
mod expiry;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::commit::Tables;
use super::recover::LakeState;
use super::restate::Query;
use crate::clock::{MICROS_PER_SECOND, Micros};
use crate::config::{Config, Maintenance};
use crate::epoch::{Compacted, Slot, SlotLog};
use crate::error::{Error, Result};
use crate::lake::{Compaction, DataFile, Staged, Table, spilling};
use choice::choose;

pub use at_rest::{CompactedTable, ExpiredTable, compact, expire};
pub(super) use background::{Compactor, Step};
pub(super) use choice::Haste;
pub(super) use closed::Closed;
pub(super) use expiry::ExpiredFiles;

/// Microseconds in a day.
const DAY: Micros = 86_400 * MICROS_PER_SECOND;

/// Memory of the sort of one step; beyond it, it spills to disk. The row group being written comes on top, at most as much
/// again.
const MEMORY_BYTES_MAX: usize = 128 << 20;

/// Partitions of one step that may fail: a store that does not answer is not asked about each of them.
const FAILED_PARTITIONS_MAX: usize = 3;

/// Partitions with nothing left to do in this look, or that could not be compacted: by table, days since 1970-01-01.
pub(super) type Done = BTreeSet<(Arc<str>, i32)>;

/// Whether the running job is about to write files of this date together.
pub(super) fn is_due(files: &[Arc<DataFile>], settings: &Maintenance) -> bool {
    settings.enabled && !choose(files, settings.small_bytes(), |_| true, Haste::WhenItPays).is_empty()
}

/// Files written together, staged and not decided yet.
#[derive(Clone, Debug)]
pub(super) struct CompactedFiles {
    pub table: Arc<str>,
    pub compacted: Compacted,
    pub staged: Staged,
}

/// The lake's partitions as of one published epoch.
#[derive(Clone, Debug)]
pub(super) struct Partitions {
    tables: Tables,
    slots: SlotLog,
    stream: Arc<str>,
    /// The stream's event time, if its table is partitioned by its date.
    event_time: Option<Arc<str>>,
    /// Of tables that do not keep all dates.
    keep_days: BTreeMap<Arc<str>, u32>,
    app_id: String,
    settings: Maintenance,
    /// The epoch.
    through: u64,
    now: Micros,
}

impl Partitions {
    /// The lake as of `through`, an epoch that every table holds.
    pub(super) fn new(state: &LakeState, config: &Config, through: u64, now: Micros) -> Self {
        let by_date = state.stream.is_by_event_date();
        let contracts = state.contracts.iter();
        let keep_days = contracts.filter_map(|(name, contract)| Some((Arc::clone(name), contract.keep_days?)));
        Self {
            tables: state.tables.clone(),
            slots: state.slots.clone(),
            stream: Arc::clone(&state.stream.name),
            event_time: state.stream.stream.as_ref().filter(|_| by_date).map(|stream| Arc::clone(&stream.event_time)),
            keep_days: keep_days.collect(),
            app_id: config.lake.app_id.clone(),
            settings: config.maintenance.clone(),
            through,
            now,
        }
    }

    /// Stages one step: files of one table, of as many partitions as the bounds of a step allow. `None` when no table has
    /// any to write together. Partitions it is through with, well or not, join `done`.
    ///
    /// # Errors
    /// As [`Table::stage_compaction`].
    pub(super) async fn stage_next(
        &self,
        queries: &[Query],
        only: Option<&BTreeSet<Arc<str>>>,
        haste: Haste,
        done: &mut Done,
    ) -> Result<Option<CompactedFiles>> {
        let slot = self.slot().await?;
        let closed = Closed::at(&slot, queries, &self.stream, self.now);
        for (name, table) in &self.tables {
            if only.is_some_and(|only| !only.contains(name)) {
                continue;
            }
            let version = table.version_of_epoch(&self.app_id, self.through).await?;
            let files = table.live_files_at(version).await?;
            let before = closed.before(name);
            let is_wanted = |day: i32| day < before && !done.contains(&(Arc::clone(name), day));
            let choices = choose(&files, self.settings.small_bytes(), is_wanted, haste);
            if choices.is_empty() {
                continue;
            }
            done.extend(choices.iter().filter(|choice| choice.is_whole).map(|c| (Arc::clone(name), c.partition)));
            return self.stage(name, table, choices, done).await.map(Some);
        }
        Ok(None)
    }

    /// The epoch's slot.
    async fn slot(&self) -> Result<Slot> {
        let slot = self.slots.read(self.through).await?;
        slot.ok_or_else(|| Error::broken(format!("slot {} is missing", self.through)))
    }

    /// A partition that cannot be read is left out, and told; only if all were, or many, the step fails.
    async fn stage(
        &self,
        name: &Arc<str>,
        table: &Table,
        choices: Vec<choice::Choice>,
        done: &mut Done,
    ) -> Result<CompactedFiles> {
        let runtime = spilling(MEMORY_BYTES_MAX)?;
        let mut compacted = Compacted { through: self.through, ..Compacted::default() };
        let mut staged = Staged::default();
        let (mut failures, all) = (0, choices.len());
        for choice in choices {
            let (files, file_bytes) = (choice.files.as_slice(), self.settings.file_size.as_u64());
            let compaction = Compaction { files, epoch: self.through, file_bytes, runtime: &runtime };
            match table.stage_compaction(compaction).await {
                Ok(more) => {
                    if let Some(file) = files.first() {
                        compacted.partitions.insert(file.date()?);
                    }
                    staged.extend(more);
                }
                Err(error) => {
                    done.insert((Arc::clone(name), choice.partition));
                    failures += 1;
                    if failures == FAILED_PARTITIONS_MAX || failures == all {
                        return Err(error);
                    }
                    tracing::warn!(table = %name, %error, "small files of one date were not written together");
                }
            }
        }
        (compacted.rows, compacted.bytes) = (staged.rows, staged.bytes);
        Ok(CompactedFiles { table: Arc::clone(name), compacted, staged })
    }
}
