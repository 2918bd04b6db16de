//! Stream = batch: partial, reduce and finish over any cut of the rows give the one-shot answer.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{AsArray, Decimal128Array};
use arrow::datatypes::{DataType, Decimal128Type, Int64Type};
use arrow::record_batch::RecordBatch;
use proptest::prelude::*;

use super::testing::{NOON, catalog, cut, lake, one_shot, plan, rows, shown, windowed};
use super::{StandingQuery, TimeRange, read_queries, run_batch};
use crate::clock::MICROS_PER_SECOND;

/// Each aggregate alone, and all together.
#[rustfmt::skip]
const AGGREGATES: [&str; 24] = [
    "count(*) AS a",
    "count(latitude) AS a",
    "sum(amount) AS a",
    "sum(unix_time) AS a",
    "avg(amount) AS a",
    "min(amount) AS a",
    "max(city) AS a",
    "min(event_time) AS a, max(event_time) AS b",
    "stddev(amount) AS a",
    "stddev_pop(latitude) AS a, var_samp(latitude) AS b",
    "count(DISTINCT card_token) AS a",
    "sum(DISTINCT amount) AS a",
    "approx_distinct(card_token) AS a",
    "count(*) FILTER (WHERE is_fraud) AS a",
    "coalesce(sum(amount) FILTER (WHERE is_fraud), 0) AS a",
    "count(DISTINCT merchant) FILTER (WHERE is_fraud) AS a",
    "median(amount) AS a",
    "bool_or(is_fraud) AS a",
    "corr(latitude, unix_time) AS a",
    "array_to_string(array_agg(city ORDER BY city), ',') AS a",
    "first_value(merchant ORDER BY event_time, transaction_id) AS a",
    "last_value(amount ORDER BY event_time, transaction_id) AS a",
    "string_agg(merchant, ',' ORDER BY event_time, transaction_id) AS a",
    "count(*) AS a, sum(amount) AS b, avg(amount) AS c, min(amount) AS d, max(amount) AS e, stddev(amount) AS f, \
     count(DISTINCT card_token) AS g, approx_distinct(card_token) AS h, sum(amount) FILTER (WHERE is_fraud) AS i",
];

fn minutes(aggregates: &str, rest: &str) -> String {
    format!(
        "CREATE MATERIALIZED VIEW q AS SELECT window_start, window_end, CAST(window_start AS DATE) AS event_date, state, \
         {aggregates} FROM TUMBLE(transactions, event_time, INTERVAL '5 minutes') {rest}"
    )
}

const BY_STATE: &str = "GROUP BY window_start, window_end, state";

/// The streamed answer of these batches, reduced after every `every`th.
async fn streamed(query: &super::WindowedQuery, batches: &[RecordBatch], every: usize) -> Vec<RecordBatch> {
    let mut state = Vec::new();
    for (index, batch) in (1..).zip(batches) {
        state.extend(query.partial(std::slice::from_ref(batch)).await.unwrap());
        if index % every == 0 {
            state = query.reduce(state).await.unwrap();
        }
    }
    query.finish(state).await.unwrap()
}

/// One-shot rows in the output table's types, to be compared as text.
fn as_output(query: &super::WindowedQuery, batches: &[RecordBatch]) -> Vec<String> {
    shown(
        &batches
            .iter()
            .filter(|batch| batch.num_rows() > 0)
            .map(|batch| query.output.cast(batch).unwrap())
            .collect::<Vec<_>>(),
    )
}

async fn check(text: &str, rows: &RecordBatch, seed: u64, parts: usize, every: usize) {
    let query = windowed(text).await;
    let live = shown(&streamed(&query, &cut(rows, seed, parts), every).await);
    let batch = as_output(&query, &one_shot(&plan(text).await.unwrap(), rows).await);
    assert_eq!(live, batch, "{text}");
    assert!(!live.is_empty() || rows.num_rows() == 0, "{text} answered nothing");
}

