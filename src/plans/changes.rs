//! What a start does to each standing query: go on, begin, rebuild, or leave its table alone.
//!
//! The one law: a query is known by the fingerprint of its plan. The same fingerprint goes on where the newest slot left
//! it, or where it was when its file was removed; another one is a query that was edited, whose open windows are rebuilt from
//! the lake's rows by the new text while closed rows stay; and one no slot names begins with the first window that the stream
//! has not passed yet.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::missed::is_by_row;
use crate::clock::{Micros, show_time};
use crate::epoch::QueryProgress;
use crate::sql::{Driver, StandingQuery};

/// What becomes of one query.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    pub query: Arc<str>,
    pub kind: ChangeKind,
    /// Windows that end up to here are not computed: they are closed, or older than the query. `None`: all are. Of a query
    /// without windows over a view with some: those of that view.
    pub closed_until: Option<Micros>,
    /// The least time of rows that its open windows are rebuilt from; `None` for a query without windows.
    pub reads_from: Option<Micros>,
    /// Whether it answers the stream's rows one by one, and some were read before: of these the table of a query that was not
    /// there has none.
    pub lacks_rows: bool,
}

/// How a query differs from what the newest slot says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    Kept,
    New,
    Changed,
    /// Its file was removed, and is there again with the same text.
    Returned,
    Removed,
}

impl ChangeKind {
    /// Whether the text that ran last is the present one.
    pub fn is_same_text(self) -> bool {
        matches!(self, Self::Kept | Self::Returned)
    }
}

/// What a start does to each of `queries` (parents before children), and to those that are gone. `known` and `watermark` are
/// what the newest slot says.
pub fn changes(
    queries: &[StandingQuery],
    known: &BTreeMap<Arc<str>, QueryProgress>,
    watermark: Option<Micros>,
) -> Vec<Change> {
    let mut found: Vec<Change> = Vec::with_capacity(queries.len());
    let mut until: BTreeMap<Arc<str>, Option<Micros>> = BTreeMap::new();
    for query in queries {
        let name = query.name();
        let before = known.get(name);
        let kind = match before {
            None => ChangeKind::New,
            Some(before) if before.fingerprint == query.fingerprint() => match before.running {
                true => ChangeKind::Kept,
                false => ChangeKind::Returned,
            },
            Some(_) => ChangeKind::Changed,
        };
        let (closed_until, reads_from) = match (query, before) {
            // Rows of windows that another view closes come from here on, whatever ran under its name before.
            (StandingQuery::Stateless(query), _) => match query.driver() {
                Driver::View(parent) => (until.get(&parent.name).copied().flatten(), None),
                Driver::Stream => (None, None),
            },
            (StandingQuery::Windowed(query), before) => {
                let closed = match before {
                    Some(before) => before.closed_until,
                    // A new query starts at its first whole window: the one that what drives it stands in.
                    None => query.closable_until(watermark, |view| until.get(view).copied().flatten()),
                };
                (closed, Some(query.window().counted_from(closed)))
            }
        };
        until.insert(Arc::clone(name), closed_until);
        let lacks_rows = kind != ChangeKind::Kept && is_by_row(query) && watermark.is_some();
        found.push(Change { query: Arc::clone(name), kind, closed_until, reads_from, lacks_rows });
    }
    let gone = known.iter().filter(|(name, progress)| progress.running && !until.contains_key(*name));
    found.extend(gone.map(|(name, progress)| Change {
        query: Arc::clone(name),
        kind: ChangeKind::Removed,
        closed_until: progress.closed_until,
        reads_from: None,
        lacks_rows: false,
    }));
    found
}

impl Change {
    /// What a start says of it; nothing of a query that simply goes on, or begins with the lake.
    pub fn sentence(&self) -> Option<String> {
        let name = &self.query;
        match (self.kind, self.closed_until) {
            (ChangeKind::New, _) if self.lacks_rows => Some(format!(
                "`{name}` is new: it answers the rows that are read from now on (`--backfill` answers older ones)"
            )),
            (ChangeKind::Changed, _) if self.lacks_rows => Some(format!(
                "`{name}` was edited: the new text answers the rows that are read from now on, and what is in its table stays; \
                 under another name `--backfill` answers all of them"
            )),
            (ChangeKind::Returned, _) if self.lacks_rows => Some(format!(
                "`{name}` is back: its table lacks the rows that were read without it (`--backfill` answers them)"
            )),
            (ChangeKind::Returned, _) => Some(format!(
                "`{name}` is back: its open windows are rebuilt, and what came late without it is brought in by the next \
                 reconcile"
            )),
            (ChangeKind::Kept, _) | (ChangeKind::New, None) => None,
            (ChangeKind::New, Some(until)) => Some(format!(
                "`{name}` is new: it begins with the windows that end after {} (`--backfill` answers older ones)",
                show_time(until)
            )),
            (ChangeKind::Changed, _) => Some(format!(
                "`{name}` was edited: its open windows are rebuilt by the new text, closed rows stay as they are \
                 (`--backfill` restates them)"
            )),
            (ChangeKind::Removed, _) => Some(format!("`{name}` is no longer there: its table stays as it is")),
        }
    }
}
