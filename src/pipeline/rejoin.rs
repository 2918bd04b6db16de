//! Rows of the lake, joined again: every row meets what it met when it was first folded.
//!
//! The one law: the rows of an epoch are joined with the versions its slot names. Rows of epochs in which the query did
//! not run yet are joined with those of the first epoch in which it did, where a rebuild had joined them before. Rows of a
//! view are joined as of the epoch that closed their time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::logical_expr::ident;
use datafusion::prelude::{Expr, SessionContext, col, lit};
use datafusion::scalar::ScalarValue;
use futures::{StreamExt, TryStreamExt};
use object_store::{Error as StoreError, ObjectStoreExt};

use super::Facts;
use super::commit::Tables;
use super::queries::{Queries, Windowed};
use super::recover::LakeState;
use super::restate::Query;
use crate::clock::Micros;
use crate::contract::{TableContract, provenance};
use crate::epoch::{Slot, SlotLog};
use crate::error::{Context, Error, Result};
use crate::lake::Table;
use crate::lookups::{Loaded, Versions};
use crate::sql::{Driver, Lookup, TimeRange, ViewDriver, WindowShape, session};
use crate::vacuum;

/// Slots read at once: enough to hide a store's latency, few enough not to be throttled.
pub(super) const READS_MAX: usize = 16;

/// Rows to be joined with one version of things; `None` before a slot names any: with those the first one will name, which are
/// the newest when the job starts.
pub(super) struct Part {
    pub versions: Option<Versions>,
    pub wanted: Expr,
}

/// The lake as rows are read from it to be folded again.
pub(super) struct Rejoin<'a> {
    pub slots: &'a SlotLog,
    /// Its tables are those of the lake, at the versions to be read.
    pub session: &'a SessionContext,
    pub stream: &'a TableContract,
    /// The newest epoch there is for whoever asks.
    pub through: u64,
}

/// Rebuilds the open windows of every query that is joined with the lake; returns the rows folded.
///
/// # Errors
/// [`Error::External`] when the lake does not answer; whatever a plan says.
pub(super) async fn rebuild_joined(
    lake: &LakeState,
    base: &Slot,
    queries: &mut Queries,
    facts: &mut Facts,
) -> Result<usize> {
    let newest = Arc::clone(queries.joined());
    let mut count = 0;
    if !queries.windowed.iter().any(|w| w.query.joins_rows()) {
        return Ok(count);
    }
    let session = lake.newest_session().await?;
    let rejoin = lake.rejoin(&session, base);
    for windowed in queries.windowed.iter_mut().filter(|w| w.query.joins_rows()) {
        let drivers: Vec<Driver> = windowed.query.drivers().into_iter().cloned().collect();
        for driver in &drivers {
            count += rebuild_of(lake, &rejoin, windowed, driver, &newest, facts).await?;
        }
        windowed.join_with(&newest)?;
        let is_session = matches!(windowed.query.window().shape(), WindowShape::Session { .. });
        if let (true, Some(until)) = (is_session, windowed.closed_until) {
            windowed.open.close(None, until).await?;
        }
    }
    Ok(count)
}

/// Folds the rows of one driver that open windows may hold; returns their number.
async fn rebuild_of(
    lake: &LakeState,
    rejoin: &Rejoin<'_>,
    windowed: &mut Windowed,
    driver: &Driver,
    newest: &Arc<Loaded>,
    facts: &mut Facts,
) -> Result<usize> {
    let is_session = matches!(windowed.query.window().shape(), WindowShape::Session { .. });
    // How far back an open session reaches, only its rows tell; those of the stream's rows have been rebuilt.
    let from = match (is_session, driver) {
        (true, Driver::Stream) => return Ok(0),
        (true, Driver::View(_)) => Micros::MIN,
        (false, _) => windowed.query.window().counted_from(windowed.closed_until),
    };
    let (times, mut count) = (TimeRange { from, to: Micros::MAX }, 0);
    let query = Query::Windowed(Arc::clone(&windowed.query));
    for part in rejoin.parts(&query, driver, times).await? {
        let loaded = load(lake, windowed, &part, newest, facts).await?;
        windowed.join_with(&loaded)?;
        let mut rows = rejoin.rows(driver, part.wanted, false).await?;
        while let Some(batch) = rows.try_next().await.context(|| "reading open windows back from the lake")? {
            count += batch.num_rows();
            match driver {
                Driver::Stream => windowed.refold(&batch, &lake.stream).await?,
                Driver::View(_) => windowed.fold_of(driver, &[batch]).await?,
            }
        }
    }
    Ok(count)
}

