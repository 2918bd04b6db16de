//! Deleting objects: the one place where "not there" is as good as "deleted".
//!
//! The one law: whatever is deleted here may be deleted again. Which objects may go, and in which order, the caller knows.

use std::sync::Arc;

use futures::StreamExt;
use object_store::path::Path;
use object_store::{Error as StoreError, ObjectStore};

use crate::error::{Error, Result};

/// Deletes objects, in as few requests as the store takes and in no particular order.
///
/// # Errors
/// [`Error::External`] when the store does not answer; some may be gone then.
pub async fn delete(store: &Arc<dyn ObjectStore>, paths: Vec<Path>) -> Result<()> {
    let doing = match paths.as_slice() {
        [path] => format!("deleting `{path}`"),
        paths => format!("deleting {} objects", paths.len()),
    };
    let mut deleted = store.delete_stream(futures::stream::iter(paths).map(Ok).boxed());
    while let Some(one) = deleted.next().await {
        match one {
            Ok(_) | Err(StoreError::NotFound { .. }) => {}
            Err(error) => return Err(Error::external(doing, error)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use object_store::ObjectStoreExt;
    use object_store::local::LocalFileSystem;

    use super::*;

    #[tokio::test]
    async fn what_is_gone_already_does_not_keep_the_rest() {
        let folder = tempfile::tempdir().unwrap();
        let store = LocalFileSystem::new_with_prefix(folder.path()).unwrap();
        let store: Arc<dyn ObjectStore> = Arc::new(store);
        let paths = ["a", "gone", "b"].map(Path::from).to_vec();
        for path in [&paths[0], &paths[2]] {
            store.put(path, "x".into()).await.unwrap();
        }
        delete(&store, paths.clone()).await.unwrap();
        delete(&store, paths).await.unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
