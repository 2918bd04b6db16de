//! Glue's catalog: inputs of its API, one array a call, as one JSON document.
//!
//! The one law: two tables for one of the lake. `<t>` is native Delta, for Athena and Spark; `<t>_spectrum` reads symlink
//! manifests, for Redshift. A crawler gets the Delta roots as Delta targets, one path a table, and never as S3 targets.
//!
//! The native table is what Athena's own `CREATE EXTERNAL TABLE … TBLPROPERTIES ('table_type'='DELTA')` leaves in the
//! catalog, as GetTable has shown it on AWS (a capture in OpenMetadata's notes on detecting Delta tables, October 2026):
//! `table_type` in lower case and `spark.sql.sources.provider`, formats and SerDe that nobody reads by, the place also as
//! the SerDe's `path` (Trino finds the table by that one), every column, and no partition keys. Athena adds the schema as
//! `spark.sql.sources.schema.*` later; that stays as it is.
//!
//! Limits are Glue's: 255 characters in a column's comment, 2,048 bytes in a description, 100 partitions in a call.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Value, json};

use super::quote::{COMMENT_MAX, cut};
use super::site::Site;
use super::spectrum::{IGNORE_KEY_OUTPUT, PARQUET_SERDE, SYMLINK_INPUT};
use super::tables::TableOfLake;
use super::types::hive;
use crate::contract::{Column, Sink, TableContract};
use crate::error::{Context, Result};

/// Of a table's description; in characters of which each may have four bytes.
const DESCRIPTION_MAX: usize = 512;
/// Of one BatchCreatePartition.
pub const PARTITIONS_MAX: usize = 100;
/// What a crawler's role is called unless a role is given.
const CRAWLER_ROLE: &str = "AWSGlueServiceRole-lakeward";

/// What Athena registers for a native Delta table: formats that nobody reads by.
const DELTA_INPUT: &str = "org.apache.hadoop.mapred.SequenceFileInputFormat";
const DELTA_OUTPUT: &str = "org.apache.hadoop.hive.ql.io.HiveSequenceFileOutputFormat";
const DELTA_SERDE: &str = "org.apache.hadoop.hive.serde2.lazy.LazySimpleSerDe";

/// A table of the catalog: Glue's TableInput, as far as Lakeward fills it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct TableInput {
    pub name: String,
    pub description: String,
    pub table_type: &'static str,
    pub parameters: BTreeMap<&'static str, &'static str>,
    pub partition_keys: Vec<ColumnInput>,
    pub storage_descriptor: StorageInput,
}

/// A column of the catalog; the type is Hive's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ColumnInput {
    pub name: String,
    #[serde(rename = "Type")]
    pub data_type: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
}

/// Where a table or a partition lies, and how it is read: Glue's StorageDescriptor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct StorageInput {
    pub columns: Vec<ColumnInput>,
    pub location: String,
    pub input_format: &'static str,
    pub output_format: &'static str,
    pub serde_info: SerdeInput,
}

/// How rows are read: Glue's SerDeInfo.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct SerdeInput {
    pub serialization_library: &'static str,
    pub parameters: BTreeMap<&'static str, String>,
}

/// A partition of the catalog: Glue's PartitionInput.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct PartitionInput {
    pub values: Vec<String>,
    pub storage_descriptor: StorageInput,
}

/// The document: for each call its inputs, in the order the calls are made.
pub(super) fn document(site: &Site, tables: &[TableOfLake]) -> Result<String> {
    let mut created = Vec::new();
    let mut partitions = Vec::new();
    for table in tables {
        created.push(json!({"DatabaseName": site.database, "TableInput": native(site, &table.contract)?}));
        if let Some(input) = symlink(site, &table.contract)? {
            for some in table.partitions.chunks(PARTITIONS_MAX) {
                let inputs = some.iter().map(|p| partition(site, &table.contract, &p.date));
                partitions.push(json!({
                    "DatabaseName": site.database,
                    "TableName": input.name,
                    "PartitionInputList": inputs.collect::<Result<Vec<_>>>()?,
                }));
            }
            created.push(json!({"DatabaseName": site.database, "TableInput": input}));
        }
    }
    let document = json!({
        "CreateDatabase": [{"DatabaseInput": {
            "Name": site.database,
            "Description": DATABASE,
            "LocationUri": format!("{}/", site.location),
        }}],
        "CreateTable": created,
        "BatchCreatePartition": partitions,
        "CreateCrawler": crawlers(site, tables),
    });
    let text = serde_json::to_string_pretty(&document).context(|| "writing the inputs of Glue's API")?;
    Ok(format!("{text}\n"))
}

