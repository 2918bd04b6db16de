//! The table `epochs` against the slots (invariant 3): one row for each shard an epoch read, saying what the slot says.

use std::collections::BTreeMap;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::DataType;

use super::finding::Kind as Found;
use super::history::{History, Step};
use super::removed::Losses;
use super::report::{Report, show_time};
use super::rows::{numbers, texts, told, unsigned};
use super::scans::{Scans, for_each_batch, quoted};
use crate::clock::Micros;
use crate::epoch::{Kind, ShardSlot};
use crate::error::{Context, Result};
use crate::stream::ShardKey;

/// The table of the books.
const BOOKS: &str = "epochs";

/// The columns that repeat the slot, in the order read. The rest (`first_duplicate`, `lag_ms`) says more than the slot.
const COLUMNS: [&str; 17] = [
    "epoch",
    "source",
    "shard",
    "commit_time",
    "generation",
    "kind",
    "position_from",
    "position_to",
    "finished",
    "read",
    "written",
    "duplicates",
    "rejected",
    "late",
    "shard_watermark",
    "watermark",
    "commit_date",
];

/// Where the columns that are compared begin.
const FIRST_COMPARED: usize = 3;

/// Compares the books with the slots, row by row.
pub(super) async fn check(scans: &Scans, history: &History, published: Option<u64>, report: &mut Report) {
    let compared = compare(scans, history, published, report).await;
    told(compared, BOOKS, report);
}

async fn compare(scans: &Scans, history: &History, published: Option<u64>, report: &mut Report) -> Result<()> {
    let Some(table) = scans.table(BOOKS) else { return Ok(()) };
    let mut expected: BTreeMap<(u64, ShardKey), Vec<String>> = BTreeMap::new();
    let losses = Losses::of(BOOKS, history, published);
    for (epoch, step) in history.through(published).filter(|(_, step)| step.kind == Kind::Epoch) {
        // They stand in one date.
        if losses.in_epoch(epoch) == 0 {
            expected.extend(step.reads.iter().map(|(key, shard)| ((epoch, key.clone()), row_of(step, shard))));
        }
    }
    let columns = COLUMNS.map(quoted).join(", ");
    let session = scans.session_with(BOOKS, table)?;
    for_each_batch(&session, &format!("SELECT {columns} FROM {BOOKS}"), |batch| {
        let (epochs, sources, shards) = (numbers(batch, 0)?, texts(batch, 1)?, texts(batch, 2)?);
        let found = shown(batch)?;
        for row in 0..batch.num_rows() {
            let key = ShardKey { source: sources.value(row).into(), shard: shards.value(row).into() };
            let epoch = unsigned(epochs.value(row));
            let place = format!("`{BOOKS}`, epoch {epoch}, shard {key}");
            match expected.remove(&(epoch, key)) {
                None => report.find(
                    Found::BooksDiffer,
                    place,
                    "a row too many: its slot did not read this shard, or says so once",
                ),
                Some(expected) => {
                    let differing = COLUMNS[FIRST_COMPARED..].iter().zip(&found).zip(&expected);
                    for ((column, found), expected) in
                        differing.filter(|((_, found), expected)| found[row] != **expected)
                    {
                        let what = format!("`{column}` is {}, the slot says {expected}", found[row]);
                        report.find(Found::BooksDiffer, place.clone(), what);
                    }
                }
            }
        }
        Ok(())
    })
    .await?;
    for (epoch, key) in expected.into_keys() {
        report.find(Found::BooksDiffer, format!("`{BOOKS}`, epoch {epoch}, shard {key}"), "no row");
    }
    Ok(())
}

/// What the slot says, in the order of the compared columns.
fn row_of(step: &Step, shard: &ShardSlot) -> Vec<String> {
    let counts = &shard.counts;
    vec![
        show_time(Some(step.written_at)),
        step.generation.to_string(),
        "epoch".to_owned(),
        shard.from.to_string(),
        shard.progress.position.to_string(),
        shard.progress.finished.to_string(),
        counts.read.to_string(),
        counts.written.to_string(),
        counts.duplicates.to_string(),
        counts.rejected.to_string(),
        counts.late.to_string(),
        show_time(shard.progress.watermark),
        show_time(step.watermark),
        show_date(step.written_at),
    ]
}

/// What the table says, column by column, in the same words.
fn shown(batch: &RecordBatch) -> Result<Vec<Vec<String>>> {
    let columns = (FIRST_COMPARED..COLUMNS.len()).map(|index| {
        let column = batch.column(index);
        if let DataType::Timestamp(..) = column.data_type() {
            let micros = cast(column, &DataType::Int64).context(|| "reading a time of the books")?;
            let micros = micros.as_primitive::<arrow::datatypes::Int64Type>();
            return Ok(micros.iter().map(show_time).collect());
        }
        Ok(texts(batch, index)?.iter().map(|text| text.unwrap_or("-").to_owned()).collect())
    });
    columns.collect()
}

fn show_date(micros: Micros) -> String {
    chrono::DateTime::from_timestamp_micros(micros)
        .map_or_else(|| "-".into(), |time| time.format("%Y-%m-%d").to_string())
}
