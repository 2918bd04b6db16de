//! The joins of a standing query, as written.
//!
//! The one law: the relation that stands first drives the query; whatever is joined to it is a lookup, or the same windows.
//! What cannot be one is refused here, where it stands, with what to write instead.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, Ident, Join, JoinConstraint, JoinOperator, ObjectName, Query, Select, SetExpr, Spanned,
    TableFactor, VisitMut, VisitorMut,
};
use datafusion::sql::sqlparser::tokenizer::Span;

use super::buffered::{is_rows, joins_windows, take_windows};
use super::catalog::{Catalog, alias_of, single, table_named};
use super::file::{normal, tables_read};
use super::lookup::{JOINED_AT, JOINED_BY_END, LOOKED_UP_AT};
use super::place::Refusal;
use super::spec::WindowShape;
use super::static_file::StaticFile;
use super::windows::{WINDOW_END, WindowCall, narrowed, parse_expression, window_call};
use crate::error::Result;

/// How the names of lookups begin.
const LOOKUP_PREFIX: &str = "__lookup_";

/// A join as written, its relation replaced by a name.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) name: Arc<str>,
    pub(super) query: Box<Query>,
    pub(super) tables: Vec<(String, Span)>,
    pub(super) at: Span,
}

/// The joins of a SELECT.
#[derive(Debug, Default)]
pub(super) struct Joins {
    pub(super) written: Vec<Written>,
    /// What the query calls its lookups, files included.
    pub(super) aliases: BTreeSet<String>,
    /// Where the first one stands.
    pub(super) at: Option<Span>,
    /// The windows that are joined with windows, once for each source; empty where none are.
    pub(super) windows: Vec<WindowCall>,
}

/// Takes the joins out of a view's SELECT: each lookup becomes a table of a name of its own, static files (`files`) stay.
///
/// `view` is the view's own name, `driver` the relation that stands first in FROM.
pub(super) fn take_joins(
    query: &mut Query,
    view: &str,
    catalog: &Catalog,
    files: &[Arc<StaticFile>],
) -> Result<Joins, Refusal> {
    let mut joins = Joins::default();
    let SetExpr::Select(select) = query.body.as_mut() else { return Ok(joins) };
    refuse_lists(select, catalog)?;
    if joins_windows(select) {
        let taken = take_windows(select)?;
        (joins.windows, joins.aliases) = (taken.calls, taken.nullable);
    }
    let Some(from) = select.from.first_mut() else { return Ok(joins) };
    if let (Some(join), Ok(Some(call))) = (from.joins.first(), window_call(&from.relation))
        && matches!(call.spec.shape(), WindowShape::Session { .. })
    {
        let refusal = Refusal::new(join.relation.span(), "rows of sessions are not joined");
        return Err(refusal.help("join them in a view without a window, and read its rows in the session"));
    }
    let driver = relation_name(&from.relation);
    if let (Some((name, at)), Some(join)) = (&driver, from.joins.first()) {
        first_is_driver(name, *at, join, catalog)?;
    }
    let others = joins.windows.iter().skip(1).filter_map(|call| single(&call.table)).map(normal);
    let drivers: Vec<String> = driver.map(|(name, _)| name).into_iter().chain(others).collect();
    for join in from.joins.iter_mut().filter(|join| !is_rows(&join.relation)) {
        let at = join.relation.span();
        joins.at.get_or_insert(at);
        let constraint = constraint(join)?;
        has_equality(constraint, at)?;
        let alias = take_one(join, &mut joins.written, view, &drivers, catalog, files)?;
        joins.aliases.insert(alias);
    }
    Ok(joins)
}

