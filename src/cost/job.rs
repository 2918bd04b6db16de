//! Requests of the streaming job in a month, from what its newest epochs wrote.
//!
//! The one law: what an epoch wrote is read from its slot; what it asked besides is a constant here, which a test holds
//! against the counters of a real run. Corrections of closed windows and starts of the job come on top.

use serde::Serialize;

use super::prices::Prices;
use crate::config::Config;
use crate::epoch::{Kind, SlotLog};
use crate::error::Result;
use crate::lake::Lake;

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

/// GET and HEAD of an epoch and a table: before the commit and after it, is there a later version, and is the known one
/// still there; and each commit is read once more by the next checkpoint.
const COMMIT_GETS: f64 = 5.0;

/// What the job asks of S3.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct JobRequests {
    /// Of which the means are taken.
    pub epochs: u64,
    pub tables_per_epoch: f64,
    pub files_per_epoch: f64,
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
        let (mut epochs, mut tables, mut files) = (0, 0, 0);
        for number in (0..=head.epoch).rev().take(usize::try_from(SLOTS_MAX).unwrap_or(usize::MAX)) {
            let Some(slot) = slots.read(number).await?.filter(|slot| slot.kind == Kind::Epoch) else { continue };
            epochs += 1;
            tables += slot.tables.len() as u64;
            files += slot.tables.values().map(|table| table.adds.len() as u64).sum::<u64>();
            if epochs == EPOCHS_MAX {
                break;
            }
        }
        let interval_seconds = config.commit.interval.as_secs_f64();
        let per_checkpoint = config.commit.checkpoint_every as f64;
        Ok((epochs > 0).then(|| Self::from_counts(epochs, tables, files, interval_seconds, per_checkpoint, prices)))
    }

    fn from_counts(
        epochs: u64,
        tables: u64,
        files: u64,
        interval_seconds: f64,
        checkpoint_every: f64,
        prices: &Prices,
    ) -> Self {
        let (tables_per_epoch, files_per_epoch) = (tables as f64 / epochs as f64, files as f64 / epochs as f64);
        let put_per_table = COMMIT_PUTS + CHECKPOINT_PUTS / checkpoint_every;
        let put_per_epoch = SLOT_PUTS + files_per_epoch + tables_per_epoch * put_per_table;
        let get_per_epoch = tables_per_epoch * COMMIT_GETS;
        let epochs_month = HOURS_PER_MONTH * 3_600.0 / interval_seconds;
        let (put_month, get_month) = (put_per_epoch * epochs_month, get_per_epoch * epochs_month);
        Self {
            epochs,
            tables_per_epoch,
            files_per_epoch,
            interval_seconds,
            put_per_epoch,
            put_month,
            get_per_epoch,
            get_month,
            usd_month: prices.s3.requests(put_month, get_month),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_month_of_requests_is_that_worked_out_by_hand() {
        let prices = Prices::load(Path::new("")).unwrap();
        // Ten epochs of five tables each, six files an epoch; a minute between two; a checkpoint every 50 versions.
        let job = JobRequests::from_counts(10, 50, 60, 60.0, 50.0, &prices);
        // 2 + 6 + 5 × 1.04 = 13.2 PUT and 25 GET an epoch, 43,800 epochs a month.
        assert!((job.put_per_epoch - 13.2).abs() < 1e-9 && (job.get_per_epoch - 25.0).abs() < 1e-9, "{job:?}");
        assert!((job.put_month - 578_160.0).abs() < 1e-6 && (job.get_month - 1_095_000.0).abs() < 1e-6, "{job:?}");
        // 578.16 × $0.005 + 1,095 × $0.0004.
        assert!((job.usd_month - (2.8908 + 0.438)).abs() < 1e-9, "{job:?}");
    }
}
