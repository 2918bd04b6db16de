//! `TUMBLE`, `HOP`, `CUMULATE`, `SESSION`: the statement is rewritten before it is planned.
//!
//! The one law: the call becomes a plain subquery that adds `window_start` and `window_end` to every row, once for each
//! window it falls into, so the same file runs live, as a backfill and as batch. What the user wrote keeps its positions;
//! what is added has none to report. Live, a row gets the bounds of its *slice* instead, and windows are put together from
//! slices when they close.
//! Tables named inside a function's arguments are not resolved by DataFusion's planner, hence the rewrite.

mod call;
mod check;
mod functions;

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use arrow::datatypes::Schema;
use datafusion::sql::parser::{CopyToSource, DFParserBuilder, Statement};
use datafusion::sql::sqlparser::ast::{
    Expr, FunctionArg, FunctionArgExpr, Ident, ObjectName, Query, SelectItem, SetExpr, Statement as SqlStatement,
    TableAlias, TableFactor,
};
use datafusion::sql::sqlparser::tokenizer::Span;

pub(super) use call::{WindowCall, window_call};
pub(super) use check::{check_combined, check_keys};
pub(super) use functions::window_functions;

use super::grid::{Grid, Place};
use super::interval::show_duration;
use super::place::Refusal;
use super::spec::WindowShape;
use crate::clock::Micros;
use crate::error::Result;
use crate::syntax::{Change, change};

/// The column a window adds that tells its start.
pub const WINDOW_START: &str = "window_start";
/// The column a window adds that tells its end.
pub(super) const WINDOW_END: &str = "window_end";

/// Names in the template that stand for what the user wrote.
const TABLE_SLOT: &str = "__table";
const TIME_SLOT: &str = "__time";

/// Event times in `[from, to)`, microseconds UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeRange {
    pub from: Micros,
    pub to: Micros,
}

/// Columns of a table that a window's own take the place of.
pub(super) fn hidden_in(schema: &Schema) -> Vec<&'static str> {
    [WINDOW_START, WINDOW_END].into_iter().filter(|name| schema.index_of(name).is_ok()).collect()
}

impl WindowCall {
    /// The subquery this call stands for, over rows of whole windows inside `range` when one is given.
    ///
    /// `rows` are further conditions on the rows (a partition column's range), so that a scan can prune; `windows` on
    /// rows and the windows they fall into.
    pub(super) fn subquery(
        &self,
        range: Option<TimeRange>,
        rows: &[String],
        windows: &[String],
    ) -> Result<TableFactor, Refusal> {
        let (mut rows, mut windows) = (rows.to_vec(), windows.to_vec());
        if let Some(range) = range {
            rows.extend(time_conditions(TIME_SLOT, self.rows_of(range)));
            windows.push(format!("{WINDOW_START} >= {}", timestamp(range.from)));
            windows.push(format!("{WINDOW_END} <= {}", timestamp(range.to)));
        }
        let text = filtered(&self.template(&filtered("", &rows)), &windows);
        fill(&text, &self.table, Some(&self.time), self.alias.clone())
    }

    /// The subquery that gives every row the bounds of its slice.
    pub(super) fn slices(&self) -> Result<TableFactor, Refusal> {
        let all = self.all();
        let text = match self.spec.shape() {
            WindowShape::Tumble(grid)
            | WindowShape::Hop { slides: grid, .. }
            | WindowShape::Cumulate { steps: grid, .. } => self.cells(grid, ""),
            WindowShape::Session { gap } => format!(
                "SELECT {all}, {TIME_SLOT} AS {WINDOW_START}, session_end({TIME_SLOT}, {gap}) AS {WINDOW_END} FROM {TABLE_SLOT}"
            ),
        };
        fill(&text, &self.table, Some(&self.time), self.alias.clone())
    }

    /// The rows that decide on the windows wholly inside a range. A session reaches as far as rows are within its gap: one
    /// that began before the range, or does not end in it, is told by a row within the gap around it.
    pub(super) fn rows_of(&self, range: TimeRange) -> TimeRange {
        match self.spec.shape() {
            WindowShape::Session { gap } => {
                TimeRange { from: range.from.saturating_sub(gap), to: range.to.saturating_add(1) }
            }
            _ => range,
        }
    }

