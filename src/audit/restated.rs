//! Windows that were restated: by rows up to which epoch each of them is answered.
//!
//! The one law: the newest restatement of a window counts; the rows it may be made of are those up to its epoch, late or
//! not, and after it those that were not late. Ranges are of `window_start`, as the slots state them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{AsArray, BooleanArray};
use arrow::datatypes::{DataType, Int64Type};
use datafusion::logical_expr::{ColumnarValue, ScalarUDF, Volatility, create_udf};

use super::finding::Kind as Found;
use super::history::{History, place};
use super::report::{Report, show_time};
use super::standing::Life;
use crate::clock::Micros;
use crate::epoch::{Epochs, Restated};

/// What the audit's statements call [`Restatements::function`].
pub(super) const RESTATED: &str = "__restated";

/// What the audit's statements call the function that tells which late rows wait.
pub(super) const WAITS: &str = "__waits";

/// Only windows that have closed are restated: of every range the last start, and of its windows the one that ends first.
/// And no row of the stream is answered twice.
pub(super) fn check(history: &History, published: Option<u64>, lives: &[Life], report: &mut Report) {
    let mut answered: BTreeMap<&Arc<str>, Epochs> = BTreeMap::new();
    for (epoch, step) in history.through(published) {
        for (name, more) in &step.answered {
            let Some(life) = lives.iter().find(|life| life.name == *name && life.ran_in(epoch, step)) else { continue };
            let before = answered.entry(name).or_default();
            let ran = |epoch: &u64| history.steps.get(epoch).is_some_and(|step| life.ran_in(*epoch, step));
            let stretches = more.stretches().iter().flat_map(|(first, last)| *first..=(*last).min(epoch));
            if let Some(twice) = stretches.into_iter().find(|epoch| before.holds(*epoch) || ran(epoch)) {
                let what = format!("it answers rows of epoch {twice} again");
                report.find(Found::WrongRestatement, format!("{}, query `{name}`", place(epoch)), what);
            }
            *before = std::mem::take(before).and(more);
        }
        for (name, restated) in &step.restated {
            let Some(life) = lives.iter().find(|life| life.name == *name && life.ran_in(epoch, step)) else { continue };
            // A query without windows has those of the view its rows come from.
            let Some((owner, window)) = life.windows() else { continue };
            let until = step.queries.get(owner).and_then(|progress| progress.closed_until);
            for &(from, to) in &restated.ranges {
                let end = window.first_end_before(to);
                if Some(end) > until {
                    let what = format!(
                        "it restates windows that start from {} to {}, of which one ends at {}; `{owner}` has closed \
                         until {}",
                        show_time(Some(from)),
                        show_time(Some(to)),
                        show_time(Some(end)),
                        show_time(until)
                    );
                    report.find(Found::WrongRestatement, format!("{}, query `{name}`", place(epoch)), what);
                }
            }
        }
    }
}

/// `__waits(time, epoch)`, both as BIGINT: whether a late row does not count yet in sessions, because its session is open.
pub(super) fn waits(waiting: BTreeSet<(i64, Micros)>) -> ScalarUDF {
    let waits = move |arguments: &[ColumnarValue]| {
        let arrays = ColumnarValue::values_to_arrays(arguments)?;
        let (times, epochs) = (arrays[0].as_primitive::<Int64Type>(), arrays[1].as_primitive::<Int64Type>());
        let found = times.iter().zip(epochs);
        let found: BooleanArray = found
            .map(|(time, epoch)| Some(time.zip(epoch).is_some_and(|(time, epoch)| waiting.contains(&(epoch, time)))))
            .collect();
        Ok(ColumnarValue::Array(Arc::new(found)))
    };
    let arguments = vec![DataType::Int64, DataType::Int64];
    create_udf(WAITS, arguments, DataType::Boolean, Volatility::Immutable, Arc::new(waits))
}

/// Ranges that do not overlap: start to (end, the last epoch all of whose rows count).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Restatements(BTreeMap<Micros, (Micros, i64)>);

impl Restatements {
    /// A later restatement takes the place of earlier ones.
    pub(super) fn add(&mut self, restated: &Restated) {
        let through = i64::try_from(restated.through).unwrap_or(i64::MAX);
        for &(from, to) in restated.ranges.iter().filter(|(from, to)| from < to) {
            let overlapped: Vec<(Micros, (Micros, i64))> =
                self.0.range(..to).filter(|(_, (end, _))| *end > from).map(|(start, rest)| (*start, *rest)).collect();
            for (start, (end, before)) in overlapped {
                self.0.remove(&start);
                if start < from {
                    self.0.insert(start, (from, before));
                }
                if to < end {
                    self.0.insert(to, (end, before));
                }
            }
            self.0.insert(from, (to, through));
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a row of an epoch counts in the window that starts at `start`, because it was restated; an epoch of −1 asks
    /// whether it was at all.
    fn counts(&self, start: Micros, epoch: i64) -> bool {
        self.0.range(..=start).next_back().is_some_and(|(_, (end, through))| start < *end && epoch <= *through)
    }

    /// `__restated(window_start, epoch)`, both as BIGINT: whether a row of the epoch counts in the window although it was
    /// late. A function, because a join with ranges would compare every row with every range.
    pub(super) fn function(&self) -> ScalarUDF {
        let ranges = self.clone();
        let counts = move |arguments: &[ColumnarValue]| {
            let arrays = ColumnarValue::values_to_arrays(arguments)?;
            let (starts, epochs) = (arrays[0].as_primitive::<Int64Type>(), arrays[1].as_primitive::<Int64Type>());
            let pairs = starts.iter().zip(epochs);
            let counted: BooleanArray = pairs
                .map(|(start, epoch)| Some(ranges.counts(start?, epoch?)))
                .map(|c| Some(c.unwrap_or(false)))
                .collect();
            Ok(ColumnarValue::Array(Arc::new(counted)))
        };
        let arguments = vec![DataType::Int64, DataType::Int64];
        create_udf(RESTATED, arguments, DataType::Boolean, Volatility::Immutable, Arc::new(counts))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sql;

    proptest! {
        /// The oracle keeps one epoch for every start.
        #[test]
        fn the_newest_restatement_of_a_window_counts(
            restated in prop::collection::vec((0i64..40, 1i64..15, 0u64..9), 0..12),
        ) {
            let mut restatements = Restatements::default();
            let mut oracle: BTreeMap<i64, i64> = BTreeMap::new();
            for (from, length, through) in restated {
                let to = from + length;
                restatements.add(&Restated { ranges: vec![(from, to)], through });
                oracle.extend((from..to).map(|start| (start, i64::try_from(through).unwrap())));
            }
            for start in -1..60 {
                for epoch in -1..10 {
                    let expected = oracle.get(&start).is_some_and(|through| epoch <= *through);
                    prop_assert_eq!(restatements.counts(start, epoch), expected);
                }
            }
            prop_assert_eq!(restatements.is_empty(), oracle.is_empty());
        }
    }

    #[tokio::test]
    async fn the_function_answers_in_sql() {
        let mut restatements = Restatements::default();
        restatements.add(&Restated { ranges: vec![(10, 20), (40, 50)], through: 3 });
        let session = sql::session();
        session.register_udf(restatements.function());
        let text = format!("SELECT start FROM (SELECT unnest(range(0, 60)) AS start) WHERE {RESTATED}(start, 3)");
        let rows = session.sql(&text).await.unwrap().count().await.unwrap();
        let later = session.sql(&text.replace("3)", "4)")).await.unwrap().count().await.unwrap();
        assert_eq!((rows, later), (20, 0));
    }
}
