//! A bucket as the lake's store: `object_store`'s client, made on first use, with errors that say who mends them.
//!
//! The one law: an answer is passed on as what it means to the protocol. "Exists" is said only of an object that exists,
//! "not found" only of an object that is not there; everything else is an error, and after one nobody knows whether a write
//! happened.
//!
//! It retries what cannot hurt: each request as `[s3]` says, any request once more with new credentials when the old ones
//! have expired, and a create that met another write of the same name. It decides nothing else.

mod connect;
mod credentials;
mod refusal;
mod upload;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use object_store::aws::AmazonS3;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error as StoreError, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result as StoreResult,
};
use tokio::sync::OnceCell;

use self::connect::{RegionSeen, connect};
use self::credentials::ChainCredentials;
use self::refusal::{Doing, Site, is_conflict, is_expired, told};
use self::upload::Upload;
use crate::config;

/// Tries of one create that meets another write of its name (409): S3 asks to try again, and by then the other one has
/// ended, so that the second try mostly answers.
const CONFLICTS_MAX: u32 = 5;
/// Before the n-th of those tries, times n: a write takes some tens of milliseconds.
const CONFLICT_PAUSE: Duration = Duration::from_millis(50);
/// Keys of one request that deletes: what S3's DeleteObjects takes.
const DELETES_MAX: usize = 1_000;

/// One bucket, rooted at its top.
#[derive(Debug)]
pub(super) struct S3Store {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    bucket: String,
    /// Of the lake; errors name it.
    prefix: String,
    settings: config::S3,
    connection: OnceCell<Connection>,
}

/// The client, and what is learned while it is used.
#[derive(Debug)]
struct Connection {
    client: AmazonS3,
    region: String,
    credentials: Arc<ChainCredentials>,
    region_seen: RegionSeen,
}

impl S3Store {
    /// Asks nobody: the first request looks for the region and for credentials.
    pub(super) fn new(bucket: &str, prefix: &str, settings: &config::S3) -> Self {
        let (bucket, prefix, settings) = (bucket.to_owned(), prefix.to_owned(), settings.clone());
        Self { shared: Arc::new(Shared { bucket, prefix, settings, connection: OnceCell::new() }) }
    }
}

impl Shared {
    async fn connection(&self) -> StoreResult<&Connection> {
        self.connection.get_or_try_init(|| connect(&self.bucket, &self.settings)).await
    }

    /// Asks S3, and once more with new credentials when the old ones had expired: nothing was done then.
    async fn ask<'s, F, T>(&'s self, request: impl Fn(&'s AmazonS3) -> F) -> StoreResult<T>
    where
        F: Future<Output = StoreResult<T>>,
    {
        let connection = self.connection().await?;
        let fetched = connection.credentials.chain().fetched();
        match request(&connection.client).await {
            Err(error) if connection.renew(&error, fetched) => request(&connection.client).await,
            answer => answer,
        }
    }

    /// Deletes by one request; an answer for each key, or one for all.
    async fn delete(&self, locations: Vec<Path>) -> Vec<StoreResult<Path>> {
        let answers = self.ask(|client| {
            let answers = client.delete_stream(stream::iter(locations.clone()).map(Ok).boxed());
            async move {
                let mut answers: Vec<StoreResult<Path>> = answers.collect().await;
                // Expired is the request as a whole, whose one answer this is.
                match answers.iter().position(|answer| answer.as_ref().is_err_and(is_expired)) {
                    Some(at) => answers.swap_remove(at).map(|_| Vec::new()),
                    None => Ok(answers),
                }
            }
        });
        let answers = answers.await.unwrap_or_else(|error| vec![Err(error)]);
        answers.into_iter().map(|answer| answer.map_err(|error| self.told(Doing::Delete, error))).collect()
    }

    /// The error as people should read it.
    fn told(&self, doing: Doing, error: StoreError) -> StoreError {
        let connection = self.connection.get();
        let site = Site {
            bucket: &self.bucket,
            prefix: &self.prefix,
            endpoint: self.settings.endpoint.as_deref(),
            region: connection.map_or("", |connection| &connection.region),
            region_seen: connection.and_then(|connection| connection.region_seen.get()),
        };
        told(&site, doing, error)
    }
}

impl Connection {
    /// Whether the request, begun at `fetched`, is to be sent again because its credentials had expired.
    fn renew(&self, error: &StoreError, fetched: u64) -> bool {
        let is_expired = is_expired(error);
        if is_expired {
            self.credentials.chain().forget(fetched);
        }
        is_expired
    }
}

impl fmt::Display for S3Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}", self.shared.bucket)
    }
}

