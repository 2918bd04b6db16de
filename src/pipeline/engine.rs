//! The engine: one owner of all state between two epochs.
//!
//! Micro-batches come in, are freed of duplicates, folded into open windows every tick, and gathered until the epoch is
//! full; [`Engine::draft`] then closes windows and hands over everything the epoch is. The one law: whatever enters is
//! counted once, in its shard's books, and an epoch depends only on the slot before it and the ranges read.
//!
//! No I/O here but the look-up of old identities, which is an argument.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Int64Array, RecordBatch};
use arrow::datatypes::SchemaRef;

use super::commit::Draft;
use super::compaction::{CompactedFiles, ExpiredFiles};
use super::gathered::Gathered;
use super::queries::{Late, Queries, event_times};
use super::restate::{Query, Restatement, Step, Subject};
use super::shard::{FirstRows, Shard};
use super::summary::Snapshot;
use crate::clock::{MICROS_PER_SECOND, Micros, show_time};
use crate::config::{Commit as CommitConfig, micros};
use crate::contract::TableContract;
use crate::epoch::{Counts, Kind, QueryProgress, Slot, TableAdds, Writer, books_batch};
use crate::error::{Error, Result};
use crate::lookups::Loaded;
use crate::micro_batch::{Admitted, Duplicates, MicroBatch, Published};
use crate::stream::{OpenedShard, Position, ShardKey, SourceId};
use crate::window::Watermarks;

/// Rows gathered before the queries fold them although no tick is due: enough to make a plan's fixed cost vanish, few
/// enough to stay in the cache's reach.
const FOLD_ROWS: usize = 65_536;
/// A stream on which nothing happens gets an epoch this often, which says that it was watched: far below the shortest
/// retention, a day, so that idle shards, read or not, do not look like lost ones.
const TIP_TOLD_EVERY: Micros = 3_600 * MICROS_PER_SECOND;
/// Rows of each stateless query kept for the live view.
const LAST_ALERTS: usize = 3;

/// The contracts the engine writes to.
#[derive(Clone, Debug)]
pub(super) struct Contracts {
    pub stream: Arc<TableContract>,
    pub rejects: Arc<TableContract>,
    pub epochs: Arc<TableContract>,
}

/// All state between two epochs.
#[derive(Debug)]
pub(super) struct Engine {
    contracts: Contracts,
    limits: CommitConfig,
    writer: Writer,
    /// The slot before the epoch being built, its files left out.
    base: Slot,
    queries: Queries,
    watermarks: Watermarks,
    duplicates: Duplicates,
    shards: BTreeMap<ShardKey, Shard>,
    /// Admitted, not folded yet.
    pending: Vec<Admission>,
    pending_rows: usize,
    /// Micro-batches with rows below the horizon of the identities in memory: those are looked up in the lake when the
    /// epoch is staged, and nothing of the batch is folded before.
    parked: Vec<Parked>,
    parked_rows: usize,
    gathered: Gathered,
    /// Windows restated beside the stream, for the next epoch.
    restated: Vec<Restatement>,
    /// Files written together beside the stream, for the next epoch.
    compacted: Option<CompactedFiles>,
    /// Dates to be taken out, for the next epoch.
    expired: Option<ExpiredFiles>,
    /// Open groups the last draft could not close: they do not fill the next epoch.
    groups_at_draft: usize,
    /// Where the watermark stood at the last draft; where there was none, the time of the first rows.
    comes_from: Option<Micros>,
    /// Counts of all epochs of this run.
    pub(super) totals: Counts,
    pub(super) windows_closed: u64,
    event_time_max: Option<Micros>,
    /// Newer rows of lookups, for the next epoch.
    lookups_next: Option<Arc<Loaded>>,
    /// Rows of stateless queries in this run, and the last few.
    alerts: BTreeMap<Arc<str>, (u64, Vec<RecordBatch>)>,
}

/// A micro-batch that waits for a look into the lake.
#[derive(Debug)]
pub(super) struct Parked {
    pub batch: MicroBatch,
    /// Copies of the rows in doubt.
    pub unsure: RecordBatch,
}

/// Rows that count, of one shard.
#[derive(Debug)]
struct Admission {
    shard: ShardKey,
    rows: RecordBatch,
}

