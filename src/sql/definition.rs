//! A standing query as written, and the ways it is written again: for the stream, as batch, over a range, for the audit.
//!
//! The one law: every way has the same rows and windows in it; what differs is where they come from. Nothing is planned
//! here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::Datelike;
use datafusion::execution::context::SessionContext;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::sql::sqlparser::ast::{Query, SetExpr, TableFactor};
use datafusion::sql::sqlparser::tokenizer::Span;

use super::batch::{BatchStatement, select};
use super::buffered::{rows_of, write_sides};
use super::catalog::{Driver, Inlined, Time, inline, table_named};
use super::feed::FeedTable;
use super::joined::{LookupRows, arrange, bind, narrow, narrowed_rows, needed};
use super::joins::by_version;
use super::lookup::Lookup;
use super::params::Params;
use super::place::{Refusal, Refusals};
use super::relation::{Shape, Side, Source};
use super::split::Split;
use super::static_file::StaticFile;
use super::windows::{TimeRange, WindowCall, narrowed, replace_source, time_conditions};
use crate::clock::Micros;
use crate::error::{Result, SourceText};

/// What both kinds of standing query know of themselves.
#[derive(Clone, Debug)]
pub(super) struct Definition {
    pub(super) name: Arc<str>,
    pub(super) fingerprint: String,
    pub(super) allowed_lateness: Micros,
    pub(super) text: SourceText,
    pub(super) at: Span,
    /// As written, and with its lookups as leaves.
    pub(super) query: Box<Query>,
    pub(super) streamed: Box<Query>,
    pub(super) lookups: Vec<Lookup>,
    pub(super) files: Vec<Arc<StaticFile>>,
    pub(super) source: Source,
    /// The sources of windows it joins with windows, whose rows are kept while they are open; empty where it joins none.
    pub(super) sides: Vec<Side>,
    /// Columns of the answer that tell the time.
    pub(super) times: Vec<(Arc<str>, Time)>,
    /// The column of the stream's table that holds the date of the event time, when it is partitioned by it.
    pub(super) event_date: Option<Arc<str>>,
}

/// What both kinds of standing query answer of themselves, from their definition and their output.
macro_rules! of_definition {
    ($query:ty) => {
        impl $query {
            /// The materialized view's name, which is its table's.
            pub fn name(&self) -> &std::sync::Arc<str> {
                &self.definition.name
            }

            /// SHA-256 (hex) of the normalised plan: the same for texts that differ in comments and layout only.
            pub fn fingerprint(&self) -> &str {
                &self.definition.fingerprint
            }

            /// Whose rows the query folds.
            pub fn driver(&self) -> &$crate::sql::Driver {
                &self.definition.source.driver
            }

            /// The table the query fills.
            pub fn output(&self) -> &$crate::contract::TableContract {
                &self.output.contract
            }

            /// What of the lake its rows are joined with.
            pub fn lookups(&self) -> &[$crate::sql::Lookup] {
                &self.definition.lookups
            }

            /// Whether its rows are joined with anything, static files included.
            pub fn is_joined(&self) -> bool {
                !self.definition.lookups.is_empty() || !self.definition.files.is_empty()
            }

            /// The column of its table that is the start of a window: of a query without one, of the window of the view
            /// that its row came from.
            pub fn start_column(&self) -> Option<&std::sync::Arc<str>> {
                self.definition.start_column()
            }

            /// The query as a batch statement; with a range, only what lies wholly inside it: windows, or, of a query
            /// without one, the times its rows tell.
            ///
            /// # Errors
            /// None that planning the query would not have met.
            pub fn batch_select(
                &self,
                range: Option<$crate::sql::TimeRange>,
            ) -> $crate::Result<$crate::sql::BatchStatement> {
                self.definition.batch_select(range)
            }

            /// Rows of the batch statement as rows of the query's table.
            ///
            /// # Errors
            /// A value that does not fit the output table's types.
            pub fn as_output(
                &self,
                answer: &arrow::record_batch::RecordBatch,
            ) -> $crate::Result<arrow::record_batch::RecordBatch> {
                self.output.cast(answer)
            }
        }
    };
}
pub(super) use of_definition;

/// Which pairs of a row and a window it falls into are looked at; by default all.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pairs {
    /// Conditions in SQL over columns of the stream's table, `window_start` and `window_end`.
    pub(crate) conditions: Vec<String>,
    /// Columns of the stream's table, as registered, that are asked for besides those of its contract.
    pub(crate) columns: Vec<&'static str>,
}

impl Definition {
    /// Whether it joins windows with windows.
    pub(super) fn is_buffered(&self) -> bool {
        !self.sides.is_empty()
    }

    /// Whose rows it folds, each once; the first is that of the relation that stands first.
    pub(super) fn drivers(&self) -> Vec<&Driver> {
        let mut drivers = vec![&self.source.driver];
        for side in &self.sides {
            if !drivers.contains(&&side.driver) {
                drivers.push(&side.driver);
            }
        }
        drivers
    }

