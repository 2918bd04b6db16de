//! Bookmarks: how far manifests, exports and vacuums have come, one small JSON object each.
//!
//! The one law: a bookmark is written whole, over the one before, and last, so that it never says more than is there. What
//! it means, and what to do without one, its reader knows.

use std::sync::Arc;

use bytes::Bytes;
use object_store::path::Path;
use object_store::{Error as StoreError, ObjectStore, ObjectStoreExt, PutPayload};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Context, Error, Result};

/// A small JSON object that says how far something has come.
#[derive(Clone, Debug)]
pub struct Bookmark {
    store: Arc<dyn ObjectStore>,
    path: Path,
    /// For errors: what is exported of which table.
    what: String,
}

impl Bookmark {
    /// At a path of a store; `what` names it in errors.
    pub fn new(store: Arc<dyn ObjectStore>, path: Path, what: impl Into<String>) -> Self {
        Self { store, path, what: what.into() }
    }

    /// What it says; `None` before the first.
    ///
    /// # Errors
    /// [`Error::External`] when the store does not answer, or what it holds is no such bookmark.
    pub async fn read<T: DeserializeOwned>(&self) -> Result<Option<T>> {
        let doing = || format!("reading {}", self.what);
        let found = self.bytes().await?;
        found.map(|bytes| serde_json::from_slice(&bytes).context(doing)).transpose()
    }

    /// As [`Bookmark::read`], but one that cannot be read counts as none: what it said is found out anew.
    ///
    /// # Errors
    /// [`Error::External`] when the store does not answer.
    pub async fn read_if_sound<T: DeserializeOwned>(&self) -> Result<Option<T>> {
        Ok(self.bytes().await?.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
    }

    /// Writes it.
    ///
    /// # Errors
    /// [`Error::External`] when the store does not answer; it may then be there or not.
    pub async fn write(&self, mark: &impl Serialize) -> Result<()> {
        let doing = || format!("recording {}", self.what);
        let bytes = serde_json::to_vec(mark).context(doing)?;
        self.store.put(&self.path, PutPayload::from(bytes)).await.map(drop).context(doing)
    }

    async fn bytes(&self) -> Result<Option<Bytes>> {
        let doing = || format!("reading {}", self.what);
        match self.store.get(&self.path).await {
            Ok(found) => found.bytes().await.map(Some).context(doing),
            Err(StoreError::NotFound { .. }) => Ok(None),
            Err(error) => Err(Error::external(doing(), error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;

    use super::*;

    #[tokio::test]
    async fn a_bookmark_says_what_was_written_last_and_an_unsound_one_is_told_or_none() {
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let mark = Bookmark::new(Arc::clone(&store), Path::from("t/_mark.json"), "the mark");
        assert_eq!(mark.read::<u32>().await.unwrap(), None);
        for value in [7_u32, 8] {
            mark.write(&value).await.unwrap();
            assert_eq!(mark.read().await.unwrap(), Some(value));
        }
        store.put(&Path::from("t/_mark.json"), "{".into()).await.unwrap();
        assert_eq!(mark.read_if_sound::<u32>().await.unwrap(), None);
        let error = mark.read::<u32>().await.unwrap_err();
        assert!(error.to_string().contains("reading the mark"), "{error}");
    }
}
