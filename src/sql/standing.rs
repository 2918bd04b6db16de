//! From a query file to a standing query: check, plan once, cut, declare the output.
//!
//! The one law: all refusals happen here. A query that was planned runs on every batch of the declared schema.

use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use chrono::Datelike;
use datafusion::execution::context::SessionContext;
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::Query;
use datafusion::sql::sqlparser::tokenizer::Span;
use sha2::{Digest, Sha256};

use super::batch::{BatchStatement, select};
use super::feed::FeedTable;
use super::file::{Job, QueryFile, View};
use super::functions::calls;
use super::output::Output;
use super::params::Params;
use super::place::{Refusal, Refusals};
use super::recover;
use super::refuse::{Source, check, check_plan};
use super::session::standing_session;
use super::split::split;
use super::stateless::StatelessQuery;
use super::windowed::WindowedQuery;
use super::windows::{TimeRange, narrowed, replace_source, time_conditions};
use crate::clock::Micros;
use crate::contract::{Origin, TableContract, provenance};
use crate::error::{Error, Result, SourceText};

/// A materialized view, planned against its stream.
#[derive(Debug)]
pub enum StandingQuery {
    /// Over `TUMBLE(…)`: keeps open windows.
    Windowed(WindowedQuery),
    /// Over the table itself: keeps nothing.
    Stateless(StatelessQuery),
}

impl StandingQuery {
    /// Plans a materialized view over `stream`. `table` is the contract of the table it fills, when the lake declares
    /// one; else the columns follow from the query.
    ///
    /// # Errors
    /// [`Error::Usage`] with everything found wrong: what cannot run, and whatever would let the streamed answer differ
    /// from the batch answer.
    pub async fn plan(file: &QueryFile, stream: &TableContract, table: Option<&TableContract>) -> Result<Self> {
        let Job::Standing(view) = &file.job else {
            let refusal = Refusal::new(Span::empty(), "a batch job cannot stand");
            return Err(refusal.help("write `CREATE MATERIALIZED VIEW name AS …`").in_text(&file.text));
        };
        let Some(declared) = &stream.stream else {
            return Err(Error::usage(format!("`{}` is no stream: its contract names no `format`", stream.name)));
        };
        let mut refused = view.refused.clone();
        match refused.keep(plan(file, view, stream, &declared.event_time, table).await) {
            Some(query) if refused.is_empty() => Ok(query),
            _ => Err(refused.or_at(view.at).in_text(&file.text)),
        }
    }

    /// The materialized view's name, which is its table's.
    pub fn name(&self) -> &Arc<str> {
        match self {
            Self::Windowed(query) => query.name(),
            Self::Stateless(query) => query.name(),
        }
    }

    /// SHA-256 (hex) of the normalised plan: the same for texts that differ in comments and layout only.
    pub fn fingerprint(&self) -> &str {
        match self {
            Self::Windowed(query) => query.fingerprint(),
            Self::Stateless(query) => query.fingerprint(),
        }
    }

    /// The table the query fills.
    pub fn output(&self) -> &TableContract {
        match self {
            Self::Windowed(query) => query.output(),
            Self::Stateless(query) => query.output(),
        }
    }

    /// The query as a batch statement over the stream's table, all of it or a range.
    ///
    /// # Errors
    /// None that planning the query would not have met.
    pub fn batch_select(&self, range: Option<TimeRange>) -> Result<BatchStatement> {
        match self {
            Self::Windowed(query) => query.batch_select(range),
            Self::Stateless(query) => query.batch_select(range),
        }
    }
}

/// The schema of the rows a standing query reads: the stream's table without what only its epoch knows.
pub fn input_schema(stream: &TableContract) -> SchemaRef {
    let known_later = [provenance::EPOCH, provenance::LATE];
    let schema = stream.schema();
    let fields = schema.fields().iter().filter(|field| !known_later.contains(&field.name().as_str()));
    Arc::new(Schema::new(fields.cloned().collect::<Vec<_>>()))
}

/// What both kinds of standing query know of themselves.
#[derive(Clone, Debug)]
pub(super) struct Definition {
    pub(super) name: Arc<str>,
    pub(super) fingerprint: String,
    pub(super) allowed_lateness: Micros,
    text: SourceText,
    at: Span,
    query: Box<Query>,
    source: Source,
    event_time: Arc<str>,
    /// The column that holds the date of the event time, when the table is partitioned by it.
    event_date: Option<Arc<str>>,
}

impl Definition {
    /// The SELECT as written.
    pub(super) fn query(&self) -> &Query {
        &self.query
    }

    pub(super) fn batch_select(&self, range: Option<TimeRange>) -> Result<BatchStatement> {
        self.select_over(range)
            .map_err(Refusals::from)
            .and_then(|query| BatchStatement::new(&self.text, self.at, select(query), Params::new()))
            .map_err(|refused| refused.in_text(&self.text))
    }

