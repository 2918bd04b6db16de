//! The watermark: the time before which no more rows are expected.
//!
//! The one law: it never falls, across shards, idleness and restarts. It is a function of the event times seen and of
//! what the caller says about shards; time of day enters only as an argument, to tell how long a shard has been idle.

use std::collections::{BTreeMap, BTreeSet};

use crate::clock::{MICROS_PER_SECOND, Micros};
use crate::stream::{ShardId, ShardKey, ShardProgress};

/// Whether a shard without new rows may leave the minimum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Idleness {
    /// A live stream: a shard that has been at its tip for this long (microseconds) no longer holds the watermark back, as
    /// long as it is heard of so often, or every `HEARD_WITHIN`: what a shard that does not answer holds, nobody knows.
    After(Micros),
    /// A bounded source (files, a replay): rows that are missing will come.
    Never,
}

/// A silence that means nothing, however short [`Idleness::After`] is: an answer may come at the second attempt, on a machine
/// with much else to do.
const HEARD_WITHIN: Micros = 10 * MICROS_PER_SECOND;

/// Watermarks of all shards, and the stream's.
#[derive(Clone, Debug)]
pub struct Watermarks {
    out_of_orderness: Micros,
    idleness: Idleness,
    pub(super) shards: BTreeMap<ShardKey, Shard>,
    /// The watermark of the first shard that had one: what others are ahead of while there is no watermark of all.
    pub(super) first: Option<Micros>,
    /// What a replayer has not acknowledged yet may be as early as this.
    bound: Option<Micros>,
    greatest_event_time: Option<Micros>,
    current: Option<Micros>,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Shard {
    pub(super) watermark: Option<Micros>,
    /// Since when it has stood at its tip, and when it said so last.
    at_tip: Option<(Micros, Micros)>,
    pub(super) finished: bool,
    /// A child of it has been opened: the child's watermark now stands for its own.
    succeeded: bool,
}

impl Watermarks {
    /// No shard, no watermark. `out_of_orderness` is how far rows of one shard may be out of order, microseconds.
    pub fn new(out_of_orderness: Micros, idleness: Idleness) -> Self {
        Self {
            out_of_orderness,
            idleness,
            shards: BTreeMap::new(),
            first: None,
            bound: None,
            greatest_event_time: None,
            current: None,
        }
    }

    /// Takes up the watermark and the shards of the newest slot; only shards of sources that are being read.
    pub fn restore<'a>(
        &mut self,
        watermark: Option<Micros>,
        shards: impl IntoIterator<Item = (&'a ShardKey, &'a ShardProgress)>,
    ) {
        self.current = self.current.max(watermark);
        for (key, progress) in shards {
            let shard = Shard { watermark: progress.watermark, finished: progress.finished, ..Shard::default() };
            self.shards
                .entry(key.clone())
                .and_modify(|known| *known = Shard { succeeded: known.succeeded, ..shard })
                .or_insert(shard);
            self.succeed(key, &progress.parents);
            let seen = progress.watermark.map(|watermark| watermark.saturating_add(self.out_of_orderness));
            self.greatest_event_time = self.greatest_event_time.max(seen);
        }
    }

    /// A shard begins to be read. One that is not known inherits the lowest watermark of its parents; without parents, or
    /// when a parent has none, it has none until its first row, and holds the stream's back.
    pub fn open(&mut self, key: &ShardKey, parents: &BTreeSet<ShardId>) {
        if self.shards.contains_key(key) {
            return;
        }
        let of = |parent: &ShardId| {
            let parent = ShardKey { source: key.source.clone(), shard: parent.clone() };
            self.shards.get(&parent).and_then(|shard| shard.watermark)
        };
        // `None` is less than any time: one parent without a watermark leaves the child without.
        let watermark = parents.iter().map(of).min().flatten();
        self.succeed(key, parents);
        self.shards.insert(key.clone(), Shard { watermark, ..Shard::default() });
    }

