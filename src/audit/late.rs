//! `_late`, row by row (invariant 3): a row is late exactly if a query that ran in its epoch refused it, and the books
//! count per query how many.
//!
//! The one law: the mark is recomputed from event time and slots in plain SQL, not read from anything that was decided
//! with the row.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema};
use datafusion::datasource::MemTable;

use super::finding::Kind as Found;
use super::history::{History, Step};
use super::removed::Losses;
use super::report::Report;
use super::rows::{numbers, texts, told, unsigned};
use super::scans::{Scans, for_each_batch, quoted};
use super::standing::{Life, bounds};
use crate::contract::{TableContract, provenance};
use crate::error::{Context, Result};
use crate::stream::ShardKey;

/// What the statement calls the stream's table, and the list of epochs.
const ROWS: &str = "audited";
const BOUNDS: &str = "bounds";

/// Late rows by query, of one shard in one epoch.
type Refused = BTreeMap<(u64, ShardKey), Vec<u64>>;

/// Checks every row's mark against the queries whose text is known.
pub(super) async fn check(
    scans: &Scans,
    history: &History,
    published: Option<u64>,
    stream: &TableContract,
    lives: &[Life],
    report: &mut Report,
) {
    let compared = compare(scans, history, published, stream, lives, report).await;
    told(compared, &stream.name, report);
}

async fn compare(
    scans: &Scans,
    history: &History,
    published: Option<u64>,
    stream: &TableContract,
    lives: &[Life],
    report: &mut Report,
) -> Result<()> {
    let (Some(table), Some(declared)) = (scans.table(&stream.name), &stream.stream) else { return Ok(()) };
    let windowed: Vec<&Life> = lives.iter().filter(|life| life.window.is_some() && life.parents.is_empty()).collect();
    let reads = |epoch: u64, step: &Step| !step.reads.is_empty() && history.knows_before(epoch);
    let until = |life: &Life, epoch: u64, step: &Step| {
        life.ran_in(epoch, step).then(|| life.closed_before_epoch(history, epoch)).flatten()
    };
    let mut list = bounds(history, published, &windowed, reads, until)?;
    let steps = history.through(published).filter(|(epoch, step)| reads(*epoch, step));
    let judged: Vec<bool> = steps.map(|(epoch, step)| all_known(lives, epoch, step)).collect();
    let unjudged = judged.iter().filter(|known| !**known).count();
    list = with_flag(&list, judged)?;
    let session = scans.session_with(ROWS, table)?;
    let listed = MemTable::try_new(list.schema(), vec![vec![list]]).context(|| "listing epochs")?;
    session.register_table(BOUNDS, Arc::new(listed)).context(|| "listing epochs")?;

    let mut refused = Refused::new();
    for_each_batch(&session, &statement(&windowed, &declared.event_time, &declared.identity), |batch| {
        note_batch(batch, stream, windowed.len(), &mut refused, report)
    })
    .await?;
    check_counts(history, published, &stream.name, &windowed, &refused, report);
    if unjudged > 0 {
        report.note(format!(
            "`_late` was not proved to be false in {unjudged} epochs: a query ran in them whose text has changed or is gone"
        ));
    }
    Ok(())
}

/// Whether every query that ran in an epoch is at hand with the text it had then.
fn all_known(lives: &[Life], epoch: u64, step: &Step) -> bool {
    let mut running = step.queries.iter().filter(|(_, progress)| progress.running).map(|(name, _)| name);
    running.all(|name| lives.iter().any(|life| life.name == *name && life.ran_in(epoch, step)))
}

fn with_flag(list: &RecordBatch, judged: Vec<bool>) -> Result<RecordBatch> {
    let mut fields: Vec<_> = list.schema().fields().iter().cloned().collect();
    fields.push(Arc::new(Field::new("judged", DataType::Boolean, false)));
    let mut columns = list.columns().to_vec();
    columns.push(Arc::new(BooleanArray::from(judged)) as ArrayRef);
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).context(|| "listing epochs")
}

fn statement(windowed: &[&Life], event_time: &str, identity: &str) -> String {
    let time = format!("CAST(r.{} AS BIGINT)", quoted(event_time));
    let tests: Vec<String> = windowed
        .iter()
        .enumerate()
        .filter_map(|(index, life)| Some(life.window?.refuses_sql(&time, &format!("b.until_{index}"))))
        .map(|refuses| format!("coalesce({refuses}, false)"))
        .collect();
    let any = if tests.is_empty() { "false".to_owned() } else { format!("({})", tests.join(" OR ")) };
    let marked = format!("r.{}", quoted(provenance::LATE));
    let wrong = format!("({marked} <> {any} AND (b.judged OR NOT {marked}))");
    let counts: String = tests.iter().map(|test| format!(", count(*) FILTER (WHERE {test})")).collect();
    let [epoch, source, shard] = [provenance::EPOCH, provenance::SOURCE, provenance::SHARD].map(quoted);
    format!(
        "SELECT r.{epoch}, r.{source}, r.{shard}, count(*) FILTER (WHERE {wrong}), \
         min(CAST(r.{} AS VARCHAR)) FILTER (WHERE {wrong}){counts} \
         FROM {ROWS} r JOIN {BOUNDS} b ON r.{epoch} = b.epoch GROUP BY r.{epoch}, r.{source}, r.{shard}",
        quoted(identity)
    )
}

fn note_batch(
    batch: &RecordBatch,
    stream: &TableContract,
    queries: usize,
    refused: &mut Refused,
    report: &mut Report,
) -> Result<()> {
    let (epochs, sources, shards) = (numbers(batch, 0)?, texts(batch, 1)?, texts(batch, 2)?);
    let (wrong, examples) = (numbers(batch, 3)?, texts(batch, 4)?);
    let counts = (0..queries).map(|query| numbers(batch, 5 + query)).collect::<Result<Vec<_>>>()?;
    for row in 0..batch.num_rows() {
        let key = ShardKey { source: sources.value(row).into(), shard: shards.value(row).into() };
        let epoch = unsigned(epochs.value(row));
        if wrong.value(row) > 0 {
            let what = format!(
                "{} rows are marked `{}` against the queries' closed windows, `{}` among them",
                wrong.value(row),
                provenance::LATE,
                examples.value(row)
            );
            report.find(Found::WrongLate, format!("`{}`, epoch {epoch}, shard {key}", stream.name), what);
        }
        refused.insert((epoch, key), counts.iter().map(|count| unsigned(count.value(row))).collect());
    }
    Ok(())
}

/// The books' late rows of each query are those the formula gives, but for rows that were taken out for good.
fn check_counts(
    history: &History,
    published: Option<u64>,
    stream: &str,
    windowed: &[&Life],
    refused: &Refused,
    report: &mut Report,
) {
    let losses = Losses::of(stream, history, published);
    for (epoch, step) in history.through(published).filter(|(epoch, _)| history.knows_before(*epoch)) {
        let lost = losses.in_epoch(epoch);
        for (key, shard) in &step.reads {
            let found = refused.get(&(epoch, key.clone()));
            for (index, life) in windowed.iter().enumerate().filter(|(_, life)| life.ran_in(epoch, step)) {
                let found = found.map_or(0, |counts| counts[index]);
                let books = shard.counts.late_by_query.get(&life.name).copied().unwrap_or(0);
                if found > books || books - found > lost {
                    let what = format!("`{}` refused {found} rows, the books say {books}", life.name);
                    report.find(Found::WrongLate, format!("slot {epoch}, shard {key}"), what);
                }
            }
        }
    }
}
