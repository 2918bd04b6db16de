//! The plan of joined windows, cut: rows of each source are put into windows, kept, and joined when their windows close.
//!
//! The one law: state is rows. Windows over one source keep its rows as they are; over several, the rows of all in one
//! table: a column says which source a row is of, columns of the others are NULL. So whoever holds, cuts and restamps state
//! need not know how many sources there are. Nothing here knows text.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, new_null_array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Result, plan_err};
use datafusion::dataframe::DataFrame;
use datafusion::execution::TaskContext;
use datafusion::execution::context::SessionContext;
use datafusion::logical_expr::ident;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::sql::sqlparser::ast::Query;

use super::batch::select;
use super::buffered::rows_of;
use super::catalog::Driver;
use super::feed::{FeedExec, FeedTable, run};
use super::split::Split;
use super::windows::{WINDOW_END, WINDOW_START};

/// The column of state that says which source a row is of.
const SIDE: &str = "__side";

/// How the rows of one source become rows of state, where there are several sources.
#[derive(Clone, Debug)]
pub(super) struct SidePlan {
    /// Whose rows it reads.
    pub(super) driver: Driver,
    /// Rows of the driver → rows in their windows.
    pub(super) plan: Arc<dyn ExecutionPlan>,
    number: i32,
    state: SchemaRef,
    /// For each column of state the plan's own; none for those of other sources.
    columns: Vec<Option<usize>>,
}

impl SidePlan {
    /// Rows of state of these rows of the driver.
    pub(super) async fn run(&self, rows: &[RecordBatch], task: &Arc<TaskContext>) -> Result<Vec<RecordBatch>> {
        let tagged = run(&self.plan, rows, task).await?;
        tagged.iter().map(|batch| self.widened(batch)).collect()
    }

    fn widened(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let count = batch.num_rows();
        let column = |(field, own): (&Arc<Field>, &Option<usize>)| match own {
            Some(own) => Arc::clone(batch.column(*own)),
            None if field.name() == SIDE => Arc::new(Int32Array::from_value(self.number, count)) as ArrayRef,
            None => new_null_array(field.data_type(), count),
        };
        let columns = self.state.fields().iter().zip(&self.columns).map(column).collect();
        Ok(RecordBatch::try_new(Arc::clone(&self.state), columns)?)
    }
}

/// Registers the rows that each of `windows` (queries of what drives, put into windows) gives.
pub(super) async fn register(context: &SessionContext, windows: &[(Driver, Box<Query>)]) -> Result<()> {
    for (number, (_, windowed)) in windows.iter().enumerate() {
        let plan = context.state().statement_to_plan(select(windowed.clone())).await?;
        let schema = Arc::new(Schema::new(plan.schema().fields().clone()));
        context.register_table(rows_of(number).as_str(), Arc::new(FeedTable::side(number, schema)))?;
    }
    Ok(())
}

/// Cuts a query over the rows of open windows; each of `windows` puts the rows of its driver into windows, or slices.
pub(super) async fn split_buffered(
    context: &SessionContext,
    plan: Arc<dyn ExecutionPlan>,
    windows: Vec<(Driver, Box<Query>)>,
) -> Result<Split> {
    let mut plans = Vec::with_capacity(windows.len());
    for (number, (driver, windowed)) in windows.into_iter().enumerate() {
        let columns = needed(&plan, number)?;
        let tagged = context.state().statement_to_plan(select(windowed)).await?;
        let columns = columns.iter().map(|name| ident(name.as_str())).collect::<Vec<_>>();
        let tagged = DataFrame::new(context.state(), tagged).select(columns)?;
        plans.push((driver, context.state().create_physical_plan(tagged.logical_plan()).await?));
    }
    let Some((_, first)) = plans.first().cloned() else { return plan_err!("a join of no windows") };
    let (state, sides) = match plans.len() {
        1 => (first.schema(), Vec::new()),
        _ => sides(plans),
    };
    let tag = state.index_of(SIDE).ok();
    let finish = plan.transform_up(|node| match node.downcast_ref::<FeedExec>() {
        Some(feed) if feed.lookup_name().is_none() => {
            let side = feed.side();
            let named = |name: &str| if tag.is_some() { name_in_state(side, name) } else { name.to_owned() };
            Ok(Transformed::yes(Arc::new(feed.over(&state, tag, named)?) as _))
        }
        _ => Ok(Transformed::no(node)),
    })?;
    let (Ok(window_start), Ok(window_end)) = (state.index_of(WINDOW_START), state.index_of(WINDOW_END)) else {
        return plan_err!("rows without the bounds of their windows");
    };
    Ok(Split {
        partial: first,
        reduce: Arc::new(FeedExec::try_new(&state, None)?),
        finish: finish.data,
        window_start,
        window_end,
        keys: Vec::new(),
        sides,
        joins_rows: false,
    })
}

/// The columns a plan asks for of one source, and the bounds of windows.
fn needed(plan: &Arc<dyn ExecutionPlan>, side: usize) -> Result<BTreeSet<String>> {
    let mut needed: BTreeSet<String> = [WINDOW_START, WINDOW_END].map(str::to_owned).into();
    plan.apply(|node| {
        if let Some(feed) = node.downcast_ref::<FeedExec>().filter(|feed| feed.lookup_name().is_none())
            && feed.side() == side
        {
            needed.extend(node.schema().fields().iter().map(|field| field.name().clone()));
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(needed)
}

/// The state of several sources, and how the rows of each get into it.
fn sides(plans: Vec<(Driver, Arc<dyn ExecutionPlan>)>) -> (SchemaRef, Vec<SidePlan>) {
    let mut fields = vec![Field::new(SIDE, DataType::Int32, false)];
    for (number, (_, plan)) in plans.iter().enumerate() {
        for field in plan.schema().fields() {
            let name = name_in_state(number, field.name());
            if !fields.iter().any(|known| *known.name() == name) {
                fields.push(Field::new(name, field.data_type().clone(), true));
            }
        }
    }
    let state: SchemaRef = Arc::new(Schema::new(fields));
    let side = |(number, (driver, plan)): (usize, (Driver, Arc<dyn ExecutionPlan>))| {
        let own = plan.schema();
        let names: Vec<String> = own.fields().iter().map(|field| name_in_state(number, field.name())).collect();
        let columns = state.fields().iter().map(|field| names.iter().position(|name| name == field.name()));
        let columns = columns.collect();
        SidePlan { driver, plan, number: i32::try_from(number).unwrap_or(i32::MAX), state: Arc::clone(&state), columns }
    };
    let sides = plans.into_iter().enumerate().map(side).collect();
    (state, sides)
}

/// What state calls a column of a source; the bounds of windows are everybody's.
fn name_in_state(side: usize, name: &str) -> String {
    match name {
        WINDOW_START | WINDOW_END => name.to_owned(),
        _ => format!("__{side}_{name}"),
    }
}
