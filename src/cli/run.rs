//! `lakeward run`: the streaming job with somebody watching.

use std::process::ExitCode;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::RunArgs;
use super::live::{AGEING_SHARE, Live};
use super::output::{answer, say, thousands, time};
use super::tools::given_time;
use crate::clock::Clock;
use crate::config::{Config, Endpoint};
use crate::error::{Error, Result};
use crate::pipeline::{Backfill, Facts, Feed, Input, Job, Summary, start};
use crate::plans::{Change, ChangeKind};
use crate::token::{KeyOrigin, TokenKey};

/// Runs the job until its input ends or Ctrl-C.
pub(super) async fn run(config: Config, args: RunArgs) -> Result<ExitCode> {
    let input = input(&config, &args)?;
    let bounded = args.until_caught_up || matches!(input, Input::Files { .. } | Input::Stream(Feed::Replay(_)));
    let simulated = matches!(input, Input::Stream(Feed::Simulate));
    // Only where everything is made here may the key be made here too.
    let on_aws = config.stream.endpoint == Endpoint::Aws || config.lake.url.starts_with("s3://");
    let (token_key, key_origin) = TokenKey::load(&config.token, !on_aws)?;
    let stop = CancellationToken::new();
    let lake_url = config.lake.url.clone();
    let key_line = key_line(&config, &key_origin);
    let job = Job {
        config,
        input,
        until_caught_up: args.until_caught_up,
        allow_late: args.allow_late,
        accept_new_stream: args.accept_new_stream,
        demo: args.demo,
        backfill: backfill(&args)?,
        accept_gap: args.accept_gap,
        clock: Clock::System,
        token_key,
        host: host(),
        stop: stop.clone(),
    };
    stop_on_signal(stop.clone());
    let running = start(job).await?;
    greet(&running.facts, &key_line, simulated);
    let summary = Live::new(!args.json).watch(running, &stop).await?;
    if args.json {
        let json = serde_json::to_string(&summary).map_err(|e| Error::external("writing the summary", e))?;
        answer(&json)?;
    } else {
        answer(&report(&summary))?;
        if simulated {
            let all = if lake_url.starts_with("s3://") { "everything below it" } else { "that folder" };
            say(&format!("the lake is in {lake_url}; start again to go on, or delete {all} to start over"));
        }
    }
    if bounded && !summary.complete {
        say("stopped before the end of the input; the same command goes on from here");
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

fn input(config: &Config, args: &RunArgs) -> Result<Input> {
    if args.pace.is_some() && args.source.is_empty() {
        return Err(Error::usage("`--pace` goes with `--source`"));
    }
    Ok(match (&args.replay, args.source.as_slice()) {
        (Some(file), _) => Input::Stream(Feed::Replay(file.clone())),
        (None, []) if config.stream.endpoint == Endpoint::Embedded && !args.until_caught_up => {
            Input::Stream(Feed::Simulate)
        }
        (None, []) if config.stream.endpoint == Endpoint::Embedded => {
            return Err(Error::usage(
                "`--until-caught-up` on the embedded stream has nothing to catch up with: add `--replay FILE`, \
                 `--source FILE`, or set `stream.endpoint`",
            ));
        }
        (None, []) => Input::Stream(Feed::Others),
        (None, files) => Input::Files { paths: files.to_vec(), pace: args.pace },
    })
}

/// The history `--backfill` asks for.
fn backfill(args: &RunArgs) -> Result<Option<Backfill>> {
    Ok(match &args.backfill {
        None => None,
        Some(None) => Some(Backfill::All),
        Some(Some(from)) => Some(Backfill::From(given_time(from, "--backfill")?)),
    })
}

/// The machine's name, for the slots: from where Linux keeps it, or else from the command that every Unix has.
pub(super) fn host() -> Arc<str> {
    let told =
        || std::process::Command::new("hostname").output().map(|told| String::from_utf8_lossy(&told.stdout).into());
    let name = std::fs::read_to_string("/etc/hostname").or_else(|_| told()).unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { "unknown".into() } else { name.into() }
}

fn key_line(config: &Config, origin: &KeyOrigin) -> String {
    let file = config.token.key_file.display();
    match origin {
        KeyOrigin::Environment => "card numbers become tokens under the key in LAKEWARD_TOKEN_KEY".into(),
        KeyOrigin::File => format!("card numbers become tokens under the key in {file}"),
        KeyOrigin::Created => {
            format!("card numbers become tokens under a new key, made in {file}: keep it with the lake")
        }
    }
}

/// How a start names what becomes of queries.
const CHANGES: [(ChangeKind, &str); 5] = [
    (ChangeKind::Kept, "kept: "),
    (ChangeKind::New, "new: "),
    (ChangeKind::Changed, "changed: "),
    (ChangeKind::Returned, "back: "),
    (ChangeKind::Removed, "removed: "),
];

fn greet(facts: &Facts, key_line: &str, simulated: bool) {
    if let Some(stream) = &facts.stream {
        say(&format!("stream  {stream}"));
    }
    say(&format!("lake    {}", facts.lake));
    let known = facts.changes.iter().any(|change| change.kind != ChangeKind::New);
    for (kind, word) in CHANGES {
        let names = facts.changes.iter().filter(|change| change.kind == kind).map(|change| change.query.as_ref());
        let names: Vec<&str> = names.collect();
        if !names.is_empty() {
            // In a lake that begins all are new.
            let word = if known { word } else { "" };
            say(&format!("queries {word}{}", names.join(", ")));
        }
    }
    say(&format!("key     {key_line}"));
    for note in facts.changes.iter().filter_map(Change::sentence).chain(facts.notes.iter().cloned()) {
        say(&format!("note    {note}"));
    }
    if simulated {
        say("\nIn a second terminal, after the first commit:\n");
        say(
            "    ./target/release/lakeward sql \"select city, transactions, amount from city_minute order by window_start \
             desc limit 10\"\n",
        );
    }
}

/// Ctrl-C or SIGTERM stops the job in order; a second one at once.
fn stop_on_signal(stop: CancellationToken) {
    tokio::spawn(async move {
        signalled().await;
        stop.cancel();
        signalled().await;
        std::process::exit(1);
    });
}

async fn signalled() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        },
        Err(_) => {
            let _ = tokio::signal::ctrl_c().await;
        }
    }
}

