//! Windows joined with windows, in three lives, and what cannot be joined.

use std::path::Path;
use std::sync::Arc;

use arrow::compute::concat_batches;
use arrow::record_batch::RecordBatch;
use datafusion::datasource::MemTable;
use datafusion::prelude::SessionContext;
use proptest::prelude::*;

use super::OpenWindows;
use crate::clock::{MICROS_PER_SECOND, Micros};
use crate::error::Refusals;
use crate::sql::testing::lake;
use crate::sql::testing::{NOON, catalog, cut, one_shot, plan, rows, shown};
use crate::sql::{Driver, QueryFile, StandingQuery, TimeRange, WindowedQuery, plan_all, run_batch};

const WINDOWS: &str = "TUMBLE(transactions, event_time, INTERVAL '5 minutes')";
const HOPS: &str = "HOP(transactions, event_time, INTERVAL '2 minutes', INTERVAL '6 minutes')";
const STEPS: &str = "CUMULATE(transactions, event_time, INTERVAL '2 minutes', INTERVAL '10 minutes')";
const SAME: &str = "a.window_start = b.window_start AND a.window_end = b.window_end";

fn view(select: &str, join: &str, rest: &str) -> String {
    over(WINDOWS, WINDOWS, select, join, rest)
}

fn over(one: &str, other: &str, select: &str, join: &str, rest: &str) -> String {
    format!(
        "CREATE MATERIALIZED VIEW q AS SELECT {select} FROM {one} a {join} {other} b ON {SAME} AND \
         a.card_token = b.card_token {rest}"
    )
}

/// Every shape of join of windows that is allowed, over every kind of windows.
fn all_shapes() -> Vec<String> {
    let of = |windows: &'static str| shapes().into_iter().map(move |text| text.replace(WINDOWS, windows));
    shapes().into_iter().chain(of(HOPS)).chain(of(STEPS)).collect()
}

fn shapes() -> Vec<String> {
    let pair =
        "a.window_start, CAST(a.window_start AS DATE) AS event_date, a.transaction_id AS one, b.transaction_id AS two";
    let grouped = "a.window_start, CAST(a.window_start AS DATE) AS event_date, a.card_token";
    let day = "CAST(coalesce(a.window_start, b.window_start) AS DATE) AS event_date";
    vec![
        view(pair, "JOIN", "AND a.event_time < b.event_time WHERE a.state <> b.state"),
        view(pair, "LEFT JOIN", "AND b.is_fraud AND a.transaction_id <> b.transaction_id"),
        view(
            &format!(
                "coalesce(a.window_start, b.window_start) AS window_start, {day}, a.transaction_id AS one, b.transaction_id AS two"
            ),
            "FULL JOIN",
            "AND a.amount > b.amount AND a.is_fraud",
        ),
        view(
            &format!("{grouped}, count(*) AS n, sum(b.amount) AS amount, count(DISTINCT b.city) AS cities"),
            "JOIN",
            "AND a.transaction_id < b.transaction_id GROUP BY a.window_start, a.window_end, a.card_token HAVING count(*) > 1",
        ),
        view(
            &format!("{grouped}, count(b.transaction_id) AS n"),
            "LEFT JOIN",
            "AND a.latitude < b.latitude GROUP BY a.window_start, a.window_end, a.card_token",
        ),
    ]
}

