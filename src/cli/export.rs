//! `lakeward lake export`: dates that are over as plain Parquet, by hand.
//!
//! The one law: an export has one writer, so this takes the lake's lock, which a running job holds.

use std::process::ExitCode;

use bytesize::ByteSize;

use super::WritingArgs;
use super::output::{answer, thousands};
use super::upkeep::writable;
use crate::clock::Clock;
use crate::config::Config;
use crate::error::{Context, Error, Result};
use crate::pipeline;
use crate::plain::Exported;

/// `lakeward lake export [TABLE…]`.
pub(super) async fn export(config: &Config, args: &WritingArgs) -> Result<ExitCode> {
    let (lake, args) = (writable(config, args.beside).await?, &args.of);
    let _lock = lake.lock().map_err(|error| match error {
        Error::Fenced(who) => Error::Fenced(format!(
            "{who}; a running job exports dates that are over by itself, every `maintenance.interval`"
        )),
        other => other,
    })?;
    let done = pipeline::export(config, &lake, &args.tables, Clock::System).await?;
    if args.json {
        answer(&serde_json::to_string(&done).context(|| "writing what was done")?)?;
        return Ok(ExitCode::SUCCESS);
    }
    for (table, done) in &done {
        answer(&shown(table, done))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn shown(table: &str, done: &Exported) -> String {
    let [dates, files, deleted] = [done.dates.len() as u64, done.files, done.deleted].map(thousands);
    if done.dates.is_empty() {
        return format!("{table}, version {}: every date that is over is exported", done.version);
    }
    let bytes = ByteSize::b(done.bytes);
    format!("{table}, version {}: {dates} dates: {files} files ({bytes}) written, {deleted} deleted", done.version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_done_is_one_line_a_table() {
        let mut done = Exported { version: 7, ..Exported::default() };
        assert_eq!(shown("t", &done), "t, version 7: every date that is over is exported");
        done = Exported { dates: ["2026-11-22".to_owned()].into(), files: 2, bytes: 3 << 20, deleted: 1, ..done };
        assert_eq!(shown("t", &done), "t, version 7: 1 dates: 2 files (3.0 MiB) written, 1 deleted");
    }
}
