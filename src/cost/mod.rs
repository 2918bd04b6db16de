//! What the lake and a query of it cost on AWS: bytes and requests that are counted here, times a price table.
//!
//! The one law: every number is counted or is in the price table. Estimated is what stays: S3 storage, requests of the job,
//! and what Athena or Redshift Spectrum bill for the bytes a query reads; not what Kinesis, the machine of the job, Glue
//! and traffic cost.

mod job;
mod prices;
mod query;

use futures::TryStreamExt;
use serde::Serialize;

use crate::batch::LakeView;
use crate::config::Config;
use crate::epoch::SlotLog;
use crate::error::{Context, Error, Result};
use crate::lake::{Lake, Table};
use crate::sql::Params;

pub use job::JobRequests;
pub use prices::{Prices, S3, Scan};
pub use query::QueryCost;

/// What is kept, and what it costs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Storage {
    /// All objects below the lake's folder: live files, replaced ones that are still kept, logs, slots.
    pub objects: u64,
    pub bytes: u64,
    /// Of `bytes`, files of the tables' newest versions.
    pub live_bytes: u64,
    pub usd_month: f64,
}

/// What a lake costs, in dollars of the price table.
#[derive(Clone, Debug, Serialize)]
pub struct LakeCost {
    pub region: String,
    /// Month of the prices.
    pub as_of: String,
    pub storage: Storage,
    /// What the job asks of S3; `None` for a lake without an epoch.
    pub job: Option<JobRequests>,
    /// Reading every live byte once.
    pub athena_scan_usd: f64,
    pub spectrum_scan_usd: f64,
    /// Of one query, if one was given.
    pub query: Option<QueryCost>,
}

/// Counts the lake's objects and its newest epochs; runs `query`, if there is one, and counts what it reads.
///
/// # Errors
/// [`Error::Usage`] without a lake, for a bad price table or query; [`Error::External`] when the lake does not answer.
///
/// [`Error::Usage`]: crate::error::Error::Usage
/// [`Error::External`]: crate::error::Error::External
pub async fn estimate(config: &Config, query: Option<&str>) -> Result<LakeCost> {
    let prices = Prices::load(&config.cost.prices)?;
    let Some(lake) = Lake::open_existing(&config.lake.url, &config.s3)? else {
        return Err(Error::usage(format!("there is no lake at `{}`: nothing to estimate", config.lake.url)));
    };
    let (lake, meter) = lake.metered();
    let view = LakeView::over(&lake, &config.lake.app_id).await?;
    let query = match query {
        Some(text) => Some(QueryCost::measure(&view, &meter, &prices, text, Params::default()).await?),
        None => None,
    };
    let storage = stored(&lake, &prices).await?;
    Ok(LakeCost {
        storage,
        job: JobRequests::of(&lake, config, &prices).await?,
        athena_scan_usd: prices.athena.query(storage.live_bytes),
        spectrum_scan_usd: prices.spectrum.query(storage.live_bytes),
        query,
        region: prices.region,
        as_of: prices.as_of,
    })
}

async fn stored(lake: &Lake, prices: &Prices) -> Result<Storage> {
    let (mut objects, mut bytes) = (0, 0);
    let store = lake.store();
    let mut listed = store.list(None);
    while let Some(object) = listed.try_next().await.context(|| format!("listing the lake at `{}`", lake.url()))? {
        objects += 1;
        bytes += object.size;
    }
    let mut live_bytes = 0;
    let dropping = SlotLog::new(lake.store()).dropping().await?;
    for name in lake.tables().await?.into_iter().filter(|name| !dropping.contains(name.as_str())) {
        if let Some(table) = Table::open_existing(lake, &name).await? {
            live_bytes += table.live_files().await?.iter().map(|file| file.bytes).sum::<u64>();
        }
    }
    Ok(Storage { objects, bytes, live_bytes, usd_month: prices.s3.storage(bytes) })
}
