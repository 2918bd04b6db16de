//! Compacting beside the stream: when to look, and one step after the other in a task of its own.
//!
//! The one law: the live path never waits for it. At most one step is under way, from its start until its epoch is in
//! every table, and none while windows are restated; whatever is cut off leaves files nobody refers to.

use tokio::task::JoinSet;

use super::choice::Haste;
use super::{CompactedFiles, Done, ExpiredFiles, Partitions};
use crate::error::{Error, Result};
use crate::pipeline::restate::Query;

/// Steps of one look that may fail before the rest is left to the next look: one damaged partition does not hold up the
/// others, and a store that does not answer is not asked about each of them.
const FAILURES_MAX: usize = 3;

/// What one step has found to do, for the next epoch to decide.
#[derive(Debug)]
pub(in crate::pipeline) enum Step {
    Compacted(CompactedFiles),
    Expired(ExpiredFiles),
}

/// The compactions of a running job, and the dates it keeps no longer.
#[derive(Debug, Default)]
pub(in crate::pipeline) struct Compactor {
    /// A look was asked for, or has more to do.
    is_due: bool,
    /// Partitions this look is through with.
    done: Done,
    failures: usize,
    task: JoinSet<(Done, Result<Option<Step>>)>,
    /// Handed to the engine, and not known to be in every table yet.
    handed: bool,
}

impl Compactor {
    /// It is time to look for small files.
    pub(in crate::pipeline) fn due(&mut self) {
        if !self.is_due {
            (self.is_due, self.failures) = (true, 0);
            self.done.clear();
        }
    }

    /// Whether no step is under way.
    pub(in crate::pipeline) fn is_idle(&self) -> bool {
        self.task.is_empty() && !self.handed
    }

    /// Whether there is something to begin with.
    pub(in crate::pipeline) fn may_begin(&self) -> bool {
        self.is_due && self.is_idle()
    }

    /// Begins the next step; call only when [`Compactor::may_begin`].
    pub(in crate::pipeline) fn begin(&mut self, partitions: Partitions, queries: Vec<Query>) {
        let mut done = std::mem::take(&mut self.done);
        self.task.spawn(async move {
            let staged = next(&partitions, &queries, &mut done).await;
            (done, staged)
        });
    }

    /// Waits for the step under way; the outer `None` when there is none, the inner when it staged nothing. A step that
    /// failed is only told: the small files stay, and are as good.
    pub(in crate::pipeline) async fn ended(&mut self) -> Option<Option<Step>> {
        let ended = self.task.join_next().await?;
        let (done, staged) = ended.unwrap_or_else(|panic| (Done::new(), Err(Error::external("compacting", panic))));
        self.done = done;
        Some(match staged {
            Ok(Some(files)) => {
                self.handed = true;
                Some(files)
            }
            Ok(None) => {
                self.is_due = false;
                None
            }
            Err(error) => {
                tracing::warn!(%error, "files were not looked after; trying again at the next look");
                self.failures += 1;
                self.is_due = self.failures < FAILURES_MAX;
                None
            }
        })
    }

    /// What was handed to the engine is in every table.
    pub(in crate::pipeline) fn published(&mut self) {
        self.handed = false;
    }

    /// Ends the step under way and begins no other.
    pub(in crate::pipeline) fn stop(&mut self) {
        (self.task, self.is_due) = (JoinSet::new(), false);
    }
}

/// What goes need not be written together before.
async fn next(partitions: &Partitions, queries: &[Query], done: &mut Done) -> Result<Option<Step>> {
    if let Some(expired) = partitions.expired_next(queries, None).await? {
        return Ok(Some(Step::Expired(expired)));
    }
    let compacted = partitions.stage_next(queries, None, Haste::WhenItPays, done).await?;
    Ok(compacted.map(Step::Compacted))
}
