//! Hops and cumulating windows from slices.
//!
//! The one law: a window's partial rows are those of the slices it covers, each exactly once; the slices themselves stay as
//! they are. Windows that close together share their work: slices are merged into blocks of 4, 16, 64, … (a third more rows
//! than the slices have), and a window is put together from the few blocks that make it up, as in a segment tree. So a window
//! costs the logarithm of its slices, and a commit runs half as many merges. (Prefixes and suffixes of blocks, as van Herk,
//! Gil and Werman do it, would take a constant number of merges of each row, but one after the other: as many runs of a plan
//! as a window has slices. Blocks of 2, 4, 8, … take twice the runs and save no rows.)
//!
//! What comes out has the rows of a slice once for each window that covers it, so it is given out in pieces of some
//! thousand rows, whole windows each: memory is bounded by what is open, not by what closes.
//!
//! While blocks are merged, both bounds of a partial row are the number of a slice or a block: groups to a merge, no times.

use std::collections::{BTreeSet, VecDeque};
use std::ops::Range;

use arrow::array::UInt64Array;
use arrow::compute::kernels::aggregate;
use arrow::compute::{concat_batches, take_record_batch};
use arrow::record_batch::RecordBatch;
use hashbrown::HashMap;

use super::stamp::{Bounds, restamp, times, with_bounds};
use crate::clock::Micros;
use crate::error::{Context, Result};
use crate::sql::{Grid, WindowShape, WindowedQuery, closes, cycle_end, opens};

/// Up to so many windows go through the slices themselves: blocks would cost more than they save.
const FEW_WINDOWS: usize = 2;

/// Slices, or blocks, that are merged into the next larger block: 2 to the power of this.
const BLOCK_BITS: u32 = 2;

/// Partial rows of one piece, unless a single window has more: eight of DataFusion's batches, a few megabytes.
const PIECE_ROWS: usize = 65_536;

/// The slices of one query whose windows are combined from them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slices<'a> {
    query: &'a WindowedQuery,
    grid: Grid,
    /// Slices a window, or a cycle of windows, is made of.
    cells: i64,
    is_hop: bool,
}

/// Windows that have closed, not put together yet.
#[derive(Debug)]
pub(super) struct Combined {
    /// By level: rows of slices, and of ever larger blocks of them.
    levels: Vec<Level>,
    /// What is still to be put together, in order.
    windows: VecDeque<Cover>,
}

/// Partial rows of blocks of one size.
#[derive(Debug)]
struct Level {
    rows: RecordBatch,
    rows_of: HashMap<i64, Vec<u64>>,
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

    /// All windows with `after < end <= until` that hold a row; [`Slices::next_piece`] gives their partial rows.
    pub(super) async fn close(self, state: &[RecordBatch], after: Option<Micros>, until: Micros) -> Result<Combined> {
        let none = Combined { levels: Vec::new(), windows: VecDeque::new() };
        let numbers = self.numbers(state)?;
        let (Some(oldest), Some(newest)) = (numbers.first().copied(), numbers.last().copied()) else {
            return Ok(none);
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
            return Ok(none);
        }
        let mut slices = restamp(self.query, state, |start| {
            let number = self.grid.last_mark(start);
            match self.is_hop {
                true => (first..last + self.cells).contains(&number).then_some(stamp(number)),
                // What was there before the first window belongs to all that close in its cycle: to its first slice.
                false if number < first => {
                    (cycle_end(number, self.cells) == cycle_end(first, self.cells)).then_some(stamp(first))
                }
                false => (number <= last).then_some(stamp(number)),
            }
        })?;
        if !self.is_hop && oldest < first {
            // Every window of the cycle takes these rows: as few as there are groups.
            slices = self.query.reduce(slices).await?;
        }
        let numbers: BTreeSet<i64> = match self.is_hop {
            true => numbers,
            false => numbers.into_iter().map(|number| number.max(first)).collect(),
        };
        let windows = self.covers(&numbers, first, last);
        Ok(Combined { levels: self.levels(slices, &windows).await?, windows })
    }

