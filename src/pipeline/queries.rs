//! The standing queries at work: what each has open, and how far each has closed.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use arrow::array::{AsArray, BooleanArray, RecordBatch, TimestampMicrosecondArray};
use arrow::compute::kernels::aggregate;
use arrow::compute::or;
use arrow::datatypes::TimestampMicrosecondType;
use futures::future::try_join_all;

use crate::clock::Micros;
use crate::contract::TableContract;
use crate::epoch::QueryProgress;
use crate::error::{Context, Error, Result};
use crate::sql::{Driver, StatelessQuery, WindowedQuery};
use crate::window::{LateSplit, OpenWindows, split_late};

/// A windowed query and its open windows.
#[derive(Debug)]
pub(super) struct Windowed {
    pub query: Arc<WindowedQuery>,
    pub open: OpenWindows,
    /// End of the last window closed; rows of windows up to here are late.
    pub closed_until: Option<Micros>,
    pub end_of_input: bool,
}

/// All standing queries of the job.
#[derive(Debug, Default)]
pub(super) struct Queries {
    pub windowed: Vec<Windowed>,
    pub stateless: Vec<Arc<StatelessQuery>>,
}

/// Which rows of one batch came too late.
#[derive(Debug, Default)]
pub(super) struct Late {
    /// Rows at least one query refused; `None` when none was.
    pub any: Option<BooleanArray>,
    pub by_query: BTreeMap<Arc<str>, u64>,
}

/// What folding some batches gave.
#[derive(Debug)]
pub(super) struct Folded {
    /// One a batch.
    pub late: Vec<Late>,
    /// Rows of stateless queries, by table.
    pub outputs: Vec<(Arc<str>, RecordBatch)>,
}

/// What closing windows gave.
#[derive(Debug, Default)]
pub(super) struct Closed {
    pub outputs: Vec<(Arc<str>, RecordBatch)>,
    pub windows: u64,
    /// A query has closed further than the slot before says, if only empty windows: that must be decided too, or a row
    /// of such a window would be late here and not to whoever reads the slots.
    pub advanced: bool,
}

impl Closed {
    /// The rows of one view.
    fn of(&self, view: &str) -> Vec<RecordBatch> {
        self.outputs.iter().filter(|(name, _)| **name == *view).map(|(_, rows)| rows.clone()).collect()
    }
}

impl Queries {
    /// Folds batches of the stream (without `_epoch` and `_late`) into every query.
    ///
    /// # Errors
    /// Whatever a plan says.
    pub(super) async fn fold(&mut self, batches: &[RecordBatch], stream: &TableContract) -> Result<Folded> {
        let mut late: Vec<Late> = batches.iter().map(|_| Late::default()).collect();
        let mut on_time = Vec::with_capacity(self.windowed.len());
        for windowed in self.of_stream() {
            on_time.push(windowed.on_time(batches, stream, &mut late)?);
        }
        // Plans of different queries share nothing: they run side by side.
        let folding = self.windowed.iter_mut().filter(|w| *w.query.driver() == Driver::Stream);
        let folds = folding.zip(&on_time).map(|(windowed, rows)| windowed.fold(rows));
        let running = self.stateless.iter().filter(|query| *query.driver() == Driver::Stream);
        let runs = running.map(|query| async move {
            let rows = query.run(batches).await?;
            Ok::<_, Error>(rows.into_iter().map(|batch| (query.name().clone(), batch)).collect::<Vec<_>>())
        });
        let (_, outputs) = futures::future::try_join(try_join_all(folds), try_join_all(runs)).await?;
        Ok(Folded { late, outputs: outputs.into_iter().flatten().collect() })
    }

