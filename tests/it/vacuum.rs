//! A lake after months: old files and commits are gone, and every reader, the audit among them, finds what it found before.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::manifests::assert_spectrum_reads_the_tables;
use crate::support::{Scratch, duckdb, text};

const TABLES: [&str; 4] = ["transactions", "city_minute", "rejects", "epochs"];

/// A lake whose windows were restated: every second row first, then the others, late.
fn lived() -> (Scratch, PathBuf) {
    let settings = ["commit.rows_max=300", "commit.interval=1h", "commit.checkpoint_every=2", "simulate.cards=40"];
    let scratch = settings.iter().fold(Scratch::new(), |scratch, setting| scratch.set(setting));
    let scratch = scratch.set("reconcile.enabled=false");
    let queries = scratch.path("queries");
    fs::create_dir_all(&queries).unwrap();
    let city = Path::new(env!("CARGO_MANIFEST_DIR")).join("queries/city_minute.sql");
    fs::copy(city, queries.join("city_minute.sql")).unwrap();
    let scratch = scratch.set(&format!("queries.dir={}", queries.display()));
    let file = scratch.simulated("all.csv", 3_000);
    let all = fs::read_to_string(&file).unwrap();
    let (header, rows) = all.split_once("\r\n").unwrap();
    for part in 0..2 {
        let lines: Vec<&str> = rows.lines().skip(part).step_by(2).collect();
        let path = scratch.path(&format!("half-{part}.csv"));
        fs::write(&path, format!("{header}\r\n{}\r\n", lines.join("\r\n"))).unwrap();
        scratch.summary(&["--source", path.to_str().unwrap(), "--pace", "4000", "--allow-late"]);
    }
    scratch.must(&["lake", "reconcile"]);
    (scratch, file)
}

fn walk(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() { found.extend(walk(&entry)) } else { found.push(entry) }
    }
    found
}

/// A month passes.
pub fn age(folder: &Path) {
    let then = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    for path in walk(folder) {
        fs::File::options().write(true).open(path).unwrap().set_modified(then).unwrap();
    }
}

/// Data files in the store, and in the newest version of each log as DuckDB sees it.
fn files(scratch: &Scratch) -> BTreeSet<PathBuf> {
    let is_data =
        |path: &PathBuf| path.to_str().unwrap().contains("date=") && path.extension().is_some_and(|e| e == "parquet");
    TABLES.iter().flat_map(|table| walk(&scratch.lake().join(table))).filter(is_data).collect()
}

fn rows(scratch: &Scratch) -> Vec<Vec<Value>> {
    let counts = TABLES.map(|table| format!("(SELECT count(*) FROM {})", scratch.delta(table)));
    duckdb(&format!("SELECT {}", counts.join(", ")))
}

fn commits(scratch: &Scratch, table: &str) -> usize {
    let log = fs::read_dir(scratch.lake().join(table).join("_delta_log")).unwrap();
    log.filter(|entry| entry.as_ref().unwrap().path().extension().is_some_and(|e| e == "json")).count()
}

