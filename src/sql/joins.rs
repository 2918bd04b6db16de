//! The joins of a standing query, as written.
//!
//! The one law: the relation that stands first drives the query; whatever is joined to it is a lookup, or the same windows.
//! What cannot be one is refused here, where it stands, with what to write instead.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, Ident, Join, JoinConstraint, JoinOperator, ObjectName, Query, Select, SelectItem, SetExpr,
    Spanned, TableAlias, TableFactor, TableWithJoins,
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
use crate::syntax::{Change, change};

/// How the names of lookups begin.
const LOOKUP_PREFIX: &str = "__lookup_";

/// In an audit's statements: which version of its lookups a joined window met when it closed, as a column of the side that
/// stands first.
const MET_AT: &str = "__met_at";

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
    let may_lack_first = alias_in(&from.relation).is_some_and(|first| joins.aliases.contains(&first));
    let others = joins.windows.iter().skip(1).filter_map(|call| single(&call.table)).map(normal);
    let drivers: Vec<String> = driver.map(|(name, _)| name).into_iter().chain(others).collect();
    for join in from.joins.iter_mut().filter(|join| !is_rows(&join.relation)) {
        let at = join.relation.span();
        joins.at.get_or_insert(at);
        no_rows_of_a_row(&join.relation)?;
        let constraint = constraint(join)?;
        has_equality(constraint, at)?;
        if let (true, JoinConstraint::Using(columns)) = (may_lack_first, constraint) {
            let columns = columns.iter().map(ToString::to_string).collect::<Vec<_>>();
            let refusal = Refusal::new(at, "USING takes the first side's columns, which a FULL JOIN leaves NULL");
            let equal = |column: &String| format!("b.{column} = coalesce(a.{column}, …)");
            return Err(
                refusal.help(format!("write `ON {}`", columns.iter().map(equal).collect::<Vec<_>>().join(" AND ")))
            );
        }
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

/// Refuses relations that are made of each row of those before them.
fn no_rows_of_a_row(relation: &TableFactor) -> Result<(), Refusal> {
    let (at, shown, help) = match relation {
        TableFactor::UNNEST { array_exprs, .. } => {
            (array_exprs.first().map_or_else(Span::empty, Spanned::span), "UNNEST", "write a batch query")
        }
        TableFactor::Derived { lateral: true, subquery, .. } => {
            (subquery.span(), "LATERAL", "write `JOIN (SELECT …) h ON …`, grouped by what it is joined by")
        }
        TableFactor::Function { lateral: true, name, .. } => (name.span(), "LATERAL", "write a batch query"),
        _ => return Ok(()),
    };
    Err(Refusal::new(at, format!("{shown} makes rows of each row, which a standing query does not")).help(help))
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

/// Lets each row, and each window of joined windows (`of_windows`), meet only the version of a lookup that it saw.
///
/// # Errors
/// None that planning the query would not have met.
pub(super) fn by_version(query: &mut Query, of_windows: bool) -> Result<(), Refusal> {
    match change(query, &mut ByVersion { of_windows }) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(refusal) => Err(refusal),
    }
}

struct ByVersion {
    /// The next SELECT, which is the outermost one, joins windows.
    of_windows: bool,
}

impl Change for ByVersion {
    type Break = Refusal;

    fn select(&mut self, select: &mut Select) -> ControlFlow<Refusal> {
        let of_windows = std::mem::take(&mut self.of_windows);
        match select.from.first_mut().map_or(Ok(()), |from| meet_versions(from, of_windows)) {
            Ok(()) => ControlFlow::Continue(()),
            Err(refusal) => ControlFlow::Break(refusal),
        }
    }
}

/// Writes into each join with a lookup which version is met: the row's own, or that of the end of a window.
fn meet_versions(from: &mut TableWithJoins, of_windows: bool) -> Result<(), Refusal> {
    // The sides so far: the end of a window is that of whichever is not NULL.
    let mut ends: Vec<String> = window_of(&from.relation).into_iter().collect();
    // By USING both sides have one more column of one name, of windows the first side: no row lacks it.
    let (mut is_used, used) = (false, if of_windows { MET_AT } else { JOINED_AT });
    for join in &mut from.joins {
        let TableFactor::Table { name, alias: Some(alias), .. } = &join.relation else {
            ends.extend(window_of(&join.relation));
            continue;
        };
        if !single(name).is_some_and(|ident| ident.value.starts_with(LOOKUP_PREFIX)) {
            continue;
        }
        match constraint_mut(&mut join.join_operator) {
            Some(JoinConstraint::Using(columns)) => {
                columns.push(ObjectName::from(vec![Ident::new(used)]));
                let looked_up = Expr::Identifier(Ident::new(LOOKED_UP_AT));
                join.relation = numbered(join.relation.clone(), looked_up, used, alias.clone())?;
                is_used = true;
            }
            Some(JoinConstraint::On(condition)) => {
                let met = match of_windows {
                    true => met_by_end(&format!("coalesce({})", ends.join(", ")))?,
                    false => Expr::Identifier(Ident::new(JOINED_AT)),
                };
                let looked_up = Expr::CompoundIdentifier(vec![alias.name.clone(), Ident::new(LOOKED_UP_AT)]);
                let written = Expr::Nested(Box::new(condition.clone()));
                *condition = binary(written, BinaryOperator::And, binary(met, BinaryOperator::Eq, looked_up));
            }
            _ => {}
        }
    }
    if let (true, true, TableFactor::Derived { alias: Some(alias), .. }) = (of_windows, is_used, &from.relation) {
        from.relation = numbered(from.relation.clone(), met_by_end(WINDOW_END)?, used, alias.clone())?;
    }
    Ok(())
}

/// Which version windows that end then have met.
fn met_by_end(end: &str) -> Result<Expr, Refusal> {
    parse_expression(&format!("{JOINED_BY_END}(CAST({end} AS BIGINT))"))
}

/// A relation with one more column.
fn numbered(relation: TableFactor, number: Expr, name: &str, alias: TableAlias) -> Result<TableFactor, Refusal> {
    let mut numbered = parse_expression(&format!("(SELECT *, NULL AS {name} FROM __relation)"))?;
    if let Expr::Subquery(subquery) = &mut numbered
        && let SetExpr::Select(select) = subquery.body.as_mut()
        && let (Some(SelectItem::ExprWithAlias { expr, .. }), Some(from)) =
            (select.projection.last_mut(), select.from.first_mut())
    {
        (*expr, from.relation) = (number, relation);
    }
    match numbered {
        Expr::Subquery(subquery) => {
            Ok(TableFactor::Derived { lateral: false, subquery, alias: Some(alias), sample: None })
        }
        other => Err(Refusal::new(other.span(), format!("`{other}` is no subquery"))),
    }
}

/// What a join that may have a lookup demands.
fn constraint_mut(join: &mut JoinOperator) -> Option<&mut JoinConstraint> {
    match join {
        JoinOperator::Join(constraint)
        | JoinOperator::Inner(constraint)
        | JoinOperator::Left(constraint)
        | JoinOperator::LeftOuter(constraint) => Some(constraint),
        _ => None,
    }
}

fn binary(left: Expr, op: BinaryOperator, right: Expr) -> Expr {
    Expr::BinaryOp { left: Box::new(left), op, right: Box::new(right) }
}

/// What the query calls the windows that stand first.
fn alias_in(factor: &TableFactor) -> Option<String> {
    let call = window_call(factor).ok()??;
    call.alias.map(|alias| normal(&alias.name))
}

/// The end of the windows a side was written out as.
fn window_of(factor: &TableFactor) -> Option<String> {
    let TableFactor::Derived { alias: Some(alias), .. } = factor else { return None };
    Some(format!("{}.{WINDOW_END}", alias.name))
}
