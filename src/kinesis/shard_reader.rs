//! Reading one shard: GetRecords, page after page, until the shard's end; or while its subscriptions fail
//! ([`super::fan_out`]).
//!
//! The one law: what is handed over joins without gap or overlap, and the end of what is polled is a missing
//! `NextShardIterator` and nothing else. Iterators are never kept: when one is refused, a new one is taken after the last
//! record handed over. Room for an answer is taken for each attempt of a call and goes on with its pages: who waits between
//! two calls, for whatever, holds none.
//!
//! It does not decide which shards to read (see [`super::lineage`]) nor look into records.

use std::collections::BTreeSet;
use std::sync::Arc;

use aws_sdk_kinesis::operation::get_records::GetRecordsOutput;
use aws_sdk_kinesis::primitives::DateTime;
use aws_sdk_kinesis::types::{ChildShard, Record as Received, ShardIteratorType};
use bytes::Bytes;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};

use super::backoff::{ATTEMPTS_UNBOUNDED, Backoff, Failure, Trouble};
use super::client::Client;
use super::fan_out::{FanOut, Left};
use super::lineage::GAP_REMEDY;
use super::pacing::{Answered, Pace};
use super::retention::{Heard, Held, held};
use crate::clock::{Clock, MICROS_PER_SECOND, Micros};
use crate::error::{Error, Result};
use crate::stream::{
    InFlight, Interval, Page, Paused, Position, Record, SequenceNumber, ShardEvent, ShardId, ShardKey, Share,
};

/// Iterators refused in a row before reading fails. One is normal (a clock that was set back, a server started again);
/// so many mean that the service does not know what it hands out.
const REFUSED_ITERATORS_MAX: u32 = 5;

/// Refusals of a start time in a row: a clock ahead of the service's makes "now" a time to come. The waits add up to
/// about half a minute.
const REFUSED_TIMES_MAX: u32 = 10;

/// Bytes of records in one page handed over (one record may be larger): the most an answer of AWS holds. A server that does
/// not cap its answers must not make the pages of the pipeline larger.
pub(super) const PAGE_BYTES_MAX: usize = 10 << 20;

/// An answer, when it was asked for, and the room it takes.
struct Got {
    called: Instant,
    answer: GetRecordsOutput,
    share: Share,
}

/// How the reading of a shard ended.
#[derive(Debug)]
pub enum Outcome {
    /// At the shard's end, which names the children; some servers name none.
    Ended { position: Position, children: BTreeSet<ShardId> },
    /// With an error, which was handed over as [`ShardEvent::Failed`], or because nobody takes the events any more.
    Abandoned,
}

/// Reads one shard.
#[derive(Debug)]
pub struct ShardReader {
    pub client: Client,
    pub stream: String,
    pub key: ShardKey,
    /// Everything up to here was handed over.
    pub position: Position,
    pub events: mpsc::Sender<ShardEvent>,
    pub pace: Pace,
    /// The pipeline's say when to wait.
    pub paused: Paused,
    /// Room for the records of all shards.
    pub in_flight: InFlight,
    /// A permit is a call under way, of all shards.
    pub calls: Arc<Semaphore>,
    pub clock: Clock,
    /// Whether a saved position must still be in the stream. Not so on the embedded server, which frees what is committed.
    pub check_trimmed: bool,
    /// The stream's, microseconds; it may be changed at any time.
    pub retention: watch::Receiver<Micros>,
    /// When the shard last answered, and what was unread then; `None` when nothing is known.
    pub heard: Option<Heard>,
    /// Told that all which arrived before this time has been read (microseconds, UTC).
    pub read_to: watch::Sender<Micros>,
    pub backoff: Backoff,
    /// Its subscriptions; `None` when it is polled.
    pub fan_out: Option<FanOut>,
}

