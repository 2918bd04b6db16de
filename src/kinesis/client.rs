//! The SDK's client, and the few calls about a stream as a whole.
//!
//! The one law: the same client speaks to AWS, to the embedded server and to any other server of the API; only address,
//! credentials and transport differ. The SDK's own retries are off: see `backoff`. Credentials are the chain's, see
//! `renewal`; a server at a URL of `stream.endpoint` gets some that are no secret.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use aws_config::BehaviorVersion;
use aws_config::identity::IdentityCache;
use aws_credential_types::provider::ProvideCredentials;
use aws_sdk_kinesis::config::retry::RetryConfig;
use aws_sdk_kinesis::config::timeout::TimeoutConfig;
use aws_sdk_kinesis::config::{Credentials, Region, SharedHttpClient, StalledStreamProtectionConfig};
use aws_sdk_kinesis::types::{StreamDescriptionSummary, StreamStatus};
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;

use super::backoff::{ATTEMPTS_AT_START, Backoff, Failure, Trouble};
use super::embedded::EmbeddedKinesis;
use super::refusal::Site;
use super::renewal::Renewing;
use super::within::UnsignedPayload;
use crate::clock::{MICROS_PER_SECOND, Micros};
use crate::config::{self, Endpoint};
use crate::credentials::Chain;
use crate::error::{Error, Result};

/// Longest wait for the answer to one request. A 10 MiB answer at 1 MB/s takes ten seconds.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// How often a new stream is looked at until it is active, and how long: AWS takes about half a minute.
const ACTIVE_POLL: Duration = Duration::from_millis(200);
const ACTIVE_POLLS_MAX: u32 = 600;

/// Seconds in the unit in which a stream's retention is told.
const SECONDS_PER_HOUR: Micros = 3_600;

/// The SDK's client, and where it sends requests to: refusals name it.
#[derive(Clone, Debug)]
pub struct Client {
    sdk: aws_sdk_kinesis::Client,
    site: Arc<Site>,
}

impl Deref for Client {
    type Target = aws_sdk_kinesis::Client;

    fn deref(&self) -> &Self::Target {
        &self.sdk
    }
}

impl Client {
    pub(super) fn site(&self) -> Arc<Site> {
        Arc::clone(&self.site)
    }

    /// The same client for a stream by name.
    fn of(self, stream: &str) -> Self {
        let Site { region, url, .. } = &*self.site;
        let site = Site { stream: stream.to_owned(), region: region.clone(), url: url.clone(), ..Site::default() };
        Self { site: Arc::new(site), ..self }
    }
}

/// A client for the configured endpoint. `embedded` is the server in this process, which is reached without a socket.
///
/// # Errors
/// [`Error::Broken`] when the endpoint is the embedded one and no server is given.
pub async fn connect(stream: &config::Stream, embedded: Option<&EmbeddedKinesis>) -> Result<Client> {
    let client = match (&stream.endpoint, embedded) {
        (Endpoint::Aws, _) => connect_to_aws(&stream.region).await,
        (Endpoint::Url(url), _) => connect_to_url(url, &stream.region),
        (Endpoint::Embedded, Some(server)) => connect_within(server, &stream.region),
        (Endpoint::Embedded, None) => return Err(Error::broken("the embedded stream has not been started")),
    };
    Ok(client.of(&stream.name))
}

/// The region's own service, or the one that AWS_ENDPOINT_URL_KINESIS names, with the SDK's chain of credentials.
async fn connect_to_aws(region: &str) -> Client {
    let chain = Arc::new(Chain::new(region));
    let shared = aws_config::defaults(BehaviorVersion::latest())
        .region(Region::new(region.to_owned()))
        .http_client(https())
        .credentials_provider(Arc::clone(&chain) as Arc<dyn ProvideCredentials>)
        // The chain keeps its own: the SDK's would hold on to what the service has called expired.
        .identity_cache(IdentityCache::no_cache())
        .retry_config(RetryConfig::disabled())
        .timeout_config(timeouts())
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .load()
        .await;
    let config = aws_sdk_kinesis::config::Builder::from(&shared).interceptor(Renewing::new(chain));
    client(config, region, None)
}

fn client(config: aws_sdk_kinesis::config::Builder, region: &str, url: Option<&str>) -> Client {
    let site = Site { region: region.to_owned(), url: url.map(str::to_owned), ..Site::default() };
    Client { sdk: aws_sdk_kinesis::Client::from_conf(config.build()), site: Arc::new(site) }
}

