//! A random query as text: for Lakeward, and for DuckDB.
//!
//! DuckDB knows no window call here: windows are plain arithmetic on whole microseconds, written from their definition.

use super::query::{Query, Window};
use crate::events::SECOND_US;

impl Query {
    /// The query file.
    pub fn ours(&self) -> String {
        let keys: String = self.keys.iter().enumerate().map(|(n, key)| format!(", {key} AS k{n}")).collect();
        let aggregates: String =
            self.aggregates.iter().enumerate().map(|(n, a)| format!(", {} AS a{n}", a.ours)).collect();
        let groups: String = self.keys.iter().map(|key| format!(", {key}")).collect();
        let filter = self.filter.as_ref().map_or(String::new(), |filter| format!("\n  WHERE {filter}"));
        let having = self.having.as_ref().map_or(String::new(), |having| format!("\n  HAVING {having}"));
        format!(
            "-- Random.\nCREATE MATERIALIZED VIEW {}\nWITH (partition_by = 'day', allowed_lateness = '{} seconds')\n\
             AS SELECT window_start, window_end, CAST(window_start AS DATE) AS day{keys}{aggregates}\n  FROM {}{filter}\n  \
             GROUP BY window_start, window_end{groups}{having}\n",
            self.name,
            self.lateness_s,
            self.call()
        )
    }

    fn call(&self) -> String {
        let seconds = |count: i64| format!("INTERVAL '{count} seconds'");
        match self.window {
            Window::Tumble { size, offset: 0 } => format!("TUMBLE(events, at, {})", seconds(size)),
            Window::Tumble { size, offset } => format!("TUMBLE(events, at, {}, {})", seconds(size), seconds(offset)),
            Window::Hop { slide, size } => format!("HOP(events, at, {}, {})", seconds(slide), seconds(size)),
            Window::Cumulate { step, size } => format!("CUMULATE(events, at, {}, {})", seconds(step), seconds(size)),
            Window::Session { gap } => {
                let keys: String = self.keys.iter().map(|key| format!(", {key}")).collect();
                format!("SESSION(events, at, {}{keys})", seconds(gap))
            }
        }
    }

    /// The same over DuckDB's table `ev`; with `late`, less the pairs of row and window that were refused: those whose
    /// window had been closed in the slot before the row's epoch, by the table `closed` (query, epoch, closed_us).
    pub fn duck(&self, late: bool) -> String {
        let keys: String = self.keys.iter().map(|key| format!(", {key}")).collect();
        let aggregates: String = self.aggregates.iter().map(|a| format!(", {}", a.duck)).collect();
        let mut conditions: Vec<String> = self.filter.iter().map(|filter| format!("({filter})")).collect();
        if late {
            conditions.push("(closed_us IS NULL OR we > closed_us)".into());
        }
        let filter = if conditions.is_empty() { String::new() } else { format!(" WHERE {}", conditions.join(" AND ")) };
        let having = self.having.as_ref().map_or(String::new(), |having| format!(" HAVING {having}"));
        let rows = match late {
            true => format!(
                "(SELECT ev.*, closed_us FROM ev LEFT JOIN closed ON closed.epoch = ev.epoch AND closed.query = '{}')",
                self.name
            ),
            false => "ev".to_owned(),
        };
        format!(
            "SELECT ws, we{keys}{aggregates} FROM ({}){filter} GROUP BY ws, we{keys}{having}",
            self.windows(&rows, late)
        )
    }

    fn windows(&self, rows: &str, late: bool) -> String {
        // DuckDB's remainder has the sign of the dividend, as C's.
        let start = |size: i64, offset: i64| format!("at_us - ((at_us - {offset}) % {size} + {size}) % {size}");
        match self.window {
            Window::Tumble { size, offset } => {
                let (size, offset) = (size * SECOND_US, offset * SECOND_US);
                format!("SELECT *, {} AS ws, ws + {size} AS we FROM {rows}", start(size, offset))
            }
            Window::Hop { slide, size } => {
                let (slide, size) = (slide * SECOND_US, size * SECOND_US);
                let hops = size.div_euclid(slide) + 1;
                let all = format!(
                    "SELECT *, {} - unnest(range(0, {hops})) * {slide} AS ws, ws + {size} AS we FROM {rows}",
                    start(slide, 0)
                );
                format!("SELECT * FROM ({all}) WHERE we > at_us")
            }
            Window::Cumulate { step, size } => {
                let (step, size) = (step * SECOND_US, size * SECOND_US);
                let all = format!(
                    "SELECT *, {} AS ws, ws + unnest(range(1, {} + 1)) * {step} AS we FROM {rows}",
                    start(size, 0),
                    size / step
                );
                format!("SELECT * FROM ({all}) WHERE we > at_us")
            }
            Window::Session { gap } => {
                let gap = gap * SECOND_US;
                let by = if self.keys.is_empty() { "1".to_owned() } else { self.keys.join(", ") };
                // A row exactly a gap after the one before joins its session; a row at a closed time is late.
                let on_time = if late { " WHERE closed_us IS NULL OR at_us > closed_us" } else { "" };
                let begins = format!(
                    "SELECT *, CASE WHEN at_us - lag(at_us) OVER (PARTITION BY {by} ORDER BY at_us) <= {gap} THEN 0 ELSE 1 END \
                     AS begins FROM {rows}{on_time}"
                );
                let numbered = format!(
                    "SELECT *, sum(begins) OVER (PARTITION BY {by} ORDER BY at_us RANGE UNBOUNDED PRECEDING) AS session \
                     FROM ({begins})"
                );
                format!(
                    "SELECT *, min(at_us) OVER (PARTITION BY session, {by}) AS ws, \
                     max(at_us) OVER (PARTITION BY session, {by}) + {gap} AS we FROM ({numbered})"
                )
            }
        }
    }
}

