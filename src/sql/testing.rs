//! A small stream and its rows, made by hand for tests of queries and windows.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Decimal128Array, Float64Array, StringArray, TimestampMicrosecondArray};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::DataType;
use arrow::record_batch::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::datasource::MemTable;
use datafusion::prelude::SessionContext;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::standing::input_schema;
use super::{Catalog, QueryFile, StandingQuery, WindowedQuery, run_batch, session};
use crate::clock::{MICROS_PER_SECOND, Micros};
use crate::contract::{Column, Format, InputField, Origin, StreamContract, TableContract, timestamp_type};

/// 2020-06-21T12:00:00Z.
pub(crate) const NOON: Micros = 1_592_740_800 * MICROS_PER_SECOND;

/// A stream `transactions` with the columns the shipped queries read.
pub(crate) fn transactions() -> TableContract {
    let money = DataType::Decimal128(20, 2);
    let columns = [
        ("event_time", timestamp_type()),
        ("event_date", DataType::Date32),
        ("transaction_id", DataType::Utf8),
        ("card_token", DataType::Utf8),
        ("merchant", DataType::Utf8),
        ("category", DataType::Utf8),
        ("amount", money),
        ("is_fraud", DataType::Boolean),
        ("city", DataType::Utf8),
        ("state", DataType::Utf8),
        ("latitude", DataType::Float64),
        ("unix_time", DataType::Int64),
        ("_epoch", DataType::Int64),
        ("_late", DataType::Boolean),
    ];
    let column = |(name, data_type): (&str, DataType)| Column {
        name: name.into(),
        data_type,
        nullable: matches!(name, "latitude" | "unix_time"),
        comment: String::new(),
        origin: match name {
            "event_date" => Origin::Generated("CAST(event_time AS DATE)".into()),
            _ if name.starts_with('_') => Origin::Engine,
            _ => Origin::Field(InputField { name: name.into(), pad: None, strip_prefix: None, token: false }),
        },
        check: None,
    };
    TableContract {
        name: "transactions".into(),
        comment: String::new(),
        columns: columns.into_iter().map(column).collect(),
        partition_by: "event_date".into(),
        sort_by: Vec::new(),
        bloom_filters: Vec::new(),
        row_group_rows: None,
        sinks: crate::contract::Sink::usual(),
        keep_days: None,
        stream: Some(StreamContract {
            format: Format::Json,
            event_time: "event_time".into(),
            identity: "transaction_id".into(),
            partition_key: "card_token".into(),
        }),
    }
}

/// `count` rows from `seed`: three cities, few cards, half an hour around noon, some before 1970 when `long_ago`.
pub(crate) fn rows(seed: u64, count: usize, long_ago: bool) -> RecordBatch {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let times: Vec<Micros> = (0..count)
        .map(|_| {
            let time = random.random_range(0..1_800 * MICROS_PER_SECOND);
            if long_ago && random.random_bool(0.3) { time - 900 * MICROS_PER_SECOND } else { NOON + time }
        })
        .collect();
    let places = [("Aiken", "SC"), ("Utica", "NY"), ("Utica", "OH")];
    let picked: Vec<_> = (0..count).map(|_| places[random.random_range(0..places.len())]).collect();
    let mut text = |prefix: &str, kinds: u32| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(
            (0..count).map(|_| format!("{prefix}{}", random.random_range(0..kinds))),
        ))
    };
    let (cards, merchants, categories) = (text("tok_1_", 40), text("merchant ", 9), text("category_", 4));
    let cents = (0..count).map(|_| i128::from(random.random_range(100..500_000i64)));
    let amounts = Decimal128Array::from_iter_values(cents.collect::<Vec<_>>()).with_precision_and_scale(20, 2).unwrap();
    let fraud = BooleanArray::from_iter((0..count).map(|_| Some(random.random_bool(0.1))));
    let latitudes =
        Float64Array::from_iter((0..count).map(|_| random.random_bool(0.9).then(|| random.random::<f64>())));
    let units = arrow::array::Int64Array::from_iter((0..count).map(|_| Some(random.random_range(0..100i64))));
    let days = times.iter().map(|t| i32::try_from(t.div_euclid(86_400 * MICROS_PER_SECOND)).unwrap());
    let columns: Vec<ArrayRef> = vec![
        Arc::new(TimestampMicrosecondArray::from(times.clone()).with_timezone("UTC")),
        Arc::new(arrow::array::Date32Array::from_iter_values(days)),
        Arc::new(StringArray::from_iter_values((0..count).map(|row| format!("{seed:08x}{row:08x}")))),
        cards,
        merchants,
        categories,
        Arc::new(amounts),
        Arc::new(fraud),
        Arc::new(StringArray::from_iter_values(picked.iter().map(|(city, _)| *city))),
        Arc::new(StringArray::from_iter_values(picked.iter().map(|(_, state)| *state))),
        Arc::new(latitudes),
        Arc::new(units),
    ];
    RecordBatch::try_new(input_schema(&transactions()), columns).unwrap()
}

