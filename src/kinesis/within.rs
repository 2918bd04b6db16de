//! The SDK's way to a server of this process: a request is handed over as a value, without a socket between.
//!
//! The one law: the server sees the request that the SDK would have sent, and the SDK reads the answer that would have come.
//! What falls away is that both are copied through the kernel, twice each, and parsed as HTTP; and that the request's body
//! is hashed for a signature which the server does not look at.

use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};

use aws_runtime::auth::PayloadSigningOverride;
use aws_sdk_kinesis::config::http::{HttpRequest, HttpResponse};
use aws_sdk_kinesis::config::interceptors::BeforeTransmitInterceptorContextMut;
use aws_sdk_kinesis::config::{ConfigBag, HttpClient, Intercept, RuntimeComponents, SharedHttpClient};
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_types::body::SdkBody;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, header};
use bytes::Bytes;
use http_body::Frame;
use tower_service::Service;

/// The kind of an answer that has no end yet: SubscribeToShard's.
const EVENT_STREAM: &str = "application/vnd.amazon.eventstream";

/// Bytes of an answer: GetRecords answers 10 MiB of records, as base64 and JSON.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Leaves the request's body out of its signature, as the service allows it where the connection is safe.
#[derive(Debug)]
pub(super) struct UnsignedPayload;

impl Intercept for UnsignedPayload {
    fn name(&self) -> &'static str {
        "UnsignedPayload"
    }

    fn modify_before_signing(
        &self,
        _: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        config.interceptor_state().store_put(PayloadSigningOverride::unsigned_payload());
        Ok(())
    }
}

/// A client's transport that ends at this router.
pub(super) fn http_client(router: Router) -> SharedHttpClient {
    SharedHttpClient::new(Within { router })
}

#[derive(Clone, Debug)]
struct Within {
    router: Router,
}

impl HttpClient for Within {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

impl HttpConnector for Within {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let router = self.router.clone();
        HttpConnectorFuture::new(
            async move { answer(router, request).await.map_err(|e| ConnectorError::other(e, None)) },
        )
    }
}

async fn answer(mut router: Router, request: HttpRequest) -> Result<HttpResponse, BoxError> {
    let request = request.try_into_http1x()?.map(Body::new);
    // A router is always ready and never fails.
    let answer = router.call(request).await?;
    let (parts, body) = answer.into_parts();
    let body = if is_event_stream(&parts.headers) {
        SdkBody::from_body_1_x(Events(Mutex::new(body)))
    } else {
        // An answer written at once is one piece, which is not copied.
        SdkBody::from(to_bytes(body, ANSWER_BYTES_MAX).await?)
    };
    Ok(HttpResponse::try_from(axum::http::Response::from_parts(parts, body))?)
}

fn is_event_stream(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind == EVENT_STREAM)
}

/// An answer taken piece by piece: whoever does not read holds the server up, as a full socket would. The lock is never
/// waited for; it makes a body, which may not be shared by threads, one that could be.
struct Events(Mutex<Body>);

impl http_body::Body for Events {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let body = self.0.get_mut().unwrap_or_else(PoisonError::into_inner);
        Pin::new(body).poll_frame(context)
    }
}
