//! How much of what is stored ten typical queries of dashboards and analysts read (`tests/athena/*.sql`), by three kinds of
//! engine, before small files are written together and after; and what the estimate of the lake's cost says: Athena and
//! Spectrum bill for bytes.

use std::collections::BTreeMap;
use std::env;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use lakeward::cost::Prices;
use serde_json::{Value, json};

use crate::support::{Scratch, duckdb, parsed, read_by, say};

/// Rows of the lake, unless `LAKEWARD_LAYOUT_ROWS` says how many.
const ROWS: u32 = 400_000;

/// Two dates that are over, and two hours of the one that is open.
const HOURS: u32 = 50;

/// About so many epochs, each of which leaves a small file in most tables. A paced file is read in pages of a tenth of a second,
/// an epoch a page.
const EPOCHS: u32 = 400;
const PAGES_A_SECOND: u32 = 10;

/// Small files of either date: how many epochs a slow machine takes together is its own affair.
const SMALL_FILES_MIN: u64 = 100;

/// What the ten queries read, and the history that alerts need.
const TABLES: [&str; 5] = ["city_minute", "state_minute", "category_hour", "card_category_day", "amount_outlier"];

/// The bytes one query reads of the tables it names.
struct Reading {
    stored: u64,
    files: u64,
    rows: u64,
    /// By this engine, counted: it leaves out pages, too.
    pages: u64,
    requests: u64,
    /// By one that knows no page index, and by one that reads a small file in one piece (`tests/readers/footers.py`).
    row_groups: u64,
    whole_files: u64,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn queries() -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(root().join("tests/athena")).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    files
}

/// A lake of many epochs, each with small files.
fn lake(rows: u32) -> Scratch {
    let scratch = Scratch::new();
    let folder = scratch.path("queries");
    fs::create_dir(&folder).unwrap();
    for table in TABLES {
        let file = format!("{table}.sql");
        fs::copy(root().join("queries").join(&file), folder.join(&file)).unwrap();
    }
    let epoch = rows / EPOCHS;
    let scratch = scratch
        .set(&format!("queries.dir={}", folder.display()))
        .set(&format!("commit.rows_max={epoch}"))
        .set("commit.interval=1h")
        .set("maintenance.enabled=false");
    let file = spread(&scratch, rows);
    let pace = (epoch * PAGES_A_SECOND).to_string();
    let before = scratch.summary(&["--source", file.to_str().unwrap(), "--pace", &pace]);
    assert_eq!(before["written"], rows, "{before}");
    scratch
}

/// Simulated purchases, spread evenly over the hours.
fn spread(scratch: &Scratch, rows: u32) -> PathBuf {
    let text = fs::read_to_string(scratch.simulated("simulated.csv", rows)).unwrap();
    let (header, lines) = text.split_once("\r\n").unwrap();
    // Nothing before it is quoted.
    let at = header.split(',').position(|name| name == "trans_date_trans_time").unwrap();
    let mut file = format!("{header}\r\n");
    for (number, line) in (0_u64..).zip(lines.lines()) {
        let second = number * u64::from(HOURS * 3_600) / u64::from(rows);
        let (day, hour, minute) = (1 + second / 86_400, second / 3_600 % 24, second / 60 % 60);
        let time = format!("2020-03-{day:02} {hour:02}:{minute:02}:{:02}", second % 60);
        let mut cells: Vec<&str> = line.splitn(at + 2, ',').collect();
        cells[at] = &time;
        write!(file, "{}\r\n", cells.join(",")).unwrap();
    }
    let path = scratch.path("spread.csv");
    fs::write(&path, file).unwrap();
    path
}

