//! Decode on one core: pages of card transactions (22 fields, 497 bytes each) to micro-batches, and their admission.
//!
//! Floor: 400,000 rows/s. `cargo bench --bench decode` prints rows/s and MB/s (10^6 bytes of JSON) besides criterion's own
//! figures. The records are made here, in the shape of the data set: 1,000 cards, 700 merchants, 900 places, 490
//! occupations, coordinates with and without the noise of floats.
#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a bench prints, and stops when it cannot run")]

use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput};
use lakeward::contract::{TableContract, read_folder};
use lakeward::micro_batch::{Decoder, Duplicates, IdentityHasher};
use lakeward::stream::{Interval, Page, Position, Record, SequenceNumber, ShardKey};
use lakeward::token::{TokenKey, Tokenizer};

/// Records of a page: near the 10,000 that GetRecords gives at most.
const PAGE_ROWS: u64 = 8_192;
/// Pages of one measurement: 64 MB, more than any cache holds.
const PAGES: u64 = 16;
/// Bytes of a record of the data set as JSON, on average.
const RECORD_BYTES: usize = 497;
/// 2026-11-23T12:00:00Z, when all records arrive.
const ARRIVAL: i64 = 1_795_435_200_000_000;
/// Measurements printed; the best counts, as the machine is shared.
const RUNS: usize = 5;

const CATEGORIES: [&str; 14] = [
    "misc_net",
    "grocery_pos",
    "entertainment",
    "gas_transport",
    "misc_pos",
    "grocery_net",
    "shopping_net",
    "shopping_pos",
    "food_dining",
    "personal_care",
    "health_fitness",
    "travel",
    "kids_pets",
    "home",
];