#[tokio::test]
async fn every_aggregate_alone_and_together_streams_to_the_batch_answer() {
    let rows = rows(1, 600, true);
    for (seed, aggregates) in (0..).zip(AGGREGATES) {
        for every in [1, 3, usize::MAX] {
            check(&minutes(aggregates, BY_STATE), &rows, seed, 7, every).await;
        }
    }
}

#[tokio::test]
async fn having_where_and_expressions_above_the_aggregate_stream_too() {
    let rows = rows(2, 400, false);
    for text in [
        minutes("count(*) AS n", &format!("{BY_STATE} HAVING sum(amount) > 50000 AND count(*) > 2")),
        minutes("sum(amount) / count(*) AS mean", &format!("WHERE city <> 'Aiken' AND amount > 10.50 {BY_STATE}")),
        minutes("upper(state) AS shout, count(*) AS n", &format!("AS t {BY_STATE}")),
        minutes("count(*) AS n", "GROUP BY 1, 2, state HAVING state = 'NY'"),
        minutes("t.window_end AS until, sum(t.amount) AS n", "AS t GROUP BY t.window_start, t.window_end, t.state"),
    ] {
        check(&text, &rows, 5, 4, 2).await;
    }
}

#[tokio::test]
async fn a_window_without_further_groups_or_aggregates_works() {
    let rows = rows(3, 200, false);
    let text = "CREATE MATERIALIZED VIEW q AS SELECT window_start, CAST(window_start AS DATE) AS event_date \
                FROM TUMBLE(transactions, event_time, INTERVAL '1 minute', INTERVAL '20 seconds') GROUP BY window_start, window_end";
    check(text, &rows, 1, 5, 1).await;
    assert_eq!(windowed(text).await.window().offset(), 20 * MICROS_PER_SECOND);
}

/// The windows themselves against a program that only adds and compares.
#[tokio::test]
async fn windows_agree_with_a_plain_count() {
    let rows = rows(4, 500, true);
    let query = windowed(&minutes("count(*) AS n, sum(amount) AS amount", BY_STATE)).await;
    let times = rows.column(0).as_primitive::<arrow::datatypes::TimestampMicrosecondType>();
    let amounts = rows.column(6).as_primitive::<Decimal128Type>();
    let states = rows.column(9).as_string::<i32>();
    let mut expected = std::collections::BTreeMap::<(i64, String), (i64, i128)>::new();
    for row in 0..rows.num_rows() {
        let size = 300 * MICROS_PER_SECOND;
        let mut start = 0;
        while start > times.value(row) {
            start -= size;
        }
        while start + size <= times.value(row) {
            start += if times.value(row) - start > 1_000 * size { 1_000 * size } else { size };
        }
        let entry = expected.entry((start, states.value(row).to_owned())).or_default();
        *entry = (entry.0 + 1, entry.1 + amounts.value(row));
    }
    let mut got = std::collections::BTreeMap::new();
    for batch in streamed(&query, &cut(&rows, 9, 6), 2).await {
        let starts = batch
            .column_by_name("window_start")
            .unwrap()
            .as_primitive::<arrow::datatypes::TimestampMicrosecondType>()
            .clone();
        let ends = batch
            .column_by_name("window_end")
            .unwrap()
            .as_primitive::<arrow::datatypes::TimestampMicrosecondType>()
            .clone();
        let counts = batch.column_by_name("n").unwrap().as_primitive::<Int64Type>().clone();
        let sums = batch.column_by_name("amount").unwrap().as_primitive::<Decimal128Type>().clone();
        let states = batch.column_by_name("state").unwrap().as_string::<i32>().clone();
        for row in 0..batch.num_rows() {
            assert_eq!(ends.value(row) - starts.value(row), 300 * MICROS_PER_SECOND);
            got.insert((starts.value(row), states.value(row).to_owned()), (counts.value(row), sums.value(row)));
        }
    }
    assert_eq!(got, expected);
}

