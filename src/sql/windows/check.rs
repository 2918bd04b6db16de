//! What a standing query over windows may not ask for, because live its rows know slices and not windows.
//!
//! The one law: what would be answered otherwise live than in batch is refused, where it says so. Names and shapes of the
//! query itself are checked elsewhere.

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{Expr as LogicalExpr, LogicalPlan};
use datafusion::sql::sqlparser::ast::{Ident, Select, Spanned};

use super::{WINDOW_END, WINDOW_START, WindowCall};
use crate::contract::TableContract;
use crate::sql::file::normal;
use crate::sql::place::Refusal;
use crate::sql::refuse::group_by_span;
use crate::sql::spec::WindowShape;

/// A session's keys are columns of the rows it reads.
pub(in crate::sql) fn check_keys(keys: &[Ident], stream: &TableContract) -> Result<(), Refusal> {
    let Some(key) = keys.iter().find(|key| stream.column(&normal(key)).is_none()) else { return Ok(()) };
    let known = stream.columns.iter().map(|column| column.name.as_ref());
    Err(Refusal::new(key.span, format!("no column `{key}`")).near(&normal(key), known))
}

/// Checks the plan of a query whose windows are combined from slices, `groups` being what its aggregate is grouped by.
pub(in crate::sql) fn check_combined(
    call: &WindowCall,
    select: &Select,
    plan: &LogicalPlan,
    groups: &[LogicalExpr],
) -> Result<(), Refusal> {
    if let Some(key) = call.keys.iter().find(|key| !groups.iter().any(|group| is_column(group, &normal(key)))) {
        let message = format!("sessions are formed by `{key}`, so the aggregate is grouped by it, too");
        return Err(Refusal::new(key.span, message).help("add it to GROUP BY"));
    }
    if call.spec.is_combined() { bounds_of_slices(select, plan, call) } else { Ok(()) }
}

/// Live, the rows of a window that is combined from slices do not know its bounds yet: nothing below the aggregate may ask
/// for them.
fn bounds_of_slices(select: &Select, plan: &LogicalPlan, call: &WindowCall) -> Result<(), Refusal> {
    let function = call.spec.function();
    if let (Some(condition), WindowShape::Session { .. }) = (&select.selection, call.spec.shape()) {
        let refusal =
            Refusal::new(condition.span(), "WHERE leaves out rows after the sessions were formed over all of them");
        return Err(refusal
            .help("write `count(*) FILTER (WHERE …)` instead")
            .help("or read the rows through a view with that WHERE"));
    }
    let asks = |expr: &LogicalExpr| {
        let columns = expr.column_refs();
        [WINDOW_START, WINDOW_END].into_iter().find(|bound| columns.iter().any(|column| column.name == **bound))
    };
    let mut asked = None;
    // The walk itself cannot fail: neither branch returns an error.
    let _ = plan.apply(|node| {
        match node {
            LogicalPlan::Aggregate(aggregate) => {
                let groups = aggregate.group_expr.iter().filter(|group| !matches!(group, LogicalExpr::Column(_)));
                asked = asked.or_else(|| groups.chain(&aggregate.aggr_expr).find_map(asks));
            }
            LogicalPlan::Filter(filter) if !has_aggregate(&filter.input) => {
                asked = asked.or_else(|| asks(&filter.predicate));
            }
            _ => {}
        }
        Ok(TreeNodeRecursion::Continue)
    });
    match asked {
        Some(bound) => {
            let message = format!(
                "`{bound}` of `{function}` cannot be used in WHERE, inside an aggregate, or in a grouped expression"
            );
            let at = select.selection.as_ref().map_or_else(|| group_by_span(select), Spanned::span);
            let refusal = Refusal::new(at, message).help("use it in SELECT or HAVING");
            Err(refusal.note("a row counts in windows that are known only when they close"))
        }
        None => Ok(()),
    }
}

fn has_aggregate(plan: &LogicalPlan) -> bool {
    plan.exists(|node| Ok(matches!(node, LogicalPlan::Aggregate(_)))).unwrap_or(false)
}

fn is_column(expr: &LogicalExpr, name: &str) -> bool {
    matches!(expr, LogicalExpr::Column(column) if column.name == name)
}
