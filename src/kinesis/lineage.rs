//! Which shards may be read now: the family tree of a stream's shards.
//!
//! The one law: a child starts once, and only when each of its parents has ended in a decided epoch or had expired before
//! the stream was first read. A shard that was being read, or waited to be, and is no longer listed is a gap: an error.
//!
//! Pure: it is told what was listed, what ended and what was decided. It calls nothing and knows no time.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::{Error, Result};
use crate::stream::{Position, ShardId, ShardProgress};

/// What to do about a gap; ends every message about one.
pub const GAP_REMEDY: &str = "records were lost before they were read, so this lake can no longer hold all of the stream: go \
     on with what is left by `--accept-gap`, or read on into a new lake (`--set lake.url=…`); and lengthen the stream's \
     retention";

/// A shard as ListShards names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedShard {
    pub id: ShardId,
    /// None, one (split) or two (merge).
    pub parents: BTreeSet<ShardId>,
}

/// A shard to begin with, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Startable {
    pub id: ShardId,
    pub position: Position,
    pub parents: BTreeSet<ShardId>,
}

/// How far a shard has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Waits for its parents.
    Waiting,
    /// Open in the slot this run resumes from; not handed out yet.
    Saved,
    /// Handed out by [`Lineage::startable`].
    Started,
    /// Ended in a decided epoch, or expired before the stream was first read.
    Over,
}

#[derive(Clone, Debug)]
struct Shard {
    parents: BTreeSet<ShardId>,
    stage: Stage,
    /// `Saved`: where to go on. After its end was seen: where it ended. `None`: not known.
    position: Option<Position>,
    /// Its end was read.
    ended: bool,
    /// Its end is part of a decided epoch.
    decided: bool,
    /// In the last listing.
    listed: bool,
}

impl Shard {
    fn new(parents: BTreeSet<ShardId>, stage: Stage) -> Self {
        Self { parents, stage, position: None, ended: false, decided: false, listed: false }
    }
}

/// Every shard this run has heard of.
#[derive(Debug)]
pub struct Lineage {
    /// Where a stream that no slot knows is read from.
    start: Position,
    /// Nothing of this stream has been read and nothing listed: shards without listed parents are its beginning.
    is_new: bool,
    shards: BTreeMap<ShardId, Shard>,
    /// Children named by the end of a parent that no listing has named yet.
    named: BTreeSet<ShardId>,
}

impl Lineage {
    /// A lineage that goes on from `resume` (the newest slot's progress), or, when that is empty, begins at `start`.
    pub fn new(start: Position, resume: &BTreeMap<ShardId, ShardProgress>) -> Self {
        let shards = resume.iter().map(|(id, progress)| {
            let stage = if progress.finished { Stage::Over } else { Stage::Saved };
            let position = Some(progress.position.clone());
            (id.clone(), Shard { position, ..Shard::new(progress.parents.clone(), stage) })
        });
        Self { start, is_new: resume.is_empty(), shards: shards.collect(), named: BTreeSet::new() }
    }

    /// Takes in a complete listing. Known shards are matched by id alone.
    ///
    /// # Errors
    /// [`Error::Usage`] on a gap: see [`Lineage::gone`].
    pub fn discover(&mut self, listing: Vec<ListedShard>) -> Result<()> {
        self.list(listing);
        let gone: Vec<String> = self.gone().iter().map(|id| format!("`{id}`")).collect();
        match gone.is_empty() {
            true => Ok(()),
            false => {
                Err(Error::usage(format!("not read to their end and gone: shards {}: {GAP_REMEDY}", gone.join(", "))))
            }
        }
    }

    /// Takes in a complete listing, whatever it lacks.
    pub fn list(&mut self, listing: Vec<ListedShard>) {
        for shard in self.shards.values_mut() {
            shard.listed = false;
        }
        for ListedShard { id, parents } in listing {
            let shard = self.shards.entry(id).or_insert_with(|| Shard::new(BTreeSet::new(), Stage::Waiting));
            shard.parents.extend(parents);
            shard.listed = true;
        }
        self.named.retain(|id| !self.shards.contains_key(id));
        if self.is_new && !self.shards.is_empty() {
            self.begin();
        }
        self.settle_ancestors();
    }

    /// Shards that hold what nobody has read and nobody can any more: those that are no longer listed, and those that came
    /// and went unseen, of which only a child tells.
    pub fn gone(&self) -> BTreeSet<ShardId> {
        let mut gone = BTreeSet::new();
        for (id, shard) in &self.shards {
            if shard.stage != Stage::Over && !shard.ended && !shard.listed {
                gone.insert(id.clone());
            }
            if shard.stage == Stage::Waiting {
                gone.extend(shard.parents.iter().filter(|parent| !self.shards.contains_key(*parent)).cloned());
            }
        }
        gone
    }

