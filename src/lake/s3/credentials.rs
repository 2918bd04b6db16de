//! The chain's credentials as the store's client takes them.

use std::sync::Arc;

use async_trait::async_trait;
use object_store::aws::AwsCredential;
use object_store::{CredentialProvider, Error as StoreError, Result as StoreResult};

use crate::credentials::Chain;

/// Credentials for the requests of one bucket.
#[derive(Debug)]
pub(super) struct ChainCredentials(Chain);

impl ChainCredentials {
    pub(super) fn new(region: &str) -> Self {
        Self(Chain::new(region))
    }

    pub(super) fn chain(&self) -> &Chain {
        &self.0
    }
}

#[async_trait]
impl CredentialProvider for ChainCredentials {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> StoreResult<Arc<AwsCredential>> {
        let found = self.0.get().await.map_err(|source| StoreError::Generic { store: "S3", source })?;
        Ok(Arc::new(AwsCredential {
            key_id: found.access_key_id().to_owned(),
            secret_key: found.secret_access_key().to_owned(),
            token: found.session_token().map(str::to_owned),
        }))
    }
}
