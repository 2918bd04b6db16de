//! Everything with windows is corrected: sessions, joins with tables and files, joins of windows, views on all of these.
//! After a reconcile every table is what DuckDB counts, however late the rows, whatever was open, wherever it was killed.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;

use crate::support::{Scratch, duckdb, interrupt, say, slots, wait_for};

const BOUNDS: &str = "window_start, window_end, CAST(window_start AS DATE) AS event_date";

/// Name and SELECT of each view.
fn views() -> Vec<(&'static str, String)> {
    let grouped = |columns: &str, from: &str, by: &str| {
        format!("SELECT {BOUNDS}, {columns} FROM {from} GROUP BY window_start, window_end{by}")
    };
    vec![
        (
            "minute",
            grouped(
                "state, count(*) AS n, sum(amount) AS amount",
                "TUMBLE(transactions, event_time, INTERVAL '1 minute')",
                ", state",
            ),
        ),
        ("five", grouped("state, sum(n) AS n", "TUMBLE(minute, window_start, INTERVAL '5 minutes')", ", state")),
        (
            "so_far",
            grouped(
                "state, sum(n) AS n",
                "CUMULATE(minute, window_start, INTERVAL '2 minutes', INTERVAL '10 minutes')",
                ", state",
            ),
        ),
        ("busy", "SELECT window_start AS since, window_end, event_date, state, n FROM minute WHERE n > 2".into()),
        ("busier", "SELECT since, event_date, state, n * 2 AS twice FROM busy WHERE n > 3".into()),
        ("busy_ten", grouped("count(*) AS states, sum(n) AS n", "TUMBLE(busy, since, INTERVAL '10 minutes')", "")),
        (
            "visits",
            grouped(
                "state, count(*) AS n, sum(amount) AS amount",
                "SESSION(transactions, event_time, INTERVAL '20 seconds', state)",
                ", state",
            ),
        ),
        ("rush", grouped("count(*) AS n", "SESSION(transactions, event_time, INTERVAL '3 seconds')", "")),
        ("long_visits", "SELECT window_start, window_end, event_date, state, n FROM visits WHERE n > 1".into()),
        (
            "visits_minute",
            grouped("count(*) AS visits, sum(n) AS n", "TUMBLE(visits, window_end, INTERVAL '1 minute')", ""),
        ),
        (
            "spells",
            grouped(
                "state, count(*) AS minutes, sum(n) AS n",
                "SESSION(minute, window_end, INTERVAL '70 seconds', state)",
                ", state",
            ),
        ),
        (
            "pairs",
            "SELECT a.window_start, a.window_end, CAST(a.window_start AS DATE) AS event_date, a.transaction_id AS one, \
             b.transaction_id AS two FROM TUMBLE(transactions, event_time, INTERVAL '2 minutes') a \
             JOIN TUMBLE(transactions, event_time, INTERVAL '2 minutes') b ON a.window_start = b.window_start \
             AND a.window_end = b.window_end AND a.state = b.state WHERE a.transaction_id < b.transaction_id"
                .to_owned(),
        ),
        (
            "large",
            "SELECT event_time, event_date, transaction_id, state, amount FROM transactions WHERE amount >= 60".into(),
        ),
        (
            "known_minute",
            format!(
                "SELECT {BOUNDS}, state, count(*) AS n, coalesce(sum(h.n), 0) AS known \
                 FROM TUMBLE(transactions, event_time, INTERVAL '1 minute') t LEFT JOIN \
                 (SELECT state AS s, count(*) AS n FROM large GROUP BY state) h ON h.s = t.state \
                 GROUP BY window_start, window_end, state"
            ),
        ),
        (
            "known_hops",
            format!(
                "SELECT {BOUNDS}, count(*) AS n, coalesce(sum(h.n), 0) AS known \
                 FROM HOP(transactions, event_time, INTERVAL '1 minute', INTERVAL '3 minutes') t JOIN \
                 (SELECT state AS s, count(*) AS n FROM large GROUP BY state) h ON h.s = t.state \
                 GROUP BY window_start, window_end"
            ),
        ),
        ("known_five", grouped("sum(known) AS known", "TUMBLE(known_minute, window_start, INTERVAL '5 minutes')", "")),
        (
            "well_known",
            "SELECT window_start, window_end, event_date, state, known FROM known_minute WHERE known > 5".into(),
        ),
        (
            "minute_known",
            "SELECT m.window_start, m.window_end, m.event_date, m.state, m.n, h.n AS known FROM minute m JOIN \
             (SELECT state AS s, count(*) AS n FROM large GROUP BY state) h ON h.s = m.state"
                .into(),
        ),
        (
            "joined",
            "SELECT t.event_time, t.event_date, t.state, h.n AS known FROM transactions t JOIN \
             (SELECT state AS s, count(*) AS n FROM large GROUP BY state) h ON h.s = t.state"
                .into(),
        ),
        (
            "known_visits",
            grouped(
                "state, count(*) AS n, sum(known) AS known",
                "SESSION(joined, event_time, INTERVAL '20 seconds', state)",
                ", state",
            ),
        ),
    ]
}

