//! What reading a stream by polling costs: a job on an idle stream, the way of a record, and of a thousand.
//!
//! `cargo bench --profile dist --bench polling [-- SHARDS…]` prints, for streams of 1, 100 and 1,000 shards: CPU time and
//! resident memory of a job that finds nothing to read; the time from the request that puts a record until it is decoded; and
//! the CPU time of reading and decoding a thousand records. The stream is `lakeward stream`, a process of its own, whose cost
//! counts nowhere but slows everything: it shares the cores. Figures of one run on one machine: compare ratios.

#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a bench prints, and stops when it cannot run")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::AsArray;
use lakeward::clock::Clock;
use lakeward::config::Config;
use lakeward::contract::{TableContract, read_folder};
use lakeward::files::records;
use lakeward::kinesis::{Client, Producer, PutRecord, client, reader};
use lakeward::micro_batch::{Decoder, IdentityHasher};
use lakeward::simulate::{FileSpec, write_file};
use lakeward::stream::{ShardEvent, SourceHandle};
use lakeward::token::{TokenKey, Tokenizer};
use tokio::sync::mpsc;

/// Shards unless told otherwise.
const SHARDS: [u32; 3] = [1, 100, 1_000];
/// How long an idle job is watched, and how long it may take before to find that there is nothing.
const IDLE: Duration = Duration::from_secs(60);
const SETTLE: Duration = Duration::from_secs(20);
/// Records a second and how many, one a request, for the time on their way; over all shards.
const LATENCY_RATE: u32 = 200;
const LATENCY_RECORDS: usize = 4_000;
/// Records read at full speed.
const BACKLOG_RECORDS: usize = 100_000;
/// Clock ticks of `/proc` in a second, on every Linux there is.
const TICKS_PER_SECOND: f64 = 100.0;

const REGION: &str = "us-east-1";

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    let shards: Vec<u32> = arguments.iter().map(|shards| shards.parse().expect("a number of shards")).collect();
    let shards = if shards.is_empty() { SHARDS.to_vec() } else { shards };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rows.ndjson");
    write_file(&file, &FileSpec::new(BACKLOG_RECORDS as u64, 7)).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for shards in shards {
        let (mut server, url) = stream(shards);
        runtime.block_on(async {
            idle(folder.path(), &url, shards).await;
            way_of_a_record(&url, &file, shards).await;
            thousand_records(&url, &file, shards).await;
        });
        server.kill().unwrap();
        server.wait().unwrap();
    }
}

fn lakeward(arguments: &[String]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lakeward"));
    command.current_dir(env!("CARGO_MANIFEST_DIR")).env("LAKEWARD_TOKEN_KEY", "00".repeat(32)).args(arguments);
    command.stdin(Stdio::null()).stderr(Stdio::null());
    command
}

/// A stream, and where it is.
fn stream(shards: u32) -> (Child, String) {
    let arguments =
        ["stream", "--listen", "127.0.0.1:0", "--set", &format!("stream.shards={shards}")].map(str::to_owned);
    let mut server = lakeward(&arguments).stdout(Stdio::piped()).spawn().unwrap();
    let mut said = String::new();
    BufReader::new(server.stdout.as_mut().unwrap()).read_line(&mut said).unwrap();
    (server, said.split_whitespace().next().expect("an address").to_owned())
}

/// CPU time and resident memory of a whole job while nothing comes.
async fn idle(folder: &Path, url: &str, shards: u32) {
    let lake = folder.join(format!("lake-{shards}"));
    let arguments = [format!("lake.url={}", lake.display()), format!("stream.endpoint={url}")];
    let arguments = arguments.into_iter().flat_map(|setting| ["--set".to_owned(), setting]).chain(["run".to_owned()]);
    let mut job = lakeward(&arguments.collect::<Vec<_>>()).stdout(Stdio::null()).spawn().unwrap();
    tokio::time::sleep(SETTLE).await;
    let (before, begun) = (cpu_seconds(job.id()), Instant::now());
    tokio::time::sleep(IDLE).await;
    assert!(job.try_wait().unwrap().is_none(), "the job has ended");
    let share = (cpu_seconds(job.id()) - before) / begun.elapsed().as_secs_f64();
    println!(
        "{shards:>5} shards, idle job: {:.2} % of a core, {:.1} MB resident",
        share * 100.0,
        resident_megabytes(job.id())
    );
    job.kill().unwrap();
    job.wait().unwrap();
}

