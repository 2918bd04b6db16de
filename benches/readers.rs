//! Polling and fan-out: what each costs the client, and how long a record takes from PutRecords to decoded.
//!
//! `cargo bench --bench readers [-- ROWS]` prints milliseconds of CPU per 1,000 records (of this process: server and producer are
//! others), for a stream that is full and for one that is written to at a pace, and the latency's middle, 95th percentile
//! and maximum. Polling keeps AWS's limits; the embedded server answers both ways at once, so what a network adds is not in
//! it.
//! Figures of one run on one machine: compare ratios within a run, not runs of different days.

#![expect(clippy::print_stdout, reason = "a bench prints its figures")]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use lakeward::clock::Clock;
use lakeward::config::Config;
use lakeward::contract::read_folder;
use lakeward::files::records;
use lakeward::kinesis::{Client, Consumer, Pacing, Producer, PutRecord, client, reader};
use lakeward::micro_batch::{Decoder, IdentityHasher};
use lakeward::simulate::{FileSpec, write_file};
use lakeward::stream::{OpenedShard, ShardEvent};
use lakeward::token::{TokenKey, Tokenizer};
use tokio::sync::mpsc;

/// Rows of the full stream unless told otherwise.
const ROWS: u64 = 100_000;
/// The written stream: records a request, requests a second, seconds.
const PUT_RECORDS: usize = 50;
const PUTS_PER_SECOND: u32 = 20;
const SECONDS: u32 = 10;
/// Requests whose latency is measured, each at another moment between two calls of a reader that polls.
const TIMED: u32 = 100;
/// Times the full stream is read; the best counts.
const RUNS: usize = 3;
const REGION: &str = "us-east-1";
/// The argument that makes this binary the producer.
const PRODUCE: &str = "produce";

/// A stream in a process of its own.
struct Server {
    process: Child,
    url: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.kill().expect("it runs");
        self.process.wait().expect("it ends");
    }
}

impl Server {
    fn start() -> Self {
        let arguments = ["stream", "--listen", "127.0.0.1:0", "--set", "stream.shards=4"];
        let mut command = Command::new(env!("CARGO_BIN_EXE_lakeward"));
        let mut process = command.args(arguments).stdout(Stdio::piped()).spawn().expect("the binary starts");
        let mut said = String::new();
        BufReader::new(process.stdout.take().expect("a pipe")).read_line(&mut said).expect("it says where it listens");
        let url = said.split_whitespace().next().expect("an address").to_owned();
        Self { process, url }
    }

    fn client(&self) -> Client {
        client::connect_to_url(&self.url, REGION)
    }
}

/// Reads and decodes; tells how many rows each page had, and when it was decoded.
struct Reading {
    rows: mpsc::UnboundedReceiver<(usize, Instant)>,
    handle: tokio::task::JoinHandle<()>,
}

impl Reading {
    fn start(server: &Server, consumer: Option<Arc<Consumer>>) -> Self {
        let config = Config::load(None, &[format!("stream.endpoint={}", server.url)]).expect("a configuration");
        let mut options = reader::Options::new(&config, Clock::System);
        options.pacing = Pacing::AWS;
        options.consumer = consumer;
        let mut source = reader::spawn(server.client(), options, &Default::default());
        let (told, rows) = mpsc::unbounded_channel();
        let handle = tokio::spawn(async move {
            while let Some(shard) = source.opened.recv().await {
                tokio::spawn(decode(shard, decoder(), told.clone()));
            }
        });
        Self { rows, handle }
    }

    /// Waits for so many rows; returns when the last was decoded.
    async fn until(&mut self, mut rows: usize) -> Instant {
        loop {
            let (some, at) = self.rows.recv().await.expect("the stream is read");
            rows = rows.checked_sub(some).expect("no row comes twice");
            if rows == 0 {
                return at;
            }
        }
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.handle.abort();
    }
}

async fn decode(mut shard: OpenedShard, mut decoder: Decoder, told: mpsc::UnboundedSender<(usize, Instant)>) {
    while let Some(event) = shard.events.recv().await {
        match event {
            ShardEvent::Page(page) => {
                let batch = decoder.decode(&page).expect("a page");
                if told.send((batch.rows.num_rows(), Instant::now())).is_err() {
                    return;
                }
            }
            ShardEvent::Failed(error) => panic!("{error}"),
            ShardEvent::CaughtUp | ShardEvent::Finished => {}
        }
    }
}

fn decoder() -> Decoder {
    let contracts = read_folder(Path::new("lake")).expect("the contracts");
    let contract = |name: &str| Arc::new(contracts[name].clone());
    let tokenizer = Tokenizer::new(TokenKey::from_hex(1, &"5a".repeat(32)).expect("a key"));
    let hasher = IdentityHasher::new([1, 2, 3, 4]);
    Decoder::new(contract("transactions"), contract("rejects"), tokenizer, i64::MAX / 2, hasher).expect("a decoder")
}

