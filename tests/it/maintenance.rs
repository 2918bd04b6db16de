//! Compaction: small files of dates that are over become large ones, by hand and on the way, wherever it is killed; every
//! row stays as it is for every reader, late rows and duplicates find what they belong to, and the audit proves it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::compute::concat_batches;
use lakeward::audit::audit;
use lakeward::clock::Clock;
use lakeward::config::Config;
use lakeward::lake::{DataFile, Lake, Table};
use lakeward::pipeline::{AtRest, CompactedTable, Rehearsed, Script, Step, compact, reconcile, rehearse};
use lakeward::token::TokenKey;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use crate::events::{CONTRACT, Event, SECOND_US, events};
use crate::oracle::differences;
use crate::support::{Scratch, TOKEN_KEY, say, slots, text};
use crate::victim::Victim;

const DAY_US: i64 = 86_400 * SECOND_US;
/// 2100-01-01: what the clock shows when the lake is written; no event is from the future.
const WRITTEN_US: i64 = 4_102_444_800 * SECOND_US;
/// Two days later the books of that date are over.
const LATER_US: i64 = WRITTEN_US + 2 * DAY_US;

const QUERIES: [(&str, &str); 3] = [
    (
        "minutes",
        "SELECT window_start, window_end, CAST(window_start AS DATE) AS event_date, k, count(*) AS n, sum(amount) AS amount \
         FROM TUMBLE(events, at, INTERVAL '1 minute') GROUP BY window_start, window_end, k",
    ),
    (
        "hours",
        "SELECT window_start, window_end, CAST(window_start AS DATE) AS event_date, count(*) AS minutes, sum(n) AS n \
         FROM TUMBLE(minutes, window_start, INTERVAL '1 hour') GROUP BY window_start, window_end",
    ),
    ("dear", "SELECT at, day AS event_date, id, amount FROM events WHERE amount > 5000"),
];

const TABLES: [&str; 4] = ["events", "minutes", "hours", "dear"];

/// A lake to be of a stream of events, with three queries.
struct Site {
    scratch: Scratch,
    config: Config,
}

fn site(settings: &[&str]) -> Site {
    let mut scratch = Scratch::new();
    let (contracts, queries) = (scratch.path("contracts"), scratch.path("queries"));
    fs::create_dir_all(&contracts).unwrap();
    fs::create_dir_all(&queries).unwrap();
    for table in ["rejects", "epochs"] {
        let file = format!("{table}.sql");
        fs::copy(format!("{}/lake/{file}", env!("CARGO_MANIFEST_DIR")), contracts.join(file)).unwrap();
    }
    fs::write(contracts.join("events.sql"), CONTRACT).unwrap();
    for (name, select) in QUERIES {
        fs::write(queries.join(format!("{name}.sql")), format!("CREATE MATERIALIZED VIEW {name} AS {select}")).unwrap();
    }
    let mut all = vec![
        "stream.table=events".to_owned(),
        format!("lake.contracts={}", contracts.display()),
        format!("queries.dir={}", queries.display()),
        "watermark.out_of_orderness=1s".to_owned(),
    ];
    all.extend(settings.iter().map(|setting| (*setting).to_owned()));
    for setting in &all {
        scratch = scratch.set(setting);
    }
    all.push(format!("lake.url={}", scratch.lake().display()));
    Site { config: Config::load(None, &all).unwrap(), scratch }
}

impl Site {
    fn write(&self, name: &str, events: &[Event]) -> PathBuf {
        let path = self.scratch.path(name);
        fs::write(&path, events.iter().map(|event| format!("{}\n", event.json)).collect::<String>()).unwrap();
        path
    }

    async fn rehearse(&self, file: &Path, steps: Vec<Step>) -> Rehearsed {
        let token_key = TokenKey::from_hex(1, TOKEN_KEY).unwrap();
        let script = Script { files: vec![file.to_owned()], steps, now: WRITTEN_US, token_key };
        rehearse(&self.config, &script).await.unwrap()
    }

    fn at_rest(&self) -> AtRest {
        AtRest {
            config: self.config.clone(),
            clock: Clock::fixed(LATER_US),
            token_key: TokenKey::from_hex(1, TOKEN_KEY).unwrap(),
            host: "rehearsal".into(),
        }
    }

    async fn compact(&self) -> Vec<CompactedTable> {
        compact(&self.at_rest(), &[]).await.unwrap()
    }

    /// What the audit says; it must find nothing.
    async fn audited(&self) -> String {
        let report = audit(&self.config).await.unwrap();
        assert!(report.is_clean(), "{report}");
        report.to_string()
    }

