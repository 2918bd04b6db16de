//! Rows against the books (invariant 3): each epoch's rows of each shard are as many as were counted, stand in the range
//! that was read, and no identity comes twice.
//!
//! The one law: rows are counted by reading them, never by a file's statistics.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use arrow::array::{Array, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use datafusion::catalog::TableProvider;

use super::finding::Kind as Found;
use super::history::{History, place as slot_place};
use super::removed::Losses;
use super::report::Report;
use super::scans::{Scans, for_each_batch, quoted};
use crate::contract::{TableContract, provenance};
use crate::epoch::{Counts, ShardSlot};
use crate::error::{Context, Error, Result};
use crate::stream::{Position, SequenceNumber, ShardKey};

/// What the statements below call the table they read.
const TABLE: &str = "audited";

/// The rows of one shard in one epoch.
#[derive(Debug)]
struct Group {
    rows: u64,
    late: u64,
    first: SequenceNumber,
    last: SequenceNumber,
}

type Groups = BTreeMap<(u64, ShardKey), Group>;

/// How many rows of a table a shard's counts promise.
type Promised = fn(&Counts) -> u64;

/// Checks the rows of the stream's table.
pub(super) async fn check_stream(
    scans: &Scans,
    history: &History,
    published: Option<u64>,
    stream: &TableContract,
    report: &mut Report,
) {
    let Some(table) = scans.table(&stream.name) else { return };
    let late = Some(provenance::LATE);
    let compared =
        check_groups(scans, Arc::clone(&table), history, published, (&stream.name, late, |c| c.written), report);
    told(compared.await, &stream.name, report);
    told(check_identities(scans, table, stream, report).await, &stream.name, report);
}

/// Checks the rows of the table of rejects.
pub(super) async fn check_rejects(
    scans: &Scans,
    history: &History,
    published: Option<u64>,
    name: &str,
    report: &mut Report,
) {
    let Some(table) = scans.table(name) else { return };
    let compared = check_groups(scans, table, history, published, (name, None, |c| c.rejected), report).await;
    told(compared, name, report);
}

/// Makes a table that could not be read a finding.
pub(super) fn told(result: Result<()>, table: &str, report: &mut Report) {
    if let Err(error) = result {
        report.find(Found::UnreadableTable, format!("table `{table}`"), error.to_string());
    }
}

async fn check_groups(
    scans: &Scans,
    table: Arc<dyn TableProvider>,
    history: &History,
    published: Option<u64>,
    (name, late, promised): (&str, Option<&str>, Promised),
    report: &mut Report,
) -> Result<()> {
    let mut groups = read_groups(scans, table, late, report, name).await?;
    let losses = Losses::of(name, history, published);
    for (epoch, step) in history.through(published) {
        // Which shard's rows are gone, nobody says: in all as many as were taken out.
        let lost = losses.in_epoch(epoch);
        let mut missing = 0;
        for (key, shard) in &step.reads {
            let at = || format!("`{name}`, epoch {epoch}, shard {key}");
            let group = groups.remove(&(epoch, key.clone()));
            let (rows, late_rows) = group.as_ref().map_or((0, 0), |group| (group.rows, group.late));
            let written = promised(&shard.counts);
            missing += written.saturating_sub(rows);
            if rows > written || (rows < written && lost == 0) {
                report.find(Found::RowsDiffer, at(), format!("{rows} rows, the books say {written}"));
            }
            let fewer = shard.counts.late.checked_sub(late_rows);
            if late.is_some() && fewer.is_none_or(|fewer| fewer > written.saturating_sub(rows)) {
                let what = format!("{late_rows} rows are marked late, the books say {}", shard.counts.late);
                report.find(Found::RowsDiffer, at(), what);
            }
            if let Some(what) = group.and_then(|group| outside(&group, shard)) {
                report.find(Found::SequenceOutside, at(), what);
            }
        }
        if lost > 0 && missing != lost {
            let what = format!("{missing} rows are gone, the slots say that {lost} were taken out");
            report.find(Found::RowsDiffer, format!("`{name}`, epoch {epoch}"), what);
        }
    }
    for ((epoch, key), group) in groups {
        let place = format!("`{name}`, epoch {epoch}, shard {key}");
        let what = format!("{} rows of a shard that {} did not read", group.rows, slot_place(epoch));
        report.find(Found::RowsDiffer, place, what);
    }
    Ok(())
}

/// Why rows cannot come from the range that was read, if they cannot.
fn outside(group: &Group, shard: &ShardSlot) -> Option<String> {
    let (from, to) = (&shard.from, &shard.progress.position);
    let after = match from {
        Position::After(from) => group.first > *from,
        Position::TrimHorizon | Position::AtTimestamp(_) => true,
    };
    let until = matches!(to, Position::After(to) if group.last <= *to);
    let (first, last) = (&group.first, &group.last);
    (!after || !until).then(|| format!("rows from {first} to {last}, the epoch read after {from} up to {to}"))
}

