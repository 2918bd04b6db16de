//! The two simulated years, 2012 and 2013, and the labels seven years later that rows carry.
//!
//! The one law: a row's `unix_time` is simulated time, its text is the same clock seven calendar years later. 2019 has
//! no 29 February, so 2012-02-28 and 2012-02-29 share the label 2019-02-28: there the text jumps back by a day.

use chrono::{DateTime, Datelike, Days, Months, NaiveDate, NaiveDateTime};

use super::profiles::Segment;
use crate::clock::{MICROS_PER_SECOND, Micros};

/// Days from 2012-01-01 to 2013-12-31.
pub(super) const DAYS: usize = 731;

/// Years between what is simulated and what rows say.
const YEARS_LATER: u32 = 7;

/// The first simulated day.
pub(super) const FIRST_DAY: NaiveDate = NaiveDate::from_ymd_opt(2012, 1, 1).expect("a date that exists");

/// The label that two simulated days carry.
pub(super) const SHARED_LABEL: NaiveDate = NaiveDate::from_ymd_opt(2019, 2, 28).expect("a date that exists");

/// The day rows of simulated day `index` are labelled with.
pub(super) fn label(index: usize) -> NaiveDate {
    let day = FIRST_DAY + Days::new(index as u64);
    // Of a 29 February this gives the 28th where there is none.
    day + Months::new(12 * YEARS_LATER)
}

/// The first simulated day with this label or a later one; `None` past the last.
pub(super) fn first_day_labelled(date: NaiveDate) -> Option<usize> {
    (0..DAYS).find(|&index| label(index) >= date)
}

/// Seconds since 1970 of the start of simulated day `index`, in simulated time.
pub(super) fn day_start(index: usize) -> i64 {
    (FIRST_DAY + Days::new(index as u64)).and_time(chrono::NaiveTime::MIN).and_utc().timestamp()
}

/// Simulated seconds of a row that carries `event_time` as its text: seven calendar years earlier.
pub(super) fn simulated_seconds(event_time: Micros) -> i64 {
    let seconds = event_time.div_euclid(MICROS_PER_SECOND);
    let earlier = at(seconds).checked_sub_months(Months::new(12 * YEARS_LATER));
    earlier.map_or(seconds, |time| time.and_utc().timestamp())
}

/// Text of `seconds` since 1970, seven calendar years later.
pub(super) fn labelled(seconds: i64) -> NaiveDateTime {
    at(seconds) + Months::new(12 * YEARS_LATER)
}

/// Clock and calendar at `seconds` since 1970.
pub(super) fn at(seconds: i64) -> NaiveDateTime {
    DateTime::from_timestamp(seconds, 0).unwrap_or_default().naive_utc()
}

/// Weight of each simulated day for a segment: year times season times weekday.
pub(super) fn day_weights(segment: Segment) -> [f64; DAYS] {
    let (weekdays, years) = (segment.weekdays(), segment.years());
    std::array::from_fn(|index| {
        let day = FIRST_DAY + Days::new(index as u64);
        let year = years[usize::from(day.year() != FIRST_DAY.year())];
        let weekday = weekdays[day.weekday().num_days_from_monday() as usize];
        f64::from(year) * f64::from(season(day)) * f64::from(weekday)
    })
}

fn season(day: NaiveDate) -> u32 {
    match (day.month(), day.day()) {
        (1, _) | (2, ..=28) => 75,
        (5, 24..) | (6..=8, _) | (9, 1) => 125,
        (11, 30) | (12, _) => 200,
        _ => 100,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn date(year: i32, month: u32, day: u32) -> NaiveDate {
        NaiveDate::from_ymd_opt(year, month, day).unwrap()
    }

    #[test]
    fn two_simulated_days_share_a_label_and_one_label_has_none() {
        let with = |label_: NaiveDate| (0..DAYS).filter(|&day| label(day) == label_).collect::<Vec<_>>();
        assert_eq!(with(date(2019, 2, 28)), [58, 59]);
        assert!(with(date(2020, 2, 29)).is_empty());
        assert_eq!((label(0), label(DAYS - 1)), (date(2019, 1, 1), date(2020, 12, 31)));
        assert_eq!(first_day_labelled(date(2019, 2, 28)), Some(58));
        assert_eq!(first_day_labelled(date(2021, 1, 1)), None);
    }

    #[test]
    fn the_distance_is_2557_or_2556_days() {
        for (index, days) in [(0, 2557), (58, 2557), (59, 2556), (60, 2556), (424, 2556), (425, 2557), (730, 2557)] {
            let start = day_start(index);
            let later = labelled(start).and_utc().timestamp();
            assert_eq!((later - start) / 86_400, days, "day {index}, {}", label(index));
        }
    }

    #[test]
    fn seasons_change_where_the_generator_says() {
        let day = |month, day| season(date(2012, month, day));
        assert_eq!(
            [day(2, 28), day(2, 29), day(5, 23), day(5, 24), day(9, 1), day(9, 2)],
            [75, 100, 100, 125, 125, 100]
        );
        assert_eq!([day(11, 29), day(11, 30), day(12, 31), day(1, 1)], [100, 200, 200, 75]);
    }
}
