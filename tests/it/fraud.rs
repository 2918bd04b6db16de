//! The fraud rules: each table against the same rule written for DuckDB, and no rule may read the label.
//!
//! DuckDB starts from the file alone. It asks, of every step in which a card did something that counts, what the
//! card had done in the hours up to their end and up to their start: an alert is due when the first reaches the limit
//! and the second did not. The shipped files say the same by other means (the time of the k-th purchase, sums of panes).

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use crate::oracle::{differences, input};
use crate::support::{Scratch, duckdb};

/// First day of the gap in the input, and of its second part. The second part is read once the first is in the lake, so
/// that its purchases meet a history that is known exactly; the gap is longer than any window, so that none is late.
const GAP: &str = "2019-02-15";
const SECOND_PART: &str = "2019-02-18";

/// Rows of so many cards that the first part holds a history of ten purchases for most.
const ROWS: u32 = 40_000;
const CARDS: &str = "simulate.cards=300";

const SUSPECT: &str = "((category IN ('shopping_net', 'shopping_pos', 'misc_net', 'misc_pos') AND amount >= 600) \
     OR (category = 'grocery_pos' AND amount >= 250) OR (category = 'entertainment' AND amount >= 300) \
     OR (category = 'home' AND amount >= 200) OR (category = 'gas_transport' AND amount < 25) \
     OR (category = 'grocery_net' AND amount < 20))";

/// What the alerts of a rule over windows have in common, with times as microseconds.
const ALERT: &str = "epoch_us(window_start), epoch_us(window_end), event_date, rule, evidence, purchases, spend, \
     epoch_us(first_event_time), epoch_us(last_event_time), transaction_ids";

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// A lake with the alerts of a file that was read in two parts, and that file.
fn lake() -> (Scratch, PathBuf) {
    // One epoch a part: what a lookup holds changes between epochs.
    let scratch = Scratch::new()
        .set(CARDS)
        .set("commit.interval=10m")
        .set("commit.partitions_max=1000")
        .set("commit.event_time_max=1000d");
    let all = scratch.simulated("all.csv", ROWS);
    let text = fs::read_to_string(&all).unwrap();
    let (header, rows) = text.split_once("\r\n").unwrap();
    let day = |row: &&str| row.split(',').nth(1).unwrap()[..10].to_owned();
    let first: Vec<&str> = rows.lines().filter(|row| *day(row) < *GAP).collect();
    let second: Vec<&str> = rows.lines().filter(|row| *day(row) >= *SECOND_PART).collect();
    assert!(first.len() > 8_000 && second.len() > 8_000, "{} and {} rows", first.len(), second.len());
    let both = [first.as_slice(), second.as_slice()].concat();
    let write = |name: &str, part: &[&str]| {
        let path = scratch.path(name);
        fs::write(&path, format!("{header}\r\n{}\r\n", part.join("\r\n"))).unwrap();
        path
    };
    for (name, part) in [("first.csv", first), ("second.csv", second)] {
        let file = write(name, &part);
        let summary = scratch.summary(&["--source", file.to_str().unwrap()]);
        assert_eq!(summary["written"].as_u64(), Some(part.len() as u64), "{summary}");
        // The label 2019-02-28 holds two days in a row, and one epoch takes both.
        assert_eq!(summary["late"].as_u64(), Some(0), "{summary}");
    }
    let file = write("both.csv", &both);
    (scratch, file)
}

/// Every purchase with what the rules ask of it: at night, suspect, far above the history its part of the file met.
fn purchases(file: &Path) -> String {
    format!(
        "WITH read AS (SELECT * FROM {}), \
         history AS (SELECT cc_num, category, count(*) AS n, avg(amount::DOUBLE) AS usual, \
           stddev_pop(amount::DOUBLE) AS spread FROM read WHERE event_time < '{GAP}' GROUP BY ALL), \
         purchases AS (SELECT r.*, hour(event_time) IN (22, 23, 0, 1, 2, 3) AS at_night, {SUSPECT} AS suspect, \
           h.n AS known, h.usual, h.spread, coalesce(event_time >= '{SECOND_PART}' AND h.n >= 10 \
             AND amount::DOUBLE > h.usual + 4 * h.spread, false) AS outlier \
           FROM read r LEFT JOIN history h USING (cc_num, category))",
        input(file)
    )
}

/// A rule over windows: purchases `of` a kind, worth `points` each, that reach `limit` within `hours`.
struct Rule {
    name: &'static str,
    of: &'static str,
    points: &'static str,
    /// Of a window, and minutes it hops by.
    hours: u32,
    slide: u32,
    limit: u32,
    having: &'static str,
    evidence: &'static str,
}

