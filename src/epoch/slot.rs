//! The slot: the record that decides an epoch, and all that a restart needs.
//!
//! Every slot, fences included, carries the whole resume state, so the newest one is enough to go on. Slots are linked by
//! hash and never change.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{Epochs, Erased, Expired, Gone};
use crate::clock::Micros;
use crate::error::{Error, Result};
use crate::lake::{Add, Remove, Staged};
use crate::stream::{Position, ShardId, ShardKey, ShardProgress, SourceId};

/// The newest form of a slot this binary writes and understands. Version 2 may take files out and restate windows: a
/// lakeward that does not know that would publish the new files beside the old ones, so it must refuse the slot. Version 3
/// may also write files together: an audit that does not know that would count their rows twice and call for a restore.
/// Version 4 may take rows out for good and drop tables: a lakeward that does not know that would compute closed windows anew
/// over what is left, and make a table anew amid the files of the old one. Version 5 may answer rows of earlier epochs for a
/// query without windows: a lakeward that does not know that would answer them twice.
pub const SLOT_VERSION: u32 = 5;

/// One decided step of the pipeline. Serialised as JSON under `_epochs/`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Slot {
    pub version: u32,
    /// Contiguous from 0; also the version of the Delta `txn` action.
    pub epoch: u64,
    /// Raised by each writer that takes the lake over.
    pub generation: u64,
    /// The process that wrote it.
    pub writer: Uuid,
    /// Different for every slot: tells our own lost answer from another's slot.
    pub nonce: Uuid,
    /// The machine it runs on: two machines that keep fencing each other are told apart by it.
    pub host: Arc<str>,
    /// Microseconds, UTC; for people, and to tell old fences from a fight. Nothing else depends on it.
    pub written_at: Micros,
    pub kind: Kind,
    /// SHA-256 (hex) of the bytes of the slot before; empty for the first.
    pub previous_sha256: String,
    /// The highest epoch known to be in every table when this was written.
    pub published_through: Option<u64>,
    pub sources: BTreeMap<SourceId, SourceProgress>,
    /// The stream's watermark (microseconds, UTC). Never falls.
    pub watermark: Option<Micros>,
    /// The greatest event time of any row so far.
    pub event_time_max: Option<Micros>,
    pub queries: BTreeMap<Arc<str>, QueryProgress>,
    pub token_key: TokenKeyName,
    /// Data files by table folder.
    pub tables: BTreeMap<Arc<str>, TableAdds>,
    /// Windows restated by this epoch, by query.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub restated: BTreeMap<Arc<str>, Restated>,
    /// Earlier epochs whose rows of the stream this epoch answers, by query without windows: that had missed them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub answered: BTreeMap<Arc<str>, Epochs>,
    /// Partitions of which this epoch writes files together, by table.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub compacted: BTreeMap<Arc<str>, Compacted>,
    /// Dates this epoch takes out for good, by table.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub expired: BTreeMap<Arc<str>, Expired>,
    /// Rows this epoch erases, by table.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub erased: BTreeMap<Arc<str>, Erased>,
    /// What is gone for good by this slot and all before it.
    #[serde(default, skip_serializing_if = "Gone::is_nothing")]
    pub gone: Gone,
    /// Every table any slot so far has written to: their folders must exist.
    #[serde(default)]
    pub tables_known: BTreeSet<Arc<str>>,
    /// Tables that were dropped, each with the slot that decided it: what that slot and those before it say of such a table
    /// is of no table any more. One of the same name may have come since.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub dropped: BTreeMap<Arc<str>, u64>,
    /// Those of them whose files are not known to be gone: nobody reads them, and none is made anew before they are.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub dropping: BTreeSet<Arc<str>>,
    /// SHA-256 (hex) of this slot's own stored bytes, once they are known: what the next slot is linked by. Never taken
    /// from a slot written anew, since another version might write it otherwise.
    #[serde(skip)]
    pub stored_sha256: Option<String>,
}

/// What a slot stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Rows were read, windows closed, closed windows restated, files written together, or rows taken out for good.
    Epoch,
    /// A writer took the lake over.
    Fence,
    /// A loss was acknowledged by hand.
    Gap,
    /// The stream was made anew: its positions start over.
    NewStream,
}

/// Progress of one source.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SourceProgress {
    /// Tells one stream from another of the same name: ARN and creation time. Empty for files.
    pub incarnation: String,
    /// How long the stream kept a record when the run began that wrote this, microseconds. `None`: not a stream, or written
    /// before this was recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<Micros>,
    pub shards: BTreeMap<ShardId, ShardSlot>,
}

