//! Lookups: a joined query in its three lives, and what cannot be joined.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, Decimal128Array, Int64Array, StringArray};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::datasource::MemTable;
use datafusion::physical_plan::{ExecutionPlan, displayable};
use proptest::prelude::*;

use super::testing::{catalog, cut, lake, rows, shown};
use super::{LookupRows, QueryFile, StandingQuery, plan_all, run_batch, session};
use crate::contract::{Column, Origin, TableContract};
use crate::error::Result;

/// The table `states`: a state may be missing, doubled, or NULL.
fn states() -> TableContract {
    let columns = [
        ("state", DataType::Utf8),
        ("region", DataType::Utf8),
        ("weight", DataType::Int64),
        ("cap", DataType::Decimal128(20, 2)),
    ];
    let column = |(name, data_type): (&str, DataType)| Column {
        name: name.into(),
        data_type,
        nullable: true,
        comment: String::new(),
        origin: Origin::Engine,
        check: None,
    };
    TableContract {
        name: "states".into(),
        comment: String::new(),
        columns: columns.into_iter().map(column).collect(),
        partition_by: "state".into(),
        sort_by: Vec::new(),
        bloom_filters: Vec::new(),
        row_group_rows: None,
        sinks: crate::contract::Sink::usual(),
        keep_days: None,
        stream: None,
    }
}

fn state_rows(rows: &[(Option<&str>, &str, i64)]) -> RecordBatch {
    let caps = Decimal128Array::from_iter_values(rows.iter().map(|(_, _, weight)| i128::from(*weight) * 10_000));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter(rows.iter().map(|(state, _, _)| *state))),
        Arc::new(StringArray::from_iter_values(rows.iter().map(|(_, region, _)| *region))),
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|(_, _, weight)| *weight))),
        Arc::new(caps.with_precision_and_scale(20, 2).unwrap()),
    ];
    RecordBatch::try_new(states().schema(), columns).unwrap()
}

async fn plan(text: &str) -> Result<StandingQuery> {
    let file = QueryFile::parse(Path::new("queries/q.sql"), text)?;
    StandingQuery::plan(&file, &catalog([states()])).await
}

fn stateless(select: &str, join: &str) -> String {
    format!("CREATE MATERIALIZED VIEW q AS SELECT event_date, transaction_id, {select} FROM transactions t {join}")
}

fn windowed(select: &str, join: &str, groups: &str) -> String {
    format!(
        "CREATE MATERIALIZED VIEW q AS SELECT window_start, CAST(window_start AS DATE) AS event_date, {select} \
         FROM TUMBLE(transactions, event_time, INTERVAL '1 minute') t {join} GROUP BY window_start, window_end{groups}"
    )
}

/// The lookup's rows when `states` holds these.
async fn loaded(query: &StandingQuery, states: &RecordBatch) -> LookupRows {
    let mut rows = LookupRows::new();
    for lookup in query.lookups() {
        let context = session();
        let table = MemTable::try_new(states.schema(), vec![vec![states.clone()]]).unwrap();
        context.register_table("states", Arc::new(table)).unwrap();
        let columns: Vec<_> = lookup.schema.fields().iter().map(|f| f.name().as_str()).collect();
        let frame = run_batch(&context, lookup.statement().unwrap()).await.unwrap();
        rows.insert(Arc::clone(&lookup.name), frame.select_columns(&columns).unwrap().collect().await.unwrap());
    }
    rows
}

async fn batch(query: &StandingQuery, rows: &RecordBatch, states: &RecordBatch) -> Vec<String> {
    let context = lake(rows);
    let table = MemTable::try_new(states.schema(), vec![vec![states.clone()]]).unwrap();
    context.register_table("states", Arc::new(table)).unwrap();
    shown(&run_batch(&context, query.batch_select(None).unwrap()).await.unwrap().collect().await.unwrap())
}

