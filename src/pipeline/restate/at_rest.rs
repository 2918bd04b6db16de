//! Restating a lake at rest, by hand: `lakeward lake reconcile` and `lakeward batch … --write`.
//!
//! The one law: whoever writes is a writer like a run: it takes the lock, fences the lake with a generation of its own,
//! publishes what was decided, and decides each restatement by a slot that reads nothing.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

use super::rounds::Round;
use super::{Ground, Mark, Query, Reach, Restatement, Subject, decided};
use crate::clock::{Clock, show_time};
use crate::config::Config;
use crate::epoch::{Kind, QueryProgress, Slot};
use crate::error::{Error, Result};
use crate::pipeline::commit::publish_slot;
use crate::pipeline::export::{Exporter, Patience, Source};
use crate::pipeline::recover::{LakeState, Taken, take};
use crate::pipeline::upkeep::Upkeep;
use crate::plans::plan_file;
use crate::sql::{StandingQuery, TimeRange};
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
    /// Late rows of windows that cannot be computed any more, because rows of them are gone for good: they stay beside them.
    pub late_left: u64,
}

/// Brings every late row into the closed windows it belongs to. Returns the tables that were touched.
///
/// # Errors
/// [`Error::Fenced`] while a job runs on the lake; else as [`crate::pipeline::start`].
pub async fn reconcile(at: &AtRest) -> Result<Vec<RestatedTable>> {
    let mut taken = taken(at).await?;
    let queries: Vec<Query> = std::mem::take(&mut taken.queries).into_iter().map(Query::of).collect();
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
    if matches!(planned, StandingQuery::Stateless(_)) {
        return Err(Error::usage(format!(
            "`{name}` has no windows: its rows follow those of the stream, or of the view it reads, and there is nothing \
             to replace; what it has missed `lakeward run --backfill` answers"
        )));
    }
    let query = Query::of(planned);
    let mut taken = taken(at).await?;
    progress(&query, &taken.base)?;
    let queries = [query];
    let mut rounds = VecDeque::new();
    for subject in &subjects(&queries, &taken.base)? {
        rounds = ground(at, &taken).written_rounds(subject, range).await?;
        if rounds.is_empty() {
            taken.lake.rest(taken.writer.id).await;
            let until = subject.closed_until.map_or_else(|| "nothing yet".to_owned(), show_time);
            return Err(Error::usage(format!(
                "no window of `{name}` in this range has closed and lies within the lake's rows (closed until: {until}); \
                 nothing was written"
            )));
        }
    }
    let present = std::mem::take(&mut taken.queries).into_iter().map(Query::of);
    let queries: Vec<_> = present.filter(|query| progress(query, &taken.base).is_ok()).collect();
    let done = run(at, &mut taken, &queries, rounds).await?;
    let table = done.into_iter().find(|table| table.table == name);
    Ok(table.unwrap_or(RestatedTable { table: name, ..RestatedTable::default() }))
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

/// What the slot says of a query, if it ran with its present text.
fn progress<'a>(query: &Query, base: &'a Slot) -> Result<&'a QueryProgress> {
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

fn subjects(queries: &[Query], base: &Slot) -> Result<Vec<Subject>> {
    let subject = |query: &Query| {
        let progress = progress(query, base)?;
        let (query, met) = (query.clone(), progress.lookups.clone());
        Ok(Subject { query, closed_until: progress.closed_until, reach: Reach::of(progress), met })
    };
    queries.iter().map(subject).collect()
}

fn ground(at: &AtRest, taken: &Taken) -> Ground {
    Ground::new(&taken.lake, &at.config.lake.app_id, taken.base.epoch)
}

/// Restates round after round, each in an epoch of its own that the next one stands on, and then what views owe their
/// parents by that, generation by generation.
async fn run(
    at: &AtRest,
    taken: &mut Taken,
    queries: &[Query],
    mut rounds: VecDeque<Round>,
) -> Result<Vec<RestatedTable>> {
    let mut done: Vec<RestatedTable> = Vec::new();
    let mut marks: Vec<Restatement> = Vec::new();
    // A view owes only to views that stand before it: there are no more generations than views.
    for _ in 0..=queries.len() {
        let decided_before = taken.base.epoch;
        while let Some(round) = rounds.pop_front() {
            let subjects = subjects(queries, &taken.base)?;
            let Some(subject) = subjects.iter().find(|subject| *subject.name() == round.query) else { continue };
            let restatement = ground(at, taken).restate(subject, &round).await?;
            if restatement.is_empty() {
                if restatement.left > 0 {
                    note(&restatement, &mut done);
                }
                marks.push(restatement);
                continue;
            }
            note(&restatement, &mut done);
            marks.push(restatement);
            decide(at, taken, queries, std::mem::take(&mut marks)).await?;
        }
        if taken.base.epoch == decided_before {
            break;
        }
        rounds = ground(at, taken).owed_rounds(&subjects(queries, &taken.base)?).await?.into();
    }
    // That there was nothing late needs no slot of its own; what was owed is to be known as paid.
    if marks.iter().flat_map(|marks| &marks.marks).any(|mark| matches!(mark, Mark::Paid { .. })) {
        decide(at, taken, queries, marks).await?;
    }
    follow_up(at, taken, queries).await;
    Ok(done)
}

