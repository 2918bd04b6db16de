//! What a standing query may not say.
//!
//! The one law: a query that could not keep "stream = batch", or that would need state without end, is refused before it
//! runs, where it says so, with what to write instead. Shapes that come later are refused as "not supported yet".
//! Types and columns are checked elsewhere: names by the planner, types by [`super::output`].

use std::ops::ControlFlow;

use datafusion::common::Column;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::{Expr as LogicalExpr, LogicalPlan};
use datafusion::sql::sqlparser::ast::{
    Expr, GroupByExpr, Query, Select, SetExpr, Spanned, TableFactor, Value, ValueWithSpan,
};
use datafusion::sql::sqlparser::tokenizer::Span;

use super::catalog::Catalog;
use super::file::{View, normal};
use super::functions::Functions;
use super::joins::Joins;
use super::place::{Refusal, Refusals};
use super::relation::{Shape, Source, source};
use super::windows::{WINDOW_END, WINDOW_START, check_combined};
use crate::syntax::{Look, look};

/// Checks a view's text. `None` when it has no source to plan over; all that is wrong is among `refused`.
pub(super) fn check(view: &View, state: &SessionState, catalog: &Catalog, refused: &mut Refusals) -> Option<Source> {
    refused.extend(tail(&view.query));
    let select = refused.keep(plain_select(&view.query))?;
    let clauses = clauses(select);
    let is_plain = clauses.is_empty();
    refused.extend(clauses);
    let source = refused.keep(source(select, catalog));
    // What stands in FROM is the source's business; a subquery there has been told of already.
    let outside = if source.is_some() { 1 } else { usize::MAX };
    let event_time = catalog.event_time.as_ref();
    let mut calls = Calls {
        functions: Functions::of(state),
        event_time,
        queries: 0,
        queries_max: outside,
        aggregates: Vec::new(),
        refused: Refusals::default(),
    };
    let _: ControlFlow<()> = look(&view.query, &mut calls);
    refused.extend(calls.refused);
    refused.keep(group_by(select));
    let source = source?;
    let Shape::Stateless { table, .. } = &source.shape else { return Some(source) };
    if let Some((_, at)) = view.allowed_lateness {
        let refusal = Refusal::new(at, "`allowed_lateness` is for windows; without one no row is late");
        refused.push(refusal.help("remove the option, or read a window"));
    }
    if let (Some(at), true) = (aggregation(select, &calls.aggregates), is_plain) {
        let time = source.time.as_deref().unwrap_or(event_time);
        refused.push(
            Refusal::new(at, "an aggregate over the whole stream never ends")
                .help(format!("read `TUMBLE({table}, {time}, INTERVAL '1 minute')`"))
                .help(format!("and group by `{WINDOW_START}`, `{WINDOW_END}`")),
        );
        // Whatever the planner says of it would only be more of the same.
        return None;
    }
    Some(source)
}

/// Checks what the planner made of it.
pub(super) fn check_plan(view: &View, plan: &LogicalPlan, source: &Source, joins: &Joins) -> Result<(), Refusals> {
    let mut aggregates = Vec::new();
    let mut unknown = None;
    // The walk itself cannot fail: neither branch returns an error.
    let _ = plan.apply(|node| {
        match node {
            LogicalPlan::Aggregate(aggregate) => aggregates.push(aggregate.group_expr.clone()),
            LogicalPlan::Projection(_)
            | LogicalPlan::Filter(_)
            | LogicalPlan::SubqueryAlias(_)
            | LogicalPlan::TableScan(_)
            // Its joins were looked at where they are written.
            | LogicalPlan::Join(_) => {}
            other => unknown = Some(other.display().to_string()),
        }
        Ok(TreeNodeRecursion::Continue)
    });
    if let Some(node) = unknown {
        let refusal = Refusal::new(view.at, format!("`{node}` is not supported yet in a standing query"));
        return Err(refusal.help("write a batch query").into());
    }
    let Shape::Windowed(call) = &source.shape else { return Ok(()) };
    let select = plain_select(&view.query)?;
    let at = group_by_span(select);
    let joins_windows = !joins.windows.is_empty();
    if joins_windows && aggregates.is_empty() {
        return Ok(());
    }
    let first = select.from.first().and_then(|from| match &from.relation {
        TableFactor::Table { alias: Some(alias), .. } if joins_windows => Some(normal(&alias.name)),
        _ => None,
    });
    let [groups] = aggregates.as_slice() else {
        let refusal = Refusal::new(at, "a query over windows aggregates them").or_at(view.at);
        return Err(refusal.help(format!("add `GROUP BY {WINDOW_START}, {WINDOW_END}`")).into());
    };
    let mut refused = Refusals::default();
    for wanted in [WINDOW_START, WINDOW_END] {
        // Of joined windows the first side's count: only they are never NULL.
        let of_lookup = |column: &Column| match (&column.relation, &first) {
            (Some(relation), Some(first)) => relation.table() != first,
            (Some(relation), None) => joins.aliases.contains(relation.table()),
            (None, _) => false,
        };
        let is_wanted =
            |group: &LogicalExpr| matches!(group, LogicalExpr::Column(c) if c.name == wanted && !of_lookup(c));
        if !groups.iter().any(is_wanted) {
            let refusal = Refusal::new(at, format!("the aggregate is not grouped by `{wanted}`")).or_at(view.at);
            refused.push(refusal.help("add it to GROUP BY").note("without it the answer would never be final"));
        }
    }
    // Of joined windows the whole plan runs over windows that have been put together.
    if !joins_windows {
        refused.keep(check_combined(call, select, plan, groups).map_err(|refusal| refusal.or_at(at)));
    }
    refused.or(())
}

