//! Writing: PutRecords until every record is acknowledged.
//!
//! The one law: no request is sent while an earlier one has entries that failed, and only those are sent again. So records
//! of one partition key keep their order from request to request. Two limits are the service's: within one request it may
//! take a later record of a key and refuse an earlier one (unless they are aggregated, see `packing`), and a request that
//! timed out may have been applied, so its records can be in the stream twice. Identity is in the records themselves, not here.

use std::time::Duration;

use aws_sdk_kinesis::error::{BuildError, SdkError};
use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::{PutRecordsRequestEntry, PutRecordsResultEntry};
use bytes::Bytes;

use super::backoff::{ATTEMPTS_UNBOUNDED, Backoff};
use super::client::Client;
use super::packing::{Packed, pack};
use crate::config;
use crate::error::{Error, Result};
use crate::stream::{SequenceNumber, ShardId};

/// Records of one request: the service's limit.
const REQUEST_RECORDS_MAX: usize = 500;

/// Bytes of one request's records and partition keys: what a stream takes unless larger records were allowed.
pub const REQUEST_BYTES_MAX: usize = 5 * 1024 * 1024;

/// Records worth handing over at once when they are aggregated: 4 MB of records of 500 bytes, so still one request.
const AGGREGATED_RECORDS: usize = 8_000;

/// One record to write.
#[derive(Clone, Debug)]
pub struct PutRecord {
    pub partition_key: String,
    pub data: Bytes,
}

impl PutRecord {
    /// Bytes that count towards the service's limits.
    pub fn size(&self) -> usize {
        self.partition_key.len() + self.data.len()
    }
}

/// Where a record landed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acknowledged {
    pub shard: ShardId,
    pub sequence: SequenceNumber,
}

/// Writes to one stream. A clone shares the connection; order is kept within one call of [`Self::put`] and between calls
/// that wait for each other.
#[derive(Clone, Debug)]
pub struct Producer {
    client: Client,
    stream: String,
    aggregation: Option<Aggregation>,
}

/// How records are put together.
#[derive(Clone, Copy, Debug)]
struct Aggregation {
    hash_keys: u32,
    linger: Duration,
}

impl Producer {
    /// Each record is a record of the stream.
    pub fn new(client: Client, stream: impl Into<String>) -> Self {
        Self { client, stream: stream.into(), aggregation: None }
    }

    /// As the configuration says: of each call's records aggregates are made where `stream.aggregate` is on.
    pub fn of(client: Client, stream: &config::Stream) -> Self {
        let aggregation = Aggregation { hash_keys: stream.aggregate_keys, linger: stream.linger };
        Self { aggregation: stream.aggregate.then_some(aggregation), ..Self::new(client, &stream.name) }
    }

    /// How many records are worth handing over at once.
    pub fn records_at_once(&self) -> usize {
        if self.aggregation.is_some() { AGGREGATED_RECORDS } else { REQUEST_RECORDS_MAX }
    }

    /// How long whoever has records should wait for more of them.
    pub fn linger(&self) -> Duration {
        self.aggregation.map_or(Duration::ZERO, |aggregation| aggregation.linger)
    }

    /// Puts all records, in as many requests as it takes, waiting out throttling and failing servers for as long as they
    /// last (drop the future to give up). Returns one answer a record, in the order given; those of an aggregate share one.
    ///
    /// # Errors
    /// [`Error::External`] when the service refuses a request for good; records before it may have been written.
    pub async fn put(&self, records: &[PutRecord]) -> Result<Vec<Acknowledged>> {
        let Some(Aggregation { hash_keys, .. }) = self.aggregation else { return self.put_entries(records).await };
        let mut landed: Vec<Option<Acknowledged>> = vec![None; records.len()];
        for round in pack(records, hash_keys) {
            for (packed, place) in round.iter().zip(self.put_entries(&round).await?) {
                packed.members.iter().for_each(|member| landed[*member] = Some(place.clone()));
            }
        }
        Ok(landed.into_iter().flatten().collect())
    }

    async fn put_entries<E: Entry>(&self, entries: &[E]) -> Result<Vec<Acknowledged>> {
        let mut acknowledged = Vec::with_capacity(entries.len());
        let mut backoff = Backoff::new(&self.client, &self.stream);
        let mut rest = entries;
        while !rest.is_empty() {
            let (request, later) = rest.split_at(request_length(rest));
            self.put_request(request, &mut backoff, &mut acknowledged).await?;
            rest = later;
        }
        Ok(acknowledged)
    }

