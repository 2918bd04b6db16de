//! Credentials of the SDK's chain – environment, profile (keys, roles, processes), web identity, container, instance – for
//! requests of the lake and of the stream.
//!
//! The one law: a request is signed with credentials that outlive it and all its retries, if the chain has such; those it
//! has are never asked for more often than they change. No secret is shown or logged.

use std::error::Error as StdError;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, future};
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_types::error::ErrorMetadata;
use tokio::sync::Mutex;

use crate::clock::{Clock, MICROS_PER_SECOND, Micros};
use crate::error::{Mendable, causes};

/// New credentials are fetched so long before the old ones expire: longer than a request is retried, and within the five
/// minutes in which containers and instances already offer the next ones.
const RENEW_BEFORE: Micros = 120 * MICROS_PER_SECOND;
/// The chain is not asked again within this time while what it gave last is still valid: near the end of a session it may
/// have nothing newer.
const ASK_AGAIN_AFTER: Micros = 5 * MICROS_PER_SECOND;
/// A look for credentials that takes longer has failed. An instance's service is asked last, and is given a few seconds.
const FETCH_TIMEOUT: Duration = Duration::from_secs(20);

/// What the SDK finds out about this process; with a region given it is not looked for.
pub async fn sdk(region: Option<&str>) -> SdkConfig {
    let https = aws_smithy_http_client::Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https();
    let loader = aws_config::defaults(BehaviorVersion::latest()).http_client(https);
    match region {
        Some(region) => loader.region(Region::new(region.to_owned())).load().await,
        None => loader.load().await,
    }
}

/// The chain's credentials, kept until they are about to expire.
#[derive(Debug)]
pub struct Chain {
    /// Where STS is asked for roles.
    region: String,
    kept: Mutex<Option<Kept>>,
    /// How often the chain has given some: the number of those that are kept.
    fetched: AtomicU64,
    /// Those up to this number have been called expired, whatever they promised.
    expired: AtomicU64,
    clock: Clock,
}

#[derive(Debug)]
struct Kept {
    credentials: Credentials,
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

impl Chain {
    /// Asks nobody yet.
    pub fn new(region: &str) -> Self {
        let (kept, fetched, expired) = Default::default();
        Self { region: region.to_owned(), kept, fetched, expired, clock: Clock::System }
    }

    /// Which credentials a request that begins now is signed with, or older ones than it is.
    pub fn fetched(&self) -> u64 {
        self.fetched.load(Ordering::Acquire)
    }

    /// A service has called the credentials of a request expired, which began at `fetched`: the chain is asked again, unless
    /// it has been meanwhile, for another request.
    pub fn forget(&self, fetched: u64) {
        self.expired.fetch_max(fetched, Ordering::AcqRel);
    }

    /// Credentials to sign a request with.
    ///
    /// # Errors
    /// One that holds a [`Mendable`] where the user has never given any that work; any other is worth asking again.
    pub async fn get(&self) -> Result<Credentials, Box<dyn StdError + Send + Sync>> {
        // Held while the chain is asked: a hundred requests that wait for credentials ask once.
        let mut kept = self.kept.lock().await;
        if self.fetched() <= self.expired.load(Ordering::Acquire) {
            *kept = None;
        }
        let now = self.clock.now();
        if let Some(kept) = kept.as_ref().filter(|kept| kept.is_fresh(now)) {
            return Ok(kept.credentials.clone());
        }
        match (self.fetch().await, kept.as_mut()) {
            (Ok(found), _) => {
                let credentials = found.credentials.clone();
                tracing::debug!(key_id = %credentials.access_key_id(), "signing requests with new AWS credentials");
                *kept = Some(found);
                self.fetched.fetch_add(1, Ordering::AcqRel);
                Ok(credentials)
            }
            (Err(error), Some(old)) if old.is_valid(now) => {
                tracing::warn!(error = %chain_of(&error), "no new AWS credentials yet, going on with the old ones");
                old.fetched_at = now;
                Ok(old.credentials.clone())
            }
            (Err(error), _) => Err(refused(&error, self.fetched() == 0)),
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
            expires_at: since_1970.map(|since| Micros::try_from(since.as_micros()).unwrap_or(Micros::MAX)),
            credentials: found,
            fetched_at: self.clock.now(),
        })
    }
}

impl ProvideCredentials for Chain {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(async { self.get().await.map_err(CredentialsError::provider_error) })
    }
}