/// The answer to these batches, one after the other, as a stream sees them.
async fn live(query: &StandingQuery, lookups: &LookupRows, batches: &[RecordBatch]) -> Vec<String> {
    let mut answer = Vec::new();
    match query {
        StandingQuery::Stateless(query) => {
            let query = query.joined_with(lookups).unwrap();
            for batch in batches {
                answer.extend(query.run(std::slice::from_ref(batch)).await.unwrap());
            }
        }
        StandingQuery::Windowed(query) => {
            // What is written before it is joined must not be needed after.
            let query = query.joined_with(&loaded_empty(lookups)).unwrap().joined_with(lookups).unwrap();
            let mut partials = Vec::new();
            for batch in batches {
                partials.extend(query.partial(std::slice::from_ref(batch)).await.unwrap());
            }
            answer = query.finish(query.reduce(partials).await.unwrap()).await.unwrap();
        }
    }
    shown(&answer)
}

fn loaded_empty(lookups: &LookupRows) -> LookupRows {
    lookups.keys().map(|name| (Arc::clone(name), Vec::new())).collect()
}

/// Windows joined with windows, and a lookup beside them.
fn beside_windows() -> Vec<String> {
    let windows = "TUMBLE(transactions, event_time, INTERVAL '3 minutes')";
    let on = "a.window_start = b.window_start AND a.window_end = b.window_end AND a.card_token = b.card_token";
    let text = |select: &str, join: &str, lookup: &str, rest: &str| {
        format!(
            "CREATE MATERIALIZED VIEW q AS SELECT a.window_start, CAST(a.window_start AS DATE) AS event_date, {select} FROM \
             {windows} a {join} {windows} b ON {on} {lookup} {rest}"
        )
    };
    let pair = "a.transaction_id AS one, b.transaction_id AS two, s.region, s.weight";
    vec![
        text(pair, "JOIN", "AND a.event_time < b.event_time JOIN states s ON s.state = b.state", ""),
        text(pair, "LEFT JOIN", "AND b.is_fraud LEFT JOIN states s ON s.state = b.state", "WHERE a.amount > s.cap"),
        text(
            "s.heavy, count(*) AS n, sum(b.amount) AS amount",
            "JOIN",
            "JOIN (SELECT state, max(weight) AS heavy FROM states GROUP BY state) s ON s.state = a.state",
            "GROUP BY a.window_start, a.window_end, s.heavy",
        ),
        text(pair, "JOIN", "JOIN states s USING (state)", "WHERE a.event_time < b.event_time")
            .replace(&format!("ON {on}"), "USING (window_start, window_end, state)"),
    ]
}

#[tokio::test]
async fn a_lookup_beside_windows_is_joined_when_they_close() {
    let rows = rows(7, 200, false);
    for text in beside_windows() {
        let query = plan(&text).await.unwrap();
        let StandingQuery::Windowed(windowed) = &query else { panic!("no window") };
        assert!(windowed.is_buffered() && windowed.is_joined() && !windowed.joins_rows(), "{text}");
        for states in [some_states(), state_rows(&[])] {
            let lookups = loaded(&query, &states).await;
            assert_eq!(lookups.len(), 1);
            let answer = live(&query, &lookups, &cut(&rows, 7, 4)).await;
            assert_eq!(answer, batch(&query, &rows, &states).await, "{text}");
        }
        assert!(!batch(&query, &rows, &some_states()).await.is_empty());
    }
}

fn some_states() -> RecordBatch {
    state_rows(&[
        (Some("SC"), "south", 1),
        (Some("SC"), "coast", 2),
        (Some("NY"), "east", 3),
        (None, "nowhere", 4),
        (Some("ZZ"), "far", 5),
    ])
}

