//! The commands that look after tables by hand: `lakeward lake manifest`, `vacuum` and `checkpoint`.
//!
//! The one law: manifests have one writer, so `manifest` takes the lake's lock, which a running job holds. The others only
//! add a checkpoint, or delete what nobody needs, and may run beside a job.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;

use bytesize::ByteSize;
use datafusion::sql::sqlparser::tokenizer::Span;
use serde::Serialize;
use serde_json::{Map, Value};

use super::output::{answer, thousands};
use super::{Beside, LakeTablesArgs, LakeVacuumArgs, WritingArgs, beside};
use crate::clock::Clock;
use crate::config::{Config, micros};
use crate::contract::{Sink, TableContract};
use crate::epoch::SlotLog;
use crate::error::{Context, Error, Refusal, Result};
use crate::lake::{Lake, Table};
use crate::pipeline::Upkeep;
use crate::plans::Plans;
use crate::vacuum::{Retention, Scope, Vacuumed, unpublished, vacuum};

/// The tables a command is about.
type Tables = BTreeMap<Arc<str>, Arc<Table>>;

/// `lakeward lake manifest`: manifests as the logs say, and the catalog, if it is configured.
pub(super) async fn manifest(config: &Config, args: &WritingArgs) -> Result<ExitCode> {
    let (lake, args) = (writable(config, args.beside).await?, &args.of);
    let _lock = lake.lock().map_err(|error| match error {
        Error::Fenced(who) => {
            Error::Fenced(format!("{who}; a running job writes manifests and registers partitions by itself"))
        }
        other => other,
    })?;
    let contracts = Plans::read(config).await?.tables();
    let tables = chosen(&lake, &args.tables).await?;
    let upkeep = Upkeep::of(config, &lake, &tables, &contracts).await?;
    let mut report = Map::new();
    for name in tables.keys() {
        if !is_kept(config, contracts.get(name)) {
            let why = format!("{name}: its contract has no sink `spectrum`: no manifests");
            if !args.json {
                answer(&why)?;
            }
            continue;
        }
        let done = upkeep.bring_up(name).await?;
        let mut text = format!("{name}, version {}: {} manifests written", done.version, thousands(done.manifests));
        if done.emptied > 0 {
            text.push_str(&format!(", {} of emptied partitions deleted", thousands(done.emptied)));
        }
        if let Some(catalog) = &done.catalog {
            let (tables, registered, dropped) = (catalog.tables, catalog.registered, catalog.dropped);
            text.push_str(&format!(
                "; catalog: {tables} tables changed, {} partitions registered, {} dropped",
                thousands(registered),
                thousands(dropped)
            ));
        }
        tell(args.json, name, &text, &done, &mut report)?;
    }
    finish(args.json, report)
}

/// `lakeward lake checkpoint`: one at each table's newest version.
pub(super) async fn checkpoint(config: &Config, args: &LakeTablesArgs) -> Result<ExitCode> {
    let lake = opened(config)?;
    let mut report = Map::new();
    for (name, table) in chosen(&lake, &args.tables).await? {
        let version = table.checkpoint().await?;
        tell(args.json, &name, &format!("{name}: checkpoint at version {version}"), &version, &mut report)?;
    }
    finish(args.json, report)
}

/// `lakeward lake vacuum`: deletes what has been out of use for `retention.keep`.
pub(super) async fn vacuum_tables(config: &Config, args: &LakeVacuumArgs) -> Result<ExitCode> {
    let lake = opened(config)?;
    let unpublished = unpublished(&SlotLog::new(lake.store())).await?;
    let retention = Retention {
        scope: if args.full { Scope::Full } else { Scope::Lite },
        keep: micros(config.retention.keep),
        now: Clock::System.now(),
        dry_run: args.dry_run,
    };
    let (mut report, mut is_refused) = (Map::new(), false);
    for (name, table) in chosen(&lake, &args.of.tables).await? {
        let done = vacuum(&table, &unpublished, &retention).await?;
        is_refused |= done.refused.is_some();
        tell(args.of.json, &name, &shown(&name, &done, args.dry_run), &done, &mut report)?;
    }
    finish(args.of.json, report)?;
    Ok(if is_refused { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn shown(name: &str, done: &Vacuumed, dry_run: bool) -> String {
    if let Some(why) = &done.refused {
        return format!("{name}: nothing deleted: {why}");
    }
    let would = if dry_run { "would delete" } else { "deleted" };
    let [removed, orphans, log] = [done.removed, done.orphans, done.log_objects].map(thousands);
    let bytes = ByteSize::b(done.orphan_bytes);
    let mut text =
        format!("{name}: {would} {removed} removed files, {orphans} orphans ({bytes}), {log} objects of the log");
    if done.named > 0 {
        text.push_str(&format!(
            "; {} files stay, because a manifest still names them: `lakeward lake manifest` mends that",
            thousands(done.named)
        ));
    }
    text
}

/// Whether anything but the table itself is kept for its readers.
fn is_kept(config: &Config, contract: Option<&TableContract>) -> bool {
    contract.is_some_and(|contract| config.catalog.glue || contract.sinks.contains(&Sink::Spectrum))
}

/// The configured lake, if no job seems to be running on it.
pub(super) async fn writable(config: &Config, beside: Beside) -> Result<Lake> {
    let lake = opened(config)?;
    beside::refuse(config, beside).await?;
    Ok(lake)
}

/// The configured lake, which is there.
fn opened(config: &Config) -> Result<Lake> {
    Lake::open_existing(&config.lake.url, &config.s3)?
        .ok_or_else(|| Error::usage(format!("no lake in {}: name another with `--set lake.url=…`", config.lake.url)))
}

/// The tables named, or all.
async fn chosen(lake: &Lake, names: &[String]) -> Result<Tables> {
    let dropping = SlotLog::new(lake.store()).dropping().await?;
    let mut there = lake.tables().await?;
    there.retain(|name| !dropping.contains(name.as_str()));
    let mut tables = Tables::new();
    for name in if names.is_empty() { &there } else { names } {
        let Some(table) = Table::open_existing(lake, name).await? else {
            let refusal = Refusal::new(Span::empty(), format!("no table `{name}` in the lake {}", lake.url()));
            return Err(Error::Usage(refusal.near(name, there.iter().map(String::as_str)).into()));
        };
        tables.insert(name.as_str().into(), Arc::new(table));
    }
    Ok(tables)
}

fn tell(json: bool, name: &str, text: &str, done: &impl Serialize, report: &mut Map<String, Value>) -> Result<()> {
    if json {
        report.insert(name.to_owned(), serde_json::to_value(done).context(|| "writing the report")?);
        return Ok(());
    }
    answer(text)
}

fn finish(json: bool, report: Map<String, Value>) -> Result<ExitCode> {
    if json {
        answer(&Value::Object(report).to_string())?;
    }
    Ok(ExitCode::SUCCESS)
}