    /// Live files by partition.
    async fn files(&self, table: &str) -> BTreeMap<i32, Vec<Arc<DataFile>>> {
        let lake = Lake::open(&self.config.lake.url, &self.config.s3).unwrap();
        let table = Table::open_existing(&lake, table).await.unwrap().unwrap();
        let mut files: BTreeMap<i32, Vec<Arc<DataFile>>> = BTreeMap::new();
        for file in table.live_files().await.unwrap() {
            files.entry(file.partition).or_default().push(file);
        }
        files
    }

    /// Closed minutes are what DuckDB counts over the events.
    fn assert_minutes(&self) {
        let wanted = format!(
            "SELECT epoch_us(date_trunc('minute', \"at\")), k, count(*), sum(amount) FROM {} GROUP BY ALL",
            self.scratch.delta("events")
        );
        let found = format!("SELECT epoch_us(window_start), k, n, amount FROM {}", self.scratch.delta("minutes"));
        assert_eq!(differences(&wanted, &found), 0, "`minutes` is not what DuckDB counts");
    }
}

/// Events of three days.
fn three_days(seed: u64, count: usize) -> Vec<Event> {
    events(&mut ChaCha8Rng::seed_from_u64(seed), count, 3 * DAY_US)
}

fn pieces(count: usize, records: usize) -> Vec<Step> {
    let piece = [Step::Read { file: 0, records: Some(records) }, Step::Commit];
    piece.into_iter().cycle().take(2 * count).collect()
}

