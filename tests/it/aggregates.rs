//! Aggregates of the Kinesis Producer Library against AWS's own Python module (`tests/readers/aggregate.py`): we read what it
//! writes, it reads what we write, and both say the same of damaged ones. Then through a stream and the job.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use lakeward::kinesis::{EmbeddedKinesis, Producer, PutRecord, client, create_stream};
use lakeward::stream::{Aggregate, Aggregator};
use md5::{Digest, Md5};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::support::{Scratch, duckdb, installed, say, text};

const MAGIC: [u8; 4] = [0xF3, 0x89, 0x9A, 0xC2];

/// Partition key, hash key, data.
type Given = (String, Option<String>, Vec<u8>);

/// Asks AWS's module line by line.
fn asked(questions: &[Value]) -> Vec<Value> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/readers/aggregate.py");
    let mut child = Command::new(installed("kpl", "requirements-kpl.txt"))
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("python starts");
    let lines: String = questions.iter().map(|question| format!("{question}\n")).collect();
    let mut stdin = child.stdin.take().unwrap();
    // It answers while it reads: nobody may wait for the other.
    let writing = std::thread::spawn(move || stdin.write_all(lines.as_bytes()));
    let output = child.wait_with_output().expect("python ends");
    writing.join().unwrap().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let answers: Vec<Value> = text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(answers.len(), questions.len());
    answers
}

fn given(random: &mut ChaCha8Rng, records: usize) -> Vec<Given> {
    let given = |_| {
        let key = format!("card-é{}", random.random_range(0..40));
        let hash_key = random.random_bool(0.3).then(|| random.random::<u128>().to_string());
        let data = (0..random.random_range(0..600)).map(|_| random.random()).collect();
        (key, hash_key, data)
    };
    (0..records).map(given).collect()
}

fn written_by_them(records: &[Given], bytes: usize) -> Value {
    let records: Vec<Value> = records.iter().map(|(key, hash, data)| json!([key, hash, hex::encode(data)])).collect();
    json!({"write": records, "bytes": bytes})
}

fn read_by_us(record: &[u8]) -> Option<Vec<Vec<u8>>> {
    let read = |record: lakeward::stream::UserRecord<'_>| {
        assert_eq!(record.missing_key, None);
        record.data.to_vec()
    };
    Aggregate::of(record).map(|aggregate| aggregate.records().map(read).collect())
}

#[test]
fn what_aws_writes_is_read() {
    let mut random = ChaCha8Rng::seed_from_u64(5);
    for bytes in [700, 5_000, 51_200, 1 << 20] {
        let records = given(&mut random, 1_500);
        let answer = asked(&[written_by_them(&records, bytes)]).remove(0);
        let aggregates: Vec<Vec<u8>> =
            answer.as_array().unwrap().iter().map(|hex| hex::decode(hex.as_str().unwrap()).unwrap()).collect();
        assert!(aggregates.len() >= 450_000 / bytes.max(1), "{} aggregates of {bytes}", aggregates.len());
        let read: Vec<Vec<u8>> = aggregates.iter().flat_map(|record| read_by_us(record).unwrap()).collect();
        assert!(read.iter().eq(records.iter().map(|(_, _, data)| data)), "aggregates of {bytes} bytes");
    }
}

#[test]
fn aws_reads_what_is_written() {
    let mut random = ChaCha8Rng::seed_from_u64(6);
    let given: Vec<Vec<Given>> = [1, 2, 130, 2_000].map(|records| given(&mut random, records)).into();
    let written = given.iter().map(|records| {
        let mut aggregator = Aggregator::new(u128::MAX.to_string());
        records.iter().for_each(|(key, _, data)| aggregator.push(key, data));
        json!({"read": hex::encode(aggregator.finish())})
    });
    let answers = asked(&written.collect::<Vec<_>>());
    for (records, answer) in given.iter().zip(answers) {
        let expected = records
            .iter()
            .zip(0..)
            .map(|((key, _, data), sub_sequence)| json!([key, u128::MAX.to_string(), hex::encode(data), sub_sequence]));
        assert_eq!(answer, Value::Array(expected.collect()));
    }
}

