//! Which closed windows a late row belongs to, and which rows a range of windows is made of: what a restatement asks.
//!
//! The one law: the answers are ranges of `window_start`, half-open, and may hold more windows than were asked for, never
//! fewer: to restate a closed window once too often costs time, to leave one out costs the truth.

use super::WindowSpec;
use crate::clock::Micros;
use crate::sql::TimeRange;

/// The closed windows that hold a time in `times`, as a range of `window_start`; `None` when none of them has closed.
///
/// `times` are event times of late rows, or, for a view over another view, the windows restated in its parent.
pub fn closed_windows_of(window: WindowSpec, times: TimeRange, closed_until: Option<Micros>) -> Option<TimeRange> {
    let from = window.start_of(times.from);
    let to = window.end_of(times.to.saturating_sub(1)).min(first_open_start(window, closed_until?));
    (from < to).then_some(TimeRange { from, to })
}

/// The event times of the closed windows whose start lies in `starts`.
pub fn times_of(window: WindowSpec, starts: TimeRange, closed_until: Micros) -> TimeRange {
    let to = window.end_of(starts.to.saturating_sub(1)).min(closed_until);
    TimeRange { from: starts.from, to }
}

/// The first window that starts at or after a time: where it starts.
pub fn first_start_from(window: WindowSpec, time: Micros) -> Micros {
    let start = window.start_of(time);
    if start < time { window.end_of(time) } else { start }
}

/// The end of the last window that starts before the window that starts at `start`.
pub fn end_before(window: WindowSpec, start: Micros) -> Micros {
    window.end_of(start.saturating_sub(1))
}

/// Where the first window starts that ends after `closed_until`.
fn first_open_start(window: WindowSpec, closed_until: Micros) -> Micros {
    window.start_of(closed_until)
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

    proptest! {
        /// The oracle walks over every window there can be.
        #[test]
        fn every_closed_window_of_a_time_is_in_the_range(times in prop::collection::vec(-300i64..300, 1..20), size in 1i64..60, offset in 0i64..60, until in -300i64..300) {
            let window = WindowSpec::tumble(size, offset).unwrap();
            let touched = joined(times.iter().filter_map(|&t| closed_windows_of(window, range(t, t + 1), Some(until))).collect());
            for time in -300..300 {
                let start = window.start_of(time);
                let expected = start + size <= until && times.iter().any(|t| window.start_of(*t) == start);
                prop_assert_eq!(touched.iter().any(|r| r.from <= start && start < r.to), expected);
            }
            for pair in touched.windows(2) {
                prop_assert!(pair[0].to < pair[1].from);
            }
        }
    }
}
