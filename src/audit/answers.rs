//! Standing queries against the rows they answer for (invariant 7): every closed window is recomputed as a batch job.
//!
//! The one law: the answer is computed from the stream's table by plain batch SQL over the rows that count, which a join
//! with the slots' `closed_until` picks out. No code that folds or closes windows while streaming is called.

use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef};
use datafusion::dataframe::DataFrame;
use datafusion::datasource::MemTable;
use datafusion::prelude::SessionContext;

use super::approximate::approximate_columns;
use super::compare::{Difference, Differences, Rules, compare};
use super::finding::Kind as Found;
use super::history::{History, Step};
use super::joined::{JOINED_AS_OF, Seen, joins_rows};
use super::report::{QueryBooks, Report, show_time};
use super::restated::{self, RESTATED, WAITS};
use super::rows::numbers;
use super::scans::{Scans, for_each_batch, quoted};
use super::standing::{Life, Windows, bounds};
use super::unprovable::{Provable, Unprovable};
use crate::clock::Micros;
use crate::contract::{TableContract, provenance};
use crate::error::{Context, Error, Result};
use crate::sql::{BatchStatement, JOINED_AT, Pairs, StandingQuery, TimeRange, ViewDriver, run_batch};

/// The stream's table as it is, the list of epochs, and the query's table, as the audit's own statements call them.
const ROWS: &str = "__rows";
const BOUNDS: &str = "__bounds";
const ANSWERS: &str = "__answers";
/// What had been closed before a row was read, as a column of its own.
const UNTIL: &str = "__until";
/// The epoch of a row, beside its own columns.
const EPOCH: &str = "__epoch";
const JOINED: &str = "__joined";
/// The table of the view a query reads, as it is.
const PARENT: &str = "__parent";

/// The lake as one query's check sees it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ground<'a> {
    pub scans: &'a Scans,
    pub history: &'a History,
    pub published: Option<u64>,
    pub stream: &'a TableContract,
    pub float_tolerance: f64,
}

