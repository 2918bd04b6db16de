//! A day in the life of the shipped tables, two midnights included: the running job with its checkpoints, manifests,
//! restatements, compactions and vacuum, its clock in the test's hands. Whoever looks meanwhile finds no error, and at the
//! end `lake check` finds nothing in any table.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use lakeward::clock::Clock;
use lakeward::config::Config;
use lakeward::pipeline::{Input, Job, Summary, start};
use lakeward::token::TokenKey;
use serde_json::Value;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use crate::support::{Scratch, TOKEN_KEY, say, text};

const MINUTE_US: i64 = 60_000_000;
const DAY_US: i64 = 1_440 * MINUTE_US;
/// 2100-01-01T12:00:00Z: what the clock shows at first; everything the file system has written is old then.
const NOON_US: i64 = 4_102_488_000_000_000;
/// What the clock goes on with each commit: as a job that commits every twelve minutes.
const STEP_US: i64 = 12 * MINUTE_US;
/// Purchases of some sixty hours.
const ROWS: u32 = 6_000;
/// Rows a second: pages of a tenth of it, each an epoch.
const PACE: u32 = 300;
/// The same, where something is waited for that goes on beside the job.
const SLOW_PACE: u32 = 20;

/// A lake of the shipped contracts and queries.
struct Site {
    scratch: Scratch,
    config: Config,
    clock: Arc<AtomicI64>,
}

impl Site {
    fn new() -> Self {
        let settings = [
            "commit.rows_max=30",
            "commit.interval=1h",
            "commit.checkpoint_every=20",
            "reconcile.interval=2s",
            "maintenance.interval=1s",
            "watermark.out_of_orderness=1h",
        ];
        let scratch = settings.iter().fold(Scratch::new(), |scratch, setting| scratch.set(setting));
        let mut all: Vec<String> = settings.iter().map(|setting| (*setting).to_owned()).collect();
        all.push(format!("lake.url={}", scratch.lake().display()));
        let config = Config::load(None, &all).unwrap();
        Self { scratch, config, clock: Arc::new(AtomicI64::new(NOON_US)) }
    }

    /// Runs the job over a file to its end, or until this file of the lake is gone; each commit moves the clock.
    async fn live(config: Config, file: PathBuf, gone: Option<PathBuf>, clock: Arc<AtomicI64>) -> Summary {
        let stop = CancellationToken::new();
        let job = Job {
            config,
            input: Input::Files { paths: vec![file], pace: Some(if gone.is_some() { SLOW_PACE } else { PACE }) },
            until_caught_up: true,
            allow_late: true,
            accept_new_stream: false,
            demo: false,
            backfill: None,
            accept_gap: false,
            clock: Clock::Fixed(Arc::clone(&clock)),
            token_key: TokenKey::from_hex(1, TOKEN_KEY).unwrap(),
            host: "day".into(),
            stop: stop.clone(),
        };
        let mut running = start(job).await.unwrap();
        while running.commits.recv().await.is_some() {
            clock.fetch_add(STEP_US, Ordering::Relaxed);
            if gone.as_ref().is_some_and(|file| !file.exists()) {
                stop.cancel();
            }
        }
        running.wait().await.unwrap()
    }

    fn run(&self, runtime: &Runtime, file: &Path, until_gone: Option<&Path>) -> Summary {
        let (config, file, clock) = (self.config.clone(), file.to_owned(), Arc::clone(&self.clock));
        let gone = until_gone.map(Path::to_owned);
        runtime.block_on(async { tokio::spawn(Self::live(config, file, gone, clock)).await.unwrap() })
    }

    fn now(&self) -> i64 {
        self.clock.load(Ordering::Relaxed)
    }

    /// What `lake check` finds, by table and rule; its exit code.
    fn check(&self) -> (Option<i32>, BTreeMap<String, Vec<Value>>) {
        let output = self.scratch.run(&["lake", "check", "--json"]);
        let report: Value =
            serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", text(&output.stderr)));
        let found = report.as_object().unwrap().iter();
        let found = found.map(|(table, linted)| (table.clone(), linted["findings"].as_array().unwrap().clone()));
        (output.status.code(), found.filter(|(_, findings)| !findings.is_empty()).collect())
    }
}

