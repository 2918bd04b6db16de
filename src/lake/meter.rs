//! What the lake's store is asked for: requests by kind, and bytes, as an object store's bill counts them.
//!
//! The one law: counting changes nothing. What is asked is passed on as it is, and counted whether it succeeds or not, as
//! a store bills answers, not successes.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, OBJECT_STORE_COALESCE_DEFAULT, ObjectMeta,
    ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart,
};
use serde::{Deserialize, Serialize};

use super::{LOG_FOLDER, Lake};

/// Objects a store of objects lists in one answer (S3's ListObjectsV2).
const LISTED_AT_ONCE: u64 = 1_000;

/// Requests by the kinds a bill knows, and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requests {
    /// PUT, COPY, and parts of uploads.
    pub put: u64,
    /// LIST, a thousand objects each.
    pub list: u64,
    /// GET and HEAD; ranges of one object that lie close to each other are one.
    pub get: u64,
    /// DELETE, which costs nothing.
    pub delete: u64,
    pub bytes_written: u64,
    /// Of the ranges asked for, without what a client reads along between two of them.
    pub bytes_read: u64,
    /// Of `get`, those of data files.
    pub data_get: u64,
    /// Of `bytes_read`, those of data files: Parquet outside of Delta logs.
    pub data_bytes_read: u64,
}

/// Counts what goes through a store. Cheap to share.
#[derive(Debug, Default)]
pub struct Meter {
    put: AtomicU64,
    list: AtomicU64,
    get: AtomicU64,
    delete: AtomicU64,
    bytes_written: AtomicU64,
    bytes_read: AtomicU64,
    data_get: AtomicU64,
    data_bytes_read: AtomicU64,
}

impl Lake {
    /// The same lake, and a meter of all that goes through its store from now on.
    #[must_use]
    pub fn metered(self) -> (Self, Arc<Meter>) {
        let meter = Arc::new(Meter::default());
        let counting = Arc::clone(&meter);
        (self.with_wrapped_store(|inner| Arc::new(MeteredStore { inner, meter: counting })), meter)
    }
}

impl Meter {
    /// What was counted so far.
    pub fn requests(&self) -> Requests {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Requests {
            put: count(&self.put),
            list: count(&self.list),
            get: count(&self.get),
            delete: count(&self.delete),
            bytes_written: count(&self.bytes_written),
            bytes_read: count(&self.bytes_read),
            data_get: count(&self.data_get),
            data_bytes_read: count(&self.data_bytes_read),
        }
    }

    fn read(&self, location: &Path, requests: u64, bytes: u64) {
        add(&self.get, requests);
        add(&self.bytes_read, bytes);
        if is_data(location) {
            add(&self.data_get, requests);
            add(&self.data_bytes_read, bytes);
        }
    }
}

impl Requests {
    /// What was asked since an earlier reading of the same meter.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self {
            put: self.put - earlier.put,
            list: self.list - earlier.list,
            get: self.get - earlier.get,
            delete: self.delete - earlier.delete,
            bytes_written: self.bytes_written - earlier.bytes_written,
            bytes_read: self.bytes_read - earlier.bytes_read,
            data_get: self.data_get - earlier.data_get,
            data_bytes_read: self.data_bytes_read - earlier.data_bytes_read,
        }
    }
}

fn add(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}

fn is_data(location: &Path) -> bool {
    location.extension() == Some("parquet") && !location.parts().any(|part| part.as_ref() == LOG_FOLDER)
}

/// Requests that ranges of one object become: those with less than a mebibyte between them are read in one.
fn merged(ranges: &[Range<u64>]) -> u64 {
    let mut ranges: Vec<&Range<u64>> = ranges.iter().collect();
    ranges.sort_unstable_by_key(|range| range.start);
    let (mut requests, mut end) = (0, None);
    for range in ranges {
        if end.is_none_or(|end| range.start > end + OBJECT_STORE_COALESCE_DEFAULT) {
            requests += 1;
        }
        end = end.max(Some(range.end));
    }
    requests
}

/// A store that is counted.
#[derive(Debug)]
struct MeteredStore {
    inner: Arc<dyn ObjectStore>,
    meter: Arc<Meter>,
}

impl MeteredStore {
    fn counted(&self, listing: BoxStream<'static, Result<ObjectMeta>>) -> BoxStream<'static, Result<ObjectMeta>> {
        let meter = Arc::clone(&self.meter);
        let mut listed = 0;
        add(&meter.list, 1);
        Box::pin(futures::StreamExt::inspect(listing, move |_| {
            listed += 1;
            if listed % LISTED_AT_ONCE == 0 {
                add(&meter.list, 1);
            }
        }))
    }
}

impl fmt::Display for MeteredStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "metered {}", self.inner)
    }
}