impl Ground<'_> {
    /// Recomputes one query's table and compares.
    pub(super) async fn check(&self, query: &StandingQuery, life: &Life, report: &mut Report) {
        let name = &life.name;
        if let Err(error) = self.prove(query, life, report).await {
            report.find(Found::NotRecomputed, format!("table `{name}`"), error.to_string());
        }
    }

    async fn prove(&self, query: &StandingQuery, life: &Life, report: &mut Report) -> Result<()> {
        let name = &life.name;
        let books = QueryBooks { closed_until: life.closed_until, ..QueryBooks::default() };
        report.queries.insert(Arc::clone(name), books);
        let (Some(rows), Some(answers)) = (self.scans.table(&self.stream.name), self.scans.table(name)) else {
            report.find(Found::NotRecomputed, format!("table `{name}`"), "it or the stream's table cannot be read");
            return Ok(());
        };
        if let Some(hole) = self.history.first_hole(self.published) {
            let what = format!("which rows count is not known without slot {hole}");
            report.find(Found::NotRecomputed, format!("table `{name}`"), what);
            return Ok(());
        }
        let session = self.scans.session_with(ROWS, rows)?;
        session.register_table(ANSWERS, answers).context(|| format!("opening the table `{name}`"))?;
        session.register_udf(life.restated.function());
        if query.is_beyond_correction() {
            report.note(format!(
                "`{name}`: what comes late is never brought into its windows, which its rows do not tell: select `window_start`"
            ));
        }
        let mut range = life.range();
        let seen = Seen::of(query, self.history, self.published);
        if life.parents.is_empty() {
            self.register_stream(&session, life, &seen).await?;
        }
        for (driver, parent) in &life.parents {
            if let Some(why) = Self::behind(life, parent) {
                report.note(format!("`{name}`: its table was not compared: {why}"));
                return Ok(());
            }
            self.register_parent(&session, life, driver, parent, &seen).await?;
            range = range.or(Some(TimeRange { from: Micros::MIN, to: parent.closed_until.unwrap_or(Micros::MIN) }));
        }
        let statement = self.statement(&session, query, range, life.pairs(), &seen, report).await?;
        let Some(statement) = statement else { return Ok(()) };
        let expected = run_batch(&session, statement).await?;
        let answered = Answered::of(&session, life, report).await?;
        let approximate = approximate_columns(expected.logical_plan())?;
        if !approximate.is_empty() {
            let columns = approximate.iter().map(|column| format!("`{column}`")).collect::<Vec<_>>().join(", ");
            report.note(format!("`{name}`: {columns} of it was not compared, being approximate by nature"));
        }
        let rules =
            Rules { tolerance: self.float_tolerance, missing_only: answered.has_older_rows, left_out: &approximate };
        let expected = if life.has_nothing_closed() {
            expected.limit(0, Some(0)).context(|| "comparing nothing")?
        } else {
            expected
        };
        let unprovable = Unprovable::of(query, life, self.history, self.published, self.stream);
        let sides = unprovable.leave_out(&session, life, (expected, answered.rows), report).await?;
        let Some(Provable { expected, found, rows_left, windows_left }) = sides else { return Ok(()) };
        let differences = compare(&session, expected, found, rules).await?;
        tell(name, differences, report);
        if let Some(books) = report.queries.get_mut(name) {
            books.windows_compared = answered.windows.map(|windows| windows.saturating_sub(windows_left));
            books.rows_compared = answered.count.saturating_sub(rows_left);
            books.rows_unprovable = rows_left;
        }
        Ok(())
    }

    /// The query as batch SQL, what it was joined with registered; `None`, with a note, when that is not known any more.
    async fn statement(
        &self,
        session: &SessionContext,
        query: &StandingQuery,
        range: Option<TimeRange>,
        mut pairs: Pairs,
        seen: &Seen,
        report: &mut Report,
    ) -> Result<Option<BatchStatement>> {
        if query.lookups().is_empty() {
            return query.batch_select_where(range, &pairs).map(Some);
        }
        if seen.is_several() {
            session.register_udf(seen.by_end(query, self.history, self.published));
            pairs.columns.extend(joins_rows(query).then_some(JOINED_AT));
        }
        let mut why = seen.untold();
        if why.is_none() {
            why = seen.register(query, self.scans.lake(), session).await?;
        }
        if let Some(why) = why {
            report.note(format!("`{}`: its table was not compared: {why}", query.name()));
            return Ok(None);
        }
        query.select_over_lookups(range, &pairs, seen.is_several()).map(Some)
    }

    /// Why the table of a view on a view may differ from what its parent's table says now, if it may.
    fn behind(life: &Life, parent: &Life) -> Option<&'static str> {
        let owes = life
            .owes
            .then_some("what the view it reads says was corrected since; `lakeward lake reconcile` corrects it, too");
        if life.start.is_none() && (life.was_away || !parent.restated.is_empty()) {
            return Some(
                "what the view it reads says was corrected, or closed without it, and its rows do not tell which: select \
                 `window_start`",
            );
        }
        owes
    }

    /// Registers the table of the view this query reads: every row of it counts. Of a query without windows only those have
    /// passed it that were closed, or restated, since it came.
    async fn register_parent(
        &self,
        session: &SessionContext,
        life: &Life,
        driver: &ViewDriver,
        above: &Life,
        seen: &Seen,
    ) -> Result<()> {
        let parent = &driver.name;
        let what = || format!("opening the table `{parent}`");
        // Two sides may read one view by different times.
        if session.table_exist(parent.as_ref()).context(what)? {
            return Ok(());
        }
        let rows = self.scans.table(parent).ok_or_else(|| Error::broken(format!("`{parent}` cannot be read")))?;
        let passed = life.passed(driver, above).filter(|_| life.window.is_none());
        let closing = seen.tells_rows().then(|| driver.closing());
        if passed.is_none() && closing.is_none() {
            return session.register_table(parent.as_ref(), rows).context(what).map(drop);
        }
        let raw = quoted(&format!("{PARENT}_{parent}"));
        session.register_table(raw.as_str(), rows).context(what)?;
        let mut joined = String::new();
        if let Some(closing) = closing {
            // The view below keeps the function it was planned with.
            session.register_udf(seen.as_of(parent));
            joined = format!(", {JOINED_AS_OF}(CAST({} AS BIGINT)) AS {JOINED_AT}", quoted(closing));
        }
        let passed = passed.map_or_else(String::new, |passed| format!(" WHERE {passed}"));
        let text = format!("SELECT *{joined} FROM {raw}{passed}");
        let rows = session.sql(&text).await.context(what)?;
        session.register_table(parent.as_ref(), rows.into_view()).context(what).map(drop)
    }

    /// Registers the rows that count for this query under the name of the stream's table.
    async fn register_stream(&self, session: &SessionContext, life: &Life, seen: &Seen) -> Result<()> {
        let what = || format!("picking out the rows that count for `{}`", life.name);
        let wanted =
            |epoch: u64, step: &Step| !step.reads.is_empty() && (life.window.is_some() || life.answers(epoch, step));
        let until = |life: &Life, epoch: u64, _: &Step| life.closed_before_epoch(self.history, epoch);
        let list = bounds(self.history, self.published, &[life], wanted, until)?;
        let list = MemTable::try_new(list.schema(), vec![vec![list]]).context(what)?;
        session.register_table(BOUNDS, Arc::new(list)).context(what)?;
        let hidden = [provenance::EPOCH, provenance::LATE];
        let columns = self.stream.columns.iter().filter(|column| !hidden.contains(&column.name.as_ref()));
        let mut columns: Vec<String> = columns.map(|column| format!("r.{}", quoted(&column.name))).collect();
        let mut joined = String::new();
        if seen.is_several() {
            let list = seen.list()?;
            let list = MemTable::try_new(list.schema(), vec![vec![list]]).context(what)?;
            session.register_table(JOINED, Arc::new(list)).context(what)?;
            columns.push(format!("j.{JOINED_AT}"));
            joined = format!(" JOIN {JOINED} j ON j.epoch = b.epoch");
        }
        let counts = match (life.window, &self.stream.stream) {
            // Which windows a row counts in is told pair by pair, see [`Life::pairs`].
            (Some(window), Some(_)) if !window.is_session() => {
                columns.extend([format!("b.until_0 AS {UNTIL}"), format!("b.epoch AS {EPOCH}")]);
                String::new()
            }
            (Some(window), Some(stream)) => {
                let time = format!("CAST(r.{} AS BIGINT)", quoted(&stream.event_time));
                let on_time = format!("b.until_0 IS NULL OR NOT ({})", window.refuses_sql(&time, "b.until_0"));
                match &life.reconciled {
                    None => format!(" WHERE {on_time}"),
                    Some((through, waiting)) => {
                        session.register_udf(restated::waits(waiting.clone()));
                        format!(" WHERE {on_time} OR (b.epoch <= {through} AND NOT {WAITS}({time}, b.epoch))")
                    }
                }
            }
            _ => String::new(),
        };
        let statement = format!(
            "SELECT {} FROM {ROWS} r JOIN {BOUNDS} b ON r.{} = b.epoch{joined}{counts}",
            columns.join(", "),
            quoted(provenance::EPOCH)
        );
        let counted = session.sql(&statement).await.context(what)?;
        session.register_table(self.stream.name.as_ref(), counted.into_view()).context(what)?;
        Ok(())
    }
}

