//! What a start would do, and what it would cost, without doing it.
//!
//! The one law: it is told by the same code that starts ([`changes()`]), from the newest slot and the tables' own file
//! lists; no row is read and nothing is written.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::Serialize;

use super::missed::is_by_row;
use super::{ChangeKind, Plans, changes, missed};
use crate::clock::Micros;
use crate::config::Config;
use crate::contract::{TableContract, provenance};
use crate::epoch::{Epochs, QueryProgress, SlotLog};
use crate::error::Result;
use crate::lake::{Following, Lake, SchemaChange, Table};
use crate::sql::{Driver, StandingQuery};

/// Rows of the lake folded in a second, or read to be joined with: half of what the end-to-end benchmark gives on two cores
/// (README), since a start reads Parquet beside everything else it does.
const ROWS_PER_SECOND: u64 = 200_000;

/// Every query, in the order they are planned; those that are gone last.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Diff {
    /// The epoch a start would go on from; `None` for a lake that does not exist yet.
    pub epoch: Option<u64>,
    pub queries: Vec<QueryDiff>,
    /// The tables no query fills: the stream's, the rejects, the books.
    pub tables: Vec<TableDiff>,
}

/// One table that no query fills.
#[derive(Clone, Debug, Serialize)]
pub struct TableDiff {
    pub table: Arc<str>,
    pub change: SchemaChange,
}

/// One query.
#[derive(Clone, Debug, Serialize)]
pub struct QueryDiff {
    pub query: Arc<str>,
    pub change: ChangeKind,
    /// What becomes of its table's columns; `None` for a query that is gone.
    pub table: Option<SchemaChange>,
    /// Rows of the tables it is joined with, which a start reads once.
    pub lookup_rows: u64,
    /// Rows its open windows are rebuilt from: those of files that reach into them.
    pub rebuild_rows: u64,
    pub rebuild_seconds: u64,
    /// Rows a backfill of its whole history would read; none where its table has it already, or cannot get it.
    pub history_rows: u64,
    pub history_seconds: u64,
}

/// Compares the queries with the lake.
///
/// # Errors
/// [`crate::Error::Usage`] as in [`Plans::read`]; [`crate::Error::External`] when the lake does not answer.
pub async fn diff(config: &Config) -> Result<Diff> {
    let plans = Plans::read(config).await?;
    let lake = Lake::open(&config.lake.url, &config.s3)?;
    let slots = SlotLog::new(lake.store());
    let head = slots.head().await?;
    let mut diff = Diff { epoch: head.as_ref().map(|slot| slot.epoch), ..Diff::default() };
    for contract in [&plans.stream, &plans.rejects, &plans.epochs] {
        let following = if contract.stream.is_some() { Following::AddedColumns } else { Following::Description };
        let change = Table::schema_change(&lake, contract, following).await?;
        diff.tables.push(TableDiff { table: Arc::clone(&contract.name), change });
    }
    let (known, watermark) = head.as_ref().map(|slot| (slot.queries.clone(), slot.watermark)).unwrap_or_default();
    for change in changes(&plans.queries, &known, watermark) {
        let query = plans.queries.iter().find(|query| *query.name() == change.query);
        let cost = match query {
            Some(query) => {
                let missed = match &head {
                    Some(head) => missed(&slots, query, change.kind, head).await?,
                    None => Epochs::default(),
                };
                let before = known.get(query.name()).filter(|_| change.kind.is_same_text());
                let from = change.reads_from;
                Rows { lake: &lake, query, stream: &plans.stream, before, missed, from }.count().await?
            }
            None => Cost::default(),
        };
        let table = match query {
            Some(query) => Some(Table::schema_change(&lake, query.output(), plans.following(query.name())).await?),
            None => None,
        };
        diff.queries.push(QueryDiff {
            query: change.query,
            change: change.kind,
            table,
            lookup_rows: cost.lookups,
            rebuild_rows: cost.rebuild,
            rebuild_seconds: seconds(cost.rebuild, cost.lookups),
            history_rows: cost.history,
            history_seconds: seconds(cost.history, cost.lookups),
        });
    }
    Ok(diff)
}

/// How long so many rows take, with all that they are joined with; a start without rows waits for nothing.
fn seconds(rows: u64, lookups: u64) -> u64 {
    if rows > 0 { (rows + lookups).div_ceil(ROWS_PER_SECOND) } else { 0 }
}

/// Rows that a start reads for one query.
#[derive(Clone, Copy, Debug, Default)]
struct Cost {
    lookups: u64,
    rebuild: u64,
    history: u64,
}

/// What one query's rows are counted by.
struct Rows<'a> {
    lake: &'a Lake,
    query: &'a StandingQuery,
    stream: &'a TableContract,
    /// What the newest slot says of it, if its text is the one that ran.
    before: Option<&'a QueryProgress>,
    /// Epochs it has not seen.
    missed: Epochs,
    /// The least time its open windows are rebuilt from.
    from: Option<Micros>,
}

impl Rows<'_> {
    async fn count(&self) -> Result<Cost> {
        let mut cost = Cost::default();
        let tables: BTreeSet<&Arc<str>> = self.query.lookups().iter().flat_map(|lookup| &lookup.tables).collect();
        for name in tables {
            if let Some(table) = Table::open_existing(self.lake, name).await? {
                cost.lookups += table.rows_reaching(None).await?;
            }
        }
        let event_time = self.stream.stream.as_ref().map(|declared| Arc::clone(&declared.event_time));
        for driver in self.query.drivers() {
            let (name, time) = match driver {
                Driver::Stream => (&self.stream.name, event_time.clone()),
                Driver::View(driver) => {
                    (&driver.name, Some(Arc::clone(driver.time().unwrap_or_else(|| driver.closing()))))
                }
            };
            let Some(table) = Table::open_existing(self.lake, name).await? else { continue };
            if let (Some(from), Some(time)) = (self.from, &time) {
                cost.rebuild += table.rows_reaching(Some((time, from))).await?;
            }
            cost.history += self.history(&table, time.as_ref()).await?;
        }
        Ok(cost)
    }

    /// Rows of one of those that drive the query that a backfill of all its history reads: none where its table has it, or
    /// never will.
    async fn history(&self, table: &Table, time: Option<&Arc<str>>) -> Result<u64> {
        if is_by_row(self.query) {
            let signed = |epoch: u64| i64::try_from(epoch).unwrap_or(i64::MAX);
            let stretches = self.missed.stretches().iter().map(|(first, last)| (signed(*first), signed(*last)));
            return table.rows_within(provenance::EPOCH, &stretches.collect::<Vec<_>>()).await;
        }
        if self.query.is_beyond_correction() {
            return Ok(0);
        }
        match (self.before.map(|before| before.answers_after), time) {
            (None, _) => table.rows_reaching(None).await,
            (Some(Some(after)), Some(time)) => table.rows_within(time, &[(Micros::MIN, after)]).await,
            (Some(_), _) => Ok(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_rows_and_lookups_by_the_rate_and_rounded_up() {
        assert_eq!(seconds(0, 7 * ROWS_PER_SECOND), 0);
        assert_eq!([seconds(1, 0), seconds(ROWS_PER_SECOND, 0), seconds(ROWS_PER_SECOND, 1)], [1, 1, 2]);
        assert_eq!(seconds(2 * ROWS_PER_SECOND, 3 * ROWS_PER_SECOND), 5);
    }
}
