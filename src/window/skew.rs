//! How far the rows of one shard may be ahead of those of the others.
//!
//! The one law: of the shards that can still bring the others forward at least one is not ahead, so waiting always ends. A
//! shard is behind when it has not ended and does not stand at its tip; the lowest of those is never ahead of itself. Whoever
//! cannot bring anybody forward is waited for by nobody: a shard at its tip, which has nothing to give; one that has ended,
//! although its place holds the watermark until a child of it is read – the child may wait for the other parent's end, and
//! that one must not wait in turn.
//!
//! Windows between the watermark and what shards that are behind hold stay open whatever is done here; what lies ahead of
//! that by more than the bound is not read yet.

use super::Watermarks;
use crate::clock::Micros;
use crate::stream::ShardKey;

impl Watermarks {
    /// The time that shards may be ahead of by so much and no more: where the lowest of those that are behind stands, or the
    /// watermark if that is later. `None` when no shard is behind, or none has had a row: then nobody waits.
    pub fn trailing(&self, now: Micros) -> Option<Micros> {
        let behind = self.shards.values().filter(|shard| !shard.finished && !self.is_at_tip(shard, now));
        // One without a row is lowest of all: what it holds may be as early as what came first.
        let lowest = behind.map(|shard| shard.watermark).min()?;
        lowest.max(self.at(now).or(self.first.filter(|_| lowest.is_none())))
    }