impl Engine {
    /// An engine that goes on after `base`, with what was rebuilt from the lake.
    pub(super) fn new(
        contracts: Contracts,
        limits: CommitConfig,
        writer: Writer,
        base: Slot,
        queries: Queries,
        watermarks: Watermarks,
        duplicates: Duplicates,
    ) -> Self {
        let event_time_max = base.event_time_max;
        Self {
            contracts,
            limits,
            writer,
            base,
            queries,
            watermarks,
            duplicates,
            shards: BTreeMap::new(),
            pending: Vec::new(),
            pending_rows: 0,
            parked: Vec::new(),
            parked_rows: 0,
            gathered: Gathered::default(),
            restated: Vec::new(),
            compacted: None,
            expired: None,
            groups_at_draft: 0,
            comes_from: None,
            totals: Counts::default(),
            windows_closed: 0,
            event_time_max,
            lookups_next: None,
            alerts: BTreeMap::new(),
        }
    }

    /// Goes on after another slot that read nothing: a stream met for the first time, or made anew. Shards of the stream
    /// before are not those of this one, whatever their names.
    pub(super) fn rebase(&mut self, base: Slot, watermarks: Watermarks) {
        self.base = base;
        self.watermarks = watermarks;
    }

    /// The number of the epoch being built.
    pub(super) fn epoch(&self) -> u64 {
        self.base.epoch + 1
    }

    /// A reader has begun with a shard.
    pub(super) fn open_shard(&mut self, shard: &OpenedShard) {
        self.watermarks.open(&shard.key, &shard.parents);
        self.shards.insert(shard.key.clone(), Shard::new(shard));
    }

    /// Takes a micro-batch in: joins its interval, counts it, and sets its duplicates aside.
    ///
    /// # Errors
    /// [`Error::Broken`] for a gap or an overlap of positions.
    pub(super) fn take(&mut self, batch: MicroBatch) -> Result<()> {
        let key = batch.shard.clone();
        let epoch = self.epoch();
        let closed_until = self.queries.all_closed_until();
        let shard = shard_mut(&mut self.shards, &key)?;
        shard.interval.join(&batch.interval)?;
        shard.caught_up = false;
        shard.counts.read += batch.read;
        if let Some((oldest, _)) = batch.event_times {
            self.comes_from.get_or_insert(self.base.watermark.unwrap_or(oldest));
        }
        let newest = batch.event_times.map(|(_, newest)| newest);
        self.watermarks.observe(&key, newest);
        shard.books.event_time_max = shard.books.event_time_max.max(newest);
        self.event_time_max = self.event_time_max.max(newest);
        if newest.is_some() {
            shard.first.note(event_times(&batch.rows, &self.contracts.stream)?.values(), closed_until);
        }
        let mut admitted = self.duplicates.admit(epoch, batch)?;
        match admitted.unsure.take() {
            None => self.admit(admitted),
            Some(unsure) => {
                self.count_duplicates(&key, &admitted)?;
                self.parked_rows += admitted.batch.rows.num_rows();
                self.parked.push(Parked { batch: admitted.batch, unsure });
                Ok(())
            }
        }
    }

    /// Folds what was admitted when there is enough of it.
    ///
    /// # Errors
    /// As [`Engine::fold`].
    pub(super) async fn fold_if_many(&mut self) -> Result<()> {
        if self.pending_rows >= FOLD_ROWS { self.fold().await } else { Ok(()) }
    }

    /// Runs every standing query over what was admitted since the last fold.
    ///
    /// # Errors
    /// Whatever a query's plan says (an overflow of a declared type, memory).
    pub(super) async fn fold(&mut self) -> Result<()> {
        let pending = std::mem::take(&mut self.pending);
        self.pending_rows = 0;
        if pending.is_empty() {
            return Ok(());
        }
        let batches: Vec<RecordBatch> = pending.iter().map(|a| a.rows.clone()).collect();
        let folded = self.queries.fold(&batches, &self.contracts.stream).await?;
        for (admission, late) in pending.into_iter().zip(folded.late) {
            let shard = shard_mut(&mut self.shards, &admission.shard)?;
            shard.count_late(&late);
            let rows = self.with_provenance(&admission.rows, &late)?;
            self.gathered.push(&self.contracts.stream.name, rows);
        }
        for (name, rows) in folded.outputs {
            self.note_alerts(&name, &rows);
            self.gathered.push(&name, rows);
        }
        Ok(())
    }

