//! Every refusal with its sentence: the text of a query file, and the message it must give.

use std::collections::BTreeMap;
use std::path::Path;

use super::testing::{catalog, plan, transactions};
use super::{Catalog, QueryFile, StandingQuery};
use crate::contract::{Column, Origin, TableContract, timestamp_type};
use arrow::datatypes::DataType;

const WINDOW: &str = "TUMBLE(transactions, event_time, INTERVAL '1 minute')";

/// A view over one-minute windows: `select` stands at 3:8, its source at 4:6, GROUP BY at 5:10.
fn view(select: &str) -> String {
    format!(
        "-- Why.\nCREATE MATERIALIZED VIEW q AS\nSELECT {select}, CAST(window_start AS DATE) AS event_date\nFROM {WINDOW}\nGROUP BY window_start, window_end"
    )
}

/// A view over the stream's rows.
fn plain(select: &str, rest: &str) -> String {
    format!("CREATE MATERIALIZED VIEW q AS\nSELECT event_date, {select}\nFROM {rest}")
}

/// File text, and how its message begins.
#[rustfmt::skip]
fn cases() -> Vec<(String, &'static str)> {
    vec![
        // Files
        ("SELEC 1".into(), "q.sql:1:1: expected: an SQL statement, found: SELEC"),
        ("-- only a comment".into(), "q.sql: no statement"),
        ("SELECT 1; SELECT 2".into(), "q.sql:1:1: 2 statements; a query file holds one"),
        ("CREATE MATERIALIZED VIEW q WITH (partition_by = 'event_date',\n alowed_lateness = '1 minute') AS SELECT 1 AS one".into(),
         "q.sql:2:2: no option `alowed_lateness`; did you mean `allowed_lateness`?"),
        ("CREATE MATERIALIZED VIEW q WITH (allowed_lateness = 'soon') AS SELECT 1 AS one".into(),
         "q.sql:1:53: `allowed_lateness`: `soon` is no length of time; write one like '10 seconds'"),
        ("CREATE MATERIALIZED VIEW q (a) AS SELECT 1 AS one".into(), "q.sql:1:29: name the columns with AS"),
        ("CREATE MATERIALIZED VIEW q WITH (allowed_lateness = '-1 second') AS SELECT 1 AS one".into(), "q.sql:1:53: `allowed_lateness` cannot be negative"),
        ("CREATE MATERIALIZED VIEW q WITH (allowed_lateness = '1 second') AS SELECT event_date FROM transactions".into(),
         "q.sql:1:53: `allowed_lateness` is for windows; without one no row is late"),
        // Functions
        (view("count(*) AS n, now() AS at"), "q.sql:3:23: `now` answers differently each time"),
        (view("count(*) AS n, CURRENT_DATE AS at"), "q.sql:3:23: `CURRENT_DATE` answers differently each time"),
        (view("sum(amount * random()) AS n"), "q.sql:3:21: `random` answers differently each time"),
        (view("max(uuid()) AS n"), "q.sql:3:12: `uuid` answers differently each time, so stream and batch would disagree; use the row's `event_time`"),
        (view("first_value(city) AS city"), "q.sql:3:8: `first_value` depends on the order of rows, which a stream does not keep; write `first_value(… ORDER BY event_time, …)`"),
        (view("last_value(city) AS city"), "q.sql:3:8: `last_value` depends on the order of rows"),
        (view("string_agg(city, ',') AS cities"), "q.sql:3:8: `string_agg` depends on the order of rows"),
        (view("coutn(*) AS n"), "q.sql:3:8: no function `coutn`; did you mean `count`?"),
        (view("row_number() OVER (ORDER BY window_start) AS n"), "q.sql:3:8: `row_number(…) OVER` is not supported yet"),
        // Clauses
        (format!("{}\nORDER BY n", view("count(*) AS n")), "q.sql:6:10: ORDER BY has no meaning for rows that are added as windows close; sort where you read the table"),
        (format!("{}\nLIMIT 5", view("count(*) AS n")), "q.sql:6:7: LIMIT has no meaning"),
        (plain("city", "transactions UNION ALL SELECT event_date, city FROM transactions"), "q.sql:3:29: UNION is not supported yet; write a query file for each SELECT"),
        ("CREATE MATERIALIZED VIEW q AS\nWITH t AS (SELECT 1) SELECT * FROM t".into(), "q.sql:2:1: WITH is not supported yet"),
        ("CREATE MATERIALIZED VIEW q AS SELECT DISTINCT event_date, city FROM transactions".into(), "q.sql:1:31: SELECT DISTINCT would have to remember every row"),
        (plain("city", "transactions WHERE city = $city"), "q.sql:3:32: `$city`: a standing query has no parameters"),
        // Sources
        (plain("city", "transactons"), "q.sql:3:6: no stream or view `transactons`; did you mean `transactions`?"),
        (plain("city", "customers"), "q.sql:3:6: no stream or view `customers`; there is `transactions`"),
        (plain("city", "transactions JOIN cards USING (card_token)"), "q.sql:3:24: more than one source: joins are not supported yet"),
        (plain("city", "transactions, cards"), "q.sql:3:20: more than one source"),
        (plain("city", "(SELECT * FROM transactions) t"), "q.sql:3:7: a subquery is not supported yet in a standing query; write one SELECT directly over `transactions`"),
        (plain("city", "transactions WHERE city IN (SELECT 'x')"), "q.sql:3:34: a subquery is not supported yet"),
        // Windows
        (plain("city", "HOP(transactions, event_time, INTERVAL '10 seconds', INTERVAL '1 minute')"), "q.sql:3:6: `HOP` is not supported yet; write `TUMBLE("),
        (plain("city", "TUMBEL(transactions, event_time, INTERVAL '1 minute')"), "q.sql:3:6: no table function `TUMBEL`; did you mean `TUMBLE`?"),
        (plain("city", "TUMBLE(transactions, event_time)"), "q.sql:3:6: write `TUMBLE(table, time, INTERVAL '1 minute')`"),
        (plain("city", "TUMBLE(transactions, event_time, '1 minute')"), "q.sql:3:39: the window's size is a literal like `INTERVAL '1 minute'`"),
        (plain("city", "TUMBLE(transactions, event_time, INTERVAL '1 month')"), "q.sql:3:48: the window's size: `1 month` has no fixed length"),
        (plain("city", "TUMBLE(transactions, event_time, INTERVAL '0 seconds')"), "q.sql:3:48: the window's size must be positive"),
        (plain("city", "TUMBLE(transaction, event_time, INTERVAL '1 minute')"), "q.sql:3:13: no stream or view `transaction`; did you mean `transactions`?"),
        (plain("city", "TUMBLE(transactions, event_tim, INTERVAL '1 minute')"), "q.sql:3:27: no column `event_tim`; did you mean `event_time`?"),
        (plain("city", "TUMBLE(transactions, unix_time, INTERVAL '1 minute')"), "q.sql:3:27: a window's time is the stream's event time `event_time`, not `unix_time`"),
        // Groups
        (format!("CREATE MATERIALIZED VIEW q AS\nSELECT CAST(window_start AS DATE) AS event_date, count(*) AS n\nFROM {WINDOW}\nGROUP BY window_start, city"), "q.sql:4:10: the aggregate is not grouped by `window_end`"),
        (format!("CREATE MATERIALIZED VIEW q AS\nSELECT event_date, count(*) AS n\nFROM {WINDOW}\nGROUP BY event_date"), "q.sql:4:10: the aggregate is not grouped by `window_start`"),
        (format!("CREATE MATERIALIZED VIEW q AS\nSELECT event_date, city FROM {WINDOW}"), "q.sql:2:1: a query over `TUMBLE` aggregates its windows; add `GROUP BY window_start, window_end`"),
        (format!("CREATE MATERIALIZED VIEW q AS\nSELECT CAST(window_start AS DATE) AS event_date\nFROM {WINDOW}\nGROUP BY ROLLUP (window_start, window_end)"), "q.sql:4:18: grouping sets are not supported in a standing query; write a query file for each"),
        (plain("count(*) AS n", "transactions GROUP BY event_date"), "q.sql:2:20: an aggregate over the whole stream never ends; read `TUMBLE(transactions, event_time, INTERVAL '1 minute')`"),
        // Names
        (view("sum(amnt) AS amount"), "q.sql:3:12: no column `amnt`; did you mean `amount`?"),
        (view("city, count(*) AS n"), "q.sql:3:8: `city` is neither grouped nor aggregated; add it to GROUP BY, or take `min(city)`"),
        (view("count(*)"), "q.sql:3:8: `count(*)` is no column name; add `AS name`"),
        (format!("CREATE MATERIALIZED VIEW q AS\nSELECT count(*) AS n\nFROM {WINDOW}\nGROUP BY window_start, window_end"), "q.sql:1:1: no column `event_date` to partition by; "),
        ("CREATE MATERIALIZED VIEW q WITH (partition_by = 'evnt_date') AS\nSELECT event_date, city FROM transactions".into(), "q.sql:1:49: no column `evnt_date` to partition by; did you mean `event_date`?"),
        ("CREATE MATERIALIZED VIEW q WITH (partition_by = 'city') AS\nSELECT event_date, city FROM transactions".into(), "q.sql:1:49: the partition column `city` must be a DATE, not STRING"),
        (format!("{}, CAST(window_start AS DATE)", view("count(*) AS n")), "q.sql:2:1: two columns are called `window_start`; rename one with AS, or leave a CAST of a grouped column out of GROUP BY"),
        // Types
        (plain("to_local_time(event_time) AS at", "transactions"), "q.sql:2:49: `at` is a time without zone"),
        (view("array_agg(city ORDER BY city) AS cities"), "q.sql:3:41: `cities` is a List"),
        (view("count(array_agg(city)) AS n"), "q.sql:3:14: `array_agg`"),
        (view("max(amount) + city AS n"), "q.sql:3:22: expressions have incompatible types; has type Decimal128(20, 2); has type Utf8"),
        (view("count(*) AS n, max(date_trunc('day')) AS d"), "q.sql:3:27: `date_trunc` does not take (Utf8); CAST the arguments"),
        (plain("amount", "transactions WHERE amount"), "q.sql:1:1: cannot create filter with non-boolean predicate 'transactions.amount'"),
        (view("sum(city) AS n"), "q.sql:3:8: `sum` does not take (Utf8); CAST the arguments"),
    ]
}