    /// Shards that may be read from now on. Each is returned once.
    pub fn startable(&mut self) -> Vec<Startable> {
        let ready: Vec<ShardId> = self
            .shards
            .iter()
            .filter(|(_, shard)| match shard.stage {
                Stage::Saved => shard.listed,
                Stage::Waiting => shard.listed && shard.parents.iter().all(|parent| self.is_over(parent)),
                Stage::Started | Stage::Over => false,
            })
            .map(|(id, _)| id.clone())
            .collect();
        ready.into_iter().map(|id| self.begin_shard(id)).collect()
    }

    /// The end of a shard names its children. They begin when they are listed.
    pub fn names(&mut self, children: BTreeSet<ShardId>) {
        self.named.extend(children.into_iter().filter(|id| !self.shards.contains_key(id)));
    }

    /// Whether a child is named that no listing has named yet: the listing lags behind.
    pub fn awaits_children(&self) -> bool {
        !self.named.is_empty()
    }

    /// The end of a shard was read, at `position`.
    pub fn ended(&mut self, id: &ShardId, position: Position) {
        if let Some(shard) = self.shards.get_mut(id) {
            shard.position = Some(position);
            shard.ended = true;
            shard.close();
        }
    }

    /// The end of a shard is part of a decided epoch. May be said before [`Self::ended`]: two channels carry the news.
    pub fn decided_finished(&mut self, id: &ShardId) {
        if let Some(shard) = self.shards.get_mut(id) {
            shard.decided = true;
            shard.close();
        }
    }

    /// Whether the last listing named no child of this shard.
    pub fn is_childless(&self, id: &ShardId) -> bool {
        !self.shards.values().any(|shard| shard.listed && shard.parents.contains(id))
    }

    /// A new stream's first listing: parents it does not name expired before anyone here read them.
    fn begin(&mut self) {
        self.is_new = false;
        let named: BTreeSet<ShardId> = self.shards.values().flat_map(|shard| shard.parents.iter().cloned()).collect();
        for id in named {
            self.shards.entry(id).or_insert_with(|| Shard {
                position: Some(self.start.clone()),
                ..Shard::new(BTreeSet::new(), Stage::Over)
            });
        }
        for shard in self.shards.values_mut() {
            if shard.parents.is_empty() && shard.stage == Stage::Waiting {
                shard.stage = Stage::Saved;
                shard.position = Some(self.start.clone());
            }
        }
    }

    /// Ancestors of a shard that was begun are over, though the slot may have forgotten them: they are not read again.
    fn settle_ancestors(&mut self) {
        let begun = self.shards.values().filter(|shard| shard.stage != Stage::Waiting);
        let mut above: Vec<ShardId> = begun.flat_map(|shard| shard.parents.iter().cloned()).collect();
        while let Some(id) = above.pop() {
            if let Some(shard) = self.shards.get_mut(&id).filter(|shard| shard.stage == Stage::Waiting) {
                shard.stage = Stage::Over;
                above.extend(shard.parents.iter().cloned());
            }
        }
    }

    fn is_over(&self, id: &ShardId) -> bool {
        self.shards.get(id).is_some_and(|shard| shard.stage == Stage::Over)
    }

    fn begin_shard(&mut self, id: ShardId) -> Startable {
        let shard = &self.shards[&id];
        let position = match (&shard.stage, &shard.position) {
            (Stage::Saved, Some(position)) => position.clone(),
            _ => self.child_position(&shard.parents),
        };
        let parents = shard.parents.clone();
        if let Some(shard) = self.shards.get_mut(&id) {
            shard.stage = Stage::Started;
        }
        Startable { id, position, parents }
    }

    /// A child starts at its oldest record. Only when each parent ended without one record since the time the stream is
    /// read from may the child be older than that time; then it starts there too.
    fn child_position(&self, parents: &BTreeSet<ShardId>) -> Position {
        let mut latest = None;
        for parent in parents {
            match self.shards.get(parent).and_then(|shard| shard.position.as_ref()) {
                Some(Position::AtTimestamp(time)) => latest = latest.max(Some(*time)),
                _ => return Position::TrimHorizon,
            }
        }
        latest.map_or(Position::TrimHorizon, Position::AtTimestamp)
    }
}

impl Shard {
    fn close(&mut self) {
        if self.ended && self.decided {
            self.stage = Stage::Over;
        }
    }
}

#[cfg(test)]
#[path = "lineage_tests.rs"]
mod tests;
