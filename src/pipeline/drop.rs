//! Dropping a table of a lake at rest, by hand: `lakeward lake drop`.
//!
//! The one law: a slot decides it, and only then something is deleted: first what leads readers to the table, then its log,
//! then its files; at last a slot says that it is gone. Whoever dies on the way leaves a table that nobody takes for one,
//! and that is not made anew: the same command ends it.
//!
//! A table that a standing query writes or reads is not dropped: its file goes first.

use std::sync::Arc;

use serde::Serialize;

use super::recover::{Taken, take};
use super::restate::{AtRest, decide_at_rest};
use crate::catalog::Catalog;
use crate::config::Config;
use crate::epoch::Kind;
use crate::error::{Error, Result};
use crate::lake::Deleted;
use crate::manifest;
use crate::plain::{Place, vacate};
use crate::plans::Plans;
use crate::sql::{Driver, StandingQuery};

/// What was done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Dropped {
    pub table: Arc<str>,
    /// The slot that decided it.
    pub slot: u64,
    /// It had been decided before, and was ended now.
    pub was_begun: bool,
    /// Tables the catalog let go.
    pub catalog: u64,
    /// Files of the plain export.
    pub exported: u64,
    /// Objects of the table, and their bytes.
    #[serde(flatten)]
    pub deleted: Deleted,
}

/// Drops a table.
///
/// # Errors
/// [`Error::Usage`] for a table that is not there, or that something of the configuration writes or reads;
/// [`Error::Fenced`] while a job runs on the lake; [`Error::External`] when the lake, the catalog or the export does not
/// answer: call again.
pub async fn drop_table(at: &AtRest, name: &str) -> Result<Dropped> {
    refuse_in_use(&Plans::read(&at.config).await?, name)?;
    let mut taken = take(&at.config, &at.token_key, &at.host, &at.clock).await?;
    let dropped = drop_taken(at, &mut taken, &Arc::from(name)).await;
    taken.lake.rest(taken.writer.id).await;
    dropped
}

async fn drop_taken(at: &AtRest, taken: &mut Taken, name: &Arc<str>) -> Result<Dropped> {
    let mut dropped = Dropped { table: Arc::clone(name), ..Dropped::default() };
    dropped.was_begun = taken.base.dropping.contains(name);
    if !dropped.was_begun {
        let there = taken.lake.lake.tables().await?;
        if !taken.base.tables_known.contains(name) && !there.iter().any(|table| **table == **name) {
            return Err(Error::usage(format!(
                "no table `{name}` in the lake {}; there are `{}`",
                taken.lake.lake.url(),
                there.join("`, `")
            )));
        }
        let mut slot = taken.base.next(&taken.writer, Kind::Epoch, at.clock.now())?;
        slot.published_through = Some(taken.base.epoch);
        slot.drop_table(name);
        decide_at_rest(at, taken, slot).await?;
    }
    dropped.slot = taken.base.dropped.get(name).copied().unwrap_or(taken.base.epoch);
    delete(&at.config, taken, &mut dropped).await?;
    let mut slot = taken.base.next(&taken.writer, Kind::Epoch, at.clock.now())?;
    slot.published_through = Some(taken.base.epoch);
    slot.dropping.remove(name);
    decide_at_rest(at, taken, slot).await?;
    Ok(dropped)
}

/// In the order in which readers come to it.
async fn delete(config: &Config, taken: &Taken, dropped: &mut Dropped) -> Result<()> {
    let (lake, name) = (&taken.lake.lake, Arc::clone(&dropped.table));
    if let Some(catalog) = Catalog::of(&config.catalog, lake).await? {
        dropped.catalog = catalog.let_go(&name).await?;
    }
    let manifests = lake.delete_in_table(&name, manifest::FOLDER).await?;
    if let Some(place) = Place::existing(&config.plain, &config.s3, lake)? {
        dropped.exported = vacate(&place, &name).await?;
    }
    dropped.deleted = lake.delete_table(&name).await?;
    dropped.deleted.objects += manifests.objects;
    dropped.deleted.bytes += manifests.bytes;
    Ok(())
}

/// Refuses what every lake has, and what queries write or read.
fn refuse_in_use(plans: &Plans, name: &str) -> Result<()> {
    let own = [&plans.stream, &plans.rejects, &plans.epochs];
    if own.iter().any(|contract| *contract.name == *name) {
        return Err(Error::usage(format!(
            "`{name}` belongs to every lake of this stream: a lake without it is none; start a new one with another \
             `lake.url`"
        )));
    }
    if plans.queries.iter().any(|query| **query.name() == *name) {
        return Err(Error::usage(format!(
            "the query `{name}` writes this table: take its file out of `queries.dir` first, and stop the job that runs it"
        )));
    }
    let readers = plans.queries.iter().filter(|query| reads(query, name));
    let readers: Vec<&str> = readers.map(|query| query.name().as_ref()).collect();
    if !readers.is_empty() {
        return Err(Error::usage(format!(
            "`{}` {} the table `{name}`: take {} out of `queries.dir` first, and stop the job",
            readers.join("`, `"),
            if readers.len() == 1 { "reads" } else { "read" },
            if readers.len() == 1 { "its file" } else { "their files" }
        )));
    }
    Ok(())
}

fn reads(query: &StandingQuery, name: &str) -> bool {
    let drives = |driver: &&Driver| matches!(driver, Driver::View(parent) if *parent.name == *name);
    let looked_up = query.lookups().iter().flat_map(|lookup| &lookup.tables);
    query.drivers().iter().any(drives) || looked_up.into_iter().any(|table| **table == *name)
}
