//! The standing queries at work: what each has open, and how far each has closed.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{AsArray, BooleanArray, RecordBatch, TimestampMicrosecondArray};
use arrow::compute::kernels::aggregate;
use arrow::compute::or;
use arrow::datatypes::TimestampMicrosecondType;
use futures::future::try_join_all;

use super::restate::{Query, Reach, Restatement, Subject, decided};
use crate::clock::Micros;
use crate::contract::TableContract;
use crate::epoch::{Owed, QueryProgress};
use crate::error::{Context, Error, Result};
use crate::lookups::Loaded;
use crate::sql::{BUFFERED_ROWS_MAX, Driver, RUNS_MAX, StatelessQuery, TimeRange, WindowedQuery};
use crate::window::{LateSplit, OpenWindows, closed_windows_of, joined, split_late};

/// A windowed query and its open windows.
#[derive(Debug)]
pub(super) struct Windowed {
    pub query: Arc<WindowedQuery>,
    pub open: OpenWindows,
    /// End of the last window closed; rows of windows up to here are late.
    pub closed_until: Option<Micros>,
    pub end_of_input: bool,
    /// How far its table is right.
    pub reach: Reach,
}

/// A query without windows.
#[derive(Clone, Debug)]
pub(super) struct Stateless {
    pub query: Arc<StatelessQuery>,
    pub reach: Reach,
}

/// All standing queries of the job.
#[derive(Debug, Default)]
pub(super) struct Queries {
    pub windowed: Vec<Windowed>,
    pub stateless: Vec<Stateless>,
    /// What they are joined with since the last epoch was drafted.
    joined: Arc<Loaded>,
    /// Folds since then.
    folds: u32,
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
    /// Joins every query with these rows from now on. Only between two epochs: within one all rows see one version.
    ///
    /// # Errors
    /// Rows that are not those of a query's lookups.
    pub(super) fn join_with(&mut self, loaded: Arc<Loaded>) -> Result<()> {
        for windowed in self.windowed.iter_mut().filter(|w| w.query.is_joined()) {
            windowed.join_with(&loaded)?;
        }
        for stateless in self.stateless.iter_mut().filter(|stateless| stateless.query.is_joined()) {
            stateless.query = Arc::new(stateless.query.joined_with(&loaded.rows)?);
        }
        (self.joined, self.folds) = (loaded, 0);
        Ok(())
    }

    /// What the queries are joined with.
    pub(super) fn joined(&self) -> &Arc<Loaded> {
        &self.joined
    }

    /// An epoch was drafted: the next one sees what has been loaded meanwhile. Plans that ran often are bound anew to what
    /// they see already.
    ///
    /// # Errors
    /// As [`Queries::join_with`].
    pub(super) fn next_epoch(&mut self, loaded: Option<Arc<Loaded>>) -> Result<()> {
        match loaded {
            Some(loaded) => self.join_with(loaded),
            None if self.folds >= RUNS_MAX => self.join_with(Arc::clone(&self.joined)),
            None => Ok(()),
        }
    }

    /// Folds batches of the stream (without `_epoch` and `_late`) into every query.
    ///
    /// # Errors
    /// Whatever a plan says.
    pub(super) async fn fold(&mut self, batches: &[RecordBatch], stream: &TableContract) -> Result<Folded> {
        self.folds = self.folds.saturating_add(1);
        let mut late: Vec<Late> = batches.iter().map(|_| Late::default()).collect();
        let mut on_time = Vec::with_capacity(self.windowed.len());
        for windowed in self.of_stream() {
            on_time.push(windowed.on_time(batches, stream, &mut late)?);
        }
        // Plans of different queries share nothing: they run side by side.
        let folding = self.windowed.iter_mut().filter(|w| *w.query.driver() == Driver::Stream);
        let folds = folding.zip(&on_time).map(|(windowed, rows)| windowed.fold(rows));
        let running = self.stateless.iter().map(|stateless| &stateless.query);
        let running = running.filter(|query| *query.driver() == Driver::Stream);
        let runs = running.map(|query| async move {
            let rows = query.run(batches).await?;
            Ok::<_, Error>(rows.into_iter().map(|batch| (query.name().clone(), batch)).collect::<Vec<_>>())
        });
        let (_, outputs) = futures::future::try_join(try_join_all(folds), try_join_all(runs)).await?;
        Ok(Folded { late, outputs: outputs.into_iter().flatten().collect() })
    }

