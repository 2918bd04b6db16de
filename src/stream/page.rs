//! Records and pages: what a reader hands over, in a shard's order.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{Interval, Pause, Position, SequenceNumber, ShardId, ShardKey, Share, UnreadShards};
use crate::clock::Micros;
use crate::error::Result;

/// One user record as it arrived: the bytes of one JSON object, or of several lines of them.
#[derive(Clone, Debug)]
pub struct Record {
    pub sequence: SequenceNumber,
    /// When the stream took it in (a file: when it was opened), microseconds UTC.
    pub arrival_time: Micros,
    pub data: Bytes,
}

/// Records of one shard in order, and the interval they cover.
#[derive(Clone, Debug)]
pub struct Page {
    pub shard: ShardKey,
    /// Covers all `records`; may be wider when what was read held none.
    pub interval: Interval,
    pub records: Vec<Record>,
    /// The room its records take, with the other pages of the same answer; `None` where pages are few and small (files).
    pub share: Option<Arc<Share>>,
}

/// What happens on a shard, in order.
#[derive(Debug)]
pub enum ShardEvent {
    /// Records to process.
    Page(Page),
    /// An empty page while the source said that the reader is at the tip.
    CaughtUp,
    /// The shard has ended: nothing will ever follow. Always the last event.
    Finished,
    /// Reading cannot go on: the pipeline stops with this error.
    Failed(crate::error::Error),
}

/// A shard that has begun to be read.
#[derive(Debug)]
pub struct OpenedShard {
    pub key: ShardKey,
    pub position: Position,
    pub parents: BTreeSet<ShardId>,
    /// Bounded: a reader waits when the pipeline is behind.
    pub events: mpsc::Receiver<ShardEvent>,
    /// Makes the reader wait before it asks for more.
    pub pause: Pause,
}

/// A running source.
///
/// A source that has told everything (all files at their end) closes `opened`.
#[derive(Debug)]
pub struct SourceHandle {
    /// New shards to read, as they are found; children only after their parents.
    pub opened: mpsc::Receiver<OpenedShard>,
    /// The pipeline sends each shard whose end is part of a decided epoch; only then may its children start.
    pub decided_finished: mpsc::UnboundedSender<ShardId>,
    /// How old what is unread may be.
    pub unread: UnreadShards,
    /// Cancel to stop reading; shards then end without `Finished`.
    pub stop: CancellationToken,
    /// Ends when reading has stopped.
    pub task: JoinHandle<Result<()>>,
}
