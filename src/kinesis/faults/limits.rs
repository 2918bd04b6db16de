//! What the service lets be read of one shard: five calls and two megabytes a second.
//!
//! The one law: a call is refused only when the service would refuse it. After an answer of ten megabytes it refuses for
//! five seconds.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// The service's limits for one shard; its megabytes are taken to be the larger ones.
const CALLS_PER_SECOND: usize = 5;
const BYTES_PER_SECOND: u64 = 2 << 20;

/// The latest reads of a shard.
#[derive(Debug, Default)]
pub(in crate::kinesis) struct Reads {
    /// Calls of the last second that were let through.
    calls: VecDeque<Instant>,
    /// What was answered has been paid for then.
    paid_at: Option<Instant>,
}

impl Reads {
    /// Whether a call made now is let through; it counts then.
    pub(in crate::kinesis) fn admit(&mut self, now: Instant) -> bool {
        while self.calls.front().is_some_and(|call| now - *call >= Duration::from_secs(1)) {
            self.calls.pop_front();
        }
        if self.calls.len() >= CALLS_PER_SECOND || self.paid_at.is_some_and(|paid| now < paid) {
            return false;
        }
        self.calls.push_back(now);
        true
    }

    /// The call made at `called` was answered by so many bytes of records.
    pub(in crate::kinesis) fn answered(&mut self, called: Instant, bytes: usize) {
        let time = Duration::from_micros((bytes as u64).saturating_mul(1_000_000) / BYTES_PER_SECOND);
        let paid = self.paid_at.map_or(called, |paid| paid.max(called));
        self.paid_at = Some(paid + time);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn five_calls_and_two_megabytes_a_second() {
        let (mut reads, start) = (Reads::default(), Instant::now());
        let at = |millis| start + Duration::from_millis(millis);
        let admitted = [0, 10, 20, 30, 40, 50, 999].map(|millis| reads.admit(at(millis)));
        assert_eq!(admitted, [true, true, true, true, true, false, false]);
        assert!(reads.admit(at(1_000)), "the first is a second old");
        reads.answered(at(1_000), 10 << 20);
        assert!(!reads.admit(at(5_999)));
        assert!(reads.admit(at(6_000)), "five seconds after the call that was answered so much");
    }
}
