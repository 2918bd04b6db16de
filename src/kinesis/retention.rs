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

/// The shortest retention a stream can have. Who was away for less cannot have missed a record.
pub const RETENTION_MIN: Micros = 24 * 3600 * MICROS_PER_SECOND;

/// Records asked for to see whether a saved position still exists.
const PROBE_LIMIT: i32 = 1;

/// Empty answers to that question before it is left open: AWS may answer with nothing on the way to a record.
const PROBES_MAX: usize = 20;

/// What is at or after a saved position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Held {
    /// The record read last: nothing after it is lost.
    Saved,
    /// No record: nothing came, or all that came has expired.
    Nothing,
    /// A later record; what was between, if anything, is lost. `None` when the service does not name it.
    From(Option<SequenceNumber>),
    /// The shard itself is gone.
    Gone,
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
    let mut backoff = Backoff::new(shard);
    let request = client
        .get_shard_iterator()
        .stream_name(stream)
        .shard_id(&**shard)
        .shard_iterator_type(ShardIteratorType::AtSequenceNumber)
        .starting_sequence_number(saved.to_string());
    let found = backoff.retry(&what, ATTEMPTS_UNBOUNDED, || request.clone().send()).await;
    let mut iterator = match found {
        Ok(answer) => answer.shard_iterator.unwrap_or_default(),
        Err(failure) => return refused(failure, &what),
    };
    for _ in 0..PROBES_MAX {
        let called = Instant::now();
        let request = client.get_records().shard_iterator(&iterator).limit(PROBE_LIMIT);
        let answer = match backoff.retry(&what, ATTEMPTS_UNBOUNDED, || request.clone().send()).await {
            Ok(answer) => answer,
            Err(failure) => return refused(failure, &what),
        };
        if let Some(first) = answer.records.first() {
            let first = SequenceNumber::Kinesis(first.sequence_number.as_str().into());
            return Ok(if first == *saved { Held::Saved } else { Held::From(Some(first)) });
        }
        let (Some(next), Some(1..)) = (answer.next_shard_iterator, answer.millis_behind_latest) else { break };
        iterator = next;
        tokio::time::sleep_until(called + pacing.wait_after(0)).await;
    }
    Ok(Held::Nothing)
}

fn refused(failure: Failure, what: &str) -> Result<Held> {
    match failure.trouble {
        Trouble::InvalidArgument => Ok(Held::From(None)),
        Trouble::NotFound => Ok(Held::Gone),
        _ => Err(Error::external(what, failure)),
    }
}
