//! ListShards in pages: a service that lists many shards answers with some and a token for the next.

use super::pipeline::{News, Pipeline, expected};
use super::*;
use crate::error::Error;
use crate::kinesis::{Producer, reader};

/// Pages of two shards; the requests with a token at these places are refused as expired.
fn pages(expired: &str) -> Faults {
    let script = format!("[[fault]]\n{expired}\ndoes = \"expire_token\"\n[[fault]]\ndoes = {{ page_of = 2 }}");
    Faults::parse(&script).unwrap()
}

/// Tokens refused, and pages answered with a token for the next.
fn told(faults: &Faults) -> [u64; 2] {
    let struck = faults.struck();
    [struck[0].times, struck[1].times]
}

async fn opened(pipeline: &mut Pipeline, shards: usize) {
    while pipeline.opened.len() < shards {
        pipeline.next().await.unwrap();
    }
}

#[tokio::test]
async fn all_pages_are_listed() {
    within(async {
        let faults = pages("at = [1000]");
        let (_server, client) = server_with(7, &faults).await;
        let records = records(0..600);
        Producer::new(client.clone(), STREAM).put(&records).await.unwrap();
        let mut pipeline = Pipeline::new(reader::spawn(client, options(Start::TrimHorizon), &Default::default()));
        opened(&mut pipeline, 7).await;
        pipeline.until_read(records.len()).await;
        assert_eq!(pipeline.all(), expected(&records));
        assert_eq!(told(&faults), [0, 3], "seven shards are four pages");
        pipeline.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_listing_whose_token_expires_begins_again() {
    within(async {
        // The second page of the first listing, and the third of the second.
        let faults = pages("at = [1, 3]");
        let (_server, client) = server_with(7, &faults).await;
        let records = records(0..600);
        Producer::new(client.clone(), STREAM).put(&records).await.unwrap();
        let mut pipeline = Pipeline::new(reader::spawn(client, options(Start::TrimHorizon), &Default::default()));
        opened(&mut pipeline, 7).await;
        pipeline.until_read(records.len()).await;
        assert_eq!(pipeline.all(), expected(&records), "no shard twice, none left out");
        assert_eq!(told(&faults), [2, 1 + 2 + 3]);
        pipeline.stop().await;
    })
    .await;
}

#[tokio::test]
async fn tokens_that_always_expire_are_an_error() {
    within(async {
        let faults = pages("");
        let (_server, client) = server_with(3, &faults).await;
        let handle = reader::spawn(client, options(Start::TrimHorizon), &Default::default());
        let ended = handle.task.await.unwrap();
        assert!(matches!(&ended, Err(Error::External { .. })), "{ended:?}");
        assert!(ended.unwrap_err().to_string().contains("tokens expire"));
        assert_eq!(told(&faults), [5, 5]);
    })
    .await;
}

#[tokio::test]
async fn children_on_a_later_page_are_found() {
    within(async {
        let (_server, client) = server_with(3, &pages("at = [1000]")).await;
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
