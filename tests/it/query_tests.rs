//! `lakeward test`: what users see when their queries are right, wrong, and not tested.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::{Scratch, text};

fn shipped() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("queries")
}

/// A copy of one shipped query and its cases.
fn copy(scratch: &Scratch, query: &str) -> PathBuf {
    let folder = scratch.path("queries");
    fs::create_dir(&folder).unwrap();
    fs::copy(shipped().join(format!("{query}.sql")), folder.join(format!("{query}.sql"))).unwrap();
    for case in fs::read_dir(shipped().join(format!("{query}.test"))).unwrap().map(|entry| entry.unwrap()) {
        let to = folder.join(format!("{query}.test")).join(case.file_name());
        fs::create_dir_all(&to).unwrap();
        for file in fs::read_dir(case.path()).unwrap().map(|entry| entry.unwrap()) {
            fs::copy(file.path(), to.join(file.file_name())).unwrap();
        }
    }
    folder
}

#[test]
fn every_shipped_query_has_tests_and_passes_them() {
    let scratch = Scratch::new();
    let said = scratch.must(&["test"]);
    assert!(said.ends_with("all as expected\n"), "{said}");
    assert!(!scratch.lake().exists(), "the configured lake must not be touched");
    for file in fs::read_dir(shipped()).unwrap().map(|entry| entry.unwrap().path()) {
        let is_query = file.extension().is_some_and(|extension| extension == "sql");
        let name = file.file_stem().unwrap().to_str().unwrap();
        assert!(!is_query || said.contains(&format!("{name}/")), "{name} has no test:\n{said}");
    }
}

#[test]
fn a_wrong_query_fails_cell_by_cell_in_all_its_lives() {
    let scratch = Scratch::new();
    let folder = copy(&scratch, "state_minute");
    let file = folder.join("state_minute.sql");
    let wrong = fs::read_to_string(&file).unwrap().replace("sum(amount) AS amount", "sum(amount) + 1 AS amount");
    fs::write(&file, wrong).unwrap();
    let output = scratch.run(&["test", folder.to_str().unwrap()]);
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{said}{}", text(&output.stderr));
    for line in
        ["state_minute/duplicates_and_restart: FAILED", " live, rows: 3 differ", " resumed, rows: 3", " batch, rows: 3"]
    {
        assert!(said.contains(line), "no `{line}` in\n{said}");
    }
    assert!(said.contains("amount: expected 10.05, found 11.05"), "{said}");
    // Blessed, the wrong rows are the expected ones.
    let blessed = scratch.must(&["test", file.to_str().unwrap(), "--bless"]);
    assert!(blessed.contains("blessed"), "{blessed}");
    scratch.must(&["test", folder.to_str().unwrap()]);
    let case = folder.join("state_minute.test/duplicates_and_restart/expected.csv");
    assert!(fs::read_to_string(case).unwrap().contains("11.05"));
}

#[test]
fn what_cannot_be_run_is_a_usage_error_that_names_the_case() {
    let scratch = Scratch::new();
    let folder = copy(&scratch, "fraud_alerts");
    let case = folder.join("fraud_alerts.test/only_labelled");
    let refused = |what: &str| {
        let output = scratch.run(&["test", folder.to_str().unwrap()]);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(what), "no `{what}` in {said}");
    };
    fs::rename(case.join("expected.csv"), scratch.path("expected.csv")).unwrap();
    refused("fraud_alerts/only_labelled: could not be run");
    fs::write(case.join("expected.csv"), "amount\nmuch\n").unwrap();
    refused("expected.csv`:2: `much` is no Decimal128(20, 2) for `amount`");
    fs::remove_dir_all(folder.join("fraud_alerts.test")).unwrap();
    refused("no tests in `");
}
