//! From a draft to tables: stage, decide, publish.
//!
//! Two tasks, so that the files of one epoch are staged while the one before is published and the next is read. The one
//! law: publish only what is decided, in order, and never decide what is not staged.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Instant;

use arrow::array::RecordBatch;
use futures::future::try_join_all;
use tokio::sync::mpsc;

use super::follow_ups::DueTables;
use crate::epoch::{Slot, SlotLog, TableAdds};
use crate::error::{Error, Result};
use crate::lake::Table;

/// Decided epochs that may wait for their publication before the reader pauses: enough to ride over a slow log, few
/// enough that a restart rolls forward at once.
pub(super) const UNPUBLISHED_EPOCHS_MAX: usize = 4;

/// Tables by name.
pub(super) type Tables = BTreeMap<Arc<str>, Arc<Table>>;

/// An epoch as the engine leaves it: the slot without files, and the rows of every table.
#[derive(Debug)]
pub(super) struct Draft {
    pub slot: Slot,
    pub tables: BTreeMap<Arc<str>, Vec<RecordBatch>>,
    /// Files of restated windows, of compacted partitions and of expired ones, by table, staged already.
    pub staged: BTreeMap<Arc<str>, TableAdds>,
    /// Windows this epoch closes, for the commit's line.
    pub windows_closed: u64,
    /// Windows this epoch restates.
    pub windows_restated: u64,
    /// Small files whose rows are in larger ones now.
    pub files_compacted: u64,
    /// Rows of dates this epoch takes out.
    pub rows_expired: u64,
}

/// What the engine and the screen hear of a commit.
#[derive(Clone, Debug)]
pub struct Commit {
    pub epoch: u64,
    pub rows: u64,
    pub files: u64,
    pub bytes: u64,
    pub windows_closed: u64,
    pub millis: u64,
}

/// What the committing tasks tell the engine.
#[derive(Debug)]
pub(super) enum Committed {
    /// The slot exists: its positions are final.
    Decided(Box<Slot>),
    /// Every table holds it.
    Published(Commit),
}

/// The highest published epoch, shared by the two tasks; -1 before the first.
type PublishedThrough = Arc<AtomicI64>;

/// Stages and decides drafts until the engine drops its end.
///
/// # Errors
/// [`Error::Fenced`] when another writer owns the next slot; whatever staging or the store say.
pub(super) async fn stage_and_decide(
    tables: Tables,
    slots: SlotLog,
    mut last: Slot,
    mut drafts: mpsc::Receiver<Draft>,
    decided: mpsc::Sender<(Slot, Commit, Instant)>,
    engine: mpsc::UnboundedSender<Committed>,
    published_through: PublishedThrough,
) -> Result<()> {
    while let Some(draft) = drafts.recv().await {
        let begun = Instant::now();
        let mut slot = draft.slot;
        slot.follow(&last)?;
        slot.published_through = u64::try_from(published_through.load(Ordering::Acquire)).ok();
        slot.tables = stage(&tables, slot.epoch, draft.tables).await?;
        for (name, files) in draft.staged.into_iter().filter(|(_, files)| !files.is_empty()) {
            slot.tables.entry(name).or_default().extend(files);
        }
        // Room to publish comes first: what is decided must not wait behind more than it may.
        let Ok(room) = decided.reserve().await else { return Ok(()) };
        slots.decide(&slot).await?.ours()?;
        slots.write_hint(slot.epoch).await;
        let commit = Commit {
            epoch: slot.epoch,
            rows: slot.counts().written,
            files: slot.tables.values().map(|t| t.adds.len() as u64).sum(),
            bytes: slot.tables.values().map(|t| t.bytes).sum(),
            windows_closed: draft.windows_closed,
            millis: 0,
        };
        last = slot.clone();
        // The engine or the publisher may be gone when the job fails; their own error tells why.
        let _ = engine.send(Committed::Decided(Box::new(slot.clone())));
        room.send((slot, commit, begun));
    }
    Ok(())
}

/// Stages every table's rows; tables without rows get no entry.
async fn stage(
    tables: &Tables,
    epoch: u64,
    rows: BTreeMap<Arc<str>, Vec<RecordBatch>>,
) -> Result<BTreeMap<Arc<str>, TableAdds>> {
    let staged = rows.into_iter().filter(|(_, batches)| batches.iter().any(|b| b.num_rows() > 0)).map(
        |(name, batches)| async move {
            let table = tables.get(&name).ok_or_else(|| Error::broken(format!("no table `{name}` is open")))?;
            let staged = table.stage(batches, epoch).await?;
            Ok::<_, Error>((name, TableAdds::of(staged)))
        },
    );
    Ok(try_join_all(staged).await?.into_iter().collect())
}

/// Publishes decided slots in order until the stager drops its end.
///
/// # Errors
/// Whatever [`Table::publish`] says after its own retries.
pub(super) async fn publish(
    tables: Tables,
    app_id: String,
    follow_ups: Option<DueTables>,
    mut decided: mpsc::Receiver<(Slot, Commit, Instant)>,
    engine: mpsc::UnboundedSender<Committed>,
    published_through: PublishedThrough,
) -> Result<()> {
    while let Some((slot, mut commit, begun)) = decided.recv().await {
        publish_slot(&tables, &app_id, &slot).await?;
        published_through.store(i64::try_from(slot.epoch).unwrap_or(i64::MAX), Ordering::Release);
        commit.millis = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        let _ = engine.send(Committed::Published(commit));
        if let Some(follow_ups) = &follow_ups {
            follow_ups.add(slot.tables.keys());
        }
    }
    Ok(())
}

/// Brings one decided slot into every table it names; tables in parallel.
///
/// # Errors
/// [`Error::Broken`] for a table that is not open; whatever [`Table::publish`] says.
pub(super) async fn publish_slot(tables: &Tables, app_id: &str, slot: &Slot) -> Result<()> {
    let commits = slot.tables.iter().map(|(name, files)| async move {
        let table = tables.get(name).ok_or_else(|| {
            Error::usage(format!("slot {} wrote to the table `{name}`, which is gone: restore its folder", slot.epoch))
        })?;
        table.publish(app_id, slot.epoch, &files.adds, &files.removes).await
    });
    try_join_all(commits).await.map(drop)
}
