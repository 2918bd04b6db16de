//! Rows that leave for good: dates a table keeps no longer, and the rows of a card. Whatever is left is there byte for byte,
//! windows stay as they were answered, late rows change none that lacks rows, and the audit knows exactly what is gone.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use lakeward::audit::audit;
use lakeward::clock::Clock;
use lakeward::config::Config;
use lakeward::pipeline::{
    AtRest, Erasure, ExpiredTable, Rehearsed, RestatedTable, Script, Step, compact, erase, expire, reconcile, rehearse,
};
use lakeward::token::{TokenKey, Tokenizer};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;

use crate::oracle::differences;
use crate::support::{Scratch, TOKEN_KEY, duckdb, interrupt, say, slots, text, wait_for};
use crate::victim::Victim;

const MINUTE_US: i64 = 60_000_000;
const DAY_US: i64 = 1_440 * MINUTE_US;
/// 2026-05-01T00:00:00Z.
const FIRST_US: i64 = 1_777_593_600_000_000;
/// 2100-01-01: what the clock shows; ages go by the watermark.
const WRITTEN_US: i64 = 4_102_444_800_000_000;
/// Days of events: the watermark ends on the sixth.
const DAYS: i64 = 6;

const CONTRACT: &str = "
-- Payments.
CREATE TABLE payments (
  at     TIMESTAMP NOT NULL COMMENT 'when',
  day    DATE NOT NULL GENERATED ALWAYS AS (CAST(at AS DATE)) COMMENT 'UTC date of at',
  id     STRING NOT NULL COMMENT 'identity',
  card   STRING NOT NULL OPTIONS (field = 'cc', pad = 12, token = true) COMMENT 'token of the card',
  city   STRING NOT NULL COMMENT 'where',
  amount DECIMAL(20,2) NOT NULL CHECK (amount > 0) COMMENT 'money',
  _source STRING NOT NULL, _shard STRING NOT NULL, _sequence STRING NOT NULL, _sub_sequence INT NOT NULL,
  _arrival_time TIMESTAMP NOT NULL, _epoch BIGINT NOT NULL, _late BOOLEAN NOT NULL
) WITH (format = 'json', event_time = 'at', identity = 'id', partition_key = 'card', partition_by = 'day', sort_by = 'at'KEEP);
";

const BOUNDS: &str = "window_start, window_end, CAST(window_start AS DATE) AS event_date";

/// Name and SELECT of each view. Those of `WITH_CARD` hold tokens.
fn views() -> Vec<(&'static str, String)> {
    let grouped = |columns: &str, from: &str, by: &str| {
        format!("SELECT {BOUNDS}, {columns} FROM {from} GROUP BY window_start, window_end{by}")
    };
    let quarter = "TUMBLE(payments, at, INTERVAL '15 minutes')";
    vec![
        ("quarters", grouped("city, count(*) AS n, sum(amount) AS amount", quarter, ", city")),
        (
            "hours",
            grouped("sum(n) AS n, sum(amount) AS amount", "TUMBLE(quarters, window_start, INTERVAL '1 hour')", ""),
        ),
        ("slides", grouped("count(*) AS n", "HOP(payments, at, INTERVAL '1 hour', INTERVAL '3 hours')", "")),
        ("so_far", grouped("count(*) AS n", "CUMULATE(payments, at, INTERVAL '1 hour', INTERVAL '4 hours')", "")),
        ("visits", grouped("city, count(*) AS n", "SESSION(payments, at, INTERVAL '10 minutes', city)", ", city")),
        ("busy", "SELECT window_start, window_end, event_date, city, n FROM quarters WHERE n > 1".into()),
        ("dear", "SELECT at, day AS event_date, id, amount FROM payments WHERE amount > 60".into()),
        ("payers", "SELECT at, day AS event_date, id, card AS payer FROM payments WHERE amount > 60".into()),
        ("by_card", grouped("card, sum(amount) AS amount", "TUMBLE(payments, at, INTERVAL '1 hour')", ", card")),
        ("lists", grouped("city, string_agg(card, ',' ORDER BY id) AS cards", quarter, ", city")),
        (
            "card_days",
            grouped("card, sum(amount) AS amount", "TUMBLE(by_card, window_start, INTERVAL '1 day')", ", card"),
        ),
    ]
}

/// Tables that hold tokens, and the column they are in.
const WITH_CARD: [(&str, &str); 5] =
    [("payments", "card"), ("payers", "payer"), ("by_card", "card"), ("lists", "cards"), ("card_days", "card")];
const WITHOUT_CARD: [&str; 7] = ["quarters", "hours", "slides", "so_far", "visits", "busy", "dear"];

/// A lake of payments.
struct Site {
    scratch: Scratch,
    config: Config,
}

