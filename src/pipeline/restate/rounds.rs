//! What is to be restated, cut into rounds: one round is one restatement of one query.
//!
//! The one law: a round is bounded, by the rows it recomputes and by the ranges it names, so that memory, the next slot
//! and the wait of whoever stops the job are, too. Rounds of a backfill go back in time, so that what a table answers is
//! always one stretch up to now.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use datafusion::functions_aggregate::expr_fn::min;
use datafusion::prelude::{col, lit};
use futures::TryStreamExt;

use super::cut::{Part, cut, few};
use super::missed::of_epochs;
use super::missing::{Missing, minus, overlaps};
use super::{Ground, Mark, Query, Reach, Subject};
use crate::clock::Micros;
use crate::contract::provenance;
use crate::epoch::Epochs;
use crate::error::{Context, Error, Result};
use crate::sql::{TimeRange, ViewDriver, WindowShape};
use crate::window::{closed_windows_of, end_before, first_start_from, first_start_of, joined, starts_through};

/// Ranges a look for late rows keeps apart; beyond that, neighbours are joined and what lies between is restated, too.
pub(super) const RANGES_MAX: usize = 100_000;
/// History asked for by `--backfill`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backfill {
    /// From the lake's first row on.
    All,
    /// Windows that start at or after this time (microseconds UTC).
    From(Micros),
}

/// One restatement to come.
#[derive(Clone, Debug)]
pub(in crate::pipeline) struct Round {
    pub query: Arc<str>,
    pub work: Work,
    /// Late rows that belong to windows which cannot be computed any more.
    pub left: u64,
    pub marks: Vec<Mark>,
}

/// What a round restates.
#[derive(Clone, Debug)]
pub(in crate::pipeline) enum Work {
    Nothing,
    /// Windows by their start, in order and apart; `spans` are the ranges and what lies between neighbours: one plan each.
    Windows {
        ranges: Vec<TimeRange>,
        spans: Vec<TimeRange>,
    },
    /// Rows of the stream of these epochs, which a query without windows has missed: they are added.
    Missed(Epochs),
    /// Sessions: of the stream those that late rows belong to; those that have, or had, rows at the times `around`; and all
    /// that begin in `starts`. What that is in ranges is found when it is done. Those with rows at the times `gone`, which
    /// lack some, stay as they are.
    Sessions {
        around: Vec<TimeRange>,
        starts: Vec<TimeRange>,
        gone: Vec<TimeRange>,
    },
}

impl Part {
    /// `gone`: times of rows that sessions lack; ranges of other windows are without those.
    fn round(self, subject: &Subject, marks: Vec<Mark>, gone: &[TimeRange]) -> Round {
        let Self { ranges, spans } = self;
        let work = match (ranges.is_empty(), subject.query.is_session()) {
            (true, _) => Work::Nothing,
            (false, true) => Work::Sessions { around: Vec::new(), starts: ranges, gone: gone.to_vec() },
            (false, false) => Work::Windows { ranges, spans },
        };
        Round { query: subject.name().clone(), work, left: 0, marks }
    }
}

impl Ground {
    /// The rounds that bring late rows into the closed windows they belong to, and what views owe their parents into theirs.
    ///
    /// # Errors
    /// [`Error::External`] when the lake does not answer.
    pub(super) async fn late_rounds(&self, subjects: &[Subject]) -> Result<VecDeque<Round>> {
        let of_stream = subjects.iter().filter(|s| s.query.is_of_stream() && s.query.start_column().is_some());
        let of_stream = of_stream.filter(|subject| matches!(subject.query, Query::Windowed(_)));
        let (sessions, windows): (Vec<&Subject>, Vec<&Subject>) = of_stream.partition(|s| s.query.is_session());
        let (days, missing) = (self.rows_by_day().await?, self.missing().await?);
        let mut rounds = VecDeque::new();
        for (subject, touched) in windows.iter().zip(self.touched(&windows, &missing).await?) {
            let mut cut = cut(touched.ranges, subject, &days);
            // The last one says that all is done; a crash before it looks again.
            let last = cut.pop().unwrap_or_default();
            rounds.extend(cut.into_iter().map(|part| part.round(subject, Vec::new(), &[])));
            let mark = Mark::Reconciled { through: self.through, waiting: Vec::new() };
            rounds.push_back(Round { left: touched.left, ..last.round(subject, vec![mark], &[]) });
        }
        rounds.extend(sessions.into_iter().map(|subject| {
            let gone = missing.stays(&subject.query, &self.stream);
            sessions_round(subject, Vec::new(), gone)
        }));
        rounds.extend(self.owed_rounds(subjects).await?);
        Ok(rounds)
    }