/// The rows in another order and cut into up to `parts` batches.
pub(crate) fn cut(rows: &RecordBatch, seed: u64, parts: usize) -> Vec<RecordBatch> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut order: Vec<u32> = (0..u32::try_from(rows.num_rows()).unwrap()).collect();
    order.shuffle(&mut random);
    let rows = take_record_batch(rows, &arrow::array::UInt32Array::from(order)).unwrap();
    let mut cuts: Vec<usize> = (1..parts).map(|_| random.random_range(0..=rows.num_rows())).collect();
    cuts.extend([0, rows.num_rows()]);
    cuts.sort_unstable();
    cuts.windows(2).map(|cut| rows.slice(cut[0], cut[1] - cut[0])).collect()
}

/// [`transactions`], and the contracts of tables.
pub(crate) fn catalog(tables: impl IntoIterator<Item = TableContract>) -> Catalog {
    let tables = tables.into_iter().map(|table| (Arc::clone(&table.name), table)).collect();
    Catalog::new(Arc::new(transactions()), tables).unwrap()
}

/// Plans the text of a query file against [`transactions`].
pub(crate) async fn plan(text: &str) -> crate::Result<StandingQuery> {
    let file = QueryFile::parse(Path::new("queries/q.sql"), text)?;
    StandingQuery::plan(&file, &catalog([])).await
}

/// As [`plan`], for a query over windows.
pub(crate) async fn windowed(text: &str) -> WindowedQuery {
    match plan(text).await.unwrap() {
        StandingQuery::Windowed(query) => query,
        StandingQuery::Stateless(query) => panic!("`{}` has no window", query.name()),
    }
}

/// A batch session whose `transactions` holds these rows.
pub(crate) fn lake(rows: &RecordBatch) -> SessionContext {
    let context = session();
    let table = MemTable::try_new(rows.schema(), vec![vec![rows.clone()]]).unwrap();
    context.register_table("transactions", Arc::new(table)).unwrap();
    context
}

/// The query as one batch statement over the rows.
pub(crate) async fn one_shot(query: &StandingQuery, rows: &RecordBatch) -> Vec<RecordBatch> {
    let statement = query.batch_select(None).unwrap();
    run_batch(&lake(rows), statement).await.unwrap().collect().await.unwrap()
}

/// Rows as sorted lines of text, columns by name, floats with nine digits, lists sorted: equal answers are equal texts.
pub(crate) fn shown(batches: &[RecordBatch]) -> Vec<String> {
    let Some(first) = batches.first() else { return Vec::new() };
    let all = concat_batches(&first.schema(), batches).unwrap();
    let schema = all.schema();
    let mut order: Vec<usize> = (0..all.num_columns()).collect();
    order.sort_by_key(|column| schema.field(*column).name().clone());
    let options = FormatOptions::default().with_null("NULL");
    let cell = |column: usize, row: usize| {
        let array = all.column(column);
        let text = ArrayFormatter::try_new(array, &options).unwrap().value(row).to_string();
        match array.data_type() {
            DataType::Float64 if text != "NULL" => format!("{:.9e}", text.parse::<f64>().unwrap()),
            _ => text,
        }
    };
    let mut lines: Vec<String> = (0..all.num_rows())
        .map(|row| order.iter().map(|column| cell(*column, row)).collect::<Vec<_>>().join(" | "))
        .collect();
    lines.sort();
    lines
}
