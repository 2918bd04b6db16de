//! What a standing query may not say.
//!
//! The one law: a query that could not keep "stream = batch", or that would need state without end, is refused before it
//! runs, where it says so, with what to write instead. Shapes that come later are refused as "not supported yet".
//! Types and columns are checked elsewhere: names by the planner, types by [`super::output`].

use std::ops::ControlFlow;

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::{Expr as LogicalExpr, LogicalPlan};
use datafusion::sql::sqlparser::ast::{
    Expr, GroupByExpr, Query, Select, SetExpr, Spanned, Value, ValueWithSpan, Visit, Visitor,
};
use datafusion::sql::sqlparser::tokenizer::Span;

use super::catalog::Catalog;
use super::file::View;
use super::functions::Functions;
use super::place::Refusal;
use super::relation::{Shape, Source, source};
use super::windows::{WINDOW_END, WINDOW_START};

/// Checks a view's text.
pub(super) fn check(view: &View, state: &SessionState, catalog: &Catalog) -> Result<Source, Refusal> {
    let select = plain_select(&view.query)?;
    clauses(select)?;
    let source = source(select, catalog)?;
    let event_time = catalog.event_time.as_ref();
    let mut calls = Calls { functions: Functions::of(state), event_time, queries: 0, aggregates: Vec::new() };
    if let ControlFlow::Break(refusal) = view.query.visit(&mut calls) {
        return Err(refusal);
    }
    group_by(select)?;
    if let (Shape::Stateless { .. }, Some((_, at))) = (&source.shape, view.allowed_lateness) {
        return Err(Refusal::new(at, "`allowed_lateness` is for windows; without one no row is late"));
    }
    if let (Shape::Stateless { table, .. }, Some(at)) = (&source.shape, aggregation(select, &calls.aggregates)) {
        let time = source.time.as_deref().unwrap_or(event_time);
        let message = format!(
            "an aggregate over the whole stream never ends; read `TUMBLE({table}, {time}, INTERVAL '1 minute')` and \
             group by `{WINDOW_START}`, `{WINDOW_END}`"
        );
        return Err(Refusal::new(at, message));
    }
    Ok(source)
}

/// Checks what the planner made of it.
pub(super) fn check_plan(view: &View, plan: &LogicalPlan, windowed: bool) -> Result<(), Refusal> {
    let mut aggregates = Vec::new();
    let mut unknown = None;
    // The walk itself cannot fail: neither branch returns an error.
    let _ = plan.apply(|node| {
        match node {
            LogicalPlan::Aggregate(aggregate) => aggregates.push(aggregate.group_expr.clone()),
            LogicalPlan::Projection(_)
            | LogicalPlan::Filter(_)
            | LogicalPlan::SubqueryAlias(_)
            | LogicalPlan::TableScan(_) => {}
            other => unknown = Some(other.display().to_string()),
        }
        Ok(TreeNodeRecursion::Continue)
    });
    if let Some(node) = unknown {
        let message = format!("`{node}` is not supported yet in a standing query; write a batch query");
        return Err(Refusal::new(view.at, message));
    }
    if !windowed {
        return Ok(());
    }
    let select = plain_select(&view.query)?;
    let at = group_by_span(select);
    let [groups] = aggregates.as_slice() else {
        let message =
            format!("a query over `TUMBLE` aggregates its windows; add `GROUP BY {WINDOW_START}, {WINDOW_END}`");
        return Err(Refusal::new(at, message).or_at(view.at));
    };
    for wanted in [WINDOW_START, WINDOW_END] {
        if !groups.iter().any(|group| matches!(group, LogicalExpr::Column(column) if column.name == wanted)) {
            let message = format!(
                "the aggregate is not grouped by `{wanted}`, so its answer would never be final; add it to GROUP BY"
            );
            return Err(Refusal::new(at, message).or_at(view.at));
        }
    }
    Ok(())
}

/// The one SELECT a standing query is.
pub(super) fn plain_select(query: &Query) -> Result<&Select, Refusal> {
    if let Some(with) = &query.with {
        let message = "WITH is not supported yet in a standing query; write one SELECT over the stream";
        return Err(Refusal::new(with.with_token.0.span, message));
    }
    if let Some(order) = &query.order_by {
        let message = "ORDER BY has no meaning for rows that are added as windows close; sort where you read the table";
        return Err(Refusal::new(order.span(), message));
    }
    let limit = query.limit_clause.as_ref().map(Spanned::span).or_else(|| query.fetch.as_ref().map(Spanned::span));
    if let Some(at) = limit {
        let message = "LIMIT has no meaning for rows that are added as windows close; limit where you read the table";
        return Err(Refusal::new(at, message));
    }
    match query.body.as_ref() {
        SetExpr::Select(select) => Ok(select),
        SetExpr::SetOperation { op, right, .. } => {
            Err(Refusal::new(right.span(), format!("{op} is not supported yet; write a query file for each SELECT")))
        }
        other => Err(Refusal::new(other.span(), "a standing query is one SELECT over the stream")),
    }
}

fn clauses(select: &Select) -> Result<(), Refusal> {
    if select.distinct.is_some() {
        let message = "SELECT DISTINCT would have to remember every row; group by the columns inside a window";
        return Err(Refusal::new(select.select_token.0.span, message));
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
    match unsupported.iter().find(|(_, used)| *used) {
        Some((clause, _)) => {
            let message = format!("{clause} is not supported in a standing query; write a batch query");
            Err(Refusal::new(select.select_token.0.span, message))
        }
        None => Ok(()),
    }
}

fn group_by(select: &Select) -> Result<(), Refusal> {
    let GroupByExpr::Expressions(expressions, modifiers) = &select.group_by else {
        let message = "GROUP BY ALL is not supported in a standing query; name the columns";
        return Err(Refusal::new(group_by_span(select), message).or_at(select.select_token.0.span));
    };
    let sets = expressions.iter().find(|e| matches!(e, Expr::Rollup(_) | Expr::Cube(_) | Expr::GroupingSets(_)));
    if sets.is_some() || !modifiers.is_empty() {
        let message = "grouping sets are not supported in a standing query; write a query file for each";
        let at = sets.map_or_else(|| group_by_span(select), Spanned::span);
        return Err(Refusal::new(at, message).or_at(select.select_token.0.span));
    }
    Ok(())
}

fn group_by_span(select: &Select) -> Span {
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
    aggregates: Vec<Span>,
}

impl Visitor for Calls<'_> {
    type Break = Refusal;

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<Refusal> {
        self.queries += 1;
        if self.queries == 1 {
            return ControlFlow::Continue(());
        }
        let message = "a subquery is not supported yet in a standing query; write a batch query over the lake's tables";
        ControlFlow::Break(Refusal::new(query.span(), message))
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<Refusal> {
        let Expr::Function(call) = expr else { return ControlFlow::Continue(()) };
        match self.functions.check(call, self.event_time) {
            Ok(is_aggregate) => {
                if is_aggregate {
                    self.aggregates.push(call.name.span());
                }
                ControlFlow::Continue(())
            }
            Err(refusal) => ControlFlow::Break(refusal),
        }
    }

    fn pre_visit_value(&mut self, value: &ValueWithSpan) -> ControlFlow<Refusal> {
        match &value.value {
            Value::Placeholder(name) => {
                let message = format!("`{name}`: a standing query has no parameters; write the value");
                ControlFlow::Break(Refusal::new(value.span, message))
            }
            _ => ControlFlow::Continue(()),
        }
    }
}