/// What a part's rows are joined with. Versions a log no longer holds are a note and not an error: nobody could mend it.
pub(super) async fn load(
    lake: &LakeState,
    windowed: &Windowed,
    part: &Part,
    newest: &Arc<Loaded>,
    facts: &mut Facts,
) -> Result<Arc<Loaded>> {
    let lookups = windowed.query.lookups();
    let Some(versions) = part.versions.as_ref().filter(|wanted| **wanted != newest.versions_of(lookups)) else {
        return Ok(Arc::clone(newest));
    };
    match lake.lookups.load(lookups, versions).await {
        Ok(loaded) => Ok(Arc::new(loaded)),
        Err(error) => {
            if !is_gone(&lake.tables, versions).await? {
                return Err(error);
            }
            facts.notes.push(format!(
                "`{}` was joined with {}, which cannot be read any more ({error}): its open windows are rebuilt with the \
                 newest",
                windowed.query.name(),
                shown(versions)
            ));
            Ok(Arc::clone(newest))
        }
    }
}

pub(super) fn shown(versions: &Versions) -> String {
    let all = versions.iter().map(|(table, version)| format!("version {version} of `{table}`"));
    all.collect::<Vec<_>>().join(", ")
}

impl Rejoin<'_> {
    /// The rows of one of those that drive a query, of some times, by what they were joined with. Times are the stream's event times; of a
    /// view those of its column [`ViewDriver::closing`]; of a query's own windows over a view those of the column they go by.
    ///
    /// # Errors
    /// [`Error::External`] when the lake does not answer.
    pub(super) async fn parts(&self, query: &Query, driver: &Driver, times: TimeRange) -> Result<Vec<Part>> {
        match driver {
            Driver::Stream => {
                let event_time = self.stream.stream.as_ref().map_or("", |s| s.event_time.as_ref());
                self.stream_parts(query, within(event_time, times)).await
            }
            Driver::View(parent) => self.view_parts(query, parent, times).await,
        }
    }

    /// The stream's rows for which `wanted` is true, by what their epochs were joined with.
    ///
    /// # Errors
    /// [`Error::External`] when the lake does not answer.
    pub(super) async fn stream_parts(&self, query: &Query, wanted: Expr) -> Result<Vec<Part>> {
        if !query.joins_rows() {
            return Ok(vec![Part { versions: None, wanted }]);
        }
        let epochs = self.epochs_where(wanted.clone()).await?;
        let Some(first) = epochs.first().copied() else { return Ok(Vec::new()) };
        let mut by_versions: BTreeMap<Option<Versions>, Vec<Expr>> = BTreeMap::new();
        for (epoch, versions) in self.joined_with(query, first).await? {
            if epochs.contains(&epoch) {
                by_versions.entry(versions).or_default().push(lit(i64::try_from(epoch).unwrap_or(i64::MAX)));
            }
        }
        let part = |(versions, epochs)| Part {
            versions,
            wanted: wanted.clone().and(col(provenance::EPOCH).in_list(epochs, false)),
        };
        Ok(by_versions.into_iter().map(part).collect())
    }

    /// The rows of a view, by what the epochs that closed them were joined with: an epoch closes what lies between the
    /// parent's progress before it and after it.
    async fn view_parts(&self, query: &Query, parent: &ViewDriver, times: TimeRange) -> Result<Vec<Part>> {
        let closing = parent.closing();
        let all = within(parent.time().unwrap_or(closing), times);
        if !query.joins_rows() {
            return Ok(vec![Part { versions: None, wanted: all }]);
        }
        let reached = |slot: &Slot| {
            let until = slot.queries.get(&parent.name).and_then(|progress| progress.closed_until);
            until.map_or(Micros::MIN, |until| parent.closed_before(until))
        };
        // No row of these times was closed before its time had passed.
        let mut first = self.through;
        while first > 0 && self.slot(first).await?.as_ref().map_or(Micros::MIN, &reached) > times.from {
            first -= 1;
        }
        let mut parts: Vec<Part> = Vec::new();
        let mut since = Micros::MIN;
        let mut last = None;
        for (epoch, versions) in self.joined_with(query, first).await? {
            let until = self.slot(epoch).await?.as_ref().map_or(Micros::MIN, &reached);
            last = Some(versions.clone());
            if until > since {
                let wanted = all.clone().and(within(closing, TimeRange { from: since, to: until }));
                match parts.last_mut().filter(|last| last.versions == versions) {
                    Some(last) => last.wanted = last.wanted.clone().or(wanted),
                    None => parts.push(Part { versions, wanted }),
                }
                since = until;
            }
        }
        // What ends when nothing more is said to have closed belongs to the newest epoch.
        if let Some(versions) = last {
            parts.push(Part { versions, wanted: all.and(within(closing, TimeRange { from: since, to: Micros::MAX })) });
        }
        Ok(parts)
    }

    /// How far epochs had closed a query's windows, in order, from the one that closed the first of `times` to the last; and
    /// what it was joined with then. Windows of before the query ran are said to be closed by its first epoch.
    ///
    /// # Errors
    /// [`Error::External`] when the lake does not answer.
    pub(super) async fn closings(&self, query: &Query, times: TimeRange) -> Result<Vec<(Micros, Option<Versions>)>> {
        let reached = |slot: Option<&Slot>| {
            let progress = slot.and_then(|slot| slot.queries.get(query.name()));
            progress.and_then(|progress| progress.closed_until).unwrap_or(Micros::MIN)
        };
        let mut first = self.through;
        while first > 0 && reached(self.slot(first).await?.as_ref()) > times.from {
            first -= 1;
        }
        let mut closings: Vec<(Micros, Option<Versions>)> = Vec::new();
        let mut newest = None;
        for (epoch, versions) in self.joined_with(query, first).await? {
            let until = reached(self.slot(epoch).await?.as_ref()).min(times.to);
            newest.clone_from(&versions);
            match closings.last_mut() {
                _ if until <= times.from => {}
                Some((last, _)) if *last >= until => {}
                Some((last, same)) if *same == versions => *last = until,
                _ => closings.push((until, versions)),
            }
        }
        // No slot names a query yet that has just come: its history meets what its first slot will name.
        if closings.last().is_none_or(|(last, _)| *last < times.to) {
            closings.push((times.to, newest));
        }
        Ok(closings)
    }

    /// What a query's rows were joined with in each epoch from `first` on.
    async fn joined_with(&self, query: &Query, first: u64) -> Result<Vec<(u64, Option<Versions>)>> {
        let (name, tables) = (query.name(), tables(query.lookups()));
        let mut slots = futures::stream::iter(first..=self.through)
            .map(|epoch| async move { Ok::<_, Error>((epoch, self.slot(epoch).await?)) })
            .buffered(READS_MAX);
        let (mut known, mut waiting) = (Vec::new(), Vec::new());
        while let Some((epoch, slot)) = slots.try_next().await? {
            waiting.push(epoch);
            let progress = slot.as_ref().and_then(|slot| slot.queries.get(name));
            let same = progress.filter(|p| p.running && p.fingerprint == query.fingerprint());
            if let Some(progress) = same.filter(|p| tables.iter().all(|table| p.lookups.contains_key(table))) {
                known.extend(waiting.drain(..).map(|epoch| (epoch, Some(progress.lookups.clone()))));
            }
        }
        known.extend(waiting.into_iter().map(|epoch| (epoch, None)));
        Ok(known)
    }

    async fn slot(&self, epoch: u64) -> Result<Option<Slot>> {
        self.slots.read(epoch).await
    }

    /// The epochs of the stream's rows for which `wanted` is true.
    async fn epochs_where(&self, wanted: Expr) -> Result<BTreeSet<u64>> {
        let doing = || "reading the stream's table";
        let rows = self.session.table(self.stream.name.as_ref()).await.context(doing)?.filter(wanted).context(doing)?;
        let rows = rows.select(vec![col(provenance::EPOCH)]).context(doing)?.distinct().context(doing)?;
        let found: Vec<RecordBatch> = rows.collect().await.context(doing)?;
        let epochs = found.iter().filter_map(|batch| batch.column(0).as_primitive_opt::<Int64Type>());
        Ok(epochs.flat_map(|epochs| epochs.values().to_vec()).filter_map(|epoch| u64::try_from(epoch).ok()).collect())
    }

    /// The rows of a driver for which `wanted` is true, as queries read them; rows of the stream `with_epoch` as the last
    /// column, if asked for.
    ///
    /// # Errors
    /// [`Error::External`] when the lake does not answer.
    pub(super) async fn rows(
        &self,
        driver: &Driver,
        wanted: Expr,
        with_epoch: bool,
    ) -> Result<SendableRecordBatchStream> {
        let table = match driver {
            Driver::Stream => &self.stream.name,
            Driver::View(parent) => &parent.name,
        };
        let doing = || format!("reading the table `{table}`");
        let is_stream = *driver == Driver::Stream;
        let hidden = |name: &str| is_stream && [provenance::EPOCH, provenance::LATE].contains(&name);
        let rows = self.session.table(table.as_ref()).await.context(doing)?;
        let schema = rows.schema().as_arrow().clone();
        let columns = schema.fields().iter().map(|f| f.name().as_str()).filter(|name| !hidden(name));
        let epoch = (is_stream && with_epoch).then_some(provenance::EPOCH);
        let columns = columns.chain(epoch).map(ident).collect::<Vec<_>>();
        let rows = rows.filter(wanted).context(doing)?;
        rows.select(columns).context(doing)?.execute_stream().await.context(doing)
    }
}

