//! The real binary, killed with SIGKILL at moments that matter, again and again; then the books must balance.
//!
//! A kill waits for an event in the lake (a data file staged, a slot decided, a table's log grown) and strikes at once;
//! what it left behind is classified afterwards, so that the tally says what was hit, not what was aimed at.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::oracle::assert_lake_equals_input;
use crate::support::{Scratch, say, slots};

/// What a kill waits for.
#[derive(Clone, Copy, Debug)]
enum Aim {
    /// The n-th new data file: staging.
    Staged(usize),
    /// The n-th new slot: decided, not published.
    Decided(usize),
    /// The n-th new commit in any table's log: partly published.
    Published(usize),
    /// Soon after the start: fencing, rolling forward, rebuilding.
    Starting(Duration),
}

/// What a kill left behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Hit {
    /// Files staged that no slot names.
    Staging,
    /// The newest slot names files that no table's log does.
    Decided,
    /// The newest slot's files are in some tables' logs and not in others.
    PartlyPublished,
    /// The process had not fenced the lake yet.
    BeforeFence,
    /// Between two epochs.
    Idle,
}

/// How a lake looks from outside.
#[derive(Debug, Default)]
struct Tracks {
    data_files: Vec<String>,
    slots: usize,
    log_commits: usize,
}

fn tracks(lake: &Path) -> Tracks {
    let mut tracks = Tracks { slots: slots(lake), ..Tracks::default() };
    for table in tables(lake) {
        let log = table.join("_delta_log");
        tracks.log_commits += files(&log).len();
        for partition in folders(&table) {
            tracks.data_files.extend(files(&partition));
        }
    }
    tracks
}

fn tables(lake: &Path) -> Vec<std::path::PathBuf> {
    folders(lake).into_iter().filter(|f| f.join("_delta_log").is_dir()).collect()
}

fn folders(folder: &Path) -> Vec<std::path::PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    entries.filter_map(Result::ok).map(|e| e.path()).filter(|p| p.is_dir()).collect()
}

fn files(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    entries
        .filter_map(Result::ok)
        .filter(|e| e.path().is_file())
        .map(|e| e.file_name().to_string_lossy().into())
        .collect()
}

/// Waits for the aim and strikes; `false` when the job ended before.
fn strike(job: &mut Child, lake: &Path, before: &Tracks, aim: Aim) -> bool {
    let begun = Instant::now();
    loop {
        let now = tracks(lake);
        let due = match aim {
            Aim::Staged(n) => now.data_files.len() >= before.data_files.len() + n,
            // The first new slot is the fence.
            Aim::Decided(n) => now.slots > before.slots + n,
            Aim::Published(n) => now.log_commits >= before.log_commits + n,
            Aim::Starting(after) => begun.elapsed() >= after,
        };
        if job.try_wait().unwrap().is_some() {
            return false;
        }
        if due {
            job.kill().unwrap();
            job.wait().unwrap();
            return true;
        }
        assert!(begun.elapsed() < Duration::from_secs(120), "the job makes no progress towards {aim:?}");
    }
}

/// What the kill left, read from the newest slot and the tables' logs.
fn classify(lake: &Path, slots_before: usize) -> Hit {
    let slots = slots(lake);
    if slots == slots_before {
        return Hit::BeforeFence;
    }
    let named = |epoch: usize| -> Vec<(String, String)> {
        let path = lake.join(format!("_epochs/{epoch:020}.json"));
        let slot: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
        let tables = slot["tables"].as_object().unwrap();
        let adds = |files: &Value| files["adds"].as_array().unwrap().clone();
        tables
            .iter()
            .flat_map(|(table, files)| {
                adds(files).into_iter().map(move |add| (table.clone(), add["path"].as_str().unwrap().to_owned()))
            })
            .collect()
    };
    let logged = |table: &str, file: &str| {
        let log = lake.join(table).join("_delta_log");
        let file = file.rsplit('/').next().unwrap();
        files(&log).iter().any(|name| fs::read_to_string(log.join(name)).is_ok_and(|commit| commit.contains(file)))
    };
    let newest = named(slots - 1);
    let (done, open): (Vec<_>, Vec<_>) = newest.iter().partition(|(table, file)| logged(table, file));
    match (done.is_empty(), open.is_empty()) {
        (true, false) => return Hit::Decided,
        (false, false) => return Hit::PartlyPublished,
        _ => {}
    }
    let decided: Vec<String> = (0..slots).flat_map(named).map(|(_, f)| f.rsplit('/').next().unwrap().into()).collect();
    let orphans = tracks(lake).data_files.iter().filter(|file| !decided.contains(file)).count();
    if orphans > ORPHANS.with(std::cell::Cell::get) {
        ORPHANS.with(|known| known.set(orphans));
        return Hit::Staging;
    }
    Hit::Idle
}