/// Replaces one join's relation; returns what the query calls it.
fn take_one(
    join: &mut Join,
    written: &mut Vec<Written>,
    view: &str,
    drivers: &[String],
    catalog: &Catalog,
    files: &[Arc<StaticFile>],
) -> Result<String, Refusal> {
    let at = join.relation.span();
    let (query, alias) = match &join.relation {
        TableFactor::Table { name, alias, args: None, version: None, sample: None, .. } => {
            let Some(ident) = single(name) else {
                return Err(Refusal::new(at, format!("no table `{name}`")).help("a table of the lake has one name"));
            };
            let alias = alias.clone().unwrap_or_else(|| alias_of(ident));
            if files.iter().any(|file| *file.name == *ident.value) {
                return Ok(normal(&alias.name));
            }
            let TableFactor::Derived { subquery, .. } = narrowed(name, None, &[])? else {
                return Err(Refusal::new(at, format!("no table `{name}`")));
            };
            (subquery, alias)
        }
        TableFactor::Derived { subquery, alias: Some(alias), lateral: false, .. } => (subquery.clone(), alias.clone()),
        TableFactor::Derived { .. } => {
            let refusal = Refusal::new(at, "a subquery that is joined needs a name and is not LATERAL");
            return Err(refusal.help("write `JOIN (SELECT …) h ON …`"));
        }
        TableFactor::Table { name, args: Some(_), .. } => {
            return Err(windows_of_one_side(name, at));
        }
        other => {
            let refusal = Refusal::new(at, format!("`{other}` cannot be joined"));
            return Err(refusal.help("join a table of the lake, a subquery over such tables, or a file"));
        }
    };
    let tables = read_tables(&query);
    for (name, at) in &tables {
        allowed(name, *at, view, drivers, catalog)?;
    }
    let name: Arc<str> = format!("{LOOKUP_PREFIX}{view}_{}", written.len()).into();
    written.push(Written { name: Arc::clone(&name), query, tables, at });
    let called = normal(&alias.name);
    join.relation = table_named(&name, Some(alias), at);
    Ok(called)
}

/// Tables a query reads, without the names it gives to parts of itself.
fn read_tables(query: &Query) -> Vec<(String, Span)> {
    let own: Vec<String> =
        query.with.iter().flat_map(|with| &with.cte_tables).map(|cte| normal(&cte.alias.name)).collect();
    tables_read(query).into_iter().filter(|(name, _)| !own.contains(name)).collect()
}

/// Whether a lookup may read this table.
fn allowed(name: &str, at: Span, view: &str, drivers: &[String], catalog: &Catalog) -> Result<(), Refusal> {
    let stream = &catalog.stream.name;
    if *name == **stream {
        let refusal = Refusal::new(at, format!("`{name}` is the stream, of which no row is ever the last"));
        return Err(refusal
            .help(format!(
                "join its windows, `TUMBLE({stream}, …) a JOIN TUMBLE({stream}, …) b ON a.window_start = b.window_start AND \
                 a.window_end = b.window_end AND …`"
            ))
            .help("or a table that a view over it fills"));
    }
    if name == view {
        let refusal = Refusal::new(at, format!("`{name}` is the view itself: it would feed on its own rows"));
        return Err(refusal.help("let another view keep what it needs to know"));
    }
    if drivers.iter().any(|driver| driver == name) {
        let message = format!("`{name}` drives this query, so its newest rows are not in its table yet");
        return Err(Refusal::new(at, message).help("join a view over it, or its windows"));
    }
    if catalog.table(name).is_none() {
        let refusal = Refusal::new(at, format!("no table `{name}` of the lake")).near(name, catalog.tables());
        return Err(refusal.help("or declare one in `lake.contracts`"));
    }
    Ok(())
}

/// A list in FROM is a cross join.
fn refuse_lists(select: &Select, catalog: &Catalog) -> Result<(), Refusal> {
    let Some(second) = select.from.get(1) else { return Ok(()) };
    let refusal = Refusal::new(second.relation.span(), "a list in FROM joins every row with every other");
    let (first, second) = (&catalog.stream.name, &second.relation);
    Err(refusal.help(format!("write `FROM {first} a JOIN {second} b ON a.key = b.key`")))
}