#[tokio::test]
async fn a_backfill_is_the_windows_inside_its_range() {
    let rows = rows(6, 500, false);
    let text = minutes("count(*) AS n, sum(amount) AS amount", BY_STATE);
    let query = windowed(&text).await;
    let (from, to) = (NOON + 400 * MICROS_PER_SECOND, NOON + 1_400 * MICROS_PER_SECOND);
    let statement = query.batch_select(Some(TimeRange { from, to })).unwrap();
    assert!(statement.sql().contains("event_date >= CAST('2020-06-21' AS DATE)"), "{}", statement.sql());
    let backfill = run_batch(&lake(&rows), statement).await.unwrap().collect().await.unwrap();
    let whole = format!(
        "SELECT * FROM ({}) WHERE window_start >= TIMESTAMP '2020-06-21T12:10:00Z' AND window_end <= TIMESTAMP '2020-06-21T12:20:00Z'",
        query.batch_select(None).unwrap().sql()
    );
    let expected = lake(&rows).sql(&whole).await.unwrap().collect().await.unwrap();
    assert_eq!(as_output(&query, &backfill), as_output(&query, &expected));
    assert_eq!(shown(&backfill).len(), 6, "two windows of three states");
}

#[tokio::test]
async fn a_stateless_query_streams_to_the_batch_answer_and_backfills_a_range() {
    let rows = rows(7, 300, false);
    let text = "CREATE MATERIALIZED VIEW q AS SELECT event_time, event_date, transactions.amount * 2 AS twice, 'label' AS rule FROM transactions WHERE is_fraud";
    let query = plan(text).await.unwrap();
    let StandingQuery::Stateless(stateless) = &query else { panic!("no window") };
    let live = stateless.run(&cut(&rows, 3, 4)).await.unwrap();
    let batch = one_shot(&query, &rows).await;
    assert_eq!(shown(&live), shown(&batch));
    assert!(shown(&live).len() > 10);
    let range = TimeRange { from: NOON, to: NOON + 600 * MICROS_PER_SECOND };
    let some =
        run_batch(&lake(&rows), query.batch_select(Some(range)).unwrap()).await.unwrap().collect().await.unwrap();
    let some = shown(&some);
    let inside = shown(&batch).into_iter().filter(|line| line.contains("T12:0")).collect::<Vec<_>>();
    assert_eq!(some, inside);
}

#[tokio::test]
async fn a_fingerprint_changes_with_the_query_not_with_its_layout() {
    let of = async |text: &str| plan(text).await.unwrap().fingerprint().to_owned();
    let text = minutes("sum(amount) AS a", BY_STATE);
    let first = of(&text).await;
    assert_eq!(first.len(), 64);
    let loose = format!(
        "-- A comment.\n{}",
        text.replace(' ', "\n  ").replace("5\n  minutes", "5 minutes").replace("sum(", "SUM( ")
    );
    assert_eq!(of(&loose).await, first);
    assert_eq!(of(&text.replace("INTERVAL '5 minutes'", "INTERVAL '300 seconds'")).await, first);
    assert_ne!(of(&text.replace("5 minutes", "6 minutes")).await, first);
    assert_ne!(of(&text.replace("sum(amount)", "sum(amount + 0)")).await, first);
}

#[tokio::test]
async fn a_sum_beyond_its_type_is_an_error_not_a_wrong_number() {
    let query = windowed(&minutes("sum(amount) AS amount", BY_STATE)).await;
    // Arithmetic may leave more digits in an array than its type has; here 31 in 30.
    let digits = Decimal128Array::from(vec![10i128.pow(30)]).with_precision_and_scale(30, 2).unwrap();
    let answer = RecordBatch::try_from_iter(query.output().columns.iter().map(|column| {
        let array: arrow::array::ArrayRef = match column.data_type {
            DataType::Decimal128(..) => Arc::new(digits.clone()),
            ref other => arrow::array::new_null_array(other, 1),
        };
        (column.name.as_ref(), array)
    }));
    let error = query.output.cast(&answer.unwrap()).unwrap_err().to_string();
    assert!(error.contains("does not fit `q`"), "{error}");
}

