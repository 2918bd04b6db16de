//! The commands around the streaming job.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::output::{answer, print_rows, say};
use super::{AuditArgs, BatchArgs, CheckArgs, ReplayArgs, SimulateArgs, SqlArgs, StreamArgs};
use crate::batch::LakeView;
use crate::clock::Micros;
use crate::config::{Config, Endpoint, micros};
use crate::error::{Error, Result};
use crate::kinesis::{EmbeddedKinesis, Faults, Producer, Struck, connect, create_stream};
use crate::micro_batch::{Decoder, IdentityHasher};
use crate::plans::{Plans, plan_file};
use crate::simulate::{FileSpec, Replay, ReplayProgress, replay as send_file, write_file};
use crate::sql::{TimeRange, parse_params};
use crate::token::{TokenKey, Tokenizer};

/// `lakeward check`: the configuration is read, every contract and query is planned, nothing is written. With `--live` AWS is
/// asked, too.
pub(super) async fn check(config: &Config, args: &CheckArgs) -> Result<ExitCode> {
    let plans = Plans::read(config).await?;
    // The rules and generated columns of the stream are compiled by its decoder; no key is needed to see whether they do.
    let no_key = Tokenizer::new(TokenKey::from_hex(config.token.version, &"00".repeat(32))?);
    let hasher = IdentityHasher::new([0; 4]);
    Decoder::new(plans.stream.clone(), plans.rejects.clone(), no_key, micros(config.event_time.max_ahead), hasher)?;
    if !args.json {
        for query in &plans.queries {
            answer(&format!("{}: ok", query.name()))?;
            if query.is_beyond_correction() {
                let name = query.name();
                answer(&format!(
                    "{name}: warning: what comes late is never brought into its windows, nor history answered: select \
                     `window_start`"
                ))?;
            }
        }
        answer(&format!("{} contracts, {} standing queries: ok", plans.contracts.len(), plans.queries.len()))?;
    }
    match args.live {
        true => super::access::ask(config, args.json).await,
        false => Ok(ExitCode::SUCCESS),
    }
}

/// `lakeward stream`: the embedded Kinesis until Ctrl-C.
pub(super) async fn stream(config: &Config, args: &StreamArgs) -> Result<ExitCode> {
    let script = args.faults.as_deref().map(script).transpose()?;
    let faults = Faults::default();
    let server =
        EmbeddedKinesis::start_with(&args.listen, &config.stream.region, |router| faults.before(router)).await?;
    let client = connect(&config.stream, Some(&server)).await?;
    create_stream(&client, &config.stream.name, config.stream.shards).await?;
    if let Some(script) = &script {
        faults.arm(script);
    }
    answer(&format!(
        "{} serves the stream `{}` with {} shards",
        server.url(),
        config.stream.name,
        config.stream.shards
    ))?;
    say("records are kept in memory until this process ends; Ctrl-C ends it");
    let _ = tokio::signal::ctrl_c().await;
    server.stop().await?;
    if script.is_none() {
        return Ok(ExitCode::SUCCESS);
    }
    for Struck { fault, times } in faults.struck() {
        answer(&format!("{times:>8} × {fault}"))?;
    }
    if let Err(error) = faults.all_struck() {
        say(&error.to_string());
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

fn script(path: &Path) -> Result<Faults> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Error::usage(format!("cannot read the script of faults `{}`: {error}", path.display())))?;
    Faults::parse(&text)
}

/// `lakeward simulate`: a file in the data set's own format.
pub(super) async fn simulate(config: &Config, args: &SimulateArgs) -> Result<ExitCode> {
    let spec = FileSpec { cards: config.simulate.cards, ..FileSpec::new(args.rows, config.simulate.seed) };
    let path = args.out.clone();
    let written = tokio::task::spawn_blocking(move || write_file(&path, &spec)).await;
    let written = written.unwrap_or_else(|panic| Err(Error::external("writing the file", panic)))?;
    answer(&format!("{}: {} transactions, {} of them fraud", args.out.display(), written.rows, written.frauds))?;
    Ok(ExitCode::SUCCESS)
}

