//! Files as the pipeline sees a source: a shard a file, read on a thread of its own.
//!
//! The one law: a shard's pages meet from its saved position to its end, and `Finished` comes after the last of them.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::{FILES_MAX, RecordPage, RecordReader, SOURCE, shard_id};
use crate::clock::Clock;
use crate::error::{Context, Error, Result};
use crate::stream::{
    Interval, OpenedShard, Page, Paused, Position, Record, SequenceNumber, ShardEvent, ShardId, ShardKey,
    ShardProgress, SourceHandle, UnreadShards, pause,
};

/// Pages a paced file has read ahead of its pace: one waits while one is handed out.
const PACED_PAGES: usize = 1;

/// A paced file hands out its rows this often, or less.
const PIECES_PER_SECOND: u32 = 10;

/// How far ahead of the pipeline and how fast files are read.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Pages (about a MiB each) waiting for the pipeline, a file.
    pub pages_ahead: usize,
    /// Rows a second of each file; as fast as the pipeline takes them when `None`.
    pub rows_per_second: Option<NonZeroU32>,
}

impl Default for Pace {
    /// Two pages: one being sent while the pipeline works on the other.
    fn default() -> Self {
        Self { pages_ahead: 2, rows_per_second: None }
    }
}

/// Files being read.
#[derive(Debug)]
pub struct FileSource {
    pub handle: SourceHandle,
    /// Files that an earlier run read to their end: they are not opened again.
    pub already_finished: Vec<PathBuf>,
}

/// One file to read.
struct FileShard {
    key: ShardKey,
    position: Position,
    reader: RecordReader,
}

/// Starts reading the files, each from where `resume` (of source [`SOURCE`]) left it. Must be called inside a Tokio
/// runtime; every file gets a thread of its blocking pool. Records carry the time their page was read as arrival time.
///
/// # Errors
/// [`Error::Usage`] for a missing file, an unknown extension, one file named twice, or more than [`FILES_MAX`] of them.
pub fn spawn(
    paths: &[PathBuf],
    resume: &BTreeMap<ShardId, ShardProgress>,
    clock: &Clock,
    pace: Pace,
) -> Result<FileSource> {
    let (shards, already_finished) = open_all(paths, resume)?;
    let stop = CancellationToken::new();
    let (announce, opened) = mpsc::channel(shards.len().max(1));
    let (decided_finished, mut ends) = mpsc::unbounded_channel::<ShardId>();
    let mut tasks = JoinSet::new();
    for shard in shards {
        let (events, receiver) = mpsc::channel(pace.pages_ahead.max(1));
        let (pause, paused) = pause();
        let announced = announce.try_send(OpenedShard {
            key: shard.key.clone(),
            position: shard.position.clone(),
            parents: BTreeSet::new(),
            events: receiver,
            pause,
        });
        announced.map_err(|_| Error::broken("no place to announce a file in its own channel"))?;
        let (clock, stopped) = (clock.clone(), stop.clone());
        match pace.rows_per_second {
            None => {
                tasks.spawn_blocking(move || read(shard, &clock, &stopped, paused, &events));
            }
            Some(rows) => {
                let (pages, paced) = mpsc::channel(PACED_PAGES);
                tasks.spawn(hand_out(paced, events, rows, stop.clone()));
                tasks.spawn_blocking(move || read(shard, &clock, &stopped, paused, &pages));
            }
        }
    }
    let task = tokio::spawn(async move {
        // A file has no children, so nothing waits for its decided end.
        let ignore_ends = async { while ends.recv().await.is_some() {} };
        let all_read = async {
            while let Some(ended) = tasks.join_next().await {
                ended.context(|| "read files")?;
            }
            Ok(())
        };
        tokio::pin!(ignore_ends, all_read);
        tokio::select! {
            result = &mut all_read => result,
            () = &mut ignore_ends => all_read.await,
        }
    });
    Ok(FileSource {
        handle: SourceHandle { opened, decided_finished, unread: UnreadShards::default(), stop, task },
        already_finished,
    })
}

/// Opens every file that is not finished at its position.
fn open_all(paths: &[PathBuf], resume: &BTreeMap<ShardId, ShardProgress>) -> Result<(Vec<FileShard>, Vec<PathBuf>)> {
    if paths.len() > FILES_MAX {
        return Err(Error::usage(format!("{} files given; at most {FILES_MAX} can be read at once", paths.len())));
    }
    let (mut shards, mut finished, mut seen) = (Vec::new(), Vec::new(), BTreeSet::new());
    for path in paths {
        let shard = shard_id(path)?;
        if !seen.insert(shard.clone()) {
            return Err(Error::usage(format!("`{}` is given twice", path.display())));
        }
        match resume.get(&shard) {
            Some(progress) if progress.finished => finished.push(path.clone()),
            progress => shards.push(open_at(path, shard, progress)?),
        }
    }
    Ok((shards, finished))
}

