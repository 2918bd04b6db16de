//! Reading the stream: finds its shards, reads each in a task of its own, and hands them over.
//!
//! The one law: shards begin in the order `lineage` allows. One shard that waits, throttles or fails stops no
//! other; only a gap or a stream that is gone stops all.
//!
//! One task owns the lineage. It lists the shards when it starts, every minute, and whenever a shard ends; and for a while
//! each second when an end has named a child that is not listed yet. Whether a shard is polled or subscribed to is its own
//! reader's business.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until};
use tokio_util::sync::CancellationToken;

use super::ageing::Ageing;
use super::backoff::Backoff;
use super::client::{Client, retention};
use super::consumer::Consumer;
use super::fan_out::FanOut;
use super::lineage::{Lineage, Startable};
use super::listing::list_shards;
use super::pacing::{Pace, Pacing};
use super::retention::{Heard, RETENTION_MIN};
#[cfg(doc)]
use super::shard_reader::PAGE_BYTES_MAX;
use super::shard_reader::{Outcome, ShardReader};
use super::terms::Terms;
use crate::clock::{Clock, MICROS_PER_SECOND, Micros, show_time};
use crate::config::{Config, Endpoint, Start};
use crate::error::{Error, Result};
use crate::stream::{
    InFlight, OpenedShard, Position, ShardId, ShardKey, ShardProgress, SourceHandle, SourceId, UnreadShards, pause,
};

/// Time between two listings when nothing happens: how long a reshard may go unseen. (A shard that ends is seen at once.)
const LISTING_INTERVAL: Duration = Duration::from_secs(60);

/// The same while a child is not listed that its parent's end has named: it holds the watermark.
const LATE_LISTING_INTERVAL: Duration = Duration::from_secs(1);

/// Such listings after a shard has ended: half a minute. A child that lags for longer is found as a reshard is.
pub(super) const LATE_LISTINGS_MAX: u32 = 30;

/// Time between two looks at how long the stream keeps records: who lengthens that, being warned, sees it taken note of.
const RETENTION_INTERVAL: Duration = Duration::from_secs(600);

/// Events that wait for the pipeline, per shard: one page being taken while the next is ready and a third is fetched. A
/// page holds at most [`PAGE_BYTES_MAX`] and one answer is cut into pages, so a shard takes 20 MiB and one answer; all
/// shards together no more than [`Options::in_flight`] has room for.
const EVENTS_MAX: usize = 2;

/// Calls on shards under way at once: each has a connection, and a process often no more than 1,024 descriptors. At a
/// fiftieth of a second a call, these are six thousand calls a second: a thousand shards at four each. Subscriptions come on
/// top, one a shard; see [`Terms::own_connection`].
const CALLS_MAX: usize = 128;

/// Opened shards that wait for the pipeline, which takes them at once: enough for a mass reshard not to stutter.
const OPENED_MAX: usize = 16;

/// What to read, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// The stream's name.
    pub stream: String,
    pub source: SourceId,
    /// Where a stream is read from of which nothing is known.
    pub start: Start,
    pub pacing: Pacing,
    /// Whom shards are subscribed to for; `None`: they are polled.
    pub consumer: Option<Arc<Consumer>>,
    pub terms: Terms,
    /// Time between two looks at the tip of a shard while records come, and the longest while none do.
    pub tick: Duration,
    pub idle_poll_max: Duration,
    /// Time between two listings while one lags behind an end.
    pub late_listing: Duration,
    /// Room for the records of all shards that the pipeline has not taken yet.
    pub in_flight: InFlight,
    /// Refuse a saved position that the stream no longer holds. Off where consumed records are deleted.
    pub check_trimmed: bool,
    /// How long the stream keeps a record when reading begins, microseconds; it is asked for now and then.
    pub retention: Micros,
    /// Of shards that were read before: what is unread arrived since then (microseconds, UTC), where that is known.
    pub unread_since: BTreeMap<ShardId, Micros>,
    pub clock: Clock,
}

