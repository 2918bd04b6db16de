//! The stream's registered consumer, in whose name shards are subscribed to.
//!
//! The one law: a consumer is found or registered, and never taken away. Another job may be at work under its name, and one
//! that is registered anew has another ARN, which policies may name; `docs/kinesis.md` says how to remove it.

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_kinesis::types::{ConsumerDescription, ConsumerStatus};
use tokio::sync::Mutex;

use super::backoff::{ATTEMPTS_AT_START, Backoff, Failure, Trouble};
use super::client::{Client, stream_facts};
use crate::config::{self, Reader};
use crate::error::{Error, Result};

/// How often a new consumer is looked at until it is active, and how long: AWS takes some seconds, and lets a consumer be
/// described twenty times a second.
const ACTIVE_POLL: Duration = Duration::from_millis(200);
const ACTIVE_POLLS_MAX: u32 = 300;

pub(super) const DESCRIBE_CONSUMER: &str = "kinesis:DescribeStreamConsumer";
pub(super) const REGISTER_CONSUMER: &str = "kinesis:RegisterStreamConsumer";

/// A consumer of a stream.
#[derive(Debug)]
pub struct Consumer {
    client: Client,
    stream: String,
    name: String,
    /// Changes when it was removed and is registered anew.
    arn: Mutex<String>,
}

/// The consumer that shards are to be subscribed to with; `None` where they are polled.
///
/// # Errors
/// [`Error::Usage`] when `stream.reader` asks for one and it may not be registered, naming the permission;
/// [`Error::External`] when the service does not answer, or has no room for it. With `auto` neither is an error, and is said.
pub async fn registered(client: &Client, stream: &config::Stream, name: &str) -> Result<Option<Arc<Consumer>>> {
    if stream.reader == Reader::Polling {
        return Ok(None);
    }
    match (Consumer::register(client.clone(), &stream.name, name).await, stream.reader) {
        (Ok(consumer), _) => Ok(Some(Arc::new(consumer))),
        (Err(error), Reader::Auto) => {
            tracing::warn!("the stream is read by polling: {error}");
            Ok(None)
        }
        (Err(error), _) => Err(error),
    }
}

impl Consumer {
    /// Finds the consumer or registers it, and waits until it can be used.
    ///
    /// # Errors
    /// As [`registered`].
    pub async fn register(client: Client, stream: &str, name: &str) -> Result<Self> {
        let arn = active(&client, stream, name).await?;
        tracing::info!("consumer `{arn}`");
        Ok(Self { client, stream: stream.to_owned(), name: name.to_owned(), arn: Mutex::new(arn) })
    }

    /// What SubscribeToShard calls it.
    pub async fn arn(&self) -> String {
        self.arn.lock().await.clone()
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// `gone` is not known any more: finds or registers the consumer again, unless another shard has done so.
    ///
    /// # Errors
    /// As [`registered`].
    pub async fn again(&self, gone: &str) -> Result<()> {
        let mut arn = self.arn.lock().await;
        if *arn == gone {
            *arn = active(&self.client, &self.stream, &self.name).await?;
        }
        Ok(())
    }
}

/// The ARN of the active consumer of this name.
async fn active(client: &Client, stream: &str, name: &str) -> Result<String> {
    let stream_arn = stream_facts(client, stream).await?.arn;
    for _ in 0..ACTIVE_POLLS_MAX {
        match described(client, &stream_arn, name).await? {
            Some(found) if found.consumer_status == ConsumerStatus::Active => return Ok(found.consumer_arn),
            // One that is being deleted is registered anew when it has gone.
            Some(_) => {}
            None => register(client, &stream_arn, name).await?,
        }
        tokio::time::sleep(ACTIVE_POLL).await;
    }
    Err(Error::external(format!("registering consumer `{name}`"), "it did not become active within a minute"))
}

/// The consumer of this name, if there is one.
pub(super) async fn described(client: &Client, stream_arn: &str, name: &str) -> Result<Option<ConsumerDescription>> {
    let what = format!("looking for consumer `{name}`");
    let request = client.describe_stream_consumer().stream_arn(stream_arn).consumer_name(name);
    match Backoff::new(client, name).retry(&what, ATTEMPTS_AT_START, || request.clone().send()).await {
        Ok(found) => Ok(found.consumer_description),
        Err(failure) if failure.trouble == Trouble::NotFound => Ok(None),
        Err(failure) => Err(refused(failure, what, DESCRIBE_CONSUMER, &format!("{stream_arn}/consumer/*"))),
    }
}

async fn register(client: &Client, stream_arn: &str, name: &str) -> Result<()> {
    let what = format!("registering consumer `{name}` (a stream has room for twenty)");
    let request = client.register_stream_consumer().stream_arn(stream_arn).consumer_name(name);
    match Backoff::new(client, name).retry(&what, ATTEMPTS_AT_START, || request.clone().send()).await {
        Ok(_) => Ok(()),
        // Another job was faster, or the stream is being changed.
        Err(failure) if failure.trouble == Trouble::InUse => Ok(()),
        Err(failure) => Err(refused(failure, what, REGISTER_CONSUMER, stream_arn)),
    }
}

/// What passes by itself is the world's; the rest is the user's to mend.
fn refused(failure: Failure, what: String, action: &str, resource: &str) -> Error {
    match failure.trouble {
        Trouble::Refused | Trouble::InvalidArgument => Error::usage(format!(
            "{what}: {failure}; the job needs `{action}` on `{resource}`, or `stream.reader = \"polling\"`"
        )),
        _ => failure.into_error(what),
    }
}
