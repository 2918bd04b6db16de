//! How much of what is stored ten typical queries of dashboards and analysts read (`tests/athena/*.sql`), and what the
//! estimate of the lake's cost says: Athena and Spectrum bill for bytes.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::{Scratch, duckdb, parsed, say};

/// Rows of the lake: some days of them.
const ROWS: u32 = 120_000;

fn queries() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/athena");
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// A lake of many epochs, each with small files.
fn lake(file: &Path) -> Scratch {
    let scratch = Scratch::new()
        .set("commit.rows_max=6000")
        .set("commit.event_time_max=400d")
        .set("commit.interval=1h")
        .set("commit.partitions_max=10000");
    let before = scratch.summary(&["--source", file.to_str().unwrap()]);
    assert_eq!(before["written"], ROWS, "{before}");
    scratch
}

/// What stands for the queries' places in braces: a full day in the middle, a busy city, a card and a transaction.
fn values(scratch: &Scratch) -> Vec<(&'static str, String)> {
    let (transactions, minutes) = (scratch.delta("transactions"), scratch.delta("city_minute"));
    let found = duckdb(&format!(
        "SELECT (SELECT CAST(event_date AS VARCHAR) FROM {transactions} GROUP BY event_date ORDER BY count(*) DESC, 1 LIMIT 1), \
         (SELECT CAST(min(event_date) AS VARCHAR) FROM {transactions}), \
         (SELECT CAST(max(event_date) AS VARCHAR) FROM {transactions}), \
         (SELECT [state, city] FROM {minutes} GROUP BY state, city ORDER BY sum(transactions) DESC, 1 LIMIT 1), \
         (SELECT card_token FROM {transactions} GROUP BY card_token ORDER BY count(*) DESC, 1 LIMIT 1), \
         (SELECT max(transaction_id) FROM {transactions})"
    ));
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let row = &found[0];
    vec![
        ("{day}", text(&row[0])),
        ("{first}", text(&row[1])),
        ("{last}", text(&row[2])),
        ("{state}", text(&row[3][0])),
        ("{city}", text(&row[3][1])),
        ("{card}", text(&row[4])),
        ("{id}", text(&row[5])),
    ]
}

fn costs(scratch: &Scratch) -> Vec<(String, Value)> {
    let values = values(scratch);
    let measured = queries().into_iter().map(|file| {
        let mut sql = fs::read_to_string(&file).unwrap();
        for (place, value) in &values {
            sql = sql.replace(place, value);
        }
        let said = scratch.must(&["lake", "cost", "--json", "--query", &sql]);
        let said: Value = serde_json::from_str(said.trim()).unwrap();
        assert!(said["query"]["rows"].as_u64() > Some(0), "{}: {said}", file.display());
        (file.file_stem().unwrap().to_str().unwrap().to_owned(), said)
    });
    measured.collect()
}

/// Per cent of the stored bytes, as the query's file says: some room above what it reads today.
fn at_most(name: &str) -> f64 {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/athena/{name}.sql"));
    let text = fs::read_to_string(file).unwrap();
    let bound = text.lines().find_map(|line| line.strip_prefix("-- reads at most ")?.strip_suffix(" %"));
    bound.expect("a bound").parse().unwrap()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("no number: {value}"))
}

#[test]
fn typical_queries_read_little_of_what_is_stored() {
    let scratch = Scratch::new();
    let file = scratch.simulated("days.csv", ROWS);
    let lake = lake(&file);
    let before = costs(&lake);
    let said = lake.must(&["lake", "compact"]);
    assert!(said.contains("files of"), "nothing was compacted: {said}");
    let after = costs(&lake);
    say("read of what is stored              small files         compacted");
    for ((name, before), (_, after)) in before.iter().zip(&after) {
        let shown = |said: &Value| {
            let query = &said["query"];
            format!("{:>8.2} % {:>5} GET", 100.0 * number(&query["read_share"]), query["requests"])
        };
        say(&format!("{name:<34} {} {}", shown(before), shown(after)));
    }
    // A compaction changes no row, so no answer.
    for ((name, before), (_, after)) in before.iter().zip(&after) {
        assert_eq!(before["query"]["rows"], after["query"]["rows"], "{name}");
        for said in [before, after] {
            let share = 100.0 * number(&said["query"]["read_share"]);
            assert!(share <= at_most(name), "{name}: {share} % of {}", said["query"]["stored_bytes"]);
        }
    }
}

#[test]
fn the_queries_are_athena_s_sql() {
    for file in queries() {
        let sql = fs::read_to_string(&file).unwrap();
        let said = parsed("athena", &sql);
        assert_eq!(said.len(), 1, "{}", file.display());
        assert_eq!(said[0]["kind"], "select", "{}: {said:?}", file.display());
    }
}

#[test]
fn the_estimate_counts_what_is_there_and_what_the_job_asked() {
    let scratch = Scratch::new()
        .set("commit.rows_max=800")
        .set("commit.interval=60s")
        .set("maintenance.enabled=false")
        .set("reconcile.enabled=false");
    // No lookups: they are not estimated.
    let queries = scratch.path("queries");
    fs::create_dir(&queries).unwrap();
    for name in ["city_minute.sql", "state_minute.sql", "fraud_alerts.sql"] {
        fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("queries").join(name), queries.join(name)).unwrap();
    }
    let scratch = scratch.set(&format!("queries.dir={}", queries.display()));
    let file = scratch.simulated("day.csv", 24_000);
    let summary = scratch.summary(&["--source", file.to_str().unwrap(), "--pace", "8000"]);
    let cost: Value = serde_json::from_str(scratch.must(&["lake", "cost", "--json"]).trim()).unwrap();
    // Every object, as the file system lists them.
    let (mut objects, mut bytes) = (0, 0);
    let mut folders = vec![scratch.lake()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap()) {
            match entry.file_type().unwrap().is_dir() {
                true => folders.push(entry.path()),
                false => {
                    objects += 1;
                    bytes += entry.metadata().unwrap().len();
                }
            }
        }
    }
    assert_eq!((&cost["storage"]["objects"], &cost["storage"]["bytes"]), (&objects.into(), &bytes.into()));
    assert_eq!(cost["storage"]["live_bytes"], summary["bytes"]);
    let dollars = bytes as f64 / f64::from(1 << 30) * 0.023;
    assert!((number(&cost["storage"]["usd_month"]) - dollars).abs() < 1e-12, "{cost}");
    // A few megabytes are billed as ten.
    assert!((number(&cost["athena_scan_usd"]) - 5.0 * 10.0 / (1024.0 * 1024.0)).abs() < 1e-12, "{cost}");
    let (job, epochs) = (&cost["job"], number(&summary["epochs"]));
    for (kind, estimate) in [("put", &job["put_per_epoch"]), ("get", &job["get_per_epoch"])] {
        let asked = number(&summary["requests"][kind]) / epochs;
        say(&format!("{kind} an epoch: {asked:.1} counted, {:.1} estimated", number(estimate)));
        assert!((0.7..1.4).contains(&(number(estimate) / asked)), "{kind}: {asked} an epoch, estimated {estimate}");
    }
    let told = scratch.must(&["lake", "cost", "--query", "select sum(amount) from transactions"]);
    for part in ["S3 storage", "S3 requests", "of `transactions`", "billed as 10.0 MiB", "us-east-1"] {
        assert!(told.contains(part), "no `{part}` in\n{told}");
    }
    let refused = scratch.run(&["lake", "cost", "--set", "cost.prices=none.toml"]);
    assert_eq!(refused.status.code(), Some(2));
}
