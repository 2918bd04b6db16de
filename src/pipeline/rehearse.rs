//! A rehearsal: the streaming job over files, with its time in the caller's hands.
//!
//! Reading, ticks, commits, kills and starts happen exactly when a script says so, through the very decoder, engine,
//! staging and recovery of [`super::start`]. The one law: the same files and the same script leave the same rows in every
//! table. For tests of queries and of the engine; nothing is paced and nothing waits.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::commit::{publish, stage_and_decide};
use super::compaction::{Done, Haste, Partitions};
use super::lookup::look_up;
use super::recover::{Recovered, recover};
use super::restate::{Ground, Restater};
use super::{AtRest, Input, Job, reconcile};
use crate::clock::{Clock, Micros};
use crate::config::Config;
use crate::epoch::{Counts, Slot};
use crate::error::{Error, Result};
use crate::files::{FileRecord, RecordReader, SOURCE, shard_id};
use crate::lookups::Loaded;
use crate::micro_batch::Decoder;
use crate::stream::{Interval, OpenedShard, Page, Position, Record, SequenceNumber, ShardKey, pause};
use crate::token::TokenKey;

/// What happens next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Up to so many records of a file are read as one page, or all that are left.
    Read { file: usize, records: Option<usize> },
    /// What was read is folded into the windows: a tick.
    Fold,
    /// The epoch ends: windows close, files are staged, decided and published.
    Commit,
    /// As [`Step::Commit`], but the job is killed between decided and published, and starts again.
    CommitHalf,
    /// The job is killed and starts again: what no epoch holds is read again.
    Restart,
    /// The job is killed, late rows are brought into their windows by hand, and it starts again.
    Reconcile,
    /// Late rows are brought into their windows beside the stream, each round decided by an epoch of its own.
    Restate,
    /// Small files of one table are written together beside the stream; the next commit decides them.
    Compact,
    /// Dates that one table keeps no longer are taken out beside the stream; the next commit decides it.
    Expire,
}

/// A whole rehearsal. The lake is the configuration's; a lake that was rehearsed on before goes on from there.
#[derive(Clone, Debug)]
pub struct Script {
    /// Each is one shard.
    pub files: Vec<PathBuf>,
    pub steps: Vec<Step>,
    /// What the clock shows all along, microseconds UTC.
    pub now: Micros,
    pub token_key: TokenKey,
}

/// What a rehearsal did.
#[derive(Clone, Debug, Default)]
pub struct Rehearsed {
    /// Of all epochs decided.
    pub counts: Counts,
    pub epochs: u64,
    pub windows_closed: u64,
    /// Files that were written together with others, whatever became of it.
    pub files_compacted: u64,
    /// Rows of dates taken out, whatever became of it.
    pub rows_expired: u64,
    /// Late rows of windows that cannot be computed any more.
    pub late_rows_left: u64,
}

/// Follows the script, then reads whatever is left and ends the input: every window closes.
///
/// A file leaves the watermark once its last record was read. The end of the last file is told after the last step, so
/// that a script may commit everything and go on.
///
/// # Errors
/// As [`super::start`]; [`Error::Usage`] for a step that names a file there is not.
pub async fn rehearse(config: &Config, script: &Script) -> Result<Rehearsed> {
    let mut config = config.clone();
    // A rehearsal's tables are nobody's to find.
    config.catalog.glue = false;
    let job = Job {
        config,
        input: Input::Files { paths: script.files.clone(), pace: None },
        until_caught_up: true,
        allow_late: true,
        accept_new_stream: false,
        demo: false,
        backfill: None,
        accept_gap: false,
        clock: Clock::fixed(script.now),
        token_key: script.token_key.clone(),
        host: "rehearsal".into(),
        stop: CancellationToken::new(),
    };
    let mut done = Rehearsed::default();
    let mut stage = Stage::set(&job, &script.files).await?;
    for step in &script.steps {
        match *step {
            Step::Read { file, records } => stage.read(file, records).await?,
            Step::Fold => stage.work.engine.fold().await?,
            Step::Commit => stage.commit(&job, Ending::Published, &mut done).await?,
            Step::CommitHalf => {
                stage.commit(&job, Ending::Decided, &mut done).await?;
                stage = stage.set_again(&job, &script.files).await?;
            }
            Step::Restart => stage = stage.set_again(&job, &script.files).await?,
            Step::Compact => stage.compact(&job, &mut done).await?,
            Step::Expire => stage.expire(&job, &mut done).await?,
            Step::Reconcile => {
                // The lake's lock goes with the job.
                drop(stage);
                reconcile(&at_rest(&job)).await?;
                stage = Stage::set(&job, &script.files).await?;
            }
            Step::Restate => stage.restate(&job, &mut done).await?,
        }
    }
    for file in 0..script.files.len() {
        stage.read(file, None).await?;
    }
    stage.end_files(0);
    stage.commit(&job, Ending::OfInput, &mut done).await?;
    Ok(done)
}

