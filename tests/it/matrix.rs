//! Every aggregate DataFusion ships, classified: it streams with the answer of batch, or it is refused with a sentence.
//!
//! The names come from the session itself, so that a new aggregate of an upgrade fails here until it has its line.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::{DataType, Float64Type, TimestampMicrosecondType};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::datasource::MemTable;
use lakeward::error::Context;
use lakeward::sql::{Catalog, QueryFile, StandingQuery, WindowedQuery, run_batch, session};
use lakeward::window::OpenWindows;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::events::{SECOND_US, contract, decoded, events};

/// How a streamed answer relates to the batch answer.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Class {
    /// Equal.
    Exact,
    /// Floats, whose sums depend on their order in the last digits.
    Float,
    /// An estimated quantile of `price`: its rank is within the sketch's error of the asked one.
    Quantile(f64),
    /// Not in a standing query; the message says so much.
    Refused(&'static str),
}
use Class::{Exact, Float, Quantile, Refused};

/// One aggregate: its name, its arguments, what follows them, its class, and its class with DISTINCT.
type Line = (&'static str, &'static str, &'static str, Class, Class);

const UNORDERED: Class = Refused("depends on the order");
const NO_STATE: Class = Refused("cannot be computed: This feature is not implemented");

#[rustfmt::skip]
const MATRIX: &[Line] = &[
    ("any_value", "n", "", Refused("the value of any row"), Refused("the value of any row")),
    ("approx_distinct", "note", "", Exact, Exact),
    ("approx_median", "price", "", Quantile(0.5), NO_STATE),
    ("approx_percentile_cont", "0.9", "WITHIN GROUP (ORDER BY price)", Quantile(0.9), Exact),
    ("approx_percentile_cont_with_weight", "1, 0.9", "WITHIN GROUP (ORDER BY price)", Quantile(0.9), NO_STATE),
    ("array_agg", "n", "", UNORDERED, UNORDERED),
    ("avg", "amount", "", Exact, Exact),
    ("avg", "price", "", Float, Float),
    ("bit_and", "n", "", Exact, Exact),
    ("bit_or", "n", "", Exact, Exact),
    ("bit_xor", "n", "", Exact, Refused("cannot be computed in parts")),
    ("bool_and", "flag", "", Exact, Exact),
    ("bool_or", "flag", "", Exact, Exact),
    ("corr", "price, n", "", Float, Float),
    ("count", "n", "", Exact, Exact),
    ("count", "note", "", Exact, Exact),
    ("count", "price", "", Exact, Exact),
    ("covar_pop", "price, n", "", Float, Float),
    ("covar_samp", "price, n", "", Float, Float),
    ("first_value", "n ORDER BY at, id", "", Exact, Exact),
    ("first_value", "n", "", UNORDERED, UNORDERED),
    ("grouping", "k", "", Exact, Exact),
    ("last_value", "n ORDER BY at, id", "", Exact, Exact),
    ("last_value", "n", "", UNORDERED, UNORDERED),
    ("max", "amount", "", Exact, Exact),
    ("max", "note", "", Exact, Exact),
    ("median", "amount", "", Exact, Exact),
    ("median", "price", "", Float, Float),
    ("min", "amount", "", Exact, Exact),
    ("min", "at", "", Exact, Exact),
    ("nth_value", "n, 2 ORDER BY at, id", "", Exact, Exact),
    ("nth_value", "n, 2", "", UNORDERED, UNORDERED),
    ("percentile_cont", "0.9", "WITHIN GROUP (ORDER BY price)", Float, Float),
    ("regr_avgx", "price, n", "", Float, Float),
    ("regr_avgy", "price, n", "", Float, Float),
    ("regr_count", "price, n", "", Exact, Exact),
    ("regr_intercept", "price, n", "", Float, Float),
    ("regr_r2", "price, n", "", Float, Float),
    ("regr_slope", "price, n", "", Float, Float),
    ("regr_sxx", "price, n", "", Float, Float),
    ("regr_sxy", "price, n", "", Float, Float),
    ("regr_syy", "price, n", "", Float, Float),
    ("stddev", "amount", "", Float, NO_STATE),
    ("stddev_pop", "price", "", Float, NO_STATE),
    ("string_agg", "note, ',' ORDER BY at, id", "", Exact, Refused("must appear in argument list")),
    ("string_agg", "note, ',' ORDER BY note", "", Exact, Exact),
    ("string_agg", "note, ','", "", UNORDERED, UNORDERED),
    ("sum", "amount", "", Exact, Exact),
    ("sum", "n", "", Exact, Exact),
    ("sum", "price", "", Float, Float),
    ("var", "price", "", Float, Float),
    ("var_pop", "price", "", Float, Float),
];

const WINDOW_US: i64 = 600 * SECOND_US;

fn text(aggregates: &str) -> String {
    format!(
        "CREATE MATERIALIZED VIEW q WITH (partition_by = 'day') AS SELECT window_start, window_end, \
         CAST(window_start AS DATE) AS day, k, {aggregates} FROM TUMBLE(events, at, INTERVAL '10 minutes') \
         GROUP BY window_start, window_end, k"
    )
}

async fn plan(text: &str) -> lakeward::Result<StandingQuery> {
    let file = QueryFile::parse(Path::new("q.sql"), text)?;
    StandingQuery::plan(&file, &Catalog::new(Arc::new(contract()), BTreeMap::new())?).await
}

/// The rows shuffled and cut into `parts` batches.
fn cut(rows: &RecordBatch, random: &mut ChaCha8Rng, parts: usize) -> Vec<RecordBatch> {
    let mut order: Vec<u32> = (0..u32::try_from(rows.num_rows()).unwrap()).collect();
    order.shuffle(random);
    let rows = take_record_batch(rows, &UInt32Array::from(order)).unwrap();
    let mut cuts: Vec<usize> = (1..parts).map(|_| random.random_range(0..=rows.num_rows())).collect();
    cuts.extend([0, rows.num_rows()]);
    cuts.sort_unstable();
    cuts.windows(2).map(|cut| rows.slice(cut[0], cut[1] - cut[0])).collect()
}

/// What the stream answers: folded batch by batch, reduced now and then; with `resume`, the state is rebuilt from the rows
/// after that many batches, as a restart does.
async fn streamed(
    query: &Arc<WindowedQuery>,
    batches: &[RecordBatch],
    resume: Option<usize>,
) -> lakeward::Result<Vec<RecordBatch>> {
    let mut open = OpenWindows::new(query.clone());
    for (number, batch) in batches.iter().enumerate() {
        if resume == Some(number) {
            let rebuilt = query.partial(&batches[..number]).await?;
            open.restore(rebuilt).await?;
        }
        open.fold(query.partial(std::slice::from_ref(batch)).await?).await?;
        if number % 3 == 2 {
            let reduced = query.reduce(open.peek()?).await?;
            open.restore(reduced).await?;
        }
    }
    Ok(open.close(None, i64::MAX).await?.answer().await?.1)
}

async fn batch(query: &StandingQuery, rows: &RecordBatch) -> lakeward::Result<Vec<RecordBatch>> {
    let context = session();
    let table = MemTable::try_new(rows.schema(), vec![vec![rows.clone()]]).unwrap();
    context.register_table("events", Arc::new(table)).unwrap();
    let answer = run_batch(&context, query.batch_select(None)?).await?.collect().await.context(|| "collecting")?;
    let schema = query.output().schema();
    let cast = |batch: &RecordBatch| {
        let column = |name: &str| batch.column_by_name(name).unwrap();
        let columns = schema.fields().iter().map(|f| arrow::compute::cast(column(f.name()), f.data_type()).unwrap());
        RecordBatch::try_new(schema.clone(), columns.collect()).unwrap()
    };
    Ok(answer.iter().filter(|batch| batch.num_rows() > 0).map(cast).collect())
}

/// A window's start and a key.
type Group = (i64, String);
/// The cells of `a`, `b`, …, as text and, for floats, as numbers.
type Answers = BTreeMap<Group, Vec<(String, Option<f64>)>>;

fn answers(batches: &[RecordBatch]) -> Answers {
    let mut answers = Answers::new();
    let Some(first) = batches.first() else { return answers };
    let all = concat_batches(&first.schema(), batches).unwrap();
    let starts = all["window_start"].as_primitive::<TimestampMicrosecondType>();
    let keys = all["k"].as_string::<i32>();
    let options = FormatOptions::default().with_null("NULL");
    for row in 0..all.num_rows() {
        let cell = |column: &Arc<dyn Array>| {
            let text = ArrayFormatter::try_new(column, &options).unwrap().value(row).to_string();
            let is_float = *column.data_type() == DataType::Float64 && column.is_valid(row);
            (text, is_float.then(|| column.as_primitive::<Float64Type>().value(row)))
        };
        let group = (starts.value(row), keys.value(row).to_owned());
        let before = answers.insert(group, all.columns()[4..].iter().map(cell).collect());
        assert!(before.is_none(), "two rows of one window and key");
    }
    answers
}

fn near(a: f64, b: f64) -> bool {
    (a.is_nan() && b.is_nan()) || a == b || (a - b).abs() <= 1e-9 * a.abs().max(b.abs()).max(1.0)
}

/// Whether `value` stands near the asked quantile of `values`: a t-digest of 100 centroids errs by few percent of ranks,
/// and in a small group by one place.
fn is_quantile(value: f64, quantile: f64, values: &[f64]) -> bool {
    let count = values.len() as f64;
    let slack = 1.0 + 0.03 * count;
    let below = values.iter().filter(|v| **v < value).count() as f64;
    let up_to = values.iter().filter(|v| **v <= value).count() as f64;
    below - slack <= quantile * count && quantile * count <= up_to + slack
}

/// The values of `price` by window and key; of rows with a true flag when `flagged`.
fn prices(rows: &RecordBatch, flagged: bool) -> BTreeMap<Group, Vec<f64>> {
    let times = rows["at"].as_primitive::<TimestampMicrosecondType>();
    let (keys, prices) = (rows["k"].as_string::<i32>(), rows["price"].as_primitive::<Float64Type>());
    let flags = rows["flag"].as_boolean();
    let mut found: BTreeMap<Group, Vec<f64>> = BTreeMap::new();
    for row in 0..rows.num_rows() {
        let counts = !flagged || (flags.is_valid(row) && flags.value(row));
        if prices.is_valid(row) && counts {
            let start = times.value(row).div_euclid(WINDOW_US) * WINDOW_US;
            found.entry((start, keys.value(row).to_owned())).or_default().push(prices.value(row));
        }
    }
    found
}

/// The first difference, as a sentence.
fn difference(
    class: Class,
    found: &Answers,
    expected: &Answers,
    prices: &BTreeMap<Group, Vec<f64>>,
) -> Result<(), String> {
    if !found.keys().eq(expected.keys()) {
        return Err(format!("{} groups, {} in batch", found.len(), expected.len()));
    }
    for (group, cells) in found {
        for (column, ((text, number), (wanted, wanted_number))) in cells.iter().zip(&expected[group]).enumerate() {
            let same = match (class, number, wanted_number) {
                // What stands beside the aggregate is exact.
                (Quantile(quantile), Some(value), Some(_)) if column == 0 => {
                    is_quantile(*value, quantile, &prices[group])
                }
                (Float | Quantile(_), Some(a), Some(b)) => near(*a, *b) || matches!(class, Quantile(_)),
                _ => text == wanted,
            };
            if !same {
                return Err(format!("{group:?}, column {column}: {text}, {wanted} in batch"));
            }
        }
    }
    Ok(())
}

/// A call in all the forms a query may give it, and whether its rows are those with a true flag.
fn forms((name, arguments, suffix, class, distinct): &Line) -> Vec<(String, Class, bool)> {
    let plain = format!("{name}({arguments}) {suffix}");
    let once = format!("{name}(DISTINCT {arguments}) {suffix}");
    vec![
        (format!("{plain} AS a"), *class, false),
        (format!("{plain} AS a, count(*) AS b"), *class, false),
        (format!("{plain} FILTER (WHERE flag) AS a"), *class, true),
        (format!("{plain} FILTER (WHERE flag) AS a, count(*) AS b, sum(amount) AS c"), *class, true),
        (format!("{once} AS a"), *distinct, false),
        (format!("{once} AS a, count(*) AS b"), *distinct, false),
        (format!("{once} FILTER (WHERE flag) AS a, sum(n) AS b"), *distinct, true),
    ]
}

async fn check(
    aggregates: &str,
    class: Class,
    flagged: bool,
    rows: &RecordBatch,
    random: &mut ChaCha8Rng,
) -> Result<(), String> {
    let query = match (class, plan(&text(aggregates)).await) {
        (Refused(sentence), Err(error)) if error.to_string().contains(sentence) => return Ok(()),
        (_, Err(error)) => return Err(format!("refused: {error}")),
        (Refused(_), Ok(_)) => return Err("is not refused".into()),
        (_, Ok(query)) => query,
    };
    let expected = answers(&batch(&query, rows).await.map_err(|error| format!("batch: {error}"))?);
    let StandingQuery::Windowed(query) = query else { return Err("has no window".into()) };
    let query = Arc::new(query);
    let prices = prices(rows, flagged);
    difference(class, &expected, &expected, &prices)?;
    for parts in [1, 2, 9] {
        let cuts = cut(rows, random, parts);
        for (life, resume) in [("live", None), ("resumed", Some(random.random_range(0..parts)))] {
            let found = streamed(&query, &cuts, resume).await.map_err(|error| format!("{life}: {error}"))?;
            let found = answers(&found);
            let same = difference(class, &found, &expected, &prices);
            same.map_err(|difference| format!("{life}, {parts} cuts: {difference}"))?;
        }
    }
    Ok(())
}

#[test]
fn every_aggregate_has_its_line() {
    let state = session().state();
    let known: BTreeSet<&str> = state.aggregate_functions().values().map(|function| function.name()).collect();
    let lines: BTreeSet<&str> = MATRIX.iter().map(|line| line.0).collect();
    assert_eq!(known, lines, "classify new aggregates of DataFusion in the matrix");
}

#[tokio::test]
async fn every_aggregate_streams_resumes_and_batches_alike_or_is_refused() {
    let mut random = ChaCha8Rng::seed_from_u64(20);
    let rows = decoded(&events(&mut random, 700, 3_600 * SECOND_US));
    let mut wrong = Vec::new();
    let mut checked = 0;
    for line in MATRIX {
        for (aggregates, class, flagged) in forms(line) {
            checked += 1;
            if let Err(message) = check(&aggregates, class, flagged, &rows, &mut random).await {
                wrong.push(format!("{aggregates}: {message}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {checked}:\n{}", wrong.len(), wrong.join("\n"));
}