/// The relation that stands first must be the one whose rows flow.
fn first_is_driver(name: &str, at: Span, join: &Join, catalog: &Catalog) -> Result<(), Refusal> {
    let flows = |name: &str| *name == *catalog.stream.name || catalog.view(name).is_some();
    let Some((second, _)) = relation_name(&join.relation) else { return Ok(()) };
    if !flows(name) && catalog.table(name).is_some() && flows(&second) {
        let refusal = Refusal::new(at, format!("`{name}` does not flow, so it cannot drive the query"));
        return Err(refusal.help(format!("write `FROM {second} JOIN {name} ON …`")));
    }
    Ok(())
}

fn constraint(join: &Join) -> Result<&JoinConstraint, Refusal> {
    let at = join.relation.span();
    let refuse = |message: &str, help: &str| Err(Refusal::new(at, message).help(help));
    match &join.join_operator {
        JoinOperator::Join(constraint)
        | JoinOperator::Inner(constraint)
        | JoinOperator::Left(constraint)
        | JoinOperator::LeftOuter(constraint) => Ok(constraint),
        JoinOperator::Right(_) | JoinOperator::RightOuter(_) => refuse(
            "a RIGHT JOIN would answer with rows no event has brought",
            "write what flows first, and LEFT JOIN the rest",
        ),
        JoinOperator::FullOuter(_) => refuse(
            "a FULL JOIN would answer with rows no event has brought",
            "write LEFT JOIN, and look for what never came in a batch query",
        ),
        JoinOperator::CrossJoin(_) => {
            refuse("a CROSS JOIN joins every row with every other", "write `JOIN … ON a.key = b.key`")
        }
        JoinOperator::Semi(_) | JoinOperator::LeftSemi(_) => refuse(
            "SEMI JOIN is not supported in a standing query",
            "write `JOIN (SELECT DISTINCT key FROM …) b ON a.key = b.key`",
        ),
        JoinOperator::Anti(_) | JoinOperator::LeftAnti(_) => refuse(
            "ANTI JOIN is not supported in a standing query",
            "write `LEFT JOIN … b ON a.key = b.key WHERE b.key IS NULL`",
        ),
        _ => refuse("a standing query has no such join", "write `[INNER | LEFT] JOIN … ON a.key = b.key`"),
    }
}

/// A join must find its rows by an equality.
fn has_equality(constraint: &JoinConstraint, at: Span) -> Result<(), Refusal> {
    match constraint {
        JoinConstraint::Using(_) => Ok(()),
        JoinConstraint::On(condition) if equalities(condition) > 0 => Ok(()),
        JoinConstraint::On(condition) => {
            let refusal =
                Refusal::new(condition.span(), "the join has no equality, so every row would meet every other");
            Err(refusal.or_at(at).help("add one, like `a.key = b.key AND …`"))
        }
        JoinConstraint::Natural => {
            let refusal = Refusal::new(at, "a NATURAL JOIN changes with every column added later");
            Err(refusal.help("name the columns: `JOIN … USING (key)`"))
        }
        JoinConstraint::None => {
            let refusal = Refusal::new(at, "a JOIN without ON joins every row with every other");
            Err(refusal.help("write `ON a.key = b.key`"))
        }
    }
}

/// Equalities a condition demands.
fn equalities(condition: &Expr) -> usize {
    match condition {
        Expr::BinaryOp { left, op: BinaryOperator::And, right } => equalities(left) + equalities(right),
        Expr::BinaryOp { op: BinaryOperator::Eq, .. } => 1,
        Expr::Nested(inner) => equalities(inner),
        _ => 0,
    }
}

/// Windows may be joined with windows only.
fn windows_of_one_side(name: &ObjectName, at: Span) -> Refusal {
    let refusal = Refusal::new(at, format!("`{name}` is joined with windows alone"));
    refusal.help("write windows on both sides").help("or join the table that a view over these windows fills")
}

