//! The main job on real input, compared with an independent count.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::oracle::assert_lake_equals_input;
use crate::support::{Scratch, duckdb, say, text};

fn count(summary: &Value, field: &str) -> u64 {
    summary[field].as_u64().unwrap_or_else(|| panic!("no `{field}` in {summary}"))
}

fn audit(scratch: &Scratch) {
    scratch.must(&["audit"]);
}

fn str(path: &Path) -> &str {
    path.to_str().expect("a UTF-8 path")
}

#[test]
fn files_reach_the_lake() {
    let scratch = Scratch::new();
    let file = scratch.simulated("day.csv", 20_000);
    let summary = scratch.summary(&["--source", str(&file)]);
    assert_eq!((count(&summary, "read"), count(&summary, "written")), (20_000, 20_000), "{summary}");
    assert_eq!((count(&summary, "late"), count(&summary, "rejected")), (0, 0), "{summary}");
    assert_lake_equals_input(&scratch, &file, true);
    audit(&scratch);
    // The same file at its end: nothing to read, nothing added.
    let again = scratch.summary(&["--source", str(&file)]);
    assert_eq!((count(&again, "read"), count(&again, "epochs")), (0, 0), "{again}");
    assert_lake_equals_input(&scratch, &file, true);
}

#[test]
fn a_time_ordered_replay_has_no_late_row_at_any_shard_count() {
    for shards in [1, 4, 16] {
        let scratch = Scratch::new().set(&format!("stream.shards={shards}")).set("commit.interval=500ms");
        let file = scratch.simulated("day.csv.gz", 12_000);
        let summary = scratch.summary(&["--replay", str(&file)]);
        assert_eq!((count(&summary, "written"), count(&summary, "late")), (12_000, 0), "{shards} shards: {summary}");
        assert_lake_equals_input(&scratch, &file, true);
        audit(&scratch);
    }
}

#[test]
fn the_same_file_replayed_twice_adds_nothing() {
    let scratch = Scratch::new();
    let file = scratch.simulated("day.csv", 5_000);
    scratch.summary(&["--replay", str(&file)]);
    let again = scratch.summary(&["--replay", str(&file)]);
    assert_eq!(
        (count(&again, "read"), count(&again, "duplicates"), count(&again, "written")),
        (5_000, 5_000, 0),
        "{again}"
    );
    assert_lake_equals_input(&scratch, &file, true);
    audit(&scratch);
}

#[test]
fn an_older_file_is_refused_before_anything_is_written() {
    let scratch = Scratch::new();
    let newer = scratch.simulated("all.csv", 6_000);
    let all = fs::read_to_string(&newer).unwrap();
    let (header, rows) = all.split_once("\r\n").unwrap();
    let lines: Vec<&str> = rows.lines().collect();
    let write = |name: &str, part: &[&str]| -> PathBuf {
        let path = scratch.path(name);
        fs::write(&path, format!("{header}\r\n{}\r\n", part.join("\r\n"))).unwrap();
        path
    };
    let old = write("old.csv", &lines[..2_000]);
    let new = write("new.csv", &lines[3_000..]);
    scratch.summary(&["--source", str(&new)]);
    let refused = scratch.run(&["run", "--source", str(&old), "--until-caught-up"]);
    assert_eq!(refused.status.code(), Some(2), "{}", text(&refused.stderr));
    assert!(text(&refused.stderr).contains("--allow-late"), "{}", text(&refused.stderr));
    assert_lake_equals_input(&scratch, &new, true);
    let late = scratch.summary(&["--source", str(&old), "--allow-late"]);
    assert_eq!((count(&late, "written"), count(&late, "late")), (2_000, 2_000), "{late}");
    audit(&scratch);
}

/// The genuine rows stay outside the project; where they are, they must come out as DuckDB counts them.
#[test]
fn genuine_rows_reach_the_lake() {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data");
    let given = std::env::var_os("LAKEWARD_GENUINE_DATA").map(PathBuf::from);
    let Some(folder) = given.or_else(|| Some(beside).filter(|folder| folder.is_dir())) else {
        say("NOT TESTED: the genuine rows (set LAKEWARD_GENUINE_DATA to their folder, or keep it in ../shared/data)");
        return;
    };
    let file = folder.join("transactions_genuine.csv.gz");
    let rows = duckdb(&format!("SELECT count(*) FROM {}", crate::oracle::input(&file)))[0][0].as_u64().unwrap();
    for through in ["--source", "--replay"] {
        let scratch = Scratch::new();
        let summary = scratch.summary(&[through, str(&file)]);
        say(&format!("genuine rows, {through}: {summary}"));
        assert_eq!((count(&summary, "written"), count(&summary, "late")), (rows, 0), "{through}: {summary}");
        assert_lake_equals_input(&scratch, &file, true);
        audit(&scratch);
    }
}

/// 2019-02-28 holds two simulated days: the second one's rows are up to a day late, kept, counted, and in no closed window.
#[test]
fn rows_behind_a_back_jump_are_late_kept_and_counted() {
    // Small epochs, so that the first day's windows are closed when the second day's rows arrive.
    let scratch = Scratch::new().set("commit.rows_max=200").set("watermark.out_of_orderness=10s");
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/back_jump_2019-02-28.csv.gz");
    let summary = scratch.summary(&["--source", str(&file), "--pace", "1000"]);
    assert_lake_equals_input(&scratch, &file, false);
    let transactions = scratch.delta("transactions");
    // One-minute windows with ten seconds of allowed lateness are the first to close: a row is late if its minute ended
    // at or before the watermark of the epoch before, less that lateness. All of it from the rows' own columns.
    let counted = duckdb(&format!(
        "WITH e AS (SELECT _epoch, max(event_time) AS newest FROM {transactions} GROUP BY 1), \
         w AS (SELECT _epoch, max(newest) OVER (ORDER BY _epoch ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) \
               - INTERVAL 20 SECOND AS closed FROM e), \
         r AS (SELECT _late, coalesce(date_trunc('minute', event_time) + INTERVAL 1 MINUTE \
               <= date_trunc('minute', closed), false) AS expected FROM {transactions} JOIN w USING (_epoch)) \
         SELECT count(*) FILTER (WHERE expected), count(*) FILTER (WHERE expected <> _late) FROM r"
    ));
    let (late, wrong) = (counted[0][0].as_u64().unwrap(), counted[0][1].as_u64().unwrap());
    assert!(late > 100, "only {late} rows behind the jump");
    assert_eq!((count(&summary, "late"), wrong), (late, 0), "{summary}");
    audit(&scratch);
}

#[test]
fn every_command_explains_itself() {
    let scratch = Scratch::new();
    for command in ["run", "check", "stream", "simulate", "replay", "batch", "sql", "audit", "test"] {
        assert!(scratch.must(&[command, "--help"]).contains("Usage"), "{command}");
    }
    scratch.must(&["check"]);
    assert!(!scratch.lake().exists(), "`check` must write nothing");
    let unknown = scratch.run(&["check", "--set", "commit.intervall=5s"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(text(&unknown.stderr).contains("intervall"), "{}", text(&unknown.stderr));
    let no_lake = scratch.run(&["sql", "select 1"]);
    assert_eq!(no_lake.status.code(), Some(2), "{}", text(&no_lake.stderr));
}
