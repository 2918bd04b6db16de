//! Coming back: fence the lake, publish what was decided, rebuild what was open.
//!
//! The one law: state is a function of the lake. Windows and identities are rebuilt by the same code that folds the
//! stream, from the rows the lake holds; nothing else is saved.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::prelude::{SessionContext, col, lit};
use datafusion::scalar::ScalarValue;
use futures::TryStreamExt;
use uuid::Uuid;

use super::commit::{Tables, publish_slot};
use super::engine::{Contracts, Engine};
use super::queries::{Queries, Stateless, Windowed, event_times};
use super::rejoin::rebuild_joined;
use super::restate::{Missing, Query, Reach, owed_since};
use super::{Facts, Feed, Input, Job, input, sessions};
use crate::clock::{Clock, MICROS_PER_SECOND, Micros};
use crate::config::{Config, micros};
use crate::contract::{TableContract, provenance};
use crate::epoch::{Epochs, Kind, Slot, SlotLog, TokenKeyName, Writer, take_over};
use crate::error::{Context, Error, Result};
use crate::lake::{Following, Lake, LakeLock, Meter, Table};
use crate::lookups::{Loaded, Loader};
use crate::micro_batch::{Decoder, Duplicates, IdentityHasher};
use crate::plans::{Change, ChangeKind, Plans, changes, missed};
use crate::sql::{Driver, StandingQuery, WindowShape, session};
use crate::token::{TokenKey, Tokenizer};
use crate::window::{Idleness, OpenWindows, Watermarks};

/// The lake as the job holds it open.
pub(super) struct LakeState {
    pub lake: Lake,
    /// Counts what is asked of the lake's store.
    pub meter: Arc<Meter>,
    pub tables: Tables,
    /// Of every table there is a contract or a query of.
    pub contracts: BTreeMap<Arc<str>, TableContract>,
    pub slots: SlotLog,
    pub stream: Arc<TableContract>,
    pub hasher: IdentityHasher,
    rejects: Arc<TableContract>,
    tokenizer: Tokenizer,
    max_ahead: Micros,
    pub(super) session: SessionContext,
    /// Reads what queries are joined with.
    pub lookups: Arc<Loader>,
    /// Where rows were erased before this start; nobody erases while a job runs.
    pub erased: Arc<Missing>,
    _lock: Option<LakeLock>,
}

/// A lake taken over, and the engine that goes on from it.
pub(super) struct Recovered {
    pub engine: Engine,
    pub lake: LakeState,
    /// The newest decided slot.
    pub base: Slot,
    pub writer: Writer,
    pub facts: Facts,
    /// Losses accepted while the stream was opened.
    pub gaps: Vec<String>,
    /// What the queries are joined with at first.
    pub joined_with: Arc<Loaded>,
}

/// A lake taken over: fenced, and with every decided epoch in its tables.
pub(super) struct Taken {
    pub lake: LakeState,
    /// The newest decided slot.
    pub base: Slot,
    pub writer: Writer,
    pub contracts: Contracts,
    pub queries: Vec<StandingQuery>,
    facts: Facts,
}

/// Takes the lake over and brings everything to the newest decided slot.
///
/// # Errors
/// See [`super::start`].
pub(super) async fn recover(job: &Job) -> Result<Recovered> {
    let config = &job.config;
    let taken = take(config, &job.token_key, &job.host, &job.clock).await?;
    let Taken { lake, base, writer, contracts, queries: planned, mut facts } = taken;
    let mut duplicates = Duplicates::new(&contracts.stream, &contracts.rejects, lake.tokenizer.clone())?;
    facts.changes = changes(&planned, &base.queries, base.watermark);
    let mut unseen = BTreeMap::new();
    for (query, change) in planned.iter().zip(&facts.changes) {
        unseen.insert(Arc::clone(query.name()), missed(&lake.slots, query, change.kind, &base).await?);
    }
    let mut queries = resume_queries(planned, &base, unseen, &mut facts);
    owe_since(&lake, &base, &mut queries, &facts.changes).await?;
    let joined_with = Arc::new(lake.lookups.newest().await?);
    queries.join_with(Arc::clone(&joined_with))?;
    rebuild(&lake, &base, &mut queries, &mut duplicates, &mut facts).await?;
    let watermarks = restore_watermarks(job, &base);
    let engine =
        Engine::new(contracts, config.commit.clone(), writer.clone(), base.clone(), queries, watermarks, duplicates);
    Ok(Recovered { engine, lake, base, writer, facts, gaps: Vec::new(), joined_with })
}

