//! `lakeward lake check`: would every reader read these tables, and read the same?

use std::path::Path as FsPath;
use std::process::ExitCode;
use std::sync::Arc;

use bytesize::ByteSize;
use object_store::prefix::PrefixStore;
use serde_json::{Map, Value};

use super::LakeCheckArgs;
use super::output::{answer, thousands};
use crate::clock::Clock;
use crate::config::{self, Config};
use crate::error::{Context, Error, Result};
use crate::lake::Lake;
use crate::lint::{Linted, Rule, Target, lint};

/// Places shown of one rule in one table; `--json` has all.
const PLACES_SHOWN: usize = 3;

/// Prints what was found; exit code 1 when some reader would fail or answer wrongly.
pub(super) async fn check(config: &Config, args: &LakeCheckArgs) -> Result<ExitCode> {
    if args.rules {
        return rules();
    }
    let mut targets = Vec::new();
    match args.tables.is_empty() {
        true => targets.extend(tables_of(&config.lake.url, &config.s3).await?),
        false => {
            for given in &args.tables {
                targets.extend(targets_of(config, given).await?);
            }
        }
    }
    let (mut is_broken, mut report) = (false, Map::new());
    for target in targets {
        let linted = lint(&target, Clock::System.now()).await?;
        is_broken |= linted.is_broken();
        if args.json {
            report.insert(target.name, serde_json::to_value(&linted).context(|| "writing the report")?);
        } else {
            answer(&shown(&target.name, &linted))?;
        }
    }
    if args.json {
        answer(&Value::Object(report).to_string())?;
    }
    Ok(if is_broken { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn rules() -> Result<ExitCode> {
    for rule in Rule::ALL {
        let word = rule.severity().word();
        answer(&format!("{rule} ({word})\n  readers: {}\n  remedy:  {}", rule.consequence(), rule.remedy()))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A table of the configured lake, or the folder or URL of a table or of a lake.
async fn targets_of(config: &Config, given: &str) -> Result<Vec<Target>> {
    let is_name = !given.contains(['/', '\\', ':']);
    if is_name && !FsPath::new(given).exists() {
        let found = tables_of(&config.lake.url, &config.s3).await?.into_iter().find(|table| table.name == given);
        return found.map(|table| vec![table]).ok_or_else(|| {
            let lake = &config.lake.url;
            Error::usage(format!("no table `{given}` in the lake {lake}, and no folder of this name"))
        });
    }
    tables_of(given, &config.s3).await
}

/// The tables of a lake; the one table, if the folder itself is one.
async fn tables_of(url: &str, s3: &config::S3) -> Result<Vec<Target>> {
    if !url.contains("://") && !FsPath::new(url).is_dir() {
        return Err(Error::usage(format!(
            "no lake and no table in `{url}`: there is no such folder; name another one, or `--set lake.url=…`"
        )));
    }
    let lake = Lake::open(url, s3)?;
    if lake.is_table().await? {
        let name = lake.url().path_segments().and_then(|segments| segments.rev().find(|s| !s.is_empty()));
        let name = name.or_else(|| lake.url().host_str());
        let name = name.unwrap_or_default().to_owned();
        return Ok(vec![Target { name, url: lake.url().clone(), store: lake.store() }]);
    }
    let names = lake.tables().await?;
    if names.is_empty() {
        return Err(Error::usage(format!("no tables in the lake {}", lake.url())));
    }
    let target = |name: String| {
        let (url, store) = (lake.table_url(&name)?, Arc::new(PrefixStore::new(lake.store(), name.as_str())));
        Ok(Target { name, url, store })
    };
    names.into_iter().map(target).collect()
}

fn shown(name: &str, linted: &Linted) -> String {
    let (files, rows, bytes) =
        (thousands(count(linted.files)), thousands(count(linted.rows)), ByteSize::b(linted.bytes));
    let mut text = format!("{name}, version {}: {files} files, {rows} rows, {bytes}", linted.version);
    if linted.findings.is_empty() {
        text.push_str(": ok");
    }
    for (rule, findings) in linted.by_rule() {
        let word = rule.severity().word();
        text.push_str(&format!("\n  {word}[{rule}]"));
        for finding in findings.iter().take(PLACES_SHOWN) {
            text.push_str(&format!("\n    `{}`: {}", finding.place, finding.what));
        }
        if let Some(more) = findings.len().checked_sub(PLACES_SHOWN).filter(|more| *more > 0) {
            text.push_str(&format!("\n    and {} more", thousands(count(more as u64))));
        }
        text.push_str(&format!("\n    readers: {}\n    remedy:  {}", rule.consequence(), rule.remedy()));
    }
    text
}

fn count(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
