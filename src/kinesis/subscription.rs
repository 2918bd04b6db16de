//! SubscribeToShard of the embedded server: records pushed as soon as they are written.
//!
//! The one law: an event holds what GetRecords would have answered at that moment, and is read behind the same gate; the
//! last one of a shard that was split or merged names its children, as the service's does.
//!
//! Who may subscribe and what is wrong with a request the server itself says. Its own events are not sent: it looks every
//! 200 ms, past the gate, at a store that is not told of records which came the short way.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use ferrokinesis::actions::{Operation, dispatch};
use ferrokinesis::event_stream::{encode_initial_response, encode_subscribe_event};
use ferrokinesis::shard_iterator::decode_shard_iterator;
use ferrokinesis::types::Stream;
use futures::StreamExt;
use futures::stream::{once, unfold};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::Instant;

use super::embedded::Gate;
use super::shortcut::{Asked, records};

/// Time between two events when nothing is written. The service's is about five seconds; here a job that reads to the tip,
/// and every test, would wait for it.
const HEARTBEAT: Duration = Duration::from_millis(200);

/// How long a subscription lasts, as the service's do.
const SUBSCRIPTION_MAX: Duration = Duration::from_secs(300);

/// Records of one event: pages as long as those that are polled here.
const EVENT_RECORDS_MAX: usize = 4_096;