/// Every shape of join that is allowed.
fn shapes() -> Vec<String> {
    vec![
        stateless("region, weight", "JOIN states s ON t.state = s.state"),
        stateless("region, amount * weight AS weighted", "LEFT JOIN states s ON t.state = s.state"),
        stateless("region, weight", "JOIN states USING (state)"),
        stateless("s.region, amount", "JOIN states s ON s.state = t.state AND t.amount > s.cap WHERE s.weight < 3"),
        stateless("s.region", "LEFT JOIN states s ON s.state = t.state WHERE s.state IS NULL"),
        stateless(
            "a.region, b.weight",
            "JOIN states a ON a.state = t.state LEFT JOIN states b ON b.weight = a.weight + 1 AND b.state = t.state",
        ),
        stateless(
            "heavy",
            "JOIN (SELECT state, max(weight) AS heavy, count(*) AS n FROM states GROUP BY state HAVING count(*) > 1) h ON h.state = t.state",
        ),
        stateless(
            "h.n",
            "LEFT JOIN (WITH w AS (SELECT state, row_number() OVER (PARTITION BY state ORDER BY weight) AS n FROM states) SELECT * FROM w WHERE n = 1) h ON h.state = t.state",
        ),
        windowed("region, count(*) AS n, sum(amount) AS amount", "JOIN states s ON t.state = s.state", ", region"),
        windowed(
            "coalesce(region, 'none') AS place, count(*) AS n, count(DISTINCT card_token) AS cards",
            "LEFT JOIN states s ON t.state = s.state",
            ", coalesce(region, 'none')",
        ),
        windowed(
            "count(*) FILTER (WHERE amount > typical) AS above",
            "JOIN (SELECT state, avg(cap) AS typical FROM states GROUP BY state) h USING (state)",
            "",
        ),
        windowed(
            "sum(weight) AS weight, stddev(latitude) AS spread",
            "JOIN states s ON t.state = s.state",
            " HAVING sum(weight) > 20",
        ),
    ]
}

#[tokio::test]
async fn the_driver_probes_and_the_lookup_is_built() {
    for text in shapes() {
        let plan = match plan(&text).await.unwrap() {
            StandingQuery::Stateless(query) => query.plan,
            StandingQuery::Windowed(query) => query.split.partial,
        };
        let shown = displayable(plan.as_ref()).indent(false).to_string();
        assert!(shown.contains("HashJoinExec: mode=CollectLeft"), "{shown}");
        for join in shown.lines().filter(|line| line.contains("HashJoinExec")) {
            assert!(join.contains("join_type=Inner") || join.contains("join_type=Right"), "{shown}");
        }
        assert!(
            shown.lines().rev().find(|line| line.contains("FeedExec")).is_some_and(|l| !l.contains("lookup=")),
            "{shown}"
        );
    }
}

#[tokio::test]
async fn only_needed_columns_of_a_lookup_are_loaded() {
    let query = plan(&shapes()[0]).await.unwrap();
    let [lookup] = query.lookups() else { panic!("one lookup") };
    let names: Vec<_> = lookup.schema.fields().iter().map(|f| f.name().clone()).collect();
    assert_eq!((names, lookup.tables.len()), (vec!["state".to_owned(), "region".into(), "weight".into()], 1));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6))]

    #[test]
    fn live_in_any_cut_is_batch(seed: u64, parts in 1usize..7) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let rows = rows(seed, 150, false);
            for text in shapes() {
                let query = plan(&text).await.unwrap();
                let lookups = loaded(&query, &some_states()).await;
                let answer = live(&query, &lookups, &cut(&rows, seed, parts)).await;
                assert_eq!(answer, batch(&query, &rows, &some_states()).await, "{text}");
                let nothing = live(&query, &loaded(&query, &state_rows(&[])).await, &cut(&rows, seed, parts)).await;
                assert_eq!(nothing, batch(&query, &rows, &state_rows(&[])).await, "{text}");
            }
        });
    }
}

#[tokio::test]
async fn rows_bound_anew_reach_the_new_query_and_not_the_old_one() {
    let rows = rows(3, 200, false);
    let (before, after) = (some_states(), state_rows(&[(Some("SC"), "moved", 9), (Some("OH"), "new", 8)]));
    for text in shapes() {
        let query = plan(&text).await.unwrap();
        let StandingQuery::Stateless(query) = query else { continue };
        let whole = StandingQuery::Stateless(query.clone());
        let old = query.joined_with(&loaded(&whole, &before).await).unwrap();
        // Built and measured once before it is bound anew.
        assert_eq!(shown(&old.run(std::slice::from_ref(&rows)).await.unwrap()), batch(&whole, &rows, &before).await);
        let new = old.joined_with(&loaded(&whole, &after).await).unwrap();
        assert_eq!(
            shown(&new.run(std::slice::from_ref(&rows)).await.unwrap()),
            batch(&whole, &rows, &after).await,
            "{text}"
        );
        assert_eq!(
            shown(&old.run(std::slice::from_ref(&rows)).await.unwrap()),
            batch(&whole, &rows, &before).await,
            "{text}"
        );
    }
}

