//! Late rows of sessions that do not count yet: found by the slots, not by the mark of the row alone.
//!
//! The one law: a row is late for a query exactly if its time is not after what the query had closed before the row's
//! epoch. `_late` says that some query refused it; of an epoch in which this one did not run it says nothing.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use datafusion::prelude::{SessionContext, col, lit};
use datafusion::scalar::ScalarValue;
use futures::{StreamExt, TryStreamExt};

use super::rounds::signed;
use super::{Ground, Subject, began_after};
use crate::clock::Micros;
use crate::contract::provenance;
use crate::epoch::Slot;
use crate::error::{Context, Error, Result};
use crate::pipeline::rejoin::READS_MAX;
use crate::sql::WindowedQuery;

/// Late rows that do not count yet, by epoch and time: all rows of one epoch at one time are late, or none is.
#[derive(Debug, Default)]
pub(super) struct Late(pub BTreeSet<(i64, Micros)>);

impl Ground {
    /// The rows that were late for a query of the stream and do not count yet.
    pub(super) async fn late_of(
        &self,
        session: &SessionContext,
        subject: &Subject,
        query: &WindowedQuery,
        until: Micros,
    ) -> Result<Late> {
        let what = || format!("looking for late rows of `{}`", query.name());
        let waiting = subject.reach.waiting.iter().map(|owed| (signed(owed.epoch), owed.from));
        let mut late: BTreeSet<(i64, Micros)> = waiting.collect();
        let looked = subject.reach.reconciled_through;
        let bounds = self.closed_before(query, looked).await?;
        let absent: Vec<_> = bounds.iter().filter(|(_, (_, ran))| !ran).map(|(epoch, _)| lit(*epoch)).collect();
        let event_time = self.event_time();
        let closed = lit(ScalarValue::TimestampMicrosecond(Some(until), Some("UTC".into())));
        // A row of an epoch without the query is late for it without a mark.
        let mut marked = col(provenance::LATE);
        if !absent.is_empty() {
            marked = marked.or(col(provenance::EPOCH).in_list(absent, false));
        }
        let new = col(provenance::EPOCH).gt(lit(looked.map_or(-1, signed))).and(col(event_time).lt_eq(closed));
        let rows = session.table(self.stream.name.as_ref()).await.context(what)?;
        let rows = rows.filter(new.and(marked)).context(what)?;
        let rows = rows.select(vec![col(event_time), col(provenance::EPOCH)]).context(what)?;
        let mut rows = rows.execute_stream().await.context(what)?;
        while let Some(batch) = rows.try_next().await.context(what)? {
            let (times, epochs) = times_and_epochs(&batch, 0)?;
            for (time, epoch) in times.into_iter().zip(epochs) {
                let closed = bounds.get(&epoch).and_then(|(closed, _)| *closed);
                if closed.is_some_and(|closed| time <= closed) {
                    late.insert((epoch, time));
                }
            }
        }
        Ok(Late(late))
    }

    /// For each epoch after `looked`: what the query had closed before it, and whether it ran in it. In the first epoch
    /// that knows the query that is what it began after; in epochs before, nothing.
    async fn closed_before(
        &self,
        query: &WindowedQuery,
        looked: Option<u64>,
    ) -> Result<BTreeMap<i64, (Option<Micros>, bool)>> {
        let name = query.name();
        let mut slots = futures::stream::iter(looked.unwrap_or(0)..=self.through)
            .map(|epoch| async move { Ok::<_, Error>((epoch, self.slots.read(epoch).await?)) })
            .buffered(READS_MAX);
        let mut bounds = BTreeMap::new();
        let mut before: Option<Slot> = None;
        while let Some((epoch, slot)) = slots.try_next().await? {
            let slot = slot.ok_or_else(|| Error::broken(format!("slot {epoch} is missing")))?;
            let progress = slot.queries.get(name);
            if Some(epoch) > looked {
                let closed = match before.as_ref().map(|before| (before, before.queries.get(name))) {
                    None => None,
                    Some((_, Some(known))) => known.closed_until,
                    Some((before, None)) => progress.and_then(|first| began_after(query, first, before.watermark)),
                };
                bounds.insert(signed(epoch), (closed, progress.is_some_and(|progress| progress.running)));
            }
            before = Some(slot);
        }
        Ok(bounds)
    }
}

/// A column of times, and the epochs in the last one.
pub(super) fn times_and_epochs(batch: &RecordBatch, time: usize) -> Result<(Vec<Micros>, Vec<i64>)> {
    let times = batch.columns().get(time).and_then(|column| column.as_primitive_opt::<TimestampMicrosecondType>());
    let epochs = batch.columns().last().and_then(|column| column.as_primitive_opt::<Int64Type>());
    let (Some(times), Some(epochs)) = (times, epochs) else {
        return Err(Error::broken("rows of the lake without times and epochs"));
    };
    Ok((times.values().to_vec(), epochs.values().to_vec()))
}
