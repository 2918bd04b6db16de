//! Writing and reading over HTTP with the real SDK, against the embedded server, with and without faults in front of it.

mod fan_out;
mod faults;
mod listing;
mod pacing;
mod pipeline;
mod reading;
mod refusals;
mod resharding;
mod within;
mod writing;

use std::time::Duration;

use bytes::Bytes;

use super::reader::Options;
use super::{Client, Does, EmbeddedKinesis, Faults, Pacing, PutRecord, RETENTION_MIN, Terms, client, create_stream};
use crate::clock::Clock;
use crate::config::Start;
use crate::stream::InFlight;

const STREAM: &str = "transactions";

/// No test takes a tenth of it; a test that hangs fails.
const HANG_GUARD: Duration = Duration::from_secs(60);

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(HANG_GUARD, future).await.expect("a test hangs")
}

/// A server with one stream, and a client of it.
async fn server(shards: u32) -> (EmbeddedKinesis, Client) {
    server_with(shards, &Faults::default()).await
}

async fn server_with(shards: u32, faults: &Faults) -> (EmbeddedKinesis, Client) {
    let server = EmbeddedKinesis::start_with("127.0.0.1:0", "eu-west-1", |router| faults.before(router)).await.unwrap();
    let client = client::connect_to_url(server.url(), "eu-west-1");
    create_stream(&client, STREAM, shards).await.unwrap();
    (server, client)
}

fn refused(status: u16, code: &str) -> Does {
    Does::Answer { status, code: code.to_owned(), message: None }
}

fn options(start: Start) -> Options {
    Options {
        stream: STREAM.into(),
        source: "kinesis:transactions".into(),
        start,
        pacing: Pacing::LOCAL,
        consumer: None,
        terms: Terms::LOCAL,
        tick: Duration::from_millis(2),
        idle_poll_max: Duration::from_millis(10),
        late_listing: Duration::from_millis(5),
        in_flight: InFlight::new(64 << 20),
        check_trimmed: false,
        retention: RETENTION_MIN,
        unread_since: Default::default(),
        clock: Clock::System,
    }
}

/// Records `first..last` over 20 keys; the data says key and number.
fn records(numbers: std::ops::Range<usize>) -> Vec<PutRecord> {
    numbers
        .map(|number| {
            let partition_key = format!("card-{:02}", number % 20);
            let data = Bytes::from(format!("{partition_key} {number:08}"));
            PutRecord { partition_key, data }
        })
        .collect()
}
