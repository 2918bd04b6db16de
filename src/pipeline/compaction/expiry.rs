//! Dates that their table keeps no longer: whole partitions, taken out beside the stream or by hand.
//!
//! The one law: a date goes only as a whole and only when nobody computes with it any more. Its age is that of event time:
//! from the lake's watermark, so that history replayed years later does not delete itself. And it must be over: not
//! before every window has closed that a query forms of its rows. What comes for it later stays until the next look.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::closed::{Closed, day_of};
use super::{DAY, Partitions};
use crate::clock::Micros;
use crate::epoch::{Expired, Gone};
use crate::error::Result;
use crate::lake::{DataFile, Staged};
use crate::pipeline::restate::Query;
use crate::sql::Driver;

/// Files of one step, beyond which no further date joins it: the slot names each in about two hundred bytes. One date
/// goes in one step, however many files it has.
const FILES_MAX: usize = 512;

/// Dates of one table to be taken out, not decided yet.
#[derive(Clone, Debug)]
pub(in crate::pipeline) struct ExpiredFiles {
    pub table: Arc<str>,
    pub expired: Expired,
    /// For each column of times: rows before this are gone.
    pub until: BTreeMap<Arc<str>, Micros>,
    pub staged: Staged,
}

impl ExpiredFiles {
    /// Says in a slot what of it concerns all slots that follow.
    pub(in crate::pipeline) fn tell(&self, gone: &mut Gone) {
        gone.expire(&self.table, &self.until);
    }
}

impl Partitions {
    /// One step: dates of one table that are older than it keeps. `None` when no table has any.
    ///
    /// # Errors
    /// [`crate::Error::External`] when the lake does not answer.
    pub(in crate::pipeline) async fn expired_next(
        &self,
        queries: &[Query],
        only: Option<&BTreeSet<Arc<str>>>,
    ) -> Result<Option<ExpiredFiles>> {
        if self.keep_days.is_empty() {
            return Ok(None);
        }
        let slot = self.slot().await?;
        let Some(watermark) = slot.watermark else { return Ok(None) };
        let closed = Closed::at(&slot, queries, &self.stream, self.now);
        for (name, keep_days) in &self.keep_days {
            let Some(table) = self.tables.get(name).filter(|_| only.is_none_or(|only| only.contains(name))) else {
                continue;
            };
            let before = kept_from(name, *keep_days, watermark, &closed, queries, &self.stream);
            let version = table.version_of_epoch(&self.app_id, self.through).await?;
            let files = whole_dates(&table.live_files_at(version).await?, before);
            let Some(last) = files.last() else { continue };
            let (staged, mut until) = table.stage_expiry(&files)?;
            // A log tells the greatest time to the millisecond: it must not reach into the first date that stays.
            if let Some(bound) =
                self.event_time.as_ref().filter(|_| *name == self.stream).and_then(|at| until.get_mut(at))
            {
                *bound = (*bound).min((Micros::from(last.partition) + 1) * DAY);
            }
            let partitions = files.iter().map(|file| file.date()).collect::<Result<_>>()?;
            let rows = files.iter().filter_map(|file| file.rows).sum();
            let expired = Expired { partitions, through: self.through, rows };
            return Ok(Some(ExpiredFiles { table: Arc::clone(name), expired, until, staged }));
        }
        Ok(None)
    }
}

/// The first day a table keeps.
fn kept_from(
    name: &Arc<str>,
    keep_days: u32,
    watermark: Micros,
    closed: &Closed,
    queries: &[Query],
    stream: &Arc<str>,
) -> i32 {
    let reads = |driver: &&Driver| match driver {
        Driver::Stream => name == stream,
        Driver::View(parent) => parent.name == *name,
    };
    let readers = queries.iter().filter(|query| query.drivers().iter().any(reads));
    let needed = readers.map(|query| closed.before(query.name())).chain([closed.before(name)]).min();
    let kept = day_of(watermark.saturating_sub(Micros::from(keep_days).saturating_mul(DAY)));
    needed.map_or(kept, |needed| needed.min(kept))
}