fn open_at(path: &Path, shard: ShardId, progress: Option<&ShardProgress>) -> Result<FileShard> {
    let position = progress.map_or(Position::TrimHorizon, |progress| progress.position.clone());
    let offset = match &position {
        Position::TrimHorizon => 0,
        Position::After(SequenceNumber::Offset(bytes)) => *bytes,
        other => return Err(Error::broken(format!("`{shard}` was left at {other:?}, which is no place in a file"))),
    };
    let reader = RecordReader::open(path, offset)?;
    Ok(FileShard { key: ShardKey { source: Arc::from(SOURCE), shard }, position, reader })
}

/// Reads a file to its end on a thread that may block. Ends early when nobody listens or reading is stopped.
fn read(
    mut shard: FileShard,
    clock: &Clock,
    stop: &CancellationToken,
    mut paused: Paused,
    events: &mpsc::Sender<ShardEvent>,
) {
    let runtime = Handle::current();
    while runtime.block_on(stop.run_until_cancelled(paused.over())).is_some() {
        let event = match shard.reader.next_page() {
            Ok(Some(page)) => ShardEvent::Page(as_page(&shard.key, &mut shard.position, page, clock)),
            Ok(None) => ShardEvent::Finished,
            Err(error) => ShardEvent::Failed(error),
        };
        let is_last = !matches!(event, ShardEvent::Page(_));
        if events.blocking_send(event).is_err() || is_last {
            return;
        }
    }
}

fn as_page(key: &ShardKey, position: &mut Position, page: RecordPage, clock: &Clock) -> Page {
    let arrival_time = clock.now();
    let record = |record: super::FileRecord| Record {
        sequence: SequenceNumber::Offset(record.end),
        arrival_time,
        data: record.data,
    };
    let to = Position::After(SequenceNumber::Offset(page.to));
    let from = std::mem::replace(position, to.clone());
    Page {
        shard: key.clone(),
        interval: Interval { from, to },
        records: page.records.into_iter().map(record).collect(),
        share: None,
    }
}

/// Passes events on at `rows` rows a second, pages cut into [`PIECES_PER_SECOND`] pieces or fewer.
async fn hand_out(
    mut events: mpsc::Receiver<ShardEvent>,
    out: mpsc::Sender<ShardEvent>,
    rows: NonZeroU32,
    stop: CancellationToken,
) {
    // Rounded up and the tick made to fit, so that the rate is exact; slower than ten rows a second: one row, more seldom.
    let piece_rows = rows.get().div_ceil(PIECES_PER_SECOND);
    let tick = Duration::from_secs(1) * piece_rows / rows.get();
    let mut ticks = tokio::time::interval(tick);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while let Some(event) = events.recv().await {
        let pieces = match event {
            ShardEvent::Page(page) => cut(page, piece_rows as usize).into_iter().map(ShardEvent::Page).collect(),
            other => vec![other],
        };
        for piece in pieces {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            if out.send(piece).await.is_err() {
                return;
            }
        }
    }
}

