//! `lakeward diff`: what a start would do to the queries and their tables, and what it would cost; nothing is done.

use std::process::ExitCode;

use super::DiffArgs;
use super::output::{answer, thousands};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::lake::SchemaChange;
use crate::plans::{ChangeKind, QueryDiff, diff as compare};

/// Prints a line a query; exit code 2 when a table's change would stop the start.
pub(super) async fn diff(config: &Config, args: &DiffArgs) -> Result<ExitCode> {
    let diff = compare(config).await?;
    let of_queries = diff.queries.iter().filter_map(|query| query.table.as_ref());
    let mut all = of_queries.chain(diff.tables.iter().map(|table| &table.change));
    let refused = all.any(|change| matches!(change, SchemaChange::Refused(_)));
    if args.json {
        answer(&serde_json::to_string(&diff).map_err(|e| Error::external("writing the comparison", e))?)?;
    } else {
        let heads = ["query", "change", "joined with", "open windows from", "history from", "table"].map(str::to_owned);
        let rows: Vec<[String; 6]> = std::iter::once(heads).chain(diff.queries.iter().map(row)).collect();
        let widths: Vec<usize> =
            (0..5).map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0)).collect();
        for row in &rows {
            let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
            answer(format!("{}  {}", cells.join("  "), row[5]).trim_end())?;
        }
        for changed in diff.tables.iter().filter(|table| is_news(&table.change)) {
            answer(&format!("the table {} {}", changed.table, shown(&changed.change)))?;
        }
        match diff.epoch {
            Some(epoch) => answer(&format!("\ncompared with the lake as of slot {epoch}; nothing was changed"))?,
            None => answer("\nthere is no lake yet; nothing was changed")?,
        }
    }
    Ok(if refused { ExitCode::from(2) } else { ExitCode::SUCCESS })
}

fn row(query: &QueryDiff) -> [String; 6] {
    let change = match query.change {
        ChangeKind::Kept => "kept",
        ChangeKind::New => "new",
        ChangeKind::Changed => "changed",
        ChangeKind::Returned => "back",
        ChangeKind::Removed => "removed",
    };
    let table = query.table.as_ref().map_or_else(|| "stays".to_owned(), shown);
    let cost = |rows: u64, seconds: u64| match rows {
        0 => "-".to_owned(),
        _ => format!("{} rows, about {} s", thousands(rows), thousands(seconds)),
    };
    let joined = match query.lookup_rows {
        0 => "-".to_owned(),
        rows => format!("{} rows", thousands(rows)),
    };
    let history = match query.history_rows {
        0 => "-".to_owned(),
        rows => format!("{} by --backfill", cost(rows, query.history_seconds)),
    };
    let rebuilt = cost(query.rebuild_rows, query.rebuild_seconds);
    [query.query.to_string(), change.to_owned(), joined, rebuilt, history, table]
}

fn shown(change: &SchemaChange) -> String {
    match change {
        SchemaChange::Created => "is created".to_owned(),
        SchemaChange::Unchanged => "unchanged".to_owned(),
        SchemaChange::Added(columns) => format!("gets `{}`, NULL in older rows", columns.join("`, `")),
        SchemaChange::Relaxed(columns) => format!("`{}` may be NULL from now on", columns.join("`, `")),
        SchemaChange::Described => "gets the comments and the order of its contract".to_owned(),
        SchemaChange::Refused(why) => format!("REFUSED: {why}"),
    }
}

fn is_news(change: &SchemaChange) -> bool {
    !matches!(change, SchemaChange::Created | SchemaChange::Unchanged)
}
