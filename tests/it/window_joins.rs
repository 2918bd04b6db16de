//! Windows of several views joined, and lookups beside windows: live, stopped and killed, as batch, restated, in the audit.

use std::fs;
use std::path::Path;

use crate::oracle::differences;
use crate::support::{Scratch, interrupt, seed, slots, wait_for};

/// Views over windows, the joins of them, and what is joined beside windows.
const QUERIES: [(&str, &str); 8] = [
    (
        "spend_minute",
        "WITH (allowed_lateness = '5 seconds') AS SELECT window_start, window_end, CAST(window_start AS DATE) AS event_date, \
         state, count(*) AS n, sum(amount) AS amount FROM TUMBLE(transactions, event_time, INTERVAL '1 minute') \
         GROUP BY window_start, window_end, state",
    ),
    (
        // Waits longer than the other: a window is joined when both have closed it.
        "fraud_minute",
        "WITH (allowed_lateness = '70 seconds') AS SELECT window_start, window_end, CAST(window_start AS DATE) AS event_date, \
         state, count(*) AS n, sum(amount) AS amount FROM TUMBLE(transactions, event_time, INTERVAL '1 minute') \
         WHERE is_fraud GROUP BY window_start, window_end, state",
    ),
    (
        "fraud_share",
        "AS SELECT s.window_start, s.window_end, s.event_date, s.state, s.n, f.n AS frauds, f.amount / s.amount AS share \
         FROM spend_minute s LEFT JOIN fraud_minute f ON s.window_start = f.window_start AND s.window_end = f.window_end \
         AND s.state = f.state",
    ),
    (
        "share_five",
        "AS SELECT a.window_start, a.window_end, CAST(a.window_start AS DATE) AS event_date, count(*) AS pairs, \
         sum(b.amount) AS amount FROM TUMBLE(spend_minute, window_start, INTERVAL '5 minutes') a \
         JOIN TUMBLE(fraud_minute, window_start, INTERVAL '5 minutes') b ON a.window_start = b.window_start \
         AND a.window_end = b.window_end AND a.state = b.state AND a.n > b.n GROUP BY a.window_start, a.window_end",
    ),
    (
        // A grandchild of both.
        "share_ten",
        "AS SELECT window_start, window_end, CAST(window_start AS DATE) AS event_date, count(frauds) AS with_fraud, \
         sum(n) AS n FROM TUMBLE(fraud_share, window_start, INTERVAL '10 minutes') GROUP BY window_start, window_end",
    ),
    (
        "large",
        "AS SELECT event_time, event_date, transaction_id, card_token, amount FROM transactions WHERE amount >= 100",
    ),
    (
        "known_pairs",
        "AS SELECT a.window_start, a.window_end, CAST(a.window_start AS DATE) AS event_date, a.transaction_id AS one, \
         b.transaction_id AS two, h.n AS known, r.level FROM TUMBLE(transactions, event_time, INTERVAL '1 minute') a \
         JOIN TUMBLE(transactions, event_time, INTERVAL '1 minute') b ON a.window_start = b.window_start AND \
         a.window_end = b.window_end AND a.card_token = b.card_token AND a.transaction_id < b.transaction_id \
         LEFT JOIN (SELECT card_token, count(*) AS n FROM large GROUP BY card_token) h ON h.card_token = a.card_token \
         LEFT JOIN 'lookups/risk.csv' r ON r.state = b.state AND r.weight > 1",
    ),
    (
        // Each side has the columns of the others by name.
        "known_using",
        "AS SELECT a.window_start, a.window_end, CAST(a.window_start AS DATE) AS event_date, a.transaction_id AS one, \
         b.transaction_id AS two, h.n AS known FROM TUMBLE(transactions, event_time, INTERVAL '1 minute') a \
         JOIN TUMBLE(transactions, event_time, INTERVAL '1 minute') b USING (window_start, window_end, card_token) \
         LEFT JOIN (SELECT card_token, count(*) AS n FROM large GROUP BY card_token) h USING (card_token) \
         WHERE a.transaction_id < b.transaction_id",
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
        fs::write(folder.join(format!("{name}.sql")), format!("CREATE MATERIALIZED VIEW {name} {select};")).unwrap();
    }
    scratch.set(&format!("queries.dir={}", folder.display())).set("commit.interval=100ms")
}