/// The views of tests that start many jobs.
const FEW: [&str; 4] = ["quarters", "visits", "payers", "lists"];

/// `keep` is what contracts say of how long tables keep their dates, by table.
fn site(keep: &[(&str, &str)], settings: &[&str]) -> Site {
    site_of(|_| true, keep, settings)
}

fn small_site(keep: &[(&str, &str)]) -> Site {
    site_of(|view| FEW.contains(&view), keep, &[])
}

fn site_of(is_wanted: impl Fn(&str) -> bool, keep: &[(&str, &str)], settings: &[&str]) -> Site {
    let mut scratch = Scratch::new();
    let (contracts, queries) = (scratch.path("contracts"), scratch.path("queries"));
    fs::create_dir_all(&contracts).unwrap();
    fs::create_dir_all(&queries).unwrap();
    for table in ["rejects", "epochs"] {
        let file = format!("{table}.sql");
        fs::copy(format!("{}/lake/{file}", env!("CARGO_MANIFEST_DIR")), contracts.join(file)).unwrap();
    }
    let of = |table: &str| keep.iter().find(|(name, _)| *name == table).map(|(_, days)| format!(", keep = '{days}'"));
    let stream = CONTRACT.replace("KEEP", &of("payments").unwrap_or_default());
    fs::write(contracts.join("payments.sql"), stream).unwrap();
    for (name, select) in views().into_iter().filter(|(name, _)| is_wanted(name)) {
        fs::write(queries.join(format!("{name}.sql")), format!("CREATE MATERIALIZED VIEW {name} AS {select}")).unwrap();
    }
    let mut all = vec![
        "stream.table=payments".to_owned(),
        format!("lake.contracts={}", contracts.display()),
        format!("queries.dir={}", queries.display()),
        "watermark.out_of_orderness=1s".to_owned(),
    ];
    all.extend(settings.iter().map(|setting| (*setting).to_owned()));
    for setting in &all {
        scratch = scratch.set(setting);
    }
    if keep.iter().any(|(name, _)| *name != "payments") {
        scratch.must(&["lake", "ddl", "--write"]);
        for (table, days) in keep.iter().filter(|(name, _)| *name != "payments") {
            let path = contracts.join(format!("{table}.sql"));
            let text = fs::read_to_string(&path).unwrap();
            let (before, after) = text.rsplit_once(");").unwrap();
            fs::write(&path, format!("{before}, keep = '{days}');{after}")).unwrap();
        }
    }
    all.push(format!("lake.url={}", scratch.lake().display()));
    Site { config: Config::load(None, &all).unwrap(), scratch }
}

/// One payment.
#[derive(Clone, Debug)]
struct Payment {
    at_us: i64,
    card: usize,
    json: String,
}

fn number(card: usize) -> String {
    format!("4{:015}", 7_919 * (card + 1))
}

fn token(card: usize) -> String {
    let mut tokenizer = Tokenizer::new(TokenKey::from_hex(1, TOKEN_KEY).unwrap());
    tokenizer.token(&number(card)).to_owned()
}

/// Payments of seven cards over all days, in order of time; few of the first card, on every second day.
fn payments(seed: u64, count: usize) -> Vec<Payment> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut times: Vec<i64> = (0..count).map(|_| FIRST_US + random.random_range(0..DAYS * DAY_US)).collect();
    times.sort_unstable();
    let mut made = Vec::with_capacity(count);
    for (number_of, at_us) in times.into_iter().enumerate() {
        let is_first = (at_us - FIRST_US) / DAY_US % 2 == 0 && random.random_ratio(1, 40);
        let card = if is_first { 0 } else { random.random_range(1..7) };
        made.push(payment(&mut random, &format!("{seed}-{number_of:05}"), at_us, card));
    }
    made
}

