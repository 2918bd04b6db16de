//! A file sent through the stream, in its order, card numbers replaced by their tokens.
//!
//! The one law: records of one partition key are sent in the file's order. All of a key travel in one lane, and a lane
//! sends its next request only when every record of the last one is acknowledged; lanes do not wait for each other.

use std::path::PathBuf;
use std::sync::Arc;

use futures::future::try_join_all;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::feed::put_by;
use super::keys::KeyFields;
use super::progress::{Ahead, Outstanding, ReplayProgress};
use crate::clock::Micros;
use crate::contract::TableContract;
use crate::error::{Context, Result};
use crate::files::RecordReader;
use crate::kinesis::producer::{Acknowledged, Producer, PutRecord, REQUEST_BYTES_MAX};
use crate::token::Tokenizer;

/// Requests under way at once: enough to keep two cores busy while each waits for its answer.
const LANES: usize = 4;

/// Chunks of a lane read and tokenised while one is being sent: reading is faster than sending, so few keep it fed. With
/// the one being filled, a lane holds at most four requests' worth, 20 MiB.
const CHUNKS_AHEAD: usize = 2;

/// What to send.
#[derive(Debug)]
pub struct Replay {
    pub path: PathBuf,
    pub contract: Arc<TableContract>,
    pub tokenizer: Tokenizer,
    /// Sent and not yet read by the engine, at most (a request in each lane may come on top): the embedded stream keeps its
    /// records in memory. Needs somebody who calls [`ReplayProgress::low_mark`]; `None` when nobody does.
    pub ahead_max: Option<Ahead>,
}

/// Records of one request.
struct Chunk {
    /// Its number, in the order chunks were begun.
    number: u64,
    records: Vec<PutRecord>,
    outstanding: Vec<Outstanding>,
    bytes: usize,
    /// The sum of `outstanding`.
    whole: Outstanding,
    records_max: usize,
}

/// Sends the whole file and tells how many records it had. Stopped, it finishes the request under way.
///
/// # Errors
/// As [`RecordReader`] and [`Producer::put`]; [`crate::Error::Usage`] when the contract is not one of a stream.
pub async fn replay(
    producer: Producer,
    replay: Replay,
    progress: Arc<ReplayProgress>,
    stop: CancellationToken,
) -> Result<u64> {
    let fields = KeyFields::of(&replay.contract)?;
    let (contract, mut tokenizer) = (replay.contract, replay.tokenizer);
    let read = move |json: &[u8]| fields.read(&mut tokenizer, &contract, json);
    let reader = RecordReader::open(&replay.path, 0)?;
    let at_once = producer.records_at_once();
    send(put_by(producer), at_once, reader, read, replay.ahead_max, progress, &stop).await
}

async fn send<A: Future<Output = Result<Vec<Acknowledged>>>>(
    put: impl Fn(Vec<PutRecord>) -> A,
    at_once: usize,
    reader: RecordReader,
    read: impl FnMut(&[u8]) -> (Option<Micros>, PutRecord) + Send + 'static,
    ahead_max: Option<Ahead>,
    progress: Arc<ReplayProgress>,
    stop: &CancellationToken,
) -> Result<u64> {
    let (senders, lanes): (Vec<_>, Vec<_>) = (0..LANES).map(|_| mpsc::channel(CHUNKS_AHEAD)).unzip();
    let reading = tokio::task::spawn_blocking({
        let progress = progress.clone();
        move || prepare(reader, read, at_once, &progress, &senders)
    });
    let lanes = lanes.into_iter().map(|lane| send_lane(&put, lane, ahead_max, &progress, stop));
    let sent = try_join_all(lanes).await?.into_iter().sum();
    // The reader must have ended before what it announced is forgotten.
    reading.await.context(|| "read the file to replay")??;
    progress.finish();
    Ok(sent)
}