/// What the database is described as.
pub const DATABASE: &str = "Lakeward";

/// `<t>`: the native Delta table.
///
/// # Errors
/// [`crate::Error::Usage`] for a column of a type the catalog does not know.
pub fn native(site: &Site, contract: &TableContract) -> Result<TableInput> {
    let location = format!("{}/", site.table_named(&contract.name));
    Ok(TableInput {
        name: contract.name.to_string(),
        description: cut(&contract.comment, DESCRIPTION_MAX),
        table_type: "EXTERNAL_TABLE",
        parameters: BTreeMap::from([
            ("EXTERNAL", "TRUE"),
            ("table_type", "delta"),
            ("classification", "delta"),
            ("spark.sql.sources.provider", "delta"),
        ]),
        partition_keys: Vec::new(),
        storage_descriptor: StorageInput {
            columns: columns(contract.columns.iter())?,
            location: location.clone(),
            input_format: DELTA_INPUT,
            output_format: DELTA_OUTPUT,
            serde_info: SerdeInput {
                serialization_library: DELTA_SERDE,
                parameters: BTreeMap::from([("serialization.format", "1".to_owned()), ("path", location)]),
            },
        },
    })
}

/// `<t>_spectrum`: the table over symlink manifests, for a contract with that sink.
///
/// # Errors
/// As [`native`].
pub fn symlink(site: &Site, contract: &TableContract) -> Result<Option<TableInput>> {
    if !contract.sinks.contains(&Sink::Spectrum) {
        return Ok(None);
    }
    let by = contract.columns.iter().filter(|column| column.name == contract.partition_by);
    Ok(Some(TableInput {
        name: format!("{}_spectrum", contract.name),
        description: cut(&contract.comment, DESCRIPTION_MAX),
        table_type: "EXTERNAL_TABLE",
        parameters: BTreeMap::from([("EXTERNAL", "TRUE")]),
        partition_keys: columns(by)?,
        storage_descriptor: symlinked(contract, format!("{}/", site.manifests_named(&contract.name)))?,
    }))
}

/// A partition of the `_spectrum` table.
///
/// # Errors
/// As [`native`].
pub fn partition(site: &Site, contract: &TableContract, date: &str) -> Result<PartitionInput> {
    let location = format!("{}/{}={date}/", site.manifests_named(&contract.name), contract.partition_by);
    Ok(PartitionInput { values: vec![date.to_owned()], storage_descriptor: symlinked(contract, location)? })
}

fn columns<'a>(columns: impl Iterator<Item = &'a Column>) -> Result<Vec<ColumnInput>> {
    columns
        .map(|column| {
            let comment = Some(cut(&column.comment, COMMENT_MAX)).filter(|comment| !comment.is_empty());
            Ok(ColumnInput { name: column.name.to_string(), data_type: hive(column)?, comment })
        })
        .collect()
}

/// The same columns for the table and each of its partitions.
fn symlinked(contract: &TableContract, location: String) -> Result<StorageInput> {
    let in_files = contract.columns.iter().filter(|column| column.name != contract.partition_by);
    Ok(StorageInput {
        columns: columns(in_files)?,
        location,
        input_format: SYMLINK_INPUT,
        output_format: IGNORE_KEY_OUTPUT,
        serde_info: SerdeInput {
            serialization_library: PARQUET_SERDE,
            parameters: BTreeMap::from([("serialization.format", "1".to_owned())]),
        },
    })
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
        .filter_map(|table| site.plain(table))
        .map(|place| json!({"Path": format!("{place}/"), "Exclusions": ["**/_*", "**/.*"]}))
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
