//! Old files and old commits: deleted once nobody who reads the table may need them.
//!
//! The one law: an object is deleted only if it has been out of use for the whole retention, and no log version within the
//! retention, no manifest and no decided epoch names it. What is uncertain stays: an orphan costs cents. Nothing whose name
//! begins with `_` or `.` is ever touched below a table but commits and checkpoints behind a checkpoint.
//!
//! In this order: the version before which nothing can be read is recorded, files that commits took out are deleted
//! (lite), then, if asked, files that no commit ever named (full), and at last the commits that told of them. Dying on
//! the way leaves work for the next round, and so does a file that a manifest keeps: the commit that told of it stays, too.
//! Memory is that of the table's live files and of one page of a listing.
//!
//! What it costs: versions older than the retention cannot be read; `audit` then takes from the slots what was in commits,
//! and queries joined with tables as they were before cannot be proved any more, which it says.

mod files;
#[cfg(test)]
mod kills;
mod log;
mod rounds;
#[cfg(test)]
mod tests;
mod unpublished;

use object_store::path::Path;
use serde::{Deserialize, Serialize};

use log::LogFolder;

use crate::clock::Micros;
use crate::error::Result;
use crate::lake::{Bookmark, Table};
use crate::manifest;

pub use rounds::Rounds;
pub use unpublished::{Unpublished, unpublished};

/// Where a table says which of its versions cannot be read any more.
const VACUUMED: &str = "_vacuumed.json";

/// How much is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Files that a commit took out: read from the log.
    Lite,
    /// Files that no commit has ever named, too: lists the table.
    Full,
}

/// What to delete, and when it is old enough.
#[derive(Clone, Copy, Debug)]
pub struct Retention {
    pub scope: Scope,
    /// Microseconds that removed files, orphans and commits stay.
    pub keep: Micros,
    /// Microseconds, UTC.
    pub now: Micros,
    /// Only count.
    pub dry_run: bool,
}

/// What was deleted from one table, or would be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Vacuumed {
    /// Files that commits had taken out.
    pub removed: u64,
    /// Files that no commit had named.
    pub orphans: u64,
    /// Bytes of the orphans; a log does not say those of removed files.
    pub orphan_bytes: u64,
    /// Commits and checkpoints.
    pub log_objects: u64,
    /// Files that stay because a manifest names them.
    pub named: u64,
    /// Why nothing was deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

/// What is recorded of a table's vacuums.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    /// Versions before this one cannot be read any more; written before anything is deleted.
    readable_from: u64,
    /// Everything that commits up to this one had taken out is gone; written after that.
    done_through: Option<u64>,
}

/// Deletes what is out of use in one table.
///
/// # Errors
/// [`crate::Error::External`] when the store does not answer; what was deleted until then was out of use.
pub async fn vacuum(table: &Table, unpublished: &Unpublished, retention: &Retention) -> Result<Vacuumed> {
    let mut done = Vacuumed::default();
    let log = LogFolder::list(table).await?;
    let old = log.newest_before(retention.now - retention.keep);
    let lag = manifest::lag(table).await?;
    if let (Some(at), Some(old)) = (lag.manifests_at, old)
        && at < old
    {
        done.refused = Some(format!(
            "its manifests stand at version {at}, and files taken out up to version {old} would go: write the manifests \
             first (`lakeward lake manifest`, or a running job); if its contract has no sink `spectrum` any more, drop \
             the external table and remove the folder `_symlink_format_manifest`"
        ));
        return Ok(done);
    }
    if let Some(old) = old {
        let mut record = read(table).await?;
        record.readable_from = record.readable_from.max(old);
        write(table, record, retention).await?;
        files::removed(table, &log, (record.done_through, old), retention, &mut done).await?;
        if done.named == 0 {
            record.done_through = record.done_through.max(Some(old));
            write(table, record, retention).await?;
        }
    }
    if retention.scope == Scope::Full {
        // What would be deleted as removed is still there in a dry run, and no orphan.
        let after = if retention.dry_run { read(table).await?.done_through } else { old };
        files::orphans(table, &log, after, unpublished, retention, &mut done).await?;
    }
    if let Some(old) = old.filter(|_| done.named == 0) {
        log.clean(table, old, retention, &mut done).await?;
    }
    Ok(done)
}

/// The first version of a table all of whose files are still there, as far as vacuum knows.
///
/// # Errors
/// [`crate::Error::External`] when the store does not answer.
pub async fn readable_from(table: &Table) -> Result<u64> {
    Ok(read(table).await?.readable_from)
}

fn bookmark(table: &Table) -> Bookmark {
    Bookmark::new(table.store(), Path::from(VACUUMED), format!("`{VACUUMED}` of table `{}`", table.name()))
}

async fn read(table: &Table) -> Result<Record> {
    Ok(bookmark(table).read().await?.unwrap_or_default())
}

async fn write(table: &Table, record: Record, retention: &Retention) -> Result<()> {
    if retention.dry_run || record == read(table).await? {
        return Ok(());
    }
    bookmark(table).write(&record).await
}