/// Sends the chunks of one lane, one after the other, and tells how many records they held.
async fn send_lane<A: Future<Output = Result<Vec<Acknowledged>>>>(
    put: &impl Fn(Vec<PutRecord>) -> A,
    mut chunks: mpsc::Receiver<Chunk>,
    ahead_max: Option<Ahead>,
    progress: &ReplayProgress,
    stop: &CancellationToken,
) -> Result<u64> {
    let mut sent = 0;
    loop {
        let next = async {
            let chunk = chunks.recv().await;
            if let (Some(max), Some(_)) = (ahead_max, &chunk) {
                progress.at_most_waiting(max).await;
            }
            chunk
        };
        let Some(Some(chunk)) = stop.run_until_cancelled(next).await else { return Ok(sent) };
        let landed = put(chunk.records).await?;
        progress.acknowledged(chunk.number, &landed, &chunk.outstanding);
        sent += landed.len() as u64;
    }
}

/// Reads, tokenises and cuts the file into chunks, each announced before a record behind it can be sent. Ends when nobody
/// listens.
fn prepare(
    mut reader: RecordReader,
    mut read: impl FnMut(&[u8]) -> (Option<Micros>, PutRecord),
    at_once: usize,
    progress: &ReplayProgress,
    lanes: &[mpsc::Sender<Chunk>],
) -> Result<()> {
    let mut begun = 0;
    let mut next_chunk = move || {
        begun += 1;
        Chunk::new(begun, at_once)
    };
    let mut filling: Vec<Chunk> = lanes.iter().map(|_| next_chunk()).collect();
    while let Some(page) = reader.next_page()? {
        for record in page.records {
            let (event_time, record) = read(&record.data);
            let lane = lane(&record.partition_key, lanes.len());
            if filling[lane].is_full_with(&record) {
                announce(&filling, progress);
                if lanes[lane].blocking_send(std::mem::replace(&mut filling[lane], next_chunk())).is_err() {
                    return Ok(());
                }
            }
            filling[lane].push(record, event_time);
        }
    }
    announce(&filling, progress);
    for (lane, rest) in lanes.iter().zip(filling).filter(|(_, rest)| !rest.records.is_empty()) {
        if lane.blocking_send(rest).is_err() {
            return Ok(());
        }
    }
    Ok(())
}

fn announce(filling: &[Chunk], progress: &ReplayProgress) {
    let begun = filling.iter().filter(|chunk| !chunk.records.is_empty());
    progress.took(begun.map(|chunk| (chunk.number, chunk.whole)));
}

/// The lane of a key: any even spread will do, the same for the whole run.
fn lane(partition_key: &str, lanes: usize) -> usize {
    partition_key.bytes().fold(0_usize, |hash, byte| hash.wrapping_mul(31).wrapping_add(byte.into())) % lanes
}

impl Chunk {
    fn new(number: u64, records_max: usize) -> Self {
        let (records, outstanding) = (Vec::with_capacity(records_max), Vec::with_capacity(records_max));
        Self { number, records, outstanding, bytes: 0, whole: Outstanding::default(), records_max }
    }

    /// Whether one request could not hold this record as well.
    fn is_full_with(&self, record: &PutRecord) -> bool {
        let is_too_large = self.bytes + record.size() > REQUEST_BYTES_MAX;
        self.records.len() == self.records_max || (is_too_large && !self.records.is_empty())
    }

