//! The loop: what happens when, from the first page to the last commit.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};
use uuid::Uuid;

use super::commit::{Commit, Committed, Draft, UNPUBLISHED_EPOCHS_MAX, publish, stage_and_decide};
use super::compaction::{Compactor, Partitions, Step};
use super::decode::{Decoded, decode_shard, joined};
use super::engine::Engine;
use super::follow_ups::FollowUps;
use super::input::{Opened, Positions, Producing};
use super::lookup::look_up;
use super::recover::{LakeState, Recovered};
use super::restate::{Ground, Restater, Step as Restated};
use super::skew::Skew;
use super::summary::{Snapshot, Summary};
use super::{Feed, Input, Job};
use crate::config::micros;
use crate::epoch::{QueryProgress, Slot};
use crate::error::{Error, Result};
use crate::lookups::Loaded;
use crate::stream::{OpenedShard, Position, ShardId};

/// Micro-batches that wait for the engine: a few for each core that decodes, about a megabyte each.
const DECODED_MAX: usize = 8;

/// Pages being decoded at once, for each core: one more than it can work at, as decoding waits for memory. Not the threads
/// for heavy work there may be, five hundred, for a thousand shards to fill.
const DECODING_PER_CORE: usize = 2;

/// Why the loop goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Reading,
    /// Producers were told to stop; what they had acknowledged is still to be read.
    Stopping,
}

/// How reading has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The input is bounded and has been read to its end: nothing will ever follow.
    OfInput,
    /// All there was has been read; more may come.
    CaughtUp,
    /// The job was told to stop.
    Stopped,
}

/// Everything the loop owns.
pub(super) struct Drive {
    job: Job,
    engine: Engine,
    lake: LakeState,
    /// This process.
    writer: Uuid,
    source: Opened,
    opened_all: bool,
    decoded: mpsc::Receiver<Decoded>,
    decoded_sender: mpsc::Sender<Decoded>,
    decoders: JoinSet<()>,
    decoding: Arc<Semaphore>,
    skew: Skew,
    committed: mpsc::UnboundedReceiver<Committed>,
    drafts: mpsc::Sender<Draft>,
    committers: JoinSet<Result<()>>,
    /// Dropped, and so cut off, when the job fails.
    follow_ups: Option<FollowUps>,
    commit_lines: mpsc::Sender<Commit>,
    requests: mpsc::Receiver<oneshot::Sender<Snapshot>>,
    /// Decided, not yet published: what of an embedded stream may be freed once they are.
    unpublished: BTreeMap<u64, Slot>,
    /// What the queries are joined with is read again beside the stream, one reading at a time; `true` when a commit came
    /// in between.
    refreshes: JoinSet<Result<Option<Loaded>>>,
    refresh_again: bool,
    joined_with: Arc<Loaded>,
    /// The epoch whose tables the queries must be joined with before more is read.
    lookups_due: Option<u64>,
    /// Shards of whose decided end the reader was told: once each.
    ends_told: BTreeSet<ShardId>,
    restater: Restater,
    compactor: Compactor,
    /// The newest epoch that is in every table, and how far the queries had closed in it.
    published: (u64, BTreeMap<Arc<str>, QueryProgress>),
    /// The newest epoch handed to the committing tasks, and those of them that hold a restatement, and a compaction or dates
    /// taken out.
    drafted: u64,
    restated_in: Option<u64>,
    compacted_in: Option<u64>,
    phase: Phase,
    nothing_drafted: bool,
    summary: Summary,
    begun: Instant,
}

