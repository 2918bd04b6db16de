//! Where rows come from in this run: files, or a stream and whoever writes to it.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::{Arc, OnceLock};

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::decode::joined;
use super::gap::{meet_gaps, tell_absence};
use super::incarnation::{incarnation, meet_stream};
use super::recover::Recovered;
use super::{Feed, Input, Job};
use crate::clock::Micros;
use crate::config::{Endpoint, micros};
use crate::epoch::Slot;
#[cfg(doc)]
use crate::error::Error;
use crate::error::Result;
use crate::files;
use crate::kinesis::{Client, EmbeddedKinesis, Producer, connect, create_stream, reader, registered, stream_facts};
use crate::simulate::{Ahead, FeedProgress, Plan, Replay, ReplayProgress, Simulator, feed, replay};
use crate::stream::{OpenedShard, SequenceNumber, ShardId, SourceHandle, SourceId, UnreadShards};
use crate::token::Tokenizer;

/// How far a replay may be ahead of the engine: two ticks of the fastest replay, and about as many bytes of records of 500.
/// An embedded stream keeps them in memory, as base64.
const REPLAYED_AHEAD_MAX: Ahead = Ahead { records: 100_000, bytes: 64 << 20 };

/// A source being read, and what writes to it.
#[derive(Debug)]
pub(super) struct Opened {
    pub shards: mpsc::Receiver<OpenedShard>,
    pub decided_finished: mpsc::UnboundedSender<ShardId>,
    pub producing: Producing,
    /// Where the stream is reached.
    pub url: Option<String>,
    /// How old what is unread may be.
    pub unread: UnreadShards,
    pub reader: Task,
    embedded: Option<Embedded>,
}

/// A record of each shard: the last read, or the last acknowledged.
pub(super) type Positions = BTreeMap<ShardId, SequenceNumber>;

/// The Kinesis of this process.
#[derive(Debug)]
struct Embedded {
    server: EmbeddedKinesis,
    stream: String,
    source: SourceId,
}

/// Who writes to the stream from within this process.
#[derive(Debug)]
pub(super) enum Producing {
    Nothing,
    /// Simulated card holders; what each shard acknowledged last, once they have stopped.
    Simulating {
        progress: Arc<FeedProgress>,
        last: Arc<OnceLock<Positions>>,
        task: Task,
    },
    /// A file.
    Replaying {
        progress: Arc<ReplayProgress>,
        task: Task,
    },
}

/// A task that reads or writes, until its end has been seen.
#[derive(Debug)]
pub(super) struct Task {
    what: &'static str,
    stop: CancellationToken,
    handle: Option<JoinHandle<Result<()>>>,
}

/// The source's name in slots and rows.
pub(super) fn stream_source(job: &Job) -> SourceId {
    reader::Options::new(&job.config, job.clock.clone()).source
}

/// Opens what the job reads.
///
/// # Errors
/// [`Error::Usage`] for files that cannot be read and for a stream that was made anew; [`Error::External`] when the
/// stream does not answer.
pub(super) async fn open(job: &Job, recovered: &mut Recovered) -> Result<Opened> {
    match &job.input {
        Input::Files { paths, pace } => {
            let resume = recovered.base.resume(files::SOURCE);
            let pace = files::Pace { rows_per_second: pace.and_then(NonZeroU32::new), ..files::Pace::default() };
            let source = files::spawn(paths, &resume, &job.clock, pace)?;
            for path in &source.already_finished {
                recovered.facts.notes.push(format!("{} was read to its end before: nothing to read", path.display()));
            }
            Ok(Opened::new(source.handle, Producing::Nothing, None, None))
        }
        Input::Stream(feed) => open_stream(job, feed, recovered).await,
    }
}

async fn open_stream(job: &Job, feed: &Feed, recovered: &mut Recovered) -> Result<Opened> {
    let stream = &job.config.stream;
    let server = match stream.endpoint {
        Endpoint::Embedded => Some(EmbeddedKinesis::start(&stream.listen, &stream.region).await?),
        Endpoint::Aws | Endpoint::Url(_) => None,
    };
    let client = connect(stream, server.as_ref()).await?;
    if server.is_some() {
        create_stream(&client, &stream.name, stream.shards).await?;
    }
    let facts = stream_facts(&client, &stream.name).await?;
    let mut options = reader::Options::new(&job.config, job.clock.clone());
    options.retention = facts.retention;
    let source = options.source.clone();
    meet_stream(job, recovered, &source, incarnation(job, facts.incarnation)).await?;
    tell_absence(job, recovered, &options);
    meet_gaps(job, recovered, &client, &options).await?;
    recovered.engine.keeps(&source, facts.retention);
    let known = recovered.base.sources.get(&source).into_iter().flat_map(|source| &source.shards);
    options.unread_since = known.filter_map(|(id, shard)| Some((id.clone(), shard.unread_since()?))).collect();
    options.consumer = registered(&client, stream, job.config.consumer_name()).await?;
    let resume = recovered.base.resume(&source);
    if resume.is_empty() {
        options.check_start()?;
    }
    let handle = reader::spawn(client.clone(), options, &resume);
    let url = match (&server, &stream.endpoint) {
        (Some(server), _) => format!("{} (embedded, stream `{}`)", server.url(), stream.name),
        (None, Endpoint::Url(url)) => format!("{url} (stream `{}`)", stream.name),
        (None, _) => format!("{} in {}", stream.name, stream.region),
    };
    let producing = produce(job, feed, recovered, &client)?;
    let embedded = server.map(|server| Embedded { server, stream: stream.name.clone(), source });
    Ok(Opened::new(handle, producing, Some(url), embedded))
}