fn scratch() -> Scratch {
    let scratch = Scratch::new();
    let folder = scratch.path("queries");
    fs::create_dir_all(&folder).unwrap();
    for (name, select) in views() {
        let text = format!("CREATE MATERIALIZED VIEW {name} AS {select};");
        fs::write(folder.join(format!("{name}.sql")), text).unwrap();
    }
    let folder = format!("queries.dir={}", folder.display());
    scratch
        .set(&folder)
        .set("commit.interval=100ms")
        .set("watermark.out_of_orderness=5s")
        .set("reconcile.enabled=false")
}

fn golden() -> Vec<String> {
    let path = format!("{}/tests/golden/input.ndjson", env!("CARGO_MANIFEST_DIR"));
    fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect()
}

/// The golden rows, of which every `one_in`-th comes anywhere up to the end.
fn disordered(scratch: &Scratch, seed: u64, one_in: u32) -> PathBuf {
    let lines = golden();
    let mut random = StdRng::seed_from_u64(seed);
    let mut placed: Vec<(usize, &String)> = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let late = if random.random_ratio(1, one_in) { random.random_range(0..lines.len() - at) } else { 0 };
        placed.push((at + late, line));
    }
    placed.sort_by_key(|(at, _)| *at);
    let path = scratch.path("mixed.ndjson");
    fs::write(&path, placed.iter().fold(String::new(), |text, (_, line)| text + line + "\n")).unwrap();
    path
}

fn bucket(minutes: u32, time: &str) -> String {
    format!("time_bucket(INTERVAL {minutes} MINUTE, {time})")
}

/// Sessions of a relation's rows, as DuckDB forms them; `of` are the aggregates.
fn sessions(rows: &str, time: &str, gap_s: u32, by: &str, of: &str) -> String {
    let partition = if by.is_empty() { "1" } else { by };
    let columns = if by.is_empty() { String::new() } else { format!("{by}, ") };
    format!(
        "SELECT min({time}) AS ws, max({time}) + INTERVAL {gap_s} SECOND AS we, {columns}{of} FROM \
         (SELECT *, sum(b) OVER (PARTITION BY {partition} ORDER BY {time} RANGE UNBOUNDED PRECEDING) AS number FROM \
         (SELECT *, CASE WHEN {time} - lag({time}) OVER (PARTITION BY {partition} ORDER BY {time}) <= INTERVAL {gap_s} SECOND \
         THEN 0 ELSE 1 END AS b FROM {rows})) GROUP BY {columns}number"
    )
}

