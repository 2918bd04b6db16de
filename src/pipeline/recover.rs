//! Coming back: fence the lake, publish what was decided, rebuild what was open.
//!
//! The one law: state is a function of the lake. Windows and identities are rebuilt by the same code that folds the
//! stream, from the rows the lake holds; nothing else is saved.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::prelude::{SessionContext, col, lit};
use datafusion::scalar::ScalarValue;
use futures::TryStreamExt;

use super::commit::{Tables, publish_slot};
use super::engine::{Contracts, Engine};
use super::queries::{Queries, Windowed, event_times};
use super::{Facts, Feed, Input, Job, input};
use crate::clock::{MICROS_PER_SECOND, Micros};
use crate::config::micros;
use crate::contract::{TableContract, provenance};
use crate::epoch::{Kind, Slot, SlotLog, TokenKeyName, Writer, take_over};
use crate::error::{Context, Error, Result};
use crate::lake::{Lake, LakeLock, Table};
use crate::micro_batch::{Decoder, Duplicates, IdentityHasher};
use crate::plans::Plans;
use crate::sql::{Driver, StandingQuery, session};
use crate::token::Tokenizer;
use crate::window::{Idleness, OpenWindows, Watermarks};

/// The lake as the job holds it open.
pub(super) struct LakeState {
    pub tables: Tables,
    pub slots: SlotLog,
    pub stream: Arc<TableContract>,
    pub hasher: IdentityHasher,
    rejects: Arc<TableContract>,
    tokenizer: Tokenizer,
    max_ahead: Micros,
    session: SessionContext,
    _lock: LakeLock,
}

/// A lake taken over, and the engine that goes on from it.
pub(super) struct Recovered {
    pub engine: Engine,
    pub lake: LakeState,
    /// The newest decided slot.
    pub base: Slot,
    pub writer: Writer,
    pub facts: Facts,
}

/// Takes the lake over and brings everything to the newest decided slot.
///
/// # Errors
/// See [`super::start`].
pub(super) async fn recover(job: &Job) -> Result<Recovered> {
    let config = &job.config;
    let plans = Plans::read(config).await?;
    let contracts =
        Contracts { stream: plans.stream.clone(), rejects: plans.rejects.clone(), epochs: plans.epochs.clone() };
    let lake = Lake::open(&config.lake.url)?;
    let lock = lake.lock()?;
    lake.probe().await?;
    let slots = SlotLog::new(lake.store());
    let key = TokenKeyName { version: job.token_key.version(), fingerprint: job.token_key.fingerprint() };
    let (writer, base) = take_over(&slots, &key, &job.host, job.clock.now()).await?;
    let mut facts = Facts { lake: lake.url().to_string(), watermark: base.watermark, ..Facts::default() };

    let outputs = plans.queries.iter().map(|query| query.output().clone());
    let wanted = [&contracts.stream, &contracts.rejects, &contracts.epochs].map(|c| c.as_ref().clone());
    let tables = open_tables(&lake, &base, wanted.into_iter().chain(outputs)).await?;
    roll_forward(&slots, &base, &tables, &config.lake.app_id, &mut facts).await?;

    let hasher = IdentityHasher::new(rand::random());
    let tokenizer = Tokenizer::new(job.token_key.clone());
    let session = session();
    lake.register(&session);
    let state = LakeState {
        tables,
        slots,
        stream: contracts.stream.clone(),
        rejects: contracts.rejects.clone(),
        hasher,
        tokenizer: tokenizer.clone(),
        max_ahead: micros(config.event_time.max_ahead),
        session,
        _lock: lock,
    };
    let mut duplicates = Duplicates::new(&contracts.stream, &contracts.rejects, tokenizer)?;
    let mut queries = resume_queries(plans.queries, &base, &mut facts);
    rebuild(&state, &base, &mut queries, &mut duplicates, &mut facts).await?;
    let watermarks = restore_watermarks(job, &base);
    let engine =
        Engine::new(contracts, config.commit.clone(), writer.clone(), base.clone(), queries, watermarks, duplicates);
    Ok(Recovered { engine, lake: state, base, writer, facts })
}

