//! Which columns of a query's answer are approximate by nature: those that follow from an aggregate of which two runs may
//! answer differently.
//!
//! The one law: a column is called exact only where every node between it and the rows is known to keep columns apart.
//! Below any other node one approximate aggregate makes all columns approximate.

use std::collections::BTreeSet;

use datafusion::common::DFSchema;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::error::Result as DataFusionResult;
use datafusion::logical_expr::{Expr, JoinType, LogicalPlan};

use crate::error::{Context, Result};

/// Aggregates whose answer depends a little on how rows were cut into batches.
const APPROXIMATE: [&str; 3] = ["approx_percentile_cont", "approx_percentile_cont_with_weight", "approx_median"];

/// The names of a plan's approximate columns.
///
/// # Errors
/// [`crate::Error::External`] for a plan that cannot be walked.
pub(super) fn approximate_columns(plan: &LogicalPlan) -> Result<BTreeSet<String>> {
    let flags = columns(plan).context(|| "looking at a query's plan")?;
    let fields = plan.schema().fields().iter().zip(flags);
    Ok(fields.filter(|(_, approximate)| *approximate).map(|(field, _)| field.name().clone()).collect())
}

/// Of each column of a plan, whether it is approximate.
fn columns(plan: &LogicalPlan) -> DataFusionResult<Vec<bool>> {
    match plan {
        LogicalPlan::Projection(node) => each(node.expr.iter(), &node.input),
        LogicalPlan::Aggregate(node) => each(node.group_expr.iter().chain(&node.aggr_expr), &node.input),
        LogicalPlan::Window(node) => {
            let mut flags = columns(&node.input)?;
            flags.extend(each(node.window_expr.iter(), &node.input)?);
            Ok(flags)
        }
        LogicalPlan::Filter(node) => columns(&node.input),
        LogicalPlan::Sort(node) => columns(&node.input),
        LogicalPlan::Limit(node) => columns(&node.input),
        LogicalPlan::SubqueryAlias(node) => columns(&node.input),
        LogicalPlan::Join(node) if !is_one_sided(node.join_type) => {
            let mut flags = columns(&node.left)?;
            flags.extend(columns(&node.right)?);
            Ok(flags)
        }
        LogicalPlan::TableScan(_) | LogicalPlan::Values(_) | LogicalPlan::EmptyRelation(_) => unknown(plan, false),
        other => {
            let calls = calls(other)?;
            unknown(other, calls)
        }
    }
}

/// Its columns are those of one side, or one more.
fn is_one_sided(join: JoinType) -> bool {
    !matches!(join, JoinType::Inner | JoinType::Left | JoinType::Right | JoinType::Full)
}

/// All columns of a plan alike.
fn unknown(plan: &LogicalPlan, approximate: bool) -> DataFusionResult<Vec<bool>> {
    Ok(vec![approximate; plan.schema().fields().len()])
}

/// Of each expression over the columns of `input`.
fn each<'a>(expressions: impl Iterator<Item = &'a Expr>, input: &LogicalPlan) -> DataFusionResult<Vec<bool>> {
    let flags = columns(input)?;
    expressions.map(|expression| follows(expression, input.schema(), &flags)).collect()
}

/// Whether an expression follows from an approximate column, or calls for one.
fn follows(expression: &Expr, schema: &DFSchema, flags: &[bool]) -> DataFusionResult<bool> {
    let mut approximate = false;
    expression.apply(|inner| {
        approximate |= match inner {
            Expr::AggregateFunction(call) => APPROXIMATE.contains(&call.func.name()),
            // A column of an outer query is none of `schema`.
            Expr::Column(column) => schema.maybe_index_of_column(column).is_some_and(|index| flags[index]),
            Expr::ScalarSubquery(inner) => calls(&inner.subquery)?,
            Expr::InSubquery(inner) => calls(&inner.subquery.subquery)?,
            Expr::Exists(inner) => calls(&inner.subquery.subquery)?,
            _ => false,
        };
        Ok(if approximate { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(approximate)
}

/// Whether a plan calls an approximate aggregate anywhere.
fn calls(plan: &LogicalPlan) -> DataFusionResult<bool> {
    let mut approximate = false;
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expression| {
            expression.apply(|inner| {
                if let Expr::AggregateFunction(call) = inner {
                    approximate |= APPROXIMATE.contains(&call.func.name());
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    Ok(approximate)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql;

    async fn found(select: &str) -> Vec<String> {
        let session = sql::session();
        let rows =
            "CREATE VIEW t AS SELECT column1 AS city, column2 AS amount FROM (VALUES ('Bern', 1.5), ('Rom', 2.5))";
        session.sql(rows).await.unwrap().collect().await.unwrap();
        let plan = session.sql(select).await.unwrap();
        approximate_columns(plan.logical_plan()).unwrap().into_iter().collect()
    }

    #[tokio::test]
    async fn columns_beside_an_approximate_aggregate_stay_exact() {
        let grouped =
            "SELECT city, count(*) AS n, sum(amount) AS total, approx_median(amount) AS middle FROM t GROUP BY city";
        assert_eq!(found(grouped).await, ["middle"]);
        assert_eq!(found("SELECT city, count(*) AS n FROM t GROUP BY city").await, [""; 0]);
        let over =
            format!("SELECT city, n, middle > 2 AS dear, total / n AS mean FROM ({grouped}) AS g ORDER BY n LIMIT 3");
        assert_eq!(found(&over).await, ["dear"]);
        let joined = format!(
            "SELECT g.city, g.n + 1 AS n, g.middle - t.amount AS off FROM ({grouped}) AS g JOIN t ON t.city = g.city"
        );
        assert_eq!(found(&joined).await, ["off"]);
        let again = format!("SELECT count(*) AS n, max(middle) AS most FROM ({grouped}) AS g");
        assert_eq!(found(&again).await, ["most"]);
    }

    #[tokio::test]
    async fn below_a_node_that_is_not_known_every_column_is_approximate() {
        let both = "SELECT city, approx_median(amount) AS m FROM t GROUP BY city UNION ALL SELECT city, amount FROM t";
        assert_eq!(found(both).await, ["city", "m"]);
        let of_all = "SELECT city, amount, (SELECT approx_median(amount) FROM t) AS middle FROM t";
        assert_eq!(found(of_all).await, ["middle"]);
    }
}