impl Life {
    /// The windows that have closed; `None` for a stateless query.
    fn range(&self) -> Option<TimeRange> {
        self.window?;
        Some(TimeRange { from: Micros::MIN, to: self.closed_until.unwrap_or(Micros::MIN) })
    }

    /// Of a query without windows that came later: which rows of the view it reads have passed it, as SQL over that view's
    /// table; `None` where all have.
    fn passed(&self, driver: &ViewDriver, parent: &Self) -> Option<String> {
        let before = self.closed_before?;
        let bigint = |column: &Arc<str>| format!("CAST({} AS BIGINT)", quoted(column));
        let (start, end) = driver.bounds();
        let start = start.map(bigint);
        let of_start = || parent.window?.end_of_start_sql(start.as_ref()?);
        let since = format!("{} > {before}", end.map(bigint).or_else(of_start)?);
        Some(match start.filter(|_| !self.restated.is_empty()) {
            Some(start) => format!("({since} OR {RESTATED}({start}, CAST(-1 AS BIGINT)))"),
            None => since,
        })
    }

    /// Which rows count in which windows: in those closed under the present text that had not been closed when the row was
    /// read, and in those that were restated since.
    fn pairs(&self) -> Pairs {
        let end = "CAST(window_end AS BIGINT)";
        let after = self.closed_before.map(|before| format!("{end} > {before}"));
        let told_by_pair = self.parents.is_empty() && self.window.is_some_and(|window| !window.is_session());
        let is_restated = |epoch: &str| format!("{RESTATED}(CAST(window_start AS BIGINT), {epoch})");
        // Of sessions which rows count was told row by row, of a view every row does; history that was answered since has its
        // start in a range.
        if let (false, Some(after), false) = (told_by_pair, &after, self.restated.is_empty()) {
            let answered = format!("({after} OR {})", is_restated("CAST(-1 AS BIGINT)"));
            return Pairs { conditions: vec![answered], columns: Vec::new() };
        }
        let open = told_by_pair.then(|| format!("({UNTIL} IS NULL OR {end} > {UNTIL})"));
        let mut conditions: Vec<String> = after.into_iter().chain(open).collect();
        if told_by_pair && !self.restated.is_empty() {
            let on_time = conditions.join(" AND ");
            conditions = vec![format!("(({on_time}) OR {})", is_restated(EPOCH))];
        }
        Pairs { conditions, columns: if told_by_pair { vec![UNTIL, EPOCH] } else { Vec::new() } }
    }

