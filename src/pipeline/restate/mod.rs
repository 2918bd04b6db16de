//! Restating: rows of closed windows are replaced by what the query answers now, from the lake as of one epoch.
//!
//! The one law: a restatement is decided by a slot like everything else. What is computed and staged here is seen by nobody
//! before that, runs beside the live path, and depends only on the epoch it is computed as of: the windows named, their
//! rows replaced by the query's own batch answer over every row up to that epoch, late or not; rows joined with tables that
//! change are joined as of their own epochs.
//!
//! ```text
//! late rows, what a parent owes ─▶ reconcile ─┐
//! --backfill ───────────────────▶ backfill ─┼─▶ rounds ─▶ Ground::restate ─▶ Restatement ─▶ the next slot
//! batch --write ────────────────────────────┘            (one at a time)
//! ```
//! Why an epoch P is enough: a window that P's slot calls closed gets no rows by the live path any more, so all its rows
//! are in the files live at P, and rows read after P are late for it. They wait for the next look. Where rows are gone for
//! good (`missing`) that is not so: such windows stay as they are, and late rows stay beside them. Rows of the stream that a
//! query without windows has missed (`missed`) are added in the same way, and nothing gives way to them.

mod at_rest;
mod away;
mod background;
mod cut;
mod late;
mod missed;
mod missing;
mod reach;
mod rounds;
mod sessions;
mod subject;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::TimestampMicrosecondType;
use datafusion::common::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::prelude::SessionContext;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};

use super::commit::Tables;
use super::recover::LakeState;
use super::rejoin::{Rejoin, is_gone, shown};
use crate::clock::Micros;
use crate::contract::TableContract;
use crate::epoch::{Epochs, Gone, Owed, Restated, Slot, SlotLog, TableAdds};
use crate::error::{Context, Error, Result};
use crate::lake::{Lake, Replaced, Replacement, within};
use crate::lookups::{Loaded, Loader, Versions};
use crate::sql::{TimeRange, run_batch, session};
use crate::window::{OpenWindows, WindowShape, WindowSpec, times_of};

pub use at_rest::{AtRest, RestatedTable, reconcile, write_windows};
pub(super) use at_rest::{bring_up, decide_at_rest, end, follow_up};
pub(super) use away::owed_since;
pub(super) use background::{Restater, Step};
pub(super) use cut::few;
pub(super) use missing::Missing;
pub(super) use reach::{Reach, began_after, decided};
pub use rounds::Backfill;
use rounds::{Round, Work};
pub(super) use subject::{Query, Subject};

/// Memory of the operators of one restatement; beyond it they spill to disk. The live path keeps the rest.
const MEMORY_BYTES_MAX: usize = 512 << 20;
/// Cores one restatement keeps busy: the live path has the others.
const CORES: usize = 1;

/// The lake as of one published epoch.
#[derive(Clone, Debug)]
pub(super) struct Ground {
    lake: Lake,
    app_id: String,
    tables: Tables,
    slots: SlotLog,
    lookups: Arc<Loader>,
    stream: Arc<TableContract>,
    /// Where rows were erased.
    erased: Arc<Missing>,
    /// The epoch.
    pub through: u64,
}

/// What is known of a query once a restatement is decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    /// Late rows up to this epoch were looked at; those that wait for their session to close are named.
    Reconciled { through: u64, waiting: Vec<Owed> },
    /// The table answers windows that end after this; `None`: all.
    AnswersAfter(Option<Micros>),
    /// What was owed of these times was looked at, as of the epoch, and restated where it had closed; what of it is open
    /// still is owed again.
    Paid { through: u64, times: Vec<TimeRange>, again: Vec<Owed> },
}

/// Windows restated, or rows answered that a query had missed; staged and not decided yet.
#[derive(Clone, Debug)]
pub(super) struct Restatement {
    pub query: Arc<str>,
    /// Without ranges no window was to be restated, and only the marks and what was answered count.
    pub restated: Restated,
    /// Epochs whose rows a query without windows had missed.
    pub answered: Epochs,
    pub replaced: Replaced,
    /// Windows that have rows now.
    pub windows: u64,
    /// What the query had closed in the epoch it was computed as of.
    pub closed_until: Option<Micros>,
    /// Of sessions: where the last one restated ends.
    pub until: Option<Micros>,
    /// Late rows looked at that belong to windows which cannot be computed any more.
    pub left: u64,
    pub marks: Vec<Mark>,
}

