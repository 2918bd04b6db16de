//! Whether the stream still holds what follows a saved position.
//!
//! The one law: a loss is never passed over. AWS resumes a position that has expired at the oldest record it still has,
//! without a word; so the record at the position itself is asked for, and when it is gone, what followed it may be too.
//!
//! It decides nothing: whether a loss stops the job or is accepted is the caller's.

use aws_sdk_kinesis::types::ShardIteratorType;
use tokio::time::Instant;

use super::backoff::{ATTEMPTS_UNBOUNDED, Backoff, Failure, Trouble};
use super::client::Client;
use super::pacing::Pacing;
use crate::clock::{MICROS_PER_SECOND, Micros};
use crate::error::{Error, Result};
use crate::stream::{SequenceNumber, ShardId};

/// The shortest retention a stream can have.
pub const RETENTION_MIN: Micros = 24 * 3600 * MICROS_PER_SECOND;

/// How far a reader's clock and the stream's may be apart: not a record's age.
const CLOCKS_APART_MAX: Micros = 300 * MICROS_PER_SECOND;

/// How long an iterator lives: who asks anew within it reads on as between two calls, along the edge of the retention, too.
const ITERATOR_LIFE: Micros = 300 * MICROS_PER_SECOND;

/// Records asked for to see whether a saved position still exists.
const PROBE_LIMIT: i32 = 1;

/// Answers to that question without a record before it is left open: AWS may answer with nothing on the way to one, and an
/// iterator may expire.
const PROBES_MAX: usize = 20;

/// What is at or after a saved position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Held {
    /// The record read last: nothing after it is lost.
    Saved,
    /// A later record; what was between, if anything, is lost. `None` when the service names none: nothing may have come, or
    /// all that came has expired.
    From(Option<SequenceNumber>),
    /// The shard itself is gone.
    Gone,
}

/// What was last heard of a shard: when, and since when what was unread then had arrived (microseconds, UTC).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    pub at: Micros,
    pub unread_since: Micros,
}

impl Heard {
    /// All that a slot tells.
    pub fn saved(unread_since: Micros) -> Self {
        Self { at: unread_since, unread_since }
    }

    /// Whether a stream that keeps records for `retention` must still hold what is unread. A shard of which nothing was read
    /// yet begins with what there is, as long as it answers.
    pub fn is_held(self, now: Micros, retention: Micros, is_read: bool) -> bool {
        let was_silent = now.saturating_sub(self.at) >= ITERATOR_LIFE;
        holds_since(if is_read && was_silent { self.unread_since } else { self.at }, now, retention)
    }
}

/// Whether a stream that keeps records for `retention` must still hold all that arrived since `unread_since`.
pub fn holds_since(unread_since: Micros, now: Micros, retention: Micros) -> bool {
    now.saturating_sub(unread_since) < retention.saturating_sub(CLOCKS_APART_MAX)
}

/// Asks for the record at `saved`.
///
/// # Errors
/// [`Error::External`] when the service refuses the question.
pub async fn held(
    client: &Client,
    stream: &str,
    shard: &ShardId,
    saved: &SequenceNumber,
    pacing: Pacing,
) -> Result<Held> {
    let what = format!("looking for the saved position in `{shard}`");
    let mut backoff = Backoff::new(client, shard);
    let at_saved = client
        .get_shard_iterator()
        .stream_name(stream)
        .shard_id(&**shard)
        .shard_iterator_type(ShardIteratorType::AtSequenceNumber)
        .starting_sequence_number(saved.to_string());
    // Without an iterator yet, or any more: an expired one is nobody's fault.
    let mut iterator = None;
    for _ in 0..PROBES_MAX {
        let current = match iterator.take() {
            Some(iterator) => iterator,
            None => match backoff.retry(&what, ATTEMPTS_UNBOUNDED, || at_saved.clone().send()).await {
                Ok(answer) => answer.shard_iterator.unwrap_or_default(),
                Err(failure) => return refused(failure, &what),
            },
        };
        let called = Instant::now();
        let request = client.get_records().shard_iterator(&current).limit(PROBE_LIMIT);
        match backoff.retry(&what, ATTEMPTS_UNBOUNDED, || request.clone().send()).await {
            Ok(answer) => {
                if let Some(first) = answer.records.first() {
                    let first = SequenceNumber::Kinesis(first.sequence_number.as_str().into());
                    return Ok(if first == *saved { Held::Saved } else { Held::From(Some(first)) });
                }
                let (Some(next), Some(1..)) = (answer.next_shard_iterator, answer.millis_behind_latest) else { break };
                iterator = Some(next);
            }
            Err(failure) if failure.trouble == Trouble::ExpiredIterator => {}
            Err(failure) => return refused(failure, &what),
        }
        tokio::time::sleep_until(called + pacing.wait_after(0)).await;
    }
    Ok(Held::From(None))
}

fn refused(failure: Failure, what: &str) -> Result<Held> {
    match failure.trouble {
        Trouble::InvalidArgument => Ok(Held::From(None)),
        Trouble::NotFound => Ok(Held::Gone),
        _ => Err(Error::external(what, failure)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of a retention of a day.
    #[test]
    fn what_is_unread_is_held_until_it_is_as_old_as_the_retention() {
        const HOUR: Micros = 3_600 * MICROS_PER_SECOND;
        let held = |heard: Heard, hours| [true, false].map(|is_read| heard.is_held(hours * HOUR, 24 * HOUR, is_read));
        assert_eq!(held(Heard::saved(HOUR), 24), [true; 2]);
        assert_eq!(held(Heard::saved(HOUR), 25), [false; 2]);
        // A first start reads the oldest there is; of a shard that falls silent then, that has expired soon.
        let heard = Heard { at: 30 * HOUR, unread_since: 6 * HOUR };
        assert_eq!(held(heard, 30), [true; 2]);
        assert_eq!(held(heard, 31), [false, true]);
        assert_eq!(held(heard, 54), [false; 2]);
    }
}
