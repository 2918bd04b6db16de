//! How far a replay has come, for the watermark and for knowing when all of it has been read.
//!
//! The one law: an event time counts as outstanding from before its record is sent until the engine's position has
//! passed it, without a moment between. So a watermark kept below [`ReplayProgress::low_mark`] makes no row late that
//! stood in the file in order of time, through however many shards.

use std::collections::{BTreeMap, VecDeque};
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
    /// Records taken from the file and not acknowledged, a chunk an entry, in the file's order.
    sending: VecDeque<Outstanding>,
    /// Records acknowledged and not yet read by the engine, in each shard's order.
    waiting: BTreeMap<ShardId, VecDeque<(SequenceNumber, Outstanding)>>,
    /// The last acknowledged record of each shard.
    last: BTreeMap<ShardId, SequenceNumber>,
    sent: u64,
    done: bool,
}

/// Some records on their way.
#[derive(Clone, Copy, Debug, Default)]
struct Outstanding {
    records: usize,
    /// The smallest event time among them; `None` when none could be read.
    earliest: Option<Micros>,
}

impl Outstanding {
    fn add(&mut self, event_time: Option<Micros>) {
        self.records += 1;
        self.earliest = earlier(self.earliest, event_time);
    }
}

impl ReplayProgress {
    /// Event time (microseconds UTC) of the earliest record that is taken from the file and not yet read by the engine,
    /// which stands at `positions`. `None` when there is none. Forgets what the engine has read, so `positions` must
    /// not go back.
    pub fn low_mark(&self, positions: &BTreeMap<ShardId, SequenceNumber>) -> Option<Micros> {
        let mut state = self.state();
        for (shard, waiting) in &mut state.waiting {
            let Some(position) = positions.get(shard) else { continue };
            while waiting.front().is_some_and(|(last, _)| last <= position) {
                waiting.pop_front();
            }
        }
        self.fewer.notify_one();
        state.outstanding().filter_map(|outstanding| outstanding.earliest).min()
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

    /// A chunk was taken from the file; to be told before it is sent.
    pub(super) fn took(&self, event_times: &[Option<Micros>]) {
        let mut chunk = Outstanding::default();
        event_times.iter().for_each(|time| chunk.add(*time));
        self.state().sending.push_back(chunk);
    }

    /// The oldest chunk taken was acknowledged: where each of its records landed.
    pub(super) fn acknowledged(&self, landed: &[Acknowledged], event_times: &[Option<Micros>]) {
        let mut shards: BTreeMap<&ShardId, (&SequenceNumber, Outstanding)> = BTreeMap::new();
        for (Acknowledged { shard, sequence }, event_time) in landed.iter().zip(event_times) {
            let (last, outstanding) = shards.entry(shard).or_insert((sequence, Outstanding::default()));
            // A record that was sent again stands behind those after it.
            *last = sequence.max(last);
            outstanding.add(*event_time);
        }
        let mut state = self.state();
        for (shard, (last, outstanding)) in shards {
            state.waiting.entry(shard.clone()).or_default().push_back((last.clone(), outstanding));
            advance(&mut state.last, shard.clone(), last.clone());
        }
        state.sending.pop_front();
        state.sent += landed.len() as u64;
    }

    /// Nothing more will be sent.
    pub(super) fn finish(&self) {
        let mut state = self.state();
        state.sending.clear();
        state.done = true;
    }

    /// Waits until at most `records` are acknowledged and not yet read.
    pub(super) async fn at_most_waiting(&self, records: usize) {
        loop {
            let told = self.fewer.notified();
            if self.state().waiting() <= records {
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
        self.sending.iter().chain(self.waiting.values().flatten().map(|(_, outstanding)| outstanding))
    }

    fn waiting(&self) -> usize {
        self.waiting.values().flatten().map(|(_, outstanding)| outstanding.records).sum()
    }
}

fn earlier(a: Option<Micros>, b: Option<Micros>) -> Option<Micros> {
    [a, b].into_iter().flatten().min()
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

    #[test]
    fn a_record_counts_from_the_file_to_the_engine() {
        let progress = ReplayProgress::default();
        assert_eq!(progress.low_mark(&positions(&[])), None);
        let (first, second) = ([Some(10), Some(20), None], [Some(30), Some(25)]);
        progress.took(&first);
        progress.took(&second);
        assert_eq!(progress.low_mark(&positions(&[])), Some(10));

        progress.acknowledged(&[at("a", 5), at("b", 7), at("a", 6)], &first);
        assert_eq!(progress.low_mark(&positions(&[])), Some(10));
        assert_eq!(progress.low_mark(&positions(&[("a", 5)])), Some(10), "only half of shard a's part is read");
        assert_eq!(progress.low_mark(&positions(&[("a", 6)])), Some(20));
        assert_eq!(progress.low_mark(&positions(&[("a", 6), ("b", 7)])), Some(25), "the second is still being sent");

        progress.acknowledged(&[at("a", 9), at("a", 8)], &second);
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
        progress.took(&[Some(1)]);
        progress.acknowledged(&[at("a", 100)], &[Some(1)]);
        progress.finish();
        assert!(!progress.caught_up(&positions(&[("a", 99)])));
        assert_eq!(progress.low_mark(&positions(&[("a", 99)])), Some(1));
        assert!(progress.caught_up(&positions(&[("a", 1_000)])));
    }

    #[test]
    fn what_is_never_sent_no_longer_counts() {
        let progress = ReplayProgress::default();
        progress.took(&[Some(1)]);
        progress.finish();
        assert_eq!(progress.low_mark(&positions(&[])), None);
        assert!(progress.caught_up(&positions(&[])));
    }

    #[tokio::test]
    async fn the_replayer_waits_for_the_engine() {
        let progress = std::sync::Arc::new(ReplayProgress::default());
        progress.took(&[Some(1), Some(2)]);
        progress.acknowledged(&[at("a", 1), at("a", 2)], &[Some(1), Some(2)]);
        let waiting = tokio::spawn({
            let progress = progress.clone();
            async move { progress.at_most_waiting(1).await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        progress.low_mark(&positions(&[("a", 2)]));
        waiting.await.unwrap();
    }
}
