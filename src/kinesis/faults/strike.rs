//! What a fault does to a request, and to its answer.
//!
//! The one law: a fault that claims a request was not applied has not passed it on; one that claims it was, has.

use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use ferrokinesis::shard_iterator::decode_shard_iterator;
use serde_json::{Value, json};

use super::{Does, Faults};
use crate::kinesis::embedded::REQUEST_BYTES_MAX;

/// Bytes of an answer: GetRecords answers 10 MiB of records, as base64 and JSON.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Between stream and shard in the page tokens given out here; no stream's name has it.
const TOKEN_SEPARATOR: char = '/';

const THROTTLED: &str = "ProvisionedThroughputExceededException";

/// Carries out a fault that a request has met; tells if it could do nothing to it.
pub(super) async fn carry_out(
    faults: &Faults,
    place: usize,
    does: Does,
    request: Request,
    body: &Value,
    next: Next,
) -> Response {
    match does {
        Does::Throttle => refusal(400, THROTTLED),
        Does::ExpireIterator => refusal(400, "ExpiredIteratorException"),
        Does::ExpireToken => refusal(400, "ExpiredNextTokenException"),
        Does::Answer { status, code } => refusal(status, &code),
        Does::LoseAnswer => {
            pass(request, body, next).await;
            refusal(500, "InternalFailure")
        }
        Does::Reset => cut(),
        Does::ResetAfter => {
            pass(request, body, next).await;
            cut()
        }
        Does::DelayMs(millis) => {
            tokio::time::sleep(Duration::from_millis(millis)).await;
            pass(request, body, next).await
        }
        Does::RefuseRecords(share) => refuse_records(faults, place, share, request, next).await,
        Does::BehindMs(millis) => {
            let answer = pass(request, body, next).await;
            match answer.status().is_success() {
                true => changed(answer, |told| told["MillisBehindLatest"] = millis.into()).await,
                false => answer,
            }
        }
        Does::ChildShards => name_children(faults, place, request, body, next).await,
        Does::PageOf(shards) => page(faults, place, shards, request, body, next).await,
    }
}

/// Passes a request on. Page tokens given out here are put as the server knows them.
pub(super) async fn pass(request: Request, body: &Value, next: Next) -> Response {
    match listing(body) {
        Some(list) => next.run(with_body(request, list.to_string())).await,
        None => next.run(request).await,
    }
}

/// An answer that says what went wrong, as the service writes it.
fn refusal(status: u16, code: &str) -> Response {
    answer(status, &json!({"__type": code, "message": "by the script of faults"}))
}

fn answer(status: u16, body: &Value) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, [("content-type", "application/x-amz-json-1.1")], body.to_string()).into_response()
}

/// The beginning of an answer, and then no more.
fn cut() -> Response {
    let broken = std::io::Error::new(std::io::ErrorKind::ConnectionReset, "by the script of faults");
    let pieces = futures::stream::iter([Ok(Bytes::from_static(b"{")), Err(broken)]);
    ([("content-type", "application/x-amz-json-1.1")], Body::from_stream(pieces)).into_response()
}

fn with_body(request: Request, body: String) -> Request {
    let (mut parts, _) = request.into_parts();
    parts.headers.remove("content-length");
    Request::from_parts(parts, Body::from(body))
}

/// The same answer with its JSON changed.
async fn changed(response: Response, change: impl FnOnce(&mut Value)) -> Response {
    let (mut parts, body) = response.into_parts();
    let Ok(bytes) = to_bytes(body, ANSWER_BYTES_MAX).await else { return cut() };
    let Ok(mut told) = serde_json::from_slice(&bytes) else {
        return Response::from_parts(parts, Body::from(bytes));
    };
    change(&mut told);
    parts.headers.remove("content-length");
    Response::from_parts(parts, Body::from(told.to_string()))
}

