//! Batch statements: any SQL over the lake's tables, windows included.
//!
//! The one law: a statement is parsed, rewritten and given its parameters before a session plans it; the session's tables
//! are the caller's.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use datafusion::dataframe::DataFrame;
use datafusion::datasource::MemTable;
use datafusion::execution::context::SessionContext;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::Statement as SqlStatement;
use datafusion::sql::sqlparser::tokenizer::Span;

use super::file::{Job, QueryFile, parse_statement, start_of};
use super::functions::unknown;
use super::lasting::check_lasting;
use super::params::{self, Params};
use super::place::{Refusal, Refusals, Words};
use super::recover;
use super::static_file::{StaticFile, take_files};
use super::windows::{hidden_in, rewrite};
use crate::error::{Context, Result, SourceText};

/// A statement ready to be planned, its parameters at hand.
#[derive(Clone, Debug)]
pub struct BatchStatement {
    pub(super) text: SourceText,
    pub(super) at: Span,
    pub(super) statement: Statement,
    pub(super) params: Params,
    /// Static files the statement reads.
    pub(super) files: Vec<Arc<StaticFile>>,
}

impl BatchStatement {
    /// One statement from text; `path` is what messages call it (`--command`, a file).
    ///
    /// # Errors
    /// [`crate::Error::Usage`] with line and column: a syntax error, a window that is not supported, `$names` and
    /// parameters that do not match.
    pub fn parse(path: &str, text: &str, params: Params) -> Result<Self> {
        let (source, at) = (SourceText::new(path, text), start_of(text));
        let parsed = parse_statement(text).and_then(|statement| check_lasting(&statement, at).map(|()| statement));
        let parsed = parsed.map_err(Refusals::from).and_then(|statement| Self::new(&source, at, statement, params));
        parsed.map_err(|refused| refused.in_text(&source))
    }

    /// The batch job of a file; for a materialized view its `SELECT`, over all of the table.
    ///
    /// # Errors
    /// As [`BatchStatement::parse`].
    pub fn of_file(file: &QueryFile, params: Params) -> Result<Self> {
        let (at, statement) = match &file.job {
            Job::Standing(view) => (view.at, select(view.query.clone())),
            Job::Batch(statement) => (start_of(file.text.content()), statement.as_ref().clone()),
        };
        Self::new(&file.text, at, statement, params).map_err(|refused| refused.in_text(&file.text))
    }

    pub(super) fn new(text: &SourceText, at: Span, mut statement: Statement, params: Params) -> Result<Self, Refusals> {
        let mut refused = Refusals::default();
        refused.keep(params::check(&statement, &params));
        let files = refused.keep(files_of(&mut statement, text.name())).unwrap_or_default();
        // Whether its windows are written right; what they stand for, only the tables tell.
        refused.keep(rewrite(&mut statement.clone(), &BTreeMap::new()));
        refused.or(Self { text: text.clone(), at, statement, params, files })
    }

    /// With files that were read when the statement was planned.
    pub(super) fn with_files(mut self, files: &[Arc<StaticFile>]) -> Self {
        self.files.extend(files.iter().cloned());
        self
    }

    /// The statement as text; one made from a standing query is plain SQL of the session made by [`super::session()`].
    pub fn sql(&self) -> String {
        self.statement.to_string()
    }
}

/// Plans a statement over the session's tables. Definitions (CREATE …) run at once; reads and writes when collected.
///
/// # Errors
/// [`crate::Error::Usage`] with file, line and column for what the planner refuses, with the nearest right name.
pub async fn run_batch(context: &SessionContext, batch: BatchStatement) -> Result<DataFrame> {
    let BatchStatement { text, at, mut statement, params, files } = batch;
    let reading = || format!("{}: reading a static file", text.name());
    for file in files {
        if context.table_exist(file.name.as_ref()).context(reading)? {
            continue;
        }
        let table = MemTable::try_new(Arc::clone(&file.schema), vec![file.rows.clone()]).context(reading)?;
        context.register_table(file.name.as_ref(), Arc::new(table)).context(reading)?;
    }
    let tables = tables(context);
    let rewritten = rewrite(&mut statement, &hidden(context, &tables).await);
    rewritten.map_err(|refusal| refusal.or_at(at).in_text(&text))?;
    let (words, unknown) = match &statement {
        Statement::Statement(statement) => {
            (Words::of(statement.as_ref()), unknown(statement.as_ref(), &context.state()))
        }
        _ => (Words::default(), Refusals::default()),
    };
    let refuse = |error| {
        let refusal = Refusal::planner(&error, &tables, &words).or_at(at);
        // The planner looks for the nearest name among too few functions.
        unknown.iter().find(|better| better.head() == refusal.head()).cloned().unwrap_or(refusal)
    };
    let mut refused = Refusals::default();
    let plan = recover::plan(&context.state(), statement, refuse, &mut refused).await;
    let mut plan = plan.ok_or_else(|| refused.in_text(&text))?;
    if !params.is_empty() {
        let params: Vec<_> = params.into_iter().collect();
        plan = plan.with_param_values(params).map_err(|error| refuse(error).in_text(&text))?;
    }
    context.execute_logical_plan(plan).await.map_err(|error| refuse(error).in_text(&text))
}