thread_local! {
    /// Orphans earlier kills left: they stay until a vacuum.
    static ORPHANS: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// Aims in turn, so that every kind comes often; up to `epochs` of them into the run.
fn aim(round: usize, epochs: usize) -> Aim {
    let n = 1 + round / 5 % epochs;
    match round % 5 {
        0 => Aim::Staged(n * 2),
        1 => Aim::Decided(n),
        2 => Aim::Published(n),
        3 => Aim::Published(n * 2),
        _ => Aim::Starting(Duration::from_millis(20 + 37 * (round as u64 % 11))),
    }
}

/// Starts the job by `args` and kills it, as often as there are aims; `feed` brings each start something to read.
/// Returns the tally.
fn kill_often(
    scratch: &Scratch,
    args: &[&str],
    aims: impl Iterator<Item = Aim>,
    feed: impl Fn(usize),
) -> BTreeMap<Hit, usize> {
    ORPHANS.with(|known| known.set(0));
    let mut tally = BTreeMap::new();
    for (round, aim) in aims.enumerate() {
        let slots_before = slots(&scratch.lake());
        let before = tracks(&scratch.lake());
        let mut job = scratch.spawn("job", args);
        feed(round);
        if !strike(&mut job, &scratch.lake(), &before, aim) {
            let log = fs::read_to_string(scratch.path("job.err")).unwrap();
            panic!("the input was read to its end before kill {round}: make it longer, or the job failed:\n{log}");
        }
        *tally.entry(classify(&scratch.lake(), slots_before)).or_insert(0) += 1;
    }
    tally
}

/// Idle kills prove little: some must have hit staging, and some the way from decided to published, which takes a few
/// milliseconds.
fn assert_tally(tally: &BTreeMap<Hit, usize>) {
    let hits = |wanted: &[Hit]| wanted.iter().filter_map(|hit| tally.get(hit)).sum::<usize>();
    assert!(hits(&[Hit::Staging]) > 0, "no kill hit staging: {tally:?}");
    assert!(hits(&[Hit::Decided, Hit::PartlyPublished]) > 0, "no kill hit between decided and published: {tally:?}");
}

#[test]
fn killed_while_reading_files() {
    let scratch = Scratch::new().set("commit.interval=150ms");
    let file = scratch.simulated("days.csv", 30_000);
    let path = file.to_str().unwrap();
    let aims = (0..30).map(|round| aim(round, 3));
    let tally = kill_often(&scratch, &["run", "--source", path, "--pace", "1500"], aims, |_| {});
    say(&format!("30 kills while reading files: {tally:?}"));
    scratch.summary(&["--source", path]);
    scratch.must(&["audit"]);
    assert_lake_equals_input(&scratch, &file, true);
    assert_tally(&tally);
}

/// Rows that each start of the job finds new in the stream.
const CHUNK_ROWS: usize = 1_000;

#[test]
fn killed_while_reading_the_stream() {
    let scratch = Scratch::new().set("commit.interval=100ms").set("stream.shards=3");
    let kills = 20;
    let file = scratch.simulated("days.csv", 20_000);
    let chunks = chunks(&scratch, &file);
    let mut server = scratch.spawn("stream", &["stream", "--listen", "127.0.0.1:0"]);
    let url = server_url(&scratch, &mut server);
    let scratch = scratch.set(&format!("stream.endpoint={url}"));
    // A thread sends each start its part while the job begins to read.
    let tally = std::thread::scope(|threads| {
        kill_often(&scratch, &["run"], (0..kills).map(|round| aim(round, 1)), |round| {
            let (scratch, chunk) = (&scratch, &chunks[round]);
            threads.spawn(move || scratch.must(&["replay", chunk.to_str().unwrap()]));
        })
    });
    say(&format!("{kills} kills while reading the stream: {tally:?}"));
    let summary = scratch.summary(&[]);
    say(&format!("the rest: {summary}"));
    scratch.must(&["audit"]);
    // A live stream closes nothing early: rows are compared here, closed windows by the audit.
    assert_lake_equals_input(&scratch, &file, false);
    assert_tally(&tally);
    server.kill().unwrap();
    server.wait().unwrap();
}

/// The file cut into files of [`CHUNK_ROWS`] rows, each with the header.
fn chunks(scratch: &Scratch, file: &Path) -> Vec<std::path::PathBuf> {
    let text = fs::read_to_string(file).unwrap();
    let (header, rows) = text.split_once("\r\n").unwrap();
    let rows: Vec<&str> = rows.lines().collect();
    let write = |(n, part): (usize, &[&str])| {
        let path = scratch.path(&format!("chunk-{n:02}.csv"));
        fs::write(&path, format!("{header}\r\n{}\r\n", part.join("\r\n"))).unwrap();
        path
    };
    rows.chunks(CHUNK_ROWS).enumerate().map(write).collect()
}

/// Waits for the line in which the server says where it listens.
pub fn server_url(scratch: &Scratch, server: &mut Child) -> String {
    let patience = Instant::now() + Duration::from_secs(60);
    loop {
        let said = fs::read_to_string(scratch.path("stream.out")).unwrap_or_default();
        if let Some(url) = said.lines().next().and_then(|line| line.split_whitespace().next()) {
            return url.to_owned();
        }
        assert!(server.try_wait().unwrap().is_none(), "the stream server ended");
        assert!(Instant::now() < patience, "the stream server says nothing");
        std::thread::yield_now();
    }
}
