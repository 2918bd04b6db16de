//! What standing queries may read: the stream, and each other.
//!
//! The one law: a view stands behind the views it reads. A view without a window is read through its text, as if it were
//! written there; one over windows is read through the rows it closes, which are those of its table.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use datafusion::sql::sqlparser::ast::{Expr, Ident, ObjectName, Query, SelectItem, SetExpr, TableAlias, TableFactor};
use datafusion::sql::sqlparser::tokenizer::Span;

use super::file::{Job, QueryFile, normal, tables_read};
use super::lookup::Lookup;
use super::place::{Refusal, Refusals};
use super::spec::{WindowShape, WindowSpec};
use super::standing::StandingQuery;
use super::static_file::StaticFile;
use super::windows::TimeRange;
use crate::clock::Micros;
use crate::contract::TableContract;
use crate::error::{Error, Result};
use crate::syntax::{Change, change};

/// What a standing query may read.
#[derive(Clone, Debug)]
pub struct Catalog {
    pub(super) stream: Arc<TableContract>,
    pub(super) event_time: Arc<str>,
    contracts: BTreeMap<Arc<str>, TableContract>,
    views: BTreeMap<Arc<str>, ViewSource>,
}

/// Whose rows a standing query folds.
#[derive(Clone, Debug, PartialEq)]
pub enum Driver {
    /// The stream's.
    Stream,
    /// Those another view closes.
    View(ViewDriver),
}

/// A view over windows as the source of another.
#[derive(Clone, Debug, PartialEq)]
pub struct ViewDriver {
    /// The view's name, which is its table's.
    pub name: Arc<str>,
    window: WindowSpec,
    /// What the child's time says of the parent's windows; none where the child has no window.
    time: Option<(Arc<str>, Time)>,
    /// What of the parent's table tells its windows.
    told: Vec<(Arc<str>, Time)>,
    /// What of that tells when a row was closed: the end of its window, or else its start.
    closing: (Arc<str>, Time),
}

/// What a column says of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Time {
    /// The stream's event time.
    Event,
    WindowStart,
    WindowEnd,
    /// The start of a session: how early an open one has begun, nothing but its rows tells, so no window goes by it.
    SessionStart,
}

/// A view that is read through its text: as it is, and with its lookups as leaves for a plan of the stream.
#[derive(Clone, Debug)]
pub(super) struct Inlined {
    pub(super) query: Box<Query>,
    pub(super) streamed: Box<Query>,
    pub(super) lookups: Vec<Lookup>,
    pub(super) files: Vec<Arc<StaticFile>>,
}

/// A planned view, as others read it.
#[derive(Clone, Debug)]
pub(super) struct ViewSource {
    pub(super) contract: TableContract,
    /// Columns a child's windows may go by.
    pub(super) times: Vec<(Arc<str>, Time)>,
    pub(super) kind: ViewKind,
}

#[derive(Clone, Debug)]
pub(super) enum ViewKind {
    /// Read through its text; its rows come from here.
    Stateless { text: Inlined, driver: Driver },
    /// Read through its table.
    Windowed(WindowSpec),
}

impl Catalog {
    /// The stream alone. `contracts` are the tables the lake declares, by name.
    ///
    /// # Errors
    /// [`Error::Usage`] for a contract that declares no stream.
    pub fn new(stream: Arc<TableContract>, contracts: BTreeMap<Arc<str>, TableContract>) -> Result<Self> {
        let Some(declared) = &stream.stream else {
            return Err(Error::usage(format!("`{}` is no stream: its contract names no `format`", stream.name)));
        };
        let event_time = Arc::clone(&declared.event_time);
        Ok(Self { stream, event_time, contracts, views: BTreeMap::new() })
    }

    /// The contract of a table, if the lake declares it.
    pub(super) fn contract(&self, name: &str) -> Option<&TableContract> {
        self.contracts.get(name)
    }

    /// A table of the lake: declared, or filled by a view.
    pub(super) fn table(&self, name: &str) -> Option<&TableContract> {
        self.contracts.get(name).or_else(|| self.views.get(name).map(|view| &view.contract))
    }

    /// The names of all tables but the stream's.
    pub(super) fn tables(&self) -> impl Iterator<Item = &str> {
        let names: BTreeSet<&str> = self.contracts.keys().chain(self.views.keys()).map(AsRef::as_ref).collect();
        names.into_iter().filter(|name| **name != *self.stream.name)
    }

    pub(super) fn view(&self, name: &str) -> Option<&ViewSource> {
        self.views.get(name)
    }

    /// The stream and every view, for whoever mistyped one.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.stream.name.as_ref()).chain(self.views.keys().map(AsRef::as_ref))
    }

    /// Lets the views that follow read this one.
    pub(super) fn add(&mut self, query: &StandingQuery) {
        self.views.insert(Arc::clone(query.name()), query.as_source());
    }
}