const RULES: [Rule; 3] = [
    Rule {
        name: "card_velocity",
        of: "amount >= 200",
        points: "1",
        hours: 6,
        slide: 30,
        limit: 3,
        having: "count(DISTINCT merchant) >= 3 AND sum(amount) >= 1500",
        evidence: "count(*) || ' purchases of $200 and more at ' || count(DISTINCT merchant) || ' merchants for $' || \
                   sum(amount) || ' within 6 hours'",
    },
    Rule {
        name: "night_burst",
        of: "suspect AND at_night",
        points: "1",
        hours: 6,
        slide: 10,
        limit: 2,
        having: "true",
        evidence: "count(*) || ' suspect purchases in one night for $' || sum(amount) || ': ' || \
                   string_agg(category, ', ' ORDER BY event_time, id)",
    },
    Rule {
        name: "fraud_score",
        of: "suspect",
        points: "1 + CASE WHEN at_night THEN 2 ELSE 0 END + CASE WHEN outlier THEN 1 ELSE 0 END",
        hours: 30,
        slide: 30,
        limit: 7,
        having: "true",
        evidence: "sum(points) || ' points within 30 hours: ' || count(*) || ' suspect purchases for $' || sum(amount) \
                   || ', ' || count(*) FILTER (WHERE at_night) || ' of them at night, ' || \
                   count(*) FILTER (WHERE outlier) || ' far above the card''s own history'",
    },
];

/// The alerts of a rule, column for column as [`ALERT`].
fn alerts(file: &Path, rule: &Rule) -> String {
    let Rule { name, of, points, hours, slide, limit, having, evidence } = rule;
    let slice = format!("INTERVAL {slide} MINUTE");
    format!(
        "{}, counted AS (SELECT *, {points} AS points FROM purchases WHERE {of}), \
         looks AS (SELECT DISTINCT cc_num, time_bucket({slice}, event_time) + {slice} AS due FROM counted) \
         SELECT epoch_us(due - INTERVAL {hours} HOUR), epoch_us(due), CAST(due - {slice} AS DATE), '{name}', \
           {evidence}, count(*), sum(amount), epoch_us(min(event_time)), epoch_us(max(event_time)), \
           string_agg(id, ',' ORDER BY event_time, id) \
         FROM looks JOIN counted USING (cc_num) \
         WHERE event_time >= due - INTERVAL {hours} HOUR AND event_time < due \
         GROUP BY cc_num, due \
         HAVING sum(points) >= {limit} AND {having} \
           AND coalesce(sum(points) FILTER (WHERE event_time < due - {slice}), 0) < {limit}",
        purchases(file)
    )
}

fn outliers(file: &Path) -> String {
    format!(
        "{} SELECT id, epoch_us(event_time), CAST(event_time AS DATE), category, amount, known FROM purchases WHERE outlier",
        purchases(file)
    )
}

fn count(sql: &str) -> u64 {
    duckdb(&format!("SELECT count(*) FROM ({sql})"))[0][0].as_u64().unwrap()
}

/// Fewer expected alerts than this would prove little.
const ROWS_MIN: u64 = 10;

/// The oracle's rows and the table's are the same, and there are enough of them to mean something.
fn assert_same(what: &str, expected: &str, found: &str) {
    let rows = count(expected);
    assert!(rows >= ROWS_MIN, "{what}: only {rows} rows are expected");
    assert_eq!(differences(expected, found), 0, "`{what}` is not what DuckDB computes from the file");
}

/// Each table, then the report over them, then the audit: one lake serves all, because making it takes longest.
#[test]
fn every_rule_is_what_duckdb_computes_from_the_file() {
    let (scratch, file) = lake();
    for rule in &RULES {
        let found = format!("SELECT {ALERT} FROM {}", scratch.delta(rule.name));
        assert_same(rule.name, &alerts(&file, rule), &found);
        assert_names_its_card(&scratch, rule.name);
    }
    let found = format!(
        "SELECT transaction_id, epoch_us(event_time), event_date, category, amount, history_purchases FROM {}",
        scratch.delta("amount_outlier")
    );
    assert_same("amount_outlier", &outliers(&file), &found);
    // Two ways to the same float may round a tie otherwise.
    let apart = format!(
        "{} SELECT count(*) FROM purchases p JOIN {} o ON p.id = o.transaction_id WHERE outlier \
         AND (abs(usual - usual_amount) > 1e-9 * usual OR abs(spread - usual_spread) > 1e-6 * usual)",
        purchases(&file),
        scratch.delta("amount_outlier")
    );
    assert_eq!(duckdb(&apart)[0][0], 0, "means or deviations of a card's history differ");
    let with_outliers = format!("SELECT * FROM {} WHERE outliers > 0", scratch.delta("fraud_score"));
    assert!(count(&with_outliers) > 0, "no score rests on a card's history");
    report(&scratch, &file);
    scratch.must(&["audit"]);
}

