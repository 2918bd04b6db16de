//! A windowed query's physical plan, cut at the boundary between partial and final aggregation.
//!
//! The one law: exactly one partial aggregate with one final aggregate directly above it, else no query. Everything below
//! the cut runs on each micro-batch, everything above it when a window closes; between them stand partial rows, one a
//! group, which any number of reductions may merge.

use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::logical_expr::EmitTo;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode};
use datafusion::physical_plan::execution_plan::{ChildrenPropertiesMode, ReplaceChildrenOptions};
use datafusion::sql::sqlparser::ast::Ident;

use super::feed::FeedExec;
use super::file::normal;
use super::sides::SidePlan;
use super::windows::{WINDOW_END, WINDOW_START};

/// Three plans with a feed as their leaf.
#[derive(Clone, Debug)]
pub(super) struct Split {
    /// Rows of the stream → partial rows.
    pub(super) partial: Arc<dyn ExecutionPlan>,
    /// Partial rows → fewer partial rows, one a group.
    pub(super) reduce: Arc<dyn ExecutionPlan>,
    /// Partial rows → the query's rows: final aggregation, HAVING, projections.
    pub(super) finish: Arc<dyn ExecutionPlan>,
    /// Columns of the partial rows.
    pub(super) window_start: usize,
    pub(super) window_end: usize,
    /// Those of a session's keys.
    pub(super) keys: Vec<usize>,
    /// Of windows joined over several sources: one for each, `partial` being that of the first. Empty else.
    pub(super) sides: Vec<SidePlan>,
    /// Of joined windows: `partial` or one of `sides` meets a lookup.
    pub(super) joins_rows: bool,
}

/// Cuts the plan of a windowed query; `keys` are the columns that sessions are formed by.
pub(super) fn split(plan: &Arc<dyn ExecutionPlan>, keys: &[Ident]) -> Result<Split> {
    let mut aggregates = Vec::new();
    plan.apply(|node| {
        if node.downcast_ref::<AggregateExec>().is_some() {
            aggregates.push(Arc::clone(node));
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    let [upper, lower] = aggregates.as_slice() else {
        return plan_err!("{} aggregates where one partial and one final are needed", aggregates.len());
    };
    let (Some(last), Some(first)) = (as_aggregate(upper), as_aggregate(lower)) else {
        return plan_err!("the plan has no aggregate");
    };
    if *last.mode() != AggregateMode::Final
        || *first.mode() != AggregateMode::Partial
        || !Arc::ptr_eq(last.input(), lower)
    {
        return plan_err!("{:?} over {:?} where a final over a partial aggregate is needed", last.mode(), first.mode());
    }
    first.aggr_expr().iter().try_for_each(|aggregate| check_state(aggregate))?;
    let state = lower.schema();
    let column = |name: &str| {
        let names = first.group_expr().expr().iter().map(|(_, name)| name);
        names.clone().position(|group| group.rsplit('.').next() == Some(name))
    };
    let (Some(window_start), Some(window_end)) = (column(WINDOW_START), column(WINDOW_END)) else {
        return plan_err!("the partial aggregate is not grouped by `{WINDOW_START}` and `{WINDOW_END}`");
    };
    let Some(keys) = keys.iter().map(|key| column(&normal(key))).collect() else {
        return plan_err!("the partial aggregate is not grouped by the sessions' keys");
    };
    let reduce = AggregateExec::try_new(
        AggregateMode::PartialReduce,
        first.group_expr().as_final(),
        first.aggr_expr().to_vec(),
        first.filter_expr().to_vec(),
        leaf(&state)?,
        first.input_schema(),
    )?;
    if reduce.schema().fields() != state.fields() {
        return plan_err!("a reduction changes the partial rows from {state} to {}", reduce.schema());
    }
    Ok(Split {
        partial: Arc::clone(lower),
        reduce: Arc::new(reduce),
        finish: above(plan, upper, &state)?,
        window_start,
        window_end,
        keys,
        sides: Vec::new(),
        joins_rows: false,
    })
}

/// Refuses an aggregate that has no state, or one of other types than it declares: DataFusion plans both (DISTINCT of most
/// estimates, `bit_xor(DISTINCT …)`) and fails when rows come.
fn check_state(aggregate: &AggregateFunctionExpr) -> Result<()> {
    let name = aggregate.human_display().unwrap_or(aggregate.name());
    let found: Result<Vec<DataType>> = match aggregate.groups_accumulator_supported() {
        // Some accumulators have no answer without a group; what matters is that there is one.
        true => aggregate.create_groups_accumulator().map(|mut groups| {
            let arrays = groups.state(EmitTo::All).unwrap_or_default();
            arrays.iter().map(|array| array.data_type().clone()).collect()
        }),
        false => aggregate
            .create_accumulator()
            .and_then(|mut one| one.state())
            .map(|values| values.iter().map(ScalarValue::data_type).collect()),
    };
    let declared = aggregate.state_fields()?;
    match found {
        Ok(found)
            if found.iter().zip(&declared).all(|(found, declared)| found.equals_datatype(declared.data_type())) =>
        {
            Ok(())
        }
        Ok(_) => plan_err!("`{name}` cannot be computed in parts, as a stream needs it; leave out DISTINCT"),
        Err(error) => plan_err!("`{name}` cannot be computed: {}", error.strip_backtrace()),
    }
}

/// The plan from the final aggregate `upper` upward, over a feed of partial rows.
fn above(
    plan: &Arc<dyn ExecutionPlan>,
    upper: &Arc<dyn ExecutionPlan>,
    state: &SchemaRef,
) -> Result<Arc<dyn ExecutionPlan>> {
    let plan = Arc::clone(plan).transform_down(|node| {
        if Arc::ptr_eq(&node, upper) {
            let options = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute);
            let fed = node.replace_children(vec![leaf(state)?], options)?;
            return Ok(Transformed::new(fed, true, TreeNodeRecursion::Jump));
        }
        Ok(Transformed::no(node))
    })?;
    if !plan.transformed {
        return plan_err!("the final aggregate vanished from its plan");
    }
    Ok(plan.data)
}

fn leaf(schema: &SchemaRef) -> Result<Arc<dyn ExecutionPlan>> {
    Ok(Arc::new(FeedExec::try_new(schema, None)?))
}

fn as_aggregate(node: &Arc<dyn ExecutionPlan>) -> Option<&AggregateExec> {
    node.downcast_ref::<AggregateExec>()
}

#[cfg(test)]
mod tests {
    use datafusion::physical_plan::displayable;

    use crate::sql::testing::windowed;

    #[tokio::test]
    async fn only_needed_columns_reach_the_aggregate_and_a_windows_start_is_computed_once() {
        let text = include_str!("../../queries/city_minute.sql");
        let plan = displayable(windowed(text).await.split.partial.as_ref()).indent(false).to_string();
        assert!(plan.contains("FeedExec: columns=[event_time, amount, is_fraud, city, state]"), "{plan}");
        assert_eq!(plan.matches("tumble_start(").count(), 1, "{plan}");
        assert!(!plan.contains("Repartition"), "{plan}");
    }
}