    /// Whether the epoch must be staged before more is read.
    pub(super) fn is_full(&self) -> bool {
        let rows = self.gathered.rows + self.pending_rows + self.parked_rows;
        rows >= self.limits.rows_max
            || self.gathered.bytes as u64 >= self.limits.bytes_max.as_u64()
            || self.gathered.days.len() >= self.limits.partitions_max
            || self.queries.groups_max() >= self.limits.groups_max + self.groups_at_draft
    }

    /// Whether the watermark has come so far since the epoch before that this one must be staged: event time runs far ahead of
    /// the clock, and what the queries are joined with must follow it, as it does live.
    pub(super) fn has_come_far(&self, now: Micros) -> bool {
        let came = self.watermarks.at(now).zip(self.comes_from);
        came.is_some_and(|(to, from)| to.saturating_sub(from) >= micros(self.limits.event_time_max))
    }

    /// Micro-batches whose rows in doubt are to be looked up in the lake.
    pub(super) fn parked(&self) -> &[Parked] {
        &self.parked
    }

    /// Lets parked micro-batches in, less the rows the lake already holds.
    ///
    /// # Errors
    /// As [`Engine::fold`].
    pub(super) async fn settle(&mut self, published: &Published) -> Result<()> {
        self.parked_rows = 0;
        for parked in std::mem::take(&mut self.parked) {
            let settled = self.duplicates.settle(parked.batch, published)?;
            self.admit(settled)?;
        }
        self.fold().await
    }

    /// Ends the epoch: closes the windows the watermark has passed (all of them at the end of a bounded input) and hands
    /// over the slot and the rows of every table. `None` when nothing was read and nothing closed.
    ///
    /// Call [`Engine::settle`] first.
    ///
    /// # Errors
    /// [`Error::Broken`] when the books do not balance; whatever a query's final plan says.
    pub(super) async fn draft(&mut self, now: Micros, end_of_input: bool) -> Result<Option<Draft>> {
        let watermark = match end_of_input {
            true => self.watermarks.end_of_input(),
            false => self.watermarks.advance(now),
        };
        let closed = self.queries.close(self.base.epoch + 1, watermark, end_of_input).await?;
        self.groups_at_draft = self.queries.groups_max();
        self.comes_from = watermark.or(self.comes_from);
        for (name, rows) in closed.outputs {
            self.gathered.push(&name, rows);
        }
        // Where "latest" was resolved to must be saved, or a restart would resolve it anew and skip what came between.
        let known =
            |key: &ShardKey| self.base.sources.get(&key.source).is_some_and(|s| s.shards.contains_key(&key.shard));
        let idle = self.shards.iter().all(|(key, shard)| {
            shard.is_unchanged()
                && (!matches!(shard.position(), Position::AtTimestamp(_)) || known(key))
                && !self.is_tip_due(key, shard)
        });
        let beside = !self.restated.is_empty() || self.compacted.is_some() || self.expired.is_some();
        if idle && !closed.advanced && self.gathered.tables.is_empty() && !beside {
            self.queries.next_epoch(self.lookups_next.take())?;
            return Ok(None);
        }
        let mut slot = self.base.next(&self.writer, Kind::Epoch, now)?;
        slot.watermark = watermark.max(self.base.watermark);
        slot.event_time_max = self.event_time_max;
        slot.queries = self.queries.progress(self.base.epoch, &self.base.queries)?;
        self.queries.next_epoch(self.lookups_next.take())?;
        let mut notes = BTreeMap::new();
        for (key, shard) in &mut self.shards {
            let (mut shard_slot, books) = shard.turn_over(self.watermarks.of_shard(key))?;
            self.totals.add(&shard_slot.counts);
            let source = slot.sources.entry(key.source.clone()).or_default();
            shard_slot.at_tip = shard_slot.at_tip.or(source.shards.get(&key.shard).and_then(|before| before.at_tip));
            source.shards.insert(key.shard.clone(), shard_slot);
            notes.insert(key.clone(), books);
        }
        let mut tables = std::mem::take(&mut self.gathered).tables;
        tables.insert(self.contracts.epochs.name.clone(), vec![books_batch(&self.contracts.epochs, &slot, &notes)?]);
        slot.tables_known.extend(tables.keys().cloned());
        let (mut staged, mut windows_restated) = (BTreeMap::<_, TableAdds>::new(), 0);
        for restatement in std::mem::take(&mut self.restated) {
            slot.tables_known.insert(restatement.query.clone());
            windows_restated += restatement.windows;
            let (query, files) = restatement.tell(&mut slot);
            staged.insert(query, files);
        }
        let files_compacted = self.compacted.as_ref().map_or(0, |compacted| compacted.staged.removes.len() as u64);
        if let Some(CompactedFiles { table, compacted, staged: files }) = self.compacted.take() {
            slot.compacted.insert(table.clone(), compacted);
            staged.entry(table).or_default().extend(TableAdds::of(files));
        }
        let rows_expired = self.expired.as_ref().map_or(0, |expired| expired.expired.rows);
        if let Some(files) = self.expired.take() {
            files.tell(&mut slot.gone);
            let ExpiredFiles { table, expired, staged: files, .. } = files;
            slot.expired.insert(table.clone(), expired);
            staged.entry(table).or_default().extend(TableAdds::of(files));
        }
        self.windows_closed += closed.windows;
        self.base = slot.clone();
        let windows_closed = closed.windows;
        Ok(Some(Draft { slot, tables, staged, windows_closed, windows_restated, files_compacted, rows_expired }))
    }

