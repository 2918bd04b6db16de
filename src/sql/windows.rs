//! `TUMBLE(table, time, size[, offset])`: the statement is rewritten before it is planned.
//!
//! The one law: the call becomes a plain subquery that adds `window_start` and `window_end` to every row, so the same file
//! runs live, as a backfill and as batch. What the user wrote keeps its positions; what is added has none to report.
//! Tables named inside a function's arguments are not resolved by DataFusion's planner, hence the rewrite.
//! The other windows of the language (HOP, CUMULATE, SESSION) will be further arms of [`window_call`].

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use arrow::datatypes::Schema;
use datafusion::sql::parser::{CopyToSource, DFParserBuilder, Statement};
use datafusion::sql::sqlparser::ast::{
    Expr, FunctionArg, FunctionArgExpr, ObjectName, Query, SetExpr, Spanned, Statement as SqlStatement, TableAlias,
    TableFactor, VisitMut, VisitorMut,
};
use datafusion::sql::sqlparser::tokenizer::Span;

use super::interval::interval_literal;
use super::place::{Refusal, nearest};
use super::spec::WindowSpec;
use super::tumble::TUMBLE_START;
use crate::clock::Micros;
use crate::error::Result;

/// Columns a window adds.
pub(super) const WINDOW_START: &str = "window_start";
pub(super) const WINDOW_END: &str = "window_end";

/// The windows SQL knows and this engine does not compute yet.
const NOT_YET: [&str; 3] = ["hop", "cumulate", "session"];
const TUMBLE: &str = "tumble";

/// Names in the template that stand for what the user wrote.
const TABLE_SLOT: &str = "__table";
const TIME_SLOT: &str = "__time";

/// Event times in `[from, to)`, microseconds UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeRange {
    pub from: Micros,
    pub to: Micros,
}

/// A `TUMBLE(…)` as written.
#[derive(Clone, Debug)]
pub(super) struct WindowCall {
    pub(super) spec: WindowSpec,
    pub(super) table: ObjectName,
    pub(super) time: Expr,
    pub(super) alias: Option<TableAlias>,
    /// Columns of the table that the window's own take the place of: a view over windows has some of that name.
    pub(super) hidden: Vec<&'static str>,
}

/// The window call a table expression is; `None` when it is no window function.
pub(super) fn window_call(factor: &TableFactor) -> Result<Option<WindowCall>, Refusal> {
    let TableFactor::Table { name, alias, args: Some(args), sample, version, .. } = factor else { return Ok(None) };
    let function = name.to_string().to_lowercase();
    if NOT_YET.contains(&function.as_str()) {
        let message = format!("`{name}` is not supported yet; write `TUMBLE(table, time, INTERVAL '1 minute')`");
        return Err(Refusal::new(name.span(), message));
    }
    if function != TUMBLE {
        return match nearest(&function, [TUMBLE]) {
            Some(_) => Err(Refusal::new(name.span(), format!("no table function `{name}`; did you mean `TUMBLE`?"))),
            None => Ok(None),
        };
    }
    if sample.is_some() || version.is_some() {
        return Err(Refusal::new(name.span(), format!("`{name}` takes neither TABLESAMPLE nor a version")));
    }
    let mut arguments = Vec::with_capacity(args.args.len());
    for arg in &args.args {
        match arg {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => arguments.push(expr),
            other => return Err(Refusal::new(name.span(), format!("`TUMBLE` takes no argument like `{other}`"))),
        }
    }
    let ([table, time, size] | [table, time, size, _]) = arguments.as_slice() else {
        let message = "write `TUMBLE(table, time, INTERVAL '1 minute')`; a fourth argument shifts the windows";
        return Err(Refusal::new(name.span(), message));
    };
    let offset = match arguments.get(3) {
        Some(offset) => interval_literal(offset, "the windows' offset")?,
        None => 0,
    };
    let spec = WindowSpec::tumble(interval_literal(size, "the window's size")?, offset)
        .ok_or_else(|| Refusal::new(size.span(), "the window's size must be positive"))?;
    let (table, time, alias) = (table_name(table)?, (*time).clone(), alias.clone());
    Ok(Some(WindowCall { spec, table, time, alias, hidden: Vec::new() }))
}

fn table_name(argument: &Expr) -> Result<ObjectName, Refusal> {
    match argument {
        Expr::Identifier(name) => Ok(ObjectName::from(vec![name.clone()])),
        Expr::CompoundIdentifier(parts) => Ok(ObjectName::from(parts.clone())),
        other => Err(Refusal::new(other.span(), format!("the first argument of `TUMBLE` is a table, not `{other}`"))),
    }
}

/// Columns of a table that a window's own take the place of.
pub(super) fn hidden_in(schema: &Schema) -> Vec<&'static str> {
    [WINDOW_START, WINDOW_END].into_iter().filter(|name| schema.index_of(name).is_ok()).collect()
}