/// The files of whole dates before a day, oldest first, of as many dates as a step takes. Those nobody here wrote are left
/// alone: who wrote them may be about to take them out.
fn whole_dates(files: &[Arc<DataFile>], before: i32) -> Vec<Arc<DataFile>> {
    let mut of_dates: BTreeMap<i32, Vec<Arc<DataFile>>> = BTreeMap::new();
    for file in files.iter().filter(|file| file.partition < before && file.epoch.is_some()) {
        of_dates.entry(file.partition).or_default().push(Arc::clone(file));
    }
    let mut taken: Vec<Arc<DataFile>> = Vec::new();
    for files in of_dates.into_values() {
        if !taken.is_empty() && taken.len() + files.len() > FILES_MAX {
            break;
        }
        taken.extend(files);
    }
    taken
}

#[cfg(test)]
mod tests {
    use super::super::closed::tests::{query, said, slot};
    use super::*;
    use crate::sql::testing::NOON;

    fn chosen(of: &[(i32, u64)], before: i32) -> Vec<(i32, usize)> {
        let files = of.iter().flat_map(|&(day, count)| (0..count).map(move |epoch| DataFile::made(day, epoch, 10)));
        let files: Vec<Arc<DataFile>> = files.map(Arc::new).collect();
        let mut counts: BTreeMap<i32, usize> = BTreeMap::new();
        for file in whole_dates(&files, before) {
            *counts.entry(file.partition).or_default() += 1;
        }
        counts.into_iter().collect()
    }

    #[tokio::test]
    async fn a_date_stays_as_long_as_an_open_window_is_formed_of_it() {
        let today = day_of(NOON);
        let minutes = query("minutes", "TUMBLE(transactions, event_time, INTERVAL '1 minute')").await;
        let long = query("long", "HOP(transactions, event_time, INTERVAL '1 hour', INTERVAL '72 hours')").await;
        let progress =
            [("minutes", said(Some(NOON), Some(NOON))), ("long", said(Some(NOON), Some(NOON - 71 * DAY / 24)))];
        let stream: Arc<str> = "transactions".into();
        let kept = |queries: &[Query], table: &str, days: u32| {
            let closed = Closed::at(&slot(NOON, &progress), queries, &stream, NOON + 9 * DAY);
            kept_from(&table.into(), days, NOON, &closed, queries, &stream) - today
        };
        let short = [minutes.clone()];
        // Exactly so many days before the watermark's date; whatever the clock says.
        assert_eq!((kept(&short, "transactions", 1), kept(&short, "transactions", 40)), (-1, -40));
        assert_eq!((kept(&short, "minutes", 2), kept(&short, "rejects", 2)), (-2, -2));
        let both = [minutes, long];
        assert_eq!((kept(&both, "transactions", 1), kept(&both, "transactions", 4)), (-3, -4));
        assert_eq!((kept(&both, "minutes", 1), kept(&both, "long", 1)), (-1, -3));
    }

    #[test]
    fn dates_go_whole_and_only_old_ones() {
        assert_eq!(chosen(&[(1, 2), (2, 3), (3, 1)], 3), [(1, 2), (2, 3)]);
        assert_eq!(chosen(&[(3, 1)], 3), []);
        // A step ends at a date; the first goes however many files it has.
        assert_eq!(chosen(&[(1, 500), (2, 12), (3, 1)], 9), [(1, 500), (2, 12)]);
        assert_eq!(chosen(&[(1, 9_000), (2, 1)], 9), [(1, 9_000)]);
        assert_eq!(chosen(&[(-1, 1), (0, 1)], 0), [(-1, 1)]);
    }

    #[test]
    fn files_of_others_stay() {
        let mut foreign = DataFile::made(1, 1, 10);
        foreign.epoch = None;
        let files = [Arc::new(foreign), Arc::new(DataFile::made(1, 2, 10))];
        assert_eq!(whole_dates(&files, 5), files[1..]);
    }
}