/// The kind of an event's payload.
const PAYLOAD_TYPE: &str = "application/json";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Subscribe {
    #[serde(rename = "ConsumerARN")]
    consumer_arn: String,
    shard_id: String,
    starting_position: StartingPosition,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct StartingPosition {
    #[serde(rename = "Type")]
    kind: String,
    sequence_number: Option<String>,
    timestamp: Option<f64>,
}

/// One subscription, as it goes on.
struct Subscription {
    gate: Gate,
    written: watch::Receiver<()>,
    asked: Asked,
    /// The number of the last record sent, or where the subscription begins: nothing before it is sent again from there.
    continuation: String,
    next_at: Instant,
    ends_at: Instant,
    over: bool,
}

/// The server's answer with events of our own, to a request of JSON; every record must have been handed to the server.
pub(super) async fn pushed(gate: &Gate, body: &[u8], answer: Response) -> Response {
    let asked = serde_json::from_slice::<Subscribe>(body).ok().filter(|_| answer.status().is_success());
    let Some(asked) = asked else { return answer };
    match Subscription::begin(gate, asked).await {
        Ok(subscription) => {
            let first = once(async { Bytes::from(encode_initial_response()) });
            let events = unfold(subscription, |mut subscription| async {
                let event = subscription.next().await?;
                Some((event, subscription))
            });
            let (parts, _) = answer.into_parts();
            Response::from_parts(parts, Body::from_stream(first.chain(events).map(Ok::<_, Infallible>)))
        }
        Err(refusal) => refusal,
    }
}

impl Subscription {
    /// Finds where it begins, which is where GetRecords would. The answer refuses what GetShardIterator refuses.
    async fn begin(gate: &Gate, subscribe: Subscribe) -> Result<Self, Response> {
        let Subscribe { consumer_arn, shard_id, starting_position: start } = subscribe;
        // `arn:aws:kinesis:<region>:<account>:stream/<name>/consumer/<consumer>:<time>`: the server found the consumer by it.
        let stream = consumer_arn.split('/').nth(1).unwrap_or_default();
        let mut position = json!({"StreamName": stream, "ShardId": shard_id, "ShardIteratorType": start.kind});
        if let Some(number) = &start.sequence_number {
            position["StartingSequenceNumber"] = number.as_str().into();
        }
        if let Some(time) = start.timestamp {
            position["Timestamp"] = time.into();
        }
        let found = dispatch(&gate.store, Operation::GetShardIterator, position).await.map_err(|refused| {
            let body = json!({"__type": refused.body.error_type, "message": refused.body.message});
            refusal(refused.status_code, &body)
        })?;
        let found = found.as_ref().and_then(|found| found["ShardIterator"].as_str());
        let place = found.and_then(|iterator| decode_shard_iterator(iterator).ok());
        let asked = place.and_then(|(_, stream, shard, from)| Asked::new(stream, shard, from, EVENT_RECORDS_MAX));
        let asked = asked.ok_or_else(|| refusal(500, &json!({"__type": "InternalFailure"})))?;
        let now = Instant::now();
        Ok(Self {
            written: gate.written.subscribe(),
            gate: gate.clone(),
            continuation: start.sequence_number.unwrap_or_else(|| asked.sequence().to_owned()),
            asked,
            next_at: now,
            ends_at: now + SUBSCRIPTION_MAX,
            over: false,
        })
    }

    /// The next event: at once when there are records, or the shard has ended. `None` when there is no more.
    async fn next(&mut self) -> Option<Bytes> {
        while !self.over && Instant::now() < self.ends_at {
            // Before the look: what is written after it is a reason for the next one.
            self.written.borrow_and_update();
            if let Some(event) = self.look().await? {
                self.next_at = Instant::now() + HEARTBEAT;
                return Some(Bytes::from(encode_subscribe_event(&event, PAYLOAD_TYPE)));
            }
            tokio::select! {
                () = tokio::time::sleep_until(self.next_at) => {}
                changed = self.written.changed() => changed.ok()?,
                () = self.gate.stop.cancelled() => return None,
            }
        }
        None
    }

    /// What there is to tell now: an event's payload. Nothing at all when the stream is gone, or holds records that have
    /// expired, which only the server's own GetRecords deletes; or when the shard has ended and no child says so.
    async fn look(&mut self) -> Option<Option<Vec<u8>>> {
        let reading = self.gate.tail.read().await;
        let stream = self.gate.store.get_stream(self.asked.stream()).await.ok()?;
        let found = self.asked.find(&self.gate.store, &reading).await?;
        drop(reading);
        if let Some(last) = found.last() {
            self.continuation = last.sequence.to_string();
            self.asked.go_on_after(last)?;
            return self.event(&records(&found)?).map(Some);
        }
        let children = children(&stream, self.asked.shard())?;
        if let Some(children) = children {
            self.over = true;
            let named = !children.is_empty();
            let last = json!({"Records": [], "MillisBehindLatest": 0, "ChildShards": children});
            return named.then(|| Some(last.to_string().into_bytes()));
        }
        if Instant::now() < self.next_at {
            return Some(None);
        }
        self.event(b"[]").map(Some)
    }

    /// An event of an open shard, its reader at the tip: the server says so of every one.
    fn event(&self, records: &[u8]) -> Option<Vec<u8>> {
        let mut event = Vec::with_capacity(records.len() + self.continuation.len() + 96);
        event.extend_from_slice(b"{\"MillisBehindLatest\":0,\"ContinuationSequenceNumber\":");
        serde_json::to_writer(&mut event, &self.continuation).ok()?;
        event.extend_from_slice(b",\"Records\":");
        event.extend_from_slice(records);
        event.push(b'}');
        Some(event)
    }
}

/// The shards that follow this one, as an event tells them; `Some(None)` when it is open.
fn children(stream: &Stream, shard: &str) -> Option<Option<Vec<Value>>> {
    let own = stream.shards.iter().find(|own| own.shard_id == shard)?;
    if own.sequence_number_range.ending_sequence_number.is_none() {
        return Some(None);
    }
    let of = stream.shards.iter().filter_map(|child| {
        let parents: Vec<&String> =
            [&child.parent_shard_id, &child.adjacent_parent_shard_id].into_iter().flatten().collect();
        let follows = parents.iter().any(|parent| *parent == shard);
        follows
            .then(|| json!({"ShardId": child.shard_id, "ParentShards": parents, "HashKeyRange": child.hash_key_range}))
    });
    Some(Some(of.collect()))
}

fn refusal(status: u16, body: &Value) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, [(header::CONTENT_TYPE, "application/x-amz-json-1.1")], body.to_string()).into_response()
}
