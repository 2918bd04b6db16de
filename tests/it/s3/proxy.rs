//! A proxy before the S3 server that counts requests, breaks some of them by a seed, and plays answers that only Amazon
//! gives.
//!
//! It also takes requests of one key one after the other: the server behind it is Python with threads, and nothing there
//! promises that the look for an object and its creation are one step.

use std::collections::{BTreeMap, HashMap};
use std::panic::resume_unwind;
use std::sync::{Arc, Mutex, OnceLock};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, Method, Response, StatusCode, Uri};
use object_store::ClientOptions;
use object_store::client::{HttpClient, HttpConnector, ReqwestConnector};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::runtime::Runtime;

/// Larger than any object of these tests.
const BODY_BYTES_MAX: usize = 128 << 20;

/// What a request asks for, as rules see it.
pub struct Asked<'a> {
    pub method: &'a Method,
    pub path: &'a str,
    /// Without its question mark.
    pub query: &'a str,
    pub headers: &'a HeaderMap,
    pub body: &'a [u8],
}

impl Asked<'_> {
    /// The access key id the request is signed with.
    pub fn key_id(&self) -> &str {
        let signed = self.headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default();
        signed.split_once("Credential=").and_then(|(_, rest)| rest.split('/').next()).unwrap_or_default()
    }
}

/// An answer that does not come from the server.
#[derive(Clone)]
pub struct Canned {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: String,
}

impl Canned {
    /// S3's XML for an error.
    pub fn error(status: u16, code: &str, more: &str) -> Self {
        let body = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code>{more}<RequestId>X</RequestId></Error>"
        );
        Self { status, headers: vec![("content-type", "application/xml".to_owned())], body }
    }
}

type Rule = Box<dyn FnMut(&Asked<'_>) -> Option<Canned> + Send>;

/// What is done to a share of the requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// Answered 503, not passed on.
    Unavailable,
    /// Passed on, and answered 500.
    LostAnswer,
    /// Passed on, and the connection closed without an answer.
    Dropped,
}

struct Faults {
    rng: ChaCha8Rng,
    percent: u32,
}

struct Shared {
    upstream: HttpClient,
    server: String,
    locks: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
    faults: Mutex<Option<Faults>>,
    injected: Mutex<BTreeMap<(Fault, String), u64>>,
    /// The kind of each request, in order.
    order: Mutex<Vec<String>>,
    rule: Mutex<Option<Rule>>,
    /// How many requests of a kind are still to be passed on without an answer.
    to_lose: Mutex<BTreeMap<&'static str, u32>>,
}

/// One proxy, of one test.
pub struct Proxy {
    pub url: String,
    shared: Arc<Shared>,
}

impl Proxy {
    pub fn before(server: &str) -> Self {
        let options = ClientOptions::new().with_allow_http(true);
        let shared = Arc::new(Shared {
            upstream: ReqwestConnector::default().connect(&options).unwrap(),
            server: server.to_owned(),
            locks: Mutex::default(),
            faults: Mutex::default(),
            injected: Mutex::default(),
            order: Mutex::default(),
            rule: Mutex::default(),
            to_lose: Mutex::default(),
        });
        let router = Router::new().fallback(answer).with_state(Arc::clone(&shared));
        let listener = runtime().block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        runtime().spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, shared }
    }

    /// Breaks so many requests of a hundred from now on, the same ones for the same seed and order.
    pub fn break_some(&self, percent: u32, seed: u64) {
        *self.shared.faults.lock().unwrap() = Some(Faults { rng: ChaCha8Rng::seed_from_u64(seed), percent });
    }

    pub fn break_none(&self) {
        *self.shared.faults.lock().unwrap() = None;
        self.shared.to_lose.lock().unwrap().clear();
    }

    /// Passes the next requests of a kind on and loses their answers.
    pub fn lose_next(&self, kind: &'static str, times: u32) {
        self.shared.to_lose.lock().unwrap().insert(kind, times);
    }

    /// How often each kind of request was broken in each way.
    pub fn injected(&self) -> BTreeMap<(Fault, String), u64> {
        self.shared.injected.lock().unwrap().clone()
    }

    /// Answers itself whatever the rule answers.
    pub fn play(&self, rule: impl FnMut(&Asked<'_>) -> Option<Canned> + Send + 'static) {
        *self.shared.rule.lock().unwrap() = Some(Box::new(rule));
    }

    pub fn play_nothing(&self) {
        *self.shared.rule.lock().unwrap() = None;
    }

    /// The kinds of all requests so far, in order: `PUT slot`, `HEAD log`, `PUT data`, …
    pub fn order(&self) -> Vec<String> {
        self.shared.order.lock().unwrap().clone()
    }

    /// A request of the test's own, unsigned, past all rules and faults.
    pub fn ask(&self, method: &str, path_and_query: &str) -> (u16, String) {
        let uri = format!("{}{path_and_query}", self.shared.server);
        let request = axum::http::Request::builder().method(method).uri(uri).body(Vec::new().into()).unwrap();
        runtime().block_on(async {
            let answer = self.shared.upstream.execute(request).await.unwrap();
            let status = answer.status().as_u16();
            (status, String::from_utf8_lossy(&answer.into_body().bytes().await.unwrap()).into_owned())
        })
    }
}