/// What stands for the queries' places in braces: the last date that is over, a busy city and card, an ordinary transaction.
fn values(scratch: &Scratch) -> Vec<(&'static str, String)> {
    let (transactions, minutes) = (scratch.delta("transactions"), scratch.delta("city_minute"));
    let found = duckdb(&format!(
        "SELECT (SELECT CAST(max(event_date) - 1 AS VARCHAR) FROM {transactions}), \
         (SELECT CAST(min(event_date) AS VARCHAR) FROM {transactions}), \
         (SELECT CAST(max(event_date) AS VARCHAR) FROM {transactions}), \
         (SELECT [state, city] FROM {minutes} GROUP BY state, city ORDER BY sum(transactions) DESC, 1 LIMIT 1), \
         (SELECT card_token FROM {transactions} GROUP BY card_token ORDER BY count(*) DESC, 1 LIMIT 1), \
         (SELECT quantile_disc(transaction_id, 0.5) FROM {transactions})"
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

/// What each query reads, by its name.
fn readings(scratch: &Scratch) -> BTreeMap<String, Reading> {
    let values = values(scratch);
    let read = queries().into_iter().map(|file| {
        let mut sql = fs::read_to_string(&file).unwrap();
        for (place, value) in &values {
            sql = sql.replace(place, value);
        }
        (file.file_stem().unwrap().to_str().unwrap().to_owned(), reading(scratch, &sql))
    });
    read.collect()
}

fn reading(scratch: &Scratch, sql: &str) -> Reading {
    let said = scratch.must(&["lake", "cost", "--json", "--query", sql]);
    let counted: Value = serde_json::from_str(said.trim()).unwrap();
    let counted = &counted["query"];
    let asked = json!({"lake": scratch.lake(), "sql": sql});
    let computed: Value = serde_json::from_str(read_by("footers.py", &[], &format!("{asked}\n")).trim()).unwrap();
    let tables = computed["tables"].as_object().unwrap();
    let sum = |what: &str| tables.values().map(|table| whole(&table[what])).sum();
    assert_eq!(whole(&counted["stored_bytes"]), sum("stored"), "{sql}: {counted} and {computed}");
    Reading {
        stored: sum("stored"),
        files: sum("files"),
        rows: whole(&counted["rows"]),
        pages: whole(&counted["read_bytes"]),
        requests: whole(&counted["requests"]),
        row_groups: sum("row_groups"),
        whole_files: sum("whole_files"),
    }
}

/// Per cent of the stored bytes that a query may read once small files are written together, as its file says: with page
/// indexes, and by row groups. Some room above what it reads today.
fn at_most(name: &str) -> (f64, f64) {
    let text = fs::read_to_string(root().join(format!("tests/athena/{name}.sql"))).unwrap();
    let bound = text.lines().find_map(|line| {
        let (pages, groups) = line.strip_prefix("-- reads at most ")?.split_once(" % by pages, ")?;
        Some((pages.parse().ok()?, groups.strip_suffix(" % by row groups")?.parse().ok()?))
    });
    bound.expect("two bounds")
}

fn whole(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("no whole number: {value}"))
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("no number: {value}"))
}

/// The readings as lines of a table: before and after in each cell, MiB.
fn told(before: &BTreeMap<String, Reading>, after: &BTreeMap<String, Reading>) {
    let prices = Prices::load(Path::new("")).unwrap();
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    say(
        "| query | stored | files | page index | GET | row groups | small files whole | billed, page index · row groups · whole |",
    );
    for (name, before) in before {
        let after = &after[name];
        let read = |of: fn(&Reading) -> u64| format!("{:.2} → {:.2}", mib(of(before)), mib(of(after)));
        let billed = |reading: &Reading| {
            let bytes = [reading.pages, reading.row_groups, reading.whole_files];
            bytes.map(|bytes| format!("{:.0}", mib(prices.athena.billed_bytes(bytes)))).join(" · ")
        };
        say(&format!(
            "| {name} | {} | {} → {} | {} | {} → {} | {} | {} | {} → {} |",
            read(|reading| reading.stored),
            before.files,
            after.files,
            read(|reading| reading.pages),
            before.requests,
            after.requests,
            read(|reading| reading.row_groups),
            read(|reading| reading.whole_files),
            billed(before),
            billed(after)
        ));
    }
}

#[test]
fn typical_queries_read_little_of_what_is_stored() {
    let rows = env::var("LAKEWARD_LAYOUT_ROWS").map_or(ROWS, |rows| rows.parse().expect("a number of rows"));
    let lake = lake(rows);
    let before = readings(&lake);
    let said = lake.must(&["lake", "compact"]);
    assert!(said.contains("files of"), "nothing was compacted: {said}");
    let after = readings(&lake);
    told(&before, &after);
    let files = before.values().map(|reading| reading.files).max();
    assert!(files > Some(2 * SMALL_FILES_MIN), "only {files:?} small files");
    for (name, before) in &before {
        let after = &after[name];
        // A compaction changes no row, so no answer.
        assert!(before.rows > 0 && before.rows == after.rows, "{name}: {} rows, then {}", before.rows, after.rows);
        assert!(before.files > 4 * after.files, "{name}: {} files, then {}", before.files, after.files);
        let (pages, row_groups) = at_most(name);
        for (kind, read, bound) in [("pages", after.pages, pages), ("row groups", after.row_groups, row_groups)] {
            let share = 100.0 * read as f64 / after.stored as f64;
            assert!(share <= bound, "{name}: {share} % of {} by {kind}", after.stored);
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
