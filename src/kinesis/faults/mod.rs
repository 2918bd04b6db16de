//! Faults in front of the embedded server: what the service does on bad days, by a seeded script.
//!
//! The one law: every strike is counted, and a fault that never struck is told. A test that was to show how something is
//! survived has shown nothing if it did not happen.
//!
//! A script is TOML:
//!
//! ```toml
//! seed = 7
//! [[fault]]
//! operation = "GetRecords"        # every operation without it
//! shard = "shardId-000000000003"  # GetRecords and GetShardIterator: of this shard only
//! rate = 0.05                     # the share of its requests it strikes; or every = 20, or at = [1, 5]; always without
//! at_most = 100                   # strikes
//! does = "throttle"               # see `Does`; with a figure: does = { delay_ms = 250 }
//! ```
//!
//! A request meets the first fault of the script that strikes; the faults behind it are not asked. What AWS's own answers
//! look like is in the API reference of Kinesis Data Streams.

mod strike;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use ferrokinesis::shard_iterator::decode_shard_iterator;
use figment::Figment;
use figment::providers::{Format, Toml};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Deserialize;
use serde_json::Value;

use super::embedded::{REQUEST_BYTES_MAX, operation};
use crate::error::{Error, Result};

/// A script as written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Script {
    #[serde(default)]
    seed: u64,
    fault: Vec<Fault>,
}

/// One kind of trouble, and when it comes.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    operation: Option<String>,
    shard: Option<String>,
    rate: Option<f64>,
    every: Option<u64>,
    #[serde(default)]
    at: Vec<u64>,
    at_most: Option<u64>,
    does: Does,
}

/// What a fault does to the request it strikes.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum Does {
    /// Not passed on: `ProvisionedThroughputExceededException`.
    Throttle,
    /// Not passed on: `ExpiredIteratorException`.
    ExpireIterator,
    /// Not passed on: `ExpiredNextTokenException`. Strikes requests that bring a token.
    ExpireToken,
    /// Not passed on: this status and error code.
    Answer { status: u16, code: String },
    /// Passed on and applied, then HTTP 500.
    LoseAnswer,
    /// Not passed on: the connection ends in the middle of an answer.
    Reset,
    /// Passed on and applied, then the connection ends in the middle of the answer.
    ResetAfter,
    /// Passed on after so many milliseconds.
    DelayMs(u64),
    /// PutRecords: this share of the records is refused, the others are passed on.
    RefuseRecords(f64),
    /// GetRecords: says it is so many milliseconds behind.
    BehindMs(u64),
    /// GetRecords: the last answer of a shard names its children, as the service does and the embedded server does not.
    ChildShards,
    /// ListShards: so many shards a page.
    PageOf(usize),
}

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
}

/// How often a fault struck.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Struck {
    /// `GetRecords throttle`.
    pub fault: String,
    pub times: u64,
}

impl Faults {
    /// Reads a script.
    ///
    /// # Errors
    /// [`Error::Usage`] naming the key that is wrong; a fault that could never strike is one.
    pub fn parse(text: &str) -> Result<Self> {
        let script: Script = Figment::from(Toml::string(text))
            .extract()
            .map_err(|error| Error::usage(format!("the script of faults: {error}")))?;
        let armed = script.fault.into_iter().zip(0..).map(|(fault, place)| {
            fault.check().map_err(|what| Error::usage(format!("fault {} of the script: {what}", place + 1)))?;
            Ok(Armed::new(fault, script.seed.wrapping_add(place)))
        });
        Ok(Self(Arc::new(Mutex::new(armed.collect::<Result<_>>()?))))
    }

