//! A Kinesis inside this process, for laptops and tests: `ferrokinesis` behind a gate.
//!
//! The one law: a read sees all of a PutRecords request or nothing of it, and a reshard is over when it is answered. The
//! server itself takes sequence numbers and inserts records in two steps, so a reader between them would pass over a lower
//! number for ever; it also holds a map's guard over an `.await` while reading, which waiting writers could turn into a
//! deadlock. One lock in front rules out both: writes alone, reads together.
//!
//! PutRecords and GetRecords take a shorter way through the same gate (`shortcut`), and what came that way is handed to
//! the server's own store only when the server must see it (`tail`). SubscribeToShard's events pass it one by one
//! (`subscription`). The rest is the server's own. Nothing of it outlives the process.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_kinesis::config::SharedHttpClient;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::serve::ListenerExt;
use bytes::Bytes;
use ferrokinesis::sequence::{resolve_shard_id, shard_ix_to_hex};
use ferrokinesis::store::{Store, StoreOptions};
use ferrokinesis::types::StreamStatus;
use tokio::net::TcpListener;
use tokio::sync::{RwLock, RwLockReadGuard, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::tail::Tail;
use super::{shortcut, subscription, within};
use crate::error::{Context, Error, Result};
use crate::stream::SequenceNumber;

/// Largest request: 10 MiB of records (the limit of one PutRecords where large records are allowed) as base64 and JSON.
pub(super) const REQUEST_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Open shards over all streams; the server's own limit of 10 is AWS's default quota. Far above what one process reads.
const SHARDS_MAX: u32 = 10_000;

/// Records deleted in one pass through the gate: a few milliseconds in which puts wait.
const DELETE_RECORDS_MAX: usize = 2_000;

/// Looks at the streams after a reshard, a millisecond apart, until all are usable again. The server needs one or two.
const SETTLE_POLLS_MAX: usize = 2_000;

/// How long open connections may take to finish when the server stops.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// A Kinesis server in this process. Stops when dropped.
pub struct EmbeddedKinesis {
    url: String,
    router: Router,
    gate: Gate,
    server: JoinHandle<std::io::Result<()>>,
    stop: DropGuard,
}

impl fmt::Debug for EmbeddedKinesis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbeddedKinesis").field("url", &self.url).finish_non_exhaustive()
    }
}

impl EmbeddedKinesis {
    /// Starts a server on `listen` (`address:port`; port 0 picks a free one) that says it is in `region`. It has no streams.
    ///
    /// # Errors
    /// [`Error::Usage`] when `listen` is no address or cannot be listened on.
    pub async fn start(listen: &str, region: &str) -> Result<Self> {
        Self::start_with(listen, region, |router| router).await
    }

