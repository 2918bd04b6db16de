//! One task a shard: pages become micro-batches, in the shard's order, on the threads for heavy work.
//!
//! The one law: a page's share of the room in flight is kept until the engine's queue has its micro-batch. So what decoders have
//! ready is bounded over all shards, too.

use std::sync::Arc;

use tokio::sync::{Semaphore, mpsc};

use crate::error::{Error, Result};
use crate::micro_batch::{Decoder, MicroBatch};
use crate::stream::{ShardEvent, ShardKey};

/// What the engine hears of a shard, in order.
#[derive(Debug)]
pub(super) enum Decoded {
    Batch(MicroBatch),
    /// The reader stands at the shard's tip.
    CaughtUp(ShardKey),
    /// Nothing will ever follow.
    Finished(ShardKey),
    Failed(Error),
}

/// Decodes a shard until it ends, its reader stops, or the engine has gone. A permit of `decoding` is a page being decoded,
/// whichever shard's.
pub(super) async fn decode_shard(
    key: ShardKey,
    mut events: mpsc::Receiver<ShardEvent>,
    mut decoder: Decoder,
    decoding: Arc<Semaphore>,
    engine: mpsc::Sender<Decoded>,
) {
    while let Some(event) = events.recv().await {
        let mut share = None;
        let decoded = match event {
            ShardEvent::Page(page) => {
                share.clone_from(&page.share);
                // It is never closed.
                let _permit = decoding.acquire().await;
                let task = tokio::task::spawn_blocking(move || {
                    let batch = decoder.decode(&page);
                    (decoder, batch)
                });
                match task.await {
                    Ok((back, batch)) => {
                        decoder = back;
                        batch.map_or_else(Decoded::Failed, Decoded::Batch)
                    }
                    Err(panic) => {
                        let _ = engine.send(Decoded::Failed(Error::external("decoding a page", panic))).await;
                        return;
                    }
                }
            }
            ShardEvent::CaughtUp => Decoded::CaughtUp(key.clone()),
            ShardEvent::Finished => Decoded::Finished(key.clone()),
            ShardEvent::Failed(error) => Decoded::Failed(error),
        };
        let last = matches!(decoded, Decoded::Failed(_));
        if engine.send(decoded).await.is_err() || last {
            return;
        }
        drop(share);
    }
}

/// Turns a task's end into a result: a panic is a failure like any other.
pub(super) fn joined<T>(end: std::result::Result<Result<T>, tokio::task::JoinError>, what: &str) -> Result<T> {
    end.unwrap_or_else(|panic| Err(Error::external(what, panic)))
}