    /// Adds a fault that strikes the next request of `operation` once; earlier ones strike first.
    pub fn add(&self, operation: &str, does: Does) {
        let mut fault = Fault::always(does);
        fault.operation = Some(operation.to_owned());
        fault.at_most = Some(1);
        self.armed().push(Armed::new(fault, 0));
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

    fn armed(&self) -> MutexGuard<'_, Vec<Armed>> {
        // Counts and draws are whole after every step, whatever a holder of the lock died of.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The fault this request meets, by its place in the script. It counts as a strike, so that no other request meets one
    /// that strikes once; [`Faults::missed`] takes that back.
    fn met(&self, operation: &str, body: &Value) -> Option<(usize, Does)> {
        let shard = shard_of(body);
        let mut armed = self.armed();
        let place = armed.iter_mut().position(|armed| armed.strikes_at(operation, shard.as_deref(), body))?;
        armed[place].strikes += 1;
        Some((place, armed[place].fault.does.clone()))
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
}

impl Armed {
    fn new(fault: Fault, seed: u64) -> Self {
        Self { fault, random: ChaCha8Rng::seed_from_u64(seed), asked: 0, strikes: 0 }
    }

    fn strikes_at(&mut self, operation: &str, shard: Option<&str>, body: &Value) -> bool {
        if self.fault.at_most.is_some_and(|most| self.strikes >= most) || !self.fault.concerns(operation, shard, body) {
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

impl Fault {
    fn always(does: Does) -> Self {
        Self { operation: None, shard: None, rate: None, every: None, at: Vec::new(), at_most: None, does }
    }

    /// Whether it can strike such a request at all.
    fn concerns(&self, operation: &str, shard: Option<&str>, body: &Value) -> bool {
        self.operation.as_ref().is_none_or(|wanted| wanted == operation)
            && self.does.operation().is_none_or(|needed| needed == operation)
            && self.shard.as_deref().is_none_or(|wanted| Some(wanted) == shard)
            && (self.does != Does::ExpireToken || body.get("NextToken").is_some())
    }

    fn check(&self) -> std::result::Result<(), String> {
        let is_share = |share: f64| (0.0..=1.0).contains(&share) && share > 0.0;
        if let (Some(given), Some(needed)) = (&self.operation, self.does.operation())
            && given != needed
        {
            return Err(format!("`{}` is about {needed}, not {given}", self.does));
        }
        if [self.rate.is_some(), self.every.is_some(), !self.at.is_empty()].iter().filter(|given| **given).count() > 1 {
            return Err("`rate`, `every` and `at` exclude each other".to_owned());
        }
        if self.rate.is_some_and(|rate| !is_share(rate)) {
            return Err("`rate` is a share of the requests, above 0 and at most 1".to_owned());
        }
        if self.every == Some(0) || self.at.contains(&0) || self.at_most == Some(0) {
            return Err("`every`, `at` and `at_most` count from 1".to_owned());
        }
        match self.does {
            Does::RefuseRecords(share) if !is_share(share) => {
                Err("`refuse_records` is a share of the records, above 0 and at most 1".to_owned())
            }
            Does::PageOf(0) => Err("`page_of` is a number of shards, at least 1".to_owned()),
            Does::Answer { status, .. } if StatusCode::from_u16(status).is_err() => {
                Err(format!("`{status}` is no HTTP status"))
            }
            _ => Ok(()),
        }
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let operation = self.operation.as_deref().or(self.does.operation()).unwrap_or("every operation");
        write!(f, "{operation} {}", self.does)?;
        self.shard.as_ref().map_or(Ok(()), |shard| write!(f, " of {shard}"))
    }
}

impl Does {
    /// The only operation it can happen to.
    fn operation(&self) -> Option<&'static str> {
        match self {
            Self::RefuseRecords(_) => Some("PutRecords"),
            Self::BehindMs(_) | Self::ChildShards | Self::ExpireIterator => Some("GetRecords"),
            Self::PageOf(_) | Self::ExpireToken => Some("ListShards"),
            _ => None,
        }
    }
}

impl std::fmt::Display for Does {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Throttle => f.write_str("throttle"),
            Self::ExpireIterator => f.write_str("expire_iterator"),
            Self::ExpireToken => f.write_str("expire_token"),
            Self::Answer { status, code } => write!(f, "answer {status} {code}"),
            Self::LoseAnswer => f.write_str("lose_answer"),
            Self::Reset => f.write_str("reset"),
            Self::ResetAfter => f.write_str("reset_after"),
            Self::DelayMs(millis) => write!(f, "delay_ms {millis}"),
            Self::RefuseRecords(share) => write!(f, "refuse_records {share}"),
            Self::BehindMs(millis) => write!(f, "behind_ms {millis}"),
            Self::ChildShards => f.write_str("child_shards"),
            Self::PageOf(shards) => write!(f, "page_of {shards}"),
        }
    }
}

/// The shard a request is about, if it is about one.
fn shard_of(body: &Value) -> Option<String> {
    let named = body.get("ShardId").and_then(Value::as_str).map(str::to_owned);
    named.or_else(|| {
        let (_, _, shard, _) = decode_shard_iterator(body.get("ShardIterator")?.as_str()?).ok()?;
        Some(shard)
    })
}

/// A request on its way to the server.
async fn meet(State(faults): State<Faults>, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(bytes) = to_bytes(body, REQUEST_BYTES_MAX).await else {
        return StatusCode::PAYLOAD_TOO_LARGE.into_response();
    };
    let operation = operation(&parts.headers).to_owned();
    // Only what is looked into is parsed: five megabytes of records are not.
    let looked_into = matches!(operation.as_str(), "GetRecords" | "GetShardIterator" | "ListShards");
    let body = looked_into.then(|| serde_json::from_slice(&bytes).ok()).flatten().unwrap_or(Value::Null);
    let met = faults.met(&operation, &body);
    let request = Request::from_parts(parts, Body::from(bytes));
    match met {
        Some((place, does)) => strike::carry_out(&faults, place, does, request, &body, next).await,
        None => strike::pass(request, &body, next).await,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn strikes(faults: &Faults, operation: &str, body: &Value, requests: usize) -> Vec<usize> {
        (1..=requests).filter(|_| faults.met(operation, body).is_some()).collect()
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
        let iterator = ferrokinesis::shard_iterator::create_shard_iterator("s", "shardId-000000000002", "0");
        assert_eq!(strikes(&parsed(script), "GetRecords", &json!({"ShardIterator": iterator}), 2), [1, 2]);
        assert_eq!(strikes(&parsed(script), "GetShardIterator", &json!({"ShardId": "shardId-000000000002"}), 1), [1]);
        assert!(strikes(&parsed(script), "GetShardIterator", &json!({"ShardId": "shardId-000000000001"}), 1).is_empty());
        assert!(strikes(&parsed(script), "PutRecords", &Value::Null, 1).is_empty());
    }

    #[test]
    fn the_first_fault_that_strikes_is_the_only_one() {
        let faults = parsed(
            "[[fault]]\nevery = 2\ndoes = \"throttle\"\n[[fault]]\noperation = \"GetRecords\"\ndoes = \"expire_iterator\"",
        );
        strikes(&faults, "GetRecords", &Value::Null, 4);
        let told: Vec<(String, u64)> = faults.struck().into_iter().map(|struck| (struck.fault, struck.times)).collect();
        let expected = [("every operation throttle".to_owned(), 2), ("GetRecords expire_iterator".to_owned(), 2)];
        assert_eq!((told.as_slice(), faults.idle()), (expected.as_slice(), 0));
    }

    #[test]
    fn a_script_that_could_never_strike_is_refused() {
        for (script, says) in [
            ("[[fault]]\ndoes = \"explode\"", "explode"),
            ("[[fault]]\ndoes = \"reset\"\nshards = 1", "shards"),
            ("[[fault]]\noperation = \"GetRecords\"\ndoes = { page_of = 2 }", "is about ListShards, not GetRecords"),
            ("[[fault]]\nrate = 0.5\nevery = 2\ndoes = \"reset\"", "exclude each other"),
            ("[[fault]]\nrate = 1.5\ndoes = \"reset\"", "share of the requests"),
            ("[[fault]]\nrate = 0\ndoes = \"reset\"", "share of the requests"),
            ("[[fault]]\nat = [0]\ndoes = \"reset\"", "count from 1"),
            ("[[fault]]\ndoes = { refuse_records = 2.0 }", "share of the records"),
            ("[[fault]]\ndoes = { page_of = 0 }", "at least 1"),
            ("[[fault]]\ndoes = { answer = { status = 42, code = \"X\" } }", "no HTTP status"),
            ("seed = 1", "fault"),
        ] {
            let error = Faults::parse(script).unwrap_err();
            assert!(matches!(&error, Error::Usage(text) if text.contains(says)), "{script}: {error}");
        }
    }
}
