//! The leaf of a standing query's plan: batches handed in from outside.
//!
//! The one law: a plan is made once over an empty feed and run many times over copies whose feed holds that run's
//! batches, so nothing a run leaves behind (metrics, states of operators) reaches the next one.
//! A feed reports no statistics: the planner must not answer a query from those of an empty table.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Result, internal_err};
use datafusion::execution::TaskContext;
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType, ReplaceChildrenOptions, SchedulingType};
use datafusion::physical_plan::memory::MemoryStream;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties, SendableRecordBatchStream, collect,
};

/// A table without rows, whose scans are [`FeedExec`]s.
#[derive(Debug)]
pub(super) struct FeedTable {
    schema: SchemaRef,
}

impl FeedTable {
    /// A table of this schema.
    pub(super) fn new(schema: SchemaRef) -> Self {
        Self { schema }
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
        Ok(Arc::new(FeedExec::try_new(&self.schema, projection.cloned())?))
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
    batches: Vec<RecordBatch>,
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
        Ok(Self { input: Arc::clone(input), output, projection, batches: Vec::new(), properties: Arc::new(properties) })
    }

    /// The same feed with these batches, which have the feed's input types in its order.
    fn holding(&self, batches: &[RecordBatch]) -> Result<Self> {
        for batch in batches {
            let same_types = || {
                let (had, wanted) = (batch.schema_ref().fields(), self.input.fields());
                had.len() == wanted.len() && had.iter().zip(wanted).all(|(a, b)| a.data_type() == b.data_type())
            };
            if !Arc::ptr_eq(batch.schema_ref(), &self.input) && !same_types() {
                return internal_err!("a batch of {} where {} was planned", batch.schema_ref(), self.input);
            }
        }
        Ok(Self { batches: batches.to_vec(), ..self.clone() })
    }
}

/// Runs a fresh copy of `plan` with these batches in its feed.
pub(super) async fn run(
    plan: &Arc<dyn ExecutionPlan>,
    batches: &[RecordBatch],
    task: &Arc<TaskContext>,
) -> Result<Vec<RecordBatch>> {
    let plan = Arc::clone(plan).transform_down(|node| match node.downcast_ref::<FeedExec>() {
        Some(feed) => Ok(Transformed::new(Arc::new(feed.holding(batches)?) as _, true, TreeNodeRecursion::Jump)),
        None => Ok(Transformed::no(node)),
    })?;
    collect(plan.data, Arc::clone(task)).await
}

impl DisplayAs for FeedExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.output.fields().iter().map(|field| field.name().as_str()).collect();
        write!(f, "FeedExec: columns=[{}]", names.join(", "))
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
        let batches = match &self.projection {
            Some(columns) => self.batches.iter().map(|batch| Ok(batch.project(columns)?)).collect::<Result<_>>()?,
            None => self.batches.clone(),
        };
        Ok(Box::pin(MemoryStream::try_new(batches, Arc::clone(&self.output), None)?))
    }
}