impl Drive {
    /// Starts the committing tasks; nothing is read before [`Drive::run`].
    pub(super) fn new(
        job: Job,
        recovered: Recovered,
        source: Opened,
        follow_ups: FollowUps,
        commit_lines: mpsc::Sender<Commit>,
        requests: mpsc::Receiver<oneshot::Sender<Snapshot>>,
    ) -> Self {
        let Recovered { engine, lake, base, gaps, joined_with, writer, .. } = recovered;
        let restater = Restater::new(job.backfill);
        let drafted = base.epoch;
        let (decoded_sender, decoded) = mpsc::channel(DECODED_MAX);
        let (drafts, draft_queue) = mpsc::channel(1);
        // One of them is being published.
        let (decided_sender, decided) = mpsc::channel(UNPUBLISHED_EPOCHS_MAX - 1);
        let (reports, committed) = mpsc::unbounded_channel();
        let published_through = Arc::new(AtomicI64::new(i64::try_from(base.epoch).unwrap_or(i64::MAX)));
        let mut committers = JoinSet::new();
        committers.spawn(stage_and_decide(
            lake.tables.clone(),
            lake.slots.clone(),
            base,
            draft_queue,
            decided_sender,
            reports.clone(),
            published_through.clone(),
        ));
        committers.spawn(publish(
            lake.tables.clone(),
            job.config.lake.app_id.clone(),
            Some(follow_ups.due()),
            decided,
            reports,
            published_through,
        ));
        // A replay's file is read by one, who stays near the engine; and rows out of its order are waited for wherever they are.
        let is_replay = matches!(job.input, Input::Stream(Feed::Replay(_)));
        let max_skew = Some(micros(job.config.watermark.max_skew)).filter(|skew| *skew > 0 && !is_replay);
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        Self {
            job,
            engine,
            lake,
            writer: writer.id,
            source,
            opened_all: false,
            decoded,
            decoded_sender,
            decoders: JoinSet::new(),
            decoding: Arc::new(Semaphore::new(DECODING_PER_CORE * cores)),
            skew: Skew::new(max_skew),
            committed,
            drafts,
            committers,
            follow_ups: Some(follow_ups),
            commit_lines,
            requests,
            unpublished: BTreeMap::new(),
            refreshes: JoinSet::new(),
            refresh_again: false,
            joined_with,
            lookups_due: None,
            ends_told: BTreeSet::new(),
            restater,
            compactor: Compactor::default(),
            published: (drafted, BTreeMap::new()),
            drafted,
            restated_in: None,
            compacted_in: None,
            phase: Phase::Reading,
            nothing_drafted: true,
            summary: Summary { gaps, ..Summary::default() },
            begun: Instant::now(),
        }
    }

    /// Reads, folds and commits until the input ends, the job is stopped, or something fails.
    pub(super) async fn run(mut self) -> Result<Summary> {
        let ended = self.read_to_the_end().await;
        self.source.stop();
        self.decoders.abort_all();
        let ended = match ended {
            Ok(()) if self.phase == Phase::Reading => self.finish_backfill().await,
            ended => ended,
        };
        let result = match ended {
            Ok(()) => self.finish().await,
            Err(error) => Err(error),
        };
        // Whoever has failed may have been fenced: nothing is written for readers any more.
        if result.is_err() {
            self.follow_ups = None;
        }
        self.source.close().await;
        result
    }