/// What stands around the SELECT and has no meaning for a stream.
fn tail(query: &Query) -> Refusals {
    let mut refused = Refusals::default();
    let meaningless = |clause: &str| format!("{clause} has no meaning for rows that are added as windows close");
    if let Some(order) = &query.order_by {
        refused.push(Refusal::new(order.span(), meaningless("ORDER BY")).help("sort where you read the table"));
    }
    let limit = query.limit_clause.as_ref().map(Spanned::span).or_else(|| query.fetch.as_ref().map(Spanned::span));
    if let Some(at) = limit {
        refused.push(Refusal::new(at, meaningless("LIMIT")).help("limit where you read the table"));
    }
    refused
}

/// The one SELECT a standing query is.
pub(super) fn plain_select(query: &Query) -> Result<&Select, Refusal> {
    if let Some(with) = &query.with {
        let refusal = Refusal::new(with.with_token.0.span, "WITH is not supported yet in a standing query");
        return Err(refusal.help("write one SELECT over the stream"));
    }
    match query.body.as_ref() {
        SetExpr::Select(select) => Ok(select),
        SetExpr::SetOperation { op, right, .. } => {
            let refusal = Refusal::new(right.span(), format!("{op} is not supported yet in a standing query"));
            Err(refusal.help("write a query file for each SELECT"))
        }
        other => Err(Refusal::new(other.span(), "a standing query is one SELECT over the stream")),
    }
}

fn clauses(select: &Select) -> Refusals {
    let at = select.select_token.0.span;
    let mut refused = Refusals::default();
    if select.distinct.is_some() {
        let refusal = Refusal::new(at, "SELECT DISTINCT would have to remember every row");
        refused.push(refusal.help("group by the columns inside a window"));
    }
    let unsupported = [
        ("TOP", select.top.is_some()),
        ("INTO", select.into.is_some()),
        ("LATERAL VIEW", !select.lateral_views.is_empty()),
        ("PREWHERE", select.prewhere.is_some()),
        ("CONNECT BY", !select.connect_by.is_empty()),
        ("CLUSTER BY", !select.cluster_by.is_empty()),
        ("DISTRIBUTE BY", !select.distribute_by.is_empty()),
        ("SORT BY", !select.sort_by.is_empty()),
        ("WINDOW", !select.named_window.is_empty()),
        ("QUALIFY", select.qualify.is_some()),
    ];
    for (clause, _) in unsupported.iter().filter(|(_, used)| *used) {
        let refusal = Refusal::new(at, format!("{clause} is not supported in a standing query"));
        refused.push(refusal.help("write a batch query"));
    }
    refused
}

fn group_by(select: &Select) -> Result<(), Refusal> {
    let GroupByExpr::Expressions(expressions, modifiers) = &select.group_by else {
        let refusal = Refusal::new(group_by_span(select), "GROUP BY ALL is not supported in a standing query");
        return Err(refusal.or_at(select.select_token.0.span).help("name the columns"));
    };
    let sets = expressions.iter().find(|e| matches!(e, Expr::Rollup(_) | Expr::Cube(_) | Expr::GroupingSets(_)));
    if sets.is_some() || !modifiers.is_empty() {
        let at = sets.map_or_else(|| group_by_span(select), Spanned::span);
        let refusal = Refusal::new(at, "grouping sets are not supported in a standing query");
        return Err(refusal.or_at(select.select_token.0.span).help("write a query file for each"));
    }
    Ok(())
}

pub(super) fn group_by_span(select: &Select) -> Span {
    match &select.group_by {
        GroupByExpr::Expressions(expressions, _) if !expressions.is_empty() => expressions[0].span(),
        _ => select.select_token.0.span,
    }
}

/// Where a query aggregates, if it does.
fn aggregation(select: &Select, aggregates: &[Span]) -> Option<Span> {
    let grouped = match &select.group_by {
        GroupByExpr::Expressions(expressions, _) => !expressions.is_empty(),
        GroupByExpr::All(_) => true,
    };
    let having = select.having.as_ref().map(Spanned::span);
    aggregates.first().copied().or_else(|| grouped.then(|| group_by_span(select))).or(having)
}

/// Looks at every call, subquery and placeholder.
struct Calls<'a> {
    functions: Functions,
    event_time: &'a str,
    queries: usize,
    queries_max: usize,
    aggregates: Vec<Span>,
    refused: Refusals,
}

impl Look for Calls<'_> {
    type Break = ();

    fn query(&mut self, query: &Query) -> ControlFlow<()> {
        self.queries += 1;
        if self.queries > self.queries_max {
            let refusal = Refusal::new(query.span(), "a subquery is not supported here in a standing query");
            self.refused.push(refusal.help("join it, `JOIN (SELECT …) h ON …`, or write a batch query"));
        }
        ControlFlow::Continue(())
    }

    fn expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        if let Expr::Function(call) = expr
            && self.refused.keep(self.functions.check(call, self.event_time)) == Some(true)
        {
            self.aggregates.push(call.name.span());
        }
        ControlFlow::Continue(())
    }

    fn value(&mut self, value: &ValueWithSpan) -> ControlFlow<()> {
        if let Value::Placeholder(name) = &value.value {
            let refusal = Refusal::new(value.span, format!("`{name}`: a standing query has no parameters"));
            self.refused.push(refusal.help("write the value"));
        }
        ControlFlow::Continue(())
    }
}
