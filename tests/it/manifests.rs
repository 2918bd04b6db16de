//! Manifests of the real job: what Spectrum would read is what the logs say, whenever the job was killed.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::{Scratch, duckdb, interrupt, slots, text, wait_for};

/// Every page an epoch, and two queries: one whose windows are restated, one that writes as rows come.
fn scratch() -> Scratch {
    let settings = ["commit.rows_max=300", "commit.interval=1h", "commit.checkpoint_every=3", "simulate.cards=40"];
    let scratch = settings.iter().fold(Scratch::new(), |scratch, setting| scratch.set(setting));
    let queries = scratch.path("queries");
    fs::create_dir_all(&queries).unwrap();
    for query in ["city_minute", "fraud_alerts"] {
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("queries/{query}.sql"));
        fs::copy(shipped, queries.join(format!("{query}.sql"))).unwrap();
    }
    scratch.set(&format!("queries.dir={}", queries.display()))
}

const TABLES: [&str; 4] = ["transactions", "city_minute", "fraud_alerts", "epochs"];

/// Files a table's manifests name, as DuckDB's list.
fn named(scratch: &Scratch, table: &str) -> (usize, String) {
    let folder = scratch.lake().join(table).join("_symlink_format_manifest");
    let mut files = Vec::new();
    for partition in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()) {
        let manifest = fs::read_to_string(partition.join("manifest")).unwrap();
        files.extend(manifest.lines().map(|uri| format!("'{}'", uri.strip_prefix("file://").unwrap())));
    }
    (files.len(), format!("[{}]", files.join(", ")))
}

/// What DuckDB reads from exactly the manifests' files is what its own Delta reader sees.
pub fn assert_spectrum_reads_the_tables(scratch: &Scratch, tables: &[&str]) {
    for table in tables {
        let (count, files) = named(scratch, table);
        assert!(count > 0, "{table}: the manifests name nothing");
        let rows = format!("SELECT * FROM read_parquet({files}, hive_partitioning = true)");
        let columns = "* EXCLUDE (event_date)".replace("event_date", by(table));
        let left = format!("SELECT {columns}, CAST({0} AS DATE) AS d FROM ({rows})", by(table));
        let right = format!("SELECT {columns}, CAST({0} AS DATE) AS d FROM {1}", by(table), scratch.delta(table));
        assert_eq!(crate::oracle::differences(&left, &right), 0, "{table}");
    }
}

fn by(table: &str) -> &'static str {
    match table {
        "epochs" => "commit_date",
        "rejects" => "arrival_date",
        _ => "event_date",
    }
}

