//! The open windows of one query: partial rows received, merged now and then, and given up when their window closes.
//!
//! The one law: state is immutable partial rows. Folding appends, reducing replaces them by equals, closing moves them
//! out; what the live view or a snapshot took earlier stays as it was. Rows of hops and cumulating windows are held by
//! slice and stay until no open window covers it, so nothing but them survives a commit.

use std::sync::Arc;

use arrow::array::TimestampMicrosecondArray;
use arrow::compute::kernels::{aggregate, boolean, cmp};
use arrow::compute::{concat_batches, filter_record_batch};
use arrow::record_batch::RecordBatch;

use super::WindowShape;
use super::slices::{Combined, Slices};
use super::stamp::{count_windows, times};
use crate::clock::Micros;
use crate::error::{Context, Result};
use crate::sql::WindowedQuery;

/// Partial rows below this number are not worth merging: they are one batch of DataFusion's size, scanned in well under
/// a millisecond.
const REDUCE_ROWS_MIN: usize = 8_192;

/// Batches of state before the small ones are merged among themselves: a batch of a few rows takes kilobytes, a tick brings
/// one, and a query with few groups would gather thousands before it has enough rows to be worth merging.
const BATCHES_MAX: usize = 64;

/// Rows below which a batch is small.
const SMALL_ROWS: usize = 1_024;

/// Windows that have closed, to be answered piece by piece.
#[derive(Debug)]
pub struct Closed {
    query: Arc<WindowedQuery>,
    parts: Parts,
}

#[derive(Debug)]
enum Parts {
    /// As they were held.
    Whole(Vec<RecordBatch>),
    Slices(Combined),
}

impl Closed {
    /// How many windows the next piece has, all of each, and their partial rows, which [`WindowedQuery::finish`] makes rows;
    /// `None` once all have been given. Of hops and cumulating windows a piece has some thousand partial rows.
    ///
    /// # Errors
    /// [`Error::Broken`](crate::error::Error::Broken) for partial rows without window times.
    pub fn next_piece(&mut self) -> Result<Option<(u64, Vec<RecordBatch>)>> {
        match &mut self.parts {
            Parts::Whole(partials) if partials.is_empty() => Ok(None),
            Parts::Whole(partials) => {
                let partials = std::mem::take(partials);
                Ok(Some((count_windows(&self.query, &partials)?, partials)))
            }
            Parts::Slices(combined) => match Slices::of(&self.query) {
                Some(slices) => slices.next_piece(combined),
                None => Ok(None),
            },
        }
    }

    /// The answer of all windows, and how many they are.
    ///
    /// # Errors
    /// As [`Closed::next_piece`] and [`WindowedQuery::finish`].
    pub async fn answer(mut self) -> Result<(u64, Vec<RecordBatch>)> {
        let (mut windows, mut rows) = (0, Vec::new());
        while let Some((count, partials)) = self.next_piece()? {
            windows += count;
            rows.extend(self.query.finish(partials).await?);
        }
        Ok((windows, rows))
    }
}

/// One query's open windows.
#[derive(Clone, Debug)]
pub struct OpenWindows {
    query: Arc<WindowedQuery>,
    state: Vec<RecordBatch>,
    rows: usize,
    /// Rows right after the last reduction.
    rows_reduced: usize,
}

impl OpenWindows {
    /// No open window.
    pub fn new(query: Arc<WindowedQuery>) -> Self {
        Self { query, state: Vec::new(), rows: 0, rows_reduced: 0 }
    }

    /// The query whose windows these are.
    pub fn query(&self) -> &Arc<WindowedQuery> {
        &self.query
    }

    /// Takes in partial rows ([`WindowedQuery::partial`]) of a micro-batch, of a rebuild or of a snapshot.
    ///
    /// Merges all rows into one a group once their number has grown by half since the last time, so that a row is
    /// merged a constant number of times on average.
    ///
    /// # Errors
    /// Batches that are not this query's partial rows.
    pub async fn fold(&mut self, partials: Vec<RecordBatch>) -> Result<()> {
        let partials: Vec<_> = partials.into_iter().filter(|batch| batch.num_rows() > 0).collect();
        self.rows += partials.iter().map(RecordBatch::num_rows).sum::<usize>();
        self.state.extend(partials);
        if self.rows >= REDUCE_ROWS_MIN.max(self.rows_reduced + self.rows_reduced / 2) {
            self.reduce().await?;
        } else if self.state.len() >= BATCHES_MAX {
            self.merge_small().await?;
        }
        Ok(())
    }

