//! Late rows: those a closed window refuses.
//!
//! The one law: a row counts in window `w` exactly if `w.end > closed_until`, with the `closed_until` recorded before the
//! row's epoch. Where windows overlap, a row may be refused by some and still count in others: it is late, and folded. This module only tells rows apart; the caller keeps and counts the late ones.

use arrow::array::{AsArray, BooleanArray, TimestampMicrosecondArray};
use arrow::compute::filter_record_batch;
use arrow::compute::kernels::{boolean, cmp};
use arrow::datatypes::TimestampMicrosecondType;
use arrow::record_batch::RecordBatch;

use super::WindowSpec;
use crate::clock::Micros;
use crate::error::{Context, Error, Result};

/// A batch of rows, told apart by one query's windows.
#[derive(Clone, Debug)]
pub struct LateSplit {
    /// The rows that at least one window accepts, in order: those to be folded.
    pub counted: RecordBatch,
    /// For each row of the whole batch, whether it is late: refused by at least one window; `None` when none is.
    pub late: Option<BooleanArray>,
}

impl LateSplit {
    /// How many rows are late.
    pub fn late_rows(&self) -> usize {
        self.late.as_ref().map_or(0, BooleanArray::true_count)
    }
}

/// Tells late rows from those on time. `event_time` is the position of the event time column (microseconds UTC, no NULL),
/// `earliest` the least event time in the batch (a lower one is fine): when that is on time nothing is looked at.
///
/// # Errors
/// [`Error::Broken`] when the column is not a microsecond time.
pub fn split_late(
    rows: &RecordBatch,
    event_time: usize,
    earliest: Micros,
    window: WindowSpec,
    closed_until: Option<Micros>,
) -> Result<LateSplit> {
    let on_time_from = window.on_time_from(closed_until);
    if earliest >= on_time_from {
        return Ok(LateSplit { counted: rows.clone(), late: None });
    }
    let times = rows.column(event_time).as_primitive_opt::<TimestampMicrosecondType>().ok_or_else(|| {
        Error::broken(format!("event times are {}, not microseconds", rows.column(event_time).data_type()))
    })?;
    let plain = times.clone().with_timezone_opt::<&str>(None);
    let before = |time| cmp::lt(&plain, &TimestampMicrosecondArray::new_scalar(time));
    let late = before(on_time_from).context(|| "looking for late rows")?;
    if late.true_count() == 0 {
        return Ok(LateSplit { counted: rows.clone(), late: None });
    }
    let counted = before(window.counted_from(closed_until))
        .and_then(|refused| filter_record_batch(rows, &boolean::not(&refused)?))
        .context(|| "setting late rows aside")?;
    Ok(LateSplit { counted, late: Some(late) })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::ArrayRef;
    use proptest::prelude::*;

    use super::*;
    use crate::sql::Grid;

    fn rows(times: &[Micros]) -> RecordBatch {
        let times = TimestampMicrosecondArray::from(times.to_vec()).with_timezone("UTC");
        RecordBatch::try_from_iter([("event_time", Arc::new(times) as ArrayRef)]).unwrap()
    }

    #[test]
    fn a_batch_on_time_is_handed_through() {
        let split = split_late(&rows(&[60, 70]), 0, 60, WindowSpec::tumble(10, 0).unwrap(), Some(60)).unwrap();
        assert_eq!((split.counted.num_rows(), split.late_rows()), (2, 0));
        assert!(split.late.is_none());
    }

    #[test]
    fn a_row_in_an_open_and_a_closed_hop_is_late_and_counted() {
        let hops = WindowSpec::hopping(Grid::fixed(10, 0).unwrap(), 30).unwrap();
        // Closed until 60: 55 is in 30..60, which has closed, and in two that have not; 35 is in none that has not.
        let split = split_late(&rows(&[35, 55, 65]), 0, 35, hops, Some(60)).unwrap();
        let counted = split.counted.column(0).as_primitive::<TimestampMicrosecondType>().values().to_vec();
        assert_eq!(split.late.unwrap(), BooleanArray::from(vec![true, true, false]));
        assert_eq!(counted, [55, 65]);
    }

    proptest! {
        #[test]
        fn rows_are_told_apart_by_the_formula(
            times in prop::collection::vec(-500i64..500, 1..50), size in 1i64..100, cells in 1i64..5,
            kind in 0u8..3, until in prop::option::of(-500i64..500),
        ) {
            let grid = Grid::fixed(size, 7).unwrap();
            let window = match kind {
                0 => WindowSpec::tumbling(grid),
                1 => WindowSpec::hopping(grid, size * cells).unwrap(),
                _ => WindowSpec::cumulating(grid, size * cells).unwrap(),
            };
            let earliest = times.iter().copied().min().unwrap();
            let split = split_late(&rows(&times), 0, earliest, window, until).unwrap();
            let refused = |end: Micros| until.is_some_and(|until| end <= until);
            let late: Vec<bool> = times.iter().map(|t| window.windows_of(*t).any(|(_, end)| refused(end))).collect();
            let kept: Vec<Micros> =
                times.iter().copied().filter(|t| window.windows_of(*t).any(|(_, end)| !refused(end))).collect();
            prop_assert_eq!(split.late_rows(), late.iter().filter(|l| **l).count());
            let mask = split.late.map_or_else(|| vec![false; times.len()], |mask| mask.values().iter().collect());
            prop_assert_eq!(mask, late);
            let counted = split.counted.column(0).as_primitive::<TimestampMicrosecondType>().values().to_vec();
            prop_assert_eq!(counted, kept);
        }
    }
}