    /// The windows from `first` to `last` that hold a slice.
    fn covers(self, numbers: &BTreeSet<i64>, first: i64, last: i64) -> VecDeque<Cover> {
        let cover = |number: i64| match self.is_hop {
            true => Cover { number, slices: number..number + self.cells },
            false => {
                let cycle = cycle_end(number, self.cells) - self.cells;
                Cover { number, slices: cycle.max(first)..number + 1 }
            }
        };
        let mut covers = VecDeque::new();
        let mut number = first;
        while number <= last {
            let window = cover(number);
            if numbers.range(window.slices.clone()).next().is_some() {
                covers.push_back(window);
                number += 1;
            } else {
                // Nothing happened for a while, which may be years: on to the first window of the next slice.
                let Some(next) = numbers.range(window.slices.end..).next() else { break };
                number = if self.is_hop { next - (self.cells - 1) } else { *next };
            }
        }
        covers
    }

    /// The partial rows of the next windows with their bounds, not merged to one a group, and how many windows these are;
    /// `None` once all have been given.
    pub(super) fn next_piece(self, closed: &mut Combined) -> Result<Option<(u64, Vec<RecordBatch>)>> {
        let Some(top) = closed.levels.len().checked_sub(1) else { return Ok(None) };
        let mut taken: Vec<(Vec<u64>, Vec<Bounds>)> = vec![(Vec::new(), Vec::new()); closed.levels.len()];
        let (mut windows, mut rows) = (0, 0);
        while let Some(window) = closed.windows.front() {
            if let Some(bounds) = self.bounds(window.number) {
                let mut parts = Vec::with_capacity(closed.levels.len());
                for (level, of_level) in (0..).zip(&closed.levels) {
                    let blocks = window.blocks(level, u32::try_from(top).unwrap_or(u32::MAX));
                    parts.push(blocks.filter_map(|block| of_level.rows_of.get(&block)).collect::<Vec<_>>());
                }
                let size: usize = parts.iter().flatten().map(|block| block.len()).sum();
                if windows > 0 && rows + size > PIECE_ROWS {
                    break;
                }
                rows += size;
                windows += u64::from(size > 0);
                for ((taken, stamps), blocks) in taken.iter_mut().zip(parts) {
                    blocks.into_iter().for_each(|block| taken.extend_from_slice(block));
                    stamps.resize(taken.len(), bounds);
                }
            }
            closed.windows.pop_front();
        }
        if windows == 0 {
            return Ok(None);
        }
        let mut partials = Vec::with_capacity(closed.levels.len());
        for (level, (taken, stamps)) in closed.levels.iter().zip(taken).filter(|(_, (taken, _))| !taken.is_empty()) {
            let rows = take_record_batch(&level.rows, &UInt64Array::from(taken));
            let rows = rows.context(|| format!("putting windows of `{}` together", self.query.name()))?;
            partials.push(with_bounds(self.query, &rows, &stamps)?);
        }
        Ok(Some((windows, partials)))
    }