#[async_trait]
impl ObjectStore for S3Store {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> StoreResult<PutResult> {
        let is_create = matches!(options.mode, PutMode::Create);
        let mut conflicts = 0;
        loop {
            let answer = self.shared.ask(|client| client.put_opts(location, payload.clone(), options.clone())).await;
            match answer {
                // 409 is not 412: somebody writes this name just now, or deletes it, and nobody knows how that ends.
                Err(error) if is_create && is_conflict(&error) && conflicts < CONFLICTS_MAX => {
                    conflicts += 1;
                    tokio::time::sleep(CONFLICT_PAUSE * conflicts).await;
                }
                answer => return answer.map_err(|error| self.shared.told(Doing::Write, error)),
            }
        }
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> StoreResult<Box<dyn MultipartUpload>> {
        Ok(Box::new(Upload::begin(Arc::clone(&self.shared), location.clone(), &options).await?))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> StoreResult<GetResult> {
        let answer = self.shared.ask(|client| client.get_opts(location, options.clone())).await;
        answer.map_err(|error| self.shared.told(Doing::Read, error))
    }

    fn delete_stream(&self, locations: BoxStream<'static, StoreResult<Path>>) -> BoxStream<'static, StoreResult<Path>> {
        let shared = Arc::clone(&self.shared);
        let deleted = locations.try_chunks(DELETES_MAX).then(move |locations| {
            let shared = Arc::clone(&shared);
            async move {
                // Keys gathered before an error of whoever names them are left.
                let locations = locations.map_err(|stopped| stopped.1)?;
                Ok::<_, StoreError>(stream::iter(shared.delete(locations).await))
            }
        });
        deleted.try_flatten().boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, StoreResult<ObjectMeta>> {
        self.listed(prefix, None)
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, StoreResult<ObjectMeta>> {
        self.listed(prefix, Some(offset.clone()))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> StoreResult<ListResult> {
        let answer = self.shared.ask(|client| client.list_with_delimiter(prefix)).await;
        answer.map_err(|error| self.shared.told(Doing::List, error))
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> StoreResult<()> {
        let answer = self.shared.ask(|client| client.copy_opts(from, to, options.clone())).await;
        answer.map_err(|error| self.shared.told(Doing::Write, error))
    }
}

impl S3Store {
    fn listed(&self, prefix: Option<&Path>, offset: Option<Path>) -> BoxStream<'static, StoreResult<ObjectMeta>> {
        let (shared, errors, prefix) = (Arc::clone(&self.shared), Arc::clone(&self.shared), prefix.cloned());
        let listed = async move {
            let connection = shared.connection().await?;
            let fetched = connection.credentials.chain().fetched();
            let list = || match &offset {
                Some(offset) => connection.client.list_with_offset(prefix.as_ref(), offset),
                None => connection.client.list(prefix.as_ref()),
            };
            let mut objects = list().fuse();
            // Only before the first object can it begin again without naming one twice.
            let first = match objects.next().await {
                Some(Err(error)) if connection.renew(&error, fetched) => {
                    objects = list().fuse();
                    None
                }
                first => first,
            };
            Ok::<_, StoreError>(stream::iter(first).chain(objects))
        };
        stream::once(listed).try_flatten().map_err(move |error| errors.told(Doing::List, error)).boxed()
    }
}
