//! One round: a lake, its rows, its script, its queries.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use lakeward::batch::LakeView;
use lakeward::clock::Clock;
use lakeward::config::Config;
use lakeward::pipeline::{AtRest, Rehearsed, Script, Step, reconcile, rehearse};
use lakeward::sql::Params;
use lakeward::token::TokenKey;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

use super::cells;
use super::duck::Duck;
use super::query::{Query, Reads};
use crate::events::{CONTRACT, Event, SECOND_US, START_US, events_from};
use crate::support::TOKEN_KEY;

/// Queries of one lake: a start costs more than a query.
const QUERIES: usize = 8;
const SHARDS_MAX: usize = 4;
const DISORDER_S: &[i64] = &[0, 1, 20, 90];
/// The audit reads everything again: every so many rounds it proves the books too.
const AUDIT_EVERY: u64 = 8;

/// So many rounds apart, small files of dates that are over are written together, before every step.
const COMPACT_EVERY: u64 = 4;

/// When rows begin: in May, or some days before clocks change in America, in Europe, and in America again.
const STARTS_US: &[i64] =
    &[START_US, START_US, 1_772_840_400 * SECOND_US, 1_792_798_800 * SECOND_US, 1_793_230_800 * SECOND_US];

/// Everything a round does, so that parts of it can be left out.
#[derive(Clone, Debug)]
pub struct Round {
    pub seed: u64,
    pub queries: Vec<Query>,
    /// Lines of the static file: a key, a label, a weight.
    kinds: Vec<(&'static str, &'static str, i64)>,
    /// Lines of each file.
    pub shards: Vec<Vec<Event>>,
    pub steps: Vec<Step>,
    out_of_orderness_s: i64,
    /// Rows may come later than any window waits.
    has_late_rows: bool,
    /// Late rows are brought into their windows, on the way and at the end.
    is_reconciled: bool,
}

