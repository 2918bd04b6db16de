//! One case, lived three times.
//!
//! The one law: every life starts with a lake of its own in a folder that is gone afterwards; the user's lake is never
//! opened.

use std::path::Path;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use super::case::{Case, QueryCases};
use super::compare::{Difference, compare};
use super::expected::{self, Rows};
use crate::batch::LakeView;
use crate::config::Config;
use crate::error::{Context, Error, Result};
use crate::pipeline::{Script, Step, rehearse};
use crate::sql::Params;
use crate::token::TokenKey;

/// The key of every test: tokens of cards are equal everywhere, and worth nothing.
const TOKEN_KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

/// How a query was run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// On the stream, as the case's steps say.
    Live,
    /// The same, killed and started again after every commit, and once when everything is read.
    Resumed,
    /// As a batch statement over the lake the live run left.
    Batch,
}

/// How a case ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Rows of the first life.
    pub rows: usize,
    pub lives: Vec<Life>,
    /// The lives whose rows are not the expected ones.
    pub differences: Vec<(Life, Difference)>,
    /// Expected rows were written.
    pub blessed: bool,
}

impl Life {
    /// The word for people.
    pub fn word(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Resumed => "resumed",
            Self::Batch => "batch",
        }
    }
}

/// Runs a case. With `bless` its expected rows become those found; a kill that changes the answer is never blessed.
///
/// # Errors
/// [`Error::Usage`] for a query that does not plan, for a case without expected rows, for expected rows that are none;
/// whatever the pipeline says.
pub async fn run_case(config: &Config, query: &QueryCases, case: &Case, bless: bool) -> Result<Outcome> {
    let (live_lake, resumed_lake) = (folder()?, folder()?);
    let live_config = config_of(config, query, case, live_lake.path());
    let lived = rehearse(&live_config, &script(case, case.steps.clone())?).await?;
    let view = LakeView::open(&live_config).await?;
    let batch = view.file(&query.path, Params::default()).await?;
    let mut found = Vec::new();
    if query.is_standing {
        let live = table(&view, &query.query).await?;
        let resumed_config = config_of(config, query, case, resumed_lake.path());
        rehearse(&resumed_config, &script(case, killed(&case.steps, case.inputs.len()))?).await?;
        let resumed = table(&LakeView::open(&resumed_config).await?, &query.query).await?;
        found.extend([(Life::Live, live), (Life::Resumed, resumed)]);
    }
    found.push((Life::Batch, batch));
    judge(case, &found, bless, lived.counts.late > 0)
}

/// Compares every life with what is expected. Only late rows excuse a batch answer of its own.
fn judge(case: &Case, found: &[(Life, Vec<RecordBatch>)], bless: bool, is_late: bool) -> Result<Outcome> {
    let schema =
        found.first().map(|(_, rows)| schema(rows)).ok_or_else(|| Error::broken("a case without a life"))??;
    let columns = expected::columns_of(&case.folder)?;
    let rows = found
        .iter()
        .map(|(life, batches)| Ok((*life, Rows::of(batches, &schema, columns.as_deref())?)))
        .collect::<Result<Vec<_>>>()?;
    let (_, first) = &rows[0];
    if bless && let Some((_, batch)) = rows.last() {
        expected::bless(&case.folder, first, if is_late { batch } else { first })?;
    }
    let mut differences = Vec::new();
    for (life, found) in &rows {
        let wanted = expected::read(&case.folder, *life, &schema)?.ok_or_else(|| {
            let path = expected::path_of(&case.folder);
            Error::usage(format!("no `{}`; `--bless` writes it, look at what it wrote", path.display()))
        })?;
        differences.extend(compare(&wanted, found).map(|difference| (*life, difference)));
    }
    let lives = rows.iter().map(|(life, _)| *life).collect();
    Ok(Outcome { rows: first.rows.len(), lives, differences, blessed: bless })
}

fn folder() -> Result<tempfile::TempDir> {
    tempfile::tempdir().context(|| "making a folder for a lake")
}

fn config_of(config: &Config, query: &QueryCases, case: &Case, lake: &Path) -> Config {
    let mut config = config.clone();
    config.lake.url = lake.join("lake").display().to_string();
    // The queries beside this one run too: it may read one of them.
    if let Some(folder) = query.path.parent() {
        config.queries.dir = folder.to_owned();
    }
    if let Some(out_of_orderness) = case.out_of_orderness {
        config.watermark.out_of_orderness = out_of_orderness;
    }
    config
}

fn script(case: &Case, steps: Vec<Step>) -> Result<Script> {
    let token_key = TokenKey::from_hex(1, TOKEN_KEY)?;
    Ok(Script { files: case.inputs.clone(), steps, now: case.now, token_key })
}

/// The steps with a kill after each commit, and one when all is read and nothing of it is committed.
fn killed(steps: &[Step], files: usize) -> Vec<Step> {
    let mut killed = Vec::with_capacity(2 * steps.len() + files + 1);
    for step in steps {
        killed.push(*step);
        if *step == Step::Commit {
            killed.push(Step::Restart);
        }
    }
    killed.extend((0..files).map(|file| Step::Read { file, records: None }));
    killed.push(Step::Restart);
    killed
}

async fn table(view: &LakeView, name: &Arc<str>) -> Result<Vec<RecordBatch>> {
    view.sql(&format!("SELECT * FROM \"{name}\""), Params::default()).await
}

fn schema(rows: &[RecordBatch]) -> Result<SchemaRef> {
    rows.first().map(RecordBatch::schema).ok_or_else(|| Error::broken("an answer without columns"))
}