async fn windowed(text: &str) -> WindowedQuery {
    match plan(text).await.unwrap() {
        StandingQuery::Windowed(query) => query,
        StandingQuery::Stateless(query) => panic!("`{}` has no window", query.name()),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4))]

    #[test]
    fn rows_kept_until_their_windows_close_give_the_one_shot_answer(seed: u64, parts in 1usize..6, minutes in 0i64..30) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let rows = rows(seed, 200, false);
            for text in all_shapes() {
                let query = Arc::new(windowed(&text).await);
                let batches = cut(&rows, seed, parts);
                let answer = live(&query, &[&Driver::Stream], &[batches], NOON + minutes * 60 * MICROS_PER_SECOND).await;
                let expected = shown(&one_shot(&plan(&text).await.unwrap(), &rows).await);
                assert_eq!(shown(&answer), expected, "{text}");
            }
        });
    }

    #[test]
    fn two_sources_of_one_stream_give_the_one_shot_answer(seed: u64, parts in 1usize..6) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let rows = rows(seed, 200, false);
            let pair = "a.window_start, CAST(a.window_start AS DATE) AS event_date, a.amount AS one, b.city AS two";
            for windows in [WINDOWS, HOPS] {
                let other = windows.replace("transactions, event_time", "large, at");
                let join = over(&other, windows, pair, "LEFT JOIN", "AND a.amount < b.amount");
                let planned = together(&[LARGE, &join]).await;
                let StandingQuery::Windowed(query) = &planned[1] else { panic!("no window") };
                prop_assert_eq!(query.drivers(), [&Driver::Stream]);
                let batches = cut(&rows, seed, parts);
                let answer = live(&Arc::new(query.clone()), &[&Driver::Stream], &[batches], NOON + 900 * MICROS_PER_SECOND).await;
                assert_eq!(shown(&answer), shown(&one_shot(&planned[1], &rows).await), "{join}");
            }
            Ok::<(), TestCaseError>(())
        })?;
    }

    #[test]
    fn windows_of_two_views_give_the_one_shot_answer(seed: u64, parts in 1usize..6) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let rows = rows(seed, 200, false);
            for join in joins_of_views() {
                let planned = together(&[&counts("spend", "true"), &counts("fraud", "is_fraud"), &join]).await;
                let [spend, fraud, query] = planned.as_slice() else { panic!("three views") };
                let StandingQuery::Windowed(windowed) = query else { panic!("no window") };
                let drivers = windowed.drivers();
                prop_assert_eq!(drivers.len(), 2);
                let mut lake = lake(&rows);
                let mut closed = Vec::new();
                for parent in [spend, fraud] {
                    let answer = one_shot(parent, &rows).await;
                    let StandingQuery::Windowed(parent) = parent else { panic!("no window") };
                    let answer: Vec<_> = answer.iter().map(|batch| parent.as_output(batch).unwrap()).collect();
                    let answer = concat_batches(&parent.output().schema(), &answer).unwrap();
                    lake = registered(lake, parent.name(), &answer);
                    closed.push(cut(&answer, seed, parts));
                }
                let answer = live(&Arc::new(windowed.clone()), &drivers, &closed, NOON + 900 * MICROS_PER_SECOND).await;
                let batch = run_batch(&lake, query.batch_select(None).unwrap()).await.unwrap().collect().await.unwrap();
                assert_eq!(shown(&answer), shown(&batch), "{join}");
                assert!(!batch.is_empty(), "{join}");
                if join.contains("HOP") || join.contains("CUMULATE") {
                    continue;
                }
                let range = TimeRange { from: NOON, to: NOON + 600 * MICROS_PER_SECOND };
                let narrowed = run_batch(&lake, query.batch_select(Some(range)).unwrap()).await.unwrap().collect().await.unwrap();
                let inside = |line: &&String| line.contains("T12:00:00Z") || line.contains("T12:05:00Z");
                let expected: Vec<String> = shown(&batch).iter().filter(inside).cloned().collect();
                assert_eq!(shown(&narrowed), expected, "{join}");
            }
            Ok::<(), TestCaseError>(())
        })?;
    }
}

const LARGE: &str = "CREATE MATERIALIZED VIEW large AS SELECT event_time AS at, event_date, card_token, amount FROM transactions WHERE amount > 2000";

/// A view over windows of five minutes.
fn counts(name: &str, filter: &str) -> String {
    format!(
        "CREATE MATERIALIZED VIEW {name} AS SELECT window_start, window_end, CAST(window_start AS DATE) AS event_date, state, \
         count(*) AS n, sum(amount) AS amount FROM {WINDOWS} WHERE {filter} GROUP BY window_start, window_end, state"
    )
}

