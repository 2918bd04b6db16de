//! Restating: rows of closed windows are replaced by what the query answers now, from the lake as of one epoch.
//!
//! The one law: a restatement is decided by a slot like everything else. What is computed and staged here is seen by nobody
//! before that, runs beside the live path, and depends only on the epoch it is computed as of: the windows named, their
//! rows replaced by the query's own batch answer over every row up to that epoch, late or not.
//!
//! ```text
//! late rows ─▶ reconcile ─┐
//! --backfill ─▶ backfill ─┼─▶ rounds ─▶ Ground::restate ─▶ Restatement ─▶ the next slot
//! batch --write ──────────┘            (one at a time)
//! ```
//! Why an epoch P is enough: a window that P's slot calls closed gets no rows by the live path any more, so all its rows
//! are in the files live at P, and rows read after P are late for it. They wait for the next look.

mod at_rest;
mod background;
mod descent;
mod rounds;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, TimestampMicrosecondType};
use datafusion::common::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::prelude::SessionContext;
use futures::{StreamExt, TryStreamExt};

use super::commit::Tables;
use super::recover::LakeState;
use crate::clock::Micros;
use crate::contract::TableContract;
use crate::epoch::{Owed, Restated};
use crate::error::{Context, Error, Result};
use crate::lake::{Lake, Replaced, Replacement, within};
use crate::sql::{TimeRange, WINDOW_START, WindowedQuery, run_batch, session};
use crate::window::{WindowShape, times_of};

pub use at_rest::{AtRest, RestatedTable, reconcile, write_windows};
pub(super) use background::{Restater, Step};
pub use rounds::Backfill;
use rounds::Round;

/// Memory of the operators of one restatement; beyond it they spill to disk. The live path keeps the rest.
const MEMORY_BYTES_MAX: usize = 512 << 20;
/// Cores one restatement keeps busy: the live path has the others.
const CORES: usize = 1;

/// A query as a restatement sees it.
#[derive(Clone, Debug)]
pub(super) struct Subject {
    pub query: Arc<WindowedQuery>,
    /// As the slot of the epoch says that the restatement is computed as of.
    pub closed_until: Option<Micros>,
    pub answers_after: Option<Micros>,
    pub reconciled_through: Option<u64>,
    /// Closed windows that rows of its parent came too late for.
    pub owed: Vec<Owed>,
}

/// The lake as of one published epoch.
#[derive(Clone, Debug)]
pub(super) struct Ground {
    lake: Lake,
    app_id: String,
    tables: Tables,
    stream: Arc<TableContract>,
    /// The epoch.
    pub through: u64,
}

/// What is known of a query once a restatement is decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    Nothing,
    /// Late rows up to this epoch were looked at.
    Reconciled(u64),
    /// The table answers windows that end after this; `None`: all.
    AnswersAfter(Option<Micros>),
}

/// Windows restated, staged and not decided yet.
#[derive(Clone, Debug)]
pub(super) struct Restatement {
    pub query: Arc<str>,
    pub restated: Restated,
    pub replaced: Replaced,
    /// Windows that have rows now.
    pub windows: u64,
    pub mark: Mark,
}

impl Subject {
    /// Whether its closed windows can be restated: rows of its table tell their window by its start. Sessions are not: what
    /// a late row does to them, only all rows of its key tell. Nor is what is joined with tables that change: today's rows
    /// of them are not those that the window was joined with.
    pub(super) fn tells_windows(&self) -> bool {
        let is_session = matches!(self.query.window().shape(), WindowShape::Session { .. });
        if is_session || !self.query.lookups().is_empty() {
            return false;
        }
        let column = self.query.output().column(WINDOW_START);
        column.is_some_and(|column| matches!(column.data_type, DataType::Timestamp(..)))
    }
}

impl Ground {
    /// The lake as of `through`, an epoch that every table holds.
    pub(super) fn new(state: &LakeState, app_id: &str, through: u64) -> Self {
        let LakeState { lake, tables, stream, .. } = state;
        let (lake, tables, stream) = (lake.clone(), tables.clone(), stream.clone());
        Self { lake, app_id: app_id.to_owned(), tables, stream, through }
    }

