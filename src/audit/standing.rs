//! What the slots say of one standing query over time: when it ran under its present text, and how far it had closed.
//!
//! The one law: a row counts in window `w` exactly if `w.end` is after what the query had closed by the slot before the
//! row's epoch. (Of sessions a row counts as a whole: exactly if its time is after that.) Everything about windows here is plain arithmetic of its own, not the engine's.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};

use super::history::{History, Step};
use super::restated::Restatements;
use crate::clock::Micros;
use crate::epoch::{Epochs, Owed, QueryProgress};
use crate::error::{Context, Result};
use crate::sql::{Driver, Grid, Place, StandingQuery, ViewDriver, WindowShape, WindowedQuery};

/// A query's windows, as the audit asks for them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Windows {
    shape: WindowShape,
}

impl Windows {
    pub(super) fn of(query: &WindowedQuery) -> Self {
        Self { shape: query.window().shape() }
    }

    /// Whether which rows make a window is told by the rows alone.
    pub(super) fn is_session(self) -> bool {
        matches!(self.shape, WindowShape::Session { .. })
    }

    /// Of sessions: how far apart two rows of one are at most.
    pub(super) fn gap(self) -> Option<Micros> {
        match self.shape {
            WindowShape::Session { gap } => Some(gap),
            _ => None,
        }
    }

    /// Whether one of the windows of `time` was closed by `until`, as SQL over two expressions of microseconds.
    pub(super) fn refuses_sql(self, time: &str, until: &str) -> String {
        match self.shape {
            WindowShape::Session { .. } => format!("{time} <= {until}"),
            _ => format!("{} <= {until}", self.first_end_sql(time)),
        }
    }

    /// The end of the window of `time` that ends first, as SQL in microseconds: of every kind that stands on marks the
    /// next of these. (Only calendars know those of a time zone; their marks are asked for.)
    fn first_end_sql(self, time: &str) -> String {
        let Some(grid) = self.grid() else { return time.to_owned() };
        let length = grid.length();
        match grid.place() {
            Place::Offset(offset) => {
                format!("({time} - ((({time} - {offset}) % {length}) + {length}) % {length} + {length})")
            }
            Place::Zone(zone) => format!("CAST(tumble_end({}, {length}, '{}') AS BIGINT)", as_time(time), zone.name()),
        }
    }

    /// The end of the window that starts at `start`, in SQL of microseconds, where the start tells it.
    pub(super) fn end_of_start_sql(self, start: &str) -> Option<String> {
        let (grid, cells) = match self.shape {
            WindowShape::Tumble(grid) => (grid, 1),
            WindowShape::Hop { slides, cells } => (slides, cells),
            WindowShape::Cumulate { .. } | WindowShape::Session { .. } => return None,
        };
        let length = grid.length();
        Some(match grid.place() {
            Place::Offset(_) => format!("({start} + {})", length.saturating_mul(cells)),
            Place::Zone(zone) => format!(
                "CAST(hop_end({}, {length}, {}, '{}') AS BIGINT)",
                as_time(start),
                length.saturating_mul(cells),
                zone.name()
            ),
        })
    }

    /// Whether a window that begins at a time, or after it as soon as one may, has closed.
    fn closes(self, start: Micros, until: Option<Micros>) -> bool {
        let end = match self.shape {
            WindowShape::Session { .. } => start,
            WindowShape::Tumble(grid) | WindowShape::Cumulate { steps: grid, .. } => {
                grid.mark(grid.last_mark(start).saturating_add(1))
            }
            WindowShape::Hop { slides, cells } => slides.mark(slides.last_mark(start).saturating_add(cells)),
        };
        until.is_some_and(|until| end <= until)
    }

    /// Of the windows of the last start before `to`: the end of the one that ends first. Of a session no less than its start.
    pub(super) fn first_end_before(self, to: Micros) -> Micros {
        let last = to.saturating_sub(1);
        match self.shape {
            WindowShape::Session { .. } => last,
            WindowShape::Tumble(grid) => grid.mark(grid.last_mark(last).saturating_add(1)),
            WindowShape::Hop { slides, cells } => slides.mark(slides.last_mark(last).saturating_add(cells)),
            WindowShape::Cumulate { steps, cells } => {
                let mark = steps.last_mark(last);
                steps.mark(mark.saturating_sub(mark.rem_euclid(cells)).saturating_add(1))
            }
        }
    }

