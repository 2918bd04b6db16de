//! Text becomes dates and times.
//!
//! The one law: every time is microseconds of UTC in the proleptic Gregorian calendar, and one that no calendar or clock
//! shows is refused. No other format is guessed at: `01/02/2026` has two meanings.

use crate::clock::{MICROS_PER_SECOND, Micros};

/// Seconds of a day; UTC days have no leap seconds here.
const SECONDS_PER_DAY: i64 = 86_400;

/// Days since 1970-01-01 of `YYYY-MM-DD`.
pub(super) fn date(text: &[u8]) -> Option<i32> {
    days(text.try_into().ok()?)
}

/// Microseconds since 1970-01-01T00:00:00Z of `YYYY-MM-DD HH:MM:SS`, with `T` or a space between, decimals of the second
/// or none, `Z`, an offset or none (UTC) behind. `None` also for decimals beyond the microsecond that are not zero, and
/// for a leap second.
pub fn timestamp(text: &[u8]) -> Option<Micros> {
    let (seconds, rest) = seconds_and_rest(text)?;
    behind_seconds(seconds, rest)
}

/// Seconds since the epoch of the first 19 characters, and what follows them.
#[inline]
fn seconds_and_rest(text: &[u8]) -> Option<(i64, &[u8])> {
    let (head, rest) = text.split_first_chunk::<19>()?;
    let day = days(head.first_chunk::<10>()?)?;
    let hour = two(head[11], head[12])?;
    let minute = two(head[14], head[15])?;
    let second = two(head[17], head[18])?;
    let separated = matches!(head[10], b' ' | b'T' | b't') && head[13] == b':' && head[16] == b':';
    if !separated || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let of_day = i64::from(hour) * 3600 + i64::from(minute) * 60 + i64::from(second);
    Some((i64::from(day) * SECONDS_PER_DAY + of_day, rest))
}

/// Adds the decimals of the second and takes away the offset.
#[inline]
fn behind_seconds(seconds: i64, rest: &[u8]) -> Option<Micros> {
    if rest.is_empty() {
        return Some(seconds * MICROS_PER_SECOND);
    }
    let (fraction, zone) = match rest {
        [b'.', decimals @ ..] => micros_of_second(decimals)?,
        _ => (0, rest),
    };
    Some((seconds - offset_seconds(zone)?) * MICROS_PER_SECOND + fraction)
}

/// Microseconds of the decimals in front, and what follows them. Decimals beyond the sixth must be zero.
fn micros_of_second(text: &[u8]) -> Option<(i64, &[u8])> {
    let length = text.iter().position(|b| !b.is_ascii_digit()).unwrap_or(text.len());
    let (decimals, rest) = text.split_at(length);
    let mut micros = 0;
    for i in 0..6 {
        micros = micros * 10 + decimals.get(i).map_or(0, |b| i64::from(b - b'0'));
    }
    let exact = decimals.iter().skip(6).all(|b| *b == b'0');
    (length > 0 && exact).then_some((micros, rest))
}

/// Seconds east of Greenwich of nothing, `Z`, `+HH:MM`, `+HHMM` or `+HH`; one space may stand before.
fn offset_seconds(zone: &[u8]) -> Option<i64> {
    let (sign, digits) = match zone {
        [] | [b'Z' | b'z'] | [b' ', b'Z' | b'z'] => return Some(0),
        [b'+', digits @ ..] | [b' ', b'+', digits @ ..] => (1, digits),
        [b'-', digits @ ..] | [b' ', b'-', digits @ ..] => (-1, digits),
        _ => return None,
    };
    let (hours, minutes) = match *digits {
        [a, b] => (two(a, b)?, 0),
        [a, b, c, d] | [a, b, b':', c, d] => (two(a, b)?, two(c, d)?),
        _ => return None,
    };
    (hours < 24 && minutes < 60).then(|| sign * (i64::from(hours) * 3600 + i64::from(minutes) * 60))
}

/// Days since 1970-01-01 of `YYYY-MM-DD` in the proleptic Gregorian calendar, years 1 to 9999.
#[inline]
fn days(text: &[u8; 10]) -> Option<i32> {
    let century = two(text[0], text[1])?;
    let year = i32::from(century) * 100 + i32::from(two(text[2], text[3])?);
    let month = two(text[5], text[6])?;
    let day = two(text[8], text[9])?;
    if text[4] != b'-' || text[7] != b'-' || year == 0 || day == 0 || day > days_of_month(year, month)? {
        return None;
    }
    Some(days_from_civil(year, i32::from(month), i32::from(day)))
}

