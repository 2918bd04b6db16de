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

/// What a compaction may aim at: below, readers wait for requests; above, one reader has too much to itself.
const FILE_SIZES: (ByteSize, ByteSize) = (ByteSize::mib(1), ByteSize::gib(1));

/// Everything `config.toml` says; see the comments there.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub lake: Lake,
    pub s3: S3,
    pub queries: Queries,
    pub stream: Stream,
    pub token: Token,
    pub tick: Tick,
    pub commit: Commit,
    pub watermark: Watermark,
    pub event_time: EventTime,
    pub reconcile: Reconcile,
    pub catalog: Catalog,
    pub retention: Retention,
    pub maintenance: Maintenance,
    pub plain: Plain,
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

/// How a lake on S3 is reached; without effect on one in a folder.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct S3 {
    /// Another server than Amazon's.
    #[serde(deserialize_with = "given")]
    pub endpoint: Option<String>,
    /// Else the SDK's chain tells.
    #[serde(deserialize_with = "given")]
    pub region: Option<String>,
    pub path_style: bool,
    pub allow_http: bool,
    pub encryption: Encryption,
    #[serde(deserialize_with = "given")]
    pub kms_key_id: Option<String>,
    #[serde(deserialize_with = "duration")]
    pub request_timeout: Duration,
    #[serde(deserialize_with = "duration")]
    pub connect_timeout: Duration,
    pub retries_max: usize,
    #[serde(deserialize_with = "duration")]
    pub retry_timeout: Duration,
}

/// How S3 is asked to encrypt what it stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Encryption {
    /// Not asked: the bucket's own default.
    None,
    /// With keys of S3 (SSE-S3).
    S3,
    /// With a key of KMS (SSE-KMS), by bucket keys.
    Kms,
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
    pub reader: Reader,
    /// Empty: the lake's `app_id`.
    pub consumer: String,
    pub listen: String,
    pub aggregate: bool,
    pub aggregate_keys: u32,
    #[serde(deserialize_with = "duration")]
    pub linger: Duration,
    #[serde(deserialize_with = "duration")]
    pub idle_poll_max: Duration,
    pub in_flight_max: ByteSize,
}

/// The least [`Stream::in_flight_max`]: two answers, one being read while the other is decoded.
const IN_FLIGHT_LEAST: ByteSize = ByteSize::mib(20);

/// The most [`Stream::linger`]: the demo's card holders are never further behind than twice that.
const LINGER_MAX: Duration = Duration::from_secs(5);

/// Letters of a consumer's name: the service's limit.
const CONSUMER_NAME_MAX: usize = 128;

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

/// How the stream's shards are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reader {
    /// GetRecords.
    Polling,
    /// SubscribeToShard, by a registered consumer.
    FanOut,
    /// The latter where a consumer can be registered.
    Auto,
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
    /// Zero: no bound.
    #[serde(deserialize_with = "duration")]
    pub max_skew: Duration,
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
pub struct Catalog {
    pub glue: bool,
    pub database: String,
    /// `aws`, or a URL.
    pub endpoint: String,
    pub region: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retention {
    pub enabled: bool,
    #[serde(deserialize_with = "duration")]
    pub interval: Duration,
    #[serde(deserialize_with = "duration")]
    pub orphans_interval: Duration,
    #[serde(deserialize_with = "duration")]
    pub keep: Duration,
}

/// The least [`Retention::keep`]: what Delta's readers and writers expect of removed files.
pub const KEEP_MIN: Duration = Duration::from_secs(7 * 24 * 3_600);

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Maintenance {
    pub enabled: bool,
    #[serde(deserialize_with = "duration")]
    pub interval: Duration,
    pub file_size: ByteSize,
}

impl Maintenance {
    /// A file of fewer bytes is small: half of what a compaction aims at, so that what it writes is not.
    pub fn small_bytes(&self) -> u64 {
        self.file_size.as_u64() / 2
    }
}

/// Whether, where and of which tables dates that are over are written as plain Parquet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plain {
    /// A folder or a prefix of a bucket; empty: nothing is written.
    pub url: String,
    /// Empty: all tables.
    #[serde(deserialize_with = "names")]
    pub tables: Vec<String>,
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

    /// The name the stream's consumer is registered under.
    pub fn consumer_name(&self) -> &str {
        if self.stream.consumer.is_empty() { &self.lake.app_id } else { &self.stream.consumer }
    }