fn tables(lookups: &[Lookup]) -> BTreeSet<Arc<str>> {
    lookups.iter().flat_map(|lookup| lookup.tables.iter().cloned()).collect()
}

fn within(column: &str, times: TimeRange) -> Expr {
    let time = |micros: Micros| lit(ScalarValue::TimestampMicrosecond(Some(micros), Some("UTC".into())));
    let column = || ident(column);
    column().gt_eq(time(times.from)).and(column().lt(time(times.to)))
}

impl LakeState {
    /// A session in which every table stands as it is now.
    pub(super) async fn newest_session(&self) -> Result<SessionContext> {
        let session = session();
        self.lake.register(&session);
        for (name, table) in &self.tables {
            session
                .register_table(name.as_ref(), table.provider(None).await?)
                .context(|| "opening the lake's tables")?;
        }
        Ok(session)
    }

    pub(super) fn rejoin<'a>(&'a self, session: &'a SessionContext, base: &Slot) -> Rejoin<'a> {
        Rejoin { slots: &self.slots, session, stream: &self.stream, through: base.epoch }
    }
}

/// Whether one of these versions can no longer be read: the log does not hold it, or files of it were vacuumed. Ask only
/// after a reading has failed: it costs a request a file.
pub(super) async fn is_gone(tables: &Tables, versions: &Versions) -> Result<bool> {
    for (name, version) in versions {
        let table = tables.get(name).ok_or_else(|| Error::broken(format!("the table `{name}` is not open")))?;
        if is_gone_of(table, *version).await? {
            return Ok(true);
        }
    }
    Ok(false)
}

