//! The linter on tables other writers made (`tests/readers/strangers.py`): what is wrong is found, and nothing else.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::support::{Scratch, strangers, text};

/// Tables with the rules they break.
const BREAKING: &[(&str, &[&str])] = &[
    ("applications", &["application"]),
    ("brotli", &["compression"]),
    ("by_polars_with_its_types", &["column-type", "file-time", "protocol"]),
    ("bytes_and_small_decimals", &["column-type", "small-decimal"]),
    ("change_data_feed", &["protocol"]),
    ("checkpointed", &["checkpoint-codec"]),
    ("checkpointed_and_cleaned", &["checkpoint-codec", "property"]),
    ("checkpointed_in_parts", &["checkpoint"]),
    ("checkpoints_of_version_2", &["checkpoint-codec", "property"]),
    ("column_mapping", &["file-column", "folder", "property", "protocol"]),
    ("compacted_by_default", &["compression"]),
    ("constrained", &["protocol"]),
    ("converted", &["page-index"]),
    ("converted_int96", &["file-statistics", "page-index"]),
    ("converted_nanoseconds", &["file-time", "page-index"]),
    ("converted_pages_of_version_2", &["encoding", "page-index"]),
    ("converted_unsigned", &["page-index", "unsigned"]),
    ("deletion_vectors_allowed", &["property", "protocol"]),
    ("many_small_files", &["small-files"]),
    ("naive_times", &["column-type", "file-time", "protocol"]),
    ("nested", &["nested-column"]),
    ("null_partition", &["partition-value"]),
    ("odd_names", &["column-name"]),
    ("odd_partitions", &["partition-value"]),
    ("partitioned_by_a_time", &["partition-column", "partition-value"]),
    ("unsigned", &["column-type"]),
    ("wide_and_checkpointed", &["checkpoint-codec"]),
    ("with_manifests_of_a_folder", &["manifest"]),
    ("with_stale_manifests", &["manifest"]),
    ("without_statistics", &["log-statistics"]),
    ("zstd", &["compression"]),
];

/// Tables every reader reads; listed, so that a false finding has a name.
const SOUND: &[&str] = &[
    "append_only",
    "appended",
    "by_polars",
    "compacted_and_vacuumed",
    "deleted_updated_merged",
    "emptied",
    "empty",
    "gzip",
    "lists",
    "logs_compacted",
    "milliseconds_of_a_zone",
    "nanoseconds",
    "other_strings",
    "overwritten",
    "plain",
    "replaced_where",
    "restored",
    "two_partition_columns",
    "unpartitioned",
    "widened_by_a_column",
    "with_bloom_filters",
    "with_manifests",
    "z_ordered",
];

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
    let sound = SOUND.iter().map(|table| (*table, BTreeSet::new()));
    let breaking = BREAKING.iter().map(|(table, rules)| (*table, rules.iter().copied().collect()));
    let expected: BTreeMap<&str, BTreeSet<&str>> = sound.chain(breaking).collect();
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