    /// The column of the answer that is the start of a window: of a query without one, of the window its row came from.
    pub(super) fn start_column(&self) -> Option<&Arc<str>> {
        let is_start = |time: &Time| matches!(time, Time::WindowStart | Time::SessionStart);
        self.times.iter().find(|(_, time)| is_start(time)).map(|(name, _)| name)
    }

    /// The column of the answer that is the event time of the stream's row it came from.
    pub(super) fn event_column(&self) -> Option<&Arc<str>> {
        self.times.iter().find(|(_, time)| *time == Time::Event).map(|(name, _)| name)
    }

    /// The SELECT as written.
    pub(super) fn query(&self) -> &Query {
        &self.query
    }

    pub(super) fn batch_select(&self, range: Option<TimeRange>) -> Result<BatchStatement> {
        self.batch_select_where(range, &Pairs::default())
    }

    /// As [`Definition::batch_select`], over some pairs of rows and the windows they fall into.
    pub(super) fn batch_select_where(&self, range: Option<TimeRange>, pairs: &Pairs) -> Result<BatchStatement> {
        let query = self.select_over(&self.query, |view| &view.query, range, pairs);
        self.statement(query)
    }

    /// As [`Definition::batch_select_where`], over tables named as its lookups; see
    /// [`StandingQuery::select_over_lookups`](super::StandingQuery::select_over_lookups).
    pub(super) fn select_over_lookups(
        &self,
        range: Option<TimeRange>,
        pairs: &Pairs,
        by_versions: bool,
    ) -> Result<BatchStatement> {
        let mut query = self.select_over(&self.streamed, |view| &view.streamed, range, pairs);
        if by_versions {
            query = query.and_then(|mut query| by_version(&mut query, self.is_buffered()).map(|()| query));
        }
        self.statement(query)
    }

    fn statement(&self, query: Result<Box<Query>, Refusal>) -> Result<BatchStatement> {
        let statement = query
            .map_err(Refusals::from)
            .and_then(|query| BatchStatement::new(&self.text, self.at, select(query), Params::new()));
        statement.map(|statement| statement.with_files(&self.files)).map_err(|refused| refused.in_text(&self.text))
    }

    /// The query as others read it.
    pub(super) fn inlined(&self) -> Inlined {
        let (mut query, mut streamed) = (self.query.clone(), self.streamed.clone());
        inline(&mut query, &self.source.inlined, |view| &view.query, &[]);
        inline(&mut streamed, &self.source.inlined, |view| &view.streamed, &[]);
        // This plan needs some of their columns; the text names others, too.
        let lookups = self.lookups.iter().map(Lookup::whole).collect();
        Inlined { query, streamed, lookups, files: self.files.clone() }
    }

    /// The query with its source narrowed to `range` and to `pairs`, in words a scan can prune by.
    fn select_over(
        &self,
        query: &Query,
        text: fn(&Inlined) -> &Query,
        range: Option<TimeRange>,
        pairs: &Pairs,
    ) -> Result<Box<Query>, Refusal> {
        let mut conditions = Vec::new();
        if let (Some(range), Some(date)) = (range, &self.event_date) {
            let rows = match &self.source.shape {
                Shape::Windowed(call) => call.rows_of(range),
                Shape::Stateless { .. } => range,
            };
            conditions.extend(date_literal(rows.from).map(|from| format!("{date} >= {from}")));
            conditions.extend(date_literal(rows.to.saturating_sub(1)).map(|last| format!("{date} <= {last}")));
        }
        let mut query = Box::new(query.clone());
        match (&self.source.shape, range) {
            (Shape::Windowed(call), range) => {
                if let SetExpr::Select(select) = query.body.as_mut() {
                    let calls: Vec<&WindowCall> = self.sides.iter().map(|side| side.call.as_ref()).collect();
                    write_sides(select, &calls, range, &conditions, &pairs.conditions)?;
                }
                replace_source(&mut query, call.subquery(range, &conditions, &pairs.conditions)?);
            }
            (Shape::Stateless { .. }, None) => {}
            (Shape::Stateless { table, alias }, Some(range)) => {
                conditions.extend(range_conditions(&self.source.times, range));
                replace_source(&mut query, narrowed(table, alias.clone(), &conditions)?);
            }
        }
        inline(&mut query, &self.source.inlined, text, &pairs.columns);
        Ok(query)
    }

    /// The query as it is planned for the stream: lookups as leaves; over the slices that windows are made of, or, of
    /// joined windows, over the rows kept of them.
    pub(super) fn select_live(&self) -> Result<Box<Query>, Refusal> {
        let mut query = self.streamed.clone();
        if let Shape::Windowed(call) = &self.source.shape {
            let source = match self.is_buffered() {
                true => table_named(&rows_of(0), call.alias.clone(), self.at),
                false => call.slices()?,
            };
            replace_source(&mut query, source);
        }
        inline(&mut query, &self.source.inlined, |view| &view.streamed, &[]);
        Ok(query)
    }

