//! Ranges cut into pieces of bounded work, or joined until there are few.
//!
//! The one law: a piece is bounded, by the rows of the stream it is computed from and by the ranges it names. Whole days
//! are counted, from the log; a table partitioned by something else only gives pieces of other sizes.

use std::collections::BTreeMap;

use super::Subject;
use crate::clock::{MICROS_PER_SECOND, Micros};
use crate::sql::TimeRange;
use crate::window::last_start_of;

/// Rows of the stream one round recomputes, as far as whole days allow: a few seconds of one core, and at most as many
/// groups as a full epoch of the live path may hold four times.
const ROUND_ROWS_MAX: u64 = 4_000_000;
/// Ranges of one round: the slot names them, in about forty bytes each.
const ROUND_RANGES_MAX: usize = 1_000;
/// Rows between two ranges that one plan reads over: a plan of its own costs as much.
const GAP_ROWS_MAX: u64 = 100_000;
/// Microseconds in a day.
const DAY: Micros = 86_400 * MICROS_PER_SECOND;

/// The windows of a round.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Part {
    pub ranges: Vec<TimeRange>,
    pub spans: Vec<TimeRange>,
}

/// Joins neighbours until there are few enough.
pub(in crate::pipeline) fn few(mut ranges: Vec<TimeRange>, most: usize) -> Vec<TimeRange> {
    let mut apart = MICROS_PER_SECOND;
    while ranges.len() > most {
        let mut fewer: Vec<TimeRange> = Vec::with_capacity(ranges.len());
        for range in ranges {
            match fewer.last_mut() {
                Some(last) if range.from.saturating_sub(last.to) <= apart => last.to = last.to.max(range.to),
                _ => fewer.push(range),
            }
        }
        (ranges, apart) = (fewer, apart.saturating_mul(2));
    }
    ranges
}

/// Cuts ranges into rounds, oldest first: at window boundaries near midnight, where a round would grow too big.
pub(super) fn cut(ranges: Vec<TimeRange>, subject: &Subject, days: &BTreeMap<i32, u64>) -> Vec<Part> {
    let window = subject.query.window();
    cut_at(ranges, |time| window.map_or(time, |window| last_start_of(window, time)), days)
}

fn cut_at(ranges: Vec<TimeRange>, start_of: impl Fn(Micros) -> Micros, days: &BTreeMap<i32, u64>) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    let mut rows = 0;
    for piece in ranges.into_iter().flat_map(|range| by_day(range, &start_of, days)) {
        let own = rows_in(piece, days);
        let last = parts.last().and_then(|part| part.spans.last());
        let gap = last.map(|last| rows_in(TimeRange { from: last.to, to: piece.from }, days));
        let gap = gap.filter(|gap| *gap <= GAP_ROWS_MAX);
        let more = own.saturating_add(gap.unwrap_or(0));
        match parts.last_mut() {
            Some(part) if rows + more <= ROUND_ROWS_MAX && part.ranges.len() < ROUND_RANGES_MAX => {
                rows += more;
                extend(&mut part.ranges, piece, |last| last.to == piece.from);
                extend(&mut part.spans, piece, |_| gap.is_some());
            }
            _ => {
                rows = own;
                parts.push(Part { ranges: vec![piece], spans: vec![piece] });
            }
        }
    }
    parts
}

/// Makes the last range longer, or adds one.
fn extend(ranges: &mut Vec<TimeRange>, piece: TimeRange, joins: impl Fn(&TimeRange) -> bool) {
    match ranges.last_mut() {
        Some(last) if joins(last) => last.to = piece.to,
        _ => ranges.push(piece),
    }
}

/// A range cut at the start of the first window of each day that has rows.
fn by_day(range: TimeRange, start_of: impl Fn(Micros) -> Micros, days: &BTreeMap<i32, u64>) -> Vec<TimeRange> {
    let day = |time: Micros| i32::try_from(time.div_euclid(DAY)).unwrap_or(if time < 0 { i32::MIN } else { i32::MAX });
    let mut pieces = Vec::new();
    let mut from = range.from;
    for (&next, _) in days.range(day(range.from)..=day(range.to)) {
        let at = start_of(Micros::from(next) * DAY);
        if from < at && at < range.to {
            pieces.push(TimeRange { from, to: at });
            from = at;
        }
    }
    pieces.push(TimeRange { from, to: range.to });
    pieces
}

