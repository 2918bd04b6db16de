//! `lakeward lake compact` and `lakeward lake status`: the files of the lake's tables.

use std::process::ExitCode;

use bytesize::ByteSize;
use serde::Serialize;

use super::output::{answer, thousands};
use super::restate::at_rest;
use super::standing::{self, Asking, Readers};
use super::{CompactArgs, StatusArgs, beside};
use crate::config::Config;
use crate::epoch::SlotLog;
use crate::error::{Context, Error, Result};
use crate::lake::{Lake, Table, TableStatus};
use crate::pipeline::{self, CompactedTable};

/// `lakeward lake compact [TABLE…]`.
pub(super) async fn compact(config: Config, args: &CompactArgs) -> Result<ExitCode> {
    beside::refuse(&config, args.beside).await?;
    let tables = pipeline::compact(&at_rest(config)?, &args.tables).await?;
    if args.json {
        answer(&serde_json::to_string(&tables).context(|| "writing what was done")?)?;
        return Ok(ExitCode::SUCCESS);
    }
    if tables.is_empty() {
        answer("no date that is over has more than one small file: nothing was written")?;
    }
    for table in &tables {
        answer(&compacted(table))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn compacted(done: &CompactedTable) -> String {
    let CompactedTable { table, partitions, rows, files_out, bytes_out, files_in, bytes_in, .. } = done;
    let [rows, files_out, files_in] = [rows, files_out, files_in].map(|n| thousands(*n));
    let (bytes_out, bytes_in) = (ByteSize::b(*bytes_out), ByteSize::b(*bytes_in));
    let dates = match (partitions.first(), partitions.last()) {
        (Some(first), Some(last)) if first != last => {
            format!("{} dates, {first} to {last}", thousands(partitions.len() as u64))
        }
        (first, _) => first.cloned().unwrap_or_default(),
    };
    format!("{table}: {dates}: {rows} rows, {files_out} files of {bytes_out} are {files_in} of {bytes_in}")
}

/// `lakeward lake status`.
pub(super) async fn status(config: &Config, args: &StatusArgs) -> Result<ExitCode> {
    let url = &config.lake.url;
    let none = || {
        Error::usage(format!(
            "no lake in {url}: start one with `lakeward run`, or name another with `--set lake.url=…`"
        ))
    };
    let lake = Lake::open_existing(url, &config.s3)?.ok_or_else(none)?;
    let mut asking = Asking::new(config, &lake).await;
    let mut all = Vec::new();
    // Slots that cannot be read are the audit's to tell.
    let dropping = SlotLog::new(lake.store()).dropping().await.unwrap_or_default();
    for name in lake.tables().await?.into_iter().filter(|name| !dropping.contains(name.as_str())) {
        if let Some(table) = Table::open_existing(&lake, &name).await? {
            let status = table.status(config.maintenance.small_bytes()).await?;
            all.push(Report { status, readers: asking.about(&table).await });
        }
    }
    if all.is_empty() {
        return Err(none());
    }
    if args.json {
        answer(&serde_json::to_string(&all).context(|| "writing the status")?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let tables: Vec<TableStatus> = all.iter().map(|report| report.status.clone()).collect();
    answer(&shown(&tables, ByteSize::b(config.maintenance.small_bytes())))?;
    answer("")?;
    answer(&standing::shown(all.iter().map(|report| (report.status.table.as_ref(), &report.readers))).join("\n"))?;
    Ok(ExitCode::SUCCESS)
}

/// A table, and how far what its readers are given is behind it.
#[derive(Debug, Serialize)]
struct Report {
    #[serde(flatten)]
    status: TableStatus,
    #[serde(flatten)]
    readers: Readers,
}

fn shown(all: &[TableStatus], small: ByteSize) -> String {
    let width = all.iter().map(|status| status.table.len()).max().unwrap_or(0).max("table".len());
    let mut lines = vec![format!(
        "{:<width$} {:>10} {:>14} {:>7} {:>7} {:>10} {:>9} {:>8} {:>10} {:>7}",
        "table", "bytes", "rows", "files", "small", "partitions", "scattered", "version", "checkpoint", "commits"
    )];
    for status in all {
        let share = status.small_files.saturating_mul(100).checked_div(status.files);
        let share = share.map_or_else(|| "-".into(), |share| format!("{share} %"));
        let checkpoint = status.last_checkpoint.map_or_else(|| "-".into(), |version| version.to_string());
        lines.push(format!(
            "{:<width$} {:>10} {:>14} {:>7} {share:>7} {:>10} {:>9} {:>8} {checkpoint:>10} {:>7}",
            status.table,
            ByteSize::b(status.bytes).to_string(),
            thousands(status.rows),
            thousands(status.files),
            thousands(status.partitions),
            thousands(status.scattered_partitions),
            status.version,
            status.commits_since_checkpoint
        ));
    }
    lines.push(format!(
        "small: files of less than {small}; scattered: partitions with more than one of them; commits: since the checkpoint"
    ));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_done_is_one_line_a_table() {
        let mut done = CompactedTable {
            table: "t".into(),
            partitions: ["2026-11-01".into()].into(),
            steps: 1,
            rows: 12_345,
            files_out: 8_640,
            bytes_out: 90 << 20,
            files_in: 1,
            bytes_in: 60 << 20,
        };
        assert_eq!(compacted(&done), "t: 2026-11-01: 12,345 rows, 8,640 files of 90.0 MiB are 1 of 60.0 MiB");
        done.partitions.insert("2026-11-03".into());
        assert!(compacted(&done).contains("2 dates, 2026-11-01 to 2026-11-03"), "{}", compacted(&done));
    }

    #[test]
    fn an_empty_table_has_no_share_of_small_files() {
        let text = shown(&[TableStatus { table: "transactions".into(), ..TableStatus::default() }], ByteSize::mib(96));
        assert!(
            text.lines().nth(1).is_some_and(|line| line.starts_with("transactions") && line.contains(" - ")),
            "{text}"
        );
    }
}
