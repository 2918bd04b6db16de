//! Which shards wait for the others: what `window::skew` says, told to the readers.
//!
//! The one law: whatever may end a shard's waiting – rows, a tip or an end of any shard, silence by the clock – ends it, at the
//! next event or the next tick. While nobody waits, an event costs a look at its own shard, however many there are.

use std::collections::{BTreeMap, BTreeSet};

use crate::clock::Micros;
use crate::stream::{Pause, ShardKey};
use crate::window::Watermarks;

/// The readers that can be made to wait.
#[derive(Debug)]
pub(super) struct Skew {
    /// Microseconds; `None`: nobody waits.
    max: Option<Micros>,
    pauses: BTreeMap<ShardKey, Pause>,
    waiting: BTreeSet<ShardKey>,
    /// What shards may be ahead of, at the last look.
    trailing: Option<Micros>,
    /// The same or, when no shard was behind, the newest rows there were: who is not far ahead of it is not looked at.
    near: Option<Micros>,
}

impl Skew {
    pub(super) fn new(max: Option<Micros>) -> Self {
        Self { max, pauses: BTreeMap::new(), waiting: BTreeSet::new(), trailing: None, near: None }
    }

    pub(super) fn open(&mut self, key: ShardKey, pause: Pause) {
        if self.max.is_some() {
            self.pauses.insert(key, pause);
        }
    }

    /// Something was heard of a shard: it may have to wait, and others may go on.
    pub(super) fn heard_of(&mut self, key: &ShardKey, watermarks: &Watermarks, now: Micros) {
        let Some(max) = self.max else { return };
        let is_near =
            watermarks.of_shard(key).is_none() || !watermarks.is_ahead(key, self.near.or(Some(Micros::MIN)), max);
        if is_near && self.waiting.is_empty() {
            return;
        }
        let before = self.trailing;
        self.look_at(watermarks, now);
        if watermarks.is_ahead(key, self.trailing, max) {
            self.set(key, true);
        }
        if self.trailing != before {
            self.let_go(watermarks, max);
        }
    }

    /// A tick: time alone may have changed who is behind.
    pub(super) fn tick(&mut self, watermarks: &Watermarks, now: Micros) {
        let Some(max) = self.max else { return };
        self.look_at(watermarks, now);
        let ahead = self.pauses.keys().filter(|key| watermarks.is_ahead(key, self.trailing, max));
        for key in ahead.cloned().collect::<Vec<_>>() {
            self.set(&key, true);
        }
        self.let_go(watermarks, max);
    }

    /// Its end was read: it asks for nothing more.
    pub(super) fn finished(&mut self, key: &ShardKey) {
        self.pauses.remove(key);
        self.waiting.remove(key);
    }

    fn look_at(&mut self, watermarks: &Watermarks, now: Micros) {
        self.trailing = watermarks.trailing(now);
        self.near = self.trailing.or(watermarks.greatest_event_time());
    }

    fn let_go(&mut self, watermarks: &Watermarks, max: Micros) {
        let waiting = self.waiting.iter().filter(|key| !watermarks.is_ahead(key, self.trailing, max));
        for key in waiting.cloned().collect::<Vec<_>>() {
            self.set(&key, false);
        }
    }

    fn set(&mut self, key: &ShardKey, waits: bool) {
        let Some(pause) = self.pauses.get(key) else { return };
        pause.set(waits);
        let is_news = if waits { self.waiting.insert(key.clone()) } else { self.waiting.remove(key) };
        if is_news {
            tracing::debug!("`{key}` {}", if waits { "is far ahead of other shards: it waits" } else { "goes on" });
        }
    }
}
