//! Views without windows over the stream: what they have missed is answered when asked, once, whoever is killed meanwhile;
//! and what `lakeward diff` says of it before.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::oracle::differences;
use crate::support::{Scratch, duckdb, say, slots, text};

/// Purchases as they are, and joined with what a view over windows knows of their state.
const LARGE: &str = "CREATE MATERIALIZED VIEW large AS SELECT event_time, event_date, transaction_id, amount \
                     FROM transactions WHERE amount >= 20";
const KNOWN: &str = "CREATE MATERIALIZED VIEW known AS SELECT t.event_time, t.event_date, t.transaction_id, h.n \
                     FROM transactions t LEFT JOIN (SELECT state, sum(n) AS n FROM minutes GROUP BY state) h ON h.state = t.state";
const MINUTES: &str = "CREATE MATERIALIZED VIEW minutes AS SELECT window_start, window_end, \
                       CAST(window_start AS DATE) AS event_date, state, count(*) AS n \
                       FROM TUMBLE(transactions, event_time, INTERVAL '1 minute') GROUP BY window_start, window_end, state";

fn str(path: &Path) -> &str {
    path.to_str().expect("a UTF-8 path")
}

/// Small epochs, and these queries.
fn scratch(queries: &[(&str, &str)]) -> Scratch {
    let scratch = Scratch::new().set("commit.rows_max=300").set("reconcile.enabled=false");
    let folder = scratch.path("queries");
    fs::create_dir(&folder).unwrap();
    for (name, query) in queries {
        fs::write(folder.join(format!("{name}.sql")), query).unwrap();
    }
    scratch.set(&format!("queries.dir={}", folder.display()))
}

fn put(scratch: &Scratch, name: &str, query: &str) {
    fs::write(scratch.path("queries").join(format!("{name}.sql")), query).unwrap();
}

fn remove(scratch: &Scratch, name: &str) {
    fs::remove_file(scratch.path("queries").join(format!("{name}.sql"))).unwrap();
}

fn run(scratch: &Scratch, part: &Path, more: &[&str]) -> Value {
    scratch.summary(&[&["--source", str(part), "--allow-late"], more].concat())
}

/// Rows that one of the two has and the other has not: of what was read, and of the table.
fn wrong(scratch: &Scratch, table: &str) -> i64 {
    let rows = match table {
        "large" => format!("SELECT transaction_id FROM {} WHERE amount >= 20", scratch.delta("transactions")),
        _ => format!("SELECT transaction_id FROM {}", scratch.delta("transactions")),
    };
    differences(&rows, &format!("SELECT transaction_id FROM {}", scratch.delta(table)))
}

fn audited(scratch: &Scratch) {
    let said = scratch.must(&["audit"]);
    assert!(!said.contains("not compared"), "{said}");
}

/// What `lakeward diff` says of each query.
fn diff(scratch: &Scratch) -> BTreeMap<String, Value> {
    let said: Value = serde_json::from_str(&scratch.must(&["diff", "--json"])).unwrap();
    let queries = said["queries"].as_array().unwrap();
    queries.iter().map(|query| (query["query"].as_str().unwrap().to_owned(), query.clone())).collect()
}

/// Three files of three thousand rows. Of the first thousand every tenth comes with the second, when it is late.
fn thirds(scratch: &Scratch) -> (PathBuf, PathBuf, PathBuf) {
    let all = fs::read_to_string(scratch.simulated("all.csv", 3_000)).unwrap();
    let (header, lines) = all.split_once("\r\n").unwrap();
    let lines: Vec<&str> = lines.lines().collect();
    let is_late = |at: usize| at < 1_000 && at % 10 == 3;
    let part = |name: &str, wanted: &dyn Fn(usize) -> bool| -> PathBuf {
        let rows: Vec<&str> = (0..lines.len()).filter(|at| wanted(*at)).map(|at| lines[at]).collect();
        fs::write(scratch.path(name), format!("{header}\r\n{}\r\n", rows.join("\r\n"))).unwrap();
        scratch.path(name)
    };
    (
        part("first.csv", &|at| at < 1_000 && !is_late(at)),
        part("second.csv", &|at| is_late(at) || (1_000..2_000).contains(&at)),
        part("third.csv", &|at| at >= 2_000),
    )
}

