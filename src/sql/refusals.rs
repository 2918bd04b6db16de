//! Every refusal with its sentence: each file of `tests/sql_errors` begins with the errors it must give.
//!
//! ```sql
//! -- error: 3:12: no column `amnt`; did you mean `amount`?
//! CREATE MATERIALIZED VIEW …
//! ```
//! One line an error: place in this very file, message, help and notes. Views are planned over the stream of
//! [`super::testing`] and compared with the contracts in `tests/sql_errors/lake`; anything else is run as batch, with the
//! values of its lines `-- param: name=value`. A new case is a new file; `LAKEWARD_BLESS=1` writes what it gives today on
//! top of it, to be read before it is kept.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::testing::{lake, plan, rows, transactions};
use super::{BatchStatement, Catalog, QueryFile, parse_params, plan_all, read_queries, run_batch};
use crate::contract::{TableContract, read_folder};
use crate::error::{Error, Refusals, Result};

const EXPECTATION: &str = "-- error: ";
const PARAMETER: &str = "-- param: ";

/// Fewer files than this are a folder that was not found.
const FILES_MIN: usize = 40;

/// The folder of failing files.
pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sql_errors")
}

/// What is wrong with a file of the folder, under its bare name.
pub(crate) async fn error_of(name: &str, text: &str) -> Option<Error> {
    let contracts = read_folder(&folder().join("lake")).unwrap();
    attempt(name, text, &contracts).await.err()
}

async fn attempt(name: &str, text: &str, contracts: &BTreeMap<Arc<str>, TableContract>) -> Result<()> {
    let file = QueryFile::parse(Path::new(name), text)?;
    if file.is_standing() {
        // Views a file may read stand in a folder of their own.
        let files = read_queries(&folder().join("views"), &mut Refusals::default())?;
        let mut refused = Refusals::default();
        let catalog = Catalog::new(Arc::new(transactions()), contracts.clone())?;
        let mut all: Vec<QueryFile> = files.into_iter().filter(|other| other.name != file.name).collect();
        all.push(file);
        plan_all(&all, catalog, &mut refused).await?;
        return refused.or(()).map_err(Error::Usage);
    }
    let params: Vec<String> = text.lines().filter_map(|line| line.strip_prefix(PARAMETER)).map(str::to_owned).collect();
    let statement = BatchStatement::of_file(&file, parse_params(&params)?)?;
    run_batch(&lake(&rows(1, 10, false)), statement).await.map(|_| ())
}

/// The errors of a text as lines of expectation; nothing when it has none.
async fn lines(name: &str, text: &str) -> Vec<String> {
    match error_of(name, text).await {
        None => Vec::new(),
        Some(Error::Usage(refusals)) => {
            let line = |message: String| {
                let message = message.strip_prefix(&format!("{name}:")).unwrap_or(&message).trim_start().to_owned();
                format!("{EXPECTATION}{message}")
            };
            refusals.iter().map(|refusal| line(refusal.to_string())).collect()
        }
        Some(other) => vec![format!("{EXPECTATION}(not a usage error) {other}")],
    }
}

/// Writes the errors of a text on top of it, in place of those that stood there.
async fn bless(path: &Path, name: &str, text: &str) {
    let body: Vec<&str> = text.lines().filter(|line| !line.starts_with(EXPECTATION)).collect();
    let count = lines(name, &body.join("\n")).await.len();
    // The lines themselves move every place down.
    let padded = format!("{}{}", "--\n".repeat(count), body.join("\n"));
    let found = lines(name, &padded).await;
    fs::write(path, format!("{}\n{}\n", found.join("\n"), body.join("\n"))).unwrap();
}

#[tokio::test]
async fn every_failing_file_gives_the_errors_it_begins_with() {
    let is_blessing = std::env::var_os("LAKEWARD_BLESS").is_some();
    let mut paths: Vec<PathBuf> = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "sql"));
    paths.sort();
    assert!(paths.len() >= FILES_MIN, "only {} files in {}", paths.len(), folder().display());
    let mut wrong = Vec::new();
    for path in &paths {
        let name = path.file_name().unwrap().to_str().unwrap();
        let text = fs::read_to_string(path).unwrap();
        if is_blessing {
            bless(path, name, &text).await;
            continue;
        }
        let expected: Vec<&str> = text.lines().take_while(|line| line.starts_with(EXPECTATION)).collect();
        let found = lines(name, &text).await;
        if expected.is_empty() {
            wrong.push(format!("{name} expects nothing; it gives\n{}", found.join("\n")));
        } else if found != expected {
            wrong.push(format!("{name} gives\n{}\n  but expects\n{}", found.join("\n"), expected.join("\n")));
        }
    }
    assert!(wrong.is_empty(), "{} of {} files:\n\n{}", wrong.len(), paths.len(), wrong.join("\n\n"));
}

#[tokio::test]
async fn what_is_wider_than_declared_is_taken() {
    let text = "CREATE MATERIALIZED VIEW declared AS SELECT event_date, 1 AS city, CAST(amount AS DECIMAL(15,1)) AS amount, \
                event_time AS at FROM transactions";
    assert_eq!(lines("declared.sql", text).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_batch_job_cannot_stand_and_a_table_without_format_is_no_stream() {
    let error = plan("SELECT 1").await.unwrap_err().to_string();
    assert!(error.contains("a batch job cannot stand"), "{error}");
    let table = TableContract { stream: None, ..transactions() };
    let error = Catalog::new(table.into(), BTreeMap::new()).unwrap_err().to_string();
    assert_eq!(error, "`transactions` is no stream: its contract names no `format`");
}
