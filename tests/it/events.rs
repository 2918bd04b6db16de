//! A stream made for tests of SQL: every type of the lake, many NULLs, few keys, times on the edges of windows.

use std::fmt::Write;
use std::sync::Arc;

use arrow::array::RecordBatch;
use lakeward::contract::TableContract;
use lakeward::micro_batch::{Decoder, IdentityHasher};
use lakeward::stream::{Interval, Page, Position, Record, SequenceNumber, ShardKey};
use lakeward::token::{TokenKey, Tokenizer};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::support::TOKEN_KEY;

/// `at_us` repeats `at` for engines that count microseconds.
pub const CONTRACT: &str = "
-- Events of every type.
CREATE TABLE events (
  at     TIMESTAMP NOT NULL COMMENT 'when',
  day    DATE NOT NULL GENERATED ALWAYS AS (CAST(at AS DATE)) COMMENT 'UTC date of at',
  id     STRING NOT NULL COMMENT 'identity',
  at_us  BIGINT NOT NULL COMMENT 'at, as a number',
  k      STRING NOT NULL COMMENT 'a key',
  g      INT COMMENT 'a key that may be unknown',
  amount DECIMAL(20,2) NOT NULL COMMENT 'money',
  price  DOUBLE COMMENT 'a float',
  n      BIGINT COMMENT 'a whole number',
  flag   BOOLEAN COMMENT 'three-valued',
  note   STRING COMMENT 'a text',
  _source STRING NOT NULL, _shard STRING NOT NULL, _sequence STRING NOT NULL, _sub_sequence INT NOT NULL,
  _arrival_time TIMESTAMP NOT NULL, _epoch BIGINT NOT NULL, _late BOOLEAN NOT NULL
) WITH (format = 'json', event_time = 'at', identity = 'id', partition_key = 'k', partition_by = 'day', sort_by = 'at');
";

/// 2026-05-01T23:40:00Z: the first hour crosses the date.
pub const START_US: i64 = 1_777_678_800_000_000;

pub const SECOND_US: i64 = 1_000_000;

/// One row: its time and its JSON.
#[derive(Clone, Debug)]
pub struct Event {
    pub at_us: i64,
    pub json: String,
}

/// `count` events over `span_us` from [`START_US`], in order of time.
pub fn events(random: &mut ChaCha8Rng, count: usize, span_us: i64) -> Vec<Event> {
    events_from(random, START_US, count, span_us)
}

/// As [`events`], from another time.
pub fn events_from(random: &mut ChaCha8Rng, start_us: i64, count: usize, span_us: i64) -> Vec<Event> {
    let keys = ["alpha", "beta", "gamma", "délta", "-"];
    let keys = &keys[..random.random_range(1..=keys.len())];
    let mut times: Vec<i64> = (0..count).map(|_| start_us + time(random, span_us)).collect();
    times.sort_unstable();
    times.into_iter().enumerate().map(|(number, at_us)| event(random, number, at_us, keys)).collect()
}

/// Times like edges: many lie on a whole minute, or a microsecond before one.
fn time(random: &mut ChaCha8Rng, span_us: i64) -> i64 {
    let any = random.random_range(0..span_us);
    match random.random_range(0..10) {
        0 => any - any % (60 * SECOND_US),
        1 => (any - any % (60 * SECOND_US) - 1).max(0),
        2..=5 => any - any % SECOND_US,
        _ => any,
    }
}

fn event(random: &mut ChaCha8Rng, number: usize, at_us: i64, keys: &[&str]) -> Event {
    let at = chrono::DateTime::from_timestamp_micros(at_us).unwrap().format("%Y-%m-%dT%H:%M:%S%.6fZ");
    let key = keys[random.random_range(0..keys.len())];
    let cents = match random.random_range(0..4) {
        0 => 100,
        1 => -random.random_range(0..10_000i64),
        _ => random.random_range(0..10_000_000i64),
    };
    let (sign, whole, rest) = (if cents < 0 { "-" } else { "" }, cents.abs() / 100, cents.abs() % 100);
    let mut json =
        format!(r#"{{"at":"{at}","id":"e{number:06}","at_us":{at_us},"k":"{key}","amount":{sign}{whole}.{rest:02}"#);
    let mut field = |random: &mut ChaCha8Rng, name: &str, value: String| {
        if random.random_bool(0.85) {
            let _ = write!(json, r#","{name}":{value}"#);
        }
    };
    let (g, n) = (random.random_range(-1..3i32), random.random_range(-50..50i64));
    field(random, "g", g.to_string());
    field(random, "n", n.to_string());
    let price = f64::from(random.random_range(1..1_000_000u32)) / 1000.0;
    field(random, "price", format!("{price:?}"));
    let flag = random.random_bool(0.4);
    field(random, "flag", flag.to_string());
    // No empty text: a record's empty text is NULL.
    let note = ["red", "green", "blue", "rød", " "][random.random_range(0..5)];
    field(random, "note", format!("\"{note}\""));
    json.push('}');
    Event { at_us, json }
}

pub fn contract() -> TableContract {
    TableContract::parse("events.sql", CONTRACT).unwrap()
}

/// The events as the stream's decoder reads them.
pub fn decoded(events: &[Event]) -> RecordBatch {
    let rejects = TableContract::parse("rejects.sql", include_str!("../../lake/rejects.sql")).unwrap();
    let tokenizer = Tokenizer::new(TokenKey::from_hex(1, TOKEN_KEY).unwrap());
    let hasher = IdentityHasher::new([0; 4]);
    let mut decoder = Decoder::new(Arc::new(contract()), Arc::new(rejects), tokenizer, i64::MAX / 2, hasher).unwrap();
    let sequence = |index: usize| SequenceNumber::Offset(index as u64 + 1);
    let record = |(index, event): (usize, &Event)| Record {
        sequence: sequence(index),
        arrival_time: START_US,
        data: event.json.clone().into_bytes().into(),
    };
    let page = Page {
        shard: ShardKey { source: "test".into(), shard: "0".into() },
        interval: Interval { from: Position::TrimHorizon, to: Position::After(sequence(events.len())) },
        records: events.iter().enumerate().map(record).collect(),
        share: None,
    };
    let batch = decoder.decode(&page).unwrap();
    assert_eq!(batch.rows.num_rows(), events.len(), "the decoder rejects made events: {:?}", batch.rejects);
    batch.rows
}
