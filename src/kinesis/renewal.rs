//! Credentials that the service calls expired are fetched again, whatever they promised.
//!
//! The one law: an answer that calls a session expired is about the credentials its request was signed with, and about no
//! newer ones. What is sent again, and how often, is `backoff`'s.

use std::sync::Arc;

use aws_sdk_kinesis::config::interceptors::{BeforeSerializationInterceptorContextRef, FinalizerInterceptorContextRef};
use aws_sdk_kinesis::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_smithy_types::config_bag::{Storable, StoreReplace};

use crate::credentials::Chain;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What the service calls it; the code stands in a header or in the body.
const EXPIRED: &str = "ExpiredToken";

/// Watches a client's answers.
#[derive(Debug)]
pub(super) struct Renewing {
    chain: Arc<Chain>,
}

/// Which credentials there were when a request began.
#[derive(Clone, Copy, Debug)]
struct Begun(u64);

impl Storable for Begun {
    type Storer = StoreReplace<Self>;
}

impl Renewing {
    pub(super) fn new(chain: Arc<Chain>) -> Self {
        Self { chain }
    }
}

impl Intercept for Renewing {
    fn name(&self) -> &'static str {
        "Renewing"
    }

    fn read_before_execution(
        &self,
        _: &BeforeSerializationInterceptorContextRef<'_>,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        config.interceptor_state().store_put(Begun(self.chain.fetched()));
        Ok(())
    }

    fn read_after_execution(
        &self,
        context: &FinalizerInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let Some(answer) = context.response().filter(|answer| answer.status().is_client_error()) else { return Ok(()) };
        let body = answer.body().bytes().unwrap_or_default();
        let is_expired = answer.headers().get("x-amzn-errortype").is_some_and(|code| code.contains(EXPIRED))
            || body.windows(EXPIRED.len()).any(|bytes| bytes == EXPIRED.as_bytes());
        if let (true, Some(Begun(fetched))) = (is_expired, config.load::<Begun>()) {
            self.chain.forget(*fetched);
        }
        Ok(())
    }
}
