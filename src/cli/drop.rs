//! `lakeward lake drop`: a table that no query needs goes for good.

use std::process::ExitCode;

use bytesize::ByteSize;

use super::output::{answer, thousands};
use super::restate::at_rest;
use super::{DropArgs, beside};
use crate::config::Config;
use crate::error::{Context, Result};
use crate::pipeline::{self, Dropped};

/// `lakeward lake drop TABLE`.
pub(super) async fn drop_table(config: Config, args: &DropArgs) -> Result<ExitCode> {
    beside::refuse(&config, args.beside).await?;
    let dropped = pipeline::drop_table(&at_rest(config)?, &args.table).await?;
    if args.json {
        answer(&serde_json::to_string(&dropped).context(|| "writing what was done")?)?;
    } else {
        answer(&shown(&dropped))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn shown(dropped: &Dropped) -> String {
    let Dropped { table, slot, was_begun, catalog, exported, deleted } = dropped;
    let done = if *was_begun { "dropping it is ended" } else { "dropped" };
    let (objects, bytes) = (thousands(deleted.objects), ByteSize::b(deleted.bytes));
    let mut text = format!("{table}: {done} (slot {slot}): {objects} objects ({bytes}) deleted");
    if *catalog > 0 {
        text.push_str(&format!("; {} tables of the catalog", thousands(*catalog)));
    }
    if *exported > 0 {
        text.push_str(&format!("; {} files of the plain export", thousands(*exported)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_deleted_is_told() {
        let mut dropped = Dropped { table: "t".into(), slot: 9, ..Dropped::default() };
        (dropped.deleted.objects, dropped.deleted.bytes) = (1_200, 3 << 20);
        assert_eq!(shown(&dropped), "t: dropped (slot 9): 1,200 objects (3.0 MiB) deleted");
        let dropped = Dropped { was_begun: true, catalog: 2, exported: 4, ..dropped };
        let text = shown(&dropped);
        assert!(
            text.contains("ended") && text.ends_with("; 2 tables of the catalog; 4 files of the plain export"),
            "{text}"
        );
    }
}