    /// How long a silent shard of the stream may go without a look. Half of the time after which it no longer holds the
    /// watermark back, and half of the disorder that rows may have, are left for the way from the answer to the engine: no
    /// row comes late because nobody looked.
    pub fn idle_poll_max(&self) -> Duration {
        let Watermark { out_of_orderness, idle_after, .. } = self.watermark;
        self.stream.idle_poll_max.min(idle_after / 2).min(out_of_orderness / 2)
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
            ("retention.interval", self.retention.interval.is_zero()),
            ("retention.orphans_interval", self.retention.orphans_interval.is_zero()),
            ("maintenance.interval", self.maintenance.interval.is_zero()),
            ("stream.shards", self.stream.shards == 0),
            ("stream.aggregate_keys", self.stream.aggregate_keys == 0),
            ("simulate.cards", self.simulate.cards == 0),
            ("s3.request_timeout", self.s3.request_timeout.is_zero()),
            ("s3.connect_timeout", self.s3.connect_timeout.is_zero()),
        ];
        if let Some((key, _)) = zero.iter().find(|(_, is_zero)| *is_zero) {
            return Err(Error::usage(format!("configuration: `{key}` must be greater than zero")));
        }
        if self.retention.keep < KEEP_MIN {
            return Err(Error::usage(
                "configuration: `retention.keep` must be at least `7d`: readers that are at work, and those of older \
                 versions, still need what was removed",
            ));
        }
        if self.stream.linger > LINGER_MAX {
            return Err(Error::usage("configuration: `stream.linger` is at most `5s`: records wait for it unsent"));
        }
        if self.stream.reader != Reader::Polling && !is_consumer_name(self.consumer_name()) {
            return Err(Error::usage(format!(
                "configuration: `stream.consumer` (or `lake.app_id`, when it is empty) is `{}`; a consumer's name has letters, \
                 digits, `_`, `.` and `-`, at most 128",
                self.consumer_name()
            )));
        }
        if self.stream.in_flight_max < IN_FLIGHT_LEAST {
            return Err(Error::usage(format!(
                "configuration: `stream.in_flight_max` is {}; two answers of a shard need {IN_FLIGHT_LEAST}",
                self.stream.in_flight_max
            )));
        }
        let (size, (least, most)) = (self.maintenance.file_size, FILE_SIZES);
        if size < least || size > most {
            return Err(Error::usage(format!(
                "configuration: `maintenance.file_size` is {size}; files of the lake have between {least} and {most}"
            )));
        }
        self.s3.check()
    }
}

