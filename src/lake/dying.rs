//! A store that dies: after so many writes and deletions nothing is answered any more, as after a kill at that point.
//!
//! The one law: what it acknowledged before is there, and of what it was asked afterwards nothing is.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

/// See the module.
#[derive(Debug)]
pub(crate) struct DyingStore {
    inner: Arc<dyn ObjectStore>,
    left: Arc<AtomicUsize>,
}

impl DyingStore {
    /// Lives for `left` writes and deletions; the counter tells how many are left.
    pub(crate) fn new(inner: Arc<dyn ObjectStore>, left: &Arc<AtomicUsize>) -> Self {
        Self { inner, left: Arc::clone(left) }
    }

    /// One more change; `Err` once dead.
    fn change(left: &AtomicUsize) -> Result<()> {
        match left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)) {
            Ok(_) => Ok(()),
            Err(_) => Err(dead()),
        }
    }

    fn alive(&self) -> Result<()> {
        if self.left.load(Ordering::Relaxed) > 0 { Ok(()) } else { Err(dead()) }
    }
}

fn dead() -> Error {
    Error::Generic { store: "dying", source: "the process was killed".into() }
}

impl fmt::Display for DyingStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "dying {}", self.inner)
    }
}

#[async_trait]
impl ObjectStore for DyingStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        Self::change(&self.left)?;
        self.inner.put_opts(location, payload, opts).await
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        Self::change(&self.left)?;
        self.inner.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.alive()?;
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let (inner, left) = (Arc::clone(&self.inner), Arc::clone(&self.left));
        let one_by_one = locations.then(move |location| {
            let (inner, left) = (Arc::clone(&inner), Arc::clone(&left));
            async move {
                Self::change(&left)?;
                let one = futures::stream::iter([location]).boxed();
                inner.delete_stream(one).next().await.unwrap_or_else(|| Err(dead()))
            }
        });
        one_by_one.boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.alive() {
            Ok(()) => self.inner.list(prefix),
            Err(error) => futures::stream::iter([Err(error)]).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.alive()?;
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        Self::change(&self.left)?;
        self.inner.copy_opts(from, to, options).await
    }
}