/// One shard in one slot: the interval `(from, progress.position]` this epoch read, and its counts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShardSlot {
    pub from: Position,
    #[serde(flatten)]
    pub progress: ShardProgress,
    #[serde(default, skip_serializing_if = "Counts::is_zero")]
    pub counts: Counts,
    /// When the reader last stood at the shard's tip (microseconds, UTC): whatever it has not read arrived later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_tip: Option<Micros>,
    /// Only in a slot of [`Kind::Gap`]: records after `from` and before this one were lost, and reading goes on with the
    /// oldest there is. `trim_horizon` when nobody knows which one that was. Of a shard
    /// that is gone, and finished so, all after `from` was lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost_before: Option<Position>,
}

impl ShardSlot {
    /// What is unread arrived since then (microseconds, UTC); `None` when nobody knows.
    pub fn unread_since(&self) -> Option<Micros> {
        match self.progress.position {
            Position::AtTimestamp(from) => self.at_tip.max(Some(from)),
            Position::TrimHorizon | Position::After(_) => self.at_tip,
        }
    }

    /// What of the shard was lost before it was read, when the slot accepts a loss.
    pub fn loss(&self) -> Option<String> {
        let from = match &self.from {
            Position::TrimHorizon => "records".to_owned(),
            from => format!("records after {from}"),
        };
        let to = match self.lost_before.as_ref()? {
            _ if self.progress.finished => " up to its end".to_owned(),
            Position::TrimHorizon => String::new(),
            to => format!(" and before {to}"),
        };
        Some(format!("{from}{to} expired before they were read"))
    }
}

/// The books of one shard in one epoch: `read = written + duplicates + rejected`; `late` is part of `written`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    pub read: u64,
    pub written: u64,
    pub duplicates: u64,
    pub rejected: u64,
    /// Rows refused by at least one query.
    pub late: u64,
    /// Rows refused, by query.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub late_by_query: BTreeMap<Arc<str>, u64>,
}

impl Counts {
    fn is_zero(&self) -> bool {
        *self == Self::default()
    }

    /// Whether every record read has ended in exactly one place.
    pub fn balance(&self) -> bool {
        self.read == self.written + self.duplicates + self.rejected && self.late <= self.written
    }

    /// Adds the counts of another epoch or shard.
    pub fn add(&mut self, other: &Self) {
        self.read += other.read;
        self.written += other.written;
        self.duplicates += other.duplicates;
        self.rejected += other.rejected;
        self.late += other.late;
        for (query, late) in &other.late_by_query {
            *self.late_by_query.entry(query.clone()).or_default() += late;
        }
    }
}

/// Progress of one standing query.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QueryProgress {
    /// Of its normalised plan; another one means the query was edited.
    pub fingerprint: String,
    /// End of the last window it has closed; `None` for a stateless query, or before the first.
    pub closed_until: Option<Micros>,
    /// Start of its oldest open window: a rebuild reads rows from here on.
    pub open_since: Option<Micros>,
    /// The last closing was forced by the end of a bounded input.
    #[serde(default)]
    pub end_of_input: bool,
    /// Whether it ran in this epoch. A query that was taken away keeps its progress; a row the lake took in meanwhile owes
    /// it nothing, which only this tells an audit.
    #[serde(default = "yes")]
    pub running: bool,
    /// Its table answers the windows that end after this by the present text; `None`: all there are. A query that came
    /// later, or was edited, answers from where it joined the stream, until its history is backfilled.
    #[serde(default)]
    pub answers_after: Option<Micros>,
    /// The epoch up to which late rows were looked at and the windows they belong to restated; `None`: never yet.
    #[serde(default)]
    pub reconciled_through: Option<u64>,
    /// Windows of a view on a view that its parent answers otherwise now, or had more rows for later; until they have
    /// closed and are restated.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub owed: Vec<Owed>,
    /// Rows late for a query of sessions that belong to a session still open: all other late rows up to
    /// `reconciled_through` count, these do not. Exact: every row of the epoch at these times.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waiting: Vec<Owed>,
    /// The versions of the tables its rows were joined with in this epoch, all of them: a rebuild joins them as of these.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub lookups: BTreeMap<Arc<str>, u64>,
    /// Epochs of whose rows of the stream its table lacks what its text says, because it did not run. Of a query without
    /// windows all of these rows, until a backfill answers them; of one over windows those that were late for it, until they
    /// were looked at. `None`: written before this was recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missed: Option<Epochs>,
    /// Of a query that does not run: the last epoch in which it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ran_through: Option<u64>,
}

