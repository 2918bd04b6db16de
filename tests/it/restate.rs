//! Late rows correct the tables: whatever came late, after a reconcile every table is what DuckDB counts over all rows,
//! however and whenever the work is cut off.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;

use crate::oracle::{assert_lake_equals_input, differences};
use crate::support::{Scratch, duckdb, say, text};

fn str(path: &Path) -> &str {
    path.to_str().expect("a UTF-8 path")
}

/// Small epochs, so that windows are closed when late rows arrive.
fn scratch() -> Scratch {
    Scratch::new().set("commit.rows_max=300").set("watermark.out_of_orderness=10s")
}

fn back_jump() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/back_jump_2019-02-28.csv.gz")
}

/// Header and lines of a simulated file.
fn simulated(scratch: &Scratch, rows: u32) -> (String, Vec<String>) {
    let all = fs::read_to_string(scratch.simulated("all.csv", rows)).unwrap();
    let (header, lines) = all.split_once("\r\n").unwrap();
    (header.to_owned(), lines.lines().map(str::to_owned).collect())
}

fn write(path: &Path, header: &str, lines: &[String]) {
    fs::write(path, format!("{header}\r\n{}\r\n", lines.join("\r\n"))).unwrap();
}

/// Rows of which every tenth comes anywhere up to the end.
fn disordered(lines: &[String], seed: u64) -> Vec<String> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut placed: Vec<(usize, &String)> = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let late = if random.random_ratio(1, 10) { random.random_range(0..lines.len() - at) } else { 0 };
        placed.push((at + late, line));
    }
    placed.sort_by_key(|(at, _)| *at);
    placed.into_iter().map(|(_, line)| line.clone()).collect()
}

fn count(summary: &Value, field: &str) -> u64 {
    summary[field].as_u64().unwrap_or_else(|| panic!("no `{field}` in {summary}"))
}

/// The files of the tables that hold no windows.
fn stateless_files(scratch: &Scratch) -> BTreeMap<String, usize> {
    ["transactions", "rejects", "fraud_alerts"]
        .map(|table| (table.to_owned(), fs::read_dir(scratch.lake().join(table).join("_delta_log")).unwrap().count()))
        .into()
}

#[test]
fn the_day_that_came_twice_is_right_after_a_reconcile() {
    let scratch = scratch();
    let file = back_jump();
    let summary = scratch.summary(&["--source", str(&file), "--pace", "1000"]);
    assert!(count(&summary, "late") > 100, "{summary}");
    // Before, the tables lack the late rows: the reconcile has something to do.
    assert!(differences(&minutes(&scratch), &counted(&file)) > 100);
    scratch.must(&["audit"]);
    let untouched = stateless_files(&scratch);
    let said = scratch.must(&["lake", "reconcile"]);
    for table in ["city_minute", "state_minute", "category_hour"] {
        let line = said.lines().find(|line| line.starts_with(table)).unwrap_or_else(|| panic!("{said}"));
        assert!(line.contains("windows restated") && !line.contains(" 0 windows"), "{said}");
    }
    assert_lake_equals_input(&scratch, &file, true);
    assert_eq!(stateless_files(&scratch), untouched);
    scratch.must(&["audit"]);
    // The log says both: what went, with all that vacuum and change readers need, and what came.
    let changes = removes(&scratch, "city_minute");
    assert!(!changes.is_empty());
    for remove in &changes {
        assert!(remove["deletionTimestamp"].is_i64() && remove["size"].is_i64() && remove["dataChange"] == true);
        assert!(remove["partitionValues"]["event_date"].is_string(), "{remove}");
    }
    // Again: there is nothing left to do, and nothing is written.
    let again = scratch.must(&["lake", "reconcile"]);
    assert!(again.contains("nothing was written"), "{again}");
    scratch.must(&["audit"]);
}

/// City and minute as the table says.
fn minutes(scratch: &Scratch) -> String {
    format!(
        "SELECT epoch_us(window_start) AS t, state, city, transactions, amount FROM {}",
        scratch.delta("city_minute")
    )
}

/// City and minute as DuckDB counts them, over every row.
fn counted(file: &Path) -> String {
    format!(
        "SELECT epoch_us(date_trunc('minute', event_time)) AS t, state, city, count(*) AS transactions, \
         CAST(sum(amount) AS DECIMAL(30,2)) AS amount FROM {} GROUP BY 1, 2, 3",
        crate::oracle::input(file)
    )
}

