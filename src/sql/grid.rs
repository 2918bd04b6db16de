//! Marks on the time line: where windows may begin and end.
//!
//! The one law: marks are numbered by whole numbers and never fall, so everything else about windows is arithmetic on
//! numbers of marks. Days of a time zone are 23, 24 or 25 hours long (and once in a while none), which nobody but this file
//! has to know. Total at the ends of the time line: what cannot be said saturates.

use std::fmt;

use chrono::{DateTime, NaiveDate, NaiveTime, TimeDelta, TimeZone};
use chrono_tz::{GapInfo, Tz};

use super::interval::show_duration;
use crate::clock::{MICROS_PER_SECOND, Micros};

/// Microseconds of 24 hours.
pub(super) const MICROS_PER_DAY: Micros = 24 * 60 * 60 * MICROS_PER_SECOND;

/// Equally long cells between marks: so many microseconds, or so many days of a time zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Grid {
    /// Length of a cell; of days of a time zone, the length they have without a change of clocks.
    length: Micros,
    place: Place,
}

/// Where a grid's marks stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// The mark 0 is this long after 1970-01-01T00:00:00Z.
    Offset(Micros),
    /// The mark 0 is midnight before 1970-01-01 in this zone.
    Zone(Tz),
}

impl Grid {
    /// Marks `offset + n·length`; `None` unless `length` is positive.
    pub fn fixed(length: Micros, offset: Micros) -> Option<Self> {
        (length > 0).then_some(Self { length, place: Place::Offset(offset) })
    }

    /// Every so many local midnights of a zone, counted from 1970-01-01; `None` unless `length` is whole days. A midnight
    /// that clocks skip is the first instant after it, one they show twice is the first of both.
    pub fn days(length: Micros, zone: Tz) -> Option<Self> {
        (length > 0 && length % MICROS_PER_DAY == 0).then_some(Self { length, place: Place::Zone(zone) })
    }

    /// Marks at these places, `None` as for [`Grid::fixed`] and [`Grid::days`].
    pub(super) fn at_place(length: Micros, place: Place) -> Option<Self> {
        match place {
            Place::Offset(offset) => Self::fixed(length, offset),
            Place::Zone(zone) => Self::days(length, zone),
        }
    }

    /// The same marks, the mark 0 being the first one in `[0, period)`: what tells windows apart that are the same.
    pub(super) fn wound(self, period: Micros) -> Self {
        match self.place {
            Place::Offset(offset) => Self { place: Place::Offset(offset.rem_euclid(period)), ..self },
            Place::Zone(_) => self,
        }
    }

    /// Length of a cell, microseconds; days of a zone count 24 hours.
    pub fn length(&self) -> Micros {
        self.length
    }

    /// Where the marks stand.
    pub fn place(&self) -> Place {
        self.place
    }

    /// Where a mark is.
    pub fn mark(&self, number: i64) -> Micros {
        match self.place {
            Place::Offset(offset) => saturated(i128::from(offset) + i128::from(number) * i128::from(self.length)),
            Place::Zone(zone) => midnight(zone, number.saturating_mul(self.length / MICROS_PER_DAY)),
        }
    }

    /// The last mark at or before a time.
    pub fn last_mark(&self, time: Micros) -> i64 {
        match self.place {
            Place::Offset(offset) => {
                let number = (i128::from(time) - i128::from(offset)).div_euclid(i128::from(self.length));
                i64::try_from(number).unwrap_or(if number < 0 { i64::MIN } else { i64::MAX })
            }
            Place::Zone(zone) => {
                // The local date is a mark off where clocks went back over midnight.
                let mut number = local_day(zone, time).div_euclid(self.length / MICROS_PER_DAY);
                while self.mark(number) > time && number > i64::MIN {
                    number -= 1;
                }
                while let next = self.mark(number.saturating_add(1))
                    && next <= time
                    && next < Micros::MAX
                {
                    number += 1;
                }
                number
            }
        }
    }
}

impl fmt::Display for Grid {
    /// The length, and where it stands if that is not 1970 in UTC: `1 day in America/New_York`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", show_duration(self.length), self.place)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Offset(0) => Ok(()),
            Self::Offset(offset) => write!(f, ", shifted by {}", show_duration(*offset)),
            Self::Zone(zone) => write!(f, " in {}", zone.name()),
        }
    }
}

fn saturated(wide: i128) -> Micros {
    Micros::try_from(wide).unwrap_or(if wide < 0 { Micros::MIN } else { Micros::MAX })
}

/// Days since 1970-01-01 on the local calendar; beyond the calendar's years those of UTC.
fn local_day(zone: Tz, time: Micros) -> i64 {
    match DateTime::from_timestamp_micros(time).filter(is_told) {
        Some(utc) => i64::from(zone.from_utc_datetime(&utc.naive_utc()).date_naive().to_epoch_days()),
        None => time.div_euclid(MICROS_PER_DAY),
    }
}

/// Whether the calendar holds the days around a time, too.
fn is_told(utc: &DateTime<chrono::Utc>) -> bool {
    let day = utc.date_naive();
    day.pred_opt().is_some() && day.succ_opt().is_some()
}

/// The first instant of a local day.
fn midnight(zone: Tz, day: i64) -> Micros {
    let date = i32::try_from(day).ok().and_then(NaiveDate::from_epoch_days);
    let Some(local) = date.filter(|date| date.pred_opt().is_some()).map(|date| date.and_time(NaiveTime::MIN)) else {
        return saturated(i128::from(day) * i128::from(MICROS_PER_DAY));
    };
    if let Some(first) = zone.from_local_datetime(&local).earliest() {
        return first.timestamp_micros();
    }
    match GapInfo::new(&local, &zone).and_then(|gap| gap.end) {
        Some(end) => end.timestamp_micros(),
        // No end of the gap is known: as many hours off as a day before.
        None => {
            let before = local - TimeDelta::days(1);
            let offset = zone.from_utc_datetime(&before).naive_local() - before;
            (local - offset).and_utc().timestamp_micros()
        }
    }
}

