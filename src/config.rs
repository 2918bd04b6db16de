//! The configuration: `config.toml`, compiled in as the defaults, then a file, the environment and `--set` over it.
//!
//! The one law: every key has a default in `config.toml`, and a key that is not there is refused. Secrets are not keys.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytesize::ByteSize;
use figment::Figment;
use figment::providers::{Env, Format, Toml};
use serde::{Deserialize, Deserializer};

use crate::clock::Micros;
use crate::error::{Error, Result};

/// The commented defaults.
pub const DEFAULTS: &str = include_str!("../config.toml");

/// Environment variables `LAKEWARD__SECTION__KEY` override keys. (`LAKEWARD_TOKEN_KEY`, a secret, is not one of them.)
const ENVIRONMENT_PREFIX: &str = "LAKEWARD__";

/// Everything `config.toml` says; see the comments there.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub lake: Lake,
    pub queries: Queries,
    pub stream: Stream,
    pub token: Token,
    pub tick: Tick,
    pub commit: Commit,
    pub watermark: Watermark,
    pub event_time: EventTime,
    pub reconcile: Reconcile,
    pub simulate: Simulate,
    pub audit: Audit,
    pub cost: Cost,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lake {
    pub url: String,
    pub contracts: PathBuf,
    pub app_id: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Queries {
    pub dir: PathBuf,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stream {
    pub table: String,
    pub name: String,
    pub endpoint: Endpoint,
    pub region: String,
    pub shards: u32,
    pub start: Start,
    pub listen: String,
}

/// Which Kinesis is spoken to.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(from = "String")]
pub enum Endpoint {
    /// One inside this process.
    Embedded,
    /// The region's own, with the SDK's credentials chain.
    Aws,
    /// A server of the Kinesis API at this URL.
    Url(String),
}

impl From<String> for Endpoint {
    fn from(text: String) -> Self {
        match text.as_str() {
            "embedded" => Self::Embedded,
            "aws" => Self::Aws,
            _ => Self::Url(text),
        }
    }
}

/// Where a stream that no slot knows is read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Start {
    TrimHorizon,
    Latest,
    /// Microseconds, UTC.
    At(Micros),
}

impl TryFrom<String> for Start {
    type Error = String;

    fn try_from(text: String) -> std::result::Result<Self, String> {
        match text.as_str() {
            "trim_horizon" => Ok(Self::TrimHorizon),
            "latest" => Ok(Self::Latest),
            time => chrono::DateTime::parse_from_rfc3339(time).map(|t| Self::At(t.timestamp_micros())).map_err(|_| {
                format!("`{time}` is none of `trim_horizon`, `latest`, or a time like `2026-11-23T00:00:00Z`")
            }),
        }
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Token {
    pub version: u32,
    pub key_file: PathBuf,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tick {
    #[serde(deserialize_with = "duration")]
    pub interval: Duration,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Commit {
    #[serde(deserialize_with = "duration")]
    pub interval: Duration,
    pub rows_max: usize,
    pub bytes_max: ByteSize,
    pub partitions_max: usize,
    pub groups_max: usize,
    #[serde(deserialize_with = "duration")]
    pub event_time_max: Duration,
    pub checkpoint_every: u64,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Watermark {
    #[serde(deserialize_with = "duration")]
    pub out_of_orderness: Duration,
    #[serde(deserialize_with = "duration")]
    pub idle_after: Duration,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventTime {
    #[serde(deserialize_with = "duration")]
    pub max_ahead: Duration,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reconcile {
    pub enabled: bool,
    #[serde(deserialize_with = "duration")]
    pub interval: Duration,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Simulate {
    pub seed: u64,
    pub cards: usize,
    #[serde(deserialize_with = "duration")]
    pub history: Duration,
    pub history_rate: u32,
    pub rate: u32,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Audit {
    pub float_tolerance: f64,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cost {
    pub prices: PathBuf,
}

impl Config {
    /// Reads the defaults, then `file`, the environment, and `overrides` (`key=value`), each over the one before.
    ///
    /// # Errors
    /// [`Error::Usage`] naming the key and where it was set, for an unreadable file, an unknown key or a bad value.
    pub fn load(file: Option<&Path>, overrides: &[String]) -> Result<Self> {
        let mut figment = Figment::from(Toml::string(DEFAULTS));
        if let Some(path) = file {
            if !path.is_file() {
                return Err(Error::usage(format!("no configuration file `{}`", path.display())));
            }
            figment = figment.merge(Toml::file_exact(path));
        }
        figment = figment.merge(Env::prefixed(ENVIRONMENT_PREFIX).split("__"));
        for assignment in overrides {
            figment = figment.merge(Toml::string(&toml_line(assignment)?));
        }
        let config: Self = figment.extract().map_err(|error| Error::usage(format!("configuration: {error}")))?;
        config.check()?;
        Ok(config)
    }

    /// Refuses values that no job can run with.
    fn check(&self) -> Result<()> {
        let zero = [
            ("tick.interval", self.tick.interval.is_zero()),
            ("commit.interval", self.commit.interval.is_zero()),
            ("commit.rows_max", self.commit.rows_max == 0),
            ("commit.bytes_max", self.commit.bytes_max.as_u64() == 0),
            ("commit.partitions_max", self.commit.partitions_max == 0),
            ("commit.groups_max", self.commit.groups_max == 0),
            ("commit.checkpoint_every", self.commit.checkpoint_every == 0),
            ("reconcile.interval", self.reconcile.interval.is_zero()),
            ("stream.shards", self.stream.shards == 0),
            ("simulate.cards", self.simulate.cards == 0),
        ];
        match zero.iter().find(|(_, is_zero)| *is_zero) {
            Some((key, _)) => Err(Error::usage(format!("configuration: `{key}` must be greater than zero"))),
            None => Ok(()),
        }
    }
}

/// `section.key=value` as a line of TOML; a value that is no TOML value is taken as text.
fn toml_line(assignment: &str) -> Result<String> {
    let (key, value) = assignment
        .split_once('=')
        .ok_or_else(|| Error::usage(format!("`--set {assignment}`: expected `section.key=value`")))?;
    let is_plain = value.parse::<f64>().is_ok() || matches!(value, "true" | "false");
    let value = if is_plain { value.to_owned() } else { format!("{value:?}") };
    Ok(format!("{} = {value}", key.trim()))
}

/// `"250ms"`, `"10s"`, `"2h"`.
fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    humantime::parse_duration(&text).map_err(|e| serde::de::Error::custom(format!("`{text}` is no duration ({e})")))
}

/// A configured duration in the engine's unit of time.
pub fn micros(duration: Duration) -> Micros {
    Micros::try_from(duration.as_micros()).unwrap_or(Micros::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_complete() {
        let config = Config::load(None, &[]).unwrap();
        assert_eq!(config.commit.interval, Duration::from_secs(10));
        assert_eq!(config.stream.endpoint, Endpoint::Embedded);
        assert_eq!(config.stream.start, Start::TrimHorizon);
    }

    #[test]
    fn an_unknown_key_is_refused_by_name() {
        let error = Config::load(None, &["commit.intervall=5s".into()]).unwrap_err().to_string();
        assert!(error.contains("intervall"), "{error}");
    }

    #[test]
    fn zero_is_refused_where_nothing_could_run() {
        for key in ["tick.interval=0s", "commit.interval=0s", "commit.rows_max=0", "stream.shards=0"] {
            assert!(matches!(Config::load(None, &[key.into()]), Err(Error::Usage(_))), "{key}");
        }
    }

    #[test]
    fn set_overrides_a_default() {
        let config = Config::load(None, &["commit.interval=5s".into(), "stream.shards=2".into()]).unwrap();
        assert_eq!(config.commit.interval, Duration::from_secs(5));
        assert_eq!(config.stream.shards, 2);
    }
}
