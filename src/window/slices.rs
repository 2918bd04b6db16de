//! Hops and cumulating windows from slices.
//!
//! The one law: a window's partial rows are those of the slices it covers, each exactly once; the slices themselves stay as
//! they are. Windows that close together share their work: sums over 1, 2, 4, 8, … slices are made for all of them at once,
//! so a window costs the logarithm of its slices and a commit runs as many merges. (Prefixes and suffixes of blocks, as van
//! Herk, Gil and Werman do it, would take a constant number of merges of each row, but one after the other: as many runs
//! of a plan as a window has slices.)
//!
//! While windows are put together, both bounds of a partial row are the number of a slice: groups to a merge, no times.

use arrow::record_batch::RecordBatch;

use super::stamp::{Bounds, restamp, times};
use crate::clock::Micros;
use crate::error::Result;
use crate::sql::{Grid, WindowShape, WindowedQuery, closes, cycle_end, opens};

/// The slices of one query whose windows are combined from them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slices<'a> {
    query: &'a WindowedQuery,
    grid: Grid,
    /// Slices a window, or a cycle of windows, is made of.
    cells: i64,
    is_hop: bool,
}

impl<'a> Slices<'a> {
    /// `None` for a query whose windows are not combined from slices.
    pub(super) fn of(query: &'a WindowedQuery) -> Option<Self> {
        match query.window().shape() {
            WindowShape::Hop { slides, cells } => Some(Self { query, grid: slides, cells, is_hop: true }),
            WindowShape::Cumulate { steps, cells } => Some(Self { query, grid: steps, cells, is_hop: false }),
            WindowShape::Tumble(_) | WindowShape::Session { .. } => None,
        }
    }

    /// The partial rows of all windows with `after < end <= until`, with their bounds, not merged to one a group.
    pub(super) async fn close(
        self,
        state: &[RecordBatch],
        after: Option<Micros>,
        until: Micros,
    ) -> Result<Vec<RecordBatch>> {
        let numbers = self.numbers(state)?;
        let (Some(oldest), Some(newest)) = (numbers.first().copied(), numbers.last().copied()) else {
            return Ok(Vec::new());
        };
        let (after, until) = (after.map(|after| self.grid.last_mark(after)), self.grid.last_mark(until));
        // Windows that hold a slice, by the slice they begin with (hops) or end with (cumulating windows).
        let (first, last) = match self.is_hop {
            true => (
                after.map_or(i64::MIN, |after| after.saturating_sub(self.cells - 1)).max(oldest - (self.cells - 1)),
                until.saturating_sub(self.cells).min(newest),
            ),
            false => {
                (after.unwrap_or(i64::MIN).max(oldest), until.saturating_sub(1).min(cycle_end(newest, self.cells) - 1))
            }
        };
        if first > last {
            return Ok(Vec::new());
        }
        let numbered = restamp(self.query, state, |start| Some(stamp(self.grid.last_mark(start))))?;
        let windows = match self.is_hop {
            true => self.hops(numbered, first, last).await?,
            false => self.growing(numbered, first, last).await?,
        };
        restamp(self.query, &windows, |number| self.bounds(number))
    }

    /// The state without slices that only closed windows cover.
    pub(super) fn still_open(self, state: &[RecordBatch], until: Micros) -> Result<Vec<RecordBatch>> {
        let until = self.grid.last_mark(until);
        restamp(self.query, state, |start| {
            let number = self.grid.last_mark(start);
            (self.last_end(number) > until).then(|| (start, self.grid.mark(number + 1)))
        })
    }

    /// The newest window that holds a row: of a hop the one that ends with the newest slice, so that it shows the last
    /// `size` until now. One window, because the thousands of others that are open would say nearly the same.
    pub(super) fn newest(self, state: &[RecordBatch]) -> Result<Vec<RecordBatch>> {
        let Some(newest) = self.numbers(state)?.last().copied() else { return Ok(Vec::new()) };
        let first = if self.is_hop { newest - (self.cells - 1) } else { cycle_end(newest, self.cells) - self.cells };
        let bounds = (self.grid.mark(first), self.grid.mark(newest + 1));
        restamp(self.query, state, |start| (self.grid.last_mark(start) >= first).then_some(bounds))
    }

