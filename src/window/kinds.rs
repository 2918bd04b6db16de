//! Every kind of window, live against batch SQL and against a program that only adds and compares.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, TimestampMicrosecondArray};
use arrow::datatypes::{Decimal128Type, Int64Type, TimestampMicrosecondType};
use arrow::record_batch::RecordBatch;
use proptest::prelude::*;

use super::{OpenWindows, split_late};
use crate::clock::{MICROS_PER_SECOND, Micros};
use crate::sql::testing::{self, NOON, cut, one_shot, plan, rows};
use crate::sql::{StandingQuery, TimeRange, WindowedQuery, run_batch};

const SECOND: Micros = MICROS_PER_SECOND;
const MINUTE: Micros = 60 * SECOND;
const HOUR: Micros = 60 * MINUTE;

/// What a case says in SQL, in numbers: the oracle's windows are walked from an offset.
#[derive(Clone, Copy, Debug)]
enum Walk {
    /// Starts `slide` apart, each window `size` long.
    Hop {
        slide: Micros,
        size: Micros,
        offset: Micros,
    },
    /// Starts `size` apart, windows ending each `step`.
    Cumulate {
        step: Micros,
        size: Micros,
        offset: Micros,
    },
    Session {
        gap: Micros,
        by_state: bool,
    },
    /// Between these instants, `cells` of them long.
    Marks(&'static [&'static str], usize),
}

/// Midnights in New York around the end of summer time: the third day has 25 hours.
const AUTUMN: [&str; 7] = [
    "2019-11-01T04:00:00Z",
    "2019-11-02T04:00:00Z",
    "2019-11-03T04:00:00Z",
    "2019-11-04T05:00:00Z",
    "2019-11-05T05:00:00Z",
    "2019-11-06T05:00:00Z",
    "2019-11-07T05:00:00Z",
];
/// And around its beginning: the third day has 23.
const SPRING: [&str; 7] = [
    "2019-03-08T05:00:00Z",
    "2019-03-09T05:00:00Z",
    "2019-03-10T05:00:00Z",
    "2019-03-11T04:00:00Z",
    "2019-03-12T04:00:00Z",
    "2019-03-13T04:00:00Z",
    "2019-03-14T04:00:00Z",
];

const CASES: [(&str, Walk); 10] = [
    ("TUMBLE(transactions, event_time, INTERVAL '1 minute')", Walk::Hop { slide: MINUTE, size: MINUTE, offset: 0 }),
    (
        "HOP(transactions, event_time, INTERVAL '1 minute', INTERVAL '7 minutes')",
        Walk::Hop { slide: MINUTE, size: 7 * MINUTE, offset: 0 },
    ),
    (
        "HOP(transactions, event_time, INTERVAL '20 seconds', INTERVAL '5 minutes', INTERVAL '7 seconds')",
        Walk::Hop { slide: 20 * SECOND, size: 5 * MINUTE, offset: 7 * SECOND },
    ),
    (
        "CUMULATE(transactions, event_time, INTERVAL '1 minute', INTERVAL '10 minutes', INTERVAL '3 minutes')",
        Walk::Cumulate { step: MINUTE, size: 10 * MINUTE, offset: 3 * MINUTE },
    ),
    (
        "CUMULATE(transactions, event_time, INTERVAL '10 seconds', INTERVAL '1 hour')",
        Walk::Cumulate { step: 10 * SECOND, size: HOUR, offset: 0 },
    ),
    (
        "SESSION(transactions, event_time, INTERVAL '20 seconds', state)",
        Walk::Session { gap: 20 * SECOND, by_state: true },
    ),
    ("SESSION(transactions, event_time, INTERVAL '9 seconds')", Walk::Session { gap: 9 * SECOND, by_state: false }),
    ("TUMBLE(transactions, event_time, INTERVAL '1 day', 'America/New_York')", Walk::Marks(&AUTUMN, 1)),
    ("TUMBLE(transactions, event_time, INTERVAL '1 day', 'America/New_York')", Walk::Marks(&SPRING, 1)),
    ("HOP(transactions, event_time, INTERVAL '1 day', INTERVAL '2 days', 'America/New_York')", Walk::Marks(&AUTUMN, 2)),
];

/// (window, state) → rows, cents, cards.
type Answer = BTreeMap<(Micros, Micros, String), (i64, i128, i64)>;