    /// The rounds that bring the tables of views up to what those of their parents say.
    ///
    /// # Errors
    /// As [`Ground::late_rounds`].
    pub(super) async fn owed_rounds(&self, subjects: &[Subject]) -> Result<Vec<Round>> {
        let mut rounds = Vec::new();
        let (mut days, mut missing) = (None, None);
        for subject in subjects.iter().filter(|subject| subject.query.parents().next().is_some()) {
            let due = joined(subject.due(self.through));
            if due.is_empty() || subject.query.start_column().is_none() {
                continue;
            }
            if missing.is_none() {
                missing = Some(self.missing().await?);
            }
            let stays = missing.as_ref().map(|missing| missing.stays(&subject.query, &self.stream)).unwrap_or_default();
            if subject.query.is_session() {
                rounds.push(sessions_round(subject, due, stays));
                continue;
            }
            if days.is_none() {
                days = Some(self.rows_by_day().await?);
            }
            let payable = minus(due.clone(), &stays);
            // What cannot be computed any more is not owed for ever.
            let unpayable = minus(due, &payable);
            let parts = cut(payable, subject, days.as_ref().unwrap_or(&BTreeMap::new()));
            if !unpayable.is_empty() {
                let mark = Mark::Paid { through: self.through, times: unpayable, again: Vec::new() };
                rounds.push(Part::default().round(subject, vec![mark], &[]));
            }
            rounds.extend(parts.into_iter().map(|part| part.round(subject, Vec::new(), &[])));
        }
        Ok(rounds)
    }

    /// The rounds that answer the history a query's table does not answer yet, newest first.
    ///
    /// # Errors
    /// As [`Ground::late_rounds`]; [`Error::Usage`] for a table that does not tell its windows.
    pub(super) async fn backfill_rounds(&self, subjects: &[Subject], backfill: Backfill) -> Result<VecDeque<Round>> {
        let Some(first_row) = self.first_row().await? else { return Ok(VecDeque::new()) };
        // What was erased is no part of history that is answered only now; what has expired would be answered in part.
        let (days, expired) = (self.rows_by_day().await?, self.expired().await?);
        let mut rounds = VecDeque::new();
        for subject in subjects {
            if subject.query.is_by_row() {
                rounds.extend(self.missed_rounds(subject, backfill).await?);
                continue;
            }
            let (Some(window), Some(before)) = (subject.query.window(), subject.reach.answers_after) else {
                continue;
            };
            if subject.query.start_column().is_none() {
                if matches!(subject.query, Query::Stateless(_)) {
                    // It never was, and a start asks for the history of all.
                    tracing::warn!(
                        query = subject.name().as_ref(),
                        "not backfilled: it does not select `window_start`"
                    );
                    continue;
                }
                return Err(Error::usage(format!(
                    "`{}` cannot be backfilled: it must select `window_start`",
                    subject.name()
                )));
            }
            let oldest = oldest_start(subject, subjects, first_row);
            let is_session = matches!(window.shape(), WindowShape::Session { .. });
            let (from, all) = match backfill {
                Backfill::From(time) if time > oldest => (start_from(subject, time), false),
                Backfill::All | Backfill::From(_) => (oldest, true),
            };
            // Sessions that end by then start before.
            let to = if is_session { before } else { starts_through(window, before) };
            let stays = expired.stays(&subject.query, &self.stream);
            let asked = if from < to { vec![TimeRange { from, to }] } else { Vec::new() };
            let asked = if is_session { asked } else { minus(asked, &stays) };
            let pieces = cut(asked, subject, &days);
            for part in pieces.into_iter().rev() {
                let start = part.ranges.first().map_or(from, |range| range.from);
                // Where sessions start does not tell which have ended by a time: only all of them are a stretch.
                let answered = Mark::AnswersAfter(Some(end_before(window, start)));
                let marks = if is_session { Vec::new() } else { vec![answered] };
                rounds.push_back(part.round(subject, marks, &stays));
            }
            match rounds.back_mut().filter(|last| last.query == *subject.name()) {
                Some(last) if all => last.marks = vec![Mark::AnswersAfter(None)],
                None if all => rounds.push_back(Part::default().round(subject, vec![Mark::AnswersAfter(None)], &[])),
                _ => {}
            }
        }
        Ok(rounds)
    }

