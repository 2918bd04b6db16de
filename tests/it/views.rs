//! Views on views: children follow their parents live, after restarts, as batch, and in the audit.

use std::fs;

use crate::oracle::differences;
use crate::support::{Scratch, duckdb, interrupt, slots, text, wait_for};

const SPEND_MINUTE: &str = "
-- The parent: spend per state and minute.
CREATE MATERIALIZED VIEW spend_minute WITH (allowed_lateness = '5 seconds')
AS SELECT window_start, window_end, CAST(window_start AS DATE) AS event_date, state, count(*) AS transactions,
          sum(amount) AS amount
   FROM TUMBLE(transactions, event_time, INTERVAL '1 minute') GROUP BY window_start, window_end, state;
";
const SPEND_FIVE: &str = "
-- A child of windows: what the minutes add up to.
CREATE MATERIALIZED VIEW spend_five
AS SELECT window_start, window_end, CAST(window_start AS DATE) AS event_date, state, sum(transactions) AS transactions,
          sum(amount) AS amount, max(amount) AS most
   FROM TUMBLE(spend_minute, window_start, INTERVAL '5 minutes') GROUP BY window_start, window_end, state;
";
const SPEND_TEN: &str = "
-- A grandchild, by the end of its parent's windows.
CREATE MATERIALIZED VIEW spend_ten
AS SELECT window_start, window_end, CAST(window_start AS DATE) AS event_date, count(*) AS windows, sum(amount) AS amount
   FROM TUMBLE(spend_five, window_end, INTERVAL '10 minutes') GROUP BY window_start, window_end;
";
const BUSY: &str = "
-- A child without a window: minutes worth a look.
CREATE MATERIALIZED VIEW busy
AS SELECT window_start, window_end, event_date, state, amount FROM spend_minute WHERE amount > 2000;
";
const LARGE: &str = "
-- A parent without a window.
CREATE MATERIALIZED VIEW large AS SELECT event_time AS at, event_date, transaction_id, state, amount FROM transactions WHERE amount > 300;
";
const LARGE_COUNTS: &str = "
-- Its child counts what it says.
CREATE MATERIALIZED VIEW a_large_counts
AS SELECT window_start, window_end, CAST(window_start AS DATE) AS event_date, state, count(*) AS n
   FROM TUMBLE(large, at, INTERVAL '2 minutes') GROUP BY window_start, window_end, state;
";

fn scratch() -> Scratch {
    let scratch = Scratch::new();
    let folder = scratch.path("queries");
    fs::create_dir_all(&folder).unwrap();
    let files = [
        ("spend_minute", SPEND_MINUTE),
        ("spend_five", SPEND_FIVE),
        ("spend_ten", SPEND_TEN),
        ("busy", BUSY),
        ("large", LARGE),
        ("a_large_counts", LARGE_COUNTS),
    ];
    for (name, query) in files {
        fs::write(folder.join(format!("{name}.sql")), query).unwrap();
    }
    scratch.set(&format!("queries.dir={}", folder.display())).set("commit.interval=100ms")
}

fn input() -> String {
    format!("{}/tests/golden/input.ndjson", env!("CARGO_MANIFEST_DIR"))
}

/// Every table against DuckDB's answer from the transactions alone.
fn assert_all(scratch: &Scratch) {
    let t = scratch.delta("transactions");
    let bucket = |minutes: u32, time: &str| format!("time_bucket(INTERVAL {minutes} MINUTE, {time})");
    let minute = format!(
        "(SELECT {0} AS s, {0} + INTERVAL 1 MINUTE AS e, state, count(*) AS n, sum(amount) AS amount FROM {t} GROUP BY ALL)",
        bucket(1, "event_time")
    );
    let five = format!(
        "(SELECT {0} AS s, {0} + INTERVAL 5 MINUTE AS e, state, sum(n) AS n, sum(amount) AS amount, max(amount) AS most FROM {minute} GROUP BY ALL)",
        bucket(5, "s")
    );
    let pairs = [
        (
            "spend_minute",
            "window_start, state, transactions, amount",
            format!("SELECT s, state, n, amount FROM {minute}"),
        ),
        (
            "spend_five",
            "window_start, window_end, state, transactions, amount, most",
            format!("SELECT s, e, state, n, amount, most FROM {five}"),
        ),
        (
            "spend_ten",
            "window_start, windows, amount",
            format!("SELECT {} AS s, count(*), sum(amount) FROM {five} GROUP BY ALL", bucket(10, "e")),
        ),
        ("busy", "window_start, state, amount", format!("SELECT s, state, amount FROM {minute} WHERE amount > 2000")),
        (
            "a_large_counts",
            "window_start, state, n",
            format!("SELECT {}, state, count(*) FROM {t} WHERE amount > 300 GROUP BY ALL", bucket(2, "event_time")),
        ),
    ];
    for (table, columns, expected) in pairs {
        let found = format!("SELECT {columns} FROM {}", scratch.delta(table));
        assert_eq!(differences(&expected, &found), 0, "{table}");
        let name = format!("{}/{table}.sql", scratch.path("queries").display());
        let batch = scratch.must(&["batch", &name, "--format", "csv"]);
        let live = scratch.must(&["sql", &format!("select * from {table}"), "--format", "csv"]);
        assert_eq!(sorted(&batch), sorted(&live), "{table} as batch");
        assert!(live.lines().count() > 2, "{table} is empty");
    }
}

fn sorted(csv: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = csv.lines().collect();
    lines.sort_unstable();
    lines
}

