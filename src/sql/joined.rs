//! The physical side of lookups: which side of a join is built, and what it is built of.
//!
//! The one law: a lookup's rows are built into a hash table once, when they are bound; every run after that only probes
//! it with the rows that drive the query. Binding anew gives another plan and leaves the old one as it is.
//!
//! DataFusion keeps the table a hash join has built as long as only its probe side is replaced, so a run over a lookup of
//! 100,000 rows costs what it costs over ten. It also keeps the join's metrics, which grow by each run: hence
//! [`RUNS_MAX`].

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Result, plan_err};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::joins::{HashJoinExec, PartitionMode};

use super::feed::FeedExec;

/// Runs of a bound plan after which it should be bound anew: half a minute of ticks. A run leaves some twenty kilobytes of
/// metrics behind, 2.5 MB in all; building a lookup of 100,000 rows again costs some milliseconds.
pub const RUNS_MAX: u32 = 128;

/// Rows of lookups, by the lookup's name.
pub type LookupRows = BTreeMap<Arc<str>, Vec<RecordBatch>>;

/// Puts what drives the query on the probe side of every join.
///
/// # Errors
/// A join that is no hash join: one without an equality.
pub(super) fn arrange(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let arranged = plan.transform_up(|node| {
        if node.name().ends_with("JoinExec") && node.downcast_ref::<HashJoinExec>().is_none() {
            return plan_err!("a join without an equality of the two sides");
        }
        match node.downcast_ref::<HashJoinExec>() {
            Some(join) if is_driven(join.left())? => {
                Ok(Transformed::yes(join.swap_inputs(PartitionMode::CollectLeft)?))
            }
            _ => Ok(Transformed::no(node)),
        }
    })?;
    Ok(arranged.data)
}

/// Narrows the feeds of lookups to the columns the plan needs.
pub(super) fn narrow(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let narrowed = plan.transform_up(|node| match node.downcast_ref::<FeedExec>() {
        Some(feed) if feed.lookup_name().is_some() => Ok(Transformed::yes(Arc::new(feed.narrowed()) as _)),
        _ => Ok(Transformed::no(node)),
    })?;
    Ok(narrowed.data)
}

/// The columns a plan needs of each lookup; a lookup it does not need at all has none.
pub(super) fn needed(plan: &Arc<dyn ExecutionPlan>) -> Result<BTreeMap<Arc<str>, SchemaRef>> {
    let mut needed = BTreeMap::new();
    plan.apply(|node| {
        if let Some(feed) = node.downcast_ref::<FeedExec>()
            && let Some(name) = feed.lookup_name()
        {
            needed.insert(Arc::clone(name), feed.schema());
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(needed)
}

/// The plan joined with these rows, in place of whatever it was joined with; lookups that are not among them keep theirs.
/// Of the rows it takes the columns it needs, by name: other plans may need others.
pub(super) fn bind(plan: &Arc<dyn ExecutionPlan>, rows: &LookupRows) -> Result<Arc<dyn ExecutionPlan>> {
    let bound = Arc::clone(plan).transform_up(|node| {
        let lookup = node.downcast_ref::<FeedExec>();
        let held = lookup.and_then(|feed| feed.lookup_name()).and_then(|name| rows.get(name));
        match (lookup, held) {
            (Some(feed), Some(rows)) => {
                let rows = narrowed_rows(rows, feed.input())?;
                Ok(Transformed::yes(Arc::new(feed.holding(&rows)?) as _))
            }
            // What the join has built and measured so far belongs to other rows.
            _ => Ok(Transformed::yes(node.reset_state()?)),
        }
    })?;
    Ok(bound.data)
}

/// Rows with the columns of `schema` alone, found by name.
pub(super) fn narrowed_rows(rows: &[RecordBatch], schema: &SchemaRef) -> Result<Vec<RecordBatch>> {
    let narrow = |batch: &RecordBatch| {
        let columns = schema.fields().iter().map(|field| batch.schema_ref().index_of(field.name()));
        Ok(batch.project(&columns.collect::<std::result::Result<Vec<_>, _>>()?)?)
    };
    rows.iter().map(narrow).collect()
}

/// Whether the rows that drive the query come from here.
fn is_driven(plan: &Arc<dyn ExecutionPlan>) -> Result<bool> {
    let mut driven = false;
    plan.apply(|node| {
        driven |= node.downcast_ref::<FeedExec>().is_some_and(|feed| feed.lookup_name().is_none());
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(driven)
}