#[tokio::test]
async fn a_batch_of_another_schema_is_refused() {
    let query = windowed(&minutes("count(*) AS n", BY_STATE)).await;
    let fewer = rows(1, 3, false).project(&[0, 1]).unwrap();
    assert!(query.partial(&[fewer]).await.unwrap_err().to_string().contains("folding rows into `q`"));
}

#[tokio::test]
async fn the_output_table_follows_from_the_query() {
    let query =
        plan(&minutes("sum(amount) AS amount, approx_distinct(city) AS cities, stddev(amount) AS spread", BY_STATE))
            .await
            .unwrap();
    let types: Vec<_> = query.output().columns.iter().map(|c| (c.name.to_string(), c.data_type.to_string())).collect();
    let expected = [
        ("window_start", "Timestamp(µs, \"UTC\")"),
        ("window_end", "Timestamp(µs, \"UTC\")"),
        ("event_date", "Date32"),
        ("state", "Utf8"),
        ("amount", "Decimal128(30, 2)"),
        ("cities", "Decimal128(20, 0)"),
        ("spread", "Float64"),
    ];
    assert_eq!(types, expected.map(|(name, data_type)| (name.to_owned(), data_type.to_owned())));
    assert_eq!(query.output().partition_by.as_ref(), "event_date");
}

#[tokio::test]
async fn the_shipped_queries_have_the_promised_columns_and_stream_to_the_batch_answer() {
    let window = ["window_start", "window_end", "event_date"];
    let sums = ["transactions", "amount", "fraud_transactions", "fraud_amount"];
    let columns = |middle: &[&'static str]| [&window[..], middle, &sums[..]].concat();
    let promised = [
        ("category_hour", columns(&["category"])),
        ("city_minute", columns(&["state", "city"])),
        (
            "fraud_alerts",
            [
                "event_time",
                "event_date",
                "transaction_id",
                "card_token",
                "merchant",
                "category",
                "amount",
                "city",
                "state",
                "rule",
            ]
            .to_vec(),
        ),
        ("state_minute", columns(&["state"])),
    ];
    let files = read_queries(&Path::new(env!("CARGO_MANIFEST_DIR")).join("queries")).unwrap();
    let rows = rows(11, 800, false);
    for (name, columns) in promised {
        let file = files.iter().find(|file| file.name.as_ref() == name).unwrap();
        assert!(!file.comment.is_empty(), "{name}");
        let query = StandingQuery::plan(file, &catalog([])).await.unwrap();
        assert_eq!(query.output().columns.iter().map(|c| c.name.as_ref()).collect::<Vec<_>>(), columns);
        let (live, batch) = match &query {
            StandingQuery::Windowed(windowed) => {
                let live = streamed(windowed, &cut(&rows, 2, 9), 2).await;
                (shown(&live), as_output(windowed, &one_shot(&query, &rows).await))
            }
            StandingQuery::Stateless(stateless) => {
                (shown(&stateless.run(&cut(&rows, 2, 9)).await.unwrap()), shown(&one_shot(&query, &rows).await))
            }
        };
        assert_eq!(live, batch, "{name}");
        if let Some(column) = query.output().column("fraud_amount") {
            assert_eq!(column.data_type, DataType::Decimal128(30, 2));
            assert!(!live.iter().any(|line| line.contains("NULL")), "sums of nothing are 0");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_cut_in_any_order_gives_the_one_shot_answer(seed: u64, count in 0usize..300, parts in 1usize..12, every in 1usize..6, kind in 0usize..AGGREGATES.len()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(check(&minutes(AGGREGATES[kind], BY_STATE), &rows(seed, count, true), seed, parts, every));
    }
}
