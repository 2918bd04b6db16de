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
                    Some(commit) => self.on_commit(&commit),
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

    fn on_commit(&self, commit: &Commit) {
        self.line(&format!(
            "epoch {:>6}  {:>9} rows  {:>5} windows closed  {:>3} files  {:>10} bytes  {:>5} ms",
            commit.epoch,
            thousands(commit.rows),
            thousands(commit.windows_closed),
            commit.files,
            thousands(commit.bytes),
            commit.millis
        ));
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
        let lag = snapshot.event_time_max.map_or_else(
            || "-".into(),
            |newest| format!("{:.1} s", (Clock::System.now() - newest).max(0) as f64 / 1e6),
        );
        let status = format!(
            "{} rows/s   {} rows   lag {lag}   watermark {}   {} open windows",
            thousands(rate),
            thousands(snapshot.totals.read),
            time(snapshot.watermark),
            thousands(snapshot.open_windows)
        );
        let status = format!("{status}{}", ageing(snapshot, Clock::System.now()));
        let cities = snapshot.open.get("city_minute").map_or_else(String::new, |rows| top_cities(rows));
        let status = format!("{status}\n{cities}{}", alerts(snapshot));
        match &self.bar {
            None => say(status.trim_end()),
            Some(bar) => {
                bar.set_message(status);
                bar.tick();
            }
        }
    }
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
    let skip = lines.len().saturating_sub(3);
    lines.drain(..skip);
    text.extend(lines);
    text
}

fn value(column: &arrow::array::ArrayRef, row: usize) -> String {
    ArrayFormatter::try_new(column, &FormatOptions::default())
        .map_or_else(|_| String::new(), |formatter| formatter.value(row).to_string())
}