async fn refuse_records(faults: &Faults, place: usize, share: f64, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(bytes) = to_bytes(body, REQUEST_BYTES_MAX).await else { return cut() };
    let put = serde_json::from_slice(&bytes).ok();
    let request = Request::from_parts(parts, Body::from(bytes));
    let Some((mut put, records)) = put.and_then(|put: Value| {
        let records = put.get("Records")?.as_array()?.clone();
        Some((put, records))
    }) else {
        faults.missed(place);
        return next.run(request).await;
    };
    let refused = faults.draws(place, share, records.len());
    if !refused.contains(&true) {
        faults.missed(place);
        return next.run(request).await;
    }
    let refusals = refused.iter().filter(|refused| **refused).count();
    let kept: Vec<Value> =
        records.into_iter().zip(&refused).filter(|(_, refused)| !**refused).map(|(record, _)| record).collect();
    let mut taken = Vec::new();
    if !kept.is_empty() {
        put["Records"] = kept.into();
        let response = next.run(with_body(request, put.to_string())).await;
        if !response.status().is_success() {
            return response;
        }
        let Ok(bytes) = to_bytes(response.into_body(), ANSWER_BYTES_MAX).await else { return cut() };
        let told: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        taken = told["Records"].as_array().cloned().unwrap_or_default();
    }
    let mut taken = taken.into_iter();
    let refusal = json!({"ErrorCode": THROTTLED, "ErrorMessage": "by the script of faults"});
    let answers = refused.into_iter().map(|refused| match refused {
        true => refusal.clone(),
        false => taken.next().unwrap_or_else(|| refusal.clone()),
    });
    let answers: Vec<Value> = answers.collect();
    answer(200, &json!({"FailedRecordCount": refusals, "Records": answers}))
}

/// The last answer of a shard names the shards that follow it, as ListShards tells them.
async fn name_children(faults: &Faults, place: usize, request: Request, body: &Value, next: Next) -> Response {
    let read = body.get("ShardIterator").and_then(Value::as_str).and_then(|text| decode_shard_iterator(text).ok());
    let (method, uri, headers) = (request.method().clone(), request.uri().clone(), request.headers().clone());
    let response = next.clone().run(request).await;
    let Some((_, stream, shard, _)) = read.filter(|_| response.status().is_success()) else {
        faults.missed(place);
        return response;
    };
    let (parts, body) = response.into_parts();
    let Ok(bytes) = to_bytes(body, ANSWER_BYTES_MAX).await else { return cut() };
    let has_ended = serde_json::from_slice(&bytes)
        .is_ok_and(|told: Value| told.get("NextShardIterator").is_none_or(Value::is_null));
    let response = Response::from_parts(parts, Body::from(bytes));
    if !has_ended {
        faults.missed(place);
        return response;
    }
    let mut list = Request::new(Body::empty());
    (*list.method_mut(), *list.uri_mut(), *list.headers_mut()) = (method, uri, headers);
    list.headers_mut().insert("x-amz-target", HeaderValue::from_static("Kinesis_20131202.ListShards"));
    let listed = next.run(with_body(list, json!({"StreamName": stream}).to_string())).await;
    let Ok(listed) = to_bytes(listed.into_body(), ANSWER_BYTES_MAX).await else { return cut() };
    let listed: Value = serde_json::from_slice(&listed).unwrap_or_default();
    let follows = |child: &&Value| {
        ["ParentShardId", "AdjacentParentShardId"].iter().any(|parent| child[*parent] == shard.as_str())
    };
    let children: Vec<Value> = listed["Shards"].as_array().into_iter().flatten().filter(follows).map(child).collect();
    if children.is_empty() {
        faults.missed(place);
        return response;
    }
    changed(response, |told| told["ChildShards"] = children.into()).await
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

async fn page(
    faults: &Faults,
    place: usize,
    shards: usize,
    request: Request,
    body: &Value,
    next: Next,
) -> Response {
    let mut list = listing(body).unwrap_or_else(|| body.clone());
    let stream = list["StreamName"].as_str().unwrap_or_default().to_owned();
    list["MaxResults"] = shards.into();
    let response = next.run(with_body(request, list.to_string())).await;
    if !response.status().is_success() {
        return response;
    }
    let mut has_more = false;
    let answer = changed(response, |told| {
        if let Some(token) = told.get("NextToken").and_then(Value::as_str) {
            told["NextToken"] = format!("{stream}{TOKEN_SEPARATOR}{token}").into();
            has_more = true;
        }
    })
    .await;
    if !has_more {
        faults.missed(place);
    }
    answer
}

/// A request for a later page as the server knows it: it names the next page, but takes its tokens only as the shard to begin
/// after. `None` for any other request.
fn listing(body: &Value) -> Option<Value> {
    let (stream, after) = body.get("NextToken")?.as_str()?.split_once(TOKEN_SEPARATOR)?;
    let mut list = body.clone();
    list.as_object_mut()?.remove("NextToken");
    list["StreamName"] = stream.into();
    list["ExclusiveStartShardId"] = after.into();
    Some(list)
}
