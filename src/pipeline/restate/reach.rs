//! How far a query's table is right, between two epochs; and what a restatement changes in that.
//!
//! The one law: whatever a restatement makes wrong elsewhere is owed by the very slot that decides it: its windows in the
//! tables of the views that read it. So a crash between parent and child loses nothing, and the next look goes on.

use super::subject::Query;
use super::{Mark, Restatement};
use crate::clock::Micros;
use crate::epoch::{Epochs, Owed, QueryProgress, Restated};
use crate::sql::{TimeRange, WindowedQuery};
use crate::window::joined;

/// Stretches a query owes, beyond which neighbours are joined: a slot stays small, and to restate a window once too often
/// only costs time.
const OWED_RANGES_MAX: usize = 64;

/// Windows that share a start and grow, of which some may have closed and others not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Growing {
    pub starts: TimeRange,
    pub closed_until: Micros,
}

/// What the slots say of a query's corrections.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::pipeline) struct Reach {
    /// Its table answers windows that end after this by the present text; `None`: all.
    pub answers_after: Option<Micros>,
    /// The epoch up to which late rows were looked at.
    pub reconciled_through: Option<u64>,
    /// What it does not answer as its parent's table says now.
    pub owed: Vec<Owed>,
    /// Late rows of sessions that are still open.
    pub waiting: Vec<Owed>,
    /// Epochs whose rows of the stream it has not seen.
    pub missed: Epochs,
}

/// What a query over the stream had closed when it came, by the first slot that names it. A slot of before that was told
/// leaves it to the watermark before and the lateness the query has now.
pub(in crate::pipeline) fn began_after(
    query: &WindowedQuery,
    first: &QueryProgress,
    watermark: Option<Micros>,
) -> Option<Micros> {
    let by_watermark = || watermark.map(|watermark| query.window().closed_until(watermark, query.allowed_lateness()));
    first.answers_after.or_else(by_watermark)
}

impl Reach {
    pub(in crate::pipeline) fn of(progress: &QueryProgress) -> Self {
        Self {
            answers_after: progress.answers_after,
            reconciled_through: progress.reconciled_through,
            owed: progress.owed.clone(),
            waiting: progress.waiting.clone(),
            missed: progress.missed.clone().unwrap_or_default(),
        }
    }

    pub(in crate::pipeline) fn tell(&self, progress: &mut QueryProgress) {
        progress.answers_after = self.answers_after;
        progress.reconciled_through = self.reconciled_through;
        progress.owed.clone_from(&self.owed);
        progress.waiting.clone_from(&self.waiting);
        progress.missed = Some(self.missed.clone());
    }

    /// Notes what a look or a restatement found out.
    pub(in crate::pipeline) fn note(&mut self, mark: Mark) {
        match mark {
            Mark::Reconciled { through, waiting } => {
                self.reconciled_through = Some(through);
                self.waiting = waiting;
                self.missed = std::mem::take(&mut self.missed).after(through);
            }
            Mark::AnswersAfter(after) => self.answers_after = after,
            Mark::Paid { through, times, again } => {
                let ranges = times.iter().map(|range| (range.from, range.to)).collect();
                self.settle(&Restated { ranges, through }, None);
                self.owe(again);
            }
        }
    }

    /// One more stretch, or several, of one epoch or many.
    pub(in crate::pipeline) fn owe(&mut self, more: Vec<Owed>) {
        self.owed.extend(more);
        if self.owed.len() > OWED_RANGES_MAX {
            let epoch = self.owed.iter().map(|owed| owed.epoch).max().unwrap_or_default();
            let ranges = self.owed.iter().map(|owed| TimeRange { from: owed.from, to: owed.to }).collect();
            let few = super::cut::few(joined(ranges), OWED_RANGES_MAX);
            self.owed = few.into_iter().map(|range| Owed::new(epoch, range.from, range.to)).collect();
        }
    }

    /// What was restated is not owed any more, unless something came after the epoch it was computed as of. Of windows that
    /// grow from `growing.from` on, those that had not closed then are owed still: their rows wait in memory as they were.
    fn settle(&mut self, restated: &Restated, growing: Option<Growing>) {
        let mut left: Vec<Owed> = Vec::with_capacity(self.owed.len());
        for owed in std::mem::take(&mut self.owed) {
            if owed.epoch > restated.through {
                left.push(owed);
                continue;
            }
            let mut from = owed.from;
            for &(start, end) in restated.ranges.iter().filter(|(start, end)| *start < owed.to && owed.from < *end) {
                if from < start {
                    left.push(Owed { from, to: start, ..owed });
                }
                if let Some(growing) = growing {
                    let (from, to) =
                        (from.max(start).max(growing.starts.from), owed.to.min(end).min(growing.starts.to));
                    let rest = Owed { from, to, paid_until: Some(growing.closed_until), ..owed };
                    let is_known = |known: &Owed| Owed { epoch: rest.epoch, ..*known } == rest;
                    if from < to && !left.iter().any(is_known) {
                        left.push(rest);
                    }
                }
                from = from.max(end);
            }
            if from < owed.to {
                left.push(Owed { from, ..owed });
            }
        }
        self.owed = left;
    }
}

