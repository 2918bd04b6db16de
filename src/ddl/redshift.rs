//! Redshift's own tables, loaded from the lake's files.
//!
//! The one law: a partition is loaded whole from the files that are live at one version of the log, in one transaction
//! that first deletes it: running the script again, or a later one, never doubles a row. A folder is never copied as such,
//! because it also holds files that were replaced.

use super::quote::{Script, lines, name, redshift_text};
use super::site::Site;
use super::spectrum::{external, role};
use super::tables::{Partition, TableOfLake};
use super::types::redshift;
use crate::contract::{Column, TableContract};
use crate::error::Result;
use arrow::datatypes::DataType;

/// Columns a compound sort key is worth having: blocks are left out by its first ones.
const SORT_COLUMNS_MAX: usize = 4;

/// The script: all of Spectrum's, then the native tables.
pub(super) fn script(site: &Site, tables: &[TableOfLake]) -> Result<String> {
    let mut script = Script::new("Lakeward's tables in Redshift. Run it outside a transaction.");
    external(site, tables, &mut script)?;
    script.comment(
        "Tables of Redshift's own, in the same schema. COPY takes all columns of a Parquet file and no others, and the\n\
         partition column is not in the files: each date goes through a table of the file's columns. The files are those\n\
         live at the version named; a vacuum may take them away a week later, then render this script again. A table that is\n\
         there stays as it is: after a column was added to the lake, ALTER TABLE … ADD COLUMN it first.",
    );
    for table in tables {
        native(site, table, &mut script)?;
        load(site, table, &mut script)?;
    }
    Ok(script.finish())
}

fn native(site: &Site, table: &TableOfLake, script: &mut Script) -> Result<()> {
    let contract = &table.contract;
    script.comment(&table.headline());
    let columns = contract.columns.iter().map(|column| {
        let null = if column.nullable { "" } else { " NOT NULL" };
        Ok(format!("{} {}{null}", name(&column.name), redshift(column)?))
    });
    let distribution = match distribution(contract) {
        Some(column) => format!("DISTSTYLE KEY DISTKEY ({})", name(&column.name)),
        None => "DISTSTYLE AUTO".to_owned(),
    };
    script.statement(format!(
        "CREATE TABLE IF NOT EXISTS {} (\n{}\n)\n{distribution}\nCOMPOUND SORTKEY ({})",
        own(site, contract),
        lines(columns.collect::<Result<Vec<_>>>()?),
        sort_key(contract).join(", ")
    ));
    if !contract.comment.is_empty() {
        script.statement(format!("COMMENT ON TABLE {} IS {}", own(site, contract), redshift_text(&contract.comment)));
    }
    for column in contract.columns.iter().filter(|column| !column.comment.is_empty()) {
        let (column, comment) = (name(&column.name), redshift_text(&column.comment));
        script.statement(format!("COMMENT ON COLUMN {}.{column} IS {comment}", own(site, contract)));
    }
    Ok(())
}

fn own(site: &Site, contract: &TableContract) -> String {
    format!("{}.{}", name(&site.database), name(&contract.name))
}

/// The column rows are spread by: what the stream is partitioned by, else the first text rows are sorted by.
fn distribution(contract: &TableContract) -> Option<&Column> {
    let of_stream = contract.stream.as_ref().map(|stream| &stream.partition_key);
    let candidates = of_stream.into_iter().chain(&contract.sort_by);
    candidates.filter_map(|name| contract.column(name)).find(|column| column.data_type == DataType::Utf8)
}

/// The date first: what nearly every query is restricted by.
fn sort_key(contract: &TableContract) -> Vec<String> {
    let is_sortable = |column: &&std::sync::Arc<str>| {
        contract.column(column).is_some_and(|column| column.data_type != DataType::Binary)
    };
    let rest = contract.sort_by.iter().filter(|column| **column != contract.partition_by).filter(is_sortable);
    std::iter::once(&contract.partition_by).chain(rest).take(SORT_COLUMNS_MAX).map(|column| name(column)).collect()
}

fn load(site: &Site, table: &TableOfLake, script: &mut Script) -> Result<()> {
    let contract = &table.contract;
    let (Some(version), false) = (table.version, table.partitions.is_empty()) else {
        script.comment("nothing to load: the lake has no files of it yet");
        return Ok(());
    };
    script.comment(&format!("{}: the files of version {version}", contract.name));
    let stage = name(&format!("{}_load", contract.name));
    let columns = table.file_columns().map(|column| Ok(format!("{} {}", name(&column.name), redshift(column)?)));
    let columns = lines(columns.collect::<Result<Vec<_>>>()?);
    script.statement(format!("CREATE TEMP TABLE {stage} (\n{columns}\n)"));
    for partition in &table.partitions {
        load_partition(site, table, partition, &stage, script);
    }
    script.statement(format!("DROP TABLE {stage}"));
    script.statement(format!("ANALYZE {}", own(site, contract)));
    Ok(())
}

fn load_partition(site: &Site, table: &TableOfLake, partition: &Partition, stage: &str, script: &mut Script) {
    let (own, by) = (own(site, &table.contract), name(&table.contract.partition_by));
    let date = format!("DATE {}", redshift_text(&partition.date));
    script.statement("BEGIN");
    script.statement(format!("DELETE FROM {own} WHERE {by} = {date}"));
    script.statement(format!("DELETE FROM {stage}"));
    for file in &partition.files {
        // A whole object's name is a prefix of no other. Files older than an added column lack it.
        let object = redshift_text(&format!("{}/{file}", site.table(table)));
        script.statement(format!("COPY {stage} FROM {object} IAM_ROLE {} FORMAT AS PARQUET FILLRECORD", role(site)));
    }
    let columns: Vec<String> = table.file_columns().map(|column| name(&column.name)).collect();
    let columns = columns.join(", ");
    script.statement(format!("INSERT INTO {own} ({columns}, {by})\nSELECT {columns}, {date} FROM {stage}"));
    script.statement("COMMIT");
}
