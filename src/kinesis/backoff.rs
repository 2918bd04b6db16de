//! What a failed call means, and how long to wait before the next one.
//!
//! The one law: whatever passes by itself (throttling, 5xx, a broken connection) is waited out with full jitter and a
//! bounded delay; whatever does not is returned at once. The SDK itself retries nothing, so that every wait is counted
//! and said here; of a row of throttled calls the first one. Credentials that have expired are fetched again before each
//! further call, and waited for within a bound.

use std::error::Error as StdError;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_kinesis::config::http::HttpResponse;
use aws_sdk_kinesis::error::{ProvideErrorMetadata, SdkError};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::client::Client;
use super::refusal::{Asked, Site, is_about_time, is_expired};
use crate::error::{Error, Mendable, causes};

/// What the service calls it when the limits of a shard are reached.
const THROTTLED: &str = "ProvisionedThroughputExceededException";

/// The first delay is drawn from zero to this: half a GetRecords interval.
const DELAY_FIRST: Duration = Duration::from_millis(100);

/// Longer delays gain nothing: a shard's limits are counted per second, and a 10 MiB answer costs five.
const DELAY_MAX: Duration = Duration::from_secs(10);

/// Doublings until [`DELAY_MAX`] is reached from [`DELAY_FIRST`] (100 ms · 2^7 > 10 s); more would overflow.
const DOUBLINGS_MAX: u32 = 7;

/// Attempts of a call made while starting: a wrong address is said within about four seconds.
pub const ATTEMPTS_AT_START: u32 = 6;

/// Attempts of a call in a running job: throttling never fails it.
pub const ATTEMPTS_UNBOUNDED: u32 = u32::MAX;

/// Attempts of a call without valid credentials: about ten minutes, as long as the lake's slots are tried. Whoever renews
/// them by hand has the time; a job that reads nothing for longer must not look alive.
const ATTEMPTS_TO_RENEW: u32 = 120;

/// Attempts of a call whose time is refused: by the first answer the SDK has learned what the service's clock shows.
const ATTEMPTS_IN_TIME: u32 = 2;

/// What a failed call means for the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Passes by itself: throttling, 5xx, a connection or an answer that broke.
    Transient,
    /// The session of the credentials is over, or nobody gives new ones.
    NoCredentials,
    /// The service's clock and this machine's differ.
    Skewed,
    /// The shard iterator is older than five minutes.
    ExpiredIterator,
    /// The page token of ListShards is older than five minutes.
    ExpiredToken,
    /// The request contradicts what the stream knows.
    InvalidArgument,
    /// No such stream or shard.
    NotFound,
    /// It exists already, or is being changed.
    InUse,
    /// Anything else; asking again does not help.
    Refused,
}

/// A call that failed: what it means, and the service's words, or ours where they say what to try.
#[derive(Debug)]
pub struct Failure {
    pub trouble: Trouble,
    message: String,
    /// More was asked of a shard than it gives or takes.
    pub is_throttled: bool,
    /// What the user can mend.
    mendable: Option<Mendable>,
}

impl Failure {
    pub(super) fn of<E>(error: &SdkError<E, HttpResponse>, site: &Site) -> Self
    where
        E: StdError + ProvideErrorMetadata + Asked + 'static,
    {
        let (trouble, message) = (trouble(error), message(error));
        let (mendable, told, is_throttled) = match error {
            SdkError::ServiceError(failure) => {
                let code = failure.err().code().unwrap_or_default();
                (site.mendable(E::ACTION, code, failure.err().message()), site.waits(code), code == THROTTLED)
            }
            _ => {
                let found = Mendable::inside(error).map(|found| found.0.clone());
                (found, site.unreachable(&message).map(|says| format!("{says} ({message})")), false)
            }
        };
        Self { trouble, message: told.unwrap_or(message), is_throttled, mendable: mendable.map(Mendable) }
    }

    /// One in our words, which nobody can mend.
    pub(super) fn new(trouble: Trouble, message: impl Into<String>) -> Self {
        Self { trouble, message: message.into(), is_throttled: false, mendable: None }
    }