/// Locks and fences the lake, opens its tables, and publishes what was decided.
///
/// # Errors
/// See [`super::start`].
pub(super) async fn take(config: &Config, token_key: &TokenKey, host: &Arc<str>, clock: &Clock) -> Result<Taken> {
    let plans = Plans::read(config).await?;
    let of_tables = plans.tables();
    let contracts =
        Contracts { stream: plans.stream.clone(), rejects: plans.rejects.clone(), epochs: plans.epochs.clone() };
    let (lake, meter) = Lake::open(&config.lake.url, &config.s3)?.metered();
    let lock = lake.lock()?;
    lake.probe().await?;
    let slots = SlotLog::new(lake.store());
    let key = TokenKeyName { version: token_key.version(), fingerprint: token_key.fingerprint() };
    let (writer, base) = take_over(&slots, &key, host, clock.now()).await?;
    let mut facts = Facts { lake: lake.url().to_string(), watermark: base.watermark, ..Facts::default() };

    let wanted = [&contracts.stream, &contracts.rejects, &contracts.epochs].map(|c| c.as_ref().clone());
    // What is only looked up stands before the outputs: their contracts, where there are both, are the same.
    let looked_up = plans.queries.iter().flat_map(StandingQuery::lookups).flat_map(|lookup| &lookup.tables);
    let looked_up = looked_up.filter_map(|table| plans.contracts.get(table).cloned());
    let wanted: Vec<TableContract> = wanted.into_iter().chain(looked_up).collect();
    let outputs = plans.queries.iter().map(|query| (query.output().clone(), plans.following(query.name()))).collect();
    let tables = open_tables(&lake, &base, wanted, outputs, &mut facts).await?;
    roll_forward(&slots, &base, &tables, &config.lake.app_id, &mut facts).await?;

    let erased = Arc::new(Missing::erased(&slots, &base).await?);
    let session = session();
    lake.register(&session);
    let lookups = Arc::new(Loader::new(&lake, &plans.queries, &tables));
    let state = LakeState {
        lake,
        meter,
        tables,
        contracts: of_tables,
        slots,
        stream: contracts.stream.clone(),
        rejects: contracts.rejects.clone(),
        hasher: IdentityHasher::new(rand::random()),
        tokenizer: Tokenizer::new(token_key.clone()),
        max_ahead: micros(config.event_time.max_ahead),
        session,
        lookups,
        erased,
        _lock: lock,
    };
    Ok(Taken { lake: state, base, writer, contracts, queries: plans.queries, facts })
}

/// Opens every table, creating those that never were; one that vanished stops the start. Tables of the stream and of queries
/// (`outputs`) take in added columns, all of them the comments and the order of their contracts.
async fn open_tables(
    lake: &Lake,
    base: &Slot,
    wanted: Vec<TableContract>,
    outputs: Vec<(TableContract, Following)>,
    facts: &mut Facts,
) -> Result<Tables> {
    let mut tables = Tables::new();
    let wanted = wanted.into_iter().map(|contract| match contract.stream {
        Some(_) => (contract, Following::AddedColumns),
        None => (contract, Following::Description),
    });
    for (contract, following) in wanted.chain(outputs) {
        if base.dropping.contains(&contract.name) {
            return Err(Error::usage(format!(
                "the table `{0}` was dropped, and some of its files are still there: end that with `lakeward lake drop {0}`, \
                 with the query's file out of the way; then start again",
                contract.name
            )));
        }
        if base.tables_known.contains(&contract.name) && Table::open_existing(lake, &contract.name).await?.is_none() {
            return Err(Error::usage(format!(
                "the lake's epochs name files of the table `{0}`, but its folder is gone from {1}: restore it, or start a \
                 new lake with another `lake.url`",
                contract.name,
                lake.url()
            )));
        }
        let (table, change) = Table::create_or_follow(lake, &contract, following).await?;
        facts.notes.extend(change.sentence(&contract.name));
        tables.insert(contract.name.clone(), Arc::new(table));
    }
    // Tables of queries that were removed are still published to when their last epochs were not.
    for name in base.tables_known.iter().filter(|name| !tables.contains_key(*name)).cloned().collect::<Vec<_>>() {
        if let Some(table) = Table::open_existing(lake, &name).await? {
            tables.insert(name, Arc::new(table));
        }
    }
    Ok(tables)
}

