//! The audit: proves on a lake at rest that its books, files and tables are what was decided, and that every closed
//! window is what its rows say.
//!
//! The one law: nothing is believed because the streaming job says it twice. Slots are hashed as stored, logs read from
//! their JSON, rows counted by reading them, windows recomputed by batch SQL over the rows that count. All differences
//! are told, not only the first. It writes nothing.
//!
//! ```text
//! slots ─▶ history ─▶ succession, positions (1 2 3 6 9)    logs ─▶ commits (4 5) ─▶ files, compacted (5)
//!                └─▶ removed (3)
//! rows at one published epoch ─▶ rows, late, books, cards (3)             ─▶ answers (7), but what is unprovable
//! ```
//! The invariants, by the numbers findings carry: 1 slots are contiguous, linked by hash, and generations never fall.
//! 2 A shard is read on where the slot before left it. 3 The counts balance, and rows, files and books are as many, less those that were taken out for
//! good. 4 Every commit of a table is a decided epoch, as decided, once. 5 A file belongs to one epoch and is what its Add says;
//! one that others were written together into holds their rows.
//! 6 A child shard begins after its parents have ended. 7 A closed window's rows are what its records say. 9 The watermark
//! and what is closed never fall. (8 is about a database that follows the lake, which has no part in it yet.)

mod answers;
mod approximate;
mod books;
mod cards;
mod commits;
mod compacted;
mod compare;
mod files;
mod finding;
mod history;
mod joined;
mod late;
mod log;
mod positions;
mod removed;
mod report;
mod restated;
mod rows;
mod scans;
mod standing;
mod succession;
mod unprovable;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use answers::Ground;
use commits::Logs;
use history::History;
use scans::Scans;
use standing::{Life, Untold};

use crate::config::Config;
use crate::epoch::Slot;
use crate::error::{Error, Result};
use crate::lake::Lake;
use crate::plans::Plans;
use crate::sql::StandingQuery;

pub use finding::{Finding, Kind};
pub use report::{QueryBooks, Report, SourceBooks, TableBooks};

/// The table of what could not be taken in.
const REJECTS: &str = "rejects";

/// Audits the configured lake.
///
/// A lake that is being written is audited up to the newest epoch that every table held when the audit began.
///
/// # Errors
/// [`Error::Usage`] for a lake that is empty or of a newer Lakeward, a bad contract or query; [`Error::External`] when
/// the store does not answer. Damage is no error: it is in the report.
pub async fn audit(config: &Config) -> Result<Report> {
    let declared = Plans::read(config).await?;
    let lake = Lake::open(&config.lake.url, &config.s3)?;
    let app_id = &config.lake.app_id;
    let store = lake.store();
    let mut report = Report { lake: lake.url().to_string(), ..Report::default() };

    let (mut history, newest) = history::read(&store, &declared.stream.name, &mut report).await?;
    let mut logs = Logs::new();
    let dropping = newest.iter().flat_map(|slot| &slot.dropping).cloned().collect::<BTreeSet<Arc<str>>>();
    for table in lake.tables().await? {
        if dropping.contains(table.as_str()) {
            report.note(format!(
                "some files of the dropped table `{table}` are there: `lakeward lake drop {table}` ends it"
            ));
            continue;
        }
        let mut log = log::read(&store, &table, &mut report).await?;
        log.remember(&table, app_id, &history);
        logs.insert(table.into(), log);
    }
    if history.head.is_none() && logs.is_empty() {
        return Err(Error::usage(format!(
            "no lake in {}: start one with `lakeward run`, or name another with `--set lake.url=…`",
            lake.url()
        )));
    }
    history.decided_since = history::newest(&store).await?;
    let published = commits::published(&history, &logs, app_id);
    describe(&history, newest.as_ref(), published, &mut report);

    commits::check(&history, &logs, app_id, published, &mut report);
    files::check(&store, &logs, app_id, published, &mut report).await?;
    compacted::check(&lake, &history, published, &mut report).await?;
    removed::check(&history, published, &mut report);
    let scans = Scans::open(&lake, &logs, app_id, published, &mut report).await?;
    check_rows(&scans, &history, published, &declared, config.audit.float_tolerance, &mut report).await;
    report.sort();
    Ok(report)
}

/// The books, and what the reader should know before the findings.
fn describe(history: &History, newest: Option<&Slot>, published: Option<u64>, report: &mut Report) {
    (report.head, report.published) = (history.head, published);
    let steps = || history.through(published);
    report.watermark = steps().last().and_then(|(_, step)| step.watermark);
    let mut writers: BTreeMap<Arc<str>, Vec<u64>> = BTreeMap::new();
    for (_, step) in steps() {
        let mut read: Vec<&Arc<str>> = Vec::new();
        for (key, shard) in &step.reads {
            let books = report.sources.entry(Arc::clone(&key.source)).or_default();
            books.counts.add(&shard.counts);
            read.push(&key.source);
        }
        read.dedup();
        for source in read {
            if let Some(books) = report.sources.get_mut(source) {
                books.epochs += 1;
            }
            writers.entry(Arc::clone(source)).or_default().push(step.generation);
        }
    }
    for (source, mut generations) in writers {
        generations.dedup();
        let books = report.sources.entry(source).or_default();
        books.generations = generations.len() as u64;
    }
    for (source, progress) in newest.iter().flat_map(|slot| &slot.sources) {
        let books = report.sources.entry(Arc::clone(source)).or_default();
        books.shards = progress.shards.len() as u64;
        books.watermark = progress.shards.values().filter_map(|shard| shard.progress.watermark).min();
    }
    if history.decided_since > history.head {
        report.note("the lake is being written: what was decided since the audit began was not looked at");
    }
    if history.head > published {
        let first = published.map_or(0, |epoch| epoch + 1);
        report.note(format!(
            "epochs from {first} on are decided and not in every table yet: the next `lakeward run` publishes them"
        ));
    }
}

/// Everything that reads rows.
async fn check_rows(
    scans: &Scans,
    history: &History,
    published: Option<u64>,
    declared: &Plans,
    float_tolerance: f64,
    report: &mut Report,
) {
    let stream = &declared.stream;
    rows::check_stream(scans, history, published, stream, report).await;
    rows::check_rejects(scans, history, published, REJECTS, report).await;
    books::check(scans, history, published, report).await;
    cards::check(scans, stream, declared.contracts.get(REJECTS), report).await;

    let mut lives: Vec<(&StandingQuery, Arc<Life>)> = Vec::new();
    for query in &declared.queries {
        let name = query.name();
        match Life::of(query, history, published, &lives) {
            Ok(life) => lives.push((query, Arc::new(life))),
            Err(Untold::NeverRan) => report.note(format!("`{name}` has not run on this lake yet")),
            Err(Untold::EditedSince) => {
                report.note(format!("`{name}` was edited since it last ran: its table was not compared"));
            }
        }
    }
    let gone = history.through(published).last().into_iter().flat_map(|(_, step)| step.queries.keys());
    for name in gone.filter(|name| !declared.queries.iter().any(|query| query.name() == *name)) {
        report.note(format!("the query `{name}` is not in `queries.dir` any more: its table was not compared"));
    }
    let known: Vec<Life> = lives.iter().map(|(_, life)| life.as_ref().clone()).collect();
    restated::check(history, published, &known, report);
    late::check(scans, history, published, stream, &known, report).await;
    let ground = Ground { scans, history, published, stream, float_tolerance };
    for (query, life) in &lives {
        ground.check(query, life, report).await;
    }
}