impl ShardReader {
    /// Reads until the shard's end, an error, or until nobody listens. Cancel by dropping the future.
    pub async fn run(mut self) -> Outcome {
        match self.read().await {
            Ok(outcome) => outcome,
            Err(error) => {
                // Nobody listening is no news: the pipeline is on its way out.
                let _ = self.events.send(ShardEvent::Failed(error)).await;
                Outcome::Abandoned
            }
        }
    }

    /// By subscriptions where there are any, and by polling while they fail.
    async fn read(&mut self) -> Result<Outcome> {
        let mut fan_out = self.fan_out.take();
        loop {
            let until = match &mut fan_out {
                None => None,
                Some(fan_out) => match fan_out.read(self).await? {
                    Left::Over(outcome) => return Ok(outcome),
                    Left::Polled(until) => Some(until),
                },
            };
            if let Some(outcome) = self.poll(until).await? {
                return Ok(outcome);
            }
        }
    }

    /// Polls to the shard's end, or, after an answer at least, until a time: `None` then.
    async fn poll(&mut self, until: Option<Instant>) -> Result<Option<Outcome>> {
        let mut refused = 0;
        let mut iterator = self.iterator().await?;
        loop {
            let Got { called, answer, mut share } = match self.get_records(&iterator).await {
                Ok(got) => got,
                Err(failure) => {
                    refused = self.renewable(failure, refused)?;
                    iterator = self.iterator().await?;
                    continue;
                }
            };
            refused = 0;
            let (records, behind) = (answer.records.len(), answer.millis_behind_latest);
            self.answered(behind);
            let bytes = answer.records.iter().map(|record| record.data.as_ref().len()).sum();
            share.settle(bytes);
            self.pace.answered(called, Answered { records, bytes, behind: behind.unwrap_or(0) > 0 });
            let (next, children) = (answer.next_shard_iterator, answer.child_shards);
            if !self.hand_over(answer.records, share, behind, next.is_none()).await {
                return Ok(Some(Outcome::Abandoned));
            }
            let Some(next) = next else { return Ok(Some(self.ended(children))) };
            if until.is_some_and(|until| Instant::now() >= until) {
                return Ok(None);
            }
            iterator = next;
        }
    }

    /// Everything was handed over, and the last answer said what follows.
    pub(super) fn ended(&self, children: Option<Vec<ChildShard>>) -> Outcome {
        let children = children.unwrap_or_default().into_iter().map(|child| child.shard_id.into()).collect();
        Outcome::Ended { position: self.position.clone(), children }
    }

    /// The shard has told how far behind its tip it was read.
    pub(super) fn answered(&mut self, behind: Option<i64>) {
        let (Some(behind), now) = (behind, self.clock.now()) else { return };
        let unread_since = now.saturating_sub(behind.max(0).saturating_mul(1_000));
        self.heard = Some(Heard { at: now, unread_since });
        self.read_to.send_replace(unread_since);
    }

    /// The next answer, however many attempts it takes: each when its time has come, and unless the pipeline says to wait.
    async fn get_records(&mut self, iterator: &str) -> Result<Got, Failure> {
        let ask = self.pace.ask();
        let limit = i32::try_from(ask.limit).unwrap_or(i32::MAX);
        let request = self.client.get_records().shard_iterator(iterator).limit(limit);
        let what = format!("reading `{}`", self.key);
        self.backoff.reset();
        loop {
            sleep_until(self.pace.due()).await;
            self.paused.over().await;
            let (called, failure) = {
                let share = self.in_flight.reserve(ask.bytes).await;
                // It is never closed. Whoever has it waits for the answer alone, and for that only so long.
                let _call = self.calls.acquire().await;
                let called = Instant::now();
                self.pace.call(called);
                match request.clone().send().await {
                    Ok(answer) => return Ok(Got { called, answer, share }),
                    Err(error) => (called, Failure::of(&error, &self.client.site())),
                }
            };
            if !failure.is_throttled {
                self.backoff.wait_out(&what, ATTEMPTS_UNBOUNDED, failure).await?;
            } else if self.pace.throttled(called, self.backoff.draw()) {
                tracing::warn!("{what}: {failure}; others read the shard, too: it is asked less often");
            } else {
                tracing::debug!("{what}: {failure}");
            }
        }
    }