    /// Takes in what was restated beside the stream: the next epoch decides it.
    pub(super) fn restated(&mut self, step: Step) {
        let epoch = self.epoch();
        step.marks.iter().for_each(|marks| self.queries.decided(marks, epoch));
        if let Some(restatement) = step.restatement {
            self.queries.decided(&restatement, epoch);
            self.restated.push(restatement);
        }
    }

    /// Whether files written together, or dates to be taken out, wait for the next epoch.
    pub(super) fn is_compacting(&self) -> bool {
        self.compacted.is_some() || self.expired.is_some()
    }

    /// Takes in files written together beside the stream: the next epoch decides them.
    pub(super) fn compacted(&mut self, compacted: CompactedFiles) {
        self.compacted = Some(compacted);
    }

    /// Takes in dates that are kept no longer: the next epoch decides it.
    pub(super) fn expired(&mut self, expired: ExpiredFiles) {
        self.expired = Some(expired);
    }

    /// The windowed queries as a restatement sees them; `progress` is what the slot says that it is computed as of.
    pub(super) fn subjects(&self, progress: &BTreeMap<Arc<str>, QueryProgress>) -> Vec<Subject> {
        self.queries.subjects(progress)
    }

    /// The queries it answers.
    pub(super) fn queries(&self) -> Vec<Query> {
        self.queries.all()
    }

    /// What a slot would say of the queries now.
    ///
    /// # Errors
    /// [`Error::Broken`] for state without window times.
    pub(super) fn progress(&self) -> Result<BTreeMap<Arc<str>, QueryProgress>> {
        self.queries.progress(self.base.epoch, &self.base.queries)
    }

    /// Whether an idle shard was at its tip so long after this was last said, if ever, that an epoch must say it.
    fn is_tip_due(&self, key: &ShardKey, shard: &Shard) -> bool {
        let saved = self.base.sources.get(&key.source).and_then(|source| source.shards.get(&key.shard));
        let told = saved.map(|saved| saved.at_tip.unwrap_or(0));
        // What was told in a time to come, by a clock that has been set back since, would hide a loss.
        let is_old = |(told, at_tip): (Micros, Micros)| at_tip.saturating_sub(told) >= TIP_TOLD_EVERY || told > at_tip;
        told.zip(shard.at_tip).is_some_and(is_old)
    }

    /// Tables that queries are joined with have changed: the next epoch sees these rows. It may have been begun already, if
    /// nothing was read since.
    ///
    /// # Errors
    /// Rows that are not those of a query's lookups.
    pub(super) fn join_next(&mut self, loaded: Arc<Loaded>) -> Result<()> {
        if self.pending.is_empty() && self.parked.is_empty() && self.gathered.tables.is_empty() {
            return self.queries.next_epoch(Some(loaded));
        }
        self.lookups_next = Some(loaded);
        Ok(())
    }

    /// An epoch is in every table: identities it holds may be forgotten once the watermark has passed them.
    pub(super) fn published(&mut self, epoch: u64) {
        if let Some(watermark) = self.watermarks.current() {
            self.duplicates.forget(epoch, watermark - self.queries.lateness_max());
        }
    }

    pub(super) fn caught_up(&mut self, key: &ShardKey, now: Micros) {
        self.watermarks.caught_up(key, now);
        if let Some(shard) = self.shards.get_mut(key) {
            shard.caught_up = true;
            shard.at_tip = Some(now);
        }
    }

