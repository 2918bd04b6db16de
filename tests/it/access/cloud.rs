//! What stands around a job on AWS: a stream that looks at who asks, and whoever gives credentials – STS, a container's
//! service, an instance's. All of it on loopback; what they answer is from AWS's manuals.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use lakeward::clock::{Clock, show_time};
use lakeward::kinesis::{Client, EmbeddedKinesis, Faults, Producer, PutRecord, client, create_stream};
use tokio::runtime::Runtime;

use crate::support::Scratch;

pub const STREAM: &str = "transactions";
pub const REGION: &str = "eu-west-1";
pub const ROLE: &str = "arn:aws:iam::7:role/lake";

/// Requests that a key of a session is good for, whatever it promises; then it has expired.
const CALLS: u32 = 2;

/// Keys of this beginning last.
const LASTING: &str = "lasting";

/// Larger than any request of these tests.
const BODY_BYTES_MAX: usize = 16 << 20;

/// What was seen, and what is to come.
#[derive(Default)]
pub struct Seen {
    /// Requests to the stream, by the key they were signed with.
    pub signed: BTreeMap<String, u32>,
    /// Who was asked for credentials, in order.
    pub asked: Vec<String>,
    /// So many of the next who ask get none.
    pub refusing: u32,
    /// STS denies all.
    pub denying: bool,
}

/// A stream of one shard with transactions in it, and all that is around it.
pub struct Cloud {
    runtime: Runtime,
    _server: EmbeddedKinesis,
    pub client: Client,
    pub faults: Faults,
    pub seen: Arc<Mutex<Seen>>,
    /// Where the stream is.
    pub kinesis: String,
    /// Where credentials are given.
    pub services: String,
    pub folder: Scratch,
}

impl Cloud {
    pub fn new(rows: u32) -> Self {
        let runtime = Runtime::new().unwrap();
        let (seen, faults) = (Arc::new(Mutex::new(Seen::default())), Faults::default());
        let looking = middleware::from_fn_with_state(Arc::clone(&seen), look);
        let layers = |router| faults.before(router).layer(looking);
        let server = runtime.block_on(EmbeddedKinesis::start_with("127.0.0.1:0", REGION, layers)).unwrap();
        let client = client::connect_to_url(server.url(), REGION);
        runtime.block_on(create_stream(&client, STREAM, 1)).unwrap();
        let services = runtime.block_on(services(Arc::clone(&seen)));
        let folder = Scratch::new();
        let file = folder.simulated("day.ndjson", rows);
        let record = |line: &str| PutRecord { partition_key: "k".into(), data: line.to_owned().into() };
        let records: Vec<PutRecord> = fs::read_to_string(file).unwrap().lines().map(record).collect();
        runtime.block_on(Producer::new(client.clone(), STREAM).put(&records)).unwrap();
        let kinesis = server.url().to_owned();
        Self { runtime, _server: server, client, faults, seen, kinesis, services, folder }
    }

    /// A job with a lake of its own on `endpoint = "aws"`, which AWS_ENDPOINT_URL_KINESIS puts here, and no credentials.
    pub fn job(&self) -> Scratch {
        Scratch::new()
            .set("stream.endpoint=aws")
            .set(&format!("stream.name={STREAM}"))
            .set(&format!("stream.region={REGION}"))
            .set("commit.interval=200ms")
            .env("AWS_ENDPOINT_URL_KINESIS", &self.kinesis)
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("AWS_CONFIG_FILE", "/dev/null")
            .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
            .env("NO_PROXY", "127.0.0.1")
    }

    /// A file for whoever needs one.
    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path(name);
        fs::write(&path, text).unwrap();
        path
    }

    /// A configuration file with this profile among others.
    pub fn profile(&self, job: Scratch, text: &str) -> Scratch {
        let base = format!("[profile base]\naws_access_key_id = {LASTING}-base\naws_secret_access_key = s\n");
        let path = self.file("config", &format!("[profile job]\n{text}\n{base}"));
        job.env("AWS_CONFIG_FILE", path.to_str().unwrap()).env("AWS_PROFILE", "job")
    }

    /// Who was asked since the last time, and the keys the stream was asked with.
    pub fn seen(&self) -> (Vec<String>, BTreeMap<String, u32>) {
        let mut seen = self.seen.lock().unwrap();
        (std::mem::take(&mut seen.asked), std::mem::take(&mut seen.signed))
    }

    pub fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }
}

