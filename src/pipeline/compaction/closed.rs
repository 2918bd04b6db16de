//! Which dates are over: nothing of them is open, and no row of them is expected.
//!
//! The one law: a date that is called over too early costs work and never a row: what comes later lies in files of its own,
//! and the next look finds them. So bounds are simple, and err on the late side.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::DAY;
use crate::clock::Micros;
use crate::epoch::{QueryProgress, Slot};
use crate::pipeline::restate::Query;
use crate::sql::Driver;
use crate::window::starts_through;

/// For each table, the day (since 1970-01-01) before which all dates are over.
#[derive(Debug)]
pub(in crate::pipeline) struct Closed {
    of_queries: BTreeMap<Arc<str>, i32>,
    stream: (Arc<str>, i32),
    /// Of tables partitioned by when a record arrived or was committed.
    today: i32,
}

impl Closed {
    /// What a slot says is over; `queries` stand with parents before their children.
    pub(in crate::pipeline) fn at(slot: &Slot, queries: &[Query], stream: &Arc<str>, now: Micros) -> Self {
        let lateness = queries.iter().map(allowed_lateness).max().unwrap_or(0);
        let of_stream = slot.watermark.map_or(i32::MIN, |watermark| day_of(watermark.saturating_sub(lateness)));
        // A query that does not run closes nothing any more.
        let gone = slot.queries.keys().map(|name| (Arc::clone(name), of_stream));
        let mut of_queries: BTreeMap<Arc<str>, i32> = gone.collect();
        for query in queries {
            let before = match query {
                Query::Windowed(_) => slot.queries.get(query.name()).and_then(|said| starts_closed(query, said)),
                Query::Stateless(query) => Some(match query.driver() {
                    Driver::Stream => of_stream,
                    Driver::View(parent) => of_queries.get(&parent.name).copied().unwrap_or(of_stream),
                }),
            };
            of_queries.insert(Arc::clone(query.name()), before.unwrap_or(i32::MIN));
        }
        Self { of_queries, stream: (Arc::clone(stream), of_stream), today: day_of(now) }
    }

    /// The first day of a table that is not over.
    pub(in crate::pipeline) fn before(&self, table: &Arc<str>) -> i32 {
        if *table == self.stream.0 {
            return self.stream.1;
        }
        self.of_queries.get(table).copied().unwrap_or(self.today)
    }
}

/// The day on which the first window starts that has not closed. (A table partitioned by the end of a window only waits
/// longer.)
fn starts_closed(query: &Query, said: &QueryProgress) -> Option<i32> {
    let starts = starts_through(query.window()?, said.closed_until?);
    // How far back an open session begins, only the slot knows.
    Some(day_of(said.open_since.map_or(starts, |open| open.min(starts))))
}

fn allowed_lateness(query: &Query) -> Micros {
    match query {
        Query::Windowed(query) => query.allowed_lateness(),
        Query::Stateless(_) => 0,
    }
}

/// Days since 1970-01-01.
pub(super) fn day_of(time: Micros) -> i32 {
    let day = time.div_euclid(DAY);
    i32::try_from(day).unwrap_or(if day < 0 { i32::MIN } else { i32::MAX })
}

#[cfg(test)]
pub(super) mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::epoch::{Kind, TokenKeyName, Writer};
    use crate::sql::testing::{NOON, windowed};

    const HOUR: Micros = DAY / 24;

    pub(in super::super) fn said(closed_until: Option<Micros>, open_since: Option<Micros>) -> QueryProgress {
        QueryProgress { closed_until, open_since, ..QueryProgress::running("f") }
    }

    pub(in super::super) fn slot(watermark: Micros, queries: &[(&str, QueryProgress)]) -> Slot {
        let writer = Writer { id: Uuid::nil(), generation: 0, host: "a".into() };
        let first = Slot::first(&writer, TokenKeyName { version: 1, fingerprint: "k".into() }, 0);
        let mut slot = first.next(&writer, Kind::Epoch, 0).unwrap();
        slot.watermark = Some(watermark);
        slot.queries = queries.iter().map(|(name, said)| (Arc::from(*name), said.clone())).collect();
        slot
    }

    pub(in super::super) async fn query(name: &str, window: &str) -> Query {
        let text = format!(
            "CREATE MATERIALIZED VIEW {name} AS SELECT window_start, window_end, CAST(window_start AS DATE) AS event_date, \
             count(*) AS n FROM {window} GROUP BY window_start, window_end"
        );
        Query::Windowed(Arc::new(windowed(&text).await))
    }

    #[tokio::test]
    async fn a_date_is_over_when_nothing_of_it_is_open_or_expected() {
        let today = day_of(NOON);
        let minutes = query("minutes", "TUMBLE(transactions, event_time, INTERVAL '1 minute')").await;
        let long = query("long", "HOP(transactions, event_time, INTERVAL '1 hour', INTERVAL '30 hours')").await;
        let visits = query("visits", "SESSION(transactions, event_time, INTERVAL '5 minutes')").await;
        let progress = [
            ("minutes", said(Some(NOON), Some(NOON))),
            ("long", said(Some(NOON), Some(NOON - 29 * HOUR))),
            ("visits", said(Some(NOON), Some(NOON - 50 * HOUR))),
            ("gone", said(Some(0), None)),
        ];
        let queries = [minutes.clone(), long, visits];
        let closed = Closed::at(&slot(NOON, &progress), &queries, &"transactions".into(), NOON + 48 * HOUR);
        let before = |table: &str| closed.before(&table.into()) - today;
        assert_eq!((before("transactions"), before("minutes"), before("gone")), (0, 0, 0));
        // A window of thirty hours that is open began yesterday; a session two days ago.
        assert_eq!((before("long"), before("visits")), (-1, -2));
        // What is filed by arrival or commit goes by the clock.
        assert_eq!((before("rejects"), before("epochs")), (2, 2));
        // Nothing has closed yet.
        let closed =
            Closed::at(&slot(NOON, &[("minutes", said(None, None))]), &[minutes], &"transactions".into(), NOON);
        assert_eq!(closed.before(&"minutes".into()), i32::MIN);
    }
}