    /// Replaces the state of before by the partial rows of a snapshot or a rebuild.
    ///
    /// # Errors
    /// As [`OpenWindows::fold`].
    pub async fn restore(&mut self, partials: Vec<RecordBatch>) -> Result<()> {
        (self.state, self.rows, self.rows_reduced) = (Vec::new(), 0, 0);
        self.fold(partials).await
    }

    /// Takes out all windows with `after < end <= until`, where all up to `after` have been closed before. Its cost is bounded
    /// by what is open; [`Closed::next_piece`] gives what comes out.
    ///
    /// # Errors
    /// [`Error::Broken`] for state without window ends.
    ///
    /// [`Error::Broken`]: crate::error::Error::Broken
    pub async fn close(&mut self, after: Option<Micros>, until: Micros) -> Result<Closed> {
        let parts = match Slices::of(&self.query) {
            Some(slices) => {
                let closed = slices.close(&self.state, after, until).await?;
                self.state = slices.still_open(&self.state, until)?;
                Parts::Slices(closed)
            }
            None => {
                if self.is_session() && self.ends_by(until)? {
                    self.reduce().await?;
                }
                Parts::Whole(self.take_ended(until)?)
            }
        };
        self.rows = self.state.iter().map(RecordBatch::num_rows).sum();
        self.rows_reduced = self.rows_reduced.min(self.rows);
        Ok(Closed { query: Arc::clone(&self.query), parts })
    }

    /// Partial rows held: at least the number of open groups, at most half as many again plus the named minimum.
    pub fn groups(&self) -> usize {
        self.rows
    }

    /// Bytes allocated for the partial rows held.
    pub fn memory_bytes(&self) -> usize {
        self.state.iter().map(RecordBatch::get_array_memory_size).sum()
    }

    /// Whether no window is open.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// All partial rows as they are held, shared, not copied: for a snapshot.
    pub fn state(&self) -> &[RecordBatch] {
        &self.state
    }

    /// Partial rows that [`WindowedQuery::finish`] makes the answer of open windows as far as they are known: of every
    /// tumbling window and session; of hops and cumulating windows the newest one.
    ///
    /// # Errors
    /// As [`OpenWindows::close`].
    pub fn peek(&self) -> Result<Vec<RecordBatch>> {
        match Slices::of(&self.query) {
            Some(slices) => slices.newest(&self.state),
            None if self.is_session() => self.query.meet(&self.state),
            None => Ok(self.state.clone()),
        }
    }

    /// How many windows are open, when all up to `after` have been closed.
    ///
    /// # Errors
    /// As [`OpenWindows::close`].
    pub fn count(&self, after: Option<Micros>) -> Result<u64> {
        match Slices::of(&self.query) {
            Some(slices) => slices.count(&self.state, after),
            None => count_windows(&self.query, &self.peek()?),
        }
    }

    /// The earliest event time of state: rows of the lake from the start of its slice on rebuild this. `None` when no
    /// window is open.
    ///
    /// # Errors
    /// As [`OpenWindows::close`].
    pub fn open_since(&self) -> Result<Option<Micros>> {
        let mut first = None;
        for batch in &self.state {
            let start = aggregate::min(&times(&self.query, batch, self.query.window_start_column())?);
            first = [first, start].into_iter().flatten().min();
        }
        Ok(first)
    }

    /// End of the last open window: closing up to here closes all (the end of a bounded input). `None` when none is open.
    ///
    /// # Errors
    /// As [`OpenWindows::close`].
    pub fn open_until(&self) -> Result<Option<Micros>> {
        let slices = Slices::of(&self.query);
        let column = if slices.is_some() { self.query.window_start_column() } else { self.query.window_end_column() };
        let mut last = None;
        for batch in &self.state {
            last = last.max(aggregate::max(&times(&self.query, batch, column)?));
        }
        Ok(match slices {
            Some(slices) => last.map(|start| slices.last_end_of(start)),
            None => last,
        })
    }

    fn is_session(&self) -> bool {
        matches!(self.query.window().shape(), WindowShape::Session { .. })
    }