#[tokio::test]
async fn every_refusal_says_where_and_what() {
    let mut wrong = Vec::new();
    for (text, expected) in cases() {
        let expected = format!("queries/{expected}");
        match plan(&text).await {
            Ok(query) => wrong.push(format!("{text}\n  was planned as {}, expected\n  {expected}", query.name())),
            Err(error) if error.to_string().starts_with(&expected) && matches!(error, crate::Error::Usage(_)) => {}
            Err(error) => wrong.push(format!("{text}\n  gave     {error}\n  expected {expected}")),
        }
    }
    assert!(wrong.is_empty(), "{} of {} refusals:\n{}", wrong.len(), cases().len(), wrong.join("\n\n"));
}

/// A contract for `q` with these columns.
fn contract(columns: &[(&str, DataType)]) -> TableContract {
    let column = |(name, data_type): &(&str, DataType)| Column {
        name: (*name).into(),
        data_type: data_type.clone(),
        nullable: true,
        comment: String::new(),
        origin: Origin::Engine,
        check: None,
    };
    TableContract {
        name: "q".into(),
        comment: String::new(),
        columns: columns.iter().map(column).collect(),
        partition_by: "event_date".into(),
        sort_by: Vec::new(),
        stream: None,
    }
}

async fn against(text: &str, columns: &[(&str, DataType)]) -> crate::Result<StandingQuery> {
    let file = QueryFile::parse(Path::new("queries/q.sql"), text)?;
    StandingQuery::plan(&file, &catalog([contract(columns)])).await
}

