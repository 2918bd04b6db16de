//! The whole job: files, or a replay through the embedded stream, to committed Delta tables.
//!
//! `cargo bench --profile dist --bench end_to_end [-- ROWS [FILE…]]` prints rows a second, megabytes a second and the peak
//! of resident memory for each input. Without files it simulates its own; NDJSON of about 500 bytes a record.
//! Figures of one run on one machine: compare ratios within a run, not runs of different days.

#![expect(clippy::print_stdout, reason = "a bench prints its figures")]

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Rows simulated unless told otherwise.
const ROWS: u64 = 500_000;
/// Files, each one shard, the simulated rows are dealt to.
const SHARDS: usize = 4;
/// Times each input is run; the best counts, all are shown.
const RUNS: usize = 3;
/// Rows of the replay: the embedded stream is for correctness, not for speed.
const REPLAYED_ROWS: usize = 200_000;

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
    let part = folder.path().join("replayed.ndjson");
    let head: String = std::fs::read_to_string(&files[0]).expect("text").lines().take(REPLAYED_ROWS).fold(
        String::new(),
        |mut text, line| {
            text.push_str(line);
            text.push('\n');
            text
        },
    );
    std::fs::write(&part, &head).expect("a writable folder");
    for run in 0..RUNS {
        let arguments = ["--replay", part.to_str().expect("a UTF-8 path")];
        report(&format!("embedded stream, run {run}"), folder.path(), &arguments, head.len() as f64 / 1e6);
    }
}

/// Simulated rows, dealt to the shards one by one so that all cover the same time.
fn simulated(folder: &Path, rows: u64) -> Vec<PathBuf> {
    let whole = folder.join("all.ndjson");
    let spec = lakeward::simulate::FileSpec::new(rows, 7);
    lakeward::simulate::write_file(&whole, &spec).expect("a writable folder");
    let text = std::fs::read_to_string(&whole).expect("text");
    let mut shards = vec![String::new(); SHARDS];
    for (row, line) in text.lines().enumerate() {
        shards[row % SHARDS].push_str(line);
        shards[row % SHARDS].push('\n');
    }
    let write = |(n, text): (usize, String)| {
        let path = folder.join(format!("shard-{n}.ndjson"));
        std::fs::write(&path, text).expect("a writable folder");
        path
    };
    shards.into_iter().enumerate().map(write).collect()
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