    async fn read_to_the_end(&mut self) -> Result<()> {
        let mut tick = interval(self.job.config.tick.interval);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut commit = interval(self.job.config.commit.interval);
        commit.set_missed_tick_behavior(MissedTickBehavior::Delay);
        commit.reset();
        let mut reconcile = interval(self.job.config.reconcile.interval);
        reconcile.set_missed_tick_behavior(MissedTickBehavior::Delay);
        reconcile.reset();
        let mut maintenance = interval(self.job.config.maintenance.interval);
        maintenance.set_missed_tick_behavior(MissedTickBehavior::Delay);
        maintenance.reset();
        // Nothing was read yet: the queries stand as the newest slot, which every table holds, left them.
        self.published.1 = self.engine.progress()?;
        self.work_beside();
        loop {
            tokio::select! {
                biased;
                () = self.job.stop.cancelled(), if self.phase == Phase::Reading => {
                    self.source.stop_producing();
                    self.phase = Phase::Stopping;
                }
                Some(report) = self.committed.recv() => self.on_committed(report).await,
                Some(ended) = self.committers.join_next() => {
                    joined(ended, "committing")?;
                    return self.committers_end().await;
                }
                Some(read) = self.refreshes.join_next() => self.on_refreshed(joined(read, "reading lookups")?)?,
                Some(reply) = self.requests.recv() => self.answer(reply).await?,
                shard = self.source.shards.recv(), if !self.opened_all => match shard {
                    Some(shard) => self.open_shard(shard)?,
                    None => self.opened_all = true,
                },
                // It announces its last shard long before it has read it.
                ended = self.source.reader.ended(), if self.opened_all && !self.source.reader.has_ended() => ended?,
                produced = self.source.producing.ended(), if !self.source.producing.has_ended() => {
                    produced?;
                }
                Some(step) = self.restater.ended() => {
                    self.on_restated(step?);
                    self.work_beside();
                }
                _ = reconcile.tick(), if self.job.config.reconcile.enabled => {
                    self.restater.late_rows_due();
                    self.work_beside();
                }
                Some(step) = self.compactor.ended() => match step {
                    Some(Step::Compacted(files)) => self.engine.compacted(files),
                    Some(Step::Expired(files)) => self.engine.expired(files),
                    // Nothing is small any more: late rows may be waiting.
                    None => self.work_beside(),
                },
                _ = maintenance.tick(), if self.job.config.maintenance.enabled => {
                    self.compactor.due();
                    self.work_beside();
                }
                _ = commit.tick() => self.commit(false).await?,
                _ = tick.tick() => {
                    self.engine.fold().await?;
                    self.bound_watermark();
                    self.summary.note_unread(&self.source.unread, self.job.clock.now());
                    self.skew.tick(self.engine.watermarks(), self.job.clock.now());
                }
                Some(decoded) = self.decoded.recv(), if self.lookups_due.is_none() => {
                    // Looking for that costs a look at every shard, and a tip, told most often, moves nothing by itself.
                    let may_come_far = !matches!(decoded, Decoded::CaughtUp(_));
                    self.on_decoded(decoded).await?;
                    let has_come_far = may_come_far && self.engine.has_come_far(self.job.clock.now());
                    if has_come_far || self.engine.is_full() {
                        self.commit(false).await?;
                        commit.reset();
                    }
                    if has_come_far && !self.lake.lookups.is_empty() && self.published.0 < self.drafted {
                        self.lookups_due = Some(self.drafted);
                    }
                }
            }
            if let Some(end) = self.end() {
                self.summary.complete = end != End::Stopped;
                return self.commit(end == End::OfInput).await;
            }
        }
    }

    /// Whether, and how, reading has ended.
    fn end(&self) -> Option<End> {
        let is_stopping = self.phase == Phase::Stopping;
        match &self.job.input {
            // Files are still there at the next start: nothing needs draining.
            Input::Files { .. } if is_stopping => Some(End::Stopped),
            Input::Files { .. } => {
                (self.opened_all && self.engine.all_finished()).then(|| match self.engine.reads_any() {
                    true => End::OfInput,
                    // Every file had been read before: no input, so no end of it.
                    false => End::CaughtUp,
                })
            }
            Input::Stream(feed) => {
                // Asked only where it matters: it costs a look at every shard.
                let is_drained = || {
                    let producing = &self.source.producing;
                    producing.has_ended() && producing.is_drained(&self.source_positions())
                };
                match feed {
                    Feed::Replay(_) if !is_stopping => is_drained().then_some(End::OfInput),
                    // Others go on writing: what was read is what is committed.
                    _ if is_stopping => is_drained().then_some(End::Stopped),
                    Feed::Others if self.job.until_caught_up => self.engine.all_caught_up().then_some(End::CaughtUp),
                    _ => None,
                }
            }
        }
    }

    fn open_shard(&mut self, shard: OpenedShard) -> Result<()> {
        self.engine.open_shard(&shard);
        let OpenedShard { key, events, pause, .. } = shard;
        self.skew.open(key.clone(), pause);
        let (decoding, engine) = (self.decoding.clone(), self.decoded_sender.clone());
        self.decoders.spawn(decode_shard(key, events, self.lake.decoder()?, decoding, engine));
        Ok(())
    }