/// Rows the joins of a plan have built their tables of, over all runs: copies of a join share its metrics.
fn built(plan: &Arc<dyn ExecutionPlan>) -> usize {
    let mut rows = 0;
    plan.apply(|node| {
        let metrics = node.metrics().filter(|_| node.name() == "HashJoinExec");
        rows += metrics.and_then(|m| m.sum_by_name("build_input_rows")).map_or(0, |sum| sum.as_usize());
        Ok(TreeNodeRecursion::Continue)
    })
    .unwrap();
    rows
}

#[tokio::test]
async fn a_lookup_is_built_once_however_often_it_is_probed() {
    let states: Vec<String> = (0..100_000).map(|n| format!("S{n}")).collect();
    let many: Vec<_> = states.iter().map(|state| (Some(state.as_str()), "somewhere", 1)).collect();
    let whole = plan(&shapes()[1]).await.unwrap();
    let lookups = loaded(&whole, &state_rows(&many)).await;
    let StandingQuery::Stateless(query) = whole else { panic!("stateless") };
    let bound = query.joined_with(&lookups).unwrap();
    for seed in 0..4 {
        bound.run(&[rows(seed, 50, false)]).await.unwrap();
        assert_eq!(built(&bound.plan), 100_000);
    }
    let anew = bound.joined_with(&lookups).unwrap();
    assert_eq!(built(&anew.plan), 0);
}

#[tokio::test]
async fn a_query_that_was_joined_with_nothing_yet_does_not_run() {
    let StandingQuery::Stateless(query) = plan(&shapes()[0]).await.unwrap() else { panic!("stateless") };
    let error = query.run(&[rows(1, 5, false)]).await.unwrap_err().to_string();
    assert!(error.contains("__lookup_q_0"), "{error}");
}

#[tokio::test]
async fn a_static_file_is_part_of_the_query() {
    let folder = tempfile::tempdir().unwrap();
    let write = |text: &str| std::fs::write(folder.path().join("risk.csv"), text).unwrap();
    let text = "CREATE MATERIALIZED VIEW q AS SELECT event_date, transaction_id, risk.score, amount * risk.factor AS at_risk \
                FROM transactions t LEFT JOIN 'risk.csv' ON t.state = risk.state";
    let planned = async || {
        let file = QueryFile::parse(&folder.path().join("q.sql"), text).unwrap();
        StandingQuery::plan(&file, &catalog([])).await
    };
    assert!(planned().await.unwrap_err().to_string().contains("the file `risk.csv` cannot be read beside the queries"));
    write("state,score,factor\nSC,1,0.25\nNY,2,1.5\n");
    let query = planned().await.unwrap();
    let rows = rows(8, 120, false);
    let before = live(&query, &LookupRows::new(), &cut(&rows, 8, 4)).await;
    assert_eq!(before, batch(&query, &rows, &some_states()).await);
    assert!(
        before.iter().any(|line| line.contains("NULL")) && before.iter().any(|line| line.contains("| 2 |")),
        "{before:?}"
    );
    write("state,score,factor\nSC,7,0.25\n");
    let edited = planned().await.unwrap();
    assert_ne!(edited.fingerprint(), query.fingerprint());
    assert_eq!(live(&query, &LookupRows::new(), &cut(&rows, 8, 3)).await, before, "read once");
}

#[tokio::test]
async fn a_view_read_through_its_text_brings_its_lookups() {
    let parse = |name: &str, text: &str| QueryFile::parse(Path::new(&format!("queries/{name}.sql")), text).unwrap();
    let files = [
        parse(
            "placed",
            "CREATE MATERIALIZED VIEW placed AS SELECT t.event_time, event_date, amount, region FROM transactions t JOIN states s ON t.state = s.state",
        ),
        parse(
            "by_region",
            "CREATE MATERIALIZED VIEW by_region AS SELECT window_start, CAST(window_start AS DATE) AS event_date, region, sum(amount) AS amount FROM TUMBLE(placed, event_time, INTERVAL '5 minutes') GROUP BY window_start, window_end, region",
        ),
    ];
    let planned = plan_all(&files, catalog([states()]), &mut crate::error::Refusals::default()).await.unwrap();
    let child = &planned[1];
    assert_eq!((child.name().as_ref(), child.lookups().len()), ("by_region", 1));
    let rows = rows(5, 150, false);
    let lookups = loaded(child, &some_states()).await;
    assert_eq!(live(child, &lookups, &cut(&rows, 5, 4)).await, batch(child, &rows, &some_states()).await);
}

