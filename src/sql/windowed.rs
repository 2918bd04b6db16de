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
use super::row_error::OnRows;
use super::sessions::{SessionColumns, Sessions, meet};
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
    /// How rows become partial rows of sessions.
    pub(super) sessions: Option<Box<Sessions>>,
    pub(super) output: Output,
    pub(super) task: Arc<TaskContext>,
}

of_definition!(WindowedQuery);

impl WindowedQuery {
    /// All whose rows it folds, [`WindowedQuery::driver`] first: joined windows may be over several views.
    pub fn drivers(&self) -> Vec<&Driver> {
        self.definition.drivers()
    }

    /// Which windows an event time falls into.
    pub fn window(&self) -> WindowSpec {
        self.window
    }

    /// How far its windows may close: by the watermark of what drives it, the least where that are several, less the
    /// allowed lateness. `stream` is the stream's watermark, `closed_until` tells how far the view of a name has closed.
    /// `None` while nothing may close.
    pub fn closable_until(
        &self,
        stream: Option<Micros>,
        closed_until: impl Fn(&str) -> Option<Micros>,
    ) -> Option<Micros> {
        let watermark = |driver: &Driver| match driver {
            Driver::Stream => stream,
            Driver::View(parent) => closed_until(&parent.name).map(|until| parent.watermark(until)),
        };
        // `None` is less than any time.
        let watermark = self.drivers().into_iter().map(watermark).min().flatten()?;
        Some(self.window.closed_until(watermark, self.allowed_lateness()))
    }

    /// How long a window stays open after the watermark has passed its end, microseconds; 0 unless the query says.
    pub fn allowed_lateness(&self) -> Micros {
        self.definition.allowed_lateness
    }

    /// Whether it joins windows with windows: partial rows are then the rows of open windows themselves.
    pub fn is_buffered(&self) -> bool {
        self.definition.is_buffered()
    }

    /// Whether its rows meet lookups when they are folded, so that a rebuild must join them again as they were. Joined
    /// windows meet theirs when they close.
    pub fn joins_rows(&self) -> bool {
        match self.is_buffered() {
            true => self.split.joins_rows,
            false => !self.definition.lookups.is_empty(),
        }
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
        let joining = || format!("joining `{}`", self.name());
        let mut query = self.clone();
        query.split.partial = bind(&self.split.partial, rows).context(joining)?;
        for side in &mut query.split.sides {
            side.plan = bind(&side.plan, rows).context(joining)?;
        }
        if self.is_buffered() {
            query.split.finish = bind(&self.split.finish, rows).context(joining)?;
        }
        query.sessions =
            self.sessions.as_ref().map(|s| s.joined_with(rows).map(Box::new)).transpose().context(joining)?;
        Ok(query)
    }

    /// Partial rows of these rows of the stream's table (its schema without `_epoch` and `_late`), or of the view that
    /// stands first.
    ///
    /// # Errors
    /// A batch of another schema, or a failing expression (a division by zero, a cast).
    pub async fn partial(&self, rows: &[RecordBatch]) -> Result<Vec<RecordBatch>> {
        self.partial_of(self.driver(), rows).await
    }

    /// Partial rows of these rows of one of [`WindowedQuery::drivers`].
    ///
    /// # Errors
    /// As [`WindowedQuery::partial`].
    pub async fn partial_of(&self, driver: &Driver, rows: &[RecordBatch]) -> Result<Vec<RecordBatch>> {
        let folding = || format!("folding rows into `{}`", self.name());
        if let Some(sessions) = &self.sessions {
            return sessions.partial(rows, &self.task).await.on_rows(folding);
        }
        if self.split.sides.is_empty() {
            return run(&self.split.partial, rows, &self.task).await.on_rows(folding);
        }
        let mut partials = Vec::new();
        for side in self.split.sides.iter().filter(|side| side.driver == *driver) {
            partials.extend(side.run(rows, &self.task).await.on_rows(folding)?);
        }
        Ok(partials)
    }

    /// As [`WindowedQuery::partial`], but rows of one session stay apart where their times or keys differ.
    ///
    /// # Errors
    /// As [`WindowedQuery::partial`].
    pub async fn partial_apart(&self, rows: &[RecordBatch]) -> Result<Vec<RecordBatch>> {
        let folding = || format!("folding rows into `{}`", self.name());
        run(&self.split.partial, rows, &self.task).await.on_rows(folding)
    }

    /// The same partial rows, each with the bounds of the session it belongs to; sessions that have met share theirs.
    ///
    /// # Errors
    /// A batch that is no partial batch of this query.
    pub fn meet(&self, partials: &[RecordBatch]) -> Result<Vec<RecordBatch>> {
        let Split { window_start: start, window_end: end, keys, .. } = &self.split;
        let at = SessionColumns { start: *start, end: *end, keys: keys.clone() };
        meet(partials, &at).context(|| format!("merging sessions of `{}`", self.name()))
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
                .on_rows(|| format!("closing windows of `{}`", self.name()))?,
            false => Arc::clone(&self.split.finish),
        };
        let rows = run(&finish, &partials, &self.task);
        let rows = rows.await.on_rows(|| format!("closing windows of `{}`", self.name()))?;
        rows.iter().filter(|batch| batch.num_rows() > 0).map(|batch| self.output.cast(batch)).collect()
    }
}