    /// The rounds that restate the closed windows inside `range`, of sessions those that begin in it; newest first.
    ///
    /// # Errors
    /// As [`Ground::late_rounds`]; [`Error::Usage`] where all of these windows lack rows.
    pub(super) async fn written_rounds(&self, subject: &Subject, range: TimeRange) -> Result<VecDeque<Round>> {
        let (Some(window), Some(first_row)) = (subject.query.window(), self.first_row().await?) else {
            return Ok(VecDeque::new());
        };
        let days = self.rows_by_day().await?;
        let from = start_from(subject, range.from.max(oldest_start(subject, &[], first_row)));
        let to = subject.closed_until.map(|until| match subject.query.is_session() {
            true => until.min(range.to),
            false => starts_through(window, until.min(range.to)),
        });
        let windows: Vec<TimeRange> = to.filter(|to| from < *to).map(|to| TimeRange { from, to }).into_iter().collect();
        let stays = self.missing().await?.stays(&subject.query, &self.stream);
        let whole = if subject.query.is_session() { windows.clone() } else { minus(windows.clone(), &stays) };
        if whole != windows {
            let what = format!(
                "rows that windows of `{}` in this range are made of were erased or have expired: what is left of them would \
                 take the place of the answer",
                subject.name()
            );
            if whole.is_empty() {
                return Err(Error::usage(format!("{what}; nothing was written")));
            }
            tracing::warn!("{what}; those windows stay as they are");
        }
        let mut rounds = VecDeque::new();
        let mut answers_after = subject.reach.answers_after;
        for part in cut(whole, subject, &days).into_iter().rev() {
            // What touches the stretch the table answers makes it longer.
            let (start, end) = (part.ranges.first().map(|r| r.from), part.ranges.last().map(|r| r.to));
            let touches = |after: Micros| {
                let answered_from = Some(starts_through(window, after));
                end >= answered_from && start < answered_from && !subject.query.is_session()
            };
            let longer = answers_after.filter(|after| touches(*after)).and(start);
            let mark = longer.map(|start| Mark::AnswersAfter(Some(end_before(window, start))));
            if let Some(Mark::AnswersAfter(after)) = mark {
                answers_after = after;
            }
            rounds.push_back(part.round(subject, mark.into_iter().collect(), &stays));
        }
        Ok(rounds)
    }

    /// For each query, the closed windows that late rows belong to which it has not looked at yet.
    async fn touched(&self, subjects: &[&Subject], missing: &Missing) -> Result<Vec<Touched>> {
        let what = || "looking for late rows";
        let untouched =
            |subject: &&Subject| Touched { stays: missing.stays(&subject.query, &self.stream), ..Touched::default() };
        let mut touched: Vec<Touched> = subjects.iter().map(untouched).collect();
        // The epochs up to which every query has looked need no second look.
        let Some(since) = subjects.iter().map(|s| s.reach.reconciled_through.map_or(-1, signed)).min() else {
            return Ok(touched);
        };
        let event_time = self.event_time();
        let session = self.session().await?;
        let rows = session.table(self.stream.name.as_ref()).await.context(what)?;
        let new = col(provenance::EPOCH).gt(lit(since)).and(col(provenance::LATE));
        // Nobody marked a row for a query that did not run.
        let missed = subjects.iter().fold(Epochs::default(), |all, subject| all.and(&subject.reach.missed));
        let rows = rows.filter(new.or(of_epochs(&missed))).context(what)?;
        let rows = rows.select([event_time, provenance::LATE, provenance::EPOCH].map(col).to_vec()).context(what)?;
        let mut rows = rows.execute_stream().await.context(what)?;
        while let Some(batch) = rows.try_next().await.context(what)? {
            let times = batch.column(0).as_primitive::<TimestampMicrosecondType>();
            let (late, epochs) = (batch.column(1).as_boolean(), batch.column(2).as_primitive::<Int64Type>());
            for (subject, touched) in subjects.iter().zip(&mut touched) {
                let Reach { reconciled_through, missed, .. } = &subject.reach;
                let looked = reconciled_through.map_or(-1, signed);
                for ((&time, late), &epoch) in times.values().iter().zip(late).zip(epochs.values()) {
                    let is_marked = late == Some(true) && epoch > looked;
                    if is_marked || missed.holds(epoch.unsigned_abs()) {
                        touched.note(subject, TimeRange { from: time, to: time.saturating_add(1) });
                    }
                }
            }
        }
        for touched in &mut touched {
            let ranges = few(joined(std::mem::take(&mut touched.ranges)), RANGES_MAX);
            touched.ranges = minus(ranges, &touched.stays);
        }
        Ok(touched)
    }