    /// Closes every window the watermark has passed by its query's allowed lateness; at the end of a bounded input, every
    /// window there is. `epoch` is the one being built.
    ///
    /// # Errors
    /// Whatever a final plan says, an overflow of a declared type included.
    pub(super) async fn close(&mut self, epoch: u64, watermark: Option<Micros>, end_of_input: bool) -> Result<Closed> {
        let mut closed = Closed::default();
        for index in 0..self.windowed.len() {
            let closed_until = |view: &str| self.windowed.iter().find(|w| **w.query.name() == *view)?.closed_until;
            let reachable = self.windowed[index].query.closable_until(watermark, closed_until);
            let windowed = &mut self.windowed[index];
            // Parents stand before their children: what they have just closed is folded first.
            let drivers: Vec<Driver> = windowed.query.drivers().into_iter().cloned().collect();
            for driver in &drivers {
                if let Driver::View(parent) = driver {
                    windowed.fold_closed(epoch, driver, &closed.of(&parent.name)).await?;
                }
            }
            let target = match end_of_input {
                true => windowed.open.open_until()?,
                false => reachable,
            };
            if target <= windowed.closed_until {
                continue;
            }
            let Some(until) = target else { continue };
            let after = std::mem::replace(&mut windowed.closed_until, target);
            closed.advanced = true;
            windowed.end_of_input = end_of_input;
            let mut pieces = windowed.open.close(after, until).await?;
            while let Some((windows, partials)) = pieces.next_piece()? {
                closed.windows += windows;
                // Joined windows meet their lookups now: the query of the open windows is bound to none.
                let rows = windowed.query.finish(partials).await?;
                closed.outputs.extend(rows.into_iter().map(|batch| (windowed.query.name().clone(), batch)));
            }
        }
        for Windowed { query, open, .. } in &self.windowed {
            let (batches, rows, bytes) = (open.state().len(), open.groups(), open.memory_bytes());
            tracing::debug!(query = %query.name(), batches, rows, bytes, "open windows");
        }
        for Stateless { query, .. } in &self.stateless {
            let Driver::View(parent) = query.driver() else { continue };
            let rows = query.run(&closed.of(&parent.name)).await?;
            closed.outputs.extend(rows.into_iter().map(|batch| (query.name().clone(), batch)));
        }
        Ok(closed)
    }

    /// The windowed queries that fold the stream's own rows.
    pub(super) fn of_stream(&self) -> impl Iterator<Item = &Windowed> {
        self.windowed.iter().filter(|w| *w.query.driver() == Driver::Stream)
    }

    /// What the slot says of each query; queries that no longer run keep what was said before, by the slot of `epoch`.
    ///
    /// # Errors
    /// [`Error::Broken`] for state without window times.
    pub(super) fn progress(
        &self,
        epoch: u64,
        before: &BTreeMap<Arc<str>, QueryProgress>,
    ) -> Result<BTreeMap<Arc<str>, QueryProgress>> {
        let mut progress = before.clone();
        for gone in progress.values_mut().filter(|gone| gone.running) {
            (gone.running, gone.ran_through) = (false, Some(epoch));
        }
        for windowed in &self.windowed {
            let mut now = QueryProgress {
                closed_until: windowed.closed_until,
                open_since: windowed.open.open_since()?,
                end_of_input: windowed.end_of_input,
                lookups: self.joined.versions_of(windowed.query.lookups()),
                ..QueryProgress::running(windowed.query.fingerprint())
            };
            windowed.reach.tell(&mut now);
            progress.insert(windowed.query.name().clone(), now);
        }
        for Stateless { query, reach } in &self.stateless {
            let mut now = QueryProgress {
                lookups: self.joined.versions_of(query.lookups()),
                ..QueryProgress::running(query.fingerprint())
            };
            reach.tell(&mut now);
            progress.insert(query.name().clone(), now);
        }
        Ok(progress)
    }

    /// The queries as a restatement sees them, closed as far as `progress` says; queries it does not name are left out.
    pub(super) fn subjects(&self, progress: &BTreeMap<Arc<str>, QueryProgress>) -> Vec<Subject> {
        let windowed = self.windowed.iter().map(|w| (Query::Windowed(w.query.clone()), &w.reach));
        let stateless = self.stateless.iter().map(|s| (Query::Stateless(s.query.clone()), &s.reach));
        let subject = |(query, reach): (Query, &Reach)| {
            let said = progress.get(query.name())?;
            Some(Subject { query, closed_until: said.closed_until, reach: reach.clone(), met: said.lookups.clone() })
        };
        windowed.chain(stateless).filter_map(subject).collect()
    }

    /// All of them, whether a slot knows them or not; each view without windows after those it may read.
    pub(super) fn all(&self) -> Vec<Query> {
        let windowed = self.windowed.iter().map(|w| Query::Windowed(w.query.clone()));
        windowed.chain(self.stateless.iter().map(|s| Query::Stateless(s.query.clone()))).collect()
    }

    /// Notes what a restatement, decided by the slot of `epoch`, changes: the slot says so.
    pub(super) fn decided(&mut self, restatement: &Restatement, epoch: u64) {
        let windowed = self.windowed.iter_mut().map(|w| (Query::Windowed(w.query.clone()), &mut w.reach));
        let stateless = self.stateless.iter_mut().map(|s| (Query::Stateless(s.query.clone()), &mut s.reach));
        decided(restatement, epoch, windowed.chain(stateless));
    }