    /// What each source of joined windows drives, put into windows; of hops and cumulating windows into slices.
    pub(super) fn select_windows(&self) -> Result<Vec<(Driver, Box<Query>)>, Refusal> {
        let windows = |side: &Side| {
            let rows = match side.call.spec.is_combined() {
                true => side.call.slices()?,
                false => side.call.subquery(None, &[], &[])?,
            };
            match rows {
                TableFactor::Derived { mut subquery, .. } => {
                    inline(&mut subquery, &self.source.inlined, |view| &view.streamed, &[]);
                    Ok((side.driver.clone(), subquery))
                }
                other => Err(Refusal::new(self.at, format!("`{other}` is no subquery"))),
            }
        };
        self.sides.iter().map(windows).collect()
    }

    /// The window call of a query over windows that are put together from slices.
    pub(super) fn combined(&self) -> Option<&WindowCall> {
        match &self.source.shape {
            Shape::Windowed(call) if call.spec.is_combined() => Some(call),
            Shape::Windowed(_) | Shape::Stateless { .. } => None,
        }
    }

    /// Registers lookups and static files, which are leaves of the stream's plan alike.
    pub(super) fn register_leaves(&self, context: &SessionContext) -> datafusion::error::Result<()> {
        let lookups = self.lookups.iter().map(|lookup| (&lookup.name, &lookup.schema));
        let files = self.files.iter().map(|file| (&file.name, &file.schema));
        let leaves: BTreeMap<_, _> = lookups.chain(files).collect();
        for (name, schema) in leaves {
            let table = FeedTable::lookup(Arc::clone(name), Arc::clone(schema));
            context.register_table(name.as_ref(), Arc::new(table))?;
        }
        Ok(())
    }

    /// Settles which columns of its lookups a plan needs, and joins it with the static files.
    pub(super) fn bind_files(
        &mut self,
        plan: Arc<dyn ExecutionPlan>,
    ) -> datafusion::error::Result<Arc<dyn ExecutionPlan>> {
        let plan = arrange(narrow(plan)?)?;
        let needed = needed(&plan)?;
        self.lookups.retain(|lookup| needed.contains_key(&lookup.name));
        for lookup in &mut self.lookups {
            if let Some(schema) = needed.get(&lookup.name) {
                lookup.schema = Arc::clone(schema);
            }
        }
        let mut rows = LookupRows::new();
        for file in &self.files {
            let Some(schema) = needed.get(&file.name) else { continue };
            rows.insert(Arc::clone(&file.name), narrowed_rows(&file.rows, schema)?);
        }
        if needed.is_empty() { Ok(plan) } else { bind(&plan, &rows) }
    }

    /// As [`Definition::bind_files`], for joined windows: rows may meet lookups when they are put into windows (those of
    /// views that are read through their text), and when windows close. Their columns stay: two plans may read one lookup.
    pub(super) fn bind_split(&mut self, mut split: Split) -> datafusion::error::Result<Split> {
        let files: LookupRows = self.files.iter().map(|file| (Arc::clone(&file.name), file.rows.clone())).collect();
        let mut met = BTreeSet::new();
        let sides = split.sides.iter_mut().map(|side| &mut side.plan);
        for plan in sides.chain([&mut split.partial]) {
            *plan = bind(&arrange(Arc::clone(plan))?, &files)?;
            met.extend(needed(plan)?.into_keys());
        }
        split.joins_rows = self.lookups.iter().any(|lookup| met.contains(&lookup.name));
        met.extend(needed(&split.finish)?.into_keys());
        split.finish = bind(&split.finish, &files)?;
        self.lookups.retain(|lookup| met.contains(&lookup.name));
        Ok(split)
    }
}

/// What puts a row's times into a range: its event time, or its whole window.
fn range_conditions(times: &[(Arc<str>, Time)], range: TimeRange) -> Vec<String> {
    let conditions = |(name, time): &(Arc<str>, Time)| {
        let [from, before] = time_conditions(name, range);
        match time {
            Time::Event => vec![from, before],
            // Implied by what is asked of the end, where that is told.
            Time::WindowStart | Time::SessionStart => vec![from, before],
            Time::WindowEnd => {
                time_conditions(name, TimeRange { to: range.to.saturating_add(1), ..range })[1..].to_vec()
            }
        }
    };
    times.iter().flat_map(conditions).collect()
}

/// The UTC date of a time; `None` for a year SQL cannot write, whose condition is then left out.
fn date_literal(micros: Micros) -> Option<String> {
    let date = chrono::DateTime::from_timestamp_micros(micros)?.date_naive();
    (1..=9999).contains(&date.year()).then(|| format!("CAST('{date}' AS DATE)"))
}
