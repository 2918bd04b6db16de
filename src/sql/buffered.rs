//! Windows joined with windows: `FROM TUMBLE(…) a JOIN TUMBLE(…) b ON a.window_start = b.window_start AND …`.
//!
//! The one law: all sides are the same windows, over the stream or over views, never over both, so a window is final once
//! every source has passed it. There is no partial form of a join: the rows of open windows are kept, with the columns the
//! query needs and the bounds of their window (of hops and cumulating windows: of their slice), and the whole plan runs over
//! them when they close. A lookup beside them is joined then, too.
//!
//! Seen from outside the query is cut in three like any other: `partial` puts rows into their windows, `reduce` leaves
//! them, `finish` is the whole query. Plans are made in [`super::sides`].

use std::collections::BTreeSet;

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, GroupByExpr, Join, JoinConstraint, JoinOperator, Select, Spanned, TableFactor,
};
use datafusion::sql::sqlparser::tokenizer::Span;

use super::catalog::{Catalog, ViewKind, alias_of, single, table_named};
use super::file::normal;
use super::interval::show_duration;
use super::place::Refusal;
use super::spec::{WindowShape, WindowSpec};
use super::windows::{TimeRange, WINDOW_END, WINDOW_START, WindowCall, call_of_cells, window_call};
use crate::error::Result;

/// The rows of open windows, as the plan of the stream calls them.
const ROWS: &str = "__rows";

/// Rows of open windows one query may keep: at a hundred bytes of needed columns a row, half a gigabyte. When windows that
/// overlap close, as many copies of rows are joined at once.
pub const BUFFERED_ROWS_MAX: usize = 5_000_000;

/// The windows a SELECT joins.
#[derive(Debug, Default)]
pub(super) struct Windows {
    /// Those of each source once, in order; empty where no windows are joined.
    pub(super) calls: Vec<WindowCall>,
    /// The names of sides whose columns may be NULL, for want of a match.
    pub(super) nullable: BTreeSet<String>,
}

/// Whether a SELECT joins windows with windows.
pub(super) fn joins_windows(select: &Select) -> bool {
    let is_window = |factor: &TableFactor| matches!(window_call(factor), Ok(Some(_)));
    let Some(from) = select.from.first() else { return false };
    is_window(&from.relation) && from.joins.iter().any(|join| is_window(&join.relation))
}

/// Checks a join of windows and puts the rows of open windows in the place of each joined side. The first one stays: it
/// says what drives the query. Other joins stay, too.
pub(super) fn take_windows(select: &mut Select) -> Result<Windows, Refusal> {
    let grouped = !matches!(&select.group_by, GroupByExpr::Expressions(e, _) if e.is_empty());
    let mut windows = Windows::default();
    let Some(from) = select.from.first_mut() else { return Ok(windows) };
    let Some(first) = window_call(&from.relation)? else { return Ok(windows) };
    let Some(first_alias) = first.alias.clone() else {
        return Err(needs_alias(&first, from.relation.span()));
    };
    if matches!(first.spec.shape(), WindowShape::Session { .. }) {
        return Err(of_sessions(from.relation.span()));
    }
    let mut sides = vec![normal(&first_alias.name)];
    windows.calls.push(first);
    for join in &mut from.joins {
        let at = join.relation.span();
        let Some(call) = window_call(&join.relation)? else { continue };
        let Some(alias) = call.alias.clone() else { return Err(needs_alias(&call, at)) };
        let side = source_of(call, &mut windows.calls, at)?;
        sides.push(normal(&alias.name));
        equal_windows(constraint(join, grouped)?, &sides, at)?;
        match &join.join_operator {
            JoinOperator::FullOuter(_) => windows.nullable.extend(sides.iter().cloned()),
            JoinOperator::Left(_) | JoinOperator::LeftOuter(_) => windows.nullable.extend(sides.last().cloned()),
            _ => {}
        }
        join.relation = table_named(&rows_of(side), Some(alias), at);
    }
    Ok(windows)
}