#[test]
fn rows_from_before_a_view_came_are_answered_once() {
    let scratch = scratch(&[("minutes", MINUTES)]);
    let parts = scratch.parts(&scratch.simulated("all.csv", 3_000), 3);
    run(&scratch, &parts[0], &[]);
    put(&scratch, "large", LARGE);
    put(&scratch, "known", KNOWN);
    run(&scratch, &parts[1], &[]);
    assert!(wrong(&scratch, "large") > 100 && wrong(&scratch, "known") > 100);
    audited(&scratch);
    let counted = |filter: &str| {
        duckdb(&format!("SELECT count(*) FROM {} {filter}", scratch.delta("transactions")))[0][0].clone()
    };
    let first = duckdb(&format!("SELECT count(*) FROM read_csv('{}')", str(&parts[0])))[0][0].clone();
    let said = diff(&scratch);
    assert_eq!((&said["large"]["history_rows"], &said["known"]["history_rows"]), (&first, &first));
    assert_eq!((&said["large"]["change"], &said["minutes"]["history_rows"]), (&"kept".into(), &0.into()));
    run(&scratch, &parts[2], &["--backfill"]);
    assert_eq!((wrong(&scratch, "large"), wrong(&scratch, "known")), (0, 0));
    audited(&scratch);
    // Rows of before the view was there meet what its first epoch met.
    let met =
        duckdb(&format!("SELECT count(DISTINCT n), count(*) FROM {} WHERE n IS NOT NULL", scratch.delta("known")));
    assert!(met[0][0].as_u64() > Some(20), "{met:?}");
    let before = duckdb(&format!("SELECT count(*) FROM {}", scratch.delta("large")));
    run(&scratch, &parts[2], &["--backfill"]);
    assert_eq!(duckdb(&format!("SELECT count(*) FROM {}", scratch.delta("large"))), before, "asked again");
    assert_eq!(diff(&scratch)["large"]["history_rows"], 0);
    assert_eq!(counted(""), 3_000);
    audited(&scratch);
}

#[test]
fn history_from_a_time_on_is_that_of_the_epochs_since() {
    let scratch = scratch(&[("minutes", MINUTES)]);
    let parts = scratch.parts(&scratch.simulated("all.csv", 3_000), 2);
    run(&scratch, &parts[0], &["--pace", "4000"]);
    put(&scratch, "large", LARGE);
    let half = duckdb(&format!(
        "SELECT strftime(quantile_disc(event_time, 0.5), '%Y-%m-%dT%H:%M:%SZ') FROM {}",
        scratch.delta("transactions")
    ));
    let from = half[0][0].as_str().unwrap();
    run(&scratch, &parts[1], &[&format!("--backfill={from}")]);
    audited(&scratch);
    let t = scratch.delta("transactions");
    let since = format!("_epoch >= (SELECT min(_epoch) FROM {t} WHERE event_time >= TIMESTAMPTZ '{from}')");
    let expected = format!("SELECT transaction_id FROM {t} WHERE amount >= 20 AND {since}");
    assert_eq!(differences(&expected, &format!("SELECT transaction_id FROM {}", scratch.delta("large"))), 0);
    assert!(wrong(&scratch, "large") > 100);
    run(&scratch, &parts[1], &["--backfill"]);
    assert_eq!(wrong(&scratch, "large"), 0);
    audited(&scratch);
}

#[test]
fn a_view_that_was_away_gets_what_it_missed() {
    let scratch = scratch(&[("minutes", MINUTES), ("large", LARGE), ("known", KNOWN)]);
    let (first, second, third) = thirds(&scratch);
    run(&scratch, &first, &[]);
    for name in ["minutes", "large", "known"] {
        remove(&scratch, name);
    }
    let away = run(&scratch, &second, &[]);
    assert_eq!((&away["late"], &away["written"]), (&0.into(), &1_100.into()), "{away}");
    for (name, query) in [("minutes", MINUTES), ("large", LARGE), ("known", KNOWN)] {
        put(&scratch, name, query);
    }
    let said = diff(&scratch);
    for name in ["large", "known"] {
        assert_eq!(
            (&said[name]["change"], &said[name]["history_rows"]),
            (&"returned".into(), &1_100.into()),
            "{said:?}"
        );
    }
    let back = scratch.run(&["run", "--source", str(&third), "--allow-late", "--until-caught-up"]);
    let told = text(&back.stderr);
    assert!(back.status.success() && told.contains("`large` is back: its table lacks the rows"), "{told}");
    assert!(told.contains("`minutes` is back: its open windows are rebuilt"), "{told}");
    assert!(wrong(&scratch, "large") > 100 && wrong(&scratch, "known") > 1_000);
    audited(&scratch);
    let by_minute = format!(
        "SELECT epoch_us(date_trunc('minute', event_time)), state, count(*) FROM {} GROUP BY ALL",
        scratch.delta("transactions")
    );
    let minutes = format!("SELECT epoch_us(window_start), state, n FROM {}", scratch.delta("minutes"));
    assert!(differences(&by_minute, &minutes) > 50);
    scratch.must(&["lake", "reconcile"]);
    assert_eq!(differences(&by_minute, &minutes), 0, "late rows of the time it was away");
    audited(&scratch);
    run(&scratch, &third, &["--backfill"]);
    assert_eq!((wrong(&scratch, "large"), wrong(&scratch, "known")), (0, 0));
    audited(&scratch);
}

