//! The job against a stream with bad days (`lakeward stream --faults`): the books balance, and each card's order is kept.

use std::fs;
use std::path::Path;

use lakeward::kinesis::client;
use tokio::runtime::Runtime;

use crate::kill::server_url;
use crate::oracle::{assert_lake_equals_input, input};
use crate::support::{Scratch, duckdb, interrupt, say, text};

pub const ROWS: u32 = 8_000;

/// Whatever can go wrong, on the way in and on the way out.
const STORM: &str = r#"
seed = 11
fault = [
    { operation = "PutRecords", at = [1], does = "throttle" },
    { operation = "PutRecords", at = [1], does = "reset" },
    { operation = "PutRecords", at = [1], does = "reset_after" },
    { operation = "PutRecords", at = [2], does = { answer = { status = 503, code = "ServiceUnavailable" } } },
    { operation = "PutRecords", at = [2], does = "lose_answer" },
    { operation = "GetRecords", every = 13, does = "throttle" },
    { operation = "GetRecords", every = 11, does = "expire_iterator" },
    { operation = "GetRecords", every = 17, does = "reset" },
    { operation = "GetRecords", every = 19, does = "lose_answer" },
    { operation = "GetRecords", every = 7, does = { delay_ms = 20 } },
    { operation = "GetRecords", every = 5, does = { behind_ms = 1000 } },
    { operation = "GetShardIterator", every = 4, does = "throttle" },
    { at = [1], does = "expire_token" },
    { does = "child_shards" },
    { at_most = 1, does = { hide_shards = ["shardId-000000000004"] } },
    { does = { page_of = 2 } },
]
"#;

pub fn scratch(name: &str) -> Scratch {
    let scratch = Scratch::new().set("commit.interval=300ms").set("stream.shards=3");
    let queries = scratch.path("queries");
    fs::create_dir_all(&queries).unwrap();
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("queries");
    for query in ["city_minute.sql", "category_hour.sql"] {
        fs::copy(shipped.join(query), queries.join(query)).unwrap();
    }
    let id = format!("lake.app_id={name}");
    scratch.set(&format!("queries.dir={}", queries.display())).set(&id)
}

/// Splits the first shard in the middle; the stream may lose what it is asked, or what it answers.
pub fn split(url: &str) {
    let client = client::connect_to_url(url, "us-east-1");
    let asked = async {
        let split = client.split_shard().stream_name("transactions").shard_to_split("shardId-000000000000");
        split.new_starting_hash_key((u128::MAX / 6).to_string()).send().await.map(drop)
    };
    Runtime::new().unwrap().block_on(asked).unwrap();
}

/// All of a file's rows are there, and each card's in the file's order.
pub fn assert_each_cards_order(scratch: &Scratch, file: &Path) {
    let transactions = scratch.delta("transactions");
    let of_order = duckdb(&format!(
        "WITH placed AS (SELECT card_token, CAST(n AS BIGINT) AS n, lag(CAST(n AS BIGINT)) OVER (PARTITION BY card_token \
         ORDER BY _sequence, _sub_sequence) AS before FROM {transactions} JOIN {} ON id = transaction_id) \
         SELECT count(*), count(*) FILTER (WHERE before > n) FROM placed",
        input(file)
    ));
    assert_eq!((of_order[0][0].as_u64(), of_order[0][1].as_u64()), (Some(ROWS.into()), Some(0)), "each card's order");
}

/// Sends a file through the storm, a reshard between its halves, and reads it; returns what the stream said at its end.
fn through_the_storm(scratch: Scratch, script: &str) -> String {
    let faults = scratch.path("faults.toml");
    fs::write(&faults, script).unwrap();
    let listen = ["stream", "--listen", "127.0.0.1:0", "--faults", faults.to_str().unwrap()];
    let mut server = scratch.spawn("stream", &listen);
    let url = server_url(&scratch, &mut server);
    let scratch = scratch.set(&format!("stream.endpoint={url}"));
    let file = scratch.simulated("days.csv", ROWS);
    let mut job = scratch.spawn("job", &["run"]);
    for (half, part) in scratch.parts(&file, 2).iter().enumerate() {
        scratch.must(&["replay", part.to_str().unwrap()]);
        if half == 0 {
            split(&url);
        }
    }
    interrupt(&job);
    let ended = job.wait().unwrap();
    assert!(ended.success(), "{}", fs::read_to_string(scratch.path("job.err")).unwrap());
    let rest = scratch.summary(&[]);
    scratch.must(&["audit"]);
    assert_lake_equals_input(&scratch, &file, false);

    assert_each_cards_order(&scratch, &file);
    let books = duckdb(&format!("SELECT sum(duplicates), count(DISTINCT shard) FROM {}", scratch.delta("epochs")));
    say(&format!("the rest: {rest}; duplicates and shards: {books:?}"));

    interrupt(&server);
    let ended = server.wait().unwrap();
    let (said, why) = ["out", "err"].map(|kind| fs::read(scratch.path(&format!("stream.{kind}"))).unwrap()).into();
    let said = text(&said);
    assert!(ended.success(), "{said}\n{}", text(&why));
    say(&said);
    said
}

#[test]
fn the_books_balance_behind_a_storm_of_faults() {
    let said = through_the_storm(scratch("storm"), STORM);
    assert!(said.contains("1 × PutRecords reset_after") && said.contains("× GetRecords expire_iterator"), "{said}");
}

/// Aggregates are refused in part as well: a card's purchases of one request are in one of them.
#[test]
fn so_they_do_when_records_are_aggregated() {
    let script =
        STORM.replace("fault = [", "fault = [\n    { every = 2, at_most = 8, does = { refuse_records = 0.4 } },");
    let said = through_the_storm(scratch("aggregated").set("stream.aggregate=true"), &script);
    assert!(said.contains("× PutRecords refuse_records 0.4"), "{said}");
}

#[test]
fn a_stream_whose_faults_never_struck_says_so_and_fails() {
    let scratch = scratch("calm");
    let faults = scratch.path("faults.toml");
    fs::write(&faults, "[[fault]]\noperation = \"PutRecords\"\ndoes = \"throttle\"\n").unwrap();
    let listen = ["stream", "--listen", "127.0.0.1:0", "--faults", faults.to_str().unwrap()];
    let mut server = scratch.spawn("stream", &listen);
    server_url(&scratch, &mut server);
    interrupt(&server);
    assert_eq!(server.wait().unwrap().code(), Some(1));
    assert!(fs::read_to_string(scratch.path("stream.err")).unwrap().contains("`PutRecords throttle`"));
    fs::write(&faults, "[[fault]]\ndoes = \"explode\"\n").unwrap();
    let refused = scratch.run(&listen);
    assert_eq!(refused.status.code(), Some(2), "{}", text(&refused.stderr));
}