    /// Merges the small batches of state among themselves.
    async fn merge_small(&mut self) -> Result<()> {
        let (small, large): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.state).into_iter().partition(|batch| batch.num_rows() < SMALL_ROWS);
        self.state = large;
        self.state.extend(match small.first() {
            // Rows that are kept as they came have no fewer of them.
            Some(first) if self.query.is_buffered() => {
                vec![concat_batches(first.schema_ref(), &small).context(|| "keeping rows of open windows")?]
            }
            Some(_) => self.query.reduce(small).await?,
            None => Vec::new(),
        });
        self.rows = self.state.iter().map(RecordBatch::num_rows).sum();
        Ok(())
    }

    /// Merges all state into one row a group; sessions that have met become one before.
    async fn reduce(&mut self) -> Result<()> {
        let state = match self.is_session() {
            true => self.query.meet(&self.state)?,
            false => self.state.clone(),
        };
        self.state = self.query.reduce(state).await?;
        self.rows = self.state.iter().map(RecordBatch::num_rows).sum();
        self.rows_reduced = self.rows;
        Ok(())
    }

    /// Whether any interval ends by then; a session ends no earlier than any part of it.
    fn ends_by(&self, until: Micros) -> Result<bool> {
        for batch in &self.state {
            let end = aggregate::min(&times(&self.query, batch, self.query.window_end_column())?);
            if end.is_some_and(|end| end <= until) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Moves out the rows whose own bounds end by then.
    fn take_ended(&mut self, until: Micros) -> Result<Vec<RecordBatch>> {
        let mut closed = Vec::new();
        let mut open = Vec::with_capacity(self.state.len());
        for batch in std::mem::take(&mut self.state) {
            let ends = times(&self.query, &batch, self.query.window_end_column())?;
            let is_closed = |end: Option<Micros>| end.is_some_and(|end| end <= until);
            if !is_closed(aggregate::min(&ends)) {
                open.push(batch);
            } else if is_closed(aggregate::max(&ends)) {
                closed.push(batch);
            } else {
                let (out, kept) = cut(&batch, &ends, until)?;
                closed.push(out);
                open.push(kept);
            }
        }
        self.state = open;
        Ok(closed)
    }
}

/// Rows with `end <= closed_until`, and the others.
fn cut(
    batch: &RecordBatch,
    ends: &TimestampMicrosecondArray,
    closed_until: Micros,
) -> Result<(RecordBatch, RecordBatch)> {
    let parts = cmp::lt_eq(ends, &TimestampMicrosecondArray::new_scalar(closed_until)).and_then(|closed| {
        let open = boolean::not(&closed)?;
        Ok((filter_record_batch(batch, &closed)?, filter_record_batch(batch, &open)?))
    });
    parts.context(|| "taking closed windows out")
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;
    use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
    use proptest::prelude::*;

    use super::*;
    use crate::clock::MICROS_PER_SECOND;
    use crate::sql::testing::{NOON, cut as cuts, rows, shown, windowed};
    use crate::window::split_late;

    const MINUTE: Micros = 60 * MICROS_PER_SECOND;

    async fn query() -> Arc<WindowedQuery> {
        let text = "CREATE MATERIALIZED VIEW q AS SELECT window_start, window_end, CAST(window_start AS DATE) AS event_date, \
                    state, count(*) AS n, sum(amount) AS amount, count(DISTINCT card_token) AS cards \
                    FROM TUMBLE(transactions, event_time, INTERVAL '1 minute') GROUP BY window_start, window_end, state";
        Arc::new(windowed(text).await)
    }

    async fn answer(open: &mut OpenWindows, after: Option<Micros>, until: Micros) -> Vec<RecordBatch> {
        open.close(after, until).await.unwrap().answer().await.unwrap().1
    }

    /// The rows whose window ends in `(after, until]`, answered in one shot.
    async fn expected(query: &WindowedQuery, rows: &RecordBatch, after: Micros, until: Micros) -> Vec<String> {
        let all = query.finish(query.partial(std::slice::from_ref(rows)).await.unwrap()).await.unwrap();
        let inside = |batch: &RecordBatch| {
            let ends = batch.column_by_name("window_end").unwrap().as_primitive::<TimestampMicrosecondType>().clone();
            let kept = ends.iter().map(|end| end.map(|end| end > after && end <= until)).collect();
            filter_record_batch(batch, &kept).unwrap()
        };
        shown(&all.iter().map(inside).collect::<Vec<_>>())
    }

    #[tokio::test]
    async fn windows_leave_when_they_close_and_the_rest_stays() {
        let query = query().await;
        let rows = rows(1, 500, false);
        let mut open = OpenWindows::new(Arc::clone(&query));
        for batch in cuts(&rows, 1, 5) {
            open.fold(query.partial(&[batch]).await.unwrap()).await.unwrap();
        }
        let before = open.peek().unwrap();
        assert_eq!(open.open_since().unwrap(), Some(NOON));
        assert_eq!(open.open_until().unwrap(), Some(NOON + 30 * MINUTE));
        let until = NOON + 10 * MINUTE;
        let closed = answer(&mut open, None, until).await;
        assert_eq!(shown(&closed), expected(&query, &rows, Micros::MIN, until).await);
        assert_eq!(open.open_since().unwrap(), Some(until));
        assert!(answer(&mut open, Some(until), until).await.is_empty(), "a window closes once");
        let rest = answer(&mut open, Some(until), Micros::MAX).await;
        assert_eq!(shown(&rest), expected(&query, &rows, until, Micros::MAX).await);
        assert!(open.is_empty() && open.open_since().unwrap().is_none());
        let seen = query.finish(before).await.unwrap();
        assert_eq!(shown(&seen), expected(&query, &rows, Micros::MIN, Micros::MAX).await, "what was peeked at stays");
    }

    /// Folds the same rows `folds` times; state is merged by the last one, not before.
    async fn merged_by_the_last(query: Arc<WindowedQuery>, count: usize, folds: usize) {
        let partial = query.partial(&[rows(2, count, false)]).await.unwrap();
        let groups: usize = partial.iter().map(RecordBatch::num_rows).sum();
        let mut open = OpenWindows::new(query);
        for fold in 1..folds {
            open.fold(partial.clone()).await.unwrap();
            assert_eq!(open.groups(), fold * groups, "too few to be worth merging");
        }
        open.fold(partial.clone()).await.unwrap();
        assert_eq!(open.groups(), groups, "merged to one row a group");
        let answer = open.query().finish(open.peek().unwrap()).await.unwrap();
        let counts = answer.iter().flat_map(|batch| batch["n"].as_primitive::<Int64Type>().values().to_vec());
        assert_eq!(counts.sum::<i64>(), i64::try_from(folds * count).unwrap(), "no row is lost or counted twice");
        open.restore(partial).await.unwrap();
        assert_eq!(open.groups(), groups);
    }

    #[tokio::test]
    async fn state_is_merged_once_it_has_grown_by_half() {
        let text = "CREATE MATERIALIZED VIEW q AS SELECT window_start, CAST(window_start AS DATE) AS event_date, \
                    transaction_id, count(*) AS n FROM TUMBLE(transactions, event_time, INTERVAL '1 minute') \
                    GROUP BY window_start, window_end, transaction_id";
        merged_by_the_last(Arc::new(windowed(text).await), 3_000, REDUCE_ROWS_MIN.div_ceil(3_000)).await;
    }

    #[tokio::test]
    async fn many_small_batches_are_merged_among_themselves() {
        merged_by_the_last(query().await, 300, BATCHES_MAX).await;
    }

    /// Folds the batches epoch by epoch, closing by the watermark after each, with late rows set aside.
    async fn run(query: &Arc<WindowedQuery>, batches: &[RecordBatch], lateness: Micros) -> (Vec<String>, RecordBatch) {
        let mut open = OpenWindows::new(Arc::clone(query));
        let (mut closed_until, mut greatest, mut answers) = (None, Micros::MIN, Vec::new());
        let mut counted = Vec::new();
        for batch in batches.iter().filter(|batch| batch.num_rows() > 0) {
            let times = batch.column(0).as_primitive::<TimestampMicrosecondType>();
            let earliest = times.values().iter().copied().min().unwrap();
            let split = split_late(batch, 0, earliest, query.window(), closed_until).unwrap();
            counted.push(split.counted.clone());
            open.fold(query.partial(&[split.counted]).await.unwrap()).await.unwrap();
            greatest = greatest.max(aggregate::max(times).unwrap());
            let next = query.window().closed_until(greatest, lateness);
            answers.extend(answer(&mut open, closed_until, next).await);
            closed_until = closed_until.max(Some(next));
        }
        answers.extend(answer(&mut open, closed_until, Micros::MAX).await);
        (shown(&answers), concat_batches(&batches[0].schema(), &counted).unwrap())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        /// Whatever the cut, the order and the lateness: each window is answered once, by exactly the rows counted.
        #[test]
        fn closed_windows_are_the_one_shot_answer_of_the_rows_counted(seed: u64, parts in 1usize..10, lateness in 0i64..40 * MINUTE) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                let query = query().await;
                let rows = rows(seed, 200, false);
                let (answers, counted) = run(&query, &cuts(&rows, seed, parts), lateness).await;
                assert_eq!(answers, expected(&query, &counted, Micros::MIN, Micros::MAX).await);
                if lateness >= 30 * MINUTE {
                    assert_eq!(counted.num_rows(), rows.num_rows(), "nothing is late within the allowed lateness");
                }
            });
        }
    }
}