/// One row as the oracle sees it.
#[derive(Clone, Debug)]
struct Row {
    time: Micros,
    state: String,
    cents: i128,
    card: String,
    /// What had been closed before it was read.
    closed: Option<Micros>,
}

fn text(window: &str) -> String {
    format!(
        "CREATE MATERIALIZED VIEW q AS SELECT window_start, window_end, CAST(window_start AS DATE) AS event_date, state, \
         count(*) AS n, sum(amount) AS amount, count(DISTINCT card_token) AS cards FROM {window} \
         GROUP BY window_start, window_end, state"
    )
}

async fn query(window: &str) -> (StandingQuery, Arc<WindowedQuery>) {
    let text = text(window);
    let StandingQuery::Windowed(query) = plan(&text).await.unwrap() else { panic!("no window in {text}") };
    (plan(&text).await.unwrap(), Arc::new(query))
}

fn time(text: &str) -> Micros {
    chrono::DateTime::parse_from_rfc3339(text).unwrap().timestamp_micros()
}

/// Rows of half an hour; for the cases over days, stretched to three.
fn input(seed: u64, count: usize, walk: Walk) -> RecordBatch {
    let rows = rows(seed, count, false);
    let Walk::Marks(marks, _) = walk else { return rows };
    let from = time(marks[2]) - 18 * HOUR;
    let times = rows.column(0).as_primitive::<TimestampMicrosecondType>();
    let times: TimestampMicrosecondArray = times.unary(|t| from + (t - NOON) * 3 * 48);
    let mut columns = rows.columns().to_vec();
    columns[0] = Arc::new(times.with_timezone("UTC")) as ArrayRef;
    RecordBatch::try_new(rows.schema(), columns).unwrap()
}

fn told(batch: &RecordBatch, closed: Option<Micros>) -> Vec<Row> {
    let times = batch["event_time"].as_primitive::<TimestampMicrosecondType>();
    let (states, cards) = (batch["state"].as_string::<i32>(), batch["card_token"].as_string::<i32>());
    let amounts = batch["amount"].as_primitive::<Decimal128Type>();
    (0..batch.num_rows())
        .map(|row| Row {
            time: times.value(row),
            state: states.value(row).into(),
            cents: amounts.value(row),
            card: cards.value(row).into(),
            closed,
        })
        .collect()
}

/// The windows of a time, walked.
fn windows(walk: Walk, at: Micros) -> Vec<(Micros, Micros)> {
    let mut found = Vec::new();
    match walk {
        Walk::Hop { slide, size, offset } => {
            let mut start = NOON + offset;
            while start > at - size - slide {
                start -= slide;
            }
            while start <= at {
                found.push((start, start + size));
                start += slide;
            }
        }
        Walk::Cumulate { step, size, offset } => {
            let mut start = NOON - 12 * HOUR + offset;
            while start + size <= at {
                start += size;
            }
            let mut end = start + step;
            while end <= start + size {
                found.push((start, end));
                end += step;
            }
        }
        Walk::Marks(marks, cells) => {
            found.extend(marks.windows(cells + 1).map(|marks| (time(marks[0]), time(marks[cells]))));
        }
        Walk::Session { .. } => unreachable!("sessions depend on other rows"),
    }
    found.retain(|(start, end)| *start <= at && at < *end);
    assert!(!found.is_empty(), "no window of {at} in {walk:?}");
    found
}

/// The answer of the (row, window) pairs that count.
fn expected(walk: Walk, rows: &[Row]) -> Answer {
    let mut groups: BTreeMap<(Micros, Micros, String), Vec<&Row>> = BTreeMap::new();
    if let Walk::Session { gap, by_state } = walk {
        let mut counted: Vec<&Row> =
            rows.iter().filter(|row| row.closed.is_none_or(|until| row.time > until)).collect();
        counted.sort_by_key(|row| (by_state.then(|| row.state.clone()), row.time));
        let mut from = 0;
        while from < counted.len() {
            let mut to = from + 1;
            let is_next = |a: &Row, b: &Row| b.time - a.time <= gap && (!by_state || a.state == b.state);
            while to < counted.len() && is_next(counted[to - 1], counted[to]) {
                to += 1;
            }
            let (start, end) = (counted[from].time, counted[to - 1].time + gap);
            for row in &counted[from..to] {
                groups.entry((start, end, row.state.clone())).or_default().push(row);
            }
            from = to;
        }
    } else {
        for row in rows {
            for (start, end) in windows(walk, row.time) {
                if row.closed.is_none_or(|until| end > until) {
                    groups.entry((start, end, row.state.clone())).or_default().push(row);
                }
            }
        }
    }
    let sums = groups.into_iter().map(|(window, rows)| {
        let cards: BTreeSet<&str> = rows.iter().map(|row| row.card.as_str()).collect();
        (window, (rows.len() as i64, rows.iter().map(|row| row.cents).sum(), cards.len() as i64))
    });
    sums.collect()
}

