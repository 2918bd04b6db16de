//! The one place that makes DataFusion sessions.
//!
//! The one law: every session counts money in decimals and time in UTC, and a standing query's session never hides the
//! boundary between partial and final aggregation. Sessions made here know no table.

use std::sync::Arc;

use datafusion::execution::context::SessionContext;
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::optimizer::optimizer::{Optimizer, OptimizerRule};
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;
use datafusion::prelude::SessionConfig;

use super::windows::window_functions;

/// Logical rules every session goes without. The first nests a lone `count(DISTINCT x)` into two aggregates, whose
/// partial states are not those of a standing query; and a sum beside it, summed twice, gets another decimal type than
/// HAVING was planned with, so that a batch statement fails too.
const LOGICAL_RULES_OFF: [&str; 1] = ["single_distinct_aggregation_to_group_by"];

/// Physical rules a standing query is planned without: one merges partial and final aggregation into a single node, the
/// other answers `count(*)` from a source's statistics, of which a stream has none.
const PHYSICAL_RULES_OFF: [&str; 2] = ["CombinePartialFinalAggregate", "aggregate_statistics"];

/// Rules a query over combined windows is planned without, besides: below the aggregate `window_start` and `window_end` are
/// those of a slice, so no condition on a window may be moved there.
const LOGICAL_RULES_OFF_COMBINED: [&str; 1] = ["push_down_filter"];
const PHYSICAL_RULES_OFF_COMBINED: [&str; 2] = ["FilterPushdown", "FilterPushdown(Post)"];

/// A session for batch statements: all cores, and all of DataFusion's rules that keep a query's types.
pub fn session() -> SessionContext {
    let state = builder(config()).with_optimizer_rules(logical_rules(&[])).build();
    with_windows(state)
}

/// A session for planning standing queries: one partition, and the rules that would hide their state off; for windows that
/// are `combined` from slices also those that would look into them.
pub(super) fn standing_session(combined: bool) -> SessionContext {
    let (logical_off, physical_off): (&[&str], &[&str]) =
        if combined { (&LOGICAL_RULES_OFF_COMBINED, &PHYSICAL_RULES_OFF_COMBINED) } else { (&[], &[]) };
    let logical = logical_rules(logical_off);
    let is_on = |name: &str| !PHYSICAL_RULES_OFF.contains(&name) && !physical_off.contains(&name);
    let physical = PhysicalOptimizer::new().rules.into_iter().filter(|rule| is_on(rule.name())).collect();
    let mut config = config().with_target_partitions(1);
    // A join's build side stays from run to run; a filter made of one run's values must not.
    config.options_mut().optimizer.enable_join_dynamic_filter_pushdown = false;
    let state = builder(config).with_optimizer_rules(logical).with_physical_optimizer_rules(physical).build();
    with_windows(state)
}

fn with_windows(state: SessionState) -> SessionContext {
    let context = SessionContext::new_with_state(state);
    window_functions().for_each(|function| context.register_udf(function));
    context
}

/// DataFusion's rules but those every session goes without, and but these.
fn logical_rules(off: &[&str]) -> Vec<Arc<dyn OptimizerRule + Send + Sync>> {
    let is_on = |name: &str| !LOGICAL_RULES_OFF.contains(&name) && !off.contains(&name);
    Optimizer::new().rules.into_iter().filter(|rule| is_on(rule.name())).collect()
}

fn builder(config: SessionConfig) -> SessionStateBuilder {
    SessionStateBuilder::new().with_config(config).with_default_features()
}

fn config() -> SessionConfig {
    let mut config = SessionConfig::new().with_information_schema(true);
    let options = config.options_mut();
    options.execution.time_zone = Some("UTC".into());
    options.sql_parser.parse_float_as_decimal = true;
    options.sql_parser.collect_spans = true;
    // The lake's strings are plain; literals and casts of another string type would only be cast back.
    options.sql_parser.map_string_types_to_utf8view = false;
    config
}

/// Whether a rule of this name exists; an upgrade that renames one must not switch it on unseen.
#[cfg(test)]
fn rule_exists(name: &str) -> bool {
    let (logical, physical) = (Optimizer::new().rules, PhysicalOptimizer::new().rules);
    logical.iter().any(|rule| rule.name() == name) || physical.iter().any(|rule| rule.name() == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rules_switched_off_exist_under_these_names() {
        let combined = LOGICAL_RULES_OFF_COMBINED.iter().chain(&PHYSICAL_RULES_OFF_COMBINED);
        for name in LOGICAL_RULES_OFF.iter().chain(&PHYSICAL_RULES_OFF).chain(combined) {
            assert!(rule_exists(name), "{name}");
        }
    }

    #[tokio::test]
    async fn a_distinct_count_changes_no_sum_s_type() {
        let sql = "SELECT k, count(DISTINCT n), sum(a) AS s FROM (VALUES ('x', 1, CAST(1.50 AS DECIMAL(20,2)))) AS t(k, n, a) \
                   GROUP BY k HAVING sum(a) > 1.00";
        let rows = session().sql(sql).await.unwrap().collect().await.unwrap();
        assert_eq!(rows[0].column(2).data_type().to_string(), "Decimal128(30, 2)");
    }

    #[tokio::test]
    async fn literals_are_decimals_and_times_are_utc() {
        let schema = session().sql("select 0.1 as money, now() as time").await.unwrap().schema().as_arrow().clone();
        assert_eq!(schema.field(0).data_type().to_string(), "Decimal128(1, 1)");
        assert!(schema.field(1).data_type().to_string().contains("UTC"), "{schema}");
    }
}
