//! Sessions: intervals of one key that touch become one.
//!
//! The one law: two intervals of a key are one session if one starts at or before the other's end. Every row starts as the
//! session `[t, t + gap]` of its own, so merging is the same for rows of one micro-batch, for the partial rows of many, and
//! for those read back after a restart; in which order they meet does not matter.
//!
//! The rows of a micro-batch meet before they are aggregated, because a group of its own for each row costs ten times what
//! a group a session does.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, TimestampMicrosecondArray};
use arrow::datatypes::TimestampMicrosecondType;
use arrow::record_batch::RecordBatch;
use arrow::row::{Row, RowConverter, SortField};
use datafusion::common::{Result, internal_err, plan_err};
use datafusion::execution::TaskContext;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode, PhysicalGroupBy};
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};
use hashbrown::HashMap;

use super::feed::{FeedExec, run};
use super::joined::{LookupRows, bind};
use super::split::Split;
use crate::clock::Micros;

/// A partial plan cut once more, below its aggregate.
#[derive(Clone, Debug)]
pub(super) struct Sessions {
    /// Rows of the stream → rows as the aggregate reads them, then the columns `at` names.
    rows: Arc<dyn ExecutionPlan>,
    /// Those rows → partial rows.
    partial: Arc<dyn ExecutionPlan>,
    at: SessionColumns,
}

/// Where rows have their session.
#[derive(Clone, Debug)]
pub(super) struct SessionColumns {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) keys: Vec<usize>,
}

impl Sessions {
    /// Cuts the partial plan of a query over sessions; `None` where it has no aggregate.
    pub(super) fn of(split: &Split) -> Result<Option<Self>> {
        let Some(aggregate) = split.partial.downcast_ref::<AggregateExec>() else { return Ok(None) };
        let input = aggregate.input();
        let mut groups = aggregate.group_expr().expr().to_vec();
        let column = |(index, name): (usize, &str)| Arc::new(Column::new(name, index)) as Arc<dyn PhysicalExpr>;
        let schema = input.schema();
        let mut columns: Vec<ProjectionExpr> = schema
            .fields()
            .iter()
            .enumerate()
            .map(|(index, field)| ProjectionExpr { expr: column((index, field.name())), alias: field.name().clone() })
            .collect();
        // A column of its own even where the input has one: an aggregate of it wants the row's time, not the session's.
        let mut of_its_own = |group: usize| {
            let (expression, name) = &mut groups[group];
            let index = columns.len();
            let expr = std::mem::replace(expression, column((index, name)));
            columns.push(ProjectionExpr { expr, alias: name.clone() });
            index
        };
        let at = SessionColumns {
            start: of_its_own(split.window_start),
            end: of_its_own(split.window_end),
            keys: split.keys.iter().map(|key| of_its_own(*key)).collect(),
        };
        let rows: Arc<dyn ExecutionPlan> = Arc::new(ProjectionExec::try_new(columns, Arc::clone(input))?);
        let partial = AggregateExec::try_new(
            AggregateMode::Partial,
            PhysicalGroupBy::new_single(groups),
            aggregate.aggr_expr().to_vec(),
            aggregate.filter_expr().to_vec(),
            Arc::new(FeedExec::try_new(&rows.schema(), None)?),
            rows.schema(),
        )?;
        if partial.schema().fields() != split.partial.schema().fields() {
            return plan_err!(
                "sessions change the partial rows from {} to {}",
                split.partial.schema(),
                partial.schema()
            );
        }
        Ok(Some(Self { rows, partial: Arc::new(partial), at }))
    }

    /// The same joined with these rows of lookups.
    pub(super) fn joined_with(&self, rows: &LookupRows) -> Result<Self> {
        Ok(Self { rows: bind(&self.rows, rows)?, ..self.clone() })
    }

    /// Partial rows of these rows of the stream, each in the session that it belongs to as far as these rows tell.
    pub(super) async fn partial(&self, batches: &[RecordBatch], task: &Arc<TaskContext>) -> Result<Vec<RecordBatch>> {
        let rows = run(&self.rows, batches, task).await?;
        run(&self.partial, &meet(&rows, &self.at)?, task).await
    }
}

/// The same rows, each with the bounds of the session it belongs to; sessions that have met share theirs.
pub(super) fn meet(batches: &[RecordBatch], at: &SessionColumns) -> Result<Vec<RecordBatch>> {
    let starts = times(batches, at.start)?;
    let ends = times(batches, at.end)?;
    let mut bounds = vec![(0, 0); starts.len()];
    for mut rows in by_key(batches, &at.keys, starts.len())? {
        // Rows of a stream come nearly in order, which the sort sees.
        rows.sort_unstable_by_key(|row| starts[*row]);
        let mut from = 0;
        while from < rows.len() {
            let (start, mut end) = (starts[rows[from]], ends[rows[from]]);
            let mut to = from + 1;
            while to < rows.len() && starts[rows[to]] <= end {
                end = end.max(ends[rows[to]]);
                to += 1;
            }
            rows[from..to].iter().for_each(|row| bounds[*row] = (start, end));
            from = to;
        }
    }
    let mut offset = 0;
    let with_bounds = batches.iter().map(|batch| {
        let own = &bounds[offset..offset + batch.num_rows()];
        offset += batch.num_rows();
        let mut columns = batch.columns().to_vec();
        let mut put = |column: usize, times: TimestampMicrosecondArray| {
            columns[column] = Arc::new(times.with_timezone("UTC")) as ArrayRef;
        };
        put(at.start, own.iter().map(|(start, _)| *start).collect::<Vec<_>>().into());
        put(at.end, own.iter().map(|(_, end)| *end).collect::<Vec<_>>().into());
        Ok(RecordBatch::try_new(batch.schema(), columns)?)
    });
    with_bounds.collect()
}

