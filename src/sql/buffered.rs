//! Windows joined with windows: `FROM TUMBLE(…) a JOIN TUMBLE(…) b ON a.window_start = b.window_start AND …`.
//!
//! The one law: both sides are the same windows over the same rows, so what drives the query is one stream of rows. There
//! is no partial form of a join: the rows of open windows are kept, with the columns the query needs and the bounds of
//! their window, and the whole plan runs over them when they close.
//!
//! Seen from outside the query is cut in three like any other: `partial` puts rows into their windows, `reduce` leaves
//! them, `finish` is the whole query.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Result as PlanResult, plan_err};
use datafusion::execution::context::SessionContext;
use datafusion::logical_expr::ident;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, Join, JoinConstraint, JoinOperator, Query, Select, Spanned, TableAlias, TableFactor,
};
use datafusion::sql::sqlparser::tokenizer::Span;

use super::batch::select;
use super::catalog::table_named;
use super::feed::{FeedExec, FeedTable};
use super::file::normal;
use super::place::Refusal;
use super::spec::WindowShape;
use super::split::Split;
use super::windows::{TimeRange, WINDOW_END, WINDOW_START, WindowCall, window_call};
use crate::error::Result;

/// The rows of open windows, as the plan of the stream calls them.
pub(super) const ROWS: &str = "__rows";

/// Rows of open windows one query may keep: at a hundred bytes of needed columns a row, half a gigabyte.
pub const BUFFERED_ROWS_MAX: usize = 5_000_000;

/// Whether a SELECT joins windows with windows.
pub(super) fn joins_windows(select: &Select) -> bool {
    let is_window = |factor: &TableFactor| matches!(window_call(factor), Ok(Some(_)));
    let Some(from) = select.from.first() else { return false };
    is_window(&from.relation) && from.joins.iter().any(|join| is_window(&join.relation))
}

/// Checks a join of windows and puts the rows of open windows in the place of each joined side. The first one stays: it
/// says what drives the query.
pub(super) fn take_windows(select: &mut Select) -> Result<(), Refusal> {
    let grouped =
        !matches!(&select.group_by, datafusion::sql::sqlparser::ast::GroupByExpr::Expressions(e, _) if e.is_empty());
    let Some(from) = select.from.first_mut() else { return Ok(()) };
    let Some(first) = window_call(&from.relation)? else { return Ok(()) };
    let Some(first_alias) = first.alias.clone() else {
        return Err(Refusal::new(from.relation.span(), needs_alias(&first)));
    };
    if !matches!(first.spec.shape(), WindowShape::Tumble(_)) {
        let refusal =
            Refusal::new(from.relation.span(), format!("`{}` is not joined with windows yet", first.spec.function()));
        return Err(refusal.help("write `TUMBLE` on both sides"));
    }
    let mut sides = vec![normal(&first_alias.name)];
    for join in &mut from.joins {
        let at = join.relation.span();
        let Some(call) = window_call(&join.relation)? else {
            let message =
                "windows are joined with windows alone: let a view of its own join the rest, and read that here";
            return Err(Refusal::new(at, message));
        };
        same_windows(&first, &call, at)?;
        let Some(alias) = call.alias.clone() else { return Err(Refusal::new(at, needs_alias(&call))) };
        sides.push(normal(&alias.name));
        equal_windows(constraint(join, grouped)?, &sides, at)?;
        join.relation = rows(Some(alias), at);
    }
    Ok(())
}

fn needs_alias(call: &WindowCall) -> String {
    format!("joined windows need names: write `TUMBLE({}, …) a JOIN TUMBLE({}, …) b ON …`", call.table, call.table)
}

fn same_windows(first: &WindowCall, second: &WindowCall, at: Span) -> Result<(), Refusal> {
    let message = if first.table.to_string() != second.table.to_string() {
        format!(
            "`{}` and `{}` are two sources: give both sides the same rows, such as a view that keeps what either needs, \
             and tell them apart in ON or WHERE",
            first.table, second.table
        )
    } else if first.spec != second.spec || first.time.to_string() != second.time.to_string() {
        "windows are joined with the same windows: give both sides the same time, size and offset".to_owned()
    } else {
        return Ok(());
    };
    Err(Refusal::new(at, message))
}

