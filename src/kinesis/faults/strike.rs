//! What a fault does to a request, and to its answer.
//!
//! The one law: a fault that claims a request was not applied has not passed it on; one that claims it was, has.

use std::time::Duration;

use axum::Extension;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use ferrokinesis::shard_iterator::decode_shard_iterator;
use futures::FutureExt;
use futures::future::BoxFuture;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Call, Does, Faults, events};

/// Bytes of an answer: GetRecords answers 10 MiB of records, as base64 and JSON.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Shards of the listing that children are looked for in: what one page of the service can hold.
const LISTED_SHARDS_MAX: usize = 10_000;

/// Between stream and shard in the page tokens given out here; no stream's name has it.
const TOKEN_SEPARATOR: char = '/';

/// What a refusal says unless the script does.
const SAID: &str = "by the script of faults";

const THROTTLED: &str = "ProvisionedThroughputExceededException";

/// What lies behind a fault: the faults after it, then the server.
struct Behind<'a> {
    faults: &'a Faults,
    /// Of the fault.
    place: usize,
    next: Next,
}

/// Passes a call on through the faults from `place` on.
pub(super) fn pass(faults: &Faults, place: usize, call: Call, next: Next) -> BoxFuture<'_, Response> {
    async move {
        match faults.met(place, &call.operation, &call.asked) {
            Some((place, does)) => carry_out(does, call, Behind { faults, place, next }).await,
            None => next.run(as_the_server_knows_it(call).into_request()).await,
        }
    }
    .boxed()
}

impl Behind<'_> {
    async fn pass(&self, call: Call) -> Response {
        pass(self.faults, self.place + 1, call, self.next.clone()).await
    }

    fn missed(&self) {
        self.faults.missed(self.place);
    }
}

async fn carry_out(does: Does, call: Call, behind: Behind<'_>) -> Response {
    match does {
        Does::Throttle => refusal(400, THROTTLED),
        Does::ExpireIterator => refusal(400, "ExpiredIteratorException"),
        Does::ExpireToken => refusal(400, "ExpiredNextTokenException"),
        Does::Answer { status, code, message } => refusal_saying(status, &code, message.as_deref().unwrap_or(SAID)),
        Does::LoseAnswer => applied(call, behind, refusal(500, "InternalFailure")).await,
        Does::Reset => cut(),
        Does::ResetAfter => applied(call, behind, cut()).await,
        Does::DelayMs(millis) => {
            tokio::time::sleep(Duration::from_millis(millis)).await;
            behind.pass(call).await
        }
        Does::RefuseRecords(share) => refuse_records(share, call, behind).await,
        Does::BehindMs(millis) => {
            let answer = behind.pass(call).await;
            changed(answer, &behind, |told| {
                told["MillisBehindLatest"] = millis.into();
                true
            })
            .await
        }
        Does::ChildShards => name_children(call, behind).await,
        Does::FullAnswers => answer_in_full(call, behind).await,
        Does::ReadLimits => keep_limits(call, behind).await,
        Does::PageOf(shards) => page(shards, call, behind).await,
        Does::Hide(shard) => {
            let answer = behind.pass(call).await;
            changed(answer, &behind, |told| {
                let Some(shards) = told.get_mut("Shards").and_then(Value::as_array_mut) else { return false };
                let listed = shards.len();
                shards.retain(|listed| listed["ShardId"] != shard.as_str());
                shards.len() < listed
            })
            .await
        }
        Does::EndAfter(_)
        | Does::CutAfter(_)
        | Does::SilentAfter(_)
        | Does::RepeatAfter(_)
        | Does::FailAfter { .. } => events::changed(does, behind.pass(call).await, behind.faults, behind.place),
    }
}

/// Applies the request and answers otherwise. What a later fault or the server itself refused was not applied.
async fn applied(call: Call, behind: Behind<'_>, instead: Response) -> Response {
    let answer = behind.pass(call).await;
    if answer.status().is_success() && answer.extensions().get::<Cut>().is_none() {
        return instead;
    }
    behind.missed();
    answer
}

/// Marks what only looks like an answer.
#[derive(Clone, Debug)]
struct Cut;

/// An answer that says what went wrong, as the service writes it.
fn refusal(status: u16, code: &str) -> Response {
    refusal_saying(status, code, SAID)
}

fn refusal_saying(status: u16, code: &str, message: &str) -> Response {
    answer(status, &json!({"__type": code, "message": message}))
}