/// Magic, MD5 and length damaged: plain records to both. Messages damaged under a sound MD5: both parse, or neither does, but
/// for groups, which protobuf has given up and only their parser still skips.
#[test]
fn damaged_ones_are_what_aws_takes_them_for() {
    let mut random = ChaCha8Rng::seed_from_u64(7);
    let (mut damaged, mut messages) = (Vec::new(), Vec::new());
    for _ in 0..400 {
        let records = given(&mut random, 3);
        let mut aggregator = Aggregator::new("77".into());
        records.iter().for_each(|(key, _, data)| aggregator.push(key, &data[..data.len().min(9)]));
        let whole = aggregator.finish();
        let mut bytes = whole.clone();
        match random.random_range(0..3) {
            0 => bytes[random.random_range(0..4)] ^= 1 << random.random_range(0..8),
            1 => bytes[random.random_range(4..whole.len())] ^= 1 << random.random_range(0..8),
            _ => bytes.truncate(random.random_range(0..whole.len())),
        }
        damaged.push(bytes);
        for _ in 0..5 {
            let mut message = whole[MAGIC.len()..whole.len() - 16].to_vec();
            for _ in 0..random.random_range(1..4) {
                let at = random.random_range(0..message.len());
                message[at] = random.random();
            }
            messages.push(message);
        }
    }
    let questions: Vec<Value> = damaged.iter().map(|bytes| json!({"read": hex::encode(bytes)})).collect();
    for (bytes, theirs) in damaged.iter().zip(asked(&questions)) {
        assert!(theirs.is_null() && Aggregate::of(bytes).is_none(), "{}", hex::encode(bytes));
    }
    let questions: Vec<Value> = messages.iter().map(|message| json!({"parse": hex::encode(message)})).collect();
    let (mut sound, mut groups) = (0, 0);
    for (message, theirs) in messages.iter().zip(asked(&questions)) {
        let framed = [&MAGIC[..], message, &Md5::digest(message)[..]].concat();
        let ours = Aggregate::of(&framed).is_some();
        match theirs.as_bool().unwrap() {
            theirs if theirs == ours => sound += usize::from(ours),
            true => groups += 1,
            false => panic!("read here and refused there: {}", hex::encode(message)),
        }
    }
    say(&format!("{} damaged messages: {sound} still read by both, {groups} by theirs alone", messages.len()));
    assert!(sound > 200 && sound < 1_800 && groups < 40, "{sound} {groups}");
}

/// Rows under all identities: two lines in one user record, one under a key that is not there, an aggregate of nothing.
#[test]
fn the_job_reads_aggregates_from_a_stream() {
    let runtime = Runtime::new().unwrap();
    let server = runtime.block_on(EmbeddedKinesis::start("127.0.0.1:0", "eu-west-1")).unwrap();
    let client = client::connect_to_url(server.url(), "eu-west-1");
    runtime.block_on(create_stream(&client, "transactions", 1)).unwrap();
    let scratch = Scratch::new().set(&format!("stream.endpoint={}", server.url()));
    let lines = fs::read_to_string(scratch.simulated("day.ndjson", 300)).unwrap();
    let lines: Vec<&str> = lines.lines().collect();
    let record = |line: &&str| ("k".to_owned(), None, line.as_bytes().to_vec());
    let mut records: Vec<Given> = lines[..200].iter().map(record).collect();
    records.push(record(&lines[200..202].join("\n").as_str()));
    let theirs = asked(&[written_by_them(&records, 51_200)]).remove(0);
    let mut data: Vec<Vec<u8>> =
        theirs.as_array().unwrap().iter().map(|hex| hex::decode(hex.as_str().unwrap()).unwrap()).collect();
    let aggregates = data.len();
    // {"a"} as the only key, then a record under the second.
    let mut message = b"\x0a\x01a\x1a".to_vec();
    let line = lines[202].as_bytes();
    let length = |bytes: usize| [u8::try_from(bytes & 0x7f).unwrap() | 0x80, u8::try_from(bytes >> 7).unwrap()];
    message.extend(length(line.len() + 5));
    message.extend(b"\x08\x01\x1a");
    message.extend(length(line.len()));
    message.extend(line);
    for message in [&message[..], b"\x0a\x01a"] {
        data.push([&MAGIC[..], message, &Md5::digest(message)[..]].concat());
    }
    data.extend(lines[203..].iter().map(|line| line.as_bytes().to_vec()));
    let put: Vec<PutRecord> =
        data.into_iter().map(|data| PutRecord { partition_key: "k".into(), data: data.into() }).collect();
    runtime.block_on(Producer::new(client, "transactions").put(&put)).unwrap();

    let summary = scratch.summary(&[]);
    assert_eq!((&summary["read"], &summary["rejected"]), (&(300 + 1).into(), &2.into()), "{summary}");
    scratch.must(&["audit"]);
    let rejects = duckdb(&format!("SELECT reason, detail FROM {} ORDER BY reason", scratch.delta("rejects")));
    assert_eq!(rejects[0][0], "empty");
    assert_eq!(rejects[1][0], "missing_key");
    assert!(rejects[1][1].as_str().unwrap().contains("partition key 1 of an aggregate that has 1"));
    let identities = duckdb(&format!(
        "SELECT count(*), count(DISTINCT (_sequence, _sub_sequence)), count(DISTINCT _sequence), max(_sub_sequence) FROM {}",
        scratch.delta("transactions")
    ));
    let identities: Vec<usize> = identities[0].iter().map(|n| usize::try_from(n.as_u64().unwrap()).unwrap()).collect();
    assert_eq!(identities[..3], [299, 299, aggregates + 97]);
    assert!(aggregates > 1 && identities[3] > 50, "{identities:?} of {aggregates}");
}
