//! Open windows of joined queries, rebuilt: every row meets what it met when it was first folded.
//!
//! The one law: the rows of an epoch are joined with the versions its slot names. Rows of epochs in which the query did
//! not run yet are joined with those of the first epoch in which it did, where a rebuild had joined them before.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::prelude::{Expr, col, lit};
use datafusion::scalar::ScalarValue;
use futures::{StreamExt, TryStreamExt};

use super::Facts;
use super::queries::{Queries, Windowed};
use super::recover::LakeState;
use crate::clock::Micros;
use crate::contract::provenance;
use crate::epoch::Slot;
use crate::error::{Context, Error, Result};
use crate::lookups::{Loaded, Versions};
use crate::sql::{Driver, Lookup, ViewDriver};

/// Slots read at once: enough to hide a store's latency, few enough not to be throttled.
const READS_MAX: usize = 16;

/// Rows to be joined with one version of things; `None`: with the newest.
struct Part {
    versions: Option<Versions>,
    wanted: Expr,
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
    for windowed in queries.windowed.iter_mut().filter(|w| w.query.joins_rows()) {
        let from = windowed.query.window().counted_from(windowed.closed_until);
        let drivers: Vec<Driver> = windowed.query.drivers().into_iter().cloned().collect();
        for driver in &drivers {
            count += rebuild_of(lake, base, windowed, driver, from, &newest, facts).await?;
        }
        windowed.join_with(&newest)?;
    }
    Ok(count)
}