/// What is missing from the start is the user's to add; a service that did not answer is not, nor what has worked before.
fn refused(error: &CredentialsError, is_first: bool) -> Box<dyn StdError + Send + Sync> {
    let says = match error {
        CredentialsError::CredentialsNotLoaded(_) => Some(
            "no AWS credentials were found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or run where a \
             role is attached (instance, task, pod)"
                .to_owned(),
        ),
        CredentialsError::InvalidConfiguration(_) => {
            Some(format!("the AWS profile cannot be used: {}", chain_of(error)))
        }
        _ => of_sts(error),
    };
    match says {
        Some(says) if is_first => Box::new(Mendable(says)),
        Some(says) => format!("no new AWS credentials: {says}").into(),
        None => format!("no AWS credentials: {}; try again, or look at the role's provider", chain_of(error)).into(),
    }
}

/// What STS refuses about a role, and who mends it.
fn of_sts(error: &CredentialsError) -> Option<String> {
    let said = chain_of(error);
    let told = causes(error).find_map(|error| error.downcast_ref::<ErrorMetadata>());
    let says = told.and_then(ErrorMetadata::message).unwrap_or(&said);
    let code = |codes: &[&str]| codes.iter().any(|code| said.contains(code));
    if code(&["AccessDenied"]) {
        let action = match says.contains("WebIdentity") {
            true => "sts:AssumeRoleWithWebIdentity",
            false => "sts:AssumeRole",
        };
        let role = says.split_once("on resource: ").and_then(|(_, rest)| rest.split_whitespace().next());
        let role = role.map_or_else(|| "the role".to_owned(), |role| format!("the role `{role}`"));
        return Some(format!(
            "AWS does not let these credentials take on {role}: whoever manages it must allow them `{action}` in its trust \
             policy, and, of another account, in a policy of theirs (STS says: {says})"
        ));
    }
    if code(&["InvalidIdentityToken", "IDPRejectedClaim", "ExpiredTokenException"]) {
        return Some(format!(
            "AWS refuses the token or session that a role was asked for with: look at AWS_WEB_IDENTITY_TOKEN_FILE, at the \
             identity provider in IAM, or at the profile's `source_profile` (STS says: {says})"
        ));
    }
    code(&["InvalidClientTokenId", "SignatureDoesNotMatch"]).then(|| {
        format!(
            "AWS does not know the access key that a role was asked for with, or its secret is wrong: correct the profile's \
             `source_profile`, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (STS says: {says})"
        )
    })
}

/// An error and its causes in one line: the SDK's own texts leave the causes out.
fn chain_of(error: &CredentialsError) -> String {
    causes(error).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Micros = 60 * MICROS_PER_SECOND;

    fn kept(expires_at: Option<Micros>) -> Kept {
        let credentials = Credentials::new("k", "s", None, None, "test");
        Kept { credentials, expires_at, fetched_at: 0 }
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

    fn mendable(error: &CredentialsError, is_first: bool) -> Option<String> {
        Mendable::inside(refused(error, is_first).as_ref()).map(|why| why.0.clone())
    }

    #[test]
    fn what_is_missing_is_the_users_and_what_does_not_answer_is_not() {
        let missing = CredentialsError::not_loaded_no_source();
        assert!(mendable(&missing, true).is_some_and(|why| why.contains("AWS_ACCESS_KEY_ID")));
        assert_eq!(mendable(&missing, false), None, "there were some: they may come back");
        assert_eq!(mendable(&CredentialsError::provider_timed_out(FETCH_TIMEOUT), true), None);
    }

    #[test]
    fn a_role_that_is_refused_is_named() {
        let of = |code: &str, message: &str| {
            CredentialsError::provider_error(ErrorMetadata::builder().code(code).message(message).build())
        };
        let denied = "User: arn:aws:iam::1:user/u is not authorized to perform: sts:AssumeRole on resource: \
                      arn:aws:iam::2:role/lake";
        let says = mendable(&of("AccessDenied", denied), true).unwrap();
        assert!(says.contains("the role `arn:aws:iam::2:role/lake`") && says.contains("`sts:AssumeRole`"), "{says}");
        let says = mendable(&of("InvalidIdentityToken", "No OpenIDConnect provider found"), true).unwrap();
        assert!(says.contains("AWS_WEB_IDENTITY_TOKEN_FILE") && says.contains("No OpenIDConnect"), "{says}");
        let says = mendable(&of("InvalidClientTokenId", "The security token is invalid"), true).unwrap();
        assert!(says.contains("source_profile"), "{says}");
        assert_eq!(mendable(&of("ServiceUnavailable", ""), true), None);
    }
}
