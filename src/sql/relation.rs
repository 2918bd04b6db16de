//! The relation a standing query reads: the stream, a view, or windows over one of them.
//!
//! The one law: what drives a query is known before it is planned: whose rows it folds, which column is their time, and
//! which views are read through their text.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use datafusion::sql::sqlparser::ast::{
    Expr, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, ObjectName, Select, SelectItem, Spanned, TableAlias,
    TableFactor,
};
use datafusion::sql::sqlparser::tokenizer::Span;

use super::catalog::{Catalog, Driver, Inlined, Time, ViewDriver, ViewKind, ViewSource, single};
use super::file::normal;
use super::place::Refusal;
use super::static_file::FILE_PREFIX;
use super::windows::{WINDOW_END, WINDOW_START, WindowCall, check_keys, hidden_in, window_call};
use crate::contract::TableContract;

/// Where a standing query's rows come from.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub(super) shape: Shape,
    pub(super) driver: Driver,
    /// Columns of the relation that tell the time.
    pub(super) times: Vec<(Arc<str>, Time)>,
    /// The column its rows are ordered by in time: the windows' time, else the stream's event time if it is there.
    pub(super) time: Option<Arc<str>>,
    /// Views that are read through their text.
    pub(super) inlined: BTreeMap<Arc<str>, Inlined>,
}

/// One source of joined windows.
#[derive(Clone, Debug)]
pub(super) struct Side {
    pub(super) call: Box<WindowCall>,
    /// Whose rows it folds.
    pub(super) driver: Driver,
}

/// What stands in FROM.
#[derive(Clone, Debug)]
pub(super) enum Shape {
    Windowed(Box<WindowCall>),
    Stateless { table: ObjectName, alias: Option<TableAlias> },
}

/// A named relation, before it is known how it is read.
struct Relation<'a> {
    contract: &'a TableContract,
    times: Vec<(Arc<str>, Time)>,
    view: Option<&'a ViewSource>,
}

/// Finds the relation a SELECT reads.
pub(super) fn source(select: &Select, catalog: &Catalog) -> Result<Source, Refusal> {
    let (stream, event_time) = (&catalog.stream.name, &catalog.event_time);
    let Some(first) = select.from.first() else {
        let refusal = Refusal::new(select.select_token.0.span, "a standing query without FROM");
        return Err(refusal.help(format!("write `FROM {stream}`")));
    };
    if let Some(call) = window_call(&first.relation)? {
        return windows(call, catalog);
    }
    match &first.relation {
        TableFactor::Table { name, alias, args: None, version: None, sample: None, .. } => {
            let relation = relation(name, catalog)?;
            let time = relation.times.iter().find(|(_, time)| *time == Time::Event);
            Ok(Source {
                driver: relation.driver(None, name.span())?,
                time: time.map(|(name, _)| Arc::clone(name)),
                inlined: relation.inlined(),
                times: relation.times,
                shape: Shape::Stateless { table: name.clone(), alias: alias.clone() },
            })
        }
        TableFactor::Table { name, args: Some(_), .. } => {
            let help = format!("write `TUMBLE({stream}, {event_time}, INTERVAL '1 minute')`");
            Err(Refusal::new(name.span(), format!("no table function `{name}`")).help(help))
        }
        TableFactor::Derived { subquery, .. } => {
            let refusal = Refusal::new(subquery.span(), "a subquery is not supported yet in a standing query");
            Err(refusal
                .help(format!("write one SELECT directly over `{stream}` or `TUMBLE({stream}, …)`"))
                .help("or make the subquery a view of its own and read that"))
        }
        other => {
            let refusal = Refusal::new(other.span(), format!("`{other}` is not supported in a standing query"));
            Err(refusal.or_at(select.select_token.0.span).help(format!("read `{stream}`")))
        }
    }
}

/// What windows over a relation read.
pub(super) fn windows(mut call: WindowCall, catalog: &Catalog) -> Result<Source, Refusal> {
    let relation = relation(&call.table, catalog)?;
    call.hidden = hidden_in(&relation.contract.schema());
    check_keys(&call.keys, relation.contract)?;
    let time = check_time(&call.time, &relation)?;
    Ok(Source {
        driver: relation.driver(Some(&time), call.table.span())?,
        times: [(WINDOW_START, Time::WindowStart), (WINDOW_END, Time::WindowEnd)]
            .map(|(name, time)| (name.into(), time))
            .to_vec(),
        time: Some(time.0),
        inlined: relation.inlined(),
        shape: Shape::Windowed(Box::new(call)),
    })
}

