//! Open sessions after a restart.
//!
//! The one law: a row counts in a session exactly if it was after what the query had closed when it was read, which the
//! slot before its epoch tells. (For other windows no slot is asked: a row of a window that is open now was never refused
//! by it.) How far back the open sessions reach is in the newest slot; for a query whose text is new it is found by
//! reading further and further back, until no open session begins near where the reading began.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{AsArray, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::Int64Type;
use futures::{StreamExt, TryStreamExt};

use super::Facts;
use super::queries::{Windowed, event_times};
use super::recover::LakeState;
use super::rejoin::{Rejoin, load};
use super::restate::{Query, began_after};
use crate::clock::Micros;
use crate::epoch::{Slot, SlotLog};
use crate::error::{Context, Error, Result};
use crate::lookups::Loaded;
use crate::sql::{Driver, TimeRange, WindowShape};
use crate::window::OpenWindows;

/// Gaps to look back at first for sessions of a query without a slot: most sessions are shorter.
const GAPS_FIRST: i64 = 64;
/// How much further each time: all readings together cost a third more than the last.
const FURTHER: i64 = 4;
/// Slots read at the same time.
const SLOTS_AT_ONCE: usize = 16;

/// What the query had closed before each epoch.
type Bounds = BTreeMap<i64, Option<Micros>>;

/// Folds the lake's rows of the query's open sessions; returns how many rows were read. Does nothing for other windows.
///
/// # Errors
/// [`Error::External`] when the lake does not answer; [`Error::Broken`] for a slot that is missing.
pub(super) async fn rebuild(
    lake: &LakeState,
    base: &Slot,
    windowed: &mut Windowed,
    newest: &Arc<Loaded>,
    facts: &mut Facts,
) -> Result<usize> {
    let WindowShape::Session { gap } = windowed.query.window().shape() else { return Ok(0) };
    let session = lake.newest_session().await?;
    let mut back = Back { lake, rejoin: lake.rejoin(&session, base), newest, facts, bounds: Bounds::new() };
    let Some(until) = windowed.closed_until else {
        return back.read(windowed, Micros::MIN, None).await;
    };
    let known = base.queries.get(windowed.query.name()).filter(|q| q.fingerprint == windowed.query.fingerprint());
    let mut reach = match known {
        Some(progress) => progress.open_since.map_or(0, |since| until.saturating_sub(since).max(0)),
        None => gap.saturating_mul(GAPS_FIRST),
    };
    let mut count = 0;
    loop {
        // A session that begins within a gap of the first row read may have begun before it.
        let from = until.saturating_sub(reach).saturating_sub(gap).saturating_sub(1);
        count += back.read(windowed, from, Some(until)).await?;
        let begun = windowed.open.open_since()?;
        if from == Micros::MIN || begun.is_none_or(|since| since > from.saturating_add(gap)) {
            return Ok(count);
        }
        reach = reach.max(gap).saturating_mul(FURTHER);
    }
}

/// Reads rows back, joined again with what they were joined with.
struct Back<'a> {
    lake: &'a LakeState,
    rejoin: Rejoin<'a>,
    newest: &'a Arc<Loaded>,
    facts: &'a mut Facts,
    bounds: Bounds,
}

impl Back<'_> {
    /// State from the rows with event times from `from` on.
    async fn read(&mut self, windowed: &mut Windowed, from: Micros, until: Option<Micros>) -> Result<usize> {
        windowed.open = OpenWindows::new(windowed.open.query().clone());
        let query = Query::Windowed(windowed.query.clone());
        let mut count = 0;
        let driver = Driver::Stream;
        for part in self.rejoin.parts(&query, &driver, TimeRange { from, to: Micros::MAX }).await? {
            let loaded = load(self.lake, windowed, &part, self.newest, self.facts).await?;
            windowed.join_with(&loaded)?;
            let mut rows = self.rejoin.rows(&driver, part.wanted, true).await?;
            while let Some(batch) = rows.try_next().await.context(|| "reading open sessions back from the lake")? {
                count += batch.num_rows();
                let counted = match until {
                    Some(until) => counted(self.lake, windowed, &batch, until, &mut self.bounds).await?,
                    None => batch,
                };
                let columns: Vec<usize> = (0..counted.num_columns() - 1).collect();
                let counted = counted.project(&columns).context(|| "reading open sessions back from the lake")?;
                let partials = windowed.query.partial(&[counted]).await?;
                windowed.open.fold(partials).await?;
            }
        }
        windowed.join_with(self.newest)?;
        if let Some(until) = until {
            // Sessions that have ended are in the query's table.
            windowed.open.close(None, until).await?;
        }
        Ok(count)
    }
}

/// The rows, their epoch as the last column, that the query did not refuse when they were read.
async fn counted(
    lake: &LakeState,
    windowed: &Windowed,
    rows: &RecordBatch,
    until: Micros,
    bounds: &mut Bounds,
) -> Result<RecordBatch> {
    let times = event_times(rows, &lake.stream)?;
    let epochs = rows
        .columns()
        .last()
        .and_then(|column| column.as_primitive_opt::<Int64Type>())
        .ok_or_else(|| Error::broken("rows of the lake without epochs"))?;
    // A row after what is closed now was after all that had been closed before.
    let asked = times.values().iter().zip(epochs.values()).filter(|(time, _)| **time <= until).map(|(_, epoch)| *epoch);
    let mut unknown: Vec<i64> = asked.filter(|epoch| !bounds.contains_key(epoch)).collect();
    unknown.sort_unstable();
    unknown.dedup();
    let found = futures::stream::iter(unknown.into_iter().map(|epoch| closed_before(&lake.slots, windowed, epoch)));
    let mut found = found.buffer_unordered(SLOTS_AT_ONCE);
    while let Some((epoch, closed)) = found.try_next().await? {
        bounds.insert(epoch, closed);
    }
    let is_counted = |time: Micros, epoch: i64| {
        time > until || bounds.get(&epoch).copied().flatten().is_none_or(|closed| time > closed)
    };
    let kept: BooleanArray =
        times.values().iter().zip(epochs.values()).map(|(time, epoch)| Some(is_counted(*time, *epoch))).collect();
    filter_record_batch(rows, &kept).context(|| "leaving refused rows out")
}

/// What the query had closed before the rows of an epoch were read. In the first epoch that knows it, that is what it began
/// after; in epochs before, nothing.
async fn closed_before(slots: &SlotLog, windowed: &Windowed, epoch: i64) -> Result<(i64, Option<Micros>)> {
    let missing =
        |number: u64| Error::broken(format!("slot {number} is missing, although rows of epoch {epoch} exist"));
    let Some((number, before)) = u64::try_from(epoch).ok().and_then(|number| Some((number, number.checked_sub(1)?)))
    else {
        return Ok((epoch, None));
    };
    let name = windowed.query.name();
    let before = slots.read(before).await?.ok_or_else(|| missing(before))?;
    if let Some(progress) = before.queries.get(name) {
        return Ok((epoch, progress.closed_until));
    }
    let slot = slots.read(number).await?.ok_or_else(|| missing(number))?;
    let first = slot.queries.get(name);
    Ok((epoch, first.and_then(|first| began_after(&windowed.query, first, before.watermark))))
}
