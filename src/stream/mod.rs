//! What a source is, whichever source it is: shards, positions, records, pages.
//!
//! The one law: progress is an interval `(from, to]` over a shard's sequence numbers, and every page carries the interval
//! it covers. A gap or an overlap between two intervals of a shard is an error, never a guess.
//!
//! Two things are sources: a Kinesis stream ([`crate::kinesis`]) and a set of files ([`crate::files`]). Both hand over
//! [`OpenedShard`]s; everything after them is the same code.

mod aggregate;
mod in_flight;
mod page;
mod pause;
mod position;
mod unread;

pub use aggregate::{Aggregate, Aggregator, MissingKey, UserRecord};
pub use in_flight::{InFlight, Share};
pub use page::{OpenedShard, Page, Record, ShardEvent, SourceHandle};
pub use pause::{Pause, Paused, pause};
pub use position::{Interval, Position, SequenceNumber, ShardId, ShardKey, ShardProgress, SourceId};
pub use unread::{Unread, UnreadShards};