fn answer(status: u16, body: &Value) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, [(header::CONTENT_TYPE, "application/x-amz-json-1.1")], body.to_string()).into_response()
}

/// The beginning of an answer, and then no more.
fn cut() -> Response {
    let broken = std::io::Error::new(std::io::ErrorKind::ConnectionReset, SAID);
    let pieces = futures::stream::iter([Ok(Bytes::from_static(b"{")), Err(broken)]);
    let headers = [(header::CONTENT_TYPE, "application/x-amz-json-1.1")];
    (Extension(Cut), headers, Body::from_stream(pieces)).into_response()
}

/// The same answer, and its body. `None` for the body of a refusal, or of one that was cut off by another fault.
async fn looked_into(response: Response) -> (Response, Option<Bytes>) {
    if !response.status().is_success() {
        return (response, None);
    }
    let (parts, body) = response.into_parts();
    match to_bytes(body, ANSWER_BYTES_MAX).await {
        Ok(bytes) => (Response::from_parts(parts, Body::from(bytes.clone())), Some(bytes)),
        Err(_) => (cut(), None),
    }
}

/// The same answer with its JSON changed. The fault missed when it was a refusal, or when nothing had to be changed.
async fn changed(response: Response, behind: &Behind<'_>, change: impl FnOnce(&mut Value) -> bool) -> Response {
    let (response, body) = looked_into(response).await;
    let told = body.and_then(|body| serde_json::from_slice(&body).ok());
    let changed = told.and_then(|mut told: Value| change(&mut told).then_some(told));
    let Some(told) = changed else {
        behind.missed();
        return response;
    };
    let (mut parts, _) = response.into_parts();
    parts.headers.remove(header::CONTENT_LENGTH);
    Response::from_parts(parts, Body::from(told.to_string()))
}

async fn refuse_records(share: f64, call: Call, behind: Behind<'_>) -> Response {
    let put: Option<Value> = serde_json::from_slice(&call.body).ok();
    let Some((mut put, records)) = put.and_then(|put| {
        let records = put.get("Records")?.as_array()?.clone();
        Some((put, records))
    }) else {
        behind.missed();
        return behind.pass(call).await;
    };
    let refused = behind.faults.draws(behind.place, share, records.len());
    if !refused.contains(&true) {
        behind.missed();
        return behind.pass(call).await;
    }
    let kept = records.into_iter().zip(&refused).filter(|(_, refused)| !**refused);
    let kept: Vec<Value> = kept.map(|(record, _)| record).collect();
    let mut taken = Vec::new();
    if !kept.is_empty() {
        put["Records"] = kept.into();
        let mut call = call.asking(put);
        call.asked = Value::Null;
        let (response, body) = looked_into(behind.pass(call).await).await;
        let Some(body) = body else {
            behind.missed();
            return response;
        };
        let told: Value = serde_json::from_slice(&body).unwrap_or_default();
        taken = told["Records"].as_array().cloned().unwrap_or_default();
    }
    let mut taken = taken.into_iter();
    let refusal = || json!({"ErrorCode": THROTTLED, "ErrorMessage": SAID});
    let answers =
        refused.into_iter().map(|refused| if refused { refusal() } else { taken.next().unwrap_or_else(refusal) });
    let answers: Vec<Value> = answers.collect();
    let failed = answers.iter().filter(|answer| answer.get("ErrorCode").is_some()).count();
    answer(200, &json!({"FailedRecordCount": failed, "Records": answers}))
}

/// The last answer of a shard names the shards that follow it, as ListShards tells them.
async fn name_children(call: Call, behind: Behind<'_>) -> Response {
    let read =
        call.asked.get("ShardIterator").and_then(Value::as_str).and_then(|text| decode_shard_iterator(text).ok());
    let mut list = Call { parts: call.parts.clone(), body: Bytes::new(), operation: String::new(), asked: Value::Null };
    let response = behind.pass(call).await;
    let (response, body) = looked_into(response).await;
    let told: Option<Value> = body.and_then(|body| serde_json::from_slice(&body).ok());
    let has_ended = told.is_some_and(|told| told.get("NextShardIterator").is_none_or(Value::is_null));
    let Some((_, stream, shard, _)) = read.filter(|_| has_ended) else {
        behind.missed();
        return response;
    };
    list.parts.headers.insert("x-amz-target", HeaderValue::from_static("Kinesis_20131202.ListShards"));
    // Asked of the server itself: this is no request of the client's.
    let list = list.asking(json!({"StreamName": stream, "MaxResults": LISTED_SHARDS_MAX}));
    let (_, listed) = looked_into(behind.next.clone().run(list.into_request()).await).await;
    let listed: Value = listed.and_then(|listed| serde_json::from_slice(&listed).ok()).unwrap_or_default();
    let follows = |child: &&Value| {
        ["ParentShardId", "AdjacentParentShardId"].iter().any(|parent| child[*parent] == shard.as_str())
    };
    let children: Vec<Value> = listed["Shards"].as_array().into_iter().flatten().filter(follows).map(child).collect();
    changed(response, &behind, |told| {
        let are_there = !children.is_empty();
        told["ChildShards"] = children.into();
        are_there
    })
    .await
}

