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

use super::batch::{BatchStatement, display, select};
use super::catalog::{Catalog, Driver, Time, ViewKind, ViewSource, inline};
use super::feed::FeedTable;
use super::file::{Job, QueryFile, View};
use super::functions::calls;
use super::output::Output;
use super::params::Params;
use super::place::Refusal;
use super::refuse::{check, check_plan, plain_select};
use super::relation::{Shape, Source, times_of};
use super::session::standing_session;
use super::split::split;
use super::stateless::StatelessQuery;
use super::windowed::WindowedQuery;
use super::windows::{TimeRange, narrowed, replace_source, time_conditions};
use crate::clock::Micros;
use crate::contract::{Origin, TableContract, provenance};
use crate::error::{Error, Result};

/// A materialized view, planned against its stream.
#[derive(Debug)]
pub enum StandingQuery {
    /// Over `TUMBLE(…)`: keeps open windows.
    Windowed(WindowedQuery),
    /// Over the table itself: keeps nothing.
    Stateless(StatelessQuery),
}

impl StandingQuery {
    /// Plans a materialized view over what the catalog offers. Where the lake declares a table of the view's name, the
    /// view must give exactly its columns; else the columns follow from the query.
    ///
    /// # Errors
    /// [`Error::Usage`] as `file:line:column: sentence` for everything that cannot run, or whose streamed answer could
    /// differ from the batch answer.
    pub async fn plan(file: &QueryFile, catalog: &Catalog) -> Result<Self> {
        let path = display(&file.path);
        let Job::Standing(view) = &file.job else {
            return Err(Error::usage(format!(
                "{path}: a batch job cannot stand; write `CREATE MATERIALIZED VIEW name AS …`"
            )));
        };
        plan(file, view, catalog).await.map_err(|refusal| refusal.or_at(view.at).in_file(&path))
    }

    /// Whose rows the query folds.
    pub fn driver(&self) -> &Driver {
        &self.definition().source.driver
    }

    /// The query as the source of others.
    pub(super) fn as_source(&self) -> ViewSource {
        let definition = self.definition();
        let kind = match self {
            Self::Windowed(query) => ViewKind::Windowed(query.window()),
            Self::Stateless(_) => {
                let mut query = definition.query.clone();
                inline(&mut query, &definition.source.inlined);
                ViewKind::Stateless { query, driver: definition.source.driver.clone() }
            }
        };
        ViewSource { contract: self.output().clone(), times: definition.times.clone(), kind }
    }

    fn definition(&self) -> &Definition {
        match self {
            Self::Windowed(query) => &query.definition,
            Self::Stateless(query) => &query.definition,
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
    path: String,
    at: Span,
    query: Box<Query>,
    pub(super) source: Source,
    /// Columns of the answer that tell the time.
    times: Vec<(Arc<str>, Time)>,
    /// The column of the stream's table that holds the date of the event time, when it is partitioned by it.
    event_date: Option<Arc<str>>,
}

impl Definition {
    pub(super) fn batch_select(&self, range: Option<TimeRange>) -> Result<BatchStatement> {
        self.select_over(range)
            .and_then(|query| BatchStatement::new(&self.path, self.at, select(query), Params::new()))
            .map_err(|refusal| refusal.in_file(&self.path))
    }

    /// The query with its source narrowed to `range`, in words a scan can prune by.
    fn select_over(&self, range: Option<TimeRange>) -> Result<Box<Query>, Refusal> {
        let mut conditions = Vec::new();
        if let (Some(range), Some(date)) = (range, &self.event_date) {
            conditions.extend(date_literal(range.from).map(|from| format!("{date} >= {from}")));
            conditions.extend(date_literal(range.to.saturating_sub(1)).map(|last| format!("{date} <= {last}")));
        }
        let mut query = self.query.clone();
        match (&self.source.shape, range) {
            (Shape::Windowed(call), range) => replace_source(&mut query, call.subquery(range, &conditions)?),
            (Shape::Stateless { .. }, None) => {}
            (Shape::Stateless { table, alias }, Some(range)) => {
                conditions.extend(range_conditions(&self.source.times, range));
                replace_source(&mut query, narrowed(table, alias.clone(), &conditions)?);
            }
        }
        inline(&mut query, &self.source.inlined);
        Ok(query)
    }
}

/// What puts a row's times into a range: its event time, or its whole window.
fn range_conditions(times: &[(Arc<str>, Time)], range: TimeRange) -> Vec<String> {
    let conditions = |(name, time): &(Arc<str>, Time)| {
        let [from, before] = time_conditions(name, range);
        match time {
            Time::Event => vec![from, before],
            Time::WindowStart => vec![from],
            Time::WindowEnd => {
                time_conditions(name, TimeRange { to: range.to.saturating_add(1), ..range })[1..].to_vec()
            }
        }
    };
    times.iter().flat_map(conditions).collect()
}

async fn plan(file: &QueryFile, view: &View, catalog: &Catalog) -> Result<StandingQuery, Refusal> {
    let context = standing_session();
    let source = check(view, &context.state(), catalog)?;
    let (name, schema) = driving_table(&source, catalog);
    let mut definition = Definition {
        name: Arc::clone(&file.name),
        fingerprint: String::new(),
        allowed_lateness: view.allowed_lateness.map_or(0, |(lateness, _)| lateness),
        path: display(&file.path),
        at: view.at,
        query: view.query.clone(),
        times: times_of(plain_select(&view.query)?, &source.times),
        event_date: match source.driver {
            Driver::Stream if source.inlined.is_empty() => event_date(&catalog.stream, &catalog.event_time),
            _ => None,
        },
        source,
    };
    let calls = calls(&view.query);
    let refuse = |error| Refusal::planner(&error, &[name.to_string()], &calls);
    context.register_table(name.as_ref(), Arc::new(FeedTable::new(schema))).map_err(refuse)?;
    let statement: Statement = select(definition.select_over(None)?);
    let logical = context.state().statement_to_plan(statement).await.map_err(refuse)?;
    check_plan(view, &logical, matches!(definition.source.shape, Shape::Windowed(_)))?;
    definition.fingerprint = fingerprint(&logical);
    // Coercion settles the types of literals and unions of types; only the optimized plan has the final ones.
    let optimized = context.state().optimize(&logical).map_err(refuse)?;
    let fields: Vec<_> = optimized.schema().fields().iter().cloned().collect();
    let output = Output::plan(file, view, &fields, catalog.contract(&file.name))?;
    physical(&context, definition, &logical, output).await.map_err(refuse)
}

/// The table whose rows drive the query, and their schema.
fn driving_table(source: &Source, catalog: &Catalog) -> (Arc<str>, SchemaRef) {
    match &source.driver {
        Driver::Stream => (Arc::clone(&catalog.stream.name), input_schema(&catalog.stream)),
        Driver::View(parent) => {
            let schema = catalog.view(&parent.name).map_or_else(|| Arc::new(Schema::empty()), |v| v.contract.schema());
            (Arc::clone(&parent.name), schema)
        }
    }
}

async fn physical(
    context: &SessionContext,
    definition: Definition,
    logical: &LogicalPlan,
    output: Output,
) -> datafusion::error::Result<StandingQuery> {
    let plan = context.state().create_physical_plan(logical).await?;
    let task = context.task_ctx();
    Ok(match &definition.source.shape {
        Shape::Windowed(call) => {
            let window = call.spec;
            StandingQuery::Windowed(WindowedQuery { split: split(&plan)?, definition, window, output, task })
        }
        Shape::Stateless { .. } => StandingQuery::Stateless(StatelessQuery { definition, plan, output, task }),
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
