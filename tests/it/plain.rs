//! The plain export of the real job, read by DuckDB as a crawler would: by listing folders. Whatever came late, was restated
//! or written together, and wherever the job was killed, it holds the rows of the tables' dates that are over.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

use crate::events::{CONTRACT, Event, SECOND_US, events};
use crate::oracle::differences;
use crate::support::{Scratch, duckdb, slots, text, wait_for};

const DAY_US: i64 = 86_400 * SECOND_US;

const MINUTES: &str = "CREATE MATERIALIZED VIEW minutes AS
SELECT window_start, window_end, CAST(window_start AS DATE) AS event_date, k, count(*) AS n, sum(amount) AS amount
FROM TUMBLE(events, at, INTERVAL '1 minute') GROUP BY window_start, window_end, k";
const DEAR: &str =
    "CREATE MATERIALIZED VIEW dear AS SELECT at, day AS event_date, id, amount FROM events WHERE amount > 5000";

/// Tables and their partition columns.
const TABLES: [(&str, &str); 3] = [("events", "day"), ("minutes", "event_date"), ("dear", "event_date")];

fn scratch(settings: &[&str]) -> Scratch {
    site(Scratch::new(), settings)
}

/// A stream of events with two queries, and an export in a folder.
pub fn site(scratch: Scratch, settings: &[&str]) -> Scratch {
    let (contracts, queries) = (scratch.path("contracts"), scratch.path("queries"));
    fs::create_dir_all(&contracts).unwrap();
    fs::create_dir_all(&queries).unwrap();
    for table in ["rejects", "epochs"] {
        let file = format!("{table}.sql");
        fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("lake").join(&file), contracts.join(file)).unwrap();
    }
    fs::write(contracts.join("events.sql"), CONTRACT).unwrap();
    fs::write(queries.join("minutes.sql"), MINUTES).unwrap();
    fs::write(queries.join("dear.sql"), DEAR).unwrap();
    let all = [
        "stream.table=events".to_owned(),
        format!("lake.contracts={}", contracts.display()),
        format!("queries.dir={}", queries.display()),
        "watermark.out_of_orderness=1s".to_owned(),
        "commit.rows_max=60".to_owned(),
        format!("plain.url={}", scratch.path("plain").display()),
    ];
    let settings = settings.iter().map(|setting| (*setting).to_owned());
    all.into_iter().chain(settings).fold(scratch, |scratch, setting| scratch.set(&setting))
}

pub fn write(scratch: &Scratch, name: &str, events: &[Event]) -> PathBuf {
    let path = scratch.path(name);
    fs::write(&path, events.iter().map(|event| format!("{}\n", event.json)).collect::<String>()).unwrap();
    path
}

/// Events of three days, without and with those that come when everything is over.
pub fn first_and_late(seed: u64, count: usize) -> (Vec<Event>, Vec<Event>) {
    let all = events(&mut ChaCha8Rng::seed_from_u64(seed), count, 3 * DAY_US);
    let (late, first): (Vec<_>, Vec<_>) = all.into_iter().enumerate().partition(|(number, _)| number % 7 == 3);
    let events = |numbered: Vec<(usize, Event)>| numbered.into_iter().map(|(_, event)| event).collect::<Vec<_>>();
    (events(first), events(late))
}

/// Names of the exported files of a table, by date.
fn exported(scratch: &Scratch, table: &str) -> BTreeMap<String, BTreeSet<String>> {
    let Ok(dates) = fs::read_dir(scratch.path("plain").join(table)) else { return BTreeMap::new() };
    let dates = dates.map(|date| date.unwrap().path());
    let inside = |date: &Path| fs::read_dir(date).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
    let date = |path: &Path| path.file_name().unwrap().to_str().unwrap().split_once('=').unwrap().1.to_owned();
    dates.map(|path| (date(&path), inside(&path).collect())).collect()
}

/// The export of every table has all dates but the last one, and their rows.
pub fn assert_exported(scratch: &Scratch) {
    for (table, by) in TABLES {
        let (delta, files) = (scratch.delta(table), scratch.path("plain").join(table).join("*/*.parquet"));
        let plain = format!("read_parquet('{}', hive_partitioning = true)", files.display());
        let over = format!("SELECT * FROM {delta} WHERE {by} < (SELECT max({by}) FROM {delta})");
        let columns = format!("* EXCLUDE ({by}), CAST({by} AS DATE) AS d");
        let (left, right) = (format!("SELECT {columns} FROM {plain}"), format!("SELECT {columns} FROM ({over})"));
        assert!(duckdb(&format!("SELECT count(*) FROM ({over})"))[0][0].as_u64().unwrap() > 20, "{table}");
        assert_eq!(differences(&left, &right), 0, "{table}");
        let typed = duckdb(&format!("SELECT typeof({by}) FROM {plain} LIMIT 1"));
        assert_eq!(typed[0][0], "DATE", "{table}: the date is in the folder's name");
    }
    // Books and rejects are filed by the clock, and today is not over.
    let tables = fs::read_dir(scratch.path("plain")).unwrap().map(|entry| entry.unwrap().file_name());
    let tables: BTreeSet<String> = tables.map(|name| name.into_string().unwrap()).collect();
    assert_eq!(tables.iter().map(String::as_str).collect::<Vec<_>>(), ["dear", "events", "minutes"]);
}

