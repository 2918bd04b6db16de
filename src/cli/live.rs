//! The live view: a calm status while the job runs, and a line a commit.
//!
//! Only here does the command line know what a transaction is: which query holds cities, which one alerts.

use std::io::IsTerminal;
use std::time::Duration;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::Decimal128Type;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::output::{say, thousands, time};
use crate::clock::{Clock, Micros};
use crate::error::Result;
use crate::kinesis::span;
use crate::pipeline::{Commit, Running, Snapshot, Summary};

/// How often the status is drawn on a terminal, and how often said elsewhere.
const REDRAW: Duration = Duration::from_secs(1);
const RETELL: Duration = Duration::from_secs(10);
/// The share of the stream's retention from which on what is unread is shown.
pub(super) const AGEING_SHARE: f64 = 0.5;
/// Cities shown.
const CITIES: usize = 5;
/// Alerts shown.
const ALERTS: usize = 3;

/// Somebody watching a job.
pub(super) struct Live {
    /// Redrawn in place on a terminal; `None` where lines are plain or nothing is said.
    bar: Option<ProgressBar>,
    talk: bool,
    last: (Instant, u64),
}

impl Live {
    /// `talk = false` says nothing at all (the summary is for a machine).
    pub(super) fn new(talk: bool) -> Self {
        let bar = (talk && std::io::stderr().is_terminal()).then(|| {
            let style = ProgressStyle::with_template("{msg}").unwrap_or_else(|_| ProgressStyle::default_spinner());
            ProgressBar::new_spinner().with_style(style)
        });
        Self { bar, talk, last: (Instant::now(), 0) }
    }

    /// Shows the job until it ends.
    pub(super) async fn watch(mut self, mut running: Running, stop: &CancellationToken) -> Result<Summary> {
        let mut redraw = interval(if self.bar.is_some() { REDRAW } else { RETELL });
        redraw.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut told = false;
        while !running.has_ended() {
            tokio::select! {
                () = stop.cancelled(), if !told => {
                    told = true;
                    self.line("stopping: producers first, then what they had acknowledged is committed (again: leave at once)");
                }
                commit = running.commits.recv() => match commit {
                    Some(commit) => self.line(&commit_line(&commit)),
                    None => break,
                },
                _ = redraw.tick(), if self.talk => {
                    if let Some(snapshot) = running.snapshot().await {
                        self.show(&snapshot);
                    }
                }
            }
        }
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        running.wait().await
    }

    fn line(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(text),
            None if self.talk => say(text),
            None => {}
        }
    }

    fn show(&mut self, snapshot: &Snapshot) {
        let (then, before) = std::mem::replace(&mut self.last, (Instant::now(), snapshot.totals.read));
        let seconds = then.elapsed().as_secs_f64().max(f64::EPSILON);
        let rate = (snapshot.totals.read - before) as f64 / seconds;
        let status = status(snapshot, rate, Clock::System.now());
        match &self.bar {
            None => say(status.trim_end()),
            Some(bar) => {
                bar.set_message(status);
                bar.tick();
            }
        }
    }
}

fn commit_line(commit: &Commit) -> String {
    format!(
        "epoch {:>6}  {:>9} rows  {:>5} windows closed  {:>3} files  {:>10} bytes  {:>5} ms",
        commit.epoch,
        thousands(commit.rows),
        thousands(commit.windows_closed),
        commit.files,
        thousands(commit.bytes),
        commit.millis
    )
}

/// What is redrawn: how fast and how far, then the open windows, then the alerts.
fn status(snapshot: &Snapshot, rate: f64, now: Micros) -> String {
    let lag = snapshot
        .event_time_max
        .map_or_else(|| "-".into(), |newest| format!("{:.1} s", (now - newest).max(0) as f64 / 1e6));
    let cities = snapshot.open.get("city_minute").map_or_else(String::new, |rows| top_cities(rows));
    format!(
        "{} rows/s   {} rows   lag {lag}   watermark {}   {} open windows{}\n{cities}{}",
        thousands(rate),
        thousands(snapshot.totals.read),
        time(snapshot.watermark),
        thousands(snapshot.open_windows),
        ageing(snapshot, now),
        alerts(snapshot)
    )
}