    /// How long a stream keeps its records: the next epoch says it.
    pub(super) fn keeps(&mut self, source: &SourceId, retention: Micros) {
        if let Some(progress) = self.base.sources.get_mut(source) {
            progress.retention = Some(retention);
        }
    }

    /// A shard that was read to its end, or lost, is no longer in the stream.
    pub(super) fn shard_expired(&mut self, key: &ShardKey) {
        self.watermarks.expired(key);
    }

    pub(super) fn finished(&mut self, key: &ShardKey) {
        self.watermarks.finish(key);
        if let Some(shard) = self.shards.get_mut(key) {
            shard.finished = true;
        }
    }

    /// Whether every open shard stood at its tip when it was last heard of. A shard that has ended counts only once a
    /// child of it is open: until then its children hold rows nobody has looked at.
    pub(super) fn all_caught_up(&self) -> bool {
        // Asked after every event: the first shard that is behind answers it.
        if self.shards.is_empty() || self.shards.values().any(|shard| !shard.finished && !shard.caught_up) {
            return false;
        }
        let parents: BTreeSet<_> = self.shards.values().flat_map(|shard| &shard.parents).collect();
        self.shards.iter().all(|(key, shard)| !shard.finished || parents.contains(&key.shard))
    }

    /// How far the shards have come.
    pub(super) fn watermarks(&self) -> &Watermarks {
        &self.watermarks
    }

    /// Whether this run reads the shard.
    pub(super) fn reads(&self, key: &ShardKey) -> bool {
        self.shards.contains_key(key)
    }

    /// Whether this run reads any shard.
    pub(super) fn reads_any(&self) -> bool {
        !self.shards.is_empty()
    }

    pub(super) fn all_finished(&self) -> bool {
        self.shards.values().all(|s| s.finished)
    }

    /// How far each shard of a source has been read.
    pub(super) fn positions(&self) -> impl Iterator<Item = (&ShardKey, &Position)> {
        self.shards.iter().map(|(key, shard)| (key, shard.position()))
    }

    /// Stops an input whose first rows all lie before what the lake has closed and are new to it: every row would be
    /// late. (Known rows tell of a re-run, which is harmless.) Call after [`Engine::settle`], before the first draft.
    ///
    /// # Errors
    /// [`Error::Usage`] naming both times and the remedy.
    ///
    /// Each file is judged alone; the shards of a stream hold one input together, `complete` when all of it was sent.
    pub(super) fn refuse_input_before_the_lake(&self, is_stream: bool, complete: bool) -> Result<()> {
        let Some(closed_until) = self.queries.all_closed_until() else { return Ok(()) };
        let mut whole = FirstRows::default();
        let mut duplicates = 0;
        for (key, shard) in &self.shards {
            whole.add(&shard.first);
            duplicates += shard.counts.duplicates;
            if !is_stream && shard.counts.duplicates == 0 && shard.first.are_before_closed(shard.finished) {
                return Err(before_the_lake(&key.shard, shard.books.event_time_max, closed_until));
            }
        }
        if is_stream && duplicates == 0 && whole.are_before_closed(complete) {
            return Err(before_the_lake("the replayed file", self.event_time_max, closed_until));
        }
        Ok(())
    }

    /// In a replay the watermark follows the oldest event time that is still on its way (`None`: nothing is), less the
    /// allowed disorder: however requests and shards interleave, a time-ordered file has no late row.
    pub(super) fn follow_low_mark(&mut self, low_mark: Option<Micros>, out_of_orderness: Micros) {
        let Some(newest) = self.watermarks.greatest_event_time() else { return };
        let low = low_mark.map_or(newest, |low| low.min(newest)).saturating_sub(out_of_orderness);
        // Raised to the bound in every shard and bounded by it: the low mark alone decides.
        self.shards.keys().for_each(|shard| self.watermarks.raise(shard, low));
        self.watermarks.set_bound(Some(low));
    }

    pub(super) fn watermark(&self) -> Option<Micros> {
        self.base.watermark
    }

