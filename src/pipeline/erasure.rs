//! Erasing rows of a lake at rest, by hand: `lakeward lake erase`.
//!
//! The one law: one slot decides all of it. Every table of the lake is looked through: the stream's by its tokenised
//! columns, all others by every column of text or bytes, since a SELECT may rename a token, join it or list it. Rows that
//! hold one of the tokens go; aggregates that do not stay as they were. The slot says how many rows went, of which epochs and
//! in which minutes, and no token.
//!
//! Whoever erases is a writer like a run (see `restate::at_rest`); but a lake that holds no such row is left without a trace.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::recover::take;
use super::restate::{AtRest, Query, decide_at_rest, few, follow_up};
use crate::clock::Micros;
use crate::contract::{Origin, TableContract};
use crate::epoch::{Erased, Kind, Slot, SlotLog, TableAdds, TokenKeyName, check_token_key};
use crate::error::{Error, Result};
use crate::lake::{ErasedFiles, Lake, Marked, TIMES_GRAIN, Table};
use crate::plans::Plans;
use crate::sql::TimeRange;
use crate::window::joined;

/// Ranges of times a slot names for one column, in some forty bytes each; beyond that neighbours are joined, and windows
/// between them stay as they are, too.
const RANGES_MAX: usize = 4_096;

/// What was erased from one table.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct ErasedTable {
    pub table: Arc<str>,
    pub rows: u64,
    /// Dates of which rows were erased.
    pub partitions: u64,
    pub files_out: u64,
    pub files_in: u64,
}

/// Erases every row that holds one of these tokens from every table of the lake. Returns the tables that held some; when none
/// did, nothing is written.
///
/// # Errors
/// [`Error::Usage`] for what is no token, or where there is no lake; [`Error::Fenced`] while a job runs on the lake; else as
/// [`crate::pipeline::start`].
pub async fn erase(at: &AtRest, tokens: &[String]) -> Result<Vec<ErasedTable>> {
    if !is_anywhere(at, tokens).await? {
        return Ok(Vec::new());
    }
    let mut taken = take(&at.config, &at.token_key, &at.host, &at.clock).await.map_err(beside_a_job)?;
    let through = taken.base.epoch;
    let mut slot = taken.base.next(&taken.writer, Kind::Epoch, at.clock.now())?;
    slot.published_through = Some(through);
    let mut touched = Vec::new();
    for (name, table) in &taken.lake.tables {
        let columns = columns(table, &taken.lake.stream);
        let version = table.version_of_epoch(&at.config.lake.app_id, through).await?;
        let found = table.stage_erasure(Marked { columns: &columns, texts: tokens }, version, through).await?;
        if found.rows.is_empty() {
            continue;
        }
        touched.push(ErasedTable {
            table: Arc::clone(name),
            rows: found.rows.values().sum(),
            partitions: found.rows.len() as u64,
            files_out: found.staged.removes.len() as u64,
            files_in: found.staged.adds.len() as u64,
        });
        slot.erased.insert(Arc::clone(name), told(&found, through));
        slot.tables.insert(Arc::clone(name), TableAdds::of(found.staged));
    }
    let queries: Vec<Query> = std::mem::take(&mut taken.queries).into_iter().map(Query::of).collect();
    if touched.is_empty() {
        // Decided by somebody who died before the readers were brought up to it.
        follow_up(at, &taken, &queries, taken.lake.tables.keys()).await;
        return Ok(touched);
    }
    if let Some(orphan) = touched.iter().find(|table| !taken.lake.contracts.contains_key(&table.table)) {
        taken.lake.rest(taken.writer.id).await;
        let name = &orphan.table;
        return Err(Error::usage(format!(
            "table `{name}` holds such rows, but there is no query and no contract of it any more, so manifests, catalog and \
             exports of it would not follow: put its file back, or drop it with `lakeward lake drop {name}`; nothing was erased"
        )));
    }
    slot.gone.erased_in.push(slot.epoch);
    decide_at_rest(at, &mut taken, slot).await?;
    follow_up(at, &taken, &queries, touched.iter().map(|table| &table.table)).await;
    Ok(touched)
}

