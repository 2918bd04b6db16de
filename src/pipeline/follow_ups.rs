//! After an epoch is published: checkpoints, manifests, catalog, plain export and vacuum, in tasks beside the stream.
//!
//! The one law: nothing waits for a follow-up. Epochs only add names to a set of tables, so that what has piled up behind a
//! slow store or catalog is done once; what fails is tried again, later and later, and told once.

use std::collections::{BTreeMap, BTreeSet};
use std::mem::take;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use futures::StreamExt;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::export::{Exporter, Exporting};
use super::upkeep::Upkeep;
use crate::clock::Clock;
use crate::config::{self, Config, micros};
use crate::epoch::SlotLog;
use crate::error::{Error, Result};
use crate::vacuum::{Retention, Rounds, unpublished, vacuum};

/// Tables looked after at once: a checkpoint computes, and two cores are also the stream's.
const TABLES_AT_ONCE: usize = 2;

/// How long the end of a job waits for what is due: shorter than the half minute supervisors give. The next start does the
/// rest.
const FINISH_MAX: Duration = Duration::from_secs(20);
/// The same once somebody has asked the job to end, who is to wait less than five seconds: the last commit takes up to two.
const STOPPED_MAX: Duration = Duration::from_secs(2);

/// Waits after failures: from the length of a hiccup to one at which a person would look, too.
const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(300);

/// How often the lake is asked whether a vacuum is due, which is once a day.
const ROUND_LOOK: Duration = Duration::from_secs(3_600);

/// The tasks of one job; dropped, they end at once.
#[derive(Debug)]
pub(super) struct FollowUps {
    lake: Worker,
    catalog: Worker,
    /// Of its own pace: dates are over once a day.
    export: Option<Exporting>,
    /// May be cut off anywhere.
    _vacuum: JoinSet<()>,
}

/// One task with its queue.
#[derive(Debug)]
struct Worker {
    due: Arc<Due>,
    ending: CancellationToken,
    task: JoinSet<()>,
}

/// Tables with something to do; at most all of them.
#[derive(Debug, Default)]
struct Due {
    tables: Mutex<BTreeSet<Arc<str>>>,
    added: Notify,
}

/// See [`FollowUps::due`].
#[derive(Clone, Debug)]
pub(super) struct DueTables(Arc<Due>);

impl DueTables {
    /// Never waits.
    pub(super) fn add<'a>(&self, names: impl Iterator<Item = &'a Arc<str>>) {
        self.0.add(names.cloned());
    }
}

