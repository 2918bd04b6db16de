//! Credentials of the SDK's chain – environment, profile, web identity, container, instance – for the store's requests.
//!
//! The one law: a request is signed with credentials that outlive it and all its retries, if the chain has such; those it
//! has are never asked for more often than they change. No secret is shown or logged.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use async_trait::async_trait;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::provider::ProvideCredentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use object_store::aws::AwsCredential;
use object_store::{CredentialProvider, Error as StoreError, Result as StoreResult};
use tokio::sync::Mutex;

use crate::clock::{Clock, MICROS_PER_SECOND, Micros};
use crate::error::Mendable;

/// New credentials are fetched so long before the old ones expire: longer than a request is retried, and within the five
/// minutes in which containers and instances already offer the next ones.
const RENEW_BEFORE: Micros = 120 * MICROS_PER_SECOND;
/// The chain is not asked again within this time while what it gave last is still valid: near the end of a session it may
/// have nothing newer.
const ASK_AGAIN_AFTER: Micros = 5 * MICROS_PER_SECOND;
/// A look for credentials that takes longer has failed. An instance's service is asked last, and is given a few seconds.
const FETCH_TIMEOUT: Duration = Duration::from_secs(20);

/// What the SDK finds out about this process; with a region given it is not looked for.
pub(super) async fn sdk(region: Option<&str>) -> SdkConfig {
    let https = aws_smithy_http_client::Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https();
    let loader = aws_config::defaults(BehaviorVersion::latest()).http_client(https);
    match region {
        Some(region) => loader.region(Region::new(region.to_owned())).load().await,
        None => loader.load().await,
    }
}

/// The chain's credentials, kept until they are about to expire.
#[derive(Debug)]
pub(super) struct ChainCredentials {
    region: String,
    kept: Mutex<Option<Kept>>,
    /// How often the chain has given some.
    fetched: AtomicU64,
    clock: Clock,
}

#[derive(Debug)]
struct Kept {
    credential: Arc<AwsCredential>,
    expires_at: Option<Micros>,
    fetched_at: Micros,
}

impl Kept {
    fn is_valid(&self, now: Micros) -> bool {
        self.expires_at.is_none_or(|expires_at| now < expires_at)
    }

    fn is_fresh(&self, now: Micros) -> bool {
        let lasts = self.expires_at.is_none_or(|expires_at| now + RENEW_BEFORE < expires_at);
        lasts || (self.is_valid(now) && now < self.fetched_at + ASK_AGAIN_AFTER)
    }
}

impl ChainCredentials {
    pub(super) fn new(region: &str) -> Self {
        Self { region: region.to_owned(), kept: Mutex::new(None), fetched: AtomicU64::new(0), clock: Clock::System }
    }

    /// Which credentials a request that begins now is signed with, or older ones than it is.
    pub(super) fn fetched(&self) -> u64 {
        self.fetched.load(Ordering::Acquire)
    }

    /// S3 has called the credentials of a request expired, which began at `fetched`: the chain is asked again, unless it has
    /// been meanwhile, for another request.
    pub(super) async fn forget(&self, fetched: u64) {
        let mut kept = self.kept.lock().await;
        if self.fetched() == fetched {
            *kept = None;
        }
    }

    async fn fetch(&self) -> Result<Kept, CredentialsError> {
        // The chain is built anew each time, so that a rewritten credentials file is read again.
        let sdk = sdk(Some(&self.region)).await;
        let chain = sdk.credentials_provider().ok_or_else(CredentialsError::not_loaded_no_source)?;
        let found = tokio::time::timeout(FETCH_TIMEOUT, chain.provide_credentials());
        let found = found.await.map_err(|_| CredentialsError::provider_timed_out(FETCH_TIMEOUT))??;
        let since_1970 = found.expiry().map(|expiry| expiry.duration_since(UNIX_EPOCH).unwrap_or_default());
        Ok(Kept {
            credential: Arc::new(AwsCredential {
                key_id: found.access_key_id().to_owned(),
                secret_key: found.secret_access_key().to_owned(),
                token: found.session_token().map(str::to_owned),
            }),
            expires_at: since_1970.map(|since| Micros::try_from(since.as_micros()).unwrap_or(Micros::MAX)),
            fetched_at: self.clock.now(),
        })
    }
}

#[async_trait]
impl CredentialProvider for ChainCredentials {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> StoreResult<Arc<AwsCredential>> {
        // Held while the chain is asked: a hundred requests that wait for credentials ask once.
        let mut kept = self.kept.lock().await;
        let now = self.clock.now();
        if let Some(kept) = kept.as_ref().filter(|kept| kept.is_fresh(now)) {
            return Ok(Arc::clone(&kept.credential));
        }
        match (self.fetch().await, kept.as_mut()) {
            (Ok(found), _) => {
                let credential = Arc::clone(&found.credential);
                tracing::debug!(key_id = %credential.key_id, "signing S3 requests with new credentials");
                *kept = Some(found);
                self.fetched.fetch_add(1, Ordering::AcqRel);
                Ok(credential)
            }
            (Err(error), Some(old)) if old.is_valid(now) => {
                tracing::warn!(error = %chain_of(&error), "no new AWS credentials yet, going on with the old ones");
                old.fetched_at = now;
                Ok(Arc::clone(&old.credential))
            }
            (Err(error), _) => Err(StoreError::Generic { store: "S3", source: refused(error) }),
        }
    }
}

/// What is missing is the user's to add; a service that did not answer is not.
fn refused(error: CredentialsError) -> Box<dyn std::error::Error + Send + Sync> {
    match error {
        CredentialsError::CredentialsNotLoaded(_) => Box::new(Mendable(
            "no AWS credentials were found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or run where a \
             role is attached (instance, task, pod)"
                .to_owned(),
        )),
        CredentialsError::InvalidConfiguration(_) => {
            Box::new(Mendable(format!("the AWS profile cannot be used: {}", chain_of(&error))))
        }
        other => format!("no AWS credentials: {}; try again, or look at the role's provider", chain_of(&other)).into(),
    }
}

/// An error and its causes in one line: the SDK's own texts leave the causes out.
fn chain_of(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Micros = 60 * MICROS_PER_SECOND;

    fn kept(expires_at: Option<Micros>) -> Kept {
        let credential = AwsCredential { key_id: "k".to_owned(), secret_key: "s".to_owned(), token: None };
        Kept { credential: Arc::new(credential), expires_at, fetched_at: 0 }
    }

    #[test]
    fn credentials_are_renewed_before_they_expire_and_not_all_the_time() {
        assert!(kept(None).is_fresh(Micros::MAX - 1));
        let hour = kept(Some(60 * MINUTE));
        assert!(hour.is_fresh(57 * MINUTE) && !hour.is_fresh(58 * MINUTE));
        // The chain has nothing that lasts: it is asked every few seconds, not at every request.
        let short = kept(Some(MINUTE));
        assert!(short.is_fresh(ASK_AGAIN_AFTER - 1) && !short.is_fresh(ASK_AGAIN_AFTER));
        assert!(short.is_valid(MINUTE - 1) && !short.is_valid(MINUTE));
    }

    #[test]
    fn what_is_missing_is_the_users_and_what_does_not_answer_is_not() {
        let missing = refused(CredentialsError::not_loaded_no_source());
        assert!(Mendable::inside(missing.as_ref()).is_some_and(|why| why.0.contains("AWS_ACCESS_KEY_ID")));
        let timed_out = refused(CredentialsError::provider_timed_out(FETCH_TIMEOUT));
        assert!(Mendable::inside(timed_out.as_ref()).is_none(), "{timed_out}");
    }
}