/// What the slot says of a table.
fn told(found: &ErasedFiles, through: u64) -> Erased {
    let of_column = |(column, minutes): (&Arc<str>, &BTreeSet<Micros>)| {
        let minutes = minutes.iter().map(|&from| TimeRange { from, to: from.saturating_add(TIMES_GRAIN) });
        let ranges = few(joined(minutes.collect()), RANGES_MAX);
        (Arc::clone(column), ranges.into_iter().map(|range| (range.from, range.to)).collect())
    };
    Erased {
        through,
        rows: found.rows.clone(),
        epochs: found.epochs.clone(),
        times: found.minutes.iter().map(of_column).collect(),
        kept_rows: found.staged.rows,
        kept_bytes: found.staged.bytes,
    }
}

/// Whether some file that is live, or that a slot names which may not be published yet, holds one of the tokens.
async fn is_anywhere(at: &AtRest, tokens: &[String]) -> Result<bool> {
    let url = &at.config.lake.url;
    let none = || Error::usage(format!("no lake in {url}: name another with `--set lake.url=…`"));
    let lake = Lake::open_existing(url, &at.config.s3)?.ok_or_else(none)?;
    let _lock = lake.lock().map_err(beside_a_job)?;
    let slots = SlotLog::new(lake.store());
    let head = slots.head().await?.ok_or_else(none)?;
    // A number becomes a token under the key at hand: under another one it would be found nowhere.
    let key = TokenKeyName { version: at.token_key.version(), fingerprint: at.token_key.fingerprint() };
    check_token_key(&head, &key)?;
    if let Some(name) = head.dropping.first() {
        return Err(Error::usage(format!(
            "table `{name}` is half dropped, and what is left of it may hold such rows: end that with `lakeward lake drop \
             {name}` first"
        )));
    }
    let stream = Plans::read(&at.config).await?.stream;
    let pending = pending(&slots, &head).await?;
    for name in &head.tables_known {
        let Some(table) = Table::open_existing(&lake, name).await? else { continue };
        let columns = columns(&table, &stream);
        let live = table.live_files().await?;
        let mut files = Files::new();
        for file in &live {
            files.insert(file.path.clone(), (file.date()?, file.bytes));
        }
        files.extend(pending.get(name).cloned().unwrap_or_default());
        let files = files.iter().map(|(path, (date, bytes))| (path.as_str(), Some(date.as_str()), *bytes));
        if table.holds_marked(files, Marked { columns: &columns, texts: tokens }).await? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Files by path, each with the value of its partition and its bytes.
type Files = BTreeMap<String, (String, u64)>;

/// The files of epochs that may not be in all tables yet, by table; without those that others of these epochs replace, which
/// are live as long as that is not published.
async fn pending(slots: &SlotLog, head: &Slot) -> Result<BTreeMap<Arc<str>, Files>> {
    let mut pending: BTreeMap<Arc<str>, Files> = BTreeMap::new();
    for epoch in head.published_through.map_or(0, |epoch| epoch + 1)..=head.epoch {
        let slot = slots.read(epoch).await?.ok_or_else(|| Error::broken(format!("slot {epoch} is missing")))?;
        for (table, named) in slot.tables {
            let files = pending.entry(table).or_default();
            for remove in named.removes {
                files.remove(&remove.path);
            }
            for add in named.adds {
                let date = add.partition_values.values().flatten().next().cloned().unwrap_or_default();
                files.insert(add.path, (date, u64::try_from(add.size).unwrap_or_default()));
            }
        }
    }
    Ok(pending)
}

/// Where a table may hold a token.
fn columns(table: &Table, stream: &TableContract) -> Vec<String> {
    if table.name() != stream.name.as_ref() {
        return table.text_columns();
    }
    let tokens = stream.columns.iter().filter(|column| matches!(&column.origin, Origin::Field(field) if field.token));
    tokens.map(|column| column.name.to_string()).collect()
}

fn beside_a_job(error: Error) -> Error {
    match error {
        Error::Fenced(who) => Error::Fenced(format!("{who}; rows are erased from a lake at rest: stop the job first")),
        other => other,
    }
}