/// Every join of windows against DuckDB's answer from the transactions alone, and as a batch job.
fn assert_all(scratch: &Scratch) {
    let t = scratch.delta("transactions");
    let minute = |filter: &str| {
        format!(
            "(SELECT date_trunc('minute', event_time) AS s, state, count(*) AS n, sum(amount) AS amount FROM {t} WHERE {filter} GROUP BY ALL)"
        )
    };
    let (spend, fraud) = (minute("true"), minute("is_fraud"));
    let share = format!(
        "(SELECT a.s, a.state, a.n, b.n AS frauds, b.amount / a.amount AS share FROM {spend} a LEFT JOIN {fraud} b USING (s, state))"
    );
    let five = "time_bucket(INTERVAL 5 MINUTE, a.s)";
    let pairs = [
        (
            "fraud_share",
            "window_start, state, n, frauds, round(CAST(share AS DOUBLE), 4)",
            format!("SELECT s, state, n, frauds, round(CAST(share AS DOUBLE), 4) FROM {share}"),
        ),
        (
            "share_five",
            "window_start, pairs, amount",
            format!(
                "SELECT {five}, count(*), sum(b.amount) FROM {spend} a JOIN {fraud} b ON {five} = \
                 time_bucket(INTERVAL 5 MINUTE, b.s) AND a.state = b.state AND a.n > b.n GROUP BY ALL"
            ),
        ),
        (
            "share_ten",
            "window_start, with_fraud, n",
            format!("SELECT time_bucket(INTERVAL 10 MINUTE, s), count(frauds), sum(n) FROM {share} GROUP BY ALL"),
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
    // What a lookup said depends on when; which rows met does not.
    let pairs = format!(
        "SELECT a.transaction_id, b.transaction_id FROM {t} a JOIN {t} b ON date_trunc('minute', a.event_time) = \
         date_trunc('minute', b.event_time) AND a.card_token = b.card_token AND a.transaction_id < b.transaction_id \
         LEFT JOIN read_csv('{}', header = true) r ON r.state = b.state AND r.weight > 1",
        golden("queries/lookups/risk.csv")
    );
    let found = format!("SELECT one, two FROM {}", scratch.delta("known_pairs"));
    assert_eq!(differences(&pairs, &found), 0, "known_pairs");
    let both = ["known_pairs", "known_using"]
        .map(|table| format!("SELECT DISTINCT one, two, coalesce(known, 0) FROM {}", scratch.delta(table)));
    assert_eq!(differences(&both[0], &both[1]), 0, "by ON and by USING");
}

fn sorted(csv: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = csv.lines().collect();
    lines.sort_unstable();
    lines
}

#[test]
fn windows_are_joined_through_stops_and_kills() {
    let scratch = scratch();
    let mut stops = 0;
    let seed = seed("LAKEWARD_STOPS_SEED");
    for (more, kills) in [(4 + seed % 3, false), (6 + seed / 3 % 4, true), (8 + seed / 12 % 5, false)] {
        let before = slots(&scratch.lake());
        let mut job = scratch.spawn("job", &["run", "--source", &golden("input.ndjson"), "--pace", "100"]);
        if !wait_for(&mut job, || slots(&scratch.lake()) >= before + more) {
            break;
        }
        if kills {
            job.kill().unwrap();
        } else {
            interrupt(&job);
        }
        job.wait().unwrap();
        stops += 1;
    }
    assert!(stops >= 1, "the job was never stopped on its way");
    scratch.summary(&["--source", &golden("input.ndjson"), "--pace", "300"]);
    assert_all(&scratch);
    let audit = scratch.must(&["audit"]);
    assert!(!audit.contains("not compared"), "{audit}");
    // The table it is joined with has changed on the way, and windows saw several versions of it.
    let known = scratch.must(&["sql", "select count(distinct known) as n from known_pairs", "--format", "csv"]);
    assert!(known.lines().nth(1).unwrap().parse::<u32>().unwrap() > 2, "{known}");
}

#[test]
fn late_rows_correct_joined_windows_after_both_parents() {
    let scratch = scratch().set("reconcile.enabled=false");
    let text = fs::read_to_string(golden("input.ndjson")).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    // Every ninth row of the first minutes comes when the last ones have been read.
    let (late, on_time): (Vec<_>, Vec<_>) =
        lines.iter().enumerate().partition(|(at, _)| *at < lines.len() / 2 && at % 9 == 4);
    let of = |rows: Vec<(usize, &&str)>| rows.into_iter().map(|(_, line)| format!("{line}\n")).collect::<String>();
    let (first, second) = (scratch.path("first.ndjson"), scratch.path("second.ndjson"));
    fs::write(&first, of(on_time)).unwrap();
    fs::write(&second, of(late)).unwrap();
    scratch.summary(&["--source", first.to_str().unwrap()]);
    scratch.must(&["audit"]);
    scratch.summary(&["--source", second.to_str().unwrap(), "--allow-late"]);
    scratch.must(&["audit"]);
    let said = scratch.must(&["lake", "reconcile"]);
    let views =
        ["spend_minute", "fraud_minute", "fraud_share", "share_five", "share_ten", "known_pairs", "known_using"];
    assert!(views.iter().all(|view| said.contains(view)), "{said}");
    let audit = scratch.must(&["audit"]);
    assert!(!audit.contains("not compared"), "{audit}");
    assert_views(&scratch);
}

/// As [`assert_all`], without what is joined with the lake.
fn assert_views(scratch: &Scratch) {
    let t = scratch.delta("transactions");
    let expected = format!(
        "SELECT date_trunc('minute', event_time), state, count(*), nullif(count(*) FILTER (WHERE is_fraud), 0) FROM {t} GROUP BY ALL"
    );
    let found = format!("SELECT window_start, state, n, frauds FROM {}", scratch.delta("fraud_share"));
    assert_eq!(differences(&expected, &found), 0, "fraud_share");
    for view in ["fraud_share", "share_five", "share_ten"] {
        let name = format!("{}/{view}.sql", scratch.path("queries").display());
        let batch = scratch.must(&["batch", &name, "--format", "csv"]);
        let live = scratch.must(&["sql", &format!("select * from {view}"), "--format", "csv"]);
        assert_eq!(sorted(&batch), sorted(&live), "{view} as batch");
    }
}

#[test]
fn a_parent_that_closes_again_after_the_join_is_owed_to_it() {
    // The end of the first file closes everything; rows of the second fall into windows that are open again for nobody but
    // the parent that had no row there.
    let scratch = scratch();
    let text = fs::read_to_string(golden("input.ndjson")).unwrap();
    let cut = text.lines().count() / 2;
    let is_late_fraud = |line: &str| line.contains("\"is_fraud\": 1");
    let (first, second) = (scratch.path("first.ndjson"), scratch.path("second.ndjson"));
    let part = |from: usize, to: usize, last: usize| -> String {
        text.lines()
            .enumerate()
            .filter(|(at, line)| (from..to).contains(at) && (*at < last || !is_late_fraud(line)))
            .map(|(_, line)| format!("{line}\n"))
            .collect()
    };
    fs::write(&first, part(0, cut, cut - 200)).unwrap();
    fs::write(&second, format!("{}{}", missing(&text, cut - 200, cut), part(cut, usize::MAX, usize::MAX))).unwrap();
    scratch.summary(&["--source", first.to_str().unwrap()]);
    scratch.summary(&["--source", second.to_str().unwrap()]);
    let newest = scratch.lake().join(format!("_epochs/{:020}.json", slots(&scratch.lake()) - 1));
    let newest: serde_json::Value = serde_json::from_str(&fs::read_to_string(newest).unwrap()).unwrap();
    let owed = newest["queries"]["fraud_share"]["owed"].as_array().map_or(0, Vec::len);
    assert!(owed > 0, "{newest}");
    scratch.must(&["lake", "reconcile"]);
    assert_views(&scratch);
    let audit = scratch.must(&["audit"]);
    assert!(!audit.contains("not compared"), "{audit}");
}

/// The frauds between two lines.
fn missing(text: &str, from: usize, to: usize) -> String {
    let lines =
        text.lines().enumerate().filter(|(at, line)| (from..to).contains(at) && line.contains("\"is_fraud\": 1"));
    lines.map(|(_, line)| format!("{line}\n")).collect()
}