    /// The failure as an error naming the action that failed.
    pub fn into_error(self, what: impl Into<String>) -> Error {
        Error::external(what, self)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for Failure {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.mendable.as_ref().map(|mendable| mendable as _)
    }
}

/// Sorts an error by what to do about it.
fn trouble<E: StdError + ProvideErrorMetadata + 'static>(error: &SdkError<E, HttpResponse>) -> Trouble {
    match error {
        SdkError::ServiceError(failure) => {
            let code = failure.err().code().unwrap_or_default();
            match is_about_time(code, failure.err().message()) {
                true => Trouble::Skewed,
                false => of_code(code, failure.raw().status().as_u16()),
            }
        }
        _ if Mendable::inside(error).is_some() => Trouble::Refused,
        _ if is_without_credentials(error) => Trouble::NoCredentials,
        SdkError::TimeoutError(_) | SdkError::ResponseError(_) => Trouble::Transient,
        SdkError::DispatchFailure(failure) if !failure.is_user() => Trouble::Transient,
        _ => Trouble::Refused,
    }
}

/// Whether the request was never sent, for want of credentials.
fn is_without_credentials(error: &(dyn StdError + 'static)) -> bool {
    causes(error).any(<dyn StdError>::is::<CredentialsError>)
}

/// Sorts a service's error code; codes it does not know by the HTTP status.
fn of_code(code: &str, status: u16) -> Trouble {
    match code {
        "ExpiredIteratorException" => Trouble::ExpiredIterator,
        "ExpiredNextTokenException" => Trouble::ExpiredToken,
        "InvalidArgumentException" => Trouble::InvalidArgument,
        "ResourceNotFoundException" => Trouble::NotFound,
        "ResourceInUseException" => Trouble::InUse,
        THROTTLED
        | "KMSThrottlingException"
        | "LimitExceededException"
        | "ThrottlingException"
        | "RequestLimitExceeded"
        | "InternalFailureException"
        | "RequestTimeoutException" => Trouble::Transient,
        _ if is_expired(code) => Trouble::NoCredentials,
        _ if status >= 500 || status == 429 => Trouble::Transient,
        _ => Trouble::Refused,
    }
}

/// The words of an error and of what caused it, outermost first.
fn message<E: StdError + ProvideErrorMetadata + 'static>(error: &SdkError<E, HttpResponse>) -> String {
    if let SdkError::ServiceError(failure) = error {
        let code = failure.err().code().unwrap_or("an error without a code");
        return match failure.err().message() {
            Some(text) => format!("{code}: {text}"),
            None => format!("{code} (HTTP {})", failure.raw().status().as_u16()),
        };
    }
    words(error)
}

/// What an error and its causes say, outermost first.
pub(super) fn words(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text = format!("{text}: {next}");
        cause = next.source();
    }
    text
}

/// How often a call is made that fails so, of the attempts that its caller allows.
fn attempts_of(trouble: Trouble, attempts: u32) -> u32 {
    match trouble {
        Trouble::Transient => attempts,
        Trouble::NoCredentials => attempts.min(ATTEMPTS_TO_RENEW),
        Trouble::Skewed => attempts.min(ATTEMPTS_IN_TIME),
        _ => 1,
    }
}

/// Full-jitter delays: each is drawn evenly from zero to a bound that doubles up to [`DELAY_MAX`].
#[derive(Debug)]
pub struct Backoff {
    site: Arc<Site>,
    rng: StdRng,
    failures: u32,
}

impl Backoff {
    /// Delays for `what`, of calls by this client. Jitter needs no good randomness, only that two shards and two processes
    /// differ; the processes of two containers have the same number.
    pub fn new(client: &Client, what: &str) -> Self {
        Self::seeded(client.site(), RandomState::new().hash_one(what))
    }

    fn seeded(site: Arc<Site>, seed: u64) -> Self {
        Self { site, rng: StdRng::seed_from_u64(seed), failures: 0 }
    }

    /// How long to wait after one more failure.
    pub fn delay(&mut self) -> Duration {
        let bound = (DELAY_FIRST * (1 << self.failures.min(DOUBLINGS_MAX))).min(DELAY_MAX);
        self.failures = self.failures.saturating_add(1);
        self.rng.random_range(Duration::ZERO..=bound)
    }

