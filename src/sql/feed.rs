//! The leaf of a standing query's plan: batches handed in from outside.
//!
//! The one law: a plan is made once over an empty feed and run many times over copies whose feed holds that run's
//! batches, so nothing a run leaves behind (metrics, states of operators) reaches the next one.
//! A feed reports no statistics: the planner must not answer a query from those of an empty table.
//! The feed of what drives a query has no name; a lookup's has one, and keeps its rows from run to run ([`super::joined`]).
//! Where windows over several sources are joined, one feed takes the rows of one source out of those of all.

use std::fmt;
use std::sync::Arc;

use arrow::array::Int32Array;
use arrow::compute::filter_record_batch;
use arrow::compute::kernels::cmp;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, internal_err};
use datafusion::execution::TaskContext;
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{
    Boundedness, EmissionType, ReplaceChildrenOptions, SchedulingType, replace_children_if_necessary,
};
use datafusion::physical_plan::memory::MemoryStream;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties, SendableRecordBatchStream, collect,
};

/// A table without rows, whose scans are [`FeedExec`]s.
#[derive(Debug)]
pub(super) struct FeedTable {
    schema: SchemaRef,
    lookup: Option<Arc<str>>,
    side: usize,
}

impl FeedTable {
    /// A table of this schema.
    pub(super) fn new(schema: SchemaRef) -> Self {
        Self { schema, lookup: None, side: 0 }
    }

    /// The table of a lookup of this name.
    pub(super) fn lookup(name: Arc<str>, schema: SchemaRef) -> Self {
        Self { schema, lookup: Some(name), side: 0 }
    }

    /// The table of one source of joined windows.
    pub(super) fn side(side: usize, schema: SchemaRef) -> Self {
        Self { schema, lookup: None, side }
    }
}

#[async_trait]
impl TableProvider for FeedTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        _: &dyn Session,
        projection: Option<&Vec<usize>>,
        _: &[Expr],
        _: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let feed = FeedExec::try_new(&self.schema, projection.cloned())?;
        Ok(Arc::new(FeedExec { lookup: self.lookup.clone(), side: self.side, ..feed }))
    }
}

/// Emits the batches it holds, narrowed to the columns the plan needs, as its only partition.
#[derive(Debug, Clone)]
pub(super) struct FeedExec {
    /// Of the batches handed in.
    input: SchemaRef,
    /// Of the batches emitted.
    output: SchemaRef,
    projection: Option<Vec<usize>>,
    /// Of a lookup.
    lookup: Option<Arc<str>>,
    /// Which source of joined windows it stands for.
    side: usize,
    /// The column of its input that says which source a row is of; `None` where all rows are of one.
    tag: Option<usize>,
    /// `None` until something was handed in.
    batches: Option<Vec<RecordBatch>>,
    properties: Arc<PlanProperties>,
}

impl FeedExec {
    /// An empty feed.
    pub(super) fn try_new(input: &SchemaRef, projection: Option<Vec<usize>>) -> Result<Self> {
        let output = match &projection {
            Some(columns) => Arc::new(input.project(columns)?),
            None => Arc::clone(input),
        };
        let properties = PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(&output)),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Incremental,
            Boundedness::Bounded,
        )
        .with_scheduling_type(SchedulingType::Cooperative);
        Ok(Self {
            input: Arc::clone(input),
            output,
            projection,
            lookup: None,
            side: 0,
            tag: None,
            batches: None,
            properties: Arc::new(properties),
        })
    }

    /// The lookup whose rows it emits; `None` for those that drive the query.
    pub(super) fn lookup_name(&self) -> Option<&Arc<str>> {
        self.lookup.as_ref()
    }

    /// The schema of the batches handed in.
    pub(super) fn input(&self) -> &SchemaRef {
        &self.input
    }

    /// The same feed with batches that hold only the columns it emits.
    pub(super) fn narrowed(&self) -> Self {
        Self { input: Arc::clone(&self.output), projection: None, ..self.clone() }
    }

    /// The source of joined windows it stands for.
    pub(super) fn side(&self) -> usize {
        self.side
    }

    /// The same feed over batches of other columns, among which those it emits are found by what `named` makes of their
    /// names. Of these batches it emits the rows whose column `tag` is its side; all without one.
    pub(super) fn over(&self, input: &SchemaRef, tag: Option<usize>, named: impl Fn(&str) -> String) -> Result<Self> {
        let columns = self.output.fields().iter().map(|field| input.index_of(&named(field.name())));
        let columns = columns.collect::<std::result::Result<Vec<_>, _>>()?;
        Ok(Self { input: Arc::clone(input), projection: Some(columns), tag, ..self.clone() })
    }

    /// What it emits of a batch.
    fn taken(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let Some(tag) = self.tag else {
            return Ok(match &self.projection {
                Some(columns) => batch.project(columns)?,
                None => batch.clone(),
            });
        };
        let own = Int32Array::new_scalar(i32::try_from(self.side).unwrap_or(i32::MAX));
        let rows = filter_record_batch(batch, &cmp::eq(batch.column(tag), &own)?)?;
        let rows = match &self.projection {
            Some(columns) => rows.project(columns)?,
            None => rows,
        };
        let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.output), rows.columns().to_vec(), &options)?)
    }

    /// The same feed with these batches, which have the feed's input types in its order.
    pub(super) fn holding(&self, batches: &[RecordBatch]) -> Result<Self> {
        for batch in batches {
            let same_types = || {
                let (had, wanted) = (batch.schema_ref().fields(), self.input.fields());
                had.len() == wanted.len() && had.iter().zip(wanted).all(|(a, b)| a.data_type() == b.data_type())
            };
            if !Arc::ptr_eq(batch.schema_ref(), &self.input) && !same_types() {
                return internal_err!("a batch of {} where {} was planned", batch.schema_ref(), self.input);
            }
        }
        Ok(Self { batches: Some(batches.to_vec()), ..self.clone() })
    }
}

