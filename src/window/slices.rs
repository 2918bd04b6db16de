//! Hops and cumulating windows from slices.
//!
//! The one law: a window's partial rows are those of the slices it covers, each exactly once; the slices themselves stay as
//! they are. Windows that close together share their work: slices are merged into blocks of 2, 4, 8, … (twice the rows of
//! the slices in all), and a window is put together from the few blocks that make it up, as in a segment tree. So a window
//! costs the logarithm of its slices, and a commit runs as many merges. (Prefixes and suffixes of blocks, as van Herk, Gil
//! and Werman do it, would take a constant number of merges of each row, but one after the other: as many runs of a plan as
//! a window has slices.)
//!
//! While windows are put together, both bounds of a partial row are the number of a slice, a block or a window: groups to a
//! merge, no times.

use std::collections::HashMap;
use std::ops::Range;

use arrow::array::UInt64Array;
use arrow::compute::{concat_batches, take_record_batch};
use arrow::record_batch::RecordBatch;

use super::stamp::{Bounds, restamp, times, with_bounds};
use crate::clock::Micros;
use crate::error::{Context, Result};
use crate::sql::{Grid, WindowShape, WindowedQuery, closes, cycle_end, opens};

/// Up to so many windows go through the slices themselves: blocks would cost more than they save.
const FEW_WINDOWS: usize = 2;

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
        let numbered = restamp(self.query, state, |start| {
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
        let windows: Vec<Cover> = match self.is_hop {
            true => (first..=last).map(|number| Cover { number, slices: number..number + self.cells }).collect(),
            false => {
                let cycle = |slice: i64| cycle_end(slice, self.cells) - self.cells;
                (first..=last).map(|number| Cover { number, slices: cycle(number).max(first)..number + 1 }).collect()
            }
        };
        let windows = self.combine(numbered, &windows).await?;
        restamp(self.query, &windows, |number| self.bounds(number))
    }

    /// Marks between which at most `windows` windows that hold a row end, from `after` on; then `until`.
    pub(super) fn pauses(
        self,
        state: &[RecordBatch],
        after: Option<Micros>,
        until: Micros,
        windows: usize,
    ) -> Result<Vec<Micros>> {
        let numbers = self.numbers(state)?;
        let (Some(oldest), Some(newest)) = (numbers.first(), numbers.last()) else { return Ok(vec![until]) };
        let step = i64::try_from(windows.max(1)).unwrap_or(i64::MAX);
        // A window ends at every mark behind the oldest slice.
        let first = after.map_or(*oldest, |after| self.grid.last_mark(after).max(*oldest));
        let last = self.grid.last_mark(until).min(self.last_end(*newest));
        let mut pauses = Vec::new();
        let mut next = first.saturating_add(step);
        while next < last {
            pauses.push(self.grid.mark(next));
            next = next.saturating_add(step);
        }
        pauses.push(until);
        Ok(pauses)
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

    /// The rows of each window, stamped with its number, from those of slices stamped with theirs.
    async fn combine(self, slices: Vec<RecordBatch>, windows: &[Cover]) -> Result<Vec<RecordBatch>> {
        let longest = windows.iter().map(|window| window.slices.end - window.slices.start).max().unwrap_or(1);
        let top = if windows.len() <= FEW_WINDOWS { 0 } else { longest.max(1).ilog2() };
        let (mut blocks, mut parts) = (slices, Vec::new());
        for level in 0..=top {
            if level > 0 {
                let pairs = restamp(self.query, &blocks, |number| Some(stamp(number >> 1)))?;
                blocks = self.query.reduce(pairs).await?;
            }
            parts.extend(self.spread(&blocks, windows, level, top)?);
        }
        Ok(parts)
    }

    /// Copies the rows of blocks of `2^level` slices to every window that takes them.
    fn spread(self, blocks: &[RecordBatch], windows: &[Cover], level: u32, top: u32) -> Result<Option<RecordBatch>> {
        let Some(first) = blocks.first() else { return Ok(None) };
        let doing = || format!("putting windows of `{}` together", self.query.name());
        let rows = concat_batches(&first.schema(), blocks).context(doing)?;
        let numbers = times(self.query, &rows, self.query.window_start_column())?;
        let mut rows_of: HashMap<i64, Vec<u64>> = HashMap::new();
        for (row, number) in (0..).zip(numbers.values()) {
            rows_of.entry(*number).or_default().push(row);
        }
        let (mut taken, mut stamps) = (Vec::new(), Vec::new());
        for window in windows {
            for block in window.blocks(level, top).filter_map(|block| rows_of.get(&block)) {
                taken.extend_from_slice(block);
                stamps.resize(taken.len(), stamp(window.number));
            }
        }
        let rows = take_record_batch(&rows, &UInt64Array::from(taken)).context(doing)?;
        with_bounds(self.query, &rows, &stamps).map(Some)
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

/// A window that closes: its number, and the slices it covers.
#[derive(Clone, Debug)]
struct Cover {
    number: i64,
    slices: Range<i64>,
}

impl Cover {
    /// The blocks of `2^level` slices that lie in the window, but not in a greater block that does; none is greater than
    /// those of the `top` level.
    fn blocks(&self, level: u32, top: u32) -> impl Iterator<Item = i64> + use<> {
        let (first, end) = ((self.slices.start + (1 << level) - 1) >> level, self.slices.end >> level);
        let is_whole = |block: i64| first <= block >> 1 << 1 && (block >> 1 << 1) + 2 <= end;
        // Only the outermost ones can be without their sibling.
        let alone = |block: i64| (first < end && !is_whole(block)).then_some(block);
        let (all, left, right) = match level == top {
            true => (first..end, None, None),
            false => (0..0, alone(first), alone(end - 1).filter(|last| *last != first)),
        };
        all.chain(left).chain(right)
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
    use crate::clock::MICROS_PER_SECOND;
    use crate::sql::testing::{NOON, rows, shown, windowed};

    #[tokio::test]
    async fn windows_closed_in_pieces_are_those_closed_at_once() {
        for call in [
            "HOP(transactions, event_time, INTERVAL '1 minute'",
            "CUMULATE(transactions, event_time, INTERVAL '1 minute'",
        ] {
            let windows = format!("{call}, INTERVAL '7 minutes')");
            let text = format!(
                "CREATE MATERIALIZED VIEW q AS SELECT a.window_start, a.window_end, CAST(a.window_start AS DATE) AS event_date, \
                 a.transaction_id AS one, b.transaction_id AS two FROM {windows} a JOIN {windows} b ON a.window_start = \
                 b.window_start AND a.window_end = b.window_end AND a.card_token = b.card_token"
            );
            let query = windowed(&text).await;
            let state = query.partial(&[rows(3, 200, false)]).await.unwrap();
            let slices = Slices::of(&query).unwrap();
            for (after, minutes) in [(None, 60), (None, 11), (Some(NOON + 240 * MICROS_PER_SECOND), 20)] {
                let until = NOON + minutes * 60 * MICROS_PER_SECOND;
                let whole = query.finish(slices.close(&state, after, until).await.unwrap()).await.unwrap();
                assert!(!whole.is_empty());
                for windows in [1, 3, 1_000] {
                    let (mut pieces, mut from) = (Vec::new(), after);
                    let pauses = slices.pauses(&state, after, until, windows).unwrap();
                    assert_eq!(pauses.len() > 1, windows < 1_000, "{windows} windows at once");
                    for pause in pauses {
                        let partials = slices.close(&state, from, pause).await.unwrap();
                        pieces.extend(query.finish(partials).await.unwrap());
                        from = Some(pause);
                    }
                    assert_eq!(shown(&pieces), shown(&whole));
                }
            }
        }
    }

    proptest! {
        #[test]
        fn the_blocks_of_a_window_hold_each_of_its_slices_once(start in -5_000i64..5_000, cells in 1i64..700, flat: bool) {
            let window = Cover { number: 0, slices: start..start + cells };
            let top = if flat { 0 } else { cells.ilog2() };
            let (mut found, mut blocks) = (Vec::new(), 0);
            for level in 0..=top {
                for block in window.blocks(level, top) {
                    blocks += 1;
                    found.extend(block << level..(block + 1) << level);
                }
            }
            found.sort_unstable();
            prop_assert_eq!(found, window.slices.collect::<Vec<_>>());
            prop_assert!(flat || blocks <= 2 * (top + 1));
        }
    }
}