impl ViewDriver {
    /// `None` for a view whose rows do not tell when they were closed. Where windows grow, several to a start, their start
    /// does not: it only is a time that windows of the child may go by.
    pub(super) fn new(
        name: Arc<str>,
        window: WindowSpec,
        time: Option<(Arc<str>, Time)>,
        told: Vec<(Arc<str>, Time)>,
    ) -> Option<Self> {
        let column = |wanted: Time| told.iter().find(|(_, time)| *time == wanted).cloned();
        let grows = matches!(window.shape(), WindowShape::Cumulate { .. });
        let start = || column(Time::WindowStart).filter(|_| !grows || time.is_some());
        let closing = column(Time::WindowEnd).or_else(start)?;
        Some(Self { name, window, time, told, closing })
    }

    /// The same parent, read by windows over another column: the parent's own, whatever a view between calls it.
    pub(super) fn timed(&self, time: Option<(Arc<str>, Time)>) -> Self {
        let own = |(name, time)| self.told.iter().find(|(_, told)| *told == time).cloned().unwrap_or((name, time));
        Self { time: time.map(own), ..self.clone() }
    }

    /// The parent's column that is the child's time; none where the child has no window.
    pub fn time(&self) -> Option<&Arc<str>> {
        self.time.as_ref().map(|(column, _)| column)
    }

    /// The parent's windows.
    pub fn window(&self) -> WindowSpec {
        self.window
    }

    /// The column of the parent's table by which its rows tell when they were closed: the end of their window, or else its
    /// start.
    pub fn closing(&self) -> &Arc<str> {
        &self.closing.0
    }

    /// The column of the parent's table that is the start of a row's window, and that which is its end; where it has them.
    pub fn bounds(&self) -> (Option<&Arc<str>>, Option<&Arc<str>>) {
        let column =
            |wanted: &[Time]| self.told.iter().find(|(_, time)| wanted.contains(time)).map(|(column, _)| column);
        (column(&[Time::WindowStart, Time::SessionStart]), column(&[Time::WindowEnd]))
    }

    /// The rows closed once the parent has come this far are those whose [`ViewDriver::closing`] is before this.
    pub fn closed_before(&self, closed_until: Micros) -> Micros {
        match self.closing.1 {
            Time::WindowEnd => closed_until.saturating_add(1),
            _ => self.window.counted_from(Some(closed_until)),
        }
    }

    /// The child's times of the parent's rows whose windows start in `starts`; never fewer than there are.
    pub fn times_of(&self, starts: TimeRange) -> TimeRange {
        let ends = |start: Micros| self.window.windows_of(start).map(|(_, end)| end);
        match &self.time {
            Some((_, Time::WindowEnd)) => TimeRange {
                from: ends(starts.from).min().unwrap_or(starts.from),
                to: ends(starts.to.saturating_sub(1)).max().unwrap_or(starts.to).saturating_add(1),
            },
            _ => starts,
        }
    }

    /// The time before which no row of the parent will come any more, once it has closed its windows this far.
    pub fn watermark(&self, closed_until: Micros) -> Micros {
        match &self.time {
            Some((_, Time::WindowEnd)) => closed_until.saturating_add(1),
            _ => self.window.counted_from(Some(closed_until)),
        }
    }
}

/// Plans every view of these files over `catalog`, parents before children; batch jobs are left out. What is wrong with
/// any of them is gathered in `refused`; a view whose parent is refused is not looked at.
///
/// # Errors
/// Whatever is not the files' fault.
pub async fn plan_all(files: &[QueryFile], mut catalog: Catalog, refused: &mut Refusals) -> Result<Vec<StandingQuery>> {
    let mut planned = Vec::new();
    let mut bad: BTreeSet<String> = BTreeSet::new();
    for file in refused.gather(in_order(files))?.unwrap_or_default() {
        let reads_bad = reads(file).iter().any(|(name, _)| bad.contains(name));
        let query = match reads_bad {
            true => None,
            false => refused.gather(StandingQuery::plan(file, &catalog).await)?,
        };
        match query {
            Some(query) => {
                catalog.add(&query);
                planned.push(query);
            }
            None => {
                bad.insert(file.name.to_string());
            }
        }
    }
    Ok(planned)
}

/// The views a view needs: itself and all it reads, near or far, in the order of `files`.
pub fn with_parents<'a>(files: &'a [QueryFile], name: &str) -> Vec<&'a QueryFile> {
    let mut wanted = BTreeSet::from([name.to_owned()]);
    loop {
        let of_wanted = files.iter().filter(|file| wanted.contains(file.name.as_ref()));
        let more: Vec<String> = of_wanted.flat_map(reads).map(|(name, _)| name).collect();
        let before = wanted.len();
        wanted.extend(more);
        if wanted.len() == before {
            break;
        }
    }
    files.iter().filter(|file| file.is_standing() && wanted.contains(file.name.as_ref())).collect()
}

