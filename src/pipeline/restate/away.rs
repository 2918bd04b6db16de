//! What a view on a view has missed while its file was gone: windows its parents closed, or restated, without it.
//!
//! The one law: it is owed, as by any view whose parent answers otherwise now; the next look restates it. Open windows are
//! rebuilt from the parents' tables, so of a view with windows only those that it had closed are owed.

use futures::{StreamExt, TryStreamExt};

use super::subject::Query;
use crate::clock::Micros;
use crate::epoch::{Owed, QueryProgress, Slot, SlotLog};
use crate::error::Result;
use crate::pipeline::rejoin::READS_MAX;
use crate::sql::{TimeRange, ViewDriver, WindowShape};
use crate::window::{joined, starts_through};

/// What a query that is back owes; `before` is what `base`, the newest slot, says of it.
///
/// # Errors
/// [`crate::Error::External`] when the lake does not answer.
pub(in crate::pipeline) async fn owed_since(
    slots: &SlotLog,
    base: &Slot,
    query: &Query,
    before: &QueryProgress,
) -> Result<Vec<Owed>> {
    if query.parents().next().is_none() {
        return Ok(Vec::new());
    }
    // An older lakeward did not write down when it was gone: what is owed once too often only costs time.
    let epochs = futures::stream::iter(before.ran_through.unwrap_or(0)..=base.epoch);
    let mut away = epochs.map(|epoch| slots.read(epoch)).buffered(READS_MAX);
    let mut last_run: Option<Slot> = None;
    let mut follows: Vec<TimeRange> = Vec::new();
    while let Some(slot) = away.try_next().await? {
        let Some(slot) = slot else { continue };
        if last_run.is_none() {
            last_run = Some(slot);
            continue;
        }
        for parent in query.parents() {
            let restated = slot.restated.get(&parent.name).into_iter().flat_map(|restated| &restated.ranges);
            let starts = restated.map(|&(from, to)| TimeRange { from, to });
            let until = closed(&slot, parent).filter(|_| has_sessions(parent));
            follows.extend(starts.filter_map(|starts| query.follows(parent, starts, until, before.answers_after)));
        }
    }
    for parent in query.parents() {
        let since = last_run.as_ref().and_then(|slot| closed(slot, parent));
        let Some(starts) = closed_between(parent, since, closed(base, parent)) else { continue };
        let until = closed(base, parent).filter(|_| has_sessions(parent));
        let owed = query.follows(parent, starts, until, before.answers_after);
        let to = match query {
            Query::Stateless(_) => Some(Micros::MAX),
            Query::Windowed(_) if query.is_session() => before.closed_until.map(|until| until.saturating_add(1)),
            Query::Windowed(query) => before.closed_until.map(|until| starts_through(query.window(), until)),
        };
        let owed = owed.zip(to).map(|(owed, to)| TimeRange { to: owed.to.min(to), ..owed });
        follows.extend(owed.filter(|owed| owed.from < owed.to));
    }
    Ok(joined(follows).into_iter().map(|range| Owed::new(base.epoch, range.from, range.to)).collect())
}

fn closed(slot: &Slot, parent: &ViewDriver) -> Option<Micros> {
    slot.queries.get(&parent.name).and_then(|progress| progress.closed_until)
}

fn has_sessions(parent: &ViewDriver) -> bool {
    matches!(parent.window().shape(), WindowShape::Session { .. })
}

/// The starts of the windows a parent closed from one slot to another; sessions of that time may start anywhere before.
fn closed_between(parent: &ViewDriver, since: Option<Micros>, until: Option<Micros>) -> Option<TimeRange> {
    let until = until.filter(|until| Some(*until) > since)?;
    let (window, is_session) = (parent.window(), has_sessions(parent));
    let from = since.filter(|_| !is_session).map_or(Micros::MIN, |since| window.counted_from(Some(since)));
    let to = if is_session { until.saturating_add(1) } else { starts_through(window, until) };
    (from < to).then_some(TimeRange { from, to })
}