/// Whatever is found in any table.
fn findings(scratch: &Scratch) -> Vec<Value> {
    let output = scratch.run(&["lake", "check", "--json"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", text(&output.stderr)));
    report.as_object().unwrap().values().flat_map(|linted| linted["findings"].as_array().unwrap().clone()).collect()
}

fn manifests(scratch: &Scratch, table: &str) -> Vec<PathBuf> {
    let folder = scratch.lake().join(table).join("_symlink_format_manifest");
    let partitions = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    partitions.filter(|path| path.is_dir()).map(|path| path.join("manifest")).collect()
}

#[test]
fn killed_again_and_again_manifests_never_dangle_and_the_end_is_what_delta_says() {
    let scratch = scratch();
    let file = scratch.simulated("in.csv", 6_000);
    let args = ["run", "--source", file.to_str().unwrap(), "--pace", "3000", "--until-caught-up"];
    for round in 0..8 {
        let before = slots(&scratch.lake());
        let mut job = scratch.spawn("job", &args);
        let aimed = wait_for(&mut job, || slots(&scratch.lake()) > before + 2);
        if aimed {
            std::thread::yield_now();
            job.kill().unwrap();
        }
        job.wait().unwrap();
        let dangling = |finding: &Value| {
            let what = finding["what"].as_str().unwrap();
            finding["rule"] == "missing-file" || (finding["rule"] == "manifest" && what.contains("not there"))
        };
        let found: Vec<Value> = findings(&scratch).into_iter().filter(dangling).collect();
        assert!(found.is_empty(), "after kill {round}: {found:?}");
    }
    scratch.must(&args);
    assert_eq!(findings(&scratch), Vec::<Value>::new());
    assert_spectrum_reads_the_tables(&scratch, &TABLES);
}

#[test]
fn by_hand_manifests_are_mended_while_no_job_runs_and_only_then() {
    let scratch = scratch();
    let file = scratch.simulated("in.csv", 3_000);
    scratch.summary(&["--source", file.to_str().unwrap()]);
    let lost = manifests(&scratch, "city_minute").remove(0);
    let right = fs::read_to_string(&lost).unwrap();
    fs::write(&lost, "").unwrap();
    fs::remove_file(&lost).unwrap();
    assert!(!findings(&scratch).is_empty());
    let said = scratch.must(&["lake", "manifest", "city_minute"]);
    assert!(said.contains(": 1 manifests written"), "{said}");
    assert_eq!(fs::read_to_string(&lost).unwrap(), right);
    assert_eq!(findings(&scratch), Vec::<Value>::new());
    let unknown = scratch.run(&["lake", "manifest", "city_minut"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(text(&unknown.stderr).contains("did you mean `city_minute`"), "{}", text(&unknown.stderr));
    let json: Value = serde_json::from_str(&scratch.must(&["lake", "manifest", "--json"])).unwrap();
    assert_eq!(json["transactions"]["manifests"], 0, "{json}");

    // A stranger's file with a deletion vector in the log: no manifest is made from it.
    let log = scratch.lake().join("fraud_alerts/_delta_log");
    let commits =
        fs::read_dir(&log).unwrap().filter(|e| e.as_ref().unwrap().path().extension().is_some_and(|e| e == "json"));
    let next = log.join(format!("{:020}.json", commits.count()));
    let add = r#"{"add":{"path":"event_date=2026-11-23/x.parquet","partitionValues":{"event_date":"2026-11-23"},"size":1,"modificationTime":1,"dataChange":true,"deletionVector":{"storageType":"u","pathOrInlineDv":"ab^-aqEH.-t@S}K{vb[*k^","offset":4,"sizeInBytes":40,"cardinality":6}}}"#;
    fs::write(&next, format!("{add}\n")).unwrap();
    let refused = scratch.run(&["lake", "manifest", "fraud_alerts"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused.stderr).contains("deletion vector"), "{}", text(&refused.stderr));
    fs::remove_file(next).unwrap();

    let mut job = scratch.spawn("job", &["run", "--set", "simulate.rate=100", "--set", "stream.name=other"]);
    let before = slots(&scratch.lake());
    assert!(
        wait_for(&mut job, || slots(&scratch.lake()) > before),
        "{}",
        fs::read_to_string(scratch.path("job.err")).unwrap()
    );
    let refused = scratch.run(&["lake", "manifest"]);
    interrupt(&job);
    job.wait().unwrap();
    assert_eq!(refused.status.code(), Some(75), "{}", text(&refused.stderr));
    assert!(text(&refused.stderr).contains("a running job writes manifests"), "{}", text(&refused.stderr));
}

#[test]
fn a_start_writes_the_manifests_a_lake_never_had() {
    let scratch = scratch();
    let file = scratch.simulated("in.csv", 1_500);
    let args = ["--source", file.to_str().unwrap()];
    scratch.summary(&args);
    for table in TABLES {
        fs::remove_dir_all(scratch.lake().join(table).join("_symlink_format_manifest")).unwrap();
    }
    scratch.summary(&args);
    assert_eq!(findings(&scratch), Vec::<Value>::new());
    assert_spectrum_reads_the_tables(&scratch, &TABLES);
    let rows = duckdb(&format!("SELECT count(*) FROM read_parquet({})", named(&scratch, "transactions").1));
    assert_eq!(rows[0][0], 1_500);
}
