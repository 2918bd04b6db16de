//! What a failed call means, and how long to wait before the next one.
//!
//! The one law: whatever passes by itself (throttling, 5xx, a broken connection) is waited out with full jitter and a
//! bounded delay; whatever does not is returned at once. The SDK itself retries nothing, so that every wait is counted
//! and said here.

use std::error::Error as StdError;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use aws_sdk_kinesis::config::http::HttpResponse;
use aws_sdk_kinesis::error::{ProvideErrorMetadata, SdkError};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::error::Error;

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

/// What a failed call means for the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Passes by itself: throttling, 5xx, a connection or an answer that broke.
    Transient,
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

/// A call that failed: what it means, and the service's words.
#[derive(Debug)]
pub struct Failure {
    pub trouble: Trouble,
    message: String,
}

impl Failure {
    pub(super) fn new(trouble: Trouble, message: String) -> Self {
        Self { trouble, message }
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

impl StdError for Failure {}

impl<E: StdError + ProvideErrorMetadata + 'static> From<SdkError<E, HttpResponse>> for Failure {
    fn from(error: SdkError<E, HttpResponse>) -> Self {
        Self { trouble: trouble(&error), message: message(&error) }
    }
}

/// Sorts an error by what to do about it.
fn trouble<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> Trouble {
    match error {
        SdkError::TimeoutError(_) | SdkError::ResponseError(_) => Trouble::Transient,
        SdkError::DispatchFailure(failure) if !failure.is_user() => Trouble::Transient,
        SdkError::ServiceError(failure) => {
            of_code(failure.err().code().unwrap_or_default(), failure.raw().status().as_u16())
        }
        _ => Trouble::Refused,
    }
}

/// Sorts a service's error code; codes it does not know by the HTTP status.
fn of_code(code: &str, status: u16) -> Trouble {
    match code {
        "ExpiredIteratorException" => Trouble::ExpiredIterator,
        "ExpiredNextTokenException" => Trouble::ExpiredToken,
        "InvalidArgumentException" => Trouble::InvalidArgument,
        "ResourceNotFoundException" => Trouble::NotFound,
        "ResourceInUseException" => Trouble::InUse,
        "ProvisionedThroughputExceededException"
        | "KMSThrottlingException"
        | "LimitExceededException"
        | "ThrottlingException"
        | "RequestLimitExceeded"
        | "InternalFailureException"
        | "RequestTimeoutException" => Trouble::Transient,
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

/// Full-jitter delays: each is drawn evenly from zero to a bound that doubles up to [`DELAY_MAX`].
#[derive(Debug)]
pub struct Backoff {
    rng: StdRng,
    failures: u32,
}

impl Backoff {
    /// Delays for `what`. Jitter needs no good randomness, only that two shards and two processes differ.
    pub fn new(what: &str) -> Self {
        let mut hasher = DefaultHasher::new();
        (what, std::process::id()).hash(&mut hasher);
        Self { rng: StdRng::seed_from_u64(hasher.finish()), failures: 0 }
    }

    /// How long to wait after one more failure.
    pub fn delay(&mut self) -> Duration {
        let bound = (DELAY_FIRST * (1 << self.failures.min(DOUBLINGS_MAX))).min(DELAY_MAX);
        self.failures = self.failures.saturating_add(1);
        self.rng.random_range(Duration::ZERO..=bound)
    }

    /// A call succeeded: the next failure is a first one.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// Makes `call` until it succeeds, fails for good, or failed `attempts` times in a row. `what` names it in warnings.
    pub async fn retry<T, E, F>(&mut self, what: &str, attempts: u32, call: impl Fn() -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
        E: StdError + ProvideErrorMetadata + 'static,
    {
        self.reset();
        loop {
            let failure = match call().await {
                Ok(answer) => {
                    self.reset();
                    return Ok(answer);
                }
                Err(error) => Failure::from(error),
            };
            if failure.trouble != Trouble::Transient || self.failures.saturating_add(1) >= attempts {
                return Err(failure);
            }
            let delay = self.delay();
            tracing::warn!(failures = self.failures, ?delay, "{what}: {failure}; trying again");
            tokio::time::sleep(delay).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    }

    #[test]
    fn delays_are_bounded_spread_and_fall_back_after_a_success() {
        let mut backoff = Backoff::new("test");
        let delays: Vec<Duration> = (0..200).map(|_| backoff.delay()).collect();
        assert!(delays[0] <= DELAY_FIRST);
        assert!(delays.iter().all(|delay| *delay <= DELAY_MAX));
        // Full jitter: the late delays fill the whole range, not only its upper half.
        assert!(delays[20..].iter().any(|delay| *delay < DELAY_MAX / 4));
        assert!(delays[20..].iter().any(|delay| *delay > DELAY_MAX / 2));
        backoff.reset();
        assert!(backoff.delay() <= DELAY_FIRST);
    }
}
