//! Readers nobody here wrote all see the same rows: on a lake that is being written, at rest, and after each way of
//! looking after it.
//!
//! `tests/readers/read_*.py` are the readers, one program each, with answers of one form (`reading.py`). Spark reads along
//! where `LAKEWARD_READERS=spark` is set: it needs a Java of its own and half a gigabyte (`docs/lake.md`).

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::{Value, json};

use crate::support::{Scratch, installed, interrupt, readers, say, slots, text, wait_for};
use crate::vacuum::age;

/// Those that are always asked.
const READERS: [&str; 5] = ["duckdb", "chdb", "polars", "deltalake", "pyarrow"];

/// What is done to a lake at rest; all readers look again after each.
const CARE: [&[&str]; 4] =
    [&["lake", "reconcile"], &["lake", "compact"], &["lake", "checkpoint"], &["lake", "vacuum", "--full"]];

/// Sums of floats depend on the order of adding: relative difference allowed.
const FLOAT_TOLERANCE: f64 = 1e-9;

/// What readers said of each table.
type Answers = BTreeMap<String, Value>;

fn asked_readers() -> Vec<(&'static str, PathBuf)> {
    let mut all: Vec<_> = READERS.iter().map(|reader| (*reader, readers().to_owned())).collect();
    if std::env::var("LAKEWARD_READERS").is_ok_and(|more| more == "spark") {
        all.push(("spark", installed("spark", "requirements-spark.txt")));
    }
    all
}

/// Asks a reader for tables at versions, or at the newest.
fn ask(reader: &str, python: &Path, lake: &Path, tables: &[(String, Option<u64>)]) -> Answers {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/readers/read_{reader}.py"));
    let mut child = Command::new(python)
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("python starts");
    let questions = tables.iter().map(|(table, version)| json!({"table": lake.join(table), "version": version}));
    let questions: String = questions.map(|question| format!("{question}\n")).collect();
    // A reader that stops early has closed the pipe; what it says on its standard error tells why.
    let _ = child.stdin.take().expect("a pipe").write_all(questions.as_bytes());
    let output = child.wait_with_output().expect("python ends");
    let said = text(&output.stdout);
    let answers = tables.iter().map(|(table, _)| table.clone()).zip(said.lines());
    let answers: Answers =
        answers.map(|(table, line)| (table, serde_json::from_str(line).expect("a JSON answer"))).collect();
    assert!(
        output.status.success() && answers.len() == tables.len(),
        "{reader} read {} of {tables:?}:\n{}",
        answers.len(),
        text(&output.stderr)
    );
    answers
}

/// Where two answers about a table differ.
fn differences(left: &Value, right: &Value) -> Vec<String> {
    let mut found = Vec::new();
    for part in ["version", "rows", "hash"] {
        if left[part] != right[part] {
            found.push(format!("{part}: {} and {}", left[part], right[part]));
        }
    }
    let (left, right) = (left["columns"].as_object().unwrap(), right["columns"].as_object().unwrap());
    assert!(!left.is_empty() && left.keys().eq(right.keys()), "{left:?} {right:?}");
    for (name, mine) in left {
        for part in ["type", "nulls", "min", "max", "sum"] {
            let theirs = &right[name][part];
            if mine[part] != *theirs && !(part == "sum" && is_near(&mine["type"], &mine[part], theirs)) {
                found.push(format!("{part} of `{name}`: {} and {theirs}", mine[part]));
            }
        }
    }
    found
}

fn is_near(data_type: &Value, left: &Value, right: &Value) -> bool {
    let number = |value: &Value| value.as_str().and_then(|text| text.parse::<f64>().ok());
    let is_float = data_type == "double" || data_type == "float";
    let (Some(left), Some(right)) = (number(left), number(right)) else { return false };
    is_float && (left - right).abs() <= FLOAT_TOLERANCE * left.abs().max(right.abs())
}