/// Publishes every decided epoch that may not be in all tables yet, in order.
async fn roll_forward(slots: &SlotLog, base: &Slot, tables: &Tables, app_id: &str, facts: &mut Facts) -> Result<()> {
    let first = base.published_through.map_or(0, |epoch| epoch + 1);
    let mut published = 0;
    for epoch in first..=base.epoch {
        let slot = slots
            .read(epoch)
            .await?
            .ok_or_else(|| Error::broken(format!("slot {epoch} is missing, although slot {} exists", base.epoch)))?;
        publish_slot(tables, app_id, &slot).await?;
        published += u64::from(slot.kind == Kind::Epoch);
    }
    if published > 0 {
        facts.notes.push(format!("checked the last {published} decided epochs: every table holds them"));
    }
    Ok(())
}

/// Joins each query with what the slot says of it: kept, back, edited, or new; and with the epochs whose rows it has missed.
fn resume_queries(
    planned: Vec<StandingQuery>,
    base: &Slot,
    mut unseen: BTreeMap<Arc<str>, Epochs>,
    facts: &mut Facts,
) -> Queries {
    let mut queries = Queries::default();
    // Of each planned query one, in the same order; then those that are gone.
    for (query, change) in planned.into_iter().zip(&facts.changes) {
        let before = base.queries.get(query.name());
        let missed = unseen.remove(query.name()).unwrap_or_default();
        if change.kind.is_same_text() && before.is_some_and(|before| before.end_of_input) {
            facts.notes.push(format!(
                "`{}` closed its windows at the end of a bounded input: older rows will count as late there",
                query.name()
            ));
        }
        match query {
            StandingQuery::Stateless(query) => {
                let reach = match before.filter(|before| before.fingerprint == query.fingerprint()) {
                    Some(same) => Reach::of(same),
                    // Rows of windows that were closed before have not passed it.
                    None => Reach { answers_after: change.closed_until, ..Reach::default() },
                };
                queries.stateless.push(Stateless { query: Arc::new(query), reach: Reach { missed, ..reach } });
            }
            StandingQuery::Windowed(query) => {
                // What was closed before this text came is not its answer.
                let kept = before.filter(|_| change.kind.is_same_text());
                let is_session = matches!(query.window().shape(), WindowShape::Session { .. });
                let query = Arc::new(query);
                queries.windowed.push(Windowed {
                    open: OpenWindows::new(query.clone()),
                    query,
                    closed_until: change.closed_until,
                    end_of_input: before.is_some_and(|before| before.end_of_input),
                    reach: match kept {
                        Some(before) => Reach { missed, ..Reach::of(before) },
                        None => Reach {
                            answers_after: change.closed_until,
                            // Which late rows count in sessions is asked anew; of other windows the closed ones are not
                            // this text's.
                            reconciled_through: before.filter(|_| !is_session).and_then(|b| b.reconciled_through),
                            ..Reach::default()
                        },
                    },
                });
            }
        }
    }
    queries
}

/// Views on views that are back owe what their parents closed, or restated, without them.
async fn owe_since(lake: &LakeState, base: &Slot, queries: &mut Queries, changes: &[Change]) -> Result<()> {
    let is_back = |name: &Arc<str>| {
        let change = changes.iter().find(|change| change.query == *name);
        change.is_some_and(|change| change.kind == ChangeKind::Returned)
    };
    let windowed = queries.windowed.iter_mut().map(|w| (Query::Windowed(Arc::clone(&w.query)), &mut w.reach));
    let stateless = queries.stateless.iter_mut().map(|s| (Query::Stateless(Arc::clone(&s.query)), &mut s.reach));
    for (query, reach) in windowed.chain(stateless).filter(|(query, _)| is_back(query.name())) {
        if let Some(before) = base.queries.get(query.name()) {
            reach.owe(owed_since(&lake.slots, base, &query, before).await?);
        }
    }
    Ok(())
}

