//! The demo's producer: a history as fast as it goes, then transactions as they happen.
//!
//! The one law: what this has sent and the stream has acknowledged is exactly what it reports, and no card number
//! leaves.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::Notify;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::live::Simulator;
use super::row::SimulatedRow;
use crate::clock::{Clock, MICROS_PER_SECOND, Micros};
use crate::error::{Context, Result};
use crate::kinesis::producer::{Acknowledged, Producer, PutRecord};
use crate::stream::{SequenceNumber, ShardId};
use crate::token::Tokenizer;

/// How often the present is caught up with, unless records linger longer: a page that shows transactions a tenth of a second
/// late is live.
const TICK: Duration = Duration::from_millis(100);

/// Event time of one step through the history: memory holds the rows of one step.
const HISTORY_STEP: Micros = 60 * MICROS_PER_SECOND;

/// The same where records are aggregated: an aggregate holds one key range's rows of a step, so a shard's rows are out of
/// order by a step, which is to stay well below `watermark.out_of_orderness`.
const AGGREGATED_STEP: Micros = 5 * MICROS_PER_SECOND;

/// The present is never further behind: after a pause (a laptop that slept) what lies before is left out, not sent
/// late.
const BEHIND_MAX: Micros = 10 * MICROS_PER_SECOND;

/// Records acknowledged and not yet committed, at most (about 200 MB in an embedded stream, which keeps them in memory): a
/// lake that is stuck holds the feed back, and what would have happened meanwhile is left out. Several minutes at the
/// demo's rate.
const UNCOMMITTED_MAX: u64 = 200_000;

/// When and how much.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// End of the history and begin of the present, microseconds UTC. The history begins where the simulator stands.
    pub live_from: Micros,
    /// Transactions a second of the history.
    pub history_rate: f64,
    /// Transactions a second from then on.
    pub rate: f64,
}

/// Shared by the feed, which sends, and the pipeline, which commits.
#[derive(Debug, Default)]
pub struct FeedProgress {
    /// Records acknowledged.
    sent: AtomicU64,
    /// Records in every table.
    committed: AtomicU64,
    /// Told whenever more are.
    more: Notify,
}

impl FeedProgress {
    /// So many more records are committed.
    pub fn committed(&self, records: u64) {
        self.committed.fetch_add(records, Ordering::Relaxed);
        self.more.notify_waiters();
    }

    /// Waits until at most `max` records are acknowledged and not yet committed.
    async fn at_most_uncommitted(&self, max: u64) {
        loop {
            let told = self.more.notified();
            // Others may write to the stream as well: then more is committed than was sent from here.
            if self.sent.load(Ordering::Relaxed).saturating_sub(self.committed.load(Ordering::Relaxed)) <= max {
                return;
            }
            told.await;
        }
    }
}

/// What was sent, when it has ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fed {
    /// Records acknowledged.
    pub records: u64,
    /// The last acknowledged record of each shard: a reader that has got there has all of them.
    pub last: BTreeMap<ShardId, SequenceNumber>,
}

/// Sends the history and then the present until it is stopped; a request under way is finished first.
///
/// # Errors
/// Whatever [`Producer::put`] gives up on.
pub async fn feed(
    producer: Producer,
    simulator: Simulator,
    tokenizer: Tokenizer,
    plan: Plan,
    clock: Clock,
    stop: CancellationToken,
    progress: Arc<FeedProgress>,
) -> Result<Fed> {
    let tokens = tokens(&simulator, tokenizer);
    let (at_once, (tick, step)) = (producer.records_at_once(), pace(producer.linger()));
    let put = put_by(producer);
    let (fed, uncommitted_max) = (Fed::default(), UNCOMMITTED_MAX);
    Feed { simulator, tokens, fed, uncommitted_max, at_once, step, tick, progress: &progress }
        .run(put, plan, &clock, &stop)
        .await
}