fn removes(scratch: &Scratch, table: &str) -> Vec<Value> {
    let log = scratch.lake().join(table).join("_delta_log");
    let commits =
        fs::read_dir(log).unwrap().map(|e| e.unwrap().path()).filter(|p| p.extension().is_some_and(|e| e == "json"));
    let lines =
        commits.flat_map(|path| fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect::<Vec<_>>());
    let lines = lines.map(|line| serde_json::from_str::<Value>(&line).unwrap());
    lines.filter_map(|line| line.get("remove").cloned()).collect()
}

#[test]
fn whatever_came_late_is_right_after_a_reconcile() {
    for seed in [1, 2] {
        let scratch = scratch();
        let (header, lines) = simulated(&scratch, 6_000);
        let mixed = scratch.path("mixed.csv");
        write(&mixed, &header, &disordered(&lines, seed));
        let summary = scratch.summary(&["--source", str(&mixed), "--pace", "4000"]);
        assert!(count(&summary, "late") > 50, "seed {seed}: {summary}");
        scratch.must(&["lake", "reconcile"]);
        assert_lake_equals_input(&scratch, &mixed, true);
        scratch.must(&["audit"]);
    }
}

/// The job restates while it reads, and rows go on coming late for windows that were restated already.
#[test]
fn late_rows_arrive_while_others_are_reconciled() {
    let scratch = scratch().set("reconcile.interval=50ms").set("commit.interval=100ms");
    let (header, lines) = simulated(&scratch, 8_000);
    let mixed = scratch.path("mixed.csv");
    write(&mixed, &header, &disordered(&lines, 3));
    let summary = scratch.summary(&["--source", str(&mixed), "--pace", "2000"]);
    assert!(count(&summary, "windows_restated") > 0 && count(&summary, "late") > 50, "{summary}");
    scratch.must(&["audit"]);
    scratch.must(&["lake", "reconcile"]);
    assert_lake_equals_input(&scratch, &mixed, true);
    scratch.must(&["audit"]);
}

/// Killed while restating, by hand and in the job, at whatever is under way: files staged, a slot decided, a table of
/// several published.
#[test]
fn killed_while_restating() {
    let scratch = scratch();
    let (header, lines) = simulated(&scratch, 6_000);
    let mixed = scratch.path("mixed.csv");
    write(&mixed, &header, &disordered(&lines, 4));
    scratch.summary(&["--source", str(&mixed), "--pace", "4000"]);
    let mut tally: BTreeMap<&str, usize> = BTreeMap::new();
    for round in 0..9 {
        let before = tracks(&scratch);
        let mut job = scratch.spawn("reconcile", &["lake", "reconcile"]);
        let aim = round % 3;
        let patience = Instant::now() + Duration::from_secs(300);
        // What the fence of the start writes is not aimed at.
        let struck = loop {
            let now = tracks(&scratch);
            let due = match aim {
                0 => now.files > before.files,
                1 => now.slots > before.slots + 1,
                _ => now.commits > before.commits,
            };
            if job.try_wait().unwrap().is_some() {
                break false;
            }
            if due {
                job.kill().unwrap();
                job.wait().unwrap();
                break true;
            }
            assert!(Instant::now() < patience, "no progress towards aim {aim}");
        };
        if !struck {
            break;
        }
        let now = tracks(&scratch);
        *tally.entry(what_is_left(&before, &now)).or_default() += 1;
        // Half-way, too, the books are right.
        if round % 4 == 3 {
            scratch.must(&["audit"]);
        }
    }
    say(&format!("kills while restating: {tally:?}"));
    assert!(tally.contains_key("staged"), "no kill hit staging: {tally:?}");
    scratch.must(&["lake", "reconcile"]);
    assert_lake_equals_input(&scratch, &mixed, true);
    scratch.must(&["audit"]);
}

#[derive(Debug)]
struct Tracks {
    files: usize,
    slots: usize,
    commits: usize,
}

fn tracks(scratch: &Scratch) -> Tracks {
    let entries = |folder: PathBuf| -> Vec<PathBuf> {
        fs::read_dir(folder).map_or_else(|_| Vec::new(), |all| all.filter_map(|e| Some(e.ok()?.path())).collect())
    };
    let tables = ["city_minute", "state_minute", "category_hour"].map(|table| scratch.lake().join(table));
    let folders = tables.iter().flat_map(|table| entries(table.clone()));
    let (logs, partitions): (Vec<_>, Vec<_>) = folders.partition(|folder| folder.ends_with("_delta_log"));
    let slots = entries(scratch.lake().join("_epochs"));
    Tracks {
        files: partitions.into_iter().map(|folder| entries(folder).len()).sum(),
        slots: slots.iter().filter(|path| path.extension().is_some_and(|e| e == "json")).count(),
        commits: logs.into_iter().map(|folder| entries(folder).len()).sum(),
    }
}

