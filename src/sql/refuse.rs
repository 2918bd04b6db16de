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
    Expr, GroupByExpr, ObjectName, Query, Select, SetExpr, Spanned, TableAlias, TableFactor, Value, ValueWithSpan,
    Visit, Visitor,
};
use datafusion::sql::sqlparser::tokenizer::Span;

use super::file::{View, normal};
use super::functions::Functions;
use super::place::{Refusal, did_you_mean};
use super::windows::{WINDOW_END, WINDOW_START, WindowCall, check_combined, check_keys, window_call};
use crate::contract::TableContract;

/// Where a standing query's rows come from.
#[derive(Clone, Debug)]
pub(super) enum Source {
    Windowed(Box<WindowCall>),
    Stateless { table: ObjectName, alias: Option<TableAlias> },
}

/// Checks a view's text; `event_time` is the stream's.
pub(super) fn check(
    view: &View,
    state: &SessionState,
    stream: &TableContract,
    event_time: &str,
) -> Result<Source, Refusal> {
    let select = plain_select(&view.query)?;
    clauses(select)?;
    let source = source(select, stream, event_time)?;
    let mut calls = Calls { functions: Functions::of(state), event_time, queries: 0, aggregates: Vec::new() };
    if let ControlFlow::Break(refusal) = view.query.visit(&mut calls) {
        return Err(refusal);
    }
    group_by(select)?;
    if let (Source::Stateless { .. }, Some((_, at))) = (&source, view.allowed_lateness) {
        return Err(Refusal::new(at, "`allowed_lateness` is for windows; without one no row is late"));
    }
    if let (Source::Stateless { .. }, Some(at)) = (&source, aggregation(select, &calls.aggregates)) {
        let message = format!(
            "an aggregate over the whole stream never ends; read `TUMBLE({}, {event_time}, INTERVAL '1 minute')` and \
             group by `{WINDOW_START}`, `{WINDOW_END}`",
            stream.name
        );
        return Err(Refusal::new(at, message));
    }
    Ok(source)
}

/// Checks what the planner made of it.
pub(super) fn check_plan(view: &View, plan: &LogicalPlan, source: &Source) -> Result<(), Refusal> {
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
    let Source::Windowed(call) = source else { return Ok(()) };
    let select = plain_select(&view.query)?;
    let at = group_by_span(select);
    let [groups] = aggregates.as_slice() else {
        let message = format!(
            "a query over `{}` aggregates its windows; add `GROUP BY {WINDOW_START}, {WINDOW_END}`",
            call.spec.function()
        );
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
    check_combined(call, select, plan, groups).map_err(|refusal| refusal.or_at(at))
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

fn source(select: &Select, stream: &TableContract, event_time: &str) -> Result<Source, Refusal> {
    let Some(first) = select.from.first() else {
        return Err(Refusal::new(select.select_token.0.span, format!("no FROM; write `FROM {}`", stream.name)));
    };
    let second = select.from.get(1).map(|more| more.relation.span());
    if let Some(at) = first.joins.first().map(|join| join.relation.span()).or(second) {
        let message = "more than one source: joins are not supported yet; write a batch query over the lake's tables";
        return Err(Refusal::new(at, message));
    }
    if let Some(call) = window_call(&first.relation)? {
        check_table(&call.table, stream)?;
        check_time(&call.time, stream, event_time)?;
        check_keys(&call.keys, stream)?;
        return Ok(Source::Windowed(Box::new(call)));
    }
    match &first.relation {
        TableFactor::Table { name, alias, args: None, version: None, sample: None, .. } => {
            check_table(name, stream)?;
            Ok(Source::Stateless { table: name.clone(), alias: alias.clone() })
        }
        TableFactor::Table { name, args: Some(_), .. } => {
            let message = format!(
                "no table function `{name}`; write `TUMBLE({}, {event_time}, INTERVAL '1 minute')`",
                stream.name
            );
            Err(Refusal::new(name.span(), message))
        }
        TableFactor::Derived { subquery, .. } => {
            let message = format!(
                "a subquery is not supported yet in a standing query; write one SELECT directly over `{0}` or `TUMBLE({0}, …)`",
                stream.name
            );
            Err(Refusal::new(subquery.span(), message))
        }
        other => {
            let message = format!("`{other}` is not supported in a standing query; read `{}`", stream.name);
            Err(Refusal::new(other.span(), message).or_at(select.select_token.0.span))
        }
    }
}

fn check_table(name: &ObjectName, stream: &TableContract) -> Result<(), Refusal> {
    match name.0.as_slice() {
        [part] if part.as_ident().is_some_and(|ident| normal(ident) == *stream.name) => Ok(()),
        _ => {
            let hint = did_you_mean(&name.to_string(), [stream.name.as_ref()]);
            Err(Refusal::new(name.span(), format!("no stream `{name}`{hint}")))
        }
    }
}

fn check_time(time: &Expr, stream: &TableContract, event_time: &str) -> Result<(), Refusal> {
    let Expr::Identifier(name) = time else {
        let message = format!("a window's time is the column `{event_time}`, not `{time}`");
        return Err(Refusal::new(time.span(), message));
    };
    let column = normal(name);
    if column == event_time {
        return Ok(());
    }
    if stream.column(&column).is_some() {
        let message = format!("a window's time is the stream's event time `{event_time}`, not `{name}`");
        return Err(Refusal::new(name.span, message));
    }
    let hint = did_you_mean(&column, stream.columns.iter().map(|column| column.name.as_ref()));
    Err(Refusal::new(name.span, format!("no column `{name}`{hint}")))
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