    /// Closes every window the watermark has passed by its query's allowed lateness; at the end of a bounded input, every
    /// window there is.
    ///
    /// # Errors
    /// Whatever a final plan says, an overflow of a declared type included.
    pub(super) async fn close(&mut self, watermark: Option<Micros>, end_of_input: bool) -> Result<Closed> {
        let mut closed = Closed::default();
        for index in 0..self.windowed.len() {
            let reachable = self.closable_until(&self.windowed[index].query, watermark);
            let windowed = &mut self.windowed[index];
            // Parents stand before their children: what they have just closed is folded first.
            if let Driver::View(parent) = windowed.query.driver() {
                let rows = closed.of(&parent.name);
                windowed.fold(&rows).await?;
            }
            let target = match end_of_input {
                true => windowed.open.open_until()?,
                false => reachable,
            };
            if target <= windowed.closed_until {
                continue;
            }
            let Some(until) = target else { continue };
            windowed.closed_until = target;
            closed.advanced = true;
            windowed.end_of_input = end_of_input;
            let partials = windowed.open.close(until)?;
            if !partials.is_empty() {
                closed.windows += windowed.count_windows(&partials)?;
                let rows = windowed.query.finish(partials).await?;
                closed.outputs.extend(rows.into_iter().map(|batch| (windowed.query.name().clone(), batch)));
            }
        }
        for query in &self.stateless {
            let Driver::View(parent) = query.driver() else { continue };
            let rows = query.run(&closed.of(&parent.name)).await?;
            closed.outputs.extend(rows.into_iter().map(|batch| (query.name().clone(), batch)));
        }
        Ok(closed)
    }

    /// How far a query may close at this watermark of the stream: by what drives it, less its allowed lateness. `None`
    /// when nothing may close yet.
    pub(super) fn closable_until(&self, query: &WindowedQuery, watermark: Option<Micros>) -> Option<Micros> {
        let watermark = match query.driver() {
            Driver::Stream => watermark?,
            Driver::View(driver) => {
                let parent = self.windowed.iter().find(|w| *w.query.name() == driver.name)?;
                driver.watermark(parent.closed_until?)
            }
        };
        Some(query.window().closed_until(watermark, query.allowed_lateness()))
    }

    /// The windowed queries that fold the stream's own rows.
    pub(super) fn of_stream(&self) -> impl Iterator<Item = &Windowed> {
        self.windowed.iter().filter(|w| *w.query.driver() == Driver::Stream)
    }

    /// What the slot says of each query; queries that no longer run keep what was said before.
    ///
    /// # Errors
    /// [`Error::Broken`] for state without window times.
    pub(super) fn progress(
        &self,
        before: &BTreeMap<Arc<str>, QueryProgress>,
    ) -> Result<BTreeMap<Arc<str>, QueryProgress>> {
        let mut progress = before.clone();
        progress.values_mut().for_each(|gone| gone.running = false);
        for windowed in &self.windowed {
            let now = QueryProgress {
                fingerprint: windowed.query.fingerprint().to_owned(),
                closed_until: windowed.closed_until,
                open_since: windowed.open.open_since()?,
                end_of_input: windowed.end_of_input,
                running: true,
            };
            progress.insert(windowed.query.name().clone(), now);
        }
        for query in &self.stateless {
            let now = QueryProgress {
                fingerprint: query.fingerprint().to_owned(),
                closed_until: None,
                open_since: None,
                end_of_input: false,
                running: true,
            };
            progress.insert(query.name().clone(), now);
        }
        Ok(progress)
    }

    /// What each windowed query would answer if its open windows closed now.
    ///
    /// # Errors
    /// Whatever a final plan says.
    pub(super) async fn peek(&self) -> Result<BTreeMap<Arc<str>, Vec<RecordBatch>>> {
        let answers = self.windowed.iter().map(|windowed| async move {
            let rows = windowed.query.finish(windowed.open.peek()).await?;
            Ok::<_, Error>((windowed.query.name().clone(), rows))
        });
        Ok(try_join_all(answers).await?.into_iter().collect())
    }

