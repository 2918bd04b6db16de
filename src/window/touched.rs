//! Which closed windows a late row belongs to, and which rows a range of windows is made of: what a restatement asks.
//!
//! The one law: the answers are ranges of `window_start`, half-open, and may hold more windows than were asked for, never
//! fewer: to restate a closed window once too often costs time, to leave one out costs the truth. Sessions have no such
//! ranges: what a late row does to them, only their rows tell.

use super::{WindowShape, WindowSpec};
use crate::clock::Micros;
use crate::sql::TimeRange;

/// The closed windows that hold a time in `times`, as a range of `window_start`; `None` when none of them has closed.
///
/// `times` are event times of late rows, or, for a view over another view, the windows restated in its parent.
pub fn closed_windows_of(window: WindowSpec, times: TimeRange, closed_until: Option<Micros>) -> Option<TimeRange> {
    if matches!(window.shape(), WindowShape::Session { .. }) {
        return None;
    }
    let TimeRange { from, to } = windows_of(window, times);
    let to = to.min(starts_through(window, closed_until?));
    (from < to).then_some(TimeRange { from, to })
}

/// The windows that hold a time in `times`, closed or not, as a range of `window_start`; of sessions the times themselves.
pub fn windows_of(window: WindowSpec, times: TimeRange) -> TimeRange {
    match window.shape() {
        WindowShape::Session { .. } => times,
        _ => TimeRange { from: first_start_of(window, times.from), to: next_start(window, times.to.saturating_sub(1)) },
    }
}

/// The event times of the closed windows whose start lies in `starts`.
pub fn times_of(window: WindowSpec, starts: TimeRange, closed_until: Micros) -> TimeRange {
    TimeRange { from: starts.from, to: last_end_of(window, starts.to.saturating_sub(1)).min(closed_until) }
}

/// The start of the first window a time falls into.
pub fn first_start_of(window: WindowSpec, time: Micros) -> Micros {
    window.windows_of(time).map(|(start, _)| start).min().unwrap_or(time)
}

/// The start of the last window that starts at or before a time.
pub fn last_start_of(window: WindowSpec, time: Micros) -> Micros {
    window.windows_of(time).map(|(start, _)| start).max().unwrap_or(time)
}

/// The first window that starts at or after a time: where it starts.
pub fn first_start_from(window: WindowSpec, time: Micros) -> Micros {
    if last_start_of(window, time) < time { next_start(window, time) } else { time }
}

/// The end of the last window that starts before the window that starts at `start`.
pub fn end_before(window: WindowSpec, start: Micros) -> Micros {
    last_end_of(window, start.saturating_sub(1))
}

/// Every window that ends at or before `until` starts before this. (Of windows that share a start, all do when one does.)
pub fn starts_through(window: WindowSpec, until: Micros) -> Micros {
    let open = window.counted_from(Some(until));
    match window.shape() {
        WindowShape::Cumulate { .. } if window.windows_of(open).any(|(_, end)| end <= until) => {
            last_end_of(window, open)
        }
        _ => open,
    }
}

/// Of windows that share a start: the range of `window_start` of those that contain `until` or begin there, of which later
/// ones have not closed. `None` of other windows, which close all at once.
pub fn growing_at(window: WindowSpec, until: Micros) -> Option<TimeRange> {
    let from = window.counted_from(Some(until));
    matches!(window.shape(), WindowShape::Cumulate { .. }).then(|| TimeRange { from, to: last_end_of(window, from) })
}

/// Where the first window starts that starts after a time.
fn next_start(window: WindowSpec, time: Micros) -> Micros {
    match window.shape() {
        WindowShape::Cumulate { .. } => last_end_of(window, time),
        _ => window.slice_of(time).1,
    }
}

/// The end of the last window a time falls into.
fn last_end_of(window: WindowSpec, time: Micros) -> Micros {
    window.windows_of(time).map(|(_, end)| end).max().unwrap_or(time)
}

