//! How fast a shard may be read.
//!
//! The one law: a shard's own limits (5 calls and 2 MB a second, shared by all its readers) are never reached by us, so
//! that throttling is the exception. The next call waits for the last one's bytes: a 10 MiB answer costs five seconds.

use std::time::Duration;

use tokio::time::Instant;

use crate::config::Endpoint;

/// Bytes of records an answer should hold: below the 10 MiB an answer may have, so that few are cut short. (How large the
/// next records are is guessed from the last ones.)
const ANSWER_BYTES: usize = 8 * 1024 * 1024;

/// `Limit` of the first call, before the size of a record is known: at most 500 MiB of the largest records from a server
/// that does not cap its answers.
const LIMIT_FIRST: usize = 500;

/// What the server of a shard may be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pacing {
    /// Least time between two calls on one shard.
    pub call_interval: Duration,
    /// Bytes of records a second and shard; `None`: as many as there are.
    pub bytes_per_second: Option<u64>,
    /// Records a call, at most 10,000.
    pub limit: usize,
}

impl Pacing {
    /// Within AWS's limits: 4 of 5 calls a second, 2 MB a second.
    pub const AWS: Self =
        Self { call_interval: Duration::from_millis(250), bytes_per_second: Some(2_000_000), limit: 10_000 };

    /// A server of our own has no limits to keep; the interval only bounds the cost of empty pages (4,096 records every
    /// 5 ms are eight hundred thousand a second and shard). Pages are as long as those of files: larger answers leave the
    /// caches, and beyond 8 MiB the allocator gives each back to the system and takes the next from there.
    pub const LOCAL: Self = Self { call_interval: Duration::from_millis(5), bytes_per_second: None, limit: 4_096 };

    /// What the endpoint's server allows.
    pub fn for_endpoint(endpoint: &Endpoint) -> Self {
        match endpoint {
            Endpoint::Aws => Self::AWS,
            Endpoint::Embedded | Endpoint::Url(_) => Self::LOCAL,
        }
    }
}

/// The pace of one shard's reader.
#[derive(Debug)]
pub struct Pace {
    pacing: Pacing,
    limit: usize,
}

impl Pace {
    pub fn new(pacing: Pacing) -> Self {
        Self { pacing, limit: LIMIT_FIRST.min(pacing.limit) }
    }

    /// What the server may be asked for.
    pub fn pacing(&self) -> Pacing {
        self.pacing
    }

    /// `Limit` of the next call.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Takes note of an answer to a call made at `called` and says when the next call may be made.
    pub fn answered(&mut self, called: Instant, records: usize, bytes: usize) -> Instant {
        if let Some(record_bytes) = bytes.checked_div(records) {
            self.limit = (ANSWER_BYTES / record_bytes.max(1)).clamp(1, self.pacing.limit);
        }
        let for_bytes = self.pacing.bytes_per_second.map_or(Duration::ZERO, |rate| {
            Duration::from_micros((bytes as u64).saturating_mul(1_000_000) / rate.max(1))
        });
        called + for_bytes.max(self.pacing.call_interval)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn four_calls_and_two_megabytes_a_second_on_aws() {
        let (mut pace, now) = (Pace::new(Pacing::AWS), Instant::now());
        assert_eq!(pace.answered(now, 0, 0) - now, Duration::from_millis(250));
        assert_eq!(pace.answered(now, 1_000, 100_000) - now, Duration::from_millis(250));
        assert_eq!(pace.answered(now, 10_000, 10_000_000) - now, Duration::from_secs(5));
    }

    #[tokio::test]
    async fn the_limit_follows_the_size_of_records() {
        let (mut pace, now) = (Pace::new(Pacing::LOCAL), Instant::now());
        assert_eq!(pace.limit(), LIMIT_FIRST);
        pace.answered(now, 500, 500 * 497);
        assert_eq!(pace.limit(), 4_096);
        pace.answered(now, 10, 10 * 1024 * 1024);
        assert_eq!(pace.limit(), 8);
        pace.answered(now, 0, 0);
        assert_eq!(pace.limit(), 8, "an empty answer says nothing about size");
        pace.answered(now, 3, 0);
        assert_eq!(pace.limit(), 4_096, "empty records");
    }
}