/// Windows of two views: by the views' names, and by windows over them, the same ones and longer ones.
fn joins_of_views() -> Vec<String> {
    let select = "s.window_start, CAST(s.window_start AS DATE) AS event_date, s.state, s.n, f.n AS frauds, f.amount";
    let full = "coalesce(s.window_start, f.window_start) AS window_start, \
                CAST(coalesce(s.window_start, f.window_start) AS DATE) AS event_date, s.state AS one, f.state AS other";
    let on = "s.window_start = f.window_start AND s.window_end = f.window_end AND s.state = f.state";
    let named = |select: &str, join: &str, more: &str| {
        format!("CREATE MATERIALIZED VIEW q AS SELECT {select} FROM spend s {join} fraud AS f ON {on} {more}")
    };
    let ten = "INTERVAL '5 minutes', INTERVAL '10 minutes'";
    let windows = |view: &str, minutes: u8| format!("TUMBLE({view}, window_start, INTERVAL '{minutes} minutes')");
    vec![
        named(select, "JOIN", ""),
        named(select, "LEFT JOIN", "AND f.n > 1"),
        named(full, "FULL JOIN", "AND s.n > 4"),
        named(
            "s.window_start, CAST(s.window_start AS DATE) AS event_date, sum(s.n) AS n, sum(f.n) AS frauds",
            "LEFT JOIN",
            "GROUP BY s.window_start, s.window_end",
        ),
        format!(
            "CREATE MATERIALIZED VIEW q AS SELECT {select} FROM {} s JOIN {} f ON {on} AND f.amount <= s.amount",
            windows("spend", 10),
            windows("fraud", 10)
        ),
        format!(
            "CREATE MATERIALIZED VIEW q AS SELECT {select} FROM HOP(spend, window_end, {ten}) s JOIN HOP(fraud, window_end, {ten}) f ON {on}"
        ),
        format!(
            "CREATE MATERIALIZED VIEW q AS SELECT {select} FROM CUMULATE(spend, window_start, {ten}) s LEFT JOIN \
             CUMULATE(fraud, window_start, {ten}) f ON {on}"
        ),
    ]
}

/// Plans views that read each other.
async fn together(texts: &[&str]) -> Vec<StandingQuery> {
    let files: Vec<QueryFile> =
        texts.iter().map(|text| QueryFile::parse(Path::new("queries/q.sql"), text).unwrap()).collect();
    let mut refused = Refusals::default();
    let planned = plan_all(&files, catalog([]), &mut refused).await.unwrap();
    assert!(refused.is_empty(), "{refused}");
    planned
}

fn registered(context: SessionContext, name: &str, rows: &RecordBatch) -> SessionContext {
    let table = MemTable::try_new(rows.schema(), vec![vec![rows.clone()]]).unwrap();
    context.register_table(name, Arc::new(table)).unwrap();
    context
}

/// Folds batches of each driver, closes up to a time and then everything.
async fn live(
    query: &Arc<WindowedQuery>,
    drivers: &[&Driver],
    batches: &[Vec<RecordBatch>],
    until: Micros,
) -> Vec<RecordBatch> {
    let mut open = OpenWindows::new(Arc::clone(query));
    for (driver, batches) in drivers.iter().zip(batches) {
        for batch in batches {
            let rows = std::slice::from_ref(batch);
            open.fold(query.partial_of(driver, rows).await.unwrap()).await.unwrap();
        }
    }
    let (mut answer, mut after) = (Vec::new(), None);
    for until in [until, Micros::MAX] {
        answer.extend(open.close(after, until).await.unwrap().answer().await.unwrap().1);
        after = Some(until);
    }
    assert!(open.is_empty());
    answer
}

#[tokio::test]
async fn a_range_of_a_batch_narrows_every_side() {
    let rows = rows(4, 200, false);
    let range = TimeRange { from: NOON, to: NOON + 600 * MICROS_PER_SECOND };
    for text in shapes() {
        let query = plan(&text).await.unwrap();
        let statement = query.batch_select(Some(range)).unwrap();
        let answer = run_batch(&lake(&rows), statement).await.unwrap().collect().await.unwrap();
        let whole = shown(&one_shot(&query, &rows).await);
        let starts_inside = |line: &&String| line.contains("T12:00:00Z") || line.contains("T12:05:00Z");
        let expected: Vec<String> = whole.iter().filter(starts_inside).cloned().collect();
        assert_eq!(shown(&answer), expected, "{text}");
    }
}

#[tokio::test]
async fn only_needed_columns_are_kept() {
    let query = windowed(&shapes()[4]).await;
    let kept = query.partial(&[rows(1, 10, false)]).await.unwrap();
    let names: Vec<_> = kept[0].schema().fields().iter().map(|f| f.name().clone()).collect();
    assert_eq!(names, ["card_token", "latitude", "transaction_id", "window_end", "window_start"]);
    assert!(query.is_buffered());
}