/// Every table against DuckDB's answer over all rows, late ones included.
fn assert_all(scratch: &Scratch) {
    let t = scratch.delta("transactions");
    let minute = format!(
        "(SELECT {0} AS s, {0} + INTERVAL 1 MINUTE AS e, state, count(*) AS n, sum(amount) AS amount FROM {t} GROUP BY ALL)",
        bucket(1, "event_time")
    );
    let visits = sessions(&t, "event_time", 20, "state", "count(*) AS n, sum(amount) AS amount");
    let met = met(scratch);
    let hops = format!(
        "SELECT {} - to_minutes(unnest(range(0, 3))::INTEGER) AS ws, known FROM (SELECT * FROM {met} WHERE known IS NOT NULL)",
        bucket(1, "event_time")
    );
    let known = format!(
        "(SELECT {} AS ws, state, count(*) AS n, coalesce(sum(known), 0)::BIGINT AS known FROM {met} GROUP BY ALL)",
        bucket(1, "event_time")
    );
    let pairs: Vec<(&str, &str, String)> = vec![
        ("minute", "window_start, state, n, amount", format!("SELECT s, state, n, amount FROM {minute}")),
        (
            "five",
            "window_start, state, n",
            format!("SELECT {}, state, sum(n)::BIGINT FROM {minute} GROUP BY ALL", bucket(5, "s")),
        ),
        (
            "so_far",
            "window_start, window_end, state, n",
            format!(
                "SELECT ws, we, state, sum(n)::BIGINT FROM (SELECT {0} AS ws, {0} + to_minutes(2 * unnest(range(1, 6))::INTEGER) \
                 AS we, * FROM {minute}) WHERE we > s GROUP BY ALL",
                bucket(10, "s")
            ),
        ),
        ("busy", "since, state, n", format!("SELECT s, state, n FROM {minute} WHERE n > 2")),
        ("busier", "since, state, twice", format!("SELECT s, state, 2 * n FROM {minute} WHERE n > 3")),
        (
            "busy_ten",
            "window_start, states, n",
            format!("SELECT {}, count(*), sum(n)::BIGINT FROM {minute} WHERE n > 2 GROUP BY ALL", bucket(10, "s")),
        ),
        (
            "visits",
            "window_start, window_end, state, n, amount",
            format!("SELECT ws, we, state, n, amount FROM ({visits})"),
        ),
        ("rush", "window_start, window_end, n", sessions(&t, "event_time", 3, "", "count(*) AS n")),
        (
            "long_visits",
            "window_start, window_end, state, n",
            format!("SELECT ws, we, state, n FROM ({visits}) WHERE n > 1"),
        ),
        (
            "visits_minute",
            "window_start, visits, n",
            format!("SELECT {}, count(*), sum(n)::BIGINT FROM ({visits}) GROUP BY ALL", bucket(1, "we")),
        ),
        (
            "spells",
            "window_start, window_end, state, minutes, n",
            sessions(&minute, "e", 70, "state", "count(*), sum(n)::BIGINT"),
        ),
        (
            "pairs",
            "window_start, one, two",
            format!(
                "SELECT {0}, a.transaction_id, b.transaction_id FROM {t} a JOIN {t} b ON {0} = {1} AND a.state = b.state AND a.transaction_id < b.transaction_id",
                bucket(2, "a.event_time"),
                bucket(2, "b.event_time")
            ),
        ),
        ("known_minute", "window_start, state, n, known", format!("SELECT ws, state, n, known FROM {known}")),
        (
            "known_hops",
            "window_start, n, known",
            format!("SELECT ws, count(*), sum(known)::BIGINT FROM ({hops}) GROUP BY ALL"),
        ),
        (
            "known_five",
            "window_start, known",
            format!("SELECT {}, sum(known)::BIGINT FROM {known} GROUP BY ALL", bucket(5, "ws")),
        ),
        ("well_known", "window_start, state, known", format!("SELECT ws, state, known FROM {known} WHERE known > 5")),
        (
            "known_visits",
            "window_start, window_end, state, n, known",
            sessions(
                &format!("(SELECT * FROM {met} WHERE known IS NOT NULL)"),
                "event_time",
                20,
                "state",
                "count(*), sum(known)::BIGINT",
            ),
        ),
    ];
    let compared = pairs.into_iter().map(|(table, columns, expected)| {
        let found = format!("SELECT {columns} FROM {}", scratch.delta(table));
        format!(
            "SELECT '{table}', (SELECT count(*) FROM (({expected}) EXCEPT ALL ({found}))) + \
             (SELECT count(*) FROM (({found}) EXCEPT ALL ({expected}))), (SELECT count(*) FROM ({found}))"
        )
    });
    let compared = compared.collect::<Vec<_>>().join(" UNION ALL ");
    let is_wrong = |row: &Vec<Value>| row[1] != 0 || row[2] == 0;
    let wrong: Vec<Vec<Value>> = duckdb(&compared).into_iter().filter(is_wrong).collect();
    assert!(wrong.is_empty(), "table, rows that differ, rows: {wrong:?}");
}

/// The transactions with what each met in `large` when its epoch was read: by the slots' versions.
fn met(scratch: &Scratch) -> String {
    let path = |epoch: usize| scratch.lake().join(format!("_epochs/{epoch:020}.json"));
    let slots = (0..).map_while(|epoch| Some(serde_json::from_slice::<Value>(&fs::read(path(epoch)).ok()?).unwrap()));
    let saw: Vec<String> = slots
        .filter_map(|slot| {
            let version = slot["queries"]["known_minute"]["lookups"]["large"].as_u64()?;
            let log = scratch.lake().join(format!("large/_delta_log/{version:020}.json"));
            let log = fs::read_to_string(log).unwrap();
            let actions = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
            let through = actions.filter_map(|action| action["txn"]["version"].as_i64()).next_back().unwrap_or(-1);
            Some(format!("({}, {through})", slot["epoch"]))
        })
        .collect();
    format!(
        "(SELECT t.transaction_id, any_value(t.event_time) AS event_time, any_value(t.state) AS state, \
         CASE WHEN count(s.transaction_id) > 0 THEN count(s.transaction_id) END AS known \
         FROM {t} t JOIN (VALUES {saw}) saw(epoch, through) ON saw.epoch = t._epoch \
         LEFT JOIN {t} s ON s.state = t.state AND s.amount >= 60 AND s._epoch <= saw.through GROUP BY t.transaction_id)",
        t = scratch.delta("transactions"),
        saw = saw.join(", ")
    )
}