/// Folds the rows of one driver from a time on; returns their number.
async fn rebuild_of(
    lake: &LakeState,
    base: &Slot,
    windowed: &mut Windowed,
    driver: &Driver,
    from: Micros,
    newest: &Arc<Loaded>,
    facts: &mut Facts,
) -> Result<usize> {
    let mut count = 0;
    let (table, parts) = match driver {
        Driver::Stream => (Arc::clone(&lake.stream.name), stream_parts(lake, base, windowed, from).await?),
        Driver::View(parent) => (Arc::clone(&parent.name), view_parts(lake, base, windowed, parent, from).await?),
    };
    for part in parts {
        let loaded = load(lake, windowed, &part, newest, facts).await?;
        windowed.join_with(&loaded)?;
        let mut rows = lake.rows_where(&table, part.wanted).await?;
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
async fn load(
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
            if !lake.is_gone(versions).await? {
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

fn shown(versions: &Versions) -> String {
    let all = versions.iter().map(|(table, version)| format!("version {version} of `{table}`"));
    all.collect::<Vec<_>>().join(", ")
}

/// The stream's rows from `from` on, by what their epochs were joined with.
async fn stream_parts(lake: &LakeState, base: &Slot, windowed: &Windowed, from: Micros) -> Result<Vec<Part>> {
    let event_time = lake.stream.stream.as_ref().map_or("", |s| s.event_time.as_ref());
    let recent = col(event_time).gt_eq(time(from));
    let epochs = lake.epochs_where(recent.clone()).await?;
    let Some(first) = epochs.first().copied() else { return Ok(Vec::new()) };
    let mut by_versions: BTreeMap<Option<Versions>, Vec<Expr>> = BTreeMap::new();
    for (epoch, versions) in joined_with(lake, base, windowed, first).await? {
        if epochs.contains(&epoch) {
            by_versions.entry(versions).or_default().push(lit(i64::try_from(epoch).unwrap_or(i64::MAX)));
        }
    }
    let part = |(versions, epochs)| Part {
        versions,
        wanted: recent.clone().and(col(provenance::EPOCH).in_list(epochs, false)),
    };
    Ok(by_versions.into_iter().map(part).collect())
}

/// The rows of a view from `from` on, by what the epochs that closed them were joined with: an epoch closes what lies
/// between the parent's watermark before it and after it.
async fn view_parts(
    lake: &LakeState,
    base: &Slot,
    windowed: &Windowed,
    parent: &ViewDriver,
    from: Micros,
) -> Result<Vec<Part>> {
    let Some(column) = parent.time() else { return Ok(Vec::new()) };
    let reached = |slot: &Slot| {
        let until = slot.queries.get(&parent.name).and_then(|progress| progress.closed_until);
        until.map_or(Micros::MIN, |until| parent.watermark(until))
    };
    let mut first = base.epoch;
    while first > 0 && lake.slot(first).await?.as_ref().map_or(Micros::MIN, &reached) > from {
        first -= 1;
    }
    let mut parts: Vec<Part> = Vec::new();
    let mut since = from;
    for (epoch, versions) in joined_with(lake, base, windowed, first).await? {
        let until = lake.slot(epoch).await?.as_ref().map_or(Micros::MIN, &reached);
        if until > since {
            let wanted = col(column.as_ref()).gt_eq(time(since)).and(col(column.as_ref()).lt(time(until)));
            match parts.last_mut().filter(|last| last.versions == versions) {
                Some(last) => last.wanted = last.wanted.clone().or(wanted),
                None => parts.push(Part { versions, wanted }),
            }
            since = until;
        }
    }
    Ok(parts)
}

/// What a query's rows were joined with in each epoch from `first` on.
async fn joined_with(
    lake: &LakeState,
    base: &Slot,
    windowed: &Windowed,
    first: u64,
) -> Result<Vec<(u64, Option<Versions>)>> {
    let (name, tables) = (windowed.query.name(), tables(windowed.query.lookups()));
    let mut slots = futures::stream::iter(first..=base.epoch)
        .map(|epoch| async move { Ok::<_, Error>((epoch, lake.slot(epoch).await?)) })
        .buffered(READS_MAX);
    let (mut known, mut waiting) = (Vec::new(), Vec::new());
    while let Some((epoch, slot)) = slots.try_next().await? {
        waiting.push(epoch);
        let progress = slot.as_ref().and_then(|slot| slot.queries.get(name));
        let same = progress.filter(|p| p.running && p.fingerprint == windowed.query.fingerprint());
        if let Some(progress) = same.filter(|p| tables.iter().all(|table| p.lookups.contains_key(table))) {
            known.extend(waiting.drain(..).map(|epoch| (epoch, Some(progress.lookups.clone()))));
        }
    }
    known.extend(waiting.into_iter().map(|epoch| (epoch, None)));
    Ok(known)
}

fn tables(lookups: &[Lookup]) -> BTreeSet<Arc<str>> {
    lookups.iter().flat_map(|lookup| lookup.tables.iter().cloned()).collect()
}

fn time(micros: Micros) -> Expr {
    lit(ScalarValue::TimestampMicrosecond(Some(micros), Some("UTC".into())))
}

impl LakeState {
    async fn slot(&self, epoch: u64) -> Result<Option<Slot>> {
        self.slots.read(epoch).await
    }

    /// Whether a log no longer holds one of these versions.
    async fn is_gone(&self, versions: &Versions) -> Result<bool> {
        for (name, version) in versions {
            let commits = self.table(name)?.commits().await?;
            if commits.first().is_none_or(|oldest| oldest.version > *version) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The epochs of the stream's rows for which `wanted` is true.
    async fn epochs_where(&self, wanted: Expr) -> Result<BTreeSet<u64>> {
        let doing = || "reading the stream's table";
        let table = self.table(&self.stream.name)?;
        let rows =
            self.session.read_table(table.provider(None).await?).context(doing)?.filter(wanted).context(doing)?;
        let rows = rows.select(vec![col(provenance::EPOCH)]).context(doing)?.distinct().context(doing)?;
        let found: Vec<RecordBatch> = rows.collect().await.context(doing)?;
        let epochs = found.iter().filter_map(|batch| batch.column(0).as_primitive_opt::<Int64Type>());
        Ok(epochs.flat_map(|epochs| epochs.values().to_vec()).filter_map(|epoch| u64::try_from(epoch).ok()).collect())
    }

    /// The rows of a table for which `wanted` is true, as its queries read them.
    async fn rows_where(&self, table: &str, wanted: Expr) -> Result<SendableRecordBatchStream> {
        let doing = || format!("reading the table `{table}`");
        let provider = self.table(table)?.provider(None).await?;
        let is_stream = *table == *self.stream.name;
        let hidden = |name: &str| is_stream && [provenance::EPOCH, provenance::LATE].contains(&name);
        let schema = provider.schema();
        let columns = schema.fields().iter().filter(|f| !hidden(f.name())).map(|f| col(f.name().as_str()));
        let rows = self.session.read_table(provider).context(doing)?.filter(wanted).context(doing)?;
        rows.select(columns.collect::<Vec<_>>()).context(doing)?.execute_stream().await.context(doing)
    }

    fn table(&self, name: &str) -> Result<&crate::lake::Table> {
        let table = self.tables.get(name).map(AsRef::as_ref);
        table.ok_or_else(|| Error::broken(format!("the table `{name}` is not open")))
    }
}
