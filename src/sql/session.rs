//! The one place that makes DataFusion sessions.
//!
//! The one law: every session counts money in decimals and time in UTC, and a standing query's session never hides the
//! boundary between partial and final aggregation. Sessions made here know no table.

use datafusion::execution::context::SessionContext;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::optimizer::optimizer::Optimizer;
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;
use datafusion::prelude::SessionConfig;

use super::tumble::tumble_start;

/// Logical rules a standing query is planned without. The first nests a lone `count(DISTINCT x)` into two aggregates,
/// whose partial states are not those of the query.
const LOGICAL_RULES_OFF: [&str; 1] = ["single_distinct_aggregation_to_group_by"];

/// Physical rules a standing query is planned without: one merges partial and final aggregation into a single node, the
/// other answers `count(*)` from a source's statistics, of which a stream has none.
const PHYSICAL_RULES_OFF: [&str; 2] = ["CombinePartialFinalAggregate", "aggregate_statistics"];

/// A session for batch statements: all of DataFusion's rules, all cores.
pub fn session() -> SessionContext {
    let state = builder(config()).build();
    let context = SessionContext::new_with_state(state);
    context.register_udf(tumble_start().as_ref().clone());
    context
}

/// A session for planning standing queries: one partition, and the rules that would hide their state off.
pub(super) fn standing_session() -> SessionContext {
    let logical = Optimizer::new().rules.into_iter().filter(|rule| !LOGICAL_RULES_OFF.contains(&rule.name())).collect();
    let physical =
        PhysicalOptimizer::new().rules.into_iter().filter(|rule| !PHYSICAL_RULES_OFF.contains(&rule.name())).collect();
    let mut config = config().with_target_partitions(1);
    // A join's build side stays from run to run; a filter made of one run's values must not.
    config.options_mut().optimizer.enable_join_dynamic_filter_pushdown = false;
    let state = builder(config)
        .with_optimizer_rules(logical)
        .with_physical_optimizer_rules(physical)
        .build();
    let context = SessionContext::new_with_state(state);
    context.register_udf(tumble_start().as_ref().clone());
    context
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
        for name in LOGICAL_RULES_OFF.iter().chain(&PHYSICAL_RULES_OFF) {
            assert!(rule_exists(name), "{name}");
        }
    }

    #[tokio::test]
    async fn literals_are_decimals_and_times_are_utc() {
        let schema = session().sql("select 0.1 as money, now() as time").await.unwrap().schema().as_arrow().clone();
        assert_eq!(schema.field(0).data_type().to_string(), "Decimal128(1, 1)");
        assert!(schema.field(1).data_type().to_string().contains("UTC"), "{schema}");
    }
}