    /// Drawn evenly from zero to one.
    pub fn draw(&mut self) -> f64 {
        self.rng.random()
    }

    /// A call succeeded: the next failure is a first one.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// Makes `call` until it succeeds, fails for good, or failed `attempts` times in a row. `what` names it in warnings.
    pub async fn retry<T, E, F>(&mut self, what: &str, attempts: u32, call: impl Fn() -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
        E: StdError + ProvideErrorMetadata + Asked + 'static,
    {
        self.reset();
        loop {
            let failure = match call().await {
                Ok(answer) => {
                    self.reset();
                    return Ok(answer);
                }
                Err(error) => Failure::of(&error, &self.site),
            };
            self.wait_out(what, attempts, failure).await?;
        }
    }

    /// Waits until the next attempt of a call that failed so; gives the failure back when there is to be none.
    pub async fn wait_out(&mut self, what: &str, attempts: u32, failure: Failure) -> Result<(), Failure> {
        if self.failures.saturating_add(1) >= attempts_of(failure.trouble, attempts) {
            return Err(failure);
        }
        let is_news = self.failures == 0 || !failure.is_throttled;
        let delay = self.delay();
        match is_news {
            true => tracing::warn!(failures = self.failures, ?delay, "{what}: {failure}; trying again"),
            false => tracing::debug!(failures = self.failures, ?delay, "{what}: {failure}; trying again"),
        }
        tokio::time::sleep(delay).await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinesis::client::connect_to_url;

    #[test]
    fn throttling_and_broken_servers_pass_and_the_rest_does_not() {
        for code in ["ProvisionedThroughputExceededException", "KMSThrottlingException", "LimitExceededException"] {
            assert_eq!(of_code(code, 400), Trouble::Transient, "{code}");
        }
        assert_eq!(of_code("", 503), Trouble::Transient);
        assert_eq!(of_code("InternalFailure", 500), Trouble::Transient);
        assert_eq!(of_code("AccessDeniedException", 400), Trouble::Refused);
        assert_eq!(of_code("KMSAccessDeniedException", 400), Trouble::Refused);
        assert_eq!(of_code("ExpiredIteratorException", 400), Trouble::ExpiredIterator);
        assert_eq!(of_code("ExpiredTokenException", 400), Trouble::NoCredentials);
    }

    #[test]
    fn throttling_is_waited_out_for_ever_and_missing_credentials_are_not() {
        let of = |trouble| attempts_of(trouble, ATTEMPTS_UNBOUNDED);
        let troubles = [Trouble::Transient, Trouble::NoCredentials, Trouble::Skewed, Trouble::Refused];
        assert_eq!(troubles.map(of), [ATTEMPTS_UNBOUNDED, ATTEMPTS_TO_RENEW, ATTEMPTS_IN_TIME, 1]);
        assert_eq!(attempts_of(Trouble::NoCredentials, ATTEMPTS_AT_START), ATTEMPTS_AT_START);
    }

    #[test]
    fn delays_are_bounded_spread_and_fall_back_after_a_success() {
        let mut backoff = Backoff::seeded(Arc::default(), 7);
        let delays: Vec<Duration> = (0..200).map(|_| backoff.delay()).collect();
        assert!(delays[0] <= DELAY_FIRST);
        assert!(delays.iter().all(|delay| *delay <= DELAY_MAX));
        // Full jitter: the late delays fill the whole range, not only its upper half.
        assert!(delays[20..].iter().any(|delay| *delay < DELAY_MAX / 4));
        assert!(delays[20..].iter().any(|delay| *delay > DELAY_MAX / 2));
        backoff.reset();
        assert!(backoff.delay() <= DELAY_FIRST);
    }

    #[test]
    fn two_readers_of_one_shard_wait_differently() {
        let client = connect_to_url("http://127.0.0.1:1", "eu-west-1");
        let delays = || {
            let mut backoff = Backoff::new(&client, "shardId-000000000000");
            (0..8).map(|_| backoff.delay()).collect::<Vec<_>>()
        };
        assert_ne!(delays(), delays(), "in two containers both are process 1");
    }
}
