//! A query's allowed lateness is edited: it goes on, and what it had closed when it came stays what its first slot says.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::Scratch;

/// A query of windows, and one of sessions, that wait so long.
fn write(scratch: &Scratch, lateness: &str) {
    let select = |name: &str, window: &str| {
        let text = format!(
            "CREATE MATERIALIZED VIEW {name} WITH (allowed_lateness = '{lateness}') AS SELECT window_start, window_end, \
             CAST(window_start AS DATE) AS event_date, state, count(*) AS n FROM {window} \
             GROUP BY window_start, window_end, state;"
        );
        fs::write(scratch.path("queries").join(format!("{name}.sql")), text).unwrap();
    };
    select("minute", "TUMBLE(transactions, event_time, INTERVAL '1 minute')");
    select("visits", "SESSION(transactions, event_time, INTERVAL '20 seconds', state)");
}

/// The golden input in parts.
fn parts(scratch: &Scratch, parts: usize) -> Vec<PathBuf> {
    let input = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/input.ndjson");
    let text = fs::read_to_string(input).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let write = |(n, part): (usize, &[&str])| {
        let path = scratch.path(&format!("part_{n}.ndjson"));
        fs::write(&path, part.join("\n") + "\n").unwrap();
        path
    };
    lines.chunks(lines.len().div_ceil(parts)).enumerate().map(write).collect()
}

/// The lake's queries as they are when a query of a few minutes' lateness, or of none, comes and is edited to the other.
fn edited(from: &str, to: &str) {
    let scratch = Scratch::new();
    let queries = scratch.path("queries");
    fs::create_dir_all(&queries).unwrap();
    let scratch = scratch.set(&format!("queries.dir={}", queries.display()));
    // Late rows of the second part are not restated before the audit has seen them.
    let scratch = scratch.set("reconcile.enabled=false").set("commit.rows_max=200");
    let parts = parts(&scratch, 3);
    let read = |part: &Path| {
        let summary: Value = scratch.summary(&["--source", part.to_str().unwrap(), "--allow-late", "--pace", "2000"]);
        assert!(summary["written"].as_u64() > Some(0), "{summary}");
    };
    let audit = || {
        let said = scratch.must(&["audit"]);
        assert!(!said.contains("not compared"), "{said}");
    };
    read(&parts[0]);
    write(&scratch, from);
    read(&parts[1]);
    audit();
    write(&scratch, to);
    audit();
    read(&parts[2]);
    audit();
    scratch.must(&["lake", "reconcile"]);
    audit();
}

#[test]
fn a_query_that_waits_longer_than_when_it_came_is_proved() {
    edited("0 seconds", "3 minutes");
}

#[test]
fn a_query_that_waits_less_than_when_it_came_is_proved() {
    edited("3 minutes", "0 seconds");
}