/// The same windows in as few ranges as possible: in order, those that touch or overlap joined.
pub fn joined(mut ranges: Vec<TimeRange>) -> Vec<TimeRange> {
    ranges.sort_unstable_by_key(|range| (range.from, range.to));
    let mut joined: Vec<TimeRange> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match joined.last_mut() {
            Some(last) if range.from <= last.to => last.to = last.to.max(range.to),
            _ => joined.push(range),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sql::Grid;

    fn range(from: Micros, to: Micros) -> TimeRange {
        TimeRange { from, to }
    }

    #[test]
    fn the_window_of_a_late_row_is_named_once_it_has_closed() {
        let tens = WindowSpec::tumble(10, 0).unwrap();
        assert_eq!(closed_windows_of(tens, range(25, 26), Some(30)), Some(range(20, 30)));
        assert_eq!(closed_windows_of(tens, range(25, 26), Some(29)), None);
        assert_eq!(closed_windows_of(tens, range(25, 26), None), None);
        // Of several windows the closed ones; a time at a window's end is the next one's.
        assert_eq!(closed_windows_of(tens, range(5, 45), Some(30)), Some(range(0, 30)));
        assert_eq!(closed_windows_of(tens, range(20, 30), Some(100)), Some(range(20, 30)));
        assert_eq!(times_of(tens, range(20, 40), 30), range(20, 30));
        assert_eq!((first_start_from(tens, 20), first_start_from(tens, 21), end_before(tens, 20)), (20, 30, 20));
    }

    #[test]
    fn windows_that_grow_close_one_after_the_other() {
        let grid = Grid::fixed(10, 0).unwrap();
        let growing = WindowSpec::cumulating(grid, 50).unwrap();
        assert_eq!(growing_at(growing, 30), Some(range(0, 50)));
        assert_eq!(growing_at(growing, 50), Some(range(50, 100)));
        assert_eq!(growing_at(WindowSpec::hopping(grid, 50).unwrap(), 30), None);
    }

    proptest! {
        /// The same for windows that overlap or grow: the oracle looks at every window of every time.
        #[test]
        fn every_closed_hop_and_step_of_a_time_is_in_the_range(time in -200i64..200, cell in 1i64..20, cells in 1i64..8, until in -300i64..300, grows: bool) {
            let grid = Grid::fixed(cell, 0).unwrap();
            let window = if grows { WindowSpec::cumulating(grid, cell * cells) } else { WindowSpec::hopping(grid, cell * cells) }.unwrap();
            let closed: Vec<(Micros, Micros)> = window.windows_of(time).filter(|(_, end)| *end <= until).collect();
            let touched = closed_windows_of(window, range(time, time + 1), Some(until));
            prop_assert!(!closed.is_empty() || touched.is_none_or(|r| window.windows_of(r.from).any(|(_, end)| end <= until)));
            for (start, end) in closed {
                let touched = touched.expect("a closed window of the time");
                prop_assert!(touched.from <= start && start < touched.to, "{start} in {touched:?}");
                let times = times_of(window, touched, until);
                prop_assert!(times.from <= start && end <= times.to && times.to <= until, "{start}..{end} in {times:?}");
                prop_assert!(start < starts_through(window, until) && end_before(window, start) < end_before(window, start + cell * cells));
            }
        }

        /// The oracle walks over every window there can be.
        #[test]
        fn every_closed_window_of_a_time_is_in_the_range(times in prop::collection::vec(-300i64..300, 1..20), size in 1i64..60, offset in 0i64..60, until in -300i64..300) {
            let window = WindowSpec::tumble(size, offset).unwrap();
            let touched = joined(times.iter().filter_map(|&t| closed_windows_of(window, range(t, t + 1), Some(until))).collect());
            for time in -300..300 {
                let start = window.slice_of(time).0;
                let expected = start + size <= until && times.iter().any(|t| window.slice_of(*t).0 == start);
                prop_assert_eq!(touched.iter().any(|r| r.from <= start && start < r.to), expected);
            }
            for pair in touched.windows(2) {
                prop_assert!(pair[0].to < pair[1].from);
            }
        }
    }
}
