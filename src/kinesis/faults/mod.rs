//! Faults in front of the embedded server: what the service does on bad days, by a seeded script.
//!
//! The one law: every strike is counted, and a fault that never struck is told. A test that was to show how something is
//! survived has shown nothing if it did not happen.
//!
//! A request goes through the faults in the script's order; one that strikes answers it, holds it up, or changes it or its
//! answer on the way (a subscription's is let through event by event). Behind them is the server's own gate, so what a fault lets through meets no other request there.
//! Requests of JSON are looked at; others (CBOR) go through untouched. What a script says is in `script`.

mod events;
pub(super) mod limits;
mod script;
mod strike;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use ferrokinesis::shard_iterator::decode_shard_iterator;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

use self::limits::Reads;
pub use self::script::Does;
use self::script::{Fault, Script};
use super::embedded::{REQUEST_BYTES_MAX, operation};
use crate::error::{Error, Result};

/// Faults in front of one server. Clones share their counts.
#[derive(Clone, Debug, Default)]
pub struct Faults(Arc<Mutex<Vec<Armed>>>);

/// A fault and what has come of it.
#[derive(Debug)]
struct Armed {
    fault: Fault,
    random: ChaCha8Rng,
    /// Requests it was asked about.
    asked: u64,
    strikes: u64,
    /// What each shard was read of, for [`Does::ReadLimits`]; as many as there are shards.
    reads: BTreeMap<String, Reads>,
}

/// How often a fault struck.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Struck {
    /// `GetRecords throttle`.
    pub fault: String,
    pub times: u64,
}

/// A request on its way to the server.
#[derive(Debug)]
struct Call {
    parts: Parts,
    body: Bytes,
    operation: String,
    /// What is asked, of operations with small requests; else null.
    asked: Value,
}

impl Faults {
    /// Reads a script.
    ///
    /// # Errors
    /// [`Error::Usage`] naming the key that is wrong; a fault that could never strike is one.
    pub fn parse(text: &str) -> Result<Self> {
        let Script { seed, fault } = Script::parse(text)?;
        let armed = fault.into_iter().zip(seed..).map(|(fault, seed)| Armed::new(fault, seed)).collect();
        Ok(Self(Arc::new(Mutex::new(armed))))
    }

    /// The faults of `others` strike here from now on, behind those there are: a server is set up in peace first.
    pub fn arm(&self, others: &Self) {
        let armed = std::mem::take(&mut *others.armed());
        self.armed().extend(armed);
    }

    /// Adds a fault that strikes the next request of `operation` once; earlier ones strike first.
    pub fn add(&self, operation: &str, does: Does) {
        self.armed().push(Armed::new(Fault::once(operation, does), 0));
    }

    /// The router behind these faults.
    pub fn before(&self, router: Router) -> Router {
        router.layer(middleware::from_fn_with_state(self.clone(), meet))
    }

    /// Strikes by fault, in the script's order.
    pub fn struck(&self) -> Vec<Struck> {
        self.armed().iter().map(|armed| Struck { fault: armed.fault.to_string(), times: armed.strikes }).collect()
    }

    /// Faults that have not struck yet.
    pub fn idle(&self) -> usize {
        self.armed().iter().filter(|armed| armed.strikes == 0).count()
    }

    /// That every fault has struck.
    ///
    /// # Errors
    /// [`Error::Usage`] naming those that did not, or saying that there are none.
    pub fn all_struck(&self) -> Result<()> {
        let struck = self.struck();
        let idle: Vec<String> = struck.iter().filter(|s| s.times == 0).map(|s| format!("`{}`", s.fault)).collect();
        match (struck.is_empty(), idle.is_empty()) {
            (true, _) => Err(Error::usage("the script of faults holds none, so this run has shown nothing")),
            (_, true) => Ok(()),
            _ => Err(Error::usage(format!(
                "never struck, so this run has shown nothing about them: {}; let it be longer, or change the script",
                idle.join(", ")
            ))),
        }
    }