    /// The largest allowed lateness of any query over the stream (microseconds).
    pub(super) fn lateness_max(&self) -> Micros {
        self.of_stream().map(|w| w.query.allowed_lateness()).max().unwrap_or(0)
    }

    /// How many windows are open, over all queries.
    ///
    /// # Errors
    /// [`Error::Broken`] for state without window times.
    pub(super) fn open_windows(&self) -> Result<u64> {
        self.windowed.iter().map(|windowed| windowed.count_windows(&windowed.open.peek())).sum()
    }

    /// Open groups of the query that has most.
    pub(super) fn groups_max(&self) -> usize {
        self.windowed.iter().map(|w| w.open.groups()).max().unwrap_or(0)
    }

    /// The time before which every windowed query over the stream has closed; `None` while one has closed nothing.
    pub(super) fn all_closed_until(&self) -> Option<Micros> {
        self.of_stream().map(|w| w.closed_until).min().flatten()
    }
}

impl Windowed {
    /// The rows this query still takes; the others are noted as late.
    fn on_time(&self, batches: &[RecordBatch], stream: &TableContract, late: &mut [Late]) -> Result<Vec<RecordBatch>> {
        let mut on_time = Vec::with_capacity(batches.len());
        for (batch, late) in batches.iter().zip(late) {
            let split = self.split(batch, stream)?;
            let rows = split.late_rows() as u64;
            if let Some(refused) = split.late {
                late.by_query.insert(self.query.name().clone(), rows);
                late.any = Some(match late.any.take() {
                    Some(before) => or(&before, &refused).context(|| "marking late rows")?,
                    None => refused,
                });
            }
            on_time.push(split.on_time);
        }
        Ok(on_time)
    }

    /// Folds rows read back from the lake. Those of open windows were all counted before, `_late` or not.
    ///
    /// # Errors
    /// As [`Queries::fold`].
    pub(super) async fn refold(&mut self, batch: &RecordBatch, stream: &TableContract) -> Result<()> {
        let split = self.split(batch, stream)?;
        self.fold(&[split.on_time]).await
    }

    fn split(&self, batch: &RecordBatch, stream: &TableContract) -> Result<LateSplit> {
        let event_time = event_time_index(batch, stream)?;
        let earliest = aggregate::min(event_times(batch, stream)?).unwrap_or(Micros::MAX);
        split_late(batch, event_time, earliest, self.query.window(), self.closed_until)
    }

    /// Folds rows of whatever drives the query, none of them late.
    ///
    /// # Errors
    /// Whatever a plan says.
    pub(super) async fn fold(&mut self, rows: &[RecordBatch]) -> Result<()> {
        let partials = self.query.partial(rows).await?;
        self.open.fold(partials).await
    }

    /// How many windows partial rows belong to.
    fn count_windows(&self, partials: &[RecordBatch]) -> Result<u64> {
        let mut ends = HashSet::new();
        for batch in partials {
            let column = batch.column(self.query.window_end_column());
            let column = column
                .as_primitive_opt::<TimestampMicrosecondType>()
                .ok_or_else(|| Error::broken("partial rows without window ends"))?;
            ends.extend(column.values().iter().copied());
        }
        Ok(ends.len() as u64)
    }
}

fn event_time_index(batch: &RecordBatch, stream: &TableContract) -> Result<usize> {
    let name = stream.stream.as_ref().map_or("", |s| s.event_time.as_ref());
    batch.schema_ref().index_of(name).map_err(|_| Error::broken(format!("no column `{name}` in a decoded batch")))
}

/// The event times of a batch of the stream.
pub(super) fn event_times<'a>(batch: &'a RecordBatch, stream: &TableContract) -> Result<&'a TimestampMicrosecondArray> {
    batch
        .column(event_time_index(batch, stream)?)
        .as_primitive_opt::<TimestampMicrosecondType>()
        .ok_or_else(|| Error::broken("event times that are not microseconds"))
}