/// Time between two ticks, which is the longest that a record waits for company, and event time of a step.
fn pace(linger: Duration) -> (Duration, Micros) {
    (TICK.max(linger), if linger.is_zero() { HISTORY_STEP } else { AGGREGATED_STEP })
}

/// Sending as a function: what is done with the answers is then testable without a stream. A request is written, and its
/// answer read, in a task of its own: that is work for a core, and several are under way.
pub(super) fn put_by(producer: Producer) -> impl Fn(Vec<PutRecord>) -> BoxFuture<'static, Result<Vec<Acknowledged>>> {
    move |records| {
        let producer = producer.clone();
        let putting = AbortOnDropHandle::new(tokio::spawn(async move { producer.put(&records).await }));
        async move { putting.await.context(|| "put records to the stream")? }.boxed()
    }
}

/// The token of each customer's card.
fn tokens(simulator: &Simulator, mut tokenizer: Tokenizer) -> Vec<String> {
    (0..simulator.customers()).map(|customer| tokenizer.token(simulator.card(customer)).to_owned()).collect()
}

/// A feed under way.
struct Feed<'a> {
    simulator: Simulator,
    tokens: Vec<String>,
    fed: Fed,
    uncommitted_max: u64,
    /// Records handed to the producer at once.
    at_once: usize,
    /// Event time of one step through the history.
    step: Micros,
    tick: Duration,
    progress: &'a FeedProgress,
}

impl Feed<'_> {
    async fn run<A: Future<Output = Result<Vec<Acknowledged>>>>(
        mut self,
        put: impl Fn(Vec<PutRecord>) -> A,
        plan: Plan,
        clock: &Clock,
        stop: &CancellationToken,
    ) -> Result<Fed> {
        let mut rows = Vec::new();
        while self.simulator.now() < plan.live_from && !stop.is_cancelled() {
            let to = (self.simulator.now() + self.step).min(plan.live_from);
            self.simulator.advance(to, plan.history_rate, &mut rows);
            self.send(&put, &mut rows, stop).await?;
        }
        let mut ticks = tokio::time::interval(self.tick);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(self.fed),
                _ = ticks.tick() => {}
            }
            let now = clock.now();
            self.simulator.skip_to(now - BEHIND_MAX);
            self.simulator.advance(now, plan.rate, &mut rows);
            self.send(&put, &mut rows, stop).await?;
        }
    }

    /// Sends the rows in their order, a request at a time, each once there is room, until stopped.
    async fn send<A: Future<Output = Result<Vec<Acknowledged>>>>(
        &mut self,
        put: &impl Fn(Vec<PutRecord>) -> A,
        rows: &mut Vec<SimulatedRow>,
        stop: &CancellationToken,
    ) -> Result<()> {
        for rows in rows.chunks(self.at_once) {
            let room = self.progress.at_most_uncommitted(self.uncommitted_max);
            if stop.is_cancelled() || stop.run_until_cancelled(room).await.is_none() {
                break;
            }
            let records: Vec<PutRecord> = rows.iter().map(|row| self.record(row)).collect();
            for Acknowledged { shard, sequence } in put(records).await? {
                advance(&mut self.fed.last, shard, sequence);
            }
            self.fed.records += rows.len() as u64;
            self.progress.sent.store(self.fed.records, Ordering::Relaxed);
        }
        rows.clear();
        Ok(())
    }

    fn record(&self, row: &SimulatedRow) -> PutRecord {
        let token = &self.tokens[row.purchase.customer];
        PutRecord { partition_key: token.clone(), data: Bytes::from(self.simulator.json(row, token)) }
    }
}

