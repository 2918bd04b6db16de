//! Times of rows that are gone for good, and what must stay as it is because of them.
//!
//! The one law: a closed window is not computed again once some of its rows have been erased or have expired: what is left
//! of them would take the place of the answer they gave. So is one whose own rows have expired. Only history that a table
//! does not answer yet is computed over what an erasure has left; over what has expired it is not.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Query;
use crate::clock::Micros;
use crate::contract::TableContract;
use crate::epoch::{Gone, Slot, SlotLog};
use crate::error::{Error, Result};
use crate::sql::{Driver, TimeRange, WindowShape};
use crate::window::{WindowSpec, joined, windows_of};

/// Ranges of times by table and column: in order, and apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::pipeline) struct Missing(BTreeMap<(Arc<str>, Arc<str>), Vec<TimeRange>>);

impl Missing {
    /// What the slots erased that the newest one names.
    ///
    /// # Errors
    /// [`Error::External`] when the lake does not answer; [`Error::Broken`] for a slot that is gone.
    pub(in crate::pipeline) async fn erased(slots: &SlotLog, base: &Slot) -> Result<Self> {
        let mut missing = Self::default();
        for &epoch in &base.gone.erased_in {
            let slot = slots.read(epoch).await?.ok_or_else(|| Error::broken(format!("slot {epoch} is missing")))?;
            // A table that was dropped since is another one, if it is there at all.
            for (table, erased) in slot.erased.iter().filter(|(table, _)| base.dropped.get(*table) < Some(&epoch)) {
                for (column, times) in &erased.times {
                    let times = times.iter().map(|&(from, to)| TimeRange { from, to });
                    missing.add(table, column, times);
                }
            }
        }
        Ok(missing)
    }

    /// With what has expired, too.
    pub(super) fn and_expired(mut self, gone: &Gone) -> Self {
        for (table, columns) in &gone.expired {
            for (column, &to) in columns {
                self.add(table, column, std::iter::once(TimeRange { from: Micros::MIN, to }));
            }
        }
        self
    }

    /// What of a query's table stays as it is: ranges of the start of its windows, or of those its rows came from; of
    /// sessions the times themselves. In order, and apart.
    pub(super) fn stays(&self, query: &Query, stream: &TableContract) -> Vec<TimeRange> {
        if self.0.is_empty() {
            return Vec::new();
        }
        let mut stays = Vec::new();
        for driver in query.drivers() {
            let times = match (driver, query) {
                (Driver::Stream, _) => stream.stream.as_ref().map(|told| self.of(&stream.name, &told.event_time)),
                (Driver::View(parent), Query::Windowed(_)) => parent.time().map(|time| self.of(&parent.name, time)),
                (Driver::View(parent), Query::Stateless(_)) => {
                    let (start, end) = parent.bounds();
                    start.or(end).map(|bound| self.of(&parent.name, bound))
                }
            };
            let times = times.unwrap_or_default().iter().copied();
            match query {
                Query::Windowed(query) => stays.extend(times.map(|times| starts_of(query.window(), times))),
                Query::Stateless(_) => stays.extend(times),
            }
        }
        if let Some(start) = query.start_column() {
            stays.extend(self.of(query.name(), start));
        }
        joined(stays)
    }

    fn of(&self, table: &str, column: &str) -> &[TimeRange] {
        self.0.get(&(Arc::from(table), Arc::from(column))).map_or(&[], Vec::as_slice)
    }

    fn add(&mut self, table: &Arc<str>, column: &Arc<str>, times: impl Iterator<Item = TimeRange>) {
        let known = self.0.entry((Arc::clone(table), Arc::clone(column))).or_default();
        known.extend(times);
        *known = joined(std::mem::take(known));
    }
}

/// The starts of the windows that hold one of these times; sessions have none. From the first time there is, no arithmetic
/// leads back.
fn starts_of(window: WindowSpec, times: TimeRange) -> TimeRange {
    if matches!(window.shape(), WindowShape::Session { .. }) {
        return times;
    }
    let at = |time: Micros| windows_of(window, TimeRange { from: time, to: time.saturating_add(1) });
    let from = if times.from == Micros::MIN { Micros::MIN } else { at(times.from).from };
    TimeRange { from, to: at(times.to.saturating_sub(1)).to }
}

