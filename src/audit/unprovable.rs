//! Answers that cannot be recomputed any more, because rows they were made of were erased or have expired: counted, told,
//! and left out of the comparison (invariant 7).
//!
//! The one law: nothing is left out but what such rows could have changed, by the times the slots tell: a window that holds
//! one of them, a session with a row within a gap of one, a row of that time; and rows of a table that themselves have
//! expired. Arithmetic on microseconds in plain SQL, none of the engine's.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{AsArray, BooleanArray};
use arrow::datatypes::{DataType, Int64Type};
use datafusion::dataframe::DataFrame;
use datafusion::logical_expr::{ColumnarValue, ScalarUDF, Volatility, create_udf};
use datafusion::prelude::SessionContext;

use super::history::History;
use super::report::Report;
use super::rows::numbers;
use super::scans::{for_each_batch, quoted};
use super::standing::{Life, Windows};
use crate::clock::Micros;
use crate::contract::TableContract;
use crate::error::{Context, Result};
use crate::sql::StandingQuery;

/// What the statements call the two sides, and the functions that tell which of their rows are left out.
const ALL_EXPECTED: &str = "__all_expected";
const ALL_FOUND: &str = "__all_found";
const LACKS: &str = "__lacks";
const OWN: &str = "__own_gone";
const BEGINS: &str = "__begins_in";

/// Half-open ranges of microseconds.
type Ranges = Vec<(Micros, Micros)>;

/// What of one query's answer cannot be proved.
#[derive(Debug, Default)]
pub(super) struct Unprovable {
    /// Times at which rows it reads are gone; in order, and apart.
    times: Ranges,
    /// Times at which rows of its own table are.
    own: Ranges,
    /// The slots that say so.
    slots: Vec<u64>,
    /// The column of its table that tells a row's time.
    time: Option<Arc<str>>,
}

/// What is compared, and what is not.
pub(super) struct Provable {
    pub expected: DataFrame,
    pub found: DataFrame,
    /// Rows of the query's table that are not compared, and how many windows they are of, where they tell.
    pub rows_left: u64,
    pub windows_left: u64,
}

impl Unprovable {
    /// Of a query, by all slots up to the published one.
    pub(super) fn of(
        query: &StandingQuery,
        life: &Life,
        history: &History,
        published: Option<u64>,
        stream: &TableContract,
    ) -> Self {
        let mut unprovable =
            Self { time: life.start.clone().or_else(|| query.event_column().cloned()), ..Self::default() };
        let mut read: Vec<(&str, &str)> = Vec::new();
        for (driver, _) in &life.parents {
            let (start, end) = driver.bounds();
            let column = if life.window.is_some() { driver.time() } else { start.or(end) };
            read.extend(column.map(|column| (driver.name.as_ref(), column.as_ref())));
        }
        if let (true, Some(declared)) = (life.parents.is_empty(), &stream.stream) {
            read.push((&stream.name, &declared.event_time));
        }
        let own = unprovable.time.clone();
        let own = own.as_ref().map(|time| (life.name.as_ref(), time.as_ref()));
        for (epoch, step) in history.through(published) {
            let of = |(table, column): &(&str, &str)| -> Ranges {
                step.erased.get(*table).and_then(|erased| erased.times.get(*column)).cloned().unwrap_or_default()
            };
            let (times, own): (Ranges, Ranges) =
                (read.iter().flat_map(of).collect(), own.iter().flat_map(of).collect());
            let expires = |(table, _): &(&str, &str)| step.expired.contains_key(*table);
            if !times.is_empty() || !own.is_empty() || read.iter().any(expires) {
                unprovable.slots.push(epoch);
            }
            unprovable.times.extend(times);
            unprovable.own.extend(own);
        }
        if let Some((_, last)) = history.through(published).last() {
            let of = |(table, column): &(&str, &str)| {
                let until = last.gone.expired.get(*table)?.get(*column)?;
                Some((Micros::MIN, *until))
            };
            unprovable.times.extend(read.iter().filter_map(of));
            unprovable.own.extend(own.iter().filter_map(of));
        }
        unprovable.times = apart(std::mem::take(&mut unprovable.times));
        unprovable.own = apart(std::mem::take(&mut unprovable.own));
        unprovable
    }