/// Counts a table's rows by epoch and shard.
async fn read_groups(
    scans: &Scans,
    table: Arc<dyn TableProvider>,
    late: Option<&str>,
    report: &mut Report,
    name: &str,
) -> Result<Groups> {
    let [epoch, source, shard, sequence] =
        [provenance::EPOCH, provenance::SOURCE, provenance::SHARD, provenance::SEQUENCE].map(quoted);
    let late = late.map_or_else(|| "0".to_owned(), |late| format!("count(*) FILTER (WHERE {})", quoted(late)));
    // Numbers of one length sort as text as they do as numbers; lengths are put together below.
    let statement = format!(
        "SELECT {epoch}, {source}, {shard}, count(*), CAST({late} AS BIGINT), min({sequence}), max({sequence}) FROM {TABLE} \
         GROUP BY {epoch}, {source}, {shard}, character_length({sequence})"
    );
    let session = scans.session_with(TABLE, table)?;
    let mut groups = Groups::new();
    for_each_batch(&session, &statement, |batch| {
        let (epochs, rows, late) = (numbers(batch, 0)?, numbers(batch, 3)?, numbers(batch, 4)?);
        let (sources, shards) = (texts(batch, 1)?, texts(batch, 2)?);
        let (firsts, lasts) = (texts(batch, 5)?, texts(batch, 6)?);
        for row in 0..batch.num_rows() {
            let key = ShardKey { source: sources.value(row).into(), shard: shards.value(row).into() };
            let epoch = unsigned(epochs.value(row));
            let sequence = |text: &str| SequenceNumber::try_from(text.to_owned());
            let (Ok(first), Ok(last)) = (sequence(firsts.value(row)), sequence(lasts.value(row))) else {
                let what = format!("`{}` is no sequence number", firsts.value(row));
                report.find(Found::SequenceOutside, format!("`{name}`, epoch {epoch}, shard {key}"), what);
                continue;
            };
            let group = Group { rows: unsigned(rows.value(row)), late: unsigned(late.value(row)), first, last };
            match groups.entry((epoch, key)) {
                Entry::Vacant(entry) => drop(entry.insert(group)),
                Entry::Occupied(mut entry) => entry.get_mut().join(group),
            }
        }
        Ok(())
    })
    .await?;
    Ok(groups)
}

impl Group {
    fn join(&mut self, other: Self) {
        self.rows += other.rows;
        self.late += other.late;
        self.first = self.first.clone().min(other.first);
        self.last = self.last.clone().max(other.last);
    }
}

async fn check_identities(
    scans: &Scans,
    table: Arc<dyn TableProvider>,
    stream: &TableContract,
    report: &mut Report,
) -> Result<()> {
    let Some(declared) = &stream.stream else { return Ok(()) };
    let (identity, epoch) = (quoted(&declared.identity), quoted(provenance::EPOCH));
    let statement = format!(
        "SELECT CAST({identity} AS VARCHAR), count(*), min({epoch}), max({epoch}) FROM {TABLE} GROUP BY {identity} \
         HAVING count(*) > 1"
    );
    let session = scans.session_with(TABLE, table)?;
    for_each_batch(&session, &statement, |batch| {
        let (ids, rows) = (texts(batch, 0)?, numbers(batch, 1)?);
        let (first, last) = (numbers(batch, 2)?, numbers(batch, 3)?);
        for row in 0..batch.num_rows() {
            let (id, rows, first, last) = (ids.value(row), rows.value(row), first.value(row), last.value(row));
            let what = format!("{rows} rows, in epochs {first} to {last}");
            report.find(Found::DuplicateIdentity, format!("`{}`, `{id}`", stream.name), what);
        }
        Ok(())
    })
    .await
}

/// A column of whole numbers.
pub(super) fn numbers(batch: &RecordBatch, column: usize) -> Result<Int64Array> {
    let numbers = cast(batch.column(column), &DataType::Int64).context(|| "reading a count")?;
    Ok(numbers.as_primitive::<Int64Type>().clone())
}

/// A column of text.
pub(super) fn texts(batch: &RecordBatch, column: usize) -> Result<StringArray> {
    let texts = cast(batch.column(column), &DataType::Utf8).context(|| "reading a text")?;
    texts.as_any().downcast_ref::<StringArray>().cloned().ok_or_else(|| Error::broken("text that is no text"))
}

/// Counts and epochs are never negative; one that is belongs to no epoch.
pub(super) fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}
