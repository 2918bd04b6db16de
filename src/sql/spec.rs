//! Windows as arithmetic on event times.
//!
//! The one law: these few functions are the only place that knows which window a time falls into. The SQL function
//! behind `TUMBLE`, the late test and the closing of windows all call them, so they cannot disagree.
//! No state, no clock, no rows.

use crate::clock::Micros;

/// Which windows an event time falls into.
///
/// Windows tumble: half-open, equally long, without gap or overlap. Windows that overlap (hops) will make "the window of
/// a time" several; whatever would change then asks [`WindowSpec::is_late`] and not for a window's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowSpec {
    size: Micros,
    offset: Micros,
}

impl WindowSpec {
    /// Windows `[offset + n·size, offset + (n+1)·size)` for every whole `n`; `None` unless `size` is positive.
    pub fn tumble(size: Micros, offset: Micros) -> Option<Self> {
        (size > 0).then(|| Self { size, offset: offset.rem_euclid(size) })
    }

    /// Length of a window, microseconds.
    pub fn size(&self) -> Micros {
        self.size
    }

    /// Where the first window after 1970-01-01T00:00:00Z starts, in `[0, size)`.
    pub fn offset(&self) -> Micros {
        self.offset
    }

    /// Start (inclusive) of the window `event_time` falls into. Total: saturates at the ends of the time line.
    #[inline]
    pub fn start_of(&self, event_time: Micros) -> Micros {
        event_time.saturating_sub(event_time.saturating_sub(self.offset).rem_euclid(self.size))
    }

    /// End (exclusive) of the window `event_time` falls into.
    #[inline]
    pub fn end_of(&self, event_time: Micros) -> Micros {
        self.start_of(event_time).saturating_add(self.size)
    }

    /// Whether a row of this time is refused by a window: that window's end is at or before `closed_until`.
    ///
    /// `closed_until` is the one recorded before the row's epoch; `None` while nothing has been closed.
    pub fn is_late(&self, event_time: Micros, closed_until: Option<Micros>) -> bool {
        event_time < self.on_time_from(closed_until)
    }

    /// The least event time that no closed window refuses: start of the first window whose end is after `closed_until`.
    pub fn on_time_from(&self, closed_until: Option<Micros>) -> Micros {
        closed_until.map_or(Micros::MIN, |until| self.start_of(until))
    }

    /// The end of the last window that may close at this watermark: the greatest `end` with
    /// `watermark >= end + allowed_lateness`.
    pub fn closed_until(&self, watermark: Micros, allowed_lateness: Micros) -> Micros {
        self.start_of(watermark.saturating_sub(allowed_lateness))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn minutes() -> WindowSpec {
        WindowSpec::tumble(60_000_000, 0).unwrap()
    }

    #[test]
    fn a_window_is_half_open_on_both_sides_of_1970() {
        assert_eq!(minutes().start_of(0), 0);
        assert_eq!(minutes().start_of(59_999_999), 0);
        assert_eq!(minutes().start_of(60_000_000), 60_000_000);
        assert_eq!(minutes().start_of(-1), -60_000_000);
        assert_eq!(minutes().end_of(-1), 0);
        assert_eq!(minutes().start_of(-60_000_000), -60_000_000);
    }

    #[test]
    fn a_size_of_nothing_is_no_window() {
        assert_eq!(WindowSpec::tumble(0, 0), None);
        assert_eq!(WindowSpec::tumble(-1, 0), None);
    }

    #[test]
    fn a_row_is_late_when_its_window_has_closed() {
        let closed = Some(120_000_000);
        assert!(minutes().is_late(119_999_999, closed));
        assert!(!minutes().is_late(120_000_000, closed));
        assert!(!minutes().is_late(Micros::MIN, None));
    }

    #[test]
    fn a_window_closes_when_the_watermark_has_passed_its_end_by_the_allowed_lateness() {
        assert_eq!(minutes().closed_until(130_000_000, 10_000_000), 120_000_000);
        assert_eq!(minutes().closed_until(129_999_999, 10_000_000), 60_000_000);
    }

    proptest! {
        /// The oracle walks: it never divides.
        #[test]
        fn starts_agree_with_a_walk_from_the_offset(time in -5_000i64..5_000, size in 1i64..700, offset in -900i64..900) {
            let spec = WindowSpec::tumble(size, offset).unwrap();
            let mut start = offset;
            while start > time { start -= size; }
            while start + size <= time { start += size; }
            prop_assert_eq!(spec.start_of(time), start);
            prop_assert_eq!(spec.end_of(time), start + size);
        }

        #[test]
        fn late_is_the_formula_of_the_books(time in -5_000i64..5_000, size in 1i64..700, offset in -900i64..900, until in -5_000i64..5_000) {
            let spec = WindowSpec::tumble(size, offset).unwrap();
            prop_assert_eq!(spec.is_late(time, Some(until)), spec.end_of(time) <= until);
        }

        #[test]
        fn no_time_panics(time: i64, size in 1i64.., offset: i64, until: i64, lateness in 0i64..) {
            let spec = WindowSpec::tumble(size, offset).unwrap();
            prop_assert!(spec.start_of(time) <= spec.end_of(time));
            let closed = spec.closed_until(until, lateness);
            prop_assert!(closed <= until);
        }
    }
}
