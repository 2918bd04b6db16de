//! What of a shard is unread: how old it may be, and how long the source keeps it.
//!
//! The one law: an age is never told too small. What a reader has not read came after what it has read. (A shard that has not
//! answered yet counts from when it was opened: nobody knows what it holds.)

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::watch;

use super::ShardId;
use crate::clock::{MICROS_PER_SECOND, Micros};

/// Younger ones are not told of: a shard at its tip is looked at every few seconds.
const YOUNG: Micros = 60 * MICROS_PER_SECOND;

/// Unread records of one shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unread {
    /// All that arrived before this time has been read (microseconds, UTC).
    pub read_to: Micros,
    /// How long the source keeps a record, microseconds.
    pub retention: Micros,
}

impl Unread {
    /// The greatest age of an unread record.
    pub fn age(&self, now: Micros) -> Micros {
        now.saturating_sub(self.read_to).max(0)
    }

    /// That age as a share of the retention; at 1 records are lost.
    pub fn share(&self, now: Micros) -> f64 {
        self.age(now) as f64 / self.retention.max(1) as f64
    }
}

/// The shards that are read, at their tips or not, each told by its reader. A source that keeps its records for ever tells none.
#[derive(Clone, Debug)]
pub struct UnreadShards(Arc<watch::Sender<BTreeMap<ShardId, Unread>>>);

impl Default for UnreadShards {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(BTreeMap::new())))
    }
}

impl UnreadShards {
    /// A shard's reader tells where it stands; `None` when it is read no more.
    pub fn tell(&self, shard: &ShardId, unread: Option<Unread>) {
        self.0.send_if_modified(|all| match unread {
            Some(unread) => all.insert(shard.clone(), unread) != Some(unread),
            None => all.remove(shard).is_some(),
        });
    }

    /// The shard that is nearest to losing records, of those that hold any for longer than a moment.
    pub fn oldest(&self, now: Micros) -> Option<(ShardId, Unread)> {
        let all = self.0.borrow();
        let oldest = all.iter().filter(|(_, unread)| unread.age(now) >= YOUNG);
        let oldest = oldest.max_by(|(_, a), (_, b)| a.share(now).total_cmp(&b.share(now)));
        oldest.map(|(shard, unread)| (shard.clone(), *unread))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shard_nearest_to_a_loss_is_told_unless_it_is_young() {
        let shards = UnreadShards::default();
        let now = 100 * YOUNG;
        assert_eq!(shards.oldest(now), None);
        let unread = |read_to, retention| Unread { read_to: read_to * YOUNG, retention: retention * YOUNG };
        shards.tell(&"a".into(), Some(unread(60, 200)));
        shards.tell(&"b".into(), Some(unread(70, 100)));
        assert_eq!(shards.oldest(now), Some(("b".into(), unread(70, 100))));
        assert_eq!((unread(70, 100).share(now), unread(70, 100).age(0)), (0.3, 0));
        shards.clone().tell(&"b".into(), Some(unread(100, 100)));
        assert_eq!(shards.oldest(now), Some(("a".into(), unread(60, 200))));
        shards.tell(&"a".into(), None);
        assert_eq!(shards.oldest(now + YOUNG - 1), None);
        assert_eq!(shards.oldest(now + YOUNG), Some(("b".into(), unread(100, 100))));
    }
}