/// Nothing is left that is not compared.
fn audited(scratch: &Scratch) -> String {
    let said = scratch.must(&["audit"]);
    assert!(!said.contains("not compared"), "{said}");
    said
}

#[test]
fn every_window_is_corrected_whatever_came_late() {
    for (seed, one_in) in [(1, 10), (2, 3)] {
        let scratch = scratch();
        let mixed = disordered(&scratch, seed, one_in);
        let summary = scratch.summary(&["--source", mixed.to_str().unwrap(), "--pace", "400"]);
        assert!(summary["late"].as_u64() > Some(30), "seed {seed}: {summary}");
        scratch.must(&["audit"]);
        let said = scratch.must(&["lake", "reconcile"]);
        for table in
            ["visits", "rush", "busy", "long_visits", "spells", "pairs", "known_minute", "known_hops", "well_known"]
        {
            assert!(said.lines().any(|line| line.starts_with(&format!("{table}: "))), "{table}: {said}");
        }
        audited(&scratch);
        assert_all(&scratch);
        let again = scratch.must(&["lake", "reconcile"]);
        assert!(again.contains("nothing was written"), "{again}");
    }
}

/// Stopped on its way, windows and sessions are open; what is late for the closed ones is brought in, the rest waits.
#[test]
fn open_windows_beside_corrected_ones() {
    let scratch = scratch();
    let mixed = disordered(&scratch, 3, 5);
    let mut stops = 0;
    for more in [6, 6, 6] {
        let before = slots(&scratch.lake());
        let mut job = scratch.spawn("job", &["run", "--source", mixed.to_str().unwrap(), "--pace", "150"]);
        if !wait_for(&mut job, || slots(&scratch.lake()) >= before + more) {
            break;
        }
        interrupt(&job);
        job.wait().unwrap();
        stops += 1;
        scratch.must(&["audit"]);
        scratch.must(&["lake", "reconcile"]);
        audited(&scratch);
    }
    assert!(stops >= 2, "the job was stopped {stops} times");
    scratch.summary(&["--source", mixed.to_str().unwrap()]);
    scratch.must(&["audit"]);
    scratch.must(&["lake", "reconcile"]);
    audited(&scratch);
    assert_all(&scratch);
}

/// The job corrects while it reads; killed at any time, the books are right and a reconcile by hand completes the rest.
#[test]
fn corrected_beside_the_stream_and_killed() {
    let scratch = scratch().set("reconcile.enabled=true").set("reconcile.interval=50ms");
    let mixed = disordered(&scratch, 4, 5);
    for more in [8, 11, 9] {
        let before = slots(&scratch.lake());
        let mut job = scratch.spawn("job", &["run", "--source", mixed.to_str().unwrap(), "--pace", "120"]);
        if !wait_for(&mut job, || slots(&scratch.lake()) >= before + more) {
            break;
        }
        job.kill().unwrap();
        job.wait().unwrap();
        scratch.must(&["audit"]);
    }
    let summary = scratch.summary(&["--source", mixed.to_str().unwrap(), "--pace", "200"]);
    say(&format!("restated beside the stream: {}", summary["windows_restated"]));
    scratch.must(&["audit"]);
    scratch.must(&["lake", "reconcile"]);
    audited(&scratch);
    assert_all(&scratch);
}

/// A reconcile by hand, killed wherever it stands, is completed by the next.
#[test]
fn killed_while_correcting() {
    let scratch = scratch();
    let mixed = disordered(&scratch, 5, 4);
    scratch.summary(&["--source", mixed.to_str().unwrap(), "--pace", "400"]);
    for more in [2, 4, 6] {
        let before = slots(&scratch.lake());
        let mut job = scratch.spawn("reconcile", &["lake", "reconcile"]);
        let patience = Instant::now() + Duration::from_secs(120);
        while slots(&scratch.lake()) < before + more && job.try_wait().unwrap().is_none() {
            assert!(Instant::now() < patience, "no progress");
            std::thread::yield_now();
        }
        let _ = job.kill();
        job.wait().unwrap();
        scratch.must(&["audit"]);
    }
    scratch.must(&["lake", "reconcile"]);
    audited(&scratch);
    assert_all(&scratch);
}