    /// Puts the entries of one request; those that fail are sent again, alone, until none is left.
    async fn put_request<E: Entry>(
        &self,
        records: &[E],
        backoff: &mut Backoff,
        acknowledged: &mut Vec<Acknowledged>,
    ) -> Result<()> {
        let mut answers: Vec<Option<Acknowledged>> = vec![None; records.len()];
        let mut missing: Vec<usize> = (0..records.len()).collect();
        let mut refusals = Backoff::new(&self.client, &self.stream);
        loop {
            let results = self.send(|| missing.iter().map(|&at| &records[at]), backoff).await?;
            if results.len() != missing.len() {
                return Err(Error::broken(format!(
                    "stream `{}`: {} records put, {} answers",
                    self.stream,
                    missing.len(),
                    results.len()
                )));
            }
            let mut refused = None;
            let mut failed = Vec::new();
            let mut shards = Vec::new();
            for (at, result) in missing.into_iter().zip(results) {
                match answer(&result, &mut shards) {
                    Some(landed) => answers[at] = Some(landed),
                    None => {
                        failed.push(at);
                        refused = result.error_code;
                    }
                }
            }
            missing = failed;
            if missing.is_empty() {
                acknowledged.extend(answers.into_iter().flatten());
                return Ok(());
            }
            let delay = refusals.delay();
            tracing::debug!(
                entries = missing.len(),
                code = refused.as_deref().unwrap_or("none"),
                ?delay,
                "stream `{}` refused entries; sending them again",
                self.stream
            );
            tokio::time::sleep(delay).await;
        }
    }

    /// One request, repeated until the service answers it; written anew each time, so that nothing is kept for the next.
    async fn send<'r, E: Entry + 'r, I: Iterator<Item = &'r E>>(
        &self,
        records: impl Fn() -> I,
        backoff: &mut Backoff,
    ) -> Result<Vec<PutRecordsResultEntry>> {
        let what = format!("putting records to stream `{}`", self.stream);
        let put = || {
            let request = self.client.put_records().stream_name(&self.stream);
            let entries: std::result::Result<Vec<_>, _> = records().map(Entry::build).collect();
            async move { request.set_records(Some(entries.map_err(SdkError::construction_failure)?)).send().await }
        };
        let answer =
            backoff.retry(&what, ATTEMPTS_UNBOUNDED, put).await.map_err(|failure| failure.into_error(&what))?;
        Ok(answer.records)
    }
}

/// What a request can hold.
trait Entry {
    /// Bytes that count towards the service's limits.
    fn size(&self) -> usize;

    fn build(&self) -> std::result::Result<PutRecordsRequestEntry, BuildError>;
}

impl Entry for PutRecord {
    fn size(&self) -> usize {
        self.size()
    }

    fn build(&self) -> std::result::Result<PutRecordsRequestEntry, BuildError> {
        let entry = PutRecordsRequestEntry::builder().partition_key(&self.partition_key);
        entry.data(Blob::new(&*self.data)).build()
    }
}

impl Entry for Packed {
    fn size(&self) -> usize {
        self.partition_key.len() + self.data.len()
    }

    fn build(&self) -> std::result::Result<PutRecordsRequestEntry, BuildError> {
        let entry = PutRecordsRequestEntry::builder().partition_key(&self.partition_key);
        entry.explicit_hash_key(&self.hash_key).data(Blob::new(&*self.data)).build()
    }
}

/// How many of the entries fit into one request. At least one: whether a single record is too large, the service says.
fn request_length<E: Entry>(records: &[E]) -> usize {
    let mut bytes = 0;
    let fitting = records.iter().take(REQUEST_RECORDS_MAX).take_while(|record| {
        bytes += record.size();
        bytes <= REQUEST_BYTES_MAX
    });
    fitting.count().max(1)
}

/// Where an entry landed; `None` when it failed. `shards` are those named before, few: their names are shared.
fn answer(result: &PutRecordsResultEntry, shards: &mut Vec<ShardId>) -> Option<Acknowledged> {
    let (None, Some(shard), Some(sequence)) = (&result.error_code, &result.shard_id, &result.sequence_number) else {
        return None;
    };
    let shard = match shards.iter().find(|known| ***known == **shard) {
        Some(known) => known.clone(),
        None => {
            shards.push(shard.as_str().into());
            shards.last()?.clone()
        }
    };
    Some(Acknowledged { shard, sequence: SequenceNumber::Kinesis(sequence.as_str().into()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(count: usize, bytes: usize) -> Vec<PutRecord> {
        vec![PutRecord { partition_key: "k".into(), data: Bytes::from(vec![b' '; bytes - 1]) }; count]
    }

    #[test]
    fn a_request_holds_at_most_500_records_and_5_mib() {
        assert_eq!(request_length(&records(501, 10)), 500);
        assert_eq!(request_length(&records(7, 10)), 7);
        assert_eq!(request_length(&records(10, 1024 * 1024)), 5);
        assert_eq!(request_length(&records(2, 6 * 1024 * 1024)), 1);
    }
}
