//! Restating a lake at rest, by hand: `lakeward lake reconcile` and `lakeward batch … --write`.
//!
//! The one law: whoever writes is a writer like a run: it takes the lock, fences the lake with a generation of its own,
//! publishes what was decided, and decides each restatement by a slot that reads nothing.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

use super::descent::descents;
use super::rounds::Round;
use super::{Ground, Mark, Restatement, Subject};
use crate::clock::{Clock, show_time};
use crate::config::Config;
use crate::epoch::{Decided, Kind, QueryProgress, Slot, TableAdds};
use crate::error::{Error, Result};
use crate::pipeline::commit::publish_slot;
use crate::pipeline::recover::{Taken, take};
use crate::plans::plan_file;
use crate::sql::{StandingQuery, TimeRange, WindowedQuery};
use crate::token::TokenKey;

/// Who restates, and where.
#[derive(Clone, Debug)]
pub struct AtRest {
    pub config: Config,
    pub clock: Clock,
    pub token_key: TokenKey,
    pub host: Arc<str>,
}

/// What was done to one table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RestatedTable {
    pub table: Arc<str>,
    /// Windows recomputed that have rows now.
    pub windows: u64,
    /// Rows that gave way.
    pub rows_out: u64,
    /// Rows that came instead.
    pub rows_in: u64,
    pub files_out: u64,
    pub files_in: u64,
}

/// Brings every late row into the closed windows it belongs to. Returns the tables that were touched.
///
/// # Errors
/// [`Error::Fenced`] while a job runs on the lake; else as [`crate::pipeline::start`].
pub async fn reconcile(at: &AtRest) -> Result<Vec<RestatedTable>> {
    let mut taken = taken(at).await?;
    let queries: Vec<Arc<WindowedQuery>> =
        std::mem::take(&mut taken.queries).into_iter().filter_map(windowed).collect();
    let (present, edited): (Vec<_>, Vec<_>) =
        queries.into_iter().partition(|query| progress(query, &taken.base).is_ok());
    // Their windows are another text's; a run rebuilds them, and its next look finds the late rows.
    for query in edited {
        tracing::warn!(query = query.name().as_ref(), "not reconciled: its text has not run on this lake yet");
    }
    let rounds = ground(at, &taken).late_rounds(&subjects(&present, &taken.base)?).await?;
    run(at, &mut taken, &present, rounds).await
}

/// Replaces the closed windows of a query's table that lie inside `range` by what its file answers now.
///
/// # Errors
/// [`Error::Usage`] for a query that has no windows, has not run on this lake with this text, or has closed none of the
/// windows; [`Error::Fenced`] while a job runs on the lake.
pub async fn write_windows(at: &AtRest, file: &Path, range: TimeRange) -> Result<RestatedTable> {
    let planned = plan_file(&at.config, file).await?;
    let name = planned.name().clone();
    let query = windowed(planned).ok_or_else(|| {
        Error::usage(format!(
            "`{name}` has no windows: its rows follow those of the stream, and there is nothing to replace"
        ))
    })?;
    let mut taken = taken(at).await?;
    progress(&query, &taken.base)?;
    let queries = [query];
    let mut rounds = VecDeque::new();
    for subject in &subjects(&queries, &taken.base)? {
        rounds = ground(at, &taken).written_rounds(subject, range).await?;
        if rounds.is_empty() {
            let until = subject.closed_until.map_or_else(|| "nothing yet".to_owned(), show_time);
            return Err(Error::usage(format!(
                "no window of `{name}` in this range has closed and lies within the lake's rows (closed until: {until}); \
                 nothing was written"
            )));
        }
    }
    let present = std::mem::take(&mut taken.queries).into_iter().filter_map(windowed);
    let queries: Vec<_> = present.filter(|query| progress(query, &taken.base).is_ok()).collect();
    rounds.extend(children_rounds(&ground(at, &taken), &subjects(&queries, &taken.base)?, &name, &rounds).await?);
    let done = run(at, &mut taken, &queries, rounds).await?;
    let table = done.into_iter().find(|table| table.table == name);
    Ok(table.unwrap_or(RestatedTable { table: name, ..RestatedTable::default() }))
}

/// The rounds of the views that read what `rounds` restate of the query `name`, near before far.
async fn children_rounds(
    ground: &Ground,
    subjects: &[Subject],
    name: &str,
    rounds: &VecDeque<Round>,
) -> Result<Vec<Round>> {
    let ranges: Vec<TimeRange> = rounds.iter().flat_map(|round| round.ranges.iter().copied()).collect();
    let mut more = Vec::new();
    for subject in subjects.iter().filter(|subject| subject.tells_windows()) {
        let ways = descents(subject, subjects);
        let below = |way: &'_ Vec<&Subject>| way.iter().position(|step| **step.query.name() == *name);
        let ways = ways.iter().filter_map(|way| below(way).map(|from| &way[from..])).filter(|way| way.len() > 1);
        more.extend(ground.followed_rounds(&ways.collect::<Vec<_>>(), &ranges).await?);
    }
    Ok(more)
}

