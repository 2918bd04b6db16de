//! Queries joined with a table that changes while they run: killed and started again, every row stays joined with what
//! it met when it was read.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{Scratch, duckdb, interrupt, wait_for};

/// What large purchases a card has made, kept by a view; and views that are joined with it.
const QUERIES: [(&str, &str); 6] = [
    (
        "large",
        "SELECT event_time, event_date, transaction_id, card_token, amount FROM transactions WHERE amount >= 100",
    ),
    (
        "known",
        "SELECT t.event_time, t.event_date, t.transaction_id, h.n, h.total FROM transactions t LEFT JOIN \
         (SELECT card_token, count(*) AS n, sum(amount) AS total FROM large GROUP BY card_token) h \
         ON h.card_token = t.card_token",
    ),
    (
        "known_minute",
        "SELECT window_start, window_end, CAST(window_start AS DATE) AS event_date, r.level, count(*) AS n, \
         coalesce(sum(h.n), 0) AS known FROM TUMBLE(transactions, event_time, INTERVAL '5 minutes') t LEFT JOIN \
         (SELECT card_token, count(*) AS n FROM large GROUP BY card_token) h ON h.card_token = t.card_token \
         LEFT JOIN 'lookups/risk.csv' r ON r.state = t.state GROUP BY window_start, window_end, r.level",
    ),
    // Read through its text, with fewer columns of the lookup; and so again.
    ("known_few", "SELECT event_time, event_date, transaction_id, n FROM known WHERE n > 1"),
    ("known_fewer", "SELECT event_time, event_date, transaction_id FROM known_few"),
    (
        "known_using",
        "SELECT t.event_time, t.event_date, t.transaction_id, card_token, h.n FROM transactions t LEFT JOIN \
         (SELECT card_token, count(*) AS n FROM large GROUP BY card_token) h USING (card_token)",
    ),
];

fn golden(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name).display().to_string()
}

fn scratch() -> Scratch {
    let scratch = Scratch::new();
    let folder = scratch.path("queries");
    fs::create_dir_all(folder.join("lookups")).unwrap();
    fs::copy(golden("queries/lookups/risk.csv"), folder.join("lookups/risk.csv")).unwrap();
    for (name, select) in QUERIES {
        fs::write(folder.join(format!("{name}.sql")), format!("CREATE MATERIALIZED VIEW {name} AS {select};")).unwrap();
    }
    let folder = format!("queries.dir={}", folder.display());
    scratch.set(&folder).set("commit.interval=100ms")
}

fn slots(scratch: &Scratch) -> Vec<Value> {
    let path = |epoch: usize| scratch.lake().join(format!("_epochs/{epoch:020}.json"));
    (0..).map_while(|epoch| Some(serde_json::from_slice(&fs::read(path(epoch)).ok()?).unwrap())).collect()
}

/// Up to which epoch the rows of `large` stand in a version of its table: -1 for none.
fn through(scratch: &Scratch, version: u64) -> i64 {
    let log = fs::read_to_string(scratch.lake().join(format!("large/_delta_log/{version:020}.json"))).unwrap();
    let actions = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    actions.filter_map(|action| action["txn"]["version"].as_i64()).next_back().unwrap_or(-1)
}

#[test]
fn rows_stay_joined_with_what_they_met_through_kills() {
    let scratch = scratch();
    let input = golden("input.ndjson");
    for more in [6, 9] {
        let before = slots(&scratch).len();
        let mut job = scratch.spawn("job", &["run", "--source", &input, "--pace", "200"]);
        let patience = Instant::now() + Duration::from_secs(120);
        while slots(&scratch).len() < before + more {
            assert!(Instant::now() < patience && job.try_wait().unwrap().is_none(), "the job makes no progress");
            std::thread::yield_now();
        }
        job.kill().unwrap();
        job.wait().unwrap();
    }
    scratch.summary(&["--source", &input, "--pace", "400"]);
    let audit = scratch.must(&["audit"]);
    assert!(!audit.contains("not compared"), "{audit}");

    // Which epochs of `large` each epoch saw, as the slots say for both queries.
    let mut saw: BTreeMap<u64, i64> = BTreeMap::new();
    for slot in slots(&scratch) {
        let version = |query: &str| slot["queries"][query]["lookups"]["large"].as_u64();
        let Some(version) = version("known").inspect(|seen| assert_eq!(Some(*seen), version("known_minute"))) else {
            continue;
        };
        saw.insert(slot["epoch"].as_u64().unwrap(), through(&scratch, version));
    }
    let versions: std::collections::BTreeSet<i64> = saw.values().copied().collect();
    assert!(versions.len() >= 4, "the table hardly changed: {versions:?}");
    assert!(saw.iter().all(|(epoch, through)| *through < i64::try_from(*epoch).unwrap()), "from the future: {saw:?}");

    let values = saw.iter().map(|(epoch, through)| format!("({epoch}, {through})")).collect::<Vec<_>>().join(", ");
    let met = format!(
        "WITH t AS (SELECT * FROM {t}), saw(epoch, through) AS (VALUES {values}), met AS (SELECT t.transaction_id, \
         any_value(t.event_time) AS event_time, any_value(t.state) AS state, any_value(t._late) AS late, \
         count(s.transaction_id) AS n, sum(s.amount) AS total FROM t JOIN saw ON saw.epoch = t._epoch LEFT JOIN t s \
         ON s.card_token = t.card_token AND s.amount >= 100 AND s._epoch <= saw.through GROUP BY t.transaction_id)",
        t = scratch.delta("transactions"),
    );
    let same = |what: &str, expected: &str, found: &str| {
        let rows = duckdb(&format!(
            "{met}, e AS ({expected}), f AS ({found}) SELECT (SELECT count(*) FROM e), (SELECT count(*) FROM f), \
             (SELECT count(*) FROM (SELECT * FROM e EXCEPT ALL SELECT * FROM f))"
        ));
        let numbers: Vec<i64> = rows[0].iter().map(|n| n.as_i64().unwrap()).collect();
        assert!(numbers[0] == numbers[1] && numbers[0] > 0 && numbers[2] == 0, "{what}: {numbers:?}");
    };
    same(
        "known",
        "SELECT transaction_id, n, total::DECIMAL(38,2) FROM met",
        &format!("SELECT transaction_id, coalesce(n, 0), total::DECIMAL(38,2) FROM {}", scratch.delta("known")),
    );
    let risk = golden("queries/lookups/risk.csv");
    same(
        "known_minute",
        &format!(
            "SELECT time_bucket(INTERVAL 5 MINUTE, event_time) AS w, level, count(*) AS n, sum(met.n)::BIGINT AS known \
             FROM met LEFT JOIN read_csv('{risk}', header = true) r ON r.state = met.state WHERE NOT late GROUP BY ALL"
        ),
        &format!("SELECT window_start, level, n, known FROM {}", scratch.delta("known_minute")),
    );
}

