//! An upload in parts: begun, sent part by part, and then an object, or nothing.
//!
//! The one law: a part that was refused because its credentials had expired is sent again under its own number, so that
//! the parts are those that were handed in, each once and in their order.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{
    Error as StoreError, MultipartId, MultipartUpload, PutMultipartOptions, PutPayload, PutResult,
    Result as StoreResult, UploadPart,
};

use super::Shared;
use super::refusal::Doing;

/// One upload.
#[derive(Debug)]
pub(super) struct Upload {
    shared: Arc<Shared>,
    location: Path,
    id: MultipartId,
    /// Parts handed in so far.
    count: usize,
    /// Those that S3 has, with their numbers, in any order.
    sent: Arc<Mutex<Vec<(usize, PartId)>>>,
}

impl Upload {
    /// Asks S3 for a new upload.
    ///
    /// # Errors
    /// Whatever S3 refuses; [`StoreError::NotSupported`] for tags or attributes, which no object of a lake has.
    pub(super) async fn begin(shared: Arc<Shared>, location: Path, options: &PutMultipartOptions) -> StoreResult<Self> {
        if !options.tags.encoded().is_empty() || !options.attributes.is_empty() {
            let source = "an upload in parts with tags or attributes".into();
            return Err(StoreError::NotSupported { source });
        }
        let begun = shared.ask(|client| client.create_multipart(&location)).await;
        let id = begun.map_err(|error| shared.told(Doing::Write, error))?;
        Ok(Self { shared, location, id, count: 0, sent: Arc::default() })
    }

    /// What S3 calls the parts, in their order.
    fn parts(&self) -> StoreResult<Vec<PartId>> {
        let mut sent = std::mem::take(&mut *self.sent.lock().unwrap_or_else(PoisonError::into_inner));
        if sent.len() != self.count {
            let source = format!("`{}`: {} of {} parts were sent", self.location, sent.len(), self.count).into();
            return Err(StoreError::Generic { store: "S3", source });
        }
        sent.sort_unstable_by_key(|(number, _)| *number);
        Ok(sent.into_iter().map(|(_, part)| part).collect())
    }
}

#[async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let number = self.count;
        self.count += 1;
        let (shared, sent) = (Arc::clone(&self.shared), Arc::clone(&self.sent));
        let (location, id) = (self.location.clone(), self.id.clone());
        Box::pin(async move {
            let part = shared.ask(|client| client.put_part(&location, &id, number, data.clone())).await;
            let part = part.map_err(|error| shared.told(Doing::Write, error))?;
            sent.lock().unwrap_or_else(PoisonError::into_inner).push((number, part));
            Ok(())
        })
    }

    async fn complete(&mut self) -> StoreResult<PutResult> {
        let parts = self.parts()?;
        let (location, id) = (&self.location, &self.id);
        let completed = self.shared.ask(|client| client.complete_multipart(location, id, parts.clone())).await;
        completed.map_err(|error| self.shared.told(Doing::Write, error))
    }

    async fn abort(&mut self) -> StoreResult<()> {
        let (location, id) = (&self.location, &self.id);
        let aborted = self.shared.ask(|client| client.abort_multipart(location, id)).await;
        aborted.map_err(|error| self.shared.told(Doing::Abort, error))
    }
}
