//! What the job may do in the lake's bucket, found out by one object that is gone afterwards.
//!
//! The one law: every action the job needs is asked for as the job asks, on an object of its own name that no reader sees.
//! That a store creates an object only once is found out on the way.

use object_store::path::Path;
use object_store::{Error as StoreError, ObjectStore, ObjectStoreExt, PutMode, PutPayload};

use super::Lake;
use crate::error::{Context, Error, Result};
use crate::permission::Permission;

const LIST: &str = "s3:ListBucket";
const CREATE: &str = "s3:PutObject";
const CREATE_ONCE: &str = "s3:PutObject (If-None-Match)";
const READ: &str = "s3:GetObject";
const DELETE: &str = "s3:DeleteObject";

impl Lake {
    /// Asks for each action in the lake's bucket; nothing of a lake in a folder. The object it makes, `_check-<uuid>`, is
    /// deleted again; where that is refused, the answer names it.
    pub async fn ask(&self) -> Vec<Permission> {
        if self.folder.is_some() {
            return Vec::new();
        }
        let (store, path) = (self.store(), Path::from(format!("_check-{}", uuid::Uuid::new_v4())));
        let place = self.url.as_str().trim_start_matches("s3://").trim_end_matches('/');
        let bucket = format!("arn:aws:s3:::{}", place.split('/').next().unwrap_or_default());
        let objects = format!("arn:aws:s3:::{place}/*");
        let at = || format!("the lake at `{}`", self.url);
        let listed = store.list_with_delimiter(None).await.context(|| format!("listing {}", at()));
        let mut found = vec![Permission::of(LIST, &bucket, &listed)];
        let created = self.create(&store, &path).await;
        found.push(Permission::of(CREATE, &objects, &created));
        if created.is_err() {
            let why = "no object could be made to ask with";
            found.extend([CREATE_ONCE, READ, DELETE].map(|action| Permission::not_asked(action, &objects, why)));
            return found;
        }
        let again = match self.create(&store, &path).await {
            Ok(true) => Err(self.creates_twice()),
            other => other.map(drop),
        };
        found.push(Permission::of(CREATE_ONCE, &objects, &again));
        let read = store.get(&path).await.context(|| format!("reading `{path}` in {}", at()));
        found.push(Permission::of(READ, &objects, &read));
        let deleted = store.delete(&path).await.context(|| format!("deleting `{path}` in {}, which stays", at()));
        found.push(Permission::of(DELETE, &objects, &deleted));
        found
    }

    /// Creates an object; `false` when it was there.
    async fn create(&self, store: &dyn ObjectStore, path: &Path) -> Result<bool> {
        match store.put_opts(path, PutPayload::from_static(b"check"), PutMode::Create.into()).await {
            Ok(_) => Ok(true),
            // Of a first create, too: its answer may have been lost.
            Err(StoreError::AlreadyExists { .. } | StoreError::Precondition { .. }) => Ok(false),
            Err(error) => Err(Error::external(format!("cannot write to the lake at `{}`", self.url), error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::s3;
    use super::*;

    #[tokio::test]
    async fn of_a_folder_nothing_is_asked() {
        let folder = tempfile::tempdir().unwrap();
        let lake = Lake::open(folder.path().to_str().unwrap(), &s3()).unwrap();
        assert!(lake.ask().await.is_empty());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