/// For all proxies; statics are never dropped, so it serves until the tests end.
fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap())
}

/// Which part of the lake a request is about.
fn kind(method: &Method, uri: &Uri) -> String {
    let (path, query) = (uri.path(), uri.query().unwrap_or_default());
    let about = match path {
        _ if query.contains("list-type") => "listing",
        _ if query.trim_end_matches('=') == "delete" => "deletion",
        _ if query.contains("uploads") => "upload",
        _ if query.contains("uploadId") && method == Method::POST => "completion",
        _ if query.contains("uploadId") => "part",
        _ if path.ends_with("/_epochs/_head") => "hint",
        _ if path.contains("/_epochs/") => "slot",
        _ if path.contains("/_delta_log/") => "log",
        _ if path.contains("/_symlink_format_manifest/") => "manifest",
        _ if path.ends_with(".parquet") => "data",
        _ => "other",
    };
    format!("{method} {about}")
}

async fn answer(State(shared): State<Arc<Shared>>, request: Request) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, BODY_BYTES_MAX).await.unwrap();
    let kind = kind(&parts.method, &parts.uri);
    shared.order.lock().unwrap().push(kind.clone());
    let query = parts.uri.query().unwrap_or_default();
    let asked = Asked { method: &parts.method, path: parts.uri.path(), query, headers: &parts.headers, body: &body };
    let canned = shared.rule.lock().unwrap().as_mut().and_then(|rule| rule(&asked));
    if let Some(canned) = canned {
        let mut answer = Response::builder().status(canned.status);
        for (name, value) in canned.headers {
            answer = answer.header(name, value);
        }
        return answer.body(Body::from(canned.body)).unwrap();
    }
    let fault = match shared.is_lost(&kind) {
        true => Some(Fault::LostAnswer),
        false => shared.faults.lock().unwrap().as_mut().and_then(Faults::next),
    };
    if let Some(fault) = fault {
        *shared.injected.lock().unwrap().entry((fault, kind)).or_default() += 1;
    }
    if fault == Some(Fault::Unavailable) {
        return broken(StatusCode::SERVICE_UNAVAILABLE, "SlowDown");
    }
    let lock = Arc::clone(shared.locks.lock().unwrap().entry(parts.uri.path().to_owned()).or_default());
    // Reads need no order; a list of one page is one moment of the server's.
    let held = if parts.method == Method::GET || parts.method == Method::HEAD { None } else { Some(lock.lock().await) };
    let answer = forward(&shared, &parts, body.to_vec()).await;
    drop(held);
    match fault {
        Some(Fault::LostAnswer) => broken(StatusCode::INTERNAL_SERVER_ERROR, "InternalError"),
        // Unwinding ends the connection's task without an answer, and without the panic's message.
        Some(Fault::Dropped) => resume_unwind(Box::new("the answer is dropped")),
        _ => answer,
    }
}

impl Shared {
    fn is_lost(&self, kind: &str) -> bool {
        let mut to_lose = self.to_lose.lock().unwrap();
        let Some(left) = to_lose.get_mut(kind).filter(|left| **left > 0) else { return false };
        *left -= 1;
        true
    }
}

impl Faults {
    fn next(&mut self) -> Option<Fault> {
        let drawn = self.rng.random_range(0..100);
        let kinds = [Fault::Unavailable, Fault::LostAnswer, Fault::Dropped];
        (drawn < self.percent).then(|| kinds[self.rng.random_range(0..kinds.len())])
    }
}

fn broken(status: StatusCode, code: &str) -> Response<Body> {
    let canned = Canned::error(status.as_u16(), code, "");
    Response::builder().status(status).body(Body::from(canned.body)).unwrap()
}

/// Headers that belong to one connection.
fn is_of_connection(name: &HeaderName) -> bool {
    ["host", "connection", "transfer-encoding", "content-length", "date", "server"].contains(&name.as_str())
}

async fn forward(shared: &Shared, parts: &axum::http::request::Parts, body: Vec<u8>) -> Response<Body> {
    let target = format!("{}{}", shared.server, parts.uri.path_and_query().unwrap());
    let mut request = axum::http::Request::builder().method(parts.method.clone()).uri(target);
    for (name, value) in parts.headers.iter().filter(|(name, _)| !is_of_connection(name)) {
        request = request.header(name, value);
    }
    let answer = shared.upstream.execute(request.body(body.into()).unwrap()).await.unwrap();
    let mut forwarded = Response::builder().status(answer.status());
    let is_head = parts.method == Method::HEAD;
    for (name, value) in answer.headers() {
        // A HEAD tells the length of what it does not send.
        if !is_of_connection(name) || (is_head && name == "content-length") {
            forwarded = forwarded.header(name, value);
        }
    }
    let body = answer.into_body().bytes().await.unwrap();
    forwarded.body(if is_head { Body::empty() } else { Body::from(body) }).unwrap()
}