    fn has_nothing_closed(&self) -> bool {
        let nothing = self.closed_until.is_none() || self.closed_until <= self.closed_before;
        self.window.is_some() && nothing && self.restated.is_empty()
    }
}

/// The rows of a query's table that are compared.
struct Answered {
    rows: DataFrame,
    count: u64,
    windows: Option<u64>,
    /// Rows of an earlier text are among them and cannot be told apart.
    has_older_rows: bool,
}

impl Answered {
    /// Picks the rows of closed windows under the present text; rows of windows that are not closed are findings.
    async fn of(session: &SessionContext, life: &Life, report: &mut Report) -> Result<Self> {
        let what = || format!("reading the table `{}`", life.name);
        let table = session.table(ANSWERS).await.context(what)?;
        let schema = Arc::new(table.schema().as_arrow().clone());
        let end = life.window.and_then(|window| end_column(&schema, window));
        let mut condition = "true".to_owned();
        if let Some(end) = &end {
            let until = life.closed_until.unwrap_or(Micros::MIN);
            check_open(session, life, &format!("{end} > {until}"), report).await?;
            condition = format!("{end} <= {until}");
            if let (true, Some(before)) = (life.edited, life.closed_before) {
                // Only a table that tells its windows' starts is restated.
                let start = life.start.as_ref().filter(|_| !life.restated.is_empty());
                let restated = start.map_or_else(String::new, |start| {
                    format!(" OR {RESTATED}(CAST({} AS BIGINT), CAST(-1 AS BIGINT))", quoted(start))
                });
                condition = format!("{condition} AND ({end} > {before}{restated})");
                report.note(format!(
                    "`{}`: windows closed until {} were answered by an earlier text and not compared, but those restated",
                    life.name,
                    show_time(Some(before))
                ));
            }
        }
        let has_older_rows = life.edited && end.is_none();
        if has_older_rows {
            let name = &life.name;
            report.note(format!(
                "`{name}`: an earlier text wrote rows, too; only rows missing by the present one are told"
            ));
        }
        let windows = end.as_ref().map_or_else(|| "0".to_owned(), |end| format!("count(DISTINCT {end})"));
        let (mut count, mut distinct) = (0, 0);
        for_each_batch(session, &format!("SELECT count(*), {windows} FROM {ANSWERS} WHERE {condition}"), |batch| {
            count = numbers(batch, 0)?.iter().flatten().sum::<i64>();
            distinct = numbers(batch, 1)?.iter().flatten().sum::<i64>();
            Ok(())
        })
        .await?;
        let rows = session.sql(&format!("SELECT * FROM {ANSWERS} WHERE {condition}")).await.context(what)?;
        let windows = end.map(|_| distinct.unsigned_abs());
        Ok(Self { rows, count: count.unsigned_abs(), windows, has_older_rows })
    }
}

/// No window is answered before it is closed.
async fn check_open(session: &SessionContext, life: &Life, is_open: &str, report: &mut Report) -> Result<()> {
    for_each_batch(session, &format!("SELECT count(*) FROM {ANSWERS} WHERE {is_open}"), |batch| {
        let rows: i64 = numbers(batch, 0)?.iter().flatten().sum();
        if rows > 0 {
            let what = format!(
                "{rows} rows of windows that end after {}, up to which it has closed",
                show_time(life.closed_until)
            );
            report.find(Found::OpenWindow, format!("table `{}`", life.name), what);
        }
        Ok(())
    })
    .await
}

/// The end of a row's window as an SQL expression in microseconds, if the table's columns tell.
fn end_column(schema: &SchemaRef, window: Windows) -> Option<String> {
    let is_time =
        |name: &str| schema.field_with_name(name).is_ok_and(|f| matches!(f.data_type(), DataType::Timestamp(..)));
    if is_time("window_end") {
        return Some("CAST(window_end AS BIGINT)".into());
    }
    is_time("window_start").then(|| window.end_of_start_sql("CAST(window_start AS BIGINT)")).flatten()
}

fn tell(name: &str, differences: Differences, report: &mut Report) {
    let place = |row: &str| format!("table `{name}`, {row}");
    for difference in differences.listed {
        match difference {
            Difference::Missing { row, says } => {
                report.find(Found::MissingRow, place(&row), format!("expected {says}"));
            }
            Difference::Surplus { row, says } => report.find(Found::SurplusRow, place(&row), format!("found {says}")),
            Difference::Different { row, says } => report.find(Found::DifferentRow, place(&row), says),
        }
    }
    report.count_more(Found::DifferentRow, differences.more);
}