    /// Whether a shard's rows are further ahead of `trailing` than `max_skew` microseconds.
    pub fn is_ahead(&self, key: &ShardKey, trailing: Option<Micros>, max_skew: Micros) -> bool {
        let ahead = self.of_shard(key).zip(trailing);
        ahead.is_some_and(|(own, trailing)| own.saturating_sub(trailing) > max_skew)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::super::Idleness;
    use super::*;

    const DISORDER: Micros = 10;
    const IDLE_AFTER: Micros = 100;
    const MAX_SKEW: Micros = 50;

    fn key(shard: &str) -> ShardKey {
        ShardKey { source: "kinesis:t".into(), shard: shard.into() }
    }

    fn live(shards: &[&str]) -> Watermarks {
        let mut marks = Watermarks::new(DISORDER, Idleness::After(IDLE_AFTER));
        shards.iter().for_each(|shard| marks.open(&key(shard), &BTreeSet::new()));
        marks
    }

    /// Those that wait.
    fn ahead<'a>(marks: &Watermarks, shards: &[&'a str], now: Micros) -> Vec<&'a str> {
        let trailing = marks.trailing(now);
        shards.iter().filter(|shard| marks.is_ahead(&key(shard), trailing, MAX_SKEW)).copied().collect()
    }

    #[test]
    fn a_shard_far_ahead_waits_and_the_lowest_never_does() {
        let mut marks = live(&["old", "near", "far"]);
        marks.observe(&key("old"), Some(0));
        marks.observe(&key("near"), Some(50));
        marks.observe(&key("far"), Some(51));
        assert_eq!(ahead(&marks, &["old", "near", "far"], 0), ["far"]);
        marks.observe(&key("old"), Some(1));
        assert!(ahead(&marks, &["old", "near", "far"], 0).is_empty());
    }

    #[test]
    fn a_shard_at_its_tip_is_waited_for_by_nobody_until_it_brings_rows() {
        let mut marks = live(&["a", "b"]);
        marks.observe(&key("a"), Some(0));
        marks.observe(&key("b"), Some(1_000));
        assert_eq!(ahead(&marks, &["a", "b"], 0), ["b"]);
        marks.caught_up(&key("a"), 5);
        assert!(ahead(&marks, &["a", "b"], 5).is_empty(), "long before it is idle");
        marks.observe(&key("a"), Some(1));
        assert_eq!(ahead(&marks, &["a", "b"], 6), ["b"]);
    }

    #[test]
    fn a_shard_that_is_not_heard_of_is_waited_for() {
        let mut marks = live(&["a", "b"]);
        marks.observe(&key("a"), Some(0));
        marks.caught_up(&key("a"), 0);
        marks.observe(&key("b"), Some(1_000));
        assert!(ahead(&marks, &["a", "b"], 5_000_000).is_empty());
        assert_eq!(ahead(&marks, &["a", "b"], 10_000_000), ["b"], "it may be throttled, and hold old rows");
    }

    #[test]
    fn an_idle_shard_does_not_wait_for_those_that_are_idle_too() {
        let mut marks = live(&["a", "b"]);
        marks.observe(&key("a"), Some(0));
        marks.observe(&key("b"), Some(1_000));
        for now in [0, 90, 180] {
            marks.caught_up(&key("a"), now);
            marks.caught_up(&key("b"), now);
        }
        assert_eq!(marks.trailing(180), None);
        assert!(ahead(&marks, &["a", "b"], 180).is_empty());
    }

    /// The child of a merge begins when both parents have ended. The first one's place holds the watermark meanwhile.
    #[test]
    fn the_other_parent_of_a_merge_does_not_wait_for_the_one_that_has_ended() {
        let mut marks = live(&["first", "other"]);
        marks.observe(&key("first"), Some(0));
        marks.finish(&key("first"));
        marks.observe(&key("other"), Some(1_000));
        assert_eq!(marks.advance(0), Some(-DISORDER), "held");
        assert!(ahead(&marks, &["first", "other"], 0).is_empty());
        marks.finish(&key("other"));
        marks.open(&key("child"), &BTreeSet::from(["first".into(), "other".into()]));
        assert!(ahead(&marks, &["child"], 0).is_empty());
    }

    #[test]
    fn a_child_that_has_had_no_row_holds_others_and_does_not_wait() {
        let mut marks = live(&["parent", "other"]);
        marks.finish(&key("parent"));
        marks.open(&key("child"), &BTreeSet::from(["parent".into()]));
        marks.observe(&key("other"), Some(0));
        assert!(ahead(&marks, &["child", "other"], 0).is_empty(), "the first rows are not ahead of anything");
        marks.observe(&key("other"), Some(1_000));
        assert_eq!(ahead(&marks, &["child", "other"], 0), ["other"]);
        marks.caught_up(&key("child"), 1);
        assert!(ahead(&marks, &["child", "other"], 1).is_empty());
    }

    #[test]
    fn before_the_first_row_nobody_waits() {
        assert_eq!(live(&["a", "b"]).trailing(0), None);
        assert_eq!(live(&[]).trailing(0), None);
    }

    #[test]
    fn a_shard_that_comes_back_with_rows_older_than_the_watermark_holds_nobody() {
        let mut marks = live(&["a", "b"]);
        marks.observe(&key("a"), Some(1_000));
        marks.caught_up(&key("b"), 0);
        marks.caught_up(&key("b"), 99);
        assert_eq!(marks.advance(100), Some(990));
        marks.observe(&key("b"), Some(0));
        assert!(ahead(&marks, &["a", "b"], 101).is_empty(), "its rows are late: no window waits for them");
    }

    #[test]
    fn files_that_have_ended_hold_nobody() {
        let mut marks = Watermarks::new(DISORDER, Idleness::Never);
        ["a", "b", "c"].iter().for_each(|shard| marks.open(&key(shard), &BTreeSet::new()));
        marks.observe(&key("b"), Some(0));
        marks.observe(&key("c"), Some(1_000));
        assert_eq!(ahead(&marks, &["a", "b", "c"], 0), ["c"]);
        marks.finish(&key("a"));
        assert_eq!(ahead(&marks, &["b", "c"], 0), ["c"]);
        marks.finish(&key("b"));
        assert!(ahead(&marks, &["c"], 0).is_empty());
    }

    /// What a simulated shard does when it is its turn.
    #[derive(Clone, Debug)]
    struct Simulated {
        /// Its parents among the shards before it.
        parents: BTreeSet<usize>,
        /// Event times in any order.
        rows: Vec<Micros>,
        /// It ends behind them; else it stays at its tip.
        ends: bool,
    }

    fn simulated() -> impl Strategy<Value = Vec<Simulated>> {
        let shard =
            (prop::collection::btree_set(0_usize..8, 0..3), prop::collection::vec(-500_i64..500, 0..12), any::<bool>());
        prop::collection::vec(shard, 1..8).prop_map(|shards| {
            let made = shards.into_iter().enumerate().map(|(place, (parents, rows, ends))| {
                let parents = parents.into_iter().filter(|parent| *parent < place).collect();
                Simulated { parents, rows, ends }
            });
            let mut made: Vec<Simulated> = made.collect();
            // Whoever has children has ended.
            let parents: BTreeSet<usize> = made.iter().flat_map(|shard| shard.parents.clone()).collect();
            parents.into_iter().for_each(|parent| made[parent].ends = true);
            made
        })
    }

    proptest! {
        /// Shards that begin after their parents' ends, wait when they are ahead, and otherwise read in any order: all is read.
        #[test]
        fn whatever_the_shards_hold_all_of_it_is_read(shards in simulated(), bounded: bool, turns in prop::collection::vec(any::<u8>(), 30)) {
            let idleness = if bounded { Idleness::Never } else { Idleness::After(IDLE_AFTER) };
            let mut marks = Watermarks::new(DISORDER, idleness);
            let name = |shard: usize| key(&shard.to_string());
            // How far each is read; one more than its rows: its end, or its tip, was told.
            let mut read: BTreeMap<usize, usize> = BTreeMap::new();
            let mut now = 0;
            let is_over = |read: &BTreeMap<usize, usize>, shard: usize| read.get(&shard).is_some_and(|at| *at > shards[shard].rows.len());
            for turn in 0.. {
                for (place, shard) in shards.iter().enumerate() {
                    if !read.contains_key(&place) && shard.parents.iter().all(|parent| is_over(&read, *parent)) {
                        marks.open(&name(place), &shard.parents.iter().map(|parent| parent.to_string().into()).collect());
                        read.insert(place, 0);
                    }
                }
                let trailing = marks.trailing(now);
                let going: Vec<usize> = read.keys().copied().filter(|place| !is_over(&read, *place)).collect();
                if going.is_empty() {
                    break;
                }
                let free: Vec<usize> =
                    going.iter().copied().filter(|place| !marks.is_ahead(&name(*place), trailing, MAX_SKEW)).collect();
                prop_assert!(!free.is_empty(), "{going:?} wait for ever");
                let place = free[usize::from(turns[turn % turns.len()]) % free.len()];
                let at = read.get_mut(&place).unwrap();
                match shards[place].rows.get(*at) {
                    Some(time) => marks.observe(&name(place), Some(*time)),
                    None if shards[place].ends || bounded => marks.finish(&name(place)),
                    None => marks.caught_up(&name(place), now),
                }
                *at += 1;
                marks.advance(now);
                now += 7;
                // Those at their tips go on saying so.
                for (place, at) in &read {
                    if *at > shards[*place].rows.len() && !shards[*place].ends && !bounded {
                        marks.caught_up(&name(*place), now);
                    }
                }
            }
            prop_assert_eq!(read.len(), shards.len());
        }
    }
}
