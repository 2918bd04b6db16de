//! Windows as arithmetic on event times.
//!
//! The one law: these few functions are the only place that knows which windows a time falls into. The SQL functions
//! behind `TUMBLE`, `HOP`, `CUMULATE` and `SESSION`, the late test and the closing of windows all call them, so they
//! cannot disagree. No state, no clock, no rows.

use std::fmt;

use super::grid::Grid;
use super::interval::show_duration;
use crate::clock::Micros;

/// Cells a hop or a cumulating window may be made of: a day sliding by ten seconds has 8,640. Batch makes so many rows of
/// one, and closing a window looks at as many.
pub(super) const CELLS_MAX: i64 = 10_000;

/// Which windows an event time falls into. All of them are half-open, `[start, end)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WindowSpec(WindowShape);

/// The four kinds of windows.
///
/// The first three stand on a grid; a cell of it is a *slice*, the piece of time whose rows are folded once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WindowShape {
    /// Every cell is a window.
    Tumble(Grid),
    /// At every mark a window of `cells` cells begins.
    Hop { slides: Grid, cells: i64 },
    /// Every `cells` cells make a cycle; windows begin with it and end at each of its marks.
    Cumulate { steps: Grid, cells: i64 },
    /// Rows of one key of which none follows the one before by more than `gap`; ends `gap` after the last of them.
    Session { gap: Micros },
}

use WindowShape::{Cumulate, Hop, Session, Tumble};

impl WindowSpec {
    /// Windows `[offset + n·size, offset + (n+1)·size)` for every whole `n`; `None` unless `size` is positive.
    pub fn tumble(size: Micros, offset: Micros) -> Option<Self> {
        Grid::fixed(size, offset).map(Self::tumbling)
    }

    /// The cells of a grid.
    pub fn tumbling(windows: Grid) -> Self {
        Self(Tumble(windows.wound(windows.length())))
    }

    /// Windows of `size` that begin at every mark; `None` unless `size` is up to 10,000 cells, and whole ones.
    pub fn hopping(slides: Grid, size: Micros) -> Option<Self> {
        cells(slides, size).map(|cells| Self(Hop { slides: slides.wound(slides.length()), cells }))
    }

    /// Windows that begin every `size`, with the mark 0 among them, and end at each mark until the next begins; `None` as
    /// for [`WindowSpec::hopping`].
    pub fn cumulating(steps: Grid, size: Micros) -> Option<Self> {
        cells(steps, size).map(|cells| Self(Cumulate { steps: steps.wound(size), cells }))
    }

    /// Sessions; `None` unless `gap` is positive.
    pub fn session(gap: Micros) -> Option<Self> {
        (gap > 0).then_some(Self(Session { gap }))
    }

    /// What kind of windows these are.
    pub fn shape(&self) -> WindowShape {
        self.0
    }