    /// What the job looks like now; finishes copies of the open windows.
    ///
    /// # Errors
    /// Whatever a final plan says.
    pub(super) async fn snapshot(&mut self, now: Micros) -> Result<Snapshot> {
        self.fold().await?;
        let mut totals = self.totals.clone();
        self.shards.values().for_each(|shard| totals.add(&shard.counts));
        Ok(Snapshot {
            totals,
            watermark: self.watermarks.at(now),
            event_time_max: self.event_time_max,
            unread: None,
            open_windows: self.queries.open_windows()?,
            open: self.queries.peek().await?,
            alerts: self.alerts.clone(),
        })
    }

    fn note_alerts(&mut self, query: &Arc<str>, rows: &RecordBatch) {
        let (count, last) = self.alerts.entry(query.clone()).or_default();
        *count += rows.num_rows() as u64;
        let tail = rows.num_rows().min(LAST_ALERTS);
        if tail > 0 {
            last.push(rows.slice(rows.num_rows() - tail, tail));
            let surplus = last.len().saturating_sub(LAST_ALERTS);
            last.drain(..surplus);
        }
    }

    /// Counts a micro-batch freed of duplicates and lets its rows wait for the next fold.
    fn admit(&mut self, admitted: Admitted) -> Result<()> {
        let key = admitted.batch.shard.clone();
        self.count_duplicates(&key, &admitted)?;
        let MicroBatch { rows, rejects, .. } = admitted.batch;
        let counts = &mut shard_mut(&mut self.shards, &key)?.counts;
        counts.written += rows.num_rows() as u64;
        counts.rejected += rejects.num_rows() as u64;
        if rejects.num_rows() > 0 {
            let rejects = self.with_columns(&rejects, &self.contracts.rejects.schema(), None)?;
            self.gathered.push(&self.contracts.rejects.name, rejects);
        }
        if rows.num_rows() > 0 {
            self.pending_rows += rows.num_rows();
            self.gathered.note_days(&rows, &self.contracts.stream.partition_by);
            self.pending.push(Admission { shard: key, rows });
        }
        Ok(())
    }

    fn count_duplicates(&mut self, key: &ShardKey, admitted: &Admitted) -> Result<()> {
        let shard = shard_mut(&mut self.shards, key)?;
        shard.counts.duplicates += admitted.duplicates;
        if shard.books.first_duplicate.is_none() {
            shard.books.first_duplicate = admitted.first_duplicate.as_ref().map(ToString::to_string);
        }
        Ok(())
    }

    /// Rows in the stream table's schema: `_epoch` and `_late` filled in.
    fn with_provenance(&self, rows: &RecordBatch, late: &Late) -> Result<RecordBatch> {
        let late = late.any.clone().unwrap_or_else(|| BooleanArray::from(vec![false; rows.num_rows()]));
        self.with_columns(rows, &self.contracts.stream.schema(), Some(&late))
    }

    fn with_columns(&self, rows: &RecordBatch, schema: &SchemaRef, late: Option<&BooleanArray>) -> Result<RecordBatch> {
        use crate::contract::provenance::{EPOCH, LATE};
        let epoch = i64::try_from(self.epoch()).unwrap_or(i64::MAX);
        let columns = schema.fields().iter().map(|field| match (field.name().as_str(), late) {
            (EPOCH, _) => Ok(Arc::new(Int64Array::from_value(epoch, rows.num_rows())) as ArrayRef),
            (LATE, Some(late)) => Ok(Arc::new(late.clone()) as ArrayRef),
            (name, _) => rows
                .column_by_name(name)
                .cloned()
                .ok_or_else(|| Error::broken(format!("no column `{name}` in a decoded batch"))),
        });
        RecordBatch::try_new(schema.clone(), columns.collect::<Result<_>>()?)
            .map_err(|e| Error::broken(format!("a decoded batch does not fit its contract: {e}")))
    }
}

fn shard_mut<'a>(shards: &'a mut BTreeMap<ShardKey, Shard>, key: &ShardKey) -> Result<&'a mut Shard> {
    shards.get_mut(key).ok_or_else(|| Error::broken(format!("rows of the shard {key}, which was never opened")))
}

fn before_the_lake(input: &str, newest: Option<Micros>, closed_until: Micros) -> Error {
    Error::usage(format!(
        "the input {input} lies before this lake: its rows reach {}, the lake's windows are closed until {}, so every row \
         would be late; nothing was written. Use another `lake.url`, or `--allow-late` to add the rows without correcting \
         closed windows",
        show_time(newest.unwrap_or(Micros::MIN)),
        show_time(closed_until)
    ))
}