/// Ends in order, as [`end`]. What readers lack is told, and left to the next start, or to the same command again: it is as
/// right as it was before, only older.
pub(in crate::pipeline) async fn follow_up(at: &AtRest, taken: &Taken, queries: &[Query]) {
    if let Err(error) = end(at, taken, queries).await {
        tracing::warn!(
            %error,
            "what readers are given is not up to date; a start goes on with it, or `lakeward lake manifest` and `lake export`"
        );
    }
}

/// Ends in order: brings all that readers are given to what was written.
///
/// # Errors
/// As [`bring_up`].
pub(in crate::pipeline) async fn end(at: &AtRest, taken: &Taken, queries: &[Query]) -> Result<()> {
    let LakeState { lake, tables, contracts, slots, stream, .. } = &taken.lake;
    let source = Source { lake, tables, contracts, slots, queries: queries.to_vec(), stream: &stream.name };
    let ended = bring_up(at, source).await;
    taken.lake.rest(taken.writer.id).await;
    ended
}

/// Brings manifests, catalog and export to what the tables are: of all of them, since whoever came before may have been
/// kept from it. Whoever calls holds the lake's lock.
///
/// # Errors
/// The first of a table, or of the export, after the others were tried.
pub(in crate::pipeline) async fn bring_up(at: &AtRest, source: Source<'_>) -> Result<()> {
    let kept = match Upkeep::of(&at.config, source.lake, source.tables, source.contracts).await {
        Ok(upkeep) => upkeep.bring_all_up().await,
        Err(error) => Err(error),
    };
    let exported = match Exporter::of(&at.config, source, at.clock.clone()) {
        Ok(Some(mut exporter)) => {
            exporter.look(None, Patience::None).await.and_then(|(_, failed)| failed.map_or(Ok(()), Err))
        }
        Ok(None) => Ok(()),
        Err(error) => Err(error),
    };
    kept.and(exported)
}

/// Decides restatements, of one query at most besides those that are but marks, and brings them into their tables.
async fn decide(at: &AtRest, taken: &mut Taken, queries: &[Query], restatements: Vec<Restatement>) -> Result<()> {
    let mut slot = taken.base.next(&taken.writer, Kind::Epoch, at.clock.now())?;
    slot.published_through = Some(taken.base.epoch);
    let known = queries.iter().filter_map(|query| Some((query.clone(), Reach::of(slot.queries.get(query.name())?))));
    let mut reaches: Vec<(Query, Reach)> = known.collect();
    for restatement in &restatements {
        decided(restatement, slot.epoch, reaches.iter_mut().map(|(query, reach)| (query.clone(), reach)));
    }
    for (query, reach) in reaches {
        if let Some(progress) = slot.queries.get_mut(query.name()) {
            reach.tell(progress);
        }
    }
    for restatement in restatements.into_iter().filter(|restatement| !restatement.is_empty()) {
        let (query, files) = restatement.tell(&mut slot);
        if !files.is_empty() {
            slot.tables_known.insert(query.clone());
            slot.tables.insert(query, files);
        }
    }
    decide_at_rest(at, taken, slot).await
}

/// Decides a slot that follows the newest one, and brings its files into their tables.
///
/// # Errors
/// [`Error::Fenced`] when another writer owns the slot; whatever publishing says.
pub(in crate::pipeline) async fn decide_at_rest(at: &AtRest, taken: &mut Taken, slot: Slot) -> Result<()> {
    taken.lake.slots.decide(&slot).await?.ours()?;
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
        late_left: restatement.left,
    };
    match done.iter_mut().find(|table| table.table == *query) {
        None => done.push(more),
        Some(table) => {
            table.windows += more.windows;
            table.rows_out += more.rows_out;
            table.rows_in += more.rows_in;
            table.files_out += more.files_out;
            table.files_in += more.files_in;
            table.late_left += more.late_left;
        }
    }
}