impl Restatement {
    fn of_marks(query: &Arc<str>, through: u64, marks: Vec<Mark>) -> Self {
        let restated = Restated { ranges: Vec::new(), through };
        let (query, replaced, answered) = (Arc::clone(query), Replaced::default(), Epochs::default());
        Self { query, restated, answered, replaced, windows: 0, closed_until: None, until: None, left: 0, marks }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.restated.ranges.is_empty() && self.answered.is_empty()
    }

    /// Lets a slot decide it. Returns the files that come and go in the query's table.
    pub(super) fn tell(self, slot: &mut Slot) -> (Arc<str>, TableAdds) {
        if !self.restated.ranges.is_empty() {
            slot.restated.insert(Arc::clone(&self.query), self.restated);
        }
        if !self.answered.is_empty() {
            slot.answered.insert(Arc::clone(&self.query), self.answered);
        }
        (self.query, TableAdds::of(self.replaced.staged))
    }
}

impl Ground {
    /// The lake as of `through`, an epoch that every table holds.
    pub(super) fn new(state: &LakeState, app_id: &str, through: u64) -> Self {
        let LakeState { lake, tables, stream, slots, lookups, erased, .. } = state;
        Self {
            lake: lake.clone(),
            app_id: app_id.to_owned(),
            tables: tables.clone(),
            slots: slots.clone(),
            lookups: Arc::clone(lookups),
            stream: Arc::clone(stream),
            erased: Arc::clone(erased),
            through,
        }
    }

    /// Recomputes the closed windows of a round and stages what replaces them.
    ///
    /// # Errors
    /// [`Error::Usage`] for a table that does not tell its windows apart; whatever the query's plan or the store say.
    pub(super) async fn restate(&self, subject: &Subject, round: &Round) -> Result<Restatement> {
        let marks = round.marks.clone();
        let mut restatement = match &round.work {
            Work::Nothing => Restatement::of_marks(subject.name(), self.through, marks),
            Work::Windows { ranges, spans } => {
                let starts = Arc::new(Mutex::new(HashSet::new()));
                let rows = self.answers(subject, spans, ranges, starts.clone()).await?;
                let (restated, replaced) = self.replace(subject, ranges, rows).await?;
                let windows = starts.lock().unwrap_or_else(PoisonError::into_inner).len() as u64;
                let closed_until = subject.closed_until;
                let nothing = Restatement::of_marks(subject.name(), self.through, marks);
                Restatement { restated, replaced, windows, closed_until, ..nothing }
            }
            Work::Sessions { around, starts, gone } => {
                self.restate_sessions(subject, (around, starts), gone, marks).await?
            }
            Work::Missed(epochs) => {
                let answered = epochs.clone();
                let replaced = self.answer_missed(subject, epochs).await?;
                Restatement { answered, replaced, ..Restatement::of_marks(subject.name(), self.through, marks) }
            }
        };
        restatement.left += round.left;
        if restatement.left > 0 {
            tracing::warn!(
                query = subject.name().as_ref(),
                rows = restatement.left,
                "late rows belong to windows that lack rows which were erased or have expired: they stay beside them"
            );
        }
        Ok(restatement)
    }

    /// Where rows are gone by the epoch.
    async fn missing(&self) -> Result<Missing> {
        Ok(self.erased.as_ref().clone().and_expired(&self.gone().await?))
    }

    /// Where rows have expired by the epoch.
    async fn expired(&self) -> Result<Missing> {
        Ok(Missing::default().and_expired(&self.gone().await?))
    }

    async fn gone(&self) -> Result<Gone> {
        let slot = self.slots.read(self.through).await?;
        Ok(slot.ok_or_else(|| Error::broken(format!("slot {} is missing", self.through)))?.gone)
    }