/// Views, each after those it reads.
fn in_order(files: &[QueryFile]) -> Result<Vec<&QueryFile>> {
    let views = files.iter().filter(|file| file.is_standing()).map(|file| (file.name.as_ref(), file)).collect();
    let mut walk = Walk { views, done: BTreeSet::new(), path: Vec::new(), order: Vec::new() };
    for file in files.iter().filter(|file| file.is_standing()) {
        walk.visit(file)?;
    }
    Ok(walk.order)
}

/// Depth first, with the way it came by.
struct Walk<'a> {
    views: BTreeMap<&'a str, &'a QueryFile>,
    done: BTreeSet<&'a str>,
    path: Vec<&'a str>,
    order: Vec<&'a QueryFile>,
}

impl<'a> Walk<'a> {
    fn visit(&mut self, file: &'a QueryFile) -> Result<()> {
        if self.done.contains(file.name.as_ref()) {
            return Ok(());
        }
        self.path.push(&file.name);
        for (name, at) in reads(file) {
            let Some(parent) = self.views.get(name.as_str()).copied() else { continue };
            if let Some(first) = self.path.iter().position(|step| *step == name) {
                let circle =
                    self.path[first..].iter().copied().chain([name.as_str()]).collect::<Vec<_>>().join("` → `");
                let refusal = Refusal::new(at, format!("views read each other in a circle: `{circle}`"));
                return Err(refusal.help("take one of them out of it").in_text(&file.text));
            }
            self.visit(parent)?;
        }
        self.path.pop();
        self.done.insert(&file.name);
        self.order.push(file);
        Ok(())
    }
}

/// The relations a view names, and where.
fn reads(file: &QueryFile) -> Vec<(String, Span)> {
    match &file.job {
        Job::Standing(view) => tables_read(view.query.as_ref()),
        Job::Batch(_) => Vec::new(),
    }
}

/// Puts the texts of views in the place of their names; they hand on the columns `carried` of what drives them.
pub(super) fn inline(
    query: &mut Query,
    views: &BTreeMap<Arc<str>, Inlined>,
    text: fn(&Inlined) -> &Query,
    carried: &[&str],
) {
    let _: ControlFlow<()> = change(query, &mut Inline { views, text, carried });
}

struct Inline<'a> {
    views: &'a BTreeMap<Arc<str>, Inlined>,
    text: fn(&Inlined) -> &Query,
    carried: &'a [&'a str],
}

/// Adds columns of what drives a query to its answer, through all views that are read through their text.
fn carry(query: &mut Query, columns: &[&str]) {
    let SetExpr::Select(select) = query.body.as_mut() else { return };
    // Who asks for every column is handed these, too.
    if !select.projection.iter().any(|item| matches!(item, SelectItem::Wildcard(_))) {
        let item = |column: &&str| SelectItem::UnnamedExpr(Expr::Identifier(Ident::new(*column)));
        select.projection.extend(columns.iter().map(item));
    }
    if let Some(TableFactor::Derived { subquery, .. }) = select.from.first_mut().map(|from| &mut from.relation) {
        carry(subquery, columns);
    }
}

impl Change for Inline<'_> {
    type Break = ();

    fn table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        let TableFactor::Table { name, alias, args: None, .. } = &*factor else { return ControlFlow::Continue(()) };
        let Some(ident) = single(name) else { return ControlFlow::Continue(()) };
        if let Some(view) = self.views.get(normal(ident).as_str()) {
            let alias = alias.clone().unwrap_or_else(|| alias_of(ident));
            let mut subquery = Box::new((self.text)(view).clone());
            carry(&mut subquery, self.carried);
            *factor = TableFactor::Derived { lateral: false, subquery, alias: Some(alias), sample: None };
        }
        ControlFlow::Continue(())
    }
}

/// The alias a table has when none is written: its own name.
pub(super) fn alias_of(name: &Ident) -> TableAlias {
    TableAlias { explicit: true, name: name.clone(), columns: Vec::new(), at: None }
}

/// A table of this name as a table expression; `at` is where messages say it stands.
pub(super) fn table_named(name: &str, alias: Option<TableAlias>, at: Span) -> TableFactor {
    TableFactor::Table {
        name: ObjectName::from(vec![Ident::with_span(at, name)]),
        alias,
        args: None,
        with_hints: Vec::new(),
        version: None,
        with_ordinality: false,
        partitions: Vec::new(),
        json_path: None,
        sample: None,
        index_hints: Vec::new(),
    }
}

/// A name of one part.
pub(super) fn single(name: &ObjectName) -> Option<&Ident> {
    match name.0.as_slice() {
        [part] => part.as_ident(),
        _ => None,
    }
}