    /// Recomputes the closed windows of a round and stages what replaces them.
    ///
    /// # Errors
    /// [`Error::Usage`] for a table that does not tell its windows apart; whatever the query's plan or the store say.
    pub(super) async fn restate(&self, subject: &Subject, round: &Round) -> Result<Restatement> {
        let query = &subject.query;
        let name = query.name();
        let closed_until = subject.closed_until.ok_or_else(|| Error::broken(format!("`{name}` has closed nothing")))?;
        if !subject.tells_windows() {
            return Err(Error::usage(format!(
                "`{name}` cannot be restated: it must select `{WINDOW_START}`, and be neither of sessions nor joined with \
                 tables that change"
            )));
        }
        let table =
            self.tables.get(name).ok_or_else(|| Error::broken(format!("the table `{name}` of a query is not open")))?;
        let starts = Arc::new(Mutex::new(HashSet::new()));
        let bounds: Vec<(Micros, Micros)> = round.ranges.iter().map(|range| (range.from, range.to)).collect();
        let rows = self.answers(query, closed_until, &round.spans, bounds.clone(), starts.clone()).await?;
        let version = table.version_of_epoch(&self.app_id, self.through).await?;
        let replacement = Replacement { column: WINDOW_START, ranges: &bounds, version, epoch: self.through, rows };
        let replaced = table.stage_replacement(replacement).await.map_err(untangled)?;
        let windows = starts.lock().unwrap_or_else(PoisonError::into_inner).len() as u64;
        let restated = Restated { ranges: bounds, through: self.through };
        Ok(Restatement { query: name.clone(), restated, replaced, windows, mark: round.mark })
    }

    /// The rows the query answers for the windows that start in `ranges`, in its table's schema; notes each window's start.
    async fn answers(
        &self,
        query: &Arc<WindowedQuery>,
        closed_until: Micros,
        spans: &[TimeRange],
        ranges: Vec<(Micros, Micros)>,
        starts: Arc<Mutex<HashSet<Micros>>>,
    ) -> Result<SendableRecordBatchStream> {
        let session = self.session().await?;
        // One plan after the other: memory holds the groups of one span.
        let (planned, spans) = (query.clone(), spans.to_vec());
        let answers = futures::stream::iter(spans).then(move |span| {
            let (query, session) = (planned.clone(), session.clone());
            async move {
                let times = times_of(query.window(), span, closed_until);
                let frame = run_batch(&session, query.batch_select(Some(times)).map_err(carried)?).await;
                frame.map_err(carried)?.execute_stream().await
            }
        });
        let schema = query.output().schema();
        let query = query.clone();
        let rows = answers.try_flatten().map(move |batch| {
            let rows = query.as_output(&batch?).map_err(carried)?;
            let wanted = within(&rows, WINDOW_START, &ranges).map_err(carried)?;
            let rows = filter_record_batch(&rows, &wanted)?;
            note_starts(&rows, &starts);
            Ok(rows)
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows)))
    }

    /// A session in which every table stands at the epoch.
    pub(super) async fn session(&self) -> Result<SessionContext> {
        let what = || "making a session to restate windows";
        let pool = Arc::new(FairSpillPool::new(MEMORY_BYTES_MAX));
        let runtime = RuntimeEnvBuilder::new().with_memory_pool(pool).build_arc().context(what)?;
        let state = session().state();
        let config = state.config().clone().with_target_partitions(CORES);
        let state = SessionStateBuilder::new_from_existing(state).with_config(config).with_runtime_env(runtime);
        let session = SessionContext::new_with_state(state.build());
        self.lake.register(&session);
        for (name, table) in &self.tables {
            let version = table.version_of_epoch(&self.app_id, self.through).await?;
            session.register_table(name.as_ref(), table.provider(Some(version)).await?).context(what)?;
        }
        Ok(session)
    }
}

fn note_starts(rows: &RecordBatch, starts: &Mutex<HashSet<Micros>>) {
    let column = rows.column_by_name(WINDOW_START).and_then(|c| c.as_primitive_opt::<TimestampMicrosecondType>());
    if let Some(column) = column.filter(|column| !column.is_empty()) {
        // Nobody panics while holding it; a poisoned set would still be right.
        starts.lock().unwrap_or_else(PoisonError::into_inner).extend(column.values().iter().copied());
    }
}

/// Carries an error of ours through a stream of DataFusion's.
fn carried(error: Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

/// Takes an error of ours out again: who must act on it is not to be lost on the way.
fn untangled(error: Error) -> Error {
    let Error::External { what, source } = error else { return error };
    match source.downcast::<DataFusionError>().map(|inner| *inner) {
        Ok(DataFusionError::External(inner)) => match inner.downcast::<Error>() {
            Ok(ours) => *ours,
            Err(source) => Error::External { what, source },
        },
        Ok(other) => Error::external(what, other),
        Err(source) => Error::External { what, source },
    }
}
