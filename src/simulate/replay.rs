//! A file sent through the stream, in its order, card numbers replaced by their tokens.
//!
//! The one law: one request at a time. A card's records share a partition key, so they stay in order in one shard.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::feed::{PUT_RECORDS, put_by};
use super::fields;
use super::progress::ReplayProgress;
use crate::clock::Micros;
use crate::contract::{InputField, Origin, TableContract};
use crate::error::{Context, Error, Result};
use crate::files::{RECORD_BYTES_MAX, RecordReader};
use crate::kinesis::producer::{Acknowledged, Producer, PutRecord};
use crate::token::Tokenizer;

/// Chunks read and tokenised while one is being sent: reading is faster than sending, so few keep it fed.
const CHUNKS_AHEAD: usize = 4;

/// Partition keys have 1 to 256 characters.
const PARTITION_KEY_BYTES_MAX: usize = 256;

/// What to send.
#[derive(Debug)]
pub struct Replay {
    pub path: PathBuf,
    pub contract: Arc<TableContract>,
    pub tokenizer: Tokenizer,
    /// Records sent and not yet read by the engine, at most: the embedded stream keeps its records in memory. Needs
    /// somebody who calls [`ReplayProgress::low_mark`]; `None` when nobody does.
    pub records_ahead_max: Option<usize>,
}

/// Records of one request, and their event times.
#[derive(Default)]
struct Chunk {
    records: Vec<PutRecord>,
    event_times: Vec<Option<Micros>>,
}

/// Sends the whole file and tells how many records it had. Stopped, it finishes the request under way.
///
/// # Errors
/// As [`RecordReader`] and [`Producer::put`]; [`Error::Usage`] when the contract is not one of a stream.
pub async fn replay(
    producer: Producer,
    replay: Replay,
    progress: Arc<ReplayProgress>,
    stop: CancellationToken,
) -> Result<u64> {
    let fields = KeyFields::of(&replay.contract)?;
    let (contract, mut tokenizer) = (replay.contract, replay.tokenizer);
    let tokenize = move |json: &[u8]| tokenizer.tokenize_record(&contract, json);
    let reader = RecordReader::open(&replay.path, 0)?;
    send(put_by(producer), reader, tokenize, fields, replay.records_ahead_max, progress, &stop).await
}

async fn send<A: Future<Output = Result<Vec<Acknowledged>>>>(
    put: impl Fn(Vec<PutRecord>) -> A,
    reader: RecordReader,
    tokenize: impl FnMut(&[u8]) -> Vec<u8> + Send + 'static,
    fields: KeyFields,
    records_ahead_max: Option<usize>,
    progress: Arc<ReplayProgress>,
    stop: &CancellationToken,
) -> Result<u64> {
    let (chunks, mut prepared) = mpsc::channel(CHUNKS_AHEAD);
    let reading = tokio::task::spawn_blocking({
        let progress = progress.clone();
        move || prepare(reader, tokenize, &fields, &progress, &chunks)
    });
    let mut sent = 0;
    loop {
        let chunk: Chunk = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            chunk = prepared.recv() => match chunk {
                Some(chunk) => chunk,
                None => break,
            },
        };
        if let Some(records) = records_ahead_max {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = progress.at_most_waiting(records) => {}
            }
        }
        let landed = put(chunk.records).await?;
        progress.acknowledged(&landed, &chunk.event_times);
        sent += landed.len() as u64;
    }
    // The reader must have ended before what it announced is forgotten.
    drop(prepared);
    reading.await.context(|| "read the file to replay")??;
    progress.finish();
    Ok(sent)
}

/// Reads, tokenises and cuts the file into chunks, each announced before it can be sent. Ends when nobody listens.
fn prepare(
    mut reader: RecordReader,
    mut tokenize: impl FnMut(&[u8]) -> Vec<u8>,
    fields: &KeyFields,
    progress: &ReplayProgress,
    chunks: &mpsc::Sender<Chunk>,
) -> Result<()> {
    let mut chunk = Chunk::default();
    while let Some(page) = reader.next_page()? {
        for record in page.records {
            let mut data = tokenize(&record.data);
            // The stream takes no longer record: cut, it is one read and one reject, as it is when read from the file.
            data.truncate(RECORD_BYTES_MAX - PARTITION_KEY_BYTES_MAX);
            let (event_time, partition_key) = fields.of_record(&data);
            chunk.records.push(PutRecord { partition_key, data: Bytes::from(data) });
            chunk.event_times.push(event_time);
            if chunk.records.len() == PUT_RECORDS && !hand_over(&mut chunk, progress, chunks) {
                return Ok(());
            }
        }
    }
    if !chunk.records.is_empty() {
        hand_over(&mut chunk, progress, chunks);
    }
    Ok(())
}