fn what_is_left(before: &Tracks, now: &Tracks) -> &'static str {
    let (slots, commits) = (now.slots - before.slots, now.commits - before.commits);
    match (slots, commits) {
        (0 | 1, _) => "staged",
        // One of the new slots is the fence.
        (slots, commits) if slots - 1 > commits => "decided",
        _ => "published",
    }
}

/// Queries in a folder of their own.
fn with_queries(scratch: Scratch) -> (Scratch, PathBuf) {
    let queries = scratch.path("queries");
    fs::create_dir(&queries).unwrap();
    let scratch = scratch.set(&format!("queries.dir={}", queries.display()));
    (scratch, queries)
}

fn view(queries: &Path, name: &str, size: &str, more: &str) -> PathBuf {
    let path = queries.join(format!("{name}.sql"));
    let text = format!(
        "CREATE MATERIALIZED VIEW {name} AS SELECT window_start, window_end, CAST(window_start AS DATE) AS event_date, \
         state, count(*) AS n{more} FROM TUMBLE(transactions, event_time, INTERVAL '{size}') \
         GROUP BY window_start, window_end, state"
    );
    fs::write(&path, text).unwrap();
    path
}

/// Windows that overlap, grow, or go by the days of a zone (without summer time), and the windows of a row as DuckDB tells
/// them.
const OTHER_WINDOWS: [(&str, &str, &str); 3] = [
    (
        "hops",
        "HOP(transactions, event_time, INTERVAL '1 minute', INTERVAL '3 minutes')",
        "SELECT state, date_trunc('minute', event_time) - to_minutes(unnest(range(3))) AS s, s + INTERVAL 3 MINUTE AS e",
    ),
    (
        "grows",
        "CUMULATE(transactions, event_time, INTERVAL '20 minutes', INTERVAL '1 hour')",
        "SELECT state, date_trunc('hour', event_time) AS s, \
         unnest([s + to_minutes(m) FOR m IN [20, 40, 60] IF event_time < s + to_minutes(m)]) AS e",
    ),
    (
        "zone_days",
        "TUMBLE(transactions, event_time, INTERVAL '1 day', 'Asia/Kolkata')",
        "SELECT state, date_trunc('day', event_time + INTERVAL 330 MINUTE) - INTERVAL 330 MINUTE AS s, s + INTERVAL 1 DAY AS e",
    ),
];

/// The rows of the files given.
fn rows_of(files: &[PathBuf]) -> String {
    let rows: Vec<String> = files
        .iter()
        .map(|file| format!("SELECT event_time, state, amount FROM {}", crate::oracle::input(file)))
        .collect();
    format!("({})", rows.join(" UNION ALL "))
}

/// Windows by state as DuckDB counts them over the files given.
fn by_state(files: &[PathBuf], unit: &str) -> String {
    let rows = rows_of(files);
    format!("SELECT epoch_us(date_trunc('{unit}', event_time)) AS t, state, count(*) AS n FROM {rows} GROUP BY 1, 2")
}

fn table(scratch: &Scratch, name: &str) -> String {
    format!("SELECT epoch_us(window_start) AS t, state, n FROM {}", scratch.delta(name))
}