    async fn on_decoded(&mut self, decoded: Decoded) -> Result<()> {
        let now = self.job.clock.now();
        match decoded {
            Decoded::Batch(batch) => {
                let shard = batch.shard.clone();
                self.engine.take(batch)?;
                self.skew.heard_of(&shard, self.engine.watermarks(), now);
                if let Producing::Replaying { progress, .. } = &self.source.producing {
                    progress.read(&self.source_positions());
                }
                self.engine.fold_if_many().await
            }
            Decoded::CaughtUp(shard) => {
                self.engine.caught_up(&shard, now);
                self.skew.heard_of(&shard, self.engine.watermarks(), now);
                Ok(())
            }
            Decoded::Finished(shard) => {
                self.engine.finished(&shard);
                self.skew.finished(&shard);
                self.skew.heard_of(&shard, self.engine.watermarks(), now);
                Ok(())
            }
            Decoded::Failed(error) => Err(error),
        }
    }

    /// In a replay the watermark follows the replayer's low mark.
    fn bound_watermark(&mut self) {
        match &self.source.producing {
            Producing::Replaying { progress, .. } => {
                let low_mark = progress.low_mark(&self.source_positions());
                self.engine.follow_low_mark(low_mark, micros(self.job.config.watermark.out_of_orderness));
            }
            Producing::Nothing | Producing::Simulating { .. } => {}
        }
    }

    /// How far the engine has come in the source's shards.
    fn source_positions(&self) -> Positions {
        let read = self.engine.positions().filter_map(|(key, position)| match position {
            Position::After(sequence) => Some((key.shard.clone(), sequence.clone())),
            Position::TrimHorizon | Position::AtTimestamp(_) => None,
        });
        read.collect()
    }

    /// Ends the epoch being built and hands it to the committing tasks.
    async fn commit(&mut self, end_of_input: bool) -> Result<()> {
        self.engine.fold().await?;
        self.bound_watermark();
        let known = look_up(&self.lake, self.engine.parked()).await?;
        self.engine.settle(&known).await?;
        let bounded = matches!(self.job.input, Input::Files { .. } | Input::Stream(Feed::Replay(_)));
        if self.nothing_drafted && bounded && !self.job.allow_late {
            let complete = self.source.producing.has_ended();
            self.engine.refuse_input_before_the_lake(matches!(self.job.input, Input::Stream(_)), complete)?;
        }
        let Some(draft) = self.engine.draft(self.job.clock.now(), end_of_input).await? else { return Ok(()) };
        self.nothing_drafted = false;
        self.drafted = draft.slot.epoch;
        if !draft.slot.restated.is_empty() || !draft.slot.answered.is_empty() {
            self.restated_in = Some(draft.slot.epoch);
        }
        if !draft.slot.compacted.is_empty() || !draft.slot.expired.is_empty() {
            self.compacted_in = Some(draft.slot.epoch);
        }
        self.summary.note(&draft);
        match self.drafts.send(draft).await {
            Ok(()) => Ok(()),
            // Both committing tasks are ending: their error says why.
            Err(_) => {
                Err(self.committers_end().await.err().unwrap_or_else(|| Error::broken("the committing tasks ended")))
            }
        }
    }

    async fn on_committed(&mut self, report: Committed) {
        match report {
            Committed::Decided(slot) => {
                for (key, _) in slot.shards().filter(|(_, shard)| shard.progress.finished) {
                    if self.engine.reads(&key) && self.ends_told.insert(key.shard.clone()) {
                        // The reader is gone when it has nothing left to start.
                        let _ = self.source.decided_finished.send(key.shard);
                    }
                }
                self.unpublished.insert(slot.epoch, *slot);
            }
            Committed::Published(commit) => {
                self.engine.published(commit.epoch);
                if let Some(slot) = self.unpublished.remove(&commit.epoch) {
                    self.source.free(&slot).await;
                    self.published = (slot.epoch, slot.queries);
                }
                if self.restated_in.is_some_and(|epoch| epoch <= commit.epoch) {
                    self.restated_in = None;
                    self.restater.published();
                }
                if self.compacted_in.is_some_and(|epoch| epoch <= commit.epoch) {
                    self.compacted_in = None;
                    self.compactor.published();
                }
                self.work_beside();
                self.refresh();
                self.summary.published(&commit);
                let _ = self.commit_lines.try_send(commit);
            }
        }
    }