/// The rows of each key, numbered through all batches.
fn by_key(batches: &[RecordBatch], keys: &[usize], count: usize) -> Result<Vec<Vec<usize>>> {
    let Some(first) = batches.first().filter(|_| !keys.is_empty()) else { return Ok(vec![(0..count).collect()]) };
    let fields = keys.iter().map(|key| SortField::new(first.column(*key).data_type().clone())).collect();
    let converter = RowConverter::new(fields)?;
    let mut converted = converter.empty_rows(count, 0);
    for batch in batches {
        let columns: Vec<ArrayRef> = keys.iter().map(|key| Arc::clone(batch.column(*key))).collect();
        converter.append(&mut converted, &columns)?;
    }
    let mut numbers: HashMap<Row<'_>, usize> = HashMap::new();
    let mut rows: Vec<Vec<usize>> = Vec::new();
    for (row, key) in converted.iter().enumerate() {
        let number = *numbers.entry(key).or_insert(rows.len());
        match rows.get_mut(number) {
            Some(of_key) => of_key.push(row),
            None => rows.push(vec![row]),
        }
    }
    Ok(rows)
}

/// A column of times, of all batches.
fn times(batches: &[RecordBatch], column: usize) -> Result<Vec<Micros>> {
    let mut all = Vec::with_capacity(batches.iter().map(RecordBatch::num_rows).sum());
    for batch in batches {
        match batch.columns().get(column).and_then(|c| c.as_primitive_opt::<TimestampMicrosecondType>()) {
            Some(times) if times.null_count() == 0 => all.extend_from_slice(times.values()),
            _ => return internal_err!("rows of a session without its bounds"),
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use arrow::array::StringArray;
    use proptest::prelude::*;

    use super::*;

    fn batch(rows: &[(Option<&str>, Micros, Micros)]) -> RecordBatch {
        let column = |of: fn(&(Option<&str>, Micros, Micros)) -> Micros| {
            let times: TimestampMicrosecondArray = rows.iter().map(of).collect::<Vec<_>>().into();
            Arc::new(times.with_timezone("UTC")) as ArrayRef
        };
        let keys = Arc::new(StringArray::from_iter(rows.iter().map(|row| row.0))) as ArrayRef;
        RecordBatch::try_from_iter_with_nullable([
            ("start", column(|row| row.1), false),
            ("end", column(|row| row.2), false),
            ("key", keys, true),
        ])
        .unwrap()
    }

    fn bounds(batches: &[RecordBatch]) -> Vec<(Micros, Micros)> {
        times(batches, 0).unwrap().into_iter().zip(times(batches, 1).unwrap()).collect()
    }

    proptest! {
        /// Two rows share a session exactly if a chain of touching intervals of their key leads from one to the other.
        #[test]
        fn what_touches_is_one_session(rows in prop::collection::vec((0usize..4, 0i64..200, 0i64..20), 0..60), cut in 0usize..60) {
            let keys = [None, Some(""), Some("a"), Some("b")];
            let rows: Vec<_> = rows.iter().map(|(key, start, length)| (keys[*key], *start, start + length)).collect();
            let mut sessions: Vec<_> = rows.clone();
            loop {
                let before = sessions.clone();
                for session in &mut sessions {
                    for (key, start, end) in &before {
                        if *key == session.0 && *start <= session.2 && session.1 <= *end {
                            *session = (session.0, session.1.min(*start), session.2.max(*end));
                        }
                    }
                }
                if sessions == before {
                    break;
                }
            }
            let (left, right) = rows.split_at(cut.min(rows.len()));
            let met = meet(&[batch(left), batch(right)], &SessionColumns { start: 0, end: 1, keys: vec![2] }).unwrap();
            let expected: Vec<_> = sessions.iter().map(|(_, start, end)| (*start, *end)).collect();
            prop_assert_eq!(bounds(&met), expected);
        }
    }

    #[test]
    fn without_a_key_all_rows_share_sessions() {
        let met = meet(
            &[batch(&[(Some("a"), 0, 5), (None, 5, 9), (None, 10, 11)])],
            &SessionColumns { start: 0, end: 1, keys: Vec::new() },
        );
        assert_eq!(bounds(&met.unwrap()), [(0, 9), (0, 9), (10, 11)]);
    }
}