/// Rows of the stream in a range, by its share of each day.
fn rows_in(range: TimeRange, days: &BTreeMap<i32, u64>) -> u64 {
    let mut rows = 0;
    for (&day, &count) in days {
        let start = Micros::from(day) * DAY;
        let shared = range.to.min(start + DAY).saturating_sub(range.from.max(start)).max(0);
        rows += u64::try_from(i128::from(count) * i128::from(shared) / i128::from(DAY)).unwrap_or(u64::MAX);
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::super::rounds::RANGES_MAX;
    use super::*;

    fn range(from: Micros, to: Micros) -> TimeRange {
        TimeRange { from, to }
    }

    #[test]
    fn a_range_is_cut_where_days_with_rows_begin() {
        let days = BTreeMap::from([(0, 10), (1, 10), (9, 10)]);
        let hour = DAY / 24;
        let pieces = by_day(range(-DAY, 12 * DAY), |time| time.div_euclid(hour) * hour, &days);
        assert_eq!(pieces, [range(-DAY, 0), range(0, DAY), range(DAY, 9 * DAY), range(9 * DAY, 12 * DAY)]);
        // A window longer than a day is not cut.
        let week = 7 * DAY;
        let pieces = by_day(range(0, 2 * week), |time| time.div_euclid(week) * week, &days);
        assert_eq!(pieces, [range(0, week), range(week, 2 * week)]);
        assert_eq!(pieces.iter().map(|piece| rows_in(*piece, &days)).collect::<Vec<_>>(), [20, 10]);
        assert_eq!(rows_in(range(0, DAY / 2), &days), 5);
    }

    #[test]
    fn rounds_are_bounded_and_hold_every_range_once() {
        let minute = 60 * MICROS_PER_SECOND;
        let start_of = |time: Micros| time.div_euclid(minute) * minute;
        let every_other =
            |n: i64, day: i64| (0..n).map(move |i| range(day * DAY + 2 * i * minute, day * DAY + (2 * i + 1) * minute));
        // A day of two million rows, three months without, and another.
        let days = BTreeMap::from([(0, 2_000_000), (1, 2_500_000), (90, 1_000)]);
        let ranges: Vec<TimeRange> = every_other(700, 0).chain(every_other(700, 1)).chain(every_other(2, 90)).collect();
        let parts = cut_at(ranges.clone(), start_of, &days);
        assert_eq!(parts.iter().flat_map(|part| part.ranges.clone()).collect::<Vec<_>>(), ranges);
        for part in &parts {
            assert!(part.ranges.len() <= ROUND_RANGES_MAX);
            assert!(part.spans.iter().map(|span| rows_in(*span, &days)).sum::<u64>() <= ROUND_ROWS_MAX);
            assert!(part.ranges.iter().all(|r| part.spans.iter().any(|s| s.from <= r.from && r.to <= s.to)));
        }
        // Neighbours are read by one plan; rows nobody asked for are not read over.
        assert_eq!((parts.len(), parts[0].spans.len()), (2, 1));
        let busy = BTreeMap::from([(0, 2_000), (1, 2_000_000_000), (2, 2_000)]);
        let apart = cut_at(vec![range(0, minute), range(2 * DAY, 2 * DAY + minute)], start_of, &busy);
        assert_eq!((apart.len(), apart[0].spans.len()), (1, 2));
    }

    #[test]
    fn too_many_ranges_become_few_that_hold_them_all() {
        let many: Vec<TimeRange> = (0..250_000).map(|n| range(n * 10_000_000, n * 10_000_000 + 1)).collect();
        let few = few(many.clone(), RANGES_MAX);
        assert!(few.len() <= RANGES_MAX);
        let holds = |one: &TimeRange| {
            let next = few.partition_point(|r| r.from <= one.from);
            next > 0 && one.to <= few[next - 1].to
        };
        assert!(many.iter().all(holds));
        let kept = vec![range(0, 1), range(5, 6)];
        assert_eq!(super::few(kept.clone(), RANGES_MAX), kept);
    }
}