/// What is unread, where it grows too old.
fn ageing(snapshot: &Snapshot, now: Micros) -> String {
    let old = snapshot.unread.as_ref().filter(|(_, unread)| unread.share(now) >= AGEING_SHARE);
    old.map_or_else(String::new, |(shard, unread)| {
        let (age, percent) = (span(unread.age(now)), 100.0 * unread.share(now));
        format!("   {shard} {age} behind, {percent:.0} % of the retention")
    })
}

/// The cities with most spend in windows that are still open.
fn top_cities(rows: &[RecordBatch]) -> String {
    let mut spend = std::collections::BTreeMap::<String, i128>::new();
    for batch in rows {
        let (Some(state), Some(city), Some(amount)) =
            (batch.column_by_name("state"), batch.column_by_name("city"), batch.column_by_name("amount"))
        else {
            continue;
        };
        let (Some(state), Some(city)) = (state.as_string_opt::<i32>(), city.as_string_opt::<i32>()) else { continue };
        let Some(amount) = amount.as_primitive_opt::<Decimal128Type>() else { continue };
        for row in 0..batch.num_rows() {
            if !amount.is_null(row) {
                *spend.entry(format!("{}, {}", city.value(row), state.value(row))).or_default() += amount.value(row);
            }
        }
    }
    let mut ranked: Vec<_> = spend.into_iter().collect();
    ranked.sort_by_key(|(_, cents)| -cents);
    let shown: Vec<_> =
        ranked.iter().take(CITIES).map(|(city, cents)| format!("{city} ${}.{:02}", cents / 100, cents % 100)).collect();
    if shown.is_empty() { String::new() } else { format!("open windows: {}\n", shown.join("  ·  ")) }
}

/// The last alerts and how many there were.
fn alerts(snapshot: &Snapshot) -> String {
    let Some((count, last)) = snapshot.alerts.get("fraud_alerts") else { return String::new() };
    let mut text = format!("{} fraud alerts", thousands(*count));
    let mut lines = Vec::new();
    for batch in last {
        for row in 0..batch.num_rows() {
            let shown = ["event_time", "card_token", "merchant", "amount", "city", "state"]
                .map(|name| batch.column_by_name(name).map_or_else(String::new, |column| value(column, row)));
            lines.push(format!("\n  {}", shown.join("  ")));
        }
    }
    let skip = lines.len().saturating_sub(ALERTS);
    lines.drain(..skip);
    text.extend(lines);
    text
}