impl Options {
    /// What the configuration says of the stream, which is polled. The source's name is `kinesis:<stream>`.
    pub fn new(config: &Config, clock: Clock) -> Self {
        let stream = &config.stream;
        Self {
            stream: stream.name.clone(),
            source: format!("kinesis:{}", stream.name).into(),
            start: stream.start,
            pacing: Pacing::for_endpoint(&stream.endpoint),
            consumer: None,
            terms: Terms::for_endpoint(&stream.endpoint),
            tick: config.tick.interval,
            idle_poll_max: config.idle_poll_max(),
            late_listing: LATE_LISTING_INTERVAL,
            in_flight: InFlight::new(usize::try_from(stream.in_flight_max.as_u64()).unwrap_or(usize::MAX)),
            check_trimmed: stream.endpoint != Endpoint::Embedded,
            retention: RETENTION_MIN,
            unread_since: BTreeMap::new(),
            clock,
        }
    }

    /// Refuses to begin a stream at a time to come: the service knows no such place, and until then nothing would be read.
    ///
    /// # Errors
    /// [`Error::Usage`] naming both times.
    pub fn check_start(&self) -> Result<()> {
        let now = self.clock.now();
        match self.start {
            Start::At(start) if start > now => Err(Error::usage(format!(
                "`stream.start` is {}, and it is {} now: a stream can be read from a time that has passed; `latest` reads what \
                 comes from now on",
                show_time(start),
                show_time(now)
            ))),
            _ => Ok(()),
        }
    }
}

/// Begins to read. `resume` is the newest slot's progress of every shard of this source (an opened shard of which nothing
/// has been read yet is one of them); empty for a stream, or an incarnation of it, that was never read.
///
/// The handle's task ends with an error when shards cannot be found or have expired unread; `opened` is closed then.
/// Errors of one shard arrive as its last event.
pub fn spawn(client: Client, options: Options, resume: &BTreeMap<ShardId, ShardProgress>) -> SourceHandle {
    let (opened_sender, opened) = mpsc::channel(OPENED_MAX);
    // Bounded by the number of shards: each is sent once.
    let (decided_finished, decided) = mpsc::unbounded_channel();
    let stop = CancellationToken::new();
    let unread = UnreadShards::default();
    let reader = Reader {
        lineage: Lineage::new(first_position(options.start, &options.clock), resume),
        retention: watch::Sender::new(options.retention),
        unread: unread.clone(),
        client,
        options,
        opened: opened_sender,
        shards: JoinSet::new(),
        calls: Arc::new(Semaphore::new(CALLS_MAX)),
        listed_at: Instant::now(),
        late_listings: 0,
    };
    let stopped = stop.clone();
    let task = tokio::spawn(async move {
        // Dropping the reader drops its JoinSet, which aborts the tasks of the shards: their channels close.
        stopped.run_until_cancelled_owned(reader.run(decided)).await.unwrap_or(Ok(()))
    });
    SourceHandle { opened, decided_finished, unread, stop, task }
}

/// Where to begin. "Latest" becomes the time of the start, so that it can be saved and means the same after a restart; a
/// whole second, because the embedded server's arrival times are.
fn first_position(start: Start, clock: &Clock) -> Position {
    match start {
        Start::TrimHorizon => Position::TrimHorizon,
        Start::Latest => Position::AtTimestamp(clock.now() / MICROS_PER_SECOND * MICROS_PER_SECOND),
        Start::At(time) => Position::AtTimestamp(time),
    }
}

/// The task that owns the lineage.
struct Reader {
    client: Client,
    options: Options,
    lineage: Lineage,
    /// How long the stream keeps a record.
    retention: watch::Sender<Micros>,
    unread: UnreadShards,
    opened: mpsc::Sender<OpenedShard>,
    shards: JoinSet<(ShardId, Outcome)>,
    calls: Arc<Semaphore>,
    listed_at: Instant,
    /// Listings for a child that lags, since a shard ended.
    late_listings: u32,
}