impl Round {
    pub fn random(seed: u64) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let random = &mut random;
        let queries: Vec<Query> = (0..QUERIES).map(|n| Query::random(random, format!("q{n}"))).collect();
        let count = [0, 1, 5, 40, 120, 300][random.random_range(0..6)];
        let span_s = [20, 300, 4_000, 50_000, 400_000][random.random_range(0..5)];
        let start_us = STARTS_US[random.random_range(0..STARTS_US.len())];
        let events = events_from(random, start_us, count, span_s * SECOND_US);
        let out_of_orderness_s = DISORDER_S[random.random_range(0..DISORDER_S.len())];
        let has_late_rows = random.random_bool(0.5);
        let lateness_s = queries.iter().map(Query::patience_s).min().unwrap_or(0);
        let disorder_s = if has_late_rows { span_s / 4 } else { out_of_orderness_s + lateness_s };
        let shards = deal(random, &events, disorder_s * SECOND_US);
        let is_reconciled = has_late_rows && random.random_bool(0.6);
        let mut steps = steps(random, &shards, is_reconciled);
        if seed % COMPACT_EVERY == 1 {
            steps = steps.into_iter().flat_map(|step| [Step::Compact, step]).collect();
        }
        let kinds = kinds(random);
        Self { seed, queries, kinds, shards, steps, out_of_orderness_s, has_late_rows, is_reconciled }
    }

    /// Runs the round.
    ///
    /// # Errors
    /// What differs, as a sentence.
    pub async fn run(&self, duck: &mut Duck) -> Result<(), String> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (config, script) = self.write(folder.path());
        let done = rehearse(&config, &script).await.map_err(|error| format!("the job failed: {error}"))?;
        let rows: usize = self.shards.iter().map(Vec::len).sum();
        self.check_books(&done, rows)?;
        if self.is_reconciled {
            self.correct(&config, &script).await?;
        }
        let view = LakeView::open(&config).await.map_err(|error| format!("the lake: {error}"))?;
        let mut statements = self.tables(folder.path(), &view).await?;
        let setup = statements.len();
        for query in &self.queries {
            let is_late = self.has_late_rows && !self.is_reconciled;
            statements.extend([query.duck(is_late), query.duck_batch(is_late)]);
        }
        let mut answers = duck.run(&statements).into_iter().skip(setup);
        for query in &self.queries {
            let describe = |what: &str, difference: String| {
                let texts: String = query.files().into_iter().map(|(_, text)| text).collect();
                format!("{what}: {difference}\n{texts}")
            };
            let (Some(streamed), Some(whole)) = (answers.next(), answers.next()) else {
                return Err("DuckDB gave too few answers".into());
            };
            let select = format!("SELECT * FROM {}", query.name);
            let live = view.sql(&select, Params::default()).await.map_err(|e| describe("live", e.to_string()))?;
            let found = cells::ours(query, &live).map_err(|e| describe("live", e))?;
            let expected = cells::duck(query, streamed).map_err(|e| describe("DuckDB", e))?;
            cells::compare(query, &found, &expected).map_err(|e| describe("live and DuckDB differ", e))?;
            let file = config.queries.dir.join(format!("{}.sql", query.name));
            let batch = view.file(&file, Params::default()).await.map_err(|e| describe("batch", e.to_string()))?;
            let found = cells::ours(query, &batch).map_err(|e| describe("batch", e))?;
            let expected = cells::duck(query, whole).map_err(|e| describe("DuckDB", e))?;
            cells::compare(query, &found, &expected).map_err(|e| describe("batch and DuckDB differ", e))?;
        }
        if self.seed.is_multiple_of(AUDIT_EVERY) && !self.is_reconciled {
            audit(&config).await?;
        }
        Ok(())
    }

    /// Brings what is still late into its windows; the audit must be content before and after, and every view on a view
    /// must be what its parent's table says.
    async fn correct(&self, config: &Config, script: &Script) -> Result<(), String> {
        audit(config).await?;
        let at = AtRest {
            config: config.clone(),
            clock: Clock::fixed(script.now),
            token_key: script.token_key.clone(),
            host: "fuzz".into(),
        };
        reconcile(&at).await.map_err(|error| format!("reconcile: {error}"))?;
        let report = audit(config).await?;
        if report.contains("not compared") {
            return Err(format!("after a reconcile not all is compared:\n{report}"));
        }
        let again = reconcile(&at).await.map_err(|error| format!("reconcile again: {error}"))?;
        if !again.is_empty() {
            return Err(format!("a second reconcile finds more: {again:?}"));
        }
        Ok(())
    }

    fn check_books(&self, done: &Rehearsed, rows: usize) -> Result<(), String> {
        let counts = &done.counts;
        let read = counts.read == rows as u64 && counts.rejected == 0;
        if !read || (counts.late > 0 && !self.has_late_rows) {
            return Err(format!(
                "{rows} rows, no reject, late ones: {}; but the books say {counts:?}",
                self.has_late_rows
            ));
        }
        Ok(())
    }

    /// Writes contracts, queries and input.
    fn write(&self, folder: &Path) -> (Config, Script) {
        for name in ["contracts", "queries"] {
            fs::create_dir(folder.join(name)).unwrap();
        }
        for table in ["rejects", "epochs"] {
            let from = format!("{}/lake/{table}.sql", env!("CARGO_MANIFEST_DIR"));
            fs::copy(from, folder.join(format!("contracts/{table}.sql"))).unwrap();
        }
        fs::write(folder.join("contracts/events.sql"), CONTRACT).unwrap();
        for (name, text) in self.queries.iter().flat_map(Query::files) {
            fs::write(folder.join(format!("queries/{name}.sql")), text).unwrap();
        }
        fs::create_dir(folder.join("queries/lookups")).unwrap();
        let kinds: String = self.kinds.iter().map(|(key, label, weight)| format!("{key},{label},{weight}\n")).collect();
        fs::write(folder.join("queries/lookups/kinds.csv"), format!("kk,label,w\n{kinds}")).unwrap();
        if self.is_reconciled {
            for query in &self.queries {
                let (name, text) = child(&query.name);
                fs::write(folder.join(format!("queries/{name}.sql")), text).unwrap();
            }
        }
        let mut files = Vec::new();
        for (number, events) in self.shards.iter().enumerate() {
            let path = folder.join(format!("input_{number}.ndjson"));
            let lines: String = events.iter().map(|event| format!("{}\n", event.json)).collect();
            fs::write(&path, lines).unwrap();
            files.push(path);
        }
        let mut config = Config::load(None, &[]).unwrap();
        config.lake.url = folder.join("lake").display().to_string();
        config.lake.contracts = folder.join("contracts");
        config.queries.dir = folder.join("queries");
        config.stream.table = "events".into();
        config.watermark.out_of_orderness = std::time::Duration::from_secs(self.out_of_orderness_s.unsigned_abs());
        let token_key = TokenKey::from_hex(1, TOKEN_KEY).unwrap();
        // 2100: no event is from the future.
        (config, Script { files, steps: self.steps.clone(), now: 4_102_444_800 * SECOND_US, token_key })
    }

    /// Statements that give DuckDB the input, each row's epoch, and what each query had closed before each epoch.
    async fn tables(&self, folder: &Path, view: &LakeView) -> Result<Vec<String>, String> {
        let columns = "{id:'VARCHAR', at_us:'BIGINT', k:'VARCHAR', g:'INTEGER', amount:'DECIMAL(20,2)', price:'DOUBLE', \
                       n:'BIGINT', flag:'BOOLEAN', note:'VARCHAR', \"at\":'VARCHAR'}";
        let input =
            format!("read_json('{}/input_*.ndjson', format='newline_delimited', columns={columns})", folder.display());
        let mut epochs = String::new();
        let looks_into_tables = self.queries.iter().any(|query| matches!(query.reads, Reads::Table { .. }));
        if self.has_late_rows || looks_into_tables {
            let rows = view.sql("SELECT id, _epoch FROM events", Params::default()).await.map_err(|e| e.to_string())?;
            for batch in &rows {
                let ids = arrow::compute::cast(&batch["id"], &arrow::datatypes::DataType::Utf8).unwrap();
                let ids = arrow::array::AsArray::as_string::<i32>(&ids);
                let numbers = arrow::array::AsArray::as_primitive::<arrow::datatypes::Int64Type>(&batch["_epoch"]);
                for row in 0..batch.num_rows() {
                    let _ = writeln!(epochs, "{},{}", ids.value(row), numbers.value(row));
                }
            }
        }
        fs::write(folder.join("row_epochs.csv"), epochs).unwrap();
        let slots = slots(&folder.join("lake/_epochs"));
        fs::write(folder.join("closed.csv"), closed(&slots)).unwrap();
        let saw: String = self.queries.iter().map(|query| saw(query, &slots, &folder.join("lake"))).collect();
        fs::write(folder.join("saw.csv"), saw).unwrap();
        let csv = |name: &str, columns: &str| {
            format!(
                "read_csv('{}/{name}', header=false, auto_detect=false, delim=',', columns={{{columns}}})",
                folder.display()
            )
        };
        // The same record twice is one row.
        let rows = format!(
            "SELECT * FROM (SELECT DISTINCT * FROM {input}) LEFT JOIN {} USING (id)",
            csv("row_epochs.csv", "'id':'VARCHAR','epoch':'BIGINT'")
        );
        let saw = csv("saw.csv", "'query':'VARCHAR','epoch':'BIGINT','through':'BIGINT'");
        let closed = csv("closed.csv", "'query':'VARCHAR','epoch':'BIGINT','closed_us':'BIGINT'");
        Ok(vec![
            format!("CREATE OR REPLACE TABLE ev AS {rows}"),
            format!("CREATE OR REPLACE TABLE closed AS SELECT * FROM {closed}"),
            format!("CREATE OR REPLACE TABLE saw AS SELECT * FROM {saw}"),
            format!(
                "CREATE OR REPLACE TABLE kinds AS SELECT * FROM read_csv('{}/queries/lookups/kinds.csv', header=true, \
                 auto_detect=false, delim=',', columns={{'kk':'VARCHAR','label':'VARCHAR','w':'BIGINT'}})",
                folder.display()
            ),
        ])
    }
}