    /// The name of the SQL function.
    pub fn function(&self) -> &'static str {
        match self.0 {
            Tumble(_) => "TUMBLE",
            Hop { .. } => "HOP",
            Cumulate { .. } => "CUMULATE",
            Session { .. } => "SESSION",
        }
    }

    /// Whether windows overlap or grow, so that what is folded from rows is not a window's answer yet.
    pub fn is_combined(&self) -> bool {
        !matches!(self.0, Tumble(_))
    }

    /// The slice of a row: the piece of time it is folded in, `[start, end)`. For a session the one of this row alone.
    pub fn slice_of(&self, event_time: Micros) -> (Micros, Micros) {
        match self.0 {
            Tumble(grid) | Hop { slides: grid, .. } | Cumulate { steps: grid, .. } => {
                let number = grid.last_mark(event_time);
                (grid.mark(number), grid.mark(number.saturating_add(1)))
            }
            Session { gap } => (event_time, event_time.saturating_add(gap)),
        }
    }

    /// The windows a time falls into, as `(start, end)`, in order of their ends; of a session the one of this row alone.
    pub fn windows_of(&self, event_time: Micros) -> impl Iterator<Item = (Micros, Micros)> + use<> {
        let spec = *self;
        let numbers = match self.0 {
            Tumble(_) | Session { .. } => 0..=0,
            Hop { slides, cells } => {
                let last = slides.last_mark(event_time);
                last.saturating_sub(cells - 1)..=last
            }
            Cumulate { steps, cells } => {
                let first = steps.last_mark(event_time).saturating_add(1);
                first..=cycle_end(first - 1, cells)
            }
        };
        numbers.filter_map(move |number| match spec.0 {
            Tumble(_) | Session { .. } => Some(spec.slice_of(event_time)),
            // A cell may be empty (a local day that never was): what begins or ends with it does so with the next one.
            Hop { slides, cells } => {
                opens(slides, number).then(|| (slides.mark(number), slides.mark(number.saturating_add(cells))))
            }
            Cumulate { steps, cells } => closes(steps, cells, number)
                .then(|| (steps.mark(cycle_end(number - 1, cells) - cells), steps.mark(number))),
        })
    }

    /// Whether a row of this time is refused by at least one of its windows: one that ends at or before `closed_until`.
    /// Of sessions every row up to `closed_until` is, so that none can touch a session that has closed.
    ///
    /// `closed_until` is the one recorded before the row's epoch; `None` while nothing has been closed.
    pub fn is_late(&self, event_time: Micros, closed_until: Option<Micros>) -> bool {
        event_time < self.on_time_from(closed_until)
    }

    /// The least event time that no closed window refuses.
    pub fn on_time_from(&self, closed_until: Option<Micros>) -> Micros {
        let Some(until) = closed_until else { return Micros::MIN };
        match self.0 {
            Tumble(grid) | Hop { slides: grid, .. } | Cumulate { steps: grid, .. } => grid.mark(grid.last_mark(until)),
            Session { .. } => until.saturating_add(1),
        }
    }

    /// The least event time that at least one window still takes: such rows are folded, late or not.
    pub fn counted_from(&self, closed_until: Option<Micros>) -> Micros {
        let Some(until) = closed_until else { return Micros::MIN };
        match self.0 {
            Tumble(_) | Session { .. } => self.on_time_from(closed_until),
            Hop { slides, cells } => slides.mark(slides.last_mark(until).saturating_sub(cells - 1)),
            Cumulate { steps, cells } => {
                let mark = steps.last_mark(until);
                steps.mark(mark.saturating_sub(mark.rem_euclid(cells)))
            }
        }
    }

    /// The end of the last window that may close at this watermark: the greatest `end` with
    /// `watermark >= end + allowed_lateness`. Sessions close a microsecond later, because a row exactly at a session's
    /// end still joins it.
    pub fn closed_until(&self, watermark: Micros, allowed_lateness: Micros) -> Micros {
        let passed = watermark.saturating_sub(allowed_lateness);
        match self.0 {
            Tumble(grid) | Hop { slides: grid, .. } | Cumulate { steps: grid, .. } => grid.mark(grid.last_mark(passed)),
            Session { .. } => passed.saturating_sub(1),
        }
    }
}

impl fmt::Display for WindowSpec {
    /// As one says it: `HOP 10 minutes sliding 10 seconds`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = |grid: Grid, cells: i64| show_duration(grid.length().saturating_mul(cells));
        match self.0 {
            Tumble(windows) => write!(f, "TUMBLE {windows}"),
            Hop { slides, cells } => write!(f, "HOP {} sliding {slides}", whole(slides, cells)),
            Cumulate { steps, cells } => write!(f, "CUMULATE {} in steps of {steps}", whole(steps, cells)),
            Session { gap } => write!(f, "SESSION with a gap of {}", show_duration(gap)),
        }
    }
}

fn cells(grid: Grid, size: Micros) -> Option<i64> {
    let cells = size / grid.length();
    (size % grid.length() == 0 && (1..=CELLS_MAX).contains(&cells)).then_some(cells)
}

/// The mark at which the cycle of a cell ends.
pub(crate) fn cycle_end(cell: i64, cells: i64) -> i64 {
    cell.saturating_sub(cell.rem_euclid(cells)).saturating_add(cells)
}

/// Whether a hop begins at this mark: the last one of those that are the same instant.
pub(crate) fn opens(slides: Grid, mark: i64) -> bool {
    slides.mark(mark) < slides.mark(mark.saturating_add(1))
}

/// Whether a cumulating window ends at this mark: the last mark of a cycle, or one that is before the next.
pub(crate) fn closes(steps: Grid, cells: i64, mark: i64) -> bool {
    mark.rem_euclid(cells) == 0 || opens(steps, mark)
}

#[cfg(test)]
mod tests {
    use chrono_tz::America;
    use proptest::prelude::*;