    /// The same with layers around the router: where faults are put in front of it.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn start_with(listen: &str, region: &str, layers: impl FnOnce(Router) -> Router) -> Result<Self> {
        let listener = TcpListener::bind(listen)
            .await
            .map_err(|error| Error::usage(format!("`stream.listen`: cannot listen on `{listen}`: {error}")))?;
        let address = listener.local_addr().context(|| format!("listening on `{listen}`"))?;
        let (router, store) = ferrokinesis::create_app(StoreOptions {
            create_stream_ms: 0,
            delete_stream_ms: 0,
            update_stream_ms: 0,
            shard_limit: SHARDS_MAX,
            aws_account_id: account_id(),
            aws_region: region.to_owned(),
            ..StoreOptions::default()
        });
        let stop = CancellationToken::new();
        let gate = Gate { tail: Arc::default(), store, written: watch::Sender::new(()), stop: stop.clone() };
        let router = router
            .layer(DefaultBodyLimit::max(REQUEST_BYTES_MAX))
            .layer(middleware::from_fn_with_state(gate.clone(), pass));
        let router = layers(router);
        let server = tokio::spawn(serve(listener, router.clone(), stop.clone()));
        Ok(Self { url: url(address), router, gate, server, stop: stop.drop_guard() })
    }

    /// `http://address:port`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A client's way to this server without a socket between: all that is asked passes the same layers and the same gate.
    pub fn http_client(&self) -> SharedHttpClient {
        within::http_client(self.router.clone())
    }

    /// Frees the records of a shard up to and including `sequence`: they are committed, and memory is all there is.
    /// Costs what is deleted, whatever else the shard holds. Returns how many records were freed.
    ///
    /// # Errors
    /// [`Error::Broken`] when `shard` is no shard id.
    pub async fn delete_through(&self, stream: &str, shard: &str, sequence: &SequenceNumber) -> Result<usize> {
        let (_, index) = resolve_shard_id(shard).map_err(|_| Error::broken(format!("`{shard}` is no shard id")))?;
        // The store's keys are `<shard in hex>/<sequence number>`; all numbers have 56 digits, so text order is their
        // order, and `!` sorts right behind the last key to delete.
        let prefix = shard_ix_to_hex(index);
        let (first, end) = (format!("{prefix}/"), format!("{prefix}/{sequence}!"));
        let mut freed = 0;
        loop {
            let _reading = self.gate.tail.read().await;
            let records = self.gate.store.get_records_range_limited(stream, &first, &end, DELETE_RECORDS_MAX).await;
            let keys: Vec<String> = records.into_iter().map(|(key, _)| key).collect();
            self.gate.store.delete_record_keys(stream, &keys).await;
            freed += keys.len();
            if keys.len() < DELETE_RECORDS_MAX {
                break;
            }
        }
        let taken = self.gate.tail.write().await.take_through(stream, &prefix, &sequence.to_string());
        // They are dropped behind the gate: that frees whole requests.
        Ok(freed + taken.len())
    }

    /// Lets running requests finish, for at most two seconds, and closes the server.
    ///
    /// # Errors
    /// [`Error::External`] when the server had failed before.
    pub async fn stop(self) -> Result<()> {
        drop(self.stop);
        let abort = self.server.abort_handle();
        match tokio::time::timeout(STOP_TIMEOUT, self.server).await {
            Ok(Ok(served)) => served.context(|| "serving the embedded stream"),
            Ok(Err(failed)) => Err(Error::external("serving the embedded stream", failed)),
            Err(_) => {
                abort.abort();
                Ok(())
            }
        }
    }
}

async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) -> std::io::Result<()> {
    // Without this an answer of two packets waits for a delayed acknowledgement, 40 ms on Linux.
    let listener = listener.tap_io(|connection| {
        if let Err(error) = connection.set_nodelay(true) {
            tracing::debug!("setting TCP_NODELAY: {error}");
        }
    });
    axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await
}

fn url(address: SocketAddr) -> String {
    format!("http://{address}")
}

/// Twelve digits of this server's own. They are part of each stream's ARN, and so of its incarnation: creation times have
/// whole seconds, and a server started again within one must not pass for the old one, whose sequence numbers it would take.
fn account_id() -> String {
    format!("{:012}", uuid::Uuid::new_v4().as_u128() % 1_000_000_000_000)
}

/// The lock in front of the store, around what the store has not been given yet.
#[derive(Clone)]
pub(super) struct Gate {
    pub tail: Arc<RwLock<Tail>>,
    pub store: Store,
    /// Says that something was written: subscribers look then.
    pub written: watch::Sender<()>,
    /// The server ends.
    pub stop: CancellationToken,
}

/// How a request passes the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Passage {
    /// With others.
    Read,
    /// Alone.
    Write,
    /// Alone, until the change it starts is complete.
    Reshape,
}

/// The operation that `x-amz-target` names (`Kinesis_20131202.PutRecords`).
pub(super) fn operation(headers: &HeaderMap) -> &str {
    let target = headers.get("x-amz-target").and_then(|value| value.to_str().ok()).unwrap_or_default();
    target.strip_prefix("Kinesis_20131202.").unwrap_or_default()
}

