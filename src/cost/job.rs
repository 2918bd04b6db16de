//! Requests of the streaming job in a month, from what its newest epochs wrote.
//!
//! The one law: what an epoch wrote is read from its slot; what it asked besides is a constant here, which a test holds
//! against the counters of a real run. On top come lookups, read again when their tables have changed, corrections of closed
//! windows, and starts of the job.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::Serialize;

use super::prices::Prices;
use crate::config::Config;
use crate::epoch::{Kind, SlotLog};
use crate::error::Result;
use crate::lake::{Add, Lake, Table};
use crate::manifest::lag;

/// Epochs looked at: a few hours of them in production, and twenty reads.
const EPOCHS_MAX: u64 = 20;

/// Slots read to find them: fences and gaps lie between.
const SLOTS_MAX: u64 = 40;

/// Hours in a month, as AWS's calculator has it: 365 × 24 / 12.
const HOURS_PER_MONTH: f64 = 730.0;

/// PUT of an epoch, beside its tables: the slot and the hint where the newest one is.
const SLOT_PUTS: f64 = 2.0;

/// PUT of an epoch and a table, beside its files: the commit.
const COMMIT_PUTS: f64 = 1.0;

/// PUT of a checkpoint: the file and `_last_checkpoint`.
const CHECKPOINT_PUTS: f64 = 2.0;

/// PUT of an epoch and a table that Spectrum reads, beside the manifest of each partition: the state of the manifests.
const MANIFEST_STATE_PUTS: f64 = 1.0;

/// GET and HEAD of an epoch and a table: is the known version still there; is there a later one; and the new one, read for
/// its manifests.
const COMMIT_GETS: f64 = 3.0;

/// What the job asks of S3.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct JobRequests {
    /// Of which the means are taken.
    pub epochs: u64,
    pub tables_per_epoch: f64,
    pub files_per_epoch: f64,
    /// Manifests for Spectrum, one a partition.
    pub manifests_per_epoch: f64,
    /// `commit.interval`, seconds.
    pub interval_seconds: f64,
    /// PUT and LIST of an epoch and of a month.
    pub put_per_epoch: f64,
    pub put_month: f64,
    /// GET and HEAD.
    pub get_per_epoch: f64,
    pub get_month: f64,
    pub usd_month: f64,
}

impl JobRequests {
    /// Looks at the newest epochs; `None` if there is none.
    ///
    /// # Errors
    /// [`Error::External`] when the lake does not answer; [`Error::Broken`] for a slot that cannot be read.
    ///
    /// [`Error::External`]: crate::error::Error::External
    /// [`Error::Broken`]: crate::error::Error::Broken
    pub async fn of(lake: &Lake, config: &Config, prices: &Prices) -> Result<Option<Self>> {
        let slots = SlotLog::new(lake.store());
        let Some(head) = slots.head().await? else { return Ok(None) };
        let mut manifested = BTreeMap::new();
        let mut written = Written::default();
        for number in (0..=head.epoch).rev().take(usize::try_from(SLOTS_MAX).unwrap_or(usize::MAX)) {
            let Some(slot) = slots.read(number).await?.filter(|slot| slot.kind == Kind::Epoch) else { continue };
            written.epochs += 1;
            for (name, table) in &slot.tables {
                let has_manifests = match manifested.get(name) {
                    Some(has) => *has,
                    None => *manifested.entry(Arc::clone(name)).or_insert(has_manifests(lake, name).await?),
                };
                written.add(&table.adds, has_manifests);
            }
            if written.epochs == EPOCHS_MAX {
                break;
            }
        }
        let interval_seconds = config.commit.interval.as_secs_f64();
        let per_checkpoint = config.commit.checkpoint_every as f64;
        Ok((written.epochs > 0).then(|| Self::from_counts(&written, interval_seconds, per_checkpoint, prices)))
    }

    fn from_counts(written: &Written, interval_seconds: f64, checkpoint_every: f64, prices: &Prices) -> Self {
        let per_epoch = |count: u64| count as f64 / written.epochs as f64;
        let (tables_per_epoch, files_per_epoch) = (per_epoch(written.tables), per_epoch(written.files));
        let manifests_per_epoch = per_epoch(written.manifests);
        let put_per_table = COMMIT_PUTS + CHECKPOINT_PUTS / checkpoint_every;
        let put_manifests = manifests_per_epoch + MANIFEST_STATE_PUTS * per_epoch(written.manifested);
        let put_per_epoch = SLOT_PUTS + files_per_epoch + tables_per_epoch * put_per_table + put_manifests;
        let get_per_epoch = tables_per_epoch * COMMIT_GETS;
        let epochs_month = HOURS_PER_MONTH * 3_600.0 / interval_seconds;
        let (put_month, get_month) = (put_per_epoch * epochs_month, get_per_epoch * epochs_month);
        Self {
            epochs: written.epochs,
            tables_per_epoch,
            files_per_epoch,
            manifests_per_epoch,
            interval_seconds,
            put_per_epoch,
            put_month,
            get_per_epoch,
            get_month,
            usd_month: prices.s3.requests(put_month, get_month),
        }
    }
}

/// What epochs wrote, summed.
#[derive(Clone, Copy, Debug, Default)]
struct Written {
    epochs: u64,
    /// Commits of tables.
    tables: u64,
    files: u64,
    /// Of `tables`, those that Spectrum reads.
    manifested: u64,
    /// Partitions of those.
    manifests: u64,
}

impl Written {
    fn add(&mut self, adds: &[Add], has_manifests: bool) {
        self.tables += 1;
        self.files += adds.len() as u64;
        if has_manifests {
            let folder = |add: &Add| add.path.rsplit_once('/').map(|(folder, _)| folder.to_owned());
            self.manifested += 1;
            self.manifests += adds.iter().map(folder).collect::<BTreeSet<_>>().len() as u64;
        }
    }
}

async fn has_manifests(lake: &Lake, table: &str) -> Result<bool> {
    let Some(table) = Table::open_existing(lake, table).await? else { return Ok(false) };
    Ok(lag(&table).await?.manifests_at.is_some())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_month_of_requests_is_that_worked_out_by_hand() {
        let prices = Prices::load(Path::new("")).unwrap();
        // Ten epochs of five tables each, four of them for Spectrum, with six files in six partitions, five of those for
        // Spectrum; a minute between two epochs; a checkpoint every 50 versions.
        let written = Written { epochs: 10, tables: 50, files: 60, manifested: 40, manifests: 50 };
        let job = JobRequests::from_counts(&written, 60.0, 50.0, &prices);
        // 2 + 6 + 5 × 1.04 + 5 + 4 = 22.2 PUT and 15 GET an epoch, 43,800 epochs a month.
        assert!((job.put_per_epoch - 22.2).abs() < 1e-9 && (job.get_per_epoch - 15.0).abs() < 1e-9, "{job:?}");
        assert!((job.put_month - 972_360.0).abs() < 1e-6 && (job.get_month - 657_000.0).abs() < 1e-6, "{job:?}");
        // 972.36 × $0.005 + 657 × $0.0004.
        assert!((job.usd_month - (4.8618 + 0.2628)).abs() < 1e-9, "{job:?}");
    }
}
