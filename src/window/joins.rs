//! Windows joined with windows, in three lives, and what cannot be joined.

use std::sync::Arc;

use proptest::prelude::*;

use super::OpenWindows;
use crate::clock::{MICROS_PER_SECOND, Micros};
use crate::sql::testing::lake;
use crate::sql::testing::{NOON, cut, one_shot, plan, rows, shown};
use crate::sql::{StandingQuery, TimeRange, WindowedQuery, run_batch};

const WINDOWS: &str = "TUMBLE(transactions, event_time, INTERVAL '5 minutes')";
const SAME: &str = "a.window_start = b.window_start AND a.window_end = b.window_end";

fn view(select: &str, join: &str, rest: &str) -> String {
    format!(
        "CREATE MATERIALIZED VIEW q AS SELECT {select} FROM {WINDOWS} a {join} {WINDOWS} b ON {SAME} AND \
         a.card_token = b.card_token {rest}"
    )
}

/// Every shape of join of windows that is allowed.
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
            for text in shapes() {
                let query = Arc::new(windowed(&text).await);
                let mut open = OpenWindows::new(Arc::clone(&query));
                for batch in cut(&rows, seed, parts) {
                    open.fold(query.partial(&[batch]).await.unwrap()).await.unwrap();
                }
                let until: Micros = NOON + minutes * 60 * MICROS_PER_SECOND;
                let mut answer = open.close(None, until).await.unwrap().answer().await.unwrap().1;
                assert!(open.open_since().unwrap().is_none_or(|since| since + 300 * MICROS_PER_SECOND > until));
                answer.extend(open.close(Some(until), Micros::MAX).await.unwrap().answer().await.unwrap().1);
                let expected = shown(&one_shot(&plan(&text).await.unwrap(), &rows).await);
                assert_eq!(shown(&answer), expected, "{text}");
            }
        });
    }
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
        ("a JOIN TUMBLE(transactions, event_time, INTERVAL '5 minutes') b ON a.card_token = b.card_token", "windows are joined window by window: write `ON a.window_start = b.window_start AND a.window_end = b.window_end AND …`"),
        ("a JOIN TUMBLE(transactions, event_time, INTERVAL '5 minutes') b ON a.window_start = b.window_start AND a.card_token = b.card_token", "windows are joined window by window"),
        ("a JOIN TUMBLE(transactions, event_time, INTERVAL '5 minutes') b ON a.window_start = b.window_start OR a.window_end = b.window_end", "windows are joined window by window"),
        ("a JOIN TUMBLE(transactions, event_time, INTERVAL '6 minutes') b USING (window_start, window_end)", "windows are joined with the same windows"),
        ("a JOIN TUMBLE(city_minute, window_start, INTERVAL '5 minutes') b USING (window_start, window_end)", "`transactions` and `city_minute` are two sources"),
        ("a RIGHT JOIN TUMBLE(transactions, event_time, INTERVAL '5 minutes') b USING (window_start, window_end)", "windows are joined by `[INNER | LEFT | FULL] JOIN … ON`"),
        ("a JOIN TUMBLE(transactions, event_time, INTERVAL '5 minutes') b USING (window_start, window_end) JOIN states s ON s.state = a.state", "windows are joined with windows alone"),
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
    let other_side = view(
        "b.window_start, CAST(b.window_start AS DATE) AS event_date, count(*) AS n",
        "LEFT JOIN",
        "GROUP BY b.window_start, b.window_end",
    );
    assert!(plan(&other_side).await.unwrap_err().to_string().contains("not grouped by `window_start`"));
}