    /// What may be closed once the watermark, less the lateness, has reached a time.
    pub(super) fn closed_at(self, time: Micros) -> Micros {
        match (self.grid(), self.grid().map(|grid| grid.place())) {
            (Some(grid), Some(Place::Offset(offset))) => {
                time.saturating_sub((time.saturating_sub(offset)).rem_euclid(grid.length()))
            }
            (Some(grid), _) => grid.mark(grid.last_mark(time)),
            // A row exactly at a session's end still joins it.
            (None, _) => time.saturating_sub(1),
        }
    }

    fn grid(self) -> Option<Grid> {
        match self.shape {
            WindowShape::Tumble(grid)
            | WindowShape::Hop { slides: grid, .. }
            | WindowShape::Cumulate { steps: grid, .. } => Some(grid),
            WindowShape::Session { .. } => None,
        }
    }
}

fn as_time(micros: &str) -> String {
    format!("arrow_cast({micros}, 'Timestamp(Microsecond, Some(\"UTC\"))')")
}

/// Late rows that do not count yet, by epoch and time.
fn waiting(progress: &QueryProgress) -> BTreeSet<(i64, Micros)> {
    let signed = |epoch: u64| i64::try_from(epoch).unwrap_or(i64::MAX);
    let times = |owed: &Owed| (owed.from..owed.to).map(|time| (signed(owed.epoch), time)).collect::<Vec<_>>();
    progress.waiting.iter().flat_map(times).collect()
}

/// The epochs a query ran in under its present text.
#[derive(Clone, Debug)]
pub(super) struct Life {
    pub name: Arc<str>,
    fingerprint: String,
    /// Of a query over windows.
    pub window: Option<Windows>,
    /// The column of its table that tells where a row's window starts: without one nothing is restated.
    pub start: Option<Arc<str>>,
    lateness: Micros,
    /// Whose rows it folds: the stream's, unless it reads other views.
    pub parents: Vec<(ViewDriver, Arc<Life>)>,
    /// The first slot that names the present text.
    pub first_epoch: u64,
    /// What had been closed before that; of a query without windows, by the view it reads.
    pub closed_before: Option<Micros>,
    /// What is closed at the end.
    pub closed_until: Option<Micros>,
    /// Another text ran before.
    pub edited: bool,
    /// What was restated under the present text.
    pub restated: Restatements,
    /// Of sessions: up to which epoch late rows count, and which do not yet, as (epoch, time).
    pub reconciled: Option<(u64, BTreeSet<(i64, Micros)>)>,
    /// Whether windows that have closed lack what its parent's table says.
    pub owes: bool,
    /// There were slots in which it did not run, under its present text.
    pub was_away: bool,
    /// Of a query without windows: earlier epochs that were answered under the present text.
    answered: Epochs,
}

/// Why a query's table is not compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Untold {
    /// No slot names the query: it has not run yet.
    NeverRan,
    /// Its file was changed after it last ran.
    EditedSince,
}

