//! Restating sessions: which of them late rows lengthen, join or begin is found by forming them again.
//!
//! The one law: a late row counts once its session has closed, with every row it would have had. A late row that would
//! reach into a session still open *waits*, named by epoch and time in the slot; the rows of closed sessions beside it stay
//! as they are until then. So the rows that count are those on time, and all late ones up to the epoch looked at that do
//! not wait; a table holds the sessions over these that have closed. Over the rows of a view every row counts.
//!
//! Rows are replaced by ranges of `window_start` that hold every session touched, as it was and as it is; whatever else
//! begins in them is formed again, and comes out as it was. Why no session that is open in the stream is touched: all its
//! rows are among those read, so whatever joins one of them ends after what has closed. Sessions with rows within a gap of
//! rows that are gone for good stay as they are, whatever late rows would make of them; so does all that begins in them.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use arrow::array::{AsArray, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::TimestampMicrosecondType;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::prelude::SessionContext;
use futures::TryStreamExt;

use super::cut::few;
use super::late::{Late, times_and_epochs};
use super::missing::{minus, overlaps};
use super::{Ground, Mark, Query, Restatement, Subject};
use crate::clock::Micros;
use crate::epoch::Owed;
use crate::error::{Context, Error, Result};
use crate::lake::within;
use crate::sql::{TimeRange, WindowedQuery};
use crate::window::{OpenWindows, WindowShape, count_windows, joined, session_bounds};

/// Gaps read at first on both sides of a late row: most sessions are shorter.
const GAPS_FIRST: i64 = 64;
/// How much further each time: all readings together cost a third more than the last.
const FURTHER: i64 = 4;
/// Stretches that are formed on their own; beyond that neighbours are joined. Each is a plan and some ranges of the slot.
const STRETCHES_MAX: usize = 256;
/// Late rows that may wait: the slots name each, in some forty bytes. More of them wait unnamed: the look is not decided
/// and comes again, until sessions have closed.
const WAITING_MAX: usize = 2_000;

/// Start and end of a session.
type Bounds = (Micros, Micros);

/// A query's sessions, as they are formed again.
struct Former<'a> {
    ground: &'a Ground,
    session: SessionContext,
    subject: &'a Subject,
    query: &'a Arc<WindowedQuery>,
    gap: Micros,
    until: Micros,
    late: Late,
    /// Times of rows that are gone, in order and apart.
    gone: &'a [TimeRange],
}

/// Rows of one stretch of time, formed.
struct Formed {
    /// Where their sessions stand that begin and end in sight.
    open: OpenWindows,
    /// Partial rows of late rows, by epoch, with the bounds of the session each would be in.
    late: Vec<(i64, RecordBatch, Vec<Bounds>)>,
    /// Bounds of all sessions.
    bounds: Vec<Bounds>,
}

/// What is looked for in a stretch.
#[derive(Clone, Copy, Debug)]
enum Aim {
    /// Sessions of late rows at these times.
    Late(TimeRange),
    /// Sessions that have, or had, rows at these times.
    Around(TimeRange),
    /// Sessions that begin in this range.
    Starts(TimeRange),
}

/// What restating a stretch gives.
#[derive(Debug, Default)]
struct Stretch {
    range: Option<TimeRange>,
    rows: Vec<RecordBatch>,
    windows: u64,
    /// The end of its last session.
    until: Option<Micros>,
    /// Of [`Aim::Starts`]: sessions that end after this begin in the range, or later.
    begun_by: Option<Micros>,
    waiting: BTreeSet<(i64, Micros)>,
    /// Ends of sessions that are open still.
    open: Vec<Micros>,
    /// Sessions that lack rows, from their first time past their end; and the late rows of those that have closed.
    stays: Vec<TimeRange>,
    left: u64,
}