    fn on_restated(&mut self, step: Restated) {
        self.summary.late_rows_left += step.left();
        self.engine.restated(step);
    }

    /// Begins the next restatement or compaction, if one is due and neither is under way: each takes out files that were live
    /// when it began.
    fn work_beside(&mut self) {
        let (epoch, progress) = &self.published;
        let app_id = &self.job.config.lake.app_id;
        if self.compactor.is_idle() && self.restater.may_begin() {
            let ground = Ground::new(&self.lake, app_id, *epoch);
            self.restater.begin(ground, self.engine.subjects(progress));
        } else if self.restater.is_idle() && self.compactor.may_begin() {
            let queries = self.engine.subjects(progress).into_iter().map(|subject| subject.query);
            let partitions = Partitions::new(&self.lake, &self.job.config, *epoch, self.job.clock.now());
            self.compactor.begin(partitions, queries.collect());
        }
    }

    /// The input has ended, but not the history that was asked for: round after round, each in an epoch of its own.
    async fn finish_backfill(&mut self) -> Result<()> {
        // What it has staged stays unnamed; small files are there for the next run.
        self.compactor.stop();
        while self.restater.is_backfilling() {
            while self.published.0 < self.drafted {
                tokio::select! {
                    biased;
                    Some(report) = self.committed.recv() => self.on_committed(report).await,
                    else => return self.committers_end().await,
                }
            }
            self.work_beside();
            let Some(step) = self.restater.ended().await else { continue };
            self.on_restated(step?);
            self.commit(false).await?;
        }
        Ok(())
    }

    /// Reads what the queries are joined with again, if its tables have changed.
    fn refresh(&mut self) {
        if self.lake.lookups.is_empty() {
            return;
        }
        self.refresh_again = !self.refreshes.is_empty();
        if self.refreshes.is_empty() {
            let (loader, before) = (Arc::clone(&self.lake.lookups), Arc::clone(&self.joined_with));
            self.refreshes.spawn(async move { loader.refresh(&before).await });
        }
    }

    fn on_refreshed(&mut self, read: Option<Loaded>) -> Result<()> {
        if let Some(loaded) = read {
            self.joined_with = Arc::new(loaded);
            self.engine.join_next(Arc::clone(&self.joined_with))?;
        }
        if std::mem::take(&mut self.refresh_again) {
            self.refresh();
        } else if self.lookups_due.is_some_and(|due| due <= self.published.0) {
            // No epoch was published since this reading began.
            self.lookups_due = None;
        }
        Ok(())
    }

    async fn answer(&mut self, reply: oneshot::Sender<Snapshot>) -> Result<()> {
        let now = self.job.clock.now();
        let snapshot = Snapshot { unread: self.source.unread.oldest(now), ..self.engine.snapshot(now).await? };
        let _ = reply.send(snapshot);
        Ok(())
    }

    /// Lets the committing tasks finish what they were given.
    async fn finish(&mut self) -> Result<Summary> {
        self.committers_end().await?;
        if let Some(follow_ups) = self.follow_ups.take() {
            follow_ups.finish(&self.job.stop).await;
        }
        self.lake.rest(self.writer).await;
        while let Ok(report) = self.committed.try_recv() {
            self.on_committed(report).await;
        }
        let mut summary = std::mem::take(&mut self.summary);
        summary.requests = self.lake.meter.requests();
        summary.close(&self.engine, self.begun.elapsed());
        Ok(summary)
    }

    /// Closes the queue to the committing tasks and waits for both. Being fenced explains every other error.
    async fn committers_end(&mut self) -> Result<()> {
        let (closed, _) = mpsc::channel(1);
        self.drafts = closed;
        let mut result = Ok(());
        while let Some(ended) = self.committers.join_next().await {
            match (joined(ended, "committing"), &result) {
                (Err(fenced @ Error::Fenced(_)), _) => result = Err(fenced),
                (Err(error), Ok(())) => result = Err(error),
                _ => {}
            }
        }
        result
    }
}