/// A file in which a key may be missing or stand twice.
fn kinds(random: &mut ChaCha8Rng) -> Vec<(&'static str, &'static str, i64)> {
    let keys = ["alpha", "beta", "gamma", "délta", "none"];
    let mut line = || {
        let key = keys[random.random_range(0..keys.len())];
        (key, ["first", "second"][random.random_range(0..2)], random.random_range(-5..50))
    };
    (0..5).map(|_| line()).collect()
}

/// Audits the lake; what it says.
async fn audit(config: &Config) -> Result<String, String> {
    let report = lakeward::audit::audit(config).await.map_err(|error| format!("the audit: {error}"))?;
    if report.is_clean() { Ok(report.to_string()) } else { Err(format!("the audit finds:\n{report}")) }
}

/// A view on a view, of one kind or another.
fn child(parent: &str) -> (String, String) {
    let number: usize = parent[1..].parse().expect("a numbered query");
    let name = format!("{parent}_child");
    let counts = |window: &str| {
        format!(
            "SELECT window_start, window_end, CAST(window_start AS DATE) AS day, count(*) AS n, count(a0) AS known \
             FROM {window} GROUP BY window_start, window_end"
        )
    };
    let select = match number {
        7 => counts(&format!("CUMULATE({parent}, window_end, INTERVAL '5 minutes', INTERVAL '2 hours')")),
        0 | 4 => format!("SELECT * FROM {parent}"),
        1 | 5 => counts(&format!("TUMBLE({parent}, window_end, INTERVAL '10 minutes')")),
        2 | 6 => counts(&format!("SESSION({parent}, window_end, INTERVAL '5 minutes')")),
        _ => counts(&format!("HOP({parent}, window_end, INTERVAL '1 minute', INTERVAL '3 minutes')")),
    };
    let text = format!("CREATE MATERIALIZED VIEW {name} WITH (partition_by = 'day') AS {select}");
    (name, text)
}