#[test]
fn late_rows_restatements_and_compactions_are_carried_over() {
    let scratch = scratch(&[]);
    let (first, late) = first_and_late(1, 700);
    let first = write(&scratch, "first.ndjson", &first);
    scratch.summary(&["--source", first.to_str().unwrap(), "--pace", "4000"]);
    assert_exported(&scratch);
    let said = scratch.must(&["lake", "export"]);
    assert!(said.contains("events, version ") && said.contains(": every date that is over is exported"), "{said}");
    // Late rows are files of their own beside those that were there.
    let before = exported(&scratch, "events");
    let late = write(&scratch, "late.ndjson", &late);
    scratch.summary(&["--source", late.to_str().unwrap(), "--allow-late"]);
    assert_exported(&scratch);
    let after = exported(&scratch, "events");
    assert!(before.iter().all(|(date, files)| after[date].is_superset(files)) && after != before);
    scratch.must(&["lake", "reconcile"]);
    assert_exported(&scratch);
    // Written together in the lake, they stay as they are here.
    let before: Vec<_> = TABLES.iter().map(|(table, _)| exported(&scratch, table)).collect();
    scratch.must(&["lake", "compact"]);
    assert_exported(&scratch);
    assert_eq!(TABLES.iter().map(|(table, _)| exported(&scratch, table)).collect::<Vec<_>>(), before);
    let status = scratch.must(&["lake", "export", "--json"]);
    let status: Value = serde_json::from_str(&status).unwrap();
    assert_eq!(status["events"]["files"], 0, "{status}");
    // The lake's own readers are not disturbed by the record in its tables.
    let linted: Value = serde_json::from_str(&scratch.must(&["lake", "check", "--json"])).unwrap();
    for (table, _) in TABLES {
        assert_eq!(linted[table]["findings"], serde_json::json!([]), "{table}");
    }
    scratch.must(&["audit"]);
}

#[test]
fn killed_again_and_again_the_end_is_what_delta_says() {
    let scratch = scratch(&["maintenance.interval=50ms", "reconcile.interval=200ms"]);
    let (first, late) = first_and_late(2, 1_400);
    let mut random = ChaCha8Rng::seed_from_u64(9);
    // Late rows among the others: dates that are exported change while the job runs.
    let cut = first.len() * 2 / 3;
    let all: Vec<Event> = first[..cut].iter().chain(&late[..late.len() / 2]).chain(&first[cut..]).cloned().collect();
    let file = write(&scratch, "in.ndjson", &all);
    let args = ["run", "--source", file.to_str().unwrap(), "--pace", "600", "--until-caught-up"];
    for _ in 0..6 {
        let before = slots(&scratch.lake());
        let more = random.random_range(2..5);
        let mut job = scratch.spawn("job", &args);
        wait_for(&mut job, || slots(&scratch.lake()) > before + more);
        let _ = job.kill();
        job.wait().unwrap();
    }
    scratch.must(&args);
    scratch.must(&["lake", "export"]);
    assert_exported(&scratch);
    scratch.must(&["audit"]);
}

#[test]
fn a_place_or_a_table_that_cannot_be_is_refused() {
    let scratch = scratch(&[]);
    let (first, _) = first_and_late(3, 100);
    let first = write(&scratch, "first.ndjson", &first);
    let run = ["run", "--source", first.to_str().unwrap(), "--until-caught-up"];
    let inside = format!("plain.url={}", scratch.lake().join("plain").display());
    for (setting, says) in [
        (inside.as_str(), "lie in each other"),
        ("plain.tables=events, minuts", "names `minuts`, of which there is no contract and no query"),
    ] {
        let output = scratch.run(&[&run[..], &["--set", setting]].concat());
        let said = text(&output.stderr);
        assert!(output.status.code() == Some(2) && said.contains(says), "{setting}: {said}");
    }
    scratch.must(&[&run[..], &["--set", "plain.tables=minutes"]].concat());
    assert!(exported(&scratch, "events").is_empty() && !exported(&scratch, "minutes").is_empty());
    let off = scratch.run(&["lake", "export", "--set", "plain.url="]);
    assert!(text(&off.stderr).contains("no export is configured"), "{}", text(&off.stderr));
    let unknown = scratch.run(&["lake", "export", "minuts"]);
    assert!(text(&unknown.stderr).contains("did you mean `minutes`?"), "{}", text(&unknown.stderr));
}
