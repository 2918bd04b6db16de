//! `lakeward lake check` on our own tables: nothing is found, whether the log is read from its beginning or from a
//! checkpoint; and what is broken is named with its remedy.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use crate::support::{Scratch, text};

/// Rows of one page, each an epoch: enough epochs for checkpoints, few enough that no partition has many small files.
const EPOCHS: [&str; 3] = ["commit.rows_max=300", "commit.checkpoint_every=2", "commit.interval=1h"];

fn lived() -> Scratch {
    let scratch = EPOCHS.iter().fold(Scratch::new(), |scratch, setting| scratch.set(setting));
    let scratch = scratch.set("reconcile.enabled=false").set("simulate.cards=40");
    let file = scratch.path("in.csv");
    scratch.must(&["simulate", "--rows", "1500", "--out", file.to_str().unwrap()]);
    scratch.summary(&["--source", file.to_str().unwrap(), "--pace", "4000"]);
    scratch
}

fn report(scratch: &Scratch) -> Value {
    serde_json::from_str(scratch.must(&["lake", "check", "--json"]).trim()).unwrap()
}

/// Commits of a table's log, oldest first.
fn commits(scratch: &Scratch, table: &str) -> Vec<PathBuf> {
    let log = fs::read_dir(scratch.lake().join(table).join("_delta_log")).unwrap();
    let paths = log.map(|entry| entry.unwrap().path());
    let mut commits: Vec<_> = paths.filter(|path| path.extension().is_some_and(|e| e == "json")).collect();
    commits.sort();
    commits
}

#[test]
fn our_own_tables_break_no_rule_and_checkpoints_say_what_commits_say() {
    let scratch = lived();
    let found = report(&scratch);
    let tables = found.as_object().unwrap();
    assert!(tables.contains_key("transactions") && tables.contains_key("epochs") && tables.len() > 5, "{found}");
    for (table, linted) in tables {
        assert_eq!(linted["findings"], serde_json::json!([]), "{table}");
    }
    assert_eq!(found["transactions"]["rows"], 1_500);
    let before = commits(&scratch, "transactions");
    let checkpoint = before[0].parent().unwrap().join("_last_checkpoint");
    let last: Value = serde_json::from_str(&fs::read_to_string(checkpoint).unwrap()).unwrap();
    for commit in before.iter().take(usize::try_from(last["version"].as_u64().unwrap()).unwrap()) {
        fs::remove_file(commit).unwrap();
    }
    assert!(commits(&scratch, "transactions").len() < before.len(), "no commit lay behind a checkpoint");
    assert_eq!(report(&scratch)["transactions"], found["transactions"]);
}

#[test]
fn a_broken_table_is_named_with_what_readers_do_and_what_mends_it() {
    let scratch = lived();
    let table = scratch.lake().join("city_minute");
    let partition = fs::read_dir(&table).unwrap().map(|entry| entry.unwrap().path());
    let partition = partition.into_iter().find(|path| path.to_str().unwrap().contains("event_date=")).unwrap();
    let file = fs::read_dir(&partition).unwrap().next().unwrap().unwrap().path();
    fs::remove_file(&file).unwrap();
    fs::write(table.join("notes.txt"), "?").unwrap();
    // By name, by folder, and as one of the lake's tables.
    for args in [vec!["city_minute"], vec![table.to_str().unwrap()], vec![]] {
        let output = scratch.run(&[vec!["lake", "check"], args.clone()].concat());
        let said = text(&output.stdout);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {said}{}", text(&output.stderr));
        let name = file.file_name().unwrap().to_str().unwrap();
        for part in ["error[missing-file]", name, "error[junk]", "`notes.txt`", "remedy:"] {
            assert!(said.contains(part), "no `{part}` for {args:?} in\n{said}");
        }
    }
    let rules = scratch.must(&["lake", "check", "--rules"]);
    assert!(rules.contains("deletion-vector (error)") && rules.contains("remedy:"), "{rules}");
    for missing in ["no_such_table", "./no/such/folder"] {
        let output = scratch.run(&["lake", "check", missing]);
        assert_eq!(output.status.code(), Some(2));
        assert!(text(&output.stderr).contains(missing), "{}", text(&output.stderr));
        assert!(!PathBuf::from(missing).exists(), "asking for a folder must not make it");
    }
}
