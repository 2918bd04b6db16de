//! A query as a restatement sees it: which column tells the windows of its rows, and what of it a restated parent changes.
//!
//! The one law: rows are replaced by the start of a window, their own or, of a query without one, that of the window they
//! came from. A table that does not tell it is left alone.

use std::sync::Arc;

use arrow::datatypes::DataType;

use super::reach::{Growing, Reach};
use crate::clock::Micros;
use crate::contract::TableContract;
use crate::lookups::Versions;
use crate::sql::{Driver, Lookup, StandingQuery, StatelessQuery, TimeRange, ViewDriver, WindowedQuery};
use crate::window::{WindowShape, WindowSpec, growing_at, starts_through, windows_of};

/// A standing query, shared with whoever runs it.
#[derive(Clone, Debug)]
pub(in crate::pipeline) enum Query {
    Windowed(Arc<WindowedQuery>),
    Stateless(Arc<StatelessQuery>),
}

/// A query and how far its table is right.
#[derive(Clone, Debug)]
pub(in crate::pipeline) struct Subject {
    pub query: Query,
    /// As the slot of the epoch says that the restatement is computed as of.
    pub closed_until: Option<Micros>,
    pub reach: Reach,
    /// What it is joined with. Its first slot will name the same versions: until there is one, the job has published
    /// nothing that could change a table.
    pub met: Versions,
}

impl Query {
    pub(in crate::pipeline) fn of(query: StandingQuery) -> Self {
        match query {
            StandingQuery::Windowed(query) => Self::Windowed(Arc::new(query)),
            StandingQuery::Stateless(query) => Self::Stateless(Arc::new(query)),
        }
    }

    pub(in crate::pipeline) fn name(&self) -> &Arc<str> {
        match self {
            Self::Windowed(query) => query.name(),
            Self::Stateless(query) => query.name(),
        }
    }

    pub(in crate::pipeline) fn fingerprint(&self) -> &str {
        match self {
            Self::Windowed(query) => query.fingerprint(),
            Self::Stateless(query) => query.fingerprint(),
        }
    }

    /// Whose rows it reads: of several views only where it joins their windows.
    pub(in crate::pipeline) fn drivers(&self) -> Vec<&Driver> {
        match self {
            Self::Windowed(query) => query.drivers(),
            Self::Stateless(query) => vec![query.driver()],
        }
    }

    /// Whether its rows meet lookups one by one; joined windows meet them when they close.
    pub(in crate::pipeline) fn joins_rows(&self) -> bool {
        match self {
            Self::Windowed(query) => query.joins_rows(),
            Self::Stateless(query) => !query.lookups().is_empty(),
        }
    }

    pub(in crate::pipeline) fn lookups(&self) -> &[Lookup] {
        match self {
            Self::Windowed(query) => query.lookups(),
            Self::Stateless(query) => query.lookups(),
        }
    }

    fn output(&self) -> &TableContract {
        match self {
            Self::Windowed(query) => query.output(),
            Self::Stateless(query) => query.output(),
        }
    }

    /// The views whose rows it reads.
    pub(super) fn parents(&self) -> impl Iterator<Item = &ViewDriver> {
        self.drivers().into_iter().filter_map(|driver| match driver {
            Driver::View(parent) => Some(parent),
            Driver::Stream => None,
        })
    }

    /// Whether it reads rows of the stream.
    pub(super) fn is_of_stream(&self) -> bool {
        self.drivers().contains(&&Driver::Stream)
    }

    /// Its windows, or, of a query without them, those its rows came from.
    pub(in crate::pipeline) fn window(&self) -> Option<WindowSpec> {
        match self {
            Self::Windowed(query) => Some(query.window()),
            Self::Stateless(_) => self.parents().next().map(ViewDriver::window),
        }
    }

    /// Whether it answers the stream's rows one by one: which it has answered, its slots say.
    pub(super) fn is_by_row(&self) -> bool {
        matches!(self, Self::Stateless(query) if *query.driver() == Driver::Stream)
    }

    /// Whether its own windows are sessions.
    pub(super) fn is_session(&self) -> bool {
        matches!(self, Self::Windowed(query) if matches!(query.window().shape(), WindowShape::Session { .. }))
    }

    /// The column of its table that tells the start of a row's window.
    pub(super) fn start_column(&self) -> Option<&str> {
        let is_time = |name: &str| {
            let column = self.output().column(name);
            column.is_some_and(|column| matches!(column.data_type, DataType::Timestamp(..)))
        };
        let told = match self {
            Self::Windowed(query) => query.start_column()?,
            Self::Stateless(query) => query.start_column()?,
        };
        is_time(told).then_some(told)
    }

    /// The windows that share a start and grow, of which only those that end by `closed_until` have closed.
    pub(super) fn growing(&self, closed_until: Micros) -> Option<Growing> {
        let Self::Windowed(query) = self else { return None };
        let starts = growing_at(query.window(), closed_until)?;
        Some(Growing { starts, closed_until })
    }

    /// What is to be restated here once windows of a parent were, that start in `starts` and end by `until`; in the units
    /// of [`Owed`](crate::epoch::Owed).
    pub(super) fn follows(
        &self,
        parent: &ViewDriver,
        starts: TimeRange,
        until: Option<Micros>,
        after: Option<Micros>,
    ) -> Option<TimeRange> {
        self.start_column()?;
        let Self::Windowed(query) = self else {
            // What came before it is not its to correct; of sessions no start tells that.
            let window = Some(parent.window()).filter(|window| !matches!(window.shape(), WindowShape::Session { .. }));
            let least = window.zip(after).map_or(starts.from, |(window, after)| window.counted_from(Some(after)));
            let starts = TimeRange { from: starts.from.max(least), ..starts };
            return (starts.from < starts.to).then_some(starts);
        };
        let mut times = parent.times_of(starts);
        if let Some(until) = until {
            times.to = until.saturating_add(1);
        }
        let mut windows = windows_of(query.window(), times);
        // What this text does not answer is not its to correct; of windows that share a start, some are.
        if let (Some(after), false) = (after, self.is_session()) {
            windows.from = windows.from.max(query.window().counted_from(Some(after)));
        }
        (windows.from < windows.to).then_some(windows)
    }
}

impl Subject {
    pub(super) fn name(&self) -> &Arc<str> {
        self.query.name()
    }

    /// What of the stretches owed since the epoch `through` or before can be restated: windows that have closed.
    pub(super) fn due(&self, through: u64) -> Vec<TimeRange> {
        let closed = match &self.query {
            Query::Stateless(_) => Some(Micros::MAX),
            Query::Windowed(_) if self.query.is_session() => self.closed_until.map(|until| until.saturating_add(1)),
            Query::Windowed(query) => self.closed_until.map(|until| starts_through(query.window(), until)),
        };
        let Some(closed) = closed else { return Vec::new() };
        let owed = self.reach.owed.iter().filter(|owed| owed.epoch <= through && owed.from < closed);
        let owed = owed.filter(|owed| owed.paid_until.is_none_or(|paid| Some(paid) < self.closed_until));
        let due = owed.map(|owed| match self.query.is_session() {
            true => TimeRange { from: owed.from, to: owed.to },
            false => TimeRange { from: owed.from, to: owed.to.min(closed) },
        });
        due.collect()
    }
}
