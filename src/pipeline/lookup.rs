//! Old identities, looked up in the lake: rows older than what memory remembers may be in a table already.

use std::collections::HashSet;

use arrow::compute::kernels::aggregate;
use futures::TryStreamExt;

use super::engine::Parked;
use super::queries::event_times;
use super::recover::LakeState;
use crate::clock::Micros;
use crate::error::{Context, Result};
use crate::micro_batch::Published;

/// Which identities of the parked rows the published lake holds, and with what content.
///
/// One scan over the partitions the rows in doubt fall in, bounded by their event times: duplicates come in clusters (a
/// replayed file, a producer's retry), so this reads little.
///
/// # Errors
/// [`crate::Error::External`] when the lake does not answer.
pub(super) async fn look_up(lake: &LakeState, parked: &[Parked]) -> Result<Published> {
    let Some((oldest, newest)) = span(lake, parked)? else { return Ok(Published::default()) };
    let wanted: HashSet<u128> = parked.iter().flat_map(|p| p.batch.identities.iter().map(|i| i.id)).collect();
    let mut found = Vec::new();
    let mut rows = lake.stream_rows(oldest, Some(newest)).await?;
    while let Some(batch) = rows.try_next().await.context(|| "looking identities up in the lake")? {
        let identities = lake.hasher.identities(&lake.stream, &batch)?;
        found.extend(identities.into_iter().filter(|identity| wanted.contains(&identity.id)));
    }
    Ok(found.into_iter().collect())
}

/// The least and the greatest event time of the rows in doubt.
fn span(lake: &LakeState, parked: &[Parked]) -> Result<Option<(Micros, Micros)>> {
    let mut span: Option<(Micros, Micros)> = None;
    for parked in parked {
        let times = event_times(&parked.unsure, &lake.stream)?;
        if let (Some(oldest), Some(newest)) = (aggregate::min(times), aggregate::max(times)) {
            span = Some(span.map_or((oldest, newest), |(a, b)| (a.min(oldest), b.max(newest))));
        }
    }
    Ok(span)
}
