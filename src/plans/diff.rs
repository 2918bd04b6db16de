//! What a start would do, and what it would cost, without doing it.
//!
//! The one law: it is told by the same code that starts ([`changes()`]), from the newest slot and the tables' own file
//! lists; no row is read and nothing is written.

use std::sync::Arc;

use serde::Serialize;

use super::{ChangeKind, Plans, changes};
use crate::clock::Micros;
use crate::config::Config;
use crate::contract::TableContract;
use crate::epoch::SlotLog;
use crate::error::Result;
use crate::lake::{Following, Lake, SchemaChange, Table};
use crate::sql::{Driver, StandingQuery};

/// Rows of the lake folded in a second: two thirds of what the end-to-end benchmark gives on two cores, since a rebuild
/// reads Parquet and writes little.
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
    /// Rows its open windows are rebuilt from: those of files that reach into them.
    pub rebuild_rows: u64,
    pub rebuild_seconds: u64,
    /// Rows a backfill of its whole history would read; none where its table has it already.
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
    let head = SlotLog::new(lake.store()).head().await?;
    let mut diff = Diff { epoch: head.as_ref().map(|slot| slot.epoch), ..Diff::default() };
    for contract in [&plans.stream, &plans.rejects, &plans.epochs] {
        let following = if contract.stream.is_some() { Following::AddedColumns } else { Following::Description };
        let change = Table::schema_change(&lake, contract, following).await?;
        diff.tables.push(TableDiff { table: Arc::clone(&contract.name), change });
    }
    let (known, watermark) = head.map(|slot| (slot.queries, slot.watermark)).unwrap_or_default();
    for change in changes(&plans.queries, &known, watermark) {
        let query = plans.queries.iter().find(|query| *query.name() == change.query);
        let table = match query {
            Some(query) => Some(Table::schema_change(&lake, query.output(), Following::Query).await?),
            None => None,
        };
        let (all, rebuild) = match query {
            Some(query) => rows(&lake, query, &plans.stream, change.reads_from).await?,
            None => (0, 0),
        };
        let is_known = matches!(change.kind, ChangeKind::Kept | ChangeKind::Removed);
        let history = if is_known { 0 } else { all };
        diff.queries.push(QueryDiff {
            query: change.query,
            change: change.kind,
            table,
            rebuild_rows: rebuild,
            rebuild_seconds: rebuild.div_ceil(ROWS_PER_SECOND),
            history_rows: history,
            history_seconds: history.div_ceil(ROWS_PER_SECOND),
        });
    }
    Ok(diff)
}

/// Rows of what drives a query: all of them, and those a rebuild reads.
async fn rows(lake: &Lake, query: &StandingQuery, stream: &TableContract, from: Option<Micros>) -> Result<(u64, u64)> {
    let event_time = stream.stream.as_ref().map(|declared| Arc::clone(&declared.event_time));
    let (mut all, mut rebuild) = (0, 0);
    for driver in query.drivers() {
        let (name, time) = match driver {
            Driver::Stream => (&stream.name, event_time.clone()),
            Driver::View(driver) => (&driver.name, driver.time().cloned()),
        };
        let Some(table) = Table::open_existing(lake, name).await? else { continue };
        all += table.rows_reaching(None).await?;
        rebuild += match (from, time) {
            (Some(from), Some(time)) => table.rows_reaching(Some((&time, from))).await?,
            _ => 0,
        };
    }
    Ok((all, rebuild))
}
