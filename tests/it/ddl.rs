//! Scripts for readers: parsed by a parser nobody here wrote, run where something here runs them, and compared with the lake.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lakeward::contract::{Column, TableContract, read_folder, type_name};
use serde_json::Value;

use crate::support::{Scratch, duckdb, glue_refuses, parsed, text};

/// Statements sqlglot has no grammar for: (its dialect, how they begin, why they are right all the same).
const NOT_UNDERSTOOD: [(&str, &str, &str); 5] = [
    ("redshift", "CREATE EXTERNAL SCHEMA", "no grammar for external schemas; the form is that of Redshift's manual"),
    ("duckdb", "LOAD delta", "sqlglot knows INSTALL and not LOAD; DuckDB runs it below"),
    ("duckdb", "LOAD httpfs", "as above, over a bucket (`s3.rs`)"),
    ("duckdb", "LOAD aws", "as above, over a bucket (`s3.rs`)"),
    ("duckdb", "CREATE OR REPLACE SECRET", "no grammar for secrets; the form is that of DuckDB's manual"),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

fn contracts() -> BTreeMap<Arc<str>, TableContract> {
    let mut contracts = read_folder(&root().join("lake")).unwrap();
    contracts.extend(read_folder(&root().join("tests/ddl/lake")).unwrap());
    contracts
}

/// The blessed script of a dialect, as sqlglot understands it.
fn blessed(dialect: &str, parser: &str) -> Vec<Value> {
    let script = fs::read_to_string(root().join(format!("tests/ddl/{dialect}.sql"))).unwrap();
    let statements = parsed(parser, &script);
    assert!(statements.len() > 15, "{dialect}: only {} statements", statements.len());
    for statement in statements.iter().filter(|statement| statement["kind"] == "command") {
        let said = statement["text"].as_str().unwrap();
        let is_known = NOT_UNDERSTOOD.iter().any(|(known, begins, _)| *known == parser && said.starts_with(begins));
        assert!(is_known, "sqlglot does not understand, as {parser}:\n{said}");
    }
    for (_, begins, why) in NOT_UNDERSTOOD.iter().filter(|(known, ..)| *known == parser) {
        let is_met = statements.iter().any(|s| s["text"].as_str().is_some_and(|said| said.starts_with(begins)));
        assert!(is_met, "sqlglot now understands `{begins}`, or it is gone ({why}): strike it off the list");
    }
    statements
}

fn created<'s>(statements: &'s [Value], what: &str) -> Vec<&'s Value> {
    statements.iter().filter(|statement| statement["creates"] == what).collect()
}

fn name(statement: &Value) -> Vec<&str> {
    statement["name"].as_array().unwrap().iter().map(|part| part.as_str().unwrap()).collect()
}

/// (name, type) of a statement's list of columns.
fn columns(list: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    list.as_array().unwrap().iter().map(|column| (text(&column["name"]), text(&column["type"]))).collect()
}

/// Names of columns in declared order; without the partition column, when `in_files`.
fn names(table: &TableContract, in_files: bool) -> Vec<&str> {
    let columns = table.columns.iter().map(|column| column.name.as_ref());
    columns.filter(|name| !in_files || **name != *table.partition_by).collect()
}

/// What a contract's type is called by sqlglot's printer of this dialect.
fn printed(dialect: &str, column: &Column) -> String {
    let declared = type_name(&column.data_type).replace(',', ", ");
    let word = match (dialect, declared.as_str()) {
        ("redshift", "STRING") => "VARCHAR(65535)",
        ("redshift", "BINARY") => "VARBYTE(1024000)",
        ("redshift", "INT") => "INTEGER",
        ("redshift", "FLOAT") => "REAL",
        ("redshift", "DOUBLE") => "DOUBLE PRECISION",
        (_, declared) => declared,
    };
    word.to_owned()
}

fn typed(dialect: &str, table: &TableContract, in_files: bool) -> Vec<(String, String)> {
    let columns = table.columns.iter().filter(|column| !in_files || column.name != table.partition_by);
    columns.map(|column| (column.name.to_string(), printed(dialect, column))).collect()
}