fn at_rest(job: &Job) -> AtRest {
    let Job { config, clock, token_key, host, .. } = job;
    AtRest { config: config.clone(), clock: clock.clone(), token_key: token_key.clone(), host: host.clone() }
}

/// How an epoch ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Published,
    /// Killed before it is published.
    Decided,
    /// Published; nothing follows.
    OfInput,
}

/// The job between two starts.
struct Stage {
    work: Recovered,
    files: Vec<File>,
    /// The last slot decided.
    last: Slot,
    /// What the queries' rows are joined with.
    joined_with: Arc<Loaded>,
    now: Micros,
}

/// A file being read.
struct File {
    key: ShardKey,
    position: Position,
    reader: Option<RecordReader>,
    decoder: Decoder,
    /// Of the page read last, not handed out yet.
    records: VecDeque<FileRecord>,
    page_end: u64,
    told_end: bool,
}

impl Stage {
    /// Recovers the lake and opens every file where the lake has left it.
    async fn set(job: &Job, paths: &[PathBuf]) -> Result<Self> {
        let mut work = recover(job).await?;
        let resume = work.base.resume(SOURCE);
        let mut files = Vec::with_capacity(paths.len());
        for path in paths {
            let shard = shard_id(path)?;
            let progress = resume.get(&shard);
            let position = progress.map_or(Position::TrimHorizon, |progress| progress.position.clone());
            let finished = progress.is_some_and(|progress| progress.finished);
            let key = ShardKey { source: SOURCE.into(), shard };
            let file = File::open(path, key, position, finished, work.lake.decoder()?)?;
            if !finished {
                // Pages are handed to the engine directly: nobody sends to this queue.
                let ((_, events), (pause, _)) = (mpsc::channel(1), pause());
                let parents = std::collections::BTreeSet::new();
                let (key, position) = (file.key.clone(), file.position.clone());
                work.engine.open_shard(&OpenedShard { key, position, parents, events, pause });
            }
            files.push(file);
        }
        let (last, joined_with) = (work.base.clone(), Arc::clone(&work.joined_with));
        Ok(Self { work, files, last, joined_with, now: job.clock.now() })
    }

    /// Forgets everything that is not in the lake, and starts again.
    async fn set_again(self, job: &Job, paths: &[PathBuf]) -> Result<Self> {
        // The lake's lock goes with the job.
        drop(self);
        Self::set(job, paths).await
    }

    async fn read(&mut self, file: usize, records: Option<usize>) -> Result<()> {
        let count = self.files.len();
        let Some(at) = self.files.get_mut(file) else {
            return Err(Error::usage(format!("no file number {file} among {count}")));
        };
        let mut left = records.unwrap_or(usize::MAX);
        while left > 0 {
            let Some(page) = at.next_page(left, self.now)? else { break };
            left -= page.records.len().min(left);
            let batch = at.decoder.decode(&page)?;
            self.work.engine.take(batch)?;
        }
        // One file's end is kept for the end of the input.
        self.end_files(1);
        Ok(())
    }

    /// Tells the engine which files have ended, as long as more than `keep` have not.
    fn end_files(&mut self, keep: usize) {
        let mut going = self.files.iter().filter(|file| !file.told_end).count();
        for file in self.files.iter_mut().filter(|file| !file.told_end) {
            if going > keep && file.is_at_end() {
                self.work.engine.finished(&file.key);
                file.told_end = true;
                going -= 1;
            }
        }
    }

    /// One step of a compaction, unless the one before waits for its commit.
    async fn compact(&mut self, job: &Job, done: &mut Rehearsed) -> Result<()> {
        let Recovered { engine, lake, .. } = &mut self.work;
        if engine.is_compacting() {
            return Ok(());
        }
        let queries: Vec<_> = engine.subjects(&self.last.queries).into_iter().map(|subject| subject.query).collect();
        let partitions = Partitions::new(lake, &job.config, self.last.epoch, self.now);
        if let Some(files) = partitions.stage_next(&queries, None, Haste::AtOnce, &mut Done::new()).await? {
            done.files_compacted += files.staged.removes.len() as u64;
            engine.compacted(files);
        }
        Ok(())
    }

    /// One step of taking out what is kept no longer, unless the one before waits for its commit.
    async fn expire(&mut self, job: &Job, done: &mut Rehearsed) -> Result<()> {
        let Recovered { engine, lake, .. } = &mut self.work;
        if engine.is_compacting() {
            return Ok(());
        }
        let queries: Vec<_> = engine.subjects(&self.last.queries).into_iter().map(|subject| subject.query).collect();
        let partitions = Partitions::new(lake, &job.config, self.last.epoch, self.now);
        if let Some(files) = partitions.expired_next(&queries, None).await? {
            done.rows_expired += files.expired.rows;
            engine.expired(files);
        }
        Ok(())
    }