/// One lookup, of which each plan needs other columns: all are joined with the same rows.
#[tokio::test]
async fn views_that_share_a_lookup_take_the_columns_they_need() {
    let parse = |name: &str, select: &str| {
        let text = format!("CREATE MATERIALIZED VIEW {name} AS SELECT {select}");
        QueryFile::parse(Path::new(&format!("queries/{name}.sql")), &text).unwrap()
    };
    let files = [
        parse(
            "placed",
            "t.event_time, event_date, amount, region, weight, cap FROM transactions t JOIN states s ON t.state = s.state",
        ),
        parse("light", "event_time, event_date, amount, region, weight FROM placed WHERE amount < cap"),
        parse("lighter", "event_time, event_date, region FROM light"),
        parse(
            "by_region",
            "window_start, CAST(window_start AS DATE) AS event_date, region, count(*) AS n \
             FROM TUMBLE(lighter, event_time, INTERVAL '5 minutes') GROUP BY window_start, window_end, region",
        ),
    ];
    let planned = plan_all(&files, catalog([states()]), &mut crate::error::Refusals::default()).await.unwrap();
    let mut shared = planned[3].lookups()[0].clone();
    assert!(shared.schema.fields().len() < planned[0].lookups()[0].schema.fields().len());
    planned.iter().for_each(|query| shared.widen(&query.lookups()[0]));
    let names: Vec<_> = shared.schema.fields().iter().map(|f| f.name().as_str()).collect();
    assert_eq!(names.iter().collect::<std::collections::BTreeSet<_>>().len(), 4, "each once: {names:?}");
    let with = |schema: &SchemaRef| {
        let column = |name: &String| Arc::clone(some_states().column_by_name(name).unwrap());
        let columns = schema.fields().iter().map(|field| column(field.name()));
        RecordBatch::try_new(Arc::clone(schema), columns.collect()).unwrap()
    };
    let lookups = LookupRows::from([(Arc::clone(&shared.name), vec![with(&shared.schema)])]);
    let rows = rows(5, 150, false);
    for query in &planned {
        let answer = live(query, &lookups, &cut(&rows, 5, 4)).await;
        assert!(!answer.is_empty());
        assert_eq!(answer, batch(query, &rows, &some_states()).await, "{}", query.name());
        let written = query.select_over_lookups(None, &super::Pairs::default(), false).unwrap();
        let context = lake(&rows);
        let whole = query.lookups()[0].whole();
        let table = MemTable::try_new(Arc::clone(&whole.schema), vec![vec![with(&whole.schema)]]).unwrap();
        context.register_table(whole.name.as_ref(), Arc::new(table)).unwrap();
        assert_eq!(shown(&run_batch(&context, written).await.unwrap().collect().await.unwrap()), answer);
    }
}