/// The summary for people.
fn report(summary: &Summary) -> String {
    let counts = &summary.counts;
    let fraud = summary.tables.get("fraud_alerts").copied().unwrap_or(0);
    let lines = [
        ("read", thousands(counts.read)),
        ("written", thousands(counts.written)),
        ("duplicates", thousands(counts.duplicates)),
        ("rejected", thousands(counts.rejected)),
        ("late", thousands(counts.late)),
        ("windows closed", thousands(summary.windows_closed)),
        ("restated", thousands(summary.windows_restated)),
        ("compacted", thousands(summary.files_compacted)),
        ("fraud", thousands(fraud)),
        ("epochs", thousands(summary.epochs)),
        ("bytes", thousands(summary.bytes)),
        ("seconds", format!("{:.1}", summary.seconds)),
        ("rows/s", thousands(summary.rows_per_second)),
        ("watermark", time(summary.watermark)),
        ("memory", summary.memory_peak_bytes.map_or_else(|| "-".into(), |bytes| format!("{} MB", bytes / 1_000_000))),
    ];
    let gone = [("expired", summary.rows_expired), ("late, left", summary.late_rows_left)];
    let gone = gone
        .into_iter()
        .filter(|(_, rows)| *rows > 0)
        .map(|(name, rows)| format!("{name:<15} {:>22}", thousands(rows)));
    let used = summary.retention_used_max.filter(|share| *share >= AGEING_SHARE);
    let used = used.map(|share| format!("{:<15} {:>20.0} %", "retention used", 100.0 * share));
    let gaps = summary.gaps.iter().map(|gap| format!("gap             {gap}"));
    lines
        .map(|(name, value)| format!("{name:<15} {value:>22}"))
        .into_iter()
        .chain(gone)
        .chain(used)
        .chain(gaps)
        .collect::<Vec<_>>()
        .join("\n")
}