/// Simulated purchases, every ninth of the first quarter a day late, with a line no decoder takes between them: three
/// quarters of them, and the rest.
fn input(scratch: &Scratch) -> [PathBuf; 2] {
    let all = fs::read_to_string(scratch.simulated("all.csv", ROWS)).unwrap();
    let (header, lines) = all.split_once("\r\n").unwrap();
    let lines: Vec<&str> = lines.lines().collect();
    let (quarter, half) = (lines.len() / 4, lines.len() / 2);
    let is_late = |at: usize| at < quarter && at.is_multiple_of(9);
    let mut texts = [0, 1].map(|_| format!("{header}\r\n"));
    for (at, line) in lines.iter().enumerate().filter(|(at, _)| !is_late(*at)) {
        let text = &mut texts[usize::from(at >= 3 * quarter)];
        if at == half {
            let late = (0..quarter).filter(|at| is_late(*at)).map(|at| lines[at]);
            text.extend(late.chain(["half,a line"]).map(|line| format!("{line}\r\n")));
        }
        text.push_str(&format!("{line}\r\n"));
    }
    let mut number = 0;
    texts.map(|text| {
        number += 1;
        let path = scratch.path(&format!("in-{number}.csv"));
        fs::write(&path, text).unwrap();
        path
    })
}

/// Planning deep SQL recurses, as in the binary.
fn runtime() -> Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(2).enable_all().thread_stack_size(8 << 20).build().unwrap()
}

#[test]
fn after_a_day_of_life_nothing_is_found_and_no_look_meanwhile_finds_an_error() {
    let (site, runtime) = (Site::new(), runtime());
    let [file, rest] = input(&site.scratch);
    let (has_ended, looks) = (AtomicBool::new(false), AtomicI64::new(0));
    let summary = std::thread::scope(|scope| {
        // Whoever looks beside the job: at each moment there may be a commit and not yet its manifests.
        let looking = scope.spawn(|| {
            while !has_ended.load(Ordering::Relaxed) {
                if !site.scratch.lake().join("transactions/_delta_log/00000000000000000001.json").exists() {
                    std::thread::yield_now();
                    continue;
                }
                let (code, found) = site.check();
                assert_eq!(code, Some(0), "beside the job: {found:?}");
                looks.fetch_add(1, Ordering::Relaxed);
            }
        });
        let summary = site.run(&runtime, &file, None);
        has_ended.store(true, Ordering::Relaxed);
        looking.join().unwrap();
        summary
    });
    say(&format!(
        "{} epochs in {:.0} s, {} windows restated, {} files compacted, {} looks",
        summary.epochs,
        summary.seconds,
        summary.windows_restated,
        summary.files_compacted,
        looks.load(Ordering::Relaxed)
    ));
    assert!(site.now() - NOON_US > DAY_US, "only {} commits", summary.epochs);
    assert!(looks.load(Ordering::Relaxed) > 3 && summary.windows_restated > 0 && summary.files_compacted > 0);
    assert_eq!(site.check(), (Some(0), BTreeMap::new()));
    site.scratch.must(&["audit"]);

    // A week later the job is started again: it vacuums what it has taken out, cleans the logs, and goes on.
    site.clock.fetch_add(8 * DAY_US, Ordering::Relaxed);
    let oldest = site.scratch.lake().join("transactions/_delta_log").join(format!("{:020}.json", 0));
    site.run(&runtime, &rest, Some(&oldest));
    assert!(!oldest.exists(), "the log was not cleaned");
    site.run(&runtime, &rest, None);
    let tables: BTreeSet<String> = fs::read_dir(site.scratch.lake())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|folder| folder.join("_delta_log").is_dir())
        .map(|folder| folder.file_name().unwrap().to_str().unwrap().to_owned())
        .collect();
    assert!(tables.len() > 12, "{tables:?}");
    assert_eq!(site.check(), (Some(0), BTreeMap::new()));
    site.scratch.must(&["audit"]);
}