/// The relation a factor reads: its own name, or what its windows are over.
fn relation_name(factor: &TableFactor) -> Option<(String, Span)> {
    if let Ok(Some(call)) = window_call(factor) {
        return single(&call.table).map(|ident| (normal(ident), ident.span));
    }
    match factor {
        TableFactor::Table { name, args: None, .. } => single(name).map(|ident| (normal(ident), ident.span)),
        _ => None,
    }
}

/// Lets each row, and each window of joined windows (`of_windows`), meet only the version of a lookup that it saw. `false`
/// where that cannot be said: lookups that joined windows meet by USING.
pub(super) fn by_version(query: &mut Query, of_windows: bool) -> bool {
    let mut said = true;
    let _: ControlFlow<()> = query.visit(&mut ByVersion { said: &mut said, of_windows });
    said
}

struct ByVersion<'a> {
    said: &'a mut bool,
    /// The next SELECT, which is the outermost one, joins windows.
    of_windows: bool,
}

impl VisitorMut for ByVersion<'_> {
    type Break = ();

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        let of_windows = std::mem::take(&mut self.of_windows);
        let Some(from) = select.from.first_mut() else { return ControlFlow::Continue(()) };
        // The sides so far: the end of a window is that of whichever is not NULL.
        let mut ends: Vec<String> = window_of(&from.relation).into_iter().collect();
        for join in &mut from.joins {
            let TableFactor::Table { name, alias: Some(alias), .. } = &join.relation else {
                ends.extend(window_of(&join.relation));
                continue;
            };
            if !single(name).is_some_and(|ident| ident.value.starts_with(LOOKUP_PREFIX)) {
                continue;
            }
            if let (false, Some(columns)) = (of_windows, using(&mut join.join_operator)) {
                // Both sides have one more column of one name.
                let numbered = format!("(SELECT *, {LOOKED_UP_AT} AS {JOINED_AT} FROM {name})");
                if let Ok(Expr::Subquery(subquery)) = parse_expression(&numbered) {
                    columns.push(ObjectName::from(vec![Ident::new(JOINED_AT)]));
                    let alias = Some(alias.clone());
                    join.relation = TableFactor::Derived { lateral: false, subquery, alias, sample: None };
                    continue;
                }
            }
            let met = match of_windows {
                true => parse_expression(&format!("{JOINED_BY_END}(CAST(coalesce({}) AS BIGINT))", ends.join(", "))),
                false => Ok(Expr::Identifier(Ident::new(JOINED_AT))),
            };
            let looked_up = Expr::CompoundIdentifier(vec![alias.name.clone(), Ident::new(LOOKED_UP_AT)]);
            match (&mut join.join_operator, met) {
                (
                    JoinOperator::Join(JoinConstraint::On(condition))
                    | JoinOperator::Inner(JoinConstraint::On(condition))
                    | JoinOperator::Left(JoinConstraint::On(condition))
                    | JoinOperator::LeftOuter(JoinConstraint::On(condition)),
                    Ok(met),
                ) => {
                    let written = Expr::Nested(Box::new(condition.clone()));
                    *condition = binary(written, BinaryOperator::And, binary(met, BinaryOperator::Eq, looked_up));
                }
                _ => *self.said = false,
            }
        }
        ControlFlow::Continue(())
    }
}

/// The columns of a join by USING.
fn using(join: &mut JoinOperator) -> Option<&mut Vec<ObjectName>> {
    match join {
        JoinOperator::Join(JoinConstraint::Using(columns))
        | JoinOperator::Inner(JoinConstraint::Using(columns))
        | JoinOperator::Left(JoinConstraint::Using(columns))
        | JoinOperator::LeftOuter(JoinConstraint::Using(columns)) => Some(columns),
        _ => None,
    }
}

fn binary(left: Expr, op: BinaryOperator, right: Expr) -> Expr {
    Expr::BinaryOp { left: Box::new(left), op, right: Box::new(right) }
}

/// The end of the windows a side was written out as.
fn window_of(factor: &TableFactor) -> Option<String> {
    let TableFactor::Derived { alias: Some(alias), .. } = factor else { return None };
    Some(format!("{}.{WINDOW_END}", alias.name))
}