async fn taken(at: &AtRest) -> Result<Taken> {
    take(&at.config, &at.token_key, &at.host, &at.clock).await.map_err(|error| match error {
        Error::Fenced(who) => Error::Fenced(format!(
            "{who}; a running job brings late rows into their windows by itself (`reconcile.interval`), and restates \
             history with `lakeward run --backfill`"
        )),
        other => other,
    })
}

fn windowed(query: StandingQuery) -> Option<Arc<WindowedQuery>> {
    match query {
        StandingQuery::Windowed(query) => Some(Arc::new(query)),
        StandingQuery::Stateless(_) => None,
    }
}

/// What the slot says of a query, if it ran with its present text.
fn progress<'a>(query: &WindowedQuery, base: &'a Slot) -> Result<&'a QueryProgress> {
    let name = query.name();
    match base.queries.get(name) {
        Some(progress) if progress.fingerprint == query.fingerprint() => Ok(progress),
        Some(_) => Err(Error::usage(format!(
            "`{name}` was edited since it last ran on this lake: `lakeward run --backfill` lets it join the stream and \
             restates its history"
        ))),
        None => Err(Error::usage(format!(
            "`{name}` has not run on this lake: `lakeward run --backfill` lets it join the stream and computes its history"
        ))),
    }
}

fn subjects(queries: &[Arc<WindowedQuery>], base: &Slot) -> Result<Vec<Subject>> {
    let subject = |query: &Arc<WindowedQuery>| {
        let progress = progress(query, base)?;
        Ok(Subject {
            query: query.clone(),
            closed_until: progress.closed_until,
            answers_after: progress.answers_after,
            reconciled_through: progress.reconciled_through,
            owed: progress.owed.clone(),
        })
    };
    queries.iter().map(subject).collect()
}

fn ground(at: &AtRest, taken: &Taken) -> Ground {
    Ground::new(&taken.lake, &at.config.lake.app_id, taken.base.epoch)
}

/// Restates round after round, each in an epoch of its own that the next one stands on.
async fn run(
    at: &AtRest,
    taken: &mut Taken,
    queries: &[Arc<WindowedQuery>],
    rounds: VecDeque<Round>,
) -> Result<Vec<RestatedTable>> {
    let mut done: Vec<RestatedTable> = Vec::new();
    let (idle, rounds): (Vec<Round>, Vec<Round>) = rounds.into_iter().partition(|round| round.ranges.is_empty());
    let mut marks: Vec<(Arc<str>, Mark)> = idle.into_iter().map(|round| (round.query, round.mark)).collect();
    for round in rounds {
        let subjects = subjects(queries, &taken.base)?;
        let Some(subject) = subjects.iter().find(|subject| *subject.query.name() == round.query) else { continue };
        let restatement = ground(at, taken).restate(subject, &round).await?;
        note(&restatement, &mut done);
        decide(at, taken, restatement, std::mem::take(&mut marks)).await?;
    }
    Ok(done)
}

/// Decides a restatement, and `marks` of queries that had nothing to restate, and brings it into its table.
async fn decide(at: &AtRest, taken: &mut Taken, restatement: Restatement, marks: Vec<(Arc<str>, Mark)>) -> Result<()> {
    let Restatement { query, restated, replaced, mark, .. } = restatement;
    let mut slot = taken.base.next(&taken.writer, Kind::Epoch, at.clock.now())?;
    slot.published_through = Some(taken.base.epoch);
    slot.restated.insert(query.clone(), restated);
    for (query, mark) in marks.into_iter().chain([(query.clone(), mark)]) {
        let Some(progress) = slot.queries.get_mut(&query) else { continue };
        match mark {
            Mark::Nothing => {}
            Mark::Reconciled(through) => {
                progress.reconciled_through = Some(through);
                progress.owed.retain(|owed| owed.epoch > through);
            }
            Mark::AnswersAfter(after) => progress.answers_after = after,
        }
    }
    let files = TableAdds::of(replaced.staged);
    if !files.is_empty() {
        slot.tables_known.insert(query.clone());
        slot.tables.insert(query, files);
    }
    match taken.lake.slots.decide(&slot).await? {
        Decided::Ours => {}
        Decided::Taken(other) => {
            return Err(Error::Fenced(format!(
                "another writer took this lake over (slot {}, generation {})",
                other.epoch, other.generation
            )));
        }
    }
    taken.lake.slots.write_hint(slot.epoch).await;
    publish_slot(&taken.lake.tables, &at.config.lake.app_id, &slot).await?;
    taken.base = slot;
    Ok(())
}

fn note(restatement: &Restatement, done: &mut Vec<RestatedTable>) {
    let Restatement { query, replaced, windows, .. } = restatement;
    let more = RestatedTable {
        table: query.clone(),
        windows: *windows,
        rows_out: replaced.rows_out,
        rows_in: replaced.rows_in,
        files_out: replaced.staged.removes.len() as u64,
        files_in: replaced.staged.adds.len() as u64,
    };
    match done.iter_mut().find(|table| table.table == *query) {
        None => done.push(more),
        Some(table) => {
            table.windows += more.windows;
            table.rows_out += more.rows_out;
            table.rows_in += more.rows_in;
            table.files_out += more.files_out;
            table.files_in += more.files_in;
        }
    }
}