fn answer(batches: &[RecordBatch]) -> Answer {
    let mut answer = Answer::new();
    for batch in batches {
        let starts = batch["window_start"].as_primitive::<TimestampMicrosecondType>();
        let ends = batch["window_end"].as_primitive::<TimestampMicrosecondType>();
        let (n, cards) = (batch["n"].as_primitive::<Int64Type>(), batch["cards"].as_primitive::<Int64Type>());
        let (states, amounts) = (batch["state"].as_string::<i32>(), batch["amount"].as_primitive::<Decimal128Type>());
        for row in 0..batch.num_rows() {
            let window = (starts.value(row), ends.value(row), states.value(row).to_owned());
            let sums = (n.value(row), amounts.value(row), cards.value(row));
            assert_eq!(answer.insert(window.clone(), sums), None, "{window:?} is answered twice");
        }
    }
    answer
}

/// Folds the batches epoch by epoch, closing by the watermark after each; in the middle, state moves to a new process.
async fn live(query: &Arc<WindowedQuery>, batches: &[RecordBatch], lateness: Micros) -> (Answer, Vec<Row>) {
    let mut open = OpenWindows::new(Arc::clone(query));
    let (mut closed_until, mut greatest, mut answers) = (None, Micros::MIN, Vec::new());
    let mut read = Vec::new();
    for (epoch, batch) in batches.iter().filter(|batch| batch.num_rows() > 0).enumerate() {
        let seen = told(batch, closed_until);
        let earliest = seen.iter().map(|row| row.time).min().unwrap();
        greatest = greatest.max(seen.iter().map(|row| row.time).max().unwrap());
        let split = split_late(batch, 0, earliest, query.window(), closed_until).unwrap();
        read.extend(seen);
        open.fold(query.partial(&[split.counted]).await.unwrap()).await.unwrap();
        if epoch == batches.len() / 2 {
            let state = open.state().to_vec();
            open = OpenWindows::new(Arc::clone(query));
            open.restore(state).await.unwrap();
        }
        let next = query.window().closed_until(greatest, lateness);
        if Some(next) > closed_until {
            let counted = open.count(closed_until).unwrap();
            let (windows, rows) = open.close(closed_until, next).await.unwrap().answer().await.unwrap();
            closed_until = Some(next);
            assert_eq!(counted, windows + open.count(closed_until).unwrap());
            answers.extend(rows);
        }
    }
    if let Some(last) = open.open_until().unwrap() {
        answers.extend(open.close(closed_until, last).await.unwrap().answer().await.unwrap().1);
    }
    assert!(open.is_empty(), "nothing is held once every window has closed");
    (answer(&answers), read)
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Whatever the cut, the order and the lateness: each window is answered once, by exactly the pairs that count.
    #[test]
    fn live_is_the_oracle_whatever_comes_late(seed: u64, case in 0..CASES.len(), count in 1usize..200, parts in 1usize..12, lateness in 0i64..40 * MINUTE) {
        block_on(async {
            let (window, walk) = CASES[case];
            let (_, query) = query(window).await;
            let lateness = if matches!(walk, Walk::Marks(..)) { lateness * 144 } else { lateness };
            let (found, read) = live(&query, &cut(&input(seed, count, walk), seed, parts), lateness).await;
            assert_eq!(found, expected(walk, &read), "{window}");
        });
    }

    /// One statement over all rows, and over a range of whole windows.
    #[test]
    fn batch_is_the_oracle(seed: u64, case in 0..CASES.len(), count in 1usize..200, from in 0i64..1_800, length in 0i64..1_800) {
        block_on(async {
            let (window, walk) = CASES[case];
            let (query, _) = query(window).await;
            let rows = input(seed, count, walk);
            let all = expected(walk, &told(&rows, None));
            assert_eq!(answer(&one_shot(&query, &rows).await), all, "{window}");
            let range = TimeRange { from: NOON + from * SECOND, to: NOON + (from + length) * SECOND };
            let range = match walk {
                Walk::Marks(marks, _) => TimeRange { from: time(marks[1]), to: time(marks[1]) + length * 144 * SECOND },
                _ => range,
            };
            let inside: Answer =
                all.into_iter().filter(|((start, end, _), _)| *start >= range.from && *end <= range.to).collect();
            let mut context_rows = rows.clone();
            if matches!(walk, Walk::Marks(..)) {
                context_rows = with_dates(&rows);
            }
            let found = run_batch(&testing::lake(&context_rows), query.batch_select(Some(range)).unwrap()).await.unwrap();
            assert_eq!(answer(&found.collect().await.unwrap()), inside, "{window} in {range:?}");
        });
    }
}

