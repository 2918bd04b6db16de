//! How far a replay has come, for the watermark and for knowing when all of it has been read.
//!
//! The one law: an event time counts as outstanding from before its record is sent until the engine's position has
//! passed it, without a moment between. So a watermark kept below [`ReplayProgress::low_mark`] makes no row late that
//! stood in the file in order of time, through however many shards.

use std::collections::{BTreeMap, VecDeque};
use std::iter::Sum;
use std::ops::Add;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::feed::advance;
use crate::clock::Micros;
use crate::kinesis::producer::Acknowledged;
use crate::stream::{SequenceNumber, ShardId};

/// Shared by the replayer, which sends, and the pipeline, which reads.
#[derive(Debug, Default)]
pub struct ReplayProgress {
    state: Mutex<State>,
    /// Told whenever fewer records are outstanding.
    fewer: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Records taken from the file and not acknowledged, by the number of their chunk.
    sending: BTreeMap<u64, Outstanding>,
    /// Records acknowledged and not yet read by the engine, in each shard's order.
    waiting: BTreeMap<ShardId, VecDeque<(SequenceNumber, Outstanding)>>,
    /// The sum of them.
    ahead: Ahead,
    /// The last acknowledged record of each shard.
    last: BTreeMap<ShardId, SequenceNumber>,
    sent: u64,
    done: bool,
}

/// Records acknowledged and not yet read, or how many may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ahead {
    pub records: usize,
    /// Of their data and partition keys.
    pub bytes: usize,
}

/// Some records on their way.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Outstanding {
    size: Ahead,
    /// The smallest event time among them; `None` when none could be read.
    earliest: Option<Micros>,
}

impl Outstanding {
    /// One record.
    pub fn one(event_time: Option<Micros>, bytes: usize) -> Self {
        Self { size: Ahead { records: 1, bytes }, earliest: event_time }
    }
}

impl Add for Outstanding {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        let earliest = [self.earliest, other.earliest].into_iter().flatten().min();
        Self { size: self.size + other.size, earliest }
    }
}

impl Sum for Outstanding {
    fn sum<I: Iterator<Item = Self>>(records: I) -> Self {
        records.fold(Self::default(), Add::add)
    }
}

impl Add for Ahead {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { records: self.records + other.records, bytes: self.bytes + other.bytes }
    }
}

impl ReplayProgress {
    /// Event time (microseconds UTC) of the earliest record that is taken from the file and not yet read by the engine,
    /// which stands at `positions`. `None` when there is none. Forgets what the engine has read, so `positions` must
    /// not go back.
    pub fn low_mark(&self, positions: &BTreeMap<ShardId, SequenceNumber>) -> Option<Micros> {
        self.read(positions);
        self.state().outstanding().filter_map(|outstanding| outstanding.earliest).min()
    }

    /// The engine has read up to `positions`: that much more may be sent.
    pub fn read(&self, positions: &BTreeMap<ShardId, SequenceNumber>) {
        let mut state = self.state();
        let State { waiting, ahead, .. } = &mut *state;
        for (shard, waiting) in waiting {
            let Some(position) = positions.get(shard) else { continue };
            while waiting.front().is_some_and(|(last, _)| last <= position) {
                if let Some((_, Outstanding { size, .. })) = waiting.pop_front() {
                    ahead.records -= size.records;
                    ahead.bytes -= size.bytes;
                }
            }
        }
        drop(state);
        self.fewer.notify_waiters();
    }

    /// Whether everything has been sent and the engine, at `positions`, has read all that was acknowledged.
    pub fn caught_up(&self, positions: &BTreeMap<ShardId, SequenceNumber>) -> bool {
        let state = self.state();
        state.done && state.last.iter().all(|(shard, last)| positions.get(shard).is_some_and(|at| at >= last))
    }

    /// Whether everything has been sent, or sending was stopped.
    pub fn done(&self) -> bool {
        self.state().done
    }

    /// Records acknowledged so far.
    pub fn sent(&self) -> u64 {
        self.state().sent
    }

    /// Chunks, by number, hold these records of the file. To be told of all chunks, unfinished ones too, before any record
    /// read after them can be sent.
    pub(super) fn took(&self, chunks: impl IntoIterator<Item = (u64, Outstanding)>) {
        self.state().sending.extend(chunks);
    }

    /// A whole chunk was acknowledged: where each of its records landed.
    pub(super) fn acknowledged(&self, chunk: u64, landed: &[Acknowledged], records: &[Outstanding]) {
        let mut shards: BTreeMap<&ShardId, (&SequenceNumber, Outstanding)> = BTreeMap::new();
        for (Acknowledged { shard, sequence }, record) in landed.iter().zip(records) {
            let (last, outstanding) = shards.entry(shard).or_insert((sequence, Outstanding::default()));
            // A record that was sent again stands behind those after it.
            *last = sequence.max(last);
            *outstanding = *outstanding + *record;
        }
        let mut state = self.state();
        for (shard, (last, outstanding)) in shards {
            state.ahead = state.ahead + outstanding.size;
            wait_in_order(state.waiting.entry(shard.clone()).or_default(), last.clone(), outstanding);
            advance(&mut state.last, shard.clone(), last.clone());
        }
        state.sending.remove(&chunk);
        state.sent += landed.len() as u64;
    }

    /// Nothing more will be sent.
    pub(super) fn finish(&self) {
        let mut state = self.state();
        state.sending.clear();
        state.done = true;
    }

