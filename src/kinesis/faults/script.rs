//! A script of faults: which, when and how often.
//!
//! The one law: a fault that could never strike is refused when the script is read.
//!
//! A script is TOML:
//!
//! ```toml
//! seed = 7
//! [[fault]]
//! operation = "GetRecords"        # every operation without it
//! shard = "shardId-000000000003"  # GetRecords, GetShardIterator, SubscribeToShard: of this shard only
//! rate = 0.05                     # the share of its requests it strikes; or every = 20, or at = [1, 5]; always without
//! at_most = 100                   # strikes
//! does = "throttle"               # see `Does`; with a figure: does = { delay_ms = 250 }
//! ```
//!
//! What AWS's own answers look like is in the API reference of Kinesis Data Streams.

use std::fmt;
use std::str::FromStr;

use axum::http::StatusCode;
use ferrokinesis::actions::Operation;
use figment::Figment;
use figment::providers::{Format, Toml};
use serde::Deserialize;

use super::events::EXCEPTIONS;
use crate::error::{Error, Result};

/// A script as written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Script {
    #[serde(default)]
    pub seed: u64,
    pub fault: Vec<Fault>,
}

/// One kind of trouble, and when it comes.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Fault {
    operation: Option<String>,
    shard: Option<String>,
    pub rate: Option<f64>,
    pub every: Option<u64>,
    #[serde(default)]
    pub at: Vec<u64>,
    pub at_most: Option<u64>,
    pub does: Does,
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
    /// Not passed on: this status and error code, and words of the service's own where they matter.
    Answer {
        status: u16,
        code: String,
        #[serde(default)]
        message: Option<String>,
    },
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
    /// GetRecords: `Limit` is left out, so that an answer holds as much as one can, 10 MiB.
    FullAnswers,
    /// GetRecords: a call beyond what the service lets be read of a shard is throttled; the embedded server has no limits.
    ReadLimits,
    /// ListShards: so many shards a page.
    PageOf(usize),
    /// ListShards: leaves these out, as if they had expired, or were not listed yet.
    HideShards(Vec<String>),
    /// SubscribeToShard: ends after so many events, as if its five minutes were over.
    EndAfter(u64),
    /// SubscribeToShard: the connection ends in the middle of the event after so many.
    CutAfter(u64),
    /// SubscribeToShard: after so many events nothing comes any more, and the connection stays.
    SilentAfter(u64),
    /// SubscribeToShard: the event after so many comes twice.
    RepeatAfter(u64),
    /// SubscribeToShard: after so many events this exception comes, and the end.
    FailAfter { events: u64, code: String },
}

impl Script {
    /// Reads a script.
    ///
    /// # Errors
    /// [`Error::Usage`] naming what is wrong.
    pub fn parse(text: &str) -> Result<Self> {
        let script: Self = Figment::from(Toml::string(text))
            .extract()
            .map_err(|error| Error::usage(format!("the script of faults: {error}")))?;
        for (place, fault) in (1..).zip(&script.fault) {
            fault.check().map_err(|what| Error::usage(format!("fault {place} of the script: {what}")))?;
        }
        if script.fault.is_empty() {
            return Err(Error::usage("the script of faults: there is no fault in it"));
        }
        Ok(script)
    }
}

impl Fault {
    /// Strikes the next request of `operation`.
    pub fn once(operation: &str, does: Does) -> Self {
        let (shard, rate, every, at) = Default::default();
        Self { operation: Some(operation.to_owned()), shard, rate, every, at, at_most: Some(1), does }
    }

    /// Whether it can strike such a request at all.
    pub fn concerns(&self, operation: &str, shard: Option<&str>, asked: &serde_json::Value) -> bool {
        self.operation.as_ref().is_none_or(|wanted| wanted == operation)
            && self.does.operation().is_none_or(|needed| needed == operation)
            && self.shard.as_deref().is_none_or(|wanted| Some(wanted) == shard)
            && (self.does != Does::ExpireToken || asked.get("NextToken").is_some())
    }

