//! The SDK's client, and the few calls about a stream as a whole.
//!
//! The one law: the same client speaks to AWS, to the embedded server and to any other server of the API; only address,
//! credentials and transport differ. The SDK's own retries are off: see `backoff`.

use std::time::Duration;

use aws_config::BehaviorVersion;
pub use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::config::retry::RetryConfig;
use aws_sdk_kinesis::config::timeout::TimeoutConfig;
use aws_sdk_kinesis::config::{Credentials, Region, SharedHttpClient, StalledStreamProtectionConfig};
use aws_sdk_kinesis::types::{StreamDescriptionSummary, StreamStatus};
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;

use super::backoff::{ATTEMPTS_AT_START, Backoff, Trouble};
use super::embedded::EmbeddedKinesis;
use super::within::UnsignedPayload;
use crate::config::{self, Endpoint};
use crate::error::{Error, Result};

/// Longest wait for the answer to one request. A 10 MiB answer at 1 MB/s takes ten seconds.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// How often a new stream is looked at until it is active, and how long: AWS takes about half a minute.
const ACTIVE_POLL: Duration = Duration::from_millis(200);
const ACTIVE_POLLS_MAX: u32 = 600;

/// A client for the configured endpoint. `embedded` is the server in this process, which is reached without a socket.
///
/// # Errors
/// [`Error::Broken`] when the endpoint is the embedded one and no server is given.
pub async fn connect(stream: &config::Stream, embedded: Option<&EmbeddedKinesis>) -> Result<Client> {
    match (&stream.endpoint, embedded) {
        (Endpoint::Aws, _) => Ok(connect_to_aws(&stream.region).await),
        (Endpoint::Url(url), _) => Ok(connect_to_url(url, &stream.region)),
        (Endpoint::Embedded, Some(server)) => Ok(connect_within(server, &stream.region)),
        (Endpoint::Embedded, None) => Err(Error::broken("the embedded stream has not been started")),
    }
}

/// The region's own service, with the SDK's chain of credentials.
async fn connect_to_aws(region: &str) -> Client {
    let shared = aws_config::defaults(BehaviorVersion::latest())
        .region(Region::new(region.to_owned()))
        .http_client(https())
        .retry_config(RetryConfig::disabled())
        .timeout_config(timeouts())
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .load()
        .await;
    Client::new(&shared)
}

/// A server of the API at `url`. Such servers want a signature but check none: the credentials are no secret.
pub fn connect_to_url(url: &str, region: &str) -> Client {
    let http_client =
        if url.starts_with("https:") { https() } else { aws_smithy_http_client::Builder::new().build_http() };
    Client::from_conf(unchecked(url, region).http_client(http_client).build())
}

/// The server of this process.
pub(super) fn connect_within(server: &EmbeddedKinesis, region: &str) -> Client {
    let config = unchecked(server.url(), region).http_client(server.http_client()).interceptor(UnsignedPayload);
    Client::from_conf(config.build())
}

/// The same client over connections of its own, to a server of `https`.
pub(super) fn apart(client: &Client) -> Client {
    Client::from_conf(client.config().to_builder().http_client(https()).build())
}

/// Settings for a server that wants a signature and checks none.
fn unchecked(url: &str, region: &str) -> aws_sdk_kinesis::config::Builder {
    aws_sdk_kinesis::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .endpoint_url(url)
        .region(Region::new(region.to_owned()))
        .credentials_provider(Credentials::new("lakeward", "lakeward", None, None, "lakeward"))
        .retry_config(RetryConfig::disabled())
        .timeout_config(timeouts())
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
}

fn https() -> SharedHttpClient {
    aws_smithy_http_client::Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https()
}

fn timeouts() -> TimeoutConfig {
    TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT).operation_attempt_timeout(REQUEST_TIMEOUT).build()
}

/// What tells one life of a stream from the next: its ARN and the time it was created at (seconds since 1970).
///
/// # Errors
/// [`Error::Usage`] when there is no such stream, [`Error::External`] when the service does not answer.
pub async fn stream_incarnation(client: &Client, stream: &str) -> Result<String> {
    let summary = describe(client, stream).await?.ok_or_else(|| {
        Error::usage(format!(
            "no stream `{stream}` at this endpoint; create it, or set `stream.name` or `stream.region`"
        ))
    })?;
    Ok(format!("{}@{}", summary.stream_arn, summary.stream_creation_timestamp.secs()))
}

/// Creates the stream unless it exists, and waits until it can be used.
///
/// # Errors
/// [`Error::External`] when the service refuses, does not answer, or takes longer than two minutes.
pub async fn create_stream(client: &Client, stream: &str, shards: u32) -> Result<()> {
    let what = || format!("creating stream `{stream}`");
    let shards = i32::try_from(shards).unwrap_or(i32::MAX);
    let created = Backoff::new(stream)
        .retry(&what(), ATTEMPTS_AT_START, || client.create_stream().stream_name(stream).shard_count(shards).send())
        .await;
    match created {
        Ok(_) => {}
        Err(failure) if failure.trouble == Trouble::InUse => {}
        Err(failure) => return Err(failure.into_error(what())),
    }
    for _ in 0..ACTIVE_POLLS_MAX {
        let status = describe(client, stream).await?.map(|summary| summary.stream_status);
        if matches!(status, Some(StreamStatus::Active | StreamStatus::Updating)) {
            return Ok(());
        }
        tokio::time::sleep(ACTIVE_POLL).await;
    }
    Err(Error::external(what(), "it did not become active within two minutes"))
}

/// The stream's description, `None` when there is no such stream.
pub(super) async fn describe(client: &Client, stream: &str) -> Result<Option<StreamDescriptionSummary>> {
    let what = format!("describing stream `{stream}`");
    let described = Backoff::new(stream)
        .retry(&what, ATTEMPTS_AT_START, || client.describe_stream_summary().stream_name(stream).send())
        .await;
    match described {
        Ok(answer) => Ok(answer.stream_description_summary),
        Err(failure) if failure.trouble == Trouble::NotFound => Ok(None),
        Err(failure) => Err(failure.into_error(what)),
    }
}