/// The translations themselves, for every kind of window, against loops that only add and compare.
#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::events::START_US;
    use crate::fuzz::duck::Duck;
    use crate::fuzz::query::Kind;

    /// The windows `[start, end)` a row falls into, of all windows near it.
    fn walked(window: Window, at: i64) -> Vec<(i64, i64)> {
        let first = |size: i64, offset: i64| {
            let mut start = offset;
            while start > at {
                start -= size;
            }
            while start + size <= at {
                start += size * if at - start > 1_000 * size { 1_000 } else { 1 };
            }
            start
        };
        let us = |seconds: i64| seconds * SECOND_US;
        match window {
            Window::Tumble { size, offset } => {
                let start = first(us(size), us(offset));
                vec![(start, start + us(size))]
            }
            Window::Hop { slide, size } => {
                let mut start = first(us(slide), 0);
                let mut windows = Vec::new();
                while start + us(size) > at {
                    windows.push((start, start + us(size)));
                    start -= us(slide);
                }
                windows
            }
            Window::Cumulate { step, size } => {
                let start = first(us(size), 0);
                let mut end = start + us(step);
                let mut windows = Vec::new();
                while end <= start + us(size) {
                    if end > at {
                        windows.push((start, end));
                    }
                    end += us(step);
                }
                windows
            }
            Window::Session { .. } => panic!("a session is no function of one row"),
        }
    }

    /// Sessions of all rows of one key, in order of time.
    fn sessions(times: &[i64], gap: i64) -> Vec<(i64, i64, i64)> {
        let mut rows = Vec::new();
        for (number, at) in times.iter().enumerate() {
            let (mut from, mut to) = (number, number);
            while from > 0 && times[from] - times[from - 1] <= gap * SECOND_US {
                from -= 1;
            }
            while to + 1 < times.len() && times[to + 1] - times[to] <= gap * SECOND_US {
                to += 1;
            }
            rows.push((*at, times[from], times[to] + gap * SECOND_US));
        }
        rows
    }

    #[test]
    fn translations_are_what_the_windows_mean() {
        let mut duck = Duck::start();
        let mut random = ChaCha8Rng::seed_from_u64(9);
        for kind in [Kind::Tumble, Kind::Hop, Kind::Cumulate, Kind::Session].repeat(25) {
            let window = Window::of(kind, &mut random);
            let span = [30, 4_000, 400_000][random.random_range(0..3)];
            let times: BTreeSet<i64> = (0..30)
                .map(|_| START_US + random.random_range(0..span) * SECOND_US - random.random_range(0..2))
                .collect();
            let times: Vec<i64> = times.into_iter().collect();
            let mut expected: Vec<(i64, i64, i64)> = match window {
                Window::Session { gap } => sessions(&times, gap),
                _ => times.iter().flat_map(|at| walked(window, *at).into_iter().map(|(s, e)| (*at, s, e))).collect(),
            };
            expected.sort_unstable();
            let query = Query {
                name: "q".into(),
                window,
                keys: Vec::new(),
                aggregates: Vec::new(),
                filter: None,
                having: None,
                lateness_s: 0,
            };
            let rows: Vec<String> = times.iter().map(|at| format!("({at})")).collect();
            let rows = format!("(SELECT CAST(col0 AS BIGINT) AS at_us FROM (VALUES {}))", rows.join(", "));
            let select = format!("SELECT at_us, ws, we FROM ({}) ORDER BY ALL", query.windows(&rows, false));
            let found: Vec<(i64, i64, i64)> = duck.run(&[select])[0]
                .iter()
                .map(|row| (row[0].as_i64().unwrap(), row[1].as_i64().unwrap(), row[2].as_i64().unwrap()))
                .collect();
            assert_eq!(found, expected, "{window:?}");
        }
    }
}