/// A server of the API at `url`. Such servers want a signature but check none: the credentials are no secret.
pub fn connect_to_url(url: &str, region: &str) -> Client {
    let http_client =
        if url.starts_with("https:") { https() } else { aws_smithy_http_client::Builder::new().build_http() };
    client(unchecked(url, region).http_client(http_client), region, Some(url))
}

/// The server of this process.
pub(super) fn connect_within(server: &EmbeddedKinesis, region: &str) -> Client {
    let config = unchecked(server.url(), region).http_client(server.http_client()).interceptor(UnsignedPayload);
    client(config, region, Some(server.url()))
}

/// The same client over connections of its own, to a server of `https`.
pub(super) fn apart(client: &Client) -> Client {
    let config = client.config().to_builder().http_client(https()).build();
    Client { sdk: aws_sdk_kinesis::Client::from_conf(config), site: client.site() }
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

/// What is to be known of a stream before it is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamFacts {
    /// Tells one life of a stream from the next: its ARN and the time it was created at (seconds since 1970).
    pub incarnation: String,
    pub arn: String,
    /// How long it keeps a record, microseconds.
    pub retention: Micros,
    /// The KMS key that records are encrypted under, if they are.
    pub key: Option<String>,
}

impl From<StreamDescriptionSummary> for StreamFacts {
    fn from(summary: StreamDescriptionSummary) -> Self {
        let hours = Micros::from(summary.retention_period_hours);
        Self {
            incarnation: format!("{}@{}", summary.stream_arn, summary.stream_creation_timestamp.secs()),
            arn: summary.stream_arn,
            retention: hours * SECONDS_PER_HOUR * MICROS_PER_SECOND,
            key: summary.key_id,
        }
    }
}

/// Asks what is to be known of a stream.
///
/// # Errors
/// [`Error::Usage`] when there is no such stream, or for what the user can mend, such as a missing permission;
/// [`Error::External`] when the service does not answer.
pub async fn stream_facts(client: &Client, stream: &str) -> Result<StreamFacts> {
    match describe(client, stream, ATTEMPTS_AT_START).await {
        Ok(facts) => Ok(facts.into()),
        Err(failure) if failure.trouble == Trouble::NotFound => {
            Err(Error::usage(client.site.no_stream(stream, &failure.to_string())))
        }
        Err(failure) => Err(failure.into_error(describing(stream))),
    }
}

/// How long the stream keeps a record, asked once; `None` when nobody says.
pub(super) async fn retention(client: &Client, stream: &str) -> Option<Micros> {
    match describe(client, stream, 1).await {
        Ok(summary) => Some(StreamFacts::from(summary).retention),
        Err(failure) => {
            tracing::debug!("{}: {failure}", describing(stream));
            None
        }
    }
}

/// Creates the stream unless it exists, and waits until it can be used.
///
/// # Errors
/// [`Error::External`] when the service refuses, does not answer, or takes longer than two minutes.
pub async fn create_stream(client: &Client, stream: &str, shards: u32) -> Result<()> {
    let what = || format!("creating stream `{stream}`");
    let shards = i32::try_from(shards).unwrap_or(i32::MAX);
    let created = Backoff::new(client, stream)
        .retry(&what(), ATTEMPTS_AT_START, || client.create_stream().stream_name(stream).shard_count(shards).send())
        .await;
    match created {
        Ok(_) => {}
        Err(failure) if failure.trouble == Trouble::InUse => {}
        Err(failure) => return Err(failure.into_error(what())),
    }
    for _ in 0..ACTIVE_POLLS_MAX {
        match describe(client, stream, ATTEMPTS_AT_START).await {
            Ok(summary) if matches!(summary.stream_status, StreamStatus::Active | StreamStatus::Updating) => {
                return Ok(());
            }
            Err(failure) if failure.trouble != Trouble::NotFound => {
                return Err(failure.into_error(describing(stream)));
            }
            _ => {}
        }
        tokio::time::sleep(ACTIVE_POLL).await;
    }
    Err(Error::external(what(), "it did not become active within two minutes"))
}

fn describing(stream: &str) -> String {
    format!("describing stream `{stream}`")
}

/// The stream's description; it also tells the ARN that refusals name from then on.
async fn describe(client: &Client, stream: &str, attempts: u32) -> Result<StreamDescriptionSummary, Failure> {
    let what = describing(stream);
    let answer = Backoff::new(client, stream)
        .retry(&what, attempts, || client.describe_stream_summary().stream_name(stream).send())
        .await?;
    let summary = answer
        .stream_description_summary
        .ok_or_else(|| Failure::new(Trouble::Transient, "an answer without a description"))?;
    // It stays the same for a name, region and account.
    let _ = client.site.arn.set(summary.stream_arn.clone());
    Ok(summary)
}