#[test]
fn views_on_views_that_were_away_follow_their_parent_again() {
    let busy = "CREATE MATERIALIZED VIEW busy AS SELECT window_start, window_end, event_date, state, n FROM minutes WHERE n > 1";
    let tens = "CREATE MATERIALIZED VIEW tens AS SELECT window_start, window_end, CAST(window_start AS DATE) AS event_date, \
                sum(n) AS n FROM TUMBLE(minutes, window_start, INTERVAL '10 minutes') GROUP BY window_start, window_end";
    let scratch = scratch(&[("minutes", MINUTES), ("busy", busy), ("tens", tens)]);
    let (first, second, third) = thirds(&scratch);
    run(&scratch, &first, &[]);
    remove(&scratch, "busy");
    remove(&scratch, "tens");
    let away = run(&scratch, &second, &[]);
    assert!(away["late"].as_u64() > Some(50), "{away}");
    // The parent is corrected, too, while they are away.
    scratch.must(&["lake", "reconcile"]);
    put(&scratch, "busy", busy);
    put(&scratch, "tens", tens);
    run(&scratch, &third, &[]);
    let said = scratch.must(&["audit"]);
    assert!(
        said.contains("`busy`: its table was not compared: what the view it reads says was corrected since"),
        "{said}"
    );
    scratch.must(&["lake", "reconcile"]);
    audited(&scratch);
    let t = scratch.delta("transactions");
    let by_minute = format!(
        "SELECT epoch_us(date_trunc('minute', event_time)), state, count(*) AS n FROM {t} GROUP BY ALL HAVING n > 1"
    );
    let found = format!("SELECT epoch_us(window_start), state, n FROM {}", scratch.delta("busy"));
    assert_eq!(differences(&by_minute, &found), 0, "busy");
    let by_ten =
        format!("SELECT epoch_us(time_bucket(INTERVAL 10 MINUTE, event_time)), count(*) FROM {t} GROUP BY ALL");
    let found = format!("SELECT epoch_us(window_start), n FROM {}", scratch.delta("tens"));
    assert_eq!(differences(&by_ten, &found), 0, "tens");
}

#[test]
fn an_edited_view_keeps_its_rows_and_answers_the_new_ones() {
    let scratch = scratch(&[("large", LARGE)]);
    let parts = scratch.parts(&scratch.simulated("all.csv", 2_000), 2);
    run(&scratch, &parts[0], &[]);
    put(&scratch, "large", &LARGE.replace(">= 20", ">= 50"));
    assert_eq!(diff(&scratch)["large"]["history_rows"], 0);
    let before = duckdb(&format!("SELECT count(*) FROM {}", scratch.delta("large")))[0][0].clone();
    let run = scratch.run(&["run", "--source", str(&parts[1]), "--until-caught-up", "--backfill"]);
    let told = text(&run.stderr);
    assert!(told.contains("`large` was edited: the new text answers"), "{told}");
    let now = duckdb(&format!(
        "SELECT (SELECT count(*) FROM {}) - (SELECT count(*) FROM read_csv('{}') WHERE amt >= 50)",
        scratch.delta("large"),
        str(&parts[1])
    ));
    assert_eq!(now[0][0], before);
    scratch.must(&["audit"]);
}