/// Keeps the greatest sequence number of a shard.
pub(super) fn advance(last: &mut BTreeMap<ShardId, SequenceNumber>, shard: ShardId, sequence: SequenceNumber) {
    match last.get_mut(&shard) {
        Some(known) if *known >= sequence => {}
        Some(known) => *known = sequence,
        None => {
            last.insert(shard, sequence);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Mutex;

    use tokio::time::Instant;

    use super::*;

    const START: Micros = 1_763_856_000 * MICROS_PER_SECOND;

    fn feed_of(progress: &FeedProgress) -> Feed<'_> {
        let simulator = Simulator::new(7, 100, START - 600 * MICROS_PER_SECOND).unwrap();
        let tokens = (0..100).map(|customer| format!("tok_1_{customer}")).collect();
        Feed {
            simulator,
            tokens,
            fed: Fed::default(),
            uncommitted_max: 5_000,
            at_once: 500,
            step: HISTORY_STEP,
            tick: TICK,
            progress,
        }
    }

    #[tokio::test]
    async fn history_comes_first_and_what_is_reported_was_acknowledged() {
        let (progress, stop, clock) = (FeedProgress::default(), CancellationToken::new(), Clock::fixed(START));
        let sent = Mutex::new(Vec::new());
        // The first put after the history asks it to stop, and is finished.
        let put = |records: Vec<PutRecord>| {
            let mut sent = sent.lock().unwrap();
            progress.committed(records.len() as u64);
            if records.iter().any(|record| String::from_utf8_lossy(&record.data).contains("\"2025-11-23 ")) {
                stop.cancel();
            }
            if let Clock::Fixed(now) = &clock {
                now.fetch_add(MICROS_PER_SECOND, Ordering::Relaxed);
            }
            let landed = records.into_iter().map(|record| {
                sent.push(record);
                let sequence = SequenceNumber::Kinesis(sent.len().to_string().into());
                Acknowledged { shard: format!("shard-{}", sent.len() % 2).into(), sequence }
            });
            std::future::ready(Ok(landed.collect()))
        };
        let plan = Plan { live_from: START, history_rate: 10.0, rate: 100.0 };
        let fed = feed_of(&progress).run(put, plan, &clock, &stop).await.unwrap();
        let sent = sent.into_inner().unwrap();
        assert_eq!((fed.records, progress.sent.load(Ordering::Relaxed)), (sent.len() as u64, sent.len() as u64));
        let last: BTreeSet<String> = fed.last.values().map(ToString::to_string).collect();
        assert_eq!(last, BTreeSet::from([sent.len().to_string(), (sent.len() - 1).to_string()]));
        let mut times = Vec::new();
        for record in &sent {
            let json: serde_json::Value = serde_json::from_slice(&record.data).unwrap();
            assert_eq!(json["cc_num"], record.partition_key.as_str());
            times.push(json["trans_date_trans_time"].as_str().unwrap().to_owned());
        }
        assert!(times.is_sorted());
        let history = times.iter().filter(|time| time.as_str() < "2025-11-23").count();
        assert!((5_400..6_600).contains(&history), "ten minutes at 10 a second: {history}");
        assert!(times.len() > history);
    }

    /// What happens in a time of a tick is one put at its end: nothing waits for the one after.
    #[tokio::test]
    async fn a_record_waits_for_a_linger_at_most() {
        const PUTS: u32 = 20;
        for (linger, tick, step) in [
            (Duration::ZERO, TICK, HISTORY_STEP),
            (Duration::from_millis(50), TICK, AGGREGATED_STEP),
            (Duration::from_millis(500), Duration::from_millis(500), AGGREGATED_STEP),
            (Duration::from_secs(5), Duration::from_secs(5), AGGREGATED_STEP),
        ] {
            assert_eq!(pace(linger), (tick, step));
            // The clock goes on by a tick with each put, the machine by a short one.
            let (short, tick) = (Duration::from_millis(1), Micros::try_from(tick.as_micros()).unwrap());
            let clock = Clock::fixed(START + tick);
            let (progress, stop) = (FeedProgress::default(), CancellationToken::new());
            let waits = Mutex::new(Vec::new());
            let put = |records: Vec<PutRecord>| {
                let now = clock.now();
                let waited = records.iter().map(|record| now - happened_at(record));
                let mut waits = waits.lock().unwrap();
                waits.push(waited.max().unwrap());
                if let Clock::Fixed(now) = &clock {
                    now.fetch_add(tick, Ordering::Relaxed);
                }
                if waits.len() == PUTS as usize {
                    stop.cancel();
                }
                let land = |_| Acknowledged { shard: "a".into(), sequence: SequenceNumber::Kinesis("1".into()) };
                std::future::ready(Ok(records.into_iter().map(land).collect()))
            };
            // A hundred a tick: there is something to put at each.
            let rate = 100.0 * MICROS_PER_SECOND as f64 / tick as f64;
            let plan = Plan { live_from: START, history_rate: 0.0, rate };
            let begun = Instant::now();
            let feed = Feed { tick: short, ..feed_of(&progress) };
            let fed = feed.run(put, plan, &clock, &stop).await.unwrap();
            assert!(begun.elapsed() >= short * (PUTS - 1), "{:?}", begun.elapsed());
            let waits = waits.into_inner().unwrap();
            assert_eq!(waits.len(), PUTS as usize, "one a tick");
            assert!(waits.iter().all(|wait| (0..tick).contains(wait)), "{waits:?} of {tick}");
            assert!(*waits.iter().max().unwrap() > tick * 9 / 10, "they do wait: {waits:?} of {tick}");
            assert!(fed.records > u64::from(80 * PUTS), "{fed:?}");
        }
    }

    /// As the record says.
    fn happened_at(record: &PutRecord) -> Micros {
        let json: serde_json::Value = serde_json::from_slice(&record.data).unwrap();
        let time = json["trans_date_trans_time"].as_str().unwrap();
        chrono::NaiveDateTime::parse_from_str(time, "%Y-%m-%d %H:%M:%S%.f").unwrap().and_utc().timestamp_micros()
    }

    #[tokio::test]
    async fn a_lake_that_is_stuck_holds_it_back() {
        let (progress, stop, clock) = (FeedProgress::default(), CancellationToken::new(), Clock::fixed(START));
        let put = |records: Vec<PutRecord>| {
            let land = |_| Acknowledged { shard: "a".into(), sequence: SequenceNumber::Kinesis("1".into()) };
            std::future::ready(Ok(records.into_iter().map(land).collect()))
        };
        let plan = Plan { live_from: START, history_rate: 100.0, rate: 1.0 };
        let sent = || progress.sent.load(Ordering::Relaxed);
        let watching = async {
            for committed in [0, 10_000] {
                progress.committed(committed);
                for _ in 0..1_000 {
                    tokio::task::yield_now().await;
                }
                assert!((5_000..=5_500).contains(&(sent() - committed)), "{} sent, {committed} committed", sent());
            }
            stop.cancel();
        };
        let (fed, ()) = tokio::join!(feed_of(&progress).run(put, plan, &clock, &stop), watching);
        assert_eq!(fed.unwrap().records, sent());
    }

    #[tokio::test]
    async fn a_failed_put_ends_it() {
        let (progress, stop, clock) = (FeedProgress::default(), CancellationToken::new(), Clock::fixed(START));
        let put = |_: Vec<PutRecord>| std::future::ready(Err(crate::Error::broken("no answer")));
        let plan = Plan { live_from: START, history_rate: 10.0, rate: 100.0 };
        assert!(feed_of(&progress).run(put, plan, &clock, &stop).await.is_err());
    }

    #[test]
    fn it_can_run_on_any_thread() {
        fn can_be_sent<T: Send>(_: impl FnOnce(Producer, Simulator, Tokenizer, Plan, Clock) -> T) {}
        can_be_sent(|producer, simulator, tokenizer, plan, clock| {
            feed(producer, simulator, tokenizer, plan, clock, CancellationToken::new(), Arc::default())
        });
    }
}