    /// The query with its source narrowed to `range`, in words a scan can prune by.
    fn select_over(&self, range: Option<TimeRange>) -> Result<Box<Query>, Refusal> {
        let mut conditions = Vec::new();
        if let (Some(range), Some(date)) = (range, &self.event_date) {
            conditions.extend(date_literal(range.from).map(|from| format!("{date} >= {from}")));
            conditions.extend(date_literal(range.to.saturating_sub(1)).map(|last| format!("{date} <= {last}")));
        }
        let source = match (&self.source, range) {
            (Source::Windowed(call), range) => call.subquery(range, &conditions)?,
            (Source::Stateless { .. }, None) => return Ok(self.query.clone()),
            (Source::Stateless { table, alias }, Some(range)) => {
                conditions.extend(time_conditions(&self.event_time, range));
                narrowed(table, alias.clone(), &conditions)?
            }
        };
        let mut query = self.query.clone();
        replace_source(&mut query, source);
        Ok(query)
    }
}

async fn plan(
    file: &QueryFile,
    view: &View,
    stream: &TableContract,
    event_time: &Arc<str>,
    table: Option<&TableContract>,
) -> Result<StandingQuery, Refusals> {
    let context = standing_session();
    let mut refused = Refusals::default();
    let Some(source) = check(view, &context.state(), stream, event_time, &mut refused) else { return Err(refused) };
    let mut definition = Definition {
        name: Arc::clone(&file.name),
        fingerprint: String::new(),
        allowed_lateness: view.allowed_lateness.map_or(0, |(lateness, _)| lateness),
        text: file.text.clone(),
        at: view.at,
        query: view.query.clone(),
        source,
        event_time: Arc::clone(event_time),
        event_date: event_date(stream, event_time),
    };
    let calls = calls(&view.query);
    let refuse = |error| Refusal::planner(&error, &[stream.name.to_string()], &calls);
    context.register_table(stream.name.as_ref(), Arc::new(FeedTable::new(input_schema(stream)))).map_err(refuse)?;
    let statement: Statement = select(definition.select_over(None)?);
    let logical = recover::plan(&context.state(), statement, refuse, &mut refused).await;
    let logical = logical.ok_or(refused)?;
    check_plan(view, &logical, matches!(definition.source, Source::Windowed(_)))?;
    definition.fingerprint = fingerprint(&logical);
    // Coercion settles the types of literals and unions of types; only the optimized plan has the final ones.
    let optimized = context.state().optimize(&logical).map_err(refuse)?;
    let fields: Vec<_> = optimized.schema().fields().iter().cloned().collect();
    let output = Output::plan(file, view, &fields, table)?;
    physical(&context, definition, &logical, output).await.map_err(|error| refuse(error).into())
}

async fn physical(
    context: &SessionContext,
    definition: Definition,
    logical: &LogicalPlan,
    output: Output,
) -> datafusion::error::Result<StandingQuery> {
    let plan = context.state().create_physical_plan(logical).await?;
    let task = context.task_ctx();
    Ok(match &definition.source {
        Source::Windowed(call) => {
            let window = call.spec;
            StandingQuery::Windowed(WindowedQuery { split: split(&plan)?, definition, window, output, task })
        }
        Source::Stateless { .. } => StandingQuery::Stateless(StatelessQuery { definition, plan, output, task }),
    })
}

/// Names, expressions and literals of the plan as planned, and the types of its answer. The plan before optimisation: an
/// upgrade that optimises otherwise does not change the query.
fn fingerprint(plan: &LogicalPlan) -> String {
    let mut text = plan.display_indent().to_string();
    for field in plan.schema().fields() {
        text.push_str(&format!("\n{} {}", field.name(), field.data_type()));
    }
    hex::encode(Sha256::digest(text.as_bytes()))
}

/// The partition column, when the contract says that it is the date of the event time.
fn event_date(stream: &TableContract, event_time: &str) -> Option<Arc<str>> {
    let column = stream.column(&stream.partition_by)?;
    let Origin::Generated(expression) = &column.origin else { return None };
    let bare: String = expression.chars().filter(|c| !c.is_whitespace()).collect::<String>().to_lowercase();
    (bare.trim_start_matches('(').starts_with(&format!("cast({event_time}asdate)"))).then(|| Arc::clone(&column.name))
}

/// The UTC date of a time; `None` for a year SQL cannot write, whose condition is then left out.
fn date_literal(micros: Micros) -> Option<String> {
    let date = chrono::DateTime::from_timestamp_micros(micros)?.date_naive();
    (1..=9999).contains(&date.year()).then(|| format!("CAST('{date}' AS DATE)"))
}
