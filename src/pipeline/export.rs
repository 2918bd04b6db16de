//! When and what the plain export takes in: dates that are over, as compaction knows them.
//!
//! The one law: the stream does not wait for it, nor do manifests and catalog. A look takes table after table, one date at
//! a time; what fails, or is cut off, is there for the next look.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use datafusion::sql::sqlparser::tokenizer::Span;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::commit::Tables;
use super::compaction::{Closed, is_due};
use super::restate::Query;
use crate::clock::Clock;
use crate::config::{Config, Maintenance};
use crate::contract::TableContract;
use crate::epoch::{SlotLog, published_epoch};
use crate::error::{Error, Refusal, Result};
use crate::lake::{DataFile, Lake, Table};
use crate::plain::{Export, Exported, Place, is_exported};
use crate::plans::Plans;

/// A date of so many files goes as it is; one of more waits until its small files are written together,
const FILES_MAX: usize = 32;
/// but not for more days than this: whatever keeps it from that, its readers wait.
const WAITING_DAYS: i32 = 2;

/// The exports of one lake. There is one at a time: the job's, or that of a command that holds the lake's lock.
#[derive(Debug)]
pub(super) struct Exporter {
    exports: BTreeMap<Arc<str>, Export>,
    tables: Tables,
    slots: SlotLog,
    queries: Vec<Query>,
    stream: Arc<str>,
    app_id: String,
    maintenance: Maintenance,
    clock: Clock,
}

/// What an export is about.
pub(super) struct Source<'a> {
    pub lake: &'a Lake,
    pub tables: &'a Tables,
    pub contracts: &'a BTreeMap<Arc<str>, TableContract>,
    pub slots: &'a SlotLog,
    /// Parents before their children.
    pub queries: Vec<Query>,
    pub stream: &'a Arc<str>,
}

/// How long the job waits for small files to be written together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Patience {
    /// Somebody asked.
    None,
    WhileItPays,
}

/// What a look did, by table, and the first error of those that failed.
pub(super) type Looked = (BTreeMap<Arc<str>, Exported>, Option<Error>);

impl Exporter {
    /// The configured export of these tables; `None` without one.
    ///
    /// # Errors
    /// [`Error::Usage`] for a place that cannot be used, or tables nobody knows; see [`Place::of`].
    pub(super) fn of(config: &Config, source: Source<'_>, clock: Clock) -> Result<Option<Self>> {
        let Some(place) = Place::of(&config.plain, &config.s3, source.lake)? else { return Ok(None) };
        if let Some(unknown) = config.plain.tables.iter().find(|name| !source.contracts.contains_key(name.as_str())) {
            let refusal = Refusal::new(
                Span::empty(),
                format!("configuration: `plain.tables` names `{unknown}`, of which there is no contract and no query"),
            );
            return Err(Error::Usage(refusal.near(unknown, source.contracts.keys().map(AsRef::as_ref)).into()));
        }
        let is_wanted =
            |name: &Arc<str>| source.contracts.get(name).is_some_and(|contract| is_exported(&config.plain, contract));
        let wanted = source.tables.iter().filter(|(name, _)| is_wanted(name));
        let exports = wanted.map(|(name, table)| (Arc::clone(name), Export::new(Arc::clone(table), place.clone())));
        Ok(Some(Self {
            exports: exports.collect(),
            tables: source.tables.clone(),
            slots: source.slots.clone(),
            queries: source.queries,
            stream: Arc::clone(source.stream),
            app_id: config.lake.app_id.clone(),
            maintenance: config.maintenance.clone(),
            clock,
        }))
    }

    /// Brings the export to what the tables are: of all of them, or of those named.
    ///
    /// # Errors
    /// [`Error::External`] when the slots cannot be read; errors of single tables are told beside what was done.
    pub(super) async fn look(&mut self, only: Option<&[Arc<str>]>, patience: Patience) -> Result<Looked> {
        let (mut done, mut failed) = (BTreeMap::new(), None);
        let Some(closed) = self.closed().await? else { return Ok((done, failed)) };
        let is_asked =
            |name: &&mut Export| only.is_none_or(|only| only.iter().any(|wanted| **wanted == *name.table().name()));
        for export in self.exports.values_mut().filter(is_asked) {
            let name: Arc<str> = export.table().name().into();
            let (before, maintenance) = (closed.before(&name), &self.maintenance);
            let waits = |day: i32, files: &[Arc<DataFile>]| {
                patience == Patience::WhileItPays
                    && files.len() > FILES_MAX
                    && day >= before.saturating_sub(WAITING_DAYS)
                    && is_due(files, maintenance)
            };
            match export.bring_up(|day, files| day < before && !waits(day, files)).await {
                Ok(exported) => {
                    done.insert(name, exported);
                }
                Err(error) => {
                    tracing::debug!(table = %name, %error, "its export is not up to date");
                    failed = failed.or(Some(error));
                }
            }
        }
        Ok((done, failed))
    }