/// Notes in all queries what a restatement changes that the slot of `epoch` decides.
pub(in crate::pipeline) fn decided<'a>(
    restatement: &Restatement,
    epoch: u64,
    queries: impl Iterator<Item = (Query, &'a mut Reach)>,
) {
    let Restatement { query: name, restated, answered, closed_until, until, marks, .. } = restatement;
    for (query, reach) in queries {
        if query.name() == name {
            reach.settle(restated, closed_until.and_then(|until| query.growing(until)));
            reach.missed = std::mem::take(&mut reach.missed).without(answered);
            marks.iter().cloned().for_each(|mark| reach.note(mark));
            continue;
        }
        // Two sides of a join may read one view by different times.
        let mut follows = Vec::new();
        for parent in query.parents().filter(|parent| parent.name == *name) {
            let starts = restated.ranges.iter().map(|&(from, to)| TimeRange { from, to });
            follows.extend(starts.filter_map(|starts| query.follows(parent, starts, *until, reach.answers_after)));
        }
        if !follows.is_empty() {
            let ranges = joined(follows).into_iter();
            reach.owe(ranges.map(|range| Owed::new(epoch, range.from, range.to)).collect());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owed(epoch: u64, from: Micros, to: Micros) -> Owed {
        Owed::new(epoch, from, to)
    }

    #[test]
    fn what_was_restated_is_owed_no_more_and_what_came_later_is() {
        let mut reach = Reach { owed: vec![owed(3, 0, 100), owed(5, 0, 10), owed(2, 200, 300)], ..Reach::default() };
        reach.settle(&Restated { ranges: vec![(10, 20), (40, 50), (90, 210)], through: 4 }, None);
        let left = [owed(3, 0, 10), owed(3, 20, 40), owed(3, 50, 90), owed(5, 0, 10), owed(2, 210, 300)];
        assert_eq!(reach.owed, left);
    }

    #[test]
    fn windows_that_grow_are_owed_until_the_last_of_a_start_has_closed() {
        let growing = Growing { starts: TimeRange { from: 100, to: 200 }, closed_until: 130 };
        let mut reach = Reach { owed: vec![owed(3, 0, 200), owed(2, 150, 300), owed(5, 100, 200)], ..Reach::default() };
        reach.settle(&Restated { ranges: vec![(0, 200)], through: 4 }, Some(growing));
        let rest = |from| Owed { paid_until: Some(130), ..owed(3, from, 200) };
        let left = [rest(100), Owed { epoch: 2, ..rest(150) }, owed(2, 200, 300), owed(5, 100, 200)];
        assert_eq!(reach.owed, left);
        // The next step has closed: what was left is paid up to there, and the same is kept once.
        let next = Growing { closed_until: 140, ..growing };
        reach.settle(&Restated { ranges: vec![(100, 200)], through: 5 }, Some(next));
        let rest = |from| Owed { paid_until: Some(140), ..owed(3, from, 200) };
        assert_eq!(reach.owed, [rest(100), Owed { epoch: 2, ..rest(150) }, owed(2, 200, 300)]);
        let all = Growing { starts: TimeRange { from: 200, to: 300 }, closed_until: 200 };
        reach.settle(&Restated { ranges: vec![(100, 200)], through: 6 }, Some(all));
        assert_eq!(reach.owed, [owed(2, 200, 300)]);
    }

    #[test]
    fn too_many_stretches_become_few_that_hold_them_all_and_wait_for_the_newest() {
        let mut reach = Reach::default();
        let all: Vec<Owed> = (0i64..500).map(|n| owed(n.unsigned_abs(), n * 10_000_000, n * 10_000_000 + 1)).collect();
        reach.owe(all.clone());
        assert!(reach.owed.len() <= OWED_RANGES_MAX && reach.owed.iter().all(|owed| owed.epoch == 499));
        assert!(all.iter().all(|one| reach.owed.iter().any(|owed| owed.from <= one.from && one.to <= owed.to)));
    }

    #[test]
    fn a_look_tells_which_late_rows_wait() {
        let mut reach = Reach { waiting: vec![owed(1, 5, 6)], missed: Epochs::of(4, 12), ..Reach::default() };
        reach.note(Mark::Reconciled { through: 9, waiting: vec![owed(8, 7, 8)] });
        assert_eq!((reach.reconciled_through, reach.waiting.as_slice()), (Some(9), [owed(8, 7, 8)].as_slice()));
        assert_eq!(reach.missed, Epochs::of(10, 12), "looked at, too");
        reach.note(Mark::AnswersAfter(Some(3)));
        assert_eq!(reach.answers_after, Some(3));
    }
}
