//! The relation a standing query reads: the stream, a view, or windows over one of them.
//!
//! The one law: what drives a query is known before it is planned: whose rows it folds, which column is their time, and
//! which views are read through their text.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::sql::sqlparser::ast::{
    Expr, Ident, ObjectName, Query, Select, SelectItem, Spanned, TableAlias, TableFactor,
};

use super::catalog::{Catalog, Driver, Time, ViewDriver, ViewKind, ViewSource, single};
use super::file::normal;
use super::place::{Refusal, did_you_mean};
use super::windows::{WINDOW_END, WINDOW_START, WindowCall, hidden_in, window_call};
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
    pub(super) inlined: BTreeMap<Arc<str>, Box<Query>>,
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
        return Err(Refusal::new(select.select_token.0.span, format!("no FROM; write `FROM {stream}`")));
    };
    let second = select.from.get(1).map(|more| more.relation.span());
    if let Some(at) = first.joins.first().map(|join| join.relation.span()).or(second) {
        let message = "more than one source: joins are not supported yet; write a batch query over the lake's tables";
        return Err(Refusal::new(at, message));
    }
    if let Some(mut call) = window_call(&first.relation)? {
        let relation = relation(&call.table, catalog)?;
        call.hidden = hidden_in(&relation.contract.schema());
        let time = check_time(&call.time, &relation)?;
        let driver = relation.driver(Some(&time));
        let inlined = relation.inlined();
        let source = Source {
            driver,
            times: [(WINDOW_START, Time::WindowStart), (WINDOW_END, Time::WindowEnd)]
                .map(|(name, time)| (name.into(), time))
                .to_vec(),
            time: Some(time.0),
            inlined,
            shape: Shape::Windowed(Box::new(call)),
        };
        return Ok(source);
    }
    match &first.relation {
        TableFactor::Table { name, alias, args: None, version: None, sample: None, .. } => {
            let relation = relation(name, catalog)?;
            let time = relation.times.iter().find(|(_, time)| *time == Time::Event);
            Ok(Source {
                driver: relation.driver(None),
                time: time.map(|(name, _)| Arc::clone(name)),
                inlined: relation.inlined(),
                times: relation.times,
                shape: Shape::Stateless { table: name.clone(), alias: alias.clone() },
            })
        }
        TableFactor::Table { name, args: Some(_), .. } => {
            let message =
                format!("no table function `{name}`; write `TUMBLE({stream}, {event_time}, INTERVAL '1 minute')`");
            Err(Refusal::new(name.span(), message))
        }
        TableFactor::Derived { subquery, .. } => {
            let message = format!(
                "a subquery is not supported yet in a standing query; write one SELECT directly over `{stream}` or \
                 `TUMBLE({stream}, …)`, or make the subquery a view of its own and read that"
            );
            Err(Refusal::new(subquery.span(), message))
        }
        other => {
            let message = format!("`{other}` is not supported in a standing query; read `{stream}`");
            Err(Refusal::new(other.span(), message).or_at(select.select_token.0.span))
        }
    }
}

/// The columns of a view's answer that tell the time, given those of what it reads.
pub(super) fn times_of(select: &Select, times: &[(Arc<str>, Time)]) -> Vec<(Arc<str>, Time)> {
    let mut told = Vec::new();
    for item in &select.projection {
        let (source, name) = match item {
            SelectItem::UnnamedExpr(expr) => (column(expr), column(expr)),
            SelectItem::ExprWithAlias { expr, alias } => (column(expr), Some(alias)),
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

/// The column an expression is, when it is nothing more.
fn column(expr: &Expr) -> Option<&Ident> {
    match expr {
        Expr::Identifier(name) => Some(name),
        Expr::CompoundIdentifier(parts) => parts.last(),
        Expr::Nested(inner) => column(inner),
        _ => None,
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
    if catalog.contract(known).is_some() {
        let message = format!(
            "`{name}` is a table of the lake that no view fills, so it does not flow; read `{}`, or write a batch query",
            catalog.stream.name
        );
        return Refusal::new(name.span(), message);
    }
    let hint = did_you_mean(known, catalog.names());
    Refusal::new(name.span(), format!("no stream or view `{name}`{hint}"))
}

impl Relation<'_> {
    /// Whose rows whoever reads this folds; `time` is the column its windows go by.
    fn driver(&self, time: Option<&(Arc<str>, Time)>) -> Driver {
        match self.view.map(|view| &view.kind) {
            None => Driver::Stream,
            Some(ViewKind::Windowed(window)) => {
                Driver::View(ViewDriver::new(Arc::clone(&self.contract.name), window.clone(), time.cloned()))
            }
            Some(ViewKind::Stateless { driver, .. }) => match driver {
                Driver::Stream => Driver::Stream,
                Driver::View(parent) => Driver::View(parent.timed(time.cloned())),
            },
        }
    }

    fn inlined(&self) -> BTreeMap<Arc<str>, Box<Query>> {
        match self.view.map(|view| &view.kind) {
            Some(ViewKind::Stateless { query, .. }) => {
                BTreeMap::from([(Arc::clone(&self.contract.name), query.clone())])
            }
            _ => BTreeMap::new(),
        }
    }
}

/// The column the windows go by, which must be one that tells the time.
fn check_time(time: &Expr, relation: &Relation<'_>) -> Result<(Arc<str>, Time), Refusal> {
    let choice = || relation.times.iter().map(|(name, _)| format!("`{name}`")).collect::<Vec<_>>().join(" or ");
    let Some(name) = column(time) else {
        return Err(Refusal::new(time.span(), format!("a window's time is the column {}, not `{time}`", choice())));
    };
    let wanted = normal(name);
    if let Some(found) = relation.times.iter().find(|(known, _)| **known == *wanted) {
        return Ok(found.clone());
    }
    if relation.contract.column(&wanted).is_some() {
        let table = &relation.contract.name;
        let message = match relation.times.as_slice() {
            [] => format!(
                "`{table}` has no column that tells the time: let its SELECT keep the event time, or `{WINDOW_START}` and `{WINDOW_END}`"
            ),
            _ if relation.view.is_none() => {
                format!("a window's time is the stream's event time {}, not `{name}`", choice())
            }
            _ => format!("a window's time over `{table}` is {}, not `{name}`", choice()),
        };
        return Err(Refusal::new(name.span, message));
    }
    let hint = did_you_mean(&wanted, relation.contract.columns.iter().map(|column| column.name.as_ref()));
    Err(Refusal::new(name.span, format!("no column `{name}`{hint}")))
}