/// A permutation of the numbers: cheap, and no two records alike.
fn scattered(number: u64) -> u64 {
    let mixed = (number ^ (number >> 31)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed ^ (mixed >> 29)
}

fn record(number: u64) -> String {
    let draw = scattered(number);
    let (card, merchant, place) = (draw % 1_000, draw / 7 % 700, draw / 13 % 900);
    let (cents, second) = (100 + draw % 20_000, number / 50 % 36_000);
    let noise = if draw.is_multiple_of(4) { "0000000007" } else { "" };
    let mut text = String::with_capacity(RECORD_BYTES + 32);
    write!(
        text,
        concat!(
            r#"{{"trans_date_trans_time":"2026-11-23 {:02}:{:02}:{:02}","cc_num":{},"merchant":"fraud_Kirlin-{} Sons","#,
            r#""category":"{}","amt":{}.{},"first":"Jeff{}","last":"Ellis{}","gender":"{}","#,
            r#""street":"{} Darlene Green Apt. {}","city":"Port {}","state":"SC","zip":{},"lat":{}.{:04},"#,
            r#""long":-{}.{:04},"city_pop":{},"job":"Engineer, kind {}","dob":"19{}-0{}-1{}","trans_num":"{:016x}{:016x}","#,
            r#""unix_time":{},"merch_lat":{}.{:06}{},"merch_long":-{}.{:06},"is_fraud":{}}}"#
        ),
        second / 3600, second / 60 % 60, second % 60, 4_000_000_000_000_000 + card * 7_919, merchant,
        CATEGORIES[usize::try_from(draw % 14).unwrap()], cents / 100, cents % 100, card % 200, card % 400,
        if card.is_multiple_of(2) { 'M' } else { 'F' },
        card, card % 97, place, 10_000 + place, 25 + place % 23, place * 11 % 10_000,
        70 + place % 50, place * 17 % 10_000, 1_000 + place * 37, card % 490, 40 + card % 60, 1 + card % 9, card % 10, draw, number,
        1_371_816_865 + number, 25 + place % 23, draw % 1_000_000, noise, 70 + place % 50, draw / 3 % 1_000_000, u8::from(draw.is_multiple_of(200)),
    )
    .unwrap();
    text
}

fn pages() -> (Vec<Page>, usize) {
    let mut offset = 0_u64;
    let mut bytes = 0;
    let pages = (0..PAGES).map(|page| {
        let from = Position::After(SequenceNumber::Offset(offset));
        let records = (page * PAGE_ROWS..(page + 1) * PAGE_ROWS).map(|number| {
            let data = Bytes::from(record(number));
            offset += data.len() as u64 + 1;
            bytes += data.len();
            Record { sequence: SequenceNumber::Offset(offset), arrival_time: ARRIVAL, data }
        });
        let records = records.collect();
        let to = Position::After(SequenceNumber::Offset(offset));
        let shard = ShardKey { source: "files".into(), shard: "in/shard-0.ndjson:65000000:0f3c2a91".into() };
        Page { shard, interval: Interval { from, to }, records, share: None }
    });
    (pages.collect(), bytes)
}

struct Bench {
    contract: Arc<TableContract>,
    rejects: Arc<TableContract>,
    tokenizer: Tokenizer,
    pages: Vec<Page>,
    bytes: usize,
}

impl Bench {
    fn new() -> Self {
        let contracts = read_folder(Path::new("lake")).unwrap();
        let contract = |name: &str| Arc::new(contracts[name].clone());
        let (pages, bytes) = pages();
        let tokenizer = Tokenizer::new(TokenKey::from_hex(1, &"5a".repeat(32)).unwrap());
        Self { contract: contract("transactions"), rejects: contract("rejects"), tokenizer, pages, bytes }
    }

    fn decoder(&self) -> Decoder {
        let hasher = IdentityHasher::new([1, 2, 3, 4]);
        Decoder::new(self.contract.clone(), self.rejects.clone(), self.tokenizer.clone(), 600_000_000, hasher).unwrap()
    }

    fn duplicates(&self) -> Duplicates {
        Duplicates::new(&self.contract, &self.rejects, self.tokenizer.clone()).unwrap()
    }

    fn decode(&self, decoder: &mut Decoder) -> u64 {
        let rows = |page| decoder.decode(page).unwrap().rows.num_rows() as u64;
        self.pages.iter().map(rows).sum()
    }

    fn print(&self, what: &str, took: Duration) {
        let (rows, megabytes) = ((PAGE_ROWS * PAGES) as f64, self.bytes as f64 / 1e6);
        let seconds = took.as_secs_f64();
        println!("{what}: {:.0} rows/s, {:.0} MB/s", rows / seconds, megabytes / seconds);
    }
}

fn main() {
    let bench = Bench::new();
    let rows = PAGE_ROWS * PAGES;
    println!("{rows} records of {:.1} bytes on average", bench.bytes as f64 / rows as f64);
    let mut decoder = bench.decoder();
    assert_eq!(bench.decode(&mut decoder), rows, "no record of the bench may be rejected");

    let mut best = [Duration::MAX; 2];
    for _ in 0..RUNS {
        let start = Instant::now();
        bench.decode(&mut decoder);
        best[0] = best[0].min(start.elapsed());
        let batches: Vec<_> = bench.pages.iter().map(|page| decoder.decode(page).unwrap()).collect();
        let mut duplicates = bench.duplicates();
        let start = Instant::now();
        for batch in batches {
            assert_eq!(duplicates.admit(0, batch).unwrap().duplicates, 0);
        }
        best[1] = best[1].min(start.elapsed());
    }
    bench.print("decode", best[0]);
    bench.print("admit", best[1]);

    let mut criterion = Criterion::default().configure_from_args().sample_size(20);
    let mut group = criterion.benchmark_group("micro_batch");
    group.throughput(Throughput::Elements(PAGE_ROWS));
    let page = &bench.pages[0];
    group.bench_function("decode_page", |b| b.iter(|| decoder.decode(page).unwrap()));
    group.bench_function("admit_page", |b| {
        let made = |decoder: &mut Decoder| (bench.duplicates(), decoder.decode(page).unwrap());
        b.iter_batched(
            || made(&mut decoder),
            |(mut known, batch)| known.admit(0, batch).unwrap(),
            BatchSize::LargeInput,
        );
    });
    group.finish();
    criterion.final_summary();
}
