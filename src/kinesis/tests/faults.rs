//! Faults in front of the embedded server, by script: each waits for its operation, strikes once and is counted.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::Response;
use serde_json::{Value, json};

const BODY_BYTES_MAX: usize = 64 * 1024 * 1024;

#[derive(Clone, Debug)]
pub enum Fault {
    /// Not passed on; answered with this HTTP status and error code.
    Answer(u16, &'static str),
    /// Passed on and applied, then answered with HTTP 500.
    AppliedButFailed,
    /// PutRecords: each record whose place is not a multiple of three is refused, the others are passed on.
    RefuseEntries,
}

/// A script of faults.
#[derive(Clone, Debug, Default)]
pub struct Faults(Arc<Mutex<VecDeque<(&'static str, Fault)>>>);

impl Faults {
    /// The next request of `operation` without a fault waiting for it meets this one.
    pub fn add(&self, operation: &'static str, fault: Fault) {
        self.0.lock().unwrap().push_back((operation, fault));
    }

    /// Faults that have not struck yet.
    pub fn left(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    pub fn before(&self, router: Router) -> Router {
        router.layer(middleware::from_fn_with_state(self.clone(), inject))
    }

    fn take(&self, target: &str) -> Option<Fault> {
        let mut script = self.0.lock().unwrap();
        let at = script.iter().position(|(operation, _)| target.ends_with(&format!(".{operation}")))?;
        script.remove(at).map(|(_, fault)| fault)
    }
}

async fn inject(State(faults): State<Faults>, request: Request, next: Next) -> Response {
    let target = request.headers().get("x-amz-target").map_or("", |value| value.to_str().unwrap()).to_owned();
    match faults.take(&target) {
        None => next.run(request).await,
        Some(Fault::Answer(status, code)) => answer(status, &json!({"__type": code, "message": "injected"})),
        Some(Fault::AppliedButFailed) => {
            next.run(request).await;
            answer(500, &json!({"__type": "InternalFailure"}))
        }
        Some(Fault::RefuseEntries) => refuse_entries(request, next).await,
    }
}

async fn refuse_entries(request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    let mut put: Value = serde_json::from_slice(&to_bytes(body, BODY_BYTES_MAX).await.unwrap()).unwrap();
    let records = put["Records"].as_array().unwrap().clone();
    put["Records"] = records.iter().step_by(3).cloned().collect();
    parts.headers.remove("content-length");
    let response = next.run(Request::from_parts(parts, Body::from(put.to_string()))).await;
    let mut taken: Value =
        serde_json::from_slice(&to_bytes(response.into_body(), BODY_BYTES_MAX).await.unwrap()).unwrap();
    let mut taken = taken["Records"].as_array_mut().unwrap().drain(..);
    let refused = || json!({"ErrorCode": "ProvisionedThroughputExceededException", "ErrorMessage": "injected"});
    let answers: Vec<Value> =
        (0..records.len()).map(|at| if at % 3 == 0 { taken.next().unwrap() } else { refused() }).collect();
    let failed = answers.iter().filter(|answer| answer.get("ErrorCode").is_some()).count();
    answer(200, &json!({"FailedRecordCount": failed, "Records": answers}))
}

fn answer(status: u16, body: &Value) -> Response {
    Response::builder()
        .status(status)
        .header("content-type", "application/x-amz-json-1.1")
        .body(Body::from(body.to_string()))
        .unwrap()
}
