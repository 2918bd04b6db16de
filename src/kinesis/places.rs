//! Where the records of the short way land: which shard takes a key, and under which sequence number.
//!
//! The one law: shards and numbers are those the server would give, and the server is told how many were given before it gives
//! one itself or looks how far it has come. So no number is given twice, and all of a shard are given in their order.
//!
//! The server reads a shard's first number, and writes the new one, by arithmetic of any length, for each record.

use std::ops::RangeInclusive;
use std::sync::Arc;

use ferrokinesis::sequence::{parse_sequence, shard_ix_to_hex};
use ferrokinesis::store::Store;
use ferrokinesis::types::StreamStatus;

/// Numbers taken from the server in one call when it is told: a few milliseconds each.
const TELL_NUMBERS: usize = 4_096;

/// Nineteen decimal digits, the most of which every value fits into 64 bits.
const TEN_TO_19: u128 = 10_000_000_000_000_000_000;

/// The open shards of a stream.
#[derive(Debug)]
pub(super) struct Places {
    shards: Vec<OpenShard>,
}

#[derive(Debug)]
struct OpenShard {
    hash_keys: RangeInclusive<u128>,
    index: i64,
    name: Arc<str>,
    /// Its index, as the store writes it.
    prefix: Arc<str>,
    created_millis: u64,
    /// The count that the next number holds.
    next: u64,
}

/// Where one record lands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub shard: Arc<str>,
    pub prefix: Arc<str>,
    pub sequence: Arc<str>,
    pub now_millis: u64,
}

impl Places {
    /// `None` when there is no such stream, or it takes no records.
    pub async fn of(store: &Store, stream: &str) -> Option<Self> {
        let description = store.get_stream(stream).await.ok()?;
        if !matches!(description.stream_status, StreamStatus::Active | StreamStatus::Updating) {
            return None;
        }
        let mut shards = Vec::new();
        for (index, shard) in (0..).zip(&description.shards) {
            if shard.sequence_number_range.ending_sequence_number.is_some() {
                continue;
            }
            let keys = &shard.hash_key_range;
            shards.push(OpenShard {
                hash_keys: keys.start_u128()..=keys.end_u128(),
                index,
                name: shard.shard_id.as_str().into(),
                prefix: shard_ix_to_hex(index).into(),
                created_millis: parse_sequence(&shard.sequence_number_range.starting_sequence_number)
                    .ok()?
                    .shard_create_time,
                next: store.current_shard_seq(stream, index).await,
            });
        }
        Some(Self { shards })
    }

    /// The place of the next record of this hash key.
    pub fn take(&mut self, hash_key: u128, now_millis: u64) -> Option<Place> {
        let shard = self.shards.iter_mut().find(|shard| shard.hash_keys.contains(&hash_key))?;
        let now_millis = now_millis.max(shard.created_millis);
        let sequence = number(shard.created_millis, shard.next, now_millis, u32::try_from(shard.index).ok()?).into();
        shard.next += 1;
        Some(Place { shard: shard.name.clone(), prefix: shard.prefix.clone(), sequence, now_millis })
    }

    /// Has the server pass over the numbers given here. Of a stream that is gone there is nothing to tell.
    pub async fn tell(&self, store: &Store, stream: &str) {
        for shard in &self.shards {
            let known = store.current_shard_seq(stream, shard.index).await;
            let mut given = usize::try_from(shard.next.saturating_sub(known)).unwrap_or(usize::MAX);
            while given > 0 {
                let some = given.min(TELL_NUMBERS);
                if let Err(error) = store.allocate_sequences_batch(stream, &vec![*shard.hash_keys.start(); some]).await
                {
                    tracing::debug!(?error, "the embedded stream gives no numbers any more");
                    return;
                }
                given -= some;
            }
        }
    }
}

/// A sequence number, of 56 digits. From its highest bits: 2 (4 bits), the shard's creation (36, seconds), its index (4), the
/// count (64), nothing (8), now (36, seconds), the index again (32), 2 (4): version 2 of kinesalite's layout.
fn number(created_millis: u64, count: u64, now_millis: u64, index: u32) -> String {
    const SECONDS: u64 = (1 << 36) - 1;
    let (created, now) = ((created_millis / 1_000) & SECONDS, (now_millis / 1_000) & SECONDS);
    // 188 bits in three parts of 64.
    let parts = [
        2 << 56 | created << 20 | u64::from(index & 0xf) << 16 | count >> 48,
        (count & 0xffff_ffff_ffff) << 16 | now >> 28,
        (now & 0xfff_ffff) << 36 | u64::from(index) << 4 | 2,
    ];
    let (parts, last) = divide(parts);
    let ([.., first], middle) = divide(parts);
    format!("{first}{middle:019}{last:019}")
}