    fn armed(&self) -> MutexGuard<'_, Vec<Armed>> {
        // Counts and draws are whole after every step, whatever a holder of the lock died of.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next fault from `place` on that this request meets. It counts as a strike, so that no other request meets one
    /// that strikes once; [`Faults::missed`] takes that back.
    fn met(&self, place: usize, operation: &str, asked: &Value) -> Option<(usize, Does)> {
        let shard = shard_of(asked);
        let mut armed = self.armed();
        let armed = armed.iter_mut().enumerate().skip(place);
        let strikes = |armed: &mut Armed| armed.strikes_at(operation, shard.as_deref(), asked);
        let (place, armed) = armed.into_iter().find_map(|(place, armed)| strikes(armed).then_some((place, armed)))?;
        armed.strikes += 1;
        Some((place, armed.fault.does.clone()))
    }

    /// It could do nothing to the request it met.
    fn missed(&self, place: usize) {
        self.armed()[place].strikes -= 1;
    }

    /// A draw that follows from the seed: which records a fault refuses.
    fn draws(&self, place: usize, share: f64, records: usize) -> Vec<bool> {
        let random = &mut self.armed()[place].random;
        (0..records).map(|_| random.random_bool(share)).collect()
    }

    /// What a fault knows of the reads of a shard.
    fn reads<T>(&self, place: usize, shard: &str, look: impl FnOnce(&mut Reads) -> T) -> T {
        look(self.armed()[place].reads.entry(shard.to_owned()).or_default())
    }
}

impl Armed {
    fn new(fault: Fault, seed: u64) -> Self {
        Self { fault, random: ChaCha8Rng::seed_from_u64(seed), asked: 0, strikes: 0, reads: BTreeMap::new() }
    }

    fn strikes_at(&mut self, operation: &str, shard: Option<&str>, asked: &Value) -> bool {
        if self.fault.at_most.is_some_and(|most| self.strikes >= most) || !self.fault.concerns(operation, shard, asked)
        {
            return false;
        }
        self.asked += 1;
        let Fault { rate, every, at, .. } = &self.fault;
        match (rate, every) {
            (Some(rate), _) => self.random.random_bool(*rate),
            (None, Some(every)) => self.asked.is_multiple_of(*every),
            (None, None) => at.is_empty() || at.contains(&self.asked),
        }
    }
}

impl Call {
    fn is_json(&self) -> bool {
        let kind = self.parts.headers.get(header::CONTENT_TYPE);
        kind.and_then(|kind| kind.to_str().ok()).is_some_and(|kind| kind.starts_with("application/x-amz-json"))
    }

    /// The same call asking for something else.
    fn asking(mut self, asked: Value) -> Self {
        self.parts.headers.remove(header::CONTENT_LENGTH);
        self.body = asked.to_string().into();
        self.asked = asked;
        self
    }

    fn into_request(self) -> Request {
        Request::from_parts(self.parts, Body::from(self.body))
    }

    fn shard(&self) -> Option<String> {
        shard_of(&self.asked)
    }
}

/// The shard a request is about, if it is about one.
fn shard_of(asked: &Value) -> Option<String> {
    let named = asked.get("ShardId").and_then(Value::as_str).map(str::to_owned);
    named.or_else(|| {
        let (_, _, shard, _) = decode_shard_iterator(asked.get("ShardIterator")?.as_str()?).ok()?;
        Some(shard)
    })
}

