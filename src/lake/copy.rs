//! Copying data files as they are to another place: a folder, this bucket, another one.
//!
//! The one law: the copy is there whole or not at all. Within one bucket the store copies; else bytes pass through this
//! process, a few parts at a time. A local copy shares nothing with the file it is of.

use std::sync::Arc;

use futures::TryStreamExt;
use object_store::ObjectStoreExt;
use object_store::buffered::BufWriter;
use object_store::path::Path;
use tokio::io::AsyncWriteExt;

use super::state::DataFile;
use super::{Lake, Table};
use crate::error::{Context, Error, Result};

/// Bytes that go to the store at once; smaller files are one request.
const PART_BYTES: usize = 8 << 20;
/// Parts of one file under way.
const PARTS_AT_ONCE: usize = 2;

impl Table {
    /// Copies a data file to `at` below another place, over whatever is there. Holds some 24 MiB at most.
    ///
    /// # Errors
    /// [`Error::External`] when the file is gone or a store does not answer; [`Error::Broken`] for a file of another size
    /// than the log says.
    pub async fn copy_file(&self, file: &DataFile, to: &Lake, at: &Path) -> Result<()> {
        let key = file.key()?;
        let what = || format!("cannot copy `{}` of table `{}` to `{}{at}`", file.path, self.name(), to.url());
        let target = at.parts().fold(to.base.clone(), Path::join);
        if self.lake().shares_bucket(to) {
            let source = key.parts().fold(self.lake().table_path(self.name()), Path::join);
            return self.lake().root.copy(&source, &target).await.context(what);
        }
        let found = self.store().get(&key).await.context(what)?;
        let mut parts = found.into_stream();
        let mut upload =
            BufWriter::with_capacity(Arc::clone(&to.root), target, PART_BYTES).with_max_concurrency(PARTS_AT_ONCE);
        let mut bytes = 0;
        let passed = async {
            while let Some(part) = parts.try_next().await.context(what)? {
                bytes += part.len() as u64;
                upload.put(part).await.context(what)?;
            }
            if bytes == file.bytes {
                return Ok(());
            }
            let (path, name, said) = (&file.path, self.name(), file.bytes);
            Err(Error::broken(format!("`{path}` of table `{name}` has {bytes} bytes, and the log says {said}")))
        };
        let passed = passed.await;
        if passed.is_ok() {
            return upload.shutdown().await.context(what);
        }
        // What stays of it is ended by the bucket's rule for uploads.
        if let Err(error) = upload.abort().await {
            tracing::debug!(%error, "an upload was not ended");
        }
        passed
    }
}

impl Lake {
    /// Whether one request can copy an object from one to the other.
    fn shares_bucket(&self, other: &Self) -> bool {
        let bucket =
            |lake: &Self| (lake.url.scheme() == "s3").then(|| lake.url.host_str().map(str::to_owned)).flatten();
        bucket(self).is_some() && bucket(self) == bucket(other)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;

    #[tokio::test]
    async fn a_copy_is_the_file_and_one_of_another_size_is_not_made() {
        let (folder, lake) = testing::lake();
        let table = Table::create_or_open(&lake, &testing::contract("payments")).await.unwrap();
        let adds = table.stage(vec![testing::rows(4, 0)], 0).await.unwrap().adds;
        table.publish("app", 0, &adds, &[]).await.unwrap();
        let file = table.live_files().await.unwrap().remove(0);
        let to = Lake::open(folder.path().join("copies").to_str().unwrap(), &testing::s3()).unwrap();
        let at = Path::from("t/event_date=2026-11-22/epoch-0.parquet");
        table.copy_file(&file, &to, &at).await.unwrap();
        let source = std::fs::read(folder.path().join("payments").join(&file.path)).unwrap();
        let copy = folder.path().join("copies").join(at.as_ref());
        assert_eq!(std::fs::read(&copy).unwrap(), source);
        std::fs::remove_file(&copy).unwrap();
        let other = DataFile { bytes: file.bytes + 1, ..file.as_ref().clone() };
        assert!(matches!(table.copy_file(&other, &to, &at).await, Err(Error::Broken(_))));
        assert!(!copy.exists());
        let s3 = |url: &str| Lake::open(url, &testing::s3()).unwrap();
        assert!(s3("s3://b/lake").shares_bucket(&s3("s3://b/plain")));
        assert!(!s3("s3://b/lake").shares_bucket(&s3("s3://c/lake")) && !lake.shares_bucket(&to));
    }
}