    /// Whether a new iterator helps. Expired ones are nobody's fault, for ever; others are counted.
    fn renewable(&self, failure: Failure, refused: u32) -> Result<u32> {
        match failure.trouble {
            Trouble::ExpiredIterator => Ok(0),
            Trouble::InvalidArgument if refused < REFUSED_ITERATORS_MAX => Ok(refused + 1),
            Trouble::NotFound => Err(self.gone(&failure)),
            _ => Err(failure.into_error(format!("reading `{}`", self.key))),
        }
    }

    /// Turns an answer into events. Returns whether anybody listens.
    pub(super) async fn hand_over(
        &mut self,
        mut received: Vec<Received>,
        share: Share,
        behind: Option<i64>,
        ended: bool,
    ) -> bool {
        let share = Arc::new(share);
        let mut events = Vec::with_capacity(2);
        while !received.is_empty() {
            let later = received.split_off(page_length(&received));
            events.extend(self.page(received, &share).map(ShardEvent::Page));
            received = later;
        }
        drop(share);
        // What was handed over before, or is older than the start, is nothing.
        let nothing = events.is_empty();
        if ended {
            events.push(ShardEvent::Finished);
        } else if nothing && behind == Some(0) {
            events.push(ShardEvent::CaughtUp);
        }
        for event in events {
            if self.events.send(event).await.is_err() {
                return false;
            }
        }
        true
    }

    /// The page of these records, the position moved behind them; `None` when none is to be read.
    fn page(&mut self, mut received: Vec<Received>, share: &Arc<Share>) -> Option<Page> {
        let now = self.clock.now();
        let arrival = |record: &Received| record.approximate_arrival_timestamp.as_ref().map_or(now, micros);
        // A server may begin too early: the embedded one goes back to the shard's start when nothing is as young as a time,
        // and a subscription may begin with the record it was to follow.
        let old = match &self.position {
            Position::TrimHorizon => 0,
            Position::AtTimestamp(start) => received.iter().take_while(|record| arrival(record) < *start).count(),
            Position::After(last) => received.iter().take_while(|record| sequence(record) <= *last).count(),
        };
        received.drain(..old);
        let to = Position::After(sequence(received.last()?));
        let records = received
            .into_iter()
            .map(|record| Record {
                sequence: sequence(&record),
                arrival_time: arrival(&record),
                data: Bytes::from(record.data.into_inner()),
            })
            .collect();
        let from = std::mem::replace(&mut self.position, to.clone());
        Some(Page { shard: self.key.clone(), interval: Interval { from, to }, records, share: Some(share.clone()) })
    }

    /// An iterator for the first record after what was handed over.
    async fn iterator(&mut self) -> Result<String> {
        self.refuse_gap().await?;
        let mut refusals = Backoff::new(&self.client, &self.key.shard);
        let mut refused = 0;
        loop {
            let failure = match self.get_iterator(&self.position.clone()).await {
                Ok(iterator) => return Ok(iterator),
                Err(failure) => failure,
            };
            match (failure.trouble, &self.position) {
                (Trouble::InvalidArgument, Position::AtTimestamp(_)) if refused < REFUSED_TIMES_MAX => {
                    refused += 1;
                    sleep(refusals.delay()).await;
                }
                (Trouble::InvalidArgument, Position::After(saved)) => {
                    return Err(self.trimmed(saved, &failure.to_string()));
                }
                (Trouble::NotFound, _) => return Err(self.gone(&failure)),
                _ => return Err(failure.into_error(format!("finding the position in `{}`", self.key))),
            }
        }
    }