    /// Leaves out of both sides what cannot be proved, and says how much that is; `None`, with a note, when the table does
    /// not tell which of its rows those are.
    pub(super) async fn leave_out(
        &self,
        session: &SessionContext,
        life: &Life,
        (expected, found): (DataFrame, DataFrame),
        report: &mut Report,
    ) -> Result<Option<Provable>> {
        if self.times.is_empty() && self.own.is_empty() {
            return Ok(Some(Provable { expected, found, rows_left: 0, windows_left: 0 }));
        }
        let what = || format!("leaving out what cannot be proved of `{}`", life.name);
        let Some(lacks) = self.lacks(life, &found) else {
            report.note(format!(
                "`{}`: its table was not compared: rows it was made of are gone by {}, and its own do not tell their time: let \
                 it select `window_start` and `window_end`, or the event time",
                life.name,
                self.by()
            ));
            return Ok(None);
        };
        session.register_udf(touching(LACKS, self.times.clone()));
        session.register_udf(touching(OWN, self.own.clone()));
        session.register_table(ALL_EXPECTED, expected.into_view()).context(what)?;
        session.register_table(ALL_FOUND, found.into_view()).context(what)?;
        let mut left = lacks.clone();
        if let Some((gap, start, end)) = self.session_bounds(life) {
            let mut begin: Ranges =
                self.times.iter().map(|(from, to)| (from.saturating_sub(gap), to.saturating_add(gap))).collect();
            for side in [ALL_EXPECTED, ALL_FOUND] {
                let bounds = format!("SELECT {start}, {end} FROM {side} WHERE {lacks}");
                for_each_batch(session, &bounds, |batch| {
                    let (starts, ends) = (numbers(batch, 0)?, numbers(batch, 1)?);
                    begin.extend(
                        starts.values().iter().zip(ends.values()).map(|(from, end)| (*from, end.saturating_add(1))),
                    );
                    Ok(())
                })
                .await?;
            }
            session.register_udf(touching(BEGINS, apart(begin)));
            left = format!("({BEGINS}({start}, {start} + 1) OR {lacks})");
        }
        let (mut rows_left, mut windows_left) = (0, 0);
        let windows = life
            .window
            .and(self.time.as_ref())
            .map_or_else(|| "0".to_owned(), |time| format!("count(DISTINCT {})", quoted(time)));
        for_each_batch(session, &format!("SELECT count(*), {windows} FROM {ALL_FOUND} WHERE {left}"), |batch| {
            rows_left = numbers(batch, 0)?.iter().flatten().sum::<i64>().unsigned_abs();
            windows_left = numbers(batch, 1)?.iter().flatten().sum::<i64>().unsigned_abs();
            Ok(())
        })
        .await?;
        let kept = |side: &str| format!("SELECT * FROM {side} WHERE NOT {left}");
        let expected = session.sql(&kept(ALL_EXPECTED)).await.context(what)?;
        let found = session.sql(&kept(ALL_FOUND)).await.context(what)?;
        if rows_left > 0 {
            let windows = if windows_left > 0 { format!(" of {windows_left} windows") } else { String::new() };
            report.note(format!(
                "`{}`: {rows_left} rows{windows} were not compared: rows they were made of are gone by {}",
                life.name,
                self.by()
            ));
        }
        Ok(Some(Provable { expected, found, rows_left, windows_left }))
    }

