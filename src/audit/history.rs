//! The decided epochs as their slots tell them, and what slots must be among themselves (invariants 1, 2, 3, 6, 9).
//!
//! The one law: slots are read as stored bytes, listed and not guessed from a hint, and each is held against the one
//! before it. What the tables hold is not looked at here.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use object_store::ObjectStore;
use object_store::path::Path;
use sha2::{Digest, Sha256};

use super::finding::Kind as Found;
use super::log::FileEntry;
use super::report::Report;
use super::succession;
use crate::clock::Micros;
use crate::epoch::{
    Compacted, Epochs, Erased, Expired, Gone, Kind, QueryProgress, Restated, ShardSlot, Slot, SlotLog, TableAdds,
};
use crate::error::{Context, Error, Result};
use crate::stream::ShardKey;

/// Slots read at once: enough to hide a store's latency, few enough not to be throttled.
const READS_MAX: usize = 16;

/// All decided epochs.
#[derive(Debug, Default)]
pub(super) struct History {
    /// By epoch; missing and damaged slots are not among them.
    pub steps: BTreeMap<u64, Step>,
    /// The newest slot there is, readable or not.
    pub head: Option<u64>,
    /// The newest slot when the logs had been read: beyond `head` when the lake is being written.
    pub decided_since: Option<u64>,
    /// As the newest readable slot says.
    pub published_through: Option<u64>,
}

/// What later checks need of one slot: shards that were not read in it are left out.
#[derive(Debug)]
pub(super) struct Step {
    pub kind: Kind,
    pub generation: u64,
    pub written_at: Micros,
    pub watermark: Option<Micros>,
    pub queries: BTreeMap<Arc<str>, QueryProgress>,
    /// Shards this epoch read.
    pub reads: Vec<(ShardKey, ShardSlot)>,
    pub tables: BTreeMap<Arc<str>, Vec<FileEntry>>,
    /// Paths of files it takes out, by table.
    pub removes: BTreeMap<Arc<str>, Vec<String>>,
    /// Windows it restates, by query.
    pub restated: BTreeMap<Arc<str>, Restated>,
    /// Earlier epochs whose rows it answers, by query without windows.
    pub answered: BTreeMap<Arc<str>, Epochs>,
    /// What it writes together, by table.
    pub compacted: BTreeMap<Arc<str>, CompactedStep>,
    /// Dates it takes out for good, and rows it erases, by table; and what is gone by it and all slots before it.
    pub expired: BTreeMap<Arc<str>, Expired>,
    pub erased: BTreeMap<Arc<str>, Erased>,
    pub gone: Gone,
}

/// Files of one table that hold the rows of others.
#[derive(Clone, Debug, Default)]
pub(super) struct CompactedStep {
    pub compacted: Compacted,
    /// Paths of the files taken out for it; those that come instead are among the step's files, without change of data.
    pub removes: Vec<String>,
}

/// The slot before the one being looked at: its bytes' hash, and itself if it could be read.
#[derive(Debug)]
struct Before {
    epoch: u64,
    sha256: String,
    slot: Option<Slot>,
}

/// Reads every slot and holds each against the one before.
///
/// # Errors
/// [`Error::External`] when the store does not answer; [`Error::Usage`] for a slot of a newer Lakeward.
pub(super) async fn read(
    store: &Arc<dyn ObjectStore>,
    stream_table: &str,
    report: &mut Report,
) -> Result<(History, Option<Slot>)> {
    let epochs = list(store).await?;
    report_holes(&epochs, report);
    let mut history = History { head: epochs.last().copied(), ..History::default() };
    let log = SlotLog::new(Arc::clone(store));
    let log = &log;
    let mut slots = futures::stream::iter(epochs)
        .map(|epoch| async move { Ok::<_, Error>((epoch, log.read_bytes(epoch).await?)) })
        .buffered(READS_MAX);
    let mut before: Option<Before> = None;
    let mut newest = None;
    while let Some((epoch, bytes)) = slots.try_next().await? {
        let Some(bytes) = bytes else { continue };
        let slot = match Slot::from_json(&bytes, epoch) {
            Ok(slot) => Some(slot),
            Err(newer @ Error::Usage(_)) => return Err(newer),
            Err(damaged) => {
                report.find(Found::DamagedSlot, place(epoch), damaged.to_string());
                None
            }
        };
        if let Some(slot) = &slot {
            check_link(slot, before.as_ref(), report);
            succession::check_slot(slot, stream_table, report);
            let previous = before.as_ref().filter(|b| b.epoch + 1 == epoch).and_then(|b| b.slot.as_ref());
            if let Some(previous) = previous {
                succession::check_pair(previous, slot, report);
            }
            history.published_through = history.published_through.max(slot.published_through.map(|p| p.min(epoch)));
            history.steps.insert(epoch, Step::of(slot));
            newest = Some(slot.clone());
        }
        before = Some(Before { epoch, sha256: hex::encode(Sha256::digest(&bytes)), slot });
    }
    if let Some(newest) = &newest {
        history.forget(&newest.dropped, report);
    }
    Ok((history, newest))
}