/// The number of the source a side reads; one that is new is added.
fn source_of(call: WindowCall, calls: &mut Vec<WindowCall>, at: Span) -> Result<usize, Refusal> {
    let Some(first) = calls.first() else { return Ok(0) };
    if matches!(call.spec.shape(), WindowShape::Session { .. }) {
        return Err(of_sessions(at));
    }
    let known = calls.iter().position(|known| known.table.to_string() == call.table.to_string());
    let other_time = known.is_some_and(|known| calls[known].time.to_string() != call.time.to_string());
    if first.spec != call.spec || other_time {
        let refusal = Refusal::new(at, "windows are joined with the same windows");
        return Err(refusal.help("give both sides the same time, size and offset"));
    }
    Ok(known.unwrap_or_else(|| {
        calls.push(call);
        calls.len() - 1
    }))
}

fn needs_alias(call: &WindowCall, at: Span) -> Refusal {
    let (table, function) = (&call.table, call.spec.function());
    let help = format!("write `{function}({table}, …) a JOIN {function}({table}, …) b ON …`");
    Refusal::new(at, "joined windows need names").help(help)
}

fn of_sessions(at: Span) -> Refusal {
    let refusal = Refusal::new(at, "rows of sessions are not joined: where one ends, only its own rows tell");
    refusal
        .help("write `TUMBLE` on both sides")
        .help("or join the rows in a view without a window, and read that in the session")
}

fn constraint(join: &Join, grouped: bool) -> Result<&JoinConstraint, Refusal> {
    match &join.join_operator {
        JoinOperator::Join(constraint)
        | JoinOperator::Inner(constraint)
        | JoinOperator::Left(constraint)
        | JoinOperator::LeftOuter(constraint) => Ok(constraint),
        JoinOperator::FullOuter(constraint) if !grouped => Ok(constraint),
        JoinOperator::FullOuter(_) => {
            let message = "a FULL JOIN that is grouped loses the windows of rows without a match";
            let refusal = Refusal::new(join.relation.span(), message);
            Err(refusal.help("group each side in a view of its own").help("or write LEFT JOIN"))
        }
        _ => {
            let message = "windows are joined by `[INNER | LEFT | FULL] JOIN … ON`";
            let refusal = Refusal::new(join.relation.span(), message);
            Err(refusal.help("write the side whose rows are all kept first"))
        }
    }
}

/// Both bounds of the windows must be equal: rows of different windows never meet, so a window is final when it closes.
fn equal_windows(constraint: &JoinConstraint, sides: &[String], at: Span) -> Result<(), Refusal> {
    let (earlier, this) = sides.split_at(sides.len() - 1);
    let is_equal = |bound: &str| match constraint {
        JoinConstraint::Using(columns) => columns.iter().any(|column| column.to_string().to_lowercase() == bound),
        JoinConstraint::On(condition) => equates(condition, bound, earlier, &this[0]),
        JoinConstraint::Natural | JoinConstraint::None => false,
    };
    match [WINDOW_START, WINDOW_END].iter().find(|bound| !is_equal(bound)) {
        None => Ok(()),
        Some(_) => {
            let (a, b) = (&earlier[0], &this[0]);
            let help = format!(
                "write `ON {a}.{WINDOW_START} = {b}.{WINDOW_START} AND {a}.{WINDOW_END} = {b}.{WINDOW_END} AND …`"
            );
            Err(Refusal::new(at, "windows are joined window by window").help(help))
        }
    }
}

fn equates(condition: &Expr, bound: &str, earlier: &[String], this: &str) -> bool {
    let side = |expr: &Expr| match expr {
        Expr::CompoundIdentifier(parts) => match parts.as_slice() {
            [relation, column] if normal(column) == bound => Some(normal(relation)),
            _ => None,
        },
        _ => None,
    };
    match condition {
        Expr::Nested(inner) => equates(inner, bound, earlier, this),
        Expr::BinaryOp { left, op: BinaryOperator::And, right } => {
            equates(left, bound, earlier, this) || equates(right, bound, earlier, this)
        }
        Expr::BinaryOp { left, op: BinaryOperator::Eq, right } => match (side(left), side(right)) {
            (Some(a), Some(b)) => (earlier.contains(&a) && b == this) || (earlier.contains(&b) && a == this),
            _ => false,
        },
        _ => false,
    }
}

/// What the rows of a source's open windows are called.
pub(super) fn rows_of(side: usize) -> String {
    if side == 0 { ROWS.to_owned() } else { format!("{ROWS}_{side}") }
}

/// Whether a relation is the rows of a source's open windows.
pub(super) fn is_rows(factor: &TableFactor) -> bool {
    source_named(factor).is_some()
}