#[test]
fn children_follow_their_parents_through_restarts() {
    let scratch = scratch();
    let mut stops = 0;
    for more in [4, 8, 12] {
        let before = slots(&scratch.lake());
        let mut job = scratch.spawn("job", &["run", "--source", &input(), "--pace", "100"]);
        if !wait_for(&mut job, || slots(&scratch.lake()) >= before + more) {
            break;
        }
        interrupt(&job);
        assert_eq!(job.wait().unwrap().code(), Some(1), "{}", fs::read_to_string(scratch.path("job.err")).unwrap());
        stops += 1;
    }
    assert!(stops >= 1, "the job was never stopped on its way");
    scratch.summary(&["--source", &input()]);
    assert_all(&scratch);
    scratch.must(&["audit"]);
}

#[test]
fn late_rows_correct_children_after_their_parents() {
    let scratch = scratch().set("reconcile.enabled=false");
    let text = fs::read_to_string(input()).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    // Every ninth row of the first minutes comes when the last ones have been read.
    let (late, on_time): (Vec<_>, Vec<_>) =
        lines.iter().enumerate().partition(|(at, _)| *at < lines.len() / 2 && at % 9 == 4);
    let of = |rows: Vec<(usize, &&str)>| rows.into_iter().map(|(_, line)| format!("{line}\n")).collect::<String>();
    let (first, second) = (scratch.path("first.ndjson"), scratch.path("second.ndjson"));
    fs::write(&first, of(on_time)).unwrap();
    fs::write(&second, of(late)).unwrap();
    scratch.summary(&["--source", first.to_str().unwrap()]);
    let summary = scratch.summary(&["--source", second.to_str().unwrap(), "--allow-late"]);
    assert_eq!(summary["late"], summary["written"], "{summary}");
    scratch.must(&["audit"]);
    let said = scratch.must(&["lake", "reconcile"]);
    assert!(
        ["spend_minute", "spend_five", "spend_ten", "busy", "a_large_counts"].iter().all(|view| said.contains(view)),
        "{said}"
    );
    assert_all(&scratch);
    scratch.must(&["audit"]);
}

#[test]
fn a_child_that_comes_later_begins_with_a_whole_window() {
    let scratch = scratch();
    let child = scratch.path("queries/spend_five.sql");
    let grandchild = scratch.path("queries/spend_ten.sql");
    for file in [&child, &grandchild] {
        fs::remove_file(file).unwrap();
    }
    let mut job = scratch.spawn("job", &["run", "--source", &input(), "--pace", "100"]);
    assert!(wait_for(&mut job, || slots(&scratch.lake()) >= 8), "the input ended too soon");
    interrupt(&job);
    job.wait().unwrap();
    fs::write(&child, SPEND_FIVE).unwrap();
    fs::write(&grandchild, SPEND_TEN).unwrap();
    scratch.summary(&["--source", &input()]);
    scratch.must(&["audit"]);
    let csv = scratch.must(&["sql", "select count(distinct window_start) from spend_five", "--format", "csv"]);
    let windows: u32 = csv.lines().nth(1).unwrap().parse().unwrap();
    assert!((1..=3).contains(&windows), "{windows} windows of twelve minutes");
}

#[test]
fn children_that_come_later_get_their_history_when_asked() {
    let scratch = scratch();
    let children = [("spend_five", SPEND_FIVE), ("spend_ten", SPEND_TEN), ("busy", BUSY)];
    for (name, _) in children {
        fs::remove_file(scratch.path(&format!("queries/{name}.sql"))).unwrap();
    }
    let text = fs::read_to_string(input()).unwrap();
    let half = text.match_indices('\n').nth(450).unwrap().0 + 1;
    let parts = [("first.ndjson", &text[..half]), ("second.ndjson", &text[half..])].map(|(name, rows)| {
        fs::write(scratch.path(name), rows).unwrap();
        scratch.path(name).display().to_string()
    });
    scratch.summary(&["--source", &parts[0]]);
    for (name, text) in children {
        fs::write(scratch.path(&format!("queries/{name}.sql")), text).unwrap();
    }
    let audited = || {
        let said = scratch.must(&["audit"]);
        assert!(!said.contains("not compared"), "{said}");
    };
    let first = || duckdb(&format!("SELECT epoch_us(min(window_start)) FROM {}", scratch.delta("busy")));
    // The end of the first part had closed the minute that the second begins in.
    scratch.summary(&["--source", &parts[1], "--allow-late"]);
    scratch.must(&["lake", "reconcile"]);
    audited();
    let before = first();
    let summary = scratch.summary(&["--source", &parts[1], "--backfill"]);
    assert!(summary["windows_restated"].as_u64() > Some(0), "{summary}");
    assert!(first()[0][0].as_i64() < before[0][0].as_i64(), "{before:?}");
    audited();
    assert_all(&scratch);
    let summary = scratch.summary(&["--source", &parts[1], "--backfill"]);
    assert_eq!(summary["windows_restated"], 0, "asked again: {summary}");
}

#[test]
fn views_that_read_each_other_are_refused_with_the_way_round() {
    let scratch = scratch();
    let text_of = |parent: &str, name: &str| {
        format!("CREATE MATERIALIZED VIEW {name} AS SELECT window_start, window_end, event_date FROM {parent}")
    };
    for (name, parent) in [("one", "two"), ("two", "three"), ("three", "one")] {
        fs::write(scratch.path(&format!("queries/{name}.sql")), text_of(parent, name)).unwrap();
    }
    let output = scratch.run(&["check"]);
    assert_eq!(output.status.code(), Some(2));
    let said = text(&output.stderr);
    assert!(said.contains("in a circle: `one` → `two` → `three` → `one`"), "{said}");
}