/// The sources of joined windows: `first`, which learns what the others read through their text, and those of `calls`
/// behind the first of them. Empty where there are no calls.
pub(super) fn sides(first: &mut Source, calls: Vec<WindowCall>, catalog: &Catalog) -> Result<Vec<Side>, Refusal> {
    let mut sides: Vec<Side> = Vec::with_capacity(calls.len());
    for call in calls {
        let at = call.table.span();
        let source = if sides.is_empty() { first.clone() } else { windows(call, catalog)? };
        let (Shape::Windowed(call), driver) = (source.shape, source.driver) else { continue };
        if matches!(driver, Driver::Stream) != matches!(first.driver, Driver::Stream) {
            let refusal = Refusal::new(at, "windows over the stream close before those over what a view has closed");
            let help = "let a view over the same windows group the stream's rows first, and join the two views";
            return Err(refusal.help(help));
        }
        first.inlined.extend(source.inlined);
        sides.push(Side { call, driver });
    }
    Ok(sides)
}

/// The columns of a view's answer that tell the time, given those of what it reads.
/// Columns of `lookups` never do.
pub(super) fn times_of(
    select: &Select,
    times: &[(Arc<str>, Time)],
    lookups: &BTreeSet<String>,
) -> Vec<(Arc<str>, Time)> {
    let mut told = Vec::new();
    for item in &select.projection {
        let (source, name) = match item {
            SelectItem::UnnamedExpr(expr) => (column_besides(expr, lookups), column(expr)),
            SelectItem::ExprWithAlias { expr, alias } => (column_besides(expr, lookups), Some(alias)),
            SelectItem::Wildcard(_) => {
                told.extend(times.iter().cloned());
                continue;
            }
            _ => (None, None),
        };
        let (Some(source), Some(name)) = (source, name) else { continue };
        let source = normal(source);
        told.extend(times.iter().filter(|(known, _)| **known == *source).map(|(_, time)| (normal(name).into(), *time)));
    }
    told
}

/// The columns of an answer over joined windows that are a bound of whichever sides have a row: `coalesce` of theirs.
pub(super) fn coalesced_times(select: &Select, times: &[(Arc<str>, Time)]) -> Vec<(Arc<str>, Time)> {
    let bound = |expr: &Expr| {
        let Expr::Function(call) = expr else { return None };
        let FunctionArguments::List(list) = &call.args else { return None };
        let columns = list.args.iter().map(|argument| match argument {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => column(expr).map(normal),
            _ => None,
        });
        let columns = columns.collect::<Option<BTreeSet<String>>>()?;
        let is_coalesce = call.name.to_string().eq_ignore_ascii_case("coalesce");
        if is_coalesce && columns.len() == 1 { columns.into_iter().next() } else { None }
    };
    let mut told = Vec::new();
    for item in &select.projection {
        if let SelectItem::ExprWithAlias { expr, alias } = item
            && let Some(bound) = bound(expr)
        {
            let known = times.iter().filter(|(known, _)| **known == *bound);
            told.extend(known.map(|(_, time)| (normal(alias).into(), *time)));
        }
    }
    told
}

/// The column an expression is, when it is nothing more.
fn column(expr: &Expr) -> Option<&Ident> {
    match expr {
        Expr::Identifier(name) => Some(name),
        Expr::CompoundIdentifier(parts) => parts.last(),
        Expr::Nested(inner) => column(inner),
        _ => None,
    }
}

/// The column an expression is, unless it is a lookup's.
fn column_besides<'a>(expr: &'a Expr, lookups: &BTreeSet<String>) -> Option<&'a Ident> {
    match expr {
        Expr::CompoundIdentifier(parts) if parts.first().is_some_and(|part| lookups.contains(&normal(part))) => None,
        Expr::Nested(inner) => column_besides(inner, lookups),
        other => column(other),
    }
}