    /// The event time of the lake's first row.
    async fn first_row(&self) -> Result<Option<Micros>> {
        let what = || "looking for the lake's first row";
        let rows = self.session().await?.table(self.stream.name.as_ref()).await.context(what)?;
        let rows = rows.aggregate(vec![], vec![min(col(self.event_time()))]).context(what)?;
        let rows = rows.collect().await.context(what)?;
        let first = rows.iter().flat_map(|batch| batch.column(0).as_primitive::<TimestampMicrosecondType>().iter());
        Ok(first.flatten().min())
    }

    /// Rows of the stream by day, from the log: what bounds a round. Tables partitioned by something else than the date of
    /// the event time only make rounds of other sizes.
    async fn rows_by_day(&self) -> Result<BTreeMap<i32, u64>> {
        let mut days = BTreeMap::new();
        if let Some(table) = self.tables.get(&self.stream.name) {
            for file in table.live_files().await? {
                *days.entry(file.partition).or_default() += file.rows.unwrap_or(0);
            }
        }
        Ok(days)
    }

    pub(super) fn event_time(&self) -> &str {
        self.stream.stream.as_ref().map_or("", |stream| stream.event_time.as_ref())
    }
}

/// A look at sessions: of the stream, which of them late rows belong to is found when it is done.
fn sessions_round(subject: &Subject, around: Vec<TimeRange>, gone: Vec<TimeRange>) -> Round {
    let work = Work::Sessions { around, starts: Vec::new(), gone };
    Round { query: subject.name().clone(), work, left: 0, marks: Vec::new() }
}

/// Where the first window of a query can start; that of a parent it reads may start before the lake's first row.
fn oldest_start(subject: &Subject, subjects: &[Subject], first_row: Micros) -> Micros {
    let of_parent = |parent: &ViewDriver| match subjects.iter().find(|subject| *subject.name() == parent.name) {
        Some(parent) => oldest_start(parent, subjects, first_row),
        None => first_start_of(parent.window(), first_row),
    };
    let first_row = subject.query.parents().map(of_parent).min().unwrap_or(first_row);
    match (&subject.query, subject.query.window()) {
        (Query::Windowed(_), Some(window)) => first_start_of(window, first_row),
        // Its windows are the parent's.
        _ => first_row,
    }
}

/// The first window that starts at or after a time; a session may start anywhere.
fn start_from(subject: &Subject, time: Micros) -> Micros {
    match subject.query.window() {
        Some(window) if !matches!(window.shape(), WindowShape::Session { .. }) => first_start_from(window, time),
        _ => time,
    }
}

/// The closed windows that late rows of one query belong to.
#[derive(Clone, Debug, Default)]
struct Touched {
    ranges: Vec<TimeRange>,
    /// Those that cannot be computed any more, in order and apart.
    stays: Vec<TimeRange>,
    /// Late rows that belong to some of these.
    left: u64,
}

impl Touched {
    /// Notes the windows of a late row, unless they are open, noted, or not this text's to answer.
    fn note(&mut self, subject: &Subject, times: TimeRange) {
        let Some(window) = subject.query.window() else { return };
        let Some(windows) = closed_windows_of(window, times, subject.closed_until) else { return };
        let after = subject.reach.answers_after.map(|after| window.counted_from(Some(after)));
        if after.is_some_and(|after| windows.to <= after) {
            return;
        }
        self.left += u64::from(overlaps(windows, &self.stays));
        if self.ranges.last() != Some(&windows) {
            self.ranges.push(windows);
            if self.ranges.len() > 2 * RANGES_MAX {
                self.ranges = few(joined(std::mem::take(&mut self.ranges)), RANGES_MAX);
            }
        }
    }
}

pub(super) fn signed(epoch: u64) -> i64 {
    i64::try_from(epoch).unwrap_or(i64::MAX)
}
