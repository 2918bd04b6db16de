//! Tests of queries, by whoever writes them: rows in, rows expected, no stream and no AWS.
//!
//! `queries/<query>.test/<case>/` holds one case: `input*.csv` or `input*.ndjson` in the stream's own format, each file a
//! shard; `expected.csv`; and, where the course of time matters, `case.toml`. A folder beside the query file, because rows
//! belong into files that editors and other tools know, and a case with its own name can say what it is about.
//!
//! The one law: every case is lived three times by the code that runs in production – live as scripted, live with a kill
//! after each commit, and as batch over the lake that the first life left – and all three must give the expected rows.
//! Nothing here prints.

mod case;
mod compare;
mod expected;
mod lives;

pub use case::{Case, QueryCases, find_cases};
pub use compare::Difference;
pub use lives::{Life, Outcome, run_case};
