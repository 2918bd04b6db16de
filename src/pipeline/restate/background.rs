//! Restating beside the stream: when to look for late rows, and one round after the other in a task of its own.
//!
//! The one law: the live path never waits for it. At most one round is under way, from its start until its epoch is in
//! every table, so the next one sees what the last one wrote; whatever is cut off leaves files nobody refers to.

use std::collections::VecDeque;
use tokio::task::JoinSet;

use super::rounds::{Backfill, Round};
use super::{Ground, Restatement, Subject};
use crate::error::{Error, Result};

/// What one task has done.
#[derive(Debug)]
pub(in crate::pipeline) struct Step {
    /// What is left to do.
    todo: VecDeque<Round>,
    /// Of rounds that had nothing to restate: their marks.
    pub(in crate::pipeline) marks: Vec<Restatement>,
    pub(in crate::pipeline) restatement: Option<Restatement>,
}

impl Step {
    /// Late rows it has looked at and left.
    pub(in crate::pipeline) fn left(&self) -> u64 {
        self.marks.iter().chain(&self.restatement).map(|restatement| restatement.left).sum()
    }
}

/// What a task is to do first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    ForHistory(Backfill),
    ForLateRows,
    /// A parent was restated: what its views owe.
    ForOwed,
    /// Rounds are left.
    Nowhere,
}

/// The rounds of a running job.
#[derive(Debug)]
pub(in crate::pipeline) struct Restater {
    /// Asked for and not looked for yet.
    backfill: Option<Backfill>,
    /// Rounds left, of the backfill while `is_backfill`.
    todo: VecDeque<Round>,
    is_backfill: bool,
    late_due: bool,
    owed_due: bool,
    task: JoinSet<Result<Step>>,
    /// Handed to the engine, and not known to be in every table yet.
    handed: bool,
}

impl Restater {
    pub(in crate::pipeline) fn new(backfill: Option<Backfill>) -> Self {
        Self {
            backfill,
            todo: VecDeque::new(),
            is_backfill: false,
            late_due: false,
            owed_due: false,
            task: JoinSet::new(),
            handed: false,
        }
    }

    /// It is time to look for late rows.
    pub(in crate::pipeline) fn late_rows_due(&mut self) {
        self.late_due = true;
    }

    /// Whether history that was asked for is not decided yet.
    pub(in crate::pipeline) fn is_backfilling(&self) -> bool {
        self.backfill.is_some() || self.is_backfill
    }

    /// Whether no round is under way.
    pub(in crate::pipeline) fn is_idle(&self) -> bool {
        self.task.is_empty() && !self.handed
    }

    /// Whether there is something to begin with.
    pub(in crate::pipeline) fn may_begin(&self) -> bool {
        let asked = self.backfill.is_some() || self.late_due || self.owed_due || !self.todo.is_empty();
        asked && self.is_idle()
    }

    /// Begins the next round as of `ground`; call only when [`Restater::may_begin`].
    pub(in crate::pipeline) fn begin(&mut self, ground: Ground, subjects: Vec<Subject>) {
        let todo = std::mem::take(&mut self.todo);
        let look = match self.backfill.take() {
            _ if !todo.is_empty() => Look::Nowhere,
            Some(backfill) => Look::ForHistory(backfill),
            None if self.late_due => Look::ForLateRows,
            None => Look::ForOwed,
        };
        match look {
            Look::ForHistory(_) => self.is_backfill = true,
            Look::ForLateRows => (self.late_due, self.owed_due) = (false, false),
            Look::ForOwed => self.owed_due = false,
            Look::Nowhere => {}
        }
        self.task.spawn(step(ground, subjects, todo, look));
    }

    /// Waits for the round under way; `None` when there is none.
    ///
    /// # Errors
    /// Of a backfill, which somebody asked for, whatever stopped it. A look for late rows that failed is only told: the
    /// rows stay, and the next look finds them.
    pub(in crate::pipeline) async fn ended(&mut self) -> Option<Result<Step>> {
        let ended = self.task.join_next().await?;
        let ended = ended.unwrap_or_else(|panic| Err(Error::external("restating windows", panic)));
        Some(match ended {
            Ok(mut step) => {
                self.todo = std::mem::take(&mut step.todo);
                self.handed = step.restatement.is_some();
                self.settle();
                Ok(step)
            }
            Err(error) if self.is_backfill => Err(error),
            Err(error) => {
                tracing::warn!(%error, "late rows were not brought into their windows; trying again at the next look");
                Ok(Step { todo: VecDeque::new(), marks: Vec::new(), restatement: None })
            }
        })
    }

    /// What was handed to the engine is in every table.
    pub(in crate::pipeline) fn published(&mut self) {
        self.handed = false;
        self.owed_due = true;
        self.settle();
    }

    fn settle(&mut self) {
        // History is answered once the views of what was answered have followed.
        if self.todo.is_empty() && !self.handed && !self.owed_due {
            self.is_backfill = false;
        }
    }
}

async fn step(ground: Ground, subjects: Vec<Subject>, mut todo: VecDeque<Round>, look: Look) -> Result<Step> {
    match look {
        Look::ForHistory(backfill) => todo = ground.backfill_rounds(&subjects, backfill).await?,
        Look::ForLateRows => todo = ground.late_rounds(&subjects).await?,
        Look::ForOwed => todo = ground.owed_rounds(&subjects).await?.into(),
        Look::Nowhere => {}
    }
    let mut marks = Vec::new();
    while let Some(round) = todo.pop_front() {
        let Some(subject) = subjects.iter().find(|subject| *subject.name() == round.query) else { continue };
        let restatement = ground.restate(subject, &round).await?;
        if restatement.is_empty() {
            marks.push(restatement);
            continue;
        }
        return Ok(Step { todo, marks, restatement: Some(restatement) });
    }
    Ok(Step { todo, marks, restatement: None })
}