/// Puts records one by one and waits for each to be decoded.
async fn way_of_a_record(url: &str, file: &Path, shards: u32) {
    let client = client::connect_to_url(url, REGION);
    let mut decoded = Decoded::of(reader(&client, url));
    let producer = Producer::new(client, stream_name());
    let (mut sent, mut waits) = (BTreeMap::new(), Vec::with_capacity(LATENCY_RECORDS));
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / LATENCY_RATE);
    let mut rows = rows(file).take(LATENCY_RECORDS);
    let (acknowledge, mut acknowledged) = mpsc::unbounded_channel();
    while waits.len() < LATENCY_RECORDS {
        tokio::select! {
            _ = ticks.tick(), if sent.len() < LATENCY_RECORDS => {
                let (id, record) = rows.next().unwrap();
                sent.insert(id, Instant::now());
                let (producer, acknowledge) = (producer.clone(), acknowledge.clone());
                tokio::spawn(async move { acknowledge.send(producer.put(&[record]).await.unwrap()) });
            }
            Some(_) = acknowledged.recv() => {}
            ids = decoded.next() => waits.extend(ids.iter().filter_map(|id| sent.get(id)).map(Instant::elapsed)),
        }
    }
    decoded.stop().await;
    waits.sort_unstable();
    let at = |percent: usize| waits[(waits.len() - 1) * percent / 100].as_millis();
    println!(
        "{shards:>5} shards, {:.1} records/s each, put to decoded: p50 {} ms, p99 {} ms, at most {} ms",
        f64::from(LATENCY_RATE) / f64::from(shards),
        at(50),
        at(99),
        at(100)
    );
}

/// CPU time of reading and decoding what lies there.
async fn thousand_records(url: &str, file: &Path, shards: u32) {
    let client = client::connect_to_url(url, REGION);
    let all: Vec<PutRecord> = rows(file).map(|(_, record)| record).collect();
    Producer::new(client.clone(), stream_name()).put(&all).await.unwrap();
    let (before, begun) = (cpu_seconds(std::process::id()), Instant::now());
    let mut decoded = Decoded::of(reader(&client, url));
    let (mut read, there) = (0, all.len() + LATENCY_RECORDS);
    while read < there {
        read += decoded.next().await.len();
    }
    let used = cpu_seconds(std::process::id()) - before;
    println!(
        "{shards:>5} shards, {read} records in {:.2} s: {:.2} ms of CPU time for a thousand",
        begun.elapsed().as_secs_f64(),
        used * 1e6 / read as f64
    );
    decoded.stop().await;
}

fn stream_name() -> String {
    Config::load(None, &[]).unwrap().stream.name
}

fn reader(client: &Client, url: &str) -> SourceHandle {
    let config = Config::load(None, &[format!("stream.endpoint={url}")]).unwrap();
    reader::spawn(client.clone(), reader::Options::new(&config, Clock::System), &BTreeMap::new())
}

/// The file's rows: their ids, and as records under a key of their own.
fn rows(file: &Path) -> impl Iterator<Item = (String, PutRecord)> {
    records(file).unwrap().map(|record| {
        let data = record.unwrap().data;
        let row: serde_json::Value = serde_json::from_slice(&data).unwrap();
        let id = row["trans_num"].as_str().unwrap().to_owned();
        (id.clone(), PutRecord { partition_key: id, data })
    })
}

/// What is read and decoded, a task a shard as in the job.
struct Decoded {
    handle: SourceHandle,
    batches: mpsc::Receiver<Vec<String>>,
    sender: mpsc::Sender<Vec<String>>,
    contract: Arc<TableContract>,
    rejects: Arc<TableContract>,
}

impl Decoded {
    fn of(handle: SourceHandle) -> Self {
        let contracts = read_folder(Path::new("lake")).unwrap();
        let contract = |name: &str| Arc::new(contracts[name].clone());
        let (sender, batches) = mpsc::channel(8);
        Self { handle, batches, sender, contract: contract("transactions"), rejects: contract("rejects") }
    }

    /// The ids of the next micro-batch.
    async fn next(&mut self) -> Vec<String> {
        loop {
            tokio::select! {
                Some(mut shard) = self.handle.opened.recv() => {
                    let (mut decoder, sender) = (self.decoder(), self.sender.clone());
                    tokio::spawn(async move {
                        while let Some(event) = shard.events.recv().await {
                            let ShardEvent::Page(page) = event else { continue };
                            let batch = decoder.decode(&page).unwrap();
                            let ids = batch.rows.column_by_name("transaction_id").unwrap().as_string::<i32>().iter();
                            let ids = ids.map(|id| id.unwrap().to_owned()).collect();
                            if sender.send(ids).await.is_err() {
                                return;
                            }
                        }
                    });
                }
                Some(ids) = self.batches.recv() => return ids,
            }
        }
    }

    fn decoder(&self) -> Decoder {
        let tokenizer = Tokenizer::new(TokenKey::from_hex(1, &"00".repeat(32)).unwrap());
        let hasher = IdentityHasher::new([1, 2, 3, 4]);
        Decoder::new(self.contract.clone(), self.rejects.clone(), tokenizer, i64::MAX / 2, hasher).unwrap()
    }

    async fn stop(self) {
        self.handle.stop.cancel();
        self.handle.task.await.unwrap().unwrap();
    }
}

/// CPU time of a process since it began: its own and the kernel's for it.
fn cpu_seconds(process: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    // The name, in parentheses, may hold blanks.
    let fields: Vec<&str> = stat[stat.rfind(')').unwrap() + 1..].split_whitespace().collect();
    [11, 12].map(|field: usize| fields[field].parse::<f64>().unwrap()).iter().sum::<f64>() / TICKS_PER_SECOND
}

fn resident_megabytes(process: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1e3
}