    /// Rows and their windows; `rows` is a WHERE over rows, or nothing.
    fn template(&self, rows: &str) -> String {
        // The planner would take a column that a window's own takes the place of for both, beside an `unnest`.
        let (all, time, from) = match self.hidden.is_empty() {
            true => ("*", TIME_SLOT, format!("{TABLE_SLOT}{rows}")),
            false => {
                let named = format!("(SELECT {}, {TIME_SLOT} AS __at FROM {TABLE_SLOT}{rows})", self.all());
                ("* EXCEPT (__at)", "__at", named)
            }
        };
        match self.spec.shape() {
            WindowShape::Tumble(grid) => self.cells(grid, rows),
            WindowShape::Hop { slides, cells } => {
                let arguments = arguments(slides, cells);
                format!(
                    "SELECT *, hop_end({WINDOW_START}, {arguments}) AS {WINDOW_END} FROM \
                     (SELECT {all}, unnest(hop_starts({time}, {arguments})) AS {WINDOW_START} FROM {from})"
                )
            }
            WindowShape::Cumulate { steps, cells } => {
                let arguments = arguments(steps, cells);
                format!(
                    "SELECT {all}, cumulate_start({time}, {arguments}) AS {WINDOW_START}, \
                     unnest(cumulate_ends({time}, {arguments})) AS {WINDOW_END} FROM {from}"
                )
            }
            WindowShape::Session { gap } => self.sessions(gap, rows),
        }
    }

    /// Rows and the cell of a grid they fall into.
    fn cells(&self, grid: Grid, rows: &str) -> String {
        let all = self.all();
        let (length, place) = (grid.length(), place(grid));
        let start = format!("tumble_start({TIME_SLOT}, {length}, {place})");
        let end = match grid.place() {
            Place::Offset(_) => format!("{start} + arrow_cast({length}, 'Duration(Microsecond)')"),
            Place::Zone(_) => format!("tumble_end({TIME_SLOT}, {length}, {place})"),
        };
        format!("SELECT {all}, {start} AS {WINDOW_START}, {end} AS {WINDOW_END} FROM {TABLE_SLOT}{rows}")
    }

    /// The table's columns but those that the window's own take the place of.
    fn all(&self) -> String {
        match self.hidden.as_slice() {
            [] => "*".to_owned(),
            hidden => format!("* EXCEPT ({})", hidden.join(", ")),
        }
    }

    /// Sessions by counting, per key and in order of time, the rows that follow the one before by more than the gap.
    fn sessions(&self, gap: Micros, rows: &str) -> String {
        let keys: Vec<String> = self.keys.iter().map(ToString::to_string).collect();
        let by = |more: &[&str]| {
            let columns: Vec<&str> = keys.iter().map(String::as_str).chain(more.iter().copied()).collect();
            if columns.is_empty() { String::new() } else { format!("PARTITION BY {} ", columns.join(", ")) }
        };
        let (of_key, of_session, all) = (by(&[]), by(&["__session"]), self.all());
        format!(
            "SELECT * EXCLUDE (__at, __session), min(__at) OVER ({of_session}) AS {WINDOW_START}, \
             session_end(max(__at) OVER ({of_session}), {gap}) AS {WINDOW_END} FROM \
             (SELECT * EXCLUDE (__begins), sum(__begins) OVER ({of_key}ORDER BY __at \
             ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS __session FROM \
             (SELECT *, CASE WHEN __at <= session_end(lag(__at) OVER ({of_key}ORDER BY __at), {gap}) THEN 0 ELSE 1 END \
             AS __begins FROM (SELECT {all}, {TIME_SLOT} AS __at FROM {TABLE_SLOT}{rows})))"
        )
    }
}

/// `TUMBLE(table, window_start, …)` as one would write it: the cells of this grid over a view of the same windows.
pub(super) fn call_of_cells(table: &Ident, grid: Grid, alias: TableAlias) -> Result<TableFactor, Refusal> {
    let place = match grid.place() {
        Place::Offset(offset) => format!("INTERVAL '{}'", show_duration(offset)),
        Place::Zone(zone) => format!("'{}'", zone.name()),
    };
    let size = show_duration(grid.length());
    let query =
        parse_query(&format!("SELECT * FROM TUMBLE({TABLE_SLOT}, {WINDOW_START}, INTERVAL '{size}', {place})"))?;
    let first = match *query.body {
        SetExpr::Select(select) => select.from.into_iter().next().map(|from| from.relation),
        _ => None,
    };
    let mut factor = first.ok_or_else(|| Refusal::new(table.span, "rewriting a window: no table function"))?;
    if let TableFactor::Table { name, alias: called, args: Some(args), .. } = &mut factor {
        // Messages point at the name that was written.
        *name = ObjectName::from(vec![Ident::with_span(table.span, "TUMBLE")]);
        *called = Some(alias);
        if let Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(first))) = args.args.first_mut() {
            *first = Expr::Identifier(table.clone());
        }
    }
    Ok(factor)
}

/// Length of a cell, of a window, and where the marks stand, as the functions take them.
fn arguments(grid: Grid, cells: i64) -> String {
    format!("{}, {}, {}", grid.length(), grid.length().saturating_mul(cells), place(grid))
}

fn place(grid: Grid) -> String {
    match grid.place() {
        // A negative number is no literal before it is folded, but a grid's offset is never below zero here.
        Place::Offset(offset) => offset.to_string(),
        Place::Zone(zone) => format!("'{}'", zone.name()),
    }
}

