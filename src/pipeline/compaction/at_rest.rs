//! Compacting a lake at rest, and taking out what its tables keep no longer, by hand: `lakeward lake compact`, `expire`.
//!
//! The one law: whoever writes is a writer like a run: it takes the lock, fences the lake with a generation of its own,
//! publishes what was decided, and decides each step by a slot that reads nothing.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::choice::Haste;
use super::{CompactedFiles, Done, ExpiredFiles, Partitions};
use crate::epoch::{Kind, TableAdds};
use crate::error::{Error, Result};
use crate::pipeline::recover::{Taken, take};
use crate::pipeline::restate::{AtRest, Query, decide_at_rest, follow_up};

/// What was done to one table.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct CompactedTable {
    pub table: Arc<str>,
    pub partitions: BTreeSet<String>,
    /// Steps it took; files written by one may be written together with others by a later one.
    pub steps: u64,
    pub rows: u64,
    pub files_out: u64,
    pub bytes_out: u64,
    pub files_in: u64,
    pub bytes_in: u64,
}

/// Writes the small files of every date that is over together, of the tables named, or of all. Returns the tables that
/// were touched.
///
/// # Errors
/// [`Error::Usage`] for a table the lake does not have; [`Error::Fenced`] while a job runs on the lake; else as
/// [`crate::pipeline::start`].
pub async fn compact(at: &AtRest, tables: &[String]) -> Result<Vec<CompactedTable>> {
    let taken = take(&at.config, &at.token_key, &at.host, &at.clock).await.map_err(|error| match error {
        Error::Fenced(who) => Error::Fenced(format!(
            "{who}; a running job compacts dates that are over by itself, every `maintenance.interval`"
        )),
        other => other,
    });
    let mut taken = taken?;
    let only = named(&taken, tables)?;
    let queries: Vec<Query> = std::mem::take(&mut taken.queries).into_iter().map(Query::of).collect();
    let mut touched: Vec<CompactedTable> = Vec::new();
    loop {
        let partitions = Partitions::new(&taken.lake, &at.config, taken.base.epoch, at.clock.now());
        // Whoever asks wants all of it: no partition is left for later.
        let step = partitions.stage_next(&queries, only.as_ref(), Haste::AtOnce, &mut Done::new()).await?;
        let Some(step) = step else {
            follow_up(at, &taken, &queries).await;
            return Ok(touched);
        };
        note(&step, &mut touched);
        decide(at, &mut taken, step).await?;
    }
}

/// What was taken out of one table.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct ExpiredTable {
    pub table: Arc<str>,
    pub partitions: BTreeSet<String>,
    pub rows: u64,
    pub files: u64,
}

/// Takes out the dates that are older than their tables keep them, of the tables named, or of all. Returns the tables that
/// were touched.
///
/// # Errors
/// [`Error::Usage`] for a table the lake does not have, or that keeps everything; else as [`compact`].
pub async fn expire(at: &AtRest, tables: &[String]) -> Result<Vec<ExpiredTable>> {
    let taken = take(&at.config, &at.token_key, &at.host, &at.clock).await.map_err(|error| match error {
        Error::Fenced(who) => Error::Fenced(format!(
            "{who}; a running job takes out what its tables keep no longer by itself, every `maintenance.interval`"
        )),
        other => other,
    });
    let mut taken = taken?;
    let only = named(&taken, tables)?;
    for name in only.iter().flatten() {
        if taken.lake.contracts.get(name).is_none_or(|contract| contract.keep_days.is_none()) {
            return Err(Error::usage(format!(
                "`{name}` keeps all its dates: say how long in its contract, like `keep = '400d'` among the options of WITH"
            )));
        }
    }
    let queries: Vec<Query> = std::mem::take(&mut taken.queries).into_iter().map(Query::of).collect();
    let mut touched: Vec<ExpiredTable> = Vec::new();
    loop {
        let partitions = Partitions::new(&taken.lake, &at.config, taken.base.epoch, at.clock.now());
        let Some(step) = partitions.expired_next(&queries, only.as_ref()).await? else {
            follow_up(at, &taken, &queries).await;
            return Ok(touched);
        };
        if touched.last().is_none_or(|last| last.table != step.table) {
            touched.push(ExpiredTable { table: Arc::clone(&step.table), ..ExpiredTable::default() });
        }
        if let Some(last) = touched.last_mut() {
            last.partitions.extend(step.expired.partitions.iter().cloned());
            last.rows += step.expired.rows;
            last.files += step.staged.removes.len() as u64;
        }
        let mut slot = taken.base.next(&taken.writer, Kind::Epoch, at.clock.now())?;
        slot.published_through = Some(taken.base.epoch);
        step.tell(&mut slot.gone);
        let ExpiredFiles { table, expired, staged, .. } = step;
        slot.expired.insert(Arc::clone(&table), expired);
        slot.tables.insert(table, TableAdds::of(staged));
        decide_at_rest(at, &mut taken, slot).await?;
    }
}

fn named(taken: &Taken, tables: &[String]) -> Result<Option<BTreeSet<Arc<str>>>> {
    let known = &taken.lake.tables;
    if let Some(unknown) = tables.iter().find(|name| !known.contains_key(name.as_str())) {
        let names = known.keys().map(AsRef::as_ref).collect::<Vec<&str>>().join("`, `");
        return Err(Error::usage(format!("no table `{unknown}` that this lake's epochs write; there are `{names}`")));
    }
    let named = tables.iter().map(|name| Arc::from(name.as_str())).collect();
    Ok((!tables.is_empty()).then_some(named))
}

async fn decide(at: &AtRest, taken: &mut Taken, step: CompactedFiles) -> Result<()> {
    let mut slot = taken.base.next(&taken.writer, Kind::Epoch, at.clock.now())?;
    slot.published_through = Some(taken.base.epoch);
    let CompactedFiles { table, compacted, staged } = step;
    slot.compacted.insert(Arc::clone(&table), compacted);
    slot.tables.insert(table, TableAdds::of(staged));
    decide_at_rest(at, taken, slot).await
}

fn note(step: &CompactedFiles, touched: &mut Vec<CompactedTable>) {
    let CompactedFiles { table, compacted, staged } = step;
    if touched.last().is_none_or(|last| last.table != *table) {
        touched.push(CompactedTable { table: Arc::clone(table), ..CompactedTable::default() });
    }
    let Some(last) = touched.last_mut() else { return };
    let size = |remove: &crate::lake::Remove| remove.size.and_then(|size| u64::try_from(size).ok()).unwrap_or(0);
    last.partitions.extend(compacted.partitions.iter().cloned());
    last.steps += 1;
    last.rows += staged.rows;
    last.files_out += staged.removes.len() as u64;
    last.bytes_out += staged.removes.iter().map(size).sum::<u64>();
    last.files_in += staged.adds.len() as u64;
    last.bytes_in += staged.bytes;
}