impl Reader {
    /// Reads until nobody takes opened shards any more.
    async fn run(mut self, mut decided: mpsc::UnboundedReceiver<ShardId>) -> Result<()> {
        let mut looks = interval_at(Instant::now() + RETENTION_INTERVAL, RETENTION_INTERVAL);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.discover().await?;
        loop {
            if !self.open().await {
                return Ok(());
            }
            tokio::select! {
                () = self.opened.closed() => return Ok(()),
                () = sleep_until(self.listing_at()) => {
                    self.late_listings += u32::from(self.lineage.awaits_children());
                    self.discover().await?;
                }
                _ = looks.tick() => self.look_at_retention().await,
                Some(id) = decided.recv() => {
                    self.lineage.decided_finished(&id);
                    if self.lineage.is_childless(&id) {
                        self.discover().await?;
                    }
                }
                Some(ended) = self.shards.join_next() => {
                    let (id, outcome) = ended.map_err(|error| Error::external("reading a shard", error))?;
                    if let Outcome::Ended { position, children } = outcome {
                        tracing::info!(?children, "shard `{id}` has ended");
                        self.lineage.ended(&id, position);
                        self.lineage.names(children);
                        self.late_listings = 0;
                        self.discover().await?;
                    }
                }
            }
        }
    }

    /// When the shards are listed next, whatever happens.
    fn listing_at(&self) -> Instant {
        let is_late = self.lineage.awaits_children() && self.late_listings < LATE_LISTINGS_MAX;
        self.listed_at + if is_late { self.options.late_listing } else { LISTING_INTERVAL }
    }

    /// Begins to read every shard that may be read by now. Returns whether anybody takes them.
    async fn open(&mut self) -> bool {
        for Startable { id, position, parents } in self.lineage.startable() {
            let key = ShardKey { source: self.options.source.clone(), shard: id.clone() };
            tracing::info!(?position, "reading shard `{id}`");
            let (events, receiver) = mpsc::channel(EVENTS_MAX);
            let consumer = self.options.consumer.clone();
            let fan_out = consumer.map(|consumer| FanOut::new(&self.client, consumer, self.options.terms, &id));
            let (pause, paused) = pause();
            let (read_to, told) = watch::channel(self.options.clock.now());
            let (retention, unread) = (self.retention.subscribe(), self.unread.clone());
            let ageing = Ageing::new(key.clone(), told, retention, unread, self.options.clock.clone());
            let Options { pacing, tick, idle_poll_max, .. } = self.options;
            let since = self.options.unread_since.remove(&id);
            let reader = ShardReader {
                client: self.client.clone(),
                stream: self.options.stream.clone(),
                backoff: Backoff::new(&self.client, &id),
                key: key.clone(),
                position: position.clone(),
                events,
                pace: Pace::new(pacing, tick, idle_poll_max, Instant::now()),
                paused,
                in_flight: self.options.in_flight.clone(),
                calls: self.calls.clone(),
                clock: self.options.clock.clone(),
                check_trimmed: self.options.check_trimmed,
                retention: self.retention.subscribe(),
                heard: since.map(Heard::saved),
                read_to,
                fan_out,
            };
            if self.opened.send(OpenedShard { key, position, parents, events: receiver, pause }).await.is_err() {
                return false;
            }
            self.shards.spawn(async move {
                let outcome = tokio::select! {
                    outcome = reader.run() => outcome,
                    never = ageing.run() => match never {},
                };
                (id, outcome)
            });
        }
        true
    }

    /// Asks how long the stream keeps a record; who gets no answer goes on with what was told before.
    async fn look_at_retention(&self) {
        if let Some(told) = retention(&self.client, &self.options.stream).await {
            self.retention.send_if_modified(|known| std::mem::replace(known, told) != told);
        }
    }

    /// Lists the shards and takes them into the lineage.
    async fn discover(&mut self) -> Result<()> {
        let listed = list_shards(&self.client, &self.options.stream).await?;
        self.listed_at = Instant::now();
        self.lineage.discover(listed)
    }
}