    /// What each windowed query would answer if its open windows closed now; of hops and cumulating windows the newest.
    ///
    /// # Errors
    /// Whatever a final plan says.
    pub(super) async fn peek(&self) -> Result<BTreeMap<Arc<str>, Vec<RecordBatch>>> {
        let answers = self.windowed.iter().map(|windowed| async move {
            let rows = windowed.query.finish(windowed.open.peek()?).await?;
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
        self.windowed.iter().map(|windowed| windowed.open.count(windowed.closed_until)).sum()
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
    /// Joins the rows it folds with these from now on.
    ///
    /// # Errors
    /// Rows that are not those of its lookups.
    pub(super) fn join_with(&mut self, loaded: &Loaded) -> Result<()> {
        // The query of the open windows was never bound, so nothing of older versions is kept.
        self.query = Arc::new(self.open.query().joined_with(&loaded.rows)?);
        Ok(())
    }

    /// The rows this query still takes; those that a closed window refused are noted as late.
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
            on_time.push(split.counted);
        }
        Ok(on_time)
    }

    /// Folds rows read back from the lake. Those of open windows were all counted before, `_late` or not.
    ///
    /// # Errors
    /// As [`Queries::fold`].
    pub(super) async fn refold(&mut self, batch: &RecordBatch, stream: &TableContract) -> Result<()> {
        let split = self.split(batch, stream)?;
        self.fold(&[split.counted]).await
    }

    fn split(&self, batch: &RecordBatch, stream: &TableContract) -> Result<LateSplit> {
        let event_time = event_time_index(batch, stream)?;
        let earliest = aggregate::min(event_times(batch, stream)?).unwrap_or(Micros::MAX);
        split_late(batch, event_time, earliest, self.query.window(), self.closed_until)
    }

    /// Folds the rows a parent has just closed. The end of a bounded input closes windows that rows read after it belong to:
    /// those are owed to the table until it is restated.
    async fn fold_closed(&mut self, epoch: u64, driver: &Driver, rows: &[RecordBatch]) -> Result<()> {
        let time = match driver {
            Driver::View(parent) => parent.time().map_or("", AsRef::as_ref),
            Driver::Stream => "",
        };
        let mut counted = Vec::with_capacity(rows.len());
        for batch in rows {
            let what = || Error::broken(format!("no time `{time}` in rows for `{}`", self.query.name()));
            let index = batch.schema_ref().index_of(time).map_err(|_| what())?;
            let times = batch.column(index).as_primitive_opt::<TimestampMicrosecondType>().ok_or_else(what)?;
            let earliest = aggregate::min(times).unwrap_or(Micros::MAX);
            let split = split_late(batch, index, earliest, self.query.window(), self.closed_until)?;
            if let Some(late) = &split.late {
                let late = times.values().iter().zip(late.iter()).filter(|(_, late)| *late == Some(true));
                self.owe(epoch, late.map(|(time, _)| *time));
            }
            counted.push(split.counted);
        }
        self.fold_of(driver, &counted).await
    }

    /// Notes the closed windows of these times.
    fn owe(&mut self, epoch: u64, times: impl Iterator<Item = Micros>) {
        let window = self.query.window();
        let row = |time: Micros| TimeRange { from: time, to: time.saturating_add(1) };
        // Of sessions no range is known: the row's own time stands for it.
        let windows = times.map(|time| closed_windows_of(window, row(time), self.closed_until).unwrap_or(row(time)));
        let ranges = joined(windows.collect());
        self.reach.owe(ranges.into_iter().map(|range| Owed::new(epoch, range.from, range.to)).collect());
    }

    /// Folds rows of the stream, none of them late.
    ///
    /// # Errors
    /// Whatever a plan says.
    pub(super) async fn fold(&mut self, rows: &[RecordBatch]) -> Result<()> {
        self.fold_of(&Driver::Stream, rows).await
    }

    /// Folds rows of one of its drivers, none of them late.
    ///
    /// # Errors
    /// Whatever a plan says.
    pub(super) async fn fold_of(&mut self, driver: &Driver, rows: &[RecordBatch]) -> Result<()> {
        let partials = self.query.partial_of(driver, rows).await?;
        self.open.fold(partials).await?;
        if self.query.is_buffered() && self.open.groups() > BUFFERED_ROWS_MAX {
            return Err(Error::usage(format!(
                "`{}` joins windows of which more than {BUFFERED_ROWS_MAX} rows are open: shorten the windows, or let a view \
                 of its own filter or group the rows first, and join that",
                self.query.name()
            )));
        }
        Ok(())
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