/// Opens every table, creating those that never were; one that vanished stops the start.
async fn open_tables(lake: &Lake, base: &Slot, wanted: impl Iterator<Item = TableContract>) -> Result<Tables> {
    let mut tables = Tables::new();
    for contract in wanted {
        if base.tables_known.contains(&contract.name) && Table::open_existing(lake, &contract.name).await?.is_none() {
            return Err(Error::usage(format!(
                "the lake's epochs name files of the table `{0}`, but its folder is gone from {1}: restore it, or start a \
                 new lake with another `lake.url`",
                contract.name,
                lake.url()
            )));
        }
        let table = Table::create_or_open(lake, &contract).await?;
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

/// Joins each query with what the slot says of it: kept, edited, or new.
fn resume_queries(planned: Vec<StandingQuery>, base: &Slot, facts: &mut Facts) -> Queries {
    let mut queries = Queries::default();
    for query in planned {
        facts.queries.push(query.name().to_string());
        let before = base.queries.get(query.name());
        match before {
            Some(before) if before.fingerprint != query.fingerprint() => facts.notes.push(format!(
                "the query `{}` was edited: its open windows are rebuilt by the new text, closed rows stay as they are",
                query.name()
            )),
            Some(before) if before.end_of_input => facts.notes.push(format!(
                "`{}` closed its windows at the end of a bounded input: older rows will count as late there",
                query.name()
            )),
            _ => {}
        }
        match query {
            StandingQuery::Stateless(query) => queries.stateless.push(Arc::new(query)),
            StandingQuery::Windowed(query) => {
                // A new query starts at its first whole window: the one the watermark stands in.
                let closed_until = match before {
                    Some(before) => before.closed_until,
                    None => queries.closable_until(&query, base.watermark),
                };
                let end_of_input = before.is_some_and(|b| b.end_of_input);
                let query = Arc::new(query);
                queries.windowed.push(Windowed {
                    open: OpenWindows::new(query.clone()),
                    query,
                    closed_until,
                    end_of_input,
                });
            }
        }
    }
    let running: BTreeSet<&str> = facts.queries.iter().map(String::as_str).collect();
    for gone in base.queries.keys().filter(|name| !running.contains(name.as_ref())) {
        facts.notes.push(format!("the query `{gone}` is no longer there: its table stays as it is"));
    }
    queries
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
    let from: Vec<Micros> = queries.of_stream().map(|w| w.query.window().on_time_from(w.closed_until)).collect();
    let oldest = from.iter().copied().chain([horizon]).min().unwrap_or(horizon);
    let mut rows = lake.stream_rows(oldest, None).await?;
    let mut count = 0;
    while let Some(batch) = rows.try_next().await.context(|| "reading open windows back from the lake")? {
        count += batch.num_rows();
        let recent = since(&batch, &lake.stream, horizon)?;
        let times = event_times(&recent, &lake.stream)?.values().to_vec();
        duplicates.restore(&lake.hasher.identities(&lake.stream, &recent)?, &times, horizon);
        for windowed in queries.windowed.iter_mut().filter(|w| *w.query.driver() == Driver::Stream) {
            windowed.refold(&batch, &lake.stream).await?;
        }
    }
    duplicates.restore(&[], &[], horizon);
    count += rebuild_children(lake, queries).await?;
    if count > 0 {
        facts.notes.push(format!("rebuilt open windows from {count} rows of the lake"));
    }
    Ok(())
}

/// Folds the rows of their parents' tables into the open windows of views on views.
async fn rebuild_children(lake: &LakeState, queries: &mut Queries) -> Result<usize> {
    let mut count = 0;
    for windowed in &mut queries.windowed {
        let Driver::View(parent) = windowed.query.driver() else { continue };
        let Some(time) = parent.time() else { continue };
        let from = windowed.query.window().on_time_from(windowed.closed_until);
        let mut rows = lake.view_rows(&parent.name, time, from).await?;
        while let Some(batch) = rows.try_next().await.context(|| "reading open windows back from the lake")? {
            count += batch.num_rows();
            windowed.fold(&[batch]).await?;
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
            .map(|c| col(c.name.as_ref()))
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