fn payment(random: &mut StdRng, id: &str, at_us: i64, card: usize) -> Payment {
    let at = chrono::DateTime::from_timestamp_micros(at_us).unwrap().format("%Y-%m-%dT%H:%M:%S%.6fZ");
    let city = ["Bern", "Rom", "Oslo"][random.random_range(0..3)];
    let cents: u32 = random.random_range(100..10_000);
    let mut json = String::new();
    let (whole, rest, cc) = (cents / 100, cents % 100, number(card));
    write!(json, r#"{{"at":"{at}","id":"{id}","cc":"{cc}","city":"{city}","amount":{whole}.{rest:02}}}"#).unwrap();
    Payment { at_us, card, json }
}

impl Site {
    fn write(&self, name: &str, payments: &[Payment]) -> PathBuf {
        let path = self.scratch.path(name);
        fs::write(&path, payments.iter().map(|payment| format!("{}\n", payment.json)).collect::<String>()).unwrap();
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
            clock: Clock::fixed(WRITTEN_US + DAY_US),
            token_key: TokenKey::from_hex(1, TOKEN_KEY).unwrap(),
            host: "rehearsal".into(),
        }
    }

    async fn expire(&self) -> Vec<ExpiredTable> {
        expire(&self.at_rest(), &[]).await.unwrap()
    }

    async fn erase(&self, card: usize) -> u64 {
        let Erasure { tables, behind } = erase(&self.at_rest(), &[token(card)]).await.unwrap();
        assert!(behind.is_none(), "{behind:?}");
        tables.iter().map(|table| table.rows).sum()
    }

    async fn reconcile(&self) -> BTreeMap<String, RestatedTable> {
        let done = reconcile(&self.at_rest()).await.unwrap();
        done.into_iter().map(|table| (table.table.to_string(), table)).collect()
    }

    /// What the audit says; it must find nothing.
    async fn audited(&self) -> String {
        let report = audit(&self.config).await.unwrap();
        assert!(report.is_clean(), "{report}");
        report.to_string()
    }

    /// The same lake as it is now.
    fn copy(&self) -> Victim {
        Victim::copy_of(&self.scratch, Scratch::new())
    }

    /// Runs `lake erase --card-number -` on a number.
    fn erase_by_number(&self, input: &str) -> Output {
        let mut command = self.scratch.command(&["lake", "erase", "--card-number", "-"]);
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    }
}

fn pieces(count: usize, records: usize, beside: Option<Step>) -> Vec<Step> {
    let piece = [Some(Step::Read { file: 0, records: Some(records) }), beside, Some(Step::Commit)];
    piece.into_iter().cycle().take(3 * count).flatten().collect()
}

/// Rows of a table that differ between two lakes as DuckDB reads them, where `wanted`; `_epoch` depends on other slots.
fn apart(one: &Scratch, two: &Scratch, table: &str, wanted: &str) -> i64 {
    let columns = if table == "payments" { "* EXCLUDE (_epoch, _shard)" } else { "*" };
    let select = |scratch: &Scratch| format!("SELECT {columns} FROM {} WHERE {wanted}", scratch.delta(table));
    differences(&select(one), &select(two))
}

fn count(scratch: &Scratch, table: &str, wanted: &str) -> i64 {
    duckdb(&format!("SELECT count(*) FROM {} WHERE {wanted}", scratch.delta(table)))[0][0].as_i64().unwrap()
}

fn dates(scratch: &Scratch, table: &str, column: &str) -> Vec<String> {
    let rows = duckdb(&format!("SELECT DISTINCT CAST({column} AS VARCHAR) FROM {} ORDER BY 1", scratch.delta(table)));
    rows.iter().map(|row| row[0].as_str().unwrap().to_owned()).collect()
}

/// Bytes of everything a reader of the lake may come to: slots, logs, manifests, and data files that are live.
fn reachable(scratch: &Scratch) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files: Vec<PathBuf> = Vec::new();
    let mut folders = vec![scratch.lake()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() { folders.push(entry) } else { files.push(entry) }
        }
    }
    let tables = WITH_CARD.map(|(table, _)| table).into_iter().chain(WITHOUT_CARD).chain(["rejects", "epochs"]);
    let live: Vec<String> = tables.flat_map(|table| live_paths(scratch, table)).collect();
    let is_live = |path: &PathBuf| {
        let is_data =
            path.extension().is_some_and(|e| e == "parquet") && !path.to_string_lossy().contains("_delta_log");
        !is_data || live.iter().any(|live| path.ends_with(live))
    };
    files.into_iter().filter(is_live).map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