impl QueryProgress {
    /// Of a query that runs and has closed nothing, has nothing open and owes nothing.
    pub fn running(fingerprint: &str) -> Self {
        Self {
            fingerprint: fingerprint.to_owned(),
            closed_until: None,
            open_since: None,
            end_of_input: false,
            running: true,
            answers_after: None,
            reconciled_through: None,
            owed: Vec::new(),
            waiting: Vec::new(),
            lookups: BTreeMap::new(),
            missed: None,
            ran_through: None,
        }
    }
}

/// A stretch of time that a query's table does not answer as it should yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owed {
    /// The epoch that brought the rows.
    pub epoch: u64,
    /// Half-open: of `window_start`, of a view without windows that of its parent; of sessions, times of rows.
    pub from: Micros,
    pub to: Micros,
    /// Only of windows that grow, several to a start: those that end by this are as they should be, later ones have not
    /// closed yet and will not be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paid_until: Option<Micros>,
}

impl Owed {
    /// All windows of a stretch.
    pub fn new(epoch: u64, from: Micros, to: Micros) -> Self {
        Self { epoch, from, to, paid_until: None }
    }
}

/// Slots written before this was recorded only ever knew queries that ran.
fn yes() -> bool {
    true
}

/// Which key made the tokens; never the key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenKeyName {
    pub version: u32,
    pub fingerprint: String,
}

/// Data files of one table in one epoch.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TableAdds {
    pub adds: Vec<Add>,
    /// Files the epoch takes out, because others among `adds` hold their rows, or better ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub removes: Vec<Remove>,
    /// Of the files added.
    pub rows: u64,
    /// Of the files added.
    pub bytes: u64,
}

impl TableAdds {
    /// What a slot says of staged files.
    pub fn of(staged: Staged) -> Self {
        let Staged { adds, removes, rows, bytes } = staged;
        Self { adds, removes, rows, bytes }
    }

    /// Whether there is nothing to commit.
    pub fn is_empty(&self) -> bool {
        self.adds.is_empty() && self.removes.is_empty()
    }

    /// Adds further files of the same epoch.
    pub fn extend(&mut self, other: Self) {
        self.adds.extend(other.adds);
        self.removes.extend(other.removes);
        self.rows += other.rows;
        self.bytes += other.bytes;
    }
}

/// Closed windows of one query whose rows this epoch replaces.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restated {
    /// Half-open ranges of `window_start`, microseconds UTC, in order and apart.
    pub ranges: Vec<(Micros, Micros)>,
    /// Every row of the stream up to this epoch counts in these windows, late or not; of later rows only those that are
    /// not late.
    pub through: u64,
}

/// Files of one table that hold, in fewer files, the rows of others, which are taken out: those among its adds and removes
/// that say `dataChange: false`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compacted {
    /// Values of the partition column, as in the folders' names.
    pub partitions: BTreeSet<String>,
    /// Every file taken out was live at this epoch.
    pub through: u64,
    /// Of the files added for it; as many as in those taken out.
    pub rows: u64,
    /// Of the files added for it.
    pub bytes: u64,
}

/// Who writes slots: one process, one generation.
#[derive(Clone, Debug)]
pub struct Writer {
    pub id: Uuid,
    pub generation: u64,
    pub host: Arc<str>,
}

impl Slot {
    /// The state before anything was decided.
    pub fn first(writer: &Writer, token_key: TokenKeyName, now: Micros) -> Self {
        Self {
            version: SLOT_VERSION,
            epoch: 0,
            generation: writer.generation,
            writer: writer.id,
            nonce: Uuid::new_v4(),
            host: writer.host.clone(),
            written_at: now,
            kind: Kind::Fence,
            previous_sha256: String::new(),
            published_through: None,
            sources: BTreeMap::new(),
            watermark: None,
            event_time_max: None,
            queries: BTreeMap::new(),
            token_key,
            tables: BTreeMap::new(),
            restated: BTreeMap::new(),
            answered: BTreeMap::new(),
            compacted: BTreeMap::new(),
            expired: BTreeMap::new(),
            erased: BTreeMap::new(),
            gone: Gone::default(),
            tables_known: BTreeSet::new(),
            dropped: BTreeMap::new(),
            dropping: BTreeSet::new(),
            stored_sha256: None,
        }
    }