    /// Whether a row of either side is left out, as SQL; `None` where the table does not tell.
    fn lacks(&self, life: &Life, found: &DataFrame) -> Option<String> {
        let schema = found.schema().as_arrow().clone();
        let column = |name: &str| {
            let is_time = schema.field_with_name(name).is_ok_and(|f| matches!(f.data_type(), DataType::Timestamp(..)));
            is_time.then(|| micros(name))
        };
        let start = column(self.time.as_deref()?)?;
        let end = match life.window {
            Some(window) => column("window_end").or_else(|| window.end_of_start_sql(&start))?,
            None => format!("({start} + 1)"),
        };
        let gap = life.window.and_then(Windows::gap);
        let read = match gap {
            Some(gap) => format!("{LACKS}({start} - {gap}, {end} + 1)"),
            None => format!("{LACKS}({start}, {end})"),
        };
        Some(format!("({read} OR {OWN}({start}, {start} + 1))"))
    }

    /// Of sessions: the gap, and their bounds as SQL.
    fn session_bounds(&self, life: &Life) -> Option<(Micros, String, String)> {
        Some((life.window?.gap()?, micros(self.time.as_deref()?), micros("window_end")))
    }

    fn by(&self) -> String {
        match self.slots.as_slice() {
            [] => "what its slots say".to_owned(),
            [one] => format!("slot {one}"),
            [first, .., last] => format!("{} slots, {first} to {last}", self.slots.len()),
        }
    }
}

/// A column of times in microseconds, whatever its own unit.
fn micros(column: &str) -> String {
    format!("CAST(arrow_cast({}, 'Timestamp(Microsecond, Some(\"UTC\"))') AS BIGINT)", quoted(column))
}

/// `name(from, to)`, both as BIGINT: whether the half-open range shares a time with one of `ranges`. A null shares none.
fn touching(name: &str, ranges: Ranges) -> ScalarUDF {
    let touches = move |arguments: &[ColumnarValue]| {
        let arrays = ColumnarValue::values_to_arrays(arguments)?;
        let (from, to) = (arrays[0].as_primitive::<Int64Type>(), arrays[1].as_primitive::<Int64Type>());
        let touched = |from: Micros, to: Micros| {
            ranges.get(ranges.partition_point(|(_, end)| *end <= from)).is_some_and(|(start, _)| *start < to)
        };
        let pairs = from.iter().zip(to);
        let found: BooleanArray =
            pairs.map(|(from, to)| Some(from.zip(to).is_some_and(|(from, to)| touched(from, to)))).collect();
        Ok(ColumnarValue::Array(Arc::new(found)))
    };
    create_udf(
        name,
        vec![DataType::Int64, DataType::Int64],
        DataType::Boolean,
        Volatility::Immutable,
        Arc::new(touches),
    )
}

/// The same times in ranges that neither touch nor overlap, in order.
fn apart(ranges: Ranges) -> Ranges {
    let mut by_start: BTreeMap<Micros, Micros> = BTreeMap::new();
    for (from, to) in ranges.into_iter().filter(|(from, to)| from < to) {
        let end = by_start.entry(from).or_insert(to);
        *end = (*end).max(to);
    }
    let mut joined = Ranges::new();
    for (from, to) in by_start {
        match joined.last_mut() {
            Some((_, end)) if from <= *end => *end = (*end).max(to),
            _ => joined.push((from, to)),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql;

    #[test]
    fn ranges_are_joined_where_they_meet() {
        assert_eq!(apart(vec![(5, 9), (0, 2), (2, 3), (6, 7), (4, 4)]), [(0, 3), (5, 9)]);
        assert_eq!(apart(vec![(Micros::MIN, 4), (3, 5)]), [(Micros::MIN, 5)]);
    }

    #[tokio::test]
    async fn a_window_is_left_out_that_holds_a_time() {
        let session = sql::session();
        session.register_udf(touching(LACKS, vec![(Micros::MIN, 10), (25, 26)]));
        let text = format!("SELECT s FROM (SELECT unnest(range(0, 60, 10)) AS s) WHERE {LACKS}(s, s + 10)");
        let rows = session.sql(&text).await.unwrap().collect().await.unwrap();
        let found: Vec<i64> = rows.iter().flat_map(|batch| numbers(batch, 0).unwrap().values().to_vec()).collect();
        assert_eq!(found, [0, 20]);
    }
}