/// `lakeward replay FILE`: sends a file to the configured stream, for another process to read.
pub(super) async fn replay(config: &Config, args: &ReplayArgs) -> Result<ExitCode> {
    if config.stream.endpoint == Endpoint::Embedded {
        return Err(Error::usage(
            "`replay` writes to a stream of another process: set `stream.endpoint` to \"aws\" or to the URL `lakeward \
             stream` prints; to send a file through an embedded stream use `lakeward run --replay FILE`",
        ));
    }
    let plans = Plans::read(config).await?;
    let (token_key, _) = TokenKey::load(&config.token, config.stream.endpoint != Endpoint::Aws)?;
    let client = connect(&config.stream, None).await?;
    let producer = Producer::of(client, &config.stream);
    let file = Replay {
        path: args.file.clone(),
        contract: plans.stream,
        tokenizer: Tokenizer::new(token_key),
        ahead_max: None,
    };
    let stop = CancellationToken::new();
    let interrupted = stop.clone();
    tokio::spawn(async move {
        let _ = tokio::signal::ctrl_c().await;
        interrupted.cancel();
    });
    let sent = send_file(producer, file, Arc::new(ReplayProgress::default()), stop).await?;
    answer(&format!("{}: {sent} records sent to `{}`", args.file.display(), config.stream.name))?;
    Ok(ExitCode::SUCCESS)
}

/// `lakeward batch FILE`.
pub(super) async fn batch(config: &Config, args: BatchArgs) -> Result<ExitCode> {
    let params = parse_params(&args.params)?;
    if args.write {
        return super::restate::write(config, &args).await;
    }
    let view = LakeView::open(config).await?;
    let rows = match (&args.from, &args.to) {
        (None, None) => view.file(&args.file, params).await?,
        _ if !params.is_empty() => {
            return Err(Error::usage(
                "`--param` does not go with `--from` and `--to`: a standing query has no parameters",
            ));
        }
        (from, to) => {
            let range = given_range(from.as_deref(), to.as_deref())?;
            let query = plan_file(config, &args.file).await?;
            view.backfill(&query, range).await?
        }
    };
    print_rows(&rows, args.format)?;
    Ok(ExitCode::SUCCESS)
}

/// `lakeward sql STATEMENT`.
pub(super) async fn sql(config: &Config, args: SqlArgs) -> Result<ExitCode> {
    let view = LakeView::open(config).await?;
    let rows = view.sql(&args.statement, parse_params(&args.params)?).await?;
    print_rows(&rows, args.format)?;
    Ok(ExitCode::SUCCESS)
}

/// `lakeward audit`: exit code 1 when anything differs.
pub(super) async fn audit(config: &Config, args: &AuditArgs) -> Result<ExitCode> {
    let report = crate::audit::audit(config).await?;
    if args.json {
        answer(&serde_json::to_string(&report).map_err(|e| Error::external("writing the report", e))?)?;
    } else {
        answer(&report.to_string())?;
    }
    Ok(if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// `--from` and `--to`; what is not given is open.
pub(super) fn given_range(from: Option<&str>, to: Option<&str>) -> Result<TimeRange> {
    let from = from.map_or(Ok(Micros::MIN), |text| given_time(text, "--from"))?;
    let to = to.map_or(Ok(Micros::MAX), |text| given_time(text, "--to"))?;
    Ok(TimeRange { from, to })
}

/// A time of the command line, microseconds UTC.
pub(super) fn given_time(text: &str, option: &str) -> Result<Micros> {
    chrono::DateTime::parse_from_rfc3339(text)
        .map(|time| time.timestamp_micros())
        .map_err(|_| Error::usage(format!("`{option} {text}`: expected a time like `2026-11-23T00:00:00Z`")))
}