    /// The slot after this one with everything carried forward and nothing read: intervals empty, no files.
    ///
    /// # Errors
    /// [`Error::Broken`] when this slot cannot be serialised.
    pub fn next(&self, writer: &Writer, kind: Kind, now: Micros) -> Result<Self> {
        let mut next = self.clone();
        next.version = SLOT_VERSION;
        next.epoch += 1;
        next.generation = writer.generation;
        next.writer = writer.id;
        next.nonce = Uuid::new_v4();
        next.host = writer.host.clone();
        next.written_at = now;
        next.kind = kind;
        next.follow(self)?;
        next.tables.clear();
        next.restated.clear();
        next.answered.clear();
        next.compacted.clear();
        next.expired.clear();
        next.erased.clear();
        for source in next.sources.values_mut() {
            for shard in source.shards.values_mut() {
                shard.from = shard.progress.position.clone();
                shard.counts = Counts::default();
                shard.lost_before = None;
            }
        }
        Ok(next)
    }

    /// Lets go of a table, and of the query of its name, in this slot. Its files are deleted after it was decided.
    pub fn drop_table(&mut self, name: &Arc<str>) {
        self.tables_known.remove(name);
        self.queries.remove(name);
        // A table of the same name begins with all its rows.
        self.gone.expired.remove(name);
        self.dropped.insert(Arc::clone(name), self.epoch);
        self.dropping.insert(Arc::clone(name));
    }

    /// Links this slot to the one decided before it.
    ///
    /// # Errors
    /// [`Error::Broken`] when that slot is not the one before.
    pub fn follow(&mut self, previous: &Self) -> Result<()> {
        if self.epoch != previous.epoch + 1 {
            return Err(Error::broken(format!("slot {} cannot follow slot {}", self.epoch, previous.epoch)));
        }
        self.previous_sha256 = match &previous.stored_sha256 {
            Some(stored) => stored.clone(),
            None => sha256_hex(&previous.to_json()?),
        };
        self.stored_sha256 = None;
        Ok(())
    }

    /// The bytes stored under `_epochs/`.
    ///
    /// # Errors
    /// [`Error::Broken`] when a value cannot be written as JSON.
    pub fn to_json(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(self).map_err(|e| Error::broken(format!("slot {} cannot be written: {e}", self.epoch)))
    }

    /// Reads a stored slot.
    ///
    /// # Errors
    /// [`Error::Usage`] when a newer Lakeward wrote it; [`Error::Broken`] when it is damaged.
    pub fn from_json(bytes: &[u8], epoch: u64) -> Result<Self> {
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        let damaged = |e| Error::broken(format!("slot {epoch} of `_epochs` is damaged: {e}"));
        let Version { version } = serde_json::from_slice(bytes).map_err(damaged)?;
        if version > SLOT_VERSION {
            return Err(Error::usage(format!(
                "slot {epoch} of `_epochs` has version {version}, this lakeward knows {SLOT_VERSION}: a newer lakeward \
                 has written to this lake, use that one"
            )));
        }
        let mut slot: Self = serde_json::from_slice(bytes).map_err(damaged)?;
        slot.stored_sha256 = Some(sha256_hex(bytes));
        if slot.epoch != epoch {
            return Err(Error::broken(format!("slot {epoch} of `_epochs` says it is slot {}", slot.epoch)));
        }
        Ok(slot)
    }

    /// Counts summed over all shards.
    pub fn counts(&self) -> Counts {
        let mut sum = Counts::default();
        self.shards().for_each(|(_, shard)| sum.add(&shard.counts));
        sum
    }

    /// Every shard of every source.
    pub fn shards(&self) -> impl Iterator<Item = (ShardKey, &ShardSlot)> {
        self.sources.iter().flat_map(|(source, progress)| {
            progress
                .shards
                .iter()
                .map(|(shard, slot)| (ShardKey { source: source.clone(), shard: shard.clone() }, slot))
        })
    }

    /// Progress of the shards of one source; empty when the source is new.
    pub fn resume(&self, source: &str) -> BTreeMap<ShardId, ShardProgress> {
        self.sources.get(source).map_or_else(BTreeMap::new, |s| {
            s.shards.iter().map(|(id, shard)| (id.clone(), shard.progress.clone())).collect()
        })
    }
}

