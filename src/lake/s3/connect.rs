//! The client of one bucket: its address, its region, its time-outs, and what it asks S3 to encrypt.
//!
//! The one law: nothing is taken from the environment but by the SDK's own chain, so that the lake and the stream agree on
//! who they are. Requests are always signed; there is no anonymous access.

use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpRequest, HttpResponse, HttpService, ReqwestConnector,
};
use object_store::{BackoffConfig, ClientOptions, Error as StoreError, Result as StoreResult, RetryConfig};
use url::Url;

use super::Connection;
use super::credentials::ChainCredentials;
use crate::config::{Encryption, S3};
use crate::credentials::sdk;
use crate::error::Mendable;

/// What S3 calls the region of a bucket, in answers of another one.
const BUCKET_REGION: &str = "x-amz-bucket-region";
/// The client's key for how S3 encrypts; its own name for it is not public.
const ENCRYPTION: &str = "aws_server_side_encryption";
/// What a server that is not Amazon's is told when nothing names a region; most of them take any.
const REGION_OF_OTHERS: &str = "us-east-1";

/// The bucket's region, once S3 has refused a request that was signed for another one.
#[derive(Clone, Debug, Default)]
pub(super) struct RegionSeen(Arc<OnceLock<String>>);

impl RegionSeen {
    pub(super) fn get(&self) -> Option<&str> {
        self.0.get().map(String::as_str)
    }
}

/// The client of a bucket. Credentials are not looked for before the first request.
pub(super) async fn connect(bucket: &str, settings: &S3) -> StoreResult<Connection> {
    let region = region(settings).await?;
    let credentials = Arc::new(ChainCredentials::new(&region));
    let region_seen = RegionSeen::default();
    let options = ClientOptions::new()
        .with_timeout(settings.request_timeout)
        .with_connect_timeout(settings.connect_timeout)
        .with_allow_http(settings.allow_http);
    let retry = RetryConfig {
        backoff: BackoffConfig::default(),
        max_retries: settings.retries_max,
        retry_timeout: settings.retry_timeout,
    };
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(bucket)
        .with_region(region.as_str())
        .with_credentials(Arc::clone(&credentials) as _)
        .with_client_options(options)
        .with_retry(retry)
        .with_http_connector(Watching { region_seen: region_seen.clone() });
    builder = match &settings.endpoint {
        Some(endpoint) if settings.path_style => builder.with_endpoint(endpoint),
        Some(endpoint) => builder.with_endpoint(with_bucket(endpoint, bucket)?).with_virtual_hosted_style_request(true),
        // A dot in the name would not be covered by the certificate of `*.s3.<region>.amazonaws.com`.
        None => builder.with_virtual_hosted_style_request(!bucket.contains('.')),
    };
    let encryption: AmazonS3ConfigKey = ENCRYPTION.parse()?;
    builder = match (settings.encryption, &settings.kms_key_id) {
        (Encryption::None, _) => builder,
        (Encryption::S3, _) => builder.with_config(encryption, "AES256"),
        // One call of KMS a bucket key instead of one an object: the job writes many small ones.
        (Encryption::Kms, Some(key)) => builder.with_sse_kms_encryption(key).with_bucket_key(true),
        (Encryption::Kms, None) => builder.with_config(encryption, "aws:kms").with_bucket_key(true),
    };
    Ok(Connection { client: builder.build()?, region, credentials, region_seen })
}

/// The configured region, or the one the SDK's chain finds.
async fn region(settings: &S3) -> StoreResult<String> {
    if let Some(region) = &settings.region {
        return Ok(region.clone());
    }
    match (sdk(None).await.region(), &settings.endpoint) {
        (Some(region), _) => Ok(region.as_ref().to_owned()),
        (None, Some(_)) => Ok(REGION_OF_OTHERS.to_owned()),
        (None, None) => Err(StoreError::Generic {
            store: "S3",
            source: Box::new(Mendable(
                "no AWS region is known: set `s3.region`, AWS_REGION, or `region` of the profile".to_owned(),
            )),
        }),
    }
}

/// `https://host/` as `https://bucket.host/`.
fn with_bucket(endpoint: &str, bucket: &str) -> StoreResult<String> {
    let refused =
        |why: String| StoreError::Generic { store: "S3", source: Box::new(Mendable(format!("s3.endpoint: {why}"))) };
    let mut url = Url::parse(endpoint).map_err(|e| refused(format!("`{endpoint}`: {e}")))?;
    let host = format!("{bucket}.{}", url.host_str().unwrap_or_default());
    url.set_host(Some(&host)).map_err(|e| refused(format!("`{host}`: {e}; try `s3.path_style = true`")))?;
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

/// Makes clients that keep what a refusal says of the bucket's region: it stands in a header, which errors do not carry.
#[derive(Debug)]
struct Watching {
    region_seen: RegionSeen,
}

impl HttpConnector for Watching {
    fn connect(&self, options: &ClientOptions) -> StoreResult<HttpClient> {
        let inner = ReqwestConnector::default().connect(options)?;
        Ok(HttpClient::new(Watched { inner, region_seen: self.region_seen.clone() }))
    }
}

#[derive(Debug)]
struct Watched {
    inner: HttpClient,
    region_seen: RegionSeen,
}

#[async_trait]
impl HttpService for Watched {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let answer = self.inner.execute(request).await?;
        let region = answer.headers().get(BUCKET_REGION).and_then(|region| region.to_str().ok());
        if let Some(region) = region.filter(|_| !answer.status().is_success()) {
            // The first one stays: a bucket does not move.
            let _ = self.region_seen.0.set(region.to_owned());
        }
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_may_stand_before_the_host() {
        assert_eq!(with_bucket("https://s3.example.com:9000/", "b").unwrap(), "https://b.s3.example.com:9000");
    }
}
