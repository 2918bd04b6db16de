//! What a standing query's rows were joined with, as the slots say, brought back for the check of its answers.
//!
//! The one law: a row is joined with the versions that the slot of its epoch names; of rows that were folded by a rebuild
//! before the query's first slot, with those of that slot. A view's rows are those of the epoch that closed their time,
//! whenever they were corrected; joined windows those of the epoch that closed them. Where it saw several versions, all of
//! them stand in one table,
//! told apart by a number that the row's epoch leads to.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use datafusion::datasource::MemTable;
use datafusion::logical_expr::{ColumnarValue, ScalarUDF, Volatility, create_udf};
use datafusion::prelude::SessionContext;

use super::history::History;
use crate::clock::Micros;
use crate::error::{Context, Result};
use crate::lake::{Lake, Table};
use crate::lookups::{Loader, Versions};
use crate::sql::{Driver, JOINED_AT, JOINED_BY_END, LOOKED_UP_AT, Lookup, StandingQuery};

/// What the audit's statements call [`Seen::as_of`].
pub(super) const JOINED_AS_OF: &str = "__joined_as_of";

/// Rows of all versions of one query's lookups: what an audit holds in memory besides its own statements.
const ROWS_MAX: usize = 4_000_000;

/// The versions one query's rows were joined with.
#[derive(Debug, Default)]
pub(super) struct Seen {
    versions: Vec<Versions>,
    /// Epoch and place among `versions`.
    epochs: Vec<(u64, usize)>,
    /// Of rows of a view: the time before which its rows were closed by an epoch, and what that epoch saw; in order.
    closed: BTreeMap<Arc<str>, Vec<(Micros, usize)>>,
    /// Rows meet lookups one by one.
    joins_rows: bool,
}

impl Seen {
    /// Follows a query through the slots; nothing for one that is joined with no table.
    pub(super) fn of(query: &StandingQuery, history: &History, published: Option<u64>) -> Self {
        let mut seen = Self::default();
        if query.lookups().is_empty() {
            return seen;
        }
        let mut waiting = Vec::new();
        for (epoch, step) in history.through(published) {
            waiting.push(epoch);
            let progress = step.queries.get(query.name());
            let Some(now) = progress.filter(|p| p.running && p.fingerprint == query.fingerprint()) else { continue };
            let place = seen.versions.iter().position(|versions| *versions == now.lookups);
            let place = place.unwrap_or_else(|| {
                seen.versions.push(now.lookups.clone());
                seen.versions.len() - 1
            });
            seen.epochs.extend(waiting.drain(..).map(|epoch| (epoch, place)));
        }
        seen.joins_rows = joins_rows(query);
        for driver in query.drivers() {
            let Driver::View(parent) = driver else { continue };
            let closed = |(epoch, place): &(u64, usize)| {
                let until = history.steps.get(epoch)?.queries.get(&parent.name)?.closed_until?;
                Some((parent.closed_before(until), *place))
            };
            let mut closed: Vec<_> = seen.epochs.iter().filter_map(closed).collect();
            // An epoch that has closed nothing more has closed no row.
            closed.dedup_by_key(|(before, _)| *before);
            seen.closed.insert(Arc::clone(&parent.name), closed);
        }
        seen
    }

    /// Whether its rows saw more than one version, row by row.
    pub(super) fn tells_rows(&self) -> bool {
        self.joins_rows && self.is_several()
    }

    /// Whether its rows saw more than one version.
    pub(super) fn is_several(&self) -> bool {
        self.versions.len() > 1
    }

    /// Why the answers cannot be recomputed, if so.
    pub(super) fn untold(&self) -> Option<String> {
        let is_untold = self.versions.iter().any(Versions::is_empty);
        is_untold.then(|| "some of its slots do not say what it was joined with".to_owned())
    }

    /// Registers the lookups under their names. Answers why it could not, if so.
    pub(super) async fn register(
        &self,
        query: &StandingQuery,
        lake: &Lake,
        session: &SessionContext,
    ) -> Result<Option<String>> {
        let mut tables = BTreeMap::new();
        for name in query.lookups().iter().flat_map(|lookup| &lookup.tables) {
            if let Some(table) = Table::open_existing(lake, name).await? {
                tables.insert(Arc::clone(name), Arc::new(table));
            }
        }
        let loader = Loader::new(lake, [query], &tables);
        // The audit's statement is the text as written, which may name columns that no plan needs.
        let lookups: Vec<Lookup> = query.lookups().iter().map(Lookup::whole).collect();
        let mut rows: BTreeMap<Arc<str>, Vec<RecordBatch>> = BTreeMap::new();
        let mut count = 0;
        for (place, versions) in self.versions.iter().enumerate() {
            let loaded = match loader.load(&lookups, versions).await {
                Ok(loaded) => loaded,
                Err(error) => return Ok(Some(format!("what it was joined with cannot be read: {error}"))),
            };
            for (name, batches) in loaded.rows {
                count += batches.iter().map(RecordBatch::num_rows).sum::<usize>();
                let tagged = batches.iter().map(|batch| with_place(batch, place)).collect::<Result<Vec<_>>>()?;
                rows.entry(name).or_default().extend(tagged);
            }
            if count > ROWS_MAX {
                return Ok(Some(format!(
                    "it was joined with more than {ROWS_MAX} rows in {} versions",
                    self.versions.len()
                )));
            }
        }
        for lookup in &lookups {
            let what = || format!("joining `{}`", query.name());
            let batches = rows.remove(&lookup.name).unwrap_or_default();
            if session.table_exist(lookup.name.as_ref()).context(what)? {
                continue;
            }
            let table = MemTable::try_new(tagged_schema(&lookup.schema), vec![batches]).context(what)?;
            session.register_table(lookup.name.as_ref(), Arc::new(table)).context(what)?;
        }
        Ok(None)
    }