/// Asks every reader at once and holds the answers against each other; returns them, all being equal.
pub fn agreed(lake: &Path, when: &str, tables: &[(String, Option<u64>)]) -> Answers {
    let started = Instant::now();
    let all: Vec<(&str, Answers)> = std::thread::scope(|scope| {
        let asked: Vec<_> = asked_readers()
            .into_iter()
            .map(|(reader, python)| (reader, scope.spawn(move || ask(reader, &python, lake, tables))))
            .collect();
        asked.into_iter().map(|(reader, answers)| (reader, answers.join().expect("an answer"))).collect()
    });
    let mut wrong = Vec::new();
    for (at, (reader, answers)) in all.iter().enumerate() {
        for (other, others) in &all[at + 1..] {
            for (table, _) in tables {
                for difference in differences(&answers[table], &others[table]) {
                    wrong.push(format!("`{table}`, {reader} and {other}: {difference}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{when}, readers disagree:\n{}", wrong.join("\n"));
    let rows: u64 = all[0].1.values().map(|answer| answer["rows"].as_u64().unwrap()).sum();
    say(&format!(
        "{when}: {} readers agree on {rows} rows of {} tables ({:.0} s)",
        all.len(),
        tables.len(),
        started.elapsed().as_secs_f64()
    ));
    all.into_iter().next().expect("a reader").1
}

/// The newest version of each table that has a log.
pub fn newest(lake: &Path) -> Vec<(String, u64)> {
    let mut tables = Vec::new();
    for folder in fs::read_dir(lake).unwrap().map(|entry| entry.unwrap().path()) {
        let Ok(log) = fs::read_dir(folder.join("_delta_log")) else { continue };
        let names = log.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let versions = names.filter_map(|name| name.strip_suffix(".json")?.parse().ok());
        let name = folder.file_name().unwrap().to_str().unwrap().to_owned();
        tables.extend(versions.max().map(|version| (name, version)));
    }
    tables.sort();
    tables
}

/// Simulated purchases, some of them hours late, with lines no decoder takes between them.
fn input(scratch: &Scratch, rows: u32) -> PathBuf {
    let text = fs::read_to_string(scratch.simulated("all.csv", rows)).unwrap();
    let (header, lines) = text.split_once("\r\n").unwrap();
    let mut lines: Vec<String> = lines.lines().map(str::to_owned).collect();
    // Every ninth line of the first third comes when the file is nearly read.
    let third = lines.len() / 3;
    let late: Vec<String> = lines[..third].iter().step_by(9).cloned().collect();
    let mut at = 0;
    lines.retain(|_| {
        at += 1;
        at > third || (at - 1) % 9 != 0
    });
    let end = lines.len() - third / 2;
    lines.splice(end..end, late);
    for (at, broken) in ["no,csv\tof \\ the stream", "\"half a line", "ä,ö,ü"].iter().enumerate() {
        lines.insert(100 * at, (*broken).to_owned());
    }
    let path = scratch.path("in.csv");
    fs::write(&path, format!("{header}\r\n{}\r\n", lines.join("\r\n"))).unwrap();
    path
}

#[test]
fn every_reader_sees_the_same_rows_while_the_lake_is_written_at_rest_and_after_care() {
    // Installed before there is a job to race with.
    let asked: Vec<_> = asked_readers().into_iter().map(|(reader, _)| reader).collect();
    assert!(asked.starts_with(&READERS), "{asked:?}");
    let scratch = Scratch::new()
        .set("commit.interval=1s")
        .set("commit.checkpoint_every=4")
        .set("reconcile.interval=3s")
        .set("watermark.out_of_orderness=1h");
    let file = input(&scratch, 24_000);
    let lake = scratch.lake();
    let source = ["run", "--until-caught-up", "--source", file.to_str().unwrap(), "--pace"];
    let mut job = scratch.spawn("job", &[&source[..], &["300"]].concat());
    // Some readers then hold its manifests against the log.
    let manifests = lake.join("transactions/_symlink_format_manifest/_state.json");
    let begun = || slots(&lake) > 8 && manifests.exists();
    assert!(wait_for(&mut job, begun), "the input ended before anybody could look");
    let versions = newest(&lake);
    let before = slots(&lake);
    let pinned: Vec<_> = versions.into_iter().map(|(table, version)| (table, Some(version))).collect();
    let seen = agreed(&lake, "while it is written", &pinned);
    assert!(seen["transactions"]["rows"].as_u64() > Some(0), "{seen:?}");
    assert!(wait_for(&mut job, || slots(&lake) > before + 2), "the job had ended before the readers had");
    interrupt(&job);
    // It ends in order, and says that it was not caught up.
    let ended = job.wait().unwrap();
    assert_eq!(ended.code(), Some(1), "{}", fs::read_to_string(scratch.path("job.err")).unwrap());

    // The rest in one go, late rows among it, left as they are.
    let rest = scratch.must(&[&["--set", "reconcile.enabled=false"], &source[..], &["1000000"]].concat());
    let all: Vec<_> = newest(&lake).into_iter().map(|(table, _)| (table, None)).collect();
    let at_rest = agreed(&lake, "at rest", &all);
    assert_eq!(at_rest["transactions"]["rows"], 24_000, "{rest}");
    assert_eq!(at_rest["rejects"]["rows"], 3, "{rest}");
    assert!(at_rest.len() > 10 && at_rest.values().filter(|answer| answer["rows"] != 0).count() > 8, "{at_rest:?}");
    assert_told_apart(&lake, &at_rest);
    let mut last = at_rest;
    for care in CARE {
        if care.contains(&"vacuum") {
            for (table, _) in &all {
                age(&lake.join(table));
            }
        }
        let said = scratch.must(care);
        match care[1] {
            "compact" => assert!(said.contains("files of"), "nothing was compacted: {said}"),
            "vacuum" => assert!(said.matches("deleted 0 removed").count() < all.len(), "nothing was deleted: {said}"),
            _ => {}
        }
        let after = agreed(&lake, &format!("after `lakeward {}`", care.join(" ")), &all);
        if care[1] == "reconcile" {
            assert_ne!(after["city_minute"]["hash"], last["city_minute"]["hash"], "no row was late: {said}");
        } else {
            for (table, answer) in &after {
                let differing = differences(answer, &last[table]);
                let differing: Vec<_> = differing.iter().filter(|part| !part.starts_with("version")).collect();
                assert!(differing.is_empty(), "{care:?} changed the rows of `{table}`: {differing:?}");
            }
        }
        last = after;
    }
    scratch.must(&["audit"]);
}

/// A reader one version behind is told apart: the comparison does compare.
fn assert_told_apart(lake: &Path, newest_rows: &Answers) {
    let (table, version) = newest(lake).into_iter().find(|(table, _)| table == "transactions").unwrap();
    let behind = ask("pyarrow", readers(), lake, &[(table.clone(), Some(version - 1))]);
    let differing = differences(&behind[&table], &newest_rows[&table]);
    for part in ["version", "rows", "hash", "max of `_epoch`", "sum of `amount`"] {
        assert!(differing.iter().any(|found| found.starts_with(part)), "no `{part}` in {differing:?}");
    }
}