/// Reads the static files a statement names, relative to the folder of its own file.
fn files_of(statement: &mut Statement, path: &str) -> Result<Vec<Arc<StaticFile>>, Refusal> {
    let folder = Path::new(path).parent().unwrap_or(Path::new(""));
    match statement {
        Statement::Statement(statement) => take_files(statement.as_mut(), folder),
        _ => Ok(Vec::new()),
    }
}

/// Columns that windows take the place of, of the tables that have some.
pub(super) async fn hidden(context: &SessionContext, tables: &[String]) -> BTreeMap<String, Vec<&'static str>> {
    let mut hidden = BTreeMap::new();
    for table in tables {
        // A table that cannot be opened is told by whoever reads it.
        let Ok(provider) = context.table_provider(table.as_str()).await else { continue };
        hidden.insert(table.to_lowercase(), hidden_in(&provider.schema()));
    }
    hidden
}

fn tables(context: &SessionContext) -> Vec<String> {
    let catalogs = context.catalog_names().into_iter().filter_map(|name| context.catalog(&name));
    let schemas = catalogs.flat_map(|catalog| {
        catalog.schema_names().into_iter().filter_map(|name| catalog.schema(&name)).collect::<Vec<_>>()
    });
    schemas.flat_map(|schema| schema.table_names()).collect()
}

pub(super) fn select(query: Box<datafusion::sql::sqlparser::ast::Query>) -> Statement {
    Statement::Statement(Box::new(SqlStatement::Query(query)))
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;
    use arrow::datatypes::Int64Type;

    use super::*;
    use crate::sql::parse_params;
    use crate::sql::testing::{lake, rows};

    #[tokio::test]
    async fn any_sql_runs_as_batch_with_windows_and_parameters() {
        let rows = rows(12, 100, false);
        let params = parse_params(&["state=SC".into(), "least=10.50".into()]).unwrap();
        let text = "WITH w AS (SELECT window_start, state, count(*) AS n FROM TUMBLE(transactions, event_time, INTERVAL '10 minutes') \
                    WHERE amount >= $least GROUP BY window_start, state) SELECT count(*) AS windows, sum(n) AS n FROM w WHERE state = $state ORDER BY 1 LIMIT 3";
        let statement = BatchStatement::parse("--command", text, params).unwrap();
        let answer = run_batch(&lake(&rows), statement).await.unwrap().collect().await.unwrap();
        let plain = "SELECT count(*) AS n FROM transactions WHERE state = 'SC' AND amount >= 10.50";
        let expected = lake(&rows).sql(plain).await.unwrap().collect().await.unwrap();
        assert_eq!(
            answer[0].column(1).as_primitive::<Int64Type>().value(0),
            expected[0].column(0).as_primitive::<Int64Type>().value(0)
        );
        assert_eq!(answer[0].column(0).as_primitive::<Int64Type>().value(0), 3);
    }

    #[tokio::test]
    async fn batch_statements_say_what_is_wrong_and_where() {
        let parse = |text: &str, params: &[&str]| {
            let params = parse_params(&params.iter().map(|p| (*p).to_owned()).collect::<Vec<_>>()).unwrap();
            BatchStatement::parse("a.sql", text, params)
        };
        let message = |error: crate::Error| error.to_string();
        assert_eq!(
            message(parse("SELECT $stat", &["state=1"]).unwrap_err()),
            "a.sql:1:8: `$stat` has no value; `--param state` is given; did you mean `$state`?; give one with `--param stat=…`\n\
             a.sql: `--param state`: the statement has no `$state`; did you mean `stat`?"
        );
        assert_eq!(message(parse("SELECT 1", &["x=1"]).unwrap_err()), "a.sql: `--param x`: the statement has no `$x`");
        let context = lake(&rows(1, 1, false));
        let run = async |text: &str| message(run_batch(&context, parse(text, &[]).unwrap()).await.unwrap_err());
        assert_eq!(run("SELECT amnt\nFROM transactions").await, "a.sql:1:8: no column `amnt`; did you mean `amount`?");
        assert_eq!(
            run("SELECT amount\nFROM transaction").await,
            "a.sql:2:6: no table `transaction`; did you mean `transactions`?"
        );
        assert_eq!(
            run("SELECT 1\nFROM TUMBLE(transaction, event_time, INTERVAL '1 day')").await,
            "a.sql:2:13: no table `transaction`; did you mean `transactions`?"
        );
        assert!(
            message(parse("SELECT 1 FROM SESSION(t, x)", &[]).unwrap_err())
                .starts_with("a.sql:1:15: `SESSION` takes other arguments; write `SESSION(")
        );
    }
}