/// Nanoseconds that this process's threads have run.
fn cpu() -> u64 {
    let threads = std::fs::read_dir("/proc/self/task").expect("Linux");
    let of = |thread: std::fs::DirEntry| {
        let text = std::fs::read_to_string(thread.path().join("schedstat")).unwrap_or_default();
        text.split_whitespace().next().and_then(|ran| ran.parse::<u64>().ok()).unwrap_or(0)
    };
    threads.flatten().map(of).sum()
}

fn simulated(rows: u64) -> Vec<PutRecord> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("rows.ndjson");
    write_file(&path, &FileSpec::new(rows, 7)).expect("a writable folder");
    let numbered = records(&path).expect("rows").zip(0_u64..);
    let put = numbered.map(|(record, number)| PutRecord {
        partition_key: (number % 1_000).to_string(),
        data: record.expect("a row").data,
    });
    put.collect()
}

/// The other role of this binary: writes to a stream at a pace.
async fn produce(url: &str) {
    let producer = Producer::new(client::connect_to_url(url, REGION), "transactions");
    let all = simulated(u64::from(PUTS_PER_SECOND * SECONDS) * PUT_RECORDS as u64);
    let mut due = tokio::time::interval(Duration::from_secs(1) / PUTS_PER_SECOND);
    for some in all.chunks(PUT_RECORDS) {
        due.tick().await;
        producer.put(some).await.expect("they are taken");
    }
}

async fn consumer(server: &Server) -> Option<Arc<Consumer>> {
    let registered = Consumer::register(server.client(), "transactions", "bench").await;
    Some(Arc::new(registered.expect("it is registered")))
}

async fn full(name: &str, server: &Server, consumer: &Option<Arc<Consumer>>, rows: usize) {
    let mut best = u64::MAX;
    for _ in 0..RUNS {
        let before = cpu();
        Reading::start(server, consumer.clone()).until(rows).await;
        best = best.min(cpu() - before);
    }
    println!("{name}, a full stream: {:.2} ms of CPU per 1,000 records", best as f64 / 1e3 / rows as f64);
}

async fn paced(name: &str, fan_out: bool) {
    let server = Server::start();
    let consumer = if fan_out { consumer(&server).await } else { None };
    let mut reading = Reading::start(&server, consumer);
    let before = cpu();
    let mut command = Command::new(std::env::current_exe().expect("this binary"));
    let mut producer = command.args([PRODUCE, &server.url]).spawn().expect("it starts");
    let rows = (PUTS_PER_SECOND * SECONDS) as usize * PUT_RECORDS;
    reading.until(rows).await;
    let took = cpu() - before;
    producer.wait().expect("it ends");
    let per_second = PUTS_PER_SECOND as usize * PUT_RECORDS;
    println!(
        "{name}, {per_second} records a second: {:.2} ms of CPU per 1,000 records",
        took as f64 / 1e3 / rows as f64
    );
}

async fn latency(name: &str, fan_out: bool) {
    let server = Server::start();
    let consumer = if fan_out { consumer(&server).await } else { None };
    let mut reading = Reading::start(&server, consumer);
    let producer = Producer::new(server.client(), "transactions");
    let all = simulated(u64::from(TIMED) * 10);
    let mut took = Vec::new();
    for (number, some) in (0_u64..).zip(all.chunks(10)) {
        // Steps that are no part of a reader's own: every moment between two calls comes.
        tokio::time::sleep(Duration::from_millis(40 + number * 7 % 250)).await;
        let put = Instant::now();
        producer.put(some).await.expect("they are taken");
        took.push(reading.until(some.len()).await.saturating_duration_since(put));
    }
    took.sort_unstable();
    let at = |share: usize| took[(took.len() - 1) * share / 100].as_secs_f64() * 1e3;
    println!(
        "{name}: PutRecords to decoded {:.1} ms in the middle, {:.1} at 95 %, {:.1} at most",
        at(50),
        at(95),
        at(100)
    );
}

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    if let [role, url] = arguments.as_slice()
        && role == PRODUCE
    {
        return produce(url).await;
    }
    let rows = arguments.first().map_or(ROWS, |rows| rows.parse().expect("a number of rows"));
    let all = simulated(rows);
    let server = Server::start();
    Producer::new(server.client(), "transactions").put(&all).await.expect("they are taken");
    full("polling", &server, &None, all.len()).await;
    full("fan-out", &server, &consumer(&server).await, all.len()).await;
    for (name, fan_out) in [("polling", false), ("fan-out", true)] {
        paced(name, fan_out).await;
        latency(name, fan_out).await;
    }
}
