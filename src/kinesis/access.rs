//! What the job may do on the stream, found out by calls that change nothing.
//!
//! The one law: every action the job needs is asked for once, as the job asks, or said not to be: registering a consumer
//! stays, and a subscription takes the shard from who has it. Reading one record costs one of the five calls a second that
//! all readers of a shard share.

use aws_sdk_kinesis::types::ShardIteratorType;

use super::backoff::{ATTEMPTS_AT_START, Backoff, Trouble};
use super::client::{Client, StreamFacts, stream_facts};
use super::consumer::{DESCRIBE_CONSUMER, REGISTER_CONSUMER, described};
use crate::error::{Error, Result};
use crate::permission::Permission;

const DESCRIBE: &str = "kinesis:DescribeStreamSummary";
const LIST: &str = "kinesis:ListShards";
const ITERATOR: &str = "kinesis:GetShardIterator";
const READ: &str = "kinesis:GetRecords";
const DECRYPT: &str = "kms:Decrypt";
const SUBSCRIBE: &str = "kinesis:SubscribeToShard";

/// Records asked for: it is enough to see whether they may be read.
const RECORDS: i32 = 1;

/// Shards listed: one is read.
const SHARDS: i32 = 1;

/// Asks for each action on a stream, with a consumer's name for those that subscribing to it needs, too. What needs the
/// answer of a call that was refused is not known.
pub async fn ask(client: &Client, stream: &str, consumer: Option<&str>) -> Vec<Permission> {
    let facts = stream_facts(client, stream).await;
    let mut found = vec![Permission::of(DESCRIBE, &client.site().arn(), &facts)];
    found.extend(polling(client, stream, &facts).await);
    if let Some(name) = consumer {
        found.extend(subscribing(client, &facts, name).await);
    }
    found
}

async fn polling(client: &Client, stream: &str, facts: &Result<StreamFacts>) -> Vec<Permission> {
    let arn = client.site().arn();
    let shard = first_shard(client, stream).await;
    let mut found = vec![Permission::of(LIST, &arn, &shard)];
    let iterator = match shard {
        Ok(Some(shard)) => first_iterator(client, stream, &shard).await,
        _ => {
            let why = "no shard to ask for was listed";
            found.extend([ITERATOR, READ].map(|action| Permission::not_asked(action, &arn, why)));
            return found;
        }
    };
    found.push(Permission::of(ITERATOR, &arn, &iterator));
    let read = match iterator {
        Ok(iterator) => read(client, stream, &iterator).await,
        Err(_) => {
            found.push(Permission::not_asked(READ, &arn, "no shard iterator was given"));
            return found;
        }
    };
    found.push(Permission::of(READ, &arn, &read));
    let key = facts.as_ref().ok().and_then(|facts| facts.key.as_deref());
    found.extend(key.zip(read.ok()).map(|(key, records)| match records {
        0 => Permission::not_asked(DECRYPT, key, "the shard that was read holds no record to decrypt"),
        _ => Permission::of(DECRYPT, key, &Ok(())),
    }));
    found
}

/// A consumer that is not there yet may be looked for.
async fn subscribing(client: &Client, facts: &Result<StreamFacts>, name: &str) -> [Permission; 3] {
    let stream = client.site().arn();
    let consumers = format!("{stream}/consumer/*");
    let looked = match facts {
        Ok(facts) => Permission::of(DESCRIBE_CONSUMER, &consumers, &described(client, &facts.arn, name).await),
        Err(_) => Permission::not_asked(DESCRIBE_CONSUMER, &consumers, "the stream's ARN was not told"),
    };
    let registers = "it would register a consumer, which AWS charges for";
    let takes_over = "it would take the shard over from a job that subscribes to it";
    [
        looked,
        Permission::not_asked(REGISTER_CONSUMER, &stream, registers),
        Permission::not_asked(SUBSCRIBE, &consumers, takes_over),
    ]
}

async fn first_shard(client: &Client, stream: &str) -> Result<Option<String>> {
    let what = format!("listing the shards of stream `{stream}`");
    let request = client.list_shards().stream_name(stream).max_results(SHARDS);
    let listed = Backoff::new(client, stream).retry(&what, ATTEMPTS_AT_START, || request.clone().send()).await;
    let listed = listed.map_err(|failure| match failure.trouble {
        Trouble::NotFound => Error::usage(client.site().no_stream(stream, &failure.to_string())),
        _ => failure.into_error(what),
    })?;
    Ok(listed.shards.unwrap_or_default().into_iter().next().map(|shard| shard.shard_id))
}

async fn first_iterator(client: &Client, stream: &str, shard: &str) -> Result<String> {
    let what = format!("finding the oldest record of `{shard}`");
    let request = client.get_shard_iterator().stream_name(stream).shard_id(shard);
    let request = request.shard_iterator_type(ShardIteratorType::TrimHorizon);
    let given = Backoff::new(client, shard)
        .retry(&what, ATTEMPTS_AT_START, || request.clone().send())
        .await
        .map_err(|failure| failure.into_error(&what))?;
    given.shard_iterator.ok_or_else(|| Error::external(what, "an answer without an iterator"))
}

/// How many records were read.
async fn read(client: &Client, stream: &str, iterator: &str) -> Result<usize> {
    let what = format!("reading one record of stream `{stream}`");
    let request = client.get_records().shard_iterator(iterator).limit(RECORDS);
    let answer = Backoff::new(client, stream)
        .retry(&what, ATTEMPTS_AT_START, || request.clone().send())
        .await
        .map_err(|failure| failure.into_error(what))?;
    Ok(answer.records.len())
}