fn relation<'a>(name: &ObjectName, catalog: &'a Catalog) -> Result<Relation<'a>, Refusal> {
    let known = single(name).map(normal);
    match known.as_deref() {
        Some(known) if *known == *catalog.stream.name => Ok(Relation {
            contract: &catalog.stream,
            times: vec![(Arc::clone(&catalog.event_time), Time::Event)],
            view: None,
        }),
        Some(known) => match catalog.view(known) {
            Some(view) => Ok(Relation { contract: &view.contract, times: view.times.clone(), view: Some(view) }),
            None => Err(unknown(name, known, catalog)),
        },
        None => Err(unknown(name, &name.to_string(), catalog)),
    }
}

fn unknown(name: &ObjectName, known: &str, catalog: &Catalog) -> Refusal {
    if known.starts_with(FILE_PREFIX) {
        let message = format!(
            "a file does not flow, so it cannot drive the query: write `FROM {} JOIN 'file' f ON …`",
            catalog.stream.name
        );
        return Refusal::new(name.span(), message);
    }
    if catalog.contract(known).is_some() {
        let message = format!("`{name}` is a table of the lake that no view fills, so it does not flow");
        let help = format!("read `{}`, or write a batch query", catalog.stream.name);
        return Refusal::new(name.span(), message).help(help);
    }
    Refusal::new(name.span(), format!("no stream or view `{name}`")).near(known, catalog.names())
}

impl Relation<'_> {
    /// Whose rows whoever reads this, where it stands `at`, folds; `time` is the column its windows go by.
    fn driver(&self, time: Option<&(Arc<str>, Time)>, at: Span) -> Result<Driver, Refusal> {
        match self.view.map(|view| &view.kind) {
            None => Ok(Driver::Stream),
            Some(ViewKind::Windowed(window)) => {
                let name = &self.contract.name;
                let driver = ViewDriver::new(Arc::clone(name), *window, time.cloned(), self.times.clone());
                driver.map(Driver::View).ok_or_else(|| {
                    let refusal = Refusal::new(at, format!("rows of `{name}` do not tell their window"));
                    refusal.help(format!("let `{name}` select `{WINDOW_START}` and `{WINDOW_END}`"))
                })
            }
            Some(ViewKind::Stateless { driver, .. }) => match driver {
                Driver::Stream => Ok(Driver::Stream),
                Driver::View(parent) => Ok(Driver::View(parent.timed(time.cloned()))),
            },
        }
    }

    fn inlined(&self) -> BTreeMap<Arc<str>, Inlined> {
        match self.view.map(|view| &view.kind) {
            Some(ViewKind::Stateless { text, .. }) => BTreeMap::from([(Arc::clone(&self.contract.name), text.clone())]),
            _ => BTreeMap::new(),
        }
    }
}

/// The column the windows go by, which must be one that tells the time.
fn check_time(time: &Expr, relation: &Relation<'_>) -> Result<(Arc<str>, Time), Refusal> {
    let times: Vec<_> = relation.times.iter().filter(|(_, time)| *time != Time::SessionStart).collect();
    let choice = || times.iter().map(|(name, _)| format!("`{name}`")).collect::<Vec<_>>().join(" or ");
    let Some(name) = column(time) else {
        let refusal =
            Refusal::new(time.span(), format!("a window's time is a column that tells the time, not `{time}`"));
        return Err(refusal.help(format!("write {}", choice())));
    };
    let wanted = normal(name);
    if let Some(found) = times.iter().find(|(known, _)| **known == *wanted) {
        return Ok((*found).clone());
    }
    if relation.contract.column(&wanted).is_some() {
        let table = &relation.contract.name;
        let refusal = match times.as_slice() {
            [] => Refusal::new(name.span, format!("`{table}` has no column that tells the time"))
                .help(format!("let its SELECT keep the event time, or `{WINDOW_START}` and `{WINDOW_END}`")),
            _ => Refusal::new(name.span, format!("a window's time over `{table}` is not `{name}`"))
                .help(format!("write {}", choice())),
        };
        return Err(refusal);
    }
    let known = relation.contract.columns.iter().map(|column| column.name.as_ref());
    Err(Refusal::new(name.span, format!("no column `{name}`")).near(&wanted, known))
}