#[test]
fn history_is_answered_for_new_and_edited_queries() {
    let (scratch, queries) = with_queries(scratch());
    let parts = scratch.parts(&scratch.simulated("all.csv", 4_000), 3);
    let run = |part: usize, more: &[&str]| {
        scratch.summary(&[&["--source", str(&parts[part]), "--pace", "4000"], more].concat())
    };
    view(&queries, "edited", "10 minutes", "");
    run(0, &[]);
    // Another size of window, a column more, and a query that was not there.
    view(&queries, "edited", "1 hour", ", sum(amount) AS amount");
    view(&queries, "added", "1 minute", "");
    let others = OTHER_WINDOWS.map(|(name, window, oracle)| {
        let text = format!(
            "CREATE MATERIALIZED VIEW {name} AS SELECT window_start, window_end, CAST(window_start AS DATE) AS event_date, \
             state, count(*) AS n FROM {window} GROUP BY window_start, window_end, state"
        );
        fs::write(queries.join(format!("{name}.sql")), text).unwrap();
        (name, oracle)
    });
    let summary = run(1, &["--backfill"]);
    assert!(count(&summary, "windows_restated") > 0, "{summary}");
    assert_eq!(differences(&table(&scratch, "edited"), &by_state(&parts[..2], "hour")), 0);
    assert_eq!(differences(&table(&scratch, "added"), &by_state(&parts[..2], "minute")), 0);
    for (name, oracle) in others {
        let found = format!(
            "SELECT epoch_us(window_start) AS s, epoch_us(window_end) AS e, state, n FROM {}",
            scratch.delta(name)
        );
        let rows = rows_of(&parts[..2]);
        let wanted =
            format!("SELECT epoch_us(s), epoch_us(e), state, count(*) FROM ({oracle} FROM {rows}) GROUP BY ALL");
        assert_eq!(differences(&found, &wanted), 0, "{name}");
    }
    let nulls = duckdb(&format!("SELECT count(*) FROM {} WHERE amount IS NULL", scratch.delta("edited")));
    assert_eq!(nulls[0][0], 0, "history was recomputed with the new column");
    scratch.must(&["audit"]);
    // Asked again, there is no history left; without being asked a new query has none.
    view(&queries, "later", "1 minute", "");
    let summary = run(2, &[]);
    assert_eq!(count(&summary, "windows_restated"), 0, "{summary}");
    // The end of the input before had closed the minute this one begins in.
    scratch.must(&["lake", "reconcile"]);
    assert_eq!(differences(&table(&scratch, "added"), &by_state(&parts, "minute")), 0);
    assert!(differences(&table(&scratch, "later"), &by_state(&parts, "minute")) > 0);
    scratch.must(&["audit"]);
    // Nothing is left to read; the history is answered all the same.
    let summary = run(2, &["--backfill"]);
    assert!(count(&summary, "windows_restated") > 0, "{summary}");
    assert_eq!(differences(&table(&scratch, "later"), &by_state(&parts, "minute")), 0);
    scratch.must(&["audit"]);
}

/// Of sessions asked for from a time on, a second asking leaves but those that reach over that time.
#[test]
fn history_of_sessions_is_answered_once() {
    let (scratch, queries) = with_queries(scratch());
    let parts = scratch.parts(&scratch.simulated("all.csv", 4_000), 3);
    let run = |part: usize, more: &[&str]| {
        scratch.summary(&[&["--source", str(&parts[part]), "--pace", "4000"], more].concat())
    };
    view(&queries, "minutes", "1 minute", "");
    run(0, &[]);
    run(1, &[]);
    let text = "CREATE MATERIALIZED VIEW visits AS SELECT window_start, window_end, CAST(window_start AS DATE) AS event_date, \
                state, count(*) AS n FROM SESSION(transactions, event_time, INTERVAL '2 minutes', state) \
                GROUP BY window_start, window_end, state";
    fs::write(queries.join("visits.sql"), text).unwrap();
    let half = duckdb(&format!(
        "SELECT strftime(quantile_disc(event_time, 0.5), '%Y-%m-%dT%H:%M:%SZ') FROM {}",
        scratch.delta("transactions")
    ));
    let from = format!("--backfill={}", half[0][0].as_str().unwrap());
    let first = count(&run(2, &[&from]), "windows_restated");
    let second = count(&run(2, &[&from]), "windows_restated");
    assert!(first > 20 && second * 4 < first, "{first} sessions, then {second}");
    scratch.must(&["audit"]);
    run(2, &["--backfill"]);
    assert_eq!(count(&run(2, &["--backfill"]), "windows_restated"), 0);
    let audit = scratch.must(&["audit"]);
    assert!(!audit.contains("not compared"), "{audit}");
    let t = scratch.delta("transactions");
    let begins = "CASE WHEN event_time - lag(event_time) OVER (PARTITION BY state ORDER BY event_time) <= INTERVAL 2 MINUTE THEN 0 \
                  ELSE 1 END";
    let rows = duckdb(&format!(
        "SELECT (SELECT sum(b)::BIGINT FROM (SELECT {begins} AS b FROM {t})), (SELECT count(*) FROM {v}), \
         (SELECT count(*) FROM {t}), (SELECT sum(n)::BIGINT FROM {v})",
        v = scratch.delta("visits")
    ));
    assert!(rows[0][0] == rows[0][1] && rows[0][2] == rows[0][3], "{rows:?}");
}