/// Folds the lake's rows that stand in open windows, and remembers the identities the stream may repeat.
async fn rebuild(
    lake: &LakeState,
    base: &Slot,
    queries: &mut Queries,
    duplicates: &mut Duplicates,
    facts: &mut Facts,
) -> Result<()> {
    let horizon = base.watermark.map_or(Micros::MIN, |w| w.saturating_sub(queries.lateness_max()));
    let folds_stream = |w: &Windowed| {
        let is_session = matches!(w.query.window().shape(), WindowShape::Session { .. });
        *w.query.driver() == Driver::Stream && !is_session && !w.query.joins_rows()
    };
    let folding = queries.windowed.iter().filter(|w| folds_stream(w));
    let from = folding.map(|w| w.query.window().counted_from(w.closed_until));
    let oldest = from.chain([horizon]).min().unwrap_or(horizon);
    let mut rows = lake.stream_rows(oldest, None).await?;
    let mut count = 0;
    while let Some(batch) = rows.try_next().await.context(|| "reading open windows back from the lake")? {
        count += batch.num_rows();
        let recent = since(&batch, &lake.stream, horizon)?;
        let times = event_times(&recent, &lake.stream)?.values().to_vec();
        duplicates.restore(&lake.hasher.identities(&lake.stream, &recent)?, &times, horizon);
        for windowed in queries.windowed.iter_mut().filter(|windowed| folds_stream(windowed)) {
            windowed.refold(&batch, &lake.stream).await?;
        }
    }
    let newest = Arc::clone(queries.joined());
    for windowed in queries.windowed.iter_mut().filter(|w| *w.query.driver() == Driver::Stream) {
        count += sessions::rebuild(lake, base, windowed, &newest, facts).await?;
    }
    duplicates.restore(&[], &[], horizon);
    count += rebuild_joined(lake, base, queries, facts).await?;
    count += rebuild_children(lake, queries).await?;
    if count > 0 {
        facts.notes.push(format!("rebuilt open windows from {count} rows of the lake"));
    }
    Ok(())
}

/// Folds the rows of their parents' tables into the open windows of views on views.
async fn rebuild_children(lake: &LakeState, queries: &mut Queries) -> Result<usize> {
    let mut count = 0;
    for windowed in queries.windowed.iter_mut().filter(|windowed| !windowed.query.joins_rows()) {
        let is_session = matches!(windowed.query.window().shape(), WindowShape::Session { .. });
        // How far back an open session of a parent's rows reaches, only its rows tell.
        let from = if is_session { Micros::MIN } else { windowed.query.window().counted_from(windowed.closed_until) };
        let drivers: Vec<Driver> = windowed.query.drivers().into_iter().cloned().collect();
        for driver in &drivers {
            let Driver::View(parent) = driver else { continue };
            let Some(time) = parent.time() else { continue };
            let mut rows = lake.view_rows(&parent.name, time, from).await?;
            while let Some(batch) = rows.try_next().await.context(|| "reading open windows back from the lake")? {
                count += batch.num_rows();
                windowed.fold_of(driver, &[batch]).await?;
            }
        }
        if let (true, Some(until)) = (is_session && !drivers.contains(&Driver::Stream), windowed.closed_until) {
            windowed.open.close(None, until).await?;
        }
    }
    Ok(count)
}

/// The rows with an event time at or after `horizon`: older ones may be hours of an open window, and their identities are
/// looked up in the lake anyway.
fn since(batch: &RecordBatch, stream: &TableContract, horizon: Micros) -> Result<RecordBatch> {
    let recent = BooleanArray::from_unary(event_times(batch, stream)?, |time| time >= horizon);
    filter_record_batch(batch, &recent).context(|| "remembering identities")
}