    /// Notes that a shard has taken its parents' place.
    fn succeed(&mut self, key: &ShardKey, parents: &BTreeSet<ShardId>) {
        for parent in parents {
            let parent = ShardKey { source: key.source.clone(), shard: parent.clone() };
            // One that is not known has expired: as a finished one that was succeeded it counts for nothing.
            self.shards.entry(parent).or_insert(Shard { finished: true, ..Shard::default() }).succeeded = true;
        }
    }

    /// A page of the shard was read; `latest` is the greatest event time of its valid rows. The shard is not at its tip.
    pub fn observe(&mut self, key: &ShardKey, latest: Option<Micros>) {
        self.greatest_event_time = self.greatest_event_time.max(latest);
        let own = latest.map(|time| time.saturating_sub(self.out_of_orderness));
        let shard = self.shards.entry(key.clone()).or_default();
        shard.watermark = shard.watermark.max(own);
        shard.at_tip = None;
        self.first = self.first.or(own);
    }

    /// The source said that nothing follows in this shard at present.
    pub fn caught_up(&mut self, key: &ShardKey, now: Micros) {
        let at_tip = &mut self.shards.entry(key.clone()).or_default().at_tip;
        // A clock may be set back: what was heard before would lie in the time to come.
        *at_tip = Some((at_tip.map_or(now, |(since, _)| since.min(now)), now));
    }

    /// Nothing will ever follow in this shard.
    pub fn finish(&mut self, key: &ShardKey) {
        self.shards.entry(key.clone()).or_default().finished = true;
    }

    /// A shard that has ended has expired: whatever children it had are being read or gone, and none is waited for.
    pub fn expired(&mut self, key: &ShardKey) {
        if let Some(shard) = self.shards.get_mut(key).filter(|shard| shard.finished) {
            shard.succeeded = true;
        }
    }

    /// Raises a shard's watermark: a replay was read up to the last record it had acknowledged in this shard, so that
    /// what follows is at least as late as its low mark. Read the low mark before comparing positions.
    pub fn raise(&mut self, key: &ShardKey, watermark: Micros) {
        let shard = self.shards.entry(key.clone()).or_default();
        shard.watermark = shard.watermark.max(Some(watermark));
    }

    /// Sets the bound above which the watermark does not rise: a replayer's low mark, already a watermark; `None` lifts
    /// it.
    pub fn set_bound(&mut self, bound: Option<Micros>) {
        self.bound = bound;
    }

    /// The bounded input has ended: the watermark is the greatest event time seen.
    pub fn end_of_input(&mut self) -> Option<Micros> {
        self.current = self.current.max(self.greatest_event_time);
        self.current
    }

    /// The stream's watermark now; `None` while a shard that counts has had no row.
    pub fn advance(&mut self, now: Micros) -> Option<Micros> {
        self.current = self.at(now);
        self.current
    }

    /// What [`Watermarks::advance`] would answer now; for whoever only looks.
    pub fn at(&self, now: Micros) -> Option<Micros> {
        let next = self.lowest(now);
        let next = match self.bound {
            Some(bound) => next.min(Some(bound)),
            None => next,
        };
        self.current.max(next)
    }

    /// The stream's watermark as last computed.
    pub fn current(&self) -> Option<Micros> {
        self.current
    }

    /// The greatest event time seen.
    pub fn greatest_event_time(&self) -> Option<Micros> {
        self.greatest_event_time
    }

    /// A shard's own watermark, as its progress records it.
    pub fn of_shard(&self, key: &ShardKey) -> Option<Micros> {
        self.shards.get(key)?.watermark
    }