    /// How many windows with `end > after` hold a row.
    pub(super) fn count(self, state: &[RecordBatch], after: Option<Micros>) -> Result<u64> {
        let after = after.map_or(i64::MIN, |after| self.grid.last_mark(after));
        // Of both kinds a slice's windows have consecutive numbers, and `next` is the first not counted yet.
        let (mut next, mut count) = (i64::MIN, 0);
        for number in self.numbers(state)? {
            let (first, last) = match self.is_hop {
                true => (number - (self.cells - 1), number),
                false => (number, cycle_end(number, self.cells) - 1),
            };
            let closed = if self.is_hop { after.saturating_sub(self.cells - 1) } else { after };
            let first = first.max(next).max(closed);
            count += u64::try_from(last - first + 1).unwrap_or(0);
            next = next.max(last + 1);
        }
        Ok(count)
    }

    /// End of the last window that covers a slice.
    pub(super) fn last_end_of(self, start: Micros) -> Micros {
        self.grid.mark(self.last_end(self.grid.last_mark(start)))
    }

    fn last_end(self, number: i64) -> i64 {
        if self.is_hop { number.saturating_add(self.cells) } else { cycle_end(number, self.cells) }
    }

    /// Sums over windows `first..=last`, stamped with the number of the slice each begins with.
    async fn hops(self, slices: Vec<RecordBatch>, first: i64, last: i64) -> Result<Vec<RecordBatch>> {
        let merges = i64::from(self.cells.ilog2());
        let mut windows = Vec::new();
        if last - first < merges {
            // So few windows that making sums for all of them costs more than going through the slices once for each.
            for window in first..=last {
                let covers = window..window + self.cells;
                windows.extend(restamp(self.query, &slices, |slice| covers.contains(&slice).then_some(stamp(window)))?);
            }
            return Ok(windows);
        }
        let covered = first..last + self.cells;
        // Sums over `span` slices from each slice on; a window is put together from those that the binary digits of its
        // number of slices name.
        let mut sums = restamp(self.query, &slices, |slice| covered.contains(&slice).then_some(stamp(slice)))?;
        let (mut span, mut done) = (1, 0);
        loop {
            if self.cells & span != 0 {
                let takes = |slice: Micros| (first..=last).contains(&(slice - done)).then_some(stamp(slice - done));
                windows.extend(restamp(self.query, &sums, takes)?);
                done += span;
            }
            if span > self.cells / 2 {
                return Ok(windows);
            }
            sums.extend(restamp(self.query, &sums, |slice| (slice - span >= first).then_some(stamp(slice - span)))?);
            sums = self.query.reduce(sums).await?;
            span *= 2;
        }
    }

    /// Sums from the start of each cycle, stamped with the number of the slice each window `first..=last` ends with.
    async fn growing(self, slices: Vec<RecordBatch>, first: i64, last: i64) -> Result<Vec<RecordBatch>> {
        let cycle = |slice: i64| cycle_end(slice, self.cells);
        // What was there before the first window belongs to all that close in its cycle: it is one sum from the start.
        let mut sums = restamp(self.query, &slices, |slice| match slice < first {
            true => (cycle(slice) == cycle(first)).then_some(stamp(first)),
            false => (slice <= last).then_some(stamp(slice)),
        })?;
        let mut span = 1;
        while span < self.cells.min(last - first + 1) {
            let later = |slice: i64| {
                (slice + span <= last && cycle(slice + span) == cycle(slice)).then_some(stamp(slice + span))
            };
            sums.extend(restamp(self.query, &sums, later)?);
            sums = self.query.reduce(sums).await?;
            span *= 2;
        }
        Ok(sums)
    }

    /// The bounds of the window of a number; `None` where a neighbour is the same window.
    fn bounds(self, number: i64) -> Option<Bounds> {
        match self.is_hop {
            true => opens(self.grid, number).then(|| (self.grid.mark(number), self.grid.mark(number + self.cells))),
            false => closes(self.grid, self.cells, number + 1)
                .then(|| (self.grid.mark(cycle_end(number, self.cells) - self.cells), self.grid.mark(number + 1))),
        }
    }

    /// The numbers of all slices, in order.
    fn numbers(self, state: &[RecordBatch]) -> Result<Vec<i64>> {
        let mut starts: Vec<Micros> = Vec::new();
        for batch in state {
            starts.extend(times(self.query, batch, self.query.window_start_column())?.values());
            starts.sort_unstable();
            starts.dedup();
        }
        Ok(starts.into_iter().map(|start| self.grid.last_mark(start)).collect())
    }
}

/// A number as both bounds.
fn stamp(number: i64) -> Bounds {
    (number, number)
}