fn hand_over(chunk: &mut Chunk, progress: &ReplayProgress, chunks: &mpsc::Sender<Chunk>) -> bool {
    progress.took(&chunk.event_times);
    chunks.blocking_send(std::mem::take(chunk)).is_ok()
}

/// The input fields that say when something happened and which shard it goes to.
#[derive(Debug)]
struct KeyFields {
    event_time: Option<Arc<str>>,
    partition_key: Option<InputField>,
}

impl KeyFields {
    fn of(contract: &TableContract) -> Result<Self> {
        let stream = contract.stream.as_ref().ok_or_else(|| {
            Error::usage(format!("table `{}` is not fed by a stream: its contract names no `format`", contract.name))
        })?;
        let field = |column: &str| match &contract.column(column)?.origin {
            Origin::Field(field) => Some(field.clone()),
            Origin::Generated(_) | Origin::Engine => None,
        };
        Ok(Self {
            event_time: field(&stream.event_time).map(|field| field.name),
            partition_key: field(&stream.partition_key),
        })
    }

    /// Event time, as far as it can be told, and partition key: the key field's text, or else a hash of the record. A
    /// field that must hold a token and holds none is never used.
    fn of_record(&self, json: &[u8]) -> (Option<Micros>, String) {
        let names = [self.event_time.as_deref(), self.partition_key.as_ref().map(|field| field.name.as_ref())];
        let [event_time, key] = fields::find(json, names.map(Option::unwrap_or_default));
        let event_time = self.event_time.as_ref().and(event_time).and_then(fields::text).and_then(fields::event_time);
        let is_fit = |key: &&str| {
            let is_token = || Tokenizer::is_token(key.as_bytes());
            let field = self.partition_key.as_ref();
            (1..=PARTITION_KEY_BYTES_MAX).contains(&key.len()) && field.is_some_and(|field| !field.token || is_token())
        };
        let key = key.and_then(fields::text).filter(is_fit).map(str::to_owned);
        (event_time, key.unwrap_or_else(|| hex::encode(&Sha256::digest(json)[..16])))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;
    use std::sync::Mutex;

    use arrow::datatypes::DataType;

    use super::*;
    use crate::contract::{Column, Format, StreamContract, timestamp_type};
    use crate::stream::{SequenceNumber, ShardId};
    use crate::token::TokenKey;

    fn column(name: &str, data_type: DataType, field: &str) -> Column {
        let origin = Origin::Field(InputField { name: field.into(), pad: None, strip_prefix: None, token: false });
        Column { name: name.into(), data_type, nullable: false, comment: String::new(), origin, check: None }
    }

    fn contract() -> TableContract {
        TableContract {
            name: "t".into(),
            comment: String::new(),
            columns: vec![column("event_time", timestamp_type(), "time"), column("card", DataType::Utf8, "card")],
            partition_by: "event_date".into(),
            sort_by: Vec::new(),
            stream: Some(StreamContract {
                format: Format::Json,
                event_time: "event_time".into(),
                identity: "card".into(),
                partition_key: "card".into(),
            }),
        }
    }

    fn file(lines: usize) -> tempfile::NamedTempFile {
        let file = tempfile::Builder::new().suffix(".ndjson").tempfile().unwrap();
        let line = |i| format!("{{\"time\":\"2019-01-01 00:{:02}:{:02}\",\"card\":\"c{}\"}}\n", i / 60, i % 60, i % 7);
        std::fs::write(file.path(), (0..lines).map(line).collect::<String>()).unwrap();
        file
    }

    async fn run<A: Future<Output = Result<Vec<Acknowledged>>>>(
        path: &Path,
        put: impl Fn(Vec<PutRecord>) -> A,
        records_ahead_max: Option<usize>,
        progress: &Arc<ReplayProgress>,
        stop: &CancellationToken,
    ) -> Result<u64> {
        let reader = RecordReader::open(path, 0)?;
        let fields = KeyFields::of(&contract())?;
        send(put, reader, <[u8]>::to_vec, fields, records_ahead_max, progress.clone(), stop).await
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
    async fn a_file_is_sent_in_order_and_accounted_for() {
        let (file, landed, sizes) = (file(1_203), Mutex::new(Vec::new()), Mutex::new(Vec::new()));
        let (progress, stop) = (Arc::new(ReplayProgress::default()), CancellationToken::new());
        let put = |records: Vec<PutRecord>| {
            sizes.lock().unwrap().push(records.len());
            std::future::ready(Ok(land(records, &mut landed.lock().unwrap())))
        };
        assert_eq!(run(file.path(), put, None, &progress, &stop).await.unwrap(), 1_203);
        assert_eq!(sizes.into_inner().unwrap(), [500, 500, 203]);
        let landed = landed.into_inner().unwrap();
        let lines = std::fs::read(file.path()).unwrap();
        let joined: Vec<u8> = landed.iter().flat_map(|r| [r.data.as_ref(), b"\n"].concat()).collect();
        assert_eq!(joined, lines);
        assert!(landed.iter().enumerate().all(|(index, record)| record.partition_key == format!("c{}", index % 7)));
        assert_eq!(progress.sent(), 1_203);
        let nothing_read = BTreeMap::new();
        assert_eq!(progress.low_mark(&nothing_read), fields::event_time("2019-01-01 00:00:00"));
        assert!(!progress.caught_up(&nothing_read));
        let everything = |sequence: &str| -> BTreeMap<ShardId, SequenceNumber> {
            let at = SequenceNumber::Kinesis(sequence.into());
            (0..3).map(|shard| (format!("shard-{shard}").into(), at.clone())).collect()
        };
        let tail = fields::event_time("2019-01-01 00:08:20");
        assert_eq!(progress.low_mark(&everything("500")), tail, "the first chunk is read");
        assert!(progress.caught_up(&everything("1203")));
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
        let tokenize = move |json: &[u8]| tokenizer.tokenize_record(&contract, json);
        assert_eq!(send(put, reader, tokenize, fields, None, progress.clone(), &stop).await.unwrap(), 700);
        for (record, (card, _)) in landed.into_inner().unwrap().iter().zip(&cards) {
            let text = std::str::from_utf8(&record.data).unwrap();
            assert!(!text.contains(card.as_str()), "{text}");
            assert_eq!(record.partition_key, again.token(&format!("{card:0>12}")));
            assert!(text.contains(&record.partition_key));
        }
        let first = (cards[0].1 + 2_557 * 86_400) * crate::clock::MICROS_PER_SECOND;
        assert_eq!(progress.low_mark(&BTreeMap::new()), Some(first));
    }

    #[tokio::test]
    async fn it_stays_near_the_engine() {
        let (file, landed) = (file(3_000), Mutex::new(Vec::new()));
        let (progress, stop) = (Arc::new(ReplayProgress::default()), CancellationToken::new());
        let put = |records: Vec<PutRecord>| {
            let mut landed = landed.lock().unwrap();
            let acknowledged = land(records, &mut landed);
            if landed.len() > 1_500 {
                stop.cancel();
            }
            std::future::ready(Ok(acknowledged))
        };
        // Nobody reads: after two chunks a thousand records wait, and the third may not be sent until one reads.
        let reading = async {
            while progress.sent() < 1_000 {
                tokio::task::yield_now().await;
            }
            tokio::task::yield_now().await;
            assert_eq!(progress.sent(), 1_000);
            stop.cancel();
        };
        let (sent, ()) = tokio::join!(run(file.path(), put, Some(999), &progress, &stop), reading);
        assert_eq!(sent.unwrap(), 1_000);
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
    fn keys_of_records() {
        let mut contract = contract();
        let fields = KeyFields::of(&contract).unwrap();
        let of = |json: &str| fields.of_record(json.as_bytes());
        assert_eq!(of(r#"{"card":"c1","time":"2019-01-01T00:00:00Z"}"#), (Some(1_546_300_800_000_000), "c1".into()));
        let hashed = of("no json").1;
        assert_eq!((hashed.len(), of("no json").1 == hashed, of("nor this").1 == hashed), (32, true, false));
        for json in [r#"{"card":4}"#, r#"{"card":""}"#, &format!("{{\"card\":\"{}\"}}", "x".repeat(257))] {
            assert_eq!((of(json).0, of(json).1.len()), (None, 32), "{json}");
        }
        contract.stream = None;
        assert!(matches!(KeyFields::of(&contract), Err(Error::Usage(_))));
    }

    #[test]
    fn it_can_run_on_any_thread() {
        fn can_be_sent<T: Send>(_: impl FnOnce(Producer, Replay) -> T) {}
        can_be_sent(|producer, what| replay(producer, what, Arc::default(), CancellationToken::new()));
    }
}