/// The quotient by 10^19 and the rest, part by part as on paper.
fn divide(parts: [u64; 3]) -> ([u64; 3], u64) {
    let mut rest = 0;
    let quotient = parts.map(|part| {
        let dividend = u128::from(rest) << 64 | u128::from(part);
        rest = u64::try_from(dividend % TEN_TO_19).expect("a rest is below its divisor");
        u64::try_from(dividend / TEN_TO_19).expect("the part above is below the divisor")
    });
    (quotient, rest)
}

#[cfg(test)]
mod tests {
    use ferrokinesis::actions::{Operation, dispatch};
    use ferrokinesis::sequence::{SeqObj, stringify_sequence};
    use ferrokinesis::store::StoreOptions;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    proptest! {
        #[test]
        fn numbers_are_the_servers(created in 0..1_u64 << 45, count: u64, now in 0..1_u64 << 45, index in 0..1_u32 << 31) {
            let expected = SeqObj {
                shard_create_time: created,
                seq_ix: Some(count),
                byte1: None,
                seq_time: Some(now),
                seq_rand: None,
                shard_ix: i64::from(index),
                version: 2,
            };
            prop_assert_eq!(number(created, count, now, index), stringify_sequence(&expected));
        }
    }

    async fn store(shards: u32) -> Store {
        let instant =
            StoreOptions { create_stream_ms: 0, update_stream_ms: 0, shard_limit: 100, ..StoreOptions::default() };
        let store = Store::new(instant);
        dispatch(&store, Operation::CreateStream, json!({"StreamName": "s", "ShardCount": shards})).await.unwrap();
        active(&store).await;
        store
    }

    async fn active(store: &Store) {
        while store.get_stream("s").await.unwrap().stream_status != StreamStatus::Active {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn keys_go_where_the_server_sends_them_and_numbers_rise_across_both() {
        let store = store(5).await;
        let keys: Vec<u128> = (0..200_u128).map(|n| n.wrapping_mul(u128::MAX / 190)).chain([0, u128::MAX]).collect();
        let mut given: Vec<(String, String)> = Vec::new();
        for turn in 0..3 {
            let mut places = Places::of(&store, "s").await.unwrap();
            let ours = keys.iter().map(|key| places.take(*key, 1_900_000_000_000).unwrap());
            let ours: Vec<Place> = ours.collect();
            places.tell(&store, "s").await;
            let servers = store.allocate_sequences_batch("s", &keys).await.unwrap();
            for (our, server) in ours.iter().zip(&servers) {
                assert_eq!(*our.shard, server.shard_id, "turn {turn}");
                assert_eq!(*our.prefix, *server.stream_key.split_once('/').unwrap().0);
            }
            given.extend(ours.into_iter().map(|place| (place.shard.to_string(), place.sequence.to_string())));
            given.extend(servers.into_iter().map(|place| (place.shard_id, place.seq_num)));
        }
        for index in 0..5 {
            let of_shard =
                given.iter().filter(|(shard, _)| shard.ends_with(&format!("{index}"))).map(|(_, number)| number);
            let of_shard: Vec<&String> = of_shard.collect();
            assert!(of_shard.len() > 100 && of_shard.is_sorted_by(|a, b| a < b));
        }
    }

    #[tokio::test]
    async fn closed_shards_take_nothing() {
        let store = store(1).await;
        let split = json!({"StreamName": "s", "ShardToSplit": "shardId-000000000000", "NewStartingHashKey": "9999"});
        dispatch(&store, Operation::SplitShard, split).await.unwrap();
        active(&store).await;
        let mut places = Places::of(&store, "s").await.unwrap();
        let names = [0, 9_998, 9_999, u128::MAX].map(|key| places.take(key, 0).unwrap().shard);
        assert_eq!(names.each_ref().map(|name| &name[19..]), ["1", "1", "2", "2"]);
        assert!(Places::of(&store, "t").await.is_none());
    }
}
