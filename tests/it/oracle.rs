//! The independent count: what DuckDB says the tables must hold, from the input file alone.

use std::path::Path;

use crate::support::{Scratch, duckdb};

/// The input as DuckDB's own CSV reader sees it, in the lake's names. The first column may have any name.
pub fn input(file: &Path) -> String {
    let columns = "'n':'VARCHAR','event_time':'TIMESTAMP','cc_num':'VARCHAR','merchant':'VARCHAR','category':'VARCHAR',\
                   'amount':'DECIMAL(20,2)','first':'VARCHAR','last':'VARCHAR','gender':'VARCHAR','street':'VARCHAR',\
                   'city':'VARCHAR','state':'VARCHAR','zip':'VARCHAR','lat':'DOUBLE','long':'DOUBLE',\
                   'city_pop':'INTEGER','job':'VARCHAR','dob':'DATE','id':'VARCHAR','unix_time':'BIGINT',\
                   'merch_lat':'DOUBLE','merch_long':'DOUBLE','fraud':'INTEGER'";
    format!("read_csv('{}', header=true, columns={{{columns}}})", file.display())
}

/// Rows that differ between two queries of equal columns, either way.
pub fn differences(left: &str, right: &str) -> i64 {
    let sql = format!(
        "WITH l AS ({left}), r AS ({right}) SELECT (SELECT count(*) FROM (SELECT * FROM l EXCEPT ALL SELECT * FROM r)) + \
         (SELECT count(*) FROM (SELECT * FROM r EXCEPT ALL SELECT * FROM l))"
    );
    duckdb(&sql)[0][0].as_i64().expect("a count")
}

/// Asserts that the lake holds exactly the input's rows and, when `windows`, exactly the aggregates DuckDB computes.
pub fn assert_lake_equals_input(scratch: &Scratch, file: &Path, windows: bool) {
    let input = input(file);
    let rows = differences(
        &format!(
            "SELECT id, epoch_us(event_time) AS t, amount, city, state, category, fraud = 1 AS fraud, \
             regexp_replace(merchant, '^fraud_', '') AS merchant, lpad(zip, 5, '0') AS zip, dob, unix_time, lat, \
             merch_long, job FROM {input}"
        ),
        &format!(
            "SELECT transaction_id, epoch_us(event_time), amount, city, state, category, is_fraud, merchant, zip, \
             date_of_birth, unix_time, latitude, merchant_longitude, occupation FROM {}",
            scratch.delta("transactions")
        ),
    );
    assert_eq!(rows, 0, "`transactions` is not the input");
    if windows {
        for (table, size, keys) in [
            ("city_minute", "minute", "state, city"),
            ("state_minute", "minute", "state"),
            ("category_hour", "hour", "category"),
        ] {
            let wrong = differences(
                &format!(
                    "SELECT epoch_us(date_trunc('{size}', event_time)) AS w, {keys}, count(*) AS n, sum(amount) AS a, \
                     count(*) FILTER (WHERE fraud = 1) AS f, coalesce(sum(amount) FILTER (WHERE fraud = 1), 0) AS fa \
                     FROM {input} GROUP BY ALL"
                ),
                &format!(
                    "SELECT epoch_us(window_start), {keys}, transactions, amount, fraud_transactions, fraud_amount FROM {}",
                    scratch.delta(table)
                ),
            );
            assert_eq!(wrong, 0, "`{table}` is not what DuckDB computes");
        }
        let alerts = differences(
            &format!("SELECT id, amount FROM {input} WHERE fraud = 1"),
            &format!("SELECT transaction_id, amount FROM {}", scratch.delta("fraud_alerts")),
        );
        assert_eq!(alerts, 0, "`fraud_alerts` is not the input's fraud");
    }
}
