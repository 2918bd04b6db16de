//! One shard while an epoch is built: the interval read so far, its counts, and what the books say of it.

use std::collections::BTreeSet;

use super::queries::Late;
use crate::clock::Micros;
use crate::epoch::{Counts, ShardBooks, ShardSlot};
use crate::error::{Error, Result};
use crate::stream::{Interval, OpenedShard, Position, ShardId, ShardProgress};

/// Rows at the start of a bounded input that tell whether it lies before the lake.
const FIRST_ROWS: usize = 1_000;

/// A shard in the epoch being built.
#[derive(Debug)]
pub(super) struct Shard {
    pub interval: Interval,
    pub parents: BTreeSet<ShardId>,
    pub finished: bool,
    /// Its end stands in a slot.
    end_drafted: bool,
    pub caught_up: bool,
    /// When it last stood at its tip in this run; none of what it has not read is older.
    pub at_tip: Option<Micros>,
    pub first: FirstRows,
    pub counts: Counts,
    pub books: ShardBooks,
}

/// How the first rows of a shard in this run lie against what the lake has closed.
#[derive(Debug, Default)]
pub(super) struct FirstRows {
    seen: usize,
    before_closed: usize,
    /// Nothing is asked of them.
    judged: bool,
}

impl Shard {
    /// A shard that has just been opened.
    pub(super) fn new(opened: &OpenedShard) -> Self {
        Self {
            interval: Interval::empty(opened.position.clone()),
            parents: opened.parents.clone(),
            finished: false,
            end_drafted: false,
            caught_up: false,
            at_tip: None,
            // A shard that goes on where an earlier run left it was judged then.
            first: FirstRows { seen: 0, before_closed: 0, judged: opened.position != Position::TrimHorizon },
            counts: Counts::default(),
            books: ShardBooks::default(),
        }
    }

    /// Whether the epoch being built has nothing new of this shard, its end included.
    pub(super) fn is_unchanged(&self) -> bool {
        self.interval.from == self.interval.to && self.finished == self.end_drafted
    }

    /// How far it has been read.
    pub(super) fn position(&self) -> &Position {
        &self.interval.to
    }

    pub(super) fn count_late(&mut self, late: &Late) {
        self.counts.late += late.any.as_ref().map_or(0, |rows| rows.true_count() as u64);
        for (query, rows) in &late.by_query {
            *self.counts.late_by_query.entry(query.clone()).or_default() += rows;
        }
    }

    /// This epoch's part of the slot; the shard then stands at the start of the next epoch.
    pub(super) fn turn_over(&mut self, watermark: Option<Micros>) -> Result<(ShardSlot, ShardBooks)> {
        let counts = std::mem::take(&mut self.counts);
        if !counts.balance() {
            return Err(Error::broken(format!("the books do not balance: {counts:?}")));
        }
        let progress = ShardProgress {
            position: self.interval.to.clone(),
            finished: self.finished,
            parents: self.parents.clone(),
            watermark,
        };
        let slot =
            ShardSlot { from: self.interval.from.clone(), progress, counts, at_tip: self.at_tip, lost_before: None };
        self.interval = Interval::empty(self.interval.to.clone());
        self.end_drafted = self.finished;
        Ok((slot, std::mem::take(&mut self.books)))
    }
}

impl FirstRows {
    /// Adds those of another shard of the same input.
    pub(super) fn add(&mut self, other: &Self) {
        self.seen += other.seen;
        self.before_closed += other.before_closed;
        self.judged |= other.judged;
    }

    /// Whether there are enough (all of them, when the input is `complete`), and every one lies before what was closed.
    pub(super) fn are_before_closed(&self, complete: bool) -> bool {
        let enough = self.seen >= FIRST_ROWS || (complete && self.seen > 0);
        enough && !self.judged && self.before_closed == self.seen
    }

    pub(super) fn note(&mut self, event_times: &[Micros], closed_until: Option<Micros>) {
        let first = &event_times[..event_times.len().min(FIRST_ROWS - self.seen)];
        self.seen += first.len();
        self.before_closed += first.iter().filter(|&&t| closed_until.is_some_and(|until| t < until)).count();
    }
}