#[test]
fn athena_is_told_names_and_places_and_views_select_every_column() {
    let statements = blessed("athena", "athena");
    let contracts = contracts();
    let delta: BTreeMap<&str, &str> = created(&statements, "table")
        .into_iter()
        .filter(|statement| statement.get("columns").is_none())
        .map(|statement| (name(statement)[1], statement["location"].as_str().unwrap()))
        .collect();
    assert_eq!(delta.len(), contracts.len());
    let views = created(&statements, "view");
    assert_eq!(views.len(), contracts.len());
    for (table, contract) in &contracts {
        assert_eq!(delta[table.as_ref()], format!("s3://bucket/lake/{table}/"));
        let view = views.iter().find(|view| name(view)[1] == format!("{table}_v")).unwrap();
        assert_eq!(view["from"], serde_json::json!(["lake", table]));
        assert_eq!(view["selects"], serde_json::json!(names(contract, false)));
    }
    let [named, plain] =
        created(&statements, "table").into_iter().filter(|s| s.get("columns").is_some()).collect::<Vec<_>>()[..]
    else {
        panic!("two plain exports")
    };
    assert_eq!(name(named)[1], "city_minute_plain");
    assert_eq!(columns(&named["columns"]), typed("athena", &contracts["city_minute"], true));
    let contract = &contracts["every_type"];
    assert_eq!(
        (name(plain)[1], &plain["location"]),
        ("every_type_plain", &"s3://bucket/lake_plain/every_type/".into())
    );
    assert_eq!(columns(&plain["columns"]), typed("athena", contract, true));
    assert_eq!(columns(&plain["partitioned"]), [("day".to_owned(), "STRING".to_owned())]);
    for (shown, column) in
        plain["columns"].as_array().unwrap().iter().zip(contract.columns.iter().filter(|c| *c.name != *"day"))
    {
        let comment = shown["comment"].as_str().unwrap_or_default().trim_end_matches('…');
        assert!(
            column.comment.starts_with(comment) && comment.len().min(250) == column.comment.len().min(250),
            "{comment}"
        );
    }
}

#[test]
fn redshift_is_told_every_column_comment_partition_and_file() {
    let contracts = contracts();
    for dialect in ["spectrum", "redshift"] {
        let statements = blessed(dialect, "redshift");
        let tables = created(&statements, "table");
        let find = |schema: &str, table: &str| {
            tables.iter().find(|found| name(found) == [schema, table]).unwrap_or_else(|| panic!("no {schema}.{table}"))
        };
        for (table, contract) in &contracts {
            let external = find("spectrum", &format!("{table}_spectrum"));
            assert_eq!(columns(&external["columns"]), typed("redshift", contract, true), "{table}");
            assert_eq!(columns(&external["partitioned"]), [(contract.partition_by.to_string(), "DATE".to_owned())]);
            assert_eq!(external["location"], format!("s3://bucket/lake/{table}/_symlink_format_manifest/"));
        }
        let added: Vec<(&str, &str)> = statements
            .iter()
            .filter(|statement| statement["kind"] == "alter")
            .map(|s| (s["partition"][0].as_str().unwrap(), s["location"].as_str().unwrap()))
            .collect();
        let (manifests, plain) =
            ("s3://bucket/lake/every_type/_symlink_format_manifest", "s3://bucket/lake_plain/every_type");
        let dates = ["2026-11-22", "2026-11-23"];
        let places =
            [manifests, plain].into_iter().flat_map(|at| dates.map(|date| (date, format!("{at}/day={date}/"))));
        assert_eq!(added, places.clone().collect::<Vec<_>>().iter().map(|(d, p)| (*d, p.as_str())).collect::<Vec<_>>());
        if dialect == "spectrum" {
            continue;
        }
        for (table, contract) in &contracts {
            let native = find("lake", table);
            assert_eq!(columns(&native["columns"]), typed("redshift", contract, false), "{table}");
            let of_table = statements.iter().find(|s| s["kind"] == "comment" && name(s) == ["lake", table.as_ref()]);
            assert_eq!(of_table.unwrap()["comment"], contract.comment, "{table}");
            for (shown, column) in native["columns"].as_array().unwrap().iter().zip(&contract.columns) {
                assert_eq!(shown["not_null"], !column.nullable, "{table}.{}", column.name);
                let comment = statements
                    .iter()
                    .find(|s| s["kind"] == "comment" && name(s) == ["lake", table, column.name.as_ref()])
                    .map_or("", |s| s["comment"].as_str().unwrap());
                assert_eq!(comment, column.comment, "{table}.{}", column.name);
            }
        }
        let copied: Vec<&str> =
            statements.iter().filter(|s| s["kind"] == "copy").map(|s| s["files"][0].as_str().unwrap()).collect();
        assert_eq!(copied.len(), 4);
        assert!(copied.iter().all(|file| file.starts_with("s3://bucket/lake/every_type/day=2026-11-2")), "{copied:?}");
    }
}