    /// The lowest shard that counts. When all that are open are idle, or all input has ended, the greatest event time.
    fn lowest(&self, now: Micros) -> Option<Micros> {
        // A live shard that has ended holds its place until its children are read: they begin only when its end is decided.
        let is_live = self.idleness != Idleness::Never;
        let counts = |shard: &&Shard| !shard.finished || (is_live && !shard.succeeded);
        let mut open = self.shards.values().filter(counts).peekable();
        let any_open = open.peek().is_some();
        let mut counting = open.filter(|shard| !self.is_idle(shard, now)).map(|shard| shard.watermark).peekable();
        if counting.peek().is_some() {
            return counting.min().flatten();
        }
        let ended = !is_live && !self.shards.is_empty();
        if any_open || ended { self.greatest_event_time } else { None }
    }

    fn is_idle(&self, shard: &Shard, now: Micros) -> bool {
        match (self.idleness, shard.at_tip) {
            (Idleness::After(idle_after), Some((since, _))) => {
                self.is_at_tip(shard, now) && now.saturating_sub(since) >= idle_after
            }
            _ => false,
        }
    }

    /// Whether nothing lay behind what was read of it when it was last heard of, and that was not long ago.
    pub(super) fn is_at_tip(&self, shard: &Shard, now: Micros) -> bool {
        match (self.idleness, shard.at_tip) {
            (Idleness::After(idle_after), Some((_, heard))) => {
                let silent = now.saturating_sub(heard);
                // Before that? The clock was set back since, by nobody knows how much.
                !shard.finished && (0..idle_after.max(HEARD_WITHIN)).contains(&silent)
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::stream::Position;

    const DISORDER: Micros = 10;
    const IDLE_AFTER: Micros = 100;

    fn key(shard: &str) -> ShardKey {
        ShardKey { source: "kinesis:t".into(), shard: shard.into() }
    }

    fn live(shards: &[&str]) -> Watermarks {
        let mut marks = Watermarks::new(DISORDER, Idleness::After(IDLE_AFTER));
        shards.iter().for_each(|shard| marks.open(&key(shard), &BTreeSet::new()));
        marks
    }

    #[test]
    fn the_lowest_shard_counts_and_one_without_a_row_holds_back() {
        let mut marks = live(&["a", "b"]);
        marks.observe(&key("a"), Some(1_000));
        assert_eq!(marks.advance(0), None);
        marks.observe(&key("b"), Some(500));
        assert_eq!(marks.advance(0), Some(490));
    }

    /// FLINK-4341.
    #[test]
    fn an_idle_shard_leaves_the_minimum_and_comes_back() {
        let mut marks = live(&["a", "b"]);
        marks.observe(&key("a"), Some(1_000));
        marks.caught_up(&key("b"), 50);
        marks.caught_up(&key("b"), 120);
        assert_eq!(marks.advance(149), None);
        assert_eq!(marks.advance(150), Some(990));
        marks.observe(&key("b"), Some(700));
        assert_eq!(marks.advance(151), Some(990), "the watermark never falls");
        marks.observe(&key("a"), Some(2_000));
        assert_eq!(marks.advance(152), Some(990), "but waits for the shard that is back");
    }

    #[test]
    fn when_all_are_idle_the_greatest_event_time_is_reached_never_the_clock() {
        let mut marks = live(&["a", "b"]);
        marks.observe(&key("a"), Some(1_000));
        marks.observe(&key("b"), Some(400));
        marks.caught_up(&key("a"), 0);
        marks.caught_up(&key("b"), 0);
        assert_eq!(marks.advance(1_000_000), Some(1_000));
    }

    #[test]
    fn an_idle_shard_that_does_not_answer_holds_the_watermark_again() {
        let mut marks = live(&["a", "b"]);
        marks.observe(&key("a"), Some(1_000));
        marks.observe(&key("b"), Some(500));
        marks.caught_up(&key("b"), 0);
        marks.caught_up(&key("b"), 99);
        assert_eq!(marks.advance(100), Some(990));
        marks.observe(&key("a"), Some(2_000));
        let silent = 99 + HEARD_WITHIN;
        assert_eq!(marks.at(silent - 1), Some(1_990));
        assert_eq!(marks.advance(silent), Some(990), "throttled, say");
        marks.caught_up(&key("b"), silent + 1);
        assert_eq!(marks.advance(silent + 1), Some(1_990));
        marks.observe(&key("a"), Some(3_000));
        assert_eq!(marks.advance(0), Some(1_990), "a clock that is set back tells of no silence");
        marks.caught_up(&key("b"), 1);
        assert_eq!(marks.advance(101), Some(2_990));
    }

    #[test]
    fn a_clock_that_is_set_back_leaves_idle_shards_idle_within_the_usual_time() {
        let mut marks = live(&["a", "b"]);
        marks.observe(&key("b"), Some(500));
        marks.caught_up(&key("b"), 1_000_000);
        marks.observe(&key("a"), Some(1_000));
        assert_eq!(marks.advance(1_000_000), Some(490));
        // Set back by a million.
        marks.caught_up(&key("b"), 0);
        assert_eq!(marks.advance(0), Some(490));
        assert_eq!(marks.advance(99), Some(490));
        assert_eq!(marks.advance(100), Some(990));
    }

    #[test]
    fn a_child_inherits_its_parents_lowest_watermark() {
        let mut marks = live(&["a", "b"]);
        marks.observe(&key("a"), Some(1_000));
        marks.observe(&key("b"), Some(600));
        marks.finish(&key("a"));
        marks.finish(&key("b"));
        assert_eq!(marks.advance(1_000_000), Some(590), "while no child is open the parents hold their places");
        marks.open(&key("c"), &BTreeSet::from(["a".into(), "b".into()]));
        assert_eq!(marks.advance(0), Some(590));
        marks.open(&key("d"), &BTreeSet::from(["a".into(), "unknown".into()]));
        assert_eq!(marks.of_shard(&key("d")), None);
    }

    #[test]
    fn a_shard_that_was_split_holds_the_watermark_until_its_children_are_read() {
        let mut marks = live(&["a", "b"]);
        marks.observe(&key("a"), Some(600));
        marks.caught_up(&key("a"), 0);
        marks.finish(&key("a"));
        marks.observe(&key("b"), Some(5_000));
        assert_eq!(marks.advance(1_000_000), Some(590), "the rows of the children are not read yet");
        marks.open(&key("c"), &BTreeSet::from(["a".into()]));
        marks.observe(&key("c"), Some(4_000));
        assert_eq!(marks.advance(1_000_000), Some(3_990));
    }

    #[test]
    fn files_have_no_idleness_and_their_end_is_the_greatest_event_time() {
        let mut marks = Watermarks::new(DISORDER, Idleness::Never);
        marks.open(&key("a"), &BTreeSet::new());
        marks.open(&key("b"), &BTreeSet::new());
        marks.observe(&key("a"), Some(1_000));
        marks.caught_up(&key("b"), 0);
        assert_eq!(marks.advance(Micros::MAX), None);
        marks.finish(&key("b"));
        assert_eq!(marks.advance(0), Some(990));
        marks.finish(&key("a"));
        assert_eq!(marks.advance(0), Some(1_000));
    }

    #[test]
    fn a_replays_low_mark_bounds_the_watermark_and_lifts_shards_that_are_read_up() {
        let mut marks = Watermarks::new(DISORDER, Idleness::Never);
        marks.observe(&key("a"), Some(1_000));
        marks.observe(&key("b"), Some(200));
        marks.set_bound(Some(700));
        assert_eq!(marks.advance(0), Some(190));
        marks.raise(&key("b"), 700);
        assert_eq!(marks.advance(0), Some(700));
        marks.set_bound(None);
        assert_eq!(marks.end_of_input(), Some(1_000));
    }

    #[test]
    fn a_restart_goes_on_where_the_slot_stood() {
        let mut marks = live(&[]);
        let progress = |watermark, finished| ShardProgress {
            position: Position::TrimHorizon,
            finished,
            parents: BTreeSet::new(),
            watermark,
        };
        let (a, b) = (progress(Some(300), false), progress(Some(50), true));
        marks.restore(Some(280), [(&key("a"), &a), (&key("b"), &b)]);
        marks.open(&key("a"), &BTreeSet::new());
        assert_eq!(marks.current(), Some(280));
        assert_eq!(marks.advance(0), Some(280), "the children of `b` were not opened before the restart");
        marks.open(&key("c"), &BTreeSet::from(["b".into()]));
        marks.observe(&key("c"), Some(310));
        assert_eq!(marks.advance(0), Some(300));
        assert_eq!(marks.greatest_event_time(), Some(310));
    }

    #[test]
    fn an_expired_shard_without_children_holds_nothing_back() {
        let (mut marks, ended) = (Watermarks::new(DISORDER, Idleness::After(IDLE_AFTER)), key("ended"));
        for (shard, time) in [(&ended, 100), (&key("open"), 300)] {
            marks.open(shard, &BTreeSet::new());
            marks.observe(shard, Some(time));
        }
        marks.expired(&ended);
        assert_eq!(marks.advance(0), Some(100 - DISORDER), "it has not ended");
        marks.finish(&ended);
        assert_eq!(marks.advance(0), Some(100 - DISORDER), "its children may come");
        marks.expired(&ended);
        assert_eq!(marks.advance(0), Some(300 - DISORDER));
    }

    #[derive(Clone, Debug)]
    enum Event {
        Open(u8, Option<u8>),
        Observe(u8, Option<Micros>),
        CaughtUp(u8),
        Finish(u8),
        Raise(u8, Micros),
        Bound(Option<Micros>),
        Wait(Micros),
    }

    fn event() -> impl Strategy<Value = Event> {
        let time = -1_000i64..1_000;
        prop_oneof![
            (0u8..6, prop::option::of(0u8..6)).prop_map(|(shard, parent)| Event::Open(shard, parent)),
            (0u8..6, prop::option::of(time.clone())).prop_map(|(shard, time)| Event::Observe(shard, time)),
            (0u8..6).prop_map(Event::CaughtUp),
            (0u8..6).prop_map(Event::Finish),
            (0u8..6, time.clone()).prop_map(|(shard, time)| Event::Raise(shard, time)),
            prop::option::of(time).prop_map(Event::Bound),
            (0i64..200).prop_map(Event::Wait),
        ]
    }

    proptest! {
        #[test]
        fn the_watermark_never_falls_nor_passes_what_was_seen(events in prop::collection::vec(event(), 1..80), bounded: bool) {
            let idleness = if bounded { Idleness::Never } else { Idleness::After(IDLE_AFTER) };
            let mut marks = Watermarks::new(DISORDER, idleness);
            let name = |shard: u8| key(&shard.to_string());
            let (mut now, mut last, mut greatest) = (0, None, None);
            for event in events {
                match event {
                    Event::Open(shard, parent) => {
                        marks.open(&name(shard), &parent.iter().map(|p| p.to_string().into()).collect());
                    }
                    Event::Observe(shard, time) => {
                        greatest = greatest.max(time);
                        marks.observe(&name(shard), time);
                    }
                    Event::CaughtUp(shard) => marks.caught_up(&name(shard), now),
                    Event::Finish(shard) => marks.finish(&name(shard)),
                    Event::Raise(shard, time) => {
                        greatest = greatest.max(Some(time));
                        marks.raise(&name(shard), time);
                    }
                    Event::Bound(bound) => marks.set_bound(bound),
                    Event::Wait(micros) => now += micros,
                }
                let next = marks.advance(now);
                prop_assert!(next >= last, "{next:?} after {last:?}");
                prop_assert!(next <= greatest, "{next:?} beyond {greatest:?}");
                last = next;
            }
        }
    }
}
