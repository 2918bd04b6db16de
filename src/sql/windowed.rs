//! A windowed standing query: partial rows per micro-batch, answers per closed window.
//!
//! The one law: `finish` of any reduction of any cut of the rows into batches equals the query's one-shot answer, once
//! slices are windows: `partial` gives rows the bounds of slices, [`crate::window::OpenWindows`] puts windows together.
//! It holds plans, no rows: open windows live in [`crate::window::OpenWindows`].

use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use datafusion::execution::TaskContext;

use super::catalog::Driver;
use super::definition::{Definition, of_definition};
use super::feed::run;
use super::joined::{LookupRows, bind};
use super::output::Output;
use super::spec::WindowSpec;
use super::split::Split;
use crate::clock::Micros;
use crate::error::{Context, Result};

/// A query over windows, planned once.
#[derive(Clone, Debug)]
pub struct WindowedQuery {
    pub(super) definition: Definition,
    pub(super) window: WindowSpec,
    pub(super) split: Split,
    pub(super) output: Output,
    pub(super) task: Arc<TaskContext>,
}

of_definition!(WindowedQuery);

impl WindowedQuery {
    /// Which windows an event time falls into.
    pub fn window(&self) -> WindowSpec {
        self.window
    }

    /// How far its windows may close: by the watermark of what drives it, less the allowed lateness. `stream` is the stream's
    /// watermark, `closed_until` tells how far the view of a name has closed. `None` while nothing may close.
    pub fn closable_until(
        &self,
        stream: Option<Micros>,
        closed_until: impl FnOnce(&str) -> Option<Micros>,
    ) -> Option<Micros> {
        let watermark = match self.driver() {
            Driver::Stream => stream?,
            Driver::View(parent) => parent.watermark(closed_until(&parent.name)?),
        };
        Some(self.window.closed_until(watermark, self.allowed_lateness()))
    }

    /// How long a window stays open after the watermark has passed its end, microseconds; 0 unless the query says.
    pub fn allowed_lateness(&self) -> Micros {
        self.definition.allowed_lateness
    }

    /// Whether it joins windows with windows: partial rows are then the rows of open windows themselves.
    pub fn is_buffered(&self) -> bool {
        self.definition.buffered
    }

    /// Position of `window_start` in partial rows.
    pub fn window_start_column(&self) -> usize {
        self.split.window_start
    }

    /// Position of `window_end` in partial rows.
    pub fn window_end_column(&self) -> usize {
        self.split.window_end
    }

    /// Positions of the columns in partial rows that tell one session from another at the same time: all other groups of a
    /// session share its bounds. Empty for other windows, and where all rows share a session.
    pub fn session_key_columns(&self) -> &[usize] {
        &self.split.keys
    }

    /// The same query joined with these rows of its lookups; those of other queries may be among them.
    ///
    /// # Errors
    /// Rows that are not the lookup's.
    pub fn joined_with(&self, rows: &LookupRows) -> Result<Self> {
        let mut query = self.clone();
        query.split.partial = bind(&self.split.partial, rows).context(|| format!("joining `{}`", self.name()))?;
        Ok(query)
    }

    /// Partial rows of these rows of the stream's table (its schema without `_epoch` and `_late`).
    ///
    /// # Errors
    /// A batch of another schema, or a failing expression (a division by zero, a cast).
    pub async fn partial(&self, rows: &[RecordBatch]) -> Result<Vec<RecordBatch>> {
        run(&self.split.partial, rows, &self.task).await.context(|| format!("folding rows into `{}`", self.name()))
    }

    /// The same state in one row a group.
    ///
    /// # Errors
    /// A batch that is no partial batch of this query.
    pub async fn reduce(&self, partials: Vec<RecordBatch>) -> Result<Vec<RecordBatch>> {
        run(&self.split.reduce, &partials, &self.task)
            .await
            .context(|| format!("merging partial rows of `{}`", self.name()))
    }

    /// The answer of the windows in these partial rows, in the output table's schema.
    ///
    /// # Errors
    /// A value that does not fit the output table's types: a sum with too many digits, NULL where none may be.
    pub async fn finish(&self, partials: Vec<RecordBatch>) -> Result<Vec<RecordBatch>> {
        let finish = match self.is_buffered() {
            // Its joins are built of the rows that drive it: what they have built of other windows must go.
            true => bind(&self.split.finish, &LookupRows::new())
                .context(|| format!("closing windows of `{}`", self.name()))?,
            false => Arc::clone(&self.split.finish),
        };
        let rows = run(&finish, &partials, &self.task);
        let rows = rows.await.context(|| format!("closing windows of `{}`", self.name()))?;
        rows.iter().filter(|batch| batch.num_rows() > 0).map(|batch| self.output.cast(batch)).collect()
    }
}
