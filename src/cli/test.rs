//! `lakeward test`: the cases of queries, one line each.
//!
//! Exit code 0 when every case gives the expected rows, 1 when one does not, 2 when one could not be run.

use std::process::ExitCode;

use super::TestArgs;
use super::output::{answer, say};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::query_test::{Case, Outcome, QueryCases, find_cases, run_case};

/// Runs every case below the path.
pub(super) async fn test(config: &Config, args: &TestArgs) -> Result<ExitCode> {
    let path = args.path.as_ref().unwrap_or(&config.queries.dir);
    let queries = find_cases(path)?;
    let cases: usize = queries.iter().map(|query| query.cases.len()).sum();
    if cases == 0 {
        return Err(Error::usage(format!(
            "no tests in `{0}`: make a folder `{0}/<query>.test/<case>/` with `input.csv`, then `lakeward test --bless`",
            path.display()
        )));
    }
    let mut failed = 0;
    for query in &queries {
        for case in &query.cases {
            let outcome = run_case(config, query, case, args.bless).await;
            failed += usize::from(!report(query, case, outcome)?);
        }
    }
    let untested: Vec<&str> =
        queries.iter().filter(|query| query.cases.is_empty()).map(|query| query.query.as_ref()).collect();
    if !untested.is_empty() {
        say(&format!("without a test: {}", untested.join(", ")));
    }
    let verdict = if failed == 0 { "all as expected".to_owned() } else { format!("{failed} not as expected") };
    answer(&format!("{cases} cases: {verdict}"))?;
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Says how a case ended; whether well. An error of a case is the command's.
fn report(query: &QueryCases, case: &Case, outcome: Result<Outcome>) -> Result<bool> {
    let name = format!("{}/{}", query.query, case.name);
    let outcome = outcome.inspect_err(|_| say(&format!("{name}: could not be run")))?;
    let lives: Vec<&str> = outcome.lives.iter().map(|life| life.word()).collect();
    let blessed = if outcome.blessed { ", blessed" } else { "" };
    if outcome.differences.is_empty() {
        answer(&format!("{name}: ok ({}: {} rows{blessed})", lives.join(", "), outcome.rows))?;
        return Ok(true);
    }
    answer(&format!("{name}: FAILED"))?;
    for (life, difference) in &outcome.differences {
        answer(&format!(" {}, {difference}", life.word()))?;
    }
    Ok(false)
}