/// The newest slot there is now.
///
/// # Errors
/// [`Error::External`] when the store does not answer.
pub(super) async fn newest(store: &Arc<dyn ObjectStore>) -> Result<Option<u64>> {
    Ok(list(store).await?.last().copied())
}

/// How a report names a slot.
pub(super) fn place(epoch: u64) -> String {
    format!("slot {epoch}")
}

/// The epochs there is a slot of, in order.
async fn list(store: &Arc<dyn ObjectStore>) -> Result<Vec<u64>> {
    let listed = store.list(Some(&Path::from("_epochs"))).try_collect::<Vec<_>>().await;
    let listed = listed.context(|| "listing the slots in `_epochs`")?;
    let names = listed.iter().filter_map(|object| object.location.filename()?.strip_suffix(".json"));
    let mut epochs: Vec<u64> = names.filter_map(|name| name.parse().ok()).collect();
    epochs.sort_unstable();
    Ok(epochs)
}

fn report_holes(epochs: &[u64], report: &mut Report) {
    let mut expected = 0;
    for &epoch in epochs {
        if epoch > expected {
            let last = epoch - 1;
            let missing = if last == expected { place(last) } else { format!("slots {expected} to {last}") };
            report.find(Found::MissingSlot, "`_epochs`", format!("{missing} missing, although slot {epoch} exists"));
        }
        expected = epoch + 1;
    }
}

fn check_link(slot: &Slot, before: Option<&Before>, report: &mut Report) {
    let expected = match before {
        Some(before) if before.epoch + 1 == slot.epoch => before.sha256.as_str(),
        None if slot.epoch == 0 => "",
        // The slot before is missing, which is a finding of its own.
        _ => return,
    };
    if slot.previous_sha256 != expected {
        let (found, before) = (&slot.previous_sha256, slot.epoch.wrapping_sub(1));
        report.find(
            Found::BrokenLink,
            place(slot.epoch),
            format!("it was decided after a slot {before} with SHA-256 `{found}`, slot {before} now has `{expected}`"),
        );
    }
}

impl Step {
    pub(super) fn of(slot: &Slot) -> Self {
        let read = |shard: &ShardSlot| {
            (shard.from != shard.progress.position && shard.lost_before.is_none()) || shard.counts.read > 0
        };
        Self {
            kind: slot.kind,
            generation: slot.generation,
            written_at: slot.written_at,
            watermark: slot.watermark,
            queries: slot.queries.clone(),
            reads: slot.shards().filter(|(_, s)| read(s)).map(|(key, s)| (key, s.clone())).collect(),
            tables: slot
                .tables
                .iter()
                .map(|(name, files)| (Arc::clone(name), files.adds.iter().map(FileEntry::of_slot).collect()))
                .collect(),
            removes: slot
                .tables
                .iter()
                .map(|(name, files)| (Arc::clone(name), files.removes.iter().map(|r| r.path.clone()).collect()))
                .collect(),
            restated: slot.restated.clone(),
            answered: slot.answered.clone(),
            compacted: slot
                .compacted
                .iter()
                .map(|(name, compacted)| (Arc::clone(name), CompactedStep::of(compacted, slot.tables.get(name))))
                .collect(),
            expired: slot.expired.clone(),
            erased: slot.erased.clone(),
            gone: slot.gone.clone(),
        }
    }
}

impl CompactedStep {
    fn of(compacted: &Compacted, files: Option<&TableAdds>) -> Self {
        let removes = files.iter().flat_map(|files| &files.removes).filter(|remove| !remove.data_change);
        Self { compacted: compacted.clone(), removes: removes.map(|remove| remove.path.clone()).collect() }
    }
}

