//! After an epoch is published: checkpoints, manifests, catalog and vacuum, in tasks beside the stream.
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
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::upkeep::{Failed, Upkeep};
use crate::clock::Clock;
use crate::config::{self, Config, micros};
use crate::epoch::SlotLog;
use crate::error::Result;
use crate::vacuum::{Retention, Rounds, unpublished, vacuum};

/// Tables looked after at once: a checkpoint computes, and two cores are also the stream's.
const TABLES_AT_ONCE: usize = 2;

/// How long the end of a job waits for what is due: shorter than the half minute supervisors give. The next start does the
/// rest.
const FINISH_MAX: Duration = Duration::from_secs(20);

/// Waits after failures: from the length of a hiccup to one at which a person would look, too.
const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(300);

/// How often the lake is asked whether a vacuum is due, which is once a day.
const ROUND_LOOK: Duration = Duration::from_secs(3_600);

/// The tasks of one job; dropped, they end at once.
#[derive(Debug)]
pub(super) struct FollowUps {
    due: Arc<Due>,
    ending: CancellationToken,
    worker: JoinSet<()>,
    /// Holds no data that is being built: it may be cut off anywhere.
    _vacuum: JoinSet<()>,
}

/// Tables with something to do; at most all of them.
#[derive(Debug, Default)]
struct Due {
    tables: Mutex<BTreeSet<Arc<str>>>,
    added: Notify,
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
    pub(super) fn start(upkeep: Upkeep, slots: SlotLog, config: &Config, clock: Clock) -> Self {
        let (due, ending, upkeep) = (Arc::new(Due::default()), CancellationToken::new(), Arc::new(upkeep));
        due.add(upkeep.names().cloned());
        let (mut worker, mut vacuum) = (JoinSet::new(), JoinSet::new());
        worker.spawn(work(Arc::clone(&upkeep), Arc::clone(&due), ending.clone()));
        vacuum.spawn(vacuum_rounds(upkeep, slots, config.retention.clone(), clock));
        Self { due, ending, worker, _vacuum: vacuum }
    }

    /// These tables have a new version.
    pub(super) fn due<'a>(&self, names: impl Iterator<Item = &'a Arc<str>>) {
        self.due.add(names.cloned());
    }

    /// Does what is still due, for a bounded time.
    pub(super) async fn finish(mut self) {
        self.ending.cancel();
        if timeout(FINISH_MAX, self.worker.join_next()).await.is_err() {
            tracing::warn!("manifests or catalog are not up to date yet; the next start goes on with them");
        }
    }
}

/// A table whose last attempt failed.
struct Trouble {
    waits: ExponentialBackoff,
    again: Instant,
}

/// What failed and was told, until it is well again.
#[derive(Default)]
struct Told {
    tables: BTreeSet<Arc<str>>,
    catalog: bool,
}

async fn work(upkeep: Arc<Upkeep>, due: Arc<Due>, ending: CancellationToken) {
    let mut troubles: BTreeMap<Arc<str>, Trouble> = BTreeMap::new();
    let mut told = Told::default();
    loop {
        let again = troubles.values().map(|trouble| trouble.again).min();
        tokio::select! {
            biased;
            () = due.added.notified() => {}
            () = ending.cancelled() => break,
            () = sleep_until(again.unwrap_or_else(Instant::now)), if again.is_some() => {}
        }
        round(&upkeep, &due, &mut troubles, &mut told).await;
    }
    round(&upkeep, &due, &mut troubles, &mut told).await;
}

/// Everything that is due now.
async fn round(
    upkeep: &Arc<Upkeep>,
    due: &Due,
    troubles: &mut BTreeMap<Arc<str>, Trouble>,
    told: &mut Told,
) {
    let now = Instant::now();
    let again = troubles.iter().filter(|(_, trouble)| trouble.again <= now).map(|(name, _)| Arc::clone(name));
    let again: BTreeSet<Arc<str>> = again.collect();
    let mut names = due.take();
    names.extend(again.iter().cloned());
    // A table in trouble has its manifests written with each epoch; the catalog is left alone until its time.
    let waits_for_catalog = |name: &Arc<str>| troubles.contains_key(name) && !again.contains(name);
    let catalog_failed = Arc::new(AtomicBool::new(false));
    let attempts: Vec<_> = names
        .into_iter()
        .map(|name| attempt(Arc::clone(upkeep), Arc::clone(&catalog_failed), waits_for_catalog(&name), name))
        .collect();
    let ended: Vec<_> = futures::stream::iter(attempts).buffer_unordered(TABLES_AT_ONCE).collect().await;
    for (name, ended) in ended {
        match ended {
            Ended::Waiting => {}
            Ended::Well => {
                troubles.remove(&name);
                told.well(&name, troubles.is_empty());
            }
            Ended::Failed(failed) => {
                if let Some(failed) = failed {
                    told.failed(&name, &failed);
                }
                let trouble = troubles.entry(name).or_insert_with(|| Trouble { waits: waits(), again: now });
                trouble.again = Instant::now() + trouble.waits.next().unwrap_or(RETRY_MAX);
            }
        }
    }
}