/// Starts whoever writes to the stream from within this process.
fn produce(job: &Job, feed_from: &Feed, recovered: &Recovered, client: &Client) -> Result<Producing> {
    let producer = Producer::of(client.clone(), &job.config.stream);
    let contract = recovered.lake.stream.clone();
    let tokenizer = Tokenizer::new(job.token_key.clone());
    let stop = CancellationToken::new();
    match feed_from {
        Feed::Others => Ok(Producing::Nothing),
        Feed::Replay(path) => {
            let progress = Arc::new(ReplayProgress::default());
            let file = Replay { path: path.clone(), contract, tokenizer, ahead_max: Some(REPLAYED_AHEAD_MAX) };
            let replaying = replay(producer, file, progress.clone(), stop.clone());
            let handle = tokio::spawn(async move { replaying.await.map(drop) });
            Ok(Producing::Replaying { progress, task: Task::writing(stop, handle) })
        }
        Feed::Simulate => {
            let settings = &job.config.simulate;
            let now = job.clock.now();
            let simulator =
                Simulator::new(settings.seed, settings.cards, history_from(job, recovered.base.watermark, now))?;
            let plan = Plan { live_from: now, history_rate: settings.history_rate.into(), rate: settings.rate.into() };
            let progress = Arc::new(FeedProgress::default());
            let feeding = feed(producer, simulator, tokenizer, plan, job.clock.clone(), stop.clone(), progress.clone());
            let last = Arc::new(OnceLock::new());
            let told = last.clone();
            let handle = tokio::spawn(async move { feeding.await.map(|fed| drop(told.set(fed.last))) });
            Ok(Producing::Simulating { progress, last, task: Task::writing(stop, handle) })
        }
    }
}

/// The demo's history starts where the lake ends, so that a second start brings no late rows.
fn history_from(job: &Job, watermark: Option<Micros>, now: Micros) -> Micros {
    let asked = now - micros(job.config.simulate.history);
    watermark.map_or(asked, |watermark| watermark.max(asked).min(now))
}

impl Opened {
    fn new(handle: SourceHandle, producing: Producing, url: Option<String>, embedded: Option<Embedded>) -> Self {
        let SourceHandle { opened, decided_finished, unread, stop, task } = handle;
        let reader = Task { what: "reading the source", stop, handle: Some(task) };
        Self { shards: opened, decided_finished, producing, url, unread, reader, embedded }
    }

    /// Every table holds this slot: an embedded stream may forget it, and simulated card holders go on.
    pub(super) async fn free(&self, slot: &Slot) {
        if let Producing::Simulating { progress, .. } = &self.producing {
            progress.committed(slot.counts().read);
        }
        let Some(embedded) = &self.embedded else { return };
        let Some(progress) = slot.sources.get(&embedded.source) else { return };
        for (shard, slot) in &progress.shards {
            if let crate::stream::Position::After(sequence) = &slot.progress.position {
                let freed = embedded.server.delete_through(&embedded.stream, shard, sequence).await;
                if let Err(error) = freed {
                    tracing::warn!(%shard, %error, "committed records stay in the embedded stream for now");
                }
            }
        }
    }

    /// Tells producers to stop after the request they are in.
    pub(super) fn stop_producing(&self) {
        match &self.producing {
            Producing::Nothing => {}
            Producing::Simulating { task, .. } | Producing::Replaying { task, .. } => task.stop.cancel(),
        }
    }

    /// Stops reading.
    pub(super) fn stop(&self) {
        self.reader.stop.cancel();
    }

    /// Lets the reader and an embedded server end.
    pub(super) async fn close(mut self) {
        self.stop_producing();
        // Shards announced and never taken would keep their readers waiting for room.
        self.shards.close();
        while self.shards.try_recv().is_ok() {}
        if !self.reader.has_ended()
            && let Err(error) = self.reader.ended().await
        {
            tracing::debug!(%error, "the reader had failed");
        }
        if let Some(embedded) = self.embedded
            && let Err(error) = embedded.server.stop().await
        {
            tracing::debug!(%error, "the embedded stream did not stop in order");
        }
    }
}

impl Producing {
    /// Waits for the end of the producing task; never ends when there is none, or its end was seen.
    ///
    /// # Errors
    /// What stopped the producer.
    pub(super) async fn ended(&mut self) -> Result<()> {
        match self {
            Self::Nothing => std::future::pending().await,
            Self::Simulating { task, .. } | Self::Replaying { task, .. } => task.ended().await,
        }
    }

    /// Whether all that was acknowledged has been read.
    pub(super) fn is_drained(&self, read: &Positions) -> bool {
        match self {
            Self::Nothing => true,
            Self::Simulating { last, .. } => {
                let reached = |(shard, last): (&ShardId, &SequenceNumber)| read.get(shard).is_some_and(|r| r >= last);
                last.get().is_some_and(|last| last.iter().all(reached))
            }
            Self::Replaying { progress, .. } => progress.caught_up(read),
        }
    }

    /// Whether nothing writes from within this process any more.
    pub(super) fn has_ended(&self) -> bool {
        match self {
            Self::Nothing => true,
            Self::Simulating { task, .. } | Self::Replaying { task, .. } => task.has_ended(),
        }
    }
}

impl Task {
    fn writing(stop: CancellationToken, handle: JoinHandle<Result<()>>) -> Self {
        Self { what: "writing to the stream", stop, handle: Some(handle) }
    }

    /// Waits for the end; never ends when it was seen before.
    ///
    /// # Errors
    /// What stopped the task.
    pub(super) async fn ended(&mut self) -> Result<()> {
        match &mut self.handle {
            None => std::future::pending().await,
            Some(handle) => {
                let ended = joined(handle.await, self.what);
                self.handle = None;
                ended
            }
        }
    }

    pub(super) fn has_ended(&self) -> bool {
        self.handle.is_none()
    }
}