fn slots(folder: &Path) -> Vec<Value> {
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let slots = files.filter(|path| path.extension().is_some_and(|extension| extension == "json"));
    slots.map(|path| serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()).collect()
}

/// What each query had closed in the slot before each epoch: lines of query, epoch, microseconds.
fn closed(slots: &[Value]) -> String {
    let mut lines = String::new();
    for slot in slots {
        let epoch = slot["epoch"].as_u64().unwrap();
        for (query, progress) in slot["queries"].as_object().unwrap() {
            if let Some(until) = progress["closed_until"].as_i64() {
                let _ = writeln!(lines, "{query},{},{until}", epoch + 1);
            }
        }
    }
    lines
}

/// Up to which epoch the table that a query looks into held rows, as each epoch saw it: lines of query, epoch, epoch.
fn saw(query: &Query, slots: &[Value], lake: &Path) -> String {
    let mut lines = String::new();
    let table = query.table();
    for slot in slots {
        let version = slot["queries"][&query.name]["lookups"][&table].as_u64();
        if let Some(through) = version.and_then(|version| through(&lake.join(&table).join("_delta_log"), version)) {
            let _ = writeln!(lines, "{},{},{through}", query.name, slot["epoch"]);
        }
    }
    lines
}

/// The last epoch that a version of a table tells of, in any commit up to it.
fn through(log: &Path, version: u64) -> Option<u64> {
    let commits = (0..=version).filter_map(|version| fs::read_to_string(log.join(format!("{version:020}.json"))).ok());
    let epochs = commits.flat_map(|commit| {
        let actions = commit.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        actions.filter_map(|action| action["txn"]["version"].as_u64()).collect::<Vec<_>>()
    });
    epochs.max()
}

/// Deals the events to shards, in an order that is off by at most `disorder_us`, some of them twice.
fn deal(random: &mut ChaCha8Rng, events: &[Event], disorder_us: i64) -> Vec<Vec<Event>> {
    let mut order: Vec<(i64, &Event)> =
        events.iter().map(|event| (event.at_us + random.random_range(0..=disorder_us), event)).collect();
    order.sort_by_key(|(at, event)| (*at, event.at_us));
    let mut shards = vec![Vec::new(); random.random_range(1..=SHARDS_MAX)];
    let again = if random.random_bool(0.3) { 0.05 } else { 0.0 };
    let mut sent = Vec::new();
    for (_, event) in order {
        sent.push(event);
        let shard = random.random_range(0..shards.len());
        shards[shard].push(event.clone());
        if random.random_bool(again) {
            let (shard, twin) = (random.random_range(0..shards.len()), sent[random.random_range(0..sent.len())]);
            shards[shard].push(twin.clone());
        }
    }
    shards
}

fn steps(random: &mut ChaCha8Rng, shards: &[Vec<Event>], is_reconciled: bool) -> Vec<Step> {
    let commits = random.random_range(if is_reconciled { 3..12 } else { 0..8 });
    let rows: usize = shards.iter().map(Vec::len).sum();
    let piece = rows / (commits + 1) + 1;
    let mut steps = Vec::new();
    for _ in 0..commits {
        for _ in 0..random.random_range(1..4) {
            let records = Some(random.random_range(1..=piece));
            steps.push(Step::Read { file: random.random_range(0..shards.len()), records });
            if random.random_bool(0.3) {
                steps.push(Step::Fold);
            }
        }
        steps.push(match random.random_range(0..10) {
            0 => Step::CommitHalf,
            1 => Step::Restart,
            _ => Step::Commit,
        });
        if random.random_bool(0.15) {
            steps.push(Step::Restart);
        }
        if is_reconciled && random.random_bool(0.4) {
            steps.push(if steps.len().is_multiple_of(2) { Step::Reconcile } else { Step::Restate });
        }
    }
    steps
}