async fn is_gone_of(table: &Table, version: u64) -> Result<bool> {
    if table.oldest_version().await?.is_none_or(|oldest| oldest > version) {
        return Ok(true);
    }
    // Vacuum promises nothing of older versions; most can be read all the same.
    if vacuum::readable_from(table).await? <= version {
        return Ok(false);
    }
    let Ok(files) = table.live_files_at(version).await else { return Ok(true) };
    let store = table.store();
    for file in files {
        match store.head(&file.key()?).await {
            Ok(_) => {}
            Err(StoreError::NotFound { .. }) => return Ok(true),
            Err(error) => return Err(Error::external(format!("looking for `{}`", file.path), error)),
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::lake::{Compaction, spilling, testing};
    use crate::vacuum::{Retention, Scope, Unpublished};

    const DAY: Micros = 86_400_000_000;

    async fn vacuum_in_a_month(table: &Table) {
        let retention =
            Retention { scope: Scope::Lite, keep: 7 * DAY, now: Clock::System.now() + 30 * DAY, dry_run: false };
        vacuum::vacuum(table, &Unpublished::new(), &retention).await.unwrap();
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_version_is_gone_once_a_file_of_it_is_and_not_before() {
        let (_folder, lake) = testing::lake();
        let table = Arc::new(Table::create_or_open(&lake, &testing::contract("payments")).await.unwrap());
        for epoch in 0..2 {
            let adds = table.stage(vec![testing::rows(10, epoch)], epoch).await.unwrap().adds;
            table.publish("app", epoch, &adds, &[]).await.unwrap();
        }
        let tables = Tables::from([(Arc::from("payments"), Arc::clone(&table))]);
        let gone =
            async |version: u64| is_gone(&tables, &Versions::from([(Arc::from("payments"), version)])).await.unwrap();
        // Not promised any more, and nothing of it was taken out.
        vacuum_in_a_month(&table).await;
        assert!(!gone(1).await);
        let files = table.live_files().await.unwrap();
        let files: Vec<_> = files.into_iter().filter(|file| file.partition == 20_780).collect();
        let runtime = &spilling(64 << 20).unwrap();
        let compaction = Compaction { files: &files, epoch: 1, file_bytes: 1 << 20, runtime };
        let staged = table.stage_compaction(compaction).await.unwrap();
        table.publish("app", 2, &staged.adds, &staged.removes).await.unwrap();
        assert!(!gone(2).await);
        vacuum_in_a_month(&table).await;
        assert!(gone(1).await && gone(2).await && !gone(3).await);
    }
}
