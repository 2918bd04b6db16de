//! Windows on one core: rows folded into open windows, closed by the watermark as they pass, answered.
//!
//! Aim: a window of ten minutes sliding by ten seconds costs at most twice what a tumbling one does, although every row
//! counts in sixty windows, and a session at most four times. `cargo bench --bench windows [-- ROWS] [KIND]` prints
//! milliseconds on a core and rows a second of each kind, and how they compare. Rows are in order and dense: an hour of them,
//! in 50 groups.
#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a bench prints, and stops when it cannot run")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use arrow::array::{
    ArrayRef, Date32Array, Decimal128Array, RecordBatch, StringArray, TimestampMicrosecondArray, new_null_array,
};
use arrow::datatypes::{Field, Schema};
use lakeward::contract::{TableContract, read_folder};
use lakeward::sql::{Catalog, QueryFile, StandingQuery, WindowedQuery, input_schema};
use lakeward::window::OpenWindows;

/// Rows unless told otherwise.
const ROWS: usize = 1_000_000;
/// Rows of one fold: what the job gathers at most before it folds.
const FOLD_ROWS: usize = 65_536;
/// Event time all rows cover, microseconds.
const SPAN: i64 = 3_600_000_000;
/// 2026-11-23T12:00:00Z.
const START: i64 = 1_795_435_200_000_000;
const GROUPS: usize = 50;
/// Measurements; the best counts, as the machine is shared.
const RUNS: usize = 9;

const WINDOWS: [(&str, &str); 5] = [
    ("tumble 10 min", "TUMBLE(transactions, event_time, INTERVAL '10 minutes')"),
    ("tumble 10 s", "TUMBLE(transactions, event_time, INTERVAL '10 seconds')"),
    ("hop 10 min by 10 s", "HOP(transactions, event_time, INTERVAL '10 seconds', INTERVAL '10 minutes')"),
    ("cumulate 10 min by 10 s", "CUMULATE(transactions, event_time, INTERVAL '10 seconds', INTERVAL '10 minutes')"),
    ("session, gap 1 s", "SESSION(transactions, event_time, INTERVAL '1 second', state)"),
];

fn main() {
    let mut rows = ROWS;
    let mut only = String::new();
    for argument in std::env::args().skip(1).filter(|argument| !argument.starts_with("--")) {
        match argument.parse() {
            Ok(number) => rows = number,
            Err(_) => only = argument,
        }
    }
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let stream = read_folder(Path::new("lake")).unwrap().remove("transactions").unwrap();
        let batches = batches(&stream, rows);
        let mut measured = Vec::new();
        for (name, window) in WINDOWS.into_iter().filter(|(name, _)| name.starts_with(&only)) {
            measured.push((name, Arc::new(query(&stream, window).await), Duration::MAX, 0));
        }
        // By turns: what else runs on the machine slows all of them.
        for _ in 0..RUNS {
            for (_, query, least, answered) in &mut measured {
                let began = on_core();
                *answered = run(query, &batches).await;
                *least = (*least).min(on_core() - began);
            }
        }
        let base = measured[0].2;
        for (name, _, took, answered) in measured {
            println!(
                "{name:<24} {:>8.1} ms  {:>12.0} rows/s  {answered:>8} answers  {:>5.2} × the first",
                took.as_secs_f64() * 1e3,
                rows as f64 / took.as_secs_f64(),
                took.as_secs_f64() / base.as_secs_f64()
            );
        }
    });
}

/// Time this thread, which does all the work, has spent on a core; where the system does not tell, time on the clock.
fn on_core() -> Duration {
    static BEGAN: OnceLock<Instant> = OnceLock::new();
    // The figure is brought up to date when the thread leaves its core, else at the next tick of some milliseconds.
    std::thread::yield_now();
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanos = told.and_then(|text| text.split(' ').next()?.parse().ok());
    nanos.map_or_else(|| BEGAN.get_or_init(Instant::now).elapsed(), Duration::from_nanos)
}

async fn query(stream: &TableContract, window: &str) -> WindowedQuery {
    let text = format!(
        "CREATE MATERIALIZED VIEW bench AS SELECT window_start, window_end, CAST(window_start AS DATE) AS event_date, state, \
         count(*) AS n, sum(amount) AS amount, max(amount) AS most FROM {window} GROUP BY window_start, window_end, state"
    );
    let file = QueryFile::parse(Path::new("bench.sql"), &text).unwrap();
    let catalog = Catalog::new(Arc::new(stream.clone()), BTreeMap::new()).unwrap();
    match StandingQuery::plan(&file, &catalog).await.unwrap() {
        StandingQuery::Windowed(query) => query,
        StandingQuery::Stateless(_) => unreachable!("the query has a window"),
    }
}

/// Folds batch by batch, closing what the newest event time has passed; counts the rows of all answers.
async fn run(query: &Arc<WindowedQuery>, batches: &[RecordBatch]) -> usize {
    let mut open = OpenWindows::new(Arc::clone(query));
    let (mut closed_until, mut answered) = (None, 0);
    for (number, batch) in batches.iter().enumerate() {
        open.fold(query.partial(std::slice::from_ref(batch)).await.unwrap()).await.unwrap();
        let newest = START + SPAN / i64::try_from(batches.len()).unwrap() * i64::try_from(number + 1).unwrap();
        let until = match number + 1 == batches.len() {
            true => open.open_until().unwrap(),
            false => Some(query.window().closed_until(newest, 0)),
        };
        if let Some(until) = until.filter(|until| Some(*until) > closed_until) {
            let (_, rows) = open.close(closed_until, until).await.unwrap().answer().await.unwrap();
            closed_until = Some(until);
            answered += rows.iter().map(RecordBatch::num_rows).sum::<usize>();
        }
    }
    answered
}

/// Rows in the stream's schema; columns no query here reads are NULL.
fn batches(stream: &TableContract, rows: usize) -> Vec<RecordBatch> {
    let schema = input_schema(stream);
    let fields: Vec<Field> = schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true)).collect();
    let schema = Arc::new(Schema::new(fields));
    let states: Vec<String> = (0..GROUPS).map(|group| format!("S{group:02}")).collect();
    let batch = |from: usize| {
        let range = from..rows.min(from + FOLD_ROWS);
        let time = |row: usize| START + i64::try_from(row).unwrap() * SPAN / i64::try_from(rows).unwrap();
        let columns = schema.fields().iter().map(|field| -> ArrayRef {
            match field.name().as_str() {
                "event_time" => {
                    Arc::new(TimestampMicrosecondArray::from_iter_values(range.clone().map(time)).with_timezone("UTC"))
                }
                "event_date" => Arc::new(Date32Array::from_iter_values(
                    range.clone().map(|row| i32::try_from(time(row) / 86_400_000_000).unwrap()),
                )),
                "state" => Arc::new(StringArray::from_iter_values(range.clone().map(|row| &states[row * 7 % GROUPS]))),
                "amount" => Arc::new(
                    Decimal128Array::from_iter_values(range.clone().map(|row| 100 + (row as i128 * 7_919) % 90_000))
                        .with_precision_and_scale(20, 2)
                        .unwrap(),
                ),
                _ => new_null_array(field.data_type(), range.len()),
            }
        });
        RecordBatch::try_new(Arc::clone(&schema), columns.collect()).unwrap()
    };
    (0..rows).step_by(FOLD_ROWS).map(batch).collect()
}