    /// GetShardIterator for `position`.
    async fn get_iterator(&mut self, position: &Position) -> Result<String, Failure> {
        let request = self.client.get_shard_iterator().stream_name(&self.stream).shard_id(&*self.key.shard);
        let request = match position {
            Position::TrimHorizon => request.shard_iterator_type(ShardIteratorType::TrimHorizon),
            Position::AtTimestamp(time) => {
                request.shard_iterator_type(ShardIteratorType::AtTimestamp).timestamp(date_time(*time))
            }
            Position::After(number) => request
                .shard_iterator_type(ShardIteratorType::AfterSequenceNumber)
                .starting_sequence_number(number.to_string()),
        };
        let what = format!("finding the position in `{}`", self.key);
        let calls = &self.calls;
        let attempt = || {
            let request = request.clone();
            async move {
                let _call = calls.acquire().await;
                request.send().await
            }
        };
        let answer = self.backoff.retry(&what, ATTEMPTS_UNBOUNDED, attempt).await?;
        // An answer without an iterator would be refused as soon as it is used, and so be asked for again.
        Ok(answer.shard_iterator.unwrap_or_default())
    }

    /// Fails when records may have expired unread.
    pub(super) async fn refuse_gap(&mut self) -> Result<()> {
        if !self.check_trimmed {
            return Ok(());
        }
        let is_read = matches!(self.position, Position::After(_));
        let (now, retention) = (self.clock.now(), *self.retention.borrow());
        let is_held = self.heard.map(|heard| heard.is_held(now, retention, is_read));
        match (is_held, self.position.clone()) {
            (Some(true), _) => Ok(()),
            (_, Position::After(saved)) => self.refuse_trimmed(&saved).await,
            // It begins with what there is.
            (None, _) => Ok(()),
            // What came first is the first to expire.
            (Some(false), _) => Err(Error::usage(format!(
                "`{}` has read nothing for longer than the stream keeps records: {GAP_REMEDY}",
                self.key
            ))),
        }
    }

    /// Fails when the record read last is no longer the oldest one at its place: what followed it may be lost as well.
    async fn refuse_trimmed(&mut self, saved: &SequenceNumber) -> Result<()> {
        match held(&self.client, &self.stream, &self.key.shard, saved, self.pace.pacing()).await? {
            Held::Saved => Ok(()),
            Held::From(Some(first)) => Err(self.trimmed(saved, &format!("the oldest record is `{first}`"))),
            Held::From(None) => Err(self.trimmed(saved, "and nothing tells what followed it")),
            Held::Gone => Err(Error::usage(format!("`{}` is not read to its end and gone: {GAP_REMEDY}", self.key))),
        }
    }

    fn trimmed(&self, saved: &SequenceNumber, why: &str) -> Error {
        Error::usage(format!(
            "`{}`: the saved position `{saved}` is no longer in the stream ({why}): {GAP_REMEDY}",
            self.key
        ))
    }

    fn gone(&self, failure: &Failure) -> Error {
        Error::usage(format!("`{}` is not read to its end and gone ({failure}): {GAP_REMEDY}", self.key))
    }
}

/// How many of the records make one page; at least one.
fn page_length(received: &[Received]) -> usize {
    let mut bytes = 0;
    let fits = |record: &&Received| {
        bytes += record.data.as_ref().len();
        bytes <= PAGE_BYTES_MAX
    };
    received.iter().take_while(fits).count().max(1)
}

fn sequence(record: &Received) -> SequenceNumber {
    SequenceNumber::Kinesis(record.sequence_number.as_str().into())
}

/// The service's form of a time.
pub(super) fn date_time(time: Micros) -> DateTime {
    DateTime::from_nanos(i128::from(time) * 1_000).unwrap_or(DateTime::from_secs(0))
}

fn micros(time: &DateTime) -> Micros {
    time.secs().saturating_mul(MICROS_PER_SECOND).saturating_add(Micros::from(time.subsec_nanos() / 1_000))
}
