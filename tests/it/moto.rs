//! A server of AWS's APIs that nobody here wrote, in a process of its own, and a proxy before its Glue that misbehaves.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::support::readers;

/// The server: a process that ends with this value, or with this process, because its standard input does.
pub struct Moto {
    process: Child,
    _input: ChildStdin,
    /// Host and port.
    pub address: String,
}

impl Moto {
    pub fn start() -> Self {
        let mut process = Command::new(readers())
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/readers/aws.py"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("python starts");
        let mut url = String::new();
        BufReader::new(process.stdout.take().expect("a pipe")).read_line(&mut url).expect("an address");
        let address = url.trim().strip_prefix("http://").expect("the server says where it listens").to_owned();
        let input = process.stdin.take().expect("a pipe");
        Self { process, _input: input, address }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// One call of Glue's API without any SDK: its HTTP status and answer.
    pub fn glue(&self, call: &str, input: &Value) -> (u16, Value) {
        let (status, body) = post(&self.address, call, input.to_string().as_bytes());
        (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
    }

    /// As [`Moto::glue`], which must succeed.
    pub fn must(&self, call: &str, input: &Value) -> Value {
        let (status, answer) = self.glue(call, input);
        assert_eq!(status, 200, "{call} {input}: {answer}");
        answer
    }

    /// Partitions of a table: location and names of columns, by value.
    pub fn partitions(&self, database: &str, table: &str) -> BTreeMap<String, (String, Vec<String>)> {
        let answer = self.must("GetPartitions", &json!({"DatabaseName": database, "TableName": table}));
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let of = |partition: &Value| {
            let storage = &partition["StorageDescriptor"];
            let columns = storage["Columns"].as_array().unwrap().iter().map(|column| text(&column["Name"])).collect();
            (text(&partition["Values"][0]), (text(&storage["Location"]), columns))
        };
        answer["Partitions"].as_array().unwrap().iter().map(of).collect()
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A POST by hand: HTTP/1.0, so that the answer ends with the connection.
fn post(address: &str, call: &str, body: &[u8]) -> (u16, Vec<u8>) {
    let mut stream = TcpStream::connect(address).unwrap();
    let head = format!(
        "POST / HTTP/1.0\r\nHost: {address}\r\nContent-Type: application/x-amz-json-1.1\r\nX-Amz-Target: AWSGlue.{call}\r\n\
         Authorization: AWS4-HMAC-SHA256 Credential=a/20260101/us-east-1/glue/aws4_request, SignedHeaders=host, Signature=0\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").expect("a head");
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, answer[end + 4..].to_vec())
}

/// What a proxy does to calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    /// Every third call is throttled, every fifth is done and its answer lost.
    Bad,
    /// Nothing is answered.
    Silent,
    /// Nothing is allowed.
    Denying,
    Good,
}

/// A proxy before a server: its URL, and what it has seen.
#[derive(Clone)]
pub struct Proxy {
    pub url: String,
    seen: Arc<Seen>,
}

/// A partition that a call registers or drops, as it was before the call or after it.
#[derive(Clone, Debug)]
pub struct Lead {
    pub call: String,
    /// What the partition, as it was registered, leads to.
    pub manifest: PathBuf,
    pub is_there: bool,
}

struct Seen {
    server: String,
    mood: Mutex<Mood>,
    /// Partitions in one page of an answer.
    page: usize,
    count: AtomicUsize,
    calls: Mutex<BTreeMap<String, usize>>,
    faults: AtomicUsize,
    /// Manifests that partitions lead to, by table and value.
    manifests: Mutex<BTreeMap<(String, String), PathBuf>>,
    leads: Mutex<Vec<Lead>>,
}

impl Seen {
    /// Looks whether the manifests of the partitions are there that a call registers or drops.
    fn look(&self, call: &str, body: &[u8]) {
        let named = match call {
            "BatchCreatePartition" => "PartitionInputList",
            "BatchDeletePartition" => "PartitionsToDelete",
            _ => return,
        };
        let input: Value = serde_json::from_slice(body).unwrap();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        for partition in input[named].as_array().unwrap() {
            let key = (text(&input["TableName"]), text(&partition["Values"][0]));
            let mut manifests = self.manifests.lock().unwrap();
            if let Some(folder) = partition["StorageDescriptor"]["Location"].as_str() {
                let folder = Path::new(folder.trim_start_matches("file://"));
                manifests.insert(key.clone(), folder.join("manifest"));
            }
            let manifest = manifests.get(&key).cloned().unwrap_or_default();
            let lead = Lead { call: call.to_owned(), is_there: manifest.is_file(), manifest };
            self.leads.lock().unwrap().push(lead);
        }
    }
}

impl Proxy {
    /// Starts it; it lives as long as the test's process.
    pub fn start(server: &Moto, mood: Mood, page: usize) -> Self {
        let seen = Arc::new(Seen {
            server: server.address.clone(),
            mood: Mutex::new(mood),
            page,
            count: AtomicUsize::default(),
            calls: Mutex::default(),
            faults: AtomicUsize::default(),
            manifests: Mutex::default(),
            leads: Mutex::default(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        listener.set_nonblocking(true).unwrap();
        let state = Arc::clone(&seen);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                let app = axum::Router::new().fallback(pass).with_state(state);
                axum::serve(listener, app).await.unwrap();
            });
        });
        Self { url, seen }
    }

    pub fn be(&self, mood: Mood) {
        *self.seen.mood.lock().unwrap() = mood;
    }

    /// Calls passed on, by name.
    pub fn calls(&self) -> BTreeMap<String, usize> {
        std::mem::take(&mut *self.seen.calls.lock().unwrap())
    }

    /// Every call that came, answered or not.
    pub fn count(&self) -> usize {
        self.seen.count.load(Ordering::Relaxed)
    }

    /// Partitions registered and dropped, each before its call and after it.
    pub fn leads(&self) -> Vec<Lead> {
        self.seen.leads.lock().unwrap().clone()
    }

    /// Calls refused, and answers lost.
    pub fn faults(&self) -> usize {
        self.seen.faults.load(Ordering::Relaxed)
    }
}

fn refusal(status: StatusCode, code: &str) -> Response {
    let body = json!({"__type": code, "Message": "by the proxy"}).to_string();
    (status, [("content-type", "application/x-amz-json-1.1")], body).into_response()
}

async fn pass(State(seen): State<Arc<Seen>>, headers: HeaderMap, body: Bytes) -> Response {
    let target = headers["x-amz-target"].to_str().unwrap();
    let call = target.rsplit('.').next().unwrap().to_owned();
    let number = seen.count.fetch_add(1, Ordering::Relaxed) + 1;
    let mood = *seen.mood.lock().unwrap();
    if mood == Mood::Silent {
        std::future::pending::<()>().await;
    }
    if mood == Mood::Denying {
        return refusal(StatusCode::BAD_REQUEST, "AccessDeniedException");
    }
    if mood == Mood::Bad && number.is_multiple_of(3) {
        seen.faults.fetch_add(1, Ordering::Relaxed);
        return refusal(StatusCode::BAD_REQUEST, "ThrottlingException");
    }
    *seen.calls.lock().unwrap().entry(call.clone()).or_default() += 1;
    let passing = Arc::clone(&seen);
    let answered = tokio::task::spawn_blocking(move || {
        let server = &passing.server;
        passing.look(&call, &body);
        let answer =
            if call == "GetPartitions" { paged(server, &body, passing.page) } else { post(server, &call, &body) };
        passing.look(&call, &body);
        answer
    });
    let (status, answer) = answered.await.unwrap();
    if mood == Mood::Bad && number.is_multiple_of(5) {
        seen.faults.fetch_add(1, Ordering::Relaxed);
        return refusal(StatusCode::SERVICE_UNAVAILABLE, "InternalServiceException");
    }
    (StatusCode::from_u16(status).unwrap(), [("content-type", "application/x-amz-json-1.1")], answer).into_response()
}

/// The server answers all partitions at once; Glue itself does not.
fn paged(server: &str, body: &[u8], page: usize) -> (u16, Vec<u8>) {
    let mut input: Value = serde_json::from_slice(body).unwrap();
    let from: usize = input["NextToken"].as_str().map_or(0, |token| token.parse().unwrap());
    input.as_object_mut().unwrap().remove("NextToken");
    let (status, answer) = post(server, "GetPartitions", input.to_string().as_bytes());
    let mut answer: Value = serde_json::from_slice(&answer).unwrap();
    if let Some(all) = answer["Partitions"].as_array().cloned() {
        let to = all.len().min(from + page);
        answer["Partitions"] = json!(all[from.min(to)..to]);
        if to < all.len() {
            answer["NextToken"] = json!(to.to_string());
        }
    }
    (status, answer.to_string().into_bytes())
}