/// Rows of a table that differ between two lakes as DuckDB reads them.
fn apart(one: &Scratch, two: &Scratch, table: &str) -> i64 {
    // An epoch's number depends on how often the job was started.
    let columns = if table == "events" { "* EXCLUDE (_epoch, _shard)" } else { "*" };
    let select = |scratch: &Scratch| format!("SELECT {columns} FROM {}", scratch.delta(table));
    differences(&select(one), &select(two))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_files_of_dates_that_are_over_become_one_of_the_same_rows() {
    let site = site(&[]);
    let file = site.write("in.ndjson", &three_days(1, 600));
    site.rehearse(&file, pieces(24, 25)).await;
    let before = Victim::copy_of(&site.scratch, Scratch::new());
    let mut was = BTreeMap::new();
    for table in TABLES {
        was.insert(table, site.files(table).await);
    }
    let done = site.compact().await;
    let touched: Vec<&str> = done.iter().map(|table| table.table.as_ref()).collect();
    assert_eq!(touched, ["dear", "epochs", "events", "hours", "minutes"]);
    for table in TABLES {
        assert_eq!(apart(&before.scratch, &site.scratch, table), 0, "{table}");
        let (was, is) = (&was[table], site.files(table).await);
        assert_eq!(was.keys().collect::<Vec<_>>(), is.keys().collect::<Vec<_>>());
        let last = *is.keys().last().unwrap();
        for (date, files) in &is {
            // The last hour ended at midnight.
            if *date == last && table != "hours" {
                assert_eq!(paths(files), paths(&was[date]), "{table}: the last date is not over");
            } else {
                assert_eq!(files.len(), 1, "{table}: {files:?}");
            }
        }
        assert!(was.values().map(Vec::len).sum::<usize>() > 2 * is.len(), "{table} had few files: {was:?}");
    }
    let report = site.audited().await;
    assert!(report.contains("compactions hold, row by row, what the files they replaced hold"), "{report}");
    // Again there is nothing to do; the command line says so, and how the tables stand.
    assert_eq!(site.compact().await, []);
    assert!(site.scratch.must(&["lake", "compact"]).contains("nothing was written"));
    let status: Value = serde_json::from_str(&site.scratch.must(&["lake", "status", "--json"])).unwrap();
    let events = status.as_array().unwrap().iter().find(|table| table["table"] == "events").unwrap();
    assert_eq!(
        (&events["rows"], &events["partitions"], &events["scattered_partitions"]),
        (&json!(600), &json!(4), &json!(1))
    );
    assert!(site.scratch.must(&["lake", "status"]).contains("scattered"));
    // Every other reader is content, too, and a vacuum that deletes what was replaced leaves the books right.
    let linted: Value = serde_json::from_str(&site.scratch.must(&["lake", "check", "--json"])).unwrap();
    for table in TABLES {
        assert_eq!(linted[table]["findings"], json!([]), "{table}");
    }
    for removed in removes(&site.scratch, "events") {
        fs::remove_file(site.scratch.lake().join("events").join(removed)).unwrap();
    }
    let report = site.audited().await;
    assert!(report.contains("some files are gone"), "{report}");
    let unknown = site.scratch.run(&["lake", "compact", "evnts"]);
    assert!(unknown.status.code() == Some(2) && text(&unknown.stderr).contains("no table `evnts`"), "{unknown:?}");
}

fn paths(files: &[Arc<DataFile>]) -> Vec<&str> {
    files.iter().map(|file| file.path.as_str()).collect()
}

/// Paths of files that a table's log takes out.
fn removes(scratch: &Scratch, table: &str) -> Vec<String> {
    let log = fs::read_dir(scratch.lake().join(table).join("_delta_log")).unwrap().map(|entry| entry.unwrap().path());
    let commits = log.filter(|path| path.extension().is_some_and(|e| e == "json"));
    let lines =
        commits.flat_map(|path| fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect::<Vec<_>>());
    let lines = lines.map(|line| serde_json::from_str::<Value>(&line).unwrap());
    let removes = lines.filter_map(|line| line.get("remove").cloned());
    removes.map(|remove| remove["path"].as_str().unwrap().to_owned()).collect()
}

/// The same files and the same script, with and without compactions on the way, some of them killed: the same rows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compactions_on_the_way_change_no_row_wherever_they_are_killed() {
    for seed in 0..3 {
        let (with, without) = (site(&[]), site(&[]));
        let events = three_days(seed, 500);
        let mut steps = Vec::new();
        for piece in 0..24 {
            steps.push(Step::Read { file: 0, records: Some(20) });
            steps.push(Step::Compact);
            steps.push(match (piece + seed) % 4 {
                // Staged and forgotten; decided, and published by the next start.
                0 => Step::Restart,
                1 => Step::CommitHalf,
                _ => Step::Commit,
            });
        }
        let done = with.rehearse(&with.write("in.ndjson", &events), steps.clone()).await;
        assert!(done.files_compacted > 20, "{done:?}");
        steps.retain(|step| *step != Step::Compact);
        without.rehearse(&without.write("in.ndjson", &events), steps).await;
        for table in TABLES {
            assert_eq!(apart(&with.scratch, &without.scratch, table), 0, "{table}, seed {seed}");
        }
        with.assert_minutes();
        with.audited().await;
        with.compact().await;
        with.audited().await;
        assert_eq!(apart(&with.scratch, &without.scratch, "events"), 0, "seed {seed}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn late_rows_and_duplicates_find_what_was_compacted() {
    let site = site(&[]);
    let all = three_days(7, 600);
    // Every seventh row comes when everything is over, and every fifth a second time.
    let (late, first): (Vec<_>, Vec<_>) = all.into_iter().enumerate().partition(|(number, _)| number % 7 == 3);
    let events = |numbered: Vec<(usize, Event)>| numbered.into_iter().map(|(_, event)| event).collect::<Vec<_>>();
    let (late, first) = (events(late), events(first));
    site.rehearse(&site.write("first.ndjson", &first), pieces(20, 25)).await;
    assert!(!site.compact().await.is_empty());
    let again: Vec<Event> = first.iter().step_by(5).chain(&late).cloned().collect();
    let done = site.rehearse(&site.write("again.ndjson", &again), pieces(6, 30)).await;
    assert_eq!((done.counts.duplicates, done.counts.written), (first.len().div_ceil(5) as u64, late.len() as u64));
    assert!(done.counts.late > 60, "{done:?}");
    site.audited().await;
    assert!(!reconcile(&site.at_rest()).await.unwrap().is_empty());
    site.assert_minutes();
    site.audited().await;
    // What the late rows and their windows left behind is written together once more.
    assert!(site.compact().await.iter().any(|table| table.table.as_ref() == "events"));
    site.assert_minutes();
    let report = site.audited().await;
    assert!(!report.contains("gone"), "{report}");
    for table in TABLES {
        let files = site.files(table).await;
        assert!(files.values().rev().skip(1).all(|files| files.len() == 1), "{table}: {files:?}");
    }
    assert_eq!(reconcile(&site.at_rest()).await.unwrap(), []);
}

/// OPTIMIZE by somebody else: the audit names it, and nothing that follows loses or doubles a row.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_compaction_by_another_writer_is_named_and_left_alone() {
    let site = site(&[]);
    let all = three_days(3, 400);
    let (late, first): (Vec<_>, Vec<_>) = all.into_iter().partition(|event| event.at_us % 7 == 0);
    site.rehearse(&site.write("first.ndjson", &first), pieces(16, 25)).await;
    let foreign = [optimize(&site, "events").await, optimize(&site, "minutes").await];
    let report = audit(&site.config).await.unwrap();
    let found: Vec<_> =
        report.findings.iter().map(|finding| (finding.kind.to_string(), finding.what.clone())).collect();
    assert_eq!(found.len(), 2, "{report}");
    for (kind, what) in &found {
        assert!(kind == "foreign commit" && what.contains("leave OPTIMIZE to `lakeward lake compact`"), "{report}");
    }
    // Their files are not ours to take out; ours are compacted beside them.
    assert!(!site.compact().await.is_empty());
    let mut left = Vec::new();
    for table in ["events", "minutes"] {
        left.extend(site.files(table).await.into_values().flatten().map(|file| file.path.clone()));
    }
    assert!(foreign.iter().all(|path| left.contains(path)), "{left:?}");
    // Late rows are brought into windows that only their file holds.
    site.rehearse(&site.write("late.ndjson", &late), Vec::new()).await;
    reconcile(&site.at_rest()).await.unwrap();
    site.assert_minutes();
}

/// Commits what OPTIMIZE of delta-rs would: the files of the first date as one; returns its path.
async fn optimize(site: &Site, table: &str) -> String {
    let victim = Victim { scratch: Scratch::new() };
    let (date, files) = site.files(table).await.into_iter().find(|(_, files)| files.len() > 1).unwrap();
    let folder = site.scratch.lake().join(table);
    let rows: Vec<RecordBatch> = files.iter().map(|file| victim.read_parquet(&folder.join(&file.path))).collect();
    let rows = concat_batches(&rows[0].schema(), &rows).unwrap();
    let (partition, _) = files[0].path.split_once('/').unwrap();
    let (column, value) = partition.split_once('=').unwrap();
    let path = format!("{partition}/part-00001-0f0e2c4a-9f6c-4d3b-9d39-7a6a5f1d8e11-c000.zstd.parquet");
    victim.write_parquet(&folder.join(&path), &rows);
    let size = fs::metadata(folder.join(&path)).unwrap().len();
    let mut lines = vec![json!({"commitInfo": {"timestamp": 0, "operation": "OPTIMIZE", "operationParameters": {}}})];
    for file in &files {
        lines.push(json!({"remove": {
            "path": file.path, "dataChange": false, "deletionTimestamp": 0, "extendedFileMetadata": true,
            "partitionValues": {column: value}, "size": file.bytes,
        }}));
    }
    lines.push(json!({"add": {
        "path": path, "partitionValues": {column: value}, "size": size, "modificationTime": 0, "dataChange": false,
        "stats": format!("{{\"numRecords\":{}}}", rows.num_rows()),
    }}));
    let version = (0..).find(|version| !folder.join(format!("_delta_log/{version:020}.json")).exists()).unwrap();
    let commit: String = lines.iter().map(|line| format!("{line}\n")).collect();
    fs::write(folder.join(format!("_delta_log/{version:020}.json")), commit).unwrap();
    assert!(date > 0);
    path
}

/// The running job compacts by itself, between its commits.
#[test]
fn a_running_job_compacts_dates_that_are_over() {
    let site = site(&["commit.interval=50ms", "maintenance.interval=50ms", "commit.rows_max=100"]);
    let file = site.write("in.ndjson", &three_days(5, 4_000));
    let summary = site.scratch.summary(&["--source", file.to_str().unwrap(), "--pace", "1000"]);
    assert!(summary["files_compacted"].as_u64().unwrap() > 10, "{summary}");
    assert_eq!(summary["written"], 4_000, "{summary}");
    site.assert_minutes();
    let report = site.scratch.must(&["audit"]);
    assert!(report.contains("compactions hold, row by row"), "{report}");
    let off = site.scratch.set("maintenance.enabled=false");
    let more = Site { config: site.config.clone(), scratch: Scratch::new() };
    let later = more.write("more.ndjson", &three_days(6, 100));
    let summary = off.summary(&["--source", later.to_str().unwrap(), "--allow-late"]);
    assert_eq!(summary["files_compacted"], 0, "{summary}");
}

/// Killed at whatever is under way: files staged, a slot decided, some table published. The books are right at once, and
/// the next one goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_while_compacting() {
    let sound = site(&[]);
    sound.rehearse(&sound.write("in.ndjson", &three_days(9, 600)), pieces(24, 25)).await;
    let mut tally: BTreeMap<&str, usize> = BTreeMap::new();
    for round in 0..9 {
        let site = site(&[]);
        copy(&sound.scratch.lake(), &site.scratch.lake());
        let before = tracks(&site.scratch);
        let mut job = site.scratch.spawn("compact", &["lake", "compact"]);
        let patience = Instant::now() + Duration::from_secs(120);
        let struck = loop {
            let now = tracks(&site.scratch);
            let due = match round % 3 {
                0 => now.0 > before.0 + round / 3,
                1 => now.1 > before.1 + 1 + round / 3,
                _ => now.2 > before.2 + round / 3,
            };
            if job.try_wait().unwrap().is_some() {
                break false;
            }
            if due {
                job.kill().unwrap();
                job.wait().unwrap();
                break true;
            }
            assert!(Instant::now() < patience, "no progress in round {round}");
        };
        let now = tracks(&site.scratch);
        // One new slot is the fence.
        let left = match (struck, now.1 - before.1, now.2 - before.2) {
            (false, ..) => "ended",
            (_, 0 | 1, _) => "staged",
            (_, slots, commits) if slots - 1 > commits => "decided",
            _ => "published",
        };
        *tally.entry(left).or_default() += 1;
        if round % 2 == 0 {
            site.audited().await;
        }
        site.scratch.must(&["lake", "compact"]);
        for table in TABLES {
            assert_eq!(apart(&sound.scratch, &site.scratch, table), 0, "{table}, round {round}");
            let files = site.files(table).await;
            assert!(files.values().rev().skip(1).all(|files| files.len() == 1), "{table}: {files:?}");
        }
        site.audited().await;
    }
    say(&format!("kills while compacting: {tally:?}"));
    assert!(tally.keys().any(|left| *left != "ended"), "no kill came in time: {tally:?}");
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        match entry.path().is_dir() {
            true => copy(&entry.path(), &to.join(entry.file_name())),
            false => drop(fs::copy(entry.path(), to.join(entry.file_name())).unwrap()),
        }
    }
}