    use super::super::grid::MICROS_PER_DAY;
    use super::*;

    fn minutes() -> WindowSpec {
        WindowSpec::tumble(60_000_000, 0).unwrap()
    }

    fn hop(slide: Micros, size: Micros, offset: Micros) -> WindowSpec {
        WindowSpec::hopping(Grid::fixed(slide, offset).unwrap(), size).unwrap()
    }

    fn cumulate(step: Micros, size: Micros, offset: Micros) -> WindowSpec {
        WindowSpec::cumulating(Grid::fixed(step, offset).unwrap(), size).unwrap()
    }

    #[test]
    fn a_window_is_half_open_on_both_sides_of_1970() {
        assert_eq!(minutes().slice_of(0), (0, 60_000_000));
        assert_eq!(minutes().slice_of(59_999_999).0, 0);
        assert_eq!(minutes().slice_of(60_000_000).0, 60_000_000);
        assert_eq!(minutes().slice_of(-1), (-60_000_000, 0));
        assert_eq!(minutes().slice_of(-60_000_000).0, -60_000_000);
    }

    #[test]
    fn what_holds_nothing_or_does_not_fit_is_no_window() {
        let ten = Grid::fixed(10, 0).unwrap();
        assert_eq!(WindowSpec::tumble(0, 0), None);
        assert_eq!(WindowSpec::tumble(-1, 0), None);
        assert_eq!(WindowSpec::session(0), None);
        for size in [0, -10, 5, 25, 10 * (CELLS_MAX + 1)] {
            assert_eq!((WindowSpec::hopping(ten, size), WindowSpec::cumulating(ten, size)), (None, None), "{size}");
        }
    }

    #[test]
    fn a_row_falls_into_every_hop_that_covers_it_and_every_growing_window_that_has_not_ended() {
        let windows = |spec: WindowSpec, time| spec.windows_of(time).collect::<Vec<_>>();
        assert_eq!(windows(hop(10, 30, 0), 25), [(0, 30), (10, 40), (20, 50)]);
        assert_eq!(windows(cumulate(10, 40, 0), 15), [(0, 20), (0, 30), (0, 40)]);
        assert_eq!(windows(cumulate(10, 40, 25), 15), [(-15, 25)], "its offset shifts the whole");
        assert_eq!(windows(WindowSpec::session(5).unwrap(), 15), [(15, 20)]);
    }

    #[test]
    fn windows_say_what_they_are() {
        let (second, minute) = (1_000_000, 60_000_000);
        let days = Grid::days(MICROS_PER_DAY, America::New_York).unwrap();
        let shown = |spec: WindowSpec| spec.to_string();
        assert_eq!(shown(minutes()), "TUMBLE 1 minute");
        assert_eq!(shown(WindowSpec::tumble(minute, 15 * second).unwrap()), "TUMBLE 1 minute, shifted by 15 seconds");
        assert_eq!(shown(WindowSpec::tumbling(days)), "TUMBLE 1 day in America/New_York");
        assert_eq!(shown(hop(10 * second, 10 * minute, 0)), "HOP 10 minutes sliding 10 seconds");
        assert_eq!(shown(cumulate(minute, 60 * minute, 0)), "CUMULATE 1 hour in steps of 1 minute");
        assert_eq!(shown(WindowSpec::session(30 * minute).unwrap()), "SESSION with a gap of 30 minutes");
    }

    #[test]
    fn a_row_is_late_when_a_window_of_it_has_closed() {
        let closed = Some(120_000_000);
        assert!(minutes().is_late(119_999_999, closed));
        assert!(!minutes().is_late(120_000_000, closed));
        assert!(!minutes().is_late(Micros::MIN, None));
        // Of three hops one has closed: late, and still counted by the other two.
        assert!(hop(10, 30, 0).is_late(25, Some(30)));
        assert_eq!(hop(10, 30, 0).counted_from(Some(30)), 10);
        let session = WindowSpec::session(10).unwrap();
        assert!(session.is_late(30, Some(30)) && !session.is_late(31, Some(30)));
    }

    #[test]
    fn a_window_closes_when_the_watermark_has_passed_its_end_by_the_allowed_lateness() {
        assert_eq!(minutes().closed_until(130_000_000, 10_000_000), 120_000_000);
        assert_eq!(minutes().closed_until(129_999_999, 10_000_000), 60_000_000);
        assert_eq!(hop(10, 30, 0).closed_until(45, 5), 40);
        assert_eq!(WindowSpec::session(10).unwrap().closed_until(45, 5), 39);
    }