/// What is left of some ranges without others; both in order and apart.
pub(super) fn minus(ranges: Vec<TimeRange>, without: &[TimeRange]) -> Vec<TimeRange> {
    let mut left = Vec::with_capacity(ranges.len());
    for range in ranges {
        let mut from = range.from;
        for hole in &without[without.partition_point(|hole| hole.to <= range.from)..] {
            if hole.from >= range.to {
                break;
            }
            if from < hole.from {
                left.push(TimeRange { from, to: hole.from });
            }
            from = from.max(hole.to);
        }
        if from < range.to {
            left.push(TimeRange { from, to: range.to });
        }
    }
    left
}

/// Whether a range shares a time with one of others, which are in order and apart.
pub(super) fn overlaps(range: TimeRange, others: &[TimeRange]) -> bool {
    others.get(others.partition_point(|other| other.to <= range.from)).is_some_and(|other| other.from < range.to)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sql::Grid;
    use crate::sql::testing::{transactions, windowed};

    fn range(from: Micros, to: Micros) -> TimeRange {
        TimeRange { from, to }
    }

    proptest! {
        /// The oracle looks at every time.
        #[test]
        fn what_is_left_of_ranges_is_what_no_other_holds(
            ranges in prop::collection::vec((0i64..60, 1i64..9), 0..8),
            holes in prop::collection::vec((0i64..60, 1i64..9), 0..8),
        ) {
            let of = |pairs: &[(i64, i64)]| joined(pairs.iter().map(|(from, length)| range(*from, from + length)).collect());
            let (ranges, holes) = (of(&ranges), of(&holes));
            let left = minus(ranges.clone(), &holes);
            let holds = |ranges: &[TimeRange], time| ranges.iter().any(|r| r.from <= time && time < r.to);
            for time in -1..80 {
                prop_assert_eq!(holds(&left, time), holds(&ranges, time) && !holds(&holes, time));
                prop_assert_eq!(overlaps(range(time, time + 1), &holes), holds(&holes, time));
            }
            prop_assert!(left.iter().all(|r| r.from < r.to) && left.windows(2).all(|pair| pair[0].to <= pair[1].from));
        }
    }

    #[test]
    fn windows_that_hold_a_time_stay_also_from_the_first_time_on() {
        let grid = Grid::fixed(10, 0).unwrap();
        let tens = WindowSpec::tumble(10, 0).unwrap();
        assert_eq!(starts_of(tens, range(25, 26)), range(20, 30));
        assert_eq!(starts_of(tens, range(Micros::MIN, 30)), range(Micros::MIN, 30));
        let hops = WindowSpec::hopping(grid, 30).unwrap();
        assert_eq!(starts_of(hops, range(25, 26)), range(0, 30));
        assert_eq!(starts_of(hops, range(Micros::MIN, 31)), range(Micros::MIN, 40));
    }

    #[tokio::test]
    async fn a_query_stays_as_it_is_where_its_rows_or_those_it_reads_are_gone() {
        let text = "CREATE MATERIALIZED VIEW minutes AS SELECT window_start, CAST(window_start AS DATE) AS event_date, \
                    count(*) AS n FROM TUMBLE(transactions, event_time, INTERVAL '1 minute') GROUP BY window_start, window_end";
        let query = Query::Windowed(Arc::new(windowed(text).await));
        let stream = transactions();
        let minute = 60_000_000;
        let mut gone = Gone::default();
        let missing = |gone: &Gone| Missing::default().and_expired(gone).stays(&query, &stream);
        assert_eq!(missing(&gone), []);
        gone.expire(&"transactions".into(), &[("event_time".into(), minute + 1), ("other".into(), 99 * minute)].into());
        gone.expire(&"hours".into(), &[("window_start".into(), 99 * minute)].into());
        assert_eq!(missing(&gone), [range(Micros::MIN, 2 * minute)]);
        gone.expire(&"minutes".into(), &[("window_start".into(), 5 * minute + 1)].into());
        assert_eq!(missing(&gone), [range(Micros::MIN, 5 * minute + 1)]);
    }
}