/// How an attempt has ended.
enum Ended {
    Well,
    /// The manifests are written; the catalog's turn comes later.
    Waiting,
    /// Without an error: the catalog was not asked, because it had just failed for another table.
    Failed(Option<Failed>),
}

async fn attempt(
    upkeep: Arc<Upkeep>,
    catalog_failed: Arc<AtomicBool>,
    waits: bool,
    name: Arc<str>,
) -> (Arc<str>, Ended) {
    if let Err(error) = upkeep.checkpoint_if_due(&name).await {
        tracing::warn!(table = %name, %error, "no checkpoint of the Delta log; the next one is tried later");
    }
    let is_failing = catalog_failed.load(Ordering::Relaxed);
    let ended = match upkeep.manifests_and_catalog(&name, !waits && !is_failing).await {
        Ok(_) if waits => Ended::Waiting,
        Ok(_) if is_failing => Ended::Failed(None),
        Ok(_) => Ended::Well,
        Err(failed) => {
            if matches!(failed, Failed::Catalog(_)) {
                catalog_failed.store(true, Ordering::Relaxed);
            }
            Ended::Failed(Some(failed))
        }
    };
    (name, ended)
}

fn waits() -> ExponentialBackoff {
    let waits = ExponentialBuilder::new().with_jitter().with_min_delay(RETRY_MIN).with_max_delay(RETRY_MAX);
    waits.without_max_times().build()
}

impl Told {
    fn failed(&mut self, name: &Arc<str>, failed: &Failed) {
        let (is_new, what, error) = match failed {
            Failed::Catalog(error) => (!std::mem::replace(&mut self.catalog, true), "the catalog", error),
            Failed::Lake(error) => (self.tables.insert(Arc::clone(name)), "the manifests", error),
        };
        match is_new {
            true => tracing::warn!(table = %name, %error, "{what} cannot be brought up to date; tried again until it can"),
            false => tracing::debug!(table = %name, %error, "{what} cannot be brought up to date yet"),
        }
    }

    fn well(&mut self, name: &Arc<str>, is_last: bool) {
        if self.tables.remove(name) {
            tracing::warn!(table = %name, "the manifests are up to date again");
        }
        if is_last && take(&mut self.catalog) {
            tracing::warn!("the catalog is up to date again");
        }
    }
}

/// Looks every hour whether a vacuum is due. One that fails is tried again at the next look.
async fn vacuum_rounds(upkeep: Arc<Upkeep>, slots: SlotLog, settings: config::Retention, clock: Clock) {
    let mut look = interval(ROUND_LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        look.tick().await;
        if let Err(error) = vacuum_if_due(&upkeep, &slots, &settings, &clock).await {
            tracing::warn!(%error, "what is out of use was not deleted; tried again in an hour");
        }
    }
}

async fn vacuum_if_due(upkeep: &Upkeep, slots: &SlotLog, settings: &config::Retention, clock: &Clock) -> Result<()> {
    let mut rounds = Rounds::read(upkeep.lake(), clock.now()).await?;
    let Some(scope) = rounds.due(settings, clock.now()) else { return Ok(()) };
    let unpublished = unpublished(slots).await?;
    for table in upkeep.tables() {
        let retention = Retention { scope, keep: micros(settings.keep), now: clock.now(), dry_run: false };
        let done = vacuum(table, &unpublished, &retention).await?;
        if let Some(why) = &done.refused {
            tracing::warn!(table = table.name(), "not vacuumed: {why}");
        }
        tracing::info!(table = table.name(), ?done, "vacuumed");
    }
    rounds.done(upkeep.lake(), scope, clock.now()).await
}