    /// Every window near zero, found by walking: no division.
    fn walked(spec: WindowSpec, offset: Micros) -> Vec<(Micros, Micros)> {
        let (cell, cells) = match spec.shape() {
            Tumble(grid) => (grid.length(), 1),
            Hop { slides: grid, cells } | Cumulate { steps: grid, cells } => (grid.length(), cells),
            Session { .. } => unreachable!("sessions stand nowhere"),
        };
        let mut windows = Vec::new();
        // A cumulating cycle begins at the offset; so does a slide.
        let stride = if matches!(spec.shape(), Cumulate { .. }) { cell * cells } else { cell };
        let mut start = offset;
        while start > -20_000 {
            start -= stride;
        }
        while start < 20_000 {
            match spec.shape() {
                Cumulate { .. } => windows.extend((1..=cells).map(|ends| (start, start + ends * cell))),
                _ => windows.push((start, start + cell * cells)),
            }
            start += stride;
        }
        windows
    }

    fn specs() -> impl Strategy<Value = (WindowSpec, Micros)> {
        (1i64..300, -900i64..900, 1i64..12, 0u8..3).prop_map(|(cell, offset, cells, kind)| {
            let spec = match kind {
                0 => WindowSpec::tumble(cell, offset).unwrap(),
                1 => hop(cell, cell * cells, offset),
                _ => cumulate(cell, cell * cells, offset),
            };
            (spec, offset)
        })
    }

    proptest! {
        #[test]
        fn the_windows_of_a_time_are_those_a_walk_finds((spec, offset) in specs(), time in -5_000i64..5_000) {
            let mut expected: Vec<_> =
                walked(spec, offset).into_iter().filter(|(start, end)| (*start..*end).contains(&time)).collect();
            expected.sort_by_key(|(start, end)| (*end, *start));
            prop_assert_eq!(spec.windows_of(time).collect::<Vec<_>>(), expected);
        }

        #[test]
        fn late_and_counted_are_the_formula_of_the_books((spec, offset) in specs(), time in -5_000i64..5_000, until in -5_000i64..5_000) {
            let ends: Vec<Micros> = walked(spec, offset)
                .into_iter()
                .filter(|(start, end)| (*start..*end).contains(&time))
                .map(|(_, end)| end)
                .collect();
            prop_assert_eq!(spec.is_late(time, Some(until)), ends.iter().any(|end| *end <= until));
            prop_assert_eq!(time >= spec.counted_from(Some(until)), ends.iter().any(|end| *end > until));
        }

        #[test]
        fn what_may_close_is_the_last_end_the_watermark_has_passed((spec, offset) in specs(), watermark in -5_000i64..5_000, lateness in 0i64..500) {
            let last = walked(spec, offset).into_iter().map(|(_, end)| end).filter(|end| *end + lateness <= watermark).max();
            prop_assert_eq!(Some(spec.closed_until(watermark, lateness)), last);
        }

        #[test]
        fn no_time_panics(time: i64, length in 1i64.., offset: i64, cells in 1i64..20, until: i64, lateness in 0i64.., gap in 1i64..) {
            let grid = Grid::fixed(length / cells + 1, offset).unwrap();
            let size = grid.length().saturating_mul(cells);
            let days = Grid::days(cells * MICROS_PER_DAY, America::New_York).unwrap();
            let specs = [
                WindowSpec::tumble(length, offset),
                WindowSpec::hopping(grid, size),
                WindowSpec::cumulating(grid, size),
                WindowSpec::session(gap),
                Some(WindowSpec::tumbling(days)),
                WindowSpec::hopping(days, 3 * cells * MICROS_PER_DAY),
                WindowSpec::cumulating(days, 3 * cells * MICROS_PER_DAY),
            ];
            for spec in specs.into_iter().flatten() {
                let (start, end) = spec.slice_of(time);
                prop_assert!(start <= time && (time < end || end == Micros::MAX));
                prop_assert!(spec.windows_of(time).all(|(start, end)| start <= time && (time < end || end == Micros::MAX)));
                prop_assert!(spec.closed_until(until, lateness) <= until);
                prop_assert!(spec.counted_from(Some(until)) <= spec.on_time_from(Some(until)));
            }
        }
    }
}
