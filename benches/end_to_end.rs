//! The whole job: files, or a replay through the embedded stream, to committed Delta tables.
//!
//! `cargo bench --bench end_to_end [-- ROWS [FILE…]]` prints rows a second, megabytes a second and the peak of resident memory
//! for each input. Without files it simulates its own: NDJSON of about 500 bytes a record, fifty transactions a second of event
//! time, as the README's table has it. The same rows go through files and through the stream.
//! Figures of one run on one machine: compare ratios within a run, not runs of different days.

#![expect(clippy::print_stdout, reason = "a bench prints its figures")]

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Rows simulated unless told otherwise.
const ROWS: u64 = 1_000_000;
/// Files, each one shard, the simulated rows are dealt to.
const SHARDS: usize = 4;
/// Times each input is run; the best counts, all are shown.
const RUNS: usize = 3;
/// Transactions a second of event time. The data set's own pace, two a minute, would measure how fast windows of a row close.
const RATE: i64 = 50;
/// When the first one happens: 2020-06-21 18:00:00, seconds since 1970.
const START: i64 = 1_592_762_400;
/// What stands before a row's time.
const BEFORE_TIME: &str = "{\"trans_date_trans_time\":\"";
/// How that is written.
const TIME: &str = "%Y-%m-%d %H:%M:%S";

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let rows = arguments.first().map_or(ROWS, |rows| rows.parse().expect("a number of rows"));
    let files: Vec<PathBuf> = match arguments.get(1..) {
        Some(given) if !given.is_empty() => given.iter().map(PathBuf::from).collect(),
        _ => simulated(folder.path(), rows),
    };
    let sources: Vec<&str> = files.iter().map(|f| f.to_str().expect("a UTF-8 path")).collect();
    let megabytes = files.iter().map(|f| std::fs::metadata(f).expect("a file").len()).sum::<u64>() as f64 / 1e6;
    for run in 0..RUNS {
        let mut arguments = vec!["--source"];
        arguments.extend(&sources);
        report(&format!("files, run {run}"), folder.path(), &arguments, megabytes);
    }
    let whole = folder.path().join("replayed.ndjson");
    std::fs::write(&whole, interleaved(&files)).expect("a writable folder");
    for run in 0..RUNS {
        let arguments = ["--replay", whole.to_str().expect("a UTF-8 path")];
        report(&format!("embedded stream, run {run}"), folder.path(), &arguments, megabytes);
    }
}

/// Simulated rows, dealt to the shards one by one so that all cover the same time.
fn simulated(folder: &Path, rows: u64) -> Vec<PathBuf> {
    let whole = folder.join("all.ndjson");
    let spec = lakeward::simulate::FileSpec::new(rows, 7);
    lakeward::simulate::write_file(&whole, &spec).expect("a writable folder");
    let text = std::fs::read_to_string(&whole).expect("text");
    let mut shards = vec![String::new(); SHARDS];
    for ((row, line), second) in text.lines().enumerate().zip((0..).map(|row| START + row / RATE)) {
        let time = chrono::DateTime::from_timestamp(second, 0).expect("a time").format(TIME).to_string();
        let rest =
            line.strip_prefix(BEFORE_TIME).and_then(|rest| rest.get(time.len()..)).expect("a row's time comes first");
        shards[row % SHARDS].extend([BEFORE_TIME, &time, rest, "\n"]);
    }
    let write = |(n, text): (usize, String)| {
        let path = folder.join(format!("shard-{n}.ndjson"));
        std::fs::write(&path, text).expect("a writable folder");
        path
    };
    shards.into_iter().enumerate().map(write).collect()
}

/// The rows of all files in the order of their time: one of each in turn, as they were dealt.
fn interleaved(files: &[PathBuf]) -> String {
    let texts: Vec<String> = files.iter().map(|file| std::fs::read_to_string(file).expect("text")).collect();
    let mut lines: Vec<_> = texts.iter().map(|text| text.lines()).collect();
    let mut whole = String::with_capacity(texts.iter().map(String::len).sum());
    loop {
        let length = whole.len();
        for line in lines.iter_mut().filter_map(Iterator::next) {
            whole.extend([line, "\n"]);
        }
        if whole.len() == length {
            return whole;
        }
    }
}

/// Runs the binary as a process of its own on a fresh lake and prints its figures.
fn report(name: &str, folder: &Path, arguments: &[&str], megabytes: f64) {
    let lake = folder.join("lake");
    let _ = std::fs::remove_dir_all(&lake);
    let begun = std::time::Instant::now();
    let output = Command::new(env!("CARGO_BIN_EXE_lakeward"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("LAKEWARD_TOKEN_KEY", "00".repeat(32))
        .args(["run", "--until-caught-up", "--json", "--set"])
        .arg(format!("lake.url={}", lake.display()))
        .args(arguments)
        .output()
        .expect("the binary starts");
    let seconds = begun.elapsed().as_secs_f64();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let summary: Value = serde_json::from_slice(&output.stdout).expect("a summary");
    let rows = summary["written"].as_f64().expect("rows");
    println!(
        "{name:<24} {rows:>9} rows  {:>9.0} rows/s  {:>6.1} MB/s  {seconds:>6.2} s as a process  {:>5} MB at most  {} late",
        rows / seconds,
        megabytes / seconds,
        summary["memory_peak_bytes"].as_u64().unwrap_or(0) / 1_000_000,
        summary["late"]
    );
}
