//! Commands that write as a job does, and the job.
//!
//! The one law: a local lake's lock keeps them apart; on S3 there is none, so the newest slot is asked.

use super::Beside;
use crate::clock::Clock;
use crate::config::Config;
use crate::epoch::{SlotLog, refuse_beside_a_job};
use crate::error::Result;
use crate::lake::Lake;

/// Refuses where a job seems to be running on a lake without a lock, unless the user knows better.
///
/// # Errors
/// As [`refuse_beside_a_job`].
pub(super) async fn refuse(config: &Config, beside: Beside) -> Result<()> {
    let Some(lake) = Lake::open_existing(&config.lake.url, &config.s3)? else { return Ok(()) };
    if beside.beside_a_job || lake.has_lock() {
        return Ok(());
    }
    refuse_beside_a_job(&SlotLog::new(lake.store()), config.commit.interval, Clock::System.now()).await
}