/// Runs a fresh copy of `plan` with these batches in the feed of what drives it. What was built of lookups stays.
pub(super) async fn run(
    plan: &Arc<dyn ExecutionPlan>,
    batches: &[RecordBatch],
    task: &Arc<TaskContext>,
) -> Result<Vec<RecordBatch>> {
    let plan = fed(plan, batches)?.unwrap_or_else(|| Arc::clone(plan));
    collect(plan, Arc::clone(task)).await
}

/// A copy of the plan with these batches; `None` for a part that nothing drives, such as the built side of a join, which must
/// stay what it is.
fn fed(plan: &Arc<dyn ExecutionPlan>, batches: &[RecordBatch]) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    if let Some(feed) = plan.downcast_ref::<FeedExec>() {
        return match feed.lookup {
            None => Ok(Some(Arc::new(feed.holding(batches)?))),
            Some(_) => Ok(None),
        };
    }
    let mut is_driven = false;
    let mut children = Vec::new();
    for child in plan.children() {
        let fed = fed(child, batches)?;
        is_driven |= fed.is_some();
        children.push(fed.unwrap_or_else(|| Arc::clone(child)));
    }
    if !is_driven {
        return Ok(None);
    }
    let copy = replace_children_if_necessary(Arc::clone(plan), children)?;
    Ok(Some(match copy.downcast_ref::<SortExec>() {
        // A sort shares its metrics with its copies: they would grow by some kilobytes each run, four times a second.
        Some(_) => copy.reset_state()?,
        None => copy,
    }))
}

impl DisplayAs for FeedExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.output.fields().iter().map(|field| field.name().as_str()).collect();
        match &self.lookup {
            Some(lookup) => write!(f, "FeedExec: lookup={lookup}, columns=[{}]", names.join(", ")),
            None => write!(f, "FeedExec: columns=[{}]", names.join(", ")),
        }
    }
}

impl ExecutionPlan for FeedExec {
    fn name(&self) -> &'static str {
        "FeedExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        _: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn with_new_children(self: Arc<Self>, _: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn execute(&self, _: usize, _: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let Some(batches) = &self.batches else {
            return internal_err!("nothing was handed to {:?}", self.lookup);
        };
        let batches = batches.iter().map(|batch| self.taken(batch)).collect::<Result<_>>()?;
        Ok(Box::pin(MemoryStream::try_new(batches, Arc::clone(&self.output), None)?))
    }
}

#[cfg(test)]
mod tests {
    use datafusion::common::tree_node::TreeNode;

    use super::*;
    use crate::sql::testing::{rows, windowed};

    /// Metrics that the nodes of a plan hold; of a sort they are shared with every copy that was run.
    fn metrics(plan: &Arc<dyn ExecutionPlan>) -> usize {
        let mut count = 0;
        plan.apply(|node| {
            count += node.metrics().map_or(0, |metrics| metrics.iter().count());
            Ok(TreeNodeRecursion::Continue)
        })
        .unwrap();
        count
    }

    #[tokio::test]
    async fn a_run_leaves_nothing_behind_in_the_plan() {
        let query = windowed(include_str!("../../queries/card_velocity.sql")).await;
        let plans = [&query.split.partial, &query.split.reduce, &query.split.finish];
        let sorts =
            plans.iter().filter(|plan| plan.exists(|node| Ok(node.downcast_ref::<SortExec>().is_some())).unwrap());
        assert!(sorts.count() > 0, "without a sort this proves nothing");
        let before = plans.map(metrics);
        for seed in 0..3 {
            let partials = query.partial(&[rows(seed, 100, false)]).await.unwrap();
            query.finish(query.reduce(partials).await.unwrap()).await.unwrap();
        }
        assert_eq!(plans.map(metrics), before);
    }
}