/// Killed while history is staged, once it is decided, while it is published: never a row too few or too many.
#[test]
fn killed_while_history_is_answered() {
    let scratch = scratch(&[("minutes", MINUTES)]);
    let parts = scratch.parts(&scratch.simulated("all.csv", 6_000), 2);
    run(&scratch, &parts[0], &[]);
    let entries = |folder: PathBuf| fs::read_dir(folder).map_or(0, Iterator::count);
    let files = |table: &str| -> usize {
        let dates = fs::read_dir(scratch.lake().join(table)).into_iter().flatten().map(|date| date.unwrap().path());
        dates.filter(|date| !date.ends_with("_delta_log")).map(entries).sum()
    };
    let mut kills = 0;
    for round in 0..6 {
        let table = format!("large_{}", round / 3);
        put(&scratch, &table, &LARGE.replace("VIEW large", &format!("VIEW {table}")));
        let log = scratch.lake().join(&table).join("_delta_log");
        let (before, commits, decided) = (files(&table), entries(log.clone()), slots(&scratch.lake()));
        let mut job = scratch.spawn("job", &["run", "--source", str(&parts[0]), "--until-caught-up", "--backfill"]);
        let patience = Instant::now() + Duration::from_secs(300);
        while job.try_wait().unwrap().is_none() {
            let due = match round % 3 {
                0 => files(&table) > before,
                1 => slots(&scratch.lake()) > decided + 1,
                _ => entries(log.clone()) > commits.max(1),
            };
            if due {
                job.kill().unwrap();
                kills += 1;
                break;
            }
            assert!(Instant::now() < patience, "no progress in round {round}");
        }
        job.wait().unwrap();
    }
    say(&format!("kills while history is answered: {kills}"));
    assert!(kills > 1, "the job was never killed on its way");
    run(&scratch, &parts[1], &["--backfill"]);
    for table in ["large_0", "large_1"] {
        let rows = format!("SELECT transaction_id FROM {} WHERE amount >= 20", scratch.delta("transactions"));
        assert_eq!(differences(&rows, &format!("SELECT transaction_id FROM {}", scratch.delta(table))), 0, "{table}");
    }
    audited(&scratch);
}

/// Rows by the statistics in the tables' own logs, and seconds by the formula: 200,000 rows a second.
#[test]
fn a_diff_counts_what_a_start_and_a_backfill_read() {
    let scratch = scratch(&[("minutes", MINUTES), ("known", KNOWN)]);
    let parts = scratch.parts(&scratch.simulated("all.csv", 3_000), 1);
    run(&scratch, &parts[0], &[]);
    put(&scratch, "hours", &MINUTES.replace("VIEW minutes", "VIEW hours").replace("1 minute", "1 hour"));
    put(&scratch, "large", LARGE);
    let said = diff(&scratch);
    let slot = scratch.lake().join(format!("_epochs/{:020}.json", slots(&scratch.lake()) - 1));
    let slot: Value = serde_json::from_str(&fs::read_to_string(slot).unwrap()).unwrap();
    let hour = 3_600_000_000;
    let opened = slot["watermark"].as_i64().unwrap().div_euclid(hour) * hour;
    let rows_since = |table: &str, since: i64| -> u64 {
        let log = scratch.lake().join(table).join("_delta_log");
        let texts = fs::read_dir(log).unwrap().map(|entry| entry.unwrap().path());
        let texts = texts.filter(|path| path.extension().is_some_and(|e| e == "json"));
        let lines: Vec<String> = texts
            .flat_map(|path| fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect::<Vec<_>>())
            .collect();
        let adds = lines.iter().map(|line| serde_json::from_str::<Value>(line).unwrap()["add"].clone());
        let stats = adds.filter_map(|add| serde_json::from_str::<Value>(add["stats"].as_str()?).ok());
        let newest = |stats: &Value| {
            let time = stats["maxValues"]["event_time"].as_str()?;
            Some(duckdb(&format!("SELECT epoch_us(TIMESTAMPTZ '{time}')"))[0][0].as_i64().unwrap())
        };
        stats
            .filter(|stats| newest(stats).is_none_or(|time| time >= since))
            .map(|stats| stats["numRecords"].as_u64().unwrap())
            .sum()
    };
    let (rebuilt, looked_up) = (rows_since("transactions", opened), rows_since("minutes", i64::MIN));
    assert!(rebuilt > 0 && rebuilt < 3_000 && looked_up > 100, "{rebuilt} {looked_up}");
    let numbers = |query: &str| {
        ["lookup_rows", "rebuild_rows", "rebuild_seconds", "history_rows", "history_seconds"]
            .map(|name| said[query][name].as_u64().unwrap())
    };
    let seconds = |rows: u64| rows.div_ceil(200_000);
    assert_eq!(numbers("hours"), [0, rebuilt, seconds(rebuilt), 3_000, seconds(3_000)]);
    assert_eq!(numbers("large"), [0, 0, 0, 3_000, seconds(3_000)]);
    assert_eq!(numbers("known"), [looked_up, 0, 0, 0, 0]);
    // The end of the input has closed all of it.
    assert_eq!(numbers("minutes"), [0, 0, 0, 0, 0]);
    let told = scratch.must(&["diff"]);
    let line = told.lines().find(|line| line.starts_with("hours")).unwrap();
    assert!(line.contains("3,000 rows, about 1 s by --backfill"), "{told}");
}