/// The same rows with the dates of their times.
fn with_dates(rows: &RecordBatch) -> RecordBatch {
    let times = rows.column(0).as_primitive::<TimestampMicrosecondType>();
    let days = times.values().iter().map(|t| i32::try_from(t.div_euclid(24 * HOUR)).unwrap());
    let mut columns = rows.columns().to_vec();
    columns[1] = Arc::new(arrow::array::Date32Array::from_iter_values(days)) as ArrayRef;
    RecordBatch::try_new(rows.schema(), columns).unwrap()
}

#[tokio::test]
async fn a_row_exactly_the_gap_after_the_last_joins_and_a_later_one_does_not() {
    let (_, query) = query("SESSION(transactions, event_time, INTERVAL '20 seconds')").await;
    let three = rows(1, 3, false);
    let times = TimestampMicrosecondArray::from(vec![NOON, NOON + 20 * SECOND, NOON + 40 * SECOND + 1]);
    let mut columns = three.columns().to_vec();
    columns[0] = Arc::new(times.with_timezone("UTC")) as ArrayRef;
    let three = RecordBatch::try_new(three.schema(), columns).unwrap();
    let (found, _) = live(&query, &[three], HOUR).await;
    let sessions: BTreeSet<_> = found.keys().map(|(start, end, _)| (start - NOON, end - NOON)).collect();
    let last = 40 * SECOND + 1;
    assert_eq!(sessions.into_iter().collect::<Vec<_>>(), [(0, 40 * SECOND), (last, last + 20 * SECOND)]);
}

#[tokio::test]
async fn a_condition_on_windows_is_one_on_windows_and_not_on_slices() {
    let hop = "HOP(transactions, event_time, INTERVAL '1 minute', INTERVAL '5 minutes')";
    let text = format!(
        "{} HAVING window_start >= TIMESTAMP '2020-06-21T12:02:00Z' AND window_end < TIMESTAMP '2020-06-21T12:20:00Z'",
        text(hop)
    );
    let StandingQuery::Windowed(query) = plan(&text).await.unwrap() else { panic!("no window") };
    let rows = rows(5, 300, false);
    let (found, read) = live(&Arc::new(query), &cut(&rows, 5, 4), HOUR).await;
    let inside = |(start, end, _): &(Micros, Micros, String)| *start >= NOON + 2 * MINUTE && *end < NOON + 20 * MINUTE;
    assert!(!found.is_empty());
    let five = Walk::Hop { slide: MINUTE, size: 5 * MINUTE, offset: 0 };
    assert_eq!(found, expected(five, &read).into_iter().filter(|(window, _)| inside(window)).collect());
}

#[tokio::test]
async fn the_newest_hop_is_what_the_live_view_sees() {
    let (_, query) = query(CASES[1].0).await;
    let rows = rows(3, 400, false);
    let mut open = OpenWindows::new(Arc::clone(&query));
    open.fold(query.partial(std::slice::from_ref(&rows)).await.unwrap()).await.unwrap();
    let all = expected(CASES[1].1, &told(&rows, None));
    let newest = all.keys().filter(|(start, _, _)| start + 6 * MINUTE < NOON + 30 * MINUTE).map(|w| w.0).max().unwrap();
    let seen = answer(&query.finish(open.peek().unwrap()).await.unwrap());
    assert_eq!(seen, all.into_iter().filter(|((start, _, _), _)| *start == newest).collect());
}