    /// Stages `rows` in the place of those whose windows start in `ranges`.
    async fn replace(
        &self,
        subject: &Subject,
        ranges: &[TimeRange],
        rows: SendableRecordBatchStream,
    ) -> Result<(Restated, Replaced)> {
        let name = subject.name();
        let column = subject.query.start_column().ok_or_else(|| untold(subject))?;
        let bounds: Vec<(Micros, Micros)> = ranges.iter().map(|range| (range.from, range.to)).collect();
        let table = self.table(name)?;
        let version = table.version_of_epoch(&self.app_id, self.through).await?;
        let replacement = Replacement { column, ranges: &bounds, version, epoch: self.through, rows };
        let replaced = table.stage_replacement(replacement).await.map_err(untangled)?;
        Ok((Restated { ranges: bounds, through: self.through }, replaced))
    }

    /// The rows the query answers for the windows that start in `ranges`, in its table's schema; notes each window's start.
    async fn answers(
        &self,
        subject: &Subject,
        spans: &[TimeRange],
        ranges: &[TimeRange],
        starts: Arc<Mutex<HashSet<Micros>>>,
    ) -> Result<SendableRecordBatchStream> {
        let column = subject.query.start_column().ok_or_else(|| untold(subject))?.to_owned();
        let session = self.session().await?;
        // One plan after the other: memory holds the groups of one span.
        let (subject, spans) = (subject.clone(), spans.to_vec());
        let schema = self.table(subject.name())?.schema();
        let answers: BoxStream<'static, _> = if subject.query.lookups().is_empty() {
            let spans =
                futures::stream::iter(spans).then(move |span| batch_answers(subject.clone(), session.clone(), span));
            spans.try_flatten().boxed()
        } else {
            let ground = self.clone();
            let spans = futures::stream::iter(spans).then(move |span| {
                let (ground, subject, session) = (ground.clone(), subject.clone(), session.clone());
                async move {
                    let rows = ground.refolded(&session, &subject, span).await.map_err(carried)?;
                    Ok::<_, DataFusionError>(futures::stream::iter(rows.into_iter().map(Ok)))
                }
            });
            spans.try_flatten().boxed()
        };
        let ranges: Vec<(Micros, Micros)> = ranges.iter().map(|range| (range.from, range.to)).collect();
        let rows = answers.map(move |batch: std::result::Result<RecordBatch, DataFusionError>| {
            let rows = batch?;
            let wanted = within(&rows, &column, &ranges).map_err(carried)?;
            let rows = filter_record_batch(&rows, &wanted)?;
            note_starts(&rows, &column, &starts);
            Ok(rows)
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows)))
    }

    /// The answer of a query that is joined with tables, each row as of its own epoch, by the code that folds the stream:
    /// a batch statement knows one version only.
    async fn refolded(&self, session: &SessionContext, subject: &Subject, span: TimeRange) -> Result<Vec<RecordBatch>> {
        let what = || format!("reading what `{}` is computed from", subject.name());
        let rejoin = self.rejoin(session);
        let query = &subject.query;
        match query {
            Query::Windowed(windowed) => {
                let closed_until = subject.closed_until()?;
                let times = times_of(windowed.window(), span, closed_until);
                let mut open = OpenWindows::new(windowed.clone());
                for driver in windowed.drivers() {
                    for part in rejoin.parts(query, driver, times).await? {
                        let bound = windowed.joined_with(&self.load(subject, part.versions.as_ref()).await?.rows)?;
                        let mut rows = rejoin.rows(driver, part.wanted, false).await?;
                        while let Some(batch) = rows.try_next().await.context(what)? {
                            open.fold(bound.partial_of(driver, &[batch]).await?).await?;
                        }
                    }
                }
                self.closed_again(&rejoin, subject, open, times).await
            }
            Query::Stateless(stateless) => {
                let mut answer = Vec::new();
                let driver = stateless.driver();
                for part in rejoin.parts(query, driver, ends_of(query.window(), span)).await? {
                    let bound = stateless.joined_with(&self.load(subject, part.versions.as_ref()).await?.rows)?;
                    let mut rows = rejoin.rows(driver, part.wanted, false).await?;
                    while let Some(batch) = rows.try_next().await.context(what)? {
                        answer.extend(bound.run(&[batch]).await?);
                    }
                }
                Ok(answer)
            }
        }
    }

    /// The answer of the windows in `open` that end in `times`; joined windows meet their lookups as of the epoch that
    /// closed them.
    async fn closed_again(
        &self,
        rejoin: &Rejoin<'_>,
        subject: &Subject,
        mut open: OpenWindows,
        times: TimeRange,
    ) -> Result<Vec<RecordBatch>> {
        let windowed = open.query().clone();
        if !windowed.is_buffered() {
            return Ok(open.close(None, times.to).await?.answer().await?.1);
        }
        let (mut answer, mut after) = (Vec::new(), None);
        for (until, versions) in rejoin.closings(&subject.query, times).await? {
            let bound = windowed.joined_with(&self.load(subject, versions.as_ref()).await?.rows)?;
            let mut closed = open.close(after, until).await?;
            while let Some((_, partials)) = closed.next_piece()? {
                answer.extend(bound.finish(partials).await?);
            }
            after = Some(until);
        }
        Ok(answer)
    }

    /// The lookups of a query at these versions; where no slot names any, at those its first slot will name; where they
    /// cannot be read any more, the newest, as a rebuild does: late rows must not wait for ever.
    async fn load(&self, subject: &Subject, versions: Option<&Versions>) -> Result<Loaded> {
        let (lookups, versions) = (subject.query.lookups(), versions.unwrap_or(&subject.met));
        let error = match self.lookups.load(lookups, versions).await {
            Ok(loaded) => return Ok(loaded),
            Err(error) => error,
        };
        if !is_gone(&self.tables, versions).await? {
            return Err(error);
        }
        let gone = shown(versions);
        tracing::warn!(query = %subject.name(), %error, "was joined with {gone}, which is gone: restated with the newest");
        self.lookups.newest_of(lookups).await
    }

    fn rejoin<'a>(&'a self, session: &'a SessionContext) -> Rejoin<'a> {
        Rejoin { slots: &self.slots, session, stream: &self.stream, through: self.through }
    }

    fn table(&self, name: &str) -> Result<&crate::lake::Table> {
        let table = self.tables.get(name).map(AsRef::as_ref);
        table.ok_or_else(|| Error::broken(format!("the table `{name}` of a query is not open")))
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

impl Subject {
    fn closed_until(&self) -> Result<Micros> {
        self.closed_until.ok_or_else(|| Error::broken(format!("`{}` has closed nothing", self.name())))
    }
}

/// The batch answer over a span of windows, in the table's schema.
async fn batch_answers(
    subject: Subject,
    session: SessionContext,
    span: TimeRange,
) -> std::result::Result<BoxStream<'static, std::result::Result<RecordBatch, DataFusionError>>, DataFusionError> {
    let statement = match &subject.query {
        Query::Windowed(query) => {
            let times = times_of(query.window(), span, subject.closed_until().map_err(carried)?);
            query.batch_select(Some(times))
        }
        Query::Stateless(query) => query.batch_select(Some(ends_of(subject.query.window(), span))),
    };
    let frame = run_batch(&session, statement.map_err(carried)?).await.map_err(carried)?;
    let rows = frame.execute_stream().await?;
    let output = move |batch: RecordBatch| match &subject.query {
        Query::Windowed(query) => query.as_output(&batch).map_err(carried),
        Query::Stateless(query) => query.as_output(&batch).map_err(carried),
    };
    Ok(rows.map(move |batch| output(batch?)).boxed())
}

/// From the first start to past the last end of the windows that start in `span`; how far a session reaches, nobody knows.
fn ends_of(window: Option<WindowSpec>, span: TimeRange) -> TimeRange {
    let to = match window {
        Some(window) if !matches!(window.shape(), WindowShape::Session { .. }) => {
            times_of(window, span, Micros::MAX - 1).to.saturating_add(1)
        }
        _ => Micros::MAX,
    };
    TimeRange { from: span.from, to }
}

fn untold(subject: &Subject) -> Error {
    Error::usage(format!(
        "`{}` cannot be restated: its table must tell the start of each row's window; select `window_start`",
        subject.name()
    ))
}

fn note_starts(rows: &RecordBatch, column: &str, starts: &Mutex<HashSet<Micros>>) {
    let column = rows.column_by_name(column).and_then(|c| c.as_primitive_opt::<TimestampMicrosecondType>());
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