impl Ground {
    /// Restates sessions; see [`Work::Sessions`](super::rounds::Work).
    pub(super) async fn restate_sessions(
        &self,
        subject: &Subject,
        (around, starts): (&[TimeRange], &[TimeRange]),
        gone: &[TimeRange],
        mut marks: Vec<Mark>,
    ) -> Result<Restatement> {
        let (Query::Windowed(query), Some(until)) = (&subject.query, subject.closed_until) else {
            return Ok(Restatement::of_marks(subject.name(), self.through, marks));
        };
        let WindowShape::Session { gap } = query.window().shape() else {
            return Err(Error::broken(format!("`{}` has no sessions", query.name())));
        };
        let is_of_stream = subject.query.is_of_stream();
        let session = self.session().await?;
        let late = if is_of_stream { self.late_of(&session, subject, query, until).await? } else { Late::default() };
        let former = Former { ground: self, session, subject, query, gap, until, late, gone };
        let (mut ranges, mut stretches) = (Vec::<TimeRange>::new(), Vec::new());
        let mut waiting = BTreeSet::new();
        let mut open = Vec::new();
        for aim in former.aims(around, starts) {
            // What a stretch before has formed is not formed twice.
            let mut stretch = former.form(aim, &ranges).await?;
            waiting.append(&mut stretch.waiting);
            open.append(&mut stretch.open);
            ranges.extend(stretch.range);
            stretches.push(stretch);
        }
        if waiting.len() > WAITING_MAX {
            tracing::warn!(
                query = query.name().as_ref(),
                "more than {WAITING_MAX} late rows belong to sessions that are open; they are looked at again"
            );
            return Ok(Restatement::of_marks(subject.name(), self.through, Vec::new()));
        }
        if is_of_stream {
            let waits = |(epoch, time): (i64, Micros)| {
                Owed::new(u64::try_from(epoch).unwrap_or_default(), time, time.saturating_add(1))
            };
            let waiting = waiting.into_iter().map(waits).collect();
            marks.push(Mark::Reconciled { through: self.through, waiting });
        } else {
            open.sort_unstable();
            open.dedup();
            let again = |end: Micros| Owed::new(self.through, end, end.saturating_add(1));
            let again = open.into_iter().map(again).collect();
            marks.push(Mark::Paid { through: self.through, times: around.to_vec(), again });
        }
        marks.extend(answered(subject, starts, &stretches, &marks));
        let left = stretches.iter().map(|stretch| stretch.left).sum();
        let stays = stretches.iter().flat_map(|stretch| stretch.stays.iter().copied()).chain(former.near_gone());
        let ranges = minus(joined(ranges), &joined(stays.collect()));
        if ranges.is_empty() {
            return Ok(Restatement { left, ..Restatement::of_marks(subject.name(), self.through, marks) });
        }
        let windows = stretches.iter().map(|stretch| stretch.windows).sum();
        // Rows of a view may have gone: sessions may have ended later than any does now.
        let last = if is_of_stream { stretches.iter().filter_map(|stretch| stretch.until).max() } else { Some(until) };
        let rows = stretches.into_iter().flat_map(|stretch| stretch.rows);
        let rows = rows.map(|rows| beginning_in(subject, &rows, &ranges)).collect::<Result<Vec<RecordBatch>>>()?;
        let schema = self.table(query.name())?.schema();
        let rows = Box::pin(RecordBatchStreamAdapter::new(schema, futures::stream::iter(rows.into_iter().map(Ok))));
        let (restated, replaced) = self.replace(subject, &ranges, rows).await?;
        let nothing = Restatement::of_marks(subject.name(), self.through, marks);
        let closed_until = Some(until);
        Ok(Restatement { restated, replaced, windows, closed_until, until: last, left, ..nothing })
    }
}

