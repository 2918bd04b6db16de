//! Records put together before they are sent: one aggregate for each of a few hash keys.
//!
//! The one law: where a record goes follows from its partition key alone, whatever the stream's shards do meanwhile, and a
//! request holds one entry of a hash key at most. So records of a partition key keep their order even when a request is taken
//! in part.
//!
//! The hash keys are evenly spread over all there are, so shards that were split evenly get even shares. The producer library
//! asks the stream for its shards instead and fills each; a record that meets a reshard on its way then lands in a shard that
//! is not its key's, which its reader has to notice and its producer to mend.

use std::collections::BTreeMap;

use bytes::Bytes;
use ferrokinesis::sequence::partition_key_to_hash_key;

use super::producer::PutRecord;
use crate::stream::Aggregator;

/// Bytes of an aggregate: two of the units of 25 KiB that writing is paid by, and the library's own default. Larger ones
/// would save nothing.
const AGGREGATE_BYTES_MAX: usize = 50 << 10;

/// An entry of a request: an aggregate, or a record for which there was no company.
#[derive(Clone, Debug)]
pub(super) struct Packed {
    pub partition_key: String,
    pub hash_key: String,
    pub data: Bytes,
    /// The places of its records among those given.
    pub members: Vec<usize>,
}

/// Packs the records for so many hash keys. Each round is sent when the one before it has landed.
pub(super) fn pack(records: &[PutRecord], hash_keys: u32) -> Vec<Vec<Packed>> {
    let mut filling: BTreeMap<u128, Filling> = BTreeMap::new();
    let mut rounds = Vec::new();
    for (place, record) in records.iter().enumerate() {
        let hash_key = hash_key(&record.partition_key, hash_keys);
        let filling = filling.entry(hash_key).or_insert_with(|| Filling::new(hash_key, 0));
        if filling.is_full_with(record, records) {
            let next = Filling::new(hash_key, filling.round + 1);
            std::mem::replace(filling, next).close(records, &mut rounds);
        }
        filling.aggregator.push(&record.partition_key, &record.data);
        filling.members.push(place);
    }
    for filling in filling.into_values() {
        filling.close(records, &mut rounds);
    }
    rounds
}

/// The middle of the part of all hash keys that this key's own hash lies in.
fn hash_key(partition_key: &str, hash_keys: u32) -> u128 {
    let part = u128::MAX / u128::from(hash_keys.max(1));
    let at = (partition_key_to_hash_key(partition_key) / part).min(u128::from(hash_keys.max(1)) - 1);
    at * part + part / 2
}

/// An aggregate being filled.
struct Filling {
    hash_key: u128,
    aggregator: Aggregator,
    members: Vec<usize>,
    /// How many of its hash key were filled before.
    round: usize,
}

impl Filling {
    fn new(hash_key: u128, round: usize) -> Self {
        Self { hash_key, aggregator: Aggregator::new(hash_key.to_string()), members: Vec::new(), round }
    }

    /// The partition key of the entry, its first member's, counts, too.
    fn is_full_with(&self, record: &PutRecord, records: &[PutRecord]) -> bool {
        let Some(first) = self.members.first() else { return false };
        let with = self.aggregator.bytes_with(&record.partition_key, &record.data);
        with + records[*first].partition_key.len() > AGGREGATE_BYTES_MAX
    }

    fn close(self, records: &[PutRecord], rounds: &mut Vec<Vec<Packed>>) {
        let [first, others @ ..] = self.members.as_slice() else { return };
        let first = &records[*first];
        // A record alone is as long without the frame, and any reader reads it.
        let data = if others.is_empty() { first.data.clone() } else { self.aggregator.finish().into() };
        let (partition_key, hash_key) = (first.partition_key.clone(), self.hash_key.to_string());
        if rounds.len() <= self.round {
            rounds.resize_with(self.round + 1, Vec::new);
        }
        rounds[self.round].push(Packed { partition_key, hash_key, data, members: self.members });
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::stream::Aggregate;

    fn records(sizes: &[(u8, usize)]) -> Vec<PutRecord> {
        let record = |(number, (card, size)): (usize, &(u8, usize))| PutRecord {
            partition_key: format!("card-{card}"),
            data: format!("{number:09}{}", "x".repeat(*size)).into(),
        };
        sizes.iter().enumerate().map(record).collect()
    }

    fn unpacked(packed: &Packed) -> Vec<&[u8]> {
        match Aggregate::of(&packed.data) {
            None => vec![&packed.data],
            Some(aggregate) => aggregate.records().map(|record| record.data).collect(),
        }
    }

    proptest! {
        /// Every record is in one entry, at its place; entries are small, alone in their round with their hash key, and a
        /// partition key's records come in order.
        #[test]
        fn packing_keeps_every_record_and_the_order_of_a_key(
            sizes in prop::collection::vec((0_u8..12, 0_usize..40_000), 0..120),
            hash_keys in 1_u32..9,
        ) {
            let records = records(&sizes);
            let rounds = pack(&records, hash_keys);
            let mut places = Vec::new();
            let mut of_key: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
            let mut gone_to: BTreeMap<&str, &str> = BTreeMap::new();
            for round in &rounds {
                let keys: BTreeSet<&str> = round.iter().map(|packed| packed.hash_key.as_str()).collect();
                prop_assert_eq!(keys.len(), round.len());
                for packed in round {
                    let members: Vec<&[u8]> = packed.members.iter().map(|place| &*records[*place].data).collect();
                    prop_assert_eq!(unpacked(packed), members);
                    prop_assert!(packed.members.len() == 1 || packed.data.len() <= AGGREGATE_BYTES_MAX);
                    for place in &packed.members {
                        let key = records[*place].partition_key.as_str();
                        of_key.entry(key).or_default().push(*place);
                        prop_assert_eq!(*gone_to.entry(key).or_insert(&packed.hash_key), packed.hash_key.as_str());
                        places.push(*place);
                    }
                }
            }
            prop_assert!(of_key.values().all(|places| places.is_sorted()));
            places.sort_unstable();
            prop_assert!(places.into_iter().eq(0..records.len()));
        }
    }

    #[test]
    fn hash_keys_are_spread_evenly_and_near_the_keys_own() {
        for hash_keys in [1, 2, 3, 64, 1_000] {
            let part = u128::MAX / u128::from(hash_keys);
            let mut used = BTreeSet::new();
            for number in 0..20_000 {
                let (key, own) = (format!("card-{number}"), partition_key_to_hash_key(&format!("card-{number}")));
                let sent = hash_key(&key, hash_keys);
                assert!(own.abs_diff(sent) <= part / 2 + 1 + u128::from(hash_keys), "{key} of {hash_keys}");
                used.insert(sent);
            }
            assert_eq!(used.len(), hash_keys as usize);
        }
    }

    #[test]
    fn small_records_of_many_cards_become_few_entries() {
        let sizes: Vec<(u8, usize)> = (0..2_000).map(|number| ((number % 250) as u8, 490)).collect();
        let entries: usize = pack(&records(&sizes), 16).iter().map(Vec::len).sum();
        // A megabyte is twenty times fifty kilobytes; the last of each hash key is not full.
        assert!((21..=36).contains(&entries), "{entries}");
    }
}