/// The number of the source whose rows a relation is.
fn source_named(factor: &TableFactor) -> Option<usize> {
    let TableFactor::Table { name, args: None, .. } = factor else { return None };
    let number = single(name)?.value.strip_prefix(ROWS)?;
    if number.is_empty() { Some(0) } else { number.strip_prefix('_')?.parse().ok() }
}

/// Writes out every joined side of a query, as written or with its rows named: over whole windows inside `range` when one
/// is given. `calls` are the windows of each source.
pub(super) fn write_sides(
    select: &mut Select,
    calls: &[&WindowCall],
    range: Option<TimeRange>,
    conditions: &[String],
    windows: &[String],
) -> Result<(), Refusal> {
    for join in select.from.iter_mut().flat_map(|from| &mut from.joins) {
        let (source, alias) = match (source_named(&join.relation), window_call(&join.relation)?, &join.relation) {
            (Some(source), _, TableFactor::Table { alias, .. }) => (Some(source), alias.clone()),
            (_, Some(call), _) => {
                let table = call.table.to_string();
                (calls.iter().position(|known| known.table.to_string() == table), call.alias)
            }
            _ => continue,
        };
        if let Some(call) = source.and_then(|source| calls.get(source)) {
            join.relation = WindowCall { alias, ..(*call).clone() }.subquery(range, conditions, windows)?;
        }
    }
    Ok(())
}

/// Views of the same windows that are joined on both bounds are a join of these windows: their rows are waited for, window by
/// window. Puts the windows in the place of the views' names.
pub(super) fn name_windows(select: &mut Select, catalog: &Catalog) -> Result<(), Refusal> {
    let Some(from) = select.from.first_mut() else { return Ok(()) };
    let Some((spec, first)) = view_of(&from.relation, catalog) else { return Ok(()) };
    let mut sides = vec![first];
    for join in &mut from.joins {
        let at = join.relation.span();
        let Some((_, alias)) = view_of(&join.relation, catalog).filter(|(other, _)| *other == spec) else { continue };
        let constraint = match &join.join_operator {
            JoinOperator::Join(constraint)
            | JoinOperator::Inner(constraint)
            | JoinOperator::Left(constraint)
            | JoinOperator::LeftOuter(constraint)
            | JoinOperator::FullOuter(constraint) => constraint,
            _ => continue,
        };
        sides.push(alias);
        if equal_windows(constraint, &sides, at).is_err() {
            sides.pop();
            continue;
        }
        join.relation = as_windows(&join.relation, spec)?;
    }
    if sides.len() > 1 {
        from.relation = as_windows(&from.relation, spec)?;
    }
    Ok(())
}

/// The windows of the view a relation names, and what the query calls it.
fn view_of(factor: &TableFactor, catalog: &Catalog) -> Option<(WindowSpec, String)> {
    let TableFactor::Table { name, alias, args: None, version: None, sample: None, .. } = factor else { return None };
    let ident = single(name)?;
    let view = catalog.view(&normal(ident))?;
    let ViewKind::Windowed(spec) = view.kind else { return None };
    let told = |name: &str| view.times.iter().any(|(told, _)| **told == *name);
    let called = alias.as_ref().map_or_else(|| normal(ident), |alias| normal(&alias.name));
    (told(WINDOW_START) && told(WINDOW_END)).then_some((spec, called))
}

/// A view's name as the windows its rows are of.
fn as_windows(factor: &TableFactor, spec: WindowSpec) -> Result<TableFactor, Refusal> {
    let at = factor.span();
    let TableFactor::Table { name, alias, .. } = factor else { return Ok(factor.clone()) };
    let Some(ident) = single(name) else { return Ok(factor.clone()) };
    let (grid, time) = match spec.shape() {
        WindowShape::Tumble(grid) => {
            return call_of_cells(ident, grid, alias.clone().unwrap_or_else(|| alias_of(ident)));
        }
        WindowShape::Hop { slides, .. } => (slides, WINDOW_START),
        WindowShape::Cumulate { steps, .. } => (steps, WINDOW_END),
        WindowShape::Session { .. } => return Err(of_sessions(at)),
    };
    let function = spec.function();
    let refusal = Refusal::new(at, format!("`{name}` is a view over `{function}`: its windows overlap"));
    let size = show_duration(grid.length());
    Err(refusal
        .help(format!("write `TUMBLE({name}, {time}, INTERVAL '{size}')` on both sides, which tells them apart"))
        .help(format!("or join `{function}` with `{function}` in one view")))
}