impl Former<'_> {
    /// Stretches in order of time.
    fn aims(&self, around: &[TimeRange], starts: &[TimeRange]) -> Vec<Aim> {
        let near = |times: Vec<TimeRange>| {
            let reach = self.gap.saturating_mul(GAPS_FIRST);
            let mut stretches: Vec<TimeRange> = Vec::new();
            for time in joined(times) {
                match stretches.last_mut() {
                    Some(last) if time.from.saturating_sub(last.to) <= reach => last.to = time.to,
                    _ => stretches.push(time),
                }
            }
            few(stretches, STRETCHES_MAX)
        };
        let late = self.late.0.iter().map(|&(_, time)| TimeRange { from: time, to: time.saturating_add(1) });
        let mut aims: Vec<(Micros, Aim)> = Vec::new();
        aims.extend(near(late.collect()).into_iter().map(|times| (times.from, Aim::Late(times))));
        aims.extend(near(around.to_vec()).into_iter().map(|times| (times.from, Aim::Around(times))));
        aims.extend(starts.iter().map(|range| (range.from, Aim::Starts(*range))));
        aims.sort_unstable_by_key(|(from, _)| *from);
        aims.into_iter().map(|(_, aim)| aim).collect()
    }

    /// Forms the sessions of a stretch, reading as far as they reach; leaves out those that begin in
    /// `formed_before`.
    async fn form(&self, aim: Aim, formed_before: &[TimeRange]) -> Result<Stretch> {
        let (Aim::Late(times) | Aim::Around(times) | Aim::Starts(times)) = aim;
        let mut reach = self.gap.saturating_mul(GAPS_FIRST);
        // No row after what has closed decides on what has.
        let last = self.until.saturating_add(1).max(times.to);
        loop {
            let read =
                TimeRange { from: times.from.saturating_sub(reach), to: times.to.saturating_add(reach).min(last) };
            let formed = self.read(read).await?;
            let waiting = self.waiting(&formed);
            let range = self.range(&formed, aim);
            let in_sight = range.is_none_or(|range| {
                let is_begun = matches!(aim, Aim::Starts(_)) || range.from > read.from.saturating_add(self.gap);
                let is_cut =
                    |(start, end): &(Micros, Micros)| *start >= range.from && *start < range.to && *end >= read.to;
                is_begun && (read.to >= last || !formed.bounds.iter().any(is_cut))
            });
            // Whether a late row waits, only the end of its session tells.
            let is_told = |(start, end): (Micros, Micros)| {
                (read.to >= last || end < read.to) && start > read.from.saturating_add(self.gap)
            };
            let late_told = formed.late_at(times).all(is_told);
            if read.from == Micros::MIN || (in_sight && (late_told || !matches!(aim, Aim::Late(_)))) {
                return self.finish(formed, range, &waiting, aim, formed_before).await;
            }
            reach = reach.saturating_mul(FURTHER);
        }
    }

    /// All rows of some times, late ones apart.
    async fn read(&self, times: TimeRange) -> Result<Formed> {
        let what = || format!("reading the sessions of `{}`", self.query.name());
        let rejoin = self.ground.rejoin(&self.session);
        let is_of_stream = self.subject.query.is_of_stream();
        let mut open = OpenWindows::new(self.query.clone());
        let mut late: Vec<(i64, RecordBatch)> = Vec::new();
        // Sessions are joined with no other windows: there is one driver.
        for part in rejoin.parts(&self.subject.query, self.query.driver(), times).await? {
            let bound = self.query.joined_with(&self.ground.load(self.subject, part.versions.as_ref()).await?.rows)?;
            let mut rows = rejoin.rows(self.query.driver(), part.wanted, true).await?;
            while let Some(batch) = rows.try_next().await.context(what)? {
                let on_time = match is_of_stream {
                    true => self.set_late_aside(&batch, &bound, &mut late).await?,
                    false => batch,
                };
                open.fold(bound.partial(&[on_time]).await?).await?;
            }
        }
        let all: Vec<RecordBatch> = late.iter().map(|(_, rows)| rows.clone()).chain(open.state().to_vec()).collect();
        let bounds = session_bounds(self.query, &all)?;
        let mut from = 0;
        let late = late.into_iter().map(|(epoch, rows)| {
            let own = bounds[from..from + rows.num_rows()].to_vec();
            from += rows.num_rows();
            (epoch, rows, own)
        });
        let late = late.collect();
        Ok(Formed { open, late, bounds })
    }

    /// The rows that count already; the others become partial rows by epoch.
    async fn set_late_aside(
        &self,
        batch: &RecordBatch,
        bound: &WindowedQuery,
        late: &mut Vec<(i64, RecordBatch)>,
    ) -> Result<RecordBatch> {
        let what = || format!("setting late rows of `{}` aside", self.query.name());
        let columns: Vec<usize> = (0..batch.num_columns() - 1).collect();
        let rows = batch.project(&columns).context(what)?;
        let time = rows.schema_ref().index_of(self.ground.event_time()).context(what)?;
        let (times, epochs) = times_and_epochs(batch, time)?;
        let pairs: Vec<(i64, Micros)> = epochs.into_iter().zip(times).collect();
        let is_late: Vec<bool> = pairs.iter().map(|pair| self.late.0.contains(pair)).collect();
        if !is_late.contains(&true) {
            return Ok(rows);
        }
        let found = pairs.iter().zip(&is_late).filter(|(_, late)| **late).map(|((epoch, _), _)| *epoch);
        for epoch in found.collect::<BTreeSet<i64>>() {
            let own: BooleanArray =
                pairs.iter().zip(&is_late).map(|((e, _), late)| Some(*late && *e == epoch)).collect();
            let own = filter_record_batch(&rows, &own).context(what)?;
            // Each row by itself: which of them wait is told by their times.
            let partials = bound.partial_apart(&[own]).await?;
            late.extend(partials.into_iter().filter(|rows| rows.num_rows() > 0).map(|rows| (epoch, rows)));
        }
        let others: BooleanArray = is_late.iter().map(|late| Some(!*late)).collect();
        filter_record_batch(&rows, &others).context(what)
    }

    /// The late rows in sight whose session has not closed.
    fn waiting(&self, formed: &Formed) -> HashSet<(i64, Micros)> {
        let mut waiting = HashSet::new();
        for (epoch, rows, bounds) in &formed.late {
            let starts = rows.column(self.query.window_start_column()).as_primitive::<TimestampMicrosecondType>();
            for (time, (_, end)) in starts.values().iter().zip(bounds) {
                if *end > self.until {
                    waiting.insert((*epoch, *time));
                }
            }
        }
        waiting
    }

    /// Where the sessions begin that are restated, and those that they replace.
    fn range(&self, formed: &Formed, aim: Aim) -> Option<TimeRange> {
        match aim {
            Aim::Starts(range) => Some(range),
            Aim::Late(times) => {
                let settled = formed.late_at(times).filter(|(_, end)| *end <= self.until);
                settled
                    .map(|(from, to)| TimeRange { from, to })
                    .reduce(|a, b| TimeRange { from: a.from.min(b.from), to: a.to.max(b.to) })
            }
            Aim::Around(times) => {
                // Rows before these times are as they were: what ends near them began where it begins now. What they held
                // together may have come apart: its second part begins within a gap after them.
                let reaching = formed.bounds.iter().filter(|(start, end)| *start < times.from && *end >= times.from);
                let from = reaching.map(|(start, _)| *start).min().unwrap_or(times.from);
                Some(TimeRange { from, to: times.to.saturating_add(self.gap).saturating_add(1) })
            }
        }
    }

    /// The sessions in sight that lack rows, in order and apart; and how many late rows looked for belong to those that have
    /// closed.
    fn lacking(&self, formed: &Formed, aim: Aim) -> (Vec<TimeRange>, u64) {
        if self.gone.is_empty() {
            return (Vec::new(), 0);
        }
        // Rows within a gap of each other are of one session, and so were those that are gone.
        let lacks = |&(start, end): &Bounds| {
            overlaps(TimeRange { from: start.saturating_sub(self.gap), to: end.saturating_add(1) }, self.gone)
        };
        let sessions = formed.bounds.iter().filter(|bounds| lacks(bounds));
        let sessions = sessions.map(|&(from, end)| TimeRange { from, to: end.saturating_add(1) });
        let stays = joined(sessions.collect());
        let Aim::Late(times) = aim else { return (stays, 0) };
        let mut left = 0;
        for (_, rows, bounds) in &formed.late {
            let starts = rows.column(self.query.window_start_column()).as_primitive::<TimestampMicrosecondType>();
            let here = starts.values().iter().zip(bounds).filter(|(time, _)| times.from <= **time && **time < times.to);
            left += here.filter(|(_, bounds)| bounds.1 <= self.until && lacks(bounds)).count() as u64;
        }
        (stays, left)
    }

    /// Times within a gap of rows that are gone: where sessions began that had no others.
    fn near_gone(&self) -> impl Iterator<Item = TimeRange> {
        let widened = |times: &TimeRange| TimeRange {
            from: times.from.saturating_sub(self.gap),
            to: times.to.saturating_add(self.gap),
        };
        self.gone.iter().map(widened)
    }

    /// Closes the sessions over the rows that count and answers those that begin in `range`.
    async fn finish(
        &self,
        formed: Formed,
        range: Option<TimeRange>,
        waiting: &HashSet<(i64, Micros)>,
        aim: Aim,
        formed_before: &[TimeRange],
    ) -> Result<Stretch> {
        let what = || format!("forming sessions of `{}` again", self.query.name());
        let (start, end) = (self.query.window_start_column(), self.query.window_end_column());
        let mut stretch = Stretch::default();
        // Of others the end of their session may be out of sight: they are looked at for themselves.
        if let Aim::Late(times) = aim {
            let here = |(_, time): &&(i64, Micros)| times.from <= *time && *time < times.to;
            stretch.waiting = waiting.iter().filter(here).copied().collect();
        }
        let Some(range) = range else { return Ok(stretch) };
        (stretch.stays, stretch.left) = self.lacking(&formed, aim);
        let stays = stretch.stays.clone();
        let within = |range: &TimeRange, time: Micros| range.from <= time && time < range.to;
        let is_left = |time: Micros| overlaps(TimeRange { from: time, to: time.saturating_add(1) }, &stays);
        let is_wanted = |time: Micros| {
            within(&range, time) && !formed_before.iter().any(|range| within(range, time)) && !is_left(time)
        };
        let Formed { mut open, late, bounds } = formed;
        for (epoch, rows, _) in late {
            let times = rows.column(start).as_primitive::<TimestampMicrosecondType>();
            let counts: BooleanArray =
                times.values().iter().map(|time| Some(!waiting.contains(&(epoch, *time)))).collect();
            open.fold(vec![filter_record_batch(&rows, &counts).context(what)?]).await?;
        }
        let mut closing = open.close(None, self.until).await?;
        let mut closed = Vec::new();
        while let Some((_, partials)) = closing.next_piece()? {
            closed.extend(partials);
        }
        let begins = |rows: &RecordBatch| -> Result<RecordBatch> {
            let starts = rows.column(start).as_primitive::<TimestampMicrosecondType>();
            let wanted: BooleanArray = starts.values().iter().map(|time| Some(is_wanted(*time))).collect();
            filter_record_batch(rows, &wanted).context(what)
        };
        if matches!(aim, Aim::Starts(_)) {
            let before = bounds.iter().filter(|(start, _)| *start < range.from).map(|(_, end)| *end);
            stretch.begun_by = before.chain([range.from]).max();
        }
        let closed = closed.iter().map(begins).collect::<Result<Vec<_>>>()?;
        let closed: Vec<RecordBatch> = closed.into_iter().filter(|rows| rows.num_rows() > 0).collect();
        for rows in &closed {
            let ends = rows.column(end).as_primitive::<TimestampMicrosecondType>();
            stretch.until = stretch.until.max(ends.values().iter().copied().max());
        }
        for (begun, ends) in session_bounds(self.query, open.state())? {
            if is_wanted(begun) {
                stretch.open.push(ends);
            }
        }
        stretch.windows = count_windows(self.query, &closed)?;
        stretch.rows = self.query.finish(closed).await?;
        // What begins later has not closed.
        let to = range.to.min(self.until);
        stretch.range = (range.from < to).then_some(TimeRange { to, ..range });
        Ok(stretch)
    }
}

