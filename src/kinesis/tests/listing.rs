//! ListShards in pages: a service that lists many shards answers with some and a token for the next.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::pipeline::{News, Pipeline, expected};
use super::*;
use crate::error::Error;
use crate::kinesis::{Producer, reader};

/// In front of a server: makes it answer ListShards two shards a page, and refuses page tokens.
#[derive(Clone, Default)]
struct Pages {
    /// Places, among the requests with a token, of those refused as expired.
    expired: Arc<Vec<usize>>,
    /// Requests for a first page, and for a later one.
    asked: Arc<Mutex<[usize; 2]>>,
}

impl Pages {
    fn expiring(places: impl IntoIterator<Item = usize>) -> Self {
        Self { expired: Arc::new(places.into_iter().collect()), asked: Arc::default() }
    }

    fn asked(&self) -> [usize; 2] {
        *self.asked.lock().unwrap()
    }

    async fn server(&self, shards: u32) -> (EmbeddedKinesis, Client) {
        let before = |router: Router| router.layer(middleware::from_fn_with_state(self.clone(), page));
        let server = EmbeddedKinesis::start_with("127.0.0.1:0", "eu-west-1", before).await.unwrap();
        let client = client::connect_to_url(server.url(), "eu-west-1");
        create_stream(&client, STREAM, shards).await.unwrap();
        (server, client)
    }
}

async fn page(State(pages): State<Pages>, request: Request, next: Next) -> Response {
    if request.headers().get("x-amz-target").is_none_or(|target| target != "Kinesis_20131202.ListShards") {
        return next.run(request).await;
    }
    let (mut parts, body) = request.into_parts();
    let mut list: Value = serde_json::from_slice(&to_bytes(body, 1 << 20).await.unwrap()).unwrap();
    let is_later = list.get("NextToken").is_some();
    assert_eq!(list.get("StreamName").is_some(), !is_later, "the service refuses a token together with a name");
    let place = {
        let mut asked = pages.asked.lock().unwrap();
        asked[usize::from(is_later)] += 1;
        asked[1]
    };
    if is_later && pages.expired.contains(&place) {
        let expired = json!({"__type": "ExpiredNextTokenException", "message": "older than 300 seconds"});
        return (StatusCode::BAD_REQUEST, expired.to_string()).into_response();
    }
    // The server names the next page, but knows its tokens only as the shard to begin after.
    if let Some(token) = list.as_object_mut().unwrap().remove("NextToken") {
        list = json!({"StreamName": STREAM, "ExclusiveStartShardId": token});
    }
    list["MaxResults"] = 2.into();
    parts.headers.remove("content-length");
    next.run(Request::from_parts(parts, Body::from(list.to_string()))).await
}

async fn opened(pipeline: &mut Pipeline, shards: usize) {
    while pipeline.opened.len() < shards {
        pipeline.next().await.unwrap();
    }
}

#[tokio::test]
async fn all_pages_are_listed() {
    within(async {
        let pages = Pages::default();
        let (_server, client) = pages.server(7).await;
        let records = records(0..600);
        Producer::new(client.clone(), STREAM).put(&records).await.unwrap();
        let mut pipeline = Pipeline::new(reader::spawn(client, options(Start::TrimHorizon), &Default::default()));
        opened(&mut pipeline, 7).await;
        pipeline.until_read(records.len()).await;
        assert_eq!(pipeline.all(), expected(&records));
        assert_eq!(pages.asked(), [1, 3], "seven shards are four pages");
        pipeline.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_listing_whose_token_expires_begins_again() {
    within(async {
        // The second page of the first listing, and the third of the second.
        let pages = Pages::expiring([1, 3]);
        let (_server, client) = pages.server(7).await;
        let records = records(0..600);
        Producer::new(client.clone(), STREAM).put(&records).await.unwrap();
        let mut pipeline = Pipeline::new(reader::spawn(client, options(Start::TrimHorizon), &Default::default()));
        opened(&mut pipeline, 7).await;
        pipeline.until_read(records.len()).await;
        assert_eq!(pipeline.all(), expected(&records), "no shard twice, none left out");
        assert_eq!(pages.asked(), [3, 1 + 2 + 3]);
        pipeline.stop().await;
    })
    .await;
}

#[tokio::test]
async fn tokens_that_always_expire_are_an_error() {
    within(async {
        let pages = Pages::expiring(1..100);
        let (_server, client) = pages.server(3).await;
        let handle = reader::spawn(client, options(Start::TrimHorizon), &Default::default());
        let ended = handle.task.await.unwrap();
        assert!(matches!(&ended, Err(Error::External { .. })), "{ended:?}");
        assert!(ended.unwrap_err().to_string().contains("tokens expire"));
        assert_eq!(pages.asked(), [5, 5]);
    })
    .await;
}

#[tokio::test]
async fn children_on_a_later_page_are_found() {
    within(async {
        let pages = Pages::default();
        let (_server, client) = pages.server(3).await;
        client
            .split_shard()
            .stream_name(STREAM)
            .shard_to_split("shardId-000000000000")
            .new_starting_hash_key("2")
            .send()
            .await
            .unwrap();
        let mut pipeline = Pipeline::new(reader::spawn(client, options(Start::TrimHorizon), &Default::default()));
        while pipeline.opened.len() < 5 {
            if let News::Finished(id) = pipeline.next().await.unwrap() {
                pipeline.decide(&id);
            }
        }
        pipeline.stop().await;
    })
    .await;
}