    /// The state without slices that only closed windows cover.
    pub(super) fn still_open(self, state: &[RecordBatch], until: Micros) -> Result<Vec<RecordBatch>> {
        let until = self.grid.last_mark(until);
        let is_open = |start: Micros| self.last_end(self.grid.last_mark(start)) > until;
        let mut open = Vec::with_capacity(state.len());
        for batch in state {
            let starts = times(self.query, batch, self.query.window_start_column())?;
            let [oldest, newest] = [aggregate::min(&starts), aggregate::max(&starts)];
            if oldest.is_some_and(is_open) {
                open.push(batch.clone());
            } else if newest.is_some_and(is_open) {
                open.extend(restamp(self.query, std::slice::from_ref(batch), |start| {
                    is_open(start).then(|| (start, self.grid.mark(self.grid.last_mark(start) + 1)))
                })?);
            }
        }
        Ok(open)
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

    /// The rows of slices, and of the blocks of them that windows are put together from.
    async fn levels(self, slices: Vec<RecordBatch>, windows: &VecDeque<Cover>) -> Result<Vec<Level>> {
        let longest = windows.iter().map(|window| window.slices.end - window.slices.start).max().unwrap_or(1);
        let top = if windows.len() <= FEW_WINDOWS { 0 } else { longest.max(1).ilog2() / BLOCK_BITS };
        let (mut blocks, mut levels) = (slices, Vec::new());
        for level in 0..=top {
            if level > 0 {
                let joined = restamp(self.query, &blocks, |number| Some(stamp(number >> BLOCK_BITS)))?;
                blocks = self.query.reduce(joined).await?;
            }
            let Some(first) = blocks.first() else { break };
            let rows = concat_batches(&first.schema(), &blocks)
                .context(|| format!("putting windows of `{}` together", self.query.name()))?;
            let numbers = times(self.query, &rows, self.query.window_start_column())?;
            let mut rows_of: HashMap<i64, Vec<u64>> = HashMap::new();
            for (row, number) in (0..).zip(numbers.values()) {
                rows_of.entry(*number).or_default().push(row);
            }
            levels.push(Level { rows, rows_of });
        }
        Ok(levels)
    }

    /// The bounds of the window of a number; `None` where a neighbour is the same window.
    fn bounds(self, number: i64) -> Option<Bounds> {
        match self.is_hop {
            true => opens(self.grid, number).then(|| (self.grid.mark(number), self.grid.mark(number + self.cells))),
            false => closes(self.grid, self.cells, number + 1)
                .then(|| (self.grid.mark(cycle_end(number, self.cells) - self.cells), self.grid.mark(number + 1))),
        }
    }

    /// The numbers of all slices.
    fn numbers(self, state: &[RecordBatch]) -> Result<BTreeSet<i64>> {
        let mut numbers = BTreeSet::new();
        for batch in state {
            let starts = times(self.query, batch, self.query.window_start_column())?;
            // Rows of one slice mostly stand together.
            for run in starts.values().chunk_by(|a, b| a == b) {
                numbers.insert(self.grid.last_mark(run[0]));
            }
        }
        Ok(numbers)
    }
}

/// A window that closes: its number, and the slices it covers.
#[derive(Clone, Debug)]
struct Cover {
    number: i64,
    slices: Range<i64>,
}

impl Cover {
    /// The blocks of the level's size that lie in the window, but not in a larger block that does; none is larger than
    /// those of the `top` level.
    fn blocks(&self, level: u32, top: u32) -> impl Iterator<Item = i64> + use<> {
        let inside = |level: u32| {
            let bits = level * BLOCK_BITS;
            ((self.slices.start + (1 << bits) - 1) >> bits)..(self.slices.end >> bits)
        };
        let all = inside(level);
        // Those of larger blocks stand in one piece.
        let larger = match level < top {
            true => inside(level + 1),
            false => 0..0,
        };
        let (left, right) = match larger.is_empty() {
            true => (all, 0..0),
            false => (all.start..larger.start << BLOCK_BITS, larger.end << BLOCK_BITS..all.end),
        };
        left.chain(right)
    }
}

/// A number as both bounds.
fn stamp(number: i64) -> Bounds {
    (number, number)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_blocks_of_a_window_hold_each_of_its_slices_once(start in -5_000i64..5_000, cells in 1i64..700, flat: bool) {
            let window = Cover { number: 0, slices: start..start + cells };
            let top = if flat { 0 } else { cells.ilog2() / BLOCK_BITS };
            let (mut found, mut blocks) = (Vec::new(), 0);
            for level in 0..=top {
                for block in window.blocks(level, top) {
                    blocks += 1;
                    let bits = level * BLOCK_BITS;
                    found.extend(block << bits..(block + 1) << bits);
                }
            }
            found.sort_unstable();
            prop_assert_eq!(found, window.slices.collect::<Vec<_>>());
            prop_assert!(flat || blocks <= 2 * (1 << BLOCK_BITS) * (top + 1));
        }
    }
}