/// A join, and how its refusal begins. The join begins at 3:8.
#[rustfmt::skip]
fn refused() -> Vec<(&'static str, &'static str)> {
    vec![
        ("t RIGHT JOIN states s ON t.state = s.state", "3:32: a RIGHT JOIN would answer with rows no event has brought; write what flows first"),
        ("t FULL JOIN states s ON t.state = s.state", "3:31: a FULL JOIN would answer"),
        ("t CROSS JOIN states s", "3:32: a CROSS JOIN joins every row with every other; write `JOIN … ON a.key = b.key`"),
        ("t JOIN states s ON t.state > s.state", "3:38: the join has no equality"),
        ("t JOIN states s ON t.state = s.state OR t.city = s.state", "3:38: the join has no equality"),
        ("t JOIN states s ON 1 = 1", "3:26: a join without an equality of the two sides"),
        ("t JOIN states s", "3:26: a JOIN without ON joins every row"),
        ("t NATURAL JOIN states s", "3:34: a NATURAL JOIN changes with every column added later"),
        ("t LEFT ANTI JOIN states s ON t.state = s.state", "3:36: ANTI JOIN is not supported"),
        ("t, states s WHERE t.state = s.state", "3:22: a list in FROM joins every row with every other; write `FROM transactions a JOIN states s b ON"),
        ("t JOIN transactions u ON t.card_token = u.card_token", "3:26: `transactions` is the stream, of which no row is ever the last; join its windows, `TUMBLE(transactions, …) a JOIN"),
        ("t JOIN (SELECT max(amount) AS m, state FROM transactions GROUP BY state) h ON h.state = t.state", "3:63: `transactions` is the stream"),
        ("t JOIN q ON t.city = q.city", "3:26: `q` is the view itself"),
        ("t JOIN stats s ON t.state = s.state", "3:26: no table `stats` of the lake; did you mean `states`?"),
        ("t JOIN (SELECT state, now() AS at FROM states) h ON h.state = t.state", "3:41: `now` answers differently each time"),
        ("t JOIN (SELECT stat FROM states) h ON h.stat = t.state", "3:34: no column `stat`; did you mean `state`?"),
        ("t JOIN (SELECT state FROM states) ON state = t.state", "3:27: a subquery that is joined needs a name"),
        ("t JOIN 'none.csv' r ON r.state = t.state", "3:37: the file `none.csv` cannot be read beside the queries"),
        ("t JOIN TUMBLE(states, state, INTERVAL '1 minute') r ON r.state = t.state", "3:26: `TUMBLE` is joined with windows alone"),
        ("t JOIN states s ON t.state = s.sate", "3:48: no column `sate`; did you mean"),
        ("t WHERE t.state IN (SELECT state FROM states)", "3:39: a subquery is not supported here in a standing query; join it"),
    ]
}

#[tokio::test]
async fn what_cannot_be_joined_is_refused_where_it_stands() {
    let mut wrong = Vec::new();
    for (join, expected) in refused() {
        let text = format!("CREATE MATERIALIZED VIEW q AS\nSELECT event_date, t.city\nFROM transactions {join}");
        match plan(&text).await {
            Ok(_) => wrong.push(format!("{join}\n  was planned, expected {expected}")),
            Err(error) if error.to_string().starts_with(&format!("queries/q.sql:{expected}")) => {}
            Err(error) => wrong.push(format!("{join}\n  gave     {error}\n  expected {expected}")),
        }
    }
    let lead =
        plan("CREATE MATERIALIZED VIEW q AS SELECT event_date FROM states s JOIN transactions t ON t.state = s.state")
            .await;
    let lead = lead.unwrap_err().to_string();
    if !lead
        .contains("`states` does not flow, so it cannot drive the query; write `FROM transactions JOIN states ON …`")
    {
        wrong.push(lead);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[tokio::test]
async fn windows_of_a_lookup_are_not_the_querys_windows() {
    let minutes = TableContract { name: "minutes".into(), ..states() };
    let minutes = TableContract {
        columns: ["window_start", "window_end"]
            .into_iter()
            .map(|name| Column {
                name: name.into(),
                data_type: crate::contract::timestamp_type(),
                ..states().columns[0].clone()
            })
            .collect(),
        ..minutes
    };
    let text = "CREATE MATERIALIZED VIEW q AS SELECT m.window_start, CAST(m.window_start AS DATE) AS event_date, count(*) AS n \
                FROM TUMBLE(transactions, event_time, INTERVAL '1 minute') t JOIN minutes m ON m.window_start = t.window_start \
                GROUP BY m.window_start, m.window_end";
    let file = QueryFile::parse(Path::new("q.sql"), text).unwrap();
    let tables = BTreeMap::from([("minutes", minutes)]).into_values();
    let error = StandingQuery::plan(&file, &catalog(tables)).await.unwrap_err().to_string();
    assert!(error.contains("the aggregate is not grouped by `window_start`"), "{error}");
}
