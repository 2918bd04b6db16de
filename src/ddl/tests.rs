//! Every dialect over every shipped table and one of all types: compared with `tests/ddl/<dialect>`, which
//! `LAKEWARD_BLESS=1` writes. That these scripts are what they should be is checked by readers: see `tests/it/ddl.rs`.

use std::fs;
use std::path::{Path, PathBuf};

use super::*;
use crate::config::Plain;
use crate::contract::{Sink, read_folder};

const LOCATION: &str = "s3://bucket/lake";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

/// The shipped tables, empty, and one of all types with two dates.
fn tables() -> Vec<TableOfLake> {
    let empty = |contract| TableOfLake { contract, version: None, partitions: Vec::new() };
    let mut tables: Vec<TableOfLake> = read_folder(&root().join("lake")).unwrap().into_values().map(empty).collect();
    tables.push(every_type(&["2026-11-22", "2026-11-23"]));
    tables
}

fn every_type(dates: &[&str]) -> TableOfLake {
    let contract = read_folder(&root().join("tests/ddl/lake")).unwrap().remove("every_type").unwrap();
    let partition = |date: &&str| {
        let file = |n: u8| {
            format!("day={date}/part-0000000000000000000{n}-00000000-0000-4000-8000-00000000000{n}.snappy.parquet")
        };
        Partition { date: (*date).to_owned(), files: vec![file(1), file(2)] }
    };
    TableOfLake { contract, version: Some(7), partitions: dates.iter().map(partition).collect() }
}

fn site(iam_role: Option<&str>) -> Site {
    // Of one table whose contract has the sink, and of one that is named.
    let plain = Plain { url: format!("{LOCATION}_plain"), tables: vec!["city_minute".to_owned()] };
    let (location, iam_role) = (LOCATION.to_owned(), iam_role.map(str::to_owned));
    // Only DuckDB is told: whoever reads from inside AWS reads Amazon's.
    let endpoint = Some("https://s3.example.org:9000/".parse().unwrap());
    let s3 = S3Place { endpoint, path_style: true, region: Some("eu-west-1".to_owned()) };
    Site { location, database: "lake".to_owned(), iam_role, plain: Some(plain), s3 }
}

#[test]
fn scripts_are_as_blessed() {
    let mut wrong = Vec::new();
    for dialect in Dialect::ALL {
        let mut tables = tables();
        if !dialect.is_aws() {
            // Where a lake is known, tables it has not are left out.
            tables.iter_mut().for_each(|table| table.version = Some(0));
        }
        let role = Some("arn:aws:iam::123456789012:role/lake");
        let found = script(dialect, &site(role), &tables).unwrap();
        let extension = if dialect == Dialect::Glue { "json" } else { "sql" };
        let path = root().join("tests/ddl").join(dialect.name()).with_extension(extension);
        if std::env::var_os("LAKEWARD_BLESS").is_some() {
            fs::write(&path, &found).unwrap();
        }
        if fs::read_to_string(&path).unwrap_or_default() != found {
            wrong.push(path);
        }
    }
    assert!(wrong.is_empty(), "{wrong:?} are not what is rendered now");
}

#[test]
fn partitions_are_added_a_hundred_at_a_time() {
    let dates: Vec<String> = (0..250).map(|n| format!("2026-{:02}-{:02}", n / 28 + 1, n % 28 + 1)).collect();
    let table = every_type(&dates.iter().map(String::as_str).collect::<Vec<_>>());
    let sql = script(Dialect::Spectrum, &site(None), std::slice::from_ref(&table)).unwrap();
    let manifests: Vec<usize> = sql
        .split(";\n")
        .filter(|statement| statement.contains("ADD IF NOT EXISTS") && statement.contains("_spectrum"))
        .map(|statement| statement.matches("PARTITION (").count())
        .collect();
    assert_eq!(manifests, [100, 100, 50]);
    let glue: serde_json::Value = serde_json::from_str(&script(Dialect::Glue, &site(None), &[table]).unwrap()).unwrap();
    let calls = glue["BatchCreatePartition"].as_array().unwrap();
    let sizes: Vec<usize> = calls.iter().map(|call| call["PartitionInputList"].as_array().unwrap().len()).collect();
    assert_eq!(sizes, [100, 100, 50]);
    let table = glue["CreateTable"].as_array().unwrap().last().unwrap();
    for call in calls {
        for partition in call["PartitionInputList"].as_array().unwrap() {
            let columns = &partition["StorageDescriptor"]["Columns"];
            assert_eq!(columns, &table["TableInput"]["StorageDescriptor"]["Columns"]);
        }
    }
}

#[test]
fn crawlers_never_list_a_delta_root() {
    let glue: serde_json::Value =
        serde_json::from_str(&script(Dialect::Glue, &site(None), &tables()).unwrap()).unwrap();
    let crawlers = glue["CreateCrawler"].as_array().unwrap();
    let [delta, plain] = crawlers.as_slice() else { panic!("{crawlers:?}") };
    let targets = delta["Targets"]["DeltaTargets"].as_array().unwrap();
    assert_eq!(targets.len(), tables().len());
    for target in targets {
        assert_eq!(target["DeltaTables"].as_array().unwrap().len(), 1);
        assert_eq!((&target["CreateNativeDeltaTable"], &target["WriteManifest"]), (&true.into(), &false.into()));
    }
    assert!(delta["Targets"].get("S3Targets").is_none());
    for target in plain["Targets"]["S3Targets"].as_array().unwrap() {
        assert!(target["Path"].as_str().unwrap().starts_with("s3://bucket/lake_plain/"), "{target}");
    }
}

#[test]
fn a_table_without_a_sink_is_not_told_to_its_reader() {
    let mut table = every_type(&["2026-11-22"]);
    table.contract.sinks = vec![Sink::Delta];
    for dialect in [Dialect::Spectrum, Dialect::Glue] {
        let text = script(dialect, &site(None), std::slice::from_ref(&table)).unwrap();
        assert!(!text.contains("_symlink_format_manifest/day") && !text.contains("every_type_spectrum"), "{text}");
        assert!(!text.contains("lake_plain"), "{text}");
    }
}

#[test]
fn tables_the_lake_has_not_are_left_out_where_they_would_end_the_script() {
    let mut tables = vec![every_type(&[]), every_type(&[])];
    tables[1].contract.name = "other".into();
    tables[1].version = None;
    for dialect in [Dialect::Duckdb, Dialect::Spark] {
        let text = script(dialect, &site(None), &tables).unwrap();
        assert!(text.contains("/every_type'") && !text.contains("/other'"), "{text}");
        tables[0].version = None;
        assert!(script(dialect, &site(None), &tables).unwrap().contains("/other'"));
        tables[0].version = Some(7);
    }
}
