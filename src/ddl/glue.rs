//! Glue's catalog: inputs of its API, one array a call, as one JSON document.
//!
//! The one law: two tables for one of the lake. `<t>` is native Delta, for Athena and Spark; `<t>_spectrum` reads symlink
//! manifests, for Redshift. A crawler gets the Delta roots as Delta targets, one path a table, and never as S3 targets.
//!
//! Limits are Glue's: 255 characters in a column's comment, 2,048 bytes in a description, 100 partitions in a call.

use serde_json::{Value, json};

use super::quote::{COMMENT_MAX, cut};
use super::site::Site;
use super::spectrum::{IGNORE_KEY_OUTPUT, PARQUET_SERDE, SYMLINK_INPUT};
use super::tables::{Partition, TableOfLake};
use super::types::hive;
use crate::contract::{Column, Sink};
use crate::error::{Context, Result};

/// Of a table's description; in characters of which each may have four bytes.
const DESCRIPTION_MAX: usize = 512;
/// Of one BatchCreatePartition.
const PARTITIONS_MAX: usize = 100;
/// What a crawler's role is called unless a role is given.
const CRAWLER_ROLE: &str = "AWSGlueServiceRole-lakeward";

/// What Athena registers for a native Delta table: formats that nobody reads by.
const DELTA_INPUT: &str = "org.apache.hadoop.mapred.SequenceFileInputFormat";
const DELTA_OUTPUT: &str = "org.apache.hadoop.hive.ql.io.HiveSequenceFileOutputFormat";
const DELTA_SERDE: &str = "org.apache.hadoop.hive.serde2.lazy.LazySimpleSerDe";

/// The document: for each call its inputs, in the order the calls are made.
pub(super) fn document(site: &Site, tables: &[TableOfLake]) -> Result<String> {
    let mut created = Vec::new();
    let mut partitions = Vec::new();
    for table in tables {
        created.push(native(site, table)?);
        if table.contract.sinks.contains(&Sink::Spectrum) {
            created.push(symlink(site, table)?);
            partitions.extend(registered(site, table)?);
        }
    }
    let document = json!({
        "CreateDatabase": [{"DatabaseInput": {
            "Name": site.database,
            "Description": "Lakeward",
            "LocationUri": format!("{}/", site.location),
        }}],
        "CreateTable": created,
        "BatchCreatePartition": partitions,
        "CreateCrawler": crawlers(site, tables),
    });
    let text = serde_json::to_string_pretty(&document).context(|| "writing the inputs of Glue's API")?;
    Ok(format!("{text}\n"))
}

fn columns<'a>(columns: impl Iterator<Item = &'a Column>) -> Result<Vec<Value>> {
    columns
        .map(|column| {
            let mut shown = json!({"Name": column.name, "Type": hive(column)?});
            if !column.comment.is_empty() {
                shown["Comment"] = json!(cut(&column.comment, COMMENT_MAX));
            }
            Ok(shown)
        })
        .collect()
}

fn native(site: &Site, table: &TableOfLake) -> Result<Value> {
    let location = format!("{}/", site.table(table));
    Ok(json!({
        "DatabaseName": site.database,
        "TableInput": {
            "Name": table.contract.name,
            "Description": cut(&table.contract.comment, DESCRIPTION_MAX),
            "TableType": "EXTERNAL_TABLE",
            "Parameters": {
                "EXTERNAL": "TRUE",
                "table_type": "DELTA",
                "classification": "delta",
                "spark.sql.sources.provider": "delta",
            },
            "PartitionKeys": [],
            "StorageDescriptor": {
                "Columns": columns(table.contract.columns.iter())?,
                "Location": location,
                "InputFormat": DELTA_INPUT,
                "OutputFormat": DELTA_OUTPUT,
                "SerdeInfo": {
                    "SerializationLibrary": DELTA_SERDE,
                    "Parameters": {"serialization.format": "1", "path": location},
                },
            },
        },
    }))
}