#[async_trait]
impl ObjectStore for MeteredStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        add(&self.meter.put, 1);
        add(&self.meter.bytes_written, payload.content_length() as u64);
        self.inner.put_opts(location, payload, opts).await
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        add(&self.meter.put, 1);
        let inner = self.inner.put_multipart_opts(location, opts).await?;
        Ok(Box::new(MeteredUpload { inner, meter: Arc::clone(&self.meter) }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let is_head = options.head;
        let found = self.inner.get_opts(location, options).await;
        let bytes = found.as_ref().map_or(0, |found| found.range.end - found.range.start);
        self.meter.read(location, 1, if is_head { 0 } else { bytes });
        found
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let bytes = ranges.iter().map(|range| range.end - range.start).sum();
        self.meter.read(location, merged(ranges), bytes);
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let meter = Arc::clone(&self.meter);
        let counted = futures::StreamExt::inspect(locations, move |_| add(&meter.delete, 1));
        self.inner.delete_stream(Box::pin(counted))
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.counted(self.inner.list(prefix))
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.counted(self.inner.list_with_offset(prefix, offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let found = self.inner.list_with_delimiter(prefix).await;
        let objects = found.as_ref().map_or(0, |found| found.objects.len() + found.common_prefixes.len());
        add(&self.meter.list, 1 + objects as u64 / LISTED_AT_ONCE);
        found
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        add(&self.meter.put, 1);
        self.inner.copy_opts(from, to, options).await
    }
}

/// An upload whose parts and end are counted.
#[derive(Debug)]
struct MeteredUpload {
    inner: Box<dyn MultipartUpload>,
    meter: Arc<Meter>,
}

#[async_trait]
impl MultipartUpload for MeteredUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        add(&self.meter.put, 1);
        add(&self.meter.bytes_written, data.content_length() as u64);
        self.inner.put_part(data)
    }

    async fn complete(&mut self) -> Result<PutResult> {
        add(&self.meter.put, 1);
        self.inner.complete().await
    }

    async fn abort(&mut self) -> Result<()> {
        add(&self.meter.delete, 1);
        self.inner.abort().await
    }
}

#[cfg(test)]
mod tests {
    use futures::TryStreamExt;
    use object_store::ObjectStoreExt;

    use super::super::testing;
    use super::*;

    #[tokio::test]
    async fn each_request_is_counted_by_its_kind_and_its_bytes() {
        let (_folder, lake) = testing::lake();
        let (lake, meter) = lake.metered();
        let store = lake.store();
        let (data, log) = (Path::from("t/d=1/a.parquet"), Path::from("t/_delta_log/0.checkpoint.parquet"));
        store.put(&data, vec![0; 100].into()).await.unwrap();
        store.put(&log, vec![0; 10].into()).await.unwrap();
        let written = meter.requests();
        assert_eq!((written.put, written.bytes_written, written.get), (2, 110, 0));
        let mut upload = store.put_multipart(&Path::from("t/d=1/b.parquet")).await.unwrap();
        upload.put_part(vec![0; 70].into()).await.unwrap();
        upload.put_part(vec![0; 7].into()).await.unwrap();
        upload.complete().await.unwrap();
        // Begin, two parts, end.
        let uploaded = meter.requests().since(written);
        assert_eq!(uploaded, Requests { put: 4, bytes_written: 77, ..Requests::default() });
        let written = meter.requests();
        store.head(&data).await.unwrap();
        store.get(&log).await.unwrap().bytes().await.unwrap();
        store.get_range(&data, 5..20).await.unwrap();
        store.get_ranges(&data, &[0..10, 50..60]).await.unwrap();
        store.get(&Path::from("t/none.parquet")).await.unwrap_err();
        store.list(None).try_collect::<Vec<_>>().await.unwrap();
        store.list_with_offset(None, &data).try_collect::<Vec<_>>().await.unwrap();
        store.list_with_delimiter(None).await.unwrap();
        store.delete(&data).await.unwrap();
        let found = meter.requests().since(written);
        let wanted = Requests {
            list: 3,
            get: 5,
            delete: 1,
            bytes_read: 10 + 15 + 20,
            data_get: 4,
            data_bytes_read: 15 + 20,
            ..Requests::default()
        };
        assert_eq!(found, wanted);
    }

    #[test]
    fn ranges_close_to_each_other_are_one_request() {
        const GAP: u64 = OBJECT_STORE_COALESCE_DEFAULT;
        assert_eq!(merged(&[]), 0);
        assert_eq!(merged(&[GAP + 10..GAP + 20, 0..10]), 1);
        assert_eq!(merged(&[GAP + 11..GAP + 20, 0..10]), 2);
        assert_eq!(merged(&[0..3 * GAP, 5..10, 2 * GAP..2 * GAP + 1]), 1);
    }
}