fn constraint(join: &Join, grouped: bool) -> Result<&JoinConstraint, Refusal> {
    match &join.join_operator {
        JoinOperator::Join(constraint)
        | JoinOperator::Inner(constraint)
        | JoinOperator::Left(constraint)
        | JoinOperator::LeftOuter(constraint) => Ok(constraint),
        JoinOperator::FullOuter(constraint) if !grouped => Ok(constraint),
        JoinOperator::FullOuter(_) => {
            let message = "a FULL JOIN that is grouped loses the windows of rows without a match; group each side in a view \
                           of its own, or write LEFT JOIN";
            Err(Refusal::new(join.relation.span(), message))
        }
        _ => {
            let message =
                "windows are joined by `[INNER | LEFT | FULL] JOIN … ON`; write the side whose rows are all kept first";
            Err(Refusal::new(join.relation.span(), message))
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
            let message = format!(
                "windows are joined window by window: write `ON {a}.{WINDOW_START} = {b}.{WINDOW_START} AND \
                 {a}.{WINDOW_END} = {b}.{WINDOW_END} AND …`"
            );
            Err(Refusal::new(at, message))
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

/// The rows of open windows as a table expression.
pub(super) fn rows(alias: Option<TableAlias>, at: Span) -> TableFactor {
    table_named(ROWS, alias, at)
}

/// Writes out every joined side of the query as written: over whole windows inside `range` when one is given. `first` are
/// the windows of the side that stands first, which are the same.
pub(super) fn write_sides(
    select: &mut Select,
    first: &WindowCall,
    range: Option<TimeRange>,
    conditions: &[String],
    windows: &[String],
) -> Result<(), Refusal> {
    for join in select.from.iter_mut().flat_map(|from| &mut from.joins) {
        if let Some(call) = window_call(&join.relation)? {
            join.relation = WindowCall { hidden: first.hidden.clone(), ..call }.subquery(range, conditions, windows)?;
        }
    }
    Ok(())
}

/// Registers the rows that `windowed` (a query of what drives, put into windows) gives, under the name of [`ROWS`].
pub(super) async fn register(context: &SessionContext, windowed: Box<Query>) -> PlanResult<()> {
    let plan = context.state().statement_to_plan(select(windowed)).await?;
    let schema = Arc::new(Schema::new(plan.schema().fields().clone()));
    context.register_table(ROWS, Arc::new(FeedTable::new(schema)))?;
    Ok(())
}

/// Cuts a query over the rows of open windows; `windowed` puts rows into windows.
pub(super) async fn split_buffered(
    context: &SessionContext,
    plan: Arc<dyn ExecutionPlan>,
    windowed: Box<Query>,
) -> PlanResult<Split> {
    let mut needed: BTreeSet<String> = [WINDOW_START, WINDOW_END].map(str::to_owned).into();
    plan.apply(|node| {
        if node.downcast_ref::<FeedExec>().is_some() {
            needed.extend(node.schema().fields().iter().map(|field| field.name().clone()));
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    let tagged = context.state().statement_to_plan(select(windowed)).await?;
    let columns = needed.iter().map(|name| ident(name.as_str())).collect::<Vec<_>>();
    let tagged = datafusion::dataframe::DataFrame::new(context.state(), tagged).select(columns)?;
    let partial = context.state().create_physical_plan(tagged.logical_plan()).await?;
    let state: SchemaRef = partial.schema();
    let finish = plan.transform_up(|node| match node.downcast_ref::<FeedExec>() {
        Some(feed) => Ok(Transformed::yes(Arc::new(feed.over(&state)?) as _)),
        None => Ok(Transformed::no(node)),
    })?;
    let (Ok(window_start), Ok(window_end)) = (state.index_of(WINDOW_START), state.index_of(WINDOW_END)) else {
        return plan_err!("rows without the bounds of their windows");
    };
    Ok(Split {
        partial,
        reduce: Arc::new(FeedExec::try_new(&state, None)?),
        finish: finish.data,
        window_start,
        window_end,
        keys: Vec::new(),
    })
}