/// Data files, slots, commits.
fn tracks(scratch: &Scratch) -> (usize, usize, usize) {
    let entries = |folder: PathBuf| -> Vec<PathBuf> {
        fs::read_dir(folder).map_or_else(|_| Vec::new(), |all| all.filter_map(|e| Some(e.ok()?.path())).collect())
    };
    let folders = TABLES.iter().flat_map(|table| entries(scratch.lake().join(table)));
    let (logs, partitions): (Vec<_>, Vec<_>) = folders.partition(|folder| folder.ends_with("_delta_log"));
    let count = |folders: Vec<PathBuf>| folders.into_iter().map(|folder| entries(folder).len()).sum();
    (count(partitions), slots(&scratch.lake()), count(logs))
}

/// A file that does not hold what it replaced is found, although sizes, numbers of rows and every window are right.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_change_on_the_way_into_a_larger_file_are_found() {
    let site = site(&[]);
    site.rehearse(&site.write("in.ndjson", &three_days(4, 300)), pieces(10, 30)).await;
    site.compact().await;
    let victim = Victim { scratch: site.scratch };
    let slot = victim.slots().into_iter().rev().map(|epoch| victim.slot(epoch));
    let slot = slot.into_iter().find(|slot| slot["compacted"]["events"].is_object()).unwrap();
    let path = slot["tables"]["events"]["adds"][0]["path"].as_str().unwrap();
    let path = victim.table("events").join(path);
    let number = victim.files("events").iter().position(|file| *file == path).unwrap();
    victim.rewrite("events", number, |rows| {
        let index = rows.schema().index_of("note").unwrap();
        let mut columns = rows.columns().to_vec();
        let notes: StringArray =
            (0..rows.num_rows()).map(|row| Some(if row == 0 { "changed" } else { "red" })).collect();
        columns[index] = Arc::new(notes) as ArrayRef;
        RecordBatch::try_new(rows.schema(), columns).unwrap()
    });
    let bytes = fs::metadata(&path).unwrap().len();
    victim.edit_slot(slot["epoch"].as_u64().unwrap(), |slot| {
        let adds = slot["tables"]["events"]["adds"].as_array().unwrap();
        let others: u64 = adds[1..].iter().map(|add| add["size"].as_u64().unwrap()).sum();
        slot["compacted"]["events"]["bytes"] = json!(bytes + others);
    });
    victim.relink();
    let report = audit(&site.config).await.unwrap();
    let found: Vec<String> = report.findings.iter().map(|finding| finding.kind.to_string()).collect();
    assert_eq!(found, ["wrong compaction"], "{report}");
    assert!(report.findings[0].what.contains("are not those of the files it took out"), "{report}");
}