#[tokio::test]
async fn another_size_is_another_query() {
    let text = &shapes()[0];
    let (five, six) = (plan(text).await.unwrap(), plan(&text.replace("5 minutes", "6 minutes")).await.unwrap());
    assert_ne!(five.fingerprint(), six.fingerprint());
}

/// The joined side and its condition, and what is said of it.
#[rustfmt::skip]
fn refused() -> Vec<(&'static str, &'static str)> {
    vec![
        ("a JOIN TUMBLE(transactions, event_time, INTERVAL '5 minutes') b ON a.card_token = b.card_token", "windows are joined window by window; write `ON a.window_start = b.window_start AND a.window_end = b.window_end AND …`"),
        ("a JOIN TUMBLE(transactions, event_time, INTERVAL '5 minutes') b ON a.window_start = b.window_start AND a.card_token = b.card_token", "windows are joined window by window"),
        ("a JOIN TUMBLE(transactions, event_time, INTERVAL '5 minutes') b ON a.window_start = b.window_start OR a.window_end = b.window_end", "windows are joined window by window"),
        ("a JOIN TUMBLE(transactions, event_time, INTERVAL '6 minutes') b USING (window_start, window_end)", "windows are joined with the same windows"),
        ("a JOIN TUMBLE(city_minute, window_start, INTERVAL '5 minutes') b USING (window_start, window_end)", "no stream or view `city_minute`"),
        ("a JOIN SESSION(transactions, event_time, INTERVAL '5 minutes') b USING (window_start, window_end)", "rows of sessions are not joined: where one ends, only its own rows tell; write `TUMBLE` on both sides"),
        ("a RIGHT JOIN TUMBLE(transactions, event_time, INTERVAL '5 minutes') b USING (window_start, window_end)", "windows are joined by `[INNER | LEFT | FULL] JOIN … ON`"),
        ("a JOIN TUMBLE(transactions, event_time, INTERVAL '5 minutes') b USING (window_start, window_end) JOIN states s ON s.state = a.state", "no table `states` of the lake"),
        ("a JOIN TUMBLE(transactions, event_time, INTERVAL '5 minutes') b USING (window_start, window_end) FULL JOIN states s ON s.state = a.state", "a FULL JOIN would answer with rows no event has brought; write LEFT JOIN"),
        ("a JOIN TUMBLE(transactions, event_time, INTERVAL '5 minutes') b USING (window_start, window_end) JOIN transactions s ON s.state = a.state", "`transactions` is the stream, of which no row is ever the last"),
        ("JOIN TUMBLE(transactions, event_time, INTERVAL '5 minutes') b USING (window_start, window_end)", "joined windows need names"),
    ]
}

#[tokio::test]
async fn windows_that_cannot_be_joined_are_refused() {
    for (join, expected) in refused() {
        let text = format!(
            "CREATE MATERIALIZED VIEW q AS SELECT CAST(a.window_start AS DATE) AS event_date, a.city FROM {WINDOWS} {join}"
        );
        let error = plan(&text).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{join}\n gave     {error}\n expected {expected}");
    }
    let full = view(
        "a.window_start, CAST(a.window_start AS DATE) AS event_date, count(*) AS n",
        "FULL JOIN",
        "GROUP BY a.window_start, a.window_end",
    );
    assert!(plan(&full).await.unwrap_err().to_string().contains("a FULL JOIN that is grouped"));
    let mixed = format!(
        "CREATE MATERIALIZED VIEW q AS SELECT CAST(a.window_start AS DATE) AS event_date, a.city FROM {WINDOWS} a \
         JOIN TUMBLE(spend, window_start, INTERVAL '5 minutes') b ON {SAME}"
    );
    let files = [counts("spend", "true"), mixed];
    let files = files.map(|text| QueryFile::parse(Path::new("queries/q.sql"), &text).unwrap());
    let mut refused = Refusals::default();
    plan_all(&files, catalog([]), &mut refused).await.unwrap();
    let said = refused.to_string();
    assert!(
        said.contains("windows over the stream close before those over what a view has closed; let a view"),
        "{said}"
    );
    let other_side = view(
        "b.window_start, CAST(b.window_start AS DATE) AS event_date, count(*) AS n",
        "LEFT JOIN",
        "GROUP BY b.window_start, b.window_end",
    );
    assert!(plan(&other_side).await.unwrap_err().to_string().contains("not grouped by `window_start`"));
}
