//! From a query file to a standing query: check, plan once, cut, declare the output.
//!
//! The one law: all refusals happen here. A query that was planned runs on every batch of the declared schema.

use std::path::Path;
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use datafusion::error::DataFusionError;
use datafusion::execution::context::SessionContext;
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{Query, SetExpr};
use datafusion::sql::sqlparser::tokenizer::Span;
use sha2::{Digest, Sha256};

use super::batch::{BatchStatement, select};
use super::buffered::name_windows;
use super::catalog::{Catalog, Driver, Time, ViewKind, ViewSource};
use super::definition::{Definition, Pairs};
use super::feed::FeedTable;
use super::file::{Job, QueryFile, View, normal};
use super::joins::take_joins;
use super::lookup::{Lookup, plan_lookup};
use super::output::Output;
use super::place::{Refusal, Refusals, Words};
use super::recover;
use super::refuse::{check, check_plan, plain_select};
use super::relation::{Shape, coalesced_times, sides, times_of};
use super::session::standing_session;
use super::sessions::Sessions;
use super::sides::{register, split_buffered};
use super::spec::WindowShape;
use super::split::split;
use super::stateless::StatelessQuery;
use super::static_file::take_files;
use super::unnamed::without_unnamed;
use super::windowed::WindowedQuery;
use super::windows::{TimeRange, WindowCall};
use crate::contract::{TableContract, provenance};
use crate::error::Result;

/// A materialized view, planned against its stream.
#[derive(Debug)]
pub enum StandingQuery {
    /// Over `TUMBLE(…)` or another window: keeps open windows.
    Windowed(WindowedQuery),
    /// Over the table itself: keeps nothing.
    Stateless(StatelessQuery),
}

impl StandingQuery {
    /// Plans a materialized view over what the catalog offers. Where the lake declares a table of the view's name, the
    /// view must give exactly its columns; else the columns follow from the query.
    ///
    /// # Errors
    /// [`Error::Usage`](crate::Error::Usage) with everything found wrong: what cannot run, and whatever would let the
    /// streamed answer differ from the batch answer.
    pub async fn plan(file: &QueryFile, catalog: &Catalog) -> Result<Self> {
        let Job::Standing(view) = &file.job else {
            let refusal = Refusal::new(Span::empty(), "a batch job cannot stand");
            return Err(refusal.help("write `CREATE MATERIALIZED VIEW name AS …`").in_text(&file.text));
        };
        let mut refused = view.refused.clone();
        match refused.keep(plan(file, view, catalog).await) {
            Some(query) if refused.is_empty() => Ok(query),
            _ => Err(refused.or_at(view.at).in_text(&file.text)),
        }
    }

    /// Whose rows the query folds.
    pub fn driver(&self) -> &Driver {
        &self.definition().source.driver
    }

    /// All whose rows it folds, [`StandingQuery::driver`] first: joined windows may be over several views.
    pub fn drivers(&self) -> Vec<&Driver> {
        self.definition().drivers()
    }

    /// The column of its table that is the start of a window: its own, or, of a query without one, that of the window of the
    /// view that its row came from.
    pub fn start_column(&self) -> Option<&Arc<str>> {
        self.definition().start_column()
    }

    /// Whether rows are of windows that they do not tell: then nothing corrects them, neither late rows nor a parent.
    pub fn is_beyond_correction(&self) -> bool {
        let is_by_row = matches!(self, Self::Stateless(_)) && *self.driver() == Driver::Stream;
        !is_by_row && self.start_column().is_none()
    }

    /// The query as the source of others.
    pub(super) fn as_source(&self) -> ViewSource {
        let definition = self.definition();
        let kind = match self {
            Self::Windowed(query) => ViewKind::Windowed(query.window()),
            Self::Stateless(_) => {
                ViewKind::Stateless { text: definition.inlined(), driver: definition.source.driver.clone() }
            }
        };
        let is_session =
            matches!(self, Self::Windowed(query) if matches!(query.window().shape(), WindowShape::Session { .. }));
        let told = definition.times.iter().map(|(name, time)| match time {
            Time::WindowStart if is_session => (Arc::clone(name), Time::SessionStart),
            time => (Arc::clone(name), *time),
        });
        ViewSource { contract: self.output().clone(), times: told.collect(), kind }
    }

    /// What of the lake its rows are joined with, by itself or by a view it reads through its text.
    pub fn lookups(&self) -> &[Lookup] {
        &self.definition().lookups
    }