impl WindowCall {
    /// The subquery this call stands for, over rows of whole windows inside `range` when one is given.
    ///
    /// `conditions` are further conditions on the rows (a partition column's range), so that a scan can prune.
    pub(super) fn subquery(&self, range: Option<TimeRange>, conditions: &[String]) -> Result<TableFactor, Refusal> {
        let (size, offset) = (self.spec.size(), self.spec.offset());
        let start = format!("{TUMBLE_START}({TIME_SLOT}, {size}, {offset})");
        let end = format!("{start} + arrow_cast({size}, 'Duration(Microsecond)')");
        let mut conditions = conditions.to_vec();
        if let Some(TimeRange { from, to }) = range {
            conditions.extend(time_conditions(TIME_SLOT, TimeRange { from, to }));
            conditions.push(format!("{start} >= {}", timestamp(from)));
            conditions.push(format!("{end} <= {}", timestamp(to)));
        }
        let all = match self.hidden.as_slice() {
            [] => "*".to_owned(),
            hidden => format!("* EXCEPT ({})", hidden.join(", ")),
        };
        let select = format!("SELECT {all}, {start} AS {WINDOW_START}, {end} AS {WINDOW_END} FROM {TABLE_SLOT}");
        fill(&select, &conditions, &self.table, Some(&self.time), self.alias.clone())
    }
}

/// `table`, narrowed to rows that satisfy all `conditions`.
pub(super) fn narrowed(
    table: &ObjectName,
    alias: Option<TableAlias>,
    conditions: &[String],
) -> Result<TableFactor, Refusal> {
    fill(&format!("SELECT * FROM {TABLE_SLOT}"), conditions, table, None, alias)
}

/// Conditions that put the time `column` into `range`.
pub(super) fn time_conditions(column: &str, range: TimeRange) -> [String; 2] {
    [format!("{column} >= {}", timestamp(range.from)), format!("{column} < {}", timestamp(range.to))]
}

fn timestamp(micros: Micros) -> String {
    format!("arrow_cast({micros}, 'Timestamp(Microsecond, Some(\"UTC\"))')")
}

fn fill(
    select: &str,
    conditions: &[String],
    table: &ObjectName,
    time: Option<&Expr>,
    alias: Option<TableAlias>,
) -> Result<TableFactor, Refusal> {
    let text = match conditions {
        [] => select.to_owned(),
        some => format!("{select} WHERE {}", some.join(" AND ")),
    };
    let mut query = parse_query(&text)?;
    let _: ControlFlow<()> = query.visit(&mut Slots { table, time });
    Ok(TableFactor::Derived { lateral: false, subquery: query, alias, sample: None })
}

fn parse_query(text: &str) -> Result<Box<Query>, Refusal> {
    let internal = |message: String| Refusal::new(Span::empty(), format!("rewriting a window: {message}"));
    let mut statements = DFParserBuilder::new(text)
        .build()
        .and_then(|mut parser| parser.parse_statements())
        .map_err(|error| internal(error.to_string()))?;
    match statements.pop_front() {
        Some(Statement::Statement(statement)) => match *statement {
            SqlStatement::Query(query) => Ok(query),
            other => Err(internal(other.to_string())),
        },
        _ => Err(internal(text.to_owned())),
    }
}

/// Puts what the user wrote, with its positions, into the template.
struct Slots<'a> {
    table: &'a ObjectName,
    time: Option<&'a Expr>,
}

impl VisitorMut for Slots<'_> {
    type Break = ();

    fn pre_visit_relation(&mut self, relation: &mut ObjectName) -> ControlFlow<()> {
        if relation.to_string() == TABLE_SLOT {
            *relation = self.table.clone();
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let (Expr::Identifier(name), Some(time)) = (&*expr, self.time)
            && name.value == TIME_SLOT
        {
            *expr = time.clone();
        }
        ControlFlow::Continue(())
    }
}

/// Puts a subquery in the place of every window call; `hidden` tells [`WindowCall::hidden`] of the tables by name.
pub(super) fn rewrite(
    statement: &mut Statement,
    hidden: &BTreeMap<String, Vec<&'static str>>,
) -> Result<(), Refusal> {
    let mut walk = Rewrite(hidden);
    let flow = match statement {
        Statement::Statement(statement) => statement.visit(&mut walk),
        Statement::CopyTo(copy) => match &mut copy.source {
            CopyToSource::Query(query) => query.visit(&mut walk),
            CopyToSource::Relation(_) => ControlFlow::Continue(()),
        },
        Statement::Explain(explain) => return rewrite(&mut explain.statement, hidden),
        Statement::CreateExternalTable(_) | Statement::Reset(_) => ControlFlow::Continue(()),
    };
    match flow {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(refusal) => Err(refusal),
    }
}

struct Rewrite<'a>(&'a BTreeMap<String, Vec<&'static str>>);

impl VisitorMut for Rewrite<'_> {
    type Break = Refusal;

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<Refusal> {
        let subquery = |mut call: WindowCall| {
            call.hidden = self.0.get(&call.table.to_string().to_lowercase()).cloned().unwrap_or_default();
            call.subquery(None, &[])
        };
        match window_call(factor).and_then(|call| call.map(subquery).transpose()) {
            Ok(Some(subquery)) => *factor = subquery,
            Ok(None) => {}
            Err(refusal) => return ControlFlow::Break(refusal),
        }
        ControlFlow::Continue(())
    }
}

/// Puts `factor` in the place of the one table expression of a standing query's SELECT.
pub(super) fn replace_source(query: &mut Query, factor: TableFactor) {
    if let SetExpr::Select(select) = query.body.as_mut()
        && let Some(source) = select.from.first_mut()
    {
        source.relation = factor;
    }
}
