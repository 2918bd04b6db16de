//! The stream: shards and their lineage, reading, writing, and the embedded server.
//!
//! The one law: what Kinesis acknowledged is read once, in its shard's order, children after both parents, or reading
//! stops with a sentence. Throttling, expired iterators and servers that fail for a while are waited out; a gap is not.
//!
//! ```text
//! Producer ─PutRecords─▶ stream ─GetRecords, or──▶ one ShardReader a shard ─ 2 events ─▶ OpenedShard.events
//!                          │     SubscribeToShard
//!                          └──ListShards──▶ reader (one task) ◀─ Lineage (pure)       16 shards ─▶ SourceHandle.opened
//! ```
//!
//! Records are handed over as they arrived; what is in them is [`crate::micro_batch`]'s business. Every client here is
//! the AWS SDK's, whichever server answers.

pub mod access;
mod ageing;
mod backoff;
pub mod client;
mod consumer;
pub mod embedded;
mod fan_out;
pub mod faults;
mod lineage;
mod listing;
mod pacing;
mod packing;
mod places;
pub mod producer;
pub mod reader;
mod refusal;
mod renewal;
mod retention;
mod shard_reader;
mod shortcut;
mod subscription;
mod tail;
mod terms;
#[cfg(test)]
mod tests;
mod within;

pub use ageing::span;
pub use client::{Client, StreamFacts, connect, create_stream, stream_facts};
pub use consumer::{Consumer, registered};
pub use embedded::EmbeddedKinesis;
pub use faults::{Does, Faults, Struck};
pub use lineage::{Lineage, ListedShard};
pub use listing::list_shards;
pub use pacing::Pacing;
pub use producer::{Acknowledged, Producer, PutRecord};
pub use retention::{Held, RETENTION_MIN, held, holds_since};
pub use terms::Terms;