/// Watermarks of the shards this run reads; another source's shards do not hold them back.
pub(super) fn restore_watermarks(job: &Job, base: &Slot) -> Watermarks {
    let settings = &job.config.watermark;
    let idleness = match job.input {
        Input::Stream(Feed::Others | Feed::Simulate) => Idleness::After(micros(settings.idle_after)),
        Input::Stream(Feed::Replay(_)) | Input::Files { .. } => Idleness::Never,
    };
    let mut watermarks = Watermarks::new(micros(settings.out_of_orderness), idleness);
    let shards: Vec<_> = match job.input {
        // Which files are read again is known when they are opened.
        Input::Files { .. } => Vec::new(),
        Input::Stream(_) => base.shards().filter(|(key, _)| key.source == input::stream_source(job)).collect(),
    };
    watermarks.restore(base.watermark, shards.iter().map(|(key, shard)| (key, &shard.progress)));
    watermarks
}

impl LakeState {
    /// Notes that this writer has ended in order, where no lock tells it.
    pub(super) async fn rest(&self, writer: Uuid) {
        if !self.lake.has_lock() {
            self.slots.write_resting(writer).await;
        }
    }

    /// A decoder for one shard; all of them hash identities alike.
    ///
    /// # Errors
    /// [`Error::Usage`] for a contract that records cannot be read by.
    pub(super) fn decoder(&self) -> Result<Decoder> {
        Decoder::new(
            self.stream.clone(),
            self.rejects.clone(),
            self.tokenizer.clone(),
            self.max_ahead,
            self.hasher.clone(),
        )
    }

    /// Rows of the stream's table with `from <= event_time <= to`, in the stream's schema without `_epoch` and `_late`.
    ///
    /// # Errors
    /// [`Error::External`] when the lake does not answer.
    pub(super) async fn stream_rows(&self, from: Micros, to: Option<Micros>) -> Result<SendableRecordBatchStream> {
        let doing = || "reading the stream's table";
        let table = self
            .tables
            .get(&self.stream.name)
            .ok_or_else(|| Error::broken(format!("the table `{}` is not open", self.stream.name)))?;
        let event_time = self.stream.stream.as_ref().map_or("", |s| s.event_time.as_ref());
        let time = |t: Micros| lit(ScalarValue::TimestampMicrosecond(Some(t), Some("UTC".into())));
        let day = |t: Micros| {
            let days = t.div_euclid(86_400 * MICROS_PER_SECOND);
            lit(ScalarValue::Date32(Some(i32::try_from(days).unwrap_or(if days < 0 { i32::MIN } else { i32::MAX }))))
        };
        let partition = self.stream.partition_by.as_ref();
        let mut wanted = col(event_time).gt_eq(time(from)).and(col(partition).gt_eq(day(from)));
        if let Some(to) = to {
            wanted = wanted.and(col(event_time).lt_eq(time(to))).and(col(partition).lt_eq(day(to)));
        }
        let columns: Vec<_> = self
            .stream
            .columns
            .iter()
            .filter(|c| ![provenance::EPOCH, provenance::LATE].contains(&c.name.as_ref()))
            .map(|c| c.name.as_ref())
            .map(col)
            .collect();
        let rows = self.session.read_table(table.provider(None).await?).context(doing)?;
        let rows = rows.filter(wanted).context(doing)?.select(columns).context(doing)?;
        rows.execute_stream().await.context(doing)
    }

    /// Rows of a view's table with `from <= time`, in the table's schema.
    ///
    /// # Errors
    /// [`Error::External`] when the lake does not answer.
    async fn view_rows(&self, view: &str, time: &str, from: Micros) -> Result<SendableRecordBatchStream> {
        let doing = || format!("reading the table `{view}`");
        let table = self.tables.get(view).ok_or_else(|| Error::broken(format!("the table `{view}` is not open")))?;
        let bound = lit(ScalarValue::TimestampMicrosecond(Some(from), Some("UTC".into())));
        let rows = self.session.read_table(table.provider(None).await?).context(doing)?;
        rows.filter(col(time).gt_eq(bound)).context(doing)?.execute_stream().await.context(doing)
    }
}