/// A request arrives.
async fn meet(State(faults): State<Faults>, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, REQUEST_BYTES_MAX).await else {
        return StatusCode::PAYLOAD_TOO_LARGE.into_response();
    };
    let operation = operation(&parts.headers).to_owned();
    // Only what is looked into is parsed: five megabytes of records are not.
    let is_small = matches!(operation.as_str(), "GetRecords" | "GetShardIterator" | "ListShards" | "SubscribeToShard");
    let asked = is_small.then(|| serde_json::from_slice(&body).ok()).flatten().unwrap_or(Value::Null);
    let call = Call { parts, body, operation, asked };
    if !call.is_json() {
        return next.run(call.into_request()).await;
    }
    strike::pass(&faults, 0, call, next).await
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn strikes(faults: &Faults, operation: &str, asked: &Value, requests: usize) -> Vec<usize> {
        (1..=requests).filter(|_| faults.met(0, operation, asked).is_some()).collect()
    }

    fn parsed(script: &str) -> Faults {
        Faults::parse(script).unwrap()
    }

    #[test]
    fn faults_come_by_rate_by_count_and_by_place() {
        let none = Value::Null;
        let every = "[[fault]]\noperation = \"PutRecords\"\nevery = 3\nat_most = 2\ndoes = \"throttle\"";
        assert_eq!(strikes(&parsed(every), "PutRecords", &none, 12), [3, 6]);
        assert!(strikes(&parsed(every), "GetRecords", &none, 12).is_empty());
        let at = "[[fault]]\nat = [1, 5]\ndoes = { answer = { status = 503, code = \"X\" } }";
        assert_eq!(strikes(&parsed(at), "ListShards", &none, 9), [1, 5]);
        let rate = "seed = 3\n[[fault]]\nrate = 0.25\ndoes = \"reset\"";
        let drawn = strikes(&parsed(rate), "ListShards", &none, 4_000);
        assert_eq!(drawn, strikes(&parsed(rate), "ListShards", &none, 4_000), "the same seed, the same draws");
        assert_ne!(drawn, strikes(&parsed(&rate.replace('3', "4")), "ListShards", &none, 4_000));
        // 4,000 draws of a quarter: 1,000 with a standard deviation of 27; five of them.
        assert!((865..=1_135).contains(&drawn.len()), "{}", drawn.len());
    }

    #[test]
    fn a_shard_is_known_by_name_and_by_iterator() {
        let script = "[[fault]]\nshard = \"shardId-000000000002\"\ndoes = \"throttle\"";
        let iterator =
            ferrokinesis::shard_iterator::create_shard_iterator("s", "shardId-000000000002", &"1".repeat(56), 1);
        assert_eq!(strikes(&parsed(script), "GetRecords", &json!({"ShardIterator": iterator}), 2), [1, 2]);
        assert_eq!(strikes(&parsed(script), "GetShardIterator", &json!({"ShardId": "shardId-000000000002"}), 1), [1]);
        assert!(
            strikes(&parsed(script), "GetShardIterator", &json!({"ShardId": "shardId-000000000001"}), 1).is_empty()
        );
        assert!(strikes(&parsed(script), "PutRecords", &Value::Null, 1).is_empty());
    }

    #[test]
    fn a_request_meets_one_fault_after_the_other() {
        let faults = parsed(
            "[[fault]]\nevery = 2\ndoes = { delay_ms = 1 }\n[[fault]]\noperation = \"GetRecords\"\ndoes = \"expire_iterator\"",
        );
        let met = |from| faults.met(from, "GetRecords", &Value::Null).map(|(place, _)| place);
        assert_eq!([met(0), met(0), met(1), met(2)], [Some(1), Some(0), Some(1), None]);
        let told: Vec<(String, u64)> = faults.struck().into_iter().map(|struck| (struck.fault, struck.times)).collect();
        let expected = [("every operation delay_ms 1".to_owned(), 1), ("GetRecords expire_iterator".to_owned(), 2)];
        assert_eq!(told.as_slice(), expected.as_slice());
    }

    #[test]
    fn a_run_in_which_nothing_was_injected_fails() {
        assert!(Faults::default().all_struck().unwrap_err().to_string().contains("holds none"));
        let faults = Faults::default();
        faults.add("GetRecords", Does::Throttle);
        faults.arm(&parsed("[[fault]]\ndoes = \"reset\""));
        assert_eq!(faults.idle(), 2);
        strikes(&faults, "GetRecords", &Value::Null, 1);
        let told = faults.all_struck().unwrap_err().to_string();
        assert!(told.contains("`every operation reset`") && !told.contains("throttle"), "{told}");
        faults.met(1, "ListShards", &Value::Null).unwrap();
        faults.all_struck().unwrap();
        faults.missed(1);
        assert_eq!(faults.idle(), 1);
    }
}
