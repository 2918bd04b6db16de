//! Erasing rows of a lake at rest, by hand: `lakeward lake erase`.
//!
//! The one law: one slot decides all of it. Every table of the lake is looked through: the stream's by its tokenised
//! columns, all others by every column of text or bytes, since a SELECT may rename a token, join it or list it. Rows that
//! hold one of the tokens go; aggregates that do not stay as they were. The slot says how many rows went, of which epochs and
//! in which minutes, and no token.
//!
//! Whoever erases is a writer like a run (see `restate::at_rest`); but in a lake that holds no such row nothing is decided.
//! Either way manifests, catalog and export are brought to what the tables are: as long as they are not, readers see the rows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::commit::Tables;
use super::export::Source;
use super::recover::take;
use super::restate::{AtRest, Query, bring_up, decide_at_rest, end, few};
use crate::clock::Micros;
use crate::contract::{Origin, TableContract};
use crate::epoch::{Erased, Kind, Slot, SlotLog, TableAdds, TokenKeyName, check_token_key};
use crate::error::{Error, Result};
use crate::lake::{ErasedFiles, Lake, LakeLock, Marked, TIMES_GRAIN, Table};
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

/// What [`erase`] did.
#[derive(Debug)]
pub struct Erasure {
    /// Those that held such rows.
    pub tables: Vec<ErasedTable>,
    /// Why readers of manifests, catalog or export may still be given the rows. Erase again.
    pub behind: Option<Error>,
}

/// Erases every row that holds one of these tokens from every table of the lake, and from what readers are given beside them.
/// When no table holds one, no slot is written.
///
/// # Errors
/// [`Error::Usage`] for what is no token, or where there is no lake; [`Error::Fenced`] while a job runs on the lake; else as
/// [`crate::pipeline::start`].
pub async fn erase(at: &AtRest, tokens: &[String]) -> Result<Erasure> {
    let untaken = Untaken::open(at).await?;
    if !untaken.holds(tokens).await? {
        // Whoever erased them may have failed, or died, before readers were brought up to it.
        return Ok(erasure(Vec::new(), untaken.bring_up(at).await));
    }
    drop(untaken);
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
        // Decided by somebody who died before all tables were published.
        return Ok(erasure(touched, end(at, &taken, &queries).await));
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
    Ok(erasure(touched, end(at, &taken, &queries).await))
}

fn erasure(tables: Vec<ErasedTable>, brought_up: Result<()>) -> Erasure {
    let behind = brought_up.err().map(|error| {
        Error::external(
            "readers may still be given such rows; repeat this command, or `lakeward lake manifest` and `lakeward lake export`, \
             until it succeeds",
            error,
        )
    });
    Erasure { tables, behind }
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

/// A lake at rest that is looked at, and not taken over.
struct Untaken {
    lake: Lake,
    slots: SlotLog,
    head: Slot,
    plans: Plans,
    tables: Tables,
    _lock: Option<LakeLock>,
}

impl Untaken {
    async fn open(at: &AtRest) -> Result<Self> {
        let url = &at.config.lake.url;
        let none = || Error::usage(format!("no lake in {url}: name another with `--set lake.url=…`"));
        let lake = Lake::open_existing(url, &at.config.s3)?.ok_or_else(none)?;
        let lock = lake.lock().map_err(beside_a_job)?;
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
        let plans = Plans::read(&at.config).await?;
        let mut tables = Tables::new();
        for name in &head.tables_known {
            if let Some(table) = Table::open_existing(&lake, name).await? {
                tables.insert(Arc::clone(name), Arc::new(table));
            }
        }
        Ok(Self { lake, slots, head, plans, tables, _lock: lock })
    }

    /// Whether some file that is live, or that a slot names which may not be published yet, holds one of the tokens.
    async fn holds(&self, tokens: &[String]) -> Result<bool> {
        let pending = pending(&self.slots, &self.head).await?;
        for (name, table) in &self.tables {
            let columns = columns(table, &self.plans.stream);
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

    /// Brings all that readers are given to what the tables are.
    async fn bring_up(self, at: &AtRest) -> Result<()> {
        let Self { lake, slots, plans, tables, _lock, .. } = self;
        let (contracts, stream) = (plans.tables(), &plans.stream.name);
        let queries = plans.queries.into_iter().map(Query::of).collect();
        let source = Source { lake: &lake, tables: &tables, contracts: &contracts, slots: &slots, queries, stream };
        bring_up(at, source).await
    }
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