    /// Which dates are over, as the newest epoch says that every table holds.
    async fn closed(&self) -> Result<Option<Closed>> {
        let Some(through) = published_epoch(&self.slots, &self.tables, &self.app_id).await? else { return Ok(None) };
        let slot = self.slots.read(through).await?;
        let slot = slot.ok_or_else(|| Error::broken(format!("slot {through} is missing")))?;
        Ok(Some(Closed::at(&slot, &self.queries, &self.stream, self.clock.now())))
    }
}

/// The export of a running job, in a task of its own.
#[derive(Debug)]
pub(super) struct Exporting {
    ending: CancellationToken,
    task: JoinSet<()>,
}

impl Exporting {
    /// Looks now, and then every so often.
    pub(super) fn start(exporter: Exporter, every: Duration) -> Self {
        let (ending, mut task) = (CancellationToken::new(), JoinSet::new());
        task.spawn(rounds(exporter, every, ending.clone()));
        Self { ending, task }
    }

    /// Looks once more, and waits for it; dropped, it ends at once.
    pub(super) async fn finish(&mut self) {
        self.ending.cancel();
        self.task.join_next().await;
    }
}

async fn rounds(mut exporter: Exporter, every: Duration, ending: CancellationToken) {
    let mut look = interval(every);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut is_well = true;
    loop {
        let is_last = tokio::select! {
            biased;
            () = ending.cancelled() => true,
            _ = look.tick() => false,
        };
        let failed = match exporter.look(None, Patience::WhileItPays).await {
            Ok((done, failed)) => {
                for (table, done) in done.iter().filter(|(_, done)| !done.dates.is_empty()) {
                    tracing::info!(%table, ?done, "exported");
                }
                failed
            }
            Err(error) => Some(error),
        };
        // Told once, until all is well again.
        match &failed {
            Some(error) if is_well => {
                tracing::warn!(%error, "the plain export cannot be brought up to date; tried again at each look");
            }
            None if !is_well => tracing::warn!("the plain export is up to date again"),
            _ => {}
        }
        is_well = failed.is_none();
        if is_last {
            return;
        }
    }
}

/// Brings the configured export to what a lake at rest is, of these tables, or of all; `lakeward lake export`. Whoever
/// calls holds the lake's lock. Returns what was done, by table.
///
/// # Errors
/// [`Error::Usage`] when no export is configured, or for a table that belongs to none; the first error of a table, after
/// the others were tried.
pub async fn export(
    config: &Config,
    lake: &Lake,
    names: &[String],
    clock: Clock,
) -> Result<BTreeMap<Arc<str>, Exported>> {
    let none = || {
        Error::usage(
            "no export is configured: say where plain files go with `--set plain.url=…`, a folder or `s3://BUCKET/lake_plain`",
        )
    };
    let plans = Plans::read(config).await?;
    let (tables, slots) = (opened(lake).await?, SlotLog::new(lake.store()));
    let contracts = plans.tables();
    let queries = plans.queries.into_iter().map(Query::of).collect();
    let source =
        Source { lake, tables: &tables, contracts: &contracts, slots: &slots, queries, stream: &plans.stream.name };
    let mut exporter = Exporter::of(config, source, clock)?.ok_or_else(none)?;
    if let Some(unknown) = names.iter().find(|name| !exporter.exports.contains_key(name.as_str())) {
        let refusal = Refusal::new(Span::empty(), format!("no table `{unknown}` that is exported"));
        return Err(Error::Usage(refusal.near(unknown, exporter.exports.keys().map(AsRef::as_ref)).into()));
    }
    let only: Vec<Arc<str>> = names.iter().map(|name| name.as_str().into()).collect();
    let (done, failed) = exporter.look((!only.is_empty()).then_some(only.as_slice()), Patience::None).await?;
    failed.map_or(Ok(done), Err)
}

async fn opened(lake: &Lake) -> Result<Tables> {
    let mut tables = Tables::new();
    let dropping = SlotLog::new(lake.store()).dropping().await?;
    for name in lake.tables().await?.into_iter().filter(|name| !dropping.contains(name.as_str())) {
        if let Some(table) = Table::open_existing(lake, &name).await? {
            tables.insert(name.into(), Arc::new(table));
        }
    }
    Ok(tables)
}