impl History {
    /// Leaves out what slots say of tables that were dropped since: nothing of it is to be found.
    fn forget(&mut self, dropped: &BTreeMap<Arc<str>, u64>, report: &mut Report) {
        for (table, at) in dropped {
            for step in self.steps.range_mut(..=at).map(|(_, step)| step) {
                step.tables.remove(table);
                step.removes.remove(table);
                step.restated.remove(table);
                step.answered.remove(table);
                step.compacted.remove(table);
                step.expired.remove(table);
                step.erased.remove(table);
                step.gone.expired.remove(table);
                // That some query ran is still to be known; one of its name that came later is another.
                if let Some(progress) = step.queries.remove(table) {
                    step.queries.insert(format!("{table}, until slot {at}").into(), progress);
                }
            }
            report.note(format!(
                "the table `{table}` was dropped ({}): what was decided of it before is not proved",
                place(*at)
            ));
        }
    }

    /// The steps up to an epoch, in order.
    pub(super) fn through(&self, epoch: Option<u64>) -> impl Iterator<Item = (u64, &Step)> {
        self.steps.iter().map(|(epoch, step)| (*epoch, step)).take_while(move |(e, _)| Some(*e) <= epoch)
    }

    /// The first epoch of these whose slot is missing or damaged.
    pub(super) fn first_hole(&self, published: Option<u64>) -> Option<u64> {
        (0..=published?).find(|epoch| !self.steps.contains_key(epoch))
    }

    /// Whether what was closed before an epoch is known.
    pub(super) fn knows_before(&self, epoch: u64) -> bool {
        epoch == 0 || self.before(epoch).is_some()
    }

    /// The slot before an epoch, if it can be read.
    pub(super) fn before(&self, epoch: u64) -> Option<&Step> {
        self.steps.get(&epoch.checked_sub(1)?)
    }
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;
    use object_store::{ObjectStoreExt, PutPayload};
    use uuid::Uuid;

    use super::*;
    use crate::epoch::{TokenKeyName, Writer};

    async fn store_of(slots: u64) -> Arc<dyn ObjectStore> {
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let writer = Writer { id: Uuid::nil(), generation: 0, host: "a".into() };
        let mut slot = Slot::first(&writer, TokenKeyName { version: 1, fingerprint: "k".into() }, 0);
        for epoch in 0..slots {
            put(&store, epoch, slot.to_json().unwrap()).await;
            slot = slot.next(&writer, Kind::Epoch, 0).unwrap();
        }
        store
    }

    async fn put(store: &Arc<dyn ObjectStore>, epoch: u64, bytes: Vec<u8>) {
        store.put(&Path::from(format!("_epochs/{epoch:020}.json")), PutPayload::from(bytes)).await.unwrap();
    }

    async fn kinds(store: &Arc<dyn ObjectStore>) -> Vec<(Found, String)> {
        let mut report = Report::default();
        read(store, "transactions", &mut report).await.unwrap();
        report.findings.into_iter().map(|finding| (finding.kind, finding.place)).collect()
    }

    #[tokio::test]
    async fn a_chain_as_written_is_clean() {
        let store = store_of(40).await;
        let mut report = Report::default();
        let (history, newest) = read(&store, "transactions", &mut report).await.unwrap();
        assert!(report.is_clean(), "{report}");
        assert_eq!((history.head, history.steps.len(), newest.unwrap().epoch), (Some(39), 40, 39));
    }

    #[tokio::test]
    async fn a_missing_slot_is_named_whatever_the_hint_says() {
        let store = store_of(5).await;
        store.delete(&Path::from("_epochs/00000000000000000002.json")).await.unwrap();
        assert_eq!(kinds(&store).await, [(Found::MissingSlot, "`_epochs`".to_owned())]);
    }

    #[tokio::test]
    async fn a_changed_byte_breaks_the_link_of_the_next_slot() {
        let store = store_of(5).await;
        let bytes = SlotLog::new(Arc::clone(&store)).read_bytes(2).await.unwrap().unwrap();
        put(&store, 2, [bytes.as_ref(), b"\n"].concat()).await;
        assert_eq!(kinds(&store).await, [(Found::BrokenLink, "slot 3".to_owned())]);
        put(&store, 2, b"{".to_vec()).await;
        assert_eq!(
            kinds(&store).await,
            [(Found::DamagedSlot, "slot 2".to_owned()), (Found::BrokenLink, "slot 3".to_owned())]
        );
    }
}