    /// [`JOINED_BY_END`]: of the versions it saw the one of the epoch that closed the window.
    pub(super) fn by_end(&self, query: &StandingQuery, history: &History, published: Option<u64>) -> ScalarUDF {
        let places: BTreeMap<u64, usize> = self.epochs.iter().copied().collect();
        let mut by_end: BTreeMap<Micros, i64> = BTreeMap::new();
        for (epoch, step) in history.through(published) {
            let until = step.queries.get(query.name()).and_then(|progress| progress.closed_until);
            if let (Some(until), Some(place)) = (until, places.get(&epoch)) {
                by_end.entry(until).or_insert_with(|| i64::try_from(*place).unwrap_or(i64::MAX));
            }
        }
        let place = move |arguments: &[ColumnarValue]| {
            let ends = ColumnarValue::values_to_arrays(arguments)?;
            let met = |end: Option<Micros>| by_end.range(end?..).next().map(|(_, place)| *place);
            let places: Int64Array = ends[0].as_primitive::<Int64Type>().iter().map(met).collect();
            Ok(ColumnarValue::Array(Arc::new(places)))
        };
        create_udf(JOINED_BY_END, vec![DataType::Int64], DataType::Int64, Volatility::Immutable, Arc::new(place))
    }

    /// `__joined_as_of(time)`: which of the versions a row of this view of this
    /// [`ViewDriver::closing`](crate::sql::ViewDriver) saw; both as BIGINT.
    pub(super) fn as_of(&self, parent: &str) -> ScalarUDF {
        let closed = self.closed.get(parent).cloned().unwrap_or_default();
        let place = move |time: i64| {
            let at = closed.partition_point(|(before, _)| *before <= time);
            let (_, place) = closed.get(at).or(closed.last())?;
            i64::try_from(*place).ok()
        };
        let places = move |arguments: &[ColumnarValue]| {
            let arrays = ColumnarValue::values_to_arrays(arguments)?;
            let places: Int64Array = arrays[0].as_primitive::<Int64Type>().iter().map(|time| place(time?)).collect();
            Ok(ColumnarValue::Array(Arc::new(places)))
        };
        create_udf(JOINED_AS_OF, vec![DataType::Int64], DataType::Int64, Volatility::Immutable, Arc::new(places))
    }

    /// One row an epoch: `epoch`, and which of the versions it saw as [`JOINED_AT`].
    pub(super) fn list(&self) -> Result<RecordBatch> {
        let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        let epochs = Int64Array::from_iter_values(self.epochs.iter().map(|(epoch, _)| number(*epoch)));
        let places = Int64Array::from_iter_values(self.epochs.iter().map(|(_, place)| number(*place as u64)));
        RecordBatch::try_from_iter([("epoch", Arc::new(epochs) as ArrayRef), (JOINED_AT, Arc::new(places) as ArrayRef)])
            .context(|| "listing what epochs were joined with")
    }
}

/// Whether a query's rows meet lookups one by one; joined windows meet them when they close.
pub(super) fn joins_rows(query: &StandingQuery) -> bool {
    match query {
        StandingQuery::Windowed(query) => query.joins_rows(),
        StandingQuery::Stateless(query) => !query.lookups().is_empty(),
    }
}

fn tagged_schema(schema: &SchemaRef) -> SchemaRef {
    let place = Arc::new(Field::new(LOOKED_UP_AT, DataType::Int64, false));
    Arc::new(Schema::new(schema.fields().iter().cloned().chain([place]).collect::<Vec<_>>()))
}

fn with_place(batch: &RecordBatch, place: usize) -> Result<RecordBatch> {
    let place = i64::try_from(place).unwrap_or(i64::MAX);
    let mut columns = batch.columns().to_vec();
    columns.push(Arc::new(Int64Array::from_value(place, batch.num_rows())));
    RecordBatch::try_new(tagged_schema(batch.schema_ref()), columns).context(|| "telling versions apart")
}
