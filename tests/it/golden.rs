//! Golden queries: each is run live, stopped and resumed, and as a batch job, against the same expected rows.
//!
//! `tests/golden/queries/<name>.sql` is the standing query, `tests/golden/expected/<name>.csv` its rows, made by another
//! engine (see `tests/golden/bless.py`). All of them read `tests/golden/input.ndjson`.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::{Scratch, interrupt, seed, slots, wait_for};

/// Floats may differ in the last digits: sums are associative only in exact types.
const FLOAT_TOLERANCE: f64 = 1e-9;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn queries() -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> =
        fs::read_dir(folder().join("queries")).unwrap().map(|entry| entry.unwrap().path()).collect();
    // Beside the queries stand the files they are joined with.
    files.retain(|file| file.extension().is_some_and(|extension| extension == "sql"));
    files.sort();
    assert!(files.len() >= 12, "only {} golden queries", files.len());
    files
}

fn name(query: &Path) -> &str {
    query.file_stem().unwrap().to_str().unwrap()
}

fn scratch() -> Scratch {
    Scratch::new().set(&format!("queries.dir={}", folder().join("queries").display()))
}

/// Rows as sorted lines of cells.
fn rows(csv: &str) -> Vec<Vec<String>> {
    let mut reader = csv::Reader::from_reader(csv.as_bytes());
    let mut rows: Vec<Vec<String>> =
        reader.records().map(|row| row.unwrap().iter().map(str::to_owned).collect()).collect();
    rows.sort();
    rows
}

fn assert_same(what: &str, query: &str, csv: &str) {
    let expected = rows(&fs::read_to_string(folder().join(format!("expected/{query}.csv"))).unwrap());
    let found = rows(csv);
    assert!(!expected.is_empty(), "{query}: nothing is expected");
    assert_eq!(found.len(), expected.len(), "{query}, {what}: number of rows");
    for (found, expected) in found.iter().zip(&expected) {
        let same = found.len() == expected.len() && found.iter().zip(expected).all(|(a, b)| same_cell(a, b));
        assert!(same, "{query}, {what}:\n found    {found:?}\n expected {expected:?}");
    }
}

/// Counts and money are exact; only the columns of a float (more digits than any decimal here has) may differ.
fn same_cell(a: &str, b: &str) -> bool {
    let decimals = |text: &str| text.split_once('.').map_or(0, |(_, decimals)| decimals.len());
    if a == b || decimals(a).max(decimals(b)) <= 6 {
        return a == b;
    }
    match (a.parse::<f64>(), b.parse::<f64>()) {
        (Ok(x), Ok(y)) => (x - y).abs() <= FLOAT_TOLERANCE * x.abs().max(y.abs()),
        _ => false,
    }
}

fn assert_tables(what: &str, scratch: &Scratch) {
    for query in queries() {
        let query = name(&query);
        let csv = scratch.must(&["sql", &format!("select * from {query}"), "--format", "csv"]);
        assert_same(what, query, &csv);
    }
}

fn input() -> String {
    folder().join("input.ndjson").display().to_string()
}

#[test]
fn live() {
    let scratch = scratch().set("commit.interval=100ms");
    let summary = scratch.summary(&["--source", &input(), "--pace", "600"]);
    assert!(summary["epochs"].as_u64() > Some(2), "the windows did not close on the way: {summary}");
    assert_tables("live", &scratch);
    scratch.must(&["audit"]);
}

#[test]
fn as_batch() {
    let scratch = scratch();
    scratch.summary(&["--source", &input()]);
    for query in queries() {
        let csv = scratch.must(&["batch", query.to_str().unwrap(), "--format", "csv"]);
        assert_same("batch", name(&query), &csv);
    }
}

#[test]
fn stopped_and_resumed() {
    let scratch = scratch().set("commit.interval=100ms");
    let mut stops = 0;
    // Stop in order after a few more slots (the first is the fence), how many depends on the seed; then run to the end.
    let seed = seed("LAKEWARD_STOPS_SEED");
    for more in [2 + seed % 3, 2 + seed / 3 % 3, 2 + seed / 9 % 3] {
        let before = slots(&scratch.lake());
        let mut job = scratch.spawn("job", &["run", "--source", &input(), "--pace", "300"]);
        if !wait_for(&mut job, || slots(&scratch.lake()) >= before + more) {
            break;
        }
        interrupt(&job);
        let ended = job.wait().unwrap();
        // Stopped in order, but before the end of the input: that is no success.
        assert_eq!(ended.code(), Some(1), "{}", fs::read_to_string(scratch.path("job.err")).unwrap());
        stops += 1;
    }
    assert!(stops >= 1, "the job was never stopped on its way");
    scratch.summary(&["--source", &input()]);
    assert_tables("resumed", &scratch);
    scratch.must(&["audit"]);
}
