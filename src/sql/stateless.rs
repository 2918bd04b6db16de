//! A stateless standing query: rows in, rows out, nothing remembered.
//!
//! The one law: the answer of a batch of rows does not depend on any other row.

use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use datafusion::execution::TaskContext;
use datafusion::physical_plan::ExecutionPlan;

use super::definition::{Definition, of_definition};
use super::feed::run;
use super::joined::{LookupRows, bind};
use super::output::Output;
use super::row_error::OnRows;
use crate::error::{Context, Result};

/// A query over the stream's table without a window (alerts), planned once.
#[derive(Clone, Debug)]
pub struct StatelessQuery {
    pub(super) definition: Definition,
    pub(super) plan: Arc<dyn ExecutionPlan>,
    pub(super) output: Output,
    pub(super) task: Arc<TaskContext>,
}

of_definition!(StatelessQuery);

impl StatelessQuery {
    /// The same query joined with these rows of its lookups; those of other queries may be among them.
    ///
    /// # Errors
    /// Rows that are not the lookup's.
    pub fn joined_with(&self, rows: &LookupRows) -> Result<Self> {
        let mut query = self.clone();
        query.plan = bind(&self.plan, rows).context(|| format!("joining `{}`", self.name()))?;
        Ok(query)
    }

    /// The query's answer to these rows of the stream's table (its schema without `_epoch` and `_late`), in the output
    /// table's schema.
    ///
    /// # Errors
    /// A batch of another schema, a failing expression, a value that does not fit the output table's types.
    pub async fn run(&self, rows: &[RecordBatch]) -> Result<Vec<RecordBatch>> {
        let answer = run(&self.plan, rows, &self.task).await.on_rows(|| format!("running `{}`", self.name()))?;
        answer.iter().filter(|batch| batch.num_rows() > 0).map(|batch| self.output.cast(batch)).collect()
    }
}