#[cfg(test)]
mod tests {
    use chrono_tz::{America, Europe, Pacific};
    use proptest::prelude::*;

    use super::*;

    const HOUR: Micros = 3_600 * MICROS_PER_SECOND;

    fn time(text: &str) -> Micros {
        DateTime::parse_from_rfc3339(text).unwrap().timestamp_micros()
    }

    /// The cell a time lies in.
    fn cell(grid: Grid, at: &str) -> (Micros, Micros) {
        let number = grid.last_mark(time(at));
        (grid.mark(number), grid.mark(number + 1))
    }

    #[test]
    fn days_of_new_york_have_23_and_25_hours_when_clocks_change() {
        let days = Grid::days(MICROS_PER_DAY, America::New_York).unwrap();
        let spring = cell(days, "2019-03-10T12:00:00Z");
        assert_eq!(spring, (time("2019-03-10T05:00:00Z"), time("2019-03-11T04:00:00Z")));
        assert_eq!(spring.1 - spring.0, 23 * HOUR);
        let autumn = cell(days, "2019-11-03T12:00:00Z");
        assert_eq!(autumn, (time("2019-11-03T04:00:00Z"), time("2019-11-04T05:00:00Z")));
        assert_eq!(autumn.1 - autumn.0, 25 * HOUR);
        // The instant before midnight belongs to the day before.
        assert_eq!(cell(days, "2019-11-03T03:59:59.999999Z").1, autumn.0);
        assert_eq!(cell(days, "2019-11-03T04:00:00Z"), autumn);
    }

    #[test]
    fn a_midnight_that_does_not_exist_is_the_first_instant_after_it() {
        // Clocks in Sao Paulo went from 24:00 of the 3rd to 01:00 of the 4th.
        let days = Grid::days(MICROS_PER_DAY, America::Sao_Paulo).unwrap();
        let day = cell(days, "2018-11-04T12:00:00Z");
        assert_eq!(day, (time("2018-11-04T03:00:00Z"), time("2018-11-05T02:00:00Z")));
        // Samoa had no 30th of December 2011 at all: the 29th is followed by the 31st.
        let days = Grid::days(MICROS_PER_DAY, Pacific::Apia).unwrap();
        let before = cell(days, "2011-12-30T09:00:00Z");
        let after = cell(days, "2011-12-30T10:00:00Z");
        assert_eq!(before.1, after.0);
        assert_eq!((before.1 - before.0, after.1 - after.0), (24 * HOUR, 24 * HOUR));
    }

    #[test]
    fn a_midnight_shown_twice_is_the_first_of_both() {
        // Clocks in St Johns went back from 00:01 to 23:01 of the day before.
        let days = Grid::days(MICROS_PER_DAY, America::St_Johns).unwrap();
        assert_eq!(cell(days, "2010-11-07T02:45:00Z").0, time("2010-11-07T02:30:00Z"));
        assert_eq!(cell(days, "2010-11-07T04:00:00Z").0, time("2010-11-07T02:30:00Z"));
    }

    #[test]
    fn what_is_no_length_is_no_grid() {
        assert_eq!(Grid::fixed(0, 0), None);
        assert_eq!(Grid::days(MICROS_PER_DAY + 1, Europe::Berlin), None);
        assert_eq!(Grid::days(-MICROS_PER_DAY, Europe::Berlin), None);
    }

    const ZONES: [Tz; 6] = [
        America::New_York,
        America::Sao_Paulo,
        America::St_Johns,
        Europe::Berlin,
        Pacific::Apia,
        chrono_tz::Asia::Kathmandu,
    ];

    proptest! {
        /// The oracle walks from instant to instant, and asks local clocks only what they show.
        #[test]
        fn a_cell_of_days_holds_the_instants_whose_clocks_show_its_days(
            zone in prop::sample::select(&ZONES[..]), days in 1i64..5, start in -20_000i64..20_000,
        ) {
            let grid = Grid::days(days * MICROS_PER_DAY, zone).unwrap();
            // The newest day that clocks have shown so far: where they go back over midnight, the new day has begun.
            let mut newest = i64::MIN;
            for quarter in 0..4 * 24 * 12 {
                let time = start * MICROS_PER_DAY + quarter * HOUR / 4;
                let shown = DateTime::from_timestamp_micros(time).unwrap().with_timezone(&zone).date_naive();
                newest = newest.max(i64::from(shown.to_epoch_days()));
                // The first day may have been shown before the walk began.
                if quarter >= 4 * 2 {
                    prop_assert_eq!(grid.last_mark(time), newest.div_euclid(days), "{} in {}", time, zone);
                }
            }
        }

        #[test]
        fn marks_enclose_every_time_and_never_fall(time: i64, length in 1i64.., offset: i64, zone in prop::sample::select(&ZONES[..]), days in 1i64..100_000) {
            for grid in [Grid::fixed(length, offset).unwrap(), Grid::days(days * MICROS_PER_DAY, zone).unwrap()] {
                let number = grid.last_mark(time);
                let (start, end) = (grid.mark(number), grid.mark(number.saturating_add(1)));
                prop_assert!(start <= time, "{} starts after {}", start, time);
                prop_assert!(time < end || end == Micros::MAX, "{} ends before {}", end, time);
            }
        }
    }
}