#[test]
fn old_files_and_commits_go_and_audit_check_and_readers_find_what_they_found() {
    let (scratch, file) = lived();
    let before = rows(&scratch);
    scratch.must(&["audit"]);
    let orphan = scratch.lake().join("transactions/event_date=2026-11-23/part-orphan.snappy.parquet");
    fs::create_dir_all(orphan.parent().unwrap()).unwrap();
    fs::write(&orphan, "PAR1").unwrap();
    let all = files(&scratch);
    // Nothing is old yet.
    scratch.must(&["lake", "vacuum", "--full"]);
    assert_eq!(files(&scratch), all);
    let said = scratch.must(&["lake", "checkpoint", "city_minute"]);
    assert!(said.starts_with("city_minute: checkpoint at version "), "{said}");
    for table in TABLES {
        age(&scratch.lake().join(table));
    }
    let dry: Value = serde_json::from_str(&scratch.must(&["lake", "vacuum", "--full", "--dry-run", "--json"])).unwrap();
    assert_eq!(files(&scratch), all);
    let done: Value = serde_json::from_str(&scratch.must(&["lake", "vacuum", "--full", "--json"])).unwrap();
    assert_eq!(dry, done);
    assert!(done["city_minute"]["removed"].as_u64().unwrap() > 0, "no window was restated: {done}");
    assert_eq!((&done["transactions"]["orphans"], &done["transactions"]["orphan_bytes"]), (&1.into(), &4.into()));
    assert!(!orphan.exists());
    let gone = done
        .as_object()
        .unwrap()
        .values()
        .map(|table| table["removed"].as_u64().unwrap() + table["orphans"].as_u64().unwrap());
    assert_eq!(all.len() - files(&scratch).len(), usize::try_from(gone.sum::<u64>()).unwrap());
    for table in ["transactions", "city_minute", "epochs"] {
        assert!(done[table]["log_objects"].as_u64().unwrap() > 0 && commits(&scratch, table) <= 3, "{table}: {done}");
    }
    assert_eq!(rows(&scratch), before);
    assert_spectrum_reads_the_tables(&scratch, &TABLES[..2]);
    let check: Value = serde_json::from_str(&scratch.must(&["lake", "check", "--json"])).unwrap();
    for (table, linted) in check.as_object().unwrap() {
        assert_eq!(linted["findings"], serde_json::json!([]), "{table}");
    }
    // The audit takes from the slots what was in commits: as many files and rows in its books as there are.
    let audit: Value = serde_json::from_str(&scratch.must(&["audit", "--json"])).unwrap();
    assert_eq!(audit["tables"]["transactions"]["rows"], before[0][0], "{audit}");
    // The same again deletes nothing, and the job goes on.
    let again: Value = serde_json::from_str(&scratch.must(&["lake", "vacuum", "--full", "--json"])).unwrap();
    for (table, done) in again.as_object().unwrap() {
        assert_eq!((&done["removed"], &done["orphans"]), (&0.into(), &0.into()), "{table}: {again}");
    }
    let summary = scratch.summary(&["--source", file.to_str().unwrap(), "--allow-late"]);
    assert_eq!(summary["duplicates"], 3_000, "{summary}");
    scratch.must(&["audit"]);
}

#[test]
fn files_of_a_decided_epoch_and_files_before_their_manifests_stay() {
    let (scratch, _) = lived();
    for table in TABLES {
        age(&scratch.lake().join(table));
    }
    // The manifests of a table stand before its newest removal.
    let state = scratch.lake().join("city_minute/_symlink_format_manifest/_state.json");
    let recorded = fs::read_to_string(&state).unwrap();
    let mut lagging: Value = serde_json::from_str(&recorded).unwrap();
    lagging["version"] = 1.into();
    fs::write(&state, lagging.to_string()).unwrap();
    let before = files(&scratch);
    let refused = scratch.run(&["lake", "vacuum", "--full", "city_minute"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stdout).contains("its manifests stand at version 1"), "{}", text(&refused.stdout));
    assert_eq!(files(&scratch), before);
    // The newest commits are undone, as if the job had died between deciding and publishing, a month ago.
    fs::write(&state, recorded).unwrap();
    let log = scratch.lake().join("city_minute/_delta_log");
    let version = format!("{:020}", commits(&scratch, "city_minute") - 1);
    fs::remove_dir_all(scratch.lake().join("city_minute/_symlink_format_manifest")).unwrap();
    for name in fs::read_dir(&log).unwrap().map(|entry| entry.unwrap().path()) {
        let of_it = name.file_name().unwrap().to_str().unwrap().starts_with(&version);
        if of_it || name.ends_with("_last_checkpoint") {
            fs::remove_file(name).unwrap();
        }
    }
    let kept = scratch.must(&["lake", "vacuum", "--full", "--json", "city_minute"]);
    let summary_of = serde_json::from_str::<Value>(&kept).unwrap();
    assert_eq!(summary_of["city_minute"]["orphans"], 0, "{kept}");
}