/// A shard of ListShards as `ChildShard` of GetRecords.
fn child(shard: &Value) -> Value {
    let parents = ["ParentShardId", "AdjacentParentShardId"].iter().filter_map(|parent| shard.get(*parent)).cloned();
    json!({
        "ShardId": shard["ShardId"],
        "ParentShards": parents.collect::<Vec<_>>(),
        "HashKeyRange": shard["HashKeyRange"],
    })
}

/// What an answer of GetRecords holds, as far as it counts.
#[derive(Deserialize)]
struct Answered<'a> {
    #[serde(rename = "Records", borrow)]
    records: Vec<Got<'a>>,
}

#[derive(Deserialize)]
struct Got<'a> {
    /// Base64, which has no escapes.
    #[serde(rename = "Data")]
    data: &'a str,
}

async fn answer_in_full(call: Call, behind: Behind<'_>) -> Response {
    let limit = call.asked.get("Limit").and_then(Value::as_u64).unwrap_or(u64::MAX);
    let mut asked = call.asked.clone();
    asked.as_object_mut().and_then(|asked| asked.remove("Limit"));
    let (response, body) = looked_into(behind.pass(call.asking(asked)).await).await;
    let answered = body.as_deref().and_then(|body| serde_json::from_slice::<Answered>(body).ok());
    if answered.is_none_or(|answered| answered.records.len() as u64 <= limit) {
        behind.missed();
    }
    response
}

async fn keep_limits(call: Call, behind: Behind<'_>) -> Response {
    let Some(shard) = call.shard() else {
        behind.missed();
        return behind.pass(call).await;
    };
    let called = Instant::now();
    if !behind.faults.reads(behind.place, &shard, |reads| reads.admit(called)) {
        return refusal(400, THROTTLED);
    }
    behind.missed();
    let (response, body) = looked_into(behind.pass(call).await).await;
    let answered = body.as_deref().and_then(|body| serde_json::from_slice::<Answered>(body).ok());
    let bytes = answered.map_or(0, |answered| answered.records.iter().map(|got| got.data.len() / 4 * 3).sum());
    behind.faults.reads(behind.place, &shard, |reads| reads.answered(called, bytes));
    response
}

async fn page(shards: usize, call: Call, behind: Behind<'_>) -> Response {
    let call = as_the_server_knows_it(call);
    let mut asked = call.asked.clone();
    let is_whole = asked.get("NextToken").is_none();
    let stream = asked.get("StreamName").and_then(Value::as_str).filter(|_| is_whole).map(str::to_owned);
    let Some(stream) = stream else {
        behind.missed();
        return behind.pass(call).await;
    };
    asked["MaxResults"] = shards.into();
    let response = behind.pass(call.asking(asked)).await;
    changed(response, &behind, |told| {
        let next =
            told.get("NextToken").and_then(Value::as_str).map(|token| format!("{stream}{TOKEN_SEPARATOR}{token}"));
        let has_more = next.is_some();
        if let Some(next) = next {
            told["NextToken"] = next.into();
        }
        has_more
    })
    .await
}

/// A request for a later page: the server names the next page, but takes its tokens only as the shard to begin after. Any
/// other request stays as it is; a token together with a name both refuse.
fn as_the_server_knows_it(call: Call) -> Call {
    if call.asked.get("StreamName").is_some() {
        return call;
    }
    let token = call.asked.get("NextToken").and_then(Value::as_str);
    let Some((stream, after)) = token.and_then(|token| token.split_once(TOKEN_SEPARATOR)) else { return call };
    let asked = json!({"StreamName": stream, "ExclusiveStartShardId": after});
    call.asking(asked)
}
