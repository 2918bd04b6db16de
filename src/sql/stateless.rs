//! A stateless standing query: rows in, rows out, nothing remembered.
//!
//! The one law: the answer of a batch of rows does not depend on any other row.

use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use datafusion::execution::TaskContext;
use datafusion::physical_plan::ExecutionPlan;

use super::batch::BatchStatement;
use super::catalog::Driver;
use super::definition::Definition;
use super::feed::run;
use super::joined::{LookupRows, bind};
use super::lookup::Lookup;
use super::output::Output;
use super::windows::TimeRange;
use crate::contract::TableContract;
use crate::error::{Context, Result};

/// A query over the stream's table without a window (alerts), planned once.
#[derive(Clone, Debug)]
pub struct StatelessQuery {
    pub(super) definition: Definition,
    pub(super) plan: Arc<dyn ExecutionPlan>,
    pub(super) output: Output,
    pub(super) task: Arc<TaskContext>,
}

impl StatelessQuery {
    /// The materialized view's name, which is its table's.
    pub fn name(&self) -> &Arc<str> {
        &self.definition.name
    }

    /// SHA-256 (hex) of the normalised plan: the same for texts that differ in comments and layout only.
    pub fn fingerprint(&self) -> &str {
        &self.definition.fingerprint
    }

    /// Whose rows the query folds.
    pub fn driver(&self) -> &Driver {
        &self.definition.source.driver
    }

    /// The table the query fills.
    pub fn output(&self) -> &TableContract {
        &self.output.contract
    }

    /// What of the lake its rows are joined with.
    pub fn lookups(&self) -> &[Lookup] {
        &self.definition.lookups
    }

    /// Whether its rows are joined with anything, static files included.
    pub fn is_joined(&self) -> bool {
        !self.definition.lookups.is_empty() || !self.definition.files.is_empty()
    }

    /// The same query joined with these rows of its lookups; those of other queries may be among them.
    ///
    /// # Errors
    /// Rows that are not the lookup's.
    pub fn joined_with(&self, rows: &LookupRows) -> Result<Self> {
        let mut query = self.clone();
        query.plan = bind(&self.plan, rows).context(|| format!("joining `{}`", self.name()))?;
        Ok(query)
    }

    /// The query as a batch statement over the stream's table; with a range, only rows with event times inside it.
    ///
    /// # Errors
    /// None that planning the query would not have met.
    pub fn batch_select(&self, range: Option<TimeRange>) -> Result<BatchStatement> {
        self.definition.batch_select(range)
    }

    /// The query's answer to these rows of the stream's table (its schema without `_epoch` and `_late`), in the output
    /// table's schema.
    ///
    /// # Errors
    /// A batch of another schema, a failing expression, a value that does not fit the output table's types.
    pub async fn run(&self, rows: &[RecordBatch]) -> Result<Vec<RecordBatch>> {
        let answer = run(&self.plan, rows, &self.task).await.context(|| format!("running `{}`", self.name()))?;
        answer.iter().filter(|batch| batch.num_rows() > 0).map(|batch| self.output.cast(batch)).collect()
    }
}