/// Lower-case hex of the SHA-256 of some bytes.
pub(super) fn sha256_hex(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn writer() -> Writer {
        Writer { id: Uuid::nil(), generation: 1, host: "a".into() }
    }

    fn slot() -> Slot {
        Slot::first(&writer(), TokenKeyName { version: 1, fingerprint: "ab".into() }, 0)
    }

    #[test]
    fn a_slot_survives_its_json() {
        let mut slot = slot();
        let progress = ShardProgress {
            position: Position::After("00000000000000000042".to_string().try_into().unwrap()),
            finished: true,
            parents: ["p".into()].into(),
            watermark: Some(7),
        };
        let shard = ShardSlot {
            from: Position::TrimHorizon,
            progress,
            counts: Counts { read: 2, written: 2, ..Counts::default() },
            at_tip: Some(9),
            lost_before: Some(Position::TrimHorizon),
        };
        slot.sources.entry("files".into()).or_default().shards.insert("a".into(), shard);
        let bytes = slot.to_json().unwrap();
        slot.stored_sha256 = Some(sha256_hex(&bytes));
        assert_eq!(Slot::from_json(&bytes, 0).unwrap(), slot);
    }

    #[test]
    fn the_next_slot_is_linked_and_has_read_nothing() {
        let first = slot();
        let next = first.next(&writer(), Kind::Epoch, 1).unwrap();
        assert_eq!(next.epoch, 1);
        assert_eq!(next.previous_sha256, sha256_hex(&first.to_json().unwrap()));
        assert_ne!(next.nonce, first.nonce);
    }

    #[test]
    fn a_slot_of_the_first_version_is_understood_and_followed_by_one_of_this() {
        let mut value: serde_json::Value = serde_json::from_slice(&slot().to_json().unwrap()).unwrap();
        value["version"] = 1.into();
        value["tables"] = serde_json::json!({"t": {"adds": [], "rows": 0, "bytes": 0}});
        value["queries"] = serde_json::json!({"q": {"fingerprint": "f", "closed_until": 7, "open_since": null}});
        let old = Slot::from_json(value.to_string().as_bytes(), 0).unwrap();
        assert!(old.tables["t"].removes.is_empty() && old.restated.is_empty());
        assert_eq!((old.queries["q"].answers_after, old.queries["q"].reconciled_through), (None, None));
        assert_eq!((&old.queries["q"].missed, old.queries["q"].ran_through), (&None, None));
        assert_eq!(old.next(&writer(), Kind::Epoch, 1).unwrap().version, SLOT_VERSION);
    }

    #[test]
    fn files_taken_out_and_windows_restated_are_of_one_slot_only() {
        let mut slot = slot();
        let remove = Remove { path: "d=1/a.parquet".into(), data_change: true, size: Some(7), ..Remove::default() };
        slot.tables.insert("t".into(), TableAdds { removes: vec![remove], ..TableAdds::default() });
        slot.restated.insert("t".into(), Restated { ranges: vec![(0, 60)], through: 0 });
        let compacted = Compacted { partitions: ["1970-01-01".into()].into(), through: 0, rows: 3, bytes: 7 };
        slot.compacted.insert("u".into(), compacted);
        slot.answered.insert("v".into(), Epochs::of(3, 5));
        let back = Slot::from_json(&slot.to_json().unwrap(), 0).unwrap();
        assert_eq!((&back.tables, &back.restated), (&slot.tables, &slot.restated));
        assert_eq!((&back.compacted, &back.answered), (&slot.compacted, &slot.answered));
        assert_eq!(back.tables["t"].removes[0].size, Some(7));
        let next = slot.next(&writer(), Kind::Epoch, 1).unwrap();
        assert!(next.tables.is_empty() && next.restated.is_empty() && next.compacted.is_empty());
        assert!(next.answered.is_empty());
    }

    #[test]
    fn rows_taken_out_are_of_one_slot_and_what_is_gone_is_of_all_that_follow() {
        let mut slot = slot();
        let expired = Expired { partitions: ["1970-01-01".into()].into(), through: 0, rows: 3 };
        slot.expired.insert("t".into(), expired);
        slot.erased.insert("u".into(), Erased { rows: [("1970-01-02".into(), 2)].into(), ..Erased::default() });
        slot.gone.expire(&"t".into(), &[("at".into(), 86_400_000_000)].into());
        slot.gone.erased_in.push(0);
        let back = Slot::from_json(&slot.to_json().unwrap(), 0).unwrap();
        assert_eq!((&back.expired, &back.erased, &back.gone), (&slot.expired, &slot.erased, &slot.gone));
        let next = slot.next(&writer(), Kind::Epoch, 1).unwrap();
        assert!(next.expired.is_empty() && next.erased.is_empty());
        assert_eq!(next.gone, slot.gone);
        let mut dropped = next.next(&writer(), Kind::Epoch, 2).unwrap();
        dropped.drop_table(&"t".into());
        assert!(dropped.gone.expired.is_empty() && dropped.gone.erased_in == [0]);
    }

    #[test]
    fn a_newer_version_is_refused_with_a_sentence() {
        let mut value: serde_json::Value = serde_json::from_slice(&slot().to_json().unwrap()).unwrap();
        value["version"] = (SLOT_VERSION + 1).into();
        let error = Slot::from_json(value.to_string().as_bytes(), 0).unwrap_err();
        assert!(matches!(&error, Error::Usage(m) if m.contains("newer lakeward")), "{error}");
    }
}
