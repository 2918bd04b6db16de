//! Rows of the stream that a query has not seen, because it came later or was away.
//!
//! The one law: which epochs brought them, the newest slot says; an older lakeward did not write that down, and then every
//! slot is asked, once. No row is read.

use futures::{StreamExt, TryStreamExt};

use super::ChangeKind;
use crate::epoch::{Epochs, Slot, SlotLog};
use crate::error::{Error, Result};
use crate::sql::{Driver, StandingQuery};

/// Slots read at once: enough to hide a store's latency, few enough not to be throttled.
const READS_MAX: usize = 16;

/// Epochs up to `base`, the newest slot, of whose rows of the stream a query's table lacks what its text says. Of a query
/// without windows those in which it did not run and that no backfill has answered; of one over windows those since it ran
/// last. None of a text that was edited: rows before are another text's.
///
/// # Errors
/// [`Error::External`] when the lake does not answer.
pub async fn missed(slots: &SlotLog, query: &StandingQuery, kind: ChangeKind, base: &Slot) -> Result<Epochs> {
    let by_row = is_by_row(query);
    match (kind, base.queries.get(query.name())) {
        _ if !query.drivers().contains(&&Driver::Stream) => Ok(Epochs::default()),
        // In a lake without rows nothing was missed.
        (ChangeKind::New, _) if by_row && base.event_time_max.is_some() => Ok(Epochs::of(0, base.epoch)),
        (ChangeKind::Kept, Some(before)) if before.missed.is_some() || !by_row => {
            Ok(before.missed.clone().unwrap_or_default())
        }
        (ChangeKind::Returned, Some(before)) => match (&before.missed, before.ran_through) {
            (missed, Some(ran)) if missed.is_some() || !by_row => {
                Ok(missed.clone().unwrap_or_default().and(&Epochs::of(ran + 1, base.epoch)))
            }
            _ => without(slots, query, by_row, base).await,
        },
        (ChangeKind::Kept, Some(_)) => without(slots, query, by_row, base).await,
        _ => Ok(Epochs::default()),
    }
}

/// Whether a query answers the stream's rows one by one.
pub(super) fn is_by_row(query: &StandingQuery) -> bool {
    matches!(query, StandingQuery::Stateless(_)) && *query.driver() == Driver::Stream
}

/// As all slots say: the epochs in which a query did not run, or only those since it ran last.
async fn without(slots: &SlotLog, query: &StandingQuery, all: bool, base: &Slot) -> Result<Epochs> {
    let dropped = base.dropped.get(query.name()).copied();
    let mut read = futures::stream::iter(0..=base.epoch)
        .map(|epoch| async move { Ok::<_, Error>((epoch, slots.read(epoch).await?)) })
        .buffered(READS_MAX);
    let mut missed = Epochs::default();
    while let Some((epoch, slot)) = read.try_next().await? {
        // What slots say of a table that was dropped is of no table any more.
        let progress = slot.as_ref().and_then(|slot| slot.queries.get(query.name())).filter(|_| Some(epoch) > dropped);
        match progress {
            // Rows of an earlier text are among those of the table, and cannot be told apart.
            Some(other) if other.fingerprint != query.fingerprint() => return Ok(Epochs::default()),
            Some(progress) if progress.running && all => {}
            Some(progress) if progress.running => missed = Epochs::default(),
            _ => missed = missed.and(&Epochs::of(epoch, epoch)),
        }
    }
    Ok(missed)
}