    fn check(&self) -> std::result::Result<(), String> {
        let is_share = |share: f64| share > 0.0 && share <= 1.0;
        if let Some(unknown) = self.operation.as_ref().filter(|name| Operation::from_str(name).is_err()) {
            return Err(format!("Kinesis has no operation `{unknown}`"));
        }
        if let (Some(given), Some(needed)) = (&self.operation, self.does.operation())
            && given != needed
        {
            return Err(format!("`{}` is about {needed}, not {given}", self.does));
        }
        if let (Some(_), Some(operation)) = (&self.shard, self.operation.as_deref().or(self.does.operation()))
            && !matches!(operation, "GetRecords" | "GetShardIterator" | "SubscribeToShard")
        {
            return Err(format!("{operation} is not about one shard"));
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
        match &self.does {
            Does::RefuseRecords(share) if !is_share(*share) => {
                Err("`refuse_records` is a share of the records, above 0 and at most 1".to_owned())
            }
            Does::HideShards(shards) if shards.is_empty() => Err("`hide_shards` names no shard".to_owned()),
            Does::PageOf(0) => Err("`page_of` is a number of shards, at least 1".to_owned()),
            Does::Answer { status, .. } if StatusCode::from_u16(*status).is_err() => {
                Err(format!("`{status}` is no HTTP status"))
            }
            Does::FailAfter { code, .. } if !EXCEPTIONS.contains(&code.as_str()) => {
                Err(format!("no subscription ends with `{code}`, but with one of {}", EXCEPTIONS.join(", ")))
            }
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
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
            Self::BehindMs(_) | Self::ChildShards | Self::ExpireIterator | Self::FullAnswers | Self::ReadLimits => {
                Some("GetRecords")
            }
            Self::PageOf(_) | Self::HideShards(_) | Self::ExpireToken => Some("ListShards"),
            Self::EndAfter(_)
            | Self::CutAfter(_)
            | Self::SilentAfter(_)
            | Self::RepeatAfter(_)
            | Self::FailAfter { .. } => Some("SubscribeToShard"),
            _ => None,
        }
    }
}

impl fmt::Display for Does {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Throttle => f.write_str("throttle"),
            Self::ExpireIterator => f.write_str("expire_iterator"),
            Self::ExpireToken => f.write_str("expire_token"),
            Self::Answer { status, code, .. } => write!(f, "answer {status} {code}"),
            Self::LoseAnswer => f.write_str("lose_answer"),
            Self::Reset => f.write_str("reset"),
            Self::ResetAfter => f.write_str("reset_after"),
            Self::DelayMs(millis) => write!(f, "delay_ms {millis}"),
            Self::RefuseRecords(share) => write!(f, "refuse_records {share}"),
            Self::BehindMs(millis) => write!(f, "behind_ms {millis}"),
            Self::ChildShards => f.write_str("child_shards"),
            Self::FullAnswers => f.write_str("full_answers"),
            Self::ReadLimits => f.write_str("read_limits"),
            Self::PageOf(shards) => write!(f, "page_of {shards}"),
            Self::HideShards(shards) => write!(f, "hide_shards {}", shards.join(" ")),
            Self::EndAfter(events) => write!(f, "end_after {events}"),
            Self::CutAfter(events) => write!(f, "cut_after {events}"),
            Self::SilentAfter(events) => write!(f, "silent_after {events}"),
            Self::RepeatAfter(events) => write!(f, "repeat_after {events}"),
            Self::FailAfter { events, code } => write!(f, "fail_after {events} {code}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use figment::error::Kind;

    use super::*;

    #[test]
    fn a_script_that_could_never_strike_is_refused() {
        for (script, says) in [
            ("[[fault]]\ndoes = \"explode\"", "explode"),
            ("[[fault]]\ndoes = \"reset\"\nshards = 1", "shards"),
            ("[[fault]]\noperation = \"GetRecords\"\ndoes = { page_of = 2 }", "is about ListShards, not GetRecords"),
            ("[[fault]]\noperation = \"GetRecord\"\ndoes = \"reset\"", "no operation `GetRecord`"),
            ("[[fault]]\nshard = \"a\"\ndoes = { page_of = 2 }", "ListShards is not about one shard"),
            ("[[fault]]\noperation = \"PutRecords\"\nshard = \"a\"\ndoes = \"reset\"", "not about one shard"),
            ("[[fault]]\nrate = 0.5\nevery = 2\ndoes = \"reset\"", "exclude each other"),
            ("[[fault]]\nrate = 1.5\ndoes = \"reset\"", "share of the requests"),
            ("[[fault]]\nrate = 0\ndoes = \"reset\"", "share of the requests"),
            ("[[fault]]\nat = [0]\ndoes = \"reset\"", "count from 1"),
            ("[[fault]]\ndoes = { refuse_records = 2.0 }", "share of the records"),
            ("[[fault]]\ndoes = { page_of = 0 }", "at least 1"),
            ("[[fault]]\ndoes = { hide_shards = [] }", "names no shard"),
            ("[[fault]]\ndoes = { answer = { status = 42, code = \"X\" } }", "no HTTP status"),
            ("[[fault]]\noperation = \"GetRecords\"\ndoes = { end_after = 2 }", "is about SubscribeToShard"),
            ("[[fault]]\ndoes = { fail_after = { events = 0, code = \"X\" } }", "no subscription ends with `X`"),
            ("seed = 1", "fault"),
            ("fault = []", "no fault"),
        ] {
            let error = Script::parse(script).unwrap_err();
            assert!(matches!(&error, Error::Usage(text) if text.contains(says)), "{script}: {error}");
        }
    }

    #[test]
    fn the_script_of_the_documentation_is_one() {
        let text = include_str!("../../../docs/faults.md");
        let script = text.split("```").find_map(|block| block.strip_prefix("toml\n")).unwrap();
        assert!(Script::parse(script).unwrap().fault.len() > 2);
    }

    #[test]
    fn every_fault_has_a_row_in_the_documentation() {
        let text = include_str!("../../../docs/faults.md");
        let mut told = BTreeSet::new();
        for line in text.lines().filter(|line| line.starts_with("| `") && !line.starts_with("| `does`")) {
            let does = line.split('`').nth(1).unwrap();
            let written = if does.starts_with('{') { does.to_owned() } else { format!("\"{does}\"") };
            Script::parse(&format!("[[fault]]\ndoes = {written}")).unwrap();
            told.insert(does.trim_start_matches("{ ").split(' ').next().unwrap());
        }
        let unknown = Figment::from(Toml::string("[[fault]]\ndoes = \"\"")).extract::<Script>().unwrap_err();
        let Kind::UnknownVariant(_, all) = unknown.kind else { panic!("{unknown}") };
        assert_eq!(told, all.iter().copied().collect());
    }
}