/// A view of joined windows that comes later: its history meets the tables as its first epoch saw them.
#[test]
fn history_of_joined_windows_meets_what_the_first_epoch_met() {
    let scratch = scratch();
    let input = golden("input.ndjson");
    let stopped = |more: usize, args: &[&str]| {
        let before = slots(&scratch).len();
        let all = [&["run", "--source", &input, "--pace", "100"], args].concat();
        let mut job = scratch.spawn("job", &all);
        assert!(wait_for(&mut job, || slots(&scratch).len() >= before + more), "the input ended too soon");
        interrupt(&job);
        job.wait().unwrap();
    };
    stopped(8, &[]);
    let windows = "TUMBLE(transactions, event_time, INTERVAL '2 minutes')";
    let text = format!(
        "CREATE MATERIALIZED VIEW known_pairs AS SELECT a.window_start, a.window_end, CAST(a.window_start AS DATE) AS \
         event_date, a.transaction_id AS one, b.transaction_id AS two, h.n FROM {windows} a JOIN {windows} b \
         ON a.window_start = b.window_start AND a.window_end = b.window_end AND a.state = b.state \
         JOIN (SELECT card_token, count(*) AS n FROM large GROUP BY card_token) h ON h.card_token = a.card_token \
         WHERE a.transaction_id < b.transaction_id"
    );
    fs::write(scratch.path("queries/known_pairs.sql"), text).unwrap();
    stopped(8, &["--backfill"]);
    scratch.summary(&["--source", &input, "--backfill"]);
    let audit = scratch.must(&["audit"]);
    assert!(!audit.contains("not compared"), "{audit}");
    let first =
        |table: &str, time: &str| duckdb(&format!("SELECT epoch_us(min({time})) FROM {}", scratch.delta(table)));
    let (first_row, first_pair) = (first("transactions", "event_time"), first("known_pairs", "window_end"));
    let minutes = (first_pair[0][0].as_i64().unwrap() - first_row[0][0].as_i64().unwrap()) / 60_000_000;
    assert!(minutes <= 4, "its first pair is {minutes} minutes after the first row");
}

/// A file is read at full speed: without a bound all of it would be one epoch, or a table would be read again too late.
#[test]
fn days_of_history_are_joined_with_the_day_before() {
    let scratch = scratch().set("commit.interval=10m");
    let file = scratch.simulated("days.csv", 24_000);
    scratch.summary(&["--source", file.to_str().unwrap()]);
    let slots = slots(&scratch);
    let epochs: Vec<&Value> = slots.iter().filter(|slot| slot["tables"]["transactions"].is_object()).collect();
    assert!(epochs.len() >= 5, "nine days in {} epochs", epochs.len());
    let mut came = None;
    for slot in epochs {
        let (epoch, watermark) = (slot["epoch"].as_i64().unwrap(), slot["watermark"].as_i64().unwrap());
        // A page is never cut; here it holds a day and a half.
        let days = came.replace(watermark).map_or(0.0, |before| (watermark - before) as f64 / 86_400e6);
        assert!(days < 3.0, "epoch {epoch} spans {days:.1} days");
        let version = slot["queries"]["known"]["lookups"]["large"].as_u64().unwrap();
        if epoch > 1 {
            assert_eq!(through(&scratch, version), epoch - 1, "epoch {epoch} is joined with an older table");
        }
    }
}

#[test]
fn a_batch_run_joins_with_the_table_as_it_is_now() {
    let scratch = scratch();
    scratch.summary(&["--source", &golden("input.ndjson")]);
    let query = scratch.path("queries/known.sql");
    let csv = scratch.must(&["batch", query.to_str().unwrap(), "--format", "csv"]);
    let expected = duckdb(&format!(
        "WITH t AS (SELECT * FROM {}) SELECT count(*) FROM t JOIN t s USING (card_token) WHERE s.amount >= 100",
        scratch.delta("transactions")
    ));
    let mut reader = csv::Reader::from_reader(csv.as_bytes());
    let known: i64 = reader.records().filter_map(|row| row.unwrap()[3].parse::<i64>().ok()).sum();
    assert_eq!(Some(known), expected[0][0].as_i64());
}
