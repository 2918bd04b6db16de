//! The SDK's client, and what its errors mean.
//!
//! The one law: throttling, 5xx and lost answers are waited out by the SDK, with jitter and a bound; whatever is left is told
//! with the permission or the setting that would mend it.

use std::error::Error as StdError;
use std::time::Duration;

use aws_config::BehaviorVersion;
use aws_sdk_glue::Client;
use aws_sdk_glue::config::retry::RetryConfig;
use aws_sdk_glue::config::timeout::TimeoutConfig;
use aws_sdk_glue::config::{Credentials, Region, SharedHttpClient, StalledStreamProtectionConfig};
use aws_sdk_glue::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use url::Url;

use crate::config;
use crate::error::{Error, Result};

/// Endpoint that stands for the region's own.
const AWS: &str = "aws";

/// Attempts of one call: with the SDK's exponential back-off about half a minute of throttling; then the caller's own,
/// longer waits begin.
const ATTEMPTS_MAX: u32 = 6;
/// The first wait of the SDK's back-off is drawn from zero to this, each bound twice the one before.
const DELAY_FIRST: Duration = Duration::from_millis(250);
/// The longest.
const DELAY_MAX: Duration = Duration::from_secs(10);

/// Longest wait for the answer to one request: a page of a thousand partitions takes a second.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);
/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Refuses settings that can never work, before anything is opened.
///
/// # Errors
/// [`Error::Usage`] for a URL that is none, or a lake AWS cannot read.
pub fn check(settings: &config::Catalog, lake: &str) -> Result<()> {
    if !settings.glue {
        return Ok(());
    }
    if settings.endpoint == AWS && !lake.starts_with("s3://") {
        return Err(Error::usage(format!(
            "`catalog.glue` is on, but the lake is at {lake}, which AWS cannot read: put the lake on S3, or set \
             `catalog.endpoint` to the URL of another server of Glue's API"
        )));
    }
    let is_url = Url::parse(&settings.endpoint).is_ok_and(|url| matches!(url.scheme(), "http" | "https"));
    match settings.endpoint == AWS || is_url {
        true => Ok(()),
        false => Err(Error::usage(format!(
            "configuration: `catalog.endpoint` is `{}`: expected `aws`, or a URL like `http://127.0.0.1:5000`",
            settings.endpoint
        ))),
    }
}

/// A client for the configured endpoint. Plain HTTP is for servers that want a signature and check none.
pub(super) async fn connect(settings: &config::Catalog) -> Client {
    let region = Region::new(settings.region.clone());
    if settings.endpoint.starts_with("http:") {
        let config = aws_sdk_glue::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(region)
            .endpoint_url(&settings.endpoint)
            .credentials_provider(Credentials::new("lakeward", "lakeward", None, None, "lakeward"))
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .retry_config(retries())
            .timeout_config(timeouts())
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
        return Client::from_conf(config.build());
    }
    let mut shared = aws_config::defaults(BehaviorVersion::latest())
        .region(region)
        .http_client(https())
        .retry_config(retries())
        .timeout_config(timeouts())
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
    if settings.endpoint != AWS {
        shared = shared.endpoint_url(&settings.endpoint);
    }
    Client::new(&shared.load().await)
}

fn retries() -> RetryConfig {
    RetryConfig::standard()
        .with_max_attempts(ATTEMPTS_MAX)
        .with_initial_backoff(DELAY_FIRST)
        .with_max_backoff(DELAY_MAX)
}

fn timeouts() -> TimeoutConfig {
    TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT).operation_attempt_timeout(REQUEST_TIMEOUT).build()
}

fn https() -> SharedHttpClient {
    aws_smithy_http_client::Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https()
}

/// What Glue calls a thing that is there already, or is not there.
pub(super) const EXISTS: &str = "AlreadyExistsException";
pub(super) const IS_GONE: &str = "EntityNotFoundException";

/// A failed call as an error. `call` is the API's name of it, which is also that of the permission.
pub(super) fn failed<E, R>(call: &str, what: &str, error: &SdkError<E, R>) -> Error
where
    E: StdError + ProvideErrorMetadata + Send + Sync + 'static,
    R: std::fmt::Debug + Send + Sync + 'static,
{
    let hint = match error.code() {
        Some("AccessDeniedException") => format!("; allow `glue:{call}` on the catalog, the database and its tables"),
        _ => String::new(),
    };
    let said = match (error.code(), error.message()) {
        (Some(code), Some(message)) => format!("{code}: {message}"),
        _ => DisplayErrorContext(error).to_string(),
    };
    Error::external(format!("Glue: {what}"), format!("{said}{hint}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn what_can_never_work_is_refused() {
        let settings = |endpoint: &str| {
            let set = [format!("catalog.endpoint={endpoint}"), "catalog.glue=true".to_owned()];
            Config::load(None, &set).unwrap().catalog
        };
        assert!(check(&settings("aws"), "s3://b/lake/").is_ok());
        assert!(check(&settings("http://127.0.0.1:5000"), "./data/lake").is_ok());
        let local = ("aws", "./data/lake", "put the lake on S3");
        for (endpoint, lake, says) in [local, ("glue", "s3://b/lake", "`catalog.endpoint` is `glue`")] {
            let error = check(&settings(endpoint), lake).unwrap_err();
            assert!(matches!(&error, Error::Usage(m) if m.contains(says)), "{error}");
        }
    }
}
