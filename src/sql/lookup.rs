//! Lookups: what a standing query's rows are joined with.
//!
//! The one law: the query has one driver; everything joined to it is a bounded set of rows of which each epoch sees one
//! version. A lookup is a table of the lake, a subquery over such tables, or a static file; in the plan of the stream it
//! is a leaf, so a subquery is computed once a version and not once a tick.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::datasource::empty::EmptyTable;
use datafusion::sql::sqlparser::ast::{Expr, Query, Value, ValueWithSpan};
use datafusion::sql::sqlparser::tokenizer::Span;

use super::batch::{BatchStatement, hidden, select};
use super::catalog::Catalog;
use super::functions::Functions;
use super::joins::Written;
use super::params::Params;
use super::place::{Refusal, Words};
use super::session::session;
use super::windows::rewrite;
use crate::error::{Result, SourceText};
use crate::syntax::{Look, look};

/// In an audit's statements: which version of its lookups a row saw, and of which version a lookup's row is.
pub const JOINED_AT: &str = "__joined_at";
/// See [`JOINED_AT`].
pub const LOOKED_UP_AT: &str = "__looked_up_at";

/// In an audit's statements a function of the end of a joined window (microseconds, BIGINT): which version of its lookups
/// the window met when it closed.
pub const JOINED_BY_END: &str = "__joined_by_end";

/// Something of the lake that a standing query is joined with.
#[derive(Clone, Debug)]
pub struct Lookup {
    /// What its rows are bound by.
    pub name: Arc<str>,
    /// The tables of the lake it reads.
    pub tables: BTreeSet<Arc<str>>,
    /// Of the rows to bind: the columns the plan needs, in its order.
    pub schema: SchemaRef,
    /// All columns of its answer.
    columns: SchemaRef,
    text: SourceText,
    at: Span,
    query: Box<Query>,
}

impl Lookup {
    /// The same lookup with every column of its answer: what another plan of the text that names it may need.
    pub fn whole(&self) -> Self {
        Self { schema: Arc::clone(&self.columns), ..self.clone() }
    }

    /// Takes in the columns that another plan needs of the same lookup.
    pub fn widen(&mut self, other: &Self) {
        let fields = self.schema.fields();
        let more = other.schema.fields().iter().filter(|field| fields.find(field.name()).is_none());
        self.schema = Arc::new(Schema::new(fields.iter().chain(more).cloned().collect::<Vec<_>>()));
    }

    /// The statement whose answer, over the tables of the lake, is the lookup's rows. It may give more columns than
    /// [`Lookup::schema`] has.
    ///
    /// # Errors
    /// None that planning the query would not have met.
    pub fn statement(&self) -> Result<BatchStatement> {
        BatchStatement::new(&self.text, self.at, select(self.query.clone()), Params::new())
            .map_err(|refused| refused.in_text(&self.text))
    }
}

/// Plans a lookup over the tables' contracts. Every column may be NULL: a LEFT JOIN makes it so.
pub(super) async fn plan_lookup(
    written: Written,
    text: &SourceText,
    catalog: &Catalog,
) -> Result<(Lookup, String), Refusal> {
    let Written { name, query, tables, at } = written;
    let context = session();
    check_subquery(&query, &Functions::of(&context.state()), &catalog.event_time)?;
    let mut known = BTreeSet::new();
    for (table, at) in &tables {
        let Some(contract) = catalog.table(table) else { continue };
        if known.insert(Arc::clone(&contract.name)) {
            let empty = Arc::new(EmptyTable::new(contract.schema()));
            let registered = context.register_table(table.as_str(), empty);
            registered.map_err(|error| Refusal::planner(&error, &[], &Words::default()).or_at(*at))?;
        }
    }
    let names: Vec<String> = known.iter().map(ToString::to_string).collect();
    let words = Words::of(query.as_ref());
    let refuse = |error| Refusal::planner(&error, &names, &words).or_at(at);
    let mut statement = select(query.clone());
    rewrite(&mut statement, &hidden(&context, &names).await)?;
    let plan = context.state().statement_to_plan(statement).await.map_err(refuse)?;
    let optimized = context.state().optimize(&plan).map_err(refuse)?;
    let fields = optimized.schema().fields().iter().map(|field| field.as_ref().clone().with_nullable(true));
    let schema = Arc::new(Schema::new(fields.collect::<Vec<Field>>()));
    let columns = Arc::clone(&schema);
    let lookup = Lookup { name, tables: known, schema, columns, text: text.clone(), at, query };
    Ok((lookup, plan.display_indent().to_string()))
}

/// A version of its tables must give one answer, whenever it is computed.
fn check_subquery(query: &Query, functions: &Functions, event_time: &str) -> Result<(), Refusal> {
    match look(query, &mut Calls { functions, event_time }) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(refusal) => Err(refusal),
    }
}

struct Calls<'a> {
    functions: &'a Functions,
    event_time: &'a str,
}

impl Look for Calls<'_> {
    type Break = Refusal;

    fn expr(&mut self, expr: &Expr) -> ControlFlow<Refusal> {
        let Expr::Function(call) = expr else { return ControlFlow::Continue(()) };
        // Over a table as it stands there are window functions, too.
        match call.over.is_some() {
            true => ControlFlow::Continue(()),
            false => match self.functions.check(call, self.event_time) {
                Ok(_) => ControlFlow::Continue(()),
                Err(refusal) => ControlFlow::Break(refusal),
            },
        }
    }

    fn value(&mut self, value: &ValueWithSpan) -> ControlFlow<Refusal> {
        match &value.value {
            Value::Placeholder(name) => {
                let message = format!("`{name}`: a standing query has no parameters; write the value");
                ControlFlow::Break(Refusal::new(value.span, message))
            }
            _ => ControlFlow::Continue(()),
        }
    }
}