/// How that operation passes.
fn passage(headers: &HeaderMap) -> Passage {
    match operation(headers) {
        "PutRecord" | "PutRecords" => Passage::Write,
        "CreateStream" | "DeleteStream" | "SplitShard" | "MergeShards" | "UpdateShardCount" => Passage::Reshape,
        _ => Passage::Read,
    }
}

/// Whether the operation tells of shards and streams only, whatever records they hold.
fn is_about_shards(headers: &HeaderMap) -> bool {
    matches!(operation(headers), "ListShards" | "ListStreams" | "DescribeStream" | "DescribeStreamSummary")
}

/// Reads the whole request first, so that a slow client holds nobody up, then passes the gate.
async fn pass(State(gate): State<Gate>, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, REQUEST_BYTES_MAX).await else {
        return StatusCode::PAYLOAD_TOO_LARGE.into_response();
    };
    match operation(&parts.headers) {
        "PutRecords" => {
            if let Some(answer) = shortcut::put_records(&gate.store, &gate.tail, &parts.headers, &body).await {
                gate.written.send_replace(());
                return answer;
            }
        }
        "SubscribeToShard" => {
            let _told = gate.told().await;
            let answer = next.run(whole(parts, body.clone())).await;
            return subscription::pushed(&gate, &body, answer).await;
        }
        "GetRecords" => {
            if let Some(asked) = shortcut::asked(&gate.store, &parts.headers, &body) {
                let reading = gate.tail.read().await;
                match asked.find(&gate.store, &reading).await {
                    // The server finds none either, and knows whether the shard has ended. Still behind the gate: a record
                    // that came in between would lie before the iterator it answers with.
                    Some(found) if found.is_empty() => return next.run(whole(parts, body)).await,
                    Some(found) => {
                        drop(reading);
                        if let Some(answer) = asked.answer(&found) {
                            return answer;
                        }
                    }
                    None => {}
                }
            }
        }
        _ => {}
    }
    gate.run(whole(parts, body), next).await
}

fn whole(parts: Parts, body: Bytes) -> Request {
    Request::from_parts(parts, Body::from(body))
}

impl Gate {
    /// Lets the server itself answer. It sees every record.
    async fn run(&self, request: Request, next: Next) -> Response {
        let passage = passage(request.headers());
        if passage == Passage::Read {
            let about_shards = is_about_shards(request.headers());
            let _reading = if about_shards { self.tail.read().await } else { self.told().await };
            return next.run(request).await;
        }
        let mut writing = self.tail.write().await;
        writing.hand_over(&self.store).await;
        let response = next.run(request).await;
        if passage == Passage::Reshape {
            self.settle().await;
        }
        self.written.send_replace(());
        response
    }

    /// Passes with others, the server having been told of every record.
    async fn told(&self) -> RwLockReadGuard<'_, Tail> {
        let reading = self.tail.read().await;
        if reading.is_empty() {
            return reading;
        }
        drop(reading);
        let mut writing = self.tail.write().await;
        writing.hand_over(&self.store).await;
        writing.downgrade()
    }

    /// Waits until no stream is being created, changed or deleted: the server does that in a task of its own, and a put
    /// between could land in a shard that is already closed.
    async fn settle(&self) {
        for _ in 0..SETTLE_POLLS_MAX {
            let mut settled = true;
            for name in self.store.list_stream_names().await {
                if let Ok(stream) = self.store.get_stream(&name).await {
                    settled &= stream.stream_status == StreamStatus::Active;
                }
            }
            if settled {
                return;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        tracing::warn!("the embedded stream did not finish a change");
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn writes_pass_alone() {
        let of = |operation: &'static str| {
            passage(&HeaderMap::from_iter([("x-amz-target".parse().unwrap(), HeaderValue::from_static(operation))]))
        };
        assert_eq!(of("Kinesis_20131202.PutRecords"), Passage::Write);
        assert_eq!(of("Kinesis_20131202.SplitShard"), Passage::Reshape);
        assert_eq!(of("Kinesis_20131202.GetRecords"), Passage::Read);
        assert_eq!(passage(&HeaderMap::new()), Passage::Read);
    }
}