/// Every transaction an alert rests on was made with the alert's card.
fn assert_names_its_card(scratch: &Scratch, table: &str) {
    let strangers = format!(
        "SELECT * FROM (SELECT card_token, unnest(string_split(transaction_ids, ',')) AS transaction_id FROM {}) a \
         LEFT JOIN {} t USING (transaction_id) WHERE t.card_token IS DISTINCT FROM a.card_token",
        scratch.delta(table),
        scratch.delta("transactions")
    );
    assert_eq!(count(&strangers), 0, "`{table}` names transactions of other cards");
}

/// The report's counts, counted again: bursts by the file's labels, one a card, as the simulation makes them.
fn report(scratch: &Scratch, file: &Path) {
    let csv = scratch.must(&["batch", "queries/fraud_rules_report.sql", "--format", "csv"]);
    let mut reader = csv::Reader::from_reader(csv.as_bytes());
    let header = reader.headers().unwrap().clone();
    let rows: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
    let rules: Vec<&str> = rows.iter().map(|row| &row[0]).collect();
    assert_eq!(rules, ["amount_outlier", "card_velocity", "fraud_score", "night_burst"]);
    let labels = format!("(SELECT id AS transaction_id, cc_num, event_time, fraud = 1 AS fraud FROM {})", input(file));
    for row in &rows {
        let (ids, raised) = if &row[0] == "amount_outlier" {
            ("transaction_id", "event_time")
        } else {
            ("transaction_ids", "window_end")
        };
        let counted = duckdb(&format!(
            "WITH n AS (SELECT {raised} AS raised, {ids} AS ids, unnest(string_split({ids}, ',')) AS transaction_id FROM {}), \
             l AS (SELECT n.*, cc_num, event_time, fraud FROM n JOIN {labels} USING (transaction_id)), \
             j AS (SELECT raised, ids, cc_num, avg(fraud::INT) >= 0.5 AS good FROM l GROUP BY ALL), \
             f AS (SELECT cc_num, epoch_us(min(raised)) AS since FROM j WHERE good GROUP BY ALL) \
             SELECT (SELECT count(*) FROM j), (SELECT count(*) FROM j WHERE good), \
               (SELECT count(DISTINCT cc_num) FROM {labels} WHERE fraud), (SELECT count(*) FROM f), \
               (SELECT count(*) FROM {labels} WHERE fraud), \
               (SELECT count(*) FROM {labels} b LEFT JOIN f USING (cc_num) WHERE fraud AND \
                 (epoch_us(event_time) >= f.since OR transaction_id IN (SELECT transaction_id FROM n)))",
            scratch.delta(&row[0])
        ));
        let columns = ["alerts", "right_alerts", "bursts", "bursts_found", "frauds", "frauds_caught"];
        for (column, counted) in columns.iter().zip(&counted[0]) {
            let position = header.iter().position(|name| name == *column).unwrap();
            assert_eq!(row[position], counted.to_string(), "`{column}` of {}\n{csv}", &row[0]);
        }
    }
}

/// The label exists only afterwards. What reads it: the labelled alerts, the aggregates that count fraud, the report.
#[test]
fn no_rule_reads_the_label() {
    let (mut rules, mut labelled) = (String::new(), String::new());
    let mut files: Vec<PathBuf> = fs::read_dir(folder("queries")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    for file in files.iter().filter(|file| file.extension().is_some_and(|e| e == "sql")) {
        let (name, text) = (file.file_stem().unwrap().to_str().unwrap(), fs::read_to_string(file).unwrap());
        // Not in a comment either, and no view that reads it may stand between.
        let reads = text.contains("is_fraud") || text.contains("fraud_alerts") || text.contains("fraud_transactions");
        let _ = write!(if reads { &mut labelled } else { &mut rules }, "{name} ");
    }
    for rule in ["amount_outlier", "card_category_day", "card_evidence", "card_velocity", "fraud_score", "night_burst"]
    {
        assert!(rules.contains(rule), "`{rule}` reads the label (or is not there); without it: {rules}");
    }
    assert!(rules.contains("suspect_purchases"), "{rules}");
    assert!(labelled.contains("fraud_rules_report") && labelled.contains("fraud_alerts"), "{labelled}");
}