impl Life {
    /// Follows a query through the slots up to an epoch; `lives` are those of the views it may read.
    pub(super) fn of(
        query: &StandingQuery,
        history: &History,
        published: Option<u64>,
        lives: &[(&StandingQuery, Arc<Self>)],
    ) -> std::result::Result<Self, Untold> {
        let (window, lateness) = match query {
            StandingQuery::Windowed(query) => (Some(Windows::of(query)), query.allowed_lateness()),
            StandingQuery::Stateless(_) => (None, 0),
        };
        let mut parents = Vec::new();
        for driver in query.drivers() {
            let Driver::View(driver) = driver else { continue };
            match lives.iter().find(|(query, _)| *query.name() == driver.name) {
                Some((_, life)) => parents.push((driver.clone(), Arc::clone(life))),
                None => return Err(Untold::NeverRan),
            }
        }
        let mut life = Self {
            parents,
            name: Arc::clone(query.name()),
            fingerprint: query.fingerprint().to_owned(),
            window,
            start: query.start_column().cloned(),
            lateness,
            first_epoch: 0,
            closed_before: None,
            closed_until: None,
            edited: false,
            restated: Restatements::default(),
            reconciled: None,
            owes: false,
            was_away: false,
            answered: Epochs::default(),
        };
        let (mut named, mut present) = (false, false);
        for (epoch, step) in history.through(published) {
            let Some(progress) = step.queries.get(&life.name) else { continue };
            let same = progress.fingerprint == life.fingerprint;
            if same && !present {
                life.first_epoch = epoch;
                life.edited = named;
                life.closed_before = match (&life.window, life.parents.first()) {
                    // The windows of its rows are those of the view they come from.
                    (None, Some((_, parent))) => parent.closed_before_epoch(history, epoch),
                    _ => life.closed_before_epoch(history, epoch),
                };
            }
            (named, present) = (true, same);
            if let Some(restated) = step.restated.get(&life.name).filter(|_| same) {
                life.restated.add(restated);
            }
            if let Some(answered) = step.answered.get(&life.name).filter(|_| same) {
                life.answered = std::mem::take(&mut life.answered).and(answered);
            }
            life.was_away |= same && !progress.running;
            life.closed_until = progress.closed_until;
            life.reconciled = progress.reconciled_through.map(|through| (through, waiting(progress)));
            let until = life.closed_until;
            let is_due = |owed: &Owed| {
                let is_unpaid = owed.paid_until.is_none_or(|paid| Some(paid) < until);
                is_unpaid && window.is_none_or(|window| window.closes(owed.from, until))
            };
            life.owes = progress.owed.iter().any(is_due);
        }
        match (named, present) {
            (false, _) => Err(Untold::NeverRan),
            (true, false) => Err(Untold::EditedSince),
            (true, true) => Ok(life),
        }
    }

    /// Whether the query ran in an epoch, under its present text.
    pub(super) fn ran_in(&self, epoch: u64, step: &Step) -> bool {
        epoch >= self.first_epoch
            && step.queries.get(&self.name).is_some_and(|q| q.running && q.fingerprint == self.fingerprint)
    }

    /// Of a query without windows: whether its table has the answer to the rows of an epoch.
    pub(super) fn answers(&self, epoch: u64, step: &Step) -> bool {
        self.ran_in(epoch, step) || self.answered.holds(epoch)
    }

    /// Its windows and whose they are: of a query without any those of the view it reads.
    pub(super) fn windows(&self) -> Option<(&Arc<str>, Windows)> {
        match self.window {
            Some(window) => Some((&self.name, window)),
            None => self.parents.first().and_then(|(_, parent)| parent.windows()),
        }
    }

    /// What the query had closed before an epoch's rows were read. A query met for the first time starts at its first
    /// whole window: the one the watermark stands in.
    pub(super) fn closed_before_epoch(&self, history: &History, epoch: u64) -> Option<Micros> {
        let before = history.before(epoch)?;
        match before.queries.get(&self.name) {
            Some(progress) => progress.closed_until,
            // Older rows count in whatever window was open when the query came.
            None if epoch < self.first_epoch => None,
            None => {
                // The lateness it had then may be another one now.
                let began = history.steps.get(&epoch).and_then(|step| step.queries.get(&self.name)?.answers_after);
                if began.is_some() {
                    return began;
                }
                let reached = |(driver, parent): &(ViewDriver, Arc<Self>)| {
                    parent.closed_before_epoch(history, epoch).map(|until| driver.watermark(until))
                };
                // Of several parents the one that is furthest behind; `None` is less than any time.
                let watermark = match self.parents.as_slice() {
                    [] => before.watermark?,
                    parents => parents.iter().map(reached).min().flatten()?,
                };
                Some(self.window?.closed_at(watermark.saturating_sub(self.lateness)))
            }
        }
    }
}

