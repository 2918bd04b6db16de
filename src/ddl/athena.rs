//! Athena: native Delta tables, and views that hide the zone of their times.
//!
//! The one law: a native Delta table is a name, a location and `table_type`; everything else Athena reads from the log,
//! and refuses when it is said. Plain Parquet exports are ordinary Hive tables with projected partitions.

use super::quote::{COMMENT_MAX, Script, cut, hive_name, hive_text, lines, name};
use super::site::Site;
use super::tables::TableOfLake;
use super::types::{hive, is_time};
use crate::error::Result;

/// From when on dates of a plain export are projected while the lake knows none.
const PROJECTED_FROM: &str = "NOW-1YEARS";

/// The script. Identifiers of Hive DDL stand in backticks, those of Trino's views in double quotes.
pub(super) fn script(site: &Site, tables: &[TableOfLake]) -> Result<String> {
    let mut script = Script::new(
        "Lakeward's tables in Athena, engine version 3: read through their Delta logs, so that new data and partitions\n\
         are seen without another statement. A timestamp is `timestamp(3) with time zone` in a table and\n\
         `timestamp(3)`, UTC, in its view `<table>_v`.\n\
         Athena runs one statement at a time; each can be run again.",
    );
    script.statement(format!("CREATE DATABASE IF NOT EXISTS {}", hive_name(&site.database)));
    for table in tables {
        script.comment(&table.headline());
        script.statement(format!(
            "CREATE EXTERNAL TABLE IF NOT EXISTS {}.{}\nLOCATION {}\nTBLPROPERTIES ('table_type'='DELTA')",
            hive_name(&site.database),
            hive_name(&table.contract.name),
            hive_text(&format!("{}/", site.table(table)))
        ));
        script.statement(view(site, table));
        if let Some(place) = site.plain(table) {
            script.comment(&format!("{}: its export of closed dates as plain Parquet files", table.contract.name));
            script.statement(plain(site, table, &place)?);
        }
    }
    Ok(script.finish())
}

/// A view is a query, which Trino parses: its quotes are not those of the table's DDL.
fn view(site: &Site, table: &TableOfLake) -> String {
    let columns = table.contract.columns.iter().map(|column| {
        let quoted = name(&column.name);
        if is_time(column) { format!("CAST({quoted} AS timestamp) AS {quoted}") } else { quoted }
    });
    let database = name(&site.database);
    format!(
        "CREATE OR REPLACE VIEW {database}.{} AS\nSELECT\n{}\nFROM {database}.{}",
        name(&format!("{}_v", table.contract.name)),
        lines(columns),
        name(&table.contract.name)
    )
}

fn plain(site: &Site, table: &TableOfLake, place: &str) -> Result<String> {
    let columns: Vec<String> = table
        .file_columns()
        .map(|column| {
            let typed = format!("{} {}", hive_name(&column.name), hive(column)?);
            Ok(match column.comment.is_empty() {
                true => typed,
                false => format!("{typed} COMMENT {}", hive_text(&cut(&column.comment, COMMENT_MAX))),
            })
        })
        .collect::<Result<_>>()?;
    let (by, first) = (&table.contract.partition_by, table.partitions.first());
    let first = first.map_or(PROJECTED_FROM, |partition| partition.date.as_str());
    let properties = [
        ("classification".to_owned(), "parquet".to_owned()),
        ("projection.enabled".to_owned(), "true".to_owned()),
        (format!("projection.{by}.type"), "date".to_owned()),
        (format!("projection.{by}.format"), "yyyy-MM-dd".to_owned()),
        (format!("projection.{by}.range"), format!("{first},NOW")),
    ];
    let properties = properties.map(|(key, value)| format!("{}={}", hive_text(&key), hive_text(&value)));
    Ok(format!(
        "CREATE EXTERNAL TABLE IF NOT EXISTS {}.{} (\n{}\n)\nPARTITIONED BY ({} string)\nSTORED AS PARQUET\nLOCATION \
         {}\nTBLPROPERTIES ({})",
        hive_name(&site.database),
        hive_name(&format!("{}_plain", table.contract.name)),
        lines(columns),
        hive_name(by),
        hive_text(&format!("{place}/")),
        properties.join(", ")
    ))
}