/// Paths of live files, with the table's folder.
fn live_paths(scratch: &Scratch, table: &str) -> Vec<String> {
    let log = scratch.lake().join(table).join("_delta_log");
    let mut commits: Vec<PathBuf> = fs::read_dir(log).unwrap().map(|entry| entry.unwrap().path()).collect();
    commits.retain(|path| path.extension().is_some_and(|e| e == "json"));
    commits.sort();
    let mut live = Vec::new();
    for line in
        commits.iter().flat_map(|path| fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect::<Vec<_>>())
    {
        let line: Value = serde_json::from_str(&line).unwrap();
        if let Some(path) = line["add"]["path"].as_str() {
            live.push(format!("{table}/{path}"));
        }
        if let Some(path) = line["remove"]["path"].as_str() {
            live.retain(|live| *live != format!("{table}/{path}"));
        }
    }
    live
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dates_leave_as_a_whole_once_they_are_older_than_kept_and_nothing_else_changes() {
    let keep = [("payments", "2d"), ("hours", "3d"), ("visits", "1d"), ("payers", "4d")];
    let (with, without) = (site(&keep, &[]), site(&[], &[]));
    let all = payments(1, 1_500);
    let steps = |beside| pieces(30, 45, beside);
    let done = with.rehearse(&with.write("in.ndjson", &all), steps(Some(Step::Expire))).await;
    assert!(done.rows_expired > 300, "{done:?}");
    without.rehearse(&without.write("in.ndjson", &all), steps(None)).await;
    with.audited().await;
    // What the job's last look left is taken out by hand; then there is nothing more.
    with.expire().await;
    assert_eq!(with.expire().await, []);
    assert!(with.scratch.must(&["lake", "expire"]).contains("nothing was taken out"));
    // The watermark stands in the sixth day.
    for (table, column, first) in [
        ("payments", "day", "2026-05-04"),
        ("hours", "event_date", "2026-05-03"),
        ("visits", "event_date", "2026-05-05"),
        ("payers", "event_date", "2026-05-02"),
    ] {
        assert_eq!(dates(&with.scratch, table, column)[0], first, "{table}");
        assert_eq!(apart(&with.scratch, &without.scratch, table, &format!("{column} >= DATE '{first}'")), 0, "{table}");
        assert!(count(&without.scratch, table, &format!("{column} < DATE '{first}'")) > 0, "{table}");
    }
    for table in ["quarters", "slides", "so_far", "busy", "dear", "by_card", "lists", "card_days"] {
        assert_eq!(apart(&with.scratch, &without.scratch, table, "true"), 0, "{table}");
    }
    let report = with.audited().await;
    assert!(
        report.contains("rows have expired") && report.contains("were not compared: rows they were made of"),
        "{report}"
    );
    // Compaction goes on with what is there.
    compact(&with.at_rest(), &[]).await.unwrap();
    with.audited().await;
    let keeps_all = with.scratch.run(&["lake", "expire", "dear"]);
    assert!(
        keeps_all.status.code() == Some(2) && text(&keeps_all.stderr).contains("keeps all its dates"),
        "{keeps_all:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn late_rows_change_no_window_of_which_rows_have_expired() {
    let site = site(&[("payments", "2d"), ("quarters", "3d")], &[]);
    let (late, first): (Vec<_>, Vec<_>) = payments(2, 1_200).into_iter().partition(|payment| payment.at_us % 9 == 0);
    site.rehearse(&site.write("first.ndjson", &first), pieces(20, 60, None)).await;
    assert!(!site.expire().await.is_empty());
    site.audited().await;
    let before = site.copy();
    let done = site.rehearse(&site.write("late.ndjson", &late), Vec::new()).await;
    assert!(done.counts.late > 60, "{done:?}");
    let done = site.reconcile().await;
    for table in ["quarters", "slides", "so_far", "visits"] {
        assert!(done[table].late_left > 10 && done[table].windows > 0, "{table}: {done:?}");
    }
    // The first three dates of payments are gone, and with them what windows of these dates were made of.
    for table in ["quarters", "hours", "so_far", "visits", "busy", "by_card", "lists"] {
        let old = "event_date < DATE '2026-05-04'";
        assert_eq!(apart(&before.scratch, &site.scratch, table, old), 0, "{table}");
        assert!(apart(&before.scratch, &site.scratch, table, "event_date >= DATE '2026-05-04'") > 0, "{table}");
    }
    let wanted = format!(
        "SELECT time_bucket(INTERVAL '15 minutes', \"at\"), city, count(*), sum(amount) FROM {} WHERE day >= DATE '2026-05-04' \
         GROUP BY ALL",
        site.scratch.delta("payments")
    );
    let found = format!(
        "SELECT window_start, city, n, amount FROM {} WHERE event_date >= DATE '2026-05-04'",
        site.scratch.delta("quarters")
    );
    assert_eq!(differences(&wanted, &found), 0, "`quarters` is not what DuckDB counts");
    site.audited().await;
    // The late rows of those dates are in the table until the next look.
    let stragglers = count(&site.scratch, "payments", "day < DATE '2026-05-04'");
    assert!(stragglers > 10, "{stragglers}");
    let said = site.scratch.must(&["lake", "reconcile"]);
    assert!(said.contains("nothing was written") || said.contains("late rows stay beside their windows"), "{said}");
    assert_eq!(site.expire().await[0].rows, stragglers.unsigned_abs());
    assert_eq!(dates(&site.scratch, "payments", "day")[0], "2026-05-04");
    site.audited().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_card_is_erased_from_every_table_and_every_other_row_stays() {
    let site = site(&[], &[]);
    let mut all = payments(3, 1_500);
    // A payment that is refused: its record is kept with the token.
    let refused = payment(&mut StdRng::seed_from_u64(0), "refused", FIRST_US + DAY_US, 0);
    let json = refused.json.rsplit_once(':').unwrap().0.to_owned() + ":-1.00}";
    all.insert(400, Payment { card: usize::MAX, json, ..refused });
    site.rehearse(&site.write("in.ndjson", &all), pieces(30, 45, None)).await;
    compact(&site.at_rest(), &["payments".to_owned()]).await.unwrap();
    let before = site.copy();
    let wanted = all.iter().filter(|payment| payment.card == 0).count();
    assert!((10..60).contains(&wanted), "{wanted} rows to erase");
    let said = site.erase_by_number(&format!("{}\n", number(0)));
    let (out, err) = (text(&said.stdout), text(&said.stderr));
    assert!(said.status.success(), "{out}{err}");
    let line =
        |table: &str| out.lines().find(|line| line.starts_with(&format!("{table}: "))).unwrap_or_default().to_owned();
    assert!(line("payments").contains(&format!("{wanted} rows of ")), "{out}");
    assert!(out.contains("`retention.keep`") && out.contains("vacuum"), "{out}");
    let gone = token(0);
    for (table, column) in WITH_CARD {
        assert!(line(table).contains("erased"), "{table}: {out}");
        let others = format!("NOT contains({column}, '{gone}')");
        assert!(count(&before.scratch, table, &format!("contains({column}, '{gone}')")) > 0, "{table}");
        let kept = format!("SELECT * FROM {} WHERE {others}", before.scratch.delta(table));
        let is = format!("SELECT * FROM {}", site.scratch.delta(table));
        assert_eq!(differences(&kept, &is), 0, "{table}");
    }
    assert!(line("rejects").contains("1 rows of 1 dates erased"), "{out}");
    assert_eq!((count(&before.scratch, "rejects", "true"), count(&site.scratch, "rejects", "true")), (1, 0));
    for table in WITHOUT_CARD {
        assert_eq!(live_paths(&before.scratch, table), live_paths(&site.scratch, table), "{table}");
        assert!(line(table).is_empty(), "{out}");
    }
    // Nothing that is read tells the card any more, nor did anybody say it.
    let shown = &gone["tok_1_".len()..][..20];
    let holds = |bytes: &[u8], text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
    for (path, bytes) in reachable(&site.scratch) {
        assert!(!holds(&bytes, shown) && !holds(&bytes, &number(0)), "{}", path.display());
    }
    for text in [shown, &number(0)] {
        assert!(!out.contains(text) && !err.contains(text), "{out}{err}");
    }
    let report = site.audited().await;
    assert!(report.contains(&format!("`payments`: {wanted} rows were erased")), "{report}");
    assert!(report.contains("were not compared"), "{report}");
    // Again there is nothing to do, and nothing is written.
    let slots_before = slots(&site.scratch.lake());
    let again = site.scratch.must(&["lake", "erase", "--card-token", &gone]);
    assert!(again.contains("nothing was erased"), "{again}");
    assert_eq!(slots(&site.scratch.lake()), slots_before);
    for wrong in [["--card-token", "tok_1_abc"], ["--card-number", "4111111111111111"]] {
        let refused = site.scratch.run(&["lake", "erase", wrong[0], wrong[1]]);
        assert_eq!(refused.status.code(), Some(2), "{refused:?}");
        assert!(!text(&refused.stderr).contains("4111111111111111"), "{refused:?}");
    }
    // Other readers see the same, and the linter finds nothing.
    let linted: Value = serde_json::from_str(&site.scratch.must(&["lake", "check", "--json"])).unwrap();
    for (table, _) in WITH_CARD {
        assert_eq!(linted[table]["findings"], serde_json::json!([]), "{table}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_erasure_that_the_export_does_not_follow_fails_until_it_does() {
    let folder = tempfile::tempdir().unwrap();
    let (plain, away) = (folder.path().join("plain"), folder.path().join("away"));
    let site = site_of(|view| FEW.contains(&view), &[], &[&format!("plain.url={}", plain.display())]);
    site.rehearse(&site.write("in.ndjson", &payments(10, 900)), pieces(18, 50, None)).await;
    site.scratch.must(&["lake", "export"]);
    let exported = |card: usize| {
        ["payments", "payers", "lists"].map(|table| {
            let column = WITH_CARD.iter().find(|(name, _)| *name == table).unwrap().1;
            let files = plain.join(table).join("*/*.parquet");
            let rows = format!("SELECT count(*) FROM read_parquet('{}')", files.display());
            duckdb(&format!("{rows} WHERE contains({column}, '{}')", token(card)))[0][0].as_i64().unwrap()
        })
    };
    assert!(exported(0).iter().all(|rows| *rows > 0) && exported(1).iter().all(|rows| *rows > 0));

    // The place of one table takes nothing.
    let payments = plain.join("payments");
    fs::rename(&payments, &away).unwrap();
    fs::write(&payments, "no folder").unwrap();
    let gone = token(0);
    let command = ["lake", "erase", "--card-token", &gone];
    let failed = site.scratch.run(&command);
    let (out, err) = (text(&failed.stdout), text(&failed.stderr));
    assert_eq!(failed.status.code(), Some(1), "{out}{err}");
    assert!(err.contains("repeat this command") && err.contains("`lakeward lake export`"), "{err}");
    // What was done is told all the same.
    assert!(out.lines().any(|line| line.starts_with("payments: ") && line.contains(" erased ")), "{out}");
    assert_eq!(count(&site.scratch, "payments", &format!("card = '{gone}'")), 0);
    let before = slots(&site.scratch.lake());
    let again = site.scratch.run(&command);
    assert_eq!(again.status.code(), Some(1), "nothing is left to erase, and readers see it: {again:?}");

    // Once it is free, the same command ends well, and decides nothing.
    fs::remove_file(&payments).unwrap();
    fs::rename(&away, &payments).unwrap();
    // Those of the other tables have followed at once.
    let [of_payments, of_payers, of_lists] = exported(0);
    assert!(of_payments > 0 && (of_payers, of_lists) == (0, 0), "{of_payments} {of_payers} {of_lists}");
    let said = site.scratch.must(&command);
    assert!(said.contains("nothing was erased"), "{said}");
    assert_eq!((exported(0), slots(&site.scratch.lake())), ([0; 3], before));

    // Killed after its slot, an erasure leaves what one leaves that knows of no export.
    let gone = token(1);
    let command = ["lake", "erase", "--card-token", &gone];
    site.scratch.must(&[&command[..], &["--set", "plain.url="]].concat());
    assert!(exported(1).iter().all(|rows| *rows > 0));
    site.scratch.must(&command);
    assert_eq!(exported(1), [0; 3]);
    site.audited().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_row_more_than_the_books_say_is_found() {
    let site = site_of(|view| ["quarters", "by_card"].contains(&view), &[("quarters", "4d")], &[]);
    site.rehearse(&site.write("in.ndjson", &payments(4, 900)), pieces(18, 45, None)).await;
    assert!(site.erase(0).await > 10);
    site.expire().await;
    site.audited().await;
    // A row of a file that the erasure wrote, of one that it did not touch, and of a window beside those that lack rows.
    let newest = slots(&site.scratch.lake());
    for (table, kinds) in [("payments", "rows differ"), ("by_card", "missing row"), ("quarters", "missing row")] {
        let files = site.copy().files(table).len();
        let mut found = 0;
        for number in (0..files).step_by(files.div_ceil(4)) {
            let victim = site.copy();
            let file = victim.files(table)[number].clone();
            if !live_paths(&site.scratch, table).iter().any(|live| file.ends_with(live)) {
                continue;
            }
            victim.rewrite(table, number, |rows| rows.slice(1, rows.num_rows() - 1));
            victim.relink();
            let config = format!("lake.url={}", victim.scratch.lake().display());
            let output = site.scratch.run(&["audit", "--json", "--set", &config]);
            let report: Value = serde_json::from_str(text(&output.stdout).trim()).unwrap();
            let named: Vec<&str> =
                report["findings"].as_array().unwrap().iter().filter_map(|f| f["kind"].as_str()).collect();
            let wanted = kinds.replace(' ', "_");
            found += usize::from(named.contains(&wanted.as_str()));
            assert!(table != "payments" || named.contains(&wanted.as_str()), "{table}, file {number}: {named:?}");
        }
        assert!(found > 0, "{table}: no missing row was found");
    }
    assert_eq!(slots(&site.scratch.lake()), newest);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn late_rows_and_backfills_leave_windows_of_erased_rows_as_they_were() {
    let site = site(&[], &[]);
    let (late, first): (Vec<_>, Vec<_>) = payments(5, 1_400).into_iter().partition(|payment| payment.at_us % 7 == 0);
    site.rehearse(&site.write("first.ndjson", &first), pieces(20, 60, None)).await;
    // Minutes of the card's payments, and the windows that hold one.
    let minutes = format!(
        "SELECT DISTINCT date_trunc('minute', \"at\") AS m FROM {} WHERE card = '{}'",
        site.scratch.delta("payments"),
        token(0)
    );
    let touched: Vec<String> = duckdb(&format!("SELECT CAST(m AS VARCHAR) FROM ({minutes})"))
        .iter()
        .map(|row| row[0].as_str().unwrap().to_owned())
        .collect();
    let minutes =
        format!("(VALUES {})", touched.iter().map(|m| format!("(TIMESTAMPTZ '{m}')")).collect::<Vec<_>>().join(", "));
    let holds = format!(
        "EXISTS (SELECT 1 FROM {minutes} v(m) WHERE m < window_end AND window_start < m + INTERVAL '1 minute')"
    );
    assert!(site.erase(0).await > 10);
    let before = site.copy();
    site.rehearse(&site.write("late.ndjson", &late), Vec::new()).await;
    site.audited().await;
    let done = site.reconcile().await;
    for table in ["quarters", "slides", "so_far", "visits", "by_card", "lists"] {
        assert!(done[table].late_left > 0 && done[table].windows > 0, "{table}: {done:?}");
    }
    for table in ["quarters", "slides", "by_card", "lists"] {
        assert_eq!(apart(&before.scratch, &site.scratch, table, &holds), 0, "{table}");
        assert!(apart(&before.scratch, &site.scratch, table, &format!("NOT {holds}")) > 0, "{table}");
    }
    // All others are what DuckDB counts.
    let wanted = format!(
        "SELECT * FROM (SELECT time_bucket(INTERVAL '15 minutes', \"at\") AS window_start, time_bucket(INTERVAL '15 minutes', \
         \"at\") + INTERVAL '15 minutes' AS window_end, city, count(*), sum(amount) FROM {} GROUP BY ALL) WHERE NOT {holds}",
        site.scratch.delta("payments")
    );
    let found = format!(
        "SELECT window_start, window_end, city, n, amount FROM {} WHERE NOT {holds}",
        site.scratch.delta("quarters")
    );
    assert_eq!(differences(&wanted, &found), 0, "`quarters` is not what DuckDB counts");
    site.audited().await;
    // By hand: what lacks rows stays, and where nothing else is asked for the answer is a sentence.
    let file = site.scratch.path("queries/quarters.sql");
    let start =
        chrono::DateTime::parse_from_str(&format!("{}00", touched[0].replace("+00", " +00")), "%Y-%m-%d %H:%M:%S %z");
    let from = start.unwrap().timestamp_micros() / (15 * MINUTE_US) * (15 * MINUTE_US);
    let show =
        |time: i64| chrono::DateTime::from_timestamp_micros(time).unwrap().format("%Y-%m-%dT%H:%M:%SZ").to_string();
    let (from, to) = (show(from), show(from + 15 * MINUTE_US));
    let refused = site.scratch.run(&["batch", file.to_str().unwrap(), "--from", &from, "--to", &to, "--write"]);
    assert!(
        refused.status.code() == Some(2) && text(&refused.stderr).contains("were erased or have expired"),
        "{refused:?}"
    );
    site.scratch.must(&["batch", file.to_str().unwrap(), "--from", "2026-05-01T00:00:00Z", "--write"]);
    assert_eq!(apart(&before.scratch, &site.scratch, "quarters", &holds), 0);
    site.audited().await;
    // A query that is new answers its history over what is there.
    let text = format!(
        "CREATE MATERIALIZED VIEW thirds AS SELECT {BOUNDS}, count(*) AS n FROM TUMBLE(payments, at, INTERVAL '20 minutes') GROUP BY window_start, window_end"
    );
    fs::write(site.scratch.path("queries/thirds.sql"), text).unwrap();
    let more = site.write("more.ndjson", &late[..1]);
    site.scratch.summary(&["--source", more.to_str().unwrap(), "--allow-late", "--backfill"]);
    let wanted = format!(
        "SELECT time_bucket(INTERVAL '20 minutes', \"at\"), count(*) FROM {} GROUP BY 1",
        site.scratch.delta("payments")
    );
    let found = format!("SELECT window_start, n FROM {}", site.scratch.delta("thirds"));
    assert_eq!(differences(&wanted, &found), 0, "`thirds` is not what DuckDB counts");
    site.audited().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_job_goes_on_after_an_erasure_and_takes_dates_out_beside_the_stream() {
    let site = site(
        &[("payments", "1d"), ("epochs", "1d")],
        &["commit.interval=50ms", "maintenance.interval=50ms", "commit.rows_max=40"],
    );
    let all = payments(6, 2_000);
    let (first, rest) = all.split_at(700);
    let whole = site.write("first.ndjson", first);
    site.scratch.summary(&["--source", whole.to_str().unwrap()]);
    site.audited().await;
    assert!(site.erase(0).await > 0);
    site.audited().await;
    let more = site.write("rest.ndjson", rest);
    let summary = site.scratch.summary(&["--source", more.to_str().unwrap(), "--pace", "250"]);
    // Most of four days; how much, the looks beside the stream decide.
    assert!(summary["rows_expired"].as_u64().unwrap() > 200, "{summary}");
    assert_eq!(summary["written"], 1_300, "{summary}");
    site.audited().await;
    // The card was used again.
    assert!(site.erase(0).await > 0);
    for (table, column) in WITH_CARD {
        assert_eq!(count(&site.scratch, table, &format!("contains({column}, '{}')", token(0))), 0, "{table}");
    }
    site.audited().await;
}

#[test]
fn nobody_erases_beside_a_running_job() {
    let site = site(&[], &["commit.interval=50ms"]);
    let file = site.write("in.ndjson", &payments(7, 4_000));
    let mut job = site.scratch.spawn("job", &["run", "--source", file.to_str().unwrap(), "--pace", "60"]);
    assert!(wait_for(&mut job, || slots(&site.scratch.lake()) > 2));
    for command in [&["lake", "erase", "--card-token", &token(1)][..], &["lake", "expire"]] {
        let refused = site.scratch.run(command);
        assert_eq!(refused.status.code(), Some(75), "{}", text(&refused.stderr));
    }
    interrupt(&job);
    job.wait().unwrap();
    site.scratch.must(&["audit"]);
}

/// The same files and the same script with kills in between: decided and not published, or staged and forgotten.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dates_taken_out_on_the_way_are_the_same_wherever_the_job_is_killed() {
    let (with, without) = (small_site(&[("payments", "1d")]), small_site(&[]));
    let all = payments(8, 800);
    let mut steps = Vec::new();
    for piece in 0..20 {
        steps.extend([Step::Read { file: 0, records: Some(40) }, Step::Expire]);
        steps.push([Step::Commit, Step::Restart, Step::CommitHalf][piece % 3]);
    }
    let done = with.rehearse(&with.write("in.ndjson", &all), steps.clone()).await;
    assert!(done.rows_expired > 300, "{done:?}");
    steps.retain(|step| *step != Step::Expire);
    without.rehearse(&without.write("in.ndjson", &all), steps).await;
    with.audited().await;
    with.expire().await;
    for table in FEW {
        assert_eq!(apart(&with.scratch, &without.scratch, table, "true"), 0, "{table}");
    }
    let first = dates(&with.scratch, "payments", "day")[0].clone();
    assert_eq!(first, "2026-05-05");
    assert_eq!(apart(&with.scratch, &without.scratch, "payments", &format!("day >= DATE '{first}'")), 0);
    with.audited().await;
}

/// Killed at whatever is under way: files staged, the slot decided, some tables published. The books are right at once, and
/// the next one erases what is left, if anything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_while_erasing_and_expiring() {
    let sound = small_site(&[("payments", "3d"), ("lists", "2d")]);
    sound.rehearse(&sound.write("in.ndjson", &payments(9, 900)), pieces(30, 30, None)).await;
    let mut tally: BTreeMap<&str, usize> = BTreeMap::new();
    for round in 0..8 {
        let site = small_site(&[("payments", "3d"), ("lists", "2d")]);
        copy(&sound.scratch.lake(), &site.scratch.lake());
        let gone = token(0);
        let command: &[&str] =
            if round % 2 == 0 { &["lake", "erase", "--card-token", &gone] } else { &["lake", "expire"] };
        let before = tracks(&site.scratch);
        let mut job = site.scratch.spawn("removal", command);
        let patience = Instant::now() + Duration::from_secs(120);
        let struck = loop {
            let now = tracks(&site.scratch);
            let due = match round / 2 % 3 {
                0 => now.0 > before.0 + round || now.1 > before.1,
                1 => now.1 > before.1 + 1,
                _ => now.2 > before.2,
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
            (_, _, 0) => "decided",
            _ => "published",
        };
        *tally.entry(left).or_default() += 1;
        if round % 3 != 2 {
            site.audited().await;
        }
        site.erase(0).await;
        site.expire().await;
        for (table, column) in WITH_CARD.into_iter().filter(|(table, _)| *table == "payments" || FEW.contains(table)) {
            let wanted = match table {
                "payments" => "day >= DATE '2026-05-03'",
                "lists" => "event_date >= DATE '2026-05-04'",
                _ => "true",
            };
            let kept = format!(
                "SELECT * FROM {} WHERE NOT contains({column}, '{gone}') AND {wanted}",
                sound.scratch.delta(table)
            );
            let is = format!("SELECT * FROM {}", site.scratch.delta(table));
            assert_eq!(differences(&kept, &is), 0, "{table}, round {round}, {left}");
        }
        site.audited().await;
    }
    say(&format!("kills while erasing and expiring: {tally:?}"));
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
    let folders = WITH_CARD.iter().flat_map(|(table, _)| entries(scratch.lake().join(table)));
    let (logs, partitions): (Vec<_>, Vec<_>) = folders.partition(|folder| folder.ends_with("_delta_log"));
    let count = |folders: Vec<PathBuf>| folders.into_iter().map(|folder| entries(folder).len()).sum();
    (count(partitions), slots(&scratch.lake()), count(logs))
}