#[test]
fn spark_and_duckdb_scripts_parse_and_duckdb_is_told_every_comment() {
    let contracts = contracts();
    let spark = blessed("spark", "spark");
    let tables = created(&spark, "table");
    assert_eq!(tables.len(), contracts.len());
    for table in tables {
        assert_eq!(table["location"], format!("s3://bucket/lake/{}", name(table)[1]));
    }
    let statements = blessed("duckdb", "duckdb");
    let views = created(&statements, "view");
    assert_eq!(views.len(), contracts.len());
    for view in views {
        let contract = &contracts[name(view)[1]];
        assert_eq!(view["selects"], serde_json::json!(names(contract, false)));
        for column in contract.columns.iter().filter(|column| !column.comment.is_empty()) {
            let comment = statements
                .iter()
                .find(|s| s["kind"] == "comment" && name(s) == ["lake", contract.name.as_ref(), column.name.as_ref()]);
            assert_eq!(comment.unwrap()["comment"], column.comment);
        }
    }
}

/// Minutes per state without a contract of their own, and a child.
const MINUTES: &str = "CREATE MATERIALIZED VIEW minutes WITH (sort_by = 'state, window_start') AS
SELECT window_start, window_end, CAST(window_start AS DATE) AS event_date, state, sum(amount) AS amount
FROM TUMBLE(transactions, event_time, INTERVAL '1 minute') GROUP BY window_start, window_end, state";
const HOURS: &str = "CREATE MATERIALIZED VIEW hours AS
SELECT window_start, window_end, CAST(window_start AS DATE) AS event_date, state, sum(amount) AS amount
FROM TUMBLE(minutes, window_start, INTERVAL '1 hour') GROUP BY window_start, window_end, state";

/// Purchases as they come, without their time.
const LARGE: &str = "CREATE MATERIALIZED VIEW large AS
SELECT event_date, transaction_id, CAST(amount AS DECIMAL(12,2)) AS amount FROM transactions WHERE amount > 100";

/// Folders of contracts and queries of one's own: the three tables every lake has, and these queries.
fn scratch() -> Scratch {
    let scratch = Scratch::new();
    let (queries, lake) = (scratch.path("queries"), scratch.path("contracts"));
    fs::create_dir_all(&queries).unwrap();
    fs::create_dir_all(&lake).unwrap();
    for table in ["transactions", "rejects", "epochs"] {
        fs::copy(root().join(format!("lake/{table}.sql")), lake.join(format!("{table}.sql"))).unwrap();
    }
    fs::write(queries.join("minutes.sql"), MINUTES).unwrap();
    fs::write(queries.join("hours.sql"), HOURS).unwrap();
    fs::write(queries.join("large.sql"), LARGE).unwrap();
    scratch.set(&format!("queries.dir={}", queries.display())).set(&format!("lake.contracts={}", lake.display()))
}

fn rows(scratch: &Scratch, table: &str) -> i64 {
    duckdb(&format!("SELECT count(*) FROM {}", scratch.delta(table)))[0][0].as_i64().unwrap()
}

/// A script for DuckDB whose extensions are the pinned ones, which are loaded already.
pub fn without_extensions(script: &str) -> String {
    let is_kept = |line: &&str| !line.starts_with("INSTALL ") && !line.starts_with("LOAD ");
    script.lines().filter(is_kept).map(|line| format!("{line}\n")).collect()
}