    fn push(&mut self, record: PutRecord, event_time: Option<Micros>) {
        let outstanding = Outstanding::one(event_time, record.size());
        self.bytes += record.size();
        self.whole = self.whole + outstanding;
        self.outstanding.push(outstanding);
        self.records.push(record);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::super::fields;
    use super::super::keys::tests::contract;
    use super::*;
    use crate::error::Error;
    use crate::stream::{SequenceNumber, ShardId};
    use crate::token::TokenKey;

    /// Until a request that never begins is a failure.
    const PATIENCE: Duration = Duration::from_secs(60);

    fn file(lines: usize) -> tempfile::NamedTempFile {
        let file = tempfile::Builder::new().suffix(".ndjson").tempfile().unwrap();
        let line = |i| format!("{{\"time\":\"2019-01-01 00:{:02}:{:02}\",\"card\":\"c{}\"}}\n", i / 60, i % 60, i % 7);
        std::fs::write(file.path(), (0..lines).map(line).collect::<String>()).unwrap();
        file
    }

    async fn run<A: Future<Output = Result<Vec<Acknowledged>>>>(
        path: &Path,
        put: impl Fn(Vec<PutRecord>) -> A,
        ahead_max: Option<Ahead>,
        progress: &Arc<ReplayProgress>,
        stop: &CancellationToken,
    ) -> Result<u64> {
        let reader = RecordReader::open(path, 0)?;
        let fields = KeyFields::of(&contract())?;
        let read = move |json: &[u8]| fields.put_record(json.to_vec());
        send(put, 500, reader, read, ahead_max, progress.clone(), stop).await
    }

    /// Three shards, sequence numbers by the order of arrival.
    fn land(records: Vec<PutRecord>, landed: &mut Vec<PutRecord>) -> Vec<Acknowledged> {
        let land = |record: PutRecord| {
            let shard = record.partition_key.bytes().map(usize::from).sum::<usize>() % 3;
            landed.push(record);
            let sequence = SequenceNumber::Kinesis(landed.len().to_string().into());
            Acknowledged { shard: format!("shard-{shard}").into(), sequence }
        };
        records.into_iter().map(land).collect()
    }

    #[tokio::test]
    async fn a_file_is_sent_in_each_keys_order_and_accounted_for() {
        let (file, landed, under_way) = (file(6_203), Mutex::new(Vec::new()), Mutex::new((0, 0)));
        let (progress, stop) = (Arc::new(ReplayProgress::default()), CancellationToken::new());
        // Requests overlap: the first is not answered before the second has begun, however fast the file is read.
        let (begun, both) = (AtomicUsize::new(0), tokio::sync::Barrier::new(2));
        // Requests take their time, later ones less than earlier ones.
        let put = async |records: Vec<PutRecord>| {
            assert!((1..=500).contains(&records.len()));
            let turns = {
                let mut under_way = under_way.lock().unwrap();
                under_way.0 += 1;
                under_way.1 = under_way.1.max(under_way.0);
                20 - landed.lock().unwrap().len() / 400
            };
            if begun.fetch_add(1, Ordering::Relaxed) < 2 {
                let met = tokio::time::timeout(PATIENCE, both.wait()).await;
                assert!(met.is_ok(), "no request begins while another is under way");
            }
            for _ in 0..turns {
                tokio::task::yield_now().await;
            }
            under_way.lock().unwrap().0 -= 1;
            Ok(land(records, &mut landed.lock().unwrap()))
        };
        assert_eq!(run(file.path(), put, None, &progress, &stop).await.unwrap(), 6_203);
        let landed = landed.into_inner().unwrap();
        let mut sent: BTreeMap<&str, Vec<&[u8]>> = BTreeMap::new();
        landed.iter().for_each(|record| sent.entry(&record.partition_key).or_default().push(&record.data));
        let lines = std::fs::read(file.path()).unwrap();
        let mut expected: BTreeMap<String, Vec<&[u8]>> = BTreeMap::new();
        for (index, line) in lines.trim_ascii_end().split(|byte| *byte == b'\n').enumerate() {
            expected.entry(format!("c{}", index % 7)).or_default().push(line);
        }
        assert!(sent.into_iter().eq(expected.iter().map(|(key, lines)| (key.as_str(), lines.clone()))));
        assert!(under_way.into_inner().unwrap().1 <= LANES, "one request a lane");
        assert_eq!(progress.sent(), 6_203);
        let nothing_read = BTreeMap::new();
        assert_eq!(progress.low_mark(&nothing_read), fields::event_time("2019-01-01 00:00:00"));
        assert!(!progress.caught_up(&nothing_read));
        let everything: BTreeMap<ShardId, SequenceNumber> =
            (0..3).map(|shard| (format!("shard-{shard}").into(), SequenceNumber::Kinesis("6203".into()))).collect();
        assert_eq!(progress.low_mark(&everything), None);
        assert!(progress.caught_up(&everything));
    }

    /// At every request, what the engine may know to be the oldest is not younger than any record not yet landed.
    #[tokio::test]
    async fn the_low_mark_covers_every_record_that_is_not_sent() {
        let (file, landed) = (file(3_500), Mutex::new(Vec::new()));
        let (progress, stop) = (Arc::new(ReplayProgress::default()), CancellationToken::new());
        let second = |record: &PutRecord| {
            let (event_time, _) = KeyFields::of(&contract()).unwrap().of_record(&record.data);
            event_time.unwrap()
        };
        let put = async |records: Vec<PutRecord>| {
            // The engine has read everything that landed before.
            let read: BTreeMap<ShardId, SequenceNumber> =
                (0..3).map(|n| (format!("shard-{n}").into(), SequenceNumber::Kinesis("9999".into()))).collect();
            let low_mark = progress.low_mark(&read).unwrap();
            assert!(records.iter().all(|record| second(record) >= low_mark));
            tokio::task::yield_now().await;
            Ok(land(records, &mut landed.lock().unwrap()))
        };
        assert_eq!(run(file.path(), put, None, &progress, &stop).await.unwrap(), 3_500);
    }

    #[tokio::test]
    async fn no_card_number_is_sent_and_its_token_is_the_key() {
        let contract = TableContract::parse("transactions.sql", include_str!("../../lake/transactions.sql")).unwrap();
        let mut tokenizer = Tokenizer::new(TokenKey::from_hex(1, &"5a".repeat(32)).unwrap());
        let (clear, landed) = (tempfile::Builder::new().suffix(".csv.gz").tempfile().unwrap(), Mutex::new(Vec::new()));
        super::super::write_file(clear.path(), &super::super::FileSpec::new(700, 3)).unwrap();
        let cards: Vec<(String, i64)> = crate::files::records(clear.path())
            .unwrap()
            .map(|record| serde_json::from_slice::<serde_json::Value>(&record.unwrap().data).unwrap())
            .map(|row| {
                (row["cc_num"].as_str().unwrap().to_owned(), row["unix_time"].as_str().unwrap().parse().unwrap())
            })
            .collect();
        let (progress, stop) = (Arc::new(ReplayProgress::default()), CancellationToken::new());
        let put = |records: Vec<PutRecord>| std::future::ready(Ok(land(records, &mut landed.lock().unwrap())));
        let (fields, reader) = (KeyFields::of(&contract).unwrap(), RecordReader::open(clear.path(), 0).unwrap());
        let mut again = tokenizer.clone();
        let read = move |json: &[u8]| fields.read(&mut tokenizer, &contract, json);
        assert_eq!(send(put, 500, reader, read, None, progress.clone(), &stop).await.unwrap(), 700);
        let keys: BTreeMap<String, &str> =
            cards.iter().map(|(card, _)| (again.token(&format!("{card:0>12}")).to_owned(), card.as_str())).collect();
        for record in landed.into_inner().unwrap() {
            let card = keys[&record.partition_key];
            let text = std::str::from_utf8(&record.data).unwrap();
            assert!(!text.contains(card), "{text}");
            assert!(text.contains(&record.partition_key));
        }
        let first = (cards[0].1 + 2_557 * 86_400) * crate::clock::MICROS_PER_SECOND;
        assert_eq!(progress.low_mark(&BTreeMap::new()), Some(first));
    }

    #[tokio::test]
    async fn it_stays_near_the_engine() {
        let (file, landed) = (file(9_000), Mutex::new(Vec::new()));
        let (progress, stop) = (Arc::new(ReplayProgress::default()), CancellationToken::new());
        let put = |records: Vec<PutRecord>| std::future::ready(Ok(land(records, &mut landed.lock().unwrap())));
        // Nobody reads: each lane may send one request beyond the bound, then all wait.
        let max = Ahead { records: 999, bytes: usize::MAX };
        let reading = async {
            while progress.sent() < 1_000 {
                tokio::task::yield_now().await;
            }
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            stop.cancel();
        };
        let (sent, ()) = tokio::join!(run(file.path(), put, Some(max), &progress, &stop), reading);
        let most = 999 + (LANES * 500) as u64;
        assert!((1_000..=most).contains(&sent.unwrap()), "{}", progress.sent());
        assert!(progress.done(), "stopped: nothing more will be sent");
    }

    #[tokio::test]
    async fn a_failed_put_is_not_the_end_of_the_file() {
        let (progress, stop) = (Arc::new(ReplayProgress::default()), CancellationToken::new());
        let put = |_: Vec<PutRecord>| std::future::ready(Err(Error::broken("no answer")));
        assert!(run(file(10).path(), put, None, &progress, &stop).await.is_err());
        assert!(!progress.done());
    }

    #[test]
    fn it_can_run_on_any_thread() {
        fn can_be_sent<T: Send>(_: impl FnOnce(Producer, Replay) -> T) {}
        can_be_sent(|producer, what| replay(producer, what, Arc::default(), CancellationToken::new()));
    }
}