impl Due {
    fn add(&self, names: impl Iterator<Item = Arc<str>>) {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner).extend(names);
        self.added.notify_one();
    }

    fn take(&self) -> BTreeSet<Arc<str>> {
        take(&mut *self.tables.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl FollowUps {
    /// Begins with every table: what an earlier job has left undone is due.
    pub(super) fn start(
        upkeep: Upkeep,
        exporter: Option<Exporter>,
        slots: SlotLog,
        config: &Config,
        clock: Clock,
    ) -> Self {
        let upkeep = Arc::new(upkeep);
        let catalog = Worker::start(Arc::clone(&upkeep), Part::Catalog);
        let lake = Worker::start(Arc::clone(&upkeep), Part::Lake { then: Arc::clone(&catalog.due) });
        lake.due.add(upkeep.names().cloned());
        let mut vacuum = JoinSet::new();
        let due = DueTables(Arc::clone(&lake.due));
        vacuum.spawn(vacuum_rounds(upkeep, slots, config.retention.clone(), clock, due));
        let export = exporter.map(|exporter| Exporting::start(exporter, config.maintenance.interval));
        Self { lake, catalog, export, _vacuum: vacuum }
    }

    /// Where whoever publishes says which tables have a new version.
    pub(super) fn due(&self) -> DueTables {
        DueTables(Arc::clone(&self.lake.due))
    }

    /// Does what is still due, for a bounded time. Only for a job that still owns the lake: manifests have one writer.
    pub(super) async fn finish(mut self, stop: &CancellationToken) {
        let all = async {
            self.lake.finish().await;
            self.catalog.finish().await;
            if let Some(export) = &mut self.export {
                export.finish().await;
            }
        };
        tokio::select! {
            () = all => {}
            () = patience(stop) => {
                tracing::warn!("manifests, catalog or export are not up to date yet; the next start goes on with them");
            }
        }
    }
}

/// Ends when what is due is waited for no longer.
async fn patience(stop: &CancellationToken) {
    let stopped = async {
        stop.cancelled().await;
        sleep(STOPPED_MAX).await;
    };
    tokio::select! {
        () = sleep(FINISH_MAX) => {}
        () = stopped => {}
    }
}

impl Worker {
    fn start(upkeep: Arc<Upkeep>, part: Part) -> Self {
        let (due, ending, mut task) = (Arc::new(Due::default()), CancellationToken::new(), JoinSet::new());
        task.spawn(work(upkeep, part, Arc::clone(&due), ending.clone()));
        Self { due, ending, task }
    }

    async fn finish(&mut self) {
        self.ending.cancel();
        self.task.join_next().await;
    }
}

/// What a task does for a table.
#[derive(Clone, Debug)]
enum Part {
    /// Checkpoint and manifests; then the table is due for the catalog.
    Lake { then: Arc<Due> },
    /// A catalog that hangs holds up nothing but itself.
    Catalog,
}

/// A table whose last attempt failed.
struct Trouble {
    waits: ExponentialBackoff,
    again: Instant,
}

async fn work(upkeep: Arc<Upkeep>, part: Part, due: Arc<Due>, ending: CancellationToken) {
    let mut troubles: BTreeMap<Arc<str>, Trouble> = BTreeMap::new();
    loop {
        let again = troubles.values().map(|trouble| trouble.again).min();
        tokio::select! {
            biased;
            () = due.added.notified() => {}
            () = ending.cancelled() => break,
            () = sleep_until(again.unwrap_or_else(Instant::now)), if again.is_some() => {}
        }
        round(&upkeep, &part, &due, &mut troubles).await;
    }
    round(&upkeep, &part, &due, &mut troubles).await;
}

/// Everything that is due now. A table in trouble waits for its time, whatever is added.
async fn round(upkeep: &Arc<Upkeep>, part: &Part, due: &Due, troubles: &mut BTreeMap<Arc<str>, Trouble>) {
    let now = Instant::now();
    let mut names = due.take();
    names.retain(|name| !troubles.contains_key(name));
    names.extend(troubles.iter().filter(|(_, trouble)| trouble.again <= now).map(|(name, _)| Arc::clone(name)));
    let was_well = troubles.is_empty();
    let has_failed = Arc::new(AtomicBool::new(false));
    let attempts: Vec<_> = names
        .into_iter()
        .map(|name| attempt(Arc::clone(upkeep), part.clone(), Arc::clone(&has_failed), name))
        .collect();
    let mut ended = futures::stream::iter(attempts).buffer_unordered(TABLES_AT_ONCE);
    let mut first = None;
    while let Some((name, ended)) = ended.next().await {
        let Err(error) = ended else {
            troubles.remove(&name);
            continue;
        };
        if let Some(error) = error {
            tracing::debug!(table = %name, %error, "{} cannot be brought up to date yet", part.noun());
            first = first.or(Some((Arc::clone(&name), error)));
        }
        let trouble = troubles.entry(name).or_insert_with(|| Trouble { waits: waits(), again: now });
        trouble.again = Instant::now() + trouble.waits.next().unwrap_or(RETRY_MAX);
    }
    // Told once, until all is well again.
    match first {
        Some((table, error)) if was_well => {
            tracing::warn!(%table, %error, "{} cannot be brought up to date; tried again until it can", part.noun());
        }
        _ if !was_well && troubles.is_empty() => tracing::warn!("{} is up to date again", part.noun()),
        _ => {}
    }
}

/// Fails without an error where another table has just failed: one timeout of a catalog is enough in a round.
async fn attempt(
    upkeep: Arc<Upkeep>,
    part: Part,
    has_failed: Arc<AtomicBool>,
    name: Arc<str>,
) -> (Arc<str>, std::result::Result<(), Option<Error>>) {
    if has_failed.load(Ordering::Relaxed) {
        return (name, Err(None));
    }
    let ended = match &part {
        Part::Lake { then } => {
            if let Err(error) = upkeep.checkpoint_if_due(&name).await {
                tracing::warn!(table = %name, %error, "no checkpoint of the Delta log; the next one is tried later");
            }
            let ended = upkeep.manifests(&name).await.map(drop);
            if ended.is_ok() && upkeep.has_catalog() {
                then.add(std::iter::once(Arc::clone(&name)));
            }
            ended
        }
        Part::Catalog => upkeep.catalog(&name).await.map(drop),
    };
    if ended.is_err() && matches!(part, Part::Catalog) {
        has_failed.store(true, Ordering::Relaxed);
    }
    (name, ended.map_err(Some))
}

impl Part {
    fn noun(&self) -> &'static str {
        match self {
            Self::Lake { .. } => "what Spectrum reads",
            Self::Catalog => "the catalog",
        }
    }
}

fn waits() -> ExponentialBackoff {
    let waits = ExponentialBuilder::new().with_jitter().with_min_delay(RETRY_MIN).with_max_delay(RETRY_MAX);
    waits.without_max_times().build()
}

/// Looks every hour whether a vacuum is due. One that fails is tried again at the next look.
async fn vacuum_rounds(upkeep: Arc<Upkeep>, slots: SlotLog, settings: config::Retention, clock: Clock, due: DueTables) {
    let mut look = interval(ROUND_LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        look.tick().await;
        if let Err(error) = vacuum_if_due(&upkeep, &slots, &settings, &clock, &due).await {
            tracing::warn!(%error, "what is out of use was not deleted; tried again in an hour");
        }
    }
}

async fn vacuum_if_due(
    upkeep: &Upkeep,
    slots: &SlotLog,
    settings: &config::Retention,
    clock: &Clock,
    due: &DueTables,
) -> Result<()> {
    let mut rounds = Rounds::read(upkeep.lake(), clock.now()).await?;
    let Some(scope) = rounds.due(settings, clock.now()) else { return Ok(()) };
    let unpublished = unpublished(slots).await?;
    let mut failed = None;
    for table in upkeep.tables() {
        let retention = Retention { scope, keep: micros(settings.keep), now: clock.now(), dry_run: false };
        let done = match vacuum(table, &unpublished, &retention).await {
            Ok(done) => done,
            Err(error) => {
                tracing::warn!(table = table.name(), %error, "not vacuumed");
                failed = Some(error);
                continue;
            }
        };
        if let Some(why) = &done.refused {
            tracing::warn!(table = table.name(), "not vacuumed: {why}");
        }
        tracing::info!(table = table.name(), ?done, "vacuumed");
    }
    // A store that does not answer is asked again in an hour; a table that is broken waits for the next round.
    if let Some(error) = failed.filter(|error| matches!(error, Error::External { .. })) {
        return Err(error);
    }
    rounds.done(upkeep.lake(), scope, clock.now()).await?;
    upkeep.look_again().await;
    due.add(upkeep.names());
    Ok(())
}
