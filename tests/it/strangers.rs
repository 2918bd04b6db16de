//! The linter on tables other writers made (`tests/readers/strangers.py`): what is wrong is found, and nothing else.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::support::{Scratch, strangers, text};

/// Tables with the rules they break; those that break none are listed, too, so that a false finding has a name.
const EXPECTED: &[(&str, &[&str])] = &[("plain", &[])];

#[test]
fn strangers_tables_are_judged_by_what_they_are() {
    let scratch = Scratch::new();
    let lake = scratch.lake();
    let written = strangers(&lake);
    let output = scratch.run(&["lake", "check", lake.to_str().unwrap(), "--json"]);
    let said = text(&output.stdout);
    let report: Value = serde_json::from_str(said.trim()).unwrap_or_else(|e| panic!("{e}: {}", text(&output.stderr)));
    let report = report.as_object().unwrap();
    let mut wrong = Vec::new();
    let expected: BTreeMap<&str, BTreeSet<&str>> =
        EXPECTED.iter().map(|(table, rules)| (*table, rules.iter().copied().collect())).collect();
    for (table, error) in &written {
        assert!(error.is_null(), "`{table}` was not written: {error}");
        let Some(linted) = report.get(table) else { panic!("`{table}` was not judged") };
        let findings = linted["findings"].as_array().unwrap();
        let found: BTreeSet<&str> = findings.iter().map(|finding| finding["rule"].as_str().unwrap()).collect();
        match expected.get(table.as_str()) {
            Some(rules) if *rules == found => {}
            rules => wrong.push(format!("{table}: expected {rules:?}, found {}", linted["findings"])),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(written.len(), expected.len(), "a table that is expected was not written");
}