impl S3 {
    fn check(&self) -> Result<()> {
        if self.kms_key_id.is_some() && self.encryption != Encryption::Kms {
            return Err(Error::usage("configuration: `s3.kms_key_id` goes with `s3.encryption = \"kms\"`"));
        }
        let Some(endpoint) = &self.endpoint else { return Ok(()) };
        if endpoint.contains('@') {
            return Err(Error::usage(
                "configuration: `s3.endpoint` holds a name or password; credentials come from the SDK's chain",
            ));
        }
        let scheme = url::Url::parse(endpoint).ok().filter(url::Url::has_host).map(|url| url.scheme().to_owned());
        match scheme.as_deref() {
            Some("https") => Ok(()),
            Some("http") if self.allow_http => Ok(()),
            Some("http") => Err(Error::usage(format!(
                "configuration: `s3.endpoint` `{endpoint}` is not encrypted; use `https://`, or set `s3.allow_http = true` \
                 for a server on this machine"
            ))),
            _ => Err(Error::usage(format!(
                "configuration: `s3.endpoint` `{endpoint}` is no URL; expected `https://…`, or nothing for Amazon's own"
            ))),
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

/// A text that may be left out, by being empty.
fn given<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Option<String>, D::Error> {
    Ok(Some(String::deserialize(deserializer)?).filter(|text| !text.is_empty()))
}

/// `"a, b"`.
fn names<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Vec<String>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
    Ok(names.map(str::to_owned).collect())
}

/// What the service takes for a consumer's name.
fn is_consumer_name(name: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    (1..=CONSUMER_NAME_MAX).contains(&name.len()) && name.bytes().all(is_allowed)
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
        for key in [
            "tick.interval=0s",
            "commit.interval=0s",
            "commit.rows_max=0",
            "stream.shards=0",
            "stream.aggregate_keys=0",
        ] {
            assert!(matches!(Config::load(None, &[key.into()]), Err(Error::Usage(_))), "{key}");
        }
    }

    #[test]
    fn a_consumer_is_called_after_the_lake_unless_it_has_a_name_of_its_own() {
        let load = |settings: &[&str]| {
            let settings: Vec<String> = settings.iter().map(|setting| (*setting).to_owned()).collect();
            Config::load(None, &settings)
        };
        let config = load(&["stream.reader=auto", "lake.app_id=cards"]).unwrap();
        assert_eq!((config.stream.reader, config.consumer_name()), (Reader::Auto, "cards"));
        assert_eq!(load(&["stream.consumer=second"]).unwrap().consumer_name(), "second");
        let refused = load(&["stream.reader=fan_out", "stream.consumer=a b"]).unwrap_err().to_string();
        assert!(refused.contains("`a b`"), "{refused}");
        load(&["lake.app_id=a b"]).unwrap();
        assert!(load(&["stream.reader=pushed"]).unwrap_err().to_string().contains("pushed"));
    }

    #[test]
    fn records_wait_for_company_at_most_five_seconds() {
        let stream = Config::load(None, &["stream.linger=5s".into()]).unwrap().stream;
        assert!(!stream.aggregate && stream.linger == LINGER_MAX);
        let refused = Config::load(None, &["stream.linger=5001ms".into()]).unwrap_err().to_string();
        assert!(refused.contains("stream.linger"), "{refused}");
    }

    #[test]
    fn no_row_is_late_because_nobody_looked() {
        let of = |set: &[&str]| {
            let set: Vec<String> = set.iter().map(|set| (*set).to_owned()).collect();
            Config::load(None, &set).unwrap().idle_poll_max()
        };
        assert_eq!(of(&[]), Duration::from_secs(5));
        assert_eq!(of(&["watermark.idle_after=500ms"]), Duration::from_millis(250));
        assert_eq!(of(&["watermark.out_of_orderness=1s"]), Duration::from_millis(500));
        let refused = Config::load(None, &["stream.in_flight_max=1MiB".into()]).unwrap_err().to_string();
        assert!(refused.contains("stream.in_flight_max"), "{refused}");
    }

    #[test]
    fn s3_is_amazons_and_encrypted_on_the_way_unless_said_otherwise() {
        let config = Config::load(None, &[]).unwrap().s3;
        assert_eq!((config.endpoint, config.region, config.kms_key_id), (None, None, None));
        assert_eq!((config.allow_http, config.encryption), (false, Encryption::None));
        for (set, says) in [
            (&["s3.endpoint=http://127.0.0.1:9000"][..], "allow_http"),
            (&["s3.endpoint=127.0.0.1:9000"], "no URL"),
            (&["s3.kms_key_id=alias/lake"], "encryption"),
            (&["s3.encryption=aes"], "aes"),
            (&["s3.request_timeout=0s"], "request_timeout"),
        ] {
            let set: Vec<String> = set.iter().map(|set| (*set).to_owned()).collect();
            let error = Config::load(None, &set).unwrap_err();
            assert!(matches!(&error, Error::Usage(m) if m.contains(says)), "{set:?}: {error}");
        }
        let set = ["s3.endpoint=http://127.0.0.1:9000", "s3.allow_http=true", "s3.encryption=kms", "s3.kms_key_id=k"];
        let config = Config::load(None, &set.map(str::to_owned)).unwrap().s3;
        assert_eq!((config.endpoint.as_deref(), config.encryption), (Some("http://127.0.0.1:9000"), Encryption::Kms));
    }

    #[test]
    fn what_was_removed_stays_for_a_week() {
        let error = Config::load(None, &["retention.keep=6d".into()]).unwrap_err().to_string();
        assert!(error.contains("at least `7d`"), "{error}");
        assert_eq!(Config::load(None, &["retention.keep=30d".into()]).unwrap().retention.keep, 30 * KEEP_MIN / 7);
    }

    #[test]
    fn files_are_neither_tiny_nor_huge() {
        for size in ["10KiB", "2GiB"] {
            let error = Config::load(None, &[format!("maintenance.file_size={size}")]).unwrap_err().to_string();
            assert!(error.contains("between 1.0 MiB and 1.0 GiB"), "{error}");
        }
    }

    #[test]
    fn set_overrides_a_default() {
        let config = Config::load(None, &["commit.interval=5s".into(), "stream.shards=2".into()]).unwrap();
        assert_eq!(config.commit.interval, Duration::from_secs(5));
        assert_eq!(config.stream.shards, 2);
    }
}