/// Howard Hinnant's `days_from_civil`: the year is counted from March, so that the leap day is its last.
#[inline]
fn days_from_civil(year: i32, month: i32, day: i32) -> i32 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[inline]
fn days_of_month(year: i32, month: u8) -> Option<u8> {
    Some(match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => return None,
    })
}

/// The number two digits make.
#[inline]
fn two(tens: u8, units: u8) -> Option<u8> {
    let (tens, units) = (tens.wrapping_sub(b'0'), units.wrapping_sub(b'0'));
    (tens < 10 && units < 10).then(|| tens * 10 + units)
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn times_are_taken_with_and_without_zone() {
        let noon = 1_592_741_593_000_000;
        for text in [
            "2020-06-21 12:13:13",
            "2020-06-21T12:13:13",
            "2020-06-21T12:13:13Z",
            "2020-06-21t12:13:13z",
            "2020-06-21 12:13:13 Z",
            "2020-06-21T12:13:13.000",
            "2020-06-21T14:13:13+02:00",
            "2020-06-21 14:13:13 +0200",
            "2020-06-21T05:13:13-07",
            "2020-06-21T12:13:13.000000000Z",
            "2020-06-22T11:43:13+23:30",
        ] {
            assert_eq!(timestamp(text.as_bytes()), Some(noon), "{text}");
        }
        assert_eq!(timestamp(b"2020-06-21 12:13:13.5"), Some(noon + 500_000));
        assert_eq!(timestamp(b"2020-06-21 12:13:13.123456Z"), Some(noon + 123_456));
        assert_eq!(timestamp(b"1969-12-31 23:59:59.999999"), Some(-1));
    }

    #[test]
    fn what_no_clock_shows_is_refused() {
        for text in [
            "",
            "2020-06-21",
            "2020-06-21 12:13",
            "2020-06-21 24:00:00",
            "2020-06-21 12:60:00",
            "2020-06-21 12:13:60",
            "2020-13-21 12:13:13",
            "2020-06-31 12:13:13",
            "2019-02-29 00:00:00",
            "1900-02-29 00:00:00",
            "0000-01-01 00:00:00",
            "2020-06-21  12:13:13",
            "2020-06-21 12:13:13.",
            "2020-06-21 12:13:13.1234567",
            "2020-06-21 12:13:13 UTC",
            "2020-06-21 12:13:13+24:00",
            "2020-06-21 12:13:13+1:00",
            "2020/06/21 12:13:13",
            "2020-06-21_12:13:13",
            "2020-06-21 12-13-13",
            "21-06-2020 12:13:13",
            "2020-06-21 1a:13:13",
            "1592741593",
            "2020-06-21T12:13:13ZZ",
        ] {
            assert_eq!(timestamp(text.as_bytes()), None, "{text}");
        }
        for text in ["", "2020-6-21", "2020-06-21 ", "20200621", "2020-00-01", "2020-01-00", "-020-01-01", "2021-02-29"]
        {
            assert_eq!(date(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn every_day_of_four_centuries_agrees_with_chrono() {
        let epoch = NaiveDate::from_ymd_opt(1970, 1, 1).unwrap().num_days_from_ce();
        for day in NaiveDate::from_ymd_opt(1799, 12, 31).unwrap().iter_days().take(146_100) {
            assert_eq!(date(day.to_string().as_bytes()), Some(day.num_days_from_ce() - epoch), "{day}");
        }
    }

    proptest! {
        #[test]
        fn times_agree_with_chrono(micros in -62_135_596_800_000_000_i64..253_402_300_800_000_000, zone in -86_340_i32..86_340) {
            let time = DateTime::from_timestamp_micros(micros).unwrap();
            prop_assert_eq!(timestamp(time.naive_utc().format("%Y-%m-%d %H:%M:%S%.f").to_string().as_bytes()), Some(micros));
            let there = time.with_timezone(&chrono::FixedOffset::east_opt(zone / 60 * 60).unwrap());
            if (1..=9999).contains(&there.year()) {
                prop_assert_eq!(timestamp(there.to_rfc3339().as_bytes()), Some(micros));
            }
        }

        #[test]
        fn nothing_is_taken_that_chrono_refuses(text in "[0-9]{4}-[01][0-9]-[0-3][0-9] [0-2][0-9]:[0-6][0-9]:[0-6][0-9]") {
            let expected = NaiveDateTime::parse_from_str(&text, "%Y-%m-%d %H:%M:%S").ok()
                .filter(|_| !text.ends_with("60") && !text.starts_with("0000"))
                .map(|t| t.and_utc().timestamp_micros());
            prop_assert_eq!(timestamp(text.as_bytes()), expected);
        }
    }
}