fn symlink(site: &Site, table: &TableOfLake) -> Result<Value> {
    let by = table.contract.columns.iter().filter(|column| column.name == table.contract.partition_by);
    Ok(json!({
        "DatabaseName": site.database,
        "TableInput": {
            "Name": spectrum_name(table),
            "Description": cut(&table.contract.comment, DESCRIPTION_MAX),
            "TableType": "EXTERNAL_TABLE",
            "Parameters": {"EXTERNAL": "TRUE"},
            "PartitionKeys": columns(by)?,
            "StorageDescriptor": symlinked(table, &format!("{}/", site.manifests(table)))?,
        },
    }))
}

fn spectrum_name(table: &TableOfLake) -> String {
    format!("{}_spectrum", table.contract.name)
}

/// The same columns for the table and each of its partitions.
fn symlinked(table: &TableOfLake, location: &str) -> Result<Value> {
    Ok(json!({
        "Columns": columns(table.file_columns())?,
        "Location": location,
        "InputFormat": SYMLINK_INPUT,
        "OutputFormat": IGNORE_KEY_OUTPUT,
        "SerdeInfo": {"SerializationLibrary": PARQUET_SERDE, "Parameters": {"serialization.format": "1"}},
    }))
}

/// The partitions of a `_spectrum` table, so many a call.
fn registered(site: &Site, table: &TableOfLake) -> Result<Vec<Value>> {
    let input = |partition: &Partition| {
        let location = format!("{}/{}/", site.manifests(table), table.folder(partition));
        Ok(json!({"Values": [partition.date], "StorageDescriptor": symlinked(table, &location)?}))
    };
    let calls = table.partitions.chunks(PARTITIONS_MAX).map(|some| {
        Ok(json!({
            "DatabaseName": site.database,
            "TableName": spectrum_name(table),
            "PartitionInputList": some.iter().map(input).collect::<Result<Vec<_>>>()?,
        }))
    });
    calls.collect()
}

/// One over all Delta roots, and one over the plain exports, if there are any.
fn crawlers(site: &Site, tables: &[TableOfLake]) -> Vec<Value> {
    let role = site.iam_role.as_deref().unwrap_or(CRAWLER_ROLE);
    let policy = json!({"UpdateBehavior": "UPDATE_IN_DATABASE", "DeleteBehavior": "LOG"});
    let delta: Vec<Value> = tables
        .iter()
        .map(|table| {
            let path = format!("{}/", site.table(table));
            json!({"DeltaTables": [path], "WriteManifest": false, "CreateNativeDeltaTable": true})
        })
        .collect();
    let mut crawlers = vec![json!({
        "Name": format!("{}_delta", site.database),
        "Role": role,
        "DatabaseName": site.database,
        "Targets": {"DeltaTargets": delta},
        "SchemaChangePolicy": policy,
    })];
    let plain: Vec<Value> = tables
        .iter()
        .filter(|table| table.contract.sinks.contains(&Sink::Plain))
        .map(|table| json!({"Path": format!("{}/", site.plain(table)), "Exclusions": ["**/_*", "**/.*"]}))
        .collect();
    if !plain.is_empty() {
        let configuration = json!({
            "Version": 1.0,
            "CrawlerOutput": {"Partitions": {"AddOrUpdateBehavior": "InheritFromTable"}},
            "Grouping": {"TableGroupingPolicy": "CombineCompatibleSchemas"},
        });
        crawlers.push(json!({
            "Name": format!("{}_plain", site.database),
            "Role": role,
            "DatabaseName": site.database,
            // A crawler calls a table as its folder is called, which would be the Delta table's name.
            "TablePrefix": "plain_",
            "Targets": {"S3Targets": plain},
            "SchemaChangePolicy": policy,
            "Configuration": configuration.to_string(),
        }));
    }
    crawlers
}