#[test]
fn duckdb_runs_its_script_and_redshift_would_copy_every_row_once() {
    let scratch = scratch().set("commit.rows_max=700");
    let file = scratch.simulated("day.csv", 3_000);
    scratch.summary(&["--source", file.to_str().unwrap(), "--pace", "4000"]);
    let tables = ["epochs", "hours", "large", "minutes", "rejects", "transactions"];
    let script = scratch.must(&["lake", "ddl", "duckdb"]);
    let script = without_extensions(&script);
    let counts = tables.map(|table| format!("(SELECT count(*) FROM lake.{table})")).join(", ");
    let comment = "(SELECT count(*) FROM duckdb_columns() WHERE schema_name = 'lake' AND table_name = 'transactions' AND \
                   comment = 'the transaction''s own id: two rows of one id are one row')";
    let found = duckdb(&format!("{script}\nSELECT {counts}, (SELECT sum(amount) FROM lake.transactions), {comment}"));
    let counts = tables.map(|table| format!("(select count(*) from {table}) as {table}")).join(", ");
    let statement = format!("select {counts}, (select sum(amount) from transactions) as amount, 1 as comments");
    let csv = scratch.must(&["sql", &statement, "--format", "csv"]);
    let found: Vec<String> = found[0].iter().map(|value| value.to_string().replace('"', "")).collect();
    assert_eq!(found.join(","), csv.lines().nth(1).unwrap());

    // Every file of the log is copied once, and what is copied are all rows; every date is a partition.
    let redshift = parsed("redshift", &scratch.must(&["lake", "ddl", "redshift", "--location", "s3://b/lake"]));
    let of_table = |kind: &str, table: &str| -> Vec<&Value> {
        redshift.iter().filter(|s| s["kind"] == kind && name(s).last() == Some(&table)).collect()
    };
    let mut wanted = Vec::new();
    let mut registered = Vec::new();
    for table in tables.into_iter().filter(|table| *table != "rejects") {
        let files: BTreeSet<String> = of_table("copy", &format!("{table}_load"))
            .iter()
            .map(|copy| {
                copy["files"][0].as_str().unwrap().replace("s3://b/lake", &scratch.lake().display().to_string())
            })
            .map(|file| format!("'{file}'"))
            .collect();
        assert_eq!(files.len(), of_table("copy", &format!("{table}_load")).len(), "{table}: a file twice");
        let files = files.into_iter().collect::<Vec<_>>().join(", ");
        let by = if table == "epochs" { "commit_date" } else { "event_date" };
        let delta = scratch.delta(table);
        wanted.push(format!(
            "SELECT {} AS place, (SELECT count(*) FROM {delta}), (SELECT count(*) FROM read_parquet([{files}])), \
             (SELECT count(DISTINCT {by}) FROM {delta})",
            wanted.len()
        ));
        registered.push(of_table("alter", &format!("{table}_spectrum")).len());
    }
    let found = duckdb(&format!("{} ORDER BY place", wanted.join(" UNION ALL ")));
    for (row, registered) in found.iter().zip(registered) {
        assert!(row[1].as_u64().unwrap() > 0, "{row:?}");
        assert_eq!((&row[1], &row[3]), (&row[2], &registered.into()));
    }
}

#[test]
fn glue_takes_every_input() {
    let text = fs::read_to_string(root().join("tests/ddl/glue.json")).unwrap();
    assert_eq!(glue_refuses(&text), Vec::<String>::new());
    // The validator does look: a word it does not know, a name that is missing, a wrong type.
    for (part, by) in [("SerdeInfo", "SerDeInfo"), ("\"Name\": \"lake\"", "\"Nom\": \"lake\""), ("true", "\"true\"")] {
        assert!(text.contains(part));
        assert!(!glue_refuses(&text.replace(part, by)).is_empty(), "{by}");
    }
    let document: Value = serde_json::from_str(&text).unwrap();
    let mut comments = 0;
    for table in document["CreateTable"].as_array().unwrap() {
        for column in table["TableInput"]["StorageDescriptor"]["Columns"].as_array().unwrap() {
            let Some(comment) = column["Comment"].as_str() else { continue };
            comments += 1;
            assert!(comment.chars().count() <= 255 && !comment.contains('\n'), "{comment}");
        }
    }
    assert!(comments > 100, "only {comments} comments");
}

#[test]
fn what_cannot_be_rendered_is_refused_with_the_way_out() {
    let scratch = scratch();
    for (args, says) in [
        (&["athena"][..], "--location s3://BUCKET/lake"),
        (&["spark", "--table", "minuts"], "did you mean `minutes`?"),
        (&["spark", "--database", "My-Lake"], "expected lower-case letters"),
        (&[], "required arguments"),
    ] {
        let output = scratch.run(&[&["lake", "ddl"], args].concat());
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(says), "{said}");
    }
    assert!(!scratch.lake().exists(), "a script made a lake");
    let one = scratch.must(&["lake", "ddl", "glue", "--table", "hours", "--location", "s3://b/l"]);
    let one: Value = serde_json::from_str(&one).unwrap();
    let names: Vec<&Value> = one["CreateTable"].as_array().unwrap().iter().map(|t| &t["TableInput"]["Name"]).collect();
    assert_eq!(names, ["hours", "hours_spectrum"]);
}