    /// Waits until no more than this is acknowledged and not yet read.
    pub(super) async fn at_most_waiting(&self, max: Ahead) {
        loop {
            let told = self.fewer.notified();
            let ahead = self.state().ahead;
            if ahead.records <= max.records && ahead.bytes <= max.bytes {
                return;
            }
            told.await;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change is complete before anything can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn outstanding(&self) -> impl Iterator<Item = &Outstanding> {
        self.sending.values().chain(self.waiting.values().flatten().map(|(_, outstanding)| outstanding))
    }
}

/// Requests overtake each other, so a chunk's part of a shard may end before one that was acknowledged earlier.
fn wait_in_order(waiting: &mut VecDeque<(SequenceNumber, Outstanding)>, last: SequenceNumber, records: Outstanding) {
    let place = waiting.partition_point(|(before, _)| *before < last);
    waiting.insert(place, (last, records));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(shard: &str, sequence: u64) -> Acknowledged {
        Acknowledged { shard: shard.into(), sequence: SequenceNumber::Kinesis(sequence.to_string().into()) }
    }

    fn positions(shards: &[(&str, u64)]) -> BTreeMap<ShardId, SequenceNumber> {
        shards.iter().map(|&(shard, sequence)| (at(shard, sequence).shard, at(shard, sequence).sequence)).collect()
    }

    fn records(event_times: &[Option<Micros>]) -> Vec<Outstanding> {
        event_times.iter().map(|time| Outstanding::one(*time, 5)).collect()
    }

    #[test]
    fn chunks_are_acknowledged_in_any_order() {
        let progress = ReplayProgress::default();
        progress.took([(0, Outstanding::one(Some(10), 5)), (1, Outstanding::one(Some(20), 5))]);
        // The second request came first to the stream, and is answered last.
        progress.acknowledged(0, &[at("a", 2)], &records(&[Some(10)]));
        progress.acknowledged(1, &[at("a", 1)], &records(&[Some(20)]));
        assert_eq!(progress.low_mark(&positions(&[("a", 1)])), Some(10));
        assert_eq!(progress.low_mark(&positions(&[("a", 2)])), None);
    }

    #[test]
    fn a_record_counts_from_the_file_to_the_engine() {
        let progress = ReplayProgress::default();
        assert_eq!(progress.low_mark(&positions(&[])), None);
        let (first, second) = (records(&[Some(10), Some(20), None]), records(&[Some(30), Some(25)]));
        progress.took([(0, Outstanding::one(Some(10), 5))]);
        progress.took([(0, first.iter().copied().sum()), (1, second.iter().copied().sum())]);
        assert_eq!(progress.low_mark(&positions(&[])), Some(10));

        progress.acknowledged(0, &[at("a", 5), at("b", 7), at("a", 6)], &first);
        assert_eq!(progress.low_mark(&positions(&[])), Some(10));
        assert_eq!(progress.low_mark(&positions(&[("a", 5)])), Some(10), "only half of shard a's part is read");
        assert_eq!(progress.low_mark(&positions(&[("a", 6)])), Some(20));
        assert_eq!(progress.low_mark(&positions(&[("a", 6), ("b", 7)])), Some(25), "the second is still being sent");

        progress.acknowledged(1, &[at("a", 9), at("a", 8)], &second);
        assert_eq!(progress.low_mark(&positions(&[("a", 8), ("b", 7)])), Some(25));
        assert!(!progress.caught_up(&positions(&[("a", 9), ("b", 7)])), "not yet done");
        progress.finish();
        assert!(!progress.caught_up(&positions(&[("a", 8), ("b", 7)])));
        assert!(!progress.caught_up(&positions(&[("a", 9)])));
        assert!(progress.caught_up(&positions(&[("a", 10), ("b", 7)])));
        assert_eq!(progress.low_mark(&positions(&[("a", 10), ("b", 7)])), None);
        assert_eq!(progress.sent(), 5);
    }

    #[test]
    fn sequence_numbers_are_compared_as_numbers() {
        let progress = ReplayProgress::default();
        progress.took([(0, Outstanding::one(Some(1), 5))]);
        progress.acknowledged(0, &[at("a", 100)], &records(&[Some(1)]));
        progress.finish();
        assert!(!progress.caught_up(&positions(&[("a", 99)])));
        assert_eq!(progress.low_mark(&positions(&[("a", 99)])), Some(1));
        assert!(progress.caught_up(&positions(&[("a", 1_000)])));
    }

    #[test]
    fn what_is_never_sent_no_longer_counts() {
        let progress = ReplayProgress::default();
        progress.took([(0, Outstanding::one(Some(1), 5))]);
        progress.finish();
        assert_eq!(progress.low_mark(&positions(&[])), None);
        assert!(progress.caught_up(&positions(&[])));
    }

    #[tokio::test]
    async fn the_replayer_waits_for_the_engine() {
        let progress = std::sync::Arc::new(ReplayProgress::default());
        progress.acknowledged(0, &[at("a", 1)], &records(&[Some(1)]));
        progress.acknowledged(1, &[at("a", 2)], &records(&[Some(2)]));
        let waiting = tokio::spawn({
            let progress = progress.clone();
            async move { progress.at_most_waiting(Ahead { records: 2, bytes: 9 }).await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        progress.low_mark(&positions(&[("a", 1)]));
        waiting.await.unwrap();
        progress.at_most_waiting(Ahead { records: 1, bytes: 5 }).await;
    }
}