#[tokio::test]
async fn a_query_that_is_not_its_contract_is_told_every_difference() {
    let text = plain("city, amount AS amnt, unix_time AS at", "transactions");
    let columns = [
        ("event_date", DataType::Date32),
        ("city", DataType::Int64),
        ("amount", DataType::Decimal128(20, 2)),
        ("at", DataType::Int64),
    ];
    let error = against(&text, &columns).await.unwrap_err().to_string();
    assert_eq!(
        error,
        "queries/q.sql:1:1: the columns are not those of the contract of `q`: `city` is STRING in the query, BIGINT in the \
         contract; `amount` DECIMAL(20,2) is missing from the query; `amnt` is not in the contract; did you mean `amount`?"
    );
}

#[tokio::test]
async fn a_float_for_money_and_a_naive_time_have_their_own_sentence() {
    let text = plain("latitude AS amount", "transactions");
    let columns = [("event_date", DataType::Date32), ("amount", DataType::Decimal128(20, 2))];
    let error = against(&text, &columns).await.unwrap_err().to_string();
    assert!(
        error.starts_with("queries/q.sql:2:32: `amount` is a float where the contract declares DECIMAL(20,2)"),
        "{error}"
    );
    let text = plain("to_local_time(event_time) AS at", "transactions");
    let columns = [("event_date", DataType::Date32), ("at", timestamp_type())];
    let error = against(&text, &columns).await.unwrap_err().to_string();
    assert!(error.starts_with("queries/q.sql:2:49: `at` is a time without zone"), "{error}");
}

#[tokio::test]
async fn what_would_be_rounded_is_refused_and_what_is_wider_is_taken() {
    let columns = |at: DataType| [("event_date", DataType::Date32), ("at", at)];
    let cents = plain("amount AS at", "transactions");
    assert!(against(&cents, &columns(DataType::Decimal128(30, 1))).await.is_err());
    let query = against(&cents, &columns(DataType::Decimal128(30, 2))).await.unwrap();
    assert_eq!(query.output().column("at").unwrap().data_type, DataType::Decimal128(30, 2));
    let partition =
        "CREATE MATERIALIZED VIEW q WITH (partition_by = 'day') AS SELECT event_date, amount AS at FROM transactions";
    let error = against(partition, &columns(DataType::Decimal128(30, 2))).await.unwrap_err().to_string();
    assert_eq!(error, "queries/q.sql:1:49: `partition_by` is `day` here, `event_date` in the contract of `q`");
}

#[tokio::test]
async fn a_batch_job_cannot_stand_and_a_table_without_format_is_no_stream() {
    let error = plan("SELECT 1").await.unwrap_err().to_string();
    assert!(error.contains("a batch job cannot stand"), "{error}");
    let table = TableContract { stream: None, ..transactions() };
    let error = Catalog::new(table.into(), BTreeMap::new()).unwrap_err().to_string();
    assert_eq!(error, "`transactions` is no stream: its contract names no `format`");
}