/// The key id that a request is signed with.
fn key_id(headers: &HeaderMap) -> String {
    let signed = headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let key = signed.split_once("Credential=").and_then(|(_, rest)| rest.split('/').next());
    key.unwrap_or_default().to_owned()
}

/// The stream lets those in whose session is not over.
async fn look(State(seen): State<Arc<Mutex<Seen>>>, request: Request, next: Next) -> Response {
    let key = key_id(request.headers());
    let calls = {
        let mut seen = seen.lock().unwrap();
        let calls = seen.signed.entry(key.clone()).or_default();
        *calls += 1;
        *calls
    };
    // The test's own client has a fixed name.
    if calls > CALLS && key != "lakeward" && !key.starts_with(LASTING) {
        let body =
            r#"{"__type":"ExpiredTokenException","message":"The security token included in the request is expired"}"#;
        return (StatusCode::BAD_REQUEST, [("content-type", "application/x-amz-json-1.1")], body).into_response();
    }
    next.run(request).await
}

/// Starts whoever gives credentials; says where.
async fn services(seen: Arc<Mutex<Seen>>) -> String {
    let router = Router::new().fallback(give).with_state(seen);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    url
}

async fn give(State(seen): State<Arc<Mutex<Seen>>>, request: Request<Body>) -> Response {
    let (parts, body) = request.into_parts();
    let body = String::from_utf8(to_bytes(body, BODY_BYTES_MAX).await.unwrap().to_vec()).unwrap();
    let path = parts.uri.path();
    // An instance first gives a token to ask with, and the name of its role.
    match (&parts.method, path) {
        (&Method::PUT, "/latest/api/token") => {
            return ([("x-aws-ec2-metadata-token-ttl-seconds", "21600")], "token").into_response();
        }
        (_, "/latest/meta-data/iam/security-credentials/" | "/latest/meta-data/iam/security-credentials-extended/") => {
            return "lake".into_response();
        }
        _ => {}
    }
    let form = |name: &str| {
        let mut pairs = body.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find(|(key, _)| *key == name).map(|(_, value)| value.replace("%3A", ":").replace("%2F", "/"))
    };
    let (who, action) = (key_id(&parts.headers), form("Action").unwrap_or_default());
    let mut seen = seen.lock().unwrap();
    seen.asked.push(match action.as_str() {
        "" => path.to_owned(),
        "AssumeRole" => format!("AssumeRole {} by {who}", form("RoleArn").unwrap()),
        _ => format!("{action} {} with {}", form("RoleArn").unwrap(), form("WebIdentityToken").unwrap()),
    });
    if seen.denying {
        let says =
            format!("User: arn:aws:iam::7:user/u is not authorized to perform: sts:{action} on resource: {ROLE}");
        return (StatusCode::FORBIDDEN, [("content-type", "text/xml")], refusal("AccessDenied", &says)).into_response();
    }
    if seen.refusing > 0 {
        seen.refusing -= 1;
        return (StatusCode::NOT_FOUND, r#"{"code":"NotFound","message":"no role now"}"#).into_response();
    }
    let key = format!("session-{}", seen.asked.len());
    match action.as_str() {
        "" => ([("content-type", "application/json")], session(&key)).into_response(),
        action => ([("content-type", "text/xml")], assumed(action, &key)).into_response(),
    }
}

/// In an hour.
pub fn expiration() -> String {
    show_time((Clock::System.now() / 1_000_000 + 3_600) * 1_000_000)
}

/// As containers, instances and processes tell of a session.
pub fn session(key: &str) -> String {
    format!(
        "{{\"Version\":1,\"Code\":\"Success\",\"LastUpdated\":\"{0}\",\"Type\":\"AWS-HMAC\",\"AccessKeyId\":\"{key}\",\
         \"SecretAccessKey\":\"s\",\"Token\":\"t\",\"SessionToken\":\"t\",\"Expiration\":\"{0}\"}}",
        expiration()
    )
}

fn assumed(action: &str, key: &str) -> String {
    format!(
        "<{action}Response xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><{action}Result><AssumedRoleUser>\
         <AssumedRoleId>A:s</AssumedRoleId><Arn>arn:aws:sts::7:assumed-role/lake/s</Arn></AssumedRoleUser><Credentials>\
         <AccessKeyId>{key}</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken>\
         <Expiration>{}</Expiration></Credentials></{action}Result></{action}Response>",
        expiration()
    )
}

fn refusal(code: &str, says: &str) -> String {
    format!(
        "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Error><Type>Sender</Type><Code>{code}</Code>\
         <Message>{says}</Message></Error><RequestId>1</RequestId></ErrorResponse>"
    )
}