    /// The query as a batch statement over the stream's table and tables named as its lookups. With `by_versions` these
    /// hold several versions: the column [`LOOKED_UP_AT`](super::LOOKED_UP_AT) says which a row is of, and
    /// [`JOINED_AT`](super::JOINED_AT) of the stream's table which of them a row meets; windows that are joined meet those of
    /// their end, by the function [`JOINED_BY_END`](super::JOINED_BY_END).
    ///
    /// # Errors
    /// None that planning the query would not have met.
    pub(crate) fn select_over_lookups(
        &self,
        range: Option<TimeRange>,
        pairs: &Pairs,
        by_versions: bool,
    ) -> Result<BatchStatement> {
        self.definition().select_over_lookups(range, pairs, by_versions)
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

    /// The column of its table that is the event time of the stream's row a row came from, where there is one.
    pub fn event_column(&self) -> Option<&Arc<str>> {
        self.definition().event_column()
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

    /// As [`StandingQuery::batch_select`], over some pairs of rows and windows.
    ///
    /// # Errors
    /// None that planning the query would not have met; a condition that does not parse.
    pub(crate) fn batch_select_where(&self, range: Option<TimeRange>, pairs: &Pairs) -> Result<BatchStatement> {
        match self {
            Self::Windowed(query) => query.definition.batch_select_where(range, pairs),
            Self::Stateless(query) => query.batch_select(range),
        }
    }
}

/// Columns of the stream's table that only its epoch knows.
const KNOWN_LATER: [&str; 2] = [provenance::EPOCH, provenance::LATE];

fn known_later(name: &str, at: Span) -> Refusal {
    let refusal = Refusal::new(at, format!("`{name}` is known only once the epoch is written"));
    refusal.help("leave it out, or write a batch query")
}

/// The schema of the rows a standing query reads: the stream's table without what only its epoch knows.
pub fn input_schema(stream: &TableContract) -> SchemaRef {
    let schema = stream.schema();
    let fields = schema.fields().iter().filter(|field| !KNOWN_LATER.contains(&field.name().as_str()));
    Arc::new(Schema::new(fields.cloned().collect::<Vec<_>>()))
}

async fn plan(file: &QueryFile, view: &View, catalog: &Catalog) -> Result<StandingQuery, Refusals> {
    let mut refused = Refusals::default();
    let mut query = view.query.clone();
    let folder = file.path.parent().unwrap_or(Path::new(""));
    let Some(mut files) = refused.keep(take_files(query.as_mut(), folder)) else { return Err(refused) };
    if let SetExpr::Select(select) = query.body.as_mut() {
        refused.keep(name_windows(select, catalog));
    }
    let mut streamed = query.clone();
    let joins = take_joins(&mut streamed, &file.name, catalog, &files);
    let Some(mut joins) = refused.keep(joins) else { return Err(refused) };
    // Whatever is said of the rest of the query is said of it as written.
    let view = &View { query: streamed.clone(), ..view.clone() };
    let source = check(view, &standing_session(false).state(), catalog, &mut refused);
    let Some(mut source) = source else { return Err(refused) };
    let sides = sides(&mut source, joins.windows.clone(), catalog);
    let Some(sides) = refused.keep(sides) else { return Err(refused) };
    let (mut lookups, mut texts) = (Vec::new(), String::new());
    for written in std::mem::take(&mut joins.written) {
        if let Some((lookup, text)) = refused.keep(plan_lookup(written, &file.text, catalog).await) {
            texts.push_str(&text);
            lookups.push(lookup);
        }
    }
    for parent in source.inlined.values() {
        lookups.extend(parent.lookups.iter().cloned());
        files.extend(parent.files.iter().cloned());
    }
    let written = plain_select(&view.query)?;
    let mut times = times_of(written, &source.times, &joins.aliases);
    if !sides.is_empty() {
        times.extend(coalesced_times(written, &source.times));
    }
    let mut definition = Definition {
        name: Arc::clone(&file.name),
        fingerprint: String::new(),
        allowed_lateness: view.allowed_lateness.map_or(0, |(lateness, _)| lateness),
        text: file.text.clone(),
        at: view.at,
        query,
        streamed,
        lookups,
        files,
        times,
        sides,
        event_date: match source.driver {
            Driver::Stream if source.inlined.is_empty() && catalog.stream.is_by_event_date() => {
                Some(Arc::clone(&catalog.stream.partition_by))
            }
            _ => None,
        },
        source,
    };
    let is_sliced = definition.combined().is_some() && !definition.is_buffered();
    let context = standing_session(is_sliced);
    let words = Words::of(&view.query);
    let tables: Vec<_> = definition.drivers().into_iter().map(|driver| driving_table(driver, catalog)).collect();
    let names: Vec<String> = tables.iter().map(|(name, _)| name.to_string()).collect();
    let refuse = |error: DataFusionError| {
        let refusal = Refusal::planner(&error, &names, &words);
        match KNOWN_LATER.iter().find(|name| refusal.head() == format!("no column `{name}`")) {
            Some(name) => known_later(name, refusal.span()),
            None => refusal,
        }
    };
    let windows = definition.select_windows()?;
    register_all(&context, &definition, tables, &windows).await.map_err(refuse)?;
    let statement: Statement = select(definition.select_live()?);
    let logical = recover::plan(&context.state(), statement, refuse, &mut refused).await;
    let logical = logical.ok_or(refused)?;
    check_plan(view, &logical, &definition.source, &joins)?;
    for (_, windowed) in &windows {
        texts.push_str(&windowed.to_string());
    }
    definition.fingerprint = fingerprint(&logical, definition.combined(), &texts, &catalog.stream);
    // Coercion settles the types of literals and unions of types; only the optimized plan has the final ones.
    let optimized = context.state().optimize(&logical).map_err(refuse)?;
    let fields: Vec<_> = optimized.schema().fields().iter().cloned().collect();
    let output = Output::plan(file, view, &fields, catalog.contract(&file.name), &definition.times)?;
    let planned = physical(&context, definition, &logical, windows, output).await;
    planned.map_err(|error| refuse(error).or_at(joins.at.unwrap_or(view.at)).into())
}

/// Registers what the plan of the stream reads: what drives it, what it is joined with, and the rows kept of `windows`.
async fn register_all(
    context: &SessionContext,
    definition: &Definition,
    tables: Vec<(Arc<str>, SchemaRef)>,
    windows: &[(Driver, Box<Query>)],
) -> datafusion::error::Result<()> {
    for (name, schema) in tables {
        // Two sides may read one view by different times.
        if !context.table_exist(name.as_ref())? {
            context.register_table(name.as_ref(), Arc::new(FeedTable::new(schema)))?;
        }
    }
    definition.register_leaves(context)?;
    register(context, windows).await
}

/// The table whose rows drive the query, and their schema.
fn driving_table(driver: &Driver, catalog: &Catalog) -> (Arc<str>, SchemaRef) {
    match driver {
        Driver::Stream => (Arc::clone(&catalog.stream.name), input_schema(&catalog.stream)),
        Driver::View(parent) => {
            let schema = catalog.view(&parent.name).map_or_else(|| Arc::new(Schema::empty()), |v| v.contract.schema());
            (Arc::clone(&parent.name), schema)
        }
    }
}

async fn physical(
    context: &SessionContext,
    mut definition: Definition,
    logical: &LogicalPlan,
    windows: Vec<(Driver, Box<Query>)>,
    output: Output,
) -> datafusion::error::Result<StandingQuery> {
    let plan = context.state().create_physical_plan(logical).await?;
    let task = context.task_ctx();
    Ok(match &definition.source.shape {
        Shape::Windowed(call) => {
            let (window, keys) = (call.spec, call.keys.clone());
            let split = match definition.is_buffered() {
                true => definition.bind_split(split_buffered(context, plan, windows).await?)?,
                false => split(&definition.bind_files(plan)?, &keys)?,
            };
            let sessions = match window.shape() {
                WindowShape::Session { .. } => Sessions::of(&split)?.map(Box::new),
                _ => None,
            };
            StandingQuery::Windowed(WindowedQuery { split, sessions, definition, window, output, task })
        }
        Shape::Stateless { .. } => {
            let plan = definition.bind_files(plan)?;
            StandingQuery::Stateless(StatelessQuery { definition, plan, output, task })
        }
    })
}

/// Names, expressions and literals of the plan as planned, and the types of its answer. The plan before optimisation: an
/// upgrade that optimises otherwise does not change the query. Of combined windows the plan knows only slices; `lookups`
/// are the plans of what it is joined with. What came to the `stream` and is not named does not count.
fn fingerprint(plan: &LogicalPlan, combined: Option<&WindowCall>, lookups: &str, stream: &TableContract) -> String {
    let mut text = without_unnamed(&format!("{}{lookups}", plan.display_indent()), stream);
    if let Some(call) = combined {
        let keys: Vec<String> = call.keys.iter().map(normal).collect();
        text.push_str(&format!("\n{} by {keys:?}", call.spec));
    }
    for field in plan.schema().fields() {
        text.push_str(&format!("\n{} {}", field.name(), field.data_type()));
    }
    hex::encode(Sha256::digest(text.as_bytes()))
}