/// `text` with a WHERE of all conditions; a whole SELECT is put into brackets first.
fn filtered(text: &str, conditions: &[String]) -> String {
    match (text, conditions) {
        (text, []) => text.to_owned(),
        ("", some) => format!(" WHERE {}", some.join(" AND ")),
        (text, some) => format!("SELECT * FROM ({text}) WHERE {}", some.join(" AND ")),
    }
}

/// `table`, narrowed to rows that satisfy all `conditions`.
pub(super) fn narrowed(
    table: &ObjectName,
    alias: Option<TableAlias>,
    conditions: &[String],
) -> Result<TableFactor, Refusal> {
    fill(&format!("SELECT * FROM {TABLE_SLOT}{}", filtered("", conditions)), table, None, alias)
}

/// Conditions that put the time `column` into `range`.
pub(super) fn time_conditions(column: &str, range: TimeRange) -> [String; 2] {
    [format!("{column} >= {}", timestamp(range.from)), format!("{column} < {}", timestamp(range.to))]
}

fn timestamp(micros: Micros) -> String {
    format!("arrow_cast({micros}, 'Timestamp(Microsecond, Some(\"UTC\"))')")
}

fn fill(
    text: &str,
    table: &ObjectName,
    time: Option<&Expr>,
    alias: Option<TableAlias>,
) -> Result<TableFactor, Refusal> {
    let mut query = parse_query(text)?;
    let _: ControlFlow<()> = change(&mut query, &mut Slots { table, time });
    Ok(TableFactor::Derived { lateral: false, subquery: query, alias, sample: None })
}

/// An expression of ours.
pub(super) fn parse_expression(text: &str) -> Result<Expr, Refusal> {
    let item = match *parse_query(&format!("SELECT {text}"))?.body {
        SetExpr::Select(select) => select.projection.into_iter().next(),
        _ => None,
    };
    match item {
        Some(SelectItem::UnnamedExpr(expr)) => Ok(expr),
        _ => Err(Refusal::new(Span::empty(), format!("`{text}` is no expression"))),
    }
}

fn parse_query(text: &str) -> Result<Box<Query>, Refusal> {
    let internal = |message: String| Refusal::new(Span::empty(), format!("rewriting a window: {message}"));
    let mut statements = DFParserBuilder::new(text)
        .build()
        .and_then(|mut parser| parser.parse_statements())
        .map_err(|error| internal(error.to_string()))?;
    match statements.pop_front() {
        Some(Statement::Statement(statement)) => match *statement {
            SqlStatement::Query(query) => Ok(query),
            other => Err(internal(other.to_string())),
        },
        _ => Err(internal(text.to_owned())),
    }
}

/// Puts what the user wrote, with its positions, into the template.
struct Slots<'a> {
    table: &'a ObjectName,
    time: Option<&'a Expr>,
}

impl Change for Slots<'_> {
    type Break = ();

    fn relation(&mut self, relation: &mut ObjectName) -> ControlFlow<()> {
        if relation.to_string() == TABLE_SLOT {
            *relation = self.table.clone();
        }
        ControlFlow::Continue(())
    }

    fn expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let (Expr::Identifier(name), Some(time)) = (&*expr, self.time)
            && name.value == TIME_SLOT
        {
            *expr = time.clone();
        }
        ControlFlow::Continue(())
    }
}

/// Puts a subquery in the place of every window call; `hidden` tells [`WindowCall::hidden`] of the tables by name.
pub(super) fn rewrite(statement: &mut Statement, hidden: &BTreeMap<String, Vec<&'static str>>) -> Result<(), Refusal> {
    let mut walk = Rewrite(hidden);
    let flow = match statement {
        Statement::Statement(statement) => change(statement, &mut walk),
        Statement::CopyTo(copy) => match &mut copy.source {
            CopyToSource::Query(query) => change(query, &mut walk),
            CopyToSource::Relation(_) => ControlFlow::Continue(()),
        },
        Statement::Explain(explain) => return rewrite(&mut explain.statement, hidden),
        Statement::CreateExternalTable(_) | Statement::Reset(_) => ControlFlow::Continue(()),
    };
    match flow {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(refusal) => Err(refusal),
    }
}

struct Rewrite<'a>(&'a BTreeMap<String, Vec<&'static str>>);

impl Change for Rewrite<'_> {
    type Break = Refusal;

    fn table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<Refusal> {
        let subquery = |mut call: WindowCall| {
            call.hidden = self.0.get(&call.table.to_string().to_lowercase()).cloned().unwrap_or_default();
            call.subquery(None, &[], &[])
        };
        match window_call(factor).and_then(|call| call.map(subquery).transpose()) {
            Ok(Some(subquery)) => *factor = subquery,
            Ok(None) => {}
            Err(refusal) => return ControlFlow::Break(refusal),
        }
        ControlFlow::Continue(())
    }
}

/// Puts `factor` in the place of the one table expression of a standing query's SELECT.
pub(super) fn replace_source(query: &mut Query, factor: TableFactor) {
    if let SetExpr::Select(select) = query.body.as_mut()
        && let Some(source) = select.from.first_mut()
    {
        source.relation = factor;
    }
}