/// Cuts a page into pages of at most `rows` records that cover the same interval.
fn cut(page: Page, rows: usize) -> Vec<Page> {
    let Interval { mut from, to } = page.interval;
    let count = page.records.len().div_ceil(rows).max(1);
    let mut records = page.records.into_iter();
    let piece = |index: usize| {
        let records: Vec<Record> = records.by_ref().take(rows).collect();
        let end = match records.last() {
            Some(last) if index + 1 < count => Position::After(last.sequence.clone()),
            _ => to.clone(),
        };
        let interval = Interval { from: std::mem::replace(&mut from, end.clone()), to: end };
        Page { shard: page.shard.clone(), interval, records, share: None }
    };
    (0..count).map(piece).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key_file(folder: &Path, name: &str, lines: usize) -> PathBuf {
        let path = folder.join(name);
        let content: String = (0..lines).map(|line| format!("{{\"n\":{line}}}\n")).collect();
        std::fs::write(&path, content).unwrap();
        path
    }

    /// Everything a source tells: per shard the records, the joined interval, whether it finished.
    async fn drain(mut source: FileSource) -> BTreeMap<ShardId, (Vec<Record>, Option<Interval>, bool)> {
        let mut told = BTreeMap::new();
        while let Some(mut shard) = source.handle.opened.recv().await {
            let entry: &mut (Vec<Record>, Option<Interval>, bool) = told.entry(shard.key.shard.clone()).or_default();
            while let Some(event) = shard.events.recv().await {
                match event {
                    ShardEvent::Page(page) => {
                        match &mut entry.1 {
                            Some(interval) => interval.join(&page.interval).unwrap(),
                            None => assert_eq!(page.interval.from, shard.position),
                        }
                        entry.1.get_or_insert(page.interval);
                        entry.0.extend(page.records);
                    }
                    ShardEvent::Finished => entry.2 = true,
                    other => panic!("{other:?}"),
                }
            }
        }
        drop(source.handle.decided_finished);
        source.handle.task.await.unwrap().unwrap();
        told
    }

    fn progress(position: u64, finished: bool) -> ShardProgress {
        let position = Position::After(SequenceNumber::Offset(position));
        ShardProgress { position, finished, parents: BTreeSet::new(), watermark: None }
    }

    #[tokio::test]
    async fn each_file_is_a_shard_read_to_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let paths = [key_file(folder.path(), "a.ndjson", 9_000), key_file(folder.path(), "b.ndjson", 0)];
        let source = spawn(&paths, &BTreeMap::new(), &Clock::fixed(42), Pace::default()).unwrap();
        assert!(source.already_finished.is_empty());
        let told = drain(source).await;
        let (records, interval, finished) = &told[&shard_id(&paths[0]).unwrap()];
        let size = std::fs::metadata(&paths[0]).unwrap().len();
        let to = Position::After(SequenceNumber::Offset(size));
        assert_eq!((records.len(), finished), (9_000, &true));
        assert_eq!(interval.as_ref().unwrap(), &Interval { from: Position::TrimHorizon, to });
        assert!(records.iter().all(|record| record.arrival_time == 42));
        let (records, interval, finished) = &told[&shard_id(&paths[1]).unwrap()];
        assert!(records.is_empty() && interval.is_none() && *finished);
    }

    #[tokio::test]
    async fn reading_goes_on_where_it_stopped() {
        let folder = tempfile::tempdir().unwrap();
        let paths = [key_file(folder.path(), "a.ndjson", 3), key_file(folder.path(), "b.ndjson", 3)];
        let resume = BTreeMap::from([
            (shard_id(&paths[0]).unwrap(), progress(8, false)),
            (shard_id(&paths[1]).unwrap(), progress(24, true)),
        ]);
        let source = spawn(&paths, &resume, &Clock::fixed(0), Pace::default()).unwrap();
        assert_eq!(source.already_finished, [paths[1].clone()]);
        let told = drain(source).await;
        assert_eq!(told.len(), 1);
        let (records, ..) = &told[&shard_id(&paths[0]).unwrap()];
        let data: Vec<&[u8]> = records.iter().map(|record| record.data.as_ref()).collect();
        assert_eq!(data, [b"{\"n\":1}", b"{\"n\":2}"]);
    }

    #[tokio::test]
    async fn a_paced_file_gives_its_rows_by_the_clock() {
        let folder = tempfile::tempdir().unwrap();
        let paths = [key_file(folder.path(), "a.ndjson", 60)];
        let pace = Pace { rows_per_second: NonZeroU32::new(200), ..Pace::default() };
        let begin = std::time::Instant::now();
        let told = drain(spawn(&paths, &BTreeMap::new(), &Clock::fixed(0), pace).unwrap()).await;
        let (records, interval, finished) = &told[&shard_id(&paths[0]).unwrap()];
        assert_eq!((records.len(), finished), (60, &true));
        assert_eq!(interval.as_ref().unwrap().from, Position::TrimHorizon);
        // Three pieces of a tick's twenty rows: the second and the third each wait for a tick.
        assert!(begin.elapsed() >= Duration::from_millis(190));
    }

    #[tokio::test]
    async fn stopping_ends_without_finished() {
        let folder = tempfile::tempdir().unwrap();
        let paths = [key_file(folder.path(), "a.ndjson", 100_000)];
        let source = spawn(&paths, &BTreeMap::new(), &Clock::fixed(0), Pace::default()).unwrap();
        source.handle.stop.cancel();
        let told = drain(source).await;
        let (records, _, finished) = &told[&shard_id(&paths[0]).unwrap()];
        assert!(!finished && records.len() < 100_000);
    }

    #[tokio::test]
    async fn what_the_user_can_mend_is_said_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = key_file(folder.path(), "a.ndjson", 1);
        let spawn = |paths: &[PathBuf]| spawn(paths, &BTreeMap::new(), &Clock::fixed(0), Pace::default());
        for (paths, word) in [
            (vec![path.clone(), path.clone()], "twice"),
            (vec![folder.path().join("b.ndjson")], "no such file"),
            (vec![folder.path().join("b.xlsx"), path.clone()], ".xlsx"),
            (vec![path; FILES_MAX + 1], "at most"),
        ] {
            let error = spawn(&paths).unwrap_err();
            assert!(matches!(error, Error::Usage(_)) && error.to_string().contains(word), "{error}");
        }
    }
}