#[test]
fn an_added_column_is_null_in_older_rows_and_other_changes_are_refused() {
    let (scratch, queries) = with_queries(scratch());
    let parts = scratch.parts(&scratch.simulated("all.csv", 3_000), 2);
    view(&queries, "grows", "1 minute", "");
    scratch.summary(&["--source", str(&parts[0])]);
    view(&queries, "grows", "1 minute", ", max(amount) AS largest");
    scratch.summary(&["--source", str(&parts[1])]);
    let rows = duckdb(&format!(
        "SELECT count(*) FILTER (WHERE largest IS NULL), count(largest) FROM {}",
        scratch.delta("grows")
    ));
    assert!(rows[0][0].as_i64() > Some(0) && rows[0][1].as_i64() > Some(0), "{rows:?}");
    scratch.must(&["audit"]);
    view(&queries, "grows", "1 minute", ", CAST(max(amount) AS VARCHAR) AS largest");
    let refused = scratch.run(&["run", "--source", str(&parts[1]), "--until-caught-up"]);
    let said = text(&refused.stderr);
    assert_eq!(refused.status.code(), Some(2), "{said}");
    assert!(said.contains("column `largest` is declared STRING") && said.contains("select it again"), "{said}");
}

#[test]
fn a_batch_writes_the_windows_it_is_told_to() {
    let (scratch, queries) = with_queries(scratch());
    let (header, lines) = simulated(&scratch, 5_000);
    let mixed = scratch.path("mixed.csv");
    write(&mixed, &header, &disordered(&lines, 5));
    let file = view(&queries, "spend", "1 minute", "");
    let args = ["batch", str(&file), "--from", "0001-01-01T00:00:00Z", "--write"];
    let none = scratch.run(&args);
    assert_eq!(none.status.code(), Some(2), "{}", text(&none.stderr));
    scratch.summary(&["--source", str(&mixed), "--pace", "4000"]);
    let wanted = by_state(std::slice::from_ref(&mixed), "minute");
    assert!(differences(&table(&scratch, "spend"), &wanted) > 0);
    // Half of the time first: the other half stays as it was.
    let halves = duckdb(&format!(
        "SELECT strftime(quantile_disc(event_time, 0.5), '%Y-%m-%dT%H:00:00Z'), \
         epoch_us(date_trunc('hour', quantile_disc(event_time, 0.5))) FROM {}",
        crate::oracle::input(&mixed)
    ));
    let (middle, micros) = (halves[0][0].as_str().unwrap(), halves[0][1].as_i64().unwrap());
    let half = |sql: &str, is: &str| format!("SELECT * FROM ({sql}) WHERE t {is} {micros}");
    let said = scratch.must(&["batch", str(&file), "--from", "0001-01-01T00:00:00Z", "--to", middle, "--write"]);
    assert!(said.starts_with("spend: ") && said.contains("windows restated"), "{said}");
    assert_eq!(differences(&half(&table(&scratch, "spend"), "<"), &half(&wanted, "<")), 0);
    assert!(differences(&half(&table(&scratch, "spend"), ">="), &half(&wanted, ">=")) > 0);
    scratch.must(&["audit"]);
    scratch.must(&args);
    assert_eq!(differences(&table(&scratch, "spend"), &wanted), 0);
    scratch.must(&["audit"]);
    // An edited text has to join the stream first.
    view(&queries, "spend", "1 minute", ", max(amount) AS largest");
    let refused = scratch.run(&args);
    assert_eq!(refused.status.code(), Some(2), "{}", text(&refused.stderr));
    assert!(text(&refused.stderr).contains("--backfill"), "{}", text(&refused.stderr));
}

#[test]
fn a_running_job_is_not_disturbed_by_hand() {
    let scratch = scratch();
    let file = scratch.simulated("day.csv", 6_000);
    let mut job = scratch.spawn("job", &["run", "--source", str(&file), "--pace", "500"]);
    let patience = Instant::now() + Duration::from_secs(60);
    while tracks(&scratch).slots < 2 {
        assert!(Instant::now() < patience && job.try_wait().unwrap().is_none(), "the job commits nothing");
    }
    let refused = scratch.run(&["lake", "reconcile"]);
    job.kill().unwrap();
    job.wait().unwrap();
    assert_eq!(refused.status.code(), Some(75), "{}", text(&refused.stderr));
    assert!(text(&refused.stderr).contains("reconcile.interval"), "{}", text(&refused.stderr));
}