fn value(column: &arrow::array::ArrayRef, row: usize) -> String {
    ArrayFormatter::try_new(column, &FormatOptions::default())
        .map_or_else(|_| String::new(), |formatter| formatter.value(row).to_string())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Decimal128Array, StringArray};

    use super::*;
    use crate::epoch::Counts;

    const SECOND: Micros = 1_000_000;

    fn words(words: &[&str]) -> ArrayRef {
        Arc::new(StringArray::from(words.to_vec()))
    }

    fn amounts(cents: &[Option<i128>]) -> ArrayRef {
        Arc::new(Decimal128Array::from(cents.to_vec()).with_precision_and_scale(12, 2).unwrap())
    }

    /// Open windows, as (state, city, cents).
    fn open(rows: &[(&str, &str, Option<i128>)]) -> RecordBatch {
        let states: Vec<_> = rows.iter().map(|row| row.0).collect();
        let cities: Vec<_> = rows.iter().map(|row| row.1).collect();
        let cents: Vec<_> = rows.iter().map(|row| row.2).collect();
        let columns = [("state", words(&states)), ("city", words(&cities)), ("amount", amounts(&cents))];
        RecordBatch::try_from_iter(columns).unwrap()
    }

    fn frauds(merchants: &[&str]) -> RecordBatch {
        let cents = vec![Some(1_250); merchants.len()];
        RecordBatch::try_from_iter([("merchant", words(merchants)), ("amount", amounts(&cents))]).unwrap()
    }

    #[test]
    fn the_five_cities_with_most_spend_in_open_windows_are_shown() {
        let first = [("SC", "Aiken", Some(120_000)), ("OH", "Solon", Some(99)), ("TX", "Early", None)];
        let second = [
            ("SC", "Aiken", Some(3_005)),
            // Of another state, and so another city.
            ("MO", "Aiken", Some(70_000)),
            ("UT", "Moab", Some(60_000)),
            ("NY", "Ovid", Some(50_000)),
            ("KY", "Irad", Some(40_000)),
        ];
        let shown = top_cities(&[open(&first), open(&second)]);
        assert_eq!(
            shown,
            "open windows: Aiken, SC $1230.05  ·  Aiken, MO $700.00  ·  Moab, UT $600.00  ·  Ovid, NY $500.00  ·  \
             Irad, KY $400.00\n"
        );
        assert_eq!(top_cities(&[]), "");
        assert_eq!(top_cities(&[frauds(&["a table of another shape"])]), "");
    }

    #[test]
    fn the_last_three_alerts_are_shown_and_all_are_counted() {
        let last = vec![frauds(&["one", "two"]), frauds(&["three", "four"])];
        let mut snapshot =
            Snapshot { alerts: BTreeMap::from([("fraud_alerts".into(), (1_204, last))]), ..Snapshot::default() };
        let shown = alerts(&snapshot);
        let lines: Vec<&str> = shown.lines().map(str::trim).collect();
        assert_eq!(lines.len(), 4, "{shown}");
        assert_eq!(lines[0], "1,204 fraud alerts");
        for (line, merchant) in lines[1..].iter().zip(["two", "three", "four"]) {
            assert!(line.starts_with(merchant) && line.contains("12.50"), "{shown}");
        }
        snapshot.alerts.clear();
        assert_eq!(alerts(&snapshot), "");
    }

    #[test]
    fn a_status_says_how_fast_how_far_and_what_is_open() {
        let snapshot = Snapshot {
            totals: Counts { read: 12_345, ..Counts::default() },
            watermark: Some(60 * SECOND),
            event_time_max: Some(70 * SECOND),
            open_windows: 17,
            open: BTreeMap::from([("city_minute".into(), vec![open(&[("OH", "Solon", Some(99))])])]),
            ..Snapshot::default()
        };
        let shown = status(&snapshot, 499.6, 72 * SECOND + SECOND / 2);
        let (first, rest) = shown.split_once('\n').unwrap();
        for part in ["500 rows/s", "12,345 rows", "lag 2.5 s", "watermark 1970-01-01 00:01:00", "17 open windows"] {
            assert!(first.contains(part), "no {part:?} in {shown}");
        }
        assert_eq!(rest, "open windows: Solon, OH $0.99\n");
        // A job that has read nothing.
        let shown = status(&Snapshot::default(), 0.0, 0);
        assert!(shown.contains("lag -") && shown.contains("0 open windows"), "{shown}");
    }

    #[test]
    fn a_commit_is_one_line() {
        let commit = Commit { epoch: 12, rows: 4_812, files: 9, bytes: 65_536, windows_closed: 340, millis: 87 };
        let line = commit_line(&commit);
        let parts: Vec<&str> = line.split_whitespace().collect();
        let wanted = "epoch 12 4,812 rows 340 windows closed 9 files 65,536 bytes 87 ms";
        assert_eq!(parts.join(" "), wanted);
        assert!(!line.contains('\n'));
    }
}