    /// Ends the epoch being built, as the job does.
    async fn commit(&mut self, job: &Job, ending: Ending, done: &mut Rehearsed) -> Result<()> {
        let Recovered { engine, lake, .. } = &mut self.work;
        engine.fold().await?;
        let known = look_up(lake, engine.parked()).await?;
        engine.settle(&known).await?;
        // As in a run that finds every file read before: no input, so no end of it.
        let end_of_input = ending == Ending::OfInput && engine.reads_any();
        let Some(draft) = engine.draft(self.now, end_of_input).await? else { return Ok(()) };
        done.epochs += 1;
        done.windows_closed += draft.windows_closed;
        done.counts.add(&draft.slot.counts());
        let (drafts, queue) = mpsc::channel(1);
        let (decided_sender, mut decided) = mpsc::channel(1);
        let (reports, _committed) = mpsc::unbounded_channel();
        let through = i64::try_from(self.last.epoch).unwrap_or(i64::MAX);
        // A slot that was decided and not published may stand before this one only at once after a start, which publishes it.
        let through = Arc::new(AtomicI64::new(through));
        drafts.send(draft).await.map_err(|_| Error::broken("the queue of drafts is closed"))?;
        drop(drafts);
        let (tables, slots, last) = (lake.tables.clone(), lake.slots.clone(), self.last.clone());
        stage_and_decide(tables, slots, last, queue, decided_sender, reports.clone(), through.clone()).await?;
        let Some((slot, commit, begun)) = decided.recv().await else {
            return Err(Error::broken("a draft was neither decided nor refused"));
        };
        self.last = slot.clone();
        if ending == Ending::Decided {
            return Ok(());
        }
        let epoch = slot.epoch;
        let (publish_sender, to_publish) = mpsc::channel(1);
        publish_sender
            .send((slot, commit, begun))
            .await
            .map_err(|_| Error::broken("the queue to publish is closed"))?;
        drop(publish_sender);
        publish(lake.tables.clone(), job.config.lake.app_id.clone(), None, to_publish, reports, through).await?;
        engine.published(epoch);
        // The running job reads what has changed beside the stream; here it is there at once, so that a script says it all.
        if let Some(loaded) = lake.lookups.refresh(&self.joined_with).await? {
            self.joined_with = Arc::new(loaded);
            engine.join_next(Arc::clone(&self.joined_with))?;
        }
        Ok(())
    }
}

impl Stage {
    /// As the job does when a look for late rows is due, but for the rows that it would read meanwhile.
    async fn restate(&mut self, job: &Job, done: &mut Rehearsed) -> Result<()> {
        let mut restater = Restater::new(None);
        restater.late_rows_due();
        while restater.may_begin() {
            let ground = Ground::new(&self.work.lake, &job.config.lake.app_id, self.last.epoch);
            restater.begin(ground, self.work.engine.subjects(&self.last.queries));
            let Some(step) = restater.ended().await else { break };
            let step = step?;
            let is_handed = step.restatement.is_some();
            done.late_rows_left += step.left();
            self.work.engine.restated(step);
            self.commit(job, Ending::Published, done).await?;
            if is_handed {
                restater.published();
            }
        }
        Ok(())
    }
}

impl File {
    fn open(path: &Path, key: ShardKey, position: Position, finished: bool, decoder: Decoder) -> Result<Self> {
        let offset = match &position {
            Position::TrimHorizon => 0,
            Position::After(SequenceNumber::Offset(bytes)) => *bytes,
            other => return Err(Error::broken(format!("`{}` was left at {other:?}", path.display()))),
        };
        let reader = (!finished).then(|| RecordReader::open(path, offset)).transpose()?;
        let records = VecDeque::new();
        let mut file = Self { key, position, reader, decoder, records, page_end: offset, told_end: finished };
        file.fill()?;
        Ok(file)
    }

    /// Reads on when everything read was handed out.
    fn fill(&mut self) -> Result<()> {
        while self.records.is_empty()
            && let Some(reader) = &mut self.reader
        {
            match reader.next_page()? {
                Some(page) => (self.records, self.page_end) = (page.records.into(), page.to),
                None => self.reader = None,
            }
        }
        Ok(())
    }

    fn is_at_end(&self) -> bool {
        self.reader.is_none() && self.records.is_empty()
    }

    /// Up to so many records, `None` at the end.
    fn next_page(&mut self, records_max: usize, arrival_time: Micros) -> Result<Option<Page>> {
        if self.records.is_empty() {
            return Ok(None);
        }
        let taken: Vec<FileRecord> = self.records.drain(..records_max.min(self.records.len())).collect();
        let end = match taken.last() {
            Some(last) if !self.records.is_empty() => last.end,
            _ => self.page_end,
        };
        let to = Position::After(SequenceNumber::Offset(end));
        let interval = Interval { from: std::mem::replace(&mut self.position, to.clone()), to };
        let record = |record: FileRecord| Record {
            sequence: SequenceNumber::Offset(record.end),
            arrival_time,
            data: record.data,
        };
        let records = taken.into_iter().map(record).collect();
        self.fill()?;
        Ok(Some(Page { shard: self.key.clone(), interval, records, share: None }))
    }
}
