//! The streaming job: the only place that wires source, decoder, engine and lake together.
//!
//! ```text
//! source ─▶ events (a shard: 2 pages) ─▶ decode, one task a shard ─▶ decoded (8) ─▶ engine ─▶ drafts (1)
//!        ─▶ stage and decide ─▶ decided (3) ─▶ publish ─▶ tables
//! ```
//! After each publication tables get what their readers need beside data (`follow_ups`): checkpoints, manifests, catalog;
//! dates that are over go to the plain export, where there is one (`export`).
//! Beside it, one task at a time recomputes closed windows (`restate`), writes small files together or takes old dates out
//! (`compaction`); what it stages joins the next draft. Rows are erased at rest only (`erasure`).
//!
//! Every queue is bounded, so a slow lake slows the reader and nothing else. [`start`] recovers the lake, begins to read,
//! and returns; [`Running::wait`] ends when the input has, when the job is stopped, or with the first error.

mod commit;
mod compaction;
mod decode;
mod drive;
mod drop;
mod engine;
mod erasure;
mod export;
mod follow_ups;
mod gap;
mod gathered;
mod incarnation;
mod input;
mod lookup;
mod queries;
mod recover;
mod rehearse;
mod rejoin;
mod restate;
mod sessions;
mod shard;
mod skew;
mod summary;
mod upkeep;

use std::path::PathBuf;
use std::sync::Arc;

use export::{Exporter, Source};
use follow_ups::FollowUps;
use recover::LakeState;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::catalog;
use crate::clock::{Clock, Micros};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::plans::Change;
use crate::token::TokenKey;

pub use commit::Commit;
pub use compaction::{CompactedTable, ExpiredTable, compact, expire};
pub use drop::{Dropped, drop_table};
pub use erasure::{ErasedTable, Erasure, erase};
pub use export::export;
pub use rehearse::{Rehearsed, Script, Step, rehearse};
pub use restate::{AtRest, Backfill, RestatedTable, reconcile, write_windows};
pub use summary::{Snapshot, Summary};
pub use upkeep::{Done, Upkeep};

/// Commits a screen may be behind before it misses one: it reads several times a second.
const COMMIT_LINES_MAX: usize = 64;

/// What a run reads.
#[derive(Clone, Debug)]
pub enum Input {
    /// Files, each as one shard; `pace` bounds the rows a second of each.
    Files { paths: Vec<PathBuf>, pace: Option<u32> },
    /// The configured stream, and who writes to it.
    Stream(Feed),
}

/// Who writes to the stream while the job reads it.
#[derive(Clone, Debug)]
pub enum Feed {
    /// Somebody else.
    Others,
    /// This process, from a file; the run ends with it.
    Replay(PathBuf),
    /// This process: simulated card holders.
    Simulate,
}

/// A run as asked for.
#[derive(Clone, Debug)]
pub struct Job {
    pub config: Config,
    pub input: Input,
    /// End once all input is committed. Bounded inputs always do.
    pub until_caught_up: bool,
    /// Accept a file that lies wholly before what the lake has closed.
    pub allow_late: bool,
    /// Go on when the stream was made anew since the lake last read it, or is another one.
    pub accept_new_stream: bool,
    /// Let an embedded stream write to a lake on S3.
    pub demo: bool,
    /// Answer the history of queries that are new or were edited.
    pub backfill: Option<Backfill>,
    /// Go on, at the oldest record there is, where records expired before they were read.
    pub accept_gap: bool,
    pub clock: Clock,
    pub token_key: TokenKey,
    pub host: Arc<str>,
    /// Cancel to end: producers stop, what was acknowledged is drained and committed.
    pub stop: CancellationToken,
}

/// What a start found and did, to be told to whoever watches.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    pub lake: String,
    /// The URL of the stream, when there is one.
    pub stream: Option<String>,
    /// What becomes of each query, removed ones last.
    pub changes: Vec<Change>,
    /// Sentences about what was recovered, rebuilt, edited or skipped.
    pub notes: Vec<String>,
    /// The watermark the lake had reached.
    pub watermark: Option<Micros>,
}

/// A job at work.
#[derive(Debug)]
pub struct Running {
    pub facts: Facts,
    /// One line a commit; lines are dropped when nobody reads.
    pub commits: mpsc::Receiver<Commit>,
    snapshots: mpsc::Sender<oneshot::Sender<Snapshot>>,
    task: JoinHandle<Result<Summary>>,
}

/// Recovers the lake and begins to read.
///
/// # Errors
/// [`Error::Usage`] for a bad contract or query, an input that lies before the lake, another stream under the same name, or
/// an embedded one where it was hardly meant; [`Error::Fenced`] when another writer owns the lake; [`Error::External`] when the lake or the stream do not
/// answer.
pub async fn start(job: Job) -> Result<Running> {
    catalog::check(&job.config.catalog, &job.config.lake.url)?;
    incarnation::refuse_embedded(&job).await?;
    let mut recovered = recover::recover(&job).await?;
    let source = input::open(&job, &mut recovered).await?;
    let (commit_lines, commits) = mpsc::channel(COMMIT_LINES_MAX);
    let (snapshots, requests) = mpsc::channel(1);
    let mut facts = std::mem::take(&mut recovered.facts);
    facts.stream = source.url.clone();
    let LakeState { lake, tables, contracts, slots, stream, .. } = &recovered.lake;
    let upkeep = Upkeep::of(&job.config, lake, tables, contracts).await?;
    let queries = recovered.engine.queries();
    let exported = Source { lake, tables, contracts, slots, queries, stream: &stream.name };
    let exporter = Exporter::of(&job.config, exported, job.clock.clone())?;
    let follow_ups = FollowUps::start(upkeep, exporter, slots.clone(), &job.config, job.clock.clone());
    let drive = drive::Drive::new(job, recovered, source, follow_ups, commit_lines, requests);
    let task = tokio::spawn(drive.run());
    Ok(Running { facts, commits, snapshots, task })
}

impl Running {
    /// What the job looks like right now, open windows included; `None` once it has ended.
    pub async fn snapshot(&self) -> Option<Snapshot> {
        let (reply, answer) = oneshot::channel();
        self.snapshots.send(reply).await.ok()?;
        answer.await.ok()
    }

    /// Whether the job has ended; [`Running::wait`] tells how.
    pub fn has_ended(&self) -> bool {
        self.task.is_finished()
    }

    /// Waits for the end.
    ///
    /// # Errors
    /// The first error that stopped the job.
    pub async fn wait(self) -> Result<Summary> {
        self.task.await.unwrap_or_else(|panic| Err(Error::external("a bug in lakeward", panic)))
    }
}