/// One row an epoch: its number, then for each query what it had closed before (null: nothing) as the columns
/// `until_0`, `until_1`, …
pub(super) fn bounds(
    history: &History,
    published: Option<u64>,
    lives: &[&Life],
    wanted: impl Fn(u64, &Step) -> bool,
    until: impl Fn(&Life, u64, &Step) -> Option<Micros>,
) -> Result<RecordBatch> {
    let steps: Vec<(u64, &Step)> = history.through(published).filter(|(epoch, step)| wanted(*epoch, step)).collect();
    let epochs = steps.iter().map(|(epoch, _)| i64::try_from(*epoch).unwrap_or(i64::MAX));
    let mut columns: Vec<(String, ArrayRef, bool)> =
        vec![("epoch".into(), Arc::new(Int64Array::from_iter_values(epochs)), false)];
    for (index, life) in lives.iter().enumerate() {
        let bounds = steps.iter().map(|(epoch, step)| until(life, *epoch, step));
        columns.push((format!("until_{index}"), Arc::new(Int64Array::from_iter(bounds)), true));
    }
    RecordBatch::try_from_iter_with_nullable(columns).context(|| "listing what queries had closed")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use super::*;
    use crate::contract::TableContract;
    use crate::epoch::Kind;
    use crate::sql::{self, QueryFile};

    async fn query() -> StandingQuery {
        let text = "CREATE MATERIALIZED VIEW q WITH (allowed_lateness = '5 seconds') AS SELECT window_start, \
                    CAST(window_start AS DATE) AS event_date, count(*) AS n \
                    FROM TUMBLE(transactions, event_time, INTERVAL '10 seconds') GROUP BY window_start, window_end";
        let file = QueryFile::parse(Path::new("q.sql"), text).unwrap();
        let contract = std::fs::read_to_string("lake/transactions.sql").unwrap();
        let stream = TableContract::parse("transactions.sql", &contract).unwrap();
        StandingQuery::plan(&file, &sql::Catalog::new(stream.into(), BTreeMap::new()).unwrap()).await.unwrap()
    }

    fn second(n: i64) -> Option<Micros> {
        Some(n * 1_000_000)
    }

    /// The watermark, then the query's fingerprint and what it has closed.
    type Told<'a> = (Option<Micros>, Option<(&'a str, Option<Micros>)>);

    fn history(steps: &[Told<'_>]) -> History {
        let step = |(watermark, query): &Told<'_>| Step {
            kind: Kind::Epoch,
            generation: 0,
            written_at: 0,
            watermark: *watermark,
            queries: query
                .iter()
                .map(|(fingerprint, closed_until)| {
                    let progress = QueryProgress { closed_until: *closed_until, ..QueryProgress::running(fingerprint) };
                    ("q".into(), progress)
                })
                .collect(),
            reads: Vec::new(),
            tables: BTreeMap::new(),
            removes: BTreeMap::new(),
            restated: BTreeMap::new(),
            answered: BTreeMap::new(),
            compacted: BTreeMap::new(),
            expired: BTreeMap::new(),
            erased: BTreeMap::new(),
            gone: crate::epoch::Gone::default(),
        };
        History { steps: (0..).zip(steps.iter().map(step)).collect(), ..History::default() }
    }

    #[tokio::test]
    async fn a_query_present_from_the_start_is_bound_by_the_slot_before() {
        let query = query().await;
        let f = query.fingerprint();
        let history =
            history(&[(None, None), (second(20), Some((f, second(10)))), (second(40), Some((f, second(30))))]);
        let life = Life::of(&query, &history, Some(2), &[]).unwrap();
        assert_eq!((life.first_epoch, life.closed_before, life.closed_until), (1, None, second(30)));
        let bounds: Vec<_> = (0..4).map(|epoch| life.closed_before_epoch(&history, epoch)).collect();
        assert_eq!(bounds, [None, None, second(10), second(30)]);
        // Only the audited epochs count.
        assert_eq!(Life::of(&query, &history, Some(1), &[]).unwrap().closed_until, second(10));
    }

    #[tokio::test]
    async fn a_query_added_later_starts_at_the_window_of_the_watermark() {
        let query = query().await;
        let f = query.fingerprint();
        // The watermark 47 less five seconds stands in the window that began at 40.
        let history =
            history(&[(second(47), None), (second(60), Some((f, second(50)))), (second(70), Some((f, second(60))))]);
        let life = Life::of(&query, &history, Some(2), &[]).unwrap();
        assert_eq!((life.first_epoch, life.closed_before, life.edited), (1, second(40), false));
        assert_eq!(life.closed_before_epoch(&history, 1), second(40));
    }

    #[tokio::test]
    async fn a_query_whose_lateness_was_edited_began_where_its_first_slot_says() {
        let query = query().await;
        let f = query.fingerprint();
        let mut history = history(&[(second(47), None), (second(60), Some((f, second(50))))]);
        // It waited half a minute then.
        let first = history.steps.get_mut(&1).unwrap().queries.get_mut("q").unwrap();
        first.answers_after = second(10);
        let life = Life::of(&query, &history, Some(1), &[]).unwrap();
        assert_eq!((life.first_epoch, life.closed_before), (1, second(10)));
    }

    #[tokio::test]
    async fn an_edited_query_is_proved_from_its_edit_on() {
        let query = query().await;
        let f = query.fingerprint();
        let history =
            history(&[(None, None), (second(20), Some(("old", second(10)))), (second(40), Some((f, second(30))))]);
        let life = Life::of(&query, &history, Some(2), &[]).unwrap();
        assert_eq!((life.first_epoch, life.closed_before, life.edited), (2, second(10), true));
        assert!(life.ran_in(2, &history.steps[&2]) && !life.ran_in(1, &history.steps[&1]));
        assert_eq!(Life::of(&query, &history, Some(1), &[]).unwrap_err(), Untold::EditedSince);
        assert_eq!(Life::of(&query, &history, Some(0), &[]).unwrap_err(), Untold::NeverRan);
    }

    #[test]
    fn of_the_last_start_in_a_range_the_window_that_ends_first_is_found_by_walking() {
        for (cell, cells, offset) in [(10, 1, 0), (10, 3, 0), (7, 5, 3)] {
            let grid = Grid::fixed(cell, offset).unwrap();
            let hops = sql::WindowSpec::hopping(grid, cells * cell).unwrap();
            let cycles = sql::WindowSpec::cumulating(grid, cells * cell).unwrap();
            for to in 0..200 {
                let first_end = |spec: sql::WindowSpec, stride: i64, length: i64| {
                    let mut start = offset - 1_000 * stride;
                    while start + stride < to {
                        start += stride;
                    }
                    assert_eq!(Windows { shape: spec.shape() }.first_end_before(to), start + length, "{to} of {spec}");
                };
                first_end(hops, cell, cells * cell);
                first_end(cycles, cells * cell, cell);
                first_end(sql::WindowSpec::tumbling(grid), cell, cell);
            }
        }
    }

    #[tokio::test]
    async fn what_refuses_a_row_in_sql_is_found_by_walking() {
        for (size, offset) in [(10, 0), (7, 3), (60, 59)] {
            let grid = Grid::fixed(size, offset).unwrap();
            let cycles = sql::WindowSpec::cumulating(grid, 3 * size).unwrap();
            for spec in [sql::WindowSpec::tumbling(grid), sql::WindowSpec::hopping(grid, 4 * size).unwrap(), cycles] {
                let window = Windows { shape: spec.shape() };
                let refused = window.refuses_sql("t", "u");
                let rows = "SELECT t, t + (t * 37) % 80 AS u FROM (SELECT unnest(range(-150, 150)) AS t)";
                let text = format!("SELECT t, u, CAST({refused} AS BIGINT) FROM ({rows})");
                let rows = sql::session().sql(&text).await.unwrap().collect().await.unwrap();
                let mut seen = 0;
                for batch in rows {
                    let [times, untils, refused] =
                        [0, 1, 2].map(|column| super::super::rows::numbers(&batch, column).unwrap());
                    for row in 0..batch.num_rows() {
                        let mut end = offset - 100 * size;
                        while end <= times.value(row) {
                            end += size;
                        }
                        assert_eq!(
                            refused.value(row) == 1,
                            end <= untils.value(row),
                            "{} in {window:?}",
                            times.value(row)
                        );
                        assert_eq!(window.closed_at(times.value(row)), end - size);
                        seen += 1;
                    }
                }
                assert_eq!(seen, 300);
            }
        }
    }
}