/// The rows of a query's table whose session begins in one of the ranges.
fn beginning_in(subject: &Subject, rows: &RecordBatch, ranges: &[TimeRange]) -> Result<RecordBatch> {
    let Some(column) = subject.query.start_column() else { return Ok(rows.clone()) };
    let bounds: Vec<Bounds> = ranges.iter().map(|range| (range.from, range.to)).collect();
    let wanted = within(rows, column, &bounds)?;
    filter_record_batch(rows, &wanted).context(|| format!("forming sessions of `{}` again", subject.name()))
}

/// Where sessions start does not tell which have ended by a time; but of those formed here the ones that reach in from before
/// are seen. So history that goes up to what the table answers makes that longer.
fn answered(subject: &Subject, starts: &[TimeRange], stretches: &[Stretch], marks: &[Mark]) -> Option<Mark> {
    let ([range], Some(after)) = (starts, subject.reach.answers_after) else { return None };
    let told = marks.iter().any(|mark| matches!(mark, Mark::AnswersAfter(_)));
    let begun_by = stretches.iter().find_map(|stretch| stretch.begun_by)?;
    (!told && range.to >= after && begun_by < after).then_some(Mark::AnswersAfter(Some(begun_by)))
}

impl Formed {
    /// The bounds of the sessions of late rows at some times.
    fn late_at(&self, times: TimeRange) -> impl Iterator<Item = (Micros, Micros)> {
        let bounds = self.late.iter().flat_map(|(_, _, bounds)| bounds.iter().copied());
        // A session's bounds hold the times of all its rows.
        bounds.filter(move |(start, end)| *start < times.to && times.from < *end)
    }
}