#[test]
fn an_added_count_comes_in_and_a_written_contract_holds() {
    let scratch = scratch();
    let parts = scratch.parts(&scratch.simulated("all.csv", 3_000), 3);
    let run = |part: usize| scratch.summary(&["--source", parts[part].to_str().unwrap(), "--allow-late"]);
    run(0);
    let older = rows(&scratch, "minutes");
    assert!(older > 0, "nothing was closed");
    // A count is never NULL in the query's answer; rows written before have it nevertheless.
    let counted = MINUTES.replace("AS amount", "AS amount, count(*) AS n");
    fs::write(scratch.path("queries/minutes.sql"), &counted).unwrap();
    fs::write(scratch.path("queries/hours.sql"), HOURS.replace("AS amount", "AS amount, sum(n) AS n, count(*) AS m"))
        .unwrap();
    fs::write(
        scratch.path("queries/large.sql"),
        LARGE.replace("AS amount FROM", "AS amount, event_time, merchant FROM"),
    )
    .unwrap();
    let diff = scratch.must(&["diff"]);
    assert!(diff.contains("gets `event_time`, `merchant`, NULL in older rows"), "{diff}");
    assert!(diff.contains("gets `n`, NULL in older rows") && diff.contains("gets `n`, `m`"), "{diff}");
    run(1);
    scratch.must(&["audit"]);
    for table in ["minutes", "hours"] {
        let found =
            duckdb(&format!("SELECT count(*) FILTER (WHERE n IS NULL), count(n) FROM {}", scratch.delta(table)));
        assert!(found[0][0].as_i64().unwrap() > 0 && found[0][1].as_i64().unwrap() > 0, "{table}: {found:?}");
    }
    let nulls = duckdb(&format!("SELECT count(*) FROM {} WHERE n IS NULL", scratch.delta("minutes")));
    assert_eq!(nulls[0][0], older);

    // From now on the contract is a file.
    let said = scratch.must(&["lake", "ddl", "--write"]);
    assert!(said.contains("contracts/minutes.sql: 6 columns") && said.contains("contracts/hours.sql"), "{said}");
    let large = fs::read_to_string(scratch.path("contracts/large.sql")).unwrap();
    assert!(large.contains("DECIMAL(19,2)"), "{large}");
    let file = scratch.path("contracts/minutes.sql");
    let contract = fs::read_to_string(&file).unwrap();
    assert!(contract.contains("sort_by = 'state, window_start'") && contract.contains("COMMENT ''"), "{contract}");
    assert!(scratch.must(&["lake", "ddl", "--write"]).contains("nothing was written"));
    fs::write(&file, contract.replacen("COMMENT ''", "COMMENT 'first instant, UTC'", 1)).unwrap();
    run(2);
    scratch.must(&["audit"]);

    // `diff` tells of the tables no query fills, too.
    let stream = scratch.path("contracts/transactions.sql");
    let declared = fs::read_to_string(&stream).unwrap();
    fs::write(&stream, declared.replace("BIGINT COMMENT 'seconds", "INT COMMENT 'seconds")).unwrap();
    let diff = scratch.run(&["diff"]);
    let told = text(&diff.stdout);
    assert_eq!(diff.status.code(), Some(2), "{told}");
    assert!(
        told.contains("the table transactions REFUSED: ") && told.contains("`unix_time` is declared INT, but BIGINT"),
        "{told}"
    );
    fs::write(&stream, declared.replace("COMMENT 'seconds", "COMMENT 'Seconds")).unwrap();
    let told = scratch.must(&["diff"]);
    assert!(told.contains("the table transactions gets the comments and the order of its contract"), "{told}");
    fs::write(&stream, declared).unwrap();
    // What the query gives must be the file's columns, and the table must be the file's table.
    fs::write(scratch.path("queries/minutes.sql"), counted.replace("count(*) AS n", "avg(latitude) AS n")).unwrap();
    let refused = scratch.run(&["check"]);
    let told = text(&refused.stderr);
    assert_eq!(refused.status.code(), Some(2), "{told}");
    assert!(told.contains("`n` is DOUBLE in the query, BIGINT in the contract"), "{told}");
    fs::write(scratch.path("queries/minutes.sql"), counted).unwrap();
    let stricter = fs::read_to_string(&file).unwrap().replace("DECIMAL(30,2)", "DECIMAL(31,2)");
    fs::write(&file, stricter).unwrap();
    let stopped = scratch.run(&["run", "--source", parts[2].to_str().unwrap(), "--until-caught-up"]);
    let told = text(&stopped.stderr);
    assert_eq!(stopped.status.code(), Some(2), "{told}");
    assert!(told.contains("column `amount` is declared DECIMAL(31,2), but DECIMAL(30,2) in the lake"), "{told}");
    let line = told.lines().find(|line| line.contains("! amount")).unwrap_or_else(|| panic!("no diff in {told}"));
    assert!(line.contains("DECIMAL(31,2)") && line.contains("DECIMAL(30,2)"), "{line}");
    assert!(told.lines().any(|line| line.contains("(sort by)") && line.contains("state, window_start")), "{told}");
}
